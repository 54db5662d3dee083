"""The Plan interpreter: what a plan means, in numpy float64. The second oracle, between the IR and the back ends.

A value of a kernel is an array with one axis for each axis of the kernel, of length 1 where the value does not vary.
Chunk buffers really hold one round only, poisoned with NaN before it, so that a plan that reads across rounds shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from lossdsl import primitives
from lossdsl.dim import Dim
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
    Literal,
    Load,
    Op,
    Operand,
    ParamRef,
    Plan,
    Recurrence,
    Rolling,
    Scatter,
    SizeRef,
    Stage,
    Step,
    Store,
    Subscript,
    Value,
    Within,
)

Array = np.ndarray[Any, Any]
_REST = Dim.symbol("...")
_LIMIT = np.iinfo(np.int64)


def kind(buffer_type: str) -> str:
    """The type of the values of a buffer: a buffer `like` an input holds reals."""
    return "acc" if buffer_type.startswith("like ") else buffer_type


def _dtype(type_: str) -> Any:
    return {"acc": np.float64, "int": np.int64, "bool": np.bool_}[kind(type_)]


def run_plan(
    plan: Plan, buffers: Mapping[str, Any], parameters: Mapping[str, float | int | bool] | None = None
) -> dict[str, Array]:
    """Execute a plan in float64 and give what it returns, by role ("return", "d NAME", reports).

    `buffers` holds the input and cotangent (and saved) arrays by buffer name, in the caller's shapes: `...` stands for
    any number of axes. Returned arrays have the `...` axes unpacked again. `parameters` must have every parameter of
    the plan. Raises ValueError for a missing array or a shape that contradicts another.
    """
    return _Machine(plan, buffers, parameters or {}).run()


class _Machine:
    def __init__(self, plan: Plan, arrays: Mapping[str, Any], parameters: Mapping[str, float | int | bool]) -> None:
        self.plan = plan
        self.table = {b.name: b for b in plan.buffers}
        self.parameters = dict(parameters)
        self.extents: dict[str, int] = {n: int(parameters[n]) for n, t in plan.parameters if t == "int"}
        self.rest: tuple[int, ...] = ()
        self.memory: dict[str, Array] = {}
        self.rounds: dict[str, tuple[int, int]] = {}
        self.points: dict[str, int] = {}  # axes of recurrences: the index of the round
        given = [b for b in plan.buffers if b.role in ("input", "cotangent", "direction", "saved") and b.name in arrays]
        for b in given:
            self.bind(b, np.asarray(arrays[b.name]))
        for b in given:
            self.memory[b.name] = self.packed(b, np.asarray(arrays[b.name]))

    def bind(self, b: Buffer, array: Array) -> None:
        extra = array.ndim - len(b.dims) + 1
        at = 0
        for dim in b.dims:
            if dim == _REST:
                self.rest = array.shape[at : at + extra]
                self.extents["..."] = int(np.prod(self.rest, dtype=np.int64))
                at += extra
                continue
            names = list(dim.symbols())
            if len(names) == 1 and dim == Dim.symbol(names[0]) and at < array.ndim:
                self.extents.setdefault(names[0], array.shape[at])
            at += 1

    def shape(self, b: Buffer) -> tuple[int, ...]:
        return tuple(d.evaluate(self.extents) for d in b.dims)

    def packed(self, b: Buffer, array: Array) -> Array:
        shape = self.shape(b)
        if array.ndim != len(b.dims) - (_REST in b.dims) + len(self.rest) * (_REST in b.dims):
            raise ValueError(f"{b.name} has {array.ndim} axes, but the plan has {[str(d) for d in b.dims]}")
        if _REST not in b.dims and array.shape != shape:
            raise ValueError(f"{b.name} has shape {array.shape}, but the plan needs {shape}")
        return array.astype(_dtype(b.type)).reshape(shape)

    def run(self) -> dict[str, Array]:
        for step in self.plan.steps:
            self.step(step)
        result = {}
        for role, name in self.plan.returns:
            b, array = self.table[name], self.memory[name]
            if _REST in b.dims:
                at = b.dims.index(_REST)
                array = array.reshape(array.shape[:at] + self.rest + array.shape[at + 1 :])
            result[role] = array
        return result

    # ------------------------------------------------------------------------------------------------- buffers

    def target(self, name: str) -> Array:
        """The array of a buffer that is written, made when it is first written; poisoned, so that gaps show."""
        b = self.table[name]
        if b.role in ("input", "cotangent", "direction"):
            raise ValueError(f"the plan writes to {name}, which belongs to the caller")
        if name not in self.memory:
            shape = list(self.shape(b))
            if b.role == "chunk":
                if b.chunked is None or not self.rounds:
                    raise ValueError(f"{name} is used outside a chunk loop")
                low, high = next(reversed(self.rounds.values()))
                shape[b.chunked] = high - low
            void: Any = np.nan if kind(b.type) == "acc" else 0
            self.memory[name] = np.full(shape, void, dtype=_dtype(b.type))
        return self.memory[name]

    def base(self, name: str) -> tuple[int, int]:
        """(position, first index) of the round that a chunk buffer holds; (-1, 0) for others."""
        b = self.table[name]
        if b.role != "chunk" or b.chunked is None:
            return -1, 0
        return b.chunked, next(reversed(self.rounds.values()))[0]

    def source(self, name: str) -> Array:
        if name not in self.memory:
            raise ValueError(f"the plan reads {name} before it has a value")
        return self.memory[name]

    # --------------------------------------------------------------------------------------------------- steps

    def step(self, step: Step) -> None:
        match step:
            case Kernel():
                _Body(self, step).run()
            case Call():
                self.call(step)
            case Fill(buffer, value):
                self.target(buffer)[...] = _number(value)
            case ChunkLoop():
                extent = step.extent.evaluate(self.extents)
                for low in range(0, extent, step.size):
                    self.rounds[step.axis] = (low, min(extent, low + step.size))
                    for inner in step.steps:
                        self.step(inner)
                    for b in self.plan.buffers:
                        if b.role == "chunk":
                            self.memory.pop(b.name, None)
                    del self.rounds[step.axis]
            case Recurrence():
                extent = step.extent.evaluate(self.extents)
                for k in range(extent) if step.direction > 0 else reversed(range(extent)):
                    self.points[step.axis] = k
                    for inner in step.steps:
                        self.step(inner)
                self.points.pop(step.axis, None)
            case Within():
                if self.points[step.axis] < step.extent.evaluate(self.extents):
                    for inner in step.steps:
                        self.step(inner)
            case Rolling():
                self.rolling(step)
            case Allocate(buffer):
                self.memory.pop(buffer, None)
                self.target(buffer)
            case Free(buffer):
                self.memory.pop(buffer, None)

    def rolling(self, step: Rolling) -> None:
        width = self.lanes(step)
        for left in range(0, width, step.lanes) if step.lanes else (0,):
            self.strips(step, left, min(width, left + step.lanes) if step.lanes else 0)

    def lanes(self, step: Rolling) -> int:
        stage = step.stages[0]
        return next(a.extent for a in stage.kernel.axes if a.name == stage.lane).evaluate(self.extents)

    def strips(self, step: Rolling, left: int, right: int) -> None:
        """Rows that are no longer kept are NaN: a stage that reads them shows."""
        extents = [s.extent.evaluate(self.extents) for s in step.stages]
        kept = dict(step.kept)
        last = max((n + s.lag for n, s in zip(extents, step.stages) if n > 0), default=0)
        for start in range(0, last, step.size):
            for stage, extent in zip(step.stages, extents):
                low, high = max(0, start - stage.lag), min(extent, start + step.size - stage.lag)
                if low >= high:
                    continue
                if step.direction < 0:
                    low, high = extent - high, extent - low
                if step.lanes:
                    self.rounds[stage.lane] = (left, right)
                self.stage(stage, range(low, high)[:: step.direction])
                self.rounds.pop(stage.lane, None)
                for s in stage.kernel.statements:
                    if isinstance(s, Store) and s.buffer in kept:
                        rows = kept[s.buffer]
                        gone = slice(0, max(0, high - rows)) if step.direction > 0 else slice(low + rows, None)
                        part = slice(left, right) if step.lanes else slice(None)
                        self.memory[s.buffer][..., gone, part] = np.nan

    def stage(self, stage: Stage, rows: range) -> None:
        if stage.ordered:
            for row in rows:
                self.points[stage.axis] = row
                _Body(self, stage.kernel).run()
            del self.points[stage.axis]
            return
        self.rounds[stage.axis] = (min(rows), max(rows) + 1)
        _Body(self, stage.kernel).run()
        del self.rounds[stage.axis]

    def window(self, name: str, axes: tuple[str, ...]) -> Array:
        """A view of the buffer, cut to the current round along loop axes (chunk buffers are cut already), at the
        current index of those of recurrences."""
        b = self.table[name]
        array = self.target(name) if name not in self.memory else self.memory[name]
        for at, axis in enumerate(axes):
            if axis in self.rounds and not (b.role == "chunk" and b.chunked == at):
                low, high = self.rounds[axis]
                array = array[(slice(None),) * at + (slice(low, high),)]
        return array[tuple(self.points.get(axis, slice(None)) for axis in axes)]

    def call(self, call: Call) -> None:
        out = self.window(call.out, call.out_axes)
        value = _library(
            call, [self.window(name, axes) for name, axes in call.operands if self.source(name) is not None]
        )
        if call.accumulate:
            out += value
        else:
            out[...] = value


def _library(call: Call, operands: list[Array]) -> Array:
    if call.operation == "contract":
        letters: dict[str, str] = {}
        for _, axes in (*call.operands, (call.out, call.out_axes)):
            for axis in axes:
                letters.setdefault(axis, chr(ord("a") + len(letters)))
        sides = ["".join(letters[a] for a in axes) for _, axes in call.operands]
        return np.asarray(np.einsum(f"{','.join(sides)}->{''.join(letters[a] for a in call.out_axes)}", *operands))
    if call.along is not None:
        at = call.operands[0][1].index(call.along[0])
        value = operands[0] if call.along[1] > 0 else np.flip(operands[0], at)
        scan: Any = {"cumsum": np.add, "cumprod": np.multiply, "logcumsumexp": np.logaddexp}[call.operation]
        with np.errstate(all="ignore"):
            made = np.asarray(scan.accumulate(value, axis=at))
        return made if call.along[1] > 0 else np.flip(made, at)
    if call.operation == "argsort":
        return _order(*operands)
    if call.operation == "inverse":
        return _matrices(operands[0], np.linalg.inv, operands[0].shape)
    if call.operation == "logdet":
        return _matrices(operands[0], lambda m: np.linalg.slogdet(m)[1], operands[0].shape[:-2])
    raise ValueError(f"the plan calls {call.operation}, which is not known")


def _order(values: Array, included: Array | None = None) -> Array:
    order = np.argsort(values, axis=-1, kind="stable")
    if included is None:
        return order
    held = np.take_along_axis(included, order, axis=-1)
    places = np.where(held, -1, order)  # the included first, as they are; the others by their index
    return np.take_along_axis(order, np.argsort(places, axis=-1, kind="stable"), axis=-1)


def _matrices(values: Array, function: Any, shape: tuple[int, ...]) -> Array:
    """A function of each matrix; NaN where it is not finite, or singular."""
    flat = values.reshape(math.prod(values.shape[:-2]), *values.shape[-2:])
    out = np.full((len(flat), *shape[values.ndim - 2 :]), np.nan)
    for k, matrix in enumerate(flat):
        try:
            if np.isfinite(matrix).all():
                out[k] = function(matrix)
        except np.linalg.LinAlgError:
            pass
    return out.reshape(shape)


def _number(literal: Literal) -> Any:
    value = literal.value
    if literal.type == "bool":
        return np.bool_(bool(value))
    if literal.type == "int":
        return np.int64(int(Fraction(value)))
    if isinstance(value, str):
        return np.float64(value)
    try:
        return np.float64(float(value))
    except OverflowError:
        return np.float64(np.inf if value > 0 else -np.inf)


class _Body:
    """One kernel, run once."""

    def __init__(self, machine: _Machine, kernel: Kernel) -> None:
        self.machine, self.kernel = machine, kernel
        self.values: dict[str, Array] = {}
        self.index: dict[str, Array] = {}
        self.place = {a.name: k for k, a in enumerate(kernel.axes)}
        rank = len(kernel.axes)
        for k, axis in enumerate(kernel.axes):
            low, high = machine.rounds.get(axis.name, (0, axis.extent.evaluate(machine.extents)))
            shape = tuple(high - low if j == k else 1 for j in range(rank))
            self.index[axis.name] = np.arange(low, high, dtype=np.int64).reshape(shape)
        self.one = (1,) * rank
        for name, point in machine.points.items():
            self.index[name] = np.full(self.one, point, dtype=np.int64)

    def run(self) -> None:
        with np.errstate(all="ignore"):
            for s in self.kernel.statements:
                match s:
                    case Load():
                        self.define(s.name, s.type, self.load(s))
                    case Op():
                        self.define(s.name, s.type, self.op(s))
                    case Fold():
                        self.define(s.name, s.type, self.fold(s))
                    case Store():
                        self.store(s)
                    case Scatter():
                        self.scatter(s)

    def define(self, name: str, type_: str, value: Array) -> None:
        if name in self.values:
            raise ValueError(f"%{name} is defined twice")
        if value.dtype != _dtype(type_):
            raise ValueError(f"%{name} is declared {type_}, but has {value.dtype}")
        self.values[name] = value

    def get(self, operand: Operand) -> Array:
        match operand:
            case Value(name):
                return self.values[name]
            case Literal():
                return np.asarray(_number(operand)).reshape(self.one)
            case ParamRef(name, type_):
                return np.asarray(self.machine.parameters[name], dtype=_dtype(type_)).reshape(self.one)
            case SizeRef(dim):
                return np.asarray(dim.evaluate(self.machine.extents), dtype=np.int64).reshape(self.one)
            case AxisRef(name):
                return self.index[name]

    def position(self, s: Subscript) -> Array:
        total: Array = np.full(self.one, s.offset._raw(self.machine.extents), dtype=np.int64)
        for axis, coefficient in s.axes:
            total = total + coefficient * self.index[axis]
        return total if s.data is None else total + self.get(s.data)

    def places(self, buffer: str, subscripts: tuple[Subscript, ...], guard: Array | None) -> tuple[Any, Array]:
        """Clamped positions, and where they were in range. A position that is not data must be in range if guarded
        to be read: an affine access out of range is a fault of the plan."""
        array = self.machine.source(buffer)
        at, first = self.machine.base(buffer)
        inside: Array = np.ones(self.one, dtype=bool)
        out: list[Array] = []
        for k, s in enumerate(subscripts):
            position = self.position(s) - (first if k == at else 0)
            good = (position >= 0) & (position < array.shape[k])
            if s.data is None and not np.all(good if guard is None else good | ~guard):
                raise ValueError(f"the plan reads {buffer} out of range at position {k}")
            inside = inside & good
            out.append(np.clip(position, 0, max(0, array.shape[k] - 1)))
        return tuple(out), inside

    def load(self, s: Load) -> Array:
        array = self.machine.source(s.buffer)
        guard = None if s.guard is None else self.get(s.guard)
        places, inside = self.places(s.buffer, s.subscripts, guard)
        void = _number(Literal("nan") if s.type == "acc" else Literal(Fraction(0), s.type))
        spread = np.broadcast_shapes(self.one, *(p.shape for p in places))
        if array.size == 0:
            value: Array = np.full(spread, void, dtype=array.dtype)
        else:
            value = np.asarray(array[places] if places else array).reshape(spread)
            value = np.where(inside, value, void)
        if guard is not None:
            pad = _number(s.pad) if s.pad is not None else void
            value = np.where(guard, value, pad)
        return value.astype(_dtype(s.type))

    def op(self, s: Op) -> Array:
        args = [self.get(a) for a in s.args]
        match s.op:
            case "stop":
                return args[0]
            case "select":
                return np.where(args[0], args[1], args[2])
            case "lt" | "le" | "gt" | "ge" | "eq" | "ne":
                compare: Any = {
                    "lt": np.less,
                    "le": np.less_equal,
                    "gt": np.greater,
                    "ge": np.greater_equal,
                    "eq": np.equal,
                    "ne": np.not_equal,
                }[s.op]
                return np.asarray(compare(args[0], args[1]))
            case "and" | "or":
                joined: Array = np.asarray(args[0])
                for a in args[1:]:
                    joined = joined & a if s.op == "and" else joined | a
                return joined
            case "not":
                return ~args[0]
            case "real":
                return args[0].astype(np.float64)
            case "int":
                return args[0].astype(np.int64)
            case "table":
                entries = np.stack([a.reshape(()) for a in args[:-1]])
                inside = (args[-1] >= 0) & (args[-1] < len(entries))
                taken = entries[np.clip(args[-1], 0, len(entries) - 1)]
                return np.where(inside, taken, np.nan) if s.type == "acc" else taken
        if s.type == "int":
            return _integer(s.op, args)
        return np.asarray(primitives.PRIMITIVES[s.op].numpy(*args), dtype=np.float64)

    def fold(self, s: Fold) -> Array:
        axes = tuple(self.place[a] for a in s.axes)
        value = self.get(s.value)
        where = np.ones(self.one, dtype=bool) if s.where is None else self.get(s.where)
        shape = list(np.broadcast_shapes(value.shape, where.shape))
        for name, k in zip(s.axes, axes):
            shape[k] = self.index[name].size
        return fold(s.head, np.broadcast_to(value, shape), np.broadcast_to(where, shape), axes)

    def store(self, s: Store) -> None:
        array = self.machine.target(s.buffer)
        places, _ = self.places(s.buffer, s.subscripts, None)
        value = self.get(s.value)
        spread = np.broadcast_shapes(self.one, *(p.shape for p in places))
        if np.broadcast_shapes(spread, value.shape) != spread:
            raise ValueError(f"a store to {s.buffer} drops an axis of its value")
        value = np.broadcast_to(value, spread)
        if not places:
            array[...] = array + value.reshape(()) if s.accumulate else value.reshape(())
        elif s.accumulate:
            np.add.at(array, places, value)
        else:
            array[places] = value

    def scatter(self, s: Scatter) -> None:
        array = self.machine.target(s.buffer)
        value = self.get(s.value)
        guard = np.ones(self.one, dtype=bool) if s.guard is None else self.get(s.guard)
        places, inside = self.places(s.buffer, s.subscripts, guard)
        shape = np.broadcast_shapes(value.shape, guard.shape, inside.shape, *(p.shape for p in places))
        keep = np.broadcast_to(guard & inside, shape)
        combine: Any = {"sum": np.add, "max": np.maximum, "min": np.minimum}[s.combine]
        combine.at(array, tuple(np.broadcast_to(p, shape)[keep] for p in places), np.broadcast_to(value, shape)[keep])


def _integer(name: str, args: list[Array]) -> Array:
    if name in ("floor", "ceil"):
        rounded = np.floor(args[0]) if name == "floor" else np.ceil(args[0])
        known = np.isfinite(rounded) & (np.abs(rounded) < 2.0**62)
        return np.where(known, np.where(known, rounded, 0).astype(np.int64), _LIMIT.min)
    if name in ("floordiv", "mod"):
        divisor = np.where(args[1] == 0, 1, args[1])
        return np.asarray(np.floor_divide(args[0], divisor) if name == "floordiv" else np.mod(args[0], divisor))
    operation: Any = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "neg": np.negative,
        "abs": np.abs,
        "max2": np.maximum,
        "min2": np.minimum,
    }[name]
    return np.asarray(operation(*args))


def fold(head: str, value: Array, where: Array, axes: tuple[int, ...]) -> Array:
    """`value` folded over `axes` (kept with length 1) where `where` holds; masked entries count as the identity."""

    def masked(identity: Any) -> Array:
        return np.where(where, value, np.asarray(identity, dtype=value.dtype))

    whole = value.dtype == np.int64
    match head:
        case "sum":
            return np.asarray(masked(0).sum(axis=axes, keepdims=True))
        case "prod":
            return np.asarray(masked(1).prod(axis=axes, keepdims=True))
        case "count":
            return np.asarray((where & value).sum(axis=axes, keepdims=True, dtype=np.int64))
        case "any":
            return np.asarray((where & value).any(axis=axes, keepdims=True))
        case "all":
            return np.asarray((~where | value).all(axis=axes, keepdims=True))
        case "max":
            low: Any = _LIMIT.min if whole else -np.inf
            return np.asarray(masked(low).max(axis=axes, keepdims=True, initial=low))
        case "min":
            high: Any = _LIMIT.max if whole else np.inf
            return np.asarray(masked(high).min(axis=axes, keepdims=True, initial=high))
        case "logsumexp":
            kept = masked(-np.inf)
            top = kept.max(axis=axes, keepdims=True, initial=-np.inf)
            shift = np.where(np.isfinite(top), top, 0.0)
            total = np.log(np.exp(kept - shift).sum(axis=axes, keepdims=True)) + shift
            return np.where(np.isinf(top), top, total)
        case "argmax" | "argmin":
            if len(axes) == 1:
                return _first_winner(head, value, where, axes[0])
            joined = [np.moveaxis(x, axes, range(-len(axes), 0)) for x in (value, where)]
            flat = [x.reshape(*x.shape[: -len(axes)], math.prod(x.shape[-len(axes) :])) for x in joined]
            found = _first_winner(head, flat[0], flat[1], flat[0].ndim - 1)
            return np.moveaxis(found.reshape(*flat[0].shape[:-1], *[1] * len(axes)), range(-len(axes), 0), axes)
    raise ValueError(f"unknown head {head}")


def _first_winner(head: str, value: Array, where: Array, axis: int) -> Array:
    """The first of the largest (smallest) included entries; a masked one never wins, a NaN does. 0 if there is none."""
    if value.shape[axis] == 0:
        return np.zeros([1 if k == axis else n for k, n in enumerate(value.shape)], dtype=np.int64)
    key = value.astype(np.float64) if value.dtype == np.bool_ else value
    best = np.full(np.delete(np.array(value.shape), axis), -1, dtype=np.int64)
    top = np.zeros(best.shape, dtype=key.dtype)
    for k in range(value.shape[axis]):
        entry = np.take(key, k, axis=axis)
        better = entry > top if head == "argmax" else entry < top
        if key.dtype == np.float64:
            better = better | (np.isnan(entry) & ~np.isnan(top))
        take = np.take(where, k, axis=axis) & ((best < 0) | better)
        best, top = np.where(take, k, best), np.where(take, entry, top)
    return np.expand_dims(np.maximum(best, 0), axis)
