"""A part of a kernel as the text of one C++ function with a plain C ABI.

The rows of a part are spread over threads in *programs* of a size that depends on the extents alone, so that totals
(one share for each program, added up in order) are the same with any number of threads. The innermost loop is always a
block of lanes, neighbours in memory: of columns, where the lane axis is folded inside of a row, or of rows, where it is
not (a fold then holds one state for each lane). A value that varies along columns is made again in every pass over them;
there is one pass more for each fold that needs an earlier one's result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from lossdsl.backends.native_text import STORED, TYPES, State, Term, literal, number, operation, state
from lossdsl.backends.text import SUM, Names, Text, Writer, offset_text, printable
from lossdsl.backends.triton_parts import Part, Total, operands, subscript_axes
from lossdsl.backends.triton_text import Unsupported
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    AxisRef,
    Buffer,
    Fold,
    Literal,
    Load,
    Op,
    Operand,
    ParamRef,
    Plan,
    SizeRef,
    Store,
    Subscript,
    Value,
)

_DECLARED = re.compile(r"(?:const )?\w+ \*?(\w+) = ")

ROW, LANE, COLUMN = range(3)  # how deep in the loops a value is made; below ROW: once for the function

WIDTH = 64  # lanes of a block of columns, and of rows that nothing is folded in
TALL = 256  # rows of a block, where columns are folded in each
GRAIN = 16384  # entries of a program
FEW = 16  # lanes that are too few

_WORDS = (
    *("at", "j", "len", "row", "rows", "block", "blocks", "program", "programs", "threads", "stop", "half"),
    *("real_t", "columns", "body", "each", "group", "len_all", "rest_len"),
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
    """The loops around a kernel: axes cut to a round, and axes of recurrences."""

    rounds: frozenset[str] = frozenset()
    points: frozenset[str] = frozenset()


@dataclass(eq=False)
class _Held:
    """A fold's state in the text: names of the arrays or scalars, and whether there is one for each lane."""

    state: State
    names: list[str]
    lanes: bool
    wide: bool = False

    def at(self, j: str) -> list[str]:
        return [f"{n}[{j}]" for n in self.names] if self.lanes else self.names


@dataclass(eq=False)
class _Sink:
    """A store, or the fold of a total: where in the loops it happens."""

    what: Store | Total
    level: int
    stage: int
    varies: frozenset[str]
    held: _Held | None = None


@dataclass(eq=False)
class _Scope:
    names: Names
    arguments: dict[tuple[str, str], Argument] = field(default_factory=dict)


def native_function(part: Part, plan: Plan, around: Around) -> NativeFunction:
    """The text of a part. Raises Unsupported.

    Where lanes run along an axis that nothing is folded over, its extent may be small (1, where `...` stands for no
    axes): then the lanes of a second text run along the columns.
    """
    made = _Function(part, plan, around)
    lane = made.lane
    if not part.columns or made.lane_columns:
        return made.function([made])
    other = _Function(part, plan, around, made.scope, part.columns[-1])
    return made.function([made, other], f"{made.size(lane)} >= {FEW} || {made.size(lane)} >= {made.size(other.lane)}")


def any_element(b: Buffer) -> bool:
    """Whether the elements may have any type: an input of integers or truth values, converted where it is read."""
    return b.role == "input" and b.type in ("int", "bool")


def element_type(b: Buffer) -> str:
    """The C++ type of the elements in memory."""
    return (
        f"ELEMENT_{element_word(b.name)}" if any_element(b) else STORED["acc" if b.type.startswith("like ") else b.type]
    )


def element_word(name: str) -> str:
    """An input's name as part of a macro's: the type of its elements."""
    return "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}" for c in name)


class _Function:
    def __init__(
        self, part: Part, plan: Plan, around: Around, scope: _Scope | None = None, lane: str | None = None
    ) -> None:
        self.part, self.plan, self.around = part, plan, around
        self.scope = scope or _Scope(Names(_WORDS))
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
        self.stage: dict[str, int] = {}
        self.level: dict[str, int] = {}
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
        self.width = TALL if self.column_groups and not self.lane_columns else WIDTH

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
        self.sinks: list[_Sink] = []
        for store in self.part.stores:
            axes = subscript_axes(store.subscripts) | self.spread_of(operands(store))
            self.sinks.append(self.sink(store, axes, operands(store)))
        for total in self.part.totals:
            axes = frozenset(total.fold.axes) | self.spread_of(operands(total.fold))
            self.sinks.append(self.sink(total, axes, operands(total.fold)))
        self.last = max([0, *self.stage.values(), *(s.stage for s in self.sinks)])
        self.mark_arrays()

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

    def sink(self, what: Store | Total, axes: frozenset[str], given: tuple[Operand, ...]) -> _Sink:
        stage = max((self.after(o.name) for o in given if isinstance(o, Value)), default=0)
        return _Sink(what, self.depth(axes), stage, axes)

    def mark_arrays(self) -> None:
        """Lane values that are read in another loop than the one that makes them."""
        if self.lane_columns:
            return
        for s in (*self.part.statements, *self.sinks):
            if isinstance(s, _Sink):
                given = operands(s.what) if isinstance(s.what, Store) else operands(s.what.fold)
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

    # ------------------------------------------------------------------------------------------------ arguments

    def argument(self, kind: str, of: str, wanted: str, dim: Dim | None = None) -> str:
        key = (kind, of)
        if key not in self.scope.arguments:
            self.scope.arguments[key] = Argument(self.names.fresh(wanted), kind, of, dim)
        return self.scope.arguments[key].name

    def pointer(self, buffer: str) -> str:
        return self.argument("buffer", buffer, f"{buffer}_data")

    def symbol(self, name: str) -> str:
        word = "rest" if name == "..." else name if name.isidentifier() else "extent"
        return self.argument("extent", name, word, Dim.symbol(name))

    def extent(self, dim: Dim) -> str:
        """An extent, as an argument where it is more than a number."""
        if dim.constant is not None:
            return str(dim.constant)
        word = "rest" if str(dim) == "..." else str(dim) if str(dim).isidentifier() else "extent"
        return self.argument("extent", str(dim), word, dim)

    def shift(self, dim: Dim) -> str:
        names = {s: self.symbol(s) for s in dim.symbols()}
        text = offset_text(dim, names)
        if "//" in text.text:
            text = Text(self.argument("shift", str(dim), "shift", dim))
        return text.at(SUM)

    def size(self, group: tuple[str, ...]) -> str:
        """The number of indices of a group of axes, in this round."""
        if group[0] in self.around.rounds:
            first, last = self.bounds(group[0])
            return f"({last} - {first})"
        text = " * ".join(self.extent(self.dims[a]) for a in group)
        return f"({text})" if len(group) > 1 else text

    def bounds(self, axis: str) -> tuple[str, str]:
        word = axis if axis.isidentifier() else "rest"
        return self.argument("first", axis, f"{word}_first"), self.argument("last", axis, f"{word}_last")

    # -------------------------------------------------------------------------------------------------- indices

    def group_of(self, axis: str) -> tuple[str, ...]:
        return next(g for g in (*self.row_groups, *self.column_groups) if axis in g)

    def axis(self, name: str) -> str:
        """The index along an axis, absolute."""
        if name in self.around.points:
            return self.argument("point", name, f"{name}_point")
        return self.index[self.group_of(name)]

    def offset(self, buffer: str, subscripts: tuple[Subscript, ...]) -> tuple[str, list[str]]:
        """(offset, conditions that positions given by data are in range)."""
        b = self.plan.buffer(buffer)
        inside: list[str] = []
        text, k = "", 0
        while k < len(subscripts):
            s = subscripts[k]
            count = 1
            only = s.axes[0][0] if len(s.axes) == 1 and s.axes[0][0] not in self.around.points else ""
            group = self.group_of(only) if only else ()
            if len(group) > 1:
                place, count = self.index[group], len(group)
            else:
                place = self.position(s, b.dims[k], inside)
            if b.chunked == k:
                axis = s.axes[0][0] if s.axes else ""
                if b.chunked != 0 or (axis not in self.around.rounds and len(self.around.rounds) != 1):
                    raise Unsupported("a round of a buffer is read in another order than it lies in memory")
                place = f"({place} - {self.bounds(next(iter(self.around.rounds)))[0]})"
            for dim in b.dims[k : k + count]:
                if text:
                    text = f"({text}) * {self.extent(dim)}" if " " in text else f"{text} * {self.extent(dim)}"
            text = f"{text} + {place}" if text else place
            k += count
        return text or "0", inside

    def position(self, s: Subscript, dim: Dim, inside: list[str]) -> str:
        parts = [self.axis(a) if c == 1 else f"{c} * {self.axis(a)}" for a, c in s.axes]
        if s.data is not None:
            parts.append(self.terms[s.data.name].text)
        if s.offset.terms or not parts:
            parts.append(self.shift(s.offset))
        text = " + ".join(parts).replace("+ -", "- ")
        text = f"({text})" if len(parts) > 1 or text.startswith("-") or " " in text else text
        if s.data is not None:
            inside.append(f"({text} >= 0) & ({text} < {self.extent(dim)})")
        return text

    # --------------------------------------------------------------------------------------------------- values

    def term(self, o: Operand) -> Term:
        match o:
            case Value(name):
                return self.terms[name]
            case Literal():
                return literal(o)
            case ParamRef(name, type_):
                return Term(self.argument("parameter", name, name), type_)
            case SizeRef(dim):
                return Term(self.extent(dim), "int")
            case AxisRef(name):
                return Term(self.axis(name), "int")

    def variable(self, name: str) -> str:
        return self.names.fresh(self.wanted.get(name, name))

    def statement(self, s: Load | Op) -> None:
        """A line that makes a value; a lane value that is read in other loops goes to its array."""
        text = self.load(s) if isinstance(s, Load) else self.operation(s)
        comment = self.comments.get(s.name)
        tail = f"  // {printable(comment)}".replace('"', "'") if comment else ""  # it stands in a string
        if s.name in self.terms and s.name in self.arrays:  # declared before the loop
            self.out.line(f"{self.array_names[s.name]}[j] = {text};{tail}")
            return
        name = self.terms[s.name].text if s.name in self.terms else self.variable(s.name)
        self.terms[s.name] = Term(name, s.type)
        self.out.line(f"const {TYPES[s.type]} {name} = {text};{tail}")

    def operation(self, s: Op) -> str:
        args = [self.term(a) for a in s.args]
        if s.op == "select" and s.type == "acc" and self.in_lanes(s.name) and not self.varies(s.args[0]):
            return f"_h_pick({', '.join(a.text for a in args)})"
        return operation(s.op, args, s.type)

    def in_lanes(self, name: str) -> bool:
        """Whether a value is made in a loop over lanes."""
        if self.lane_columns:
            return self.level[name] == COLUMN
        return bool(self.part.spread[name] & frozenset(self.lane))

    def varies(self, o: Operand) -> bool:
        """Whether a value is not the same in all lanes."""
        axes = self.spread_of((o,))
        return bool(axes & frozenset(self.part.columns if self.lane_columns else self.lane))

    def load(self, s: Load) -> str:
        offset, inside = self.offset(s.buffer, s.subscripts)
        guard = None if s.guard is None else self.term(s.guard).text
        conditions = [*([guard] if guard is not None else []), *inside]
        text = f"{self.pointer(s.buffer)}[{offset}]"
        if any_element(self.plan.buffer(s.buffer)):
            text = f"(({TYPES[self.plan.buffer(s.buffer).type]}){text})"
        if s.type == "bool":
            text = f"({text} != 0)"
        if not conditions:
            return text
        void = number("nan", "acc") if s.type == "acc" else number(Fraction(0), s.type)
        filler = literal(s.pad).text if s.pad is not None else void
        if not inside:
            return f"{guard} ? {text} : {filler}"
        text = f"{' & '.join(conditions)} ? {text} : {void}"
        return text if guard is None else f"{guard} ? ({text}) : {filler}"

    # ---------------------------------------------------------------------------------------------------- folds

    def fold_state(self, s: Fold) -> State:
        value = s.value
        type_ = self.made[value.name].type if isinstance(value, Value) else "int"
        if isinstance(value, Literal | ParamRef):
            type_ = value.type
        return state(s.head, type_)

    def take(self, s: Fold, held: _Held) -> None:
        """The line that takes one entry into a state."""
        x = f"({TYPES[self.term(s.value).type]}){self.term(s.value).text}"
        names = held.at("j")
        place = self.flat(s) if s.head in ("argmax", "argmin") else "0"
        line = held.state.step(names, x, place)
        if s.where is None:
            self.out.line(line)
            return
        where = self.term(s.where).text
        match s.head:
            case "argmax" | "argmin":
                self.out.line(held.state.step(names, x, f"({where} ? {place} : -1)"))
            case _:
                identity = {"prod": "1", "all": "true", "any": "false"}.get(s.head, held.state.first[0])
                if s.head in ("sum", "count"):
                    identity = "0"
                cast = TYPES[self.term(s.value).type]
                self.out.line(held.state.step(names, f"({where} ? {x} : ({cast}){identity})", place))

    def flat(self, s: Fold) -> str:
        text = ""
        for a in s.axes:
            text = f"({text}) * {self.extent(self.dims[a])} + {self.axis(a)}" if text else self.axis(a)
        return f"({text})"

    # ---------------------------------------------------------------------------------------------------- loops

    def at_level(self, level: int, stage: int) -> list[Load | Op]:
        return [
            s
            for s in self.part.statements
            if not isinstance(s, Fold) and self.level[s.name] == level and self.stage[s.name] == stage
        ]

    def sinks_at(self, level: int, stage: int) -> list[_Sink]:
        return [s for s in self.sinks if s.level == level and s.stage == stage]

    def folds_at(self, stage: int) -> list[Fold]:
        return [s for s in self.part.statements if isinstance(s, Fold) and self.stage[s.name] == stage]

    def open_loop(self, head: str) -> None:
        self.out.line(head)
        self.out.indent()

    def close(self, text: str = "}") -> None:
        self.out.dedent()
        self.out.line(text)

    def lanes(self, length: str) -> None:
        self.out.line("#pragma omp simd")
        self.open_loop(f"for (int64_t j = 0; j < {length}; ++j) {{")

    def put(self, sink: _Sink) -> None:
        """A store, or one more entry of a total."""
        if isinstance(sink.what, Total):
            assert sink.held is not None
            self.take(sink.what.fold, sink.held)
            return
        store = sink.what
        offset, _ = self.offset(store.buffer, store.subscripts)
        value = self.term(store.value)
        sign = "+=" if store.accumulate else "="
        self.out.line(f"{self.pointer(store.buffer)}[{offset}] {sign} {value.text};")

    def body(self) -> list[str]:
        """The lines between the braces."""
        for s in self.at_level(-1, 0):
            self.statement(s)
        for sink in self.sinks_at(-1, 0):
            self.put(sink)
        if not self.part.scalar:
            self.loops()
        return self.out.lines

    def function(self, texts: list[_Function], condition: str = "") -> NativeFunction:
        """The function with one text, or with two of which the condition takes one."""
        part = self.part
        bodies = [t.body() for t in texts]
        lines = self.header()
        for t in texts:
            if not part.scalar:
                t.directive()
        if len(texts) == 1:
            lines += ["    " + x for x in bodies[0]]
        else:
            lines += [f"    if ({condition}) {{", *("        " + x for x in bodies[0])]
            lines += ["    } else {", *("        " + x for x in bodies[1]), "    }"]
        written = frozenset(s.buffer for s in part.stores) | frozenset(t.store.buffer for t in part.totals)
        return NativeFunction([*lines, "}"], tuple(self.ordered()), written)

    def directive(self) -> None:
        """Every value of the function as a copy of each thread: read through a pointer it would stop vectorisation."""
        names = [a.name for a in self.ordered()]
        names += [m.group(1) for line in self.out.lines[: self.parallel_at] if (m := _DECLARED.match(line))]
        text = "#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && programs > 1)"
        self.out.lines[self.parallel_at] = f"{text} firstprivate({', '.join(names)})"

    def ordered(self) -> list[Argument]:
        return sorted(self.scope.arguments.values(), key=lambda a: a.kind != "buffer")

    def header(self) -> list[str]:
        stored = {s.buffer for s in self.part.stores} | {t.store.buffer for t in self.part.totals}
        loaded = {s.buffer for s in self.part.statements if isinstance(s, Load)}
        texts, first = [], []
        for a in self.ordered():
            match a.kind:
                case "buffer":
                    kind = element_type(self.plan.buffer(a.of))
                    const = "" if a.of in stored else "const "
                    restrict = "" if a.of in stored & loaded else "__restrict__ "
                    texts.append(f"{const}{kind} *{restrict}{a.name}")
                case "parameter":
                    type_ = dict(self.plan.parameters)[a.of]
                    if type_ == "acc":
                        given = self.names.fresh(f"{a.name}_given")
                        texts.append(f"double {given}")
                        first.append(f"    const real_t {a.name} = (real_t){given};")
                    else:
                        texts.append(f"int64_t {a.name}")
                case _:
                    texts.append(f"int64_t {a.name}")
        texts.append("int64_t threads")
        head = f'extern "C" void {{name}}({", ".join(texts)}) {{'
        if len(head) > 110:
            inner = [f"    {t}," for t in texts[:-1]] + [f"    {texts[-1]}) {{"]
            return ['extern "C" void {name}(', *inner, *first, "    (void)threads;"]
        return [head, *first, "    (void)threads;"]

    def loops(self) -> None:
        """Programs of rows on threads, the body for one row or block of rows, and the sum of the shares."""
        out = self.out
        counts = [self.size(g) for g in self.outer]
        columns = [self.size(g) for g in self.column_groups]
        if self.lane and not self.lane_columns:
            out.line(f"const int64_t len_all = {self.size(self.lane)};")
            out.line(f"const int64_t blocks = (len_all + {self.width - 1}) / {self.width};")
            counts.append("blocks")
            each = " * ".join([f"(len_all < {self.width} ? len_all : {self.width})", *columns])
        else:
            each = " * ".join(columns) or "1"
        out.line(f"const int64_t rows = {' * '.join(counts) or '1'};")
        out.line(f"const int64_t each = {each} > 0 ? {each} : 1;")
        out.line(f"const int64_t group = each < {GRAIN} ? {GRAIN} / each : 1;")
        out.line("const int64_t programs = (rows + group - 1) / group;")
        self.declare_shares()
        self.parallel_at = len(out.lines)
        out.line("")  # the directive: its names are known when everything is printed
        self.open_loop("for (int64_t program = 0; program < programs; ++program) {")
        self.declare_totals()
        out.line("const int64_t stop = (program + 1) * group < rows ? (program + 1) * group : rows;")
        self.open_loop("for (int64_t row = program * group; row < stop; ++row) {")
        self.decode(counts)
        self.row()
        self.close()
        self.leave_shares()
        self.close()
        self.join_shares()

    def decode(self, counts: list[str]) -> None:
        """The indices of a row."""
        groups: list[tuple[str, ...]] = list(self.outer)
        blocked = bool(self.lane) and not self.lane_columns
        names = []
        for g in groups:
            names.append(self.index_name(g))
        rest = "row"
        items = list(zip(names, counts)) + ([("block", "blocks")] if blocked else [])
        for k in reversed(range(len(items))):
            name, count = items[k]
            group = groups[k] if k < len(groups) else ()
            first = f"{self.bounds(group[0])[0]} + " if group and group[0] in self.around.rounds else ""
            if k == 0:
                self.out.line(f"const int64_t {name} = {first}{rest};")
            else:
                self.out.line(f"const int64_t {name} = {first}{rest} % {count};")
                left = self.names.fresh("left")
                if k == 1:
                    rest = f"{rest} / {count}"
                else:
                    self.out.line(f"const int64_t {left} = {rest} / {count};")
                    rest = left
        for g, name in zip(groups, names):
            self.index[g] = name
        if blocked:
            self.out.line(f"const int64_t at = block * {self.width};")

    def index_name(self, group: tuple[str, ...]) -> str:
        word = group[0] if len(group) == 1 and group[0].isidentifier() else "rest" if len(group) == 1 else "packed"
        return self.names.fresh(f"i_{word}")

    def row(self) -> None:
        """The body for one row, or for a block of lanes."""
        if self.lane_columns:
            self.stages("")
            return
        self.out.line(f"const int64_t rest_len = len_all - at < {self.width} ? len_all - at : {self.width};")
        self.open_loop("auto body = [&](const int64_t len) __attribute__((always_inline)) {")
        self.index[self.lane] = self.index_name(self.lane)
        self.stages("len")
        self.close("};")
        self.out.line(f"if (rest_len == {self.width}) body({self.width}); else body(rest_len);")

    def array(self, name: str, type_: str) -> str:
        """A variable with a value for each lane; the value's text reads it."""
        variable = self.variable(name)
        self.out.line(f"{'mask_t' if type_ == 'bool' else TYPES[type_]} {variable}[{self.width}];")
        self.terms[name] = Term(f"({variable}[j] != 0)" if type_ == "bool" else f"{variable}[j]", type_)
        return variable

    def lane_index(self, start: str) -> None:
        first = f"{self.bounds(self.lane[0])[0]} + " if self.lane[0] in self.around.rounds else ""
        self.out.line(f"const int64_t {self.index[self.lane]} = {first}{start} + j;")

    def stages(self, length: str) -> None:
        for name in sorted(self.arrays, key=list(self.made).index):
            s = self.made[name]
            self.array_names[name] = self.array(name, s.type)
        for stage in range(self.last + 1):
            for s in self.at_level(ROW, stage):
                self.statement(s)
            for sink in self.sinks_at(ROW, stage):
                self.put(sink)
            values, sinks = self.at_level(LANE, stage), self.sinks_at(LANE, stage)
            if values or sinks:
                self.lanes(length)
                self.lane_index("at")
                for s in values:
                    self.statement(s)
                for sink in sinks:
                    self.put(sink)
                self.close()
            self.columns(stage, length)

    def needed(self, stage: int) -> list[Load | Op]:
        """Values along columns that a pass needs, in order."""
        wanted: set[str] = set()
        pending: list[Operand] = []
        for f in self.folds_at(stage):
            pending += operands(f)
        for sink in self.sinks_at(COLUMN, stage):
            pending += operands(sink.what) if isinstance(sink.what, Store) else operands(sink.what.fold)
        while pending:
            o = pending.pop()
            if isinstance(o, Value) and o.name not in wanted and self.level[o.name] == COLUMN:
                wanted.add(o.name)
                pending += operands(self.made[o.name])
        return [s for s in self.part.statements if s.name in wanted and not isinstance(s, Fold)]

    def columns(self, stage: int, length: str) -> None:
        """One pass over the columns."""
        folds, sinks = self.folds_at(stage), self.sinks_at(COLUMN, stage)
        if not folds and not sinks:
            return
        values = self.needed(stage)
        lane = frozenset(self.lane)
        held: list[_Held] = []
        for f in folds:
            lanes = self.lane_columns or bool(self.spread_of(operands(f)) & lane)
            held.append(self.declare(f, lanes, self.wanted.get(f.name, f.name)))
        for g in self.inner:
            name = self.index_name(g)
            self.index[g] = name
            first = self.bounds(g[0])[0] if g[0] in self.around.rounds else "0"
            last = self.bounds(g[0])[1] if g[0] in self.around.rounds else self.size(g)
            self.open_loop(f"for (int64_t {name} = {first}; {name} < {last}; ++{name}) {{")
        if self.lane_columns:
            self.index[self.lane] = self.index_name(self.lane)
            name = self.names.fresh("pass")
            self.open_loop(f"auto {name} = [&](const int64_t at, const int64_t len) __attribute__((always_inline)) {{")
            self.lanes("len")
            self.lane_index("at")
            self.pass_body(values, folds, held, sinks)
            self.close()
            self.close("};")
            count = self.size(self.lane)
            size = self.names.fresh("size")
            self.out.line(f"const int64_t {size} = {count};")
            self.out.line(f"int64_t {size}_at = 0;")
            self.out.line(f"for (; {size}_at + {WIDTH} <= {size}; {size}_at += {WIDTH}) {name}({size}_at, {WIDTH});")
            self.out.line(f"if ({size}_at < {size}) {name}({size}_at, {size} - {size}_at);")
        else:
            for s in values:
                if not self.part.spread[s.name] & lane:
                    self.statement(s)
            for f, h in zip(folds, held):
                if not h.lanes:
                    self.take(f, h)
            for sink in sinks:
                if not sink.varies & lane:
                    self.put(sink)
            of_lanes = [s for s in values if self.part.spread[s.name] & lane]
            lane_folds = [(f, h) for f, h in zip(folds, held) if h.lanes]
            lane_sinks = [s for s in sinks if s.varies & lane]
            if lane_folds or lane_sinks:
                self.lanes(length)
                self.lane_index("at")
                self.pass_body(of_lanes, [f for f, _ in lane_folds], [h for _, h in lane_folds], lane_sinks)
                self.close()
        for _ in self.inner:
            self.close()
        for s in values:  # made again in another pass, under another name
            self.terms.pop(s.name, None)
        for f, h in zip(folds, held):
            self.finish(f, h, length)

    def pass_body(self, values: list[Load | Op], folds: list[Fold], held: list[_Held], sinks: list[_Sink]) -> None:
        for s in values:
            self.statement(s)
        for f, h in zip(folds, held):
            self.take(f, h)
        for sink in sinks:
            self.put(sink)

    def declare(self, f: Fold, lanes: bool, word: str) -> _Held:
        """The first state of a fold."""
        made = self.fold_state(f)
        names = [
            self.names.fresh(f"{word}_{k}" if len(made.types) > 1 else f"{word}_state") for k in range(len(made.types))
        ]
        for name, type_, first in zip(names, made.types, made.first):
            if lanes:
                self.out.line(f"{'mask_t' if type_ == 'bool' else type_} {name}[{self.width}];")
                self.out.line(f"for (int64_t j = 0; j < {self.width}; ++j) {name}[j] = {first};")
            else:
                self.out.line(f"{type_} {name} = {first};")
        return _Held(made, names, lanes)

    def finish(self, f: Fold, held: _Held, length: str) -> None:
        """The value of a fold from its state."""
        if held.lanes and not self.lane_columns:  # one for each lane
            if self.level[f.name] == LANE:
                variable = self.array(f.name, f.type)
                self.lanes(length)
                self.out.line(f"{variable}[j] = {held.state.finish(held.at('j'))};")
                self.close()
                return
            raise Unsupported("it folds over what lies side by side in memory and over other axes")
        if held.lanes:
            self.merge_lanes(held)
        variable = self.variable(f.name)
        first = held.at("0")
        self.out.line(f"const {TYPES[f.type]} {variable} = {held.state.finish(first)};")
        self.terms[f.name] = Term(variable, f.type)

    def merge_lanes(self, held: _Held) -> None:
        """Pairwise: the state of all lanes in the first one."""
        self.open_loop(f"for (int64_t half = {self.width // 2}; half > 0; half /= 2) {{")
        self.open_loop("for (int64_t j = 0; j < half; ++j) {")
        self.out.line(held.state.merge(held.at("j"), held.at("j + half")))
        self.close()
        self.close()

    # ---------------------------------------------------------------------------------------------------- totals

    def totals(self) -> list[_Sink]:
        return [s for s in self.sinks if isinstance(s.what, Total)]

    def declare_shares(self) -> None:
        for sink in self.totals():
            assert isinstance(sink.what, Total)
            fold = sink.what.fold
            made = self.fold_state(fold)
            if len(made.types) > 1:
                raise Unsupported(f"{fold.head} over everything has no share that can be stored")
            name = self.names.fresh(f"{self.wanted.get(fold.name, fold.name)}_shares")
            type_ = self.share_type(made)
            sink.held = _Held(made, [name], False)
            self.out.line(f"{type_} *{name} = ({type_} *)::malloc((programs > 0 ? programs : 1) * sizeof({type_}));")

    def share_type(self, made: State) -> str:
        return "double" if made.types[0] == "real_t" else made.types[0]

    def declare_totals(self) -> None:
        """The states of a program."""
        self.shares = {}
        lane = frozenset(self.lane)
        for sink in self.totals():
            assert isinstance(sink.what, Total)
            assert sink.held is not None
            fold = sink.what.fold
            lanes = sink.level == LANE or (sink.level == COLUMN and (self.lane_columns or bool(sink.varies & lane)))
            self.shares[id(sink)] = sink.held.names[0]
            if lanes or fold.head not in ("sum", "prod"):
                sink.held = self.declare(fold, lanes, self.wanted.get(fold.name, fold.name))
                continue
            made = self.fold_state(fold)
            name = self.names.fresh(f"{self.wanted.get(fold.name, fold.name)}_state")
            self.out.line(f"{self.share_type(made)} {name} = {made.first[0]};")
            sink.held = _Held(made, [name], False)

    def leave_shares(self) -> None:
        for sink in self.totals():
            assert sink.held is not None
            if sink.held.lanes:
                self.merge_lanes(sink.held)
            self.out.line(f"{self.shares[id(sink)]}[program] = {sink.held.at('0')[0]};")

    def join_shares(self) -> None:
        for sink in self.totals():
            assert isinstance(sink.what, Total)
            assert sink.held is not None
            share, made = self.shares[id(sink)], sink.held.state
            name = self.names.fresh(f"{share}_sum")
            self.out.line(f"{self.share_type(made)} {name} = {made.first[0]};")
            self.open_loop("for (int64_t program = 0; program < programs; ++program) {")
            self.out.line(made.merge([name], [f"{share}[program]"]))
            self.close()
            self.out.line(f"::free({share});")
            store = sink.what.store
            sign = "+=" if store.accumulate else "="
            type_ = self.plan.buffer(store.buffer).type
            cast = STORED["acc" if type_.startswith("like ") else type_]
            self.out.line(f"{self.pointer(store.buffer)}[0] {sign} ({cast}){name};")
