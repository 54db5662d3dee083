"""Diagnostics: values with a code, a place, a cause and a help. Nothing that a user wrote ends in a traceback.

`CODES` is the single list of codes; each has a file `tests/errors/<code>_<what>.loss` (or `.bin`) that provokes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, order=True)
class Span:
    """A place in a source file; lines and columns count from 1, the end column is one past the last character."""

    line: int
    column: int
    end_line: int
    end_column: int

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of `other`."""
        return Span(self.line, self.column, other.end_line, other.end_column)


NOWHERE = Span(1, 1, 1, 1)


@dataclass(frozen=True)
class Source:
    """The text of one file, and the name under which it is shown."""

    path: str
    text: str

    def line(self, number: int) -> str:
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""


@dataclass(frozen=True)
class Diagnostic:
    """One finding about a source text."""

    code: str
    message: str
    span: Span
    help: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise KeyError(f"diagnostic code {self.code} is not in diagnostics.CODES")

    @property
    def severity(self) -> Severity:
        return Severity.WARNING if self.code.startswith("W") else Severity.ERROR


class LossError(Exception):
    """Raised by the Python interface when a source has errors; carries all of them."""

    def __init__(self, source: Source, diagnostics: Iterable[Diagnostic]) -> None:
        self.source = source
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(render(source, d) for d in self.diagnostics))


@dataclass(frozen=True)
class Code:
    """What a diagnostic code means: a title, and the text that `lossdsl explain CODE` prints."""

    title: str
    explanation: str


def printable(text: str) -> str:
    """The text without control characters, so that a source file cannot drive a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def render(source: Source, diagnostic: Diagnostic) -> str:
    """Plain text of a diagnostic: head, place, source line with caret, help."""
    d, span = diagnostic, diagnostic.span
    head = f"{d.severity.value}[{d.code}]: {d.message}"
    line = printable(source.line(span.line)).replace("\t", " ")
    end = span.end_column if span.end_line == span.line else len(line) + 1
    gutter = " " * len(str(span.line))
    out = [head, f"{gutter}--> {printable(source.path)}:{span.line}:{span.column}"]
    if line:
        start = span.column - 1
        if len(line) > 160:
            cut = max(0, start - 60)
            line, start, end = line[cut : cut + 140], start - cut, end - cut
        caret = " " * start + "^" * max(1, min(end - 1, len(line)) - start)
        out += [f"{gutter} |", f"{span.line} | {line}", f"{gutter} | {caret}"]
    out += [f"{gutter} = note: {note}" for note in d.notes]
    if d.help:
        out.append(f"{gutter} = help: {d.help}")
    return "\n".join(out)


CODES: dict[str, Code] = {
    # E01xx syntax, E02xx names, E03xx axes and extents, E04xx types and values, E05xx meaning not there yet,
    # E06xx claims, E07xx limits, E08xx files, E09xx internal; W1xxx warnings.
    "E0901": Code(
        "internal error",
        "The compiler broke one of its own rules. Nothing was written. Please report it with the source file and the "
        "text that `lossdsl show FILE --emit ir` prints.",
    ),
}
