"""Losses of a class label that are sums over the classes plus a term of the label's own class.

    loss(q, k) = sum over classes c of f(q_c) + g(q_k)

where q is a prediction on the simplex, or the softmax of logits, or (for label noise) the logits themselves; `classes`
takes a loss apart.

    proper            on the simplex if f'(q) + q g'(q) is constant and g' <= 0; strictly if g' < 0. Then the expected
                      loss at q less that at p is the sum over c of the integral from p_c to q_c of (s - p_c) (-g'(s)) ds
    calibrated        if g' < 0 and f, g are C1 inside of (0, 1), with limits at its ends that are not -inf (which an f that
                      is convex has): a prediction
                      with q_j >= q_i, p_j < p_i is not the best, as exchanging the two (or, if they are equal, moving
                      a little from j to i) lowers the expected loss, and there is a best one on the closed simplex
    noise symmetric   the sum over the labels is the sum over c of size(c) f(q_c) + g(q_c): constant if that function
                      is, or, as the q_c add up to 1, if it is affine

The spherical score is of another form: there Cauchy and Schwarz's inequality says that it is strictly proper.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    ZERO,
    Apply,
    Const,
    Definition,
    Index,
    Read,
    Scalar,
    Size,
    postorder,
)
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify.algebra import Field, Form, TooLarge, plus, power, times
from lossdsl.verify.boxes import At
from lossdsl.verify.classes import INSIDE, ROW, Q, Rows, Separable
from lossdsl.verify.derive import derivative
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.labels import NoProblem, Problem, Sample
from lossdsl.verify.pieces import NotScalar, View, fold
from lossdsl.verify.ranges import Scope
from lossdsl.verify.regret import numbers, samples
from lossdsl.verify.risk import Branch, branches, continuous
from lossdsl.verify.scalar import Stuck
from lossdsl.verify.show import text
from lossdsl.verify.signs import Budget
from lossdsl.verify.verdict import Proved, Refuted, Step, Unknown, Witness

_TRIED = ("sum over the classes",)
_METHOD = "sum over the classes"


def proper(problem: Problem, link: Scalar | None, *, strict: bool) -> Proved | Unknown:
    """Whether the probabilities of the classes minimise the expected loss; without a link, logits have their softmax."""
    try:
        rows = Rows(problem)
        spherical = _spherical(problem, rows) if link is None else None
        if spherical is not None:
            return spherical
        parts = rows.separate(problem.element)
        if not parts.probability:
            return Unknown(f"{problem.prediction.name} is no probability, and no softmax is taken of it", _TRIED)
        if link is not None:
            asked = rows.rewritten(link)
            if not (isinstance(asked, Read) and asked.tensor == ROW and isinstance(asked.indices[0], Index)):
                return Unknown(f"the link is not the softmax that {problem.target} takes", _TRIED)
        return _proper(parts, strict)
    except (Stuck, NoProblem, NotScalar) as reason:
        return Unknown(str(reason), _TRIED)
    except TooLarge:
        return Unknown("the normal form of the sum over the classes is too large", _TRIED)


def _parts(parts: Separable, box: Enclosure | None = None) -> list[tuple[View, list[Branch]]]:
    """The pieces: `positive` is g, `link` is f. Raises Stuck, TooLarge, NoProblem."""
    return [(view, branches(view, parts.problem.ctx.budget)) for view in parts.views(box)]


def _proper(parts: Separable, strict: bool) -> Proved | Unknown:
    budget = parts.problem.ctx.budget
    steps = [Step("separated", parts.problem.target, parts.shown)]
    for view, pieces in _parts(parts):
        for b in pieces:
            own = b.slope(b.positive)
            if not b.slope(plus(b.slope(b.link), times(b.prediction, own))).zero:
                return Unknown(f"the expected loss is not stationary at the probabilities: {parts.shown}", _TRIED)
            steps.append(Step("exact normal form", b.shown, "stationary at the probabilities"))
            how = b.holds(_minus(b, own), budget, strict=strict)
            if how is None:
                return Unknown(f"whether the loss of the label falls with its probability: {b.shown}", _TRIED)
            word = "falls" if strict else "does not rise"
            steps.append(Step(how, b.shown, f"the loss of the label {word} with its probability"))
        jump = continuous(view, budget, 1)
        if jump is not None:
            return Unknown(f"jump at {jump}", _TRIED)
    return Proved(_METHOD, tuple(steps))


def unsteady(problem: Problem) -> Refuted | None:
    """Probabilities at which moving a little from one class to another changes the expected loss to first order."""
    if problem.prediction.kind != "simplex":
        return None
    try:
        parts = Rows(problem).separate(problem.element)
        for sample in itertools.islice(samples(problem, 25), 4):
            own, each = (numbers(sample.point, n, Q.tensor) for n in (parts.own, parts.each))
            for view, pieces in _parts(replace(parts, own=own, each=each)):
                for b in pieces if not view.case else ():
                    found = _first_order(sample, b)
                    if found is not None:
                        return found
    except (Stuck, NoProblem, NotScalar, TooLarge):
        return None
    return None


def _first_order(sample: Sample, b: Branch) -> Refuted | None:
    rate = plus(b.slope(b.link), times(b.prediction, b.slope(b.positive)))
    known: list[tuple[Fraction, Enclosure]] = []
    for q in (Fraction(k, 16) for k in (2, 3, 5, 7, 11, 13, 14)):
        there = b.field.form(substitute(b.view.inner, {b.view.entry: Const(q)})).constant
        if there is None:
            return None
        at = At(b.field, {b.smooth.slot: e.exact(there)})
        if all(at.value(c).positive for c in b.smooth.constraints):
            known.append((q, at.value(rate)))
    for (p, first), (q, second) in itertools.combinations(known, 2):
        gap, others = e.sub(first, second), sample.count - 2
        if not gap.nonzero or not (p + q < 1 if others else p + q == 1):
            continue
        row = [p, q, *([(1 - p - q) / max(others, 1)] * others)]
        [along] = sample.problem.prediction.over
        prediction = {place: row[place[along]] for place in sample.point.inputs[sample.problem.prediction.name]}
        violation = (
            f"with the probabilities that the point predicts, the expected loss changes at the rate {gap} where "
            f"probability moves from the second class to the first"
        )
        return Refuted("rate of the expected loss", Witness((sample.shown(prediction),), violation))
    return None


def _minus(b: Branch, f: Form) -> Form:
    return times(f, b.field.number(-1))


def calibrated(problem: Problem) -> Proved | Unknown:
    """Whether the class of the largest prediction has the largest probability, if the expected loss is least."""
    try:
        rows = Rows(problem)
        spherical = _spherical(problem, rows)
        if spherical is not None:
            return Proved(spherical.method, (*spherical.steps, Step("strictly proper", problem.target, "calibrated")))
        parts = rows.separate(problem.element)
        if not parts.probability:
            return Unknown(f"{problem.prediction.name} is no probability, and no softmax is taken of it", _TRIED)
        return _calibrated(parts)
    except (Stuck, NoProblem, NotScalar) as reason:
        return Unknown(str(reason), _TRIED)
    except TooLarge:
        return Unknown("the normal form of the sum over the classes is too large", _TRIED)


def _calibrated(parts: Separable) -> Proved | Unknown:
    budget = parts.problem.ctx.budget
    steps = [Step("separated", parts.problem.target, parts.shown)]
    for view, pieces in _parts(parts):
        inside = Scope(view.scope.ranges, view.scope.nonempty, {**view.scope.known, Q: INSIDE})
        for part in (parts.own, parts.each):
            box = inside[fold(substitute(part, dict(view.case)))]
            if (box.nan or box.lo == -INF) and not (box.finite and part is parts.each and _bowl(pieces, budget)):
                return Unknown(f"whether {text(part)} is bounded from below", _TRIED)
        for b in pieces:
            how = b.holds(_minus(b, b.slope(b.positive)), budget, strict=True)
            if how is None:
                return Unknown(f"whether the loss of the label falls with its probability: {b.shown}", _TRIED)
            steps.append(Step(how, b.shown, "the loss of the label falls with its probability"))
        signs = (all(b.holds(times(b.slope(b.link), b.field.number(s)), budget) for b in pieces) for s in (1, -1))
        if not any(signs) and not _bowl(pieces, budget):
            _parts(parts, Enclosure(0.0, 1.0))  # smooth up to the ends, or Stuck
        steps.append(Step("limits", text(parts.each), "the expected loss has limits at the boundary of the simplex"))
        jump = continuous(view, budget, 1)
        if jump is not None:
            return Unknown(f"jump at {jump}", _TRIED)
    return Proved(_METHOD, tuple(steps))


def _bowl(pieces: list[Branch], budget: Budget) -> bool:
    """Whether f is convex, as it is C1: then it is bounded from below on (0, 1) and has limits at the ends."""
    return all(b.holds(b.slope(b.slope(b.link)), budget) is not None for b in pieces)


def noise_symmetric(problem: Problem) -> Proved | Unknown:
    """Whether the losses of all classes add up to the same whatever the prediction is."""
    try:
        rows = Rows(problem)
        body = problem.element
        normalised = _normalised(rows, body)
        if normalised is not None:
            return normalised
        parts = rows.separate(body)
        if problem.classes is None:
            return Unknown("no classes", _TRIED)
        size = Apply("real", (Size(problem.classes),))
        steps = [Step("separated", problem.target, parts.shown)]
        for view, pieces in _parts(parts):
            for b in pieces:
                total = plus(times(b.field.form(size), b.link), b.positive)
                slope = b.slope(total)
                if not (b.slope(slope) if parts.probability else slope).zero:
                    return Unknown(f"the sum over the labels varies: {parts.shown}", _TRIED)
                word = "affine, so that it adds up to a constant" if parts.probability else "constant"
                steps.append(Step("exact normal form", b.shown, f"over all labels {word}"))
            jump = continuous(view, problem.ctx.budget, 1)
            if jump is not None:
                return Unknown(f"jump at {jump}", _TRIED)
        return Proved(_METHOD, tuple(steps))
    except (Stuck, NoProblem, NotScalar) as reason:
        return Unknown(str(reason), _TRIED)
    except TooLarge:
        return Unknown("the normal form of the sum over the classes is too large", _TRIED)


def _normalised(rows: Rows, body: Scalar) -> Proved | None:
    """A term of the label divided by the sum of the same term over the classes, which has a sign, so that the sum is not 0."""
    if not (isinstance(body, Apply) and body.name == "div" and isinstance(body.args[1], Read)):
        return None
    try:
        top, bottom = rows.separate(body.args[0]), rows.separate(body.args[1])
    except NoProblem:
        return None
    if top.constant or bottom.constant or top.each is not ZERO:
        return None
    if not all(b.positive.zero for _, pieces in _parts(bottom) for b in pieces):
        return None
    both = Separable(rows.problem, bottom.each, top.own, False, top.probability or bottom.probability)
    steps, signs = [], list[bool]()
    for _, pieces in _parts(both):
        if len(pieces) != 1 or pieces[0].link.zero:
            return None
        b = pieces[0]
        if not b.slope(times(b.positive, power(b.link, -1))).zero:
            return None
        steps.append(Step("exact normal form", text(body), "the terms of all labels over their sum"))
        budget = rows.problem.ctx.budget
        how = b.holds(b.link, budget, strict=True) or b.holds(_minus(b, b.link), budget, strict=True)
        if how is None:
            return None
        signs.append(b.holds(b.link, budget) is not None)
        steps.append(Step(how, b.shown, "of one sign: the sum over the labels is not 0"))
    return Proved("normalised by the sum over the labels", tuple(steps)) if len(set(signs)) == 1 else None


def _spherical(problem: Problem, rows: Rows) -> Proved | None:
    """K - B q[label] / |q| with B > 0: the expected loss is K - B <p, q> / |q|, least at q = p alone."""
    if problem.prediction.kind != "simplex":
        return None
    body = problem.element
    body = rows.rewritten(body)
    own = Read(ROW, (problem.label,), REAL)
    norms = {
        n
        for n in postorder(body)
        if isinstance(n, Read) and (d := rows.definitions.get(n.tensor)) is not None and _squares(rows, n, d)
    }
    if len(norms) != 1 or not any(m is own for m in postorder(body)):
        return None
    norm = next(iter(norms))
    left = [m for m in postorder(body) if isinstance(m, Read) and m.tensor in rows.varying and m not in (own, norm)]
    marked = [m for m in postorder(body) if isinstance(m, Read) and m.tensor in rows.labelled]
    if left or set(marked) - {problem.label}:
        return None
    ranges = problem.ctx.ranges((problem.prediction.name,))
    positive = Enclosure(0.0, INF, True, True)
    scope = Scope(ranges, frozenset(), {own: INSIDE, norm: positive})
    field_ = Field(scope)
    value = field_.form(body)
    ratio = field_.form(Apply("div", (own, Apply("sqrt", (norm,)))))
    slots = {g.leaf: s for s, g in enumerate(field_.generators)}
    weight = times(derivative(field_, value, slots[own]), field_.form(Apply("sqrt", (norm,))))
    rest = plus(value, times(times(weight, ratio), field_.number(-1)))
    steady = all(derivative(field_, f, slots[n]).zero for f in (weight, rest) for n in (own, norm))
    if not steady or not field_.value(weight).negative or not field_.value(rest).finite:
        return None
    return Proved(
        "Cauchy-Schwarz inequality", (Step("spherical score", text(body), "least at the probabilities alone"),)
    )


def _squares(rows: Rows, n: Read, d: Definition) -> bool:
    """Whether `n` is the sum of the squares of all entries of the row."""
    if d.head != "sum" or d.where is not TRUE or d.support is not TRUE or len(d.bound) != 1:
        return False
    if d.bound[0].dim != rows.problem.classes:
        return False
    mapping: dict[Scalar, Scalar] = dict(zip(d.formals, n.indices, strict=True))
    body = rows.rewritten(substitute(d.body, mapping))
    entry = Read(ROW, (d.bound[0],), REAL)
    if not isinstance(body, Apply) or len(body.args) != 2 or body.args[0] is not entry:
        return False
    two = isinstance(body.args[1], Const) and body.args[1].value == 2
    return (body.name == "mul" and body.args[1] is entry) or (body.name in ("pow", "powi") and two)


__all__ = ["calibrated", "noise_symmetric", "proper", "unsteady"]
