"""Certificates of rounding errors: on boxes every scalar is where the checker says, however it is computed; bounds that are
certified are kept, false ones have no certificate, and what was tampered with is rejected."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath
import pytest

from lossdsl import pipeline
from lossdsl.certificate import document
from lossdsl.certificate.arithmetic import Float, applied
from lossdsl.certificate.document import Rejected, sealed, verify
from lossdsl.certificate.question import ERROR, Question, of_finding
from lossdsl.certificate.rounding import SMALLEST, UNIT, Element, Errors, Seen, of_error, restated, stated
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source
from lossdsl.ir.nodes import And, Apply, Compare, Const, Not, Or, Read, Scalar, Select, Stop, postorder
from lossdsl.primitives import PRIMITIVES
from lossdsl.primitives.interval import Interval
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
            within = applied(n, [Float(Enclosure(float(a), float(a))) for a in args])  # ranges of functions are kept
            if not within.finite or within.box is None:
                raise Undefined
            found = min(max(self.rounded(found), within.box.lo), within.box.hi)
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
UNARY += ("abs({})", "-({})", "({})^2", "({})^3", "relu({})", "expm1({})", "logsigmoid({})", "sqrt(abs({}))", "logcosh({})")
UNARY += ("log(1 + ({})^2)", "log(1/2 + abs({}))", "cos({})", "atan({})", "exp(-({})^2)", "erf({})", "abs({})^(3/2)")
BINARY = ("({} + {})", "({} - {})", "({} * {})", "({} * {})", "({} / (1 + abs({})))", "({} / {})", "max({}, {})", "min({}, {})")
TERNARY = ("({} if {} > 1 else {})", "({} if {} < x else {})")
LEAVES = ("x", "x", "x", "1", "2", "0.1", "3", "1/3", "0.5")


def loss(rng: random.Random, depth: int, leaves: tuple[str, ...] = LEAVES) -> str:
    if depth == 0:
        return rng.choice(leaves)
    kind = rng.choice("uuubbbbt")
    forms = UNARY if kind == "u" else BINARY if kind == "b" else TERNARY
    form = rng.choice(forms)
    return form.format(*(loss(rng, depth - rng.choice((1, 1, 2) if depth > 1 else (1,)), leaves) for _ in range(form.count("{}"))))


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
        at = {node: seen for entry, box in zip(element.entries, here) for node, seen in entry.at(box).items()}
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
