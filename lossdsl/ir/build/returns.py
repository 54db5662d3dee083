"""The returned value: a program's `return`, and the `reduction=` modes of a returned mean, sum or ratio of totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lossdsl.diagnostics import Span
from lossdsl.ir.build.affine import conjuncts, integer
from lossdsl.ir.build.define import Place, close, count_scalar, ordered
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.scalars import arithmetic, negate, strip
from lossdsl.ir.build.scope import (
    REST,
    Context,
    Failed,
    Frame,
    ParameterEntity,
    PendingDefinition,
    TensorEntity,
    base_name,
)
from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    ZERO,
    Compare,
    Const,
    Index,
    Read,
    Reductions,
    Scalar,
    Select,
    real,
    tensors_of,
)
from lossdsl.syntax import tree


@dataclass(frozen=True)
class Returned:
    """The tensor of the value, its modes if it has any, and the tensor that claims are about if they name none."""

    tensor: str
    reductions: Reductions | None
    element: str


@dataclass(frozen=True)
class _Shape:
    """`scale * mean(e)`, `scale * sum(e)`, `scale * sum(e) / sum(w)`."""

    scale: tuple[tuple[str, tree.Expr], ...]
    call: tree.Call
    weight: tree.Call | None = None

    @property
    def written(self) -> str:
        return "sum" if self.call.function == "sum" and self.weight is None else "mean"


def _own_name(e: Elaborator) -> str:
    """The tensor of the returned value; `return` itself may name something of the file."""
    return "return.value" if "return" in e.names else "return"


def build_return(e: Elaborator, place: Place, statement: tree.Return) -> Returned:
    """Elaborate the `return` of a loss; raises Failed after recording a diagnostic."""
    if len(statement.values) != 1:
        raise e.sink.fail("E0413", "a loss returns one value", statement.span, "`report name = ...` returns others")
    place.owner = "return"
    node = statement.values[0]
    shape = _shape(e, node)
    modes = _modes(e, place, shape, statement.span) if shape is not None else None
    if modes is not None:
        return modes
    entity = scalar_definition(e, place, _own_name(e), node, statement.span)
    return Returned(entity.tensor, None, entity.tensor)


def scalar_definition(e: Elaborator, place: Place, tensor: str, node: tree.Expr, span: Span) -> TensorEntity:
    """A definition without axes; it is an error if the expression has some."""
    frame = Frame()
    value = real(e.number(e.expression(e.top_context(frame), node)))
    axes = [base_name(i) for i in ordered(e, e.free(value))]
    if axes:
        help = "reduce it: `return mean(...)`"
        raise e.sink.fail("E0307", f"the returned value has the axes {', '.join(axes)}", node.span, help)
    return _close(e, place, frame, tensor, (), "map", (), TRUE, value, span)


def _close(
    e: Elaborator,
    place: Place,
    frame: Frame,
    tensor: str,
    formals: Sequence[Index],
    head: str,
    bound: Sequence[Index],
    where: Scalar,
    body: Scalar,
    span: Span,
    checked: bool = True,
) -> TensorEntity:
    entity = close(
        e,
        place,
        frame,
        tensor=tensor,
        name=tensor,
        head=head,
        formals=formals,
        bound=bound,
        where=where,
        body=body,
        written=True,
        span=span,
    )
    if checked:
        fail_needs(e, entity)
    return entity


def fail_needs(e: Elaborator, entity: TensorEntity) -> None:
    """An output has no reader that could establish what its accesses need."""
    for need in entity.needs:
        raise e.sink.fail("E0405", need.message, need.span, need.help)


# ------------------------------------------------------------------------------------------------ what is written


def _shape(e: Elaborator, node: tree.Expr) -> _Shape | None:
    scale, node = _factors(e, node)
    for _ in range(64):
        if not isinstance(node, tree.Name):
            break
        entity = e.names.get(node.id)
        if not isinstance(entity, PendingDefinition) or entity.statement.axes is not None:
            return None
        if entity.entity is None or entity.entity.slots:
            return None
        e.used.add(node.id)
        more, node = _factors(e, entity.statement.value)
        scale += more
    if isinstance(node, tree.Call) and node.function in ("mean", "sum") and _plain(node):
        return _Shape(tuple(scale), node)
    if isinstance(node, tree.Binary) and node.op == "/":
        (above, a), (below, b) = _factors(e, node.left), _factors(e, node.right)
        if (
            isinstance(a, tree.Call)
            and isinstance(b, tree.Call)
            and a.function == b.function == "sum"
            and _plain(a)
            and _plain(b)
            and a.over == b.over
            and a.where == b.where
            and a.otherwise is None
            and b.otherwise is None
        ):
            turned = [({"mul": "div", "div": "mul"}.get(op, op), factor) for op, factor in below]
            return _Shape((*scale, *above, *turned), a, b)
    return None


def _factors(e: Elaborator, node: tree.Expr) -> tuple[list[tuple[str, tree.Expr]], tree.Expr]:
    """The signs and constant factors around an expression, the outermost first, and what they stand around."""
    found: list[tuple[str, tree.Expr]] = []
    for _ in range(64):
        node = strip(node)
        if isinstance(node, tree.Unary) and node.op == "-":
            found.append(("neg", node))
            node = node.operand
        elif isinstance(node, tree.Binary) and node.op == "*" and _constant(e, node.left):
            found.append(("mul", node.left))
            node = node.right
        elif isinstance(node, tree.Binary) and node.op in ("*", "/") and _constant(e, node.right):
            found.append(("mul" if node.op == "*" else "div", node.right))
            node = node.left
        else:
            break
    return found, node


def _plain(node: tree.Call) -> bool:
    return len(node.arguments) == 1 and not node.keywords and node.direction is None


def _constant(e: Elaborator, node: tree.Expr) -> bool:
    """Whether an expression is made of numbers, parameters and extents alone."""
    node = strip(node)
    match node:
        case tree.Number():
            return True
        case tree.Name(id=name):
            return name in ("pi", "inf") or isinstance(e.names.get(name), ParameterEntity)
        case tree.Unary():
            return _constant(e, node.operand)
        case tree.Binary():
            return _constant(e, node.left) and _constant(e, node.right)
        case tree.IfElse():
            return all(_constant(e, n) for n in (node.value, node.condition, node.otherwise))
        case tree.Compare():
            return all(_constant(e, o) for o in node.operands)
        case tree.Call(function="size"):
            return True
        case tree.Call():
            clauses = (node.over, node.where, node.otherwise)
            return all(c is None for c in clauses) and all(_constant(e, a) for a in node.arguments)
    return False


# --------------------------------------------------------------------------------------------------------- modes


def _modes(e: Elaborator, place: Place, shape: _Shape, span: Span) -> Returned | None:
    """All modes of a returned mean or sum; None if it does not run over all free axes of what it folds."""
    node = shape.call
    over = None if node.over is None else [REST if isinstance(a, tree.Rest) else a.name for a in node.over]
    if over is not None and (len(set(over)) != len(over) or any(a not in e.axes for a in over)):
        return None
    top = replace(e.top_context(Frame()), reducing=frozenset(over or ()))
    condition = TRUE if node.where is None else e.condition(top, node.where)
    outer = conjuncts(condition) if condition is not TRUE else ()

    body_frame = Frame()
    body = real(e.number(e.expression(replace(top, frame=body_frame, outer=outer), node.arguments[0])))
    free = e.free(body) | e.free(condition)
    names = {base_name(i) for i in free}
    if not free or (not e.free(condition) <= e.free(body) and over is None):
        return None
    if over is not None and set(over) != names:
        return None
    weight: Scalar | None = None
    weight_frame = Frame()
    if shape.weight is not None:
        weight = real(e.number(e.expression(replace(top, frame=weight_frame, outer=outer), shape.weight.arguments[0])))
        if not e.free(weight) <= free or not _is_weight(e, place, weight, body):
            return None
    formals = _element_order(e, free)
    element = _element(e, place, body, body_frame, formals, node, span, "return.element")
    scale = _scale(e, shape.scale)

    def within(frame: Frame) -> tuple[Context, Scalar]:
        """A context for one more definition over the same set, and its condition."""
        ctx = replace(top, frame=frame)
        where = TRUE if node.where is None else e.condition(ctx, node.where)
        return replace(ctx, path=conjuncts(where) if where is not TRUE else ()), where

    frame = Frame()
    ctx, where = within(frame)
    total = _close(e, place, frame, "return.total", (), "sum", formals, where, _read(e, ctx, element, span), span)
    count_frame = Frame(ranges=dict(frame.ranges))
    if weight is not None:
        own = _element(e, place, weight, weight_frame, formals, None, span, "return.share")
        share_frame = Frame()
        ctx, where = within(share_frame)
        weights = _close(
            e, place, share_frame, "return.weight", (), "sum", formals, where, _read(e, ctx, own, span), span
        )
    else:
        count: Scalar
        if condition is TRUE:
            count = count_scalar(frame, formals)
        else:
            ctx, where = within(count_frame)
            counted = _close(e, place, count_frame, "return.count", (), "count", formals, where, TRUE, span)
            count = Read(counted.tensor, (), counted.dtype)
        weights = _close(e, place, Frame(), "return.weight", (), "map", (), TRUE, real(count), span)
    total_read, weight_read = Read(total.tensor, (), REAL), Read(weights.tensor, (), REAL)
    empty: Scalar | None = Compare("==", weight_read, ZERO)
    if weight is None and condition is TRUE:
        size = count_scalar(frame, formals)
        empty = None if isinstance(size, Const) and size.value != 0 else Compare("==", size, integer(0))

    mean_value = arithmetic("div", total_read, weight_read)
    mean_frame = Frame()
    if empty is not None:
        other: Scalar = ZERO
        if node.otherwise is not None and shape.written == "mean":
            other = real(e.number(e.expression(e.top_context(mean_frame).under((empty,)), node.otherwise)))
        mean_value = Select(empty, other, mean_value)
    sum_value: Scalar = total_read
    if node.otherwise is not None and shape.written == "sum" and empty is not None:
        other = real(e.number(e.expression(e.top_context(mean_frame).under((empty,)), node.otherwise)))
        sum_value = Select(empty, other, total_read)
    if e.free(mean_value) | e.free(sum_value):
        raise e.sink.fail("E0307", "the value over an empty set has axes", node.span)
    written = shape.written
    mean = _scaled(e, place, mean_frame, _own_name(e) if written == "mean" else "return.mean", scale, mean_value, span)
    sum_ = _scaled(e, place, Frame(), _own_name(e) if written == "sum" else "return.sum", scale, sum_value, span)
    none_frame = Frame()
    ctx, where = within(none_frame)
    single = _apply(scale, _read(e, ctx, element, span))
    if where is not TRUE:
        single = Select(where, single, ZERO)
    in_order = [s.axis for s in element.slots] == [base_name(i) for i in formals]
    none = element.tensor
    if scale is not None or where is not TRUE or not in_order:
        none = _close(e, place, none_frame, "return.none", formals, "map", (), TRUE, single, span).tensor
    modes = Reductions(written, mean, sum_, none, total.tensor, weights.tensor, element.tensor)
    value = mean if written == "mean" else sum_
    # Claims are about the elements, with the factor and its sign, and 0 where they are left out: a sum of them, or a mean
    # with weights that no real input moves, has their convexity, bounds and symmetries. Any other mean speaks for itself.
    apart = node.otherwise is not None and not _vanishes(node.otherwise)
    if written == "mean":
        apart = apart or any(e.inputs[i].dtype is REAL for i in _inputs_of(e, place, weight_read))
    return Returned(value, modes, value if apart else none)


def _vanishes(node: tree.Expr) -> bool:
    """Whether the value over an empty set is written as 0 or nan, as which it adds nothing to what is claimed."""
    node = strip(node)
    return (isinstance(node, tree.Number) and node.value == 0) or (isinstance(node, tree.Name) and node.id == "nan")


def _read(e: Elaborator, ctx: Context, entity: TensorEntity, span: Span) -> Scalar:
    return e.read(ctx, entity, [None] * len(entity.slots), span)


def _element(
    e: Elaborator,
    place: Place,
    body: Scalar,
    frame: Frame,
    formals: list[Index],
    node: tree.Call | None,
    span: Span,
    tensor: str,
) -> TensorEntity:
    """The tensor of the element: the named definition if it plainly is one, else a definition of its own."""
    if node is not None:
        argument = strip(node.arguments[0])
        entity = e.names.get(argument.id) if isinstance(argument, tree.Name) else None
        found = entity.entity if isinstance(entity, PendingDefinition) else None
        if (
            found is not None
            and found.dtype is REAL
            and {s.axis for s in found.slots} == {base_name(i) for i in formals}
        ):
            return found
    return _close(e, place, frame, tensor, formals, "map", (), TRUE, body, span, checked=False)


def _element_order(e: Elaborator, free: frozenset[Index]) -> list[Index]:
    """The axis order of the first input that has all the axes, else the order of the file."""
    variables = ordered(e, free)
    wanted = {base_name(i) for i in variables}
    for declared in e.inputs.values():
        if wanted <= set(declared.axes):
            return sorted(variables, key=lambda i: declared.axes.index(base_name(i)))
    return variables


def _is_weight(e: Elaborator, place: Place, weight: Scalar, body: Scalar) -> bool:
    """A denominator weighs the numerator if it reads strictly fewer of the inputs: `sum(w * e) / sum(w)`."""
    return _inputs_of(e, place, weight) < _inputs_of(e, place, body)


def _inputs_of(e: Elaborator, place: Place, root: Scalar) -> frozenset[str]:
    by_name = {d.tensor: d for d in place.definitions}
    seen: set[str] = set()
    stack = [*root.tensors]
    while stack:
        tensor = stack.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        definition = by_name.get(tensor)
        if definition is not None:
            stack += tensors_of(definition.scalars())
    return frozenset(t for t in seen if t in e.inputs)


def _scale(e: Elaborator, written: tuple[tuple[str, tree.Expr], ...]) -> Scalar | None:
    scale: Scalar | None = None
    for op, node in written:
        if op == "neg":
            scale = negate(scale) if scale is not None else Const(-1)
            continue
        factor = real(e.number(e.expression(e.top_context(Frame()), node)))
        if op == "div" and isinstance(factor, Const) and factor.value == 0:
            raise e.sink.fail("E0409", "division by zero", node.span)
        if scale is None:
            scale = factor if op == "mul" else arithmetic("div", Const(1), factor)
        else:
            scale = arithmetic(op, scale, factor)
    return scale


def _apply(scale: Scalar | None, value: Scalar) -> Scalar:
    if scale is None:
        return value
    if isinstance(scale, Const) and scale.value == -1:
        return negate(value)
    return arithmetic("mul", scale, value)


def _scaled(
    e: Elaborator, place: Place, frame: Frame, tensor: str, scale: Scalar | None, value: Scalar, span: Span
) -> str:
    if scale is None and isinstance(value, Read):
        return value.tensor
    return _close(e, place, frame, tensor, (), "map", (), TRUE, _apply(scale, value), span).tensor


__all__ = ["Failed", "Returned", "build_return", "fail_needs", "scalar_definition"]
