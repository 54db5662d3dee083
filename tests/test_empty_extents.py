"""Axes without entries: empty batches, sequences of no steps, no classes. The torch module is what the interpreter is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_losses import module

from lossdsl import pipeline
from lossdsl.assemble import differentiable, gradient_program
from lossdsl.diagnostics import Source
from lossdsl.ir.extents import polynomial
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Const, Parameter, Program

EXAMPLES = Path(__file__).parents[1] / "examples"

GATHER = """
loss gather:
    input x: real[n, c]
    input k: class[m] of n
    return mean(x[n = k]^2) + sum(x)
"""
SEGMENTS = """
loss segments:
    input x: real[n]
    input k: class[n] of g
    input w: real[g]
    top[g] = max(x over n where k[n] == g else -1)
    low[g] = logsumexp(x over n where k[n] == g)
    total[g] = sum(x over n where k[n] == g)
    return sum(w * (top + total)) + sum(low where low > -10)
"""
WINNERS = """
loss winners:
    input x: real[n, c]
    input keep: bool[n, c]
    best = argmax(x over c)
    kept = argmin(x over c where keep else 0)
    top = max(x over n, c else 0)
    return sum(x[c = best]) + sum(x[c = kept]) + sum(top * x) + sum(max(x over c where keep else 2)) + sum(min(x over n else 3))
"""
SORTED = """
loss ranked:
    input x: real[b, n, d]
    axis e = d
    order = sort(x over n descending)
    near[b, d, e] = sum(x[b, n, d] * x[b, n, e] over n) + (1 if d == e else 0)
    return sum(order * (n + 1)) + sum(cumsum(x over n)^2) + sum(logdet(near over d, e)) +
        sum(inverse(near over d, e)) + sum(median(x over n else 0)) + sum(quantile(x, q = 0.3 over n, d else 1))
"""
STEPS = """
loss steps:
    input x: real[t, b]
    input first: real[b]
    level[t, b] = tanh(x[t, b] + 0.5 * level[t - 1, b else first[b]])
    return sum(level[t = last]) + mean(level^2) + sum(softmax(x over t) * level) + sum(x[edge(t + 1), b] * x)
"""
OWN = {"gather": GATHER, "segments": SEGMENTS, "winners": WINNERS, "ranked": SORTED, "steps": STEPS}
NAMED = [
    "transport/chamfer",
    "sequence/crf_nll",
    "sequence/ctc",
    "sequence/transducer",
    "imbalance/generalized_dice",
    "semi_supervised/fixmatch",
    "ranking/listmle",
    "imbalance/lovasz_softmax",
]


def arguments(p: Program, extents: dict[str, int]) -> dict[str, Any]:
    """Arrays of these extents."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for i in p.inputs:
        shape = tuple(d.evaluate(extents) for d in i.dims)
        classes = 2 if i.classes is None else i.classes.evaluate(extents)
        if i.kind == "class" and classes == 0:
            arrays[i.name] = np.zeros(shape, dtype=np.int64)  # out of range, as any other would be
        elif i.kind in ("class", "int", "binary", "bool"):
            arrays[i.name] = rng.integers(0, classes, shape).astype(bool if i.kind == "bool" else np.int64)
        else:
            arrays[i.name] = rng.uniform(0.1, 0.9, shape)
    return arrays


def admitted(q: Parameter, value: float, extents: dict[str, int]) -> bool:
    """Whether a value is not above a bound that is made of extents."""
    bound = None if q.range.upper is None or isinstance(q.range.upper, Const) else polynomial(q.range.upper)
    return bound is None or value < (bound + (0 if q.range.upper_open else 1)).evaluate(extents)


@pytest.mark.parametrize("name", [*OWN, *NAMED])
def test_no_entries_along_each_axis(name: str) -> None:
    text = OWN[name] if name in OWN else (EXAMPLES / f"{name}.loss").read_text()
    p = pipeline.analyse(Source("t.loss", text)).losses[-1].program
    function = getattr(module(text), p.name)
    wrt = differentiable(p)
    g = gradient_program(p, p.outputs[0].tensor, wrt)
    (seed,) = [i.name for i in g.inputs if i.role == "cotangent"]
    defaults = {q.name: q.default.value for q in p.parameters if q.default is not None}
    kinds = {"real": float, "int": int, "bool": bool}
    parameters = {q.name: kinds[q.kind](defaults[q.name]) for q in p.parameters if q.name in defaults}
    symbols = sorted({s for i in p.inputs for d in i.dims for s in d.symbols()} - set(parameters))
    assert symbols
    for empty in symbols:
        extents = {**dict.fromkeys(symbols, 3), empty: 0}
        arrays = arguments(p, extents)
        if any(not admitted(q, parameters[q.name], extents) for q in p.parameters if q.name in parameters):
            # no class can be the blank where there are no classes: a parameter that is an index is refused
            with pytest.raises(ValueError, match="is outside of its range"):
                function(**{n: torch.tensor(a) for n, a in arrays.items()}, **parameters)
            continue
        want = interpret(g, {**arrays, seed: np.asarray(1.0)}, parameters)
        tensors = {n: torch.tensor(a, requires_grad=n in wrt) for n, a in arrays.items()}
        value = function(**tensors, **parameters)
        np.testing.assert_allclose(value.detach(), want["return"], rtol=1e-9, err_msg=empty)
        found = torch.autograd.grad(value, [tensors[n] for n in wrt], allow_unused=True)
        for n, grad in zip(wrt, found, strict=True):
            ours = np.zeros_like(arrays[n]) if grad is None else grad.detach().numpy()
            np.testing.assert_allclose(ours, want[f"d {n}"], rtol=1e-9, atol=1e-12, err_msg=f"{empty}: d {n}")
        assert torch.equal(function(**{n: t.detach() for n, t in tensors.items()}, **parameters).isnan(), value.isnan())
