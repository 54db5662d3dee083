"""Extents of a program: their symbols, scalars that are polynomials of them, and small ones for samples and plots."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir.nodes import Apply, Const, Program, Scalar, Size, postorder
from lossdsl.primitives.record import Dtype

_WINDOW = 4  # what an extent may grow by before its window counts as large
_FAR = 1 << 16  # an extent at which windows of halves of halves have entries too


def symbols_of(program: Program) -> set[str]:
    """Every symbol that an extent of the program depends on, or that one of its scalars asks the size of."""
    dims = [d for i in program.inputs for d in (*i.dims, *((i.classes,) if i.classes else ()))]
    dims += [i.dim for d in program.definitions() for i in (*d.formals, *d.bound)]
    scalars = [s for d in program.definitions() for s in d.scalars()]
    ranges = [i.range for i in program.inputs] + [p.range for p in program.parameters]
    scalars += [bound for r in ranges for bound in (r.lower, r.upper) if bound is not None]
    dims += [n.dim for n in postorder(*scalars) if isinstance(n, Size)]
    return {s for d in dims for s in d.symbols()}


def polynomial(node: Scalar) -> Dim | None:
    """The polynomial of extents that an INT scalar is (it may be negative), or None."""
    match node:
        case Const(value=Fraction() as value, kind=Dtype.INT):
            return Dim.const(int(value))
        case Size(dim=dim) if all(c > 0 for _, c in dim.terms):
            return dim
        case Apply(name="add" | "sub" | "mul" | "neg", dtype=Dtype.INT):
            parts = [polynomial(a) for a in node.args]
            known = [p for p in parts if p is not None]
            if len(known) < len(parts):
                return None
            if node.name == "neg":
                return -known[0]
            a, b = known
            return a + b if node.name == "add" else a - b if node.name == "sub" else a * b
    return None


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
    return dim.evaluate({**ones, symbol: _FAR}) > dim.evaluate(ones)
