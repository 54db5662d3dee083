"""A loss in ordinary SymPy, as people read it and as notebooks take it: `loss.sympy`, `show --emit sympy`."""

from __future__ import annotations

from typing import Any, NamedTuple

from lossdsl.ir.expression import algebraic, symbols
from lossdsl.ir.nodes import TRUE, Definition, Program, Read, Scalar, postorder
from lossdsl.ir.rewrite import instantiate, transform
from lossdsl.ir.text import print_scalar


class Line(NamedTuple):
    """A definition as people read it: `expression` folded by `head` ("map": not at all) over the axes `over`, of the
    entries where the SymPy condition `where` holds."""

    head: str
    expression: Any
    over: tuple[str, ...]
    where: Any


def sympy_view(program: Program) -> Any:
    """The element of an elementwise loss as one SymPy expression in the names of its inputs and parameters.

    Any other loss gives a dict from the left side of each definition ("lse[n]") to its `Line`. Symbols are real (integer
    for labels). Imports SymPy.
    """
    element = program.definition(program.reductions.element if program.reductions else program.outputs[0].tensor)
    if element is not None and element.head == "map":
        inlined = _inline(program, element.body)
        read = [n for n in postorder(inlined) if isinstance(n, Read)]
        if all(program.input(r.tensor) is not None and set(r.indices) <= set(element.formals) for r in read):
            return _expression(inlined, {r: r.tensor for r in read})
    return {_left(d): _line(d) for d in program.definitions()}


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
    expression = algebraic(node).expression
    table = symbols(node)
    taken = [str(s) for n, s in table.items() if n not in names]
    plain = {
        table[n]: type(table[n])(name, **table[n]._assumptions_orig) for n, name in names.items() if name not in taken
    }
    return expression.xreplace(plain) if plain else expression


def _left(d: Definition) -> str:
    return d.tensor + (f"[{', '.join(print_scalar(i) for i in d.formals)}]" if d.formals else "")
