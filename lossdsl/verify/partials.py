"""Lipschitz constants in l1 from partial derivatives: a loss that is Lipschitz at all, and whose partial derivatives are
within [-L, L] almost everywhere, is Lipschitz with L in l1 on a convex domain.

By Rademacher's theorem it is differentiable almost everywhere; it is the integral of its derivative along almost every
segment, and |<g, x - y>| <= max |g_i| * |x - y|_1 (Hölder); by continuity that holds for all segments (Clarke, Optimization
and Nonsmooth Analysis, 1983, 2.3.7). The partial derivatives are those of the gradient program, without what a file only
declares of derivatives; they agree with the loss almost everywhere (Bolte and Pauwels, arXiv 1909.10300).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lossdsl.ir.nodes import BOOL, TRUE, And, Const, Not, Or, Scalar, Select, postorder
from lossdsl.transform.gradient import gradient
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure, hull
from lossdsl.verify.operations import truth
from lossdsl.verify.pieces import NotScalar, inline, of_values
from lossdsl.verify.ranges import Ranges, Scope
from lossdsl.verify.verdict import Proved, Step, Verdict


def lipschitz(ctx: Context, target: str, entry: str, bound: Scalar, some: Callable[[], Verdict]) -> Proved | None:
    """Whether the partial derivatives of an element in all entries are within the bound; `some` decides whether the loss
    has any Lipschitz constant."""
    declared = ctx.program.input(entry)
    if not isinstance(bound, Const) or isinstance(bound.value, str) or declared is None or declared.kind == "unit":
        return None
    if not ctx.is_box or ctx.cuts_through(entry) or ctx.symbolic(entry):
        return None
    try:
        derived = gradient(of_values(ctx.program), target, (entry,))
    except (ValueError, NotImplementedError, KeyError):
        return None
    # of one element: the cotangents are 0 but at its place, where they are 1
    assume = {**ctx.assume, f"{target}'": Enclosure(0.0, 1.0)}
    slopes = next((o.tensor for o in derived.outputs if o.name == f"d {entry}"), None)
    if slopes is None:
        return None
    box = _split(Ranges(derived, assume, interior=frozenset((entry,))), slopes)
    if box is None or box.nan or not box.bounded or max(abs(box.lo), abs(box.hi)) > bound.value:
        return None
    first = some()
    if not isinstance(first, Proved):
        return None
    steps = (*first.steps, Step("enclosure of the gradient", f"d {entry}", f"each entry in {box}"))
    return Proved("bounded partial derivatives", steps)


_DEEPEST = 6  # conditions that are told apart in turn


def _split(ranges: Ranges, name: str) -> Enclosure | None:
    """The elements of a tensor, by cases of the conditions in it: terms of a sum may exclude each other."""
    box, d = ranges.tensor(name), ranges.program.definition(name)
    if d is None or d.head != "map" or d.support is not TRUE:
        return box
    try:
        body = inline(ranges.program, d.body)
    except NotScalar:
        return box
    found = _by_cases(ranges.body_scope(d).reading(body), body, _DEEPEST)
    return box if found is None or (box.bounded and not box.nan and found.hi - found.lo >= box.hi - box.lo) else found


def _by_cases(scope: Scope, body: Scalar, depth: int) -> Enclosure | None:
    """The body's enclosure, in each case of what it branches on; None where no case can be."""
    condition = next((c for c in _conditions(body) if truth(scope[c]) is None), None) if depth else None
    if condition is None:
        return scope[body]
    found: Enclosure | None = None
    for holds in (True, False):
        inner = scope.under(condition, holds)
        box = None if inner is None else _by_cases(inner, body, depth - 1)
        found = box if found is None else found if box is None else hull(found, box)
    return found


def _conditions(body: Scalar) -> Iterator[Scalar]:
    """What the body branches on, in parts of conjunctions and the like."""
    for n in postorder(body):
        if isinstance(n, Select):
            for c in postorder(n.condition):
                if c.dtype is BOOL and not isinstance(c, (And, Or, Not, Const)):
                    yield c


__all__ = ["lipschitz"]
