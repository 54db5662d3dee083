"""Intervals enclose: against 60-digit arithmetic, exact values, tightness, extended end points."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from math import inf, nextafter, ulp
from typing import Any

import mpmath
import pytest

from lossdsl.primitives import PRIMITIVES, enclosures
from lossdsl.primitives.interval import EMPTY, NONNEGATIVE, ONE, WHOLE, ZERO, Interval

MAX = 1.7976931348623157e308
TINY = 5e-324


def any_float(rng: random.Random) -> float:
    """Small integers, ordinary numbers, all binades, the ends of the exponent range."""
    kind = rng.randrange(6)
    if kind == 0:
        return float(rng.randint(-4, 4))
    if kind == 1:
        return rng.uniform(-10, 10)
    if kind == 2:
        return rng.choice((-1, 1)) * rng.random() * 2.0 ** rng.randint(-1070, 1023)
    if kind == 3:
        return rng.choice((0.0, TINY, -TINY, MAX, -MAX, 1.0, -1.0, 2.0**-1022))
    if kind == 4:
        return rng.gauss(0, 1)
    return rng.choice((-1, 1)) * (1 + rng.randint(-3, 3) * 2.0**-52)


def any_interval(rng: random.Random, draw: Callable[[random.Random], float] = any_float) -> Interval:
    a, b = draw(rng), draw(rng)
    if rng.random() < 0.3:
        b = a
    if rng.random() < 0.08:
        b = inf
    if rng.random() < 0.08:
        a = -inf
    return Interval(min(a, b), max(a, b))


def member(rng: random.Random, x: Interval) -> Fraction:
    """A rational inside: an end point, or a point between."""
    lo, hi = max(x.lo, -MAX), min(x.hi, MAX)
    kind = rng.randrange(3)
    if kind < 2:
        return Fraction(lo if kind else hi)
    w = Fraction(rng.randint(0, 1 << 20), 1 << 20)
    return Fraction(lo) * (1 - w) + Fraction(hi) * w


def test_arithmetic_contains_exact_results_and_is_correctly_rounded() -> None:
    rng = random.Random(1)
    checks = 0
    for _ in range(12000):
        a, b = any_interval(rng), any_interval(rng)
        x, y = member(rng, a), member(rng, b)
        assert (a + b).contains(x + y), (a, b, x, y)
        assert (a - b).contains(x - y), (a, b, x, y)
        assert (a * b).contains(x * y), (a, b, x, y)
        assert a.square().contains(x * x)
        assert a.abs().contains(abs(x))
        assert a.minimum(b).contains(min(x, y))
        assert a.maximum(b).contains(max(x, y))
        assert a.hull(b).contains(x)
        if y != 0:
            assert (a / b).contains(x / y), (a, b, x, y)
        checks += 9
    assert checks > 50_000


def test_points_are_rounded_to_the_two_neighbours() -> None:
    rng = random.Random(2)
    for _ in range(12000):
        x, y = any_float(rng), any_float(rng)
        a, b = Interval.exact(x), Interval.exact(y)
        for got, exact in (
            (a + b, Fraction(x) + Fraction(y)),
            (a * b, Fraction(x) * Fraction(y)),
            *(((a / b, Fraction(x) / Fraction(y)),) if y else ()),
        ):
            assert got.lo <= exact <= got.hi
            # the largest float below and the smallest above: nothing fits between
            assert got.lo == exact or nextafter(got.lo, inf) > exact, (x, y, got)
            assert got.hi == exact or nextafter(got.hi, -inf) < exact, (x, y, got)
        if x >= 0:
            root = a.sqrt()
            assert Fraction(root.lo) ** 2 <= Fraction(x) <= Fraction(root.hi) ** 2
            assert root.hi <= nextafter(root.lo, inf)


def test_signs_survive_rounding() -> None:
    tiny = Interval(0.0, TINY)
    assert (tiny * tiny).lo == 0.0
    assert (tiny * Interval(0.5, 0.5)).lo == 0.0
    assert (tiny + tiny).lo == 0.0
    assert (Interval.exact(1) - Interval.exact(1)) == ZERO
    assert (Interval(TINY, TINY) * Interval(0.25, 0.25)) == Interval(0.0, TINY)
    assert (Interval(MAX, MAX) + Interval(MAX, MAX)) == Interval(MAX, inf)
    assert (Interval(MAX, MAX) * Interval(-2.0, -2.0)) == Interval(-inf, -MAX)


def test_infinite_end_points() -> None:
    assert ZERO * WHOLE == ZERO
    assert Interval(0.0, 1.0) * NONNEGATIVE == NONNEGATIVE
    assert WHOLE - WHOLE == WHOLE
    assert Interval(inf, inf) - Interval(inf, inf) == WHOLE
    assert ONE / Interval(0.0, 2.0) == Interval(0.5, inf)
    assert ONE / Interval(-2.0, 0.0) == Interval(-inf, -0.5)
    assert ONE / Interval(-1.0, 1.0) == WHOLE
    assert ONE / ZERO == WHOLE
    assert (ONE / Interval(1.0, inf)).contains(0.0)
    assert (NONNEGATIVE / Interval(1.0, inf)) == NONNEGATIVE
    assert (WHOLE / Interval(1.0, inf)) == WHOLE
    assert Interval(-inf, -1.0) / Interval(2.0, inf) == Interval(-inf, 0.0)


def test_empty_absorbs_and_is_its_own() -> None:
    assert EMPTY.is_empty
    assert not EMPTY.contains(0.0)
    assert EMPTY.width == 0.0
    for result in (
        EMPTY + ONE,
        ONE - EMPTY,
        EMPTY * ONE,
        ONE / EMPTY,
        -EMPTY,
        EMPTY.sqrt(),
        EMPTY.abs(),
        EMPTY.square(),
    ):
        assert result.is_empty
    assert ONE.intersect(ZERO).is_empty
    assert EMPTY.hull(ONE) == ONE
    assert Interval(-2.0, -1.0).sqrt().is_empty
    assert enclosures.log(Interval(-2.0, -1.0)).is_empty
    signs = (EMPTY.is_positive, EMPTY.is_nonnegative, EMPTY.is_negative, EMPTY.is_nonpositive)
    assert not any(signs)
    with pytest.raises(ValueError, match="not an interval"):
        Interval(1.0, 0.0)
    with pytest.raises(ValueError, match="not an interval"):
        Interval(float("nan"), 0.0)
    with pytest.raises(ValueError, match="nan"):
        Interval.exact(float("nan"))


def test_constants_from_rationals() -> None:
    tenth = Interval.exact(Fraction(1, 10))
    assert tenth.lo < Fraction(1, 10) < tenth.hi
    assert tenth.hi == nextafter(tenth.lo, inf)
    assert Interval.exact(Fraction(1, 4)).is_point
    assert Interval.exact(10**400) == Interval(MAX, inf)
    assert Interval.exact(-(10**400)) == Interval(-inf, -MAX)
    assert Interval.exact(Fraction(1, 10**400)) == Interval(0.0, TINY)
    assert Interval.between(Fraction(1, 3), Fraction(2, 3)).contains(Fraction(1, 3))


def test_middle_and_halves() -> None:
    rng = random.Random(3)
    for _ in range(2000):
        x = any_interval(rng)
        assert x.contains(x.mid)
        assert abs(x.mid) < inf
        left, right = x.split()
        assert left.hull(right) == x
        assert left.hi == right.lo


def test_integer_powers() -> None:
    assert enclosures.power_int(Interval(-2.0, 1.0), 2) == Interval(0.0, 4.0)
    assert enclosures.power_int(Interval(-2.0, 1.0), 3) == Interval(-8.0, 1.0)
    assert enclosures.power_int(Interval(-2.0, 1.0), 0) == ONE
    assert enclosures.power_int(Interval(2.0, 4.0), -2) == Interval(1 / 16, 1 / 4)
    assert enclosures.power_int(Interval(-inf, 3.0), 2) == NONNEGATIVE
    rng = random.Random(4)
    for _ in range(3000):
        x, k = any_interval(rng, lambda r: r.uniform(-50, 50)), rng.randint(0, 9)
        assert enclosures.power_int(x, k).contains(member(rng, x) ** k)


EXACT_POINTS = {
    "exp": (0.0, 1.0),
    "expm1": (0.0, 0.0),
    "log": (1.0, 0.0),
    "log1p": (0.0, 0.0),
    "log2": (0.125, -3.0),
    "log10": (1.0, 0.0),
    "sigmoid": (0.0, 0.5),
    "tanh": (0.0, 0.0),
    "sinh": (0.0, 0.0),
    "cosh": (0.0, 1.0),
    "logcosh": (0.0, 0.0),
    "sin": (0.0, 0.0),
    "cos": (0.0, 1.0),
    "tan": (0.0, 0.0),
    "asin": (0.0, 0.0),
    "acos": (1.0, 0.0),
    "atan": (0.0, 0.0),
    "erf": (0.0, 0.0),
    "erfc": (0.0, 1.0),
    "normal_cdf": (0.0, 0.5),
    "lgamma": (2.0, 0.0),
    "i0e": (0.0, 1.0),
    "i1e": (0.0, 0.0),
    "relu": (-3.0, 0.0),
    "sqrt": (9.0, 3.0),
    "abs": (-3.0, 3.0),
}


@pytest.mark.parametrize("name", EXACT_POINTS)
def test_exact_values_stay_exact(name: str) -> None:
    x, y = EXACT_POINTS[name]
    assert PRIMITIVES[name].enclose(Interval.exact(x)) == Interval.exact(y)


UNARY = {
    "exp": (-800, 720),
    "expm1": (-60, 720),
    "log": (0, 1e6),
    "log1p": (-1, 1e6),
    "log2": (0, 1e6),
    "log10": (0, 1e6),
    "log1mexp": (-800, 0),
    "sigmoid": (-800, 60),
    "logsigmoid": (-60, 800),
    "softplus": (-800, 60),
    "tanh": (-30, 30),
    "sinh": (-700, 700),
    "cosh": (-700, 700),
    "logcosh": (-60, 60),
    "sin": (-40, 40),
    "cos": (-40, 40),
    "tan": (-4, 4),
    "asin": (-1, 1),
    "acos": (-1, 1),
    "atan": (-1e3, 1e3),
    "erf": (-7, 7),
    "erfc": (-7, 25),
    "normal_cdf": (-30, 9),
    "log_normal_cdf": (-60, 30),
    "inverse_mills": (-60, 30),
    "lgamma": (0, 40),
    "digamma": (0, 40),
    "trigamma": (0, 40),
    "i0e": (-60, 60),
    "i1e": (-60, 60),
}


def _reference(name: str, x: float) -> Any:
    return PRIMITIVES[name].reference(mpmath.mp, mpmath.mpf(x))


@pytest.mark.parametrize("name", UNARY)
def test_elementary_enclosures_contain_sixty_digit_values(name: str) -> None:
    """End points and inner points of random boxes, of all sizes; and points are at most four ulps wide."""
    rng = random.Random(name)
    low, high = UNARY[name]
    enclose = PRIMITIVES[name].enclose
    slow = name in ("lgamma", "digamma", "trigamma", "i0e", "i1e", "inverse_mills", "log_normal_cdf", "erfc")
    with mpmath.workdps(60):
        for _ in range(150 if slow else 500):
            middle = rng.uniform(low, high) if rng.random() < 0.6 else rng.gauss(0, 1) * 10 ** rng.uniform(-8, 0)
            radius = abs(rng.gauss(0, 1)) * 10 ** rng.uniform(-9, 0.5)
            lo, hi = max(middle - radius, low), min(middle + radius, high)
            if not (low < lo <= hi < high):
                continue
            box = enclose(Interval(lo, hi))
            for x in (lo, hi, min(max(rng.uniform(lo, hi), lo), hi)):
                value = _reference(name, x)
                assert box.lo <= value <= box.hi, (name, lo, hi, x, box, value)
            point = enclose(Interval(lo, lo))
            value = _reference(name, lo)
            assert point.lo <= value <= point.hi, (name, lo, point, value)
            assert point.hi - point.lo <= 4 * ulp(max(abs(point.lo), abs(point.hi))), (name, lo, point)


def test_trigonometric_extremes_are_found() -> None:
    assert enclosures.sin(Interval(0.0, 3.0)).hi == 1.0
    assert enclosures.sin(Interval(0.0, 3.0)).lo == 0.0
    assert enclosures.cos(Interval(-1.0, 4.0)) == Interval(-1.0, 1.0)
    assert enclosures.sin(Interval(1e20, 1e20 + 1e5)) == Interval(-1.0, 1.0)
    assert enclosures.sin(Interval(1e300, 1e300)).width < 1e-15
    assert enclosures.tan(Interval(1.0, 2.0)) == WHOLE
    assert enclosures.sin(WHOLE) == Interval(-1.0, 1.0)


def test_unbounded_boxes_have_finite_ranges() -> None:
    assert PRIMITIVES["sigmoid"].enclose(WHOLE) == Interval(0.0, 1.0)
    assert PRIMITIVES["tanh"].enclose(WHOLE) == Interval(-1.0, 1.0)
    assert PRIMITIVES["softplus"].enclose(WHOLE) == NONNEGATIVE
    assert PRIMITIVES["exp"].enclose(WHOLE) == NONNEGATIVE
    assert PRIMITIVES["logcosh"].enclose(WHOLE) == NONNEGATIVE
    assert PRIMITIVES["log_normal_cdf"].enclose(WHOLE) == Interval(-inf, 0.0)


def test_far_tails_of_the_normal_family() -> None:
    """Where Arb's balls are replaced by inequalities."""
    with mpmath.workdps(60):
        for x in (-999.0, -1001.0, -2e4):
            for name in ("log_normal_cdf", "inverse_mills"):
                value = PRIMITIVES[name].enclose(Interval.exact(x))
                assert value.lo <= _reference(name, x) <= value.hi
    for x in (-1e9, -1e150):
        z = Fraction(x)
        log_cdf = PRIMITIVES["log_normal_cdf"].enclose(Interval.exact(x))
        assert log_cdf.lo <= -z * z / 2 - 50
        assert log_cdf.hi >= -z * z / 2 - 1000
        assert PRIMITIVES["inverse_mills"].enclose(Interval.exact(x)).contains(-z)
    for x in (2e8, 1e12):
        for name, first in (("i0e", 1.0), ("i1e", -3.0)):
            box = PRIMITIVES[name].enclose(Interval.exact(x))
            with mpmath.workdps(60):
                z = mpmath.mpf(x)
                second = 4.5 if name == "i0e" else -7.5
                value = (1 + first / (8 * z) + second / (8 * z) ** 2) / mpmath.sqrt(2 * mpmath.pi * z)
                assert box.lo <= value <= box.hi


def test_precision_setting_of_flint_is_left_alone() -> None:
    import flint

    before = flint.ctx.prec
    enclosures.at_point.cache_clear()
    enclosures.exp(Interval(0.123, 0.456))
    assert flint.ctx.prec == before
