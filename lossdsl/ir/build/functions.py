"""Elementwise functions: the primitives of the registry, `stop`, `size`, and warnings about their domains."""

from __future__ import annotations

from lossdsl import primitives
from lossdsl.diagnostics import Span
from lossdsl.ir.build import training
from lossdsl.ir.build.elaborate import Elaborator, Handler
from lossdsl.ir.build.scalars import size_scalar, strip
from lossdsl.ir.build.scope import Context
from lossdsl.ir.build.values import Value
from lossdsl.ir.nodes import INT, Apply, Compare, Const, Param, Read, Scalar, Stop, postorder, real
from lossdsl.syntax import tree


def handlers() -> dict[str, Handler]:
    """The handlers of all elementwise functions of the language."""
    table: dict[str, Handler] = {name: _primitive for name, f in primitives.FUNCTIONS.items() if not f.folds}
    table["stop"] = _stop
    table["size"] = _size
    table.update(training.handlers())
    return table


def _no_clauses(e: Elaborator, node: tree.Call) -> None:
    if node.has_clauses:
        help = f"`{node.function}` is elementwise; put a reduction around it"
        raise e.sink.fail("E0412", f"`{node.function}` takes no `over`, `where` or `else`", node.span, help)


def _primitive(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
    _no_clauses(e, node)
    record = primitives.PRIMITIVES.get(node.function)
    if record is None:
        raise e.unavailable(f"`{node.function}`", node.span)
    usage = f"`{node.function}({', '.join(record.arguments)})`"
    given = dict(zip(record.arguments, node.arguments, strict=False))
    for keyword in node.keywords:
        if keyword.name not in record.arguments or keyword.name in given:
            raise e.sink.fail("E0410", f"`{node.function}` has no free argument `{keyword.name}`", keyword.span)
        given[keyword.name] = keyword.value
    if len(given) != len(record.arguments) or len(node.arguments) > len(record.arguments):
        raise e.arity(node, usage)
    args = [e.number(e.expression(ctx, given[a])) for a in record.arguments]
    for other in args[1:]:
        e.check_broadcast(ctx, (args[0], other), node.span)
    if node.function == "abs" and args[0].dtype is INT:
        return Apply("abs", tuple(args))
    if node.function in ("floor", "ceil") and args[0].dtype is INT:
        return args[0]
    values = tuple(real(a) for a in args)
    _check_domain(e, ctx, node.function, values, node.span)
    return Apply(node.function, values)


def _stop(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
    _no_clauses(e, node)
    if len(node.arguments) != 1 or node.keywords:
        raise e.arity(node, "`stop(value)`")
    return Stop(e.expression(ctx, node.arguments[0]))


def _size(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
    _no_clauses(e, node)
    argument = strip(node.arguments[0]) if len(node.arguments) == 1 and not node.keywords else None
    if not isinstance(argument, tree.Name):
        raise e.arity(node, "`size(axis)`")
    return size_scalar(e.axis(argument.id, argument.span).dim)


def _bad(name: str, v: Value) -> str | None:
    """What of a range lies outside the domain of a function, in words; None if nothing does."""
    low, high = v.interval.lo, v.interval.hi
    if name in ("log", "log2", "log10", "lgamma", "digamma"):
        if v.positive or v.interval.is_empty:
            return None
        return "0" if low >= 0 else "0 or negative"
    if name == "log1p":
        return None if low > -1 else ("-1" if low == -1 else "-1 or less")
    if name == "sqrt":
        return None if low >= 0 else "negative"
    if name in ("asin", "acos"):
        return None if low >= -1 and high <= 1 else "outside [-1, 1]"
    if name == "log1mexp":
        return None if v.negative else ("0" if high <= 0 else "0 or positive")
    return None


def _whole_and_positive(e: Elaborator, ctx: Context, name: str, argument: Scalar) -> bool:
    """Whether what a logarithm is taken of is an integer that the conditions here keep above 0, as `t - 1` if `t > 1`."""
    whole = argument.args[0] if isinstance(argument, Apply) and argument.name == "real" else argument
    logarithm = name in ("log", "log2", "log10")
    return (
        logarithm and whole.dtype is INT and e.prover.entails(ctx.path + ctx.outer, Compare(">=", whole, Const(1, INT)))
    )


def _check_domain(e: Elaborator, ctx: Context, name: str, args: tuple[Scalar, ...], span: Span) -> None:
    """Warn where the argument may leave the domain, with the ranges of the inputs that do it."""
    bad = _bad(name, e.values.of(args[0], ctx.path + ctx.outer))
    if bad is None or _whole_and_positive(e, ctx, name, args[0]):
        return
    ranges: dict[str, str] = {}
    for s in postorder(args[0]):
        name_ = s.tensor if isinstance(s, Read) and s.tensor in e.inputs else s.name if isinstance(s, Param) else None
        if name_ is not None:
            interval = e.values.of(s, ctx.path + ctx.outer).interval
            unbounded = interval.lo == float("-inf") and interval.hi == float("inf")
            ranges[name_] = "any real number" if unbounded else f"in [{interval.lo:g}, {interval.hi:g}]"
    notes = tuple(f"`{name_}` is {text}" for name_, text in ranges.items())
    direct = isinstance(args[0], Param) or (isinstance(args[0], Read) and args[0].tensor in e.inputs)
    subject = f"`{next(iter(ranges))}`" if direct else "its argument"
    e.sink.add(
        "W1002",
        f"`{name}` where {subject} may be {bad}",
        span,
        "declare the domain of the input, or keep the argument inside it (`clamp`, `+ eps`, a stable function)",
        notes,
    )


__all__ = ["handlers"]
