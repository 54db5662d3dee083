"""A curve as a picture."""

from __future__ import annotations

import importlib
import textwrap
from pathlib import Path

from lossdsl import pipeline
from lossdsl.diagnostics import Diagnostic, Source
from lossdsl.ir.nodes import Program
from lossdsl.plotting.curve import Curve, sweep
from lossdsl.plotting.sample import CannotPlot, parameters

_TITLE = 60  # letters in a line of it
_TIED = "\u00a0"  # a space at which no line ends
_SPARSE = 50  # so few points are marked: between them the curve is a guess


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
    _draw(program, sweep(program, wrt), path, dpi)
    return analysis.diagnostics


def _draw(program: Program, curve: Curve, path: Path, dpi: int) -> None:
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.axhline(0, color="0.8", linewidth=0.8)
    mark = "." if len(curve.x) <= _SPARSE else None
    axes.plot(curve.x, curve.loss, label="loss", color="tab:blue", marker=mark)
    axes.plot(curve.x, curve.gradient, label="gradient", color="tab:orange", linestyle="--", marker=mark)
    some = "" if curve.complete else " (not all are marked)"
    for corner, face, words in ((True, "tab:blue", "kink of the loss"), (False, "white", "kink of the gradient")):
        found = [k for k in curve.kinks if k.corner is corner]
        if found:
            places = [k.x for k in found], [k.loss for k in found]
            axes.plot(*places, "o", color="tab:blue", markerfacecolor=face, markersize=6, label=words + some)
    if some and not curve.kinks:
        axes.plot([], [], " ", label="kinks are not marked")
    shown = {n: str(v).lower() if isinstance(v, bool) else f"{v:g}" for n, v in parameters(program).items()}
    settings = ", ".join(f"{n}{_TIED}={_TIED}{v}" for n, v in shown.items())
    title = textwrap.fill(program.name + (f" ({settings})" if settings else ""), _TITLE)
    axes.set(xlabel=curve.axis, title=title.replace(_TIED, " "))
    axes.legend()
    figure.savefig(path, dpi=dpi)
    pyplot.close(figure)
