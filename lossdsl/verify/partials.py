"""Lipschitz constants in l1 from partial derivatives: a loss that is Lipschitz at all, and whose partial derivatives are
within [-L, L] almost everywhere, is Lipschitz with L in l1 on a convex domain.

By Rademacher's theorem it is differentiable almost everywhere; it is the integral of its derivative along almost every
segment, and |<g, x - y>| <= max |g_i| * |x - y|_1 (Hölder); by continuity that holds for all segments (Clarke, Optimization
and Nonsmooth Analysis, 1983, 2.3.7). The partial derivatives are those of the gradient program, without what a file only
declares of derivatives; they agree with the loss almost everywhere (Bolte and Pauwels, arXiv 1909.10300).
"""

from __future__ import annotations

from collections.abc import Callable

from lossdsl.ir.nodes import Const, Scalar
from lossdsl.transform.gradient import gradient
from lossdsl.verify.context import Context
from lossdsl.verify.continuity import of_values
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.ranges import Ranges
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
    box = Ranges(derived, assume, interior=frozenset((entry,))).tensor(slopes)
    if box.nan or not box.bounded or max(abs(box.lo), abs(box.hi)) > bound.value:
        return None
    first = some()
    if not isinstance(first, Proved):
        return None
    steps = (*first.steps, Step("enclosure of the gradient", f"d {entry}", f"each entry in {box}"))
    return Proved("bounded partial derivatives", steps)


__all__ = ["lipschitz"]
