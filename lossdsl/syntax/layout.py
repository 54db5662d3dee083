"""A small pretty-printer: documents that know their width on one line, and break where they do not fit.

Widths are computed when a document is made and rendering keeps its own stack, so depth is no concern here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

STEP = 4


@dataclass(frozen=True, slots=True)
class Doc:
    """`kind` is text | concat | nest | group | line | soft | fill | gap.

    A group is laid on one line if it fits; otherwise its own `line` (a space) and `soft` (nothing) become newlines.
    A fill puts as many of its items on each line as fit, its later lines one step deeper unless its text is "flush".
    A `gap` is what is left of a fill: its items, and "flush" once the depth of its lines is set.
    """

    kind: str
    width: int
    parts: tuple[Doc, ...] = ()
    text: str = ""


LINE = Doc("line", 1)
SOFT = Doc("soft", 0)


def text(value: str) -> Doc:
    return Doc("text", len(value), text=value)


def concat(*parts: Doc | str) -> Doc:
    docs = tuple(text(part) if isinstance(part, str) else part for part in parts)
    return Doc("concat", sum(doc.width for doc in docs), docs)


def nest(doc: Doc) -> Doc:
    return Doc("nest", doc.width, (doc,))


def group(doc: Doc) -> Doc:
    return Doc("group", doc.width, (doc,))


def fill(items: Iterable[Doc]) -> Doc:
    docs = tuple(items)
    return docs[0] if len(docs) == 1 else Doc("fill", sum(doc.width for doc in docs) + len(docs) - 1, docs)


def flush(doc: Doc) -> Doc:
    """The same document where its bracket already sets it apart: without a step of its own."""
    if doc.kind == "fill":
        return Doc("fill", doc.width, doc.parts, "flush")
    return doc.parts[0] if doc.kind == "nest" else doc


def bracketed(opener: str, items: list[Doc], closer: str) -> Doc:
    """`opener item item closer`; broken, each item has a line of its own."""
    inside: list[Doc | str] = []
    for item in items:
        inside += [LINE if inside else SOFT, item]
    return group(concat(opener, nest(concat(*inside)), SOFT, closer))


def render(root: Doc, indent: int, limit: int) -> str:
    """The text of a document that begins in column `indent`; lines stay within `limit` where the breaks allow it."""
    out = [" " * indent]
    column = indent
    stack = [(indent, False, root)]
    while stack:
        depth, flat, doc = stack.pop()
        newline = False
        match doc.kind:
            case "text":
                out.append(doc.text)
                column += doc.width
            case "nest":
                stack.append((depth + STEP, flat, doc.parts[0]))
            case "group":
                stack.append((depth, flat or column + doc.width < limit, doc.parts[0]))
            case "concat":
                stack.extend((depth, flat, part) for part in reversed(doc.parts))
            case "fill":
                stack.append((depth, flat, Doc("gap", 0, doc.parts[1:], doc.text)))
                stack.append((depth, flat, doc.parts[0]))
            case "gap":
                item, rest = doc.parts[0], doc.parts[1:]
                broken = depth if doc.text else depth + STEP
                # An item that fits on no line at all stays on this one and is broken inside.
                newline = not flat and column + 1 + item.width >= limit > broken + item.width
                if newline:
                    depth = broken
                else:
                    out.append(" ")
                    column += 1
                if rest:
                    stack.append((depth, flat, Doc("gap", 0, rest, "flush" if newline else doc.text)))
                stack.append((depth, flat, item))
            case _:
                newline = not flat
                if flat and doc.width:
                    out.append(" ")
                    column += 1
        if newline:
            out.append("\n" + " " * depth)
            column = depth
    return "".join(out)
