"""Enclosures of real quantities: an interval whose ends are open or closed, and whether a value may be undefined.

Openness carries what an interval of floats cannot: that a value is strictly positive (`(0, ...`), strictly below 1, or
finite (an infinite end that is open is not attained). Arithmetic rounds outward and never rounds a product or sum of
non-negative numbers below 0, so that non-strict inequalities survive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.verify.work import CLOCK

INF = math.inf
TINY = 5e-324


@dataclass(slots=True, unsafe_hash=True, init=False)  # never changed; a frozen one takes four times as long to make
class Enclosure:
    """Every value lies in the interval from `lo` to `hi` (ends open where flagged), or is undefined if `nan`."""

    lo: float
    hi: float
    lo_open: bool = False
    hi_open: bool = False
    nan: bool = False

    def __init__(self, lo: float, hi: float, lo_open: bool = False, hi_open: bool = False, nan: bool = False) -> None:
        CLOCK.steps += 1
        if not lo <= hi:  # also false for NaN ends
            raise ValueError(f"not an interval: [{lo}, {hi}]")
        self.lo, self.hi, self.lo_open, self.hi_open, self.nan = lo, hi, lo_open, hi_open, nan

    @property
    def positive(self) -> bool:
        return not self.nan and (self.lo > 0 or (self.lo == 0 and self.lo_open))

    @property
    def nonnegative(self) -> bool:
        return not self.nan and self.lo >= 0

    @property
    def negative(self) -> bool:
        return not self.nan and (self.hi < 0 or (self.hi == 0 and self.hi_open))

    @property
    def nonpositive(self) -> bool:
        return not self.nan and self.hi <= 0

    @property
    def nonzero(self) -> bool:
        return self.positive or self.negative

    @property
    def zero(self) -> bool:
        return not self.nan and self.lo == 0 == self.hi

    @property
    def may_be_zero(self) -> bool:
        return self.lo <= 0 <= self.hi and not (self.lo == 0 and self.lo_open) and not (self.hi == 0 and self.hi_open)

    @property
    def may_be_plus_infinite(self) -> bool:
        return self.hi == INF and not self.hi_open

    @property
    def may_be_minus_infinite(self) -> bool:
        return self.lo == -INF and not self.lo_open

    @property
    def finite(self) -> bool:
        """Every value is a real number (the set may still be unbounded)."""
        return not (self.nan or self.may_be_plus_infinite or self.may_be_minus_infinite)

    @property
    def bounded(self) -> bool:
        return not self.nan and self.lo > -INF and self.hi < INF

    def __str__(self) -> str:
        return self.shown(6)

    def shown(self, digits: int) -> str:
        ends = f"{'(' if self.lo_open else '['}{self.lo:.{digits}g}, {self.hi:.{digits}g}{')' if self.hi_open else ']'}"
        return f"{ends} or undefined" if self.nan else ends


REALS = Enclosure(-INF, INF, True, True)
ANYTHING = Enclosure(-INF, INF, False, False, True)
UNIT = Enclosure(0.0, 1.0)


def told_apart(a: Enclosure, b: Enclosure) -> tuple[str, str]:
    """Two enclosures with the digits that show their difference, at least six."""
    shown = ((a.shown(digits), b.shown(digits)) for digits in range(6, 18))
    return next((pair for pair in shown if pair[0] != pair[1]), (a.shown(17), b.shown(17)))


def exact(value: Fraction | int) -> Enclosure:
    """The tightest float interval around an exact rational."""
    try:
        near = float(value)
    except OverflowError:
        return Enclosure(1.7e308, INF, False, True) if value > 0 else Enclosure(-INF, -1.7e308, True, False)
    if math.isinf(near):
        return Enclosure(1.7e308, INF, False, True) if value > 0 else Enclosure(-INF, -1.7e308, True, False)
    top, bottom = near.as_integer_ratio()
    excess = top * value.denominator - value.numerator * bottom
    if excess == 0:
        return Enclosure(near, near)
    return Enclosure(near, up(near), True, True) if excess < 0 else Enclosure(down(near), near, True, True)


def down(x: float) -> float:
    return math.nextafter(x, -INF)


def up(x: float) -> float:
    return math.nextafter(x, INF)


def _sum(x: float, y: float) -> tuple[float, bool]:
    """The rounded sum, and whether it is exact (Knuth's TwoSum)."""
    s = x + y
    if math.isinf(s):
        return s, math.isinf(x) or math.isinf(y)
    t = s - x
    return s, (x - (s - t)) + (y - t) == 0


def add_down(x: float, y: float) -> float:
    if x == -INF or y == -INF:
        return -INF
    s, same = _sum(x, y)
    return s if same else down(s)


def add_up(x: float, y: float) -> float:
    if x == INF or y == INF:
        return INF
    s, same = _sum(x, y)
    return s if same else up(s)


def _same(x: float, y: float, p: float) -> bool:
    """Whether the rounded product of two numbers is known to be exact (TwoProduct, with floats of 26 bits: Dekker, 1971)."""
    size = abs(p)
    if 1e-250 < size < 1e250 and abs(x) < 1e250 and abs(y) < 1e250:
        c, d = 134217729.0 * x, 134217729.0 * y
        x_high, y_high = c - (c - x), d - (d - y)
        x_low, y_low = x - x_high, y - y_high
        return ((x_high * y_high - p) + x_high * y_low + x_low * y_high) + x_low * y_low == 0
    return size == INF and (math.isinf(x) or math.isinf(y))


def mul_down(x: float, y: float) -> float:
    if x == 0 or y == 0:  # an end of 0 times an unbounded end: the values themselves are finite
        return 0.0
    p = x * y
    if _same(x, y, p):
        return p
    low = math.nextafter(p, -INF)
    return max(0.0, low) if (x > 0) == (y > 0) else low


def mul_up(x: float, y: float) -> float:
    if x == 0 or y == 0:
        return 0.0
    p = x * y
    if _same(x, y, p):
        return p
    high = math.nextafter(p, INF)
    return min(0.0, high) if (x > 0) != (y > 0) else high


def neg(a: Enclosure) -> Enclosure:
    return Enclosure(-a.hi, -a.lo, a.hi_open, a.lo_open, a.nan)


def add(a: Enclosure, b: Enclosure) -> Enclosure:
    lo, hi = a.lo + b.lo, a.hi + b.hi
    if lo > -1e300 and hi < 1e300:  # so that all ends are finite
        if (a.lo - (lo - (t := lo - a.lo))) + (b.lo - t) != 0:
            lo = math.nextafter(lo, -INF)
        if (a.hi - (hi - (t := hi - a.hi))) + (b.hi - t) != 0:
            hi = math.nextafter(hi, INF)
        return Enclosure(lo, hi, a.lo_open or b.lo_open, a.hi_open or b.hi_open, a.nan or b.nan)
    opposite = (a.may_be_plus_infinite and b.may_be_minus_infinite) or (
        a.may_be_minus_infinite and b.may_be_plus_infinite
    )
    lo, hi = add_down(a.lo, b.lo), add_up(a.hi, b.hi)
    if lo == -INF:
        lo_open = not (a.may_be_minus_infinite or b.may_be_minus_infinite)
    else:
        lo_open = a.lo_open or b.lo_open
    if hi == INF:
        hi_open = not (a.may_be_plus_infinite or b.may_be_plus_infinite)
    else:
        hi_open = a.hi_open or b.hi_open
    if lo == INF:  # both ends overflow to the same infinity
        lo = 1.7e308
    if hi == -INF:
        hi = -1.7e308
    return Enclosure(lo, hi, lo_open, hi_open, a.nan or b.nan or opposite)


def sub(a: Enclosure, b: Enclosure) -> Enclosure:
    return add(a, neg(b))


def _infinite(a: Enclosure) -> bool:
    return a.may_be_plus_infinite or a.may_be_minus_infinite


def _product_ends(a: Enclosure, b: Enclosure) -> tuple[float, float]:
    """The least and the largest product, rounded outward: which ends give them is told by the signs."""
    if a.lo >= 0:
        if b.lo >= 0:
            return mul_down(a.lo, b.lo), mul_up(a.hi, b.hi)
        return mul_down(a.hi, b.lo), mul_up(a.lo if b.hi <= 0 else a.hi, b.hi)
    if a.hi <= 0:
        if b.hi <= 0:
            return mul_down(a.hi, b.hi), mul_up(a.lo, b.lo)
        return mul_down(a.lo, b.hi), mul_up(a.hi if b.lo >= 0 else a.lo, b.lo)
    if b.lo >= 0:
        return mul_down(a.lo, b.hi), mul_up(a.hi, b.hi)
    if b.hi <= 0:
        return mul_down(a.hi, b.lo), mul_up(a.lo, b.lo)
    return min(mul_down(a.lo, b.hi), mul_down(a.hi, b.lo)), max(mul_up(a.lo, b.lo), mul_up(a.hi, b.hi))


def mul(a: Enclosure, b: Enclosure) -> Enclosure:
    if a.lo == 1.0 == a.hi and not a.nan and b.lo != 0 != b.hi:  # a zero loses its sign
        return b
    lo, hi = _product_ends(a, b)
    if lo != 0 != hi and lo > -1e300 and hi < 1e300:  # so that all ends are finite
        if not (a.lo_open or a.hi_open or b.lo_open or b.hi_open or a.nan or b.nan):
            return Enclosure(lo, hi)
    undefined = a.nan or b.nan or (a.may_be_zero and _infinite(b)) or (b.may_be_zero and _infinite(a))
    apart = not a.may_be_zero and not b.may_be_zero
    finite = not _infinite(a) and not _infinite(b)
    lo_open = (lo == 0 and apart) or (lo == -INF and finite)
    hi_open = (hi == 0 and apart) or (hi == INF and finite)
    for x, k in ((a, b), (b, a)):
        if k.lo == k.hi and k.lo != 0 and x.bounded and lo > -1e300 and hi < 1e300:  # a number leaves open ends open
            lo_open = lo_open or (x.lo_open if k.lo > 0 else x.hi_open)
            hi_open = hi_open or (x.hi_open if k.lo > 0 else x.lo_open)
    return Enclosure(min(lo, 1.7e308), max(hi, -1.7e308), lo_open, hi_open, undefined)


def square(a: Enclosure) -> Enclosure:
    """`a * a` of one and the same value."""
    full = mul(a, a)
    if a.lo < 0 < a.hi:
        return Enclosure(0.0, full.hi, False, full.hi_open, a.nan)
    inner = min(abs(a.lo), abs(a.hi))
    lo = mul_down(inner, inner)
    return Enclosure(min(lo, 1.7e308), full.hi, lo == 0 and not a.may_be_zero, full.hi_open, a.nan)


def reciprocal(b: Enclosure) -> Enclosure:
    """1 / b; undefined where b may be 0."""
    if b.nan or not b.nonzero:
        return ANYTHING
    if b.negative:
        return neg(reciprocal(neg(b)))
    hi = INF if b.lo < 1e-300 else up(1.0 / b.lo)
    lo = 0.0 if b.hi == INF else max(0.0, down(1.0 / b.hi))
    hi = _power_of_two(b.lo, hi)
    lo = _power_of_two(b.hi, lo)
    return Enclosure(lo, hi, lo == 0 and b.finite, hi == INF or b.lo_open, False)


def _power_of_two(x: float, otherwise: float) -> float:
    """1 / x where that is exact."""
    return 1.0 / x if 1e-300 < x < 1e300 and math.frexp(x)[0] == 0.5 else otherwise


def div(a: Enclosure, b: Enclosure) -> Enclosure:
    if not b.nonzero or (_infinite(a) and _infinite(b)):
        return ANYTHING
    if a.lo == a.hi and b.lo == b.hi and a.bounded and b.bounded:
        return exact(Fraction(a.lo) / Fraction(b.lo))
    tight = mul(a, reciprocal(b))
    return Enclosure(tight.lo, tight.hi, tight.lo_open, tight.hi_open, a.nan or b.nan)


def absolute(a: Enclosure) -> Enclosure:
    if a.lo >= 0:
        return a
    if a.hi <= 0:
        return neg(a)
    hi = max(-a.lo, a.hi)
    hi_open = all(o for end, o in ((-a.lo, a.lo_open), (a.hi, a.hi_open)) if end == hi)
    return Enclosure(0.0, hi, False, hi_open, a.nan)


def hull(a: Enclosure, b: Enclosure) -> Enclosure:
    """The smallest enclosure of both."""
    lo, lo_open = (b.lo, b.lo_open) if b.lo < a.lo else (a.lo, a.lo_open and (b.lo_open or a.lo < b.lo))
    hi, hi_open = (b.hi, b.hi_open) if b.hi > a.hi else (a.hi, a.hi_open and (b.hi_open or a.hi > b.hi))
    return Enclosure(lo, hi, lo_open, hi_open, a.nan or b.nan)


def meet(a: Enclosure, b: Enclosure) -> Enclosure | None:
    """What is in both (for facts known beside a computed enclosure); None if nothing is."""
    lo, lo_open = (b.lo, b.lo_open) if b.lo > a.lo else (a.lo, a.lo_open or (b.lo_open and b.lo == a.lo))
    hi, hi_open = (b.hi, b.hi_open) if b.hi < a.hi else (a.hi, a.hi_open or (b.hi_open and b.hi == a.hi))
    if lo > hi or (lo == hi and (lo_open or hi_open)):
        return None
    return Enclosure(lo, hi, lo_open, hi_open, a.nan and b.nan)


def integer_power(a: Enclosure, k: int) -> Enclosure:
    """a ** k of one value, k an integer; k < 0 is undefined where a may be 0. 0 ** 0 is 1."""
    if k < 0:
        return reciprocal(integer_power(a, -k))
    if k == 0:
        return Enclosure(1.0, 1.0, nan=a.nan)
    if k == 1:
        return a
    if k % 2 == 0:
        return integer_power(square(a), k // 2)
    # odd: monotone, so the ends are powers of the ends
    lo, hi = _odd_power(a.lo, k, down=True), _odd_power(a.hi, k, down=False)
    lo_open = a.lo_open if lo in (0.0, -INF) and a.lo == lo else (lo == -INF and not a.may_be_minus_infinite)
    hi_open = a.hi_open if hi in (0.0, INF) and a.hi == hi else (hi == INF and not a.may_be_plus_infinite)
    return Enclosure(min(lo, 1.7e308), max(hi, -1.7e308), lo_open, hi_open, a.nan)


def _odd_power(x: float, k: int, *, down: bool) -> float:
    result, magnitude = 1.0, abs(x)
    outward_down = down == (x > 0)
    for _ in range(k):
        result = mul_down(result, magnitude) if outward_down else mul_up(result, magnitude)
    return result if x > 0 else -result
