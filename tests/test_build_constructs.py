"""Sorting, recurrences, grids, boundaries, blocks: value and gradient against independent torch formulas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from build_constructs import CASES, RECURRENCES
from build_references import SPELLED, Case
from derivatives import gradients, slope
from test_build_values import built

from lossdsl.assemble import differentiable, gradient_program, value_program
from lossdsl.diagnostics import Source
from lossdsl.ir.check import check
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import AdjointMap, Program, Proxy, postorder
from lossdsl.ir.rewrite import cse
from lossdsl.ir.text import parse_ir, print_ir
from lossdsl.pipeline import compile, show
from lossdsl.transform.tangent import hessian_vector
from lossdsl.verify.verdict import Unknown

SLOW = {"ms_ssim", "soft_skeleton_recall"}  # eight gradients in the interpreter
SPELLED_DIR = Path(__file__).parent / "spelled"


def program_of(case: Case) -> Program:
    text = case.text or (SPELLED_DIR / f"{case.file}.loss").read_text(encoding="utf-8")
    return built(text, case.name).program


def reference(case: Case, inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outputs by name, and the gradient of the returned value in every real input."""
    leaves: dict[str, torch.Tensor] = {}
    for name, value in inputs.items():
        leaves[name] = torch.as_tensor(value)
        if leaves[name].is_floating_point():
            leaves[name] = leaves[name].clone().requires_grad_()
    found = case.value(**leaves, **case.parameters)
    values = found if isinstance(found, dict) else {"return": found}
    wanted = {n: v for n, v in leaves.items() if v.requires_grad}
    slopes = torch.autograd.grad(values["return"], list(wanted.values()), allow_unused=True)
    zero = {n: torch.zeros_like(v) for n, v in wanted.items()}
    grads = {n: zero[n] if s is None else s for n, s in zip(wanted, slopes, strict=True)}
    return {n: v.detach() for n, v in values.items()}, grads


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_value_and_gradient(case: Case) -> None:
    program = program_of(case)
    assert parse_ir(print_ir(program)) == program
    check(cse(program))
    for seed in range(3):
        inputs = case.inputs(np.random.default_rng(seed))
        values, grads = reference(case, inputs)
        found = interpret(program, inputs, case.parameters)
        assert set(found) == set(values)
        for key, value in values.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-10, atol=1e-12, err_msg=key)
        derived = gradients(program, inputs, case.parameters)
        scale = max((float(g.abs().max()) for g in grads.values() if g.numel()), default=1.0)
        assert {f"d {n}" for n in grads} >= {k for k in derived if k.startswith("d ")}
        for key, slope_ in grads.items():
            if f"d {key}" not in derived:  # a state has no gradient
                assert program.input(key).role == "state"
                continue
            mine = derived[f"d {key}"].reshape(slope_.shape)
            np.testing.assert_allclose(mine, slope_, rtol=1e-9, atol=1e-10 * max(scale, 1e-3), err_msg=key)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_gradient_against_differences(case: Case) -> None:
    """Along a random direction, where no kink is near; what is stopped is left to the references."""
    program = program_of(case)
    if case.stopped or any(isinstance(n, Proxy | AdjointMap) for d in program.definitions() for n in postorder(d.body)):
        return
    g = np.random.default_rng(5)
    inputs = case.inputs(g)
    real = [i.name for i in program.inputs if i.differentiable and i.name in inputs]
    along = {n: 0.1 * g.normal(size=np.shape(inputs[n])) for n in real}
    wanted = slope(program, inputs, along, case.parameters)
    derived = gradients(program, inputs, case.parameters)
    mine = sum(float(np.sum(derived[f"d {n}"].reshape(along[n].shape) * along[n])) for n in real)
    if np.isfinite(wanted):
        assert mine == pytest.approx(wanted, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_stable_forms(case: Case) -> None:
    """What is compiled (stabilised, simplified) has the value and the gradient of what is written."""
    program = program_of(case)
    inputs = case.inputs(np.random.default_rng(1))
    values, grads = reference(case, inputs)
    value = interpret(value_program(program), inputs, case.parameters)
    np.testing.assert_allclose(value["return"], values["return"], rtol=1e-9, atol=1e-12)
    derived = gradient_program(program, program.outputs[0].tensor, differentiable(program))
    bar = next(i.name for i in derived.inputs if i.role == "cotangent")
    found = interpret(derived, {**inputs, bar: np.asarray(1.0)}, case.parameters)
    for key in differentiable(program):
        if key in grads:
            np.testing.assert_allclose(found[f"d {key}"].reshape(grads[key].shape), grads[key], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in SLOW], ids=lambda c: c.name)
def test_second_derivative(case: Case) -> None:
    """Hessian-vector products (forward mode over the gradient) against differences of the gradient."""
    program = program_of(case)
    g = np.random.default_rng(11)
    inputs = case.inputs(g)
    real = tuple(i.name for i in program.inputs if i.differentiable)
    if case.stopped or any(isinstance(n, Proxy | AdjointMap) for d in program.definitions() for n in postorder(d.body)):
        return
    along = {n: 0.1 * g.normal(size=np.shape(inputs[n])) for n in real}
    second = hessian_vector(program, program.outputs[0].tensor, real)
    check(second)
    bar = next(i.name for i in second.inputs if i.role == "cotangent")
    tangents = {i.name: along[i.name.removesuffix(".t")] for i in second.inputs if i.role == "tangent"}
    found = interpret(second, {**inputs, bar: np.asarray(1.0), **tangents}, case.parameters)

    def gradient_at(h: float) -> dict[str, Any]:
        moved = {n: inputs[n] + h * along[n] for n in real}
        return gradients(program, {**inputs, **moved}, case.parameters)

    def difference(h: float, key: str, at: dict[float, dict[str, Any]]) -> Any:
        return (8 * (at[h][key] - at[-h][key]) - (at[2 * h][key] - at[-2 * h][key])) / (12 * h)

    at = {s * h: gradient_at(s * h) for h in (1e-3, 5e-4) for s in (1, -1, 2, -2)}
    for n in real:
        one, two = difference(1e-3, f"d {n}", at), difference(5e-4, f"d {n}", at)
        smooth = np.abs(one - two) < 1e-6 * (1 + np.abs(one))  # no kink is near
        np.testing.assert_allclose(np.where(smooth, found[f"h {n}"], 0), np.where(smooth, two, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stage", ["sympy", "latex", "ir"])
@pytest.mark.parametrize("case", RECURRENCES, ids=lambda c: c.name)
def test_views_of_recurrences_end(case: Case, stage: str) -> None:
    text = case.text or (SPELLED_DIR / f"{case.file}.loss").read_text(encoding="utf-8")
    assert show(Source("t.loss", text), stage, only=case.name).text


def test_every_spelled_loss_has_a_reference() -> None:
    """The collection in tests/spelled is the acceptance test of the language: all of it builds, and has a formula."""
    names = [n for p in SPELLED_DIR.glob("*.loss") for n in re.findall(r"^loss (\w+):", p.read_text(), re.MULTILINE)]
    assert len(names) == 44
    assert {*names} == {c.name for c in (*SPELLED, *CASES) if c.file}


def test_a_module_has_its_state_and_its_step() -> None:
    text = (SPELLED_DIR / "training.loss").read_text()
    for name, buffer in (("dino", "center"), ("annealed_focal", "step")):
        result = compile(Source("t.loss", text), target="torch", only=name)
        assert [d.code for d in result.diagnostics if d.code.startswith("E")] == []
        assert result.text is not None
        assert f'self.register_buffer("{buffer}"' in result.text


def test_a_derivative_that_is_not_there_is_unknown() -> None:
    """Clipping asks for the cotangent of the returned value: per element there is none."""
    text = "loss a:\n    input x: real[n] in [-4, 4]\n    per = clip_gradient(x^2, 0.5)^2\n    return sum(per)\n"
    result = compile(Source("t.loss", text), target="torch")
    assert result.text is not None
    (report,) = result.reports
    unknown = [f for f in report.findings if isinstance(f.verdict, Unknown) and "clipped gradient" in f.verdict.blocker]
    assert {f.property for f in unknown} == {"finite in float16", "finite in float32"}


def test_a_limited_gradient_is_that_of_the_returned_value() -> None:
    """So a loss that limits one has no other reductions; one that only reports it has."""
    body = "    input x: real[n]\n    y = clip_gradient(x^2, 0.5)\n"
    assert built(f"loss a:\n{body}    return mean(y^2)\n", "a").program.reductions is None
    assert built(f"loss a:\n{body}    return mean((x + y)^3 over n where x > 0)\n", "a").program.reductions is None
    assert built(f"loss a:\n{body}    report s = mean(y)\n    return mean(x^2)\n", "a").program.reductions is not None
