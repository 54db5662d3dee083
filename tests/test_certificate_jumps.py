"""Jumps along a line: each that is seen is one, of the value or of the derivative that is said to jump."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import pytest

from lossdsl import pipeline
from lossdsl.certificate.lines import FOUND, JUMP, SIDES
from lossdsl.certificate.question import of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source

Real = Any


def jump(body: str, claim: str, first: list[str], second: list[str], rule: str = JUMP) -> int | None:
    """The order of the derivative of `per` that is seen to jump on the line; None if none is."""
    sorts = "    s[n, c] = sort(x over c)\n    r[n, c] = sort(y * x over c)"
    text = f"loss f:\n    input x, y: real[n, c]\n{sorts}\n{body}\n    return mean(per)\n\n    claim {claim}\n"
    loss = pipeline.analyse(Source("f.loss", text)).losses[0]
    (q,) = of_claim(loss, loss.claims[0])
    points = [{f"x[0, {k}]": v for k, v in enumerate(some)} for some in (first, second)]
    points[0] |= {f"y[0, {k}]": str(k * k - 2) for k in range(len(first))}
    try:
        return int(FOUND[rule](q, {"rule": rule, "points": points, "t": None, "place": [0]})["order"])
    except Stuck:
        return None


NEAR = [  # a loss that is not C0, C1, smooth ...; and another that is, close to it
    ("count(x > 0 over c)", "count(x > 0 over c) + count(x <= 0 over c)", "C0"),
    ("sum(y over c where x > 0)", "sum(y over c where x > 0) + sum(y over c where x <= 0)", "C0"),
    ("sum(x + y over c where x > 0)", "sum(x over c where x > 0)", "C0"),
    ("mean(y over c where x > 0)", "mean(y over c where x > 0) * max(x[n, 0], 0)", "C0"),
    ("y[c = argmax(x over c)]", "(y[c = argmax(x over c)] - 5) * (x[n, 0] - x[n, 1])", "C0"),
    ("y[c = argmax(x over c)]", "(x - x / 2)[c = argmax(x over c)]", "C0"),
    ("r[n, 0] + (1 if x[n, 0] > x[n, 1] else 0)", "r[n, 0]", "C0"),
    ("(5 if x[n, 0] > 0 else 4)", "(5 if x[n, 0] > 0 else 5 + x[n, 0])", "C0"),
    ("sum(x over c where x > 0)", "sum(x^2 over c where x > 0)", "C1"),
    ("x[c = argmax(x over c)]", "x[c = argmax(x over c)] + x[c = argmin(x over c)]", "C1"),
    ("s[n, 0]", "sum(sort(x over c) over c)", "C1"),
    ("sum(sort(x over c) * c over c)", "sum(sort(x over c)^2 over c)", "C1"),
    ("max(exp(x[n, 0]), clamp(exp(x[n, 0]), 1, 4))", "max(exp(x[n, 0]), clamp(exp(x[n, 0]), 1/4, 4))", "C1"),
    ("max(x[n, 0], x[n, 1])^2", "max(x[n, 0], 0)^2", "C1"),
    ("max(x[n, 0], 0)^4", "max(-x[n, 0], 0)^4 + max(x[n, 0], 0)^4", "smooth"),
    ("max(x[n, 0], 0)^3", "max(x[n, 0], 0)^3 - max(-x[n, 0], 0)^3", "smooth"),
]
PLACES = [(["0", "0"], ["1", "-1/2"]), (["0", "1/3"], ["1", "1/2"]), (["1/3", "1/3"], ["1", "-1"])]
ALL = [*PLACES, (["1/1000000000000", "0"], ["2", "0"])]


@pytest.mark.parametrize(("jumps", "does_not", "word"), NEAR, ids=[f"{w} of {b}" for b, _, w in NEAR])
def test_what_jumps_is_told_from_what_does_not(jumps: str, does_not: str, word: str) -> None:
    found = [jump(f"    per[n] = {jumps}", f"not {word} in x", *place) for place in ALL]
    assert any(order is not None for order in found)
    for place in ALL:
        for rule in (JUMP, SIDES):
            assert jump(f"    per[n] = {does_not}", f"not {word} in x", *place, rule) is None


def test_a_piece_is_of_what_another_one_has_no_value_of() -> None:
    whole = "    k[n] = count(x > 0 over c)\n    per[n] = sum({} over c where x > 0) / k if k > 0 else {}"
    place = (["0"], ["1"])
    assert jump(whole.format("y", "3"), "not C0 in x", *place) == 0
    assert jump(whole.format("y", "0 - 2"), "not C0 in x", *place) is None
    assert jump(whole.format("x", "0"), "not C0 in x", *place) is None
    assert jump(whole.format("x", "0"), "not C1 in x", *place) == 1
    assert jump(whole.format("x", "x[n, 0]"), "not C1 in x", *place) is None


# ------------------------------------------------------------------------------------------------ random elements


class Branches:
    """Of every decision on the way to a value, which one was taken; or the ones to take."""

    def __init__(self, given: list[Any] | None = None) -> None:
        self.given, self.taken = given, list[Any]()

    def take(self, choice: Any) -> Any:
        if self.given is not None:
            choice = self.given[len(self.taken)]
        self.taken.append(choice)
        return choice


Row = list[Real]
Made = tuple[str, Callable[[Row, Branches], Real]]


def drawn(rng: random.Random, depth: int) -> Made:
    """An expression of the row x[n, ...] of three entries, and its value by other means."""
    if depth == 0:
        k = rng.randrange(3)
        return f"x[n, {k}]", lambda x, _: x[k]
    a, f = drawn(rng, depth - 1)
    b, g = drawn(rng, rng.randrange(depth))
    k = rng.choice([0, 0, 1])
    match rng.choice(["add", "mul", "max", "min", "abs", "clamp", "tanh", "exp", "if", "sum", "count", "arg", "sort"]):
        case "add":
            return f"({a} + {b} / 2)", lambda x, w: f(x, w) + g(x, w) / 2
        case "mul":
            return f"({a} * {b})", lambda x, w: f(x, w) * g(x, w)
        case "max":
            return f"max({a}, {b})", lambda x, w: _first(f(x, w), g(x, w), w, largest=True)
        case "min":
            return f"min({a}, {b})", lambda x, w: _first(f(x, w), g(x, w), w, largest=False)
        case "abs":
            return f"abs({a})", lambda x, w: _size(f(x, w), w)
        case "clamp":
            return f"clamp({a}, 0, 1)", lambda x, w: _first(
                _first(f(x, w), mpmath.mpf(0), w, largest=True), mpmath.mpf(1), w, largest=False
            )
        case "tanh":
            return f"tanh({a})", lambda x, w: mpmath.tanh(f(x, w))
        case "exp":
            return f"exp(min({a}, 2))", lambda x, w: mpmath.exp(_first(f(x, w), mpmath.mpf(2), w, largest=False))
        case "if":
            return f"({a} if {b} < {k} else {b})", lambda x, w: _branch(g(x, w), k, f(x, w), w)
        case "sum":
            return (
                f"(sum(x over c where x > {k}) * {a})",
                lambda x, w: sum((v for v in x if w.take(v > k)), mpmath.mpf(0)) * f(x, w),
            )
        case "count":
            return f"(count(x > {k} over c) + {a})", lambda x, w: sum(w.take(v > k) for v in x) + f(x, w)
        case "arg":
            return f"((x + x^2)[c = argmax(x over c)] + {a})", lambda x, w: _at_largest(x, w) + f(x, w)
    return f"(s[n, 1] * {a})", lambda x, w: _middle(x, w) * f(x, w)


def _first(a: Real, b: Real, w: Branches, *, largest: bool) -> Real:
    return a if w.take((a >= b) == largest) else b


def _size(a: Real, w: Branches) -> Real:
    return a if w.take(a >= 0) else -a


def _branch(b: Real, k: int, a: Real, w: Branches) -> Real:
    return a if w.take(b < k) else b


def _at_largest(x: Row, w: Branches) -> Real:
    v = x[w.take(max(range(3), key=lambda k: x[k]))]
    return v + v * v


def _middle(x: Row, w: Branches) -> Real:
    return x[w.take(sorted(range(3), key=lambda k: x[k])[1])]


NUMBERS = [Fraction(0), Fraction(0), Fraction(1), Fraction(1, 2), Fraction(-1), Fraction(1, 3), Fraction(7, 5)]


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, 6))])
def test_random_jumps_are_jumps(seed: int) -> None:
    """Of the pieces on both sides of one place of the line, the derivative of the order that is told differs."""
    rng, seen, tried = random.Random(seed), 0, 0
    while seen < 25 and tried < 400:
        tried += 1
        text, f = drawn(rng, rng.choice([1, 2, 3, 4]))
        word, most = rng.choice([("C0", 0), ("C1", 1), ("C2", 2)])
        first = [rng.choice(NUMBERS) for _ in range(3)]
        step = [rng.choice(NUMBERS[1:]) for _ in range(3)]
        second = [a + b for a, b in zip(first, step, strict=True)]
        if second == first:
            continue
        rule = rng.choice([JUMP, JUMP, SIDES])
        order = jump(f"    per[n] = {text}", f"not {word} in x", [*map(str, first)], [*map(str, second)], rule)
        if order is None:
            continue
        seen += 1
        assert order <= most
        assert _jumps(f, first, step, order), (text, first, step, order)
    assert seen >= 10


def _jumps(f: Callable[[Row, Branches], Real], first: list[Fraction], step: list[Fraction], order: int) -> bool:
    with mpmath.workdps(80):
        p, d = ([mpmath.mpf(v.numerator) / v.denominator for v in some] for some in (first, step))

        def at(t: Real, w: Branches) -> Real:
            return f([a + t * b for a, b in zip(p, d, strict=True)], w)

        def taken(t: Real) -> list[Any]:
            w = Branches()
            at(t, w)
            return w.taken

        grid = [mpmath.mpf(k) / 640 + mpmath.mpf(10) ** -30 for k in range(-41, 41)]
        todo = [(a, b) for a, b in itertools.pairwise(grid) if taken(a) != taken(b)]
        while todo:
            a, b = todo.pop()
            m = (a + b) / 2
            if b - a > mpmath.mpf(10) ** -70:
                todo += [(u, v) for u, v in ((a, m), (m, b)) if taken(u) != taken(v)]
                continue
            sides = [mpmath.diff(lambda t, way=way: at(t, Branches(way)), m, order) for way in (taken(a), taken(b))]
            if abs(sides[0] - sides[1]) > mpmath.mpf(10) ** -12:
                return True
    return False
