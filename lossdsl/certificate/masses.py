"""Lipschitz bounds of rows by the masses of a gradient: how much its positive entries add up to at most, and its negative ones.

The gradient of a maximum, and of a log-sum-exp, is a mixture of those of its elements; that of a sum is their sum. With a and b
for both masses, the gradient is at most a + b in l1, max(a, b) in linf, and sqrt(a^2 + b^2) in l2; of an element of one entry
it is at most max(a, b) in size. Masses are polynomials in what does not move, several of them where it is not known which one
it is, so that what a sum is multiplied with and divided by cancels, and a bound with parameters in it is one for all of them.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.certificate import polynomials as p
from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.boxes import number
from lossdsl.certificate.coverings import Curve
from lossdsl.certificate.elements import bare, is_weight, terms_of
from lossdsl.certificate.polynomials import Polynomial
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.slopes import Slopes
from lossdsl.ir.nodes import INT, TRUE, Apply, Const, Definition, Read, Scalar, Select, Size, postorder
from lossdsl.ir.rewrite import free_indices, substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

_SLOPES = {  # of functions of one argument that rise: at most
    **dict.fromkeys(("relu", "softplus", "real", "tanh", "atan"), Fraction(1)),
    "sigmoid": Fraction(1, 4),
    "logsigmoid": Fraction(1),
}
_WAVES = ("sin", "cos", "logcosh")  # of slopes between -1 and 1
_MIXED = ("max", "min", "logsumexp")
_MOST = 16  # alternatives
Either = frozenset[Polynomial]  # at most the largest of them
NOTHING: Either = frozenset({p.ZERO})


@dataclass(frozen=True)
class Mass:
    """What positive entries add up to at most, and negative ones, in size."""

    up: Either = NOTHING
    down: Either = NOTHING

    @property
    def turned(self) -> Mass:
        return Mass(self.down, self.up)

    @property
    def both(self) -> Mass:
        most = _largest([self.up, self.down])
        return Mass(most, most)

    def each(self, of: Callable[[Polynomial], Polynomial]) -> Mass:
        return Mass(*(frozenset(map(of, side)) for side in (self.up, self.down)))

    def times(self, by: Polynomial) -> Mass:
        return self.each(lambda mass: p.times(mass, by))


NONE, ENTRY = Mass(), Mass(frozenset({p.constant(Fraction(1))}))


def _largest(sides: Iterable[Either]) -> Either:
    found = frozenset[Polynomial]().union(*sides)
    found = found - {p.ZERO} or NOTHING  # none is below 0
    if len(found) > _MOST:
        raise Stuck("too many alternatives")
    return found


def _larger(parts: list[Mass]) -> Mass:
    return Mass(_largest(m.up for m in parts), _largest(m.down for m in parts))


def _not_negative(case: Case, mass: Mass) -> Mass:
    """A mass of some of the cases: it is at least 0, as that of the others, in all of them. Raises Stuck."""
    if not all(p.nonnegative(case, m) for m in mass.up | mass.down):
        raise Stuck("a mass that would be below 0 where another branch is taken")
    return mass


def _sum(a: Mass, b: Mass) -> Mass:
    ups, downs = ([p.plus(x, y) for x in s for y in t] for s, t in ((a.up, b.up), (a.down, b.down)))
    return Mass(_largest([frozenset(ups)]), _largest([frozenset(downs)]))


class Masses:
    """Of elements, in all entries of the input together. Raises Stuck where no rule applies."""

    def __init__(self, bounds: Bounds, slopes: Slopes) -> None:
        self.bounds, self.rules = bounds, slopes.rules
        self._known: dict[str, Mass] = {}

    def tensor(self, name: str) -> Mass:
        """At the places that the definition names."""
        if name in self.rules.inputs:
            return ENTRY
        if name not in self._known:
            d = self.bounds.definitions[name]
            if d.tensor in self.bounds.recurrent:
                raise Stuck(f"{d.tensor}: a recurrence")
            case = self.rules.case(d)
            found = NONE if case is None or not self.rules.moves(d.body) else self._folded(d, case)
            selected = d.where is not TRUE or d.support is not TRUE
            self._known[name] = _not_negative(self.bounds.body(d), found) if selected else found
        return self._known[name]

    def _folded(self, d: Definition, case: Case) -> Mass:
        if d.head == "map":
            return self.scalar(d.body, case)
        if d.head in _MIXED:
            return self._without_bound(d, case, self.scalar(d.body, case))
        if d.head != "sum":
            raise Stuck(f"{d.tensor}: no rule for {d.head}")
        mixed = self._weighted(d)
        if mixed is not None:
            return self._without_bound(d, case, self.scalar(mixed, case))
        return self._without_bound(d, case, self.scalar(d.body, case)).times(self._count(d))

    def _without_bound(self, d: Definition, case: Case, mass: Mass) -> Mass:
        """At most what it is at any place of the axes that are folded."""
        bound = set(d.bound)
        return mass.each(lambda m: p.at_most(case, m, lambda atom: not bound.isdisjoint(atom.free)))

    def _weighted(self, d: Definition) -> Scalar | None:
        """What a sum is a mixture of, up to what does not move: its terms without weights of sum 1."""
        moving = [(n, k) for n, k in terms_of(self.bounds, d.body, Fraction(1)).items() if self.rules.moves(n)]
        if len(moving) == 1 and d.where is TRUE and d.support is TRUE and len(d.bound) == 1:
            ((n, k),) = moving
            for weight, rest in (n.args, n.args[::-1]) if isinstance(n, Apply) and n.name == "mul" else ():
                if not self.rules.moves(weight) and is_weight(self.bounds, weight, d.bound[0]):
                    return rest if k == 1 else Apply("mul", (Const(k), rest))
        return None

    def _count(self, d: Definition) -> Polynomial:
        """How many terms a sum has: what the program counts there, or at most as many as its axes are long."""
        for c in self.bounds.definitions.values() if d.where is not TRUE else ():
            axes = [[i.dim for i in places] for places in (c.formals, c.bound)]
            whole = c.head == "count" and c.support is TRUE and c.body is TRUE and c.tensor not in self.bounds.recurrent
            if whole and axes == [[i.dim for i in places] for places in (d.formals, d.bound)]:
                if substitute(c.where, dict(zip((*c.formals, *c.bound), (*d.formals, *d.bound)))) is d.where:
                    return p.one(Read(c.tensor, d.formals, INT))
        found = p.constant(Fraction(1))
        for i in d.bound:
            found = p.times(
                found, p.one(Size(i.dim)) if i.dim.constant is None else p.constant(Fraction(i.dim.constant))
            )
        return found

    # ------------------------------------------------------------------------------------------------ scalars

    def scalar(self, n: Scalar, case: Case) -> Mass:
        if not self.rules.moves(n):
            return NONE
        if isinstance(n, Read) and not self.rules.moves(*n.indices):
            return self._read(n)
        if isinstance(n, Select) and not self.rules.moves(n.condition):
            sides = ((branch, case.given(n.condition, holds)) for branch, holds in ((n.a, True), (n.b, False)))
            found = _larger([self.scalar(b, inner.inside(b)) for b, inner in sides if inner is not None])
            return _not_negative(case, found)
        if not isinstance(n, Apply) or n.dtype is INT:
            raise Stuck(f"{type(n).__name__} has no rule")
        boxes = self.rules.arguments(n, case)
        if n.name in ("exp", "expdiff") and (share := self._share(n, case)) is not None:
            return share
        parts = [self.scalar(a, case) for a in n.args]
        match n.name:
            case "neg":
                return parts[0].turned
            case "add" | "sub":
                return _sum(parts[0], parts[1] if n.name == "add" else parts[1].turned)
            case "max2" | "min2" | "logaddexp":
                return _larger(parts)
            case "abs":
                return parts[0].both
            case "mul" if parts[0] == NONE or parts[1] == NONE:
                k = 0 if parts[0] == NONE else 1
                return self._scaled(parts[1 - k], boxes[k], n.args[k], p.of_scalar, case)
            case "div" if parts[1] == NONE and boxes[1].nonzero:
                return self._scaled(parts[0], boxes[1], n.args[1], p.inverse, case)
        if n.name in _SLOPES:
            return parts[0].times(p.constant(_SLOPES[n.name]))
        if n.name in _WAVES:
            return parts[0].both
        raise Stuck(f"{n.name} has no rule")

    def _read(self, n: Read) -> Mass:
        found = self.tensor(n.tensor)
        d = self.bounds.definitions.get(n.tensor)
        if d is None or list(d.formals) == list(n.indices):
            return found
        at: dict[Scalar, Scalar] = dict(zip(d.formals, n.indices, strict=True))
        return found.each(lambda m: p.mapped(m, lambda atom: substitute(atom, at)))

    def _scaled(
        self, mass: Mass, box: Enclosure, by: Scalar, of: Callable[[Case, Scalar], Polynomial], case: Case
    ) -> Mass:
        """Times a scalar that does not move, or divided by it."""
        if mass == NONE:
            return NONE
        if self.rules.moves(by):
            raise Stuck("a factor that moves")
        if box.nonnegative:
            return mass.times(of(case, by))
        if box.nonpositive:
            return mass.turned.times(p.minus(of(case, by)))
        return mass.both.times(of(case, Apply("abs", (by,))))

    def _share(self, n: Apply, case: Case) -> Mass | None:
        """Of an entry of a softmax: p (1 - p) times the gradient of its logit, the one less a mean of the others."""
        found = self.logit(n if n.name == "expdiff" else bare(self.bounds, n.args[0]), case)
        return None if found is None else found.times(p.constant(Fraction(1, 4)))

    def logit(self, n: Scalar, case: Case) -> Mass | None:
        """Of x less the log-sum-exp of the others in a row, if the scalar is x less that of the row."""
        if not isinstance(n, Apply) or n.name not in ("sub", "expdiff"):
            return None
        x, total = n.args
        d = self.bounds.fold(total, ("logsumexp",))
        places = [i for r in postorder(n) if isinstance(r, Read) for i in r.indices]
        if d is None or not isinstance(total, Read) or self.rules.moves(*places):
            return None
        if not case.is_element(x, total, d) or not self.bounds.body(d)[d.body].finite:
            return None
        mean = self._read(total)
        return _sum(mean, mean.turned)


# ------------------------------------------------------------------------------------------------------ bounds


def of_masses(q: Question) -> list[list[str]]:
    """A bound, or what a Lipschitz constant is not above. Raises Stuck."""
    if len(q.inputs) != 1:
        raise Stuck("more than one input")
    bounds = Bounds(q.program, q.assume, moved=frozenset(q.inputs))
    slopes = Slopes(bounds, q.inputs)
    way = slopes.lipschitz(q.of)
    found = Masses(bounds, slopes).tensor(q.of)
    d = bounds.definitions.get(q.of)
    case = Case(bounds, frozenset() if d is None else frozenset(i.dim for i in d.formals), {})
    norm = "one entry" if _is_of_one_entry(q) else q.norm
    size, allowed = size_of(case, found, norm), _allowed(q, case)
    if not _fits(case, found, norm, allowed):
        raise Stuck(f"{q.of} is seen to have slopes up to {size}")
    return [[*way], ["masses", told(found.up), told(found.down)], [norm, told(allowed), size.hex()]]


def _is_of_one_entry(q: Question) -> bool:
    with contextlib.suppress(Stuck):
        Curve(q)
        return True
    return False


def told(side: Either) -> str:
    return ", ".join(sorted(map(p.told, side)))


def _allowed(q: Question, case: Case) -> Either:
    """Polynomials, one of which the bound is wherever it is used."""
    if q.bound is not None and free_indices(q.bound):
        raise Stuck("a bound that varies with the element")
    if q.bound is not None:
        return frozenset(p.of_scalar(case, n) for n in _largest_of(q.bound))
    return frozenset({p.constant(Fraction(allowed_number(q)))})


def allowed_number(q: Question) -> float:
    """What a slope is not to be above, or a number that is less. Raises Stuck."""
    if q.bound is not None:
        return number(q.bound)
    low, high = q.bracket
    if low is not None:
        raise Stuck("masses tell no place at which a slope is large")
    if high is None:
        raise Stuck("no number that it is not above")
    return high


def _largest_of(n: Scalar) -> Iterable[Scalar]:
    if isinstance(n, Apply) and n.name in ("max2", "real"):
        return [x for a in n.args for x in _largest_of(a)]
    return [n]


def _fits(case: Case, mass: Mass, norm: str, allowed: Either) -> bool:
    """Whether the bound, which is the largest of its polynomials, is at least what the masses say."""

    def below(*gaps: Callable[[Polynomial], Polynomial]) -> bool:
        return any(all(p.nonnegative(case, gap(bound)) for gap in gaps) for bound in allowed)

    def less(most: Polynomial) -> Callable[[Polynomial], Polynomial]:
        return lambda bound: p.plus(bound, p.minus(most))

    if norm in ("l1", "one entry"):
        return all(below(less(side)) for side in mass.up | mass.down)
    pairs = itertools.product(mass.up, mass.down)
    if norm == "linf":
        return all(below(less(p.plus(up, down))) for up, down in pairs)
    squares = (p.plus(p.times(up, up), p.times(down, down)) for up, down in pairs)
    return all(below(less(p.ZERO), lambda b, s=s: less(s)(p.times(b, b))) for s in squares)  # type: ignore[misc]


def size_of(case: Case, mass: Mass, norm: str) -> float:
    """What the gradient is at most, by intervals."""
    up, down = (max(p.enclosed(case, m).hi for m in side) for side in (mass.up, mass.down))
    if norm in ("l1", "one entry"):
        return max(up, down)
    if norm == "linf":
        return e.add_up(up, down)
    if max(up, down) == INF:
        return INF
    both = e.add_up(e.mul_up(up, up), e.mul_up(down, down))
    root = math.sqrt(both)
    return root if e.mul_up(root, root) == both else e.up(root)


__all__ = ["Mass", "Masses", "allowed_number", "of_masses", "size_of", "told"]
