"""Reads of tensors: index ranges give way, conditions guard, readers are told what they must establish."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.diagnostics import Span
from lossdsl.dim import Dim
from lossdsl.ir.build.affine import (
    CHOICES,
    UNBOUNDED,
    Affine,
    Bound,
    Prover,
    affine,
    conjuncts,
    divides,
    integer,
    limits,
    nonnegative,
    substitute,
    to_scalar,
)
from lossdsl.ir.build.boundaries import mapped
from lossdsl.ir.build.scalars import kind_text
from lossdsl.ir.build.scope import (
    Axes,
    AxisEntity,
    Context,
    Entity,
    Failed,
    Frame,
    Grid,
    Obligation,
    ParameterEntity,
    Sink,
    Slot,
    TensorEntity,
    Visit,
    base_name,
    quoted,
    suggestion,
)
from lossdsl.ir.build.values import Values
from lossdsl.ir.check import depends_on_data
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Input,
    Not,
    Param,
    Parameter,
    Range,
    Read,
    Scalar,
    Select,
    Size,
    postorder,
    real,
)
from lossdsl.ir.ranges import contradictory, implies
from lossdsl.syntax import tree


class Reader(ABC):
    """What is known while one loss is built, and how tensors are read in it.

    Shared state: the scope, the diagnostics, the value ranges of tensors. `Elaborator` adds expressions.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.names: dict[str, Entity] = {}
        self.axes: dict[str, AxisEntity] = {}
        self.inputs: dict[str, Input] = {}
        self.integer_bounds: dict[str, Bound] = {}
        self.labels: dict[str, Input] = {}  # definitions that are entries of a `class` or an ignored label
        self.values = Values()
        self.prover = Prover(self._promised)
        self.unpromised = Prover(lambda atom, conditions: UNBOUNDED)
        self.used: set[str] = set()
        self._free: dict[Scalar, frozenset[Index]] = {}
        self._fresh = 0
        self._short: set[tuple[str, str]] = set()
        self.unfinished_reads: list[tuple[Read, Span]] = []
        self.called_updates: list[tree.Update] = []  # of the states of losses that are called
        self.reserved: set[str] = set()  # names that something made later has, and prefixes of such names
        self.made: Callable[[], list[Definition]] = list  # so far
        self.sealed = False  # the values that live through training are known: a call may not add to them

    @abstractmethod
    def expression(self, ctx: Context, node: tree.Expr) -> Scalar:
        """The scalar that an expression stands for; raises Failed after recording a diagnostic."""

    @abstractmethod
    def lookup(self, ctx: Context, name: str, span: Span, shifted: bool = False) -> Entity:
        """The entity of a name that is not an axis."""

    def step(self, span: Span) -> Scalar:
        """The training step: an integer that is counted outside of the loss."""
        if "step" not in self.inputs:
            zero = Const(0, INT)
            declared = Input("step", (), (), "int", Range(lower=zero), default=zero, role="state", origin=span)
            self.inputs["step"] = declared
            self.values.declare_input(declared)
        return Read("step", (), INT)

    def default_index(self, axis: str) -> Scalar:
        return Index(axis, self.axes[axis].dim)

    def fresh_index(self, axis: str) -> Index:
        self._fresh += 1
        made = Index(f"{axis}#{self._fresh}", self.axes[axis].dim)
        assert isinstance(made, Index)
        return made

    def top_context(self, frame: Frame, unwritten: bool = True) -> Context:
        return Context(frame=frame, axes=Axes(self.default_index), unwritten=unwritten)

    def free(self, node: Scalar) -> frozenset[Index]:
        """Index variables of a scalar."""
        if node not in self._free:
            for s in postorder(node):
                if s not in self._free:
                    own = frozenset((s,)) if isinstance(s, Index) else frozenset()
                    self._free[s] = own.union(*(self._free[c] for c in s.children))
        return self._free[node]

    def _promised(self, atom: Scalar, conditions: Sequence[Scalar]) -> Bound:
        """What types promise about an integer scalar."""
        if isinstance(atom, Param):
            entity = self.names.get(atom.name)
            if isinstance(entity, ParameterEntity):
                return _range_bounds(entity.parameter.range)
        if not isinstance(atom, Read):
            return UNBOUNDED
        declared = self.inputs.get(atom.tensor) or self.labels.get(atom.tensor)
        if declared is None:
            return self.integer_bounds.get(atom.tensor, UNBOUNDED)
        if declared.kind == "class" and declared.classes is not None:
            if declared.also is None or self.prover.states(conditions, self._not_ignored(atom, declared.also)):
                return Dim.const(0), declared.classes - 1
            return UNBOUNDED
        if declared.kind in ("binary", "sign"):
            return Dim.const(0 if declared.kind == "binary" else -1), Dim.const(1)
        return _range_bounds(declared.range)

    def _not_ignored(self, read: Read, also: str) -> Scalar:
        return Compare("!=", read, Param(also, INT))

    def unavailable(self, what: str, span: Span, reason: str = "") -> Failed:
        return self.sink.fail("E0501", f"{what} has no meaning yet in this version", span, reason)

    def number(self, value: Scalar) -> Scalar:
        """A value in arithmetic: conditions count 0 and 1."""
        if value.dtype is BOOL:
            return Const(value.value, INT) if isinstance(value, Const) else Apply("int", (value,))
        return value

    def unify(self, values: Iterable[Scalar]) -> list[Scalar]:
        """Values as numbers of one dtype: REAL if one of them is."""
        numbers = [self.number(v) for v in values]
        return [real(v) for v in numbers] if any(v.dtype is REAL for v in numbers) else numbers

    def select(self, condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
        if a.dtype is not BOOL or b.dtype is not BOOL:
            a, b = self.unify((a, b))
        return Select(condition, a, b)

    def integer_expression(self, ctx: Context, node: tree.Expr, what: str) -> Scalar:
        value = self.expression(ctx, node)
        if value.dtype is BOOL:
            value = Apply("int", (value,))
        if value.dtype is not INT:
            help = "`//` divides integers; `floor(x)` makes one"
            raise self.sink.fail("E0408", f"{what} must be an integer, not {kind_text(value)}", node.span, help)
        return value

    def axis(self, name: str, span: Span) -> AxisEntity:
        entity = self.axes.get(name)
        if entity is None:
            help = suggestion(name, list(self.axes)) or f"the axes of this loss are {', '.join(self.axes) or 'none'}"
            raise self.sink.fail("E0206", f"unknown axis `{name}`", span, help)
        self.used.add(name)
        return entity

    def _choose(self, ctx: Context, guards: list[Scalar], value: Scalar, otherwise: tree.Expr) -> Scalar:
        if not guards:
            return value
        condition = guards[0] if len(guards) == 1 else And(tuple(guards))
        other = self.expression(ctx.under(conjuncts(Not(condition))), otherwise)
        return self.select(condition, value, other)

    # ------------------------------------------------------------------------------------------------------- reads

    def read(
        self,
        ctx: Context,
        tensor: TensorEntity,
        indices: Sequence[Scalar | None],
        span: Span,
        otherwise: tree.Expr | None = None,
        boundaries: Sequence[str | None] = (),
    ) -> Scalar:
        """`tensor[indices]`; None is the position's own axis. Ranges give way or conditions guard the read.

        boundaries   for each position `edge`, `reflect` or `wrap`, which map its index into the range, or None
        """
        places: list[Scalar] = []
        guards: list[Scalar] = []
        coordinates: dict[Scalar, Scalar] = {}
        silent = True
        hollow = ""
        for k, (slot, given) in enumerate(zip(tensor.slots, indices, strict=True)):
            index = given
            if index is None:
                if not slot.axis:
                    if slot.full.number != 1:
                        help = f"write the position: `{tensor.name}[{', '.join(s.axis or '0' for s in tensor.slots)}]`"
                        raise self.sink.fail("E0309", f"position {k + 1} of `{tensor.name}` has no name", span, help)
                    index = integer(0)
                else:
                    index = ctx.axes.get(slot.axis)
            if tensor.coordinates:
                coordinates[tensor.coordinates[k]] = index
            kind = boundaries[k] if boundaries else None
            if kind is not None:
                self._whole_grid(ctx, tensor.name, slot, affine(index), span)
                index = mapped(kind, index, slot.lower, slot.upper)
                place = to_scalar(affine(index).shifted(-slot.lower))
                unproved, quiet = self._nonempty(ctx, index, slot.lower, slot.upper), False
                hollow = kind if unproved else hollow
            else:
                place, unproved, quiet = self.place(ctx, tensor, slot, index, span, otherwise is not None)
            places.append(place)
            guards += unproved
            silent = silent and (quiet or not unproved)
        read = Read(tensor.tensor, tuple(places), tensor.dtype)
        if tensor.unfinished and isinstance(read, Read):
            self.unfinished_reads.append((read, span))
        inside = ctx.path + tuple(guards)
        self._require(
            replace(ctx, path=inside),
            [replace(n, condition=substitute(n.condition, coordinates)) for n in tensor.needs],
        )
        if otherwise is not None:
            return self._choose(ctx, guards, read, otherwise)
        if not guards:
            return read
        if not silent and tensor.dtype is REAL:
            self._warn_range(tensor, indices, span, hollow if len(guards) == 1 else "")
        return self.outside(ctx, guards, read, quoted(tensor.name), span)

    def outside(self, ctx: Context, guards: list[Scalar], value: Scalar, what: str, span: Span) -> Scalar:
        """A value that is not proved to exist: where it does not, it is NaN; other than real ones have no NaN. Where types
        promise that it exists, integers are 0 if the promise does not hold, and conditions false."""
        condition = guards[0] if len(guards) == 1 else And(tuple(guards))
        if value.dtype is not REAL and self.prover.entails(ctx.path, condition):
            return Select(condition, value, Const(0, value.dtype))
        if value.dtype is not REAL:
            raise self.sink.fail(
                "E0405",
                f"this index into {what} is not proved to stay in range",
                span,
                "say what stands outside: `x[index else 0]`, or put the access under a condition",
            )
        return Select(condition, value, Const("nan"))

    def _nonempty(self, ctx: Context, index: Scalar, lower: Dim, upper: Dim) -> list[Scalar]:
        """The condition that a range has positions, unless it is proved where `index` exists."""
        nothing = Compare(">=", to_scalar(Affine({}, lower)), to_scalar(Affine({}, upper)))
        if contradictory([*self.free(index), *ctx.path, nothing], signed=self.integer_parameters()):
            return []
        return [Compare("<", nothing.a, nothing.b)]

    def _warn_range(self, tensor: TensorEntity, indices: Sequence[Scalar | None], span: Span, hollow: str) -> None:
        """One warning for each tensor where constant positions may be missing, one for each other access.

        hollow   the boundary into a range that may be empty, if that is all that is not proved
        """
        name = quoted(tensor.name)
        message = f"this index into {name} is not proved to stay in range; outside, the value is nan"
        written = tensor.name if " " not in tensor.name else "(...)"
        help = f"say what stands outside: `{written}[index else 0]`, or put the access under a condition"
        if hollow:
            message = f"{name} may have no entries, and `{hollow}` of none is nan"
            help = "put the access under a condition that leaves an entry, as `if size(axis) > 1`"
        if "." in tensor.name:  # of something that is called
            called, _, _ = tensor.name.partition(".")
            message = f"an index in `{called}` is not proved to stay in range; outside, the value is nan"
            help = f"declare what is passed to `{called}` with the type that it asks for, as `class[n] of c`"
        for slot, index in zip(tensor.slots, indices, strict=True):
            if isinstance(index, Const) and slot.axis and slot.full.number is None:
                if (tensor.name, slot.axis) in self._short:
                    return
                self._short.add((tensor.name, slot.axis))
                message = f"`{tensor.name}` is read at fixed positions of `{slot.axis}`, which may have fewer"
                help = f"declare the extent: `axis {slot.axis} = ...`; outside, the value is nan"
                if isinstance(index.value, Fraction) and index.value < 0:
                    message = f"position {index.value} of `{slot.axis}` does not exist, so this value is nan"
                    help = "positions count from 0, and `last` is the last one"
        self.sink.add("W1003", message, span, help)

    def _require(self, ctx: Context, needs: Iterable[Obligation]) -> None:
        """Establish what a read needs here, or pass it on to the readers of the definition at hand."""
        for need in needs:
            if not self.prover.entails(ctx.path, need.condition):
                ctx.frame.needs.append(need)

    def place(
        self, ctx: Context, tensor: TensorEntity, slot: Slot, index: Scalar, span: Span, has_else: bool
    ) -> tuple[Scalar, list[Scalar], bool]:
        """(index into the stored range, conditions not proved, whether they need no warning)."""
        if isinstance(index, Index) and index.dim == slot.full and not slot.restricted:
            if tensor.is_input:
                ctx.frame.visits.append(Visit(tensor.tensor, index, True, span))
            if slot.axis and self._own(affine(index), slot) is index:
                self._on_grid(ctx.frame, index, Grid(slot.step, slot.full, tensor.name), span)
            return index, [], True
        form = affine(index)
        stored = to_scalar(form.shifted(-slot.lower))
        if has_else:
            self._whole_grid(ctx, tensor.name, slot, form, span)
            return stored, self._unsecured(index, slot.lower, slot.upper, ctx.path), True
        conditions = ctx.path
        for s in postorder(index):
            declared = self.inputs.get(s.tensor) or self.labels.get(s.tensor) if isinstance(s, Read) else None
            if isinstance(s, Read) and declared is not None and declared.also is not None and s in form.terms:
                wanted = self._not_ignored(s, declared.also)
                if not self.prover.states(conditions, wanted):
                    name = declared.name if s.tensor in self.inputs else s.tensor
                    self._require(ctx, [self._ignored(name, declared.also, tensor, wanted, span)])
                    conditions = (*conditions, wanted)
        missing = self._unproved(index, slot.lower, slot.upper, conditions)
        variable = self._own(form, slot)
        if not missing:
            self._visit(ctx, tensor, slot, form, span)
            if variable is not None and form.terms[variable].number == 1:
                self._on_grid(ctx.frame, variable, Grid(slot.step, slot.grid or slot.full, tensor.name), span)
            return stored, self._unsecured(index, slot.lower, slot.upper, conditions), True
        gives_way = variable is not None and not isinstance(index, Index) and not depends_on_data(index)
        if tensor.unfinished and ctx.frame.member and gives_way:
            help = f"say what stands there: `{tensor.name}[... else 0]`, or put the access under a condition"
            raise self.sink.fail("E0209", f"nothing says what `{tensor.name}` is before its first step", span, help)
        around = bool(ctx.outer) and not self._unproved(index, slot.lower, slot.upper, (*conditions, *ctx.outer))
        if variable is not None and not (around and _meets(form.without(variable), ctx.outer)):
            lower, upper = self.prover.bounds(form.without(variable), frozenset(), conditions)
            if lower is not None and upper is not None:
                both = len(missing) == 2
                first = both or (isinstance(missing[0], Compare) and missing[0].op == ">=")
                last = both or not first
                step = self._step(form, variable, slot, span)
                whole = (Dim.const(0), variable.dim)
                # lower <= step*k + rest < upper for every rest: k >= ceil((lower - rest) / step), and so above
                low, high = -((lower - slot.lower) // step), (slot.upper - 1 - upper) // step + 1
                if not around:
                    ctx.frame.dropped.add(variable)
                self.narrow(ctx.frame, variable, (low if first else whole[0], high if last else whole[1]), span)
                extent = high if step > 1 else slot.grid or slot.full
                self._on_grid(ctx.frame, variable, Grid(step * slot.step, extent, tensor.name), span)
                self._visit(ctx, tensor, slot, form, span)
                return stored, [], True
        if around and any(isinstance(n, Index) and n not in _spoken(ctx.outer) for n in postorder(index)):
            return stored, self._unsecured(index, slot.lower, slot.upper, conditions), True  # never outside when read
        if around:
            message = f"this index into `{tensor.name}` is in range only under the condition around the reduction"
            self._require(ctx, [Obligation(m, span, message, "put the condition into its `where`") for m in missing])
            return stored, [], True
        quiet = not form.terms and (not form.rest.terms or form.rest == slot.upper - 1)  # the first, the last
        return stored, self._unsecured(index, slot.lower, slot.upper, conditions), quiet

    def _step(self, form: Affine, variable: Index, slot: Slot, span: Span) -> int:
        """How many positions of the slot one step of its own axis is; a coarser grid has more than one."""
        step = form.terms[variable].number
        if step is None or step < 1:
            factor = str(form.terms[variable])
            raise self.sink.fail(
                "E0502",
                f"an index with {factor} times its own axis `{slot.axis}` is no grid of that axis",
                span,
                f"use an axis of its own: `axis k = ...`, `[{slot.axis} = ... * k]`",
            )
        return step

    def _whole_grid(self, ctx: Context, name: str, slot: Slot, form: Affine, span: Span) -> None:
        """An access with a value outside: nothing gives way, but on a coarser grid the axis is as long as that grid."""
        variable = self._own(form, slot)
        step = form.terms[variable].number if variable is not None else None
        if variable is None or step is None or step < 1:
            return
        extent = slot.grid or slot.full
        if step > 1:
            extent = (extent + (step - 1)) // step
        if step * slot.step > 1:
            self.narrow(ctx.frame, variable, (Dim.const(0), extent), span)
        self._on_grid(ctx.frame, variable, Grid(step * slot.step, extent, name), span)

    def _on_grid(self, frame: Frame, variable: Index, grid: Grid, span: Span) -> None:
        """All that one definition reads along an axis lives on one grid of it."""
        have = frame.grids.setdefault(variable, grid)
        if have.step != grid.step:
            axis = base_name(variable)
            raise self.sink.fail(
                "E0502",
                f"two grids of `{axis}` meet here: `{have.name}` on {_grid_text(have)}, "
                f"`{grid.name}` on {_grid_text(grid)}",
                span,
                f"bring them to one grid, or use an axis of its own for the coarser one: `[{axis} = 2 * k]`",
            )

    def _ignored(self, label: str, also: str, tensor: TensorEntity, wanted: Scalar, span: Span) -> Obligation:
        return Obligation(
            wanted,
            span,
            f"`{label}` may be `{also}`, which is no position of `{tensor.name}`",
            f"put every use under a condition: `where {label} != {also}`",
        )

    def _visit(self, ctx: Context, tensor: TensorEntity, slot: Slot, form: Affine, span: Span) -> None:
        if tensor.is_input:
            for atom in form.terms:
                if isinstance(atom, Index):
                    ctx.frame.visits.append(Visit(tensor.tensor, atom, False, span))

    def _unproved(
        self, index: Scalar, lower: Dim, upper: Dim, conditions: Sequence[Scalar], prover: Prover | None = None
    ) -> list[Scalar]:
        """The conditions of `lower <= index < upper` that are not proved."""
        prover = prover or self.prover
        form = affine(index)
        sides = (form.shifted(-lower), Affine({}, upper - 1).plus(form, -1))
        found = zip(limits(form, lower, upper), sides, strict=True)
        missing = [limit for limit, side in found if not prover.at_least_zero(side, conditions)]
        divided = any(divides(s) for s in (*form.terms, *postorder(*conditions)))
        flattened = any(factor.number is None for factor in form.terms.values())
        if missing and not depends_on_data(index) and (divided or flattened):
            facts, signed = (*self.free(index), *conditions), self.integer_parameters()
            missing = [m for m in missing if not implies(facts, m, signed=signed)]
        return missing

    def _unsecured(self, index: Scalar, lower: Dim, upper: Dim, conditions: Sequence[Scalar]) -> list[Scalar]:
        """The conditions of `lower <= index < upper` to be tested at run time.

        Those that are not proved, and of an index that is made of positions (`x[t + 1] if t + 1 < length`) also those that
        are proved only by what a type promises of data: a promise is never trusted with memory. An index that is data
        itself is clamped by every backend, and needs none.
        """
        unproved = self._unproved(index, lower, upper, conditions)
        if depends_on_data(index):
            return unproved
        form = affine(index)
        missing = self._unproved(index, lower, upper, conditions, self.unpromised)
        facts, signed = (*self.free(index), *conditions), self.integer_parameters()
        if any(isinstance(s, Select) or (isinstance(s, Apply) and s.name in CHOICES) for s in form.terms):
            # the check of the program splits cases, as many as it can afford: all is guarded, or it has proved all
            both = limits(form, lower, upper)
            return [] if all(implies(facts, m, signed=signed) for m in both) else list(both)
        return [m for m in missing if m in unproved or not implies(facts, m, signed=signed)]

    def _own(self, form: Affine, slot: Slot) -> Index | None:
        """The index variable that gives way: over the position's own axis, else over an alias of it."""
        if not slot.axis:
            return None
        variables = [a for a in form.terms if isinstance(a, Index)]
        own = [v for v in variables if base_name(v) == slot.axis]
        root = self.axes[slot.axis].root
        return next(iter(own + [v for v in variables if self.axes[base_name(v)].root == root]), None)

    def narrow(self, frame: Frame, variable: Index, wanted: tuple[Dim, Dim], span: Span) -> None:
        """Intersect the range of an index variable."""
        lower, upper = frame.range(variable)
        new: list[Dim] = []
        for have, want, sign in ((lower, wanted[0], 1), (upper, wanted[1], -1)):
            if self._at_least(want, have) if sign > 0 else self._at_least(have, want):
                new.append(want)
            elif self._at_least(have, want) if sign > 0 else self._at_least(want, have):
                new.append(have)
            else:
                loose = [s for s in (have - want).symbols() if s in self.names and s not in self.integer_parameters(1)]
                help = f"declare `param {loose[0]}: int >= 1`, or " if loose else ""
                raise self.sink.fail(
                    "E0311",
                    f"the ranges of `{base_name(variable)}` cannot be compared here: {have} and {want}",
                    span,
                    help + "say what stands outside: `x[index else 0]`",
                )
        left = (new[1] - new[0]).constant
        if left is not None and left <= 0 and not nonnegative(-variable.dim):
            message = f"no position of `{base_name(variable)}` is left: an axis of {variable.dim} entries has no room for this window"
            help = "a smaller window, or say what stands outside: `x[index else 0]`, `x[edge(index)]`"
            raise self.sink.fail("E0312", message, span, help)
        frame.ranges[variable] = (new[0], new[1])

    def _at_least(self, a: Dim, b: Dim) -> bool:
        """True only if a >= b for all extents; extents count as they are used, never below 0."""
        positive = self.integer_parameters(least=1)
        return nonnegative(a - b, positive) or contradictory(
            [Compare("<", Size(a), Size(b))], signed=self.integer_parameters()
        )

    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(x.parameter for x in self.names.values() if isinstance(x, ParameterEntity))

    def integer_parameters(self, least: int | None = None) -> frozenset[str]:
        """Integer parameters that may be negative; with `least` those that are declared to be at least that."""
        ranges = {p.name: p.range for p in self.parameters() if p.kind == "int"}
        enough = {
            name
            for name, r in ranges.items()
            if isinstance(r.lower, Const)
            and isinstance(r.lower.value, Fraction)
            and r.lower.value + (1 if r.lower_open else 0) >= (least or 0)
        }
        return frozenset(ranges.keys() - enough if least is None else enough)


def _meets(form: Affine, conditions: Sequence[Scalar]) -> bool:
    """Whether the conditions speak of what is in the form: then they hold positions that its bounds would leave out."""
    spoken = _spoken(conditions)
    named = {n.name for n in spoken if isinstance(n, Param)}
    return any(n in spoken for n in postorder(*form.terms)) or bool(named & set(form.rest.symbols()))


def _spoken(conditions: Sequence[Scalar]) -> set[Scalar]:
    return {n for n in postorder(*conditions) if isinstance(n, Index | Param)}


def _grid_text(grid: Grid) -> str:
    names = {1: "every position", 2: "every second position", 3: "every third position"}
    return names.get(grid.step, f"every {grid.step}th position")


def _range_bounds(r: Range) -> Bound:
    """The least and the largest integer of a declared range, where they are extents: `[0, size(c))` ends at c - 1."""
    found: list[Dim | None] = []
    for bound, inwards in ((r.lower, 1 if r.lower_open else 0), (r.upper, -1 if r.upper_open else 0)):
        form = affine(bound) if bound is not None and bound.dtype is INT else None
        found.append(form.rest + inwards if form is not None and not form.terms else None)
    return found[0], found[1]
