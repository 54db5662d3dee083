"""A syntax tree as text: one node a line (`show --emit tree`), and the lines of a loss that are its formula."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction

from lossdsl.diagnostics import NOWHERE
from lossdsl.syntax import tree
from lossdsl.syntax.format import format_module

_HIDDEN = {"span", "function_span", "leading", "trailing", "blank_before", "closing", "text"}


def dump(module: tree.Module) -> str:
    """The tree as indented text; fields that are empty are left out."""
    lines: list[str] = []
    _node(module, "", 0, lines)
    return "\n".join(lines)


def formula(loss: tree.Loss) -> tuple[str, ...]:
    """The definitions and the returned value of a loss as the file has them, formatted, without comments."""
    kinds = (tree.AxisDeclaration, tree.Def, tree.Definition, tree.Report, tree.Return)
    bare: dict[str, object] = {"detached": (), "leading": (), "trailing": None, "blank_before": False}
    body = tuple(replace(s, **bare) for s in loss.body if isinstance(s, kinds))  # type: ignore[arg-type]
    alone = replace(loss, docstring=None, body=body, closing=(), **bare)  # type: ignore[arg-type]
    text = format_module(tree.Module(span=NOWHERE, items=(alone,)))
    return tuple(line[4:] for line in text.splitlines()[1:] if line.strip())


def _node(node: tree.Node, label: str, depth: int, lines: list[str]) -> None:
    words, children = [], []
    for f in fields(node):
        value = getattr(node, f.name)
        if f.name in _HIDDEN or value in (None, (), False):
            continue
        if isinstance(value, tree.Node):
            children.append((f.name, value))
        elif isinstance(value, tuple) and all(isinstance(v, tree.Node) for v in value):
            children.extend((f.name if k == 0 else "", v) for k, v in enumerate(value))
        else:
            words.append(f"{f.name}={str(value) if isinstance(value, Fraction) else repr(value)}")
    head = f"{label}: " if label else ""
    lines.append(
        "  " * depth + head + " ".join([type(node).__name__, *words]) + f"  @{node.span.line}:{node.span.column}"
    )
    for name, child in children:
        _node(child, name, depth + 1, lines)
