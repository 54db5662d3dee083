"""Axes, reductions, positions, windows and recurrences of the language pages against plain torch: value and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from test_docs_run import loaded

F64 = torch.float64


def segmentation(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, -2), target.flatten())


def corner_errors(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((pred - target).abs() * torch.tensor([1, 1, 0.5, 0.5])).sum(1).mean()


def borders(x: torch.Tensor) -> torch.Tensor:
    held = torch.cat([x[:, :1], x, x[:, -1:]], 1)
    return (held.unfold(1, 3, 1).amax(2) - (x.roll(1, 1) + x + x.roll(-1, 1)) / 3).abs().mean()


def either(a: torch.Tensor, b: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.stack([(a - target).square().sum(1), (b - target).square().sum(1)]).min(0).values.mean()


def volumes(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    def at(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (F.avg_pool3d(a[None, None], 3, 1) - F.avg_pool3d(b[None, None], 3, 1)).square().mean()

    return at(x, y) + at(*(F.avg_pool3d(v[None, None], 2)[0, 0] for v in (x, y)))


def spreads(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    centre = (weight * x).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    middle = torch.quantile(x, 0.5, dim=1, keepdim=True)
    width = torch.quantile(x, 0.9, dim=1) - torch.quantile(x, 0.1, dim=1)
    return ((x - middle).abs().sum(1) + (x - centre).norm(p=3, dim=1) + width + x.std(1)).mean()


def nearest(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.stack([min(((a - b).norm() for b in y), key=lambda v: v.item()) for a in x]).mean()


def survival(hazard: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    rows = [h[k] * (1 - h[:k]).prod() for h, k in zip(hazard, event.tolist())]
    return -torch.stack(rows).log().mean()


def thin_parts(x: torch.Tensor) -> torch.Tensor:
    total, image = torch.zeros_like(x), x
    for _ in range(3):
        smaller = -F.max_pool2d(-image, 3, 1, 1)
        total, image = total + F.relu(image - F.max_pool2d(smaller, 3, 1, 1)), smaller
    return total.mean()


def real(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=F64, generator=GENERATOR)


GENERATOR = torch.Generator().manual_seed(0)
CASES: dict[str, tuple[str, Callable[..., torch.Tensor], list[torch.Tensor]]] = {
    "segmentation": ("declarations", segmentation, [real(2, 3, 2, 5), torch.randint(5, (2, 3, 2))]),
    "corner_errors": ("declarations", corner_errors, [real(6, 4), real(6, 4)]),
    "borders": ("indices", borders, [real(2, 7)]),
    "either": ("indices", either, [real(5, 3), real(5, 3), real(5, 3)]),
    "volumes": ("indices", volumes, [real(6, 7, 8), real(6, 7, 8)]),
    "spreads": ("reductions", spreads, [real(3, 6), real(3, 6).abs()]),
    "nearest": ("reductions", nearest, [real(4, 3), real(5, 3)]),
    "survival": ("reductions", survival, [real(4, 6).sigmoid(), torch.tensor([0, 5, 2, 3])]),
    "thin_parts": ("recurrences", thin_parts, [real(2, 6, 5).sigmoid()]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_block_is_the_formula(name: str) -> None:
    page, formula, inputs = CASES[name]
    leaves = [t.requires_grad_() if t.dtype == F64 else t for t in inputs]
    ours, theirs = loaded(page, name)(*leaves), formula(*leaves)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    moved = [t for t in leaves if t.requires_grad]
    for a, b in zip(torch.autograd.grad(ours, moved), torch.autograd.grad(theirs, moved), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
