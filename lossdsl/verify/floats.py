"""What float32 arithmetic certainly makes of the elements of tensors at a point (`float_values` has the arithmetic).

A long axis has as many elements as is said, all of them alike from the last place of the point on: that place stands for
them in every fold. So nothing may ask which of them it is: their index is a subscript, or it is compared with a place
before theirs, or the value is Undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cmp_to_key

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    TRUE,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Not,
    Or,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
)
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.float_values import (
    NORMAL,
    ONE,
    ZERO,
    Float,
    applied,
    constant,
    infinity,
    logsumexp,
    number,
    product,
    total,
)
from lossdsl.verify.folds import every_place, flat
from lossdsl.verify.operations import compare, truth
from lossdsl.verify.points import Place, Point, Undecided
from lossdsl.verify.work import CLOCK

_STEPS = 12_000


class Floats:
    """Elements of the tensors of a program at a point, in float32."""

    def __init__(
        self, program: Program, point: Point, *, long: Mapping[str, int] | None = None, flushed: bool = False
    ) -> None:
        """`long`: axes with so many elements, all from the last one of the point on alike; `flushed`: subnormal numbers that
        are read are 0."""
        self.point, self.long, self.flushed = point, dict(long or {}), flushed
        self._sizes = {**point.extents, **self.long}
        self._definitions = {d.tensor: d for d in program.definitions()}
        self._inputs = {i.name: i for i in program.inputs}
        self._known: dict[tuple[str, Place], Float] = {}
        self._left = _STEPS

    def element(self, tensor: str, place: Place) -> Float:
        """Raises Undecided."""
        if tensor in self._inputs:
            value = self.point.inputs[tensor].get(place)
            if value is None:
                raise Undecided(f"{tensor} has no entry at {place}")
            return self._given(value)
        key = (tensor, place)
        if key not in self._known:
            self._known[key] = self._definition(self._definitions[tensor], place)
        return self._known[key]

    def _given(self, value: Fraction) -> Float:
        return ZERO if self.flushed and abs(value) < NORMAL else Float(e.exact(value))

    def _extent(self, dim: Dim) -> int:
        """The number of places of an axis that are looked at."""
        if self._is_long(dim) is None and any(s in self.long for s in dim.symbols()):
            raise Undecided("an extent that is made of the number of elements of a long axis")
        return dim.evaluate(self.point.extents)

    def _is_long(self, dim: Dim) -> int | None:
        """The last place of a long axis."""
        name = next(dim.symbols(), None) if len(self.long) else None
        return self.point.extents[name] - 1 if name in self.long and dim == Dim.symbol(name) else None

    def _copies(self, bound: Sequence[Index], at: Place) -> int:
        """How many places this one stands for."""
        n = 1
        for i, k in zip(bound, at, strict=True):
            last = self._is_long(i.dim)
            if last == k:
                n *= i.dim.evaluate(self.long) - last
        return n

    def _definition(self, d: Definition, place: Place) -> Float:
        env = dict(zip(d.formals, place, strict=True))
        if d.support is not TRUE and not self._holds(d.support, env):
            return ZERO
        if d.head == "map":
            return self._scalar(d.body, env, {})
        if d.head in ("inverse", "logdet"):
            raise Undecided(f"no value for {d.head}")
        if d.head == "argsort":
            env = dict(zip(d.formals[:-1], place, strict=False))
        chosen: list[tuple[Place, Float]] = []
        left_out: list[Place] = []
        for at in every_place([self._extent(i.dim) for i in d.bound]):
            inner = {**env, **dict(zip(d.bound, at, strict=True))}
            if d.where is TRUE or self._holds(d.where, inner):
                chosen.append((at, self._scalar(d.body, inner, {})))
            else:
                left_out.append(at)
        copies = [self._copies(d.bound, at) for at, _ in chosen]
        if any(n > 1 for n in copies):
            return _of_many(d, chosen, copies)
        if d.head == "argsort":
            if any(self._is_long(i.dim) is not None for i in d.bound):
                raise Undecided("an order of a long axis")
            ordered = sorted(chosen, key=cmp_to_key(_before))  # stable
            return self._flat(d, [*(at for at, _ in ordered), *left_out][place[-1]])
        return _folded(d, chosen)

    def _flat(self, d: Definition, place: Place) -> Float:
        return number(flat(place, tuple(i.dim.evaluate(self.point.extents) for i in d.bound)))

    def _placed(self, node: Compare) -> tuple[Scalar, Scalar] | None:
        """A place on a long axis and what it is compared with."""
        for a, b in ((node.a, node.b), (node.b, node.a)):
            if isinstance(a, Index) and self._is_long(a.dim) is not None:
                return a, b
        return None

    def _subscript(self, node: Scalar, of: Callable[[Scalar], Float], env: Mapping[Index, int]) -> int:
        return env[node] if isinstance(node, Index) else _place(of(node))

    def _holds(self, condition: Scalar, env: Mapping[Index, int]) -> bool:
        return _certain(self._scalar(condition, env, {}))

    def _scalar(self, node: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Float]) -> Float:
        if node not in memo:
            self._left -= 1
            CLOCK.steps += 1
            if self._left < 0:
                raise Undecided("too many elements")
            memo[node] = self._node(node, env, memo)
        return memo[node]

    def _node(self, node: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Float]) -> Float:
        def of(n: Scalar) -> Float:
            return self._scalar(n, env, memo)

        match node:
            case Const():
                return constant(node.value)
            case Param():
                return self._given(self.point.parameters[node.name])
            case Size():
                return number(node.dim.evaluate(self._sizes))
            case Index():
                if self._is_long(node.dim) is not None:
                    raise Undecided("a place on a long axis")
                return number(env[node])
            case Read():
                return self.element(node.tensor, tuple(self._subscript(i, of, env) for i in node.indices))
            case Table():
                return of(node.values[_place(of(node.index))])
            case Select():
                return of(node.a if _certain(of(node.condition)) else node.b)
            case Compare() if self.long and node.op in ("==", "!=") and self._placed(node) is not None:
                index, other = self._placed(node) or (node.a, node.b)
                assert isinstance(index, Index)
                at = of(other)
                if not at.finite or at.box.hi >= (self._is_long(index.dim) or 0):
                    raise Undecided("which one of a long axis")
                return compare_float(node.op, number(env[index]), at)
            case Compare():
                a, b = of(node.a), of(node.b)
                if a.bad or b.bad:
                    raise Undecided("a comparison with what may be undefined")
                return compare_float(node.op, a, b)
            case And() | Or():
                stop = isinstance(node, Or)
                for part in node.args:
                    if _certain(of(part)) is stop:
                        return ONE if stop else ZERO
                return ZERO if stop else ONE
            case Not():
                return ZERO if _certain(of(node.a)) else ONE
            case Stop() | AdjointMap():
                return of(node.a)
            case Proxy():
                return of(node.value)
            case Apply():
                return applied(node, [of(a) for a in node.args])
        raise Undecided(f"no value of {type(node).__name__}")


def compare_float(op: str, a: Float, b: Float) -> Float:
    return Float(compare(op, a.box, b.box))


def _certain(v: Float) -> bool:
    decided = truth(v.box)
    if decided is None or v.bad:
        raise Undecided("a condition at the edge")
    return decided


def _place(v: Float) -> int:
    if not v.finite or v.box.lo != v.box.hi or not v.box.lo.is_integer():
        raise Undecided("an index that is not exact")
    return int(v.box.lo)


# ------------------------------------------------------------------------------------------------------ folds


def _folded(d: Definition, chosen: list[tuple[Place, Float]]) -> Float:
    values = [v for _, v in chosen]
    match d.head:
        case "sum":
            return total(values)
        case "prod":
            return product(values)
        case "count":
            return number(sum(_certain(v) for v in values))
        case "any":
            return number(max(_certain(v) for v in values) if values else 0)
        case "all":
            return number(min(_certain(v) for v in values) if values else 1)
    if any(v.bad for v in values) or not (values or d.head == "logsumexp"):
        raise Undecided(f"no certain {d.head}")
    match d.head:
        case "max" | "min":
            pick = max if d.head == "max" else min
            lo, hi = pick(v.box.lo for v in values), pick(v.box.hi for v in values)
            return infinity(1 if lo > 0 else -1) if abs(lo) == INF and lo == hi else _interval(lo, hi)
        case "argmax" | "argmin":
            return _winner(1.0 if d.head == "argmax" else -1.0, chosen)
        case "logsumexp":
            return logsumexp(values)
    raise Undecided(f"no value for {d.head}")


def _of_many(d: Definition, chosen: list[tuple[Place, Float]], copies: list[int]) -> Float:
    """A fold of values, each of them so many times."""
    values = [v for _, v in chosen]
    match d.head:
        case "sum":
            return total(values, copies)
        case "count":
            return number(sum(n for v, n in zip(values, copies, strict=True) if _certain(v)))
        case "logsumexp" if not any(v.bad for v in values):
            return logsumexp(values, copies)
        case "max" | "min" | "any" | "all":
            return _folded(d, chosen)
        case "argmax" | "argmin" if not any(v.bad for v in values):
            at = _folded(d, chosen)
            if all(n == 1 for (place, _), n in zip(chosen, copies, strict=True) if place[0] == at.box.lo):
                return at
    raise Undecided(f"a {d.head} of many")


def _interval(lo: float, hi: float) -> Float:
    if abs(lo) == INF or abs(hi) == INF:
        raise Undecided("finite or not")
    return Float(Enclosure(lo, hi))


def _before(p: tuple[Place, Float], q: tuple[Place, Float]) -> int:
    """The order of two floats, if it is certain."""
    a, b = p[1], q[1]
    if a.bad or b.bad:
        raise Undecided("an order of what may be undefined")
    if a.box.hi < b.box.lo or b.box.hi < a.box.lo:
        return -1 if a.box.hi < b.box.lo else 1
    if a.box.lo == a.box.hi == b.box.lo == b.box.hi:
        return 0
    raise Undecided("no certain order")


def _winner(sign: float, chosen: list[tuple[Place, Float]]) -> Float:
    """The place of the first extremum along one axis, if there is no doubt."""
    for k, (at, v) in enumerate(chosen):
        low = v.box.lo if sign > 0 else -v.box.hi
        tops = [u.box.hi if sign > 0 else -u.box.lo for _, u in chosen]
        if all(t < low for t in tops[:k]) and all(t <= low for t in tops[k + 1 :]) and len(at) == 1:
            return number(at[0])
    raise Undecided("no certain extremum")


__all__ = ["Floats"]
