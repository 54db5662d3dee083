"""Losses of one variable that everything else only multiplies and lifts: what is true of their shape for one value of
everything else is true for all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.ir.nodes import Apply, Const, Read, Scalar, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.algebra import Field, Form, leaves_of, moved, plus, quotient
from lossdsl.verify.enclosure import INF
from lossdsl.verify.pieces import Piece, View, contains
from lossdsl.verify.ranges import Scope
from lossdsl.verify.scalar import joins, smooth_pieces
from lossdsl.verify.signs import Budget


@dataclass(frozen=True)
class Shape:
    """A loss that everything but its variable only multiplies and lifts; `flat`: perhaps by 0."""

    flat: bool


def one_shape(view: View, budget: Budget) -> Shape | None:
    """Whether all values of everything else only multiply the loss by a factor that is not negative, or never positive and
    not 0, and add to it: the derivative is a function of the variable times one without it, the same on all pieces, and
    distances are those of the input. Conditions may be of the variable alone, and of everything else alone: where two pieces
    have other functions of the variable, a condition of the variable tells them apart."""
    field = Field(view.scope)
    field.form(view.variable)
    pieces = smooth_pieces(view)
    flat = False
    outer: set[tuple[int, frozenset[tuple[str, int]]]] = set()
    inner: list[tuple[object, list[Form]]] = []
    for smooth in pieces:
        slope, *constraints = moved(smooth.field, field, [smooth.order(1), *smooth.constraints])
        own = [c for c in constraints if _SLOT in _values_of(field, c)]
        if not smooth.field.form(view.slope).constant or any(_values_of(field, c) != [_SLOT] for c in own):
            return None
        parts = _parted(field, slope)
        if parts is None:
            return None
        inner.append((parts.inner, own))
        if parts.inner is not None:
            outer.add((parts.unit, parts.outer))
            flat = flat or parts.flat
    together = (j for j in joins(view, pieces, budget, 0) if not _apart(view, j.left, j.right))
    if len(outer) > 1 or not all(join.jumps[0].zero for join in together):
        return None
    for (f, here), (g, there) in itertools.combinations(inner, 2):
        if f != g and not any(plus(a, b).zero for a in here for b in there):
            return None
    return Shape(flat) if outer else None


def _apart(view: View, a: Piece, b: Piece) -> bool:
    """Whether a condition without the variable holds on one piece and fails on the other."""
    return any((s, not side) in b.path and not contains(s, view.variable) for s, side in a.path)


_SLOT = 0  # of the variable


def _values_of(field: Field, f: Form) -> list[int]:
    """The leaves of a form that are no constants like pi."""
    return [s for s in leaves_of(field, f) if field.generators[s].leaf is not None]


@dataclass(frozen=True)
class _Parts:
    """A derivative as a function of the variable (None: 0) times a sign and factors of everything else."""

    inner: tuple[str, frozenset[tuple[str, int]]] | None
    unit: int = 1
    outer: frozenset[tuple[str, int]] = frozenset()
    flat: bool = False


def _parted(field: Field, slope: Form) -> _Parts | None:
    if slope.zero:
        return _Parts(None)
    unit, flat, number = 1, False, Fraction(1)
    inner, outer = [], []
    for p, side in ((slope.num, 1), (slope.den, -1)):
        content, factors = p.factor()
        number *= Fraction(int(content.p), int(content.q)) ** side
        for factor, k in factors:
            leaves = _values_of(field, quotient(factor, field.number(1).num))
            if leaves == [_SLOT]:
                inner.append((str(factor), side * int(k)))
            elif _SLOT in leaves:
                return None
            else:
                box = field.polynomial(factor)
                if box.nan or not (box.nonzero or (side > 0 and box.nonnegative)):
                    return None
                flat = flat or not box.nonzero
                unit = -unit if box.negative and k % 2 else unit
                outer.append((str(factor), side * int(k)))
    return _Parts((str(number), frozenset(inner)), unit, frozenset(outer), flat)


def recentred(view: View) -> Iterator[View]:
    """Views in the entry, and in its distance from an input that a condition compares it with."""
    if (view.scope[view.entry].lo, view.scope[view.entry].hi) != (-INF, INF):
        return
    known = {**view.scope.known, view.variable: view.scope[view.entry]}
    scope = Scope(view.scope.ranges, view.scope.nonempty, known)
    body = substitute(view.body, {view.variable: view.inner})
    compared = [
        n
        for k in postorder(body)
        if isinstance(k, Apply) and k.name == "sub" and view.entry in k.args
        for n in k.args
        if isinstance(n, Read) and n is not view.entry and view.scope[n].finite
    ]
    for centre in (None, *dict.fromkeys(compared)):
        moved_: Scalar = view.variable if centre is None else Apply("add", (view.variable, centre))
        inner: Scalar = view.entry if centre is None else Apply("sub", (view.entry, centre))
        if inner is not view.inner:
            at = substitute(body, {view.entry: moved_})
            yield View(at, view.variable, Const(1), view.entry, inner, view.case, scope)


__all__ = ["Shape", "one_shape", "recentred"]
