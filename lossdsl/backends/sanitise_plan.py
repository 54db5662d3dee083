"""Sanitise a whole plan for automatic differentiation: what no later kernel needs is harmless in earlier ones too.

Conditions of a later kernel say where it needs an earlier kernel's result. They are computed first, by plain copies of
the kernels (`T.plain`), and kept as masks (`T.needed`), last kernel first; then the plan runs with every kernel
sanitised under the masks of what it stores. Where a need cannot be carried over (an access by data, a shifted one), a
result counts as needed everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.backends.sanitise import ALWAYS, Holds, Need, Sanitiser, either, operands, sanitise
from lossdsl.lower.plan import (
    Allocate,
    Axis,
    Buffer,
    Call,
    ChunkLoop,
    Fill,
    Fold,
    Free,
    Kernel,
    Literal,
    Load,
    Op,
    Plan,
    Recurrence,
    Scatter,
    Statement,
    Step,
    Store,
    Subscript,
    Value,
    Within,
)


def sanitise_plan(plan: Plan) -> Plan:
    """The plan without chunks, in which every operation is safe to differentiate."""
    return _Sanitised(plan).run()


class _Sanitised:
    def __init__(self, plan: Plan) -> None:
        flat = tuple(replace(b, role="temporary", chunked=None) if b.role == "chunk" else b for b in plan.buffers)
        self.plan = replace(plan, buffers=flat, steps=tuple(_flat(plan.steps)))
        self.table = {b.name: b for b in flat}
        self.added: list[Buffer] = []
        self.masks: dict[str, list[str] | None] = {name: None for _, name in plan.returns}  # None: needed everywhere
        self.once = _written_once(self.plan.steps)
        self.apart = _in_rounds(self.plan.steps)
        self.first: list[Step] = []  # the kernels of masks, last step first

    def run(self) -> Plan:
        second: list[Step] = []
        for step in reversed(self.plan.steps):
            match step:
                case Kernel():
                    second.append(self.kernel(step))
                case Call():
                    second += reversed(self.call(step))
                case Recurrence() | Within():
                    second.append(self.rounds(step))
                case _:
                    second.append(step)
        second.reverse()
        first = _used(self.first, {name for s in second for name in _reads(s)})
        plain = _used(_plain_steps(self.plan, self.table), {name for s in first for name in _reads(s)})
        names = {name for s in plain for name in _writes(s)}
        copies = [replace(b, name=f"{b.name}.plain", role="temporary") for b in self.table.values()]
        buffers = (*self.plan.buffers, *(c for c in copies if c.name in names), *self.added)
        return replace(self.plan, buffers=buffers, steps=(*plain, *first, *second))

    def temporary(self, name: str) -> bool:
        """Whether needs are carried over for a buffer: totals count as needed, a mask would cost a second pass, and
        what rounds of a recurrence make is needed by later ones."""
        buffer = self.table.get(name)
        return (
            name not in self.apart
            and buffer is not None
            and buffer.role == "temporary"
            and buffer.type == "acc"
            and bool(buffer.dims)
        )

    def mask(self, buffer: str) -> str:
        """A new mask over a buffer's positions."""
        name = f"{buffer}.needed{len(self.added)}"
        self.added.append(Buffer(name, self.table[buffer].dims, "bool", "temporary", "where it is needed"))
        return name

    def wants(self, buffer: str, name: str | None) -> None:
        """A reader needs the buffer under the mask `name`, or everywhere."""
        known = self.masks.get(buffer, [])
        self.masks[buffer] = None if name is None or known is None else [*known, name]

    # ------------------------------------------------------------------------------------------------- kernels

    def kernel(self, kernel: Kernel) -> Kernel:
        kernel, stores = self.under_masks(kernel)
        found = Sanitiser(kernel, stores)
        found.needs()
        extents = {a.name: a.extent for a in kernel.axes}
        wanted: list[tuple[str, Load, Need]] = []
        for s in kernel.statements:
            if not isinstance(s, Load) or not self.temporary(s.buffer) or s.name not in found.need:
                continue
            need = found.need[s.name]
            dims = self.table[s.buffer].dims
            plain = _axes(s.subscripts)
            if need == ALWAYS or plain is None or any(extents[a] != d for a, d in zip(plain, dims)):
                self.wants(s.buffer, None)
            elif self.masks.get(s.buffer, []) is not None:
                wanted.append((self.mask(s.buffer), s, need))
        if wanted:
            self.first.append(self.mask_kernel(kernel, found, wanted))
        for name, s, _ in wanted:
            self.wants(s.buffer, name)
        return sanitise(kernel, stores)

    def rounds(self, step: Recurrence | Within) -> Recurrence | Within:
        """A recurrence, each kernel safe on its own: what it reads counts as needed everywhere."""
        made: list[Step] = []
        for inner in step.steps:
            match inner:
                case Kernel() | Call():
                    for name in _reads(inner):
                        self.wants(name, None)
                    made.append(sanitise(inner) if isinstance(inner, Kernel) else inner)
                case Recurrence() | Within():
                    made.append(self.rounds(inner))
                case _:
                    made.append(inner)
        return replace(step, steps=tuple(made))

    def under_masks(self, kernel: Kernel) -> tuple[Kernel, dict[str, Need]]:
        """The kernel with loads of the masks of what it stores, and the condition for each buffer."""
        loads: list[Statement] = []
        stores: dict[str, Need] = {}
        for s in kernel.statements:
            if not isinstance(s, Store) or s.buffer not in self.once or _axes(s.subscripts) is None:
                continue
            masks = self.masks.get(s.buffer)
            if not masks or not self.temporary(s.buffer):
                continue
            need: Need | None = None
            for name in masks:
                loads.append(Load(name, "bool", name, s.subscripts))
                held = Holds(Value(name))
                need = held if need is None else either(need, held)
            assert need is not None
            stores[s.buffer] = need
        return replace(kernel, statements=(*loads, *kernel.statements)), stores

    def mask_kernel(self, kernel: Kernel, found: Sanitiser, wanted: list[tuple[str, Load, Need]]) -> Kernel:
        """The conditions of a kernel, from plain values, stored as masks."""
        plain = [_from_plain(s, self.table) for s in kernel.statements if isinstance(s, Load | Op | Fold)]
        found.out = list(plain)
        stores: list[Statement] = []
        for name, s, need in wanted:
            condition = found.condition(need)
            extra = tuple(
                a.name for a in kernel.axes if a.name in found.need_axes(need) - set(_axes(s.subscripts) or ())
            )
            if extra:
                condition = found.add(Fold("", "bool", "any", extra, condition))
            stores.append(Store(name, s.subscripts, condition))
        statements = _live([*found.out, *stores])
        return replace(kernel, name=f"{kernel.name}_needs", statements=tuple(statements), names=(), comments=())

    # --------------------------------------------------------------------------------------------------- calls

    def call(self, call: Call) -> list[Step]:
        """The call over operands that are 0 where no needed product reads them."""
        masks = self.masks.get(call.out)
        if call.operation != "contract" or call.accumulate or call.out not in self.once or not masks:
            for name, _ in call.operands:
                if self.table[name].role == "temporary":
                    self.wants(name, None)
            return [call]
        made: list[Step] = []
        operands_: list[tuple[str, tuple[str, ...]]] = []
        extents = dict(zip(call.out_axes, self.table[call.out].dims))
        for name, axes in call.operands:
            extents.update(zip(axes, self.table[name].dims))
        for name, axes in call.operands:
            own = self.mask(name)
            kernel_axes = tuple(
                Axis(a, extents[a], "grid") for a in (*axes, *(x for x in call.out_axes if x not in axes))
            )
            statements: list[Statement] = []
            terms: list[Value] = []
            for k, mask in enumerate(masks):
                at = tuple(Subscript(((a, 1),)) for a in call.out_axes)
                statements.append(Load(f"m{k}", "bool", mask, at))
                terms.append(Value(f"m{k}"))
            value = terms[0]
            for k, term in enumerate(terms[1:]):
                statements.append(Op(f"o{k}", "bool", "or", (value, term)))
                value = Value(f"o{k}")
            extra = tuple(a for a in call.out_axes if a not in axes)
            if extra:
                statements.append(Fold("needed", "bool", "any", extra, value))
                value = Value("needed")
            places = tuple(Subscript(((a, 1),)) for a in axes)
            statements.append(Store(own, places, value))
            self.first.append(Kernel(f"{own}_kernel", kernel_axes, None, tuple(statements)))
            if self.table[name].role == "temporary":
                self.wants(name, own)
            safe = f"{name}.safe{len(self.added)}"
            self.added.append(Buffer(safe, self.table[name].dims, "acc", "temporary", "0 where it is not needed"))
            body: tuple[Statement, ...] = (
                Load("x", "acc", name, places),
                Load("needed", "bool", own, places),
                Op("safe", "acc", "select", (Value("needed"), Value("x"), Literal(Fraction(0)))),
                Store(safe, places, Value("safe")),
            )
            made.append(Kernel(f"{safe}_kernel", tuple(a for a in kernel_axes if a.name in axes), None, body))
            operands_.append((safe, axes))
        return [*made, replace(call, operands=tuple(operands_))]


def _in_rounds(steps: Iterable[Step]) -> set[str]:
    """Buffers that recurrences write."""
    return {name for s in steps if isinstance(s, Recurrence | Within) for name in _writes(s)}


def _flat(steps: Sequence[Step]) -> Iterable[Step]:
    for step in steps:
        if isinstance(step, ChunkLoop):
            yield from _flat(step.steps)
        elif isinstance(step, Recurrence | Within):
            yield replace(step, steps=tuple(_flat(step.steps)))
        elif not isinstance(step, Allocate | Free):
            yield step


def _axes(subscripts: tuple[Subscript, ...]) -> tuple[str, ...] | None:
    """The axes of an access that uses each position's axis itself, once; None for any other."""
    names = [p.axes[0][0] for p in subscripts if len(p.axes) == 1 and p.axes[0][1] == 1]
    plain = len(names) == len(subscripts) == len(set(names))
    return tuple(names) if plain and all(p.data is None and not p.offset.terms for p in subscripts) else None


def _written_once(steps: Iterable[Step]) -> set[str]:
    seen: dict[str, int] = {}
    for step in steps:
        for name in _writes(step):
            seen[name] = seen.get(name, 0) + 1
        if isinstance(step, Kernel):
            for s in step.statements:
                if isinstance(s, Scatter) or (isinstance(s, Store) and s.accumulate):
                    seen[s.buffer] = seen.get(s.buffer, 0) + 1
    return {name for name, count in seen.items() if count == 1}


def _writes(step: Step) -> list[str]:
    match step:
        case Kernel(statements=statements):
            return [s.buffer for s in statements if isinstance(s, Store | Scatter)]
        case Call(out=out):
            return [out]
        case Fill(buffer=buffer):
            return [buffer]
        case Recurrence(steps=inner) | Within(steps=inner):
            return [name for s in inner for name in _writes(s)]
    return []


def _reads(step: Step) -> list[str]:
    match step:
        case Kernel(statements=statements):
            return [s.buffer for s in statements if isinstance(s, Load)]
        case Call(operands=read):
            return [name for name, _ in read]
        case Recurrence(steps=inner) | Within(steps=inner):
            return [name for s in inner for name in _reads(s)]
    return []


def _plain_steps(plan: Plan, table: dict[str, Buffer]) -> list[Step]:
    """The plan as it is, over copies of its own buffers."""

    def copied(name: str) -> str:
        return name if table[name].role == "input" else f"{name}.plain"

    def copies(steps: Iterable[Step]) -> Iterable[Step]:
        for step in steps:
            match step:
                case Kernel(statements=statements):
                    renamed = tuple(
                        replace(s, buffer=copied(s.buffer)) if not isinstance(s, Op | Fold) else s for s in statements
                    )
                    yield replace(step, statements=renamed, names=(), comments=())
                case Call():
                    read = tuple((copied(n), axes) for n, axes in step.operands)
                    yield replace(step, out=copied(step.out), operands=read)
                case Fill():
                    yield replace(step, buffer=copied(step.buffer))
                case Recurrence() | Within():
                    yield replace(step, steps=tuple(copies(step.steps)))

    return list(copies(plan.steps))


def _from_plain(s: Load | Op | Fold, table: dict[str, Buffer]) -> Statement:
    if isinstance(s, Load) and s.buffer in table and table[s.buffer].role != "input":
        return replace(s, buffer=f"{s.buffer}.plain")
    return s


def _live(statements: Sequence[Statement]) -> list[Statement]:
    """Without what no store reads."""
    wanted: set[str] = set()
    kept: list[Statement] = []
    for s in reversed(statements):
        if isinstance(s, Store | Scatter) or s.name in wanted:
            kept.append(s)
            wanted |= {o.name for o in operands(s) if isinstance(o, Value)}
            if isinstance(s, Store | Scatter):
                wanted |= {p.data.name for p in s.subscripts if p.data is not None}
    return kept[::-1]


def _used(steps: Sequence[Step], wanted: set[str]) -> list[Step]:
    """The steps, and of kernels the stores, that something wanted or a later step reads."""
    wanted = set(wanted)
    kept: list[Step] = []
    for step in reversed(steps):
        if not set(_writes(step)) & wanted:
            continue
        if isinstance(step, Kernel):
            body = [s for s in step.statements if not isinstance(s, Store | Scatter) or s.buffer in wanted]
            step = replace(step, statements=tuple(_live(body)))
        wanted |= set(_reads(step))
        kept.append(step)
    return kept[::-1]
