"""State and learnable values of a loss that another one calls: they are values of the caller, one for each call."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

import lossdsl
from lossdsl import pipeline
from lossdsl.diagnostics import Source, render
from lossdsl.ir.text import parse_ir, print_ir

F64 = torch.float64

PARTS = """
loss centred:
    input x: real[n, c]
    param momentum: real in [0, 1] = 0.9
    state centre: real[c] = 0
    report spread = mean((x - centre)^2)
    return mean((x - centre)^2)
    update centre = momentum * centre + (1 - momentum) * mean(x over n)

loss weighted:
    input x: real[n, c]
    learnable w: real[c, k] = 1
    learnable b: real = log(10)
    made[n, k] = sum(x * w over c) - b
    return mean(made^2)

loss queued:
    input x: real[n, d]
    state queue: real[r, d]
    state seen: int = 0
    sim[n, r] = sum(x * queue over d)
    return mean(sim) * linear(step, 0, 1, 4) + seen
    update queue[r, d] = x[r, d] if r < size(n) else queue[r - size(n), d]
    update seen = seen + 1
"""
BOTH = """
loss both:
    input y, z: real[n, d]
    return centred(y, momentum = 0.5) + 2 * centred(z) + weighted(z) + queued(y)
"""


def batch(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).requires_grad_()


def errors(text: str) -> list[str]:
    return [d.code for d in pipeline.analyse(Source("t.loss", text)).diagnostics if d.code.startswith("E")]


def test_each_call_has_its_own_and_moves_as_the_called_loss_does() -> None:
    made = lossdsl.loads(PARTS + BOTH)
    first = batch(5, 3, seed=9).detach()
    ours = made.both(d=3, weighted_1_k=2, queued_1_queue=first).double()
    a, b = made.centred(c=3, momentum=0.5).double(), made.centred(c=3).double()
    w, q = made.weighted(c=3, k=2).double(), made.queued(queue=first).double()
    wanted_names = {"centred_1_centre", "centred_2_centre", "weighted_1_w", "weighted_1_b"}
    assert set(ours.state_dict()) == wanted_names | {"queued_1_queue", "queued_1_seen", "step"}
    assert {n for n, _ in ours.named_parameters()} == {"weighted_1_w", "weighted_1_b"}
    for seed in range(4):
        y, z = batch(4, 3, seed=seed), batch(4, 3, seed=seed + 50)
        got, wanted = ours(y, z), a(y) + 2 * b(z) + w(z) + q(y)
        assert torch.allclose(got, wanted, rtol=1e-12)
        grads = torch.autograd.grad(got, [y, z, ours.weighted_1_w, ours.weighted_1_b])
        for g, r in zip(grads, torch.autograd.grad(wanted, [y, z, w.w, w.b]), strict=True):
            assert torch.allclose(g, r, rtol=1e-10)
        for mine, theirs in (("centred_1_centre", a.centre), ("centred_2_centre", b.centre)):
            assert torch.allclose(getattr(ours, mine), theirs, rtol=1e-12)
        assert torch.allclose(ours.queued_1_queue, q.queue, rtol=1e-12)
        assert ours.queued_1_seen == q.seen == seed + 1
    assert not torch.allclose(ours.centred_1_centre, ours.centred_2_centre)
    other = made.both(d=3, weighted_1_k=2, queued_1_queue=first).double()
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other.eval()(y, z), ours.eval()(y, z))


def test_they_are_keywords_of_the_function() -> None:
    made = lossdsl.loads(PARTS + TWICE)
    names = inspect.signature(made.twice.function).parameters
    assert {"centred_1_centre", "centred_2_centre"} <= set(names)
    y = batch(4, 3, seed=1)
    value, state = made.twice.function(y, centred_2_centre=torch.ones(3, dtype=F64), return_state=True)
    assert torch.allclose(value, (y**2).mean() + ((y - 1) ** 2).mean())
    assert torch.allclose(state["centred_1_centre"], 0.1 * y.mean(0))
    assert torch.allclose(state["centred_2_centre"], 0.9 + 0.1 * y.mean(0))


TWICE = """
loss twice:
    input y: real[n, d]
    return centred(y) + centred(y)
"""


def test_a_call_in_a_function_is_one_for_each_call_of_the_function() -> None:
    text = """
loss outer:
    input y, z: real[n, d]
    def both(x) = centred(x) * centred(x) + 1
    def block(x: real[n, d]):
        return centred(x)
    return mean(y * both(y) + both(z)) + block(y[n, d])
"""
    program = pipeline.analyse(Source("t.loss", PARTS + text)).losses[-1].program
    assert [i.name for i in program.inputs if i.role == "state"] == [f"centred_{k}_centre" for k in range(1, 6)]
    assert len(program.updates) == 5
    assert print_ir(parse_ir(print_ir(program))) == print_ir(program)


def test_nested_calls_and_calls_in_updates() -> None:
    text = """
loss middle:
    input x: real[n, c]
    state low: real = 0
    return centred(x) + low
    update low = 0.5 * low + centred(x)

loss top:
    input x: real[n, c]
    return middle(x) + middle(x)
"""
    made = lossdsl.loads(PARTS + text)
    top, a, b = made.top(c=2).double(), made.middle(c=2).double(), made.middle(c=2).double()
    for seed in range(3):
        x = batch(3, 2, seed=seed)
        assert torch.allclose(top(x), a(x) + b(x), rtol=1e-12)
    assert len(top.state_dict()) == 6


def test_names_that_the_caller_has_are_left_to_it() -> None:
    text = """
loss outer:
    input centred_1_centre: real[n, d]
    report centred_2_centre = mean(centred_1_centre)
    return centred(centred_1_centre)
"""
    program = pipeline.analyse(Source("t.loss", PARTS + text)).losses[-1].program
    assert [i.name for i in program.inputs] == ["centred_1_centre", "centred_3_centre"]


def test_a_part_of_an_axis_and_one_axis_twice() -> None:
    text = """
loss pair:
    input x: real[u, c]
    input y: real[v, c]
    state seen: real[u, v] = 0
    gap[u, v] = sum((x[u, c] - y[v, c])^2 over c) - seen
    return mean(gap)
    update seen = gap

loss outer:
    input x: real[t, c]
    step_[t, c] = x[t + 1, c] - x[t, c]
    return pair(step_, step_)
"""
    made = lossdsl.loads(text)
    loss = made.outer(t=5).double()
    x = batch(5, 2, seed=3)
    d = x[1:] - x[:-1]
    gap = ((d[:, None] - d[None]) ** 2).sum(-1)
    assert torch.allclose(loss(x), gap.mean())
    assert torch.allclose(loss.pair_1_seen, gap.detach())


def test_a_claim_cannot_make_state() -> None:
    text = PARTS + "loss outer:\n    input y: real[n, d]\n    return mean(y)\n    claim centred(y) >= 0\n"
    assert errors(text) == ["E0414"]


def test_a_used_loss_brings_its_state(tmp_path: Path) -> None:
    (tmp_path / "parts.loss").write_text(PARTS)
    (tmp_path / "other.loss").write_text(PARTS.replace("^2", "^4"))
    text = """use parts.centred
use other.centred as quartic
loss outer:
    input y: real[n, d]
    return centred(y) + quartic(y)
"""
    (tmp_path / "top.loss").write_text(text)
    loss = lossdsl.load(str(tmp_path / "top.loss"))(d=3).double()
    assert set(loss.state_dict()) == {"centred_1_centre", "centred_2_centre"}
    y = batch(4, 3, seed=2)
    assert torch.allclose(loss(y), (y**2).mean() + (y**4).mean())


def test_a_called_loss_does_not_see_the_names_of_its_caller(tmp_path: Path) -> None:
    (tmp_path / "part.loss").write_text("loss part:\n    input y: real[n]\n    return gamma * mean(y)\n")
    text = "use part.part\nloss top:\n    input y: real[n]\n    param gamma: real = 3\n    return gamma * part(y)\n"
    path = tmp_path / "top.loss"
    path.write_text(text)
    found = pipeline.analyse(Source(str(path), text)).diagnostics
    errors = [d for d in found if d.code.startswith("E")]
    assert [(d.code, d.span.line) for d in errors] == [("E0201", 3)]
    assert Path(render(Source(str(path), text), errors[0]).split(" --> ")[1].split(":")[0]).name == "part.loss"


@pytest.mark.parametrize("target", ["torch", "triton"])
def test_both_targets_emit(target: str) -> None:
    emitted = pipeline.compile(Source("t.loss", PARTS + BOTH), target=target)
    assert emitted.text is not None
    assert "centred_2_centre" in emitted.text
