"""Losses of one input for the tests of the verifier, and how they are asked about."""

from __future__ import annotations

from lossdsl.diagnostics import Source
from lossdsl.pipeline import analyse
from lossdsl.verify.context import Context


def asked(text: str) -> tuple[Context, str]:
    analysis = analyse(Source("x.loss", text))
    assert analysis.losses, analysis.diagnostics
    program = analysis.losses[0].program
    target = program.target or analysis.losses[0].tensors.get("per") or program.outputs[0].tensor
    return Context(program, seconds=0.4), target


def loss(body: str, *, x: str = "real[n]", more: str = "") -> str:
    return f"loss l:\n    input x: {x}\n{more}    per[n] = {body}\n    return mean(per over n)\n"
