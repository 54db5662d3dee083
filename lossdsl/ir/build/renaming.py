"""Renaming in syntax trees: what is called gets names of its own, so that nothing in it can meet a name of the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from lossdsl.ir.build.scope import REST
from lossdsl.syntax import tree

N = TypeVar("N", bound=tree.Node)


@dataclass(frozen=True)
class Renaming:
    """What names stand for: axes (several for `...`), values, and functions. Spans stay those of the original."""

    axes: Mapping[str, tuple[str, ...]]
    values: Mapping[str, tree.Expr]
    functions: Mapping[str, str]

    def apply(self, node: N) -> N:
        """The node with every name in it replaced."""
        changed: dict[str, Any] = {f.name: self._field(getattr(node, f.name)) for f in fields(node) if f.name != "span"}
        return replace(node, **changed)

    def expression(self, node: tree.Expr) -> tree.Expr:
        renamed = self._one(node)
        return renamed  # type: ignore[return-value]

    def function(self, definition: tree.Def, name: str) -> tree.Def:
        """A function under another name; its arguments and what its body declares stay its own."""
        own = {a.name for a in definition.arguments}
        axes: set[str] = set()
        for argument in definition.arguments:
            if definition.value is None and argument.type is not None:
                axes |= {REST if isinstance(a, tree.Rest) else getattr(a, "name", "") for a in argument.type.axes or ()}
        for statement in definition.body:
            if isinstance(statement, tree.AxisDeclaration):
                axes |= {i.name for i in statement.names}
            elif isinstance(statement, tree.Definition):
                own |= {i.name for i in statement.names}
        inner = Renaming(
            {a: n for a, n in self.axes.items() if a not in axes},
            {v: x for v, x in self.values.items() if v not in own},
            self.functions,
        )
        renamed = inner.apply(replace(definition, arguments=()))
        return replace(renamed, name=replace(definition.name, name=name), arguments=definition.arguments)

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
            case tree.Access(base=tree.Name(id=name)) if _is_literal(self.values.get(name)):
                return self.values[name]  # an optional input that is not given is its default at every position
            case tree.Access():
                return self._access(value)
            case tree.Call():
                return replace(self.apply(value), function=self.functions.get(value.function, value.function))
            case tree.Def():
                return self.function(value, value.name.name)
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


def _is_literal(node: tree.Expr | None) -> bool:
    while isinstance(node, tree.Paren):
        node = node.inner
    return isinstance(node, tree.Number)


__all__ = ["Renaming"]
