"""Inf-sup intervals with rigorous outward rounding.

`Interval(lo, hi)` is the closed set [lo, hi] of extended reals. An infinite end point says "no bound on that side is
known", or that the value inf is attained (log at 0); nothing tells the two apart, so *definedness and finiteness are
proved separately*, by the `defined` facet of the records. Every operation returns a superset of

    { f(x, y) : x and y finite reals in the arguments, where f is defined there } and its limits at infinite end points,

with the smallest float end points for + - * / sqrt. In products and quotients of bounds 0 * inf is 0 and inf / inf
is bounded by 0: both are limits of finite values. Partial functions restrict to their domain; where nothing of the
domain is left the result is `EMPTY`, which absorbs in every operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import inf, isnan

from lossdsl.primitives.rounding import (
    add_down,
    add_up,
    div_down,
    div_up,
    fraction_down,
    fraction_up,
    mul_down,
    mul_up,
    sqrt_down,
    sqrt_up,
)

Number = int | float | Fraction


@dataclass(slots=True, unsafe_hash=True, init=False)  # never changed; a frozen one takes four times as long to make
class Interval:
    """The closed set [lo, hi] of extended reals; lo <= hi, +-inf allowed, never nan. `EMPTY` is [inf, -inf]."""

    lo: float
    hi: float

    def __init__(self, lo: float, hi: float) -> None:
        if not lo <= hi and not (lo == inf and hi == -inf):
            raise ValueError(f"not an interval: [{lo}, {hi}]")
        self.lo, self.hi = lo, hi

    # ------------------------------------------------------------------------------------------ construction

    @staticmethod
    def exact(value: Number) -> Interval:
        """The tightest interval around one number; a point if it is a float, +-inf included."""
        if isinstance(value, float):
            if isnan(value):
                raise ValueError("nan is in no interval")
            return Interval(value, value)
        return Interval(fraction_down(value), fraction_up(value))

    @staticmethod
    def between(lo: Number, hi: Number) -> Interval:
        """[lo, hi], rounded outward."""
        return Interval(Interval.exact(lo).lo, Interval.exact(hi).hi)

    @staticmethod
    def hull_of(parts: Iterable[Interval]) -> Interval:
        total = EMPTY
        for part in parts:
            total = total.hull(part)
        return total

    # ------------------------------------------------------------------------------------------------ set view

    @property
    def is_empty(self) -> bool:
        return self.lo > self.hi

    @property
    def is_point(self) -> bool:
        """One finite number."""
        return self.lo == self.hi and -inf < self.lo < inf

    @property
    def is_bounded(self) -> bool:
        return -inf < self.lo and self.hi < inf

    @property
    def is_positive(self) -> bool:
        """Every element is > 0. These tests are False of the empty set."""
        return 0.0 < self.lo <= self.hi

    @property
    def is_nonnegative(self) -> bool:
        return 0.0 <= self.lo <= self.hi

    @property
    def is_negative(self) -> bool:
        return self.lo <= self.hi < 0.0

    @property
    def is_nonpositive(self) -> bool:
        return self.lo <= self.hi <= 0.0

    @property
    def width(self) -> float:
        """Upper bound of hi - lo; 0 if empty."""
        return 0.0 if self.is_empty or self.lo == self.hi else add_up(self.hi, -self.lo)

    @property
    def magnitude(self) -> float:
        """The largest absolute value; 0 if empty."""
        return 0.0 if self.is_empty else max(abs(self.lo), abs(self.hi))

    @property
    def mid(self) -> float:
        """A finite number inside a non-empty interval, for bisection: the middle, or far out on an unbounded side."""
        if self.is_bounded:
            return min(max(0.5 * self.lo + 0.5 * self.hi, self.lo), self.hi)
        if self.lo == -inf and self.hi == inf:
            return 0.0
        if self.lo == -inf:
            return min(-1.0, 2.0 * self.hi) if self.hi > -8e307 else -1.7976931348623157e308
        return max(1.0, 2.0 * self.lo) if self.lo < 8e307 else 1.7976931348623157e308

    def contains(self, value: Number | Interval) -> bool:
        """Exact: `value` may be any number that compares with floats, or an interval."""
        if isinstance(value, Interval):
            return value.is_empty or (self.lo <= value.lo and value.hi <= self.hi)
        return bool(self.lo <= value) and bool(value <= self.hi)

    __contains__ = contains

    def hull(self, other: Interval) -> Interval:
        if self.is_empty:
            return other
        if other.is_empty:
            return self
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    def intersect(self, other: Interval) -> Interval:
        lo, hi = max(self.lo, other.lo), min(self.hi, other.hi)
        return Interval(lo, hi) if lo <= hi else EMPTY

    def split(self) -> tuple[Interval, Interval]:
        """Two halves at `mid`."""
        middle = self.mid
        return Interval(self.lo, middle), Interval(middle, self.hi)

    # ---------------------------------------------------------------------------------------------- arithmetic

    def __add__(self, other: Interval | Number) -> Interval:
        b = _interval(other)
        if self.is_empty or b.is_empty:
            return EMPTY
        return Interval(add_down(self.lo, b.lo), add_up(self.hi, b.hi))

    __radd__ = __add__

    def __neg__(self) -> Interval:
        return EMPTY if self.is_empty else Interval(-self.hi, -self.lo)

    def __sub__(self, other: Interval | Number) -> Interval:
        return self + (-_interval(other))

    def __rsub__(self, other: Number) -> Interval:
        return _interval(other) + (-self)

    def __mul__(self, other: Interval | Number) -> Interval:
        a, b = self, _interval(other)
        if a.is_empty or b.is_empty:
            return EMPTY
        if a.lo >= 0.0:
            if b.lo >= 0.0:
                return Interval(mul_down(a.lo, b.lo), mul_up(a.hi, b.hi))
            if b.hi <= 0.0:
                return Interval(mul_down(a.hi, b.lo), mul_up(a.lo, b.hi))
            return Interval(mul_down(a.hi, b.lo), mul_up(a.hi, b.hi))
        if a.hi <= 0.0:
            return -((-a) * b)
        if b.lo >= 0.0 or b.hi <= 0.0:
            return b * a
        return Interval(
            min(mul_down(a.lo, b.hi), mul_down(a.hi, b.lo)),
            max(mul_up(a.lo, b.lo), mul_up(a.hi, b.hi)),
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Interval | Number) -> Interval:
        """Quotients by the non-zero elements of `other`; the whole line if it contains zero inside, or is only zero."""
        a, b = self, _interval(other)
        if a.is_empty or b.is_empty:
            return EMPTY
        if b.lo < 0.0 < b.hi or b.lo == b.hi == 0.0:
            return WHOLE
        if b.hi <= 0.0:
            return (-a) / (-b)
        if b.lo == 0.0:
            if a.lo == a.hi == 0.0:
                return a
            lo = -inf if a.lo < 0.0 else div_down(a.lo, b.hi)
            hi = inf if a.hi > 0.0 else div_up(a.hi, b.hi)
            return Interval(lo, hi)
        lo = div_down(a.lo, b.hi if a.lo >= 0.0 else b.lo)
        hi = div_up(a.hi, b.lo if a.hi >= 0.0 else b.hi)
        return Interval(lo, hi)

    def __rtruediv__(self, other: Number) -> Interval:
        return _interval(other) / self

    def abs(self) -> Interval:
        if self.is_empty or self.lo >= 0.0:
            return self
        if self.hi <= 0.0:
            return -self
        return Interval(0.0, max(-self.lo, self.hi))

    def minimum(self, other: Interval) -> Interval:
        if self.is_empty or other.is_empty:
            return EMPTY
        return Interval(min(self.lo, other.lo), min(self.hi, other.hi))

    def maximum(self, other: Interval) -> Interval:
        if self.is_empty or other.is_empty:
            return EMPTY
        return Interval(max(self.lo, other.lo), max(self.hi, other.hi))

    def sqrt(self) -> Interval:
        part = self.intersect(NONNEGATIVE)
        return part if part.is_empty else Interval(sqrt_down(part.lo), sqrt_up(part.hi))

    def square(self) -> Interval:
        a = self.abs()
        return a if a.is_empty else Interval(mul_down(a.lo, a.lo), mul_up(a.hi, a.hi))

    def __repr__(self) -> str:
        return "Interval.EMPTY" if self.is_empty else f"[{self.lo!r}, {self.hi!r}]"


def _interval(value: Interval | Number) -> Interval:
    return value if isinstance(value, Interval) else Interval.exact(value)


EMPTY = Interval(inf, -inf)
WHOLE = Interval(-inf, inf)
NONNEGATIVE = Interval(0.0, inf)
NONPOSITIVE = Interval(-inf, 0.0)
ZERO = Interval(0.0, 0.0)
ONE = Interval(1.0, 1.0)
UNIT = Interval(0.0, 1.0)
