"""Gradients that explode and that vanish: with numbers for everything but an entry, where the loss is least, and

explode  how large its derivative is at distance 1 from there, and a place where it is more than 1000 times as large
vanish   how large it is at a place within 10 of there, and one where it is at most 1/1000 of that, and that is more than 10
         away; or, if there is no least one, where the loss is above the middle of its values
nowhere  that all of the line has no such place, whatever everything else is: the derivative is at most 1000 times as large;
         or it is larger than 1/1000 but within 10 of there, where the loss is below the middle of its values

A continuous function that does not rise before an interval and does not fall after it, and does next to it, is least in it, and
comes near to its infimum nowhere else; if it stays the same in between, at all places there. One that rises, or falls,
everywhere comes near to it far out alone; then distances are from where all that is read is 0 (of a difference, from where
both are equal), and all places are close.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.boxes import Trace, size
from lossdsl.certificate.coverings import Box, Curve, Leaf, float_of, text
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.question import EXPLODING, VANISHING, Question
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import Apply, Const, Param, Read, Scalar, postorder, tensors_of
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

_RATIO = 1000.0
_AWAY = 10.0
_SHARES = (0.99, 0.75, 0.5, 0.25, 0.1, 0.03, 0.01)  # of it, at which the derivative is looked at
_USUAL = (1.0, 0.0, 0.5, 2.0, -1.0)
_SMALL = 2.0**-14
_FAR = 64.0  # where what is told of all that is beyond is nearly a limit
_REACH = 40  # powers of two that are looked at
_PROBED = (-4, 0, 3, 10, 30)
_BISECTED = 60
_FINER = 24  # boxes that are halved for a size
_NEARLY = 1.25
_MOST = 400  # boxes of one covering
_ALL = 1000  # and of all coverings of one line
_FINEST = -6  # power of two of a distance
_ROOM = 2.0**-20  # to both sides of a distance
_EXACTLY = 2.0**-40  # of a unit, which is told to that
_FREE = ("real", "prob", "bool", "binary", "sign")
Numbers = tuple[Enclosure, ...]
Accept = Callable[[Enclosure], bool]


def _curve(q: Question) -> Curve:
    # it rises and falls in the variable, and sizes and values are compared with one another alone
    curve = Curve(q, inner=True, lifted=True)
    if q.conditions or q.assume or (curve.domain.lo, curve.domain.hi) != (-INF, INF):
        raise Stuck("a condition, or an input with an end")
    return curve


def of_profile(q: Question) -> Trace:
    """Where the gradient explodes, or vanishes. Raises Stuck where no place is found."""
    curve = _curve(q)
    reason = Stuck("no admissible numbers")
    for numbers in _assignments(q, curve):
        try:
            return (_explodes if q.property == EXPLODING else _vanishes)(_Line(curve, numbers))
        except Stuck as stuck:
            reason = stuck
    raise reason


def _assignments(q: Question, curve: Curve) -> Iterator[Numbers]:
    """What all that is read besides is for numbers of the inputs that it is made of: one number of each input, the same one
    as far as it may be, or one of them small."""
    inputs: dict[str, Enclosure] = {}
    for name in _made_of(curve):
        declared = curve.bounds.inputs[name]
        if declared.kind not in _FREE:
            raise Stuck(f"{name} may not be any number of its interval")
        ends = [end for end in (declared.range.lower, declared.range.upper) if end is not None]
        if any(float_of(end) is None for end in ends):
            raise Stuck("an interval whose ends are not told exactly")
        two = declared.kind in ("bool", "binary", "sign")
        inputs[name] = Enclosure(1.0, 1.0) if two else curve.bounds.tensor(name)
    seen: list[dict[str, float]] = []
    for usual, small in itertools.product(_USUAL, (None, *inputs)):
        wanted = {name: _SMALL if name == small else usual for name in inputs}
        chosen = {name: _admissible(wanted[name], box) for name, box in inputs.items()}
        given = {name: v for name, v in chosen.items() if v is not None}
        if given not in seen and len(given) == len(inputs):
            seen.append(given)
            exactly = {name: Enclosure(v, v) for name, v in given.items()}
            there = Bounds(q.program, {**q.assume, **exactly}, moved=frozenset(q.inputs))
            numbers = tuple(curve.case_of(there)[n] for n in curve.others)
            if all(n.finite for n in numbers):
                yield numbers


def _made_of(curve: Curve) -> list[str]:
    """The inputs that all else is made of. Raises Stuck for parameters, and recurrences."""
    found: dict[str, None] = {}
    names = list(tensors_of(curve.others))
    if any(isinstance(n, Param) for n in curve.others):
        raise Stuck("a parameter may not be any number of its interval")
    seen = set(names)
    while names:
        name = names.pop()
        d = curve.bounds.definitions.get(name)
        if name in curve.bounds.recurrent:
            raise Stuck(f"{name}: a recurrence")
        if d is None:
            found[name] = None
        more = [] if d is None else [t for t in tensors_of(d.scalars()) if t not in seen]
        seen.update(more)
        names += more
    return list(found)


def _admissible(first: float, box: Enclosure) -> float | None:
    return next((v for v in (first, *_USUAL) if e.meet(Enclosure(v, v), box) is not None), None)


class _Line:
    """A curve where all else has numbers, and its derivative in the variable. Distances are those of the entry: `unit` is 1 of
    them, in the variable. `every`: whatever else the variable is of is any number, not 0."""

    def __init__(self, curve: Curve, numbers: Numbers, *, every: bool = False) -> None:
        self.curve, self.numbers, self._every, self._left = curve, numbers, every, _ALL
        self.base: float | None = None  # values are told as what they are more than there
        self._known: dict[tuple[float, float], Enclosure] = {}

    @cached_property
    def unit(self) -> float:
        """It may be a little more: by less than the room that is left wherever it is used. Raises Stuck where it is not told."""
        slope = e.absolute(self.curve.slope_at(self.numbers))
        if not slope.positive or not slope.hi <= slope.lo * (1 + _EXACTLY):
            raise Stuck("how far the variable moves with the entry")
        return slope.lo

    @property
    def origin(self) -> float:
        """The variable where all that it reads is 0; of a difference of inputs that is 0 there, and of what is a multiple of it,
        that is where both are equal, whatever they are. Of what else reads more than the entry it is told where that is 0,
        or may be chosen so: inputs that nothing else is made of. Raises Stuck where it is not told exactly."""
        curve = self.curve
        measured = curve.unscaled
        entry, others = self._read_in(measured)
        zero = dict.fromkeys((*entry, *others), Const(0))
        whole = curve.whole()
        at_zero, alone = (whole[substitute(measured, dict.fromkeys(r, Const(0)))] for r in (zero, entry))
        if others and _is_plain(measured, curve.bounds) and not curve.recentred and at_zero.zero and not at_zero.nan:
            at_zero = alone = Enclosure(0.0, 0.0)
        elif alone.lo != alone.hi and not self._every and all(map(self._may_be_zero, others)):
            alone = at_zero
        if alone.lo != alone.hi or not alone.finite or (at_zero.lo, at_zero.hi) != (alone.lo, alone.hi):
            raise Stuck("0 of the entry is elsewhere")
        found = whole[substitute(curve.variable, {measured: Const(Fraction(alone.lo))})]
        if found.lo != found.hi or not found.finite:
            raise Stuck("0 of the entry is elsewhere")
        return found.lo

    def _read_in(self, n: Scalar) -> tuple[list[Scalar], list[Scalar]]:
        """What it reads of the input of the entry, and of others."""
        found: tuple[list[Scalar], list[Scalar]] = [], []
        for part in postorder(n):
            if isinstance(part, Read):
                found[part.tensor not in self.curve.question.inputs].append(part)
        return found

    def _may_be_zero(self, n: Scalar) -> bool:
        declared = self.curve.bounds.inputs.get(n.tensor) if isinstance(n, Read) else None
        if declared is None or declared.kind not in ("real", "prob") or declared.name in _made_of(self.curve):
            return False
        return e.meet(self.curve.bounds.tensor(declared.name), Enclosure(0.0, 0.0)) is not None

    def at(self, x: float) -> Enclosure | None:
        """The derivative at a place, if it has one that is seen."""
        with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError):
            return self.curve.derivative(1, Box(Enclosure(x, x), self.numbers))
        return None

    def look(self, lo: float, hi: float, otherwise: Accept) -> None:
        """Raise Stuck if the derivative is another one than is looked for at one of some places: boxes need not be tried."""
        for x in (s * 2.0**k for k in _PROBED for s in (1, -1)):
            if lo < x < hi and (here := self.at(x)) is not None and otherwise(here):
                raise Stuck(f"the derivative at {x}")

    def covering(self, lo: float, hi: float, accept: Accept) -> list[Leaf]:
        """Boxes from one number to another with a derivative on each that is accepted. Raises Stuck."""
        found: list[Leaf] = []
        stack = [(lo, hi)] if lo < hi else []
        for _ in range(min(_MOST, self._left)):
            if not stack:
                return sorted(found, key=lambda leaf: leaf.box.over.lo)
            a, b = stack.pop()
            self._left -= 1
            box = Box(Enclosure(a, b, True, True), self.numbers)
            here = self.curve.seen(1, box, accept)
            if here is None:
                stack += _halved(a, b)
            else:
                found.append(Leaf(box, here))
        raise Stuck("more boxes than are looked at")

    def sizes(self, lo: float, hi: float) -> tuple[float, float]:
        """Between what the size of the derivative is from one number to another, and a little beyond them. Raises Stuck."""
        room = _ROOM * max(1.0, self.unit, *(abs(x) for x in (lo, hi) if abs(x) < INF))
        leaves = self.covering(lo - room, hi + room, _is_bounded)
        for _ in range(_FINER):  # the box on which it may be largest, until that is nearly so
            widest = max(leaves, key=lambda leaf: size(leaf.found)[1])
            if size(widest.found)[1] <= _NEARLY * max(size(leaf.found)[0] for leaf in leaves):
                break
            try:
                halves = _halved(widest.box.over.lo, widest.box.over.hi)
                finer = [leaf for a, b in halves for leaf in self.covering(a, b, _is_bounded)]
            except Stuck:
                break
            leaves = [leaf for leaf in leaves if leaf is not widest] + finer
        return min(size(leaf.found)[0] for leaf in leaves), max(size(leaf.found)[1] for leaf in leaves)

    def least(self, x: float) -> float:
        """What the size of the derivative is not below on both sides of a place; 0 if that is not seen."""
        with contextlib.suppress(Stuck):
            return self.sizes(x, x)[0] if abs(x) < INF else 0.0
        return 0.0

    def value(self, over: Enclosure) -> Enclosure:
        """Of the element; of what it is more than at `base`, if there is one. Raises Stuck."""
        if self.base is not None:
            rise = self._rise(self.base, over.lo)
            width = e.sub(Enclosure(over.hi, over.hi), Enclosure(over.lo, over.lo))
            along = e.mul(self._slopes(over.lo, over.hi), Enclosure(0.0, width.hi)) if over.lo < over.hi else None
            return rise if along is None else e.add(rise, along)
        for accept in (_is_bounded, _is_finite):
            found = self.curve.seen(0, Box(over, self.numbers), accept)
            if found is not None:
                return found
        raise Stuck("the value there")

    def _slopes(self, lo: float, hi: float) -> Enclosure:
        """What the derivative is from one finite number to another. Raises Stuck."""
        if (lo, hi) not in self._known:
            found = [leaf.found for leaf in self.covering(lo, hi, _is_bounded)]
            self._known[lo, hi] = Enclosure(min(f.lo for f in found), max(f.hi for f in found))
        return self._known[lo, hi]

    def _rise(self, first: float, last: float) -> Enclosure:
        """How much more the element is at a number than at another: by slopes between powers of two away from the first."""
        way, total, here = (1 if last >= first else -1), Enclosure(0.0, 0.0), first
        for k in range(_FINEST, _REACH):
            there = first + way * 2.0**k
            there = there if way * there < way * last else last
            if here != there:
                slopes = self._slopes(min(here, there), max(here, there))
                width = e.absolute(e.sub(Enclosure(there, there), Enclosure(here, here)))
                total = e.add(total, e.mul(e.mul(slopes, width), Enclosure(float(way), float(way))))
            here = there
        if here != last:
            raise Stuck("a place too far out")
        return total


def _is_plain(n: Scalar, bounds: Bounds) -> bool:
    """Whether it is made of inputs and numbers by sums, differences, and products alone."""
    match n:
        case Read():
            return n.tensor in bounds.inputs
        case Const():
            return True
        case Apply(name="add" | "sub" | "neg" | "mul" | "real"):
            return all(_is_plain(a, bounds) for a in n.args)
    return False


def _is_bounded(here: Enclosure) -> bool:
    return here.bounded


def _is_finite(here: Enclosure) -> bool:
    return here.finite


def _does_not(sign: int) -> Accept:
    """Rise, for 1, or fall, for -1."""
    return lambda here: here.nonpositive if sign > 0 else here.nonnegative


def _halved(a: float, b: float) -> list[tuple[float, float]]:
    if a == -INF and b == INF:
        middle = 0.0
    elif b == INF:
        middle = max(1.0, 2 * a) if a >= 0 else 0.0
    elif a == -INF:
        middle = min(-1.0, 2 * b) if b <= 0 else 0.0
    else:
        middle = _short(a + (b - a) / 4, b - (b - a) / 4)
    if not a < middle < b or b - a < 2.0**-40 * max(1.0, abs(a)):
        raise Stuck("boxes that are too small")
    return [(a, middle), (middle, b)]


def _short(a: float, b: float) -> float:
    """A number between two, of few digits: corners are mostly at such."""
    if a <= 0 <= b or a == b:
        return 0.0 if a < b else a
    step = 2.0 ** math.floor(math.log2(b - a))
    while math.ceil(a / (2 * step)) * 2 * step <= b:
        step *= 2
    return math.ceil(a / step) * step


@dataclass(frozen=True)
class _Least:
    """Between which numbers the first and the last place is at which the loss is least. Where there is none, it goes one `way`
    everywhere, up (1) or down (-1), and these are 0."""

    trace: Trace
    first: tuple[float, float]
    last: tuple[float, float]
    way: int = 0

    def within(self, away: float) -> tuple[float, float]:
        """Places that are no farther than that from one of them, but for a little."""
        near = away * (1 - _ROOM)
        return self.first[1] - near, self.last[0] + near


def _at_distance_1(line: _Line, least: _Least) -> tuple[float, float]:
    """Between what the larger one of the derivatives there is in size."""
    (a, b), (c, d), unit = least.first, least.last, line.unit
    sides = [line.sizes(a - unit, b - unit)] if b > -INF else []
    sides += [line.sizes(c + unit, d + unit)] if c < INF else []
    return max(low for low, _ in sides), max(high for _, high in sides)


def _explodes(line: _Line) -> Trace:
    least = _least(line)
    _, usual = _at_distance_1(line, least)
    for k in range(_REACH):
        for x in (least.last[1] + 2.0**k * line.unit, least.first[0] - 2.0**k * line.unit):
            found = line.least(x)
            if found > e.mul_up(_RATIO, usual):
                place = ["explodes", *map(text, line.numbers), x.hex(), found.hex()]
                return [*least.trace, ["at most", usual.hex(), "at distance 1"], place]
    raise Stuck("no place with a derivative that is large enough")


def _vanishes(line: _Line) -> Trace:
    least = _least(line)
    half = _upper_half(line, least.way) if least.way else -INF
    away = _AWAY * line.unit
    lo, hi = least.within(away)
    ends = [x for x in (least.first[1], least.last[0]) if abs(x) < INF]
    near = [x + s * away * share for x in ends for share in _SHARES for s in (1, -1)]
    large, s = max(((line.least(x), x) for x in near if lo < x < hi), default=(0.0, 0.0))
    for k in range(_REACH):
        for x in (least.last[1] + 1.01 * away * 2.0**k, least.first[0] - 1.01 * away * 2.0**k):
            if abs(x) == INF or (least.way and not line.value(Enclosure(x, x)).lo >= half):
                continue
            _, small = line.sizes(x, x)  # on both sides, if it is a corner
            if e.mul_up(_RATIO, small) <= large:
                place = ["vanishes", *map(text, line.numbers), x.hex(), small.hex()]
                above = [["the middle is at most", half.hex()]] if least.way else []
                return [*least.trace, ["at least", large.hex(), "at", s.hex()], *above, place]
    raise Stuck("no place with a derivative that is small enough")


def _upper_half(line: _Line, way: int) -> float:
    """A number that the middle between the infimum and the supremum is not above, where it rises (1) or falls (-1) everywhere:
    it is nowhere more than far out on one side. Raises Stuck."""
    most = line.value(Enclosure(_FAR, INF, False, True) if way > 0 else Enclosure(-INF, -_FAR, True, False)).hi
    least = most
    for x in (s * 2.0**k for k in range(_REACH) for s in (1, -1)):
        with contextlib.suppress(Stuck):
            least = min(least, line.value(Enclosure(x, x)).hi)
    if most == INF:
        raise Stuck("a loss without a bound")
    return e.up(e.up(least / 2) + most / 2)


# ------------------------------------------------------------------------------------------------- nowhere


def of_calm(q: Question) -> Trace:
    """That the gradient explodes, or vanishes, nowhere. Raises Stuck."""
    curve = _curve(q)
    trace: Trace = []
    for numbers in itertools.product(*map(curve.choices, curve.others)):
        every = q.property == EXPLODING  # without an upper end, nothing is in the upper half
        line = _Line(curve, numbers, every=every)
        told = _even(line, q.property) or (_bounded if q.property == EXPLODING else _kept)(line)
        trace += [["where", *map(text, numbers)], *told]
    return trace


def _bounded(line: _Line) -> Trace:
    least = _least(line)
    usual, _ = _at_distance_1(line, least)
    limit = e.mul_down(_RATIO, usual)
    leaves = line.covering(-INF, INF, lambda here: size(here)[1] <= limit)
    return [*least.trace, ["at least", usual.hex(), "at distance 1"], ["at most", limit.hex(), str(len(leaves))]]


def _kept(line: _Line) -> Trace:
    """Around where the loss is least, and beyond."""
    least = _least(line)
    away = _AWAY * line.unit
    lo, hi = least.first[0], least.last[1]
    _, large = line.sizes(lo - away, hi + away)
    limit = e.mul_up(large, e.up(1 / _RATIO))
    _choose_base(line, least)
    middle = _middle(line, least)
    if lo < least.first[1]:  # somewhere there
        around = line.value(Enclosure(*least.first))
        if least.first[1] - lo > away * (1 - _ROOM) or not around.hi < middle:
            raise Stuck("where it is least is not told well")
    trace = [
        *least.trace,
        ["at most", large.hex(), "within 10"],
        *_from_least(line),
        ["the middle is at least", middle.hex()],
    ]
    for sign in (-1, 1):
        end = least.first[1] if sign < 0 else least.last[0]
        if abs(end) < INF and least.way != -sign:  # else the loss is small there
            trace.append(_kept_beyond(line, least, sign, limit, middle))
    return trace


def _even(line: _Line, word: str) -> Trace:
    """Wherever the loss is least: the derivative is nowhere as small as a share of what it is anywhere; or 0 everywhere, which
    does not explode."""
    with contextlib.suppress(Stuck):
        if word == VANISHING and not line.curve.slope_at(line.numbers).nonzero:
            return []
        large = max(size(leaf.found)[1] for leaf in line.covering(-INF, INF, lambda here: size(here)[1] < INF))
        limit = e.mul_up(large, e.up(1 / _RATIO))
        line.look(-INF, INF, lambda here: size(here)[1] <= limit)
        leaves = line.covering(-INF, INF, lambda here: size(here)[0] > limit)
        return [["at most", large.hex(), "everywhere"], ["more than", limit.hex(), "everywhere", str(len(leaves))]]
    return []


def _choose_base(line: _Line, least: _Least) -> None:
    """What is added to all of the loss, and may be anything, does not matter: then values are told by slopes alone."""
    place = next((x for x in (*least.first, *least.last) if abs(x) < INF), 0.0)
    try:
        known = line.value(Enclosure(place, place)).bounded
    except Stuck:
        known = False
    if not known and not least.way:
        line.base = place


def _from_least(line: _Line) -> Trace:
    return [] if line.base is None else [["more than at", line.base.hex()]]


def _kept_beyond(line: _Line, least: _Least, sign: int, limit: float, middle: float) -> list[str]:
    """A place on a side, beyond which the derivative is large, and up to which, close to where it is least, the loss is below
    the middle, as it is there. Raises Stuck."""
    away = _AWAY * line.unit
    end, exactly = (least.first[1] if sign < 0 else least.last[0]), least.first[0] == least.first[1]
    close = least.within(away)
    for share in (0.0, *reversed(_SHARES), *(-s for s in _SHARES if least.way)):
        x = end + sign * away * share
        with contextlib.suppress(Stuck):
            if least.way or close[0] <= x <= close[1]:
                at_least = x == end and exactly and not least.way
                if at_least or line.value(Enclosure(x, x)).hi < middle:
                    lo, hi = (-INF, x) if sign < 0 else (x, INF)
                    leaves = line.covering(lo, hi, lambda here: size(here)[0] > limit)
                    return ["more than", limit.hex(), "before" if sign < 0 else "after", x.hex(), str(len(leaves))]
    raise Stuck("no place beyond which the derivative is large")


# ------------------------------------------------------------------------------------------ where it is least


def _least(line: _Line) -> _Least:
    """Raises Stuck where it is not seen."""
    with contextlib.suppress(Stuck):
        return _least_between(line, 0.0, 0.0)
    ends = _bracket(line)
    if ends is None:
        return _monotone(line)
    lo, hi = ends
    if lo == hi:  # the derivative is 0 there
        with contextlib.suppress(Stuck):
            return _flat(line, *_plateau(line, lo))
    return _least_between(line, lo, hi)


def _monotone(line: _Line) -> _Least:
    zero = line.origin
    sign = 1 if (found := line.at(0.0)) is not None and found.positive else -1
    leaves = line.covering(-INF, INF, lambda here: here.positive if sign > 0 else here.negative)
    line.curve.joined(leaves, 0)
    return _Least([["rises" if sign > 0 else "falls", str(len(leaves)), zero.hex()]], (zero, zero), (zero, zero), sign)


def _least_between(line: _Line, lo: float, hi: float) -> _Least:
    line.look(-INF, lo, lambda here: here.positive)
    line.look(hi, INF, lambda here: here.negative)
    before, after = line.covering(-INF, lo, _does_not(1)), line.covering(hi, INF, _does_not(-1))
    if not (before[-1].found.negative and after[0].found.positive):
        raise Stuck("whether it is least farther out, too")
    line.curve.joined([*before, *line.covering(lo, hi, _is_bounded), *after], 0)
    trace = [["is least from", lo.hex(), "to", hi.hex(), str(len(before)), str(len(after))]]
    return _Least(trace, (lo, hi), (lo, hi))


def _flat(line: _Line, lo: float, hi: float) -> _Least:
    """Least at all places from one to another, which are infinite perhaps."""
    before, after = line.covering(-INF, lo, _does_not(1)), line.covering(hi, INF, _does_not(-1))
    inside = line.covering(lo, hi, lambda here: here.zero)
    if not inside or any(not leaf.found.negative for leaf in before[-1:]):
        raise Stuck("whether it is least farther out, too")
    if any(not leaf.found.positive for leaf in after[:1]) or not (before or after):
        raise Stuck("whether it is least farther out, too")
    line.curve.joined([*before, *inside, *after], 0)
    trace = [["is least all the way from", lo.hex(), "to", hi.hex(), str(len(before)), str(len(after))]]
    return _Least(trace, (lo, lo), (hi, hi))


def _plateau(line: _Line, zero: float) -> tuple[float, float]:
    """Between which numbers the derivative seems to be 0."""
    ends = []
    for sign in (-1, 1):
        places = (zero + sign * 2.0**k * line.unit for k in range(-4, _REACH))
        there = next((x for x in places if (found := line.at(x)) is not None and found.nonzero), None)
        ends.append(sign * INF if there is None else _edge(line, zero, there))
    return ends[0], ends[1]


def _edge(line: _Line, zero: float, other: float) -> float:
    """Where a derivative of 0 ends."""
    for _ in range(_BISECTED):
        middle = zero + (other - zero) / 2
        found = line.at(middle)
        if found is None:
            return middle
        zero, other = (zero, middle) if found.nonzero else (middle, other)
    return _short(min(zero, other), max(zero, other))


def _middle(line: _Line, least: _Least) -> float:
    """A number that the middle between the infimum and the supremum is not below. Raises Stuck."""
    ends = least.first[1], least.last[0]
    if least.way:
        over = Enclosure(-INF, INF, True, True)
    elif ends[0] < ends[1]:  # it is the same at all of them
        x = ends[0] if abs(ends[0]) < INF else ends[1]
        over = Enclosure(x, x)
    else:
        over = Enclosure(least.first[0], least.last[1])
    below = line.value(over).lo
    high = below
    for k in range(_REACH):
        for x in (least.last[1] + 2.0**k * line.unit, least.first[0] - 2.0**k * line.unit):
            with contextlib.suppress(Stuck):
                high = max(high, line.value(Enclosure(x, x)).lo) if abs(x) < INF else high
    if below == -INF:
        raise Stuck("a loss without a bound")
    return e.down(below / 2 + high / 2)


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


__all__ = ["of_calm", "of_profile"]
