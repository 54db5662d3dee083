"""Functions of pieces: absolute value, sign, clamp, minimum and maximum of two, rounding to integers."""

from __future__ import annotations

from math import ceil, floor, inf
from typing import Any

import numpy as np

from lossdsl.primitives.facets import (
    AFFINE,
    CONCAVE,
    CONSTANT,
    CONVEX,
    DECREASING,
    ENDS,
    INCREASING,
    INT,
    NEITHER,
    PLAIN,
    R1,
    R2,
    R3,
    REAL,
    UNKNOWN,
    WIDE,
    always,
    curved,
    exact,
    limits,
    on_sign,
    order,
    unary,
)
from lossdsl.primitives.interval import ZERO, Interval
from lossdsl.primitives.record import Curvature, Kink, Monotone, Primitive

Moving = tuple[bool, ...]


def _one_sign(x: Interval) -> bool:
    return x.is_positive or x.is_negative


_abs_order = on_sign(INCREASING, DECREASING, NEITHER)

ABS = Primitive(
    name="abs",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: o.sign(x),),
    kinks=(Kink(surface=lambda o, x: x, order=0, note="abs at 0: derivative 0"),),
    monotone=lambda x: (_abs_order(x),),
    curvature=curved(lambda moving, x: AFFINE if x.is_nonnegative or x.is_nonpositive else CONVEX),
    enclose=lambda x: x.abs(),
    numpy=np.abs,
    torch="torch.abs({0})",
    torch_ad="torch.abs({0})",
    triton="tl.abs({0})",
    cxx="_h_abs({0})",
    latex=r"\left|{0}\right|",
    definition=None,
    sympy=lambda sp, x: sp.Abs(x),
    reference=limits(lambda mp, x: abs(x), inf, inf),
    samples=unary(*PLAIN, 0.0, *WIDE, *ENDS),
    accuracy=exact,
    flops=1,
)


def _sign_enclose(x: Interval) -> Interval:
    if x.is_empty:
        return x
    return Interval(float((x.lo > 0) - (x.lo < 0)), float((x.hi > 0) - (x.hi < 0)))


SIGN = Primitive(
    name="sign",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(None,),
    kinks=(Kink(surface=lambda o, x: x, order=-1, note="sign at 0: value 0, derivative 0"),),
    monotone=lambda x: (CONSTANT if _one_sign(x) else INCREASING,),
    curvature=curved(lambda moving, x: AFFINE if _one_sign(x) else UNKNOWN),
    enclose=_sign_enclose,
    numpy=np.sign,
    torch="torch.sign({0})",
    torch_ad="torch.sign({0})",
    triton="tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, 0.0 * {0}))",
    cxx="({0} > 0 ? (real_t)1 : {0} < 0 ? (real_t)-1 : 0 * {0})",
    latex=r"\operatorname{{sign}}\left({0}\right)",
    definition=None,
    sympy=lambda sp, x: sp.sign(x),
    reference=limits(lambda mp, x: mp.sign(x), -1.0, 1.0),
    samples=unary(*PLAIN, 0.0, *WIDE),
    accuracy=exact,
    flops=1,
)

RELU = Primitive(
    name="relu",
    arguments=("x",),
    accepts=R1,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(lambda o, x: o.select(o.lt(o.number(0), x), o.number(1), o.number(0)),),
    kinks=(Kink(surface=lambda o, x: x, order=0, note="relu at 0: derivative 0"),),
    monotone=lambda x: (CONSTANT if x.is_nonpositive else INCREASING,),
    curvature=curved(lambda moving, x: AFFINE if x.is_nonnegative or x.is_nonpositive else CONVEX),
    enclose=lambda x: x.maximum(ZERO),
    numpy=lambda x: np.maximum(x, 0.0),
    torch="torch.relu({0})",
    torch_ad="torch.relu({0})",
    triton="tl.where({0} < 0, 0.0, {0})",
    cxx="({0} < 0 ? (real_t)0 : {0})",
    latex=r"\left[{0}\right]_+",
    definition=lambda o, x: o.max2(x, o.number(0)),
    sympy=lambda sp, x: sp.Max(x, 0),
    reference=limits(lambda mp, x: max(x, mp.mpf(0)), 0.0, inf),
    samples=unary(*PLAIN, 0.0, *WIDE, *ENDS),
    accuracy=exact,
    flops=1,
)


def _clamp_curvature(moving: Moving, x: Interval, lo: Interval, hi: Interval) -> Curvature:
    if x.lo >= lo.hi and x.hi <= hi.lo:
        return AFFINE
    if (x.hi <= lo.lo or x.lo >= hi.hi) and not moving[1] and not moving[2]:
        return AFFINE
    if x.hi <= hi.lo and lo.hi <= hi.lo:
        return CONVEX  # max(x, lo)
    if x.lo >= lo.hi:
        return CONCAVE  # min(x, hi)
    return UNKNOWN


CLAMP = Primitive(
    name="clamp",
    arguments=("x", "lo", "hi"),
    # min(max(x, lo), hi): hi wins if lo > hi, as in torch
    accepts=R3,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(
        lambda o, x, lo, hi: o.select(o.both(o.le(lo, x), o.le(x, hi)), o.number(1), o.number(0)),
        lambda o, x, lo, hi: o.select(o.both(o.lt(x, lo), o.le(lo, hi)), o.number(1), o.number(0)),
        lambda o, x, lo, hi: o.select(o.either(o.lt(hi, x), o.lt(hi, lo)), o.number(1), o.number(0)),
    ),
    kinks=(
        Kink(surface=lambda o, x, lo, hi: x - lo, order=0, note="clamp at its lower bound: derivative 1 in x"),
        Kink(surface=lambda o, x, lo, hi: x - hi, order=0, note="clamp at its upper bound: derivative 1 in x"),
    ),
    monotone=order(INCREASING, INCREASING, INCREASING),
    curvature=curved(_clamp_curvature),
    enclose=lambda x, lo, hi: x.maximum(lo).minimum(hi),
    numpy=lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi),
    torch="torch.where(torch.where({0} < {1}, {1}, {0}) > {2}, {2}, torch.where({0} < {1}, {1}, {0}))",
    torch_ad="torch.where(torch.where({0} < {1}, {1}, {0}) > {2}, {2}, torch.where({0} < {1}, {1}, {0}))",
    triton="tl.where(tl.where({0} < {1}, {1}, {0}) > {2}, {2}, tl.where({0} < {1}, {1}, {0}))",
    cxx="(({0} < {1} ? {1} : {0}) > {2} ? {2} : ({0} < {1} ? {1} : {0}))",
    latex=r"\operatorname{{clamp}}\left({0}, {1}, {2}\right)",
    definition=lambda o, x, lo, hi: o.min2(o.max2(x, lo), hi),
    sympy=lambda sp, x, lo, hi: sp.Min(sp.Max(x, lo), hi),
    reference=lambda mp, x, lo, hi: min(max(x, lo), hi),
    samples=(
        *((x, -1.0, 1.0) for x in (-3.0, -1.0, -0.5, 0.0, 0.7, 1.0, 2.0, -inf, inf)),
        (0.0, 2.0, 1.0),
        (3.0, 2.0, 1.0),
        (1.5, 2.0, 1.0),
        (0.5, -inf, inf),
    ),
    accuracy=exact,
    flops=2,
)


def _max_order(a: Interval, b: Interval) -> tuple[Monotone, Monotone]:
    return (CONSTANT if a.hi <= b.lo else INCREASING, CONSTANT if b.hi <= a.lo else INCREASING)


def _separate(a: Interval, b: Interval) -> bool:
    return a.lo >= b.hi or b.lo >= a.hi


_PAIRS = (
    (1.0, 2.0),
    (2.0, 1.0),
    (-0.5, -0.25),
    (1.5, 1.5),
    (0.0, 0.0),
    (-inf, 3.0),
    (3.0, -inf),
    (-1e3, 1e3),
    (inf, 0.0),
)

MAX2 = Primitive(
    name="max2",
    arguments=("a", "b"),
    accepts=R2,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(
        lambda o, a, b: o.select(o.le(b, a), o.number(1), o.number(0)),
        lambda o, a, b: o.select(o.le(b, a), o.number(0), o.number(1)),
    ),
    kinks=(Kink(surface=lambda o, a, b: a - b, order=0, note="max at equality: the first argument has the gradient"),),
    monotone=_max_order,
    curvature=curved(lambda moving, a, b: AFFINE if _separate(a, b) else CONVEX),
    enclose=lambda a, b: a.maximum(b),
    numpy=np.maximum,
    # not torch.maximum: it halves the gradient at equality; `x != x` keeps a nan of the first argument
    torch="torch.where(({0} >= {1}) | ({0} != {0}), {0}, {1})",
    torch_ad="torch.where(({0} >= {1}) | ({0} != {0}), {0}, {1})",
    triton="tl.where(({0} >= {1}) | ({0} != {0}), {0}, {1})",
    cxx="(({0} >= {1}) | ({0} != {0}) ? {0} : {1})",
    latex=r"\max\left({0}, {1}\right)",
    definition=None,
    sympy=lambda sp, a, b: sp.Max(a, b),
    reference=lambda mp, a, b: max(a, b),
    samples=_PAIRS,
    accuracy=exact,
    flops=1,
)


def _min_order(a: Interval, b: Interval) -> tuple[Monotone, Monotone]:
    return (CONSTANT if a.lo >= b.hi else INCREASING, CONSTANT if b.lo >= a.hi else INCREASING)


MIN2 = Primitive(
    name="min2",
    arguments=("a", "b"),
    accepts=R2,
    result=REAL,
    domain="",
    defined=always,
    regular=always,
    partials=(
        lambda o, a, b: o.select(o.le(a, b), o.number(1), o.number(0)),
        lambda o, a, b: o.select(o.le(a, b), o.number(0), o.number(1)),
    ),
    kinks=(Kink(surface=lambda o, a, b: a - b, order=0, note="min at equality: the first argument has the gradient"),),
    monotone=_min_order,
    curvature=curved(lambda moving, a, b: AFFINE if _separate(a, b) else CONCAVE),
    enclose=lambda a, b: a.minimum(b),
    numpy=np.minimum,
    torch="torch.where(({0} <= {1}) | ({0} != {0}), {0}, {1})",
    torch_ad="torch.where(({0} <= {1}) | ({0} != {0}), {0}, {1})",
    triton="tl.where(({0} <= {1}) | ({0} != {0}), {0}, {1})",
    cxx="(({0} <= {1}) | ({0} != {0}) ? {0} : {1})",
    latex=r"\min\left({0}, {1}\right)",
    definition=None,
    sympy=lambda sp, a, b: sp.Min(a, b),
    reference=lambda mp, a, b: min(a, b),
    samples=_PAIRS,
    accuracy=exact,
    flops=1,
)


def _rounded(function: Any) -> Any:
    def enclose(x: Interval) -> Interval:
        if x.is_empty:
            return x
        return Interval(*(v if abs(v) == inf else float(function(v)) for v in (x.lo, x.hi)))

    return enclose


_floor, _ceil = _rounded(floor), _rounded(ceil)

_STEPS = unary(-2.5, -2.0, -0.5, 0.0, 0.5, 1.0, 1.999, 40.25)

FLOOR = Primitive(
    name="floor",
    arguments=("x",),
    accepts=R1,
    result=INT,
    domain="",
    defined=always,
    regular=always,
    partials=(None,),
    kinks=(Kink(surface=lambda o, x: x - o.real(o.floor(x)), order=-1, note="floor at integers: derivative 0"),),
    monotone=lambda x: (CONSTANT if _floor(x).is_point else INCREASING,),
    curvature=curved(lambda moving, x: AFFINE if _floor(x).is_point else UNKNOWN),
    enclose=_floor,
    numpy=lambda x: np.floor(x).astype(np.int64)[()],
    torch="torch.floor({0}).to(torch.int64)",
    torch_ad="torch.floor({0}).to(torch.int64)",
    triton="tl.floor({0}).to(tl.int64)",
    cxx="_h_round(__builtin_floor((double){0}))",
    latex=r"\left\lfloor {0} \right\rfloor",
    definition=None,
    sympy=lambda sp, x: sp.floor(x),
    reference=lambda mp, x: mp.floor(x),
    samples=_STEPS,
    accuracy=exact,
    flops=1,
)

CEIL = Primitive(
    name="ceil",
    arguments=("x",),
    accepts=R1,
    result=INT,
    domain="",
    defined=always,
    regular=always,
    partials=(None,),
    kinks=(Kink(surface=lambda o, x: x - o.real(o.floor(x)), order=-1, note="ceil at integers: derivative 0"),),
    monotone=lambda x: (CONSTANT if _ceil(x).is_point else INCREASING,),
    curvature=curved(lambda moving, x: AFFINE if _ceil(x).is_point else UNKNOWN),
    enclose=_ceil,
    numpy=lambda x: np.ceil(x).astype(np.int64)[()],
    torch="torch.ceil({0}).to(torch.int64)",
    torch_ad="torch.ceil({0}).to(torch.int64)",
    triton="tl.ceil({0}).to(tl.int64)",
    cxx="_h_round(__builtin_ceil((double){0}))",
    latex=r"\left\lceil {0} \right\rceil",
    definition=None,
    sympy=lambda sp, x: sp.ceiling(x),
    reference=lambda mp, x: mp.ceil(x),
    samples=_STEPS,
    accuracy=exact,
    flops=1,
)

RECORDS = (ABS, SIGN, RELU, CLAMP, MAX2, MIN2, FLOOR, CEIL)
