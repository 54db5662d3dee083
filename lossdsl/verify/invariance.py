"""Sign obligations over fewer leaves: of what depends on a - b alone, or is homogeneous in a and b > 0, b can be fixed.

    a + t, b + t    d_a f + d_b f = 0 and a is any real number         f(a, b) = f(a - b + v, v)
    t a, t b        a d_a f + b d_b f = k f and a ranges over a cone   f(a, b) = (b / v)^k f(a v / b, v)
    a / t, t b      b d_b f - a d_a f = k f and a ranges over a cone   f(a, b) = (b / v)^k f(a b / v, v)

The identities (Euler's) are those of exact normal forms. They make f the same along the paths from b to v, which stay
in the leaves' domains; f is smooth there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import permutations

from lossdsl.verify.algebra import (
    MOST_TERMS,
    Field,
    Form,
    Poly,
    TooLarge,
    all_slots,
    carried,
    leaves_of,
    minus,
    replace,
    stand_in,
    times,
)
from lossdsl.verify.derive import derivative
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import smooth_at
from lossdsl.verify.work import CLOCK

_MOST_LEAVES = 4


@dataclass(frozen=True)
class Reduced:
    """Forms over fewer leaves, and the values of the leaves that are fixed."""

    field: Field
    form: Form
    constraints: Sequence[Form]
    fixed: Mapping[int, Fraction]  # generator of the field -> value


def reduced(field: Field, f: Form, constraints: Sequence[Form]) -> Reduced:
    """Forms in fewer leaves: `f` is >= 0 (> 0) where the constraints are if the first is where the others are. The same
    objects if there are none."""
    same = Reduced(field, f, constraints, {})
    if next(_candidates(field, [f, *constraints]), None) is None:
        return same
    try:
        own, forms = carried(field, [f, *constraints])
    except TooLarge:
        return same
    fixed: dict[int, Fraction] = {}
    while (found := _without_a_leaf(own, forms)) is not None:
        forms, leaf, value = found
        fixed[leaf] = value
    return Reduced(own, forms[0], forms[1:], fixed) if fixed else same


def _candidates(field: Field, forms: list[Form]) -> Iterator[tuple[int, int, str]]:
    leaves = leaves_of(field, *forms)
    if not 2 <= len(leaves) <= _MOST_LEAVES:
        return
    for a, b in permutations(leaves, 2):
        moved, fixed = field.generators[a].enclosure, field.generators[b].enclosure
        if not moved.nan and fixed.finite and fixed.lo < fixed.hi:
            yield from ((a, b, kind) for kind in _kinds(moved, fixed))


def _without_a_leaf(field: Field, forms: list[Form]) -> tuple[list[Form], int, Fraction] | None:
    known = [_Along(field, f) for f in forms]
    for a, b, kind in _candidates(field, forms):
        try:
            if all(f.invariant(a, b, kind) for f in known):
                value = _inside(field.generators[b].enclosure)
                return [replace(field, f, b, field.number(value)) for f in forms], b, value
        except TooLarge:
            continue
    return None


def _kinds(moved: Enclosure, fixed: Enclosure) -> Iterator[str]:
    whole = moved.lo == -INF and moved.hi == INF and moved.finite
    if whole:
        yield "shift"
    half = moved.finite and {abs(moved.lo), abs(moved.hi)} == {0.0, INF}
    if fixed.positive and (whole or half):
        yield "scale"
        yield "inverse scale"


class _Along:
    """How a form varies along its leaves."""

    def __init__(self, field: Field, f: Form) -> None:
        self.field, self.f = field, f
        self._along: dict[tuple[int, bool], Form] = {}

    @cached_property
    def smooth(self) -> bool:
        """Whether the form is a smooth function of all leaves."""
        inner = (self.field.generators[s] for s in all_slots(self.field, self.f))
        return self.field.value(self.f).finite and all(
            smooth_at(stand_in(g.name, len(g.arguments)), [self.field.value(x) for x in g.arguments])
            for g in inner
            if g.arguments
        )

    def along(self, leaf: int, *, scaled: bool) -> Form:
        """The derivative in a leaf, times the leaf if `scaled`."""
        key = leaf, scaled
        if key not in self._along:
            self._along[key] = (
                times(self.field.monomial(leaf, 1), self.along(leaf, scaled=False))
                if scaled
                else derivative(self.field, self.f, leaf)
            )
        return self._along[key]

    def invariant(self, a: int, b: int, kind: str) -> bool:
        scaled = kind != "shift"
        in_a, in_b = self.along(a, scaled=scaled), self.along(b, scaled=scaled)
        if kind == "inverse scale":
            in_a = minus(in_a)
        # whether in_a + in_b is 0, or a multiple of f, by cross products: common divisors would take most of the time
        over = in_a.den * in_b.den
        total = in_a.num * in_b.den + in_b.num * in_a.den
        if max(len(over), len(total)) > MOST_TERMS:
            raise TooLarge
        same = total.is_zero() or (scaled and _multiples(total * self.f.den, self.f.num * over))
        return same and self.smooth


def _multiples(p: Poly, q: Poly) -> bool:
    """Whether one polynomial is a number times the other, neither being 0."""
    CLOCK.steps += len(p) + len(q)
    if p.is_zero() or q.is_zero() or len(p) != len(q):
        return False
    return bool(p * q.leading_coefficient() == q * p.leading_coefficient())


def _inside(box: Enclosure) -> Fraction:
    """A short number that lies in a box."""
    for v in (0, 1, -1):
        if box.lo < v < box.hi:
            return Fraction(v)
    if abs(box.lo) < INF and abs(box.hi) < INF:
        return (Fraction(box.lo) + Fraction(box.hi)) / 2
    return Fraction(box.lo) + 1 if abs(box.lo) < INF else Fraction(box.hi) - 1


__all__ = ["Reduced", "reduced"]
