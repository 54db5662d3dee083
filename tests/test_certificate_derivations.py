"""Derivatives as sums of products hold at points, cases of a parameter are all of them, and bounds may be of the element."""

from __future__ import annotations

import random

import mpmath
import pytest

from lossdsl.certificate.bounds import Case
from lossdsl.certificate.boxes import of_convexity
from lossdsl.certificate.coverings import Curve
from lossdsl.certificate.derivations import Derivations
from lossdsl.certificate.document import _part
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.question import of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import Param, Read, postorder
from lossdsl.verify.enclosure import REALS, Enclosure
from tests.test_verify import built

HEAD = """    input x, y: real[n]
    input s: real[n] > 0
    input p, q: prob[n]
    input c: real[n] in [0, 2]
    input e: real[n] in [0.5, 1]
    param alpha: real = 1
    param k: real > 0 = 1
"""
CRPS = "s * ((y - x) / s * erf((y - x) / s / sqrt(2)) + sqrt(2 / pi) * exp(-((y - x) / s / sqrt(2))^2))"
BARRON = "(1 if alpha < 2 else -1) * (alpha - 2) / alpha * expm1(alpha / 2 * log1p((x - y)^2)) if alpha != 0 else 0"


def proved(body: str, claim: str) -> bool:
    loss = built(f"loss f:\n{HEAD}    per = {body}\n    return mean(per)\n    claim {claim}\n")
    try:
        for q in of_claim(loss, loss.claims[0]):
            _part(q)
    except Stuck:
        return False
    return True


@pytest.mark.parametrize(
    ("body", "claim"),
    [
        (CRPS, "strictly convex in x"),
        (CRPS, "convex in s"),
        (CRPS, "lipschitz in x <= 1"),
        (CRPS, "lipschitz in s <= 0.8"),
        (CRPS, "unique minimum of per at x == y"),
        (f"{CRPS} - 0.1 * s", "convex in x"),
        ("k / alpha * expm1(alpha / 2 * log1p((x - y)^2))", "convex in x when 1 <= alpha <= 1.9"),
        ("expm1(alpha * (x - y)^2) / alpha if alpha != 0 else (x - y)^2", "per >= 0"),
        ("expm1(alpha * (x - y)^2) / alpha if alpha != 0 else (x - y)^2", "unique minimum of per at x == y"),
        ("x^2 / alpha if alpha > 0 else x if alpha == 0 else -x^2 * alpha", "convex in x"),
        ("abs(x - y) / s", "lipschitz in x <= 1 / s"),
        ("s * (1 - cos(x - y))", "lipschitz in x <= s"),
        ("(log1p(c) - log1p(abs(y)))^2", "unique minimum of per at c == abs(y)"),
        ("(exp(p) - exp(q))^2", "unique minimum of per at p == q"),
        ("abs(sqrt(p) - sqrt(q))", "unique minimum of per at p == q"),
        ("s * (1 - cos(x - y)) + log(s)", "minimum of per at x == y"),
        ("sin(x - y)^2", "minimum of per at x == y"),
    ],
)
def test_what_holds(body: str, claim: str) -> None:
    assert proved(body, claim)


@pytest.mark.parametrize(
    ("body", "claim"),
    [
        (f"-{CRPS}", "convex in x"),
        (CRPS, "lipschitz in x <= 0.99"),
        (CRPS, "lipschitz in s <= 0.79"),
        (f"{CRPS} + exp(-s)", "concave in s"),
        ("k / alpha * expm1(alpha / 2 * log1p((x - y)^2))", "convex in x when 0.99 <= alpha <= 1.9"),
        ("x^2 / alpha if alpha > 0 else x if alpha == 0 else x^2 / alpha", "convex in x"),
        ("x^2 / alpha if alpha > 0 else x^3 if alpha == 0 else -x^2 / alpha", "convex in x"),
        ("x^2 / alpha if alpha > 1 else x^2 if alpha == 1 else (alpha + 1) * x^2", "convex in x"),
        ("expm1(alpha * (x - y)^2) / alpha if alpha != 0 else -((x - y)^2)", "per >= 0"),
        ("abs(x - y) / s", "lipschitz in x <= 0.9 / s"),
        ("abs(x - y) / s", "lipschitz in x <= s"),
        ("abs(x - y) / s", "lipschitz in x <= 1"),
        ("x^2 / 2", "lipschitz in x <= abs(x)"),
        ("x^2 / 2 - abs(x)", "lipschitz in x <= 1 + abs(x)"),
        ("s * (1 - cos(x - y))", "lipschitz in x <= 0.5 * s"),
        ("(exp(p) - exp(q))^2 * (1.5 - exp(p) + exp(q))", "minimum of per at p == q"),
        ("(exp(c) - exp(y))^2 * (3 - exp(c) + exp(y))", "minimum of per at c == y"),
        ("(exp(x) - exp(y))^2 - 0.1 * (exp(x) - exp(y))", "minimum of per at x == y"),
        ("(sin(x) - sin(y))^2", "unique minimum of per at x == y"),
        ("(exp(p) - exp(q))^2 + p - q", "minimum of per at p == q"),
        ("sin(x - y)^2 - 0.01 * sin(x - y)", "minimum of per at x == y"),
        ("sin(x - y)^2 * (y - 1)", "minimum of per at x == y"),
        ("cos(x - y)", "minimum of per at x == y"),
        ("exp(log(p) - log(e)) * (log(p) - log(e) - 1)", "unique minimum of per at p == e"),
        ("exp(log(p) - log(e)) * (log(p) - log(e) - 1)", "decreasing in p on p <= e"),
        ("(log(p) - log(e)) * 0", "increasing in p on p <= e"),
        ("(x - y)^2 + 1 / c - 1 / c", "per >= 0"),
        ("(x - y)^2 + 1 / c", "minimum of per at x == y"),
        ("x[n = n + 1 else 0] + 0 * x[n = n + 1 else 0] - y", "minimum of per at x == y"),
    ],
)
def test_what_does_not(body: str, claim: str) -> None:
    assert not proved(body, claim)


def test_what_is_added_in_a_row_has_no_bound_of_its_elements() -> None:
    """The bound of an element is no bound of a sum, nor of another element."""
    text = (
        f"loss f:\n{HEAD}    row = sum(abs(x) / s over n)\n    return row\n    claim lipschitz of row in x <= 1 / s\n"
    )
    loss = built(text)
    with pytest.raises(Stuck):
        of_claim(loss, loss.claims[0])


FUNCTIONS = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "sqrt": mpmath.sqrt,
    "sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)),
    "softplus": lambda v: mpmath.log1p(mpmath.exp(v)),
    "tanh": mpmath.tanh,
    "logcosh": lambda v: mpmath.log(mpmath.cosh(v)),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "atan": mpmath.atan,
    "erf": mpmath.erf,
}


def _drawn(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.1:
        return rng.choice(["x", "x", "(x - y)", "y", "2", "0.5", "k", "sqrt(2)", "pi", "sqrt(3 / pi)"])
    kind = rng.random()
    a = _drawn(rng, depth - 1)
    if kind < 0.35:
        name = rng.choice(list(FUNCTIONS))
        inner = f"1 + ({a})^2" if name in ("log", "sqrt") else f"({a})^2" if name == "log1p" else a
        return f"{name}({inner})"
    if kind < 0.45:
        return f"({a})^{rng.choice([2, 3, 5])}"
    b = _drawn(rng, depth - 1)
    if kind < 0.55:
        return f"({a}) / (1 + ({b})^2)"
    return f"({a}) {rng.choice('+-**')} ({b})"


def _compare(rng: random.Random, text: str) -> int:
    """How many enclosures of derivatives were compared."""
    if "x" not in text.replace("exp", ""):
        return 0
    loss = built(f"loss f:\n{HEAD}    per = {text}\n    return mean(per)\n    claim convex in x\n")
    (q,) = of_claim(loss, loss.claims[0])
    try:
        curve = Curve(q)
        derivations = Derivations(curve.body, curve.variable, curve.rules.moves)
    except Stuck:
        return 0
    code = compile(text.replace("^", "**"), "drawn", "eval")
    compared = 0
    for order in (1, 2):
        numbers = {
            "x": rng.choice([0.0, 0.25, 1.0, 3.0]),
            "y": rng.choice([-1.5, 0.0, 0.75]),
            "k": rng.choice([0.5, 2.0]),
        }
        reads = {n for n in postorder(curve.body) if isinstance(n, (Read, Param))}
        known = {n: numbers[n.name if isinstance(n, Param) else n.tensor] for n in reads}
        case = Case(curve.bounds, frozenset(), {n: Enclosure(v, v) for n, v in known.items()})
        try:
            found = derivations.enclosed(case, order, tuple(curve.factors))
        except (Undecided, Stuck, ZeroDivisionError, OverflowError):
            continue

        def value(x: object, numbers: dict[str, float] = numbers) -> object:
            return eval(code, {**FUNCTIONS, **numbers, "x": x, "pi": mpmath.pi})

        with mpmath.workdps(60):
            exact = mpmath.diff(value, mpmath.mpf(numbers["x"]), order)
            slack = mpmath.mpf(10) ** -20 * (1 + abs(exact))
            assert found.lo - slack <= exact <= found.hi + slack, (text, order, numbers, found, exact)
        compared += 1
    return compared


@pytest.mark.parametrize("seed", range(2))
def test_derivatives_at_points(seed: int) -> None:
    rng = random.Random(seed)
    compared = sum(_compare(rng, _drawn(rng, 3)) for _ in range(60))
    assert compared > 50


@pytest.mark.slow
def test_derivatives_at_more_points() -> None:
    rng = random.Random(2026)
    assert sum(_compare(rng, _drawn(rng, 4)) for _ in range(5000)) > 4000


def test_one_box_of_the_whole_line() -> None:
    """What cancels does so on unbounded boxes."""
    loss = built(f"loss f:\n{HEAD}    per = {CRPS}\n    return mean(per)\n    claim convex in x\n")
    (q,) = of_claim(loss, loss.claims[0])
    assert of_convexity(q)
    curve = Curve(q)
    box, case = next(iter(curve.everywhere()))
    assert box.over == REALS
    assert Derivations(curve.body, curve.variable, curve.rules.moves).enclosed(case, 1, tuple(curve.factors)).bounded
