"""Self-concordance (Nesterov and Nemirovskii, 1994) of losses of one entry: |f'''| <= 2 f''^(3/2), f convex and three times
differentiable inside of the domain. It does not depend on the scale and the offset of the entry, so that it is decided in the
variable of the scalar view; whether f goes to infinity at the boundary (closedness) is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from lossdsl.ir.nodes import Const, Read, postorder
from lossdsl.verify import enclosure as e
from lossdsl.verify import properties
from lossdsl.verify.algebra import Form, TooLarge, minus, plus, power, times
from lossdsl.verify.boxes import At
from lossdsl.verify.context import Context
from lossdsl.verify.labels import NoProblem
from lossdsl.verify.pieces import NotScalar, View, fold
from lossdsl.verify.points import Point
from lossdsl.verify.refute import points
from lossdsl.verify.regret import fixed_view, numbers
from lossdsl.verify.scalar import Smooth, Stuck, joins, smooth_pieces
from lossdsl.verify.show import text
from lossdsl.verify.signs import prove
from lossdsl.verify.verdict import Proved, Refuted, Step, Unknown, Verdict, Witness

_TRIED = ("third derivative, piece by piece", "search")
_LINE = [Fraction(k, 8) for k in (0, 1, -1, 4, -4, 8, -8, 16, -16, 40, -40, 160, -160)]


def self_concordant(ctx: Context, target: str, inputs: tuple[str, ...]) -> Verdict:
    """Whether every element of the target is self-concordant in the input."""
    if len(inputs) != 1:
        return Unknown("third derivatives in several inputs at once", ())
    smooth = properties.smoothness(ctx, target, inputs)
    if smooth.fails is not None and smooth.fails[0] <= 3:
        return smooth.fails[1]
    cases = properties.scalar_views(ctx, target, inputs[0])
    if isinstance(cases, str):
        return Unknown(cases, _TRIED)
    steps: list[Step] = []
    blocked = "" if cases else "no case"
    for view in cases:
        blocked = blocked or _unproved(ctx, view, steps)
    if not blocked:
        return Proved("third derivative, piece by piece", tuple(steps))
    return _violated(ctx, inputs[0], cases) or Unknown(blocked, _TRIED)


def _gap(smooth: Smooth) -> tuple[Form, Form]:
    """f'', and 4 f''^3 - f'''^2. Raises TooLarge."""
    second, third = smooth.order(2), smooth.order(3)
    return second, plus(times(smooth.field.number(4), power(second, 3)), minus(power(third, 2)))


def _unproved(ctx: Context, view: View, steps: list[Step]) -> str:
    """What stands in the way of a proof of one case; "" if it is proved."""
    try:
        pieces = smooth_pieces(view)
        for join in joins(view, pieces, ctx.budget, 3) if len(pieces) > 1 else ():
            if not all(jump.zero for jump in join.jumps):
                return f"a derivative jumps at {view.shown(join.surface)} = 0"
        for smooth in pieces:
            shown = view.shown(smooth.piece.body)
            for form, words in zip(_gap(smooth), ("f''", "4 f''^3 - f'''^2"), strict=True):
                how = prove(smooth.field, form, smooth.constraints, ctx.budget)
                if how is None:
                    return f"the sign of {words} of {shown}"
                steps.append(Step(how, shown, f"{words} >= 0"))
    except Stuck as reason:
        return str(reason)
    except TooLarge:
        return "the normal form of the third derivative is too large"
    return ""


def _violated(ctx: Context, entry: str, cases: list[View]) -> Refuted | None:
    """A point at which the third derivative is too large for the second one."""
    for view in cases:
        for point in points(ctx, 41, (entry,)):
            for at in _along(ctx, point, entry):
                violation = _violation(view, at)
                if violation:
                    return Refuted("third derivative at a point", Witness((at.flat(),), violation))
    return None


def _along(ctx: Context, point: Point, entry: str) -> Iterator[Point]:
    """The point, and with all entries of the input on a grid."""
    yield point
    for v in _LINE:
        moved = point.with_inputs({entry: dict.fromkeys(point.inputs[entry], v)})
        if ctx.admits(moved):
            yield moved


def _violation(view: View, point: Point) -> str:
    """What is violated at the point, where it certainly is."""
    try:
        here = fixed_view(view, point)
        inner = fold(numbers(point, view.inner, ""))
        if here is None or not isinstance(inner, Const) or not isinstance(inner.value, Fraction):
            return ""
        if any(isinstance(n, Read) and n is not here.variable for n in postorder(here.body)):
            return ""
        for smooth in smooth_pieces(here):
            second, gap = _gap(smooth)
            third = smooth.order(3)
            at = At(smooth.field, {smooth.slot: e.exact(inner.value)})
            if not all(at.value(c).positive for c in smooth.constraints):
                continue
            if at.value(second).negative or at.value(gap).negative:
                return f"in {text(view.inner)} f'' is in {at.value(second)} and f''' in {at.value(third)} there"
    except (NoProblem, NotScalar, Stuck, TooLarge):
        pass
    return ""


__all__ = ["self_concordant"]
