"""What lives through training: state and its updates, the training step, schedules, gradients that are not the value's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.diagnostics import Span
from lossdsl.ir.build.define import Place, close
from lossdsl.ir.build.elaborate import Elaborator, Handler
from lossdsl.ir.build.scalars import arithmetic, negate, strip
from lossdsl.ir.build.scope import REST, Context, Failed, Frame, TensorEntity, Unavailable, base_name
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    ONE,
    REAL,
    TRUE,
    AdjointMap,
    Apply,
    Compare,
    Const,
    Index,
    Input,
    Output,
    Proxy,
    Scalar,
    Select,
    Stop,
    real,
)
from lossdsl.syntax import tree

# ------------------------------------------------------------------------------------------------ functions


def handlers() -> dict[str, Handler]:
    """Schedules and functions that change the derivative alone."""
    return {
        "linear": _schedule(_linear),
        "cosine": _schedule(_cosine),
        "exponential": _schedule(_exponential),
        "straight_through": _straight_through,
        "reverse_gradient": _reverse_gradient,
        "clip_gradient": _clip_gradient,
    }


def _arguments(e: Elaborator, ctx: Context, node: tree.Call, names: Sequence[str]) -> list[Scalar]:
    """The arguments by position or keyword, as numbers."""
    if node.has_clauses:
        raise e.sink.fail("E0412", f"`{node.function}` takes no `over`, `where` or `else`", node.span)
    given = dict(zip(names, node.arguments, strict=False))
    for keyword in node.keywords:
        if keyword.name not in names or keyword.name in given:
            raise e.sink.fail("E0410", f"`{node.function}` has no free argument `{keyword.name}`", keyword.span)
        given[keyword.name] = keyword.value
    if len(given) != len(names) or len(node.arguments) > len(names):
        raise e.arity(node, f"`{node.function}({', '.join(names)})`")
    values = [e.number(e.expression(ctx, given[n])) for n in names]
    for other in values[1:]:
        e.check_broadcast(ctx, (values[0], other), node.span)
    return values


def _straight_through(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
    hard, soft = _arguments(e, ctx, node, ("hard", "soft"))
    return Proxy(real(hard), real(soft))


def _reverse_gradient(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
    value, weight = (real(v) for v in _arguments(e, ctx, node, ("value", "weight")))
    factor = negate(weight)
    # The weight scales the derivative and has none of its own.
    return Proxy(value, Apply("mul", (factor if isinstance(factor, Const) else Stop(factor), value)))


def _clip_gradient(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
    value, limit = (real(v) for v in _arguments(e, ctx, node, ("value", "limit")))
    if e.values.of(limit, ctx.path + ctx.outer).interval.lo < 0:
        help = "a number, or a parameter that is declared `real >= 0`"
        raise e.sink.fail("E0409", "the limit of a gradient is proved not to be negative", node.span, help)
    return AdjointMap(value, "clamp", (negate(limit), limit))


def _schedule(shape: Callable[[Scalar, Scalar, Scalar], Scalar]) -> Handler:
    """`name(step, from, to, steps)`: `from` up to step 0, `to` from step `steps` on; no steps at all is `to`."""

    def handle(e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
        step, start, end, steps = (real(v) for v in _arguments(e, ctx, node, ("step", "from", "to", "steps")))
        if isinstance(steps, Const) and isinstance(steps.value, Fraction) and steps.value <= 0:
            help = "a number of steps above 0; a parameter may be 0 or less: then the schedule is at its end"
            raise e.sink.fail("E0409", "a schedule has a positive length", node.span, help)
        if shape is _exponential:
            for value, name in ((start, "from"), (end, "to")):
                if not e.values.of(value, ctx.path + ctx.outer).positive:
                    help = "a number above 0, or a parameter that is declared `real > 0`"
                    raise e.sink.fail(
                        "E0409", f"`{name}` of an exponential schedule is proved to be positive", node.span, help
                    )
        share: Scalar = Apply("clamp", (arithmetic("div", step, steps), Const(0), ONE))
        if not e.values.of(steps, ctx.path + ctx.outer).positive:
            share = Select(Compare(">", steps, Const(0)), share, ONE)
        return shape(start, end, share)

    return handle


def _linear(start: Scalar, end: Scalar, share: Scalar) -> Scalar:
    return arithmetic("add", start, arithmetic("mul", arithmetic("sub", end, start), share))


def _cosine(start: Scalar, end: Scalar, share: Scalar) -> Scalar:
    turned = Apply("cos", (Apply("mul", (Apply("pi", ()), share)),))
    return _linear(start, end, Apply("div", (Apply("sub", (ONE, turned)), Const(2))))


def _exponential(start: Scalar, end: Scalar, share: Scalar) -> Scalar:
    return arithmetic("mul", start, Apply("pow", (arithmetic("div", end, start), share)))


# ---------------------------------------------------------------------------------------------------- state


def updates(e: Elaborator, place: Place, statements: Sequence[tree.Statement]) -> list[Output]:
    """The new values of all states, by name: those of the file, then those of losses that it calls. Every state has one
    `update`."""
    found: list[Output] = []
    seen: dict[str, Span] = {}
    for statement in _statements(e, statements):
        name = statement.name
        entity = e.names.get(name.name)
        state = e.inputs.get(entity.tensor) if isinstance(entity, TensorEntity) else None
        if state is None or state.role != "state":
            help = f"declare it: `state {name.name}: real = 0`"
            if not isinstance(entity, Unavailable):
                e.sink.add("E0414", f"`{name.name}` is no state", name.span, help)
            continue
        if state.name in seen:
            help = "one `update` for each state: join them, or declare a second state"
            message = f"`{state.name}` has an update already (line {seen[state.name].line})"
            e.sink.add("E0414", message, name.span, help)
            continue
        seen[state.name] = name.span
        try:
            assert isinstance(entity, TensorEntity)
            found.append(Output(state.name, _update(e, place, statement, entity, state)))
        except Failed:
            continue
    for name_, state in e.inputs.items():
        if state.role == "state" and name_ != "step" and name_ not in seen:
            help = f"`update {name_} = ...`; a value that stays is an `input` or a `param`"
            e.sink.add("E0414", f"the state `{name_}` is never updated", state.origin, help)
    return found


def _statements(e: Elaborator, statements: Sequence[tree.Statement]) -> Iterator[tree.Update]:
    """All updates; one may itself call a loss, which adds further ones while this runs."""
    yield from (s for s in statements if isinstance(s, tree.Update))
    taken = 0
    while taken < len(e.called_updates):
        yield e.called_updates[taken]
        taken += 1


def _update(e: Elaborator, place: Place, statement: tree.Update, entity: TensorEntity, declared: Input) -> str:
    """The definition of the new value, over the axes of the state; without derivative."""
    name = replace(statement.name, name=declared.name)
    axes = [slot.axis for slot in entity.slots]
    if any(not a for a in axes):
        raise e.unavailable("the update of a state with an unnamed axis", name.span, "name the axis: `axis k = 4`")
    if statement.axes is not None:
        written = [REST if isinstance(a, tree.Rest) else getattr(a, "name", "") for a in statement.axes]
        if written != axes:
            help = f"`update {name.name}[{', '.join(axes)}] = ...`"
            raise e.sink.fail("E0302", f"`{name.name}` has the axes [{', '.join(axes)}]", name.span, help)
    place.owner = f"{name.name}.new"
    frame = Frame()
    value = e.expression(e.top_context(frame, unwritten=False), statement.value)
    if declared.dtype is BOOL or value.dtype is BOOL:
        if declared.dtype is not value.dtype and declared.dtype is BOOL:
            raise e.sink.fail(
                "E0411", f"`{name.name}` is a condition, and its update is not", strip(statement.value).span
            )
        value = value if declared.dtype is BOOL else e.number(value)
    if declared.dtype is INT and value.dtype is REAL:
        help = "`//` divides integers; `floor(x)` makes one"
        raise e.sink.fail("E0408", f"the state `{name.name}` is an integer, and its update is not", name.span, help)
    if declared.dtype is REAL:
        value = real(value)
    formals = [i for i in map(e.default_index, axes) if isinstance(i, Index)]
    loose = sorted(base_name(i) for i in e.free(value) if i not in formals)
    if loose:
        message = f"the update of `{name.name}` has the axis `{loose[0]}`, which the state has not"
        raise e.sink.fail("E0306", message, name.span, "reduce over it")
    entity = close(
        e,
        place,
        frame,
        tensor=f"{name.name}.new",
        name=name.name,
        head="map",
        formals=formals,
        bound=(),
        where=TRUE,
        body=value,
        written=True,
        span=name.span,
    )
    if any(s.restricted for s in entity.slots):
        help = "say what stands outside: `x[index else 0]`"
        raise e.sink.fail("E0311", f"the update of `{name.name}` does not cover its whole extent", name.span, help)
    for need in entity.needs:
        raise e.sink.fail("E0405", need.message, need.span, need.help)
    return entity.tensor


__all__ = ["handlers", "updates"]
