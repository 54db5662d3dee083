"""The surface syntax tree: what was written, where, with its comments. It knows no mathematics.

Every node carries a `span` that takes no part in equality, so `parse(format(x)) == parse(x)` compares meaning.
Parentheses are kept (`Paren`) because the formatter prints what the author grouped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from fractions import Fraction

from lossdsl.diagnostics import NOWHERE, Span


@dataclass(frozen=True, kw_only=True)
class Node:
    span: Span = field(default=NOWHERE, compare=False, repr=False)


CONSTANTS = frozenset({"pi", "inf", "nan", "true", "false"})
RESERVED = CONSTANTS | {"last", "step"}  # names that nothing else has


# ---------------------------------------------------------------------------------------------- expressions


@dataclass(frozen=True, kw_only=True)
class Number(Node):
    """A literal; `text` as written, `value` exact."""

    text: str
    value: Fraction


@dataclass(frozen=True, kw_only=True)
class Name(Node):
    """A bare name, `pi`, `inf`, `nan`, `true`, `false`, `last`, `step` included."""

    id: str


@dataclass(frozen=True, kw_only=True)
class Paren(Node):
    inner: Expr


@dataclass(frozen=True, kw_only=True)
class Unary(Node):
    """`op` is "-" or "not"."""

    op: str
    operand: Expr


@dataclass(frozen=True, kw_only=True)
class Binary(Node):
    """`op` is one of + - * / // % ^ ** and or. `^` and `**` are kept apart for the formatter only."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, kw_only=True)
class Compare(Node):
    """A chain `operands[0] ops[0] operands[1] ops[1] ...`; ops are < <= > >= == !=."""

    ops: tuple[str, ...]
    operands: tuple[Expr, ...]


@dataclass(frozen=True, kw_only=True)
class IfElse(Node):
    """`value if condition else otherwise`."""

    value: Expr
    condition: Expr
    otherwise: Expr


@dataclass(frozen=True, kw_only=True)
class ByName(Node):
    """`axis = index` inside an access."""

    axis: str
    index: Expr


@dataclass(frozen=True, kw_only=True)
class Rest(Node):
    """`...`, in an access or a list of axes."""


@dataclass(frozen=True, kw_only=True)
class Access(Node):
    """`base[items else otherwise]`; items are ByName, positions (expressions) or Rest."""

    base: Expr
    items: tuple[ByName | Rest | Expr, ...]
    otherwise: Expr | None = None


@dataclass(frozen=True, kw_only=True)
class Keyword(Node):
    """`name = value` among the arguments of a call."""

    name: str
    value: Expr


@dataclass(frozen=True, kw_only=True)
class Call(Node):
    """`function(arguments over axes direction where condition else value)`."""

    function: str
    function_span: Span = field(default=NOWHERE, compare=False, repr=False)
    arguments: tuple[Expr, ...]
    keywords: tuple[Keyword, ...] = ()
    over: tuple[Axis | Rest, ...] | None = None
    direction: str | None = None  # "backward" | "descending"
    where: Expr | None = None
    otherwise: Expr | None = None

    @property
    def has_clauses(self) -> bool:
        """Whether it has what only reductions have: axes, a direction, a condition, a value over nothing."""
        return any(c is not None for c in (self.over, self.direction, self.where, self.otherwise))


@dataclass(frozen=True, kw_only=True)
class Table(Node):
    """`[a, b, c]`, possibly nested."""

    items: tuple[Expr, ...]


Expr = Number | Name | Paren | Unary | Binary | Compare | IfElse | Access | Call | Table


# ----------------------------------------------------------------------------------------------- statements


@dataclass(frozen=True, kw_only=True)
class Axis(Node):
    """The name of an axis where axes are listed."""

    name: str


@dataclass(frozen=True, kw_only=True)
class FixedAxis(Node):
    """A number in the axes of a declaration: an unnamed axis of that extent."""

    extent: int


@dataclass(frozen=True, kw_only=True)
class Ident(Node):
    """A name that a statement declares."""

    name: str


@dataclass(frozen=True, kw_only=True)
class CompareWith(Node):
    """`real > 0`: one comparison of a domain."""

    op: str
    bound: Expr


@dataclass(frozen=True, kw_only=True)
class Between(Node):
    """`in [0, 1)`."""

    lower: Expr
    upper: Expr
    lower_open: bool
    upper_open: bool


@dataclass(frozen=True, kw_only=True)
class Of(Node):
    """`class[n] of c or ignore_index`; `of` an axis name or a number."""

    of: Expr
    otherwise: Expr | None = None


@dataclass(frozen=True, kw_only=True)
class Along(Node):
    """`simplex[n, c] over c`."""

    axes: tuple[Axis | Rest, ...]


Domain = CompareWith | Between | Of | Along


@dataclass(frozen=True, kw_only=True)
class Type(Node):
    """`kind[axes] domains`; kind is real int bool binary sign prob class simplex unit."""

    kind: str
    axes: tuple[Axis | Rest | FixedAxis, ...] | None = None
    domains: tuple[Domain, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Statement(Node):
    """`leading`: comment lines directly above (text after `#` without its first space); `trailing`: the comment on
    the same line. `detached`: paragraphs of comments further above, each followed by an empty line. `blank_before`:
    the author left at least one empty line before all of these. None takes part in equality."""

    detached: tuple[tuple[str, ...], ...] = field(default=(), compare=False)
    leading: tuple[str, ...] = field(default=(), compare=False)
    trailing: str | None = field(default=None, compare=False)
    blank_before: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Declaration(Statement):
    """`input|param|learnable|state names: type = defaults`."""

    keyword: str
    names: tuple[Ident, ...]
    type: Type
    defaults: tuple[Expr, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AxisDeclaration(Statement):
    """`axis m = n`, `axis i, j = 11`."""

    names: tuple[Ident, ...]
    extent: Expr


@dataclass(frozen=True, kw_only=True)
class Definition(Statement):
    """`name[axes] = value`, or `p, q = f(x)` with several names (no axes then)."""

    names: tuple[Ident, ...]
    axes: tuple[Axis | Rest | FixedAxis, ...] | None
    value: Expr


@dataclass(frozen=True, kw_only=True)
class Update(Statement):
    """`update center = value`, `update queue[r, d] = value`."""

    name: Ident
    axes: tuple[Axis | Rest | FixedAxis, ...] | None
    value: Expr


@dataclass(frozen=True, kw_only=True)
class Report(Statement):
    name: Ident
    value: Expr


@dataclass(frozen=True, kw_only=True)
class Return(Statement):
    """`return value`; several values only inside a `def` block."""

    values: tuple[Expr, ...]


@dataclass(frozen=True, kw_only=True)
class Use(Statement):
    """`use field.name as alias`."""

    path: tuple[str, ...]
    alias: Ident | None = None


@dataclass(frozen=True, kw_only=True)
class DefArgument(Node):
    name: str
    type: Type | None = None


@dataclass(frozen=True, kw_only=True)
class Def(Statement):
    """`def f(a, b) = value` (then `body` is empty) or a block `def f(p: real[b, u]):` (then `value` is None)."""

    name: Ident
    arguments: tuple[DefArgument, ...]
    value: Expr | None = None
    body: tuple[Statement, ...] = ()
    closing: tuple[tuple[str, ...], ...] = field(default=(), compare=False)  # comments after the last statement


@dataclass(frozen=True, kw_only=True)
class Claim(Statement):
    """`claim [not] property when condition on region at defaults`.

    `kind` and its fields (see `docs/language/claims.md`):
      "bound"       expression: Compare (a chain of comparisons)
      "word"        word: one of the property words (`convex`, `strictly convex`, `C1`, `bounded`, ...)
      "lipschitz" / "gradient lipschitz" / "strongly convex"   op, bound (may be None), norm ("l1"|"l2"|"linf"|None)
      "monotone"    word: increasing | decreasing | strictly increasing | strictly decreasing
      "infimum"     of; op and bound: what the infimum is compared with
      "minimum" / "unique minimum"   at: condition
      "invariant"   transform: shift|scale|permutation, over
      "exchange symmetric" / "even" / "odd"
      "zero gradient"   where: condition
      "equal"       expression: what the target equals
      "finite"      word: float16 | bfloat16 | float32
      "proper"-like words may carry link: Expr
    """

    negated: bool = False
    kind: str
    word: str | None = None
    of: str | None = None
    inputs: tuple[Ident, ...] = ()
    expression: Expr | None = None
    op: str | None = None
    bound: Expr | None = None
    norm: str | None = None
    at: Expr | None = None
    where: Expr | None = None
    transform: str | None = None
    over: tuple[Axis | Rest, ...] | None = None
    link: Expr | None = None
    when: Expr | None = None
    on: Expr | None = None
    at_defaults: bool = False
    text: str = field(default="", compare=False)  # as written, without the word `claim`, one line


@dataclass(frozen=True, kw_only=True)
class Loss(Statement):
    """`loss name:` with its docstring and statements (claims included, in order).

    The docstring is cleaned: no indentation in common, no spaces at line ends, no empty lines around it.
    `closing` are paragraphs of comments; an empty first one stands for an empty line before them.
    """

    name: Ident
    docstring: str | None
    body: tuple[Statement, ...]
    closing: tuple[tuple[str, ...], ...] = field(default=(), compare=False)  # comments after the last statement


@dataclass(frozen=True)
class Lost:
    """An unread statement of a loss: the names that it would declare, and all names that it mentions."""

    loss: str
    declared: frozenset[str]
    mentioned: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Module(Node):
    """A file: losses, functions and imports in order; `closing` are comments at its end.

    `unread` names what the file would define but for an error in it; see `parser.readable_part`. `lost` says what the
    unread statements of losses declare and mention, for those losses with nothing else wrong.
    """

    items: tuple[Statement, ...]
    closing: tuple[tuple[str, ...], ...] = field(default=(), compare=False)
    unread: frozenset[str] = field(default=frozenset(), compare=False)
    lost: tuple[Lost, ...] = field(default=(), compare=False)


def walk(node: Node) -> Iterator[Node]:
    """A node and all nodes below it."""
    stack: list[object] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, Node):
            yield item
            stack.extend(
                getattr(item, f.name) for f in reversed(fields(item)) if f.name not in ("span", "function_span")
            )
        elif isinstance(item, tuple):
            stack.extend(reversed(item))
