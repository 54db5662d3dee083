"""Short text of a scalar, for verdicts: infix, with the language's names."""

from __future__ import annotations

from functools import lru_cache

from lossdsl.ir.nodes import (
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Index,
    Not,
    Or,
    Param,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
)

_INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2), "pow": ("^", 4), "powi": ("^", 4)}


def text(node: Scalar, limit: int = 160) -> str:
    """The scalar on one line, cut at `limit` characters."""
    shown = _show(node, 0, 40, limit + 1)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


@lru_cache(maxsize=1 << 12)  # what is shared is shown more than once
def _show(n: Scalar, level: int, depth: int, most: int) -> str:
    """The first characters: a scalar that shares much is far longer than it is large."""
    return _whole(n, level, depth, most)[:most]


def _whole(n: Scalar, level: int, depth: int, most: int) -> str:
    if depth == 0:
        return "..."

    def sub(a: Scalar, at: int = 0) -> str:
        return _show(a, at, depth - 1, most)

    def wrap(s: str, own: int) -> str:
        return f"({s})" if own < level else s

    match n:
        case Const():
            return str(n.value)
        case Param():
            return n.name
        case Size():
            return f"size({n.dim})"
        case Index():
            return n.name
        case Read():
            if n.tensor == "$u":
                return "u"
            return f"{n.tensor}[{', '.join(sub(i) for i in n.indices)}]" if n.indices else n.tensor
        case Apply(name=name, args=args):
            if name in _INFIX:
                sign, own = _INFIX[name]
                spaced = sign if sign == "^" else f" {sign} "
                return wrap(f"{sub(args[0], own)}{spaced}{sub(args[1], own + 1)}", own)
            if name == "neg":
                return wrap(f"-{sub(args[0], 3)}", 2)
            if name in ("real", "int"):
                return sub(args[0], level)
            return f"{ {'max2': 'max', 'min2': 'min'}.get(name, name) }({', '.join(sub(a) for a in args)})"
        case Select():
            return (
                wrap(f"{sub(n.a, 1)} if {sub(n.condition)} else {sub(n.b)}", 0)
                if level == 0
                else (f"({sub(n.a, 1)} if {sub(n.condition)} else {sub(n.b)})")
            )
        case Compare():
            return wrap(f"{sub(n.a, 1)} {n.op} {sub(n.b, 1)}", 0)
        case And() | Or():
            return wrap((" and " if isinstance(n, And) else " or ").join(sub(a, 1) for a in n.children), 0)
        case Not():
            return f"not {sub(n.a, 1)}"
        case Stop():
            return f"stop({sub(n.a)})"
        case Proxy():
            return f"straight_through({sub(n.value)}, {sub(n.surrogate)})"
        case AdjointMap():
            return f"{n.name}({sub(n.a)})"
        case Table():
            return f"table[{sub(n.index)}]"
    return type(n).__name__
