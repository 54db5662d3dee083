"""Gradients that explode and that vanish: with one number for everything but an entry, where the loss is least, and

explode  how large its derivative is at distance 1 from there, and a place where it is more than 1000 times as large
vanish   how large it is at a place within 10 of there, and one more than 10 away where it is at most 1/1000 of that

A continuous function that does not rise before an interval and does not fall after it, and does next to it, is least in it, and
comes near to its infimum nowhere else. One that rises, or falls, everywhere comes near to it far out alone; then distances are
from 0.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

from lossdsl.certificate.boxes import Trace, size
from lossdsl.certificate.coverings import Box, Curve, Leaf, float_of, text
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.question import EXPLODING, Question
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import Apply, Param, Read, postorder
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

_RATIO = 1000.0
_AWAY = 10.0
_SHARES = (0.99, 0.75, 0.5, 0.25, 0.1, 0.03, 0.01)  # of it, at which the derivative is looked at
_USUAL = (1.0, 0.0, 0.5, 2.0, -1.0)
_SMALL = 2.0**-14
_REACH = 40  # powers of two that are looked at
_BISECTED = 60
_MOST = 400  # boxes of one covering
_ROOM = 2.0**-20  # to both sides of a distance
_FREE = ("real", "prob", "bool", "binary", "sign")
Numbers = tuple[Enclosure, ...]


def of_profile(q: Question) -> Trace:
    """Where the gradient explodes, or vanishes. Raises Stuck where no place is found."""
    curve = Curve(q)
    if q.conditions or q.assume or (curve.domain.lo, curve.domain.hi) != (-INF, INF):
        raise Stuck("a condition, or an input with an end")
    reason = Stuck("no admissible numbers")
    for numbers in _assignments(curve):
        try:
            return (_explodes if q.property == EXPLODING else _vanishes)(_Line(curve, numbers))
        except Stuck as stuck:
            reason = stuck
    raise reason


def _assignments(curve: Curve) -> Iterator[Numbers]:
    """Numbers for all that is read besides: one number of each input, the same one as far as it may be, or one of them small."""
    inputs: dict[str, Enclosure] = {}
    for n in curve.others:
        declared = None if isinstance(n, Param) else curve.bounds.inputs.get(n.tensor)
        if not isinstance(n, Read) or declared is None or declared.kind not in _FREE:
            raise Stuck(f"{n.tensor if isinstance(n, Read) else n.name} may not be any number of its interval")
        ends = [end for end in (declared.range.lower, declared.range.upper) if end is not None]
        if any(float_of(end) is None for end in ends):
            raise Stuck("an interval whose ends are not told exactly")
        two = declared.kind in ("bool", "binary", "sign")
        inputs[n.tensor] = Enclosure(1.0, 1.0) if two else curve.bounds.tensor(n.tensor)
    seen: list[dict[str, float]] = []
    for usual, small in itertools.product(_USUAL, (None, *inputs)):
        wanted = {name: _SMALL if name == small else usual for name in inputs}
        chosen = {name: _admissible(wanted[name], box) for name, box in inputs.items()}
        given = {name: v for name, v in chosen.items() if v is not None}
        if given not in seen and len(given) == len(inputs):
            seen.append(given)
            yield tuple(Enclosure(v, v) for v in (given[n.tensor] for n in curve.others if isinstance(n, Read)))


def _admissible(first: float, box: Enclosure) -> float | None:
    return next((v for v in (first, *_USUAL) if e.meet(Enclosure(v, v), box) is not None), None)


class _Line:
    """A curve where all else has numbers. Distances are those of the entry: `unit` is 1 of them, in the variable."""

    def __init__(self, curve: Curve, numbers: Numbers) -> None:
        self.curve, self.numbers = curve, numbers
        slope = e.absolute(curve.slope_at(numbers))
        if slope.lo != slope.hi or not slope.positive:
            raise Stuck("how far the variable moves with the entry")
        self.unit = slope.lo

    def at(self, x: float) -> Enclosure | None:
        """The derivative at a place, if it has one that is seen."""
        with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError):
            return self.curve.derivative(1, Box(Enclosure(x, x), self.numbers))
        return None

    def covering(self, lo: float, hi: float, sign: int, *, strictly: bool = True) -> list[Leaf]:
        """Boxes from one number to another, on each of which the derivative has a sign (any, for 0), or is 0 if not `strictly`.
        Raises Stuck."""
        found: list[Leaf] = []
        stack = [(lo, hi)]
        for _ in range(_MOST):
            if not stack:
                return sorted(found, key=lambda leaf: leaf.box.over.lo)
            a, b = stack.pop()
            box = Box(Enclosure(a, b, True, True), self.numbers)
            with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError):
                here = self.curve.derivative(1, box)
                if here.finite and _has(here, sign, strictly):
                    found.append(Leaf(box, here))
                    continue
            stack += _halved(a, b)
        raise Stuck("more boxes than are looked at")

    def most(self, lo: float, hi: float) -> float:
        """The largest size of the derivative from one number to another, and a little beyond them. Raises Stuck."""
        room = _ROOM * max(1.0, abs(lo), abs(hi), self.unit)
        return max(size(leaf.found)[1] for leaf in self.covering(lo - room, hi + room, 0))


def _has(here: Enclosure, sign: int, strictly: bool) -> bool:
    if sign == 0:
        return here.bounded
    if strictly:
        return here.positive if sign > 0 else here.negative
    return here.nonnegative if sign > 0 else here.nonpositive


def _halved(a: float, b: float) -> list[tuple[float, float]]:
    if a == -INF and b == INF:
        middle = 0.0
    elif b == INF:
        middle = max(1.0, 2 * a) if a >= 0 else 0.0
    elif a == -INF:
        middle = min(-1.0, 2 * b) if b <= 0 else 0.0
    else:
        middle = a + (b - a) / 2
    if not a < middle < b or b - a < 2.0**-40 * max(1.0, abs(a)):
        raise Stuck("boxes that are too small")
    return [(a, middle), (middle, b)]


def _explodes(line: _Line) -> Trace:
    trace, (lo, hi) = _least(line)
    usual = max(line.most(lo - line.unit, hi - line.unit), line.most(lo + line.unit, hi + line.unit))
    for k in range(_REACH):
        for x in (hi + 2.0**k * line.unit, lo - 2.0**k * line.unit):
            found = line.at(x)
            if found is not None and found.finite and size(found)[0] > e.mul_up(_RATIO, usual):
                place = ["explodes", *map(text, line.numbers), x.hex(), text(found)]
                return [*trace, ["at most", usual.hex(), "at distance 1"], place]
    raise Stuck("no place with a derivative that is large enough")


def _vanishes(line: _Line) -> Trace:
    trace, (lo, hi) = _least(line)
    if len(trace[0]) == 2:
        raise Stuck("the loss is least far out")
    away = _AWAY * line.unit
    near = [lo + (hi - lo) / 2 + s * away * share for share in _SHARES for s in (1, -1)]
    near = [x for x in near if hi - away < x < lo + away]
    seen = [(size(found)[0], x) for x in near if (found := line.at(x)) is not None and found.finite]
    large, s = max(seen, default=(0.0, 0.0))
    for k in range(_REACH):
        for x in (hi + 1.01 * away * 2.0**k, lo - 1.01 * away * 2.0**k):
            small = line.most(x, x)  # on both sides, if it is a corner
            if e.mul_up(_RATIO, small) <= large:
                place = ["vanishes", *map(text, line.numbers), x.hex(), small.hex()]
                return [*trace, ["at least", large.hex(), "at", s.hex()], place]
    raise Stuck("no place with a derivative that is small enough")


def _least(line: _Line) -> tuple[Trace, tuple[float, float]]:
    """Between which numbers the loss is least, or 0 twice where it is nowhere. Raises Stuck."""
    with contextlib.suppress(Stuck):
        return _least_between(line, 0.0, 0.0)
    ends = _bracket(line)
    return _monotone(line) if ends is None else _least_between(line, *ends)


def _monotone(line: _Line) -> tuple[Trace, tuple[float, float]]:
    if any(isinstance(n, Apply) and n.name in ("add", "sub") for n in postorder(line.curve.variable)):
        raise Stuck("0 of the entry is elsewhere")
    sign = 1 if (found := line.at(0.0)) is not None and found.positive else -1
    leaves = line.covering(-INF, INF, sign)
    line.curve.joined(leaves, 0)
    return [["rises" if sign > 0 else "falls", str(len(leaves))]], (0.0, 0.0)


def _least_between(line: _Line, lo: float, hi: float) -> tuple[Trace, tuple[float, float]]:
    before, after = line.covering(-INF, lo, -1, strictly=False), line.covering(hi, INF, 1, strictly=False)
    if not (before[-1].found.negative and after[0].found.positive):
        raise Stuck("whether it is least farther out, too")
    inside = line.covering(lo, hi, 0) if lo < hi else []
    line.curve.joined([*before, *inside, *after], 0)
    return [["is least from", lo.hex(), "to", hi.hex(), str(len(before)), str(len(after))]], (lo, hi)


def _bracket(line: _Line) -> tuple[float, float] | None:
    """A place before which the derivative is negative and one after which it is positive, or one where it is 0."""
    places = [0.0, *(s * 2.0**k for k in range(-4, _REACH) for s in (1, -1))]
    known = [(x, found) for x in places if (found := line.at(x)) is not None]
    down, up = [x for x, v in known if v.negative], [x for x, v in known if v.positive]
    zero = next((x for x, v in known if v.zero), None)
    if zero is not None:
        return zero, zero
    if not down or not up or max(down) > min(up):
        return None
    lo, hi = max(down), min(up)
    for _ in range(_BISECTED):
        middle = lo + (hi - lo) / 2
        found = line.at(middle)
        if not lo < middle < hi or found is None or not (found.nonzero or found.zero):
            break
        if found.zero:
            return middle, middle
        lo, hi = (middle, hi) if found.negative else (lo, middle)
    return lo, hi


__all__ = ["of_profile"]
