"""Expressions of the syntax tree become scalars: names, accesses, operators, conditions, functions of the file.

An elaborated scalar speaks of *coordinates*: index variables over whole axes. Ranges that accesses narrow are kept in
the frame of the definition at hand and become 0-based formals when it is closed (`define.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.diagnostics import Span
from lossdsl.dim import Dim
from lossdsl.ir.build.affine import (
    UNBOUNDED,
    Affine,
    Bound,
    Prover,
    affine,
    canonical,
    conjuncts,
    integer,
    nonnegative,
    raw_constant,
    substitute,
    to_scalar,
)
from lossdsl.ir.build.scope import (
    REST,
    Argument,
    Axes,
    AxisEntity,
    Context,
    Entity,
    Failed,
    Frame,
    FunctionEntity,
    LossEntity,
    Obligation,
    ParameterEntity,
    PendingDefinition,
    Sink,
    Slot,
    TensorEntity,
    Unavailable,
    Visit,
    base_name,
    suggestion,
)
from lossdsl.ir.build.values import Values
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    And,
    Apply,
    Compare,
    Const,
    Index,
    Input,
    Not,
    Or,
    Param,
    Read,
    Scalar,
    Select,
    Size,
    Table,
    postorder,
    real,
)
from lossdsl.primitives.record import Dtype
from lossdsl.syntax import tree

WORK_LIMIT = 200_000
FOLD_BITS = 256
DEPTH_LIMIT = 1_500  # nested expressions, through functions; `limits.deep` makes room for them

_CONSTANTS: dict[str, Scalar] = {
    "inf": Const("inf"),
    "nan": Const("nan"),
    "true": Const(1, BOOL),
    "false": Const(0, BOOL),
    "pi": Apply("pi", ()),
}

Handler = Callable[["Elaborator", Context, tree.Call], Scalar]


def strip(node: tree.Expr) -> tree.Expr:
    """The expression without parentheses around it."""
    while isinstance(node, tree.Paren):
        node = node.inner
    return node


class Elaborator:
    """Everything that is known while one loss is built.

    Shared state: the scope, the diagnostics, the value ranges of tensors. `functions` maps the built-in names to their
    handlers; `define` elaborates a pending definition of the file on demand.
    """

    def __init__(
        self,
        sink: Sink,
        functions: Mapping[str, Handler],
        define: Callable[[Elaborator, PendingDefinition, Span, bool], TensorEntity],
        call_loss: Callable[[Elaborator, Context, tree.Loss, tree.Call], Scalar],
    ) -> None:
        self.sink = sink
        self.functions = functions
        self.names: dict[str, Entity] = {}
        self.axes: dict[str, AxisEntity] = {}
        self.file_functions: dict[str, FunctionEntity | LossEntity | Unavailable] = {}
        self.calling: list[str] = []
        self.call_count = 0
        self.inputs: dict[str, Input] = {}
        self.integer_bounds: dict[str, Bound] = {}
        self.values = Values()
        self.prover = Prover(self._promised)
        self.used: set[str] = set()
        self.first: dict[str, Span] = {}
        self.depth = 0
        self._define = define
        self._call_loss = call_loss
        self._free: dict[Scalar, frozenset[Index]] = {}
        self._work = 0
        self._fresh = 0
        self._arguments: dict[tuple[object, ...], Scalar] = {}
        self._keep: list[object] = []
        self._short: set[tuple[str, str]] = set()

    # -------------------------------------------------------------------------------------------- index variables

    def default_index(self, axis: str) -> Scalar:
        return Index(axis, self.axes[axis].dim)

    def fresh_index(self, axis: str) -> Index:
        self._fresh += 1
        made = Index(f"{axis}#{self._fresh}", self.axes[axis].dim)
        assert isinstance(made, Index)
        return made

    def top_context(self, frame: Frame, unwritten: bool = True) -> Context:
        return Context(frame=frame, axes=Axes(self.default_index), unwritten=unwritten)

    def free(self, node: Scalar) -> frozenset[Index]:
        """Index variables of a scalar."""
        if node not in self._free:
            for s in postorder(node):
                if s not in self._free:
                    own = frozenset((s,)) if isinstance(s, Index) else frozenset()
                    self._free[s] = own.union(*(self._free[c] for c in s.children))
        return self._free[node]

    def _promised(self, atom: Scalar, conditions: Sequence[Scalar]) -> Bound:
        """What types promise about an integer scalar."""
        if isinstance(atom, Param):
            entity = self.names.get(atom.name)
            if isinstance(entity, ParameterEntity):
                return _constant_bounds(entity.parameter.range.lower, entity.parameter.range.upper)
        if not isinstance(atom, Read):
            return UNBOUNDED
        declared = self.inputs.get(atom.tensor)
        if declared is None:
            return self.integer_bounds.get(atom.tensor, UNBOUNDED)
        if declared.kind == "class" and declared.classes is not None:
            if declared.also is None or self.prover.states(conditions, self._not_ignored(atom, declared.also)):
                return Dim.const(0), declared.classes - 1
            return UNBOUNDED
        if declared.kind in ("binary", "sign"):
            return Dim.const(0 if declared.kind == "binary" else -1), Dim.const(1)
        return _constant_bounds(declared.range.lower, declared.range.upper)

    def _not_ignored(self, read: Read, also: str) -> Scalar:
        return Compare("!=", read, Param(also, INT))

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
            raise self.sink.fail("E0411", f"a condition must be true or false, not {_kind(value)}", node.span, help)
        return value

    def integer_expression(self, ctx: Context, node: tree.Expr, what: str) -> Scalar:
        value = self.expression(ctx, node)
        if value.dtype is BOOL:
            value = Apply("int", (value,))
        if value.dtype is not INT:
            help = "`//` divides integers; `floor(x)` makes one"
            raise self.sink.fail("E0408", f"{what} must be an integer, not {_kind(value)}", node.span, help)
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
            raise self.unavailable("the training step `step`", node.span)
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

    def unavailable(self, what: str, span: Span, reason: str = "") -> Failed:
        return self.sink.fail("E0501", f"{what} has no meaning yet in this version", span, reason)

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

    def number(self, value: Scalar) -> Scalar:
        """A value in arithmetic: conditions count 0 and 1."""
        if value.dtype is BOOL:
            return Const(value.value, INT) if isinstance(value, Const) else Apply("int", (value,))
        return value

    def unify(self, values: Iterable[Scalar]) -> list[Scalar]:
        """Values as numbers of one dtype: REAL if one of them is."""
        numbers = [self.number(v) for v in values]
        return [real(v) for v in numbers] if any(v.dtype is REAL for v in numbers) else numbers

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
                raise self.sink.fail("E0411", f"`{node.op}` joins conditions, not {_kind(left)}", node.left.span)
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
                raise self.sink.fail("E0402", f"`{node.op}` is for integers", node.span, "`/` divides real numbers")
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

    def select(self, condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
        if a.dtype is not BOOL or b.dtype is not BOOL:
            a, b = self.unify((a, b))
        return Select(condition, a, b)

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
                    if _small(value):
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
        if not all(any(isinstance(s, Read) for s in postorder(o)) for o in operands):
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

    # --------------------------------------------------------------------------------------------------- accesses

    def access(self, ctx: Context, node: tree.Access) -> Scalar:
        base = strip(node.base)
        if isinstance(base, tree.Table):
            return self._table(ctx, base, node)
        named = [i for i in node.items if isinstance(i, tree.ByName)]
        positions = [i for i in node.items if not isinstance(i, (tree.ByName, tree.Rest))]
        if named and (positions or len(named) != len(node.items)):
            help = "name all replaced axes, or write every position"
            raise self.sink.fail("E0305", "an access is by name or by position, not both", node.span, help)
        return self._by_name(ctx, base, named, node) if named else self._by_position(ctx, base, node)

    def _by_name(self, ctx: Context, base: tree.Expr, items: list[tree.ByName], node: tree.Access) -> Scalar:
        replaced: dict[str, Scalar] = {}
        tensor = self._direct(ctx, base, shifted=True)
        for item in items:
            axis = self.axis(item.axis, item.span)
            if item.axis in replaced:
                raise self.sink.fail("E0302", f"axis `{item.axis}` is replaced twice", item.span)
            slot = next((s for s in tensor.slots if s.axis == item.axis), None) if tensor else None
            if tensor is not None and slot is None:
                help = f"`{tensor.name}` has {_axes_text(tensor)}"
                raise self.sink.fail("E0304", f"`{tensor.name}` has no axis `{item.axis}`", item.span, help)
            end = slot.upper if slot is not None else axis.dim
            inner = replace(ctx, last=to_scalar(Affine({}, end - 1)))
            replaced[item.axis] = self.integer_expression(inner, self._index_tree(item.index), "an index")
        if tensor is not None:
            indices = [replaced.get(s.axis) for s in tensor.slots]
            return self.read(ctx, tensor, indices, node.span, node.otherwise)
        if node.otherwise is not None:
            return self._guarded(ctx, base, replaced, node)
        probe = self.fresh_index(items[0].axis) if len(items) == 1 else None
        value = self.expression(replace(ctx, axes=ctx.axes.extended(replaced)), base)
        if probe is not None and not self._mentions(ctx, base, items[0].axis):
            raise self.sink.fail("E0304", f"nothing in the brackets has an axis `{items[0].axis}`", items[0].span)
        return value

    def _mentions(self, ctx: Context, base: tree.Expr, axis: str) -> bool:
        """Whether an expression has the axis, found by elaborating it once more beside the program."""
        probe, frame = self.fresh_index(axis), Frame()
        value = self.expression(replace(ctx, frame=frame, axes=ctx.axes.extended({axis: probe})), base)
        return probe in self.free(value)

    def _guarded(self, ctx: Context, base: tree.Expr, replaced: dict[str, Scalar], node: tree.Access) -> Scalar:
        """`expression[h = index else value]`: the expression is a definition; outside of its range, the value."""
        assert node.otherwise is not None
        probes = {axis: self.fresh_index(axis) for axis in replaced}
        before = len(ctx.frame.needs)
        value = self.expression(replace(ctx, axes=ctx.axes.extended(probes)), base)
        guards: list[Scalar] = []
        mapping: dict[Scalar, Scalar] = {}
        for axis, probe in probes.items():
            lower, upper = ctx.frame.ranges.pop(probe, (Dim.const(0), probe.dim))
            if probe not in self.free(value):
                raise self.sink.fail("E0304", f"nothing in the brackets has an axis `{axis}`", node.span)
            guards += self._unproved(replaced[axis], lower, upper, ctx.path)
            mapping[probe] = canonical(replaced[axis])
        ctx.frame.visits[:] = [v for v in ctx.frame.visits if v.variable not in mapping]
        needs = ctx.frame.needs[before:]
        del ctx.frame.needs[before:]
        inside = ctx.path + tuple(guards)
        self._require(
            replace(ctx, path=inside), [replace(n, condition=substitute(n.condition, mapping)) for n in needs]
        )
        return self._choose(ctx, guards, substitute(value, mapping), node.otherwise)

    def _choose(self, ctx: Context, guards: list[Scalar], value: Scalar, otherwise: tree.Expr) -> Scalar:
        if not guards:
            return value
        condition = guards[0] if len(guards) == 1 else And(tuple(guards))
        other = self.expression(ctx.under(conjuncts(Not(condition))), otherwise)
        return self.select(condition, value, other)

    def _by_position(self, ctx: Context, base: tree.Expr, node: tree.Access) -> Scalar:
        plain = all(isinstance(strip(i), tree.Name) for i in node.items if not isinstance(i, (tree.ByName, tree.Rest)))
        tensor = self._direct(ctx, base, shifted=not plain)
        if tensor is None:
            help = "name the axis: `(...)[h = index]`"
            raise self.sink.fail("E0303", "positions need a tensor or a definition with written axes", node.span, help)
        if not tensor.written and len(tensor.slots) > 1:
            axes = ", ".join(s.axis for s in tensor.slots)
            help = (
                f"write `{tensor.name}[{axes}] = ...`, or name the axis: `{tensor.name}[{tensor.slots[0].axis} = ...]`"
            )
            raise self.sink.fail(
                "E0303", f"the axes of `{tensor.name}` are not written, so its positions are not known", node.span, help
            )
        if len(node.items) != len(tensor.slots):
            have = len(tensor.slots)
            raise self.sink.fail(
                "E0302",
                f"`{tensor.name}` has {have} position{'s' * (have != 1)}, {len(node.items)} given",
                node.span,
                f"`{tensor.name}` has {_axes_text(tensor)}",
            )
        indices: list[Scalar | None] = []
        for item, slot in zip(node.items, tensor.slots, strict=True):
            if isinstance(item, tree.Rest):
                if slot.axis != REST:
                    raise self.sink.fail("E0302", f"`...` stands where `{tensor.name}` has none", item.span)
                indices.append(None)
                continue
            assert not isinstance(item, tree.ByName)
            inner = replace(ctx, last=to_scalar(Affine({}, slot.upper - 1)))
            indices.append(self.integer_expression(inner, self._index_tree(item), "an index"))
        return self.read(ctx, tensor, indices, node.span, node.otherwise)

    def _index_tree(self, node: tree.Expr) -> tree.Expr:
        inner = strip(node)
        if isinstance(inner, tree.Call) and inner.function in ("edge", "reflect", "wrap"):
            raise self.unavailable(f"the boundary `{inner.function}(...)`", inner.span)
        return node

    def _direct(self, ctx: Context, base: tree.Expr, shifted: bool) -> TensorEntity | None:
        """The tensor that an expression plainly is, through arguments that are plain names."""
        while isinstance(base, tree.Name) and base.id in ctx.locals:
            argument = ctx.locals[base.id]
            base = strip(argument.value)
            ctx = replace(ctx, locals=argument.locals, loss_names=argument.loss_names)
        if not isinstance(base, tree.Name) or base.id in self.axes or base.id in ("pi", "inf", "nan", "true", "false"):
            return None
        if base.id in ("last", "step"):
            return None
        entity = self.lookup(ctx, base.id, base.span, shifted)
        if isinstance(entity, TensorEntity):
            return entity
        if isinstance(entity, ParameterEntity):
            raise self.sink.fail("E0302", f"the parameter `{base.id}` has no axes", base.span)
        return None

    def axis(self, name: str, span: Span) -> AxisEntity:
        entity = self.axes.get(name)
        if entity is None:
            raise self.sink.fail("E0206", f"unknown axis `{name}`", span, suggestion(name, list(self.axes)))
        self.used.add(name)
        return entity

    # ------------------------------------------------------------------------------------------------------- reads

    def read(
        self,
        ctx: Context,
        tensor: TensorEntity,
        indices: Sequence[Scalar | None],
        span: Span,
        otherwise: tree.Expr | None = None,
    ) -> Scalar:
        """`tensor[indices]`; None is the position's own axis. Ranges give way or conditions guard the read."""
        places: list[Scalar] = []
        guards: list[Scalar] = []
        coordinates: dict[Scalar, Scalar] = {}
        silent = True
        for k, (slot, given) in enumerate(zip(tensor.slots, indices, strict=True)):
            index = given
            if index is None:
                if not slot.axis:
                    if raw_constant(slot.full) != 1:
                        help = f"write the position: `{tensor.name}[{', '.join(s.axis or '0' for s in tensor.slots)}]`"
                        raise self.sink.fail("E0309", f"position {k + 1} of `{tensor.name}` has no name", span, help)
                    index = integer(0)
                else:
                    index = ctx.axes.get(slot.axis)
            if tensor.coordinates:
                coordinates[tensor.coordinates[k]] = index
            place, unproved, quiet = self._place(ctx, tensor, slot, index, span, otherwise is not None)
            places.append(place)
            guards += unproved
            silent = silent and (quiet or not unproved)
        read = Read(tensor.tensor, tuple(places), tensor.dtype)
        inside = ctx.path + tuple(guards)
        self._require(
            replace(ctx, path=inside),
            [replace(n, condition=substitute(n.condition, coordinates)) for n in tensor.needs],
        )
        if otherwise is not None:
            return self._choose(ctx, guards, read, otherwise)
        if not guards:
            return read
        if tensor.dtype is not REAL:
            raise self.sink.fail(
                "E0405",
                f"this index into `{tensor.name}` is not proved to stay in range",
                span,
                "say what stands outside: `x[index else 0]`, or put the access under a condition",
            )
        if not silent:
            self._warn_range(tensor, indices, span)
        condition = guards[0] if len(guards) == 1 else And(tuple(guards))
        return Select(condition, read, Const("nan"))

    def _warn_range(self, tensor: TensorEntity, indices: Sequence[Scalar | None], span: Span) -> None:
        """One warning for each tensor where constant positions may be missing, one for each other access."""
        message = f"this index into `{tensor.name}` is not proved to stay in range; outside, the value is nan"
        help = "say what stands outside: `x[index else 0]`, or put the access under a condition"
        for slot, index in zip(tensor.slots, indices, strict=True):
            if isinstance(index, Const) and slot.axis and raw_constant(slot.full) is None:
                if (tensor.name, slot.axis) in self._short:
                    return
                self._short.add((tensor.name, slot.axis))
                message = f"`{tensor.name}` is read at fixed positions of `{slot.axis}`, which may have fewer"
                help = f"declare the extent: `axis {slot.axis} = ...`; outside, the value is nan"
        self.sink.add("W1003", message, span, help)

    def _require(self, ctx: Context, needs: Iterable[Obligation]) -> None:
        """Establish what a read needs here, or pass it on to the readers of the definition at hand."""
        for need in needs:
            if not self.prover.entails(ctx.path, need.condition):
                ctx.frame.needs.append(need)

    def _place(
        self, ctx: Context, tensor: TensorEntity, slot: Slot, index: Scalar, span: Span, has_else: bool
    ) -> tuple[Scalar, list[Scalar], bool]:
        """(index into the stored range, conditions not proved, whether they need no warning)."""
        if isinstance(index, Index) and index.dim == slot.full and not slot.restricted:
            if tensor.is_input:
                ctx.frame.visits.append(Visit(tensor.tensor, index, True, span))
            return index, [], True
        form = affine(index)
        stored = to_scalar(form.shifted(-slot.lower))
        if has_else:
            return stored, self._unproved(index, slot.lower, slot.upper, ctx.path), True
        conditions = ctx.path
        for s in postorder(index):
            declared = self.inputs.get(s.tensor) if isinstance(s, Read) else None
            if isinstance(s, Read) and declared is not None and declared.also is not None and s in form.terms:
                wanted = self._not_ignored(s, declared.also)
                if not self.prover.states(conditions, wanted):
                    self._require(ctx, [self._ignored(declared, tensor, wanted, span)])
                    conditions = (*conditions, wanted)
        missing = self._unproved(index, slot.lower, slot.upper, conditions)
        if not missing:
            self._visit(ctx, tensor, slot, form, span)
            return stored, [], True
        variable = self._own(form, slot)
        if variable is not None:
            coefficient = raw_constant(form.terms[variable])
            if coefficient != 1:
                raise self.sink.fail(
                    "E0502",
                    f"an index with {coefficient} times its own axis `{slot.axis}` (a coarser grid) has no meaning yet",
                    span,
                )
            lower, upper = self.prover.bounds(form.without(variable), frozenset(), conditions)
            if lower is not None and upper is not None:
                both = len(missing) == 2
                first = both or (isinstance(missing[0], Compare) and missing[0].op == ">=")
                last = both or not first
                whole = (Dim.const(0), variable.dim)
                wanted_range = (slot.lower - lower if first else whole[0], slot.upper - upper if last else whole[1])
                self.narrow(ctx.frame, variable, wanted_range, span)
                self._visit(ctx, tensor, slot, form, span)
                return stored, [], True
        outer = (*conditions, *ctx.outer)
        if ctx.outer and not self._unproved(index, slot.lower, slot.upper, outer):
            message = f"this index into `{tensor.name}` is in range only under the condition around the reduction"
            self._require(ctx, [Obligation(m, span, message, "put the condition into its `where`") for m in missing])
            return stored, [], True
        quiet = not form.terms and (not form.rest.terms or form.rest == slot.upper - 1)  # the first, the last
        return stored, missing, quiet

    def _ignored(self, declared: Input, tensor: TensorEntity, wanted: Scalar, span: Span) -> Obligation:
        return Obligation(
            wanted,
            span,
            f"`{declared.name}` may be `{declared.also}`, which is no position of `{tensor.name}`",
            f"put every use under a condition: `where {declared.name} != {declared.also}`",
        )

    def _visit(self, ctx: Context, tensor: TensorEntity, slot: Slot, form: Affine, span: Span) -> None:
        if tensor.is_input:
            for atom in form.terms:
                if isinstance(atom, Index):
                    ctx.frame.visits.append(Visit(tensor.tensor, atom, False, span))

    def _unproved(self, index: Scalar, lower: Dim, upper: Dim, conditions: Sequence[Scalar]) -> list[Scalar]:
        """The conditions of `lower <= index < upper` that are not proved."""
        form = affine(index)
        value = to_scalar(form)
        missing: list[Scalar] = []
        if not self.prover.at_least_zero(form.shifted(-lower), conditions):
            missing.append(Compare(">=", value, to_scalar(Affine({}, lower))))
        if not self.prover.at_least_zero(Affine({}, upper - 1).plus(form, -1), conditions):
            missing.append(Compare("<", value, to_scalar(Affine({}, upper))))
        return missing

    def _own(self, form: Affine, slot: Slot) -> Index | None:
        """The index variable that gives way: over the position's own axis, else over an alias of it."""
        if not slot.axis:
            return None
        variables = [a for a in form.terms if isinstance(a, Index)]
        own = [v for v in variables if base_name(v) == slot.axis]
        root = self.axes[slot.axis].root
        return next(iter(own + [v for v in variables if self.axes[base_name(v)].root == root]), None)

    def narrow(self, frame: Frame, variable: Index, wanted: tuple[Dim, Dim], span: Span) -> None:
        """Intersect the range of an index variable."""
        lower, upper = frame.range(variable)
        new: list[Dim] = []
        for have, want, sign in ((lower, wanted[0], 1), (upper, wanted[1], -1)):
            if nonnegative((want - have) * sign):
                new.append(want)
            elif nonnegative((have - want) * sign):
                new.append(have)
            else:
                raise self.sink.fail(
                    "E0311",
                    f"the ranges of `{base_name(variable)}` cannot be compared here: {have} and {want}",
                    span,
                    "say what stands outside: `x[index else 0]`",
                )
        frame.ranges[variable] = (new[0], new[1])

    def _table(self, ctx: Context, table: tree.Table, node: tree.Access) -> Scalar:
        shape, items = self._table_items(table)
        if any(isinstance(i, (tree.ByName, tree.Rest)) for i in node.items) or len(node.items) != len(shape):
            raise self.sink.fail("E0302", f"this table has {len(shape)} positions", node.span)
        values = self.unify(items)
        form = Affine({}, Dim.const(0))
        missing: list[Scalar] = []
        for item, extent in zip(node.items, shape, strict=True):
            assert not isinstance(item, (tree.ByName, tree.Rest))
            inner = replace(ctx, last=integer(extent - 1))
            index = self.integer_expression(inner, item, "an index")
            missing += self._unproved(index, Dim.const(0), Dim.const(extent), ctx.path)
            form = Affine({a: c * extent for a, c in form.terms.items()}, form.rest * extent).plus(affine(index))
        constants = tuple(v for v in values if isinstance(v, Const))
        value: Scalar = Table(constants, to_scalar(form))
        if missing and node.otherwise is not None:
            return self._choose(ctx, missing, value, node.otherwise)
        if missing:
            raise self.sink.fail(
                "E0405", "this index into a table is not proved to stay in range", node.span, "write `[...][i else 0]`"
            )
        return value

    def _table_items(self, table: tree.Table) -> tuple[tuple[int, ...], list[Scalar]]:
        shapes: list[tuple[int, ...]] = []
        items: list[Scalar] = []
        for item in table.items:
            inner = strip(item)
            if isinstance(inner, tree.Table):
                shape, below = self._table_items(inner)
            else:
                constant = self.expression(self.top_context(Frame()), inner)
                if not isinstance(constant, Const) or constant.dtype is BOOL:
                    raise self.sink.fail("E0402", "a table holds numbers", item.span)
                shape, below = (), [constant]
            shapes.append(shape)
            items += below
        if any(s != shapes[0] for s in shapes):
            raise self.sink.fail("E0402", "the rows of this table differ in length", table.span)
        return (len(shapes), *shapes[0]), items

    # ------------------------------------------------------------------------------------------------------- calls

    def _call(self, ctx: Context, node: tree.Call) -> Scalar:
        span = node.function_span if node.function_span.line else node.span
        local = self.names.get(node.function) if ctx.loss_names else None
        own = local if isinstance(local, (FunctionEntity, Unavailable)) else None
        entity: FunctionEntity | LossEntity | Unavailable | None = own or self.file_functions.get(node.function)
        if isinstance(entity, Unavailable):
            self.used.add(node.function)
            raise self._unavailable_name(entity, span)
        if isinstance(entity, LossEntity):
            return self._call_loss(self, ctx, entity.loss, node)
        if entity is not None:
            self.used.add(node.function)
            return self._apply_function(ctx, entity, node)
        handler = self.functions.get(node.function)
        if handler is None:
            known = [*self.functions, *self.file_functions]
            known += [n for n, e in self.names.items() if isinstance(e, FunctionEntity)]
            help = suggestion(node.function, known)
            if node.function in self.names:
                help = f"`{node.function}` is a value: write an access with brackets, `{node.function}[...]`"
            raise self.sink.fail("E0204", f"unknown function `{node.function}`", span, help)
        return handler(self, ctx, node)

    def _apply_function(self, ctx: Context, entity: FunctionEntity, node: tree.Call) -> Scalar:
        definition = entity.definition
        name = definition.name.name
        if name in ctx.calls:
            raise self.sink.fail("E0205", f"`{name}` calls itself", node.span, "a recurrence is a definition with axes")
        if definition.value is None:
            raise self.unavailable(f"the function block `def {name}(...):`", node.span)
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
        inner = replace(ctx, locals=arguments, loss_names=entity.in_loss, calls=(*ctx.calls, name), last=None)
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


def _kind(value: Scalar) -> str:
    names = {Dtype.REAL: "a real number", Dtype.INT: "an integer", Dtype.BOOL: "a condition"}
    return names[value.dtype]


def _axes_text(tensor: TensorEntity) -> str:
    return f"axes [{', '.join(s.axis or str(s.full) for s in tensor.slots)}]" if tensor.slots else "no axes"


def _constant_bounds(lower: Scalar | None, upper: Scalar | None) -> Bound:
    found: list[Dim | None] = []
    for bound in (lower, upper):
        form = affine(bound) if bound is not None and bound.dtype is INT else None
        found.append(form.rest if form is not None and not form.terms else None)
    return found[0], found[1]


def _small(value: Fraction) -> bool:
    return value.numerator.bit_length() <= FOLD_BITS and value.denominator.bit_length() <= FOLD_BITS


def _two_totals(node: tree.Binary) -> bool:
    """`sum(a over K where c) / sum(b over K where c)`: a ratio of two totals over one set."""
    a, b = strip(node.left), strip(node.right)
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


def negate(value: Scalar) -> Scalar:
    """`-value`; constants are folded, there is no negative zero."""
    if isinstance(value, Const):
        if isinstance(value.value, Fraction):
            return Const(-value.value, value.kind)
        return Const({"inf": "-inf", "-inf": "inf"}.get(value.value, value.value), value.kind)
    return Apply("neg", (value,))


def arithmetic(name: str, a: Scalar, b: Scalar) -> Scalar:
    """`a op b`; exact constants are folded up to 256 bits, everything else stays as written."""
    if (
        isinstance(a, Const)
        and isinstance(b, Const)
        and isinstance(a.value, Fraction)
        and isinstance(b.value, Fraction)
    ):
        operations: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
            "add": lambda x, y: x + y,
            "sub": lambda x, y: x - y,
            "mul": lambda x, y: x * y,
            "div": lambda x, y: x / y,
        }
        value = operations[name](a.value, b.value)
        if _small(value):
            return Const(value, a.kind)
    return Apply(name, (a, b))


def whole_power(base: Scalar, exponent: int) -> Scalar:
    """`base ^ exponent` for a whole exponent, as the registry represents it."""
    return Apply("powi", (base, integer(exponent)))


def size_scalar(dim: Dim) -> Scalar:
    """The extent as an INT scalar."""
    constant = raw_constant(dim)
    return integer(max(0, constant)) if constant is not None else Size(dim)


__all__ = ["Elaborator", "Handler", "arithmetic", "negate", "size_scalar", "strip", "whole_power"]
