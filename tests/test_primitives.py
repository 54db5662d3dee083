"""One audit over the registry: every facet of every record is held against the others and against mpmath."""

from __future__ import annotations

import itertools
import math
import random
import string
import subprocess
import sys
from fractions import Fraction
from math import inf, isfinite, isnan
from typing import Any

import mpmath
import numpy as np
import pytest

from lossdsl.primitives import CXX_HELPERS, FUNCTIONS, HEADS, PRIMITIVES, TORCH_HELPERS, TRITON_HELPERS, helper_sources
from lossdsl.primitives.algebra import IntervalAlgebra, MpmathAlgebra, NumpyAlgebra, SympyAlgebra
from lossdsl.primitives.interval import WHOLE, Interval
from lossdsl.primitives.record import UNAVAILABLE, Curvature, Dtype, Head, Monotone, Primitive

mp = mpmath.mp
NUMPY, BOXES, MPMATH = NumpyAlgebra(), IntervalAlgebra(), MpmathAlgebra(mp)

ALL = [pytest.param(p, id=n) for n, p in PRIMITIVES.items()]
REAL_VALUED = [
    pytest.param(p, id=n) for n, p in PRIMITIVES.items() if p.result is Dtype.REAL and n not in ("real", "int")
]


def _inputs(p: Primitive, point: tuple[float, ...]) -> list[Any]:
    """The sample as the dtypes that the record accepts."""
    kinds = {Dtype.REAL: np.float64, Dtype.INT: np.int64, Dtype.BOOL: np.bool_}
    return [kinds[d](x) for d, x in zip(p.accepts, point, strict=True)]


def _numpy(p: Primitive, point: tuple[float, ...]) -> float:
    return float(p.numpy(*_inputs(p, point)))


def _mp(p: Primitive, point: tuple[float, ...]) -> Any:
    values = [mp.mpf(x) if d is Dtype.REAL else int(x) for d, x in zip(p.accepts, point, strict=True)]
    return p.reference(mp, *values)


def _partial(p: Primitive, k: int, point: tuple[float, ...]) -> float:
    formula = p.partials[k]
    if formula is None:
        return 0.0
    with np.errstate(all="ignore"):
        return float(formula(NUMPY, *_inputs(p, point)))


def _box(point: tuple[float, ...]) -> tuple[Interval, ...]:
    return tuple(Interval(x, x) for x in point)


def _near(value: float, truth: Any, rtol: float, atol: float = 1e-300) -> bool:
    """Equal as numbers, infinities and nan included."""
    expected = float(truth)
    if isnan(expected) or isnan(value):
        return isnan(expected) and isnan(value)
    if not isfinite(expected) or not isfinite(value):
        return value == expected
    return abs(value - expected) <= rtol * abs(expected) + atol


def _smooth(p: Primitive, point: tuple[float, ...]) -> bool:
    """Away from kinks by 1e-3, finite, inside the domain."""
    if not all(isfinite(x) for x in point) or not p.defined(*_box(point)):
        return False
    with np.errstate(all="ignore"):
        return all(abs(float(k.surface(NUMPY, *_inputs(p, point)))) > 1e-3 for k in p.kinks)


def _integer(p: Primitive, kind: Dtype, rng: random.Random) -> float:
    if kind is Dtype.BOOL:
        return float(rng.randint(0, 1))
    return float(rng.randint(-3, 6) if p.name == "powi" else rng.randint(1, 4))


def _random_points(p: Primitive, count: int, seed: int = 0) -> list[tuple[float, ...]]:
    """Points of the domain, of several magnitudes, away from kinks."""
    rng = random.Random(f"{p.name}{seed}")
    points: list[tuple[float, ...]] = []
    for _ in range(count * 40):
        scale = 10.0 ** rng.uniform(-1.5, 1.2)
        point = tuple(rng.gauss(0, scale) if d is Dtype.REAL else _integer(p, d, rng) for d in p.accepts)
        if rng.random() < 0.5:
            point = tuple(abs(x) if d is Dtype.REAL else x for x, d in zip(point, p.accepts, strict=True))
        if _smooth(p, point) and isfinite(_numpy(p, point)):
            points.append(point)
        if len(points) == count:
            break
    return points


# ------------------------------------------------------------------------------------------------ shape of records


@pytest.mark.parametrize("p", ALL)
def test_record_is_consistent(p: Primitive) -> None:
    n = len(p.arguments)
    assert len(p.accepts) == n
    assert len(p.partials) == n
    assert p.samples
    assert all(len(s) == n for s in p.samples)
    assert p.flops >= (0 if n == 0 else 1)
    slots = {
        f
        for text in (p.torch, p.torch_ad, p.triton, p.cxx, p.latex)
        for _, f, _, _ in string.Formatter().parse(text)
        if f
    }
    assert slots <= {str(i) for i in range(n)}
    for text in (p.torch, p.torch_ad, p.triton, p.cxx, p.latex):
        if text != UNAVAILABLE:
            assert {f for _, f, _, _ in string.Formatter().parse(text) if f} == {str(i) for i in range(n)}
    helper_sources((p.torch, p.torch_ad), TORCH_HELPERS)
    helper_sources((p.triton,), TRITON_HELPERS)
    helper_sources((p.cxx,), CXX_HELPERS)
    for partial, kind in zip(p.partials, p.accepts, strict=True):
        if kind is not Dtype.REAL or p.result is not Dtype.REAL:
            assert partial is None


def test_registry_names() -> None:
    for name, p in (*PRIMITIVES.items(), *HEADS.items()):
        assert p.name == name
    for f in FUNCTIONS.values():
        assert f.primitive in PRIMITIVES
        assert f.arity == len(PRIMITIVES[f.primitive].arguments)
    documented = {
        "abs", "sign", "sqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "log1mexp", "sin", "cos", "tan",
        "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "floor", "ceil", "relu", "clamp", "sigmoid",
        "logsigmoid", "softplus", "logaddexp", "logcosh", "xlogy", "lgamma", "digamma", "erf", "erfc",
        "normal_cdf", "log_normal_cdf", "i0e", "min", "max", "logsumexp",
    }  # fmt: skip
    assert documented <= set(FUNCTIONS)


def test_every_used_helper_exists_and_every_helper_is_used() -> None:
    torch_texts = [t for p in PRIMITIVES.values() for t in (p.torch, p.torch_ad)]
    triton_texts = [p.triton for p in PRIMITIVES.values()] + [h.triton for h in HEADS.values()]
    assert helper_sources(torch_texts, TORCH_HELPERS) == list(TORCH_HELPERS.values())
    assert helper_sources(triton_texts, TRITON_HELPERS) == list(TRITON_HELPERS.values())
    cxx_texts = (
        [p.cxx for p in PRIMITIVES.values()]
        + [h.cxx for h in HEADS.values()]
        + ["_h_lowest _h_merge_lanes _h_nan _h_pick _h_put _h_settle"]  # of the text around them
        + ["_h_absorb_in _h_factor _h_fetch _h_level _h_no _h_room _h_yes"]
    )
    assert helper_sources(cxx_texts, CXX_HELPERS) == list(CXX_HELPERS.values())
    with pytest.raises(KeyError):
        helper_sources(["_h_unheard_of({0})"], TORCH_HELPERS)


def test_import_is_light() -> None:
    heavy = ("sympy", "mpmath", "torch", "triton", "flint")
    code = f"import sys, lossdsl.primitives; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("p", ALL)
def test_numpy_equals_reference(p: Primitive) -> None:
    with mp.workdps(60):
        for point in (*p.samples, *_random_points(p, 40)):
            value, truth = _numpy(p, point), _mp(p, point)
            if p.name in ("sin", "cos", "tan") and not isfinite(point[0]):
                continue
            scale = 1e-14 if p.name in ("lgamma", "digamma", "polygamma", "trigamma", "logcosh") else 0.0
            assert _near(value, truth, 4e-14, scale or 1e-300), (p.name, point, value, truth)


@pytest.mark.parametrize("p", [q for q in ALL if q.values[0].definition is not None])
def test_definition_equals_reference(p: Primitive) -> None:
    assert p.definition is not None
    with mp.workdps(200):
        for point in _random_points(p, 40):
            values = [mp.mpf(x) for x in point]
            assert mp.almosteq(p.definition(MPMATH, *values), p.reference(mp, *values), 1e-30, 1e-60), (p.name, point)


@pytest.mark.parametrize("p", ALL)
def test_sympy_equals_reference(p: Primitive) -> None:
    import sympy as sp

    for point in _random_points(p, 6, seed=5):
        values = [sp.Rational(Fraction(x)) for x in point]
        value = sp.N(p.sympy(sp, *values), 40)
        with mp.workdps(40):
            assert mp.almosteq(mp.mpf(str(value)), _mp(p, point), 1e-25, 1e-60), (p.name, point, value)


# ------------------------------------------------------------------------------------------------ derivatives


@pytest.mark.parametrize("p", REAL_VALUED)
def test_partials_equal_numeric_derivatives(p: Primitive) -> None:
    with mp.workdps(60):
        for point in _random_points(p, 30, seed=1):
            for k, kind in enumerate(p.accepts):
                if kind is not Dtype.REAL:
                    continue

                def along(t: Any, k: int = k, point: tuple[float, ...] = point) -> Any:
                    values = [mp.mpf(x) if d is Dtype.REAL else int(x) for d, x in zip(p.accepts, point, strict=True)]
                    values[k] = t
                    return p.reference(mp, *values)

                truth = mp.diff(along, mp.mpf(point[k]), h=mp.mpf(10) ** -20)
                value = _partial(p, k, point)
                assert _near(value, truth, 1e-12, 1e-15 if p.name == "tan" else 1e-30), (
                    p.name,
                    k,
                    point,
                    value,
                    truth,
                )


@pytest.mark.parametrize("p", REAL_VALUED)
def test_partials_equal_sympys_derivative(p: Primitive) -> None:
    import sympy as sp

    symbols = sp.symbols(f"x:{len(p.arguments)}", real=True)
    symbols = [s if d is Dtype.REAL else None for s, d in zip(symbols, p.accepts, strict=True)]
    for point in _random_points(p, 3, seed=2):
        values = [sp.Rational(Fraction(x)) for x in point]
        here = [s if s is not None else v for s, v in zip(symbols, values, strict=True)]
        expression = p.sympy(sp, *here)
        for k, s in enumerate(symbols):
            if s is None:
                continue
            truth = expression.diff(s).subs({a: v for a, v in zip(symbols, values, strict=True) if a is not None})
            assert _near(_partial(p, k, point), sp.N(truth.doit(), 30), 1e-11, 1e-200), (p.name, k, point)


@pytest.mark.parametrize("p", REAL_VALUED)
def test_partials_are_finite_where_the_value_is(p: Primitive) -> None:
    """At kinks, at the ends of domains, at infinity where the limit is finite, at large arguments."""
    for point in p.samples:
        value = _numpy(p, point)
        if not isfinite(value):
            continue
        for k, kind in enumerate(p.accepts):
            if kind is Dtype.REAL:
                d = _partial(p, k, point)
                assert isfinite(d), (p.name, k, point, value, d)
                if not isfinite(point[k]) and len(p.arguments) == 1:
                    assert d == 0, (p.name, point, d)


KINKS = {
    # (primitive, point): partials there, as the language documents them
    ("abs", (0.0,)): (0.0,),
    ("relu", (0.0,)): (0.0,),
    ("sqrt", (0.0,)): (0.0,),
    ("sign", (0.0,)): (0.0,),
    ("clamp", (-1.0, -1.0, 1.0)): (1.0, 0.0, 0.0),
    ("clamp", (1.0, -1.0, 1.0)): (1.0, 0.0, 0.0),
    ("clamp", (2.0, -1.0, 1.0)): (0.0, 0.0, 1.0),
    ("clamp", (-2.0, -1.0, 1.0)): (0.0, 1.0, 0.0),
    ("clamp", (0.0, 2.0, 1.0)): (0.0, 0.0, 1.0),
    ("max2", (1.5, 1.5)): (1.0, 0.0),
    ("min2", (1.5, 1.5)): (1.0, 0.0),
    ("pow", (0.0, 0.0)): (0.0, 0.0),
    ("pow", (0.0, 0.5)): (0.0, 0.0),
    ("pow", (0.0, 1.0)): (1.0, 0.0),
    ("pow", (0.0, 2.0)): (0.0, 0.0),
    ("powi", (0.0, 0.0)): (0.0, 0.0),
    ("powi", (0.0, 1.0)): (1.0, 0.0),
    ("powi", (0.0, 2.0)): (0.0, 0.0),
    ("xlogy", (0.0, 0.0)): (0.0, 0.0),
    ("xlogy", (0.0, 1.0)): (0.0, 0.0),
    ("xlogy", (0.0, 2.0)): (math.log(2.0), 0.0),
    ("logaddexp", (-inf, -inf)): (0.0, 0.0),
    ("logaddexp", (-inf, 1.0)): (0.0, 1.0),
    ("expdiff", (-inf, -inf)): (0.0, 0.0),
    ("softplus", (-inf,)): (0.0,),
    ("softplus", (0.0,)): (0.5,),
    ("logcosh", (0.0,)): (0.0,),
    ("asin", (1.0,)): (0.0,),
    ("acos", (-1.0,)): (0.0,),
    ("atan2", (0.0, 0.0)): (0.0, 0.0),
    ("i0e", (0.0,)): (0.0,),
    ("i1e", (0.0,)): (0.5,),
}


@pytest.mark.parametrize(("name", "point"), KINKS)
def test_documented_derivatives_at_kinks(name: str, point: tuple[float, ...]) -> None:
    p = PRIMITIVES[name]
    assert tuple(_partial(p, k, point) for k in range(len(point))) == pytest.approx(KINKS[name, point], abs=1e-15)


def test_log_at_zero() -> None:
    assert _numpy(PRIMITIVES["log"], (0.0,)) == -inf
    assert _partial(PRIMITIVES["log"], 0, (0.0,)) == inf
    assert _numpy(PRIMITIVES["pow"], (0.0, 0.0)) == 1.0
    assert _numpy(PRIMITIVES["xlogy"], (0.0, 0.0)) == 0.0
    assert isnan(_numpy(PRIMITIVES["xlogy"], (0.0, math.nan)))


@pytest.mark.parametrize("p", [q for q in REAL_VALUED if q.values[0].kinks])
def test_samples_hit_every_kink(p: Primitive) -> None:
    for kink in p.kinks:
        on = [
            s
            for s in p.samples
            if all(isfinite(x) for x in s) and abs(float(kink.surface(NUMPY, *_inputs(p, s)))) < 1e-12
        ]
        assert on, (p.name, kink.note)


# ------------------------------------------------------------------------------------------------ facets on boxes


def _random_box(p: Primitive, rng: random.Random) -> tuple[Interval, ...]:
    box = []
    for d in p.accepts:
        if d is not Dtype.REAL:
            k = _integer(p, d, rng)
            box.append(Interval(k, k))
            continue
        middle = rng.gauss(0, 1) * 10 ** rng.uniform(-1, 1)
        radius = abs(rng.gauss(0, 1)) * 10 ** rng.uniform(-3, 0.7) if rng.random() < 0.8 else 0.0
        lo, hi = middle - radius, middle + radius
        match rng.randrange(8):
            case 0:
                lo, hi = 0.0, abs(hi)
            case 1:
                lo, hi = -abs(lo), 0.0
            case 2:
                lo, hi = abs(lo) / 10, abs(lo) / 10 + radius
            case 3:
                lo, hi = -1.0, 1.0
            case 4:
                lo = -inf if rng.random() < 0.5 else lo
                hi = inf if rng.random() < 0.5 else hi
        box.append(Interval(min(lo, hi), max(lo, hi)))
    return tuple(box)


def _inside(box: tuple[Interval, ...], rng: random.Random, corners: bool = True) -> tuple[float, ...]:
    point = []
    for x in box:
        lo, hi = max(x.lo, -60.0), min(x.hi, 60.0)
        if lo > hi:
            lo = hi = x.lo if isfinite(x.lo) else x.hi
        point.append(rng.choice((lo, hi)) if corners and rng.random() < 0.3 else min(max(rng.uniform(lo, hi), lo), hi))
    return tuple(point)


SLOW = ("lgamma", "digamma", "trigamma", "polygamma", "i0e", "i1e", "inverse_mills", "log_normal_cdf")


@pytest.mark.parametrize("p", ALL)
def test_enclosures_contain_samples(p: Primitive) -> None:
    rng = random.Random(p.name)
    checked = 0
    with mp.workdps(60):
        for _ in range(120 if p.name in SLOW else 500):
            box = _random_box(p, rng)
            hull = p.enclose(*box)
            for _ in range(4):
                point = _inside(box, rng)
                if not p.defined(*_box(point)):
                    continue
                value = _mp(p, point)
                assert hull.lo <= value <= hull.hi, (p.name, box, point, hull, value)
                checked += 1
    assert checked > 100


@pytest.mark.parametrize("p", ALL)
def test_enclosures_contain_the_limits(p: Primitive) -> None:
    """A box that reaches a sample, infinite ones included, contains the value there."""
    rng = random.Random(p.name + "l")
    for point in p.samples:
        value = _numpy(p, point)
        if isnan(value):
            continue
        for _ in range(10):
            box = tuple(
                Interval(x, x) if d is not Dtype.REAL else Interval(min(x, y), max(x, y))
                for x, d in zip(point, p.accepts, strict=True)
                for y in (rng.gauss(0, 3),)
            )
            hull = p.enclose(*box)
            slack = 1e-12 * (1 + abs(value)) if isfinite(value) else 0.0
            assert hull.lo - slack <= value <= hull.hi + slack, (p.name, point, box, hull, value)


@pytest.mark.parametrize("p", REAL_VALUED)
def test_partials_over_boxes_contain_partials_at_points(p: Primitive) -> None:
    """The formulas in the interval algebra, which is how the verifier reads derivatives."""
    rng = random.Random(p.name + "d")
    for _ in range(100):
        box = _random_box(p, rng)
        for k, formula in enumerate(p.partials):
            if formula is None:
                continue
            hull = formula(BOXES, *box)
            hull = hull if isinstance(hull, Interval) else Interval.exact(hull)
            for _ in range(3):
                point = _inside(box, rng)
                if not p.defined(*_box(point)):
                    continue
                d = _partial(p, k, point)
                if isfinite(d):
                    slack = 1e-9 * abs(d) + 1e-13
                    assert hull.lo - slack <= d <= hull.hi + slack, (p.name, k, box, point, hull, d)


@pytest.mark.parametrize("p", REAL_VALUED)
def test_defined_and_regular_boxes_have_finite_samples(p: Primitive) -> None:
    rng = random.Random(p.name + "r")
    seen = 0
    for _ in range(300):
        box = _random_box(p, rng)
        for _ in range(3):
            point = _inside(box, rng)
            if p.defined(*box):
                seen += 1
                assert isfinite(_numpy(p, point)), (p.name, box, point)
            if p.regular(*box) and p.defined(*box):
                for k, kind in enumerate(p.accepts):
                    if kind is Dtype.REAL:
                        d = _partial(p, k, point)
                        assert isfinite(d), (p.name, box, point)
                        assert abs(d) < 3e38, (p.name, box, point)
    assert seen > 0


@pytest.mark.parametrize("p", ALL)
def test_monotonicity(p: Primitive) -> None:
    rng = random.Random(p.name + "m")
    known = 0
    with mp.workdps(60):
        for _ in range(60 if p.name in SLOW else 200):
            box = _random_box(p, rng)
            directions = p.monotone(*box)
            assert len(directions) == len(p.arguments)
            for k, direction in enumerate(directions):
                if direction is Monotone.NEITHER or p.accepts[k] is not Dtype.REAL:
                    continue
                for _ in range(4):
                    a = _inside(box, rng)
                    b = (*a[:k], _inside(box, rng)[k], *a[k + 1 :])
                    if a[k] > b[k]:
                        a, b = b, a
                    if not (p.defined(*_box(a)) and p.defined(*_box(b))):
                        continue
                    known += 1
                    low, high = _mp(p, a), _mp(p, b)
                    if direction is not Monotone.DECREASING:
                        assert low <= high, (p.name, k, box, a, b)
                    if direction is not Monotone.INCREASING:
                        assert low >= high, (p.name, k, box, a, b)
    if p.accepts and all(d is Dtype.REAL for d in p.accepts):
        assert known > 0, "the facet never says anything"


@pytest.mark.parametrize("p", ALL)
def test_curvature_against_chords(p: Primitive) -> None:
    """60-digit chords, jointly in the arguments that vary."""
    rng = random.Random(p.name + "c")
    with mp.workdps(60):
        for _ in range(80 if p.name in SLOW else 300):
            box = _random_box(p, rng)
            varying = tuple(d is Dtype.REAL and rng.random() < 0.7 for d in p.accepts)
            curvature = p.curvature(*box, varying=varying)
            if all(varying):
                assert p.curvature(*box) is curvature
            if curvature is Curvature.UNKNOWN:
                continue
            for _ in range(4):
                a, b = _inside(box, rng), _inside(box, rng)
                b = tuple(y if v else x for x, y, v in zip(a, b, varying, strict=True))
                if not (p.defined(*_box(a)) and p.defined(*_box(b))):
                    continue
                t = mp.mpf(rng.randint(1, 15)) / 16
                middle = [
                    t * mp.mpf(x) + (1 - t) * mp.mpf(y) if d is Dtype.REAL else int(x)
                    for x, y, d in zip(a, b, p.accepts, strict=True)
                ]
                chord = t * _mp(p, a) + (1 - t) * _mp(p, b)
                gap = chord - p.reference(mp, *middle)
                slack = mp.mpf(10) ** -50 * (1 + abs(chord))
                if curvature is not Curvature.CONCAVE:
                    assert gap >= -slack, (p.name, box, varying, a, b, curvature)
                if curvature is not Curvature.CONVEX:
                    assert gap <= slack, (p.name, box, varying, a, b, curvature)


@pytest.mark.parametrize(
    ("name", "box", "expected"),
    [
        ("mul", ((2.0, 2.0), (-1.0, 1.0)), Curvature.AFFINE),
        ("mul", ((0.0, 2.0), (0.0, 1.0)), Curvature.UNKNOWN),
        ("div", ((1.0, 1.0), (0.5, 2.0)), Curvature.CONVEX),
        ("div", ((1.0, 1.0), (-0.5, 2.0)), Curvature.UNKNOWN),
        ("div", ((0.0, 1.0), (0.5, 2.0)), Curvature.UNKNOWN),
        ("pow", ((0.0, 4.0), (0.5, 0.5)), Curvature.CONCAVE),
        ("pow", ((0.0, 4.0), (2.5, 2.5)), Curvature.CONVEX),
        ("pow", ((-1.0, 4.0), (2.5, 2.5)), Curvature.UNKNOWN),
        ("powi", ((-1.0, 1.0), (3.0, 3.0)), Curvature.UNKNOWN),
        ("powi", ((-1.0, 1.0), (2.0, 2.0)), Curvature.CONVEX),
        ("powi", ((-1.0, 1.0), (-2.0, -2.0)), Curvature.UNKNOWN),
        ("max2", ((-1.0, 1.0), (-1.0, 1.0)), Curvature.CONVEX),
        ("min2", ((-1.0, 1.0), (-1.0, 1.0)), Curvature.CONCAVE),
        ("logaddexp", ((-1.0, 1.0), (-1.0, 1.0)), Curvature.CONVEX),
        ("xlogy", ((0.1, 1.0), (0.1, 1.0)), Curvature.UNKNOWN),
        ("sigmoid", ((-inf, 0.0),), Curvature.CONVEX),
        ("sigmoid", ((-1.0, 1.0),), Curvature.UNKNOWN),
        ("floor", ((0.25, 0.75),), Curvature.AFFINE),
        ("i0e", ((-1.0, 1.0),), Curvature.UNKNOWN),
    ],
)
def test_curvature_says_what_it_should(name: str, box: tuple[tuple[float, float], ...], expected: Curvature) -> None:
    assert PRIMITIVES[name].curvature(*(Interval(*x) for x in box)) is expected


def test_constants_of_unknown_value_do_not_vary() -> None:
    weights, x = Interval(0.0, 3.0), Interval(-5.0, 5.0)
    assert PRIMITIVES["mul"].curvature(weights, x, varying=(False, True)) is Curvature.AFFINE
    assert (
        PRIMITIVES["pow"].curvature(Interval(0.0, 5.0), Interval(1.0, 2.0), varying=(True, False)) is Curvature.CONVEX
    )
    assert (
        PRIMITIVES["pow"].curvature(Interval(0.0, 5.0), Interval(0.5, 2.0), varying=(True, False)) is Curvature.UNKNOWN
    )
    assert PRIMITIVES["sin"].curvature(WHOLE, varying=(False,)) is Curvature.AFFINE


# ------------------------------------------------------------------------------------------------ algebras


def test_interval_conditions_are_three_valued() -> None:
    a, b = Interval(0.0, 1.0), Interval(1.0, 2.0)
    assert BOXES.lt(a, b) is None
    assert BOXES.le(a, b) is True
    assert BOXES.lt(b, a) is False
    assert BOXES.eq(a, b) is None
    assert BOXES.eq(a, Interval(3.0, 4.0)) is False
    assert BOXES.both(None, False) is False
    assert BOXES.either(None, True) is True
    assert BOXES.select(None, a, b) == Interval(0.0, 2.0)
    with pytest.raises(AttributeError, match="no primitive"):
        BOXES.unheard_of(a)


def test_sympy_algebra_builds_ordinary_expressions() -> None:
    import sympy as sp

    o = SympyAlgebra()
    x = sp.Symbol("x", real=True)
    partial = PRIMITIVES["softplus"].partials[0]
    assert partial is not None
    assert sp.simplify(partial(o, x) - sp.diff(sp.log(1 + sp.exp(x)), x)) == 0
    assert o.number(Fraction(1, 3)) == sp.Rational(1, 3)


# ------------------------------------------------------------------------------------------------ heads


HEAD_CASES = [pytest.param(h, id=n) for n, h in HEADS.items()]


def _fold(h: Head, values: list[float], order: list[int]) -> float:
    """Fold by merging random neighbours, from the identity."""
    index = itertools.count()
    states = [
        h.lift(NUMPY, (np.float64(v), float(next(index)))) if h.name.startswith("arg") else h.lift(NUMPY, np.float64(v))
        for v in values
    ]
    states = [tuple(np.float64(x) for x in h.identity), *states]
    for k in order:
        if len(states) == 1:
            break
        at = k % (len(states) - 1)
        with np.errstate(all="ignore"):
            states[at : at + 2] = [h.merge(NUMPY, states[at], states[at + 1])]
    assert len(states) == 1
    with np.errstate(all="ignore"):
        return float(h.finish(NUMPY, states[0]))


def _head_values(h: Head, rng: random.Random) -> list[float]:
    n = rng.randint(1, 9)
    if h.accepts is Dtype.BOOL:
        return [float(rng.random() < 0.5) for _ in range(n)]
    values = [rng.choice((rng.gauss(0, 3), rng.gauss(0, 300), float(rng.randint(-2, 2)))) for _ in range(n)]
    if h.name == "logsumexp" and rng.random() < 0.5:
        values[rng.randrange(n)] = -inf
    if h.name == "prod":
        values = [v / 100 for v in values]
    return values


@pytest.mark.parametrize("h", HEAD_CASES)
def test_folds_in_any_order_give_the_value(h: Head) -> None:
    rng = random.Random(h.name)
    for _ in range(200):
        values = _head_values(h, rng)
        array = np.asarray(values, dtype=bool if h.accepts is Dtype.BOOL else np.float64)
        truth = float(h.numpy(array, (0,)))
        for _ in range(3):
            folded = _fold(h, values, [rng.randrange(100) for _ in range(len(values) + 1)])
            if h.associative:
                assert folded == truth, (h.name, values)
            else:
                total = sum(abs(v) for v in values if isfinite(v)) if h.name == "sum" else 0.0
                assert _near(folded, truth, 1e-12, 1e-13 * (1 + total)), (h.name, values, folded, truth)


@pytest.mark.parametrize("h", HEAD_CASES)
def test_empty_folds(h: Head) -> None:
    kind = bool if h.accepts is Dtype.BOOL else np.float64
    empty = np.zeros((3, 0), dtype=kind)
    if h.empty is None:
        if not h.name.startswith("arg"):
            assert np.isnan(h.numpy(empty, (1,))).all()
        return
    assert (np.asarray(h.numpy(empty, (1,)), dtype=np.float64) == float(h.empty)).all()
    with np.errstate(all="ignore"):
        assert float(h.finish(NUMPY, tuple(np.float64(x) for x in h.identity))) == float(h.empty)
        twice = h.merge(NUMPY, *[tuple(np.float64(x) for x in h.identity)] * 2)
        assert float(h.finish(NUMPY, twice)) == float(h.empty)


@pytest.mark.parametrize("h", HEAD_CASES)
def test_padding_changes_nothing(h: Head) -> None:
    rng = random.Random(h.name + "p")
    for _ in range(50):
        values = _head_values(h, rng)
        kind = bool if h.accepts is Dtype.BOOL else np.float64
        plain, padded = np.asarray(values, dtype=kind), np.asarray([*values, h.pad, h.pad], dtype=kind)
        assert _near(float(h.numpy(padded, (0,))), float(h.numpy(plain, (0,))), 1e-15)


@pytest.mark.parametrize("h", HEAD_CASES)
def test_head_enclosures(h: Head) -> None:
    rng = random.Random(h.name + "e")
    for _ in range(400):
        values = _head_values(h, rng)
        kept = [v for v in values if rng.random() < 0.8]
        masked = len(kept) < len(values)
        if not kept and h.empty is None:
            continue
        finite = [v for v in values if isfinite(v)]
        body = Interval(min(values), max(values)) if finite else Interval(-inf, -inf)
        hull = h.enclose(body, Interval.exact(float(len(values))), masked)
        array = np.asarray(kept, dtype=bool if h.accepts is Dtype.BOOL else np.float64)
        value = float(h.numpy(array, (0,)))
        slack = 1e-12 * (abs(value) if isfinite(value) else 0) + 1e-12
        assert hull.lo - slack <= value <= hull.hi + slack, (h.name, kept, len(values), body, hull, value)
    unknown = h.enclose(Interval(0.0, 1.0), Interval(0.0, inf), True)
    assert not unknown.is_empty


@pytest.mark.parametrize("h", [q for q in HEAD_CASES if q.values[0].accepts is Dtype.REAL])
def test_head_curvature_and_monotonicity(h: Head) -> None:
    rng = random.Random(h.name + "c")
    for _ in range(300):
        n = rng.randint(1, 5)
        low = rng.gauss(0, 2)
        body = Interval(low, low + abs(rng.gauss(0, 3)))
        a, b = (np.asarray([rng.uniform(body.lo, body.hi) for _ in range(n)]) for _ in range(2))
        t = rng.random()
        f = lambda v: float(h.numpy(v, (0,)))  # noqa: E731
        gap = t * f(a) + (1 - t) * f(b) - f(t * a + (1 - t) * b)
        slack = 1e-11 * (1 + abs(f(a)) + abs(f(b)))
        curvature = h.curvature(body)
        if curvature in (Curvature.CONVEX, Curvature.AFFINE):
            assert gap >= -slack, (h.name, a, b)
        if curvature in (Curvature.CONCAVE, Curvature.AFFINE):
            assert gap <= slack, (h.name, a, b)
        top = np.maximum(a, b)
        if h.monotone(body) is Monotone.INCREASING:
            assert f(top) >= f(a) - slack


def test_first_of_equal_entries_wins() -> None:
    values = np.asarray([[1.0, 3.0, 3.0], [2.0, 2.0, 0.0]])
    assert HEADS["argmax"].numpy(values, (1,)).tolist() == [1, 0]
    assert HEADS["argmin"].numpy(-values, (1,)).tolist() == [1, 0]
    assert int(HEADS["argmax"].numpy(values, (0, 1))) == 1


# ------------------------------------------------------------------------------------------------ a use of everything


def test_one_expression_uses_every_primitive() -> None:
    """The value and the interval enclosure of a sum over all primitives at one point."""
    total, box = 0.0, Interval.exact(0)
    for p in PRIMITIVES.values():
        point = next(s for s in p.samples if all(isfinite(x) for x in s) and isfinite(_numpy(p, s)))
        total += _numpy(p, point)
        box = box + p.enclose(*_box(point))
    assert box.lo - 1e-9 <= total <= box.hi + 1e-9
