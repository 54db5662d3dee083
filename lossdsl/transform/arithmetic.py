"""Small exact constructors for expressions that a transformation itself introduces, and work on conditions.

These fold constants, units and signs. Every rule is an identity of real functions wherever its left side is defined,
and none of them drops an operand that was written by the user: there is no `0 * x -> 0` here, because a derivative that
is known to be zero is represented by its absence.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from lossdsl.ir.nodes import (
    BOOL,
    FALSE,
    INT,
    ONE,
    REAL,
    TRUE,
    ZERO,
    And,
    Apply,
    Compare,
    Const,
    Not,
    Or,
    Scalar,
    Select,
)


class NotYetError(Exception):
    """A construct that has a derivative in principle, which this version cannot make. `construct` names it."""

    def __init__(self, construct: str, tensor: str = "") -> None:
        self.construct = construct
        self.tensor = tensor
        where = f" (in {tensor!r})" if tensor else ""
        super().__init__(f"the derivative of {construct} is not available yet{where}")


# ---------------------------------------------------------------------------------------------------- conditions


def conjuncts(condition: Scalar) -> tuple[Scalar, ...]:
    """The operands of a conjunction, nested ones flattened, in order; () for true."""
    if condition is TRUE:
        return ()
    if isinstance(condition, And):
        return tuple(c for a in condition.args for c in conjuncts(a))
    return (condition,)


def unique(conditions: Iterable[Scalar]) -> tuple[Scalar, ...]:
    """Conjuncts in order of first appearance, each once. A later copy of an earlier one never decides anything."""
    flat = [c for a in conditions for c in conjuncts(a)]
    return (FALSE,) if FALSE in flat else tuple(dict.fromkeys(flat))


def conjunction(conditions: Iterable[Scalar]) -> Scalar:
    """The lazy conjunction, left to right."""
    flat = unique(conditions)
    if len(flat) > 1 and any(negation(c) in flat for c in flat):
        return FALSE
    if any(isinstance(c, Or) for c in flat):
        flat = tuple(c for c in flat if not any(_implies(d, c) for d in flat if d is not c))
    if not flat:
        return TRUE
    return flat[0] if len(flat) == 1 else And(flat)


def _implies(strong: Scalar, weak: Scalar) -> bool:
    """True if `strong` is a disjunction each of whose alternatives begins with an alternative of `weak`: it then holds
    only where `weak` does, and reads nothing that `weak` would have kept it from reading."""
    if not (isinstance(strong, Or) and isinstance(weak, Or)):
        return False
    starts = [conjuncts(a) for a in weak.args]
    return all(any(conjuncts(a)[: len(s)] == s for s in starts) for a in strong.args)


def disjunction(conditions: Iterable[Scalar]) -> Scalar:
    """The lazy disjunction, left to right."""
    flat: list[Scalar] = []
    for c in conditions:
        flat.extend(c.args if isinstance(c, Or) else (c,))
    flat = [c for c in dict.fromkeys(flat) if c is not FALSE]
    joined = _complements(flat)
    if joined is not None:
        return disjunction(joined)
    parts = {c: frozenset(conjuncts(c)) for c in flat}
    flat = [c for c in flat if not any(parts[o] < parts[c] for o in flat)]  # (a and b) or a is a
    if TRUE in flat:
        return TRUE
    if not flat:
        return FALSE
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def _complements(alternatives: list[Scalar]) -> list[Scalar] | None:
    """The alternatives with `p and c`, `p and not c` joined to `p`, at the place of the first of the two; None if there
    is no such pair. Only the last conjunct is looked at: it keeps no other one from being evaluated."""
    places: dict[tuple[Scalar, ...], int] = {}
    for k, alternative in enumerate(alternatives):
        parts = conjuncts(alternative)
        if not parts:
            continue
        place = places.get((*parts[:-1], negation(parts[-1])))
        if place is not None:
            whole = conjunction(parts[:-1])
            return [*alternatives[:place], whole, *alternatives[place + 1 : k], *alternatives[k + 1 :]]
        places.setdefault(parts, k)
    return None


_FLIPPED = {"==": "!=", "!=": "=="}
_FLIPPED_INT = {"<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def negation(condition: Scalar) -> Scalar:
    """The opposite condition; an order of reals keeps its `not`, because a NaN makes both sides false."""
    if isinstance(condition, Not):
        return condition.a
    if condition is TRUE or condition is FALSE:
        return FALSE if condition is TRUE else TRUE
    if isinstance(condition, Compare):
        if condition.op in _FLIPPED:
            return Compare(_FLIPPED[condition.op], condition.a, condition.b)
        if condition.a.dtype is INT:
            return Compare(_FLIPPED_INT[condition.op], condition.a, condition.b)
    return Not(condition)


# ---------------------------------------------------------------------------------------------------- arithmetic


def _value(node: Scalar) -> Fraction | None:
    if isinstance(node, Const) and isinstance(node.value, Fraction) and node.dtype is not BOOL:
        return node.value
    return None


def neg(a: Scalar) -> Scalar:
    value = _value(a)
    if value is not None:
        return Const(-value, a.dtype)
    if isinstance(a, Apply) and a.name == "neg":
        return a.args[0]
    if isinstance(a, Apply) and a.name == "sub":
        return Apply("sub", (a.args[1], a.args[0]))
    if isinstance(a, Select) and (a.a is ZERO or a.b is ZERO):
        return select(a.condition, neg(a.a), neg(a.b))
    return Apply("neg", (a,))


def _negated(a: Scalar) -> Scalar | None:
    return a.args[0] if isinstance(a, Apply) and a.name == "neg" else None


def add(a: Scalar, b: Scalar) -> Scalar:
    x, y = _value(a), _value(b)
    if x is not None and y is not None:
        return Const(x + y, a.dtype)
    if x == 0:
        return b
    if y == 0:
        return a
    if a is b and a.dtype is REAL:
        return mul(Const(2), a)
    if isinstance(a, Select) and isinstance(b, Select) and a.condition is b.condition:
        if ZERO in (a.a, b.a) or ZERO in (a.b, b.b):
            return select(a.condition, add(a.a, b.a), add(a.b, b.b))
    minus = _negated(b)
    if minus is not None:
        return sub(a, minus)
    minus = _negated(a)
    if minus is not None:
        return sub(b, minus)
    return Apply("add", (a, b))


def sub(a: Scalar, b: Scalar) -> Scalar:
    x, y = _value(a), _value(b)
    if x is not None and y is not None:
        return Const(x - y, a.dtype)
    if x == 0:
        return neg(b)
    if y == 0:
        return a
    minus = _negated(b)
    if minus is not None:
        return add(a, minus)
    return Apply("sub", (a, b))


def mul(a: Scalar, b: Scalar) -> Scalar:
    """The product; a factor that is zero outside a condition keeps its condition around the whole product."""
    x, y = _value(a), _value(b)
    if x is not None and y is not None:
        return Const(x * y, a.dtype)
    if x == 1:
        return b
    if y == 1:
        return a
    if x == -1:
        return neg(b)
    if y == -1:
        return neg(a)
    for s, other in ((a, b), (b, a)):
        if isinstance(s, Select) and other is not ZERO:
            if s.b is ZERO:
                return select(s.condition, mul(s.a, other) if s is a else mul(other, s.a), ZERO)
            if s.a is ZERO:
                return select(s.condition, ZERO, mul(s.b, other) if s is a else mul(other, s.b))
    minus = _negated(a)
    if minus is not None:
        return neg(mul(minus, b))
    minus = _negated(b)
    if minus is not None:
        return neg(mul(a, minus))
    if y is not None:
        return mul(b, a)
    if x is not None and isinstance(b, Apply) and b.name == "mul":
        inner = _value(b.args[0])
        if inner is not None:
            return mul(Const(x * inner, a.dtype), b.args[1])
    return Apply("mul", (a, b))


def div(a: Scalar, b: Scalar) -> Scalar:
    x, y = _value(a), _value(b)
    if y is not None and y != 0:
        if x is not None:
            return Const(x / y)
        if y == 1:
            return a
    minus = _negated(a)
    if minus is not None:
        return neg(div(minus, b))
    if isinstance(a, Select) and a.b is ZERO:
        return select(a.condition, div(a.a, b), ZERO)
    if isinstance(a, Select) and a.a is ZERO:
        return select(a.condition, ZERO, div(a.b, b))
    return Apply("div", (a, b))


def select(condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
    if condition is TRUE or a is b:
        return a
    if condition is FALSE:
        return b
    if isinstance(condition, Not):
        return select(condition.a, b, a)
    if isinstance(a, Select) and a.b is b and b is ZERO:
        return Select(conjunction((condition, a.condition)), a.a, ZERO)
    return Select(condition, a, b)


def total(terms: Iterable[Scalar]) -> Scalar:
    """The sum from left to right; 0 for no term."""
    result: Scalar = ZERO
    for t in terms:
        result = add(result, t)
    return result


__all__ = [
    "ONE",
    "ZERO",
    "NotYetError",
    "add",
    "conjunction",
    "conjuncts",
    "disjunction",
    "div",
    "mul",
    "neg",
    "negation",
    "select",
    "sub",
    "total",
    "unique",
]
