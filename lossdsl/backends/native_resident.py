"""Rows that stay in a cache: every exponential and logarithm once, kept for the passes that follow.

A row that fits in no cache is read as seldom as may be: its log-sum-exp is made in one pass, with an exponential for each
term and each new maximum, and each pass makes again what it needs. Where a further pass over the row costs nothing, the
maximum comes first; a term's exponential is then kept in memory of the thread, and the softmax is that times one factor for
the row. Other values that took an exponential or a logarithm are kept for later passes, too. Both are in the text; the
number of columns decides.
"""

from __future__ import annotations

from functools import cache

from lossdsl import primitives
from lossdsl.backends.native_layout import COLUMN, LANE, ROW, Held
from lossdsl.backends.native_stream import Streams
from lossdsl.backends.triton_parts import operands
from lossdsl.lower.plan import Fold, Load, Op, Operand, Subscript, Value

ROOM = 131072  # entries that are kept of a row, or of all rows of a block
ROOMS = 4  # values of one part that are kept


@cache
def costly(op: str) -> bool:
    """Whether a primitive takes an exponential or a logarithm."""
    record = primitives.PRIMITIVES.get(op)
    texts = [] if record is None else primitives.helper_sources([record.cxx], primitives.CXX_HELPERS)
    return any("_h_exp(" in t or "_h_log(" in t for t in texts)


class Resident(Streams):
    def choose_resident(self) -> None:
        """The folds that are made in two passes where a row is short enough, and the softmaxes made of what is kept."""
        if len(self.column_groups) != 1 or self.short() or self.edges:
            return
        if frozenset(self.part.columns) & (self.around.rounds | self.around.points):
            return
        level = ROW if self.lane_columns else LANE
        for f in self.part.statements:
            if not isinstance(f, Fold) or f.head != "logsumexp" or self.level[f.name] != level:
                continue
            read = {s.name: s.op for s in self.part.statements if isinstance(s, Op) and self.is_weight(s, f)}
            kept = bool(read) and f.where is None and len(self.rooms()) < ROOMS
            self.resident[f.name] = self.names.fresh(f"{self.wanted.get(f.name, f.name)}_kept") if kept else ""
            if kept:
                self.weights |= {name: (f.name, op) for name, op in read.items()}
        self.choose_saved()

    def choose_saved(self) -> None:
        """Values that a pass makes with an exponential or a logarithm, and that a later pass reads."""
        first: dict[str, int] = {}
        for stage in range(self.last + 1):
            folds = self.folds_at(stage)
            roots = self.read_in(stage)
            needed = self.along(roots)
            new = [s for s in needed if s.name not in first]
            read = {o.name for o in (*roots, *(o for s in new for o in operands(s))) if isinstance(o, Value)}
            first |= {s.name: stage for s in new}
            twice = {f.value.name for f in folds if f.name in self.resident and isinstance(f.value, Value)}
            for s in needed:
                if s.name in read and (s.name in twice or first[s.name] < stage) and self.worth_keeping(s):
                    word = self.names.fresh(f"{self.wanted.get(s.name, s.name)}_kept")
                    self.saved[s.name] = (word, first[s.name])

    def worth_keeping(self, s: Load | Op) -> bool:
        if s.type != "acc" or s.name in self.weights or s.name in self.saved or len(self.rooms()) >= ROOMS:
            return False
        if not self.lane_columns and not self.part.spread[s.name] & frozenset(self.lane):
            return False  # made once for all lanes
        made = self.along([Value(s.name)])
        return any(isinstance(v, Op) and v.name not in self.weights and costly(v.op) for v in made)

    def rooms(self) -> list[str]:
        """The variables of what is kept."""
        return [*filter(None, self.resident.values()), *(word for word, _ in self.saved.values())]

    def is_weight(self, s: Op, f: Fold) -> bool:
        """Whether it is `exp(x - f)` for the terms x of f."""
        args = s.args
        if s.op == "exp" and isinstance(args[0], Value):
            difference = self.made[args[0].name]
            if isinstance(difference, Op) and difference.op == "sub":
                args = difference.args
        return s.op in ("exp", "expdiff") and args == (f.value, Value(f.name)) and self.level[s.name] == COLUMN

    @property
    def caching(self) -> bool:
        """Whether there is a text of its own for rows that stay in a cache."""
        return bool(self.resident or self.saved)

    def fits(self) -> str:
        """The condition that a row, or a block of rows, is kept."""
        return f"{self.size(self.column_groups[0])} <= {ROOM if self.lane_columns else ROOM // self.width}"

    def declare_rooms(self) -> None:
        for k, room in enumerate(self.rooms()):
            self.out.line(f"real_t *const {room} = resident ? _h_room({k}) : nullptr;")

    def room_place(self) -> str:
        """Where a term is kept."""
        index = self.index[self.column_groups[0]]
        return index if self.lane_columns else f"{index} * {self.width} + j"

    def operation(self, s: Op) -> str:
        text = super().operation(s)
        room, made = self.saved.get(s.name, ("", -1))
        if room and self.passing > made:
            return f"resident ? {room}[{self.room_place()}] : {text}"
        if s.name not in self.weights:
            return text
        of = self.weights[s.name]
        return f"resident ? {self.resident[of[0]]}[{self.room_place()}] * {self.factors[of]} : {text}"

    def statement(self, s: Load | Op) -> None:
        super().statement(s)
        room, made = self.saved.get(s.name, ("", -1))
        if room and self.passing == made:
            self.out.line(f"if (resident) {room}[{self.room_place()}] = {self.terms[s.name].text};")

    def fetched(self, values: list[Load | Op]) -> list[Load]:
        """Loads of a row whose next one follows it in memory."""
        found = {}
        for s in values:
            if isinstance(s, Load) and self.row_groups and not self.around.rounds & frozenset(self.lane):
                last = s.subscripts[-len(self.lane) :]
                if last == tuple(Subscript(((a, 1),)) for a in self.lane) and len(s.subscripts) > len(self.lane):
                    found[s.buffer, s.subscripts] = s
        return list(found.values())

    def fetch(self, loads: list[Load], start: str) -> None:
        """Ask for what is read next, of the next row or block, while this one is worked on."""
        for s in loads:
            inner = self.index[self.lane]
            self.index[self.lane] = start
            offset, _ = self.offset(s.buffer, s.subscripts)
            self.index[self.lane] = inner
            self.out.line(f"_h_fetch<{self.width}>({self.pointer(s.buffer)} + {offset});")

    def largest(self, held: Held) -> None:
        """Where lanes are columns: the largest term of all lanes in each."""
        top = held.names[0]
        self.out.line(f"_h_level({top}, {self.width});")

    def exponentials(self, f: Fold, held: Held) -> None:
        """The lines for one term."""
        x = self.names.fresh("term")
        top, total = held.at("j")
        given = self.term(f.value).text
        if f.where is not None:
            given = f"{self.term(f.where).text} ? {given} : -_h_inf"
        self.out.line(f"const real_t {x} = {given};")
        power = self.names.fresh("power")
        self.out.line(f"const real_t {power} = _h_exp_down({x} - {top});")
        if self.resident[f.name]:
            self.out.line(f"{self.resident[f.name]}[{self.room_place()}] = {power};")
        self.out.line(f"{total} += {x} == {top} ? (real_t)1 : {power};")

    def factor(self, f: Fold, held: Held, length: str) -> None:
        """What the kept terms of a log-sum-exp are multiplied by: exp(x - whole) is exp(x - top) exp(top - whole), but
        where all terms are -inf, for which `exp(x - whole)` is NaN and `expdiff` 0."""
        for op in dict.fromkeys(op for name, op in self.weights.values() if name == f.name):
            word = self.names.fresh(f"{self.wanted.get(f.name, f.name)}_factor")
            top, whole = held.at("0" if self.lane_columns else "j")[0], self.terms[f.name].text
            text = f"_h_factor({top}, {whole}, {'(real_t)0' if op == 'expdiff' else '_h_nan'})"
            if self.lane_columns:
                self.out.line(f"const real_t {word} = resident ? {text} : (real_t)0;")
                self.factors[f.name, op] = word
                continue
            self.out.line(f"real_t {word}[{self.width}];")
            self.out.line("#pragma omp simd")
            self.out.line(f"for (int64_t j = 0; j < (resident ? {length} : 0); ++j) {word}[j] = {text};")
            self.factors[f.name, op] = f"{word}[j]"

    def along(self, roots: list[Operand]) -> list[Load | Op]:
        """The values along columns that the roots need, in order."""
        wanted: set[str] = set()
        pending = list(roots)
        while pending:
            o = pending.pop()
            if isinstance(o, Value) and o.name not in wanted and self.level[o.name] == COLUMN:
                wanted.add(o.name)
                pending += operands(self.made[o.name])
        return [s for s in self.part.statements if s.name in wanted - self.fused and not isinstance(s, Fold)]
