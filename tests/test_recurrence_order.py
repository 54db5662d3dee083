"""Earlier positions that a parameter, two conditions or a winner say: recurrences from their text, against loops in torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

import lossdsl
from lossdsl import pipeline
from lossdsl.diagnostics import Source

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler")

LAG = """
loss lag:
    input x: real[n, t]
    param lag: int >= 1 = 2
    y[n, t] = x + (0.5 * y[n, t - lag] if t >= lag else 0)
    return mean(y^2)
"""

TWO_AXES = """
loss two_axes:
    input x: real[n, t]
    param lag: int > 0 = 2
    y[n, t] = x + (0.5 * y[n - 1, t - lag] if t >= lag and n > 0 else 0) + 0.3 * (tanh(y[n, t - lag]) if t >= lag else 0)
    return mean(y^2)
"""

UNEQUAL = """
loss unequal:
    axis s = t
    input x: real[t, s]
    y[t] = x[t, t] + sum(x[t, s] * y[t = s] over s where s <= t and s != t)
    return mean(y^2)
"""

BEST = """
loss best:
    input x: real[b, t, c]
    best[b, t] = argmax(y[b, t, c] over c else 0)
    y[b, t, c] = x[b, t, c] + (y[b, t - 1, best[b, t - 1] else 0] if t > 0 else 0)
    return mean(y^2)
"""

BEST_LAST = BEST.replace("    best[b, t] = argmax(y[b, t, c] over c else 0)\n", "").replace(
    "    return", "    best[b, t] = argmax(y[b, t, c] over c else 0)\n    return"
)


def lagged(x: torch.Tensor, lag: int) -> torch.Tensor:
    y: list[torch.Tensor] = []
    for t in range(x.shape[1]):
        y.append(x[:, t] + (0.5 * y[t - lag] if t >= lag else 0))
    return (torch.stack(y, 1) ** 2).mean()


def two_axes(x: torch.Tensor, lag: int) -> torch.Tensor:
    y: dict[tuple[int, int], torch.Tensor] = {}
    for n in range(x.shape[0]):
        for t in range(x.shape[1]):
            across = 0.5 * y[n - 1, t - lag] if t >= lag and n > 0 else 0
            y[n, t] = x[n, t] + across + 0.3 * (torch.tanh(y[n, t - lag]) if t >= lag else 0)
    return (torch.stack(list(y.values())) ** 2).mean()


def unequal(x: torch.Tensor) -> torch.Tensor:
    y: list[torch.Tensor] = []
    for t in range(x.shape[0]):
        y.append(x[t, t] + sum(x[t, s] * y[s] for s in range(t)))
    return (torch.stack(y) ** 2).mean()


def best(x: torch.Tensor) -> torch.Tensor:
    y = [x[:, 0]]
    for t in range(1, x.shape[1]):
        chosen = y[-1].argmax(1, keepdim=True)
        y.append(x[:, t] + y[-1].gather(1, chosen))
    return (torch.stack(y, 1) ** 2).mean()


FIRST = """
loss first:
    input x: real[b, t, c]
    y[b, t, c] = x[b, t, c] + (0.5 * s[b, t - 1] if t > 0 else 0)
    s[b, t] = 2 * y[b, t, 0] if size(c) > 0 else 0
    return mean(y^2)
"""


def first(x: torch.Tensor) -> torch.Tensor:
    y = [x[:, 0]]
    for t in range(1, x.shape[1]):
        y.append(x[:, t] + y[-1][:, :1])
    return (torch.stack(y, 1) ** 2).mean()


CASES: dict[str, tuple[str, Callable[..., torch.Tensor], list[tuple[int, ...]], list[dict[str, int]]]] = {
    "a lag": (LAG, lagged, [(3, 7), (2, 1)], [{"lag": k} for k in (1, 2, 3, 7, 9)]),
    "a lag of two axes": (TWO_AXES, two_axes, [(3, 6), (1, 4), (4, 1)], [{"lag": k} for k in (1, 2, 6)]),
    "two conditions": (UNEQUAL, unequal, [(1, 1), (2, 2), (5, 5)], [{}]),
    "a constant place": (FIRST, first, [(2, 4, 3), (1, 1, 1)], [{}]),
    "a winner": (BEST, best, [(2, 5, 3), (1, 2, 1), (3, 1, 2)], [{}]),
    "a winner after what it chooses": (BEST_LAST, best, [(2, 5, 3)], [{}]),
}


@cache
def module(name: str, native: bool) -> Any:
    return lossdsl.loads(CASES[name][0], native=native)


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_compiler)])
@pytest.mark.parametrize("name", CASES)
def test_reads_what_is_earlier(name: str, native: bool) -> None:
    _, reference, shapes, settings = CASES[name]
    for shape in shapes:
        for setting in settings:
            x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
            want = reference(x, **setting)
            got = module(name, native)(**setting)(x)
            torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
            (gradient,) = torch.autograd.grad(got, x)
            torch.testing.assert_close(gradient, torch.autograd.grad(want, x)[0], rtol=1e-12, atol=1e-15)


def test_a_first_entry_needs_no_condition() -> None:
    text = FIRST.replace(" if size(c) > 0 else 0", "")
    assert not pipeline.analyse(Source("x.loss", text)).diagnostics
    f = lossdsl.loads(text).function
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(f(x), first(x))


def test_what_is_wrong_with_integers_is_said() -> None:
    text = "loss l:\n    input x: real[c]\n    input up: class[c] of c\n    axis a = 3\n"
    text += "    place[a, c] = c if a == 0 else up[place[a - 1, c]]\n    return sum(x[place[a, c] else 0])\n"
    with pytest.raises(lossdsl.LossError, match="E0405"):
        lossdsl.loads(text)


@pytest.mark.parametrize("declared", ["int = 2", "int >= 0 = 2", "int <= 3 = 2"])
def test_a_lag_that_may_be_nothing_is_no_order(declared: str) -> None:
    with pytest.raises(lossdsl.LossError, match="E0208"):
        lossdsl.loads(LAG.replace("int >= 1 = 2", declared))
