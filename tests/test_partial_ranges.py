"""Values that are made for a part of an axis alone: what reads a shifted entry, under a condition or in a product of matrices,
against the same in torch under autograd, at every small extent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

import lossdsl

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """What is written, the shapes of the inputs in `b, t, c, d`, and the same in torch."""

    lines: str
    shapes: dict[str, str]
    reference: Callable[..., torch.Tensor]

    @property
    def source(self) -> str:
        declared = ["axis e = c"] if "e" in "".join(self.shapes.values()) else []
        declared += [f"input {name}: real[{', '.join(axes)}]" for name, axes in self.shapes.items()]
        body = "\n    ".join([*declared, *self.lines.strip().splitlines()])
        return f"loss l:\n    {body}\n"


def before(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """`q` times the entry before, 0 at the first."""
    made = torch.einsum("btc,dc->btd", x[:, :-1], q)
    return torch.cat([made.new_zeros(made.shape[0], min(1, x.shape[1]), made.shape[2]), made], 1)


def moving(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    state = torch.zeros(x.shape[0], x.shape[2], dtype=x.dtype)
    total = x.new_zeros(())
    for t in range(x.shape[1]):
        state = x[:, t] + (torch.einsum("dc,bc->bd", q, state) if t > 0 else 0)
        total = total + (state**2).sum()
    return total


CASES = {
    "a condition": Case(
        "s[b, t, d] = sum(q[d, c] * x[b, t - 1, c] over c) if t > 0 else 0\nreturn sum(y * s)",
        {"x": "btc", "q": "dc", "y": "btd"},
        lambda x, q, y: (y * before(x, q)).sum(),
    ),
    "a condition within a square": Case(
        "s[b, t, d] = sum(q[d, c] * x[b, t - 1, c] over c) if t > 0 else 0\nreturn sum((y - s)^2)",
        {"x": "btc", "q": "dc", "y": "btd"},
        lambda x, q, y: ((y - before(x, q)) ** 2).sum(),
    ),
    "a lagged covariance": Case(
        "g[c, d] = sum(x[b, t, c] * y[b, t + 1, d] over b, t)\nreturn sum((g - w)^2)",
        {"x": "btc", "y": "btd", "w": "cd"},
        lambda x, y, w: ((torch.einsum("btc,btd->cd", x[:, :-1], y[:, 1:]) - w) ** 2).sum(),
    ),
    "a matrix product of a part": Case(
        "g[c, d] = sum(x[t, c] * y[t + 1, d] over t)\nreturn sum((g - w)^2)",
        {"x": "tc", "y": "td", "w": "cd"},
        lambda x, y, w: ((x[:-1].T @ y[1:] - w) ** 2).sum(),
    ),
    "a recurrence": Case(
        "u[b, t, c] = x + (sum(q[c, e] * u[b, t - 1, e] over e) if t > 0 else 0)\nreturn sum(u^2)",
        {"x": "btc", "q": "ce"},
        moving,
    ),
}


def shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    """The entries `by` places before along the second axis, 0 outside."""
    made = x * 0
    for t in range(x.shape[1]):
        if 0 <= t - by < x.shape[1]:
            made[:, t] = x[:, t - by]
    return made


def inside(x: torch.Tensor, by: int) -> torch.Tensor:
    return torch.tensor([0 <= t - by < x.shape[1] for t in range(x.shape[1])])


# A condition around a reduction holds for what is read in it, whatever else is in the offset.
AROUND = {
    "if k <= t": Case(
        "axis k = 3\ny[b, t, k] = sum(x[b, t - k, c]^2 over c) if k <= t else 0\nreturn sum(y)",
        {"x": "btc"},
        lambda x: sum((shifted(x, k) ** 2).sum() for k in range(3)),
    ),
    "if t + k is inside": Case(
        "axis k = 3\ny[b, t, k] = sum(x[b, t + k, c]^2 over c) if t + k < size(t) else 0\nreturn sum(y)",
        {"x": "btc"},
        lambda x: sum((shifted(x, -k) ** 2).sum() for k in range(3)),
    ),
    "a maximum": Case(
        "axis k = 3\ny[b, t, k] = max(x[b, t - k, c] over c else 0) if t >= k else 0\nreturn sum(y)",
        {"x": "btc"},
        lambda x: sum(shifted(x, k).amax(2)[:, inside(x, k)].sum() for k in range(3)),
    ),
    "another axis over the same": Case(
        "axis s = t\ny[b, t, s] = sum(x[b, t - s, c]^2 over c) if s <= t else 0\nreturn sum(y)",
        {"x": "btc"},
        lambda x: sum((shifted(x, k) ** 2).sum() for k in range(x.shape[1])),
    ),
    "a parameter": Case(
        "param lag: int in [1, 3] = 2\ny[b, t] = sum(x[b, t - lag, c]^2 over c) if t >= lag else 0\nreturn sum(y)",
        {"x": "btc"},
        lambda x: (shifted(x, 2) ** 2).sum(),
    ),
    "where of the reduction around": Case(
        "axis k = 3\nreturn sum(sum(x[b, t + k, c]^2 over c) over b, t, k where t + k < size(t))",
        {"x": "btc"},
        lambda x: sum((shifted(x, -k) ** 2).sum() for k in range(3)),
    ),
    "a function": Case(
        "axis k = 3\ndef e(u) = sum(u^2 over c)\ny[b, t, k] = e(x[t = t - k]) if k <= t else 0\nreturn sum(y)",
        {"x": "btc"},
        lambda x: sum((shifted(x, k) ** 2).sum() for k in range(3)),
    ),
    "an axis of the reduction, too": Case(
        "axis k = 3\naxis j = 2\ny[b, t, c] = sum(max(x[b, t - k - j, c] over j else 0) over k where k + 1 <= t)\nreturn sum(y)",
        {"x": "btc"},
        lambda x: sum(torch.maximum(shifted(x, k), shifted(x, k + 1))[:, inside(x, k + 1)].sum() for k in range(3)),
    ),
    "a window keeps its own": Case(
        "axis j = 2\ny[b, t] = sum(x[b, t + j, c]^2 over j, c) if t > 0 else 0\nreturn sum(y)",
        {"x": "btc"},
        lambda x: (x[:, 1:-1] ** 2).sum() + (x[:, 2:] ** 2).sum() if x.shape[1] > 1 else x.sum() * 0,
    ),
}
CASES |= AROUND


def names_of(case: Case, sizes: dict[str, int]) -> Tensors:
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randn([sizes[a] for a in axes], dtype=torch.float64, generator=generator)
        for name, axes in case.shapes.items()
    }


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_compiler)])
@pytest.mark.parametrize("name", CASES)
def test_a_part_of_an_axis(name: str, native: bool) -> None:
    case = CASES[name]
    function = lossdsl.loads(case.source, native=native).function
    for extent in (1, 2, 3, 5):
        tensors = names_of(case, {"b": 2, "t": extent, "c": 3, "d": 4, "e": 3})
        found = {k: v.clone().requires_grad_() for k, v in tensors.items()}
        wanted = {k: v.clone().requires_grad_() for k, v in tensors.items()}
        value, reference = function(**found), case.reference(**wanted)
        torch.testing.assert_close(value, reference, rtol=1e-10, atol=1e-10)
        with torch.no_grad():
            torch.testing.assert_close(function(**tensors), reference.detach(), rtol=1e-10, atol=1e-10)
        slopes = torch.autograd.grad(reference, list(wanted.values()), allow_unused=True, materialize_grads=True)
        for key, got, right in zip(found, torch.autograd.grad(value, list(found.values())), slopes, strict=True):
            torch.testing.assert_close(
                got, right, rtol=1e-10, atol=1e-10, msg=lambda m, k=f"{key} at {extent}": f"{k}: {m}"
            )


# An expression in brackets, or an argument of a function, and the same with a name.
NAMED = {
    "edge": ("return sum((x[t = edge(t + 1)])[t = t + 1])", "y = x[t = edge(t + 1)]\nreturn sum(y[t = t + 1])"),
    "wrap": ("return sum((x[t = wrap(t + 1)])[t = t + 1])", "y = x[t = wrap(t + 1)]\nreturn sum(y[t = t + 1])"),
    "reflect": (
        "return sum((x[t = reflect(t - 1)])[t = t - 1])",
        "y = x[t = reflect(t - 1)]\nreturn sum(y[t = t - 1])",
    ),
    "else": ("return sum((x[t = t + 1 else 7])[t = t + 1])", "y = x[t = t + 1 else 7]\nreturn sum(y[t = t + 1])"),
    "a condition": ("return sum((x if t > 0 else 5)[t = t + 1])", "y = x if t > 0 else 5\nreturn sum(y[t = t + 1])"),
    "a position": ("return sum((x * (t + 1))[t = t + 1])", "y = x * (t + 1)\nreturn sum(y[t = t + 1])"),
    "plain": ("return sum((x * x)[t = t + 1])", "y = x * x\nreturn sum(y[t = t + 1])"),
    "two axes": (
        "return sum((x[t = t + 1 else 0])[b = b + 1, t = edge(t - 1)])",
        "y = x[t = t + 1 else 0]\nreturn sum(y[b = b + 1, t = edge(t - 1)])",
    ),
    "a coarser grid": (
        "axis p = 2\ndef next(a) = a[t = edge(t + 1)]\ndef half(a) = sum(a[t = 2 * t + p] over p)\nreturn sum(half(next(x))^2)",
        "axis p = 2\ndef next(a) = a[t = edge(t + 1)]\ndef half(a) = sum(a[t = 2 * t + p] over p)\ny = next(x)\nreturn sum(half(y)^2)",
    ),
    "a window in a coarser grid": (
        "axis p = 2\naxis i = 3\ndef half(a) = sum(a[t = 2 * t + p] over p)\n"
        "def win(a) = sum(a[t = t + i - 1 else 0] over i)\nreturn sum(half(win(x))^2)",
        "axis p = 2\naxis i = 3\ndef half(a) = sum(a[t = 2 * t + p] over p)\n"
        "def win(a) = sum(a[t = t + i - 1 else 0] over i)\ny = win(x)\nreturn sum(half(y)^2)",
    ),
    "blurred, then halved": (
        "axis p = 2\naxis i = 3\ndef half(a) = mean(a[t = 2 * t + p] over p)\n"
        "def win(a) = sum(a[t = reflect(t + i - 1)] over i)\nreturn sum(abs(half(win(x) + 1)))",
        "axis p = 2\naxis i = 3\ndef half(a) = mean(a[t = 2 * t + p] over p)\n"
        "def win(a) = sum(a[t = reflect(t + i - 1)] over i)\ny = win(x)\nz = y + 1\nreturn sum(abs(half(z)))",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_has_no_name_has_the_range_of_what_has_one(name: str) -> None:
    bare, named = (lossdsl.loads(Case(lines, {"x": "bt"}, torch.sum).source).function for lines in NAMED[name])
    for extent in (2, 3, 5, 6):
        x = torch.randn(2, extent, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        leaves = [x.clone().requires_grad_() for _ in range(2)]
        ours, theirs = bare(leaves[0]), named(leaves[1])
        assert not theirs.isnan()
        torch.testing.assert_close(ours, theirs)
        slopes = [torch.autograd.grad(v, leaf)[0] for v, leaf in zip((ours, theirs), leaves, strict=True)]
        torch.testing.assert_close(*slopes)
