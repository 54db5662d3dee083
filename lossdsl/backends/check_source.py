"""A second line of defence: emitted Python consists of a known set of syntax nodes, imports and names.

User text reaches generated code only escaped; if a fault let some of it through as code, this check would refuse the
module. A failure is a fault of the compiler and asks for a report.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import Any

from lossdsl.names import RESERVED


class SourceError(Exception):
    """The emitted text has a construct that emitted modules never have; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(f"line {line} of the emitted module: {message}")
        self.line = line


_ALLOWED = (
    ast.Module, ast.Import, ast.alias,
    ast.FunctionDef, ast.ClassDef, ast.arguments, ast.arg, ast.keyword, ast.Return, ast.Assign,
    ast.AnnAssign, ast.AugAssign, ast.Delete, ast.For, ast.If, ast.With, ast.withitem, ast.Raise, ast.Expr, ast.Pass, ast.Continue,
    ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Lambda, ast.IfExp, ast.Dict, ast.ListComp, ast.DictComp, ast.GeneratorExp,
    ast.comprehension, ast.Compare, ast.Call, ast.JoinedStr, ast.FormattedValue, ast.Constant, ast.Attribute,
    ast.Subscript, ast.Starred, ast.Name, ast.List, ast.Tuple, ast.Slice, ast.expr_context, ast.boolop, ast.operator,
    ast.unaryop, ast.cmpop,
)  # fmt: skip
_LOOKED_AT = (ast.Import, ast.FunctionDef, ast.ClassDef, ast.arg, ast.Name, ast.Attribute)
_KINDS = frozenset(k for k in vars(ast).values() if isinstance(k, type) and issubclass(k, _ALLOWED))

# Builtins that would let data become code, or reach outside.
_FORBIDDEN = frozenset(
    {"eval", "exec", "compile", "open", "input", "__import__", "globals", "locals", "vars", "setattr", "delattr"}
    | {"breakpoint", "memoryview", "help"}
)
_DUNDER = frozenset({"__init__", "__all__", "__name__"})
_TORCH = frozenset(
    {"load", "save", "hub", "ops", "classes", "utils", "package", "jit", "multiprocessing", "distributed", "onnx"}
)


def _by_kind(tree: ast.AST) -> dict[type[ast.AST], list[Any]]:
    """The node and the nodes below it of the types that are looked at. Raises SourceError for a type that is not allowed."""
    found: dict[type[ast.AST], list[Any]] = {kind: [] for kind in _LOOKED_AT}
    level = [tree]
    for node in level:  # which grows as it is walked
        kind = type(node)
        if kind in found:
            found[kind].append(node)
        elif kind not in _KINDS:
            raise SourceError(f"{kind.__name__} is not used by emitted modules", getattr(node, "lineno", 1))
        if kind is ast.Name or kind is ast.Constant:  # most of all nodes, with none below them
            continue
        for value in vars(node).values():
            if isinstance(value, list):
                level += [v for v in value if isinstance(v, ast.AST)]
            elif isinstance(value, ast.AST) and value._fields:  # else an operator or a context: all are allowed
                level.append(value)
    return found


def _heading(statement: ast.stmt) -> tuple[type[ast.stmt], str]:
    return type(statement), getattr(statement, "name", "")


@lru_cache(maxsize=4)
def _parts(trusted: str) -> tuple[frozenset[str], frozenset[tuple[type[ast.stmt], str]]]:
    """The statements of a trusted text as they are dumped, and the headings of these, as a tree is long to dump."""
    known = ast.parse(trusted).body
    return frozenset(ast.dump(node) for node in known), frozenset(_heading(node) for node in known)


def check_source(text: str, imports: frozenset[str], trusted: str = "") -> None:
    """Raise SourceError unless the text is made of allowed syntax and imports only the given modules.

    trusted: a constant of the compiler; what stands in the text exactly as there is left out of the check.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise SourceError(str(error), getattr(error, "lineno", None) or 1) from error
    exempt, headings = _parts(trusted)
    tree.body = [n for n in tree.body if _heading(n) not in headings or ast.dump(n) not in exempt]
    found = _by_kind(tree)
    for node in found[ast.Import]:
        if any(alias.name not in imports for alias in node.names):
            raise SourceError(f"imports {node.names[0].name}", node.lineno)
    own = {n.name for kind in (ast.FunctionDef, ast.ClassDef) for n in found[kind]}
    own |= {n.arg for n in found[ast.arg]}
    own |= {name for kind, name in headings if kind is ast.FunctionDef}
    read: dict[str, int] = {}
    for node in found[ast.Name]:
        if isinstance(node.ctx, ast.Store):
            own.add(node.id)
        else:
            read.setdefault(node.id, node.lineno)
    for name, line in read.items():
        if name in _FORBIDDEN and name not in own:
            raise SourceError(f"uses {name}", line)
        if not (name in own or name in imports or name in RESERVED):
            raise SourceError(f"reads {name}, which nothing defines", line)
    for node in found[ast.Attribute]:
        if node.attr.startswith("__") and node.attr not in _DUNDER:
            raise SourceError(f"reads the attribute {node.attr}", node.lineno)
        if node.attr in _TORCH and isinstance(node.value, ast.Name) and node.value.id == "torch":
            raise SourceError(f"uses torch.{node.attr}", node.lineno)
