"""`zero gradient in x where condition`: the derivative of an element in the entry of `x` at its own place is 0 wherever
the condition holds.

Equalities of the condition are put into the element. Each piece then has slope 0, or lies where the condition fails.
Refuted by a point at which the condition certainly holds and the slope is certainly not 0.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from lossdsl.ir.nodes import And, Apply, Compare, Const, Not, Read, Scalar, postorder
from lossdsl.ir.rewrite import free_indices, substitute
from lossdsl.verify.algebra import TooLarge, minus
from lossdsl.verify.boxes import At
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.operations import truth
from lossdsl.verify.pieces import NotScalar, View, dependents, fold, inline, reads_any, split, target_scalar, views
from lossdsl.verify.points import Evaluator, Point, Undecided
from lossdsl.verify.refute import _points
from lossdsl.verify.regret import fixed_view
from lossdsl.verify.scalar import Smooth, Stuck, smooth_pieces
from lossdsl.verify.show import text
from lossdsl.verify.signs import prove
from lossdsl.verify.verdict import Proved, Refuted, Step, Unknown, Verdict, Witness

_TRIED = ("slope, piece by piece",)


@dataclass
class _Where:
    """A conjunction: what it fixes, and what has to be >= 0 (> 0 if strict)."""

    fixed: dict[Scalar, Scalar] = field(default_factory=dict)
    least: list[tuple[Scalar, bool]] = field(default_factory=list)


def zero_gradient(ctx: Context, target: str, inputs: tuple[str, ...], condition: Scalar) -> Verdict:
    """The verdict for all of the inputs."""
    steps: list[Step] = []
    for entry in inputs:
        verdict = _one(ctx, target, entry, condition)
        if not isinstance(verdict, Proved):
            return verdict
        steps += verdict.steps
    return Proved("slope, piece by piece", tuple(steps)) if steps else Unknown("no input", _TRIED)


def _one(ctx: Context, target: str, entry: str, condition: Scalar) -> Verdict:
    definition = ctx.program.definition(target)
    if definition is None or not set(free_indices(condition)) <= set(definition.formals):
        return Unknown("a condition that is not about the element itself", _TRIED)
    try:
        where = _where(inline(ctx.program, condition))
        above = dependents(ctx.program, entry)
        if any(isinstance(n, Read) and n.tensor in above for n in where.fixed):
            raise NotScalar(f"a condition that holds at single values of {entry}")
        body = fold(substitute(target_scalar(ctx.program, target), where.fixed))
        if not reads_any(above, body):
            step = Step("does not occur", text(body), f"free of {entry} where {text(condition)}")
            return Proved("slope, piece by piece", (step,))
        found = _proved(views(ctx.program, ctx.ranges((entry,)), target, entry, body), where, ctx)
    except (NotScalar, Stuck) as reason:
        found = Unknown(str(reason), _TRIED)
    except TooLarge:
        found = Unknown("the normal form of the derivative is too large", _TRIED)
    if isinstance(found, Proved):
        return found
    return _refuted(ctx, target, entry, condition) or Unknown(found.blocker, (*found.tried, "search"))


def _where(condition: Scalar) -> _Where:
    """Raises NotScalar for a condition that is no conjunction of comparisons."""
    out = _Where()
    todo = [condition]
    while todo:
        n = todo.pop()
        bare = n.a if isinstance(n, Not) else n
        if isinstance(n, And):
            todo.extend(n.args)
        elif isinstance(bare, Read):  # a switch, or its negation
            out.fixed[bare] = Const(0 if isinstance(n, Not) else 1, bare.dtype)
        elif isinstance(n, Compare) and n.op == "==" and (pair := _assignment(n)) is not None:
            out.fixed[pair[0]] = pair[1]
        elif isinstance(n, Compare) and n.op in ("<", "<=", ">", ">="):
            low, high = (n.a, n.b) if n.op in ("<", "<=") else (n.b, n.a)
            out.least.append((fold(Apply("sub", (_real(high), _real(low)))), n.op in ("<", ">")))
        else:
            raise NotScalar(f"the condition {text(n)}")
    return out


def _assignment(n: Compare) -> tuple[Scalar, Const] | None:
    for a, b in ((n.a, n.b), (n.b, n.a)):
        while isinstance(a, Apply) and a.name in ("real", "int"):
            a = a.args[0]
        value = fold(b)
        if isinstance(a, Read) and isinstance(value, Const) and not isinstance(value.value, str):
            return a, Const(value.value, a.dtype)
    return None


def _real(n: Scalar) -> Scalar:
    return n if n.dtype.value == "real" else Apply("real", (n,))


def _proved(cases: list[View], where: _Where, ctx: Context) -> Proved | Unknown:
    steps: list[Step] = []
    for view in cases:
        note = f" where {view.case_text}" if view.case else ""
        rest = substitute(view.inner, {view.entry: Const(0)})
        entry = Apply("div", (Apply("sub", (view.variable, rest)), view.slope))
        known: dict[Scalar, Scalar] = {**dict(view.case), view.entry: entry, **where.fixed}
        least = [(fold(substitute(c, known)), strict) for c, strict in where.least]
        for smooth in smooth_pieces(view):
            shown = f"{view.shown(smooth.piece.body)}{note}"
            if smooth.order(1).zero:
                steps.append(Step("exact normal form", shown, "slope 0"))
            elif any(_fails(smooth, c, strict, ctx) for c, strict in least):
                steps.append(Step("the case cannot occur", shown, "the condition fails on this piece"))
            elif _flat(smooth, [c for c, _ in least], ctx):
                steps.append(Step("bounds of the slope", shown, "slope 0 where the condition holds"))
            else:
                return Unknown(f"the slope of {shown}", _TRIED)
    return Proved("slope, piece by piece", tuple(steps)) if steps else Unknown("no piece", _TRIED)


def _fails(smooth: Smooth, least: Scalar, strict: bool, ctx: Context) -> bool:
    """Whether `least >= 0` (> 0 if strict) holds nowhere on the piece."""
    for part in split(least, smooth.piece.scope):
        if not all(part.scope[n].finite for n in postorder(part.body)):
            return False
        given = [*smooth.constraints, *(smooth.field.form(c) for c in part.constraints)]
        if prove(smooth.field, minus(smooth.field.form(part.body)), given, ctx.budget, strict=not strict) is None:
            return False
    return True


def _flat(smooth: Smooth, least: list[Scalar], ctx: Context) -> bool:
    """Whether the slope is 0 wherever all of `least` are >= 0 on the piece."""
    given = list(smooth.constraints)
    for c in least:
        parts = split(c, smooth.piece.scope)
        if len(parts) == 1 and all(smooth.piece.scope[n].finite for n in postorder(parts[0].body)):
            given.append(smooth.field.form(parts[0].body))
    slope = smooth.order(1)
    return all(prove(smooth.field, f, given, ctx.budget) is not None for f in (slope, minus(slope)))


def _refuted(ctx: Context, target: str, entry: str, condition: Scalar) -> Refuted | None:
    definition = ctx.program.definition(target)
    assert definition is not None
    try:
        cases = views(ctx.program, ctx.ranges((entry,)), target, entry)
    except NotScalar:
        return None
    env = dict.fromkeys(definition.formals, 0)
    for point in itertools.islice(_points(ctx, 41, (entry,)), 200):
        try:
            evaluator = Evaluator(ctx.program, point)
            if truth(evaluator.scalar(condition, env)) is not True:
                continue
            for view in cases:
                fixed = fixed_view(view, point)
                found = None if fixed is None else _slope(view, fixed, evaluator.scalar(view.inner, env), point)
                if found is not None:
                    return found
        except (Undecided, KeyError, ValueError, OverflowError, ZeroDivisionError):
            continue
    return None


def _slope(view: View, fixed: View, at: Enclosure, point: Point) -> Refuted | None:
    """The slope where the variable has the value `at`, if that is certainly not 0."""
    try:
        for smooth in smooth_pieces(fixed):
            form = smooth.order(1)  # first: it brings generators of its own
            here = At(smooth.field, {smooth.slot: at})
            slope = here.value(form)
            if slope.nonzero and all(here.value(c).positive for c in smooth.constraints):
                violation = f"the condition holds, and the slope in {text(view.inner)} is in {slope}"
                return Refuted("slope at a point", Witness((point.flat(),), violation))
    except (Stuck, TooLarge):
        return None
    return None


__all__ = ["zero_gradient"]
