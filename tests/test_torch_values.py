"""Emitted torch modules: values, first and higher derivatives, modes, dtypes, transforms, shapes."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from torch_losses import CROSS_ENTROPY, HUBER, INFO_NCE, LOG_WHERE, MASKED, NORMS, TWO, WORST, function, module

F64 = torch.float64


def leaf(*shape: int, seed: int = 0, dtype: torch.dtype = F64, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=F64) * scale).to(dtype).requires_grad_()


def labels(n: int, c: int, *rest: int, ignored: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    t = torch.randint(0, c, (n, *rest), generator=generator)
    if ignored:
        t.view(-1)[::3] = -100
    return t


def counted(fn: Any, entry: str) -> list[str]:
    """Count calls of the kernels of an entry: the list grows by a name at each call."""
    calls: list[str] = []
    table = next(v for k, v in fn.__globals__.items() if k.endswith("_KERNELS"))
    for key, kernel in list(table.items()):
        if key[0] == entry:
            table[key] = lambda *a, _k=kernel: (calls.append(_k.__name__), _k(*a))[1]
    return calls


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function whose kernel table may be changed."""

    def make(text: str) -> Any:
        fn = function(text)
        name = next(k for k in fn.__globals__ if k.endswith("_KERNELS"))
        monkeypatch.setitem(fn.__globals__, name, dict(fn.__globals__[name]))
        return fn

    return make


# ---------------------------------------------------------------------------------------- values and gradients

CASES: dict[str, Any] = {
    "huber": (
        HUBER,
        lambda p, t: F.huber_loss(p, t, delta=1.3),
        lambda: (leaf(6, 5), leaf(6, 5, seed=1)),
        {"delta": 1.3},
    ),
    "info_nce": (
        INFO_NCE,
        lambda q, k: F.cross_entropy(q @ k.T / 0.5, torch.arange(len(q))),
        lambda: (leaf(7, 3), leaf(7, 3, seed=1)),
        {},
    ),
    "log_where": (
        LOG_WHERE,
        lambda x, y: torch.where(x > 0, torch.log(torch.where(x > 0, x, 1.0)) * y, y**2).mean(),
        lambda: (leaf(9), leaf(9, seed=1)),
        {},
    ),
    "worst": (WORST, lambda x: x.square().max(1).values.mean(), lambda: (leaf(4, 5),), {}),
    "norms": (NORMS, lambda x: x.norm(dim=1).sum(), lambda: (leaf(4, 5),), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_value_gradient_and_hessian_product(name: str) -> None:
    text, reference, make, options = CASES[name]
    fn = function(text)
    inputs = make()
    direction = [torch.randn_like(x) for x in inputs]

    def derivatives(f: Any) -> tuple[torch.Tensor, Any, Any, Any]:
        value = f()
        plain = torch.autograd.grad(value, inputs, torch.tensor(1.7, dtype=F64), retain_graph=True)
        value = f()
        first = torch.autograd.grad(value, inputs, create_graph=True)
        dot = sum((g * d).sum() for g, d in zip(first, direction))
        second = torch.autograd.grad(dot, inputs, retain_graph=True, materialize_grads=True)
        return value, plain, first, second

    ours = derivatives(lambda: fn(*inputs, **options))
    theirs = derivatives(lambda: reference(*inputs))
    assert torch.allclose(ours[0], theirs[0], rtol=1e-12)
    for a, b in zip((*ours[1], *ours[2], *ours[3]), (*theirs[1], *theirs[2], *theirs[3]), strict=True):
        assert ((a - b).abs() <= 1e-9 * b.abs().clamp(min=1)).all()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("reduction", ["", "none"])
def test_gradcheck_and_gradgradcheck(name: str, reduction: str) -> None:
    text, _, make, options = CASES[name]
    fn = function(text)
    if reduction:
        options = options | {"reduction": reduction}
    inputs = make()
    assert gradcheck(lambda *x: fn(*x, **options), inputs)
    assert gradgradcheck(lambda *x: fn(*x, **options), inputs)


def test_gradient_in_a_weight_and_in_one_input_alone() -> None:
    fn = function(CROSS_ENTROPY)
    logits, weight = leaf(5, 4, 3), leaf(4, seed=2).detach().abs().requires_grad_()
    target = labels(5, 4, 3)
    assert gradcheck(lambda a, b: fn(a, target, b, smoothing=0.1), (logits, weight))
    assert gradgradcheck(lambda a, b: fn(a, target, b, smoothing=0.1), (logits, weight))
    fn(logits.detach(), target, weight).backward()
    assert weight.grad is not None
    assert logits.grad is None


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_in_every_mode(reduction: str) -> None:
    fn = function(CROSS_ENTROPY)
    weight = torch.rand(4, dtype=F64) + 0.1
    target = labels(5, 4, 2, 3)
    for w in (None, weight):
        x, y = leaf(5, 4, 2, 3), leaf(5, 4, 2, 3)
        ours = fn(x, target, w, smoothing=0.2, reduction=reduction)
        theirs = F.cross_entropy(y, target, weight=w, label_smoothing=0.2, reduction=reduction)
        if reduction == "mean" or w is None:
            assert torch.allclose(ours, theirs, rtol=1e-12)
        cotangent = torch.randn_like(ours)
        ours.backward(cotangent)
        theirs.backward(cotangent)
        assert torch.allclose(x.grad, y.grad, rtol=1e-9, atol=1e-14)


def test_two_inputs_that_share_their_history_get_partial_derivatives() -> None:
    fn = function(HUBER)
    x = leaf(5)
    y = x * 0.5 + 1
    (g,) = torch.autograd.grad(fn(x, y), x, create_graph=True)
    z = leaf(5)
    (h,) = torch.autograd.grad(F.huber_loss(z, z * 0.5 + 1), z, create_graph=True)
    assert torch.allclose(g, h)
    same = leaf(5)
    (g,) = torch.autograd.grad(fn(same, same), same, create_graph=True)
    assert torch.equal(g, torch.zeros_like(g))


# ----------------------------------------------------------------------------------------------------- modes


def test_no_gradient_is_computed_where_none_is_needed(fresh: Any) -> None:
    fn = fresh(HUBER)
    value, both, back = counted(fn, "value"), counted(fn, "value_and_gradient"), counted(fn, "backward")
    x, y = leaf(50), leaf(50, seed=1).detach()
    with torch.no_grad():
        fn(x, y)
    fn(x.detach(), y)
    assert len(value) == 2
    assert not both
    fn(x, y).backward()
    assert both == ["_huber_mean_value_and_gradient_d_pred"]
    fn(x, y, reduction="none").sum().backward()
    assert back == ["_huber_none_backward_d_pred"]


def test_retained_graph_gives_the_same_gradient_twice() -> None:
    fn = function(HUBER)
    x, y = leaf(40), leaf(40, seed=1).detach()
    for scale in (1.0, 3.0):
        value = fn(x, y)
        seed = torch.tensor(scale, dtype=F64)
        a = torch.autograd.grad(value, x, seed, retain_graph=True)[0].clone()
        b = torch.autograd.grad(value, x, seed, retain_graph=True)[0].clone()
        c = torch.autograd.grad(value, x, seed)[0]
        assert torch.allclose(a, b, rtol=1e-14)
        assert torch.allclose(a, c, rtol=1e-14)
        assert torch.allclose(a, scale * torch.autograd.grad(F.huber_loss(x, y), x)[0])


def test_an_accumulated_gradient_is_not_changed_by_a_later_backward() -> None:
    fn = function(HUBER)
    x, y = leaf(40), leaf(40, seed=1).detach()
    value = fn(x, y)
    value.backward(retain_graph=True)
    kept = x.grad
    before = kept.clone()
    torch.autograd.grad(value, x, torch.tensor(5.0, dtype=F64))
    assert torch.equal(kept, before)


def test_third_order() -> None:
    fn = function("loss quartic:\n    input x: real[n]\n    return sum(x^4)\n")
    x = leaf(4)
    (g,) = torch.autograd.grad(fn(x), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    (t,) = torch.autograd.grad(h.sum(), x)
    assert torch.allclose(t, 24 * x)


def test_float16_folds_the_loss_scale_in_before_rounding() -> None:
    fn = function(CROSS_ENTROPY)
    rows, classes = 512, 4000
    logits = torch.randn(rows, classes, generator=torch.Generator().manual_seed(0)).half()
    target = labels(rows, classes, ignored=False)
    x = logits.clone().requires_grad_()
    (fn(x, target) * 65536.0).backward()
    y = logits.double().requires_grad_()
    (F.cross_entropy(y, target) * 65536.0).backward()
    assert x.grad.dtype == torch.float16
    error = (x.grad.double() - y.grad).abs().sum() / y.grad.abs().sum()
    assert error <= 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("text", [HUBER, INFO_NCE])
def test_low_precision_accumulates_in_float32(dtype: torch.dtype, text: str) -> None:
    fn = function(text)
    x, y = leaf(300, 16, dtype=dtype), leaf(300, 16, seed=1, dtype=dtype)
    value = fn(x, y)
    assert value.dtype == torch.float32
    value.backward()
    a, b = x.detach().double().requires_grad_(), y.detach().double().requires_grad_()
    exact = fn(a, b)
    exact.backward()
    assert exact.dtype == F64
    assert abs(value.item() - exact.item()) <= 1e-5 * abs(exact.item())
    for low, high in ((x, a), (y, b)):
        assert low.grad.dtype == dtype
        unit = torch.finfo(dtype).eps
        tiny = torch.finfo(dtype).smallest_normal * unit
        room = max(2 * unit, 2e-6) * high.grad.abs().max() + tiny
        assert ((low.grad.double() - high.grad).abs() <= room).all()


# ---------------------------------------------------------------------------------------- nothing leaks


def test_dead_branches_and_masked_rows_leak_nothing() -> None:
    fn = function(LOG_WHERE)
    x = torch.tensor([2.0, 0.0, -1.0, math.nan], dtype=F64, requires_grad=True)
    y = leaf(4)
    for create in (False, True):
        (gx, gy) = torch.autograd.grad(fn(x, y), (x, y), create_graph=create)
        assert torch.isfinite(gx).all()
        assert torch.isfinite(gy).all()
        assert gx[1:].eq(0).all()
    masked = function(MASKED)
    rows = leaf(5, 3).detach().abs()
    rows[1], rows[3] = math.nan, -1.0
    rows[4, 0] = math.inf
    keep = torch.tensor([True, False, True, False, False])
    rows.requires_grad_()
    expected = masked(rows[keep], torch.ones(2, dtype=torch.bool))
    for create in (False, True):
        value = masked(rows, keep)
        assert torch.allclose(value, expected)
        (g,) = torch.autograd.grad(value, rows, create_graph=create)
        assert g[~keep].eq(0).all()
        assert torch.isfinite(g).all()
        assert not g[keep].eq(0).any()
    hessian = torch.autograd.functional.hessian(lambda r: masked(r, keep), rows)
    assert torch.isfinite(hessian).all()


def test_labels_of_a_large_image() -> None:
    """Selections between two numbers, over more elements than the selection by bits begins at."""
    fn = function(CROSS_ENTROPY)
    x, t = leaf(2, 3, 256, 192), labels(2, 3, 256, 192)
    for smoothing in (0.0, 0.1):
        value, peer = fn(x, t, smoothing=smoothing), F.cross_entropy(x, t, label_smoothing=smoothing)
        torch.testing.assert_close(value, peer)
        torch.testing.assert_close(torch.autograd.grad(value, x), torch.autograd.grad(peer, x))


def test_labels_out_of_range_give_nan_and_reach_no_other_row() -> None:
    fn = function(CROSS_ENTROPY)
    x = leaf(3, 4)
    target = torch.tensor([1, 7, 2])
    value = fn(x, target, reduction="none")
    assert torch.isnan(value).tolist() == [False, True, False]
    assert torch.isnan(fn(x, target))
    weight = torch.rand(4, dtype=F64) + 0.1
    for w in (None, weight):
        for create in (False, True):
            value = fn(x, target, w, reduction="sum")
            (g,) = torch.autograd.grad(value, x, create_graph=create)
            peer = F.cross_entropy(x[::2], target[::2], weight=w, reduction="sum")
            torch.testing.assert_close(g[::2], torch.autograd.grad(peer, x)[0][::2])
    with pytest.raises(ValueError, match=r"target\[1\] = 7 is not in \[0, 4\) or -100"):
        fn(x, target, check_inputs=True)


def test_functions_of_extents_alone_are_in_the_full_type() -> None:
    text = """
loss extents:
    input x: real[n]
    pairs = size(n) * (size(n) - 1) / 2
    return mean(x) + log(pairs) + sqrt(1 / size(n)) + size(n)^2.5 + min(size(n) / 7, 2) + atan(2 * size(n))
"""
    found = function(text)(torch.zeros(5, dtype=F64))
    wanted = math.log(10) + math.sqrt(1 / 5) + 5**2.5 + 5 / 7 + math.atan(10)
    assert abs(float(found) - wanted) < 1e-12


def test_first_winner_takes_the_gradient() -> None:
    fn = function(WORST)
    x = torch.tensor([[1.0, -1.0, 1.0]], dtype=F64, requires_grad=True)
    for create in (False, True):
        (g,) = torch.autograd.grad(fn(x), x, create_graph=create)
        assert g.tolist() == [[2.0, 0.0, 0.0]]


STOPPED = """
loss stopped:
    input x, y: real[n, d]
    axis m = n
    scale = mean(x^2)
    sim[n, m] = sum(x[n, d] * stop(y[m, d]) / (1 + stop(x[n, d])^2) over d)
    per = logsumexp(sim over m) + sum(x^2 * stop(y) over d) + stop(scale) * sum(y over d) * stop(mean(x * y over d))
    return mean(per)
"""


def stopped(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    sim = (x / (1 + x.detach() ** 2)) @ y.detach().T
    held = x.square().mean().detach() * (x * y).mean(1).detach()
    return (torch.logsumexp(sim, 1) + (x**2 * y.detach()).sum(1) + held * y.sum(1)).mean()


def test_what_is_stopped_has_no_derivative_of_any_order() -> None:
    fn = function(STOPPED)
    x, y = leaf(5, 3), leaf(5, 3, seed=1)

    def pair(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        total, weight = fn.__globals__["stopped_sum_and_weight"](x, y)
        return total / weight

    for call in (fn, pair):
        for create in (False, True):
            found = torch.autograd.grad(call(x, y), (x, y), create_graph=create)
            wanted = torch.autograd.grad(stopped(x, y), (x, y), create_graph=True)
            for a, b in zip(found, wanted):
                assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)
        second = torch.autograd.grad((found[0] * found[1]).sum(), (x, y), materialize_grads=True)
        peer = torch.autograd.grad((wanted[0] * wanted[1]).sum(), (x, y), materialize_grads=True)
        for a, b in zip(second, peer):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)
        for of in (0, 1):
            transformed = torch.func.grad(call, of)(x.detach(), y.detach())
            assert torch.allclose(transformed, wanted[of], rtol=1e-9, atol=1e-12)


# ----------------------------------------------------------------------------------- transforms and tracing


@pytest.mark.parametrize("name", ["huber", "info_nce", "log_where"])
def test_functorch(name: str) -> None:
    text, reference, make, options = CASES[name]
    fn = function(text)
    a, b = (t.detach() for t in make())

    def call(x: torch.Tensor) -> torch.Tensor:
        return fn(x, b, **options)

    def peer(x: torch.Tensor) -> torch.Tensor:
        return reference(x, b)

    def close(x: torch.Tensor, y: torch.Tensor) -> bool:
        return torch.allclose(x, y, rtol=1e-9, atol=1e-12)

    assert close(torch.func.grad(call)(a), torch.func.grad(peer)(a))
    assert close(torch.func.jacrev(torch.func.jacrev(call))(a), torch.func.hessian(peer)(a))
    assert close(torch.func.hessian(call)(a), torch.func.hessian(peer)(a))
    tangent = torch.randn_like(a)
    assert close(torch.func.jvp(call, (a,), (tangent,))[1], torch.func.jvp(peer, (a,), (tangent,))[1])
    batch = torch.stack([a, a * 2])
    assert close(torch.func.vmap(call)(batch), torch.stack([peer(a), peer(a * 2)]))
    assert close(torch.func.vmap(torch.func.grad(call))(batch)[1], torch.func.grad(peer)(a * 2))


def test_forward_mode_and_batched_gradients() -> None:
    fn = function(HUBER)
    x, y, t = leaf(6), leaf(6, seed=1).detach(), torch.randn(6, dtype=F64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), t)
        tangent = torch.autograd.forward_ad.unpack_dual(fn(dual, y)).tangent
    assert torch.allclose(tangent, (torch.autograd.grad(F.huber_loss(x, y), x)[0] * t).sum())
    value = fn(x, y, reduction="none")
    (jacobian,) = torch.autograd.grad(value, x, torch.eye(6, dtype=F64), is_grads_batched=True)
    assert torch.allclose(jacobian.diag(), torch.autograd.grad(F.huber_loss(x, y, reduction="sum"), x)[0])
    scalar = fn(x, y)
    (batch,) = torch.autograd.grad(scalar, x, torch.tensor([1.0, 2.0], dtype=F64), is_grads_batched=True)
    assert torch.allclose(batch[1], 2 * torch.autograd.grad(F.huber_loss(x, y), x)[0])


@pytest.mark.slow
def test_compile_fullgraph() -> None:
    fn = function(HUBER)
    x, y = leaf(32, dtype=torch.float32), leaf(32, seed=1, dtype=torch.float32).detach()
    compiled = torch.compile(lambda a, b: fn(a, b), fullgraph=True, backend="aot_eager")
    value = compiled(x, y)
    assert torch.allclose(value, F.huber_loss(x, y))
    value.backward()
    assert torch.allclose(x.grad, torch.autograd.grad(F.huber_loss(x, y), x)[0], atol=1e-7)


def test_autocast_does_not_lower_the_precision() -> None:
    fn = function(INFO_NCE)
    q, k = leaf(8, 4, dtype=torch.float32), leaf(8, 4, seed=1, dtype=torch.float32)
    plain = fn(q, k)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = fn(q, k)
        (g,) = torch.autograd.grad(inside, q, create_graph=True)
    assert torch.equal(plain, inside)
    assert g.dtype == torch.float32


# --------------------------------------------------------------------------------------------------- shapes


def test_any_strides_and_ranks() -> None:
    fn = function(HUBER)
    base, other = leaf(4, 6, 5), leaf(4, 6, 5, seed=1).detach()
    layouts = [
        lambda t: t,
        lambda t: t.permute(2, 0, 1),
        lambda t: t[::2, 1:4],
        lambda t: t[0, 0, 0],
        lambda t: t[:, :1].expand(4, 6, 5),
        lambda t: t[:0],
    ]
    for layout in layouts:
        a, b = layout(base), layout(other)
        ours = fn(a, b, reduction="sum")
        theirs = F.huber_loss(a, b, reduction="sum")
        assert torch.allclose(ours, theirs)
        (g,) = torch.autograd.grad(ours, base)
        (h,) = torch.autograd.grad(theirs, base)
        assert torch.allclose(g, h)
        assert fn(a, b, reduction="none").shape == a.shape


def test_empty_inputs() -> None:
    x = torch.zeros(0, 3, dtype=F64, requires_grad=True)
    value = function(HUBER)(x, torch.zeros(0, 3, dtype=F64))
    value.backward()
    assert value.item() == 0
    assert x.grad.shape == (0, 3)
    logits = leaf(4, 3)
    ignored = function(CROSS_ENTROPY)(logits, torch.full((4,), -100))
    ignored.backward()
    assert ignored.item() == 0
    assert logits.grad.eq(0).all()
    nothing = function(INFO_NCE)(torch.zeros(0, 3, dtype=F64), torch.zeros(0, 3, dtype=F64))
    assert nothing.item() == 0


def test_kernels_run_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, inputs in (
        (HUBER, (leaf(1000), leaf(1000, seed=1))),
        (INFO_NCE, (leaf(600, 3), leaf(600, 3, seed=1))),
        (WORST, (leaf(50, 7),)),
    ):
        fn = function(text)
        whole = [fn(*inputs), *torch.autograd.grad(fn(*inputs), inputs)]
        if "_block" in fn.__globals__:
            monkeypatch.setitem(fn.__globals__, "_block", lambda device, count, width=1: 37)
        parts = [fn(*inputs), *torch.autograd.grad(fn(*inputs), inputs)]
        for a, b in zip(whole, parts, strict=True):
            assert torch.allclose(a, b, rtol=1e-12)


def test_wrong_calls_say_what_is_wrong() -> None:
    fn = function(CROSS_ENTROPY)
    x = leaf(32, 10)
    with pytest.raises(ValueError, match=r"n=32 c=10, but target has n=31"):
        fn(x, torch.zeros(31, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"target must be an integer tensor.*target\.long\(\)"):
        fn(x, torch.zeros(32))
    with pytest.raises(TypeError, match=r"logits must be floating point.*logits\.float\(\)"):
        fn(x.long(), torch.zeros(32, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"smoothing = 1\.5 is outside"):
        fn(x, torch.zeros(32, dtype=torch.int64), smoothing=1.5)
    with pytest.raises(ValueError, match="reduction must be one of"):
        fn(x, torch.zeros(32, dtype=torch.int64), reduction="avg")
    huber = function(HUBER)
    with pytest.raises(ValueError, match=r"but target has \.\.\.=\(3, 1\)"):
        huber(leaf(3), leaf(3, 1))
    with pytest.raises(TypeError, match="pred must be a tensor"):
        huber(1.0, leaf(3))


def test_parameters_may_be_tensors_with_gradients() -> None:
    fn = function(HUBER)
    x, y = leaf(8), leaf(8, seed=1)
    delta = torch.tensor(0.7, dtype=F64, requires_grad=True)
    value = fn(x, y, delta=delta)
    assert torch.allclose(value, F.huber_loss(x, y, delta=0.7))
    assert gradcheck(lambda d: fn(x.detach(), y.detach(), delta=d), (delta,))
    assert torch.allclose(fn(x, y, delta=delta.detach()), value)


# -------------------------------------------------------------------------------------------------- modules


def test_module_is_a_good_citizen() -> None:
    loaded = module(TWO)
    loss = loaded.Multi(k=3)
    assert [n for n, _ in loss.named_parameters()] == ["log_variance"]
    task = leaf(3)
    value = loss(task)
    value.backward()
    assert loss.log_variance.grad is not None
    assert torch.allclose(loss.reports["weights"], torch.ones(3, dtype=F64))
    assert not loss.reports["weights"].requires_grad
    again = pickle.loads(pickle.dumps(loss))
    assert torch.equal(again(task), value)
    twin = copy.deepcopy(loss)
    twin.load_state_dict(loss.state_dict())
    assert torch.equal(twin(task), value)
    value, reports = loaded.multi(task, log_variance=loss.log_variance, return_reports=True)
    assert set(reports) == {"weights"}
    hinge = loaded.Hinge(reduction="sum")
    assert "reduction='sum'" in repr(hinge)
    score, y = leaf(6), torch.tensor([1, -1, 1, -1, 1, 1])
    assert torch.allclose(hinge(score, y), F.relu(1 - y * score).sum())
    assert torch.allclose(hinge(score, y.double()), F.relu(1 - y * score).sum())
    with pytest.raises(ValueError, match=r"y\[0\] = 0 is not -1 or 1"):
        loaded.hinge(score, y * 0, check_inputs=True)


def test_sum_and_weight_add_up_over_parts() -> None:
    loaded = module(CROSS_ENTROPY)
    loss = loaded.CrossEntropy(smoothing=0.1)
    x, target, weight = leaf(9, 4), labels(9, 4), torch.rand(4, dtype=F64)
    total = denominator = torch.zeros((), dtype=F64)
    for part in (slice(0, 2), slice(2, 9)):
        s, w = loss.sum_and_weight(x[part], target[part], weight)
        total, denominator = total + s, denominator + w
    assert torch.allclose(total / denominator, loss(x, target, weight), rtol=1e-12)
    assert gradcheck(lambda z: loss.sum_and_weight(z, target, weight)[0], (x,))


MANY_PASSES = {
    "two passes": """
loss two_passes:
    input x: real[n, c]
    input keep: bool[n]
    row = sum(log(x) over c)
    middle = mean(row over n where keep)
    return mean((row - middle)^2 over n where keep)
""",
    "products": """
loss products:
    input x: real[n, d]
    input keep: bool[n]
    axis m = n
    s[n, m] = sum(x[n, d] * x[m, d] over d)
    return sum(logsumexp(s over m where keep[m]) over n where keep)
""",
    "inverse": """
loss inverse:
    input x: real[n, c]
    input keep: bool[n]
    row = norm(1 / x over c)
    return sum(row if keep else 0)
""",
}


@pytest.mark.parametrize("name", MANY_PASSES)
def test_masked_rows_leak_nothing_from_one_kernel_to_another(name: str) -> None:
    fn = function(MANY_PASSES[name])
    keep = torch.tensor([True, False, True, False, False, True])
    x = torch.rand(6, 3, dtype=F64, generator=torch.Generator().manual_seed(1)) + 0.1
    x[1], x[3], x[4] = math.nan, -1.0, math.inf
    kept = x[keep].requires_grad_()
    x.requires_grad_()
    everything = torch.ones(3, dtype=torch.bool)
    direction = torch.randn(6, 3, dtype=F64)
    (right,) = torch.autograd.grad(fn(kept, everything), kept, create_graph=True)
    (right_second,) = torch.autograd.grad((right * direction[keep]).sum(), kept)
    (fast,) = torch.autograd.grad(fn(x, keep), x)
    (slow,) = torch.autograd.grad(fn(x, keep), x, create_graph=True)
    (second,) = torch.autograd.grad((slow * direction).sum(), x)
    for ours, theirs in ((fast, right), (slow, right), (second, right_second)):
        assert ours[~keep].eq(0).all()
        assert torch.allclose(ours[keep], theirs, rtol=1e-9)
    assert gradgradcheck(lambda y: fn(y, everything), (kept.detach().requires_grad_(),))


FIXED = {
    "x[c = last]": lambda x: x[:, -1].sum(),
    "x[n, last] * x[c = 0]": lambda x: (x[:, -1] * x[:, 0]).sum(),
    "x[c = size(c) // 2]": lambda x: x[:, x.shape[1] // 2].sum(),
    "x[c = min(2, size(c) - 1)]": lambda x: x[:, min(2, x.shape[1] - 1)].sum(),
    "x[c = k]": lambda x: x[:, 1].sum() if x.shape[1] > 1 else x.sum() * float("nan"),
    "x * x[last, last]": lambda x: (x * x[-1, -1]).sum(),
}


@pytest.mark.parametrize("body", FIXED)
def test_positions_without_an_axis_in_them(body: str) -> None:
    """An index of extents, numbers and integer parameters alone is a number when the kernel runs, and is checked so."""
    text = f"loss f:\n    input x: real[n, c]\n    param k: int >= 0 = 1\n    return sum({body}) + 0 * k\n"
    loss = module(text).F()
    for shape in ((3, 4), (3, 1), (1, 2)):
        x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        wanted = FIXED[body](x)
        found = loss(x)
        torch.testing.assert_close(found, wanted, equal_nan=True)
        if not wanted.isnan():
            [ours], [theirs] = torch.autograd.grad(found, [x]), torch.autograd.grad(wanted, [x])
            torch.testing.assert_close(ours, theirs)
    assert loss(torch.zeros(0, 4)) == 0
