"""Where a loss is drawn: extents, and the values of all that is not varied; what it takes to evaluate it there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from lossdsl.ir.cost import cost
from lossdsl.ir.extents import roomy
from lossdsl.ir.nodes import REAL, Const, Group, Input, Program, Range, postorder
from lossdsl.ir.rewrite import members

ENTRIES = 4  # extent of every named axis that is not swept
LARGEST = 4096  # what extents may grow by where a window needs more entries
SPACE = 1 << 24  # points at which one definition is evaluated at once: more do not fit into memory
_NODE = 1000  # counted operations in whose time one node is dispatched


class CannotPlot(Exception):
    """The loss has no input to vary, or the plotting library is missing; the message says which."""


# ---------------------------------------------------------------------------------------------------- extents


def extents(program: Program, most: int) -> dict[str, int]:
    """Small extents for which every definition has an element.

    most    work of one evaluation (see `work`)

    Raises CannotPlot where all that would do are too large.
    """
    given = int_parameters(program)
    found = {symbol: ENTRIES for i in program.inputs for dim in i.dims for symbol in dim.symbols()}
    found |= given  # an integer parameter may be an extent
    found = roomy(program, found, set(given), LARGEST)
    if any(i.dim.evaluate(found) < 1 for d in program.definitions() for i in (*d.formals, *d.bound)):
        raise CannotPlot(f"{program.name} is about inputs that are larger than a plot can vary")
    affordable(program, found, most)
    return found


# ---------------------------------------------------------------------------------------------------- work


def work(program: Program, sizes: Mapping[str, int], known: Collection[str] = ()) -> int:
    """What one evaluation by the interpreter takes, of all that is not known: counted operations, and for every node
    that it comes to, once in each step of a recurrence, as many as are done in that time."""
    total = 0
    for item in program.body:
        for d in members(item):
            if d.tensor not in known:
                steps = prod(_ordered(item, sizes)) if isinstance(item, Group) else 1
                total += cost(d, sizes) + _NODE * steps * sum(1 for _ in postorder(*d.scalars()))
    return total


def _ordered(group: Group, sizes: Mapping[str, int]) -> Iterator[int]:
    """Extents of the axes along which a recurrence is stepped."""
    for axis, _ in group.order:
        yield max(i.dim.evaluate(sizes) for d in group.definitions for i in d.formals if i.name == axis)


def affordable(program: Program, sizes: Mapping[str, int], most: int) -> None:
    """Raises CannotPlot where a program is too large to be evaluated, in memory or in work."""
    for item in program.body:
        steps = {axis for axis, _ in item.order} if isinstance(item, Group) else set()
        for d in members(item):
            points = prod(i.dim.evaluate(sizes) for i in (*d.formals, *d.bound) if i.name not in steps)
            if points > SPACE:
                raise CannotPlot(f"{program.name} has {points:.1e} points in one tensor, too many for a plot")
    operations = work(program, sizes)
    if operations > most:
        raise CannotPlot(f"{program.name} takes {operations:.1e} operations at each point, too many for a plot")


# ---------------------------------------------------------------------------------------------------- values


def ordinary(i: Input, sizes: Mapping[str, int]) -> np.ndarray:
    """Equal entries inside the domain: the default if there is one; 0 where that is inside, else the middle, or 1 away
    from the end, or the integer that is nearest; 1 for labels that are yes or no, the first class."""
    shape = tuple(d.evaluate(sizes) for d in i.dims)
    if i.default is not None:
        kind = np.float64 if i.dtype is REAL else np.int64
        return np.full(shape, float(i.default.value), dtype=kind)
    if i.kind == "simplex":
        return np.full(shape, 1.0 / max(1, shape[i.over[0]]))
    if i.kind == "unit":
        return np.full(shape, max(1, prod(shape[k] for k in i.over)) ** -0.5)
    if i.kind in ("binary", "sign", "bool"):
        return np.ones(shape, dtype=np.int64)
    lower, upper = number(i.range.lower, -np.inf), number(i.range.upper, np.inf)
    if i.kind in ("class", "int"):
        return np.full(shape, int(np.clip(0, lower, upper)), dtype=np.int64)
    value = float(np.clip(0.0, lower, upper))
    if value == lower and np.isfinite(upper):
        value = (lower + upper) / 2
    elif value == lower and i.range.lower is not None:
        value = lower + 1.0
    elif value == upper and i.range.upper is not None:
        value = upper - 1.0
    return np.full(shape, value)


def spread(i: Input, given: np.ndarray, size: float) -> np.ndarray:
    """Real values: ordinary ones plus a ramp from -size to size over all entries, inside the domain. Labels: the first
    two classes in pairs, or what of a range is nearest to 1 and 0. States as they are at first."""
    if i.role == "state":
        return given
    if i.kind in ("class", "int"):
        pairs = np.arange(given.size).reshape(given.shape) // 2 % 2
        if i.range != Range():
            ends = number(i.range.lower, -np.inf), number(i.range.upper, np.inf)
            return np.clip(1 - pairs, *ends).astype(np.int64)
        return pairs if i.classes is None or i.classes.constant is None or i.classes.constant > 1 else given
    if i.kind != "real":
        return given
    lower, upper = number(i.range.lower, -np.inf), number(i.range.upper, np.inf)
    reach = min(
        size, size * float(np.min(given - lower, initial=1.0)), size * float(np.min(upper - given, initial=1.0))
    )
    ramp: np.ndarray = np.linspace(-reach, reach, given.size).reshape(given.shape)
    moved: np.ndarray = np.asarray(given + ramp)
    return moved


def number(bound: Any, otherwise: float) -> float:
    """A bound that is a number, else `otherwise`."""
    return float(bound.value) if isinstance(bound, Const) and isinstance(bound.value, Fraction) else otherwise


def parameters(program: Program) -> dict[str, float | int | bool]:
    """Parameters at their defaults. Raises CannotPlot where one has none."""
    found: dict[str, float | int | bool] = {}
    for p in program.parameters:
        if p.default is None:
            raise CannotPlot(f"parameter '{p.name}' has no default")
        value = float(p.default.value)
        found[p.name] = {"real": value, "int": int(value), "bool": bool(value)}[p.kind]
    return found


def int_parameters(program: Program) -> dict[str, int]:
    """Those that may be extents."""
    return {name: int(v) for name, v in parameters(program).items() if isinstance(v, int)}
