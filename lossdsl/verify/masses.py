"""Sums of floats whose terms share a weight that adds up to at most 1: a softmax, 1/size of the axis, a single class.

However long the axis is, such a sum is at most the largest of what is weighted, and that of the logarithms of the weights
themselves at most the logarithm of the number of terms (an entropy is largest where all weights are equal; Cover and
Thomas, Elements of Information Theory, 2.6.4). Enclosures alone give the largest term times the number of terms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from lossdsl.ir.nodes import (
    REAL,
    ZERO,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Read,
    Scalar,
    Select,
    Stop,
    postorder,
)
from lossdsl.ir.rewrite import free_indices
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.pieces import NotScalar, inline, square_root
from lossdsl.verify.ranges import Ranges, Scope, matches, number_of, product_of_sizes

_MOST_NODES, _MOST_FACTORS = 400, 24
_ROUNDING = 1.0 + 2.0**-14


def bound(ranges: Ranges, d: Definition, scope: Scope) -> float | None:
    """A bound on the size of the sum `d`, whose body is evaluated in the scope; None if there is no such weight."""
    body = written(ranges, d.body) if d.head == "sum" else None
    if body is None:
        return None
    found = _Sum(ranges, d).of(body, scope.reading(body))
    return None if found is None else found * _ROUNDING


def written(ranges: Ranges, node: Scalar) -> Scalar | None:
    """A scalar with definitions written out; None if that is too long."""
    if node not in ranges.written:
        try:
            body = inline(ranges.program, node)
        except NotScalar:
            body = None
        ranges.written[node] = body if body is None or sum(1 for _ in postorder(body)) <= _MOST_NODES else None
    return ranges.written[node]


def _under(scope: Scope, condition: Scalar, holds: bool) -> Scope | None:
    """The scope where a condition holds, of numbers that are the same wherever they are computed: definitions are written
    out, and compute theirs anew."""
    inner = scope.under(condition, holds)
    if inner is None:
        return None
    known = {n: box for n, box in inner.known.items() if n in scope.known or _repeatable(scope.ranges, n)}
    return Scope(scope.ranges, inner.nonempty, known)


def _repeatable(ranges: Ranges, node: Scalar) -> bool:
    """Folds are stored, and their roots are rounded in one way."""
    if node.dtype is not REAL or (isinstance(node, Apply) and node.name == "sqrt"):
        return all(_repeatable(ranges, n) for n in node.children)
    d = ranges.program.definition(node.tensor) if isinstance(node, Read) else None
    return ranges.repeatable(node) or (d is not None and d.head != "map")


class _Sum:
    def __init__(self, ranges: Ranges, d: Definition) -> None:
        self.ranges, self.d, self.bound = ranges, d, frozenset(d.bound)
        self.definitions = {x.tensor: x for x in ranges.program.definitions()}

    def of(self, node: Scalar, scope: Scope) -> float | None:
        match node:
            case Const(value=value) if value == 0:
                return 0.0
            case Apply(name="add" | "sub"):
                parts = [self.of(a, scope) for a in node.args]
                return None if None in parts else sum(p for p in parts if p is not None)
            case Select():
                return self._selected(node, [], scope)
            case Apply(name="neg"):
                return self.of(node.args[0], scope)
            case Stop():
                return self.of(node.a, scope)
            case Apply(name="mul" | "div"):
                return self._product(node, scope)
        return self._weighted([(node, False)], scope)

    def _selected(self, node: Select, rest: list[tuple[Scalar, bool]], scope: Scope) -> float | None:
        """Of a selection times the other factors: each branch over all terms."""
        total = 0.0
        for branch, holds in ((node.a, True), (node.b, False)):
            inner = _under(scope, node.condition, holds)
            if inner is None or branch is ZERO:
                continue
            here = inner.reading(branch)
            factors = [*rest, *flat(branch)]
            if holds and self._single(node.condition):
                part = _sized(factors, here)
            else:
                part = self.of(branch, here) if not rest else self._factors(factors, here)
            if part is None:
                return None
            total += part
        return total

    def _single(self, condition: Scalar) -> bool:
        """Whether the condition holds of one place of the one bound index at most."""
        if not isinstance(condition, Compare) or condition.op != "==" or len(self.bound) != 1:
            return False
        (index,) = self.bound
        sides = [s for s in (condition.a, condition.b) if s is not index]
        return len(sides) == 1 and not any(n is index for n in postorder(sides[0]))

    def _product(self, node: Scalar, scope: Scope) -> float | None:
        return self._factors(list(flat(node)), scope)

    def _factors(self, factors: list[tuple[Scalar, bool]], scope: Scope) -> float | None:
        if len(factors) > _MOST_FACTORS:
            return None
        for k, (factor, inverse) in enumerate(factors):
            if isinstance(factor, Select) and not inverse:  # the whole product is selected
                return self._selected(factor, [*factors[:k], *factors[k + 1 :]], scope)
        found = self._weighted(factors, scope)
        return self._distributed(factors, scope) if found is None else found

    def _distributed(self, factors: list[tuple[Scalar, bool]], scope: Scope) -> float | None:
        """Of a product of a sum, term by term; the least of what different sums give."""
        found: list[float] = []
        for k, (factor, inverse) in enumerate(factors):
            if isinstance(factor, Apply) and factor.name in ("add", "sub") and not inverse:
                rest = [*factors[:k], *factors[k + 1 :]]
                parts = [self._factors([*rest, *flat(a)], scope) for a in factor.args]
                if None not in parts:
                    found.append(sum(p for p in parts if p is not None))
        return min(found, default=None)

    def _weighted(self, factors: list[tuple[Scalar, bool]], scope: Scope) -> float | None:
        for k, (factor, inverse) in enumerate(factors):
            mass = self._mass(factor, inverse, scope)
            if mass is not None:
                others = [*factors[:k], *factors[k + 1 :]]
                log_weight = _logarithm(factor)
                own = next((j for j, (f, below) in enumerate(others) if f is log_weight and not below), None)
                if own is not None:  # an entropy
                    mass *= self._entropy(log_weight, scope)
                    del others[own]
                rest = _sized(others, scope)
                return None if rest is None else mass * rest
        return None

    def _entropy(self, log_weight: Scalar | None, scope: Scope) -> float:
        """What the sizes of the logarithms are at most on the average of the weights: an entropy is at most log n, and the
        logarithms are off by their error."""
        terms = 1.0
        for i in self.d.bound:
            terms *= self.ranges.extent(i.dim, scope.nonempty).hi
        if terms == INF or not isinstance(log_weight, Apply):
            return INF
        return (math.log(max(terms, 1.0)) + 2 * _slack(log_weight.args, scope)) * _ROUNDING

    def _mass(self, factor: Scalar, inverse: bool, scope: Scope) -> float | None:
        """What the weights add up to at most."""
        if inverse:
            return self._counted(factor, scope)
        if isinstance(factor, Read) and self._simplex(factor):
            return 1.0
        if isinstance(factor, Apply) and factor.name == "expdiff":
            x, total = factor.args
        elif isinstance(factor, Apply) and factor.name == "exp" and isinstance(factor.args[0], Apply):
            if factor.args[0].name != "sub":
                return None
            x, total = factor.args[0].args
        else:
            return None
        d = self.definitions.get(total.tensor) if isinstance(total, Read) else None
        if d is None or not isinstance(total, Read) or d.head != "logsumexp" or self.bound & set(total.free):
            return None
        found: dict[Index, Scalar] = dict(zip(d.formals, total.indices, strict=True))
        if not whole(d) or not matches(d.body, x, found, set(d.bound), self.ranges.names):
            body = written(self.ranges, d.body) or d.body
            found = dict(zip(d.formals, total.indices, strict=True))
            if not whole(d) or not matches(body, x, found, set(d.bound), self.ranges.names):
                return None
        if {found.get(i) for i in d.bound} != self.bound:
            return None
        slack = _slack((x, total), scope)
        return math.exp(slack) * _ROUNDING if slack < 2 and self.ranges.near(x) else None

    def _simplex(self, read: Read) -> bool:
        """Whether it is an entry of a point of a simplex, of which the bound indices name all entries."""
        declared = self.ranges.program.input(read.tensor)
        if declared is None or declared.kind != "simplex":
            return False
        named = [read.indices[k] for k in declared.over]
        others = [i for k, i in enumerate(read.indices) if k not in declared.over]
        return (
            set(named) == self.bound and len(named) == len(self.bound) and not self.bound & set(free_indices(*others))
        )

    def _counted(self, divisor: Scalar, scope: Scope) -> float | None:
        """Of the reciprocal of a count: of all terms, or of all but j of them, n / max(1, n - j) <= 1 + j."""
        sizes = product_of_sizes(divisor)
        if sizes is not None:  # of all terms, or of more
            more = Counter(sizes)
            more.subtract(number_of(self.d.bound))
            some = all(self.ranges.extent(dim, scope.nonempty).lo >= 1 for dim, n in more.items() if n > 0)
            return 1.0 if some and min(more.values(), default=0) >= 0 else None
        while isinstance(divisor, Apply) and divisor.name in ("real", "int"):
            divisor = divisor.args[0]
        if not isinstance(divisor, Apply) or divisor.name != "max2" or len(self.d.bound) != 1:
            return None
        for least, rest in (divisor.args, divisor.args[::-1]):
            if not isinstance(least, Const) or isinstance(least.value, str) or least.value < 1:
                continue
            if isinstance(rest, Apply) and rest.name == "sub" and isinstance(rest.args[1], Const):
                left_out = rest.args[1].value
                whole_axis = product_of_sizes(rest.args[0]) == [self.d.bound[0].dim]
                if whole_axis and not isinstance(left_out, str) and 0 <= left_out < 100:
                    return float(1 + left_out)
        return None


def _slack(ends: tuple[Scalar, ...], scope: Scope) -> float:
    """The error of the logarithm of a weight: the log-sum-exp is rounded to its own last digit."""
    return max(_size(scope[x]) for x in ends) * 2.0**-21 + 2.0**-9


def _logarithm(weight: Scalar) -> Scalar | None:
    if not isinstance(weight, Apply) or weight.name not in ("exp", "expdiff"):
        return None
    return weight.args[0] if weight.name == "exp" else Apply("sub", weight.args)


def whole(d: Definition) -> bool:
    return isinstance(d.where, Const) and isinstance(d.support, Const)


def flat(node: Scalar) -> Iterator[tuple[Scalar, bool]]:
    """The factors of a product, up to sign; True for those that it is divided by."""
    if isinstance(node, Stop):
        yield from flat(node.a)
    elif isinstance(node, Apply) and node.name == "neg":
        yield from flat(node.args[0])
    elif isinstance(node, Apply) and node.name in ("mul", "div"):
        yield from flat(node.args[0])
        yield from ((f, inverse != (node.name == "div")) for f, inverse in flat(node.args[1]))
    else:
        yield node, False


def cancelled(factors: list[tuple[Scalar, bool]]) -> tuple[list[tuple[Scalar, bool]], bool]:
    """The factors without those that are also divided by, and whether there are such."""
    left = list(factors)
    for f, inverse in factors:
        if not inverse and (f, False) in left and (f, True) in left:
            left.remove((f, False))
            left.remove((f, True))
    return left, len(left) < len(factors)


def _size(box: Enclosure) -> float:
    return INF if box.nan else max(abs(box.lo), abs(box.hi))


def largest(factors: list[tuple[Scalar, bool]], scope: Scope) -> float | None:
    """A bound on the size of a product, each factor that is a selection taken branch by branch."""
    for k, (factor, inverse) in enumerate(factors):
        if not isinstance(factor, Select) or inverse or len(factors) > _MOST_FACTORS:
            continue
        found: float | None = 0.0
        for branch, holds in ((factor.a, True), (factor.b, False)):
            inner = _under(scope, factor.condition, holds) if branch is not ZERO else None
            part = (
                0.0
                if inner is None
                else largest([*factors[:k], *factors[k + 1 :], *flat(branch)], inner.reading(branch))
            )
            found = None if found is None or part is None else max(found, part)
        return found
    return size(cancelled(factors)[0], scope)


def size(factors: list[tuple[Scalar, bool]], scope: Scope) -> float | None:
    """A bound on the size of a product in real numbers; None if there is none."""
    total = Enclosure(1.0, 1.0)
    for box in boxes_of(factors, scope):
        total = e.mul(total, e.absolute(box))
    return None if total.nan or total.hi == INF else total.hi


def _sized(factors: list[tuple[Scalar, bool]], scope: Scope) -> float | None:
    """A bound on the size of a product; of `y exp(y)` with y <= 0 it is 1/e."""
    found = size(factors, scope)
    return None if found is None else found * _ROUNDING


def boxes_of(factors: list[tuple[Scalar, bool]], scope: Scope) -> Iterator[Enclosure]:
    """Enclosures of the factors of a product, `y` and `exp(y)` taken together where y <= 0."""
    direct = [f for f, inverse in factors if not inverse]
    paired: set[int] = set()
    for k, (f, inverse) in enumerate(factors):
        if not inverse and isinstance(f, Apply) and f.name == "exp" and scope[f.args[0]].hi <= 0:
            if f.args[0] in direct and not scope[f.args[0]].nan:
                other = next(j for j, (g, i) in enumerate(factors) if g is f.args[0] and not i)
                if other not in paired:
                    paired |= {k, other}
                    yield Enclosure(-0.368, 0.0)
    for k, (f, inverse) in enumerate(factors):
        if inverse and k not in paired and isinstance(f, Apply) and f.name == "sqrt":
            for j, (g, below) in enumerate(factors):
                if j not in paired and not below and _of_norm(g, f, scope):
                    paired |= {j, k}
                    yield Enclosure(-_ROUNDING, _ROUNDING)
                    break
    for k, (f, inverse) in enumerate(factors):
        if k not in paired:
            yield e.reciprocal(scope[f]) if inverse else scope[f]


def _of_norm(entry: Scalar, root: Apply, scope: Scope) -> bool:
    """Whether the root is of a sum of squares, the square of the entry among them: it is at least the size of the entry but
    for rounding, if no square of a number that is not 0 is flushed to 0, and so the sum is 0 only where all terms are."""
    total, ranges = root.args[0], scope.ranges
    d = ranges.definition(total.tensor) if isinstance(total, Read) else None
    if d is None or not isinstance(total, Read) or d.head != "sum" or not whole(d):
        return False
    base = square_root(d.body)
    found: dict[Index, Scalar] = dict(zip(d.formals, total.indices, strict=True))
    if base is None or not matches(base, entry, found, set(d.bound), ranges.names):
        return False
    same = ranges.repeatable(entry)  # as a number of the sum and here
    return same and ranges.granule(entry) ** 2 >= _SMALL and scope[total].positive


_SMALL = 2.0**-120  # such squares are not flushed


__all__ = ["bound", "cancelled", "flat", "largest", "size", "whole"]
