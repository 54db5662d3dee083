"""Counterexamples to finiteness where entries are coupled: points whose exact value no number of the type comes near.

Entries of real inputs are drawn from the ends of what the type represents, from 0 and from small numbers. A value or a
gradient element counts if it is certainly more than 3/2 of the largest number: whatever the plan returns for it is then
infinite, or wrong by more than a third.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction

from lossdsl.ir.nodes import Input, Program
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.points import Evaluator, Place, Point, TooManySteps, Undecided, elements, within
from lossdsl.verify.refute import _points
from lossdsl.verify.verdict import Witness

_MOST = 60  # points
_FAR = 1.5


def overflowing(
    ctx: Context,
    programs: Sequence[tuple[Program, Sequence[str], float]],
    boxes: Mapping[str, Enclosure],
    cotangent: str,
) -> Witness | None:
    """A witness that one of the tensors is far beyond its limit. `programs`: each with tensors and their limit; `boxes`:
    what the type represents of each real input; `cotangent`: the name of the input that is 1 in gradient programs."""
    generator = random.Random(23)
    for low in itertools.islice(_points(ctx, 21), _MOST):
        point = _extreme(ctx.program, low, boxes, generator)
        if point is None or not ctx.admits(point):
            continue
        ones = {cotangent: _ones(programs, cotangent, point)}
        for program, names, limit in programs:
            evaluator = Evaluator(program, point.with_inputs(ones))
            for name in names:
                for place in elements(program, name, point):
                    try:
                        value = evaluator.element(name, place)
                    except (TooManySteps, Undecided, ValueError, OverflowError, ZeroDivisionError):
                        break
                    if not value.nan and (value.lo / _FAR > limit or value.hi / _FAR < -limit):
                        return Witness((point.flat(),), f"{name} is in {value}, outside of the type")
    return None


def _extreme(program: Program, low: Point, boxes: Mapping[str, Enclosure], generator: random.Random) -> Point | None:
    """The point with some entries of its real inputs at the ends of their boxes, its parameters as the type has them."""
    share = generator.choice((0.2, 0.6, 1.0))
    inputs = {i.name: _drawn(i, low.inputs[i.name], boxes, generator, share) for i in program.inputs}
    parameters = {}
    for name, value in low.parameters.items():
        parameters[name] = value
        if value.denominator & (value.denominator - 1):
            parameters[name] = Fraction(struct.unpack("f", struct.pack("f", float(value)))[0])
    return Point(low.extents, parameters, inputs)


def _drawn(
    i: Input, entries: dict[Place, Fraction], boxes: Mapping[str, Enclosure], generator: random.Random, share: float
) -> dict[Place, Fraction]:
    box = boxes.get(i.name)
    if box is None or i.kind not in ("real", "prob") or not box.bounded:
        return entries
    ends = [v for v in (Fraction(box.lo), Fraction(box.hi)) if within(v, box)]
    return {p: generator.choice(ends) if ends and generator.random() < share else v for p, v in entries.items()}


def _ones(programs: Sequence[tuple[Program, Sequence[str], float]], name: str, point: Point) -> dict[Place, Fraction]:
    declared = next((found for p, _, _ in programs if (found := p.input(name)) is not None), None)
    if declared is None:
        return {}
    places = itertools.product(*(range(d.evaluate(point.extents)) for d in declared.dims))
    return dict.fromkeys(places, Fraction(1))


__all__ = ["overflowing"]
