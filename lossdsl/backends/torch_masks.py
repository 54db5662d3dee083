"""Masks that a kernel need not make: what a load gives outside of its guard is often dropped, or replaced, later on.

`select(m, load x[h - 1] guard m pad 0, -inf)` is a load that pads with -inf; and in
`select(m, exp(load x[t[n]] guard m), 0)` the outer selection drops whatever the load gives where `m` fails. Positions
stay clamped, so that nothing outside is touched. For kernels only: autograd of a formula would meet what is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from lossdsl.backends.torch_access import conjuncts, operations
from lossdsl.lower.plan import AxisRef, Fold, Literal, Load, Op, Operand, Scatter, SizeRef, Statement, Store, Value

_DEPTH = 16  # statements between a load and the selection that drops it


@dataclass(frozen=True)
class Masks:
    """`dropped`: loads whose guard asks for no mask; `pads`: other numbers for loads to give outside of their guards;
    `passed`: selections that are such a load now."""

    dropped: frozenset[str] = frozenset()
    pads: dict[str, Literal] = field(default_factory=dict)
    passed: dict[str, str] = field(default_factory=dict)


def masks(statements: Sequence[Statement], loops: Collection[str] = ()) -> Masks:
    """What is known of the loads of a kernel in these loops. A condition of the round alone is tested by Python, and
    where it fails the load gives its number all the same."""
    ops = operations(statements)
    rounds = _of_the_round(statements, loops)
    readers: dict[str, list[Statement]] = {}
    for s in statements:
        for name in dict.fromkeys(o.name for o in _operands(s) if isinstance(o, Value)):
            readers.setdefault(name, []).append(s)
    dropped: set[str] = set()
    pads: dict[str, Literal] = {}
    passed: dict[str, str] = {}
    for s in statements:
        if not isinstance(s, Load) or s.guard is None or s.type != "acc":
            continue
        guard = frozenset(conjuncts(s.guard, ops))
        match readers.get(s.name, []):
            case [Op(op="select", args=(condition, Value(name), Literal() as other)) as only] if name == s.name:
                chosen = frozenset(conjuncts(condition, ops))
                if chosen <= guard and _lost(only.name, guard - chosen, readers, ops, _DEPTH):
                    pads[s.name], passed[only.name] = other, s.name
                    continue
        masked = guard - rounds
        if masked and _lost(s.name, masked, readers, ops, _DEPTH):
            dropped.add(s.name)
    return Masks(frozenset(dropped), pads, passed)


def _of_the_round(statements: Sequence[Statement], loops: Collection[str]) -> frozenset[Operand]:
    """Values that are one number in each round."""
    found: set[Operand] = set()
    for s in statements:
        if isinstance(s, Op) and all(
            isinstance(a, Literal | SizeRef) or a in found or (isinstance(a, AxisRef) and a.name in loops)
            for a in s.args
        ):
            found.add(Value(s.name))
    return frozenset(found)


def _lost(
    name: str, guard: frozenset[Operand], readers: dict[str, list[Statement]], ops: dict[str, Op], depth: int
) -> bool:
    """Whether nothing that is stored depends on a value where the guard fails: selections on the way ask for all of it,
    each for a part."""
    if not guard:
        return True
    if depth == 0:
        return False
    here = Value(name)
    for s in readers.get(name, []):
        match s:
            case Op(op="select", args=(condition, a, b)):
                if condition == here:
                    return False
                left = guard
                if b != here:
                    left = guard - set(conjuncts(condition, ops))
                elif a != here:
                    left = frozenset(g for g in guard if not _opposite(g, condition, ops))
                if not _lost(s.name, left, readers, ops, depth - 1):
                    return False
            case Op(type="acc"):
                if not _lost(s.name, guard, readers, ops, depth - 1):
                    return False
            case Fold(value=value, where=where) if value == here and where is not None and where != here:
                if not guard <= set(conjuncts(where, ops)):
                    return False
            case _:
                return False
    return True


def _opposite(a: Operand, b: Operand, ops: dict[str, Op]) -> bool:
    """Whether one of two conditions is the negation of the other."""
    for x, y in ((a, b), (b, a)):
        op = ops.get(x.name) if isinstance(x, Value) else None
        if op is not None and op.op == "not" and op.args[0] == y:
            return True
    return False


def _operands(s: Statement) -> Iterable[Operand | None]:
    match s:
        case Load(guard=guard, subscripts=subscripts):
            return (guard, *(p.data for p in subscripts))
        case Op(args=args):
            return args
        case Fold(value=value, where=where):
            return (value, where)
        case Store(value=value, subscripts=subscripts):
            return (value, *(p.data for p in subscripts))
        case Scatter(value=value, guard=guard, subscripts=subscripts):
            return (value, guard, *(p.data for p in subscripts))
