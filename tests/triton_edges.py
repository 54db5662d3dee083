"""Edges of Triton modules with rows walked in blocks and held whole, in the interpreter (TRITON_INTERPRET=1) or on a
device; prints one JSON line."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
import torch.nn.functional as F
from triton_emit import module_of, spec_of

from lossdsl.backends.emit_triton import emit
from lossdsl.loader import load_module
from lossdsl.lower.plan import Choices

LARGEST = """loss largest:
    input x: real[n, c]
    input w: real[n, c]
    per = max(x * w over c)
    return mean(per)
"""


CONFIDENCE = """loss h:
    input x: real[n, c]
    param gamma: real >= 0 = 2
    per = clamp(1 - tanh(logsumexp(x over c)), 0, 2) ^ gamma + logaddexp(sum(x over c), 0) + erf(mean(x over c))
    return mean(per)
"""

LIMITS = """loss limits:
    input x: real[n, c]
    per = logsumexp(x over c)
    return mean(per)
"""

DETERMINANT = """loss determinant:
    input a: real[d, e]
    axis e = d
    return logdet(a over d, e) + sum(inverse(a over d, e)^2)
"""

RANKS = """loss ranks:
    input x: real[n, c]
    axis c = 3
    axis n = 4
    return median(x[1, c] over c) * mean(x^2) + quantile(x[n, 0], q = 0.3 over n)
"""


def second(function: Any, x: torch.Tensor) -> torch.Tensor:
    """The gradient of the square of the gradient: the formula's, whose helpers are torch functions."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x), x, create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), x)[0]


def confidence(x: torch.Tensor) -> torch.Tensor:
    return ((1 - x.logsumexp(1).tanh()) ** 2 + F.softplus(x.sum(1)) + x.mean(1).erf()).mean()


def main() -> None:
    torch.set_default_device("cpu" if "TRITON_INTERPRET" in os.environ else "cuda")
    torch.manual_seed(0)
    found: dict[str, bool] = {}
    for choices in (Choices(resident=2, block=2), Choices()):
        label = f"resident {choices.resident}: "
        cross_entropy = module_of("classification/cross_entropy", choices).cross_entropy
        x = torch.randn(5, 7)
        x[1, :5] = -torch.inf  # a first block of nothing
        x.requires_grad_()
        y = x.detach().clone().requires_grad_()
        t = torch.tensor([0, 6, -100, 3, 2])
        cross_entropy(x, t, reduction="none").sum()
        cross_entropy(x, t).backward()
        F.cross_entropy(y, t).backward()
        assert x.grad is not None
        assert y.grad is not None
        found[label + "masked first block"] = torch.allclose(x.grad, y.grad, atol=1e-6)
        nothing = torch.zeros(0, 7, requires_grad=True)
        found[label + "empty"] = float(cross_entropy(nothing, t[:0])) == 0.0
        found[label + "class out of range"] = bool(cross_entropy(torch.randn(2, 3), torch.tensor([0, 7])).isnan())
        wrong = torch.randn(3, 7, requires_grad=True)
        cross_entropy(wrong, torch.tensor([0, 7, 2]), torch.rand(7), smoothing=0.1, reduction="sum").backward()
        assert wrong.grad is not None
        zeros = wrong.grad.eq(0).all(1).tolist()
        found[label + "gradient of a row out of range"] = zeros == [False, True, False] and bool(
            wrong.grad.isfinite().all()
        )
        image = torch.randn(2, 5, 4, 3).transpose(2, 3)
        labels = torch.randint(0, 5, (2, 3, 4))
        found[label + "strided"] = torch.allclose(cross_entropy(image, labels), F.cross_entropy(image, labels))
        largest = load_module(emit(spec_of(LARGEST), choices), "largest").largest
        x, w = torch.randn(6, 5).requires_grad_(), torch.randn(6, 5)
        y = x.detach().clone().requires_grad_()
        largest(x, w).backward()
        (y * w).amax(1).mean().backward()
        assert x.grad is not None
        assert y.grad is not None
        found[label + "winners"] = torch.allclose(x.grad, y.grad)
        broken = x.detach().clone()
        broken[2, 1] = torch.nan
        function = load_module(emit(spec_of(CONFIDENCE), choices), "confidence").h
        x = torch.randn(3, 4, dtype=torch.float64)
        found[label + "value with helpers"] = torch.allclose(function(x), confidence(x))
        ours = torch.autograd.grad(function(x.requires_grad_()), x)[0]
        found[label + "constants in float64"] = torch.allclose(ours, torch.autograd.grad(confidence(x), x)[0], 1e-13)
        x = x.detach()
        found[label + "second derivative"] = torch.allclose(second(function, x), second(confidence, x))
        limits = load_module(emit(spec_of(LIMITS), choices), "limits").limits
        inf, nan = torch.inf, torch.nan
        rows = [[-inf] * 5, [inf, 1, 2, 3, 4], [0, 1, -inf, inf, inf], [0, 0, 0, 0, nan], [nan, -inf, 0, 0, 0]]
        rows += [
            [1e4, -1e4, 1e4, 0, 9999.5],
            [-inf, -inf, -inf, -inf, 3],
            [3, -inf, -inf, -inf, -inf],
            [-200, 0, 1, 2, 200],
        ]
        x = torch.tensor(rows)
        found[label + "limits"] = torch.allclose(limits(x, reduction="none"), x.logsumexp(1), equal_nan=True)
        determinant = load_module(emit(spec_of(DETERMINANT), choices), "determinant").determinant
        x = torch.tensor([[-1.0, 0.3], [0.2, 2.0]], dtype=torch.float64, requires_grad=True)
        wanted = torch.linalg.slogdet(x)[1] + torch.linalg.inv(x).square().sum()
        ours, theirs = (torch.autograd.grad(v, x)[0] for v in (determinant(x), wanted))
        found[label + "a matrix that is not symmetric"] = torch.allclose(ours, theirs, 1e-12)
        ranks = load_module(emit(spec_of(RANKS), choices), "ranks").ranks
        x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        wanted = x[1].median() * x.square().mean() + torch.quantile(x[:, 0], 0.3)
        ours, theirs = (torch.autograd.grad(v, x)[0] for v in (ranks(x), wanted))
        found[label + "positions that are read at positions under conditions"] = torch.allclose(ours, theirs, 1e-12)
        found[label + "nan"] = bool(largest(broken, w).isnan())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
