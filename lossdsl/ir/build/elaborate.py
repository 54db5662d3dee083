"""Expressions of the syntax tree become scalars: names, accesses, operators, conditions, functions of the file.

An elaborated scalar speaks of *coordinates*: index variables over whole axes. Ranges that accesses narrow are kept in
the frame of the definition at hand and become 0-based formals when it is closed (`define.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Protocol

from lossdsl.diagnostics import Span
from lossdsl.ir.build.absent import instead
from lossdsl.ir.build.accesses import Accesses
from lossdsl.ir.build.affine import (
    conjuncts,
)
from lossdsl.ir.build.scalars import FOLD_BITS, arithmetic, kind_text, negate, small, strip, whole_power
from lossdsl.ir.build.scope import (
    Argument,
    Axes,
    Context,
    Entity,
    Failed,
    FunctionEntity,
    LossEntity,
    ParameterEntity,
    PendingDefinition,
    Sink,
    TensorEntity,
    Unavailable,
    base_name,
    suggestion,
)
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    And,
    Apply,
    Compare,
    Const,
    Not,
    Or,
    Param,
    Scalar,
    Select,
    real,
)
from lossdsl.syntax import tree

WORK_LIMIT = 200_000
DEPTH_LIMIT = 1_500  # nested expressions, through functions; `limits.deep` makes room for them

_CONSTANTS: dict[str, Scalar] = {
    "inf": Const("inf"),
    "nan": Const("nan"),
    "true": Const(1, BOOL),
    "false": Const(0, BOOL),
    "pi": Apply("pi", ()),
}

Handler = Callable[["Elaborator", Context, tree.Call], Scalar]


class Callers(Protocol):
    """How losses and function blocks are called; `inline.py` has the implementation."""

    def loss(self, e: Elaborator, ctx: Context, loss: tree.Loss, node: tree.Call) -> Scalar: ...

    def block(
        self, e: Elaborator, ctx: Context, entity: FunctionEntity, node: tree.Call, part: int | None = None
    ) -> Scalar: ...


class Elaborator(Accesses):
    """Everything that is known while one loss is built.

    Shared state: the scope, the diagnostics, the value ranges of tensors. `functions` maps the built-in names to their
    handlers; `define` elaborates a pending definition of the file on demand.
    """

    def __init__(
        self,
        sink: Sink,
        functions: Mapping[str, Handler],
        define: Callable[[Elaborator, PendingDefinition, Span, bool], TensorEntity],
        calls: Callers,
    ) -> None:
        super().__init__(sink)
        self.functions = functions
        self.file_functions: dict[str, FunctionEntity | LossEntity | Unavailable] = {}
        self.calling: list[object] = []  # trees of the losses and blocks that are being called
        self.circular: set[int] = set()  # functions in a circle of calls, which has been reported
        self.call_count = 0
        self.first: dict[str, Span] = {}
        self.depth = 0
        self._define = define
        self._calls = calls
        self._work = 0
        self._arguments: dict[tuple[object, ...], Scalar] = {}
        self._keep: list[object] = []
        self.instances: dict[tuple[object, ...], object] = {}  # calls of blocks that are elaborated already

    def forget_arguments(self) -> None:
        """Drop what was elaborated of arguments: definitions that it reads are gone."""
        self._arguments.clear()

    # ------------------------------------------------------------------------------------------------ expressions

    def expression(self, ctx: Context, node: tree.Expr) -> Scalar:
        """The scalar that an expression stands for; raises Failed after recording a diagnostic."""
        self._work += 1
        if self._work > WORK_LIMIT or self.depth > DEPTH_LIMIT:
            message = "this loss is too large to elaborate"
            raise self.sink.fail("E0707", message, node.span, "name intermediate values as definitions")
        self.depth += 1
        try:
            return self._expression(ctx, node)
        finally:
            self.depth -= 1

    def _expression(self, ctx: Context, node: tree.Expr) -> Scalar:
        match node:
            case tree.Paren():
                return self.expression(ctx, strip(node))
            case tree.Number():
                exact = "." not in node.text and node.value.denominator == 1
                return Const(node.value, INT if exact else REAL)
            case tree.Name():
                return self.name(ctx, node)
            case tree.Unary():
                return self._unary(ctx, node)
            case tree.Binary(op="^" | "**"):
                return self._power(ctx, node)
            case tree.Binary():
                return self._binary(ctx, node)
            case tree.Compare():
                return self._comparison(ctx, node)
            case tree.IfElse():
                return self._conditional(ctx, node)
            case tree.Access():
                return self.access(ctx, node)
            case tree.Call():
                return self._call(ctx, node)
            case tree.Table():
                raise self.sink.fail("E0402", "a table needs an index", node.span, "write `[0.5, 1, 2][s]`")

    def condition(self, ctx: Context, node: tree.Expr) -> Scalar:
        """A boolean expression."""
        value = self.expression(ctx, node)
        if value.dtype is not BOOL:
            help = "compare it: `x != 0`, `x == 1`"
            raise self.sink.fail("E0411", f"a condition must be true or false, not {kind_text(value)}", node.span, help)
        return value

    # ------------------------------------------------------------------------------------------------------ names

    def name(self, ctx: Context, node: tree.Name) -> Scalar:
        if node.id in ctx.locals:
            return self._argument(ctx, ctx.locals[node.id])
        if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        if node.id == "last":
            if ctx.last is None:
                raise self.sink.fail("E0207", "`last` stands for a position, inside an access only", node.span)
            return ctx.last
        if node.id == "step":
            return self.step(node.span)
        if node.id in self.axes:
            self.used.add(node.id)
            return ctx.axes.get(node.id)
        entity = self.lookup(ctx, node.id, node.span)
        if isinstance(entity, ParameterEntity):
            return Param(entity.parameter.name, entity.parameter.dtype)
        if isinstance(entity, TensorEntity):
            return self.read(ctx, entity, [None] * len(entity.slots), node.span)
        raise self.sink.fail("E0207", f"`{node.id}` is a function and has to be called", node.span)

    def lookup(self, ctx: Context, name: str, span: Span, shifted: bool = False) -> Entity:
        """The entity of a name that is not an axis; definitions are elaborated on the way. `shifted`: it is read at
        other positions than its own."""
        entity = self.names.get(name) if ctx.loss_names else None
        if entity is None:
            entity = self.file_functions.get(name)
        if entity is None:
            known = [*(self.names if ctx.loss_names else ()), *self.axes, *self.file_functions, *ctx.locals]
            help = suggestion(name, known)
            if not help and name in self.functions:
                help = f"`{name}` is a built-in function: call it"
            if not help and name in self.reserved:
                help = f"what is only reported has no name: write `{name} = ...` and `report {name} = {name}`"
            if not ctx.loss_names and name in self.names:
                help = "a function at the top of a file sees its own parameters only: pass it, or define it in the loss"
            raise self.sink.fail("E0201", f"unknown name `{name}`", span, help)
        self.used.add(name)
        if isinstance(entity, Unavailable):
            raise self._unavailable_name(entity, span)
        if isinstance(entity, PendingDefinition):
            return self._define(self, entity, span, shifted)
        return entity

    def _unavailable_name(self, entity: Unavailable, span: Span) -> Failed:
        return Failed(entity.what) if entity.reported else self.unavailable(entity.what, span)

    def _argument(self, ctx: Context, argument: Argument) -> Scalar:
        inner = replace(ctx, locals=argument.locals, loss_names=argument.loss_names, calls=argument.calls)
        free_axes = tuple((a, ctx.axes.get(a)) for a in self.axes) if not _lazy(ctx.axes) else None
        key = (id(argument), id(ctx.frame), ctx.path, ctx.outer, free_axes)
        if free_axes is not None and key in self._arguments:
            return self._arguments[key]
        value = self.expression(inner, argument.value)
        if free_axes is not None:
            self._keep += [argument, ctx.frame]  # so that the ids in the key stay theirs
            self._arguments[key] = value
        return value

    # --------------------------------------------------------------------------------------------------- operators

    def _unary(self, ctx: Context, node: tree.Unary) -> Scalar:
        if node.op == "not":
            return Not(self.condition(ctx, node.operand))
        value = self.number(self.expression(ctx, node.operand))
        return negate(value)

    def _binary(self, ctx: Context, node: tree.Binary) -> Scalar:
        # Left-nested chains are as long as a file; they are walked, not descended.
        chain: list[tree.Binary] = []
        first: tree.Expr = node
        while isinstance(first, tree.Binary) and first.op not in ("^", "**"):
            chain.append(first)
            first = first.left
        if chain[-1].op in ("and", "or"):
            value = self.condition(ctx, first)
        else:
            value = self.expression(ctx, first)
        for link in reversed(chain):
            value = self._combine(ctx, link, value)
        return value

    def _combine(self, ctx: Context, node: tree.Binary, left: Scalar) -> Scalar:
        if node.op in ("and", "or"):
            if left.dtype is not BOOL:
                raise self.sink.fail("E0411", f"`{node.op}` joins conditions, not {kind_text(left)}", node.left.span)
            kept = conjuncts(left) if node.op == "and" else conjuncts(Not(left))
            right = self.condition(ctx.under(kept), node.right)
            self.check_broadcast(ctx, (left, right), node.span)
            kind = And if node.op == "and" else Or
            parts = left.args if isinstance(left, kind) else (left,)
            return kind((*parts, right))
        right = self.expression(ctx, node.right)
        self.check_broadcast(ctx, (left, right), node.span)
        if node.op in ("//", "%"):
            a, b = self.number(left), self.number(right)
            if a.dtype is not INT or b.dtype is not INT:
                help = "`/` divides real numbers" if node.op == "//" else "of real numbers: `a - b * floor(a / b)`"
                raise self.sink.fail("E0402", f"`{node.op}` is for integers", node.span, help)
            if isinstance(b, Const) and b.value == 0:
                raise self.sink.fail("E0409", "division by zero", node.right.span)
            return Apply("floordiv" if node.op == "//" else "mod", (a, b))
        if node.op == "/":
            return self._divide(node, real(self.number(left)), real(self.number(right)))
        a, b = self.unify((left, right))
        return arithmetic({"+": "add", "-": "sub", "*": "mul"}[node.op], a, b)

    def _divide(self, node: tree.Binary, a: Scalar, b: Scalar) -> Scalar:
        if isinstance(b, Const) and b.value == 0:
            raise self.sink.fail("E0409", "division by zero", node.right.span)
        quotient = arithmetic("div", a, b)
        if _two_totals(node):
            return Select(Compare("==", b, Const(0)), Const(0), quotient)
        return quotient

    def _comparison(self, ctx: Context, node: tree.Compare) -> Scalar:
        values = [self.number(self.expression(ctx, o)) for o in node.operands]
        parts: list[Scalar] = []
        for op, a, b in zip(node.ops, values, values[1:], strict=False):
            self.check_broadcast(ctx, (a, b), node.span)
            left, right = self.unify((a, b))
            parts.append(Compare(op, left, right))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _conditional(self, ctx: Context, node: tree.IfElse) -> Scalar:
        condition = self.condition(ctx, node.condition)
        a = self.expression(ctx.under(conjuncts(condition)), node.value)
        b = self.expression(ctx.under(conjuncts(Not(condition))), node.otherwise)
        for pair in ((condition, a), (condition, b), (a, b)):
            self.check_broadcast(ctx, pair, node.span)
        return self.select(condition, a, b)

    def _power(self, ctx: Context, node: tree.Binary) -> Scalar:
        base = self.number(self.expression(ctx, node.left))
        exponent = self.number(self.expression(ctx, node.right))
        self.check_broadcast(ctx, (base, exponent), node.span)
        return self.power(ctx, base, exponent, node.span)

    def power(self, ctx: Context, base: Scalar, exponent: Scalar, span: Span) -> Scalar:
        """`base ^ exponent`: a polynomial for a whole constant, else a real power of a base proved >= 0."""
        if isinstance(exponent, Const) and isinstance(exponent.value, Fraction) and exponent.value.denominator == 1:
            k = int(exponent.value)
            if isinstance(base, Const) and isinstance(base.value, Fraction):
                if base.value == 0 and k < 0:
                    raise self.sink.fail("E0409", "zero to a negative power", span)
                if abs(k) <= FOLD_BITS:
                    value = base.value**k
                    if small(value):
                        return Const(value, base.dtype if k >= 0 else REAL)
            if base.dtype is INT and 0 < k <= 4:
                value_: Scalar = base
                for _ in range(k - 1):
                    value_ = Apply("mul", (value_, base))
                return value_
            return whole_power(real(base), k)
        base, exponent = real(base), real(exponent)
        if not self.values.nonnegative(base, ctx.path + ctx.outer):
            raise self.sink.fail(
                "E0403",
                "a power with this exponent needs a base that is proved not to be negative",
                span,
                "a whole number as exponent makes a polynomial; else declare the input `>= 0`, or write "
                "`relu(x)^a` or `abs(x)^a`",
            )
        return Apply("pow", (base, exponent))

    def check_broadcast(self, ctx: Context, operands: Sequence[Scalar], span: Span) -> None:
        """Warn of two tensors, each with an axis that the other lacks, in a definition without written axes."""
        if not ctx.unwritten:
            return
        a, b = (self.free(o) for o in operands)
        only_a, only_b = a - b, b - a
        if not only_a or not only_b:
            return
        if not all(o.tensors for o in operands):
            return
        left, right = ([base_name(i) for i in side] for side in (only_a, only_b))
        if not ctx.reducing.isdisjoint([*left, *right]):
            return
        all_axes = sorted({base_name(i) for i in a | b}, key=lambda n: self.axes[n].order)
        self.sink.add(
            "W1001",
            f"this pairs every `{', '.join(sorted(left))}` with every `{', '.join(sorted(right))}`",
            span,
            f"if that is meant, write the axes: `name[{', '.join(all_axes)}] = ...`",
        )

    # ------------------------------------------------------------------------------------------------------- calls

    def part(self, ctx: Context, node: tree.Expr, part: tuple[int, int]) -> Scalar:
        """One of the values of a call, for `p, q = f(x)`."""
        call = strip(node)
        entity: object = None
        if isinstance(call, tree.Call):
            entity = self.names.get(call.function) or self.file_functions.get(call.function)
        if (
            not isinstance(call, tree.Call)
            or not isinstance(entity, FunctionEntity)
            or entity.definition.value is not None
        ):
            help = "only a call of a `def` block has several values"
            raise self.sink.fail("E0413", "several names need a function with several values", node.span, help)
        self.used.add(call.function)
        returned = [s for s in entity.definition.body if isinstance(s, tree.Return)]
        count = len(returned[0].values) if returned else 0
        if count != part[1]:
            message = f"`{call.function}` returns {count} value{'s' * (count != 1)}, and {part[1]} are named"
            raise self.sink.fail("E0413", message, node.span)
        return self._calls.block(self, ctx, entity, call, part[0])

    def _call(self, ctx: Context, node: tree.Call) -> Scalar:
        span = node.function_span if node.function_span.line else node.span
        local = self.names.get(node.function) if ctx.loss_names else None
        own = local if isinstance(local, (FunctionEntity, Unavailable)) else None
        entity: FunctionEntity | LossEntity | Unavailable | None = own or self.file_functions.get(node.function)
        if isinstance(entity, Unavailable):
            self.used.add(node.function)
            raise self._unavailable_name(entity, span)
        if isinstance(entity, LossEntity):
            return self._calls.loss(self, ctx, entity.loss, node)
        if entity is not None:
            self.used.add(node.function)
            return self._apply_function(ctx, entity, node)
        handler = self.functions.get(node.function)
        if handler is None:
            known = [*self.functions, *self.file_functions]
            known += [n for n, e in self.names.items() if isinstance(e, FunctionEntity)]
            help = instead(node.function, known)
            if node.function in self.names:
                help = f"`{node.function}` is a value: write an access with brackets, `{node.function}[...]`"
            raise self.sink.fail("E0204", f"unknown function `{node.function}`", span, help)
        return handler(self, ctx, node)

    def _apply_function(self, ctx: Context, entity: FunctionEntity, node: tree.Call) -> Scalar:
        definition = entity.definition
        name = definition.name.name
        if id(definition) in self.circular:
            raise Failed(name)
        if any(name == called for called, _ in ctx.calls):
            raise self.sink.fail("E0205", f"`{name}` calls itself", node.span, "a recurrence is a definition with axes")
        if definition.value is None:
            return self._calls.block(self, ctx, entity, node)
        clauses = (node.over, node.direction, node.where, node.otherwise)
        if any(c is not None for c in clauses):
            raise self.sink.fail("E0412", f"`{name}` is not a reduction: it takes no clauses", node.span)
        wanted = [a.name for a in definition.arguments]
        given: dict[str, tree.Expr] = {}
        if len(node.arguments) > len(wanted):
            raise self.arity(node, f"`{name}({', '.join(wanted)})`")
        given.update(zip(wanted, node.arguments, strict=False))
        for keyword in node.keywords:
            if keyword.name not in wanted or keyword.name in given:
                raise self.sink.fail("E0410", f"`{name}` has no free argument `{keyword.name}`", keyword.span)
            given[keyword.name] = keyword.value
        if len(given) != len(wanted):
            raise self.arity(node, f"`{name}({', '.join(wanted)})`")
        arguments = {n: Argument(e, ctx.locals, ctx.loss_names, ctx.calls) for n, e in given.items()}
        inner = replace(ctx, locals=arguments, loss_names=entity.in_loss, calls=(*ctx.calls, (name, node)), last=None)
        return self.expression(inner, definition.value)

    def arity(self, node: tree.Call, usage: str) -> Failed:
        count = len(node.arguments) + len(node.keywords)
        return self.sink.fail(
            "E0401",
            f"`{node.function}` does not take {count} argument{'s' * (count != 1)}",
            node.span,
            f"write {usage}",
        )


def _lazy(axes: Axes) -> bool:
    link: Axes | None = axes
    while link is not None:
        if link._fresh is not None:
            return True
        link = link._parent
    return False


def _without_factors(node: tree.Expr) -> tree.Expr:
    node = strip(node)
    match node:
        case tree.Unary(op="-", operand=inner):
            return _without_factors(inner)
        case tree.Binary(op="*" | "/", left=inner, right=number) if isinstance(strip(number), tree.Number):
            return _without_factors(inner)
        case tree.Binary(op="*", left=number, right=inner) if isinstance(strip(number), tree.Number):
            return _without_factors(inner)
    return node


def _two_totals(node: tree.Binary) -> bool:
    """`sum(a over K where c) / sum(b over K where c)`: a ratio of two totals over one set, signs and numbers aside."""
    a, b = _without_factors(node.left), _without_factors(node.right)
    return (
        isinstance(a, tree.Call)
        and isinstance(b, tree.Call)
        and a.function == b.function == "sum"
        and a.over == b.over
        and a.where == b.where
        and a.otherwise is None
        and b.otherwise is None
        and len(a.arguments) == len(b.arguments) == 1
    )


__all__ = ["Elaborator", "Handler"]
