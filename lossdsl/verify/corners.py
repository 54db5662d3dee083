"""Points with structure for counterexamples to finiteness: parameters at their ends, at one another or tiny, entries that
are all alike, of either sign of one size, or one large among small ones; and axes that are long, with elements alike.

A long axis is given by few places, of which the last one stands for all that are not told apart (`floats`): what a sum
over it is does not depend on which of alike elements is which.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir.extents import symbols_of
from lossdsl.ir.nodes import Param, Program, Size, postorder
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.points import Place, Point, Sampler
from lossdsl.verify.work import passed

_NORMAL = Fraction(1, 2**126)
_SPREADS = (2.0, 0.5, 8.0, 40.0)
_LENGTHS = (2**20, 2**17)


@dataclass(frozen=True)
class Style:
    """Patterns that entries are in, and powers of 2 that they are of."""

    kinds: tuple[str, ...]
    exponents: tuple[int, ...]


_APART = Style(
    ("kept", "alike", "signs", "signs", "one", "ends", "ends"),
    (127, 127, 64, 40, 20, 15, 15, 12, 8, 4, 2, 0, 0, -4, -10, -12, -20),
)
_ALIKE = Style(("kept", "alike", "one", "one", "ends"), (15, 15, 4, 4, 4, 3, 0, -12))
_NOTHING = Style(("zero",), (0,))


@dataclass(frozen=True)
class Numbers:
    """The numbers of a float type: what is represented of each real input and parameter, bits, the smallest one."""

    boxes: Mapping[str, Enclosure]
    bits: int
    least: Fraction


def corners(ctx: Context, numbers: Numbers, end: int) -> Iterator[Point]:
    """Admissible points until the time is up."""
    generator = random.Random(31)
    sampler, misses, k = ctx.sampler(31), 0, 0
    names = sorted(symbols_of(ctx.program))
    while not passed(end) and misses < 60:
        sizes = _sizes(names, generator, k)
        # all parameters tiny and all entries 0 is what squares and their products make 0 / 0 of
        point = _corner(ctx.program, sampler, numbers, generator, sizes, k, _NOTHING if k == 1 else _APART)
        k += 1
        if point is None or not ctx.admits(point):
            misses += 1
            continue
        misses = 0
        yield point


def long_ones(ctx: Context, numbers: Numbers, end: int) -> Iterator[tuple[Point, dict[str, int]]]:
    """Admissible points with the number of elements of their long axes, until the time is up."""
    program, generator = ctx.program, random.Random(37)
    given = {p.name for p in program.parameters}
    names = sorted(symbols_of(program))
    able = [n for n in names if n not in given and n != "..." and not _measured(program, n)]
    sampler, misses, k = ctx.sampler(37), 0, 0
    while able and not ctx.conditions and not passed(end) and misses < 60:
        sizes = dict.fromkeys(names, 2) if k % 3 else dict.fromkeys(names, 1)
        name = able[k % len(able)]
        sizes[name] = 2 if generator.random() < 0.7 else 3
        point = _corner(program, sampler, numbers, generator, sizes, k // len(able), _ALIKE)
        k += 1
        if point is None:
            misses += 1
            continue
        point = _alike(program, point, name)
        if not ctx.admits(point):
            misses += 1
            continue
        misses = 0
        yield point, {name: _LENGTHS[(k // len(able)) % len(_LENGTHS)]}


def _measured(program: Program, name: str) -> bool:
    """Whether the domain of an input or a parameter depends on how long the axis is."""
    declared = [i.range for i in program.inputs] + [p.range for p in program.parameters]
    ends = [n for r in declared for n in (r.lower, r.upper) if n is not None]
    return any(isinstance(n, (Size, Param)) and name in _names(n) for n in postorder(*ends))


def _names(node: Size | Param) -> tuple[str, ...]:
    return tuple(node.dim.symbols()) if isinstance(node, Size) else (node.name,)


def _alike(program: Program, point: Point, name: str) -> Point:
    """Nothing of a simplex or a sphere is at the last place of the axis: copies of it would be too much."""
    last = point.extents[name] - 1
    inputs = dict(point.inputs)
    for i in program.inputs:
        places = [k for k in i.over if i.dims[k] == Dim.symbol(name)]
        if i.kind not in ("simplex", "unit") or not places:
            continue
        entries = dict(inputs[i.name])
        for place, v in inputs[i.name].items():
            if v and any(place[k] == last for k in places):
                first = tuple(0 if k in places else at for k, at in enumerate(place))
                entries[place] = Fraction(0)
                entries[first] = v if i.kind == "unit" else entries[first] + v
        inputs[i.name] = entries
    return Point(point.extents, point.parameters, inputs)


def _sizes(names: list[str], generator: random.Random, k: int) -> dict[str, int]:
    if k % 4 < 2:
        return dict.fromkeys(names, 2 - k % 2)
    if k % 4 == 2 and names:
        return dict.fromkeys(names, 1) | {generator.choice(names): generator.choice((3, 5, 6))}
    return {name: generator.choice((1, 2, 3, 5)) for name in names}


def _corner(
    program: Program,
    sampler: Sampler,
    numbers: Numbers,
    generator: random.Random,
    sizes: Mapping[str, int],
    k: int,
    style: Style = _APART,
) -> Point | None:
    base = sampler.point(spread=_SPREADS[k % 4], sizes=sizes, defaults=k % 3 == 0)
    if base is None:
        return None
    parameters = dict(base.parameters)
    ends = ("least",) if style is _NOTHING else ("least", "mixed", "mixed", "same", "most")
    kind = generator.choice(ends) if k % 3 else "kept"
    for p in program.parameters:
        box = numbers.boxes.get(p.name)
        if p.kind == "real" and box is not None and box.bounded and p.name not in sampler.fixed:
            parameters[p.name] = _parameter(parameters, p.name, box, numbers, generator, kind)
    inputs: dict[str, dict[Place, Fraction]] = {}
    size, kind = Fraction(2) ** generator.choice(style.exponents), generator.choice(style.kinds)
    both = generator.random() < 0.3  # all inputs in one pattern
    for i in program.inputs:
        entries = sampler.entries(i, base.extents, _SPREADS[k % 4], parameters)
        if entries is None:
            return None
        box = numbers.boxes.get(i.name)
        if box is not None and i.kind in ("real", "prob") and box.bounded and i.name not in sampler.fixed:
            pattern = kind if both else generator.choice(style.kinds)
            entries = _patterned(entries, box, numbers, generator, size, pattern)
        inputs[i.name] = entries
    return Point(base.extents, parameters, inputs)


def _parameter(
    known: Mapping[str, Fraction],
    name: str,
    box: Enclosure,
    numbers: Numbers,
    generator: random.Random,
    kind: str,
) -> Fraction:
    value, normal = known[name], max(numbers.least, _NORMAL)
    if kind == "least":
        value = Fraction(box.lo) if box.lo > 0 else normal
    elif kind == "most":
        value = Fraction(box.hi)
    elif kind == "same":
        value = known[generator.choice(sorted(known))]
    elif kind == "mixed":
        tiny = (numbers.least, numbers.least * 8, normal, normal * 4)
        value = generator.choice((value, Fraction(box.lo), Fraction(box.hi), Fraction(1, 2), Fraction(2), *tiny))
    return as_type(value, box, numbers.bits, numbers.least)


def _patterned(
    entries: Mapping[Place, Fraction],
    box: Enclosure,
    numbers: Numbers,
    generator: random.Random,
    size: Fraction,
    kind: str,
) -> dict[Place, Fraction]:
    """The entries in a pattern: as they are, one number, one number of either sign, one large among small ones."""
    if kind == "kept":
        return {p: as_type(v, box, numbers.bits, numbers.least) for p, v in entries.items()}
    if kind == "ends":
        size = Fraction(max(abs(box.lo), abs(box.hi)))
    choices: tuple[Fraction, ...] = (
        (-size, size) if kind != "alike" else (generator.choice((-size, Fraction(0), size)),)
    )
    if kind == "zero":
        choices = (Fraction(0),)
    low, at = generator.choice((Fraction(0), -size, size / 2**12)), generator.randrange(max(1, len(entries)))
    out: dict[Place, Fraction] = {}
    for k, place in enumerate(entries):
        value = (size if k == at else low) if kind == "one" else generator.choice(choices)
        out[place] = as_type(value, box, numbers.bits, numbers.least)
    return out


def as_type(v: Fraction, box: Enclosure, bits: int, least: Fraction) -> Fraction:
    return rounded_to(min(max(v, Fraction(box.lo)), Fraction(box.hi)), bits, least)


def rounded_to(v: Fraction, bits: int, least: Fraction = _NORMAL) -> Fraction:
    """Towards 0, to that many bits, to multiples of `least` at most."""
    if abs(v) < least:
        return Fraction(0)
    if v == 0:
        return v
    size = abs(v)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    unit = Fraction(2) ** (exponent - bits + 1)
    if exponent < 0 and size < Fraction(2) ** exponent:
        unit /= 2
    unit = max(unit, least) if least != _NORMAL else unit
    whole = size // unit
    while whole.bit_length() > bits:
        unit *= 2
        whole = size // unit
    return (1 if v > 0 else -1) * whole * unit


__all__ = ["Numbers", "as_type", "corners", "long_ones", "rounded_to"]
