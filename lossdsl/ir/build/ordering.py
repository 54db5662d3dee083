"""Functions that sort: `sort argsort argmax argmin quantile median`.

The IR knows the stable permutation (`argsort`) and the winners (`argmax`, `argmin`) as heads with integer results;
everything else is a gather through them. Descending is the ascending order of the negated values, so that equal entries
stay in index order. Over several axes a position is the row-major flat one, as for `argmax`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lossdsl.dim import Dim
from lossdsl.ir.build.affine import Affine, affine, integer, substitute, to_scalar
from lossdsl.ir.build.define import Place, close, ordered
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.fold import Bound
from lossdsl.ir.build.scalars import arithmetic, negate, size_scalar
from lossdsl.ir.build.scope import Context, Failed, Slot, TensorEntity, base_name
from lossdsl.ir.nodes import Apply, Compare, Const, Index, Scalar, Select, real
from lossdsl.syntax import tree

RANK = "rank"  # the axis of a joint order; it is read by position only


@dataclass(frozen=True)
class Order:
    """The permutation that sorts the argument of `bound`: `entity[.., r]` is the position of rank r, counted from the
    first entry of the range. The last slot is the rank, along the sorted axis itself or, over several axes, along
    their product."""

    bound: Bound
    entity: TensorEntity
    others: tuple[Index, ...]

    def position(self, ctx: Context, rank: Scalar) -> Scalar:
        """The position of the entry of a rank (0-based, an INT scalar), read where `ctx` stands."""
        e = self.bound.elaborator
        slot = self.entity.slots[-1]
        whole = (*self.entity.slots[:-1], Slot.whole("", slot.upper - slot.lower))
        probe = Index("%rank", slot.upper - slot.lower)
        read = e.read(ctx, _with_slots(self.entity, whole), [*self.others, probe], self.bound.span)
        return substitute(read, {probe: rank})

    def at(self, position: Scalar) -> Scalar:
        """The argument at a position."""
        b = self.bound
        mapping: dict[Scalar, Scalar] = {}
        for variable, place in zip(_axes(b), _unflattened(b, position), strict=True):
            lower = b.frame.range(variable)[0]
            mapping[variable] = to_scalar(affine(place).shifted(lower))
        return substitute(b.body, mapping)


def _with_slots(entity: TensorEntity, slots: tuple[Slot, ...]) -> TensorEntity:
    return TensorEntity(
        entity.name,
        entity.tensor,
        slots,
        entity.dtype,
        True,
        entity.span,
        coordinates=entity.coordinates,
        needs=entity.needs,
    )


def _axes(b: Bound) -> list[Index]:
    """The bound variables in the order of the file, as every reduction has them: the first is the slowest."""
    return ordered(b.elaborator, b.variables)


def _extents(b: Bound) -> list[Dim]:
    ranges = [b.frame.range(v) for v in _axes(b)]
    return [upper - lower for lower, upper in ranges]


def _volume(extents: Sequence[Dim]) -> Dim:
    total = Dim.const(1)
    for extent in extents:
        total = total * extent
    return total


def _unflattened(b: Bound, flat: Scalar) -> list[Scalar]:
    """The place along each axis, from the first of its range, that a row-major flat position stands for."""
    extents = _extents(b)
    places: list[Scalar] = []
    for k, extent in enumerate(extents):
        inner = _volume(extents[k + 1 :])
        value = flat if inner.number == 1 else Apply("floordiv", (flat, size_scalar(inner)))
        places.append(value if k == 0 else Apply("mod", (value, size_scalar(extent))))
    return places


def _flattened(ctx: Context, b: Bound) -> Scalar:
    """The reader's own position, counted row by row from the first entry of the ranges."""
    extents = _extents(b)
    total = Affine({}, Dim.const(0))
    for k, variable in enumerate(_axes(b)):
        lower = b.frame.range(variable)[0]
        here = affine(ctx.axes.get(base_name(variable))).shifted(-lower)
        inner = _volume(extents[k + 1 :])
        total = total.plus(Affine({a: c * inner for a, c in here.terms.items()}, here.rest * inner))
    return to_scalar(total)


def order_of(e: Elaborator, place: Place, b: Bound, descending: bool) -> Order:
    """The definition of the permutation."""
    key = negate(b.body) if descending else b.body
    frame = b.frame.copy()
    free = e.free(key) | e.free(b.where)
    for need in frame.needs:
        free |= e.free(need.condition)
    others = tuple(ordered(e, free - frozenset(b.variables)))
    extents = _extents(b)
    if sum(1 for x in extents if any(c < 0 for _, c in x.terms)) > 1:
        help = "name the argument as a definition over whole axes first"
        raise e.sink.fail("E0311", "two axes that gave way cannot be sorted together", b.span, help)
    if len(b.variables) == 1:
        rank: Scalar = e.fresh_index(base_name(b.variables[0]))
        assert isinstance(rank, Index)
        frame.ranges[rank] = frame.range(b.variables[0])
        if b.variables[0] in frame.grids:
            frame.grids[rank] = frame.grids[b.variables[0]]
    else:
        rank = Index(RANK, _volume(extents))
        assert isinstance(rank, Index)
    entity = close(
        e,
        place,
        frame,
        tensor=place.next_name(),
        name="this order",
        head="argsort",
        formals=(*others, rank),
        bound=_axes(b),
        where=b.where,
        body=key,
        written=True,
        span=b.span,
    )
    return Order(b, entity, others)


# ------------------------------------------------------------------------------------------------------ handlers


def check_here(e: Elaborator, node: tree.Call, b: Bound) -> None:
    """The argument of an axis-keeping function has the axes along which it works."""
    for axis, variable in b.names.items():
        if variable not in e.free(b.body):
            raise e.sink.fail("E0301", f"the argument has no axis `{axis}`", node.span)


def sort(e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
    """`sort(x over c)`: the entry of rank c. Entries that `where` excludes are nowhere; past the last, `else`."""
    check_here(e, node, b)
    order = order_of(e, b.place, b, node.direction == "descending")
    rank = _own_rank(ctx, b, order)
    value = order.at(order.position(ctx, rank))
    if not b.filtered:
        return value
    if node.otherwise is None:
        help = "say what stands there: `sort(... where ... else 0)`"
        message = "`sort` has no value past the last entry that this `where` includes"
        raise e.sink.fail("E0404", message, node.span, help)
    condition = Compare("<", rank, b.count())
    other = e.expression(ctx, node.otherwise)
    return e.select(condition, value, other)


def argsort(e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
    """`argsort(x over c)`: where the entry of rank c stands; excluded ones follow in index order."""
    check_here(e, node, b)
    if node.otherwise is not None:
        raise e.sink.fail("E0412", "`argsort` takes no `else`: excluded entries come last", node.span)
    order = order_of(e, b.place, b, node.direction == "descending")
    return _coordinate(b, order.position(ctx, _own_rank(ctx, b, order)))


def _own_rank(ctx: Context, b: Bound, order: Order) -> Scalar:
    """The rank for which the reader's own position stands; narrows the reader's ranges as a read along them does."""
    e = b.elaborator
    for axis, variable in b.names.items():
        here, (lower, upper) = ctx.axes.get(axis), b.frame.range(variable)
        grid = b.frame.grids.get(variable)
        coarse = (grid.step, grid.extent) if grid is not None and grid.step > 1 else (1, None)
        slot = Slot(axis, e.axes[axis].dim, lower, upper, *coarse)
        _, missing, _ = e.place(ctx, order.entity, slot, here, b.span, False)
        if missing:
            raise e.sink.fail("E0405", "this rank is not proved to stay in range", b.span)
    return _flattened(ctx, b)


def _coordinate(b: Bound, position: Scalar) -> Scalar:
    """A position along one axis as a coordinate of it; over several axes it stays the flat position."""
    if len(b.variables) > 1:
        return position
    return to_scalar(affine(position).shifted(b.frame.range(b.variables[0])[0]))


def winner(e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
    """`argmax`, `argmin`: the first position of the extreme value."""
    if b.filtered and node.otherwise is None:
        raise no_value(e, node)
    return _coordinate(b, b.reduce(node.function, b.body))


def no_value(e: Elaborator, node: tree.Call) -> Failed:
    return e.sink.fail(
        "E0404",
        f"`{node.function}` has no value over an empty set, and this `where` may exclude everything",
        node.span,
        f"say what it is then: `{node.function}(... where ... else 0)`",
    )


def quantile(e: Elaborator, ctx: Context, node: tree.Call, b: Bound, q: Scalar | None) -> Scalar:
    """The `q`-quantile by linear interpolation between ranks; the median (q is None) is the mean of the middle two.

    The value is meaningful only where there is an entry; the caller guards it.
    """
    b = b.as_real()
    order = order_of(e, b.place, b, False)
    count = b.count()
    last = arithmetic("sub", count, integer(1))
    if q is None:
        low: Scalar = Apply("floordiv", (last, integer(2)))
        high: Scalar = Apply("floordiv", (count, integer(2)))
        first, second = (order.at(order.position(ctx, r)) for r in (low, high))
        if isinstance(count, Const):
            return first if count.value % 2 == 1 else arithmetic("div", Apply("add", (first, second)), Const(2))
        return Select(Compare("==", low, high), first, arithmetic("div", Apply("add", (first, second)), Const(2)))
    place = arithmetic("mul", q, real(last))
    low = Apply("floor", (place,))
    share = Apply("sub", (place, real(low)))
    first = order.at(order.position(ctx, low))
    second = order.at(order.position(ctx, Apply("min2", (arithmetic("add", low, integer(1)), last))))
    # Between infinite entries a share of 0 must not be multiplied by an infinite step.
    step = Apply("add", (first, Apply("mul", (share, Apply("sub", (second, first))))))
    return Select(Compare("<=", share, Const(0)), first, step)


__all__ = ["Order", "argsort", "check_here", "no_value", "order_of", "quantile", "sort", "winner"]
