"""Finiteness in a float type: of values and gradients as they are compiled, in the arithmetic that they are compiled to.

float16 and bfloat16 are computed with in float32. A value is finite in float32, a gradient after it is rounded to the type of
its input. What is compiled is what the compiler makes of the source (`lossdsl.transform.gradient`): the statement is about
that program, whose operations are then looked at here, one by one.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lossdsl.certificate.arithmetic import LARGEST, Float
from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.computed import Computed
from lossdsl.certificate.coverings import text
from lossdsl.certificate.domain import Point, admit, fraction, point_of
from lossdsl.certificate.float_bounds import LONGEST, FloatBounds, float_of
from lossdsl.certificate.points import Place, Undecided, Values, ball, certain, sign
from lossdsl.certificate.question import FINITE, Question
from lossdsl.certificate.ranks import RANKING
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.extents import symbols_of
from lossdsl.ir.nodes import (
    BOOL,
    REAL,
    Apply,
    Definition,
    Index,
    Param,
    Program,
    Read,
    Scalar,
    Size,
    postorder,
    tensors_of,
)
from lossdsl.transform.gradient import NotYetError, gradient, value
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

Trace = list[list[str]]
COMPUTED, BEYOND = "a point in float arithmetic", "a value far beyond the type"
_FAR = Fraction(3, 2)
_ROUNDS = 1.003  # nothing beyond the largest number by as much rounds back to it


@dataclass(frozen=True)
class Format:
    """A float type: bits of a mantissa, the largest number, what still rounds to it, the last digit of the least numbers."""

    bits: int
    largest: float
    rounds: float
    digit: Fraction


FORMATS = {
    "float32": Format(24, LARGEST, LARGEST, Fraction(1, 2**149)),
    "float16": Format(11, 65504.0, 65519.0, Fraction(1, 2**24)),
    "bfloat16": Format(8, float.fromhex("0x1.fep127"), float.fromhex("0x1.fep127"), Fraction(1, 2**133)),
}


def _format(q: Question) -> Format:
    return FORMATS[q.property.removeprefix(FINITE)]


@dataclass(frozen=True)
class Compiled:
    """A program, its tensors that have to be finite, and the largest number that they may be."""

    program: Program
    tensors: tuple[str, ...]
    gradient: bool

    def needed(self) -> list[Definition]:
        """The definitions that these tensors are made of."""
        bounds = Bounds(self.program)
        return list(dict.fromkeys(d for t in self.tensors for d in bounds.needed(t)))

    def limit(self, form: Format) -> float:
        return form.rounds if self.gradient else LARGEST


@functools.lru_cache(maxsize=8)
def compiled(program: Program, target: str) -> tuple[Compiled, ...]:
    """The value, and the gradient in every real input that it depends on. Raises Stuck where there is none."""
    bounds = Bounds(program)
    read = {t for d in bounds.needed(target) for t in tensors_of(d.scalars())}
    moved = tuple(i.name for i in program.inputs if i.differentiable and i.name in read)
    try:
        found = [Compiled(value(program, target), (target,), False)]
        if moved:
            derived = gradient(program, target, moved)
            names = tuple(out.tensor for out in derived.outputs if out.name != "return")
            found.append(Compiled(derived, names, True))
    except (ValueError, NotImplementedError, KeyError, NotYetError) as problem:
        raise Stuck(f"no program is compiled: {problem}") from problem
    return tuple(found)


# ------------------------------------------------------------------------------------------- counterexamples


def of_point(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A tensor, and an element of it, that is no number of the type at the point. Raises Stuck where none is seen."""
    form = _format(q)
    point, long = _point(q, entry)
    for part in compiled(q.program, q.of):
        limit = part.limit(form) * _ROUNDS
        values = Computed(part.program, point[0], point[1], _with_seed(part.program, q.of, point), long)
        for tensor in part.tensors:
            for place in _places(part.program, tensor, point[0]):
                found = _element(values, tensor, place)
                if found is not None and found.beyond(limit):
                    return {"tensor": tensor, "element": list(place), "values": [written(found)]}
    raise Stuck("nothing is certainly infinite or NaN at the point")


def of_value(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A tensor, and an element of it, that is more than 3/2 of the largest number, without rounding: what is computed is
    infinite, or off by more than a third. Raises Stuck where none is seen."""
    form = _format(q)
    point, long = _point(q, entry)
    if long:
        raise Stuck("exact values of long axes")
    for part in compiled(q.program, q.of):
        inputs, limit = _with_seed(part.program, q.of, point), Fraction(part.limit(form)) * _FAR

        shown: list[str] = []

        def far(v: Values, tensor: str, place: Place, limit: Fraction = limit, shown: list[str] = shown) -> bool:
            found = ball(v.element(tensor, place))
            shown[:] = [found.str(30, radius=False)]
            return sign(abs(found) - ball(limit)) > 0

        for tensor in part.tensors:
            for place in _places(part.program, tensor, point[0]):
                with contextlib.suppress(Stuck):
                    make = functools.partial(Values, part.program, point[0], point[1], inputs)
                    if certain(lambda v, t=tensor, p=place, far=far: far(v, t, p), make):  # type: ignore[misc]
                        return {"tensor": tensor, "element": list(place), "values": shown}
    raise Stuck("nothing is far beyond the type at the point")


def _point(q: Question, entry: Mapping[str, Any]) -> tuple[Point, dict[str, int]]:
    """The point, of numbers of the type in their domains, and the axes that have more elements than it shows. Raises Stuck."""
    form = _format(q)
    (written,) = entry["points"]
    shown, said = _parted(written)
    point = point_of(q, {"points": [_in_full(q, shown, said)]}, 0, said)
    long = {name: n for name, n in said.items() if n > point[0].get(name, n)}
    if any(n != point[0].get(name) for name, n in said.items() if name not in long):
        raise Stuck("an extent that is less than the point shows")
    for d in q.program.definitions():
        if d.head in ("max", "min", *RANKING) and any(i.dim.evaluate(point[0]) <= 0 for i in d.bound):
            raise Stuck("an axis without an entry, over which a maximum is taken")  # it has one, in every claim
    if long:
        _may_be_long(q, point, long)
    for name, entries in point[2].items():
        declared = q.program.input(name)
        for v in entries.values() if declared is not None and declared.dtype is REAL else ():
            if not _is_of(v, form):
                raise Stuck(f"{name} = {v} is no number of the type")
    for p in q.program.parameters:
        usual = [q.fixed.get(p.name), None if p.default is None else p.default.value]
        # as it is passed, or computed with
        taken = [v for u in usual if isinstance(u, Fraction) for v in (u, _as_single(u))]
        if p.dtype is REAL and point[1][p.name] not in taken and not _is_of(point[1][p.name], form):
            raise Stuck(f"{p.name} = {point[1][p.name]} is no number of the type")
    admit(q, point)
    return point, long


def sized(points: list[dict[str, str]], extents: Mapping[str, int]) -> list[dict[str, str]]:
    """The point, with extents that it does not show."""
    sizes = {f"size({name})": str(n) for name, n in extents.items()}
    return [{**point, **sizes} for point in points]


def _parted(written: Mapping[str, str]) -> tuple[dict[str, str], dict[str, int]]:
    """A point without the extents that are said, which are at most 2^31, and these. Raises Stuck."""
    point, said = {}, {}
    for name, number in written.items():
        if name.startswith("size(") and name.endswith(")"):
            n = fraction(number)
            if n.denominator != 1 or not 0 <= n <= LONGEST:
                raise Stuck(f"{name} is {number}")
            said[name.removeprefix("size(").removesuffix(")")] = int(n)
        else:
            point[name] = number
    return point, said


def _may_be_long(q: Question, point: Point, long: Mapping[str, int]) -> None:
    """Raises Stuck unless what holds of the entries that are shown holds where the last ones are there more often."""
    if any(p.name in long for p in q.program.parameters):
        raise Stuck("an extent that is a parameter")
    for i in q.program.inputs:
        for k in i.over if i.kind in ("simplex", "unit") else ():
            last = {name: point[0][name] - 1 for name in long if name in i.dims[k].symbols()}
            if any(at[k] == end and v for end in last.values() for at, v in point[2][i.name].items()):
                raise Stuck(f"{i.name} with more entries")
    declared = [*(i.range for i in q.program.inputs), *(p.range for p in q.program.parameters)]
    ends = [end for r in declared for end in (r.lower, r.upper) if end is not None]
    if any(isinstance(n, (Size, Index)) for n in postorder(*q.conditions, *ends)):
        raise Stuck("a condition on the extents")


def _in_full(q: Question, point: Mapping[str, str], extents: Mapping[str, int]) -> Mapping[str, str]:
    """The point; where it says an input as a whole, every entry is meant, and any label."""
    if not any(i.dims and i.name in point for i in q.program.inputs):
        return point
    found = {name: value for name, value in point.items() if q.program.input(name) is None}
    sizes = {**dict.fromkeys(symbols_of(q.program), 1), **extents}
    for i in q.program.inputs:
        label = "1" if i.kind == "sign" else "0"
        for at in itertools.product(*(range(d.evaluate(sizes)) for d in i.dims)):
            entry = f"{i.name}[{', '.join(map(str, at))}]" if at else i.name
            if i.name not in q.fixed:
                found[entry] = point.get(i.name, label)
    return found


def _as_single(v: Fraction) -> Fraction:
    """The nearest number of float32; itself where there is none."""
    try:
        near: float = struct.unpack("f", struct.pack("f", float(v)))[0]
    except OverflowError:
        return v
    return Fraction(near)


def _is_of(v: Fraction, form: Format) -> bool:
    """Whether a rational is a number of the type."""
    n = abs(v.numerator)
    short = (n // (n & -n)).bit_length() <= form.bits if n else True
    return short and abs(v) <= form.largest and (v / form.digit).denominator == 1


def _with_seed(program: Program, target: str, point: Point) -> dict[str, Mapping[Place, Fraction]]:
    """The inputs, and 1 for the cotangent of each element of the target."""
    extents, _, inputs = point
    seed = program.input(f"{target}'")
    if seed is None or seed.name in inputs:
        return {**inputs}
    places = itertools.product(*(range(d.evaluate(extents)) for d in seed.dims))
    return {**inputs, seed.name: dict.fromkeys(places, Fraction(1))}


def _places(program: Program, tensor: str, extents: Mapping[str, int]) -> Iterator[Place]:
    d = program.definition(tensor)
    return iter(()) if d is None else itertools.product(*(range(i.dim.evaluate(extents)) for i in d.formals))


def _element(values: Computed, tensor: str, place: Place) -> Float | None:
    try:
        return values.element(tensor, place)
    except (Stuck, Undecided, RecursionError, ValueError, OverflowError, ZeroDivisionError):
        return None


def written(v: Float) -> str:
    parts = [] if v.box is None else [f"[{v.box.lo.hex()}, {v.box.hi.hex()}]"]
    return " or ".join([*parts, *(word for word, there in (("inf", v.up), ("-inf", v.down), ("nan", v.nan)) if there)])


# ---------------------------------------------------------------------------------------------------- proofs


def of_ranges(q: Question) -> Trace:
    """What every tensor is in, for all numbers of the type."""
    return _ranges(q, q.assume, {})


Split = tuple[str, ...]  # an input, a parameter, or the sum or difference of entries of two inputs


def of_parts(q: Question) -> Trace:
    """The same, part by part: for each value of labels, and in boxes of entries, their differences, or parameters, which are
    halved where that is not seen. Of entries it is right where one element is made of one entry of each input; where it is not,
    parameters alone are halved, which are the same numbers everywhere."""
    of_one = all(_is_of_one_entry(d) for part in compiled(q.program, q.of) for d in part.needed())
    labels = [i for i in q.program.inputs if of_one and (i.dtype is BOOL or i.kind in ("binary", "sign"))]
    choices = [[(i.name, v) for v in ((-1.0, 1.0) if i.kind == "sign" else (0.0, 1.0))] for i in labels]
    reason = Stuck("no number that could be halved")
    parameters = [(p.name,) for p in q.program.parameters]
    found = {split: v for split, v in _numbers(q).items() if of_one or split in parameters}
    for k in (1, 2):
        for splits in itertools.combinations(found, k):
            trace: Trace = [[" ".join(split) for split in splits]]
            try:
                for choice in itertools.product(*choices):
                    trace += _boxes(q, choice, [found[split] for split in splits])
            except Stuck as stuck:
                reason = stuck
                continue
            return trace
    raise reason


def _numbers(q: Question) -> dict[Split, tuple[list[Scalar], Enclosure]]:
    """What may be halved: the scalars that are it, which are computed the same everywhere, and what it is in as a whole."""
    found: dict[Split, tuple[list[Scalar], Enclosure]] = {}
    for part in compiled(q.program, q.of):
        bounds = _bounds(part.program, q, q.assume)
        for d in part.needed():
            case = bounds.body(d)
            for n in postorder(*d.scalars()):
                split = _split(q, n)
                if split is not None and not case[n].nan and case[n].bounded:
                    nodes, box = found.get(split, ([], case[n]))
                    found[split] = ([*nodes, n], e.hull(box, case[n]))
    return dict(sorted(found.items(), key=lambda item: (-len(item[0]), item[0])))


def _split(q: Question, n: Scalar) -> Split | None:
    if isinstance(n, Param) and n.dtype is REAL and n.name not in q.fixed:
        return (n.name,)
    if isinstance(n, Read) and n.dtype is REAL and q.program.input(n.tensor) is not None and n.tensor not in q.fixed:
        return (n.tensor,)
    if isinstance(n, Apply) and n.name in ("add", "sub") and all(isinstance(a, Read) for a in n.args):
        ends = [s for a in n.args if (s := _split(q, a)) is not None]
        return (n.name, *ends[0], *ends[1]) if len(ends) == 2 else None
    return None


_MOST = 400


def _boxes(q: Question, choice: Sequence[tuple[str, float]], halved: Sequence[tuple[list[Scalar], Enclosure]]) -> Trace:
    assume = {**q.assume, **{name: Enclosure(v, v) for name, v in choice}}
    pending, trace = [[box for _, box in halved]], Trace()
    for _ in range(_MOST):
        if not pending:
            return trace
        here = pending.pop()
        try:
            _ranges(q, assume, {n: box for (nodes, _), box in zip(halved, here, strict=True) for n in nodes})
        except Stuck:
            pending += _halves(here)
            continue
        trace.append([*(f"{name} = {v:g}" for name, v in choice), *map(text, here)])
    raise Stuck("too many boxes")


def _halves(boxes: list[Enclosure]) -> list[list[Enclosure]]:
    """Two boxes instead of one, along the side with the most numbers in it. Raises Stuck where none is wide."""
    k = max(range(len(boxes)), key=lambda k: _width(boxes[k]))
    lo, hi = boxes[k].lo, boxes[k].hi
    if _width(boxes[k]) < _NARROW:
        raise Stuck(f"not seen where it is in {boxes[k]}")
    if lo < 0 < hi:
        middle = 0.0
    else:
        low, high = sorted((abs(lo), abs(hi)))
        middle = math.copysign(high / 16 if low == 0 else math.sqrt(low) * math.sqrt(high), lo + hi)
    return [[*boxes[:k], half, *boxes[k + 1 :]] for half in (Enclosure(lo, middle), Enclosure(middle, hi))]


_NARROW, _NEAR_ZERO = 1e-4, 2.0**-30


def _width(box: Enclosure) -> float:
    """How many doublings there are between the ends."""
    if box.lo < 0 < box.hi:
        return INF
    low, high = (max(v, _NEAR_ZERO) for v in sorted((abs(box.lo), abs(box.hi))))
    return math.log2(high) - math.log2(low)


def _is_of_one_entry(d: Definition) -> bool:
    """Whether a definition is a map that reads everything at its own place."""
    if d.head != "map" or len({f.dim for f in d.formals}) < len(d.formals):
        return False
    for r in (n for n in postorder(*d.scalars()) if isinstance(n, Read)):
        places = [d.formals.index(i) for i in r.indices if isinstance(i, Index) and i in d.formals]
        if len(places) < len(r.indices) or places != sorted(set(places)):
            return False
    return True


def _bounds(
    program: Program, q: Question, assume: Mapping[str, Enclosure], known: Mapping[Scalar, Enclosure] | None = None
) -> FloatBounds:
    form = _format(q)
    fixed = {n: e.exact(v) for n, v in q.fixed.items()}
    seed = {f"{q.of}'": Enclosure(1.0, 1.0)}
    digit = float(form.digit) if form.bits == FORMATS["float16"].bits else 0.0
    return FloatBounds(program, {**assume, **fixed, **seed}, (form.largest, digit, 1 - 2.0**-form.bits), known or {})


def _ranges(q: Question, assume: Mapping[str, Enclosure], known: Mapping[Scalar, Enclosure]) -> Trace:
    """Raises Stuck where something may be no finite number, or too large."""
    trace: Trace = []
    for part in compiled(q.program, q.of):
        bounds = _bounds(part.program, q, assume, known)
        for tensor in part.tensors:
            box = bounds.tensor(tensor)
            trace.append([tensor, text(box)])
            if not float_of(box).within(part.limit(_format(q))):
                raise Stuck(f"{tensor} is in {text(box)}")
    return trace


__all__ = ["BEYOND", "COMPUTED", "of_parts", "of_point", "of_ranges", "of_value", "sized"]
