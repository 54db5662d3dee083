"""Rounds of loops: a kernel of a round over rows as one that stands alone; the kernels of all rounds of a recurrence
as one, which walks them on the device; a loop that only adds up, such as a window's, as a kernel that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lossdsl.backends.triton_parts import Part, operands, spreads
from lossdsl.backends.triton_text import Unsupported
from lossdsl.backends.windows import folded
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


@dataclass(frozen=True)
class Sum:
    """Loops whose rounds only add to buffers: each entry of them is a sum. `loops`: (axis, extent), the outermost first;
    `folds`: what each store of the part is the sum of, and where it counts."""

    loops: tuple[tuple[str, Dim], ...]
    part: Part
    folds: tuple[Fold, ...]


def summed(step: Recurrence, plan: Plan) -> Sum:
    """A recurrence whose rounds only add (`windows.added`) as sums. Raises Unsupported."""
    kernels = folded(step, {b.name: b for b in plan.buffers})
    if len(kernels) != 1:
        raise Unsupported("it adds up over the rounds of a recurrence")
    (kernel,) = kernels
    folds = tuple(s for s in kernel.statements if isinstance(s, Fold))
    stores = [s for s in kernel.statements if isinstance(s, Store)]
    names = folds[0].axes
    if [s.value for s in stores] != [Value(f.name) for f in folds] or any(f.axes != names for f in folds):
        raise Unsupported("it combines entries in a round of a recurrence")
    extents = {a.name: a.extent for a in kernel.axes}
    loops = tuple((a, extents[a]) for a in extents if a in names)
    rows = tuple(a for a in extents if a not in names)
    inner = tuple(s for s in kernel.statements if not isinstance(s, Fold))
    part = _part(replace(kernel, statements=inner), rows, (), frozenset(f.name for f in folds))
    return Sum(loops, replace(part, spread={n: axes - set(names) for n, axes in part.spread.items()}), folds)


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
        rows = tuple(a for a in extents if a in free)
        made.append((_part(_turned(kernel, step.axis, index), rows, own), below))
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


def _turned(kernel: Kernel, axis: str, index: Dim) -> Kernel:
    """The kernel of the round `index` of a recurrence."""

    def subscripts(buffer: str, given: tuple[Subscript, ...]) -> tuple[Subscript, ...]:
        made = []
        for s in given:
            shift = sum((index * c for a, c in s.axes if a == axis), Dim(()))
            made.append(replace(s, axes=tuple(x for x in s.axes if x[0] != axis), offset=s.offset + shift))
        return tuple(made)

    statements = tuple(_moved(s, {AxisRef(axis): SizeRef(index)}, subscripts) for s in kernel.statements)
    return replace(kernel, statements=statements)


def _part(kernel: Kernel, rows: tuple[str, ...], columns: tuple[str, ...], apart: frozenset[str] = frozenset()) -> Part:
    """`apart`: values that are made otherwise."""
    statements = kernel.statements
    stores = tuple(s for s in statements if isinstance(s, Store))
    values = tuple(s for s in statements if isinstance(s, Load | Op | Fold))
    spread = spreads(statements)
    for store in stores:
        axes = {a for s in store.subscripts for a, _ in s.axes}
        values_ = [o.name for o in operands(store) if isinstance(o, Value) and o.name not in apart]
        if any(not spread[name] <= axes for name in values_):
            raise Unsupported("a value that varies along an axis is stored without it")
    return Part(kernel, rows, columns, values, stores, (), spread)


__all__ = ["Round", "Sum", "Walk", "summed", "walk"]
