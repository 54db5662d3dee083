"""Counterexamples to claims of decision theory, certified: a prediction that is better than the one that should be best.

An expected loss is computed from enclosures of the losses at exact predictions. That a loss is not calibrated needs more
than points: one wrong prediction that no right one beats, which is shown over the whole of the right side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from lossdsl.ir.nodes import REAL, Apply, Const, Index, Param, Read, Scalar, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify import properties, symmetry
from lossdsl.verify.algebra import TooLarge, plus, times
from lossdsl.verify.boxes import At
from lossdsl.verify.classes import ROW, Rows
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.labels import NoProblem, Problem, Sample
from lossdsl.verify.operations import transfer
from lossdsl.verify.pieces import NotScalar, View, fold, inline
from lossdsl.verify.points import Place, Point, within
from lossdsl.verify.ranges import Scope
from lossdsl.verify.refute import _points
from lossdsl.verify.risk import Branch, beside, branches, expected, weighted_views
from lossdsl.verify.scalar import Stuck, smooth_pieces
from lossdsl.verify.signs import prove
from lossdsl.verify.verdict import Proved, Refuted, Witness

Prediction = dict[Place, Fraction]
_INSIDE = [Fraction(k, 16) for k in range(1, 16)]
_LINE = [Fraction(k, 4) for k in (0, 1, -1, 2, -2, 3, -3, 4, -4, 6, -6, 8, -8, 16, -16, 40, -40)]
_SHARES = [Fraction(k, 20) for k in (15, 12, 19, 11, 5, 8, 1, 9)]
_ONE = Enclosure(1.0, 1.0)
_EXP = Apply("exp", (Param("$x", REAL),))


def samples(problem: Problem, seed: int) -> Iterator[Sample]:
    """Admissible points with at least two labels, at which the element is counted."""
    for point in _points(problem.ctx, seed, (problem.prediction.name,)):
        sample = Sample(problem, point)
        if sample.count >= 2 and sample.counted:
            yield sample


def _predictions(sample: Sample, number: int) -> list[Prediction]:
    """Some predictions: on a grid where the element reads one number, else as inputs are sampled."""
    problem, ctx = sample.problem, sample.problem.ctx
    name = problem.prediction.name
    if problem.classes is None:
        box = ctx.ranges((name,)).input(name)
        grid = _INSIDE if problem.probability else _LINE
        return [sample.everywhere(v) for v in grid if within(v, box)]
    sampler = ctx.sampler(9, (name,))
    point, spreads = sample.point, (2.0, 8.0, 0.5)
    found = [
        sampler.entries(problem.prediction, point.extents, spreads[k % 3], point.parameters) for k in range(number)
    ]
    return [p for p in found if p is not None]


# ---------------------------------------------------------------------------------------------------- properness


def improper(problem: Problem, link: Scalar | None, *, strict: bool) -> Refuted | None:
    """A probability at which another prediction than its own is better (as good, if `strict`)."""
    logit = None
    if link is None and not _is_probability(problem):
        logit = _logit(problem)
        if logit is None:
            return _standing(problem)
    for sample in itertools.islice(samples(problem, 21), 12):
        known: list[tuple[Prediction, list[Enclosure], list[Enclosure]]] = []
        predictions = _predictions(sample, 10)
        if logit is not None:  # a loss may ask for too sharp or too flat a softmax
            scaled = [{place: k * v for place, v in p.items()} for p in predictions for k in (2, Fraction(1, 2))]
            box = problem.domain
            predictions += [p for p in scaled[:8] if all(within(v, box) for v in p.values())]
        for prediction in predictions:
            losses = sample.losses(prediction)
            shares = _shares(sample, prediction, link) if logit is None else _softmax(sample, prediction, logit)
            if losses is not None and shares is not None:
                known.append((prediction, losses, shares))
        for (best, losses, shares), (other, others, theirs) in itertools.permutations(known, 2):
            gap = _expected(shares, losses, others)
            distinct = any(a.hi < b.lo or b.hi < a.lo for a, b in zip(shares, theirs, strict=True))
            if gap.positive or (strict and distinct and gap.nonnegative):
                word = "lower" if gap.positive else "no higher"
                text = (
                    f"with the probabilities that the first point predicts, the expected loss of the second is {word}"
                )
                witness = Witness((sample.shown(best), sample.shown(other)), f"{text}: the difference is in {gap}")
                return Refuted("expected loss of two predictions", witness)
    return _sloping(problem, link) if problem.values is not None else None


def has_probability(problem: Problem) -> bool:
    """Whether the prediction is a probability or, without a link, stands for one: scores of classes that are read through
    their softmax, and those of a label of two values, for which some link may do."""
    return problem.values is not None or _is_probability(problem) or _logit(problem) is not None


def _is_probability(problem: Problem) -> bool:
    return problem.probability or problem.prediction.kind == "simplex"


def _logit(problem: Problem) -> Scalar | None:
    """The logit of the class `$c`, if the element depends on the scores through their softmax alone: it takes one, and is
    invariant under a shift of the scores or reads nothing else of them."""
    if problem.classes is None:
        return None
    try:
        rows = Rows(problem)
        body = rows.rewritten(problem.element)
    except (NoProblem, NotScalar):
        return None
    if rows.softmax is None:
        return None
    name, own = problem.prediction.name, {*body.tensors}
    if own & rows.varying <= {ROW}:
        return rows.softmax
    axis = problem.prediction.axes[rows.along]
    invariant = symmetry.decide(problem.ctx, problem.target, "shift", (name,), (axis,)) if axis else None
    return rows.softmax if isinstance(invariant, Proved) else None


def _softmax(sample: Sample, prediction: Prediction, logit: Scalar) -> list[Enclosure] | None:
    """The probabilities of the classes."""
    logits = [sample.scalar(logit, prediction, **{"$c": k}) for k in range(sample.count)]
    found = []
    for a in logits:
        total = Enclosure(0.0, 0.0)
        for b in logits:
            if a is None or b is None:
                return None
            total = e.add(total, _ONE if a is b else transfer(_EXP, [e.sub(b, a)]))
        found.append(e.div(_ONE, total))
    return found


def _standing(problem: Problem) -> Refuted | None:
    """Two probabilities at which one and the same score is the only minimiser: no strictly monotone link gives both."""
    if problem.values is None or not problem.whole_line:
        return None
    low, high = Fraction(3, 5), Fraction(7, 10)
    for sample in itertools.islice(samples(problem, 26), 4):
        known = {v: losses for v in _LINE if (losses := sample.losses(sample.everywhere(v))) is not None}
        best = []
        for eta in (low, high):
            risk = {v: float(eta) * _middle(known[v][1]) + float(1 - eta) * _middle(known[v][0]) for v in known}
            best.append(min(known, key=risk.__getitem__, default=None))
        v = best[0]
        if v is None or v != best[1]:
            continue
        sides = (Enclosure(float(v), INF, True, True), Enclosure(-INF, float(v), True, True))
        if all(_unbeaten(sample, eta, v, side, strict=True) for eta in (low, high) for side in sides):
            violation = f"it is the only minimiser of the expected loss for the probabilities {low} and {high}"
            return Refuted("one minimiser", Witness((sample.shown(sample.everywhere(v)),), violation))
    return None


def _sloping(problem: Problem, link: Scalar | None) -> Refuted | None:
    """A prediction at which, with the probability that it stands for, the expected loss is not stationary."""
    for sample in itertools.islice(samples(problem, 24), 4):
        try:
            views = weighted_views(problem, _marked(sample, link))
            pieces = [b for view in views for b in branches(view, problem.ctx.budget)]
        except (NoProblem, NotScalar, Stuck, TooLarge):
            continue
        for b in pieces:
            for v in _INSIDE if problem.probability else _LINE:
                try:
                    slope = _slope_at(b, v)
                except TooLarge:
                    break
                if slope is not None and slope.nonzero:
                    text = f"with the probability that the point predicts, the expected loss has a slope there: {slope}"
                    witness = Witness((sample.shown(sample.everywhere(v)),), text)
                    return Refuted("slope of the expected loss", witness)
    return None


def _marked(sample: Sample, link: Scalar | None) -> Scalar:
    """As `risk.risk`, with everything but the prediction fixed. Raises NoProblem, NotScalar."""
    problem = sample.problem
    assert problem.values is not None
    name = problem.prediction.name
    one, zero = (
        numbers(sample.point, inline(problem.ctx.program, problem.at(v)), name) for v in reversed(problem.values)
    )
    own = next((n for n in postorder(one, zero) if isinstance(n, Read) and n.tensor == name), None)
    q = numbers(sample.point, inline(problem.ctx.program, link), name) if link is not None else own
    if q is None:
        raise NoProblem("no prediction")
    return expected(one, zero, q)


def _slope_at(b: Branch, v: Fraction) -> Enclosure | None:
    """The slope of the expected loss at the prediction, if that is inside of the piece and stands for a probability."""
    field = b.field
    there = field.form(substitute(b.view.inner, {b.view.entry: Const(v)})).constant
    if there is None:
        return None
    # before the enclosures: derivatives bring generators of their own
    slope = plus(times(b.slope(b.positive), b.link), times(b.slope(b.negative), b.one_minus(b.link)))
    at = At(field, {b.smooth.slot: e.exact(there)})
    q = at.value(b.link)
    inside = all(at.value(c).positive for c in b.smooth.constraints)
    if not inside or not q.positive or not q.hi < 1:
        return None
    return at.value(slope)


def _shares(sample: Sample, prediction: Prediction, link: Scalar | None) -> list[Enclosure] | None:
    """The probabilities of the labels that a prediction stands for, if all of them are certainly positive."""
    problem = sample.problem
    name = problem.prediction.name
    if problem.classes is None:
        own = Read(name, tuple(Const(0, i.dtype) for i in sample.formals), REAL)
        if link is None and len(set(prediction.values())) == 1:
            q: Enclosure | None = e.exact(next(iter(prediction.values())))
        else:
            q = sample.scalar(link if link is not None else own, prediction)
        shares = None if q is None else [e.sub(_ONE, q), q]
    elif link is None:
        [along] = problem.prediction.over
        row = sorted(p for p in prediction if all(v == 0 for k, v in enumerate(p) if k != along))
        shares = [e.exact(prediction[p]) for p in row] if len(row) == sample.count else None
    else:
        axis = [i for i in postorder(link) if isinstance(i, Index) and i.dim == problem.classes]
        if len(axis) != 1:
            return None
        found = [sample.scalar(link, prediction, **{axis[0].name: k}) for k in range(sample.count)]
        shares = None if any(v is None for v in found) else [v for v in found if v is not None]
    return shares if shares is not None and all(v.positive and v.hi < 1 for v in shares) else None


def _expected(shares: list[Enclosure], losses: list[Enclosure], others: list[Enclosure]) -> Enclosure:
    """The expected loss of the first prediction less that of the second."""
    total = Enclosure(0.0, 0.0)
    for share, a, b in zip(shares, losses, others, strict=True):
        total = e.add(total, e.mul(share, e.sub(a, b)))
    return total


# --------------------------------------------------------------------------------------------------- label noise


def uneven(problem: Problem) -> Refuted | None:
    """Two predictions at which the sums over the labels certainly differ."""
    for sample in itertools.islice(samples(problem, 22), 12):
        first: tuple[Prediction, Enclosure] | None = None
        for prediction in _predictions(sample, 6):
            losses = sample.losses(prediction)
            if losses is None:
                continue
            total = losses[0]
            for loss in losses[1:]:
                total = e.add(total, loss)
            if first is None:
                first = prediction, total
            elif e.sub(first[1], total).nonzero:
                text = f"the losses of all labels add up to {first[1]} and to {total}"
                witness = Witness((sample.shown(first[0]), sample.shown(prediction)), text)
                return Refuted("sum over the labels at two predictions", witness)
    return None


# --------------------------------------------------------------------------------------------------- calibration


def uncalibrated(problem: Problem) -> Refuted | None:
    """A probability of the positive label at which a prediction on the wrong side is as good as all on the right."""
    if problem.classes is not None:
        return _other_on_top(problem)
    if problem.values is None or not (problem.whole_line or problem.probability):
        return None
    threshold = Fraction(0) if problem.whole_line else Fraction(1, 2)
    grid = _LINE if problem.whole_line else _INSIDE
    middle = float(threshold)
    above, below = Enclosure(middle, INF, True, True), Enclosure(-INF, middle, True, True)
    shape = properties.convexity(problem.ctx, problem.target, (problem.prediction.name,))
    for sample in itertools.islice(samples(problem, 23), 6):
        known = {v: losses for v in grid if (losses := sample.losses(sample.everywhere(v))) is not None}
        for eta in _SHARES:
            right = [v for v in known if (v > threshold if eta > Fraction(1, 2) else v < threshold)]
            wrong = [v for v in known if v not in right]
            if not right or not wrong:
                continue
            risk = {v: float(eta) * _middle(known[v][1]) + float(1 - eta) * _middle(known[v][0]) for v in known}
            least = min(wrong, key=risk.__getitem__)
            if risk[least] > min(risk[v] for v in right):
                continue
            if isinstance(shape, Proved) and _uphill(sample, eta, threshold):
                least = threshold
            elif not _out_of_reach(sample, eta, least, above if eta > Fraction(1, 2) else below) and not _unbeaten(
                sample, eta, least, above if eta > Fraction(1, 2) else below
            ):
                continue
            side = "above" if eta > Fraction(1, 2) else "below"
            violation = (
                f"with the positive label of probability {eta}, no prediction {side} {threshold} has a lower "
                f"expected loss than this one"
            )
            witness = Witness((sample.shown(sample.everywhere(least)),), violation)
            return Refuted("expected loss over one side", witness)
    return None


def _other_on_top(problem: Problem) -> Refuted | None:
    """Two classes and a probability of the first at which scores with the less likely class on top are better than equal
    ones. Where the expected loss is convex and reads the scores by their difference, all with the other on top are worse."""
    name = problem.prediction.name
    if problem.prediction.kind != "real" or not problem.whole_line:
        return None
    try:
        rows = Rows(problem)
        rows.alone()
    except NoProblem:
        return None
    axis = problem.prediction.axes[rows.along]
    for asked in (problem, replace(problem, ctx=problem.ctx.at_defaults())):
        if not axis or not isinstance(properties.convexity(asked.ctx, asked.target, (name,)), Proved):
            continue
        if not isinstance(symmetry.decide(asked.ctx, asked.target, "shift", (name,), (axis,)), Proved):
            continue
        found = (_reversed(sample, rows.along) for sample in _of_two_classes(asked))
        return next((f for f in found if f is not None), None)
    return None


def _of_two_classes(problem: Problem) -> Iterator[Sample]:
    ctx = problem.ctx
    sampler = ctx.sampler(27, (problem.prediction.name,))
    for k in range(40):
        point = sampler.point(spread=(0.5, 300.0, 40.0, 2.0)[k // 2 % 4], extent=2, defaults=k % 2 == 0)
        if point is not None and ctx.admits(point):
            sample = Sample(problem, point)
            if sample.count == 2 and sample.counted:
                yield sample


def _reversed(sample: Sample, along: int) -> Refuted | None:
    entries = sample.point.inputs[sample.problem.prediction.name]

    def ahead(v: Fraction) -> Prediction:
        """The first class by so much."""
        return {place: v if place[along] == 0 else Fraction(0) for place in entries}

    level = sample.losses(ahead(Fraction(0)))
    if level is None:
        return None
    near = [Fraction(sign, k) for k in (4, 64, 1024) for sign in (1, -1)]  # of a convex function the slope at 0 decides
    close = [Fraction(1, 2) + Fraction(sign, 100) for sign in (1, -1)]
    known = {v: losses for v in near if (losses := sample.losses(ahead(v))) is not None}
    for (v, losses), eta in itertools.product(known.items(), [*_SHARES, *close]):
        if v * (eta - Fraction(1, 2)) >= 0:
            continue
        if _expected([e.exact(eta), e.exact(1 - eta)], level, losses).positive:
            likelier, share = (0, eta) if eta > Fraction(1, 2) else (1, 1 - eta)
            violation = (
                f"with class {likelier} of probability {share}, no prediction with that class on top has a lower "
                f"expected loss than this one"
            )
            witness = Witness((sample.shown(ahead(v)),), violation)
            return Refuted("expected loss over one side, convex", witness)
    return None


def _middle(box: Enclosure) -> float:
    return box.lo / 2 + box.hi / 2


def _expectation(sample: Sample, eta: Fraction, at: Fraction | None = None) -> Scalar:
    """The expected loss at the sample as a scalar in the prediction alone, less that at a prediction. Raises NoProblem,
    NotScalar."""
    problem = sample.problem
    assert problem.values is not None
    body: Scalar = Const(0)
    for share, value in ((1 - eta, problem.values[0]), (eta, problem.values[1])):
        loss = numbers(sample.point, inline(problem.ctx.program, problem.at(value)), problem.prediction.name)
        if at is not None:
            there: dict[Scalar, Scalar] = {n: Const(at) for n in postorder(loss) if isinstance(n, Read)}
            loss = Apply("sub", (loss, substitute(loss, there)))
        body = Apply("add", (body, Apply("mul", (Const(share), loss))))
    return body


def _uphill(sample: Sample, eta: Fraction, threshold: Fraction) -> bool:
    """Whether the expected loss certainly does not fall from the threshold to the right side."""
    problem, direction = sample.problem, 1 if eta > Fraction(1, 2) else -1
    try:
        for view in weighted_views(problem, _expectation(sample, eta)):
            for smooth in smooth_pieces(view):
                branch = Branch(view, smooth, smooth.value, smooth.value, smooth.value)
                side = beside(branch, threshold, direction, problem.ctx.budget)
                if side is None:
                    continue
                outward = times(side.positive, branch.field.number(direction))
                if side.holds(outward, problem.ctx.budget) is None:
                    return False
    except (NoProblem, NotScalar, Stuck, TooLarge):
        return False
    return True


def _unbeaten(sample: Sample, eta: Fraction, at: Fraction, region: Enclosure, *, strict: bool = False) -> bool:
    """Whether the expected loss at a prediction is certainly not above (below, if `strict`) that anywhere in a region."""
    problem = sample.problem
    try:
        for view in weighted_views(problem, _expectation(sample, eta, at), region):
            for smooth in smooth_pieces(view):
                how = prove(smooth.field, smooth.value, smooth.constraints, problem.ctx.budget, strict=strict)
                if how is None:
                    return False
    except (NoProblem, NotScalar, Stuck, TooLarge):
        return False
    return True


_SPLITS = 400  # of the line, in one proof that a prediction is not reached


def _out_of_reach(sample: Sample, eta: Fraction, at: Fraction, region: Enclosure) -> bool:
    """Whether the expected loss in a region is certainly above that at a prediction, by enclosures on parts of it."""
    problem = sample.problem
    try:
        body = _expectation(sample, eta, at)
    except (NoProblem, NotScalar):
        return False
    entries = [n for n in postorder(body) if isinstance(n, Read)]
    if len(entries) != 1:
        return False
    ranges = problem.ctx.ranges((problem.prediction.name,))
    box = ranges.input(problem.prediction.name)
    low, high = max(region.lo, box.lo), min(region.hi, box.hi)
    far = [x for x in (-256.0, -16.0, 16.0, 256.0) if low < x < high]
    ends = [low, *far, high]
    waiting = [(a, b) for a, b in itertools.pairwise(ends) if a < b]
    for _ in range(_SPLITS):
        if not waiting:
            return True
        a, b = waiting.pop()
        part = Enclosure(a, b, a == -INF, b == INF)
        if Scope(ranges, frozenset(), {entries[0]: part})[body].positive:
            continue
        if b - a < 1e-6 or math.isinf(b - a):
            return False
        waiting += [(a, (a + b) / 2), ((a + b) / 2, b)]
    return False


def numbers(point: Point, body: Scalar, keep: str) -> Scalar:
    """The scalar with everything but the entries of `keep` replaced by its value at the point, first elements for all.
    Raises NoProblem where a value is not a number of the point."""
    fixed: dict[Scalar, Scalar] = {}
    for n in postorder(body):
        if isinstance(n, Param) and n.name in point.parameters:
            fixed[n] = Const(point.parameters[n.name], n.dtype)
        elif isinstance(n, Read) and n.tensor != keep:
            place = (0,) * len(n.indices)
            values = point.inputs.get(n.tensor)
            if values is None or place not in values or not all(isinstance(i, Index) for i in n.indices):
                raise NoProblem(f"{n.tensor} is no number")
            fixed[n] = Const(values[place], n.dtype)
    return substitute(body, fixed)


def fixed_view(view: View, point: Point) -> View | None:
    """The view with everything but its variable fixed at the point, as a view in that variable; None if the point is of
    another case. Raises NoProblem as `numbers`."""
    for node, value in view.case:
        here = fold(numbers(point, node, view.entry.tensor))
        if not isinstance(here, Const) or here.value != value.value:
            return None
    body = fold(numbers(point, view.body, view.variable.tensor))
    return View(body, view.variable, Const(1), view.variable, view.variable, (), view.scope)


__all__ = ["fixed_view", "has_probability", "improper", "numbers", "samples", "uncalibrated", "uneven"]
