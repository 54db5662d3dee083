"""Rounds of loops: a kernel of a round over rows as one that stands alone; the kernels of all rounds of a recurrence
as one, which walks them on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lossdsl.backends.triton_parts import Part, operands, spreads
from lossdsl.backends.triton_text import Unsupported
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    AxisRef,
    Fold,
    Kernel,
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
    Within,
)


@dataclass(frozen=True)
class Round:
    """The rows `start` to `start + count` of an axis; extents of its own, whose names no user can write."""

    axis: str

    @property
    def start(self) -> Dim:
        return Dim.symbol(f"{self.axis}.start")

    @property
    def count(self) -> Dim:
        return Dim.symbol(f"{self.axis}.count")

    def kernel(self, kernel: Kernel, plan: Plan) -> Kernel:
        """The kernel with the axis as long as the round: it counts from 0 on, what it reads is shifted. Raises
        Unsupported."""
        if self.axis not in {a.name for a in kernel.axes}:
            raise Unsupported("it is the same in each round of a loop")
        axes = tuple(replace(a, extent=self.count) if a.name == self.axis else a for a in kernel.axes)
        named = {s.name for s in kernel.statements if isinstance(s, Load | Op | Fold)}
        place = f"{self.axis}_index"
        while place in named:
            place += "_"

        def subscripts(buffer: str, given: tuple[Subscript, ...]) -> tuple[Subscript, ...]:
            return self.shifted(plan.buffer(buffer).chunked, given)

        statements = [_moved(s, {AxisRef(self.axis): Value(place)}, subscripts) for s in kernel.statements]
        if statements != list(kernel.statements):
            statements.insert(0, Op(place, "int", "add", (AxisRef(self.axis), SizeRef(self.start))))
        return replace(kernel, axes=axes, statements=tuple(statements))

    def plan(self, plan: Plan) -> Plan:
        """The plan whose buffers of a round are as long as it."""

        def cut(dims: tuple[Dim, ...], at: int) -> tuple[Dim, ...]:
            return (*dims[:at], self.count, *dims[at + 1 :])

        buffers = (b if b.chunked is None else replace(b, dims=cut(b.dims, b.chunked)) for b in plan.buffers)
        return replace(plan, buffers=tuple(buffers))

    def shifted(self, chunked: int | None, subscripts: tuple[Subscript, ...]) -> tuple[Subscript, ...]:
        made = []
        for k, s in enumerate(subscripts):
            if k == chunked:
                if s != Subscript(((self.axis, 1),)):
                    raise Unsupported("it reads other rows of a round than its own")
                made.append(s)
                continue
            shift = sum((self.start * c for a, c in s.axes if a == self.axis), Dim(()))
            made.append(replace(s, offset=s.offset + shift))
        return tuple(made)


def _moved(
    s: Statement,
    places: dict[Operand, Operand],
    subscripts: Callable[[str, tuple[Subscript, ...]], tuple[Subscript, ...]],
) -> Statement:
    """The statement with other operands and positions."""

    def operand(o: Operand) -> Operand:
        return places.get(o, o)

    match s:
        case Load():
            return replace(s, subscripts=subscripts(s.buffer, s.subscripts))
        case Op():
            return replace(s, args=tuple(operand(a) for a in s.args))
        case Fold():
            return replace(s, value=operand(s.value))
        case Store() | Scatter():
            return replace(s, subscripts=subscripts(s.buffer, s.subscripts), value=operand(s.value))


@dataclass(frozen=True)
class Walk:
    """A recurrence as one function on the device. `parts`: the kernels of a round in order, and the extent below which
    a round runs each (None: all do). Their rows are spread over programs; their columns, which read each other's entries
    of earlier rounds, are in one program."""

    index: Dim  # of the round
    extent: Dim
    direction: int
    parts: tuple[tuple[Part, Dim | None], ...]

    @property
    def widest(self) -> Part:
        return max((p for p, _ in self.parts), key=lambda p: len(p.columns))


def walk(step: Recurrence) -> Walk:
    """Raises Unsupported with the reason why the rounds stay a loop around torch operations."""
    kernels = list(_kernels(step, step.steps, None))
    stored: dict[str, tuple[Subscript, ...]] = {}
    for kernel, _ in kernels:
        for s in kernel.statements:
            if isinstance(s, Fold | Scatter):
                raise Unsupported("it combines entries in a round of a recurrence")
            if isinstance(s, Store):
                if s.accumulate:
                    raise Unsupported("it adds up over the rounds of a recurrence")
                if stored.setdefault(s.buffer, s.subscripts) != s.subscripts:
                    raise Unsupported("it stores at several positions in a round of a recurrence")
    extents = {a.name: a.extent for kernel, _ in kernels for a in kernel.axes}
    if any(extents[a.name] != a.extent for kernel, _ in kernels for a in kernel.axes):
        raise Unsupported("an axis has several extents in a recurrence")
    free = {a for a in extents if all(a in {x.name for x in kernel.axes} for kernel, _ in kernels)}
    free &= {a for a in extents if all(((a, 1),) in {s.axes for s in subscripts} for subscripts in stored.values())}
    for kernel, _ in kernels:
        own_stores = {s.buffer for s in kernel.statements if isinstance(s, Store)}
        for s in kernel.statements:
            if isinstance(s, Load) and s.buffer in stored:
                if s.buffer in own_stores and not _of_another_round(s.subscripts, stored[s.buffer], step.axis):
                    raise Unsupported("a kernel of a recurrence reads what it may be storing")
                for read, written in zip(s.subscripts, stored[s.buffer]):
                    if read != written:
                        free -= {a for a, _ in (*read.axes, *written.axes)}
    columns = tuple(a for a in extents if a not in free)
    index = Dim.symbol(f"{step.axis}.index")
    made = []
    for kernel, below in kernels:
        names = [a.name for a in kernel.axes]
        own = tuple(a for a in columns if a in names)
        if own not in ((), columns):
            raise Unsupported("kernels of a recurrence walk different axes")
        made.append((_part(kernel, tuple(a for a in extents if a in free), own, step.axis, index), below))
    return Walk(index, step.extent, step.direction, tuple(made))


def _of_another_round(read: tuple[Subscript, ...], written: tuple[Subscript, ...], axis: str) -> bool:
    """Whether a position that is read differs for certain from any that is stored in the same round."""
    for r, w in zip(read, written):
        alike = r.data is None and w.data is None and r.axes == w.axes == ((axis, 1),)
        if alike and [monomial for monomial, _ in (r.offset - w.offset).terms] == [()]:
            return True
    return False


def _kernels(step: Recurrence, steps: tuple[Step, ...], below: Dim | None) -> list[tuple[Kernel, Dim | None]]:
    found: list[tuple[Kernel, Dim | None]] = []
    for s in steps:
        match s:
            case Kernel():
                found.append((s, below))
            case Within(axis, extent, inner) if axis == step.axis and below is None:
                found += _kernels(step, inner, extent)
            case _:
                raise Unsupported("a recurrence is around more than kernels")
    return found


def _part(kernel: Kernel, rows: tuple[str, ...], columns: tuple[str, ...], axis: str, index: Dim) -> Part:
    def subscripts(buffer: str, given: tuple[Subscript, ...]) -> tuple[Subscript, ...]:
        made = []
        for s in given:
            shift = sum((index * c for a, c in s.axes if a == axis), Dim(()))
            made.append(replace(s, axes=tuple(x for x in s.axes if x[0] != axis), offset=s.offset + shift))
        return tuple(made)

    statements = [_moved(s, {AxisRef(axis): SizeRef(index)}, subscripts) for s in kernel.statements]
    stores = tuple(s for s in statements if isinstance(s, Store))
    values = tuple(s for s in statements if isinstance(s, Load | Op | Fold))
    spread = spreads(statements)
    for store in stores:
        axes = {a for s in store.subscripts for a, _ in s.axes}
        if any(isinstance(o, Value) and not spread[o.name] <= axes for o in operands(store)):
            raise Unsupported("a value that varies along an axis is stored without it")
    return Part(kernel, rows, columns, values, stores, (), spread)


__all__ = ["Round", "Walk", "walk"]
