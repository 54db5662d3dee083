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
