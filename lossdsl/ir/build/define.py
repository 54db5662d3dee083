"""Closing definitions: ranges become 0-based formals, index variables get their names, equal definitions become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lossdsl.diagnostics import Span
from lossdsl.dim import Dim
from lossdsl.ir.build.affine import affine, integer, nonnegative, substitute, to_scalar
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.scope import Context, Frame, Slot, TensorEntity, base_name
from lossdsl.ir.nodes import INT, TRUE, And, Apply, Definition, Group, Index, Read, Scalar, Size
from lossdsl.ir.rewrite import members, rename_tensors


@dataclass
class Place:
    """Where definitions go: the body of the program so far, and the names that are taken."""

    body: list[Definition | Group] = field(default_factory=list)
    known: dict[tuple[object, ...], Definition] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    owner: str = "value"
    comment: str | None = None

    @property
    def definitions(self) -> list[Definition]:
        """All definitions in order, those of recurrences included."""
        return [d for item in self.body for d in members(item)]

    def next_name(self) -> str:
        k = self.counters.get(self.owner, 0)
        self.counters[self.owner] = k + 1
        return f"{self.owner}.{k}"


def ordered(elaborator: Elaborator, variables: Sequence[Index] | frozenset[Index]) -> list[Index]:
    """Index variables in the order in which the file first names their axes; fresh ones of an axis in their order."""

    def key(variable: Index) -> tuple[int, int]:
        number = variable.name.partition("#")[2]
        return elaborator.axes[base_name(variable)].order, int(number) if number else 0

    return sorted(variables, key=key)


def renamed(variables: Sequence[Index], taken: set[str]) -> list[str]:
    """A name for each index variable by its axis, other than those taken, to which they are added."""
    names: list[str] = []
    for variable in variables:
        base = base_name(variable)
        name, k = base, 0
        while name in taken:
            k += 1
            name = f"{base}.{k}"
        taken.add(name)
        names.append(name)
    return names


def _positional(definition: Definition) -> tuple[object, ...]:
    """A key that two definitions share exactly when they are the same up to the names of their indices."""
    mapping: dict[Scalar, Scalar] = {}
    for kind, variables in (("f", definition.formals), ("b", definition.bound)):
        for k, v in enumerate(variables):
            mapping[v] = Index(f"%{kind}{k}", v.dim)
    itself = {definition.tensor: "%itself"}  # two recurrences over themselves are the same whatever their names
    where, body, support = (rename_tensors(substitute(s, mapping), itself) for s in definition.scalars())
    return (
        definition.head,
        tuple(v.dim for v in definition.formals),
        tuple(v.dim for v in definition.bound),
        where,
        body,
        support,
    )


def close(
    elaborator: Elaborator,
    place: Place,
    frame: Frame,
    *,
    tensor: str,
    name: str,
    head: str,
    formals: Sequence[Index],
    bound: Sequence[Index],
    where: Scalar,
    body: Scalar,
    written: bool,
    span: Span,
    comment: str | None = None,
    run: Sequence[tuple[Index, int]] = (),
) -> TensorEntity:
    """Make a definition of an elaborated body; returns what readers of it need to know.

    run   index variables and directions along which the definition reads itself: it becomes a recurrence

    Raises Failed if a need of its accesses speaks of a bound index (no reader could establish it).
    """
    _warn_dropped(elaborator, frame)
    bound_set = frozenset(bound)
    for need in frame.needs:
        if elaborator.free(need.condition) & bound_set:
            raise elaborator.sink.fail("E0405", need.message, need.span, need.help)
    taken: set[str] = set()
    variables = [*formals, *bound]
    names = renamed(variables, taken)
    mapping: dict[Scalar, Scalar] = {}
    closed: list[Index] = []
    slots: list[Slot] = []
    for variable, new in zip(variables, names, strict=True):
        lower, upper = frame.range(variable)
        index = Index(new, upper - lower)
        assert isinstance(index, Index)
        closed.append(index)
        grid = frame.grids.get(variable)
        coarse = (grid.step, grid.extent) if grid is not None and grid.step > 1 else (1, None)
        slots.append(Slot(base_name(variable), variable.dim, lower, upper, *coarse))
        mapping[variable] = index if not lower.terms else to_scalar(affine(index).shifted(lower))
    needs = tuple(dict.fromkeys(frame.needs))
    conditions = list(dict.fromkeys(n.condition for n in needs))
    support: Scalar = TRUE
    if conditions:
        support = conditions[0] if len(conditions) == 1 else And(tuple(conditions))
    mapping = {a: b for a, b in mapping.items() if a is not b}
    count = len(formals)
    definition = Definition(
        tensor,
        tuple(closed[:count]),
        head,
        tuple(closed[count:]),
        substitute(where, mapping),
        substitute(body, mapping),
        substitute(support, mapping),
        span,
        comment,
    )
    key = _positional(definition)
    same = place.known.get(key)
    if same is None:
        place.known[key] = definition
        at = {variable: index.name for variable, index in zip(variables, closed, strict=True)}
        order = tuple((at[variable], sign) for variable, sign in run)
        place.body.append(Group(order, (definition,)) if order else definition)
        elaborator.values.define(definition)
        if definition.dtype is INT:
            _remember_bounds(elaborator, definition)
    else:
        definition = same
    return TensorEntity(
        name,
        definition.tensor,
        tuple(slots[:count]),
        definition.dtype,
        written,
        span,
        coordinates=tuple(formals),
        needs=needs,
    )


def _remember_bounds(elaborator: Elaborator, definition: Definition) -> None:
    """Constant and extent bounds of an integer definition, so that its values may index."""
    body = definition.body
    if definition.head == "map" and isinstance(body, Read):
        declared = elaborator.inputs.get(body.tensor) or elaborator.labels.get(body.tensor)
        if declared is not None and declared.also is not None:
            elaborator.labels[definition.tensor] = declared
            return
    if definition.head in ("map", "max", "min"):
        lower, upper = elaborator.prover.bounds(affine(definition.body), frozenset(), (definition.where,))
        elaborator.integer_bounds[definition.tensor] = (lower, upper)
    elif definition.head in ("argmax", "argmin", "argsort"):
        volume = Dim.const(1)
        for index in definition.bound:
            volume = volume * index.dim
        elaborator.integer_bounds[definition.tensor] = (Dim.const(0), volume - 1)
    elif definition.head == "count":
        total = Dim.const(1)
        for index in definition.bound:
            total = total * index.dim
        plain = nonnegative(total)
        elaborator.integer_bounds[definition.tensor] = (Dim.const(0), total if plain else None)


def lift(
    elaborator: Elaborator,
    place: Place,
    ctx: Context,
    frame: Frame,
    head: str,
    bound: Sequence[Index],
    where: Scalar,
    body: Scalar,
    span: Span,
) -> Scalar:
    """A reduction inside an expression becomes a definition of its own; the result is the read of it."""
    bound = ordered(elaborator, list(bound))
    free = (elaborator.free(body) | elaborator.free(where)) - frozenset(bound)
    for need in frame.needs:
        free |= elaborator.free(need.condition)
    formals = ordered(elaborator, free - frozenset(bound))
    entity = close(
        elaborator,
        place,
        frame,
        tensor=place.next_name(),
        name=f"this {head}",
        head=head,
        formals=formals,
        bound=bound,
        where=where,
        body=body,
        written=True,
        span=span,
    )
    return elaborator.read(ctx, entity, list(formals), span)


def count_scalar(frame: Frame, bound: Sequence[Index]) -> Scalar:
    """The number of index tuples that a reduction runs over, its `where` left aside, as an INT scalar.

    A narrowed range is never below 0 by itself, so its extent is a factor of its own and not multiplied out.
    """
    whole = Dim.const(1)
    factors: list[Scalar] = []
    for variable in bound:
        lower, upper = frame.range(variable)
        if all(c >= 0 for _, c in (upper - lower).terms):
            whole = whole * (upper - lower)
        else:
            factors.append(Size(upper - lower))
    constant = whole.number
    if constant is None:
        factors.insert(0, Size(whole))
    elif constant != 1 or not factors:
        factors.insert(0, integer(constant))
    total = factors[0]
    for factor in factors[1:]:
        total = Apply("mul", (total, factor))
    return total


def _warn_dropped(elaborator: Elaborator, frame: Frame) -> None:
    """An axis gave way, and an input that is read without offset loses entries by that."""
    for variable, (lower, upper) in frame.ranges.items():
        if (not lower.terms and upper == variable.dim) or variable not in frame.dropped:
            continue
        shifted = {v.tensor for v in frame.visits if v.variable is variable and not v.plain}
        for visit in frame.visits:
            if visit.variable is variable and visit.plain and visit.tensor not in shifted:
                axis = base_name(variable)
                elaborator.sink.add(
                    "W1005",
                    f"`{axis}` runs from {lower} to {upper - 1} here, where {axis} is its extent, so entries of "
                    f"`{visit.tensor}` are left out",
                    visit.span,
                    f"shift `{visit.tensor}` as well, or say what stands outside with `else`",
                )


__all__ = ["Place", "close", "count_scalar", "lift", "ordered"]
