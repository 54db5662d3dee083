"""What elements of one entry have that is told by the order of their derivative far out (`orders`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.coverings import Curve, text
from lossdsl.certificate.germs import ONE, Power
from lossdsl.certificate.orders import Orders
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.slopes import Slopes
from lossdsl.ir.nodes import REAL, postorder
from lossdsl.verify.enclosure import INF


def falling(curve: Curve) -> list[list[str]]:
    """What the derivative of a curve is at most on either side, for each choice of two-valued numbers. Raises Stuck unless it
    goes to 0."""
    if (curve.domain.lo, curve.domain.hi) != (-INF, INF):
        raise Stuck("the input does not go to infinity on both sides")
    return _far_out(curve, (1, -1), lambda high: high < ONE)


def _far_out(curve: Curve, sides: Sequence[int], accept: Callable[[Power], bool]) -> list[list[str]]:
    """What the derivative is at most on the sides. Raises Stuck unless that is accepted."""
    lines: list[list[str]] = []
    for box, case in curve.everywhere():
        curve.slope(case)  # or Stuck
        fixed = [n for n in postorder(curve.variable) if n.dtype is REAL and not curve.rules.moves(n)]
        if not all(case[n].finite for n in fixed):
            raise Stuck("the variable may be infinite")
        for side in sides:
            _, slope = Orders(curve, case, side).of(curve.body)
            if slope.high is not None and not accept(slope.high):
                raise Stuck(f"the derivative is of the order {slope.high}")
            lines.append(["up" if side > 0 else "down", *map(text, box.others), str(slope.high or 0)])
    return lines


def of_slopes(q: Question) -> list[list[str]]:
    """An element of one entry that is Lipschitz on each bounded set, by composition, and whose derivative is bounded far out
    on each side on which its domain has no end: it is Lipschitz, by the mean value theorem on each of the parts that the line
    is of, for each value of all else. A sum is, if its terms are, each of which has an entry of its own. Raises Stuck."""
    if q.bound is not None:
        raise Stuck("orders tell no constant")
    bounds, curve = Bounds(q.program, q.assume, moved=frozenset(q.inputs)), Curve(q, terms=True)
    way = Slopes(bounds, q.inputs, near=True).lipschitz(q.of)
    sides = [side for side, end in ((1, curve.domain.hi), (-1, curve.domain.lo)) if abs(end) == INF]
    return [way, *_far_out(curve, sides, lambda high: high <= ONE)]


__all__ = ["falling", "of_slopes"]
