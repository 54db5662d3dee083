"""Shared pieces of the records: the usual curvature and monotonicity rules, small numpy evaluations, references.

Facets speak of the *finite* points of a box (an infinite end point is an absent bound). `curvature` facets take one
keyword more than the boxes, `varying`: a tuple of bools that says which arguments depend on the variables in question;
the others are unknown constants of their interval (a parameter, an input that the claim does not name). Without it
every argument that is not a point varies. If nothing varies the function is constant, hence affine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import numpy as np

from lossdsl.primitives.interval import Interval
from lossdsl.primitives.record import Curvature, Dtype, Kink, Monotone

REAL, INT, BOOL = Dtype.REAL, Dtype.INT, Dtype.BOOL
AFFINE, CONVEX, CONCAVE, UNKNOWN = Curvature.AFFINE, Curvature.CONVEX, Curvature.CONCAVE, Curvature.UNKNOWN
INCREASING, DECREASING = Monotone.INCREASING, Monotone.DECREASING
CONSTANT, NEITHER = Monotone.CONSTANT, Monotone.NEITHER

R1, R2, R3 = (REAL,), (REAL, REAL), (REAL, REAL, REAL)

# The largest exponent at which exp is finite in float32: partials that grow like exp count as regular below it only,
# since an overflowing partial times a zero cotangent is nan in emitted code.
EXP_LIMIT = 88.0

NO_KINKS: tuple[Kink, ...] = ()

CurvatureRule = Callable[..., Curvature]
MonotoneRule = Callable[..., tuple[Monotone, ...]]
AccuracyRule = Callable[..., tuple[float, float]]


def always(*boxes: Interval) -> bool:
    return True


def curved(rule: Curvature | Callable[..., Curvature]) -> CurvatureRule:
    """A curvature facet. `rule` is one Curvature for all boxes, or rule(varying, *boxes)."""

    def facet(*boxes: Interval, varying: Sequence[bool] | None = None) -> Curvature:
        moving = tuple((varying is None or varying[i]) and not box.is_point for i, box in enumerate(boxes))
        if not any(moving):
            return AFFINE
        return rule if isinstance(rule, Curvature) else rule(moving, *boxes)

    return facet


def order(*directions: Monotone) -> MonotoneRule:
    """The same monotonicity on every box."""
    return lambda *boxes: directions


def on_sign(positive: Any, negative: Any, otherwise: Any) -> Callable[[Interval], Any]:
    """One answer where x >= 0, another where x <= 0, a third on boxes around 0."""

    def choose(x: Interval) -> Any:
        return positive if x.is_nonnegative else negative if x.is_nonpositive else otherwise

    return choose


def curved_on_sign(positive: Curvature, negative: Curvature) -> CurvatureRule:
    choose = on_sign(positive, negative, UNKNOWN)
    return curved(lambda moving, x: choose(x))


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Evaluate as IEEE arithmetic does, without warnings."""

    def evaluate(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arguments)

    return evaluate


def pointwise(function: Callable[[float], float]) -> Callable[..., Any]:
    """A float64 ufunc from a function of the math module."""
    ufunc = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(ufunc(np.asarray(x, dtype=np.float64)), dtype=np.float64)[()]


def limits(function: Callable[..., Any], at_minus: float | None, at_plus: float | None) -> Callable[..., Any]:
    """An mpmath reference of one argument, with its limits at -inf and inf (None: nan)."""

    def reference(mp: Any, x: Any) -> Any:
        if x == inf:
            return mp.nan if at_plus is None else mp.mpf(at_plus)
        if x == -inf:
            return mp.nan if at_minus is None else mp.mpf(at_minus)
        return function(mp, x)

    return reference


def within(relative: float, absolute: float = 0) -> AccuracyRule:
    """The same accuracy on every box."""
    return lambda *boxes: (relative, absolute)


exact, exactly_rounded = within(0), within(1)


def reach(x: float, most: float = 89.0) -> float:
    """The part of a bound that counts where an error grows with the argument: beyond `most` (for exp 89, at exp(-89) = 2^-128)
    the value has overflowed or is flushed to zero."""
    return min(max(x, 0.0), most)


def unary(*values: float) -> tuple[tuple[float, ...], ...]:
    return tuple((v,) for v in values)


PLAIN = (-2.5, -1.0, -0.3, -1e-4, 1e-4, 0.3, 1.0, 2.5)  # ordinary points of both signs
WIDE = (-1000.0, -100.0, -20.0, 20.0, 100.0, 1000.0)
ENDS = (-inf, inf)
