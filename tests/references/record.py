"""What a reference is, and makers of the inputs that it is called with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Arrays = dict[str, np.ndarray]
Case = Callable[[np.random.Generator], tuple[Arrays, dict[str, Any]]]
Maker = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Reference:
    """An independent definition of a loss of the catalogue: a torch function, or the paper's formula in torch.

    file     path below `examples/`, without `.loss`
    value    `value(**inputs, **parameters)`: the loss as a float64 tensor; its gradient is torch autograd's
    cases    inputs and parameters by a seeded generator: value and gradient are compared
    mutants  (old, new) edits of the file that must be noticed; generated (`mutants.py`) if there are none
    wrt      inputs whose gradient is compared; empty: every real input that is not named `weight`
    at       inputs and parameters at kinks and other edges: only the value is compared
    """

    file: str
    value: Callable[..., torch.Tensor]
    cases: tuple[Case, ...]
    mutants: tuple[tuple[str, str], ...] = ()
    wrt: tuple[str, ...] = ()
    at: tuple[Case, ...] = ()

    def gradients(self, arrays: Arrays) -> tuple[str, ...]:
        """Names of the inputs whose gradient is compared."""
        real = tuple(n for n, a in arrays.items() if a.dtype == np.float64 and n != "weight")
        return self.wrt or real


def case(*, parameters: dict[str, Any] | None = None, **inputs: Maker | np.ndarray) -> Case:
    """`case(pred=normal(3, 4), target=labels(5, 3), parameters={"delta": 2.0})`: independent inputs."""

    def make(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
        made = {n: m(rng) if callable(m) else np.asarray(m) for n, m in inputs.items()}
        return made, dict(parameters or {})

    return make


def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Maker:
    return lambda rng: shift + scale * rng.normal(size=shape)


def uniform(low: float, high: float, *shape: int) -> Maker:
    return lambda rng: rng.uniform(low, high, size=shape)


def labels(classes: int, *shape: int) -> Maker:
    """Integers in [0, classes)."""
    return lambda rng: rng.integers(0, classes, size=shape)


def binary(*shape: int, p: float = 0.5) -> Maker:
    """0 or 1 as integers."""
    return lambda rng: (rng.random(shape) < p).astype(np.int64)


def booleans(*shape: int, p: float = 0.5) -> Maker:
    return lambda rng: rng.random(shape) < p


def signs(*shape: int) -> Maker:
    """-1 or 1 as integers."""
    return lambda rng: 2 * rng.integers(0, 2, size=shape) - 1


def simplex(*shape: int, axis: int = -1, scale: float = 1.0) -> Maker:
    """Positive, of sum 1 along an axis."""

    def make(rng: np.random.Generator) -> np.ndarray:
        x = np.exp(scale * rng.normal(size=shape))
        return np.asarray(x / x.sum(axis=axis, keepdims=True))

    return make


def unit(*shape: int, axis: int = -1) -> Maker:
    """Of Euclidean norm 1 along an axis."""

    def make(rng: np.random.Generator) -> np.ndarray:
        x = rng.normal(size=shape)
        return np.asarray(x / np.linalg.norm(x, axis=axis, keepdims=True))

    return make


def log_simplex(*shape: int, axis: int = -1, scale: float = 1.0) -> Maker:
    """Logarithms of probabilities of sum 1 along an axis."""
    return lambda rng: np.log(simplex(*shape, axis=axis, scale=scale)(rng))


def full(value: float | int | bool, *shape: int) -> Maker:
    return lambda rng: np.full(shape, value)
