"""From Lark's parse tree of one statement to the nodes of `tree`: one method for each rule of the grammar.

The walk keeps its own stack, so the depth of a source never meets Python's recursion limit.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from lark import Token, Tree

from lossdsl.diagnostics import Diagnostic, Span
from lossdsl.syntax import tree
from lossdsl.syntax.explain import EXPRESSION_WORDS

MAX_DIGITS = 100
MAX_EXPONENT = 400

Children = list[Any]


def exact(text: str) -> Fraction | None:
    """The value of a literal, or None where it would be too large to keep exactly."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > MAX_DIGITS or (exponent and abs(int(exponent)) > MAX_EXPONENT):
        return None
    return Fraction(text)


class Builder:
    """Builds the nodes of one statement that begins at `line` and `column` of its file; `problems` gathers findings.

    `trivia` are the comments and empty lines around the statement, passed on to its node.
    """

    def __init__(self, line: int, column: int, trivia: dict[str, Any]) -> None:
        self.line = line
        self.column = column
        self.trivia = trivia
        self.problems: list[Diagnostic] = []

    def build(self, root: Tree[Token]) -> Any:
        order: list[Tree[Token]] = [root]
        for node in order:
            order.extend(child for child in node.children if isinstance(child, Tree))
        made: dict[int, Any] = {}
        for node in reversed(order):
            children = [made.pop(id(child)) if isinstance(child, Tree) else child for child in node.children]
            rule: Callable[[Children, Span], Any] = getattr(self, str(node.data))
            made[id(node)] = rule(children, self.span(node.meta))
        return made[id(root)]

    # ------------------------------------------------------------------------------------------------ places

    def span(self, place: Any) -> Span:
        """The span in the file of a token or of the meta data of a tree; an empty tree has none."""
        if getattr(place, "empty", False):
            return Span(self.line, self.column, self.line, self.column)
        return Span(
            place.line + self.line - 1,
            place.column + (self.column - 1 if place.line == 1 else 0),
            place.end_line + self.line - 1,
            place.end_column + (self.column - 1 if place.end_line == 1 else 0),
        )

    def problem(self, code: str, message: str, span: Span, help: str = "") -> None:
        self.problems.append(Diagnostic(code, message, span, help))

    def declared(self, token: Token) -> tree.Ident:
        """A name that the statement gives to something."""
        name, span = str(token), self.span(token)
        if name in tree.RESERVED or name == "size":
            self.problem(
                "E0106", f"`{name}` is reserved and cannot be a name", span, f"choose another name, `{name}_` say"
            )
        elif name in EXPRESSION_WORDS:
            self.problem(
                "E0106", f"`{name}` is a word of expressions and cannot be a name", span, "choose another name"
            )
        return tree.Ident(name=name, span=span)

    # ------------------------------------------------------------------------------------------------ statements

    def loss(self, c: Children, span: Span) -> tree.Loss:
        return tree.Loss(name=self.declared(c[0]), docstring=None, body=(), span=span, **self.trivia)

    def use(self, c: Children, span: Span) -> tree.Use:
        alias = c.pop() if isinstance(c[-1], tree.Ident) else None
        return tree.Use(path=tuple(map(str, c)), alias=alias, span=span, **self.trivia)

    def alias(self, c: Children, span: Span) -> tree.Ident:
        return self.declared(c[0])

    def function(self, c: Children, span: Span) -> tree.Def:
        return tree.Def(name=self.declared(c[0]), arguments=c[1], value=c[2], span=span, **self.trivia)

    def function_block(self, c: Children, span: Span) -> tree.Def:
        return tree.Def(name=self.declared(c[0]), arguments=c[1], span=span, **self.trivia)

    def parameters(self, c: Children, span: Span) -> tuple[tree.DefArgument, ...]:
        return tuple(c)

    def parameter(self, c: Children, span: Span) -> tree.DefArgument:
        return tree.DefArgument(name=self.declared(c[0]).name, type=c[1] if len(c) > 1 else None, span=span)

    def declaration(self, c: Children, span: Span) -> tree.Declaration:
        keyword, names, type_ = c[0], c[1], c[2]
        defaults: tuple[Any, ...] = c[3] if len(c) > 3 else ()
        if len(defaults) not in (0, 1, len(names)):
            self.problem(
                "E0115",
                f"{len(names)} names, but {len(defaults)} defaults",
                defaults[0].span.to(defaults[-1].span),
                "write one default for all names, or one for each",
            )
        return tree.Declaration(keyword=keyword, names=names, type=type_, defaults=defaults, span=span, **self.trivia)

    def keyword(self, c: Children, span: Span) -> str:
        return " ".join(map(str, c))

    word = flag = constant = monotone = minimum = symmetry = transform = dtype = direction = lower = upper = keyword

    def default(self, c: Children, span: Span) -> tuple[Any, ...]:
        return tuple(c)

    axes = formals = indices = arguments = over_axes = default

    def axis(self, c: Children, span: Span) -> tree.AxisDeclaration:
        return tree.AxisDeclaration(names=c[0], extent=c[1], span=span, **self.trivia)

    def definition(self, c: Children, span: Span) -> tree.Definition:
        return tree.Definition(names=c[0], axes=None, value=c[1], span=span, **self.trivia)

    def written_definition(self, c: Children, span: Span) -> tree.Definition:
        return tree.Definition(names=(self.declared(c[0]),), axes=c[1], value=c[2], span=span, **self.trivia)

    def update(self, c: Children, span: Span) -> tree.Update:
        axes = c[1] if len(c) > 2 else None
        return tree.Update(name=self.declared(c[0]), axes=axes, value=c[-1], span=span, **self.trivia)

    def report(self, c: Children, span: Span) -> tree.Report:
        return tree.Report(name=self.declared(c[0]), value=c[1], span=span, **self.trivia)

    def return_(self, c: Children, span: Span) -> tree.Return:
        return tree.Return(values=tuple(c), span=span, **self.trivia)

    def names(self, c: Children, span: Span) -> tuple[tree.Ident, ...]:
        return tuple(self.declared(token) for token in c)

    # ------------------------------------------------------------------------------------------------ types

    def type(self, c: Children, span: Span) -> tree.Type:
        axes = c[1] if len(c) > 1 and isinstance(c[1], tuple) else None
        return tree.Type(kind=str(c[0]), axes=axes, domains=tuple(c[2 if axes is not None else 1 :]), span=span)

    def compare_with(self, c: Children, span: Span) -> tree.CompareWith:
        return tree.CompareWith(op=str(c[0]), bound=c[1], span=span)

    def between(self, c: Children, span: Span) -> tree.Between:
        return tree.Between(lower=c[1], upper=c[2], lower_open=c[0] == "(", upper_open=c[3] == ")", span=span)

    def of(self, c: Children, span: Span) -> tree.Of:
        return tree.Of(of=c[0], otherwise=c[1] if len(c) > 1 else None, span=span)

    def along(self, c: Children, span: Span) -> tree.Along:
        return tree.Along(axes=c[0], span=span)

    def along_one(self, c: Children, span: Span) -> tree.Along:
        return tree.Along(axes=(c[0],), span=span)

    def fixed(self, c: Children, span: Span) -> tree.FixedAxis:
        value = self.number(c, span).value
        if value.denominator != 1 or not str(c[0]).isdigit():
            self.problem("E0118", f"an axis of extent {c[0]}", span, "the extent of an unnamed axis is a whole number")
            value = Fraction(1)
        return tree.FixedAxis(extent=int(value), span=span)

    def axis_name(self, c: Children, span: Span) -> tree.Axis:
        return tree.Axis(name=self.declared(c[0]).name, span=span)

    def rest(self, c: Children, span: Span) -> tree.Rest:
        return tree.Rest(span=span)

    # ------------------------------------------------------------------------------------------------ expressions

    def if_else(self, c: Children, span: Span) -> tree.IfElse:
        return tree.IfElse(value=c[0], condition=c[1], otherwise=c[2], span=span)

    def binary(self, c: Children, span: Span) -> tree.Binary:
        return tree.Binary(op=str(c[1]), left=c[0], right=c[2], span=span)

    def unary(self, c: Children, span: Span) -> tree.Unary:
        return tree.Unary(op=str(c[0]), operand=c[1], span=span)

    def comparison(self, c: Children, span: Span) -> tree.Compare:
        return tree.Compare(ops=tuple(map(str, c[1::2])), operands=tuple(c[0::2]), span=span)

    def access(self, c: Children, span: Span) -> tree.Access:
        if isinstance(c[0], tree.Number):
            help = "in a declaration the axes stand before the domain: `real[n, c] >= 0`"
            self.problem("E0101", "a number has no axes", c[0].span.to(span), help)
        return tree.Access(base=c[0], items=c[1], otherwise=c[2]["otherwise"] if len(c) > 2 else None, span=span)

    def by_name(self, c: Children, span: Span) -> tree.ByName:
        return tree.ByName(axis=str(c[0]), index=c[1], span=span)

    def number(self, c: Children, span: Span) -> tree.Number:
        text = str(c[0])
        value = exact(text)
        if value is None:
            shown = text if len(text) <= 24 else f"{text[:12]}...{text[-6:]}"
            self.problem(
                "E0705",
                f"the number {shown} is too long to be kept exactly",
                span,
                f"at most {MAX_DIGITS} digits and exponents up to {MAX_EXPONENT}; `inf` is infinity",
            )
            value = Fraction(0)
        return tree.Number(text=text, value=value, span=span)

    def name(self, c: Children, span: Span) -> tree.Name:
        if c[0] in EXPRESSION_WORDS:
            help = "write `a if condition else b`" if c[0] in ("if", "else") else ""
            self.problem("E0106", f"`{c[0]}` is a word of expressions, not a value", span, help)
        return tree.Name(id=str(c[0]), span=span)

    def paren(self, c: Children, span: Span) -> tree.Paren:
        return tree.Paren(inner=c[0], span=span)

    def table(self, c: Children, span: Span) -> tree.Table:
        return tree.Table(items=tuple(c), span=span)

    def call(self, c: Children, span: Span) -> tree.Call:
        positional: list[Any] = []
        keywords: list[tree.Keyword] = []
        clauses: dict[str, Any] = {}
        for part in c[1:]:
            if isinstance(part, dict):
                clauses.update(part)
            else:
                self.sort_arguments(part, positional, keywords)
        return tree.Call(
            function=str(c[0]),
            function_span=self.span(c[0]),
            arguments=tuple(positional),
            keywords=tuple(keywords),
            span=span,
            **clauses,
        )

    def sort_arguments(self, part: tuple[Any, ...], positional: list[Any], keywords: list[tree.Keyword]) -> None:
        for argument in part:
            if not isinstance(argument, tree.Keyword):
                if keywords:
                    self.problem(
                        "E0117",
                        f"an argument by position after `{keywords[-1].name} = ...`",
                        argument.span,
                        "arguments by position stand before those by keyword",
                    )
                positional.append(argument)
            elif any(argument.name == k.name for k in keywords):
                self.problem("E0117", f"`{argument.name}` is given twice", argument.span, "remove one of the two")
            else:
                keywords.append(argument)

    def keyword_argument(self, c: Children, span: Span) -> tree.Keyword:
        return tree.Keyword(name=str(c[0]), value=c[1], span=span)

    def over(self, c: Children, span: Span) -> dict[str, Any]:
        return {"over": c[0], "direction": c[1] if len(c) > 1 else None}

    def where(self, c: Children, span: Span) -> dict[str, Any]:
        return {"where": c[0]}

    def otherwise(self, c: Children, span: Span) -> dict[str, Any]:
        return {"otherwise": c[0]}

    # ------------------------------------------------------------------------------------------------ claims

    def claim(self, c: Children, span: Span) -> tree.Claim:
        negated = isinstance(c[0], Token)
        fields: dict[str, Any] = dict(c[1 if negated else 0])
        for name, value, place in c[2 if negated else 1 :]:
            if name in fields:
                said = name.replace("_", " ")
                self.problem("E0117", f"`{said}` stands twice in this claim", place, "join the conditions with `and`")
            fields[name] = value
        return tree.Claim(negated=negated, span=span, **fields, **self.trivia)

    def claim_bound(self, c: Children, span: Span) -> tree.Claim:
        place = 1 if isinstance(c[0], Token) else 0
        c[place] = {"kind": "bound", "expression": c[place]}
        return self.claim(c, span)

    def when(self, c: Children, span: Span) -> tuple[str, Any, Span]:
        return ("when", c[0], span)

    def on(self, c: Children, span: Span) -> tuple[str, Any, Span]:
        return ("on", c[0], span)

    def at_defaults(self, c: Children, span: Span) -> tuple[str, Any, Span]:
        return ("at_defaults", True, span)

    def target(self, c: Children, span: Span) -> dict[str, Any]:
        return {"of": str(c[0])}

    def limit(self, c: Children, span: Span) -> dict[str, Any]:
        return {"op": str(c[0]), "bound": c[1]}

    def norm(self, c: Children, span: Span) -> dict[str, Any]:
        return {"norm": str(c[-1])}

    def link(self, c: Children, span: Span) -> dict[str, Any]:
        return {"link": c[-1]}

    def fields(self, kind: str, c: Children, **given: Any) -> dict[str, Any]:
        """The fields of a claim: what is given, names as its inputs, and the dictionaries of optional parts."""
        out: dict[str, Any] = {"kind": kind, **given}
        for part in c:
            if isinstance(part, dict):
                out.update(part)
            elif isinstance(part, tuple):
                out["inputs"] = part
        return out

    def property_word(self, c: Children, span: Span) -> dict[str, Any]:
        return self.fields("word", c, word=c[0])

    property_flag = property_word

    def property_constant(self, c: Children, span: Span) -> dict[str, Any]:
        return self.fields(c[0], c)

    property_symmetry = property_constant

    def property_monotone(self, c: Children, span: Span) -> dict[str, Any]:
        return self.fields("monotone", c, word=c[0])

    def property_infimum(self, c: Children, span: Span) -> dict[str, Any]:
        return self.fields("infimum", c, op=str(c[1]), bound=c[2])

    def property_minimum(self, c: Children, span: Span) -> dict[str, Any]:
        return self.fields(c[0], c, at=c[-1])

    def property_invariant(self, c: Children, span: Span) -> dict[str, Any]:
        over = c[2][0] if len(c) > 2 else None
        return self.fields("invariant", c[:2], transform=c[0], over=over)

    def property_zero_gradient(self, c: Children, span: Span) -> dict[str, Any]:
        return self.fields("zero gradient", c, where=c[-1])

    def property_equal(self, c: Children, span: Span) -> dict[str, Any]:
        return self.fields("equal", [], expression=c[0])

    def property_finite(self, c: Children, span: Span) -> dict[str, Any]:
        return self.fields("finite", c, word=c[-1])
