"""Points at which float32 arithmetic certainly makes an infinity or NaN (`floats`, `overflow.breaking`): the rules, and
counterexamples run by torch."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import lossdsl
from lossdsl.verify.check import verify_program
from lossdsl.verify.corners import rounded_to
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.float_values import BAD, LARGEST, Float, infinity, settled
from lossdsl.verify.floats import Floats
from lossdsl.verify.points import Point, Undecided
from lossdsl.verify.verdict import Refuted
from tests.test_verify import built
from tests.test_verify_attack import status
from tests.test_verify_symmetry import status as status_of


def value(body: str, **inputs: float) -> Float:
    names = ", ".join(inputs)
    loss = built(f"loss t:\n    input {names}: real[n]\n    per = {body}\n    return mean(per)\n")
    entries = {name: {(0,): Fraction(x)} for name, x in inputs.items()}
    return Floats(loss.program, Point({"n": 1}, {}, entries)).element("per", (0,))


def test_what_certainly_overflows() -> None:
    assert value("x * x", x=2.0**65).sign == 1
    assert value("-x * x", x=2.0**65).sign == -1
    assert value("x * x / (1 + x * x)", x=2.0**65).bad
    assert value("exp(x)", x=100.0).sign == 1
    assert value("log(x)", x=0.0).sign == -1
    assert value("log(x)", x=-1.0).bad
    assert value("1 / x", x=0.0).bad
    assert value("exp(-exp(x))", x=100.0) == settled(Enclosure(0.0, 0.0), 0.0)
    assert value("sigmoid(exp(x))", x=100.0).box.lo == 1
    assert value("1 / exp(x)", x=100.0).box.hi == 0
    for body in ("relu(log(x))", "max(log(x), 0)", "min(0, max(log(x), 0))", "abs(log(x)) + 1", "log(x) * 0"):
        assert value(body, x=-1.0).nan
    assert value("x / y", x=0.0, y=0.0).nan
    assert value("exp(x) * y", x=100.0, y=0.0).nan
    assert value("abs(y)^x", x=-0.5, y=0.0).bad
    assert value("1 / exp(x)", x=-89.0 - 15).bad  # the denominator is flushed to 0, or so small
    assert value("logaddexp(log(x), y)", x=0.0, y=3.0).box.lo == 3


def test_what_is_open_is_not_decided() -> None:
    for body, inputs in (
        ("x * 3", {"x": 113427455640312814857969558651062452224.0}),  # at the edge of overflow
        ("1 / exp(x)", {"x": -88.0}),  # flushed to zero or not
        ("x * y + z", {"x": 2.0**64, "y": 2.0**64, "z": -LARGEST}),  # contracted or not
        ("relu(-1 / x)", {"x": 0.0}),  # -inf or inf
        ("exp(x - y)", {"x": LARGEST, "y": -LARGEST * 2.0**-20}),
    ):
        with pytest.raises(Undecided):
            value(body, **inputs)


def test_a_sum_in_any_order() -> None:
    body = "sum(x over c)"
    loss = built(f"loss t:\n    input x: real[n, c]\n    per = {body}\n    return mean(per)\n")

    def total(*x: float) -> Float:
        entries = {"x": {(0, k): Fraction(v) for k, v in enumerate(x)}}
        return Floats(loss.program, Point({"n": 1, "c": len(x)}, {}, entries)).element("per", (0,))

    assert total(LARGEST, LARGEST).sign == 1
    assert total(1.0, 2.0).box == Enclosure(3.0, 3.0)  # one addition, of which the result is a number
    assert total(1.0, 2.0, 3.0).box.lo < 6 < total(1.0, 2.0, 3.0).box.hi
    with pytest.raises(Undecided):
        total(LARGEST, LARGEST, -LARGEST, -LARGEST)


def test_infinities_and_what_is_not_finite() -> None:
    assert infinity(1).finite is False
    assert BAD.finite is False
    with pytest.raises(Undecided):
        settled(Enclosure(0.0, 2 * LARGEST), 0.0)


@pytest.mark.parametrize("v", ["1/3", "-65519", "1/16777216", "3/16777216", "1/33554432", "12345/8"])
def test_numbers_of_the_type(v: str) -> None:
    import numpy as np

    near = rounded_to(Fraction(v), 11, Fraction(1, 2**24))
    assert Fraction(float(np.float16(float(near)))) == near
    assert abs(near) <= abs(Fraction(v))


ROW = "input x: real[n, c]"
BREAKING = [
    ("input x: real[n]", "x^2 / (1 + x^2)", "float32"),
    ("input x: real[n]", "log1p(x^2)", "float32"),
    ("input x: real[n]", "sqrt(1 + x^2)", "bfloat16"),
    (ROW, "x[c = 0] / norm(x over c)", "float32"),
    (ROW, "log(sum(exp(x)^2 over c))", "float16"),
    ("input x: real[n, c]\ninput y: real[n, c]", "sum(x * y over c) / (norm(x over c) * norm(y over c))", "bfloat16"),
]


@pytest.mark.parametrize(("declared", "body", "word"), BREAKING, ids=[b for _, b, _ in BREAKING])
def test_torch_breaks_where_the_witness_says(declared: str, body: str, word: str) -> None:
    torch = pytest.importorskip("torch")
    lines = "".join(f"    {line}\n" for line in declared.splitlines())
    text = f"loss t:\n{lines}    per = {body}\n    return sum(per)\n    claim finite in {word}\n"
    verdict = lossdsl.check(lossdsl.Source("t.loss", text)).claims[0].verdict
    assert isinstance(verdict, Refuted)
    point, arguments = verdict.witness.points[0], {}
    for name in ("x", "y"):
        entries = {k: float(v) for k, v in point.items() if k.startswith(f"{name}[")}
        places = {tuple(map(int, k[2:-1].split(","))): v for k, v in entries.items()}
        if places:
            tensor = torch.zeros([max(axis) + 1 for axis in zip(*places, strict=True)], dtype=getattr(torch, word))
            for place, v in places.items():
                tensor[place] = v
                assert float(tensor[place]) == v
            arguments[name] = tensor.requires_grad_()
    per = lossdsl.loads(text).function(**arguments, reduction="none")
    gradients = torch.autograd.grad(per.sum(), list(arguments.values()))
    assert not all(bool(t.isfinite().all()) for t in (per, *gradients))


@pytest.mark.parametrize("word", ["float32", "float16", "bfloat16"])
def test_what_is_safe_is_not_refuted(word: str) -> None:
    for declared, body in (
        (ROW, "logsumexp(x over c) - max(x over c)"),
        (ROW, "sum(sigmoid(x) over c)"),
        (ROW, "max(sigmoid(x) over c)"),
        (ROW, "max(exp(log_softmax(x over c)) over c)"),
    ):
        assert status(f"{declared}\nper = {body}", f"finite in {word}") != "refuted", body


MASSES = [
    # softmax weights add up to 1, however many there are; so do shares of a mean, and one class is one term
    (ROW, "-sum(exp(log_softmax(x over c)) * sigmoid(x) over c)", "float16", "proved"),
    ("input x: real[n, c]\ninput t: class[n] of c", "logsumexp(x over c) - x[c = t]", "float16", "proved"),
    ("input x: real[n, c]", "mean(sigmoid(x) over c)", "float16", "proved"),
    ("input x: real[n, c]", "mean(softplus(x) over c)", "float16", "proved"),
    # a sum is not: its gradient is bounded, its value in float32 too, but the mean of large numbers overflows
    ("input x: real[n, c]", "mean(x over c)", "float32", "refuted"),
    ("input x: real[n, c]", "sum(x^2 over c)", "float16", "refuted"),
    (
        "input x: real[n, c]\nparam a: real >= 0 = 1",
        "a * sum(exp(log_softmax(x over c)) * x over c)",
        "float32",
        "refuted",
    ),
    # differences of two entries, part by part
    ("input x, y: real[n]", "sqrt((x - y)^2 + 1)", "float16", "proved"),
    ("input x, y: real[n]", "(x - y)^2", "float16", "refuted"),
]


@pytest.mark.parametrize(("declared", "body", "word", "expected"), MASSES, ids=[b for _, b, _, _ in MASSES])
def test_sums_of_weights(declared: str, body: str, word: str, expected: str) -> None:
    assert status(f"{declared}\nper = {body}", f"finite in {word}") in (expected, "unknown")


def test_most_sums_of_weights_are_decided() -> None:
    found = [status(f"{d}\nper = {b}", f"finite in {w}") for d, b, w, _ in MASSES]
    assert found.count("unknown") <= 1, found


# ------------------------------------------------------------------------------------- sums that share a weight

_ROWS = (
    "input x, y: real[n, c]\ninput t: class[n] of c\nparam q: real in (0, 1] = 1/2\nparam b: real in [0, 1] = 1/2\n"
    "logp = log_softmax(x over c)\nlogq = log_softmax(y over c)\n"
)


@pytest.mark.parametrize(
    "body",
    [
        "per = -sum(exp(logp) * logp over c)",  # an entropy is at most log n
        "per = -b * logp[c = t] - (1 - b) * sum(exp(logp) * logp over c)",
        "per = -expm1(q * logp[c = t]) / q",  # x / q * q in the gradient
        "per = -(1 - b) * logp[c = t] - b / max(1, size(c) - 1) * sum(logp over c where c != t)",
    ],
)
def test_gradients_of_rows_are_finite_in_float16(body: str) -> None:
    assert status_of(_ROWS + body + "\nreturn mean(per)", "finite in float16") == "proved"


@pytest.mark.parametrize(
    "body",
    [
        "per = -sum(exp(logp) * logq over c) * 3",  # a cross entropy is not bounded
        "per = sum(exp(logp) * logp * logq over c)",
        "per = -expm1(q * logp[c = t]) / (q * q)",
        "per = -sum(exp(x) * x over c)",  # no weights
        "per = -b / max(1, size(n) - 1) * sum(logp over c where c != t)",
        "per = -b / max(1 / 1000000, size(c) - 1) * sum(1000000 * logp over c where c != t)",
    ],
)
def test_near_misses_are_not_proved_finite(body: str) -> None:
    assert status_of(_ROWS + body + "\nreturn mean(per)", "finite in float16") != "proved"


def test_an_entropy_of_many_classes_is_below_its_bound() -> None:
    """In float32, as it is computed, at the numbers of float16 that are furthest out."""
    rng = np.random.default_rng(2)
    for count in (1, 2, 1000, 300_000):
        for scale in (0.0, 1e-3, 5.0, 65504.0):
            x = (rng.normal(size=count) * scale).clip(-65504, 65504).astype(np.float32)
            top = x.max()
            logp = x - (top + np.log(np.exp(x - top).sum(dtype=np.float32)))
            value = (np.exp(logp) * np.abs(logp)).sum(dtype=np.float32)
            slack = 131008 * 2.0**-21 + 2.0**-9
            assert value <= np.exp(slack) * (np.log(count) + 2 * slack) * (1 + 2.0**-13)


# ------------------------------------------------------------------------------------------------- safe inputs


def _last_finite(f, largest: float) -> float:  # type: ignore[no-untyped-def]
    """The largest number at which the formula (increasing in size), in extended precision, is not above `largest`."""
    low, high = np.longdouble(2.0**-20), np.longdouble(3.4e38)
    for _ in range(90):
        middle = np.sqrt(low) * np.sqrt(high)
        low, high = (middle, high) if f(middle) <= largest else (low, middle)
    return float(low)


SAFE = [  # a body, the type, and of what the largest is the last to be finite
    ("x * x", "float32", lambda x: np.maximum(x * x, 2 * x), LARGEST),
    ("x^4", "float32", lambda x: np.maximum(x**4, 4 * x**3), LARGEST),
    ("exp(x)", "float32", np.exp, LARGEST),
    ("exp(x^2)", "float32", lambda x: np.maximum(1, 2 * x) * np.exp(x * x), LARGEST),
    ("x * x", "float16", lambda x: 2 * x, 65519.0),
    ("x^4", "float16", lambda x: 4 * x**3, 65519.0),
    ("exp(x)", "float16", np.exp, 65519.0),
    ("cosh(x) - 1", "float16", np.sinh, 65519.0),
    ("sum(exp(x) over c)", "float16", np.exp, 65519.0),
]


@pytest.mark.parametrize(("body", "word", "size", "largest"), SAFE, ids=[f"{b} in {w}" for b, w, *_ in SAFE])
def test_the_safe_interval_has_two_ends(body: str, word: str, size, largest: float) -> None:  # type: ignore[no-untyped-def]
    axes = "n, c" if "over c" in body else "n"
    loss = built(f"loss t:\n    input x: real[{axes}]\n    per = {body}\n    return sum(per)\n")
    (found,) = (f for f in verify_program(loss).findings if f.property == f"finite in {word}")
    number = found.verdict.value
    assert isinstance(found.verdict, Refuted)
    assert number is not None
    assert number.lower is not None
    assert number.upper is not None
    assert 0 < number.lower < number.upper
    entries = [abs(v) for name, v in found.verdict.witness.points[0].items() if name.startswith("x")]
    assert number.upper == max(entries)
    true = _last_finite(size, largest)
    assert number.lower <= true <= number.upper * 1.001
    assert number.upper <= 1.5 * number.lower
