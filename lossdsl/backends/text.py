"""Writing program text: lines with indentation, unique names, precedence, and user text escaped for its sink."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.dim import Dim, FloorDiv
from lossdsl.names import RESERVED, mangle

WIDTH = 100

# Binding strength of Python's operators, weakest first.
TERNARY, OR, AND, NOT, COMPARE, BITOR, BITXOR, BITAND, SUM, PRODUCT, UNARY, POWER, ATOM = range(13)


@dataclass(frozen=True)
class Text:
    """An expression's text and how strongly its outermost operator binds."""

    text: str
    strength: int = ATOM

    def at(self, strength: int) -> str:
        """The text where something of at least this strength is needed."""
        return self.text if self.strength >= strength else f"({self.text})"

    def __str__(self) -> str:
        return self.text


class Writer:
    """Lines of a program, indented by four spaces a level."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.level = 0

    def line(self, text: str = "") -> None:
        self.lines.append("    " * self.level + text if text else "")

    def block(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.line(line)

    def indent(self) -> None:
        self.level += 1

    def dedent(self) -> None:
        self.level -= 1


class Names:
    """Names of one scope: each is given out once. User's names first, as they are; later ones give way."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)
        self._next: dict[str, int] = {}  # the first number of a word that may be free

    def fresh(self, wanted: str) -> str:
        """`wanted` made an identifier that is neither reserved nor taken: `lse'` is `d_lse`, `per.0` is `per_0`."""
        if wanted.isidentifier() and wanted.isascii() and wanted[0] != "_":
            if wanted not in self.taken and wanted not in RESERVED:
                self.taken.add(wanted)
                return wanted
        base = "d_" * wanted.count("'") + wanted.replace("'", "")
        base = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in base).strip("_") or "t"
        if base[0].isdigit():
            base = "t" + base
        base = mangle(base)
        count = self._next.get(base, 1)
        name = base if count == 1 else f"{base}_{count}"
        while name in self.taken or name in RESERVED:
            count += 1
            name = f"{base}_{count}"
        self._next[base] = count
        self.taken.add(name)
        return name


def number_text(value: Fraction | str, kind: str = "acc") -> Text:
    """An exact number as a Python literal: the nearest double, `torch.inf`, `torch.nan`, an int or a bool."""
    if isinstance(value, str):
        named = {"inf": Text("torch.inf"), "-inf": Text("-torch.inf", UNARY), "nan": Text("torch.nan")}
        return named[value]
    if kind == "bool":
        return Text("True" if value else "False")
    if kind == "int":
        return Text(str(int(value)), ATOM if value >= 0 else UNARY)
    try:
        text = repr(float(value))
    except OverflowError:
        text = "torch.inf" if value > 0 else "-torch.inf"
    return Text(text.replace("e-0", "e-").replace("e+", "e"), ATOM if value >= 0 else UNARY)


def dim_text(dim: Dim, names: Mapping[str, str]) -> Text:
    """An extent as an int expression over the variables of its symbols; `max(..., 0)` where it could be negative."""
    if dim.constant is not None:
        return Text(str(dim.constant))
    inner = _sum_text(dim, names)
    return Text(f"max({inner.text}, 0)") if any(c < 0 for _, c in dim.terms) else inner


def offset_text(dim: Dim, names: Mapping[str, str]) -> Text:
    """As `dim_text`, for a displacement: a negative value stays negative."""
    if not dim.terms:
        return Text("0")
    return _sum_text(dim, names)


def _sum_text(dim: Dim, names: Mapping[str, str]) -> Text:
    text = ""
    for monomial, coefficient in dim.terms:
        size = abs(coefficient)
        factors = [str(size)] if size != 1 or not monomial else []
        for atom in monomial:
            factors.append(_floor_text(atom, names) if isinstance(atom, FloorDiv) else names[atom])
        body = " * ".join(factors)
        if text:
            text += (" - " if coefficient < 0 else " + ") + body
        else:
            text = "-" + body if coefficient < 0 else body
    if len(dim.terms) > 1:
        return Text(text, SUM)
    monomial, coefficient = dim.terms[0]
    if coefficient < 0:
        return Text(text, UNARY)
    return Text(text, ATOM if len(monomial) + (coefficient != 1) <= 1 else PRODUCT)


def _floor_text(atom: FloorDiv, names: Mapping[str, str]) -> str:
    return f"({_sum_text(atom.numerator, names).at(PRODUCT)} // {atom.denominator})"


def tuple_text(items: Iterable[str]) -> str:
    """A tuple of expressions."""
    made = [*items]
    return f"({made[0]},)" if len(made) == 1 else f"({', '.join(made)})"


_NAME_OR_NUMBER = re.compile(r"-?\w*")
_SIMPLE = re.compile(r"-?[\w.]+")  # of names, numbers and attributes


def slice_text(start: str, stop: str, step: str = "") -> str:
    """A slice as formatters write it: spaces around the colon if an end is more than a name or a number."""
    parts = [start, stop, *([step] if step else [])]
    if all(_NAME_OR_NUMBER.fullmatch(p) for p in parts):
        return ":".join(parts)
    return " : ".join(parts).strip()


def power_text(base: str, exponent: str) -> str:
    """A power as formatters write it: without spaces between names and numbers."""
    sign = "**" if _SIMPLE.fullmatch(base) and _SIMPLE.fullmatch(exponent) else " ** "
    return f"{base}{sign}{exponent}"


def printable(text: str) -> str:
    """One line without control characters, and without a trailing backslash: fit for a comment."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else " " for c in line)
    return line.rstrip("\\ ").strip()


def docstring(paragraphs: Iterable[str], indent: int) -> list[str]:
    """Lines of a docstring literal. Paragraphs are wrapped, those that begin with a space are kept line by line."""
    room = WIDTH - 4 * indent
    lines: list[str] = []
    for paragraph in paragraphs:
        if lines:
            lines.append("")
        for line in paragraph.split("\n"):
            clean = "".join(c if c.isprintable() else " " for c in line.expandtabs()).rstrip()
            start = len(clean) - len(clean.lstrip())
            lines += textwrap.wrap(clean, room, subsequent_indent=" " * (start + 2 if start else 0)) or [""]
    escaped = [line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') for line in lines] or [""]
    if escaped[-1].endswith('"'):
        escaped[-1] = escaped[-1][:-1] + '\\"'
    if len(escaped) == 1:
        return [f'"""{escaped[0]}"""']
    return ['"""' + escaped[0], *escaped[1:], '"""']
