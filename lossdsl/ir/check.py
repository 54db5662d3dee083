"""Well-formedness of programs, asked after every pass. A failure is an error of this compiler, never of a user's file.

What is checked: names, order, scopes, the dtype of every node, known primitives and heads, every read in range or
guarded on its path, and that a recurrence reads only what is already there. An index that depends on data (a tensor's
value, a parameter) is a gather: its bounds are a matter of the call, and outside of them the value is NaN.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from lossdsl import primitives
from lossdsl.dim import Dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Param,
    Parameter,
    Program,
    Read,
    Scalar,
)
from lossdsl.ir.ranges import contradictory, in_range
from lossdsl.ir.rewrite import members, roots, tensors
from lossdsl.ir.text import parse_ir, print_definition, print_ir, print_scalar
from lossdsl.primitives.record import Dtype

_NUMBERS = (REAL, INT)
HEADS: dict[str, tuple[Dtype, ...]] = {  # dtypes of the body
    "map": (REAL, INT, BOOL),
    "sum": _NUMBERS,
    "prod": _NUMBERS,
    "max": _NUMBERS,
    "min": _NUMBERS,
    "logsumexp": (REAL,),
    "any": (BOOL,),
    "all": (BOOL,),
    "count": (BOOL,),
    "argmax": _NUMBERS,
    "argmin": _NUMBERS,
    "argsort": _NUMBERS,
    "inverse": (REAL,),
    "logdet": (REAL,),
}
_POLYMORPHIC = {"add": 2, "sub": 2, "mul": 2, "neg": 1, "max2": 2, "min2": 2, "abs": 1}
_CONVERSIONS: dict[str, tuple[tuple[Dtype, ...], ...]] = {
    "floordiv": ((INT,), (INT,)),
    "mod": ((INT,), (INT,)),
    "real": ((INT, BOOL),),
    "int": ((BOOL,),),
    "floor": ((REAL,),),
    "ceil": ((REAL,),),
}


class IllFormed(Exception):
    """A program breaks an invariant of the IR: a fault of the pass that made it."""


@dataclass(frozen=True)
class _Tensor:
    dims: tuple[Dim, ...]
    dtype: Dtype


def signed_symbols(program: Program) -> frozenset[str]:
    """Integer parameters that may be negative: as extents they prove nothing about their sign."""
    names = set()
    for p in program.parameters:
        lower = p.range.lower
        least = isinstance(lower, Const) and not isinstance(lower.value, str) and lower.value >= 0
        if p.kind == "int" and not least:
            names.add(p.name)
    return frozenset(names)


def declared_bounds(parameters: Iterable[Parameter]) -> list[Scalar]:
    """What the ranges of integer parameters say, as conditions; a module refuses other values."""
    found: list[Scalar] = []
    for p in parameters:
        if p.kind == "int":
            ends = ((p.range.lower, p.range.lower_open, ">"), (p.range.upper, p.range.upper_open, "<"))
            for end, is_open, sign in ends:
                if isinstance(end, Const) and isinstance(end.value, Fraction) and end.value.denominator == 1:
                    found.append(Compare(sign if is_open else f"{sign}=", Param(p.name, INT), Const(end.value, INT)))
    return found


def check(program: Program) -> None:
    """Raises IllFormed if the program breaks an invariant. With LOSSDSL_CHECK=1 in the environment its text must also
    parse back to the identical program."""
    _Checker(program).program_()
    if os.environ.get("LOSSDSL_CHECK") == "1" and parse_ir(print_ir(program)) != program:
        raise IllFormed(f"{program.name} does not survive printing and parsing:\n{print_ir(program)}")


_MOST = 1 << 13
_WELL_FORMED: set[tuple[object, ...]] = set()


class _Checker:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.tensors: dict[str, _Tensor] = {}
        self.parameters = {p.name: p.dtype for p in program.parameters}
        self.signed = signed_symbols(program)
        self.bounds = declared_bounds(program.parameters)
        self.current: Definition | None = None
        self.group: Group | None = None
        self.proved: dict[tuple[object, ...], bool] = {}

    def fail(self, message: str) -> IllFormed:
        place = ""
        if self.current is not None:
            kinds = {name: t.dtype for name, t in self.tensors.items()}
            place = "\n" + print_definition(self.current, self.parameters, kinds)
        return IllFormed(f"{self.program.name}: {message}{place}")

    # ---------------------------------------------------------------------------------------- the program

    def program_(self) -> None:
        p = self.program
        names = [i.name for i in p.inputs] + [q.name for q in p.parameters] + [d.tensor for d in p.definitions()]
        for name in names:
            if names.count(name) > 1:
                raise self.fail(f"two things are named {name!r}")
        for entry in p.inputs:
            self._input(entry)
        for q in p.parameters:
            self._bounds(q.name, q.range, q.dtype)
            if q.default is not None and q.default.dtype is not q.dtype:
                raise self.fail(f"the default of {q.name} is {q.default.dtype.value}, not {q.dtype.value}")
        for item in p.body:
            if isinstance(item, Group):
                self._group(item)
            key = self._key(item)
            for d in members(item) if key not in _WELL_FORMED else ():
                self.current = d
                self._definition(d)
            if len(_WELL_FORMED) >= _MOST:
                _WELL_FORMED.clear()
            _WELL_FORMED.add(key)
            if not isinstance(item, Group):
                self.tensors[item.tensor] = _Tensor(item.dims, item.dtype)
            self.current = self.group = None
        roles = [o.name for o in p.outputs]
        for role in roles:
            if roles.count(role) > 1:
                raise self.fail(f"two outputs are named {role!r}")
        for name in roots(p):
            if name not in self.tensors:
                raise self.fail(f"{name!r} is returned but not defined")
        for o in p.updates:
            state = p.input(o.name)
            if state is None or state.role != "state":
                raise self.fail(f"{o.name!r} is updated and no state")
            if self.tensors[o.tensor] != self.tensors[o.name]:
                raise self.fail(f"the update of {o.name} has other axes or another type")
        if p.reductions is not None:
            if p.reductions.written not in ("mean", "sum"):
                raise self.fail(f"the written reduction is {p.reductions.written!r}")
            for mode in ("mean", "sum", "total", "weight"):
                if self.tensors[getattr(p.reductions, mode)].dims:
                    raise self.fail(f"the {mode} of the reductions is not a scalar")

    def _input(self, entry: ir.Input) -> None:
        if len(entry.axes) != len(entry.dims):
            raise self.fail(f"{entry.name} has {len(entry.axes)} axes and {len(entry.dims)} extents")
        if any(not 0 <= k < len(entry.dims) for k in entry.over):
            raise self.fail(f"{entry.name} has no axis {entry.over}")
        if entry.also is not None and self.parameters.get(entry.also) is not INT:
            raise self.fail(f"{entry.name} names {entry.also!r}, which is no integer parameter")
        if entry.default is not None and entry.default.dtype is not entry.dtype:
            raise self.fail(f"the default of {entry.name} is {entry.default.dtype.value}, not {entry.dtype.value}")
        self._bounds(entry.name, entry.range, entry.dtype)
        self.tensors[entry.name] = _Tensor(entry.dims, entry.dtype)

    def _bounds(self, name: str, rng: ir.Range, dtype: Dtype) -> None:
        for bound in (rng.lower, rng.upper):
            if bound is None:
                continue
            if bound.dtype is not dtype:
                raise self.fail(f"a bound of {name} is {bound.dtype.value}, not {dtype.value}")
            for node in ir.postorder(bound):
                if isinstance(node, Index | Read):
                    raise self.fail(f"a bound of {name} depends on {print_scalar(node)}")
                self._types(node)

    def _group(self, group: Group) -> None:
        self.group = group
        if not group.order or not group.definitions:
            raise self.fail("a group has an order and definitions")
        if any(sign not in (1, -1) for _, sign in group.order):
            raise self.fail("a direction is +1 or -1")
        for d in group.definitions:
            self.current = d
            self.tensors[d.tensor] = _Tensor(d.dims, d.dtype)
            names = [i.name for i in d.formals]
            for axis, _ in group.order:
                if axis not in names:
                    raise self.fail(f"{d.tensor} does not have the axis {axis} of its group's order")
            if d.head in ("argsort", "inverse"):
                hidden = names[-1:] if d.head == "argsort" else names[-2:]
                if any(axis in hidden for axis, _ in group.order):
                    raise self.fail(f"{d.tensor} makes all of {', '.join(hidden)} at once: it cannot be in the order")

    # -------------------------------------------------------------------------------------- a definition

    def _key(self, item: Definition | Group) -> tuple[object, ...]:
        """All that it depends on whether the item is in order: most passes leave most of them as they are."""
        names = tensors(item)
        reads = tuple((name, self.tensors.get(name)) for name in names)
        places = [d for d in self.program.definitions() if d.tensor in names] if isinstance(item, Group) else []
        return (item, reads, *places, *self.bounds, *self.parameters.items(), self.signed)

    def _definition(self, d: Definition) -> None:
        indices = (*d.formals, *d.bound)
        names = [i.name for i in indices]
        if len(set(names)) != len(names):
            raise self.fail(f"an index of {d.tensor} has two binders")
        self._head(d)
        for part, scope in ((d.where, indices), (d.body, indices), (d.support, d.formals)):
            bound = set(scope)
            for node in ir.postorder(part):
                if isinstance(node, Index) and node not in bound:
                    raise self.fail(f"the index {node.name} of {d.tensor} is not bound")
                self._types(node)
        if d.head == "argsort" and d.formals[-1] in {*ir.postorder(d.body, d.where)}:
            raise self.fail(f"the body of {d.tensor} reads its rank")
        if d.head == "inverse" and {*d.formals[-2:]} & {*ir.postorder(d.body)}:
            raise self.fail(f"the body of {d.tensor} reads its row or column")
        self._reads(d.support, (*d.formals,))
        self._reads(d.where, (*indices, d.support))
        self._reads(d.body, (*indices, d.support, d.where))

    def _head(self, d: Definition) -> None:
        if d.head not in HEADS:
            raise self.fail(f"there is no head {d.head!r}")
        if d.body.dtype not in HEADS[d.head]:
            raise self.fail(f"{d.head} does not take {d.body.dtype.value}")
        if d.where.dtype is not BOOL or d.support.dtype is not BOOL:
            raise self.fail("where and support are conditions")
        if d.head == "map":
            if d.bound or d.where is not TRUE:
                raise self.fail("map has no bound index and no where")
        elif not d.bound:
            raise self.fail(f"{d.head} has no bound index")
        if d.head in ("inverse", "logdet") and (len(d.bound) != 2 or d.where is not TRUE):
            raise self.fail(f"{d.head} has two bound indices and no where")
        if len(d.formals) < {"argsort": 1, "inverse": 2}.get(d.head, 0):
            raise self.fail(f"{d.head} has too few axes")

    def _types(self, node: Scalar) -> None:
        """The dtypes of one node's children, its arity and its names."""
        args = node.children
        match node:
            case Const():
                if isinstance(node.value, str):
                    good = node.kind is REAL and node.value in ("inf", "-inf", "nan")
                elif node.kind is BOOL:
                    good = node.value in (0, 1)
                else:
                    good = node.kind is REAL or node.value.denominator == 1
            case ir.Param():
                good = self.parameters.get(node.name) is node.dtype
            case Read():
                tensor = self.tensors.get(node.tensor)
                if tensor is None:
                    raise self.fail(f"{node.tensor} is read before it is defined")
                if len(args) != len(tensor.dims):
                    raise self.fail(f"{node.tensor} has {len(tensor.dims)} axes and is read at {len(args)}")
                good = tensor.dtype is node.kind and all(a.dtype is INT for a in args)
            case ir.Apply():
                good = self._apply(node)
            case ir.Table():
                good = node.index.dtype is INT and all(v.dtype is node.dtype for v in node.values)
            case ir.Select():
                good = node.condition.dtype is BOOL and node.a.dtype is node.b.dtype
            case Compare():
                good = node.a.dtype is node.b.dtype and node.a.dtype in _NUMBERS
                good = good and node.op in ("<", "<=", ">", ">=", "==", "!=")
            case ir.And() | ir.Or() | ir.Not():
                good = all(a.dtype is BOOL for a in args)
            case ir.Proxy():
                good = node.value.dtype is REAL and node.surrogate.dtype is REAL
            case ir.AdjointMap():
                good = node.a.dtype is REAL and all(a.dtype is REAL for a in node.args)
                good = good and node.name in primitives.PRIMITIVES
            case _:
                good = True
        if not good:
            raise self.fail(f"{print_scalar(node)} is not well typed")

    def _apply(self, node: ir.Apply) -> bool:
        args = node.args
        if node.name in _CONVERSIONS:
            wanted = _CONVERSIONS[node.name]
            return len(args) == len(wanted) and all(a.dtype in w for a, w in zip(args, wanted))
        if node.name in _POLYMORPHIC and all(a.dtype is INT for a in args):
            return len(args) == _POLYMORPHIC[node.name]
        record = primitives.PRIMITIVES.get(node.name)
        if record is None:
            raise self.fail(f"there is no primitive {node.name!r}")
        return len(args) == len(record.accepts) and all(a.dtype is k for a, k in zip(args, record.accepts))

    # --------------------------------------------------------------------------------------- reads

    def _reads(self, root: Scalar, base: Sequence[Scalar]) -> None:
        """Every access below the root is in range, under the base facts or the conditions of each path to it."""
        base = tuple(f for f in base if f is not TRUE)
        order = list(ir.postorder(root))
        hard: set[Scalar] = set()
        for node in order:
            if any(c in hard for c in node.children) or not self._sound(node, base):
                hard.add(node)
        if root not in hard:
            return
        for node, path in paths(root, hard):
            if not self._sound(node, (*base, *path)):
                raise self.fail(f"{print_scalar(node)} is neither proved in range nor guarded")

    def _sound(self, node: Scalar, facts: tuple[Scalar, ...]) -> bool:
        if not isinstance(node, Read | ir.Table):
            return True
        key = (node, facts)
        if key not in self.proved:
            self.proved[key] = self._access(node, facts)
        return self.proved[key]

    def _access(self, node: Read | ir.Table, facts: tuple[Scalar, ...]) -> bool:
        if isinstance(node, ir.Table):
            dims: tuple[Dim, ...] = (Dim.const(len(node.values)),)
        else:
            dims = self.tensors[node.tensor].dims
        if isinstance(node, Read) and self.group is not None:
            places = {d.tensor: k for k, d in enumerate(self.group.definitions)}
            if node.tensor in places and not self._earlier(node, places[node.tensor], facts):
                return False
        if all(depends_on_data(i) or in_range(i, d, facts, signed=self.signed) for i, d in zip(node.children, dims)):
            return True
        return contradictory(facts, signed=self.signed)

    def _earlier(self, read: Read, place: int, facts: tuple[Scalar, ...]) -> bool:
        """Whether the read's position is lexicographically earlier in (the group's order, place)."""
        assert self.group is not None
        assert self.current is not None
        theirs = self.group.definitions[place]
        mine = {i.name: i for i in self.current.formals}
        at = {i.name: index for i, index in zip(theirs.formals, read.indices)}
        equal: list[Scalar] = []
        facts = (*facts, *self.bounds, *self._winners(read, *facts))
        for axis, sign in self.group.order:
            later = Compare(">" if sign > 0 else "<", at[axis], mine[axis])
            if not contradictory([*facts, *equal, later], signed=self.signed):
                return False
            equal.append(Compare("==", at[axis], mine[axis]))
        if place < self.group.definitions.index(self.current):
            return True
        return contradictory([*facts, *equal], signed=self.signed)

    def _winners(self, *nodes: Scalar) -> list[Scalar]:
        """That the places of extrema over all of a number of entries are such places."""
        found: list[Scalar] = []
        for n in ir.postorder(*nodes):
            d = self.program.definition(n.tensor) if isinstance(n, Read) else None
            if d is not None and d.head in ("argmax", "argmin") and d.where is TRUE:
                count = prod(i.dim.constant or 0 for i in d.bound)
                if count > 0:
                    found += [Compare(">=", n, Const(0, INT)), Compare("<", n, Const(count, INT))]
        return found


def readable(
    root: Scalar, shapes: Mapping[str, tuple[Dim, ...]], facts: Sequence[Scalar], signed: Collection[str] = ()
) -> bool:
    """Whether every access below the root is in range where the facts hold, under the conditions of each path to it, or at a
    place that data say."""
    for node, path in paths(root):
        if isinstance(node, Read | ir.Table):
            dims = shapes[node.tensor] if isinstance(node, Read) else (Dim.const(len(node.values)),)
            given = (*facts, *path)
            inside = all(
                depends_on_data(i) or in_range(i, d, given, signed=signed) for i, d in zip(node.children, dims)
            )
            if not inside and not contradictory(given, signed=signed):
                return False
    return True


def paths(root: Scalar, within: Collection[Scalar] | None = None) -> Iterator[tuple[Scalar, tuple[Scalar, ...]]]:
    """The nodes below the root (of those in `within`, if given, and not below others), each with the conditions under which
    it is evaluated, once for each such set."""
    seen: set[tuple[Scalar, tuple[Scalar, ...]]] = set()
    stack: list[tuple[Scalar, tuple[Scalar, ...]]] = [(root, ())]
    while stack:
        node, path = stack.pop()
        if (within is not None and node not in within) or (node, path) in seen:
            continue
        seen.add((node, path))
        yield node, path
        stack.extend(steps(node, path))


def steps(node: Scalar, path: tuple[Scalar, ...]) -> list[tuple[Scalar, tuple[Scalar, ...]]]:
    """The children with the conditions under which they are evaluated."""

    def under(*more: Scalar) -> tuple[Scalar, ...]:
        return (*path, *(f for f in more if f not in path))

    if isinstance(node, ir.Select):
        c = node.condition
        return [(c, path), (node.a, under(c)), (node.b, under(ir.Not(c)))]
    if isinstance(node, ir.And):
        return [(a, under(*node.args[:k])) for k, a in enumerate(node.args)]
    if isinstance(node, ir.Or):
        return [(a, under(*map(ir.Not, node.args[:k]))) for k, a in enumerate(node.args)]
    return [(c, path) for c in node.children]


def depends_on_data(index: Scalar) -> bool:
    """Whether an index is a gather: its value depends on a tensor or a parameter, not on positions and extents only."""
    if index.tensors:
        return True
    for node in ir.postorder(index):
        if isinstance(node, ir.Param) or (isinstance(node, ir.Apply) and node.name in ("floor", "ceil")):
            return True
    return False
