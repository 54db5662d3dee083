"""Cumulative reductions: `cumsum cumprod cumlogsumexp`, recurrences along one axis, forward or backward."""

from __future__ import annotations

from lossdsl.ir.build.affine import affine, to_scalar
from lossdsl.ir.build.define import close, ordered
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.fold import Bound
from lossdsl.ir.build.scope import Context, base_name
from lossdsl.ir.nodes import (
    INT,
    ONE,
    TRUE,
    ZERO,
    Apply,
    Compare,
    Const,
    Read,
    Scalar,
    Select,
    Size,
    real,
)
from lossdsl.syntax import tree

_STEP = {"cumsum": "add", "cumprod": "mul", "cumlogsumexp": "logaddexp"}
_NOTHING: dict[str, Const] = {"cumsum": ZERO, "cumprod": ONE, "cumlogsumexp": Const("-inf")}


def cumulate(e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
    """`cumsum(x over t)`: at each t the fold of what comes up to it, itself included; `backward`: from it on.

    What `where` excludes adds nothing and is not evaluated.
    """
    if len(b.variables) != 1:
        raise e.sink.fail("E0412", f"`{node.function}` runs along one axis", node.span, "reshape: `axis p = h * w`")
    (variable,) = b.variables
    if variable not in e.free(b.body):
        raise e.sink.fail("E0301", f"the argument has no axis `{base_name(variable)}`", node.span)
    body = b.body if node.function == "cumsum" and b.body.dtype is INT else real(b.body)
    if b.filtered:
        nothing = _NOTHING[node.function]
        body = Select(b.where, body, Const(nothing.value, body.dtype))
    frame = b.frame.copy()
    free = e.free(body)
    for need in frame.needs:
        free |= e.free(need.condition)
    formals = ordered(e, free)
    lower, upper = frame.range(variable)
    tensor = b.place.next_name()
    sign = -1 if node.direction == "backward" else 1
    # The tensor is read at places that count from the start of the range.
    stored = [to_scalar(affine(v).shifted(-frame.range(v)[0])) for v in formals]
    place = to_scalar(affine(variable).shifted(-lower - sign))
    stored[formals.index(variable)] = place
    inside = Compare(">=", place, Const(0, INT)) if sign > 0 else Compare("<", place, Size(upper - lower))
    before = Read(tensor, tuple(stored), body.dtype)
    value = Select(inside, Apply(_STEP[node.function], (before, body)), body)
    entity = close(
        e,
        b.place,
        frame,
        tensor=tensor,
        name=f"this {node.function}",
        head="map",
        formals=formals,
        bound=(),
        where=TRUE,
        body=value,
        written=True,
        span=b.span,
        run=((variable, sign),),
    )
    own = [ctx.axes.get(base_name(variable)) if v is variable else v for v in formals]
    return e.read(ctx, entity, own, b.span)


__all__ = ["cumulate"]
