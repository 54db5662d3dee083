"""Parsing the text of the IR back (`text.py` says what it looks like)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.dim import Dim, parse_dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import (
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
from lossdsl.ir.text_print import RESERVED, SIGNS
from lossdsl.primitives.record import Dtype


class TextError(ValueError):
    """The text is not the text of a program."""


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
            a = ir.Apply(SIGNS[sign], (a, self.product()))
        return a

    def product(self) -> Scalar:
        a = self.unary()
        while self.r.next.kind == "sign" and self.r.next.text in ("*", "/", "//", "%"):
            sign = self.r.next.text
            self.r.at += 1
            a = ir.Apply(SIGNS[sign], (a, self.unary()))
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
        if token.kind == "name" and token.text in RESERVED:
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
        updates: list[Output] = []
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
            elif word in ("output", "update"):
                r.at += 1
                role = r.name()
                r.expect("=")
                (outputs if word == "output" else updates).append(Output(role, r.name()))
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
        return Program(
            name, tuple(inputs), tuple(parameters), tuple(body), tuple(outputs), reductions, target, tuple(updates)
        )

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
            elif word in ("group", "output", "update", "reductions", "target", "let"):
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
