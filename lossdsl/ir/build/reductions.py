"""Reductions: what they bind, their values over empty sets, and their lowering to the few heads of the IR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.diagnostics import Span
from lossdsl.ir.build.affine import conjuncts, integer, substitute
from lossdsl.ir.build.define import Place, count_scalar, lift
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.scalars import arithmetic, whole_power
from lossdsl.ir.build.scope import REST, Axes, Context, Frame
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    TRUE,
    ZERO,
    Apply,
    Compare,
    Const,
    Index,
    Not,
    Scalar,
    Select,
    real,
)
from lossdsl.syntax import tree

ELEMENTWISE = {"max": "max2", "min": "min2", "logsumexp": "logaddexp"}
_NOT_YET = ("edge", "reflect", "wrap", "argmax", "argmin")
KEYWORDS = {"norm": ("p",), "var": ("correction",), "std": ("correction",), "normalize": ("eps",)}


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
        frame = Frame(dict(self.frame.ranges), list(self.frame.needs), list(self.frame.visits))
        condition = self.where if where is None else where
        return lift(self.elaborator, self.place, self.ctx, frame, head, self.variables, condition, body, self.span)

    @property
    def filtered(self) -> bool:
        return self.where is not TRUE

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
    for variable in outside:
        if isinstance(variable, Index):
            frame.ranges.pop(variable, None)
    inner = replace(inner, axes=ctx.axes.extended(names))
    return Bound(ctx, frame, inner, tuple(names.values()), names, where, body, node.span, place, e)


class Reductions:
    """Handlers for the reductions, bound to the place where their definitions go."""

    def __init__(self, place: Place) -> None:
        self.place = place
        lowered: dict[str, Callable[[Elaborator, Context, tree.Call, Bound], Scalar]] = {
            "sum": self._sum,
            "prod": self._prod,
            "mean": self._mean,
            "max": self._extreme,
            "min": self._extreme,
            "logsumexp": self._logsumexp,
            "norm": self._norm,
            "var": self._var,
            "std": self._std,
            "any": self._any_all,
            "all": self._any_all,
            "count": self._count,
        }
        kept: dict[str, Callable[[Elaborator, Context, tree.Call, Bound], Scalar]] = {
            "softmax": self._softmax,
            "log_softmax": self._softmax,
            "normalize": self._normalize,
        }
        self.handlers: dict[str, Callable[[Elaborator, Context, tree.Call], Scalar]] = {}
        for name, lower in lowered.items():
            self.handlers[name] = self._handler(lower, keeps=False)
        for name, lower in kept.items():
            self.handlers[name] = self._handler(lower, keeps=True)
        for name in _NOT_YET:
            self.handlers[name] = _not_yet

    def _handler(
        self, lower: Callable[[Elaborator, Context, tree.Call, Bound], Scalar], keeps: bool
    ) -> Callable[[Elaborator, Context, tree.Call], Scalar]:
        def handle(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
            several = len(node.arguments) > 1
            if several and node.function in ELEMENTWISE and not node.keywords:
                if node.over is not None or node.where is not None or node.otherwise is not None:
                    help = "reduce first, then compare: `max(a, max(b over n))`"
                    raise e.sink.fail("E0412", "several arguments are elementwise and take no clauses", node.span, help)
                return _elementwise(e, ctx, node)
            if len(node.arguments) != 1:
                raise e.arity(node, f"`{node.function}(value over axes)`")
            if node.direction is not None:
                raise e.sink.fail("E0412", f"`{node.function}` has no direction", node.span)
            allowed = KEYWORDS.get(node.function, ())
            for keyword in node.keywords:
                if keyword.name not in allowed:
                    raise e.sink.fail("E0410", f"`{node.function}` has no argument `{keyword.name}`", keyword.span)
            if keeps:
                if node.over is None:
                    help = f"`{node.function}(x over c)`"
                    raise e.sink.fail("E0412", f"`{node.function}` needs to know its axes", node.span, help)
                if node.otherwise is not None:
                    raise e.sink.fail("E0412", f"`{node.function}` takes no `else`", node.span)
            bound = bind(e, self.place, ctx, node)
            if bound.body.dtype is BOOL and node.function not in ("any", "all", "count"):
                bound = replace(bound, body=e.number(bound.body))
            return lower(e, ctx, node, bound)

        return handle

    # Every `else` stands around the reduction: its indices are those of the reader.
    def _otherwise(self, e: Elaborator, ctx: Context, node: tree.Call, empty: Scalar | None) -> Scalar | None:
        if node.otherwise is None:
            return None
        return e.expression(ctx.under((empty,) if empty is not None else ()), node.otherwise)

    def _with_else(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound, value: Scalar) -> Scalar:
        if node.otherwise is None:
            return value
        empty = b.empty()
        other = self._otherwise(e, ctx, node, empty)
        if empty is None or other is None:
            return value
        if isinstance(empty, Not):
            return e.select(empty.a, value, other)
        return e.select(empty, other, value)

    def _sum(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        return self._with_else(e, ctx, node, b, b.reduce("sum", b.body))

    def _prod(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        return self._with_else(e, ctx, node, b, b.reduce("prod", real(b.body)))

    def _logsumexp(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        return self._with_else(e, ctx, node, b, b.reduce("logsumexp", real(b.body)))

    def _any_all(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        self._boolean(e, node, b)
        return self._with_else(e, ctx, node, b, b.reduce(node.function, b.body))

    def _count(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        self._boolean(e, node, b)
        return self._with_else(e, ctx, node, b, b.reduce("count", b.body))

    def _boolean(self, e: Elaborator, node: tree.Call, b: Bound) -> None:
        if b.body.dtype is not BOOL:
            help = f"`{node.function}(x > 0 over n)`"
            raise e.sink.fail("E0411", f"`{node.function}` needs a condition", node.arguments[0].span, help)

    def _mean(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        total = b.reduce("sum", real(b.body))
        count = b.count()
        empty = b.empty(count)
        value = arithmetic("div", total, real(count))
        if empty is None:
            return value
        other = self._otherwise(e, ctx, node, empty)
        return e.select(empty, ZERO if other is None else other, value)

    def _extreme(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        if b.filtered and node.otherwise is None:
            raise e.sink.fail(
                "E0404",
                f"`{node.function}` has no value over an empty set, and this `where` may exclude everything",
                node.span,
                f"say what it is then: `{node.function}(... where ... else 0)`",
            )
        return self._with_else(e, ctx, node, b, b.reduce(node.function, b.body))

    def _constant(self, e: Elaborator, ctx: Context, node: tree.Call, name: str, default: Scalar) -> Scalar:
        keyword = next((k for k in node.keywords if k.name == name), None)
        return default if keyword is None else e.number(e.expression(ctx, keyword.value))

    def _norm(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        p = self._constant(e, ctx, node, "p", integer(2))
        body = real(b.body)
        value: Scalar
        if not isinstance(p, Const):
            raise e.unavailable("a norm whose `p` is not a number", node.span)
        if p.value == 2:
            value = Apply("sqrt", (b.reduce("sum", whole_power(body, 2)),))
        elif p.value == 1:
            value = b.reduce("sum", Apply("abs", (body,)))
        elif p.value == "inf":
            empty = b.empty()
            greatest = b.reduce("max", Apply("abs", (body,)))
            value = greatest if empty is None else Select(empty, ZERO, greatest)
        elif isinstance(p.value, Fraction) and p.value > 0:
            powers = b.reduce("sum", e.power(b.inner, Apply("abs", (body,)), p, node.span))
            value = e.power(ctx, powers, Const(1 / p.value), node.span)
        else:
            raise e.sink.fail("E0409", "the `p` of a norm is a positive number or `inf`", node.span)
        return self._with_else(e, ctx, node, b, value)

    def _variance(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> tuple[Scalar, Scalar]:
        """(variance, condition that there are too few entries for it)."""
        correction = self._constant(e, ctx, node, "correction", integer(0))
        body, count = real(b.body), b.count()
        total = b.reduce("sum", body)
        mean = arithmetic("div", total, real(count))
        squares = b.reduce("sum", whole_power(arithmetic("sub", body, mean), 2))
        number = [count, correction] if correction.dtype is INT else [real(count), correction]
        few = Compare("<=", number[0], number[1])
        degrees = count if correction == integer(0) else arithmetic("sub", *number)
        return arithmetic("div", squares, real(degrees)), few

    def _var(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        value, few = self._variance(e, ctx, node, b)
        other = self._otherwise(e, ctx, node, few)
        return e.select(few, ZERO if other is None else other, value)

    def _std(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        value, few = self._variance(e, ctx, node, b)
        other = self._otherwise(e, ctx, node, few)
        return e.select(few, ZERO if other is None else other, Apply("sqrt", (value,)))

    def _here(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> tuple[Scalar, Scalar]:
        """The argument and the condition of an axis-keeping function at the reader's own indices."""
        for axis, variable in b.names.items():
            if variable not in e.free(b.body):
                raise e.sink.fail("E0301", f"the argument has no axis `{axis}`", node.span)
        where = TRUE if node.where is None else e.condition(ctx, node.where)
        inner = ctx.under(conjuncts(where)) if where is not TRUE else ctx
        return e.number(e.expression(inner, node.arguments[0])), where

    def _softmax(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        lse = b.reduce("logsumexp", real(b.body))
        body, where = self._here(e, ctx, node, b)
        log = node.function == "log_softmax"
        value = arithmetic("sub", real(body), lse) if log else Apply("expdiff", (real(body), lse))
        if where is TRUE:
            return value
        return Select(where, value, Const("-inf") if log else ZERO)

    def _normalize(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        if node.where is not None:
            raise e.sink.fail("E0412", "`normalize` takes no `where`", node.span)
        eps = real(self._constant(e, ctx, node, "eps", Const(Fraction(1, 10**12))))
        length = Apply("sqrt", (b.reduce("sum", whole_power(real(b.body), 2)),))
        body, _ = self._here(e, ctx, node, b)
        return arithmetic("div", real(body), Apply("max2", (length, eps)))


def _elementwise(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
    values = [e.expression(ctx, a) for a in node.arguments]
    for other in values[1:]:
        e.check_broadcast(ctx, (values[0], other), node.span)
    numbers = e.unify(values)
    if node.function == "logsumexp":
        numbers = [real(v) for v in numbers]
    value = numbers[0]
    for other in numbers[1:]:
        value = Apply(ELEMENTWISE[node.function], (value, other))
    return value


def _not_yet(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
    raise e.unavailable(f"`{node.function}`", node.function_span if node.function_span.line else node.span)


__all__ = ["Reductions", "bind"]
