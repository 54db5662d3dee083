"""One kernel body: definitions evaluated at positions, as shared SSA statements over the axes of the kernel.

A definition that has no buffer is evaluated where it is read: a map by substituting the positions for its formals, a
fold by a `Fold` over axes of the kernel. Axes are shared between folds over one extent whenever the result does not
vary along them, so that two folds over the classes load the logits once.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    ZERO,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Input,
    Not,
    Or,
    Param,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
    postorder,
)
from lossdsl.ir.ranges import implies
from lossdsl.ir.rewrite import free_indices, substitute
from lossdsl.lower.extent import Form, Sizes, Weight, axes_of, form, in_range, index, symbols
from lossdsl.lower.plan import (
    AxisRef,
    Fold,
    Literal,
    Load,
    Op,
    Operand,
    ParamRef,
    Scatter,
    SizeRef,
    Statement,
    Store,
    Subscript,
    Value,
)
from lossdsl.lower.prepare import unsupported
from lossdsl.lower.products import Selection, conjunction, conjuncts
from lossdsl.primitives.record import Dtype

if TYPE_CHECKING:
    from lossdsl.lower.opaque import Opaque

Path = tuple[Scalar, ...]
_TYPES = {REAL: "acc", INT: "int", BOOL: "bool"}
_COMPARES = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_IDENTITY: dict[str, Fraction | str] = {
    "sum": Fraction(0),
    "prod": Fraction(1),
    "max": "-inf",
    "min": "inf",
    "logsumexp": "-inf",
}
TRUE_LITERAL = Literal(Fraction(1), "bool")
_GROWING = (
    *("axes", "statements", "folds", "spread", "labels", "spaces", "formal_axes", "space_axes", "inlined", "met"),
    *("_memo", "_shared", "_negated", "_fragile", "_enclosing", "_folded"),
)


class MustStore(Exception):
    """A tensor has to have a buffer of its own before this kernel can be made."""

    def __init__(self, tensor: str, reason: str) -> None:
        super().__init__(tensor)
        self.tensor, self.reason = tensor, reason


class NotTogether(Exception):
    """Two results cannot be made by one kernel."""


@dataclass
class Context:
    """What bodies need to know of the program: definitions, and which tensors have buffers."""

    definitions: dict[str, Definition]
    inputs: dict[str, Input]
    sizes: Sizes
    stored: dict[str, str]  # tensor -> reason
    selections: dict[str, Selection]
    given: tuple[Counter[str], ...]  # growth of the inputs and of what is returned
    complete: frozenset[str] = frozenset()  # what readers need as a whole, made by an earlier kernel
    opaque: Mapping[str, Opaque] = field(default_factory=dict)  # what no kernel makes
    recomputed: set[str] = field(default_factory=set)  # non-aligned reads that are cheaper than a buffer: for `why`
    _weights: dict[str, Weight] = field(default_factory=dict)
    _amplified: dict[str, bool] = field(default_factory=dict)
    _at: dict[tuple[str, tuple[Scalar, ...]], Scalar] = field(default_factory=dict)

    def dims(self, tensor: str) -> tuple[Dim, ...]:
        if tensor in self.inputs:
            return self.inputs[tensor].dims
        return self.definitions[tensor].dims

    def weight(self, tensor: str) -> Weight:
        """The size of a tensor, in the one fixed order."""
        if tensor not in self._weights:
            self._weights[tensor] = self.sizes.weight(self.dims(tensor))
        return self._weights[tensor]

    def grows(self, dims: Iterable[Dim]) -> bool:
        """True if no input and no returned value grows with all extents that an array of these extents grows with."""
        mine = symbols(dims)
        return not any(all(given[s] >= c for s, c in mine.items()) for given in self.given)

    def amplified(self, tensor: str) -> bool:
        """The same for a tensor."""
        if tensor not in self._amplified:
            self._amplified[tensor] = self.grows(self.dims(tensor))
        return self._amplified[tensor]

    def dtype(self, tensor: str) -> Dtype:
        return self.inputs[tensor].dtype if tensor in self.inputs else self.definitions[tensor].dtype

    def is_total(self, tensor: str) -> bool:
        d = self.definitions[tensor]
        return d.head != "map" and not d.formals

    def iteration(self, tensor: str) -> tuple[Index, ...]:
        """The index space over which the result is made: the formals, of a total the bound indices."""
        if tensor in self.selections:
            return self.selections[tensor].space
        d = self.definitions[tensor]
        return d.bound if self.is_total(tensor) else d.formals

    def map_at(self, d: Definition, indices: tuple[Scalar, ...]) -> Scalar:
        """The body of a map at positions, 0 outside of its support."""
        key = (d.tensor, indices)
        if key not in self._at:
            body = d.body
            if d.support is not TRUE and not (isinstance(body, Select) and body.condition is d.support):
                body = Select(d.support, body, ZERO if d.dtype is REAL else Const(0, d.dtype))
            self._at[key] = substitute(body, dict(zip(d.formals, indices)))
        return self._at[key]


@dataclass(frozen=True)
class FoldUse:
    """A fold inside the kernel: its tensor, the axes that its result varies along, and whether it is read in place."""

    tensor: str
    axes: frozenset[str]
    aligned: bool
    within: tuple[tuple[str, frozenset[str]], ...] = ()  # the maps around it, outermost first, and their axes


class Body:
    """Builds the statements that make the given results. Raises MustStore and NotTogether.

    `fixed`: names of indices that are numbers here, those of the recurrences around the kernel; `carried`: the tensors
    of the recurrence, which are read from their buffers except where this very kernel makes them.
    """

    def __init__(
        self,
        context: Context,
        results: Iterable[str],
        alias: Mapping[str, str] | None = None,
        *,
        fixed: frozenset[str] = frozenset(),
        carried: frozenset[str] = frozenset(),
    ) -> None:
        self.context = context
        self.results = tuple(results)
        self.alias = dict(alias or {})
        self.fixed, self.carried = fixed, carried
        self.axes: dict[str, Index] = {}
        self.statements: list[Statement] = []
        self.folds: dict[tuple[str, tuple[Scalar, ...]], FoldUse] = {}
        self.spread: dict[str, frozenset[str]] = {}  # value -> axes that it varies along
        self.labels: dict[str, str] = {}  # value -> tensor
        self.spaces: dict[str, frozenset[str]] = {}  # result -> axes of its iteration space
        self.formal_axes: dict[str, tuple[str, ...]] = {}  # result -> axes of its formals
        self.space_axes: dict[str, tuple[str, ...]] = {}  # result -> axes of its iteration space, in its order
        self.inlined: set[str] = set()  # definitions evaluated here
        self.met: set[str] = set(self.results)  # tensors of which it was asked how they are made or read here
        self._memo: dict[tuple[Scalar, Path], Operand] = {}
        self._shared: dict[object, str] = {}
        self._negated: dict[str, Operand] = {}  # value -> of what it is the negative
        self._gathered: dict[tuple[str, tuple[Subscript, ...]], list[tuple[frozenset[Scalar], Operand]]] = {}
        self._fragile: dict[Scalar, bool] = {}
        self._loose = 0
        self._enclosing: list[tuple[str, frozenset[str]]] = []  # maps being evaluated at plain positions
        self._folded: dict[tuple[str, tuple[Scalar, ...]], Operand] = {}
        for tensor in self.results:
            self._result(tensor)

    def extended(self, more: tuple[str, ...]) -> Body | None:
        """The body of these results and then of `more`, as if made anew: what is there is copied, not made again. None
        if it has to be made anew, because one of `more` is read by what is there. Raises as the constructor does."""
        if not self.met.isdisjoint(more):
            return None
        new = copy.copy(self)
        for name in _GROWING:
            setattr(new, name, copy.copy(getattr(self, name)))
        new._gathered = {place: list(values) for place, values in self._gathered.items()}
        new.results = (*self.results, *more)
        new.met.update(more)
        for tensor in more:
            new._result(tensor)
        return new

    # ------------------------------------------------------------------------------------------------- results

    def _result(self, tensor: str) -> None:
        d = self.context.definitions[tensor]
        chosen = self.context.selections.get(tensor)
        space = tuple(i for i in self.context.iteration(tensor) if i.name not in self.fixed)
        axes = self._place(space)
        self.spaces[tensor] = frozenset(a.name for a in axes)
        self.space_axes[tensor] = tuple(a.name for a in axes)
        mapping: dict[Scalar, Scalar] = dict(zip(space, axes))
        if chosen is not None:
            guard = substitute(chosen.guard, mapping)
            path = conjuncts(guard)
            targets = {k: self._subscript(substitute(t, mapping), path) for k, t in chosen.targets.items()}
            value = self.emit(substitute(chosen.body, mapping), path)
            places = [targets[k] if k in targets else self._subscript(mapping[f], ()) for k, f in enumerate(d.formals)]
            condition = None if guard is TRUE else self.emit(guard, ())
            seen = self._positions(tuple(places)) | self._varies(value)
            seen |= frozenset() if condition is None else self._varies(condition)
            for a in axes:
                if a.name not in seen:  # each index of the space counts, also where nothing depends on it
                    here = self._op("bool", "ge", (AxisRef(a.name), Literal(Fraction(0), "int")))
                    condition = here if condition is None else self._op("bool", "and", (condition, here))
            self.statements.append(Scatter(tensor, tuple(places), value, chosen.combine, condition))
            self.formal_axes[tensor] = ()
            return
        if self.context.is_total(tensor):
            value = self._fold(d, mapping, axes)
            self.formal_axes[tensor] = ()
            self.statements.append(Store(tensor, (), value))
            self._label(value, tensor)
            return
        self.formal_axes[tensor] = tuple(a.name for a in axes)
        placed = dict(zip(space, axes))
        indices = tuple(placed.get(f, f) for f in d.formals)
        value = self._definition(d, indices, ())
        self.statements.append(Store(tensor, tuple(Subscript(((i.name, 1),)) for i in indices), value))

    def _place(self, space: Iterable[Index]) -> tuple[Index, ...]:
        """Axes of the kernel for an index space: the same name and extent if it is there, else an unused one of the
        same extent, else a new one."""
        space = tuple(space)
        taken: dict[Index, Index] = {}
        for i in space:
            if self.axes.get(i.name) is i:
                taken[i] = i
        for i in space:
            if i not in taken:
                free = [a for a in self.axes.values() if a.dim == i.dim and a not in taken.values()]
                taken[i] = free[0] if free else self._axis(i)
        return tuple(taken[i] for i in space)

    def _axis(self, like: Index) -> Index:
        name, k = like.name, 1
        while name in self.axes or name in self.fixed:
            name, k = f"{like.name}{k}", k + 1
        self.axes[name] = axis = index(name, like.dim)
        return axis

    # --------------------------------------------------------------------------------------------- definitions

    def _definition(self, d: Definition, indices: tuple[Scalar, ...], path: Path) -> Operand:
        """The value of a definition at positions, computed here."""
        self.inlined.add(d.tensor)
        if d.head == "map":
            body = self.context.map_at(d, indices)
            plain = _in_place(d, indices)
            if plain and indices:
                self._enclosing.append((d.tensor, axes_of(*indices)))
            value = self.emit(body, path)
            if plain and indices:
                self._enclosing.pop()
            if plain:
                self._label(value, d.tensor)
            return value
        key = (d.tensor, indices)
        if key not in self._folded:
            plain = _in_place(d, indices)
            own = axes_of(*indices)
            # Reserve the use before its body is made: an outer fold comes before its inner ones.
            self.folds[key] = FoldUse(d.tensor, own, plain, tuple(self._enclosing))
            mapping: dict[Scalar, Scalar] = dict(zip(d.formals, indices))
            bound: list[Index] = []
            for b in d.bound:
                same = self.axes.get(b.name)
                free = [a for a in self.axes.values() if a.dim == b.dim and a.name not in own and a not in bound]
                if same is not None and same in free:
                    bound.append(same)
                else:
                    bound.append(free[0] if free else self._axis(b))
            mapping.update(zip(d.bound, bound))
            # Elsewhere than in place the reader's conditions kept the position in range, and a fold does not have them.
            self._loose += not plain
            value = self._fold(d, mapping, tuple(bound))
            self._loose -= not plain
            self._folded[key] = value
            if plain:
                self._label(value, d.tensor)
        return self._folded[key]

    def _fold(self, d: Definition, mapping: Mapping[Scalar, Scalar], bound: tuple[Index, ...]) -> Operand:
        if d.head not in (*_IDENTITY, "any", "all", "count", "argmax", "argmin"):
            unsupported(d, f"`{d.head}`")
        memo: dict[Scalar, Scalar] = dict(mapping)
        condition = substitute(conjunction([*conjuncts(d.support), *conjuncts(d.where)]), memo, memo)
        body = substitute(d.body, memo, memo)
        where = None if condition is TRUE else self.emit(condition, ())
        value = self.emit(body, conjuncts(condition))
        head = d.head
        varying = self._varies(value) | (frozenset() if where is None else self._varies(where))
        idle = tuple(b for b in bound if b.name not in varying)
        if idle and head in ("sum", "count", "any", "all", "prod", "max", "min", "logsumexp"):
            # A body that does not vary along an axis: made to, so that a whole-array reduction counts the extent.
            # Of a total the extent is no factor: a chunk loop cuts the axis, and only its index says so.
            counted = () if self.context.is_total(d.tensor) else idle
            if head == "sum":
                value = self._times(value, counted, d.dtype)
                bound = tuple(b for b in bound if b not in counted)
                idle = tuple(b for b in idle if b not in counted)
                if not bound:
                    return value if where is None else self._choose(where, value)
            if idle:
                for b in idle:
                    here = self._op("bool", "ge", (AxisRef(b.name), Literal(Fraction(0), "int")))
                    where = here if where is None else self._op("bool", "and", (where, here))
        value = self._padded(value, where, head)
        return self._define(
            _TYPES[d.dtype],
            ("fold", head, tuple(b.name for b in bound), value, where),
            lambda name: Fold(name, _TYPES[d.dtype], head, tuple(b.name for b in bound), value, where),
            (self._varies(value) | (self._varies(where) if where is not None else frozenset()))
            - {b.name for b in bound},
        )

    def _times(self, value: Operand, idle: tuple[Index, ...], dtype: Dtype) -> Operand:
        for b in idle:
            size: Operand = SizeRef(b.dim)
            value = self._op(_TYPES[dtype], "mul", (value, self._op("acc", "real", (size,)) if dtype is REAL else size))
        return value

    def _choose(self, where: Operand, value: Operand) -> Operand:
        kind = self._type(value)
        return self._op(kind, "select", (where, value, Literal(Fraction(0), kind)))

    def _padded(self, value: Operand, where: Operand | None, head: str) -> Operand:
        """The identity of the fold as pad value of a load that is guarded by the fold's own condition."""
        if where is None or not isinstance(value, Value) or head not in _IDENTITY:
            return value
        load = next((s for s in self.statements if isinstance(s, Load) and s.name == value.name), None)
        if load is None or load.guard != where or load.type != "acc":
            return value
        pad = Literal(_IDENTITY[head])
        if load.pad == pad:
            return value
        return self._load(load.buffer, load.subscripts, load.type, load.guard, pad)

    # ------------------------------------------------------------------------------------------------- scalars

    def emit(self, node: Scalar, path: Path = ()) -> Operand:
        """The operand for a scalar over axes of the kernel, evaluated where all of `path` holds."""
        chain = [node]
        while (
            isinstance(chain[-1], Apply)
            and chain[-1].args
            and (chain[-1], self._path(chain[-1], path)) not in self._memo
        ):
            chain.append(chain[-1].args[0])  # long sums lean to the left: emitted bottom up, so depth is no limit
        value: Operand = TRUE_LITERAL
        for n in reversed(chain):
            key = (n, self._path(n, path))
            known = self._memo.get(key)
            value = self._emit(n, key[1]) if known is None else known
            self._memo[key] = value
        return value

    def _path(self, node: Scalar, path: Path) -> Path:
        return path if path and self.fragile(node) else ()

    def fragile(self, node: Scalar) -> bool:
        """True if something below is read at a position that is not proved in range: its guard depends on the path."""
        stack = [node]
        while stack:
            top = stack[-1]
            if top in self._fragile:
                stack.pop()
                continue
            below = [*top.children]
            if isinstance(top, Read) and (inner := self._inlined(top)) is not None:
                below.append(inner)
            waiting = [b for b in below if b not in self._fragile]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            own = isinstance(top, Read) and self._inlined(top) is None and not self._always(top)
            self._fragile[top] = own or any(self._fragile[b] for b in below)
        return self._fragile[node]

    def _inlined(self, read: Read) -> Scalar | None:
        tensor = self.alias.get(read.tensor, read.tensor)
        self.met.add(tensor)
        d = self.context.definitions.get(tensor)
        if d is None or d.head != "map" or (tensor in self.context.stored and tensor not in self.results):
            return None
        if self._carried(d, read.indices):
            return None
        self.inlined.add(tensor)
        return self.context.map_at(d, read.indices)

    def _safe(self, read: Read) -> bool:
        return all(in_range(i, dim) for i, dim in zip(read.indices, self.context.dims(read.tensor)))

    def _always(self, read: Read) -> bool:
        """Whether a read needs no guard: in range, and of no tensor that a recurrence around the kernel makes."""
        return read.tensor not in self.carried and self._safe(read)

    def _emit(self, node: Scalar, path: Path) -> Operand:
        match node:
            case Const():
                return Literal(node.value, _TYPES[node.kind])
            case Param():
                return ParamRef(node.name, _TYPES[node.kind])
            case Size():
                known = node.dim.constant
                return SizeRef(node.dim) if known is None else Literal(Fraction(known), "int")
            case Index():
                return AxisRef(node.name)
            case Read():
                return self._read(node, path)
            case Apply():
                return self._apply(node, path)
            case Table():
                values = tuple(Literal(v.value, _TYPES[v.kind]) for v in node.values)
                return self._op(_TYPES[node.dtype], "table", (*values, self.emit(node.index, path)))
            case Select():
                condition = self.emit(node.condition, path)
                if isinstance(condition, Literal):
                    return self.emit(node.a if condition.value else node.b, path)
                yes = self.emit(node.a, (*path, *conjuncts(node.condition)))
                no = self.emit(node.b, (*path, Not(node.condition)))
                return yes if yes == no else self._op(_TYPES[node.dtype], "select", (condition, yes, no))
            case Compare() if node.a is node.b and node.a.dtype is INT:  # the same position, after substitution
                return Literal(Fraction(node.op in ("==", "<=", ">=")), "bool")
            case Compare():
                return self._op("bool", _COMPARES[node.op], (self.emit(node.a, path), self.emit(node.b, path)))
            case And() | Or():
                return self._junction(node, path)
            case Not():
                inner = self.emit(node.a, path)
                if isinstance(inner, Literal):
                    return Literal(Fraction(not inner.value), "bool")
                return self._op("bool", "not", (inner,))
            case Stop():
                value = self.emit(node.a, path)
                varies = isinstance(value, Value) and node.dtype is REAL  # only those have a derivative
                return self._op("acc", "stop", (value,)) if varies else value
            case AdjointMap():
                return self.emit(node.a, path)
            case Proxy():
                return self.emit(node.value, path)
        raise TypeError(f"not a scalar node: {node!r}")

    def _junction(self, node: And | Or, path: Path) -> Operand:
        conjunctive = isinstance(node, And)
        parts: list[Operand] = []
        for a in node.args:
            part = self.emit(a, path)
            path = (*path, *(conjuncts(a) if conjunctive else (Not(a),)))
            if isinstance(part, Literal):
                if bool(part.value) != conjunctive:
                    return part
                continue
            if part not in parts:
                parts.append(part)
        if not parts:
            return Literal(Fraction(conjunctive), "bool")
        return parts[0] if len(parts) == 1 else self._op("bool", "and" if conjunctive else "or", tuple(parts))

    def _apply(self, node: Apply, path: Path) -> Operand:
        args = tuple(self.emit(a, path) for a in node.args)
        kind = _TYPES[node.dtype]
        folded = _folded(node.name, args, kind)
        return self._op(kind, node.name, args) if folded is None else folded

    # --------------------------------------------------------------------------------------------------- reads

    def _read(self, node: Read, path: Path) -> Operand:
        tensor = self.alias.get(node.tensor, node.tensor)
        self.met.add(tensor)
        if tensor in self.context.inputs:
            return self._access(tensor, node.indices, path)
        d = self.context.definitions[tensor]
        plain = _in_place(d, node.indices)
        if self._carried(d, node.indices):
            return self._access(tensor, node.indices, path)
        if tensor in self.results:
            whole = self.context.is_total(tensor) or tensor in self.context.complete
            if not plain or whole or tensor in self.context.selections:
                raise NotTogether(tensor)
            return self._definition(d, node.indices, path)
        if tensor in self.context.stored:
            return self._access(tensor, node.indices, path)
        if d.head == "map":
            try:
                return self._definition(d, node.indices, path)
            except MustStore as need:
                # Folds below would be made again at every shifted position: this map is what has to be kept.
                if plain or self.context.is_total(need.tensor):
                    raise
                raise MustStore(tensor, "read at shifted positions, and made of folds") from None
        if not d.formals:
            raise MustStore(tensor, "a total, complete only after the whole pass")
        if not plain:
            own = set(free_indices(*node.indices))
            weight = self.context.sizes.weight
            if not own or weight(i.dim for i in own) >= weight(d.dims):
                raise MustStore(tensor, "a fold that is read at other positions than its own")
            self.context.recomputed.add(tensor)
        return self._definition(d, node.indices, path)

    def _carried(self, d: Definition, indices: tuple[Scalar, ...]) -> bool:
        """Whether a read is of what an earlier round made: at another index along an axis of the recurrence."""
        return d.tensor in self.carried and any(f.name in self.fixed and i is not f for i, f in zip(indices, d.formals))

    def _access(self, tensor: str, indices: tuple[Scalar, ...], path: Path) -> Operand:
        subscripts = tuple(self._subscript(i, path) for i in indices)
        dims = self.context.dims(tensor)
        kind = _TYPES[self.context.dtype(tensor)]
        unsure = [(i, d) for i, d in zip(indices, dims) if not in_range(i, d)]
        if not unsure:
            # Of a recurrence's own tensor there may be nothing yet, in rounds in which it is not read.
            when = [p for p in path if self._numbers(p)] if tensor in self.carried else []
            held = self.emit(conjunction(when), ()) if when else TRUE_LITERAL
            if isinstance(held, Literal) and held.value:
                return self._load(tensor, subscripts, kind, None, None)
            return self._load(tensor, subscripts, kind, held, Literal(Fraction(0), kind))
        gathers = all(form(i).data for i, _ in unsure)
        if gathers and path:
            # Clamping keeps a gather safe, the guard only saves work: it must not add axes to what is loaded.
            varies = self._positions(subscripts)
            path = tuple(p for p in path if axes_of(p) <= varies)
        path = (*self._round(unsure, path), *path)
        for held_by, value in self._gathered.get((tensor, subscripts), ()):
            if held_by <= frozenset(path):  # where this one is needed, the other was read
                return value
        guard: Operand | None = None
        if path:
            held = self.emit(conjunction(path), ())
            guard = None if isinstance(held, Literal) and held.value else held
        for i, d in unsure:
            if (guard is None or self._loose) and not form(i).data:
                inside = self.emit(And((Compare("<=", Const(0, INT), i), Compare("<", i, Size(d)))), ())
                guard = inside if guard is None else self._op("bool", "and", (guard, inside))
        pad = None if guard is None else Literal(Fraction(0), kind)
        value = self._load(tensor, subscripts, kind, guard, pad)
        self._gathered.setdefault((tensor, subscripts), []).append((frozenset(path), value))
        return value

    def _round(self, unsure: Iterable[tuple[Scalar, Dim]], path: Path) -> Path:
        """In which rounds a position that is the same for the whole kernel is in range: conditions that follow from the
        path, but not from those of it that are the same for the whole kernel. With them a back end need not clamp."""
        known = [p for p in path if self._numbers(p)]
        found: list[Scalar] = []
        for i, d in unsure:
            if not self.fixed or not self._numbers(i):
                continue
            for goal in (Compare(">=", i, Const(0, INT)), Compare("<", i, Size(d))):
                if not implies([*known, *found], goal):
                    found.append(goal)
        return tuple(found)

    def _numbers(self, node: Scalar) -> bool:
        """Whether a condition or position is made of indices of the recurrence and extents alone."""
        return all(
            i.name in self.fixed if isinstance(i, Index) else not isinstance(i, Read | Param) for i in postorder(node)
        )

    def _subscript(self, index: Scalar, path: Path) -> Subscript:
        f: Form = form(index)
        data: Value | None = None
        if f.data:
            total: Scalar = f.data[0]
            for more in f.data[1:]:
                total = Apply("add", (total, more))
            operand = self.emit(total, path)
            if not isinstance(operand, Value):
                operand = Value(self._named("int", ("index", operand), (operand, Literal(Fraction(0), "int"))))
            data = operand
        return Subscript(tuple((i.name, c) for i, c in f.axes), f.offset, data)

    def _named(self, kind: str, key: object, args: tuple[Operand, ...]) -> str:
        value = self._define(kind, key, lambda name: Op(name, kind, "add", args), self._spread_of(args))
        assert isinstance(value, Value)
        return value.name

    # ---------------------------------------------------------------------------------------------- statements

    def _load(
        self, buffer: str, subscripts: tuple[Subscript, ...], kind: str, guard: Operand | None, pad: Literal | None
    ) -> Operand:
        varies = self._positions(subscripts)
        if guard is not None:
            varies |= self._varies(guard)
        return self._define(
            kind,
            ("load", buffer, subscripts, guard, pad),
            lambda name: Load(name, kind, buffer, subscripts, guard, pad),
            varies,
        )

    def _positions(self, subscripts: Iterable[Subscript]) -> frozenset[str]:
        """Axes that an access depends on through its positions."""
        varies: frozenset[str] = frozenset()
        for s in subscripts:
            varies |= {a for a, _ in s.axes}
            if s.data is not None:
                varies |= self.spread[s.data.name]
        return varies - self.fixed

    def _op(self, kind: str, op: str, args: tuple[Operand, ...]) -> Operand:
        opposite = self._opposite(kind, op, args)
        if opposite is not None:
            return opposite if op == "neg" else self._op(kind, "neg", (opposite,))
        value = self._define(kind, ("op", kind, op, args), lambda name: Op(name, kind, op, args), self._spread_of(args))
        if op == "neg" and isinstance(value, Value):
            self._negated[value.name] = args[0]
        return value

    def _opposite(self, kind: str, op: str, args: tuple[Operand, ...]) -> Operand | None:
        """A value that is there already, of which this one is the negative: both need one exponential then."""

        def there(name: str, *given: Operand) -> Operand | None:
            found = self._shared.get(("op", kind, name, given))
            return None if found is None else Value(found)

        negated = [self._negated.get(a.name) if isinstance(a, Value) else None for a in args]
        match op, negated:
            case "neg", [a]:
                return a
            case "sub", _:
                return there("sub", args[1], args[0])
            case "real", [a] if a is not None:
                return there("real", a)
            case "mul", [a, b]:
                for first, second in ((a, args[1]), (b, args[0])):
                    if first is not None:
                        found = there("mul", first, second) or there("mul", second, first)
                        if found is not None:
                            return found
        return None

    def _define(self, kind: str, key: object, make: Callable[[str], Statement], varies: frozenset[str]) -> Operand:
        name = self._shared.get(key)
        if name is None:
            name = f"t{len(self._shared)}"
            self._shared[key] = name
            self.spread[name] = varies
            self.statements.append(make(name))
        return Value(name)

    def _spread_of(self, args: Iterable[Operand]) -> frozenset[str]:
        return frozenset().union(*(self._varies(a) for a in args))

    def _varies(self, operand: Operand) -> frozenset[str]:
        if isinstance(operand, Value):
            return self.spread[operand.name]
        return frozenset([operand.name]) - self.fixed if isinstance(operand, AxisRef) else frozenset()

    def _type(self, operand: Operand) -> str:
        if isinstance(operand, Value):
            return next(s.type for s in self.statements if isinstance(s, Load | Op | Fold) and s.name == operand.name)
        return "int" if isinstance(operand, SizeRef | AxisRef) else operand.type

    def _label(self, value: Operand, tensor: str) -> None:
        if isinstance(value, Value):
            self.labels.setdefault(value.name, tensor)

    # ------------------------------------------------------------------------------------------------ analysis

    def rows(self) -> frozenset[str]:
        """Axes along which the kernel can run in parallel: in the space of every result and of every fold in it."""
        common = frozenset(self.axes)
        for space in self.spaces.values():
            common &= space
        for use in self.folds.values():
            common &= use.axes
        return common

    def loads(self) -> list[Load]:
        return [s for s in self.statements if isinstance(s, Load)]


def _in_place(d: Definition, indices: tuple[Scalar, ...]) -> bool:
    """The positions are distinct axes over the extents of the formals."""
    plain = all(isinstance(i, Index) and i.dim == f.dim for i, f in zip(indices, d.formals))
    return plain and len(set(indices)) == len(indices)


def _folded(name: str, args: tuple[Operand, ...], kind: str) -> Operand | None:
    """Exact arithmetic on literals, and neutral elements of products and differences; None if the operation stays."""
    if name == "real" and isinstance(args[0], Literal):
        return Literal(args[0].value, "acc")
    if name == "int" and isinstance(args[0], Literal):
        return Literal(args[0].value, "int")
    exact = [a.value for a in args if isinstance(a, Literal) and isinstance(a.value, Fraction)]
    if len(exact) == len(args):
        if name == "neg":
            return Literal(-exact[0], kind)
        if len(exact) == 2 and name in ("add", "sub", "mul"):
            a, b = exact
            return Literal({"add": a + b, "sub": a - b, "mul": a * b}[name], kind)
        if name == "div" and exact[1] != 0:
            return Literal(exact[0] / exact[1], kind)
    if len(args) == 2:
        first, second = (isinstance(a, Literal) and a.value == 1 for a in args)
        if (name == "mul" and first) or (name == "add" and isinstance(args[0], Literal) and args[0].value == 0):
            return args[1]
        if name in ("mul", "div") and second:
            return args[0]
        if name in ("add", "sub") and isinstance(args[1], Literal) and args[1].value == 0:
            return args[0]
    return None
