"""Calling a loss, or a function block: its statements become hidden definitions of the caller.

Each call renames the definitions to `name.k.definition` and gives every axis a name of its own, `name.k.axis`, over the
extent of the argument's: two axes of the callee may so be bound to one axis of the caller. What it returns is read back
under the caller's axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lossdsl.diagnostics import Span
from lossdsl.dim import Dim
from lossdsl.ir.build import arguments
from lossdsl.ir.build.bodies import own
from lossdsl.ir.build.declarations import Extents, fit
from lossdsl.ir.build.define import Place
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.lasting import Lasting, has_lasting
from lossdsl.ir.build.recurrence import find as find_recurrences
from lossdsl.ir.build.renaming import Renaming
from lossdsl.ir.build.scope import (
    REST,
    AxisEntity,
    Context,
    FunctionEntity,
    PendingDefinition,
    Slot,
    TensorEntity,
    suggestion,
)
from lossdsl.ir.nodes import INT, REAL, Input, Scalar
from lossdsl.syntax import tree


@dataclass(frozen=True)
class Formal:
    """An argument: a tensor if it has axes, else an expression."""

    name: str
    type: tree.Type | None
    default: tree.Expr | None = None
    needs_axes: bool = False

    @property
    def axes(self) -> tuple[tree.Axis | tree.Rest | tree.FixedAxis, ...] | None:
        if self.needs_axes:
            return (self.type.axes or ()) if self.type is not None else ()
        return self.type.axes if self.type is not None else None


@dataclass(frozen=True)
class Callee:
    """A loss or a function block, as far as a call is concerned."""

    name: str
    formals: tuple[Formal, ...]
    body: tuple[tree.Statement, ...]
    returns: tuple[tree.Expr, ...]
    is_loss: bool
    sees_caller: bool
    source: object  # the tree, for its identity

    @property
    def usage(self) -> str:
        return f"`{self.name}({', '.join(f.name for f in self.formals)})`"


@dataclass(frozen=True)
class Instance:
    """One call: the hidden names of what is returned, and the positions of the caller that hidden axes stand for."""

    prefix: str
    results: tuple[str, ...]
    slots: Mapping[str, Slot]
    shifted: bool
    kept: tuple[object, ...] = field(compare=False, default=())


class Calls:
    """Handlers of calls, bound to the place where hidden definitions go."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def loss(self, e: Elaborator, ctx: Context, loss: tree.Loss, node: tree.Call) -> Scalar:
        """The value of `loss(inputs, parameter = ...)`."""
        return self.value(e, ctx, _loss(e, loss, node), node, None)

    def block(
        self, e: Elaborator, ctx: Context, entity: FunctionEntity, node: tree.Call, part: int | None = None
    ) -> Scalar:
        """The value of a function block, or one of its values."""
        return self.value(e, ctx, _block(e, entity, node), node, part)

    def value(self, e: Elaborator, ctx: Context, callee: Callee, node: tree.Call, part: int | None) -> Scalar:
        if node.has_clauses:
            raise e.sink.fail("E0412", f"`{callee.name}` is not a reduction: it takes no clauses", node.span)
        if len(e.calling) > 16:
            raise e.sink.fail("E0707", "calls are nested too deeply", node.span)
        if any(c is callee.source for c in e.calling):
            raise e.sink.fail("E0205", f"`{callee.name}` calls itself", node.span, "a recurrence has written axes")
        count = len(callee.returns)
        if part is None and count != 1:
            names = ", ".join("pqrstuvw"[:count])
            message = f"`{callee.name}` returns {count} values"
            raise e.sink.fail("E0413", message, node.span, f"take them apart: `{names} = {node.function}(...)`")
        instance = self.instance(e, ctx, callee, node)
        name = instance.results[part or 0]
        e.calling.append(callee.source)
        try:
            entity = e.lookup(replace(ctx, loss_names=True), name, node.span)
        finally:
            e.calling.pop()
        assert isinstance(entity, TensorEntity)
        return self._read(e, ctx, callee, instance, entity, node)

    def _read(
        self, e: Elaborator, ctx: Context, callee: Callee, instance: Instance, entity: TensorEntity, node: tree.Call
    ) -> Scalar:
        slots: list[Slot] = []
        for slot in entity.slots:
            outer = instance.slots.get(slot.axis)
            if outer is None and slot.axis.startswith(instance.prefix):
                own = slot.axis.rpartition(".")[2]
                message = f"what `{callee.name}` returns has the axis `{own}` of its own"
                raise e.sink.fail("E0307", message, node.span, "reduce over it in the function")
            if outer is None:
                slots.append(slot)
                continue
            if not outer.axis:
                message = f"what `{callee.name}` returns has an axis that the caller has not named"
                raise e.sink.fail("E0309", message, node.span, "name the axis in the input")
            slots.append(
                Slot(
                    outer.axis,
                    outer.full,
                    outer.lower + slot.lower,
                    outer.lower + slot.upper,
                    outer.step * slot.step,
                    slot.grid or outer.grid,
                )
            )
        names = [s.axis for s in slots]
        for axis in names:
            if names.count(axis) > 1:
                help = f"`axis m = {axis}`, and list the axes of one argument: `{callee.name}(x, y[m, ...])`"
                message = f"what `{callee.name}` returns would have the axis `{axis}` twice"
                raise e.sink.fail("E0302", message, node.span, help)
        if entity.needs and instance.shifted:
            raise e.sink.fail("E0405", entity.needs[0].message, entity.needs[0].span, entity.needs[0].help)
        view = replace(entity, slots=tuple(slots))
        return e.read(ctx, view, [None] * len(slots), node.span)

    # -------------------------------------------------------------------------------------------------- instances

    def instance(self, e: Elaborator, ctx: Context, callee: Callee, node: tree.Call) -> Instance:
        """The hidden definitions of one call; the same call is elaborated once. Inside of a function it is the same only
        where that is the same call, too."""
        path = tuple(id(call) for _, call in ctx.calls)
        key = (id(callee.source), id(node), path, ctx.loss_names)
        known = e.instances.get(key)
        if isinstance(known, Instance):
            return known
        e.call_count += 1
        prefix = f"{callee.name}.{e.call_count}."
        binder = _Binder(e, self.place, ctx, callee, node, prefix)
        made = replace(binder.run(), kept=(callee.source, node, *ctx.calls))
        e.instances[key] = made
        return made


class _Binder:
    """Binds the arguments of one call and enters the hidden names."""

    def __init__(self, e: Elaborator, place: Place, ctx: Context, callee: Callee, node: tree.Call, prefix: str) -> None:
        self.e, self.place, self.ctx, self.callee, self.node, self.prefix = e, place, ctx, callee, node, prefix
        self.axes: dict[str, tuple[str, ...]] = {}
        self.slots: dict[str, Slot] = {}
        self.values: dict[str, tree.Expr] = {}
        self.shifted = False

    def run(self) -> Instance:
        e, callee, prefix = self.e, self.callee, self.prefix
        keywords = self._parameters()
        given = self._given(keywords)
        tensors: list[tuple[Formal, TensorEntity]] = []
        for formal in callee.formals:
            argument = given.get(formal.name)
            if argument is None:
                assert formal.default is not None
                self.values[formal.name] = tree.Paren(inner=formal.default, span=self.node.span)
            elif formal.axes is not None:
                asked = formal.type is not None and formal.type.kind == "bool"
                found = arguments.tensor(e, self.place, self.ctx, argument, f"`{callee.name}`", asked)
                tensors.append((formal, self._fitting(formal, found, argument)))
            else:
                self._expression(formal, argument)
        for formal, found in tensors:
            self._tensor(formal, found, given[formal.name])
        absent = [f for f in callee.formals if f.name not in given]
        if _folded_alone(callee, {f.name for f in absent}):
            for formal in absent:
                self._absent(formal)
        lasting = Lasting(e, callee.name, prefix, callee.body)
        self.values.update(lasting.names())
        lines: dict[str, tuple[str, ...]] = {
            i.name: () for s in callee.body if isinstance(s, tree.AxisDeclaration) for i in s.names
        }
        self.axes.update(lasting.new_axes({**self.axes, **lines}, self.node.span))
        names = self._declared()
        renaming = Renaming(self.axes, self.values, self.functions)
        for statement in callee.body:
            if isinstance(statement, tree.AxisDeclaration):
                self._axis_line(statement, renaming)
        renaming = Renaming(self.axes, self.values, self.functions)
        lasting.declare(renaming, self.slots)
        for statement in callee.body:
            if isinstance(statement, tree.Definition):
                self._definition(statement, renaming)
            elif isinstance(statement, tree.Def):
                name = prefix + statement.name.name
                e.names[name] = FunctionEntity(renaming.function(statement, name), True)
        results = []
        for k, value in enumerate(callee.returns):
            name = f"{prefix}return" + (f".{k}" if len(callee.returns) > 1 else "")
            ident = tree.Ident(name=name, span=self.node.span)
            axes = () if callee.is_loss else None
            body = tree.Definition(names=(ident,), axes=axes, value=renaming.expression(value), span=self.node.span)
            e.names[name] = PendingDefinition(body)
            results.append(name)
        find_recurrences(e, [*names, *results])
        e.used.update([*names, *results])
        return Instance(prefix, tuple(results), self.slots, self.shifted)

    # ------------------------------------------------------------------------------------------ what is given

    def _parameters(self) -> dict[str, tree.Keyword]:
        """Values of the parameters of a loss; returns the keywords that name none."""
        left = {k.name: k for k in self.node.keywords}
        for statement in self.callee.body:
            if not isinstance(statement, tree.Declaration) or statement.keyword != "param":
                continue
            for k, ident in enumerate(statement.names):
                keyword = left.pop(ident.name, None)
                if keyword is not None:
                    given = arguments.setting(self.e, self.ctx, keyword.value)
                    fit(self.e, statement.type, f"`{ident.name}` of `{self.callee.name}`", given, keyword.value.span)
                    found = arguments.scalar(self.e, self.place, self.ctx, keyword.value)
                    self._value(ident.name, found, keyword.span)
                elif statement.defaults:
                    default = statement.defaults[k if len(statement.defaults) > 1 else 0]
                    self.values[ident.name] = tree.Paren(inner=default, span=self.node.span)
                else:
                    message = f"the parameter `{ident.name}` of `{self.callee.name}` is needed"
                    raise self.e.sink.fail("E0401", message, self.node.span)
        return left

    def _given(self, keywords: Mapping[str, tree.Keyword]) -> dict[str, tree.Expr]:
        formals = [f.name for f in self.callee.formals]
        if len(self.node.arguments) > len(formals):
            raise self.e.arity(self.node, self.callee.usage)
        given = dict(zip(formals, self.node.arguments, strict=False))
        for keyword in keywords.values():
            if keyword.name not in formals or keyword.name in given:
                what = "parameter" if self.callee.is_loss else "free argument"
                message = f"`{self.callee.name}` has no {what} `{keyword.name}`"
                raise self.e.sink.fail("E0410", message, keyword.span)
            given[keyword.name] = keyword.value
        if any(f.name not in given and f.default is None for f in self.callee.formals):
            raise self.e.arity(self.node, self.callee.usage)
        return given

    def _expression(self, formal: Formal, argument: tree.Expr) -> None:
        found = arguments.scalar(self.e, self.place, self.ctx, argument)
        if formal.type is not None and isinstance(found, TensorEntity) and found.slots:
            message = f"`{formal.name}` of `{self.callee.name}` is a number, and this has axes"
            raise self.e.sink.fail("E0302", message, argument.span)
        self._value(formal.name, found, argument.span)

    def _value(self, name: str, found: tree.Expr | TensorEntity, span: Span) -> None:
        if isinstance(found, TensorEntity):
            self.e.names[self.prefix + name] = replace(found, name=name, is_input=False)
            self.values[name] = tree.Name(id=self.prefix + name, span=span)
        else:
            self.values[name] = found

    def _fitting(self, formal: Formal, found: TensorEntity, argument: tree.Expr) -> TensorEntity:
        kind = formal.type.kind if formal.type is not None else "real"
        if found.dtype is REAL and Input("", (), (), kind).dtype is INT and kind not in ("binary", "sign"):
            message = f"`{formal.name}` of `{self.callee.name}` is `{kind}`, and this is real"
            raise self.e.sink.fail("E0406", message, argument.span)
        return found

    # ------------------------------------------------------------------------------------------------ axes

    def _tensor(self, formal: Formal, found: TensorEntity, argument: tree.Expr) -> None:
        """Bind the axes of one argument by position, and enter it under its hidden name."""
        declared, slots = formal.axes or (), found.slots
        rest = any(isinstance(d, tree.Rest) for d in declared)
        spare = len(slots) - len(declared) + 1
        if spare < 0 if rest else spare != 1:
            message = f"the axes of this argument do not fit `{formal.name}` of `{self.callee.name}`"
            have = ", ".join(s.axis or str(s.full) for s in slots)
            raise self.e.sink.fail("E0302", message, argument.span, f"it has [{have}]")
        hidden: list[Slot] = []
        at = 0
        for item in declared:
            count = spare if isinstance(item, tree.Rest) else 1
            mine = slots[at : at + count]
            at += count
            if isinstance(item, tree.FixedAxis):
                if mine[0].upper - mine[0].lower != Dim.const(item.extent):
                    message = f"`{formal.name}` of `{self.callee.name}` has {item.extent} entries there"
                    raise self.e.sink.fail("E0302", message, argument.span)
                hidden.append(Slot.whole("", Dim.const(item.extent)))
                continue
            name = REST if isinstance(item, tree.Rest) else item.name
            bound = self._bind(name, mine, argument)
            hidden += [Slot.whole(h, self.e.axes[h].dim) for h in bound]
        if found.needs and any(s.lower.terms for s in slots):
            raise self.e.sink.fail("E0405", found.needs[0].message, found.needs[0].span, found.needs[0].help)
        view = replace(found, name=formal.name, slots=tuple(hidden), written=True, is_input=False)
        self._value(formal.name, view, argument.span)

    def _absent(self, formal: Formal) -> None:
        """The default of an optional input as a definition over its axes, if other arguments have bound them."""
        names = [REST if isinstance(a, tree.Rest) else getattr(a, "name", "") for a in formal.axes or ()]
        if formal.default is None or not names or any(n not in self.axes for n in names):
            return
        hidden = tuple(tree.Axis(name=h, span=self.node.span) for n in names for h in self.axes[n])
        ident = tree.Ident(name=self.prefix + formal.name, span=self.node.span)
        body = tree.Definition(names=(ident,), axes=hidden, value=self.values[formal.name], span=self.node.span)
        self.e.names[ident.name] = PendingDefinition(body)
        self.e.used.add(ident.name)
        self.values[formal.name] = tree.Name(id=ident.name, span=self.node.span)

    def _bind(self, name: str, slots: Sequence[Slot], argument: tree.Expr) -> tuple[str, ...]:
        known = self.axes.get(name)
        if known is not None:
            have = [self.e.axes[h].dim for h in known]
            if have != [s.upper - s.lower for s in slots]:
                a, b = ", ".join(map(str, have)), ", ".join(str(s.upper - s.lower) for s in slots)
                message = f"the axis `{name}` of `{self.callee.name}` would have the extents {a} and {b}"
                raise self.e.sink.fail("E0302", message, argument.span)
            return known
        made: list[str] = []
        for k, slot in enumerate(slots):
            own = f"{self.prefix}{name}" if name != REST else f"{self.prefix}rest{k}"
            self._axis(own, slot.upper - slot.lower, own, argument.span)
            self.slots[own] = slot
            self.shifted = self.shifted or bool(slot.lower.terms)
            made.append(own)
        self.axes[name] = tuple(made)
        return self.axes[name]

    def _axis(self, name: str, dim: Dim, root: str, span: Span) -> None:
        self.e.axes[name] = AxisEntity(name, dim, root, len(self.e.axes), span)

    def _axis_line(self, statement: tree.AxisDeclaration, renaming: Renaming) -> None:
        """`axis s = 2 * u + 1` in the callee."""
        e = self.e
        value = renaming.expression(statement.extent)
        inner = value.inner if isinstance(value, tree.Paren) else value
        dim = Extents.of(e).value(value)
        for ident in statement.names:
            bound = self.axes.get(ident.name)
            if bound is not None:
                if [e.axes[b].dim for b in bound] != [dim]:
                    message = f"the axis `{ident.name}` of `{self.callee.name}` has {dim} entries"
                    raise e.sink.fail("E0302", message, self.node.span)
                continue
            own = self.prefix + ident.name
            root = e.axes[inner.id].root if isinstance(inner, tree.Name) and inner.id in e.axes else own
            self._axis(own, dim, root, ident.span)
            self.axes[ident.name] = (own,)

    # -------------------------------------------------------------------------------------------- definitions

    def _declared(self) -> list[str]:
        """Hidden names of what the callee defines; its own names are checked if it may not see the caller's."""
        names: list[str] = []
        self.functions: dict[str, str] = {}
        own_axes = set(self.axes)
        for statement in self.callee.body:
            if isinstance(statement, tree.Definition):
                for ident in statement.names:
                    self.values[ident.name] = tree.Name(id=self.prefix + ident.name, span=ident.span)
                    names.append(self.prefix + ident.name)
            elif isinstance(statement, tree.Def):
                self.functions[statement.name.name] = self.prefix + statement.name.name
            elif isinstance(statement, tree.AxisDeclaration):
                own_axes |= {i.name for i in statement.names}
        if not self.callee.sees_caller:
            self._closed(own_axes)
        return names

    def _closed(self, own_axes: set[str]) -> None:
        """A loss, or a function at the top of a file, sees its own names only."""
        known = {*self.values, *own_axes, *tree.RESERVED, *self.functions}
        body = self.callee.body
        parts: list[tree.Node] = [
            s for s in body if isinstance(s, (tree.Definition, tree.AxisDeclaration, tree.Update, tree.Def))
        ]
        for node in [*parts, *self.callee.returns]:
            names, axes = (known, own_axes) if not isinstance(node, tree.Def) else _inside(node, known, own_axes)
            for inner in tree.walk(node):
                name = inner.id if isinstance(inner, tree.Name) else ""
                axis = (
                    inner.name if isinstance(inner, tree.Axis) else inner.axis if isinstance(inner, tree.ByName) else ""
                )
                if (name and name not in names) or (axis and axis not in axes):
                    missing = name or axis
                    what = "a loss" if self.callee.is_loss else "a function at the top of a file"
                    help = suggestion(missing, sorted(known)) or f"{what} sees its own names only"
                    code, what = ("E0201", "name") if name else ("E0206", "axis")
                    raise self.e.sink.fail(code, f"unknown {what} `{missing}`", inner.span, help)

    def _definition(self, statement: tree.Definition, renaming: Renaming) -> None:
        several = len(statement.names) > 1
        for k, ident in enumerate(statement.names):
            hidden = replace(ident, name=self.prefix + ident.name)
            renamed = replace(renaming.apply(replace(statement, names=())), names=(hidden,))
            self.e.names[hidden.name] = PendingDefinition(renamed, part=(k, len(statement.names)) if several else None)


def _folded_alone(callee: Callee, absent: set[str]) -> bool:
    """Whether some call of the callee is made of absent optional inputs and numbers only, as `sum(w)`: it needs their
    axes. Everywhere else the default is the number that it is."""
    flat = set(absent)
    numbers = {i.name for s in callee.body if isinstance(s, tree.Declaration) and s.keyword == "param" for i in s.names}

    def only(node: tree.Node) -> bool:
        names = {n.id for n in tree.walk(node) if isinstance(n, tree.Name)}
        return bool(names & flat) and names <= flat | numbers | tree.RESERVED

    definitions = [s for s in callee.body if isinstance(s, tree.Definition)]
    for _ in definitions:
        flat |= {i.name for s in definitions if only(s.value) for i in s.names}
    parts = [*definitions, *callee.returns] if flat else []
    return any(
        isinstance(n, tree.Call) and any(only(a) for a in n.arguments) for part in parts for n in tree.walk(part)
    )


def _inside(function: tree.Def, names: set[str], axes: set[str]) -> tuple[set[str], set[str]]:
    """The names and axes that the body of a function in a loss sees, with those of the loss."""
    mine, own_axes = own(function)
    return names | mine | own_axes, axes | own_axes


def _loss(e: Elaborator, loss: tree.Loss, node: tree.Call) -> Callee:
    name = loss.name.name
    if e.sealed and has_lasting(loss.body):
        help = "define it in the loss, `value = ...`, and speak of `value`"
        raise e.sink.fail(
            "E0414", f"a claim cannot call `{name}`, which has state or learnable values", node.span, help
        )
    formals: list[Formal] = []
    for statement in loss.body:
        keyword = statement.keyword if isinstance(statement, tree.Declaration) else ""
        if isinstance(statement, tree.Declaration) and keyword == "input":
            for k, ident in enumerate(statement.names):
                default = None
                if statement.defaults:
                    default = statement.defaults[k if len(statement.defaults) > 1 else 0]
                formals.append(Formal(ident.name, statement.type, default, needs_axes=True))
    returns = [s for s in loss.body if isinstance(s, tree.Return)]
    if len(returns) != 1 or len(returns[0].values) != 1:
        raise e.sink.fail("E0413", f"`{name}` does not return one value", node.span)
    return Callee(name, tuple(formals), loss.body, returns[0].values, True, False, loss)


def _block(e: Elaborator, entity: FunctionEntity, node: tree.Call) -> Callee:
    definition = entity.definition
    name = definition.name.name
    returns = [s for s in definition.body if isinstance(s, tree.Return)]
    if len(returns) != 1:
        raise e.sink.fail("E0413", f"`{name}` has not one `return`", definition.name.span)
    formals = tuple(Formal(a.name, a.type) for a in definition.arguments)
    return Callee(name, formals, definition.body, returns[0].values, False, entity.in_loss, definition)


__all__ = ["Calls"]
