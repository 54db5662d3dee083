"""Plots: kinks where they are, losses that change, and work that is counted."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lossdsl import pipeline, plotting
from lossdsl.catalogue import find
from lossdsl.diagnostics import Source
from lossdsl.ir.nodes import Program
from lossdsl.plotting import curve as curves
from lossdsl.plotting import sample
from lossdsl.plotting.kinks import kinks, side
from lossdsl.syntax.source import read_source

# (place, whether it is a corner) of the kinks of a loss at its defaults
KINKS = {
    "regression.huber": [(-1, False), (1, False)],
    "regression.mae": [(0, True)],
    "regression.mse": [],
    "regression.quantile": [(0, True)],
    "classification.hinge": [(1, True)],
    "classification.squared_hinge": [(1, False)],
    "classification.focal": [],
    "classification.cross_entropy": [],
}


def named(name: str) -> Program:
    return pipeline.analyse(read_source(find(name)[0])[0]).losses[0].program


def written(text: str) -> Program:
    analysis = pipeline.analyse(Source("f.loss", text))
    assert not analysis.failed, analysis.diagnostics
    return analysis.losses[0].program


def along_the_first(program: Program, *, apart: bool) -> curves._Line:
    sizes, first = sample.extents(program, curves.MOST), program.inputs[0]
    return curves._Line(program, program.outputs[0].tensor, first, (0,) * len(first.dims), sizes, apart)


@pytest.mark.parametrize("name", KINKS)
def test_kinks_are_where_the_pieces_meet(name: str) -> None:
    found = plotting.sweep(named(name)).kinks
    assert [(pytest.approx(place, abs=1e-6), corner) for place, corner in KINKS[name]] == [
        (k.x, k.corner) for k in found
    ]


def test_kinks_of_a_largest_entry_and_off_the_grid() -> None:
    text = "loss f:\n    input x: real[n]\n    return max(x) + sum(relu(x - 1 / 3)^2) + sum(abs(relu(-x) + 1))\n"
    found = plotting.sweep(written(text)).kinks
    assert [(round(k.x, 5), k.corner) for k in found] == [(0.0, True), (0.33333, False)]


STEPPED = """loss f:
    input x: real[n]

    axis k = 6
    state[k, n] = relu(x - 1 / 3) if k == 0 else max(state[k = k - 1], 0.5 * state[k = k - 1])
    return sum(state[k = 5])
"""


def test_surfaces_without_a_value_are_not_crossed() -> None:
    """The step before the first has none, which is no reason to search everywhere, nor to end at a point of the grid."""
    program = written(STEPPED)
    line = along_the_first(program, apart=False)
    assert 2.0 in line.side(-1.0), "no surface without a value"
    x = np.linspace(-5, 5, 401)
    assert sum(not np.array_equal(line.side(a), line.side(b)) for a, b in pairwise(x)) == 1
    assert [(round(k.x, 6), k.corner) for k in plotting.sweep(program).kinks] == [(0.333333, True)]


def test_so_many_places_are_searched_as_there_is_work_for() -> None:
    """First those where the gradient bends most; that others are left is said."""
    ends = np.array([-3.13, -1.13, 0.87, 2.87])
    heights = np.array([1.0, 4.0, 2.0, 3.0])
    x = np.linspace(-5, 5, 101)
    looked = 0

    def at(place: float) -> tuple[float, float]:
        return float(heights @ np.maximum(0, place - ends)), float(heights @ (place > ends))

    def side_at(place: float) -> np.ndarray:
        nonlocal looked
        looked += 1
        return side([place - ends])

    gradient = np.array([at(float(v))[1] for v in x])
    sides = [side_at(float(v)) for v in x]
    for most, places in ((4, [-3.13, -1.13, 0.87, 2.87]), (2, [-1.13, 2.87]), (0, [])):
        looked = 0
        found, complete = kinks(x, gradient, sides, side_at, at, most)
        assert [round(k.x, 6) for k in found] == places
        assert complete == (most == 4)
        assert looked <= 30 * most


WINDOW = """    axis i, j = {}
    return mean(x[n + i] * x[n + j] over n, i, j)
"""


def test_the_work_of_a_plot_is_counted() -> None:
    """A loss of large windows has fewer points, and one that is too large has none."""
    program = named("ms_ssim")
    sizes = sample.extents(program, curves.MOST // curves.POINTS[-1])
    assert sizes["h"] == sizes["w"] == 176
    assert sizes["b"] == sizes["c"] == 1
    assert 101 * sample.work(program, sizes) > curves.WORK
    assert 41 * sample.work(program, sizes) < curves.MOST
    with pytest.raises(plotting.CannotPlot, match="too many for a plot"):
        sample.extents(program, 1_000_000)
    for window, why in ((9000, "larger than a plot can vary"), (4000, "points in one tensor, too many for a plot")):
        with pytest.raises(plotting.CannotPlot, match=why):
            plotting.sweep(written(f"loss f:\n    input x: real[n]\n{WINDOW.format(window)}"))


def test_the_work_of_a_recurrence_is_that_of_its_steps() -> None:
    program = named("soft_dtw")
    small, large = (sample.work(program, {"b": 1, "d": 1, "t": n, "u": n}) for n in (4, 8))
    assert 3.5 < large / small < 4.5


def test_what_stands_still_is_evaluated_once() -> None:
    """The same curve as without, and less work."""
    program = named("sliced_wasserstein")
    line = along_the_first(program, apart=True)
    still = set(line.still[0]) & {d.tensor for d in program.definitions()}
    assert still, "nothing of y stands still"
    before = line.at(0.3)
    line.still, line.shared = ({}, {}), ()
    after = line.at(0.3)
    assert before[:2] == after[:2]
    assert np.array_equal(before[2], after[2])


@pytest.mark.parametrize("name", ["info_nce", "triplet", "batch_hard_triplet", "giou", "ciou"])
def test_a_plot_is_not_a_constant(name: str) -> None:
    """Equal rows or empty boxes have a loss that does not change, or none; then entries differ, and the axis says what
    moves."""
    curve = plotting.sweep(named(name))
    assert np.ptp(curve.loss) > 0.1
    assert curve.axis.endswith("[0, 0]")


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("equalised_odds", "prob[0]"),  # the first element has no sample: the loss as it is reduced
        ("diffusion_smoothness", "u[2, 2, 2, 2]"),  # nothing reads a corner
        ("monotonicity_penalty", "slope[0, 0]"),  # a direction of 0
        ("vat", "attacked"),  # no gradient in the first input
        ("sac_alpha", "log_alpha"),  # nor in any other
    ],
)
def test_what_is_varied_changes_the_loss(name: str, axis: str) -> None:
    curve = plotting.sweep(named(name))
    assert curve.axis == axis
    assert np.ptp(curve.loss) > 0
    assert np.any(curve.gradient != 0)


def test_lengths_are_inside_their_domain() -> None:
    """A length of at least 1 is 1, not 0, of which the loss has no value."""
    curve = plotting.sweep(named("crf_nll"))
    assert np.isfinite(curve.loss).all()
    assert curve.axis == "emission of the true class"


def test_an_end_that_is_open_is_not_taken() -> None:
    """`x < 0` is -1, not 0, of which the loss is infinite."""
    curve = plotting.sweep(named("orpo"))
    assert np.isfinite(curve.loss[:-1]).all()
    assert np.ptp(curve.loss[:-1]) > 0.1


def test_a_loss_that_is_no_number_is_refused() -> None:
    with pytest.raises(plotting.CannotPlot, match="not a finite number at any point"):
        plotting.sweep(written("loss f:\n    input x: real[n]\n    return mean(sqrt(-1 - x^2))\n"))


def test_defaults_are_taken() -> None:
    text = "loss f:\n    input x: real[n]\n    learnable a: real = 3\n    return mean(a * x)\n"
    curve = plotting.sweep(written(text))
    assert np.allclose(curve.gradient, 3 / sample.ENTRIES) or np.allclose(curve.gradient, 3)
    assert plotting.sweep(written(text), "a").axis == "a"


def test_a_sparse_curve_shows_its_points(tmp_path: Path) -> None:
    from lossdsl.plotting.draw import _draw

    marks = {}
    for points in (41, 401):
        x, out = np.linspace(-1, 1, points), tmp_path / f"{points}.svg"
        _draw(named("huber"), plotting.Curve("x", x, x**2, 2 * x, ()), out, 56)
        marks[points] = out.read_text().count("<use")
    assert marks[41] >= marks[401] + 2 * 41


def test_a_long_title_is_not_cut(tmp_path: Path) -> None:
    from matplotlib import pyplot

    from lossdsl.plotting.draw import _draw

    program = named("dino")
    x = np.linspace(-1, 1, 401)
    found: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyplot, "close", lambda figure: found.extend(figure.axes[0].get_title().split("\n")))
        _draw(program, plotting.Curve("x", x, x**2, 2 * x, ()), tmp_path / "x.png", 56)
    pyplot.close("all")
    assert len(found) > 1
    assert max(len(line) for line in found) <= 60
    assert " ".join(found).startswith("dino (student_temperature = 0.1, ")
    assert all(line.endswith((",", ")")) for line in found)


@pytest.mark.parametrize(
    ("marked", "complete", "label"),
    [(0, True, None), (0, False, "kinks are not marked"), (1, False, "kink of the loss (not all are marked)")],
)
def test_kinks_that_were_not_looked_for_are_owned_to(
    marked: int, complete: bool, label: str | None, tmp_path: Path
) -> None:
    from matplotlib import pyplot

    from lossdsl.plotting.draw import _draw

    x = np.linspace(-1, 1, 401)
    kinks = (plotting.Kink(0.0, 0.0, corner=True),) * marked
    found: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyplot, "close", lambda figure: found.extend(figure.axes[0].get_legend_handles_labels()[1]))
        _draw(named("mae"), plotting.Curve("x", x, abs(x), np.sign(x), kinks, complete), tmp_path / "x.png", 56)
    pyplot.close("all")
    assert found[2:] == ([label] if label else [])
