"""Printing the text of the IR (`text.py` says what it looks like)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from lossdsl.dim import Dim, parse_dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    Const,
    Definition,
    Group,
    Index,
    Input,
    Program,
    Range,
    Scalar,
)
from lossdsl.primitives.record import Dtype

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_']*(\.[A-Za-z0-9_']+)*\Z")
_VALUES = {"inf", "nan", "true", "false"}
_FORMS = {"let", "table", "size", "stop", "proxy", "adjoint_map", "conjunction", "disjunction", "param", "index"}
RESERVED = {"if", "else", "and", "or", "not", "where", "support", "undeclared", "of", "over", "in", *_VALUES, *_FORMS}
_INFIX = {"add": ("+", 5), "sub": ("-", 5), "mul": ("*", 6), "div": ("/", 6), "floordiv": ("//", 6), "mod": ("%", 6)}
SIGNS = {sign: name for name, (sign, _) in _INFIX.items()}
_TERNARY, _OR, _AND, _NOT, _CMP, _SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(10)
_LET_SIZE, _LET_DEPTH = 60, 24  # a shared subexpression of this size, or one this deep, gets a line of its own


def _name(name: str) -> str:
    if name == "..." or (_WORD.match(name) and name not in RESERVED):
        return name
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`").replace("\n", "\\n") + "`"


# ------------------------------------------------------------------------------------------------------ printing


def number_text(value: Fraction) -> str:
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
    return str(int(c.value)) if c.kind is INT else number_text(c.value)


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
    lines += [f"  update {_name(o.name)} = {_name(o.tensor)}" for o in program.updates]
    if program.reductions is not None:
        r = program.reductions
        pairs = [(k, getattr(r, k)) for k in ("mean", "sum", "none", "total", "weight", "element")]
        lines.append(f"  reductions {_name(r.written)} with " + ", ".join(f"{k} = {_name(v)}" for k, v in pairs))
    if program.target:
        lines.append(f"  target {_name(program.target)}")
    return "\n".join(lines) + "\n"
