"""Regions that bind an entry together with other names (`on pred >= target`), seen from the scalar view.

The variable of a view is often what the condition is about (the residual, the margin). Only intervals of it are taken
in: a region that is an interval in the entry, so that slopes on it speak of its steps and of its chords.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lossdsl.ir.nodes import REAL, ZERO, And, Apply, Compare, Index, Program, Read, Scalar, postorder
from lossdsl.ir.rewrite import free_indices, substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify.algebra import Field, TooLarge, minus, plus, power, sign, times
from lossdsl.verify.derive import derivative
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import may_jump
from lossdsl.verify.pieces import VARIABLE, View, contains, fold, inline
from lossdsl.verify.ranges import MIRROR, Scope, below


def narrowed(program: Program, view: View, conditions: Iterable[Scalar], *, interior: bool) -> View:
    """The view with its variable held to what the conditions leave of it; the same view where they say nothing.

    interior   without the ends of the interval, unless the value may jump there"""
    box = view.scope[VARIABLE]
    for condition in conditions:
        for part in _comparisons(condition):
            interval = _interval(program, view, part)
            both = e.meet(box, interval) if interval is not None else box
            box = both if both is not None else box  # no value at all: left to the search, which finds none
    if box == view.scope[VARIABLE]:
        return view
    closed = replace(view, scope=_with(view, box), memo={})
    if not interior or box.lo == box.hi or jumps(closed):
        return closed
    return replace(view, scope=_with(view, Enclosure(box.lo, box.hi, True, True, box.nan)), memo={})


def _with(view: View, box: Enclosure) -> Scope:
    return Scope(view.scope.ranges, view.scope.nonempty, {**view.scope.known, VARIABLE: box})


def jumps(view: View) -> bool:
    """Whether the value may jump at an end of what the variable may be: no condition is decided there with room to
    spare."""
    box = view.scope[VARIABLE]
    return any(_jumps(view, end) for end in (box.lo, box.hi) if abs(end) < INF)


def _jumps(view: View, end: float) -> bool:
    there = _with(view, Enclosure(end, end))
    for n in postorder(view.body):
        if may_jump(n) and contains(n, VARIABLE):
            if not isinstance(n, Compare) or not there[Apply("sub", (n.a, n.b))].nonzero:
                return True
    return False


def _comparisons(condition: Scalar) -> list[Compare]:
    if isinstance(condition, And):
        return [c for a in condition.args for c in _comparisons(a)]
    return [condition] if isinstance(condition, Compare) and condition.op in MIRROR else []


def _interval(program: Program, view: View, part: Compare) -> Enclosure | None:
    """What a comparison leaves of the variable, in all elements; None if that is not an interval, or not known."""
    placed = _at_entry(program, view, part)
    if placed is None:
        return None
    a, b = (substitute(fold(s), {view.inner: VARIABLE}) for s in (placed.a, placed.b))
    for left, right, op in ((a, b, placed.op), (b, a, MIRROR[placed.op])):
        bound = view.scope[right]
        if contains(right, view.entry) or contains(right, VARIABLE) or bound.nan:
            continue
        if left is VARIABLE:
            return below(op, bound)
        if isinstance(left, Apply) and left.name == "abs" and left.args[0] is VARIABLE and op in ("<", "<="):
            if bound.hi < 0:
                return None
            is_open = bound.hi_open or op == "<"
            return Enclosure(-bound.hi, bound.hi, is_open, is_open)
    return _half_line(view, placed)


def _half_line(view: View, part: Compare) -> Enclosure | None:
    """`x >= y` of u = (y - x) / s: x - y is a multiple of it by a factor of one sign; `x >= y + 1` of u = x - y."""
    origin = substitute(view.inner, {view.entry: ZERO})
    entry = Apply("div", (Apply("sub", (view.variable, origin)), view.slope))
    surface = fold(substitute(Apply("sub", (part.a, part.b)), {view.entry: entry}))
    field = Field(view.scope)
    try:
        form, variable = field.form(surface), field.form(VARIABLE)
        slot = next(s for s, g in enumerate(field.generators) if g.leaf is VARIABLE)
        slope = derivative(field, form, slot).constant
        rest = plus(form, minus(times(field.number(slope or 0), variable))).constant
        if slope and rest is not None:
            return below(part.op if slope > 0 else MIRROR[part.op], e.exact(-rest / slope))
        factor = sign(field, times(form, power(variable, -1)))
    except TooLarge:
        return None
    if not factor.nonzero:
        return None
    return below(part.op if factor.positive else MIRROR[part.op], Enclosure(0.0, 0.0))


def _at_entry(program: Program, view: View, part: Compare) -> Compare | None:
    """The comparison at the element that the view is about: it holds at all places."""
    written = inline(program, part)
    read = next((n for n in postorder(written) if isinstance(n, Read) and n.tensor == view.entry.tensor), None)
    if read is None or part.a.dtype is not REAL or part.b.dtype is not REAL:
        return None
    if len(read.indices) != len(view.entry.indices) or not all(isinstance(i, Index) for i in read.indices):
        return None
    moved = dict(zip(read.indices, view.entry.indices, strict=True))
    if set(free_indices(written)) - set(moved):
        return None
    placed = substitute(written, moved)
    return placed if isinstance(placed, Compare) else None
