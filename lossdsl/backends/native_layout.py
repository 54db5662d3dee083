"""Where in the loops of a C++ function each value of a part is made: what lanes run along, levels and passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lossdsl.backends.native_text import STORED, State, Term
from lossdsl.backends.text import Names, Writer
from lossdsl.backends.triton_parts import Part, Total, operands, subscript_axes
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    AxisRef,
    Buffer,
    Fold,
    Load,
    Op,
    Operand,
    Plan,
    Store,
    Subscript,
    Value,
)

ROW, LANE, COLUMN = range(3)  # how deep in the loops a value is made; below ROW: once for the function

WIDTH = 64  # lanes of a block of columns, and of rows that nothing is folded in
TALL = 256  # rows of a block, where columns are folded in each
GRAIN = 16384  # entries of a program
FEW = 16  # lanes that are too few

WORDS = (
    *("at", "j", "len", "row", "rows", "block", "blocks", "program", "programs", "threads", "stop", "half"),
    *(
        "real_t",
        "columns",
        "body",
        "each",
        "group",
        "len_all",
        "rest_len",
        "inside",
        "inner_from",
        "inner_to",
        "side",
        "rows_of",
        "resident",
        "whole",
        "in_cache",
        "in_blocks",
    ),
)


@dataclass(frozen=True)
class Argument:
    """A parameter of the function: the data of a `buffer`, an `extent`, a `parameter`, the first and last index
    (`first`, `last`) of a loop around along an axis, or the index (`point`) of a recurrence."""

    name: str
    kind: str
    of: str
    dim: Dim | None = None


@dataclass(frozen=True)
class NativeFunction:
    """`lines` with `{name}` for the function's name; written: buffers that it stores to."""

    lines: list[str]
    arguments: tuple[Argument, ...]
    written: frozenset[str]


@dataclass(frozen=True)
class Around:
    """The loops around a kernel: axes cut to a round, and axes of loops that have one index. kept: buffers of which some
    rows alone exist -> (positions before the rows', rows, a power of 2). alone: whether one thread runs it."""

    rounds: frozenset[str] = frozenset()
    points: frozenset[str] = frozenset()
    kept: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    alone: bool = False


@dataclass(eq=False)
class Held:
    """A fold's state in the text: names of the arrays or scalars, and whether there is one for each lane."""

    state: State
    names: list[str]
    lanes: bool
    wide: bool = False

    def at(self, j: str) -> list[str]:
        return [f"{n}[{j}]" for n in self.names] if self.lanes else self.names


@dataclass(eq=False)
class Sink:
    """A store, or the fold of a total: where in the loops it happens."""

    what: Store | Total
    level: int
    stage: int
    varies: frozenset[str]
    held: Held | None = None

    @property
    def given(self) -> Store | Fold:
        return self.what if isinstance(self.what, Store) else self.what.fold


@dataclass(eq=False)
class Scope:
    names: Names
    arguments: dict[tuple[str, str], Argument] = field(default_factory=dict)


def any_element(b: Buffer) -> bool:
    """Whether the elements may have any type: an input of integers or truth values, converted where it is read."""
    return b.role == "input" and b.type in ("int", "bool")


def element_type(b: Buffer) -> str:
    """The C++ type of the elements in memory."""
    return (
        f"ELEMENT_{element_word(b.name)}" if any_element(b) else STORED["acc" if b.type.startswith("like ") else b.type]
    )


def whole_lines(extent: str) -> str:
    """The length of a row that is kept: each row begins where a line of memory does, so that no load of it needs two."""
    return str(-(-int(extent) // 16) * 16) if extent.isdigit() else f"(({extent} + 15) & ~(int64_t)15)"


def element_word(name: str) -> str:
    """An input's name as part of a macro's: the type of its elements."""
    return "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}" for c in name)


class Layout:
    """What of a part happens where in the loops: groups of axes, lanes, levels and stages."""

    def __init__(
        self, part: Part, plan: Plan, around: Around, scope: Scope | None = None, lane: str | None = None
    ) -> None:
        self.part, self.plan, self.around = part, plan, around
        self.scope = scope or Scope(Names(WORDS))
        self.names = self.scope.names
        self.dims = {a.name: a.extent for a in part.kernel.axes}
        self.wanted = dict(part.kernel.names)
        self.comments = dict(part.kernel.comments)
        self.out = Writer()
        self.made = {s.name: s for s in part.statements}
        self.row_groups = self.groups(part.rows)
        self.column_groups = self.groups(part.columns)
        self.choose_lane(lane or part.kernel.lane)
        self.index: dict[tuple[str, ...], str] = {}
        self.terms: dict[str, Term] = {}
        self.arrays: set[str] = set()  # lane values that a later loop reads too
        self.array_names: dict[str, str] = {}
        self.edges: dict[str, list[tuple[dict[str | Dim, int], int]]] = {}  # guards -> what is >= 0 where they hold
        self.lines: dict[int, str] = {}  # store -> variable of the line that the loop at hand fills
        self.large: dict[str, str] = {}  # buffer -> variable that says whether it is large
        self.resident: dict[str, str] = {}  # fold -> variable of its kept terms, or ""
        self.weights: dict[str, tuple[str, str]] = {}  # softmax -> its fold, and how it is written
        self.factors: dict[tuple[str, str], str] = {}  # text of what the kept terms are to be multiplied by
        self.saved: dict[str, tuple[str, int]] = {}  # value -> variable of what is kept of it, the pass that makes it
        self.passing = -1.0  # the stage of the pass at hand; a half more in the second pass of a log-sum-exp
        self.row_pointers: dict[tuple[str, tuple[Subscript, ...]], str] = {}  # of the loop at hand
        self.stage: dict[str, int] = {}
        self.level: dict[str, int] = {}
        self.fused: set[str] = set()
        self.place()

    # ------------------------------------------------------------------------------------------------ structure

    def choose_lane(self, lane: str | None) -> None:
        """The group of axes that lanes run along, and whether they are columns."""
        found = [g for g in (*self.column_groups, *self.row_groups) if lane in g]
        if not found:
            found = self.row_groups[-1:] or self.column_groups[-1:]
        self.lane: tuple[str, ...] = found[0] if found else ()
        self.lane_columns = self.lane in self.column_groups
        self.outer = [g for g in self.row_groups if g != self.lane]
        self.inner = [g for g in self.column_groups if g != self.lane]
        tall = bool(self.column_groups) and not self.lane_columns and not self.short()
        self.width = TALL if tall else WIDTH

    def repeatable(self) -> bool:
        """Whether one thread may make an entry twice: nothing adds up, and nothing that is stored is read."""
        stored = {s.buffer for s in self.part.stores}
        loaded = {s.buffer for s in self.part.statements if isinstance(s, Load)}
        return not self.part.totals and not any(s.accumulate for s in self.part.stores) and not stored & loaded

    def short(self) -> bool:
        """Whether the columns are so few, and known, that the states of a block stay in registers."""
        count = 1
        for a in self.part.columns:
            count *= self.dims[a].constant or TALL
        return count < FEW

    def groups(self, axes: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Neighbouring axes that every access has side by side, in order and whole, are walked as one."""
        made: list[tuple[str, ...]] = []
        for a in axes:
            if made and self.joined(made[-1][-1], a):
                made[-1] = (*made[-1], a)
            else:
                made.append((a,))
        return made

    def joined(self, a: str, b: str) -> bool:
        if {a, b} & self.around.rounds:
            return False
        accesses = [(s.buffer, s.subscripts) for s in self.part.statements if isinstance(s, Load)]
        accesses += [(s.buffer, s.subscripts) for s in self.part.stores]
        everything = [*self.part.statements, *self.part.stores, *(t.fold for t in self.part.totals)]
        if any(isinstance(o, AxisRef) and o.name in (a, b) for s in everything for o in operands(s)):
            return False
        for s in self.part.statements:
            if isinstance(s, Fold) and ((a in s.axes) != (b in s.axes) or s.head in ("argmax", "argmin")):
                return False
        if any((a in t.fold.axes) != (b in t.fold.axes) for t in self.part.totals):
            return False
        for buffer, subscripts in accesses:
            dims = self.plan.buffer(buffer).dims
            at = [k for k, s in enumerate(subscripts) if any(x in (a, b) for x, _ in s.axes)]
            if not at:
                continue
            if len(at) != 2 or at[1] != at[0] + 1:
                return False
            first, second = subscripts[at[0]], subscripts[at[1]]
            if first != Subscript(((a, 1),)) or second != Subscript(((b, 1),)) or dims[at[1]] != self.dims[b]:
                return False
        return True

    def depth(self, axes: frozenset[str]) -> int:
        """The level at which something that varies along these axes happens; -1: once."""
        if axes & frozenset(self.part.columns):
            return COLUMN
        if axes & frozenset(self.lane):
            return LANE
        return ROW if axes & frozenset(self.part.rows) else -1

    def place(self) -> None:
        """Stage and level of every value, and of what is stored."""
        for s in self.part.statements:
            needs = [o.name for o in operands(s) if isinstance(o, Value)]
            self.stage[s.name] = max((self.after(n) for n in needs), default=0)
            level = self.depth(self.part.spread[s.name])
            if level < ROW and (isinstance(s, Fold) or self.stage[s.name] > 0):
                level = ROW
            self.level[s.name] = level
            if not isinstance(s, Fold):
                # what a scalar of a row feeds is one, too, if the scalar is made in the row
                deepest = max((self.level[n] for n in needs), default=-1)
                if level < ROW and deepest >= ROW:
                    self.level[s.name] = ROW
        self.sinks: list[Sink] = []
        for store in self.part.stores:
            axes = subscript_axes(store.subscripts) | self.spread_of(operands(store))
            self.sinks.append(self.sink(store, axes, operands(store)))
        for total in self.part.totals:
            axes = frozenset(total.fold.axes) | self.spread_of(operands(total.fold))
            self.sinks.append(self.sink(total, axes, operands(total.fold)))
        self.last = max([0, *self.stage.values(), *(s.stage for s in self.sinks)])
        self.fused = self.products()
        self.mark_arrays()

    def products(self) -> set[str]:
        """Products that a sum along columns alone reads: they are rounded once, with the sum."""
        readers: dict[str, list[object]] = {}
        for s in (*self.part.statements, *self.part.stores, *(t.fold for t in self.part.totals)):
            for o in operands(s):
                if isinstance(o, Value):
                    readers.setdefault(o.name, []).append(s)
        found = set()
        for name, by in readers.items():
            made, fold = self.made[name], by[0]
            if len(by) == 1 and isinstance(fold, Fold) and fold.name in self.made and fold.head == "sum":
                if isinstance(made, Op) and made.op == "mul" and made.type == "acc" and self.level[name] == COLUMN:
                    found.add(name)
        return found

    def at_level(self, level: int, stage: int) -> list[Load | Op]:
        return [
            s
            for s in self.part.statements
            if not isinstance(s, Fold)
            and self.level[s.name] == level
            and self.stage[s.name] == stage
            and s.name not in self.fused
        ]

    def sinks_at(self, level: int, stage: int) -> list[Sink]:
        return [s for s in self.sinks if s.level == level and s.stage == stage]

    def folds_at(self, stage: int) -> list[Fold]:
        return [s for s in self.part.statements if isinstance(s, Fold) and self.stage[s.name] == stage]

    def read_in(self, stage: int) -> list[Operand]:
        """What the folds and the stores of a pass over the columns read."""
        of_folds = [o for f in self.folds_at(stage) for o in operands(f)]
        return of_folds + [o for s in self.sinks_at(COLUMN, stage) for o in operands(s.given)]

    def after(self, name: str) -> int:
        return self.stage[name] + isinstance(self.made[name], Fold)

    def spread_of(self, given: tuple[Operand, ...]) -> frozenset[str]:
        axes: frozenset[str] = frozenset()
        for o in given:
            if isinstance(o, Value):
                axes |= self.part.spread[o.name]
            elif isinstance(o, AxisRef) and o.name in self.dims:
                axes |= {o.name}
        return axes

    def sink(self, what: Store | Total, axes: frozenset[str], given: tuple[Operand, ...]) -> Sink:
        made = [o.name for o in given if isinstance(o, Value)]
        stage = max((self.after(n) for n in made), default=0)
        level = self.depth(axes)
        if level < ROW and (stage > 0 or any(self.level[n] >= ROW for n in made)):
            level = ROW  # of a round that folds over everything there is in it
        return Sink(what, level, stage, axes)

    def mark_arrays(self) -> None:
        """Lane values that are read in another loop than the one that makes them."""
        if self.lane_columns:
            return
        for s in (*self.part.statements, *self.sinks):
            if isinstance(s, Sink):
                given = operands(s.given)
                loops = {(s.level, s.stage)}
            else:
                given = operands(s)
                level = COLUMN if isinstance(s, Fold) else self.level[s.name]
                loops = {(level, self.stage[s.name])}
                if level == COLUMN:
                    loops |= {(COLUMN, k) for k in range(self.last + 1)}
            for o in given:
                if isinstance(o, Value) and self.level[o.name] == LANE and not isinstance(self.made[o.name], Fold):
                    if loops != {(LANE, self.stage[o.name])}:
                        self.arrays.add(o.name)
