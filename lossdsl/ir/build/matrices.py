"""Functions of a matrix over two axes of one extent: `logdet(a over d, e)` and `inverse(a over d, e)`.

Both are written for symmetric positive definite matrices, and defined for all: `logdet` is log |det| (-inf where the
matrix is singular), `inverse` is nan where there is none. `solve(a, r)` is a contraction with the inverse.
"""

from __future__ import annotations

from lossdsl.ir.build.define import close, ordered
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.fold import Bound
from lossdsl.ir.build.scope import Context
from lossdsl.ir.nodes import TRUE, Index, Scalar
from lossdsl.syntax import tree


def logdet(e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
    """The logarithm of the absolute determinant of each matrix; 0 for one without rows."""
    _check(e, node, b)
    return b.as_real().reduce("logdet", b.as_real().body)


def inverse(e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
    """The inverse of each matrix, over the same two axes."""
    _check(e, node, b)
    frame = b.frame.copy()
    made: list[Index] = []
    for variable in b.variables:
        place = e.fresh_index(next(axis for axis, v in b.names.items() if v is variable))
        frame.ranges[place] = frame.range(variable)
        made.append(place)
    free = e.free(b.body).union(*(e.free(n.condition) for n in frame.needs))
    others = ordered(e, free - frozenset(b.variables))
    entity = close(
        e,
        b.place,
        frame,
        tensor=b.place.next_name(),
        name="this inverse",
        head="inverse",
        formals=(*others, *made),
        bound=b.variables,
        where=TRUE,
        body=b.as_real().body,
        written=True,
        span=node.span,
    )
    here = [ctx.axes.get(axis) for axis, v in b.names.items() if v in b.variables]
    return e.read(ctx, entity, [*others, *here], node.span)


def _check(e: Elaborator, node: tree.Call, b: Bound) -> None:
    usage = f"`axis e = d`, then `{node.function}(a over d, e)`"
    if node.where is not None or node.otherwise is not None:
        raise e.sink.fail("E0412", f"`{node.function}` takes no `where` and no `else`", node.span)
    if len(b.variables) != 2:
        raise e.sink.fail("E0412", f"`{node.function}` is over two axes, row and column", node.span, usage)
    extents = [upper - lower for lower, upper in map(b.frame.range, b.variables)]
    if extents[0] != extents[1]:
        message = f"a matrix of {extents[0]} x {extents[1]} entries has no {node.function}"
        raise e.sink.fail("E0302", message, node.span, usage)
    for axis, variable in b.names.items():
        if variable not in e.free(b.body):
            raise e.sink.fail("E0301", f"the argument has no axis `{axis}`", node.span)
