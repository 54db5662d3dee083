"""Arithmetic: + - * / powers, roots, integer division, conversions, and the constant pi."""

from __future__ import annotations

from math import floor, inf, log
from typing import Any

import numpy as np

from lossdsl.primitives import enclosures
from lossdsl.primitives.facets import (
    AFFINE,
    BOOL,
    CONCAVE,
    CONSTANT,
    CONVEX,
    DECREASING,
    INCREASING,
    INT,
    NEITHER,
    NO_KINKS,
    PLAIN,
    R1,
    R2,
    REAL,
    UNKNOWN,
    always,
    curved,
    exact,
    exactly_rounded,
    order,
    quiet,
    unary,
    within,
)
from lossdsl.primitives.interval import EMPTY, WHOLE, Interval
from lossdsl.primitives.record import UNAVAILABLE, Curvature, Kink, Monotone, Primitive

Moving = tuple[bool, ...]

_PAIRS = ((1.5, 2.0), (-1.5, 0.25), (0.0, 3.0), (2.0, -4.0), (-3.0, -0.5), (1e-3, 1e3), (7.0, 7.0))


def _sign_order(x: Interval) -> Monotone:
    """Monotonicity of y -> x * y."""
    if x.lo == x.hi == 0.0:
        return CONSTANT
    return INCREASING if x.is_nonnegative else DECREASING if x.is_nonpositive else NEITHER


ADD = Primitive(
    name="add",
    arguments=("a", "b"),
    accepts=R2,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, a, b: o.number(1), lambda o, a, b: o.number(1)),
    kinks=NO_KINKS,
    monotone=order(INCREASING, INCREASING),
    curvature=curved(AFFINE),
    enclose=lambda a, b: a + b,
    numpy=quiet(np.add),
    torch="({0} + {1})",
    torch_ad="({0} + {1})",
    triton="({0} + {1})",
    cxx="({0} + {1})",
    latex="{0} + {1}",
    definition=None,
    sympy=lambda sp, a, b: a + b,
    reference=lambda mp, a, b: a + b,
    samples=_PAIRS,
    accuracy=exactly_rounded,
    flops=1,
)

SUB = Primitive(
    name="sub",
    arguments=("a", "b"),
    accepts=R2,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, a, b: o.number(1), lambda o, a, b: o.number(-1)),
    kinks=NO_KINKS,
    monotone=order(INCREASING, DECREASING),
    curvature=curved(AFFINE),
    enclose=lambda a, b: a - b,
    numpy=quiet(np.subtract),
    torch="({0} - {1})",
    torch_ad="({0} - {1})",
    triton="({0} - {1})",
    cxx="({0} - {1})",
    latex="{0} - {1}",
    definition=None,
    sympy=lambda sp, a, b: a - b,
    reference=lambda mp, a, b: a - b,
    samples=_PAIRS,
    accuracy=exactly_rounded,
    flops=1,
)

MUL = Primitive(
    name="mul",
    arguments=("a", "b"),
    accepts=R2,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, a, b: b, lambda o, a, b: a),
    kinks=NO_KINKS,
    monotone=lambda a, b: (_sign_order(b), _sign_order(a)),
    curvature=curved(lambda moving, a, b: UNKNOWN if all(moving) else AFFINE),
    enclose=lambda a, b: a * b,
    numpy=quiet(np.multiply),
    torch="({0} * {1})",
    torch_ad="({0} * {1})",
    triton="({0} * {1})",
    cxx="({0} * {1})",
    latex=r"{0} \cdot {1}",
    definition=None,
    sympy=lambda sp, a, b: a * b,
    reference=lambda mp, a, b: a * b,
    samples=_PAIRS,
    accuracy=exactly_rounded,
    flops=1,
)


def _nonzero(x: Interval) -> bool:
    return x.is_positive or x.is_negative


def _div_order(a: Interval, b: Interval) -> tuple[Monotone, Monotone]:
    if not _nonzero(b):
        return NEITHER, NEITHER
    return _sign_order(b), {INCREASING: DECREASING, DECREASING: INCREASING}.get(_sign_order(a), _sign_order(a))


def _div_curvature(moving: Moving, a: Interval, b: Interval) -> Curvature:
    if not _nonzero(b) or all(moving):
        return UNKNOWN
    if moving[0]:
        return AFFINE
    if a.lo == a.hi == 0.0:
        return AFFINE
    if a.is_nonnegative:
        return CONVEX if b.is_positive else CONCAVE
    if a.is_nonpositive:
        return CONCAVE if b.is_positive else CONVEX
    return UNKNOWN


# 1/b in float32 is finite from here on; a smaller denominator makes partials that overflow
_SMALLEST_DENOMINATOR = 1e-18

DIV = Primitive(
    name="div",
    arguments=("a", "b"),
    accepts=R2,
    result=REAL,
    domain="b != 0",
    defined=lambda a, b: _nonzero(b),
    regular=lambda a, b: _nonzero(b) and b.intersect(Interval(-_SMALLEST_DENOMINATOR, _SMALLEST_DENOMINATOR)).is_empty,
    partials=(lambda o, a, b: 1 / b, lambda o, a, b: -(a / b) / b),
    kinks=NO_KINKS,
    monotone=_div_order,
    curvature=curved(_div_curvature),
    enclose=lambda a, b: a / b,
    numpy=quiet(np.true_divide),
    torch="({0} / {1})",
    torch_ad="({0} / {1})",
    triton="({0} / {1})",
    cxx="({0} / {1})",
    latex=r"\frac{{{0}}}{{{1}}}",
    definition=None,
    sympy=lambda sp, a, b: a / b,
    reference=lambda mp, a, b: a / b,
    samples=_PAIRS,
    accuracy=within(4),
    flops=1,
)

NEG = Primitive(
    name="neg",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: o.number(-1),),
    kinks=NO_KINKS,
    monotone=order(DECREASING),
    curvature=curved(AFFINE),
    enclose=lambda x: -x,
    numpy=np.negative,
    torch="(-{0})",
    torch_ad="(-{0})",
    triton="(-{0})",
    cxx="(-{0})",
    latex="-{0}",
    definition=None,
    sympy=lambda sp, x: -x,
    reference=lambda mp, x: -x,
    samples=unary(*PLAIN, 0.0),
    accuracy=exact,
    flops=1,
)

SQRT = Primitive(
    name="sqrt",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="x >= 0",
    defined=lambda x: x.is_nonnegative,
    regular=lambda x: x.is_nonnegative,
    partials=(lambda o, x: o.select(o.eq(x, o.number(0)), o.number(0), 1 / (2 * o.sqrt(x))),),
    kinks=(Kink(surface=lambda o, x: x, order=0, note="sqrt at 0: derivative 0; the limit from above is inf"),),
    monotone=order(INCREASING),
    curvature=curved(lambda moving, x: CONCAVE if x.is_nonnegative else UNKNOWN),
    enclose=lambda x: x.sqrt(),
    numpy=quiet(np.sqrt),
    torch="torch.sqrt({0})",
    torch_ad="_h_sqrt({0})",
    triton="tl.sqrt({0})",
    cxx="_h_sqrt({0})",
    latex=r"\sqrt{{{0}}}",
    definition=None,
    sympy=lambda sp, x: sp.sqrt(x),
    reference=lambda mp, x: mp.sqrt(x),
    samples=unary(0.0, 1e-8, 0.25, 1.0, 2.0, 1e6, inf),
    accuracy=within(4),
    flops=1,
)


def _powi_numpy(x: Any, k: Any) -> Any:
    return np.power(np.asarray(x, dtype=np.float64), np.asarray(k, dtype=np.float64))[()]


def _exponent(k: Interval) -> int | None:
    return int(k.lo) if k.is_point and k.lo == floor(k.lo) else None


def _powi_enclose(x: Interval, k: Interval) -> Interval:
    if x.is_empty or k.is_empty:
        return EMPTY
    if not k.is_bounded or k.width > 64:
        return WHOLE
    return Interval.hull_of(enclosures.power_int(x, e) for e in range(int(k.lo), int(k.hi) + 1))


def _powi_defined(x: Interval, k: Interval) -> bool:
    return k.is_nonnegative or _nonzero(x)


def _powi_regular(x: Interval, k: Interval) -> bool:
    return k.is_nonnegative or (x.intersect(Interval(-1e-4, 1e-4)).is_empty and _nonzero(x) and k.lo >= -8)


def _powi_order(x: Interval, k: Interval) -> tuple[Monotone, Monotone]:
    e = _exponent(k)
    if e is None:
        return NEITHER, NEITHER
    if e == 0:
        return CONSTANT, NEITHER
    if e > 0 and e % 2:
        return INCREASING, NEITHER
    if e > 0:
        return _sign_order(x), NEITHER
    if not _nonzero(x):
        return NEITHER, NEITHER
    return (INCREASING if x.is_negative and e % 2 == 0 else DECREASING), NEITHER


def _powi_curvature(moving: Moving, x: Interval, k: Interval) -> Curvature:
    e = _exponent(k)
    if e is None:
        return UNKNOWN
    if e in (0, 1):
        return AFFINE
    if e < 0 and not _nonzero(x):
        return UNKNOWN
    if e % 2 == 0 or x.is_nonnegative:
        return CONVEX
    return CONCAVE if x.is_nonpositive else UNKNOWN


POWI = Primitive(
    name="powi",
    arguments=("x", "k"),
    # k is an INT *constant* (a written exponent): x^2, x^-1. The base may have any sign; x^0 is 1 everywhere.
    accepts=(REAL, INT),
    result=REAL,
    domain="x != 0 if k < 0",
    defined=_powi_defined,
    regular=_powi_regular,
    partials=(
        lambda o, x, k: o.select(o.eq(k, 0), o.number(0), o.real(k) * o.powi(x, k - 1)),
        None,
    ),
    kinks=NO_KINKS,
    monotone=_powi_order,
    curvature=curved(_powi_curvature),
    enclose=_powi_enclose,
    numpy=quiet(_powi_numpy),
    torch="({0} ** {1})",
    torch_ad="({0} ** {1})",
    triton="_h_powi_tl({0}, {1})",
    cxx="_h_powi({0}, {1})",
    latex="{0}^{{{1}}}",
    definition=None,
    sympy=lambda sp, x, k: x**k,
    reference=lambda mp, x, k: mp.mpf(1) if k == 0 else mp.power(x, int(k)),
    samples=tuple((x, k) for k in (2.0, 3.0, 4.0, 1.0, 0.0) for x in (-2.5, -0.5, 0.0, 0.75, 3.0))
    + tuple((x, k) for k in (-1.0, -2.0, -3.0) for x in (-2.5, -0.5, 0.75, 3.0)),
    accuracy=lambda x, k: (k.magnitude + 4, 0),
    flops=1,
)


def _pow_defined(a: Interval, b: Interval) -> bool:
    return a.is_positive or (a.is_nonnegative and b.is_nonnegative)


def _pow_regular(a: Interval, b: Interval) -> bool:
    # away from the origin of a, and without overflow of a^(b-1) and of log(a)
    return Interval(1e-9, 1e9).contains(a) and Interval(-3.0, 4.0).contains(b)


def _pow_order(a: Interval, b: Interval) -> tuple[Monotone, Monotone]:
    if not a.is_nonnegative:
        return NEITHER, NEITHER
    base = _sign_order(b)
    if base is DECREASING and not a.is_positive:
        base = NEITHER
    if a.lo == a.hi == 1.0:
        return base, CONSTANT
    exponent = INCREASING if a.lo >= 1.0 else DECREASING if a.hi <= 1.0 else NEITHER
    if not a.is_positive and not b.is_nonnegative:
        exponent = NEITHER
    return base, exponent


def _pow_curvature(moving: Moving, a: Interval, b: Interval) -> Curvature:
    if not _pow_defined(a, b) or all(moving):
        return UNKNOWN
    if moving[1]:
        return CONVEX if a.is_positive else UNKNOWN
    if b.is_point and b.lo in (0.0, 1.0):
        return AFFINE
    if b.lo >= 1.0 or (b.hi <= 0.0 and a.is_positive):
        return CONVEX
    # 0^0 is 1 and 0^b is 0 for b > 0: the jump at exponent 0 is not concave down to a = 0
    if b.hi <= 1.0 and (b.is_positive or (b.is_nonnegative and a.is_positive)):
        return CONCAVE
    return UNKNOWN


def _pow_partial_base(o: Any, a: Any, b: Any) -> Any:
    """b a^(b-1); at a = 0 it is 0 for 0 <= b < 1, where the limit is infinite (or, for b = 0, the value constant)."""
    flat = o.both(o.eq(a, o.number(0)), o.both(o.le(o.number(0), b), o.lt(b, o.number(1))))
    return o.select(flat, o.number(0), b * o.pow(a, b - 1))


def _pow_partial_exponent(o: Any, a: Any, b: Any) -> Any:
    """a^b log(a); 0 at a = 0, where it is the limit for b > 0 and the convention for b = 0."""
    return o.select(o.eq(a, o.number(0)), o.number(0), o.pow(a, b) * o.log(a))


def _pow_reference(mp: Any, a: Any, b: Any) -> Any:
    if b == 0 or a == 1:
        return mp.mpf(1)
    if a == 0:
        return mp.mpf(0) if b > 0 else mp.inf
    return mp.power(a, b)


def _power_accuracy(x: Interval, y: Interval) -> tuple[float, float]:
    """Of exp(y log |x|): the error of the exponent t, which is below 89 in size where the value is a normal number."""
    ends = [abs(log(v)) if v > 0 else inf for v in (x.magnitude, max(x.lo, -x.hi, 0.0))]
    t = min(89.0, y.magnitude * max(ends)) if y.magnitude > 0 else 0.0
    return 9 * t + 4 * y.magnitude + 4, 0


POW = Primitive(
    name="pow",
    arguments=("a", "b"),
    # the general real power; an exponent that is a written integer is `powi`
    accepts=R2,
    result=REAL,
    domain="a >= 0, and a > 0 if b < 0",
    defined=_pow_defined,
    regular=_pow_regular,
    partials=(_pow_partial_base, _pow_partial_exponent),
    kinks=(
        Kink(
            surface=lambda o, a, b: a,
            order=0,
            note="a^b at a = 0: derivative in a is 0 for b > 1, 1 for b = 1, 0 for 0 <= b < 1 (limit inf); 0^0 is 1",
        ),
    ),
    monotone=_pow_order,
    curvature=curved(_pow_curvature),
    enclose=enclosures.power,
    numpy=quiet(np.power),
    torch="torch.pow({0}, {1})",
    torch_ad="_h_pow({0}, {1})",
    triton="_h_pow_tl({0}, {1})",
    cxx="_h_pow({0}, {1})",
    latex="{0}^{{{1}}}",
    definition=lambda o, a, b: o.exp(b * o.log(a)),
    sympy=lambda sp, a, b: a**b,
    reference=_pow_reference,
    samples=(
        *((a, b) for a in (0.2, 1.0, 3.0) for b in (-1.5, 0.0, 0.5, 1.0, 2.0, 2.7)),
        *((0.0, b) for b in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)),
    ),
    accuracy=_power_accuracy,
    flops=1,
)


def _quotient(a: Interval, b: Interval) -> Interval:
    q = a / b
    if q.is_empty:
        return q
    return Interval(q.lo if abs(q.lo) == inf else float(floor(q.lo)), q.hi if abs(q.hi) == inf else float(floor(q.hi)))


def _remainder(a: Interval, b: Interval) -> Interval:
    """a % b has the sign of b, and stays a if 0 <= a < b."""
    if a.is_empty or b.is_empty:
        return EMPTY
    if a.is_nonnegative and b.is_positive:
        return a if a.hi < b.lo else Interval(0.0, min(a.hi, b.hi))
    return Interval(min(b.lo, 0.0), max(b.hi, 0.0))


_INT_PAIRS = ((7.0, 2.0), (-7.0, 2.0), (7.0, -2.0), (-7.0, -2.0), (6.0, 3.0), (0.0, 5.0), (-1.0, 9.0))

FLOORDIV = Primitive(
    name="floordiv",
    arguments=("a", "b"),
    accepts=(INT, INT),
    result=INT,
    domain="b != 0",
    defined=lambda a, b: _nonzero(b),
    regular=always,
    partials=(None, None),
    kinks=NO_KINKS,
    monotone=_div_order,
    curvature=curved(UNKNOWN),
    enclose=_quotient,
    numpy=quiet(np.floor_divide),
    torch="({0} // {1})",
    torch_ad="({0} // {1})",
    triton="_h_floordiv_tl({0}, {1})",
    cxx="_h_floordiv({0}, {1})",
    latex=r"\left\lfloor \frac{{{0}}}{{{1}}} \right\rfloor",
    definition=None,
    sympy=lambda sp, a, b: sp.floor(a / b),
    reference=lambda mp, a, b: mp.floor(mp.mpf(a) / b),
    samples=_INT_PAIRS,
    accuracy=exact,
    flops=1,
)

MOD = Primitive(
    name="mod",
    arguments=("a", "b"),
    accepts=(INT, INT),
    result=INT,
    domain="b != 0",
    defined=lambda a, b: _nonzero(b),
    regular=always,
    partials=(None, None),
    kinks=NO_KINKS,
    monotone=lambda a, b: (NEITHER, NEITHER),
    curvature=curved(UNKNOWN),
    enclose=_remainder,
    numpy=quiet(np.mod),
    torch="({0} % {1})",
    torch_ad="({0} % {1})",
    triton="({0} - _h_floordiv_tl({0}, {1}) * {1})",
    cxx="({0} - _h_floordiv({0}, {1}) * {1})",
    latex=r"{0} \bmod {1}",
    definition=None,
    sympy=lambda sp, a, b: sp.Mod(a, b),
    reference=lambda mp, a, b: mp.mpf(a) - b * mp.floor(mp.mpf(a) / b),
    samples=_INT_PAIRS,
    accuracy=exact,
    flops=1,
)

REAL_OF = Primitive(
    name="real",
    arguments=("x",),
    # INT or BOOL to REAL; the width of the result belongs to the Plan, so the texts are the back end's
    accepts=(INT,),
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(None,),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved(AFFINE),
    enclose=lambda x: x,
    numpy=lambda x: np.asarray(x).astype(np.float64)[()],
    torch=UNAVAILABLE,
    torch_ad=UNAVAILABLE,
    triton=UNAVAILABLE,
    cxx=UNAVAILABLE,
    latex="{0}",
    definition=None,
    sympy=lambda sp, x: x,
    reference=lambda mp, x: mp.mpf(x),
    samples=unary(-3.0, 0.0, 5.0),
    accuracy=lambda n: (int(n.magnitude > 2**24), 0),
    flops=1,
)

INT_OF = Primitive(
    name="int",
    arguments=("x",),
    # BOOL to INT
    accepts=(BOOL,),
    result=INT,
    domain="",
    defined=always,
    regular=always,
    partials=(None,),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved(AFFINE),
    enclose=lambda x: x,
    numpy=lambda x: np.asarray(x).astype(np.int64)[()],
    torch=UNAVAILABLE,
    torch_ad=UNAVAILABLE,
    triton=UNAVAILABLE,
    cxx=UNAVAILABLE,
    latex="[{0}]",
    definition=None,
    sympy=lambda sp, x: x,
    reference=lambda mp, x: mp.mpf(int(x)),
    samples=unary(0.0, 1.0),
    accuracy=exact,
    flops=1,
)

PI = Primitive(
    name="pi",
    arguments=(),
    # the exact constant: no rational stands for it, and a float in its place makes continuous functions jump
    accepts=(),
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(),
    kinks=NO_KINKS,
    monotone=order(),
    curvature=curved(AFFINE),
    enclose=enclosures.pi,
    numpy=lambda: np.float64(np.pi),
    torch="3.141592653589793",
    torch_ad="3.141592653589793",
    triton="3.141592653589793",
    cxx="(real_t)3.141592653589793",
    latex=r"\pi",
    definition=None,
    sympy=lambda sp: sp.pi,
    reference=lambda mp: +mp.pi,
    samples=((),),
    accuracy=exactly_rounded,
    flops=0,
)

RECORDS = (ADD, SUB, MUL, DIV, NEG, SQRT, POWI, POW, FLOORDIV, MOD, REAL_OF, INT_OF, PI)
