"""What PyTorch can do with a loss: every emitted module of the catalogue goes through a matrix of transforms.

Each row is held against the plain call and its gradient, which `test_examples.py` holds against references.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from references import REFERENCES
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

import lossdsl

DOZEN = (
    "huber",
    "cross_entropy",
    "focal",
    "info_nce",
    "dice",
    "ssim",
    "gae",
    "soft_dtw",
    "lovasz_softmax",
    "ppo",
    "center",
    "uncertainty_weighting",
)
LARGE = 400  # entries of an input up to which whole Jacobians are compared
Tensors = dict[str, torch.Tensor]


@dataclass
class Subject:
    """A loss at a point: the tensor that is moved, and the plain value and gradient there."""

    name: str
    module: Any
    rest: Tensors
    x: torch.Tensor
    wrt: str
    options: dict[str, Any] = field(default_factory=dict)

    def call(self, x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.module.function(**{self.wrt: x}, **self.rest, **self.options)
        return value.sum()

    @cached_property
    def value(self) -> torch.Tensor:
        return self.call(self.x)

    @cached_property
    def gradient(self) -> torch.Tensor:
        return gradient(self.call, self.x)


def gradient(call: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    leaf = x.clone().requires_grad_()
    value = call(leaf)
    if not value.requires_grad:
        return torch.zeros_like(x)
    found = torch.autograd.grad(value, leaf, allow_unused=True, materialize_grads=True)[0]
    return found.detach()


SUBJECTS: dict[str, Subject | None] = {}


def subject(name: str) -> Subject | None:
    """None for a loss without a real input."""
    if name not in SUBJECTS:
        SUBJECTS[name] = made(name)
    return SUBJECTS[name]


def made(name: str) -> Subject | None:
    reference = REFERENCES[name]
    arrays, options = reference.cases[0](np.random.default_rng(0))
    names = reference.gradients(arrays)
    if not names:
        return None
    tensors = {n: torch.tensor(a) for n, a in arrays.items()}
    x = tensors.pop(names[0])
    return Subject(name, lossdsl.load(name), tensors, x, names[0], options)


def same(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-8) -> None:
    assert a.shape == b.shape
    scale = max(float(b.abs().nan_to_num(0, 0, 0).max()) if b.numel() else 0.0, 1e-3)
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * scale, equal_nan=True, check_dtype=False)


# ----------------------------------------------------------------------------------------------------- rows


def retained(s: Subject) -> None:
    x = s.x.clone().requires_grad_()
    value = s.call(x)
    if value.requires_grad:
        first = torch.autograd.grad(value, x, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
        second = torch.autograd.grad(value, x, allow_unused=True, materialize_grads=True)[0]
        same(first, s.gradient)
        same(second, s.gradient)


def scaled(s: Subject) -> None:
    """The cotangent is a factor, whatever the mode of the derivative."""
    same(gradient(lambda x: s.call(x) * 65536.0, s.x), s.gradient * 65536.0)


def func_grad(s: Subject) -> None:
    same(torch.func.grad(s.call)(s.x), s.gradient)


def func_vmap(s: Subject) -> None:
    batch = torch.stack([s.x, s.x * 0.5])
    same(torch.func.vmap(s.call)(batch), torch.stack([s.call(x) for x in batch]))


def func_vmap_grad(s: Subject) -> None:
    batch = torch.stack([s.x, s.x * 0.5])
    same(torch.func.vmap(torch.func.grad(s.call))(batch), torch.stack([gradient(s.call, x) for x in batch]))


def func_jvp(s: Subject) -> None:
    tangent = torch.linspace(-1, 1, s.x.numel(), dtype=s.x.dtype).reshape(s.x.shape)
    value, moved = torch.func.jvp(s.call, (s.x,), (tangent,))
    same(value, s.value)
    same(moved, (s.gradient * tangent).sum(), 1e-7)


def func_jacrev(s: Subject) -> None:
    if s.x.numel() <= LARGE:
        same(torch.func.jacrev(s.call)(s.x), s.gradient)


def func_hessian(s: Subject) -> None:
    """Forward over reverse along one direction equals reverse over reverse."""
    tangent = torch.linspace(-1, 1, s.x.numel(), dtype=s.x.dtype).reshape(s.x.shape)
    forward = torch.func.jvp(torch.func.grad(s.call), (s.x,), (tangent,))[1]
    x = s.x.clone().requires_grad_()
    value = s.call(x)
    reverse = torch.zeros_like(s.x)
    if value.requires_grad:
        g = torch.autograd.grad(value, x, create_graph=True, allow_unused=True, materialize_grads=True)[0]
        if g.requires_grad:
            reverse = torch.autograd.grad(g, x, tangent, allow_unused=True, materialize_grads=True)[0]
    same(forward, reverse, 1e-6)


def checkpointed(s: Subject) -> None:
    same(gradient(lambda x: checkpoint(s.call, x * 1.0, use_reentrant=False), s.x), s.gradient)


def fake(s: Subject) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        rest = {n: mode.from_tensor(t) for n, t in s.rest.items()}
        value = s.module.function(**{s.wrt: mode.from_tensor(s.x)}, **rest, **s.options)
    plain = s.module.function(**{s.wrt: s.x}, **s.rest, **s.options)
    assert value.shape == plain.shape
    assert value.dtype == plain.dtype


def meta(s: Subject) -> None:
    rest = {n: t.to("meta") for n, t in s.rest.items()}
    value = s.module.function(**{s.wrt: s.x.to("meta")}, **rest, **s.options)
    plain = s.module.function(**{s.wrt: s.x}, **s.rest, **s.options)
    assert value.shape == plain.shape


def autocast(s: Subject) -> None:
    """Nothing is computed in bfloat16 behind the caller's back."""
    rest = {n: t.float() if t.is_floating_point() else t for n, t in s.rest.items()}
    x = s.x.float()

    def call(x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = s.module.function(**{s.wrt: x}, **rest, **s.options)
        return value.sum()

    plain, slope = call(x), gradient(call, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(call(x), plain, 1e-6)
        same(gradient(call, x), slope, 1e-6)


CHEAP: dict[str, Callable[[Subject], None]] = {
    "a second backward": retained,
    "a loss scale": scaled,
    "func.grad": func_grad,
    "func.vmap": func_vmap,
    "func.vmap of func.grad": func_vmap_grad,
    "func.jvp": func_jvp,
    "func.jacrev": func_jacrev,
    "func.jvp of func.grad": func_hessian,
    "checkpoint": checkpointed,
    "FakeTensor": fake,
    "meta": meta,
    "autocast": autocast,
}


def uneven(s: Subject) -> None:
    """Elements with cotangents of their own: the kernels' backward against the formula's."""

    def elements(x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = s.module.function(**{s.wrt: x}, **s.rest, **{**s.options, "reduction": "none"})
        return value

    try:
        plain = elements(s.x)
    except TypeError:  # a loss without reductions
        return
    cotangent = torch.linspace(-1, 1, plain.numel(), dtype=plain.dtype).reshape(plain.shape)
    x = s.x.clone().requires_grad_()
    value = elements(x)
    ours = torch.zeros_like(s.x)
    if value.requires_grad:
        ours = torch.autograd.grad(value, x, cotangent, allow_unused=True, materialize_grads=True)[0]
    _, pull = torch.func.vjp(elements, s.x)
    same(ours, pull(cotangent)[0])


CHEAP["uneven cotangents"] = uneven


# What traces: a second or more for each loss.


def compiled_whole(s: Subject) -> None:
    """A model and the loss in one graph, forward and backward."""
    scale = torch.ones((), dtype=s.x.dtype, requires_grad=True)
    torch._dynamo.reset()

    def step(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return s.call(x * scale)

    whole = torch.compile(step, fullgraph=True, backend="aot_eager")
    same(whole(s.x, scale.detach()), s.value)
    same(gradient(lambda x: whole(x, scale), s.x), s.gradient)


def compiled_grad(s: Subject) -> None:
    torch._dynamo.reset()
    same(torch.compile(torch.func.grad(s.call), fullgraph=True, backend="aot_eager")(s.x), s.gradient)


def compiled_vmap_grad(s: Subject) -> None:
    torch._dynamo.reset()
    batch = torch.stack([s.x, s.x * 0.5])
    ours = torch.compile(torch.func.vmap(torch.func.grad(s.call)), fullgraph=True, backend="aot_eager")(batch)
    same(ours, torch.stack([gradient(s.call, x) for x in batch]))


class Wrapped(torch.nn.Module):
    def __init__(self, s: Subject) -> None:
        super().__init__()
        self.s = s

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.s.call(x)


def exported(s: Subject) -> None:
    same(torch.export.export(Wrapped(s), (s.x,), strict=False).module()(s.x), s.value)


TRACED: dict[str, Callable[[Subject], None]] = {
    "compile(fullgraph)": compiled_whole,
    "compile(func.grad)": compiled_grad,
    "compile(vmap(grad))": compiled_vmap_grad,
    "export": exported,
}


# ---------------------------------------------------------------------------------------------------- tests

# `clip_gradient` limits what backward() gives; a transform would differentiate past it, so the module refuses.
REFUSED = ("clipped_gradient",)
TRANSFORMS = ("func.", "compile")
EVERY = sorted(REFERENCES)
FEW = DOZEN[:4]


def cases(rows: dict[str, Any], quick: tuple[str, ...]) -> list[Any]:
    return [
        pytest.param(name, row, marks=() if name in quick else pytest.mark.slow, id=f"{name}-{row}")
        for name in EVERY
        for row in rows
    ]


def run(name: str, row: str, table: dict[str, Callable[[Subject], None]]) -> None:
    s = subject(name)
    if s is None:
        return
    if name in REFUSED and row.startswith(TRANSFORMS):
        with pytest.raises(Exception, match="clip_gradient acts in backward"):
            table[row](s)
        return
    table[row](s)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "row"), cases(CHEAP, DOZEN))
def test_transforms(name: str, row: str) -> None:
    run(name, row, CHEAP)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "row"), cases(TRACED, FEW))
def test_tracing(name: str, row: str) -> None:
    run(name, row, TRACED)


def test_data_parallel_sharded_and_distributed_tensors() -> None:
    """Two gloo processes: learnable values get the gradients of the whole batch under DDP and FSDP2, and a DTensor gives
    the value of the whole tensor."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    worker = Path(__file__).with_name("torch_distributed.py")
    ranks = [
        subprocess.Popen([sys.executable, str(worker), str(k), str(port)], stderr=subprocess.PIPE, text=True)
        for k in range(2)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-2000:]
