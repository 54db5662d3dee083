"""The text of the IR: printed from a program and parsed back to an identical one.

    program info_nce
      input q: real[n, d]
      param temperature: real in (0.0, _) = 0.07
      sim[n, m: n] = sum d . q[n, d] * k[m, d]
      ...
      output return = value

Real constants have a decimal point (`2.0`, `0.07`) or are a tight fraction (`1/3`), integer constants have none; an
index whose name is its extent is written once (`n` for `n: n`). A name that is not a word stands in backquotes. `let`
lines under a definition name shared or deep subexpressions; they are part of the text, not of the program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.dim import Dim, parse_dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import (
    BOOL,
    FALSE,
    INT,
    REAL,
    TRUE,
    Const,
    Definition,
    Group,
    Index,
    Input,
    Output,
    Parameter,
    Program,
    Range,
    Reductions,
    Scalar,
)
from lossdsl.primitives.record import Dtype

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_']*(\.[A-Za-z0-9_']+)*\Z")
_VALUES = {"inf", "nan", "true", "false"}
_FORMS = {"let", "table", "size", "stop", "proxy", "adjoint_map", "conjunction", "disjunction", "param", "index"}
_RESERVED = {"if", "else", "and", "or", "not", "where", "support", "undeclared", "of", "over", "in", *_VALUES, *_FORMS}
_INFIX = {"add": ("+", 5), "sub": ("-", 5), "mul": ("*", 6), "div": ("/", 6), "floordiv": ("//", 6), "mod": ("%", 6)}
_SIGNS = {sign: name for name, (sign, _) in _INFIX.items()}
_TERNARY, _OR, _AND, _NOT, _CMP, _SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(10)
_LET_SIZE, _LET_DEPTH = 60, 24  # a shared subexpression of this size, or one this deep, gets a line of its own


class TextError(ValueError):
    """The text is not the text of a program."""


def _name(name: str) -> str:
    if name == "..." or (_WORD.match(name) and name not in _RESERVED):
        return name
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`").replace("\n", "\\n") + "`"


# ------------------------------------------------------------------------------------------------------ printing


def _number(value: Fraction) -> str:
    """An exact real: `2.0`, `0.07`, `1e-30` or `1/3`."""
    sign, value = ("-" if value < 0 else ""), abs(value)
    twos, fives, rest = 0, 0, value.denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or places > 40:
        return f"{sign}{value.numerator}/{value.denominator}"
    digits = str(value.numerator * 10**places // value.denominator)
    short = digits.rstrip("0")
    if len(digits) - places > 18 or places - len(short) > 6:
        return f"{sign}{short}e{len(digits) - len(short) - places}"
    if places == 0:
        return f"{sign}{digits}.0"
    digits = digits.rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def _constant(c: Const) -> str:
    if isinstance(c.value, str):
        return c.value
    if c.kind is BOOL:
        return "true" if c.value else "false"
    return str(int(c.value)) if c.kind is INT else _number(c.value)


class _Printer:
    """Prints scalars of one definition: `scope` are its index variables, `parameters` the declared ones by name."""

    def __init__(self, scope: Mapping[str, Index], parameters: Mapping[str, Dtype], kinds: Mapping[str, Dtype]) -> None:
        self.scope, self.parameters, self.kinds = scope, parameters, kinds
        self.done: dict[Scalar, tuple[str, int]] = {}
        self.lets: list[str] = []

    def prepare(self, *roots: Scalar) -> None:
        """Give a `let` to what is shared and large, or deep, below the roots."""
        uses: dict[Scalar, int] = {}
        order = list(ir.postorder(*roots))
        for node in order:
            for child in node.children:
                uses[child] = uses.get(child, 0) + 1
        size: dict[Scalar, int] = {}
        depth: dict[Scalar, int] = {}
        for node in order:
            depth[node] = 1 + max((depth[c] for c in node.children), default=0)
            size[node] = 1 + sum(size[c] for c in node.children)
            self.done[node] = self._print(node)
            if node in roots or size[node] < 4:
                continue
            if depth[node] > _LET_DEPTH or (uses[node] > 1 and size[node] * uses[node] > _LET_SIZE):
                self.lets.append(f"let ${len(self.lets)} = {self.done[node][0]}")
                self.done[node] = (f"${len(self.lets) - 1}", _ATOM)
                depth[node], size[node] = 1, 1

    def text(self, node: Scalar) -> str:
        if node not in self.done:
            for n in ir.postorder(node):
                if n not in self.done:
                    self.done[n] = self._print(n)
        return self.done[node][0]

    def _at(self, node: Scalar, level: int) -> str:
        text, mine = self.done[node]
        return text if mine >= level else f"({text})"

    def _list(self, args: tuple[Scalar, ...]) -> str:
        return ", ".join(self._at(a, _TERNARY) for a in args)

    def _print(self, node: Scalar) -> tuple[str, int]:
        match node:
            case Const():
                text = _constant(node)
                return text, _UNARY if text.startswith("-") else _ATOM
            case ir.Param():
                if self.parameters.get(node.name) is node.dtype and node.name not in self.scope:
                    return _name(node.name), _ATOM
                return f"param({_name(node.name)}, {node.dtype.value})", _ATOM
            case ir.Size():
                return f"size({node.dim})", _ATOM
            case Index():
                if self.scope.get(node.name) is node:
                    return _name(node.name), _ATOM
                return f"index({_name(node.name)}: {node.dim})", _ATOM
            case ir.Read():
                return self._read(node), _ATOM
            case ir.Table():
                return f"table({self._constants(node.values)})[{self._at(node.index, _TERNARY)}]", _ATOM
            case ir.Apply():
                return self._apply(node)
            case ir.Select():
                a, c, b = self._at(node.a, _OR), self._at(node.condition, _OR), self._at(node.b, _TERNARY)
                return f"{a} if {c} else {b}", _TERNARY
            case ir.Compare():
                return f"{self._at(node.a, _SUM)} {node.op} {self._at(node.b, _SUM)}", _CMP
            case ir.And() | ir.Or():
                word, level = ("and", _AND) if isinstance(node, ir.And) else ("or", _OR)
                if len(node.args) < 2:
                    return f"{'conjunction' if word == 'and' else 'disjunction'}({self._list(node.args)})", _ATOM
                return f" {word} ".join(self._at(a, level + 1) for a in node.args), level
            case ir.Not():
                return f"not {self._at(node.a, _NOT)}", _NOT
            case ir.Stop():
                return f"stop({self._at(node.a, _TERNARY)})", _ATOM
            case ir.Proxy():
                return f"proxy({self._list(node.children)})", _ATOM
            case ir.AdjointMap():
                return f"adjoint_map({_name(node.name)}, {self._list(node.children)})", _ATOM
        raise TypeError(f"unknown node {type(node).__name__}")

    def _constants(self, values: tuple[Const, ...]) -> str:
        return ", ".join(_constant(v) for v in values)

    def _read(self, node: ir.Read) -> str:
        indices = self._list(node.indices)
        if self.kinds.get(node.tensor) is not node.kind:
            return f"undeclared({_name(node.tensor)}, {node.kind.value})[{indices}]"
        if not indices and node.tensor not in self.scope and node.tensor not in self.parameters:
            return _name(node.tensor)
        return f"{_name(node.tensor)}[{indices}]"

    def _apply(self, node: ir.Apply) -> tuple[str, int]:
        args = node.args
        if node.name in _INFIX and len(args) == 2:
            sign, level = _INFIX[node.name]
            return f"{self._at(args[0], level)} {sign} {self._at(args[1], level + 1)}", level
        if node.name == "neg" and len(args) == 1:
            inner = self._at(args[0], _UNARY)
            return ("-" + (f"({inner})" if inner[0] in "0123456789-" or inner in ("inf", "nan") else inner)), _UNARY
        if node.name == "powi" and len(args) == 2:
            return f"{self._at(args[0], _ATOM)} ^ {self._at(args[1], _ATOM)}", _POWER
        return f"{_name(node.name)}({self._list(args)})", _ATOM


def _binder(index: Index) -> str:
    return _axis(index.name, index.dim)


def _axis(name: str, dim: Dim) -> str:
    text = str(dim)
    return text if text == name and parse_dim(text) == dim and _name(name) == name else f"{_name(name)}: {text}"


def _range(r: Range, printer: _Printer) -> str:
    if r == Range():
        return ""
    lower = "_" if r.lower is None else printer.text(r.lower)
    upper = "_" if r.upper is None else printer.text(r.upper)
    return f" in {'(' if r.lower_open else '['}{lower}, {upper}{')' if r.upper_open else ']'}"


def _input(i: Input, printer: _Printer) -> str:
    parts = [f"{i.role} {_name(i.name)}: {i.kind}"]
    axes = ", ".join(_axis(a, d) if a else f"_: {d}" for a, d in zip(i.axes, i.dims, strict=True))
    parts.append(f"[{axes}]{_range(i.range, printer)}")
    if i.over:
        parts.append(" over " + ", ".join(map(str, i.over)))
    if i.classes is not None:
        parts.append(f" of {i.classes}")
    if i.also is not None:
        parts.append(f" or {_name(i.also)}")
    if i.default is not None:
        parts.append(f" = {_constant(i.default)}")
    return "".join(parts)


def kinds(program: Program) -> dict[str, Dtype]:
    """The dtype of every tensor of the program by name."""
    table = {i.name: i.dtype for i in program.inputs}
    table.update((d.tensor, d.dtype) for d in program.definitions())
    return table


def print_definition(
    d: Definition, parameters: Mapping[str, Dtype] | None = None, tensors: Mapping[str, Dtype] | None = None
) -> str:
    """The lines of one definition; `parameters` and `tensors` have the declared dtypes (reads of others say theirs)."""
    scope = {i.name: i for i in (*d.formals, *d.bound)}
    printer = _Printer(scope, parameters or {}, tensors or {})
    printer.prepare(*d.scalars())
    left = _name(d.tensor) + (f"[{', '.join(map(_binder, d.formals))}]" if d.formals else "")
    if d.dtype is not REAL:
        left += f": {d.dtype.value}"
    head = d.head + (" " + ", ".join(map(_binder, d.bound)) if d.bound else "")
    if d.where is not TRUE:
        head += f" where {printer.text(d.where)}"
    tail = f" support {printer.text(d.support)}" if d.support is not TRUE else ""
    lines = [f"{left} = {head} . {printer.text(d.body)}{tail}"]
    return "\n".join([*lines, *("  " + line for line in printer.lets)])


def print_scalar(node: Scalar, scope: tuple[Index, ...] = ()) -> str:
    """One expression for messages: declared dtypes are taken for granted."""
    tensors = {n.tensor: n.kind for n in ir.postorder(node) if isinstance(n, ir.Read)}
    parameters = {n.name: n.dtype for n in ir.postorder(node) if isinstance(n, ir.Param)}
    names = {n.name: n for n in ir.postorder(node) if isinstance(n, Index)}
    names.update((i.name, i) for i in scope)
    return _Printer(names, parameters, tensors).text(node)


def print_ir(program: Program) -> str:
    """The text of a program; `parse_ir` gives the identical program back (positions, comments, docstring apart)."""
    parameters = {p.name: p.dtype for p in program.parameters}
    tensors = kinds(program)
    plain = _Printer({}, parameters, tensors)
    lines = [f"program {_name(program.name)}"]
    lines += ["  " + _input(i, plain) for i in program.inputs]
    for p in program.parameters:
        default = f" = {_constant(p.default)}" if p.default is not None else ""
        lines.append(f"  param {_name(p.name)}: {p.kind}{_range(p.range, plain)}{default}")
    for item in program.body:
        indent = "  "
        if isinstance(item, Group):
            order = ", ".join(f"{_name(a)} {'forward' if s > 0 else 'backward'}" for a, s in item.order)
            lines.append(f"  group {order}")
            indent = "    "
        for d in item.definitions if isinstance(item, Group) else (item,):
            lines += [indent + line for line in print_definition(d, parameters, tensors).split("\n")]
    lines += [f"  output {_name(o.name)} = {_name(o.tensor)}" for o in program.outputs]
    if program.reductions is not None:
        r = program.reductions
        pairs = [(k, getattr(r, k)) for k in ("mean", "sum", "none", "total", "weight", "element")]
        lines.append(f"  reductions {_name(r.written)} with " + ", ".join(f"{k} = {_name(v)}" for k, v in pairs))
    if program.target:
        lines.append(f"  target {_name(program.target)}")
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------------- parsing

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<real>\d+/\d+|\d+\.\d+|\d+e[+-]?\d+)
    | (?P<int>\d+)
    | (?P<let>\$\d+)
    | (?P<name>\.\.\.|[A-Za-z_][A-Za-z0-9_']*(?:\.[A-Za-z0-9_']+)*)
    | `(?P<quoted>(?:[^`\\]|\\.)*)`
    | (?P<sign><=|>=|==|!=|//|[-+*/%^<>()\[\],.:=])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class _Token:
    kind: str  # real int let name quoted sign end
    text: str
    start: int
    end: int


class _Reader:
    """Tokens of one line."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.tokens: list[_Token] = []
        at = 0
        end = len(line.rstrip())
        while at < end:
            m = _TOKEN.match(line, at)
            if m is None or m.lastgroup is None:
                raise TextError(f"unexpected text {line[at : at + 20]!r} in {line!r}")
            text = m.group(m.lastgroup)
            if m.lastgroup == "quoted":
                text = re.sub(r"\\(.)", lambda g: "\n" if g[1] == "n" else g[1], text, flags=re.DOTALL)
            self.tokens.append(_Token(m.lastgroup, text, m.start(m.lastgroup), m.end()))
            at = m.end()
        self.tokens.append(_Token("end", "", end, end))
        self.at = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def is_(self, text: str) -> bool:
        return self.next.text == text and self.next.kind in ("sign", "name")

    def take(self, text: str) -> bool:
        if self.is_(text):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise TextError(f"expected {text!r} before {self.line[self.next.start :]!r} in {self.line!r}")

    def name(self) -> str:
        token = self.next
        if token.kind not in ("name", "quoted"):
            raise TextError(f"expected a name before {self.line[token.start :]!r} in {self.line!r}")
        self.at += 1
        return token.text

    def integer(self) -> int:
        token = self.next
        if token.kind != "int":
            raise TextError(f"expected an integer before {self.line[token.start :]!r} in {self.line!r}")
        self.at += 1
        return int(token.text)

    def dim(self, *stops: str) -> Dim:
        """An extent: everything up to one of the stop tokens outside of brackets."""
        first, last, depth = self.next.start, self.next.start, 0
        while self.next.kind != "end" and (
            depth or not (self.next.kind in ("sign", "name") and self.next.text in stops)
        ):
            depth += {"(": 1, ")": -1}.get(self.next.text, 0)
            last = self.next.end
            self.at += 1
        try:
            return parse_dim(self.line[first:last])
        except ValueError as error:
            raise TextError(f"{error} in {self.line!r}") from None

    def index(self, *stops: str) -> Index:
        start = self.at
        name = self.name()
        if self.take(":"):
            return Index(name, self.dim(*stops))
        self.at = start
        return Index(name, self.dim(*stops))

    def indices(self, *stops: str) -> tuple[Index, ...]:
        result = [self.index(",", *stops)]
        while self.take(","):
            result.append(self.index(",", *stops))
        return tuple(result)

    def done(self) -> None:
        if self.next.kind != "end":
            raise TextError(f"unexpected {self.line[self.next.start :]!r} in {self.line!r}")


class _Expression:
    """Parses scalars from a reader, by precedence."""

    def __init__(
        self, reader: _Reader, scope: Mapping[str, Index], parameters: Mapping[str, Dtype], tensors: Mapping[str, Dtype]
    ) -> None:
        self.r, self.scope, self.parameters, self.tensors = reader, scope, parameters, tensors
        self.lets: dict[str, Scalar] = {}

    def ternary(self) -> Scalar:
        a = self.disjunction()
        if not self.r.take("if"):
            return a
        condition = self.disjunction()
        self.r.expect("else")
        return ir.Select(condition, a, self.ternary())

    def disjunction(self) -> Scalar:
        args = [self.conjunction()]
        while self.r.take("or"):
            args.append(self.conjunction())
        return args[0] if len(args) == 1 else ir.Or(tuple(args))

    def conjunction(self) -> Scalar:
        args = [self.negation()]
        while self.r.take("and"):
            args.append(self.negation())
        return args[0] if len(args) == 1 else ir.And(tuple(args))

    def negation(self) -> Scalar:
        return ir.Not(self.negation()) if self.r.take("not") else self.comparison()

    def comparison(self) -> Scalar:
        a = self.sum()
        for op in ("<", "<=", ">", ">=", "==", "!="):
            if self.r.take(op):
                return ir.Compare(op, a, self.sum())
        return a

    def sum(self) -> Scalar:
        a = self.product()
        while self.r.is_("+") or self.r.is_("-"):
            sign = self.r.next.text
            self.r.at += 1
            a = ir.Apply(_SIGNS[sign], (a, self.product()))
        return a

    def product(self) -> Scalar:
        a = self.unary()
        while self.r.next.kind == "sign" and self.r.next.text in ("*", "/", "//", "%"):
            sign = self.r.next.text
            self.r.at += 1
            a = ir.Apply(_SIGNS[sign], (a, self.unary()))
        return a

    def unary(self) -> Scalar:
        if not self.r.take("-"):
            return self.power()
        following = self.r.next
        if following.kind in ("real", "int") or following.text in ("inf", "nan"):
            self.r.at += 1
            return _literal(following, negative=True)
        return ir.Apply("neg", (self.unary(),))

    def power(self) -> Scalar:
        a = self.atom()
        return ir.Apply("powi", (a, self.atom())) if self.r.take("^") else a

    def arguments(self, close: str) -> tuple[Scalar, ...]:
        if self.r.take(close):
            return ()
        args = [self.ternary()]
        while self.r.take(","):
            args.append(self.ternary())
        self.r.expect(close)
        return tuple(args)

    def atom(self) -> Scalar:
        r = self.r
        token = r.next
        if r.take("("):
            inner = self.ternary()
            r.expect(")")
            return inner
        if token.kind in ("real", "int"):
            r.at += 1
            return _literal(token)
        if token.kind == "let":
            r.at += 1
            if token.text not in self.lets:
                raise TextError(f"{token.text} has no line")
            return self.lets[token.text]
        if token.kind == "name" and token.text in _RESERVED:
            return self._special(token.text)
        name = r.name()
        if r.take("("):
            return ir.Apply(name, self.arguments(")"))
        if r.take("["):
            return ir.Read(name, self.arguments("]"), self._kind(name))
        if name in self.scope:
            return self.scope[name]
        if name in self.parameters:
            return ir.Param(name, self.parameters[name])
        return ir.Read(name, (), self._kind(name))

    def _kind(self, tensor: str) -> Dtype:
        if tensor not in self.tensors:
            raise TextError(f"no tensor is named {tensor!r}")
        return self.tensors[tensor]

    def _special(self, word: str) -> Scalar:
        r = self.r
        r.at += 1
        if word in ("inf", "nan"):
            return Const(word)
        if word in ("true", "false"):
            return TRUE if word == "true" else FALSE
        r.expect("(")
        match word:
            case "conjunction":
                return ir.And(self.arguments(")"))
            case "disjunction":
                return ir.Or(self.arguments(")"))
            case "stop":
                return ir.Stop(*self.arguments(")"))
            case "proxy":
                return ir.Proxy(*self.arguments(")"))
            case "adjoint_map":
                name = r.name()
                r.expect(",")
                first, *rest = self.arguments(")")
                return ir.AdjointMap(first, name, tuple(rest))
            case "size":
                dim = r.dim(")")
                r.expect(")")
                return ir.Size(dim)
            case "index":
                index = r.index(")")
                r.expect(")")
                return index
            case "table":
                values = self.arguments(")")
                r.expect("[")
                index_ = self.ternary()
                r.expect("]")
                return ir.Table(tuple(v for v in values if isinstance(v, Const)), index_)
            case "param" | "undeclared":
                name = r.name()
                r.expect(",")
                kind = Dtype(r.name())
                r.expect(")")
                if word == "param":
                    return ir.Param(name, kind)
                r.expect("[")
                return ir.Read(name, self.arguments("]"), kind)
        raise TextError(f"{word!r} is not an expression in {r.line!r}")


def _literal(token: _Token, negative: bool = False) -> Const:
    text = ("-" if negative else "") + token.text
    if token.text in ("inf", "nan"):
        return Const(text)
    return Const(Fraction(text), INT if token.kind == "int" else REAL)


class _Parser:
    def __init__(self, text: str) -> None:
        self.lines = [line for line in text.split("\n") if line.strip()]
        self.parameters: dict[str, Dtype] = {}
        self.tensors: dict[str, Dtype] = {}

    def program(self) -> Program:
        first = _Reader(self.lines[0] if self.lines else "")
        first.expect("program")
        name = first.name()
        first.done()
        self._declare()
        inputs: list[Input] = []
        parameters: list[Parameter] = []
        body: list[Definition | Group] = []
        outputs: list[Output] = []
        reductions: Reductions | None = None
        target = ""
        at = 1
        while at < len(self.lines):
            line = self.lines[at]
            at += 1
            r = _Reader(line)
            word = r.next.text if r.next.kind == "name" and r.tokens[1].kind in ("name", "quoted") else ""
            if word == "param":
                parameters.append(self._parameter(r))
            elif word == "group":
                order = self._order(r)
                members: list[Definition] = []
                while at < len(self.lines) and _indent(self.lines[at]) > _indent(line):
                    member, at = self._definition(at)
                    members.append(member)
                body.append(Group(order, tuple(members)))
            elif word == "output":
                r.at += 1
                role = r.name()
                r.expect("=")
                outputs.append(Output(role, r.name()))
            elif word == "reductions":
                reductions = self._reductions(r)
            elif word == "target":
                r.at += 1
                target = r.name()
            elif word:
                inputs.append(self._input(r))
            else:
                definition, at = self._definition(at - 1)
                body.append(definition)
                continue
            if word != "group":
                r.done()
        return Program(name, tuple(inputs), tuple(parameters), tuple(body), tuple(outputs), reductions, target)

    def _declare(self) -> None:
        """Dtypes of all names first: a group reads what stands below."""
        for line in self.lines[1:]:
            r = _Reader(line)
            word = r.next.text if r.next.kind == "name" and r.tokens[1].kind in ("name", "quoted") else ""
            if word == "param":
                r.at += 1
                name = r.name()
                r.expect(":")
                self.parameters[name] = Parameter(name, r.name()).dtype
            elif word in ("group", "output", "reductions", "target", "let"):
                continue
            elif word:
                r.at += 1
                name = r.name()
                r.expect(":")
                self.tensors[name] = Input(name, (), (), r.name()).dtype
            else:
                name = r.name()
                if r.take("["):
                    r.indices("]")
                    r.expect("]")
                self.tensors[name] = Dtype(r.name()) if r.take(":") else REAL

    def _expression(self, r: _Reader, scope: Mapping[str, Index] | None = None) -> _Expression:
        return _Expression(r, scope or {}, self.parameters, self.tensors)

    def _range(self, r: _Reader) -> Range:
        if not r.take("in"):
            return Range()
        lower_open = r.take("(") or not r.take("[")
        lower = None if r.take("_") else self._expression(r).ternary()
        r.expect(",")
        upper = None if r.take("_") else self._expression(r).ternary()
        upper_open = r.take(")")
        if not upper_open:
            r.expect("]")
        return Range(lower, upper, lower_open, upper_open)

    def _default(self, r: _Reader) -> Const | None:
        if not r.take("="):
            return None
        value = self._expression(r).unary()
        if not isinstance(value, Const):
            raise TextError(f"a default is a constant, in {r.line!r}")
        return value

    def _parameter(self, r: _Reader) -> Parameter:
        r.at += 1
        name = r.name()
        r.expect(":")
        kind = r.name()
        return Parameter(name, kind, self._range(r), self._default(r))

    def _input(self, r: _Reader) -> Input:
        role = r.name()
        name = r.name()
        r.expect(":")
        kind = r.name()
        r.expect("[")
        positions = () if r.is_("]") else r.indices("]")
        r.expect("]")
        axes = tuple("" if i.name == "_" else i.name for i in positions)
        rng = self._range(r)
        over: list[int] = []
        if r.take("over"):
            over.append(r.integer())
            while r.take(","):
                over.append(r.integer())
        classes = r.dim("or", "=") if r.take("of") else None
        also = r.name() if r.take("or") else None
        dims = tuple(i.dim for i in positions)
        return Input(name, dims, axes, kind, rng, tuple(over), classes, also, self._default(r), role)

    def _order(self, r: _Reader) -> tuple[tuple[str, int], ...]:
        r.at += 1
        order = []
        while True:
            axis = r.name()
            word = r.name()
            if word not in ("forward", "backward"):
                raise TextError(f"expected forward or backward in {r.line!r}")
            order.append((axis, 1 if word == "forward" else -1))
            if not r.take(","):
                r.done()
                return tuple(order)

    def _reductions(self, r: _Reader) -> Reductions:
        r.at += 1
        written = r.name()
        r.expect("with")
        fields: dict[str, str] = {}
        while True:
            key = r.name()
            r.expect("=")
            fields[key] = r.name()
            if not r.take(","):
                break
        try:
            return Reductions(written, **fields)
        except TypeError:
            raise TextError(f"wrong fields in {r.line!r}") from None

    def _definition(self, at: int) -> tuple[Definition, int]:
        """The definition at line `at` with its `let` lines, and the line after them."""
        r = _Reader(self.lines[at])
        tensor = r.name()
        formals: tuple[Index, ...] = ()
        if r.take("["):
            formals = r.indices("]")
            r.expect("]")
        if r.take(":"):
            r.name()
        r.expect("=")
        head = r.name()
        bound = () if r.is_("where") or r.is_(".") else r.indices("where", ".")
        scope = {i.name: i for i in (*formals, *bound)}
        e = self._expression(r, scope)
        at += 1
        while at < len(self.lines) and self.lines[at].lstrip().startswith("let $"):
            inner = _Reader(self.lines[at])
            inner.expect("let")
            name = inner.next.text
            inner.at += 1
            inner.expect("=")
            sub = self._expression(inner, scope)
            sub.lets = e.lets
            e.lets[name] = sub.ternary()
            inner.done()
            at += 1
        where = e.ternary() if r.take("where") else TRUE
        r.expect(".")
        body = e.ternary()
        support = e.ternary() if r.take("support") else TRUE
        r.done()
        return Definition(tensor, formals, head, bound, where, body, support), at


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def parse_ir(text: str) -> Program:
    """The program of a text that `print_ir` wrote. Raises TextError (a ValueError) for any other text."""
    return _Parser(text).program()
