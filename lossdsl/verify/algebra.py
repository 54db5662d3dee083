"""Exact normal forms: quotients of polynomials with rational coefficients over generators.

A generator is a leaf (a read, a parameter, an extent), an exponential, a log, a softplus, a square root, or any other
primitive of normalised arguments. The relations used are exp(a+b), exp(n a), exp(n log a) for a proved positive,
exp(n softplus a), sigmoid and tanh through exp, softplus(-a) = softplus(a) - a, sqrt(a)^2 = a. All of them hold for
every real value of the leaves at which the expression is defined, so that equality of normal forms is equality there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from itertools import combinations
from typing import Any

import flint

from lossdsl.ir.nodes import Apply, Const, Index, Param, Read, Scalar, Size, Stop, postorder
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import ANYTHING, INF, Enclosure
from lossdsl.verify.operations import transfer
from lossdsl.verify.ranges import Scope
from lossdsl.verify.work import CLOCK

SLOTS = 40
_CONTEXT: Any = flint.fmpq_mpoly_ctx.get([f"g{i}" for i in range(SLOTS)], "degrevlex")
_GENERATORS: Any = _CONTEXT.gens()
MOST_TERMS = 400
Poly = Any  # flint.fmpq_mpoly has no stubs
Terms = tuple[tuple[Enclosure, tuple[tuple[int, int], ...]], ...]
Box = Callable[[int], Enclosure]  # of each generator, by its slot


class TooLarge(Exception):
    """The normal form would not stay small: the caller goes on without it."""


@dataclass(frozen=True)
class Form:
    """num / den in lowest terms; the denominator is not the zero polynomial."""

    num: Poly
    den: Poly

    @property
    def key(self) -> str:
        return f"{self.num}|{self.den}"

    @cached_property
    def slots(self) -> frozenset[int]:
        return frozenset(s for part in self.terms for _, powers in part for s, _ in powers)

    @cached_property
    def terms(self) -> tuple[Terms, Terms]:
        return terms(self.num), terms(self.den)

    @cached_property
    def factors(self) -> Factors:
        return Factors.of(self)

    @property
    def zero(self) -> bool:
        return bool(self.num.is_zero())

    @property
    def constant(self) -> Fraction | None:
        if self.num.is_zero():
            return Fraction(0)
        if self.num.is_constant() and self.den.is_constant():
            q = self.num.leading_coefficient() / self.den.leading_coefficient()
            return Fraction(int(q.p), int(q.q))
        return None


def _constant(value: Fraction | int) -> Poly:
    f = Fraction(value)
    return _CONTEXT.constant(flint.fmpq(f.numerator, f.denominator))


def quotient(num: Poly, den: Poly) -> Form:
    CLOCK.steps += 2 + len(num) + len(den)
    if len(num) > MOST_TERMS or len(den) > MOST_TERMS:
        raise TooLarge
    if num.is_zero():
        return Form(num, _constant(1))
    if not den.is_constant():
        common = num.gcd(den)
        if not common.is_constant():
            num, den = num / common, den / common
    lead = den.leading_coefficient()
    return Form(num, den) if lead == 1 else Form(num * (1 / lead), den * (1 / lead))


def plus(a: Form, b: Form) -> Form:
    if a.den == b.den:
        return quotient(a.num + b.num, a.den)
    return quotient(a.num * b.den + b.num * a.den, a.den * b.den)


def minus(a: Form) -> Form:
    return Form(-a.num, a.den)


def times(a: Form, b: Form) -> Form:
    return quotient(a.num * b.num, a.den * b.den)


def power(a: Form, k: int) -> Form:
    if abs(k) > 32:
        raise TooLarge
    if k < 0:
        if a.zero:
            raise TooLarge
        return power(quotient(a.den, a.num), -k)
    return quotient(a.num**k, a.den**k)


def terms(p: Poly) -> Terms:
    """The terms of a polynomial: the coefficient, and the generators with their exponents."""
    return tuple(
        (e.exact(Fraction(int(c.p), int(c.q))), tuple((s, int(k)) for s, k in enumerate(exponents) if k))
        for exponents, c in p.terms()
    )


def enclosed(of: Terms, box: Box) -> Enclosure:
    """An enclosure of a polynomial, term by term, where each generator is in its box."""
    total = Enclosure(0.0, 0.0)
    for term, powers in of:
        for slot, k in powers:
            term = e.mul(term, e.integer_power(box(slot), k))
        total = e.add(total, term)
    return total


@dataclass
class Generator:
    """What a slot stands for: a leaf node, or a primitive over argument forms; with an enclosure of its values."""

    name: str
    arguments: tuple[Form, ...]
    leaf: Scalar | None
    enclosure: Enclosure


class Field:
    """Normal forms of scalars over one scope (which gives the enclosures, and so the side conditions)."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.generators: list[Generator] = []
        self._slot: dict[object, int] = {}
        self._memo: dict[Scalar, Form] = {}

    def form(self, node: Scalar) -> Form:
        """The normal form of a REAL or INT scalar. Raises TooLarge."""
        for n in postorder(node):
            if n not in self._memo:
                self._memo[n] = self._translate(n)
        return self._memo[node]

    def value(self, f: Form) -> Enclosure:
        """An enclosure of a form, term by term."""
        num, den = f.terms
        return e.div(enclosed(num, self.box), enclosed(den, self.box))

    def polynomial(self, p: Poly) -> Enclosure:
        return enclosed(terms(p), self.box)

    def box(self, slot: int) -> Enclosure:
        return self.generators[slot].enclosure

    # ------------------------------------------------------------------------------------------ translation

    def _new(self, key: object, generator: Generator) -> Form:
        slot = self._slot.get(key)
        if slot is None:
            slot = len(self.generators)
            if slot >= SLOTS:
                raise TooLarge
            self._slot[key] = slot
            self.generators.append(generator)
        return Form(_GENERATORS[slot], _constant(1))

    def leaf(self, node: Scalar) -> Form:
        return self._new(node, Generator("leaf", (), node, self.scope[node]))

    def _primitive(self, name: str, *arguments: Form, enclosure: Enclosure | None = None) -> Form:
        if enclosure is None:
            enclosure = transfer(stand_in(name, len(arguments)), [self.value(a) for a in arguments])
        if enclosure.bounded and enclosure.lo == enclosure.hi and all(a.constant is not None for a in arguments):
            return self.number(Fraction(enclosure.lo))  # erf(0): a number at numbers, in whatever scope
        key = (name, *(a.key for a in arguments))
        return self._new(key, Generator(name, arguments, None, enclosure))

    def _translate(self, node: Scalar) -> Form:
        if isinstance(node, Const):
            if isinstance(node.value, str):
                return self.leaf(node)
            return Form(_constant(node.value), _constant(1))
        if isinstance(node, (Read, Param, Size, Index)):
            return self.leaf(node)
        if isinstance(node, Stop):
            return self._memo[node.a]
        if not isinstance(node, Apply):
            return self.leaf(node)
        args = [self._memo.get(a) for a in node.args]
        if any(a is None for a in args):
            return self.leaf(node)
        f = [a for a in args if a is not None]
        return self.apply(node.name, f, self.scope[node])

    def apply(self, name: str, f: list[Form], box: Enclosure | None = None) -> Form:
        """The form of a primitive of forms; `box` encloses it, if that is known."""
        match name:
            case "add":
                return plus(f[0], f[1])
            case "sub":
                return plus(f[0], minus(f[1]))
            case "neg":
                return minus(f[0])
            case "mul":
                return times(f[0], f[1])
            case "div":
                return times(f[0], power(f[1], -1))
            case "real" | "int":
                return f[0]
            case "exp":
                return self.exp(f[0])
            case "expm1":
                return plus(self.exp(f[0]), self.number(-1))
            case "expdiff":
                return self.exp(plus(f[0], minus(f[1])))
            case "sigmoid":
                return self.sigmoid(f[0])
            case "tanh":
                g = self.exp(times(f[0], self.number(2)))
                return times(plus(g, self.number(-1)), power(plus(g, self.number(1)), -1))
            case "cosh" | "sinh":
                g = self.exp(f[0])
                other = power(g, -1)
                both = plus(g, other if name == "cosh" else minus(other))
                return times(both, self.number(Fraction(1, 2)))
            case "softplus":
                return self.softplus(f[0])
            case "logsigmoid":
                return minus(self.softplus(minus(f[0])))
            case "log1p":
                return self.log(plus(f[0], self.number(1)))
            case "log":
                return self.log(f[0])
            case "xlogy" if self.value(f[1]).positive:
                return times(f[0], self.log(f[1]))
            case "sqrt":
                return self._primitive("sqrt", f[0])
            case "logaddexp":
                return plus(f[0], self.softplus(plus(f[1], minus(f[0]))))
            case "pow" | "powi":
                return self._power(f, box)
        return self._primitive(name, *f, enclosure=box)

    def number(self, value: Fraction | int) -> Form:
        return Form(_constant(value), _constant(1))

    def monomial(self, slot: int, k: int) -> Form:
        """A power of one generator."""
        return power(Form(_GENERATORS[slot], _constant(1)), k)

    def sigmoid(self, p: Form) -> Form:
        g = self.exp(p)
        return times(g, power(plus(g, self.number(1)), -1))

    def softplus(self, p: Form) -> Form:
        if _leads_negative(p):
            return plus(self.softplus(minus(p)), p)
        return self._primitive("softplus", p)

    def mirrored_softplus(self, p: Form) -> Form:
        """softplus(-p) as a generator of its own, for who would not have it as softplus(p) - p."""
        return self._primitive("softplus", minus(p))

    def log(self, p: Form) -> Form:
        if p.constant == 1:
            return self.number(0)
        q = plus(p, self.number(-1))
        terms = list(q.num.terms()) if q.den.is_constant() else []
        if len(terms) == 1 and terms[0][1] == 1:  # log(1 + exp(k a)) is softplus(k a)
            slots = [(s, int(k)) for s, k in enumerate(terms[0][0]) if k]
            if len(slots) == 1 and self.generators[slots[0][0]].name == "exp":
                slot, k = slots[0]
                return self.softplus(times(self.number(k), self.generators[slot].arguments[0]))
        return self._primitive("log", p)

    def _power(self, f: list[Form], box: Enclosure | None) -> Form:
        k = f[1].constant
        if k is not None and k.denominator == 1 and abs(k) <= 32:
            return power(f[0], int(k))
        base = self.value(f[0])
        if base.positive and base.finite:
            if k is not None and k.denominator == 2 and abs(k) <= 16:
                return power(self._primitive("sqrt", f[0]), k.numerator)
            return self.exp(times(f[1], self.log(f[0])))
        return self._primitive("pow", *f, enclosure=box)

    def exp(self, p: Form) -> Form:
        """exp of a form, as a product of integer powers of generators."""
        result = self.number(1)
        rest = p
        if p.den.is_constant():
            for exponents, coefficient in p.num.terms():
                slots = [s for s, k in enumerate(exponents) if k]
                if len(slots) != 1 or exponents[slots[0]] != 1 or coefficient.q != 1:
                    continue
                generator, k = self.generators[slots[0]], int(coefficient.p)
                if abs(k) > 16 or generator.name not in ("log", "softplus"):
                    continue
                inner = generator.arguments[0]
                if generator.name == "softplus":
                    inner = plus(self.exp(inner), self.number(1))
                elif not self.value(inner).positive:
                    continue
                result = times(result, power(inner, k))
                rest = plus(rest, times(self.number(-k), Form(_GENERATORS[slots[0]], _constant(1))))
        if rest.zero:
            return result
        content = rest.num.leading_coefficient()
        scale = Fraction(int(content.p), int(content.q))
        if scale.denominator != 1 or abs(scale) > 16:
            base, k = rest, 1
            if scale < 0:
                base, k = minus(rest), -1
        else:
            base, k = times(rest, self.number(1 / scale)), int(scale)
        return times(result, power(self._primitive("exp", base), k))


@cache
def stand_in(name: str, arity: int) -> Apply:
    """A node of the primitive over distinct arguments, for rules that look at the node."""
    node = Apply(name, tuple(Param(f"#{i}") for i in range(arity)))
    assert isinstance(node, Apply)
    return node


def _leads_negative(p: Form) -> bool:
    return not p.zero and p.num.leading_coefficient() < 0


@dataclass(frozen=True)
class Factors:
    """A form as a sign (-1, 0 or 1) times powers of irreducible polynomials, some of them in the denominator."""

    unit: int
    powers: tuple[tuple[Terms, int, bool], ...]  # polynomial, exponent, whether it must not vanish

    @classmethod
    def of(cls, f: Form) -> Factors:
        unit, powers = 1, []
        if f.zero:
            return cls(0, ())
        for p, must_not_vanish in ((f.num, False), (f.den, True)):
            content, factors = p.factor()
            unit = -unit if content < 0 else unit
            powers += [(terms(factor), int(k), must_not_vanish) for factor, k in factors]
        return cls(unit, tuple(powers))

    def sign(self, box: Box) -> Enclosure:
        """An enclosure of the sign: (0, 1] positive, [0, 1] non-negative, and so on."""
        result = Enclosure(float(self.unit), float(self.unit))
        for factor, k, must_not_vanish in self.powers:
            value = enclosed(factor, box)
            if must_not_vanish and not value.nonzero:
                return ANYTHING
            part = Enclosure(0.0, INF, value.nonzero, True) if k % 2 == 0 and not value.nan else value
            result = e.mul(result, _unit(part))
        return result


def sign(field: Field, f: Form) -> Enclosure:
    """An enclosure of the sign of a form through its factors."""
    return f.factors.sign(field.box)


def ordered(field: Field, f: Form) -> Form:
    """A form with the sign and the zeros of `f` wherever that has a value: a factor that is a difference of two values of one
    increasing function gives way to the difference of the arguments. Raises TooLarge."""
    found = f
    for factor, k in () if f.zero else f.num.factor()[1]:
        box = field.polynomial(factor)
        gap = None if box.nonnegative or box.nonpositive else _difference(field, factor)
        if gap is not None:
            found = times(found, power(times(gap, power(Form(factor, field.number(1).num), -1)), int(k)))
    return found


def _difference(field: Field, p: Poly) -> Form | None:
    terms = [(exponents, Fraction(int(c.p), int(c.q))) for exponents, c in p.terms()]
    if len(terms) != 2 or terms[0][1] != -terms[1][1]:
        return None
    (one, coefficient), (other, _) = terms
    sides = [[(field.generators[s], int(k)) for s, k in enumerate(side) if k] for side in (one, other)]
    names = {g.name for side in sides for g, _ in side}
    if len(names) != 1 or any(len(g.arguments) != 1 for side in sides for g, _ in side):
        return None
    single = all(len(side) == 1 and side[0][1] == 1 for side in sides)
    if names != {"exp"} and not (single and names <= _INCREASING):
        return None
    gap = field.number(0)
    for side, factor in zip(sides, (1, -1), strict=True):
        for g, k in side:
            gap = plus(gap, times(g.arguments[0], field.number(factor * k)))
    return gap if coefficient > 0 else minus(gap)


def apart(field: Field, f: Form) -> Iterator[Enclosure]:
    """Enclosures of the sign of a form that has two values of one increasing function at arguments that are in order: with
    the one as the other and how far it is above, which is not negative. Raises TooLarge."""
    if len(field.generators) >= SLOTS:
        return
    slots = slots_of(f)
    for low, high in combinations(sorted(s for s in slots if field.generators[s].name in _INCREASING), 2):
        a, b = field.generators[low], field.generators[high]
        if a.name != b.name or len(a.arguments) != 1:
            continue
        gap = sign(field, plus(b.arguments[0], minus(a.arguments[0])))
        if gap.nonpositive:
            low, high, gap = high, low, e.neg(gap)
        inside = (g for s in slots - {high} for g in field.generators[s].arguments)
        if gap.nonnegative and high not in all_slots(field, *inside):
            yield _above(field, f, low, high, Enclosure(0.0, INF, gap.positive, True))


def _above(field: Field, f: Form, low: int, high: int, gap: Enclosure) -> Enclosure:
    """An enclosure of the sign of a form with one generator as another one and a number in the enclosure."""
    spare = len(field.generators)
    raised = plus(field.monomial(low, 1), field.monomial(spare, 1))
    written = _mapped(field, field, [f], {high: raised})[0]

    def box(slot: int) -> Enclosure:
        return gap if slot == spare else field.generators[slot].enclosure

    return written.factors.sign(box)


_INCREASING = frozenset({"log", "log1p", "softplus", "expm1", "sqrt", "atan", "erf", "normal_cdf"})  # strictly


def _unit(box: Enclosure) -> Enclosure:
    """The sign of an enclosure as an enclosure."""
    if box.nan:
        return ANYTHING
    lo = -1.0 if box.lo < 0 else 0.0
    hi = 1.0 if box.hi > 0 else 0.0
    return Enclosure(lo, hi, lo == 0 and box.positive, hi == 0 and box.negative)


def replace(field: Field, f: Form, slot: int, by: Form) -> Form:
    """The form with generator `slot` (a leaf) replaced. Raises TooLarge."""
    return _mapped(field, field, [f], {slot: by})[0]


def carried(field: Field, forms: Sequence[Form]) -> tuple[Field, list[Form]]:
    """A field of its own for forms: what encloses its generators follows from the boxes of the leaves alone, and so holds
    wherever those are, not only on a piece. Raises TooLarge."""
    other = Field(field.scope)
    return other, moved(field, other, forms)


def moved(field: Field, other: Field, forms: Sequence[Form]) -> list[Form]:
    """Forms of one field in another one. Raises TooLarge."""
    return _mapped(field, other, forms, {})


def _mapped(field: Field, other: Field, forms: Sequence[Form], memo: dict[int, Form]) -> list[Form]:
    """Forms of one field in another one, with the images of some generators given."""

    def generator(s: int) -> Form:
        if s not in memo:
            g = field.generators[s]
            if g.leaf is not None:
                memo[s] = other.leaf(g.leaf)
                return memo[s]
            arguments = [of_form(a) for a in g.arguments]
            if other is field and all(new is old for new, old in zip(arguments, g.arguments, strict=True)):
                memo[s] = Form(_GENERATORS[s], _constant(1))
            else:
                memo[s] = other.apply(g.name, arguments)
        return memo[s]

    def of_form(g: Form) -> Form:
        new = {s: generator(s) for s in sorted(slots_of(g))}
        if all(n.num == _GENERATORS[s] and n.den.is_constant() for s, n in new.items()):
            return g
        return times(polynomial(g.num, new), power(polynomial(g.den, new), -1))

    def polynomial(p: Poly, new: dict[int, Form]) -> Form:
        total = other.number(0)
        for exponents, coefficient in p.terms():
            term = other.number(Fraction(int(coefficient.p), int(coefficient.q)))
            for s, k in enumerate(exponents):
                if k:
                    term = times(term, power(new[s], int(k)))
            total = plus(total, term)
        return total

    return [of_form(f) for f in forms]


def slots_of(*forms: Form) -> set[int]:
    """The generators that occur in forms, not those inside of them."""
    return set().union(*(f.slots for f in forms))


def all_slots(field: Field, *forms: Form) -> list[int]:
    """The generators that occur in forms, and those inside of them."""
    seen: set[int] = set()
    todo = list(slots_of(*forms))
    while todo:
        s = todo.pop()
        if s not in seen:
            seen.add(s)
            todo.extend(slots_of(*field.generators[s].arguments))
    return sorted(seen)


def leaves_of(field: Field, *forms: Form) -> list[int]:
    return [s for s in all_slots(field, *forms) if not field.generators[s].arguments]


def varying(field: Field, f: Form, leaves: Iterable[int]) -> list[int]:
    """The generators of a form, other than leaves, that vary with one of the leaves."""
    wanted = set(leaves)
    return [
        s
        for s in all_slots(field, f)
        if field.generators[s].arguments and wanted & set(leaves_of(field, *field.generators[s].arguments))
    ]
