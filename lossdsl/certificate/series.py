"""Taylor series along a line, enclosed: elements of a loss where the entries of its inputs are a + b t and t is in an interval.

The k-th coefficient encloses f^(k)(t) / k! at every t of the interval but the finitely many at which a branch, an extremum
or an absolute value changes sides, or an order; a `joined` series holds what is on either side, and one that is not has no value.
Derivatives of functions follow from those below by the chain rule (Griewank and Walther, *Evaluating Derivatives*, 2008,
chapter 13).
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

from flint import arb

from lossdsl.certificate.points import Place, Undecided, Values, whole
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import BOOL, Apply, Compare, Const, Definition, Param, Program, Read, Scalar, Select
from lossdsl.ir.rewrite import free_indices
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.operations import transfer

_ZERO = Enclosure(0.0, 0.0)
Point = tuple[dict[str, int], dict[str, Fraction], dict[str, dict[Place, Fraction]]]  # extents, parameters, entries


@dataclass(frozen=True)
class Series:
    """Enclosures of the coefficients; `joined`: whether it may hold several pieces."""

    terms: tuple[Enclosure, ...]
    joined: bool

    @property
    def value(self) -> Enclosure:
        return self.terms[0]

    def first(self, count: int) -> Series:
        return Series(self.terms[:count], self.joined)

    def like(self, value: Any) -> Series:
        """A number as a series as long as this one."""
        if isinstance(value, Series):
            return value
        return Series((box_of(value), *[_ZERO] * (len(self.terms) - 1)), self.joined)

    def hulled(self, other: Series) -> Series:
        """What holds for either of two."""
        return Series(tuple(e.hull(a, b) for a, b in zip(self.terms, other.terms)), self.joined)

    def union(self, other: Any) -> Series:
        """What is one of two. Raises Undecided where only one piece is wanted."""
        if not self.joined:
            raise Undecided
        return self.hulled(self.like(other))

    def __add__(self, other: Any) -> Series:
        return Series(tuple(e.add(a, b) for a, b in zip(self.terms, self.like(other).terms)), self.joined)

    def __neg__(self) -> Series:
        return Series(tuple(e.neg(a) for a in self.terms), self.joined)

    def __sub__(self, other: Any) -> Series:
        return self + -self.like(other)

    def __rsub__(self, other: Any) -> Series:
        return self.like(other) - self

    def __mul__(self, other: Any) -> Series:
        a, b = self.terms, self.like(other).terms
        found = [_sum(e.mul(a[j], b[k - j]) for j in range(k + 1)) for k in range(len(a))]
        if other is self:
            found[0] = _square(a[0])
        return Series(tuple(found), self.joined)

    def __truediv__(self, other: Any) -> Series:
        a, b = self.terms, self.like(other).terms
        if not b[0].nonzero:
            raise Undecided
        found: list[Enclosure] = []
        for k in range(len(a)):
            known = _sum(e.mul(found[j], b[k - j]) for j in range(k))
            found.append(e.div(e.sub(a[k], known), b[0]))
        return Series(tuple(found), self.joined)

    def __rtruediv__(self, other: Any) -> Series:
        return self.like(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def __gt__(self, other: int) -> bool:
        return (self - other).value.positive

    def __lt__(self, other: int) -> bool:
        return (self - other).value.negative

    def is_zero(self) -> bool:
        return all(t.zero for t in self.terms)


def _square(a: Enclosure) -> Enclosure:
    """With ends open where those that it is of are."""
    found = e.square(a)
    if found.lo == found.hi:
        return found
    most = max(-a.lo, a.hi)
    top = all(is_open for end, is_open in ((-a.lo, a.lo_open), (a.hi, a.hi_open)) if end == most)
    bottom = a.lo_open if a.lo >= 0 else a.hi_open and a.hi <= 0
    return Enclosure(found.lo, found.hi, found.lo_open or bottom, found.hi_open or top, found.nan)


def _sum(terms: Any) -> Enclosure:
    total = _ZERO
    for t in terms:
        total = e.add(total, t)
    return total


Number = Series | Enclosure | Fraction  # an enclosure: any number of it, the same one wherever the line is


def box_of(value: Any) -> Enclosure:
    """A number in an interval. Raises Stuck for one that is not finite."""
    if isinstance(value, Enclosure):
        return value
    if isinstance(value, (bool, int, Fraction)):
        return e.exact(Fraction(value))
    if not isinstance(value, arb) or not value.is_finite():
        raise Stuck("a number that is not finite")
    lo, hi = float(value.lower()), float(value.upper())
    return Enclosure(e.down(e.down(lo)), e.up(e.up(hi)))


# ----------------------------------------------------------------------------------------------- functions


def _squared(x: Series) -> Series:
    return x * x


def _sigmoid(x: Series) -> Series:
    return applied("sigmoid", x)


def _bell(x: Series, at: float) -> Series:
    """exp(-x^2 / at)."""
    return applied("exp", -(x * x) / Fraction(at))


def _over_root_pi(x: Series, times: Fraction) -> Series:
    return x * times / x.like(arb.pi().sqrt())


# of x and the function's own value there: each encloses the derivative, some tighter, some with its sign
_SLOPES: dict[str, tuple[Callable[[Series, Series], Series], ...]] = {
    "exp": (lambda x, y: y,),
    "expm1": (lambda x, y: y + 1,),
    "log": (lambda x, y: 1 / x,),
    "log1p": (lambda x, y: 1 / (1 + x),),
    "log2": (lambda x, y: 1 / (x * arb(2).log()),),
    "log10": (lambda x, y: 1 / (x * arb(10).log()),),
    "sqrt": (lambda x, y: 1 / (2 * y),),
    "sin": (lambda x, y: applied("cos", x),),
    "cos": (lambda x, y: -applied("sin", x),),
    "sinh": (lambda x, y: applied("cosh", x),),
    "cosh": (lambda x, y: applied("sinh", x),),
    "tanh": (lambda x, y: 1 - y * y, lambda x, y: 4 * _sigmoid(2 * x) * _sigmoid(-2 * x)),
    "sigmoid": (lambda x, y: Fraction(1, 4) - _squared(y - Fraction(1, 2)), lambda x, y: y * _sigmoid(-x)),
    "softplus": (lambda x, y: _sigmoid(x),),
    "logsigmoid": (lambda x, y: _sigmoid(-x),),
    "logcosh": (lambda x, y: applied("tanh", x),),
    "atan": (lambda x, y: 1 / (1 + x * x),),
    "erf": (lambda x, y: _over_root_pi(_bell(x, 1), Fraction(2)),),
    "erfc": (lambda x, y: _over_root_pi(_bell(x, 1), Fraction(-2)),),
    "normal_cdf": (lambda x, y: _over_root_pi(_bell(x, 2), Fraction(1)) / arb(2).sqrt(),),
    "log_normal_cdf": (
        lambda x, y: _over_root_pi(_bell(x, 2), Fraction(1)) / arb(2).sqrt() / applied("normal_cdf", x),
    ),
    "lgamma": (lambda x, y: applied("digamma", x),),
}
_ABOVE_ZERO = frozenset({"log", "log2", "log10", "sqrt", "lgamma", "digamma"})


def applied(name: str, x: Series) -> Series:
    """A function of one argument. Raises Undecided where it may have no value, Stuck where no derivative is known."""
    if not (x.value.positive if name in _ABOVE_ZERO else x.value.lo > -1 or name != "log1p"):
        raise Undecided
    found = [_finite(transfer(Apply(name, (Param("x"),)), [x.value]))]
    for k in range(1, len(x.terms)):
        if name not in _SLOPES:
            raise Stuck(f"no derivative of {name}")
        own = Series(tuple(found), x.joined)
        ways = [_next(x, slope(x.first(k), own).terms, k) for slope in _SLOPES[name]]
        if name in ("exp", "expm1"):
            ways.append(_of_exponential(x, k))
        found.append(functools.reduce(lambda a, b: e.meet(a, b) or a, ways))
    return Series(tuple(found), x.joined)


def _next(x: Series, slope: Sequence[Enclosure], k: int) -> Enclosure:
    """The k-th coefficient, by those of the derivative."""
    known = _sum(e.mul(e.mul(Enclosure(float(j), float(j)), x.terms[j]), slope[k - j]) for j in range(1, k + 1))
    return e.div(known, Enclosure(float(k), float(k)))


def _of_exponential(x: Series, k: int) -> Enclosure:
    """The k-th coefficient of e^x as e^x(0) times that of e^(x - x(0)), in which nothing is multiplied with it on the way."""
    found = [Enclosure(1.0, 1.0)]
    for j in range(1, k + 1):
        found.append(_next(x, found, j))
    return e.mul(_finite(transfer(Apply("exp", (Param("x"),)), [x.value])), found[k])


def _finite(box: Enclosure) -> Enclosure:
    if not box.finite:
        raise Undecided
    return box


def ordered(name: str, args: Sequence[Any], larger: Callable[[Any, Any], Any]) -> Any:
    """Sums and extrema of what is added, negated and compared; None for all other operations."""
    x = args[0]
    match name:
        case "real":
            return x
        case "neg":
            return -x
        case "add":
            return x + args[1]
        case "sub":
            return x - args[1]
        case "abs":
            return larger(x, -x)
        case "relu":
            return larger(x, x.like(0))
        case "max2" | "min2" if x is args[1]:
            return x
        case "max2":
            return larger(x, args[1])
        case "min2":
            return -larger(-x, -args[1])
        case "clamp":
            return -larger(-larger(x, args[1]), -args[2])
    return None


def of_operation(node: Apply, args: Sequence[Any]) -> Series:
    """A primitive of series and numbers, one of them a series. Raises Undecided, Stuck."""
    some = next(a for a in args if isinstance(a, Series))
    full = [some.like(a) for a in args]
    x = full[0]
    found = ordered(node.name, full, _larger)
    if isinstance(found, Series):
        return found
    match node.name:
        case "mul":
            return x * (x if args[0] is args[1] else full[1])
        case "div":
            return x / full[1]
        case "pow" | "powi":
            return _power(node, args, full)
        case "expdiff":
            return applied("exp", x - full[1])
        case "xlogy" if args[0] is args[1]:
            return _entropy_term(x)
        case "xlogy":
            return x * applied("log", full[1])
        case "logaddexp":
            return x + applied("softplus", full[1] - x)
    if len(args) != 1:
        raise Stuck(f"no derivative of {node.name}")
    return applied(node.name, x)


def _entropy_term(x: Series) -> Series:
    """x log x."""
    slope = applied("log", x) + 1
    both = Apply("xlogy", (Param("x"), Param("x")))
    found = [_finite(transfer(both, [x.value, x.value]))]
    for k in range(1, len(x.terms)):
        found.append(_next(x, slope.terms, k))
    return Series(tuple(found), x.joined)


def _larger(x: Series, y: Series) -> Series:
    gap = x - y
    if gap.value.positive or gap.is_zero():
        return x
    return y if gap.value.negative else x.union(y)


def _power(node: Apply, args: Sequence[Any], full: Sequence[Series]) -> Series:
    exponent = args[1]
    base = full[0]
    if not isinstance(exponent, Fraction):
        return applied("exp", full[1] * applied("log", base))
    if exponent.denominator == 1 and 0 <= exponent <= 64:
        result = base.like(1)
        square, left = base, int(exponent)
        while left:
            result = result * square if left % 2 else result
            square, left = square * square, left // 2
        return result
    if not base.value.positive and not (exponent.denominator == 1 and base.value.nonzero):
        raise Undecided
    boxes = [base.value, e.exact(exponent)]
    found = [_finite(transfer(Apply("pow", (Param("x"), Const(exponent))), boxes))]
    for k in range(1, len(base.terms)):
        parts = (e.mul(e.exact(exponent * j - (k - j)), e.mul(base.terms[j], found[k - j])) for j in range(1, k + 1))
        found.append(e.div(_sum(parts), e.mul(Enclosure(float(k), float(k)), base.value)))
    return Series(tuple(found), base.joined)


# ------------------------------------------------------------------------------------------------ elements


class Unordered(Undecided):
    """Two elements of what is sorted, or of what the largest is searched in, are not told apart."""

    def __init__(self, definition: Definition) -> None:
        super().__init__()
        self.definition = definition


Comparison = tuple[Compare, Place]  # and what its indices are


class Fork(Exception):
    """A comparison that holds at some places of the line and not at others."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.comparison = comparison


class Along(Values):
    """Elements of a program's tensors along the line: the entries of some inputs are series, all else is as at a point."""

    def __init__(
        self,
        program: Program,
        at: Point,
        steps: Mapping[tuple[str, Place], Fraction],
        over: Enclosure,
        count: int,
        *,
        joined: bool,
        cases: Mapping[Comparison, bool] | None = None,
    ) -> None:
        """`cases`: where these comparisons hold, or do not; the first other one that is not decided is a Fork."""
        super().__init__(program, *at)
        self._steps, self._over, self._count, self._joined, self._cases = steps, over, count, joined, cases
        self.moved = False

    def element(self, tensor: str, place: Place) -> Any:
        found = super().element(tensor, place)
        step = self._steps.get((tensor, place), Fraction(0))
        if tensor not in self.inputs or step == 0:
            return found
        self.moved = True
        box = e.add(e.exact(found), e.mul(e.exact(step), self._over))
        return Series((box, e.exact(step), *[_ZERO] * self._count)[: self._count], self._joined)

    def _scalar(self, node: Scalar, at: Mapping[Scalar, int], known: dict[Scalar, Any]) -> Any:
        if isinstance(node, Select):
            try:
                holds = self.scalar(node.condition, at, known)
            except Undecided:
                return self._either([self.scalar(b, at, {}) for b in (node.a, node.b)])
            return self.scalar(node.a if holds else node.b, at, known)
        if isinstance(node, Compare) and self._cases is not None:
            return self._compared(node, at, known, self._cases)
        if isinstance(node, Read) and self._joined:
            ways = [self._positions(i, at, known) for i in node.indices]
            if any(len(way) != 1 for way in ways):
                entries = [self.element(node.tensor, place) for place in itertools.product(*ways)]
                return self._either([bool(v) for v in entries] if node.dtype is BOOL else entries)
        if isinstance(node, Apply):
            args = [self.scalar(a, at, known) for a in node.args]
            if any(isinstance(a, Series) for a in args):
                found = of_operation(node, args)
                if any(t.nan for t in found.terms):
                    raise Undecided
                return found
        return super()._scalar(node, at, known)

    def _compared(
        self, node: Compare, at: Mapping[Scalar, int], known: dict[Scalar, Any], cases: Mapping[Comparison, bool]
    ) -> Any:
        comparison = (node, tuple(at[i] for i in free_indices(node)))
        if comparison in cases:
            return cases[comparison]
        for side in (node.a, node.b):
            self.scalar(side, at, known)
        try:
            return super()._scalar(node, at, known)
        except Undecided:
            raise Fork(comparison) from None

    def _positions(self, index: Scalar, at: Mapping[Scalar, int], known: dict[Scalar, Any]) -> Sequence[int]:
        """All that an index may be: any place of what is sorted, or of what the largest is searched in, if two that are
        compared are not told apart."""
        try:
            return [whole(self.scalar(index, at, known))]
        except Unordered as reason:
            while isinstance(index, Apply) and index.name in ("real", "int"):
                index = index.args[0]
            if not isinstance(index, Read) or index.tensor != reason.definition.tensor:
                raise
            return range(prod(i.dim.evaluate(self.extents) for i in reason.definition.bound))

    def _selected(self, d: Definition, at: Mapping[Scalar, int]) -> Any:
        try:
            return super()._selected(d, at)
        except Undecided:  # it, or nothing
            if not self._joined or d.head not in ("sum", "count"):
                raise
            return self._either([self.scalar(d.body, at, {}) if d.head == "sum" else Fraction(1), Fraction(0)])

    def _sorted(self, d: Definition, elements: Sequence[tuple[Place, Any]], left_out: Sequence[Place]) -> list[int]:
        try:
            return super()._sorted(d, elements, left_out)
        except Undecided:
            raise Unordered(d) from None

    def _winner(self, d: Definition, elements: Sequence[tuple[Place, Any]]) -> Fraction:
        try:
            return super()._winner(d, elements)
        except Undecided:
            raise Unordered(d) from None

    def _either(self, values: Sequence[Any]) -> Any:
        """What is one of some numbers: one that all are, or a series that holds them all. Raises Undecided."""
        first = values[0]
        if isinstance(first, (bool, Fraction)) and all(type(v) is type(first) and v == first for v in values):
            return first
        if not self._joined or any(isinstance(v, bool) for v in values):
            raise Undecided
        none = Series((_ZERO,) * self._count, True)
        return functools.reduce(Series.hulled, (none.like(v) for v in values))

    def _fold(self, d: Definition, elements: Sequence[tuple[Place, Any]]) -> Any:
        some = next((v for _, v in elements if isinstance(v, Series)), None)
        if some is not None and d.head == "count":
            return functools.reduce(operator.add, (Fraction(v) if isinstance(v, bool) else v for _, v in elements))
        if some is None or d.head not in ("logsumexp", "max", "min"):
            return super()._fold(d, elements)
        total, *rest = sorted((some.like(v) for _, v in elements), key=lambda v: -v.value.hi)
        for v in rest:
            if d.head == "logsumexp":
                total = total + applied("softplus", v - total)
            else:
                total = _larger(total, v) if d.head == "max" else -_larger(-total, -v)
        return total


__all__ = ["Along", "Comparison", "Fork", "Number", "Point", "Series", "applied", "box_of", "of_operation", "ordered"]
