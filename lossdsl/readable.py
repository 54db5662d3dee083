"""The gradient of a loss as a person would write it: in the spelling of the language, by the user's own names.

The derivative program has names that the compiler made, conversions, guards and indices at every read. Here they go:
what the compiler named is put where it is read, an index is written only where it is not the tensor's own axis, and
what is shared gets a line of its own. Extents are taken to be positive, and a guard that asks whether a cotangent is
zero anyway is left out: this is for reading, the emitted functions have them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import (
    BOOL,
    FALSE,
    ONE,
    REAL,
    TRUE,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Program,
    Read,
    Scalar,
    Select,
    Size,
    postorder,
)
from lossdsl.ir.rewrite import free_indices, fresh_index, instantiate, rename_indices, transform
from lossdsl.ir.text_print import number_text
from lossdsl.transform.differentiate import differentiate
from lossdsl.transform.simplify import simple

REST = "..."
_TERNARY, _OR, _AND, _NOT, _CMP, _SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(10)
_INFIX = {"add": ("+", _SUM), "sub": ("-", _SUM), "mul": ("*", _PRODUCT), "div": ("/", _PRODUCT)}
_INFIX |= {"floordiv": ("//", _PRODUCT), "mod": ("%", _PRODUCT)}
_CALLED = {"max2": "max", "min2": "min"}
_SHARED = 5  # nodes of a definition of the compiler's that gets a line if it is read twice
_SHORT = 12  # letters of a subexpression that does
_WIDTH = 84


def gradient_lines(program: Program) -> tuple[str, ...]:
    """The gradient in the first differentiable input, one definition a line: of the sum of the elements where the loss
    has one (a mean's is that over the weight of its elements), else of the returned value."""
    wrt = next((i.name for i in program.inputs if i.differentiable), None)
    if wrt is None:
        return ()
    output = program.reductions.sum if program.reductions else program.outputs[0].tensor
    made = _Lines(program, differentiate(program, output, (wrt,), trusted=True), wrt).lines()
    return ('of reduction="sum"; that of "mean" is divided by the weight of the elements', *made)[
        0 if program.reductions else 1 :
    ]


class _Lines:
    def __init__(self, program: Program, derived: Program, wrt: str) -> None:
        self.wrt = wrt
        self.final = next(o.tensor for o in derived.outputs if o.name == f"d {wrt}")
        cotangents = {i.name for i in derived.inputs if i.role == "cotangent"}
        self.forward = {d.tensor for d in program.definitions()}
        self.axes = {i.name: tuple(_axis(a, d) for a, d in zip(i.axes, i.dims)) for i in derived.inputs}
        memo: dict[Scalar, Scalar] = {}

        def step(node: Scalar) -> Scalar:
            return _product(simple(_plain(node, cotangents)))

        self.aliases = {i for d in program.definitions() for i in (*d.formals, *d.bound) if "." not in i.name}
        self.definitions: dict[str, Definition] = {}
        for d in derived.definitions():
            where, body = transform(d.where, step, memo), transform(d.body, step, memo)
            self.definitions[d.tensor] = replace(d, where=where, body=body)
            self.axes[d.tensor] = tuple(_axis(i.name, i.dim) for i in d.formals)
        self.recurrent = {d.tensor for g in derived.body if isinstance(g, ir.Group) for d in g.definitions}
        self.taken = {
            *self.axes,
            *(p.name for p in program.parameters),
            *(a for axes in self.axes.values() for a in axes),
        }
        self.names: dict[str, str] = {}

    def lines(self) -> list[str]:
        """Definitions before their readers; the gradient last."""
        kept: list[str] = []
        uses: dict[str, int] = {}
        seen: set[str] = set()

        def visit(name: str) -> None:
            d = self.definitions.get(name)
            if d is None or name in seen or self.known(name):
                return
            seen.add(name)
            for node in postorder(d.where, d.body):
                if isinstance(node, Read):
                    visit(node.tensor)
                    uses[node.tensor] = uses.get(node.tensor, 0) + 1
            kept.append(name)

        visit(self.final)
        self.own = {n for n in kept if n == self.final or n in self.recurrent or (uses[n] > 1 and self.large(n))}
        made: list[str] = []
        for name in kept:
            if name in self.own:
                d = self.definitions[name]
                made += self.definition(self.left(name), d)
        return made

    def known(self, tensor: str) -> bool:
        """Whether the reader of the formula knows it: an input or a definition of the user's."""
        return tensor not in self.definitions or (tensor in self.forward and "." not in tensor)

    def large(self, tensor: str) -> bool:
        d = self.definitions[tensor]
        return d.head != "map" or sum(1 for _ in postorder(d.body)) > _SHARED

    def name(self, tensor: str) -> str:
        if self.known(tensor):
            return tensor
        if tensor not in self.names:
            base = f"d_{self.wrt}" if tensor == self.final else tensor
            if base.endswith("'"):
                base = "d_" + base
            base = base.replace("'", "")
            short = "_".join(part for part in base.split(".") if not part.isdigit())
            if short.removeprefix("d_").startswith("return"):  # a part of the returned expression, without a name
                self.names[tensor] = self.letter()
            else:
                self.names[tensor] = self.fresh(base.replace(".", "_") if short in self.taken else short)
        return self.names[tensor]

    def left(self, tensor: str) -> str:
        """The name of a definition, with its axes where a reader could not know them."""
        axes = tuple(_axis(i.name, i.dim) for i in self.definitions[tensor].formals)
        unnamed = tensor == self.final and "" in self.axes[self.wrt]
        return f"{self.name(tensor)}[{', '.join(axes)}]" if unnamed or tensor in self.recurrent else self.name(tensor)

    def letter(self) -> str:
        return self.fresh(next((c for c in "abuvwpqrsz" if c not in self.taken), "part"))

    def fresh(self, base: str) -> str:
        name, k = base, 2
        while name in self.taken:
            name, k = f"{base}_{k}", k + 1
        self.taken.add(name)
        return name

    def definition(self, name: str, d: Definition) -> list[str]:
        scalar = self.expanded(d.body, set())
        shared = _shared(scalar, self) if d.head == "map" else []
        made: list[str] = []
        printer = _Printer(self)
        for node in shared:
            text = printer.text(node)
            if len(text) < _SHORT:
                continue
            short = self.letter()
            made += _broken(f"{short} = {text}")
            printer.done[node] = (short, _ATOM)
        body = printer.text(scalar) if d.head == "map" else printer.fold(replace(d, body=scalar))
        return [*made, *_broken(f"{name} = {body}")]

    def expanded(self, node: Scalar, busy: set[str]) -> Scalar:
        """With the maps that the compiler named put where they are read."""

        def step(n: Scalar) -> Scalar:
            d = self.inlined(n)
            if d is None or d.head != "map" or d.tensor in busy:
                return _product(simple(n))
            assert isinstance(n, Read)
            return self.expanded(instantiate(d, n.indices), busy | {d.tensor})

        return transform(node, step)

    def inlined(self, node: Scalar) -> Definition | None:
        if not isinstance(node, Read) or self.known(node.tensor) or node.tensor in self.own:
            return None
        return self.definitions[node.tensor]


class _Printer:
    """Prints scalars; reads of reductions that the compiler named are printed as reductions."""

    def __init__(self, lines: _Lines) -> None:
        self.lines = lines
        self.done: dict[Scalar, tuple[str, int]] = {}

    def text(self, node: Scalar, level: int = _TERNARY) -> str:
        for n in postorder(node):
            if n not in self.done:
                self.done[n] = self.node(n)
        return self.at(node, level)

    def at(self, node: Scalar, level: int) -> str:
        text, mine = self.done[node]
        return text if mine >= level else f"({text})"

    def list(self, nodes: Iterable[Scalar]) -> str:
        return ", ".join(self.at(n, _TERNARY) for n in nodes)

    def node(self, node: Scalar) -> tuple[str, int]:
        match node:
            case Const():
                text = _constant(node)
                return text, _UNARY if text.startswith("-") else _PRODUCT if "/" in text else _ATOM
            case ir.Param():
                return node.name, _ATOM
            case Size():
                return _extent(node.dim)
            case Index():
                return _axis(node.name, node.dim), _ATOM
            case Read():
                return self.read(node), _ATOM
            case ir.Table():
                return f"[{', '.join(map(_constant, node.values))}][{self.at(node.index, _TERNARY)}]", _ATOM
            case Apply():
                return self.apply(node)
            case Select():
                a, c, b = self.at(node.a, _OR), self.at(node.condition, _OR), self.at(node.b, _OR)
                return f"{a} if {c} else {b}", _TERNARY
            case Compare():
                return f"{self.at(node.a, _SUM)} {node.op} {self.at(node.b, _SUM)}", _CMP
            case ir.And() | ir.Or():
                word, level = ("and", _AND) if isinstance(node, ir.And) else ("or", _OR)
                return f" {word} ".join(self.at(a, level + 1) for a in node.args), level
            case ir.Not():
                return f"not {self.at(node.a, _NOT)}", _NOT
            case ir.Stop():
                return f"stop({self.at(node.a, _TERNARY)})", _ATOM
            case ir.Proxy():
                return f"straight_through({self.list(node.children)})", _ATOM
            case ir.AdjointMap():
                return f"{node.name}({self.list(node.children)})", _ATOM
        raise TypeError(f"unknown node {type(node).__name__}")

    def read(self, node: Read) -> str:
        d = self.lines.inlined(node)
        if d is not None and d.tensor not in self.lines.recurrent:
            return self.instance(d, node.indices)
        name, axes = self.lines.name(node.tensor), self.lines.axes[node.tensor]
        own = [self.done[i][0] for i in node.indices]
        if tuple(own) == axes:
            return name
        if "" in axes:
            return f"{name}[{', '.join(own)}]"
        return f"{name}[{', '.join(f'{a} = {i}' for a, i in zip(axes, own) if a != i)}]"

    def instance(self, d: Definition, indices: tuple[Scalar, ...]) -> str:
        """A reduction where it is read; its bound axes get other names than what is read there."""
        outer = free_indices(*indices)
        names = {i.name for i in outer}
        clash = {b: fresh_index(b, (*outer, *d.bound)) for b in d.bound if b.name in names}
        d = rename_indices(d, clash) if clash else d
        inside: Mapping[Scalar, Scalar] = dict(zip(d.formals, indices, strict=True))
        where, body = (transform(s, lambda n: inside.get(n, n)) for s in (d.where, d.body))
        return self.fold(replace(d, formals=(), where=where, body=self.lines.expanded(body, {d.tensor})))

    def fold(self, d: Definition) -> str:
        inner = _Printer(self.lines)
        d = self.renamed(d)
        over = ", ".join(_axis(b.name, b.dim) for b in d.bound)
        value = d.where if d.head in ("any", "all", "count") and d.body is TRUE else d.body
        text = inner.text(value) + f" over {over}"
        if d.where is not TRUE and value is not d.where:
            text += f" where {inner.text(d.where, _OR)}"
            text += " else 0" if d.head in ("max", "min", "argmax", "argmin") else ""  # read only where there is one
        return f"{d.head}({text})"

    def renamed(self, d: Definition) -> Definition:
        """With the user's own aliases for bound indices that the compiler named, where they are free."""
        names: dict[Index, Index] = {}
        for b in d.bound:
            taken = {i.name for i in (*free_indices(d.where, d.body), *d.bound, *names.values())}
            others = sorted(i.name for i in self.lines.aliases if i.dim == b.dim and i.name not in taken)
            if "." in b.name and others:
                names[b] = Index(others[0], b.dim)
        return rename_indices(d, names) if names else d

    def apply(self, node: Apply) -> tuple[str, int]:
        args = node.args
        if node.name in ("real", "int") and len(args) == 1:
            text, level = self.done[args[0]]
            return (f"({text})", _ATOM) if args[0].dtype is BOOL else (text, level)
        if node.name in _INFIX:
            sign, level = _INFIX[node.name]
            right = self.at(args[1], level + 1)
            return f"{self.at(args[0], level)} {sign} {f'({right})' if right.startswith('-') else right}", level
        if node.name == "neg":
            inner = self.at(args[0], _PRODUCT)
            return (f"-({inner})" if inner.startswith("-") else f"-{inner}"), _UNARY if " " not in inner else _PRODUCT
        if node.name in ("powi", "pow"):
            return f"{self.at(args[0], _ATOM)}^{self.at(args[1], _ATOM)}", _POWER
        if node.name == "expdiff":
            return f"exp({self.at(args[0], _SUM)} - {self.at(args[1], _PRODUCT)})", _ATOM
        if not args:
            return node.name, _ATOM
        return f"{_CALLED.get(node.name, node.name)}({self.list(args)})", _ATOM


def _plain(node: Scalar, cotangents: set[str]) -> Scalar:
    """One node without what only the machine needs: cotangent 1, no guards of cotangents, conversions at the leaves."""
    match node:
        case Read(tensor=name) if name in cotangents:
            return ONE
        case Read(tensor=name, kind=kind) if kind is BOOL and "'" in name and name.endswith(".on"):
            return TRUE
        case Compare(op="!=" | "==" as op, a=a, b=Const(value=0)) if not any(
            isinstance(n, Read | ir.Param | Index) for n in postorder(a)
        ):
            return TRUE if op == "!=" else FALSE  # extents are positive
        case Apply(name="real", args=(Apply(name="add" | "sub" | "mul" | "neg" as name, args=args),)):
            return Apply(name, tuple(simple(_plain(Apply("real", (a,)), cotangents)) for a in args))
    return node


def _axis(name: str, dim: Dim) -> str:
    return REST if dim == Dim.symbol(REST) else name.replace(".", "_").replace("'", "")


def _constant(c: Const) -> str:
    if isinstance(c.value, str):
        return c.value
    if c.kind is BOOL:
        return "true" if c.value else "false"
    return str(c.value.numerator) if c.value.denominator == 1 else number_text(c.value)


def _product(node: Scalar) -> Scalar:
    """A product with its number and its sign in front."""
    if not isinstance(node, Apply) or node.dtype is not REAL or node.name not in ("mul", "neg"):
        return node
    number = Fraction(1)
    factors: list[Scalar] = []
    open_: list[Scalar] = [node]
    while open_:
        match open_.pop():
            case Apply(name="mul", args=args, dtype=ir.REAL):
                open_ += reversed(args)
            case Apply(name="neg", args=args, dtype=ir.REAL):
                number, open_ = -number, [*open_, *args]
            case Const(value=Fraction() as value):
                number *= value
            case factor:
                factors.append(factor)
    if not factors or not number:
        return node
    made: Scalar = factors[0] if abs(number) == 1 else Apply("mul", (Const(abs(number)), factors[0]))
    for factor in factors[1:]:
        made = Apply("mul", (made, factor))
    return Apply("neg", (made,)) if number < 0 else made


def _extent(dim: Dim) -> tuple[str, int]:
    """An extent over the sizes of the axes."""
    text = ""
    for monomial, coefficient in dim.terms:
        factors = [f"size({a})" if isinstance(a, str) else f"({a})" for a in monomial]
        if abs(coefficient) != 1 or not factors:
            factors.insert(0, str(abs(coefficient)))
        sign = ("-" if coefficient < 0 else "") if not text else (" - " if coefficient < 0 else " + ")
        text += sign + " * ".join(factors)
    level = _SUM if len(dim.terms) > 1 else _PRODUCT if " " in text else _ATOM
    return text or "0", level


def _shared(body: Scalar, lines: _Lines) -> list[Scalar]:
    """Subexpressions that are read more than once, those inside of others first."""
    order = list(postorder(body))
    uses: dict[Scalar, int] = {}
    for node in order:
        for child in node.children:
            uses[child] = uses.get(child, 0) + 1

    def counts(n: Scalar) -> bool:
        if isinstance(n, Read):
            return lines.inlined(n) is not None
        return n.dtype is REAL and not (isinstance(n, Apply) and n.name in ("neg", "real"))

    return [n for n in order if uses.get(n, 0) > 1 and counts(n)]


_SIGNS = {" if ": 0, " else ": 0, " or ": 1, " and ": 1, " over ": 1, " + ": 2, " - ": 2, " * ": 3}


def _broken(line: str) -> list[str]:
    """A long line in parts, continued further in after a sign, as the language has it."""
    made: list[str] = []
    indent = ""
    while len(line) + len(indent) > _WIDTH:
        at = _break(line, _WIDTH - len(indent))
        if at is None:
            break
        made.append(indent + line[:at])
        line, indent = line[at + 1 :], "    "
    return [*made, indent + line]


def _break(line: str, room: int) -> int | None:
    """The end of the weakest sign in the fewest brackets that leaves a first part which fits; of the last such sign."""
    depth = 0
    best: tuple[int, int, int] | None = None
    for k in range(min(len(line), room)):
        depth += (line[k] in "([") - (line[k] in ")]")
        sign = next((s for s in _SIGNS if line.startswith(s, k)), None) if k > 8 and line[k] == " " else None
        if sign is not None and k + len(sign) <= room:
            best = min(best or (depth, 9, 0), (depth, _SIGNS[sign], -(k + len(sign) - 1)))
    return -best[2] if best is not None and best[2] else None
