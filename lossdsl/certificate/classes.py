"""Losses of a class that are a sum over the classes plus a term of the label's own: which are calibrated, proper, symmetric.

    loss(q, k) = sum over the classes c of f(q_c) + g(q_k)

where q is a prediction on the simplex, or the softmax of the scores; of a softmax both are functions of log q. Let p be the
probabilities of the labels, inside of the simplex.

calibrated       f and g are C1, g' < 0, and both have limits at 0 and 1 that are not -inf (on a simplex, they are continuous
                 there). On the closed simplex the expected loss then is the least somewhere among the q with q_j the largest,
                 p_j < p_i. If q_j > q_i, exchanging them lowers it; if q_j = q_i > 0, moving a little from j to i does
strictly proper  on a simplex: f'(s) + s g'(s) is constant and g' < 0 but at single places. The expected loss at q is that at p
                 and the sum of the integrals of (s - p_c) (-g'(s)) from p_c to q_c (Gneiting and Raftery, 2007, theorem 2, of
                 such sums); of a softmax: f is nothing, and g = a - b log q with b > 0 (Gibbs's inequality)
noise symmetric  f and g are affine in q, whose entries add up to 1; or the loss is h(q_k) over the sum of h(q_c) over the classes,
                 and h has one sign where probabilities lie strictly between 0 and 1, as they do for two classes or more (Ma
                 et al., *Normalized Loss Functions for Deep Learning with Noisy Labels*, 2020): the losses add up to 1
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.coverings import Curve, Leaf, text
from lossdsl.certificate.germs import Power
from lossdsl.certificate.labels import Problem, problem_of
from lossdsl.certificate.orders import Orders
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.question import CALIBRATED, NOISE, PROPER, Question
from lossdsl.certificate.rules import Rules, Stuck
from lossdsl.ir.nodes import (
    FALSE,
    INT,
    REAL,
    TRUE,
    ZERO,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Input,
    Range,
    Read,
    Scalar,
    Select,
    postorder,
    tensors_of,
)
from lossdsl.ir.rewrite import free_indices, substitute, transform
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import truth

ROW, VARIABLE, TERM = "$row", "$share", "$term"
_NODES = 2000
_INTEGRABLE = Power(degree=Fraction(-1), logs=Fraction(-99))  # below it there is no logarithm that would matter
Trace = list[list[str]]


@dataclass(frozen=True)
class Parts:
    """f (`each`) and g (`own`), of `variable`: a share on a simplex, or the logarithm of one."""

    problem: Problem
    each: Scalar
    own: Scalar
    variable: Read

    @property
    def shares(self) -> bool:
        return self.problem.prediction.kind == "simplex"

    @property
    def line(self) -> list[str]:
        p = self.problem
        return ["a sum over the classes", p.label.tensor, p.prediction.name, "shares" if self.shares else "logarithms"]

    def curve(self, body: Scalar, *, closed: bool = False) -> Curve:
        """A term as a function of the variable; `closed`: also at log 1."""
        q = self.problem.question
        read = Definition(TERM, free_indices(body, self.variable), "map", (), TRUE, body)
        declared = Input(VARIABLE, (self.problem.classes,), ("",), "real")
        program = replace(q.program, inputs=(*q.program.inputs, declared), body=(*q.program.body, read), target=TERM)
        over = Enclosure(0.0, 1.0) if self.shares else Enclosure(-INF, 0.0, True, not closed)
        assume = {**q.assume, VARIABLE: over}
        return Curve(replace(q, program=program, of=TERM, inputs=(VARIABLE,), assume=assume, conditions=()))


# ------------------------------------------------------------------------------------------------- properties


def of_classes(q: Question) -> Trace:
    """Raises Stuck."""
    if q.property == NOISE and q.link is None:
        with contextlib.suppress(Stuck):
            share = _Separation(_problem_of(q)).share()
            return [share.line, ["a share of the sum", text(_of_one_sign(share))]]
    parts = parts_of(q)
    rules = {CALIBRATED: _calibrated, NOISE: _symmetric, **dict.fromkeys(PROPER, _proper)}
    if q.property not in rules or q.link is not None:
        raise Stuck("a link")
    return [parts.line, *rules[q.property](parts)]


def _calibrated(parts: Parts) -> Trace:
    return [["of the label"], *_falling(parts), ["of each class"], *_limited(parts)]


def _proper(parts: Parts) -> Trace:
    if parts.shares:
        f, g = (_polynomial(n, parts) for n in (parts.each, parts.own))
        rate = _plus(_derived(f), [Fraction(0), *_derived(g)])
        if any(rate[1:]):
            raise Stuck("the expected loss is not stationary at the probabilities")
        return [_told_numbers(f), _told_numbers(g), *_falling(parts)]
    if parts.each is not ZERO:
        raise Stuck("a term of each class beside that of the label")
    curve = parts.curve(parts.own)
    leaves = curve.covering(2, lambda box: box.zero)
    return [*_told(leaves), *curve.joined(leaves, 1), *_falling(parts)]


def _symmetric(parts: Parts) -> Trace:
    found = [_polynomial(n, parts) for n in (parts.each, parts.own)]
    if any(any(f[2:]) for f in found):
        raise Stuck("the sum over the labels varies")
    return [_told_numbers(f) for f in found]


def _of_one_sign(parts: Parts) -> Enclosure:
    """What the term of the label is in, so that no sum of such terms is 0."""
    curve = parts.curve(parts.own)
    found = curve.whole()[curve.body]
    if not found.finite or not found.nonzero:
        raise Stuck("terms that may add up to 0")
    return found


def _told_numbers(numbers: Sequence[Fraction]) -> list[str]:
    return ["polynomial", *map(str, numbers)]


def _told(leaves: Sequence[Leaf]) -> Trace:
    return [[*(text(side) for side in leaf.box.sides), text(leaf.found)] for leaf in leaves]


def _falling(parts: Parts) -> Trace:
    """The derivative of g is negative, also where boxes meet, and g has limits at the ends."""
    curve = parts.curve(parts.own)
    leaves = curve.covering(1, lambda box: box.negative)
    if any(leaf.box.over.hi < curve.domain.hi and not leaf.found.hi < 0 for leaf in leaves):
        raise Stuck("the derivative may be 0 where two boxes meet")
    _check_ends(curve, leaves)
    return [*_told(leaves), *curve.joined(leaves, 1)]


def _limited(parts: Parts) -> Trace:
    """f is C1, and has limits at the ends."""
    if parts.each is ZERO:
        return []
    curve = parts.curve(parts.each, closed=True)
    leaves = curve.covering(1, lambda box: True)
    _check_ends(curve, leaves)
    return [*_told(leaves), *curve.joined(leaves, 1)]


def _check_ends(curve: Curve, leaves: Sequence[Leaf]) -> None:
    """Raise Stuck unless there are limits at ends that are no part of the domain, and none is -inf."""
    ends = ((curve.domain.lo, curve.domain.lo_open), (curve.domain.hi, curve.domain.hi_open))
    for leaf in leaves:
        over, slope = leaf.box.over, leaf.found
        for end, is_open in ends:
            if not is_open or end not in (over.lo, over.hi):
                continue
            rises, falls = (slope.nonpositive, slope.nonnegative)[:: 1 if end == over.lo else -1]  # towards the end
            if not rises and not (falls and _bounded_below(curve, leaf)) and not _settles(curve, leaf, end):
                raise Stuck("a limit at an end of the domain")


def _settles(curve: Curve, leaf: Leaf, end: float) -> bool:
    """Whether the derivative is bounded up to an end, or at infinity below a power that is integrable there."""
    if abs(end) < INF:
        return leaf.found.bounded and leaf.box.over.lo > -INF
    try:
        _, slope = Orders(curve, curve.case(leaf.box), 1 if end > 0 else -1).of(curve.body)
    except Stuck:
        return False
    return slope.high is None or slope.high < _INTEGRABLE


def _bounded_below(curve: Curve, leaf: Leaf) -> bool:
    try:
        value = curve.derivative(0, leaf.box)
    except (Undecided, ZeroDivisionError, OverflowError):
        return False
    return not value.nan and value.lo > -INF


# ------------------------------------------------------------------------------------------------ polynomials


def _polynomial(body: Scalar, parts: Parts) -> list[Fraction]:
    """Coefficients in a share, from that of 1 on. Raises Stuck."""
    found: dict[Scalar, list[Fraction] | None] = {}
    for n in postorder(body):
        found[n] = _combined(n, parts, [found[c] for c in n.children])
    coefficients = found[body]
    if coefficients is None:
        raise Stuck("a term that is no polynomial with known coefficients")
    return coefficients


def _combined(n: Scalar, parts: Parts, below: Sequence[list[Fraction] | None]) -> list[Fraction] | None:
    """The coefficients, by those of what it is made of; None if it is no polynomial."""
    share, log = [Fraction(0), Fraction(1)], None if parts.shares else parts.variable
    match n:
        case Const() if isinstance(n.value, Fraction):
            return [n.value]
        case Read() if n is parts.variable and parts.shares:
            return share
        case Apply(name="exp") if n.args[0] is log:
            return share
        case Apply(name="expm1") if n.args[0] is log:
            return [Fraction(-1), Fraction(1)]
    known = [p for p in below if p is not None]
    if not isinstance(n, Apply) or len(known) < len(below):
        return None
    match n.name, known:
        case "real", [a]:
            return a
        case "neg", [a]:
            return _product([Fraction(-1)], a)
        case "add", [a, b]:
            return _plus(a, b)
        case "sub", [a, b]:
            return _plus(a, _product([Fraction(-1)], b))
        case "mul", [a, b]:
            return _product(a, b)
        case "div", [a, [b]] if b:
            return _product([1 / b], a)
        case (("pow" | "powi"), [a, [k]]) if k.denominator == 1 and 0 <= k <= 8:
            power = [Fraction(1)]
            for _ in range(int(k)):
                power = _product(power, a)
            return power
    return None


def _plus(a: Sequence[Fraction], b: Sequence[Fraction]) -> list[Fraction]:
    size = max(len(a), len(b))
    return [sum((p[k] for p in (a, b) if k < len(p)), Fraction(0)) for k in range(size)]


def _product(a: Sequence[Fraction], b: Sequence[Fraction]) -> list[Fraction]:
    found = [Fraction(0)] * (len(a) + len(b) - 1)
    for j, x in enumerate(a):
        for k, y in enumerate(b):
            found[j + k] += x * y
    return found


def _derived(a: Sequence[Fraction]) -> list[Fraction]:
    return [k * x for k, x in enumerate(a)][1:] or [Fraction(0)]


# ------------------------------------------------------------------------------------------------------ parts


def parts_of(q: Question) -> Parts:
    """Raises Stuck where the element is no such sum."""
    return _Separation(_problem_of(q)).parts()


def _problem_of(q: Question) -> Problem:
    problem = problem_of(q)
    if problem.prediction.range != Range():
        raise Stuck("predictions in a range")
    return problem


class _Separation:
    def __init__(self, problem: Problem) -> None:
        self.problem, q = problem, problem.question
        self.bounds = Bounds(q.program, q.assume)
        self.moving = problem.moving | {ROW, VARIABLE}
        self.marked = Rules(self.bounds, (problem.label.tensor,)).moving
        self.case: Case = self.bounds.body(problem.element)
        self.variable = Read(VARIABLE, (Index(VARIABLE, problem.classes),), REAL)
        self.class_ = Index("$class", problem.classes)

    def parts(self) -> Parts:
        each, own = self._terms(self._opened(self.problem.element.body))
        return Parts(self.problem, each, own, self.variable)

    def share(self) -> Parts:
        """The label's own term, where the element is that over the sum of the same over all classes, and nothing else. Raises
        Stuck."""
        body = self._opened(self.problem.element.body)
        top, below = body.args if isinstance(body, Apply) and body.name == "div" else (ZERO, ZERO)
        if not isinstance(below, Read) or below.tensor not in self.bounds.definitions:
            raise Stuck("not over a sum")
        own = self._at(top, self.problem.label)
        if self._sum(below) != (own, ZERO):
            raise Stuck("not over the sum of the same over the classes")
        return Parts(self.problem, ZERO, own, self.variable)

    def _moves(self, n: Scalar) -> bool:
        return not self.moving.isdisjoint(n.tensors)

    # ------------------------------------------------------------------------------------------ predictions

    def _opened(self, body: Scalar) -> Scalar:
        """With the maps put in, and predictions of classes as `$row` of the class. Raises Stuck."""
        while True:
            put: dict[Scalar, Scalar] = {}
            for n in postorder(body):
                inner = self._map(n) if isinstance(n, Read) else None
                if inner is not None:
                    put[n] = inner
            if not put:
                break
            body = substitute(body, put)
            if len(list(postorder(body))) > _NODES:
                raise Stuck("an element that is too large")
        return _plain(transform(body, self._prediction))

    def _map(self, n: Read) -> Scalar | None:
        d = self.bounds.definitions.get(n.tensor) if n.tensor in self.moving else None
        if d is None or d.head != "map" or d.tensor in self.bounds.recurrent:
            return None
        at: dict[Scalar, Scalar] = {**dict(zip(d.formals, n.indices, strict=True))}
        if d.support is not TRUE and not self.problem.counts(substitute(d.support, at)):
            raise Stuck(f"{d.tensor} is not everywhere")
        return substitute(d.body, at)

    def _prediction(self, n: Scalar) -> Scalar:
        p = self.problem
        if p.prediction.kind == "simplex":
            return self._row(n.indices[p.along]) if isinstance(n, Read) and n.tensor == p.prediction.name else n
        if isinstance(n, Apply) and n.name in ("sub", "expdiff") and p.prediction.kind == "real":
            place = self._normalised(*n.args)
            if place is not None:
                row = self._row(place)
                return row if n.name == "sub" else Apply("exp", (row,))
        return n

    def _row(self, place: Scalar) -> Read:
        return Read(ROW, (place,), REAL)

    def _normalised(self, score: Scalar, total: Scalar) -> Scalar | None:
        """The class of a score, if the other number is the log-sum-exp of all scores of the row."""
        p = self.problem
        d = self.bounds.fold(total, ("logsumexp",))
        if d is None or not isinstance(total, Read) or not isinstance(score, Read) or score.tensor != p.prediction.name:
            return None
        if len(d.bound) != 1 or d.bound[0].dim != p.classes:
            return None
        at: dict[Scalar, Scalar] = {**dict(zip(d.formals, total.indices, strict=True))}
        place = score.indices[p.along]
        whole = substitute(d.body, at) is p.at(d.bound[0]) and d.bound[0] not in total.indices
        return place if whole and score is p.at(place) else None

    # ------------------------------------------------------------------------------------------------ terms

    def _terms(self, n: Scalar) -> tuple[Scalar, Scalar]:
        """f and g of a scalar; what does not move is no part of them. Raises Stuck."""
        if not self._moves(n):
            if not self.case[n].finite:
                raise Stuck("a term that may be infinite")
            return ZERO, ZERO
        match n:
            case Apply(name="add" | "sub"):
                (f, g), (h, k) = (self._terms(a) for a in n.args)
                return _joined(n.name, f, h), _joined(n.name, g, k)
            case Apply(name="neg"):
                return _mapped(self._terms(n.args[0]), lambda part: Apply("neg", (part,)))
            case Apply(name="mul") if not self._moves(n.args[0]):
                return _mapped(self._terms(n.args[1]), lambda part: Apply("mul", (n.args[0], part)))
            case Apply(name="mul") if not self._moves(n.args[1]):
                return _mapped(self._terms(n.args[0]), lambda part: Apply("mul", (part, n.args[1])))
            case Apply(name="div") if not self._moves(n.args[1]):
                return _mapped(self._terms(n.args[0]), lambda part: Apply("div", (part, n.args[1])))
            case Select() if (holds := truth(self.case[n.condition])) is not None:
                return self._terms(n.a if holds else n.b)
            case Select() if not self._moves(n.condition):
                (f, g), (h, k) = self._terms(n.a), self._terms(n.b)
                return _either(n.condition, f, h), _either(n.condition, g, k)
            case Read() if n.tensor in self.bounds.definitions:
                return self._sum(n)
        return ZERO, self._at(n, self.problem.label)

    def _sum(self, n: Read) -> tuple[Scalar, Scalar]:
        """A sum over the classes, with what the label's own class has more."""
        d, label = self.bounds.definitions[n.tensor], self.problem.label
        if d.head != "sum" or d.support is not TRUE or d.tensor in self.bounds.recurrent:
            raise Stuck(f"{n.tensor} is no sum over the classes")
        if len(d.bound) != 1 or d.bound[0].dim != self.problem.classes:
            raise Stuck(f"{n.tensor} is no sum over the classes")
        at: dict[Scalar, Scalar] = {**dict(zip(d.formals, n.indices, strict=True)), d.bound[0]: self.class_}
        body = d.body if d.where is TRUE else Select(d.where, d.body, ZERO)
        body = self._opened(substitute(body, at))
        own = self._at(substitute(_compared(body, self.class_, label, True), {label: self.class_}), self.class_)
        other = self._at(_compared(body, self.class_, label, False), self.class_)
        return other, ZERO if own is other else Apply("sub", (own, other))

    def _at(self, n: Scalar, place: Scalar) -> Scalar:
        """As a function of the variable, which the prediction of the class at the place is. Raises Stuck where it is of another
        one too, or of the place."""
        found = substitute(n, {self._row(place): self.variable})
        left = self.moving - {VARIABLE}
        if not left.isdisjoint(tensors_of((found,))) or any(m is place for m in postorder(found)):
            raise Stuck("a term of more than the prediction of one class")
        return found


def _plain(body: Scalar) -> Scalar:
    """Without products with 1, and with the branches that constants decide."""

    def step(n: Scalar) -> Scalar:
        if isinstance(n, Select) and n.condition in (TRUE, FALSE):
            return n.a if n.condition is TRUE else n.b
        if (
            isinstance(n, Apply)
            and n.name in ("real", "int")
            and isinstance(n.args[0], Const)
            and n.args[0] in (TRUE, FALSE)
        ):
            return Const(Fraction(n.args[0] is TRUE), INT if n.name == "int" else REAL)
        if (
            isinstance(n, Apply)
            and n.name == "real"
            and isinstance(n.args[0], Const)
            and isinstance(n.args[0].value, Fraction)
        ):
            return Const(n.args[0].value, REAL)
        if isinstance(n, Apply) and n.name == "mul" and n.args[0] == Const(1, n.dtype):
            return n.args[1]
        return n

    return transform(body, step)


def _compared(body: Scalar, index: Index, label: Read, same: bool) -> Scalar:
    """With the comparisons of the class and the label decided."""
    found: dict[Scalar, Scalar] = {}
    for n in postorder(body):
        if isinstance(n, Compare) and n.op in ("==", "!=") and {n.a, n.b} == {index, label}:
            found[n] = TRUE if same == (n.op == "==") else FALSE
    return _plain(substitute(body, found)) if found else body


def _joined(name: str, a: Scalar, b: Scalar) -> Scalar:
    if b is ZERO:
        return a
    return Apply(name, (a, b)) if a is not ZERO else b if name == "add" else Apply("neg", (b,))


def _mapped(parts: tuple[Scalar, Scalar], step: Callable[[Scalar], Scalar]) -> tuple[Scalar, Scalar]:
    f, g = (part if part is ZERO else step(part) for part in parts)
    return f, g


def _either(condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
    return a if a is b else Select(condition, a, b)


__all__ = ["of_classes", "parts_of"]
