"""Properties of a scalar view: convexity, differentiability, slopes; proved piece by piece, then at the joins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import wraps

from lossdsl.ir.nodes import INT, ZERO, Apply, Scalar, Select, postorder
from lossdsl.verify.algebra import Field, Form, TooLarge, minus, ordered, plus, power, replace, times
from lossdsl.verify.derive import derivative
from lossdsl.verify.enclosure import INF
from lossdsl.verify.growth import Tail
from lossdsl.verify.operations import smooth_at
from lossdsl.verify.pieces import NotScalar, Piece, View, affine_slope, contains, split
from lossdsl.verify.ranges import Scope
from lossdsl.verify.signs import Budget, infeasible, prove
from lossdsl.verify.verdict import Proved, Step, Unknown
from lossdsl.verify.work import deadline, passed


@dataclass
class Smooth:
    """A piece with the forms of its value and derivatives in the view's variable, over the piece's own scope."""

    piece: Piece
    field: Field
    slot: int
    value: Form
    constraints: list[Form]

    def order(self, k: int) -> Form:
        f = self.value
        for _ in range(k):
            f = derivative(self.field, f, self.slot)
        return f


@dataclass
class Join:
    """Where two pieces meet: `point` is the variable there; `jumps[k]` the jump of the k-th derivative, from smaller to
    larger values of the variable."""

    surface: Scalar
    point: Form
    field: Field
    constraints: list[Form]
    jumps: list[Form]
    left: Piece
    right: Piece
    simple: bool  # at the point nothing but this surface changes sign


_Decide = Callable[..., Proved | Unknown]


def _also_with_numbers(decide: _Decide) -> _Decide:
    """Where nothing is found of the views as they are, once more with leaves for what the variable is not in."""

    @wraps(decide)
    def both(cases: list[View], *args: object, **options: object) -> Proved | Unknown:
        found = decide(cases, *args, **options)
        if isinstance(found, Proved):
            return found
        simpler = [v.with_numbers() for v in cases]
        if all(v is w for v, w in zip(cases, simpler, strict=True)):
            return found
        again = decide(simpler, *args, **options)
        return again if isinstance(again, Proved) else found

    return both


class Stuck(Exception):
    """No engine gets past a subexpression: its text is the message."""


def _deadline(budget: Budget) -> int:
    """When the obligations of all pieces together have cost enough."""
    return deadline(15 * budget.seconds)


def _in_time(end: int) -> None:
    if passed(end):
        raise Stuck("many pieces: the time allowed ran out")


def irregular(piece: Piece, variables: Sequence[Scalar]) -> Scalar | None:
    """The smallest subexpression that may be undefined or infinite in the piece, or not smooth where it contains one of
    the variables; None if there is none."""
    scope = piece.scope
    for n in postorder(piece.body):
        if n.dtype is INT and not isinstance(n, Apply):
            continue
        box = scope[n]
        if not box.finite:
            return n
        if isinstance(n, Apply) and n.dtype is not INT and not smooth_at(n, [scope[a] for a in n.args]):
            if any(contains(n, v) for v in variables):
                return n
    return None


def smooth_pieces(view: View) -> list[Smooth]:
    """All pieces with their forms. Raises Stuck with what stands in the way."""
    if "pieces" not in view.memo:
        try:
            view.memo["pieces"] = _smooth_pieces(view)
        except Stuck as reason:
            view.memo["pieces"] = reason
    found = view.memo["pieces"]
    if isinstance(found, Stuck):
        raise Stuck(str(found))
    assert isinstance(found, list)
    return found


def _smooth_pieces(view: View) -> list[Smooth]:
    try:
        pieces = split(view.body, view.scope)
    except NotScalar as reason:
        raise Stuck(str(reason)) from None
    found = []
    for piece in pieces:
        bad = irregular(piece, [view.variable])
        if bad is not None:
            raise Stuck(f"{view.shown(bad)} may be undefined, infinite or not smooth")
        for n in (n for part in (piece.body, *piece.constraints) for n in postorder(part)):
            if isinstance(n, Select) and contains(n, view.variable):  # on a switch: no case of the view decides it
                raise Stuck(f"the branch {view.shown(n)}")
        for c in piece.constraints:
            if not all(piece.scope[n].finite for n in postorder(c)):
                raise Stuck(f"the branch on {view.shown(c)}, which may be undefined")
        found.append(_with_forms(view, piece, piece.scope))
    return found


def _with_forms(view: View, piece: Piece, scope: Scope) -> Smooth:
    field = Field(scope)
    try:
        variable = field.form(view.variable)
        slot = next(s for s, g in enumerate(field.generators) if g.leaf is view.variable)
        assert not variable.zero
        value = field.form(piece.body)
        constraints = [field.form(c) for c in piece.constraints]
    except TooLarge:
        raise Stuck(f"the normal form of {view.shown(piece.body)} is too large") from None
    return Smooth(piece, field, slot, value, constraints)


def joins(view: View, pieces: list[Smooth], budget: Budget, orders: int) -> Iterator[Join]:
    """All places where two pieces may meet for fixed values of everything else. Raises Stuck."""
    end = _deadline(budget)
    for i, a in enumerate(pieces):
        for b in pieces[:i]:
            _in_time(end)
            surface = _divergence(a.piece, b.piece)
            slope = affine_slope(surface, view.variable)
            if slope is ZERO:
                continue
            if slope is None:
                raise Stuck(f"the branch at {view.shown(surface)} = 0 is not at a point that can be solved for")
            direction = view.scope[slope]
            if not direction.nonzero:
                raise Stuck(f"the slope of {view.shown(surface)} may vanish")
            a_is_up = (surface, True) in a.piece.path
            right, left = (a, b) if a_is_up == direction.positive else (b, a)
            try:
                yield from _join(view, surface, slope, left.piece, right.piece, budget, orders)
            except TooLarge:
                raise Stuck(f"the normal form at {view.shown(surface)} = 0 is too large") from None


def _divergence(a: Piece, b: Piece) -> Scalar:
    for (surface, side), (other, other_side) in zip(a.path, b.path, strict=False):
        if surface is other and side != other_side:
            return surface
    raise AssertionError("two pieces of one split differ somewhere")


def _join(
    view: View, surface: Scalar, slope: Scalar, left: Piece, right: Piece, budget: Budget, orders: int
) -> Iterator[Join]:
    low, high = _with_forms(view, left, view.scope), _with_forms(view, right, view.scope)
    # one field for both: forms are only comparable inside one
    high = Smooth(
        right, low.field, low.slot, low.field.form(right.body), [low.field.form(c) for c in right.constraints]
    )
    field, slot = low.field, low.slot
    s = field.form(surface)
    point = plus(field.form(view.variable), minus(times(s, power(field.form(slope), -1))))
    constraints, simple = [], True
    for smooth, side in ((low, left), (high, right)):
        # a piece that needs the surface on both sides holds at one point at most, and may not even be taken there
        own = surface if (surface, True) in side.path else Apply("neg", (surface,))
        for c, node in zip(smooth.constraints, side.constraints, strict=True):
            at = replace(field, c, slot, point)
            if not at.zero:
                constraints.append(at)
            elif node is not own:
                simple = False
    constraints += inside_domain(field, slot, point)
    key = ("apart", surface, left.body, right.body, left.path, right.path)
    if key not in view.memo:
        view.memo[key] = infeasible(field, constraints, budget)
    if view.memo[key]:
        return
    difference = plus(high.value, minus(low.value))
    jumps = [replace(field, difference, slot, point)]
    for _ in range(orders):
        difference = derivative(field, difference, slot)
        jumps.append(replace(field, difference, slot, point))
    yield Join(surface, point, field, constraints, jumps, left, right, simple)


def inside_domain(field: Field, slot: int, point: Form) -> list[Form]:
    """That the point lies in the variable's own domain, as constraints."""
    box = field.generators[slot].enclosure
    result = []
    if abs(box.lo) < 1e300:
        result.append(plus(point, field.number(-Fraction(box.lo))))
    if abs(box.hi) < 1e300:
        result.append(plus(field.number(Fraction(box.hi)), minus(point)))
    return result


# ------------------------------------------------------------------------------------------------ properties


@_also_with_numbers
def convex(
    cases: list[View], budget: Budget, *, concave: bool = False, within: Scalar | None = None
) -> Proved | Unknown:
    """f'' >= 0 on every piece, values equal and slopes not falling at every join; `within`: as far as the variable is at most
    so large, in size."""
    steps: list[Step] = []
    end = _deadline(budget)
    factor = -1 if concave else 1
    word = "concave" if concave else "convex"
    for view in cases:
        note = f" where {view.case_text}" if view.case else ""
        try:
            pieces = smooth_pieces(view)
            for smooth in pieces:
                _in_time(end)
                second = times(smooth.order(2), smooth.field.number(factor))
                near = _within(smooth.field, within, smooth.field.form(view.variable))
                how = prove(smooth.field, second, [*smooth.constraints, *near], budget)
                if how is None:
                    return Unknown(f"sign of the second derivative of {view.shown(smooth.piece.body)}{note}", _ENGINES)
                steps.append(Step(how, view.shown(smooth.piece.body), f"{word} on its piece{note}"))
            if len(pieces) > 1:
                for join in joins(view, pieces, budget, 1):
                    near = _within(join.field, within, join.point)
                    if near and infeasible(join.field, [*join.constraints, *near], budget):
                        continue
                    if not join.jumps[0].zero:
                        return Unknown(f"value at {view.shown(join.surface)} = 0{note}", _ENGINES)
                    jump = times(join.jumps[1], join.field.number(factor))
                    how = prove(join.field, jump, [*join.constraints, *near], budget)
                    if how is None:
                        return Unknown(f"jump of the slope at {view.shown(join.surface)} = 0{note}", _ENGINES)
                    steps.append(
                        Step(how, f"{view.shown(join.surface)} = 0", f"values agree, slope does not turn{note}")
                    )
        except Stuck as reason:
            return Unknown(f"{reason}{note}", _ENGINES)
        except TooLarge:
            return Unknown(f"the normal form of the derivative is too large{note}", _ENGINES)
    return Proved("second derivative, piece by piece", tuple(steps))


def _within(field: Field, radius: Scalar | None, point: Form) -> list[Form]:
    """That a point is at most so far from 0, as constraints."""
    if radius is None:
        return []
    return [plus(field.form(radius), f) for f in (point, minus(point))]


_ENGINES = ("pieces", "normal form", "interval", "z3", "branch and bound")


def gaps(
    view: View, smooth: Smooth, lower: Scalar | None, upper: Scalar | None, order: int
) -> Iterator[tuple[Scalar, int, Form, list[Form]]]:
    """What has to be >= 0 on a piece for its derivative of that order in the entry to lie between the bounds, and where:
    (a bound, 1 for a lower and -1 for an upper one, the form, conditions). Raises Stuck, TooLarge and NotScalar."""
    field = smooth.field
    d = times(smooth.order(order), power(field.form(view.slope), order))
    for whole, sense in ((lower, 1), (upper, -1)):
        for part in split(whole, smooth.piece.scope) if whole is not None else ():
            bound = part.body
            if not all(part.scope[n].finite for n in postorder(bound)):
                raise Stuck(f"{view.shown(bound)} may be undefined or infinite")
            gap = times(plus(d, minus(field.form(bound))), field.number(sense))
            yield bound, sense, gap, [*smooth.constraints, *(field.form(c) for c in part.constraints)]


@_also_with_numbers
def slope_between(
    cases: list[View],
    lower: Scalar | None,
    upper: Scalar | None,
    budget: Budget,
    *,
    order: int = 1,
    strict: bool = False,
) -> Proved | Unknown:
    """lower <= d^order f / d entry^order <= upper on all pieces, and continuity of order - 1 at the joins."""
    steps: list[Step] = []
    end = _deadline(budget)
    for view in cases:
        note = f" where {view.case_text}" if view.case else ""
        try:
            pieces = smooth_pieces(view)
            for smooth in pieces:
                _in_time(end)
                for bound, sense, gap, given in gaps(view, smooth, lower, upper, order):
                    written = order == 0 and _as_written(smooth.piece, bound, sense, strict=strict)
                    how = _WRITTEN if written else prove(smooth.field, gap, given, budget, strict=strict)
                    if how is None and strict and order == 1 and single_zeros(smooth, gap, budget):
                        how = prove(smooth.field, gap, given, budget)  # what stands still at single points only, rises
                    if how is None:
                        name = ("value", "slope")[order] if order < 2 else f"derivative of order {order}"
                        return Unknown(
                            f"{name} of {view.shown(smooth.piece.body)} against {view.shown(bound)}{note}", _ENGINES
                        )
                    whole, relation = (lower, ">=") if sense > 0 else (upper, "<=")
                    assert whole is not None
                    step = Step(how, view.shown(smooth.piece.body), f"{_OF[order]}{relation} {view.shown(whole)}{note}")
                    steps += [step] if step not in steps else []  # each part of a larger or smaller one
            if len(pieces) > 1 and order > 0:
                for join in joins(view, pieces, budget, order - 1):
                    if not all(j.zero for j in join.jumps):
                        return Unknown(f"jump at {view.shown(join.surface)} = 0{note}", _ENGINES)
        except (Stuck, NotScalar) as reason:
            return Unknown(f"{reason}{note}", _ENGINES)
        except TooLarge:
            return Unknown(f"the normal form of the derivative is too large{note}", _ENGINES)
    if not steps:
        steps.append(Step("no piece", "", "nothing to bound"))
    return Proved("derivative, piece by piece", tuple(steps))


_OF = ("", "slope ", "second derivative ")
_WRITTEN = "interval evaluation as it is written"


def _as_written(piece: Piece, bound: Scalar, sense: int, *, strict: bool) -> bool:
    """Whether the enclosure of the body alone, before it is expanded, shows the bound."""
    apart = Apply("sub", (piece.body, bound) if sense > 0 else (bound, piece.body))
    box = piece.scope[apart]
    return box.positive if strict else box.nonnegative


def single_zeros(smooth: Smooth, f: Form, budget: Budget) -> bool:
    """Whether the form is 0 on the piece at single values of the variable at most: factors that are affine in the variable
    with a number as slope may vanish, the others not."""
    field, rest = smooth.field, ordered(smooth.field, f)
    if rest.zero:
        return False
    _, factors = rest.num.factor()
    for factor, k in factors:
        slope = factor.derivative(smooth.slot)
        if slope.is_constant() and not slope.is_zero():
            rest = times(rest, power(Form(factor, field.number(1).num), -int(k)))
    return any(prove(field, g, smooth.constraints, budget, strict=True) is not None for g in (rest, minus(rest)))


@_also_with_numbers
def slope_bounded(cases: list[View], budget: Budget) -> Proved | Unknown:
    """Some bound on the slope for each value of everything else: pieces are smooth up to their finite ends, the slope is
    bounded along their tails, and the values agree at the joins."""
    steps: list[Step] = []
    for view in cases:
        note = f" where {view.case_text}" if view.case else ""
        try:
            pieces = smooth_pieces(view)
            for smooth in pieces:
                shown = view.shown(smooth.piece.body)
                box, slope = smooth.piece.scope[view.variable], smooth.order(1)
                for end, is_open, direction in ((box.lo, box.lo_open, -1), (box.hi, box.hi_open, 1)):
                    if abs(end) < INF and not is_open:
                        continue  # smooth at the end itself
                    tail = Tail(smooth.field, smooth.slot, direction)
                    if any(tail.outside(c) for c in smooth.constraints):
                        continue
                    if abs(end) < INF or not tail.bounded(slope):
                        return Unknown(f"slope of {shown} near an end of its domain{note}", _ENGINES)
                steps.append(Step("growth along the tails", shown, f"the slope is bounded{note}"))
            if len(pieces) > 1:
                for join in joins(view, pieces, budget, 0):
                    if not join.jumps[0].zero:
                        return Unknown(f"jump at {view.shown(join.surface)} = 0{note}", _ENGINES)
        except Stuck as reason:
            return Unknown(f"{reason}{note}", _ENGINES)
        except TooLarge:
            return Unknown(f"the normal form of the derivative is too large{note}", _ENGINES)
    return Proved("slopes along the tails", tuple(steps)) if steps else Unknown("no piece", _ENGINES)


def least_at_stationary(cases: list[View], budget: Budget, *, strict: bool = False) -> Proved | None:
    """f >= 0 (f > 0 if strict), from convexity and a point where the slope is 0 and the value is so."""
    shape = convex(cases, budget)
    if not isinstance(shape, Proved):
        return None
    steps = list(shape.steps)
    for view in cases:
        try:
            pieces = smooth_pieces(view)
            at = _stationary(pieces[0], view, budget, strict=strict) if len(pieces) == 1 else None
        except (Stuck, TooLarge):
            return None
        if at is None:
            return None
        steps.append(
            Step(
                "stationary point",
                f"{view.shown(view.variable)} = {at}",
                f"the slope is 0, the value {'>' if strict else '>='} 0",
            )
        )
    return Proved("convexity and a stationary point", tuple(steps))


def _stationary(smooth: Smooth, view: View, budget: Budget, *, strict: bool) -> int | None:
    field, box = smooth.field, view.scope[view.variable]
    for at in (0, 1, -1):
        if not box.lo < at < box.hi:
            continue
        point = field.number(at)
        try:
            slope, value = (replace(field, smooth.order(k), smooth.slot, point) for k in (1, 0))
        except TooLarge:
            continue
        if slope.zero and prove(field, value, (), budget, strict=strict) is not None:
            return at
    return None


def differentiable(cases: list[View], order: int, budget: Budget) -> Proved | Unknown:
    """C^order: pieces are smooth, and derivatives up to the order agree at every join."""
    steps: list[Step] = []
    for view in cases:
        note = f" where {view.case_text}" if view.case else ""
        try:
            pieces = smooth_pieces(view)
            steps += [Step("composition of smooth records", view.shown(s.piece.body), f"smooth{note}") for s in pieces]
            if len(pieces) > 1:
                for join in joins(view, pieces, budget, order):
                    for k, jump in enumerate(join.jumps):
                        if not jump.zero:
                            return Unknown(f"derivative of order {k} at {view.shown(join.surface)} = 0{note}", _ENGINES)
                    steps.append(Step("exact normal form", f"{view.shown(join.surface)} = 0", f"C{order} there{note}"))
        except Stuck as reason:
            return Unknown(f"{reason}{note}", _ENGINES)
        except TooLarge:
            return Unknown(f"the normal form of the derivative is too large{note}", _ENGINES)
    return Proved("joins of smooth pieces", tuple(steps))


def without_joins(cases: list[View], budget: Budget) -> bool:
    """Whether no two different formulas meet (three equal derivatives prove C3, not smoothness)."""
    try:
        return all(_same(join) for view in cases for join in joins(view, smooth_pieces(view), budget, 1))
    except Stuck:
        return False


def _same(join: Join) -> bool:
    left, right = join.field.form(join.left.body), join.field.form(join.right.body)
    return left.key == right.key
