"""Parameters that are bounded by extents (`int in [0, size(c) - 1]`), and parameters that are extents themselves."""

from __future__ import annotations

import pytest
import torch

import lossdsl
from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.ir.check import check
from lossdsl.ir.text import parse_ir, print_ir
from lossdsl.verify.verdict import Proved, Refuted

PICK = """
loss pick:
    input x: real[n, c]
    input w: real[c] = 1
    param place: int in [0, size(c) - 1] = 1
    param far: int in [size(n) - size(c), 2 * size(n)) = 1
    param scale: real in (0, size(n)] = 1
    per = scale * w[c = place] * x[n, place] * far
    return mean(per)
"""


def codes(text: str) -> list[str]:
    return [d.code for d in pipeline.analyse(Source("a", text)).diagnostics]


def verdicts(text: str) -> list[str]:
    names = {Proved: "proved", Refuted: "refuted"}
    report = lossdsl.check(Source("a", text))
    return [names.get(type(c.verdict), "unknown") for c in report.claims]


def test_an_index_is_proved_by_its_bound() -> None:
    assert codes(PICK) == []
    assert codes(PICK.replace("[0, size(c) - 1]", "[0, size(c)]")) == ["W1003", "W1003"]
    assert codes(PICK.replace("[0, size(c) - 1]", "[-1, size(c) - 1]")) == ["W1003", "W1003"]
    program = pipeline.analyse(Source("a", PICK)).losses[0].program
    check(program)
    assert parse_ir(print_ir(program)) == program


@pytest.mark.parametrize("target", ["torch", "triton"])
def test_each_call_tests_it(target: str) -> None:
    loss = lossdsl.loads(PICK, target=target)
    x = torch.randn(3, 4, dtype=torch.float64)
    for fits in ({"place": 0}, {"place": 3}, {"far": -1}, {"far": 5}, {"scale": 3.0}):
        assert torch.isfinite(loss.function(x, **fits))
        assert torch.isfinite(loss(**fits)(x))
    for wrong in ({"place": 4}, {"place": -1}, {"far": 6}, {"far": -2}, {"scale": 3.5}, {"scale": 0}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"pick: {name} = .* is outside of its range"):
            loss(**wrong)(x)
        with pytest.raises(ValueError, match=f"pick: {name} = .* is outside of its range"):
            loss.function(x, **wrong)
    with pytest.raises(ValueError, match="place <= c - 1, c=0"):
        loss.function(torch.randn(3, 0, dtype=torch.float64), place=0)


def test_a_size_in_the_domain_of_an_input_is_tested() -> None:
    """An extent less a number, too; below 0 it holds nothing."""
    loss = lossdsl.loads(
        "loss a:\n    input x: real[n, u]\n    input k: int[n] in [0, size(u) - 1]\n    return mean(x[n, k])\n"
    )
    x, k = torch.randn(3, 2), torch.tensor([0, 1, 2])
    assert torch.isfinite(loss.function(x, k.clamp(max=1), check_inputs=True))
    with pytest.raises(ValueError, match="k"):
        loss.function(x, k, check_inputs=True)
    with pytest.raises(ValueError, match="k"):
        loss.function(torch.randn(3, 0), torch.zeros(3, dtype=torch.long), check_inputs=True)


@pytest.mark.parametrize("bound", ["m", "size(k)", "size(c) / 2", "1 / size(c)", "max(1, size(c))"])
def test_bounds_that_are_neither_numbers_nor_extents(bound: str) -> None:
    text = f"""
loss a:
    input x: real[n, c, ...]
    param m: int = 3
    axis k = m
    param place: int in [0, {bound}] = 0
    return mean(x * place * m + sum(k over k))
"""
    assert codes(text) == ["E0407"]


def test_claims_hold_for_admissible_parameters_only() -> None:
    text = """
loss a:
    input x: real[n, c]
    param place: int in [0, size(c) - 1] = 0
    inside = 1 if place < size(c) else 0
    per = x[n, place]^2 + size(c) - place
    return mean(per)
    claim inside == 1
    claim per >= 0
    claim per >= 2
"""
    first, second, third = verdicts(text)
    assert first != "refuted"
    assert second != "refuted"
    assert third == "refuted"


def test_a_parameter_that_is_an_extent_is_that_extent() -> None:
    """At 50 steps there are 50 of them, not as many as a search can afford."""
    text = """
loss a:
    input x: real[n]
    param k: int >= 0 = 50
    axis i = k
    total = sum(i + 0 * x over i)
    steps = sum(1 + 0 * i over i) - k
    return mean(x^2 + total)
    claim mean(total) >= 1000 at defaults
    claim total >= 1000 when k == 50
    claim steps >= 0
    claim steps <= 0
    claim mean(total) >= 1300 at defaults
    claim total >= 1 when k == 1
"""
    *true, last, one = verdicts(text)
    assert "refuted" not in true
    assert (last, one) == ("refuted", "refuted")


def test_a_size_that_no_definition_runs_over_is_a_symbol_of_the_program() -> None:
    text = """
loss a:
    input x: real[n]
    param k: int >= 0 = 50
    axis i = k
    per = relu(x) * size(i)
    return mean(per)
    claim per >= 0
    claim per <= 3
"""
    assert verdicts(text) == ["proved", "refuted"]
