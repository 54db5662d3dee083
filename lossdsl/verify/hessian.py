"""Joint convexity of a smooth scalar in a few entries at once: all principal minors of its second derivatives.

A symmetric matrix is positive semidefinite if and only if *all* of its principal minors are >= 0 (the leading ones do
not suffice). Each minor is one sign obligation over exact normal forms, so that a matrix that is singular by its
construction (of a homogeneous function, of a function of a difference) has a minor that is exactly 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from lossdsl.ir.nodes import TRUE, AdjointMap, Proxy, Read, Scalar, Select, Stop, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.algebra import Field, Form, TooLarge, minus, plus, times
from lossdsl.verify.context import Context
from lossdsl.verify.derive import derivative
from lossdsl.verify.pieces import NotScalar, contains, dependents, fold, inline, split, views
from lossdsl.verify.ranges import Scope
from lossdsl.verify.scalar import irregular
from lossdsl.verify.show import text
from lossdsl.verify.signs import Budget, prove
from lossdsl.verify.verdict import Proved, Step

_MOST = 3  # entries


def semidefinite(ctx: Context, target: str, inputs: tuple[str, ...], *, concave: bool = False) -> Proved | None:
    """A proof that one element of the target is convex (concave) in all entries of the inputs that it reads, or None.

    Entries that may be the same one are taken as different: what is convex in both is so where they agree."""
    steps: list[Step] = []
    for body, scope in _bodies(ctx, target, inputs):
        step = _proved(ctx, body, scope, inputs, concave)
        if step is None:
            return None
        steps.append(step)
    return Proved("principal minors of the second derivatives", tuple(steps)) if steps else None


def _bodies(ctx: Context, target: str, inputs: tuple[str, ...]) -> Iterator[tuple[Scalar, Scope]]:
    """The element in inputs and parameters, for each case of what has few values; nothing if it has no such form."""
    definition, ranges = ctx.program.definition(target), ctx.ranges(inputs)
    if definition is None or definition.head != "map" or definition.support is not TRUE:
        return
    try:
        for view in views(ctx.program, ranges, target, inputs[0]):
            yield fold(substitute(view.body, {view.variable: view.inner})), view.scope
    except NotScalar:
        try:
            yield fold(inline(ctx.program, definition.body)), ranges.body_scope(definition)
        except NotScalar:
            return


def _proved(ctx: Context, body: Scalar, scope: Scope, inputs: tuple[str, ...], concave: bool) -> Step | None:
    above = frozenset().union(*(dependents(ctx.program, n) for n in inputs))
    entries = [n for n in postorder(body) if isinstance(n, Read) and n.tensor in above]
    if any(isinstance(n, (Stop, Proxy, AdjointMap)) for n in postorder(body)):
        return None  # value and derivative are declared apart
    if not 0 < len(entries) <= _MOST or any(
        n.tensor not in inputs or any(isinstance(m, Read) for i in n.indices for m in postorder(i)) for n in entries
    ):
        return None
    try:
        pieces = split(body, scope)
        if len(pieces) != 1 or irregular(pieces[0], entries) is not None:
            return None  # joins of pieces along surfaces are no business of this rule
        piece = pieces[0]
        if any(isinstance(n, Select) and any(contains(n, e) for e in entries) for n in postorder(piece.body)):
            return None  # a branch on a switch
        field = Field(piece.scope)
        for n in entries:
            field.form(n)
        value = field.form(piece.body)
        slots = [next(s for s, g in enumerate(field.generators) if g.leaf is n) for n in entries]
        if concave:
            value = minus(value)
        rows = [[derivative(field, derivative(field, value, a), b) for b in slots] for a in slots]
        constraints = [field.form(c) for c in piece.constraints]
        if not _all_minors(field, rows, constraints, ctx.budget):
            return None
    except (NotScalar, TooLarge):
        return None
    shown = ", ".join(text(n) for n in entries)
    return Step("principal minors", text(piece.body), f"all >= 0: {'concave' if concave else 'convex'} in {shown}")


def _all_minors(field: Field, rows: list[list[Form]], constraints: list[Form], budget: Budget) -> bool:
    places = range(len(rows))
    for size in range(1, len(rows) + 1):
        for chosen in itertools.combinations(places, size):
            minor = determinant([[rows[i][j] for j in chosen] for i in chosen])
            if not minor.zero and prove(field, minor, constraints, budget) is None:
                return False
    return True


def determinant(rows: Sequence[Sequence[Form]]) -> Form:
    """By the first row. Raises TooLarge."""
    if len(rows) == 1:
        return rows[0][0]
    total: Form | None = None
    for j, entry in enumerate(rows[0]):
        rest = [[f for k, f in enumerate(row) if k != j] for row in rows[1:]]
        term = times(entry, determinant(rest))
        term = minus(term) if j % 2 else term
        total = term if total is None else plus(total, term)
    assert total is not None
    return total


__all__ = ["determinant", "semidefinite"]
