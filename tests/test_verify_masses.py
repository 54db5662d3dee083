"""Lipschitz bounds by gradient masses: weights that add up to 1, counts, and functions of bounded slope."""

from __future__ import annotations

import pytest

from lossdsl.verify import gradients
from lossdsl.verify.context import Context
from lossdsl.verify.verdict import Proved
from tests.test_verify import built
from tests.test_verify_attack import status

ROW = "input z: real[n, c]\n"
SOFT = "input y: simplex[n, c] over c\n"
TARGET = "input t: class[n] of c\n"

# (declarations and body, the norm, the bound that holds and cannot be lowered to the second one)
BOUNDS = [
    (ROW + SOFT + "lp = log_softmax(z over c)\nper = -sum(y * lp over c)", "l1", "1", "9/10"),
    (ROW + SOFT + "lp = log_softmax(z over c)\nper = -sum(y * lp over c)", "linf", "2", "3/2"),
    (ROW + "input s: real[n, c]\nq = softmax(s over c)\nper = sum(q * z over c)", "linf", "1", "9/10"),
    (ROW + "input s: real[n, c]\nq = softmax(s over c)\nper = sum(q * abs(z) over c)", "l1", "1", "9/10"),
    (ROW + "per = mean(softplus(z) over c)", "linf", "1", "9/10"),
    (ROW + "per = mean(sigmoid(4 * z) over c)", "linf", "1", "9/10"),
    (ROW + "per = mean(z over c where c > 0 else 0)", "linf", "1", "9/10"),
    (ROW + "per = sum(tanh(z) over c where c == 1)", "l2", "1", "9/10"),
    (ROW + TARGET + "per = max(z over c) - min(z over c)", "linf", "2", "19/10"),
    (ROW + "per = exp(-relu(max(z over c)))", "linf", "1", "9/10"),
]


@pytest.mark.parametrize(("body", "norm", "bound", "low"), BOUNDS, ids=[f"{n} of {b[-40:]}" for b, n, _, _ in BOUNDS])
def test_the_bound_holds_and_less_does_not(body: str, norm: str, bound: str, low: str) -> None:
    assert status(body, f"lipschitz in z <= {bound} in {norm}") in ("proved", "unknown")
    assert status(body, f"lipschitz in z <= {low} in {norm}") in ("refuted", "unknown")


@pytest.mark.slow
def test_most_of_it_is_decided() -> None:
    proved = sum(status(b, f"lipschitz in z <= {k} in {n}") == "proved" for b, n, k, _ in BOUNDS)
    refuted = sum(status(b, f"lipschitz in z <= {k} in {n}") == "refuted" for b, n, _, k in BOUNDS)
    assert proved >= 8
    assert refuted >= 9


FALSE = [
    (ROW + "input y: prob[n, c]\nper = sum(y * z over c)", "linf"),  # these weights add up to more than 1
    (ROW + "input y: simplex[n, c] over n\nper = sum(y * z over c)", "linf"),  # along the other axis
    (ROW + "input s: real[n, c]\nq = softmax(s over n)\nper = sum(q * z over c)", "linf"),  # along another axis
    (ROW + "input s: real[n, c]\nl = logsumexp(s over c where c > 0)\nper = sum(exp(s - l) * z over c)", "linf"),
    (ROW + "input s: real[n, c]\nl = logsumexp(2 * s over c)\nper = sum(exp(s - l) * z over c)", "linf"),
    (ROW + SOFT + "per = sum(y * z over c) / min(y over c)", "linf"),
    (ROW + "per = sum(exp(z) over c)", "linf"),
    (ROW + "per = sum(z over c where c > 0) / max(1, count(c > 1 over c))", "linf"),
]


@pytest.mark.parametrize(("body", "norm"), FALSE, ids=[b[-45:] for b, _ in FALSE])
def test_what_are_no_such_weights(body: str, norm: str) -> None:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    try:
        program = built(f"loss t:\n{lines}    return mean(per)\n").program
    except AssertionError:
        pytest.fail(f"not a loss: {body}")
    verdict = gradients.lipschitz(Context(program), "per", "z", None, "l2")
    bound = gradients.lipschitz(Context(program), "per", "z", gradients.ONE, norm)
    assert not isinstance(bound, Proved), verdict
    assert status(body, f"lipschitz in z <= 1 in {norm}") != "proved"
