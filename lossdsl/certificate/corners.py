"""Signs of sums that are affine in scalars of an interval: they are what they are at its ends.

f(w) = a + b w is, for w from l to h, a mixture of f(l) and f(h), and from l on f(l) and what grows at the rate b. Whatever else
there is in f has the value that it has, so that what is known of it holds at the ends, too, where it depends on w itself. Sums
over the same places are added up element by element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from lossdsl.certificate import elements
from lossdsl.certificate.norms import inlined, root_of
from lossdsl.ir.nodes import ONE, REAL, Apply, Const, Definition, Index, Read, Scalar, Select, Stop, postorder
from lossdsl.ir.rewrite import fresh_index, substitute, transform
from lossdsl.verify.enclosure import INF, Enclosure

if TYPE_CHECKING:
    from lossdsl.certificate.bounds import Bounds, Case

_MOST = 24  # monomials
_SPLIT = 3  # scalars that are put at the ends of their intervals
_TRIED = 40  # sums that are looked at for one question
Monomial = tuple[Scalar, ...]
Polynomial = dict[Monomial, Fraction]


def sign_of(case: Case, node: Scalar, *, defined: bool = True) -> Enclosure | None:
    """The sign of a sum, if that is seen; also that it has one, if it is not known to be defined."""
    for sign in (1, -1):
        strict = at_least_zero(case, node, sign, defined=defined)
        if strict is not None:
            return Enclosure(0.0, INF, strict, False) if sign > 0 else Enclosure(-INF, 0.0, False, strict)
    return None


def at_least_zero(case: Case, node: Scalar, sign: int = 1, *, defined: bool = True) -> bool | None:
    """Whether a sum times a sign is more than 0 (True), or not less (False). What cancels has to be finite, unless the sum is
    known to be `defined`."""
    cancelled: set[Scalar] = set()
    terms = elements.terms_of(case.bounds, node, Fraction(sign), cancelled)
    if not defined and not all(case[n].finite for n in cancelled):
        return None
    found = elements.at_least_zero(case, terms)
    flat = inlined(case.bounds, node) if found is None and case.split and defined else None
    return found if flat is None else _in_cases(case.inside(flat), flat, sign, [_TRIED])


def _in_cases(case: Case, node: Scalar, sign: int, left: list[int]) -> bool | None:
    """In both cases of a condition, where a term has two."""
    two = next((t for t in elements.terms_of(case.bounds, node, Fraction(sign)) if isinstance(t, Select)), None)
    if two is None or left[0] <= 0:
        f = _polynomial(case.bounds, node, sign)
        return None if f is None else _Corners(case, left).of(f, _SPLIT)
    left[0] -= 1
    strict = []
    for holds, branch in ((True, two.a), (False, two.b)):
        here = case.given(two.condition, holds)
        if here is not None:
            part = substitute(node, {two: branch})
            strict.append(_in_cases(here.inside(part), part, sign, left))
    return None if None in strict else all(strict)


@dataclass(frozen=True)
class _Corners:
    case: Case
    left: list[int]

    def of(self, f: Polynomial, splits: int) -> bool | None:
        """Whether a polynomial of finite scalars is more than 0 (True), or not less (False)."""
        if self.left[0] <= 0 or not all(self.case[a].finite for m in f for a in m):
            return None
        self.left[0] -= 1
        found = elements.at_least_zero(self.case, {_product(m): k for m, k in f.items()})
        if found is None:
            found = self._together(f, splits)
        for g in self._less(f) if found is None and splits else ():
            found = self.of(g, splits - 1) if found is None else found
        for w in sorted(_affine(f), key=lambda w: not self.case[w].bounded) if found is None and splits else ():
            strict = self._between(f, w, splits - 1)
            if strict:
                return True
            found = found if strict is None else strict
        return found

    def _less(self, f: Polynomial) -> Iterator[Polynomial]:
        """With what a scalar is known to be at most in place of it, where that lowers the polynomial."""
        for n in [m[0] for m, k in f.items() if len(m) == 1 and k < 0]:
            for other in elements.compared(self.case, n, ("<", "<=")):
                above = _polynomial(self.case.bounds, other, 1)
                if above is not None:
                    yield _plus({m: k for m, k in f.items() if m != (n,)}, above, f[n,])

    def _between(self, f: Polynomial, w: Scalar, splits: int) -> bool | None:
        """By what it is at the ends of where one scalar lies."""
        box = self.case[w]
        if box.hi == INF and box.lo == -INF:
            return None
        if box.lo > -INF and box.hi < INF:
            first = self.of(_at(f, w, Fraction(box.lo)), splits)
            last = None if first is None else self.of(_at(f, w, Fraction(box.hi)), splits)
            if first is None or last is None:
                return None
            return (first and (last or box.hi_open)) or (last and box.lo_open)
        end, away = (box.lo, 1) if box.lo > -INF else (box.hi, -1)
        first = self.of(_at(f, w, Fraction(end)), splits)
        rate = {_without(m, w): k * away for m, k in f.items() if w in m}
        grows = None if first is None else self.of(rate, splits)
        return (
            None if first is None or grows is None else first or (grows and (box.lo_open if away > 0 else box.hi_open))
        )

    def _together(self, f: Polynomial, splits: int) -> bool | None:
        """By what sums over the same axes are, element by element."""
        found = [(m, self.case.bounds.fold(m[0], ("sum",))) for m in f if len(m) == 1]
        folds = [(m, d) for m, d in found if d is not None and d.body.dtype is REAL]
        for first, d in folds:
            same = [(m, other) for m, other in folds if _axes(other) == _axes(d)]
            if len(same) < 2 or same[0][0] is not first:
                continue
            body = inlined(self.case.bounds, self._added(f, same))
            if body is None:
                return None
            rest = {m: k for m, k in f.items() if m not in [m for m, _ in same]}
            inner = self.case.inside(body)
            axes = frozenset(i.dim for i in d.bound)
            inner = type(inner)(inner.bounds, inner.some | axes, inner.known, inner.split)
            polynomial = _polynomial(inner.bounds, body, 1)
            if polynomial is not None and _Corners(inner, self.left).of(polynomial, splits) is not None:
                return self.of(rest, splits)
        return None

    def _added(self, f: Polynomial, same: Sequence[tuple[Monomial, Definition]]) -> Scalar:
        """The element of the sum of some folds, at places that are free."""
        scalars = (n for m, d in same for n in (m[0], d.body))  # what is known in the case is about its own indices
        taken = {n for n in postorder(*scalars, *self.case.known) if isinstance(n, Index)}
        places: list[Scalar] = []
        for i in _ordered(same[0][1].bound):
            taken.add(place := fresh_index(i, taken))
            places.append(place)
        body: Scalar = Const(Fraction(0))
        for m, d in same:
            read = m[0]
            assert isinstance(read, Read)
            at: dict[Scalar, Scalar] = dict(zip(d.formals, read.indices, strict=True))
            at.update(zip(_ordered(d.bound), places, strict=True))
            body = Apply("add", (body, Apply("mul", (Const(f[m]), substitute(d.body, at)))))
        return body


def _ordered(bound: tuple[Index, ...]) -> list[Index]:
    return sorted(bound, key=lambda i: i.dim)


def _axes(d: Definition) -> list[object]:
    return [i.dim for i in _ordered(d.bound)]


def _affine(f: Polynomial) -> Iterator[Scalar]:
    """The scalars that it is affine in, and that are multiplied by others."""
    seen = dict.fromkeys(a for m in f if len(m) > 1 for a in m)
    yield from (w for w in seen if all(m.count(w) <= 1 for m in f))


def _at(f: Polynomial, w: Scalar, end: Fraction) -> Polynomial:
    found: Polynomial = {}
    for m, k in f.items():
        here, factor = (_without(m, w), k * end) if w in m else (m, k)
        found[here] = found.get(here, Fraction(0)) + factor
    return {m: k for m, k in found.items() if k}


def _without(m: Monomial, w: Scalar) -> Monomial:
    return tuple(a for a in m if a is not w)


def _product(m: Monomial) -> Scalar:
    found: Scalar = m[0] if m else Const(Fraction(1))
    for a in m[1:]:
        found = Apply("mul", (found, a))
    return found


def _polynomial(bounds: Bounds, node: Scalar, sign: int) -> Polynomial | None:
    """A scalar as a polynomial in others, None if it is too large."""
    order: dict[Scalar, int] = {}
    found: dict[Scalar, Polynomial] = {}
    for n in postorder(node):
        order[n] = len(order)
        f = _step(n, found, order)
        if len(f) > _MOST:
            return None
        found[n] = f
    return {m: k * sign for m, k in found[node].items()}


def is_one(case: Case, a: Scalar, b: Scalar, at: tuple[Scalar, Scalar]) -> bool:
    """Whether two scalars that are finite are the same number wherever one scalar is another: the same polynomial in scalars."""
    flat = [inlined(case.bounds, n) for n in (a, b, *at)]
    first, second, old, new = flat
    if first is None or second is None or old is None or new is None:
        return False
    sides = (_spelled(case, substitute(n, {old: new})) for n in (first, second))
    return _polynomial(case.bounds, Apply("sub", tuple(sides)), 1) == {}


def _spelled(case: Case, node: Scalar) -> Scalar:
    """With quotients and squares as products, other powers of positive numbers as exponentials, and products in an order."""

    def step(n: Scalar) -> Scalar:
        match n:
            case Apply(name="div") if n.args[0] is not ONE:
                return step(Apply("mul", (n.args[0], Apply("div", (ONE, n.args[1])))))
            case Apply(name="mul"):
                return Apply("mul", tuple(sorted(n.args, key=repr)))
            case Apply(name="pow" | "powi") if (root := root_of(n)) is not None:
                return Apply("mul", (root, root))
            case Apply(name="expm1"):
                return Apply("sub", (Apply("exp", n.args), ONE))
            case Apply(name="pow") if not isinstance(n.args[1], Const) and case[n.args[0]].positive:
                return Apply("exp", (step(Apply("mul", (n.args[1], Apply("log", (n.args[0],))))),))
        return n

    return transform(node, step)


def _plus(f: Polynomial, g: Polynomial, times: Fraction) -> Polynomial:
    found = dict(f)
    for m, k in g.items():
        found[m] = found.get(m, Fraction(0)) + k * times
    return {m: k for m, k in found.items() if k}


def _step(n: Scalar, found: dict[Scalar, Polynomial], order: dict[Scalar, int]) -> Polynomial:
    match n:
        case Const() if isinstance(n.value, Fraction) and n.dtype is REAL:
            return {(): n.value} if n.value else {}
        case Stop():
            return found[n.a]
        case Apply(name="real") if n.args[0].dtype is REAL:
            return found[n.args[0]]
        case Apply(name="neg"):
            return {m: -k for m, k in found[n.args[0]].items()}
        case Apply(name="add" | "sub"):
            return _plus(found[n.args[0]], found[n.args[1]], Fraction(1 if n.name == "add" else -1))
        case Apply(name="mul"):
            product: Polynomial = {}
            for a, k in found[n.args[0]].items():
                for b, c in found[n.args[1]].items():
                    m = tuple(sorted((*a, *b), key=order.__getitem__))
                    product[m] = product.get(m, Fraction(0)) + k * c
            return {m: k for m, k in product.items() if k}
        case Apply(name="div") if [*found[n.args[1]]] == [()]:
            return {m: k / found[n.args[1]][()] for m, k in found[n.args[0]].items()}
    return {(n,): Fraction(1)}


__all__ = ["at_least_zero", "is_one", "sign_of"]
