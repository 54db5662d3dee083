"""The `loss` blocks of the language pages run: each on drawn inputs, and the twelve translations against plain torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_docs import DOCS, blocks

import lossdsl
from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.dim import Dim
from lossdsl.ir.nodes import INT, Const, Input, Scalar, Size

F64 = torch.float64
SIZE = 12  # of every axis: room for the windows of the pages
PAGES = {p.name for p in (DOCS / "language").glob("*.md")}
RUN = [(n, t) for n, t in blocks() if n.rpartition("-")[0] in PAGES and "# error[" not in t]


def end(bound: Scalar | None, otherwise: float) -> float:
    if isinstance(bound, Const) and isinstance(bound.value, Fraction):
        return float(bound.value)
    return SIZE if isinstance(bound, Size) else otherwise


def drawn(i: Input, sizes: dict[str, int]) -> torch.Tensor:
    """A tensor of the declared type, inside of its domain."""

    def size(dim: Dim) -> int:
        return dim.evaluate(sizes)

    shape = [size(d) for d in i.dims]  # `...` is one axis
    low, high = end(i.range.lower, -2.0), end(i.range.upper, 2.0)
    match i.kind:
        case "bool":
            return torch.rand(shape) < 0.7
        case "binary":
            return torch.randint(2, shape)
        case "sign":
            return 2 * torch.randint(2, shape) - 1
        case "class":
            assert i.classes is not None
            return torch.randint(size(i.classes), shape)
        case "int":
            return torch.randint(int(max(low, 0)), int(max(low, 0)) + 3, shape)
    uniform = torch.rand(shape, dtype=F64)
    if i.kind == "simplex":
        return uniform / uniform.sum(i.over[0], keepdim=True)
    if i.kind == "unit":
        return uniform / uniform.norm(dim=i.over[0], keepdim=True)
    high = high if high > low else low + 2
    return (low + (high - low) * (0.1 + 0.8 * uniform)).requires_grad_()


@pytest.mark.parametrize(("name", "text"), RUN, ids=[name for name, _ in RUN])
def test_a_block_runs(name: str, text: str) -> None:
    """Value and gradient are finite, and the Triton module has a text."""
    torch.manual_seed(0)
    analysis = pipeline.analyse(Source(name, text))
    made = lossdsl.loads(text)
    for built in analysis.losses:
        program = built.program
        kind = made if isinstance(made, type) else getattr(made, program.name)
        parameters = {p.name: int(p.default.value) for p in program.parameters if p.default and p.dtype is INT}
        extents = [d for i in program.inputs for d in (*i.dims, i.classes) if d is not None]
        symbols = {s for d in extents for s in d.symbols()}
        sizes = {s: parameters.get(s, SIZE) for s in symbols}
        keywords: dict[str, Any] = {}
        for word, parameter in inspect.signature(kind).parameters.items():
            held = next((i for i in program.inputs if i.name == word and i.role in ("state", "learnable")), None)
            if word in sizes and word not in parameters:
                keywords[word] = sizes[word]
            elif held is not None and parameter.default is inspect.Parameter.empty:
                keywords[word] = drawn(held, sizes).detach()
        tensors = {i.name: drawn(i, sizes) for i in program.inputs if i.role == "input"}
        value = kind(**keywords).double()(**tensors)
        assert value.isfinite().all()
        slopes = [t for t in tensors.values() if t.requires_grad]
        if value.requires_grad:
            for slope in torch.autograd.grad(value.sum(), slopes, allow_unused=True):
                assert slope is None or bool(slope.isfinite().all())
    assert pipeline.emit(analysis.source, analysis.losses, "triton").text


def loaded(page: str, name: str) -> Any:
    """A loss of a page, by its name."""
    text = next(t for n, t in blocks() if n.startswith(page) and f"loss {name}:" in t)
    made = lossdsl.loads(text)
    return (made if isinstance(made, type) else getattr(made, name))()


def batch_hard(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    rows = []
    for i in range(len(z)):
        far = [(z[i] - z[j]).norm() for j in range(len(z)) if y[j] == y[i] and j != i]
        near = [(z[i] - z[j]).norm() for j in range(len(z)) if y[j] != y[i]]
        rows.append(F.relu(0.2 + torch.stack(far).max() - torch.stack(near).min()))
    return torch.stack(rows).mean()


def focal(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    p = torch.where(y == 1, torch.sigmoid(z), 1 - torch.sigmoid(z))
    return (-torch.where(y == 1, 0.25, 0.75) * (1 - p) ** 2 * p.log()).mean()


def value_regression(reward: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    after = torch.cat([value[1:], torch.zeros_like(value[:1])])
    delta = (reward + 0.99 * after - value).detach()
    steps = [sum((0.99 * 0.95) ** (k - t) * delta[k] for k in range(t, len(delta))) for t in range(len(delta))]
    return (value - (torch.stack(steps) + value).detach()).square().mean() / 2


def list_mle(score: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    ranked = score.gather(1, relevance.argsort(dim=1, descending=True, stable=True))
    rest = ranked.flip(1).logcumsumexp(1).flip(1)
    return (rest - ranked).sum(1).mean()


def ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    def blur(a: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(a[:, None], 7, 1)[:, 0]

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    return 1 - ((2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))).mean()


def info_nce(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(q @ k.T / 0.07, torch.arange(len(q)))


def dice(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return (1 - (2 * (s * t).sum(1) + 1) / ((s + t).sum(1) + 1)).mean()


def labels(*shape: int, of: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape) * 7 % 11 % of


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=F64)


# The twelve translations, in the order of the page: arguments, and the same in torch.
TRANSLATED: dict[str, tuple[Callable[[], tuple[torch.Tensor, ...]], Callable[..., torch.Tensor]]] = {
    "huber": (lambda: (2 * normal(5, 3), normal(5, 3)), F.huber_loss),
    "cross_entropy": (lambda: (normal(5, 4), labels(5, of=4)), F.cross_entropy),
    "focal": (lambda: (normal(5, 3), labels(5, 3, of=2)), focal),
    "kl": (
        lambda: (normal(5, 4), normal(5, 4).softmax(1)),
        lambda z, p: F.kl_div(z.log_softmax(1), p, reduction="batchmean"),
    ),
    "info_nce": (lambda: (normal(5, 3), normal(5, 3)), info_nce),
    "batch_hard": (lambda: (normal(6, 3), torch.tensor([0, 1, 0, 1, 2, 2])), batch_hard),
    "dice": (lambda: (torch.rand(3, 5, dtype=F64), labels(3, 5, of=2)), dice),
    "total_variation": (
        lambda: (normal(2, 4, 5),),
        lambda x: x.diff(dim=1).abs().sum() + x.diff(dim=2).abs().sum(),
    ),
    "gaussian": (
        lambda: (normal(4, 3), normal(4, 3), normal(4, 3)),
        lambda m, v, y: F.gaussian_nll_loss(m, y, v.exp()),
    ),
    "value_regression": (lambda: (normal(6, 3), normal(6, 3)), value_regression),
    "list_mle": (lambda: (normal(3, 5), normal(3, 5)), list_mle),
    "ssim": (lambda: (torch.rand(2, 9, 10, dtype=F64), torch.rand(2, 9, 10, dtype=F64)), ssim),
}


def test_all_translations_are_there() -> None:
    page = (DOCS / "language" / "from_the_paper.md").read_text()
    assert [n for n in TRANSLATED if f"loss {n}:" in page] == list(TRANSLATED)
    assert page.count("```loss") == len(TRANSLATED) == 12


@pytest.mark.parametrize("name", list(TRANSLATED))
def test_a_translation_is_the_formula(name: str) -> None:
    torch.manual_seed(0)
    draw, formula = TRANSLATED[name]
    tensors = [t.requires_grad_() if t.is_floating_point() else t for t in draw()]
    found, wanted = loaded("from_the_paper", name)(*tensors), formula(*tensors)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    real = [t for t in tensors if t.requires_grad]
    ours, theirs = (torch.autograd.grad(v, real, allow_unused=True) for v in (found, wanted))
    for a, b, t in zip(ours, theirs, real):
        zero = torch.zeros_like(t)
        torch.testing.assert_close(zero if a is None else a, zero if b is None else b, rtol=1e-9, atol=1e-12)
