"""Sums of scalars that are at least, or at most, others: a maximum and a log-sum-exp are at least each of their elements, a
convex function is at least its tangents; and sums over rows of normalised weights (Gibbs's inequality)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from lossdsl.ir.nodes import (
    INT,
    REAL,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Or,
    Read,
    Scalar,
    Stop,
    postorder,
)
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import INF, Enclosure

if TYPE_CHECKING:
    from lossdsl.certificate.bounds import Bounds, Case

_MOST = 24  # terms of a sum
_TRIED = 60  # sums
Terms = dict[Scalar, Fraction]


def beside(case: Case, node: Scalar) -> Enclosure | None:
    """The sign of a sum, if what its terms are at least or at most tells it."""
    terms = terms_of(case.bounds, node, Fraction(1))
    if len(terms) > _MOST or not all(case[t].finite for t in terms):
        return None
    if _nonnegative(case, terms):
        return Enclosure(0.0, INF, False, True)
    if _nonnegative(case, {t: -k for t, k in terms.items()}):
        return Enclosure(-INF, 0.0, True, False)
    return None


def _nonnegative(case: Case, terms: Terms) -> bool:
    stack, seen = [terms], 0
    while stack and seen < _TRIED:
        sum_, seen = stack.pop(), seen + 1
        total = Enclosure(0.0, 0.0)
        for t, k in sum_.items():
            total = e.add(total, e.mul(e.exact(k), case[t]))
        if total.nonnegative and not total.nan:
            return True
        for t, k in sum_.items():
            for less in _less(case, t, sum_) if k > 0 else _more(case, t, sum_):
                other = {s: c for s, c in sum_.items() if s is not t}
                for s, c in less.items():
                    other[s] = other.get(s, Fraction(0)) + k * c
                other = {s: c for s, c in other.items() if c}
                if len(other) <= _MOST and all(case[s].finite for s in other):
                    stack.append(other)
    return False


def _less(case: Case, n: Scalar, terms: Terms) -> Iterator[Terms]:
    """Sums that a finite scalar is at least."""
    one, bounds = Fraction(1), case.bounds
    match n:
        case Read():
            yield from _elements(case, n, ("max", "logsumexp"), terms)
        case Apply(name="max2" | "logaddexp"):
            yield from (terms_of(bounds, a, one) for a in n.args)
        case Apply(name="relu" | "softplus" | "expm1"):
            yield terms_of(bounds, n.args[0], one)
        case Apply(name="exp"):
            tangent = terms_of(bounds, n.args[0], one)
            yield {**tangent, Const(1): tangent.get(Const(1), Fraction(0)) + 1}
        case Apply(name="abs"):
            yield from (terms_of(bounds, n.args[0], s) for s in (one, -one))


def _more(case: Case, n: Scalar, terms: Terms) -> Iterator[Terms]:
    """Sums that a finite scalar is at most."""
    match n:
        case Read():
            yield from _elements(case, n, ("min",), terms)
        case Apply(name="min2"):
            yield from (terms_of(case.bounds, a, Fraction(1)) for a in n.args)


def _elements(case: Case, read: Read, heads: tuple[str, ...], terms: Terms) -> Iterator[Terms]:
    """Elements of a fold: those at whose place the terms read something along its axis."""
    d = case.bounds.definitions.get(read.tensor)
    if (
        d is None
        or d.head not in heads
        or d.support is not TRUE
        or d.tensor in case.bounds.recurrent
        or len(d.bound) != 1
    ):
        return
    if d.body.dtype is not REAL or not case.bounds.body(d)[d.body].finite:
        return
    at: dict[Scalar, Scalar] = dict(zip(d.formals, read.indices, strict=True))
    seen: set[Scalar] = set()
    for n in postorder(*terms):
        for place in n.indices if isinstance(n, Read) and n is not read else ():
            if place in seen or not isinstance(place, (Index, Read)) or not case.bounds.names(place, d.bound[0].dim):
                continue
            seen.add(place)
            here = {**at, d.bound[0]: place}
            if certainly(case, substitute(d.where, here)):
                yield terms_of(case.bounds, substitute(d.body, here), Fraction(1))


def certainly(case: Case, condition: Scalar) -> bool:
    """Whether a condition is true for certain, where what is compared with itself is equal."""
    if isinstance(condition, And):
        return all(certainly(case, c) for c in condition.children)
    if isinstance(condition, Or):
        return any(certainly(case, c) for c in condition.children)
    same = isinstance(condition, Compare) and condition.op in ("==", "<=", ">=") and condition.a is condition.b
    return same or o.truth(case[condition]) is True


# ------------------------------------------------------------------------------------------------ terms of a sum


def terms_of(bounds: Bounds, node: Scalar, factor: Fraction) -> Terms:
    """The scalars that a scalar is a sum of, with the maps that are read put in, and their coefficients."""
    found: Terms = {}
    stack = [(node, factor)]
    while stack and len(found) <= _MOST:
        n, k = stack.pop()
        match n:
            case Apply(name="add" | "sub"):
                stack += [(n.args[0], k), (n.args[1], k if n.name == "add" else -k)]
            case Apply(name="neg"):
                stack.append((n.args[0], -k))
            case Apply(name="real") if n.args[0].dtype is REAL:
                stack.append((n.args[0], k))
            case Apply(name="mul" | "div") if (number := _number(n.args[1])) is not None and number:
                stack.append((n.args[0], k * number if n.name == "mul" else k / number))
            case Apply(name="mul") if (number := _number(n.args[0])) is not None:
                stack.append((n.args[1], k * number))
            case Const() if (number := _number(n)) is not None:
                found[Const(1)] = found.get(Const(1), Fraction(0)) + k * number
            case Stop():
                stack.append((n.a, k))
            case Read() if (d := _map(bounds, n)) is not None:
                stack.append((substitute(d.body, dict(zip(d.formals, n.indices, strict=True))), k))
            case _:
                found[n] = found.get(n, Fraction(0)) + k
    return {n: k for n, k in found.items() if k}


def _map(bounds: Bounds, read: Read) -> Definition | None:
    d = bounds.definitions.get(read.tensor)
    plain = d is not None and d.head == "map" and d.support is TRUE and d.body.dtype is REAL
    return d if plain and read.tensor not in bounds.recurrent else None


def _number(n: Scalar) -> Fraction | None:
    return n.value if isinstance(n, Const) and isinstance(n.value, Fraction) and n.dtype is not INT else None


# ------------------------------------------------------------------------------------------ Gibbs's inequality


def is_divergence(bounds: Bounds, d: Definition) -> bool:
    """Whether a sum over a row is one of p (log p - log q), p and q being of sum 1: it is not negative, as each term is at
    least p - q."""
    if (
        d.head != "sum"
        or d.where is not TRUE
        or d.support is not TRUE
        or len(d.bound) != 1
        or d.tensor in bounds.recurrent
    ):
        return False
    terms = terms_of(bounds, d.body, Fraction(1))
    split = [(k, _product(bounds, t, d.bound[0])) for t, k in terms.items()]
    parts = [(k * f, p, log) for k, pairs in split for f, p, log in pairs or ()]
    if not all(pairs for _, pairs in split):
        return False
    gains = [(p, log) for k, p, log in parts if k == 1]
    losses = [(p, log) for k, p, log in parts if k == -1]
    if len(parts) != 2 or len(gains) != 1 or len(losses) != 1:
        return False
    (p, own), (q, other) = gains[0], losses[0]
    return p is q and own is p and _is_of_sum_one(bounds, other, d.bound[0])


def is_weight(bounds: Bounds, n: Scalar, along: Index) -> bool:
    """Whether a scalar is, along an index, not negative and of sum 1: a softmax, or an entry of a simplex."""
    return _weight(bounds, bare(bounds, n), along) is not None


def _is_of_sum_one(bounds: Bounds, weight: Weight, along: Index) -> bool:
    return _is_normalised(bounds, weight, along) or _simplex(bounds, weight, along) is not None


Weight = Scalar  # what stands for a weight: the logarithm of it, or an entry of a simplex


def _product(bounds: Bounds, n: Scalar, along: Index) -> list[tuple[int, Weight, Weight]] | None:
    """A scalar as a sum of products of a weight and a logarithm of a weight, with signs."""
    if isinstance(n, Apply) and n.name == "xlogy":
        p, q = (_simplex(bounds, bare(bounds, a), along) for a in n.args)
        return None if p is None or q is None else [(1, p, q)]
    if not isinstance(n, Apply) or n.name != "mul":
        return None
    for weight, rest in (n.args, n.args[::-1]):
        p = _weight(bounds, bare(bounds, weight), along)
        if p is not None:
            found = []
            for log, k in _logs(bounds, rest, along):
                if abs(k) != 1:
                    return None
                found.append((int(k), p, log))
            return found
    return None


def _logs(bounds: Bounds, node: Scalar, along: Index) -> list[tuple[Weight, Fraction]]:
    """The logarithms of weights that a scalar is a sum of; each one is looked for before it is taken apart."""
    n = bare(bounds, node)
    if _is_normalised(bounds, n, along):
        return [(n, Fraction(1))]
    if isinstance(n, Apply) and n.name == "log" and (p := _simplex(bounds, bare(bounds, n.args[0]), along)) is not None:
        return [(p, Fraction(1))]
    if isinstance(n, Apply) and n.name in ("add", "sub", "neg"):
        signs = {"add": (1, 1), "sub": (1, -1), "neg": (-1,)}[n.name]
        return [(w, k * s) for a, s in zip(n.args, signs, strict=True) for w, k in _logs(bounds, a, along)]
    return [(n, Fraction(0))]  # none


def _weight(bounds: Bounds, n: Scalar, along: Index) -> Weight | None:
    if isinstance(n, Apply) and n.name in ("exp", "expdiff"):
        log = bare(bounds, n.args[0] if n.name == "exp" else Apply("sub", n.args))
        return log if _is_normalised(bounds, log, along) else None
    return _simplex(bounds, n, along)


def _simplex(bounds: Bounds, n: Scalar, along: Index) -> Weight | None:
    declared = bounds.inputs.get(n.tensor) if isinstance(n, Read) else None
    if declared is None or declared.kind != "simplex" or not isinstance(n, Read):
        return None
    return (
        n
        if [i for k, i in enumerate(n.indices) if k in declared.over] == [along] and n.indices.count(along) == 1
        else None
    )


def _is_normalised(bounds: Bounds, n: Scalar, along: Index) -> bool:
    """Whether the exponentials of a scalar along an index add up to 1: it is x less the log-sum-exp of x, or a mixture."""
    if isinstance(n, Apply) and n.name == "logaddexp":
        parts = [bare(bounds, a) for a in n.args]
        if not all(isinstance(a, Apply) and a.name == "add" for a in parts):
            return False
        (p, a), (q, b) = (part.children for part in parts)
        return _shares(a, b) and all(_is_normalised(bounds, bare(bounds, x), along) for x in (p, q))
    if not isinstance(n, Apply) or n.name != "sub":
        return False
    x, total = n.args[0], bare(bounds, n.args[1])
    d = bounds.fold(total, ("logsumexp",))
    if d is None or len(d.bound) != 1 or d.bound[0].dim != along.dim or not isinstance(total, Read):
        return False
    if any(along in postorder(i) for i in total.indices) or not bounds.body(d)[d.body].finite:
        return False
    return substitute(d.body, {**dict(zip(d.formals, total.indices, strict=True)), d.bound[0]: along}) is x


def _shares(a: Scalar, b: Scalar) -> bool:
    """Whether two logarithms are of numbers that add up to 1: log(t) and log1p(-t)."""
    for first, second in ((a, b), (b, a)):
        if isinstance(first, Apply) and first.name == "log" and isinstance(second, Apply) and second.name == "log1p":
            t, other = _number(first.args[0]), _number(second.args[0])
            same = other == -t if t is not None and other is not None else False
            return same or second.args[0] is Apply("neg", (first.args[0],))
    return False


def bare(bounds: Bounds, n: Scalar) -> Scalar:
    """A scalar with the map that it reads put in."""
    while True:
        if isinstance(n, Stop):
            n = n.a
        elif isinstance(n, Read) and (d := _map(bounds, n)) is not None:
            n = substitute(d.body, dict(zip(d.formals, n.indices, strict=True)))
        else:
            return n


__all__ = ["Terms", "bare", "beside", "certainly", "is_divergence", "is_weight", "terms_of"]
