"""Exponentials, logarithms, and their stable relatives."""

from __future__ import annotations

from math import inf, log
from typing import Any

import numpy as np

from lossdsl.primitives import enclosures
from lossdsl.primitives.facets import (
    AFFINE,
    CONCAVE,
    CONSTANT,
    CONVEX,
    DECREASING,
    ENDS,
    EXP_LIMIT,
    INCREASING,
    NEITHER,
    NO_KINKS,
    PLAIN,
    R1,
    R2,
    REAL,
    UNKNOWN,
    WIDE,
    always,
    curved,
    curved_on_sign,
    limits,
    on_sign,
    order,
    quiet,
    reach,
    unary,
    within,
)
from lossdsl.primitives.interval import Interval
from lossdsl.primitives.record import Curvature, Monotone, Primitive

Moving = tuple[bool, ...]

_POSITIVE = unary(0.0, 1e-8, 0.25, 0.999, 1.0, 1.001, 2.0, 10.0, 1e6, inf)
_SMALLEST = 1e-30  # the reciprocal of anything larger is finite in float32


def _below(limit: float) -> Any:
    return lambda x: x.hi <= limit


EXP = Primitive(
    name="exp",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=_below(EXP_LIMIT),
    partials=(lambda o, x: o.exp(x),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved(CONVEX),
    enclose=enclosures.exp,
    numpy=quiet(np.exp),
    torch="torch.exp({0})",
    torch_ad="torch.exp({0})",
    triton="tl.exp({0})",
    cxx="_h_exp({0})",
    latex="e^{{{0}}}",
    definition=None,
    sympy=lambda sp, x: sp.exp(x),
    reference=limits(lambda mp, x: mp.exp(x), 0.0, inf),
    samples=unary(*PLAIN, 0.0, -1000.0, -100.0, 20.0, 80.0, *ENDS),
    accuracy=lambda x: (2 * reach(x.magnitude) + 4, 0),
    flops=1,
)

EXPM1 = Primitive(
    name="expm1",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=_below(EXP_LIMIT),
    partials=(lambda o, x: o.exp(x),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved(CONVEX),
    enclose=enclosures.expm1,
    numpy=quiet(np.expm1),
    torch="torch.expm1({0})",
    # not torch.expm1: its derivative is `result + 1`, which cancels for very negative x
    torch_ad="_h_expm1({0})",
    triton="_h_expm1_tl({0})",
    cxx="_h_expm1({0})",
    latex=r"\operatorname{{expm1}}\left({0}\right)",
    definition=lambda o, x: o.exp(x) - 1,
    sympy=lambda sp, x: sp.exp(x) - 1,
    reference=limits(lambda mp, x: mp.expm1(x), -1.0, inf),
    samples=unary(*PLAIN, 0.0, 1e-9, -1e-9, -1000.0, -100.0, 20.0, 80.0, *ENDS),
    accuracy=lambda x: (6 * reach(x.hi) + 12, 0),
    flops=1,
)


def _log_curvature(least: float) -> Any:
    return curved(lambda moving, x: CONCAVE if x.lo >= least else UNKNOWN)


LOG = Primitive(
    name="log",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="x > 0",
    defined=lambda x: x.is_positive,
    regular=lambda x: x.lo >= _SMALLEST,
    partials=(lambda o, x: 1 / x,),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=_log_curvature(0.0),
    enclose=enclosures.log,
    numpy=quiet(np.log),
    torch="torch.log({0})",
    torch_ad="torch.log({0})",
    triton="tl.log({0})",
    cxx="_h_log({0})",
    latex=r"\log {0}",
    definition=None,
    sympy=lambda sp, x: sp.log(x),
    reference=limits(lambda mp, x: mp.log(x) if x != 0 else -mp.inf, None, inf),
    samples=_POSITIVE,
    accuracy=within(6, 4),
    flops=1,
)

LOG1P = Primitive(
    name="log1p",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="x > -1",
    defined=lambda x: x.lo > -1.0,
    regular=lambda x: x.lo > -0.999999,
    partials=(lambda o, x: 1 / (1 + x),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=_log_curvature(-1.0),
    enclose=enclosures.log1p,
    numpy=quiet(np.log1p),
    torch="torch.log1p({0})",
    torch_ad="torch.log1p({0})",
    triton="_h_log1p_tl({0})",
    cxx="_h_log1p({0})",
    latex=r"\log\left(1 + {0}\right)",
    definition=lambda o, x: o.log(1 + x),
    sympy=lambda sp, x: sp.log(1 + x),
    reference=limits(lambda mp, x: mp.log1p(x) if x != -1 else -mp.inf, None, inf),
    samples=unary(-1.0, -0.999, -0.5, -1e-9, 0.0, 1e-9, 0.3, 1.0, 10.0, 1e6, inf),
    accuracy=within(24),
    flops=1,
)

LOG2 = Primitive(
    name="log2",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="x > 0",
    defined=lambda x: x.is_positive,
    regular=lambda x: x.lo >= _SMALLEST,
    partials=(lambda o, x: 1 / (x * o.log(o.number(2))),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=_log_curvature(0.0),
    enclose=enclosures.log2,
    numpy=quiet(np.log2),
    torch="torch.log2({0})",
    torch_ad="torch.log2({0})",
    triton="tl.log2({0})",
    cxx="(_h_log({0}) * (real_t)1.4426950408889634)",
    latex=r"\log_2 {0}",
    definition=lambda o, x: o.log(x) / o.log(o.number(2)),
    sympy=lambda sp, x: sp.log(x) / sp.log(2),
    reference=limits(lambda mp, x: mp.log(x) / mp.log(2) if x != 0 else -mp.inf, None, inf),
    samples=(*_POSITIVE, (0.125,), (1024.0,)),
    accuracy=within(8, 6),
    flops=1,
)

LOG10 = Primitive(
    name="log10",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="x > 0",
    defined=lambda x: x.is_positive,
    regular=lambda x: x.lo >= _SMALLEST,
    partials=(lambda o, x: 1 / (x * o.log(o.number(10))),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=_log_curvature(0.0),
    enclose=enclosures.log10,
    numpy=quiet(np.log10),
    torch="torch.log10({0})",
    torch_ad="torch.log10({0})",
    triton="(tl.log({0}) * 0.43429448190325182765)",
    cxx="(_h_log({0}) * (real_t)0.4342944819032518)",
    latex=r"\log_{{10}} {0}",
    definition=lambda o, x: o.log(x) / o.log(o.number(10)),
    sympy=lambda sp, x: sp.log(x) / sp.log(10),
    reference=limits(lambda mp, x: mp.log10(x) if x != 0 else -mp.inf, None, inf),
    samples=_POSITIVE,
    accuracy=within(8, 3),
    flops=1,
)


def _log1mexp_numpy(x: Any) -> Any:
    return np.where(x > -log(2.0), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))[()]


def _log1mexp_reference(mp: Any, x: Any) -> Any:
    if x == 0:
        return -mp.inf
    return mp.log(-mp.expm1(x)) if x > -1 else mp.log1p(-mp.exp(x))


LOG1MEXP = Primitive(
    name="log1mexp",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="x < 0",
    defined=lambda x: x.is_negative,
    regular=lambda x: x.hi <= -_SMALLEST,
    # exp(x) / expm1(x) rather than -1 / expm1(-x): the derivative of the latter is inf * 0 for x << 0
    partials=(lambda o, x: o.exp(x) / o.expm1(x),),
    kinks=NO_KINKS,
    monotone=order(DECREASING),
    curvature=curved(lambda moving, x: CONCAVE if x.is_nonpositive else UNKNOWN),
    enclose=enclosures.log1mexp,
    numpy=quiet(_log1mexp_numpy),
    torch="torch.where({0} > -0.6931471805599453, torch.log(-torch.expm1({0})), torch.log1p(-torch.exp({0})))",
    torch_ad="_h_log1mexp({0})",
    triton="_h_log1mexp_tl({0})",
    cxx="_h_log1mexp({0})",
    latex=r"\log\left(1 - e^{{{0}}}\right)",
    definition=lambda o, x: o.log(1 - o.exp(x)),
    sympy=lambda sp, x: sp.log(1 - sp.exp(x)),
    reference=limits(_log1mexp_reference, 0.0, None),
    samples=unary(-1000.0, -50.0, -3.0, -0.7, -0.69, -0.1, -1e-9, 0.0, -inf),
    accuracy=lambda x: (3 * reach(-x.lo) + 40, 0),
    flops=3,
)


def _sigmoid_numpy(x: Any) -> Any:
    # of the two forms the one whose exponential does not overflow
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))[()]


SIGMOID = Primitive(
    name="sigmoid",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: o.sigmoid(x) * o.sigmoid(-x),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved_on_sign(CONCAVE, CONVEX),
    enclose=enclosures.sigmoid,
    numpy=quiet(_sigmoid_numpy),
    torch="torch.sigmoid({0})",
    # not torch.sigmoid: its derivative s * (1 - s) cancels for large x
    torch_ad="_h_sigmoid({0})",
    triton="_h_sigmoid_tl({0})",
    cxx="_h_sigmoid({0})",
    latex=r"\sigma\left({0}\right)",
    definition=lambda o, x: 1 / (1 + o.exp(-x)),
    sympy=lambda sp, x: 1 / (1 + sp.exp(-x)),
    reference=limits(lambda mp, x: 1 / (1 + mp.exp(-x)), 0.0, 1.0),
    samples=unary(*PLAIN, 0.0, *WIDE, *ENDS),
    accuracy=lambda x: (2 * reach(-x.lo) + 16, 0),
    flops=3,
)

LOGSIGMOID = Primitive(
    name="logsigmoid",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: o.sigmoid(-x),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved(CONCAVE),
    enclose=enclosures.logsigmoid,
    numpy=quiet(lambda x: np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x)))),
    torch="torch.nn.functional.logsigmoid({0})",
    torch_ad="torch.nn.functional.logsigmoid({0})",
    triton="(-1.0 * _h_softplus_tl(-1.0 * {0}))",
    cxx="(-_h_softplus(-{0}))",
    latex=r"\log\sigma\left({0}\right)",
    definition=lambda o, x: -o.log(1 + o.exp(-x)),
    sympy=lambda sp, x: -sp.log(1 + sp.exp(-x)),
    reference=limits(lambda mp, x: min(x, mp.mpf(0)) - mp.log1p(mp.exp(-abs(x))), -inf, 0.0),
    samples=unary(*PLAIN, 0.0, *WIDE, *ENDS),
    accuracy=lambda x: (2 * reach(x.hi) + 32, 0),
    flops=4,
)

SOFTPLUS = Primitive(
    name="softplus",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: o.sigmoid(x),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved(CONVEX),
    enclose=enclosures.softplus,
    numpy=quiet(lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))),
    # not torch.nn.functional.softplus: it returns x above a threshold of 20
    torch="(-torch.nn.functional.logsigmoid(-{0}))",
    torch_ad="(-torch.nn.functional.logsigmoid(-{0}))",
    triton="_h_softplus_tl({0})",
    cxx="_h_softplus({0})",
    latex=r"\operatorname{{softplus}}\left({0}\right)",
    definition=lambda o, x: o.log(1 + o.exp(x)),
    sympy=lambda sp, x: sp.log(1 + sp.exp(x)),
    reference=limits(lambda mp, x: max(x, mp.mpf(0)) + mp.log1p(mp.exp(-abs(x))), 0.0, inf),
    samples=unary(*PLAIN, 0.0, *WIDE, *ENDS),
    accuracy=lambda x: (2 * reach(-x.lo) + 32, 0),
    flops=4,
)


def _softer(o: Any, a: Any, b: Any) -> Any:
    """d logaddexp / da = sigmoid(a - b), and 0 where both are -inf (then a - b is nan and the value constant)."""
    return o.select(o.lt(o.number(-inf), o.max2(a, b)), o.sigmoid(a - b), o.number(0))


def _logaddexp_reference(mp: Any, a: Any, b: Any) -> Any:
    m, n = max(a, b), min(a, b)
    return m if n == -inf or m == inf else m + mp.log1p(mp.exp(n - m))


LOGADDEXP = Primitive(
    name="logaddexp",
    arguments=("a", "b"),
    accepts=R2,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, a, b: _softer(o, a, b), lambda o, a, b: _softer(o, b, a)),
    kinks=NO_KINKS,
    monotone=order(INCREASING, INCREASING),
    curvature=curved(CONVEX),
    enclose=enclosures.logaddexp,
    numpy=quiet(np.logaddexp),
    torch="torch.logaddexp({0}, {1})",
    torch_ad="_h_logaddexp({0}, {1})",
    triton="_h_logaddexp_tl({0}, {1})",
    cxx="_h_logaddexp({0}, {1})",
    latex=r"\log\left(e^{{{0}}} + e^{{{1}}}\right)",
    definition=lambda o, a, b: o.log(o.exp(a) + o.exp(b)),
    sympy=lambda sp, a, b: sp.log(sp.exp(a) + sp.exp(b)),
    reference=_logaddexp_reference,
    samples=(
        *((1.0, 2.0), (2.0, 1.0), (-3.0, -3.0), (0.0, 0.0), (0.0, 40.0), (40.0, 0.0), (500.0, -500.0), (1e4, 1e4 + 1)),
        *((-inf, 1.0), (1.0, -inf), (-inf, -inf)),
    ),
    accuracy=within(2, 24),
    flops=5,
)

TANH = Primitive(
    name="tanh",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    # sech(x)^2 without the cancellation of 1 - tanh(x)^2
    partials=(lambda o, x: 4 * (o.sigmoid(2 * x) * o.sigmoid(-2 * x)),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved_on_sign(CONCAVE, CONVEX),
    enclose=enclosures.tanh,
    numpy=np.tanh,
    torch="torch.tanh({0})",
    torch_ad="_h_tanh({0})",
    triton="_h_tanh_tl({0})",
    cxx="_h_tanh({0})",
    latex=r"\tanh {0}",
    definition=lambda o, x: (o.exp(2 * x) - 1) / (o.exp(2 * x) + 1),
    sympy=lambda sp, x: sp.tanh(x),
    reference=limits(lambda mp, x: mp.tanh(x), -1.0, 1.0),
    samples=unary(*PLAIN, 0.0, 1e-9, *WIDE, *ENDS),
    accuracy=within(32),
    flops=4,
)

_GENTLE = (*PLAIN, 0.0, 1e-9, -50.0, -20.0, 20.0, 80.0)


def _both_below(x: Interval) -> bool:
    return x.magnitude <= EXP_LIMIT


SINH = Primitive(
    name="sinh",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=_both_below,
    partials=(lambda o, x: o.cosh(x),),
    kinks=NO_KINKS,
    monotone=order(INCREASING),
    curvature=curved_on_sign(CONVEX, CONCAVE),
    enclose=enclosures.sinh,
    numpy=quiet(np.sinh),
    torch="torch.sinh({0})",
    torch_ad="torch.sinh({0})",
    triton="_h_sinh_tl({0})",
    cxx="_h_sinh({0})",
    latex=r"\sinh {0}",
    definition=lambda o, x: (o.exp(x) - o.exp(-x)) / 2,
    sympy=lambda sp, x: sp.sinh(x),
    reference=limits(lambda mp, x: mp.sinh(x), -inf, inf),
    samples=unary(*_GENTLE, *ENDS),
    accuracy=lambda x: (6 * reach(x.magnitude) + 24, 0),
    flops=4,
)

_cosh_order = on_sign(INCREASING, DECREASING, NEITHER)

COSH = Primitive(
    name="cosh",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=_both_below,
    partials=(lambda o, x: o.sinh(x),),
    kinks=NO_KINKS,
    monotone=lambda x: (_cosh_order(x),),
    curvature=curved(CONVEX),
    enclose=enclosures.cosh,
    numpy=quiet(np.cosh),
    torch="torch.cosh({0})",
    torch_ad="torch.cosh({0})",
    triton="_h_cosh_tl({0})",
    cxx="_h_cosh({0})",
    latex=r"\cosh {0}",
    definition=lambda o, x: (o.exp(x) + o.exp(-x)) / 2,
    sympy=lambda sp, x: sp.cosh(x),
    reference=limits(lambda mp, x: mp.cosh(x), inf, inf),
    samples=unary(*_GENTLE, *ENDS),
    accuracy=lambda x: (2 * reach(x.magnitude) + 16, 0),
    flops=4,
)


def _logcosh_numpy(x: Any) -> Any:
    a = np.abs(x)
    near = np.minimum(a, 1.0)
    return np.where(a < 1.0, np.log1p(2.0 * np.sinh(0.5 * near) ** 2), a + np.log1p(np.exp(-2.0 * a)) - log(2.0))[()]


def _logcosh_reference(mp: Any, x: Any) -> Any:
    a = abs(x)
    return mp.log1p(2 * mp.sinh(a / 2) ** 2) if a < 1 else a + mp.log1p(mp.exp(-2 * a)) - mp.log(2)


LOGCOSH = Primitive(
    name="logcosh",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: o.tanh(x),),
    kinks=NO_KINKS,
    monotone=lambda x: (_cosh_order(x),),
    curvature=curved(CONVEX),
    enclose=enclosures.logcosh,
    numpy=quiet(_logcosh_numpy),
    torch="_h_logcosh({0})",
    torch_ad="_h_logcosh({0})",
    triton="_h_logcosh_tl({0})",
    cxx="_h_logcosh({0})",
    latex=r"\log\cosh {0}",
    definition=lambda o, x: o.log(o.cosh(x)),
    sympy=lambda sp, x: sp.log(sp.cosh(x)),
    reference=limits(_logcosh_reference, inf, inf),
    samples=unary(*PLAIN, 0.0, 1e-9, 0.999, 1.001, *WIDE, *ENDS),
    accuracy=within(96),
    flops=6,
)


def _xlogy_numpy(x: Any, y: Any) -> Any:
    zero = (x == 0) & ~np.isnan(y)
    return np.where(zero, 0.0, x * np.log(np.where(zero, 1.0, y)))[()]


def _xlogy_order(x: Interval, y: Interval) -> tuple[Monotone, Monotone]:
    if not y.is_nonnegative:
        return NEITHER, NEITHER
    in_x = INCREASING if y.lo >= 1.0 else DECREASING if y.hi <= 1.0 and y.is_positive else NEITHER
    if x.lo == x.hi == 0.0:
        return in_x, CONSTANT
    in_y = INCREASING if x.is_nonnegative else DECREASING if x.is_nonpositive else NEITHER
    return in_x, in_y


def _xlogy_curvature(moving: Moving, x: Interval, y: Interval) -> Curvature:
    if not y.is_positive and not (y.is_nonnegative and not moving[0]):
        return UNKNOWN
    if moving == (True, False):
        return AFFINE
    if moving == (False, True):
        return CONCAVE if x.is_nonnegative else CONVEX if x.is_nonpositive else UNKNOWN
    return UNKNOWN


def _both_zero(o: Any, x: Any, y: Any) -> Any:
    return o.both(o.eq(x, o.number(0)), o.le(y, o.number(0)))


XLOGY = Primitive(
    name="xlogy",
    arguments=("x", "y"),
    # x log(y), and 0 where x is 0 whatever y is
    accepts=R2,
    result=REAL,
    domain="y > 0 or x == 0",
    defined=lambda x, y: y.is_positive or (x.lo == x.hi == 0.0),
    regular=lambda x, y: y.lo >= _SMALLEST,
    # at x = 0, y <= 0 the value is finite (0), so the partials are: 0, where the true limit in x is infinite
    partials=(
        lambda o, x, y: o.select(_both_zero(o, x, y), o.number(0), o.log(y)),
        lambda o, x, y: o.select(_both_zero(o, x, y), o.number(0), x / y),
    ),
    kinks=NO_KINKS,
    monotone=_xlogy_order,
    curvature=curved(_xlogy_curvature),
    enclose=enclosures.xlogy,
    numpy=quiet(_xlogy_numpy),
    torch="torch.xlogy({0}, {1})",
    torch_ad="_h_xlogy({0}, {1})",
    triton="tl.where(({0} == 0) & ({1} == {1}), 0.0, {0} * tl.log(tl.where({0} == 0, 1.0, {1})))",
    cxx="_h_xlogy({0}, {1})",
    latex=r"{0} \log {1}",
    definition=lambda o, x, y: x * o.log(y),
    sympy=lambda sp, x, y: x * sp.log(y),
    reference=lambda mp, x, y: mp.mpf(0) if x == 0 else x * (mp.log(y) if y != 0 else -mp.inf),
    samples=(
        *((x, y) for x in (-2.0, -0.5, 0.0, 0.3, 1.0, 7.0) for y in (1e-6, 0.5, 1.0, 3.0)),
        (0.0, 0.0),
        (1.0, 0.0),
        (0.0, -1.0),
    ),
    accuracy=lambda x, y: (8, 4 * x.magnitude),
    flops=2,
)


EXPDIFF = Primitive(
    name="expdiff",
    arguments=("a", "b"),
    # exp(a - b), and 0 where b is -inf: the derivative of logsumexp, b the logsumexp over a set that holds a
    accepts=R2,
    result=REAL,
    domain="",
    defined=always,
    regular=lambda a, b: (a - b).hi <= EXP_LIMIT,
    partials=(lambda o, a, b: o.expdiff(a, b), lambda o, a, b: -o.expdiff(a, b)),
    kinks=NO_KINKS,
    monotone=order(INCREASING, DECREASING),
    curvature=curved(CONVEX),
    enclose=enclosures.expdiff,
    numpy=quiet(lambda a, b: np.where(np.isneginf(b), 0.0, np.exp(a - b))[()]),
    torch='torch.exp(torch.where({1} == float("-inf"), float("-inf"), {0} - {1}))',
    torch_ad='torch.exp(torch.where({1} == float("-inf"), float("-inf"), {0} - {1}))',
    triton='tl.where({1} == float("-inf"), 0.0, tl.exp({0} - {1}))',
    cxx="({1} == -_h_inf ? (real_t)0 : _h_exp({0} - {1}))",
    latex="e^{{{0} - {1}}}",
    definition=lambda o, a, b: o.exp(a - b),
    sympy=lambda sp, a, b: sp.exp(a - b),
    reference=lambda mp, a, b: mp.mpf(0) if b == -inf or a == -inf else mp.exp(a - b),
    samples=((1.0, 2.0), (2.0, 1.0), (-3.0, -3.0), (1e4, 1e4), (-1e4, 3.0), (-inf, 2.0), (-inf, -inf), (3.0, -inf)),
    accuracy=lambda x, y: (3 * reach(max(abs(x.lo - y.hi), abs(x.hi - y.lo))) + 4, 0),
    flops=2,
)

RECORDS = (
    EXP,
    EXPM1,
    LOG,
    LOG1P,
    LOG2,
    LOG10,
    LOG1MEXP,
    SIGMOID,
    LOGSIGMOID,
    SOFTPLUS,
    LOGADDEXP,
    TANH,
    SINH,
    COSH,
    LOGCOSH,
    XLOGY,
    EXPDIFF,
)
