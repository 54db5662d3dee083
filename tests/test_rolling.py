"""Kernels in strips of rows: the same values with rows that are forgotten as soon as a plan says, and compiled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lossdsl import pipeline
from lossdsl.assemble import plans
from lossdsl.backends import native_function
from lossdsl.backends.native_function import native_plan
from lossdsl.backends.rolling import STRIP, rolled
from lossdsl.backends.triton_text import Unsupported
from lossdsl.backends.window_joins import joined
from lossdsl.backends.windows import without_adding_loops
from lossdsl.diagnostics import Source
from lossdsl.ir.nodes import Const, Program
from lossdsl.lower.interpret import run_plan
from lossdsl.lower.plan import Plan, Rolling
from lossdsl.lower.text import parse_plan, print_plan

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"

HEAD = "    input x, y: real[b, h, w]\n    axis i, j = 3\n"
LOSSES = {
    "ssim": (ROOT / "examples/perceptual/ssim.loss").read_text(),
    "lncc": (ROOT / "examples/registration/lncc.loss").read_text(),
    "blurred twice": f"""loss t:
{HEAD}    def blur(a) = sum((1 + i + 2 * j) * a[h = h + i, w = w + j] over i, j)
    once = blur(x * y)
    twice = blur(once^2)
    return mean(twice * exp(-x[h = h + 2, w = w + 2]))
""",
    "ahead and behind": f"""loss t:
{HEAD}    ahead = sum(x[h = h + 2 * i] * (1 + i) over i)
    behind = sum(ahead[h = h + 1]^2 * y[h = h + i] over i)
    return sum(behind)
""",
    "two chains of different length": f"""loss t:
{HEAD}    def rows(a) = sum((1 + i) * a[h = h + i] over i)
    far = rows(rows(rows(x^2)))
    near = rows(y^2)
    return mean(far * near[h = h + 4])
""",
    "gae": (ROOT / "examples/reinforcement/gae.loss").read_text(),
    "a recurrence and a window": """loss t:
    input x, y: real[h, w]
    axis i, j = 3
    level[h, w] = 0.5 * level[h = h - 1, w = w - 1 else 0] + x * y
    return mean(sum(level[h = h + i]^2 * (1 + j) * x[h = h + i, w = w + j] over i, j))
""",
    "a recurrence from the last row on": """loss t:
    input x, y: real[h, w]
    axis j = 3
    scaled = sum(x[w = w + j] * (1 + j) over j)
    level[h, w] = scaled * y + 0.5 * level[h = h + 2 else 1]
    return mean(level^2)
""",
    "to the edge": f"""loss t:
{HEAD}    smooth = sum(x[h = h + i - 1, w = w + j - 1 else 0] over i, j)
    return mean(sum(smooth[h = h + 2 * i - 2 else 0]^2 over i) * y)
""",
}


def program(name: str) -> Program:
    (built,) = pipeline.analyse(Source("t.loss", LOSSES[name])).losses
    return built.program


def arguments(
    p: Program, plan: Plan, shape: tuple[int, ...], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    generator = np.random.default_rng(seed)
    sizes = {"b": shape[0], "c": shape[1], "h": shape[-2], "w": shape[-1], "t": shape[-2]}
    kinds = {i.name: i.kind for i in p.inputs}
    arrays = {}
    for b in plan.buffers:
        dims = tuple(d.evaluate(sizes) for d in b.dims)
        if b.role == "input" and kinds[b.name] == "binary":
            arrays[b.name] = generator.integers(0, 2, dims)
        elif b.role in ("input", "cotangent"):
            arrays[b.name] = generator.uniform(0.2, 1.0, dims)
    return arrays, {q.name: float(q.default.value) for q in p.parameters if isinstance(q.default, Const)}


def flat(name: str) -> Iterator[tuple[Program, Plan]]:
    p = program(name)
    for plan in plans(p, "torch").values():
        if plan.key.reduction in ("", "mean"):
            yield p, without_adding_loops(joined(plan))


def strips(plan: Plan) -> list[Rolling]:
    return [s for s in plan.steps if isinstance(s, Rolling)]


@pytest.mark.parametrize("name", LOSSES)
def test_the_rows_that_are_kept_are_enough(name: str) -> None:
    """The interpreter runs strip by strip and makes NaN of rows that are no longer kept."""
    found = 0
    for p, plan in flat(name):
        for size in (1, 2, 5, STRIP):
            other = rolled(plan, size)
            assert parse_plan(print_plan(other)) == other
            found += len(strips(other))
            for shape in ((2, 3, 29, 17), (1, 1, 13, 12)):
                arrays, parameters = arguments(p, plan, shape, size)
                before, after = run_plan(plan, arrays, parameters), run_plan(other, arrays, parameters)
                for role, value in before.items():
                    np.testing.assert_allclose(after[role], value, rtol=1e-11, atol=1e-13, err_msg=role)
    assert found


@pytest.mark.parametrize("name", ["ssim", "two chains of different length", "blurred twice"])
def test_a_row_less_or_a_smaller_lag_shows(name: str) -> None:
    tried = 0
    for p, plan in flat(name):
        other = rolled(plan, 1)
        (step,) = strips(other)
        arrays, parameters = arguments(p, plan, (2, 1, 29, 17), 0)
        right = run_plan(other, arrays, parameters)
        wrong: list[Rolling] = []
        for k, (buffer, rows) in enumerate(step.kept):
            if (
                rows > 1 and other.buffer(buffer).type == "acc"
            ):  # half the rows: fewer than are read, whatever the rounding up to a power of 2
                wrong.append(replace(step, kept=(*step.kept[:k], (buffer, rows // 2), *step.kept[k + 1 :])))
        for k, stage in enumerate(step.stages):
            if stage.lag:
                less = replace(stage, lag=stage.lag - 1)
                wrong.append(replace(step, stages=(*step.stages[:k], less, *step.stages[k + 1 :])))
        for bad in wrong:
            steps = tuple(bad if s is step else s for s in other.steps)
            got = run_plan(replace(other, steps=steps), arrays, parameters)
            same = all(np.allclose(got[r], right[r], rtol=1e-9, equal_nan=False) for r in right)
            tried += 1
            assert not same, [s for s in bad.kept if s not in step.kept]
    assert tried > 5


def test_what_stays_as_it_is() -> None:
    """Windows along the last axis, arrays that are read at data's positions, and totals that a later kernel needs."""
    texts = (
        "loss t:\n    input x: real[b, w]\n    axis i = 3\n    a = sum(x[w = w + i]^2 over i)\n"
        "    return mean(sum(a[w = w + i] over i)^2)\n",
        "loss t:\n    input x: real[b, h, w]\n    axis i = 3\n    a = x - mean(x over b, h, w)\n"
        "    return mean(sum(a[h = h + i] over i)^2)\n",
    )
    for text in texts:
        (built,) = pipeline.analyse(Source("t.loss", text)).losses
        for plan in plans(built.program, "torch").values():
            for step in strips(native_plan(plan)):
                assert len({len(plan.buffer(n).dims) for n, _ in step.kept}) == 1
    first, _ = (pipeline.analyse(Source("t.loss", t)).losses[0] for t in texts)
    assert not any(strips(native_plan(p)) for p in plans(first.program, "torch").values())


@pytest.mark.parametrize(("name", "wrt"), [("ssim", ("x",)), ("gae", ("value",))])
def test_golden_plans(name: str, wrt: tuple[str, ...], update_golden: bool) -> None:
    """One pass each: rolling rows, and no array as large as the inputs but what is returned."""
    found = (p for p in plans(program(name), "torch").values() if p.key.entry == "value_and_gradient")
    made = native_plan(next(p for p in found if p.key.wrt == wrt))
    text = print_plan(replace(made, why=()))
    if update_golden:
        (GOLDEN / f"{name}.native.plan").write_text(text)
    assert text == (GOLDEN / f"{name}.native.plan").read_text()
    (step,) = strips(made)
    kept = dict(step.kept)
    rank = {"ssim": 4, "gae": 2}[name]
    assert {b.name for b in made.buffers if len(b.dims) == rank and b.role == "temporary"} == kept.keys()
    assert max(kept.values()) <= 2 * STRIP


@pytest.fixture
def _built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are built in a cache of their own, quickly."""
    monkeypatch.setenv("LOSSDSL_CACHE", str(tmp_path))
    monkeypatch.setenv("LOSSDSL_CXXFLAGS", "-O1")
    monkeypatch.delenv("LOSSDSL_NATIVE", raising=False)


needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler")


@needs_compiler
@pytest.mark.usefixtures("_built")
@pytest.mark.parametrize("name", ["ssim", "gae"])
def test_totals_do_not_depend_on_the_number_of_threads(name: str) -> None:
    torch = pytest.importorskip("torch")
    from native_module import pair

    made = pair(LOSSES[name])
    p = program(name)
    plan = next(iter(plans(p, "torch").values()))
    arrays, _ = arguments(p, plan, (1, 2, 400, 300), 0)
    inputs = {k: torch.tensor(v) for k, v in arrays.items()}
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(made.native(**inputs))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]


@needs_compiler
@pytest.mark.usefixtures("_built")
@pytest.mark.parametrize("name", LOSSES)
def test_compiled(name: str) -> None:
    """Against torch operations, with more and fewer images than threads, in one segment of rows and in some."""
    torch = pytest.importorskip("torch")
    from native_module import pair, value_and_gradients

    made = pair(LOSSES[name])
    p = program(name)
    plan = next(iter(plans(p, "torch").values()))
    wanted = (plan.key.wrt or ("x",), ("x", "y")) if name != "gae" else (("reward",), ("value", "last_value"))
    threads = torch.get_num_threads()
    try:
        for count, lead in ((1, (2, 3)), (2, (1, 4)), (4, (1, 1))):
            torch.set_num_threads(count)
            for rows, columns in ((40, 90), (13, 130), (11, 11), (33, 12), (300, 20)):
                arrays, _ = arguments(p, plan, (*lead, rows, columns), rows)
                inputs = {k: torch.tensor(v) for k, v in arrays.items()}
                for wrt in wanted:
                    ours = value_and_gradients(made.native, inputs, wrt)
                    theirs = value_and_gradients(made.plain, inputs, wrt)
                    for a, b in zip(ours, theirs, strict=True):
                        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11 * float(b.abs().max()))
    finally:
        torch.set_num_threads(threads)
    assert any(library is not None for library in made.module._NATIVE_LOADED.values())


@needs_compiler
@pytest.mark.usefixtures("_built")
@pytest.mark.parametrize("name", ["ssim", "gae"])
def test_where_a_stage_has_no_text_the_kernels_run_by_themselves(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from native_module import pair, value_and_gradients

    def none(*_: object) -> None:
        raise Unsupported("a stage has none")

    monkeypatch.setattr(native_function, "Strips", none)
    made = pair(LOSSES[name])
    p = program(name)
    arrays, _ = arguments(p, next(iter(plans(p, "torch").values())), (2, 1, 30, 21), 0)
    inputs = {k: torch.tensor(v) for k, v in arrays.items()}
    wrt = ("x",) if name == "ssim" else ("value",)
    ours, theirs = (value_and_gradients(f, inputs, wrt) for f in (made.native, made.plain))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
