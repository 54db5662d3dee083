"""Where a curve is not smooth: the surfaces at which a loss takes another of its pieces, and where a line crosses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossdsl.ir.algebra import NODES
from lossdsl.ir.nodes import REAL, TRUE, Apply, Compare, Definition, Group, Output, Program, Scalar, postorder
from lossdsl.ir.rewrite import prune
from lossdsl.primitives import PRIMITIVES

Array = np.ndarray[Any, Any]
CLOSE = 1e-9  # a place is known up to this
HALVINGS = 25  # evaluations for that between two points of a curve, about
_APART = 1e-6  # places that are closer are one
_STEP = 1e-4  # of the differences of the gradient beside a place
_NO_NUMBER = 2.0  # the side of a surface that has no value there


@dataclass(frozen=True)
class Kink:
    """Where the curve is not smooth. `corner`: the gradient jumps; else only the derivative of the gradient does."""

    x: float
    loss: float
    corner: bool


def surfaces(program: Program) -> Program:
    """The program that returns every expression whose sign decides which smooth piece of the loss is taken.

    They are the differences that conditions compare, and the surfaces of the primitives' own kinks; for a largest or
    smallest entry, one plus the position of the winner.
    """
    body: list[Definition | Group] = list(program.body)
    outputs: list[Output] = []
    for d in program.definitions():
        found: list[Scalar] = []
        for n in postorder(*d.scalars()):
            if isinstance(n, Compare) and n.a.dtype is REAL:
                found.append(Apply("sub", (n.a, n.b)))
            elif isinstance(n, Apply) and n.name in PRIMITIVES:
                found += [k.surface(NODES, *n.args) for k in PRIMITIVES[n.name].kinks]
        made = [
            replace(d, head="map", formals=(*d.formals, *d.bound), bound=(), where=TRUE, body=f, support=TRUE)
            for f in found
        ]
        if d.head in ("max", "min"):
            index = replace(d, head=f"arg{d.head}", support=TRUE)
            body.append(replace(index, tensor=f"{d.tensor}.winner"))
            outputs.append(Output(f"{d.tensor}.winner", f"{d.tensor}.winner"))
        for k, definition in enumerate(made):
            body.append(replace(definition, tensor=f"{d.tensor}.surface{k}"))
            outputs.append(Output(f"{d.tensor}.surface{k}", f"{d.tensor}.surface{k}"))
    found_all = replace(program, body=tuple(body), outputs=tuple(outputs), reductions=None, updates=())
    return prune(found_all, [o.name for o in outputs])


def side(values: Sequence[Array]) -> Array:
    """On which side of each surface a point is; of one without a value (an entry that is read only if it is inside) on
    none, which is the same at all points where it has none."""
    signs = [np.sign(np.asarray(v, dtype=np.float64)).ravel() for v in values]
    return np.nan_to_num(np.concatenate(signs), nan=_NO_NUMBER) if signs else np.zeros(0)


def kinks(
    x: Array,
    gradient: Array,
    sides: Sequence[Array],
    side_at: Callable[[float], Array],
    at: Callable[[float], tuple[float, float]],
    most: int,
) -> tuple[tuple[Kink, ...], bool]:
    """Where a side changes between two points of a curve and, by differences of the gradient close to it, the curve has
    a kink indeed; and whether all such places were looked at. At most `most` are; first those where the gradient bends.

    at      loss and gradient at a place
    """
    changed = [k for k in range(len(x) - 1) if not np.array_equal(sides[k], sides[k + 1])]
    if len(changed) > most:
        bent = _bends(gradient)
        changed = sorted(changed, key=lambda k: (-bent[k], k))
    found: list[Kink] = []
    seen: list[float] = []
    for k in changed[:most]:
        place = _crossing(float(x[k]), float(x[k + 1]), sides[k], side_at)
        if all(abs(place - other) >= _APART for other in seen):
            seen.append(place)
            corner = _corner(place, at)
            if corner is not None:
                found.append(Kink(place, at(place)[0], corner))
    return tuple(sorted(found, key=lambda kink: kink.x)), len(changed) <= most


def _bends(gradient: Array) -> Array:
    """How much the gradient departs from a straight line around the interval between each point and the next."""
    inner = np.abs(np.diff(gradient, 2))
    second = np.nan_to_num(np.concatenate([[0.0], inner, [0.0]]), nan=0.0, posinf=np.inf)
    bent: Array = np.maximum(second[:-1], second[1:])
    return bent


def _crossing(low: float, high: float, before: Array, side_at: Callable[[float], Array]) -> float:
    """The first place in (low, high] that is on another side than `low`, or `low` where that is as close."""
    start = low
    while high - low > CLOSE:
        middle = (low + high) / 2
        low, high = (middle, high) if np.array_equal(side_at(middle), before) else (low, middle)
    return low if low == start else high


def _corner(place: float, at: Callable[[float], tuple[float, float]]) -> bool | None:
    """Whether the gradient jumps at a place; None where the curve is smooth there."""
    left = [at(place + j * _STEP)[1] for j in (-2, -1)]
    right = [at(place + j * _STEP)[1] for j in (1, 2)]
    slope = max(abs(left[1] - left[0]), abs(right[1] - right[0]))
    size = 1e-6 * (1 + abs(left[1]) + abs(right[0]))
    if abs(right[0] - left[1]) > 10 * slope + size:
        return True
    bends = abs((right[1] - right[0]) - (left[1] - left[0])) > 0.05 * slope + size
    return False if bends else None
