"""What functions say, whether they are called or not: unknown names, and functions that call each other in a circle.

A call elaborates the body of a function under the axes and with the arguments of the caller, and finds everything there.
Here is what can be said without a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.ir.build.absent import instead
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.scope import FunctionEntity, suggestion
from lossdsl.syntax import tree


@dataclass(frozen=True)
class Seen:
    """Names and axes that the body of a function may read; `axes` is None where they are those of callers unknown."""

    names: frozenset[str]
    axes: frozenset[str] | None

    def inside(self, function: tree.Def) -> Seen:
        """What the body of a function sees that stands where this is seen."""
        names, axes = own(function)
        block = function.value is None
        return Seen(self.names | names, self.axes | axes if self.axes is not None else axes if block else None)


def own(function: tree.Def) -> tuple[frozenset[str], frozenset[str]]:
    """The names and the axes that a function declares."""
    names = {a.name for a in function.arguments}
    axes = {x.name for a in function.arguments if a.type for x in a.type.axes or () if isinstance(x, tree.Axis)}
    for statement in function.body:
        if isinstance(statement, tree.AxisDeclaration):
            axes |= {i.name for i in statement.names}
        elif isinstance(statement, tree.Definition):
            names |= {i.name for i in statement.names}
        elif isinstance(statement, tree.Def):
            names.add(statement.name.name)
    return frozenset(names), frozenset(axes)


def parts(function: tree.Def) -> Iterator[tree.Node]:
    """Statements and expressions of a body, functions inside of it included."""
    yield from [function.value] if function.value is not None else function.body


def declared_axes(module: tree.Module) -> frozenset[str]:
    """Every axis that a loss of a file names."""
    found: set[str] = set()
    for item in module.items:
        if isinstance(item, tree.Loss):
            for node in tree.walk(item):
                if isinstance(node, tree.Axis):
                    found.add(node.name)
                elif isinstance(node, tree.AxisDeclaration):
                    found |= {i.name for i in node.names}
    return frozenset(found)


def check_names(e: Elaborator, function: tree.Def, outside: Seen, callers: frozenset[str] | None) -> None:
    """Record the names in a body that nothing can stand for.

    callers   axes that a bare name in an expression function may be one of; None where every name may be an axis
    """
    seen = outside.inside(function)
    named = callers if callers is not None or seen.axes is not None else None
    bare = seen.names | (seen.axes or frozenset()) | (named or frozenset()) | _axes_in(function) | tree.RESERVED
    for node in _here(function):
        if isinstance(node, tree.Def):
            check_names(e, node, seen, callers)
        elif isinstance(node, tree.Name) and node.id not in bare and (seen.axes is not None or named is not None):
            _unknown_name(e, node, bare)
        elif isinstance(node, tree.Call) and not _is_function(e, node.function, seen):
            known = [*e.functions, *e.file_functions]
            span = node.function_span if node.function_span.line else node.span
            e.sink.add("E0204", f"unknown function `{node.function}`", span, instead(node.function, known))
        elif isinstance(node, (tree.Axis, tree.ByName)) and seen.axes is not None:
            axis = node.name if isinstance(node, tree.Axis) else node.axis
            if axis not in seen.axes:
                help = suggestion(axis, sorted(seen.axes))
                e.sink.add("E0206", f"unknown axis `{axis}`", node.span, help)


def _here(function: tree.Def) -> Iterator[tree.Node]:
    """The nodes of a body; of a function inside of it only the function."""
    for part in parts(function):
        if isinstance(part, tree.Def):
            yield part
        else:
            yield from tree.walk(part)


def _axes_in(function: tree.Def) -> frozenset[str]:
    """What an expression function speaks of as axes; those of a block are declared."""
    if function.value is None:
        return frozenset()
    found: set[str] = set()
    for node in tree.walk(function.value):
        if isinstance(node, tree.Axis):
            found.add(node.name)
        elif isinstance(node, tree.ByName):
            found.add(node.axis)
        elif isinstance(node, tree.Call) and node.function == "size":
            found |= {a.id for a in node.arguments if isinstance(a, tree.Name)}
    return frozenset(found)


def _unknown_name(e: Elaborator, node: tree.Name, known: Iterable[str]) -> None:
    if node.id in e.file_functions or isinstance(e.names.get(node.id), FunctionEntity):
        e.sink.add("E0207", f"`{node.id}` is a function and has to be called", node.span)
        return
    help = suggestion(node.id, sorted(known)) or "a function sees its arguments, and in a loss the names of that"
    e.sink.add("E0201", f"unknown name `{node.id}`", node.span, help)


def _is_function(e: Elaborator, name: str, seen: Seen) -> bool:
    return name in e.functions or name in e.file_functions or name in e.names or name in seen.names


# --------------------------------------------------------------------------------------------------------- circles


def check_circles(e: Elaborator) -> None:
    """Record each circle of calls, at the call that closes it; `e.circular` has the functions that are in one."""
    table = {n: x for n, x in {**e.file_functions, **e.names}.items() if isinstance(x, FunctionEntity)}
    path: list[tree.Def] = []
    done: set[int] = set()

    def visit(function: tree.Def) -> None:
        path.append(function)
        for call in _calls(function):
            callee = table[call.function].definition if call.function in table else None
            at = next((k for k, p in enumerate(path) if p is callee), None)
            if at is not None:
                _circle(e, path[at:], call)
            elif callee is not None and id(callee) not in done:
                visit(callee)
        path.pop()
        done.add(id(function))

    for name, entity in table.items():
        if ":" not in name and "." not in name and id(entity.definition) not in done:
            visit(entity.definition)


def _calls(function: tree.Def) -> list[tree.Call]:
    return [n for n in _here(function) if isinstance(n, tree.Call)]


def _circle(e: Elaborator, members: list[tree.Def], call: tree.Call) -> None:
    names = [f.name.name.rpartition(":")[2] for f in members]
    chain = f": {' -> '.join([*names, names[0]])}" if len(names) > 1 else ""
    help = "a recurrence is a definition with axes"
    e.sink.add("E0205", f"`{names[0]}` calls itself{chain}", call.span, help)
    e.circular.update(id(f) for f in members)


# ------------------------------------------------------------------------------------------------------ signatures

# What does not depend on more of the arguments than their axes and their types.
OF_SIGNATURES = frozenset(
    [
        "E0201",
        "E0204",
        "E0206",
        "E0207",
        "E0208",
        "E0301",
        "E0302",
        "E0303",
        "E0304",
        "E0305",
        "E0306",
        "E0401",
        "E0402",
        "E0408",
        "E0410",
        "E0411",
        "E0412",
    ]
)


def alone(function: tree.Def) -> tree.Loss | None:
    """A block as a loss whose inputs are its arguments; None where it does not say what they are."""
    if function.value is not None or not all(a.type for a in function.arguments):
        return None
    span = function.name.span
    body: list[tree.Statement] = []
    for a in function.arguments:
        assert a.type is not None
        number = a.type.axes is None
        name = tree.Ident(name=a.name, span=a.span)
        given = (tree.Number(value=Fraction(4), text="4", span=span),) if number and a.type.kind == "int" else ()
        keyword = "param" if given else "input"
        declared = a.type if not number or given else replace(a.type, axes=())
        body.append(tree.Declaration(keyword=keyword, names=(name,), type=declared, defaults=given, span=a.span))
    for statement in function.body:
        if not isinstance(statement, tree.Return):
            body.append(statement)
            continue
        for k, value in enumerate(statement.values):
            ident = tree.Ident(name=f"{function.name.name}.{k}", span=span)
            body.append(tree.Definition(names=(ident,), axes=None, value=value, span=statement.span))
    return tree.Loss(name=function.name, docstring=None, body=tuple(body), span=function.span)


def called(module: tree.Module, table: Mapping[str, object]) -> set[int]:
    """The functions that are called from a loss of the file, by way of others, too."""
    found: set[int] = set()
    ahead = [
        n for item in module.items if isinstance(item, tree.Loss) for n in tree.walk(item) if isinstance(n, tree.Call)
    ]
    while ahead:
        entity = table.get(ahead.pop().function)
        if isinstance(entity, FunctionEntity) and id(entity.definition) not in found:
            found.add(id(entity.definition))
            ahead += _calls(entity.definition)
    return found
