"""The three means of padded sequences that `docs/language/reductions.md` names, against the same of lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import lossdsl

PAGE = Path(__file__).parents[1] / "docs" / "language" / "reductions.md"


def loaded(name: str) -> Any:
    text = next(t for t in re.findall(r"```loss\n(.*?)```", PAGE.read_text(), re.DOTALL) if f"loss {name}:" in t)
    return lossdsl.loads(text)()


@pytest.mark.parametrize("name", ["per_token", "per_sequence", "per_batch"])
@pytest.mark.parametrize("lengths", [[3, 1, 4], [2, 0, 4], [0, 0, 0]])
def test_padding_counts_for_nothing(name: str, lengths: list[int]) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5, dtype=torch.float64)
    target = torch.randint(5, (3, 4))
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    logits = torch.where(mask[..., None], logits, torch.nan).requires_grad_()
    rows = [F.cross_entropy(x[:k], y[:k], reduction="sum") for x, y, k in zip(logits, target, lengths)]
    wanted = {
        "per_token": sum(rows) / max(1, sum(lengths)),
        "per_sequence": sum(r / max(1, k) for r, k in zip(rows, lengths)) / 3,
        "per_batch": sum(rows) / 3,
    }[name]
    assert isinstance(wanted, torch.Tensor)
    found = loaded(name)(logits, target, mask if name == "per_batch" else torch.tensor(lengths))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(v, logits)[0] for v in (found, wanted))
    torch.testing.assert_close(ours[mask], theirs[mask], rtol=1e-12, atol=1e-12)
    assert bool((ours[~mask] == 0).all())


def test_the_largest_of_segments() -> None:
    """An axis whose extent is a parameter, and a total over it that is not a sum: `docs/language/indices.md`."""
    page = PAGE.with_name("indices.md").read_text()
    text = next(t for t in re.findall(r"```loss\n(.*?)```", page, re.DOTALL) if "loss worst_group:" in t)
    task = torch.randn(20, dtype=torch.float64).requires_grad_()
    group = torch.arange(20) % 3
    found = lossdsl.loads(text)(groups=3)(task, group)
    wanted = torch.stack([task[group == k].mean() for k in range(3)]).max()
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(v, task)[0] for v in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


RETURNS = """
loss returns:
    input r: real[b, t]
    input length: int[b] in [0, size(t)]
    g[b, t] = r + 0.9 * (g[b, t + 1OTHER] if t + 1 < length else 0)
    return sum(sum(g^2 over t where t < length))
"""
NEXT = """
loss next_token:
    input logits: real[b, t, c]
    input token: class[b, t] of c
    input length: int[b] in [0, size(t)]
    score[b, t] = log_softmax(logits over c)[c = token[b, t + 1]] if t + 1 < length else 0
    change = sum((logits[b, t + 1, c] - logits[b, t, c])^2 over c, t where t + 1 < length)
    return sum(change) - sum(score)
"""


@pytest.mark.parametrize("other", ["", " else 0"])
def test_an_access_that_the_length_keeps_in_range_in_a_recurrence(other: str) -> None:
    """The length is a promise: within it nothing gives way, and nothing outside of the tensor is read if it is broken."""
    fn = lossdsl.loads(RETURNS.replace("OTHER", other)).function
    r = torch.randn(3, 4, dtype=torch.float64).requires_grad_()
    lengths = [3, 0, 4]
    wanted = torch.zeros((), dtype=torch.float64)
    for row, k in zip(r, lengths):
        for j in range(k):
            wanted = wanted + torch.stack([0.9 ** (i - j) * row[i] for i in range(j, k)]).sum() ** 2
    found = fn(r, torch.tensor(lengths))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(v, r)[0] for v in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    broken = fn(r, torch.tensor([9, 9, 9]))
    assert bool(broken.isnan()) == (other == "")


@pytest.mark.parametrize("target", ["torch", "triton"])
def test_an_access_that_the_length_keeps_in_range_in_reductions_and_labels(target: str) -> None:
    fn = lossdsl.loads(NEXT, target=target).function
    logits = torch.randn(3, 4, 5, dtype=torch.float64).requires_grad_()
    token, lengths = torch.randint(5, (3, 4)), [3, 0, 4]
    wanted = torch.zeros((), dtype=torch.float64)
    for x, y, k in zip(logits, token, lengths):
        if k > 1:
            wanted = (
                wanted + F.cross_entropy(x[: k - 1], y[1:k], reduction="sum") + (x[1:k] - x[: k - 1]).square().sum()
            )
    found = fn(logits, token, torch.tensor(lengths))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(v, logits)[0] for v in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert bool(fn(logits, token, torch.tensor([9, 1, 1])).isnan())


def alignments(seed: int) -> dict[str, tuple[tuple[Any, ...], torch.Tensor]]:
    """Arguments of losses of the catalogue that walk padded sequences, and where the first of them is no padding."""
    g = torch.Generator().manual_seed(seed)
    frames, labels = torch.tensor([5, 3]), torch.tensor([2, 1])
    target = torch.randint(1, 4, (2, 3), generator=g)
    steps = torch.arange(5)[None] < frames[:, None]
    table = steps[:, :, None] & (torch.arange(4)[None, None] <= labels[:, None, None])
    logits = torch.randn(2, 5, 4, 4, dtype=torch.float64, generator=g)
    emission = torch.randn(2, 5, 3, dtype=torch.float64, generator=g)
    tags = torch.randint(0, 3, (2, 5), generator=g)
    transition = torch.randn(3, 3, dtype=torch.float64, generator=g)
    return {
        "transducer": ((logits, target, frames, labels), table[..., None].expand_as(logits)),
        "ctc": ((logits[:, :, 0].transpose(0, 1), target, frames, labels), steps.T[..., None].expand(5, 2, 4)),
        "crf_nll": ((emission, transition, tags, frames), steps[..., None].expand_as(emission)),
    }


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["transducer", "ctc", "crf_nll"])
def test_padding_of_a_walked_sequence_may_hold_anything(name: str, bad: float) -> None:
    f = lossdsl.load(name).function
    (first, *rest), mask = alignments(0)[name]
    clean, dirty = (torch.where(mask, first, other).requires_grad_() for other in (0.0, bad))
    want, got = f(clean, *rest), f(dirty, *rest)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    wanted = torch.where(mask, torch.autograd.grad(want, clean)[0], 0.0)
    torch.testing.assert_close(torch.autograd.grad(got, dirty)[0], wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.func.grad(f)(dirty.detach(), *rest), wanted, rtol=1e-12, atol=1e-12)
