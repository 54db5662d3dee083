"""The text of a Plan: `parse_plan(print_plan(plan)) == plan`. It knows Dims and the Plan, and nothing of the IR."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from fractions import Fraction

from lossdsl.dim import Dim, parse_dim
from lossdsl.lower.cost import cost
from lossdsl.lower.plan import (
    Allocate,
    Axis,
    AxisRef,
    Buffer,
    Call,
    ChunkLoop,
    Fill,
    Fold,
    Free,
    Kernel,
    Key,
    Literal,
    Load,
    Op,
    Operand,
    ParamRef,
    Plan,
    Recurrence,
    Rolling,
    Scatter,
    SizeRef,
    Stage,
    Statement,
    Step,
    Store,
    Subscript,
    Value,
    Within,
)

_NAME = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_.']*|\.\.\.)\Z")


class PlanSyntaxError(ValueError):
    """The text is not the text of a plan; the message has the line."""


# ------------------------------------------------------------------------------------------------------ printing


def print_plan(plan: Plan, why: bool = True) -> str:
    """The plan as text, one statement a line; without its decisions if `why` is false."""
    key = plan.key
    lines = [
        f"plan {_name(key.loss)} {key.entry} target {key.target}",
        f"  reduction {_name(key.reduction)}",
        f"  wrt {_names(key.wrt)}",
        f"  absent {_names(key.absent)}",
    ]
    lines += [f"  param {_name(n)}: {t}" for n, t in plan.parameters]
    for b in plan.buffers:
        text = f"  {b.role} {_name(b.name)}[{_dims(b.dims)}]: {_type(b.type)}"
        if b.chunked is not None:
            text += f" chunked {b.chunked}"
        if b.reason:
            text += f" because {json.dumps(b.reason)}"
        lines.append(text)
    for step in plan.steps:
        lines += _step(step, "  ")
    lines += [f"  returns {json.dumps(role)} = {_name(buffer)}" for role, buffer in plan.returns]
    c = cost(plan)
    lines.append(f"  cost read {{{c.read}}} written {{{c.written}}} operations {{{c.operations}}}")
    lines.append(f"  peak {{{c.peak}}} passes {c.passes}")
    if why:
        lines += [f"  why {json.dumps(w)}" for w in plan.why]
    return "\n".join([*lines, "end", ""])


def _name(name: str) -> str:
    return name if _NAME.match(name) else json.dumps(name)


def _names(names: Iterable[str]) -> str:
    return ", ".join(_name(n) for n in names)


def _dims(dims: Iterable[Dim]) -> str:
    return ", ".join(str(d) for d in dims)


def _type(text: str) -> str:
    return "like " + _name(text[5:]) if text.startswith("like ") else text


def _literal(lit: Literal) -> str:
    if lit.type == "bool":
        return "true" if lit.value else "false"
    return f"{lit.value}i" if lit.type == "int" else str(lit.value)


def _operand(operand: Operand) -> str:
    match operand:
        case Value(name):
            return "%" + _name(name)
        case Literal():
            return _literal(operand)
        case ParamRef(name, kind):
            return f"${_name(name)}:{kind}"
        case SizeRef(dim):
            return f"size{{{dim}}}"
        case AxisRef(name):
            return "@" + _name(name)


def _subscript(s: Subscript) -> str:
    parts = [_name(a) if c == 1 else f"{c}*{_name(a)}" for a, c in s.axes]
    if s.data is not None:
        parts.append(_operand(s.data))
    if s.offset.terms or not parts:
        parts.append(f"{{{s.offset}}}")
    return " + ".join(parts)


def _access(buffer: str, subscripts: Iterable[Subscript]) -> str:
    return f"{_name(buffer)}[{', '.join(_subscript(s) for s in subscripts)}]"


def _statement(s: Statement) -> str:
    match s:
        case Load():
            text = f"%{_name(s.name)}: {s.type} = load {_access(s.buffer, s.subscripts)}"
            if s.guard is not None:
                text += f" guard {_operand(s.guard)}"
            if s.pad is not None:
                text += f" pad {_literal(s.pad)}"
            return text
        case Op():
            return f"%{_name(s.name)}: {s.type} = {s.op}({', '.join(_operand(a) for a in s.args)})"
        case Fold():
            text = f"%{_name(s.name)}: {s.type} = fold {s.head} over {_names(s.axes)} of {_operand(s.value)}"
            return text + (f" where {_operand(s.where)}" if s.where is not None else "")
        case Store():
            sign = "+=" if s.accumulate else "="
            return f"store {_access(s.buffer, s.subscripts)} {sign} {_operand(s.value)}"
        case Scatter():
            text = f"scatter {s.combine} {_access(s.buffer, s.subscripts)} = {_operand(s.value)}"
            return text + (f" guard {_operand(s.guard)}" if s.guard is not None else "")


def _step(step: Step, pad: str) -> list[str]:
    match step:
        case Kernel():
            lines = [f"{pad}kernel {_name(step.name)}" + (f" lane {_name(step.lane)}" if step.lane is not None else "")]
            lines += [f"{pad}  axis {_name(a.name)} < {a.extent}: {a.role}" for a in step.axes]
            lines += [f"{pad}  name %{_name(v)} {json.dumps(n)}" for v, n in step.names]
            lines += [f"{pad}  comment %{_name(v)} {json.dumps(c)}" for v, c in step.comments]
            lines += [f"{pad}  {_statement(s)}" for s in step.statements]
            return [*lines, f"{pad}end"]
        case Call():
            operands = " ".join(f"{_name(b)}[{_names(axes)}]" for b, axes in step.operands)
            sign = "+=" if step.accumulate else "="
            along = ""
            if step.along is not None:
                along = f" along {_name(step.along[0])} {'forward' if step.along[1] > 0 else 'backward'}"
            return [
                f"{pad}call {step.operation}{along} {_name(step.out)}[{_names(step.out_axes)}] {sign} {operands}".rstrip()
            ]
        case Fill():
            return [f"{pad}fill {_name(step.buffer)} = {_literal(step.value)}:{step.value.type}"]
        case ChunkLoop():
            lines = [f"{pad}chunks {_name(step.axis)} < {step.extent} by {step.size}"]
            for inner in step.steps:
                lines += _step(inner, pad + "  ")
            return [*lines, f"{pad}end"]
        case Recurrence():
            way = "forward" if step.direction > 0 else "backward"
            lines = [f"{pad}recurrence {_name(step.axis)} < {step.extent} {way}"]
            for inner in step.steps:
                lines += _step(inner, pad + "  ")
            return [*lines, f"{pad}end"]
        case Within():
            lines = [f"{pad}within {_name(step.axis)} < {step.extent}"]
            for inner in step.steps:
                lines += _step(inner, pad + "  ")
            return [*lines, f"{pad}end"]
        case Rolling():
            way = "forward" if step.direction > 0 else "backward"
            reach = "" if step.reach is None else f" reach {step.reach}"
            head = f"{pad}rolling {way} by {step.size} lanes {step.lanes}{reach} within {_names(step.within)}"
            lines = [head.rstrip()]
            lines += [f"{pad}  keep {_name(n)} {rows}" for n, rows in step.kept]
            for stage in step.stages:
                order = " in order" if stage.ordered else ""
                lines.append(
                    f"{pad}  stage {_name(stage.axis)} < {{{stage.extent}}} lane {_name(stage.lane)} behind {stage.lag}{order}"
                )
                lines += _step(stage.kernel, pad + "  ")
            return [*lines, f"{pad}end"]
        case Allocate(buffer):
            return [f"{pad}allocate {_name(buffer)}"]
        case Free(buffer):
            return [f"{pad}free {_name(buffer)}"]


# ------------------------------------------------------------------------------------------------------- reading

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")
      | \{(?P<dim>[^{}]*)\}
      | (?P<number>-?\d+(?:/\d+)?i?)
      | (?P<infinity>-inf\b)
      | (?P<name>[A-Za-z_][A-Za-z0-9_.']*|\.\.\.)
      | (?P<mark>\+=|[\[\],:=<%$@()*+]))""",
    re.VERBOSE,
)


class _Line:
    """The tokens of one line; `take_*` consume, and complain with the line."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at = text.strip(), [], 0
        end, stripped = 0, text.strip()
        while end < len(stripped):
            found = _TOKEN.match(stripped, end)
            if found is None or found.lastgroup is None:
                raise PlanSyntaxError(f"unexpected text in plan line: {self.text}")
            self.tokens.append((found.lastgroup, found.group(found.lastgroup)))
            end = found.end()

    tokens: list[tuple[str, str]]

    def fail(self) -> PlanSyntaxError:
        return PlanSyntaxError(f"not a line of a plan: {self.text}")

    def peek(self, word: str | None = None) -> bool:
        if self.at >= len(self.tokens):
            return False
        kind, text = self.tokens[self.at]
        return word is None or (text == word and kind in ("name", "mark"))

    def accept(self, word: str) -> bool:
        if self.peek(word):
            self.at += 1
            return True
        return False

    def expect(self, word: str) -> None:
        if not self.accept(word):
            raise self.fail()

    def take(self, *kinds: str) -> str:
        if self.at >= len(self.tokens) or self.tokens[self.at][0] not in kinds:
            raise self.fail()
        kind, text = self.tokens[self.at]
        self.at += 1
        return str(json.loads(text)) if kind == "string" else text

    def name(self) -> str:
        return self.take("name", "string")

    def names(self) -> tuple[str, ...]:
        if not self.peek() or self.peek("]"):
            return ()
        found = [self.name()]
        while self.accept(","):
            found.append(self.name())
        return tuple(found)

    def integer(self) -> int:
        return int(self.take("number"))

    def dim(self) -> Dim:
        return _dim(self.take("dim"))

    def done(self) -> None:
        if self.at != len(self.tokens):
            raise self.fail()

    def type(self) -> str:
        word = self.take("name")
        return f"like {self.name()}" if word == "like" else word

    def operand(self) -> Operand:
        if self.accept("%"):
            return Value(self.name())
        if self.accept("@"):
            return AxisRef(self.name())
        if self.accept("$"):
            name = self.name()
            self.expect(":")
            return ParamRef(name, self.take("name"))
        if self.peek("size"):
            self.at += 1
            return SizeRef(self.dim())
        return self.literal()

    def literal(self) -> Literal:
        text = self.take("number", "infinity", "name")
        if text in ("true", "false"):
            return Literal(Fraction(text == "true"), "bool")
        if text in ("inf", "-inf", "nan"):
            return Literal(text)
        if not text[-1].isalnum() or not text.lstrip("-")[0].isdigit():
            raise self.fail()
        return Literal(Fraction(text[:-1]), "int") if text.endswith("i") else Literal(Fraction(text))

    def subscripts(self) -> tuple[Subscript, ...]:
        self.expect("[")
        found: list[Subscript] = []
        while not self.accept("]"):
            if found:
                self.expect(",")
            found.append(self.subscript())
        return tuple(found)

    def subscript(self) -> Subscript:
        axes: list[tuple[str, int]] = []
        offset, data = Dim(()), None
        while True:
            kind = self.tokens[self.at][0] if self.peek() else ""
            if kind == "number":
                coefficient = self.integer()
                self.expect("*")
                axes.append((self.name(), coefficient))
            elif kind == "dim":
                offset = self.dim()
            elif self.accept("%"):
                data = Value(self.name())
            else:
                axes.append((self.name(), 1))
            if not self.accept("+"):
                return Subscript(tuple(axes), offset, data)


def _dim(text: str) -> Dim:
    try:
        return parse_dim(text)
    except ValueError as error:
        raise PlanSyntaxError(str(error)) from None


_STEPS = frozenset({"kernel", "call", "fill", "chunks", "recurrence", "within", "rolling", "allocate", "free"})


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines = [line for line in text.splitlines() if line.strip()]
        self.at = 0

    def next(self) -> str:
        if self.at >= len(self.lines):
            raise PlanSyntaxError("the plan has no end")
        self.at += 1
        return self.lines[self.at - 1].strip()

    def steps(self, last: str) -> tuple[Step, ...]:
        """Steps up to the line `last`, which is consumed; "" stops before the first line that starts no step."""
        found: list[Step] = []
        while True:
            head = self.lines[self.at].split(None, 1)[0] if self.at < len(self.lines) else ""
            if head == last and last:
                self.at += 1
                return tuple(found)
            if head not in _STEPS:
                if last:
                    raise PlanSyntaxError(f"not a step of a plan: {self.next()}")
                return tuple(found)
            found.append(self.step())

    def step(self) -> Step:
        text = self.next()
        if text.startswith("chunks "):
            return self.chunks(text)
        if text.startswith(("recurrence ", "within ")):
            return self.recurrence(text)
        line = _Line(text)
        word = line.take("name")
        if word == "rolling":
            return self.rolling(line)
        if word == "kernel":
            name = line.name()
            lane = line.name() if line.accept("lane") else None
            line.done()
            return self.kernel(name, lane)
        if word == "call":
            operation, along = line.take("name"), None
            if operation in ("cumsum", "cumprod", "logcumsumexp"):
                line.expect("along")
                along = (line.name(), 1 if line.take("name") == "forward" else -1)
            out, out_axes = _named(line)
            accumulate = line.accept("+=")
            if not accumulate:
                line.expect("=")
            operands = []
            while line.peek():
                operands.append(_named(line))
            return Call(operation, out, out_axes, tuple(operands), accumulate, along)
        if word == "fill":
            buffer = line.name()
            line.expect("=")
            value = line.literal()
            line.expect(":")
            kind = line.take("name")
            return Fill(buffer, Literal(value.value, kind))
        buffer = line.name()
        line.done()
        return Allocate(buffer) if word == "allocate" else Free(buffer)

    def chunks(self, text: str) -> ChunkLoop:
        found = re.match(r"chunks (.+) < (.+) by (\d+)\Z", text)
        if found is None:
            raise PlanSyntaxError(f"not a line of a plan: {text}")
        axis = _Line(found[1]).name()
        return ChunkLoop(axis, _dim(found[2]), int(found[3]), self.steps("end"))

    def recurrence(self, text: str) -> Recurrence | Within:
        found = re.match(r"(recurrence|within) (.+) < (.+?)( forward| backward|)\Z", text)
        if found is None or (found[1] == "within") != (not found[4]):
            raise PlanSyntaxError(f"not a line of a plan: {text}")
        axis, extent, steps = _Line(found[2]).name(), _dim(found[3]), self.steps("end")
        if found[1] == "within":
            return Within(axis, extent, steps)
        return Recurrence(axis, extent, 1 if found[4] == " forward" else -1, steps)

    def rolling(self, line: _Line) -> Rolling:
        direction = 1 if line.accept("forward") else -1
        if direction < 0:
            line.expect("backward")
        line.expect("by")
        size = line.integer()
        line.expect("lanes")
        lanes = line.integer()
        reach = line.integer() if line.accept("reach") else None
        line.expect("within")
        within = line.names()
        line.done()
        kept: list[tuple[str, int]] = []
        stages: list[Stage] = []
        while (text := self.next()) != "end":
            line = _Line(text)
            word = line.take("name")
            if word == "keep":
                kept.append((line.name(), line.integer()))
                line.done()
                continue
            axis = line.name()
            line.expect("<")
            extent = line.dim()
            line.expect("lane")
            lane = line.name()
            line.expect("behind")
            lag = line.integer()
            ordered = line.accept("in")
            if ordered:
                line.expect("order")
            line.done()
            step = self.step()
            if word != "stage" or not isinstance(step, Kernel):
                raise PlanSyntaxError(f"not a stage of a plan: {text}")
            stages.append(Stage(axis, extent, lane, lag, step, ordered))
        return Rolling(within, size, lanes, reach, direction, tuple(stages), tuple(kept))

    def kernel(self, name: str, lane: str | None) -> Kernel:
        axes: list[Axis] = []
        names: list[tuple[str, str]] = []
        comments: list[tuple[str, str]] = []
        statements: list[Statement] = []
        while (text := self.next()) != "end":
            word = text.split(None, 1)[0]
            if word == "axis":
                found = re.match(r"axis (.+) < (.+): (\w+)\Z", text)
                if found is None:
                    raise PlanSyntaxError(f"not a line of a plan: {text}")
                axes.append(Axis(_Line(found[1]).name(), _dim(found[2]), found[3]))
            elif word in ("name", "comment"):
                line = _Line(text)
                line.take("name")
                line.expect("%")
                (names if word == "name" else comments).append((line.name(), line.take("string")))
            else:
                statements.append(_read_statement(_Line(text)))
        return Kernel(name, tuple(axes), lane, tuple(statements), tuple(names), tuple(comments))


def _named(line: _Line) -> tuple[str, tuple[str, ...]]:
    name = line.name()
    line.expect("[")
    axes = line.names()
    line.expect("]")
    return name, axes


def _read_statement(line: _Line) -> Statement:
    if line.accept("store"):
        buffer, subscripts = line.name(), line.subscripts()
        accumulate = line.accept("+=")
        if not accumulate:
            line.expect("=")
        store = Store(buffer, subscripts, line.operand(), accumulate)
        line.done()
        return store
    if line.accept("scatter"):
        combine, buffer, subscripts = line.take("name"), line.name(), line.subscripts()
        line.expect("=")
        value = line.operand()
        guard = line.operand() if line.accept("guard") else None
        line.done()
        return Scatter(buffer, subscripts, value, combine, guard)
    line.expect("%")
    name = line.name()
    line.expect(":")
    kind = line.take("name")
    line.expect("=")
    statement: Statement
    word = line.take("name")
    if line.accept("("):
        args: list[Operand] = []
        while not line.accept(")"):
            if args:
                line.expect(",")
            args.append(line.operand())
        statement = Op(name, kind, word, tuple(args))
    elif word == "load":
        buffer, subscripts = line.name(), line.subscripts()
        guard = line.operand() if line.accept("guard") else None
        pad = _typed(line.literal(), kind) if line.accept("pad") else None
        statement = Load(name, kind, buffer, subscripts, guard, pad)
    elif word == "fold":
        head = line.take("name")
        line.expect("over")
        axes = line.names()
        line.expect("of")
        value = line.operand()
        statement = Fold(name, kind, head, axes, value, line.operand() if line.accept("where") else None)
    else:
        raise line.fail()
    line.done()
    return statement


def _typed(literal: Literal, kind: str) -> Literal:
    return literal if literal.type == kind else Literal(literal.value, kind)


def parse_plan(text: str) -> Plan:
    """Read a plan back. Raises PlanSyntaxError (a ValueError) with the offending line."""
    reader = _Reader(text)
    found = re.match(r"plan (.+) (\w+) target (\w+)\Z", reader.next())
    if found is None:
        raise PlanSyntaxError("a plan starts with a line 'plan NAME ENTRY target TARGET'")
    loss, entry, target = _Line(found[1]).name(), found[2], found[3]
    header: dict[str, tuple[str, ...]] = {}
    for word in ("reduction", "wrt", "absent"):
        line = _Line(reader.next())
        line.expect(word)
        header[word] = line.names()
    key = Key(loss, entry, (*header["reduction"], "")[0], header["wrt"], header["absent"], target)
    parameters, buffers = _declarations(reader)
    steps = reader.steps("")
    returns: list[tuple[str, str]] = []
    why: list[str] = []
    while (text := reader.next()) != "end":
        line = _Line(text)
        word = line.take("name")
        if word == "returns":
            role = line.take("string")
            line.expect("=")
            returns.append((role, line.name()))
        elif word in ("cost", "peak"):  # counted from the steps again where it is asked for
            continue
        elif word == "why":
            why.append(line.take("string"))
        else:
            raise line.fail()
        line.done()
    return Plan(key, buffers, parameters, steps, tuple(returns), tuple(why))


_ROLES = ("input", "cotangent", "direction", "output", "saved", "temporary", "chunk")


def _declarations(reader: _Reader) -> tuple[tuple[tuple[str, str], ...], tuple[Buffer, ...]]:
    parameters: list[tuple[str, str]] = []
    buffers: list[Buffer] = []
    while reader.at < len(reader.lines):
        text = reader.lines[reader.at].strip()
        word = text.split(None, 1)[0]
        if word == "param":
            line = _Line(text)
            line.take("name")
            name = line.name()
            line.expect(":")
            parameters.append((name, line.take("name")))
        elif word in _ROLES:
            found = re.match(r"(\w+) ([^\[]+)\[(.*?)\]: (.*)\Z", text)
            if found is None:
                raise PlanSyntaxError(f"not a line of a plan: {text}")
            dims = tuple(_dim(d) for d in _split(found[3]))
            line = _Line(found[4])
            kind = line.type()
            chunked = line.integer() if line.accept("chunked") else None
            reason = line.take("string") if line.accept("because") else ""
            line.done()
            buffers.append(Buffer(_Line(found[2]).name(), dims, kind, word, reason, chunked))
        else:
            break
        reader.at += 1
    return tuple(parameters), tuple(buffers)


def _split(text: str) -> list[str]:
    return [part for part in text.split(", ") if part.strip()]
