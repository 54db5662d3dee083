"""float16 under a loss scale of 65536: the relative L1 error of every gradient is at most 1e-3, as a loss scaler sees it.

A gradient of a mean over a million elements is below the smallest number of float16 unless the incoming gradient goes
in before it is rounded. The references are independent, in float64, of what the float16 tensors hold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from references import EXAMPLES, REFERENCES

from lossdsl.assemble import module_spec
from lossdsl.backends.emit_torch import emit_torch
from lossdsl.diagnostics import Source
from lossdsl.loader import load_module
from lossdsl.pipeline import analyse

SCALE = 65536.0
MANY = 1 << 20
Generator = np.random.Generator
Made = dict[str, Any]


def elements(g: Generator) -> Made:
    return {"pred": 2 * g.normal(size=MANY), "target": g.normal(size=MANY)}


def pixels(g: Generator) -> Made:
    return {
        "prob": g.uniform(0.01, 0.99, (4, 3, 96, 64)),
        "target": g.integers(0, 2, (4, 3, 96, 64)).astype(np.float64),
    }


CASES: dict[str, Callable[[Generator], Made]] = {
    # elementwise means over 2^20 elements
    "mse": elements,
    "mae": elements,
    "huber": elements,
    "log_cosh": elements,
    "cauchy": elements,
    "student_t": elements,
    "quantile": elements,
    "gaussian_nll": lambda g: {**elements(g), "log_variance": g.normal(size=MANY)},
    "binary_cross_entropy": lambda g: {"logits": 3 * g.normal(size=MANY), "target": g.uniform(size=MANY)},
    "focal": lambda g: {"logits": 3 * g.normal(size=MANY), "target": g.integers(0, 2, MANY)},
    "squared_hinge": lambda g: {"score": 2 * g.normal(size=MANY), "y": 2 * g.integers(0, 2, MANY) - 1},
    # rows
    "cross_entropy": lambda g: {
        "logits": 3 * g.normal(size=(4096, 100)),
        "target": g.integers(0, 100, 4096),
        "weight": g.uniform(0.1, 1, 100),
    },
    "generalised_cross_entropy": lambda g: {"logits": 3 * g.normal(size=(4096, 10)), "target": g.integers(0, 10, 4096)},
    "kl_divergence": lambda g: {"logits": 2 * g.normal(size=(4096, 50)), "target": g.dirichlet(np.ones(50), 4096)},
    # pairs
    "info_nce": lambda g: {"q": unit(g, 512, 64), "k": unit(g, 512, 64)},
    "batch_hard_triplet": lambda g: {"z": unit(g, 128, 32), "label": g.integers(0, 16, 128)},
    "triplet": lambda g: {n: g.normal(size=(512, 64)) for n in ("anchor", "positive", "negative")},
    "contrastive": lambda g: {
        "a": g.normal(size=(512, 16)) / 8,
        "b": g.normal(size=(512, 16)) / 8,
        "same": g.integers(0, 2, 512).astype(bool),
    },
    # ratios of totals, windows
    "dice": pixels,
    "tversky": pixels,
    "total_variation": lambda g: {"x": g.normal(size=(4, 3, 128, 96))},
}


def unit(g: Generator, *shape: int) -> Any:
    x = g.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@cache
def function(file: str) -> Any:
    source = Source(file, (EXAMPLES / f"{file}.loss").read_text())
    spec = module_spec(source, [b.program for b in analyse(source).losses], "torch", (), "0")
    return getattr(load_module(emit_torch(spec), file), file.rsplit("/", 1)[1])


@pytest.mark.parametrize("name", CASES)
def test_gradients_under_a_loss_scale(name: str) -> None:
    reference = REFERENCES[name]
    arrays = CASES[name](np.random.default_rng(5))
    wrt = [n for n in reference.gradients(arrays) if n in arrays and arrays[n].dtype == np.float64]
    held = {n: torch.tensor(a) for n, a in arrays.items()}
    held = {n: t.half() if t.dtype == torch.float64 else t for n, t in held.items()}
    ours = {n: t.clone().requires_grad_(n in wrt) for n, t in held.items()}
    exact = {n: (t.double() if t.dtype == torch.float16 else t).requires_grad_(n in wrt) for n, t in held.items()}
    value = function(reference.file)(**ours)
    assert value.dtype == torch.float32
    (SCALE * value).backward()
    expected = reference.value(**exact)
    expected.backward()
    assert abs(value.item() - expected.item()) <= 1e-5 * max(1.0, abs(expected.item()))
    assert wrt
    for n in wrt:
        found, wanted = ours[n].grad, exact[n].grad
        assert found is not None
        assert wanted is not None
        assert found.dtype == torch.float16
        assert found.isfinite().all()
        assert wanted.abs().sum() > 0
        error = (found.double() / SCALE - wanted).abs().sum() / wanted.abs().sum()
        assert error <= 1e-3, (n, error.item())
