"""Classes of losses whose entries meet (`continuity`, `kinks`): proofs by composition, jumps certified by one-sided jets."""

from __future__ import annotations

import pytest

from tests.test_verify_attack import status

ROW = "input x: real[n, c]\n"
PAIR = "input x, y: real[n, c]\n"
LABEL = "input x: real[n, c]\ninput t: class[n] of c\n"
# (declarations, body of per, the largest class: "" where it is not even continuous)
CLASSES: list[tuple[str, str, str]] = [
    # corners
    (ROW, "max(x over c)", "C0"),
    (ROW, "sum(abs(x) over c)", "C0"),
    (ROW, "norm(x over c)", "C0"),
    (ROW, "relu(1 - sum(x over c))", "C0"),
    (PAIR, "sum(abs(x - y) over c)", "C0"),
    (PAIR, "sqrt(sum((x - y)^2 over c))", "C0"),
    (LABEL, "max(x over c) - x[c = t]", "C0"),
    (ROW, "relu(exp(sum(x over c)) - 2)", "C0"),  # the kink is at no rational number
    (ROW, "sum(sort(x over c) * (c + 1) over c)", "C0"),
    # corners that what is around them smooths out, once or twice
    (ROW, "relu(1 - sum(x over c))^2", "C1"),
    (ROW, "relu(sum(x over c))^3", "C2"),
    (ROW, "sum(x over c) * abs(sum(x over c))", "C1"),
    (ROW, "norm(x over c)^2 + exp(sum(x over c))", "smooth"),
    (ROW, "sum(abs(x)^2 over c)", "smooth"),
    (ROW, "sum(relu(x) - relu(-x) over c)", "smooth"),
    (ROW, "max(x over c) - max(x over c) + sum(x over c)", "smooth"),
    # ties that do not occur, bounds that are not reached
    ("input x: real[n, c] >= 1\n", "sum(abs(x) over c)", "smooth"),
    ("input x: real[n, c] > 0\n", "sqrt(sum(x over c))", "smooth"),
    (ROW, "clamp(mean(sigmoid(x) over c), 0, 1)", "smooth"),
    (ROW, "sqrt(1 + sum(x^2 over c))", "smooth"),
    (ROW, "max(logsumexp(x over c) - max(x over c), -1)", "C0"),
    # branches
    (ROW, "(sum(x over c) if sum(x over c) > 0 else 2 * sum(x over c))", "C0"),
    (ROW, "(1 + sum(x over c) if sum(x over c) > 0 else sum(x over c))", ""),
    (ROW, "(sum(x over c) if sum(x over c) > 0 else sum(x over c))", "smooth"),
    (ROW, "(x[c = 0] if max(x over c) > 3 else 0)", ""),
    (LABEL, "(0 if x[c = t] > 0 else -x[c = t]) + logsumexp(x over c)", "C0"),
    (PAIR, "sum((0 if x == y else 1) over c)", ""),
    # quotients and logarithms of what vanishes inside of the domain
    (ROW, "x[c = 0] / norm(x over c)", ""),
    (ROW, "log(sum(x^2 over c))", ""),
    (ROW, "x[c = 0] / (1 + norm(x over c))", "C1"),
    # values, not declared derivatives
    (ROW, "stop(sum(x over c)) * sum(x over c)", "smooth"),
    (ROW, "stop(max(x over c)) * sum(x over c)", "C0"),
    # recurrences
    (ROW, "sum(cumsum(x over c)^2 over c)", "smooth"),
    (ROW, "sum(abs(cumsum(x over c)) over c)", "C0"),
    # two corners on one surface, extrema that are read only where there is something
    (PAIR, "min(exp(x[c = 0]) * 2, clamp(exp(x[c = 0]), 1/2, 3) * 2) + sum(x over c)", "C0"),
    ("input x: real[n, c]\ninput y: real[m]\n", "(0 if size(m) == 0 else min((x[c = 0] - y[m])^2 over m))", "C0"),
    # no value for a single class
    (LABEL, "x[c = t] - max(x over c where c != t else -inf)", ""),
    # log-sum-exp over what may be left out altogether
    (LABEL, "softplus(logsumexp(x over c where c != t)) + sum(x^2 over c)", "smooth"),
]
ORDER = ("C0", "C1", "C2", "smooth")


LONG = (  # searched for as long as a search may last, once for each class
    "x[c = 0] / (1 + norm(x over c))",
    "max(x over c) - max(x over c) + sum(x over c)",
    "norm(x over c)^2 + exp(sum(x over c))",
)


@pytest.mark.parametrize(
    ("declared", "body", "largest"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[1] in LONG else [], id=case[1]) for case in CLASSES],
)
def test_the_largest_class(declared: str, body: str, largest: str) -> None:
    best = ORDER.index(largest) if largest else -1
    for k, word in enumerate(ORDER):
        expected = "proved" if k <= best else "refuted"
        assert status(f"{declared}per = {body}", f"{word} in x") in (expected, "unknown"), word


@pytest.mark.slow
def test_nearly_all_of_them_are_decided() -> None:
    found = [status(f"{d}per = {b}", f"{word} in x") for d, b, _ in CLASSES for word in ORDER]
    assert found.count("unknown") <= 10
