"""Symmetries by form, and what follows a permutation.

A scalar is a sign times a form: written in one way up to the order of sums and products, the names of indices and signs. If
the forms of a tensor before and after the inputs are exchanged or negated are the same, so are its values; the sign tells
even from odd. A tensor follows a permutation of an input's axis along one of its own, or is the same: a fold of all elements
along it is, if the order does not matter to the fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import (
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
    postorder,
)

Signed = tuple[int, int]  # a sign, and the number of a form
_EVEN = frozenset({"abs", "logcosh", "cos", "cosh"})
_ODD = frozenset({"sinh", "tanh", "sin", "atan", "erf", "erfinv"})
_EITHER_WAY = frozenset({"max2", "min2", "logaddexp"})


class Forms:
    """Forms of tensors, numbered: equal forms have one number, in all programs that are seen through one table."""

    def __init__(self, bounds: Bounds, seen_as: Mapping[str, tuple[int, str]], table: dict[object, int]) -> None:
        """`seen_as`: for some inputs, a sign and the input that stands for it."""
        self.bounds, self._seen_as, self._table = bounds, seen_as, table
        self._tensors: dict[str, Signed] = {}

    def tensor(self, name: str) -> Signed:
        """Raises Stuck for recurrences."""
        if name not in self.bounds.definitions:
            sign, stands_for = self._seen_as.get(name, (1, name))
            return sign, self._number(("input", stands_for))
        for d in self.bounds.needed(name):
            if d.tensor not in self._tensors:
                self._tensors[d.tensor] = self._definition(d)
        return self._tensors[name]

    def _number(self, form: object) -> int:
        return self._table.setdefault(form, len(self._table))

    def _definition(self, d: Definition) -> Signed:
        if d.tensor in self.bounds.recurrent:
            raise Stuck(f"{d.tensor}: a recurrence")
        known: dict[Scalar, Signed] = {}
        for role, indices in (("formal", d.formals), ("bound", d.bound)):
            known |= {i: (1, self._number((role, k, str(i.dim)))) for k, i in enumerate(indices)}
        sign, body = self._scalar(d.body, known)
        own = (d.head, tuple(str(i.dim) for i in (*d.formals, *d.bound)), len(d.formals))
        rest = tuple(self._scalar(c, known) for c in (d.support, d.where))
        if d.head in ("map", "sum"):  # what does not exist is 0
            return sign, self._number((*own, rest, body))
        return 1, self._number((*own, rest, sign, body))

    def _scalar(self, n: Scalar, known: dict[Scalar, Signed]) -> Signed:
        if n not in known:
            known[n] = self._node(n, known)
        return known[n]

    def _node(self, n: Scalar, known: dict[Scalar, Signed]) -> Signed:
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
                sign, tensor = self.tensor(n.tensor)
                return sign, self._number(("read", tensor, tuple(self._scalar(i, known) for i in n.indices)))
            case Apply():
                return self._applied(n, [self._scalar(a, known) for a in n.args])
            case Compare():
                sides = [self._scalar(n.a, known), self._scalar(n.b, known)]
                return 1, self._number((n.op, tuple(sorted(sides) if n.op in ("==", "!=") else sides)))
            case Select() | And() | Or() | Not():
                return 1, self._number((type(n).__name__, tuple(self._scalar(c, known) for c in n.children)))
        raise Stuck(f"{type(n).__name__} has no rule")

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
                return s * t, self._number(("mul", tuple(sorted((x, y)))))
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

    def _sum(self, terms: Sequence[Signed]) -> Signed:
        """The sign is that of the term that comes first."""
        first, second = sorted(terms, key=lambda t: (t[1], t[0]))
        return first[0], self._number(("add", first[1], first[0] * second[0], second[1]))


_UNORDERED = frozenset({"sum", "prod", "max", "min", "logsumexp", "count", "any", "all"})


class Permuted:
    """Along which of their axes tensors follow a permutation of one axis of an input."""

    def __init__(self, bounds: Bounds, name: str, along: int) -> None:
        self.bounds, self._name, self._along = bounds, name, along
        self._follows: dict[str, frozenset[int]] = {}

    def tensor(self, name: str) -> frozenset[int]:
        """The positions of the axes. Raises Stuck where it does something else."""
        if name not in self.bounds.definitions:
            return frozenset({self._along} if name == self._name else ())
        for d in self.bounds.needed(name):
            if d.tensor not in self._follows:
                self._follows[d.tensor] = self._definition(d)
        return self._follows[name]

    def _definition(self, d: Definition) -> frozenset[int]:
        if d.tensor in self.bounds.recurrent:
            raise Stuck(f"{d.tensor}: a recurrence")
        nodes = list(postorder(*d.scalars()))
        reads = [n for n in nodes if isinstance(n, Read)]
        permuted = {n.indices[k] for n in reads for k in self.tensor(n.tensor)}
        if not all(isinstance(i, Index) for i in permuted):
            raise Stuck(f"{d.tensor}: a read at another place")
        for n in nodes:
            if isinstance(n, Read):
                rest = [i for k, i in enumerate(n.indices) if k not in self.tensor(n.tensor)]
            elif isinstance(n, Compare) and n.op in ("==", "!=") and (n.a in permuted) == (n.b in permuted):
                rest = []  # whether two places are one
            else:
                rest = list(n.children)
            if permuted & set(rest):
                raise Stuck(f"{d.tensor} depends on the place along the axis")
        if permuted & set(d.bound) and d.head not in _UNORDERED:
            raise Stuck(f"{d.tensor}: no rule for {d.head}")
        return frozenset(k for k, i in enumerate(d.formals) if i in permuted)


__all__ = ["Forms", "Permuted"]
