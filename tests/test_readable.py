"""The gradient in a docstring: read as a loss of the language it is the gradient, and nothing of the compiler shows."""

from __future__ import annotations

import re

import numpy as np
import pytest
from references import EXAMPLES, REFERENCES, SPINE

from lossdsl import pipeline
from lossdsl.assemble import gradient_program
from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program
from lossdsl.readable import gradient_lines


def program_of(text: str) -> Program:
    analysis = pipeline.analyse(Source("<test>", text))
    assert not analysis.failed, analysis.diagnostics
    return analysis.losses[-1].program


def written(text: str, lines: tuple[str, ...], wrt: str, axes: str) -> str:
    """The loss with the formula in place of its return: the sum of the gradient times a seed."""
    kept = [line for line in text.split("\n") if not re.match(r"    (return|claim|report)\b", line)]
    while not kept[-1].strip() or kept[-1].startswith("        "):
        kept.pop()  # what a return went on with
    head = next(k for k, line in enumerate(kept) if line.startswith("    input"))
    kept.insert(head, f"    input seed: real{axes}")
    return "\n".join([*kept, *(f"    {line}" for line in lines), f"    return sum(seed * d_{wrt})", ""])


@pytest.mark.parametrize("name", SPINE)
def test_the_formula_is_the_gradient(name: str) -> None:
    text = (EXAMPLES / f"{REFERENCES[name].file}.loss").read_text()
    program = program_of(text)
    lines = gradient_lines(program)
    first = next(i for i in program.inputs if i.differentiable)
    assert all(len(line) <= 100 for line in lines)
    if lines[0].startswith("of "):
        lines = lines[1:]
    for word in ("'", "`", "real(", "return", ".0", ":", "expdiff", " map "):
        assert word not in "\n".join(lines)
    axes = re.search(rf"input (?:\w+, )*{first.name}(?:, \w+)*: \w+(\[[^\]]*\])?", text)
    assert axes is not None
    formula = program_of(written(text, lines, first.name, axes.group(1) or ""))
    arrays, parameters = REFERENCES[name].cases[0](np.random.default_rng(5))
    parameters = {
        p.name: (float if p.kind == "real" else int)(parameters.get(p.name, p.default.value if p.default else 0))
        for p in program.parameters
    }
    output = program.reductions.sum if program.reductions else program.outputs[0].tensor
    derived = gradient_program(program, output, (first.name,))
    for i in program.inputs:
        if i.name not in arrays:
            arrays[i.name] = np.ones([arrays[next(iter(arrays))].shape[1]])
    cotangent = next(i.name for i in derived.inputs if i.role == "cotangent")
    exact = interpret(derived, {**arrays, cotangent: np.array(1.0)}, parameters)[f"d {first.name}"]
    seed = np.random.default_rng(6).normal(size=np.shape(arrays[first.name]))
    found = interpret(formula, {**arrays, "seed": seed}, parameters)["return"]
    wanted = float(np.sum(seed.reshape(np.shape(exact)) * exact))
    assert abs(float(found) - wanted) <= 1e-9 * max(1.0, abs(wanted))


def test_focal_reads_well() -> None:
    program = program_of((EXAMPLES / "classification" / "focal.loss").read_text())
    assert gradient_lines(program) == (
        'of reduction="sum"; that of "mean" is divided by the weight of the elements',
        "a = sign * logits",
        "b = exp(gamma * logsigmoid(-a))",
        "d_logits = logsigmoid(a) * balance * b * gamma * sigmoid(a) * sign -",
        "    balance * b * sigmoid(-a) * sign",
    )


def test_names_of_the_user_are_left_alone() -> None:
    text = """
loss l:
    input a, x: real[n]
    param b: real = 2
    d_x = exp(-b * x^2)
    return sum(a * d_x^2 + d_x * log(1 + d_x))
"""
    lines = gradient_lines(program_of(text.replace("input a, x", "input x, a")))
    assert lines[-1].startswith(("d_x_2 = ", "    "))
    assert not any(line.startswith(("a = ", "b = ", "d_x = ")) for line in lines)


def test_the_docstring_keeps_its_indentation() -> None:
    from torch_losses import module

    text = (EXAMPLES / "classification" / "focal.loss").read_text()
    lines = (module(text).focal.__doc__ or "").split("\n")
    at = next(k for k, line in enumerate(lines) if line.strip().startswith("d_logits = "))
    assert lines[at + 1] == "            balance * b * sigmoid(-a) * sign"
