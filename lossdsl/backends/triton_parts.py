"""Which loops a kernel of a Plan needs on a GPU: its stores, grouped by the axes that one program walks.

A *part* is what becomes one `@triton.jit` function. Its `rows` are the axes whose indices are spread over programs; its
`columns` are the axes that the folds inside of a row run over, walked by one program as a block or in blocks. Both are
packed into one index each. A *total* folds over rows too: each program stores its share, a second launch adds those up
in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lossdsl.backends.triton_text import Unsupported
from lossdsl.lower.plan import AxisRef, Fold, Kernel, Load, Op, Operand, Scatter, Statement, Store, Subscript, Value


@dataclass(frozen=True)
class Total:
    """`store` takes the value of `fold`, which nothing else reads."""

    fold: Fold
    store: Store


@dataclass(frozen=True)
class Part:
    """One function on the device. `statements`: the values that the sinks need, in order; axes in the kernel's order.
    `spread`: the axes that each value varies along."""

    kernel: Kernel
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    statements: tuple[Load | Op | Fold, ...]
    stores: tuple[Store, ...]
    totals: tuple[Total, ...]
    spread: dict[str, frozenset[str]]

    @property
    def scalar(self) -> bool:
        return not self.rows and not self.columns


def operands(s: Statement) -> tuple[Operand, ...]:
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


def subscript_axes(subscripts: Iterable[Subscript]) -> frozenset[str]:
    return frozenset(a for s in subscripts for a, _ in s.axes)


def parts(kernel: Kernel, *, once: bool = False, points: frozenset[str] = frozenset()) -> list[Part]:
    """The parts of a kernel, or Unsupported with the reason why it stays with torch operations.

    once: what a part stores is stored once, also where the store lacks an axis of others (else the same value again).
    points: axes of loops around it, which have one index in it.
    """
    spread = {name: axes - points for name, axes in spreads(kernel.statements).items()}
    sinks: list[_Sink] = []
    readers: dict[str, int] = {}
    for s in kernel.statements:
        for o in operands(s):
            if isinstance(o, Value):
                readers[o.name] = readers.get(o.name, 0) + 1
    made = {s.name: s for s in kernel.statements if isinstance(s, Load | Op | Fold)}
    for s in kernel.statements:
        if isinstance(s, Scatter):
            raise Unsupported("it combines entries at positions given by data")
        if isinstance(s, Store):
            sinks.append(_sink(s, made, readers, spread, points))
    groups: list[list[_Sink]] = []
    for sink in sorted(sinks, key=lambda x: (-len(x.columns), -len(x.rows | x.columns))):
        for group in groups:
            head = group[0]
            covered = sink.rows | sink.columns <= head.rows | head.columns
            if once:
                covered = sink.rows | sink.columns == head.rows | head.columns or sink.rows == head.rows
            if covered and sink.columns in (frozenset(), head.columns):
                group.append(sink)
                break
        else:
            groups.append([sink])
    order = {id(s): k for k, s in enumerate(kernel.statements)}
    groups.sort(key=lambda g: min(order[id(x.store)] for x in g))
    return [_part(kernel, group, spread, order) for group in groups]


@dataclass(frozen=True)
class _Sink:
    store: Store
    fold: Fold | None  # of a total
    closure: tuple[Load | Op | Fold, ...]
    rows: frozenset[str]
    columns: frozenset[str]


def _sink(
    store: Store,
    made: dict[str, Load | Op | Fold],
    readers: dict[str, int],
    spread: dict[str, frozenset[str]],
    points: frozenset[str],
) -> _Sink:
    fold: Fold | None = None
    if not store.subscripts and isinstance(store.value, Value):
        last = made[store.value.name]
        if isinstance(last, Fold) and readers[last.name] == 1:
            fold = last
    roots: tuple[Operand, ...] = operands(fold) if fold is not None else operands(store)
    closure = _closure(roots, made)
    axes_of = subscript_axes(store.subscripts) - points
    axes = axes_of | (frozenset(fold.axes) if fold is not None else frozenset())
    columns: frozenset[str] = frozenset()
    for s in closure:
        axes |= spread[s.name]
        if isinstance(s, Fold):
            folded = frozenset(s.axes)
            axes |= folded
            if columns and folded != columns:
                raise Unsupported("it folds over one axis inside of a fold over another")
            columns = folded
    for o in roots:
        if isinstance(o, AxisRef):
            axes |= {o.name} - points
    if fold is None and not (spread[store.value.name] if isinstance(store.value, Value) else frozenset()) <= axes_of:
        raise Unsupported("a value that varies along an axis is stored without it")
    return _Sink(store, fold, closure, axes - columns, columns)


def _closure(roots: Iterable[Operand], made: dict[str, Load | Op | Fold]) -> tuple[Load | Op | Fold, ...]:
    needed: set[str] = set()
    pending = [o.name for o in roots if isinstance(o, Value)]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += [o.name for o in operands(made[name]) if isinstance(o, Value)]
    return tuple(s for name, s in made.items() if name in needed)


@dataclass(frozen=True)
class Guard:
    """A condition that varies along no axis, and whether it has to hold for a value to be needed."""

    condition: str
    holds: bool


def guards(part: Part) -> dict[str, Guard | None]:
    """Of each value that only branches of selections need: what all of them ask for; None for one always needed."""
    found: dict[str, Guard | None] = {}

    def need(o: Operand, guard: Guard | None) -> None:
        if isinstance(o, Value):
            found[o.name] = guard if found.get(o.name, guard) == guard else None

    sinks: list[Statement] = [*part.stores, *(t.fold for t in part.totals)]
    for sink in sinks:
        for o in operands(sink):
            need(o, None)
    for s in reversed(part.statements):
        for k, o in enumerate(operands(s)):
            choice = s.args[0] if isinstance(s, Op) and s.op == "select" and k else None
            uniform = isinstance(choice, Value) and not part.spread[choice.name]
            own = Guard(choice.name, k == 1) if isinstance(choice, Value) and uniform else None
            need(o, found.get(s.name) or own)
    return found


def spreads(statements: Sequence[Statement]) -> dict[str, frozenset[str]]:
    """The axes that each value varies along."""
    spread: dict[str, frozenset[str]] = {}

    def of(o: Operand) -> frozenset[str]:
        match o:
            case Value(name):
                return spread[name]
            case AxisRef(name):
                return frozenset((name,))
        return frozenset()

    for s in statements:
        if isinstance(s, Store | Scatter):
            continue
        axes = frozenset().union(*(of(o) for o in operands(s)))
        if isinstance(s, Load):
            axes |= subscript_axes(s.subscripts)
        if isinstance(s, Fold):
            axes -= frozenset(s.axes)
        spread[s.name] = axes
    return spread


def _part(kernel: Kernel, group: list[_Sink], spread: dict[str, frozenset[str]], order: dict[int, int]) -> Part:
    rows = frozenset().union(*(s.rows for s in group)) - group[0].columns
    columns = group[0].columns
    extents = {a.name: a.extent for a in kernel.axes}
    closure = {s.name: s for sink in group for s in sink.closure}
    for sink in group:
        if sink.fold is None:
            continue
        folded = frozenset(sink.fold.axes)
        if spread[sink.fold.name]:
            raise Unsupported("a value that varies along an axis is stored without it")
        if folded & columns and not columns <= folded:
            raise Unsupported("it folds over part of what a program walks")
    if columns and not rows:
        raise Unsupported("a fold over everything feeds the same kernel")
    return Part(
        kernel,
        tuple(a for a in extents if a in rows),
        tuple(a for a in extents if a in columns),
        tuple(sorted(closure.values(), key=lambda s: order[id(s)])),
        tuple(sorted((s.store for s in group if s.fold is None), key=lambda s: order[id(s)])),
        tuple(Total(s.fold, s.store) for s in group if s.fold is not None),
        {**spread},
    )
