"""Counterexamples to bounds of a slope or a second derivative, where a normal form says that there is one.

The form's leaves are taken to be free; what is found is a candidate, certified by enclosures of the loss itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice

from lossdsl.ir.nodes import Param, Read, Scalar
from lossdsl.verify.algebra import TooLarge
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.pieces import NotScalar, View
from lossdsl.verify.points import Point, within
from lossdsl.verify.refute import points, solve
from lossdsl.verify.scalar import Stuck, gaps, joins, smooth_pieces
from lossdsl.verify.signs import counterexample

_STEPS = tuple(Fraction(1, 8**k) for k in range(6))


def pairs(
    ctx: Context, target: str, cases: Sequence[View], lower: Scalar | None, upper: Scalar | None, order: int
) -> Iterator[tuple[Point, Point]]:
    """Points close to each other, around one where the derivative of that order seems to be out of the bounds."""
    for view in cases:
        for leaves in _violations(ctx, view, lower, upper, order):
            middle = _point(ctx, target, view, leaves)
            if middle is None:
                continue
            name = view.entry.tensor
            box = ctx.ranges((name,)).input(name)
            for step in _STEPS:
                ends = [
                    middle.with_inputs({name: {p: v + s * step for p, v in middle.inputs[name].items()}})
                    for s in (-1, 1)
                ]
                if all(within(v, box) for p in ends for v in p.inputs[name].values()) and all(map(ctx.admits, ends)):
                    yield ends[0], ends[1]


def _violations(
    ctx: Context, view: View, lower: Scalar | None, upper: Scalar | None, order: int
) -> Iterator[dict[Scalar, Fraction]]:
    try:
        pieces = smooth_pieces(view)
        for smooth in pieces:
            for _, _, gap, given in gaps(view, smooth, lower, upper, order):
                found = counterexample(smooth.field, gap, given, ctx.budget)
                if found is not None:
                    yield found
        for join in joins(view, pieces, ctx.budget, 0) if order == 2 else ():
            if join.point.constant is not None:  # the slope may jump there
                yield {view.variable: join.point.constant}
    except (Stuck, TooLarge, NotScalar):
        return


def _point(ctx: Context, target: str, view: View, leaves: Mapping[Scalar, Fraction]) -> Point | None:
    """An admissible point at which the leaves of the form have these values, all entries of an input the same."""
    base = next(islice(points(ctx, 16, (view.entry.tensor,)), 1), None)
    if base is None:
        return None
    point = Point(base.extents, dict(base.parameters), dict(base.inputs))
    given = {**{n: c.value for n, c in view.case if isinstance(c.value, Fraction)}, **leaves}
    for leaf, value in given.items():
        if isinstance(leaf, Param):
            point.parameters[leaf.name] = value
        elif isinstance(leaf, Read) and leaf.tensor in point.inputs:
            point.inputs[leaf.tensor] = dict.fromkeys(point.inputs[leaf.tensor], value)
        elif leaf is not view.variable:
            return None
    if view.variable in leaves and view.variable is not view.entry:
        end = float(leaves[view.variable])
        entry = solve(ctx, view, Enclosure(end, end), point, target)
        if entry is None:
            return None
        point.inputs[view.entry.tensor] = dict.fromkeys(point.inputs[view.entry.tensor], entry)
    return point if ctx.admits(point) else None


__all__ = ["pairs"]
