"""Random well-formed programs over all heads, with shifted, gathered and guarded reads, conditions and recurrences.

Used by the tests of the IR and by the differentiation fuzz. Values stay moderate (partial functions are guarded or fed
with safe arguments), so that finite differences say something; kinks and ties occur with probability zero.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Input,
    Not,
    Or,
    Output,
    Param,
    Parameter,
    Program,
    Range,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
)
from lossdsl.ir.rewrite import substitute
from lossdsl.primitives import PRIMITIVES

_AXES = ("n", "d", "t")
_SMOOTH = ("tanh", "sin", "cos", "sigmoid", "softplus", "logcosh", "atan", "erf")
_KINKED = ("abs", "relu")


def _integer(value: int) -> Const:
    return Const(value, INT)


def _real(rng: random.Random) -> Const:
    return Const(Fraction(rng.choice([1, 2, 3, 5, 7, -1, -2, -3]), rng.choice([1, 2, 3, 4, 10])))


class _Maker:
    def __init__(self, rng: random.Random, *, stops: bool, groups: bool, kinks: bool, opaque: bool) -> None:
        self.rng, self.stops, self.groups, self.kinks, self.opaque = rng, stops, groups, kinks, opaque
        self.tensors: dict[str, tuple[tuple[Dim, ...], Any]] = {}
        self.limits: dict[str, Dim] = {}  # integer tensors whose values are positions of this extent
        self.items: list[Definition | Group] = []
        self.used: set[str] = set()
        self.count = 0

    def name(self, base: str = "v") -> str:
        self.count += 1
        return f"{base}{self.count}"

    def add(self, d: Definition) -> None:
        self.items.append(d)
        self.tensors[d.tensor] = (d.dims, d.dtype)

    # ------------------------------------------------------------------------------------- expressions

    def position(self, dim: Dim, scope: tuple[Index, ...]) -> tuple[Scalar, Scalar | None] | None:
        """An index for a position of this extent, and the condition that it needs (None: none)."""
        same = [i for i in scope if i.dim == dim]
        gathers = [t for t, d in self.limits.items() if d == dim and self.readable(t, scope)]
        roll = self.rng.random()
        if gathers and roll < 0.15:
            read = self.read(self.rng.choice(gathers), scope)
            return (read, None) if read is not None else None
        if dim.constant is not None and dim.constant > 0:
            return _integer(self.rng.randrange(dim.constant)), None
        if not same:
            if not scope:
                return None
            i = self.rng.choice(scope)
            return (i, Compare("<", i, Size(dim))) if i.dim != dim else (i, None)
        i = self.rng.choice(same)
        if roll < 0.25:
            return Apply("add", (i, _integer(1))), Compare("<", Apply("add", (i, _integer(1))), Size(dim))
        if roll < 0.35:
            return Apply("sub", (i, _integer(1))), Compare(">", i, _integer(0))
        if roll < 0.4:
            return Apply("sub", (Apply("sub", (Size(dim), _integer(1))), i)), None
        if roll < 0.45:
            return Apply("mod", (Apply("add", (i, _integer(1))), Size(dim))), None
        if roll < 0.5:
            return Apply("floordiv", (i, _integer(2))), None
        if roll < 0.53:
            up = Apply("mul", (_integer(2), i))
            return up, Compare("<", up, Size(dim))
        return i, None

    def readable(self, tensor: str, scope: tuple[Index, ...]) -> bool:
        dims, _ = self.tensors[tensor]
        have = {i.dim for i in scope}
        return all(d in have or d.constant is not None for d in dims)

    def read(self, tensor: str, scope: tuple[Index, ...]) -> Scalar | None:
        """A plain read (no guard needed) of the tensor, or None."""
        dims, kind = self.tensors[tensor]
        indices: list[Scalar] = []
        for dim in dims:
            same = [i for i in scope if i.dim == dim]
            if same:
                indices.append(self.rng.choice(same))
            elif dim.constant:
                indices.append(_integer(self.rng.randrange(dim.constant)))
            else:
                return None
        self.used.add(tensor)
        return Read(tensor, tuple(indices), kind)

    def leaf(self, scope: tuple[Index, ...]) -> Scalar:
        rng = self.rng
        roll = rng.random()
        if roll < 0.1:
            return _real(rng)
        if roll < 0.2:
            return Param("alpha", REAL)
        if roll < 0.26 and scope:
            return Apply("real", (rng.choice(scope),))
        if roll < 0.3 and scope:
            even = Apply("mod", (rng.choice(scope), _integer(3)))
            return Table((Const(Fraction(1, 2)), Const(-1), Const(Fraction(1, 3))), even)
        reals = [t for t, (_, kind) in self.tensors.items() if kind is REAL]
        for _ in range(6):
            tensor = rng.choice(reals)
            dims, _kind = self.tensors[tensor]
            found = [self.position(d, scope) for d in dims]
            if any(f is None for f in found):
                continue
            pairs = [f for f in found if f is not None]
            self.used.add(tensor)
            read: Scalar = Read(tensor, tuple(p[0] for p in pairs), REAL)
            guards = [p[1] for p in pairs if p[1] is not None]
            if guards:
                condition = guards[0] if len(guards) == 1 else And(tuple(guards))
                read = Select(condition, read, _real(rng))
            return read
        return _real(rng)

    def condition(self, scope: tuple[Index, ...], depth: int = 1) -> Scalar:
        rng = self.rng
        roll = rng.random()
        if depth and roll < 0.25:
            parts = (self.condition(scope, 0), self.condition(scope, 0))
            return And(parts) if rng.random() < 0.5 else Or(parts)
        if depth and roll < 0.32:
            return Not(self.condition(scope, 0))
        if len(scope) >= 2 and roll < 0.6:
            a, b = rng.sample(scope, 2)
            return Compare(rng.choice(["!=", "<", "<=", "=="]), a, b)
        labels = [t for t, (_, kind) in self.tensors.items() if kind is INT and self.readable(t, scope)]
        if labels and roll < 0.8:
            a2, b2 = (self.read(rng.choice(labels), scope) for _ in range(2))
            if a2 is not None and b2 is not None:
                return Compare(rng.choice(["==", "!="]), a2, b2)
        return Compare(rng.choice(["<", ">"]), self.leaf(scope), _real(rng))

    def expression(self, scope: tuple[Index, ...], depth: int) -> Scalar:
        rng = self.rng
        if depth == 0:
            return self.leaf(scope)
        a = self.expression(scope, depth - 1)
        roll = rng.random()
        if roll < 0.35:
            b = self.expression(scope, depth - 1)
            return Apply(rng.choice(["add", "sub", "mul"]), (a, b))
        if roll < 0.55:
            return Apply(rng.choice(_SMOOTH), (a,))
        if roll < 0.62:
            square = Apply("powi", (Apply("tanh", (a,)), Const(rng.choice([2, 3]), _exponent())))
            return square
        if roll < 0.68:
            b = self.expression(scope, depth - 1)
            below = Apply("add", (Const(1), Apply("mul", (b, b))))
            return Apply("div", (a, below))
        if roll < 0.73:
            return Apply("exp", (Apply("tanh", (a,)),))
        if roll < 0.78:
            safe = Select(Compare(">", a, Const(Fraction(1, 10))), Apply("log", (a,)), a)
            return safe  # log of a negative number in the dead branch is NaN: it must not leak
        if roll < 0.82:
            return Apply("sqrt", (Apply("add", (Const(1), Apply("mul", (a, a)))),))
        if roll < 0.9:
            return Select(self.condition(scope), a, self.expression(scope, depth - 1))
        if roll < 0.95 and self.kinks:
            if rng.random() < 0.5:
                return Apply(rng.choice(_KINKED), (a,))
            return Apply(rng.choice(["max2", "min2"]), (a, self.expression(scope, depth - 1)))
        if roll < 0.97 and self.stops:
            return Stop(a)
        return Apply("neg", (a,))

    # -------------------------------------------------------------------------------------- definitions

    def formals(self) -> tuple[Index, ...]:
        chosen = self.rng.sample(_AXES, self.rng.choice([0, 1, 1, 2]))
        formals = [Index(a, Dim.symbol(a)) for a in chosen]
        if formals and len(formals) == 1 and self.rng.random() < 0.3:
            formals.append(Index("m", formals[0].dim))  # a second index over the same extent
        return tuple(formals)

    def bound(self, formals: tuple[Index, ...], many: bool) -> tuple[Index, ...]:
        rng = self.rng
        result = []
        for k in range(2 if many and rng.random() < 0.25 else 1):
            dim = Dim.symbol(rng.choice(_AXES)) if rng.random() < 0.9 else Dim.const(rng.choice([2, 3]))
            if rng.random() < 0.15 and dim.constant is None:
                dim = dim - 1
            result.append(Index("ijk"[k], dim))
        return tuple(result)

    def step(self) -> None:
        rng = self.rng
        kinds = ["map", "sum", "sum", "prod", "logsumexp", "max", "min", "any", "count", "argmax", "sort", "where_max"]
        if self.groups:
            kinds += ["group", "group", "group2"]
        if self.opaque:
            kinds += ["logdet", "inverse"]
        kind = rng.choice(kinds)
        formals = self.formals()
        if kind == "map":
            self.add(Definition(self.name(), formals, "map", (), TRUE, self.expression(formals, rng.choice([1, 2, 3]))))
        elif kind in ("any", "count"):
            bound = self.bound(formals, True)
            name = self.name("c")
            condition = self.condition((*formals, *bound))
            self.add(Definition(name, formals, kind, bound, TRUE, condition))
            read = Read(name, formals, BOOL if kind == "any" else INT)
            value = Select(read, self.leaf(formals), _real(rng)) if kind == "any" else Apply("real", (read,))
            self.add(Definition(self.name(), formals, "map", (), TRUE, value))
            self.used.add(name)
        elif kind in ("argmax", "sort"):
            self.winners(kind, formals)
        elif kind == "group":
            self.recurrence()
        elif kind == "group2":
            self.table()
        elif kind in ("logdet", "inverse"):
            self.matrix(kind, formals)
        else:
            self.fold(kind, formals)

    def fold(self, kind: str, formals: tuple[Index, ...]) -> None:
        rng = self.rng
        bound = self.bound(formals, kind in ("sum", "logsumexp"))
        scope = (*formals, *bound)
        where: Scalar = self.condition(scope) if rng.random() < 0.35 else TRUE
        body = self.expression(scope, rng.choice([1, 2]))
        head = "max" if kind == "where_max" else kind
        if head in ("max", "min"):
            # the first position always counts, so that the set is empty only where the axis is
            where = Or((Compare("==", bound[0], _integer(0)), self.condition(scope))) if kind == "where_max" else TRUE
            bound = tuple(Index(i.name, Dim.symbol(rng.choice(_AXES))) for i in bound)
            scope = (*formals, *bound)
            body = self.expression(scope, 2)
            if kind == "where_max":
                where = Or((Compare("==", bound[0], _integer(0)), self.condition(scope)))
        if head == "prod":
            body = Apply("tanh", (body,))
        d = Definition(self.name(), formals, head, bound, where, body)
        if head == "logsumexp" and where is not TRUE:
            inner = self.name("l")
            self.add(Definition(inner, formals, head, bound, where, body))
            del self.tensors[inner]  # it may be -inf: nothing else reads it
            soft = Apply("softplus", (Read(inner, formals, REAL),))  # -inf over an empty set becomes 0
            d = Definition(self.name(), formals, "map", (), TRUE, soft)
        self.add(d)

    def winners(self, kind: str, formals: tuple[Index, ...]) -> None:
        rng = self.rng
        axis = Index("j", Dim.symbol(rng.choice(_AXES)))
        body = self.expression((*formals, axis), 1)
        name = self.name("p")
        if kind == "argmax":
            self.add(Definition(name, formals, rng.choice(["argmax", "argmin"]), (axis,), TRUE, body))
            at: Scalar = Read(name, formals, INT)
            scope = formals
        else:
            rank = Index("r", axis.dim)
            scope = (*formals, rank)
            self.add(Definition(name, scope, "argsort", (axis,), TRUE, body))
            at = Read(name, scope, INT)
        self.limits[name] = axis.dim
        self.used.add(name)
        gathered = substitute(body, {axis: at})
        if kind == "sort":
            gathered = Apply("mul", (gathered, Apply("real", (Apply("add", (scope[-1], _integer(1))),))))
        self.add(Definition(self.name(), scope, "map", (), TRUE, gathered))

    def recurrence(self) -> None:
        """One or two definitions along an axis, forward or backward, perhaps over a second free axis."""
        rng = self.rng
        t = Index("t", Dim.symbol("t"))
        other = (Index("d", Dim.symbol("d")),) if rng.random() < 0.5 else ()
        formals = (t, *other)
        sign = rng.choice([1, -1])
        edge = Compare("==", t, _integer(0) if sign > 0 else Apply("sub", (Size(t.dim), _integer(1))))
        back: Scalar = Apply("sub" if sign > 0 else "add", (t, _integer(1)))
        first, second = self.name("a"), self.name("b")

        def carried(name: str) -> Scalar:
            return Read(name, (back, *other), REAL)

        def mix(carry: Scalar) -> Scalar:
            kept = Apply("mul", (Const(Fraction(1, 2)), Apply("tanh", (carry,))))
            return Apply("add", (kept, self.expression(formals, 1)))

        two = rng.random() < 0.5
        a = Definition(first, formals, "map", (), TRUE, Select(edge, self.leaf(formals), mix(carried(first))))
        members = [a]
        if two:
            now = Read(first, formals, REAL)  # earlier in place at the same position
            body = Select(edge, now, Apply("mul", (mix(carried(second)), now)))
            members.append(Definition(second, formals, "map", (), TRUE, body))
            self.used.add(first)
        group = Group((("t", sign),), tuple(members))
        self.items.append(group)
        for d in members:
            self.tensors[d.tensor] = (d.dims, d.dtype)

    def table(self) -> None:
        """A dynamic programme over two ordered axes (soft-DTW)."""
        i, j = Index("i", Dim.symbol("n")), Index("j", Dim.symbol("t"))
        name = self.name("w")
        zero, one = _integer(0), _integer(1)
        up, left = Apply("sub", (i, one)), Apply("sub", (j, one))
        above = Select(Compare(">", i, zero), Read(name, (up, j), REAL), Const(0))
        beside = Select(Compare(">", j, zero), Read(name, (i, left), REAL), Const(0))
        corner = Read(name, (up, left), REAL)
        both = Select(And((Compare(">", i, zero), Compare(">", j, zero))), corner, Const(0))
        soft = Apply("logaddexp", (Apply("neg", (above,)), Apply("neg", (beside,))))
        body = self.expression((i, j), 1) + Const(Fraction(1, 2)) * Apply("tanh", (soft + both,))
        d = Definition(name, (i, j), "map", (), TRUE, body)
        self.items.append(Group((("i", 1), ("j", 1)), (d,)))
        self.tensors[name] = (d.dims, d.dtype)

    def matrix(self, kind: str, formals: tuple[Index, ...]) -> None:
        """A diagonally dominant matrix per point, its log-determinant or its inverse."""
        size = Dim.const(self.rng.choice([1, 2, 3]))
        a, b = Index("a", size), Index("b", size)
        small = Apply("mul", (Const(Fraction(1, 4)), Apply("tanh", (self.expression((*formals, a, b), 1),))))
        body = small + Apply("mul", (Const(2), Apply("real", (Apply("int", (Compare("==", a, b),)),))))
        if kind == "logdet":
            self.add(Definition(self.name(), formals, "logdet", (a, b), TRUE, body))
        else:
            out = (Index("e", size), Index("f", size))
            self.add(Definition(self.name(), (*formals, *out), "inverse", (a, b), TRUE, body))


def _exponent() -> Any:
    return PRIMITIVES["powi"].accepts[1]


def random_program(
    seed: int,
    *,
    size: int = 4,
    groups: bool = True,
    stops: bool = False,
    kinks: bool = True,
    opaque: bool = True,
) -> Program:
    """A well-formed program with scalar output "return" that reads everything it defines.

    size   number of definitions to make (a recurrence, or a sort with its gather, is one)
    stops  with Stop nodes (finite differences then do not give the derivative)
    """
    rng = random.Random(seed)
    make = _Maker(rng, stops=stops, groups=groups, kinks=kinks, opaque=opaque)
    n, d, t = (Dim.symbol(a) for a in _AXES)
    inputs = (
        Input("x", (n, d), ("n", "d"), "real"),
        Input("y", (n, t), ("n", "t"), "real", Range(Const(Fraction(-2)), Const(2))),
        Input("z", (d,), ("d",), "real", Range(lower=Const(0), lower_open=True)),
        Input("label", (n,), ("n",), "class", classes=d),
        Input("kind", (t,), ("t",), "int"),
        Input("q", (t, Dim.const(2)), ("t", ""), "prob"),
    )
    for entry in inputs:
        make.tensors[entry.name] = (entry.dims, entry.dtype)
    make.limits["label"] = d
    for _ in range(size):
        make.step()
    parts: list[Scalar] = []
    for item in list(make.items):
        for definition in item.definitions if isinstance(item, Group) else (item,):
            if definition.dtype is not REAL or (definition.tensor in make.used and rng.random() < 0.7):
                continue
            if definition.tensor.startswith("l"):
                continue  # a log-sum-exp that may be -inf is read through its softplus only
            whole = make.name("s")
            indices = tuple(Index(f"u{k}", dim) for k, dim in enumerate(definition.dims))
            body: Scalar = Apply("tanh", (Read(definition.tensor, indices, REAL),))
            if indices:
                make.add(Definition(whole, (), "sum", indices, TRUE, body))
            else:
                make.add(Definition(whole, (), "map", (), TRUE, body))
            parts.append(Read(whole, (), REAL))
    value: Scalar = Const(0)
    for part in parts:
        value = value + Apply("mul", (_real(rng), part))
    make.add(Definition("value", (), "map", (), TRUE, value))
    parameters = (Parameter("alpha", "real", Range(Const(0), Const(2), lower_open=True), Const(Fraction(7, 10))),)
    return Program(f"random_{seed}", inputs, parameters, tuple(make.items), (Output("return", "value"),), None, "value")


# ------------------------------------------------------------------------------------------------- arguments


def random_extents(program: Program, rng: np.random.Generator, low: int = 2, high: int = 4) -> dict[str, int]:
    """An extent for every symbol of the program, in order of appearance (integer parameters: their default)."""
    fixed = {p.name: int(p.default.value) for p in program.parameters if p.kind == "int" and p.default is not None}
    dims = [d for i in program.inputs for d in (*i.dims, *((i.classes,) if i.classes is not None else ()))]
    dims += [i.dim for d in program.definitions() for i in (*d.formals, *d.bound)]
    extents: dict[str, int] = {}
    for dim in dims:
        for symbol in dim.symbols():
            if symbol not in extents:
                extents[symbol] = fixed.get(symbol, int(rng.integers(low, high + 1)))
    return extents


def random_inputs(
    program: Program, rng: np.random.Generator, extents: Mapping[str, int] | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays for every input, inside its declared domain; `...` is one dimension. Bounds may be constants only."""
    known = dict(extents) if extents is not None else random_extents(program, rng)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for entry in program.inputs:
        shape = tuple(d.evaluate(known) for d in entry.dims)
        arrays[entry.name] = _array(entry, shape, rng, known, program)
    return arrays


def random_parameters(program: Program, rng: np.random.Generator) -> dict[str, float | int | bool]:
    """A value for every real parameter inside its range; others get their default (0 or False without one)."""
    values: dict[str, float | int | bool] = {}
    for p in program.parameters:
        if p.kind == "real":
            lower, upper = _bound(p.range.lower, -np.inf), _bound(p.range.upper, np.inf)
            values[p.name] = float(_inside(rng, lower, upper, ()))
        else:
            default = 0 if p.default is None else int(p.default.value)
            values[p.name] = bool(default) if p.kind == "bool" else default
    return values


def _bound(bound: Scalar | None, missing: float) -> float:
    if bound is None:
        return missing
    assert isinstance(bound, Const), "bounds that are not constant need inputs of the test's own"
    return float(bound.value)


def _inside(rng: np.random.Generator, lower: float, upper: float, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    if np.isfinite(lower) and np.isfinite(upper):
        return np.asarray(lower + (upper - lower) * rng.uniform(0.05, 0.95, shape))
    if np.isfinite(lower):
        return np.asarray(lower + rng.gamma(2.0, 0.6, shape) + 1e-3)
    if np.isfinite(upper):
        return np.asarray(upper - rng.gamma(2.0, 0.6, shape) - 1e-3)
    return np.asarray(rng.normal(size=shape))


def _array(
    entry: Input, shape: tuple[int, ...], rng: np.random.Generator, extents: Mapping[str, int], program: Program
) -> np.ndarray[Any, Any]:
    kind = entry.kind
    if kind in ("bool", "binary", "sign"):
        bits = rng.integers(0, 2, shape)
        return bits.astype(bool) if kind == "bool" else bits if kind == "binary" else 2 * bits - 1
    if kind == "class":
        assert entry.classes is not None
        values = rng.integers(0, max(1, entry.classes.evaluate(extents)), shape)
        also = next((p for p in program.parameters if p.name == entry.also), None)
        if also is not None and also.default is not None:
            values = np.where(rng.random(shape) < 0.2, int(also.default.value), values)
        return values
    if kind == "int":
        return rng.integers(0, 3, shape)
    if kind == "prob":
        return _inside(rng, 0.0, 1.0, shape)
    if kind == "simplex":
        raw = rng.gamma(1.0, 1.0, shape) + 1e-3
        return np.asarray(raw / raw.sum(axis=entry.over, keepdims=True))
    if kind == "unit":
        raw = rng.normal(size=shape)
        return np.asarray(raw / np.sqrt((raw**2).sum(axis=entry.over, keepdims=True)))
    return _inside(rng, _bound(entry.range.lower, -np.inf), _bound(entry.range.upper, np.inf), shape)
