"""Certificates of finiteness in float types: the sets of floats hold what numpy computes, what is false has no certificate, and
counterexamples break what is compiled."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl import catalogue, pipeline
from lossdsl.certificate import arithmetic as a
from lossdsl.certificate import document
from lossdsl.certificate.computed import Computed
from lossdsl.certificate.document import Rejected, sealed, verify
from lossdsl.certificate.question import Question, of_claim, of_finding
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.safety import FORMATS, of_point
from lossdsl.diagnostics import Source
from lossdsl.dim import Dim
from lossdsl.ir.build import BuiltLoss
from lossdsl.ir.nodes import INT, REAL, Apply, Index, Param
from lossdsl.primitives import PRIMITIVES
from lossdsl.verify.enclosure import Enclosure
from tests.test_certificate import document_of
from tests.test_verify import built
from tests.test_verify_attack import status
from tests.test_verify_float_ranges import BREAKING, DECIDED, SLOW

EXAMPLES = Path(__file__).parents[1] / "examples"
SPECIAL = [0.0, 1.0, -1.0, 0.5, 2.0, 3.0, -2.0, 88.0, 89.0, -88.0, -104.0, 120.0, 700.0, 65504.0, -65504.0, 1e-7, -1e-7]
SPECIAL += [a.LARGEST, -a.LARGEST, a.NORMAL, -a.NORMAL, 2.0**-140, 2.0**64, -(2.0**64), 1e20, -1e20, 1e-20, 2.0**26]
SPECIAL = [float(np.float32(x)) for x in SPECIAL]
NOT_NUMBERS = [float("inf"), float("-inf"), float("nan")]


def single_point(x: float) -> a.Float:
    if x != x or abs(x) == float("inf"):
        return a.Float(None, x == float("inf"), x == float("-inf"), x != x)
    end = 0.0 if 0 < abs(x) < a.NORMAL else x  # a subnormal number may be read as 0
    return a.Float(Enclosure(min(x, end), max(x, end)))


def holds(found: a.Float, y: float) -> bool:
    if y != y:
        return found.nan
    if abs(y) == float("inf"):
        return found.up if y > 0 else found.down
    return found.box is not None and (found.box.lo <= y <= found.box.hi)


def number(rng: random.Random, special: bool = True) -> float:
    if special and rng.random() < 0.4:
        return rng.choice(SPECIAL + NOT_NUMBERS)
    return float(
        np.float32(rng.choice((-1, 1)) * rng.random() * 2.0 ** rng.choice((-3, 0, 0, 2, 5, 7, 20, 90, -40, -130)))
    )


def operations() -> list[Apply]:
    found = []
    for name, record in sorted(PRIMITIVES.items()):
        if name in ("int", "real", "floordiv", "mod", "polygamma", "floor", "ceil"):
            continue
        arguments = tuple(Param(f"x{k}") for k in range(len(record.arguments)))
        node = Apply(name, arguments)
        if arguments and node.dtype is REAL:
            found.append(node)
    return found


@pytest.mark.parametrize("node", operations(), ids=lambda n: n.name)
def test_sets_hold_what_numpy_computes(node: Apply) -> None:
    rng, certain = random.Random(f"sets {node.name}"), 0
    for _ in range(1500):
        xs = [number(rng) for _ in node.args]
        if node.name == "clamp" and not xs[1] <= xs[2]:
            continue
        if node.name in ("pow", "powi"):
            xs[1] = float(
                rng.choice((-3, -2, -1, 0, 1, 2, 3, 5) if node.name == "powi" else (-1.5, 0.5, 2.0, 2.5, 0.0))
            )
        with np.errstate(all="ignore"):
            y = float(np.float32(PRIMITIVES[node.name].numpy(*(np.float32(x) for x in xs))))
        found = a.applied(node, [single_point(x) for x in xs])
        certain += found.box is None or found.box.hi - found.box.lo < 1e-2 * abs(found.box.hi)
        if node.name in ("max2", "min2", "relu", "clamp", "sign") and any(x != x for x in xs):
            continue  # emitted code keeps NaN, whatever numpy does
        assert holds(found, y), (node.name, xs, y, found)
    assert certain > 100


def test_boxes_of_powers_hold_what_numpy_computes() -> None:
    """Of exponents between two numbers: 0^0 is 1, and what is small may be read as 0."""
    rng, node = random.Random("powers"), Apply("pow", (Param("x"), Param("y")))
    special, certain = [0.0, 1.0, 2.0, 0.5, a.LEAST, a.NORMAL, 65504.0, a.LARGEST], 0
    for _ in range(3000):
        drawn = [rng.choice(special) if rng.random() < 0.4 else abs(number(rng, False)) for _ in range(4)]
        ends = [sorted(pair) for pair in (drawn[:2], drawn[2:])]
        boxes = [Enclosure(lo if lo >= a.NORMAL else 0.0, hi) for lo, hi in ends]  # as all sets of this arithmetic
        found = a.applied(node, [a.Float(b) for b in boxes])
        certain += found.finite
        for _ in range(6):
            x, y = (np.float32(rng.choice([b.lo, b.hi, rng.uniform(b.lo, b.hi)])) for b in boxes)
            if not all(b.lo <= v <= b.hi for b, v in zip(boxes, (x, y), strict=True)):
                continue
            x, y = (np.float32(0) if v < a.NORMAL and rng.random() < 0.5 else v for v in (x, y))
            with np.errstate(all="ignore"):
                assert holds(found, float(np.power(x, y))), (boxes, x, y, found)
    assert certain > 300


def tree(rng: random.Random, depth: int) -> tuple[Any, ...]:
    """An expression, as nested operations of numbers."""
    if depth == 0 or rng.random() < 0.1:
        return ("x", number(rng, special=rng.random() < 0.3))
    name = rng.choice(
        ("add", "sub", "mul", "mul", "div", "add", "exp", "log", "sqrt", "abs", "relu", "max2", "neg", "tanh")
    )
    return (name, *(tree(rng, depth - 1) for _ in PRIMITIVES[name].arguments))


def as_set(t: tuple[Any, ...]) -> a.Float:
    if t[0] == "x":
        return single_point(t[1])
    args = [as_set(s) for s in t[1:]]
    return a.applied(Apply(t[0], tuple(Param(f"x{k}") for k in range(len(args)))), args)  # type: ignore[arg-type]


def as_number(t: tuple[Any, ...], rng: random.Random, flush: bool) -> float:
    """In float32, products contracted with additions at random."""
    if t[0] == "x":
        return 0.0 if flush and abs(t[1]) < a.NORMAL else float(t[1])
    with np.errstate(all="ignore"):
        if t[0] in ("add", "sub"):
            for k in (1, 2):
                if t[k][0] == "mul" and rng.random() < 0.5:
                    p, q = (np.float64(as_number(s, rng, flush)) for s in t[k][1:])
                    other = np.float64(as_number(t[3 - k], rng, flush))
                    sign = -1 if t[0] == "sub" else 1
                    exact = sign * p * q + other if k == 2 else p * q + sign * other
                    return flushed(float(np.float32(exact)), flush)
        args = [np.float32(as_number(s, rng, flush)) for s in t[1:]]
        if t[0] in ("max2", "relu") and any(x != x for x in args):
            return float("nan")
        return flushed(float(np.float32(PRIMITIVES[t[0]].numpy(*args))), flush)


def flushed(y: float, flush: bool) -> float:
    return 0.0 if flush and abs(y) < a.NORMAL else y


def test_expressions_are_in_their_sets() -> None:
    """Contracted or not, flushed to 0 or not: 6,000 expressions."""
    rng, certain = random.Random(41), 0
    for _ in range(6000):
        t = tree(rng, rng.randint(1, 4))
        found = as_set(t)
        certain += found.beyond(a.LARGEST) or found.finite
        for flush in (False, True):
            for _ in range(2):
                y = as_number(t, rng, flush)
                assert holds(found, y), (t, y, found)
    assert certain > 3000


def test_sums_and_logarithms_of_sums_in_any_order() -> None:
    rng = random.Random(43)
    for _ in range(3000):
        xs = [number(rng, special=rng.random() < 0.2) for _ in range(rng.randint(1, 6))]
        rng.shuffle(xs)
        total = np.float32(0)
        with np.errstate(all="ignore"):
            for x in xs:
                total = np.float32(total + np.float32(x))
            assert holds(a.total([single_point(x) for x in xs]), float(total)), xs
            top = np.max(np.float32(xs))
            lse = top + np.log(np.sum(np.exp(np.float32(xs) - top), dtype=np.float32))
        if not np.isnan(lse):  # of infinities some say NaN, some inf
            assert holds(a.logsumexp([single_point(x) for x in xs]), float(lse)), (xs, lse)
    many = a.total([single_point(3.0), single_point(0.25)], [1, 1 << 20])
    assert many.box is not None
    assert many.box.lo <= 262147 <= many.box.hi < 262160


# ------------------------------------------------------------------------------------------------ statements


def asked(declared: str, body: str, word: str, more: str = "") -> Question:
    lines = "".join(f"    {line}\n" for line in declared.splitlines())
    loss = built(f"loss t:\n{lines}    per = {body}\n    return mean(per)\n    claim finite in {word}{more}\n")
    return of_claim(loss, loss.claims[0])[0]


def is_certified(q: Question) -> bool:
    try:
        document._part(q)
    except Stuck:
        return False
    return True


MIXED = "input x: real[n, c] in [-1e38, 1e38]\nparam b: bool = false"
SCALED = "input x: real[n, c] in [-1, 1]\nparam k: real in [1/1000, 1000] = 1"
PLANE = "input x: real[n, h, w] in [-1, 1]"
X, XY, ROW = "input x: real[n]", "input x, y: real[n]", "input x: real[n, c]"
FINITE = [
    (X, "softplus(x)", "float32"),
    (X, "softplus(-x) * sigmoid(x)", "float16"),
    (X, "tanh(x)^3", "float32"),
    (X, "exp(-x^2 / 2)", "float16"),
    (X, "log(1 + x^2)", "float16"),
    (XY, "(x - y)^2 / 2 if abs(x - y) < 1 else abs(x - y) - 1/2", "float16"),
    ("input x: real[n]\ninput y: binary[n]", "softplus(x) - y * x", "float32"),
    ("input x: real[n, c]\ninput y: class[n] of c", "-log_softmax(x over c)[c = y]", "float16"),
    ("input x: real[n, c]\ninput y: class[n] of c", "1 - softmax(x over c)[c = y]", "float32"),
    ("input x: real[n] in [1, 10]", "1 / x + log(x)", "float16"),
    ("input x: real[n]\nparam a: real in [1/8, 8] = 1", "sqrt(a^2 + x^2) - a", "float16"),
    ("input x: real[n] in [0, 1]", "xlogy(x, x)", "float16"),
    ("input x: real[n, c]\ninput m: bool[n, c]", "mean(x over c where m)", "float16"),
    ("input x: real[n]\nparam k: int >= 0 = 1", "x / k if k != 0 else 0", "float16"),
    (
        "input x: real[n] in [-32, 32]\ninput t: real[n]\naxis m = n",
        "logsumexp(x[m] over m where t[m] >= t) - x",
        "float32",
    ),
    ("input x: real[n] in [0, 1]\nparam a: real >= 0 = 2", "stop(x)^a", "float16"),
    ("input x: real[n] in [0, 2]\nparam a: real in [0, 15] = 2", "stop(x)^a", "float16"),
    ("input x: real[n, c] in [-1, 1]\nparam k: real > 0 = 1", "max(k * stop(x) over c else 0) / k", "float16"),
    (SCALED, "30000 * (max(k * stop(x) over c else 0) / k)", "float16"),
    (MIXED, "sum((stop(softmax(x over c)) if b else softmax(x over c)) * log_softmax(x over c) over c)", "float32"),
    (PLANE, "1e38 * mean(x[h = h + 1] - x over h, w else 0)", "float32"),
]
FALSE = [
    ("input x: real[n] in [0, 2]\nparam a: real in [0, 129] = 2", "stop(x)^a", "float32"),
    ("input x: real[n] in [0, 1]\nparam a: real in [0, 1] = 1", "1 / stop(x)^a", "float32"),
    ("input x: real[n] in [0, 1]\nparam a: real >= 0 = 2", "x^a", "float16"),  # its derivative, for a below 1
    ("input x: real[n, c] in [-1, 1]\nparam k: real > 0 = 1", "max(k * stop(x) over c else 0) / k", "float32"),
    (SCALED, "70000 * (max(k * x over c else 0) / k)", "float16"),
    (f"{SCALED}\ninput m: bool[n]", "max(k * stop(x) over c else 0) / (1 if m else 0)", "float16"),
    (MIXED, "sum(stop(softmax(-x over c) if b else softmax(x over c)) * log_softmax(x over c) over c) * 4", "float32"),
    (PLANE, "1e38 * (mean(x[h = h + 1] - x over h, w else 0) + 3 * mean(x over h, w else 0))", "float32"),
    (PLANE, "sum(x[h = h + 1] - x over h, w) / (size(h) * size(w))", "float32"),  # of no place it is 0 / 0
    ("input x: real[n] in [0, 1]", "1 / x if x != 0 else 0", "float32"),
    ("input x: real[n] in [0, 1]", "1 / x if x != 0 else 0", "float16"),
    ("input x: real[n]\nparam k: int >= 0 = 1", "x / k if k != 1 else 0", "float16"),
    ("input x: real[n]\nparam k: real >= 0 = 1", "x / k if k != 0 else 0", "float32"),
    (
        "input x: real[n] in [-32, 32]\ninput t: real[n]\naxis m = n",
        "logsumexp(x[m] over m where t[m] > t) - x",
        "float32",
    ),
    ("input x: real[n, c]\ninput m: bool[n, c]", "sum(x over c where m) / count(m over c)", "float16"),
    (X, "x^2", "float32"),
    (X, "x^2", "float16"),
    (X, "exp(x)", "float32"),
    (X, "log(2 + exp(x))", "float32"),
    (X, "exp(x) * (0 * x)", "float32"),
    (X, "x / abs(x)", "float16"),
    (X, "sqrt(x)", "float16"),
    (X, "log(x)", "float16"),
    ("input x: real[n] in (0, 1]", "log(x)", "float32"),
    ("input x: real[n] in (0, 1]", "1 / x", "float16"),
    (XY, "(x - y) * 65520", "float16"),
    ("input x: real[n, c]\ninput y: class[n] of c", "-log_softmax(x over c)[c = y]", "float32"),
    (XY, "x / (y^2 + 1e-30)", "float32"),
    (ROW, "logsumexp(x over c) - max(x over c)", "float16"),  # of no class it is -inf - (-inf)
    (ROW, "sum(x over c)", "float32"),
    (ROW, "sum(exp(x) over c)", "float16"),
    (ROW, "prod(x over c)", "float32"),
    (ROW, "logsumexp(3 * x over c) * 30000", "float16"),
    (XY, "x * y", "float32"),
    ("input x: real[n]\nparam a: real > 0 = 1", "softplus(x / a)", "float32"),
    ("input x: real[n, c]\ninput w: real[n, c]", "65519 * sum(w * softmax(x over c) over c) / 65519", "float32"),
    ("input x: real[n, n2]\ninput y: real[n2]", "sum(x over n2) * 0", "float32"),
    ("input x: real[n, c] in [1, 2]", "sum(x over c) / size(c)", "float32"),  # of no class it is 0 / 0
    ("input x, y: real[n] in [-1e6, 1e6]", "stop(x * y - x * y) * 1e38", "float32"),  # the one product contracted alone
    (XY, "(clip_gradient(x, 1) - y)^2", "float32"),  # no gradient is compiled of it
    ("input w: real[n] > 0 = 1e-30", "1 / stop(w)^5", "float16"),  # the default is none of the type
    ("input w: real[n]\nparam a: real in (0, 1) = 0.9999999", "stop(w) / (1 - a)^10", "float16"),
]
CLAMPED = "clamp(1e30 * (a * b - z), -5, 5)"  # any number between, where a product is contracted or not
ROWS = "input a, b, z: real[n, c] in [-1, 1]"
INVERSE = "1 / max(abs(m), 1e-37)"
FALSE += [
    (ROWS, f"sum(stop(exp(1e4 * ({CLAMPED} - max({CLAMPED} over c)))) over c) / 1e10", "float32"),
    (f"{ROWS}\ninput w: real[n, c] in [-1e37, 1e37]", f"stop(sum(w * softmax({CLAMPED} over c) over c))", "float32"),
    (  # a share of 2^-31 times k is rounded up
        "input x: real[n, c] in [-1, 1]\nparam k: real in [1e-36, 1e-36] = 1e-36\nparam j: real in [2e36, 2e36] = 2e36",
        "stop(1e38 * (j * sum(softmax(x over c) * k over c)))",
        "float32",
    ),
    *(  # m is computed anew in f: 0 there, and not where it is compared
        (
            f"input x: real[n, c]\n{ROWS}\nm[n, c] = a * b + z\n{f}",
            f"stop(1e25 * sum({term} over c{where}))",
            "float16",
        )
        for f, term, where in (
            (f"f[n, c] = softmax(x over c) * ({INVERSE})", "(f if abs(m) >= 1e-8 else 0)", ""),
            (f"f[n, c] = softmax(x over c) * ({INVERSE})", "f", " where abs(m) >= 1e-8"),
            ("f[n, c] = softmax(x over c) * clamp(1e30 * m, -1e30, 1e30)", "f", " where abs(m) <= 1e-20"),
        )
    ),
]


@pytest.mark.parametrize(("declared", "body", "word"), FINITE, ids=[f"{b} in {w}" for _, b, w in FINITE])
def test_what_is_finite_has_a_certificate(declared: str, body: str, word: str) -> None:
    assert is_certified(asked(declared, body, word))


@pytest.mark.parametrize(("declared", "body", "word"), FALSE, ids=[f"{b} in {w}" for _, b, w in FALSE])
def test_what_is_not_finite_has_none(declared: str, body: str, word: str) -> None:
    assert not is_certified(asked(declared, body, word))


# for seconds
SEARCHED = ("log(x)", "(x - y) * 65520", "logsumexp(x over c) - max(x over c)", "sum(x over c) / size(c)")


@pytest.mark.parametrize(
    ("declared", "body", "word"),
    [pytest.param(*f, marks=[pytest.mark.slow] if f[1] in SEARCHED else [], id=f"{f[1]} in {f[2]}") for f in FALSE],
)
def test_what_is_not_finite_is_not_proved(declared: str, body: str, word: str) -> None:
    """Nor by the verifier."""
    assert status(f"{declared}\nper = {body}", f"finite in {word}") != "proved"


OTHERS = [(d, b, w) for d, b, w, found in DECIDED if found != "proved"] + SLOW + BREAKING


@pytest.mark.parametrize(("declared", "body", "word"), OTHERS, ids=[f"{b} in {w}" for _, b, w in OTHERS])
def test_what_the_verifier_does_not_prove_has_none(declared: str, body: str, word: str) -> None:
    assert not is_certified(asked(declared, body, word))


def test_assumptions_are_used() -> None:
    assert is_certified(asked(X, "exp(x)", "float32", " on abs(x) <= 80"))
    assert not is_certified(asked(X, "exp(x)", "float32", " on abs(x) <= 90"))
    assert not is_certified(asked(X, "exp(x)", "float16", " on abs(x) <= 12"))
    assert not is_certified(asked(X, "log(stop(x))", "float32", " on x >= 1e-40"))  # which may be read as 0
    power = "input x: real[n]\nparam k: real in [0, 4] = 1"
    assert is_certified(asked(power, "k * abs(x)", "float16", " when k == 1"))
    assert not is_certified(asked(power, "k * x^2", "float16", " at defaults"))


# ---------------------------------------------------------------------------------------------- counterexamples


def counter(text: str, claim: str, points: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    entry = {"claim": text.count("\n"), "text": claim, "status": "refuted", "part": 0, "points": points}
    entry |= {"rule": "a point in float arithmetic", "tensor": "per", "element": [0], "values": ["inf"], **more}
    loss = {"name": "t", "entries": [entry], "without": []}
    return sealed({"version": 1, "path": "t.loss", "source": text, "losses": [loss]})


def text_of(declared: str, body: str, word: str) -> str:
    return f"loss t:\n    {declared}\n    per = {body}\n    return mean(per)\n\n    claim finite in {word}\n"


def test_a_point_where_it_overflows_is_accepted() -> None:
    text = text_of(X, "x^2", "float32")
    assert verify(counter(text, "finite in float32", [{"x[0]": str(2**65)}])).entries == 1


def test_places_are_computed_of_integers() -> None:
    """(i + 1) % 2 of 1 is 0: one place alone overflows, and it is the other one that reads it."""
    declared = "input x: real[n, 2]\n    axis i = 2"
    text = text_of(declared, "sum((x[n, (i + 1) % 2]^2 if i == 1 else 0) over i)", "float32")
    for large, counted in ((0, True), (1, False)):
        point = {f"x[0, {k}]": str(2**65 if k == large else 0) for k in (0, 1)}
        if counted:
            assert verify(counter(text, "finite in float32", [point])).entries == 1
        else:
            with pytest.raises(Rejected):
                verify(counter(text, "finite in float32", [point]))
    for name in ("mod", "floordiv"):
        node = Apply(name, (Index("i", Dim.symbol("n")), Index("j", Dim.symbol("n"))))
        for i, j in itertools.product((0, 1, 2, 7, 2**30), (1, 2, 3, 2**30)):
            found = a.applied(node, [a.Float(Enclosure(float(v), float(v))) for v in (i, j)])
            assert holds(found, float(i % j if name == "mod" else i // j))
            assert found.box is not None
            assert found.box.lo == found.box.hi
        for i, j in ((-1, 2), (1, -2), (1, 0)):  # where it is rounded to another side, or there is none
            found = a.applied(node, [a.Float(Enclosure(float(v), float(v))) for v in (i, j)])
            assert j == 0 or holds(found, float(i % j if name == "mod" else i // j))


@pytest.mark.parametrize(
    ("declared", "body", "word", "point", "why"),
    [
        (X, "x^2", "float32", {"x[0]": str(2**63)}, "nothing"),
        (X, "x^2", "float32", {"x[0]": str(2**129)}, "no number of the type"),
        (X, "x^2", "float16", {"x[0]": "65505"}, "no number of the type"),
        (X, "x^2", "float16", {"x[0]": "1/3"}, "no number of the type"),
        (X, "x^2", "bfloat16", {"x[0]": str(2**65 + 2**50)}, "no number of the type"),
        ("input x: real[n] in [-1, 1]", "exp(100 * x)", "float32", {"x[0]": "2"}, "outside"),
        ("input x: real[n] > 0", "1 / x", "float32", {"x[0]": "0"}, "outside"),
        ("input x, y: real[n]", "x * x - y", "float32", {"x[0]": str(2**64), "y[0]": str(2**127)}, "nothing"),
        # an axis over which a maximum is taken has an entry
        (f"{ROW}\n    input y: real[n]", "max(x over c) * y", "float32", {"y[0]": "1", "size(c)": "0"}, "maximum"),
        (ROW, "sum(x over c)", "float32", {"x[0, 0]": str(2**100), "size(c)": str(2**32)}, "size"),
        (
            "input x: simplex[n, c] over c",
            "1e20 * sum(x over c)",
            "float32",
            {"x[0, 0]": "1", "size(c)": str(2**31)},
            "more",
        ),
        (X, "stop(sign(x / x))", "float32", {"x[0]": "0"}, "nothing"),  # the sign of NaN may be 0
        (
            X,
            "stop(clamp(1, x / x, 1))",
            "float32",
            {"x[0]": "0"},
            "nothing",
        ),  # what is clamped may pass a limit that is NaN
        (
            f"{X}\n    param a: real = 1",
            "1e30 * a * tanh(stop(x))",
            "float16",
            {"x[0]": "1", "a": str(10**10)},
            "no number",
        ),
        (  # the product of the first two alone is 0
            ROW,
            "exp(stop(prod(x over c) * 2^110))",
            "float32",
            {"x[0, 0]": f"1/{2**100}", "x[0, 1]": f"1/{2**100}", "x[0, 2]": str(2**100)},
            "nothing",
        ),
    ],
    ids=str,
)
def test_what_is_no_counterexample_is_rejected(
    declared: str, body: str, word: str, point: dict[str, str], why: str
) -> None:
    with pytest.raises(Rejected, match=why):
        verify(counter(text_of(declared, body, word), f"finite in {word}", [point]))


def test_a_long_axis_counts_every_element() -> None:
    q = asked(ROW, "sum(x over c)", "float32")
    point = {"x[0, 0]": str(2**100), "size(c)": str(2**30)}
    assert of_point(q, {"points": [point]})["tensor"] == "per"
    with pytest.raises(Stuck):
        of_point(q, {"points": [{**point, "size(c)": str(2**20)}]})


# --------------------------------------------------------------------------------------------------- catalogue


def about_floats(made: dict[str, Any], path: Path) -> Iterator[tuple[BuiltLoss, dict[str, Any]]]:
    """The entries of finiteness of a document, and the loss."""
    for loss in made["losses"]:
        for entry in loss["entries"]:
            if "finite in " in str(entry.get("finding", entry.get("text"))):
                yield built(path.read_text()), entry


def word_of(entry: dict[str, Any]) -> str:
    return next(w for w in ("bfloat16", "float16", "float32") if w in str(entry.get("finding", entry.get("text"))))


def breaks(path: Path, loss: BuiltLoss, entry: dict[str, Any]) -> bool | None:
    """Whether the module that is compiled returns something that is not finite at the point of an entry; None where the point
    is said in another way than entry by entry, or is of other parameters than the module's, or of elements left out."""
    torch = pytest.importorskip("torch")
    point, program = entry["points"][0], loss.program
    defaults = {p.name: str(p.default.value) for p in program.parameters if p.default is not None}
    if any(point.get(name) != value for name, value in defaults.items()):
        return None
    if program.reductions is None or program.reductions.none != program.target:  # elements may be left out
        return None
    arguments: dict[str, Any] = {}
    for i in program.inputs:
        entries = {k: float(Fraction(v)) for k, v in point.items() if k.startswith(f"{i.name}[")}
        if not entries or any(k.startswith("size(") for k in point):
            return None
        places = {tuple(map(int, k[len(i.name) + 1 : -1].split(","))): v for k, v in entries.items()}
        kind = getattr(torch, word_of(entry)) if i.dtype is REAL else torch.int64
        whole = torch.zeros([max(axis) + 1 for axis in zip(*places, strict=True)], dtype=kind)
        for place, v in places.items():
            whole[place] = v if i.dtype is REAL else int(v)
        arguments[i.name] = whole.requires_grad_() if i.differentiable else whole
    per = lossdsl.load(path).function(**arguments, reduction="none")
    moved = [t for t in arguments.values() if t.requires_grad]
    gradients = torch.autograd.grad(per.sum(), moved, allow_unused=True)
    return not all(bool(t.isfinite().all()) for t in (per, *gradients) if t is not None)


QUICK = (
    "regression/poisson",
    "classification/binary_cross_entropy",
    "regression/huber",
    "survival/gamma_nll",  # an end that does not belong to the domain is no counterexample
    "uncertainty/laplace_nll",  # nor is a product that a sum may bring back
    "survival/cox",  # a long axis
)


@pytest.mark.parametrize("name", QUICK)
def test_entries_of_the_catalogue(name: str) -> None:
    path = EXAMPLES / f"{name}.loss"
    made = document_of(Source(str(path), path.read_text()))
    assert verify(made).entries > 3
    without = [w for loss in made["losses"] for w in loss["without"] if "finite in" in w and "within" not in w]
    assert not without
    for loss, entry in about_floats(made, path):
        assert entry["status"] == "proved" or breaks(path, loss, entry) is not False
        q = of_finding(loss, entry["finding"], ())[0] if "finding" in entry else None
        if q is not None and entry["status"] == "refuted":
            assert not is_certified(q)


@pytest.mark.slow
def test_the_catalogue_breaks_where_certificates_say() -> None:
    """By torch; and nothing that is refuted has a proof, nor are there points against what is proved."""
    certified = refuted = broken = 0
    for path in (e.path for e in catalogue.entries()):
        for loss, entry in about_floats(document_of(Source(str(path), path.read_text())), path):
            if "finding" not in entry:
                continue
            q = of_finding(loss, entry["finding"], ())[0]
            if entry["status"] == "proved":
                certified += 1
                if "within" not in entry:
                    attack(q)
                continue
            refuted += 1
            assert not is_certified(q), (path, entry["finding"])
            breaking = breaks(path, loss, entry)
            assert breaking is not False, (path, entry)
            broken += breaking is True
    assert refuted > 350
    assert certified > 100
    assert broken > 100, broken


def attack(q: Question, tries: int = 40) -> None:
    """Points of extreme numbers at which nothing may be out of the type."""
    rng = random.Random(f"attack {q.program.name} {q.property}")
    form = FORMATS[q.property.removeprefix("finite in ")]
    numbers = [0.0, 1.0, -1.0, form.largest, -form.largest, float(form.digit), 2.0**-14, 30.0, -30.0, 1e4, -1e4]
    for _ in range(tries):
        extents = dict.fromkeys({s for i in q.program.inputs for d in i.dims for s in d.symbols()}, rng.randint(1, 3))
        point: dict[str, str] = {p.name: str(p.default.value) for p in q.program.parameters if p.default is not None}
        for i in q.program.inputs:
            places = list(np.ndindex(*(d.evaluate(extents) for d in i.dims)))
            for place in places:
                name = f"{i.name}[{', '.join(map(str, place))}]" if place else i.name
                v = (
                    Fraction(rng.choice(numbers))
                    if i.dtype is not INT and i.kind == "real"
                    else Fraction(rng.randint(0, 1))
                )
                point[name] = str(v)
        try:
            of_point(q, {"points": [point]})
        except Stuck:
            continue
        raise AssertionError((q.program.name, q.property, point))


def test_proofs_are_attacked() -> None:
    for declared, body, word in FINITE:
        attack(asked(declared, body, word))


WEIGHED = [
    ("x", "sum(softmax(x over c) * log_softmax(x over c) over c)"),
    ("x", "sum(softmax(x over c)^2 over c)"),
    ("xw", "sum(stop(w) * softmax(x over c) over c) / 4"),
    ("xw", "sum(abs(softmax(x over c) - stop(softmax(w over c))) over c)"),
    ("xw", "1 - sum(stop(softmax(w over c)) * log_softmax(x over c) over c)"),
    ("x", "mean(softplus(x) over c)"),
    ("x", "max(x over c else 0) / 2 - min(x over c else 0) / 2"),
]


@pytest.mark.parametrize(("names", "body"), WEIGHED, ids=[body for _, body in WEIGHED])
def test_weighed_rows_are_finite_when_they_are_run(names: str, body: str) -> None:
    """Rows with a certificate for float16, by torch, at extreme numbers."""
    torch = pytest.importorskip("torch")
    declared = f"input {', '.join(names)}: real[n, c]"
    assert is_certified(asked(declared, body, "float16"))
    loss = lossdsl.loads(f"loss t:\n    {declared}\n    per = {body}\n    return sum(per)\n")
    generator = torch.Generator().manual_seed(5)
    numbers = torch.tensor([0, 1, -1, 65504, -65504, 2**-24, -(2**-24), 300, -300, 65472], dtype=torch.float16)
    for columns in (1, 2, 3, 17, 4096):
        for kinds in (1, 2, 5, 10):
            tensors = {}
            for name in names:
                drawn = torch.randint(0, kinds, (8, columns), generator=generator)
                tensors[name] = numbers[torch.randperm(10, generator=generator)][drawn].requires_grad_()
            per = loss.function(**tensors, reduction="none").float()
            (gradient,) = torch.autograd.grad(per.sum(), [tensors["x"]])
            assert bool(per.isfinite().all()), (columns, kinds)
            assert bool(gradient.isfinite().all()), (columns, kinds)


def test_elements_are_evaluated_where_they_are() -> None:
    loss = built("loss t:\n    input x: real[n]\n    per = 1 / x if x != 0 else 0\n    return mean(per)\n")
    values = Computed(loss.program, {"n": 2}, {}, {"x": {(0,): Fraction(0), (1,): Fraction(2)}}, {})
    assert values.element("per", (0,)) == a.ZERO
    assert values.element("per", (1,)).within(0.5)


def test_a_size_is_said_a_little_smaller_and_never_larger() -> None:
    """Where this arithmetic is less exact than that of the verifier."""
    entry = next(e for e in catalogue.entries() if e.path.stem == "chamfer")
    source = Source(entry.path.name, entry.path.read_text())
    checked = pipeline.check(source)
    made = document.certify(source, checked.analysis.losses, checked.reports)
    (loss,) = made["losses"]
    (found,) = (e for e in loss["entries"] if "within" in e and e["finding"].endswith("float16"))
    (size,) = (
        f.verdict.value.lower
        for f in checked.reports[0].findings
        if f.property.endswith("float16") and f.verdict.value is not None and f.verdict.value.lower is not None
    )
    assert size * 0.995 < float.fromhex(found["within"]) < size
    assert document.verify(made).entries == len(loss["entries"])
    forged = {**found, "within": (8.0 * size).hex()}
    with pytest.raises(document.Rejected):
        document.verify(document.sealed({**made, "losses": [{**loss, "entries": [forged]}]}))
