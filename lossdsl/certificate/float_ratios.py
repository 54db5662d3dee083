"""Products and quotients as they are computed, taken apart into factors and divisors: where a factor is a divisor, too, or an
entry of the row whose norm is one, both are left out, however small they are.

For what is computed of x y and x / y, if it is finite, and 1 / y is: were |x| and |y| at most u |X| + p and v |Y| + q, and not
less than as much below, then |x y| is at most (1 + d) u v |X Y| and what p, q, and numbers that are too small add, each of
them times what the other factor may be at most. d is the error of an operation.

The norm of a row is at least the size of each entry t, but for errors: a sum of squares is not less than (1 - e) t^2, where t^2 is
a normal number, and no norm of 2^-50 is below an entry whose square is not. Extents: n is at most (k + 1) max(1, n - k).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.certificate.arithmetic import BASIC, FUNCTION, NORMAL, number
from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.float_masses import is_steady, many, size_of
from lossdsl.certificate.norms import is_in_row, resolved, root_of
from lossdsl.dim import Dim
from lossdsl.ir.nodes import INT, REAL, Apply, Const, Index, Param, Read, Scalar, Select, Size, Stop
from lossdsl.verify.enclosure import INF, UNIT

SQUARES = FUNCTION + 202 * BASIC  # how far a sum of squares is off, each of which is a product or a power
_ROOT = 1 + SQUARES / 2 + 1.5 * FUNCTION  # an entry over its norm, at most: a root halves the error, and has its own
_FIRM = 2.0**-50
_SMALL = 2.0**-20
_WAYS, _FACTORS = 32, 64
_FAR = 2.0**400  # of what is larger, or 1 over it, a product may be no number here


@dataclass(frozen=True)
class _Quotient:
    """What is computed: between `least` and `most` times the absolute value of a quotient of products, but for `off`."""

    case: Case
    above: tuple[Scalar, ...] = ()
    below: tuple[Scalar, ...] = ()
    least: float = 1.0
    most: float = 1.0
    off: float = 0.0


def ratio(case: Case, node: Scalar) -> float:
    """A number that the absolute value of a scalar does not exceed; inf if none is seen."""
    return _largest([_size(q, ()) + q.off for q in _opened(case, node)])


def spread(case: Case, node: Scalar, bound: Sequence[Index]) -> float:
    """A number that the absolute values of a scalar do not exceed in sum, over all places: as many times what one is at most."""
    sizes = [Size(i.dim) for i in bound]
    return _largest([_size(q, sizes) + many(case, bound) * q.off for q in _opened(case, node)])


def _largest(found: Sequence[float]) -> float:
    return max(found) if found and all(v < INF for v in found) else INF


def grid(case: Case, node: Scalar) -> float:
    """A power of two of which a number is a multiple that is made of inputs and parameters by sums alone, each rounded to the
    nearest number: it is 0 or not less. 0 if none is seen."""
    match node:
        case Read() if node.tensor in case.bounds.inputs:
            declared = case.bounds.inputs[node.tensor]
            return _of_the_type(case, node) if declared.dtype is REAL and declared.default is None else 0.0
        case Param() if node.dtype is REAL:
            usual = case.bounds.parameters[node.name].default
            return min(_of_the_type(case, node), INF if usual is None else _last_digit(usual))
        case Const() if node.dtype is REAL and case[node].lo == case[node].hi:  # else what it is taken for is not said
            return _last_digit(node)
        case Stop():
            return grid(case, node.a)
        case Apply(name="add" | "sub" | "neg" | "abs"):
            return min(grid(case, a) for a in node.args)
    return 0.0


def _of_the_type(case: Case, node: Scalar) -> float:
    """What is fixed need not be a number of the type: it is one of float32."""
    digit, box = getattr(case.bounds, "digit", 0.0), case[node]
    least = max(box.lo, -box.hi)
    return 0.0 if box.nan else digit if least <= 0 else min(digit, 2.0 ** (math.frexp(least)[1] - 24))


def _last_digit(given: Const) -> float:
    """A power of two of which every number of float32 is a multiple that is as large."""
    if given.value == 0:
        return INF
    box = number(given.value).ends if isinstance(given.value, Fraction) else UNIT
    least = max(box.lo, -box.hi)
    return 2.0 ** (math.frexp(least)[1] - 24) if least >= NORMAL else 0.0


def least_of_squares(case: Case, node: Scalar) -> float:
    """What a sum of squares is at least if it is not 0: the square of a number that no entry is below; 0 if none is seen."""
    d = case.bounds.fold(node, ("sum",))
    root = None if d is None else root_of(resolved(case.bounds.case(case.some, {}), d.body))
    step = 0.0 if root is None else grid(case.bounds.case(case.some, {}), root)
    return step * step * (1 - 2 * SQUARES) if 2.0**-60 <= step < INF else 0.0


# ---------------------------------------------------------------------------------------------- taken apart


def _opened(case: Case, node: Scalar) -> Iterator[_Quotient]:
    """The ways in which a scalar is computed, by the branches that are taken."""
    match node:
        case Stop():
            yield from _opened(case, node.a)
        case Apply(name="neg" | "abs"):
            yield from _opened(case, node.args[0])
        case Const() if isinstance(node.value, Fraction) and node.dtype is REAL:
            box = number(node.value).ends
            least, most = max(box.lo, -box.hi), max(-box.lo, box.hi)
            yield _Quotient(case, least=least, most=most) if least > 0 or most == 0 else _Quotient(case, (node,))
        case Select():
            for holds, branch in ((True, node.a), (False, node.b)):
                if (there := case.given(node.condition, holds)) is not None:
                    yield from (replace(q, case=_kept(q.case)) for q in _opened(there.inside(branch), branch))
        case Apply(name="mul" | "div") if node.dtype is REAL:
            found = list(itertools.islice(_pairs(case, node, *node.args), _WAYS + 1))
            yield from found if 0 < len(found) <= _WAYS else [_Quotient(case, (node,))]
        case Read() if (inner := case.bounds.opened(node)) is not None:
            some = case.some | {*case.bounds.definitions[node.tensor].dims} | case.bounds.read_axes(inner)
            yield from (replace(q, case=_kept(q.case)) for q in _opened(_kept(case, some), inner))
        case _:
            yield _Quotient(case, (node,))


def _pairs(case: Case, node: Apply, a: Scalar, b: Scalar) -> Iterator[_Quotient]:
    """Nothing where the scalar, or 1 over a divisor, may be infinite."""
    box, first, second = case[node], size_of(case, a), size_of(case, b)
    least = max(case[b].lo, -case[b].hi)
    if box.nan or not (box.bounded and first < INF and second < INF) or (node.name == "div" and least < NORMAL):
        return
    for x in _opened(case, a):
        for y in _opened(x.case, b):
            if len((*x.above, *x.below, *y.above, *y.below)) > _FACTORS or any(
                q.most > 0 and not (q.least >= 1 / _FAR and q.most <= _FAR) for q in (x, y)
            ):
                yield _Quotient(case, (node,))
            elif node.name == "mul":
                yield _product(x, y, first, second)
            elif y.off <= least * _SMALL and y.least > 0:
                yield _quotient(x, y, least)
            else:
                yield _Quotient(case, (node,))


def _product(x: _Quotient, y: _Quotient, first: float, second: float) -> _Quotient:
    """A multiple of a quotient is above what is computed by `off`, and by as much as `most` is above `least`."""
    wide = math.prod(q.most / q.least for q in (x, y) if q.least > 0) * 1.01
    off = ((first + x.off) * y.off + (second + y.off) * x.off) * wide + 2 * NORMAL
    least, most = x.least * y.least * (1 - 2 * BASIC), x.most * y.most * (1 + 2 * BASIC)
    return _Quotient(y.case, x.above + y.above, x.below + y.below, least, most, off)


def _quotient(x: _Quotient, y: _Quotient, divisor: float) -> _Quotient:
    """1 / y is off by as much as y is beside its size."""
    least, most = x.least / y.most * (1 - 5 * BASIC), x.most / y.least * (1 + 5 * BASIC)
    off = x.off / divisor * 1.01 + 2 * NORMAL
    return _Quotient(y.case, x.above + y.below, x.below + y.above, least, most, off)


def _kept(case: Case, some: frozenset[Dim] | None = None) -> Case:
    """What is known of numbers that are the same in all definitions: one case for all of them, lest it is looked at often."""
    bounds, some = case.bounds, case.some if some is None else some
    known = {n: box for n, box in case.known.items() if is_steady(bounds, n) or _is_stored(bounds, n)}
    key = (some, frozenset(known.items()))
    if key not in bounds.shared:
        bounds.shared[key] = bounds.case(some, known, case.split)
    return bounds.shared[key]


def _is_stored(bounds: Bounds, node: Scalar) -> bool:
    return bounds.fold(node, ("sum", "logsumexp", "max", "min")) is not None


# ------------------------------------------------------------------------------------------- left out


def _size(q: _Quotient, sizes: Sequence[Scalar]) -> float:
    """Of what is left when equal factors and divisors, extents, and entries over norms are left out."""
    found, above, below = q.most, [*sizes, *q.above], [*q.below]
    for top in list(above):
        if top in below and (is_steady(q.case.bounds, top) or _is_near(q.case, top)):
            above.remove(top)
            below.remove(top)
            found *= 1 + 4 * FUNCTION
    found *= _of_extents(q.case, above, below)
    for top in sorted(above, key=lambda n: -size_of(q.case, n)):
        norm = next((n for n in below if _is_entry(q.case, top, n)), None)
        if norm is not None:
            above.remove(top)
            below.remove(norm)
            found *= _ROOT
    boxes = [q.case[n] for n in below]
    least = [0.0 if box.nan else max(box.lo, -box.hi) for box in boxes]
    tops = [size_of(q.case, n) for n in above]
    if any(v <= 0 for v in least) or not all(v < INF for v in tops):
        return INF
    if found == 0 or 0 in tops:
        return 0.0
    power = math.fsum([*map(math.log2, (found, *tops)), *(-math.log2(v) for v in least)])  # products may be no numbers
    return 2.0 ** max(power, -1000.0) * (1 + 2.0**-30) if power < 1000 else INF


def _is_near(case: Case, node: Scalar) -> bool:
    """Whether a scalar is the same number wherever it is computed but for the error of a function."""
    inner = node.args[0] if isinstance(node, Apply) and node.name == "sqrt" else node
    return _is_stored(case.bounds, inner)


def _is_entry(case: Case, top: Scalar, below: Scalar) -> bool:
    if not isinstance(below, Apply) or below.name != "sqrt" or not case[below].lo >= _FIRM:
        return False
    entry, total = resolved(case, top), below.args[0]
    if entry is None or not isinstance(total, Read) or not is_steady(case.bounds, entry):
        return False
    return is_in_row(case, entry, total)


def _of_extents(case: Case, above: list[Scalar], below: list[Scalar]) -> float:
    """What the extents among the factors are, over those among the divisors, at most; they are taken out."""
    tops, divisors, found = Counter[str](), Counter[str](), 1.0
    for nodes, counted in ((above, tops), (below, divisors)):
        for n in list(nodes):
            if (names := _names(case.bounds, n)) is not None:
                nodes.remove(n)
                counted.update(names)
                found *= 1 + BASIC
    for n in list(below):
        name, times = _less(case.bounds, n)
        if (tops - divisors)[name]:
            tops[name] -= 1
            below.remove(n)
            found *= times * (1 + BASIC)
    return found * math.prod(
        case.bounds.extent(Dim.symbol(name), case.some).hi for name in (tops - divisors).elements()
    )


def _whole(node: Scalar) -> Scalar:
    while isinstance(node, Apply) and node.name in ("real", "int"):
        node = node.args[0]
    return node


def _names(bounds: Bounds, node: Scalar) -> list[str] | None:
    """The axes of which a scalar is the product of the extents. Of two parameters below 0 it is none, of which each is 0."""
    inner = _whole(node)
    if not isinstance(inner, Size) or len(inner.dim.terms) != 1:
        return None
    ((atoms, times),) = inner.dim.terms
    names = [a for a in atoms if isinstance(a, str)]
    plain = len(names) == 1 or not any(name in bounds.parameters for name in names)
    return names if times == 1 and names and plain and len(names) == len(atoms) else None


def _less(bounds: Bounds, node: Scalar) -> tuple[str, float]:
    """The extent n, and k + 1, of a scalar that is at least max(1, n - k)."""
    inner = _whole(node)
    if not isinstance(inner, Apply) or inner.name != "max2" or inner.dtype is not INT:
        return "", 0.0
    for one, rest in (inner.args, inner.args[::-1]):
        if not isinstance(one, Const) or not isinstance(one.value, Fraction) or one.value < 1:
            continue
        k: Scalar = Const(0, INT)
        if isinstance(rest, Apply) and rest.name == "sub":
            rest, k = rest.args
        names = _names(bounds, rest)
        if names is not None and len(names) == 1 and isinstance(k, Const) and isinstance(k.value, Fraction):
            return (names[0], float(k.value) + 1) if 0 <= k.value <= 2**20 else ("", 0.0)
    return "", 0.0


__all__ = ["SQUARES", "grid", "least_of_squares", "ratio", "spread"]
