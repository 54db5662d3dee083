"""Text to syntax tree: logical lines, blocks by indentation, each statement by the grammar.

`parse` gives the tree of all statements that could be read, and the first error of each of the others. It never raises.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lark import Token, Tree
from lark.exceptions import UnexpectedInput

from lossdsl.diagnostics import NOWHERE, Diagnostic, Source, Span
from lossdsl.syntax import tree
from lossdsl.syntax.build import Builder
from lossdsl.syntax.explain import explain, explain_characters
from lossdsl.syntax.grammar import GluedWords, parser
from lossdsl.syntax.lines import MAX_NESTING, Comment, Lexeme, LogicalLine, split
from lossdsl.syntax.recover import lost, sound_part
from lossdsl.syntax.source import MAX_BYTES

MAX_NODES = 10_000
MAX_LEXEMES = 3 * MAX_NODES  # of a statement: beyond it the tree cannot be within the limit
MAX_ERRORS = 100

IN_LOSS = (
    tree.Declaration,
    tree.AxisDeclaration,
    tree.Definition,
    tree.Update,
    tree.Report,
    tree.Return,
    tree.Def,
    tree.Claim,
)
IN_DEF = (tree.AxisDeclaration, tree.Definition, tree.Return, tree.Def)
AT_TOP = (tree.Loss, tree.Def, tree.Use)

Paragraphs = tuple[tuple[str, ...], ...]


def parse(source: Source) -> tuple[tree.Module, list[Diagnostic]]:
    """The module that `source` spells, and what is wrong with it, in the order of the text.

    With an error among the diagnostics the module holds only the statements that could be read. Never raises.
    """
    size = len(source.text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        too_large = Diagnostic("E0701", f"the file has {size} bytes", NOWHERE, f"a file has at most {MAX_BYTES} bytes")
        return tree.Module(items=()), [too_large]
    return _FileParser(source).run()


def readable_part(module: tree.Module) -> tree.Module:
    """The losses and functions without an error in them or in what they use: those about which more can be said.

    Without this, every use of a definition that could not be read would be reported as an unknown name.
    """
    unread = set(module.unread)
    items = [item for item in module.items if _defined(item) not in unread]
    while True:
        kept = [item for item in items if not unread & _called(item)]
        if len(kept) == len(items):
            return replace(module, items=tuple(kept))
        unread |= {_defined(item) for item in items if item not in kept}
        items = kept


def sound_parts(module: tree.Module) -> tree.Module | None:
    """The losses with unread statements, without all that depends on these, and whatever they may call; None if there
    are none. Only errors of the statements that are left mean something: what is missing may be in the unread ones."""
    unread: dict[str, list[tree.Lost]] = {}
    for one in module.lost:
        unread.setdefault(one.loss, []).append(one)
    readable = readable_part(module)
    broken = frozenset(module.unread) | {_defined(i) for i in module.items if i not in readable.items}
    sound = [
        sound_part(item, unread[item.name.name], broken - {item.name.name})
        for item in module.items
        if isinstance(item, tree.Loss) and item.name.name in unread
    ]
    return replace(readable, items=(*readable.items, *sound)) if sound else None


def _defined(item: tree.Statement) -> str:
    match item:
        case tree.Loss() | tree.Def():
            return item.name.name
        case tree.Use():
            return item.alias.name if item.alias is not None else item.path[-1]
    return ""


def _called(item: tree.Statement) -> set[str]:
    found: set[str] = set()
    stack: list[Any] = [item]
    while stack:
        value = stack.pop()
        if isinstance(value, tuple):
            stack.extend(value)
        elif isinstance(value, tree.Node):
            if isinstance(value, tree.Call):
                found.add(value.function)
            stack.extend(getattr(value, name) for name in _child_fields(value))
    return found


# ---------------------------------------------------------------------------------------------------- statements


@dataclass(frozen=True, slots=True)
class _Failure:
    """Where the grammar gave up: the index of the lexeme (past the end: nothing more), and what could stand there."""

    index: int
    expected: frozenset[str]


def is_definition(words: list[Lexeme]) -> bool:
    """Whether a line begins `name =`, `name, name =` or `name[...] =`: a definition, whatever the names are."""
    if not words or words[0].kind != "name":
        return False
    if len(words) > 1 and words[1].text == "[":
        depth = 0
        for k, word in enumerate(words):
            depth += (word.kind == "open") - (word.kind == "close")
            if word.kind == "close" and depth == 0:
                return len(words) > k + 1 and words[k + 1].text == "="
        return False
    k = 1
    while len(words) > k + 1 and words[k].text == "," and words[k + 1].kind == "name":
        k += 2
    return len(words) > k and words[k].text == "="


def _run(source: Source, line: LogicalLine, start: str) -> Tree[Token] | _Failure:
    first = line.lexemes[0]
    try:
        return parser().parse(source.text[first.start : line.lexemes[-1].end], start=start)
    except UnexpectedInput as error:
        expected = (
            getattr(error, "accepts", None) or getattr(error, "expected", None) or getattr(error, "allowed", None)
        )
        token = getattr(error, "token", None)
        at_end = token is not None and token.type == "$END"
        position = len(source.text) if at_end or error.pos_in_stream is None else first.start + error.pos_in_stream
        return _Failure(_index(line, position), frozenset(expected or ()))
    except GluedWords as error:
        return _Failure(_index(line, first.start + (error.token.start_pos or 0)), frozenset())


def _index(line: LogicalLine, position: int) -> int:
    for k, word in enumerate(line.lexemes):
        if word.start <= position < word.end:
            return k
    return len(line.lexemes)


def raw_tree(source: Source, line: LogicalLine) -> Tree[Token] | _Failure:
    """What the grammar makes of a line, from the start that its first words ask for."""
    if is_definition(line.lexemes):
        return _run(source, line, "definition")
    if line.lexemes[0].text != "claim":
        return _run(source, line, "stmt")
    bound = _run(source, line, "bound_claim")
    if not isinstance(bound, _Failure):
        return bound
    result = _run(source, line, "stmt")
    return bound if isinstance(result, _Failure) and bound.index > result.index else result


def parse_statement(
    source: Source, line: LogicalLine, trivia: dict[str, Any]
) -> tuple[tree.Statement | None, list[Diagnostic]]:
    """The node of one logical line, or what is wrong with it."""
    if line.error is not None:
        return None, [line.error]
    words = line.lexemes
    bad = explain_characters(words)
    if bad is not None:
        return None, [bad]
    if len(words) > MAX_LEXEMES:
        return None, [_too_many(words[0].span)]
    if words[0].text == "claim" and not is_definition(words):
        trivia = {**trivia, "text": _written(source, words[1:])}
    result = raw_tree(source, line)
    if isinstance(result, _Failure):
        return None, [explain(words, result.index, result.expected)]
    builder = Builder(words[0].line, words[0].column, trivia)
    node: tree.Statement = builder.build(result)
    return node, builder.problems


def _written(source: Source, words: list[Lexeme]) -> str:
    """The source of some lexemes in one line: white space and comments between two of them become one space."""
    out = ""
    for previous, word in zip([None, *words], words, strict=False):
        out += (" " if previous is not None and previous.end < word.start else "") + word.text
    return out


def _too_many(span: Span) -> Diagnostic:
    return Diagnostic(
        "E0703", f"the file has more than {MAX_NODES} nodes up to here", span, "split it into several files"
    )


_CHILDREN: dict[str, tuple[str, ...]] = {}


def _child_fields(node: tree.Node) -> tuple[str, ...]:
    kind = type(node).__name__
    if kind not in _CHILDREN:
        _CHILDREN[kind] = tuple(f.name for f in fields(node) if f.compare)
    return _CHILDREN[kind]


def measure(root: tree.Node) -> tuple[int, int, tree.Node]:
    """The number of nodes below and including `root`, its depth, and a deepest node."""
    count, depth, deepest = 0, 0, root
    stack: list[tuple[Any, int]] = [(root, 1)]
    while stack:
        value, level = stack.pop()
        if isinstance(value, tuple):
            stack.extend((item, level) for item in value)
        elif isinstance(value, tree.Node):
            count += 1
            if level > depth:
                depth, deepest = level, value
            stack.extend((getattr(value, name), level + 1) for name in _child_fields(value))
    return count, depth, deepest


# -------------------------------------------------------------------------------------------------------- blocks


@dataclass(slots=True)
class _Block:
    """An open block: its header's node (None for the file and for a header that could not be read)."""

    kind: str  # "file" | "loss" | "def"
    header: tree.Loss | tree.Def | None
    indent: int  # of the header; -1 for the file
    span: Span
    body_indent: int | None = None
    odd_indent: int | None = None  # reported already
    body: list[tree.Statement] = field(default_factory=list)
    docstring: str | None = None
    empty: bool = True
    unread: bool = False  # the header had an error, so the block is read but not kept


class _FileParser:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Diagnostic] = []
        self.blocks = [_Block("file", None, -1, NOWHERE)]
        self.tops: list[tuple[int, frozenset[str]]] = []  # first line and names of what stands at the top
        self.nodes = 0
        self.carried: list[Comment] = []  # comments around a docstring, given to the next statement
        self.outside_reported = False
        self.tabs_reported = False
        self.lost: dict[int, tree.Lost] = {}  # by the line of an unread statement directly in a loss
        self.previous: LogicalLine | None = None

    def run(self) -> tuple[tree.Module, list[Diagnostic]]:
        lines = split(self.source)
        if not lines.lines:
            self.problem("E0805", "there is nothing in this file", NOWHERE, "begin with `loss name:`")
        for line in lines.lines:
            self.statement(line)
            if self.nodes > MAX_NODES:
                self.problems.append(_too_many(line.lexemes[0].span))
                break
            if len(self.problems) > MAX_ERRORS:
                break
        rest = self.carried + lines.closing
        previous = lines.last_line
        while len(self.blocks) > 1:
            rest, previous = self.close(rest, previous)
        closing = paragraphs(rest, previous)
        self.problems.sort(key=lambda d: d.span)
        module = tree.Module(
            items=tuple(self.blocks[0].body), closing=closing, unread=self.unread(), lost=self.readable_apart()
        )
        if len(self.problems) > MAX_ERRORS:
            place = self.problems[MAX_ERRORS].span
            self.problems[MAX_ERRORS:] = [Diagnostic("E0706", "too many errors; the rest is not shown", place)]
        return module, self.problems

    def problem(self, code: str, message: str, span: Span, help: str = "") -> None:
        self.problems.append(Diagnostic(code, message, span, help))

    def unread(self) -> frozenset[str]:
        """The names of what has an error in it."""
        starts = [line for line, _ in self.tops]
        broken = {bisect_right(starts, problem.span.line) - 1 for problem in self.problems}
        return frozenset[str]().union(*(self.tops[k][1] for k in broken if k >= 0))

    def readable_apart(self) -> tuple[tree.Lost, ...]:
        """The unread statements of the losses in which nothing else is wrong."""
        starts = [line for line, _ in self.tops]
        other = {bisect_right(starts, p.span.line) for p in self.problems if p.span.line not in self.lost}
        return tuple(one for line, one in sorted(self.lost.items()) if bisect_right(starts, line) not in other)

    # ---- one line

    def statement(self, line: LogicalLine) -> None:
        words = line.lexemes
        span = words[0].span
        comments, previous = self.carried + line.above, line.previous_line
        self.carried = []
        while len(self.blocks) > 1 and line.indent <= self.blocks[-1].indent and not self.adopts(line):
            comments, previous = self.close(comments, previous)
        block = self.blocks[-1]
        if block.kind == "file":
            names = [word.text for word in words if word.kind == "name"]
            self.tops.append((words[0].line, frozenset(names[1:2] if names[0:1] in (["loss"], ["def"]) else names)))
        if words[0].kind == "doc" and len(words) == 1:
            self.carried = comments + line.inside
            self.docstring(block, words[0])
            return
        if self.misplaced_indent(line, block):
            self.previous = line
            return
        trivia = trivia_of(line, comments, previous)
        node, problems = parse_statement(self.source, line, trivia)
        self.problems += problems
        self.previous = line
        block.empty = False
        if node is not None:
            count, depth, deepest = measure(node)
            if depth <= MAX_NESTING:
                self.nodes += count
            else:
                self.problem(
                    "E0702",
                    f"operators are nested more than {MAX_NESTING} deep",
                    deepest.span,
                    "give inner parts a name of their own",
                )
                node = None
        if (node is None or problems) and isinstance(block.header, tree.Loss):
            for number in range(span.line, line.last_line + 1):
                self.lost[number] = lost(block.header.name.name, words, is_definition(words))
        self.place(line, node, block, span)

    def place(self, line: LogicalLine, node: tree.Statement | None, block: _Block, span: Span) -> None:
        """Put a statement into its block, or open the block that it heads."""
        words = line.lexemes
        named = len(words) > 1 and words[1].kind == "name"
        if words[0].text == "loss" and not is_definition(words) and (named or block.kind == "file"):
            if block.kind != "file":
                self.outside_reported = True
                self.tops.append((words[0].line, self.tops[-1][1] | {words[1].text}))
                self.problem("E0109", "a loss cannot stand inside another block", span, "write it at the left margin")
                while len(self.blocks) > 1:
                    self.close([], 0)
            header = node if isinstance(node, tree.Loss) else None
            self.blocks.append(_Block("loss", header, line.indent, span, unread=header is None))
            return
        if isinstance(node, tree.Def) and node.value is None:
            self.blocks.append(_Block("def", node, line.indent, span))
            return
        if node is None:
            if words[0].text == "def" and not any(word.text == "=" for word in words):
                self.blocks.append(_Block("def", None, line.indent, span, unread=True))
            return
        allowed: tuple[type[tree.Statement], ...] = {"file": AT_TOP, "loss": IN_LOSS, "def": IN_DEF}[block.kind]
        if isinstance(node, allowed):
            block.body.append(node)
            if block.kind == "file":
                self.outside_reported = False
        elif block.kind == "file":
            if not self.outside_reported:
                self.problem(
                    "E0109", "this statement stands outside of any loss", span, "indent it below its `loss name:` line"
                )
            self.outside_reported = True
        else:
            where = "a loss" if block.kind == "loss" else "a function"
            self.problem("E0109", f"`{words[0].text}` cannot stand inside {where}", span)

    def adopts(self, line: LogicalLine) -> bool:
        """A loss without indented statements takes those at its own indentation: one error, and they are read."""
        block = self.blocks[-1]
        if block.kind != "loss" or line.indent != block.indent:
            return False
        first = line.lexemes[0]
        if not is_definition(line.lexemes) and first.text in ("loss", "def", "use"):
            return False
        if block.body_indent is None:
            self.problem("E0108", "the statements of a loss are indented", first.span, "indent them by four spaces")
            block.body_indent = line.indent
            block.empty = False
        return block.body_indent == block.indent

    def misplaced_indent(self, line: LogicalLine, block: _Block) -> bool:
        """Report a line that is not as deep as its block's first one; True if that explains all that is wrong."""
        first = line.lexemes[0]
        if self.previous is not None:
            before = self.previous
            wide, narrow = line.indent - before.indent, line.narrow - before.narrow
            if not self.tabs_reported and ((wide > 0) != (narrow > 0) or (wide < 0) != (narrow < 0)):
                self.tabs_reported = True
                self.problem(
                    "E0108", "tabs and spaces are mixed in the indentation", first.span, "indent with spaces only"
                )
                return False
        if block.kind == "file":
            expected = 0
        elif block.body_indent is None:
            block.body_indent = line.indent
            return False
        else:
            expected = block.body_indent
        if line.indent == expected:
            block.odd_indent = None
            return False
        if block.kind == "file" and self.outside_reported:
            return False
        if line.indent > expected and first.kind in ("op", "close", "open", "number"):
            self.problem(
                "E0108",
                "this line does not continue the one above",
                first.span,
                "a line is continued inside brackets, or after an operator at its end",
            )
            return True
        if line.indent != block.odd_indent:
            block.odd_indent = line.indent
            side = "deeper" if line.indent > expected else "less deep"
            self.problem(
                "E0108",
                f"this line is indented {side} than the statements before it",
                Span(first.line, 1, first.line, first.column),
                f"all statements of a block stand equally deep; here {expected} columns",
            )
        return False

    def docstring(self, block: _Block, word: Lexeme) -> None:
        lines = word.text.split("\n")
        last = len(lines[-1]) + (word.column if len(lines) == 1 else 1)
        span = Span(word.line, word.column, word.line + len(lines) - 1, last)
        if not is_closed(word.text):
            self.problem("E0111", "a docstring is never closed", word.span, 'close it with `"""`')
        elif block.kind != "loss" or not block.empty or block.docstring is not None:
            help = "a docstring stands directly below its `loss` line; comments start with `#`"
            self.problem("E0111", "a docstring cannot stand here", span, help)
        if block.kind == "loss" and block.docstring is None:
            block.docstring = clean_docstring(word.text[3:-3])

    # ---- ends of blocks

    def close(self, comments: list[Comment], previous: int) -> tuple[list[Comment], int]:
        """End the innermost block; comments that stand as deep as it are its own. Returns the others."""
        block = self.blocks.pop()
        depth = block.body_indent if block.body_indent is not None else block.indent + 1
        own = 0
        while own < len(comments) and comments[own].indent >= min(depth, block.indent + 1):
            own += 1
        closing = paragraphs(comments[:own], previous)
        if own:
            previous = comments[own - 1].line
        if block.empty and not block.body and not block.unread:
            kind = "loss" if block.kind == "loss" else "function"
            self.problem("E0110", f"this {kind} has no statements", block.span, "write its statements below, indented")
        if block.header is None:
            return comments[own:], previous
        parent = self.blocks[-1]
        end = block.body[-1].span if block.body else block.header.span
        span = block.header.span.to(end)
        finished: tree.Statement
        if isinstance(block.header, tree.Loss):
            finished = replace(
                block.header, body=tuple(block.body), docstring=block.docstring, closing=closing, span=span
            )
        else:
            finished = replace(block.header, body=tuple(block.body), closing=closing, span=span)
        parent.body.append(finished)
        return comments[own:], previous


def is_closed(docstring: str) -> bool:
    return len(docstring) >= 6 and docstring.endswith('"""')


def trivia_of(line: LogicalLine, comments: list[Comment], previous: int) -> dict[str, Any]:
    """The comments and empty lines around a statement, as keyword arguments of its node."""
    first = line.lexemes[0].line
    blank, groups = _groups(comments, previous)
    leading: tuple[str, ...] = ()
    if groups and comments[-1].line + 1 >= first:
        leading = groups.pop()
    elif not comments:
        blank = first > previous + 1
    leading += tuple(comment.text for comment in line.interior)
    blank = blank and previous > 0
    return {"detached": tuple(groups), "leading": leading, "trailing": line.trailing, "blank_before": blank}


def _groups(comments: list[Comment], previous: int) -> tuple[bool, list[tuple[str, ...]]]:
    """Whether an empty line stands before the first comment, and the comments cut at empty lines."""
    groups: list[list[str]] = []
    last = previous
    for comment in comments:
        if not groups or comment.line > last + 1:
            groups.append([])
        groups[-1].append(comment.text)
        last = comment.line
    return bool(comments) and comments[0].line > previous + 1, [tuple(group) for group in groups]


def paragraphs(comments: list[Comment], previous: int) -> Paragraphs:
    """Comments at the end of a block; an empty first paragraph stands for an empty line before them."""
    blank, groups = _groups(comments, previous)
    return ((), *groups) if blank and previous > 0 else tuple(groups)


def clean_docstring(raw: str) -> str:
    """The text of a docstring without what its place in the file added: common indentation, spaces at line ends, and
    empty lines around it. What stands behind the opening quotes has no indentation."""
    lines = [line.rstrip(" \t\r") for line in raw.expandtabs(8).split("\n")]
    measured = [len(line) - len(line.lstrip(" ")) for line in lines[1:] if line]
    margin = min(measured, default=0)
    lines = [lines[0].lstrip(" ")] + [line[margin:] for line in lines[1:]]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines)
