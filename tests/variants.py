"""Rewrites of a `.loss` text that keep its meaning: what a compiler without templates must not notice.

Each function takes a parsed module with one loss and gives another, or None where it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

from lossdsl.diagnostics import Source
from lossdsl.syntax import tree
from lossdsl.syntax.format import format_module
from lossdsl.syntax.parser import parse

Rewrite = Callable[[tree.Module], tree.Module | None]
# words with a meaning; `per` is what claims are about
KEPT = {"per", "pi", "inf", "nan", "true", "false", "last", "step"}


def rewrite_text(text: str, rewrite: Rewrite) -> str | None:
    """The formatted text of the rewritten module, or None."""
    module, problems = parse(Source("<variant>", text))
    assert not problems, problems
    changed = rewrite(module)
    return None if changed is None else format_module(changed)


def map_nodes(node: Any, change: Callable[[Any], Any]) -> Any:
    """The tree with `change` applied to every node, children first."""
    if isinstance(node, tuple):
        return tuple(map_nodes(n, change) for n in node)
    if not isinstance(node, tree.Node):
        return node
    new = {f.name: map_nodes(getattr(node, f.name), change) for f in fields(node) if f.name != "span"}
    return change(replace(node, **new))


def the_loss(module: tree.Module) -> tree.Loss:
    return next(i for i in module.items if isinstance(i, tree.Loss))


def with_body(module: tree.Module, body: tuple[tree.Statement, ...]) -> tree.Module:
    loss = the_loss(module)
    return replace(module, items=tuple(replace(i, body=body) if i is loss else i for i in module.items))


def renamed(name: str) -> str:
    return name if name in KEPT else f"{name}_r"


def rename(module: tree.Module) -> tree.Module:
    """Every tensor, parameter, axis and definition gets another name (the loss keeps its own)."""
    loss = the_loss(module)
    functions = {s.name.name for s in loss.body if isinstance(s, tree.Def)}

    def change(node: Any) -> Any:
        if isinstance(node, tree.Name):
            return replace(node, id=renamed(node.id))
        if isinstance(node, tree.Ident | tree.Axis | tree.DefArgument):
            return replace(node, name=renamed(node.name))
        if isinstance(node, tree.ByName):
            return replace(node, axis=renamed(node.axis))
        if isinstance(node, tree.Claim) and node.of is not None:
            return replace(node, of=renamed(node.of))
        if isinstance(node, tree.Call) and node.function in functions:
            return replace(node, function=renamed(node.function))
        return node

    return with_body(module, map_nodes(loss.body, change))


def reorder(module: tree.Module) -> tree.Module | None:
    """Parameters before inputs and in reverse order; definitions as late as their readers allow."""
    body = the_loss(module).body
    inputs = [s for s in body if isinstance(s, tree.Declaration) and s.keyword != "param"]
    params = [s for s in body if isinstance(s, tree.Declaration) and s.keyword == "param"]
    axes = [s for s in body if isinstance(s, tree.AxisDeclaration)]
    definitions = [s for s in body if isinstance(s, tree.Definition)]
    rest = [s for s in body if s not in inputs + params + axes + definitions]
    ordered: list[tree.Definition] = []
    for definition in reversed(definitions):
        ordered.insert(0, definition)
        place = 0
        while place + 1 < len(ordered) and not _reads(ordered[place + 1], definition.names[0].name):
            ordered[place], ordered[place + 1] = ordered[place + 1], ordered[place]
            place += 1
    changed = (*reversed(params), *inputs, *axes, *ordered, *rest)
    return with_body(module, changed) if changed != body else None


def _reads(node: Any, name: str) -> bool:
    found = False

    def look(n: Any) -> Any:
        nonlocal found
        found = found or (isinstance(n, tree.Name) and n.id == name)
        return n

    map_nodes(node, look)
    return found


def negate_differences(module: tree.Module) -> tree.Module | None:
    """`a - b` becomes `-(b - a)`, outside of indices and claims."""
    changes = 0

    def change(node: Any) -> Any:
        nonlocal changes
        if isinstance(node, tree.Binary) and node.op == "-":
            changes += 1
            inner = replace(node, left=_grouped(node.right), right=_grouped(node.left))
            return tree.Paren(inner=tree.Unary(op="-", operand=tree.Paren(inner=inner)))
        return node

    def outside(node: Any) -> Any:
        if isinstance(node, tuple):
            return tuple(outside(n) for n in node)
        if isinstance(node, tree.Claim | tree.Declaration | tree.AxisDeclaration) or not isinstance(node, tree.Node):
            return node
        if isinstance(node, tree.Access):
            return replace(node, base=outside(node.base))
        new = {f.name: outside(getattr(node, f.name)) for f in fields(node) if f.name != "span"}
        return change(replace(node, **new))

    changed = with_body(module, outside(the_loss(module).body))
    return changed if changes else None


def _grouped(expression: Any) -> Any:
    simple = isinstance(expression, tree.Number | tree.Name | tree.Paren | tree.Call | tree.Access | tree.Table)
    return expression if simple else tree.Paren(inner=expression)


def regularise(module: tree.Module) -> tree.Module | None:
    """`return e` becomes `return e + 0.1 * mean(x^2)` for the first real input x."""
    loss = the_loss(module)
    x = first_real(loss)
    if x is None:
        return None
    square = tree.Binary(op="^", left=tree.Name(id=x), right=tree.Number(text="2", value=Fraction(2)))
    extra = tree.Binary(
        op="*",
        left=tree.Number(text="0.1", value=Fraction(1, 10)),
        right=tree.Call(function="mean", arguments=(square,)),
    )
    body = tuple(
        replace(s, values=(tree.Binary(op="+", left=s.values[0], right=extra),)) if isinstance(s, tree.Return) else s
        for s in loss.body
        if not isinstance(s, tree.Claim)
    )
    return with_body(module, body)


def first_real(loss: tree.Loss) -> str | None:
    """The first input that has a gradient and a name for each of its axes."""
    for d in loss.body:
        if (
            isinstance(d, tree.Declaration)
            and d.keyword == "input"
            and d.type.kind in ("real", "prob", "simplex", "unit")
        ):
            if not any(isinstance(a, tree.FixedAxis) for a in d.type.axes or ()):
                return d.names[0].name
    return None


def split(module: tree.Module) -> tree.Module | None:
    """`x = a op b` becomes `x_part = a; x = x_part op b`, where no axes are written and both sides are elementwise;
    `return mean(e)` becomes `e_part = e; return mean(e_part)`, where the mean is over everything."""
    body: list[tree.Statement] = []
    changes = 0
    for s in the_loss(module).body:
        value = s.value if isinstance(s, tree.Definition) else None
        if isinstance(s, tree.Definition) and s.axes is None and isinstance(value, tree.Binary) and value.op in "+-*/":
            part = tree.Ident(name=f"{s.names[0].name}_part")
            if not isinstance(value.left, tree.Number):
                body.append(tree.Definition(names=(part,), axes=None, value=value.left))
                s = replace(s, value=replace(value, left=tree.Name(id=part.name)))
                changes += 1
        if isinstance(s, tree.Return) and len(s.values) == 1 and isinstance(s.values[0], tree.Call):
            call = s.values[0]
            whole = call.function in ("mean", "sum") and call.over is None and call.where is None
            if (
                whole
                and len(call.arguments) == 1
                and isinstance(call.arguments[0], tree.Binary | tree.Call | tree.Unary)
            ):
                body.append(tree.Definition(names=(tree.Ident(name="e_part"),), axes=None, value=call.arguments[0]))
                s = replace(s, values=(replace(call, arguments=(tree.Name(id="e_part"),)),))
                changes += 1
        body.append(s)
    return with_body(module, tuple(body)) if changes else None


def _kept(loss: tree.Loss) -> set[str]:
    """Names that brackets cannot stand for: those read by position, and those that a function has for its own argument."""
    found: set[str] = set()

    def look(n: Any) -> Any:
        if isinstance(n, tree.Access) and isinstance(n.base, tree.Name):
            if not all(isinstance(i, tree.ByName) for i in n.items):
                found.add(n.base.id)
        if isinstance(n, tree.Def):
            found.update(a.name for a in n.arguments)
        return n

    for s in loss.body:
        map_nodes(s, look)
    return found


def inline(module: tree.Module) -> tree.Module | None:
    """Definitions without written axes are put in brackets where they are read; `per` and what claims name stay."""
    loss = the_loss(module)
    kept = {"per"} | {s.of for s in loss.body if isinstance(s, tree.Claim)} | _kept(loss)
    claimed = [s for s in loss.body if isinstance(s, tree.Claim)]
    candidates = [
        s
        for s in loss.body
        if isinstance(s, tree.Definition)
        and s.axes is None
        and s.names[0].name not in kept
        and not any(_reads(c, s.names[0].name) for c in claimed)
    ]
    if not candidates:
        return None
    body = loss.body
    for definition in candidates:
        name = definition.names[0].name
        current = next(s for s in body if isinstance(s, tree.Definition) and s.names[0].name == name)

        def change(node: Any, name: str = name, value: Any = current.value) -> Any:
            return tree.Paren(inner=value) if isinstance(node, tree.Name) and node.id == name else node

        body = tuple(map_nodes(s, change) for s in body if s is not current)
    return with_body(module, body)


VARIANTS: dict[str, Rewrite] = {
    "rename": rename,
    "reorder": reorder,
    "negate differences": negate_differences,
    "regularise": regularise,
    "split": split,
    "inline": inline,
}
