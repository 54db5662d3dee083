"""Germs, and what losses do along rays and towards points: slopes without bound, segments on which a loss is affine."""

from __future__ import annotations

import random
from fractions import Fraction

import mpmath as mp
import pytest

from lossdsl.ir.nodes import Apply, Param
from lossdsl.verify import germs as g
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.germs import Germ, Unsettled
from lossdsl.verify.paths import Along, apply
from lossdsl.verify.rays import _germs
from tests.fuzz_attacks import number
from tests.fuzz_losses import TooFar
from tests.fuzz_losses import row as random_row
from tests.test_verify import built
from tests.test_verify_attack import status

# ------------------------------------------------------------------------------------------------------- germs

UNARY = (
    ("neg", lambda v: -v),
    ("abs", abs),
    ("relu", lambda v: max(v, mp.mpf(0))),
    ("sqrt", mp.sqrt),
    ("exp", mp.exp),
    ("expm1", mp.expm1),
    ("log", mp.log),
    ("log1p", mp.log1p),
    ("log1mexp", lambda v: mp.log(-mp.expm1(v))),
    ("sigmoid", lambda v: 1 / (1 + mp.exp(-v))),
    ("logsigmoid", lambda v: -mp.log1p(mp.exp(-v))),
    ("softplus", lambda v: mp.log1p(mp.exp(v))),
    ("tanh", mp.tanh),
    ("lgamma", lambda v: mp.loggamma(v)),
    ("digamma", mp.digamma),
    ("logcosh", lambda v: mp.log(mp.cosh(v))),
    ("cosh", mp.cosh),
    ("sinh", mp.sinh),
    ("sin", mp.sin),
    ("atan", mp.atan),
)
BINARY = (
    ("add", lambda u, v: u + v),
    ("sub", lambda u, v: u - v),
    ("mul", lambda u, v: u * v),
    ("div", lambda u, v: u / v),
    ("max2", max),
    ("min2", min),
    ("logaddexp", lambda u, v: max(u, v) + mp.log1p(mp.exp(-abs(u - v)))),
)


def _value(germ: Germ, t: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
    """The sum of the terms, and how wide their coefficients are."""
    total, width = mp.mpf(0), mp.mpf(0)
    for m, c in germ.terms:
        box = g.enclosed(c)
        size = mp.exp(number(m[0]) * t) * t ** number(m[1]) * mp.log(t) ** number(m[2])
        total += size * ((mp.mpf(box.lo) + mp.mpf(box.hi)) / 2 if isinstance(c, Enclosure) else number(c))
        width += size * (mp.mpf(box.hi) - mp.mpf(box.lo))
    return total, width


def _size(m: g.Monomial, t: mp.mpf) -> mp.mpf:
    return mp.exp(number(m[0]) * t) * t ** number(m[1]) * mp.log(t) ** number(m[2])


def _grown(rng: random.Random, depth: int) -> tuple[Germ, object]:
    if depth == 0:
        c, k = Fraction(rng.randint(-6, 6), rng.choice((1, 2, 3))), rng.choice((-1, 0, 1, 1, 2))
        return g.monomial((Fraction(0), Fraction(k), Fraction(0)), c), lambda t: number(c) * t**k
    if rng.random() < 0.5:
        name, f = rng.choice(UNARY)
        a, u = _grown(rng, depth - 1)
        node = Apply(name, (Param("#a"),))
        return apply(node, [a]), lambda t: f(u(t))
    name, h = rng.choice(BINARY)
    (a, u), (b, v) = _grown(rng, depth - 1), _grown(rng, depth - 1)
    node = Apply(name, (Param("#a"), Param("#b")))
    return apply(node, [a, b]), lambda t: h(u(t), v(t))


@pytest.mark.parametrize(("name", "f"), [("lgamma", mp.loggamma), ("digamma", mp.digamma), ("log10", mp.log10)])
@pytest.mark.parametrize(("power", "shift"), [(1, 0), (1, 5), (2, -3), (-1, 0), (-2, 0)])
def test_germs_of_the_gamma_function(name, f, power, shift) -> None:
    a = g.add(g.monomial((Fraction(0), Fraction(power), Fraction(0)), Fraction(3)), g.constant(Fraction(shift)))
    germ = apply(Apply(name, (Param("#a"),)), [a])
    with mp.workdps(60):
        for t in (mp.mpf(10) ** 3, mp.mpf(10) ** 5):
            near, width = _value(germ, t)
            left = abs(f(3 * t**power + shift) - near) - width
            assert left <= (10 * _size(germ.rest, t) if germ.rest is not None else mp.mpf(10) ** -50)


def test_a_germ_of_enclosures_is_not_another_that_looks_the_same() -> None:
    wide = Germ(((g.LINEAR, Enclosure(1.0, 2.0)),))
    assert g.divide(wide, wide) != g.constant(Fraction(1))


def test_a_germ_is_the_function_up_to_its_rest() -> None:
    """Random compositions: the error is within what the coefficients and a multiple of the rest allow, far out."""
    rng, seen, exact = random.Random(5), 0, 0
    for _ in range(600):
        try:
            germ, f = _grown(rng, rng.choice((1, 2, 3, 4)))
        except Unsettled:
            continue
        if any(abs(m[0]) > 50 for m, _ in germ.terms):
            continue
        with mp.workdps(900):
            ratios = []
            for t in (mp.mpf(300), mp.mpf(900)):
                try:
                    value = f(t)
                except (OverflowError, ValueError, ZeroDivisionError):
                    break
                if isinstance(value, mp.mpc) or not mp.isfinite(value):
                    break
                near, width = _value(germ, t)
                left = abs(value - near) - width - mp.mpf(10) ** -100 * (1 + abs(near))
                if germ.exact:
                    assert left <= 0, (germ, t)
                else:
                    ratios.append(max(left, mp.mpf(0)) / _size(germ.rest, t))
            if len(ratios) == 2:
                # O(rest): the quotient stays bounded (a factor for what has not settled yet)
                assert ratios[1] <= 20 * (ratios[0] + 1000), (germ, ratios)
                seen += 1
            exact += germ.exact
    assert seen > 60
    assert exact > 100


def test_signs_and_order_of_growth() -> None:
    t, one = g.monomial(g.LINEAR), g.constant(Fraction(1))
    assert g.sub(g.mul(t, t), g.mul(g.constant(Fraction(1000)), t)).sign() == 1
    assert g.sub(g.exponential(g.mul(g.constant(Fraction(1, 1000)), t)), g.power(t, Fraction(60))).sign() == 1
    assert g.sub(g.logarithm(t), g.power(t, Fraction(1, 1000))).sign() == -1
    assert g.sub(t, t).zero
    both = g.log_sum_exp([t, g.add(t, one)])
    assert both.exact
    assert [m for m, _ in both.terms] == [g.LINEAR, g.CONSTANT]
    with pytest.raises(Unsettled):
        g.exponential(g.mul(t, t))
    with pytest.raises(Unsettled):
        g.sub(g.power(g.constant(Fraction(2)), Fraction(1, 2)), g.power(g.constant(Fraction(2)), Fraction(1, 2))).sign()


# --------------------------------------------------------------------------------------------------- elements


def test_germs_of_random_rows_are_what_the_rows_do() -> None:
    """Along the path of the germ, by an evaluator that knows of no germs."""
    seen = 0
    for seed in range(60):
        rng = random.Random(seed)
        loss = random_row(rng)
        program = built(loss.source([])).program
        for k, (path, (n,), germ) in enumerate(_germs(Context(program, seconds=0.02), "per", ("z",), seed)):
            if k > 5:
                break
            width = path.base.extents["c"]
            label = (
                int(path.base.inputs["t"][n,])
                if loss.label == "class"
                else [number(path.base.inputs["p"][n, c]) for c in range(width)]
            )
            with mp.workdps(120):
                for t in (Fraction(2**26), Fraction(2**32)):
                    point = path.at(t if path.kind == "far" else 1 / t)
                    try:
                        value = loss.value(
                            [number(point.inputs["z"][n, c]) for c in range(width)],
                            label,
                            number(point.parameters["a"]),
                        )
                    except TooFar:
                        break
                    if not mp.isfinite(value) or any(m[0] > 0 for m, _ in germ.terms):
                        break
                    near, allowed = _value(germ, number(t))
                    rest = mp.mpf(0) if germ.exact else 2**20 * _size(germ.rest, number(t))
                    assert abs(value - near) <= allowed + rest + mp.mpf(10) ** -100 * (1 + abs(near)), (
                        seed,
                        germ,
                        path,
                    )
                    seen += 1
    assert seen > 100


def test_a_place_that_is_not_certain_has_no_germ() -> None:
    program = built(
        "loss t:\n    input z: real[n, c]\n    per = z[c = argmax(sin(z) over c)]\n    return mean(per)\n"
    ).program
    point = Context(program).sampler(1).point(spread=2.0)
    assert point is not None
    z = {p: g.monomial(g.LINEAR, Fraction(1 + p[1])) for p in point.inputs["z"]}
    with pytest.raises(Unsettled):
        Along(program, point, {"z": z}).element("per", (0,))


# ------------------------------------------------------------------------------------------------ the verdicts

ROW = "input z: real[n, c]\n"
TARGET = "input t: class[n] of c\n"
SIMPLEX = "input z: simplex[n, c] over c\n"
HALF = "input z: real[n, c] >= 0\n"
# (declarations and body, claim, whether it is true)
ALONG = [
    (ROW + "per = sum(z^2 over c)", "lipschitz in z", False),
    (ROW + "per = norm(z over c)", "lipschitz in z", True),
    (ROW + "per = logsumexp(z over c)", "lipschitz in z", True),
    (ROW + "per = logsumexp(z^2 over c)", "lipschitz in z", False),
    (ROW + "per = sqrt(norm(z over c))", "lipschitz in z", False),  # at 0 alone
    (ROW + "per = max(z over c)^(3/2) if max(z over c) > 1000000 else 1", "lipschitz in z", False),  # far out
    (ROW + "per = sum(exp(z / 1000) over c)", "lipschitz in z", False),
    (ROW + "per = log(1 + sum(exp(z / 1000) over c))", "lipschitz in z", True),
    (ROW + "param a: real in [0, 1] = 0\nper = a * sum(z^2 over c)", "lipschitz in z", False),  # not at the default
    (ROW + "param a: real in [0, 1] = 0\nper = a * sum(abs(z) over c)", "lipschitz in z", True),
    (ROW + TARGET + "per = sum(relu(z)^2 over c where c != t)", "lipschitz in z", False),
    (SIMPLEX + TARGET + "per = -log(z[c = t])", "lipschitz in z", False),
    (SIMPLEX + "per = sum(xlogy(z, z) over c)", "lipschitz in z", False),
    (SIMPLEX + "per = sum(sqrt(z) over c)", "lipschitz in z", False),
    (SIMPLEX + "per = sum(z^2 over c)", "lipschitz in z", True),
    (HALF + "per = sum(sqrt(z) over c)", "lipschitz in z", False),
    (HALF + "per = sum(sqrt(1 + z) over c)", "lipschitz in z", True),
    (HALF + "per = sum(z over c)^2 / (1 + sum(z over c))", "lipschitz in z", True),
    (ROW + "per = sum(abs(z)^(1/2) over c) ", "lipschitz in z <= 1000000 in linf", False),
    (ROW + "place = argsort(z over c)\nranked = z[c = place]\nper = sum(ranked^2 * c over c)", "lipschitz in z", False),
    # affine on a segment
    (ROW + "per = logsumexp(z over c)", "strictly convex in z", False),  # along (1, ..., 1)
    (ROW + TARGET + "per = logsumexp(z over c) - z[c = t]", "strictly convex in z", False),
    (ROW + "per = norm(z over c)", "strictly convex in z", False),  # along a ray through 0
    (ROW + "per = sum(z^2 over c)", "strictly convex in z", True),
    (ROW + "per = sum(z over c)^2", "strictly convex in z", False),
    (ROW + "per = sum(exp(z) over c)", "strictly convex in z", True),
    (ROW + "per = max(sum(z^2 over c), 100)", "strictly convex in z", False),  # in a ball
    (ROW + "per = max(sum(z^2 over c), -1)", "strictly convex in z", True),
    (ROW + "per = sum(relu(z - 1)^2 over c)", "strictly convex in z", False),
    (ROW + "per = sum(relu(z + 1000)^2 over c)", "strictly convex in z", False),  # far out
    (ROW + TARGET + "per = sum(z^2 over c where c != t)", "strictly convex in z", False),
    (ROW + "param a: real in [0, 1] = 1\nper = a * sum(z^2 over c)", "strictly convex in z", False),
    (SIMPLEX + "per = sum(z^2 over c)", "strictly convex in z", True),
    (SIMPLEX + "per = sum(z over c)^2", "strictly convex in z", False),
]


@pytest.mark.parametrize(("body", "claim", "true"), ALONG, ids=[f"{c} of {b[-40:]}" for b, c, _ in ALONG])
def test_along_paths(body: str, claim: str, true: bool) -> None:
    assert status(body, claim) in ("unknown", "proved" if true else "refuted")


@pytest.mark.slow
def test_most_of_it_is_decided() -> None:
    assert sum(status(b, c) == "refuted" for b, c, true in ALONG if not true) >= 19
