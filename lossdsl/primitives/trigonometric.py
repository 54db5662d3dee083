"""Trigonometric functions and their inverses."""

from __future__ import annotations

from math import inf, pi
from typing import Any

import numpy as np

from lossdsl.primitives import enclosures
from lossdsl.primitives.facets import (
    CONCAVE,
    CONVEX,
    DECREASING,
    ENDS,
    INCREASING,
    NEITHER,
    NO_KINKS,
    PLAIN,
    R1,
    R2,
    REAL,
    UNKNOWN,
    always,
    curved,
    curved_on_sign,
    limits,
    order,
    quiet,
    unary,
    within,
)
from lossdsl.primitives.interval import WHOLE, Interval
from lossdsl.primitives.record import Curvature, Kink, Monotone, Primitive

_ANGLES = unary(*PLAIN, 0.0, 1e-9, pi / 2, pi, -pi, 10.0, -30.0, 100.0)


def _order_by_slope(slope: Interval) -> tuple[Monotone]:
    return (INCREASING if slope.lo >= 0.0 else DECREASING if slope.hi <= 0.0 else NEITHER,)


def _curvature_by_value(value: Interval) -> Curvature:
    """Of sin and cos: f'' = -f."""
    return CONCAVE if value.lo >= 0.0 else CONVEX if value.hi <= 0.0 else UNKNOWN


SIN = Primitive(
    name="sin",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: o.cos(x),),
    kinks=NO_KINKS,
    monotone=lambda x: _order_by_slope(enclosures.cos(x)),
    curvature=curved(lambda moving, x: _curvature_by_value(enclosures.sin(x))),
    enclose=enclosures.sin,
    numpy=quiet(np.sin),
    torch="torch.sin({0})",
    torch_ad="torch.sin({0})",
    triton="tl.sin({0})",
    cxx="_h_sin({0})",
    latex=r"\sin {0}",
    definition=None,
    sympy=lambda sp, x: sp.sin(x),
    reference=limits(lambda mp, x: mp.sin(x), None, None),
    samples=_ANGLES,
    accuracy=within(8),
    flops=1,
)

COS = Primitive(
    name="cos",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: -o.sin(x),),
    kinks=NO_KINKS,
    monotone=lambda x: _order_by_slope(-enclosures.sin(x)),
    curvature=curved(lambda moving, x: _curvature_by_value(enclosures.cos(x))),
    enclose=enclosures.cos,
    numpy=quiet(np.cos),
    torch="torch.cos({0})",
    torch_ad="torch.cos({0})",
    triton="tl.cos({0})",
    cxx="_h_cos({0})",
    latex=r"\cos {0}",
    definition=None,
    sympy=lambda sp, x: sp.cos(x),
    reference=limits(lambda mp, x: mp.cos(x), None, None),
    samples=_ANGLES,
    accuracy=within(8),
    flops=1,
)


def _no_pole(x: Interval) -> bool:
    return enclosures.tan(x) != WHOLE


TAN = Primitive(
    name="tan",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="cos(x) != 0",
    defined=_no_pole,
    regular=lambda x: _no_pole(x) and enclosures.tan(x).magnitude < 1e15,
    partials=(lambda o, x: 1 + o.tan(x) * o.tan(x),),
    kinks=NO_KINKS,
    monotone=lambda x: (INCREASING if _no_pole(x) else NEITHER,),
    curvature=curved(
        lambda moving, x: {CONCAVE: CONVEX, CONVEX: CONCAVE}.get(_curvature_by_value(enclosures.tan(x)), UNKNOWN)
    ),
    enclose=enclosures.tan,
    numpy=quiet(np.tan),
    torch="torch.tan({0})",
    torch_ad="torch.tan({0})",
    triton="(tl.sin({0}) / tl.cos({0}))",
    cxx="_h_tan({0})",
    latex=r"\tan {0}",
    definition=lambda o, x: o.sin(x) / o.cos(x),
    sympy=lambda sp, x: sp.tan(x),
    reference=limits(lambda mp, x: mp.tan(x), None, None),
    samples=unary(*PLAIN, 0.0, 1e-9, 10.0, -30.0),
    accuracy=within(24),
    flops=1,
)

_UNIT = unary(-1.0, -0.999, -0.5, -1e-6, 0.0, 1e-6, 0.3, 0.9, 1.0)


def _inside(x: Interval) -> bool:
    return x.lo >= -1.0 and x.hi <= 1.0


def _asin_partial(o: Any, x: Any) -> Any:
    """1 / sqrt(1 - x^2), and 0 at the ends of the domain, where it is infinite."""
    return o.select(o.eq(o.abs(x), o.number(1)), o.number(0), 1 / o.sqrt((1 - x) * (1 + x)))


ASIN = Primitive(
    name="asin",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="-1 <= x <= 1",
    defined=_inside,
    regular=_inside,
    partials=(_asin_partial,),
    kinks=(Kink(surface=lambda o, x: 1 - o.abs(x), order=0, note="asin at -1 and 1: derivative 0; the limit is inf"),),
    monotone=order(INCREASING),
    curvature=curved(lambda moving, x: curved_on_sign(CONVEX, CONCAVE)(x) if _inside(x) else UNKNOWN),
    enclose=enclosures.asin,
    numpy=quiet(np.arcsin),
    torch="torch.asin({0})",
    torch_ad="_h_asin({0})",
    triton="_h_atan2_tl({0}, tl.sqrt((1.0 - {0}) * (1.0 + {0})))",
    cxx="_h_asin({0})",
    latex=r"\arcsin {0}",
    definition=None,
    sympy=lambda sp, x: sp.asin(x),
    reference=lambda mp, x: mp.asin(x),
    samples=_UNIT,
    accuracy=within(48),
    flops=1,
)

ACOS = Primitive(
    name="acos",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="-1 <= x <= 1",
    defined=_inside,
    regular=_inside,
    partials=(lambda o, x: -_asin_partial(o, x),),
    kinks=(Kink(surface=lambda o, x: 1 - o.abs(x), order=0, note="acos at -1 and 1: derivative 0; the limit is -inf"),),
    monotone=order(DECREASING),
    curvature=curved(lambda moving, x: curved_on_sign(CONCAVE, CONVEX)(x) if _inside(x) else UNKNOWN),
    enclose=enclosures.acos,
    numpy=quiet(np.arccos),
    torch="torch.acos({0})",
    torch_ad="_h_acos({0})",
    triton="_h_atan2_tl(tl.sqrt((1.0 - {0}) * (1.0 + {0})), {0})",
    cxx="_h_acos({0})",
    latex=r"\arccos {0}",
    definition=None,
    sympy=lambda sp, x: sp.acos(x),
    reference=lambda mp, x: mp.acos(x),
    samples=_UNIT,
    accuracy=within(48),
    flops=1,
)

ATAN = Primitive(
    name="atan",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: 1 / (1 + x * x),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved_on_sign(CONCAVE, CONVEX),
    enclose=enclosures.atan,
    numpy=np.arctan,
    torch="torch.atan({0})",
    torch_ad="torch.atan({0})",
    triton="_h_atan_tl({0})",
    cxx="_h_atan({0})",
    latex=r"\arctan {0}",
    definition=None,
    sympy=lambda sp, x: sp.atan(x),
    reference=lambda mp, x: mp.atan(x),
    samples=unary(*PLAIN, 0.0, 1e-9, -1e4, 1e4, 1e15, *ENDS),
    accuracy=within(24),
    flops=1,
)


def _over_square(o: Any, numerator: Any, y: Any, x: Any) -> Any:
    """numerator / (x^2 + y^2) without overflow of the squares; 0 at the origin and at infinite points."""
    m = o.max2(o.abs(y), o.abs(x))
    u, v = x / m, y / m
    degenerate = o.either(o.eq(m, o.number(0)), o.eq(m, o.number(inf)))
    return o.select(degenerate, o.number(0), (numerator / m) / (m * (u * u + v * v)))


def _apart(y: Interval, x: Interval) -> bool:
    """Away from the cut, where atan2 jumps."""
    return x.is_positive or y.is_positive or y.is_negative


def _atan2_order(y: Interval, x: Interval) -> tuple[Monotone, Monotone]:
    if not _apart(y, x):
        return NEITHER, NEITHER
    in_y = INCREASING if x.is_nonnegative else DECREASING if x.is_nonpositive else NEITHER
    in_x = DECREASING if y.is_nonnegative else INCREASING if y.is_nonpositive else NEITHER
    return in_y, in_x


ATAN2 = Primitive(
    name="atan2",
    arguments=("y", "x"),
    accepts=R2,
    result=REAL,
    domain="",
    defined=always,
    regular=lambda y, x: x.lo >= 1e-18 or y.lo >= 1e-18 or y.hi <= -1e-18 or x.hi <= -1e-18,
    partials=(lambda o, y, x: _over_square(o, x, y, x), lambda o, y, x: -_over_square(o, y, y, x)),
    kinks=(
        Kink(
            surface=lambda o, y, x: o.select(o.le(x, o.number(0)), y, o.number(1)),
            order=-1,
            note="atan2 on the ray y = 0, x <= 0: a jump; the derivative is that of the angle, and 0 at the origin",
        ),
    ),
    monotone=_atan2_order,
    curvature=curved(UNKNOWN),
    enclose=enclosures.atan2,
    numpy=np.arctan2,
    torch="torch.atan2({0}, {1})",
    torch_ad="_h_atan2({0}, {1})",
    triton="_h_atan2_tl({0}, {1})",
    cxx="_h_atan2({0}, {1})",
    latex=r"\operatorname{{atan2}}\left({0}, {1}\right)",
    definition=None,
    sympy=lambda sp, y, x: sp.atan2(y, x),
    reference=lambda mp, y, x: mp.mpf(0) if y == 0 and x == 0 else mp.atan2(y, x),
    samples=(
        *((y, x) for y in (-2.0, -0.3, 0.4, 3.0) for x in (-1.5, -0.1, 0.2, 5.0)),
        *((0.0, 0.0), (0.0, 2.0), (0.0, -2.0), (1.0, 0.0), (-1.0, 0.0), (1e15, 1e15)),
    ),
    accuracy=within(32),
    flops=1,
)

RECORDS = (SIN, COS, TAN, ASIN, ACOS, ATAN, ATAN2)
