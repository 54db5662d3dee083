"""LaTeX of a program: one aligned line for each definition, formulas from the records' `latex` facets.

Only letters, digits and escaped specials of a name reach the output, so that no name can be a command.
"""

from __future__ import annotations

import re
from fractions import Fraction

from lossdsl import primitives
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import BOOL, REAL, TRUE, Const, Definition, Group, Index, Program, Scalar
from lossdsl.ir.rewrite import members

_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(5)
_LETTERS = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi
psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"""
_GREEK = frozenset(_LETTERS.split())
_ESCAPES = {"\\": r"\backslash{}", "~": r"\sim{}", "^": r"\hat{}"} | {c: "\\" + c for c in "{}_#&%$"}
_RELATION = {"<": "<", "<=": r"\le", ">": ">", ">=": r"\ge", "==": "=", "!=": r"\ne"}
_INFIX = {"add": ("+", _SUM), "sub": ("-", _SUM), "mul": (r"\,", _PRODUCT)}
_PLACE = re.compile(r"\{\{|\}\}|\{(\d+|index)\}")


def name_latex(name: str) -> str:
    """A name as LaTeX: a letter or Greek letter as itself, a word upright, primes and places (`per.0`) outside."""
    if name == "...":
        return r"\ldots"
    base = name.rstrip("'")
    primes = "'" * (len(name) - len(base))
    if re.fullmatch(r"[A-Za-z]", base):
        return base + primes
    if base in _GREEK:
        return rf"\{base}{primes}" if primes else rf"\{base}"
    safe = "".join(_ESCAPES.get(c, c) if c.isascii() and c.isprintable() else "?" for c in base)
    return rf"\mathrm{{{safe.replace(' ', '~')}}}{primes}"


def _number(value: Fraction | str) -> str:
    if isinstance(value, str):
        return {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{nan}"}[value]
    if value.denominator == 1:
        return str(value.numerator)
    denominator = value.denominator
    for p in (2, 5):
        while denominator % p == 0:
            denominator //= p
    if denominator == 1 and value.denominator <= 10**6:
        text = f"{value.numerator / value.denominator:.12g}"
        if "e" not in text and Fraction(text) == value:
            return text
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


class _Latex:
    def __init__(self) -> None:
        self.done: dict[Scalar, tuple[str, int]] = {}

    def text(self, node: Scalar, level: int = _SUM) -> str:
        for n in ir.postorder(node):
            if n not in self.done:
                self.done[n] = self._node(n)
        text, mine = self.done[node]
        return text if mine >= level else rf"\left({text}\right)"

    def _at(self, node: Scalar, level: int) -> str:
        text, mine = self.done[node]
        return text if mine >= level else rf"\left({text}\right)"

    def _list(self, nodes: tuple[Scalar, ...]) -> str:
        return ", ".join(self._at(n, _SUM) for n in nodes)

    def _node(self, node: Scalar) -> tuple[str, int]:
        match node:
            case Const():
                if node.kind is BOOL:
                    return (r"\top" if node.value else r"\bot"), _ATOM
                text = _number(node.value)
                return text, _SUM if text.startswith("-") else _ATOM
            case ir.Param():
                return name_latex(node.name), _ATOM
            case Index():
                return name_latex(node.name), _ATOM
            case ir.Size():
                return rf"\left|{_escaped(str(node.dim))}\right|", _ATOM
            case ir.Read():
                inner = f"_{{{self._list(node.indices)}}}" if node.indices else ""
                return name_latex(node.tensor) + inner, _ATOM
            case ir.Table():
                values = ", ".join(_number(v.value) for v in node.values)
                return rf"\left({values}\right)_{{{self._at(node.index, _SUM)}}}", _ATOM
            case ir.Apply():
                return self._apply(node)
            case ir.Select():
                return self._cases(node), _ATOM
            case ir.Compare():
                return f"{self._at(node.a, _SUM)} {_RELATION[node.op]} {self._at(node.b, _SUM)}", _SUM
            case ir.And() | ir.Or():
                sign = r" \land " if isinstance(node, ir.And) else r" \lor "
                inside = [self.done[a][0] for a in node.args]
                wrapped = [
                    rf"\left({t}\right)" if isinstance(a, ir.And | ir.Or) else t for t, a in zip(inside, node.args)
                ]
                return sign.join(wrapped), _SUM
            case ir.Not():
                return rf"\lnot {self._at(node.a, _ATOM)}", _UNARY
            case ir.Stop():
                return rf"\operatorname{{stop}}\left({self._at(node.a, _SUM)}\right)", _ATOM
            case ir.Proxy():
                return rf"\operatorname{{straight\_through}}\left({self._list(node.children)}\right)", _ATOM
            case ir.AdjointMap(name="clamp"):
                value, *bounds = node.children
                limits = rf"\left[{self._list(tuple(bounds))}\right]"
                return rf"\operatorname{{clip\_gradient}}_{{{limits}}}\left({self._at(value, _SUM)}\right)", _ATOM
            case ir.AdjointMap():
                label = name_latex(node.name)
                return rf"\operatorname{{adjoint}}_{{{label}}}\left({self._list(node.children)}\right)", _ATOM
        raise TypeError(f"unknown node {type(node).__name__}")

    def _cases(self, node: ir.Select) -> str:
        rows = []
        last: Scalar = node
        while isinstance(last, ir.Select):
            rows.append(rf"{self._at(last.a, _SUM)} & \text{{if }} {self.done[last.condition][0]}")
            last = last.b
        rows.append(rf"{self._at(last, _SUM)} & \text{{otherwise}}")
        return r"\begin{cases}" + r" \\ ".join(rows) + r"\end{cases}"

    def _apply(self, node: ir.Apply) -> tuple[str, int]:
        args = node.args
        if node.name in ("real", "int"):
            if args[0].dtype is BOOL:
                return rf"\left[{self._at(args[0], _SUM)}\right]", _ATOM
            return self.done[args[0]]
        if node.name in _INFIX:
            sign, level = _INFIX[node.name]
            right = self._at(args[1], level + (node.name == "sub"))
            if right.startswith("-"):
                right = rf"\left({right}\right)"
            if node.name == "mul" and right[0].isdigit():
                sign = r"\cdot"
            if node.name == "mul" and isinstance(args[0], ir.Apply) and args[0].name == "neg":
                return f"{self.done[args[0]][0]} {sign} {right}", _SUM  # -(a b) for (-a) b: one sign in front
            return f"{self._at(args[0], level)} {sign} {right}", level
        if node.name == "div":
            return rf"\frac{{{self._at(args[0], _SUM)}}}{{{self._at(args[1], _SUM)}}}", _UNARY
        if node.name == "neg":
            inner = self._at(args[0], _PRODUCT)
            return "-" + (rf"\left({inner}\right)" if inner.startswith("-") else inner), _SUM
        if node.name in ("powi", "pow"):
            base = self._at(args[0], _ATOM)
            if isinstance(args[0], ir.Apply | ir.Select | ir.Read) and not base.startswith(r"\left("):
                base = f"{{{base}}}"  # a base with a superscript or subscript of its own
            return f"{base}^{{{self._at(args[1], _SUM)}}}", _POWER
        record = primitives.PRIMITIVES.get(node.name)
        if record is None:
            return rf"\operatorname{{{name_latex(node.name)}}}\left({self._list(args)}\right)", _ATOM
        return self._template(record.latex, args)

    def _template(self, template: str, args: tuple[Scalar, ...]) -> tuple[str, int]:
        """The facet with its arguments; one that the template does not enclose itself gets brackets if compound."""
        if not args:
            return template, _ATOM
        if template.startswith("\\") and template.endswith(" {0}") and template.count("{") == 1:
            return rf"{template[:-4]}\left({self._at(args[0], _SUM)}\right)", _ATOM

        def fill(m: re.Match[str]) -> str:
            if m[1] is None:
                return m[0][0]
            before = template[: m.start()].rstrip()
            enclosed = before.endswith(("{{", "(", "|", ",", "[", "lfloor", "lceil"))
            return self._at(args[int(m[1])], _SUM if enclosed else _ATOM)

        whole = template.startswith(("\\", "e^")) and template.endswith((")", "|", r"\rfloor", r"\rceil", "}}", "]_+"))
        flat = _PLACE.sub("", template)
        return _PLACE.sub(fill, template), _ATOM if whole and not re.search(
            r"[-+]", flat.split("(")[0].split("{{")[0]
        ) else _SUM


def _escaped(dim: str) -> str:
    words = re.split(r"([A-Za-z_][A-Za-z0-9_]*|\.\.\.)", dim)
    return "".join(name_latex(w) if k % 2 else w.replace("*", r"\,").replace("//", "/") for k, w in enumerate(words))


def latex_scalar(node: Scalar) -> str:
    """LaTeX of one expression (math mode)."""
    return _Latex().text(node)


def latex_definition(d: Definition) -> tuple[str, str]:
    """Left and right side of one definition (math mode)."""
    writer = _Latex()
    left = name_latex(d.tensor)
    if d.formals:
        left += f"_{{{', '.join(name_latex(i.name) for i in d.formals)}}}"
    if d.head == "map":
        right = writer.text(d.body)
    else:
        index = ", ".join(name_latex(i.name) for i in d.bound)
        if d.where is not TRUE:
            index += rf" \,:\, {writer.text(d.where)}"
        right = _head(d.head, index, writer.text(d.body, _PRODUCT if d.body.dtype is REAL else _SUM))
    if d.support is not TRUE:
        right += rf" \quad \text{{where }} {writer.text(d.support)}"
    return left, right


def _head(head: str, index: str, body: str) -> str:
    record = primitives.HEADS.get(head)
    template = record.latex if record is not None else rf"\operatorname*{{{head}}}_{{{{{{index}}}}}}\left({{0}}\right)"
    return _PLACE.sub(lambda m: m[0][0] if m[1] is None else index if m[1] == "index" else body, template)


def latex(program: Program) -> str:
    """LaTeX of all definitions as an `aligned` block, recurrences marked by their order."""
    lines = []
    for item in program.body:
        for d in members(item):
            left, right = latex_definition(d)
            lines.append(f"{left} &= {right}")
        if isinstance(item, Group):
            order = ", ".join(name_latex(a) + (r" \uparrow" if s > 0 else r" \downarrow") for a, s in item.order)
            lines[-1] += rf" \quad \text{{in the order }} {order}"
    body = " \\\\\n".join("  " + line for line in lines)
    return "\\begin{aligned}\n" + body + "\n\\end{aligned}\n"
