"""Counterexamples: a search over small instances, and a witness only where enclosures leave no doubt."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

from lossdsl.ir.extents import symbols_of
from lossdsl.ir.nodes import REAL, TRUE, Compare, Const, Index, Param, Read, Scalar
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify.algebra import Form, TooLarge
from lossdsl.verify.ascent import ascent
from lossdsl.verify.boxes import At
from lossdsl.verify.climb import climbed
from lossdsl.verify.context import Context
from lossdsl.verify.derive import derivative
from lossdsl.verify.descent import descend
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.growth import Tail
from lossdsl.verify.operations import truth
from lossdsl.verify.pieces import VARIABLE, View
from lossdsl.verify.points import Evaluator, Place, Point, TooManySteps, Undecided, elements, within
from lossdsl.verify.scalar import Join, Smooth, Stuck, joins, smooth_pieces
from lossdsl.verify.show import text
from lossdsl.verify.signs import Budget
from lossdsl.verify.verdict import Refuted, Witness
from lossdsl.verify.work import deadline, passed

SPREADS = (2.0, 8.0, 0.5, 40.0, 300.0)


def _points(
    ctx: Context, seed: int, interior: tuple[str, ...] = (), *, endless: bool = False, dots: int = 1
) -> Iterator[Point]:
    """Admissible points until the time is up (`endless`: the caller looks at the time)."""
    end = INF if endless else deadline(ctx.seconds)
    sampler = ctx.sampler(seed, interior)
    sampler.dots = dots
    misses = 0
    for k in itertools.count():
        if passed(end) or misses > 60:
            return
        point = sampler.point(spread=SPREADS[k % 5], extent=(2, 2, 3, 1)[k // 5 % 4], defaults=k % 3 != 2)
        if point is None or not ctx.admits(point):
            misses += 1
            continue
        yield point


_CROWDS = (64, 512)  # entries: a bound that grows with the logarithm of their number is passed by one of these


def _crowds(ctx: Context, seed: int, inputs: tuple[str, ...]) -> Iterator[Point]:
    """Admissible points where one axis of the inputs is long and others are short; along it all entries but a few are the
    same number, and so far apart that those few weigh as much as the others (or much more or less)."""
    sampler, generator, end = ctx.sampler(seed, inputs), random.Random(seed), deadline(ctx.seconds)
    varied = [i for i in ctx.program.inputs if i.name in inputs and i.kind in ("real", "prob") and i.dtype is REAL]
    boxes = {i.name: ctx.ranges(inputs).input(i.name) for i in varied}
    symbols = sorted({s for i in varied for d in i.dims for s in d.symbols()})
    for size, symbol, (share, k) in itertools.product(_CROWDS, symbols, ((s, k) for s in (0, 2) for k in range(6))):
        if passed(end):
            return
        point = sampler.point(spread=1.0, extent=1 + k % 2, sizes={symbol: size})
        if point is None:
            continue
        apart = (0, 1, -1, 4, round(math.log(size)), -round(math.log(size)))[k]
        moved = {}
        for i in varied:
            level = dict[Place, Fraction]()
            for place, v in point.inputs[i.name].items():
                few = place and (generator.randrange(share) if share else place[-1]) == 0
                wanted = Fraction(apart if few else 0)
                level[place] = wanted if within(wanted, boxes[i.name]) else v
            moved[i.name] = level
        found = point.with_inputs(moved)
        if ctx.admits(found):
            yield found


def _value(ctx: Context, point: Point, target: str, place: Place) -> Enclosure | None:
    """The element's enclosure, None if there is none. What is too large once is not tried again at those extents."""
    large = ctx.memo.setdefault(("too large", target), set())
    extents = frozenset(point.extents.items())
    if extents in large:
        return None
    try:
        value = Evaluator(ctx.program, point).element(target, place)
    except TooManySteps:
        large.add(extents)
        return None
    except (Undecided, ValueError, OverflowError, ZeroDivisionError):
        return None
    return None if value.nan else value


def _values(ctx: Context, points: Iterable[Point], target: str, place: Place) -> list[Enclosure] | None:
    """Bounded enclosures of the element at all points; None at the first that has none."""
    found: list[Enclosure] = []
    for point in points:
        value = _value(ctx, point, target, place)
        if value is None or not value.bounded:
            return None
        found.append(value)
    return found


def negative(ctx: Context, target: str, *, strict: bool = False) -> Refuted | None:
    """A point at which the target is certainly below 0 (`strict`: not above 0)."""
    low = Lowest()
    for point in itertools.chain(_plain(ctx) if strict else (), _points(ctx, 1)):
        for place in elements(ctx.program, target, point):
            value = _value(ctx, point, target, place)
            if value is not None and (value.negative or (strict and value.nonpositive)):
                if strict and not _counts(ctx, point, target, place):
                    continue
                empty = " of an empty batch" if not any(point.inputs.values()) and point.inputs else ""
                violation = f"the value{empty} is in {value}"
                return Refuted("search, interval evaluation", Witness((point.flat(),), violation))
            low.add(value, (point,), place)
    for (point,), place in low.best:

        def below(points: tuple[Point, ...], place: Place = place) -> Enclosure | None:
            return _value(ctx, points[0], target, place)

        found = descend(ctx, (point,), None, below, DESCENTS * ctx.seconds / len(low.best))
        if found is not None:
            return Refuted(
                "descent, interval evaluation", Witness((found[0].flat(),), f"the value is in {below(found)}")
            )
    return None


DESCENTS = 0.4  # of the time for drawn points, once more, for descents from the best of them


class Lowest:
    """The candidates with the lowest values, from which it is worth going on."""

    def __init__(self, most: int = 3) -> None:
        self._most = most
        self._kept: list[tuple[float, int, tuple[Point, ...], Place]] = []
        self._count = itertools.count()

    def add(self, value: Enclosure | None, points: tuple[Point, ...], place: Place) -> None:
        if value is None or not value.bounded:
            return
        self._kept.append((value.lo / 2 + value.hi / 2, next(self._count), points, place))
        self._kept = sorted(self._kept, key=lambda entry: entry[:2])[: self._most]

    @property
    def best(self) -> list[tuple[tuple[Point, ...], Place]]:
        return [(points, place) for _, _, points, place in self._kept]


def _plain(ctx: Context) -> Iterator[Point]:
    """Points at which everything is alike: losses often vanish there."""
    for extent, value in itertools.product((2, 1, 0), (0, 1)):
        point = ctx.sampler(1).plain(value, extent)
        if point is not None and ctx.admits(point):
            yield point


def _counts(ctx: Context, point: Point, target: str, place: Place) -> bool:
    """Whether the element certainly is one: the 0 outside of the support is no value of the loss."""
    definition = ctx.program.definition(target)
    if definition is None or definition.support is TRUE:
        return True
    env: dict[Index, int] = dict(zip(definition.formals, place, strict=True))
    try:
        return truth(Evaluator(ctx.program, point).scalar(definition.support, env)) is True
    except (Undecided, ValueError, OverflowError, ZeroDivisionError):
        return False


def changed(
    ctx: Context,
    target: str,
    inputs: tuple[str, ...],
    move: Callable[[Point], Point | None],
    sign: int = 1,
    *,
    scales: tuple[Fraction, ...] = (Fraction(1),),
    dots: int = 1,
) -> Refuted | None:
    """A point that `move` takes to one where the target (times `sign`) certainly has another value.

    scales   by which the inputs of drawn points are multiplied in turn: an `eps` shows in vectors of its size alone
    dots     the least extent of axes that are written `...`"""
    boxes = {n: ctx.ranges().input(n) for n in inputs}
    for k, drawn in enumerate(_points(ctx, 7, dots=dots)):
        scale = scales[k % len(scales)]
        low = drawn.with_inputs({n: {p: scale * v for p, v in drawn.inputs[n].items()} for n in inputs})
        high = move(low)
        if scale != 1 and not ctx.admits(low):
            continue
        if high is None or not all(within(v, box) for n, box in boxes.items() for v in high.inputs[n].values()):
            continue
        if not ctx.admits(high):
            continue
        for place in elements(ctx.program, target, low):
            values = _values(ctx, (low, high), target, place)
            if values is None:
                continue
            a, b = values
            gap = e.sub(a, b) if sign > 0 else e.add(a, b)
            if gap.positive or gap.negative:
                word = "the value" if sign > 0 else "minus the value"
                points = (low.flat(), high.flat(*inputs))
                before, after = e.told_apart(a if sign > 0 else e.neg(a), b)
                return Refuted("transformed point", Witness(points, f"{word} {before} becomes {after}"))
    return None


def steep(ctx: Context, target: str, inputs: tuple[str, ...], bound: Scalar, norm: str = "l2") -> Refuted | None:
    """Two points between which the target changes by more than `bound` times their distance."""
    if any(i.kind == "unit" and i.name in inputs for i in ctx.program.inputs):  # no segment stays on a sphere
        return _up_the_gradient(ctx, target, inputs, bound, norm)
    resample = ctx.sampler(6, inputs)
    best = Lowest()
    for k, low in enumerate(_points(ctx, 3, inputs)):
        moved: dict[str, dict[Place, Fraction]] = {}
        for i in ctx.program.inputs:
            if i.name in inputs:
                box = ctx.ranges(inputs).input(i.name)
                entries = dict(low.inputs[i.name])
                near = resample.entries(i, low.extents, SPREADS[k % 5], low.parameters)
                if near is None:
                    return None
                for place, v in near.items():
                    step = (v - entries[place]) / (1 if k % 2 else 256)
                    if within(entries[place] + step, box):
                        entries[place] += step
                moved[i.name] = entries
        high = low.with_inputs(moved)
        differences = [v - low.inputs[n][p] for n, entries in moved.items() for p, v in entries.items()]
        distance = _distance(differences, norm)
        if distance is None or not ctx.admits(high):
            continue
        for place in elements(ctx.program, target, low):
            room = _room(ctx, (low, high), inputs, target, place, bound, norm)
            if room is not None and room.negative:
                return _too_steep(ctx, (low, high), inputs, target, place, bound)
            best.add(room, (low, high), place)
    found = _up_the_gradient(ctx, target, inputs, bound, norm)
    if found is not None:
        return found
    for points, place in best.best:

        def left(points: tuple[Point, ...], place: Place = place) -> Enclosure | None:
            return _room(ctx, points, inputs, target, place, bound, norm)

        lowest = descend(ctx, points, inputs, left, DESCENTS * ctx.seconds / len(best.best), inputs)
        if lowest is not None:
            return _too_steep(ctx, lowest, inputs, target, place, bound)
    return None


_ASCENT = 4  # times the time of a search among random points: a gradient says where to go
_CLIMB = 6


def _up_the_gradient(ctx: Context, target: str, inputs: tuple[str, ...], bound: Scalar, norm: str) -> Refuted | None:
    """Two such points in the direction of a large gradient."""
    found = ascent(ctx, target, inputs)
    definition = ctx.program.definition(target)
    if found is None or definition is None:
        return None
    drawn = _points(replace(ctx, seconds=_ASCENT * ctx.seconds), 15, inputs)
    crowds = list[Point]()
    for steep in itertools.chain(
        found.places(drawn, norm),
        found.of(_kept(_crowds(ctx, 16, inputs), crowds), norm),
        climbed(ctx, found, _starts(ctx, inputs, crowds), inputs, norm, _CLIMB * ctx.seconds),
    ):
        env: dict[Index, int] = dict(zip(definition.formals, steep.place, strict=True))
        try:
            most = Evaluator(ctx.program, steep.point).scalar(bound, env).hi
        except (Undecided, KeyError):
            continue
        if steep.size <= most * (1 + 1e-7):
            continue
        for pair in found.pairs(steep, norm):
            room = _room(ctx, pair, inputs, target, steep.place, bound, norm) if ctx.admits(pair[1]) else None
            if room is not None and room.negative:
                return _too_steep(ctx, pair, inputs, target, steep.place, bound)
    return None


def _kept(points: Iterator[Point], found: list[Point]) -> Iterator[Point]:
    for point in points:
        found.append(point)
        yield point


_SIZES = ((1, 2, 2, 3), (1, 3, 4, 5))


def _starts(ctx: Context, inputs: tuple[str, ...], crowds: list[Point]) -> Iterator[Point]:
    """Points to climb from: small ones with axes of different lengths, now and then a crowd."""
    sampler, generator, misses = ctx.sampler(17, inputs), random.Random(18), 0
    symbols = sorted(symbols_of(ctx.program))
    while misses < 60:
        for k in range(4):
            sizes = {s: generator.choice(_SIZES[k % 2]) for s in symbols if s != "..."}
            point = sampler.point(spread=SPREADS[k % 3], defaults=k % 4 < 2, sizes=sizes)
            if point is not None and ctx.admits(point):
                yield point
            else:
                misses += 1
        if crowds:
            yield generator.choice(crowds)


def steeper(
    ctx: Context, pair: tuple[Point, Point], inputs: tuple[str, ...], target: str, bound: Scalar, norm: str
) -> Refuted | None:
    """Whether the target changes by more than `bound` times their distance between two points."""
    for place in elements(ctx.program, target, pair[0]):
        room = _room(ctx, pair, inputs, target, place, bound, norm)
        if room is not None and room.negative:
            return _too_steep(ctx, pair, inputs, target, place, bound)
    return None


def _too_steep(
    ctx: Context, points: tuple[Point, ...], inputs: tuple[str, ...], target: str, place: Place, bound: Scalar
) -> Refuted:
    low, high = points
    a, b = (_value(ctx, p, target, place) for p in points)
    found = f"the values are {a} and {b}, further apart than {text(bound)} times the distance"
    return Refuted("difference quotient", Witness((low.flat(), high.flat(*inputs)), found))


def _room(
    ctx: Context,
    points: tuple[Point, ...],
    inputs: tuple[str, ...],
    target: str,
    place: Place,
    bound: Scalar,
    norm: str,
) -> Enclosure | None:
    """The bound less the quotient of the differences of the values and of the inputs."""
    low, high = points
    distance = _distance([v - low.inputs[n][p] for n in inputs for p, v in high.inputs[n].items()], norm)
    definition = ctx.program.definition(target)
    a = _value(ctx, low, target, place)
    b = None if a is None else _value(ctx, high, target, place)
    if distance is None or a is None or b is None or definition is None or not (a.bounded and b.bounded):
        return None
    env: dict[Index, int] = dict(zip(definition.formals, place, strict=True))
    try:
        limit = Evaluator(ctx.program, low).scalar(bound, env)
    except (Undecided, KeyError):
        return None
    return e.sub(limit, e.div(e.absolute(e.sub(a, b)), distance))


def _distance(differences: list[Fraction], norm: str) -> Enclosure | None:
    if not any(differences):
        return None
    if norm == "l1":
        return e.exact(sum((abs(d) for d in differences), Fraction(0)))
    if norm == "linf":
        return e.exact(max(abs(d) for d in differences))
    square = e.exact(sum((d * d for d in differences), Fraction(0)))
    return Enclosure(e.down(square.lo**0.5), e.up(square.hi**0.5)) if square.lo > 0 else None


# --------------------------------------------------------------------------------------------------- kinks


def kink(ctx: Context, cases: list[View], order: int, budget: Budget, target: str) -> tuple[Refuted, int, str] | None:
    """A point at which a derivative of order <= `order` jumps; the order of the jump, and the surface."""
    best: tuple[Refuted, int, str] | None = None
    for view in cases:
        if ctx.cuts_through(view.entry.tensor) or ctx.symbolic(view.entry.tensor):
            return None
        try:
            pieces = smooth_pieces(view)
            if len(pieces) < 2:
                continue
            for join in joins(view, pieces, budget, order):
                for k, jump in enumerate(join.jumps):
                    if jump.zero or (best is not None and best[1] <= k):
                        continue
                    found = _at_join(ctx, view, join, jump, k, target)
                    if found is not None:
                        best = (found, k, view.shown(join.surface))
                        break
        except (Stuck, TooLarge):
            continue
    return best


def _at_join(ctx: Context, view: View, join: Join, jump: Form, order: int, target: str) -> Refuted | None:
    if not join.simple:
        return None
    for point in itertools.islice(_points(ctx, 4), 40):
        boxes = _leaf_boxes(ctx, view, join, point, target)
        if boxes is None:
            continue
        at = At(join.field, boxes)
        size = at.value(jump)
        if not size.nonzero or not all(at.value(c).positive for c in join.constraints):
            continue
        where = at.value(join.point)
        if where.nan:
            continue
        what = ("the value", "the slope")[order] if order < 2 else f"the derivative of order {order}"
        entry = _solve(ctx, view, where, point, target)
        if entry is None or not _well_inside(entry, view.scope[view.entry]):
            continue
        name = f"{view.entry.tensor}["
        place = {k: v for k, v in point.flat().items() if not k.startswith(name) and k != view.entry.tensor}
        place[text(view.entry)] = entry
        found = f"{what} jumps by {size} where {view.shown(join.surface)} = 0"
        return Refuted("one-sided derivatives", Witness((place,), found))
    return None


def _solve(ctx: Context, view: View, where: Enclosure, point: Point, target: str) -> Fraction | None:
    """The entry at which the variable has the value `where` (its nearest float if that is not exact)."""
    definition = ctx.program.definition(target)
    if definition is None:
        return None
    env = dict.fromkeys(definition.formals, 0)
    evaluator = Evaluator(ctx.program, point)
    try:
        rest = evaluator.scalar(substitute(view.inner, {view.entry: Const(0)}), env)
        box = e.div(e.sub(where, rest), evaluator.scalar(view.slope, env))
    except (Undecided, KeyError):
        return None
    return Fraction(box.lo) / 2 + Fraction(box.hi) / 2 if box.bounded and box.hi - box.lo < 1e-9 else None


def _well_inside(entry: Fraction, box: Enclosure) -> bool:
    """Whether the entry is in the interior of its domain by more than its rounding and that of the ends."""
    margin = (1 + abs(entry)) / 2**20
    return (box.lo == -INF or entry - margin > Fraction(box.lo)) and (
        box.hi == INF or entry + margin < Fraction(box.hi)
    )


def _leaf_boxes(ctx: Context, view: View, join: Join, point: Point, target: str) -> dict[int, Enclosure] | None:
    """Point enclosures for the leaves of a join's field, or None where they are not what the case says."""
    definition = ctx.program.definition(target)
    if definition is None:
        return None
    env = dict.fromkeys(definition.formals, 0)
    evaluator = Evaluator(ctx.program, point)
    boxes: dict[int, Enclosure] = {}
    try:
        for node, value in view.case:
            if evaluator.scalar(node, env).lo == float(value.value):
                continue
            if not isinstance(value.value, Fraction):
                return None
            if isinstance(node, Read) and node.tensor in point.inputs:
                point.inputs[node.tensor] = dict.fromkeys(point.inputs[node.tensor], value.value)
            elif isinstance(node, Param):
                point.parameters[node.name] = value.value
            else:
                return None
        evaluator = Evaluator(ctx.program, point)
        for slot, g in enumerate(join.field.generators):
            if g.leaf is VARIABLE:
                boxes[slot] = join.field.generators[slot].enclosure
            elif g.leaf is not None:
                boxes[slot] = evaluator.scalar(g.leaf, env)
    except (Undecided, KeyError):
        return None
    return boxes if ctx.admits(point) else None


def unbounded_slope(ctx: Context, cases: list[View]) -> Refuted | None:
    """A piece that is a tail of the variable's line, on which the slope is a polynomial that is not constant.

    Everything else takes one admissible value, so the slope outgrows every bound along the tail."""
    for view in cases:
        ends = [sign for sign in (1, -1) if reaches(view, sign)]
        if not ends or not unconditional(ctx, view):
            continue
        try:
            for smooth in smooth_pieces(view):
                for sign in ends:
                    d = smooth.order(1)
                    if _grows(smooth, d) and is_tail(smooth, sign):
                        tail = "inf" if sign > 0 else "-inf"
                        place = {text(view.inner): Fraction(sign * 10**9)}
                        return Refuted(
                            "slope along a tail",
                            Witness(
                                (place,),
                                f"the slope is a polynomial of degree > 0 in {text(view.inner)}: no bound holds "
                                f"as it goes to {tail}",
                            ),
                        )
        except (Stuck, TooLarge):
            continue
    return None


def certainly_taken(ctx: Context, view: View) -> bool:
    """Whether the case occurs with every real value of the entry."""
    return reaches(view, 1) and reaches(view, -1) and unconditional(ctx, view)


def reaches(view: View, sign: int) -> bool:
    """Whether the variable goes to infinity (of that sign) within the domain of the entry."""
    box, slope = view.scope[view.entry], view.scope[view.slope]
    upward = slope.positive if sign > 0 else slope.negative
    return slope.nonzero and (box.hi == INF if upward else box.lo == -INF)


def unconditional(ctx: Context, view: View) -> bool:
    """Whether no condition stands in the way of any value of the entry in its domain, and the region is not empty."""
    free = not any(isinstance(n, Compare) for n, _ in view.case)
    whole = free and ctx.is_box and not ctx.symbolic(view.entry.tensor)
    return whole and next(_points(ctx, 7), None) is not None


def _grows(smooth: Smooth, d: Form) -> bool:
    """Whether the slope is a non-constant polynomial in the variable alone, the coefficients being constants or
    products that vanish nowhere."""
    field, slot = smooth.field, smooth.slot
    moves = Tail(field, slot, 1).moves
    degree = 0
    top: list[tuple[int, ...]] = []
    for exponents, _ in d.num.terms():
        k = int(exponents[slot])
        for s, power in enumerate(exponents):
            if power and s != slot and (moves(s) or not field.generators[s].enclosure.nonzero):
                return False
        if k > degree:
            degree, top = k, [exponents]
        elif k == degree:
            top.append(exponents)
    for exponents, _ in d.den.terms():
        for s, power in enumerate(exponents):
            if power and (moves(s) or not field.generators[s].enclosure.nonzero):
                return False
    return degree > 0 and len(top) == 1 and len(list(d.den.terms())) == 1


def is_tail(smooth: Smooth, sign: int) -> bool:
    """Whether the piece holds for all large values of the variable: its constraints are affine and grow that way."""
    for c in smooth.constraints:
        slope = derivative(smooth.field, c, smooth.slot)
        if not derivative(smooth.field, slope, smooth.slot).zero:
            return False
        rate = smooth.field.value(slope)
        if not (rate.positive if sign > 0 else rate.negative):
            return False
    return True


counts, points, solve, value, values = _counts, _points, _solve, _value, _values
__all__ = [
    "DESCENTS",
    "SPREADS",
    "Lowest",
    "counts",
    "kink",
    "negative",
    "points",
    "reaches",
    "solve",
    "steep",
    "steeper",
    "unbounded_slope",
    "value",
    "values",
]
