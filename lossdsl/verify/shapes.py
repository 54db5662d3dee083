"""Strict convexity, quasiconvexity and infima of an element in one entry.

strictly convex  convex, and on every piece the second derivative is not 0 but at single points
quasiconvex      convex, monotone, or falling up to the variable's 0 and rising from there
infimum == b     at least b, and b itself at a value of the variable, or in the limit along a tail
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir.nodes import ZERO, Compare, Const, Index, Param, Read, Scalar, Size, postorder
from lossdsl.ir.rewrite import with_numbers
from lossdsl.verify import algebra, approach, chords, instances, properties, quasi, rays, strict, symmetry, unread
from lossdsl.verify import enclosure as e
from lossdsl.verify.algebra import TooLarge, minus, plus, times
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.growth import Tail
from lossdsl.verify.pieces import View
from lossdsl.verify.points import elements, within
from lossdsl.verify.ranges import Ranges
from lossdsl.verify.refute import _counts, _points, _value
from lossdsl.verify.risk import vanishes
from lossdsl.verify.scalar import Smooth, Stuck, convex, joins, single_zeros, slope_between, smooth_pieces
from lossdsl.verify.signs import Budget, prove
from lossdsl.verify.verdict import Proved, Refuted, Step, Unknown, Verdict, Witness
from lossdsl.verify.work import deadline, passed

_TRIED = ("pieces",)
_SPREADS = (2, 8, Fraction(1, 2), 40)


def strictly_convex(ctx: Context, target: str, inputs: tuple[str, ...], *, concave: bool = False) -> Verdict:
    """Strict convexity (concavity) in one input."""
    ctx = ctx.of_values()
    shape = properties.convexity(ctx, target, inputs, concave=concave)
    if isinstance(shape, Refuted):
        return shape
    cases = properties.scalar_views(ctx, target, inputs[0]) if len(inputs) == 1 else "several inputs at once"
    if isinstance(cases, str):
        if isinstance(shape, Proved) and len(inputs) == 1 and not concave:
            rows = strict.row(ctx, target, inputs[0], lambda views: convex_and_curved(views, ctx.budget))
            if rows is not None:
                return Proved(rows.method, (*shape.steps, *rows.steps))
        found = _level(ctx, target, inputs) or rays.affine_segment(ctx, target, inputs)
        return found or Unknown(cases, (*_TRIED, "invariance under shift", "germs along paths"))
    if unread.unread(ctx, target, cases):
        return unread.constant(ctx, target, cases) or Unknown(
            f"other entries of {inputs[0]} than the one that is read", _TRIED
        )
    blocked = shape.blocker if isinstance(shape, Unknown) else ""
    if isinstance(shape, Proved):
        curved = _curved(cases, ctx.budget)
        if not isinstance(curved, str):
            return Proved("second derivative, piece by piece", (*shape.steps, *curved))
        blocked = curved
    found = _straight(ctx, target, inputs[0], -1 if concave else 1) or rays.affine_segment(ctx, target, inputs)
    return found or Unknown(blocked, (*_TRIED, "search", "germs along paths"))


def _level(ctx: Context, target: str, inputs: tuple[str, ...]) -> Refuted | None:
    """Two points between which the loss is constant, because a shift of the row that it reads does not change it."""
    definition, entry = ctx.program.definition(target), ctx.program.input(inputs[0])
    if len(inputs) != 1 or definition is None or entry is None or entry.kind != "real" or ctx.symbolic(entry.name):
        return None
    own = {f.dim for f in definition.formals}
    axes = tuple(a for a, d in zip(entry.axes, entry.dims, strict=True) if a and d not in own)
    if not axes or not isinstance(symmetry.decide(ctx, target, "shift", inputs, axes), Proved):
        return None
    for low in itertools.islice(_points(ctx, 52, inputs), 20):
        entries = low.inputs[entry.name]
        trio = [low.with_inputs({entry.name: {p: v + Fraction(k, 2) for p, v in entries.items()}}) for k in range(3)]
        if not entries or not all(map(ctx.admits, trio)):
            continue
        for place in elements(ctx.program, target, low):
            known = [_value(ctx, p, target, place) for p in trio]
            if all(v is not None and v.bounded for v in known) and _counts(ctx, low, target, place):
                violation = (
                    f"the value does not change under a shift over {', '.join(axes)}: constant between the points"
                )
                witness = Witness((low.flat(), trio[2].flat(entry.name)), violation, Fraction(1, 2))
                return Refuted("invariance under shift", witness)
    return None


def convex_and_curved(cases: list[View], budget: Budget) -> list[Step] | str:
    """That a function of one entry is strictly convex wherever the views are; else what is open."""
    shape = convex(cases, budget)
    if isinstance(shape, Unknown):
        return shape.blocker
    curved = _curved(cases, budget)
    return curved if isinstance(curved, str) else [*shape.steps, *curved]


def _curved(cases: list[View], budget: Budget) -> list[Step] | str:
    """That the second derivative vanishes at single points at most, on each piece of each case; else what is open."""
    steps = []
    try:
        for view in cases:
            for smooth in smooth_pieces(view):
                if not single_zeros(smooth, smooth.order(2), budget):
                    return f"whether {view.shown(smooth.piece.body)} is curved everywhere"
                steps.append(Step("second derivative", view.shown(smooth.piece.body), "not 0 but at single points"))
    except Stuck as reason:
        return str(reason)
    except TooLarge:
        return "the normal form of the second derivative is too large"
    return steps


def _straight(ctx: Context, target: str, entry: str, sign: int) -> Refuted | None:
    """Two values of the input between which the midpoint certainly does not lie below (above) the chord."""
    definition = ctx.program.definition(target)
    box = ctx.ranges((entry,)).input(entry)
    if definition is None or ctx.symbolic(entry):
        return None
    place = (0,) * len(definition.formals)
    for k, point in enumerate(itertools.islice(_points(ctx, 51, (entry,)), 60)):
        entries = point.inputs[entry]
        for size in _SPREADS:
            ends = [
                {p: v + d for p, v in entries.items()}
                for d in (0, size if k % 2 else -size, Fraction(size if k % 2 else -size) / 2)
            ]
            moved = [point.with_inputs({entry: w}) for w in ends]
            if not all(within(v, box) for w in ends for v in w.values()) or not all(ctx.admits(m) for m in moved):
                continue
            found = [_value(ctx, m, target, place) for m in moved]
            if any(v is None or not v.bounded for v in found):
                continue
            a, b, middle = (v for v in found if v is not None)
            gap = e.sub(e.mul(Enclosure(2.0, 2.0), middle), e.add(a, b))
            if gap.nonnegative if sign > 0 else gap.nonpositive:
                violation = f"the value at the midpoint is {middle}, not {'below' if sign > 0 else 'above'} the chord"
                points = (moved[0].flat(), moved[1].flat(entry))
                return Refuted("chord", Witness(points, violation, Fraction(1, 2)))
    return None


# ------------------------------------------------------------------------------------------------ quasiconvexity


def quasiconvex(ctx: Context, target: str, inputs: tuple[str, ...]) -> Verdict:
    """Whether every sublevel set is convex."""
    ctx = ctx.of_values()
    shape = properties.convexity(ctx, target, inputs)
    if isinstance(shape, Proved):
        return Proved(shape.method, (*shape.steps, Step("convex", target, "quasiconvex")))
    cases = properties.scalar_views(ctx, target, inputs[0]) if len(inputs) == 1 else "several inputs at once"
    blocked = cases if isinstance(cases, str) else ""
    if not isinstance(cases, str):  # of one entry: a monotone function of several need not be quasiconvex
        for increasing in (True, False):
            order = properties.monotone(ctx, target, inputs, increasing=increasing, strict=False)
            if isinstance(order, Proved):
                return Proved(order.method, (*order.steps, Step("monotone", target, "quasiconvex")))
        found = _valley(cases, ctx.budget)
        if isinstance(found, Proved):
            return found
        blocked = found.blocker
    composed = quasi.quasiconvex(ctx, target, inputs)
    if isinstance(composed, Proved):
        return composed
    return chords.hump(ctx, target, inputs) or Unknown(blocked or composed.blocker, (*_TRIED, quasi.METHOD, "search"))


def _valley(cases: list[View], budget: Budget) -> Proved | Unknown:
    steps: list[Step] = []
    for view in cases:
        orders = (slope_between([view], low, high, budget) for low, high in ((ZERO, None), (None, ZERO)))
        order = next((o for o in orders if isinstance(o, Proved)), None)
        if order is not None:
            steps += (*order.steps, Step("monotone", view.shown(view.body), "quasiconvex"))
            continue
        try:
            pieces = smooth_pieces(view)
            for smooth in pieces:
                outward = times(smooth.order(1), smooth.field.monomial(smooth.slot, 1))
                how = prove(smooth.field, outward, smooth.constraints, budget)
                if how is None:
                    return Unknown(f"the sign of the slope of {view.shown(smooth.piece.body)}", _TRIED)
                steps.append(Step(how, view.shown(smooth.piece.body), "rises away from 0"))
            for join in joins(view, pieces, budget, 0) if len(pieces) > 1 else ():
                if not join.jumps[0].zero:
                    return Unknown(f"jump at {view.shown(join.surface)} = 0", _TRIED)
        except Stuck as reason:
            return Unknown(str(reason), _TRIED)
        except TooLarge:
            return Unknown("the normal form of the slope is too large", _TRIED)
    return Proved("slope, piece by piece", tuple(steps)) if steps else Unknown("no piece", _TRIED)


# ----------------------------------------------------------------------------------------------------- minima


def infimum(ctx: Context, target: str, bound: Scalar) -> Verdict:
    """Whether the greatest lower bound of the elements is `bound`, for all values of the parameters."""
    definition = ctx.program.definition(target)
    if definition is None:
        return Unknown(f"{target} is an input", _TRIED)
    element = Read(target, definition.formals, definition.dtype)
    least = properties.nonnegative(properties.with_difference(ctx, "$gap", bound, element), "$gap")
    if isinstance(least, Unknown):
        return _stays_above(ctx, target, bound) or least
    if isinstance(least, Refuted):
        return least
    for i in ctx.program.inputs:
        free = i.differentiable and i.default is None  # it is so whatever the optional inputs are
        whole = free and ctx.is_box and not ctx.cuts_through(i.name) and not ctx.symbolic(i.name)
        cases = properties.scalar_views(ctx, target, i.name) if whole else ""
        steps = _everywhere_approached(cases, bound, ctx.budget) if not isinstance(cases, str) else []
        if steps:
            return Proved(least.method, (*least.steps, *steps))
    step = approach.approached(ctx, target, bound)
    if step is not None:
        return Proved(least.method, (*least.steps, step))
    above = _stays_above(ctx, target, bound)
    tried = (*_TRIED, "growth along the tails", "limits along sequences", "parameters of which it stays above")
    return above or Unknown(f"whether {target} comes near its bound", tried)


def _stays_above(ctx: Context, target: str, bound: Scalar) -> Refuted | None:
    """Values of the parameters and of optional inputs with which the target stays above the bound: then that is not its
    infimum."""
    if not isinstance(bound, Const) or isinstance(bound.value, str) or not ctx.is_box:
        return None
    numbers = list(_at_numbers(ctx))
    for at in numbers:
        for ranges, where in ((at.ranges(), ""), (_Long(at.program, at.assume), ", where axes have 2 entries or more")):
            box = ranges.tensor(target)
            if not box.nan and box.lo > bound.value:
                words = f"{target} is in {box} there, for all inputs{where}"
                return Refuted("interval enclosure", Witness((_parameters(at),), words))
    end = deadline(_INSTANCES * ctx.seconds)
    for at in numbers if ctx.searching else ():
        if passed(end):
            return None
        found = instances.above(at, target, bound.value, end)
        if found is not None:
            words = f"{target} is at least {found.bound} there, for all inputs{found.where}"
            return Refuted("bound at an instance", Witness((_parameters(at),), words))
    return None


_INSTANCES = 8  # bounds at instances may cost so many searches


def _parameters(ctx: Context) -> dict[str, Fraction]:
    return {p.name: ctx.fixed[p.name] for p in ctx.program.parameters}


def _at_numbers(ctx: Context) -> Iterator[Context]:
    """The context where all parameters are numbers, some of their values in turn, and optional inputs at their defaults."""
    real = [p for p in ctx.program.parameters if p.kind == "real" and p.name not in ctx.fixed]
    boxes = ctx.ranges()
    optional: dict[str, Fraction] = {}
    for i in ctx.program.inputs:
        if (
            i.default is not None
            and isinstance(i.default.value, Fraction)
            and within(i.default.value, boxes.input(i.name))
        ):
            optional[i.name] = i.default.value
    for number in (None, Fraction(1, 4), Fraction(1), Fraction(2), Fraction(1, 2)):  # None: the defaults
        at = ctx
        for p in real:
            if number is not None and within(number, boxes.parameter(p.name)):
                at = at.narrowed(Compare("==", Param(p.name), Const(number)))
        at = at.at_defaults()
        if not all(
            p.name in at.fixed and within(at.fixed[p.name], boxes.parameter(p.name)) for p in ctx.program.parameters
        ):
            continue
        fixed = {**optional, **at.fixed}
        yield replace(at, program=with_numbers(at.program, fixed), fixed=fixed, memo={})


class _Long(Ranges):
    """Ranges where every axis of an extent of its own has at least 2 entries."""

    def extent(self, dim: Dim, nonempty: frozenset[Dim]) -> Enclosure:
        box = super().extent(dim, nonempty)
        names = set(dim.symbols())
        free = len(names) == 1 and dim == Dim.symbol(*names) and not names & {p.name for p in self.program.parameters}
        return Enclosure(max(box.lo, 2.0), box.hi, False, box.hi_open) if free else box


def _everywhere_approached(cases: list[View], bound: Scalar, budget: Budget) -> list[Step]:
    """How the value comes to the bound, for all values of the parameters; [] if that is not known. Of the other inputs the
    case may be chosen."""
    found: dict[tuple[object, ...], Step | None] = {}
    for view in cases:
        conditions = [(n, c) for n, c in view.case if isinstance(n, Compare | Param)]
        if any(isinstance(x, Read | Index | Size) for n, _ in conditions for x in postorder(n)):
            continue  # it is not known whether that occurs
        box = view.scope[view.entry]
        every = view.inner is view.entry or (box.lo == -INF and box.hi == INF)  # values of the variable
        key = tuple(conditions)
        if found.get(key) is None:
            found[key] = _approached(view, bound, budget) if every else None
    return [] if None in found.values() else [s for s in found.values() if s is not None]


def _approached(view: View, bound: Scalar, budget: Budget) -> Step | None:
    """How the value comes to the bound: at a number, or along a tail."""
    box = view.scope[view.variable]
    try:
        pieces = smooth_pieces(view)
        for smooth in pieces:
            gap = plus(smooth.value, minus(smooth.field.form(bound)))
            for at in (0, 1, -1):
                point = smooth.field.number(at)
                if not box.lo < at < box.hi or not algebra.replace(smooth.field, gap, smooth.slot, point).zero:
                    continue
                taken = [algebra.replace(smooth.field, c, smooth.slot, point) for c in smooth.constraints]
                if all(prove(smooth.field, c, (), budget) is not None for c in taken):
                    return Step("attained", view.shown(smooth.piece.body), f"at {view.shown(view.variable)} = {at}")
        for direction, end in ((1, box.hi), (-1, box.lo)):
            if abs(end) < INF:
                continue
            shown = f"{view.shown(view.variable)} goes to {'inf' if direction > 0 else '-inf'}"
            if all(_vanishes_or_absent(s, direction, bound) for s in pieces):
                return Step("growth along the tails", view.shown(view.body), f"comes to the bound as {shown}")
    except (Stuck, TooLarge):
        return None
    return None


def _vanishes_or_absent(smooth: Smooth, direction: int, bound: Scalar) -> bool:
    gap = plus(smooth.value, minus(smooth.field.form(bound)))
    tail = Tail(smooth.field, smooth.slot, direction)
    if any(tail.outside(c) for c in smooth.constraints):
        return True
    return vanishes(tail, smooth.field.monomial(smooth.slot, 1), gap)


__all__ = ["convex_and_curved", "infimum", "quasiconvex", "strictly_convex"]
