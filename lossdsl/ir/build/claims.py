"""Claims stay syntax trees; here their names are checked, and their expressions can be elaborated."""

from __future__ import annotations

from collections.abc import Iterator

from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.scope import FunctionEntity, suggestion
from lossdsl.syntax import tree

_EXPRESSIONS = ("expression", "bound", "at", "where", "link", "when", "on")


def expressions(claim: tree.Claim) -> Iterator[tree.Expr]:
    """The expressions of a claim, in a fixed order."""
    for name in _EXPRESSIONS:
        value = getattr(claim, name)
        if value is not None:
            yield value


def names_of(claim: tree.Claim) -> set[str]:
    """Every name that a claim speaks of."""
    found = {claim.of} if claim.of else set()
    found |= {i.name for i in claim.inputs}
    for expression in expressions(claim):
        found |= {n.id for n in tree.walk(expression) if isinstance(n, tree.Name)}
    return found


def check(e: Elaborator, claim: tree.Claim, extra: set[str]) -> bool:
    """Whether everything that a claim names exists; records E0601 for what does not. `extra`: names of outputs."""
    known = set(e.names) | extra
    good = True

    def missing(name: str, what: str, span: tree.Node) -> None:
        nonlocal good
        good = False
        e.sink.add(
            "E0601",
            f"this claim is about `{name}`, which is no {what} of this loss",
            span.span,
            "an axis is none" if name in e.axes else suggestion(name, sorted(known | set(e.axes))),
        )

    if claim.of is not None and (claim.of not in known or isinstance(e.names.get(claim.of), FunctionEntity)):
        missing(claim.of, "input, definition or report", claim)
    for ident in claim.inputs:
        if ident.name not in e.names or isinstance(e.names.get(ident.name), FunctionEntity):
            missing(ident.name, "input, parameter or definition", ident)
    for item in claim.over or ():
        if isinstance(item, tree.Axis) and item.name not in e.axes:
            missing(item.name, "axis", item)
    for expression in expressions(claim):
        for node in tree.walk(expression):
            if isinstance(node, tree.Name) and node.id not in known | set(e.axes) | tree.RESERVED:
                missing(node.id, "input, parameter or definition", node)
    return good
