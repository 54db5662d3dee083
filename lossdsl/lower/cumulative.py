"""Cumulative sums, products and log-sum-exps: recurrences that a library computes as a whole.

Recognised by their form alone: the entry before, combined by one operation with something that does not carry, where
there is an entry before; anything where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lossdsl.ir.nodes import (
    INT,
    ONE,
    REAL,
    TRUE,
    ZERO,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Read,
    Scalar,
    Select,
    Size,
)
from lossdsl.ir.ranges import implies
from lossdsl.ir.rewrite import Fresh
from lossdsl.lower.extent import form
from lossdsl.lower.products import conjuncts

_ZERO = Const(0, INT)


@dataclass(frozen=True)
class Cumulative:
    """`operation` (cumsum, cumprod, logcumsumexp) of `operand` along an axis, from its first entry on (direction 1) or
    from its last."""

    operation: str
    definition: Definition
    operand: Definition
    axis: str
    direction: int


def cumulative(group: Group, fresh: Fresh) -> Cumulative | None:
    """The cumulative operation that a group is, or None."""
    if len(group.definitions) != 1 or len(group.order) != 1:
        return None
    d = group.definitions[0]
    ((axis, direction),) = group.order
    at = next((f for f in d.formals if f.name == axis), None)
    if d.head != "map" or d.support is not TRUE or at is None or d.dtype not in (REAL, INT):
        return None
    found = _Form(d, at, direction).parts()
    if found is None:
        return None
    operation, terms = found
    operand = Definition(fresh(f"{d.tensor}.terms"), d.formals, "map", (), TRUE, terms, origin=d.origin)
    # What it reads, for the order of definitions: it is made by a call.
    shown = replace(d, body=Read(operand.tensor, d.formals, d.dtype))
    return Cumulative(operation, shown, operand, axis, direction)


class _Form:
    def __init__(self, d: Definition, at: Index, direction: int) -> None:
        self.d, self.at, self.direction = d, at, direction
        step = Apply("sub" if direction > 0 else "add", (at, Const(1, INT)))
        self.exists = Compare(">=", step, _ZERO) if direction > 0 else Compare("<", step, Size(at.dim))

    def carries(self, node: Scalar) -> bool:
        return self.d.tensor in node.tensors

    def previous(self, node: Scalar) -> bool:
        """Whether it is the entry before, and nothing else."""
        if not isinstance(node, Read) or node.tensor != self.d.tensor:
            return False
        for i, f in zip(node.indices, self.d.formals):
            place = form(i)
            if f is not self.at:
                if i is not f:
                    return False
            elif place.data or place.axes != ((f, 1),) or place.offset.terms != (((), -self.direction),):
                return False
        return True

    def is_exists(self, condition: Scalar) -> bool:
        return implies(conjuncts(condition), self.exists) and all(
            implies([self.exists], c) for c in conjuncts(condition)
        )

    def parts(self) -> tuple[str, Scalar] | None:
        """(operation, what it accumulates)."""
        body = self.d.body
        if isinstance(body, Select) and self.is_exists(body.condition) and not self.carries(body.b):
            first = body.b
            for operation, combine in _OPERATIONS.items():
                rest = combine(body.a, self.previous, self.carries)
                if rest is not None:
                    return operation, Select(body.condition, rest, first)
            return None
        for operation, combine in _OPERATIONS.items():
            identity = _IDENTITY[operation]

            def carry(node: Scalar, identity: Scalar = identity) -> bool:
                if not isinstance(node, Select) or not self.is_exists(node.condition):
                    return False
                return self.previous(node.a) and _same(node.b, identity)

            rest = combine(body, carry, self.carries)
            if rest is not None:
                return operation, rest
        return None


def _same(node: Scalar, identity: Scalar) -> bool:
    return isinstance(node, Const) and isinstance(identity, Const) and node.value == identity.value


_Test = Callable[[Scalar], bool]


def _sum(node: Scalar, carry: _Test, carries: _Test) -> Scalar | None:
    """What is added to the carry in `node`; None if it is no such sum. 0 where nothing is."""
    if carry(node):
        return Const(0, node.dtype)
    if not isinstance(node, Apply) or node.name not in ("add", "sub"):
        return None
    left, right = node.args
    if not carries(right):
        rest = _sum(left, carry, carries)
        if rest is None:
            return None
        plain = isinstance(rest, Const) and rest.value == 0
        if node.name == "add":
            return right if plain else Apply("add", (rest, right))
        return Apply("neg", (right,)) if plain else Apply("sub", (rest, right))
    if node.name == "add" and not carries(left):
        rest = _sum(right, carry, carries)
        if rest is None:
            return None
        return left if isinstance(rest, Const) and rest.value == 0 else Apply("add", (left, rest))
    return None


def _product(node: Scalar, carry: _Test, carries: _Test) -> Scalar | None:
    if carry(node):
        return ONE if node.dtype is REAL else Const(1, INT)
    if not isinstance(node, Apply) or node.name != "mul":
        return None
    for inner, other in (node.args, node.args[::-1]):
        if not carries(other):
            rest = _product(inner, carry, carries)
            if rest is None:
                return None
            return other if isinstance(rest, Const) and rest.value == 1 else Apply("mul", (rest, other))
    return None


def _logsumexp(node: Scalar, carry: _Test, carries: _Test) -> Scalar | None:
    if not isinstance(node, Apply) or node.name != "logaddexp":
        return None
    for inner, other in (node.args, node.args[::-1]):
        if carry(inner) and not carries(other):
            return other
    return None


_OPERATIONS: dict[str, Callable[[Scalar, _Test, _Test], Scalar | None]] = {
    "cumsum": _sum,
    "cumprod": _product,
    "logcumsumexp": _logsumexp,
}
_IDENTITY: dict[str, Scalar] = {"cumsum": ZERO, "cumprod": ONE, "logcumsumexp": Const("-inf")}
