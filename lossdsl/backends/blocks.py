"""Which kernels may run block by block along their first axis, so that their temporaries stay in a core's cache."""

from __future__ import annotations

from dataclasses import replace

from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    AxisRef,
    Fold,
    Kernel,
    Load,
    Op,
    Operand,
    Plan,
    Scatter,
    Statement,
    Store,
    Subscript,
    Value,
)


def blocked(plan: Plan, kernel: Kernel) -> tuple[Kernel, tuple[str, ...]] | None:
    """(the kernel for one block, buffers of totals that start at 0 and are added to), or None if it must run whole.

    A kernel may run in blocks of its first axis if it reads and writes each buffer only at that axis itself, and folds
    over the axis are sums that nothing else in the kernel reads.
    """
    if not kernel.axes:
        return None
    axis = kernel.axes[0].name
    varying: set[str] = set()
    folds: set[str] = set()
    totals: list[str] = []
    statements: list[Statement] = []
    for s in kernel.statements:
        used = _values(s)
        if used & folds and not (isinstance(s, Store) and isinstance(s.value, Value) and s.value.name in folds):
            return None
        match s:
            case Load(name=name, subscripts=subscripts):
                here = [p for p in subscripts if any(a == axis for a, _ in p.axes)]
                if not _simple(here, axis):
                    return None
                if here or used & varying:
                    varying.add(name)
            case Op(name=name, args=args):
                if used & varying or any(_is_axis(a, axis) for a in args):
                    varying.add(name)
            case Fold(name=name, axes=axes, head=head, type=type_):
                if axis in axes:
                    if head != "sum" or type_ == "bool":
                        return None
                    folds.add(name)
                elif used & varying:
                    varying.add(name)
            case Store(buffer=buffer, subscripts=subscripts, value=value, accumulate=accumulate):
                here = [p for p in subscripts if any(a == axis for a, _ in p.axes)]
                if not _simple(here, axis):
                    return None
                if isinstance(value, Value) and value.name in folds:
                    if here or plan.buffer(buffer).type.startswith("like ") or not _whole(plan, kernel, s):
                        return None
                    if not accumulate:
                        totals.append(buffer)
                        statements.append(replace(s, accumulate=True))
                        continue
                elif not here:
                    return None
            case Scatter(subscripts=subscripts):
                here = [p for p in subscripts if any(a == axis for a, _ in p.axes)]
                if not _simple(here, axis):
                    return None
        statements.append(s)
    stored = {s.buffer for s in kernel.statements if isinstance(s, Store | Scatter)}
    if stored & {s.buffer for s in kernel.statements if isinstance(s, Load)}:
        return None
    return replace(kernel, statements=tuple(statements)), tuple(totals)


def widths(kernel: Kernel) -> tuple[Dim, ...]:
    """The entries of one row of the kernel's first axis in its largest values: no value has all axes that the kernel has
    between them, where rows of classes and rows of labels meet in one kernel."""
    along: dict[str, frozenset[str]] = {}

    def of(*operands: Operand | None) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        for o in operands:
            if isinstance(o, AxisRef):
                found |= {o.name}
            elif isinstance(o, Value):
                found |= along[o.name]
        return found

    spaces: set[frozenset[str]] = set()
    for s in kernel.statements:
        match s:
            case Load(guard=guard, subscripts=subscripts):
                axes = of(guard, *(p.data for p in subscripts)) | {a for p in subscripts for a, _ in p.axes}
            case Op(args=args):
                axes = of(*args)
            case Fold(value=value, where=where):
                axes = of(value, where) | set(s.axes)
            case Store(value=value, subscripts=subscripts):
                axes = of(value, *(p.data for p in subscripts)) | {a for p in subscripts for a, _ in p.axes}
            case Scatter(value=value, guard=guard, subscripts=subscripts):
                axes = of(value, guard, *(p.data for p in subscripts)) | {a for p in subscripts for a, _ in p.axes}
        spaces.add(axes)
        if isinstance(s, Load | Op):
            along[s.name] = axes
        elif isinstance(s, Fold):
            along[s.name] = axes - set(s.axes)
    first, extents = kernel.axes[0].name, {a.name: a.extent for a in kernel.axes}
    found: list[Dim] = []
    for space in sorted((s for s in spaces if not any(s < other for other in spaces)), key=sorted):
        width = Dim.const(1)
        for axis in kernel.axes:
            if axis.name in space and axis.name != first:
                width = width * extents[axis.name]
        if width not in found:
            found.append(width)
    return tuple(w for w in found if w.constant is None or len(found) == 1) or (Dim.const(1),)


def _simple(subscripts: list[Subscript], axis: str) -> bool:
    if len(subscripts) > 1:
        return False
    return all(p.axes == ((axis, 1),) and not p.offset.terms and p.data is None for p in subscripts)


def _whole(plan: Plan, kernel: Kernel, s: Store) -> bool:
    extents = {a.name: a.extent for a in kernel.axes}
    dims = plan.buffer(s.buffer).dims
    return all(
        len(p.axes) == 1 and p.axes[0][1] == 1 and p.data is None and not p.offset.terms and extents[p.axes[0][0]] == d
        for p, d in zip(s.subscripts, dims)
    )


def _is_axis(operand: Operand, axis: str) -> bool:
    return isinstance(operand, AxisRef) and operand.name == axis


def _values(s: Statement) -> set[str]:
    found: list[object] = []
    match s:
        case Load(guard=guard, subscripts=subscripts):
            found = [guard, *(p.data for p in subscripts)]
        case Op(args=args):
            found = list(args)
        case Fold(value=value, where=where):
            found = [value, where]
        case Store(value=value, subscripts=subscripts):
            found = [value, *(p.data for p in subscripts)]
        case Scatter(value=value, guard=guard, subscripts=subscripts):
            found = [value, guard, *(p.data for p in subscripts)]
    return {f.name for f in found if isinstance(f, Value)}
