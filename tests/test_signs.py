"""Sign obligations: tails by monotonicity, and leaves fixed by what a form is invariant under."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from lossdsl.ir.nodes import Apply, Const, Param, Scalar
from lossdsl.verify import boxes, signs
from lossdsl.verify.algebra import Field, leaves_of
from lossdsl.verify.enclosure import REALS, Enclosure
from lossdsl.verify.invariance import reduced
from lossdsl.verify.operations import transfer
from lossdsl.verify.signs import Budget, prove

X, Y, C = Param("x"), Param("y"), Param("c")
POSITIVE = Enclosure(0.0, math.inf, True, True)
BUDGET = Budget.of(1.0)


class Scope(dict[Scalar, Enclosure]):
    """Boxes of parameters; an operation's follows from those."""

    def __missing__(self, node: Scalar) -> Enclosure:
        if isinstance(node, Const):
            return Enclosure(float(node.value), float(node.value))
        assert isinstance(node, Apply)
        return transfer(node, [self[a] for a in node.args])


def op(name: str, *args: Scalar | int) -> Scalar:
    return Apply(name, tuple(Const(a) if isinstance(a, int) else a for a in args))


def field(**boxes: Enclosure) -> Field:
    return Field(Scope({Param(n): b for n, b in boxes.items()}))  # type: ignore[arg-type]


def bell(t: Scalar) -> Scalar:
    """t exp(-t^2 / 2), at most exp(-1/2) = 0.60653..."""
    return op("mul", t, op("exp", op("neg", op("div", op("mul", t, t), 2))))


def below(bound: tuple[int, int], f: Scalar) -> Scalar:
    return op("sub", op("div", bound[0], bound[1]), f)


def test_a_tail_ends_where_it_begins_if_the_form_is_monotone() -> None:
    here = field(x=REALS)
    assert prove(here, here.form(below((6066, 10000), bell(X))), (), BUDGET)
    assert not prove(here, here.form(below((6065, 10000), bell(X))), (), BUDGET)


def test_a_difference_and_a_scale_are_one_leaf() -> None:
    here = field(x=REALS, y=REALS, c=POSITIVE)
    ratio = op("div", op("sub", X, Y), C)
    gap = op("div", below((6066, 10000), bell(ratio)), C)
    less = reduced(here, here.form(gap), ())
    assert len(leaves_of(less.field, less.form)) == 1
    assert prove(here, here.form(gap), (), BUDGET)
    assert not prove(here, here.form(op("div", below((6065, 10000), bell(ratio)), C)), (), BUDGET)


@pytest.mark.parametrize(
    ("x", "c", "why"),
    [
        (Enclosure(0.0, 1.0), Enclosure(0.5, 3.0), "no cone: x = c t leaves it"),
        (Enclosure(1.0, math.inf, False, True), Enclosure(0.5, 3.0), "no cone"),
        (REALS, REALS, "the scale may be negative"),
        (REALS, Enclosure(0.0, math.inf, False, True), "the scale may be 0"),
    ],
)
def test_what_is_no_cone_or_no_scale_stays(x: Enclosure, c: Enclosure, why: str) -> None:
    here = field(x=x, c=c)
    f = here.form(op("sub", op("mul", X, X), op("mul", X, C)))
    assert reduced(here, f, ()).form is f, why


def test_a_scale_within_its_range() -> None:
    """x^2 - 2 c x + c^2 with 2 <= c <= 3: c = 1 is none of its values, and not needed."""
    here = field(x=POSITIVE, c=Enclosure(2.0, 3.0))
    square = op("mul", op("sub", X, C), op("sub", X, C))
    less = reduced(here, here.form(op("mul", square, op("exp", op("div", X, C)))), ())
    assert len(leaves_of(less.field, less.form)) == 1


def test_conditions_must_be_invariant_too() -> None:
    """x - y >= 0 is wanted where x >= 1 and y <= 1 only: the conditions do not move along."""
    here = field(x=REALS, y=REALS)
    f = here.form(op("sub", X, Y))
    given = [here.form(op("sub", X, 1)), here.form(op("sub", 1, Y))]
    assert reduced(here, f, given).form is f
    assert prove(here, f, given, BUDGET)
    assert not prove(here, f, given[:1], BUDGET)


def test_a_box_of_a_piece_does_not_move_along() -> None:
    """sqrt(x - y + 1) is said to be at least 1 where x >= y: on the way of x - y to elsewhere it is not."""
    here = field(x=REALS, y=REALS)
    root = op("erf", op("sub", X, Y))
    here.scope[root] = Enclosure(0.5, 1.0)  # type: ignore[index]
    f = here.form(op("sub", root, op("div", 1, 4)))
    assert here.value(f).positive
    less = reduced(here, f, ())
    assert len(leaves_of(less.field, less.form)) == 1
    assert not less.field.value(less.form).nonnegative


def test_zero_is_not_positive() -> None:
    """Neither by its factors, of which it has none, nor on a box, nor as a derivative."""
    here = field(x=Enclosure(0.0, 1.0), y=Enclosure(0.0, 1.0))
    zero = here.form(op("sub", X, X))
    given = [here.form(op("sub", Y, X))]
    assert zero.zero
    assert zero.factors.sign(here.box).zero
    for constraints in ((), given):
        assert prove(here, zero, constraints, BUDGET)
        assert not prove(here, zero, constraints, BUDGET, strict=True)


def test_a_point_stands_against_a_sign() -> None:
    """Only where the constraints hold, and a zero stands against a strict sign alone."""
    here = field(x=Enclosure(0.0, 1.0), y=Enclosure(0.0, math.inf), c=REALS)
    low, far = here.form(below((1, 3), X)), here.form(below((3, 1), Y))
    assert boxes.below(here, low, ())
    assert boxes.below(here, far, ())
    assert boxes.below(here, here.form(op("sub", C, X)), ())
    assert not boxes.below(here, low, [here.form(below((1, 4), X))])
    assert not boxes.below(here, here.form(op("mul", C, C)), ())
    zero = field(x=Enclosure(0.0, 0.0))
    assert not boxes.below(zero, zero.form(X), ())
    assert boxes.below(zero, zero.form(X), (), strict=True)


@pytest.mark.parametrize("seed", range(20))
def test_no_proof_is_lost_to_a_point(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is proved of quadratic forms is proved without a look at points, and what is not is not."""
    draw = random.Random(seed)
    here = field(x=Enclosure(-1.0, 1.0), y=Enclosure(0.0, math.inf))
    a, b, c, d = (draw.randint(-4, 4) for _ in range(4))
    terms = [op("mul", op("mul", a, X), X), op("mul", op("mul", b, X), Y), op("mul", op("mul", c, Y), Y), Const(d)]
    f = here.form(op("add", op("add", terms[0], terms[1]), op("add", terms[2], terms[3])))
    given = [here.form(op("sub", Y, X))] if draw.random() < 0.5 else []
    found = [prove(here, f, given, BUDGET, strict=strict) for strict in (False, True)]
    monkeypatch.setattr(signs, "below", lambda *args, **options: False)
    assert found == [prove(here, f, given, BUDGET, strict=strict) for strict in (False, True)]


def test_what_jumps_is_not_monotone() -> None:
    """floor has the derivative 0 where it has one: x - floor(x) - 1/2 is not the same all over [0, 4]."""
    here = field(x=Enclosure(0.0, 4.0))
    f = op("sub", op("add", op("floor", X), op("div", 1, 2)), X)
    assert not prove(here, here.form(f), (), BUDGET)


_UNARY: dict[str, Callable[[float], float]] = {
    "exp": math.exp,
    "tanh": math.tanh,
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "softplus": lambda v: math.log1p(math.exp(-abs(v))) + max(v, 0.0),
    "atan": math.atan,
    "neg": lambda v: -v,
}


def _random(draw: random.Random, depth: int) -> tuple[Scalar, Callable[[dict[str, float]], float]]:
    if depth == 0:
        if draw.random() < 0.25:
            k = draw.randint(-3, 3)
            return Const(k), lambda _: float(k)
        leaf = draw.choice((X, Y, C))
        return leaf, lambda at: at[leaf.name]
    kind = draw.choice(("add", "sub", "mul", "div", "unary", "unary"))
    if kind == "unary":
        name = draw.choice(sorted(_UNARY))
        inner, value = _random(draw, depth - 1)
        return op(name, inner), lambda at: _UNARY[name](value(at))
    a, left = _random(draw, depth - 1)
    b, right = (C, lambda at: at["c"]) if kind == "div" else _random(draw, depth - 1)
    apply: dict[str, Callable[[float, float], float]] = {
        "add": lambda u, v: u + v,
        "sub": lambda u, v: u - v,
        "mul": lambda u, v: u * v,
        "div": lambda u, v: u / v,
    }
    return op(kind, a, b), lambda at: apply[kind](left(at), right(at))


@pytest.mark.parametrize("seed", range(8))
def test_nothing_that_is_proved_has_a_counterexample(seed: int) -> None:
    draw = random.Random(seed)
    proved = 0
    for _ in range(25):
        form, value = _random(draw, draw.choice((2, 3, 4)))
        condition, side = _random(draw, 2)
        here = field(
            x=REALS, y=draw.choice((REALS, Enclosure(-1.0, 2.0))), c=draw.choice((POSITIVE, Enclosure(0.5, 3.0)))
        )
        shift = op("add", form, draw.randint(0, 3))
        offset = float(shift.args[1].value) if isinstance(shift, Apply) and shift.name == "add" else 0.0  # type: ignore[union-attr]
        try:
            target = here.form(shift)
            given = [here.form(condition)] if draw.random() < 0.5 else []
        except Exception:
            continue
        if prove(here, target, given, BUDGET) is None:
            continue
        proved += 1
        low_y, high_y = here.scope[Y].lo, here.scope[Y].hi
        low_c, high_c = here.scope[C].lo, here.scope[C].hi
        for _ in range(400):
            size = 10 ** draw.uniform(-2, 1.5)
            at = {"x": draw.gauss(0, size), "y": draw.gauss(0, size), "c": abs(draw.gauss(0, size)) + 1e-3}
            at["y"] = min(max(at["y"], low_y), high_y)
            at["c"] = min(max(at["c"], low_c), high_c)
            try:
                if given and side(at) < 0:
                    continue
                found = value(at) + offset
            except OverflowError:
                continue
            assert not found < -1e-6 * (1 + abs(found)), (shift, at, found)
    assert proved
