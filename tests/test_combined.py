"""Losses that combine two constructs each (`combined.py`): interpreter, gradients and both targets against the formula by
hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from combined import CASES, Case, draw

import lossdsl
from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program
from lossdsl.transform.differentiate import differentiate

F64 = torch.float64


def program(case: Case) -> Program:
    analysis = pipeline.analyse(Source("combined", case.text))
    assert not [d for d in analysis.diagnostics if d.code.startswith("E")]
    return analysis.losses[-1].program


def wanted(case: Case, arguments: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Value and gradients of the formula by hand."""
    leaves = {n: x.clone().requires_grad_(x.dtype == F64) for n, x in arguments.items()}
    value = case.value(**leaves)
    value.backward()
    return value.detach(), {
        n: torch.zeros_like(x) if x.grad is None else x.grad for n, x in leaves.items() if x.dtype == F64
    }


def close(ours: Any, theirs: torch.Tensor) -> bool:
    a = torch.as_tensor(np.asarray(ours)).reshape(theirs.shape)
    return torch.allclose(a, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_interpreter(name: str) -> None:
    case = CASES[name]
    p = program(case)
    parameters = {q.name: float(q.default.value) for q in p.parameters if q.default is not None}
    for seed in range(2):
        arguments = draw(p.inputs, case.sizes, case.integers, seed)
        value, gradients = wanted(case, arguments)
        env = {n: x.numpy() for n, x in arguments.items()}
        assert close(interpret(p, env, parameters)["return"], value)
        g = differentiate(p, p.outputs[0].tensor, tuple(gradients))
        cotangent = next(i.name for i in g.inputs if i.role == "cotangent")
        found = interpret(g, {**env, cotangent: np.asarray(1.0)}, parameters)
        for n, expected in gradients.items():
            assert close(found[f"d {n}"], expected), n


@pytest.mark.parametrize("name", CASES)
def test_torch(name: str) -> None:
    case = CASES[name]
    function = lossdsl.loads(case.text).function
    arguments = draw(program(case).inputs, case.sizes, case.integers, 3)
    value, gradients = wanted(case, arguments)
    leaves = {n: x.clone().requires_grad_(x.dtype == F64) for n, x in arguments.items()}
    ours = function(**leaves)
    assert close(ours.detach(), value)
    real = [n for n in leaves if n in gradients]
    found = torch.autograd.grad(ours, [leaves[n] for n in real], create_graph=True, allow_unused=True)
    for n, grad in zip(real, found, strict=True):
        assert close(torch.zeros_like(leaves[n]) if grad is None else grad.detach(), gradients[n]), n

    def of(*xs: torch.Tensor) -> torch.Tensor:
        return function(**{**leaves, **dict(zip(real, xs, strict=True))})  # type: ignore[no-any-return]

    assert torch.autograd.gradgradcheck(of, tuple(leaves[n] for n in real), atol=1e-5, rtol=1e-4)


def test_triton() -> None:
    """In Triton's interpreter, in a process of its own: it is chosen when triton is imported."""
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__], capture_output=True, text=True, env=env, cwd=Path(__file__).parent
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(CASES)
    assert {n: e for n, e in found.items() if e} == {}


def _triton() -> dict[str, list[str]]:
    """What differs, for each case."""
    found: dict[str, list[str]] = {}
    for name, case in CASES.items():
        function = lossdsl.loads(case.text, target="triton").function
        arguments = draw(program(case).inputs, case.sizes, case.integers, 3)
        value, gradients = wanted(case, arguments)
        leaves = {n: x.clone().requires_grad_(x.dtype == F64) for n, x in arguments.items()}
        ours = function(**leaves)
        ours.backward()
        found[name] = [] if close(ours.detach(), value) else ["value"]
        for n, expected in gradients.items():
            grad = leaves[n].grad
            if not close(torch.zeros_like(expected) if grad is None else grad, expected):
                found[name].append(n)
    return found


if __name__ == "__main__":
    print(json.dumps(_triton()))
