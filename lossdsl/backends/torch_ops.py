"""The torch texts of primitives and heads, taken apart: templates become trees of torch calls.

A record's text (`torch.exp(-torch.abs({0}))`) is parsed once with Python's own parser, so that the printer can give
every call in it its own memory instead of a fresh temporary. Nothing here is ever executed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from lossdsl import primitives
from lossdsl.primitives.record import UNAVAILABLE


@dataclass(frozen=True)
class Arg:
    """The argument of that number."""

    index: int


@dataclass(frozen=True)
class Num:
    """A literal, as text."""

    text: str


@dataclass(frozen=True)
class Node:
    """`function(args, **options)`: function is `add sub mul div neg lt le gt ge eq ne and or not`, `torch.NAME...`
    for a torch function, `_h_NAME` for a helper of the module, or `.NAME` for a method of the first argument."""

    function: str
    args: tuple[Tree, ...]
    options: tuple[tuple[str, str], ...] = ()


Tree = Arg | Num | Node

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.BitAnd: "and",
    ast.BitOr: "or",
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}

_FLOATS = {"inf": "torch.inf", "-inf": "-torch.inf", "nan": "torch.nan"}

_NATIVE: dict[str, Tree] = {
    "add": Node("add", (Arg(0), Arg(1))),
    "sub": Node("sub", (Arg(0), Arg(1))),
    "mul": Node("mul", (Arg(0), Arg(1))),
    "div": Node("div", (Arg(0), Arg(1))),
    "neg": Node("neg", (Arg(0),)),
}


@cache
def operation(name: str, differentiable: bool) -> Tree:
    """The tree of a primitive: the text for autograd if `differentiable`, else the fast one.

    Raises KeyError for a primitive that is not registered and NotImplementedError for one without a torch text.
    """
    if name in _NATIVE:
        return _NATIVE[name]
    record = primitives.PRIMITIVES[name]
    text = record.torch_ad if differentiable else record.torch
    if text == UNAVAILABLE:
        raise NotImplementedError(name)
    return parse_template(text)


def parse_template(text: str) -> Tree:
    """The tree of a text with {0}, {1} ...; raises ValueError for syntax that an emitted expression may not have."""
    source = text
    for index in range(10):
        source = source.replace(f"{{{index}}}", f"_a{index}")
    return _tree(ast.parse(source, mode="eval").body, text)


def helpers_of(tree: Tree) -> set[str]:
    """Helper functions (`_h_NAME`) that a tree calls."""
    if not isinstance(tree, Node):
        return set()
    own = {tree.function} if tree.function.startswith("_h_") else set()
    return own.union(*(helpers_of(a) for a in tree.args)) if tree.args else own


def _tree(node: ast.expr, text: str) -> Tree:
    match node:
        case ast.Name(id=name) if name.startswith("_a") and name[2:].isdigit():
            return Arg(int(name[2:]))
        case ast.Constant(value=bool() | int() | float()):
            return Num(repr(node.value))
        case ast.Attribute(value=ast.Name(id="torch"), attr="inf" | "nan" | "pi" | "e"):
            return Num(f"torch.{node.attr}")
        case ast.Attribute(value=ast.Name(id="math"), attr=_):
            return Num(f"math.{node.attr}")
        case ast.Attribute(value=ast.Name(id="torch"), attr="int64" | "bool" | "float64" | "float32"):
            return Num(f"torch.{node.attr}")
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str(word))]) if word in _FLOATS:
            return Num(_FLOATS[word])
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return Num(repr(-value))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Attribute(value=ast.Name(id="torch"), attr="inf")):
            return Num("-torch.inf")
        case ast.UnaryOp(op=ast.USub()):
            return Node("neg", (_tree(node.operand, text),))
        case ast.UnaryOp(op=ast.Invert()):
            return Node("not", (_tree(node.operand, text),))
        case ast.BinOp(op=ast.Pow()):
            return Node("torch.pow", (_tree(node.left, text), _tree(node.right, text)))
        case ast.BinOp() if type(node.op) in _BINARY:
            return Node(_BINARY[type(node.op)], (_tree(node.left, text), _tree(node.right, text)))
        case ast.Compare(ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return Node(_COMPARE[type(op)], (_tree(node.left, text), _tree(right, text)))
        case ast.Call(func=function):
            options = tuple((k.arg or "", ast.unparse(k.value)) for k in node.keywords)
            args = tuple(_tree(a, text) for a in node.args)
            dotted = ast.unparse(function)
            if dotted.split(".")[0] == "torch" or dotted.startswith("_h_"):
                return Node(dotted, args, options)
            if isinstance(function, ast.Attribute):
                return Node("." + function.attr, (_tree(function.value, text), *args), options)
    raise ValueError(f"not an expression that an emitted module may have: {text}")


def _torch(names: str) -> frozenset[str]:
    return frozenset(f"torch.{name}" for name in names.split())


# torch functions of tensors with an `out=` argument of the shape and type of the result.
OUT = _torch(
    """
    abs acos acosh asin asinh atan atan2 atanh ceil clamp copysign cos cosh digamma erf erfc erfinv exp exp2 expm1 floor
    fmod hypot lgamma log log10 log1p log2 logaddexp maximum minimum pow reciprocal remainder round rsqrt sigmoid sign
    sin sinh sqrt square tan tanh trunc xlogy special.i0e special.i1e special.ndtr special.log_ndtr special.erfcx
    special.xlog1py special.expit special.entr sgn nan_to_num
    """
)

# Of these there is also a method with a trailing underscore.
IN_PLACE = _torch(
    """
    abs acos acosh asin asinh atan atan2 atanh ceil clamp cos cosh digamma erf erfc erfinv exp exp2 expm1 floor lgamma
    log log10 log1p log2 pow reciprocal relu round rsqrt sigmoid sign sin sinh sqrt square tan tanh trunc xlogy
    """
)

# The arguments at these places may be Python numbers.
NUMBERS = {
    "torch.pow": (1,),
    "torch.clamp": (1, 2),
    "torch.xlogy": (0, 1),
    "torch.polygamma": (0,),
    "_h_polygamma": (0,),
    "torch.fmod": (1,),
    "torch.remainder": (1,),
    "torch.where": (1, 2),
}
