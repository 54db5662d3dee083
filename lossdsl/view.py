"""A loss in ordinary SymPy, as people read it and as notebooks take it: `loss.sympy`, `show --emit sympy`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

from lossdsl.ir.expression import algebraic
from lossdsl.ir.nodes import REAL, TRUE, Apply, Compare, Definition, Program, Read, Scalar, Select, postorder
from lossdsl.ir.rewrite import free_indices, instantiate, transform
from lossdsl.ir.text import print_scalar

_LONG = 2000  # nodes of a formula that nobody reads as one


class Line(NamedTuple):
    """A definition as people read it: `expression` folded by `head` ("map": not at all) over the axes `over`, of the
    entries where the SymPy condition `where` holds."""

    head: str
    expression: Any
    over: tuple[str, ...]
    where: Any


def sympy_view(program: Program) -> Any:
    """The element of an elementwise loss as one SymPy expression in the names of its inputs and parameters.

    Any other loss, and one that is very long or whose conditions decide on values with branches, gives a dict from the left side of each definition ("lse[n]") to its `Line`. Symbols are real (integer
    for labels). Imports SymPy.
    """
    element = program.definition(program.reductions.element if program.reductions else program.outputs[0].tensor)
    if element is not None and element.head == "map":
        inlined = _inline(program, element.body)
        read = [n for n in postorder(inlined) if isinstance(n, Read)]
        whole = not _branched(inlined) and _length(inlined) <= _LONG
        if whole and all(program.input(r.tensor) is not None and set(r.indices) <= set(element.formals) for r in read):
            return _expression(inlined, {r: r.tensor for r in read})
    return {_left(part): _line(part) for d in program.definitions() for part in _parts(d)}


def sympy_text(program: Program) -> str:
    """`sympy_view` as lines of text."""
    view = sympy_view(program)
    if not isinstance(view, dict):
        return f"{program.name}: {view}"
    return "\n".join(f"{left} = {_text(line)}" for left, line in view.items())


def _line(d: Definition) -> Line:
    over = tuple(print_scalar(index) for index in d.bound)
    return Line(d.head, _expression(d.body, {}), over, _expression(d.where, {}))


def _text(line: Line) -> str:
    if line.head == "map":
        return str(line.expression)
    condition = "" if line.where == True else f" where {line.where}"  # noqa: E712, SymPy's own true
    return f"{line.head}({line.expression} over {', '.join(line.over)}{condition})"


def _inline(program: Program, node: Scalar) -> Scalar:
    plain = [d for d in program.body if isinstance(d, Definition)]  # a recurrence has no end when it is inlined
    maps = {d.tensor: d for d in plain if d.head == "map" and d.support is TRUE}

    def step(n: Scalar) -> Scalar:
        if isinstance(n, Read) and n.tensor in maps:
            return _inline(program, instantiate(maps[n.tensor], n.indices))
        return n

    return transform(node, step)


def _expression(node: Scalar, names: dict[Scalar, str]) -> Any:
    return algebraic(node, names).expression


def _parts(d: Definition) -> list[Definition]:
    """The definition with what makes its formula hard to read as definitions before it (`u.part`): values with branches
    that a condition decides on, and in a very long formula what occurs in it more than once."""
    chosen = _branched(d.body)
    if _length(d.body) > _LONG:
        times = Counter(c for n in postorder(d.body) for c in n.children)
        chosen |= {n for n in times if times[n] > 1 and n.dtype is REAL and _counts(n)}
    made: list[Definition] = []

    def step(old: Scalar, new: Scalar) -> Scalar:
        if old not in chosen or old is d.body:
            return new
        axes = tuple(i for i in (*d.formals, *d.bound) if i in free_indices(new))
        made.append(Definition(f"{d.tensor}.part" + (f".{len(made)}" if made else ""), axes, "map", (), TRUE, new))
        return Read(made[-1].tensor, axes, REAL)

    done: dict[Scalar, Scalar] = {}
    for n in postorder(d.body):
        children = tuple(done[c] for c in n.children)
        done[n] = step(n, n if children == n.children else n.rebuild(children))
    return [*made, replace(d, body=done[d.body])]


def _counts(node: Scalar) -> bool:
    return isinstance(node, Select) or (isinstance(node, Apply) and node.name not in ("neg", "real"))


def _branched(node: Scalar) -> set[Scalar]:
    """The values with branches that conditions decide on."""
    within = [c for n in postorder(node) if isinstance(n, Compare) for c in n.children]
    return {n for n in postorder(*within) if isinstance(n, Select) and n.dtype is REAL}


def _length(node: Scalar) -> int:
    """Nodes of the formula as it is written, what is shared counted wherever it stands."""
    length: dict[Scalar, int] = {}
    for n in postorder(node):
        length[n] = 1 + sum(length[c] for c in n.children)
    return length[node]


def _left(d: Definition) -> str:
    return d.tensor + (f"[{', '.join(print_scalar(i) for i in d.formals)}]" if d.formals else "")
