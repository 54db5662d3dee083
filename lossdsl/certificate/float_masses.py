"""Sums of weights as they are computed: of a softmax, of one place, of a point of a simplex; and what is nearly the same
number wherever it is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lossdsl.certificate.arithmetic import BASIC, FUNCTION, LEAST
from lossdsl.certificate.bounds import Bounds, Case, is_count
from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Not,
    Or,
    Param,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    postorder,
)
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.enclosure import INF

_ROUNDS = 1 + 2.0**-10  # more than what rounding adds to a mass in a few operations
_LARGE = 2.0**30  # a factor under which, thrice, what is below the smallest normal number stays small
_STEADY = frozenset({"add", "sub", "neg", "abs", "max2", "min2", "relu", "clamp", "real", "sign"})


def is_steady(bounds: Bounds, node: Scalar) -> bool:
    """Whether a scalar is the same number wherever it is computed."""
    match node:
        case Read():
            return node.tensor in bounds.inputs
        case Param() | Size() | Const() | Index():
            return True
        case Stop():
            return is_steady(bounds, node.a)
        case Compare():
            return is_steady(bounds, node.a) and is_steady(bounds, node.b)
        case Not() | And() | Or():
            return all(is_steady(bounds, a) for a in node.children)
        case Apply():
            plain = node.dtype is not REAL or node.name in _STEADY
            return plain and all(is_steady(bounds, a) for a in node.args)
    return False


def is_near(case: Case, node: Scalar, depth: int = 4) -> bool:
    """Whether a scalar is nearly the same number wherever it is computed: relative to its size, but for `depth` roundings.
    A sum of products is not, which may cancel, nor is a choice, which may be another one."""
    bounds = case.bounds
    if is_steady(bounds, node):
        return True
    if isinstance(node, Read):
        d = bounds.definitions.get(node.tensor)
        if d is None or d.head != "map" or d.support is not TRUE or d.tensor in bounds.recurrent:
            return False
        return is_near(case, substitute(d.body, dict(zip(d.formals, node.indices, strict=True))), depth)
    if isinstance(node, Stop):
        return is_near(case, node.a, depth)
    if not isinstance(node, Apply) or depth == 0:
        return False
    if node.name in ("neg", "abs", "relu"):
        return is_near(case, node.args[0], depth)
    if node.name not in ("mul", "div"):
        return False
    a, b = node.args
    if is_steady(bounds, a) and is_steady(bounds, b):
        return True
    if node.name == "div":
        below = case[b]
        wide = not below.nan and max(below.lo, -below.hi) >= 1 / _LARGE
        return is_steady(bounds, b) and wide and is_near(case, a, depth - 1)
    return any(
        is_steady(bounds, v) and size_of(case, v) <= _LARGE and is_near(case, u, depth - 1) for u, v in ((a, b), (b, a))
    )


def mass(case: Case, node: Scalar, bound: Sequence[Index]) -> float:
    """A number that the absolute values of a scalar do not exceed in sum, over all places; inf if none is seen."""
    bounds = case.bounds
    match node:
        case Const():
            return 0.0 if node.value == 0 else INF
        case Apply(name="neg" | "abs" | "relu"):
            return mass(case, node.args[0], bound)
        case Apply(name="add" | "sub"):
            return sum(mass(case, a, bound) for a in node.args) * _ROUNDS
        case Apply(name="mul"):
            a, b = node.args
            found = min(_times(case, a, b, bound), _times(case, b, a, bound), _of_entropy(case, node, bound))
            return found * _ROUNDS + _least(case, bound)
        case Apply(name="div"):
            if is_count(node.args[1], bound, case.bounds.parameters):
                return size_of(case, node.args[0]) * _ROUNDS + _least(case, bound)
            below = case[node.args[1]]
            least = max(below.lo, -below.hi)
            if below.nan or least <= 0:
                return INF
            return mass(case, node.args[0], bound) / least * _ROUNDS + _least(case, bound)
        case Apply(name="expdiff" | "exp"):
            return _of_softmax(case, node, bound)
        case Stop():
            return mass(case, node.a, bound)
        case Select():
            return _of_choice(case, node, bound)
        case Read():
            declared = bounds.inputs.get(node.tensor)
            if declared is not None:
                along = [node.indices[k] for k in declared.over] if declared.kind == "simplex" else []
                rest = [i for k, i in enumerate(node.indices) if k not in declared.over]
                apart = not any(n in bound for i in rest for n in postorder(i))
                return 1.0 if along and along == list(bound) and apart else INF
            inner = case.bounds.opened(node)
            return INF if inner is None else mass(_elsewhere(case), inner, bound)
    return INF


def _least(case: Case, bound: Sequence[Index]) -> float:
    """What rounding to subnormal numbers adds to all places."""
    return many(case, bound) * LEAST


def many(case: Case, bound: Sequence[Index]) -> float:
    return math.prod(case.bounds.extent(i.dim, case.some).hi for i in bound)


def _times(case: Case, weight: Scalar, other: Scalar, bound: Sequence[Index]) -> float:
    found = mass(case, weight, bound)
    return found * size_of(case, other) if found < INF else INF


def _elsewhere(case: Case) -> Case:
    """The case of another body: what a condition tells of a number that is computed anew there does not hold of that one."""
    known = {n: box for n, box in case.known.items() if is_steady(case.bounds, n)}
    return case.bounds.case(case.some, known, case.split)


Pair = tuple[Scalar, Scalar]


def _difference(case: Case, node: Scalar) -> Pair | None:
    """x and y of x - y."""
    if isinstance(node, Stop):
        return _difference(case, node.a)
    if isinstance(node, Apply) and node.name == "sub":
        return node.args[0], node.args[1]
    inner = case.bounds.opened(node) if isinstance(node, Read) else None
    return None if inner is None else _difference(case, inner)


def _share(case: Case, node: Scalar) -> Pair | None:
    """x and y of e^(x - y); of a choice, if either one is it."""
    if isinstance(node, Stop):
        return _share(case, node.a)
    if isinstance(node, Select):
        pair = _share(case, node.a)
        return pair if pair is not None and _share(case, node.b) == pair else None
    if isinstance(node, Apply) and node.name == "expdiff":
        return node.args[0], node.args[1]
    if isinstance(node, Apply) and node.name == "exp":
        return _difference(case, node.args[0])
    inner = case.bounds.opened(node) if isinstance(node, Read) else None
    return None if inner is None else _share(case, inner)


def with_logarithm(case: Case, node: Apply) -> tuple[Scalar, Pair, list[Scalar]] | None:
    """A share e^(x - y) among the factors of which x - y is one, too; x and y; and the other factors."""
    factors = list(_factors(node))
    for share in factors:
        pair = _share(case, share)
        for log in factors if pair is not None else ():
            if pair is not None and _difference(case, log) == pair:
                return share, pair, [f for f in factors if f is not share and f is not log]
    return None


def _factors(node: Scalar) -> Iterator[Scalar]:
    if isinstance(node, Stop):
        yield from _factors(node.a)
    elif isinstance(node, Apply) and node.name == "mul":
        for a in node.args:
            yield from _factors(a)
    else:
        yield node


def largest_term(case: Case, pair: Pair) -> float:
    """The largest |t| e^t of t = x - y, each t computed anew: 1 / e where it is negative."""
    top, apart = _top(case, pair), _apart(case, pair)
    return max(0.3679, top * math.exp(top)) * _ROUNDS + apart * math.exp(top) if top < 1 > apart else INF


def _top(case: Case, pair: Pair) -> float:
    """An end that the difference does not exceed, at least 0, wherever it is computed."""
    box = _elsewhere(case)[Apply("sub", pair)]
    return INF if box.nan else max(box.hi, 0.0)


def _apart(case: Case, pair: Pair) -> float:
    """How far apart a difference is from itself when it is computed twice: not at all, of an input and a fold that is stored."""
    kept = [is_steady(case.bounds, n) or case.bounds.fold(n, ("logsumexp",)) is not None for n in pair]
    if all(kept):
        return 0.0
    near = all(k or is_near(case, n) for k, n in zip(kept, pair, strict=True))
    return sum(size_of(case, n) for n in pair) * 10 * BASIC if near else INF


def _of_entropy(case: Case, node: Apply, bound: Sequence[Index]) -> float:
    """The sum of -p log(p) of shares with the sum P is at most P (log(n) - log(P)), P log(1 / P) is at most 1 / e; what is
    computed of a logarithm may be above 0."""
    found = with_logarithm(case, node)
    if found is None:
        return INF
    share, pair, rest = found
    whole, top = _of_softmax(case, share, bound), _top(case, pair)
    if whole == INF or top > 1:
        return INF
    logs = math.log(max(many(case, bound), 1.0)) + 1
    entropy = whole * (logs + 2 * top + _apart(case, pair)) + 1.0
    return entropy * math.prod(size_of(case, f) for f in rest)


def size_of(case: Case, node: Scalar) -> float:
    box = case[node]
    return INF if box.nan else max(-box.lo, box.hi)


def _of_choice(case: Case, node: Select, bound: Sequence[Index]) -> float:
    """One place alone; else what both branches have in sum."""
    one, other = case.given(node.condition, True), case.given(node.condition, False)
    first, second = (0.0 if c is None else mass(c, branch, bound) for c, branch in ((one, node.a), (other, node.b)))
    c = node.condition
    if first == INF and one is not None and len(bound) == 1 and isinstance(c, Compare) and c.op == "==":
        for at, place in ((c.a, c.b), (c.b, c.a)):
            if at is bound[0] and not any(n is bound[0] for n in postorder(place)):
                first = size_of(one, node.a)
    return first + second


def _of_softmax(case: Case, node: Scalar, bound: Sequence[Index]) -> float:
    """The logarithm of the sum is off by its own error e, so that all shares are up to exp(e) times as large; the errors of
    the exponents, d times their size, make p^(1 - d) of a share p, and of n shares at most n^d in sum. What is computed
    twice is off by eight roundings at most."""
    pair = _share(case, node)
    if pair is None:
        return INF
    x, total = pair
    d = case.bounds.fold(total, ("logsumexp",))
    if d is None or not case.is_element(x, total, d) or not _is_along(x, total, d, bound) or not is_near(case, x):
        return INF
    size = max(size_of(case, x), size_of(case, total))
    logs = math.log(max(many(case, bound), 1.0)) + 1
    error = size * BASIC * (1 if is_steady(case.bounds, x) else 9) + (logs + 4) * FUNCTION + logs * 4 * BASIC
    return math.exp(error) * _ROUNDS if error < 1 else INF


def _is_along(x: Scalar, total: Scalar, d: Definition, bound: Sequence[Index]) -> bool:
    """Whether the places that are summed over are those of the logarithm: each of its elements once."""
    assert isinstance(total, Read)
    if any(n in bound for i in total.indices for n in postorder(i)):
        return False
    at: dict[Scalar, Scalar] = {**dict(zip(d.formals, total.indices, strict=True))}
    return sorted(i.dim for i in bound) == sorted(i.dim for i in d.bound) and any(
        substitute(d.body, {**at, **dict(zip(d.bound, order, strict=True))}) is x for order in _orders(bound)
    )


def _orders(bound: Sequence[Index]) -> list[tuple[Index, ...]]:
    return [tuple(bound)] if len(bound) == 1 else [tuple(bound), tuple(reversed(bound))]


__all__ = ["is_near", "is_steady", "largest_term", "many", "mass", "size_of", "with_logarithm"]
