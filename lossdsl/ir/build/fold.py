"""A reduction under way: what it binds, over which ranges, and how it becomes a definition of the IR."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lossdsl.diagnostics import Span
from lossdsl.ir.build.affine import conjuncts, integer, substitute
from lossdsl.ir.build.define import Place, count_scalar, lift
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.scope import REST, Axes, Context, Frame
from lossdsl.ir.nodes import TRUE, Compare, Const, Index, Not, Scalar, real
from lossdsl.syntax import tree


@dataclass(frozen=True)
class Bound:
    """A reduction under way: its frame, its variables, its condition, its argument."""

    ctx: Context
    frame: Frame
    inner: Context
    variables: tuple[Index, ...]
    names: dict[str, Index]
    where: Scalar
    body: Scalar
    span: Span
    place: Place
    elaborator: Elaborator

    def reduce(self, head: str, body: Scalar, where: Scalar | None = None) -> Scalar:
        """The read of a definition that folds `body` over the bound variables."""
        frame = self.frame.copy()
        condition = self.where if where is None else where
        return lift(self.elaborator, self.place, self.ctx, frame, head, self.variables, condition, body, self.span)

    @property
    def filtered(self) -> bool:
        return self.where is not TRUE

    def as_real(self) -> Bound:
        """The same with a real argument."""
        return replace(self, body=real(self.body))

    def count(self) -> Scalar:
        """How many entries there are, as an INT scalar."""
        if self.filtered:
            return self.reduce("count", TRUE)
        return count_scalar(self.frame, self.variables)

    def empty(self, count: Scalar | None = None) -> Scalar | None:
        """The condition that there is no entry; None where that cannot be."""
        if self.filtered:
            if count is not None:
                return Compare("==", count, integer(0))
            return Not(self.reduce("any", TRUE))
        count = self.count()
        if isinstance(count, Const) and count.value != 0:
            return None
        return Compare("==", count, integer(0))


def bind(e: Elaborator, place: Place, ctx: Context, node: tree.Call) -> Bound:
    """Elaborate the argument and the condition of a reduction with its axes bound to fresh indices."""
    frame = Frame()
    outer = (*ctx.outer, *ctx.path)
    argument = node.arguments[0]
    if node.over is None:
        return _bind_all(e, place, ctx, node, frame, outer)
    names: dict[str, Index] = {}
    for item in node.over:
        axis = REST if isinstance(item, tree.Rest) else item.name
        if axis in names:
            raise e.sink.fail("E0302", f"axis `{axis}` is bound twice", item.span)
        e.axis(axis, item.span)
        names[axis] = e.fresh_index(axis)
    inner = replace(
        ctx,
        frame=frame,
        axes=ctx.axes.extended(names),
        path=(),
        outer=outer,
        reducing=ctx.reducing | names.keys(),
    )
    where = TRUE if node.where is None else e.condition(inner, node.where)
    body = e.expression(replace(inner, path=conjuncts(where) if where is not TRUE else ()), argument)
    free = e.free(body) | e.free(where)
    for item in node.over:
        axis = REST if isinstance(item, tree.Rest) else item.name
        if names[axis] not in free:
            help = f"the argument does not depend on `{axis}`: multiply by `size({axis})` if that is meant"
            raise e.sink.fail("E0301", f"nothing here has the axis `{axis}` that `over` binds", item.span, help)
    variables = tuple(names.values())
    return Bound(ctx, frame, inner, variables, names, where, body, node.span, place, e)


def _bind_all(
    e: Elaborator, place: Place, ctx: Context, node: tree.Call, frame: Frame, outer: tuple[Scalar, ...]
) -> Bound:
    lazy: Axes = ctx.axes.lazily(e.fresh_index)
    inner = replace(ctx, frame=frame, axes=lazy, path=(), outer=outer)
    where = TRUE if node.where is None else e.condition(inner, node.where)
    body = e.expression(replace(inner, path=conjuncts(where) if where is not TRUE else ()), node.arguments[0])
    names = {a: v for a, v in lazy.own.items() if isinstance(v, Index) and v in e.free(body)}
    if not names:
        help = "a number needs no reduction; name what is counted with `over`"
        raise e.sink.fail("E0301", f"the argument of `{node.function}` has no axis", node.span, help)
    # Axes of the condition alone are not bound: they are those around the reduction.
    outside: dict[Scalar, Scalar] = {v: ctx.axes.get(a) for a, v in lazy.own.items() if a not in names}
    where = substitute(where, outside)
    frame.needs[:] = [replace(n, condition=substitute(n.condition, outside)) for n in frame.needs]
    for variable, outer_index in outside.items():
        if isinstance(variable, Index):
            moved, grid = frame.ranges.pop(variable, None), frame.grids.pop(variable, None)
            if isinstance(outer_index, Index):
                if moved is not None:
                    e.narrow(frame, outer_index, moved, node.span)
                if grid is not None:
                    frame.grids.setdefault(outer_index, grid)
    inner = replace(inner, axes=ctx.axes.extended(names))
    return Bound(ctx, frame, inner, tuple(names.values()), names, where, body, node.span, place, e)


__all__ = ["Bound", "bind"]
