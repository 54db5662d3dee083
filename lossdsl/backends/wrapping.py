"""Lines of Python that are too long for a page, broken where formatters break them (`ruff format`, 120 columns).

Outside of brackets a condition, or a sum of several terms, gets brackets of its own; anything else is broken inside of
the first of its brackets that does not fit. What is in brackets stands in one line, or each item in one of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

PAGE = 120
STEP = "    "

_STRENGTH = {"if": 0, "else": 0, "or": 1, "and": 2, "not in": 4, "in": 4, "is not": 4, "is": 4}
_STRENGTH |= dict.fromkeys(("==", "!=", "<=", ">=", "<", ">"), 4) | {"|": 5, "^": 6, "&": 7, "+": 8, "-": 8}
_STRENGTH |= dict.fromkeys(("*", "/", "//", "%", "@"), 9) | {"**": 10}
_PIECE = re.compile(
    r"(?P<string>[a-z]{0,2}(?:\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'))"
    rf"|(?P<operator> (?:{'|'.join(re.escape(w) for w in sorted(_STRENGTH, key=len, reverse=True))}) )"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<comma>,\s*)|(?P<text>\w+|.)"
)
_HEAD = re.compile(
    r"(?:return|raise|del|assert|if|elif|while|with) |for [\w, ]+ in |[\w, .]+(?:: [\w. |\[\]]+)? (?:[-+*/|&]|//)?= "
)


@dataclass(frozen=True)
class _Operator:
    word: str


@dataclass
class _Group:
    """What stands between a pair of brackets. `comma`: whether one follows the last item."""

    open: str
    items: list[_Sequence]
    close: str
    comma: bool = False
    called: bool = False  # right behind a name or a bracket: arguments or an index

    @property
    def broken(self) -> bool:
        """Whether a line may be broken inside: not without items, and not of a comprehension."""
        words = (p for item in self.items for p in item if isinstance(p, str))
        return bool(self.items) and not any(" for " in f" {w}" for w in words if w[-1] not in "\"'")


_Sequence = list[str | _Operator | _Group]


def wrapped(text: str) -> str:
    """A module's text with its long lines broken; comments, and strings of several lines, stay as they are."""
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        if len(line) > PAGE and not inside and '"""' not in line:
            lines += _broken(line)
        else:
            lines.append(line)
        inside ^= line.count('"""') % 2 == 1
    return "\n".join(lines)


def _broken(line: str) -> list[str]:
    code = line.lstrip()
    indent = line[: len(line) - len(code)]
    sign = next((p.start() for p in _PIECE.finditer(code) if p.group() == "#"), len(code))
    code, comment = code[:sign].rstrip(), f"  {code[sign:]}" if code[sign:] else ""
    if not code:
        return [line]
    head = _HEAD.match(code)
    start = head.end() if head else 0
    block = code.endswith(":") and (head is not None or code.startswith("def "))
    parsed = _parsed(code[start : -1 if block else None])
    if parsed is None:
        return [line]
    items, comma = parsed
    tail = ("," if comma else "") + (":" if block else "") + comment
    if len(items) > 1 and head is None:  # of what is in brackets already
        return _exploded(items, indent) if comma and not comment else [line]
    if len(items) > 1:
        return [f"{indent}{code[:start]}(", *_exploded(items, indent + STEP), f"{indent}){tail}"]
    (item,) = items
    if code.startswith("def "):
        return _bracketed(indent, "", item, tail, whole=True)
    if head is None and _operators(item):
        return _item(indent, "", item, tail) if comma else [line]
    return _statement(indent, code[:start], item, tail)


def _parsed(code: str) -> tuple[list[_Sequence], bool] | None:
    """The items between commas, and whether the last one has a comma behind it; None if brackets are left open, or closed
    that were open before."""
    stack = [_Group("", [[]], "")]
    for found in _PIECE.finditer(code):
        text, here = found.group(), stack[-1]
        match found.lastgroup:
            case "open":
                last = here.items[-1][-1] if here.items[-1] else ""
                called = isinstance(last, _Group) or (isinstance(last, str) and last[-1:].isidentifier())
                stack.append(_Group(text, [[]], "", called=called))
            case "close" if len(stack) == 1:
                return None
            case "close":
                here.close, here.comma = text, len(here.items) > 1 and not here.items[-1]
                if not here.items[-1]:
                    here.items.pop()
                stack.pop()
                stack[-1].items[-1].append(here)
            case "comma":
                here.items.append([])
            case "operator":
                here.items[-1].append(_Operator(text[1:-1]))
            case _:
                item = here.items[-1]
                if found.lastgroup == "text" and item and isinstance(item[-1], str) and item[-1][-1] not in "\"'":
                    item[-1] += text
                else:
                    item.append(text)
    if len(stack) > 1:
        return None
    (outer,) = stack
    comma = len(outer.items) > 1 and not outer.items[-1]
    return outer.items[:-1] if comma else outer.items, comma


def _flat(item: _Sequence) -> str:
    return "".join(_flat_piece(p) for p in item)


def _flat_piece(piece: str | _Operator | _Group) -> str:
    match piece:
        case _Operator(word):
            return f" {word} "
        case _Group():
            inner = ", ".join(_flat(i) for i in piece.items)
            return f"{piece.open}{inner}{',' if piece.comma else ''}{piece.close}"
    return piece


def _operators(item: _Sequence) -> list[str]:
    """The weakest operators outside of brackets; none of a lambda, whose body is not broken."""
    if item and isinstance(item[0], str) and re.match(r"(\w+=)?lambda\b", item[0]):
        return []
    words = [p.word for p in item if isinstance(p, _Operator)]
    weakest = min((_STRENGTH[w] for w in words), default=0)
    return [w for w in words if _STRENGTH[w] == weakest]


def _statement(indent: str, head: str, item: _Sequence, tail: str) -> list[str]:
    operators = _operators(item)
    last = item[-1]
    own = isinstance(last, _Group) and last.open == "(" and last.broken
    if own and operators:
        (*_, begin) = (k + 1 for k, p in enumerate(item) if isinstance(p, _Operator))
        own = isinstance(item[begin], str) or item[begin] is last
    lines = _bracketed(indent, head, item, tail)
    if operators and len(operators) == 1 and own and all(len(line) <= PAGE for line in lines):
        return lines
    inner = _item(indent + STEP, "", item, "")
    if not operators and (len(lines[0]) <= PAGE or not head or len(inner[0]) > PAGE):  # brackets would not help
        return lines
    return [f"{indent}{head}(", *inner, f"{indent}){tail}"]


def _item(indent: str, head: str, item: _Sequence, tail: str) -> list[str]:
    """Inside of brackets."""
    line = f"{indent}{head}{_flat(item)}{tail}"
    operators = _operators(item)
    if len(line) <= PAGE:
        return [line]
    if not operators:
        return _bracketed(indent, head, item, tail)
    lines: list[str] = []
    part: _Sequence = []
    for piece in item:
        if isinstance(piece, _Operator) and piece.word in operators:
            lines += _item(indent, head, part, "")
            head, part = f"{piece.word} ", []
        else:
            part.append(piece)
    return lines + _item(indent, head, part, tail)


def _bracketed(indent: str, head: str, item: _Sequence, tail: str, whole: bool = False) -> list[str]:
    """Broken inside of the first brackets that do not fit together with what follows up to the next ones (`whole`: with
    all that follows)."""
    lines: list[str] = []
    line = f"{indent}{head}"
    for k, piece in enumerate(item):
        if isinstance(piece, _Group) and piece.broken:
            rest = item[k + 1 :]
            following = next((n for n, p in enumerate(rest) if isinstance(p, _Group) and p.broken and not whole), None)
            end = _flat(rest) + tail if following is None else _flat(rest[:following]) + "("
            if len(line) + len(_flat_piece(piece)) + len(end) > PAGE:
                lines += [f"{line}{piece.open}", *_inside(indent + STEP, piece)]
                line = f"{indent}{piece.close}"
                continue
        line += _flat_piece(piece)
    return [*lines, line + tail]


def _inside(indent: str, group: _Group) -> list[str]:
    if len(group.items) == 1 and not group.comma and not (group.called and group.open == "("):
        return _item(indent, "", group.items[0], "")
    line = indent + ", ".join(_flat(i) for i in group.items)
    return [line] if group.called and not group.comma and len(line) <= PAGE else _exploded(group.items, indent)


def _exploded(items: Sequence[_Sequence], indent: str) -> list[str]:
    return [line for i in items for line in _item(indent, "", i, ",")]
