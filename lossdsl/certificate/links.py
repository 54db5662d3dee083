"""Proper losses of a label of two values, and of any real number as the prediction.

Let l1 and l0 be the losses of the positive and the negative label, differentiable but at single places, where they are
continuous. With the probability p of the positive one, the slope of the expected loss at v is (l0' - l1')(v) (q(v) - p) where
q = l0' / (l0' - l1'). If l0' > l1' and q strictly rises, the prediction with q(v) = p is the only best one (Reid and
Williamson, 2010, theorem 1 and corollary 12).

with a link      q is the link: l1' q + l0' (1 - q) is 0, as a ratio of exponentials
without          l1 and l0 are C1, so that q is continuous; where q is not 0 or 1 throughout, it strictly rises, as
                 l0' l1'' - l0'' l1' is positive; and it comes to 0 and to 1, so that it takes each p just once
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lossdsl.certificate.boxes import of_smoothness
from lossdsl.certificate.coverings import Box, Curve, Leaf, text
from lossdsl.certificate.decisions import TwoLosses, two_losses
from lossdsl.certificate.exponentials import ONE, slopes
from lossdsl.certificate.germs import ONE as UNIT
from lossdsl.certificate.orders import Orders
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import Apply, Scalar
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

Trace = list[list[str]]


def of_proper(q: Question) -> Trace:
    """Strictly proper. Raises Stuck."""
    two = two_losses(q)
    return [two.line, *(_without(two) if q.link is None else _with(two, q.link))]


def _told(leaves: Sequence[Leaf]) -> Trace:
    return [[*(text(side) for side in leaf.box.sides), text(leaf.found)] for leaf in leaves]


# ------------------------------------------------------------------------------------------------ with a link


def _with(two: TwoLosses, link: Scalar) -> Trace:
    if set(link.tensors) != {two.prediction.name}:
        raise Stuck("a link of more than the prediction")
    one, zero = two.bodies
    trace, curves = Trace(), [two.curve(Apply("sub", (zero, one))), two.curve(link)]
    up, down = (slopes(two.curve(body).body, two.entry).slope for body in (one, zero))
    share = slopes(curves[1].body, two.entry).value
    if share is None or not (up * share + down * (ONE - share)).zero:
        raise Stuck("the expected loss is not stationary at the probability")
    trace += [["slopes", str(up), str(down)], ["link", str(share)]]
    whole = curves[1].whole()[curves[1].body]
    if not whole.finite or whole.lo < 0 or whole.hi > 1:
        raise Stuck("a link that is no probability")
    for curve in curves:
        leaves = curve.covering(1, lambda box: box.positive)
        trace += [*_told(leaves), *curve.joined(leaves, 0)]
    return trace


# --------------------------------------------------------------------------------------------- without a link


def _without(two: TwoLosses) -> Trace:
    trace = Trace()
    for asked in (two.rises, two.falls):
        trace += of_smoothness(replace(asked, property="smooth", order=1))
    curve = two.curve(Apply("add", two.bodies))
    leaves = curve.covered(lambda box: _turning(curve, box))
    _check_joints(curve, leaves)
    for side in (1, -1):
        trace.append(_far(two, curve, leaves, side))
    return [*_told(leaves), *trace]


def _turning(curve: Curve, box: Box) -> Enclosure | None:
    """How fast q rises on a box, times what is positive; 0 where it is 0 or 1 throughout."""
    (_, a, b), (_, c, d) = ((t[0], t[1], e.mul(t[2], _TWO)) for t in curve.terms(box, 3, curve.body.children))
    if not e.sub(c, a).positive:
        return None
    if a.zero or c.zero:
        return Enclosure(0.0, 0.0)
    turn = e.sub(e.mul(c, b), e.mul(d, a))
    return turn if turn.positive else None


_TWO = Enclosure(2.0, 2.0)


def _check_joints(curve: Curve, leaves: Sequence[Leaf]) -> None:
    """Raise Stuck unless l0' > l1' where two boxes meet, too: both slopes are continuous there."""
    for leaf in leaves:
        at = leaf.box.over.hi
        if at < INF:
            try:
                (_, a), (_, c) = curve.terms(leaf.box, 2, curve.body.children, at)
            except (Undecided, ZeroDivisionError, OverflowError):
                raise Stuck(f"the slopes at {at}") from None
            if not e.sub(c, a).positive:
                raise Stuck(f"the slopes at {at}")


def _far(two: TwoLosses, curve: Curve, leaves: Sequence[Leaf], side: int) -> list[str]:
    """Raise Stuck unless q comes to 1 far up, or to 0 far down: the slope of one loss goes to 0, and that of the other does
    not; or it is 0 there."""
    ends = [leaf for leaf in leaves if (leaf.box.over.hi if side > 0 else -leaf.box.over.lo) == INF]
    own, other = (0, 1) if side > 0 else (1, 0)
    near = [curve.terms(leaf.box, 3, curve.body.children) for leaf in ends]
    if all(terms[own][1].zero for terms in near):
        return ["far", str(side), "0"]
    if not all(_stays(terms[other], side) for terms in near):
        raise Stuck("a slope that may go to 0 far out")
    return ["far", str(side), *_orders(two.curve(two.bodies[own]), side)]


def _stays(terms: Sequence[Enclosure], side: int) -> bool:
    """Whether a slope stays away from 0 far out, positive far up and negative far down: it does from a number on, or does not
    come closer to it."""
    slope, bend = terms[1], terms[2]
    away = slope.lo > 0 if side > 0 else slope.hi < 0
    return away or ((slope.positive if side > 0 else slope.negative) and bend.nonnegative)


def _orders(curve: Curve, side: int) -> Iterator[str]:
    for _, case in curve.everywhere():
        _, slope = Orders(curve, case, side).of(curve.body)
        if slope.high is not None and slope.high >= UNIT:
            raise Stuck(f"the slope is of the order {slope.high}")
        yield str(slope.high or 0)


__all__ = ["of_proper"]
