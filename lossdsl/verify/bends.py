"""Candidates for midpoints that lie too high or too low: a point, and the direction in which the target bends most there.

A function whose second derivative at a point is negative in a direction in which its slope is 0 is not quasiconvex (Boyd
and Vandenberghe 2004, 3.4.3); negative (positive) in any direction, not convex (concave). The gradient is the compiled
one, in float64, and its differences are the second derivatives; nothing that is found here is evidence, the caller
certifies it by enclosures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from lossdsl.verify.ascent import Ascent, ascent
from lossdsl.verify.context import Context
from lossdsl.verify.points import Place, Point, elements, within
from lossdsl.verify.work import CLOCK, deadline, passed

Pair = tuple[Point, Point]
Entry = tuple[str, Place]

_ENTRIES = 24  # with a slope, at most: a second derivative takes a gradient for each
_STEP = 2.0**-14
_FLAT = 1e-4  # of the largest second derivative: less may be an error of its difference
_NOISE = 1e-7  # of a second derivative, where the slope is 1
_LENGTHS = (Fraction(1, 4), Fraction(1, 32), Fraction(1), Fraction(1, 512), Fraction(4), Fraction(1, 2**13))
_GRID = 2**30
_SPREADS = (2.0, 0.5, 8.0)
_EXTENTS = (3, 2, 3, 4)  # along one axis of two entries a level set has no direction to bend in


def bends(
    ctx: Context, target: str, inputs: tuple[str, ...], seconds: float, *, down: bool = True, level: bool = False
) -> Iterator[tuple[Pair, Place]]:
    """Pairs of points about points at which the target bends down (or up), ever more of them about where it does so most.

    level: only in directions in which its slope is 0."""
    found = ascent(ctx, target, inputs) if ctx.searching else None
    if found is None or not found.boxes.keys() >= set(inputs):  # entries are moved one by one
        return
    end, sampler = deadline(seconds), ctx.sampler(21, inputs)
    best: tuple[float, Point, Place] | None = None
    for k in itertools.count():
        if passed(end):
            return
        point = None
        if best is not None and k % 3:
            point = found.near(best[1], k)
        if point is None:
            point = sampler.point(spread=_SPREADS[k // 2 % 3], extent=_EXTENTS[k % 4], defaults=k % 5 != 4)
        CLOCK.steps += 1
        if point is None or not ctx.admits(point):
            continue
        near = best is not None and point.extents == best[1].extents
        for place in [best[2]] if best is not None and near else elements(ctx.program, target, point, most=2):
            bend = _bend(found, point, place, inputs, down=down, level=level)
            if bend is None or bend[0] >= -_FLAT:
                continue
            if best is None or bend[0] < best[0]:
                best = (bend[0], point, place)
            for pair in _pairs(found, point, inputs, bend[1]):
                yield pair, place
                if passed(end):
                    return


def _bend(
    found: Ascent, point: Point, place: Place, inputs: tuple[str, ...], *, down: bool, level: bool
) -> tuple[float, dict[Entry, float]] | None:
    """The least second derivative in a direction of length 1, as a share of the largest of all, and the direction; among the
    entries with a slope."""
    here = found.gradient(point, place)
    if here is None:
        return None
    entries = [(n, p) for n in inputs for p in point.inputs[n] if here[n][p] != 0.0]
    if not 1 + level <= len(entries) <= _ENTRIES:
        return None
    rows = []
    for n, p in entries:
        moved = point.inputs[n][p] + Fraction(_STEP)
        if not within(moved, found.boxes[n]):
            return None
        beside = found.gradient(point.with_inputs({n: {**point.inputs[n], p: moved}}), place)
        if beside is None:
            return None
        rows.append([(beside[m][q] - here[m][q]) / _STEP for m, q in entries])
    second, slope = np.array(rows), np.array([here[n][p] for n, p in entries])
    second = (second + second.T) * (0.5 if down else -0.5)
    size, length = float(np.abs(second).max()), float(np.sqrt(slope @ slope))
    if size < _NOISE * (1.0 + length):
        return None
    basis = np.eye(len(slope))
    if level:  # an orthonormal basis of what is orthogonal to the slope
        basis = np.linalg.svd((slope / length)[None, :])[2][1:].T
    values, vectors = np.linalg.eigh(basis.T @ second @ basis)
    return float(values[0]) / size, dict(zip(entries, basis @ vectors[:, 0], strict=True))


def _pairs(found: Ascent, point: Point, inputs: tuple[str, ...], direction: dict[Entry, float]) -> Iterator[Pair]:
    """The point moved there and back, by some lengths."""
    top = max(abs(d) for d in direction.values())
    steps = {entry: Fraction(round(d / top * _GRID), _GRID) for entry, d in direction.items()}
    for length in _LENGTHS:
        ends = []
        for sign in (1, -1):
            moved = {n: dict(point.inputs[n]) for n in inputs}
            for (n, p), step in steps.items():
                moved[n][p] += sign * length * step
            if all(within(v, found.boxes[n]) for n in inputs for v in moved[n].values()):
                ends.append(point.with_inputs(moved))
        if len(ends) == 2:
            yield ends[0], ends[1]


__all__ = ["bends"]
