"""Values without a bound along paths on which parameters move, too: a scale, a temperature, the width of a clip.

One bound is asked for all values of everything (`bounded`), so that a parameter may go to the end of its range with the
inputs. On a path each of them is affine in `t` or in `1 / t`; the germ of an element (`germs`) says where it goes. If its
leading monomial grows, no bound holds: along `t, t + 1, ...` the value leaves every interval.

`sequences.unbounded` lets entries go to the ends of their domains independently; here what moves is of one `t`, so that
`width = t` and `pred = 2 t` can be compared.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.ir.nodes import Apply, Const, Input, Param, Parameter, Scalar, postorder
from lossdsl.verify import germs as g
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF
from lossdsl.verify.germs import CONSTANT, LINEAR, Germ, Unsettled
from lossdsl.verify.paths import Along
from lossdsl.verify.pieces import dependents
from lossdsl.verify.points import Place, Point, elements, entry_name
from lossdsl.verify.refute import points
from lossdsl.verify.verdict import Refuted, Witness
from lossdsl.verify.work import deadline, passed

_FALLING = (Fraction(0), Fraction(-1), Fraction(0))
_SHOWN = (8, 64, 512)  # members of the sequence that the witness shows
_RATES = (Fraction(1), Fraction(2), Fraction(1, 2), Fraction(-1), Fraction(-2), Fraction(0))
_LONGER = 3  # than other searches: a path says more than a point


@dataclass(frozen=True)
class _Move:
    """`start + rate t`, or `start + rate / t`."""

    start: Fraction
    rate: Fraction
    far: bool

    @property
    def germ(self) -> Germ:
        return g.add(g.constant(self.start), g.monomial(LINEAR if self.far else _FALLING, self.rate))

    def at(self, t: int) -> Fraction:
        return self.start + (self.rate * t if self.far else self.rate / t)


@dataclass(frozen=True)
class _Path:
    base: Point
    parameters: Mapping[str, _Move]
    entries: Mapping[tuple[str, Place], _Move]

    def at(self, t: int) -> Point:
        inputs = {n: dict(entries) for n, entries in self.base.inputs.items()}
        for (tensor, place), move in self.entries.items():
            inputs[tensor][place] = move.at(t)
        parameters = {**self.base.parameters, **{n: m.at(t) for n, m in self.parameters.items()}}
        return Point(self.base.extents, parameters, inputs)

    @property
    def moving(self) -> dict[str, dict[Place, Germ]]:
        found: dict[str, dict[Place, Germ]] = {}
        for (tensor, place), move in self.entries.items():
            found.setdefault(tensor, {})[place] = move.germ
        return found

    @property
    def shown(self) -> str:
        names = {**self.parameters, **{entry_name(*k): m for k, m in self.entries.items()}}
        return ", ".join(f"{n} = {m.germ}" for n, m in names.items())


def unbounded(ctx: Context, target: str) -> Refuted | None:
    """A path of admissible points along which an element of the target leaves every bound."""
    for path in _paths(ctx, target):
        for place in elements(ctx.program, target, path.base, most=2):
            along = Along(ctx.program, path.base, path.moving, {n: m.germ for n, m in path.parameters.items()})
            try:
                germ = along.element(target, place)
                leading, coefficient = germ.lead()
            except (Unsettled, ValueError, OverflowError, ZeroDivisionError, KeyError):
                continue
            if leading > CONSTANT and all(ctx.admits(path.at(t)) for t in _SHOWN):
                goes = "inf" if g.enclosed(coefficient).positive else "-inf"
                points_ = tuple(path.at(t).flat() for t in _SHOWN)
                violation = f"the value is {germ} and goes to {goes} as t does, with {path.shown}"
                return Refuted("germ along a path", Witness(points_, violation))
    return None


def _paths(ctx: Context, target: str) -> Iterator[_Path]:
    """Paths in some parameters (or none) and some entries of inputs (or none), until the time is up."""
    definition = ctx.program.definition(target)
    if definition is None or not ctx.is_box:
        return
    used = [i for i in ctx.program.inputs if target in dependents(ctx.program, i.name)]
    free = [i for i in used if i.kind in ("real", "prob") and i.name not in ctx.fixed and not ctx.symbolic(i.name)]
    scales = [p for p in ctx.program.parameters if _free(ctx, p)]
    if not free and not scales:
        return
    generator, end = random.Random(71), deadline(_LONGER * ctx.seconds)
    for k, base in enumerate(points(ctx, 71, endless=True)):
        if passed(end):
            return
        count = min(len(scales), generator.choice((0, 1, 1, 1, 2)))
        parameters = dict(m for p in generator.sample(scales, count) for m in _scaled(ctx, p, base, generator))
        entries: dict[tuple[str, Place], _Move] = {}
        if free and (not parameters or k % 3):
            for i in free if generator.random() < 0.3 else [generator.choice(free)]:
                entries |= _moved(ctx, i, base, generator)
        if parameters or entries:
            yield _Path(base, parameters, entries)


def _free(ctx: Context, p: Parameter) -> bool:
    """Whether the parameter has a range of its own that nothing else depends on."""
    if p.kind != "real" or p.name in ctx.fixed or not all(_is_number(s) for s in _ends(p)):
        return False
    others: list[Input | Parameter] = [*ctx.program.inputs, *ctx.program.parameters]
    return not any(isinstance(n, Param) and n.name == p.name for o in others for n in postorder(*_ends(o)))


def _ends(declared: Input | Parameter) -> list[Scalar]:
    return [s for s in (declared.range.lower, declared.range.upper) if s is not None]


def _is_number(s: Scalar) -> bool:
    return all(isinstance(n, (Const, Apply)) for n in postorder(s))


def _scaled(ctx: Context, p: Parameter, base: Point, generator: random.Random) -> Iterator[tuple[str, _Move]]:
    """The parameter to an end of its range that it has not: an infinity, or a number that is left out."""
    box, here = ctx.ranges().parameter(p.name), base.parameters[p.name]
    ends = []
    if box.hi == INF:
        ends.append(_Move(max(here, Fraction(0)), Fraction(1), True))
    if box.lo == -INF:
        ends.append(_Move(min(here, Fraction(0)), Fraction(-1), True))
    low, high = (exact_end(ctx, p, low=low) for low in (True, False))
    if box.lo_open and low is not None:
        ends.append(_Move(Fraction(box.lo), Fraction(min(box.hi, box.lo + 2) - box.lo) / 2, False))
    if box.hi_open and high is not None:
        ends.append(_Move(Fraction(box.hi), -Fraction(box.hi - max(box.lo, box.hi - 2)) / 2, False))
    if ends:
        yield p.name, generator.choice(ends)


def _moved(ctx: Context, i: Input, base: Point, generator: random.Random) -> dict[tuple[str, Place], _Move]:
    """Entries of an input, each to an end of its domain."""
    box, entries = ctx.ranges().input(i.name), base.inputs[i.name]
    found: dict[tuple[str, Place], _Move] = {}
    common = generator.choice(_RATES)
    alike = generator.random() < 0.5
    for place, here in entries.items():
        rate = common if alike else generator.choice(_RATES)
        if rate == 0 or (alike and len(entries) > 1 and generator.random() < 0.2):
            continue
        if box.hi == INF and (rate > 0 or box.lo > -INF):
            found[i.name, place] = _Move(here, abs(rate), True)
        elif box.lo == -INF:
            found[i.name, place] = _Move(here, -abs(rate), True)
        else:
            end, sign = exact_end(ctx, i, low=rate > 0), 1 if rate > 0 else -1
            room = Fraction(box.hi) - Fraction(box.lo)
            if end is not None and room > 0:
                found[i.name, place] = _Move(end, sign * min(Fraction(1), room / 2), False)
    return found


def exact_end(ctx: Context, declared: Input | Parameter, *, low: bool) -> Fraction | None:
    """The finite end of a domain, if its enclosure is not rounded: what goes there stays in the domain."""
    box = ctx.ranges().input(declared.name) if isinstance(declared, Input) else ctx.ranges().parameter(declared.name)
    bound = declared.range.lower if low else declared.range.upper
    end: Fraction | None = None
    if isinstance(bound, Const) and isinstance(bound.value, Fraction):
        end = bound.value
    elif bound is None and declared.kind == "prob":
        end = Fraction(0 if low else 1)
    here = box.lo if low else box.hi
    return end if end is not None and abs(here) < INF and Fraction(here) == end else None


__all__ = ["exact_end", "unbounded"]
