"""Symmetries by form, and what follows a permutation.

A scalar is a sign times a form: written in one way up to the order of sums and products, the names of indices and signs, with
maps and folds as what they are at the places that are read. If the forms of a tensor before and after the inputs are exchanged
or negated are the same, so are its values; the sign tells even from odd. A tensor follows a permutation of an input's axis
along one of its own, or is the same: a fold of all elements along it is, if the order does not matter to the fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.ranks import RANKING, ranked
from lossdsl.certificate.rules import Stuck
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

Signed = tuple[int, int]  # a sign, and the number of a form
_EVEN = frozenset({"abs", "logcosh", "cos", "cosh"})
_ODD = frozenset({"sinh", "tanh", "sin", "atan", "erf", "erfinv"})
_EITHER_WAY = frozenset({"max2", "min2", "logaddexp"})
_UNORDERED = frozenset({"sum", "prod", "max", "min", "logsumexp", "count", "any", "all"})
_MOST = 20_000  # tensors at places
_PERMUTED = 3  # axes of one fold whose order is tried


class Forms:
    """Forms of tensors, numbered: equal forms have one number, in all programs that are seen through one table."""

    def __init__(self, bounds: Bounds, seen_as: Mapping[str, tuple[int, str]], table: dict[object, int]) -> None:
        """`seen_as`: for some inputs, a sign and the input that stands for it."""
        self.bounds, self._seen_as, self._table = bounds, seen_as, table
        self._elements: dict[tuple[str, tuple[Signed, ...], int], Signed] = {}
        self._groups: dict[str, int] = {}  # forms of recurrences, by their first tensor
        self._own: dict[str, int] = {}  # what the recurrence that is looked at reads of itself
        self._terms: dict[int, list[Signed]] = {}  # of forms that are sums
        self._factors: dict[int, list[int]] = {}  # and products

    def tensor(self, name: str) -> Signed:
        """Of any element. Raises Stuck."""
        if name not in self.bounds.definitions:
            sign, stands_for = self._seen_as.get(name, (1, name))
            return sign, self._number(("input", stands_for))
        return self._element(name, self._formals(self.bounds.definitions[name]), 0)

    def _formals(self, d: Definition) -> list[Signed]:
        return [(1, self._number(("formal", k, str(i.dim)))) for k, i in enumerate(d.formals)]

    def _number(self, form: object) -> int:
        return self._table.setdefault(form, len(self._table))

    def _element(self, name: str, places: Sequence[Signed], depth: int) -> Signed:
        """Of a tensor at places; `depth`: how many folds are around it, which tells their indices apart."""
        d = self.bounds.definitions.get(name)
        if d is None:
            sign, tensor = self.tensor(name)
            return sign, self._number(("read", tensor, tuple(places)))
        if name in self._own:
            return 1, self._number(("own", self._own[name], tuple(places)))
        key = (name, tuple(places), depth)
        if name in self.bounds.recurrent:
            group, k = self._recurrence(name)
            return 1, self._number(("recurrence", group, k, tuple(places)))
        if key not in self._elements:
            if len(self._elements) > _MOST:
                raise Stuck("more elements than are looked at")
            self._elements[key] = self._definition(d, places, depth)
        return self._elements[key]

    def _recurrence(self, name: str) -> tuple[int, int]:
        """The form of what elements are made of, those before them among it, and which of them this is: where the forms are
        the same, the elements are, one after another."""
        group = [d.tensor for d in self.bounds.group(name)]
        if group[0] not in self._groups:
            around, self._own = self._own, {tensor: k for k, tensor in enumerate(group)}
            try:
                made = [self._definition(d, self._formals(d), 0) for d in self.bounds.group(name)]
            finally:
                self._own = around
            axes = tuple(tuple(str(i.dim) for i in d.formals) for d in self.bounds.group(name))
            self._groups[group[0]] = self._number(("recurrence", axes, tuple(made)))
        return self._groups[group[0]], group.index(name)

    def _definition(self, d: Definition, places: Sequence[Signed], depth: int) -> Signed:
        at: dict[Scalar, Signed] = dict(zip(d.formals, places, strict=True))
        support = self._scalar(d.support, dict(at), depth)
        if d.head == "map":
            sign, body = self._scalar(d.body, at, depth)
            return sign, body if d.support is TRUE else self._number(("map", support, body))  # else it is 0
        ways = [self._folded(d, at, order, depth) for order in _orders(d)]
        if d.head == "sum":
            sign = min(ways, key=_by_form)[0]
            return sign, self._number(("sum", support, frozenset((sign * s, form) for s, form in ways)))
        own = () if d.head in _UNORDERED else tuple(places)  # a rank, a row and a column are in no body
        return 1, self._number((d.head, own, support, frozenset(ways)))

    def _folded(self, d: Definition, at: Mapping[Scalar, Signed], order: Sequence[int], depth: int) -> Signed:
        """With the axes in an order."""
        known = dict(at)
        for role, k in enumerate(order):
            known[d.bound[k]] = (1, self._number(("bound", depth, role, str(d.bound[k].dim))))
        axes = tuple(str(d.bound[k].dim) for k in order)
        sign, body = self._scalar(d.body, known, depth + 1)
        return sign, self._number(
            (axes, self._scalar(d.where, known, depth + 1), body if d.head == "sum" else (sign, body))
        )

    def _scalar(self, n: Scalar, known: dict[Scalar, Signed], depth: int) -> Signed:
        if n not in known:
            known[n] = self._node(n, known, depth)
        return known[n]

    def _node(self, n: Scalar, known: dict[Scalar, Signed], depth: int) -> Signed:
        match n:
            case Const():
                value = n.value
                if isinstance(value, str):
                    return 1, self._number(("const", value))
                return (-1 if value < 0 else 1), self._number(("const", n.dtype.value, str(abs(value))))
            case Param():
                return 1, self._number(("param", n.name))
            case Size():
                return 1, self._number(("size", str(n.dim)))
            case Index():
                raise Stuck("an index of another definition")
            case Read():
                return self._element(n.tensor, [self._scalar(i, known, depth) for i in n.indices], depth)
            case Stop():  # of no matter to the value
                return self._scalar(n.a, known, depth)
            case Apply():
                return self._applied(n, [self._scalar(a, known, depth) for a in n.args])
            case Compare():
                sides = [self._scalar(n.a, known, depth), self._scalar(n.b, known, depth)]
                return 1, self._number((n.op, tuple(sorted(sides) if n.op in ("==", "!=") else sides)))
            case Select():
                condition, *branches = (self._scalar(c, known, depth) for c in n.children)
                return self._selected(condition, branches)
            case And() | Or() | Not():
                parts = tuple(self._scalar(c, known, depth) for c in n.children)
                return 1, self._number((type(n).__name__, parts))
        raise Stuck(f"{type(n).__name__} has no rule")

    def _selected(self, condition: Signed, branches: Sequence[Signed]) -> Signed:
        """With the sign of the first branch that has one: 0 and what is no number are the same with either."""
        either = {self._number(("const", REAL.value, "0")), self._number(("const", "nan"))}
        sign = next((s for s, form in branches if form not in either), 1)
        rest = [(1 if form in either else sign * s, form) for s, form in branches]
        return sign, self._number(("select", condition, *rest))

    def _applied(self, n: Apply, args: Sequence[Signed]) -> Signed:
        (s, x), *rest = args or [(1, -1)]
        match n.name:
            case "neg":
                return -s, x
            case "real":
                return s, self._number(("real", x))
            case "add" | "sub":
                t, y = rest[0]
                return self._sum([(s, x), (t if n.name == "add" else -t, y)])
            case "mul":
                t, y = rest[0]
                factors = sorted(f for form in (x, y) for f in self._factors.get(form, [form]))
                product = self._number(("mul", tuple(factors)))
                self._factors[product] = factors
                return s * t, product
            case "div":
                t, y = rest[0]
                return s * t, self._number(("div", x, y))
            case "pow" | "powi":
                k = n.args[1].value if isinstance(n.args[1], Const) else None
                if k is not None and not isinstance(k, str) and k.denominator == 1:
                    return (s if k % 2 else 1), self._number(("pow", x, str(k)))
        if n.name in _EVEN:
            return 1, self._number((n.name, x))
        if n.name in _ODD:
            return s, self._number((n.name, x))
        ordered = sorted(args) if n.name in _EITHER_WAY else args
        return 1, self._number((n.name, tuple(ordered)))

    def _sum(self, parts: Sequence[Signed]) -> Signed:
        """The sign is that of the term that comes first."""
        terms = sorted(((s * t, x) for s, form in parts for t, x in self._terms.get(form, [(1, form)])), key=_by_form)
        sign = terms[0][0]
        terms = [(sign * t, x) for t, x in terms]
        total = self._number(("add", tuple(terms)))
        self._terms[total] = terms
        return sign, total


def _by_form(signed: Signed) -> Signed:
    return signed[1], signed[0]


def _orders(d: Definition) -> list[tuple[int, ...]]:
    """In which the axes of a fold may be looked at: all of them, if the order does not matter to it."""
    axes = tuple(range(len(d.bound)))
    return list(permutations(axes)) if d.head in _UNORDERED and len(axes) <= _PERMUTED else [axes]


class Permuted:
    """Along which of their axes tensors follow a permutation of one axis of an input."""

    def __init__(self, bounds: Bounds, name: str, along: int) -> None:
        self.bounds, self._name, self._along = bounds, name, along
        self._follows: dict[str, frozenset[int]] = {}
        self._ranks: set[str] = set()  # orders and extrema of what is permuted, of which only the value is asked

    def tensor(self, name: str) -> frozenset[int]:
        """The positions of the axes. Raises Stuck where it does something else."""
        found = self.follows(name)
        if name in self._ranks:
            raise Stuck(f"{name} is the place of a rank")
        return found

    def follows(self, name: str) -> frozenset[int]:
        """The same, of orders and extrema as well, which nothing but values at their places is read by."""
        if name not in self.bounds.definitions:
            return frozenset({self._along} if name == self._name else ())
        for d in self.bounds.needed(name):
            if d.tensor not in self._follows:
                if d.tensor in self.bounds.recurrent:
                    self._recurrence(self.bounds.group(d.tensor))
                else:
                    self._follows[d.tensor] = self._definition(d)
        return self._follows[name]

    def _recurrence(self, group: Sequence[Definition]) -> None:
        """What follows where the elements before it do, follows: tried with all axes of the input's extent. Elements before it
        are at the same places along these axes, or at all of them."""
        known, extent = dict(self._follows), self.bounds.inputs[self._name].dims[self._along]
        tried = {d.tensor: frozenset(k for k, i in enumerate(d.formals) if i.dim == extent) for d in group}
        self._follows |= tried
        try:
            for d in group:
                if self._definition(d) != tried[d.tensor] or d.tensor in self._ranks:
                    raise Stuck(f"{d.tensor}: a recurrence")
        except Stuck:
            self._follows = known
            raise

    def _definition(self, d: Definition) -> frozenset[int]:
        nodes = list(postorder(*d.scalars()))
        reads = [n for n in nodes if isinstance(n, Read)]
        values = {n: k for n in reads if (k := ranked(self.bounds, n)) in self.follows(n.tensor)}
        if {n for n in reads if n.tensor in self._ranks} - {n.indices[k] for n, k in values.items() if k is not None}:
            raise Stuck(f"{d.tensor} depends on the place of a rank")
        permuted = {n.indices[k] for n in reads for k in self.follows(n.tensor) if values.get(n) != k}
        if not all(isinstance(i, Index) for i in permuted):
            raise Stuck(f"{d.tensor}: a read at another place")
        for n in nodes:
            if isinstance(n, Read):
                rest = [i for k, i in enumerate(n.indices) if k not in self.follows(n.tensor)]
            elif isinstance(n, Compare) and n.op in ("==", "!=") and (n.a in permuted) == (n.b in permuted):
                rest = []  # whether two places are one
            else:
                rest = list(n.children)
            if permuted & set(rest):
                raise Stuck(f"{d.tensor} depends on the place along the axis")
        if permuted == set(d.bound) and d.head in RANKING and len(permuted) == 1:
            self._ranks.add(d.tensor)
            return frozenset()
        if permuted & set(d.bound) and d.head not in _UNORDERED:
            raise Stuck(f"{d.tensor}: no rule for {d.head}")
        return frozenset(k for k, i in enumerate(d.formals) if i in permuted)


__all__ = ["Forms", "Permuted"]
