"""The torch and Triton texts of the records: values, autograd derivatives (twice), kinks, limits, extremes."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

from lossdsl.primitives import PRIMITIVES, TORCH_HELPERS, TRITON_HELPERS, helper_sources
from lossdsl.primitives.algebra import MpmathAlgebra, NumpyAlgebra
from lossdsl.primitives.interval import Interval
from lossdsl.primitives.record import UNAVAILABLE, Dtype, Primitive

torch = pytest.importorskip("torch")
mp = mpmath.mp
NUMPY, MPMATH = NumpyAlgebra(), MpmathAlgebra(mp)

WITH_TORCH = [pytest.param(p, id=n) for n, p in PRIMITIVES.items() if p.torch != UNAVAILABLE and p.arguments]
DIFFERENTIABLE = [q for q in WITH_TORCH if any(f is not None for f in q.values[0].partials)]
WITH_TRITON = [p for p in PRIMITIVES.values() if p.triton != UNAVAILABLE and p.arguments]

# Accuracy of torch's own float64 kernels where it is not near an ulp.
TORCH_RTOL = {
    "lgamma": 1e-10,
    "digamma": 1e-10,
    "trigamma": 1e-9,
    "polygamma": 1e-9,
    "log_normal_cdf": 1e-12,
    "normal_cdf": 1e-12,
}
# Near the zeros of these the error is absolute.
ATOL = {"lgamma": 1e-12, "digamma": 1e-12, "sin": 1e-15, "cos": 1e-15, "tan": 1e-15}


def _function(p: Primitive, text: str) -> Callable[..., Any]:
    """The text as a Python function, with its helpers."""
    space: dict[str, Any] = {"torch": torch, "math": math}
    for source in helper_sources([text], TORCH_HELPERS):
        exec(source, space)
    names = [f"x{i}" for i in range(len(p.arguments))]
    exec(f"def f({', '.join(names)}):\n    return {text.format(*names)}", space)
    function: Callable[..., Any] = space["f"]
    return function


def _points(p: Primitive, count: int = 25) -> list[tuple[float, ...]]:
    """Finite points of the domain that are random, away from kinks."""
    rng = random.Random(p.name)
    points: list[tuple[float, ...]] = []
    for _ in range(60 * count):
        scale = 10.0 ** rng.uniform(-1.0, 1.0)
        point = tuple(
            abs(rng.gauss(0, scale)) * rng.choice((1, 1, -1)) if d is Dtype.REAL else float(rng.randint(1, 4))
            for d in p.accepts
        )
        if p.defined(*(Interval(x, x) for x in point)) and all(
            abs(float(k.surface(NUMPY, *map(np.float64, point)))) > 1e-2 for k in p.kinks
        ):
            points.append(point)
        if len(points) == count:
            return points
    return points


def _tensors(p: Primitive, point: tuple[float, ...], dtype: Any, grad: bool = False) -> list[Any]:
    """One-element tensors; the INT argument of a REAL function is a literal in emitted code, and a Python int here."""
    return [
        torch.tensor([x], dtype=dtype, requires_grad=grad)
        if d is Dtype.REAL
        else int(x)
        if p.result is Dtype.REAL
        else torch.tensor([int(x)])
        for x, d in zip(point, p.accepts, strict=True)
    ]


def _truth(p: Primitive, point: tuple[float, ...]) -> float:
    with mp.workdps(60):
        return float(
            p.reference(mp, *(mp.mpf(x) if d is Dtype.REAL else int(x) for x, d in zip(point, p.accepts, strict=True)))
        )


def _close(value: float, truth: float, rtol: float, atol: float) -> bool:
    if isnan(truth) or isnan(value):
        return isnan(truth) and isnan(value)
    if not isfinite(truth) or not isfinite(value):
        return value == truth
    return abs(value - truth) <= rtol * abs(truth) + atol


@pytest.mark.parametrize("p", WITH_TORCH)
def test_torch_values_in_float64(p: Primitive) -> None:
    for text in {p.torch, p.torch_ad}:
        f = _function(p, text)
        for point in (*p.samples, *_points(p)):
            value = f(*_tensors(p, point, torch.float64)).item()
            assert _close(value, _truth(p, point), TORCH_RTOL.get(p.name, 1e-13), ATOL.get(p.name, 1e-300)), (
                *(p.name, text, point, value, _truth(p, point)),
            )


@pytest.mark.parametrize("p", WITH_TORCH)
def test_torch_values_in_float32(p: Primitive) -> None:
    """At the samples, extremes included: no inf or nan where the value is a float32, and the dtype is kept."""
    for text in {p.torch, p.torch_ad}:
        f = _function(p, text)
        for point in p.samples:
            rounded = tuple(float(np.float32(x)) for x in point)
            if p.domain and isfinite(_truth(p, point)) and not isfinite(_truth(p, rounded)):
                continue
            result = f(*_tensors(p, rounded, torch.float32))
            truth = float(np.float32(_truth(p, rounded)))
            if p.result is Dtype.REAL:
                assert result.dtype is torch.float32
            assert _close(result.item(), truth, 3e-5, 1e-6), (p.name, text, point, result.item(), truth)


def _partial(p: Primitive, k: int, point: tuple[float, ...]) -> float:
    formula = p.partials[k]
    if formula is None:
        return 0.0
    values = [np.float64(x) if d is Dtype.REAL else np.int64(x) for x, d in zip(point, p.accepts, strict=True)]
    with np.errstate(all="ignore"):
        return float(formula(NUMPY, *values))


def _gradients(outputs: Any, inputs: list[Any], create: bool) -> list[Any]:
    if not outputs.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    found = torch.autograd.grad(outputs.sum(), inputs, create_graph=create, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


@pytest.mark.parametrize("p", DIFFERENTIABLE)
def test_autograd_gives_the_partials(p: Primitive) -> None:
    """Also at kinks, at infinite arguments where the value is finite, and at large arguments."""
    f = _function(p, p.torch_ad)
    real = [k for k, d in enumerate(p.accepts) if d is Dtype.REAL]
    for point in (*p.samples, *_points(p)):
        if not isfinite(_truth(p, point)):
            continue
        inputs = _tensors(p, point, torch.float64, grad=True)
        found = _gradients(f(*inputs), [inputs[k] for k in real], create=False)
        for k, g in zip(real, found, strict=True):
            expected = _partial(p, k, point)
            rtol = 1e-8 if p.name in TORCH_RTOL else 1e-11
            assert _close(g.item(), expected, rtol, 1e-15), (p.name, k, point, g.item(), expected)


@pytest.mark.parametrize("p", DIFFERENTIABLE)
def test_autograd_twice_gives_the_partials_of_the_partials(p: Primitive) -> None:
    f = _function(p, p.torch_ad)
    real = [k for k, d in enumerate(p.accepts) if d is Dtype.REAL]
    for point in _points(p, 12):
        inputs = _tensors(p, point, torch.float64, grad=True)
        first = _gradients(f(*inputs), [inputs[k] for k in real], create=True)
        for k, g in zip(real, first, strict=True):
            second = _gradients(g, [inputs[j] for j in real], create=False)
            for j, h in zip(real, second, strict=True):
                formula = p.partials[k]
                assert formula is not None

                def along(t: Any, j: int = j, formula: Any = formula, point: Any = point) -> Any:
                    values = [mp.mpf(x) if d is Dtype.REAL else int(x) for x, d in zip(point, p.accepts, strict=True)]
                    values[j] = t
                    return formula(MPMATH, *values)

                with mp.workdps(60):
                    truth = float(mp.diff(along, mp.mpf(point[j]), h=mp.mpf(10) ** -20))
                rtol = 1e-6 if p.name in TORCH_RTOL else 1e-9
                assert _close(h.item(), truth, rtol, 1e-12 * (1 + abs(g.item()))), (
                    p.name,
                    k,
                    j,
                    point,
                    h.item(),
                    truth,
                )


@pytest.mark.parametrize("p", DIFFERENTIABLE)
def test_second_derivatives_are_finite_at_samples(p: Primitive) -> None:
    """Where the value is finite, autograd twice gives no nan: at kinks, limits and extremes."""
    f = _function(p, p.torch_ad)
    real = [k for k, d in enumerate(p.accepts) if d is Dtype.REAL]
    for point in p.samples:
        if not isfinite(_truth(p, point)) or not all(isfinite(x) for x in point):
            continue
        inputs = _tensors(p, point, torch.float64, grad=True)
        first = _gradients(f(*inputs), [inputs[k] for k in real], create=True)
        for g in first:
            for h in _gradients(g, [inputs[k] for k in real], create=False):
                assert not isnan(h.item()), (p.name, point)


def test_second_derivatives_at_kinks() -> None:
    def second(name: str, x: float) -> float:
        p = PRIMITIVES[name]
        inputs = _tensors(p, (x,), torch.float64, grad=True)
        (g,) = _gradients(_function(p, p.torch_ad)(*inputs), inputs, create=True)
        return float(_gradients(g, inputs, create=False)[0].item())

    assert second("logcosh", 0.0) == pytest.approx(1.0)
    assert second("softplus", 0.0) == pytest.approx(0.25)
    assert second("sigmoid", 0.0) == pytest.approx(0.0)
    assert second("tanh", 0.0) == pytest.approx(0.0)
    assert second("log_normal_cdf", 50.0) == pytest.approx(0.0)
    assert second("log_normal_cdf", -1e4) == pytest.approx(-1.0)
    assert second("sqrt", 0.0) == 0.0


@pytest.mark.parametrize(("exponent", "expected"), [(0.5, 0.0), (1.0, 0.0), (1.5, 0.0), (2.0, 2.0), (3.0, 0.0)])
def test_second_derivative_of_powers_at_zero(exponent: float, expected: float) -> None:
    """Autograd twice, and the partial of the partial in the record."""
    p = PRIMITIVES["pow"]
    a, b = _tensors(p, (0.0, exponent), torch.float64, grad=True)
    (g,) = _gradients(_function(p, p.torch_ad)(a, b), [a], create=True)
    assert _gradients(g, [a], create=False)[0].item() == expected
    if exponent >= 1.0:  # below it the first partial is the constant 0 there
        assert exponent * _partial(p, 0, (0.0, exponent - 1.0)) == expected


@pytest.mark.parametrize("p", DIFFERENTIABLE)
def test_forward_mode_and_vmap(p: Primitive) -> None:
    """The texts run under functorch transforms, where the composite form is used."""
    if p.name in ("powi", "polygamma"):
        return
    f = _function(p, p.torch_ad)
    point = _points(p, 1)[0]
    inputs = [x.squeeze(0) for x in _tensors(p, point, torch.float64)]
    for k in range(len(point)):
        _, tangent = torch.func.jvp(
            lambda t, k=k: f(*inputs[:k], t, *inputs[k + 1 :]), (inputs[k],), (torch.ones_like(inputs[k]),)
        )
        assert _close(tangent.item(), _partial(p, k, point), 1e-8, 1e-12), (p.name, k)
    torch.func.vmap(torch.func.grad(lambda t: f(t, *inputs[1:])))(inputs[0].repeat(3))


# ------------------------------------------------------------------------------------------------ Triton

SCRIPT = """\
import sys
import numpy as np
import torch
import triton
import triton.language as tl

{helpers}

{kernels}

data = np.load(sys.argv[1])
results = {{}}
for key in sorted({{k.rsplit(".", 1)[0] for k in data.files}}):
    name, width = key.split("@")
    columns = [torch.from_numpy(data[f"{{key}}.{{i}}"]) for i in range(ARITY[name.split("#")[0]])]
    out = torch.zeros(columns[0].shape, dtype=torch.float32 if width == "32" else torch.float64)
    globals()["kernel_" + name.replace("#", "_")][(1,)](*columns, out, columns[0].numel(), BLOCK=1024)
    results[key] = out.numpy()
np.savez(sys.argv[2], **results)
"""


def _kernel(name: str, text: str, kinds: tuple[Dtype, ...], literals: dict[int, str]) -> str:
    pointers = [f"p{i}" for i in range(len(kinds))]
    loads = [f"    x{i} = tl.load(p{i} + at, mask=at < n, other=1)" for i in range(len(kinds)) if i not in literals]
    operands = [literals.get(i, f"x{i}") for i in range(len(kinds))]
    return "\n".join(
        [
            "@triton.jit",
            f"def kernel_{name.replace('#', '_')}({', '.join(pointers)}, out, n, BLOCK: tl.constexpr):",
            "    at = tl.arange(0, BLOCK)",
            *loads,
            f"    tl.store(out + at, {text.format(*operands)}, mask=at < n)",
        ]
    )


def _in_float32(point: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(np.float32(x)) for x in point)


@pytest.fixture(scope="module")
def triton_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[tuple[float, ...]], Any]]:
    """Every Triton text run once in the interpreter, in float64 and float32; keyed "name@width"."""
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("triton")
    columns: dict[str, Any] = {}
    points: dict[str, list[tuple[float, ...]]] = {}
    kernels = []
    for p in WITH_TRITON:
        groups: dict[str, tuple[list[tuple[float, ...]], dict[int, str]]] = {}
        every = [*p.samples, *_points(p, 60)]
        if p.name == "powi":  # the exponent is a literal
            for k in sorted({s[1] for s in every}):
                suffix = f"{int(k)}".replace("-", "m")
                groups[f"powi#{suffix}"] = [s for s in every if s[1] == k], {1: str(int(k))}
        else:
            groups[p.name] = every, {}
        for name, (chosen, literals) in groups.items():
            kernels.append(_kernel(name, p.triton, p.accepts, literals))
            for width in ("64", "32"):
                rows = chosen if width == "64" else [_in_float32(s) for s in chosen]
                real = np.float64 if width == "64" else np.float32
                key = f"{name}@{width}"
                points[key] = rows
                for i, d in enumerate(p.accepts):
                    kind = real if d is Dtype.REAL else np.int64
                    columns[f"{key}.{i}"] = np.asarray([s[i] for s in rows]).astype(kind)
    arity = {p.name: len(p.arguments) for p in WITH_TRITON}
    helpers = "\n\n".join(helper_sources([p.triton for p in WITH_TRITON], TRITON_HELPERS))
    script = folder / "kernels.py"
    script.write_text(SCRIPT.format(helpers=helpers, kernels=f"ARITY = {arity!r}\n\n" + "\n\n".join(kernels)))
    source, target = folder / "in.npz", folder / "out.npz"
    np.savez(source, **columns)
    done = subprocess.run(
        [sys.executable, str(script), str(source), str(target)],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = np.load(target)
    return {key: (points[key], results[key]) for key in points}


# The general power is exp(b log a): its relative error grows with |b log a|.
TRITON_RTOL = {
    "pow": 40,
    "cosh": 20,
    "sinh": 20,
    "erfc": 100,
    "normal_cdf": 1000,
    "inverse_mills": 1000,
    "log_normal_cdf": 1000,
}


@pytest.mark.parametrize("width", ["64", "32"])
@pytest.mark.parametrize("p", [pytest.param(p, id=p.name) for p in WITH_TRITON])
def test_triton_values(p: Primitive, width: str, triton_results: dict[str, Any]) -> None:
    step = 2.0**-52 if width == "64" else 2.0**-23
    least = 1e-300 if width == "64" else 1e-37
    keys = [k for k in triton_results if k.split("@")[0].split("#")[0] == p.name and k.endswith("@" + width)]
    assert keys
    for key in keys:
        for point, value in zip(*triton_results[key], strict=True):
            truth = _truth(p, point)
            if width == "32":
                with np.errstate(over="ignore"):
                    truth = float(np.float32(truth))
            atol = max(
                least,
                4 * step
                if p.name in ("sin", "cos", "tan", "asin", "acos", "logaddexp", "sub", "add", "log10", "log2", "log")
                else least,
            )
            rtol = step * max(16, TRITON_RTOL.get(p.name, 0))
            assert _close(float(value), truth, rtol, atol), (p.name, width, point, float(value), truth)


def test_triton_powers_of_negative_numbers(tmp_path: Path) -> None:
    """Rounding can put a base that is 0 in theory a little below 0: whole exponents still have their value."""
    pytest.importorskip("triton")
    helpers = "\n\n".join(helper_sources(["_h_pow_tl({0}, {1})"], TRITON_HELPERS))
    kernel = _kernel("pow", "_h_pow_tl({0}, {1})", (Dtype.REAL, Dtype.REAL), {})
    script, source, target = tmp_path / "k.py", tmp_path / "in.npz", tmp_path / "out.npz"
    script.write_text(SCRIPT.format(helpers=helpers, kernels="ARITY = {'pow': 2}\n\n" + kernel))
    np.savez(source, **{"pow@64.0": np.full(4, -2.0), "pow@64.1": np.asarray([2.0, 3.0, 0.0, 0.5])})
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, str(script), str(source), str(target)], env=environment, check=True)
    result = np.load(target)["pow@64"]
    assert result[:3] == pytest.approx([4.0, -8.0, 1.0])
    assert isnan(result[3])
