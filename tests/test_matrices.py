"""Determinants and inverses in emitted modules: matrices that are not symmetric, not regular, or not read at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_torch_values import F64, leaf
from torch.autograd import gradcheck, gradgradcheck
from torch_losses import function

DETERMINANT = """
loss determinant:
    input a: real[n, d, e]
    input m: bool[n]
    axis e = d
    return mean(logdet(a over d, e) over n where m)
"""
INVERSE = """
loss inverses:
    input a: real[n, d, e]
    input m: bool[n]
    axis e = d
    i[n, d, e] = inverse(a over d, e)
    return mean(i[n, e, d] * exp(i[n, d, e] / 4) where m)
"""
BRANCH = """
loss branch:
    input a: real[n, d, e]
    input m: bool[n]
    axis e = d
    return sum((sum(inverse(a over d, e) over d, e) + logdet(a over d, e)) if m else 0 over n)
"""
MASK = torch.tensor([True, False, True])


def products(a: torch.Tensor) -> torch.Tensor:
    i = torch.linalg.inv(a)
    return (i.mT * torch.exp(i / 4)).mean()


PEERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    DETERMINANT: lambda a: torch.linalg.slogdet(a)[1].mean(),
    INVERSE: products,
    BRANCH: lambda a: torch.linalg.inv(a).sum() + torch.linalg.slogdet(a)[1].sum(),
}


def matrices(left_out: float) -> torch.Tensor:
    """Two regular matrices and, between them, one without an inverse."""
    a = leaf(3, 3, 3).detach() + 2 * torch.eye(3, dtype=F64)
    a[1] = left_out
    return a


@pytest.mark.parametrize("left_out", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("text", list(PEERS))
def test_a_matrix_that_nothing_reads_is_not_asked_for_its_inverse(text: str, left_out: float) -> None:
    fn, a = function(text), matrices(left_out).requires_grad_()
    wanted = PEERS[text](a[MASK])
    torch.testing.assert_close(fn(a, MASK), wanted, rtol=1e-12, atol=0)
    (slope,) = torch.autograd.grad(wanted, a)
    for create in (False, True):
        (ours,) = torch.autograd.grad(fn(a, MASK), a, create_graph=create)
        torch.testing.assert_close(ours.detach(), slope, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.func.grad(fn)(a.detach(), MASK), slope, rtol=1e-10, atol=1e-12)
    if left_out == 0:
        kept = a.detach()

        def regular(b: torch.Tensor) -> torch.Tensor:
            return fn(torch.stack([b[0], kept[1], b[1]]), MASK)

        assert gradcheck(regular, kept[MASK].requires_grad_())
        assert gradgradcheck(regular, kept[MASK].requires_grad_())


def test_a_matrix_without_inverse_that_is_read() -> None:
    """The value says so; nothing goes back through it, and the others keep their gradient."""
    for text, value in ((DETERMINANT, -torch.inf), (INVERSE, torch.nan)):
        fn, a = function(text), matrices(0.0).requires_grad_()
        everything: dict[str, Any] = {"m": torch.ones(3, dtype=torch.bool)}
        torch.testing.assert_close(fn(a, **everything).detach(), torch.tensor(value, dtype=F64), equal_nan=True)
        slope = torch.autograd.grad(PEERS[text](a[MASK]) * (2 / 3), a)[0]
        for create in (False, True):
            (ours,) = torch.autograd.grad(fn(a, **everything), a, create_graph=create)
            torch.testing.assert_close(ours.detach(), slope, rtol=1e-10, atol=1e-12)
