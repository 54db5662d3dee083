"""Which positions are proved to be in range, and what is guarded where they are not."""

from __future__ import annotations

import pytest
import torch

import lossdsl
from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.ir.text import print_ir


def codes(text: str) -> list[str]:
    return [d.code for d in pipeline.analyse(Source("a", text)).diagnostics]


@pytest.mark.parametrize(
    ("index", "safe"),
    [
        ("(p + 1) % size(t)", True),
        ("max(p - 1, 0)", True),
        ("min(p + 2, size(t) - 1)", True),
        ("size(t) - 1 - min(p, q)", True),
        ("min(max(p, q), size(t) - 1)", True),
        ("max(p - 1, q - 2, 0)", True),
        ("max(p - 1, 0) + 1", False),
        ("min(p, q) - 1", False),
        ("max(p, q + 1)", False),
        ("(p + 1) % size(u)", False),
        ("min(size(u), size(t) - 1)", False),  # there may be no position at all: nothing says that p has an element
    ],
)
def test_positions_kept_in_range_by_their_smaller_or_larger_one(index: str, safe: bool) -> None:
    text = f"""
loss a:
    input x: real[b, t]
    input y: real[u]
    input p, q: int[b] in [0, size(t) - 1]
    return sum(x[b, {index}]) + sum(y) + sum(p + q)
"""
    assert ("W1003" not in codes(text)) == safe
    assert ("nan" not in print_ir(pipeline.analyse(Source("a", text)).losses[0].program)) == safe


def test_the_flat_position_of_the_largest() -> None:
    text = """
loss a:
    input x, y: real[b, h, w]
    p = argmax(x over h, w)
    return sum(y[b, p // size(w), p % size(w)])
"""
    assert codes(text) == []
    x, y = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    wanted = y.flatten(1).gather(1, x.flatten(1).argmax(1, keepdim=True)).sum()
    torch.testing.assert_close(lossdsl.loads(text).function(x, y), wanted)


def test_nested_choices_are_proved_or_guarded_whole() -> None:
    text = """
loss a:
    input x: real[b, t]
    input y: real[b, u]
    return sum(x[b, min(min(max(2, size(u)), min(size(t), b)), min((0 if b < size(t) else size(u)), min(2, size(t))))]) +
        sum(y)
"""
    assert "W1003" in codes(text)


WINDOW = """
loss a:
    input x: real[n]
    param k: int BOUND = 3
    axis i = k
    inner = mean(x[n = n + i] over i)
    whole = sum(x[n = edge(n + i - k // 2)] over i)
    return sum(inner^2) + sum(whole^3) / k
"""


@pytest.mark.parametrize("bound", [">= 1", "> 0", "in [2, 9]"])
@pytest.mark.parametrize("target", ["torch", "triton"])
def test_a_window_as_long_as_a_parameter(target: str, bound: str) -> None:
    function = lossdsl.loads(WINDOW.replace("BOUND", bound), target=target).function
    x = torch.randn(6, dtype=torch.float64)
    for k in (2, 5, 8):
        places = torch.arange(6)[:, None] + torch.arange(k) - k // 2
        inner = x.unfold(0, k, 1).mean(1) if k <= 6 else x[:0]
        wanted = inner.square().sum() + (x[places.clamp(0, 5)].sum(1) ** 3).sum() / k
        torch.testing.assert_close(function(x, k=k), wanted, rtol=1e-12, atol=1e-12)


def test_a_window_that_may_have_a_negative_length() -> None:
    (problem,) = pipeline.analyse(Source("a", WINDOW.replace("BOUND", ""))).diagnostics
    assert problem.code == "E0311"
    assert "declare `param k: int >= 1`" in (problem.help or "")


def test_a_recurrence_over_a_tree() -> None:
    """Half a position is an earlier one, and is in range."""
    text = """
loss a:
    input x: real[t]
    b[t] = x * (b[t = t // 2] if t > 0 else 1) + (x[t = (t + 3) // 4] if t > 0 else 0)
    return sum(b^2)
"""
    assert codes(text) == []
    x = torch.randn(7, dtype=torch.float64).requires_grad_()
    b = [x[0]]
    for t in range(1, 7):
        b.append(x[t] * b[t // 2] + x[(t + 3) // 4])
    wanted, found = torch.stack(b).square().sum(), lossdsl.loads(text).function(x)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(v, x)[0] for v in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
