"""Elements of tensors at a point, as float32 arithmetic may compute them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cmp_to_key
from typing import Any

from lossdsl.certificate.arithmetic import (
    ANY,
    LARGEST,
    NORMAL,
    ONE,
    ZERO,
    Float,
    applied,
    compared,
    logsumexp,
    number,
    product,
    total,
    union,
)
from lossdsl.certificate.points import Place, Values
from lossdsl.certificate.rules import Stuck
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
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import INF, Enclosure


class Computed(Values):
    """What the elements of a program's tensors may be at a point. Raises Stuck where a place is not certain.

    long   axes that have so many elements: all from the last one of the point on are as that one
    """

    def __init__(
        self,
        program: Program,
        extents: Mapping[str, int],
        parameters: Mapping[str, Fraction],
        inputs: Mapping[str, Mapping[Place, Fraction]],
        long: Mapping[str, int],
    ) -> None:
        super().__init__(program, extents, parameters, inputs)
        self.long = long

    def element(self, tensor: str, place: Place) -> Float:
        found: Any = super().element(tensor, place)
        return _given(found) if isinstance(found, Fraction) else found

    def _definition(self, d: Definition, place: Place) -> Float:
        at: dict[Scalar, int] = {**dict(zip(d.formals, place, strict=True))}
        if d.support is not TRUE:
            there = self._holds(d.support, at)
            if there is not True:
                return ZERO if there is False else ANY
        if d.head == "map":
            return self.body(d, at)
        if d.head == "argsort":
            at.pop(d.formals[-1])
        terms: list[tuple[Place, Float]] = []
        copies, left_out = [], []
        for position in itertools.product(*(range(self._shown(i.dim)) for i in d.bound)):
            inner: dict[Scalar, int] = {**at, **dict(zip(d.bound, position, strict=True))}
            chosen = True if d.where is TRUE else self._holds(d.where, inner)
            if chosen is None:
                raise Stuck(f"{d.tensor} folds what may be left out")
            if chosen:
                terms.append((position, self.body(d, inner)))
                copies.append(math.prod(self._copies(i.dim, k) for i, k in zip(d.bound, position, strict=True)))
            else:
                left_out.append(position)
        if d.head == "argsort":
            return self._ranked(d, terms, left_out, place[-1])
        return self._folded(d, terms, copies)

    def body(self, d: Definition, at: Mapping[Scalar, int]) -> Float:
        found: Float = self.scalar(d.body, at, {})
        return found

    def _shown(self, dim: Dim) -> int:
        """How many places of an axis the point shows."""
        if dim.constant is None and str(dim) not in self.long and set(dim.symbols()) & set(self.long):
            raise Stuck("an extent that is made of that of a long axis")
        return dim.evaluate(self.extents)

    def _copies(self, dim: Dim, place: int) -> int:
        """How many elements a place stands for."""
        n = self.long.get(str(dim))
        return 1 if n is None or place < self.extents[str(dim)] - 1 else n - place

    def _folded(self, d: Definition, terms: Sequence[tuple[Place, Float]], copies: Sequence[int]) -> Float:
        values = [v for _, v in terms]
        match d.head:
            case "sum":
                return total(values, copies) if values else ZERO
            case "logsumexp":
                return logsumexp(values, copies)
            case "max" | "min":
                return _extreme(values, 1 if d.head == "max" else -1)
            case "prod" if all(n == 1 for n in copies):
                return product(values)
            case "argmax" | "argmin" if all(n == 1 for n in copies):
                return number(self._first_extreme(d, terms))
            case "count" | "any" | "all":
                decided = [_decided(v) for v in values]
                if None not in decided:
                    many = sum(n for n, holds in zip(copies, decided, strict=True) if holds)
                    return Float(
                        _point(many if d.head == "count" else any(decided) if d.head == "any" else all(decided))
                    )
        raise Stuck(f"{d.tensor}: no certain {d.head}")

    def _ranked(self, d: Definition, terms: list[tuple[Place, Float]], left_out: list[Place], rank: int) -> Float:
        """The row-major place that has a rank: ascending, equal ones and what is left out by place. Raises Stuck."""
        if any(self._copies(i.dim, self._shown(i.dim) - 1) > 1 for i in d.bound):
            raise Stuck("the order of a long axis")

        def order(a: tuple[Place, Float], b: tuple[Place, Float]) -> int:
            for op, sign in (("<", -1), (">", 1), ("==", 0)):
                if compared(op, a[1], b[1]) == o.YES:
                    return sign
            raise Stuck("no certain order")

        ordered = [*(at for at, _ in sorted(terms, key=cmp_to_key(order))), *left_out]
        return Float(_point(self._flat(d, ordered[rank])))

    def _first_extreme(self, d: Definition, terms: Sequence[tuple[Place, Float]]) -> int:
        """The row-major place of the first extreme element. Raises Stuck where it is not certain."""
        for k, (at, v) in enumerate(terms):
            rest = [(j, u) for j, (_, u) in enumerate(terms) if j != k]
            op = {True: "<", False: "<="} if d.head == "argmax" else {True: ">", False: ">="}
            if all(compared(op[j < k], u, v) == o.YES for j, u in rest):
                return self._flat(d, at)
        raise Stuck(f"{d.tensor}: no certain {d.head}")

    def _holds(self, condition: Scalar, at: Mapping[Scalar, int]) -> bool | None:
        return _decided(self.scalar(condition, at, {}))

    def _scalar(self, node: Scalar, at: Mapping[Scalar, int], known: dict[Scalar, Any]) -> Float:
        def of(n: Scalar) -> Float:
            found: Float = self.scalar(n, at, known)
            return found

        match node:
            case Const():
                if isinstance(node.value, str):
                    return Float(None, node.value == "inf", node.value == "-inf", node.value == "nan")
                return number(Fraction(node.value))
            case Param():
                return _given(self.parameters[node.name])
            case Size():
                return Float(_point(node.dim.evaluate({**self.extents, **self.long})))
            case Index():
                last = at[node] + self._copies(node.dim, at[node]) - 1
                return Float(Enclosure(float(at[node]), float(last)))
            case Read():
                places = (at[i] if isinstance(i, Index) else _place(of(i)) for i in node.indices)
                return self.element(node.tensor, tuple(places))
            case Table():
                return of(node.values[_place(of(node.index))])
            case Select():
                holds = _decided(of(node.condition))
                return union([of(n) for n, k in ((node.a, False), (node.b, True)) if holds is not k])
            case Compare():
                return Float(compared(node.op, of(node.a), of(node.b)))
            case Not():
                holds = _decided(of(node.a))
                return _EITHER if holds is None else ZERO if holds else ONE
            case And() | Or():
                end, unknown = isinstance(node, Or), False
                for a in node.children:  # what follows the one that decides it may read where there is nothing
                    holds = _decided(of(a))
                    if holds is end:
                        return ONE if end else ZERO
                    unknown = unknown or holds is None
                return _EITHER if unknown else ZERO if end else ONE
            case Stop() | AdjointMap():
                return of(node.a)
            case Proxy():
                return of(node.value)
            case Apply():
                return applied(node, [of(a) for a in node.args])
        raise Stuck(f"{type(node).__name__} has no value here")


def _point(n: int) -> Enclosure:
    return Enclosure(float(n), float(n))


_EITHER = Float(o.EITHER)


def _given(value: Fraction) -> Float:
    """An entry or a parameter: a subnormal number may be read as 0."""
    found = number(value)
    if 0 < abs(value) < NORMAL and found.box is not None:
        end = float(value)
        return Float(Enclosure(min(end, 0.0), max(end, 0.0)))
    return found


def _decided(v: Float) -> bool | None:
    return None if v.box is None or not v.finite else o.truth(v.box)


def _place(v: Float) -> int:
    if v.box is None or not v.finite or v.box.lo != v.box.hi or not v.box.lo.is_integer():
        raise Stuck("a place that is not certain")
    return int(v.box.lo)


def _extreme(values: Sequence[Float], sign: int) -> Float:
    """The largest element, or the smallest. NaN may be passed over."""
    if not values:
        return Float(None, sign < 0, sign > 0)
    if any(v.nan for v in values):
        return ANY
    ends = [v.ends for v in values]
    pick = max if sign > 0 else min
    lo, hi = pick(b.lo for b in ends), pick(b.hi for b in ends)
    if lo in (INF, -INF) and lo == hi:
        return Float(None, lo > 0, lo < 0)
    return Float(Enclosure(max(lo, -LARGEST), min(hi, LARGEST)), hi == INF, lo == -INF)


__all__ = ["Computed"]
