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
from lossdsl.verify.points import Place, Point, elements, rows, within
from lossdsl.verify.work import CLOCK

Array = np.ndarray[Any, Any]
_FREE = ("real", "prob")  # entries of these kinds may be moved one by one
_ROWS = ("simplex", "unit")  # and of these only rows
_NODE = 5  # steps of the clock for a node at all its places
_LENGTHS = (Fraction(1, 2**12), Fraction(1, 64), Fraction(1, 2**22), Fraction(1, 2))
_MOST = 2_000_000  # operations of one gradient
_OPERATIONS = 500  # of a large array, in a step of the clock
_GRID = 1024


@dataclass
class Steep:
    """A point, an element, the gradient of the element, and the largest slope."""

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
        self.declared = {i.name: i for i in ctx.program.inputs}
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

    def steep(self, point: Point, place: Place, norm: str) -> Steep | None:
        """The gradient at a point with the largest slope that a step in it makes; None without one."""
        found = self.gradient(point, place)
        if found is None:
            return None
        directions = {n: self._direction(n, g, point, norm) for n, g in found.items()}
        slope = sum(float((g * directions[n]).sum()) for n, g in found.items())
        length = _norm(list(directions.values()), norm)
        return Steep(point, place, found, slope / length if length > 0 else 0.0)

    def places(self, points: Iterator[Point], norm: str) -> Iterator[Steep]:
        """The points and points near the steepest so far, as they are visited; each is at least as steep as before."""
        best: Steep | None = None
        for k, drawn in enumerate(points):
            point = drawn if best is None or k % 3 == 0 else self.near(best.point, k)
            if point is None or not self.ctx.admits(point):
                continue
            for place in elements(self.ctx.program, self.target, point) if point is drawn or not best else [best.place]:
                found = self.steep(point, place, norm)
                if found is not None and found.size > (best.size if best is not None else 0.0):
                    best = found
                    yield best

    def of(self, points: Iterator[Point], norm: str) -> Iterator[Steep]:
        """The points as they come, with their gradients."""
        for point in points:
            for place in elements(self.ctx.program, self.target, point):
                found = self.steep(point, place, norm)
                if found is not None:
                    yield found

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
        directions = {n: self._direction(n, g, steep.point, norm) for n, g in steep.gradient.items()}
        for length in _LENGTHS:
            for sign in (1, -1):
                moved = {n: self._step(n, d, steep.point, sign * length) for n, d in directions.items()}
                if moved != {n: steep.point.inputs[n] for n in moved}:
                    yield steep.point, steep.point.with_inputs(moved)

    def _direction(self, name: str, gradient: Array, point: Point, norm: str) -> Array:
        """The direction of the largest slope, with entries of at most 1: on a simplex of a sum of 0; a tangent of a sphere,
        that of the gradient whatever the norm."""
        declared = self.declared[name]
        if declared.kind not in _ROWS:
            return _scaled(_direction(gradient, norm))
        out, best = np.zeros_like(gradient), 0.0
        for row in rows(declared, point.inputs[name]):
            at = tuple(np.array(row).T)
            if declared.kind == "simplex":
                along = _on_simplex(gradient[at], norm)
            else:
                here = np.array([float(point.inputs[name][p]) for p in row])
                along = gradient[at] - (gradient[at] @ here) * here
            slope = gradient[at] @ along / (_norm([along], norm) or 1.0)
            if norm == "l1" and slope > best:
                out[:], best = 0.0, slope
                out[at] = along
            elif norm != "l1":
                out[at] = along
        return _scaled(out)

    def _step(self, name: str, direction: Array, point: Point, length: Fraction) -> dict[Place, Fraction]:
        """The entries so far in the direction; those that would leave the domain stay."""
        declared, entries = self.declared[name], dict(point.inputs[name])
        step = {p: length * Fraction(round(float(direction[p]) * _GRID), _GRID) for p in entries}
        if declared.kind not in _ROWS:
            moved = {p: v + step[p] for p, v in entries.items()}
            return {p: w if within(w, self.boxes[name]) else entries[p] for p, w in moved.items()}
        for row in rows(declared, entries):
            entries |= (_within_simplex if declared.kind == "simplex" else _around_sphere)(
                {p: entries[p] for p in row}, {p: step[p] for p in row}
            )
        return entries


def ascent(ctx: Context, target: str, inputs: tuple[str, ...]) -> Ascent | None:
    """The gradients of the target in the inputs, if they are real and there are some."""
    key = ("ascent", target, inputs)
    if key not in ctx.memo:
        kinds = [i for i in ctx.program.inputs if i.name in inputs]
        able = kinds and all(i.kind in (*_FREE, *_ROWS) and i.dtype is REAL for i in kinds)
        try:
            ctx.memo[key] = Ascent(ctx, target, inputs) if able else None
        except (NotYetError, NotImplementedError, ValueError, KeyError, StopIteration):
            ctx.memo[key] = None
    found: Ascent | None = ctx.memo[key]
    return found


def _norm(vectors: list[Array], norm: str) -> float:
    flat = np.abs(np.concatenate([v.ravel() for v in vectors])) if vectors else np.zeros(0)
    if norm == "l1":
        return float(flat.sum())
    return float(flat.max(initial=0.0)) if norm == "linf" else float(np.sqrt((flat**2).sum()))


def _direction(gradient: Array, norm: str) -> Array:
    """The direction of the largest slope in a space."""
    if norm == "linf":
        return np.sign(gradient)
    if norm == "l1":
        top = np.abs(gradient).max(initial=0.0)
        return np.where(np.abs(gradient) == top, np.sign(gradient), 0.0)
    return gradient


def _on_simplex(gradient: Array, norm: str) -> Array:
    """The same among the directions of a sum of 0."""
    if norm == "l2":
        centred: Array = gradient - gradient.mean()
        return centred
    order = np.argsort(gradient, kind="stable")
    most = len(order) // 2 if norm == "linf" else min(1, len(order) // 2)
    out = np.zeros_like(gradient)
    out[order[len(order) - most :]], out[order[:most]] = 1.0, -1.0
    return out


def _scaled(direction: Array) -> Array:
    top = float(np.abs(direction).max(initial=0.0))
    return direction / top if top > 0 else direction


def _within_simplex(row: dict[Place, Fraction], step: dict[Place, Fraction]) -> dict[Place, Fraction]:
    """The row so far in the direction, if it stays in the simplex."""
    mean = sum(step.values(), Fraction(0)) / len(row)
    moved = {p: v + step[p] - mean for p, v in row.items()}
    return moved if all(v >= 0 for v in moved.values()) else row


def _around_sphere(row: dict[Place, Fraction], step: dict[Place, Fraction]) -> dict[Place, Fraction]:
    """The row reflected to about `row + step`, `step` about a tangent: with m = step - a row, where a is such that
    <row, m> = -|step|^2 / 2, the reflection row - 2 <row, m> / |m|^2 m is about row + m."""
    a = sum((row[p] * step[p] + step[p] ** 2 / 2 for p in row), Fraction(0))
    return reflected(row, {p: step[p] - a * row[p] for p in row})


def reflected(row: dict[Place, Fraction], mirror: dict[Place, Fraction]) -> dict[Place, Fraction]:
    """A vector reflected at the hyperplane that is normal to `mirror`: of the same length, exactly."""
    square = sum((m * m for m in mirror.values()), Fraction(0))
    if square == 0:
        return row
    twice = 2 * sum((row[p] * mirror[p] for p in row), Fraction(0)) / square
    return {p: row[p] - twice * mirror[p] for p in row}


def _array(i: Input, point: Point) -> Array:
    kind = np.float64 if i.dtype is REAL else np.bool_ if i.dtype is BOOL else np.int64
    array: Array = np.zeros([d.evaluate(point.extents) for d in i.dims], dtype=kind)
    for place, value in point.inputs[i.name].items():
        array[place] = float(value) if i.dtype is REAL else int(value)
    return array


__all__ = ["Ascent", "Steep", "ascent", "reflected"]
