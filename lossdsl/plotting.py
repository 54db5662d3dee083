"""`lossdsl plot`: loss and gradient against the residual or the margin, by the reference interpreter."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lossdsl import pipeline
from lossdsl.assemble import gradient_program
from lossdsl.diagnostics import Diagnostic, Source
from lossdsl.ir.algebra import NODES
from lossdsl.ir.cost import count
from lossdsl.ir.extents import roomy
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Input,
    Output,
    Parameter,
    Program,
    Range,
    Scalar,
    postorder,
)
from lossdsl.primitives import PRIMITIVES

POINTS = 401
FEW = 41  # where a point takes long
SECONDS = 30.0  # of the processor, for all points
WIDTH = 5.0
LARGEST = 24  # what extents may grow by where a window needs more entries
WORK = 1_000_000  # operations of one value
ENTRIES = 4  # extent of every named axis that is not swept


class CannotPlot(Exception):
    """The loss has no input to vary, or the plotting library is missing; the message says which."""


@dataclass(frozen=True)
class Kink:
    """Where the curve is not smooth. `corner`: the gradient jumps; else only the derivative of the gradient does."""

    x: float
    loss: float
    corner: bool


@dataclass(frozen=True)
class Curve:
    """`x` is what is swept, `loss` and `gradient` what they are there; all float64 of one length."""

    axis: str
    x: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray
    kinks: tuple[Kink, ...]


def plot(source: Source, path: Path, *, only: str | None, wrt: str | None, dpi: int = 150) -> tuple[Diagnostic, ...]:
    """Draw the first loss of the source (or `only`) to `path`; PNG (of `dpi` dots an inch), SVG or PDF by its ending.

    Raises CannotPlot, or OSError if the file cannot be written. Nothing is written if the source is wrong.
    """
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError:
        raise CannotPlot("plots need matplotlib: pip install 'lossdsl[plot]'") from None
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise CannotPlot(f"'{path}' should end in .png, .svg or .pdf")
    matplotlib.use("Agg")
    analysis = pipeline.analyse(source, only)
    if analysis.failed or not analysis.losses:
        if not analysis.failed:
            raise CannotPlot(f"there is no loss {only or ''} in {source.path}")
        return analysis.diagnostics
    program = analysis.losses[0].program
    curve = sweep(program, wrt)
    _draw(program, curve, path, dpi)
    return analysis.diagnostics


def sweep(program: Program, wrt: str | None = None) -> Curve:
    """Vary one entry of one input over [-5, 5] (cut to its range) and everything else as `_ordinary` has it, or, where
    the loss does not change then (equal rows, empty boxes), with entries that differ.

    Where the loss has an input of the same shape called `target` or `y`, it is fixed and the axis is named after it:
    the residual for a real one, the margin for labels.
    """
    swept = _swept(program, wrt)
    lower, upper = (_number(b, d) for b, d in ((swept.range.lower, -WIDTH), (swept.range.upper, WIDTH)))
    if swept.kind in ("prob", "simplex"):
        lower, upper = 0.0, 1.0
    extents = _extents(program)
    line = _Line(program, swept, extents, spread=False)
    label = _axis_label(program, swept)
    start = time.process_time()
    line.at(max(lower, -WIDTH))
    seconds = time.process_time() - start
    points = POINTS if seconds * POINTS <= SECONDS else FEW
    if seconds * FEW > SECONDS:
        raise CannotPlot(f"a point of {program.name} takes {seconds:.1f} s, too long for a plot")
    # an odd number of points, symmetric about 0: kinks of common losses are hit exactly
    x = np.linspace(max(lower, -WIDTH), min(upper, WIDTH), points)
    probes = [line.at(float(value)) for value in x[:: points // 10]]
    if all(v == probes[0][0] and g == 0 for v, g, _ in probes):
        line = _Line(program, swept, extents, spread=True)
        label = f"{swept.name}[{', '.join('0' for _ in swept.dims)}]" if swept.dims else swept.name
    values = [line.at(float(value)) for value in x]
    loss, gradient = np.array([v for v, _, _ in values]), np.array([g for _, g, _ in values])
    return Curve(label, x, loss, gradient, tuple(_kinks(line, x, [m for _, _, m in values])))


def _extents(program: Program) -> dict[str, int]:
    """Small extents for which every definition has an element. Raises CannotPlot where a point would take too long."""
    parameters = _int_parameters({p.name: _parameter(p) for p in program.parameters})
    extents = {symbol: ENTRIES for i in program.inputs for dim in i.dims for symbol in dim.symbols()}
    extents |= parameters  # an integer parameter may be an extent
    extents = roomy(program, extents, set(parameters), LARGEST)
    if any(i.dim.evaluate(extents) < 1 for d in program.definitions() for i in (*d.formals, *d.bound)):
        raise CannotPlot(f"{program.name} is about inputs that are larger than a plot can vary")
    work = count(program, extents)
    if work > WORK:
        raise CannotPlot(f"{program.name} takes {work:.1e} operations at each point, too many for a plot")
    return extents


class _Line:
    """The loss along one entry of one input: its value, its gradient, and on which side of each surface it is."""

    def __init__(self, program: Program, swept: Input, extents: dict[str, int], spread: bool) -> None:
        self.program, self.swept = program, swept
        self.arrays = {i.name: _ordinary(i, extents) for i in program.inputs}
        if spread:
            for k, i in enumerate(program.inputs):
                self.arrays[i.name] = _spread(i, self.arrays[i.name], 1 - k / (2 * len(program.inputs)))
        self.parameters = {p.name: _parameter(p) for p in program.parameters}
        output = program.reductions.none if program.reductions else program.outputs[0].tensor
        self.derived = gradient_program(program, output, (swept.name,))
        cotangent = next(i for i in self.derived.inputs if i.role == "cotangent")
        shape = tuple(d.evaluate({**extents, **_int_parameters(self.parameters)}) for d in cotangent.dims)
        self.unit = {cotangent.name: _unit(shape)}
        self.surfaces = surfaces(program)

    def at(self, value: float) -> tuple[float, float, tuple[float, ...]]:
        place = tuple(0 for _ in self.swept.dims)
        arrays = {**self.arrays, self.swept.name: self.arrays[self.swept.name].copy()}
        arrays[self.swept.name][place] = value
        result = interpret(self.derived, {**arrays, **self.unit}, self.parameters)
        values = np.asarray(result[self.derived.outputs[0].name])
        gradient = float(np.asarray(result[f"d {self.swept.name}"])[place])
        sides: list[float] = []
        if self.surfaces.outputs:
            found = interpret(self.surfaces, arrays, self.parameters)
            sides = [float(v) for o in self.surfaces.outputs for v in np.sign(found[o.name]).flat]
        return float(values[tuple(0 for _ in values.shape)]), gradient, tuple(sides)


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
    return replace(program, body=tuple(body), outputs=tuple(outputs), reductions=None)


def _kinks(line: _Line, x: np.ndarray, sides: list[tuple[float, ...]]) -> Iterator[Kink]:
    """Where a side changes and, by differences of the gradient close to it, the curve has a kink indeed."""
    last = -np.inf
    for k in range(len(x) - 1):
        if sides[k] == sides[k + 1]:
            continue
        low, high = float(x[k]), float(x[k + 1])
        for _ in range(45):
            middle = (low + high) / 2
            low, high = (middle, high) if line.at(middle)[2] == sides[k] else (low, middle)
        place = high
        if place - last < 1e-6:
            continue
        h = 1e-4
        left, right = [line.at(place + j * h)[1] for j in (-2, -1)], [line.at(place + j * h)[1] for j in (1, 2)]
        slope = max(abs(left[1] - left[0]), abs(right[1] - right[0]))
        size = 1e-6 * (1 + abs(left[1]) + abs(right[0]))
        corner = abs(right[0] - left[1]) > 10 * slope + size
        if corner or abs((right[1] - right[0]) - (left[1] - left[0])) > 0.05 * slope + size:
            last = place
            yield Kink(place, line.at(place)[0], corner)


def _swept(program: Program, wrt: str | None) -> Input:
    able = [i for i in program.inputs if i.differentiable and i.role == "input"]
    if wrt is not None:
        able = [i for i in able if i.name == wrt]
        if not able:
            raise CannotPlot(f"'{wrt}' is no real input of {program.name}")
    if not able:
        raise CannotPlot(f"{program.name} has no real input to vary")
    return able[0]


def _axis_label(program: Program, swept: Input) -> str:
    others = {i.name: i for i in program.inputs if i is not swept}
    target = others.get("target") or others.get("y")
    if target is None:
        return swept.name
    if target.kind in ("binary", "sign", "class"):
        return f"{swept.name} of the true class"
    if target.kind != "real":
        return swept.name
    value = float(_ordinary(target, {s: 1 for d in target.dims for s in d.symbols()}).flat[0])
    return f"{swept.name} - {target.name}" if value == 0 else f"{swept.name} ({target.name} = {value:g})"


def _ordinary(i: Input, extents: dict[str, int]) -> np.ndarray:
    shape = tuple(d.evaluate(extents) for d in i.dims)
    if i.kind == "simplex":
        return np.full(shape, 1.0 / max(1, shape[i.over[0]]))
    if i.kind in ("binary", "sign", "bool"):
        return np.ones(shape, dtype=np.int64)
    if i.kind in ("class", "int"):
        return np.zeros(shape, dtype=np.int64)
    lower, upper = _number(i.range.lower, -np.inf), _number(i.range.upper, np.inf)
    value = float(np.clip(0.0, lower, upper))
    if value == lower and np.isfinite(upper):
        value = (lower + upper) / 2
    elif value == lower and i.range.lower is not None:
        value = lower + 1.0
    return np.full(shape, value)


def _spread(i: Input, ordinary: np.ndarray, size: float) -> np.ndarray:
    """Real values: ordinary ones plus a ramp from -size to size over all entries, inside the domain. Labels: the first
    two classes in pairs."""
    if i.kind in ("class", "int"):
        pairs = np.arange(ordinary.size) // 2 % 2
        fits = i.classes is None or i.classes.symbols() or i.classes.evaluate({}) > 1
        return pairs.reshape(ordinary.shape) if fits and i.range == Range() else ordinary
    if i.kind != "real":
        return ordinary
    lower, upper = _number(i.range.lower, -np.inf), _number(i.range.upper, np.inf)
    reach = min(
        size, size * float(np.min(ordinary - lower, initial=1.0)), size * float(np.min(upper - ordinary, initial=1.0))
    )
    ramp: np.ndarray = np.linspace(-reach, reach, ordinary.size).reshape(ordinary.shape)
    moved: np.ndarray = ordinary + ramp
    return moved


def _unit(shape: tuple[int, ...]) -> np.ndarray:
    cotangent = np.zeros(shape)
    cotangent[tuple(0 for _ in shape)] = 1.0
    return cotangent


def _number(bound: Any, otherwise: float) -> float:
    return float(bound.value) if isinstance(bound, Const) and isinstance(bound.value, Fraction) else otherwise


def _parameter(p: Parameter) -> float | int | bool:
    if p.default is None:
        raise CannotPlot(f"parameter '{p.name}' has no default")
    value = p.default.value
    number = float(value)
    return {"real": number, "int": int(number), "bool": bool(number)}[p.kind]


def _int_parameters(parameters: dict[str, float | int | bool]) -> dict[str, int]:
    return {name: int(v) for name, v in parameters.items() if isinstance(v, int)}


def _draw(program: Program, curve: Curve, path: Path, dpi: int) -> None:
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.axhline(0, color="0.8", linewidth=0.8)
    axes.plot(curve.x, curve.loss, label="loss", color="tab:blue")
    axes.plot(curve.x, curve.gradient, label="gradient", color="tab:orange", linestyle="--")
    for corner, face, words in ((True, "tab:blue", "kink of the loss"), (False, "white", "kink of the gradient")):
        found = [k for k in curve.kinks if k.corner is corner]
        if found:
            places = [k.x for k in found], [k.loss for k in found]
            axes.plot(*places, "o", color="tab:blue", markerfacecolor=face, markersize=6, label=words)
    values = {p.name: _parameter(p) for p in program.parameters}
    shown = {n: str(v).lower() if isinstance(v, bool) else f"{v:g}" for n, v in values.items()}
    settings = ", ".join(f"{n} = {v}" for n, v in shown.items())
    axes.set(xlabel=curve.axis, title=program.name + (f" ({settings})" if settings else ""))
    axes.legend()
    figure.savefig(path, dpi=dpi)
    pyplot.close(figure)
