"""What the guard of a load says about its positions, read from the statements of the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.lower.plan import AxisRef, Literal, Op, Operand, SizeRef, Statement, Subscript, Value

_ZERO = Dim(())


@dataclass(frozen=True)
class Affine:
    """sum of coefficient * axis, plus an offset in extents."""

    axes: Mapping[str, int] = field(default_factory=dict)
    offset: Dim = _ZERO

    def plus(self, other: Affine, factor: int) -> Affine:
        axes = {a: self.axes.get(a, 0) + factor * other.axes.get(a, 0) for a in (*self.axes, *other.axes)}
        return Affine({a: c for a, c in axes.items() if c}, self.offset + other.offset * factor)


def operations(statements: Iterable[Statement]) -> dict[str, Op]:
    return {s.name: s for s in statements if isinstance(s, Op)}


def conjuncts(operand: Operand, ops: Mapping[str, Op]) -> list[Operand]:
    """The operands of a conjunction, nested ones taken apart."""
    op = ops.get(operand.name) if isinstance(operand, Value) else None
    if op is None or op.op != "and":
        return [operand]
    return [c for a in op.args for c in conjuncts(a, ops)]


def affine(operand: Operand, ops: Mapping[str, Op]) -> Affine | None:
    match operand:
        case Literal(value=Fraction() as value, type="int"):
            return Affine({}, Dim.const(int(value)))
        case SizeRef(dim) if all(c >= 0 for _, c in dim.terms):
            return Affine({}, dim)
        case AxisRef(name):
            return Affine({name: 1})
        case Value(name) if name in ops and ops[name].op in ("add", "sub") and ops[name].type == "int":
            left, right = (affine(a, ops) for a in ops[name].args)
            if left is not None and right is not None:
                return left.plus(right, 1 if ops[name].op == "add" else -1)
    return None


def fact(operand: Operand, ops: Mapping[str, Op]) -> Affine | None:
    """The form that is at least 0 exactly where the condition holds; None if it is no such comparison."""
    op = ops.get(operand.name) if isinstance(operand, Value) else None
    if op is None or op.op not in ("lt", "le", "gt", "ge"):
        return None
    left, right = (affine(a, ops) for a in op.args)
    if left is None or right is None:
        return None
    more, less = (left, right) if op.op in ("gt", "ge") else (right, left)
    strict = Affine({}, Dim.const(1)) if op.op in ("gt", "lt") else Affine()
    return more.plus(less, -1).plus(strict, -1)


def only_range(
    conditions: Iterable[Operand], ops: Mapping[str, Op], positions: Iterable[tuple[Subscript, Dim]]
) -> bool:
    """Whether the conditions hold wherever all of the positions are inside of their dimensions."""
    inside: list[Affine] = []
    for s, dim in positions:
        at = Affine(dict(s.axes), s.offset)
        if s.data is not None or any(c < 0 for _, c in dim.terms):
            return False
        inside += [at, Affine({}, dim - 1).plus(at, -1)]
    for condition in conditions:
        wanted = fact(condition, ops)
        if wanted is None or not any(_at_least(wanted.plus(known, -1)) for known in inside):
            return False
    return True


def _at_least(form: Affine) -> bool:
    return not form.axes and all(not m and c >= 0 for m, c in form.offset.terms)
