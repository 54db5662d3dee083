"""Stable forms: equal where both evaluate, finite where the true value is, in values and in gradients."""

from __future__ import annotations

import re
from typing import Any

import mpmath
import numpy as np
import pytest
from derivatives import gradient, program

from lossdsl.ir.check import check
from lossdsl.ir.interpret import interpret
from lossdsl.transform.simplify import simplify
from lossdsl.transform.stabilise import stabilise

BODIES: dict[str, tuple[str, Any, tuple[float, ...]]] = {
    "softplus": ("log(1.0 + exp(x))", lambda m, x: m.log(1 + m.exp(x)), (-800.0, -40.0, 0.0, 40.0, 800.0)),
    "softplus turned": ("log(exp(x) + 1.0)", lambda m, x: m.log(1 + m.exp(x)), (-800.0, 0.0, 800.0)),
    "softplus by log1p": ("log1p(exp(-x))", lambda m, x: m.log(1 + m.exp(-x)), (-800.0, 0.0, 800.0)),
    "logsigmoid": ("log(sigmoid(x))", lambda m, x: m.log(1 / (1 + m.exp(-x))), (-800.0, -200.0, 0.0, 200.0)),
    "logistic": ("log(1.0 / (1.0 + exp(-x)))", lambda m, x: -m.log(1 + m.exp(-x)), (-800.0, 0.0, 800.0)),
    "log one minus": ("log(1.0 - sigmoid(x))", lambda m, x: -m.log(1 + m.exp(x)), (-50.0, 0.0, 50.0, 800.0)),
    "sigmoid": ("exp(x) / (1.0 + exp(x))", lambda m, x: 1 / (1 + m.exp(-x)), (-800.0, 0.0, 800.0)),
    "one minus sigmoid": ("1.0 - sigmoid(x)", lambda m, x: 1 / (1 + m.exp(x)), (-50.0, 0.0, 60.0, 700.0)),
    "log1p": ("log(1.0 + x)", lambda m, x: m.log(1 + x), (1e-17, 1e-30, 0.5, 1e300)),
    "log1p minus": ("log(1.0 - x)", lambda m, x: m.log(1 - x), (1e-17, 1e-30, 0.5, -1e300)),
    "expm1": ("exp(x) - 1.0", lambda m, x: m.expm1(x), (1e-17, -1e-20, 1.0, -50.0)),
    "expm1 negated": ("1.0 - exp(x)", lambda m, x: -m.expm1(x), (1e-17, -1e-20, 1.0, -50.0)),
    "logcosh": ("log(cosh(x))", lambda m, x: m.log(m.cosh(x)), (-1000.0, -1.0, 0.5, 1000.0)),
    "log1mexp": ("log(1.0 - exp(x))", lambda m, x: m.log(-m.expm1(x)), (-1e-18, -0.5, -40.0, -700.0)),
    "log of exp": ("log(exp(x))", lambda m, x: x, (-1000.0, -1.0, 1000.0)),
}


def _program(body: str) -> Any:
    body = re.sub(r"\bx\b", "x[n]", body)
    return program(f"program point\n  input x: real[n]\n  y[n] = map . {body}\n  output return = y\n")


@pytest.mark.parametrize("name", BODIES)
def test_values_are_accurate_at_extremes(name: str) -> None:
    body, exact, points = BODIES[name]
    stable = stabilise(_program(body))
    check(stable)
    assert stable != _program(body)
    found = interpret(stable, {"x": np.array(points)})["return"]
    with mpmath.workdps(400):
        expected = [float(exact(mpmath, mpmath.mpf(x))) for x in points]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", BODIES)
def test_gradients_are_accurate_at_extremes(name: str) -> None:
    body, exact, points = BODIES[name]
    g = stabilise(simplify(gradient(_program(body))))
    check(g)
    found = interpret(g, {"x": np.array(points), "y'": np.ones(len(points))})["d x"]
    with mpmath.workdps(700):
        expected = [
            float(mpmath.diff(lambda t: exact(mpmath, t), mpmath.mpf(x), h=mpmath.mpf(10) ** -300)) for x in points
        ]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("name", BODIES)
def test_rewriting_changes_nothing_at_ordinary_points(name: str) -> None:
    p = _program(BODIES[name][0])
    x = np.array([-2.0, -0.7, -0.1, 0.1, 0.4, 0.9])
    plain, stable = interpret(p, {"x": x})["return"], interpret(stabilise(p), {"x": x})["return"]
    np.testing.assert_allclose(stable, plain, rtol=1e-12)


SOFTMAX = """
program soft
  input x: real[n, c]
  input t: class[n] of c
  s[n] = sum c . exp(x[n, c])
  p[n, c] = map . exp(x[n, c]) / s[n]
  value = sum n . -(log(p[n, t[n]]))
  output return = value
"""
BY_LSE = """
program soft
  input x: real[n, c]
  input t: class[n] of c
  l[n] = logsumexp c . x[n, c]
  p[n, c] = map . exp(x[n, c] - l[n])
  value = sum n . -(log(p[n, t[n]]))
  output return = value
"""


def test_a_softmax_spelled_as_a_quotient() -> None:
    p = stabilise(program(SOFTMAX))
    check(p)
    found = interpret(p, {"x": np.array([[0.0, 2000.0, -3000.0]]), "t": np.array([0])})
    assert found["return"] == 2000.0


def test_the_logarithm_of_a_softmax() -> None:
    p = program(BY_LSE)
    g = stabilise(simplify(gradient(p)))
    check(g)
    x = np.array([[0.0, 2000.0, -3000.0], [-900.0, -901.0, -2000.0]])
    env = {"x": x, "t": np.array([0, 1]), "value'": np.array(1.0)}
    found = interpret(g, env)
    shifted = x - x.max(axis=1, keepdims=True)
    soft = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found["return"], -(logs[0, 0] + logs[1, 1]))
    hot = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(found["d x"], soft - hot, atol=1e-15)


def test_the_log_of_a_sum_of_exponentials() -> None:
    p = program("""
program lse
  input x: real[n, c]
  s[n] = sum c . exp(x[n, c])
  y[n] = map . log(s[n])
  output return = y
""")
    x = np.array([[1000.0, 999.0], [-1000.0, -1000.0]])
    found = interpret(stabilise(p), {"x": x})["return"]
    np.testing.assert_allclose(found, [1000.0 + np.log1p(np.exp(-1.0)), -1000.0 + np.log(2.0)])
    g = stabilise(simplify(gradient(p)))
    found = interpret(g, {"x": x, "y'": np.ones(2)})["d x"]
    np.testing.assert_allclose(found[1], [0.5, 0.5])


def test_kinks_keep_their_form() -> None:
    for body in ("max2(x, 0.0)", "relu(x)", "sqrt(x * x)", "abs(x)"):
        p = _program(body)
        assert stabilise(p) == p
