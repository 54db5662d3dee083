"""Sums along axes whose terms have a norm: what no enclosure of a single term bounds, however long the axis is.

    Cauchy and Schwarz   |sum a b|^2 <= sum a^2 * sum b^2; so cosines are in [-1, 1], and an entry of a row over its norm
    squares              of a row of a sphere 1, of a row divided by its norm (or by more) at most 1, of weights that add up
                         to 1 at most 1, of an indicator of one place at most 1; (sum (u - v)^2)^(1/2) <= |u| + |v|, and
                         sum (u - v)^2 <= sum u^2 + sum v^2 where both are >= 0
    sums                 of weights that add up to at most 1 times what is in [-b, b]: in [-b, b]

Steele, The Cauchy-Schwarz Master Class (2004), chapter 1. For real arithmetic: floats have rules of their own (`masses`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lossdsl.ir.nodes import (
    TRUE,
    ZERO,
    Apply,
    Compare,
    Definition,
    Index,
    Read,
    Scalar,
    Select,
    postorder,
)
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.pieces import NotScalar, inline, square_root, value_of
from lossdsl.verify.ranges import Ranges, Scope, matches
from lossdsl.verify.weights import Weights

_MOST_NODES = 300
_ONE = Enclosure(-1.0, 1.0)


class Norms:
    """Bounds of sums of a program's definitions in some ranges."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges, self.program = ranges, ranges.program
        self.definitions = {d.tensor: d for d in ranges.program.definitions()}
        self.weights = Weights(ranges.program, ranges)
        self._known: dict[Scalar, Scalar | None] = {}  # scalars with what they read put in

    def of_sum(self, d: Definition, scope: Scope) -> Enclosure | None:
        """An enclosure of the sum `d`, whose finite body is evaluated in the scope; None if no rule has one."""
        body = self._inlined(d.body)
        return None if body is None else self._sum(body, d.bound, scope.reading(body), whole=d.where is TRUE)

    def of_quotient(self, node: Apply, scope: Scope) -> Enclosure | None:
        """[-1, 1], if the divisor is a norm of what is divided, or the product of those of two rows."""
        top, below = (self._inlined(a) for a in node.args)
        if top is None or below is None or not scope.reading(below)[below].positive:
            return None
        if self._norm_of_entry(below, top, scope):
            return _ONE
        top = _plain(top)
        d = self.definitions.get(top.tensor) if isinstance(top, Read) else None
        if not isinstance(top, Read) or d is None or d.head != "sum" or d.support is not TRUE:
            return None
        if any(i in d.bound for n in top.indices for i in postorder(n)):
            return None
        body = self._inlined(substitute(d.body, dict(zip(d.formals, top.indices, strict=True))))
        if body is None or not isinstance(body, Apply) or body.name != "mul":
            return None
        a, b = body.args
        return _ONE if self._norms_of(below, a, b, d.bound, scope) else None

    # ------------------------------------------------------------------------------------------------ sums

    def _sum(self, body: Scalar, bound: Sequence[Index], scope: Scope, *, whole: bool) -> Enclosure | None:
        body = _plain(body)
        if isinstance(body, Apply) and body.name in ("add", "sub"):
            parts = [self._sum(a, bound, scope, whole=whole) for a in body.args]
            if parts[0] is None or parts[1] is None:
                return None
            return (e.add if body.name == "add" else e.sub)(parts[0], parts[1])
        if isinstance(body, Apply) and body.name == "neg":
            inner = self._sum(body.args[0], bound, scope, whole=whole)
            return None if inner is None else e.neg(inner)
        root = square_root(body)
        if root is not None:
            most = self.squares(root, bound, scope)
            # a row of a simplex has an entry above 0
            positive = whole and isinstance(root, Read) and self._row(root, bound) == "simplex"
            return None if most is None else Enclosure(0.0, most, positive, False)
        sizes = [self.absolute(body, bound, scope)]
        if isinstance(body, Apply) and body.name == "mul":
            first, second = (self.squares(a, bound, scope) for a in body.args)
            if first is not None and second is not None:
                sizes.append(_sqrt(_times(first, second)))
        most = min((s for s in sizes if s is not None), default=None)
        if most is None:
            return None
        box = scope[body]
        return Enclosure(0.0 if box.nonnegative else -most, 0.0 if box.nonpositive else most)

    def absolute(self, a: Scalar, bound: Sequence[Index], scope: Scope) -> float | None:
        """A bound of the sum of |a|."""
        a = _plain(a)
        if len(bound) == 1 and self.weights.holds(a, bound[0]):
            return 1.0
        if _indicates(a, bound):
            return _size(scope, a)
        if not isinstance(a, Apply):
            return None
        match a.name:
            case "neg":
                return self.absolute(a.args[0], bound, scope)
            case "add" | "sub":
                parts = [self.absolute(x, bound, scope) for x in a.args]
                return None if None in parts else e.add_up(*(p for p in parts if p is not None))
            case "mul":
                for x, y in (a.args, a.args[::-1]):
                    mass, size = self.absolute(x, bound, scope), _size(scope, y)
                    if mass is not None and size is not None:
                        return _times(mass, size)
        return None

    def squares(self, a: Scalar, bound: Sequence[Index], scope: Scope) -> float | None:
        """A bound of the sum of a^2."""
        a = _plain(a)
        if isinstance(a, Read) and self._row(a, bound):
            return 1.0
        if len(bound) == 1 and self.weights.holds(a, bound[0]):
            return 1.0
        if _indicates(a, bound):
            size = _size(scope, a)
            return None if size is None else _times(size, size)
        if not isinstance(a, Apply):
            return None
        match a.name:
            case "neg":
                return self.squares(a.args[0], bound, scope)
            case "div":
                free = not any(i in bound for i in postorder(a.args[1]))
                if free and scope[a.args[1]].positive and self._norm(a.args[1], a.args[0], bound, scope):
                    return 1.0
            case "mul":
                for x, y in (a.args, a.args[::-1]):
                    mass, size = self.squares(x, bound, scope), _size(scope, y)
                    if mass is not None and size is not None:
                        return _times(mass, _times(size, size))
            case "add" | "sub":
                parts = [self.squares(x, bound, scope) for x in a.args]
                if parts[0] is None or parts[1] is None:
                    return None
                if a.name == "sub" and all(scope[x].nonnegative for x in a.args):
                    return e.add_up(parts[0], parts[1])
                both = e.add_up(_sqrt(parts[0]), _sqrt(parts[1]))
                return _times(both, both)
        return None

    def _row(self, a: Read, bound: Sequence[Index]) -> str:
        """The kind of the input of whose rows (of a sphere or a simplex) the bound indices go through one."""
        declared = self.program.input(a.tensor)
        if declared is None or declared.kind not in ("unit", "simplex"):
            return ""
        over = [a.indices[k] for k in declared.over]
        others = [i for k, i in enumerate(a.indices) if k not in declared.over]
        apart = not any(i in bound for n in others for i in postorder(n))
        return declared.kind if apart and len(over) == len(bound) and set(over) == set(bound) else ""

    # ------------------------------------------------------------------------------------------------ norms

    def _norm(self, n: Scalar, x: Scalar, bound: Sequence[Index], scope: Scope) -> bool:
        """Whether `n`, which is positive, is at least the norm of x over the bound indices."""
        n = _plain(n)
        if not isinstance(n, Apply):
            return False
        match n.name:
            case "max2":
                return any(self._norm(a, x, bound, scope) for a in n.args)
            case "add":
                return any(self._norm(a, x, bound, scope) and scope[b].nonnegative for a, b in _ways(n))
            case "sqrt":
                return self._squares_of(n.args[0], x, bound, scope)
        return False

    def _squares_of(self, p: Scalar, x: Scalar, bound: Sequence[Index], scope: Scope) -> bool:
        """Whether `p` is at least the sum of x^2."""
        p = _plain(p)
        if isinstance(p, Apply) and p.name == "add":
            return any(self._squares_of(a, x, bound, scope) and scope[b].nonnegative for a, b in _ways(p))
        if isinstance(p, Apply) and p.name == "max2":
            return any(self._squares_of(a, x, bound, scope) for a in p.args)
        row = self._squared_row(p)
        if row is None:
            return False
        root, over = row
        if [i.dim for i in over] != [i.dim for i in bound]:
            return False
        return substitute(root, dict(zip(over, bound, strict=True))) is x

    def _squared_row(self, p: Scalar) -> tuple[Scalar, tuple[Index, ...]] | None:
        """(x, its bound indices) of a read of the sum of x^2 over whole axes."""
        d = self.definitions.get(p.tensor) if isinstance(p, Read) else None
        if not isinstance(p, Read) or d is None or d.head != "sum" or d.where is not TRUE or d.support is not TRUE:
            return None
        if any(i in d.bound for n in p.indices for i in postorder(n)):
            return None
        body = self._inlined(substitute(d.body, dict(zip(d.formals, p.indices, strict=True))))
        root = None if body is None else square_root(_plain(body))
        return None if root is None else (_plain(root), d.bound)

    def _norm_of_entry(self, n: Scalar, x: Scalar, scope: Scope) -> bool:
        """Whether a positive divisor is at least the norm of a row of which x is an entry."""
        n, x = _plain(n), _plain(x)
        if not isinstance(n, Apply):
            return False
        match n.name:
            case "max2":
                return any(self._norm_of_entry(a, x, scope) for a in n.args)
            case "add":
                return any(self._norm_of_entry(a, x, scope) and scope[b].nonnegative for a, b in _ways(n))
            case "sqrt":
                return any(self._has_entry(p, x) for p in self._summands(n.args[0], scope))
        return False

    def _summands(self, p: Scalar, scope: Scope) -> Iterator[Scalar]:
        p = _plain(p)
        yield p
        if isinstance(p, Apply) and p.name == "add":
            for a, b in _ways(p):
                if scope[b].nonnegative:
                    yield from self._summands(a, scope)

    def _has_entry(self, p: Scalar, x: Scalar) -> bool:
        row = self._squared_row(p)
        if row is None:
            return False
        root, over = row
        fixed: dict[Index, Scalar] = {i: i for i in root.free if i not in over}
        return matches(root, x, fixed, set(over), self.ranges.names)

    def _norms_of(self, n: Scalar, a: Scalar, b: Scalar, bound: Sequence[Index], scope: Scope) -> bool:
        """Whether `n`, which is positive, is at least the product of the norms of two rows."""
        n, a, b = _plain(n), _plain(a), _plain(b)
        if not isinstance(n, Apply):
            return False
        match n.name:
            case "max2":
                return any(self._norms_of(k, a, b, bound, scope) for k in n.args)
            case "add":
                return any(self._norms_of(k, a, b, bound, scope) and scope[r].nonnegative for k, r in _ways(n))
            case "mul":
                return any(
                    self._norm(k, a, bound, scope) and self._norm(r, b, bound, scope) and scope[k].nonnegative
                    for k, r in _ways(n)
                )
            case "sqrt":
                return any(
                    isinstance(p, Apply)
                    and p.name == "mul"
                    and any(
                        self._squares_of(k, a, bound, scope) and self._squares_of(r, b, bound, scope)
                        for k, r in _ways(p)
                    )
                    for p in self._summands(n.args[0], scope)
                )
        return False

    def _inlined(self, node: Scalar) -> Scalar | None:
        if node not in self._known:
            try:
                found = inline(self.program, node)
                self._known[node] = found if sum(1 for _ in postorder(found)) <= _MOST_NODES else None
            except NotScalar:
                self._known[node] = None
        return self._known[node]


def _plain(n: Scalar) -> Scalar:
    """Without what only declares a derivative."""
    while (inner := value_of(n)) is not n:
        n = inner
    return n


def _ways(n: Apply) -> tuple[tuple[Scalar, Scalar], tuple[Scalar, Scalar]]:
    a, b = n.args
    return (a, b), (b, a)


def _indicates(a: Scalar, bound: Sequence[Index]) -> bool:
    """Whether the scalar is 0 but at one place of the one bound index at most."""
    if len(bound) != 1:
        return False
    while isinstance(a, Apply) and a.name in ("real", "int"):
        a = a.args[0]
    condition = a.condition if isinstance(a, Select) and a.b is ZERO else a
    if not isinstance(condition, Compare) or condition.op != "==":
        return False
    sides = [s for s in (condition.a, condition.b) if s is not bound[0]]
    return len(sides) == 1 and not any(n is bound[0] for n in postorder(sides[0]))


def _size(scope: Scope, a: Scalar) -> float | None:
    box = scope.reading(a)[a]
    return max(abs(box.lo), abs(box.hi)) if box.bounded and not box.nan else None


def _times(a: float, b: float) -> float:
    return a * b if a in (0.0, 1.0) or b in (0.0, 1.0) else e.mul_up(a, b)


def _sqrt(a: float) -> float:
    return a if a in (0.0, 1.0, INF) else e.up(math.sqrt(a))


__all__ = ["Norms"]
