"""What compositions take from boxes: random rows whose elements are made of pieces, and what is certified of them, looked at on
lines."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from lossdsl import pipeline
from lossdsl.certificate.document import _part
from lossdsl.certificate.question import of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program

CLAIMS = ("convex in x", "concave in x", "C0 in x", "C1 in x", "lipschitz in x")
PIECES = (
    "r",
    "-r",
    "2 * r - 1",
    "r / 2",
    "r^2 / 2",
    "r^2 - 1",
    "1 - r",
    "1",
    "0",
    "r + 1/2",
    "softplus(r)",
    "r * abs(r)",
)
CUTS = ("r > 0", "r >= 1", "abs(r) <= 1", "r < -1", "r <= 1/2")
RESIDUALS = ("x - y", "2 * x - y", "x * y", "x - max(y over c)", "x - mean(x over c)", "x - x[n, 0]", "relu(x - y)")
ROOTS = ("sqrt(r)", "r^(3/2)", "log1p(r)", "r", "1 if r <= 0 else r", "r * sqrt(r)", "sqrt(r) * (1 - r)")
NOT_NEGATIVE = ("x^2", "relu(x)", "abs(x)", "exp(x)", "(x - y)^2", "x^4", "relu(x - y)^2", "softplus(x)")
FOLDED = ("max(x over c)", "logsumexp(x over c)", "sum(x over c)", "norm(x over c)", "sum(x * y over c)")


def _loss(rng: random.Random) -> str:
    first, second = rng.sample(PIECES, 2)
    if rng.random() < 0.7:  # one that is likely to be continuous
        first, second, cut = rng.choice([
            ("r^2 / 2", "abs(r) - 1/2", "abs(r) <= 1"), ("r", "r / 2", "r > 0"), ("r^2", "0", "r > 0"),
            ("1", "2 * r - r^2", "r >= 1"), ("r^2 / 2", "r - 1/2", "r <= 1/2"), ("2 * r", "r", "r > 0"),
        ])  # fmt: skip
    else:
        cut = rng.choice(CUTS)
    if rng.random() < 0.3:  # with an end that a kink may lie at
        pieces = f"{rng.choice(ROOTS)}", f"{rng.choice(('(r + 1) / 2', 'r', '1', '2 * r - 1'))}"
        lines = [f"r[n, c] = {rng.choice(NOT_NEGATIVE)}", f"h[n, c] = ({pieces[0]}) if r <= 1 else ({pieces[1]})"]
        return "".join(f"    {line}\n" for line in (*lines, "per[n] = sum(h over c)"))
    if rng.random() < 0.4:
        lines = [f"r[n] = {rng.choice(FOLDED)}", f"per[n] = {first} if {cut} else {second}"]
    else:
        head = rng.choice(("sum({} over c)", "max({} over c)", "logsumexp({} over c)", "mean({} over c)"))
        lines = [f"r[n, c] = {rng.choice(RESIDUALS)}", f"h[n, c] = {first} if {cut} else {second}"]
        element = rng.choice(("h", "h", "-h", "h + x", "2 * h", f"({first} if {cut} else {second})"))
        lines += [f"per[n] = {head.format(element)}"]
    return "".join(f"    {line}\n" for line in lines)


def _certified(text: str, claim: str) -> Program | None:
    source = f"loss l:\n    input x, y: real[n, c]\n{text}    return mean(per)\n    claim {claim}\n"
    (built,) = pipeline.analyse(Source("<test>", source)).losses
    try:
        for question in of_claim(built, built.claims[0]):
            _part(question)
    except Stuck:
        return None
    return built.program


Line = Callable[[np.ndarray], np.ndarray]


def _line(program: Program, drawn: np.random.Generator) -> Line:
    """Of one row, at places of a line; its points are the rows of one batch."""
    start, step, y = drawn.normal(size=(3, 1, 3)).round(1)

    def at(t: np.ndarray) -> np.ndarray:
        given = {"x": start + t[:, None] * step, "y": np.repeat(y, len(t), 0)}
        value: np.ndarray = interpret(program, given, outputs=["per"])["per"]
        return value

    return at


def _steepest(f: Line) -> tuple[float, float]:
    """The change from one place to the next, and the slope, where it changes most: looked at more and more closely."""
    lo, hi = -4.0, 4.0
    for _ in range(4):
        t = np.linspace(lo, hi, 501)
        steps = np.abs(np.diff(f(t)))
        k = int(steps.argmax())
        width = t[k + 1] - t[k]
        lo, hi = t[k], t[k + 1]
    return float(steps.max()), float(steps.max() / width)


def _jumps(f: Line) -> bool:
    return _steepest(f)[0] > 1e-3


def _slope(f: Line) -> Line:
    return lambda t: (f(t + 1e-4) - f(t - 1e-4)) / 2e-4


def _bends_at_once(f: Line) -> bool:
    """Whether slopes change within 0.001 much more than they do within as much beside it, anywhere."""
    slopes = _slope(f)(np.arange(-4, 4, 1e-3))
    change = np.abs(np.diff(slopes))
    beside = np.maximum(np.roll(change, 3), np.roll(change, -3))
    return bool((change > 0.05 + 20 * beside)[3:-3].any())


def _looks(claim: str, f: Line) -> bool:
    t = np.linspace(-4, 4, 4001)
    bent = np.diff(f(t), 2)
    match claim.split()[0]:
        case "convex":
            return bool((bent > -1e-9).all())
        case "concave":
            return bool((bent < 1e-9).all())
        case "C0":
            return not _jumps(f)
        case "C1":
            return not _jumps(f) and not _bends_at_once(f)
    far = f(np.array([-1e6, -1e3, 0.0, 1e3, 1e6]))
    slopes = np.abs(far - far[2])[[0, 1, 3, 4]] / np.array([1e6, 1e3, 1e3, 1e6])
    return _steepest(f)[1] < 1e4 and bool(slopes.max() < 200)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_certified_of_random_pieces_looks_so(seed: int) -> None:
    rng, drawn, seen = random.Random(seed), np.random.default_rng(seed), 0
    for _ in range(30):
        text = _loss(rng)
        for claim in CLAIMS:
            program = _certified(text, claim)
            if program is not None:
                seen += 1
                assert all(_looks(claim, _line(program, drawn)) for _ in range(3)), (text, claim)
    assert seen > 15


@pytest.mark.parametrize(("text", "claim"), [
    ("per[n] = sum((x if x > 0 else x + 1/8) over c)", "C0 in x"),
    ("per[n] = sum((x^2 if x > 0 else x / 8) over c)", "C1 in x"),
    ("per[n] = sum((x if x > 0 else x * 2) over c)", "convex in x"),
    ("per[n] = sum((x if x > 0 else -x^2) over c)", "lipschitz in x"),
    ("per[n] = sum(sqrt(relu(x)) over c)", "lipschitz in x"),
])  # fmt: skip
def test_the_looks_find_what_is_false(text: str, claim: str) -> None:
    source = f"loss l:\n    input x, y: real[n, c]\n    {text}\n    return mean(per)\n"
    (built,) = pipeline.analyse(Source("<test>", source)).losses
    drawn = np.random.default_rng(1)
    assert not all(_looks(claim, _line(built.program, drawn)) for _ in range(3))
