"""Sums of products of scalars with whole powers and rational coefficients: what cancels in them does so exactly.

Terms that are the same scalars to the same powers are taken together. All scalars of one are finite where it is used, and those
with a power below 0 are not 0 there: then it is the number that it was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

from lossdsl.certificate.bounds import Case
from lossdsl.certificate.elements import bare
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import Apply, Const, Scalar
from lossdsl.ir.text import print_scalar
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

_MOST = 24  # terms, and the largest power
Powers = frozenset[tuple[Scalar, int]]
Polynomial = frozenset[tuple[Powers, Fraction]]
ZERO: Polynomial = frozenset()
_NONE: Powers = frozenset()


def constant(k: Fraction) -> Polynomial:
    return _collected([(_NONE, k)])


def one(atom: Scalar, power: int = 1) -> Polynomial:
    """A scalar that is not taken apart."""
    return frozenset({(frozenset({(atom, power)}), Fraction(1))})


def plus(p: Polynomial, q: Polynomial) -> Polynomial:
    return _collected([*p, *q])


def minus(p: Polynomial) -> Polynomial:
    return frozenset((powers, -k) for powers, k in p)


def times(p: Polynomial, q: Polynomial) -> Polynomial:
    return _collected([_product(a, k, b, m) for a, k in p for b, m in q])


def power(p: Polynomial, k: int) -> Polynomial:
    """p^k; below 0 of one term, of scalars that are not 0."""
    if k >= 0:
        found = constant(Fraction(1))
        for _ in range(k):
            found = times(found, p)
        return found
    ((powers, factor),) = p
    return power(_collected([_product(((atom, -d) for atom, d in powers), 1 / factor)]), -k)


def _collected(terms: Iterable[tuple[Powers, Fraction]]) -> Polynomial:
    found: dict[Powers, Fraction] = {}
    for powers, k in terms:
        found[powers] = found.get(powers, Fraction(0)) + k
    kept = frozenset((powers, k) for powers, k in found.items() if k)
    if len(kept) > _MOST or any(abs(d) > _MOST for powers, _ in kept for _, d in powers):
        raise Stuck("a sum of too many products")
    return kept


def _product(
    a: Iterable[tuple[Scalar, int]], k: Fraction, b: Powers = _NONE, m: Fraction = Fraction(1)
) -> tuple[Powers, Fraction]:
    """With the square of a number's root as that number."""
    found, k = dict(a), k * m
    for atom, d in b:
        found[atom] = found.get(atom, 0) + d
    for atom, d in found.items():
        if isinstance(atom, Apply) and atom.name == "sqrt" and isinstance(square := atom.args[0], Const):
            if isinstance(square.value, Fraction) and square.value > 0:
                k, found[atom] = k * square.value ** (d // 2), d % 2
    return frozenset((atom, d) for atom, d in found.items() if d), k


def of_scalar(case: Case, node: Scalar) -> Polynomial:
    """With maps that it reads put in. Raises Stuck where a part of it may be undefined or infinite."""
    node = _plain(case, node)
    if isinstance(node, Const) and isinstance(node.value, Fraction):
        return constant(node.value)
    if isinstance(node, Apply):
        match node.name:
            case "add":
                return plus(*(of_scalar(case, a) for a in node.args))
            case "sub":
                return plus(of_scalar(case, node.args[0]), minus(of_scalar(case, node.args[1])))
            case "neg":
                return minus(of_scalar(case, node.args[0]))
            case "mul":
                return times(*(of_scalar(case, a) for a in node.args))
            case "div":
                return times(of_scalar(case, node.args[0]), inverse(case, node.args[1]))
    return one(node)


def _plain(case: Case, node: Scalar) -> Scalar:
    while True:
        if not case[node].finite:
            raise Stuck("a factor that may be undefined or infinite")
        inner = bare(case.bounds, node)
        if isinstance(inner, Apply) and inner.name == "real":
            inner = inner.args[0]
        if inner is node:
            return node
        node = inner


def inverse(case: Case, node: Scalar) -> Polynomial:
    """Of what is not 0; of a sum it is one scalar to the power -1. Raises Stuck."""
    node = _plain(case, node)
    if not case[node].nonzero:
        raise Stuck("a divisor that may be 0")
    whole = of_scalar(case, node)
    if len(whole) != 1:
        return one(node, -1)
    ((powers, _),) = whole
    if not all(case[atom].nonzero for atom, d in powers if d > 0):
        return one(node, -1)
    return power(whole, -1)


def mapped(p: Polynomial, of: Callable[[Scalar], Scalar]) -> Polynomial:
    """With each scalar replaced."""
    total = ZERO
    for powers, k in p:
        term = constant(k)
        for atom, d in powers:
            term = times(term, one(of(atom), d))
        total = plus(total, term)
    return total


def enclosed(case: Case, p: Polynomial) -> Enclosure:
    total = Enclosure(0.0, 0.0)
    for powers, k in sorted(p, key=_told):
        total = e.add(total, e.mul(e.exact(k), size(case, powers)))
    return total


def size(case: Case, powers: Iterable[tuple[Scalar, int]]) -> Enclosure:
    found = Enclosure(1.0, 1.0)
    for atom, d in sorted(powers, key=lambda p: print_scalar(p[0])):
        found = e.mul(found, e.integer_power(case[atom], d))
    return found


def factored(p: Polynomial) -> tuple[Powers, list[tuple[Powers, Fraction]]]:
    """The powers that all terms have, and the terms without them."""
    atoms = {atom for powers, _ in p for atom, _ in powers}
    least = {atom: min(dict(powers).get(atom, 0) for powers, _ in p) for atom in atoms}
    common = frozenset((atom, d) for atom, d in least.items() if d)
    rest = times(p, frozenset({(frozenset((atom, -d) for atom, d in common), Fraction(1))}))
    return common, sorted(rest, key=_told)


def at_most(case: Case, p: Polynomial, wanted: Callable[[Scalar], bool]) -> Polynomial:
    """A polynomial that is at least p, without the wanted scalars: their product is replaced by an end of what it may be, where
    the others are not negative. Raises Stuck."""
    total = ZERO
    for powers, k in p:
        out = {(atom, d) for atom, d in powers if wanted(atom)}
        rest: Polynomial = frozenset({(powers - out, k)})
        if out:
            box, others = size(case, out), size(case, powers - out)
            end = box.hi if k > 0 else box.lo
            if box.nan or not others.nonnegative or abs(end) == INF:
                raise Stuck("what varies along an axis has no bound")
            rest = times(rest, constant(Fraction(end)))
        total = plus(total, rest)
    return total


def nonnegative(case: Case, p: Polynomial) -> bool:
    """Whether a polynomial is certainly not negative: by the intervals of its terms, or what all of them are multiples of is not
    negative, and the rest is not by intervals."""
    if enclosed(case, p).nonnegative:
        return True
    atoms = {atom for powers, _ in p for atom, _ in powers}
    common: Polynomial = constant(Fraction(1))
    for atom in sorted(atoms, key=print_scalar):
        least = min(dict(powers).get(atom, 0) for powers, _ in p)
        if least > 0 and (case[atom].nonnegative or least % 2 == 0):
            common = times(common, one(atom, -least))
    rest = times(p, common)
    return rest != p and enclosed(case, rest).nonnegative


def told(p: Polynomial) -> str:
    return " + ".join(map(_told, sorted(p, key=_told))) or "0"


def _told(term: tuple[Powers, Fraction]) -> str:
    powers, k = term
    return " ".join([str(k), *sorted(f"({print_scalar(atom)})^{d}" for atom, d in powers)])


__all__ = [
    "ZERO",
    "Polynomial",
    "at_most",
    "constant",
    "enclosed",
    "factored",
    "inverse",
    "mapped",
    "minus",
    "nonnegative",
    "of_scalar",
    "one",
    "plus",
    "power",
    "size",
    "times",
    "told",
]
