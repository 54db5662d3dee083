"""Proper and calibrated losses of a label with two values.

Proper, with a link q (a probability prediction is its own): where l1'(v) q(v) + l0'(v) (1 - q(v)) = 0, the derivative
of the expected loss is a positive multiple of l0'(v) q'(v) times q(v) - eta, so that l0' q' >= 0 makes the prediction
with q(v) = eta a minimiser, and > 0 the only one (Shuford, Albert and Massengill, 1966; Gneiting and Raftery, 2007;
Reid and Williamson, 2010). Without a link, q = l0' / (l0' - l1') has to be one: the expected loss has the slope (l0' - l1') (q - eta), so that
l0' > l1' and a continuous, strictly increasing q that comes from 0 or below and goes to 1 or beyond give each eta the
only minimiser q^-1(eta).

Calibrated: for eta above (below) 1/2, the least expected loss over predictions up to (from) the threshold is not the
least of all.

    convex losses   iff, at the threshold, l1' < 0, l1' + l0' <= 0 from the right, l0' > 0, l1' + l0' >= 0 from the left:
                    the slope of the expected loss there, which is linear in eta (for one margin loss phi that is
                    phi'(0) < 0: Bartlett, Jordan and McAuliffe, 2006)
    margin losses   l0 the mirror image of l1 =: phi, continuous, bounded from below, nowhere increasing, phi'(0+) < 0,
                    phi'(0+) <= phi'(0-). Then phi(-a) - phi(a) > 0 for a > 0 and does not fall, so that a sequence of
                    wrong predictions whose expected loss goes to the infimum goes to 0, where the slope is not 0
    strictly proper predictions that are probabilities

All claims are about probabilities strictly between 0 and 1, and by continuity the ends where the loss is finite.
"""

from __future__ import annotations

from fractions import Fraction

from lossdsl.ir.nodes import Apply, Const, Read, Scalar
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import properties
from lossdsl.verify.algebra import Form, TooLarge, minus, plus, power, times
from lossdsl.verify.labels import NoProblem, Problem
from lossdsl.verify.risk import (
    Branch,
    Side,
    beside,
    branches,
    continuous,
    outer,
    reduced,
    risk,
    vanishes,
    weighted_views,
)
from lossdsl.verify.scalar import Stuck, smooth_pieces
from lossdsl.verify.signs import Budget, infeasible, prove
from lossdsl.verify.verdict import Proved, Step, Unknown

_FAR = 16
_ENGINES = ("expected loss, piece by piece",)
_METHOD = "expected loss, piece by piece"


def proper(problem: Problem, link: Scalar | None, *, strict: bool) -> Proved | Unknown:
    """Whether the probability of the positive label minimises the expected loss."""
    try:
        if link is None and problem.probability:
            link = _prediction(problem)
        if link is not None:
            return _proper_with(problem, link, strict)
        if not problem.whole_line:
            return Unknown(f"{problem.prediction.name} is neither a probability nor any real number", _ENGINES)
        return _proper_without(problem)
    except (Stuck, NoProblem) as reason:
        return Unknown(str(reason), _ENGINES)
    except TooLarge:
        return Unknown("the normal form of the expected loss is too large", _ENGINES)


def _prediction(problem: Problem) -> Read:
    """The prediction of the element."""
    name = problem.prediction.name
    found = {v.entry for v in risk(problem)}
    if len(found) != 1:
        raise NoProblem(f"{name} is read at {len(found)} places")
    return next(iter(found))


def _proper_with(problem: Problem, link: Scalar, strict: bool) -> Proved | Unknown:
    budget = problem.ctx.budget
    steps: list[Step] = []
    direction = 0
    for view in risk(problem, link):
        for b in branches(view, budget):
            one, zero, q = b.slope(b.positive), b.slope(b.negative), b.link
            if not reduced(b.field, plus(times(one, q), times(zero, b.one_minus(q)))).zero:
                return Unknown(f"the expected loss of {b.shown} is not stationary at the probability", _ENGINES)
            if b.holds(q, budget, strict=True) is None or b.holds(b.one_minus(q), budget, strict=True) is None:
                return Unknown(f"whether the link of {b.shown} is a probability", _ENGINES)
            steps.append(Step("exact normal form", b.shown, "stationary where the link is the probability"))
            rise = b.slope(q)
            signs = [s for s in (1, -1) if b.holds(_scaled(b, rise, s), budget, strict=True) is not None]
            if not signs or direction not in (0, signs[0]):
                return Unknown(f"whether the link of {b.shown} is strictly monotone", _ENGINES)
            direction = signs[0]
            how = b.holds(reduced(b.field, _scaled(b, zero, direction)), budget, strict=strict)
            if how is None:
                return Unknown(f"the sign of the weight of {b.shown}", _ENGINES)
            word = "a minimum, the only one" if strict else "a minimum"
            steps.append(Step(how, b.shown, f"the stationary point is {word}"))
        jump = continuous(view, budget)
        if jump is not None:
            return Unknown(f"jump at {jump}", _ENGINES)
    return Proved(_METHOD, tuple(steps)) if steps else Unknown("no piece", _ENGINES)


def _scaled(b: Branch, f: Form, by: int) -> Form:
    return times(f, b.field.number(by))


def _proper_without(problem: Problem) -> Proved | Unknown:
    """For some strictly monotone link; then the minimiser is unique, too."""
    blockers = []
    for sense in (1, -1):
        steps: list[Step] = []
        blocked = _own_link(problem, sense, steps)
        if blocked is None:
            return Proved(_METHOD, tuple(steps))
        blockers.append(blocked)
    return Unknown(blockers[0], _ENGINES)


def _own_link(problem: Problem, sense: int, steps: list[Step]) -> str | None:
    """What stands in the way of the link l0' / (l0' - l1'), rising with the prediction (`sense` 1) or falling."""
    budget = problem.ctx.budget
    for view in risk(problem):
        pieces = branches(view, budget)
        for b in pieces:
            one, zero = (_scaled(b, b.slope(f), sense) for f in (b.positive, b.negative))
            total = plus(zero, minus(one))
            if b.holds(total, budget, strict=True) is None:
                return f"whether {b.shown} prefers a prediction for every probability"
            link = times(zero, power(total, -1))
            constant = one.zero or zero.zero  # the link is 1 or 0 on this piece
            how = "constant, 0 or 1" if constant else b.holds(_scaled(b, b.slope(link), sense), budget, strict=True)
            if how is None:
                return f"whether the link of {b.shown} is strictly monotone"
            steps.append(Step(how, b.shown, "the stationary probability is a strictly monotone link"))
        jump = continuous(view, budget, 1)
        if jump is not None:
            return f"jump of the slope at {jump}"
        for direction in (1, -1):
            for b, tail in outer(pieces, direction):
                one, zero = (_scaled(b, b.slope(f), sense) for f in (b.positive, b.negative))
                short = minus(one) if direction == sense else zero  # what the link lacks to 1, or has above 0
                share = times(short, power(plus(zero, minus(one)), -1))
                if not vanishes(tail, b.field.form(view.variable), share) and not _nonpositive_far(
                    b, share, direction, budget
                ):
                    return f"the limit of the link of {b.shown} far out"
        steps.append(Step("growth along the tails", view.shown(view.variable), "the link takes every probability"))
    return None


def _nonpositive_far(b: Branch, f: Form, direction: int, budget: Budget) -> bool:
    """Whether the form is <= 0 for all predictions beyond a certain one."""
    beyond = plus(times(b.prediction, b.field.number(direction)), b.field.number(-_FAR))
    return prove(b.field, minus(f), [*b.smooth.constraints, beyond], budget) is not None


# ------------------------------------------------------------------------------------------------- calibration


def calibrated(problem: Problem) -> Proved | Unknown:
    """Whether a prediction on the wrong side of the threshold is never as good as the best."""
    if problem.whole_line:
        threshold = Fraction(0)
    elif problem.probability:
        threshold = Fraction(1, 2)
    else:
        return Unknown(f"{problem.prediction.name} has no threshold: it is neither a probability nor any real number")
    try:
        ctx = problem.ctx
        steps: list[Step] = []
        if _margin(problem, threshold, steps, quick=True) is None:
            return Proved("a margin loss that falls through the threshold", tuple(steps))
        convex = properties.convexity(ctx, problem.target, (problem.prediction.name,))
        jumps = ctx.jumps_at_ends(frozenset({problem.prediction.name}))  # convex inside of its domain
        if isinstance(convex, Proved) and not jumps:
            steps = list(convex.steps)
            blocked = _convex(problem, threshold, steps)
            return Proved("slopes at the threshold", tuple(steps)) if blocked is None else Unknown(blocked, _ENGINES)
        steps = []
        blocked = _margin(problem, threshold, steps)
        if blocked is None:
            return Proved("a margin loss that falls through the threshold", tuple(steps))
        if problem.probability:
            strict = proper(problem, None, strict=True)
            if isinstance(strict, Proved):
                last = Step("strictly proper", problem.target, "calibrated")
                return Proved(strict.method, (*strict.steps, last))
        return Unknown(blocked, _ENGINES)
    except (Stuck, NoProblem) as reason:
        return Unknown(str(reason), _ENGINES)
    except TooLarge:
        return Unknown("the normal form of the expected loss is too large", _ENGINES)


def _convex(problem: Problem, threshold: Fraction, steps: list[Step]) -> str | None:
    """What stands in the way of the slopes of convex losses at the threshold."""
    budget = problem.ctx.budget
    for view in risk(problem):
        met = set()
        for b in branches(view, budget):
            for direction, side in _sides(b, threshold, problem):
                met.add(direction)
                falls = minus(side.positive) if direction > 0 else side.negative
                both = plus(side.positive, side.negative)
                how = side.holds(falls, budget, strict=True)
                if how is None or side.holds(minus(both) if direction > 0 else both, budget) is None:
                    return f"the slope of {b.shown} {'right' if direction > 0 else 'left'} of {threshold}"
                steps.append(Step(how, b.shown, f"falls to the likelier label at {threshold}"))
        if met != {1, -1}:
            return f"no piece at {threshold}"
    return None


def _sides(b: Branch, threshold: Fraction, problem: Problem) -> list[tuple[int, Side]]:
    found = [(d, beside(b, threshold, d, problem.ctx.budget)) for d in (1, -1)]
    return [(d, side) for d, side in found if side is not None]


def _margin(problem: Problem, threshold: Fraction, steps: list[Step], *, quick: bool = False) -> str | None:
    """What stands in the way of the sufficient condition for margin losses, convex or not; `quick`: bounds by enclosures
    alone."""
    ctx, budget = problem.ctx, problem.ctx.budget
    patient = Budget(budget.seconds, budget.boxes, 4 * budget.smt_milliseconds)  # one question decides it
    low = ctx.ranges((problem.prediction.name,)).tensor(problem.target)
    if low.nan or low.lo == float("-inf"):
        if quick or not isinstance(properties.nonnegative(ctx, problem.target), Proved):
            return f"whether {problem.target} is bounded from below"
    mirror = _mirrored(problem, threshold)
    if mirror is not None:
        return mirror
    steps.append(Step("exact normal form", problem.target, f"the two losses mirror each other at {threshold}"))
    for view in risk(problem):
        pieces = branches(view, budget)
        for b in pieces:
            how = b.holds(minus(b.slope(b.positive)), patient)
            if how is None:
                return f"whether the loss of the positive label falls: {b.shown}"
            steps.append(Step(how, b.shown, "the loss of the positive label does not rise"))
        jump = continuous(view, budget)
        if jump is not None:
            return f"jump at {jump}"
        right = [s for b in pieces if (s := beside(b, threshold, 1, budget)) is not None]
        left = [s for b in pieces if (s := beside(b, threshold, -1, budget)) is not None]
        if not right or not left:
            return f"no piece at {threshold}"
        for s in right:
            if s.holds(minus(s.positive), budget, strict=True) is None:
                return f"the slope of {s.branch.shown} at {threshold}"
            if any(s.branch is not t.branch for t in left):
                return f"whether the slope of {s.branch.shown} turns at {threshold}"
            steps.append(Step("slope at the threshold", s.branch.shown, f"falls at {threshold}"))
    return None


def _mirrored(problem: Problem, threshold: Fraction) -> str | None:
    """None if l0(v) = l1(2 threshold - v) for every v."""
    assert problem.values is not None
    low, high = problem.values
    entry = _prediction(problem)
    image = Apply("sub", (Const(2 * threshold), entry))
    other = substitute(problem.at(high), {entry: image})
    for view in weighted_views(problem, Apply("sub", (problem.at(low), other))):
        for smooth in smooth_pieces(view):
            if not smooth.value.zero and not infeasible(smooth.field, smooth.constraints, problem.ctx.budget):
                return f"the losses of the two labels are no mirror images: {view.shown(smooth.piece.body)}"
    return None


# ----------------------------------------------------------------------------------------------- label noise


def noise_symmetric(problem: Problem) -> Proved | Unknown:
    """Whether the losses of the two labels add up to the same whatever the prediction is."""
    assert problem.values is not None
    steps: list[Step] = []
    try:
        low, high = problem.values
        for view in weighted_views(problem, Apply("add", (problem.at(low), problem.at(high)))):
            for smooth in smooth_pieces(view):
                shown = view.shown(smooth.piece.body)
                if not smooth.order(1).zero and not infeasible(smooth.field, smooth.constraints, problem.ctx.budget):
                    return Unknown(f"the sum over the labels varies: {shown}", ("exact normal form",))
                steps.append(Step("exact normal form", shown, "constant in the prediction"))
            jump = continuous(view, problem.ctx.budget)
            if jump is not None:
                return Unknown(f"jump at {jump}", ("exact normal form",))
    except (Stuck, NoProblem) as reason:
        return Unknown(str(reason), ("exact normal form",))
    except TooLarge:
        return Unknown("the normal form of the sum over the labels is too large", ("exact normal form",))
    return Proved("exact normal form", tuple(steps)) if steps else Unknown("no piece", ("exact normal form",))


__all__ = ["calibrated", "noise_symmetric", "proper"]
