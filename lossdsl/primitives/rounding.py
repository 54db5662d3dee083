"""Directed rounding of binary64 arithmetic: the largest float below (`_down`) or the smallest above (`_up`) a result.

Each function returns the correctly rounded directed result: the sign of the rounding error of the nearest result is
computed exactly (TwoSum, Dekker's product, or rational arithmetic near the ends of the exponent range), so an exact
result is returned unchanged and a result of one sign never crosses zero. End points may be infinite and stand for
bounds of finite numbers: 0 * inf is 0.
"""

from __future__ import annotations

from fractions import Fraction
from math import inf, isinf, nextafter, sqrt

MAX = 1.7976931348623157e308
_SPLITTER = 134217729.0  # 2**27 + 1
_SAFE_LOW = 2.0**-960  # above it no partial product of Dekker's scheme underflows
_SAFE_HIGH = 2.0**990  # below it the splitting does not overflow


def add_down(a: float, b: float) -> float:
    s = a + b
    if s - s != 0.0:  # inf or nan
        if s != s:
            return -inf
        return s if isinf(a) or isinf(b) or s < 0 else MAX
    t = s - a
    error = (a - (s - t)) + (b - t)
    # `not >=` so that an error that overflowed to nan rounds outward
    return s if error >= 0.0 else nextafter(s, -inf)


def add_up(a: float, b: float) -> float:
    return -add_down(-a, -b)


def _product_error_sign(a: float, b: float, p: float) -> float:
    """A number with the sign of the exact a*b - p, for the rounded product p."""
    if abs(p) > _SAFE_LOW and abs(a) < _SAFE_HIGH and abs(b) < _SAFE_HIGH:
        t = _SPLITTER * a
        a1 = t - (t - a)
        a2 = a - a1
        t = _SPLITTER * b
        b1 = t - (t - b)
        b2 = b - b1
        return ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2
    exact, rounded = Fraction(a) * Fraction(b), Fraction(p)
    return 0.0 if exact == rounded else (1.0 if exact > rounded else -1.0)


def mul_down(a: float, b: float) -> float:
    if a == 0.0 or b == 0.0:
        return 0.0
    p = a * b
    if isinf(p):
        return p if isinf(a) or isinf(b) or p < 0 else MAX
    return p if _product_error_sign(a, b, p) >= 0.0 else nextafter(p, -inf)


def mul_up(a: float, b: float) -> float:
    return -mul_down(-a, b)


def div_down(a: float, b: float) -> float:
    """b is not 0; of inf / inf only the sign is known."""
    if a == 0.0:
        return 0.0
    if isinf(b):
        return -inf if isinf(a) and (a > 0) != (b > 0) else 0.0
    q = a / b
    if isinf(q):
        return q if isinf(a) or q < 0 else MAX
    if (
        abs(a) > 2.0**-900
        and abs(q) > 2.0**-900
        and abs(a) < _SAFE_HIGH
        and abs(q) < _SAFE_HIGH
        and abs(b) < _SAFE_HIGH
    ):
        p = q * b
        # p is within an ulp or two of a, so the difference is exact
        excess = (p - a) + _product_error_sign(q, b, p)
        low = (excess <= 0.0) if b > 0 else (excess >= 0.0)
    else:
        low = Fraction(q) * Fraction(b) <= Fraction(a) if b > 0 else Fraction(q) * Fraction(b) >= Fraction(a)
    return q if low else nextafter(q, -inf)


def div_up(a: float, b: float) -> float:
    return -div_down(-a, b)


def _square_excess(s: float, x: float) -> float:
    """A number with the sign of s*s - x, for the rounded root s of x."""
    if _SAFE_LOW < x < _SAFE_HIGH:
        p = s * s  # within a few ulps of x, so the difference is exact
        return (p - x) + _product_error_sign(s, s, p)
    exact = Fraction(s) ** 2 - Fraction(x)
    return float((exact > 0) - (exact < 0))


def sqrt_down(x: float) -> float:
    s = sqrt(x)
    if x == 0.0 or isinf(x):
        return s
    return s if _square_excess(s, x) <= 0.0 else nextafter(s, 0.0)


def sqrt_up(x: float) -> float:
    s = sqrt(x)
    if x == 0.0 or isinf(x):
        return s
    return s if _square_excess(s, x) >= 0.0 else nextafter(s, inf)


def fraction_down(value: Fraction | int) -> float:
    """The largest float (or -inf) that is at most `value`."""
    try:
        f = float(value)
    except OverflowError:
        return MAX if value > 0 else -inf
    if isinf(f):
        return MAX if f > 0 else f
    return f if f <= value else nextafter(f, -inf)


def fraction_up(value: Fraction | int) -> float:
    return -fraction_down(-value)
