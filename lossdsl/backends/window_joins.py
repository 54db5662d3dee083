"""Loops that only add up, together: windows over the same entries are one loop, in which what they read alike is read once.

A plan makes one window after another, since whole-array operations cannot do better. A kernel can: `joined` makes a loop
of two where the later one needs nothing that is made in between. An array that such loops alone read, each entry of which is
a few operations on what is read there, is made where it is read: the squares of a window of x^2 need no array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count

from lossdsl.backends.torch_function import reads, written
from lossdsl.backends.triton_parts import operands
from lossdsl.backends.windows import added, everywhere
from lossdsl.lower.plan import (
    Allocate,
    AxisRef,
    Buffer,
    Fill,
    Fold,
    Free,
    Kernel,
    Load,
    Op,
    Operand,
    Plan,
    Recurrence,
    Scatter,
    Statement,
    Step,
    Store,
    Subscript,
    Value,
)

TOGETHER = 6  # sums that one loop makes, at most: each has a register for every entry that a thread works on
CHEAP = {"add", "sub", "mul", "neg", "powi"}
FEW = 2  # such operations that are made again at each offset, at most


def joined(plan: Plan, *, alike: bool = False) -> Plan:
    """The plan with such loops together; `alike`: only those that read the same entries of an array."""
    steps = list(plan.steps)
    buffers = {b.name: b for b in plan.buffers}
    gone: set[str] = set()
    for kernel in [s for s in steps if isinstance(s, Kernel)]:
        steps, without = _unshared(steps, kernel, buffers, plan)
        gone |= without
    at = 0
    while at < len(steps):
        steps = _gathered(steps, at, alike)
        at += 1
    kept = tuple(b for b in plan.buffers if b.name not in gone)
    return replace(plan, steps=tuple(steps), buffers=kept)


# ------------------------------------------------------------------------------------------------- joining


def _gathered(steps: list[Step], at: int, alike: bool) -> list[Step]:
    """The steps with every later loop that can be made together with the one at that place."""
    first = steps[at]
    if not isinstance(first, Recurrence) or not added(first):
        return steps
    later = at + 1
    while later < len(steps):
        second = steps[later]
        made = _one(first, second, alike) if isinstance(second, Recurrence) and added(second) else None
        between = steps[at + 1 : later]
        if made is None or not isinstance(second, Recurrence) or not _free_between(second, between):
            later += 1
            continue
        own = set(added(second))
        before = [s for s in between if isinstance(s, Allocate | Fill) and s.buffer in own]
        rest = [s for s in between if s not in before]
        steps = [*steps[:at], *before, made, *rest, *steps[later + 1 :]]
        at, first = at + len(before), made
        later = at + 1
    return steps


def _free_between(loop: Recurrence, between: Sequence[Step]) -> bool:
    """Whether a loop, with what fills its buffers, can run before the steps."""
    own, read = set(added(loop)), set(reads([loop]))
    filled = {s.buffer for s in between if isinstance(s, Fill)}
    if not own <= filled:
        return False  # it adds to what is there
    for s in between:
        if isinstance(s, Allocate | Free) or (isinstance(s, Fill) and s.buffer in own):
            continue
        if not (read | own).isdisjoint(written([s])) or not own.isdisjoint(reads([s])):
            return False
    return True


def _one(first: Recurrence, second: Recurrence, alike: bool) -> Recurrence | None:
    """Two loops of one kernel each as one loop of one kernel."""
    a, b = _only(first), _only(second)
    if a is None or b is None or first.extent != second.extent or first.direction != second.direction:
        return None
    if [(x.extent, x.role) for x in a.axes] != [(x.extent, x.role) for x in b.axes]:
        return None
    stored = [s for k in (a, b) for s in k.statements if isinstance(s, Store)]
    if len(stored) > TOGETHER or len({s.buffer for s in stored}) < len(stored):
        return None
    axes = {x.name: y.name for x, y in zip(b.axes, a.axes)} | {second.axis: first.axis}
    if (b.lane and axes[b.lane]) != a.lane or not set(added(first)).isdisjoint(reads([second])):
        return None
    if _indexed(b.statements) and any(x != y for x, y in axes.items()):
        return None
    if alike:
        read = {(s.buffer, s.subscripts) for s in a.statements if isinstance(s, Load)}
        moved = {
            (s.buffer, tuple(_renamed(p, axes) for p in s.subscripts)) for s in b.statements if isinstance(s, Load)
        }
        if not any(a.lane in dict(p.axes) for _, subscripts in read & moved for p in subscripts):
            return None
    kernel = _with(a, b.statements, lambda s: _renamed(s, axes), (*b.names,), (*b.comments,))
    return replace(first, steps=(kernel,))


def _only(loop: Recurrence) -> Kernel | None:
    (*_, last) = loop.steps
    if len(loop.steps) != 1 or not isinstance(last, Kernel):
        return None
    return None if any(isinstance(s, Fold) for s in last.statements) else last


def _with(
    kernel: Kernel,
    more: Sequence[Statement],
    moved: Callable[[Subscript], Subscript],
    names: Sequence[tuple[str, str]] = (),
    comments: Sequence[tuple[str, str]] = (),
) -> Kernel:
    """The kernel with the statements of another one, whose positions are `moved`, what is the same once."""
    statements = [s for s in kernel.statements if not isinstance(s, Store)]
    stores: list[Statement] = [s for s in kernel.statements if isinstance(s, Store)]
    taken = {s.name for s in statements if isinstance(s, Load | Op | Fold)}
    known = {replace(s, name=""): s.name for s in statements if isinstance(s, Load | Op)}
    place: dict[str, str] = {}
    for s in more:
        new = _moved(s, place, moved)
        if isinstance(new, Store):
            stores.append(new)
            continue
        assert isinstance(new, Load | Op)
        key = replace(new, name="")
        if key not in known:
            name = next(n for n in chain([new.name], (f"{new.name}_{k}" for k in count(1))) if n not in taken)
            taken.add(name)
            known[key] = name
            statements.append(replace(new, name=name))
        place[new.name] = known[key]
    labels = dict(kernel.names) | {place[k]: v for k, v in names if k in place and place[k] not in dict(kernel.names)}
    lines = dict(kernel.comments) | {place[k]: v for k, v in comments if k in place}
    return replace(
        kernel,
        statements=(*statements, *stores),
        names=tuple(labels.items()),
        comments=tuple(lines.items()),
    )


def _moved(s: Statement, place: Mapping[str, str], moved: Callable[[Subscript], Subscript]) -> Statement:
    def operand(o: Operand) -> Operand:
        return Value(place.get(o.name, o.name)) if isinstance(o, Value) else o

    def subscripts(given: tuple[Subscript, ...]) -> tuple[Subscript, ...]:
        return tuple(
            moved(x if x.data is None else replace(x, data=Value(place.get(x.data.name, x.data.name)))) for x in given
        )

    match s:
        case Load():
            guard = None if s.guard is None else operand(s.guard)
            return replace(s, subscripts=subscripts(s.subscripts), guard=guard)
        case Op():
            return replace(s, args=tuple(map(operand, s.args)))
        case Store():
            return replace(s, subscripts=subscripts(s.subscripts), value=operand(s.value))
    raise TypeError(s)


def _renamed(s: Subscript, axes: Mapping[str, str]) -> Subscript:
    return replace(s, axes=tuple((axes.get(a, a), c) for a, c in s.axes))


# ----------------------------------------------------------------------------------------- made where it is read


def _unshared(
    steps: list[Step], kernel: Kernel, buffers: Mapping[str, Buffer], plan: Plan
) -> tuple[list[Step], set[str]]:
    """The steps without those results of a kernel that loops can make themselves, and these results."""
    kept = {name for _, name in plan.returns}
    gone: set[str] = set()
    for store in [s for s in kernel.statements if isinstance(s, Store)]:
        buffer = buffers[store.buffer]
        needed = _made_from(kernel, store)
        if needed is None or buffer.role != "temporary" or buffer.name in kept or not everywhere(kernel, store, buffer):
            continue
        readers = [s for s in steps if buffer.name in reads([s])]
        if not all(isinstance(s, Recurrence) and _unguarded(s, buffer.name) for s in readers):
            continue
        changed = {id(s): _inlined(s, buffer.name, needed, store, kernel) for s in readers if isinstance(s, Recurrence)}
        steps = [changed.get(id(s), s) for s in steps]
        gone.add(buffer.name)
    if not gone:
        return steps, gone
    left = tuple(s for s in kernel.statements if not isinstance(s, Store) or s.buffer not in gone)
    smaller = _pruned(replace(kernel, statements=left))
    made: list[Step] = []
    for s in steps:
        if s is kernel:
            made += [smaller] if smaller.statements else []
        elif not isinstance(s, Allocate | Free) or s.buffer not in gone:
            made.append(s)
    return made, gone


def _made_from(kernel: Kernel, store: Store) -> list[Statement] | None:
    """The statements that make what is stored; None if they are not a few operations on entries."""
    made = {s.name: s for s in kernel.statements if isinstance(s, Load | Op | Fold)}
    needed: set[str] = set()
    pending = [store.value]
    while pending:
        o = pending.pop()
        if not isinstance(o, Value):
            continue
        s = made[o.name]
        if o.name in needed:
            continue
        needed.add(o.name)
        if isinstance(s, Op) and s.op in CHEAP:
            pending += s.args
        elif not isinstance(s, Load) or s.guard is not None or any(x.data for x in s.subscripts):
            return None
    found = [s for s in kernel.statements if isinstance(s, Load | Op | Fold) and s.name in needed]
    operations = [s for s in found if isinstance(s, Op)]
    return None if _indexed(operations) or len(operations) > FEW or store.accumulate else list(found)


def _indexed(statements: Sequence[Statement]) -> bool:
    return any(isinstance(o, AxisRef) for s in statements for o in operands(s))


def _unguarded(loop: Recurrence, buffer: str) -> bool:
    kernel = _only(loop)
    if kernel is None or not added(loop):
        return False
    loads = [s for s in kernel.statements if isinstance(s, Load) and s.buffer == buffer]
    return all(s.guard is None and not any(x.data for x in s.subscripts) for s in loads)


def _inlined(loop: Recurrence, buffer: str, needed: Sequence[Statement], store: Store, maker: Kernel) -> Recurrence:
    """The loop with what is stored made at the positions that its kernel reads."""
    kernel = _only(loop)
    assert kernel is not None
    while True:
        load = next((s for s in kernel.statements if isinstance(s, Load) and s.buffer == buffer), None)
        if load is None:
            return replace(loop, steps=(kernel,))
        at = {x.axes[0][0]: y for x, y in zip(store.subscripts, load.subscripts, strict=True)}

        def moved(s: Subscript, at: Mapping[str, Subscript] = at) -> Subscript:
            axes: dict[str, int] = {}
            offset = s.offset
            for a, c in s.axes:
                for b, d in at[a].axes:
                    axes[b] = axes.get(b, 0) + c * d
                offset = offset + at[a].offset * c
            return Subscript(tuple((b, c) for b, c in axes.items() if c), offset, None)

        place = kernel.statements.index(load)
        head = _with(replace(kernel, statements=kernel.statements[:place]), needed, moved)
        value = _value(head, needed, store, moved)
        rest = tuple(_moved(s, {load.name: value}, lambda x: x) for s in kernel.statements[place + 1 :])
        names = tuple((n, v) for n, v in head.names if n != load.name)
        kernel = replace(head, statements=(*head.statements, *rest), names=names)


def _value(head: Kernel, needed: Sequence[Statement], store: Store, moved: Callable[[Subscript], Subscript]) -> str:
    """The name, in a kernel that has the statements, of what is stored."""
    known = {replace(s, name=""): s.name for s in head.statements if isinstance(s, Load | Op)}
    place: dict[str, str] = {}
    for s in needed:
        new = _moved(s, place, moved)
        assert isinstance(new, Load | Op)
        place[new.name] = known[replace(new, name="")]
    assert isinstance(store.value, Value)
    return place[store.value.name]


def _pruned(kernel: Kernel) -> Kernel:
    """Without what nothing is stored of; without statements if nothing is stored."""
    if not any(isinstance(s, Store | Scatter) for s in kernel.statements):
        return replace(kernel, statements=())
    used: set[str] = set()
    kept: list[Statement] = []
    for s in reversed(kernel.statements):
        if isinstance(s, Store | Scatter) or s.name in used:
            kept.append(s)
            used |= {o.name for o in operands(s) if isinstance(o, Value)}
    return replace(kernel, statements=tuple(reversed(kept)))


__all__ = ["joined"]
