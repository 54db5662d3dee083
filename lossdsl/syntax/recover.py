"""What can still be said of a loss some of whose statements could not be read.

`sound_part` keeps the statements that have nothing to do with the unread ones, neither directly nor through others: what
is wrong with those is wrong whatever the unread statements turn out to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

from lossdsl.syntax import tree
from lossdsl.syntax.lines import Lexeme

DECLARING = ("input", "param", "learnable", "state")


def lost(loss: str, words: list[Lexeme], definition: bool) -> tree.Lost:
    """The names of one statement, from its words alone; `definition`: it begins `name =` or `name[...] =`."""
    names = [w.text for w in words if w.kind == "name"]
    first = words[0].text
    declared: list[str] = []
    if definition or first in (*DECLARING, "axis"):
        end = ":" if first in DECLARING and not definition else "="
        place = next((k for k, w in enumerate(words) if w.text == end), len(words))
        declared = [w.text for w in words[0 if definition else 1 : place] if w.kind == "name"]
    elif first in ("def", "report"):
        declared = names[1:2]
    called = {a.text for a, b in pairwise(words) if b.text == "("}
    return tree.Lost(loss, frozenset(declared), frozenset(names) - called)


def sound_part(loss: tree.Loss, unread: list[tree.Lost], broken: frozenset[str]) -> tree.Loss:
    """The loss without what depends on unread statements, or on the things named by `broken`."""
    known = {name for statement in loss.body for name in declares(statement)}
    doubtful = set(broken).union(*(one.declared | (one.mentioned - known) for one in unread))
    kept = list(loss.body)
    while True:
        tainted = [statement for statement in kept if doubtful & set(mentions(statement))]
        if not tainted:
            return replace(loss, body=tuple(kept))
        doubtful.update(name for statement in tainted for name in declares(statement))
        kept = [statement for statement in kept if all(statement is not t for t in tainted)]


def declares(statement: tree.Statement) -> Iterator[str]:
    """The names that a statement brings in, the axes of an input among them."""
    match statement:
        case tree.Declaration(names=names, type=type_):
            yield from (name.name for name in names)
            yield from (axis.name for axis in type_.axes or () if isinstance(axis, tree.Axis))
        case tree.AxisDeclaration(names=names) | tree.Definition(names=names):
            yield from (name.name for name in names)
        case tree.Def(name=name) | tree.Report(name=name):
            yield name.name


def mentions(root: tree.Node) -> Iterator[str]:
    """Every word of a statement that may be a name."""
    stack: list[Any] = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            stack.extend(value)
        elif isinstance(value, tree.Node):
            stack.extend(getattr(value, f.name) for f in fields(value) if f.compare)
