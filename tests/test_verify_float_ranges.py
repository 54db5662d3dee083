"""Ranges of float32 arithmetic: what is exact in it, what cannot be tiny, weights and norms; and counterexamples with
structure, run by torch."""

from __future__ import annotations

import re

import pytest

import lossdsl
from lossdsl.verify.verdict import Refuted
from tests.test_verify_attack import status

X, ROW = "input x: real[n]", "input x: real[n, c]"
SIMPLEX = "input p: simplex[n, c] over c"

# (declarations, the element, the type, what is decided of it); near misses beside what is proved
DECIDED = [
    # a product with what is at most 1 is not above the other factor; a large number plus 0.7 is that number
    ("input p: real[n] in [0, 1]\ninput x: real[n]", "p * x", "float32", "proved"),
    ("input p: real[n] in [0, 2]\ninput x: real[n]", "p * x", "float32", "refuted"),
    (X, "softplus(x)", "float32", "proved"),
    (X, "softplus(x) + softplus(x)", "float32", "refuted"),
    (X, "logsigmoid(x)", "bfloat16", "proved"),
    ("input x, y: real[n]", "logaddexp(x, y)", "float32", "proved"),
    # 1 - p is not below 0, so that it has a root
    ("input p: real[n] in [0, 1]", "stop(sqrt(1 - p)) * p", "float32", "proved"),
    ("input p: real[n] in [0, 1.5]", "stop(sqrt(1 - p)) * p", "float32", "refuted"),
    # what is not 0 in float16 is at least 2^-24, and a difference of such too
    ("input x, y: real[n]", "stop(0 if x - y == 0 else 1 / (x - y)) * x / 1024", "float16", "proved"),
    ("input x, y: real[n]", "stop(0 if x - y == 0 else 1 / (x - y)) * x / 128", "float16", "refuted"),
    ("input x, k: real[n]", "stop(0 if x * k == 0 else 1 / (x * k)) * x / 1024", "float16", "refuted"),
    (X, "stop(0 if x == 0 and x < 1 else 1 / x) * x / 1024", "float16", "proved"),
    (X, "stop(0 if x == 0 and x < 0 else 1 / x) * x / 1024", "float16", "refuted"),
    # an entry over the norm of its row
    (ROW, "norm(x over c)", "float16", "proved"),
    ("input x, y: real[n, c]", "norm(x - y over c)", "float16", "proved"),
    (ROW, "norm(x over c)", "float32", "refuted"),
    (ROW, "60000 * norm(x over c)", "float16", "proved"),
    (ROW, "70000 * norm(x over c)", "float16", "refuted"),
    # points of a simplex: norms, and sums with their weights
    (f"{SIMPLEX}\ninput x: real[n] in [-1, 1]", "stop(1 / norm(p over c)) * x", "float16", "proved"),
    (f"{SIMPLEX}\ninput x: real[n] in [-1, 1]", "stop(1 / min(p over c)) * x", "float16", "refuted"),
    (f"{SIMPLEX}\ninput x: real[n]", "x * sum(stop(p) over c)", "float16", "proved"),
    # a fold that selects its own place has an element
    (
        "input x, t: real[n] in [0, 9]\naxis m = n",
        "stop(logsumexp(x[m] over m where t[m] >= t[n])) * x",
        "float16",
        "proved",
    ),
    (
        "input x, t: real[n] in [0, 9]\naxis m = n",
        "stop(logsumexp(x[m] over m where t[m] > t[n])) * x",
        "float16",
        "refuted",
    ),
    # several numbers are split together
    ("input x, y: real[n]\nparam d: real > 0 = 1", "d * sqrt(1 + ((x - y) / d)^2)", "float16", "proved"),
    ("input x, y: real[n]\nparam d: real > 0 = 1", "((x - y) / d)^2", "float16", "refuted"),
]


@pytest.mark.parametrize(
    ("declared", "body", "word", "expected"), DECIDED, ids=[f"{b} in {w}" for _, b, w, _ in DECIDED]
)
def test_what_is_decided(declared: str, body: str, word: str, expected: str) -> None:
    found = status(f"{declared}\nper = {body}", f"finite in {word}")
    assert found == expected


SLOW = [
    (ROW, "norm(x + 1e-6 over c)", "float16"),  # the sum of squares of what is tiny may be flushed to 0
    ("input p: prob[n, c]\ninput x: real[n]", "x * sum(stop(p) over c)", "float16"),
    (ROW, "norm(x^2 - x over c)", "float16"),  # the square is contracted in one place, and not in another
]


@pytest.mark.slow
@pytest.mark.parametrize(("declared", "body", "word"), SLOW, ids=[b for _, b, _ in SLOW])
def test_near_misses(declared: str, body: str, word: str) -> None:
    assert status(f"{declared}\nper = {body}", f"finite in {word}") != "proved"


def witness(text: str) -> Refuted:
    verdict = lossdsl.check(lossdsl.Source("t.loss", text)).claims[0].verdict
    assert isinstance(verdict, Refuted)
    return verdict


# what overflows, or is no number, where parameters are at their ends or alike, signs alternate, axes are long
BREAKING = [
    ("input x: real[n] in [low, high]\nparam low, high: real = 0, 1", "(x - low) / (high - low)", "float16"),
    ("input x: real[n, c]", "max(x over c) + sum(x over c) * stop(0 * exp(min(x over c)))", "float16"),
    ("input x: real[n]\ninput w: real[k] in [0, 1]", "sum(x * w over k)", "float16"),
]


@pytest.mark.parametrize(("declared", "body", "word"), BREAKING, ids=[b for _, b, _ in BREAKING])
def test_torch_breaks_there(declared: str, body: str, word: str) -> None:
    torch = pytest.importorskip("torch")
    lines = "".join(f"    {line}\n" for line in declared.splitlines())
    text = f"loss t:\n{lines}    per = {body}\n    return sum(per)\n    claim finite in {word}\n"
    found = witness(text)
    point, arguments = found.witness.points[0], {}
    long = {
        m[1]: (int(m[2]), int(m[3]))
        for m in re.finditer(r"(\w+) is (\d+), its elements alike from (\d+)", found.witness.violation)
    }
    for name in sorted({k.split("[")[0] for k in point if "[" in k}):
        entries = {
            tuple(map(int, k[len(name) + 1 : -1].split(","))): float(v)
            for k, v in point.items()
            if k.startswith(f"{name}[")
        }
        tensor = torch.zeros([max(axis) + 1 for axis in zip(*entries, strict=True)], dtype=getattr(torch, word))
        for place, v in entries.items():
            tensor[place] = v
            assert float(tensor[place]) == v
        axes = re.search(rf"\b{name}: \w+\[([^\]]*)\]", declared.replace(" low, high", ""))
        for k, axis in enumerate(axes[1].split(", ") if axes else ()):
            if axis in long:
                size, last = long[axis]
                tensor = tensor.index_select(k, torch.arange(size).clamp(max=last))
        arguments[name] = tensor.requires_grad_()
    parameters = {k: float(v) for k, v in point.items() if "[" not in k}
    per = lossdsl.loads(text).function(**arguments, **parameters, reduction="none")
    gradients = torch.autograd.grad(per.float().sum(), list(arguments.values()), allow_unused=True)
    assert not all(bool(t.isfinite().all()) for t in (per, *gradients) if t is not None)
