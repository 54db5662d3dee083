"""No branch for any loss: rewriting a file without changing its meaning changes neither values, plans nor verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from references import EXAMPLES, REFERENCES, SPINE
from variants import VARIANTS, first_real, renamed, rewrite_text, the_loss

from lossdsl import pipeline
from lossdsl.assemble import differentiable, gradient_program
from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program
from lossdsl.lower.cost import cost
from lossdsl.lower.plan import Call, Choices, ChunkLoop, Kernel, Key, Plan, Step
from lossdsl.lower.schedule import schedule
from lossdsl.syntax.parser import parse
from lossdsl.verify.verdict import Proved, Refuted, Report

SAMPLE = [(name, variant) for name in SPINE for variant in VARIANTS]


def every() -> list[Any]:
    """Every example with every rewrite: the sample always, the others where slow tests run."""
    found = []
    for name in sorted(REFERENCES):
        for variant in VARIANTS:
            marks = [] if name in SPINE else [pytest.mark.slow]
            found.append(pytest.param(name, variant, marks=marks))
    return found


EXTENT = 1000


def program_of(text: str) -> Program:
    analysis = pipeline.analyse(Source("<variant>", text))
    assert not analysis.failed, analysis.diagnostics
    return analysis.losses[0].program


def texts(name: str, variant: str) -> tuple[str, str]:
    text = (EXAMPLES / f"{REFERENCES[name].file}.loss").read_text()
    changed = rewrite_text(text, VARIANTS[variant])
    if changed is None:
        pytest.skip(f"{variant} has nothing to change in {name}")
    return text, changed


def value_and_gradients(program: Program, arrays: dict[str, np.ndarray], parameters: dict[str, Any]) -> dict[str, Any]:
    """By the interpreter, with cotangent 1 and defaults for what is not given."""
    filled = {
        p.name: parameters.get(p.name, None if p.default is None else float(p.default.value))  # type: ignore[arg-type]
        for p in program.parameters
    }
    for p in program.parameters:
        if p.kind == "int":
            filled[p.name] = int(filled[p.name])  # type: ignore[call-overload]
    derived = gradient_program(program, program.outputs[0].tensor, differentiable(program))
    cotangent = next(i.name for i in derived.inputs if i.role == "cotangent")
    given = {n: a for n, a in arrays.items() if program.input(n) is not None}
    for i in program.inputs:
        if i.name not in given:
            given[i.name] = np.ones([arrays[next(iter(arrays))].shape[1]])
    return interpret(derived, {**given, cotangent: np.array(1.0)}, filled)


@pytest.mark.parametrize(("name", "variant"), every())
def test_values_and_gradients_agree(name: str, variant: str) -> None:
    text, changed = texts(name, variant)
    case = REFERENCES[name].cases[0]
    arrays, parameters = case(np.random.default_rng(5))
    before = value_and_gradients(program_of(text), arrays, parameters)
    if variant == "rename":
        arrays = {renamed(n): a for n, a in arrays.items()}
        parameters = {renamed(n): p for n, p in parameters.items()}
    after = value_and_gradients(program_of(changed), arrays, parameters)
    extra = 0.0
    if variant == "regularise":
        x = first_real(the_loss(parse(Source("", text))[0]))
        assert x is not None
        extra = 0.1 * float(np.mean(arrays[x] ** 2))
        before[f"d {x}"] = before[f"d {x}"] + 0.2 * arrays[x].reshape(np.shape(before[f"d {x}"])) / arrays[x].size
    np.testing.assert_allclose(after["return"], before["return"] + extra, rtol=1e-12, atol=1e-13)
    for output in before:
        if output.startswith("d "):
            there = f"d {renamed(output[2:])}" if variant == "rename" else output
            np.testing.assert_allclose(after[there], before[output], rtol=1e-9, atol=1e-12)


def counts(steps: tuple[Step, ...]) -> tuple[int, int]:
    """Kernels and library calls."""
    kernels = calls = 0
    for step in steps:
        if isinstance(step, Kernel):
            kernels += 1
        elif isinstance(step, Call):
            calls += 1
        elif isinstance(step, ChunkLoop):
            inner = counts(step.steps)
            kernels, calls = kernels + inner[0], calls + inner[1]
    return kernels, calls


def shape_of(program: Program) -> dict[str, int]:
    able = differentiable(program)
    derived = gradient_program(program, program.outputs[0].tensor, able)
    mode = program.reductions.written if program.reductions else ""
    plan: Plan = schedule(derived, Key("variant", "value_and_gradient", mode, able, (), "torch"))
    kernels, calls = counts(plan.steps)
    extents = {s: EXTENT for b in plan.buffers for d in b.dims for s in d.symbols()}
    return {
        "kernels": kernels,
        "calls": calls,
        "passes": cost(plan).passes,
        "peak": cost(plan).peak.evaluate({**dict.fromkeys(cost(plan).peak.symbols(), EXTENT), **extents}),
    }


@pytest.mark.parametrize(("name", "variant"), every())
def test_plan_has_the_same_shape_or_a_better_one(name: str, variant: str) -> None:
    text, changed = texts(name, variant)
    before, after = shape_of(program_of(text)), shape_of(program_of(changed))
    if (
        variant == "regularise"
    ):  # one more total: it may cost what adding it must: a kernel, and a chunk of a product that it is added to
        before = {
            **before,
            "kernels": before["kernels"] + 2,
            "passes": before["passes"] + 1,
            "peak": before["peak"] + 2 + Choices().rows * EXTENT * bool(before["calls"]),
        }
    for measure, value in after.items():
        # a scalar or a short row more to hold makes no other plan
        slack = 8 + before[measure] // 200 if measure == "peak" else 0
        assert value <= before[measure] + slack, (measure, before, after)


RANK = {Proved: 2, Refuted: 2}


def decided(report: Report) -> dict[tuple[str, str], Any]:
    return {(f.property, ",".join(f.wrt)): f.verdict for f in report.findings}


# Those whose searches are long: two thirds of the time of all.
LONG = {
    "batch_hard_triplet",
    "binary_cross_entropy",
    "dice",
    "evidential_regression",
    "focal",
    "generalised_cross_entropy",
    "triplet",
    "tversky",
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in SPINE])
def test_verdicts_are_the_same_or_better(name: str) -> None:
    before = None
    for variant in VARIANTS:
        text = (EXAMPLES / f"{REFERENCES[name].file}.loss").read_text()
        changed = rewrite_text(text, VARIANTS[variant])
        if changed is None or variant == "regularise":
            continue
        before = before or pipeline.check(Source("<a>", text), effort=3.0).reports[0]
        after = pipeline.check(Source("<b>", changed), effort=3.0).reports[0]
        if variant == "rename":
            suffix = renamed("")
            named = [
                replace(f, property=f.property.replace(suffix, ""), wrt=tuple(w.removesuffix(suffix) for w in f.wrt))
                for f in after.findings
            ]
            after = replace(after, findings=tuple(named))
        for a, b in zip(before.claims, after.claims, strict=True):
            assert a.status == b.status or a.status == "unknown", (variant, a.text, a.status, b.status, b.verdict)
        later = decided(after)
        for key, verdict in decided(before).items():
            other = later.get(key)
            assert other is not None, (variant, key)
            if type(verdict) in RANK:
                assert type(other) is type(verdict), (variant, key, verdict, other)
