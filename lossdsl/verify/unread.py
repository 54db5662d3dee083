"""Entries of an input that an element of the target does not read, of a row of which it reads one: along them it is constant,
however curved it is in the entry that it reads.

Axes that the element has, too, do not matter: every element has entries of its own there.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

from lossdsl.ir.check import depends_on_data
from lossdsl.ir.nodes import Index, Read
from lossdsl.ir.rewrite import free_indices
from lossdsl.verify.context import Context
from lossdsl.verify.folds import Undecided
from lossdsl.verify.pieces import View
from lossdsl.verify.points import Evaluator, Point, elements, entry_name, within
from lossdsl.verify.refute import _counts, _points, _value
from lossdsl.verify.verdict import Refuted, Witness


def unread(ctx: Context, target: str, cases: list[View]) -> list[int]:
    """The axes of the input of which the element reads one place alone, with perhaps more places than that."""
    definition = ctx.program.definition(target)
    if definition is None or not cases:
        return []
    entry = cases[0].entry
    declared = ctx.program.input(entry.tensor)
    dims = declared.dims if declared is not None else ()
    own = set(definition.formals)
    found = []
    for k, (index, dim) in enumerate(zip(entry.indices, dims, strict=False)):
        of_element = bool(own & set(free_indices(index))) and not depends_on_data(index)
        if not of_element and dim.constant != 1:
            found.append(k)
    return found


def constant(ctx: Context, target: str, cases: list[View]) -> Refuted | None:
    """Two points that differ in an entry which the element does not read."""
    axes, definition = unread(ctx, target, cases), ctx.program.definition(target)
    if not axes or definition is None or ctx.symbolic(cases[0].entry.tensor):
        return None
    entry = cases[0].entry
    box = ctx.ranges().input(entry.tensor)
    for low in itertools.islice(_points(ctx, 53, (entry.tensor,)), 40):
        for place in elements(ctx.program, target, low):
            value = _value(ctx, low, target, place)
            if value is None or not value.bounded or not _counts(ctx, low, target, place):
                continue
            env: dict[Index, int] = dict(zip(definition.formals, place, strict=True))
            at = _place(ctx, low, entry, env)
            others = (p for p in low.inputs[entry.tensor] if at is not None and any(p[k] != at[k] for k in axes))
            for other in others:
                moved = {**low.inputs[entry.tensor]}
                moved[other] += 1 if within(moved[other] + 1, box) else -1
                high = low.with_inputs({entry.tensor: moved})
                if within(moved[other], box) and ctx.admits(high):
                    words = (
                        f"{target} does not read {entry_name(entry.tensor, other)}: it is constant between the points"
                    )
                    points = (low.flat(), high.flat(entry.tensor))
                    return Refuted("entries that are not read", Witness(points, words, Fraction(1, 2)))
    return None


def _place(ctx: Context, point: Point, entry: Read, env: dict[Index, int]) -> tuple[int, ...] | None:
    """The place that the element reads."""
    evaluator = Evaluator(ctx.program, point)
    try:
        found = [evaluator.scalar(i, env) for i in entry.indices]
    except (Undecided, ValueError, OverflowError, ZeroDivisionError, KeyError):
        return None
    return tuple(int(v.lo) for v in found) if all(v.lo == v.hi for v in found) else None


__all__ = ["constant", "unread"]
