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


@pytest.mark.parametrize(
    ("axis", "value", "wanted"),
    [
        # remainders and quotients in conditions
        ("f = 2 * c + 1", "x[(f - 1) // 2] if f % 2 == 1 else 0", []),
        ("f = 2 * c + 1", "x[(f - 1) // 2] if f % 2 == 0 else 0", ["W1003"]),
        ("f = 3 * c + 2", "x[(f - 2) // 3] if f % 3 == 2 and f > 2 else 0", []),
        ("f = 3 * c + 2", "x[(f - 1) // 3] if f % 3 == 1 else 0", ["W1003"]),
        ("f = c * k", "x[f // size(k) - 1] if f // size(k) > 0 else 0", []),
        ("f = c * k", "w[(f // size(k) - 1) * size(k) + f % size(k)] if f // size(k) > 0 else 0", []),
        ("f = c * k", "w[(f // size(k)) * size(k) + f % size(k) + 1] if f // size(k) > 0 else 0", ["W1003"]),
        ("f = c * k", "w[f - 1] if f % size(k) > 0 else 0", []),
        ("f = c", "log(f - 1) if f > 1 else 0", []),
        ("f = c", "sum(log(f - 1) * y over k) if f > 1 else 0", []),
        ("f = c", "sum(log(f - 2) * y over k) if f > 1 else 0", ["W1002"]),
        # a grid with fewer entries
        ("f = c", "half[c = edge(f // 2)]", ["W1003"]),
        ("f = c", "half[c = edge(f // 2)] if size(c) > 1 else 0", []),
        # entries that the condition around a reduction leaves out are not lost
        ("f = c", "sum(z[k, f - 1] * x[f] over k) if f > 0 else 0", []),
        ("f = c", "sum(z[k, f - 1] * x[f] over k) if f >= 0 else 0", ["W1005"]),
        ("f = c", "sum(z[k, f + 1] * x[f] over k) if f < size(c) - 1 else 0", []),
    ],
)
def test_conditions_that_keep_positions_in_range(axis: str, value: str, wanted: list[str]) -> None:
    text = f"""
loss a:
    input x: real[c]
    input y: real[k]
    input z: real[k, c]
    axis f = {axis.partition("= ")[2]}
    w[f] = f + 0 * sum(x) + 0 * sum(y) + 0 * sum(z)
    half = (x[c = 2 * c] + x[c = 2 * c + 1]) / 2
    s[f] = {value}
    return mean(s) + mean(w) + mean(half)
"""
    assert codes(text) == wanted
    if not wanted:
        x, y, z = torch.arange(3.0) + 1, torch.arange(2.0) + 1, torch.randn(2, 3)
        assert torch.isfinite(lossdsl.loads(text).function(x, y, z))


def test_recurrences_along_rows_of_a_flat_axis() -> None:
    text = """
loss a:
    input x: real[h, w]
    axis p = h * w
    v[p] = x[p // size(w), p % size(w)] + (v[p - 1] if p % size(w) > 0 else 0)
    up[h, w] = v[(h - 1) * size(w) + w] if h > 0 else 0
    return sum(v^2) + sum(up^2)
"""
    assert codes(text) == []
    x = torch.randn(3, 4)
    rows = x.cumsum(1)
    torch.testing.assert_close(lossdsl.loads(text).function(x), (rows**2).sum() + (rows[:-1] ** 2).sum())
