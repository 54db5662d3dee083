"""What a plan costs, as expressions in the extents, from its text alone."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    Allocate,
    AxisRef,
    Buffer,
    Call,
    ChunkLoop,
    Cost,
    Fill,
    Fold,
    Free,
    Kernel,
    Load,
    Op,
    Operand,
    Plan,
    Recurrence,
    Rolling,
    Scatter,
    Step,
    Store,
    Subscript,
    Value,
    Within,
)

_ONE, _NONE = Dim.const(1), Dim(())
_STAND_IN = 997  # for the choice of the largest of several peaks: one value for every symbol


def product(dims: Iterable[Dim]) -> Dim:
    return reduce(lambda a, b: a * b, dims, _ONE)


class _Meter:
    def __init__(self, buffers: Iterable[Buffer]) -> None:
        self.table = {b.name: b for b in buffers}
        self.read = self.written = self.operations = _NONE
        self.passes = 0
        self.live: dict[str, Dim] = {}
        self.total = _NONE  # of what is live
        self.peak = _NONE
        self.often = _ONE  # rounds of the recurrences around what is counted
        self.fixed: set[str] = set()  # the axes of these recurrences

    def hold(self, name: str, size: Dim) -> None:
        self.release(name)
        self.live[name] = size
        self.total = self.total + size

    def release(self, name: str) -> None:
        size = self.live.pop(name, None)
        if size is not None:
            self.total = self.total - size

    def held(self) -> None:
        if _number(self.total) > _number(self.peak):
            self.peak = self.total

    def steps(self, steps: Iterable[Step], loop: ChunkLoop | None = None) -> None:
        for step in steps:
            match step:
                case Allocate(name):
                    if self.table[name].role in ("temporary", "chunk"):
                        self.hold(name, product(self.table[name].dims))
                        self.held()
                case Free(name):
                    self.release(name)
                case Fill(name):
                    self.written = self.written + product(self.table[name].dims) * self.often
                case ChunkLoop():
                    mine = [b for b in self.table.values() if b.role == "chunk" and _writes(step, b.name)]
                    for b in mine:
                        dims = [Dim.const(step.size) if k == b.chunked else d for k, d in enumerate(b.dims)]
                        self.hold(b.name, product(dims))
                    self.held()
                    self.steps(step.steps, step)
                    for b in mine:
                        self.release(b.name)
                case Recurrence() | Within():
                    self.recurrence(step, loop)
                case Rolling():
                    self.steps(step.steps, loop)
                case Call():
                    self.call(step, loop)
                case Kernel():
                    self.kernel(step, loop)

    def recurrence(self, step: Recurrence | Within, loop: ChunkLoop | None) -> None:
        """Counted once for each round: what a round touches is that round's; a loop is one pass."""
        before, passes = self.often, self.passes
        if isinstance(step, Recurrence):
            self.often = self.often * step.extent
            self.fixed.add(step.axis)
        self.steps(step.steps, loop)
        if isinstance(step, Recurrence):
            self.fixed.discard(step.axis)
        self.often = before
        self.passes = passes + 1 if isinstance(step, Recurrence) else self.passes

    def rounds(self, loop: ChunkLoop | None, axes: Iterable[str]) -> Dim:
        """How often something is touched again because the loop does not cut it."""
        return _ONE if loop is None or loop.axis in axes else (loop.extent + (loop.size - 1)) // loop.size

    def call(self, call: Call, loop: ChunkLoop | None) -> None:
        extents: dict[str, Dim] = {}
        for name, axes in (*call.operands, (call.out, call.out_axes)):
            extents.update(zip(axes, self.table[name].dims))
        for name, axes in call.operands:
            if self.table[name].role != "chunk":
                self.read = self.read + self._part(name, axes) * self.rounds(loop, axes) * self.often
        if self.table[call.out].role != "chunk":
            out = self._part(call.out, call.out_axes) * self.rounds(loop, call.out_axes) * self.often
            self.written = self.written + out
            self.read = self.read + (out if call.accumulate else _NONE)
        points = product(n for a, n in extents.items() if a not in self.fixed)
        self.operations = self.operations + self._library(call, points) * self.often
        self.passes += 1

    def _part(self, name: str, axes: Iterable[str]) -> Dim:
        """The elements of a buffer at one index of the recurrences around."""
        return product(n for a, n in zip(axes, self.table[name].dims) if a not in self.fixed)

    def _library(self, call: Call, points: Dim) -> Dim:
        """Multiply and add at each point of a product; about n^3 for an n x n matrix; n log n for a sort, with 20 for
        the logarithm (a million entries)."""
        if call.operation in ("inverse", "logdet"):
            name, axes = call.operands[0]  # the result of an inverse has names of its own for its axes
            return self._part(name, axes) * self.table[name].dims[-1]
        return points * {"argsort": 20, "contract": 2}.get(call.operation, 1)

    def kernel(self, kernel: Kernel, loop: ChunkLoop | None) -> None:
        extent = {a.name: a.extent for a in kernel.axes}
        varies: dict[str, frozenset[str]] = {}

        def of(operands: Iterable[Operand | None]) -> frozenset[str]:
            found: frozenset[str] = frozenset()
            for o in operands:
                if isinstance(o, Value):
                    found |= varies[o.name]
                elif isinstance(o, AxisRef):
                    found |= {o.name}
            return found

        def places(subscripts: tuple[Subscript, ...]) -> frozenset[str]:
            return frozenset(a for s in subscripts for a, _ in s.axes) | of(s.data for s in subscripts)

        sizes: dict[frozenset[str], Dim] = {}

        def size(axes: frozenset[str]) -> Dim:
            if axes not in sizes:
                sizes[axes] = product(extent[a] for a in sorted(axes) if a in extent) * self.often
            return sizes[axes]

        seen: set[tuple[str, tuple[Subscript, ...]]] = set()
        for s in kernel.statements:
            match s:
                case Load():
                    axes = places(s.subscripts)
                    varies[s.name] = axes | of([s.guard])
                    if (s.buffer, s.subscripts) not in seen and self.table[s.buffer].role != "chunk":
                        seen.add((s.buffer, s.subscripts))
                        self.read = self.read + size(axes) * self.rounds(loop, axes)
                case Op():
                    varies[s.name] = of(s.args)
                    if s.op not in ("real", "int", "stop"):
                        self.operations = self.operations + size(varies[s.name])
                case Fold():
                    inner = of([s.value, s.where]) | set(s.axes)
                    varies[s.name] = inner - set(s.axes)
                    self.operations = self.operations + size(inner)
                case Store() | Scatter():
                    axes = places(s.subscripts)
                    if self.table[s.buffer].role != "chunk":
                        self.written = self.written + size(axes) * self.rounds(loop, axes)
                    if isinstance(s, Scatter):
                        self.operations = self.operations + size(axes | of([s.value]))
        self.passes += bool(kernel.axes)


def _writes(loop: ChunkLoop, name: str) -> bool:
    for step in loop.steps:
        if isinstance(step, Call) and step.out == name:
            return True
        if isinstance(step, Kernel) and any(isinstance(s, Store) and s.buffer == name for s in step.statements):
            return True
    return False


def _number(dim: Dim) -> int:
    return dim.evaluate(dict.fromkeys(dim.symbols(), _STAND_IN))


def cost(plan: Plan) -> Cost:
    """Elements read and written, counted operations, the largest sum of temporaries, and passes over arrays."""
    meter = _Meter(plan.buffers)
    meter.steps(plan.steps)
    return Cost(meter.read, meter.written, meter.operations, meter.peak, meter.passes)
