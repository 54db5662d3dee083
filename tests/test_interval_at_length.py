"""Both interval kernels against mpmath at 60 digits: the enclosures of the primitives' records, and what the verifier makes
of them (open ends). No value may lie outside: in a slice of each primitive, and in 10^6 comparisons at length."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from math import inf, nextafter
from typing import Any

import mpmath
import pytest

from lossdsl.ir.nodes import Apply, Param
from lossdsl.primitives import PRIMITIVES
from lossdsl.primitives.interval import Interval
from lossdsl.primitives.record import Dtype
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.operations import transfer
from tests.test_interval import UNARY, any_float

Box = tuple[float, float]
NAMES = sorted(n for n, p in PRIMITIVES.items() if p.arguments)
SLICE, AT_LENGTH = 500, 20_000  # comparisons of a primitive; there are more than fifty
# numbers in {name: range of each argument}, where any will not do
RANGES: dict[str, tuple[Box, ...]] = {
    "pow": ((0, 50), (-8, 8)),
    "powi": ((-50, 50), (-6, 9)),
    "polygamma": ((1, 4), (0, 40)),
    "xlogy": ((-20, 20), (0, 20)),
    "expdiff": ((-200, 200), (-200, 200)),
    "logaddexp": ((-300, 300), (-300, 300)),
    "sqrt": ((0, 1e9),),
}
FAR = frozenset({"add", "sub", "neg", "abs", "relu", "sign", "max2", "min2", "sqrt", "mul", "atan", "floor", "ceil"})
FIXED = {"powi": 1, "polygamma": 0}  # the argument that is one integer


def draw(rng: random.Random, low: float, high: float, whole: bool) -> float:
    """Mostly ordinary, near 0, near the ends, or an integer."""
    kind = rng.random()
    if whole:
        return float(rng.randint(max(int(low), -30), min(int(high), 30)))
    if kind < 0.4:
        x = rng.uniform(low, high)
    elif kind < 0.75:
        x = rng.choice((-1, 1)) * 10 ** rng.uniform(-9, 1)
    elif kind < 0.9:
        end = rng.choice((low, high))
        x = end + (high - low) * rng.choice((-1, 1)) * 10 ** rng.uniform(-12, -1)
    else:
        x = float(rng.randint(-4, 4)) / rng.choice((1, 2, 4))
    return min(max(x, low), high)


def arguments(name: str, rng: random.Random) -> list[Box]:
    """A box for the arguments of a primitive."""
    record = PRIMITIVES[name]
    ranges = RANGES.get(name) or ((UNARY[name],) if name in UNARY else ((-40.0, 40.0),) * len(record.arguments))
    boxes = []
    for k, (low, high) in enumerate(ranges):
        whole = record.accepts[k] is not Dtype.REAL
        if record.accepts[k] is Dtype.BOOL:
            low, high = 0, 1
        if name in FAR and rng.random() < 0.3:
            ends = (any_float(rng), any_float(rng))
            ends = tuple(abs(x) for x in ends) if name == "sqrt" else ends
        else:
            first = draw(rng, low, high, whole)
            near = first + rng.gauss(0, 1) * 10 ** rng.uniform(-9, 0.5)
            ends = (first, draw(rng, low, high, whole) if whole or rng.random() < 0.2 else min(max(near, low), high))
        if FIXED.get(name) == k or rng.random() < 0.15:
            ends = (ends[0], ends[0])
        boxes.append((min(ends), max(ends)))
    if name == "clamp":
        lower, upper = sorted((draw(rng, -4, 4, False), draw(rng, -4, 4, False)))
        boxes[1:] = [(lower, lower), (upper, upper)]
    return boxes


def members(name: str, rng: random.Random, boxes: list[Box]) -> list[float]:
    """One number of each interval: an end, or one between."""
    out = []
    for k, (low, high) in enumerate(boxes):
        x = rng.choice((low, high, rng.uniform(low, high)))
        if PRIMITIVES[name].accepts[k] is not Dtype.REAL:
            x = float(round(x))
        out.append(min(max(x, low), high))
    return out


def value(name: str, at: list[float]) -> Any:
    """At 60 digits; None where it is undefined, or infinite."""
    try:
        found = PRIMITIVES[name].reference(mpmath.mp, *(mpmath.mpf(x) for x in at))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return None if isinstance(found, mpmath.mpc) or not mpmath.isfinite(found) else found


def of_record(name: str) -> Callable[[list[Box]], Callable[[Any], bool]]:
    def enclose(boxes: list[Box]) -> Callable[[Any], bool]:
        box = PRIMITIVES[name].enclose(*(Interval(*b) for b in boxes))
        return lambda v: bool(box.lo <= v <= box.hi)

    return enclose


def of_verifier(name: str) -> Callable[[list[Box]], Callable[[Any], bool]]:
    node = Apply(name, tuple(Param(f"a{k}") for k in range(len(PRIMITIVES[name].arguments))))
    assert isinstance(node, Apply)

    def enclose(boxes: list[Box]) -> Callable[[Any], bool]:
        box = transfer(node, [Enclosure(float(low), float(high)) for low, high in boxes])
        return lambda v: bool(
            (box.lo < v or (box.lo == v and not box.lo_open)) and (v < box.hi or (v == box.hi and not box.hi_open))
        )

    return enclose


def compared(name: str, count: int) -> int:
    """How many values were compared; every one lies inside."""
    rng = random.Random(name)
    kernels = {"record": of_record(name), "verifier": of_verifier(name)}
    done = 0
    with mpmath.workdps(60):
        for _ in range(8 * count):  # some points are outside of the domain
            if done >= count:
                break
            boxes = arguments(name, rng)
            inside = {which: enclose(boxes) for which, enclose in kernels.items()}
            for _ in range(4):
                at = members(name, rng, boxes)
                found = value(name, at)
                if found is None:
                    continue
                for which, holds in inside.items():
                    assert holds(found), (name, which, boxes, at, found)
                    done += 1
    return done


@pytest.mark.parametrize("name", NAMES)
def test_no_value_lies_outside(name: str) -> None:
    assert compared(name, SLICE) >= SLICE


@pytest.mark.parametrize("name", ["exp", "add", "tanh", "xlogy", "digamma"])
def test_a_kernel_that_rounds_inwards_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = PRIMITIVES[name]

    def narrow(*boxes: Interval) -> Interval:
        box = record.enclose(*boxes)
        return Interval(box.lo, nextafter(box.hi, -inf)) if box.lo < box.hi < inf else box

    monkeypatch.setitem(PRIMITIVES, name, replace(record, enclose=narrow))
    with pytest.raises(AssertionError):
        compared(name, 4000)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_value_lies_outside_at_length(name: str) -> None:
    """More than 10^6 comparisons in all."""
    assert len(NAMES) * AT_LENGTH > 10**6
    assert compared(name, AT_LENGTH) >= AT_LENGTH
