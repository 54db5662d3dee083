"""Rounds of a loop that only add to buffers, as folds inside of one kernel.

A window is a loop over its offsets in a Plan, since whole-array operations add one shifted array after another. A loop
target does better with the offsets innermost: each entry is made once, and no partial sum goes through memory. The
entries that one adds are the same and in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

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
    steps = tuple(_folded(s, buffers) if isinstance(s, Recurrence) else s for s in plan.steps)
    flat = [inner for s in steps for inner in (s if isinstance(s, tuple) else (s,))]
    return replace(plan, steps=tuple(_unfilled(flat, buffers)))


def _folded(step: Recurrence, buffers: Buffers) -> tuple[Step, ...]:
    inner: list[Kernel] = []
    for s in step.steps:
        made = _folded(s, buffers) if isinstance(s, Recurrence) else (s,)
        kernels = [k for k in made if isinstance(k, Kernel)]
        if len(kernels) != len(made):
            return (step,)
        inner += kernels
    written = {s.buffer for k in inner for s in k.statements if isinstance(s, Store)}
    read = {s.buffer for k in inner for s in k.statements if isinstance(s, Load)}
    if written & read:
        return (step,)
    folded = [_with_fold(k, step, buffers) for k in inner]
    return tuple(k for k in folded if k is not None) if all(folded) else (step,)


def _with_fold(kernel: Kernel, loop: Recurrence, buffers: Buffers) -> Kernel | None:
    """The kernel of one round as the kernel of all, or None."""
    stores = [s for s in kernel.statements if isinstance(s, Store)]
    if any(isinstance(s, Scatter) for s in kernel.statements) or not all(s.accumulate for s in stores):
        return None
    if any(a.name == loop.axis for a in kernel.axes) or not stores:
        return None
    shifted = [s for s in stores if any(loop.axis in dict(p.axes) for p in s.subscripts)]
    if shifted:
        return _gathered(kernel, loop, shifted[0], buffers) if len(stores) == 1 else None
    return _adding(kernel, loop, None)


def _adding(kernel: Kernel, loop: Recurrence, where: Operand | None) -> Kernel | None:
    """The kernel with a fold over the loop's axis before each store."""
    made = {s.name: s for s in kernel.statements if isinstance(s, Load | Op | Fold)}
    readers: dict[str, int] = {}
    for s in kernel.statements:
        for o in operands(s):
            if isinstance(o, Value):
                readers[o.name] = readers.get(o.name, 0) + 1
    names = set(made)
    statements: list[Statement] = []
    dropped: set[str] = set()
    stores: list[Statement] = []
    for k, s in enumerate(x for x in kernel.statements if isinstance(x, Store)):
        inner = made.get(s.value.name) if isinstance(s.value, Value) else None
        if inner is not None and inner.type != "acc":
            return None
        if isinstance(inner, Fold):
            if inner.head != "sum" or inner.type != "acc" or readers[inner.name] != 1 or where is not None:
                return None
            fold = replace(inner, axes=(*inner.axes, loop.axis))
            dropped.add(inner.name)
        else:
            name = f"sum{k}"
            while name in names:
                name += "_"
            names.add(name)
            fold = Fold(name, "acc", "sum", (loop.axis,), s.value, where)
        stores += [fold, replace(s, value=Value(fold.name))]
    if any(isinstance(s, Fold) and s.name not in dropped for s in kernel.statements):
        return None
    statements = [s for s in kernel.statements if not isinstance(s, Store) and getattr(s, "name", "") not in dropped]
    axes = (*kernel.axes, Axis(loop.axis, loop.extent, "loop"))
    return replace(kernel, axes=axes, statements=(*statements, *stores))


def _gathered(kernel: Kernel, loop: Recurrence, store: Store, buffers: Buffers) -> Kernel | None:
    """A store at `a + offset` as one at every place b of the buffer, of what lies at a = b - offset, where there is any."""
    at = [k for k, p in enumerate(store.subscripts) if loop.axis in dict(p.axes)]
    if len(at) != 1 or any(isinstance(s, Fold) for s in kernel.statements):
        return None
    place = store.subscripts[at[0]]
    others = [(a, c) for a, c in place.axes if a != loop.axis]
    if len(others) != 1 or others[0][1] != 1 or dict(place.axes)[loop.axis] != 1 or place.offset.terms or place.data:
        return None
    axis = others[0][0]
    if any(axis in dict(p.axes) for k, p in enumerate(store.subscripts) if k != at[0]):
        return None
    own = next(a for a in kernel.axes if a.name == axis)
    return _moved(kernel, loop, own, buffers[store.buffer].dims[at[0]], at[0])


def _moved(kernel: Kernel, loop: Recurrence, own: Axis, extent: Dim, at: int) -> Kernel | None:
    """The kernel over all `extent` places at the position `at` of its store, which was at `own` + the loop's index."""
    whole = f"{own.name}.whole"

    def moved(p: Subscript) -> Subscript:
        made: dict[str, int] = {}
        for a, c in p.axes:
            for name, sign in ((whole, 1), (loop.axis, -1)) if a == own.name else ((a, 1),):
                made[name] = made.get(name, 0) + sign * c
        return replace(p, axes=tuple((a, c) for a, c in made.items() if c))

    names = {s.name for s in kernel.statements if isinstance(s, Load | Op | Fold)}
    fresh = [n for n in (f"at{k}" for k in range(len(names) + 8)) if n not in names][:4]
    index, low, high, inside = fresh
    head: list[Statement] = [
        Op(index, "int", "sub", (AxisRef(whole), AxisRef(loop.axis))),
        Op(low, "bool", "ge", (Value(index), Literal(Fraction(0), "int"))),
        Op(high, "bool", "lt", (Value(index), SizeRef(own.extent))),
        Op(inside, "bool", "and", (Value(low), Value(high))),
    ]

    def operand(o: Operand) -> Operand:
        return Value(index) if o == AxisRef(own.name) else o

    body: list[Statement] = []
    for s in kernel.statements:
        match s:
            case Load():
                if s.guard is not None:
                    return None
                reads = any(own.name in dict(p.axes) for p in s.subscripts)
                guard, pad = (Value(inside), Literal(Fraction(0), s.type)) if reads else (None, None)
                body.append(replace(s, subscripts=tuple(map(moved, s.subscripts)), guard=guard, pad=pad))
            case Op():
                body.append(replace(s, args=tuple(map(operand, s.args))))
            case Store():
                place = Subscript(((whole, 1),))
                kept = tuple(place if k == at else p for k, p in enumerate(s.subscripts))
                body.append(replace(s, subscripts=kept, value=operand(s.value)))
            case _:
                return None
    axes = tuple(replace(a, name=whole, extent=extent) if a == own else a for a in kernel.axes)
    lane = whole if kernel.lane == own.name else kernel.lane
    return _adding(replace(kernel, axes=axes, lane=lane, statements=(*head, *body)), loop, Value(inside))


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


def _storing(kernel: Kernel, buffer: str, b: Buffer) -> Kernel | None:
    """The kernel with its only access to the buffer, an adding store at every place, as a plain one."""
    uses = [s for s in kernel.statements if not isinstance(s, Op | Fold) and s.buffer == buffer]
    if len(uses) != 1 or not isinstance(uses[0], Store) or not uses[0].accumulate or not b.dims:
        return None
    extents = {a.name: a.extent for a in kernel.axes}
    places = [p.axes[0][0] if p == Subscript(((p.axes[0][0], 1),)) else "" for p in uses[0].subscripts if p.axes]
    if len(places) != len(b.dims) or len(set(places)) != len(places) or "" in places:
        return None
    if any(extents.get(a) != d for a, d in zip(places, b.dims)):
        return None
    whole = replace(uses[0], accumulate=False)
    return replace(kernel, statements=tuple(whole if s is uses[0] else s for s in kernel.statements))
