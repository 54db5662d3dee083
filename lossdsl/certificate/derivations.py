"""Derivatives as sums of products, in which what cancels does so exactly: x erf(x / sqrt 2) + sqrt(2 / pi) exp(-x^2 / 2) has the
derivative erf(x / sqrt 2), which intervals of its three terms do not tell far out.

An element is a polynomial in the variable, in what does not move with it, and in functions whose derivatives are polynomials in
such again (a differential ring); exponentials of the same polynomial are one of them, and so are square roots of numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from lossdsl.certificate.bounds import Case
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.polynomials import (
    ZERO,
    Polynomial,
    Powers,
    constant,
    factored,
    minus,
    one,
    plus,
    power,
    size,
    times,
)
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import INT, ONE, Apply, Const, Scalar
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import Enclosure

_HIGHEST = 4  # power that is multiplied out
_LARGEST = 1000  # number whose square root is one of its prime factors
_UNIT = constant(Fraction(1))
_ROOT_OF_PI = Apply("sqrt", (Apply("pi", ()),))


Terms = list[tuple[Powers, Fraction]]
Slope = tuple[tuple[Scalar | None, bool], ...]
Nested = tuple[tuple[Powers, Powers], list[tuple[Powers, Terms]]]


class Derivations:
    """Derivatives in the variable of an element without branches. Raises Stuck where there is no rule."""

    def __init__(self, body: Scalar, variable: Scalar, moves: Callable[[Scalar], bool]) -> None:
        self._variable, self._moves = variable, moves
        self._made: dict[Scalar, Polynomial] = {}
        self._exponentials: dict[Polynomial, Scalar] = {}
        self._slopes: dict[Scalar, Polynomial] = {}
        self._divisors: set[Scalar] = set()
        self._found = [self._of(body)]
        self._sums: dict[tuple[int, Slope], Nested] = {}

    def enclosed(self, case: Case, order: int, slope: Slope = ()) -> Enclosure:
        """A derivative where all that it is made of is a number, and no divisor is 0; in what the variable is affine in, if its
        slope is told: factors (None: -1), and whether each divides. Raises Undecided, Stuck."""
        key = (order, slope)
        if key not in self._sums:
            self._sums[key] = self._nested(self._derivative(order, slope))
        if not all(case[n].finite for n in self._made) or not all(case[n].nonzero for n in self._divisors):
            raise Undecided
        common, rest = self._sums[key]
        total = Enclosure(0.0, 0.0)
        for powers, terms in rest:
            inner = Enclosure(0.0, 0.0)
            for others, k in terms:
                inner = e.add(inner, e.mul(e.exact(k), size(case, others)))
            total = e.add(total, e.mul(size(case, powers), inner))
        return e.mul(e.mul(*(size(case, powers) for powers in common)), total)

    def _derivative(self, order: int, slope: Slope) -> Polynomial:
        while len(self._found) <= order:
            self._found.append(self._moved(self._found[-1]))
        by = _UNIT
        for factor, divides in slope:
            number = Const(-1) if factor is None else factor
            by = times(by, self._inverse(number) if divides else self._of(number))
        return times(self._found[order], power(by, order))

    def _nested(self, p: Polynomial) -> Nested:
        """Over one denominator: what all terms have, and for each power of the variable its coefficient, factored as well."""
        common, rest = factored(p)
        cleared = frozenset(rest)
        for atom, d in common:
            if d < 0 and self._of(atom) != one(atom):  # a sum that divides: where it multiplies it is multiplied out
                cleared = self._multiplied_out(cleared, atom)
        further, rest = factored(cleared)
        groups: dict[int, list[tuple[Powers, Fraction]]] = {}
        for powers, k in rest:
            d = dict(powers).get(self._variable, 0)
            groups.setdefault(d, []).append((powers - {(self._variable, d)}, k))
        coefficients = []
        for d, terms in sorted(groups.items()):
            own, inner = factored(frozenset(terms))
            coefficients.append(((own | {(self._variable, d)}) if d else own, inner))
        return (common, further), coefficients

    def _multiplied_out(self, p: Polynomial, atom: Scalar) -> Polynomial:
        total = ZERO
        for powers, k in p:
            d = max(0, dict(powers).get(atom, 0))
            term: Polynomial = frozenset({(powers - {(atom, d)}, k)})
            total = plus(total, times(term, power(self._of(atom), d)))
        return total

    # ------------------------------------------------------------------------------------------ polynomials

    def _of(self, n: Scalar) -> Polynomial:
        found = self._made.get(n)
        if found is None:
            found = self._made[n] = self._made_of(n)
        return found

    def _made_of(self, n: Scalar) -> Polynomial:
        if isinstance(n, Const) and isinstance(n.value, Fraction):
            return constant(n.value)
        still = n is not self._variable and not self._moves(n)
        if n is self._variable or not isinstance(n, Apply) or n.dtype is INT:
            if not still and n is not self._variable:
                raise Stuck(f"{type(n).__name__} has no derivative")
            return one(n)
        match n.name:
            case "real":
                return self._of(n.args[0])
            case "neg":
                return minus(self._of(n.args[0]))
            case "add" | "sub" if (
                not still
            ):  # what does not move is a sum as a whole, which may be known to have a sign
                a, b = map(self._of, n.args)
                return plus(a, b if n.name == "add" else minus(b))
            case "mul":
                return times(*map(self._of, n.args))
            case "div":
                return times(self._of(n.args[0]), self._inverse(n.args[1]))
            case "powi" | "pow" if (k := _whole(n.args[1])) is not None and abs(k) <= _HIGHEST:
                return power(self._of(n.args[0]) if k >= 0 else self._inverse(n.args[0]), abs(k))
            case "sqrt" if (root := _root(self._of(n.args[0]))) is not None:
                return root
            case "pi":
                return one(_ROOT_OF_PI, 2)
            case "exp" if not still:
                return one(self._exponentials.setdefault(self._of(n.args[0]), n))
            case "expm1" if not still:
                return plus(self._of(Apply("exp", n.args)), minus(_UNIT))
        if not still:
            for argument in n.args:
                self._of(argument)
        return one(n)

    def _inverse(self, n: Scalar) -> Polynomial:
        self._divisors.add(n)
        p = self._of(n)
        return power(p, -1) if len(p) == 1 else one(n, -1)

    # ------------------------------------------------------------------------------------------ derivatives

    def _moved(self, p: Polynomial) -> Polynomial:
        """The derivative of a polynomial."""
        total = ZERO
        for powers, k in p:
            for atom, d in powers:
                if atom is self._variable or self._moves(atom):
                    rest = times(frozenset({(powers - {(atom, d)}, k * d)}), one(atom, d - 1) if d != 1 else _UNIT)
                    total = plus(total, times(rest, self._slope(atom)))
        return total

    def _slope(self, atom: Scalar) -> Polynomial:
        if atom is self._variable:
            return _UNIT
        found = self._slopes.get(atom)
        if found is None:
            found = self._slopes[atom] = self._slope_of(atom)
        return found

    def _slope_of(self, atom: Scalar) -> Polynomial:
        here, made = one(atom), self._of(atom)
        if made != here:  # a sum that is a divisor
            return self._moved(made)
        if not isinstance(atom, Apply) or self._moves(*atom.args[1:]):
            raise Stuck(f"{type(atom).__name__} has no derivative")
        x = atom.args[0]
        match atom.name:
            case "exp":
                outer = here
            case "log":
                outer = self._inverse(x)
            case "log1p":
                outer = self._inverse(Apply("add", (ONE, x)))
            case "sqrt":
                outer = times(constant(Fraction(1, 2)), self._inverse(atom))
            case "powi" | "pow":
                k = _number(atom.args[1])
                less = Apply(atom.name, (x, Const(k - 1, atom.args[1].dtype)))
                outer = times(constant(k), self._of(less))
            case "sigmoid":
                outer = plus(here, minus(times(here, here)))
            case "softplus":
                outer = self._of(Apply("sigmoid", (x,)))
            case "tanh":
                outer = plus(_UNIT, minus(times(here, here)))
            case "logcosh":
                outer = self._of(Apply("tanh", (x,)))
            case "sin":
                outer = self._of(Apply("cos", (x,)))
            case "cos":
                outer = minus(self._of(Apply("sin", (x,))))
            case "atan":
                outer = self._inverse(Apply("add", (ONE, _square(x))))
            case "erf":
                bell = self._of(Apply("exp", (Apply("neg", (_square(x),)),)))
                outer = times(times(constant(Fraction(2)), one(_ROOT_OF_PI, -1)), bell)
            case _:
                raise Stuck(f"{atom.name} has no derivative")
        return times(outer, self._moved(self._of(x)))


def _square(x: Scalar) -> Scalar:
    return Apply("powi", (x, Const(2, INT)))


def _number(n: Scalar) -> Fraction:
    if not isinstance(n, Const) or not isinstance(n.value, Fraction):
        raise Stuck("an exponent that is no number")
    return n.value


def _whole(n: Scalar) -> int | None:
    value = n.value if isinstance(n, Const) else None
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else None


def _root(p: Polynomial) -> Polynomial | None:
    """Of a positive number, or one times a power of pi."""
    if len(p) != 1:
        return None
    ((powers, k),) = p
    half = frozenset((atom, d // 2) for atom, d in powers if atom == _ROOT_OF_PI and not d % 2)
    n = k.numerator * k.denominator
    if len(half) < len(powers) or not 0 < n <= _LARGEST:
        return None
    found: Polynomial = frozenset({(half, Fraction(1, k.denominator))})
    for prime in range(2, n + 1):
        while not n % prime:
            n //= prime
            found = times(found, one(Apply("sqrt", (Const(prime),))))
    return found


__all__ = ["Derivations"]
