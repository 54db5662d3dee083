"""What plans cost: their steps counted anew, one by one.

A kernel reads each access, told by its buffer and position, once for each index of the axes that the position is made of; it
writes alike, runs an operation once for each index of the axes that it varies along, and a fold once for each index of those
that what is folded does; conversions are no operations. A call reads its operands and writes its result; a product takes two
operations at each of its points, a sort 20, an inverse or determinant n for each entry of a matrix, any other call one. What a
loop over chunks does not cut is touched again in each round; a step in a recurrence works at one index of it, in every round.
Buffers of one round are not counted, but for what they hold. Temporaries are those that are held at one time, most of them
where every extent is 997. A kernel, a call and a recurrence are a pass each.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lossdsl.assemble import planned
from lossdsl.certificate.question import COSTS, GROWTH, Question
from lossdsl.certificate.rules import Stuck
from lossdsl.dim import Dim, FloorDiv
from lossdsl.ir.nodes import Program
from lossdsl.lower.plan import (
    Allocate,
    AxisRef,
    Buffer,
    Call,
    ChunkLoop,
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
from lossdsl.lower.prepare import LoweringError
from lossdsl.transform.gradient import NotYetError

_ONE, _NONE = Dim.const(1), Dim(())
_USUAL = 997
_FREE = ("real", "int", "stop")
_POINTS = {"argsort": 20, "contract": 2}
_DEGREES = {0: "constant", 1: "linear", 2: "quadratic", 3: "cubic"}
Trace = list[list[str]]
Axes = frozenset[str]


@dataclass(frozen=True)
class Count:
    """Elements read and written, operations."""

    read: Dim = _NONE
    written: Dim = _NONE
    operations: Dim = _NONE

    def __add__(self, other: Count) -> Count:
        return Count(self.read + other.read, self.written + other.written, self.operations + other.operations)


@dataclass(frozen=True)
class _Around:
    """How often a step runs, at one index of which axes, and the loop that cuts it."""

    often: Dim = _ONE
    fixed: Axes = frozenset()
    loop: ChunkLoop | None = None

    def again(self, axes: Iterable[str]) -> Dim:
        """How often what has these axes is touched: in each round, if the loop cuts none of them."""
        if self.loop is None or self.loop.axis in axes:
            return self.often
        return self.often * ((self.loop.extent + (self.loop.size - 1)) // self.loop.size)


def _product(dims: Iterable[Dim]) -> Dim:
    return functools.reduce(operator.mul, dims, _ONE)


class _Counter:
    def __init__(self, plan: Plan) -> None:
        self.buffers = {b.name: b for b in plan.buffers}

    def lines(self, steps: Iterable[Step], around: _Around) -> Iterator[tuple[str, Count]]:
        for step in steps:
            match step:
                case Kernel():
                    yield step.name, self._kernel(step, around)
                case Call():
                    yield step.operation, self._call(step, around)
                case Fill():
                    yield step.buffer, Count(written=_product(self.buffers[step.buffer].dims) * around.often)
                case ChunkLoop():
                    yield from self.lines(step.steps, replace(around, loop=step))
                case Recurrence():
                    inner = replace(around, often=around.often * step.extent, fixed=around.fixed | {step.axis})
                    yield from self.lines(step.steps, inner)
                case Within() | Rolling():
                    yield from self.lines(step.steps, around)

    def _call(self, call: Call, around: _Around) -> Count:
        def part(name: str, axes: Sequence[str]) -> Dim:
            return _product(n for a, n in zip(axes, self.buffers[name].dims) if a not in around.fixed)

        found, points = Count(), dict[str, Dim]()
        for name, axes in call.operands:
            points.update(zip(axes, self.buffers[name].dims))
            if self._counted(name):
                found += Count(read=part(name, axes) * around.again(axes))
        points.update(zip(call.out_axes, self.buffers[call.out].dims))
        if self._counted(call.out):
            out = part(call.out, call.out_axes) * around.again(call.out_axes)
            found += Count(read=out if call.accumulate else _NONE, written=out)
        if call.operation in ("inverse", "logdet"):
            name, axes = call.operands[0]
            operations = part(name, axes) * self.buffers[name].dims[-1]
        else:
            operations = _product(n for a, n in points.items() if a not in around.fixed)
            operations = operations * _POINTS.get(call.operation, 1)
        return found + Count(operations=operations * around.often)

    def _counted(self, name: str) -> bool:
        return self.buffers[name].role != "chunk"

    def _kernel(self, kernel: Kernel, around: _Around) -> Count:
        extents = {a.name: a.extent for a in kernel.axes}
        along: dict[str, Axes] = {}  # of each value

        def of(*operands: Operand | None) -> Axes:
            values = [along[o.name] for o in operands if isinstance(o, Value)]
            return frozenset().union(*values, (o.name for o in operands if isinstance(o, AxisRef)))

        def position(subscripts: Sequence[Subscript]) -> Axes:
            return of(*(s.data for s in subscripts)) | {a for s in subscripts for a, _ in s.axes}

        def points(axes: Axes) -> Dim:
            return _product(extents[a] for a in axes & extents.keys())

        found, accesses = Count(), set[tuple[str, tuple[Subscript, ...]]]()
        for s in kernel.statements:
            match s:
                case Load():
                    axes = position(s.subscripts)
                    along[s.name] = axes | of(s.guard)
                    if self._counted(s.buffer) and (s.buffer, s.subscripts) not in accesses:
                        found += Count(read=points(axes) * around.again(axes))
                    accesses.add((s.buffer, s.subscripts))
                case Op():
                    along[s.name] = of(*s.args)
                    if s.op not in _FREE:
                        found += Count(operations=points(along[s.name]) * around.often)
                case Fold():
                    whole = of(s.value, s.where) | set(s.axes)
                    along[s.name] = whole - set(s.axes)
                    found += Count(operations=points(whole) * around.often)
                case Store() | Scatter():
                    axes = position(s.subscripts)
                    if self._counted(s.buffer):
                        found += Count(written=points(axes) * around.again(axes))
                    if isinstance(s, Scatter):
                        found += Count(operations=points(axes | of(s.value)) * around.often)
        return found

    # ------------------------------------------------------------------------------------------ held, and passes

    def held(self, steps: Iterable[Step], live: dict[str, Dim]) -> Iterator[Dim]:
        """What temporaries hold, after each step that makes one."""
        for step in steps:
            match step:
                case Allocate() if self.buffers[step.buffer].role in ("temporary", "chunk"):
                    live[step.buffer] = _product(self.buffers[step.buffer].dims)
                    yield sum(live.values(), _NONE)
                case Free():
                    live.pop(step.buffer, None)
                case ChunkLoop():
                    rooms = {b.name: self._room(b, step) for b in self.buffers.values() if _is_made(b, step)}
                    live.update(rooms)
                    yield sum(live.values(), _NONE)
                    yield from self.held(step.steps, live)
                    for name in rooms:
                        live.pop(name, None)
                case Recurrence() | Within() | Rolling():
                    yield from self.held(step.steps, live)

    def _room(self, b: Buffer, loop: ChunkLoop) -> Dim:
        return _product(Dim.const(loop.size) if k == b.chunked else d for k, d in enumerate(b.dims))

    def passes(self, steps: Iterable[Step]) -> int:
        total = 0
        for step in steps:
            if isinstance(step, (ChunkLoop, Within, Rolling)):
                total += self.passes(step.steps)
            else:
                total += isinstance(step, (Call, Recurrence)) or (isinstance(step, Kernel) and bool(step.axes))
        return total


def _is_made(b: Buffer, loop: ChunkLoop) -> bool:
    """Whether a buffer of one round is made in the steps of a loop."""
    if b.role != "chunk":
        return False
    stored = (s.buffer for k in loop.steps if isinstance(k, Kernel) for s in k.statements if isinstance(s, Store))
    return b.name in {*stored, *(c.out for c in loop.steps if isinstance(c, Call))}


def _usual(dim: Dim) -> int:
    return dim.evaluate(dict.fromkeys(dim.symbols(), _USUAL))


@dataclass(frozen=True)
class _Cost:
    lines: list[tuple[str, Count]]
    whole: Count
    held: Dim
    passes: int

    def told(self) -> str:
        times = "1 pass" if self.passes == 1 else f"{self.passes} passes"
        moved = f"{self.whole.read} read, {self.whole.written} written, {self.held} temporary"
        said = f"{times}; elements: {moved}; {self.whole.operations} operations"
        named = "..." in said and "N" not in self.whole.read.symbols()
        return said.replace("...", "N") + "; N = size(...)" if named else said

    def degrees(self, symbol: str) -> str:
        moved = max(_degree(self.whole.read, symbol), _degree(self.whole.written, symbol))
        found = (_degree(self.whole.operations, symbol), moved, _degree(self.held, symbol))
        words = zip(found, ("operations", "elements moved", "temporaries"), strict=True)
        return ", ".join(f"{_DEGREES.get(d, f'of degree {d}')} {what}" for d, what in words)


def _degree(dim: Dim, symbol: str) -> int:
    """The largest power of an extent in one term."""
    return max((sum(_in_atom(a, symbol) for a in atoms) for atoms, _ in dim.terms), default=0)


def _in_atom(atom: str | FloorDiv, symbol: str) -> int:
    return _degree(atom.numerator, symbol) if isinstance(atom, FloorDiv) else int(atom == symbol)


def _cost(plan: Plan) -> _Cost:
    counter, most = _Counter(plan), _NONE
    for held in counter.held(plan.steps, {}):
        most = held if _usual(held) > _usual(most) else most
    lines = list(counter.lines(plan.steps, _Around()))
    return _Cost(lines, sum((c for _, c in lines), Count()), most, counter.passes(plan.steps))


@functools.lru_cache(maxsize=4)
def _costs(program: Program) -> tuple[tuple[str, tuple[str, ...], _Cost | None], ...]:
    """Of each entry: what it is about, in which inputs, and what it costs, if there is a plan."""
    found: list[tuple[str, tuple[str, ...], _Cost | None]] = []
    for entry, wrt, make in planned(program):
        cost: _Cost | None = None
        with contextlib.suppress(LoweringError, NotYetError):
            cost = _cost(make())
        found.append((COSTS[entry], wrt, cost))
    return tuple(found)


def of_cost(q: Question) -> Trace:
    """What is stated of the plan of the value, or of value and gradient, or how that of the last of them grows. Raises Stuck."""
    costs = _costs(q.program)
    about = {(name, wrt): cost for name, wrt, cost in costs}
    found = costs[-1][2] if q.property == GROWTH else about.get((q.property, q.inputs))
    if found is None:
        raise Stuck("no plan for these inputs")
    told = found.degrees(*q.inputs) if q.property == GROWTH else found.told()
    if told != q.said:
        raise Stuck(f"counted otherwise: {told}")
    counts = [[name, str(c.read), str(c.written), str(c.operations)] for name, c in found.lines]
    return [[told], *counts, [str(found.held), str(found.passes)]]


__all__ = ["of_cost"]
