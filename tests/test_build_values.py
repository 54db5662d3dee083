"""The builder by value: interpreted programs against independent torch, and the modes of returned values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from build_references import SPELLED, Case
from build_written import WRITTEN

from lossdsl.diagnostics import Severity, Source, render
from lossdsl.ir.build import BuiltLoss, build
from lossdsl.ir.check import check
from lossdsl.ir.interpret import interpret
from lossdsl.syntax.parser import parse

SPELLED_DIR = Path(__file__).parent / "spelled"


def built(text: str, name: str) -> BuiltLoss:
    """The named loss of a text; losses beside it may have errors, it may not."""
    source = Source("test.loss", text)
    module, problems = parse(source)
    assert not problems, [render(source, d) for d in problems]
    losses, found = build(module, source)
    for one in losses:
        check(one.program)
        if one.name == name:
            return one
    raise AssertionError("\n".join(render(source, d) for d in found if d.severity is Severity.ERROR))


def tensors(inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {k: torch.as_tensor(v) for k, v in inputs.items()}


@pytest.mark.parametrize("case", [*SPELLED, *WRITTEN], ids=lambda c: c.name)
def test_value(case: Case) -> None:
    text = case.text or (SPELLED_DIR / f"{case.file}.loss").read_text(encoding="utf-8")
    one = built(text, case.name)
    for seed in range(2):
        inputs = case.inputs(np.random.default_rng(seed))
        wanted = case.value(**tensors(inputs), **case.parameters)
        if not isinstance(wanted, dict):
            wanted = {"return": wanted}
        found = interpret(one.program, inputs, case.parameters)
        assert set(found) == set(wanted)
        for key, value in wanted.items():
            np.testing.assert_allclose(
                found[key], np.asarray(value, dtype=np.float64), rtol=1e-10, atol=1e-12, err_msg=key
            )


def test_a_loss_named_as_a_function_leaves_the_function_alone() -> None:
    found = built("loss sum:\n    input x: real[n, d]\n    return mean(sum(x over d)^2)\n", "sum")
    x = np.array([[1.0, -2.0, 0.5], [0.25, 1.0, 3.0]])
    np.testing.assert_allclose(interpret(found.program, {"x": x}, {})["return"], np.mean(x.sum(1) ** 2))


@pytest.mark.parametrize(
    "lines",
    [
        "input x: real[n, c]\np = softmax(x over c)\nreturn mean(-log(p))",
        "input x: real[n]\nparam k: real > 1 = 2\nreturn mean(log(k - 1 + x^2))",
        "input x: real[n] < 3\nreturn mean(log(3 - x))",
        "input x: real[n]\nreturn mean(log(x) if x > 0 else 0)",
    ],
)
def test_no_warning_where_zero_is_excluded(lines: str) -> None:
    text = "loss t:\n" + "".join(f"    {line}\n" for line in lines.split("\n"))
    source = Source("test.loss", text)
    assert not build(parse(source)[0], source)[1]


@pytest.mark.parametrize(
    "lines", ["param k: real >= 1 = 2\nreturn log(k - 1)", "param k: real > 1 = 2\nreturn log(1 - k)"]
)
def test_a_warning_where_it_is_not(lines: str) -> None:
    text = "loss t:\n" + "".join(f"    {line}\n" for line in lines.split("\n"))
    source = Source("test.loss", text)
    assert "W1002" in [d.code for d in build(parse(source)[0], source)[1]]
