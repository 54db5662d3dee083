"""Certificates of rounding errors of rows: of random losses that fold axes every element of every tensor is where the checker
says, however it is computed and added up; false bounds have no certificate, and what was tampered with is rejected."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mpmath
import pytest

from lossdsl.certificate import document
from lossdsl.certificate.arithmetic import NATURAL
from lossdsl.certificate.document import Rejected, sealed, verify
from lossdsl.certificate.question import ERROR, GRADIENT_ERROR, Question, of_finding
from lossdsl.certificate.rounding import UNIT, meant, restated
from lossdsl.certificate.row_errors import Rows, of_rows, stated_of_rows
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source
from lossdsl.ir.build import build
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Not,
    Or,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
)
from lossdsl.primitives import PRIMITIVES
from lossdsl.primitives.interval import Interval
from lossdsl.syntax.parser import parse
from lossdsl.verify.verdict import Proved, Step
from tests.test_certificate import document_of
from tests.test_certificate_rounding import (
    DIGIT,
    LARGEST,
    NORMAL,
    ROUNDED_TO_NEAREST,
    Undefined,
    loss,
    reference,
    single,
)
from tests.test_verify import built

EXAMPLES = Path(__file__).parents[1] / "examples"
PRECISION, BLUR = 240, mpmath.mpf(2) ** -145  # bits; what exact values may be off by
Place = tuple[int, ...]


class Infinite(Exception):
    pass


class Frame:
    """Where a body is evaluated, and what was evaluated there."""

    def __init__(self, at: dict[Index, int]) -> None:
        self.at = at
        self.known: dict[tuple[Scalar, bool], Any] = {}


class Machine:
    """Elements of tensors at a point: exact, and as some arithmetic of the model computes them."""

    def __init__(
        self,
        program: Program,
        fixed: Any,
        sizes: dict[str, int],
        inputs: dict[str, dict[Place, Any]],
        rng: random.Random,
    ) -> None:
        self.definitions = {d.tensor: d for d in program.body if isinstance(d, Definition)}
        self.fixed, self.sizes, self.inputs, self.rng = fixed, sizes, inputs, rng
        self.flush, self.contract, self.inline = rng.random() < 0.5, rng.choice((0.0, 0.5, 1.0)), rng.random() < 0.5
        self.adverse = rng.choice((0, 1, -1))  # alike in every step, or at random
        self.stored: dict[tuple[str, Place, bool], Any] = {}

    def element(self, tensor: str, at: Place, exact: bool, contracted: bool = False) -> Any:
        if tensor in self.fixed:
            return self.number(self.fixed[tensor], exact)
        if tensor in self.inputs:
            return self.inputs[tensor].get(at, self.inputs[tensor].get((), 0))
        d = self.definitions[tensor]
        frame = Frame(dict(zip(d.formals, at, strict=True)))
        if d.head == "map" and self.inline and contracted and not exact and self.holds(d.support, frame, exact):
            return self.value(d.body, frame, exact, contracted)
        key = (tensor, at, exact)
        if key not in self.stored:
            self.stored[key] = self.fold(d, frame, exact) if self.holds(d.support, frame, exact) else mpmath.mpf(0)
        return self.stored[key]

    def number(self, v: Fraction, exact: bool) -> Any:
        found = mpmath.mpf(v.numerator) / v.denominator
        return found if exact else self.rounded(found)

    def holds(self, n: Scalar, frame: Frame, exact: bool) -> bool:
        return bool(self.value(n, frame, exact))

    # ------------------------------------------------------------------------------------------------- folds

    def fold(self, d: Definition, frame: Frame, exact: bool) -> Any:
        if d.head == "map":
            return self.value(d.body, frame, exact)
        places = itertools.product(*(range(i.dim.evaluate(self.sizes)) for i in d.bound))
        frames = [Frame({**frame.at, **dict(zip(d.bound, p))}) for p in places]
        kept = [k for k, f in enumerate(frames) if self.holds(d.where, f, exact)]
        sums = d.head == "sum" and not exact
        terms = [self.value(d.body, frames[k], exact, sums and self.rng.random() < self.contract) for k in kept]
        match d.head:
            case "count":
                return sum(map(bool, terms))
            case "any" | "all":
                return any(terms) if d.head == "any" else all(terms)
            case "sum":
                return mpmath.fsum(terms) if exact else self.added(terms, d.dtype is INT)
        if not terms:
            raise Undefined
        match d.head:
            case "max" | "min":
                return (max if d.head == "max" else min)(terms)
            case "argmax" | "argmin":
                return kept[terms.index((max if d.head == "argmax" else min)(terms))]
            case "logsumexp":
                top = max(terms)
                return top + mpmath.log(mpmath.fsum(mpmath.exp(t - top) for t in terms)) if exact else self.mixed(terms)
        raise Undefined

    def merged(self, items: list[Any], merge: Any) -> Any:
        """In some order: one after the other, from the largest or the smallest on, or two by two."""
        way = self.rng.choice(("shuffled", "rising", "falling", "pairs"))
        key = (lambda x: abs(x[0])) if isinstance(items[0], tuple) else abs
        if way in ("shuffled", "pairs"):
            self.rng.shuffle(items)
        else:
            items.sort(key=key, reverse=way == "falling")
        while way == "pairs" and len(items) > 1:
            items = [merge(*items[k : k + 2]) if k + 1 < len(items) else items[k] for k in range(0, len(items), 2)]
        found = items[0]
        for x in items[1:]:
            found = merge(found, x)
        return found

    def added(self, terms: list[Any], whole: bool) -> Any:
        if whole or not terms:
            return sum(terms) if whole else mpmath.mpf(0)
        found = self.merged(list(terms), lambda a, b: self.finite(self.off(a + b)))
        return self.rounded(found / (1 + self.adverse * UNIT) if len(terms) > 1 else found)  # a float in the end

    def mixed(self, terms: list[Any]) -> Any:
        def merge(a: Any, b: Any) -> Any:
            m = max(a[0], b[0])
            parts = []
            for k, s in (a, b):
                weight = self.applied("exp", [self.rounded(k - m)])
                parts.append(s * weight if self.rng.random() < self.contract else self.off(s * weight))
            return m, self.off(sum(parts))

        m, s = self.merged([(t, mpmath.mpf(1)) for t in terms], merge)
        return self.rounded(m + self.applied("log", [s]))

    # ------------------------------------------------------------------------------------------------ scalars

    def value(self, n: Scalar, frame: Frame, exact: bool, contracted: bool = False) -> Any:
        key = (n, exact)
        if contracted:
            return self.made(n, frame, exact, contracted)
        if key not in frame.known:
            frame.known[key] = self.made(n, frame, exact, contracted)
        return frame.known[key]

    def made(self, n: Scalar, frame: Frame, exact: bool, contracted: bool) -> Any:
        match n:
            case Const(value=Fraction() as v):
                return int(v) if n.dtype in (INT, BOOL) else self.number(v, exact)
            case Param(name=name):
                v = self.fixed[name]
                return int(v) if n.dtype in (INT, BOOL) else self.number(v, exact)
            case Index():
                return frame.at[n]
            case Size():
                return n.dim.evaluate(self.sizes)
            case Read():
                at = tuple(int(self.value(i, frame, exact)) for i in n.indices)
                found = self.element(n.tensor, at, exact, contracted)
                return found if n.dtype in (INT, BOOL) else mpmath.mpf(found)
            case Table():
                return self.value(n.values[int(self.value(n.index, frame, exact))], frame, exact)
            case Stop() | AdjointMap():
                return self.value(n.a, frame, exact, contracted)
            case Proxy():
                return self.value(n.value, frame, exact, contracted)
            case Select():
                return self.value(n.a if self.holds(n.condition, frame, exact) else n.b, frame, exact, contracted)
            case Compare():
                a, b = self.value(n.a, frame, exact), self.value(n.b, frame, exact)
                return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[n.op])
            case Not():
                return not self.holds(n.a, frame, exact)
            case And():
                return all(self.holds(a, frame, exact) for a in n.args)
            case Or():
                return any(self.holds(a, frame, exact) for a in n.args)
            case Apply():
                return self.operation(n, frame, exact, contracted)
        raise AssertionError(n)

    def operation(self, n: Apply, frame: Frame, exact: bool, contracted: bool) -> Any:
        sums = n.name in ("add", "sub") and not exact and n.dtype is not INT
        args = [self.value(a, frame, exact, sums and self.rng.random() < self.contract) for a in n.args]
        if n.dtype is INT:
            return self.whole(n.name, args)
        if n.name == "real":
            found = mpmath.mpf(args[0])
            return found if exact else self.rounded(found)
        if n.name == "div" and args[1] == 0:
            raise Undefined
        if exact:
            return reference(n, args)
        if n.name == "neg":
            return -args[0]
        return reference(n, args) if n.name == "mul" and contracted else self.applied(n.name, args)

    def whole(self, name: str, args: list[Any]) -> int:
        match name:
            case "floor" | "ceil":
                return int(mpmath.floor(args[0]) if name == "floor" else mpmath.ceil(args[0]))
            case "floordiv":
                return int(args[0]) // int(args[1])
            case "mod":
                return int(args[0]) % int(args[1])
            case "int":
                return int(args[0])
        a, b = int(args[0]), int(args[-1])
        table = {
            "add": a + b,
            "sub": a - b,
            "mul": a * b,
            "neg": -a,
            "abs": abs(a),
            "max2": max(a, b),
            "min2": min(a, b),
        }
        return table[name]

    def applied(self, name: str, args: list[Any]) -> Any:
        found = reference(SimpleNamespace(name=name), args)  # type: ignore[arg-type]
        accuracy = PRIMITIVES[name].accuracy
        assert accuracy is not None
        if name not in ROUNDED_TO_NEAREST and not (name == "div" and abs(mpmath.frexp(args[1])[0]) == 0.5):
            relative, absolute = accuracy(*(Interval(float(a), float(a)) for a in args))
            share = self.adverse or self.rng.choice((-1, 1, 0, self.rng.uniform(-1, 1)))
            found += share * (max(relative - 1, 0) * abs(found) + absolute) * UNIT
            low, high = NATURAL.get(name, (-mpmath.inf, mpmath.inf))
            if name in ("sigmoid", "tanh") and abs(args[0]) >= 110:
                low = high = 1 if args[0] > 0 else 0 if name == "sigmoid" else -1
            found = min(max(found, low), high)
        return self.finite(self.rounded(found))

    def finite(self, x: Any) -> Any:
        if abs(x) > LARGEST:
            raise Infinite
        return x

    def off(self, x: Any) -> Any:
        """After one rounding: to the nearest number, or by as much as any may be off, always the same way."""
        return x * (1 + self.adverse * UNIT) if self.adverse and abs(x) >= NORMAL else self.rounded(x)

    def rounded(self, x: Any) -> Any:
        if abs(x) < NORMAL:
            return mpmath.mpf(0) if self.flush else mpmath.nint(x / DIGIT) * DIGIT
        with mpmath.workprec(24):
            return +x


# --------------------------------------------------------------------------------------------- random losses

TERMS = (
    "x",
    "y",
    "x - y",
    "x * y",
    "(x - y)^2",
    "abs(x)",
    "exp(x / 16)",
    "x^2",
    "relu(x)",
    "sigmoid(x)",
    "log1p(x^2)",
    "w * x",
)
TERMS += (
    "softmax(x over c)",
    "log_softmax(x over c)",
    "softmax(x over c) * y",
    "x - max(x over c)",
    "x - mean(x over c)",
)
TERMS += (
    "(x - mean(x over c))^2",
    "w",
    "w * (x - y)^2",
    "x / (1 + sum(w over c))",
    "j * x",
    "x if j == 2 else y",
    "exp(log_softmax(x over c)) - y",
)
FOLDS = ("sum({} over c)", "mean({} over c)", "max({} over c)", "min({} over c)", "logsumexp({} over c)")
FOLDS += ("sqrt(sum(({})^2 over c))", "sqrt(1 + mean(({})^2 over c))", "sum({} over c where x > 0)", "({})[c = t]")
FOLDS += (
    "-log_softmax({} over c)[c = t]",
    "sum(softmax(y over c) * ({}) over c)",
    "sum(w * ({}) over c) / (1 + sum(w over c))",
)
FOLDS += (
    "mean({} over c where y > 0) if any(y > 0 over c) else 0",
    "logsumexp(({}) / 4 over c)",
    "count({} > 1 over c) / 4",
)
FOLDS += (
    "log(1 + sum(({})^2 over c))",
    "sum(({}) * (c == t) over c)",
    "max(({}) - 8 * (c == t) over c)",
    "sum({} over c where j > 1) / max(1, count(j > 1 over c))",
)
DECLARED = "input x, y: real[n, c]\n    input w: real[n, c] in [0, 1]\n    input t: class[n] of c\n    input j: int[n, c] in [0, 3]"


def body_of(rng: random.Random) -> str:
    def term() -> str:
        return (
            rng.choice(TERMS) if rng.random() < 0.7 else loss(rng, rng.randint(1, 2), ("x", "y", "w", "1", "0.1", "2"))
        )

    folds = tuple(rng.choice(FOLDS).format(term()) for _ in range(rng.randint(1, 2)))
    return (
        folds[0]
        if rng.random() < 0.4
        else loss(rng, rng.randint(1, 2), (*folds, *folds, "1", "0.5")).replace("< x", "< 1")
    )


def question(body: str, said: str, declared: str = DECLARED, wrt: str = "", above: str = "") -> Question:
    """`above`: definitions before it."""
    text = f"loss t:\n    {declared}\n{above}    per = {body}\n    return mean(per)\n"
    inputs, name = ((wrt,), GRADIENT_ERROR) if wrt else ((), ERROR)
    (asked,) = of_finding(built(text), name, inputs, error=restated(stated_of_rows(said)["error"]))
    return asked


def is_built(body: str) -> bool:
    file = Source("t.loss", f"loss t:\n    {DECLARED}\n    per = {body}\n    return mean(per)\n")
    module, wrong = parse(file)
    made, more = build(module, file)
    return bool(made) and not any(d.severity.value == "error" for d in (*wrong, *more))


def rows_of(q: Question) -> tuple[Rows, Program, str] | None:
    """What is found of every tensor that has a bound."""
    try:
        program, tensor = meant(q)
        rows = Rows(q, program)
    except Stuck:
        return None
    for d in program.definitions():
        try:
            rows.tensor(d.tensor)
        except (Stuck, RecursionError):
            continue
    return rows, program, tensor


def entries(rng: random.Random, lo: float, hi: float, many: int) -> list[float]:
    """Floats of an interval: of all sizes, at its ends, alike, of alternating signs, small ones, one that is large."""
    kind, base = rng.randrange(7), rng.uniform(lo, hi)
    found = []
    for k in range(many):
        x = (
            rng.uniform(lo, hi),
            rng.choice((lo, hi)),
            base * (1 + rng.randrange(4) * 2.0**-22),
            base * (-1) ** k * (1 + rng.random() * 2.0**-10),
            rng.choice((1, -1)) * 2.0 ** rng.uniform(-100, 4),
            hi if k == 0 else rng.gauss(0, 1),
            rng.gauss(0, 3),
        )[kind]
        x = single(min(max(x, lo), hi))
        x *= 1 + 2.0**-23 * ((1 if x > 0 else -1) if x < lo else (-1 if x > 0 else 1) if x > hi else 0)
        found.append(0.0 if abs(x) < 2.0**-100 else single(x))
    return found


def point(rng: random.Random, program: Program, rows: Rows, sizes: dict[str, int]) -> dict[str, dict[Place, Any]]:
    made: dict[str, dict[Place, Any]] = {}
    for i in program.inputs:
        if i.name in rows.fixed:
            continue
        places = list(itertools.product(*(range(d.evaluate(sizes)) for d in i.dims)))
        box = rows.found[i.name].exact
        if i.kind == "class" and i.classes is not None:
            top = i.classes.evaluate(sizes) - 1
            made[i.name] = {p: rng.randint(0, top) for p in places}
        elif i.dtype is INT or i.dtype is BOOL:
            values = [v for v in range(-3, 6) if box.lo <= v <= box.hi and (v or i.kind != "sign")]
            made[i.name] = {p: rng.choice(values) for p in places}
        else:
            made[i.name] = dict(zip(places, entries(rng, box.lo, box.hi, len(places))))
    return made


def attacked(rng: random.Random, q: Question, sizes: dict[str, int], most: int = 12) -> tuple[int, float]:
    """How many elements of tensors were looked at, and the largest share of its bound that an error of the target takes."""
    made = rows_of(q)
    if made is None:
        return 0, 0.0
    rows, program, tensor = made
    machine = Machine(program, rows.fixed, sizes, point(rng, program, rows, sizes), rng)
    for d in program.definitions():
        places = list(itertools.product(*(range(i.dim.evaluate(sizes)) for i in d.formals)))
        for at in rng.sample(places, min(len(places), most)) if d.tensor in rows.found else ():
            for exact in (True, False):
                try:
                    machine.element(d.tensor, at, exact)
                except (Undefined, Infinite) as wrong:
                    raise AssertionError(f"no number: {d}") from wrong
    return checked(machine, rows, tensor)


def checked(machine: Machine, rows: Rows, tensor: str) -> tuple[int, float]:
    count, worst = 0, 0.0
    for (name, at, exact), found in machine.stored.items():
        if exact or name not in rows.found or (name, at, True) not in machine.stored:
            continue
        truth, seen = machine.stored[name, at, True], rows.found[name]
        off, where = abs(mpmath.mpf(found) - truth), (name, at, seen, found, truth)
        off = max(off - BLUR, 0)
        assert seen.exact.lo - BLUR <= truth <= seen.exact.hi + BLUR, where
        assert seen.box.lo <= found <= seen.box.hi, where
        assert off <= seen.most, (off, where)
        assert off <= seen.relative * abs(truth) + seen.absolute, (off, where)
        count += 1
        if name == tensor and off:
            worst = max(worst, float(off / min(seen.most, seen.relative * abs(truth) + seen.absolute)))
    return count, worst


def attack_random(seed: str, many: int, longest: int) -> tuple[int, int, int]:
    """Of so many losses: how many were attacked, at how many elements, and of how many an error comes near its bound."""
    kept = places = close = 0
    with mpmath.workprec(PRECISION):
        for k in range(many):
            rng = random.Random(f"{seed} {k}")
            body = body_of(rng)
            if not is_built(body):
                continue
            c, size = rng.choice((1, 2, 3, longest)), rng.choice((1, 16, 16, 64, 1024))
            said = f"1 * abs(exact) + 1 where abs(x) <= {size}, abs(y) <= {size}, every extent is at most {max(c, 2)}"
            q = question(body, said, wrt="x" if rng.random() < 0.4 else "")
            count, worst = attacked(rng, q, {"n": rng.randint(1, 2), "c": c, "...": 1})
            kept, places, close = kept + (count > 0), places + count, close + (worst > 0.02)
    return kept, places, close


def test_elements_of_rows_are_where_the_checker_says() -> None:
    """Of random losses and of their gradients, added up in any order, contracted or not, flushed to 0 or not."""
    kept, places, close = attack_random("quick", 300, 5)
    assert kept > 200
    assert places > 1000
    assert close > 10


@pytest.mark.slow
def test_elements_of_many_rows_are_where_the_checker_says() -> None:
    kept, _, close = attack_random("slow", 6000, 9)
    assert kept > 2000
    assert close > 300


def test_elements_of_long_rows_are_where_the_checker_says() -> None:
    kept, _, _ = attack_random("long", 30, 1000)
    assert kept > 15


@pytest.mark.slow
def test_elements_of_many_long_rows_are_where_the_checker_says() -> None:
    kept, _, _ = attack_random("longer", 400, 1000)
    assert kept > 200


# ------------------------------------------------------------------------------------------------ statements

NEAR = "where abs(x) <= 16, abs(y) <= 16, every extent is at most"
FINE = [
    ("sum(w over c)", f"6.2e-05 * abs(exact) + 2e-35 {NEAR} 1024"),
    ("mean(x over c)", f"0 * abs(exact) + 0.001 {NEAR} 1024"),
    ("max(x over c)", f"0 * abs(exact) + 0 {NEAR} 1024"),
    ("count(x > 0 over c) / 2", f"0 * abs(exact) + 1e-30 {NEAR} 1024"),
    ("logsumexp(x over c)", f"0 * abs(exact) + 0.0005 {NEAR} 1024"),
    ("-log_softmax(x over c)[c = t]", f"0 * abs(exact) + 0.0005 {NEAR} 1024"),
    ("softmax(x over c)[c = t]", f"0.0008 * abs(exact) + 2e-38 {NEAR} 1024"),
    ("sum(softmax(x over c) * y over c)", f"0 * abs(exact) + 0.02 {NEAR} 1024"),  # the shares add up to 1
    ("sqrt(sum((x - y)^2 over c))", f"0.0001 * abs(exact) + 1e-16 {NEAR} 1024"),
    ("mean(w over c where x > 0) if any(x > 0 over c) else 0", f"6.3e-05 * abs(exact) + 1e-35 {NEAR} 1024"),
    ("x[c = t] - mean(x over c)", f"6e-08 * abs(exact) + 0.001 {NEAR} 1024"),
]
FALSE = [
    ("sum(w over c)", f"1e-06 * abs(exact) + 1e-09 {NEAR} 1024"),
    ("sum(x over c)", f"1e-06 * abs(exact) + 1e-06 {NEAR} 64"),
    ("mean(x over c)", f"5e-08 * abs(exact) + 1e-09 {NEAR} 64"),
    ("max(x * y over c)", f"1e-08 * abs(exact) + 1e-08 {NEAR} 64"),
    ("logsumexp(x over c)", f"1e-08 * abs(exact) + 1e-08 {NEAR} 64"),
    ("softmax(x over c)[c = t]", f"1e-07 * abs(exact) + 1e-12 {NEAR} 64"),
    ("-log_softmax(x over c)[c = t]", f"1e-06 * abs(exact) + 1e-09 {NEAR} 64"),
    ("sqrt(sum(x^2 over c))", f"2e-08 * abs(exact) + 1e-30 {NEAR} 64"),
    ("x[c = t] - mean(x over c)", f"1e-05 * abs(exact) + 1e-10 {NEAR} 64"),
    ("sum(x over c) / sum(w over c)", f"1 * abs(exact) + 1e+30 {NEAR} 64"),  # by 0
    ("1 / sum(w over c)", f"1 * abs(exact) + 1e+30 {NEAR} 64"),
    ("1 if sum(x over c) > 0 else 0", f"0 * abs(exact) + 0.5 {NEAR} 64"),
    ("argmax(x * y over c) / 2", f"0 * abs(exact) + 0.4 {NEAR} 64"),
    ("count(x * y > 2 over c) / 2", f"0 * abs(exact) + 0.4 {NEAR} 64"),
    ("sum(1 over c where x * y > 2)", f"0 * abs(exact) + 0.4 {NEAR} 64"),
    ("sum(j over c where x * y > 2) / 2", f"0 * abs(exact) + 0.4 {NEAR} 64"),
    ("logsumexp(x over c where y > 0)", f"0 * abs(exact) + 1 {NEAR} 64"),  # of nothing
    ("sum(x over c where y > 0) / count(y > 0 over c)", f"0 * abs(exact) + 1 {NEAR} 64"),
    ("exp(sum(x over c))", f"1 * abs(exact) + 1 {NEAR} 64"),  # an infinity
    ("sum(exp(5.5 * x) over c)", f"1 * abs(exact) + 1 {NEAR} 1024"),
    ("prod(x over c)", f"1 * abs(exact) + 1 {NEAR} 2"),
]


@pytest.mark.parametrize(("body", "said"), FINE)
def test_bounds_of_rows_that_hold_have_certificates(body: str, said: str) -> None:
    assert of_rows(question(body, said))


@pytest.mark.parametrize(("body", "said"), FALSE)
def test_false_bounds_of_rows_have_no_certificates(body: str, said: str) -> None:
    with pytest.raises(Stuck):
        of_rows(question(body, said))


def test_the_error_of_a_sum_grows_with_its_terms() -> None:
    """g = (n - 1) u / (1 - (n - 1) u), and no less: all roundings may be off by u the same way."""
    for n in (2, 64, 1024):
        g = Fraction(n - 1, 2**24 - (n - 1))
        for share, holds in (("1.0001", True), ("0.9999", False)):
            r = f"{float(g * Fraction(share)):.12f}"
            q = question("sum(w over c)", f"{r} * abs(exact) + 1e-30 where every extent is at most {n}")
            if holds:
                assert of_rows(q)
            else:
                with pytest.raises(Stuck):
                    of_rows(q)


COUNTED = "    k[n] = count(x > 0 over c)\n    s[n] = sum(x over c where x > 0)\n"


@pytest.mark.parametrize(
    ("body", "holds"),
    [
        ("0 if k == 0 else s / k", True),
        ("0 if k == 0 else sum(x over c where x > 1) / k", False),  # of other terms
        ("0 if k == 0 else s / (k + 1)", False),
        ("0 if k == 1 else s / k", False),  # by 0
        ("max(0 if k[m] == 0 else s[n] / k[m] over m) + 0 * k", False),  # of another row
        ("max(0 if k[m] == 0 else s[m] / k[m] over m) + 0 * k", True),
    ],
)
def test_a_mean_is_one_of_as_many_terms_as_are_counted(body: str, holds: bool) -> None:
    said = "0 * abs(exact) + 0.0011 where abs(x) <= 16, every extent is at most 1024"
    q = question(body, said, f"axis m = n\n    {DECLARED}", above=COUNTED)
    if holds:
        assert of_rows(q)
    else:
        with pytest.raises(Stuck):
            of_rows(q)


def test_rows_need_not_add_up_to_1() -> None:
    """Those of what is rounded do not."""
    said = "1e-05 * abs(exact) + 1e-05 where every extent is at most 64"
    for kind, body in (("simplex", "1 / (1.5 - sum(p over c))"), ("unit", "1 / (1.5 - sum(p^2 over c))")):
        with pytest.raises(Stuck):
            of_rows(question(body, said, f"input p: {kind}[n, c] over c"))
    assert of_rows(
        question(
            "mean(p over c)",
            "0.0001 * abs(exact) + 1e-05 where every extent is at most 64",
            "input p: simplex[n, c] over c",
        )
    )


def test_bounds_of_rows_are_read_as_they_are_printed() -> None:
    said = "4.9e-06 * abs(exact) + 3.2e-06 where abs(logits) <= 16, every extent is at most 64"
    error = stated_of_rows(said)["error"]
    assert error == {"relative": "4.9e-06", "absolute": "3.2e-06", "domain": [["logits", None, "16"]], "longest": "64"}
    assert restated(error).longest == 64
    assert stated_of_rows("0 * abs(exact) + 1 where every extent is at most 1024")["error"]["domain"] == []
    for other in ("0 * abs(exact) + 1", f"{said} and more", "1 where every extent is at most 64", "", None):
        assert stated_of_rows(other) == {}
    for bad in ("0", "-1", "64.0", "1e3", "99999999999", "x", ""):
        with pytest.raises(Stuck):
            restated({**error, "longest": bad})


# ----------------------------------------------------------------------------------------------- documents

SAMPLE = {
    "classification/cross_entropy": [
        (ERROR, "", "6e-08 * abs(exact) + 0.00045 where abs(logits) <= 1024, every extent is at most 1024"),
        (
            GRADIENT_ERROR,
            "logits",
            "0.00039 * abs(exact) + 0.00039 where abs(logits) <= 16, every extent is at most 1024",
        ),
    ],
    "segmentation/dice": [(ERROR, "", "0.00013 * abs(exact) + 0.00013 where every extent is at most 1024")],
    "ranking/ranknet": [
        (
            GRADIENT_ERROR,
            "score",
            "6e-08 * abs(exact) + 0.0014 where abs(score) <= 16, abs(relevance) <= 16, every extent is at most 64",
        )
    ],
}


def entries_of(name: str) -> dict[str, Any]:
    """A document of the bounds alone."""
    source = Source(f"{name}.loss", (EXAMPLES / f"{name}.loss").read_text())
    (loss,), _ = build(parse(source)[0], source)
    made = []
    for word, wrt, said in SAMPLE[name]:
        about = {"finding": word, "in": [wrt] if wrt else [], **stated_of_rows(said)}
        made.append(
            {
                **about,
                **document._entry(
                    document._questions(loss, about), Proved("rounding errors", (Step("ranges", word, said),))
                ),
            }
        )
    losses = [{"name": loss.program.name, "entries": made, "without": []}]
    return sealed({"version": document.VERSION, "path": source.path, "source": source.text, "losses": losses})


def mutated(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Entries with another statement, or another proof."""
    for path in [("error", "relative"), ("error", "absolute"), ("error", "longest"), ("error", "domain")]:
        other = copy.deepcopy(entry)
        value = other[path[0]][path[1]]
        if isinstance(value, list):
            value.append(["target", None, "7"])
        else:
            other[path[0]][path[1]] = value + "1" if path[1] == "longest" else "1e-09" if float(value) else "1e-03"
        yield other
    trace = entry["parts"][0]["trace"]
    for k in range(len(trace)):
        other = copy.deepcopy(entry)
        del other["parts"][0]["trace"][k]
        yield other
        other = copy.deepcopy(entry)
        other["parts"][0]["trace"][k][-1] += "1"
        yield other
    for key in ("longest", "domain"):
        other = copy.deepcopy(entry)
        del other["error"][key]
        yield other
    other = copy.deepcopy(entry)
    other["parts"][0]["rule"] = document.ERRORS
    yield other


@pytest.mark.parametrize("name", SAMPLE)
def test_entries_of_rows_are_replayed_and_others_rejected(name: str) -> None:
    made = entries_of(name)
    assert verify(made).entries == len(SAMPLE[name])
    for entry in made["losses"][0]["entries"]:
        for other in mutated(entry):
            with pytest.raises(Rejected):
                verify(sealed({**made, "losses": [{**made["losses"][0], "entries": [other]}]}))


def test_the_bounds_of_a_report_are_certified() -> None:
    """As the report tells them."""
    source = Source("t.loss", "loss t:\n    input x: real[n, c]\n    per = logsumexp(x over c)\n    return mean(per)\n")
    found = [entry for item in document_of(source)["losses"] for entry in item["entries"] if "error" in entry]
    assert [entry["error"]["longest"] for entry in found] == ["1024", "1024"]
