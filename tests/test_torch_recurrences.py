"""Emitted torch modules of recurrences, sorts, library routines and windows: values, derivatives, transforms."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from recurrences import NAMED, TEXTS, arguments, program

from lossdsl.assemble import differentiable, gradient_program, module_spec
from lossdsl.backends.emit_torch import emit_torch
from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.text import parse_ir
from lossdsl.loader import load_module

F64 = torch.float64
SOFT_TOTAL = """
program soft_total
  input x: real[n, t]
  group t backward
    a[n, t] = map . logaddexp(a[n, t + 1], x[n, t]) if t + 1 < size(t) else x[n, t]
  value = sum n, t . exp(a[n, t]) / exp(1.0) * 2.0
  output return = value
"""


@cache
def loss(name: str) -> Any:
    p = program(name)
    text = emit_torch(module_spec(Source("x.loss", ""), [p], "torch", (), "0"))
    module = load_module(text, "x.loss")
    return getattr(module, name, None) or getattr(module, f"{name}_loss")


def call(name: str) -> tuple[Any, tuple[str, ...], dict[str, torch.Tensor], dict[str, Any]]:
    """(function of the differentiable inputs, their names, all arrays as tensors, arrays and parameters)."""
    p = program(name)
    arrays, parameters = arguments(p)
    tensors = {k: torch.tensor(v) for k, v in arrays.items()}
    wrt = differentiable(p)

    def fn(*xs: torch.Tensor) -> torch.Tensor:
        given = dict(zip(wrt, xs))
        value: torch.Tensor = loss(name)(*[given.get(k, t) for k, t in tensors.items()], **parameters)
        return value

    return fn, wrt, tensors, {"arrays": arrays, "parameters": parameters}


def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=F64, generator=g).requires_grad_()


@pytest.mark.parametrize("name", [*TEXTS, *NAMED])
def test_value_and_gradient(name: str) -> None:
    """Kernels and the formula, against the interpreted derivative program."""
    p = program(name)
    fn, wrt, tensors, given = call(name)
    derived = gradient_program(p, p.outputs[0].tensor, wrt)
    one = {i.name: np.asarray(1.0) for i in derived.inputs if i.role == "cotangent"}
    want = interpret(derived, {**given["arrays"], **one}, given["parameters"])
    for scale in (1.0, 1.7):
        xs = [tensors[k].clone().requires_grad_() for k in wrt]
        value = fn(*xs)
        np.testing.assert_allclose(value.item(), want["return"], rtol=1e-10)
        value.backward(torch.tensor(scale, dtype=F64))
        for k, x in zip(wrt, xs):
            got = torch.zeros_like(x) if x.grad is None else x.grad
            np.testing.assert_allclose(got.numpy(), scale * want[f"d {k}"], rtol=1e-8, atol=1e-12, err_msg=k)
    made = torch.func.grad(fn, argnums=tuple(range(len(wrt))))(*[tensors[k] for k in wrt])
    for k, g in zip(wrt, made):
        np.testing.assert_allclose(g.numpy(), want[f"d {k}"], rtol=1e-8, atol=1e-12, err_msg=f"formula {k}")


@pytest.mark.parametrize(
    "name", ["soft_dtw", "sinkhorn", "ctc", "cumulative", "logdet", "mahalanobis", "cholesky", "filtered", "ranked"]
)
def test_gradcheck_and_gradgradcheck(name: str) -> None:
    fn, wrt, tensors, _ = call(name)
    xs = [tensors[k].clone().requires_grad_() for k in wrt]
    assert torch.autograd.gradcheck(fn, xs)
    assert torch.autograd.gradgradcheck(fn, xs)


@pytest.mark.parametrize("name", ["soft_dtw", "list_mle", "leader", "zigzag", "masked_sort", "filtered", "ranked"])
def test_transforms(name: str) -> None:
    """Hessians by reverse over reverse and forward over reverse, a batch of gradients, a forward derivative."""
    fn, wrt, tensors, _ = call(name)
    first, rest = tensors[wrt[0]], [tensors[k] for k in wrt[1:]]

    def of(x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = fn(x, *rest)
        return value

    h1 = torch.func.jacrev(torch.func.jacrev(of))(first)
    h2 = torch.func.hessian(of)(first)
    torch.testing.assert_close(h1, h2)
    two = torch.stack([first, first.flip(-1)])
    batched = torch.func.vmap(torch.func.grad(of))(two)
    for k in (0, 1):
        torch.testing.assert_close(batched[k], torch.func.grad(of)(two[k]))
    direction = torch.ones_like(first)
    _, slope = torch.func.jvp(of, (first,), (direction,))
    torch.testing.assert_close(slope, (torch.func.grad(of)(first) * direction).sum())


def test_compile_fullgraph() -> None:
    fn = loss("soft_dtw")
    xs = [leaf(2, 4, 3), leaf(2, 3, 3, seed=1)]
    want = torch.autograd.grad(fn(*xs), xs)
    got = torch.autograd.grad(torch.compile(fn, fullgraph=True, backend="aot_eager")(*xs), xs)
    for a, b in zip(want, got):
        torch.testing.assert_close(a, b)


def test_ctc_is_that_of_torch() -> None:
    logits = leaf(12, 4, 6)
    target = torch.randint(1, 6, (4, 3), generator=torch.Generator().manual_seed(1))
    frames, labels = torch.tensor([12, 9, 7, 12]), torch.tensor([3, 2, 0, 1])
    value = loss("ctc")(logits, target, frames, labels)
    (gradient,) = torch.autograd.grad(value, logits)
    want = torch.nn.functional.ctc_loss(logits.log_softmax(-1), target, frames, labels, reduction="mean")
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(gradient, torch.autograd.grad(want, logits)[0])


def test_impossible_alignments_are_infinite_without_nan_gradients() -> None:
    logits = leaf(2, 1, 4)
    value = loss("ctc")(logits, torch.tensor([[1, 1, 1]]), torch.tensor([2]), torch.tensor([3]))
    value.backward()
    assert value.item() == torch.inf
    assert logits.grad is not None
    assert not logits.grad.isnan().any()
    again = torch.func.grad(lambda x: loss("ctc")(x, torch.tensor([[1, 1, 1]]), torch.tensor([2]), torch.tensor([3])))(
        logits.detach()
    )
    assert not again.isnan().any()


def test_entries_of_minus_infinity_have_no_gradient() -> None:
    """torch.logcumsumexp itself has nan for a derivative there."""
    score = torch.tensor([[0.5, -1.0, 2.0, 0.0]], dtype=F64)
    place = torch.tensor([[4.0, 3.0, 2.0, 1.0]], dtype=F64)

    def of(x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = loss("list_mle")(x, place)
        return value

    score[0, 3] = -100.0
    a = torch.func.grad(of)(score)
    x = score.clone().requires_grad_()
    of(x).backward()
    torch.testing.assert_close(a, x.grad)
    lowest = torch.tensor([[1.0, -torch.inf]], dtype=F64).requires_grad_()
    made = load_module(
        emit_torch(module_spec(Source("x.loss", ""), [parse_ir(SOFT_TOTAL)], "torch", (), "0")), "x.loss"
    ).soft_total
    made(lowest).backward()
    again = torch.func.grad(made)(lowest.detach())
    assert lowest.grad is not None
    torch.testing.assert_close(again, lowest.grad)
    torch.testing.assert_close(again, torch.tensor([[2.0, 0.0]], dtype=F64))


@pytest.mark.parametrize("shape", [(1, 3), (0, 3), (3, 0)])
def test_short_and_empty_sequences(shape: tuple[int, int]) -> None:
    value = leaf(*shape)
    result = loss("gae_value")(leaf(*shape, seed=1), leaf(*shape, seed=2), value, leaf(shape[1]))
    result.backward()
    assert value.grad is not None
    assert value.grad.shape == shape
    assert not result.isnan()


@pytest.mark.parametrize("sizes", [(2, 1, 5), (2, 5, 1), (2, 0, 3), (2, 3, 0), (0, 3, 3)])
def test_tables_of_any_extent(sizes: tuple[int, int, int]) -> None:
    b, i, j = sizes
    x, y = leaf(b, i, 2), leaf(b, j, 2, seed=1)
    value = loss("soft_dtw")(x, y)
    value.backward()
    assert x.grad is not None
    want = interpret(program("soft_dtw"), {"x": x.detach().numpy(), "y": y.detach().numpy()}, {"gamma": 1.0})
    np.testing.assert_allclose(value.item(), want["return"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_carries_in_float32(dtype: torch.dtype) -> None:
    """Rounds read what earlier ones made before it is rounded: 2^-12 beside 1 is lost in half precision."""
    x = torch.full((1, 400), 2.0**-12, dtype=dtype)
    x[0, 0] = 1.0
    x.requires_grad_()
    value = loss("cumulative")(x)
    value.backward()
    wide = x.detach().double().requires_grad_()
    want = loss("cumulative")(wide)
    want.backward()
    torch.testing.assert_close(value.double(), want, rtol=2e-5, atol=0)
    assert x.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=2e-2, atol=1e-3)


def test_a_singular_matrix_is_nan_and_alone() -> None:
    k = torch.zeros(2, 4, 3, dtype=F64)
    k[1] = torch.randn(4, 3, dtype=F64)
    x = torch.ones(2, 4, dtype=F64)
    assert torch.isfinite(loss("mahalanobis")(x, k))
    broken = k.clone()
    broken[0, 0, 0] = torch.nan
    assert loss("mahalanobis")(x, broken).isnan()
