"""Interval branch and bound: the sign of a normal form over boxes of its leaves.

A box on which the form is smooth and monotone in a leaf is as good as its face at the smaller end, so that a tail along
which a bounded function comes to its limit is settled at the point where it begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from fractions import Fraction
from functools import cache

from lossdsl.verify import enclosure as e
from lossdsl.verify.algebra import (
    Factors,
    Field,
    Form,
    TooLarge,
    all_slots,
    enclosed,
    leaves_of,
    stand_in,
    varying,
)
from lossdsl.verify.derive import derivative
from lossdsl.verify.enclosure import ANYTHING, INF, Enclosure
from lossdsl.verify.operations import smooth_at, transfer
from lossdsl.verify.work import deadline, passed

Box = dict[int, Enclosure]
_MOST_LEAVES = 8  # of a form that may be monotone in all of them
_MOST_MONOTONE = 2  # leaves, for each of which every box costs a derivative
_POINTS = 16  # at which a form is looked at before anything is tried to prove its sign


def branch(
    field: Field, f: Form, constraints: Sequence[Form], *, seconds: float, boxes: int, strict: bool = False
) -> bool:
    """f >= 0 (> 0) on every box of a subdivision of the leaves' domain; unbounded boxes are split at 0, +-1, +-4 ..."""
    leaves = leaves_of(field, f, *constraints)
    if not leaves or len(leaves) > 3:
        return False
    start = {s: field.generators[s].enclosure for s in leaves}
    if any(b.nan for b in start.values()):
        return False
    factors, needed = f.factors, set(all_slots(field, f, *constraints))
    slopes = _Slopes(field, f) if len(leaves) <= _MOST_MONOTONE else None
    end = deadline(seconds)
    pending = [start]
    count = 0
    while pending:
        count += 1
        if count > boxes or passed(end):
            return False
        box = pending.pop()
        view = At(field, box, needed)
        if any(view.value(c).negative for c in constraints):
            continue
        value = factors.sign(view.box)
        if value.positive or (not strict and value.nonnegative):
            continue
        if value.negative:
            return False
        face = slopes.face(box) if slopes is not None else None
        if face is not None:
            there = factors.sign(At(field, face, needed).box)
            if there.positive or (not strict and there.nonnegative):
                continue
            if not constraints:
                box = face
        halves = _split(box)
        if halves is None:
            return False
        pending.extend(halves)
    return True


def below(field: Field, f: Form, constraints: Sequence[Form], *, strict: bool = False) -> bool:
    """Whether the form is < 0 (<= 0 if strict) at one of a few points where the constraints are >= 0, so that no proof of
    its sign from them can be. The points are an additive recurrence in as many dimensions as there are leaves: of each
    number of them, none is far from all (Weyl's equidistribution theorem; the steps are powers of the root of
    x^(n + 1) = x + 1)."""
    leaves = leaves_of(field, f, *constraints)
    start = [field.generators[s].enclosure for s in leaves]
    if not leaves or any(b.nan for b in start):
        return False
    factors, needed = f.factors, set(all_slots(field, f, *constraints))
    root = _root(len(leaves) + 1)
    for k in range(_POINTS):
        at = [_between(b, (0.5 + k * root ** -(j + 1)) % 1) for j, b in enumerate(start)]
        view = At(field, dict(zip(leaves, at, strict=True)), needed)
        if all(view.value(c).nonnegative for c in constraints):
            sign = factors.sign(view.box)
            if sign.negative or (strict and sign.nonpositive):
                return True
    return False


@cache
def _root(degree: int) -> float:
    """The positive root of x^degree = x + 1."""
    x = 1.0
    for _ in range(50):
        x = (1.0 + x) ** (1 / degree)
    return x


def lowest(field: Field, f: Form) -> Enclosure:
    """An enclosure of the sign of the form at the face of its domain that has its least values: at a corner, if it is
    monotone in every leaf."""
    leaves = leaves_of(field, f)
    start = {s: field.generators[s].enclosure for s in leaves}
    if len(leaves) > _MOST_LEAVES or any(b.nan for b in start.values()):
        return ANYTHING
    face = _Slopes(field, f).face(start)
    return f.factors.sign(At(field, face or start, set(all_slots(field, f))).box)


def negative(field: Field, f: Form, constraints: Sequence[Form], *, seconds: float, boxes: int) -> Box | None:
    """A box on which f < 0 and all constraints are >= 0, the widest first."""
    leaves = leaves_of(field, f, *constraints)
    start = {s: field.generators[s].enclosure for s in leaves}
    if len(leaves) > 3 or any(b.nan for b in start.values()):
        return None
    factors, needed = f.factors, set(all_slots(field, f, *constraints))
    end = deadline(seconds)
    pending = deque([start])
    for _ in range(boxes):
        if not pending or passed(end):
            return None
        box = pending.popleft()
        view = At(field, box, needed)
        conditions = [view.value(c) for c in constraints]
        sign = factors.sign(view.box)
        if sign.nonnegative or any(c.negative for c in conditions):
            continue
        if sign.negative and all(c.nonnegative for c in conditions):
            return box
        pending.extend(_split(box) or [])
    return None


def inside(box: Enclosure) -> Fraction:
    """A number in the interior of a box, or the only one."""
    return Fraction(box.lo if box.lo == box.hi else _middle(box))


class _Slopes:
    """The derivatives of a form in its leaves, made when a box first asks for one."""

    def __init__(self, field: Field, f: Form) -> None:
        self.field, self.f = field, f
        self._made: dict[int, tuple[Factors, list[int]] | None] = {}

    def face(self, box: Box) -> Box | None:
        """The face of a box that has the least values of the form; None if it is monotone in no leaf."""
        closed = {s: _closed(b) for s, b in box.items()}
        wide = [s for s, b in closed.items() if b.lo < b.hi]
        slopes = [(s, made) for s in wide if (made := self._slope(s)) is not None]  # before the boxes of generators
        view = At(self.field, closed)
        found = dict(box)
        if not slopes or not view.value(self.f).finite:
            return None
        for s, (slope, generators) in slopes:
            if not all(view.smooth(g) for g in generators):
                continue
            sign = slope.sign(view.box)
            at = closed[s].lo if sign.nonnegative else closed[s].hi if sign.nonpositive else INF
            if abs(at) < INF:
                found[s] = Enclosure(at, at)
        return found if found != box else None

    def _slope(self, leaf: int) -> tuple[Factors, list[int]] | None:
        """The derivative, and the generators that vary with the leaf."""
        if leaf not in self._made:
            try:
                slope = derivative(self.field, self.f, leaf).factors
                self._made[leaf] = slope, varying(self.field, self.f, [leaf])
            except TooLarge:
                self._made[leaf] = None
        return self._made[leaf]


class At:
    """A field's generators (the needed ones, if given) over a smaller box of leaves."""

    def __init__(self, field: Field, leaves: Box, needed: Collection[int] | None = None) -> None:
        self.field = field
        self.boxes: list[Enclosure] = []
        for slot, g in enumerate(field.generators):
            if needed is not None and slot not in needed:
                self.boxes.append(ANYTHING)
            elif slot in leaves:
                self.boxes.append(leaves[slot])
            elif not g.arguments:
                self.boxes.append(g.enclosure)
            else:
                here = transfer(stand_in(g.name, len(g.arguments)), [self.value(a) for a in g.arguments])
                both = e.meet(here, g.enclosure) if not here.nan and not g.enclosure.nan else None
                self.boxes.append(both or here)

    def value(self, f: Form) -> Enclosure:
        num, den = f.terms
        return e.div(enclosed(num, self.box), enclosed(den, self.box))

    def smooth(self, slot: int) -> bool:
        """Whether a generator is a smooth function of its arguments here."""
        g = self.field.generators[slot]
        return smooth_at(stand_in(g.name, len(g.arguments)), [self.value(a) for a in g.arguments])

    def box(self, slot: int) -> Enclosure:
        return self.boxes[slot]


def _split(box: Box) -> list[Box] | None:
    widest, width = -1, 0.0
    for s, b in box.items():
        w = _width(b)
        if w > width:
            widest, width = s, w
    if widest < 0 or width < 1e-9:
        return None
    b = box[widest]
    middle = _middle(b)
    if not b.lo < middle < b.hi:
        return None
    left = Enclosure(b.lo, middle, b.lo_open, False)
    right = Enclosure(middle, b.hi, False, b.hi_open)
    return [{**box, widest: left}, {**box, widest: right}]


def _closed(b: Enclosure) -> Enclosure:
    return Enclosure(b.lo, b.hi, b.lo == -INF and b.lo_open, b.hi == INF and b.hi_open)


def _width(b: Enclosure) -> float:
    """Width after squashing the line: tails count for what they still hide."""
    return _squash(b.hi) - _squash(b.lo)


def _squash(x: float) -> float:
    if x in (INF, -INF):
        return 2.0 if x > 0 else -2.0
    return x / (1 + abs(x)) * 2


def _between(b: Enclosure, share: float) -> Enclosure:
    """The number of a box at that share of the way from one end of the squashed line to the other."""
    there = (1 - share) * _squash(b.lo) + share * _squash(b.hi)
    x = there / (2 - abs(there)) if abs(there) < 2 else INF
    x = x if b.lo < x < b.hi else _middle(b)
    return Enclosure(x, x)


def _middle(b: Enclosure) -> float:
    if b.lo == -INF and b.hi == INF:
        return 0.0
    if b.hi == INF:
        return 1.0 if b.lo < 0.5 and b.lo >= 0 else 4 * b.lo if b.lo > 0 else 0.0
    if b.lo == -INF:
        return -1.0 if -0.5 < b.hi <= 0 else 4 * b.hi if b.hi < 0 else 0.0
    return b.lo / 2 + b.hi / 2


__all__ = ["At", "Box", "below", "branch", "inside", "lowest", "negative"]
