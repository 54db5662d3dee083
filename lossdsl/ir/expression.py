"""SymPy as the mathematical view of scalars, in two forms, and ordinary SymPy as a way to write a loss.

exact      every node an inert head (`add(x, y)`, never `x + y`), so that the tree reads back node for node
algebraic  ordinary SymPy for algebra and for people, one way, with the places whose domain evaluation may have dropped
from SymPy an ordinary expression becomes the program of an elementwise loss

SymPy is imported by the functions that need it, never with this module. No string is ever sympified.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from lossdsl import primitives
from lossdsl.dim import Dim, parse_dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Input,
    Output,
    Parameter,
    Program,
    Range,
    Read,
    Reductions,
    Scalar,
    Select,
)
from lossdsl.ir.text import print_scalar
from lossdsl.primitives.record import Dtype

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
    for t in _postorder(tree):
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


def _postorder(tree: Any) -> list[Any]:
    """Distinct subtrees, children first; iterative."""
    seen: set[Any] = set()
    order: list[Any] = []
    stack = [(tree, False)]
    while stack:
        t, expanded = stack.pop()
        if t in seen:
            continue
        if expanded or not t.args:
            seen.add(t)
            order.append(t)
        else:
            stack.append((t, True))
            stack.extend((a, False) for a in reversed(t.args))
    return order


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


def symbols(*nodes: Scalar) -> dict[Scalar, Any]:
    """The symbol of every leaf (Read, Param, Size, Index, BOOL or INT data) in algebraic forms of the nodes.

    Reads are real symbols named by their text (`x[n, d]`), indices and extents integer ones.
    """
    import sympy

    table: dict[Scalar, Any] = {}
    taken: set[str] = set()
    for n in ir.postorder(*nodes):
        if isinstance(n, Read | ir.Param | ir.Size | Index | ir.Table):
            name = print_scalar(n)
            while name in taken:
                name += "'"
            taken.add(name)
            table[n] = sympy.Symbol(name, integer=True) if n.dtype is INT else sympy.Symbol(name, real=True)
    return table


def algebraic(node: Scalar) -> Algebraic:
    """The scalar as ordinary SymPy, with the domain conditions that evaluation may have dropped (`x / x` is 1).

    Stop, Proxy and AdjointMap are their values; Select is a Piecewise; a BOOL leaf is a symbol `name` compared with 1.
    Raises ValueError for a primitive without a SymPy form.
    """
    import sympy

    leaves = symbols(node)
    done: dict[Scalar, Any] = {}
    relation = {"<": sympy.Lt, "<=": sympy.Le, ">": sympy.Gt, ">=": sympy.Ge, "==": sympy.Eq, "!=": sympy.Ne}
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
            case Select():
                done[n] = sympy.Piecewise((args[1], args[0]), (args[2], True), evaluate=False)
            case Compare():
                done[n] = relation[n.op](*args)
            case ir.And():
                done[n] = sympy.And(*args)
            case ir.Or():
                done[n] = sympy.Or(*args)
            case ir.Not():
                done[n] = sympy.Not(*args)
            case _:
                done[n] = args[0]
        if n.dtype is BOOL and isinstance(n, Select):
            raise ValueError(f"{print_scalar(n)} has no algebraic form: a conditional condition")
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
    return record.sympy(sympy, *args)


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


# ----------------------------------------------------------------------------------------------- from SymPy

_FUNCTIONS = {  # SymPy's name: ours
    "exp": "exp",
    "log": "log",
    "Abs": "abs",
    "sign": "sign",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "asin",
    "acos": "acos",
    "atan": "atan",
    "atan2": "atan2",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "erf": "erf",
    "erfc": "erfc",
    "loggamma": "lgamma",
    "digamma": "digamma",
    "floor": "floor",
    "ceiling": "ceil",
    "expm1": "expm1",
    "log1p": "log1p",
}


class _Reader:
    """Builds scalars from ordinary SymPy."""

    def __init__(self, leaves: Mapping[Any, Scalar]) -> None:
        import sympy

        self.sympy = sympy
        self.done: dict[Any, Scalar] = {}
        self.leaves = leaves

    def read(self, expression: Any) -> Scalar:
        for t in _postorder(expression):
            if t not in self.done and not isinstance(t, self.sympy.Tuple):
                self.done[t] = self.node(t)
        return self.done[expression]

    def node(self, t: Any) -> Scalar:
        s = self.sympy
        if t in self.leaves:
            return ir.real(self.leaves[t])
        if isinstance(t, s.Symbol):
            raise ValueError(f"{t} is neither an input nor a parameter")
        if t is s.pi:
            return Apply("pi", ())
        if t is s.E:
            return Apply("exp", (Const(1),))
        if t.is_Number or isinstance(t, s.NumberSymbol):
            return _exact(t, s)
        if isinstance(t, s.Add):
            return self.total(t)
        if isinstance(t, s.Mul):
            return self.product(t)
        if isinstance(t, s.Pow):
            return self.power(t.base, t.exp)
        if t in (s.true, s.false):
            return ir.TRUE if t == s.true else ir.FALSE
        if isinstance(t, s.core.relational.Relational):
            return Compare(t.rel_op, self.done[t.lhs], self.done[t.rhs])
        args = sorted(t.args, key=s.default_sort_key) if isinstance(t, s.Max | s.Min | s.And | s.Or) else list(t.args)
        if isinstance(t, s.Piecewise):
            return self.pieces(t)
        if isinstance(t, s.Max | s.Min):
            name = "max2" if isinstance(t, s.Max) else "min2"
            return _chain(name, [self.done[a] for a in args])
        if isinstance(t, s.And | s.Or):
            inner = tuple(self.done[a] for a in args)
            return ir.And(inner) if isinstance(t, s.And) else ir.Or(inner)
        if isinstance(t, s.Not):
            return ir.Not(self.done[t.args[0]])
        if not args:
            raise ValueError(f"{t} is not a real number")
        return self.function(t, [self.done[a] for a in args if a in self.done])

    def total(self, t: Any) -> Scalar:
        """A sum; what has a negative coefficient is subtracted, and comes after what has not."""
        plus: list[Scalar] = []
        minus: list[Scalar] = []
        for term in t.args:
            negative = term.as_coeff_Mul()[0].is_negative
            (minus if negative else plus).append(self.read(-term) if negative else self.done[term])
        result = _chain("add", plus) if plus else None
        for m in minus:
            result = Apply("neg", (m,)) if result is None else Apply("sub", (result, m))
        assert result is not None
        return result

    def product(self, t: Any) -> Scalar:
        s = self.sympy
        top: list[Scalar] = []
        bottom: list[Scalar] = []
        negative = False
        for factor in t.args:
            if factor.is_Rational:
                negative = factor.is_negative
                p, q = abs(int(factor.p)), int(factor.q)
                top += [Const(p)] if p != 1 else []
                bottom += [Const(q)] if q != 1 else []
            elif isinstance(factor, s.Pow) and factor.exp.as_coeff_Mul()[0].is_negative:
                bottom.append(self.power_of(factor.base, -factor.exp))
            else:
                top.append(self.done[factor])
        result = _chain("mul", top) if top else Const(1)
        if bottom:
            result = Apply("div", (result, _chain("mul", bottom)))
        return Apply("neg", (result,)) if negative else result

    def power_of(self, base: Any, exponent: Any) -> Scalar:
        self.read(base)
        self.read(exponent)
        return self.power(base, exponent)

    def power(self, base: Any, exponent: Any) -> Scalar:
        s = self.sympy
        b = self.done[base] if base in self.done else self.read(base)
        if exponent == 1:
            return b
        if exponent.as_coeff_Mul()[0].is_negative:
            return Apply("div", (Const(1), self.power_of(base, -exponent)))
        if exponent == s.Rational(1, 2):
            return Apply("sqrt", (b,))
        if exponent.is_Integer:
            return Apply("powi", (b, Const(int(exponent), _powi_dtype())))
        return Apply("pow", (b, self.read(exponent)))

    def pieces(self, t: Any) -> Scalar:
        result: Scalar = Const("nan")
        for value, condition in reversed(t.args):
            c = self.done[condition]
            result = self.done[value] if c is ir.TRUE else Select(c, self.done[value], result)
        return result

    def function(self, t: Any, args: list[Scalar]) -> Scalar:
        name = type(t).__name__
        if name == "log" and len(args) == 2:
            return Apply("div", (Apply("log", (args[0],)), Apply("log", (args[1],))))
        if name == "Heaviside":
            (x, at_zero) = args
            zero = Const(0)
            return Select(Compare("<", x, zero), zero, Select(Compare("==", x, zero), at_zero, Const(1)))
        if name == "polygamma" and t.args[0] == 0:
            return Apply("digamma", (args[1],))
        ours = _FUNCTIONS.get(name, name if isinstance(t, self.sympy.core.function.AppliedUndef) else "")
        record = primitives.PRIMITIVES.get(ours)
        if ours in ("floor", "ceil") and len(args) == 1:
            return ir.real(Apply(ours, (args[0],)))
        if (
            record is None
            or not len(record.accepts) == len(args) == len(t.args)
            or any(k is not REAL for k in record.accepts)
        ):
            raise ValueError(f"{name} is not a function that a loss can use, in {t}")
        return Apply(ours, tuple(args))


def _powi_dtype() -> Dtype:
    record = primitives.PRIMITIVES.get("powi")
    return record.accepts[1] if record is not None else REAL


def _chain(name: str, args: list[Scalar]) -> Scalar:
    result = args[0]
    for a in args[1:]:
        result = Apply(name, (result, a))
    return result


def _exact(t: Any, sympy: Any) -> Const:
    """A number as an exact constant: a binary float as the decimal that it prints, pi and the like to 40 digits."""
    if t.is_Rational:
        return Const(Fraction(int(t.p), int(t.q)))
    if t in (sympy.oo, -sympy.oo, sympy.nan):
        return Const("nan" if t is sympy.nan else "inf" if t is sympy.oo else "-inf")
    if isinstance(t, sympy.NumberSymbol):
        return Const(Fraction(str(t.evalf(40))))
    if t.is_Float:
        return Const(Fraction(repr(float(t))) if t._prec <= 53 else Fraction(str(t)))
    raise ValueError(f"{t} is not a real number")


def program_from_sympy(
    expression: Any,
    *,
    inputs: Sequence[Any],
    params: Mapping[Any, float | int | Fraction | None] | None = None,
    name: str = "loss",
    reduction: str = "mean",
) -> Program:
    """The elementwise loss whose value per element is an ordinary SymPy expression.

    inputs     symbols (or names) of the tensors `real[...]`, in the order of the signature
    params     symbols (or names) of the parameters with their defaults; None: must be given at the call
    reduction  "mean", "sum" or "none": what is returned
    Positive and non-negative symbols declare that domain. A Float is the decimal that it prints. Where SymPy keeps no
    order (Max, Min) the derivative at equality goes to the first argument in SymPy's canonical order.
    Raises TypeError for a string or another object that is not a SymPy expression; ValueError for a symbol, function
    or number that a loss cannot have, naming it.
    """
    import sympy

    if isinstance(expression, int | float) and not isinstance(expression, bool):
        expression = sympy.Float(expression) if isinstance(expression, float) else sympy.Integer(expression)
    if not isinstance(expression, sympy.Expr):
        raise TypeError(f"a loss is made of a sympy expression, not of a {type(expression).__name__}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is mean, sum or none, not {reduction!r}")
    given = dict(params or {})
    rest = Index("...", Dim.symbol("..."))
    by_name = {s.name: s for s in expression.free_symbols}
    leaves: dict[Any, Scalar] = {}
    tensors: list[Input] = []
    for entry in inputs:
        symbol = by_name.get(entry, sympy.Symbol(entry)) if isinstance(entry, str) else entry
        _valid(symbol, sympy, leaves)
        tensors.append(Input(symbol.name, (rest.dim,), ("...",), "real", _domain(symbol)))
        leaves[symbol] = Read(symbol.name, (rest,), REAL)
    parameters: list[Parameter] = []
    for key, default in given.items():
        symbol = by_name.get(key, sympy.Symbol(key)) if isinstance(key, str) else key
        _valid(symbol, sympy, leaves)
        value = None if default is None else _default(default)
        parameters.append(Parameter(symbol.name, "real", _domain(symbol), value))
        leaves[symbol] = ir.Param(symbol.name, REAL)
    unknown = sorted(s.name for s in expression.free_symbols if s not in leaves)
    if unknown:
        raise ValueError(f"{unknown[0]} is neither an input nor a parameter")
    body = _Reader(leaves).read(expression)
    taken = {i.name for i in tensors} | {p.name for p in parameters}
    return _elementwise(name, tuple(tensors), tuple(parameters), rest, body, reduction, taken)


def _elementwise(
    name: str,
    inputs: tuple[Input, ...],
    parameters: tuple[Parameter, ...],
    rest: Index,
    body: Scalar,
    reduction: str,
    taken: set[str],
) -> Program:
    names = {}
    for word in ("per", "total", "weight", "mean"):
        names[word] = word if word not in taken else f"{word}.0"
    per, total, weight, mean = names.values()
    sum_, count = Read(total, (), REAL), Read(weight, (), REAL)
    zero = Const(0)
    definitions = (
        Definition(per, (rest,), "map", (), ir.TRUE, body),
        Definition(total, (), "sum", (rest,), ir.TRUE, Read(per, (rest,), REAL)),
        Definition(weight, (), "map", (), ir.TRUE, ir.real(ir.Size(rest.dim))),
        Definition(mean, (), "map", (), ir.TRUE, Select(Compare("==", count, zero), zero, sum_ / count)),
    )
    if reduction == "none":
        return Program(name, inputs, parameters, definitions[:1], (Output("return", per),), None, per)
    modes = Reductions(reduction, mean, total, per, total, weight, per)
    value = mean if reduction == "mean" else total
    return Program(name, inputs, parameters, definitions, (Output("return", value),), modes, per)


def _valid(symbol: Any, sympy: Any, leaves: Mapping[Any, Scalar]) -> None:
    if not isinstance(symbol, sympy.Symbol):
        raise TypeError(f"an input or parameter is a sympy symbol or a name, not a {type(symbol).__name__}")
    if not (symbol.name.isascii() and symbol.name.isidentifier()):
        raise ValueError(f"{symbol.name!r} cannot name an input or parameter")
    if any(symbol.name == other.name for other in leaves):
        raise ValueError(f"{symbol.name} is declared twice")


def _domain(symbol: Any) -> Range:
    if symbol.is_positive or symbol.is_nonnegative:
        return Range(lower=Const(0), lower_open=bool(symbol.is_positive))
    if symbol.is_negative or symbol.is_nonpositive:
        return Range(upper=Const(0), upper_open=bool(symbol.is_negative))
    return Range()


def _default(value: Any) -> Const:
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        raise TypeError(f"a default is a number, not a {type(value).__name__}")
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return Const(Fraction(repr(value)))
    constant = ir.number(value)
    assert isinstance(constant, Const)
    return constant
