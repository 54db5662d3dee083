"""Minima where an input equals something: that the target is least there, and that it is nowhere else.

minimum         the target less its value at the equality is >= 0; refuted by a point of the domain at which it is lower
unique minimum  a minimum, and on every piece the slope points away from it but at single points, or the target lies above
                it, or is strictly convex; refuted by a point off the equality at which it is not higher
towards         on both sides of an equality the target does not fall away from it
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from lossdsl.ir.nodes import Compare, Read, Scalar, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import algebra, properties, shapes
from lossdsl.verify import enclosure as e
from lossdsl.verify.algebra import Form, TooLarge, minus, plus, times
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF
from lossdsl.verify.pieces import NotScalar, View, contains, dependents, fold, inline
from lossdsl.verify.points import Evaluator, Place, Point, Undecided, elements, within
from lossdsl.verify.refute import counts, points, value
from lossdsl.verify.scalar import Smooth, Stuck, joins, single_zeros, smooth_pieces
from lossdsl.verify.show import text
from lossdsl.verify.signs import Budget, prove
from lossdsl.verify.verdict import Proved, Refuted, Step, Unknown, Verdict, Witness

_TRIED = ("pieces", "search")
_STEPS = tuple(Fraction(k) for k in ("1/64", "-1/64", "1/4", "-1/4", "1", "-1", "8", "-8", "300", "-300"))


@dataclass(frozen=True)
class _Solved:
    """The condition as `entry == place`, for one entry of an input that the target reads nowhere else."""

    entry: Read
    place: Scalar
    body: Scalar  # of the target

    @classmethod
    def of(cls, ctx: Context, target: str, condition: Scalar) -> _Solved | str:
        definition = ctx.program.definition(target)
        if not isinstance(condition, Compare) or condition.op != "==" or definition is None or definition.head != "map":
            return "the place of the minimum is not an equality of an input with an expression"
        for a, b in ((condition.a, condition.b), (condition.b, condition.a)):
            if not isinstance(a, Read) or ctx.program.input(a.tensor) is None or contains(b, a):
                continue
            try:
                body = inline(ctx.program, definition.body)
            except NotScalar as reason:
                return str(reason)
            above = dependents(ctx.program, a.tensor)
            if not any(isinstance(n, Read) and n.tensor in above and n is not a for n in postorder(body)):
                return cls(a, b, body)
        return f"{text(condition)} does not solve for one entry of an input"


def minimum_at(ctx: Context, target: str, condition: Scalar) -> Verdict:
    """Wherever the condition (an equality of an input with something) holds, the target takes its least value."""
    solved = _Solved.of(ctx, target, condition)
    if isinstance(solved, str):
        return Unknown(solved, ())
    a, b = solved.entry, solved.place
    if not _may_be(ctx, a, b):
        return Unknown(f"whether {text(b)} is in the domain of {a.tensor}", ("interval",))
    lowest = fold(substitute(solved.body, {a: b}))
    verdict = properties.nonnegative(properties.with_difference(ctx, "$gap", lowest, solved.body), "$gap")
    if isinstance(verdict, Refuted):  # perhaps at a point whose place of the minimum is outside of the domain
        unsure = Unknown(f"whether {text(b)} is in the domain of {a.tensor} at the counterexample", ("search",))
        domain = ctx.ranges().input(a.tensor)
        whole = domain.lo == -INF and domain.hi == INF
        return verdict if whole else _lower_elsewhere(ctx, target, solved, strict=False) or unsure
    if isinstance(verdict, Proved):
        least = Step("difference", target, f"least where {text(condition)}")
        return Proved(verdict.method, (*verdict.steps, least))
    return verdict


def _may_be(ctx: Context, a: Read, b: Scalar) -> bool:
    """Whether the input can take the value wherever everything else is."""
    declared = ctx.program.input(a.tensor)
    if declared is None or not declared.differentiable or ctx.cuts_through(a.tensor) or ctx.symbolic(a.tensor):
        return False
    if declared.kind in ("simplex", "unit"):
        other = ctx.program.input(b.tensor) if isinstance(b, Read) else None
        same = other is not None and (other.kind, other.dims, other.over) == (
            declared.kind,
            declared.dims,
            declared.over,
        )
        return same and isinstance(b, Read) and b.indices == a.indices and not ctx.conditions
    definition_scope = ctx.ranges().scope(frozenset(declared.dims))
    value, domain = definition_scope[b], ctx.ranges().input(a.tensor)
    above = value.lo > domain.lo or (value.lo == domain.lo and (value.lo_open or not domain.lo_open))
    below = value.hi < domain.hi or (value.hi == domain.hi and (value.hi_open or not domain.hi_open))
    return value.finite and above and below


def unique_minimum(ctx: Context, target: str, condition: Scalar) -> Verdict:
    """Whether the target is least where the condition holds (an equality of an input with something), and only there."""
    least = minimum_at(ctx, target, condition)
    solved = _Solved.of(ctx, target, condition)
    if isinstance(least, Refuted) or isinstance(solved, str):
        return least
    blocked = least.blocker if isinstance(least, Unknown) else _only_there(ctx, target, solved)
    if isinstance(blocked, Proved) and isinstance(least, Proved):
        return Proved(blocked.method, (*least.steps, *blocked.steps))
    found = _lower_elsewhere(ctx, target, solved, strict=True)
    return found or Unknown(blocked if isinstance(blocked, str) else "the place of the minimum", _TRIED)


def _only_there(ctx: Context, target: str, solved: _Solved) -> Proved | str:
    """That the target rises on the way from the place of a minimum, or lies above it; else what is open."""
    cases = properties.views_to_the_ends(ctx, target, solved.entry.tensor)
    if isinstance(cases, str):
        return cases
    steps: list[Step] = []
    blocked = next((b for view in cases if (b := _rises(view, solved, ctx.budget, steps, Rise.TO_ABOVE))), None)
    if not blocked:
        return Proved("slope, piece by piece", tuple(steps))
    curved = shapes.convex_and_curved(cases, ctx.budget)  # ends of the domain included: it has one minimum at the most
    return blocked if isinstance(curved, str) else Proved("second derivative, piece by piece", tuple(curved))


def towards(ctx: Context, target: str, condition: Compare, *, strict: bool) -> Verdict:
    """Whether a gradient step in the entry goes towards where the condition (an equality) holds: on neither side of it
    does the target fall away from it (`strict`: it rises)."""
    solved = _Solved.of(ctx, target, condition)
    if isinstance(solved, str) or solved.entry is not condition.a:
        return _on_both_sides(ctx, target, condition, strict=strict)
    cases = properties.views_to_the_ends(ctx, target, solved.entry.tensor)
    steps: list[Step] = []
    how = Rise.STRICT if strict else Rise.WEAK
    if cases and not isinstance(cases, str) and not any(_rises(v, solved, ctx.budget, steps, how) for v in cases):
        return Proved("slope on both sides", tuple(steps))
    verdict = _on_both_sides(ctx, target, condition, strict=strict)
    if isinstance(verdict, Unknown):
        return _lower_elsewhere(ctx, target, solved, strict=strict) or verdict
    return verdict


def _on_both_sides(ctx: Context, target: str, condition: Compare, *, strict: bool) -> Verdict:
    """The target is monotone in the entry where it is at least, and where it is at most, what it is to equal."""
    assert isinstance(condition.a, Read)
    steps: list[Step] = []
    for op, increasing in ((">=", True), ("<=", False)):
        side = ctx.narrowed(Compare(op, condition.a, condition.b))
        verdict = properties.monotone(side, target, (condition.a.tensor,), increasing=increasing, strict=strict)
        if not isinstance(verdict, Proved):
            return verdict
        steps += [Step(f"where {text(condition.a)} {op} {text(condition.b)}", "", verdict.method), *verdict.steps]
    return Proved("slope on both sides", tuple(steps))


class Rise(Enum):
    """How a value rises on the way from a place: it does not fall; it is above that of the place everywhere else; it does
    not stand still."""

    WEAK, TO_ABOVE, STRICT = range(3)


def _rises(view: View, solved: _Solved, budget: Budget, steps: list[Step], how: Rise) -> str:
    """What stands in the way of slopes that point away from the place on every piece, with no jump between them."""
    if view.entry is not solved.entry:
        return f"{view.shown(view.variable)} is of another entry"
    try:
        pieces = smooth_pieces(view)
        least = _numbers(view, solved.place, pieces, budget) if how is Rise.TO_ABOVE else []
        for smooth in pieces:
            away = plus(smooth.field.monomial(smooth.slot, 1), minus(_point(smooth, view, solved.place)))
            outward = times(smooth.order(1), away)
            shown = view.shown(smooth.piece.body)
            if prove(smooth.field, outward, smooth.constraints, budget) is None:
                return f"the sign of the slope of {shown}"
            if how is Rise.WEAK or single_zeros(smooth, outward, budget):
                alone = "" if how is Rise.WEAK else " but at single points"
                steps.append(Step("slope", shown, f"points away from {text(solved.place)}{alone}"))
                continue
            gaps = [plus(smooth.value, minus(smooth.field.number(v))) for v in least]
            if not any(prove(smooth.field, gap, smooth.constraints, budget, strict=True) for gap in gaps):
                return f"whether {shown} is flat somewhere"
            steps.append(Step("slope", shown, "does not fall away from the minimum, and the value is above it"))
        for join in joins(view, pieces, budget, 0) if len(pieces) > 1 else ():
            if not join.jumps[0].zero:
                return f"jump at {view.shown(join.surface)} = 0"
    except Stuck as reason:
        return str(reason)
    except TooLarge:
        return "the normal form of the slope is too large"
    return ""


def _point(smooth: Smooth, view: View, place: Scalar) -> Form:
    """The place of the minimum, as a value of the variable."""
    return smooth.field.form(substitute(substitute(view.inner, {view.entry: place}), dict(view.case)))


def _numbers(view: View, place: Scalar, pieces: list[Smooth], budget: Budget) -> list[Fraction]:
    """The value at the place of the minimum, if it is a number on a piece that has it whatever else there is."""
    found: list[Fraction] = []
    for smooth in pieces:
        field, at = smooth.field, _point(smooth, view, place)
        there = algebra.replace(field, smooth.value, smooth.slot, at)
        inside = (algebra.replace(field, c, smooth.slot, at) for c in smooth.constraints)
        box = field.value(there)
        if box.lo == box.hi and not box.nan and all(prove(field, c, (), budget) is not None for c in inside):
            found.append(Fraction(box.lo))
    return found


def _lower_elsewhere(ctx: Context, target: str, solved: _Solved, *, strict: bool) -> Refuted | None:
    """Two points that differ in the entry, which is at the place of the minimum in the first, and at the second of which
    the target is lower (`strict`: lower, or as low)."""
    for k, drawn in enumerate(points(ctx, 61)):
        for place in elements(ctx.program, target, drawn):
            for pair in _pairs(ctx, target, solved, drawn, place, _STEPS[k % len(_STEPS)]):
                at, off = (value(ctx, p, target, place) for p in pair)
                if at is None or off is None or not (at.bounded and off.bounded):
                    continue
                gap = e.sub(off, at)
                if gap.negative or (strict and gap.nonpositive):
                    found = f"the value is {at} where {text(solved.entry)} is {text(solved.place)}, and {off} elsewhere"
                    witness = Witness((pair[0].flat(), pair[1].flat(solved.entry.tensor)), found)
                    return Refuted("search, interval evaluation", witness)
    return None


def _pairs(
    ctx: Context, target: str, solved: _Solved, drawn: Point, place: Place, step: Fraction
) -> Iterator[tuple[Point, Point]]:
    """Admitted points that differ in the entry: at the place of the minimum, and where it was drawn or a step away."""
    definition = ctx.program.definition(target)
    if definition is None:
        return
    name, env = solved.entry.tensor, dict(zip(definition.formals, place, strict=True))
    evaluator = Evaluator(ctx.program, drawn)
    try:
        entry = tuple(int(evaluator.scalar(i, env).lo) for i in solved.entry.indices)
        there = evaluator.scalar(solved.place, env)
    except (Undecided, KeyError, ValueError, OverflowError, ZeroDivisionError):
        return
    entries = drawn.inputs[name]
    if there.nan or there.lo != there.hi or abs(there.lo) == INF or entry not in entries:
        return
    wanted = Fraction(there.lo)
    box = ctx.ranges().input(name)

    def moved(v: Fraction) -> Point | None:
        found = drawn.with_inputs({name: {**entries, entry: v}})
        return found if within(v, box) and ctx.admits(found) and counts(ctx, found, target, place) else None

    at = moved(wanted)
    for other in (entries[entry], wanted + step) if at is not None else ():
        off = moved(other) if other != wanted else None
        if at is not None and off is not None:
            yield at, off


__all__ = ["minimum_at", "towards", "unique_minimum"]
