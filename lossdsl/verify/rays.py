"""Losses along rays and towards points: slopes without bound, and segments on which a loss is affine.

    far   x + t d, t to infinity: the loss grows faster than t
    near  p + d / t: the loss has no finite limit, or comes to it more slowly than 1 / t

Either contradicts every Lipschitz constant, in every norm of the finitely many entries. A germ without a rest that is
affine in t (in 1 / t) says that the loss is affine on a segment: it is not strictly convex. The germ proves it for all
large t; the points of a witness lie far enough out for the enclosures to agree.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.ir.nodes import TRUE, Const, Definition, Input
from lossdsl.verify import enclosure as e
from lossdsl.verify import germs as g
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.germs import CONSTANT, LINEAR, Germ, Unsettled
from lossdsl.verify.paths import Along
from lossdsl.verify.points import Place, Point
from lossdsl.verify.refute import points, values
from lossdsl.verify.verdict import Refuted, Witness
from lossdsl.verify.work import deadline, passed

FAR, NEAR = "far", "near"
_INVERSE = (Fraction(0), Fraction(-1), Fraction(0))


@dataclass(frozen=True)
class Path:
    """`base` has the entries at t = 0 of a ray, or the point that is approached; `direction` is not 0."""

    kind: str
    base: Point
    entry: str
    direction: Mapping[Place, Fraction]

    def moving(self) -> dict[str, dict[Place, Germ]]:
        mono = LINEAR if self.kind == FAR else _INVERSE
        here = self.base.inputs[self.entry]
        return {
            self.entry: {
                p: g.add(g.constant(here[p]), g.monomial(mono, d)) for p, d in self.direction.items() if d != 0
            }
        }

    def at(self, step: Fraction) -> Point:
        """The point at that multiple of the direction."""
        entries = dict(self.base.inputs[self.entry])
        return self.base.with_inputs({self.entry: {p: v + step * self.direction.get(p, 0) for p, v in entries.items()}})


def unbounded_slope(ctx: Context, target: str, inputs: tuple[str, ...]) -> Refuted | None:
    """A path along which no Lipschitz constant holds."""
    for path, _, germ in _germs(ctx, target, inputs, 61):
        grows = _outgrows(path.kind, germ)
        if grows:
            ends = (
                (path.at(Fraction(1)), path.at(Fraction(2))) if path.kind == FAR else (path.base, path.at(Fraction(1)))
            )
            return Refuted(
                f"growth along a path, {path.kind}", Witness((ends[0].flat(), ends[1].flat(path.entry)), grows)
            )
    return None


def _outgrows(kind: str, germ: Germ) -> str:
    """Why the quotient of differences has no bound along the path; "" if the germ does not say so."""
    try:
        leading, _ = germ.lead()
        if kind == FAR:
            if leading > LINEAR:
                return f"the loss is {germ} far out on the ray from the first point through the second: faster than t"
            return ""
        if leading > CONSTANT:
            return f"the loss is {germ} at 1/t of the way from the first point to the second: it has no finite limit"
        _, small = germ.limit()
        if small.zero or (small.terms and small.lead()[0] <= _INVERSE):
            return ""
        slowest, _ = small.lead()
    except Unsettled:
        return ""
    return (
        f"the loss is {germ} at 1/t of the way from the first point to the second: slower than 1/t" if slowest else ""
    )


def affine_segment(ctx: Context, target: str, inputs: tuple[str, ...]) -> Refuted | None:
    """Two points between which the loss is affine, though an entry of its row varies."""
    for path, place, germ in _germs(ctx, target, inputs, 62, row=True):
        allowed = (LINEAR, CONSTANT) if path.kind == FAR else (CONSTANT, _INVERSE)
        if not germ.exact or any(m not in allowed for m, _ in germ.terms):
            continue
        for k in (4, 10, 20, 30):
            scale = Fraction(2**k) if path.kind == FAR else Fraction(1, 2**k)
            trio = [path.at(scale), path.at(2 * scale), path.at(scale * 3 / 2)]
            found = values(ctx, trio, target, place) if all(map(ctx.admits, trio)) else None
            if found is not None and _may_be_straight(found):
                violation = f"the loss is {germ} on the ray through both points: affine there"
                return Refuted(
                    "germ along a path", Witness((trio[0].flat(), trio[1].flat(path.entry)), violation, _HALF)
                )
    return None


_HALF = Fraction(1, 2)
_LONGER = 3  # than other searches: a path says more than a point


def _may_be_straight(found: list[Enclosure]) -> bool:
    """Whether the values do not contradict that the third is in the middle of the others."""
    a, b, m = found
    gap = e.sub(e.mul(Enclosure(2.0, 2.0), m), e.add(a, b))
    return gap.lo <= 0 <= gap.hi


# ------------------------------------------------------------------------------------------------------ paths


def _germs(
    ctx: Context, target: str, inputs: tuple[str, ...], seed: int, *, row: bool = False
) -> Iterator[tuple[Path, Place, Germ]]:
    """Germs of an element of the target along paths that it depends on, until the time is up."""
    definition = ctx.program.definition(target)
    if definition is None or not ctx.is_box or (row and definition.support is not TRUE):
        return  # (what is outside of the support is 0, which outgrows nothing)
    end, generator = deadline(_LONGER * ctx.seconds), random.Random(seed)
    for k, path in enumerate(_paths(ctx, definition, inputs, seed, row=row)):
        if passed(end):
            return
        first = (0,) * len(definition.formals)
        other = tuple(generator.randrange(max(1, i.dim.evaluate(path.base.extents))) for i in definition.formals)
        for place in (first, other) if k % 2 and not row and other != first else (first,):
            along = Along(ctx.program, path.base, path.moving())
            try:
                germ = along.element(target, place)
            except (Unsettled, ValueError, OverflowError, ZeroDivisionError, KeyError):
                continue
            if along.touched or row:  # an entry of its row that it does not read leaves it as it is
                yield path, place, germ


def _paths(ctx: Context, target: Definition, inputs: tuple[str, ...], seed: int, *, row: bool) -> Iterator[Path]:
    """Paths in one of the inputs from admissible points; `row`: in the entries at the place of the element alone."""
    generator = random.Random(seed)
    varied = [
        i
        for i in ctx.program.inputs
        if i.name in inputs and i.kind in ("real", "prob", "simplex") and not ctx.symbolic(i.name)
    ]
    if not varied:
        return
    for k, base in enumerate(points(ctx, seed, inputs, endless=True)):
        i = varied[k % len(varied)]
        places = [p for p in base.inputs[i.name] if not row or _at_element(i, target, p)]
        if not places:
            continue
        for kind in (FAR, NEAR) if i.kind == "real" else (NEAR,):
            here = base if kind == FAR or k % 3 == 0 else _special(ctx, base, i, places, generator)
            direction = _direction(ctx, i, here, places, kind, generator, k)
            path = Path(kind, _off_the_ends(ctx, here, i, direction), i.name, direction)
            if any(direction.values()) and _inside(ctx, path, i):
                yield path


def _at_element(i: Input, target: Definition, place: Place) -> bool:
    """Whether an entry lies at the place 0 of the element, along the axes that both have."""
    own = {f.dim for f in target.formals}
    return all(v == 0 for v, d in zip(place, i.dims, strict=True) if d in own)


def _special(ctx: Context, base: Point, i: Input, places: list[Place], generator: random.Random) -> Point:
    """The point with entries where losses are singular: the ends of the domain, 0, the entries of another input."""
    if i.kind == "simplex":
        entries = dict(base.inputs[i.name])
        rows: dict[Place, list[Place]] = {}
        for p in entries:
            rows.setdefault(tuple(v for k, v in enumerate(p) if k not in i.over), []).append(p)
        for row in rows.values():  # leave one entry out
            if not any(p in places for p in row):
                continue
            lost = generator.choice(row)
            rest = [p for p in row if p != lost]
            if rest:
                entries[rest[0]] += entries[lost]
                entries[lost] = Fraction(0)
        return base.with_inputs({i.name: entries})
    box = ctx.ranges().input(i.name)
    ends = [Fraction(end) for end in (box.lo, box.hi) if abs(end) < INF]
    others = [
        w for w in ctx.program.inputs if w.name != i.name and base.inputs[w.name].keys() == base.inputs[i.name].keys()
    ]
    chosen = generator.choice(["ends", "zero", "zero one", *(w.name for w in others)])
    entries = dict(base.inputs[i.name])
    one = generator.choice(places)
    for p in places:
        if chosen in base.inputs:
            entries[p] = base.inputs[chosen][p]
        elif chosen == "ends" and ends:
            entries[p] = generator.choice(ends)
        elif chosen == "zero" or p == one:
            entries[p] = Fraction(0)
    return base.with_inputs({i.name: entries})


def _direction(
    ctx: Context, i: Input, here: Point, places: list[Place], kind: str, generator: random.Random, k: int
) -> dict[Place, Fraction]:
    """One entry, all alike, along the point itself, or any; inward at the ends of the domain."""
    entries = here.inputs[i.name]
    if i.kind == "simplex":
        rows: dict[Place, list[Place]] = {}
        for p in entries:
            rows.setdefault(tuple(v for k, v in enumerate(p) if k not in i.over), []).append(p)
        out = dict.fromkeys(entries, Fraction(0))
        for row in rows.values():
            if any(p in places for p in row):  # towards the centre
                out |= {p: Fraction(1, len(row)) - entries[p] for p in row}
        return out
    one = generator.choice(places)
    match k % 4:
        case 0:
            direction = {p: Fraction(p == one) for p in places}
        case 1:
            direction = dict.fromkeys(places, Fraction(1))
        case 2:
            direction = {p: entries[p] for p in places}
        case _:
            direction = {p: Fraction(generator.choice((-2, -1, 0, 1, 3))) for p in places}
    if generator.random() < 0.5:
        direction = {p: -d for p, d in direction.items()}
    box = ctx.ranges().input(i.name)
    if kind == NEAR:  # inward
        low, high = (None if abs(end) == INF else Fraction(end) for end in (box.lo, box.hi))
        for p, d in direction.items():
            if (low is not None and entries[p] <= low and d < 0) or (high is not None and entries[p] >= high and d > 0):
                direction[p] = -d
    elif box.lo > -INF or box.hi < INF:
        direction = {p: abs(d) if box.hi == INF else -abs(d) for p, d in direction.items()}
    return direction


def _off_the_ends(ctx: Context, base: Point, i: Input, direction: Mapping[Place, Fraction]) -> Point:
    """The point with entries that do not move away from the ends of the domain: claims are about its interior."""
    if i.kind == "simplex":
        return base
    box = ctx.ranges().input(i.name)
    entries = dict(base.inputs[i.name])
    for p, v in entries.items():
        if not direction.get(p) and (v <= box.lo or v >= box.hi):
            if abs(box.lo) < INF and abs(box.hi) < INF:
                entries[p] = (Fraction(box.lo) + Fraction(box.hi)) / 2
            else:
                entries[p] = v + 1 if v <= box.lo else v - 1
    return base.with_inputs({i.name: entries})


def _inside(ctx: Context, path: Path, i: Input) -> bool:
    """Whether the path lies in the interior of the domain for all large t: a ray in a box without end that way, or a
    segment that starts in the closure of the convex domain and ends in it."""
    box = ctx.ranges().input(i.name)
    for p, v in path.base.inputs[i.name].items():
        d = path.direction.get(p, Fraction(0))
        if i.kind == "simplex":
            if v == 0 and d <= 0:
                return False
        elif v <= box.lo or v >= box.hi:
            low = v <= box.lo
            if v != _exact_end(i, low=low) or not (d > 0 if low else d < 0):
                return False
        if path.kind == FAR and d != 0 and (box.hi < INF if d > 0 else box.lo > -INF):
            return False
    if path.kind == FAR:
        return ctx.admits(path.at(Fraction(1)))
    return any(ctx.admits(path.at(Fraction(1, 2**k))) for k in (0, 6, 20))


def _exact_end(i: Input, *, low: bool) -> Fraction | None:
    """The end of the declared domain, if it is a number: that of an enclosure may be rounded."""
    if i.kind == "prob":
        return Fraction(0 if low else 1)
    end = i.range.lower if low else i.range.upper
    return end.value if isinstance(end, Const) and isinstance(end.value, Fraction) else None


__all__ = ["affine_segment", "unbounded_slope"]
