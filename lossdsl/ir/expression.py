"""SymPy as the mathematical view of scalars, in two forms, and ordinary SymPy as a way to write a loss.

exact      every node an inert head (`add(x, y)`, never `x + y`), so that the tree reads back node for node
algebraic  ordinary SymPy for algebra and for people, one way, with the places whose domain evaluation may have dropped
from SymPy an ordinary expression becomes the program of an elementwise loss

SymPy is imported by the functions that need it, never with this module. No string is ever sympified.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from lossdsl import primitives
from lossdsl.dim import parse_dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.conditions import compared
from lossdsl.ir.from_sympy import postorder, program_from_sympy
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    Apply,
    Compare,
    Const,
    Index,
    Read,
    Scalar,
    Select,
)
from lossdsl.ir.text import print_scalar
from lossdsl.primitives.record import Dtype

__all__ = ["Algebraic", "DomainCondition", "algebraic", "expression_tree", "from_tree", "program_from_sympy", "symbols"]

_COMPARE_HEADS = {"<": "ir.lt", "<=": "ir.le", ">": "ir.gt", ">=": "ir.ge", "==": "ir.eq", "!=": "ir.ne"}
_COMPARE_SIGNS = {head: sign for sign, head in _COMPARE_HEADS.items()}

# ------------------------------------------------------------------------------------------------- exact form


def expression_tree(node: Scalar) -> Any:
    """The exact form of a scalar, a `sympy.Basic` of inert heads: `from_tree` gives the identical node back.

    Names and extents are symbols, rationals are themselves, a primitive is a head of its name; every other kind of
    node is a head `ir.KIND`.
    """
    import sympy

    def name(text: str, dtype: Dtype = REAL) -> Any:
        return sympy.Symbol(text, real=True) if dtype is REAL else sympy.Symbol(text, integer=True)

    def head(text: str, *args: Any) -> Any:
        return sympy.Function(text)(*args)

    done: dict[Scalar, Any] = {}
    for n in ir.postorder(node):
        args = [done[c] for c in n.children]
        match n:
            case Const():
                done[n] = _constant_tree(n, sympy)
            case ir.Param():
                done[n] = head(f"ir.param_{n.dtype.value}", name(n.name, n.dtype))
            case ir.Size():
                done[n] = head("ir.size", name(str(n.dim), INT))
            case Index():
                done[n] = head("ir.index", name(n.name, INT), name(str(n.dim), INT))
            case Read():
                done[n] = head(f"ir.read_{n.dtype.value}", name(n.tensor, n.dtype), *args)
            case Apply():
                done[n] = head(n.name, *args)
            case ir.Table():
                done[n] = head("ir.table", *args, *(_constant_tree(v, sympy) for v in n.values))
            case Compare():
                done[n] = head(_COMPARE_HEADS[n.op], *args)
            case ir.AdjointMap():
                done[n] = head("ir.adjoint_map", name(n.name), *args)
            case _:
                done[n] = head(f"ir.{type(n).__name__.lower()}", *args)
    return done[node]


def _constant_tree(c: Const, sympy: Any) -> Any:
    if isinstance(c.value, str):
        return {"inf": sympy.oo, "-inf": -sympy.oo, "nan": sympy.nan}[c.value]
    value = sympy.Rational(c.value.numerator, c.value.denominator)
    return value if c.kind is REAL else sympy.Function("ir.integer" if c.kind is INT else "ir.truth")(value)


_PLAIN: dict[str, Callable[..., Scalar]] = {
    "ir.select": Select,
    "ir.and": lambda *args: ir.And(args),
    "ir.or": lambda *args: ir.Or(args),
    "ir.not": ir.Not,
    "ir.stop": ir.Stop,
    "ir.proxy": ir.Proxy,
}


def from_tree(tree: Any) -> Scalar:
    """The scalar of an exact form. Raises TypeError for a string, ValueError for a tree that is not an exact form."""
    import sympy

    if not isinstance(tree, sympy.Basic):
        raise TypeError(f"an expression tree is a sympy object, not {type(tree).__name__}")
    done: dict[Any, Scalar] = {}
    for t in postorder(tree):
        if isinstance(t, sympy.Symbol):
            continue
        done[t] = _from_tree(t, [done.get(a) for a in t.args], sympy)
    if tree not in done:
        raise ValueError(f"{tree} is not the exact form of an expression")
    return done[tree]


def _from_tree(t: Any, args: list[Any], sympy: Any) -> Scalar:
    if t.is_Rational:
        return Const(Fraction(int(t.p), int(t.q)))
    if t in (sympy.oo, -sympy.oo):
        return Const("inf" if t is sympy.oo else "-inf")
    if t is sympy.nan:
        return Const("nan")
    if not isinstance(t, sympy.Function):
        raise ValueError(f"{type(t).__name__} is not a head of an exact form: {t}")
    head = t.func.__name__
    names = [a.name if isinstance(a, sympy.Symbol) else "" for a in t.args]
    kind, _, word = head.partition("_")
    if kind in ("ir.param", "ir.read"):
        dtype = Dtype(word)
        return ir.Param(names[0], dtype) if kind == "ir.param" else Read(names[0], tuple(args[1:]), dtype)
    if head in ("ir.integer", "ir.truth"):
        return Const(args[0].value, INT if head == "ir.integer" else BOOL)
    if head == "ir.size":
        return ir.Size(parse_dim(names[0]))
    if head == "ir.index":
        return Index(names[0], parse_dim(names[1]))
    if head == "ir.table":
        return ir.Table(tuple(args[1:]), args[0])
    if head == "ir.adjoint_map":
        return ir.AdjointMap(args[1], names[0], tuple(args[2:]))
    if None in args:
        raise ValueError(f"a bare symbol stands in {t}")
    if head in _COMPARE_SIGNS:
        return Compare(_COMPARE_SIGNS[head], *args)
    if head in _PLAIN:
        return _PLAIN[head](*args)
    if head.startswith("ir."):
        raise ValueError(f"{head} is not a head of an exact form")
    return Apply(head, tuple(args))


# --------------------------------------------------------------------------------------------- algebraic form


_PATHS = 5000  # beyond so many (node, path) pairs conditions are asked for everywhere, which is stronger


@dataclass(frozen=True)
class DomainCondition:
    """The algebraic form is the node's value only where `node` (a partial function) is defined and finite.

    It need hold only where all conditions of `path` do: those of the Selects above the node.
    """

    node: Scalar
    path: tuple[Scalar, ...]

    def __str__(self) -> str:
        record = primitives.PRIMITIVES.get(self.node.name) if isinstance(self.node, Apply) else None
        text = f"{print_scalar(self.node)} is finite" + (f" ({record.domain})" if record and record.domain else "")
        return text + (f" where {' and '.join(print_scalar(p) for p in self.path)}" if self.path else "")


class Algebraic(NamedTuple):
    """Ordinary SymPy, and what evaluation may have dropped."""

    expression: Any
    conditions: tuple[DomainCondition, ...]


def symbols(*nodes: Scalar, names: Mapping[Scalar, str] | None = None) -> dict[Scalar, Any]:
    """The symbol of every leaf (Read, Param, Size, Index, BOOL or INT data) in algebraic forms of the nodes.

    Reads are real symbols named by their text (`x[n, d]`), or as in `names` where no other leaf has that name; indices
    and extents are integer ones.
    """
    import sympy

    leaves = [n for n in ir.postorder(*nodes) if isinstance(n, Read | ir.Param | ir.Size | Index | ir.Table)]
    others = {print_scalar(n) for n in leaves if n not in (names or {})}
    given = {n: name for n, name in (names or {}).items() if name not in others}
    table: dict[Scalar, Any] = {}
    taken: set[str] = set()
    for n in leaves:
        name = given.get(n) or print_scalar(n)
        while name in taken:
            name += "'"
        taken.add(name)
        table[n] = sympy.Symbol(name, integer=True) if n.dtype is INT else sympy.Symbol(name, real=True)
    return table


def algebraic(node: Scalar, names: Mapping[Scalar, str] | None = None) -> Algebraic:
    """The scalar as ordinary SymPy, with the domain conditions that evaluation may have dropped (`x / x` is 1).

    names  leaves that are called otherwise than by their text, as in `symbols`

    Stop, Proxy and AdjointMap are their values; Select is a Piecewise, never inside of a condition; a BOOL leaf is a
    symbol `name` compared with 1. Raises ValueError for a primitive without a SymPy form, and for conditions on values
    with too many branches.
    """
    import sympy

    leaves = symbols(node, names=names)
    done: dict[Scalar, Any] = {}
    for n in ir.postorder(node):
        args = [done[c] for c in n.children]
        match n:
            case Const():
                value = _constant_tree(n, sympy)
                done[n] = value if n.kind is REAL else value.args[0] if n.kind is INT else sympy.S(bool(n.value))
            case Read() | ir.Param() | ir.Size() | Index() | ir.Table():
                done[n] = sympy.Eq(leaves[n], 1) if n.dtype is BOOL else leaves[n]
            case Apply():
                done[n] = _apply(n, args, sympy)
            case Select() if n.dtype is BOOL:
                done[n] = sympy.Or(sympy.And(args[0], args[1]), sympy.And(sympy.Not(args[0]), args[2]))
            case Select():
                done[n] = sympy.Piecewise((args[1], args[0]), (args[2], True), evaluate=False)
            case Compare():
                done[n] = compared(n.op, args[0], args[1])
            case ir.And():
                done[n] = sympy.And(*args)
            case ir.Or():
                done[n] = sympy.Or(*args)
            case ir.Not():
                done[n] = sympy.Not(*args)
            case _:
                done[n] = args[0]
    return Algebraic(done[node], _conditions(node))


def _apply(n: Apply, args: list[Any], sympy: Any) -> Any:
    if n.name in ("real", "int"):
        return args[0] if n.args[0].dtype is INT else sympy.Piecewise((1, args[0]), (0, True), evaluate=False)
    if n.name == "floordiv":
        return sympy.floor(args[0] / args[1])
    if n.name == "mod":
        return args[0] - args[1] * sympy.floor(args[0] / args[1])
    if n.name in ("floor", "ceil"):
        return sympy.floor(args[0]) if n.name == "floor" else sympy.ceiling(args[0])
    record = primitives.PRIMITIVES.get(n.name)
    if record is None:
        raise ValueError(f"there is no primitive {n.name!r}")
    try:
        return record.sympy(sympy, *args)
    except (
        TypeError,
        ValueError,
    ):  # it evaluates, and refuses to, as the maximum of NaN or the order of complex numbers
        if any(a.has(sympy.nan, sympy.zoo) for a in args):
            return sympy.nan
        raise


def _conditions(root: Scalar) -> tuple[DomainCondition, ...]:
    """Partial functions below the root with the conditions of their paths; the strongest fact for a shared node is
    that one of its paths holds, so a node reached without a condition is unconditional."""
    found: dict[Scalar, list[tuple[Scalar, ...]]] = {}
    seen: set[tuple[Scalar, tuple[Scalar, ...]]] = set()
    stack: list[tuple[Scalar, tuple[Scalar, ...]]] = [(root, ())]
    while stack:
        node, path = stack.pop()
        if len(seen) > _PATHS:
            path = ()
        if (node, path) in seen or (node, ()) in seen:
            continue
        seen.add((node, path))
        if _partial(node):
            found.setdefault(node, []).append(path)
        if isinstance(node, Select):
            c = node.condition
            steps = [(c, path), (node.a, (*path, c)), (node.b, (*path, ir.Not(c)))]
        else:
            steps = [(a, path) for a in node.children]
        stack.extend(reversed(steps))
    result = []
    for node, paths in found.items():
        chosen = [()] if () in paths else paths
        result += [DomainCondition(node, path) for path in chosen]
    return tuple(result)


def _partial(node: Scalar) -> bool:
    if isinstance(node, Const):
        return isinstance(node.value, str)
    if not isinstance(node, Apply) or node.dtype is not REAL:
        return False
    record = primitives.PRIMITIVES.get(node.name)
    return record is not None and record.domain != ""
