"""Losses as texts for the tests of the torch target, and a way to load them without the verifier."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from lossdsl import assemble, pipeline
from lossdsl.backends.emit_torch import emit_torch
from lossdsl.backends.spec import ModuleSpec
from lossdsl.diagnostics import Source
from lossdsl.loader import load_module

HUBER = """
loss huber:
    input pred, target: real[...]
    param delta: real > 0 = 1
    r = pred - target
    per = r^2 / 2 if abs(r) <= delta else delta * (abs(r) - delta / 2)
    return mean(per)
"""

CROSS_ENTROPY = """
loss cross_entropy:
    input logits: real[n, c, ...]
    input target: class[n, ...] of c or ignore_index
    input weight: real[c] >= 0 = 1
    param smoothing: real in [0, 1] = 0
    param ignore_index: int = -100
    logp = log_softmax(logits over c)
    nll = -weight[target] * logp[c = target]
    smooth = -mean(weight * logp over c)
    per = (1 - smoothing) * nll + smoothing * smooth
    return sum(per over n, ... where target != ignore_index) /
        sum(weight[target] over n, ... where target != ignore_index)
"""

INFO_NCE = """
loss info_nce:
    input q, k: real[n, d]
    param temperature: real > 0 = 0.5
    axis m = n
    sim[n, m] = sum(q[n, d] * k[m, d] over d) / temperature
    return mean(logsumexp(sim over m) - sim[n, n] over n)
"""

LOG_WHERE = """
loss log_where:
    input x, y: real[n]
    return mean(log(x) * y if x > 0 else y^2)
"""

MASKED = """
loss masked:
    input x: real[n, c]
    input keep: bool[n]
    return sum(logsumexp(sqrt(x) over c) over n where keep)
"""

WORST = """
loss worst:
    input x: real[n, c]
    return mean(max(x^2 over c) over n)
"""

NORMS = """
loss norms:
    input x: real[n, d]
    return sum(norm(x over d))
"""

TWO = """
loss multi:
    input task: real[k]
    learnable log_variance: real[k] = 0
    report weights = exp(-log_variance)
    return sum(exp(-log_variance) * task / 2 + log_variance / 2)

loss hinge:
    input score: real[...]
    input y: sign[...]
    return mean(relu(1 - y * score))
"""


def spec(text: str) -> ModuleSpec:
    """The module spec of a text that must be right."""
    source = Source("test.loss", text)
    analysis = pipeline.analyse(source)
    assert not analysis.failed, analysis.diagnostics
    losses = tuple(assemble.loss_spec(b.program, "torch", None) for b in analysis.losses)
    return ModuleSpec(losses, "0123456789abcdef", "0.0", "test.loss")


def module(text: str) -> ModuleType:
    """The loaded module of a text."""
    return load_module(emit_torch(spec(text)), "test.loss")


def function(text: str) -> Any:
    """The function of the only loss of a text."""
    loaded = module(text)
    names = [
        n for n in loaded.__all__ if not n.endswith("_sum_and_weight") and not isinstance(getattr(loaded, n), type)
    ]
    assert len(names) == 1
    return getattr(loaded, names[0])
