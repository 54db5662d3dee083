"""Arguments of what is called with tensors: inputs, definitions with written axes, expressions with their axes listed."""

from __future__ import annotations

from dataclasses import replace

from lossdsl.ir.build.define import Place, close
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.scalars import strip
from lossdsl.ir.build.scope import REST, Context, Frame, Slot, TensorEntity, base_name
from lossdsl.ir.nodes import TRUE, Index, Read, Scalar, postorder
from lossdsl.syntax import tree


def _through(ctx: Context, node: tree.Expr) -> tuple[Context, tree.Expr]:
    """The expression that a name stands for where it is an argument of the function around the call."""
    node = strip(node)
    while isinstance(node, tree.Name) and node.id in ctx.locals:
        argument = ctx.locals[node.id]
        ctx = replace(ctx, locals=argument.locals, loss_names=argument.loss_names, calls=argument.calls)
        node = strip(argument.value)
    return ctx, node


def tensor(
    e: Elaborator, place: Place, ctx: Context, node: tree.Expr, what: str, condition: bool = False
) -> TensorEntity:
    """The tensor that an argument is, with an order of its axes that the file has written. Where no `condition` is asked
    for, a condition counts 0 and 1."""
    ctx, node = _through(ctx, node)
    if isinstance(node, tree.Name) and node.id not in e.axes:
        entity = e.lookup(ctx, node.id, node.span)
        if isinstance(entity, TensorEntity):
            if entity.written or len(entity.slots) <= 1:
                return entity
            help = f"write `{entity.name}[{', '.join(s.axis for s in entity.slots)}] = ...`"
            raise e.sink.fail("E0303", f"the axes of `{entity.name}` are not written", node.span, help)
    listed = _listed(e, node)
    if listed is None:
        value, frame = _value(e, ctx, node, condition)
        axes = sorted(e.free(value), key=lambda i: i.name)
        if len(axes) > 1:
            help = "name it as a definition with written axes, `z[n, c] = ...`, or list its axes: `(...)[n, c]`"
            message = f"{what} is called with tensors whose axes are written"
            raise e.sink.fail("E0303", message, node.span, help)
        return _closed(e, place, frame, value, axes, node)
    assert isinstance(node, tree.Access)
    base_ctx, base = _through(ctx, node.base)
    entity_ = e._direct(base_ctx, base, shifted=False)
    if entity_ is not None:
        have = [s.axis for s in entity_.slots]
        if have == listed:
            return replace(entity_, written=True)
        whole = not any(s.restricted for s in entity_.slots) and len(have) == len(listed)
        if entity_.written and whole and all(e.axes[a].dim == s.full for a, s in zip(listed, entity_.slots)):
            return replace(entity_, slots=tuple(Slot.whole(a, e.axes[a].dim) for a in listed))
    reordered = entity_ is None or (not entity_.written and sorted(s.axis for s in entity_.slots) == sorted(listed))
    value, frame = _value(e, ctx, node.base if reordered else node, condition)
    formals = [i for i in map(e.default_index, listed) if isinstance(i, Index)]
    missing = [base_name(i) for i in e.free(value) if i not in formals]
    if missing:
        raise e.sink.fail("E0306", f"`{missing[0]}` is not among the axes that are listed", node.span)
    return _closed(e, place, frame, value, formals, node)


def scalar(e: Elaborator, place: Place, ctx: Context, node: tree.Expr) -> tree.Expr | TensorEntity:
    """An argument without declared axes: what is made of numbers, parameters and extents as it is written, anything
    else as a tensor under the caller's axes."""
    ctx, inner = _through(ctx, node)
    if isinstance(inner, tree.Name):
        entity = e.lookup(ctx, inner.id, inner.span) if inner.id in e.names and ctx.loss_names else None
        if isinstance(entity, TensorEntity):
            return entity
    value, frame = _value(e, ctx, inner)
    plain = not any(isinstance(s, (Read, Index)) for s in postorder(value))
    if plain and not ctx.locals:
        return tree.Paren(inner=inner, span=inner.span)
    return _closed(e, place, frame, value, sorted(e.free(value), key=lambda i: e.axes[base_name(i)].order), inner)


def setting(e: Elaborator, ctx: Context, node: tree.Expr) -> Scalar:
    """What is given for a parameter, as a value: a condition stays one."""
    ctx, inner = _through(ctx, node)
    top = replace(
        e.top_context(Frame(), unwritten=False), locals=ctx.locals, loss_names=ctx.loss_names, calls=ctx.calls
    )
    return e.expression(top, inner)


def _listed(e: Elaborator, node: tree.Expr) -> list[str] | None:
    """The axes of `z[n, d]` where nothing but axes stands in the brackets."""
    if not isinstance(node, tree.Access) or node.otherwise is not None:
        return None
    names: list[str] = []
    for item in node.items:
        if isinstance(item, tree.Rest):
            names.append(REST)
        elif isinstance(item, tree.Name) and item.id in e.axes:
            names.append(item.id)
        else:
            return None
    return names if len(set(names)) == len(names) else None


def _value(e: Elaborator, ctx: Context, node: tree.Expr, condition: bool = False) -> tuple[Scalar, Frame]:
    frame = Frame()
    top = replace(e.top_context(frame, unwritten=False), locals=ctx.locals, loss_names=ctx.loss_names, calls=ctx.calls)
    value = e.expression(top, node)
    return value if condition else e.number(value), frame


def _closed(
    e: Elaborator, place: Place, frame: Frame, value: Scalar, formals: list[Index], node: tree.Expr
) -> TensorEntity:
    return close(
        e,
        place,
        frame,
        tensor=place.next_name(),
        name="this argument",
        head="map",
        formals=formals,
        bound=(),
        where=TRUE,
        body=value,
        written=True,
        span=node.span,
    )


__all__ = ["scalar", "tensor"]
