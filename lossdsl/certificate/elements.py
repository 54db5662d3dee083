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
from lossdsl.ir.rewrite import fresh_index, substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import Enclosure

if TYPE_CHECKING:
    from lossdsl.certificate.bounds import Bounds, Case

_INCREASING = frozenset(
    {"exp", "expm1", "log", "log1p", "logaddexp", "max2", "min2", "relu", "sigmoid", "softplus", "tanh"}
)
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_MOST = 24  # terms of a sum
_TRIED = 60  # sums
_WITHIN = 12  # times fewer of what arguments differ by
Terms = dict[Scalar, Fraction]


def at_least_zero(case: Case, terms: Terms, tried: int = _TRIED) -> bool | None:
    """Whether a sum is more than 0 (True), or not less (False), if what its terms are at least or at most tells it.

    Terms may be infinite where that makes the sum infinite, upwards. A sum whose terms are more than -inf is infinite, or all
    of them are numbers, and may be added to what one of them is at least; numbers may be put in for any term, or a share of it.
    """
    stack, later, seen = [terms], list[Terms](), 0
    while (stack or later) and seen < tried:
        sum_, seen = (stack or later).pop(), seen + 1
        boxes = [e.neg(case[t]) if k == -1 else e.mul(e.exact(k), case[t]) for t, k in sum_.items()]
        if len(sum_) > _MOST or any(box.nan for box in boxes):
            continue
        above = not any(box.may_be_minus_infinite for box in boxes)
        total = Enclosure(0.0, 0.0)
        for box in boxes:
            total = e.add(total, box)
        if above and total.nonnegative and not total.nan:
            return total.positive
        for t, k in sum_.items():
            for less in _less(case, t, sum_, tried) if k > 0 else _more(case, t, sum_):
                if above or all(case[s].finite for s in less):
                    stack.append(_replaced(sum_, t, less, k))
                    later += (_replaced(sum_, t, less, share) for share in _cancelling(sum_, t, less))
    return None


def _replaced(terms: Terms, t: Scalar, by: Terms, share: Fraction) -> Terms:
    other = {**terms, t: terms[t] - share}
    for s, c in by.items():
        other[s] = other.get(s, Fraction(0)) + share * c
    return {s: c for s, c in other.items() if c}


def _cancelling(terms: Terms, t: Scalar, by: Terms) -> list[Fraction]:
    """How much of a term cancels another one, where what it is compared with is put in for it."""
    found = [-terms[s] / c for s, c in by.items() if c and s in terms and s is not t]
    return [share for share in dict.fromkeys(found) if 0 < share / terms[t] < 1]


def _less(case: Case, n: Scalar, terms: Terms, tried: int) -> Iterator[Terms]:
    """Sums that a scalar is at least, with which it appears in a sum."""
    one, bounds = Fraction(1), case.bounds
    yield from (terms_of(bounds, other, one) for other in compared(case, n, (">", ">=")))
    yield from _lower(case, n, terms, tried // _WITHIN)
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
        case Apply(name="mul"):
            yield from _divergence(case, n)


def _divergence(case: Case, n: Apply) -> Iterator[Terms]:
    """p (log p - log q) is at least p - q, for p that is positive and q that is not negative."""
    for p, difference in (n.args, n.args[::-1]):
        if isinstance(difference, Apply) and difference.name == "sub":
            logs = [a.args[0] for a in difference.args if isinstance(a, Apply) and a.name == "log"]
            if len(logs) == 2 and logs[0] is p and case[p].positive and all(_real(case[x]) for x in logs):
                yield terms_of(case.bounds, Apply("sub", (p, logs[1])), Fraction(1))


def _real(box: Enclosure) -> bool:
    return box.nonnegative and box.finite


def compared(case: Case, n: Scalar, ops: tuple[str, ...]) -> Iterator[Scalar]:
    """What a scalar is compared with, where it is known that the comparison holds."""
    for condition, box in case.known.items():
        if isinstance(condition, Compare) and condition.a.dtype is REAL and o.truth(box) is True:
            if condition.a is n and condition.op in ops:
                yield condition.b
            if condition.b is n and _FLIPPED.get(condition.op) in ops:
                yield condition.a


def _lower(case: Case, n: Scalar, terms: Terms, tried: int) -> Iterator[Terms]:
    """Other terms that a scalar is at least: the same increasing function of what is not more, a fold of fewer elements."""
    for other in [s for s, k in terms.items() if k < 0 and s is not n]:
        if isinstance(n, Apply) and isinstance(other, Apply) and n.name == other.name and n.name in _INCREASING:
            pairs = zip(n.args, other.args, strict=True)
            if all(_is_larger(case, a, b, tried) for a, b in pairs):
                yield {other: Fraction(1)}
        elif _is_of_more(case.bounds, n, other):
            yield {other: Fraction(1)}


def _is_larger(case: Case, a: Scalar, b: Scalar, tried: int) -> bool:
    """Whether a scalar is at least another one, which may be infinite, too."""
    same = a is b or _is_of_more(case.bounds, a, b)
    return same or at_least_zero(case, _difference(case.bounds, a, b), tried) is not None


def _difference(bounds: Bounds, a: Scalar, b: Scalar) -> Terms:
    found = terms_of(bounds, a, Fraction(1))
    for t, k in terms_of(bounds, b, Fraction(-1)).items():
        found[t] = found.get(t, Fraction(0)) + k
    return {t: k for t, k in found.items() if k}


def _is_of_more(bounds: Bounds, whole: Scalar, part: Scalar) -> bool:
    """Whether one fold, a maximum or a log-sum-exp, is of all elements and the other of some of the same; or a sum of
    softplus(a), which is log of the product of all 1 + exp(a), and the other one of these of some a."""
    if not isinstance(whole, Read) or not isinstance(part, Read):
        return False
    d, other = bounds.definitions.get(whole.tensor), bounds.definitions.get(part.tensor)
    if d is None or other is None or other.head not in ("max", "logsumexp") or d.head not in (other.head, "sum"):
        return False
    if any(x.support is not TRUE or x.tensor in bounds.recurrent or x.body.dtype is not REAL for x in (d, other)):
        return False
    if d.where is not TRUE or [i.dim for i in d.bound] != [i.dim for i in other.bound]:
        return False
    taken = {i for x in (d, other) for i in (*x.formals, *x.bound)} | {
        i for n in (whole, part) for i in postorder(n) if isinstance(i, Index)
    }
    places: list[Index] = []
    for i in d.bound:
        places.append(fresh_index(i, taken))
        taken.add(places[-1])

    def element(x: Definition, read: Read) -> Scalar:
        at: dict[Scalar, Scalar] = dict(zip(x.formals, read.indices, strict=True))
        at.update(zip(x.bound, places, strict=True))
        return substitute(x.body, at)

    of_part = element(other, part)
    return element(d, whole) is (Apply("softplus", (of_part,)) if d.head == "sum" else of_part)


def _more(case: Case, n: Scalar, terms: Terms) -> Iterator[Terms]:
    """Sums that a scalar is at most."""
    yield from (terms_of(case.bounds, other, Fraction(1)) for other in compared(case, n, ("<", "<=")))
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
            if place in seen or not case.bounds.names(place, d.bound[0].dim, terms):
                continue
            seen.add(place)
            here = {**at, d.bound[0]: place}
            if certainly(case, substitute(d.where, here)):
                yield terms_of(case.bounds, substitute(d.body, here), Fraction(1))


def certainly(case: Case, condition: Scalar) -> bool:
    """Whether a condition is true for certain, where what is compared with itself is equal (NaN is not)."""
    if isinstance(condition, And):
        return all(certainly(case, c) for c in condition.children)
    if isinstance(condition, Or):
        return any(certainly(case, c) for c in condition.children)
    same = isinstance(condition, Compare) and condition.op in ("==", "<=", ">=") and condition.a is condition.b
    same = same and not any(case[a].nan for a in condition.children)
    return same or o.truth(case[condition]) is True


# ------------------------------------------------------------------------------------------------ terms of a sum


def terms_of(bounds: Bounds, node: Scalar, factor: Fraction, cancelled: set[Scalar] | None = None) -> Terms:
    """The scalars that a scalar is a sum of, with the maps that are read put in, and their coefficients; those of both signs, or
    none, are put into `cancelled`."""
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
                before = found.get(n, Fraction(0))
                if cancelled is not None and (not k or k * before < 0):
                    cancelled.add(n)
                found[n] = before + k
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


__all__ = ["Terms", "at_least_zero", "bare", "certainly", "compared", "is_divergence", "is_weight", "terms_of"]
