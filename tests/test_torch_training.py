"""What lives through training, in emitted modules: states, the training step and learnable values, against plain torch."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import lossdsl
from lossdsl import pipeline
from lossdsl.diagnostics import Source

CENTRED = """
loss centred:
    input x: real[n, c]
    param momentum: real in [0, 1] = 0.9
    state centre: real[c] = 0
    return mean((x - centre)^2) * linear(step, 1, 3, 4)
    update centre = momentum * centre + (1 - momentum) * mean(x over n)
"""

QUEUED = """
loss queued:
    input q, k: real[n, d]
    param temperature: real > 0 = 0.07
    state queue: real[r, d]
    def unit(x) = x / max(norm(x over d), 1e-12)
    key[n, d] = stop(unit(k))
    positive = sum(unit(q) * key over d) / temperature
    negative[n, r] = sum(unit(q) * queue over d) / temperature
    per = softplus(logsumexp(negative - positive over r))
    return mean(per)
    update queue[r, d] = key[r, d] if r < size(n) else queue[r - size(n), d]
"""

ANNEALED = """
loss annealed:
    input logits: real[...]
    input target: binary[...]
    param steps: int > 0 = 10
    gamma = linear(step, 0, 2, steps)
    side = 2 * target - 1
    return mean(-exp(gamma * logsigmoid(-side * logits)) * logsigmoid(side * logits))
"""

RUNNING = """
loss running:
    input x: real[...]
    input weight: real[...] = 1
    state held: real[...]
    state seen: int = 0
    state loud: bool = false
    report mean_weight = mean(weight)
    return mean(weight * (x - held)^2 if not loud else abs(x - held))
    update held = x
    update seen = seen + 1
    update loud = max(x else 0) > 3
"""

LEARNED = """
loss learned:
    input x: real[n, k]
    input y: real[n]
    learnable weight: real[k] = log(10)
    learnable bias: real = -1/3
    return mean((sum(weight * x over k) + bias - y)^2)
"""


@pytest.fixture(scope="module")
def losses() -> dict[str, Any]:
    texts = {"centred": CENTRED, "queued": QUEUED, "annealed": ANNEALED, "running": RUNNING, "learned": LEARNED}
    return {name: lossdsl.loads(text) for name, text in texts.items()}


def batch(*shape: int, seed: int = 0) -> torch.Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made.requires_grad_()


class Centre(torch.nn.Module):
    """The centred loss by hand."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(c, dtype=torch.float64))
        self.count = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = F.mse_loss(x, self.centre.clone().expand_as(x)) * (1 + 2 * min(self.count / 4, 1))
        with torch.no_grad():
            self.centre.mul_(0.9).add_(x.mean(0), alpha=0.1)
        self.count += 1
        return value


# --------------------------------------------------------------------------------------------------- states and step


def test_a_state_is_read_before_it_moves(losses: dict[str, Any]) -> None:
    ours, theirs = losses["centred"](c=3).double(), Centre(3)
    assert not list(ours.parameters())
    for seed in range(7):
        x = batch(5, 3, seed=seed)
        value, wanted = ours(x), theirs(x)
        assert torch.allclose(value, wanted, rtol=1e-12)
        got, want = torch.autograd.grad(value, x)[0], torch.autograd.grad(wanted, x)[0]
        assert torch.allclose(got, want, rtol=1e-12)
        assert torch.allclose(ours.centre, theirs.centre, rtol=1e-12)
        assert not ours.centre.requires_grad
        assert ours.centre.dtype == torch.float64
    assert ours.step.item() == 7
    assert ours.step.dtype == torch.int64


def test_half_precision_states_keep_their_type(losses: dict[str, Any]) -> None:
    ours = losses["centred"](c=3).half()
    ours(batch(5, 3).detach().half().requires_grad_()).backward()
    assert ours.centre.dtype == torch.float16
    assert ours.centre.abs().max() > 0


def test_a_queue(losses: dict[str, Any]) -> None:
    first = F.normalize(batch(6, 4, seed=9).detach(), dim=1)
    ours, queue = losses["queued"](queue=first), first.clone()
    assert ours.queue is not first
    for seed in range(4):
        q, k = batch(2, 4, seed=seed), batch(2, 4, seed=seed + 50)
        value = ours(q, k)
        key = F.normalize(k, dim=1).detach()
        unit = F.normalize(q, dim=1)
        logits = torch.cat([(unit * key).sum(1, keepdim=True), unit @ queue.T], 1) / 0.07
        wanted = F.cross_entropy(logits, torch.zeros(2, dtype=torch.int64))
        assert torch.allclose(value, wanted, rtol=1e-10)
        got = torch.autograd.grad(value, q, allow_unused=True)[0]
        assert torch.allclose(got, torch.autograd.grad(wanted, q)[0], rtol=1e-9, atol=1e-12)
        queue = torch.cat([key, queue[:-2]])
        assert torch.allclose(ours.queue, queue, rtol=1e-12)
    with pytest.raises(TypeError, match="queue"):
        losses["queued"]()


def test_an_annealed_exponent(losses: dict[str, Any]) -> None:
    ours = losses["annealed"]()
    target = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    for count in range(13):
        x = batch(4, seed=count)
        gamma = 2 * min(count / 10, 1.0)
        p = torch.sigmoid(x)
        wrong = torch.where(target == 1, 1 - p, p)
        wanted = (wrong**gamma * F.binary_cross_entropy_with_logits(x, target, reduction="none")).mean()
        value = ours(x, target)
        assert torch.allclose(value, wanted, rtol=1e-10)
        assert torch.allclose(torch.autograd.grad(value, x)[0], torch.autograd.grad(wanted, x)[0], rtol=1e-9)
    functional = losses["annealed"].function
    x = batch(4)
    assert torch.equal(functional(x, target, step=3), functional(x, target, step=torch.tensor(3)))
    assert torch.equal(functional(x, target), functional(x, target, step=0))
    assert functional(x, target, step=3) != functional(x, target, step=4)
    for wrong_step in (1.0, True, torch.tensor(1.0), torch.tensor([1])):
        with pytest.raises(TypeError, match="step must be an integer"):
            functional(x, target, step=wrong_step)
    with pytest.raises(ValueError, match="negative"):
        functional(x, target, step=-1)


def test_advance_and_update_for_gradient_accumulation(losses: dict[str, Any]) -> None:
    ours = losses["annealed"](steps=4)
    target = torch.ones(4, dtype=torch.float64)
    for step in range(3):
        parts = [ours(batch(4, seed=10 * step + part), target, update=False) for part in range(3)]
        wanted = [
            losses["annealed"].function(batch(4, seed=10 * step + p), target, step=step, steps=4) for p in range(3)
        ]
        assert all(torch.equal(a, b) for a, b in zip(parts, wanted))
        ours.advance()
    assert ours.step.item() == 3
    ours.advance(5)
    assert ours.step.item() == 8
    assert losses["annealed"](step=7).step.item() == 7
    # Several calls before one backward: each keeps the state that it read.
    centred = losses["centred"](c=3).double()
    x, y = batch(5, 3, seed=1), batch(5, 3, seed=2)
    (centred(x) + centred(y)).backward()
    theirs = Centre(3)
    a, b = x.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
    (theirs(a) + theirs(b)).backward()
    assert torch.allclose(x.grad, a.grad)
    assert torch.allclose(y.grad, b.grad)


def test_states_of_every_type_and_any_axes(losses: dict[str, Any]) -> None:
    ours = losses["running"](held=torch.zeros(2, 3, dtype=torch.float64))
    x = batch(2, 3)
    assert torch.allclose(ours(x), x.square().mean())
    assert torch.equal(ours.held, x)
    assert ours.seen.item() == 1
    assert not ours.loud
    assert ours.seen.dtype == torch.int64
    assert ours.loud.dtype == torch.bool
    assert ours.reports["mean_weight"] == 1
    x.data.fill_(4.0)
    assert not torch.equal(ours.held, x), "the state shares memory with an input"
    before = ours.held
    assert torch.allclose(ours(x, torch.full_like(x, 2.0)), 2 * (x - before).square().mean())
    assert ours.loud
    assert ours.seen.item() == 2
    assert ours.reports["mean_weight"] == 2
    assert torch.allclose(ours(x + 1), torch.ones((), dtype=torch.float64))
    value, reports, state = losses["running"].function(
        x, held=torch.zeros_like(x), return_reports=True, return_state=True
    )
    assert value == 16
    assert set(reports) == {"mean_weight"}
    assert list(state) == ["held", "seen", "loud"]
    assert state["seen"].item() == 1
    assert state["held"].data_ptr() != x.data_ptr()


# ----------------------------------------------------------------------------------------------- when nothing moves


def moved(loss: Any) -> bool:
    return loss.step.item() != 0 or bool(loss.centre.abs().sum() != 0)


def test_nothing_moves_where_it_must_not(losses: dict[str, Any]) -> None:
    ours, x = losses["centred"](c=3).double(), batch(5, 3)
    wanted = F.mse_loss(x, torch.zeros_like(x))
    assert torch.allclose(ours(x, update=False), wanted)
    assert not moved(ours)
    with torch.no_grad():
        ours(x)
    with torch.inference_mode():
        ours(x.detach())
    assert not moved(ours)
    ours.eval()
    ours(x).backward()
    assert not moved(ours)
    ours.train()
    torch.func.grad(lambda t: ours(t))(x.detach())
    torch.func.vmap(ours)(x.detach().expand(2, 5, 3))
    torch.func.jvp(lambda t: ours(t), (x.detach(),), (torch.ones_like(x),))
    torch.func.hessian(lambda t: ours(t))(x.detach())
    assert not moved(ours)
    ours(x)
    assert moved(ours)


def test_second_derivatives_do_not_count(losses: dict[str, Any]) -> None:
    ours, x = losses["centred"](c=3, centre=torch.ones(3)).double(), batch(5, 3)
    value = ours(x)
    first = torch.autograd.grad(value, x, create_graph=True)[0]
    torch.autograd.grad(first.square().sum(), x)
    assert ours.step.item() == 1


def test_recomputation(losses: dict[str, Any]) -> None:
    """A call that is recomputed in backward does not move a state twice, and never reads a state that has moved."""
    ours, x = losses["centred"](c=3).double(), batch(5, 3)
    with pytest.raises(RuntimeError, match="recomputed in backward"):
        checkpoint(lambda t: ours(t * 1).exp(), x, use_reentrant=False).backward()
    assert ours.step.item() == 1
    fresh = losses["centred"](c=3).double()
    checkpoint(lambda t: fresh(t * 1, update=False).exp(), x, use_reentrant=False).backward()
    assert not moved(fresh)
    wanted = batch(5, 3)
    F.mse_loss(wanted, torch.zeros_like(wanted)).exp().backward()
    assert torch.allclose(x.grad, wanted.grad)
    x.grad = None
    checkpoint(lambda t: fresh(t * 1).exp(), x, use_reentrant=True).backward()  # the first pass records no gradients
    assert not moved(fresh)
    assert torch.allclose(x.grad, wanted.grad)


def test_states_are_constants_to_every_derivative(losses: dict[str, Any]) -> None:
    function, x = losses["centred"].function, batch(5, 3)
    centre = batch(3, seed=4)
    value = function(x, centre=centre)
    assert torch.autograd.grad(value, centre, allow_unused=True)[0] is None
    found = torch.func.grad(lambda c: function(x.detach(), centre=c))(centre.detach())
    assert not found.any()
    found = torch.func.grad(lambda t: function(t, centre=centre.detach()))(x.detach())
    assert torch.allclose(found, 2 * (x - centre) / x.numel())
    _, state = function(x, centre=centre, return_state=True)
    assert not state["centre"].requires_grad
    assert torch.allclose(state["centre"], 0.9 * centre + 0.1 * x.mean(0))
    assert torch.allclose(function(x), F.mse_loss(x, torch.zeros_like(x)))


def test_functional_call_gives_the_new_state_back(losses: dict[str, Any]) -> None:
    ours, x = losses["centred"](c=3).double(), batch(5, 3)
    held = {name: b.clone() for name, b in ours.named_buffers()}
    torch.func.functional_call(ours, held, (x,))
    assert not moved(ours)
    assert held["step"].item() == 1
    assert torch.allclose(held["centre"], 0.1 * x.mean(0))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_calls_move_states_too(losses: dict[str, Any], backend: str) -> None:
    ours, x = losses["centred"](c=3).double(), batch(5, 3)
    theirs = copy.deepcopy(ours)
    compiled = torch.compile(theirs, backend=backend, fullgraph=True)
    for _ in range(3):
        value, wanted = compiled(x), ours(x)
        assert torch.allclose(value, wanted)
        assert torch.allclose(torch.autograd.grad(value, x)[0], torch.autograd.grad(wanted, x)[0])
    assert torch.allclose(theirs.centre, ours.centre)
    assert theirs.step.item() == 3
    with torch.no_grad():
        compiled(x)
    assert theirs.step.item() == 3


# ------------------------------------------------------------------------------------------------------ persistence


def test_states_persist(losses: dict[str, Any]) -> None:
    ours, x = losses["centred"](c=3, momentum=0.5).double(), batch(5, 3)
    ours(x)
    assert list(ours.state_dict()) == ["centre", "step"]
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    other = losses["centred"](c=3, momentum=0.5).double()
    other.load_state_dict(torch.load(file))
    copies = [other, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))]
    wanted = ours(x)
    for c in copies:
        assert torch.equal(c(x), wanted)
        assert torch.equal(c.centre, ours.centre)
        assert c.step.item() == 2
    copies[1](x)
    assert ours.step.item() == 2, "a copy shares its state"


def test_extents_are_given_or_read_off_a_first_value(losses: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="extent c must be given"):
        losses["centred"]()
    with pytest.raises(TypeError, match="extent c must be an integer"):
        losses["centred"](c=1.5)
    with pytest.raises(ValueError, match="centre has c=2"):
        losses["centred"](c=3, centre=torch.zeros(2))
    assert losses["centred"](centre=torch.ones(2)).centre.tolist() == [1, 1]
    with pytest.raises(ValueError, match="c=4"):
        losses["centred"](c=3)(torch.zeros(2, 4))


# -------------------------------------------------------------------------------------------------- learnable values


def test_learnable_values_have_defaults_in_the_function(losses: dict[str, Any]) -> None:
    x, y = batch(5, 2), batch(5, seed=1).detach()
    function = losses["learned"].function
    wanted = (x.sum(1) * math.log(10) - 1 / 3 - y).square().mean()
    assert torch.allclose(function(x, y), wanted, rtol=1e-14)
    weight = batch(2, seed=3)
    value = function(x, y, weight=weight)
    expected = (x @ weight - 1 / 3 - y).square().mean()
    assert torch.allclose(torch.autograd.grad(value, weight)[0], torch.autograd.grad(expected, weight)[0])


def test_learnable_values_are_trained(losses: dict[str, Any]) -> None:
    ours = losses["learned"](k=2).double()
    x = batch(64, 2).detach()
    y = x @ torch.tensor([1.0, -2.0], dtype=torch.float64) + 0.5
    assert [n for n, _ in ours.named_parameters()] == ["weight", "bias"]
    optimiser = torch.optim.SGD(ours.parameters(), lr=0.2)
    for _ in range(200):
        optimiser.zero_grad()
        ours(x, y).backward()
        optimiser.step()
    assert torch.allclose(ours.weight.detach(), torch.tensor([1.0, -2.0], dtype=torch.float64), atol=1e-6)
    assert torch.allclose(ours.bias.detach(), torch.tensor(0.5, dtype=torch.float64), atol=1e-6)
    start = torch.ones(2)
    given = losses["learned"](weight=start)
    assert given.weight is not start
    assert given.weight.tolist() == [1, 1]


def test_a_learnable_value_whose_extent_nothing_else_has_is_required() -> None:
    loss = lossdsl.loads(
        "loss f:\n    input x: real[n]\n    learnable a: real[k] = 0\n    learnable b: real\n"
        "    return mean(x) * sum(a) + b\n"
    )
    with pytest.raises(TypeError, match="a"):
        loss.function(torch.ones(2), b=torch.ones(()))
    with pytest.raises(TypeError, match="b"):
        loss(k=2)
    module = loss(k=2, b=torch.ones(()))
    module(torch.ones(3)).backward()
    assert module.a.grad.tolist() == [1, 1]
    assert module.b.grad.item() == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("learnable a: real = log(0)", "E0407"),
        ("learnable a: real = p", "E0407"),
        ("learnable a: real[n] = size(n)", "E0407"),
        ("learnable a: real < 2 = log(10)", "E0407"),
        ("learnable a: int = 2", "E0406"),
        ("param a: real = p", "E0407"),
    ],
)
def test_defaults_that_are_refused(line: str, code: str) -> None:
    text = f"loss f:\n    input x: real[n]\n    param p: real = 1\n    {line}\n    return mean(x * a) * p\n"
    found = pipeline.analyse(Source("f.loss", text)).diagnostics
    assert code in {d.code for d in found}


def test_a_name_that_the_module_uses_gives_way() -> None:
    loss = lossdsl.loads(
        "loss f:\n    input x: real[n]\n    param advance, update, moving, value: real = 2\n"
        "    state state: real = 0\n    state extents: real[n] = 0\n"
        "    return mean(x) * advance * update * moving * value * step + state + mean(extents)\n"
        "    update state = mean(x)\n    update extents = x\n"
    )
    module = loss(n=2, step=1)
    assert module(torch.ones(2)) == 16
    module.advance(2)
    assert module.step.item() == 4
    assert module.state.item() == 1
    assert module.extents.tolist() == [1, 1]


# --------------------------------------------------------------------------- gradients that are not the value's

SURROGATES = """
loss surrogates:
    input x: real[n]
    param w: real = 0.3
    hard = straight_through(x > 0, sigmoid(x))
    return mean(hard^3 * x + reverse_gradient(sin(x), w)^2)
"""


class Reversed(torch.autograd.Function):
    """The identity, with minus w times the gradient."""

    @staticmethod
    def forward(x: torch.Tensor, w: float) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.w = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.w * gradients[0], None


def surrogates(x: torch.Tensor, w: float) -> torch.Tensor:
    soft = torch.sigmoid(x)
    hard = (x > 0).double() + soft - soft.detach()
    return (hard**3 * x + Reversed.apply(torch.sin(x), w).square()).mean()


def test_surrogates_hold_in_transforms_and_higher_derivatives() -> None:
    loss, x = lossdsl.loads(SURROGATES), batch(6)
    wanted = torch.autograd.grad(surrogates(x, 0.7), x, create_graph=True)[0]
    second = torch.autograd.grad(wanted.square().sum(), x)[0]
    module = loss(w=0.7)
    got = torch.autograd.grad(module(x), x, create_graph=True)[0]
    assert torch.allclose(got, wanted, rtol=1e-12)
    assert torch.allclose(torch.autograd.grad(got.square().sum(), x)[0], second, rtol=1e-10)
    assert torch.allclose(torch.func.grad(module)(x.detach()), wanted, rtol=1e-12)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    assert torch.allclose(torch.autograd.grad(compiled(x), x)[0], wanted, rtol=1e-12)
    total, weight = module.sum_and_weight(x)
    assert torch.allclose(torch.autograd.grad(total / weight, x)[0], wanted, rtol=1e-12)


def test_a_clipped_gradient_refuses_what_would_not_be_clipped() -> None:
    text = "loss f:\n    input x: real[n]\n    return mean(clip_gradient(x^2, 0.05)^2) + sum(x)\n"
    loss, x = lossdsl.loads(text)(), batch(6)
    wanted = 2 * x * (2 * x**2 / 6).clamp(-0.05, 0.05) + 1
    assert torch.allclose(torch.autograd.grad(loss(x), x)[0], wanted)
    assert torch.allclose(torch.autograd.grad(1024 * loss(x), x)[0], 1024 * wanted)
    for refused in (lambda: torch.func.grad(loss)(x.detach()), lambda: torch.compile(loss, backend="eager")(x)):
        with pytest.raises(RuntimeError, match="clip_gradient acts in backward"):
            refused()
    with torch.no_grad():
        assert torch.allclose(loss(x), x.pow(4).mean() + x.sum())


LIMITED = """
loss limited:
    input x, y: real[n]
    param limit: real >= 0 = 0.3
    z = clip_gradient(x^2 * stop(y), limit)
    per = stop(x) * z^3 + straight_through(floor(x), sin(x)) * z + y * reverse_gradient(x^2, 0.5)
    return mean(per)
"""


def limited(x: torch.Tensor, y: torch.Tensor, limit: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of LIMITED as a function of the inputs, with the stops that it keeps."""
    z = x**2 * y.detach()
    step = x.floor().detach() + x.sin() - x.sin().detach()
    at_z = ((3 * x.detach() * z**2 + step) / len(x)).clamp(-limit, limit)
    reversed_ = (x**2 + x.square() / 2).detach() - x.square() / 2
    return at_z * 2 * x * y.detach() + (x.cos() * z - y * x) / len(x), reversed_ / len(x)


def test_higher_derivatives_are_those_of_the_limited_gradient() -> None:
    loss = lossdsl.loads(LIMITED)(limit=0.1)
    x, y = batch(7), batch(7, seed=1)
    got = torch.autograd.grad(5 * loss(x, y), (x, y), create_graph=True)
    wanted = [5 * g for g in limited(x, y, 0.1)]
    assert bool((limited(x, y, 1e9)[0] != limited(x, y, 0.1)[0]).any()), "nothing is limited, so it tests nothing"
    for g, w in zip(got, wanted):
        assert torch.allclose(g, w, rtol=1e-12)
    second, wanted = (
        torch.autograd.grad(sum((g * g).sum() for g in first), (x, y), create_graph=True) for first in (got, wanted)
    )
    for s, w in zip(second, wanted):
        assert torch.allclose(s, w, rtol=1e-10)
    for s, w in zip(*(torch.autograd.grad(both[0].sum(), (x, y)) for both in (second, wanted))):
        assert torch.allclose(s, w, rtol=1e-10)
    (rows,) = torch.autograd.grad(loss(x, y), x, torch.tensor([1.0, -2.0], dtype=x.dtype), is_grads_batched=True)
    assert torch.allclose(rows, torch.stack([limited(x, y, 0.1)[0] * s for s in (1, -2)]), rtol=1e-12)
    half = x.detach().half().requires_grad_()
    assert torch.autograd.grad(loss(half, y.half()), half, create_graph=True)[0].dtype == torch.float16


@pytest.mark.parametrize("target", ["torch", "triton"])
def test_first_values_are_tensors_of_their_type(target: str) -> None:
    """An integer tensor as the first value of a real state would round every later one."""
    learned, centred = (lossdsl.loads(text, target=target) for text in (LEARNED, CENTRED))
    with pytest.raises(TypeError, match="weight must be a floating point tensor"):
        learned(weight=torch.ones(3, dtype=torch.int64))
    with pytest.raises(TypeError, match="weight must be a tensor, not list"):
        learned(weight=[1.0, 2.0])
    with pytest.raises(TypeError, match="centre must be a floating point tensor"):
        centred(centre=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="momentum = 2 is outside of its range: momentum >= 0 and momentum <= 1"):
        centred(c=3, momentum=2)


def test_latex_names_gradients_that_are_not_the_values_as_the_file_does() -> None:
    text = "loss t:\n    input x: real[n]\n    return mean(clip_gradient(x^2, 0.1) + straight_through(floor(x), x))\n"
    shown = pipeline.show(Source("t.loss", text), "latex").text
    assert shown is not None
    assert r"\operatorname{clip\_gradient}_{\left[-0.1, 0.1\right]}\left({x_{n}}^{2}\right)" in shown
    assert r"\operatorname{straight\_through}\left(" in shown
