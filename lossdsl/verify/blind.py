"""Losses that do not tell labels apart, for some values of parameters and of inputs besides: none of them is calibrated.

If all labels have one loss L, the least L over predictions with another label on top is the least of all for some label:
every prediction has a label on top, and of two labels each may be the likelier one, the same L being its expected loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from lossdsl.ir.nodes import BOOL, Apply, Compare, Const, Param, Read, Scalar, postorder
from lossdsl.ir.rewrite import substitute, transform
from lossdsl.verify.labels import NoProblem, Problem, Sample, reads
from lossdsl.verify.pieces import fold
from lossdsl.verify.points import within
from lossdsl.verify.ranges import Scope
from lossdsl.verify.refute import _points
from lossdsl.verify.show import text
from lossdsl.verify.verdict import Refuted, Witness

_ENDS = (Fraction(0), Fraction(1))


def uncalibrated(problem: Problem) -> Refuted | None:
    """A point at which the label makes no difference."""
    if problem.classes is None and not (problem.whole_line or problem.probability):
        return None
    for parameters, inputs in _assignments(problem):
        try:
            found = _blind(problem, parameters, inputs)
        except NoProblem:
            continue
        if found is not None:
            return found
    return None


def _assignments(problem: Problem) -> Iterator[tuple[dict[Param, Fraction], dict[str, Fraction]]]:
    """Numbers for one parameter or one other input, or for all of either, at an end where factors are often 0."""
    ctx = problem.ctx
    ranges = ctx.ranges()
    fixed = set(ctx.fixed)
    parameters = [Param(p.name, p.dtype) for p in ctx.program.parameters if p.dtype is not BOOL and p.name not in fixed]
    yield {}, {}
    for value in _ENDS:
        free = [p for p in parameters if within(value, ranges.parameter(p.name))]
        yield from (({p: value}, {}) for p in free)
        if len(free) > 1:
            yield dict.fromkeys(free, value), {}
    others = [
        i.name
        for i in ctx.program.inputs
        if i.name not in (problem.prediction.name, problem.label.tensor, *fixed)
        and i.kind == "real"
        and not ctx.cuts_through(i.name)
        and within(Fraction(0), ranges.input(i.name))
    ]
    yield from (({}, {name: Fraction(0)}) for name in others)


def _blind(problem: Problem, parameters: dict[Param, Fraction], inputs: dict[str, Fraction]) -> Refuted | None:
    ctx = problem.ctx
    for p, value in parameters.items():
        ctx = ctx.narrowed(Compare("==", p, Const(value, p.dtype)))
    at = replace(problem, ctx=ctx)
    definition = ctx.program.definition(problem.target)
    assert definition is not None
    body = at.element
    known: dict[Scalar, Scalar] = {
        n: Const(inputs[n.tensor], n.dtype) for n in postorder(body) if isinstance(n, Read) and n.tensor in inputs
    }
    scope = ctx.ranges((problem.prediction.name,)).scope(frozenset(definition.dims))
    body = _without_zeros(fold(substitute(body, known)), scope)
    if next(reads(ctx.program, body, problem.label.tensor), None) is not None:
        return None
    for point in itertools.islice(_points(ctx, 29, (problem.prediction.name,)), 12):
        here = point.with_inputs({n: dict.fromkeys(point.inputs[n], v) for n, v in inputs.items()})
        sample = Sample(at, here)
        if not ctx.admits(here) or sample.count < 2 or not sample.counted:
            continue
        prediction = here.inputs[problem.prediction.name]
        if sample.losses(prediction) is not None:
            violation = f"the loss is {text(body)} whatever the label is, so that no prediction is of one label alone"
            return Refuted("one loss for all labels", Witness((sample.shown(prediction),), violation))
    return None


def _without_zeros(node: Scalar, scope: Scope) -> Scalar:
    """The scalar with products of 0 and a real number as 0, wherever it is defined."""

    def step(n: Scalar) -> Scalar:
        if isinstance(n, Apply) and n.name == "mul":
            a, b = n.args
            if any(x == Const(0) and scope[y].finite for x, y in ((a, b), (b, a))):
                return Const(0, n.dtype)
        return n

    return fold(transform(node, step))


__all__ = ["uncalibrated"]
