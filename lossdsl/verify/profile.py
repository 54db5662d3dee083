"""Where the gradient of a loss of one number vanishes, and where it explodes: by enclosures of value and derivative on a
partition of the line.

vanishing   for some label and somewhere, the derivative is at most 1/1000 of the largest within 10 of a minimiser, although
            the loss is at least half way from its infimum to its supremum there (half of the supremum for an infimum of 0),
            or that is more than 10 away from every minimiser
exploding   for some label and somewhere, the derivative is more than 1000 times the larger one at distance 1 outside
            of all minimisers

Distances are those of the input. A minimiser is where the loss attains its infimum or comes near to it. Where that is far out
alone (the logistic loss), distances are from where all that is read is 0, and only the upper half of the values counts. A corner
has the derivatives of both sides.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.ir.nodes import BOOL, INT, Compare, Const, Param, Read, Scalar, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify import properties, refute
from lossdsl.verify.algebra import (
    Form,
    TooLarge,
    leaves_of,
    plus,
    quotient,
    slots_of,
    times,
)
from lossdsl.verify.context import Context
from lossdsl.verify.derive import derivative
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.factored import At, Factored
from lossdsl.verify.growth import Tail
from lossdsl.verify.horizon import LEAST_START, Horizon, Unsettled, spellings
from lossdsl.verify.one_shape import Shape, one_shape, recentred
from lossdsl.verify.pieces import View, fold
from lossdsl.verify.points import within
from lossdsl.verify.risk import vanishes
from lossdsl.verify.scalar import Smooth, Stuck, joins, smooth_pieces
from lossdsl.verify.show import text
from lossdsl.verify.signs import Budget, prove
from lossdsl.verify.verdict import Proved, Refuted, Step, Unknown, Verdict, Witness
from lossdsl.verify.work import deadline, passed

_RATIO = 1000.0
_FAR, _NEAR = 10.0, 1.0  # from a minimiser
_OCTAVES = range(-12, 25)  # from an end of the line, or from 0: between their powers lie the cells
_HALVED = 6  # how often an undecided cell is
_TRIED = ("enclosures of value and derivative",)


def vanishing(ctx: Context, target: str, inputs: tuple[str, ...]) -> Verdict:
    """Whether the derivative of an element in the input is small somewhere although the loss is not."""
    return _decided(
        ctx,
        target,
        inputs,
        _Line.vanishes,
        "at most 1/1000 of the largest near the minimum",
        "is above 1/1000 of the largest near the minimum wherever the loss is in its upper half or more than 10 away from there",
    )


def exploding(ctx: Context, target: str, inputs: tuple[str, ...]) -> Verdict:
    """Whether the derivative of an element in the input is very large somewhere."""
    return _decided(
        ctx,
        target,
        inputs,
        _Line.explodes,
        "more than 1000 times that near the minimum",
        "is nowhere more than 1000 times that at distance 1 from the minimum",
    )


class _Open(Stuck):
    """The loss depends on a value besides its variable."""


def _line(ctx: Context, view: View, end: int) -> _Line:
    """The line of a view, measured once for all questions. Raises what that raised."""
    key = ("line", view.body, view.inner, view.slope, view.case)
    if key not in ctx.memo:
        try:
            ctx.memo[key] = _Line(view, ctx.budget, end)
        except (Stuck, TooLarge) as reason:
            ctx.memo[key] = reason
    known: _Line | Stuck | TooLarge = ctx.memo[key]
    if not isinstance(known, _Line):
        raise known
    known.end = end
    return known


_Given = dict[Scalar, Const]
_Instance = tuple["_Line", list[tuple[float, float]], tuple[float, float] | None, _Given, str]


def _instance(ctx: Context, view: View, judge: _Judge) -> _Instance | None:
    """The view where all inputs besides have one value each: what is true there is true for some value. What is nowhere true
    there is so for all values, of parameters, too, if they only scale and lift the loss."""
    view, shape = _shaped(ctx, view)
    alike = shape is not None and (not shape.flat or judge is _Line.explodes)  # what is constant explodes nowhere
    last = deadline(24 * ctx.seconds)
    for given in _assignments(ctx, view, alike=alike):
        put: dict[Scalar, Scalar] = {**given}
        body, inner, slope = (substitute(part, put) for part in (view.body, view.inner, view.slope))
        at = replace(view, body=body, inner=view.inner if alike else inner, slope=slope, memo={})
        try:
            line = _line(ctx, at, deadline(3 * ctx.seconds))
            regions, undecided = line.regions(judge)
        except (Stuck, TooLarge):
            continue
        if not line.attained and any(isinstance(n, Read) and n is not view.entry for n in postorder(view.inner)):
            continue  # distances are from 0, which is elsewhere for each value
        words = (
            ""
            if alike and shape == Shape(flat=False)
            else " and ".join(f"{text(n)} is {text(c)}" for n, c in given.items())
        )
        if regions:
            return line, regions, undecided, given, words
        if alike and undecided is None:
            return line, regions, undecided, given, words
        if passed(last):
            break
    return None


def _shaped(ctx: Context, view: View) -> tuple[View, Shape | None]:
    """The view, or one in the entry itself, less another input, in which all values of everything else are alike."""
    for candidate in (view, *recentred(view)):
        try:
            shape = one_shape(candidate, ctx.budget)
        except (Stuck, TooLarge):
            continue
        if shape is not None:
            return candidate, shape
    return view, None


_USUAL = (Fraction(1), Fraction(0), Fraction(1, 2))
_EXTREME = (Fraction(1, 10**4), Fraction(10**7))
_TRIALS = 12  # of one view


def _assignments(ctx: Context, view: View, *, alike: bool) -> Iterator[_Given]:
    """Numbers for what is read besides the entry: all the same, as far as they may be, or one of them far from the others.
    Parameters, and what is computed from inputs, have one only where all of their values are `alike`."""
    nodes = list(postorder(view.body, view.inner, view.slope))
    parts = {c for n in nodes if isinstance(n, Read) for c in postorder(*n.children)}
    others: list[Read | Param] = []
    for n in nodes:
        if n is view.variable or n is view.entry or n in parts or not isinstance(n, Read | Param) or n in others:
            continue
        declared = ctx.program.input(n.tensor) if isinstance(n, Read) else None
        free = declared is not None and not declared.over and not ctx.cuts_through(declared.name)
        if n.dtype is BOOL or not (alike or free):
            return
        others.append(n)
    tried = [dict.fromkeys(others, v) for v in _USUAL]
    tried += [{**dict.fromkeys(others, Fraction(1)), n: v} for n in others for v in _EXTREME]
    most = _TRIALS if ctx.searching and not alike else len(_USUAL)
    seen = []
    for wanted in tried:
        given = {n: _admissible(v, n.dtype is INT, view.scope[n]) for n, v in wanted.items()}
        if given not in seen and all(v is not None for v in given.values()):
            seen.append(given)
            yield {n: Const(v, n.dtype) for n, v in given.items() if v is not None}
        if len(seen) == most:
            return


def _admissible(first: Fraction, whole: bool, box: Enclosure) -> Fraction | None:
    """The number, or another that is in the box."""
    values = (first, *(Fraction(v) for v in (1, 0)), Fraction(1, 2), Fraction(2), Fraction(-1))
    return next((v for v in values if within(v, box) and not (whole and v.denominator > 1)), None)


_Judge = Callable[["_Line", "_Cell"], bool | None]


def _decided(ctx: Context, target: str, inputs: tuple[str, ...], judge: _Judge, what: str, never: str) -> Verdict:
    if len(inputs) != 1:
        return Unknown("a gradient in several inputs at once", _TRIED)
    cases = properties.scalar_views(ctx, target, inputs[0])
    if isinstance(cases, str):
        return Unknown(cases, _TRIED)
    if not ctx.is_box:
        return Unknown("a region that is no interval of one input", _TRIED)
    end = deadline(8 * ctx.seconds)
    steps: list[Step] = []
    open_ = ""
    for view in cases:
        note = f" where {view.case_text}" if view.case else ""
        given: _Given = {}
        try:
            line = _line(ctx, view, end)
            regions, undecided = line.regions(judge)
        except _Open as reason:
            instance = _instance(ctx, view, judge)
            if instance is None:
                open_ = open_ or str(reason)
                continue
            line, regions, undecided, given, values = instance
            note += f"{' and' if note else ' where'} {values}" if regions and values else ""
        except (Stuck, TooLarge) as reason:
            open_ = open_ or str(reason) or "the normal form of the derivative is too large"
            continue
        conclusions = [f"the derivative is {what} for {line.shown(r)}{note}" for r in regions]
        if _occurs(ctx, view, given):
            steps += [Step("enclosures on a partition", text(view.inner), c) for c in conclusions]
        elif conclusions and not open_:
            open_ = f"whether there is a case{note}"
        if undecided and not open_:
            open_ = f"the derivative{note} for {line.shown(undecided)}"
    if steps:
        return Proved("; ".join(s.conclusion.partition(" for ")[2] for s in steps), tuple(steps))
    if open_ or not cases:
        return Unknown(open_ or "no case", _TRIED)
    return Refuted("enclosures of value and derivative", Witness(({},), f"the derivative {never}"))


def _occurs(ctx: Context, view: View, given: _Given) -> bool:
    """Whether the case occurs with the given values and every value of the entry: conditions in it are of inputs that are
    given, or that nothing else is known of."""
    if not refute.unconditional(ctx, replace(view, case=())):
        return False
    known: dict[Scalar, Scalar] = {**given}
    for node, value in view.case:
        if not isinstance(node, Compare):
            continue
        every = [n for n in postorder(node) if isinstance(n, Read | Param)]
        inputs = [i for n in every if isinstance(n, Read) and (i := ctx.program.input(n.tensor)) is not None]
        if len(inputs) < len(every) or view.entry in every or any(i.over or ctx.cuts_through(i.name) for i in inputs):
            return False
        at = fold(substitute(node, known))
        free = [n for n in postorder(at) if isinstance(n, Read)]
        boxes = [ctx.ranges().input(n.tensor) for n in free]
        trials = ([_admissible(v, n.dtype is INT, box) for n, box in zip(free, boxes, strict=True)] for v in _USUAL)
        put: Iterator[dict[Scalar, Scalar]] = (
            {n: Const(v, n.dtype) for n, v in zip(free, t, strict=True) if v is not None} for t in trials
        )
        found = next((p for p in put if fold(substitute(at, p)) == value), None)
        if found is None:
            return False
        known |= found
    return True


def _between(name: str, ends: tuple[float, float]) -> str:
    lo, hi = _rounded(ends[0], 1), _rounded(ends[1], -1)
    if lo > hi:
        lo, hi = ends
    if hi == INF:
        return f"{name} >= {lo:.6g}" if lo > -INF else f"every {name}"
    return f"{name} in [{lo:.6g}, {hi:.6g}]" if lo > -INF else f"{name} <= {hi:.6g}"


def _float(x: Fraction | float, towards: float) -> float:
    return math.nextafter(float(x), towards) if isinstance(x, Fraction) and Fraction(float(x)) != x else float(x)


def _rounded(x: float, direction: int) -> float:
    """Three digits, towards the inside of a region."""
    if x == 0.0 or abs(x) == INF:
        return x
    unit = 10.0 ** (math.floor(math.log10(abs(x))) - 2)
    near = round((math.ceil if direction > 0 else math.floor)(x / unit) * unit, 12)
    return near if (near - x) * direction >= 0 else x


def _between_floats(a: float, b: float, towards: float) -> float:
    """Half way, rounded; -inf and inf have no number between them that is known."""
    return towards if abs(a) == INF or abs(b) == INF else math.nextafter(a / 2 + b / 2, towards)


@dataclass(frozen=True)
class _Cell:
    """A part of the line, and what encloses the loss and the size of its derivative there."""

    lo: float
    hi: float
    value: Enclosure
    least: float
    most: float
    steady: int  # the sign of the derivative, if it is one and not 0


def _joined(cells: Sequence[_Cell]) -> tuple[tuple[float, float], ...]:
    """The intervals that cells in their order make up."""
    found: list[tuple[float, float]] = []
    for c in cells:
        if found and found[-1][1] >= c.lo:
            found[-1] = found[-1][0], c.hi
        else:
            found.append((c.lo, c.hi))
    return tuple(found)


def _moving(smooth: Smooth) -> Form:
    """The value less the terms that the variable is not in."""
    value = smooth.value
    if not value.den.is_constant():
        return value
    still = smooth.field.number(0).num
    for powers, c in value.num.terms():
        term = smooth.field.number(Fraction(int(c.p), int(c.q)))
        for slot, k in enumerate(powers):
            term = times(term, smooth.field.monomial(slot, int(k))) if k else term
        if smooth.slot not in leaves_of(smooth.field, term):
            still += term.num
    return quotient(value.num - still, value.den)


def _part(smooth: Smooth, box: Enclosure) -> Enclosure | None:
    """The part of an interval in which all conditions of a piece that are affine in its variable alone hold."""
    found: Enclosure | None = box
    for c in smooth.constraints:
        if slots_of(c) != {smooth.slot}:
            continue
        terms = {tuple(powers): k for powers, k in c.num.terms()}
        degrees = {sum(powers) for powers in terms}
        if not c.den.is_constant() or degrees - {0, 1} or found is None or 1 not in degrees:
            continue
        over = c.den.leading_coefficient()
        rate, offset = (next((k / over for powers, k in terms.items() if sum(powers) == d), 0) for d in (1, 0))
        zero = e.exact(-Fraction(str(offset)) / Fraction(str(rate)))
        found = e.meet(found, Enclosure(zero.lo, INF) if rate > 0 else Enclosure(-INF, zero.hi))
    return found


@dataclass(frozen=True)
class _Best:
    """Where the minimisers are: the first is between `lo` and `left`, the last between `right` and `hi`; each number of the
    `sure` intervals is one."""

    lo: float
    left: float
    right: float
    hi: float
    sure: tuple[tuple[float, float], ...] = ()


class _Line:
    """One case of the loss as a function of one variable. Raises Stuck where it reads more than that."""

    def __init__(self, view: View, budget: Budget, end: int) -> None:
        self.view, self.budget, self.end = view, budget, end
        self._forms: dict[int, tuple[Form, Factored]] = {}
        self._spelled: dict[int, tuple[Form, list[Form]]] = {}
        self.domain = view.scope[view.variable]
        alone = not any(isinstance(n, Read) and n is not view.entry for n in postorder(view.inner))
        if not alone and (self.domain.lo > -INF or self.domain.hi < INF):
            raise Stuck(f"which values {text(view.inner)} takes")
        self.pieces: list[tuple[Smooth, Form]] = []
        self.own: list[Enclosure | None] = []  # where the variable may be on each piece
        rates: set[Fraction] = set()
        for smooth in smooth_pieces(view):
            scale = smooth.field.form(view.slope)
            rate = scale.constant
            if not rate:
                raise _Open(f"{text(view.inner)} does not change at one rate")
            rates.add(abs(rate))
            slope = times(smooth.order(1), smooth.field.number(abs(rate)))
            for leaf in leaves_of(smooth.field, smooth.value, slope, *smooth.constraints):
                other = smooth.field.generators[leaf].leaf  # none of a constant like pi
                if leaf != smooth.slot and other is not None:
                    raise _Open(f"the value of {text(other)} is open")
            self.pieces.append((smooth, slope))
            self.own.append(_part(smooth, smooth.piece.scope[view.variable]))
        if len(rates) != 1:
            raise Stuck(f"{text(view.inner)} does not change at one rate")
        self.unit = float(rates.pop())  # what the variable moves by when the input does by 1
        if len(self.pieces) == 1:  # what is added to all of the loss does not matter
            [(smooth, slope)] = self.pieces
            self.pieces = [(replace(smooth, value=_moving(smooth)), slope)]
        self.cells = list(self._partition())
        if not self.cells:
            raise Stuck("no piece")
        largest = max((c.most for c in self.cells if c.most < INF), default=0.0)
        self.cells = [self._tail(c, largest) if c.most == INF and c.hi - c.lo == INF else c for c in self.cells]
        self._measure()

    def shown(self, ends: tuple[float, float]) -> str:
        """An interval of the variable in words, as one of the input where nothing else is in it."""
        view = self.view
        rate, offset = fold(view.slope), fold(substitute(view.inner, {view.entry: Const(0)}))
        if not (isinstance(rate, Const) and isinstance(rate.value, Fraction) and rate.value):
            return _between(text(view.inner), ends)
        if not (isinstance(offset, Const) and isinstance(offset.value, Fraction)):
            return _between(text(view.inner), ends)
        ends = ends if rate.value > 0 else (-ends[1], -ends[0])
        lo, hi = (
            (Fraction(x) - abs(rate.value) / rate.value * offset.value) / abs(rate.value) if abs(x) < INF else x
            for x in ends
        )
        return _between(text(view.entry), (_float(lo, INF), _float(hi, -INF)))

    def _here(self, lo: float, hi: float) -> Iterator[tuple[Smooth, Form, At]]:
        """The pieces that may hold somewhere between two numbers."""
        whole = self.domain
        box = Enclosure(lo, hi, lo == whole.lo and whole.lo_open, hi == whole.hi and whole.hi_open)
        for (smooth, slope), own in zip(self.pieces, self.own, strict=True):
            here = e.meet(box, own) if own is not None else None
            if here is not None:
                at = At(self._forms, smooth.field, smooth.slot, here)
                if not any(at.value(c).negative for c in smooth.constraints):
                    yield smooth, slope, at

    def _beyond(self, smooth: Smooth, lo: float, hi: float) -> Horizon | None:
        """The last cell of a side."""
        direction, start = (1, lo) if hi == INF else (-1, -hi) if lo == -INF else (0, 0.0)
        return Horizon(smooth.field, smooth.slot, direction, start) if direction and start >= LEAST_START else None

    def _enclosed(self, f: Form, at: At, beyond: Horizon | None) -> Enclosure:
        """What encloses a form, by what is known of each generator, and of what it is far out."""
        if id(f) not in self._spelled:
            self._spelled[id(f)] = f, spellings(at.field, f)
        boxes = [at.value(g) for g in self._spelled[id(f)][1]]
        with contextlib.suppress(Unsettled):
            boxes += [] if beyond is None else [beyond.value(f)]
        found, *others = sorted(boxes, key=lambda box: box.nan)
        for box in others:
            found = found if box.nan else e.meet(found, box) or found
        return found

    def cell(self, lo: float, hi: float) -> _Cell | None:
        """What encloses the function between two numbers; None where no piece is."""
        found = []
        for smooth, slope, at in self._here(lo, hi):
            beyond = self._beyond(smooth, lo, hi)
            found.append(tuple(self._enclosed(f, at, beyond) for f in (smooth.value, slope)))
        if not found:
            return None
        values = [e.REALS if v.nan else v for v, _ in found]
        slopes = [e.REALS if s.nan else s for _, s in found]
        value = Enclosure(min(v.lo for v in values), max(v.hi for v in values))
        least = min(max(s.lo, -s.hi, 0.0) for s in slopes)
        most = max(max(abs(s.lo), abs(s.hi)) for s in slopes)
        steady = 1 if all(s.positive for s in slopes) else -1 if all(s.negative for s in slopes) else 0
        return _Cell(lo, hi, value, least, most, steady)

    # ------------------------------------------------------------------------------------------- the partition

    def _partition(self) -> Iterator[_Cell]:
        """Cells from end to end, and their ends as cells of their own."""
        ends = self._ends()
        for lo, hi in itertools.pairwise(ends):
            for a, b in ((lo, lo), (lo, hi)):
                inside = a < b or (abs(a) < INF and not (a == self.domain.lo and self.domain.lo_open))
                found = self.cell(a, b) if inside else None
                if found is not None:
                    yield found

    def _ends(self) -> list[float]:
        lo, hi = self.domain.lo, self.domain.hi
        steps = [2.0 ** (k / 2) for k in range(2 * _OCTAVES.start, 2 * _OCTAVES.stop)]
        if lo > -INF and hi < INF:
            steps = [s for s in steps if s < (hi - lo) / 2]
            inner = [lo + s for s in steps] + [lo + (hi - lo) / 2] + [hi - s for s in reversed(steps)]
        elif lo > -INF:
            inner = [lo + s for s in steps]
        elif hi < INF:
            inner = [hi - s for s in reversed(steps)]
        else:
            inner = [*(-s for s in reversed(steps)), 0.0, *steps]
        return [lo, *sorted({x for x in inner if lo < x < hi}), hi]

    def _halved(self, cell: _Cell, settled: Callable[[_Cell], bool], depth: int = _HALVED) -> Iterator[_Cell]:
        """A cell in parts that are settled, as far as halving goes."""
        middle = cell.lo + (cell.hi - cell.lo) / 2
        if (
            settled(cell)
            or depth == 0
            or not cell.lo < middle < cell.hi
            or abs(cell.hi - cell.lo) == INF
            or passed(self.end)
        ):
            yield cell
            return
        for lo, hi in ((cell.lo, middle), (middle, cell.hi)):
            part = self.cell(lo, hi)
            if part is not None:
                yield from self._halved(part, settled, depth - 1)

    def _tail(self, cell: _Cell, largest: float) -> _Cell:
        """The last cell of a side, with what a proof says of the derivative there: its enclosure is often inf / inf."""
        direction, start = (1, cell.lo) if cell.hi == INF else (-1, cell.hi)
        first = self.cell(start, start) if abs(start) < INF else None
        if first is None:
            return cell
        slopes = []
        for smooth, slope, _ in self._here(cell.lo, cell.hi):
            beyond = plus(
                times(smooth.field.monomial(smooth.slot, 1), smooth.field.number(direction)),
                smooth.field.number(-direction * Fraction(start)),
            )
            slopes.append((smooth, slope, [*smooth.constraints, beyond]))

        def at_least(bound: float, sign: int, factor: int) -> bool:
            """Whether sign * derivative - factor * bound is not negative there."""
            return all(
                prove(
                    s.field,
                    plus(times(d, s.field.number(sign)), s.field.number(-factor * Fraction(bound))),
                    given,
                    self.budget,
                )
                for s, d, given in slopes
            )

        def falls(smooth: Smooth, slope: Form, given: list[Form]) -> bool:
            """Whether the size of the derivative falls to 0."""
            bend = times(derivative(smooth.field, slope, smooth.slot), smooth.field.number(-direction * first.steady))
            end = Tail(smooth.field, smooth.slot, direction)
            level = vanishes(end, smooth.field.monomial(smooth.slot, 1), slope)
            return level and prove(smooth.field, bend, given, self.budget) is not None

        if first.steady and len(slopes) == 1 and falls(*slopes[0]):  # one piece: it holds all the way
            return replace(cell, most=first.most)
        bounds = (b for b in (1.001 * first.most, 1.001 * largest) if b < INF)
        most = next((b for b in bounds if all(at_least(b, s, -1) for s in (1, -1))), INF)
        least = 0.999 * first.least
        found = least if least > 0 and first.steady and at_least(least, first.steady, 1) else cell.least
        return replace(cell, most=most, least=max(found, cell.least))

    # ------------------------------------------------------------------------------------------- what is known

    def _measure(self) -> None:
        least = min(c.value.hi for c in self.cells)  # the infimum is not above it
        below = min(c.value.lo for c in self.cells)  # nor below that
        high = max(c.value.lo for c in self.cells)  # the supremum is not below it
        most = high + 0.01 * abs(high)
        top = max((p.value.hi for c in self.cells for p in self._halved(c, lambda c: c.value.hi <= most)), default=INF)
        self.middle = (_between_floats(below, high, -INF), _between_floats(least, top, INF))
        rough = [c for c in self.cells if c.value.lo <= least]
        if rough[0].lo > -INF and rough[-1].hi < INF and self._without_jumps():
            rough = [c for c in rough if self._may_be_least(c)] or rough
        fine = (
            self._halved(c, lambda c: c.value.lo > least or c.value.hi <= below or c.hi - c.lo < self.unit / 256)
            if k < 2 or k >= len(rough) - 2  # where the first and the last may be
            else (c,)
            for k, c in enumerate(rough)
        )
        near = [c for parts in fine for c in parts if c.value.lo <= least]
        if rough[0].lo > -INF and rough[-1].hi < INF and self._without_jumps():
            near = [c for c in near if self._may_be_least(c)] or near
        lo, hi = min(c.lo for c in near), max(c.hi for c in near)
        sure = [c for c in near if c.value.hi <= below]
        self.attained = bool(sure) or (lo > -INF and hi < INF)
        if sure:
            self.best = _Best(lo, min(c.lo for c in sure), max(c.hi for c in sure), hi, _joined(sure))
        elif self.attained:
            self.best = _Best(lo, hi, lo, hi)
        elif (lo > -INF or hi < INF) and self._monotone(near, 1 if lo == -INF else -1):
            origin = self._origin()
            self.best = _Best(origin, origin, origin, origin)
        else:
            raise Stuck(f"where the loss of {text(self.view.inner)} is least")
        self._reference()

    def _may_be_least(self, cell: _Cell) -> bool:
        """Whether a minimiser may be in the cell: not where a continuous loss rises (falls), unless at an end of the line."""
        return not cell.steady or cell.lo == self.domain.lo or cell.hi == self.domain.hi

    def _without_jumps(self) -> bool:
        try:
            return all(j.jumps[0].zero for j in joins(self.view, [s for s, _ in self.pieces], self.budget, 0))
        except Stuck:
            return False

    def _origin(self) -> float:
        """The variable where all that it reads is 0."""
        reads: dict[Scalar, Scalar] = {n: Const(0) for n in postorder(self.view.inner) if isinstance(n, Read)}
        found = fold(substitute(self.view.inner, reads))
        if (
            not isinstance(found, Const)
            or not isinstance(found.value, Fraction)
            or Fraction(float(found.value)) != found.value
        ):
            raise Stuck(f"{text(self.view.inner)} at 0")
        return float(found.value)

    def _monotone(self, near: Sequence[_Cell], direction: int) -> bool:
        """Whether the loss rises (falls) strictly, without a jump, wherever it may be least: it is least nowhere, then."""
        if not self._without_jumps():
            return False
        if all(c.steady == direction for c in near):
            return True
        return all(
            prove(s.field, times(slope, s.field.number(direction)), s.constraints, self.budget, strict=True)
            for s, slope in self.pieces
        )

    def _reference(self) -> None:
        """The largest derivative within 10 of the minimisers, and the larger one at distance 1: each between two numbers."""
        best, far, near = self.best, _FAR * self.unit, _NEAR * self.unit
        lo, hi = max(best.lo - far, self.domain.lo), min(best.hi + far, self.domain.hi)
        around = [c for c in self.cells if c.hi >= lo and c.lo <= hi]
        around = [p for c in around if (p := self.cell(max(c.lo, lo), min(c.hi, hi))) is not None]
        inner = (x for x in (best.left - far, best.right + far) if self.domain.lo < x < self.domain.hi)
        ends = [c for x in inner if (c := self.cell(x, x)) is not None]
        known = max((c.least for c in (*around, *ends) if self._close(c)), default=0.0)
        parts = [p for c in around for p in self._halved(c, lambda c: c.most <= 1.05 * known)]
        self.large = (known, max((p.most for p in parts), default=INF))
        sides = [(best.lo - near, best.left - near), (best.right + near, best.hi + near)]
        there = [
            c for a, b in sides if self.domain.lo < a and b < self.domain.hi and (c := self.cell(a, b)) is not None
        ]
        self.usual = (max((c.least for c in there), default=0.0), max((c.most for c in there), default=INF))

    def _close(self, cell: _Cell) -> bool:
        """Whether all of the cell is within 10 of a minimiser (of 0 where there is none)."""
        best, far = self.best, _FAR * self.unit
        windows = [(best.left - far, best.lo + far), (best.hi - far, best.right + far)]
        windows += [(lo - far, hi + far) for lo, hi in best.sure]
        return any(a <= cell.lo and cell.hi <= b for a, b in windows)

    # ------------------------------------------------------------------------------------------- the questions

    def vanishes(self, cell: _Cell) -> bool | None:
        """Whether the gradient is lost everywhere in the cell, or nowhere in it; None if neither is known."""
        far = _FAR * self.unit
        away = self.attained and (cell.lo > self.best.hi + far or cell.hi < self.best.lo - far)
        if cell.most <= self.large[0] / _RATIO and (away or cell.value.lo >= self.middle[1]):
            return True
        close = not self.attained or self._close(cell)
        if cell.least > self.large[1] / _RATIO or (close and cell.value.hi < self.middle[0]):
            return False
        return None

    def explodes(self, cell: _Cell) -> bool | None:
        if cell.least > _RATIO * self.usual[1]:
            return True
        return False if cell.most <= _RATIO * self.usual[0] else None

    def regions(self, judge: _Judge) -> tuple[list[tuple[float, float]], tuple[float, float] | None]:
        """The intervals of which it is true, and a place where it is not known."""
        rough = [p for c in self.cells for p in self._halved(c, lambda c: judge(self, c) is not None)]
        finer = {True: _HALVED, False: 0}  # the derivative may be 0 though the loss is large: a maximum, perhaps
        parts = [
            p
            for c in rough
            for p in self._halved(
                c, lambda c: judge(self, c) is not None, finer[c.least == 0 and c.value.lo >= self.middle[1]]
            )
        ]
        found = [(p, judge(self, p)) for p in parts]
        undecided = next(((p.lo, p.hi) for p, true in found if true is None and p.lo < p.hi), None)
        regions = list(_joined([p for p, true in found if true]))
        return [
            r for r in regions if r[0] < r[1]
        ] or regions, undecided  # single points are of no interest beside others


__all__ = ["exploding", "vanishing"]
