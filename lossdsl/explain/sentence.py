"""Sentences of mathematics, as text for a terminal and as LaTeX: one source for both.

A line is made of words and of mathematics (scalars of the IR, enclosures, definitions); only the rendering tells the
two forms apart, so that they cannot say different things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.diagnostics import printable
from lossdsl.ir.latex import latex_definition, latex_scalar
from lossdsl.ir.nodes import TRUE, Const, Definition, Scalar
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.show import text

_LONGEST = 400  # characters of one formula
_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_ESCAPES |= {c: "\\" + c for c in "{}_#&%$"}
_SIGNS = {"<=": r"$\le$", ">=": r"$\ge$", "<": "$<$", ">": "$>$", "!=": r"$\ne$"}
_SIGN = re.compile(r"(<=|>=|!=|<|>)")


@dataclass(frozen=True)
class Math:
    """A formula in both forms."""

    text: str
    latex: str


Part = str | Scalar | Enclosure | Definition | Math | Fraction


@dataclass(frozen=True)
class Line:
    """One step, `depth` deep in what it is a part of."""

    parts: tuple[Part, ...]
    depth: int = 0

    def text(self) -> str:
        return printable("".join(_text(p) for p in self.parts))

    def latex(self) -> str:
        return "".join(_latex(p) for p in self.parts)


def line(*parts: Part, depth: int = 0) -> Line:
    return Line(parts, depth)


def listed(nodes: Iterable[Part], last: str = "and") -> list[Part]:
    """`a, b and c`."""
    items = list(nodes)
    out: list[Part] = []
    for k, n in enumerate(items):
        if k:
            out.append(f" {last} " if k == len(items) - 1 else ", ")
        out.append(n)
    return out


def number(value: Fraction | float) -> str:
    """A number as a person writes it: a short decimal where that is exact, else about that."""
    if isinstance(value, float):
        return f"{value:.6g}"
    decimal = f"{float(value):.6g}" if abs(value) < 10**300 else str(value)
    if Fraction(decimal) == value:
        return decimal
    short = str(value)
    return short if len(short) <= 24 else f"~{decimal}"


def interval(box: Enclosure) -> Math:
    """An enclosure; of one number, the number."""
    box = replace(box, lo=box.lo + 0.0, hi=box.hi + 0.0)  # no -0
    if box.nan:
        return Math("anything, or undefined", r"\text{anything, or undefined}")
    if box.lo == box.hi:
        return Math(f"{{{box.lo:.6g}}}", rf"\{{{_end(box.lo)}\}}")
    left, right = "(" if box.lo_open else "[", ")" if box.hi_open else "]"
    return Math(str(box), f"{left}{_end(box.lo)}, {_end(box.hi)}{right}")


def about(box: Enclosure, digits: int = 6) -> Math:
    """A value that is known to so many digits, as a number."""
    if not box.nan and box.bounded and f"{box.lo:.{digits}g}" == f"{box.hi:.{digits}g}":
        return Math(f"{box.lo:.{digits}g}", _end(box.lo, digits))
    return interval(box)


def defined(d: Definition) -> Math:
    """`p[n] = sum over c: exp(x[n, c])`."""
    left = f"{d.tensor}[{', '.join(i.name for i in d.formals)}]" if d.formals else d.tensor
    head = "" if d.head == "map" else f"{d.head} over {', '.join(i.name for i in d.bound)}: "
    where = f" where {text(d.where, _LONGEST)}" if d.where is not TRUE else ""
    support = f", where {text(d.support, _LONGEST)}" if d.support is not TRUE else ""
    left_latex, right_latex = latex_definition(d)
    return Math(f"{left} = {head}{text(d.body, _LONGEST)}{where}{support}", f"{left_latex} = {right_latex}")


def element(d: Definition) -> Math:
    """`p[n]`, the left side of a definition."""
    return Math(
        f"{d.tensor}[{', '.join(i.name for i in d.formals)}]" if d.formals else d.tensor, latex_definition(d)[0]
    )


def _end(x: float, digits: int = 6) -> str:
    if x in (float("inf"), float("-inf")):
        return r"\infty" if x > 0 else r"-\infty"
    shown = f"{x:.{digits}g}"
    mantissa, e, exponent = shown.partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if e else shown


def _text(part: Part) -> str:
    match part:
        case str():
            return part
        case Math():
            return part.text
        case Enclosure():
            return interval(part).text
        case Definition():
            return defined(part).text
        case Fraction():
            return number(part)
    return text(part, _LONGEST)


def _latex(part: Part) -> str:
    match part:
        case str():
            return words(part)
        case Math():
            return f"${part.latex}$"
        case Enclosure():
            return f"${interval(part).latex}$"
        case Definition():
            return f"${defined(part).latex}$"
        case Fraction():
            return f"${latex_scalar(Const(part))}$"
    return f"${latex_scalar(part)}$"


def words(prose: str) -> str:
    """Prose as LaTeX: nothing in it is a command."""
    pieces = []
    for piece in _SIGN.split(printable(prose)):
        pieces.append(_SIGNS.get(piece) or "".join(_ESCAPES.get(c, c) for c in piece))
    return "".join(pieces)


def numbered_text(lines: Sequence[Line], indent: str = "  ") -> str:
    """The steps with numbers; what is a part of one stands below it, indented."""
    out, count = [], 0
    for item in lines:
        if item.depth == 0:
            count += 1
            out.append(f"{indent}{count}. {item.text()}")
        else:
            out.append(f"{indent}{'   ' * item.depth}- {item.text()}")
    return "\n".join(out)


def numbered_latex(lines: Sequence[Line]) -> str:
    """The steps as nested lists."""
    out, depth = [r"\begin{enumerate}"], 0
    for item in lines:
        wanted = min(item.depth, depth + 1, 2)
        while depth < wanted:
            out.append(r"\begin{itemize}")
            depth += 1
        while depth > wanted:
            out.append(r"\end{itemize}")
            depth -= 1
        out.append(rf"  \item {item.latex()}")
    out += [r"\end{itemize}"] * depth
    return "\n".join([*out, r"\end{enumerate}"])
