"""Elements of a program along a sequence of points: the limits of `limits`, at numbers for extents (an instance).

unbounded   an admissible sequence along which the target goes to an infinity: no bound holds
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from fractions import Fraction

from lossdsl.ir.nodes import (
    TRUE,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Input,
    Not,
    Or,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
)
from lossdsl.verify import enclosure as e
from lossdsl.verify import limits
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.folds import Undecided, every_place, flat, whole
from lossdsl.verify.limits import ONE, ZERO, Limit, fixed, toward
from lossdsl.verify.pieces import dependents
from lossdsl.verify.points import Place, Point, elements, entry_name
from lossdsl.verify.refute import _points
from lossdsl.verify.verdict import Refuted, Witness
from lossdsl.verify.work import CLOCK

Ends = Mapping[tuple[str, Place], Limit]
_MOST = 4_000  # scalars of one evaluation


class Along:
    """Limits of elements where some entries of a point move (`ends`). Raises Undecided."""

    def __init__(self, program: Program, point: Point, ends: Ends) -> None:
        self.point, self.ends = point, ends
        self._definitions = {d.tensor: d for d in program.definitions()}
        self._inputs = {i.name for i in program.inputs}
        self._memo: dict[tuple[str, Place], Limit] = {}
        self._steps = 0

    def element(self, tensor: str, place: Place) -> Limit:
        if tensor in self._inputs:
            moving = self.ends.get((tensor, place))
            value = self.point.inputs[tensor].get(place)
            if value is None:
                raise Undecided(f"{tensor} has no entry at {place}")
            return fixed(value) if moving is None else moving
        key = (tensor, place)
        if key not in self._memo:
            self._memo[key] = self._definition(self._definitions[tensor], place)
        return self._memo[key]

    def _definition(self, d: Definition, place: Place) -> Limit:
        env = dict(zip(d.formals, place, strict=True))
        if d.support is not TRUE and not self._holds(d.support, env, {}):
            return ZERO
        if d.head == "map":
            return self.scalar(d.body, env, {})
        if d.head in ("inverse", "logdet", "argsort"):
            raise Undecided(f"the limit of {d.head}")
        chosen: list[tuple[Place, Limit]] = []
        shape = tuple(i.dim.evaluate(self.point.extents) for i in d.bound)
        for at in every_place(shape):
            inner = {**env, **dict(zip(d.bound, at, strict=True))}
            if d.where is not TRUE and not self._holds(d.where, inner, {}):
                continue
            if d.head in ("any", "all", "count"):
                chosen.append((at, ONE if self._holds(d.body, inner, {}) else ZERO))
            else:
                chosen.append((at, self.scalar(d.body, inner, {})))
        if d.head in ("argmax", "argmin"):
            return _winner(d.head, chosen, shape)
        return folded(d.head, [v for _, v in chosen])

    def _holds(self, condition: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Limit]) -> bool:
        value = self.scalar(condition, env, memo)
        if value.moves or not value.point:
            raise Undecided("a condition at the edge")
        return value.box.lo > 0

    def scalar(self, node: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Limit]) -> Limit:
        found = memo.get(node)
        if found is None:
            self._steps += 1
            CLOCK.steps += 1
            if self._steps > _MOST:
                raise Undecided("too many elements")
            found = memo[node] = self._scalar(node, env, memo)
        return found

    def _scalar(self, n: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Limit]) -> Limit:
        match n:
            case Const() if n.value == "nan":
                raise Undecided("an undefined value")
            case Const() if isinstance(n.value, str):
                end = INF if n.value == "inf" else -INF
                return Limit(Enclosure(end, end))
            case Const():
                assert isinstance(n.value, Fraction)
                return fixed(n.value)
            case Param():
                return fixed(self.point.parameters[n.name])
            case Size():
                return fixed(n.dim.evaluate(self.point.extents))
            case Index():
                return fixed(env[n])
            case Read():
                return self.element(n.tensor, tuple(self._whole(i, env, memo) for i in n.indices))
            case Table():
                return self.scalar(n.values[self._whole(n.index, env, memo)], env, memo)
            case Select():
                return self.scalar(n.a if self._holds(n.condition, env, memo) else n.b, env, memo)
            case Compare():
                decided = limits.holds(n.op, self.scalar(n.a, env, memo), self.scalar(n.b, env, memo))
                if decided is None:
                    raise Undecided("a condition at the edge")
                return ONE if decided else ZERO
            case And() | Or():
                stop = isinstance(n, Or)
                met = any(self._holds(a, env, memo) is stop for a in n.args)
                return ONE if met is stop else ZERO
            case Not():
                return ZERO if self._holds(n.a, env, memo) else ONE
            case Stop() | AdjointMap():
                return self.scalar(n.a, env, memo)
            case Proxy():
                return self.scalar(n.value, env, memo)
            case Apply() if n.name in ("floordiv", "mod", "floor", "ceil", "int"):
                return _rounded(n.name, [self.scalar(a, env, memo) for a in n.args])
            case Apply():
                return limits.apply(n, [self.scalar(a, env, memo) for a in n.args])
        raise Undecided("no rule")

    def _whole(self, n: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Limit]) -> int:
        v = self.scalar(n, env, memo)
        if v.moves or not v.point or not v.box.lo.is_integer():
            raise Undecided("an index that is not exact")
        return int(v.box.lo)


def _rounded(name: str, args: list[Limit]) -> Limit:
    if any(a.moves or not a.point for a in args):
        raise Undecided(f"{name} of what moves")
    v = [Fraction(a.box.lo) for a in args]
    return fixed(int(v[0]) if name == "int" else whole(name, v))


def folded(head: str, values: list[Limit]) -> Limit:
    """The limit of a reduction of finitely many values."""
    if head == "count":
        return fixed(sum(v is ONE for v in values))
    if head in ("any", "all"):
        return ONE if (any if head == "any" else all)(v is ONE for v in values) else ZERO
    if head == "logsumexp":
        return limits.log_sum_exp(values)
    if head in ("max", "min") and not values:
        raise Undecided("an extremum of nothing")
    match head:
        case "sum":
            operation, total = limits.added, ZERO
        case "prod":
            operation, total = limits.multiplied, ONE
        case "max":
            operation, total = limits.larger, values[0]
        case "min":
            operation, total = limits.smaller, values[0]
        case _:
            raise Undecided(f"the limit of {head}")
    for v in values[1:] if head in ("max", "min") else values:
        total = operation(total, v)
    return total


def _winner(head: str, chosen: list[tuple[Place, Limit]], shape: Place) -> Limit:
    """The flat place of the only extremum."""
    op = ">" if head == "argmax" else "<"
    for k, (at, v) in enumerate(chosen):
        if all(limits.holds(op, v, u) for j, (_, u) in enumerate(chosen) if j != k):
            return fixed(flat(at, shape))
    raise Undecided(f"no certain {head}")


# ---------------------------------------------------------------------------------------------------- unbounded


def unbounded(ctx: Context, target: str) -> Refuted | None:
    """A sequence of admissible points along which an element of the target goes to an infinity."""
    free = [i for i in ctx.program.inputs if i.differentiable and target in dependents(ctx.program, i.name)]
    free = [i for i in free if not ctx.cuts_through(i.name) and not ctx.symbolic(i.name) and i.name not in ctx.fixed]
    if not free:
        return None
    generator = random.Random(23)
    for point in _points(ctx, 12):
        for _ in range(4):
            ends = dict(_moved(ctx, point, free, generator))
            if not ends:
                continue
            for place in elements(ctx.program, target, point):
                try:
                    value = Along(ctx.program, point, ends).element(target, place)
                except (Undecided, ValueError, OverflowError, ZeroDivisionError, RecursionError):
                    continue
                if value.infinite and value.moves:
                    return _along(ctx, point, ends, value)
    return None


def _along(ctx: Context, point: Point, ends: Ends, value: Limit) -> Refuted:
    goes = ", ".join(f"{entry_name(*key)} goes to {end.box.lo:g}" for key, end in ends.items())
    points = tuple(_far(ctx, point, ends, t).flat() for t in _TIMES)
    return Refuted("limit along a sequence", Witness(points, f"the value goes to {value.box.lo:g} as {goes}"))


_TIMES = (8, 64, 512)  # members of the sequence that the witness shows


def _far(ctx: Context, point: Point, ends: Ends, t: int) -> Point:
    """A member of the sequence."""
    inputs = {n: dict(entries) for n, entries in point.inputs.items()}
    rows: dict[str, list[Place]] = {}
    for (tensor, place), end in ends.items():
        declared = ctx.program.input(tensor)
        if declared is not None and declared.kind == "simplex":
            rows.setdefault(tensor, []).append(place)
        elif end.infinite:
            inputs[tensor][place] = Fraction(t if end.box.lo > 0 else -t)
        else:
            box = ctx.ranges().input(tensor)
            room = min(Fraction(1), Fraction(box.hi - box.lo) / 2) if box.bounded else Fraction(1)
            inputs[tensor][place] = Fraction(end.box.lo) + end.side * room / t
    for tensor, (first, second) in rows.items():
        had = point.inputs[tensor][first]
        inputs[tensor][first] = had / t
        inputs[tensor][second] += had - had / t
    return Point(point.extents, point.parameters, inputs)


def _moved(
    ctx: Context, point: Point, free: list[Input], generator: random.Random
) -> Iterator[tuple[tuple[str, Place], Limit]]:
    """Where some entries go: to an infinity or an end of their domain, some of them or all alike."""
    chosen = generator.sample(free, generator.choice((1, 1, len(free))) if len(free) > 1 else 1)
    for i in chosen:
        entries = point.inputs[i.name]
        if not entries or i.kind == "unit":
            continue
        if i.kind == "simplex":
            yield from _along_simplex(i, entries, generator)
            continue
        box = ctx.ranges().input(i.name)
        sides = [toward(box.lo, 0 if box.lo == -INF else 1), toward(box.hi, 0 if box.hi == INF else -1)]
        if box.lo == box.hi:
            continue
        mode = generator.randrange(4)
        common = generator.choice(sides)
        one = generator.choice(list(entries))
        for place in entries:
            if mode == 0 or (mode == 1 and place == one):
                yield (i.name, place), common
            elif mode >= 2 and generator.random() < 0.6:
                yield (i.name, place), generator.choice(sides)


def _along_simplex(
    i: Input, entries: Mapping[Place, Fraction], generator: random.Random
) -> Iterator[tuple[tuple[str, Place], Limit]]:
    """Two entries of one row: the first goes to 0, the second takes what it had."""
    first = generator.choice(list(entries))
    row = [
        p for p in entries if p != first and all(a == b for k, (a, b) in enumerate(zip(p, first)) if k not in i.over)
    ]
    if not row or not entries[first]:
        return
    second = generator.choice(row)
    yield (i.name, first), toward(0.0, 1)
    yield (i.name, second), Limit(e.exact(entries[first] + entries[second]), True, -1)


__all__ = ["Along", "folded", "unbounded"]
