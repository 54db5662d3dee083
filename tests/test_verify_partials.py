"""Lipschitz bounds in l1 by partial derivatives: what they prove, and losses whose derivatives say too little."""

from __future__ import annotations

import numpy as np
import pytest

from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Const
from lossdsl.pipeline import analyse
from lossdsl.verify import moduli, partials, properties
from lossdsl.verify.context import Context
from lossdsl.verify.verdict import Proved

INPUTS = "    input x: real[n, c]\n    input s: real[n, c] in [0, 1]\n    param w: real in [0, 1] = 1/2\n"

TRUE = [
    "sum(s * softplus(-x) + (1 - s) * softplus(x) over c)",
    "sum(softplus(x) over c) - logsumexp(x over c)",
    "sum(w * abs(x) over c)",
    "sum(relu(x) + tanh(-x) * 0 over c)",
    "logsumexp(x over c) - sum(sigmoid(x) over c)",
]
FALSE = [
    "sum(1.1 * softplus(x) over c)",
    "sum(floor(x) over c)",  # all derivatives are 0, but it jumps
    "sum((x if x > 0 else 1 + x) over c)",
    "sum(2 * stop(x) over c)",  # a derivative that is declared
    "sum(straight_through(3 * x, x) over c)",
    "sum(s * softplus(-x) + (2 - s) * softplus(x) over c)",
    "2 * logsumexp(x over c) - sum(sigmoid(x) / 2 over c)",
    "sum(softplus(x) over c)^2",
]


def asked(body: str):
    text = f"loss l:\n{INPUTS}    per[n] = {body}\n    return mean(per over n)\n"
    analysis = analyse(Source("x.loss", text))
    assert analysis.losses, analysis.diagnostics
    return analysis.losses[0]


def entrywise(built):
    ctx, per = Context(built.program, seconds=0.2), built.tensors["per"]
    return partials.lipschitz(ctx, per, "x", Const(1), lambda: moduli.lipschitz(ctx, per, "x"))


@pytest.mark.parametrize("body", TRUE)
def test_what_partial_derivatives_prove(body):
    assert isinstance(entrywise(asked(body)), Proved)


@pytest.mark.parametrize("body", FALSE)
def test_what_they_do_not(body):
    built = asked(body)
    assert entrywise(built) is None
    ctx = Context(built.program, seconds=0.2)
    assert not isinstance(properties.lipschitz(ctx, built.tensors["per"], ("x",), Const(1), "l1"), Proved)


@pytest.mark.parametrize("body", TRUE)
def test_no_drawn_pair_is_steeper(body):
    built = asked(body)
    rng = np.random.default_rng(1)
    used, known = {i.name for i in built.program.inputs}, {p.name for p in built.program.parameters}
    for _ in range(150):
        c = int(rng.integers(1, 5))
        x = rng.normal(size=(1, c)) * rng.choice([0.1, 1.0, 20.0])
        y = x + rng.normal(size=(1, c)) * (rng.random((1, c)) < 0.6) * rng.choice([1e-3, 1.0, 30.0])
        s, w = rng.choice([0.0, 1.0, 0.3], size=(1, c)), float(rng.random())

        def value(z, s=s, w=w):
            inputs = {k: v for k, v in {"x": z, "s": s}.items() if k in used}
            found = interpret(built.program, inputs, {"w": w} if "w" in known else {}, outputs=[built.tensors["per"]])
            return float(np.asarray(found[built.tensors["per"]])[0])

        assert abs(value(x) - value(y)) <= np.abs(x - y).sum() * (1 + 1e-9) + 1e-9
