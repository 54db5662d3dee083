"""Certified values: one element of a tensor at exact rational inputs, as an enclosure; and the search for witnesses.

A program is run at small extents with every operation in interval arithmetic, so that what an enclosure excludes is
excluded: a midpoint that lies above its chord, a negative value, a quotient of differences above a bound.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod

from lossdsl.dim import Dim
from lossdsl.ir.extents import roomy, symbols_of
from lossdsl.ir.nodes import (
    BOOL,
    TRUE,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Input,
    Not,
    Or,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
)
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import ANYTHING, INF, Enclosure
from lossdsl.verify.folds import (
    Undecided,
    every_place,
    fold,
    inverse_entry,
    log_determinant,
    sorted_places,
    whole,
    winner,
)
from lossdsl.verify.operations import compare, transfer, truth
from lossdsl.verify.ranges import Ranges
from lossdsl.verify.work import CLOCK

_STEPS = 20_000  # of the evaluation of one element

Place = tuple[int, ...]
Values = Mapping[str, Mapping[Place, Fraction]]


class TooManySteps(Undecided):
    """An element takes more steps than one evaluation may have."""


def entry_name(name: str, place: Place) -> str:
    """`pred[0]`, as reports have it."""
    return f"{name}[{', '.join(map(str, place))}]" if place else name


@dataclass
class Point:
    """Exact values: extents of the symbols, parameters, and every entry of every input."""

    extents: dict[str, int]
    parameters: dict[str, Fraction]
    inputs: dict[str, dict[Place, Fraction]]

    def flat(self, *names: str) -> dict[str, Fraction]:
        """Names with places (`pred[0]`), for a report; all of them if none are named."""
        out: dict[str, Fraction] = {}
        for name, entries in self.inputs.items():
            if not names or name in names:
                for place, value in entries.items():
                    out[entry_name(name, place)] = value
        if not names:
            out |= self.parameters
        return out

    def with_inputs(self, inputs: Mapping[str, dict[Place, Fraction]]) -> Point:
        return Point(self.extents, self.parameters, {**self.inputs, **inputs})


class Evaluator:
    """Enclosures of elements of tensors at a point."""

    def __init__(self, program: Program, point: Point) -> None:
        self.program, self.point = program, point
        self.definitions = {d.tensor: d for d in program.definitions()}
        self.inputs = {i.name: i for i in program.inputs}
        self._memo: dict[tuple[str, Place], Enclosure] = {}
        self._steps = 0

    def element(self, tensor: str, place: Place) -> Enclosure:
        if tensor in self.inputs:
            value = self.point.inputs[tensor].get(place)
            if value is None:
                raise Undecided(f"{tensor} has no entry at {place}")
            return e.exact(value)
        key = (tensor, place)
        if key not in self._memo:
            self._memo[key] = self._definition(self.definitions[tensor], place)
        return self._memo[key]

    def _definition(self, d: Definition, place: Place) -> Enclosure:
        env = dict(zip(d.formals, place, strict=True))
        if d.support is not TRUE and not self._holds(d.support, env):
            return Enclosure(0.0, 0.0)
        if d.head == "map":
            return self.scalar(d.body, env)
        if d.head in ("inverse", "logdet"):
            return self._matrix(d, place, env)
        inner = dict(zip(d.formals[:-1], place, strict=False)) if d.head == "argsort" else env
        chosen, left_out = self._chosen(d, inner)
        shape = self._shape(d.bound)
        if d.head in ("argmax", "argmin"):
            return winner(d.head, chosen, shape)
        if d.head != "argsort":
            return fold(d.head, [v for _, v in chosen])
        order = sorted_places(chosen, left_out, shape)
        for rank, k in enumerate(order):
            self._memo[d.tensor, (*place[:-1], rank)] = Enclosure(float(k), float(k))
        return self._memo[d.tensor, place]

    def _shape(self, indices: Iterable[Index]) -> tuple[int, ...]:
        return tuple(i.dim.evaluate(self.point.extents) for i in indices)

    def _chosen(self, d: Definition, env: Mapping[Index, int]) -> tuple[list[tuple[Place, Enclosure]], list[Place]]:
        """The places that the reduction goes over with their values, and those that are left out."""
        chosen: list[tuple[Place, Enclosure]] = []
        left_out: list[Place] = []
        for at in every_place(self._shape(d.bound)):
            inner = {**env, **dict(zip(d.bound, at, strict=True))}
            if d.where is not TRUE and not self._holds(d.where, inner):
                left_out.append(at)
            elif d.head != "count":
                chosen.append((at, self.scalar(d.body, inner)))
            elif self._holds(d.body, inner):
                chosen.append((at, Enclosure(1.0, 1.0)))
        return chosen, left_out

    def _matrix(self, d: Definition, place: Place, env: Mapping[Index, int]) -> Enclosure:
        """The log-determinant, or an entry of the inverse, of the matrix over the two bound indices."""
        if d.where is not TRUE or len(d.bound) != 2:
            raise Undecided(f"no value for {d.head}")
        kept = env if d.head == "logdet" else dict(zip(d.formals[:-2], place, strict=False))
        high, wide = self._shape(d.bound)
        if high != wide:
            raise Undecided("a matrix that is not square")
        row, column = d.bound
        rows = [[self.scalar(d.body, {**kept, row: i, column: j}) for j in range(wide)] for i in range(high)]
        return log_determinant(rows) if d.head == "logdet" else inverse_entry(rows, place[-2], place[-1])

    def _holds(self, condition: Scalar, env: Mapping[Index, int]) -> bool:
        decided = truth(self.scalar(condition, env))
        if decided is None:
            raise Undecided("a condition at the edge")
        return decided

    def scalar(self, node: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Enclosure] | None = None) -> Enclosure:
        memo = {} if memo is None else memo
        if node in memo:
            return memo[node]
        self._steps += 1
        CLOCK.steps += 1
        if self._steps > _STEPS:
            raise TooManySteps("too many elements")
        value = self._scalar(node, env, memo)
        memo[node] = value
        return value

    def _scalar(self, n: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Enclosure]) -> Enclosure:
        match n:  # what is most frequent comes first
            case Apply():
                if n.name in ("floordiv", "mod", "floor", "ceil"):
                    return self._integer(n, env, memo)
                return transfer(n, [self.scalar(a, env, memo) for a in n.args])
            case Read():
                return self.element(n.tensor, tuple([self._whole(i, env, memo) for i in n.indices]))
            case Const():
                if n.value == "nan":
                    return ANYTHING
                if isinstance(n.value, str):
                    end = INF if n.value == "inf" else -INF
                    return Enclosure(end, end)
                return e.exact(n.value)
            case Param():
                return e.exact(self.point.parameters[n.name])
            case Size():
                size = float(n.dim.evaluate(self.point.extents))
                return Enclosure(size, size)
            case Index():
                return Enclosure(float(env[n]), float(env[n]))
            case Select():
                decided = truth(self.scalar(n.condition, env, memo))
                if decided is None:
                    raise Undecided("a condition at the edge")
                return self.scalar(n.a if decided else n.b, env, memo)
            case Compare():
                return compare(n.op, self.scalar(n.a, env, memo), self.scalar(n.b, env, memo))
            case And() | Or():
                stop = isinstance(n, Or)
                for a in n.args:
                    decided = truth(self.scalar(a, env, memo))
                    if decided is None:
                        raise Undecided("a condition at the edge")
                    if decided is stop:
                        return Enclosure(float(stop), float(stop))
                return Enclosure(float(not stop), float(not stop))
            case Not():
                v = self.scalar(n.a, env, memo)
                return Enclosure(1 - v.hi, 1 - v.lo)
            case Stop():
                return self.scalar(n.a, env, memo)
            case Proxy():
                return self.scalar(n.value, env, memo)
            case AdjointMap():
                return self.scalar(n.a, env, memo)
            case Table():
                return self.scalar(n.values[self._whole(n.index, env, memo)], env, memo)
        raise Undecided("no rule")

    def _integer(self, n: Apply, env: Mapping[Index, int], memo: dict[Scalar, Enclosure]) -> Enclosure:
        boxes = [self.scalar(a, env, memo) for a in n.args]
        if any(b.lo != b.hi for b in boxes):
            raise Undecided("rounding to an integer at the edge")
        return e.exact(whole(n.name, [Fraction(b.lo) for b in boxes]))

    def _whole(self, n: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Enclosure]) -> int:
        if isinstance(n, Index):
            return env[n]
        v = self.scalar(n, env, memo)
        if v.lo != v.hi or not v.lo.is_integer():
            raise Undecided("an index that is not exact")
        return int(v.lo)


# ----------------------------------------------------------------------------------------------------- search


_GROWTH = 12  # extents for a window
_REPEATS = 8  # how large a parameter that is an extent is chosen
_ENTRIES = 1 << 15  # how many entries an input may have at a point
_MOST = 256  # how large it may be where it is fixed


@dataclass
class Sampler:
    """Admissible points of a program: dyadic values, ordinary and extreme; parameters at their default first."""

    program: Program
    ranges: Ranges
    seed: int = 0
    fixed: Mapping[str, Fraction] = field(default_factory=dict)
    interior: frozenset[str] = frozenset()  # inputs that stay inside of their simplex
    dots: int = 1  # the least extent of axes that are written `...`
    empty: bool = False  # it has no points
    _random: random.Random = field(init=False, repr=False)
    _folded: bool = field(init=False, repr=False)  # entries along `...` meet

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        modes = self.program.reductions
        own = {modes.mean, modes.sum, modes.total, modes.weight} if modes else set()
        bound = (i for d in self.program.definitions() if d.tensor not in own for i in d.bound)
        self._folded = any("..." in i.dim.symbols() for i in bound)

    def point(
        self, *, spread: float, extent: int = 2, defaults: bool = True, sizes: Mapping[str, int] | None = None
    ) -> Point | None:
        """A point at which axes have `extent` elements, or as many as `sizes` says."""
        if self.empty:
            return None
        along = {"...": max(self.dots, extent if self._folded else 1)}
        along |= sizes or {}
        extents = {s: along.get(s, extent) for s in sorted(symbols_of(self.program))}
        parameters: dict[str, Fraction] = {}
        for p in self.program.parameters:
            box = self.ranges.parameter(p.name)
            default = p.default.value if p.default is not None else None
            if p.name in self.fixed:
                parameters[p.name] = self.fixed[p.name]
            elif defaults and isinstance(default, Fraction) and _within(default, box):
                parameters[p.name] = default
            else:
                value = self.number(box, spread, whole=p.kind != "real")
                if value is None:
                    return None
                parameters[p.name] = value
            if p.name in extents:
                if p.name not in self.fixed and parameters[p.name] > _REPEATS:  # any value does, a small one is fast
                    parameters[p.name] = max(Fraction(_REPEATS), Fraction(box.lo) if box.lo > 0 else Fraction(0))
                extents[p.name] = max(0, int(parameters[p.name]))
                if extents[p.name] > _MOST:
                    return None
        extents = roomy(self.program, extents, {p.name for p in self.program.parameters}, _GROWTH)
        if any(prod(d.evaluate(extents) for d in i.dims) > _ENTRIES for i in self.program.inputs):
            return None  # no element of so much can be evaluated in the time of a search
        self._into_extents(parameters, extents)
        inputs: dict[str, dict[Place, Fraction]] = {}
        for i in self.program.inputs:
            entries = self.entries(i, extents, spread, parameters)
            if entries is None:
                return None
            inputs[i.name] = entries
        return Point(extents, parameters, inputs)

    def _into_extents(self, parameters: dict[str, Fraction], extents: dict[str, int]) -> None:
        """Move parameters that are bounded by extents to the nearest end where those of the point leave them out."""
        sizes = Evaluator(self.program, Point(extents, parameters, {}))
        for p in self.program.parameters:
            ends = ((p.range.lower, p.range.lower_open, 1), (p.range.upper, p.range.upper_open, -1))
            for bound, is_open, inwards in ends:
                if bound is None or isinstance(bound, Const) or p.name in self.fixed:
                    continue
                end = Fraction(sizes.scalar(bound, {}).lo) + (inwards if is_open else 0)
                if (parameters[p.name] - end) * inwards < 0:
                    parameters[p.name] = end

    def plain(self, value: int, extent: int) -> Point | None:
        """The point at which everything is one number, as far as the domains allow; the first of a simplex or a sphere is
        1, a label the first class."""
        base = self.point(spread=2.0, extent=max(1, extent))
        if base is None:
            return None
        extents = base.extents if extent else {s: n if s in base.parameters else 0 for s, n in base.extents.items()}
        inputs: dict[str, dict[Place, Fraction]] = {}
        for i in self.program.inputs:
            places = list(itertools.product(*(range(max(0, d.evaluate(extents))) for d in i.dims)))
            if i.kind in ("simplex", "unit"):
                inputs[i.name] = {p: Fraction(all(p[k] == 0 for k in i.over)) for p in places}
                continue
            box = self.ranges.input(i.name)
            wanted = Fraction(0 if i.kind == "class" else self.fixed.get(i.name, value))
            if not _within(wanted, box):
                nearest = self.number(box, 1.0, whole=i.kind not in ("real", "prob"))
                if nearest is None:
                    return None
                wanted = nearest
            inputs[i.name] = dict.fromkeys(places, wanted)
        return Point(extents, base.parameters, inputs)

    def entries(
        self, i: Input, extents: Mapping[str, int], spread: float, parameters: Mapping[str, Fraction]
    ) -> dict[Place, Fraction] | None:
        places = list(itertools.product(*(range(d.evaluate(extents)) for d in i.dims)))
        box = self._domain(i, extents, parameters)
        if box is None:
            return None
        if i.kind in ("simplex", "unit"):
            return self._along(i, places)
        out: dict[Place, Fraction] = {}
        for place in places:
            if i.name in self.fixed:
                out[place] = self.fixed[i.name]
            elif i.kind == "class":
                top = i.classes.evaluate(extents) if i.classes is not None else 1
                if top < 1:
                    return None
                out[place] = Fraction(self._random.randrange(top))
            elif i.kind in ("binary", "bool"):
                out[place] = Fraction(self._random.choice([v for v in (0, 1) if box.lo <= v <= box.hi] or [0]))
            elif i.kind == "sign":
                out[place] = Fraction(self._random.choice((-1, 1)))
            else:
                value = self.number(box, spread, whole=i.kind == "int")
                if value is None:
                    return None
                out[place] = value
        return out

    def _domain(self, i: Input, extents: Mapping[str, int], parameters: Mapping[str, Fraction]) -> Enclosure | None:
        """Where entries of the input lie, ends that are given by parameters taken at these; None if that is empty."""
        box = self.ranges.input(i.name)
        ends = (i.range.lower, i.range.upper)
        if all(n is None or isinstance(n, Const) for n in ends):
            return box
        evaluator = Evaluator(self.program, Point(dict(extents), dict(parameters), {}))
        found: list[float | None] = []
        for n in ends:
            try:
                value = None if n is None else evaluator.scalar(n, {})
            except (Undecided, KeyError):  # an end that is an input
                value = None
            found.append(None if value is None or value.nan else value.lo if n is ends[0] else value.hi)
        lo, hi = (a if b is None else b for a, b in zip((box.lo, box.hi), found, strict=True))
        lo, hi = max(lo, box.lo), min(hi, box.hi)
        return Enclosure(lo, hi, box.lo_open and lo == box.lo, box.hi_open and hi == box.hi) if lo <= hi else None

    def _along(self, i: Input, places: list[Place]) -> dict[Place, Fraction]:
        """Points of the simplex (weights of quarters) and of the sphere (unit vectors)."""
        out: dict[Place, Fraction] = {}
        for row in rows(i, places):
            out |= dict.fromkeys(row, Fraction(0))
            if i.kind == "unit":
                out[self._random.choice(row)] = Fraction(self._random.choice((-1, 1)))
            else:
                for _ in range(4):
                    out[self._random.choice(row)] += Fraction(1, 4)
                if i.name in self.interior:
                    out |= {place: (out[place] + Fraction(1, len(row))) / 2 for place in row}
        return out

    def number(self, box: Enclosure, spread: float, *, whole: bool) -> Fraction | None:
        """A number of the interval, dyadic or whole, from about 0 to the spread; None if it finds none."""
        CLOCK.steps += 2
        lo = max(box.lo, -spread)
        hi = min(box.hi, spread)
        if lo > hi:
            lo, hi = (box.lo, box.lo + spread) if box.lo > spread else (box.hi - spread, box.hi)
        for _ in range(8):
            x = self._random.choice((lo, hi, 0.0, self._random.uniform(lo, hi), self._random.gauss(0, spread / 3)))
            grid = 1 if whole else 64
            value = Fraction(round(x * grid), grid)
            if _within(value, box):
                return value
        middle = Fraction(lo) / 2 + Fraction(hi) / 2
        if whole:
            middle = Fraction(round(middle))
        return middle if _within(middle, box) else None


def _within(value: Fraction, box: Enclosure) -> bool:
    try:  # it is correctly rounded: only where that is an end, more is to be asked
        near = value.numerator / value.denominator
    except OverflowError:
        near = box.lo
    if near not in (box.lo, box.hi):
        return box.lo < near < box.hi
    low = value > Fraction(box.lo) if box.lo_open and box.lo > -INF else box.lo == -INF or value >= Fraction(box.lo)
    high = value < Fraction(box.hi) if box.hi_open and box.hi < INF else box.hi == INF or value <= Fraction(box.hi)
    return low and high


within = _within


def rows(i: Input, places: Iterable[Place]) -> list[list[Place]]:
    """The places of each row of a simplex or a sphere."""
    found: dict[Place, list[Place]] = {}
    for place in places:
        found.setdefault(tuple(v for k, v in enumerate(place) if k not in i.over), []).append(place)
    return list(found.values())


def elements(program: Program, target: str, point: Point, most: int = 4) -> Iterator[Place]:
    """Some places of the target."""
    d = program.definition(target)
    if d is None:
        return
    yield from itertools.islice(itertools.product(*(range(i.dim.evaluate(point.extents)) for i in d.formals)), most)


__all__ = ["BOOL", "Dim", "Evaluator", "Group", "Place", "Point", "Sampler", "Undecided", "elements", "rows", "within"]
