"""Germs: what a quantity is for all large t, as a sum of monomials c e^(bt) t^a (log t)^l and a bound on what is left out.

A germ is `sum of coefficient * monomial + O(rest)`; without a rest it is *exactly* that sum for all large t. Coefficients
are exact rationals or enclosures of one real number each. Along a ray (`t` goes to infinity) or towards a point (entries
`p + d / t`) this gives the growth of a loss, the sign of every difference, and where the loss is exactly affine; it is
the leading part of a transseries (van der Hoeven, "Transseries and Real Differential Algebra", 2006) with numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.ir.nodes import Apply, Param
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.operations import smooth_at, transfer

Monomial = tuple[Fraction, Fraction, Fraction]  # of e^t, t and log t: in the order of their growth
Coefficient = Fraction | Enclosure
_0, _1 = Fraction(0), Fraction(1)
CONSTANT: Monomial = (_0, _0, _0)
LINEAR: Monomial = (_0, _1, _0)
_LOG: Monomial = (_0, _0, _1)
_BEYOND: Monomial = (Fraction(-(10**6)), _0, _0)  # a bound for what falls faster than every e^(-bt)
_MOST_TERMS = 16
_MOST_BITS = 4000


class Unsettled(Exception):
    """The leading monomial, a sign, or a function of the germ is not known."""


@dataclass(frozen=True)
class Germ:
    """Terms in falling order, all above `rest`; None: nothing is left out."""

    terms: tuple[tuple[Monomial, Coefficient], ...]
    rest: Monomial | None = None

    @property
    def exact(self) -> bool:
        return self.rest is None

    @property
    def zero(self) -> bool:
        return not self.terms and self.rest is None

    @property
    def top(self) -> Monomial | None:
        """The germ is O(top); None for 0."""
        return self.terms[0][0] if self.terms else self.rest

    def lead(self) -> tuple[Monomial, Coefficient]:
        """The leading monomial and its coefficient, which is certainly not 0. Raises Unsettled."""
        if not self.terms or not _nonzero(self.terms[0][1]):
            raise Unsettled("the leading term is not known")
        return self.terms[0]

    def sign(self) -> int:
        """The sign for all large t. Raises Unsettled."""
        if self.zero:
            return 0
        _, c = self.lead()
        return 1 if enclosed(c).positive else -1

    def number(self) -> Coefficient:
        """The value of a germ that does not vary. Raises Unsettled."""
        if self.zero:
            return _0
        if self.exact and len(self.terms) == 1 and self.terms[0][0] == CONSTANT:
            return self.terms[0][1]
        raise Unsettled("a value that varies")

    def limit(self) -> tuple[Coefficient, Germ]:
        """The finite limit and what tends to 0 beside it. Raises Unsettled."""
        if self.top is None:
            return _0, self
        if self.top > CONSTANT or (self.rest is not None and self.rest >= CONSTANT):
            raise Unsettled("no finite limit")
        if self.top == CONSTANT:
            return self.terms[0][1], Germ(self.terms[1:], self.rest)
        return _0, self

    def __str__(self) -> str:
        shown = [f"{_shown(c)} {_named(m)}".strip() for m, c in self.terms[:3]]
        if self.rest is not None or len(self.terms) > 3:
            shown.append("...")
        return " + ".join(shown) or "0"


ZERO = Germ(())


def constant(c: Coefficient) -> Germ:
    return Germ(((CONSTANT, c),)) if _present(c) else ZERO


def monomial(m: Monomial, c: Coefficient = _1) -> Germ:
    return Germ(((m, c),)) if _present(c) else ZERO


# ------------------------------------------------------------------------------------------------ coefficients


def _present(c: Coefficient) -> bool:
    return c != 0 if isinstance(c, Fraction) else not c.zero


def _nonzero(c: Coefficient) -> bool:
    return c != 0 if isinstance(c, Fraction) else c.nonzero


def enclosed(c: Coefficient) -> Enclosure:
    return e.exact(c) if isinstance(c, Fraction) else c


def certain(c: Coefficient) -> Coefficient:
    """The coefficient, as a number of moderate length or an enclosure; an enclosure of one number is that number."""
    if isinstance(c, Fraction):
        return c if max(c.numerator.bit_length(), c.denominator.bit_length()) < _MOST_BITS else e.exact(c)
    if not c.bounded:
        raise Unsettled("a coefficient without bounds")
    return Fraction(c.lo) if c.lo == c.hi else c


def _added(a: Coefficient, b: Coefficient) -> Coefficient:
    return certain(a + b if isinstance(a, Fraction) and isinstance(b, Fraction) else e.add(enclosed(a), enclosed(b)))


def _multiplied(a: Coefficient, b: Coefficient) -> Coefficient:
    return certain(a * b if isinstance(a, Fraction) and isinstance(b, Fraction) else e.mul(enclosed(a), enclosed(b)))


def _inverted(c: Coefficient) -> Coefficient:
    return certain(1 / c if isinstance(c, Fraction) else e.reciprocal(c))


def _function(name: str, c: Coefficient) -> Coefficient:
    box = transfer(_NODES[name], [enclosed(c)])
    if box.nan:
        raise Unsettled(f"{name} may be undefined")
    return certain(box)


def _raised(c: Coefficient, p: Fraction) -> Coefficient:
    """c ** p of a number that is certainly not 0."""
    if p.denominator == 1 and isinstance(c, Fraction) and abs(p) < 64:
        return certain(c ** int(p))
    if p.denominator == 1:
        return certain(e.integer_power(enclosed(c), int(p)))
    if not enclosed(c).positive:
        raise Unsettled("a power of a negative number")
    if p == Fraction(1, 2) and isinstance(c, Fraction):
        top, bottom = math.isqrt(c.numerator), math.isqrt(c.denominator)
        if Fraction(top, bottom) ** 2 == c:
            return Fraction(top, bottom)
    if p == Fraction(1, 2):
        return _function("sqrt", c)
    return _function("exp", _multiplied(p, _function("log", c)))


_NODES: dict[str, Apply] = {}
for _name in ("exp", "log", "sqrt"):
    _node = Apply(_name, (Param("#x"),))
    assert isinstance(_node, Apply)
    _NODES[_name] = _node

# -------------------------------------------------------------------------------------------------- arithmetic


def _made(terms: Iterable[tuple[Monomial, Coefficient]], rest: Monomial | None) -> Germ:
    """In order, without what is 0, and without what the rest bounds."""
    total: dict[Monomial, Coefficient] = {}
    for m, c in terms:
        total[m] = _added(total[m], c) if m in total else c
    return _cut(sorted(total.items(), reverse=True, key=_key), rest)


def _cut(terms: Iterable[tuple[Monomial, Coefficient]], rest: Monomial | None) -> Germ:
    """Terms in falling order, without what is 0, and without what the rest bounds."""
    kept = [(m, c) for m, c in terms if _present(c) and (rest is None or m > rest)]
    if len(kept) > _MOST_TERMS:
        rest = kept[_MOST_TERMS][0]
        kept = kept[:_MOST_TERMS]
    return Germ(tuple(kept), rest)


def _key(term: tuple[Monomial, Coefficient]) -> Monomial:
    return term[0]


def _highest(a: Monomial | None, b: Monomial | None) -> Monomial | None:
    return b if a is None else a if b is None else max(a, b)


def _together(a: Monomial | None, b: Monomial | None) -> Monomial | None:
    if a is CONSTANT or b is CONSTANT:
        return b if a is CONSTANT else a
    return None if a is None or b is None else (a[0] + b[0], a[1] + b[1], a[2] + b[2])


def add(a: Germ, b: Germ) -> Germ:
    if a.zero or b.zero:
        return b if a.zero else a
    return _cut(_merged(a.terms, b.terms), _highest(a.rest, b.rest))


def _merged(
    p: Sequence[tuple[Monomial, Coefficient]], q: Sequence[tuple[Monomial, Coefficient]]
) -> Iterator[tuple[Monomial, Coefficient]]:
    i = j = 0
    while i < len(p) and j < len(q):
        m, n = p[i][0], q[j][0]
        if m is n or m == n:
            yield m, _added(p[i][1], q[j][1])
            i, j = i + 1, j + 1
        elif m > n:
            yield p[i]
            i += 1
        else:
            yield q[j]
            j += 1
    yield from p[i:] or q[j:]


def neg(a: Germ) -> Germ:
    return Germ(tuple((m, -c if isinstance(c, Fraction) else e.neg(c)) for m, c in a.terms), a.rest)


def sub(a: Germ, b: Germ) -> Germ:
    return add(a, neg(b))


def mul(a: Germ, b: Germ) -> Germ:
    rest = _highest(_together(a.rest, b.top), _together(b.rest, a.top))
    products = []
    for m, c in a.terms:
        for n, d in b.terms:
            both = _together(m, n)
            assert both is not None
            products.append((both, _multiplied(c, d)))
    if len(a.terms) <= 1 or len(b.terms) <= 1:  # in the order of the other's
        return _cut(products, rest)
    return _made(products, rest)


def power(a: Germ, p: Fraction) -> Germ:
    """a ** p: of any germ for a whole p >= 0, else of one whose leading term is known (and positive for a broken p)."""
    if p == 0:
        return constant(_1)
    if p.denominator == 1 and 0 < p <= 8:
        result = a
        for _ in range(int(p) - 1):
            result = mul(result, a)
        return result
    if a.zero:
        if p > 0:
            return ZERO
        raise Unsettled("a reciprocal of 0")
    m, c = a.lead()
    scale = _raised(c, p)
    outer = monomial((m[0] * p, m[1] * p, m[2] * p), scale)
    small = _relative(a, m, c)
    if small.zero:
        return outer
    # (1 + s)^p = 1 + p s + O(s^2)
    return mul(outer, add(add(constant(_1), mul(constant(p), small)), _squared_rest(small)))


def _relative(a: Germ, m: Monomial, c: Coefficient) -> Germ:
    """(a - lead) / lead."""
    back = monomial((-m[0], -m[1], -m[2]), _inverted(c))
    return mul(Germ(a.terms[1:], a.rest), back)


def _squared_rest(small: Germ) -> Germ:
    top = _together(small.top, small.top)
    assert top is not None
    return Germ((), top)


def divide(a: Germ, b: Germ) -> Germ:
    if a.exact and a == b and all(isinstance(c, Fraction) for _, c in a.terms) and b.sign():
        return constant(_1)
    return ZERO if a.zero and b.sign() else mul(a, power(b, Fraction(-1)))


def magnitude(a: Germ) -> Germ:
    return neg(a) if a.sign() < 0 else a


def larger(a: Germ, b: Germ) -> Germ:
    return b if sub(a, b).sign() < 0 else a


# --------------------------------------------------------------------------------------------------- functions


def exponential(a: Germ) -> Germ:
    """e^a: of a germ that is c t + k log t + constant + what vanishes, or that falls faster than linearly."""
    rate, degree = _0, _0
    rest = a.rest
    growing = [(m, c) for m, c in a.terms if m > CONSTANT]
    known = all(m in (LINEAR, _LOG) and isinstance(c, Fraction) for m, c in growing)
    if not known or (rest is not None and rest >= CONSTANT):
        m, leading = a.lead()
        if m > LINEAR and a.sign() < 0:
            return Germ((), _BEYOND)
        if m == LINEAR and a.sign() < 0:  # a is below half of its leading term, far enough out
            return Germ((), (Fraction(enclosed(leading).hi) / 2, _0, _0))
        raise Unsettled("the exponential of what is not all but affine")
    for m, c in growing:
        assert isinstance(c, Fraction)
        rate, degree = (c, degree) if m == LINEAR else (rate, c)
    value, small = Germ(tuple((m, c) for m, c in a.terms if m <= CONSTANT), rest).limit()
    scale = _1 if value == 0 else _function("exp", value)
    outer = monomial((rate, degree, _0), scale)
    if small.zero:
        return outer
    return mul(outer, add(add(constant(_1), small), _squared_rest(small)))


def logarithm(a: Germ) -> Germ:
    m, c = a.lead()
    if a.sign() < 0:
        raise Unsettled("the logarithm of a negative number")
    if m[2] != 0:
        raise Unsettled("an iterated logarithm")
    value: Coefficient = _0 if c == 1 else _function("log", c)
    outer = _made([(LINEAR, m[0]), (_LOG, m[1]), (CONSTANT, value)], None)
    small = _relative(a, m, c)
    return outer if small.zero else add(outer, add(small, _squared_rest(small)))


def log_sum_exp(values: list[Germ]) -> Germ:
    """Relative to the largest."""
    if len(values) == 1:
        return values[0]
    top = values[0]
    for v in values[1:]:
        try:
            top = larger(top, v)
        except Unsettled:
            sub(top, v).limit()  # as large as the other up to a bounded difference: either will do
    total = ZERO
    for v in values:
        total = add(total, constant(_1) if v is top else exponential(sub(v, top)))
    return add(top, logarithm(total))


_HALF_LOG_TWO_PI = Enclosure(0.9189385332046726, 0.9189385332046729)


def log_gamma(a: Germ) -> Germ:
    """Of what goes to 0 from above, -log a + O(a); of what goes to infinity, Stirling's series."""
    goes = _positive_end(a)
    if goes < 0:
        return add(neg(logarithm(a)), Germ((), a.top))
    half = add(a, constant(Fraction(-1, 2)))
    rest = Germ((), power(a, Fraction(-1)).top)
    return add(add(sub(mul(half, logarithm(a)), a), constant(_HALF_LOG_TWO_PI)), rest)


def digamma(a: Germ) -> Germ:
    """The derivative of the logarithm of the gamma function: -1 / a + O(1) near 0, log a - 1 / (2 a) + O(1 / a^2) far out."""
    goes, inverse = _positive_end(a), power(a, Fraction(-1))
    if goes < 0:
        return add(neg(inverse), Germ((), CONSTANT))
    return add(sub(logarithm(a), mul(constant(Fraction(1, 2)), inverse)), _squared_rest(inverse))


def _positive_end(a: Germ) -> int:
    """-1 of what goes to 0 from above, 1 of what goes to infinity. Raises Unsettled."""
    leading, _ = a.lead()
    if a.sign() < 0 or leading == CONSTANT:
        raise Unsettled("the gamma function away from its ends")
    return 1 if leading > CONSTANT else -1


def near(node: Apply, a: Germ) -> Germ:
    """A function that is smooth at the finite limit of its argument. Raises Unsettled for all else."""
    value, small = a.limit()
    box = enclosed(value)
    if not box.bounded or (not small.zero and not smooth_at(node, [_around(box)])):
        raise Unsettled(f"{node.name} near the limit of its argument")
    found = transfer(node, [box])
    if found.nan:
        raise Unsettled(f"{node.name} may be undefined")
    outer = constant(certain(found))
    return outer if small.zero else add(outer, Germ((), small.top))


def _around(box: Enclosure) -> Enclosure:
    """A neighbourhood of the limit, in which the argument is for all large t."""
    width = 2.0**-20 * (1 + max(abs(box.lo), abs(box.hi)))
    return Enclosure(box.lo - width, box.hi + width)


def _shown(c: Coefficient) -> str:
    return f"{float(c):.4g}" if isinstance(c, Fraction) else f"{c.lo / 2 + c.hi / 2:.4g}"


def _named(m: Monomial) -> str:
    parts = [] if m[0] == 0 else [f"exp({m[0]} t)"]
    parts += [] if m[1] == 0 else ["t" if m[1] == 1 else f"t^({m[1]})"]
    parts += [] if m[2] == 0 else ["log t" if m[2] == 1 else f"(log t)^({m[2]})"]
    return " ".join(parts)


__all__ = [
    "CONSTANT",
    "LINEAR",
    "ZERO",
    "Germ",
    "Monomial",
    "Unsettled",
    "add",
    "certain",
    "constant",
    "digamma",
    "divide",
    "enclosed",
    "exponential",
    "larger",
    "log_gamma",
    "log_sum_exp",
    "logarithm",
    "magnitude",
    "monomial",
    "mul",
    "near",
    "neg",
    "power",
    "sub",
]
