"""Small extents at which every definition of a program has an element, for samples and plots."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lossdsl.dim import Dim
from lossdsl.ir.nodes import Program

_WINDOW = 4  # what an extent may grow by before its window counts as large


def symbols_of(program: Program) -> set[str]:
    """Every symbol that an extent of the program depends on."""
    dims = [d for i in program.inputs for d in (*i.dims, *((i.classes,) if i.classes else ()))]
    dims += [i.dim for d in program.definitions() for i in (*d.formals, *d.bound)]
    return {s for d in dims for s in d.symbols()}


def roomy(program: Program, extents: Mapping[str, int], fixed: Collection[str], rounds: int) -> dict[str, int]:
    """`extents`, but larger where a definition would be empty: a window needs an image that is larger. Where the window
    is large, what need not be larger than 1 is 1, so that there is not much work in it.

    fixed   symbols that stay as they are: integer parameters
    rounds  how much larger an extent may become
    """
    grown = _grown(program, extents, fixed, rounds)
    if any(grown[s] > size + _WINDOW for s, size in extents.items()):
        grown = _grown(program, {s: n if s in fixed else 1 for s, n in extents.items()}, fixed, rounds)
    return grown


def _grown(program: Program, extents: Mapping[str, int], fixed: Collection[str], rounds: int) -> dict[str, int]:
    made = dict(extents)
    dims = {i.dim for d in program.definitions() for i in (*d.formals, *d.bound)}
    for _ in range(rounds):
        empty = [d for d in dims if d.evaluate(made) < 1]
        able = sorted({s for d in empty for s in d.symbols() if s not in fixed and s != "..." and _grows(d, s)})
        if not able:
            break
        for s in able:
            made[s] += 1
    return made


def _grows(dim: Dim, symbol: str) -> bool:
    """Whether an extent grows with a symbol."""
    ones = dict.fromkeys(dim.symbols(), 1)
    return dim.evaluate({**ones, symbol: 64}) > dim.evaluate(ones)
