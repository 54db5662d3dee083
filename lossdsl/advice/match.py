"""Identities matched on the syntax tree, and their other side written in the words of the file.

A variable stands for any expression, and for the same one everywhere; sums and products are matched in both orders, and
a name that the loss defines is looked through. What is put in keeps the author's text: each variable is a slice of the
source, in parentheses where its operator would bind otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

from lossdsl.advice.identities import IDENTITIES, RANGE, Identity
from lossdsl.diagnostics import Source, Span
from lossdsl.syntax import tree
from lossdsl.syntax.parser import parse

_COMMUTATIVE = ("+", "*")
_POWERS = ("^", "**")
AXES = "axes"
_LEVELS = {"or": 1, "and": 2, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "^": 8, "**": 8}
_IF, _NOT, _COMPARE, _MINUS, _ATOM = 0, 3, 4, 7, 9


Bindings = Mapping[str, tree.Expr]
Definitions = Mapping[str, tree.Expr]  # the values of names that can be looked through


@dataclass(frozen=True)
class Match:
    """A place of the file that has the form of an identity."""

    identity: Identity
    span: Span
    bindings: Bindings
    replaced: tree.Expr
    bare: bool  # nothing around it could bind tighter than what is put in
    item: int  # which loss or function of the file it is in


def expression(text: str) -> tree.Expr:
    """An expression of the language, read alone. Raises ValueError for anything else."""
    module, problems = parse(Source("identity", f"def identity(x) = {text}\n"))
    item = module.items[0] if module.items else None
    if problems or not isinstance(item, tree.Def) or item.value is None:
        raise ValueError(f"not an expression: {text}")
    return item.value


@cache
def patterns() -> tuple[tuple[Identity, tree.Expr], ...]:
    """The identities with their left sides read, larger ones first."""
    read = [(i, expression(i.written)) for i in IDENTITIES]
    return tuple(sorted(read, key=lambda pair: -_size(pair[1])))


def _size(node: object) -> int:
    if isinstance(node, tuple):
        return sum(_size(n) for n in node)
    if not isinstance(node, tree.Node):
        return 0
    return 1 + sum(_size(getattr(node, f.name)) for f in fields(node) if f.name != "span")


def bare(node: tree.Expr) -> tree.Expr:
    while isinstance(node, tree.Paren):
        node = node.inner
    return node


def same(a: object, b: object) -> bool:
    """Equal up to parentheses and spans."""
    if isinstance(a, tree.Paren) or isinstance(b, tree.Paren):
        return same(bare(a) if isinstance(a, tree.Paren) else a, bare(b) if isinstance(b, tree.Paren) else b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, tree.Node) and type(a) is type(b):
        names = [f.name for f in fields(a) if f.name not in ("span", "function_span", "text")]
        return all(same(getattr(a, n), getattr(b, n)) for n in names)
    return a == b


# --------------------------------------------------------------------------------------------------- matching


def match(
    pattern: tree.Expr, node: tree.Expr, variables: Mapping[str, str], known: Bindings, defined: Definitions
) -> Iterator[dict[str, tree.Expr]]:
    """Every way in which the pattern is the node."""
    pattern, node = bare(pattern), bare(node)
    if isinstance(pattern, tree.Name) and pattern.id in variables:
        before = known.get(pattern.id)
        if before is None:
            yield {**known, pattern.id: node}
        elif same(before, node):
            yield dict(known)
        return
    if isinstance(node, tree.Name) and node.id in defined:
        rest = {k: v for k, v in defined.items() if k != node.id}
        yield from match(pattern, defined[node.id], variables, known, rest)
        return
    match pattern, node:
        case tree.Number(value=a), tree.Number(value=b):
            if a == b:
                yield dict(known)
        case tree.Unary(op=a, operand=p), tree.Unary(op=b, operand=n) if a == b:
            yield from match(p, n, variables, known, defined)
        case tree.Unary(op="-", operand=tree.Name(id=name)), _ if name in known:
            # -x, where x is known to be -u: u
            before = bare(known[name])
            if isinstance(before, tree.Unary) and before.op == "-" and same(before.operand, node):
                yield dict(known)
        case tree.Binary(op=a), tree.Binary(op=b) if a == b or (a in _POWERS and b in _POWERS):
            orders = [(node.left, node.right)] + ([(node.right, node.left)] if a in _COMMUTATIVE else [])
            for left, right in orders:
                for found in match(pattern.left, left, variables, known, defined):
                    yield from match(pattern.right, right, variables, found, defined)
        case tree.Call(), tree.Call() if pattern.function == node.function:
            yield from _call(pattern, node, variables, known, defined)
        case tree.Name(id=a), tree.Name(id=b) if a == b:
            yield dict(known)


def _call(
    pattern: tree.Call, node: tree.Call, variables: Mapping[str, str], known: Bindings, defined: Definitions
) -> Iterator[dict[str, tree.Expr]]:
    if len(pattern.arguments) != len(node.arguments) or pattern.keywords or node.keywords:
        return
    start = dict(known)
    if pattern.over is not None:  # `over axes`: whatever the clauses are, and the same everywhere
        before = start.get(AXES)
        if before is not None and not (isinstance(before, tree.Call) and _clauses(before) == _clauses(node)):
            return
        start[AXES] = node
    elif node.has_clauses:
        return
    found: Sequence[dict[str, tree.Expr]] = [start]
    for p, n in zip(pattern.arguments, node.arguments, strict=True):
        found = [more for one in found for more in match(p, n, variables, one, defined)]
    yield from found


def _clauses(node: tree.Call) -> tuple[object, ...]:
    return node.over, node.direction, node.where, node.otherwise


# --------------------------------------------------------------------------------------------------- places


def matches(module: tree.Module) -> list[Match]:
    """The places of a file that have the form of an identity, each with the largest that fits; an outer one stands before
    those inside of it."""
    found: list[Match] = []
    for item, values, defined in _values(module):
        for value in values:
            found += [replace(m, item=item) for m in _inside(value, defined, True)]
    return found


def _values(module: tree.Module) -> Iterator[tuple[int, list[tree.Expr], Definitions]]:
    """The expressions of each loss and function, with the names that can be looked through there."""
    for k, item in enumerate(module.items):
        if isinstance(item, tree.Loss):
            yield k, _expressions(item.body), _defined(item.body)
            for inner in item.body:
                if isinstance(inner, tree.Def):
                    yield from ((k, *found) for found in _of_function(inner))
        elif isinstance(item, tree.Def):
            yield from ((k, *found) for found in _of_function(item))


def _of_function(item: tree.Def) -> Iterator[tuple[list[tree.Expr], Definitions]]:
    if item.value is not None:
        yield [item.value], {}
    elif item.body:
        yield _expressions(item.body), _defined(item.body)


def _expressions(body: Sequence[tree.Statement]) -> list[tree.Expr]:
    out: list[tree.Expr] = []
    for s in body:
        match s:
            case tree.Definition() | tree.Update() | tree.Report():
                out.append(s.value)
            case tree.Return():
                out += s.values
    return out


def _defined(body: Sequence[tree.Statement]) -> Definitions:
    """Names with one definition, which reads nothing by a place of its own."""
    names: dict[str, tree.Expr] = {}
    for s in body:
        if isinstance(s, tree.Definition) and len(s.names) == 1:
            name = s.names[0].name
            if name not in names and not _mentions(s.value, name):
                names[name] = s.value
    return names


def _mentions(node: object, name: str) -> bool:
    if isinstance(node, tuple):
        return any(_mentions(n, name) for n in node)
    if not isinstance(node, tree.Node):
        return False
    if isinstance(node, tree.Name):
        return node.id == name
    return any(_mentions(getattr(node, f.name), name) for f in fields(node))


def _inside(node: tree.Expr, defined: Definitions, alone: bool) -> list[Match]:
    out: list[Match] = []
    if not isinstance(node, tree.Paren | tree.Name):
        for identity, pattern in patterns():
            seen = defined if identity.gains == RANGE else {}  # digits are worth no second copy of a definition
            bindings = next(match(pattern, node, identity.variables, {}, seen), None)
            if bindings is not None:
                out.append(Match(identity, node.span, bindings, node, alone, 0))
                break
    for child, lonely in _children(node):
        out += _inside(child, defined, lonely)
    return out


def _children(node: tree.Expr) -> Iterator[tuple[tree.Expr, bool]]:
    """The expressions inside, and whether brackets or commas already hold each together."""
    match node:
        case tree.Paren():
            yield node.inner, True
        case tree.Unary():
            yield node.operand, False
        case tree.Binary():
            yield node.left, False
            yield node.right, False
        case tree.Compare():
            for o in node.operands:
                yield o, False
        case tree.IfElse():
            yield node.value, False
            yield node.condition, False
            yield node.otherwise, False
        case tree.Call():
            for a in node.arguments:
                yield a, True
            for k in node.keywords:
                yield k.value, True
            for clause in (node.where, node.otherwise):
                if clause is not None:
                    yield clause, False
        case tree.Access():
            yield node.base, False
        case tree.Table():
            for i in node.items:
                yield i, True


# --------------------------------------------------------------------------------------------------- writing


class CannotWrite(Exception):
    """The other side cannot be written here; the message says why."""


def written(found: Match, source: Source) -> str:
    """The other side of the identity in the author's words. Raises CannotWrite."""
    words, level = _write(expression(found.identity.instead), found, source)
    if not found.bare and level < _level(found.replaced):
        words = f"({words})"
    if "#" in slice_of(source, found.span) or "#" in words:
        raise CannotWrite("a comment stands inside of the expression")
    return words


def _write(node: tree.Expr, found: Match, source: Source) -> tuple[str, int]:
    """Text and the level at which it binds."""

    def at(child: tree.Expr, level: int) -> str:
        words, own = _write(child, found, source)
        return words if own >= level else f"({words})"

    match node:
        case tree.Name(id=name) if name in found.identity.variables:
            bound = found.bindings[name]
            return slice_of(source, bound.span), _level(bound)
        case tree.Name():
            return node.id, _ATOM
        case tree.Number():
            return node.text, _ATOM
        case tree.Unary(operand=tree.Name(id=name)) if name in found.identity.variables:
            inner = bare(found.bindings[name])
            if isinstance(inner, tree.Unary) and inner.op == "-":
                return slice_of(source, inner.operand.span), _level(inner.operand)  # -(-u)
            return f"-{at(node.operand, _MINUS)}", _MINUS
        case tree.Unary():
            return f"-{at(node.operand, _MINUS)}", _MINUS
        case tree.Binary():
            level = _LEVELS[node.op]
            right = level + 1 if node.op in ("-", "/") else level
            return f"{at(node.left, level)} {node.op} {at(node.right, right)}", level
        case tree.Call(function="size"):
            return f"size({_single_axis(found)})", _ATOM
        case tree.Call():
            inside = ", ".join(at(a, _IF) for a in node.arguments)
            clauses = _clause_text(found, source) if node.over is not None else ""
            return f"{node.function}({inside}{clauses})", _ATOM
    raise CannotWrite(f"{type(node).__name__} in an identity")


def _clause_text(found: Match, source: Source) -> str:
    call = found.bindings[AXES]
    assert isinstance(call, tree.Call)
    if not call.has_clauses:
        return ""
    start = call.arguments[-1].span
    whole = slice_of(source, Span(start.end_line, start.end_column, call.span.end_line, call.span.end_column))
    if not whole.endswith(")"):
        raise CannotWrite("the clauses of the reduction")
    return whole[:-1].rstrip()


def _single_axis(found: Match) -> str:
    call = found.bindings[AXES]
    assert isinstance(call, tree.Call)
    if call.where is None and call.over is not None and len(call.over) == 1 and isinstance(call.over[0], tree.Axis):
        return call.over[0].name
    raise CannotWrite("the mean is not over one axis")


def _level(node: tree.Expr) -> int:
    match node:
        case tree.IfElse():
            return _IF
        case tree.Binary():
            return _LEVELS[node.op]
        case tree.Compare():
            return _COMPARE
        case tree.Unary():
            return _NOT if node.op == "not" else _MINUS
    return _ATOM


def slice_of(source: Source, span: Span) -> str:
    """The text of a span."""
    lines = source.text.split("\n")[span.line - 1 : span.end_line]
    if len(lines) == 1:
        return lines[0][span.column - 1 : span.end_column - 1]
    return "\n".join([lines[0][span.column - 1 :], *lines[1:-1], lines[-1][: span.end_column - 1]])
