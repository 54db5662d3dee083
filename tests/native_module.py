"""Loading losses with and without compiled kernels, for the tests of the native target."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch_losses import spec

from lossdsl.backends import emit_native
from lossdsl.backends.emit_torch import emit_torch
from lossdsl.loader import load_module
from lossdsl.names import function_name


@dataclass(frozen=True)
class Pair:
    """A loss as compiled kernels and as torch operations: the modules and the functions."""

    module: ModuleType
    native: Any
    plain: Any
    text: str


def pair(text: str) -> Pair:
    given = spec(text)
    name = function_name(given.losses[0].name)
    emitted = emit_native.emit(given)
    native = load_module(emitted, "test.loss")
    return Pair(native, getattr(native, name), getattr(load_module(emit_torch(given), "test.loss"), name), emitted)


def value_and_gradients(function: Any, inputs: dict[str, Any], wrt: tuple[str, ...], **options: Any) -> list[Any]:
    """The value and its gradients for an incoming gradient that is not uniform."""
    leaves = {k: t.clone().requires_grad_(k in wrt) if isinstance(t, torch.Tensor) else t for k, t in inputs.items()}
    value = function(**leaves, **options)
    incoming = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).view(value.shape)
    given = [leaves[k] for k in wrt]
    if not value.requires_grad:
        return [value, *(torch.zeros_like(t) for t in given)]
    found = torch.autograd.grad(value, given, incoming, allow_unused=True, materialize_grads=True)
    return [value.detach(), *found]


def assert_same(ours: list[Any], theirs: list[Any], tolerance: float) -> None:
    """Equal but for rounding, relative to the largest entry; nan where nan is."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        scale = float(b.nan_to_num(0.0, 0.0, 0.0).abs().max()) if b.numel() else 0.0
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * scale + 1e-30, equal_nan=True)


def assert_as_exact(ours: list[Any], theirs: list[Any], exact: list[Any]) -> None:
    """Within 2e-4 of the largest entry of the exact result, or within eight times the distance of the others; nan and
    infinities where they have them."""
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        known = b.isfinite()
        torch.testing.assert_close(a[~known], b[~known], equal_nan=True)
        wanted = c[known].nan_to_num(0.0, 0.0, 0.0)
        if wanted.numel():
            distance = (b[known].double() - wanted).abs().max()
            assert (a[known].double() - wanted).abs().max() <= max(2e-4 * wanted.abs().max(), 8 * distance) + 1e-30
