"""Special functions: gamma, error and Bessel families.

The chains of derivatives close: lgamma -> digamma -> trigamma -> polygamma(2, .) -> polygamma(3, .) ...,
log_normal_cdf -> inverse_mills -> itself, i0e <-> i1e.
"""

from __future__ import annotations

from math import erf, erfc, floor, inf
from typing import Any

from lossdsl.primitives import enclosures, numerics
from lossdsl.primitives.facets import (
    CONCAVE,
    CONVEX,
    DECREASING,
    ENDS,
    INCREASING,
    INT,
    NEITHER,
    NO_KINKS,
    PLAIN,
    R1,
    REAL,
    UNKNOWN,
    WIDE,
    always,
    curved,
    curved_on_sign,
    limits,
    on_sign,
    order,
    pointwise,
    quiet,
    reach,
    unary,
    within,
)
from lossdsl.primitives.interval import WHOLE, Interval
from lossdsl.primitives.record import UNAVAILABLE, Curvature, Kink, Monotone, Primitive

_POSITIVE = unary(1e-6, 0.1, 0.5, 1.0, 1.4616321449683623, 2.0, 3.7, 20.0, 500.0, inf)


def _on_positive(curvature: Curvature) -> Any:
    return curved(lambda moving, x: curvature if x.is_nonnegative else UNKNOWN)


def _monotone_on_positive(direction: Monotone) -> Any:
    return lambda x: (direction if x.is_nonnegative else NEITHER,)


def _lgamma_order(x: Interval) -> tuple[Monotone]:
    if not x.is_nonnegative:
        return (NEITHER,)
    return (INCREASING if x.lo >= 1.4617 else DECREASING if x.hi <= 1.4616 else NEITHER,)


LGAMMA = Primitive(
    name="lgamma",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="x > 0",
    defined=lambda x: x.is_positive,
    regular=lambda x: x.lo >= 1e-18,
    partials=(lambda o, x: o.digamma(x),),
    kinks=NO_KINKS,
    monotone=_lgamma_order,
    curvature=_on_positive(CONVEX),
    enclose=enclosures.lgamma,
    numpy=pointwise(numerics.lgamma_of),
    torch="torch.lgamma({0})",
    torch_ad="torch.lgamma({0})",
    triton=UNAVAILABLE,
    cxx=UNAVAILABLE,
    latex=r"\log\Gamma\left({0}\right)",
    definition=None,
    sympy=lambda sp, x: sp.loggamma(x),
    reference=limits(lambda mp, x: mp.loggamma(x), None, inf),
    samples=_POSITIVE,
    accuracy=within(32, 32),
    flops=1,
)

DIGAMMA = Primitive(
    name="digamma",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="x > 0",
    defined=lambda x: x.is_positive,
    regular=lambda x: x.lo >= 1e-9,
    partials=(lambda o, x: o.trigamma(x),),
    kinks=NO_KINKS,
    monotone=_monotone_on_positive(INCREASING),
    curvature=_on_positive(CONCAVE),
    enclose=enclosures.digamma,
    numpy=quiet(numerics.digamma),
    torch="torch.digamma({0})",
    torch_ad="torch.digamma({0})",
    triton=UNAVAILABLE,
    cxx=UNAVAILABLE,
    latex=r"\psi\left({0}\right)",
    definition=None,
    sympy=lambda sp, x: sp.digamma(x),
    reference=limits(lambda mp, x: mp.digamma(x), None, inf),
    samples=_POSITIVE,
    accuracy=within(32, 32),
    flops=1,
)

TRIGAMMA = Primitive(
    name="trigamma",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="x > 0",
    defined=lambda x: x.is_positive,
    regular=lambda x: x.lo >= 1e-9,
    partials=(lambda o, x: o.polygamma(2, x),),
    kinks=NO_KINKS,
    monotone=_monotone_on_positive(DECREASING),
    curvature=_on_positive(CONVEX),
    enclose=lambda x: enclosures.polygamma(1, x),
    numpy=quiet(lambda x: numerics.polygamma(1, x)),
    torch="torch.polygamma(1, {0})",
    torch_ad="_h_polygamma(1, {0})",
    triton=UNAVAILABLE,
    cxx=UNAVAILABLE,
    latex=r"\psi_1\left({0}\right)",
    definition=None,
    sympy=lambda sp, x: sp.polygamma(1, x),
    reference=limits(lambda mp, x: mp.psi(1, x), None, 0.0),
    samples=_POSITIVE,
    accuracy=within(64),
    flops=1,
)


def _order_of(n: Interval) -> int | None:
    return int(n.lo) if n.is_point and n.lo == floor(n.lo) and n.lo >= 1 else None


def _polygamma_enclose(n: Interval, x: Interval) -> Interval:
    k = _order_of(n)
    return WHOLE if k is None else enclosures.polygamma(k, x)


def _polygamma_order(n: Interval, x: Interval) -> tuple[Monotone, Monotone]:
    k = _order_of(n)
    if k is None or not x.is_nonnegative:
        return NEITHER, NEITHER
    return NEITHER, DECREASING if k % 2 else INCREASING


def _polygamma_curvature(moving: tuple[bool, ...], n: Interval, x: Interval) -> Curvature:
    k = _order_of(n)
    if k is None or not x.is_nonnegative:
        return UNKNOWN
    return CONVEX if k % 2 else CONCAVE


POLYGAMMA = Primitive(
    name="polygamma",
    arguments=("n", "x"),
    # n >= 1 is an INT constant; arises only as a derivative of digamma
    accepts=(INT, REAL),
    result=REAL,
    domain="x > 0",
    defined=lambda n, x: x.is_positive,
    regular=lambda n, x: x.lo >= 1e-3 and n.hi <= 8,
    partials=(None, lambda o, n, x: o.polygamma(n + 1, x)),
    kinks=NO_KINKS,
    monotone=_polygamma_order,
    curvature=curved(_polygamma_curvature),
    enclose=_polygamma_enclose,
    numpy=quiet(numerics.polygamma),
    torch="_h_polygamma({0}, {1})",
    torch_ad="_h_polygamma({0}, {1})",
    triton=UNAVAILABLE,
    cxx=UNAVAILABLE,
    latex=r"\psi_{{{0}}}\left({1}\right)",
    definition=None,
    sympy=lambda sp, n, x: sp.polygamma(n, x),
    reference=lambda mp, n, x: mp.mpf(0) if x == inf else mp.psi(int(n), x),
    samples=tuple((n, x[0]) for n in (1.0, 2.0, 3.0) for x in _POSITIVE),
    accuracy=None,
    flops=1,
)

ERF = Primitive(
    name="erf",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: 2 * (o.exp(-(x * x)) / o.sqrt(o.pi())),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved_on_sign(CONCAVE, CONVEX),
    enclose=enclosures.erf,
    numpy=pointwise(erf),
    torch="torch.erf({0})",
    torch_ad="torch.erf({0})",
    triton="tl.erf({0})",
    cxx="_h_erf({0})",
    latex=r"\operatorname{{erf}}\left({0}\right)",
    definition=None,
    sympy=lambda sp, x: sp.erf(x),
    reference=limits(lambda mp, x: mp.erf(x), -1.0, 1.0),
    samples=unary(*PLAIN, 0.0, 1e-9, *WIDE, *ENDS),
    accuracy=within(8),
    flops=1,
)

ERFC = Primitive(
    name="erfc",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: -2 * (o.exp(-(x * x)) / o.sqrt(o.pi())),),
    kinks=NO_KINKS,
    monotone=order(DECREASING),
    curvature=curved_on_sign(CONVEX, CONCAVE),
    enclose=enclosures.erfc,
    numpy=pointwise(erfc),
    torch="torch.erfc({0})",
    torch_ad="torch.erfc({0})",
    triton="_h_erfc_tl({0})",
    cxx="(real_t)_h_erfc({0})",
    latex=r"\operatorname{{erfc}}\left({0}\right)",
    definition=lambda o, x: 1 - o.erf(x),
    sympy=lambda sp, x: sp.erfc(x),
    reference=limits(lambda mp, x: mp.erfc(x), 2.0, 0.0),
    samples=unary(*PLAIN, 0.0, 1e-9, -1000.0, -100.0, 5.0, 9.0, 100.0, *ENDS),
    accuracy=lambda x: (6 * reach(x.hi, 10) ** 2 + 40, 0),
    flops=1,
)


def _density(o: Any, x: Any) -> Any:
    return o.exp(-(x * x) / 2) / o.sqrt(2 * o.pi())


NORMAL_CDF = Primitive(
    name="normal_cdf",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(_density,),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved_on_sign(CONCAVE, CONVEX),
    enclose=enclosures.normal_cdf,
    numpy=quiet(numerics.normal_cdf),
    # not torch.special.ndtr: it is (1 + erf) / 2, which is 0 in the left tail
    torch="(0.5 * torch.erfc(-0.7071067811865476 * {0}))",
    torch_ad="(0.5 * torch.erfc(-0.7071067811865476 * {0}))",
    triton="(0.5 * _h_erfc_tl(-0.7071067811865475244 * {0}))",
    cxx="(real_t)(0.5 * _h_erfc(-0.7071067811865476 * {0}))",
    latex=r"\Phi\left({0}\right)",
    definition=lambda o, x: o.erfc(-x / o.sqrt(o.number(2))) / 2,
    sympy=lambda sp, x: sp.erfc(-x / sp.sqrt(2)) / 2,
    reference=limits(lambda mp, x: mp.erfc(-x / mp.sqrt(2)) / 2, 0.0, 1.0),
    samples=unary(*PLAIN, 0.0, 1e-9, -1000.0, -30.0, -10.0, 10.0, 1000.0, *ENDS),
    accuracy=lambda x: (5 * reach(-x.lo, 14) ** 2 + 48, 0),
    flops=1,
)


def _log_normal_cdf_reference(mp: Any, x: Any) -> Any:
    half_tail = mp.erfc(abs(x) / mp.sqrt(2)) / 2
    return mp.log(half_tail) if x < 0 else mp.log1p(-half_tail)


LOG_NORMAL_CDF = Primitive(
    name="log_normal_cdf",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: o.inverse_mills(x),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved(CONCAVE),
    enclose=enclosures.log_normal_cdf,
    numpy=quiet(numerics.log_normal_cdf),
    torch="torch.special.log_ndtr({0})",
    torch_ad="_h_log_normal_cdf({0})",
    triton="_h_log_normal_cdf_tl({0})",
    cxx="(real_t)_h_log_normal_cdf({0})",
    latex=r"\log\Phi\left({0}\right)",
    definition=lambda o, x: o.log(o.normal_cdf(x)),
    sympy=lambda sp, x: sp.log(sp.erfc(-x / sp.sqrt(2)) / 2),
    reference=limits(_log_normal_cdf_reference, -inf, 0.0),
    samples=unary(*PLAIN, 0.0, 1e-9, -1000.0, -30.0, -10.0, 10.0, 30.0, 1000.0, *ENDS),
    accuracy=lambda x: (5 * reach(x.hi, 14) ** 2 + 64, 0),
    flops=1,
)


def _inverse_mills_partial(o: Any, x: Any) -> Any:
    """-m (x + m). Far left x + m cancels, and m' = -1 + y - 6 y^2 + 50 y^3 - 518 y^4 + ... in y = 1/x^2."""
    m = o.inverse_mills(x)
    y = 1 / (x * x)
    far = -1 + y * (1 - y * (6 - y * (50 - y * 518)))
    plain = -(m * (x + m))
    right = o.select(o.lt(x, o.number(inf)), plain, o.number(0))
    return o.select(o.lt(x, o.number(-50)), far, right)


def _inverse_mills_reference(mp: Any, x: Any) -> Any:
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi) / (mp.erfc(-x / mp.sqrt(2)) / 2)


INVERSE_MILLS = Primitive(
    name="inverse_mills",
    arguments=("x",),
    # phi(x) / Phi(x), the derivative of log_normal_cdf
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(_inverse_mills_partial,),
    kinks=NO_KINKS,
    monotone=order(DECREASING),
    # the hazard rate of the normal distribution is convex (Sampford 1953)
    curvature=curved(CONVEX),
    enclose=enclosures.inverse_mills,
    numpy=quiet(numerics.inverse_mills),
    torch="_h_inverse_mills({0})",
    torch_ad="_h_inverse_mills({0})",
    triton="_h_inverse_mills_tl({0})",
    cxx="(real_t)_h_inverse_mills({0})",
    latex=r"\frac{{\varphi\left({0}\right)}}{{\Phi\left({0}\right)}}",
    definition=lambda o, x: _density(o, x) / o.normal_cdf(x),
    sympy=lambda sp, x: sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi) / (sp.erfc(-x / sp.sqrt(2)) / 2),
    reference=limits(_inverse_mills_reference, inf, 0.0),
    samples=unary(*PLAIN, 0.0, 1e-9, -1000.0, -60.0, -30.0, -10.0, 10.0, 30.0, 1000.0, *ENDS),
    accuracy=lambda x: (4 * reach(x.hi, 14) ** 2 + 64, 0),
    flops=1,
)

_i0e_order = on_sign(DECREASING, INCREASING, NEITHER)

I0E = Primitive(
    name="i0e",
    arguments=("x",),
    # exp(-|x|) I0(x)
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: o.i1e(x) - o.sign(x) * o.i0e(x),),
    kinks=(Kink(surface=lambda o, x: x, order=0, note="i0e at 0: derivative 0, between its limits 1 and -1"),),
    monotone=lambda x: (_i0e_order(x),),
    # on each side a mixture of decaying exponentials
    curvature=curved_on_sign(CONVEX, CONVEX),
    enclose=enclosures.i0e,
    numpy=quiet(numerics.i0e),
    torch="torch.special.i0e({0})",
    torch_ad="torch.special.i0e({0})",
    triton=UNAVAILABLE,
    cxx=UNAVAILABLE,
    latex=r"e^{{-\left|{0}\right|}} I_0\left({0}\right)",
    definition=None,
    sympy=lambda sp, x: sp.exp(-sp.Abs(x)) * sp.besseli(0, x),
    reference=limits(lambda mp, x: mp.exp(-abs(x)) * mp.besseli(0, x), 0.0, 0.0),
    samples=unary(*PLAIN, 0.0, 1e-9, *WIDE, *ENDS),
    accuracy=within(32),
    flops=1,
)


def _i1e_order(x: Interval) -> tuple[Monotone]:
    if x.magnitude <= 1.5:
        return (INCREASING,)
    return (DECREASING if x.lo >= 1.6 or x.hi <= -1.6 else NEITHER,)


def _i1e_partial(o: Any, x: Any) -> Any:
    at_zero = o.eq(x, o.number(0))
    return o.select(at_zero, o.number(0.5), o.i0e(x) - o.i1e(x) * (o.sign(x) + 1 / x))


I1E = Primitive(
    name="i1e",
    arguments=("x",),
    # exp(-|x|) I1(x), the smooth part of the derivative of i0e
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(_i1e_partial,),
    kinks=(Kink(surface=lambda o, x: x, order=1, note="i1e at 0: the second derivative jumps; 0 is used"),),
    monotone=_i1e_order,
    curvature=curved(UNKNOWN),
    enclose=enclosures.i1e,
    numpy=quiet(numerics.i1e),
    torch="torch.special.i1e({0})",
    torch_ad="torch.special.i1e({0})",
    triton=UNAVAILABLE,
    cxx=UNAVAILABLE,
    latex=r"e^{{-\left|{0}\right|}} I_1\left({0}\right)",
    definition=None,
    sympy=lambda sp, x: sp.exp(-sp.Abs(x)) * sp.besseli(1, x),
    reference=limits(lambda mp, x: mp.exp(-abs(x)) * mp.besseli(1, x), 0.0, 0.0),
    samples=unary(*PLAIN, 0.0, 1e-9, *WIDE, *ENDS),
    accuracy=within(32),
    flops=1,
)

RECORDS = (
    LGAMMA,
    DIGAMMA,
    TRIGAMMA,
    POLYGAMMA,
    ERF,
    ERFC,
    NORMAL_CDF,
    LOG_NORMAL_CDF,
    INVERSE_MILLS,
    I0E,
    I1E,
)
