"""A loss and its gradient as functions of one entry of one input. How many points there are, and how many places are
searched for kinks, goes by counted work, so that a curve is the same on every machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossdsl.assemble import gradient_program
from lossdsl.ir.interpret import Interpreter, interpret
from lossdsl.ir.nodes import Input, Program
from lossdsl.ir.rewrite import members, prune, tensors
from lossdsl.plotting import sample
from lossdsl.plotting.kinks import HALVINGS, Kink, kinks, side, surfaces
from lossdsl.plotting.sample import CannotPlot, number, ordinary, parameters, spread, work

WIDTH = 5.0
POINTS = (401, 101, 41)  # the first of them whose work is done in WORK; the last in MOST
WORK = 3_000_000_000  # half a minute, about
MOST = 15_000_000_000
_PROBES = 10  # points by which it is seen whether a loss changes


@dataclass(frozen=True)
class Curve:
    """`x` is what is swept, `loss` and `gradient` what they are there; all float64 of one length. `complete`: all places
    that may have a kink were looked at."""

    axis: str
    x: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray
    kinks: tuple[Kink, ...]
    complete: bool = True


def sweep(program: Program, wrt: str | None = None) -> Curve:
    """Vary one entry of one input over [-5, 5] (cut to its range) and draw the first element of the loss, with all else
    as `ordinary` has it; where that does not change then or is no number (equal rows, empty boxes), with entries that
    differ; or the loss as it is reduced, along an entry in the middle (a border may be left out); or, without `wrt`,
    another input or learnable value.

    Where the loss has an input of the same shape called `target` or `y`, it is fixed and the axis is named after it:
    the residual for a real one, the margin for labels. Raises CannotPlot.
    """
    able = _able(program, wrt)
    whole = program.outputs[0].tensor
    element = program.reductions.none if program.reductions else whole
    sizes = sample.extents(program, MOST // POINTS[-1])
    tried: list[_Try] = []
    for swept in able if wrt is None else able[:1]:
        middle = tuple(d.evaluate(sizes) // 2 for d in swept.dims)
        corner = tuple(0 for _ in middle)
        ways = ((element, corner, False), (element, corner, True), (whole, corner, True), (whole, middle, True))
        for value, place, apart in dict.fromkeys(ways):
            tried.append(_Try(_Line(program, value, swept, place, sizes, apart)))
            if tried[-1].worth == 3:
                return tried[-1].curve()
    best = max(tried, key=lambda t: t.worth)
    if not best.worth:
        raise CannotPlot(f"{program.name} is not a finite number at any point of a plot")
    return best.curve()


class _Line:
    """The loss along one entry of one input: its value, its gradient, and on which side of each surface it is."""

    def __init__(
        self,
        program: Program,
        value: str,
        swept: Input,
        entry: tuple[int, ...],
        sizes: Mapping[str, int],
        apart: bool,
    ) -> None:
        """The first element of the tensor `value` along an entry of the input `swept`; all else is ordinary, or, if
        `apart`, spread. `sizes`: extents of all symbols."""
        self.program, self.swept, self.entry, self.apart = program, swept, entry, apart
        self.arrays = {i.name: ordinary(i, sizes) for i in program.inputs}
        if apart:
            for k, i in enumerate(program.inputs):
                self.arrays[i.name] = spread(i, self.arrays[i.name], 1 - k / (2 * len(program.inputs)))
        self.parameters = parameters(program)
        derived = gradient_program(program, value, (swept.name,))
        self.derived = prune(derived, ("return", f"d {swept.name}"))
        cotangent = next(i for i in self.derived.inputs if i.role == "cotangent")
        shape = tuple(d.evaluate(sizes) for d in cotangent.dims)
        self.unit = {cotangent.name: _unit(shape)}
        self.surfaces = surfaces(program)
        for p in (self.derived, self.surfaces):
            sample.affordable(p, sizes, MOST // POINTS[-1])
        self.shared = _shared(self.derived, self.surfaces)
        self.still = [self._still(p) for p in (self.derived, self.surfaces)]
        self.work = work(self.derived, sizes, self.still[0]) + work(
            self.surfaces, sizes, {*self.still[1], *self.shared}
        )
        self.work_of_sides = work(self.surfaces, sizes, self.still[1])

    def _still(self, program: Program) -> dict[str, Any]:
        """The tensors that are the same along the whole line, which are evaluated once."""
        moving = {self.swept.name}
        for item in program.body:
            if moving & {*tensors(item)}:
                moving.update(d.tensor for d in members(item))
        body = tuple(item for item in program.body if not any(d.tensor in moving for d in members(item)))
        machine = Interpreter(program.with_body(body), {**self.arrays, **self.unit}, self.parameters)
        machine.run()
        return {d.tensor: machine.values[d.tensor] for item in body for d in members(item)}

    def at(self, place: float) -> tuple[float, float, np.ndarray]:
        """Loss, gradient and sides."""
        arrays = self._arrays(place)
        names = ("return", f"d {self.swept.name}", *self.shared)
        found = interpret(self.derived, {**arrays, **self.unit}, self.parameters, outputs=names, known=self.still[0])
        value = np.asarray(found["return"])
        sides = self._sides(arrays, {t: found[t] for t in self.shared})
        return float(value[tuple(0 for _ in value.shape)]), float(np.asarray(found[names[1]])[self.entry]), sides

    def side(self, place: float) -> np.ndarray:
        """The sides alone."""
        return self._sides(self._arrays(place), {})

    def _arrays(self, place: float) -> dict[str, Any]:
        moved = self.arrays[self.swept.name].copy()
        moved[self.entry] = place
        return {**self.arrays, self.swept.name: moved}

    def _sides(self, arrays: Mapping[str, Any], known: Mapping[str, Any]) -> np.ndarray:
        if not self.surfaces.outputs:
            return np.zeros(0)
        known = {**self.still[1], **known}
        found = interpret(self.surfaces, arrays, self.parameters, known=known)
        return side([found[o.name] for o in self.surfaces.outputs])


class _Try:
    """A line at the points of a plot: some of them first, which say whether it is worth to draw."""

    def __init__(self, line: _Line) -> None:
        self.line = line
        lower, upper = (number(b, d) for b, d in ((line.swept.range.lower, -WIDTH), (line.swept.range.upper, WIDTH)))
        if line.swept.kind in ("prob", "simplex"):
            lower, upper = 0.0, 1.0
        elif line.swept.kind == "unit":
            lower, upper = -1.0, 1.0
        points = next((n for n in POINTS if n * line.work <= WORK), POINTS[-1])
        # an odd number of points, symmetric about 0: kinks of common losses are hit exactly
        self.x = np.linspace(max(lower, -WIDTH), min(upper, WIDTH), points)
        self.values = {k: line.at(float(self.x[k])) for k in range(0, points, points // _PROBES)}
        self.worth = self._worth()

    def _worth(self) -> int:
        """3 where the loss changes with the entry, 2 where only its value does (of a gradient that is held back), 1 for
        a constant, 0 where it is no finite number."""
        known = [(v, g) for v, g, _ in self.values.values() if np.isfinite(v)]
        if not known:
            return 0
        if any(g != 0 and not np.isnan(g) for _, g in known):
            return 3
        return 2 if any(v != known[0][0] for v, _ in known) else 1

    def curve(self) -> Curve:
        """All points, and the kinks."""
        line, x = self.line, self.x
        values = [self.values[k] if k in self.values else line.at(float(x[k])) for k in range(len(x))]
        loss, gradient = np.array([v for v, _, _ in values]), np.array([g for _, g, _ in values])
        most = WORK // (HALVINGS * line.work_of_sides + 5 * line.work)
        found, complete = kinks(x, gradient, [s for _, _, s in values], line.side, lambda p: line.at(p)[:2], most)
        return Curve(self._label(), x, loss, gradient, found, complete)

    def _label(self) -> str:
        swept, program = self.line.swept, self.line.program
        if self.line.apart:
            return f"{swept.name}[{', '.join(map(str, self.line.entry))}]" if swept.dims else swept.name
        others = {i.name: i for i in program.inputs if i is not swept}
        target = others.get("target") or others.get("y")
        if target is None:
            return swept.name
        if target.kind in ("binary", "sign", "class"):
            return f"{swept.name} of the true class"
        if target.kind != "real":
            return swept.name
        value = float(ordinary(target, {s: 1 for d in target.dims for s in d.symbols()}).flat[0])
        return f"{swept.name} - {target.name}" if value == 0 else f"{swept.name} ({target.name} = {value:g})"


def _able(program: Program, wrt: str | None) -> list[Input]:
    """The inputs that may be varied, and after them the learnable values. Raises CannotPlot where there is none."""
    able = [i for role in ("input", "learnable") for i in program.inputs if i.differentiable and i.role == role]
    if wrt is not None:
        able = [i for i in able if i.name == wrt]
        if not able:
            raise CannotPlot(f"'{wrt}' is no real input of {program.name}")
    if not able:
        raise CannotPlot(f"{program.name} has no real input to vary")
    return able


def _shared(one: Program, other: Program) -> Collection[str]:
    """Tensors that two programs define alike, from alike."""
    items = {d.tensor: item for item in one.body for d in members(item)}
    inputs = {i.name for i in one.inputs} & {i.name for i in other.inputs}
    alike: dict[str, None] = {}
    for item in other.body:
        mine = {d.tensor for d in members(item)}
        if all(items.get(t) == item for t in mine) and all(
            t in inputs or t in alike or t in mine for t in tensors(item)
        ):
            alike.update(dict.fromkeys(d.tensor for d in members(item)))
    return tuple(alike)


def _unit(shape: tuple[int, ...]) -> np.ndarray:
    cotangent = np.zeros(shape)
    cotangent[tuple(0 for _ in shape)] = 1.0
    return cotangent
