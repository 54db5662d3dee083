"""Diagnostics: values with a code, a place, a cause and a help. Nothing that a user wrote ends in a traceback.

`CODES` is the single list of codes; each has a file `tests/errors/<code>_<what>.loss` (or `.bin`) that provokes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, order=True)
class Source:
    """The text of one file, and the name under which it is shown."""

    path: str
    text: str = field(repr=False)

    def line(self, number: int) -> str:
        lines = self.text.split("\n")  # not splitlines(): a form feed in a comment ends no line
        return lines[number - 1] if 0 < number <= len(lines) else ""


@dataclass(frozen=True, order=True)
class Used:
    """A file that a `use` line has reached; `line` is a line of the file before it."""

    line: int
    source: Source


@dataclass(frozen=True, order=True)
class Span:
    """A place in a source file; lines and columns count from 1, the end column is one past the last character.

    used   the files by which its own was reached from the one that is compiled, its own last; none for that one
    """

    line: int
    column: int
    end_line: int
    end_column: int
    used: tuple[Used, ...] = field(default=(), repr=False)

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of `other`."""
        return replace(self, end_line=other.end_line, end_column=other.end_column)

    def source(self, top: Source) -> Source:
        """The file that the place is in, where `top` is the one that is compiled."""
        return self.used[-1].source if self.used else top


NOWHERE = Span(1, 1, 1, 1)


def in_order(span: Span) -> tuple[int, Span]:
    """A key to sort places by: those of a used file stand at the `use` line by which it was reached."""
    return (span.used[0].line if span.used else span.line), span


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
    way = _way(source, span)
    source = span.source(source)
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
    out += [f"{gutter} = note: {note}" for note in (*d.notes, *way)]
    if d.help:
        out.append(f"{gutter} = help: {d.help}")
    return "\n".join(printable(line) for text in out for line in text.split("\n"))


def _way(top: Source, span: Span) -> list[str]:
    """Notes on the `use` lines by which the file of a place was reached, the nearest first."""
    notes: list[str] = []
    for used in span.used:
        notes.insert(0, f"reached by `{top.line(used.line).strip()}`, {top.path}:{used.line}")
        top = used.source
    return notes


CODES: dict[str, Code] = {
    # E01xx syntax, E02xx names, E03xx axes and extents, E04xx types and values, E05xx meaning not there yet,
    # E06xx claims, E07xx limits, E08xx files, E09xx internal; W1xxx warnings.
    "E0101": Code(
        "syntax error",
        "The statement does not have a form that the language knows. The caret stands at the first word that cannot "
        "follow what is before it. A file gets the first error of each of its statements.",
    ),
    "E0102": Code(
        "bracket never closed",
        "An opened bracket has no partner. A bracket is taken as never closed at the first line that is indented no "
        "deeper than its statement and starts like a statement, so that the rest of the file can still be read.",
    ),
    "E0103": Code(
        "bracket without a partner", "A closing bracket closes nothing, or closes a bracket of the other kind."
    ),
    "E0104": Code("missing colon", "`loss name:`, a `def` block and the names of a declaration end with a colon."),
    "E0105": Code(
        "character that is not in the language",
        "Outside of comments and docstrings a file has names, numbers, brackets and the operators "
        "+ - * / // % ^ ** = < <= > >= == != , : and `...` only.",
    ),
    "E0106": Code(
        "reserved word as a name",
        "`pi inf nan true false last step size` have a fixed meaning, and `and or not if else over where` are words of "
        "expressions. Every other word can be a name, those of statements and claims included.",
    ),
    "E0107": Code(
        "unknown statement",
        "A statement begins with input, param, learnable, state, axis, def, report, return, update, claim, use or "
        "loss, or is a definition `name = expression` or `name[axes] = expression`.",
    ),
    "E0108": Code(
        "indentation",
        "Indentation says which block a statement belongs to: the statements of a loss stand deeper than its `loss` "
        "line, all equally deep, and those of a `def` block deeper than its `def`. A line is continued inside "
        "brackets, or after an operator, `and`, `or`, `not`, `if`, `else` or a comma at its end.",
    ),
    "E0109": Code(
        "statement in the wrong place", "Some statements belong into a loss, some into a `def` block, some to the top."
    ),
    "E0110": Code("empty block", "A loss, and a function written as a block, have at least one statement."),
    "E0111": Code(
        "misplaced or open docstring",
        "A docstring stands between three double quotes directly below its `loss` line. Comments start with `#`.",
    ),
    "E0112": Code("statement ends too early", "Something is missing at the end of the statement."),
    "E0113": Code("unknown type", "Types are real, int, bool, binary, sign, prob, class, simplex and unit."),
    "E0114": Code(
        "claim that cannot be read",
        "A claim is a comparison (`claim 0 <= per <= 1`) or one of the written properties (`claim convex in pred`).",
    ),
    "E0115": Code(
        "wrong number of defaults", "A declaration of several names has one default for all, or one for each."
    ),
    "E0116": Code("name that is not ASCII", "Names are made of the letters a to z and A to Z, digits and underscores."),
    "E0117": Code(
        "arguments or qualifiers out of order",
        "Arguments of a call stand first by position, then by keyword, each keyword once; `when`, `on` and `at "
        "defaults` stand at most once in a claim.",
    ),
    "E0118": Code("not a whole number", "An unnamed axis has a whole number as its extent."),
    "E0201": Code("unknown name", "A name stands for an axis, an input, a parameter, a definition or a function."),
    "E0202": Code(
        "name declared twice",
        "A name is one thing in a loss: an axis, a tensor, a parameter, a definition or a function. The losses and "
        "functions of a file have names of their own, too, and built-in functions keep theirs.",
    ),
    "E0204": Code("unknown function", "What is called is a built-in function, or one of the file or the loss."),
    "E0205": Code(
        "cyclic definitions",
        "A definition may not depend on its own value at the same position, nor an extent on itself. A recurrence "
        "reads its definition at an earlier position.",
    ),
    "E0206": Code("unknown axis", "An axis is named by an input or an `axis` line."),
    "E0207": Code("name out of place", "A function is called, never read; `last` stands inside an access."),
    "E0208": Code(
        "recurrence that is not earlier",
        "A definition with written axes may read itself, and several may read each other, at positions that are strictly "
        "earlier: along one axis, or in a lexicographic order of several. The compiler proves it from the indices and "
        "the conditions around them; the read that is shown is the one that it cannot order.",
    ),
    "E0209": Code(
        "recurrence without a first step",
        "What lies before the first step of a recurrence is written: a value after `else` in the access, or a condition "
        "around it (`... if t == 0 else ...`).",
    ),
    "E0210": Code(
        "nothing to use",
        "`use field.name` brings in a loss or a function: of `field/name.loss` or `field.loss` beside this file, or of the "
        "catalogue. Nothing else is read.",
    ),
    "E0301": Code(
        "reduction over an absent axis",
        "`over k` binds `k` in the argument and its `where`. If neither has the axis, nothing is folded: "
        "`sum(x over k)` of an `x` without `k` would have to mean `size(k) * x`, which can be written.",
    ),
    "E0302": Code(
        "positions do not fit", "An access gives one index for each position, an axis stands once in a list."
    ),
    "E0303": Code(
        "positions of unwritten axes",
        "Access by position needs axes that are written: of an input, or of a definition `name[n, c] = ...`. An "
        "inferred order would bind the wrong axes silently. Name the axis, `name[c = target]`, or write the axes.",
    ),
    "E0304": Code("no such axis here", "An access by name replaces an axis that the tensor or expression has."),
    "E0305": Code("access by name and by position", "One access replaces axes by name or gives every position."),
    "E0306": Code(
        "unbound index",
        "Written axes of a definition contain every axis of its right side; the others are reduced over there.",
    ),
    "E0307": Code("returned value with axes", "A loss returns a number: reduce what is left with `mean` or `sum`."),
    "E0309": Code("unnamed position", "An unnamed axis of an input (`real[n, 4]`) is read by position: `boxes[n, 2]`."),
    "E0310": Code(
        "not an extent",
        "Extents are made of axes, integer parameters, whole numbers and + - * // ^: `axis s = 2 * u + 1`.",
    ),
    "E0311": Code(
        "ranges that cannot be compared",
        "Shifted accesses narrow the range of an axis to where all of them are in bounds; two bounds met of which "
        "neither is always the smaller.",
    ),
    "E0312": Code(
        "no position is left",
        "Shifted accesses narrow the range of an axis to where all of them are in bounds; here that is nowhere: the window "
        "is larger than the axis.",
    ),
    "E0401": Code("wrong number of arguments", "The function takes another number of arguments."),
    "E0402": Code("operand of the wrong type", "`//` and `%` are for integers; tables hold numbers and are indexed."),
    "E0403": Code(
        "power of a base that may be negative",
        "`x^k` with a written whole number is a polynomial. With any other exponent the power is real, and its base "
        "must be proved not to be negative from the declared domains and the conditions around it.",
    ),
    "E0404": Code(
        "no value over an empty set",
        "`max` and `min` have no value over an empty set. Where a `where` may exclude everything, say the value: "
        "`max(x over m where c else 0)`.",
    ),
    "E0405": Code(
        "index that may be out of range",
        "A label that may be the ignored one, or an index that is not proved to be a position, is read under a "
        "condition that excludes the others, on the path of every reader.",
    ),
    "E0406": Code("domain or type that does not fit", "See the table of types and domains in the language reference."),
    "E0407": Code(
        "default or bound that does not fit",
        "A default is a number of the declared type inside the declared domain. A bound of a parameter is a number or made "
        "of sizes of axes.",
    ),
    "E0408": Code("index that is no integer", "Positions are integers: axes, `class` and `int` inputs, `floor(x)`."),
    "E0409": Code(
        "number out of place", "Division by zero, zero to a negative power, or a constant outside its range."
    ),
    "E0410": Code("unknown keyword argument", "The function has no such argument, or it is given twice."),
    "E0411": Code("not a condition", "`if`, `where`, `and`, `or`, `not`, `any`, `all` and `count` take conditions."),
    "E0412": Code(
        "clause out of place",
        "`over`, `where` and `else` belong to reductions of one argument; axis-keeping functions need `over`.",
    ),
    "E0413": Code("return missing or repeated", "A loss has exactly one `return`, of one value."),
    "E0414": Code(
        "state and its update",
        "A `state` has one `update`, which says its next value from what the loss reads now; nothing else is updated.",
    ),
    "E0501": Code(
        "no meaning yet",
        "This construct is part of the language and can be written and formatted, but this version does not compile it.",
    ),
    "E0502": Code(
        "two grids of one axis",
        "An index with a multiple of its own axis (`x[h = 2 * h + i]`) lives on a coarser grid of that axis. What is on "
        "one grid can be composed and compared; two grids in one expression would pair the wrong positions.",
    ),
    "E0601": Code(
        "claim about something that does not exist", "A claim names inputs, parameters, definitions, reports."
    ),
    "E0707": Code(
        "too much to elaborate", "Functions that call functions made this loss too large. Name shared parts."
    ),
    "W1001": Code(
        "silent broadcasting",
        "Two tensors meet, each with an axis that the other lacks, so every entry is paired with every entry: the "
        "well-known (N, 1) against (N,) mistake. Write the axes of the definition if that is meant.",
    ),
    "W1002": Code(
        "outside of the domain",
        "The argument of a function may leave the function's domain, for the declared domains of the inputs.",
    ),
    "W1003": Code(
        "index not proved in range",
        "The compiler could not prove that an index is a position. Out of range the value is nan and its gradient zero.",
    ),
    "W1004": Code("never used", "A declaration or definition has no effect on the value, a report or a claim."),
    "W1005": Code(
        "entries left out",
        "A shifted access narrows the range of an axis, so an input that is read without offset loses its last entries.",
    ),
    "E0701": Code("file too large", "A source file has at most 1 MiB."),
    "E0702": Code(
        "nested too deep", "Brackets and operators may be nested 200 deep. Give inner parts a name of their own."
    ),
    "E0703": Code("file too long", "A file may have 10,000 nodes (names, numbers, operators, calls ...) in all."),
    "E0704": Code("name too long", "A name has at most 64 characters."),
    "E0705": Code(
        "number too long", "A number has at most 100 digits and an exponent between -400 and 400; it is kept exactly."
    ),
    "E0706": Code("too many errors", "After 100 errors of a file the rest is not shown."),
    "E0801": Code("no such file", "The file does not exist."),
    "E0802": Code("not a file", "The path names a folder or a device, not a file."),
    "E0803": Code("not UTF-8", "A source file is text in UTF-8."),
    "E0804": Code("not a text file", "The file has a zero byte, so it is not text."),
    "E0805": Code("nothing in the file", "A file has at least one `loss`, or a `def` that other files use."),
    "E0807": Code("no such loss", "The file has no loss, or none of the name that was asked for."),
    "E0806": Code("file cannot be read", "The operating system refused to read the file."),
    "E0901": Code(
        "internal error",
        "The compiler broke one of its own rules. Nothing was written. Please report it with the source file and the "
        "text that `lossdsl show FILE --emit ir` prints.",
    ),
}
