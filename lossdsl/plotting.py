"""`lossdsl plot`: loss and gradient against the residual or the margin, by the reference interpreter."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lossdsl import pipeline
from lossdsl.assemble import gradient_program
from lossdsl.diagnostics import Diagnostic, Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Const, Input, Parameter, Program

POINTS = 801
WIDTH = 5.0
ENTRIES = 4  # extent of every named axis that is not swept


class CannotPlot(Exception):
    """The loss has no input to vary, or the plotting library is missing; the message says which."""


@dataclass(frozen=True)
class Curve:
    """`x` is what is swept, `loss` and `gradient` what they are there; all float64 of one length."""

    axis: str
    x: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray


def plot(source: Source, path: Path, *, only: str | None, wrt: str | None) -> tuple[Diagnostic, ...]:
    """Draw the first loss of the source (or `only`) to `path`; PNG, SVG or PDF by its ending.

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
    _draw(program, curve, path)
    return analysis.diagnostics


def sweep(program: Program, wrt: str | None = None) -> Curve:
    """Vary one entry of one input over [-5, 5] (cut to its range) and everything else as `_ordinary` has it.

    Where the loss has an input of the same shape called `target` or `y`, it is fixed and the axis is named after it:
    the residual for a real one, the margin for labels.
    """
    swept = _swept(program, wrt)
    lower, upper = (_number(b, d) for b, d in ((swept.range.lower, -WIDTH), (swept.range.upper, WIDTH)))
    if swept.kind in ("prob", "simplex"):
        lower, upper = 0.0, 1.0
    # an odd number of points, symmetric about 0: kinks of common losses are hit exactly
    x = np.linspace(max(lower, -WIDTH), min(upper, WIDTH), POINTS)
    extents = {symbol: ENTRIES for i in program.inputs for dim in i.dims for symbol in dim.symbols()}
    for axis_dim in swept.dims:
        for symbol in axis_dim.symbols():
            extents.setdefault(symbol, ENTRIES)
    parameters = {p.name: _parameter(p) for p in program.parameters}
    output = program.reductions.none if program.reductions else program.outputs[0].tensor
    derived = gradient_program(program, output, (swept.name,))
    cotangent = next(i for i in derived.inputs if i.role == "cotangent")
    loss, gradient = np.empty_like(x), np.empty_like(x)
    place = tuple(0 for _ in swept.dims)
    for k, value in enumerate(x):
        arrays = {i.name: _ordinary(i, extents) for i in program.inputs}
        arrays[swept.name][place] = value
        shape = tuple(d.evaluate({**extents, **_int_parameters(parameters)}) for d in cotangent.dims)
        result = interpret(derived, {**arrays, cotangent.name: _unit(shape)}, parameters)
        values = np.asarray(result[derived.outputs[0].name])
        loss[k] = values[tuple(0 for _ in values.shape)]
        gradient[k] = np.asarray(result[f"d {swept.name}"])[place]
    return Curve(_axis_label(program, swept), x, loss, gradient)


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
    return f"{swept.name} - {target.name}"


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


def _draw(program: Program, curve: Curve, path: Path) -> None:
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.axhline(0, color="0.8", linewidth=0.8)
    axes.plot(curve.x, curve.loss, label="loss", color="tab:blue")
    axes.plot(curve.x, curve.gradient, label="gradient", color="tab:orange", linestyle="--")
    for k in kinks(curve):
        axes.plot(curve.x[k], curve.loss[k], "o", color="tab:blue", markersize=5)
        axes.annotate("kink", (curve.x[k], curve.loss[k]), textcoords="offset points", xytext=(6, 6), fontsize=8)
    settings = ", ".join(f"{p.name} = {_parameter(p):g}" for p in program.parameters)
    axes.set(xlabel=curve.axis, title=program.name + (f" ({settings})" if settings else ""))
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def kinks(curve: Curve) -> list[int]:
    """Indices where the slope of the drawn gradient jumps: a jump of the gradient is far larger than its neighbours."""
    jump = np.abs(np.diff(curve.gradient))
    if not np.isfinite(jump).all() or len(jump) < 5:
        return []
    around = np.maximum(np.roll(jump, 2), np.roll(jump, -2))
    floor = 1e-6 * (1 + np.abs(curve.gradient).max())
    found = [k for k in range(2, len(jump) - 2) if jump[k] > 20 * around[k] + floor]
    return [k + 1 for k in found if k - 1 not in found]
