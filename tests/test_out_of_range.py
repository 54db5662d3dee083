"""A gather by data that is out of range: its value is NaN, nothing goes through what is computed from it, and the
gradient of everything else is what it would be without it. One rule, in the derivative itself, for every target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_losses import CROSS_ENTROPY, function

from lossdsl import assemble, pipeline
from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.transform.differentiate import differentiate

F64 = torch.float64
BAD = [1, 7, 2, -1, 0]  # with five classes, the second and the fourth have none
GOOD = [0, 2, 4]

FOCAL = """
loss focal:
    input logits: real[n, c]
    input target: class[n] of c
    param gamma: real >= 0 = 2
    logp = log_softmax(logits over c)[c = target]
    per = -relu(1 - exp(logp))^gamma * logp
    return mean(per)
"""

MARGIN = """
loss margin:
    input logits: real[n, c]
    input target: class[n] of c
    per[n] = sum(softplus(1 + logits[n, c] - logits[n, target[n]]) over c) + sum(logits^2 over c)
    return mean(per)
"""

EMBEDDING = """
loss embedding:
    input x: real[n, d]
    input table: real[c, d]
    input token: int[n] in [0, size(c))
    per[n] = sqrt(sum((x[n, d] - table[token[n], d])^2 over d)) + sum(abs(x) over d)
    return mean(per)
"""

SMOOTHED = """
loss smoothed:
    input logits: real[n, c]
    input target: class[n] of c
    logp = log_softmax(logits over c)
    per = -0.9 * logp[c = target] - 0.1 * mean(logp over c)
    return mean(per)
"""

CASES = {"focal": FOCAL, "margin": MARGIN, "smoothed": SMOOTHED, "embedding": EMBEDDING}


def leaves(name: str) -> tuple[dict[str, torch.Tensor], str]:
    """Inputs, the rows' input first; and the name of the indices."""
    generator = torch.Generator().manual_seed(1)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=F64)  # noqa: E731
    if name == "embedding":
        return {"x": make(5, 3), "table": make(5, 3)}, "token"
    return {"logits": make(5, 5)}, "target"


def gradients(
    fn: Any, given: dict[str, torch.Tensor], index: str, at: Sequence[int], **more: Any
) -> list[torch.Tensor]:
    inputs = {n: t.clone().requires_grad_() for n, t in given.items()}
    value = fn(**inputs, **{index: torch.tensor(at)}, **more)
    return list(torch.autograd.grad(value.sum(), list(inputs.values())))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("name", CASES)
def test_only_the_rows_out_of_range_have_no_gradient(name: str, reduction: str) -> None:
    fn = function(CASES[name])
    given, index = leaves(name)
    value = fn(**given, **{index: torch.tensor(BAD)}, reduction="none")
    assert torch.isnan(value).tolist() == [k not in GOOD for k in range(5)]
    assert torch.isnan(fn(**given, **{index: torch.tensor(BAD)}))
    rows, *shared = gradients(fn, given, index, BAD, reduction=reduction)
    first, *rest = given
    kept = {first: given[first][GOOD], **{n: given[n] for n in rest}}
    wanted, *also = gradients(fn, kept, index, [BAD[k] for k in GOOD], reduction=reduction)
    share = 3 / 5 if reduction == "mean" else 1  # the mean is over five rows
    torch.testing.assert_close(rows[GOOD], share * wanted)
    assert rows[[1, 3]].eq(0).all()
    for a, b in zip(shared, also, strict=True):
        torch.testing.assert_close(a, share * b)


@pytest.mark.parametrize("name", CASES)
def test_the_interpreter_agrees(name: str) -> None:
    source = Source("a.loss", CASES[name])
    program = pipeline.analyse(source).losses[0].program
    given, index = leaves(name)
    derived = assemble.gradient_program(program, "return", tuple(given))
    arrays: dict[str, Any] = {n: t.numpy() for n, t in given.items()}
    arrays |= {index: np.array(BAD), "return'": np.array(1.0)}
    found = interpret(derived, arrays)
    for n, wanted in zip(given, gradients(function(CASES[name]), given, index, BAD), strict=True):
        np.testing.assert_allclose(found[f"d {n}"], wanted.numpy(), atol=1e-15)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_a_wrong_label(smoothing: float) -> None:
    fn = function(CROSS_ENTROPY)
    x, t = leaves("focal")[0]["logits"], torch.tensor([1, 7, 2, -100, 0])
    keep = torch.tensor([0, 2, 4])
    for weight in (None, torch.rand(5, dtype=F64) + 0.1):
        for reduction in ("none", "sum", "mean"):
            a, b = x.clone().requires_grad_(), x[keep].clone().requires_grad_()
            (found,) = torch.autograd.grad(fn(a, t, weight, smoothing=smoothing, reduction=reduction).sum(), a)
            peer = F.cross_entropy(b, t[keep], weight, label_smoothing=smoothing, reduction="sum")
            (wanted,) = torch.autograd.grad(peer, b)
            assert found[[1, 3]].eq(0).all()
            if reduction != "mean":
                torch.testing.assert_close(found[keep], wanted)
            elif weight is None:  # one of four labels is wrong: they all count
                torch.testing.assert_close(found[keep], wanted / 4)
            else:  # what the others are divided by has no value
                assert found.eq(0).all()


def test_what_needs_a_reduction_with_a_hole_in_it_has_no_gradient() -> None:
    fn = function("""
loss ratio:
    input x: real[n, k]
    input w: real[c]
    input place: class[n, k] of c
    total = sum(x * w[place] over k)
    return mean(log(1 + total^2) + sum(x over k) over n)
""")
    x, w = torch.rand(2, 3, dtype=F64).requires_grad_(), torch.rand(4, dtype=F64).requires_grad_()
    place = torch.tensor([[0, 1, 9], [2, 3, 0]])
    dx, dw = torch.autograd.grad(fn(x, w, place), (x, w))
    total = (x * w[place.clamp(max=3)]).sum(1)
    peer = (torch.log1p(total**2) + x.sum(1))[1] / 2
    px, pw = torch.autograd.grad(peer, (x, w))
    torch.testing.assert_close(dw, pw)
    torch.testing.assert_close(dx[1], px[1])
    # the first row's second term exists at every k: it keeps its gradient, the logarithm sends none
    torch.testing.assert_close(dx[0], torch.full((3,), 0.5, dtype=F64))


KEPT = """
loss kept:
    input x: real[n, c]
    input t: int[n]
    per[n] = x[n, t[n]]^2 + sum(x over c) if t[n] >= 0 and t[n] < size(c) else 0
    return mean(per)
"""
WINNER = """
loss winner:
    input x: real[n, c]
    best[n] = argmax(x over c)
    return mean(log(1 + x[n, best[n]]^2) + sum(x over c) over n)
"""


@pytest.mark.parametrize("text", [KEPT, WINNER])
def test_nothing_is_asked_where_the_program_proves_the_range(text: str) -> None:
    program = pipeline.analyse(Source("a.loss", text)).losses[0].program
    assert differentiate(program, "return", ("x",)) == differentiate(program, "return", ("x",), trusted=True)


TREE = """
loss tree:
    input z: real[n, k]
    input y: class[n] of c
    input path: class[c, l] of k or pad
    input side: real[c, l]
    param pad: int = -1
    node[n, l] = path[y[n], l]
    return sum(softplus(-side[y[n], l] * z[n, node[n, l]]) over n, l where node != pad)
"""


def test_a_definition_of_labels_keeps_their_type() -> None:
    """A softmax over a tree: the nodes on the way to a label, padded; against one row after the other."""
    assert not pipeline.analyse(Source("x.loss", TREE)).diagnostics
    without = pipeline.analyse(Source("x.loss", TREE.replace(" where node != pad", ""))).diagnostics
    assert [(d.code, d.message) for d in without] == [("E0405", "`node` may be `pad`, which is no position of `z`")]
    f = function(TREE)
    z = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.tensor([0, 2, 1, 2])
    path = torch.tensor([[0, -1, -1], [0, 1, -1], [2, 1, 0]])
    side = torch.tensor([[1.0, 0, 0], [-1.0, 1.0, 0], [1.0, -1.0, 1.0]], dtype=F64)
    total = sum(
        F.softplus(-side[c, k] * z[n, path[c, k]]) for n, c in enumerate(y) for k in range(3) if path[c, k] >= 0
    )
    value = f(z, y, path, side)
    torch.testing.assert_close(value, total)
    (wanted,) = torch.autograd.grad(total, z)
    torch.testing.assert_close(torch.autograd.grad(value, z)[0], wanted)
    torch.testing.assert_close(torch.func.grad(f)(z.detach(), y, path, side), wanted)
