"""One loss: its statements in order, its outputs, its program."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from lossdsl.diagnostics import Diagnostic, Severity, Source, Span
from lossdsl.ir.build import bodies, functions, training
from lossdsl.ir.build import claims as claim_rules
from lossdsl.ir.build.declarations import declare
from lossdsl.ir.build.define import Place, close, ordered
from lossdsl.ir.build.derivative import Derivatives
from lossdsl.ir.build.elaborate import Elaborator, Handler
from lossdsl.ir.build.inline import Calls
from lossdsl.ir.build.limits import deep
from lossdsl.ir.build.recurrence import Recurrence
from lossdsl.ir.build.recurrence import find as find_recurrences
from lossdsl.ir.build.reductions import Reductions as ReductionHandlers
from lossdsl.ir.build.returns import Returned, build_return, fail_needs
from lossdsl.ir.build.scope import (
    REST,
    Failed,
    Frame,
    FunctionEntity,
    LossEntity,
    PendingDefinition,
    Sink,
    TensorEntity,
    Unavailable,
    base_name,
)
from lossdsl.ir.nodes import (
    TRUE,
    AdjointMap,
    And,
    Definition,
    Group,
    Index,
    Output,
    Param,
    Parameter,
    Program,
    Scalar,
    Size,
    postorder,
    tensors_of,
)
from lossdsl.ir.rewrite import members
from lossdsl.ir.rewrite import tensors as tensors_read
from lossdsl.syntax import tree


@dataclass(frozen=True)
class Elaborated:
    """A claim expression as a scalar.

    `scalar` reads tensors of the program at coordinates `Index(axis, extent)`; `definitions` are further ones that it
    needs (reductions inside it), in dependency order, not in the program. Where `support` is false the scalar has no
    value (a label that is ignored), and the claim says nothing.
    """

    scalar: Scalar
    definitions: tuple[Definition | Group, ...]
    support: Scalar = TRUE


@dataclass(frozen=True)
class BuiltLoss:
    """A loss with meaning: its program, its claims with every name known to exist, and its scope for more expressions.

    `tensors` maps each name of the file (inputs, definitions, reports, `return`) to the tensor of the program that it
    is; equal definitions share one.
    """

    program: Program
    claims: tuple[tree.Claim, ...]
    tensors: dict[str, str]
    statement: tree.Loss
    source: Source
    _elaborator: Elaborator = field(repr=False, compare=False)
    _place: Place = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.program.name


def elaborate_expression(built: BuiltLoss, node: tree.Expr) -> tuple[Elaborated | None, list[Diagnostic]]:
    """An expression of a claim in the scope of a loss: bounds, conditions of `when`, `on`, `at`.

    Returns the scalar (BOOL for a condition) and the diagnostics; None where there are errors. Never raises.
    """
    e, place = built._elaborator, built._place
    return _elaborate(e, place, {d.tensor for d in built.program.definitions()}, node)


def _elaborate(
    e: Elaborator, place: Place, present: set[str], node: tree.Expr
) -> tuple[Elaborated | None, list[Diagnostic]]:
    sink, frame = Sink(), Frame()
    outer_sink, e.sink, place.owner = e.sink, sink, "claim"
    try:
        with deep():
            scalar = e.expression(e.top_context(frame, unwritten=False), node)
    except Failed:
        return None, sink.found
    finally:
        e.sink = outer_sink
    conditions = tuple(dict.fromkeys(n.condition for n in frame.needs))
    support = TRUE if not conditions else conditions[0] if len(conditions) == 1 else And(conditions)
    needed = _reachable(place.body, _reads(scalar, support))
    further = tuple(d for d in _needed(place.body, needed) if all(m.tensor not in present for m in members(d)))
    return Elaborated(scalar, further, support), sink.found


def _reads(*roots: Scalar) -> set[str]:
    return {*tensors_of(roots)}


def _reachable(body: Sequence[Definition | Group], roots: set[str]) -> set[str]:
    """The tensors that the roots depend on, themselves included; the items stand in dependency order."""
    needed = set(roots)
    for item in reversed(body):
        if any(d.tensor in needed for d in members(item)):
            needed.update(d.tensor for d in members(item))
            needed.update(tensors_read(item))
    return needed


def _needed(body: Sequence[Definition | Group], needed: set[str]) -> tuple[Definition | Group, ...]:
    return tuple(item for item in body if any(d.tensor in needed for d in members(item)))


def _limits_gradients(body: Sequence[Definition | Group], tensor: str) -> bool:
    """Whether a tensor is made with a `clip_gradient`."""
    scalars = (s for item in _needed(body, _reachable(body, {tensor})) for d in members(item) for s in d.scalars())
    return any(isinstance(n, AdjointMap) for n in postorder(*scalars))


class LossBuilder:
    """Builds one loss. `files` has the functions at the top of its file, `built_names` the losses beside it."""

    def __init__(
        self, source: Source, loss: tree.Loss, files: dict[str, FunctionEntity | LossEntity | Unavailable]
    ) -> None:
        self.source, self.loss = source, loss
        self.sink = Sink()
        self.place = Place()
        handlers: dict[str, Handler] = {
            **functions.handlers(),
            **ReductionHandlers(self.place).handlers,
            **Derivatives(self.place).handlers,
        }
        self.e = Elaborator(self.sink, handlers, self.define, Calls(self.place))
        self.e.file_functions = files
        self.e.made = lambda: self.place.definitions
        self.e.calling.append(loss)
        self.stack: list[PendingDefinition] = []

    def build(self) -> tuple[BuiltLoss | None, list[Diagnostic]]:
        """The built loss, or None if it has errors; and all diagnostics."""
        e, body = self.e, self.loss.body
        declare(e, body)
        e.reserved.update(s.name.name for s in body if isinstance(s, tree.Report))
        bodies.check_circles(e)
        find_recurrences(e, list(e.names))
        for entity in list(e.names.values()):
            if isinstance(entity, PendingDefinition):
                self._quietly(entity)
        returns = [s for s in body if isinstance(s, tree.Return)]
        returned: Returned | None = None
        if not returns:
            self.sink.add(
                "E0413", f"`{self.loss.name.name}` returns nothing", self.loss.name.span, "`return mean(per)`"
            )
        for extra in returns[1:]:
            self.sink.add("E0413", "a loss returns once", extra.span, "`report name = ...` returns further values")
        if returns:
            try:
                returned = build_return(e, self.place, returns[0])
            except Failed:
                returned = None
        reports = self._reports([s for s in body if isinstance(s, tree.Report)])
        updates = training.updates(e, self.place, body)
        e.sealed = True
        claims = [s for s in body if isinstance(s, tree.Claim)]
        self._claims(claims, reports)
        self._functions()
        if returned is None or any(d.severity is Severity.ERROR for d in self.sink.found):
            return None, self.sink.found
        program, tensors = self._program(returned, reports, claims, updates)
        built = BuiltLoss(program, tuple(claims), tensors, self.loss, self.source, e, self.place)
        return built, self.sink.found

    def _functions(self) -> None:
        seen = bodies.Seen(frozenset(self.e.names), frozenset(self.e.axes))
        for statement in self.loss.body:
            if isinstance(statement, tree.Def):
                bodies.check_names(self.e, statement, seen, None)

    def _quietly(self, pending: PendingDefinition) -> None:
        if pending.state == "new":
            with suppress(Failed):
                self.define(self.e, pending, pending.statement.span, False)

    # ------------------------------------------------------------------------------------------------ definitions

    def define(self, e: Elaborator, pending: PendingDefinition, span: Span, shifted: bool) -> TensorEntity:
        """The finished tensor of a definition of the file, elaborated now if it is not there yet."""
        name = pending.statement.names[0].name
        if pending.state == "done" and pending.entity is not None:
            return pending.entity
        if pending.state == "broken":
            raise Failed(name)
        if pending.assumed is not None:
            return pending.assumed
        if pending.group and not any(p.assumed for p in pending.group):
            return self._recurrence(pending)
        if pending.state == "busy":
            at = next(k for k, p in enumerate(self.stack) if p is pending)
            names = [p.statement.names[0].name for p in self.stack[at:]]
            chain = " -> ".join([*names, name])
            help = "a recurrence has written axes and reads itself at an earlier position: `a[t] = ... a[t - 1 else 0]`"
            self.sink.add("E0205", f"cyclic definitions: {chain}", span, help)
            raise Failed(name)
        if len(self.stack) > 400:
            raise self.sink.fail("E0707", "definitions are nested too deeply", span, "put them in the order of use")
        pending.state = "busy"
        try:
            pending.entity = self._elaborated(pending)
            pending.state = "done"
        except Failed:
            pending.state = "broken"
            raise
        return pending.entity

    def _elaborated(self, pending: PendingDefinition) -> TensorEntity:
        self.stack.append(pending)
        owner, comment = self.place.owner, self.place.comment
        try:
            return self._define(pending.statement)
        finally:
            self.stack.pop()
            self.place.owner, self.place.comment = owner, comment

    def _recurrence(self, pending: PendingDefinition) -> TensorEntity:
        """Elaborate the definitions that read each other with this one."""
        try:
            Recurrence(self.e, self.place, pending.group, self._elaborated, self._written).run()
        except Failed:
            for p in pending.group:
                p.state, p.assumed = "broken", None
            raise
        assert pending.entity is not None
        return pending.entity

    def _define(self, statement: tree.Definition) -> TensorEntity:
        e, name = self.e, statement.names[0]
        self.place.owner = name.name
        written = self._written(statement)
        frame = Frame(member=bool(self.stack) and self.stack[-1].assumed is not None)
        context = e.top_context(frame, unwritten=written is None)
        part = self.stack[-1].part if self.stack else None
        value = e.expression(context, statement.value) if part is None else e.part(context, statement.value, part)
        free = e.free(value)
        if written is None:
            formals = ordered(e, free)
        else:
            missing = [base_name(i) for i in ordered(e, free) if i not in written]
            if missing:
                axes = ", ".join(f"`{a}`" for a in missing)
                help = "write it on the left, or reduce over it"
                raise self.sink.fail(
                    "E0306", f"{axes} stands on the right of `{name.name}` and not on its left", name.span, help
                )
            formals = written
        words = [*statement.leading, *([statement.trailing] if statement.trailing else [])]
        entity = close(
            e,
            self.place,
            frame,
            tensor=name.name,
            name=name.name,
            head="map",
            formals=formals,
            bound=(),
            where=TRUE,
            body=value,
            written=written is not None,
            span=name.span,
            comment=" ".join(words) or None,
        )
        return entity

    def _written(self, statement: tree.Definition) -> list[Index] | None:
        if statement.axes is None:
            return None
        formals: list[Index] = []
        for item in statement.axes:
            if isinstance(item, tree.FixedAxis):
                raise self.sink.fail("E0501", "an unnamed axis of a definition has no meaning yet", item.span)
            axis = REST if isinstance(item, tree.Rest) else item.name
            self.e.axis(axis, item.span)
            index = self.e.default_index(axis)
            assert isinstance(index, Index)
            if index in formals:
                raise self.sink.fail("E0302", f"axis `{axis}` stands twice on the left", item.span)
            formals.append(index)
        return formals

    # ---------------------------------------------------------------------------------------------------- outputs

    def _reports(self, statements: list[tree.Report]) -> dict[str, TensorEntity]:
        found: dict[str, TensorEntity] = {}
        for statement in statements:
            name = statement.name.name
            if name == "return":
                self.sink.add(
                    "E0202", "`return` is the name of the returned value", statement.name.span, "another name"
                )
                continue
            plain = isinstance(statement.value, tree.Name) and statement.value.id == name
            if name in found or ((name in self.e.names or name in self.e.axes) and not plain):
                help = "a name is one thing in a loss"
                self.sink.add("E0202", f"`{name}` is already declared", statement.name.span, help)
                continue
            self.place.owner = name
            frame = Frame()
            try:
                value = self.e.expression(self.e.top_context(frame), statement.value)
                formals = ordered(self.e, self.e.free(value))
                tensor = f"{name}.report" if plain else name
                entity = close(
                    self.e,
                    self.place,
                    frame,
                    tensor=tensor,
                    name=name,
                    head="map",
                    formals=formals,
                    bound=(),
                    where=TRUE,
                    body=value,
                    written=False,
                    span=statement.name.span,
                )
                fail_needs(self.e, entity)
                found[name] = entity
            except Failed:
                continue
        return found

    def _claims(self, claims: list[tree.Claim], reports: dict[str, TensorEntity]) -> None:
        """Check that what claims speak of exists and that their expressions have a meaning."""
        e = self.e
        for name, entity in reports.items():
            e.names.setdefault(name, entity)
        outputs = {self.loss.name.name} | set(reports)
        for claim in claims:
            if not claim_rules.check(e, claim, outputs):
                continue
            named = {n.id for x in claim_rules.expressions(claim) for n in tree.walk(x) if isinstance(n, tree.Name)}
            if self.loss.name.name in named - set(e.names):
                continue
            for expression in claim_rules.expressions(claim):
                if expression is claim.link:
                    continue
                _, found = _elaborate(e, self.place, set(), expression)
                for d in found:
                    self.sink.add(d.code, d.message, d.span, d.help, d.notes)

    def _program(
        self, returned: Returned, reports: dict[str, TensorEntity], claims: list[tree.Claim], updates: list[Output]
    ) -> tuple[Program, dict[str, str]]:
        e = self.e
        tensors: dict[str, str] = {}
        for name, entity in e.names.items():
            found = entity.entity if isinstance(entity, PendingDefinition) else entity
            if isinstance(found, TensorEntity):
                tensors[name] = found.tensor
        tensors.setdefault("return", returned.tensor)
        for name, entity_ in reports.items():
            tensors[name] = entity_.tensor
        if _limits_gradients(self.place.body, returned.tensor):
            # What is limited is the gradient of the returned value: neither its elements nor another fold have one.
            returned = replace(returned, reductions=None)
        outputs = [Output("return", returned.tensor), *(Output(n, t.tensor) for n, t in reports.items())]
        roots = {o.tensor for o in (*outputs, *updates)}
        if returned.reductions is not None:
            r = returned.reductions
            roots |= {r.mean, r.sum, r.none, r.total, r.weight, r.element}
        target = tensors.get("per", returned.element)
        spoken = {n for c in claims for n in claim_rules.names_of(c)}
        roots |= {tensors[n] for n in spoken if n in tensors} | {target}
        needed = _reachable(self.place.body, roots)
        body = _needed(self.place.body, needed)
        inputs = tuple(e.inputs.values())
        parameters = e.parameters()
        self._unused(needed, body, parameters)
        program = Program(
            self.loss.name.name,
            inputs,
            parameters,
            body,
            tuple(outputs),
            returned.reductions,
            target,
            tuple(updates),
            self.loss.docstring,
        )
        return program, tensors

    def _unused(
        self, needed: set[str], body: tuple[Definition | Group, ...], parameters: tuple[Parameter, ...]
    ) -> None:
        e = self.e
        for name, entity in e.names.items():
            if isinstance(entity, PendingDefinition) and entity.entity is not None:
                if entity.entity.tensor not in needed and name not in e.used:
                    self.sink.add(
                        "W1004", f"`{name}` is never used", entity.statement.names[0].span, "remove it, or report it"
                    )
            elif isinstance(entity, TensorEntity) and entity.is_input and name not in needed:
                self.sink.add("W1004", f"the input `{name}` is never used", entity.span)
        scalars = [s for item in body for d in members(item) for s in postorder(*d.scalars())]
        mentioned = {s.name for s in scalars if isinstance(s, Param)} | e.used
        mentioned |= {x for s in scalars if isinstance(s, Size) for x in s.dim.symbols()}
        for parameter in parameters:
            if parameter.name not in mentioned:
                self.sink.add("W1004", f"the parameter `{parameter.name}` is never used", parameter.origin)


__all__ = ["BuiltLoss", "Elaborated", "LossBuilder", "elaborate_expression", "replace"]
