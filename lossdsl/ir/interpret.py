"""The reference interpreter: what a program means, in numpy float64, deliberately slow and obvious.

One definition is evaluated at all points of its index space at once: each index variable is an axis of a broadcast
space. Select, `where`, And and Or choose values after the fact with `np.where`, which is the same as lazy evaluation
here because nothing is accumulated before the choice: a NaN of a branch that is not taken is dropped.
An undefined real is NaN, an undefined integer is `UNDEFINED`: it survives integer arithmetic and is NaN as a real.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lossdsl import primitives
from lossdsl.dim import Dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import BOOL, INT, REAL, Definition, Group, Index, Input, Program, Scalar
from lossdsl.primitives.record import Dtype

Array = np.ndarray[Any, Any]
UNDEFINED = np.iinfo(np.int64).min
_NUMPY = {REAL: np.float64, INT: np.int64, BOOL: np.bool_}
_VOID: dict[Dtype, Any] = {REAL: np.nan, INT: UNDEFINED, BOOL: False}
_COMPARE = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


class ShapeError(ValueError):
    """The arrays do not fit the declared axes; the message lists the extents found so far."""


# ------------------------------------------------------------------------------------------------------ extents


def bind_extents(
    program: Program, arrays: Mapping[str, Any], parameters: Mapping[str, float | int | bool] | None = None
) -> dict[str, int]:
    """Extents of all symbols from the arrays' shapes; `...` is the product of the packed trailing dimensions.

    Integer parameters that serve as extents are taken from `parameters`, else from their defaults. Raises ShapeError
    with the environment (`n=32, c=10, but target has n=31`) when a shape contradicts another or a rank is wrong.
    """
    extents: dict[str, int] = {}
    for p in program.parameters:
        value: Any = (parameters or {}).get(p.name, p.default.value if p.default is not None else None)
        if p.kind == "int" and value is not None:
            extents[p.name] = int(value)
    later: list[tuple[str, str, Dim, int]] = []
    packed: tuple[int, ...] | None = None
    for entry in program.inputs:
        value = arrays.get(entry.name)
        if value is None:
            continue
        shape = np.shape(value)
        rest = len(shape) - len(entry.dims) + 1
        if (rest < 0) if _dots(entry) is not None else (len(shape) != len(entry.dims)):
            wanted = ", ".join(str(d) for d in entry.dims)
            raise ShapeError(f"{entry.name} has {len(shape)} dimensions, but is declared with [{wanted}]")
        at = 0
        for axis, dim in zip(entry.axes, entry.dims):
            if dim == _REST:
                mine = shape[at : at + rest]
                at += rest
                if packed is not None and packed != mine:
                    raise ShapeError(_environment(extents) + f"...={packed}, but {entry.name} has ...={mine}")
                packed, extent = mine, int(np.prod(mine, dtype=np.int64))
            else:
                extent, at = shape[at], at + 1
            names = list(dim.symbols())
            if len(names) == 1 and dim == Dim.symbol(names[0]) and names[0] not in extents:
                extents[names[0]] = extent
            else:
                later.append((entry.name, axis or str(dim), dim, extent))
    for name, axis, dim, extent in later:
        if any(s not in extents for s in dim.symbols()):
            continue
        if dim.evaluate(extents) != extent:
            known = _environment(extents)
            raise ShapeError(f"{known}but {name} has {axis}={extent} where {dim} is {dim.evaluate(extents)}")
    return extents


_REST = Dim.symbol("...")


def _dots(entry: Input) -> int | None:
    return next((k for k, d in enumerate(entry.dims) if d == _REST), None)


def _environment(extents: Mapping[str, int]) -> str:
    return "".join(f"{k}={v}, " for k, v in extents.items())


def _pack(entry: Input, value: Any, extents: Mapping[str, int]) -> Array:
    array = np.asarray(value)
    shape = tuple(d.evaluate(extents) for d in entry.dims)
    return np.ascontiguousarray(array.astype(_NUMPY[entry.dtype])).reshape(shape)


# --------------------------------------------------------------------------------------------------- evaluation


class Interpreter:
    """Evaluates the definitions of one program for one set of arguments; `values` has every tensor by name."""

    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, float | int | bool] | None = None,
        known: Mapping[str, Array] | None = None,
    ) -> None:
        """`inputs`: arrays by name (missing optional ones take their default). `known`: definitions that need not be
        evaluated, by tensor name, in the IR's packed shape. Raises ShapeError, or ValueError for a missing input,
        parameter or extent."""
        given = dict(parameters or {})
        self.program = program
        self.extents = bind_extents(program, inputs, given)
        self.parameters: dict[str, Any] = {}
        for p in program.parameters:
            if p.name in given:
                self.parameters[p.name] = given[p.name]
            elif p.default is not None:
                self.parameters[p.name] = _constant(p.default).item()
            else:
                raise ValueError(f"parameter {p.name} of {program.name} is not given")
        self.values: dict[str, Array] = dict(known or {})
        for entry in program.inputs:
            value = inputs.get(entry.name)
            if value is not None:
                self.values[entry.name] = _pack(entry, value, self.extents)
            elif entry.default is not None:
                shape = tuple(self.extent(d) for d in entry.dims)
                self.values[entry.name] = np.broadcast_to(_constant(entry.default), shape)
            else:
                raise ValueError(f"input {entry.name} of {program.name} is not given")

    def run(self) -> None:
        """Evaluate everything, in order."""
        with np.errstate(all="ignore"):
            for item in self.program.body:
                if isinstance(item, Group):
                    if any(d.tensor not in self.values for d in item.definitions):
                        self._group(item)
                elif item.tensor not in self.values:
                    self.values[item.tensor] = self._definition(item, {})

    def extent(self, dim: Dim) -> int:
        missing = [s for s in dim.symbols() if s not in self.extents]
        if missing:
            raise ValueError(f"the extent {missing[0]} of {self.program.name} is not determined by the inputs")
        return dim.evaluate(self.extents)

    def _group(self, group: Group) -> None:
        """Sequentially along the order; at one point of it the definitions in their places."""
        longest: dict[str, int] = {}
        for d in group.definitions:
            shape = tuple(self.extent(i.dim) for i in d.formals)
            self.values[d.tensor] = np.full(shape, _VOID[d.dtype], dtype=_NUMPY[d.dtype])
            for i, n in zip(d.formals, shape):
                longest[i.name] = max(n, longest.get(i.name, 0))
        ranges = [range(longest[a]) if sign > 0 else reversed(range(longest[a])) for a, sign in group.order]
        for point in itertools.product(*ranges):
            where = dict(zip((a for a, _ in group.order), point))
            for d in group.definitions:
                fixed = {i: where[i.name] for i in d.formals if i.name in where}
                if all(v < self.extent(i.dim) for i, v in fixed.items()):
                    at = tuple(fixed[i] if i in fixed else slice(None) for i in d.formals)
                    self.values[d.tensor][at] = self._definition(d, fixed)

    def _definition(self, d: Definition, fixed: Mapping[Index, int]) -> Array:
        """All values of a definition (at the fixed formals), shaped by the other formals."""
        free = [i for i in d.formals if i not in fixed]
        bound = list(d.bound)
        rank = d.formals[-1] if d.formals else None
        if d.head == "argsort":
            free = [i for i in free if i is not rank]
        elif d.head == "inverse":
            free = free[: len(free) - 2]
        space = _Space([*free, *bound], fixed, self)
        outer = tuple(self.extent(i.dim) for i in free)
        inner = tuple(self.extent(i.dim) for i in bound)
        body = np.broadcast_to(space.value(d.body), outer + inner)
        where = np.broadcast_to(space.value(d.where), outer + inner)
        if d.head == "map":
            result = body
        elif d.head == "argsort" and rank is not None:
            result = _argsort(body, where, len(outer))
            here = fixed.get(rank)
            result = result[..., : self.extent(rank.dim)] if here is None else np.take(result, here, axis=-1)
        elif d.head == "inverse":
            result = _inverse(body)
        elif d.head == "logdet":
            result = _logdet(body)
        else:
            result = fold(d.head, body, where, len(outer))
        if d.support is not ir.TRUE:
            everything = [i for i in d.formals if i not in fixed]
            held = _Space(everything, fixed, self).value(d.support)
            result = np.where(held, result, np.zeros((), dtype=result.dtype))
        shape = tuple(self.extent(i.dim) for i in d.formals if i not in fixed)
        return np.array(np.broadcast_to(result, shape), dtype=_NUMPY[d.dtype])


class _Space:
    """A broadcast space: one axis for each index variable; fixed ones are numbers."""

    def __init__(self, axes: list[Index], fixed: Mapping[Index, int], owner: Interpreter) -> None:
        self.owner = owner
        self.rank = len(axes)
        self.memo: dict[Scalar, Array] = {}
        self.place: dict[Scalar, int] = {index: k for k, index in enumerate(axes)}
        for k, index in enumerate(axes):
            shape = [1] * self.rank
            n = owner.extent(index.dim)
            shape[k] = n
            self.memo[index] = np.arange(n, dtype=np.int64).reshape(shape)
        for index, position in fixed.items():
            self.memo[index] = np.array(position, dtype=np.int64)

    def value(self, root: Scalar) -> Array:
        for node in ir.postorder(root):
            if node not in self.memo:
                self.memo[node] = self._node(node, [self.memo[c] for c in node.children])
        return self.memo[root]

    def _aligned(self, tensor: Array, indices: tuple[Scalar, ...]) -> Array | None:
        """The whole tensor along the axes of its indices, if it is read at a different axis at each position."""
        places = [self.place.get(i, -1) for i in indices]
        if not places or -1 in places or len(set(places)) < len(places):
            return None
        shape = [1] * self.rank
        for place, index, n in zip(places, indices, tensor.shape):
            if self.memo[index].size != n:
                return None
            shape[place] = n
        inner = sorted(range(len(places)), key=places.__getitem__)
        return tensor.transpose(inner).reshape(shape)

    def _node(self, node: Scalar, args: list[Array]) -> Array:
        match node:
            case ir.Const():
                return _constant(node)
            case ir.Param():
                return np.array(self.owner.parameters[node.name], dtype=_NUMPY[node.dtype])
            case ir.Size():
                return np.array(self.owner.extent(node.dim), dtype=np.int64)
            case ir.Index():
                raise ValueError(f"index {node.name} is not bound")
            case ir.Read():
                tensor = self.owner.values[node.tensor]
                aligned = self._aligned(tensor, node.indices)
                return _gather(tensor, args) if aligned is None else aligned
            case ir.Apply():
                return _apply(node, args)
            case ir.Table():
                return _gather(np.array([_constant(v) for v in node.values]), args)
            case ir.Select():
                return np.where(args[0], args[1], args[2])
            case ir.Compare():
                return np.asarray(_COMPARE[node.op](args[0], args[1]))
            case ir.And():
                return np.asarray(_chain(np.logical_and, args, True))
            case ir.Or():
                return np.asarray(_chain(np.logical_or, args, False))
            case ir.Not():
                return np.logical_not(args[0])
            case ir.Stop() | ir.Proxy() | ir.AdjointMap():
                return args[0]
        raise TypeError(f"unknown node {type(node).__name__}")


def _chain(op: Any, args: list[Array], start: bool) -> Array:
    total: Array = np.array(start)
    for a in args:
        total = op(total, a)
    return total


def _constant(node: ir.Const) -> Array:
    if isinstance(node.value, str):
        return np.array(float(node.value))
    if node.dtype is REAL:
        try:
            return np.array(float(node.value))
        except OverflowError:
            return np.array(np.inf if node.value > 0 else -np.inf)
    return np.array(int(node.value), dtype=_NUMPY[node.dtype])


def _gather(tensor: Array, indices: list[Array]) -> Array:
    """`tensor[indices]`; NaN (UNDEFINED, False) where an index is outside."""
    if not indices:
        return tensor
    spread = np.broadcast_arrays(*indices)
    kind = REAL if tensor.dtype == np.float64 else INT if tensor.dtype == np.int64 else BOOL
    inside = np.ones(spread[0].shape, dtype=bool)
    for index, n in zip(spread, tensor.shape):
        inside &= (index >= 0) & (index < n)
    if 0 in tensor.shape:
        return np.full(spread[0].shape, _VOID[kind], dtype=tensor.dtype)
    taken = tensor[tuple(np.clip(i, 0, n - 1) for i, n in zip(spread, tensor.shape))]
    return taken if inside.all() else np.where(inside, taken, np.array(_VOID[kind], dtype=tensor.dtype))


def _apply(node: ir.Apply, args: list[Array]) -> Array:
    if node.name == "real":
        (a,) = args
        return np.where(a == UNDEFINED, np.nan, a.astype(np.float64)) if a.dtype == np.int64 else a.astype(np.float64)
    if node.name == "int":
        return args[0].astype(np.int64)
    if node.dtype is INT:
        return _integer(node.name, args)
    return np.asarray(primitives.PRIMITIVES[node.name].numpy(*args), dtype=np.float64)


def _integer(name: str, args: list[Array]) -> Array:
    if name in ("floor", "ceil"):
        (a,) = args
        known = np.isfinite(a) & (np.abs(a) < 2.0**62)
        rounded = np.floor(a) if name == "floor" else np.ceil(a)
        return np.where(known, np.where(known, rounded, 0).astype(np.int64), UNDEFINED)
    known = _chain(np.logical_and, [a != UNDEFINED for a in args], True)
    if name in ("floordiv", "mod"):
        known = known & (args[1] != 0)
        divisor = np.where(args[1] == 0, 1, args[1])
        value = np.floor_divide(args[0], divisor) if name == "floordiv" else np.mod(args[0], divisor)
    else:
        operation: Any = {
            "add": np.add,
            "sub": np.subtract,
            "mul": np.multiply,
            "neg": np.negative,
            "abs": np.abs,
            "max2": np.maximum,
            "min2": np.minimum,
        }[name]
        value = operation(*args)
    return np.where(known, value, UNDEFINED)


# -------------------------------------------------------------------------------------------------------- heads


def fold(head: str, body: Array, where: Array, outer: int) -> Array:
    """A reduction of `body` where `where` holds, over all axes from `outer` on. Over an empty set: sum 0, prod 1, count
    0, any False, all True, logsumexp -inf; max, min, argmax, argmin have no value (NaN, UNDEFINED). Ties: the first."""
    shape = body.shape[:outer]
    count = int(np.prod(body.shape[outer:], dtype=np.int64))
    x = body.reshape(*shape, count)
    w = where.reshape(*shape, count)
    if x.dtype == np.int64 and head in ("sum", "prod", "max", "min"):
        lost = (w & (x == UNDEFINED)).any(axis=-1)
        return np.where(lost, UNDEFINED, _fold(head, x, w))
    return _fold(head, x, w)


def _fold(head: str, x: Array, w: Array) -> Array:
    match head:
        case "sum":
            return np.asarray(np.where(w, x, np.zeros((), x.dtype)).sum(axis=-1))
        case "prod":
            return np.asarray(np.where(w, x, np.ones((), x.dtype)).prod(axis=-1))
        case "count":
            return np.asarray((w & x).sum(axis=-1, dtype=np.int64))
        case "any":
            return np.asarray((w & x).any(axis=-1))
        case "all":
            return np.asarray((~w | x).all(axis=-1))
        case "logsumexp":
            return _logsumexp(x, w)
        case "max" | "min" | "argmax" | "argmin":
            return _winner(head, x, w)
    raise ValueError(f"unknown head {head}")


def _logsumexp(x: Array, w: Array) -> Array:
    if x.shape[-1] == 0:
        return np.full(x.shape[:-1], -np.inf)
    kept = np.where(w, x, -np.inf)
    top = kept.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    total = np.log(np.exp(kept - shift).sum(axis=-1)) + shift[..., 0]
    return np.where(np.isinf(top[..., 0]), top[..., 0], total)


def _winner(head: str, x: Array, w: Array) -> Array:
    """The first largest (smallest) included element; NaN wins, as it must not be lost."""
    arg = head.startswith("arg")
    kind = INT if arg or x.dtype == np.int64 else REAL
    if x.shape[-1] == 0:
        return np.full(x.shape[:-1], _VOID[kind], dtype=_NUMPY[kind])
    key = x.astype(np.float64) if x.dtype == np.bool_ else x
    up = head.endswith("max")
    # Excluded entries must lose even against -inf and the smallest integer: rank by (included, value).
    best = np.full(x.shape[:-1], -1, dtype=np.int64)
    value = np.zeros(x.shape[:-1], dtype=key.dtype)
    for k in range(x.shape[-1]):
        candidate = key[..., k]
        better = (candidate > value) if up else (candidate < value)
        if key.dtype == np.float64:
            better |= np.isnan(candidate) & ~np.isnan(value)
        take = w[..., k] & ((best < 0) | better)
        best = np.where(take, k, best)
        value = np.where(take, candidate, value)
    if arg:
        return np.where(best < 0, UNDEFINED, best)
    return np.where(best < 0, np.array(_VOID[kind], dtype=value.dtype), value)


def _argsort(x: Array, w: Array, outer: int) -> Array:
    """Stable ascending order of the included entries (NaN last of them), then the excluded ones in index order."""
    shape = (*x.shape[:outer], math.prod(x.shape[outer:]))
    order = np.argsort(x.reshape(shape), axis=-1, kind="stable")
    held = np.take_along_axis(w.reshape(shape), order, axis=-1)
    places = np.where(held, 0, 1 + order)  # stable: the included keep their order, the excluded follow by index
    return np.take_along_axis(order, np.argsort(places, axis=-1, kind="stable"), axis=-1)


def _inverse(a: Array) -> Array:
    flat = a.reshape(math.prod(a.shape[:-2]), *a.shape[-2:])
    out = np.full(flat.shape, np.nan)
    for k, matrix in enumerate(flat):
        if matrix.size and np.isfinite(matrix).all() and np.linalg.matrix_rank(matrix) == matrix.shape[0]:
            out[k] = np.linalg.inv(matrix)
    return out.reshape(a.shape)


def _logdet(a: Array) -> Array:
    """log |det|."""
    flat = a.reshape(math.prod(a.shape[:-2]), *a.shape[-2:])
    values = [np.linalg.slogdet(m)[1] if np.isfinite(m).all() else np.nan for m in flat]
    return np.array(values, dtype=np.float64).reshape(a.shape[:-2])


# --------------------------------------------------------------------------------------------------- front door


def interpret(
    program: Program,
    inputs: Mapping[str, Any],
    parameters: Mapping[str, float | int | bool] | None = None,
    *,
    outputs: Iterable[str] | None = None,
    known: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Values of the program's outputs by output name, in float64 (int64, bool).

    `inputs` are arrays in the declared shapes (`...` unpacked, as a caller has them); `parameters` overrides defaults.
    The next value of a state is called "update NAME". `outputs` selects by output name or by tensor name (any definition); results have the IR's packed shape.
    Definitions that are `known` are not evaluated again.
    Raises ShapeError or ValueError (missing input, parameter, extent, unknown output).
    """
    machine = Interpreter(program, inputs, parameters, known)
    machine.run()
    roles = {o.name: o.tensor for o in program.outputs}
    roles.update((f"update {o.name}", o.tensor) for o in program.updates)
    result: dict[str, Array] = {}
    for name in outputs if outputs is not None else roles:
        tensor = roles.get(name, name)
        if tensor not in machine.values:
            raise ValueError(f"{program.name} has no output or tensor {name!r}")
        result[name] = machine.values[tensor]
    return result
