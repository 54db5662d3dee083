"""What stands under a false condition in a recurrence gives no gradient, whatever is in it: not even NaN to earlier rounds."""

from __future__ import annotations

import shutil
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import lossdsl
from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.ir.check import check
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Definition, Group
from lossdsl.ir.rewrite import reads
from lossdsl.ir.text import print_ir
from lossdsl.transform.arithmetic import conjuncts
from lossdsl.transform.dead import without_dead_terms

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler")

# A step of which x is left out where m is false: `step` may read x and m at t (or at [t, i]), and the state before.
STEPS = {
    "a logsumexp": "h[t] = logsumexp(x[t, i] + h[t - 1 else 0] over i) if m[t] else 0",
    "a sum": "h[t] = sum(x * (1 + h[t - 1 else 0]) over i) if m[t] else 0",
    "a product": "h[t] = prod(x + h[t - 1 else 0] over i) if m[t] else 0",
    "two readers": "h[t] = (sum(x * (1 + h[t - 1 else 0]) over i) if m[t] else 0) + (1 if not m[t] else 0)",
    "a reader of more": "h[t] = sum((logsumexp(x * h[t - 1 else 1] over i) if m[t] and j < 2 else 0) * (j + 1) over j)",
    "with other entries": "h[t] = sum(s[t, j] over j)\n    s[t, j] = (sum(x[t, i] * (h[t - 1 else 1]) over i where i >= j) if m[t] else 0)",
    "elementwise": "h[t] = exp(x[t, 0]) * (1 + h[t - 1 else 0]) if m[t] else 0",
    "an extremum": "h[t] = max(x[t, i] + h[t - 1 else 0] over i) if m[t] else 0",
    "a condition on the step before": "h[t] = sum(x[t, i] * (1 + g[t - 1]) over i) if t > 0 and m[t] else (1 if t == 0 else 0)\n    g[t] = h[t]^2",
}


def source(step: str) -> str:
    return f"loss l:\n    input x: real[t, i]\n    input m: bool[t]\n    axis i = 3\n    axis j = i\n    {step}\n    return sum(h)\n"


@cache
def function(step: str, native: bool) -> Any:
    return lossdsl.loads(source(step), native=native).function


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_compiler)])
@pytest.mark.parametrize("name", STEPS)
def test_what_is_left_out_may_be_anything(name: str, native: bool, bad: float) -> None:
    f = function(STEPS[name], native)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    m = torch.tensor([True, False, True, False])
    clean, dirty = (torch.where(m[:, None], x, other).requires_grad_() for other in (0.5, bad))
    want, got = f(clean, m), f(dirty, m)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    wanted = torch.where(m[:, None], torch.autograd.grad(want, clean)[0], 0.0)
    torch.testing.assert_close(torch.autograd.grad(got, dirty)[0], wanted, rtol=1e-12, atol=1e-12)
    if not native:
        torch.testing.assert_close(torch.func.grad(f)(dirty.detach(), m), wanted, rtol=1e-12, atol=1e-12)


# Values of the recurrence itself that are infinite where nothing reads them: all of m is false.
STATES = {
    "a scaling": "f[k, i] = logsumexp(h[k - 1, j else 0] + x[i] over j) if m[i] else 0",
    "one for all entries": "f[k, i] = logsumexp(g[k - 1 else 0] + x[j] over j) if m[i] else 0",
    "an exponential": "f[k, i] = sum(exp(g[k - 1 else 0]) * x[j] over j) if m[i] else 0",
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_is_infinite_and_not_read(name: str) -> None:
    lines = [
        "input x: real[i]",
        "input m: bool[i]",
        "axis j = i",
        "axis k = 3",
        "g[k] = -logsumexp(f[k, i] over i where m[i])",
        "h[k, j] = -logsumexp(f[k, i] + x[i] over i where m[i])",
        STATES[name],
        "return sum(f[k = last])",
    ]
    text = "loss l:\n" + "".join(f"    {line}\n" for line in lines)
    module = lossdsl.loads(text)
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for bits in ([False, False], [True, False], [True, True]):
        m = torch.tensor(bits)
        leaf = x.clone().requires_grad_()
        value = module.function(leaf, m)
        (gradient,) = torch.autograd.grad(value, leaf)
        assert torch.isfinite(value)
        torch.testing.assert_close(torch.func.grad(module.function)(x, m), gradient)
        step = 1e-6
        for e in torch.eye(2, dtype=torch.float64):
            slope = (module.function(x + step * e, m) - module.function(x - step * e, m)) / (2 * step)
            torch.testing.assert_close((gradient * e).sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", STEPS)
def test_the_program_keeps_its_values(name: str) -> None:
    analysis = pipeline.analyse(Source("x.loss", source(STEPS[name])))
    program = analysis.losses[0].program
    changed = without_dead_terms(program)
    check(changed)
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(4, 3)), "m": np.array([True, False, True, True])}
    assert np.array_equal(interpret(program, given, {})["return"], interpret(changed, given, {})["return"])


READERS = {  # of entries that are not the reader's own, under conditions on the reader's: what is read at some is kept
    "one entry": "s[t, i] = sum(x[t, j] * h[t - 1, j else 1] over j where j >= i)\n    h[t, i] = s[t, 0] if n[i] else 0",
    "of the other index": "s[t, i] = sum(x[t, j] * h[t - 1, i, j else 1] over j)\n    h[t, i, j] = s[t, j] if n[i] else x[t, i]",
    "of a later round": "s[t, i] = sum(x[t, j] * h[t, j] over j where j >= i)\n    h[t, i] = (s[t - 1, i] if n[i] and m[t] else 0) if t > 0 else 1",
    "of two rounds later": "s[t, i] = sum(x[t, j] * h[t, j] over j where j >= i)\n    h[t, i] = (s[t - 2, i] if m[t] else 0) if t > 1 else 1",
    "of a reader's reader": "s[t, i] = sum(x[t, j] * h[t - 1, j else 1] over j where j >= i)\n    r[t, i] = s[t, i] if n[i] else 0\n    h[t, i] = r[t, 1] if m[t] else r[t, 2]",
    "by a table": "s[t, i] = sum(x[t, j] * h[t - 1, j else 1] over j where j >= i)\n    h[t, i] = s[t, [2, 0, 1][i]] if n[i] else 0",
    "backward": "s[t, i] = sum(x[t, j] * h[t + 1, j else 1] over j where j >= i)\n    h[t, i] = s[t, 2 - i] if n[i] and m[t] else x",
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_read_at_another_entry_is_kept(name: str) -> None:
    text = source(READERS[name]).replace("    axis i", "    input n: bool[i]\n    axis i")
    (built,) = pipeline.analyse(Source("x.loss", text)).losses
    changed = without_dead_terms(built.program)
    check(changed)
    rng = np.random.default_rng(0)
    for seed in range(8):
        bits = np.random.default_rng(seed).random
        given = {"x": rng.normal(size=(4, 3)), "m": bits(4) < 0.5, "n": bits(3) < 0.5}
        assert np.array_equal(interpret(built.program, given, {})["return"], interpret(changed, given, {})["return"])


def test_only_what_nothing_reads_is_left_out() -> None:
    """A condition of one of two readers, on a returned reduction, on the recurrence itself or on positions says nothing."""
    for step in (
        "h[t] = s[t] if m[t] else s[t] / 2\n    s[t] = sum(x[t, i] * (1 + h[t - 1 else 0]) over i)",
        "h[t] = (s[t] if m[t] else 0) + (h[t - 1 else 0] if t < 3 else s[t])\n    s[t] = sum(x[t, i] * (1 + h[t - 1 else 0]) over i)",
        "h[t] = s[t] if h[t - 1 else 0] > 0 else 0\n    s[t] = sum(x[t, i] * (1 + h[t - 1 else 0]) over i)",
        "h[t] = s[t] if t > 0 else 0\n    s[t] = sum(x[t, i] * (1 + h[t - 1 else 0]) over i)",
    ):
        analysis = pipeline.analyse(Source("x.loss", source(step)))
        program = analysis.losses[0].program
        assert without_dead_terms(program) == program, step


def test_what_is_wanted_itself_is_whole() -> None:
    step = "h[t] = s[t] if m[t] else 0\n    s[t] = sum(x[t, i] * (1 + h[t - 1 else 0]) over i)"
    program = pipeline.analyse(Source("x.loss", source(step))).losses[0].program
    assert without_dead_terms(program) != program
    assert without_dead_terms(program, ("s",)) == program


def test_the_condition_is_that_of_the_round_that_reads() -> None:
    step = "h[t] = x[t, 0] + (s[t - 1] if t > 0 and m[t] else 0)\n    s[t] = sum(x[t, i] * h[t] over i)"
    program = without_dead_terms(pipeline.analyse(Source("x.loss", source(step))).losses[0].program)
    (group,) = (g for g in program.body if isinstance(g, Group))
    found = next(d for d in group.definitions if isinstance(d, Definition) and d.head == "sum")
    assert [c for c in conjuncts(found.where) if "m" in {r.tensor for r in reads(c)}], found
    assert "m[t + 1]" in print_ir(program)
    assert "t + 1 < size(t)" in print_ir(program)
