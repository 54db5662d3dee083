"""Certificates in units of a positive number: kinks that move with a parameter, and bounds with parameters in them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from lossdsl import pipeline
from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.document import UNITS, Rejected, certify, sealed, verify
from lossdsl.certificate.question import of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.scaling import of_units
from lossdsl.certificate.units import Scaled, Units, whole
from lossdsl.diagnostics import Source
from lossdsl.ir.nodes import Param, Read, Scalar, postorder
from lossdsl.verify.enclosure import Enclosure
from tests.test_certificate_boxes import proved as on_boxes
from tests.test_verify import built

HEAD = (
    "    input x, y: real[n]\n    input s: sign[n]\n    input w: real[n] > 0\n    input v: real[n] >= 0\n"
    "    param a, b: real > 0 = 1, 2\n    param z: real >= 0 = 1\n    param g: real = 1\n"
)
HUBER = "(x - y)^2 / 2 if abs(x - y) <= a else a * (abs(x - y) - a / 2)"
TUKEY = "a^2 / 6 * (1 - (1 - ((x - y) / a)^2)^3) if abs(x - y) <= a else a^2 / 6"
SMOOTHED = "0 if 1 - s * x <= 0 else (1 - s * x)^2 / (2 * a) if 1 - s * x < a else 1 - s * x - a / 2"


def proved(body: str, claim: str) -> bool:
    loss = built(f"loss f:\n{HEAD}    per = {body}\n    return mean(per)\n    claim {claim}\n")
    try:
        for q in of_claim(loss, loss.claims[0]):
            of_units(q)
    except Stuck:
        return False
    return True


@pytest.mark.parametrize(
    ("body", "claim", "true"),
    [
        (HUBER, "convex in x", True),
        (HUBER, "strictly convex in x", False),
        (HUBER, "C1 in x", True),
        (HUBER, "C2 in x", False),
        (HUBER, "lipschitz in x <= a", True),
        (HUBER, "lipschitz in x <= 0.999 * a", False),
        (HUBER, "lipschitz in x <= b", False),  # two numbers whose order is not known
        (HUBER, "lipschitz in x <= a + b", False),  # true, but no number of one unit
        (HUBER, "lipschitz in x <= 2 * a", True),
        (HUBER, "lipschitz in x <= a - b", False),
        (HUBER, "lipschitz in x <= a^2", False),
        (HUBER, "lipschitz in x", True),
        (HUBER, "per >= 0", True),
        (HUBER, "per > 0", False),
        (HUBER, "unique minimum of per at x == y", True),
        (HUBER, "increasing in x on x >= y", True),
        (HUBER, "strictly increasing in x on x >= y", True),
        (HUBER, "increasing in x", False),
        (HUBER.replace("<= a", "< a"), "convex in x", True),
        (HUBER.replace("a / 2", "a / 3"), "convex in x", False),  # a jump of the value
        (HUBER.replace("a / 2", "a / 3"), "C0 in x", False),
        (HUBER.replace("a / 2", "a / 3"), "minimum of per at x == y", False),
        (HUBER.replace("a * (", "(a - a / 1000) * ("), "convex in x", False),
        ("(x - y)^2 / 2 if abs(x - y) <= a else 2 * a * abs(x - y) - 3 * a^2 / 2", "convex in x", True),  # slopes rise
        ("(x - y)^2 / 2 if abs(x - y) <= a else 2 * a * abs(x - y) - 3 * a^2 / 2", "C1 in x", False),
        ("(x - y)^2 / 2 if abs(x - y) <= a else a / 2 * abs(x - y)", "convex in x", False),  # and fall
        ("(x - y)^2 / 2 if abs(x - y) <= a else a / 2 * abs(x - y)", "C0 in x", True),
        (HUBER.replace("<= a", "<= z"), "convex in x", False),  # z and a are not one number
        (HUBER.replace("a", "z").replace("zbs", "abs"), "lipschitz in x <= z", False),  # z may be 0: true, not seen
        (HUBER.replace("a", "g").replace("gbs", "abs"), "convex in x", False),
        (HUBER.replace("a", "g").replace("gbs", "abs"), "C0 in x", False),
        (HUBER.replace("a", "w").replace("wbs", "abs"), "convex in x", True),  # an input may be the unit
        (HUBER.replace("a", "w").replace("wbs", "abs"), "convex in w", False),
        (HUBER.replace("a", "v").replace("vbs", "abs"), "convex in x", False),
        (TUKEY, "C2 in x", True),
        (TUKEY, "smooth in x", False),
        (TUKEY, "convex in x", False),
        (TUKEY, "lipschitz in x <= 0.2863 * a", True),
        (TUKEY, "lipschitz in x <= 0.286 * a", False),
        (TUKEY, "0 <= per <= a^2 / 6", True),
        (TUKEY, "per < a^2 / 6", False),
        (TUKEY, "per <= a^2 / 7", False),
        (TUKEY, "minimum of per at x == y", True),
        (SMOOTHED, "convex in x", True),
        (SMOOTHED, "C1 in x", True),
        (SMOOTHED, "lipschitz in x <= 1", True),
        (SMOOTHED, "lipschitz in x <= 0.99", False),
        (SMOOTHED, "decreasing in x", False),  # s may be -1
        (SMOOTHED.replace("s * x", "x"), "decreasing in x", True),
        (SMOOTHED.replace("s * x", "x"), "increasing in x", False),
        ("relu(abs(x - y) - a)^2", "C1 in x", True),
        ("relu(abs(x - y) - a)", "convex in x", True),
        ("relu(abs(x - y) - a)", "unique minimum of per at x == y", False),
        ("relu(abs(x - y) + a)", "C1 in x", False),
        ("min((x - y)^2, a)", "C0 in x", True),
        ("min((x - y)^2, a^2)", "lipschitz in x <= 2 * a", True),
        ("min((x - y)^2, a^2)", "lipschitz in x <= a", False),
        ("(5 if x - y == a else (x - y)^2)", "C0 in x", False),  # one value of its own, at a place that moves
        ("(-1 if x - y == a else (x - y)^2)", "per >= 0", False),
        ("(-1 if x - y == 2 * a else abs(x - y))", "minimum of per at x == y", False),
        ("(a if abs(x - y) < a else abs(x - y))", "convex in x", True),
        ("(a if abs(x - y) <= a else abs(x - y) + a)", "convex in x", False),
        ("(0 if x < a else 1)", "increasing in x", False),  # a jump is no derivative
        ("(0 if x < a else x - a)", "increasing in x", True),
        ("(0 if x < a else x - b)", "C0 in x", False),
        ("(0 if x < a else x^2 - a^2)", "C1 in x", False),
        ("(0 if x < a else a - x)", "convex in x", False),
        ("(0 if x < a else a - x)", "concave in x", True),
        ("(0 if x < -a else x + a if x < a else 2 * a)", "lipschitz in x <= 1", True),
        ("(0 if x < -a else x + a if x < a else 2 * a)", "convex in x", False),
        ("(0 if x < -a else x + a if x < a else a)", "C0 in x", False),
        ("a * softplus(x / a)", "strictly convex in x", True),
        ("a * softplus(x / a)", "lipschitz in x <= 1", True),
        ("a * softplus(x / b)", "lipschitz in x <= 1", False),
        ("a * softplus(x / b)", "lipschitz in x <= a / b", True),
        ("softplus(g * x / a)", "strictly increasing in x", False),
        ("softplus(z * x / a)", "strictly increasing in x", False),
        ("softplus(z * x / a)", "increasing in x", True),
        ("sqrt((x - y)^2 + a^2)", "per >= a", True),
        ("sqrt((x - y)^2 + a^2)", "per > a", False),
        ("sqrt((x - y)^2 + a^2)", "lipschitz in x <= 1", True),
        ("sqrt((x - y)^2 + a^2)", "strictly convex in x", True),
        ("sqrt((x - y)^2 + z^2)", "strictly convex in x", False),  # z may be 0
        ("2 * (x - y)^2 / ((x - y)^2 + 4 * a^2)", "lipschitz in x <= 0.6496 / a", True),
        ("2 * (x - y)^2 / ((x - y)^2 + 4 * a^2)", "lipschitz in x <= 0.6495 / a", False),
        ("log1p((x - y)^2 / (2 * a^2))", "lipschitz in x <= 0.7072 / a", True),
        ("log1p((x - y)^2 / (2 * a^2))", "lipschitz in x <= 0.707 / a", False),
        ("(log(a) + relu(x - a)^2) / a", "C1 in x", True),  # what is added may have any sign
        ("min((x - y)^2, a^2)", "unique minimum of per at x == y", True),
        ("min(x, a) + relu(x - 2 * a)", "unique minimum of per at x == 1", False),  # 1 may be where it does not move
        ("(x - 1)^2 / a", "unique minimum of per at x == 1", True),
        ("abs(x - 1) / a + relu(x - a)", "minimum of per at x == 1", False),
        ("relu(x - a)", "increasing in x on x >= 1", True),
        ("relu(x - a) - relu(1 - x)", "strictly increasing in x on x >= 1", False),
        ("log(v / a) * x", "convex in x", False),  # no value at v = 0
        ("abs(x - log(v)) / a", "convex in x", False),
        ("exp(-abs(x - log(v)) / a)", "per > 0", False),
        ("x / (abs(x) - a)", "C0 in x", False),
        ("sqrt(abs(x - y) - a)", "per >= 0", False),
        ("floor(x / a)", "C0 in x", False),
    ],
)
def test_statements(body: str, claim: str, true: bool) -> None:
    assert proved(body, claim) is true


# ------------------------------------------------------------------------------------------------ identities

PARTS = ("(x - y)", "a", "b", "w", "1", "2", "1/3", "(-3/2)", "0", "abs(x - y)", "a^2", "w / a", "a * w")
FUNCTIONS: tuple[str, ...] = (
    "abs({})",
    "relu({})",
    "({})^2",
    "({})^3",
    "sqrt(abs({}))",
    "log1p(abs({}))",
    "tanh({})",
    "-({})",
)
FUNCTIONS += ("log(1 + abs({}))", "sqrt(1/4 + ({})^2)", "1 / (1 + abs({}))", "(abs({}) + 1)^1.5", "(1 + abs({}))^(-2)")
TWO: tuple[str, ...] = ("({} + {})", "({} - {})", "({} * {})", "max({}, {})", "min({}, {})", "({}) / (1 + abs({}))")
TWO += (
    "({0} if {1} <= a else {1})",
    "({0} if {0} > {1} else 2 * {1})",
    "(0 if {0} < {1} else {0})",
    "clamp({}, -a, abs({}))",
)


def drawn(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.15:
        return rng.choice(PARTS)
    if rng.random() < 0.4:
        return rng.choice(FUNCTIONS).format(drawn(rng, depth - 1))
    return rng.choice(TWO).format(drawn(rng, depth - 1), drawn(rng, depth - 1))


@pytest.mark.parametrize("seed", range(4))
def test_scalars_in_units_are_the_same_numbers(seed: int) -> None:
    rng = random.Random(seed)
    thin = 0
    for _ in range(40):
        body = drawn(rng, 4)
        program = built(f"loss f:\n{HEAD}    per = {body} + 0 * x\n    return mean(per)\n").program
        bounds, d = Bounds(program), program.definition("per")
        assert d is not None
        at: dict[str, float] = {
            "x": rng.choice([-1.0, 0.5, 3.0]),
            "y": 1.0,
            "w": 0.75,
            "a": 2.0,
            "b": 0.5,
            "v": 0,
            "z": 1,
        }
        names = {
            n: n.tensor if isinstance(n, Read) else n.name for n in postorder(d.body) if isinstance(n, (Read, Param))
        }
        known: dict[Scalar, Enclosure] = {n: Enclosure(at[name], at[name]) for n, name in names.items()}
        entries = [n for n, name in names.items() if name == "x"]
        positive = [n for n, name in names.items() if name in ("a", "b", "w")]
        for unit in positive:
            for degree in (-1, 1, 2):
                own = Scaled(Param("t"), Fraction(2), {unit: Fraction(degree)})
                units = Units(rng.sample(positive, rng.randint(0, len(positive))), {entries[0]: own})
                found = units.of(d.body)
                here = at["x"] / 2 / known[unit].lo ** degree
                new = Case(bounds, frozenset(), {**known, Param("t"): Enclosure(here, here)})
                old = Case(bounds, frozenset(), known)[d.body]
                again = new[whole(found)]
                assert old.nan == again.nan or again.nan, body
                if not again.nan and not old.nan:
                    slack = 1e-9 * (1 + abs(old.lo))
                    assert max(old.lo, again.lo) < min(old.hi, again.hi) + slack, (body, old, again)
                    thin += old.hi - old.lo < slack and again.hi - again.lo < slack
                assert entries[0] not in set(postorder(found.rest))
    assert thin > 100


# ------------------------------------------------------------------------------------------- random elements

PLACES = ("a", "-a", "2 * a", "a / 2", "0", "-2 * a", "1", "b")
PIECES: tuple[str, ...] = (
    "u",
    "u^2",
    "-u",
    "a",
    "a * u",
    "a^2",
    "0",
    "abs(u)",
    "a * abs(u)",
    "u^2 / 2",
    "u^2 / a",
    "a * (abs(u) - a / 2)",
)
PIECES += (
    "2 * a * u - a^2",
    "u^3 / a",
    "abs(u) - a",
    "a / 2",
    "a^2 / 2",
    "-u^2",
    "1",
    "b * u",
    "u^4 / a^2",
    "u - a",
    "-a * u",
)
CLAIMS: tuple[str, ...] = (
    "convex in x",
    "concave in x",
    "increasing in x",
    "decreasing in x",
    "strictly increasing in x",
    "per >= 0",
)
CLAIMS += (
    "lipschitz in x <= a",
    "lipschitz in x <= 2 * a",
    "lipschitz in x <= 1",
    "minimum of per at x == y",
    "C0 in x",
)
CLAIMS += ("unique minimum of per at x == y", "C1 in x", "increasing in x on x >= y", "strictly convex in x", "per > 0")


def of_u(body: str, other: str) -> str:
    return re.sub(r"\bu\b", other, body)


def piecewise(rng: random.Random, depth: int) -> str:
    """An element of u, with kinks at places that move with a."""
    kind = rng.random()
    if depth == 0 or kind < 0.1:
        return rng.choice(PIECES)
    one, two = piecewise(rng, depth - 1), piecewise(rng, depth - 1)
    place = rng.choice(PLACES[:6] if rng.random() < 0.85 else PLACES)
    if kind < 0.5:
        side = rng.choice(["u", "abs(u)", "abs(u)", "-u", "u^2 / a"])
        return f"({one} if {side} {rng.choice(['<', '<=', '>', '>='])} {place} else {two})"
    if kind < 0.6:  # continuous by construction: what is between two places, as it is at them
        return f"(({of_u(one, 'clamp(u, -a, a)')}) + {rng.choice(['0', 'relu(u - a)', 'a * relu(abs(u) - a)'])})"
    if kind < 0.75:
        return rng.choice(["max({}, {})", "min({}, {})", "({} + {})", "({} - {})"]).format(one, two)
    if kind < 0.85:
        return rng.choice(["relu({})", "abs({})", "({})^2 / a", "-({})"]).format(one)
    return rng.choice(FAMILIES).replace("K", place if place not in ("0", "-a", "-2 * a") else "a")


FAMILIES = (
    "(u^2 / 2 if abs(u) <= K else K * (abs(u) - K / 2))",
    "(u^2 / (2 * K) if abs(u) < K else abs(u) - K / 2)",
    "min(u^2, K^2)",
    "relu(abs(u) - K)",
    "(0 if u <= 0 else u^2 / (2 * K) if u < K else u - K / 2)",
    "(u^2 * (3 * K^2 - u^2) if abs(u) <= K else 2 * K^4)",
    "(u^2 if u > -K else -2 * K * u - K^2)",
    "(u^2 if u > -K else -K * u)",
    "(K if abs(u) == K else abs(u))",
    "(2 * K if abs(u) == K else abs(u))",
)
NUMBERS = [(Fraction(p), Fraction(r)) for p, r in ((1, 2), (3, 1), ("1/3", 1), ("1/5", "1/3"), (8, 40))]


def value(body: str) -> Callable[..., Any]:
    code = compile(body.replace("^", "**").replace("/ 2", "* half"), "body", "eval")
    names = {"max": max, "min": min, "abs": abs, "relu": lambda v: max(v, Fraction(0)), "half": Fraction(1, 2)}
    names["clamp"] = lambda v, lo, hi: min(max(v, lo), hi)
    return lambda u, a, b: Fraction(eval(code, {"__builtins__": {}}, {**names, "u": u, "a": a, "b": b}))


def holds(claim: str, body: str) -> bool:
    """Whether a statement is true on exact grids, the kinks among their points."""
    f = value(body)
    tiny = Fraction(1, 10**30)
    for a, b in NUMBERS:
        kinks = {s * k * a for s in (-1, 1) for k in (0, Fraction(1, 2), 1, 2, 4)} | {Fraction(1), b, Fraction(-1), -b}
        near = {k + s * d * tiny for k in kinks for s in (-1, 1) for d in (1, 2)}
        grid = sorted(kinks | near | {Fraction(k, 4) * a for k in range(-24, 25)} | {Fraction(k) for k in (-99, 99)})
        if not _true(claim, grid, [f(u, a, b) for u in grid], a, sorted(kinks), partial(f, a=a, b=b), tiny):
            return False
    return True


def _true(
    claim: str, grid: list[Fraction], v: list[Fraction], a: Fraction, kinks: list[Fraction], f: Any, h: Fraction
) -> bool:
    pairs = list(zip(pairwise(grid), pairwise(v)))
    slopes = [(q - p) / (t - s) for (s, t), (p, q) in pairs]
    word = claim.partition(" in ")[0]
    match word:
        case "convex" | "strictly convex":
            return all(p <= q if word == "convex" else p < q for p, q in pairwise(slopes))
        case "concave":
            return all(p >= q for p, q in pairwise(slopes))
        case "increasing" if " on " in claim:
            return all(p >= 0 for p, u in zip(slopes, grid) if u >= 0)
        case "increasing" | "strictly increasing":
            return all(p >= 0 if word == "increasing" else p > 0 for p in slopes)
        case "decreasing":
            return all(p <= 0 for p in slopes)
        case "lipschitz":
            bound = {"a": a, "2 * a": 2 * a, "1": Fraction(1)}[claim.partition("<= ")[2]]
            return all(abs(p) <= bound for p in slopes)
        case "C0" | "C1":
            small = Fraction(1, 10**6)
            if any(abs(f(k + s * h) - f(k)) > small for k in kinks for s in (-1, 1)):
                return False
            return word == "C0" or all(abs(f(k + h) + f(k - h) - 2 * f(k)) <= small * h for k in kinks)
    if claim.startswith("per"):
        return min(v) > 0 if ">= 0" not in claim else min(v) >= 0
    least = f(Fraction(0))
    return all(p >= least if claim.startswith("minimum") or u == 0 else p > least for u, p in zip(grid, v))


def compared(seed: int, count: int) -> tuple[int, int, int]:
    """Questions, how many are true on grids, and how many of them are proved; no other one may be."""
    rng = random.Random(seed)
    asked = true = found = 0
    for _ in range(count):
        body = piecewise(rng, rng.choice([1, 2, 2, 3]))
        if not re.search(r"\bu\b", body):
            continue
        for claim in CLAIMS:
            asked += 1
            right = holds(claim, body)
            seen = (right or rng.random() < 0.7) and proved(of_u(body, "(x - y)"), claim)
            assert right or not seen, (body, claim)
            true, found = true + right, found + seen
    return asked, true, found


@pytest.mark.parametrize("claim", ["convex in x", "increasing in x", "per >= 0"])
def test_another_branch_at_the_limit_far_out_does_not_count(claim: str) -> None:
    """The logarithm is 0 at 1 / x = 0 alone, which is no number that x is."""
    for here in ("-x^2", "-x^2 - sqrt(x)", "-x * log(x)"):
        assert not on_boxes(f"({here} if log1p(1 / x) > 0 else x^2) if x > 4 else -x^2", claim)


@pytest.mark.parametrize(
    "seed",
    [
        2,
        pytest.param(0, marks=pytest.mark.slow),
        pytest.param(1, marks=pytest.mark.slow),
        pytest.param(3, marks=pytest.mark.slow),
    ],
)
def test_random_kinks_that_move(seed: int) -> None:
    asked, true, found = compared(seed, 4)
    assert found >= 0.15 * true, (found, true, asked)


def test_what_is_changed_in_a_document_is_rejected() -> None:
    source = Source(
        "f.loss", f"loss f:\n{HEAD}    per = {HUBER}\n    return mean(per)\n    claim lipschitz in x <= a\n"
    )
    checked = pipeline.check(source, effort=0.5)
    made = json.loads(json.dumps(certify(source, checked.analysis.losses, checked.reports)))
    (loss,) = made["losses"]
    in_units = [e for e in loss["entries"] if any(p["rule"] == UNITS for p in e.get("parts", ()))]
    assert len(in_units) >= 10
    for entry in in_units:
        assert verify(sealed({**made, "losses": [{**loss, "entries": [entry]}]})).entries == 1
        part, *rest = entry["parts"]
        for trace in _forged(part["trace"]):
            changed = {**entry, "parts": [{**part, "trace": trace}, *rest]}
            with pytest.raises(Rejected):
                verify(sealed({**made, "losses": [{**loss, "entries": [changed]}]}))


def _forged(trace: list[list[str]]) -> list[list[list[str]]]:
    """With a line less, and with one word of a line changed."""
    traces = [trace[:k] + trace[k + 1 :] for k in range(len(trace))]
    for k, line in enumerate(trace):
        traces += [[*trace[:k], [*line[:j], line[j] + "1", *line[j + 1 :]], *trace[k + 1 :]] for j in range(len(line))]
    return traces
