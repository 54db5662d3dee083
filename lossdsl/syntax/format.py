"""Canonical text of a syntax tree; there are no options.

Four spaces of indentation, one space around signs (none around `^`), one empty line around losses and blocks of the
file, lines up to 120 columns where a bracket or an operator allows a break. Comments stay above, behind or below what
they were written at; a comment inside a statement moves above it, because the statement is laid out anew.

For every tree of a source without errors: formatting twice changes nothing more, and the text parses to an equal tree.
"""

from __future__ import annotations

from collections.abc import Iterable

from lossdsl.syntax import tree
from lossdsl.syntax.layout import LINE, Doc, bracketed, concat, fill, flush, group, nest, render, text

LIMIT = 120
INDENT = 4

# How tightly an expression binds, weakest first; the names are those of the grammar's rules.
EXPR, OR, AND, NOT, COMPARE, SUM, TERM, UNARY, POWER, POSTFIX = range(10)
BINARY = {
    "or": OR, "and": AND, "+": SUM, "-": SUM, "*": TERM, "/": TERM, "//": TERM, "%": TERM, "^": POWER, "**": POWER,
}  # fmt: skip

AnyAxis = tree.Axis | tree.Rest | tree.FixedAxis


def format_module(module: tree.Module) -> str:
    """The canonical text of `module`, ending in a newline; the empty text for an empty module without comments."""
    out: list[str] = []
    previous: tree.Statement | None = None
    for item in module.items:
        apart = previous is not None and (item.blank_before or _is_block(item) or _is_block(previous))
        out += _statement(item, 0, apart)
        previous = item
    out += _closing(module.closing, 0, bool(out))
    return "".join(line.rstrip() + "\n" for line in out)


def format_expression(expression: tree.Expr) -> str:
    """One expression on one line."""
    return render(_doc(expression), 0, 1 << 30)


# ---------------------------------------------------------------------------------------------------- statements


def _is_block(item: tree.Statement) -> bool:
    return isinstance(item, tree.Loss) or (isinstance(item, tree.Def) and item.value is None)


def _comment(words: str) -> str:
    if not words:
        return "#"
    return f"#{words}" if words[0] in "#!" else f"# {words}"


def _comments(lines: Iterable[str], indent: int) -> list[str]:
    return [" " * indent + _comment(line) for line in lines]


def _closing(paragraphs: tuple[tuple[str, ...], ...], indent: int, after_something: bool) -> list[str]:
    out: list[str] = []
    for k, paragraph in enumerate(paragraphs):
        if k and (out or after_something):
            out.append("")
        out += _comments(paragraph, indent)
    return out


def _statement(node: tree.Statement, indent: int, apart: bool) -> list[str]:
    out = [""] if apart else []
    for paragraph in node.detached:
        out += [*_comments(paragraph, indent), ""]
    out += _comments(node.leading, indent)
    out += render(_statement_doc(node), indent, LIMIT).split("\n")
    if node.trailing is not None:
        out[-1] += "  " + _comment(node.trailing)
    if isinstance(node, tree.Loss):
        inside = indent + INDENT
        if node.docstring is not None:
            out += _docstring(node.docstring, inside)
        out += _body(node.body, inside, node.docstring is not None)
        out += _closing(node.closing, inside, True)
    elif isinstance(node, tree.Def) and node.value is None:
        out += _body(node.body, indent + INDENT, False)
        out += _closing(node.closing, indent + INDENT, True)
    return out


def _body(body: tuple[tree.Statement, ...], indent: int, after_docstring: bool) -> list[str]:
    out: list[str] = []
    for k, node in enumerate(body):
        out += _statement(node, indent, node.blank_before and (k > 0 or after_docstring))
    return out


def _docstring(words: str, indent: int) -> list[str]:
    margin = " " * indent
    lines = words.split("\n")
    deeper = [line for line in lines[1:] if line]
    if words.startswith(" ") or (deeper and all(line.startswith(" ") for line in deeper)):
        # Only a text that begins on a line of its own keeps the indentation of its lines relative to each other.
        return [f'{margin}"""', *(margin + line for line in lines), f'{margin}"""']
    if len(lines) == 1:
        return [f'{margin}"""{words}{" " if words.endswith(chr(34)) else ""}"""']
    return [f'{margin}"""{lines[0]}', *(margin + line for line in lines[1:]), f'{margin}"""']


def _statement_doc(node: tree.Statement) -> Doc:
    match node:
        case tree.Loss():
            return text(f"loss {node.name.name}:")
        case tree.Use():
            return text("use " + ".".join(node.path) + (f" as {node.alias.name}" if node.alias else ""))
        case tree.Def():
            return _def_doc(node)
        case tree.Declaration():
            parts: list[Doc | str] = [f"{node.keyword} ", _idents(node.names), ": ", _type(node.type)]
            if node.defaults:
                parts += [" = ", _commas([_doc(value) for value in node.defaults])]
            return concat(*parts)
        case tree.AxisDeclaration():
            return concat("axis ", _idents(node.names), " = ", _doc(node.extent))
        case tree.Definition():
            return concat(_idents(node.names), _formals(node.axes), " = ", _doc(node.value))
        case tree.Update():
            return concat(f"update {node.name.name}", _formals(node.axes), " = ", _doc(node.value))
        case tree.Report():
            return concat(f"report {node.name.name} = ", _doc(node.value))
        case tree.Return():
            return concat("return ", _commas([_doc(value) for value in node.values]))
        case tree.Claim():
            return concat("claim ", *_claim(node))
    raise TypeError(f"no text for a {type(node).__name__}")


def _def_doc(node: tree.Def) -> Doc:
    arguments = [
        text(argument.name) if argument.type is None else concat(f"{argument.name}: ", _type(argument.type))
        for argument in node.arguments
    ]
    head = concat(f"def {node.name.name}", bracketed("(", _separated(arguments), ")"))
    return concat(head, ":") if node.value is None else concat(head, " = ", _doc(node.value))


def _separated(items: list[Doc]) -> list[Doc]:
    return [concat(item, ",") for item in items[:-1]] + items[-1:]


def _commas(items: list[Doc]) -> Doc:
    return fill(_separated(items))


def _idents(names: tuple[tree.Ident, ...]) -> Doc:
    return _commas([text(ident.name) for ident in names])


def _axis(axis: AnyAxis) -> str:
    match axis:
        case tree.Axis():
            return axis.name
        case tree.FixedAxis():
            return str(axis.extent)
    return "..."


def _axes(axes: Iterable[AnyAxis]) -> str:
    return ", ".join(_axis(axis) for axis in axes)


def _formals(axes: tuple[AnyAxis, ...] | None) -> str:
    return "" if axes is None else f"[{_axes(axes)}]"


def _type(node: tree.Type) -> Doc:
    parts: list[Doc | str] = [node.kind, _formals(node.axes)]
    for domain in node.domains:
        match domain:
            case tree.CompareWith():
                parts += [f" {domain.op} ", _doc(domain.bound, SUM)]
            case tree.Between():
                parts += [" in ", "(" if domain.lower_open else "[", _doc(domain.lower, SUM), ", "]
                parts += [_doc(domain.upper, SUM), ")" if domain.upper_open else "]"]
            case tree.Of():
                parts += [" of ", _doc(domain.of, SUM)]
                parts += [] if domain.otherwise is None else [" or ", _doc(domain.otherwise, SUM)]
            case tree.Along():
                parts.append(f" over {_axes(domain.axes)}")
    return concat(*parts)


# -------------------------------------------------------------------------------------------------------- claims


def _claim(node: tree.Claim) -> list[Doc | str]:
    of = f" of {node.of}" if node.of is not None else ""
    inputs = " in " + ", ".join(ident.name for ident in node.inputs) if node.inputs else ""
    parts: list[Doc | str] = ["not "] if node.negated else []
    match node.kind:
        case "bound" if node.expression is not None:
            parts.append(_doc(node.expression, COMPARE))
        case "word" | "monotone":
            parts.append(f"{node.word}{of}{inputs}")
            parts += [] if node.link is None else [" with link ", _doc(node.link)]
        case "infimum" if node.bound is not None:
            parts += [f"infimum{of} {node.op} ", _doc(node.bound, SUM)]
        case "minimum" | "unique minimum" if node.at is not None:
            parts += [f"{node.kind}{of} at ", _doc(node.at, OR)]
        case "invariant":
            over = "" if node.over is None else f" over {_axes(node.over)}"
            names = ", ".join(ident.name for ident in node.inputs)
            parts.append(f"invariant under {node.transform} of {names}{over}")
        case "zero gradient" if node.where is not None:
            parts += [f"zero gradient{of}{inputs} where ", _doc(node.where, OR)]
        case "equal" if node.expression is not None:
            parts += ["equal to ", _doc(node.expression)]
        case "finite":
            parts.append(f"finite{of} in {node.word}")
        case _:
            parts.append(f"{node.kind}{of}{inputs}")
            parts += [] if node.bound is None else [f" {node.op} ", _doc(node.bound, SUM)]
            parts += [] if node.norm is None else [f" in {node.norm}"]
    for word, condition in (("when", node.when), ("on", node.on)):
        if condition is not None:
            parts += [f" {word} ", _doc(condition, OR)]
    if node.at_defaults:
        parts.append(" at defaults")
    return parts


# --------------------------------------------------------------------------------------------------- expressions


def _strength(node: tree.Expr) -> int:
    match node:
        case tree.IfElse():
            return EXPR
        case tree.Binary():
            return BINARY[node.op]
        case tree.Unary():
            return NOT if node.op == "not" else UNARY
        case tree.Compare():
            return COMPARE
    return POSTFIX


def _doc(node: tree.Expr, least: int = EXPR) -> Doc:
    """The document of an expression, in brackets where it binds less tightly than its place asks for."""
    doc = _bare(node)
    return doc if _strength(node) >= least else concat("(", doc, ")")


def _bare(node: tree.Expr) -> Doc:
    match node:
        case tree.Number():
            return text(node.text)
        case tree.Name():
            return text(node.id)
        case tree.Paren():
            return bracketed("(", [flush(_doc(node.inner))], ")")
        case tree.Unary():
            return concat("not " if node.op == "not" else "-", _doc(node.operand, _strength(node)))
        case tree.Binary() if BINARY[node.op] == POWER:
            return concat(_doc(node.left, POSTFIX), node.op, _doc(node.right, UNARY))
        case tree.Binary():
            return _chain(node)
        case tree.Compare():
            last = _doc(node.operands[-1], SUM)
            heads = zip(node.operands, node.ops, strict=False)
            return fill([*(concat(_doc(operand, SUM), f" {op}") for operand, op in heads), last])
        case tree.IfElse():
            return _if_else(node)
        case tree.Access():
            items = _separated([_index(item) for item in node.items])
            if node.otherwise is not None:
                items.append(concat("else ", _doc(node.otherwise)))
            return concat(_doc(node.base, POSTFIX), bracketed("[", items, "]"))
        case tree.Call():
            return _call(node)
        case tree.Table():
            return bracketed("[", _separated([_doc(item) for item in node.items]), "]")
    raise TypeError(f"no text for a {type(node).__name__}")


def _chain(node: tree.Binary) -> Doc:
    """`a + b - c`, broken after its signs."""
    strength = BINARY[node.op]
    tail: list[tuple[str, tree.Expr]] = []
    left: tree.Expr = node
    while isinstance(left, tree.Binary) and BINARY[left.op] == strength:
        tail.append((left.op, left.right))
        left = left.left
    items = [_doc(left, strength)]
    for op, right in reversed(tail):
        items[-1] = concat(items[-1], f" {op}")
        items.append(_doc(right, strength + 1))
    return fill(items)


def _if_else(node: tree.IfElse) -> Doc:
    """`a if c else b if d else e`, broken after each `else`, and after an `if` whose condition has no room."""
    parts: list[Doc | str] = []
    rest: tree.Expr = node
    while isinstance(rest, tree.IfElse):
        head = fill([concat(_doc(rest.value, OR), " if"), concat(_doc(rest.condition, OR), " else")])
        parts += [flush(head), LINE]
        rest = rest.otherwise
    return nest(group(concat(*parts, _doc(rest))))


def _index(item: tree.ByName | tree.Rest | tree.Expr) -> Doc:
    match item:
        case tree.ByName():
            return concat(f"{item.axis} = ", _doc(item.index))
        case tree.Rest():
            return text("...")
    return _doc(item)


def _call(node: tree.Call) -> Doc:
    arguments = [_doc(argument) for argument in node.arguments]
    arguments += [concat(f"{keyword.name} = ", _doc(keyword.value)) for keyword in node.keywords]
    items = _separated(arguments)
    if node.over is not None:
        items.append(text(f"over {_axes(node.over)}" + (f" {node.direction}" if node.direction else "")))
    if node.where is not None:
        items.append(concat("where ", _doc(node.where, OR)))
    if node.otherwise is not None:
        items.append(concat("else ", _doc(node.otherwise)))
    return concat(node.function, bracketed("(", items, ")"))
