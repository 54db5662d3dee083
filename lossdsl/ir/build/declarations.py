"""Declarations: axes and their extents, parameters, inputs, with their domains and defaults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.diagnostics import Span
from lossdsl.dim import Dim
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.scalars import kind_text, strip
from lossdsl.ir.build.scope import (
    REST,
    AxisEntity,
    Entity,
    Failed,
    Frame,
    FunctionEntity,
    LossEntity,
    ParameterEntity,
    PendingDefinition,
    Slot,
    TensorEntity,
    Unavailable,
    entity_span,
    suggestion,
)
from lossdsl.ir.extents import polynomial
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    Const,
    Definition,
    Index,
    Input,
    Output,
    Param,
    Parameter,
    Program,
    Range,
    Read,
    Scalar,
    Size,
    postorder,
    real,
)
from lossdsl.primitives.record import Dtype
from lossdsl.syntax import tree

_NO_RANGE = ("bool", "binary", "sign", "class", "simplex", "unit")


def declare(e: Elaborator, body: Sequence[tree.Statement]) -> list[tree.Declaration]:
    """Enter every name of a loss into its scope; returns the input and learnable declarations in order."""
    inputs: list[tree.Declaration] = []
    _axes(e, body)
    _once(e, body)
    for statement in body:
        match statement:
            case tree.Declaration(keyword="param"):
                _parameters(e, statement)
            case tree.Definition(names=names) if len(names) > 1:
                for k, name in enumerate(names):
                    one = replace(statement, names=(name,))
                    _enter(e, name, PendingDefinition(one, part=(k, len(names))))
            case tree.Definition():
                _enter(e, statement.names[0], PendingDefinition(statement))
            case tree.Def():
                function(e, statement, in_loss=True)
    for statement in body:
        if isinstance(statement, tree.Declaration) and statement.keyword in ("input", "learnable", "state"):
            inputs.append(statement)
            _inputs(e, statement)
    return inputs


def function(e: Elaborator, definition: tree.Def, in_loss: bool) -> None:
    """Enter a function of the file or of a loss."""
    name = definition.name
    entity = FunctionEntity(definition, in_loss)
    seen: set[str] = set()
    for argument in definition.arguments:
        if argument.name in seen:
            e.sink.add("E0202", f"`{argument.name}` is declared twice", argument.span)
        seen.add(argument.name)
    if name.name in e.functions:
        e.sink.add("E0202", f"`{name.name}` is a built-in function", name.span, "choose another name")
        return
    if in_loss:
        if name.name in e.file_functions:
            what = "a loss" if isinstance(e.file_functions[name.name], LossEntity) else "a function"
            e.sink.add("E0202", f"`{name.name}` is already {what} of the file", name.span, "choose another name")
            e.names[name.name] = Unavailable("a name declared twice", name.span)
            return
        _enter(e, name, entity)
    else:
        e.file_functions[name.name] = entity


def _once(e: Elaborator, body: Sequence[tree.Statement]) -> None:
    """Report names that are declared twice; the first in the file counts."""
    first: dict[str, tree.Ident] = {}
    for statement in body:
        names: tuple[tree.Ident, ...] = ()
        if isinstance(statement, (tree.Declaration, tree.Definition)):
            names = statement.names
        elif isinstance(statement, tree.Def):
            names = (statement.name,)
        for name in names:
            old = first.setdefault(name.name, name)
            if old is not name:
                help = "a name is one thing in a loss"
                e.sink.add("E0202", f"`{name.name}` is already declared (line {old.span.line})", name.span, help)
    e.first = {n: i.span for n, i in first.items()}


def _enter(e: Elaborator, name: tree.Ident, entity: Entity) -> None:
    if e.first.get(name.name, name.span) != name.span:
        return
    old: Entity | None = e.names.get(name.name) or e.axes.get(name.name)
    if old is not None:
        line = entity_span(old).line
        what = "an axis" if isinstance(old, AxisEntity) else "declared"
        e.sink.add(
            "E0202", f"`{name.name}` is already {what} (line {line})", name.span, "a name is one thing in a loss"
        )
        return
    e.names[name.name] = entity


# ---------------------------------------------------------------------------------------------------------- axes


def _axes(e: Elaborator, body: Sequence[tree.Statement]) -> None:
    written: dict[str, tuple[tree.AxisDeclaration, tree.Ident]] = {}
    spans: dict[str, Span] = {}
    for statement in body:
        if isinstance(statement, tree.Declaration):
            for item in statement.type.axes or ():
                if isinstance(item, tree.Axis):
                    spans.setdefault(item.name, item.span)
                elif isinstance(item, tree.Rest):
                    spans.setdefault(REST, item.span)
    for statement in body:
        if isinstance(statement, tree.AxisDeclaration):
            for name in statement.names:
                if name.name in written:
                    e.sink.add("E0202", f"the axis `{name.name}` is declared twice", name.span)
                    continue
                written[name.name] = (statement, name)
                spans.setdefault(name.name, name.span)
    parameters = {
        n.name
        for s in body
        if isinstance(s, tree.Declaration) and s.keyword == "param" and s.type.kind == "int"
        for n in s.names
    }
    resolver = Extents(e, written, set(spans), parameters)
    for order, (axis, span) in enumerate(spans.items()):
        try:
            dim, root = resolver.extent(axis)
        except Failed:
            dim, root = Dim.symbol(axis), axis
        e.axes[axis] = AxisEntity(axis, dim, root, order, span)


class Extents:
    """Extents of axes from their declarations; an axis without one is a symbol of its own."""

    def __init__(
        self,
        e: Elaborator,
        written: dict[str, tuple[tree.AxisDeclaration, tree.Ident]],
        axes: set[str],
        parameters: set[str],
    ) -> None:
        self.e, self.written, self.axes, self.parameters = e, written, axes, parameters
        self.known: dict[str, tuple[Dim, str]] = {}
        self.busy: list[str] = []

    @staticmethod
    def of(e: Elaborator) -> Extents:
        """Extents made of the axes and integer parameters that are there already."""
        parameters = {n for n, x in e.names.items() if isinstance(x, ParameterEntity) and x.parameter.kind == "int"}
        made = Extents(e, {}, set(e.axes), parameters)
        made.known = {a: (x.dim, x.root) for a, x in e.axes.items()}
        return made

    def extent(self, axis: str) -> tuple[Dim, str]:
        """(extent, root axis: the one whose positions this one indexes)."""
        if axis in self.known:
            return self.known[axis]
        if axis not in self.written:
            self.known[axis] = (Dim.symbol(axis), axis)
            return self.known[axis]
        statement, name = self.written[axis]
        if axis in self.busy:
            self.known.update((a, (Dim.symbol(a), a)) for a in self.busy)
            raise self.e.sink.fail("E0205", f"the extent of `{axis}` depends on itself", name.span)
        self.busy.append(axis)
        try:
            value = strip(statement.extent)
            dim = self.value(value)
            constant = dim.number
            if constant is not None and constant < 0:
                raise self.e.sink.fail("E0310", f"the extent of `{axis}` is negative", statement.extent.span)
            root = axis
            if isinstance(value, tree.Name) and value.id in self.axes:
                root = self.extent(value.id)[1]
        finally:
            self.busy.pop()
        return self.known.setdefault(axis, (dim, root))

    def value(self, node: tree.Expr) -> Dim:
        node = strip(node)
        match node:
            case tree.Number(value=value) if value.denominator == 1:
                return Dim.const(int(value))
            case tree.Name(id=name):
                if name in self.axes:
                    return self.extent(name)[0]
                if name in self.parameters:
                    self.e.used.add(name)
                    return Dim.symbol(name)
                help = suggestion(name, [*self.axes, *self.parameters]) or "an extent is made of axes, integer "
                help = help if help.startswith("did") else "an extent is made of axes, integer parameters and numbers"
                shown = name.rpartition(".")[2]  # of something that is called, without the prefix of the call
                raise self.e.sink.fail("E0310", f"`{shown}` is no axis and no integer parameter", node.span, help)
            case tree.Unary(op="-"):
                return -self.value(node.operand)
            case tree.Binary(op="+" | "-" | "*" | "//" | "^" | "**"):
                return self.binary(node)
        help = "an extent is made of axes, integer parameters, numbers and + - * // ^"
        raise self.e.sink.fail("E0310", "this cannot be the extent of an axis", node.span, help)

    def binary(self, node: tree.Binary) -> Dim:
        a, b = self.value(node.left), self.value(node.right)
        if node.op == "+":
            return a + b
        if node.op == "-":
            return a - b
        if node.op == "*":
            return a * b
        constant = b.number
        if constant is None or constant < 1 or (node.op != "//" and constant > 16):
            raise self.e.sink.fail("E0310", f"the right side of `{node.op}` is a small positive number", node.span)
        if node.op == "//":
            return a // constant
        power = Dim.const(1)
        for _ in range(constant):
            power = power * a
        return power


# ---------------------------------------------------------------------------------------------- types and domains


def _constant(e: Elaborator, node: tree.Expr, what: str) -> Const:
    value = e.expression(e.top_context(Frame()), node)
    if not isinstance(value, Const):
        raise e.sink.fail("E0407", f"{what} is a number", node.span)
    return value


def _bound(e: Elaborator, node: tree.Expr, of_parameter: bool) -> Scalar:
    """A bound of a domain: a number, or an expression of parameters and sizes. That of a parameter holds no other
    parameter (they would bind each other) and has a value in the integers, so that each call can test it."""
    value = e.number(e.expression(e.top_context(Frame()), node))
    if of_parameter:
        if not isinstance(value, Const) and not _of_extents(e, value):
            help = "made of numbers and `size(axis)`: `int in [0, size(c) - 1]`"
            raise e.sink.fail("E0407", "a bound of a parameter is a number or an extent", node.span, help)
        return value
    if any(isinstance(s, (Read, Index)) for s in postorder(value)):
        help = "bounds are made of numbers, parameters and `size(axis)`"
        raise e.sink.fail("E0406", "a bound of a domain cannot depend on data", node.span, help)
    return value


def _of_extents(e: Elaborator, value: Scalar) -> bool:
    """Whether a value is a polynomial of the extents of axes that tensors bring, and of nothing else."""
    extent = polynomial(value)
    return extent is not None and all(s in e.axes and s != REST for s in extent.symbols())


def _range(e: Elaborator, declared: tree.Type, dtype: Dtype, of_parameter: bool) -> Range:
    lower: Scalar | None = None
    upper: Scalar | None = None
    lower_open = upper_open = False
    for domain in declared.domains:
        match domain:
            case tree.CompareWith(op=op, bound=bound) if op in (">", ">="):
                lower, lower_open = _bound(e, bound, of_parameter), op == ">"
            case tree.CompareWith(op=op, bound=bound) if op in ("<", "<="):
                upper, upper_open = _bound(e, bound, of_parameter), op == "<"
            case tree.CompareWith():
                raise e.sink.fail("E0406", f"`{domain.op}` is no domain", domain.span, "use < <= > >= or `in [a, b]`")
            case tree.Between():
                lower, lower_open = _bound(e, domain.lower, of_parameter), domain.lower_open
                upper, upper_open = _bound(e, domain.upper, of_parameter), domain.upper_open
            case _:
                continue
        if declared.kind in _NO_RANGE:
            raise e.sink.fail("E0406", f"`{declared.kind}` has no range", domain.span)
    infinite = {"inf", "-inf"}
    if isinstance(lower, Const) and lower.value in infinite:
        lower = None
    if isinstance(upper, Const) and upper.value in infinite:
        upper = None
    if isinstance(lower, Const) and isinstance(upper, Const):
        a, b = lower.value, upper.value
        if isinstance(a, Fraction) and isinstance(b, Fraction) and (a > b or (a == b and (lower_open or upper_open))):
            raise e.sink.fail("E0406", "this domain is empty", declared.span)
    if dtype is REAL:
        lower, upper = (real(b) if b is not None else None for b in (lower, upper))
    if declared.kind == "prob":
        for end in (lower, upper):
            if isinstance(end, Const) and not (isinstance(end.value, Fraction) and 0 <= end.value <= 1):
                help = "`real` with a range can be anything"
                raise e.sink.fail("E0406", "a `prob` lies in [0, 1]", declared.span, help)
        lower = lower if lower is not None else Const(0)
        upper = upper if upper is not None else Const(1)
    return Range(lower, upper, lower_open, upper_open)


def _inside(value: Fraction | str, r: Range) -> bool:
    """Whether a default ("inf" and "-inf" among them) lies in a range; a bound that is no number excludes none."""
    if not isinstance(value, Fraction):
        bound, is_open = (r.upper, r.upper_open) if value == "inf" else (r.lower, r.lower_open)
        return bound is None and not is_open

    def fraction(bound: Scalar | None) -> Fraction | None:
        return bound.value if isinstance(bound, Const) and isinstance(bound.value, Fraction) else None

    lower, upper = fraction(r.lower), fraction(r.upper)
    above = lower is None or (value > lower if r.lower_open else value >= lower)
    below = upper is None or (value < upper if r.upper_open else value <= upper)
    return above and below


def fit(e: Elaborator, declared: tree.Type, name: str, given: Scalar, span: Span) -> None:
    """E0406 where what a call gives for a parameter cannot be a value of its type, or is a number outside of its domain.
    A bound that is an extent says nothing here."""
    dtype = {"int": INT, "bool": BOOL}.get(declared.kind, REAL)
    if (dtype is BOOL and given.dtype is not BOOL) or (dtype is INT and given.dtype is REAL):
        help = {"int": "a whole number", "bool": "`true`, `false` or a comparison"}[declared.kind]
        raise e.sink.fail("E0406", f"{name} is `{declared.kind}`, and this is {kind_text(given)}", span, help)
    bounds = [x for d in declared.domains for x in tree.walk(d)]
    if not isinstance(given, Const) or dtype is BOOL or any(isinstance(x, tree.Name) for x in bounds):
        return
    r = _range(e, declared, dtype, of_parameter=True)
    if given.value == "nan" or not _inside(given.value, r):
        raise e.sink.fail("E0406", f"this is outside of the domain of {name}, {range_text(r)}", span)


def range_text(r: Range) -> str:
    """A range in brackets: `(0, inf)`."""
    lower, upper = (str(b.value) if isinstance(b, Const) else end for b, end in ((r.lower, "-inf"), (r.upper, "inf")))
    left = "(" if r.lower_open or r.lower is None else "["
    right = ")" if r.upper_open or r.upper is None else "]"
    return f"{left}{lower}, {upper}{right}"


def _first_value(e: Elaborator, node: tree.Expr) -> Const:
    """The default of a real value: any expression of numbers. What is no rational (`log(10)`) is rounded to a double, and
    that number is the default, for claims `at defaults` too."""
    value = e.expression(e.top_context(Frame()), node)
    if isinstance(value, Const):
        return value
    if any(isinstance(s, (Read, Index, Param, Size)) for s in postorder(value)) or e.free(value):
        help = "an expression of numbers, as `log(10)`; what depends on more is given when the module is made"
        raise e.sink.fail("E0407", "a default is a number", node.span, help)
    from lossdsl.ir.interpret import interpret  # imports numpy, which few declarations need

    definition = Definition("value", (), "map", (), TRUE, value)
    number = interpret(Program("default", (), (), (definition,), (Output("return", "value"),)), {})["return"].item()
    if not math.isfinite(number):
        raise e.sink.fail("E0407", "this default has no finite value", node.span)
    return Const(Fraction(number), value.dtype)


def _default(e: Elaborator, statement: tree.Declaration, k: int, dtype: Dtype, r: Range) -> Const | None:
    if not statement.defaults:
        return None
    if len(statement.defaults) not in (1, len(statement.names)):
        span = statement.defaults[0].span.to(statement.defaults[-1].span)
        raise e.sink.fail("E0407", f"{len(statement.names)} names, {len(statement.defaults)} defaults", span)
    node = statement.defaults[k if len(statement.defaults) > 1 else 0]
    value = _first_value(e, node) if dtype is REAL else _constant(e, node, "a default")
    if (value.dtype is BOOL) != (dtype is BOOL) or (dtype is INT and value.dtype is REAL):
        help = {"int": "a whole number, or `real`", "bool": "`true` or `false`"}.get(statement.type.kind, "a number")
        raise e.sink.fail("E0407", f"this default does not fit the type `{statement.type.kind}`", node.span, help)
    if value.value == "nan":
        help = "leave the default out: then it must be given"
        raise e.sink.fail("E0407", "`nan` is no number, so it is no default", node.span, help)
    if not _inside(value.value, r):
        help = "a default inside of it, a wider domain, or no default: then it must be given"
        raise e.sink.fail("E0407", "this default is outside the declared domain", node.span, help)
    return Const(value.value, dtype)


def _parameters(e: Elaborator, statement: tree.Declaration) -> None:
    declared = statement.type
    for k, name in enumerate(statement.names):
        kind = {"real": "real", "int": "int", "bool": "bool", "prob": "real"}.get(declared.kind)
        parameter = Parameter(name.name, kind or "real", origin=name.span)
        try:
            if kind is None:
                help = "`real`, `int`, `bool` or `prob`; what has axes is an `input` or `learnable`"
                raise e.sink.fail("E0406", f"a parameter is a number, not `{declared.kind}`", declared.span, help)
            if declared.axes:
                help = "declare it as an `input` or `learnable`"
                raise e.sink.fail("E0406", "a parameter has no axes", declared.span, help)
            r = _range(e, declared, parameter.dtype, of_parameter=True)
            default = _default(e, statement, k, parameter.dtype, r)
            parameter = Parameter(name.name, kind, r, default, name.span)
        except Failed:
            pass
        _enter(e, name, ParameterEntity(parameter, name.span))
        e.values.declare_parameter(parameter)


def _inputs(e: Elaborator, statement: tree.Declaration) -> None:
    for k, name in enumerate(statement.names):
        try:
            declared = declared_input(e, statement, name, k)
        except Failed:
            _enter(e, name, Unavailable("a faulty declaration", name.span))
            continue
        slots = tuple(Slot.whole(a, d) for a, d in zip(declared.axes, declared.dims, strict=True))
        _enter(e, name, TensorEntity(name.name, name.name, slots, declared.dtype, True, name.span, is_input=True))
        e.inputs[name.name] = declared
        e.values.declare_input(declared)


def declared_input(e: Elaborator, statement: tree.Declaration, name: tree.Ident, k: int) -> Input:
    """One name of an `input`, `learnable` or `state` line; raises Failed after recording a diagnostic."""
    declared = statement.type
    axes: list[str] = []
    dims: list[Dim] = []
    for item in declared.axes or ():
        if isinstance(item, tree.FixedAxis):
            axes.append("")
            dims.append(Dim.const(item.extent))
            continue
        axis = REST if isinstance(item, tree.Rest) else item.name
        if axis in axes:
            help = f"a second index over the same extent is `axis m = {axis}`, declared `[{axis}, m]`"
            help = "all axes that have no name stand together" if axis == REST else help
            raise e.sink.fail("E0302", f"axis `{axis}` stands twice in one type", item.span, help)
        axes.append(axis)
        dims.append(e.axes[axis].dim if axis in e.axes else Dim.symbol(axis))
    over: tuple[int, ...] = ()
    classes: Dim | None = None
    also: str | None = None
    for domain in declared.domains:
        if isinstance(domain, tree.Along):
            if declared.kind not in ("simplex", "unit"):
                raise e.sink.fail("E0406", f"`{declared.kind}` takes no `over`", domain.span)
            names = [REST if isinstance(a, tree.Rest) else a.name for a in domain.axes]
            for axis, item_ in zip(names, domain.axes, strict=True):
                if axis not in axes:
                    raise e.sink.fail("E0304", f"`{name.name}` has no axis `{axis}`", item_.span)
            over = tuple(axes.index(a) for a in names)
        elif isinstance(domain, tree.Of):
            if declared.kind != "class":
                raise e.sink.fail("E0406", f"`{declared.kind}` takes no `of`", domain.span)
            classes, also = _of(e, domain)
    if declared.kind in ("simplex", "unit") and not over:
        raise e.sink.fail("E0406", f"`{declared.kind}` needs `over` and its axes", declared.span)
    if declared.kind == "class" and classes is None:
        raise e.sink.fail("E0406", "`class` needs its labels", declared.span, "`class[n] of c`")
    dtype = Input(name.name, (), (), declared.kind).dtype
    r = _range(e, declared, dtype, of_parameter=False)
    default = _default(e, statement, k, dtype, r)
    if default is not None and not _of_kind(default.value, declared.kind, [dims[a] for a in over]):
        span = statement.defaults[k if len(statement.defaults) > 1 else 0].span
        help = "a default of that kind, or none: then it must be given"
        raise e.sink.fail("E0407", f"this default, everywhere, is no `{declared.kind}`", span, help)
    role = statement.keyword  # "input", "learnable" or "state"
    if role == "learnable" and dtype is not REAL:
        raise e.sink.fail("E0406", "a learnable value is real: an optimiser moves it", declared.span)
    return Input(
        name.name,
        tuple(dims),
        tuple(axes),
        declared.kind,
        r,
        over,
        classes,
        also,
        default,
        role,
        origin=name.span,
        comment=statement.trailing or "",
    )


def _of_kind(value: Fraction | str, kind: str, over: list[Dim]) -> bool:
    """Whether a tensor of which every entry is the default is of the kind."""
    if kind in ("sign", "binary"):
        return value in ((-1, 1) if kind == "sign" else (0, 1))
    if kind in ("simplex", "unit"):
        entries = math.prod(over, start=Dim.const(1)).number  # of a row; none if they are not known
        if entries is None or not isinstance(value, Fraction):
            return False
        return value * entries == 1 if kind == "simplex" else value * value * entries == 1
    return True


def _of(e: Elaborator, domain: tree.Of) -> tuple[Dim, str | None]:
    labels = strip(domain.of)
    if isinstance(labels, tree.Number) and labels.value.denominator == 1 and labels.value > 0:
        classes = Dim.const(int(labels.value))
    elif isinstance(labels, tree.Name):
        classes = e.axis(labels.id, labels.span).dim
    else:
        raise e.sink.fail("E0406", "the labels are those of an axis, or a number of them", labels.span)
    if domain.otherwise is None:
        return classes, None
    other = strip(domain.otherwise)
    entity = e.names.get(other.id) if isinstance(other, tree.Name) else None
    if not isinstance(entity, ParameterEntity) or entity.parameter.kind != "int":
        help = "`param ignore_index: int = -100`, then `class[n] of c or ignore_index`"
        raise e.sink.fail("E0406", "what follows `or` is an integer parameter", other.span, help)
    e.used.add(entity.parameter.name)
    return classes, entity.parameter.name
