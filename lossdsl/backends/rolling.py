"""Steps that read a few neighbouring rows of each other's results, in strips of rows: the rows stay in a cache.

A window along rows reads some rows of an array and makes one; what comes before it can run a few rows ahead, and what
comes after it follows. So do a recurrence along rows and what it reads. The arrays in between then need only the rows that
are still read. This is decided from positions alone: every stage reads rows of earlier stages at bounded distances, for one
index of the axes before the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.backends.torch_function import reads, written
from lossdsl.backends.triton_parts import operands
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    Allocate,
    Buffer,
    Fill,
    Fold,
    Free,
    Kernel,
    Literal,
    Load,
    Plan,
    Recurrence,
    Rolling,
    Scatter,
    Stage,
    Statement,
    Step,
    Store,
    Subscript,
    Value,
)

STRIP = 16  # rows: those of a dozen arrays of a thousand columns fit in a second-level cache
FARTHEST = 64  # rows that a stage may be behind
LANES = 128  # entries of a row at a time, where they are independent


def rolled(plan: Plan, strip: int = STRIP) -> Plan:
    """The plan with such kernels in strips."""
    buffers = {b.name: b for b in plan.buffers}
    steps: list[Step] = []
    at = 0
    while at < len(plan.steps):
        groups = [_Group(plan, buffers, strip, direction) for direction in (1, -1)]
        stops = [group.collect(plan.steps, at) for group in groups]
        found = [k for k, group in enumerate(groups) if group.worthwhile()]
        if found:
            best = max(found, key=lambda k: (len(groups[k].stages), -k))
            steps += groups[best].steps(plan.steps)
            at = stops[best]
        else:
            steps.append(plan.steps[at])
            at += 1
    return replace(plan, steps=tuple(steps))


@dataclass
class _Rows:
    """The axes of a kernel that its rows are of: those before the rows', the rows', and that along a row."""

    within: tuple[str, ...]
    axis: str
    lane: str


class _Group:
    """Steps that may run in strips, from one step on."""

    def __init__(self, plan: Plan, buffers: Mapping[str, Buffer], strip: int, direction: int) -> None:
        self.plan, self.buffers, self.strip, self.direction = plan, buffers, strip, direction
        self.stages: list[Stage] = []
        self.taken: list[Step] = []  # the stages as steps
        self.made: dict[str, int] = {}  # buffer of rows -> the lag of the stage that makes it
        self.held: dict[str, int] = {}  # buffer -> how many rows behind its stage it is read
        self.depth: dict[str, int] = {}  # buffer -> how many rows behind a strip what its stage does for it depends on
        self.carries = False  # whether a stage is ordered
        self.within: tuple[str, ...] = ()
        self.extents: dict[str, Dim] = {}
        self.totals: set[str] = set()
        self.read: set[str] = set()
        self.lanes: Dim | None = None  # how many there are, if those of all stages are independent
        self.alone = True
        self.across = False  # whether some stage reads other rows than its own
        self.linked = False  # whether some stage reads another's
        self.before: list[Step] = []
        self.after: list[Step] = []
        self.deferred: list[Kernel] = []

    def collect(self, steps: Sequence[Step], at: int) -> int:
        """Take steps from there on; where the first one stands that is not taken."""
        if not isinstance(steps[at], Kernel | Allocate | Recurrence):
            return at
        while at < len(steps):
            step = steps[at]
            match step:
                case Kernel() | Recurrence():
                    if not self.add(step):
                        if not self.stages or not isinstance(step, Kernel):
                            return at
                        self.deferred.append(step)
                case Allocate():
                    self.before.append(step)
                case Fill(buffer) if buffer not in {*self.made, *self.totals, *self.read, *self.later()}:
                    self.before.append(step)
                case Free():
                    self.after.append(step)
                case _:
                    return at
            at += 1
        return at

    def later(self) -> set[str]:
        return {*written(self.deferred), *reads(self.deferred)}

    def worthwhile(self) -> bool:
        return self.across and self.linked

    def steps(self, everything: Sequence[Step]) -> list[Step]:
        kept = []
        outside = [s for s in everything if not any(s is x for x in self.taken)]
        used = {*reads(outside), *written(outside), *(b for _, b in self.plan.returns)}
        for name, rows in self.held.items():
            if self.buffers[name].role == "temporary" and name not in used:
                size = 1
                while size < self.strip + rows:
                    size *= 2
                kept.append((name, size))
        zero = [Fill(t, Literal(Fraction(0), self.buffers[t].type)) for t in sorted(self.totals)]
        reach = None if self.carries else max(self.depth.values())
        lanes = LANES if self.alone else 0
        rolling = Rolling(self.within, self.strip, lanes, reach, self.direction, tuple(self.stages), tuple(kept))
        return [*self.before, *zero, rolling, *self.deferred, *self.after]

    # ---------------------------------------------------------------------------------------------- stages

    def add(self, step: Kernel | Recurrence) -> bool:
        """Take a kernel, or a recurrence of one, as the next stage, if it can be one."""
        ordered = isinstance(step, Recurrence)
        kernel = step.steps[0] if isinstance(step, Recurrence) else step
        if isinstance(step, Recurrence) and (len(step.steps) > 1 or step.direction != self.direction):
            return False
        if not isinstance(kernel, Kernel) or any(isinstance(s, Scatter) for s in kernel.statements):
            return False
        rows = self.rows(kernel)
        if rows is None:
            return False
        extents = {a.name: a.extent for a in kernel.axes}
        if isinstance(step, Recurrence):
            if rows.axis != step.axis:
                return False
            extents[step.axis] = step.extent
        if any(a not in extents for a in (*rows.within, rows.axis)):
            return False
        if self.stages and (rows.within != self.within or any(self.extents[a] != extents[a] for a in rows.within)):
            return False
        if self.stages and self.direction < 0 and extents[rows.axis] != self.stages[0].extent:
            return False
        totals = self.total_stores(kernel, rows)
        if not self.apart(kernel, rows, totals, ordered):
            return False
        lag, alone = 0, True
        reach: list[tuple[str, int, int]] = []
        own = dict.fromkeys(s.buffer for s in kernel.statements if isinstance(s, Store))
        for load in (s for s in kernel.statements if isinstance(s, Load)):
            if load.buffer in self.made or load.buffer in own:
                span = self.span(load, rows, extents)
                if span is None or (load.buffer in own and span[1] >= 0):
                    return False
                reach.append((load.buffer, *span))
                alone = alone and load.subscripts[-1] == Subscript(((rows.lane, 1),))
                lag = max(lag, self.made[load.buffer] + span[1] if load.buffer in self.made else 0)
        if lag > FARTHEST or rows.lane not in extents:
            return False
        columns = [s for s in kernel.statements if isinstance(s, Fold) and rows.lane in s.axes]
        self.alone = self.alone and alone and len(columns) <= len(totals)
        self.alone = self.alone and self.lanes in (None, extents[rows.lane])
        self.lanes = extents[rows.lane]
        linked = any(buffer not in own for buffer, _, _ in reach)
        if not linked and all(self.buffers[b].role != "temporary" for b in own):
            return False  # nothing here has to do with the other stages
        self.linked = self.linked or linked
        for buffer in own:
            if buffer not in totals:
                self.made[buffer], self.held[buffer] = lag, 0
        behind = [(b, lag - self.made[b] - low) for b, low, _ in reach]
        depth = max((n + self.depth[b] for b, n in behind if b not in own), default=0)
        self.depth |= dict.fromkeys(own, depth)
        self.carries = self.carries or ordered
        for buffer, n in behind:
            self.held[buffer] = max(self.held[buffer], n)
        self.across = self.across or any((low, high) != (0, 0) for _, low, high in reach)
        self.totals |= totals
        self.read |= {s.buffer for s in kernel.statements if isinstance(s, Load)}
        self.within = rows.within
        self.extents = {a: extents[a] for a in rows.within}
        self.taken.append(step)
        adding = tuple(
            replace(s, accumulate=True) if isinstance(s, Store) and s.buffer in totals else s for s in kernel.statements
        )
        made = replace(kernel, statements=adding)
        self.stages.append(Stage(rows.axis, extents[rows.axis], rows.lane, lag, made, ordered))
        return True

    def apart(self, kernel: Kernel, rows: _Rows, totals: set[str], ordered: bool) -> bool:
        """Whether a stage touches nothing of other rows but by what it reads, and can run before what was deferred."""
        stores = [s for s in kernel.statements if isinstance(s, Store)]
        read = {s.buffer for s in kernel.statements if isinstance(s, Load)}
        own = {s.buffer for s in stores}
        if own & {*self.made, *self.totals, *self.read, *self.later()} or (own & read and not ordered):
            return False
        if read & {*self.totals, *written(self.deferred)} or totals & read:
            return False
        if any(s.buffer not in totals and (s.accumulate or not self.plain(s, rows)) for s in stores):
            return False
        inner = {*rows.within, rows.axis}
        return sum(isinstance(s, Fold) and bool(inner & set(s.axes)) for s in kernel.statements) == len(totals)

    def rows(self, kernel: Kernel) -> _Rows | None:
        """By what the kernel stores, or by what it reads of earlier stages."""
        stores = [s.subscripts for s in kernel.statements if isinstance(s, Store) and len(s.subscripts) >= 2]
        loads = [s.subscripts for s in kernel.statements if isinstance(s, Load) and s.buffer in self.made]
        for subscripts in (*stores, *loads):
            at = [[a for a, c in p.axes if c == 1] for p in subscripts]
            if all(len(names) == 1 for names in at):
                names = [found[0] for found in at]
                return _Rows(tuple(names[:-2]), *names[-2:])
        return None

    def plain(self, s: Store, rows: _Rows) -> bool:
        """Whether each entry is stored once, in the row that the stage works on."""
        if len(s.subscripts) != len(rows.within) + 2:
            return False
        at = [p.axes[0][0] if len(p.axes) == 1 else "" for p in s.subscripts]
        whole = all(p == Subscript(((a, 1),)) for p, a in zip(s.subscripts, at, strict=True))
        return whole and at == [*rows.within, rows.axis, rows.lane] and len(set(at)) == len(at)

    def span(self, s: Load, rows: _Rows, extents: Mapping[str, Dim]) -> tuple[int, int] | None:
        """The first and last row that a load reads, counted from its stage's row on in the direction of the strips."""
        k = len(rows.within)
        if len(s.subscripts) != k + 2 or any(
            p != Subscript(((a, 1),)) for p, a in zip(s.subscripts[:k], rows.within, strict=True)
        ):
            return None
        at = s.subscripts[k]
        offset = at.offset.number
        if at.data is not None or offset is None or dict(at.axes).get(rows.axis) != 1:
            return None
        if any(a in (*rows.within, rows.axis) for a, _ in s.subscripts[k + 1].axes):
            return None
        low = high = offset
        for a, c in at.axes:
            if a == rows.axis:
                continue
            count = extents[a].constant if a in extents else None
            if count is None or count < 1:
                return None
            low, high = low + min(0, c * (count - 1)), high + max(0, c * (count - 1))
        return (low, high) if self.direction > 0 else (-high, -low)

    def total_stores(self, kernel: Kernel, rows: _Rows) -> set[str]:
        """Buffers of sums over all rows, which nothing else of the kernel reads."""
        readers: dict[str, int] = {}
        made: dict[str, Statement] = {}
        for s in kernel.statements:
            if not isinstance(s, Store) and hasattr(s, "name"):
                made[s.name] = s
            for o in operands(s):
                if isinstance(o, Value):
                    readers[o.name] = readers.get(o.name, 0) + 1
        found = set()
        for s in kernel.statements:
            if isinstance(s, Store) and not s.subscripts and isinstance(s.value, Value):
                fold = made[s.value.name]
                whole = isinstance(fold, Fold) and fold.head == "sum" and {*rows.within, rows.axis} <= set(fold.axes)
                if whole and readers[s.value.name] == 1 and not s.accumulate and self.buffers[s.buffer].type == "acc":
                    found.add(s.buffer)
        return found
