"""Certificates of rounding errors: on boxes every scalar is where the checker says, however it is computed; bounds that are
certified are kept, false ones have no certificate, and what was tampered with is rejected."""

from __future__ import annotations

import copy
import itertools
import random
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath
import pytest

from lossdsl.certificate import document
from lossdsl.certificate.arithmetic import NATURAL
from lossdsl.certificate.document import Rejected, sealed, verify
from lossdsl.certificate.question import ERROR, Question, of_finding
from lossdsl.certificate.rounding import UNIT, Element, Errors, Seen, of_error, restated, stated
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source
from lossdsl.ir.build import build
from lossdsl.ir.nodes import And, Apply, Compare, Const, Not, Or, Read, Scalar, Select, Stop, postorder
from lossdsl.primitives import PRIMITIVES
from lossdsl.primitives.interval import Interval
from lossdsl.syntax.parser import parse
from lossdsl.verify.enclosure import Enclosure
from tests.test_certificate import document_of
from tests.test_verify import built

EXAMPLES = Path(__file__).parents[1] / "examples"
NORMAL, DIGIT, LARGEST = mpmath.mpf(2) ** -126, mpmath.mpf(2) ** -149, float.fromhex("0x1.fffffep127")
PRECISION = 240  # bits, more than 60 digits
ROUNDED_TO_NEAREST = ("add", "sub", "mul", "real", "neg", "abs", "relu", "max2", "min2", "sign")


def single(x: float) -> float:
    """The nearest float32."""
    with mpmath.workprec(24):
        return float(+mpmath.mpf(x))


class Undefined(Exception):
    pass


def reference(n: Apply, args: list[Any]) -> Any:
    """The operation with many digits, of which the result is no larger than what is an infinity for sure."""
    if n.name == "exp" and args[0] > 1000:
        raise Undefined
    try:
        found = PRIMITIVES[n.name].reference(mpmath.mp, *args)
    except (OverflowError, ValueError, ZeroDivisionError):
        raise Undefined from None
    if isinstance(found, mpmath.mpc) or not mpmath.isfinite(found) or abs(found) > mpmath.mpf(2) ** 1000:
        raise Undefined
    return found


class Machine:
    """Values of a scalar at a point: exact, and as some arithmetic of the model computes them; `seen` is told of each."""

    def __init__(self, at: dict[Scalar, float], rng: random.Random, seen: Errors | None = None) -> None:
        self.at, self.rng, self.seen = at, rng, seen
        self.flush, self.contract = rng.random() < 0.5, rng.choice((0.0, 0.5, 1.0))
        self.known: dict[Scalar, Any] = {}

    # exact values

    def exact(self, n: Scalar) -> Any:
        if n not in self.known:
            self.known[n] = self._exact(n)
        return self.known[n]

    def _exact(self, n: Scalar) -> Any:
        match n:
            case Read():
                return mpmath.mpf(self.at[n])
            case Const(value=Fraction() as v):
                return mpmath.mpf(v.numerator) / v.denominator
            case Stop():
                return self.exact(n.a)
            case Select():
                return self.exact(n.a if self.holds(n.condition, self.exact) else n.b)
            case Apply():
                args = [self.exact(a) for a in n.args]
                if n.name == "div" and args[1] == 0:
                    raise Undefined
                return reference(n, args)
        raise AssertionError(n)

    def holds(self, n: Scalar, value: Any) -> bool:
        match n:
            case Compare():
                a, b = value(n.a), value(n.b)
                return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[n.op])
            case Not():
                return not self.holds(n.a, value)
            case And():
                return all(self.holds(a, value) for a in n.args)
            case Or():
                return any(self.holds(a, value) for a in n.args)
            case Const():
                return n.value != 0
        raise AssertionError(n)

    # computed ones

    def computed(self, n: Scalar, contracted: bool = False) -> Any:
        found = self._computed(n, contracted)
        if abs(found) > LARGEST:
            raise Undefined
        if self.seen is not None:
            self.check(n, found)
        return found

    def _computed(self, n: Scalar, contracted: bool) -> Any:
        match n:
            case Read():
                return mpmath.mpf(self.at[n])
            case Const():
                return self.rounded(self.exact(n))
            case Stop():
                return self.computed(n.a, contracted)
            case Select():
                return self.computed(n.a if self.holds(n.condition, self.computed) else n.b, contracted)
            case Apply(name="neg"):
                return -self.computed(n.args[0], contracted)
            case Apply():
                return self.operation(n, contracted)
        raise AssertionError(n)

    def operation(self, n: Apply, contracted: bool) -> Any:
        sums = n.name in ("add", "sub")
        args = [self.computed(a, sums and self.rng.random() < self.contract) for a in n.args]
        if n.name == "div" and args[1] == 0:
            raise Undefined
        found = reference(n, args)
        if n.name == "mul" and contracted:
            return found
        accuracy = PRIMITIVES[n.name].accuracy
        assert accuracy is not None
        if n.name not in ROUNDED_TO_NEAREST and not (n.name == "div" and abs(mpmath.frexp(args[1])[0]) == 0.5):
            relative, absolute = accuracy(*(Interval(float(a), float(a)) for a in args))
            share = self.rng.choice((-1, 1, 0, self.rng.uniform(-1, 1)))
            found += share * (max(relative - 1, 0) * abs(found) + absolute) * UNIT
            low, high = NATURAL.get(n.name, (-mpmath.inf, mpmath.inf))
            if n.name in ("sigmoid", "tanh") and abs(args[0]) >= 110:
                low = high = 1 if args[0] > 0 else 0 if n.name == "sigmoid" else -1
            found = min(max(found, low), high)
        return self.rounded(found)

    def rounded(self, x: Any) -> Any:
        if abs(x) < NORMAL:
            return mpmath.mpf(0) if self.flush else mpmath.nint(x / DIGIT) * DIGIT
        with mpmath.workprec(24):
            return +x

    def check(self, n: Scalar, found: Any) -> None:
        assert self.seen is not None
        seen: Seen | None = self.seen._known.get(n)
        if seen is None:  # of a branch that is not taken in the box, or an entry of a difference
            return
        exact = self.exact(n)
        off, where = max(abs(found - exact) - abs(exact) * mpmath.mpf(2) ** (8 - PRECISION), 0), (n, seen, self.at)
        assert seen.exact.lo <= exact <= seen.exact.hi, (exact, where)
        assert seen.box.lo <= found <= seen.box.hi or (seen.computed.exact is not None and off <= seen.most), where
        assert off <= seen.most, (off, where)
        assert off <= seen.relative * abs(exact) + seen.absolute, (off, where)


# --------------------------------------------------------------------------------------------- random losses

UNARY = ("exp({})", "log1p({}^2)", "log1p(abs({}))", "softplus({})", "sigmoid({})", "tanh({})", "sqrt(1 + ({})^2)")
UNARY += (
    "abs({})",
    "-({})",
    "({})^2",
    "({})^3",
    "relu({})",
    "expm1({})",
    "logsigmoid({})",
    "sqrt(abs({}))",
    "logcosh({})",
)
UNARY += ("log(1 + ({})^2)", "log(1/2 + abs({}))", "cos({})", "atan({})", "exp(-({})^2)", "erf({})", "abs({})^(3/2)")
BINARY = (
    "({} + {})",
    "({} - {})",
    "({} * {})",
    "({} * {})",
    "({} / (1 + abs({})))",
    "({} / {})",
    "max({}, {})",
    "min({}, {})",
)
TERNARY = ("({} if {} > 1 else {})", "({} if {} < x else {})")
LEAVES = ("x", "x", "x", "1", "2", "0.1", "3", "1/3", "0.5")


def loss(rng: random.Random, depth: int, leaves: tuple[str, ...] = LEAVES) -> str:
    if depth == 0:
        return rng.choice(leaves)
    kind = rng.choice("uuubbbbt")
    forms = UNARY if kind == "u" else BINARY if kind == "b" else TERNARY
    form = rng.choice(forms)
    return form.format(
        *(loss(rng, depth - rng.choice((1, 1, 2) if depth > 1 else (1,)), leaves) for _ in range(form.count("{}")))
    )


def is_built(body: str) -> bool:
    file = Source("t.loss", f"loss t:\n    input x, y: real[n]\n    per = {body}\n    return mean(per)\n")
    return bool(build(parse(file)[0], file)[0])


def question(body: str, said: str, declared: str = "input x: real[n]") -> Question:
    (asked,) = of_finding(
        built(f"loss t:\n    {declared}\n    per = {body}\n    return mean(per)\n"),
        ERROR,
        (),
        error=restated(stated(said)["error"]),
    )
    return asked


def points(rng: random.Random, box: Enclosure, many: int) -> Iterator[float]:
    """Floats of a box on one side of 0, at its ends, and of all sizes."""
    if box.zero:
        yield 0.0
        return
    lo, hi = sorted((abs(box.lo), abs(box.hi)))
    for k in range(many):
        x = (lo, hi)[k] if k < 2 else lo * (hi / lo) ** rng.random() if k % 2 else rng.uniform(lo, hi)
        x = single(x) * (1 if box.hi > 0 else -1)
        if box.lo <= x <= box.hi:
            yield x


def boxes(rng: random.Random, whole: Enclosure) -> Iterator[Enclosure]:
    """Parts of a box on one side of 0: wide ones, and ones of a few floats."""
    if whole.zero:
        yield whole
        return
    lo, hi = sorted((abs(whole.lo), abs(whole.hi)))
    for _ in range(3):
        near = lo * (hi / lo) ** rng.choice((rng.random(), 1 - rng.random() / 12, 1 - rng.random() / 30))
        far = min(hi, near * (1 + 2.0 ** rng.choice((-22, -18, -10, -3, 0, 2, 6))))
        yield Enclosure(near, far) if whole.hi > 0 else Enclosure(-far, -near)


def attack_boxes(rng: random.Random, q: Question, many: int) -> int:
    """How many values of scalars on boxes were looked at."""
    try:
        element = Element(q)
    except Stuck:
        return 0
    count = 0
    for _ in range(2):
        here = [rng.choice(list(boxes(rng, rng.choice(entry.parts())))) for entry in element.entries]
        try:
            at = {node: seen for entry, box in zip(element.entries, here) for node, seen in entry.at(box).items()}
        except Stuck:  # differences that are infinite
            continue
        errors = Errors(q.fixed, at)
        for n in postorder(element.body):  # as many as may be: one that has no bound does not hide the others
            try:
                errors[n]
            except (Stuck, AssertionError):
                continue
        for values in zip(*(list(points(rng, box, many)) or [0.0] for box in here)):
            place: dict[Scalar, float] = {}
            for entry, v, box in zip(element.entries, values, here):
                place |= leaves(entry, v, box, rng)
            count += attacked(element.body, place, rng, errors)
    return count


def leaves(entry: Any, value: float, box: Enclosure, rng: random.Random) -> dict[Scalar, float]:
    if not entry.difference:
        return {entry.nodes[0][0]: value}
    a, b = entry.nodes[0][0].args
    y = rng.choice((0.0, single(value * rng.random()), single(rng.uniform(-2, 2))))
    x = single(value + y)
    return {a: x, b: y} if Fraction(box.lo) <= Fraction(x) - Fraction(y) <= Fraction(box.hi) else {a: value, b: 0.0}


def attacked(body: Scalar, place: dict[Scalar, float], rng: random.Random, errors: Errors | None) -> int:
    machine = Machine(place, rng, errors)
    try:
        machine.exact(body)
        machine.computed(body)
    except Undefined:
        return 0
    return 1


def of_x(body: str) -> str:
    return body if re.search(r"\bx\b", body) else f"{body} + x"


def attack_random(seed: str, many: int) -> tuple[int, int]:
    """How many of so many losses were attacked, at how many points."""
    found = []
    with mpmath.workprec(PRECISION):
        for k in range(many):
            rng = random.Random(f"{seed} {k}")
            more = ("y", "y") if rng.random() < 0.3 else ()
            said = f"1e-05 * abs(exact) + 1e-05 where abs(x) <= {rng.choice((16, 1024))}"
            body = of_x(loss(rng, rng.randint(1, 4), LEAVES + more))
            if not is_built(body):  # a number of it is divided by 0
                continue
            found.append(attack_boxes(rng, question(body, said, "input x, y: real[n]"), 12))
    return sum(n > 0 for n in found), sum(found)


def test_scalars_on_boxes_are_where_the_checker_says() -> None:
    """Of random losses every scalar, on wide boxes and on narrow ones, contracted or not, flushed to 0 or not."""
    losses, places = attack_random("quick", 600)
    assert losses > 300
    assert places > 4000


@pytest.mark.slow
def test_scalars_of_many_losses_are_where_the_checker_says() -> None:
    losses, _ = attack_random("slow", 20000)
    assert losses > 10000


# ------------------------------------------------------------------------------------------------ statements


def is_certified(q: Question) -> bool:
    try:
        of_error(q)
    except Stuck:
        return False
    return True


def smallest(body: str, relative: str, within: int) -> tuple[Question, float] | None:
    """The statement with the least power of 2 as absolute error that is certified, if one is."""
    low, high, found = -60, 12, None
    while low < high:
        middle = (low + high) // 2
        q = question(body, f"{relative} * abs(exact) + {2.0**middle:.30f} where abs(x) <= {within}")
        if is_certified(q):
            high, found = middle, (q, 2.0**middle)
        else:
            low = middle + 1
    return found


def attack_bound(rng: random.Random, q: Question, many: int) -> float:
    """The largest share of the bound that an error takes."""
    element, error, worst = Element(q), q.error, 0.0
    assert error is not None
    relative, absolute = (mpmath.mpf(v.numerator) / v.denominator for v in (error.relative, error.absolute))
    for entry, box in [(own, part) for own in element.entries for part in own.parts()]:
        lo, hi = sorted((abs(box.lo), abs(box.hi)))
        near = [Enclosure(max(lo, hi * 2.0**-k), hi) for k in (1, 6, 20)] if box.hi > 0 else []
        near += [Enclosure(box.lo, min(box.hi, box.lo * 2.0**-k)) for k in (1, 6, 20)] if box.hi < 0 else []
        for x in [x for part in (box, *near) for x in points(rng, part, many)]:
            machine = Machine({entry.nodes[0][0]: x}, rng)
            try:
                exact = machine.exact(element.body)
                off = abs(machine.computed(element.body) - exact)
            except Undefined as undefined:
                raise AssertionError(f"no number at {x}") from undefined
            assert off <= relative * abs(exact) + absolute, (x, off, exact, error)
            if off:
                worst = max(worst, float(off / (relative * abs(exact) + absolute)))
    return worst


def attack_bounds(seed: str, many: int) -> tuple[int, int]:
    """How many random losses have a certified bound, and of how many an error comes near it."""
    kept = close = 0
    with mpmath.workprec(PRECISION):
        for k in range(many):
            rng = random.Random(f"{seed} {k}")
            body = of_x(loss(rng, rng.randint(1, 3)))
            if not is_built(body):
                continue
            found = smallest(body, rng.choice(("1e-06", "1e-05", "0", "3e-07")), rng.choice((16, 1024)))
            if found is not None:
                kept += 1
                close += attack_bound(rng, found[0], 12) > 0.05
    return kept, close


def test_the_smallest_bounds_that_are_certified_are_kept() -> None:
    kept, close = attack_bounds("quick", 60)
    assert kept > 20
    assert close > 5


@pytest.mark.slow
def test_the_smallest_bounds_of_many_losses_are_kept() -> None:
    kept, close = attack_bounds("slow", 1500)
    assert kept > 500
    assert close > 100


ROW, KNOWN = "input x: real[n, c]", "param k: real = 1\n    input z: real[n] = 0\n    param b: bool = false"
X, XY, LABELS = "input x: real[n]", "input x, y: real[n]", "input x: real[n]\n    input y: binary[n]"
FINE = [  # statements that hold
    (X, "softplus(x)", "3e-06 * abs(exact) + 1e-06 where abs(x) <= 64"),
    (X, "sqrt(1 + x^2)", "1e-06 * abs(exact) + 0 where abs(x) <= 1e+15"),
    (X, "log1p(x^2)", "3e-06 * abs(exact) + 3e-38 where abs(x) <= 1e+15"),
    (X, "relu(x - 1)", "6e-08 * abs(exact) + 0 where abs(x) <= 1e+30"),
    (XY, "abs(x - y)", "6e-08 * abs(exact) + 0 where abs(x) <= 1e+38, abs(y) <= 1e+38"),
    (XY, "(x - y)^2", "6e-07 * abs(exact) + 1.2e-38 where abs(x) <= 1e+18, abs(y) <= 1e+18"),
    (XY, "x * y", "6e-08 * abs(exact) + 1.2e-38 where abs(x) <= 1e+18, abs(y) <= 1e+18"),
    (LABELS, "softplus(x) - y * x", "0 * abs(exact) + 0.0003 where abs(x) <= 64"),
    (X, "1 / x", "3e-07 * abs(exact) + 1.2e-38 where 1e-05 <= x <= 1e+05"),
    (X, "x^2 / 2 if abs(x) < 1 else abs(x) - 1/2", "3e-07 * abs(exact) + 1e-06 where abs(x) <= 1e+06"),
    (f"{XY}\n    {KNOWN}", "2 * (x - k * y - z)", "6e-08 * abs(exact) + 0 where abs(x) <= 1e+30, abs(y) <= 1e+30"),
    (f"{XY}\n    {KNOWN}", "y / k - (x + z)", "6e-08 * abs(exact) + 0 where abs(x) <= 1e+30, abs(y) <= 1e+30"),
    (f"{ROW}\n    {KNOWN}", "x / norm(x over c) if b else x", "0 * abs(exact) + 0 where abs(x) <= 1e+30"),
]
TWO = "    param k: real = 1.0000001\n    input z: real[n] = 1\n    param b: bool = true"
FALSE = [  # cancellation, and errors that are a little larger
    (f"{XY}\n{TWO}", "2 * (x - k * y)", "6e-08 * abs(exact) + 0 where abs(x) <= 1e+30, abs(y) <= 1e+30"),
    (f"{XY}\n{TWO}", "2 * (x - y - z)", "6e-08 * abs(exact) + 0 where abs(x) <= 1e+30, abs(y) <= 1e+30"),
    (f"{XY}\n    {KNOWN}", "k * (x - y) * y", "6e-08 * abs(exact) + 0 where abs(x) <= 1e+10, abs(y) <= 1e+10"),
    (f"{XY}\n    {KNOWN}", "(x - k * y)^2", "4.8e-07 * abs(exact) + 0 where abs(x) <= 1e+10, abs(y) <= 1e+10"),
    (f"{ROW}\n{TWO}", "x / norm(x over c) if b else x", "0 * abs(exact) + 0 where abs(x) <= 1e+30"),
    (X, "sqrt(1 + x^2) - 1", "1e-06 * abs(exact) + 1e-12 where abs(x) <= 16"),
    (X, "sqrt(1 + x^2) - 1", "1e-06 * abs(exact) + 1e-08 where abs(x) <= 16"),
    (X, "1 - cos(x)", "1e-05 * abs(exact) + 1e-10 where abs(x) <= 16"),
    (X, "exp(x) - cos(x)", "1e-05 * abs(exact) + 1e-10 where abs(x) <= 1"),
    (X, "(1 + x)^3 - 1", "1e-05 * abs(exact) + 1e-09 where abs(x) <= 1"),
    (X, "sqrt(1 + 1e6 * x^2) - 1000 * abs(x)", "1e-06 * abs(exact) + 1e-06 where abs(x) <= 1024"),
    (X, "x + 0.1", "5e-08 * abs(exact) + 1e-10 where abs(x) <= 16"),
    (X, "1 if x * 0.1 < 0.3 else 0", "0 * abs(exact) + 0.5 where abs(x) <= 16"),
    (X, "sign(x / 3 - 1/3)", "1e-05 * abs(exact) + 0.1 where abs(x) <= 16"),
    (X, "(x / 3) * 3 - x", "1e-05 * abs(exact) + 1e-08 where abs(x) <= 16"),
    (XY, "x - y + (y + 1)", "1e-05 * abs(exact) + 1e-08 where abs(x) <= 16, abs(y) <= 16"),
    (XY, "x * y", "5e-08 * abs(exact) + 1.2e-38 where abs(x) <= 1e+15, abs(y) <= 1e+15"),
    (XY, "x * y", "6e-08 * abs(exact) + 1e-40 where abs(x) <= 1e+15, abs(y) <= 1e+15"),
    (XY, "x * y", "6e-08 * abs(exact) + 1.2e-38 where abs(x) <= 1e+20, abs(y) <= 1e+20"),  # an infinity
    (XY, "(x - y)^2", "6e-08 * abs(exact) + 1.2e-38 where abs(x) <= 1e+15, abs(y) <= 1e+15"),
    (LABELS, "softplus(x) - y * x", "1e-06 * abs(exact) + 1e-08 where abs(x) <= 64"),
    (X, "1 / x", "3e-07 * abs(exact) + 1e-30 where abs(x) <= 1e+05"),
    (X, "log(x)", "0.001 * abs(exact) + 1e-10 where 0.5 <= x <= 2"),
    (X, "1 - tanh(x)", "0.001 * abs(exact) + 1e-10 where 50 <= x <= 60"),
    (X, "normal_cdf(-x)", "3e-05 * abs(exact) + 1.2e-38 where 4 <= x <= 12"),
]


@pytest.mark.parametrize(("declared", "body", "said"), FINE)
def test_bounds_that_hold_have_certificates(declared: str, body: str, said: str) -> None:
    assert of_error(question(body, said, declared))


@pytest.mark.parametrize(("declared", "body", "said"), FALSE)
def test_false_bounds_have_no_certificates(declared: str, body: str, said: str) -> None:
    with pytest.raises(Stuck):
        of_error(question(body, said, declared))


def test_the_boxes_of_a_trace_cover_the_domain() -> None:
    """0, and from the smallest number to the largest one on either side of it, one box after the other."""
    for body, within in (("softplus(x)", "64"), ("sqrt(1 + x^2) - x", "1024"), ("x if x > 0.3 else 0.3", "16")):
        said = f"1e-05 * abs(exact) + 0.01 where abs(x) <= {within}"
        trace = [line[-1].strip("[]").split(", ") for line in of_error(question(body, said))[1:]]
        found = sorted((float.fromhex(lo), float.fromhex(hi)) for lo, hi in trace)
        below, above = [b for b in found if b[1] < 0], [b for b in found if b[0] > 0]
        assert (0.0, 0.0) in found
        assert len(found) == len(below) + len(above) + 1
        for part, ends in ((below, (-float(within), -(2.0**-100))), (above, (2.0**-100, float(within)))):
            assert (part[0][0], part[-1][1]) == ends
            assert all(a[1] == b[0] for a, b in itertools.pairwise(part))


def test_statements_are_read_as_they_are_printed() -> None:
    said = "4.9e-06 * abs(exact) + 3.2e-06 where abs(logits) <= 1.70141e+38, 1.5e-05 <= scale <= 65536"
    error = stated(said)["error"]
    assert error["domain"] == [["logits", None, "1.70141e+38"], ["scale", "1.5e-05", "65536"]]
    found = restated(error)
    assert found.relative == Fraction(49, 10**7)
    assert found.domain[1] == ("scale", Fraction(15, 10**6), Fraction(65536))
    for other in ("0.1", "1 * abs(exact) + x", f"{said}, every extent is at most 64", f"{said} and more", "", None):
        assert stated(other) == {}
    for bad in ("-1", "nan", "inf", "1e999999", "0x1", None, 1.0):
        with pytest.raises(Stuck):
            restated({"relative": bad, "absolute": "0", "domain": []})


def test_rows_have_no_certificates() -> None:
    q = question("x - mean(x)", "1e-03 * abs(exact) + 1 where abs(x) <= 16")
    with pytest.raises(Stuck, match="folds an axis"):
        of_error(q)


# ----------------------------------------------------------------------------------------------- documents

SAMPLE = ("regression/huber", "regression/log_cosh", "classification/binary_cross_entropy", "classification/hinge")


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return [document_of(Source(f"{n}.loss", (EXAMPLES / f"{n}.loss").read_text())) for n in SAMPLE]


def errors_of(made: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for item in made["losses"] for entry in item["entries"] if "error" in entry]


def test_entries_of_the_catalogue_are_replayed(documents: list[dict[str, Any]]) -> None:
    for made in documents:
        verify(made)
        assert {entry["finding"] for entry in errors_of(made)} == {"error in float32", "gradient error in float32"}


def tampered(made: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Documents with a proof of less, or of something else."""
    for k in range(len(errors_of(made))):

        def changed(k: int = k) -> tuple[dict[str, Any], dict[str, Any]]:
            other = copy.deepcopy(made)
            return other, errors_of(other)[k]

        for at in range(len(errors_of(made)[k]["parts"][0]["trace"])):
            other, entry = changed()
            del entry["parts"][0]["trace"][at]
            yield other
        other, entry = changed()
        entry["parts"][0]["trace"][-1][-1] = "[0x0.0p+0, 0x1.0p+0]"
        yield other
        for key in ("relative", "absolute"):
            other, entry = changed()
            if float(entry["error"][key]) > 1e-30:
                entry["error"]["relative"] = entry["error"]["absolute"] = "0"
                entry["error"][key] = "1e-30"
                yield other
        other, entry = changed()
        entry["in"] = ["nothing"]
        yield other
        other, entry = changed()
        entry["error"]["domain"].append(["nothing", None, "1"])
        yield other
        other, entry = changed()
        del entry["error"]
        yield other


def test_what_was_tampered_with_is_rejected(documents: list[dict[str, Any]]) -> None:
    count, rng = 0, random.Random(7)
    for made in documents:
        only = {**made, "losses": [{**item, "entries": errors_of({"losses": [item]})} for item in made["losses"]]}
        verify(sealed(only))
        every = list(tampered(only))
        for other in rng.sample(every, min(len(every), 30)):
            count += 1
            with pytest.raises(Rejected):
                verify(sealed(other))
    assert count > 100


def test_a_bound_that_is_not_reached_is_said_more_weakly() -> None:
    said = stated("1e-07 * abs(exact) + 0 where abs(x) <= 16")
    about = {"finding": ERROR, "in": [], **said}
    asked = [entry["error"]["relative"] for entry in document._weaker(about)]
    assert [Fraction(v) for v in asked] == [Fraction(k, 10**7) for k in (1, 2, 4, 16)]
    exactly = {"finding": ERROR, "in": [], **stated("0 * abs(exact) + 0 where abs(x) <= 16")}
    asked = [entry["error"]["relative"] for entry in document._weaker(exactly)]
    assert [Fraction(v) for v in asked] == [Fraction(6 * k, 10**8) for k in (0, 2, 4, 16)]
    body = "sqrt(1 + x^2)"
    assert not is_certified(question(body, "1e-07 * abs(exact) + 0 where abs(x) <= 16"))
    assert is_certified(question(body, "1.6e-06 * abs(exact) + 0 where abs(x) <= 16"))
