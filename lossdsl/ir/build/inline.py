"""Calling a loss inside another one: its statements become hidden definitions of the caller, under the caller's axes.

Each call renames the called loss's definitions to `name.k.definition`, so nothing of it can meet a name of the caller.
Inputs are bound by position to tensors whose axes are written, parameters by keyword; its axes become the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from lossdsl.dim import Dim
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.scalars import strip
from lossdsl.ir.build.scope import REST, AxisEntity, Context, PendingDefinition, TensorEntity
from lossdsl.ir.nodes import Scalar
from lossdsl.syntax import tree

N = TypeVar("N", bound=tree.Node)


@dataclass(frozen=True)
class _Renaming:
    """What names of the called loss stand for: axes (several for `...`), values, and calls."""

    axes: Mapping[str, tuple[str, ...]]
    values: Mapping[str, tree.Expr]
    functions: Mapping[str, str]

    def apply(self, node: N) -> N:
        """The node with every name replaced; spans stay those of the called loss."""
        changed: dict[str, Any] = {f.name: self._field(getattr(node, f.name)) for f in fields(node) if f.name != "span"}
        return replace(node, **changed)

    def _field(self, value: object) -> object:
        if isinstance(value, tuple):
            return tuple(x for item in value for x in self._items(item))
        return self._one(value)

    def _items(self, item: object) -> Sequence[object]:
        if isinstance(item, tree.Rest):
            # in lists of axes and in accesses alike, `...` is each of the caller's axes that it packs
            return [tree.Axis(name=a, span=item.span) if a != REST else item for a in self.axes.get(REST, (REST,))]
        return [self._one(item)]

    def _one(self, value: object) -> object:
        match value:
            case tree.Name(id=name) if name in self.values:
                return self.values[name]
            case tree.Name(id=name) if name in self.axes:
                return replace(value, id=self.axes[name][0])
            case tree.Axis(name=name) if name in self.axes:
                return replace(value, name=self.axes[name][0])
            case tree.ByName():
                renamed = self.apply(value)
                return replace(renamed, axis=self.axes.get(value.axis, (value.axis,))[0])
            case tree.Access():
                return self._access(value)
            case tree.Call():
                return replace(self.apply(value), function=self.functions.get(value.function, value.function))
            case tree.Node():
                return self.apply(value)
        return value

    def _access(self, node: tree.Access) -> tree.Access:
        items: list[tree.ByName | tree.Rest | tree.Expr] = []
        for item in node.items:
            if isinstance(item, tree.Rest):
                names = self.axes.get(REST, (REST,))
                items += [item if a == REST else tree.Name(id=a, span=item.span) for a in names]
            else:
                renamed = self._one(item)
                assert isinstance(renamed, tree.Node)
                items.append(renamed)  # type: ignore[arg-type]
        base = self._one(node.base)
        otherwise = self._one(node.otherwise)
        return replace(node, base=base, items=tuple(items), otherwise=otherwise)  # type: ignore[arg-type]


def call_loss(e: Elaborator, ctx: Context, loss: tree.Loss, node: tree.Call) -> Scalar:
    """The value of `loss(inputs, parameter = ...)` in the loss that is being built."""
    name = loss.name.name
    if name in e.calling:
        raise e.sink.fail("E0205", f"`{name}` calls itself", node.span)
    if ctx.locals or any(c is not None for c in (node.over, node.where, node.otherwise, node.direction)):
        raise e.unavailable("calling a loss inside a function, or with clauses", node.span)
    allowed = (tree.Declaration, tree.Definition, tree.AxisDeclaration, tree.Return, tree.Report, tree.Claim)
    for statement in loss.body:
        keyword = statement.keyword if isinstance(statement, tree.Declaration) else "input"
        if not isinstance(statement, allowed) or keyword not in ("input", "param"):
            raise e.unavailable(f"calling `{name}`, which has state, learnable values or functions,", node.span)
    e.call_count += 1
    prefix = f"{name}.{e.call_count}."
    returns = [s for s in loss.body if isinstance(s, tree.Return)]
    if len(returns) != 1 or len(returns[0].values) != 1:
        raise e.sink.fail("E0413", f"`{name}` does not return one value", node.span)
    values = _parameters(e, loss, node)
    axes = _inputs(e, ctx, loss, node, values)
    definitions = [s for s in loss.body if isinstance(s, tree.Definition)]
    if any(len(d.names) != 1 for d in definitions):
        raise e.unavailable("a definition of several names", node.span)
    _axes(e, loss, node, values, axes, prefix)
    for definition in definitions:
        own = definition.names[0]
        values[own.name] = tree.Name(id=prefix + own.name, span=own.span)
    renaming = _Renaming(axes, values, {})
    for definition in definitions:
        own = definition.names[0]
        hidden = replace(renaming.apply(replace(definition, names=())), names=(replace(own, name=prefix + own.name),))
        e.names[prefix + own.name] = PendingDefinition(hidden)
        e.used.add(prefix + own.name)
    result = tree.Ident(name=prefix + "return", span=loss.name.span)
    value = renaming._one(returns[0].values[0])
    body = tree.Definition(names=(result,), axes=(), value=value, span=node.span)  # type: ignore[arg-type]
    e.names[result.name] = PendingDefinition(body)
    e.used.add(result.name)
    e.calling.append(name)
    try:
        return e.name(replace(ctx, loss_names=True), tree.Name(id=result.name, span=node.span))
    finally:
        e.calling.pop()


def _parameters(e: Elaborator, loss: tree.Loss, node: tree.Call) -> dict[str, tree.Expr]:
    given = {k.name: k for k in node.keywords}
    values: dict[str, tree.Expr] = {}
    for statement in loss.body:
        if not isinstance(statement, tree.Declaration) or statement.keyword != "param":
            continue
        for k, ident in enumerate(statement.names):
            keyword = given.pop(ident.name, None)
            if keyword is not None:
                values[ident.name] = tree.Paren(inner=keyword.value, span=keyword.span)
            elif statement.defaults:
                default = statement.defaults[k if len(statement.defaults) > 1 else 0]
                values[ident.name] = tree.Paren(inner=default, span=node.span)
            else:
                raise e.sink.fail("E0401", f"the parameter `{ident.name}` of `{loss.name.name}` is needed", node.span)
    for keyword in given.values():
        raise e.sink.fail("E0410", f"`{loss.name.name}` has no parameter `{keyword.name}`", keyword.span)
    return values


def _inputs(
    e: Elaborator, ctx: Context, loss: tree.Loss, node: tree.Call, values: dict[str, tree.Expr]
) -> dict[str, tuple[str, ...]]:
    """Bind inputs to arguments; returns what the axes of the called loss stand for."""
    axes: dict[str, tuple[str, ...]] = {}
    wanted = [(i, s) for s in loss.body if isinstance(s, tree.Declaration) and s.keyword == "input" for i in s.names]
    if len(node.arguments) > len(wanted) or any(not s.defaults for _, s in wanted[len(node.arguments) :]):
        raise e.arity(node, f"`{loss.name.name}({', '.join(i.name for i, _ in wanted)})`")
    for k, (ident, statement) in enumerate(wanted):
        if k >= len(node.arguments):
            default = statement.defaults[statement.names.index(ident) if len(statement.defaults) > 1 else 0]
            values[ident.name] = tree.Paren(inner=default, span=node.span)
            continue
        argument = strip(node.arguments[k])
        entity = e.lookup(ctx, argument.id, argument.span) if isinstance(argument, tree.Name) else None
        if not isinstance(entity, TensorEntity) or any(s.restricted or not s.axis for s in entity.slots):
            help = "name the value as a definition with written axes, `z[n, c] = ...`, and pass it"
            raise e.sink.fail("E0303", "a loss is called with inputs and definitions over whole axes", node.span, help)
        if not entity.written and len(entity.slots) > 1:
            help = f"write `{entity.name}[{', '.join(s.axis for s in entity.slots)}] = ...`"
            raise e.sink.fail("E0303", f"the axes of `{entity.name}` are not written", node.arguments[k].span, help)
        _bind(e, ident.name, statement.type.axes or (), [s.axis for s in entity.slots], axes, node)
        assert isinstance(argument, tree.Name)
        values[ident.name] = argument
    return axes


def _bind(
    e: Elaborator,
    name: str,
    declared: Sequence[tree.Axis | tree.Rest | tree.FixedAxis],
    have: list[str],
    axes: dict[str, tuple[str, ...]],
    node: tree.Call,
) -> None:
    rest = any(isinstance(d, tree.Rest) for d in declared)
    spare = len(have) - len(declared) + 1
    if any(isinstance(d, tree.FixedAxis) for d in declared) or (spare < 0 if rest else spare != 1):
        raise e.sink.fail("E0302", f"the axes of this argument do not fit the input `{name}`", node.span)
    at = 0
    for item in declared:
        key = REST if isinstance(item, tree.Rest) else item.name if isinstance(item, tree.Axis) else ""
        count = spare if key == REST else 1
        bound = tuple(have[at : at + count])
        at += count
        if axes.setdefault(key, bound) != bound:
            text = f"the axis `{key}` of `{node.function}` would be `{', '.join(axes[key])}` and `{', '.join(bound)}`"
            raise e.sink.fail("E0302", text, node.span)


def _axes(
    e: Elaborator,
    loss: tree.Loss,
    node: tree.Call,
    values: Mapping[str, tree.Expr],
    axes: dict[str, tuple[str, ...]],
    prefix: str,
) -> None:
    """Axes that the called loss declares by itself become hidden axes of the caller."""
    for statement in loss.body:
        if not isinstance(statement, tree.AxisDeclaration):
            continue
        value = strip(statement.extent)
        for ident in statement.names:
            if ident.name in axes:
                raise e.unavailable("calling a loss that fixes the extent of an input's axis", node.span)
            root = prefix + ident.name
            if isinstance(value, tree.Name) and value.id in axes and len(axes[value.id]) == 1:
                source = e.axes[axes[value.id][0]]
                dim, root = source.dim, source.root
            elif isinstance(value, tree.Number) and value.value.denominator == 1 and value.value >= 0:
                dim = Dim.const(int(value.value))
            else:
                raise e.unavailable("calling a loss whose extents are computed", node.span)
            hidden = prefix + ident.name
            e.axes[hidden] = AxisEntity(hidden, dim, root, len(e.axes), ident.span)
            axes[ident.name] = (hidden,)


__all__ = ["call_loss"]
