"""Heads of reductions: how a fold starts, merges and ends, and what is true of its value.

`lift`, `merge` and `finish` take the states as tuples. argmax and argmin lift a pair (value, index).
"""

from __future__ import annotations

from fractions import Fraction
from math import inf
from typing import Any

import numpy as np

from lossdsl.primitives import enclosures
from lossdsl.primitives.facets import (
    AFFINE,
    BOOL,
    CONCAVE,
    CONSTANT,
    CONVEX,
    INCREASING,
    INT,
    NEITHER,
    REAL,
    UNKNOWN,
    quiet,
)
from lossdsl.primitives.interval import EMPTY, NONNEGATIVE, ONE, UNIT, Interval
from lossdsl.primitives.record import UNAVAILABLE, Curvature, Head, Monotone

State = tuple[Any, ...]


def _or_empty(value: Interval, possibly_empty: bool, empty: float | None) -> Interval:
    return value.hull(Interval.exact(empty)) if possibly_empty and empty is not None else value


def _single(function: Any) -> Any:
    return lambda o, a, b: (function(o, a[0], b[0]),)


def _lift(o: Any, x: Any) -> State:
    return (x,)


def _finish(o: Any, state: State) -> Any:
    return state[0]


def _counts(count: Interval, possibly_empty: bool) -> Interval:
    """The number of elements that are folded: masks may leave none."""
    return count.intersect(NONNEGATIVE).hull(Interval(0.0, 0.0)) if possibly_empty else count.intersect(NONNEGATIVE)


def _sum_numpy(values: Any, axes: Any) -> Any:
    return np.sum(values, axis=axes)


SUM = Head(
    name="sum",
    accepts=REAL,
    result=REAL,
    empty=Fraction(0),
    state=("s",),
    identity=(0.0,),
    merge=_single(lambda o, a, b: a + b),
    lift=_lift,
    finish=_finish,
    pad=0.0,
    monotone=lambda body: INCREASING,
    curvature=lambda body: AFFINE,
    enclose=lambda body, count, possibly_empty: _or_empty(body * _counts(count, possibly_empty), possibly_empty, 0.0),
    numpy=quiet(_sum_numpy),
    torch="torch.sum({0}, dim={dims}, keepdim=True)",
    triton="tl.sum({0}, axis={axis})",
    cxx="{0} += {x};",
    latex=r"\sum_{{{index}}} {0}",
    associative=False,
)


def _prod_enclose(body: Interval, count: Interval, possibly_empty: bool) -> Interval:
    counts = _counts(count, possibly_empty)
    if body.is_empty:
        return _or_empty(EMPTY, possibly_empty, 1.0)
    size = body.abs()
    if body.is_nonnegative:
        value = enclosures.power(size, counts)
    else:
        most = enclosures.power(size, counts).hi
        value = Interval(-most, most)
    return _or_empty(value, possibly_empty, 1.0)


PROD = Head(
    name="prod",
    accepts=REAL,
    result=REAL,
    empty=Fraction(1),
    state=("p",),
    identity=(1.0,),
    merge=_single(lambda o, a, b: a * b),
    lift=_lift,
    finish=_finish,
    pad=1.0,
    monotone=lambda body: INCREASING if body.is_nonnegative else NEITHER,
    curvature=lambda body: UNKNOWN,
    enclose=_prod_enclose,
    numpy=quiet(lambda values, axes: np.prod(values, axis=axes)),
    # torch.prod takes one axis at a time: the back end chains it
    torch="torch.prod({0}, dim={dims}, keepdim=True)",
    triton="tl.reduce({0}, {axis}, _h_multiply_tl)",
    cxx="{0} *= {x};",
    latex=r"\prod_{{{index}}} {0}",
    associative=False,
)


def _no_identity_numpy(function: Any) -> Any:
    """A reduction without a value over nothing; nan there is the sign that a file's `else` was not applied."""

    def reduce(values: Any, axes: Any) -> Any:
        values = np.asarray(values)
        chosen = tuple(range(values.ndim)) if axes is None else ((axes,) if isinstance(axes, int) else tuple(axes))
        if any(values.shape[a] == 0 for a in chosen):
            kept = tuple(n for i, n in enumerate(values.shape) if i not in {a % values.ndim for a in chosen})
            return np.full(kept, np.nan)
        return function(values, axis=chosen)

    return reduce


MAX = Head(
    name="max",
    accepts=REAL,
    result=REAL,
    empty=None,
    state=("m",),
    identity=(-inf,),
    merge=_single(lambda o, a, b: o.max2(a, b)),
    lift=_lift,
    finish=_finish,
    pad=-inf,
    monotone=lambda body: INCREASING,
    curvature=lambda body: CONVEX,
    enclose=lambda body, count, possibly_empty: body,
    numpy=_no_identity_numpy(np.max),
    torch="torch.amax({0}, dim={dims}, keepdim=True)",
    triton="tl.max({0}, axis={axis})",
    cxx="{0} = ({x} > {0}) | ({x} != {x}) ? {x} : {0};",
    latex=r"\max_{{{index}}} {0}",
    associative=True,
)

MIN = Head(
    name="min",
    accepts=REAL,
    result=REAL,
    empty=None,
    state=("m",),
    identity=(inf,),
    merge=_single(lambda o, a, b: o.min2(a, b)),
    lift=_lift,
    finish=_finish,
    pad=inf,
    monotone=lambda body: INCREASING,
    curvature=lambda body: CONCAVE,
    enclose=lambda body, count, possibly_empty: body,
    numpy=_no_identity_numpy(np.min),
    torch="torch.amin({0}, dim={dims}, keepdim=True)",
    triton="tl.min({0}, axis={axis})",
    cxx="{0} = ({x} < {0}) | ({x} != {x}) ? {x} : {0};",
    latex=r"\min_{{{index}}} {0}",
    associative=True,
)


def _logsumexp_merge(o: Any, a: State, b: State) -> State:
    """(m, s) stands for m + log(s); expdiff(-inf, -inf) = 0 makes the merge of two empty states empty, not nan."""
    m = o.max2(a[0], b[0])
    return m, a[1] * o.expdiff(a[0], m) + b[1] * o.expdiff(b[0], m)


def _logsumexp_lift(o: Any, x: Any) -> State:
    return x, o.select(o.lt(o.number(-inf), x), o.number(1), o.number(0))


def _logsumexp_enclose(body: Interval, count: Interval, possibly_empty: bool) -> Interval:
    counts = _counts(count, possibly_empty)
    return _or_empty(body + enclosures.log(counts), possibly_empty, -inf)


def _logsumexp_numpy(values: Any, axes: Any) -> Any:
    values = np.asarray(values, dtype=np.float64)
    top = np.max(values, axis=axes, keepdims=True, initial=-inf)
    shift = np.where(np.isfinite(top), top, 0.0)
    total = np.log(np.sum(np.exp(values - shift), axis=axes, keepdims=True)) + shift
    return np.squeeze(total, axis=axes) if axes is not None else total.reshape(())[()]


LOGSUMEXP = Head(
    name="logsumexp",
    accepts=REAL,
    result=REAL,
    empty=-inf,
    state=("m", "s"),
    identity=(-inf, 0.0),
    merge=_logsumexp_merge,
    lift=_logsumexp_lift,
    finish=lambda o, state: state[0] + o.log(state[1]),
    pad=-inf,
    monotone=lambda body: INCREASING,
    curvature=lambda body: CONVEX,
    enclose=_logsumexp_enclose,
    numpy=quiet(_logsumexp_numpy),
    torch="torch.logsumexp({0}, dim={dims}, keepdim=True)",
    # a fold with its own maximum: back ends expand it from the state
    triton=UNAVAILABLE,
    cxx="_h_absorb({0}, {1}, {x});",
    latex=r"\operatorname{{logsumexp}}_{{{index}}} {0}",
    associative=False,
)


def _truth(body: Interval, possibly_empty: bool, empty: float) -> Interval:
    """0 and 1 stand for false and true."""
    return _or_empty(body.intersect(UNIT), possibly_empty, empty)


ANY = Head(
    name="any",
    accepts=BOOL,
    result=BOOL,
    empty=Fraction(0),
    state=("b",),
    identity=(0.0,),
    merge=_single(lambda o, a, b: o.max2(a, b)),
    lift=_lift,
    finish=_finish,
    pad=0.0,
    monotone=lambda body: INCREASING,
    curvature=lambda body: UNKNOWN,
    enclose=lambda body, count, possibly_empty: _truth(body, possibly_empty, 0.0),
    numpy=lambda values, axes: np.any(values, axis=axes),
    torch="torch.any({0}, dim={dims}, keepdim=True)",
    triton="(tl.max(({0}).to(tl.int32), axis={axis}) > 0)",
    cxx="{0} |= {x};",
    latex=r"\exists\, {index}:\ {0}",
    associative=True,
)

ALL = Head(
    name="all",
    accepts=BOOL,
    result=BOOL,
    empty=Fraction(1),
    state=("b",),
    identity=(1.0,),
    merge=_single(lambda o, a, b: o.min2(a, b)),
    lift=_lift,
    finish=_finish,
    pad=1.0,
    monotone=lambda body: INCREASING,
    curvature=lambda body: UNKNOWN,
    enclose=lambda body, count, possibly_empty: _truth(body, possibly_empty, 1.0),
    numpy=lambda values, axes: np.all(values, axis=axes),
    torch="torch.all({0}, dim={dims}, keepdim=True)",
    triton="(tl.min(({0}).to(tl.int32), axis={axis}) > 0)",
    cxx="{0} &= {x};",
    latex=r"\forall\, {index}:\ {0}",
    associative=True,
)

COUNT = Head(
    name="count",
    accepts=BOOL,
    result=INT,
    empty=Fraction(0),
    state=("n",),
    identity=(0.0,),
    merge=_single(lambda o, a, b: a + b),
    lift=_lift,
    finish=_finish,
    pad=0.0,
    monotone=lambda body: INCREASING,
    curvature=lambda body: UNKNOWN,
    enclose=lambda body, count, possibly_empty: (
        body.intersect(UNIT).hull(Interval(0.0, 0.0) if possibly_empty else EMPTY) * _counts(count, possibly_empty)
    ),
    numpy=lambda values, axes: np.sum(np.asarray(values).astype(np.int64), axis=axes),
    torch="torch.sum({0}, dim={dims}, keepdim=True, dtype=torch.int64)",
    triton="tl.sum(({0}).to(tl.int64), axis={axis})",
    cxx="{0} += {x};",
    latex=r"\#\left\{{{index} : {0}\right\}}",
    associative=True,
)


def _arg_merge(better: str) -> Any:
    def merge(o: Any, a: State, b: State) -> State:
        """The better value; of equal values the lower index, so that the first in index order wins in any fold."""
        strictly = o.lt(b[0], a[0]) if better == "greater" else o.lt(a[0], b[0])
        first = o.either(strictly, o.both(o.eq(a[0], b[0]), o.le(a[1], b[1])))
        return o.select(first, a[0], b[0]), o.select(first, a[1], b[1])

    return merge


def _index_enclose(body: Interval, count: Interval, possibly_empty: bool) -> Interval:
    """Indices 0 .. count - 1."""
    last = (count.intersect(NONNEGATIVE) - ONE).hi
    return Interval(0.0, max(last, 0.0))


def _arg_numpy(function: Any) -> Any:
    """Positions along one axis; of several axes, flattened in order, or nan over nothing."""

    def reduce(values: Any, axes: Any) -> Any:
        values = np.asarray(values)
        chosen = tuple(range(values.ndim)) if axes is None else ((axes,) if isinstance(axes, int) else tuple(axes))
        chosen = tuple(a % values.ndim for a in chosen)
        kept = tuple(i for i in range(values.ndim) if i not in chosen)
        flat = np.transpose(values, (*kept, *chosen)).reshape(*[values.shape[i] for i in kept], -1)
        return function(flat, axis=-1)

    return reduce


def _constant(body: Interval) -> Monotone:
    return CONSTANT if body.is_point else NEITHER


def _unknown(body: Interval) -> Curvature:
    return UNKNOWN


ARGMAX = Head(
    name="argmax",
    accepts=REAL,
    result=INT,
    empty=None,
    state=("m", "i"),
    identity=(-inf, inf),
    merge=_arg_merge("greater"),
    lift=lambda o, pair: (pair[0], pair[1]),
    finish=lambda o, state: state[1],
    pad=-inf,
    monotone=_constant,
    curvature=_unknown,
    enclose=_index_enclose,
    numpy=_arg_numpy(np.argmax),
    # torch.argmax does not promise the first of equal entries on every device: the back end takes the least index
    torch=UNAVAILABLE,
    triton="tl.argmax({0}, axis={axis}, tie_break_left=True)",
    cxx="_h_better<1>({0}, {1}, {x}, {k});",
    latex=r"\operatorname{{argmax}}_{{{index}}} {0}",
    associative=True,
)

ARGMIN = Head(
    name="argmin",
    accepts=REAL,
    result=INT,
    empty=None,
    state=("m", "i"),
    identity=(inf, inf),
    merge=_arg_merge("less"),
    lift=lambda o, pair: (pair[0], pair[1]),
    finish=lambda o, state: state[1],
    pad=inf,
    monotone=_constant,
    curvature=_unknown,
    enclose=_index_enclose,
    numpy=_arg_numpy(np.argmin),
    torch=UNAVAILABLE,
    triton="tl.argmin({0}, axis={axis}, tie_break_left=True)",
    cxx="_h_better<-1>({0}, {1}, {x}, {k});",
    latex=r"\operatorname{{argmin}}_{{{index}}} {0}",
    associative=True,
)

RECORDS = (SUM, PROD, MAX, MIN, LOGSUMEXP, ANY, ALL, COUNT, ARGMAX, ARGMIN)
