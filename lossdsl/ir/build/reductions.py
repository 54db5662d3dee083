"""Reductions: their clauses, their values over empty sets, and their lowering to the few heads of the IR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from lossdsl.ir.build import cumulative, matrices, ordering
from lossdsl.ir.build.affine import conjuncts, integer
from lossdsl.ir.build.boundaries import BOUNDARIES
from lossdsl.ir.build.define import Place
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.fold import Bound, bind
from lossdsl.ir.build.scalars import arithmetic, whole_power
from lossdsl.ir.build.scope import Context
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    TRUE,
    ZERO,
    Apply,
    Compare,
    Const,
    Not,
    Scalar,
    Select,
    real,
)
from lossdsl.syntax import tree

ELEMENTWISE = {"max": "max2", "min": "min2", "logsumexp": "logaddexp"}
KEYWORDS = {
    "norm": ("p",),
    "var": ("correction",),
    "std": ("correction",),
    "normalize": ("eps",),
    "quantile": ("q",),
}
DIRECTIONS = {"sort": "descending", "argsort": "descending"} | dict.fromkeys(
    ("cumsum", "cumprod", "cumlogsumexp"), "backward"
)
KEEPS = frozenset({"softmax", "log_softmax", "normalize", "inverse", *DIRECTIONS})
Lowering = Callable[[Elaborator, Context, tree.Call, Bound], Scalar]


class Reductions:
    """Handlers for the reductions, bound to the place where their definitions go."""

    def __init__(self, place: Place) -> None:
        self.place = place
        lowered: dict[str, Lowering] = {
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
            "argmax": self._winner,
            "argmin": self._winner,
            "quantile": self._quantile,
            "median": self._quantile,
            "softmax": self._softmax,
            "log_softmax": self._softmax,
            "normalize": self._normalize,
            "sort": ordering.sort,
            "argsort": ordering.argsort,
            "cumsum": cumulative.cumulate,
            "cumprod": cumulative.cumulate,
            "cumlogsumexp": cumulative.cumulate,
            "logdet": matrices.logdet,
            "inverse": matrices.inverse,
        }
        self.handlers: dict[str, Callable[[Elaborator, Context, tree.Call], Scalar]] = {}
        for name, lower in lowered.items():
            self.handlers[name] = self._handler(lower, keeps=name in KEEPS)
        for name in BOUNDARIES:
            self.handlers[name] = _boundary

    def _handler(self, lower: Lowering, keeps: bool) -> Callable[[Elaborator, Context, tree.Call], Scalar]:
        def handle(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
            several = len(node.arguments) > 1
            if several and node.function in ELEMENTWISE and not node.keywords:
                if node.over is not None or node.where is not None or node.otherwise is not None:
                    help = "reduce first, then compare: `max(a, max(b over n))`"
                    raise e.sink.fail("E0412", "several arguments are elementwise and take no clauses", node.span, help)
                return _elementwise(e, ctx, node)
            allowed = KEYWORDS.get(node.function, ())
            for keyword in node.keywords:
                if keyword.name not in allowed:
                    help = f"it knows `{'`, `'.join(allowed)}`" if allowed else "`==` compares"
                    raise e.sink.fail(
                        "E0410", f"`{node.function}` has no argument `{keyword.name}`", keyword.span, help
                    )
            if len(node.arguments) != 1:
                options = "".join(f", {name} = ..." for name in allowed)
                raise e.arity(node, f"`{node.function}(value{options} over axes)`")
            direction = DIRECTIONS.get(node.function)
            if node.direction not in (None, direction):
                help = f"it knows `{direction}`" if direction else ""
                raise e.sink.fail("E0412", f"`{node.function}` has no direction `{node.direction}`", node.span, help)
            if keeps:
                if node.over is None:
                    help = f"`{node.function}(x over c)`"
                    raise e.sink.fail("E0412", f"`{node.function}` needs to know its axes", node.span, help)
                if node.otherwise is not None and node.function not in ("sort", "argsort"):
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
            raise ordering.no_value(e, node)
        return self._with_else(e, ctx, node, b, b.reduce(node.function, b.body))

    def _winner(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        return self._with_else(e, ctx, node, b, ordering.winner(e, ctx, node, b))

    def _quantile(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        q: Scalar | None = None
        if node.function == "quantile":
            if not node.keywords:
                raise e.arity(node, "`quantile(value, q = 0.9 over axes)`")
            q = real(self._constant(e, ctx, node, "q", ZERO))
            inside = e.values.of(q, ctx.path + ctx.outer).interval
            if inside.lo < 0 or inside.hi > 1:
                help = "a number, or a parameter `real in [0, 1]`"
                raise e.sink.fail("E0409", "the `q` of a quantile is proved to lie in [0, 1]", node.span, help)
        if b.filtered and node.otherwise is None:
            raise ordering.no_value(e, node)
        count = b.count()
        value = ordering.quantile(e, ctx, node, b, q)
        empty = b.empty(count)
        if empty is None:
            return value
        other = self._otherwise(e, ctx, node, empty)
        return e.select(empty, Const("nan") if other is None else other, value)

    def _constant(self, e: Elaborator, ctx: Context, node: tree.Call, name: str, default: Scalar) -> Scalar:
        keyword = next((k for k in node.keywords if k.name == name), None)
        return default if keyword is None else e.number(e.expression(ctx, keyword.value))

    def _norm(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound) -> Scalar:
        p = self._constant(e, ctx, node, "p", integer(2))
        body = real(b.body)
        value: Scalar
        if not isinstance(p, Const):
            return self._with_else(e, ctx, node, b, self._any_norm(e, ctx, node, b, real(p)))
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

    def _any_norm(self, e: Elaborator, ctx: Context, node: tree.Call, b: Bound, p: Scalar) -> Scalar:
        """A norm whose order is known at the call only."""
        if e.free(p) or p.tensors or not e.values.of(p).positive:
            help = "a number, `inf`, or a parameter that is declared `real > 0`"
            raise e.sink.fail("E0409", "the `p` of a norm is proved to be positive", node.span, help)
        powers = b.reduce("sum", Apply("pow", (Apply("abs", (real(b.body),)), p)))
        return Apply("pow", (powers, arithmetic("div", Const(1), p)))

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
        ordering.check_here(e, node, b)
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


def _boundary(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
    help = f"`x[{node.function}(h + 1)]`, `x[h = {node.function}(h + 1)]`"
    raise e.sink.fail("E0207", f"`{node.function}` maps an index, inside an access only", node.span, help)


__all__ = ["Reductions", "bind"]
