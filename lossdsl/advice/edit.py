"""Edits of a text at spans: everything else stays as it is, byte for byte, line ends included."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from lossdsl.diagnostics import Span

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")


@dataclass(frozen=True)
class Edit:
    """The text of a span, and what stands there instead."""

    span: Span
    text: str


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made; their spans do not overlap. Raises ValueError if they do."""
    starts = [m.start() for m in _LINE.finditer(text)]

    def at(line: int, column: int) -> int:
        return starts[line - 1] + column - 1

    end = len(text)
    for e in sorted(edits, key=lambda e: e.span, reverse=True):
        first, last = at(e.span.line, e.span.column), at(e.span.end_line, e.span.end_column)
        if last > end:
            raise ValueError("edits overlap")
        text = text[:first] + e.text + text[last:]
        end = first
    return text


def with_ends(raw: str, before: str, after: str) -> str:
    """`after`, with the line ends (and the byte order mark) that `raw` has where `before` is unchanged; a line that was
    changed keeps the end of the line that stood there."""
    mark = "\ufeff" if raw.startswith("\ufeff") else ""
    parts = [m.group() for m in _LINE.finditer(raw.removeprefix("\ufeff")) if m.group()]
    ends = [p[len(p.rstrip("\r\n")) :] for p in parts]
    if set(ends) <= {"\n", ""}:
        return mark + after
    old, new = before.split("\n"), after.split("\n")
    ends += [""] * (len(old) - len(ends))
    out: list[str] = []
    for _, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for n in range(k, m):
            at = min(i + n - k, max(i, j - 1))
            out.append(new[n] + ends[min(at, len(ends) - 1)])
    return mark + "".join(out)


def difference(before: str, after: str, path: str) -> str:
    """A unified diff; empty for equal texts."""
    lines = [t.replace("\r\n", "\n").replace("\r", "\n").splitlines(keepends=True) for t in (before, after)]
    out = difflib.unified_diff(lines[0], lines[1], path, path)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ no newline at end of file\n" for line in out)
