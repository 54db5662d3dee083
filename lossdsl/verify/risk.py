"""The expected loss of a prediction where the label has two values, piece by piece.

With the label positive of probability eta, the expected loss is eta l1(v) + (1 - eta) l0(v). One scalar view holds both
losses, and the link if there is one: the markers `$eta` and `$link` stand in it linearly, so that setting them in a
normal form gives each part by itself, over the same pieces and the same variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lossdsl.ir.nodes import Apply, Const, Param, Scalar
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import algebra
from lossdsl.verify.algebra import Field, Form, minus, plus, power, times
from lossdsl.verify.derive import derivative
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.growth import Tail
from lossdsl.verify.labels import NoProblem, Problem
from lossdsl.verify.pieces import NotScalar, View, views
from lossdsl.verify.ranges import Ranges
from lossdsl.verify.scalar import Smooth, joins, smooth_pieces
from lossdsl.verify.signs import Budget, infeasible, prove

ETA, LINK = Param("$eta"), Param("$link")


@dataclass
class Branch:
    """One smooth piece: the losses of the positive and the negative label and the link, as forms in its variable."""

    view: View
    smooth: Smooth
    positive: Form
    negative: Form
    link: Form

    @property
    def field(self) -> Field:
        return self.smooth.field

    def slope(self, f: Form) -> Form:
        """The derivative in the prediction itself."""
        return times(derivative(self.field, f, self.smooth.slot), self.field.form(self.view.slope))

    def holds(self, f: Form, budget: Budget, *, strict: bool = False) -> str | None:
        """How f >= 0 (> 0) is proved on the piece."""
        return prove(self.field, f, self.smooth.constraints, budget, strict=strict)

    @property
    def prediction(self) -> Form:
        """The prediction itself, which the piece's variable is affine in."""
        rest = self.field.form(substitute(self.view.inner, {self.view.entry: Const(0)}))
        return times(
            plus(self.field.form(self.view.variable), minus(rest)), power(self.field.form(self.view.slope), -1)
        )

    def one_minus(self, f: Form) -> Form:
        return plus(self.field.number(1), minus(f))

    @property
    def shown(self) -> str:
        note = f" where {self.view.case_text}" if self.view.case else ""
        return f"{self.view.shown(self.smooth.piece.body)}{note}"


def risk(problem: Problem, link: Scalar | None = None) -> list[View]:
    """The views of the expected loss in the prediction, plus `$link` times the link. Raises NoProblem."""
    assert problem.values is not None
    low, high = problem.values
    return weighted_views(problem, expected(problem.at(high), problem.at(low), link))


def expected(positive: Scalar, negative: Scalar, link: Scalar | None) -> Scalar:
    """The expected loss of the two losses, plus `$link` times the link."""
    rest = Apply("sub", (Const(1), ETA))
    loss = Apply("add", (Apply("mul", (ETA, positive)), Apply("mul", (rest, negative))))
    return loss if link is None else Apply("add", (loss, Apply("mul", (LINK, link))))


def weighted_views(problem: Problem, body: Scalar, region: Enclosure | None = None) -> list[View]:
    """The views of a scalar in the prediction (inside of a region), markers between 0 and 1. Raises NoProblem."""
    ctx = problem.ctx
    unit = Enclosure(0.0, 1.0, True, True)
    assume = {**ctx.assume, ETA.name: unit, LINK.name: unit}
    if region is not None:
        assume[problem.prediction.name] = region
    names = frozenset({problem.prediction.name})
    ranges = Ranges(ctx.program, assume, interior=names, closed=ctx.jumps_at_ends(names))
    try:
        return views(ctx.program, ranges, problem.target, problem.prediction.name, body)
    except NotScalar as reason:
        raise NoProblem(str(reason)) from None


def branches(view: View, budget: Budget) -> list[Branch]:
    """The pieces of a view of the expected loss that may hold somewhere. Raises Stuck, TooLarge."""
    found = []
    for smooth in smooth_pieces(view):
        if smooth.constraints and infeasible(smooth.field, smooth.constraints, budget):
            continue
        parts = [part(smooth, smooth.value, *at) for at in ((1, 0), (0, 0), (0, 1))]
        link = plus(parts[2], minus(parts[1]))
        found.append(Branch(view, smooth, parts[0], parts[1], link))
    return found


def part(smooth: Smooth, f: Form, eta: int, link: int) -> Form:
    """A form at values of the markers."""
    for marker, value in ((ETA, eta), (LINK, link)):
        slot = next((s for s, g in enumerate(smooth.field.generators) if g.leaf is marker), None)
        if slot is not None:
            f = algebra.replace(smooth.field, f, slot, smooth.field.number(value))
    return f


def reduced(field: Field, f: Form) -> Form:
    """The form with squares of square roots written as what they are, wherever it is defined. Raises TooLarge."""
    roots = {s for s, g in enumerate(field.generators) if g.name == "sqrt"}

    def polynomial(p: Any) -> Form:
        total = field.number(0)
        for exponents, coefficient in p.terms():
            term = field.number(Fraction(int(coefficient.p), int(coefficient.q)))
            for s, k in enumerate(exponents):
                squares = int(k) // 2 if s in roots else 0
                if squares:
                    term = times(term, power(field.generators[s].arguments[0], squares))
                if k:
                    term = times(term, field.monomial(s, int(k) - 2 * squares))
            total = plus(total, term)
        return total

    return times(polynomial(f.num), power(polynomial(f.den), -1)) if roots else f


def continuous(view: View, budget: Budget, orders: int = 0) -> str | None:
    """None if the view and its derivatives up to the order are continuous where pieces meet, else the surface at which
    they may not be. Raises Stuck, TooLarge."""
    pieces = smooth_pieces(view)
    if len(pieces) > 1:
        for join in joins(view, pieces, budget, orders):
            if not all(jump.zero for jump in join.jumps):
                return f"{view.shown(join.surface)} = 0"
    return None


# ---------------------------------------------------------------------------------------------------- at a point


@dataclass
class Side:
    """A piece that may hold just right (or left) of a point: the slopes of both losses there, and its constraints."""

    branch: Branch
    positive: Form
    negative: Form
    constraints: list[Form]

    def holds(self, f: Form, budget: Budget, *, strict: bool = False) -> str | None:
        return prove(self.branch.field, f, self.constraints, budget, strict=strict)


def beside(branch: Branch, at: Fraction, direction: int, budget: Budget) -> Side | None:
    """The piece just beyond the point `at` of the prediction; None if it certainly does not reach there."""
    field, view, smooth = branch.field, branch.view, branch.smooth
    point = field.form(substitute(view.inner, {view.entry: Const(at)}))
    constraints = []
    for c in smooth.constraints:
        there = algebra.replace(field, c, smooth.slot, point)
        if there.zero:  # on the surface: the piece lies where it rises
            outward = times(branch.slope(c), field.number(direction))
            if field.value(algebra.replace(field, outward, smooth.slot, point)).negative:
                return None
        else:
            constraints.append(there)
    if infeasible(field, constraints, budget):
        return None
    positive, negative = (
        algebra.replace(field, branch.slope(f), smooth.slot, point) for f in (branch.positive, branch.negative)
    )
    return Side(branch, positive, negative, constraints)


# ---------------------------------------------------------------------------------------------------------- tails


def vanishes(tail: Tail, variable: Form, f: Form) -> bool:
    """Whether the form certainly goes to 0 along the tail of the variable u: |u| f^k is bounded for some k."""
    return f.zero or any(tail.bounded(times(variable, power(f, k))) for k in (1, 2, 4))


def outer(branches: Iterable[Branch], direction: int) -> Iterator[tuple[Branch, Tail]]:
    """The pieces that may hold far out, the prediction going to +inf (`direction` 1) or -inf."""
    for b in branches:
        upward = b.view.scope[b.view.slope].positive
        tail = Tail(b.field, b.smooth.slot, direction if upward else -direction)
        if not any(tail.outside(c) for c in b.smooth.constraints):
            yield b, tail


__all__ = [
    "ETA",
    "LINK",
    "Branch",
    "Side",
    "beside",
    "branches",
    "continuous",
    "outer",
    "part",
    "reduced",
    "risk",
    "vanishes",
]
