"""Lipschitz constants without a bound: growth of slopes along the tails."""

from __future__ import annotations

import pytest

from tests.test_verify_attack import status

BOUNDED = [
    "exp(gamma * logsigmoid(x)) * softplus(x)",
    "exp(gamma * logsigmoid(-x)) * softplus(-x)",
    "gamma * softplus(3 * x - y) + y * softplus(-x)",
    "x * sigmoid(x)",
    "x * tanh(x)",
    "softplus(x) * softplus(-x)",
    "softplus(x) * sigmoid(x)",
    "exp(-softplus(x)) * x",
    "exp(x - softplus(x))",
    "x^3 / (1 + x^2)",
    "log1p(x^2) * gamma",
    "x^2 / (1 + exp(x) + exp(-x))",
    "abs(x - y) * exp(-abs(x - y))",
    "y * exp(-abs(x)) * x^3",
    "(x - y)^2 if abs(x - y) <= width else 2 * width * abs(x - y) - width^2",
    "relu(x)^2 * exp(-width * x)",
]
UNBOUNDED = [  # for some value of the others; the last ones near a point, or at a jump
    "x * softplus(x)",
    "softplus(x)^2",
    "exp(softplus(x))",
    "exp(2 * softplus(x) - 2 * x)",
    "x^2 / (1 + exp(x))",
    "x^4 / (1 + x^2)",
    "relu(x)^2 * exp(-gamma * x)",
    "relu(x)^2 * exp(-y * x)",
    "exp(gamma * x) / (1 + exp(x))",
    "exp(y * x) / (1 + exp(x) + exp(-x))",
    "x * log1p(x^2)",
    "x * sin(x)",
    "x^2 * sigmoid(gamma * x)",
    "x^2 if abs(x - y) >= width else x",
    "sqrt(abs(x))",
    "x if x < width else x + 1",
]


def body(text: str, domain: str = "") -> str:
    declared = f"input x: real[...]{domain}\ninput y: real[...]\nparam gamma: real >= 0 = 2\nparam width: real > 0 = 1"
    return f"{declared}\nper = {text} + 0 * y"


@pytest.mark.parametrize("text", BOUNDED)
def test_bounded_slopes_are_proved(text: str) -> None:
    assert status(body(text), "lipschitz in x") == "proved"


@pytest.mark.parametrize("text", UNBOUNDED)
def test_unbounded_slopes_are_never_proved(text: str) -> None:
    assert status(body(text), "lipschitz in x") != "proved"


def test_ends_of_the_domain() -> None:
    for text, domain in (
        ("sqrt(x)", " >= 0"),
        ("sqrt(x)", " > 0"),
        ("1 / x", " > 0"),
        ("x * log(x)", " > 0"),
        ("log(x)", " > 0"),
    ):
        assert status(body(text, domain), "lipschitz in x") != "proved"
    for text, domain in (("x^2", " >= 0"), ("x^2", " <= 3"), ("width * x^3", " > 1"), ("-exp(y) * x^2", " < 0")):
        assert status(body(text, domain), "lipschitz in x") == "refuted"
    assert status(body("softplus(x)^2 * gamma", " <= 3"), "lipschitz in x") != "refuted"
    assert status(body("x^2", " >= 0"), "lipschitz in x on x <= 3") != "refuted"
    assert status(body("x^2", " >= 0"), "lipschitz in x on x <= y") != "refuted"
