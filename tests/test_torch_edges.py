"""Emitted torch modules at the edges: constants, reports, sums at one place, repeated backwards, ranges, no data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_torch_values import F64, labels, leaf
from torch.autograd import gradcheck, gradgradcheck
from torch_losses import HUBER, INFO_NCE, function, module

import lossdsl
from lossdsl.assemble import gradient_program
from lossdsl.diagnostics import Source
from lossdsl.lower.cost import cost
from lossdsl.lower.plan import Key
from lossdsl.lower.schedule import schedule
from lossdsl.pipeline import analyse

CONSTANTS = """
loss constants:
    input x, y: real[n]
    input k: bool[n]
    w = 0.1 if k else 0.3
    v = (0.7 if x > 0 else (0.2 if y > 0 else 1 / 3)) * y
    return mean(w * x^2 + v * w)
"""


def test_a_selection_of_two_numbers_has_the_type_of_the_loss() -> None:
    """torch makes float32 of two plain numbers: in float64 they would be wrong in the eighth digit."""
    fn = function(CONSTANTS)
    x, y = leaf(6), leaf(6, seed=1)
    k = torch.tensor([True, False, True, False, False, True])

    def number(value: float) -> torch.Tensor:
        return torch.tensor(value, dtype=F64)

    def peer(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        w = torch.where(k, number(0.1), number(0.3))
        v = torch.where(x > 0, number(0.7), torch.where(y > 0, number(0.2), number(1 / 3))) * y
        return (w * x**2 + v * w).mean()

    wanted = torch.autograd.grad(peer(x, y), (x, y))
    torch.testing.assert_close(fn(x, y, k), peer(x, y), rtol=1e-15, atol=0)
    for create in (False, True):
        for ours, theirs in zip(torch.autograd.grad(fn(x, y, k), (x, y), create_graph=create), wanted):
            torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-16)
    torch.testing.assert_close(torch.func.grad(fn)(x.detach(), y.detach(), k), wanted[0], rtol=1e-14, atol=1e-16)


REPORTED = """
loss reported:
    input x, y: real[n]
    report squares = (x - y)^2
    report prediction = x
    report worst = max(abs(x - y) over n else 0)
    return mean((x - y)^2)
"""


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("dtype", [F64, torch.float16])
def test_a_report_of_the_value_itself_leaves_it_differentiable(reduction: str, count: int, dtype: torch.dtype) -> None:
    fn = function(REPORTED)
    x, y = leaf(count, dtype=dtype), leaf(count, seed=1, dtype=dtype).detach()
    value, reports = fn(x, y, reduction=reduction, return_reports=True)
    assert value.requires_grad
    assert not any(r.requires_grad for r in reports.values())
    assert x.is_leaf
    share = count if reduction == "mean" else 1
    for create in (False, True):
        (g,) = torch.autograd.grad(value.sum(), x, create_graph=create, retain_graph=True)
        torch.testing.assert_close(g, 2 * (x.detach() - y) / share, rtol=2e-3, atol=1e-4)


HINGES = """
loss hinges:
    input x: real[n, c]
    input target: class[n] of c
    input weight: real[c] >= 0 = 1
    per = relu(1 + x - x[c = target])
    return sum(weight[target] * per over n, c where c != target) / sum(weight[target] over n)
"""


def test_reports_cost_no_zeros_in_backward() -> None:
    """autograd makes a gradient of zeros for each result that is not used, unless it is told not to."""
    fn = function("loss r:\n    input x, y: real[n]\n    d = x - y\n    report d = d\n    return mean(d^2)\n")
    x, y = leaf(1000), leaf(1000, seed=1).detach()
    value, reports = fn(x, y, return_reports=True)
    assert reports["d"].shape == (1000,)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as seen:
        value.backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * (x.detach() - y) / 1000)
    filled = [e for e in seen.events() if e.name in ("aten::zero_", "aten::fill_") and [1000] in e.input_shapes]
    assert not filled


def test_values_that_meet_at_one_place_are_added_up() -> None:
    """The gradient in the weights: each of them gets a sum over classes that its place does not depend on."""
    fn = function(HINGES)
    x, weight, target = leaf(5, 4), (leaf(4, seed=3).detach().abs() + 0.1).requires_grad_(), labels(5, 4, ignored=False)
    rows = torch.arange(5)

    def peer(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        others = torch.ones_like(x)
        others[rows, target] = 0
        return (weight[target][:, None] * F.relu(1 + x - x[rows, target][:, None]) * others).sum() / weight[
            target
        ].sum()

    wanted = torch.autograd.grad(peer(x, weight), (x, weight))
    found = torch.autograd.grad(fn(x, target, weight), (x, weight))
    for ours, theirs in zip(found, wanted):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    (alone,) = torch.autograd.grad(fn(x.detach(), target, weight), weight)
    torch.testing.assert_close(alone, wanted[1], rtol=1e-10, atol=1e-12)


DISTANCES = """
loss distances:
    input z: real[n, d]
    axis m = n
    return mean(norm(z[n, d] - z[m, d] over d) over n, m where n != m)
"""


@pytest.mark.parametrize("text", [DISTANCES, HUBER.replace("pred, target", "pred").replace("- target", "")])
def test_a_second_backward_gives_the_same_bits(text: str) -> None:
    """`gradcheck` asks for it with its defaults."""
    fn = function(text)
    x = leaf(5, 3)
    assert gradcheck(fn, (x,))
    assert gradgradcheck(fn, (x,))
    value = fn(x)
    seed = torch.tensor(1.7, dtype=F64)
    first = torch.autograd.grad(value, x, seed, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(value, x, seed)[0])


def test_a_parameter_that_is_changed_before_backward_is_noticed() -> None:
    fn = function(HUBER)
    for dtype in (torch.float32, torch.float16):
        x, delta = leaf(5, dtype=dtype), torch.tensor(0.5)
        value = fn(x, torch.zeros_like(x), delta=delta)
        delta += 1
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.backward()


PADDED = """
loss padded:
    input x: real[b, t, ...]
    input length: int[b] in [0, size(t)]
    input w: real[...] <= size(b)
    return sum(x^2 * w over b, t, ... where t < length)
"""


def test_ranges_may_name_extents() -> None:
    loaded = module(PADDED)
    x, w, length = leaf(2, 3, 2, 2).detach(), torch.ones(2, 2, dtype=F64), torch.tensor([0, 3])
    assert torch.allclose(loaded.padded(x, length, w, check_inputs=True), x[1].square().sum())
    with pytest.raises(ValueError, match=r"length\[1\] = 4 is not >= 0 and <= t"):
        loaded.padded(x, length + torch.tensor([0, 1]), w, check_inputs=True)
    with pytest.raises(ValueError, match=r"w\[0, 0\] = 5\.0 is not <= b"):
        loaded.padded(x, length, w * 5, check_inputs=True)


SEGMENTS = """
loss segments:
    input x: real[n]
    input y: class[n] of c
    input b: real[c]
    top[c] = max(x[n] over n where y[n] == c else 0)
    lse[c] = logsumexp(x[n] over n where y[n] == c)
    return sum(top * b) + sum(exp(lse) * b)
"""


def test_the_largest_of_each_segment() -> None:
    """The condition has an axis that the value has not."""
    fn = function(SEGMENTS)
    x, b, y = leaf(6), leaf(4, seed=2), torch.tensor([0, 1, 1, 0, 3, 1])

    def peer(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        held = [(x[y == c], b[c]) for c in range(4) if (y == c).any()]
        return torch.stack([s.max() * w + s.exp().sum() * w for s, w in held]).sum()

    torch.testing.assert_close(fn(x, y, b), peer(x, b))
    for create in (False, True):
        found = torch.autograd.grad(fn(x, y, b), (x, b), create_graph=create)
        for ours, theirs in zip(found, torch.autograd.grad(peer(x, b), (x, b))):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("text", [HUBER, INFO_NCE])
def test_tensors_without_data_have_shapes(text: str) -> None:
    q = torch.empty(4, 3, device="meta")
    value = function(text)(q, q)
    assert value.device.type == "meta"
    assert value.shape == ()


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("kind", ["reflect", "wrap", "edge"])
@pytest.mark.parametrize("n", [3, 4, 9])
def test_a_window_over_a_mapped_boundary(kind: str, n: int, create: bool) -> None:
    """As numpy pads: the adjoint counts an offset down from a mirrored end."""
    fn = function(f"""
loss window:
    input x: real[b, h]
    axis i = 5
    return sum((sum(x[b, {kind}(h + i - 2)] over i) / 5)^2)
""")
    places = torch.tensor(np.pad(np.arange(n), 2, mode=kind)).unfold(0, 5, 1)  # type: ignore[call-overload]
    matrix = F.one_hot(places, n).sum(1).to(F64) / 5
    x = leaf(2, n)
    value = fn(x)
    (g,) = torch.autograd.grad(value, x, create_graph=create)
    rows = x.detach() @ matrix.T
    torch.testing.assert_close(value.detach(), rows.square().sum())
    torch.testing.assert_close(g.detach(), 2 * rows @ matrix)


POOLED = """
loss pooled:
    input x, y: real[b, h, w]
    axis i, j = 3
    small = min(x[h = h + i, w = w + j] over i, j)
    large = max(x[h = h + i, w = w + j] over i, j)
    per[b, h, w] = (large - small) * y[h = h + 1, w = w + 1]
    return mean(per)
"""


def test_pooled_maxima() -> None:
    """As max_pool2d; the winner's place is two positions of the gradient, and neither is searched for."""
    fn = function(POOLED)
    x, y = leaf(2, 7, 6), leaf(2, 7, 6, seed=1)
    opened, grown = -F.max_pool2d(-x, 3, 1), F.max_pool2d(x, 3, 1)
    wanted = torch.autograd.grad(((grown - opened) * y[:, 1:-1, 1:-1]).mean(), (x, y))
    for create in (False, True):
        for ours, theirs in zip(torch.autograd.grad(fn(x, y), (x, y), create_graph=create), wanted, strict=True):
            torch.testing.assert_close(ours, theirs)
    program = analyse(Source("a.loss", POOLED)).losses[0].program
    plan = schedule(gradient_program(program, "return", ("x",)), Key("pooled", "backward", "mean", ("x",), (), "torch"))
    large = dict.fromkeys(("b", "h"), 10) | {"w": 1000}
    assert cost(plan).operations.evaluate(large) < 400 * 10 * 10 * 1000


def test_an_integer_division_by_zero_that_nobody_reads() -> None:
    """torch stops at an integer division by 0, even where a condition excludes it."""
    fn = function("""
loss divided:
    input x: real[n]
    input k: int[n]
    param m: int = 0
    return sum(x * (7 // k) + x * (7 % k) where k != 0) + sum(x * (n // m if m != 0 else 2))
""")
    x, k = leaf(4), torch.tensor([0, 2, -3, 0])
    wanted = (x[1] * (3 + 1) + x[2] * (-3 - 2)) + 2 * x.sum()
    value = fn(x, k)
    assert torch.allclose(value, wanted)
    assert torch.allclose(torch.autograd.grad(value, x)[0], torch.autograd.grad(wanted, x)[0])
    assert torch.allclose(fn(x.detach(), k, m=2), (wanted - 2 * x.sum() + x[2] + x[3]).detach())


def test_a_row_that_is_folded_beside_the_whole_tensor_has_no_axes() -> None:
    """One kernel has both axes; what is folded along one of them only is a number all the same."""
    rows = " + ".join(f"{head}(x[0, c] over c)" for head in ("logsumexp", "sum", "max", "norm", "prod"))
    fn = function(
        f"\nloss t:\n    input x: real[n, c]\n    axis c = 3\n    return logsumexp(x[0, c] over c) * mean(x) * ({rows})\n"
    )
    x = leaf(4, 3)
    row = x[0]
    total = row.logsumexp(0) + row.sum() + row.max() + row.norm() + row.prod()
    wanted = row.logsumexp(0) * x.mean() * total
    value = fn(x)
    assert value.shape == ()
    torch.testing.assert_close(value, wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(value, x)[0], torch.autograd.grad(wanted, x)[0], rtol=1e-11, atol=1e-13
    )
    assert gradgradcheck(fn, leaf(4, 3))


EDGES = [  # (declarations and what is returned, shapes, the same in torch)
    ("input x: real[n]\n    return exp(x)[n = 3 else 5]", [(3,)], lambda x: x.sum() * 0 + 5),
    ("input x: real[n]\n    return exp(x)[n = 3 else 5]", [(4,)], lambda x: x[3].exp()),
    ("input x: real[n]\n    return max(x)", [(0,)], lambda x: x.sum() * 0 - torch.inf),
    ("input x: real[n]\n    return min(x)", [(0,)], lambda x: x.sum() * 0 + torch.inf),
    ("input x: real[n, c]\n    return sum(max(x over c))", [(2, 0)], lambda x: x.sum() * 0 - torch.inf),
    ("input x: real[n, c]\n    return median(x)", [(3, 3)], lambda x: x.median()),
    ("input x, w: real[n]\n    return w[n = argmax(x over n)]^2", [(4,), (4,)], lambda x, w: w.take(x.argmax().view(1))[0] ** 2),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shapes", "reference"), EDGES)
def test_single_places_and_places_that_are_not_there(text: str, shapes: list[tuple[int, ...]], reference: Any) -> None:
    """Eagerly, with a graph of the gradient, and over a batch: the same value, of no axes, and the same gradients."""
    ours = lossdsl.loads(f"loss l:\n    {text}\n").function
    batch = [
        torch.randn(3, *s, dtype=torch.float64, generator=torch.Generator().manual_seed(7 + len(s))) for s in shapes
    ]
    places = tuple(range(len(shapes)))
    for k in range(3):
        leaves = [t[k].clone().requires_grad_() for t in batch]
        wanted = reference(*leaves)
        slopes = torch.autograd.grad(wanted, leaves, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            torch.testing.assert_close(ours(*leaves), wanted)
        for create in (False, True):
            value = ours(*leaves)
            torch.testing.assert_close(value, wanted)
            torch.testing.assert_close(torch.autograd.grad(value, leaves, create_graph=create), slopes)
        over = torch.func.vmap(torch.func.grad_and_value(ours, places))(*batch)
        torch.testing.assert_close((tuple(g[k] for g in over[0]), over[1][k]), (slopes, wanted.detach()))


def test_inputs_without_a_gradient_get_zeros() -> None:
    """What the value reaches through `stop` alone is in no kernel; its gradient is 0 where it is asked for."""
    emitted = lossdsl.compile("gae").source
    assert '("constant", "", (), ()): ("reward", "last_value"),' in emitted
    assert "d_reward" not in emitted.replace("d_reward = 0", "")
    gae = lossdsl.load("gae").function
    torch.manual_seed(0)
    given = {n: torch.randn(5, 3, dtype=torch.float64) for n in ("reward", "value")}
    given |= {"done": torch.zeros(5, 3), "last_value": torch.randn(3, dtype=torch.float64)}
    for wanted in (("reward",), ("value",), ("reward", "value"), ("last_value", "value"), ("reward", "last_value")):
        for reduction in ("mean", "none"):
            leaves = {n: t.clone().requires_grad_(n in wanted) for n, t in given.items()}
            value = gae(**leaves, reduction=reduction)
            for create_graph in (False, True):
                found = torch.autograd.grad(
                    value.sum(), [leaves[n] for n in wanted], retain_graph=True, create_graph=create_graph
                )
                for name, gradient in zip(wanted, found, strict=True):
                    assert gradient.shape == leaves[name].shape
                    assert bool((gradient != 0).any()) == (name == "value")
