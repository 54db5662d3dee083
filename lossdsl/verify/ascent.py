"""Candidates for steep places: points at which the gradient, as it is compiled, is large, and the direction in which the
target changes most there. In float64, by the reference interpreter; nothing that is found here is evidence, the caller
certifies it by enclosures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from lossdsl.ir.cost import count
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import BOOL, REAL, Input, postorder
from lossdsl.transform.arithmetic import NotYetError
from lossdsl.transform.gradient import gradient
from lossdsl.verify.context import Context
from lossdsl.verify.points import Place, Point, elements, within
from lossdsl.verify.work import CLOCK

Array = np.ndarray[Any, Any]
_FREE = ("real", "prob")  # entries of these kinds may be moved one by one
_NODE = 5  # steps of the clock for a node at all its places
_LENGTHS = (Fraction(1, 2**12), Fraction(1, 64), Fraction(1, 2**22), Fraction(1, 2))
_MOST = 2_000_000  # operations of one gradient
_OPERATIONS = 500  # of a large array, in a step of the clock
_GRID = 1024


@dataclass
class Steep:
    """A point, an element, the gradient of the element, and its dual norm."""

    point: Point
    place: Place
    gradient: dict[str, Array]
    size: float


class Ascent:
    """Gradients of one element of the target in some inputs. Raises NotYetError, ValueError or KeyError without one."""

    def __init__(self, ctx: Context, target: str, inputs: tuple[str, ...]) -> None:
        self.ctx, self.target, self.inputs = ctx, target, inputs
        self.program = gradient(ctx.program, target, inputs)
        self.cotangent = next(i for i in self.program.inputs if i.role == "cotangent")
        self.cost = _NODE * sum(1 for d in self.program.definitions() for _ in postorder(*d.scalars()))
        self.work: dict[tuple[tuple[str, int], ...], int] = {}  # operations, by extents
        self.random = random.Random(37)
        self.free = [i for i in ctx.program.inputs if i.kind in _FREE and i.dtype is REAL]
        ranges = ctx.ranges(inputs)
        self.boxes = {i.name: ranges.input(i.name) for i in self.free}

    def gradient(self, point: Point, place: Place) -> dict[str, Array] | None:
        """d target[place] / d input for each input, if all of it is finite."""
        CLOCK.steps += self.cost
        key = tuple(sorted(point.extents.items()))
        if key not in self.work:
            self.work[key] = count(self.program, point.extents)
        if self.work[key] > _MOST:
            return None
        CLOCK.steps += self.work[key] // _OPERATIONS
        arrays: dict[str, Array] = {i.name: _array(i, point) for i in self.ctx.program.inputs}
        cotangent = np.zeros([d.evaluate(point.extents) for d in self.cotangent.dims])
        cotangent[place] = 1.0
        kinds = {p.name: p.kind for p in self.ctx.program.parameters}
        parameters = {n: float(v) if kinds[n] == "real" else int(v) for n, v in point.parameters.items()}
        try:
            with np.errstate(all="ignore"):
                found = interpret(self.program, {**arrays, self.cotangent.name: cotangent}, parameters)
        except (ValueError, KeyError, OverflowError, ZeroDivisionError):
            return None
        slopes = {n: np.asarray(found[f"d {n}"], dtype=float).reshape(arrays[n].shape) for n in self.inputs}
        return slopes if all(np.isfinite(g).all() for g in slopes.values()) else None

    def places(self, points: Iterator[Point], norm: str) -> Iterator[Steep]:
        """The points and points near the steepest so far, as they are visited; each is at least as steep as before."""
        best: Steep | None = None
        for k, drawn in enumerate(points):
            point = drawn if best is None or k % 3 == 0 else self.near(best.point, k)
            if point is None or not self.ctx.admits(point):
                continue
            for place in elements(self.ctx.program, self.target, point) if point is drawn or not best else [best.place]:
                found = self.gradient(point, place)
                size = 0.0 if found is None else dual(list(found.values()), norm)
                if found is not None and size > (best.size if best is not None else 0.0):
                    best = Steep(point, place, found, size)
                    yield best

    def of(self, points: Iterator[Point], norm: str) -> Iterator[Steep]:
        """The points as they come, with their gradients."""
        for point in points:
            for place in elements(self.ctx.program, self.target, point):
                found = self.gradient(point, place)
                if found is not None:
                    yield Steep(point, place, found, dual(list(found.values()), norm))

    def near(self, point: Point, k: int) -> Point | None:
        """The point with its free entries moved a little, or all of one input scaled."""
        inputs = {}
        scale = (0.05, 0.5, 2.0)[k // 3 % 3]
        scaled = self.random.choice(self.free).name if self.free and k % 5 == 4 else ""
        factor = self.random.choice((2, Fraction(1, 2), -1))
        for i in self.free:
            entries = {}
            for p, v in point.inputs[i.name].items():
                if scaled:
                    moved = factor * v if i.name == scaled else v
                else:
                    step = round(self.random.gauss(0, scale) * 256)
                    moved = v + Fraction(step, 256) if self.random.random() < 0.6 else v
                entries[p] = moved if within(moved, self.boxes[i.name]) else v
            inputs[i.name] = entries
        return point.with_inputs(inputs)

    def pairs(self, steep: Steep, norm: str) -> Iterator[tuple[Point, Point]]:
        """The point and points in the direction of the steepest change, at some distances."""
        directions = _directions(steep.gradient, norm)
        for length in _LENGTHS:
            for sign in (1, -1):
                moved = {}
                for n, d in directions.items():
                    entries = dict(steep.point.inputs[n])
                    for p in entries:
                        value = entries[p] + sign * length * Fraction(round(float(d[p]) * _GRID), _GRID)
                        if within(value, self.boxes[n]):
                            entries[p] = value
                    moved[n] = entries
                if moved != {n: steep.point.inputs[n] for n in moved}:
                    yield steep.point, steep.point.with_inputs(moved)


def ascent(ctx: Context, target: str, inputs: tuple[str, ...]) -> Ascent | None:
    """The gradients of the target in the inputs, if they have entries that may be moved one by one."""
    key = ("ascent", target, inputs)
    if key not in ctx.memo:
        kinds = [i for i in ctx.program.inputs if i.name in inputs]
        able = kinds and all(i.kind in _FREE and i.dtype is REAL for i in kinds)
        try:
            ctx.memo[key] = Ascent(ctx, target, inputs) if able else None
        except (NotYetError, NotImplementedError, ValueError, KeyError, StopIteration):
            ctx.memo[key] = None
    found: Ascent | None = ctx.memo[key]
    return found


def dual(gradients: list[Array], norm: str) -> float:
    """The largest slope in a direction of length 1 in the norm."""
    flat = np.abs(np.concatenate([g.ravel() for g in gradients])) if gradients else np.zeros(0)
    if norm == "l1":
        return float(flat.max(initial=0.0))
    return float(flat.sum()) if norm == "linf" else float(np.sqrt((flat**2).sum()))


def _directions(gradient: dict[str, Array], norm: str) -> dict[str, Array]:
    """The direction of the largest slope, with entries of at most 1."""
    top = max((float(np.abs(g).max(initial=0.0)) for g in gradient.values()), default=0.0) or 1.0
    if norm == "linf":
        return {n: np.sign(g) for n, g in gradient.items()}
    if norm == "l1":
        return {n: np.where(np.abs(g) == top, np.sign(g), 0.0) for n, g in gradient.items()}
    return {n: g / top for n, g in gradient.items()}


def _array(i: Input, point: Point) -> Array:
    kind = np.float64 if i.dtype is REAL else np.bool_ if i.dtype is BOOL else np.int64
    array: Array = np.zeros([d.evaluate(point.extents) for d in i.dims], dtype=kind)
    for place, value in point.inputs[i.name].items():
        array[place] = float(value) if i.dtype is REAL else int(value)
    return array


__all__ = ["Ascent", "Steep", "ascent", "dual"]
