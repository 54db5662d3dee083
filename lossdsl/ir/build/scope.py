"""What names mean while a loss is built: axes, tensors, functions, and one definition under construction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from lossdsl.diagnostics import NOWHERE, Diagnostic, Span
from lossdsl.dim import Dim
from lossdsl.ir.nodes import Index, Parameter, Scalar
from lossdsl.primitives.record import Dtype
from lossdsl.syntax import tree

REST = "..."


class Failed(Exception):
    """A diagnostic was recorded; the statement at hand has no value."""


class Sink:
    """Collects diagnostics; the same finding at the same place is recorded once."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._seen: set[tuple[str, Span, str]] = set()

    def add(self, code: str, message: str, span: Span, help: str = "", notes: tuple[str, ...] = ()) -> None:
        key = (code, span, message)
        if key not in self._seen:
            self._seen.add(key)
            self.found.append(Diagnostic(code, message, span, help, notes))

    def fail(self, code: str, message: str, span: Span, help: str = "", notes: tuple[str, ...] = ()) -> Failed:
        """Record an error and give the exception to raise."""
        self.add(code, message, span, help, notes)
        return Failed(message)


def suggestion(name: str, known: list[str]) -> str:
    """A help text that names what may have been meant, or an empty one."""
    written = [k for k in known if "." not in k.strip(".") or "." in name]  # hidden names of calls have dots
    close = get_close_matches(name, [k for k in written if ":" not in k], n=2, cutoff=0.6)
    return f"did you mean {' or '.join(f'`{c}`' for c in close)}?" if close else ""


@dataclass(frozen=True)
class AxisEntity:
    """An axis name. Axes with the same `root` index the same extent (`axis m = n`)."""

    name: str
    dim: Dim
    root: str
    order: int
    span: Span


@dataclass(frozen=True)
class Slot:
    """One position of a tensor: its axis, the axis's whole extent, and the coordinates lower <= k < upper it has.

    step   one coordinate stands for `step` of the declared axis: above 1 the tensor lives on a coarser grid
    grid   the extent of that grid, for accesses with a value outside
    """

    axis: str
    full: Dim
    lower: Dim
    upper: Dim
    step: int = 1
    grid: Dim | None = None

    @staticmethod
    def whole(axis: str, dim: Dim) -> Slot:
        return Slot(axis, dim, Dim.const(0), dim)

    @property
    def restricted(self) -> bool:
        return bool(self.lower.terms) or self.upper != self.full


@dataclass(frozen=True)
class Obligation:
    """A condition that every reader must establish before it may read, with the place of the access that needs it."""

    condition: Scalar
    span: Span
    message: str
    help: str


@dataclass(frozen=True)
class TensorEntity:
    """An input or a finished definition. `coordinates` are the index variables in which `needs` is written."""

    name: str
    tensor: str
    slots: tuple[Slot, ...]
    dtype: Dtype
    written: bool
    span: Span
    is_input: bool = False
    coordinates: tuple[Index, ...] = ()
    needs: tuple[Obligation, ...] = ()
    unfinished: bool = False  # a member of the recurrence that is being elaborated


@dataclass
class PendingDefinition:
    """A definition of the file, elaborated on demand. `state` is "new", "busy", "done" or "broken".

    part      which of how many values of a call it is, in `p, q = f(x)`
    group     the definitions that read each other with this one, if it is part of a recurrence
    assumed   what readers see while the recurrence is elaborated
    """

    statement: tree.Definition
    state: str = "new"
    owner: str = ""
    entity: TensorEntity | None = None
    part: tuple[int, int] | None = None
    group: tuple[PendingDefinition, ...] = ()
    assumed: TensorEntity | None = None


@dataclass(frozen=True)
class ParameterEntity:
    parameter: Parameter
    span: Span


@dataclass(frozen=True)
class FunctionEntity:
    """An expression function; `in_loss` ones see the names of their loss."""

    definition: tree.Def
    in_loss: bool


@dataclass(frozen=True)
class Unavailable:
    """A name whose construct parses but has no meaning yet. `reported`: its declaration has a diagnostic already."""

    what: str
    span: Span
    reported: bool = True


@dataclass(frozen=True)
class LossEntity:
    """A loss of the file, which another one may call."""

    loss: tree.Loss


Entity = AxisEntity | TensorEntity | PendingDefinition | ParameterEntity | FunctionEntity | LossEntity | Unavailable


def entity_span(entity: Entity) -> Span:
    if isinstance(entity, PendingDefinition):
        return entity.statement.span
    if isinstance(entity, FunctionEntity):
        return entity.definition.name.span
    if isinstance(entity, LossEntity):
        return entity.loss.name.span
    return entity.span


@dataclass(frozen=True)
class Argument:
    """An argument of a function: an expression with the names of the place where the call stands."""

    value: tree.Expr
    locals: Mapping[str, Argument]
    loss_names: bool
    calls: tuple[tuple[str, tree.Call], ...]


class Axes:
    """Which index each axis name stands for. A lazy one makes a fresh index for every axis that is asked for."""

    def __init__(
        self,
        default: Callable[[str], Scalar],
        parent: Axes | None = None,
        own: Mapping[str, Scalar] | None = None,
        fresh: Callable[[str], Index] | None = None,
    ) -> None:
        self._default, self._parent, self._fresh = default, parent, fresh
        self.own: dict[str, Scalar] = dict(own or {})

    def get(self, axis: str) -> Scalar:
        found = self.own.get(axis)
        if found is not None:
            return found
        if self._fresh is not None:
            made = self._fresh(axis)
            self.own[axis] = made
            return made
        return self._parent.get(axis) if self._parent is not None else self._default(axis)

    def extended(self, own: Mapping[str, Scalar]) -> Axes:
        return Axes(self._default, self, own)

    def lazily(self, fresh: Callable[[str], Index]) -> Axes:
        return Axes(self._default, None, None, fresh)


@dataclass(frozen=True)
class Visit:
    """A read of an input at `coordinate + (low .. high)` of the index variable, for the warning on dropped entries."""

    tensor: str
    variable: Index
    plain: bool
    span: Span


@dataclass(frozen=True)
class Grid:
    """The grid of an index variable: the step of its coordinates, the grid's extent, and who asked for it first."""

    step: int
    extent: Dim
    name: str


@dataclass
class Frame:
    """A definition under construction: ranges and grids of its index variables, and what its readers must establish.

    dropped   index variables that a read narrows beyond what the conditions around the definition leave of them
    """

    ranges: dict[Index, tuple[Dim, Dim]] = field(default_factory=dict)
    needs: list[Obligation] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    grids: dict[Index, Grid] = field(default_factory=dict)
    dropped: set[Index] = field(default_factory=set)
    member: bool = False  # of a recurrence: its own reads may not narrow it, or it had no first step

    def copy(self) -> Frame:
        return Frame(dict(self.ranges), list(self.needs), list(self.visits), dict(self.grids), set(self.dropped))

    def range(self, variable: Index) -> tuple[Dim, Dim]:
        return self.ranges.get(variable, (Dim.const(0), variable.dim))


@dataclass(frozen=True)
class Context:
    """Where an expression stands.

    path      conditions that hold here (from `if`, `and`, `or`, `where`), inside the definition at hand
    outer     conditions that hold where the definition at hand is read (it is a reduction inside an expression)
    reducing  axes that the written `over` of the enclosing reductions name
    calls     the functions whose bodies this stands in, outermost first, and where each is called
    last      what `last` stands for, inside an access
    """

    frame: Frame
    axes: Axes
    path: tuple[Scalar, ...] = ()
    outer: tuple[Scalar, ...] = ()
    locals: Mapping[str, Argument] = field(default_factory=dict)
    loss_names: bool = True
    calls: tuple[tuple[str, tree.Call], ...] = ()
    reducing: frozenset[str] = frozenset()
    unwritten: bool = True
    last: Scalar | None = None

    def under(self, conditions: tuple[Scalar, ...]) -> Context:
        return replace(self, path=self.path + conditions)


def quoted(name: str) -> str:
    """A name as messages show it; what has none is said in words ("this cumsum")."""
    return name if " " in name else f"`{name}`"


def base_name(index: Index) -> str:
    """The axis that an index variable runs over; fresh variables are called `axis#k`."""
    return index.name.partition("#")[0]


def first_span(*spans: Span) -> Span:
    return next((s for s in spans if s != NOWHERE), NOWHERE)
