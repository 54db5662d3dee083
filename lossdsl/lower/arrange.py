"""A finished kernel from a body: dead values dropped, lifetimes that end early, readable names, axis roles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lossdsl.dim import Dim
from lossdsl.ir.nodes import Definition
from lossdsl.lower.body import Body
from lossdsl.lower.extent import Weight, index
from lossdsl.lower.plan import (
    Axis,
    AxisRef,
    Fold,
    Kernel,
    Load,
    Op,
    Operand,
    Scatter,
    Statement,
    Store,
    Subscript,
    Value,
)


def operands(s: Statement) -> tuple[Operand, ...]:
    """The operands of a statement, those of its positions and guards included."""
    match s:
        case Load():
            return (*_data(s.subscripts), *((s.guard,) if s.guard is not None else ()))
        case Op():
            return s.args
        case Fold():
            return (s.value, *((s.where,) if s.where is not None else ()))
        case Store():
            return (*_data(s.subscripts), s.value)
        case Scatter():
            return (*_data(s.subscripts), s.value, *((s.guard,) if s.guard is not None else ()))


def _data(subscripts: Iterable[Subscript]) -> tuple[Operand, ...]:
    return tuple(s.data for s in subscripts if s.data is not None)


def used(s: Statement) -> tuple[str, ...]:
    """Names of the values that a statement reads, each once."""
    return tuple(dict.fromkeys(o.name for o in operands(s) if isinstance(o, Value)))


def made(s: Statement) -> str | None:
    return s.name if isinstance(s, Load | Op | Fold) else None


def live(statements: Iterable[Statement]) -> list[Statement]:
    """The statements without values that nothing stores."""
    needed: set[str] = set()
    kept: list[Statement] = []
    for s in reversed(list(statements)):
        name = made(s)
        if name is None or name in needed:
            kept.append(s)
            needed.update(used(s))
    return kept[::-1]


def reorder(statements: list[Statement], size: Mapping[str, int]) -> list[Statement]:
    """An order in which the sum of live values stays low: at each point the ready statement that frees most."""
    uses = Counter(n for s in statements for n in used(s))
    waiting = {k: set(used(s)) for k, s in enumerate(statements)}
    have: set[str] = set()
    out: list[Statement] = []
    pending = list(range(len(statements)))
    while pending:
        best, score = -1, 0
        for k in pending:
            if not waiting[k] <= have:
                continue
            s = statements[k]
            freed = sum(size[n] for n in used(s) if uses[n] == 1)
            name = made(s)
            gain = freed - (size[name] if name is not None else 0)
            if best < 0 or gain > score:
                best, score = k, gain
            if gain < 0 and score < 0:
                break  # nothing ready frees anything so far: go on in the order of the definitions
        pending.remove(best)
        s = statements[best]
        out.append(s)
        for n in used(s):
            uses[n] -= 1
        name = made(s)
        if name is not None:
            have.add(name)
    return out


def identifier(text: str) -> str:
    """A tensor's name as a plain word: `sim'` is `sim_grad`, `per.0` is `per_0`."""
    word = re.sub(r"[^A-Za-z0-9_]", "_", text.replace("'", "_grad")).strip("_") or "value"
    return word if not word[0].isdigit() else f"v{word}"


def rename_axes(body: Body, mapping: Mapping[str, str]) -> None:
    """Rename axes of a body in place, everywhere at once."""
    to = {a: mapping.get(a, a) for a in body.axes}
    if all(a == b for a, b in to.items()):
        return
    body.axes = {to[a]: index(to[a], i.dim) for a, i in body.axes.items()}
    body.statements = [_axes_renamed(s, to) for s in body.statements]
    body.spread = {v: frozenset(to[a] for a in axes) for v, axes in body.spread.items()}
    body.spaces = {t: frozenset(to[a] for a in axes) for t, axes in body.spaces.items()}
    body.space_axes = {t: tuple(to[a] for a in axes) for t, axes in body.space_axes.items()}
    body.formal_axes = {t: tuple(to[a] for a in axes) for t, axes in body.formal_axes.items()}
    body.folds = {k: replace(u, axes=frozenset(to[a] for a in u.axes)) for k, u in body.folds.items()}


def _axes_renamed(s: Statement, to: Mapping[str, str]) -> Statement:
    def operand(o: Operand) -> Operand:
        return AxisRef(to[o.name]) if isinstance(o, AxisRef) else o

    def places(subscripts: tuple[Subscript, ...]) -> tuple[Subscript, ...]:
        return tuple(replace(x, axes=tuple((to[a], c) for a, c in x.axes)) for x in subscripts)

    match s:
        case Load():
            return replace(s, subscripts=places(s.subscripts), guard=None if s.guard is None else operand(s.guard))
        case Op():
            return replace(s, args=tuple(operand(a) for a in s.args))
        case Fold():
            where = None if s.where is None else operand(s.where)
            return replace(s, axes=tuple(to[a] for a in s.axes), value=operand(s.value), where=where)
        case Store():
            return replace(s, subscripts=places(s.subscripts), value=operand(s.value))
        case Scatter():
            guard = None if s.guard is None else operand(s.guard)
            return replace(s, subscripts=places(s.subscripts), value=operand(s.value), guard=guard)


def values_renamed(s: Statement, to: Mapping[str, str], buffers: Mapping[str, str]) -> Statement:
    """The statement with values and buffers renamed."""

    def operand(o: Operand) -> Operand:
        return Value(to[o.name]) if isinstance(o, Value) else o

    def places(subscripts: tuple[Subscript, ...]) -> tuple[Subscript, ...]:
        return tuple(x if x.data is None else replace(x, data=Value(to[x.data.name])) for x in subscripts)

    match s:
        case Load():
            guard = None if s.guard is None else operand(s.guard)
            name = buffers.get(s.buffer, s.buffer)
            return replace(s, name=to[s.name], buffer=name, subscripts=places(s.subscripts), guard=guard)
        case Op():
            return replace(s, name=to[s.name], args=tuple(operand(a) for a in s.args))
        case Fold():
            where = None if s.where is None else operand(s.where)
            return replace(s, name=to[s.name], value=operand(s.value), where=where)
        case Store():
            name = buffers.get(s.buffer, s.buffer)
            return replace(s, buffer=name, subscripts=places(s.subscripts), value=operand(s.value))
        case Scatter():
            guard = None if s.guard is None else operand(s.guard)
            name = buffers.get(s.buffer, s.buffer)
            return replace(s, buffer=name, subscripts=places(s.subscripts), value=operand(s.value), guard=guard)


def axis_order(body: Body, accesses: list[tuple[Weight, str, tuple[Subscript, ...]]]) -> list[str]:
    """Axes in the order in which the largest arrays have them, so that whole-array operations need no transposes."""
    order: list[str] = []
    for _, _, subscripts in sorted(accesses, key=lambda a: a[0], reverse=True):
        for s in subscripts:
            order += [a for a, _ in s.axes if a in body.axes and a not in order]
    return order + [a for a in body.axes if a not in order]


def lane_axis(body: Body, accesses: list[tuple[Weight, str, tuple[Subscript, ...]]]) -> tuple[str | None, str]:
    """The axis along which the largest array is contiguous, and the access that decided."""
    for _, buffer, subscripts in sorted(accesses, key=lambda a: a[0], reverse=True):
        if subscripts and len(subscripts[-1].axes) == 1 and subscripts[-1].data is None:
            axis, step = subscripts[-1].axes[0]
            if axis in body.axes and step == 1 and body.axes[axis].dim.constant != 1:
                places = ", ".join(" + ".join(a for a, _ in s.axes) or "." for s in subscripts)
                return axis, f"{buffer}[{places}]"
    return None, ""


def kernel(
    body: Body,
    name: str,
    dims: Mapping[str, tuple[Dim, ...]],
    buffers: Mapping[str, str],
    definitions: Mapping[str, Definition],
    accumulated: Iterable[str],
) -> tuple[Kernel, list[str]]:
    """The kernel of a body, and the decisions made here. `dims`: extents of all tensors; `buffers`: their names."""
    sizes = body.context.sizes
    statements = live(body.statements)
    rough = {v: sizes.rough(body.axes[a].dim for a in sorted(axes)) for v, axes in body.spread.items()}
    statements = reorder(statements, rough)
    accesses = [
        (sizes.weight(dims[s.buffer]), buffers.get(s.buffer, s.buffer), s.subscripts)
        for s in statements
        if isinstance(s, Load | Store | Scatter)
    ]
    order = axis_order(body, accesses)
    lane, decided = lane_axis(body, accesses)
    rows = body.rows()
    alive = {a for s in statements for a in _axes_in(s, body)} | set().union(*body.spaces.values())
    axes = tuple(
        Axis(a, body.axes[a].dim, "lane" if a == lane and a in rows else "grid" if a in rows else "loop")
        for a in order
        if a in alive
    )
    why: list[str] = []
    if axes:
        grid = ", ".join(a.name for a in axes if a.role != "loop") or "none"
        inside = ", ".join(a.name for a in axes if a.role == "loop")
        text = f"{name}: parallel over {grid}"
        text += f"; {inside} inside each program, because folds over it feed the results" if inside else ""
        why.append(text)
    if lane is not None:
        why.append(f"{name}: lane {lane}, because {decided} is the largest array and contiguous along it")
    to = _names(statements, body)
    final = []
    adding = set(accumulated)
    for s in statements:
        s = replace(s, accumulate=True) if isinstance(s, Store) and s.buffer in adding else s
        final.append(values_renamed(s, to, buffers))
    names, comments = [], []
    for s in statements:
        value = made(s)
        tensor = body.labels.get(value) if value is not None else None
        if value is None or tensor is None:
            continue
        if to[value] != tensor:
            names.append((to[value], tensor))
        comment = definitions[tensor].comment
        if comment:
            comments.append((to[value], comment))
    return Kernel(name, axes, lane, tuple(final), tuple(names), tuple(comments)), why


def _axes_in(s: Statement, body: Body) -> set[str]:
    name = made(s)
    found = set(body.spread[name]) if name is not None else set()
    if isinstance(s, Fold):
        found.update(s.axes)
    for o in operands(s):
        if isinstance(o, Value):
            found |= body.spread[o.name]
    return found


def _names(statements: Iterable[Statement], body: Body) -> dict[str, str]:
    """Words of the user where there are some, the buffer's for loads, v1, v2 ... for the rest."""
    taken: set[str] = set(body.axes)
    to: dict[str, str] = {}
    for s in statements:
        value = made(s)
        if value is None:
            continue
        if value in body.labels:
            base = identifier(body.labels[value])
        elif isinstance(s, Load):
            base = identifier(s.buffer)
        else:
            base = "v"
        word, k = base, 1
        if base == "v":
            word = "v1"
        while word in taken:
            k += 1
            word = f"v{k}" if base == "v" else f"{base}_{k}"
        taken.add(word)
        to[value] = word
    return to
