"""Logical lines: where a statement begins and ends, before anything is parsed.

A logical line ends at a newline outside brackets, unless its last word or sign asks for more (an operator, `and`,
`or`, `not`, `if`, `else`, a comma). A bracket that is never closed is closed by force at the first line that is
indented no deeper than its statement and starts like a statement, so one slip costs one error. Brackets and `#` in
docstrings do not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lossdsl.diagnostics import Diagnostic, Source, Span

MAX_NESTING = 200
MAX_NAME = 64

CONTINUING = frozenset((*"+-*/%^=<>,", "//", "**", "<=", ">=", "==", "!=", "and", "or", "not", "if", "else", "\\"))
CLOSER = {"(": ")", "[": "]"}

_LEXEME = re.compile(
    r"""(?P<space>[ \t\r]+)|(?P<newline>\n)|(?P<comment>\#[^\n]*)|(?P<doc>\"\"\")
    |(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>[^\W\d]\w*)
    |(?P<op>\.\.\.|\.|(?!:=|[+*/-]=)(?:<=|>=|==|!=|//|\*\*|[-+*/%^=<>,:]))|(?P<open>[(\[])|(?P<close>[)\]])
    |(?P<bad>&&|\|\||[+*/-]=|:=|[^\n])""",
    re.VERBOSE,
)
_STATEMENT = re.compile(
    r"""(?: (?:input|param|learnable|state|axis|report|update|use|def|loss)[ \t]+[A-Za-z_]
        | return\b(?![ \t]*[=\[]) | claim[ \t]+[A-Za-z0-9_(]
        | [A-Za-z_]\w*(?:[ \t]*,[ \t]*[A-Za-z_]\w*)*[ \t]*=(?!=)
        | [A-Za-z_]\w*[ \t]*\[[^\n\[\]]*\][ \t]*=(?!=) )""",
    re.VERBOSE,
)
_STATEMENT_LINE = re.compile(r"^[ \t]*" + _STATEMENT.pattern, re.VERBOSE | re.MULTILINE)
_LOSS_LINE = re.compile(r"^loss[ \t]+[A-Za-z_]\w*[ \t]*:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A word, number, sign or docstring, and where it stands; `kind` is the group of the pattern above."""

    kind: str
    text: str
    start: int
    line: int
    column: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def span(self) -> Span:
        """Its place; of a docstring that of the opening quotes."""
        return Span(self.line, self.column, self.line, self.column + (3 if self.kind == "doc" else len(self.text)))


@dataclass(frozen=True, slots=True)
class Comment:
    """`text` is what follows `#`, without one leading space; `indent` is the width before it."""

    text: str
    line: int
    indent: int


@dataclass(slots=True)
class LogicalLine:
    """One statement as lexemes. `above` are the comment lines before it, `inside` those on its own lines.

    `indent` counts a tab up to the next multiple of eight, `narrow` as one column: where the two disagree about which
    of two lines is deeper, the file mixes tabs and spaces.
    """

    indent: int
    narrow: int
    above: list[Comment]
    previous_line: int  # the last line of what stood before; 0 at the start of the file
    lexemes: list[Lexeme] = field(default_factory=list)
    inside: list[Comment] = field(default_factory=list)
    error: Diagnostic | None = None
    last_line: int = 0

    def fail(self, code: str, message: str, span: Span, help: str = "") -> None:
        """Record the first error of the line; later ones are mostly its echo."""
        if self.error is None:
            self.error = Diagnostic(code, message, span, help)

    @property
    def trailing(self) -> str | None:
        """The comment behind the last lexeme."""
        if self.inside and self.inside[-1].line >= self.last_line:
            return self.inside[-1].text
        return None

    @property
    def interior(self) -> list[Comment]:
        """Comments on the other lines of the statement."""
        return self.inside[:-1] if self.trailing is not None else self.inside


@dataclass(frozen=True, slots=True)
class Lines:
    lines: list[LogicalLine]
    closing: list[Comment]  # comments after the last statement
    last_line: int  # of the last statement


def indentation(prefix: str) -> tuple[int, int]:
    """The width of the white space before a line: with tabs to multiples of eight, and with tabs as one column."""
    return len(prefix.expandtabs(8)), len(prefix)


def split(source: Source) -> Lines:
    """All logical lines of a file, in order. Errors that belong to a line are in it; nothing is raised."""
    return _Splitter(source.text).run()


def comment_text(raw: str) -> str:
    """The text of a comment token `# ...`."""
    text = raw[1:].rstrip()
    return text[1:] if text.startswith(" ") else text


class _Splitter:
    def __init__(self, text: str) -> None:
        self.text = text
        self.done: list[LogicalLine] = []
        self.above: list[Comment] = []
        self.current: LogicalLine | None = None
        self.stack: list[Lexeme] = []
        self.line = 1
        self.line_start = 0
        self.fresh = True  # nothing but white space so far on this physical line
        self.previous_line = 0

    def run(self) -> Lines:
        position, text = 0, self.text
        while position < len(text):
            match = _LEXEME.match(text, position)
            if match is None:  # the pattern's last alternative takes any character
                position += 1
                continue
            kind = match.lastgroup or "bad"
            position = match.end()
            if kind == "space":
                continue
            if kind == "newline":
                self.newline(position)
            elif kind == "comment":
                self.comment(match.group(), match.start())
            else:
                word = match.group()
                if kind == "doc":
                    word = self.docstring_text(match.start())
                    position = match.start() + len(word)
                self.lexeme(Lexeme(kind, word, match.start(), self.line, match.start() - self.line_start + 1))
                breaks = word.count("\n") if kind == "doc" else 0
                if breaks:
                    self.line += breaks
                    self.line_start = match.start() + word.rindex("\n") + 1
                    if self.current is not None:
                        self.current.last_line = self.line
        self.finish()
        return Lines(self.done, self.above, self.previous_line)

    def newline(self, position: int) -> None:
        if self.current is not None:
            words = self.current.lexemes
            header = words[0].text == "loss" and len(words) > 1 and words[1].kind == "name"
            if header or (not self.stack and words[-1].text not in CONTINUING):
                self.finish()
        self.line += 1
        self.line_start = position
        self.fresh = True

    def comment(self, raw: str, start: int) -> None:
        comment = Comment(comment_text(raw), self.line, indentation(self.text[self.line_start : start])[0])
        if self.current is None:
            self.above.append(comment)
        else:
            self.current.inside.append(comment)

    def lexeme(self, lexeme: Lexeme) -> None:
        if self.fresh and self.current is not None and self.starts_statement(lexeme, self.current):
            self.finish()
        if self.current is None:
            wide, narrow = indentation(self.text[self.line_start : lexeme.start])
            self.current = LogicalLine(wide, narrow, self.above, self.previous_line)
            self.above = []
        self.fresh = False
        line = self.current
        line.lexemes.append(lexeme)
        line.last_line = lexeme.line
        if lexeme.kind == "open":
            self.stack.append(lexeme)
            if len(self.stack) > MAX_NESTING:
                line.fail(
                    "E0702",
                    f"brackets are nested more than {MAX_NESTING} deep",
                    lexeme.span,
                    "give inner parts a name of their own",
                )
        elif lexeme.kind == "close":
            self.close(lexeme, line)
        elif lexeme.kind == "name" and len(lexeme.text) > MAX_NAME:
            line.fail(
                "E0704",
                f"a name of {len(lexeme.text)} characters",
                lexeme.span,
                f"names have at most {MAX_NAME} characters",
            )

    def starts_statement(self, lexeme: Lexeme, current: LogicalLine) -> bool:
        indent = indentation(self.text[self.line_start : lexeme.start])[0]
        return indent <= current.indent and _STATEMENT.match(self.text, lexeme.start) is not None

    def close(self, lexeme: Lexeme, line: LogicalLine) -> None:
        if not self.stack:
            line.fail("E0103", f"`{lexeme.text}` closes nothing", lexeme.span, "remove it, or open a bracket before it")
            return
        opener = self.stack[-1]
        if line.error is not None or CLOSER[opener.text] == lexeme.text or self.is_interval(opener, line):
            self.stack.pop()
            return
        wanted = [k for k, b in enumerate(self.stack) if CLOSER[b.text] == lexeme.text]
        if wanted:
            line.fail(
                "E0102",
                f"`{opener.text}` is never closed",
                opener.span,
                f"close it with `{CLOSER[opener.text]}` before this",
            )
            del self.stack[wanted[-1] :]
        else:
            line.fail(
                "E0103",
                f"`{lexeme.text}` does not close `{opener.text}`",
                lexeme.span,
                f"`{opener.text}` is closed by `{CLOSER[opener.text]}`",
            )
            self.stack.pop()

    @staticmethod
    def is_interval(opener: Lexeme, line: LogicalLine) -> bool:
        """`in [0, 1)`: the one place where a bracket may be closed by the other kind."""
        for k in range(len(line.lexemes) - 1, 0, -1):
            if line.lexemes[k] is opener:
                return line.lexemes[k - 1].text == "in"
        return False

    def finish(self) -> None:
        line = self.current
        if line is None:
            return
        if self.stack:
            opener = self.stack[-1]
            line.fail(
                "E0102", f"`{opener.text}` is never closed", opener.span, f"close it with `{CLOSER[opener.text]}`"
            )
            self.stack = []
        self.done.append(line)
        self.previous_line = max([line.last_line] + [c.line for c in line.inside])
        self.current = None

    def docstring_text(self, start: int) -> str:
        """From `three quotes` to the closing ones; up to the next statement when these are missing."""
        text = self.text
        end = text.find('"""', start + 3)
        swallowed = _LOSS_LINE.search(text, start + 3, end) if end >= 0 else None
        if end >= 0 and swallowed is None:
            return text[start : end + 3]
        line_end = text.find("\n", start)
        found = _STATEMENT_LINE.search(text, line_end + 1) if line_end >= 0 else None
        return text[start : found.start() - 1 if found else len(text)]
