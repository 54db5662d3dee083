"""Ordinary SymPy as a way to write a loss: an expression becomes the program of an elementwise loss.

SymPy is imported by the functions that need it, never with this module. No string is ever sympified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from lossdsl import primitives
from lossdsl.dim import Dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import (
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
from lossdsl.primitives.record import Dtype


def postorder(tree: Any) -> list[Any]:
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
        for t in postorder(expression):
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
    if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
        raise ValueError(f"{name!r} cannot name a loss")
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
