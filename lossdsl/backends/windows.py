"""Rounds of a loop that only add to buffers, as folds inside of one kernel.

A window is a loop over its offsets in a Plan, since whole-array operations add one shifted array after another. A loop
target does better with the offsets innermost: each entry is made once, and no partial sum goes through memory. The
entries that one adds are the same and in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import count

from lossdsl.backends.triton_parts import operands
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    Allocate,
    Axis,
    AxisRef,
    Buffer,
    Fill,
    Fold,
    Free,
    Kernel,
    Literal,
    Load,
    Op,
    Operand,
    Plan,
    Recurrence,
    Scatter,
    SizeRef,
    Statement,
    Step,
    Store,
    Subscript,
    Value,
)

Buffers = Mapping[str, Buffer]


def without_adding_loops(plan: Plan) -> Plan:
    """The plan with such loops as kernels, and without the filling of what a kernel then writes whole."""
    buffers = {b.name: b for b in plan.buffers}
    steps: list[Step] = []
    for s in plan.steps:
        made = folded(s, buffers) if isinstance(s, Recurrence) else ()
        steps += made or (s,)
    return replace(plan, steps=tuple(_unfilled(steps, buffers)))


def added(step: Recurrence) -> list[str]:
    """The buffers that the rounds of a loop add to, if they do nothing else."""
    _, kernels = _nest(step)
    stores = [s for k in kernels for s in k.statements if isinstance(s, Store | Scatter)]
    return [s.buffer for s in stores] if all(isinstance(s, Store) and s.accumulate for s in stores) else []


def folded(step: Recurrence, buffers: Buffers) -> tuple[Kernel, ...]:
    """The kernels of a loop's round, or of that of loops around each other, as those of all rounds: each store is of folds
    over the loops' axes. Empty where that cannot be."""
    loops, kernels = _nest(step)
    written = {s.buffer for k in kernels for s in k.statements if isinstance(s, Store)}
    read = {s.buffer for k in kernels for s in k.statements if isinstance(s, Load)}
    if not added(step) or written & read:
        return ()
    made = [_with_folds(k, loops, buffers) for k in kernels]
    return tuple(k for k in made if k is not None) if all(made) else ()


def _nest(step: Step) -> tuple[list[Recurrence], list[Kernel]]:
    """Loops around each other, the outermost first, and the kernels in the innermost; none if anything else is there."""
    loops: list[Recurrence] = []
    steps: tuple[Step, ...] = (step,)
    while len(steps) == 1 and isinstance(steps[0], Recurrence):
        loops.append(steps[0])
        steps = steps[0].steps
    kernels = [s for s in steps if isinstance(s, Kernel)]
    return (loops, kernels) if len(kernels) == len(steps) else (loops, [])


def _with_folds(kernel: Kernel, loops: Sequence[Recurrence], buffers: Buffers) -> Kernel | None:
    stores = [s for s in kernel.statements if isinstance(s, Store)]
    names = {loop.axis for loop in loops}
    if not stores or any(a.name in names for a in kernel.axes):
        return None
    moved: dict[str, tuple[Subscript, Dim]] = {}  # axis -> (where a round adds, the extent there)
    for s in stores:
        for at, extent in zip(s.subscripts, buffers[s.buffer].dims, strict=True):
            if not names & dict(at.axes).keys():
                continue
            own = [x for x in at.axes if x[0] not in names]
            if at.data or len(own) != 1 or own[0][1] != 1 or moved.setdefault(own[0][0], (at, extent)) != (at, extent):
                return None
    for s in stores:
        for a, (at, _) in moved.items():
            if [x for x in s.subscripts if a in dict(x.axes)] != [at]:
                return None
    if moved and any(isinstance(s, Fold) for s in kernel.statements):
        return None
    inside: list[Operand] = []
    for a, (at, extent) in moved.items():
        kernel, exists = _gathered(kernel, a, at, extent)
        inside.append(exists)
    if len(inside) > 1:
        kernel, both = _all(kernel, inside)
        inside = [both]
    return _adding(kernel, loops, inside[0] if inside else None)


def _adding(kernel: Kernel, loops: Sequence[Recurrence], where: Operand | None) -> Kernel | None:
    """The kernel with a fold over the loops' axes before each store."""
    made = {s.name: s for s in kernel.statements if isinstance(s, Load | Op | Fold)}
    readers: dict[str, int] = {}
    for s in kernel.statements:
        for o in operands(s):
            if isinstance(o, Value):
                readers[o.name] = readers.get(o.name, 0) + 1
    names = set(made)
    names_of = tuple(loop.axis for loop in loops)
    dropped: set[str] = set()
    stores: list[Statement] = []
    for k, s in enumerate(x for x in kernel.statements if isinstance(x, Store)):
        inner = made.get(s.value.name) if isinstance(s.value, Value) else None
        if inner is not None and inner.type != "acc":
            return None
        if isinstance(inner, Fold):
            if inner.head != "sum" or inner.type != "acc" or readers[inner.name] != 1 or where is not None:
                return None
            fold = replace(inner, axes=(*inner.axes, *names_of))
            dropped.add(inner.name)
        else:
            name = f"sum{k}"
            while name in names:
                name += "_"
            names.add(name)
            fold = Fold(name, "acc", "sum", names_of, s.value, where)
        stores += [fold, replace(s, value=Value(fold.name))]
    if any(isinstance(s, Fold) and s.name not in dropped for s in kernel.statements):
        return None
    statements = [s for s in kernel.statements if not isinstance(s, Store) and getattr(s, "name", "") not in dropped]
    axes = (*kernel.axes, *(Axis(loop.axis, loop.extent, "loop") for loop in loops))
    return replace(kernel, axes=axes, statements=(*statements, *stores))


class _Ops:
    """Operations put before the statements of a kernel, under names that it does not use."""

    def __init__(self, kernel: Kernel) -> None:
        self.taken = {s.name for s in kernel.statements if isinstance(s, Load | Op | Fold)}
        self.made: list[Statement] = []

    def __call__(self, type_: str, op: str, *args: Operand) -> Value:
        name = next(v for n in count(1) if (v := f"v{n}") not in self.taken)
        self.taken.add(name)
        self.made.append(Op(name, type_, op, args))
        return Value(name)


def _number(value: int) -> Literal:
    return Literal(Fraction(value), "int")


def _all(kernel: Kernel, conditions: Sequence[Operand]) -> tuple[Kernel, Operand]:
    op = _Ops(kernel)
    holds = conditions[0]
    for other in conditions[1:]:
        holds = op("bool", "and", holds, other)
    stores = tuple(s for s in kernel.statements if isinstance(s, Store))
    others = tuple(s for s in kernel.statements if not isinstance(s, Store))
    return replace(kernel, statements=(*others, *op.made, *stores)), holds


def _gathered(kernel: Kernel, axis: str, at: Subscript, extent: Dim) -> tuple[Kernel, Operand]:
    """The kernel with an axis that counts the `extent` positions `at`, and not what it counted: an entry reads what would
    have been added to it in a round. And whether there is such a thing."""
    before = next(a.extent for a in kernel.axes if a.name == axis)
    turns = tuple((b, c) for b, c in at.axes if b != axis)
    op = _Ops(kernel)
    place: Operand = AxisRef(axis)
    if at.offset.terms:
        place = op("int", "sub", place, SizeRef(at.offset))
    for b, c in turns:
        place = op("int", "sub", place, AxisRef(b) if c == 1 else op("int", "mul", _number(c), AxisRef(b)))
    exists = op("bool", "and", op("bool", "ge", place, _number(0)), op("bool", "lt", place, SizeRef(before)))

    def moved(s: Subscript) -> Subscript:
        factor = dict(s.axes).get(axis, 0)
        axes = dict(s.axes)
        for b, c in turns if factor else ():
            axes[b] = axes.get(b, 0) - c * factor
        return replace(s, axes=tuple((b, c) for b, c in axes.items() if c), offset=s.offset - at.offset * factor)

    def operand(o: Operand) -> Operand:
        return place if o == AxisRef(axis) else o

    for s in kernel.statements:
        match s:
            case Load():
                guard = None if s.guard is None else operand(s.guard)
                new = replace(s, subscripts=tuple(map(moved, s.subscripts)), guard=guard)
                if new != s:
                    held = exists if new.guard is None else op("bool", "and", exists, new.guard)
                    new = replace(new, guard=held, pad=new.pad or Literal(Fraction(0), new.type))
                op.made.append(new)
            case Op():
                op.made.append(replace(s, args=tuple(map(operand, s.args))))
            case Store():
                back = tuple(Subscript(((axis, 1),)) if x == at else x for x in s.subscripts)
                op.made.append(replace(s, subscripts=back, value=operand(s.value)))
            case _:
                op.made.append(s)
    axes = tuple(replace(a, extent=extent) if a.name == axis else a for a in kernel.axes)
    return replace(kernel, axes=axes, statements=tuple(op.made)), exists


def _unfilled(steps: Sequence[Step], buffers: Buffers) -> list[Step]:
    """Without the fills by 0 of buffers that the next kernel adds to everywhere: it stores instead."""
    made: list[Step | None] = list(steps)
    for at, step in enumerate(steps):
        if not isinstance(step, Fill) or step.value.value != 0:
            continue
        found = next((k for k in range(at + 1, len(made)) if _mentions(made[k], step.buffer)), None)
        kernel = made[found] if found is not None else None
        if found is None or not isinstance(kernel, Kernel):
            continue
        changed = _storing(kernel, step.buffer, buffers[step.buffer])
        if changed is not None:
            made[at], made[found] = None, changed
    return [s for s in made if s is not None]


def _mentions(step: Step | None, buffer: str) -> bool:
    match step:
        case Kernel():
            return any(not isinstance(s, Op | Fold) and s.buffer == buffer for s in step.statements)
        case None | Allocate() | Free():
            return False
        case Fill():
            return step.buffer == buffer
    return True  # a loop, or a call: not looked into


def everywhere(kernel: Kernel, store: Store, buffer: Buffer) -> bool:
    """Whether a kernel stores at every place of a buffer, each once."""
    extents = {a.name: a.extent for a in kernel.axes}
    plain = [p.axes[0][0] for p in store.subscripts if p.axes and p == Subscript(((p.axes[0][0], 1),))]
    same = all(extents.get(a) == d for a, d in zip(plain, buffer.dims))
    return len(plain) == len(buffer.dims) == len(set(plain)) and same


def _storing(kernel: Kernel, buffer: str, b: Buffer) -> Kernel | None:
    """The kernel with its only access to the buffer, an adding store at every place, as a plain one."""
    uses = [s for s in kernel.statements if not isinstance(s, Op | Fold) and s.buffer == buffer]
    if len(uses) != 1 or not isinstance(uses[0], Store) or not uses[0].accumulate or not b.dims:
        return None
    if not everywhere(kernel, uses[0], b):
        return None
    whole = replace(uses[0], accumulate=False)
    return replace(kernel, statements=tuple(whole if s is uses[0] else s for s in kernel.statements))
