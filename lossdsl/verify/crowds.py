"""Values without a bound as an axis grows: an entropy, a log-sum-exp or a sum is larger of more entries.

One bound is asked for all extents, too (`bounded`). Along one symbol `t` the inputs are alike but at the first place, so
that a reduction over it has one entry and `t - 1` others; everything else is fixed. The germ of an element in `t`
(`germs`) says where it goes: if its leading monomial grows, no bound holds.

A place along the axis is 0, or 1 for each of the others: what tells one of these from another raises Unsettled.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir.extents import symbols_of
from lossdsl.ir.nodes import (
    TRUE,
    Compare,
    Definition,
    Index,
    Input,
    Parameter,
    Program,
    Scalar,
    Size,
    postorder,
)
from lossdsl.verify import germs as g
from lossdsl.verify.context import Context
from lossdsl.verify.folds import every_place
from lossdsl.verify.germs import CONSTANT, LINEAR, Germ, Unsettled
from lossdsl.verify.paths import NO, YES, Along
from lossdsl.verify.pieces import dependents
from lossdsl.verify.points import Place, Point, elements
from lossdsl.verify.ranges import MIRROR
from lossdsl.verify.refute import points
from lossdsl.verify.verdict import Refuted, Witness
from lossdsl.verify.work import deadline, passed

_SHOWN = (3, 8, 24)  # extents that the witness shows
_LENGTH = g.monomial(LINEAR)
_OTHERS = g.add(_LENGTH, g.constant(Fraction(-1)))
_SHARE = g.monomial((Fraction(0), Fraction(-1), Fraction(0)))  # 1 / t


class Crowd(Along):
    """Germs of elements in the length of one axis, at a point where it has 2 entries."""

    def __init__(self, program: Program, point: Point, symbol: str, moving: Mapping[str, Mapping[Place, Germ]]) -> None:
        super().__init__(program, point, moving)
        self.symbol, self._own = symbol, Dim.symbol(symbol)

    def _definition(self, d: Definition, place: Place) -> Germ:
        env = dict(zip(d.formals, place, strict=True))
        for i in (*d.formals, *d.bound):
            self._length(i.dim)  # or Unsettled
        if d.support is not TRUE and not self._holds(d.support, env, {}):
            return g.ZERO
        if d.head == "map":
            return self.scalar(d.body, env, {})
        chosen: list[tuple[Germ, Germ]] = []
        for at in every_place([i.dim.evaluate(self.point.extents) for i in d.bound]):
            here, memo = {**env, **dict(zip(d.bound, at, strict=True))}, dict[Scalar, Germ]()
            if d.where is not TRUE and not self._holds(d.where, here, memo):
                continue
            weight = YES
            for i, k in zip(d.bound, at, strict=True):
                weight = g.mul(weight, _OTHERS) if k and i.dim == self._own else weight
            if d.head == "count":
                chosen.append((YES if self._holds(d.body, here, memo) else NO, weight))
            else:
                chosen.append((self.scalar(d.body, here, memo), weight))
        return _folded(d.head, chosen)

    def _length(self, dim: Dim) -> Germ:
        if dim == self._own:
            return _LENGTH
        if self.symbol in dim.symbols():
            raise Unsettled("an extent that grows in another way")
        return g.constant(Fraction(dim.evaluate(self.point.extents)))

    def _scalar(self, n: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Germ]) -> Germ:
        match n:
            case Size():
                return self._length(n.dim)
            case Index() if self._other(n, env):
                raise Unsettled("which of the others it is")
            case Compare():
                for a, b, op in ((n.a, n.b, n.op), (n.b, n.a, MIRROR[n.op])):
                    if isinstance(a, Index) and self._other(a, env):
                        return self._compared(a, op, b, env, memo)
        return super()._scalar(n, env, memo)

    def _other(self, i: Index, env: Mapping[Index, int]) -> bool:
        return i.dim == self._own and env[i] > 0

    def _compared(self, a: Index, op: str, b: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Germ]) -> Germ:
        """A comparison of a place that is one of the others with what is not above the first place."""
        if a is b:
            return YES if op in ("==", "<=", ">=") else NO
        if g.enclosed(self.scalar(b, env, memo).number()).hi > 0:
            raise Unsettled("which of the others it is")
        return YES if op in (">", ">=", "!=") else NO

    def _whole(self, n: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Germ]) -> int:
        return env[n] if isinstance(n, Index) else super()._whole(n, env, memo)


def _folded(head: str, chosen: list[tuple[Germ, Germ]]) -> Germ:
    """A reduction of entries, each as often as its weight says."""
    match head:
        case "sum" | "count":
            total = g.ZERO
            for v, weight in chosen:
                total = g.add(total, g.mul(v, weight))
            return total
        case "logsumexp" if chosen:
            return g.log_sum_exp([v if w is YES else g.add(v, g.logarithm(w)) for v, w in chosen])
        case "max" | "min" if chosen:
            sign = 1 if head == "max" else -1
            best = chosen[0][0]
            for v, _ in chosen[1:]:
                best = v if sign * g.sub(v, best).sign() > 0 else best
            return best
        case "any":
            return YES if any(v.sign() > 0 for v, _ in chosen) else NO
        case "all":
            return YES if all(v.sign() > 0 for v, _ in chosen) else NO
    raise Unsettled(f"no germ for {head}")


def unbounded(ctx: Context, target: str) -> Refuted | None:
    """An axis along which an element of the target leaves every bound as it grows."""
    symbols = _growing(ctx, target)
    if not symbols:
        return None
    generator, end = random.Random(91), deadline(2 * ctx.seconds)
    for base, symbol in ((b, s) for b in points(ctx, 91, endless=True) for s in symbols):
        if passed(end):
            return None
        drawn = _alike(ctx, base, symbol, generator)
        if drawn is None:
            continue
        point, moving = drawn
        for place in elements(ctx.program, target, point, most=2):
            try:
                germ = Crowd(ctx.program, point, symbol, moving).element(target, place)
                leading, coefficient = germ.lead()
            except (Unsettled, ValueError, OverflowError, ZeroDivisionError, KeyError):
                continue
            if leading > CONSTANT and all(ctx.admits(p) for p in _members(ctx, point, symbol)):
                goes = "inf" if g.enclosed(coefficient).positive else "-inf"
                members = tuple(p.flat() for p in _members(ctx, point, symbol))
                violation = f"the value is {germ} where {symbol} has t entries: it goes to {goes} as t does"
                return Refuted("germ in an extent", Witness(members, violation))
    return None


def _growing(ctx: Context, target: str) -> list[str]:
    """Symbols of axes on which no domain depends, of inputs that the target reads."""
    declared: list[Input | Parameter] = [*ctx.program.inputs, *ctx.program.parameters]
    ends = [s for d in declared for s in (d.range.lower, d.range.upper) if s is not None]
    bound = {s for n in postorder(*ends) if isinstance(n, Size) for s in n.dim.symbols()}
    bound |= {p.name for p in ctx.program.parameters}
    read = [i for i in ctx.program.inputs if target in dependents(ctx.program, i.name)]
    along = {s for i in read for d in i.dims for s in d.symbols()}
    return sorted((symbols_of(ctx.program) & along) - bound) if ctx.is_box else []


def _alike(
    ctx: Context, base: Point, symbol: str, generator: random.Random
) -> tuple[Point, dict[str, dict[Place, Germ]]] | None:
    """The point with 2 entries along the axis, all of an input alike or the first one apart; rows of a simplex along it
    are even."""
    if base.extents.get(symbol) != 2:
        return None
    moving: dict[str, dict[Place, Germ]] = {}
    inputs = dict(base.inputs)
    for i in ctx.program.inputs:
        axes = [k for k, d in enumerate(i.dims) if symbol in d.symbols()]
        if any(i.dims[k] != Dim.symbol(symbol) for k in axes):
            return None
        entries = base.inputs[i.name]
        if i.kind in ("simplex", "unit") and set(axes) & set(i.over):
            if i.kind == "unit" or len(i.over) != 1:
                return None
            inputs[i.name] = dict.fromkeys(entries, Fraction(1, 2))
            moving[i.name] = dict.fromkeys(entries, _SHARE)
        elif axes and generator.random() < 0.6:
            inputs[i.name] = {p: entries[tuple(0 if k in axes else v for k, v in enumerate(p))] for p in entries}
        if i.kind == "class" and i.classes is not None and symbol in i.classes.symbols():
            inputs[i.name] = dict.fromkeys(entries, Fraction(0))
    return base.with_inputs(inputs), moving


def _members(ctx: Context, point: Point, symbol: str) -> Iterator[Point]:
    for size in _SHOWN:
        extents = {**point.extents, symbol: size}
        inputs: dict[str, dict[Place, Fraction]] = {}
        for i in ctx.program.inputs:
            axes = {k for k, d in enumerate(i.dims) if symbol in d.symbols()}
            row = Fraction(1, size) if i.kind == "simplex" and axes & set(i.over) else None
            places = every_place([d.evaluate(extents) for d in i.dims])
            known = point.inputs[i.name]
            inputs[i.name] = {
                p: known[tuple(min(v, 1) if k in axes else v for k, v in enumerate(p))] if row is None else row
                for p in places
            }
        yield Point(extents, point.parameters, inputs)


__all__ = ["Crowd", "unbounded"]
