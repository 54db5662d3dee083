"""A part of a kernel as the text of one C++ function with a plain C ABI.

The rows of a part are spread over threads in *programs* of a size that depends on the extents alone, so that totals
(one share for each program, added up in order) are the same with any number of threads. The innermost loop is always a
block of lanes, neighbours in memory: of columns, where the lane axis is folded inside of a row, or of rows, where it is
not (a fold then holds one state for each lane). A value that varies along columns is made again in every pass over them;
there is one pass more for each fold that needs an earlier one's result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lossdsl.backends.native_layout import (
    COLUMN,
    FEW,
    GRAIN,
    LANE,
    ROW,
    WIDTH,
    Argument,
    Around,
    Held,
    NativeFunction,
    Sink,
    element_type,
)
from lossdsl.backends.native_resident import Resident
from lossdsl.backends.native_text import STORED, TYPES, State, Term, state
from lossdsl.backends.triton_parts import Part, Total, operands
from lossdsl.backends.triton_text import Unsupported
from lossdsl.lower.plan import (
    Fold,
    Literal,
    Load,
    Op,
    ParamRef,
    Plan,
    Store,
    Value,
)

_DECLARED = re.compile(r"(?:const )?\w+ \*?(\w+) = ")


def native_function(part: Part, plan: Plan, around: Around) -> NativeFunction:
    """The text of a part. Raises Unsupported.

    Where lanes run along an axis that nothing is folded over, its extent may be small (1, where `...` stands for no
    axes): then the lanes of a second text run along the columns. So may that of columns (the entries of a vector in a
    distance), and lanes then run along rows, if one pass is all.
    """
    made = _Function(part, plan, around)
    if not part.columns:
        return made.function([made])
    if not made.lane_columns:
        other = _Function(part, plan, around, made.scope, part.columns[-1])
        few = f"{made.size(made.lane)} >= {FEW} || {made.size(made.lane)} >= {made.size(other.lane)}"
        return made.function([made, other], few)
    if part.rows and made.last == 1 and not made.inner and (made.dims[made.lane[-1]].constant or 0) < FEW:
        try:
            other = _Function(part, plan, around, made.scope, part.rows[-1])
            return made.function([made, other], f"{made.size(made.lane)} >= {FEW} || {made.size(other.lane)} < {FEW}")
        except Unsupported:
            made = _Function(part, plan, around)
    return made.function([made])


class _Function(Resident):
    # ---------------------------------------------------------------------------------------------------- folds

    def fold_state(self, s: Fold) -> State:
        value = s.value
        type_ = self.made[value.name].type if isinstance(value, Value) else "int"
        if isinstance(value, Literal | ParamRef):
            type_ = value.type
        return state(s.head, type_)

    def take(self, s: Fold, held: Held) -> None:
        """The line that takes one entry into a state."""
        names = held.at("j")
        if isinstance(s.value, Value) and s.value.name in self.fused:
            a, b = (self.term(o).text for o in operands(self.made[s.value.name]))
            line = f"{names[0]} = _h_fma({a}, {b}, {names[0]});"
            self.out.line(line if s.where is None else f"if ({self.term(s.where).text}) {line}")
            return
        x = f"({TYPES[self.term(s.value).type]}){self.term(s.value).text}"
        place = self.flat(s) if s.head in ("argmax", "argmin") else "0"
        if s.name in self.resident:
            given = x if s.where is None else f"{self.term(s.where).text} ? {x} : -_h_inf"
            self.out.line(f"_h_absorb_in<resident>({', '.join(names)}, {given});")
            return
        line = held.state.step(names, x, place)
        if s.where is None:
            self.out.line(line)
            return
        where = self.term(s.where).text
        match s.head:
            case "argmax" | "argmin":
                self.out.line(held.state.step(names, x, f"({where} ? {place} : -1)"))
            case _:
                known = {"prod": "1", "all": "true", "any": "false", "logsumexp": "-_h_inf"}
                identity = known.get(s.head, held.state.first[0])
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

    def open_loop(self, head: str) -> None:
        self.out.line(head)
        self.out.indent()

    def close(self, text: str = "}") -> None:
        self.out.dedent()
        self.out.line(text)

    def lanes(self, length: str) -> None:
        self.out.line("#pragma omp simd")
        self.open_loop(f"for (int64_t j = 0; j < {length}; ++j) {{")

    def put(self, sink: Sink) -> None:
        """A store, or one more entry of a total."""
        if isinstance(sink.what, Total):
            assert sink.held is not None
            self.take(sink.what.fold, sink.held)
            return
        store = sink.what
        value = self.term(store.value)
        if id(store) in self.lines:
            self.out.line(f"{self.lines[id(store)]}[j] = {value.text};")
            return
        offset, _ = self.offset(store.buffer, store.subscripts)
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
        if self.around.alone:
            del self.out.lines[self.parallel_at]
            return
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
        self.edges = self.edge_conditions()
        self.choose_resident()
        self.declare_large()
        if self.edges:
            out.line(f"const int64_t len_all = {self.size(self.lane)};")
            each = " * ".join(["len_all", *columns])
        elif self.lane and not self.lane_columns:
            out.line(f"const int64_t len_all = {self.size(self.lane)};")
            out.line(f"const int64_t blocks = (len_all + {self.width - 1}) / {self.width};")
            counts.append("blocks")
            each = " * ".join([f"(len_all < {self.width} ? len_all : {self.width})", *columns])
        else:
            each = " * ".join(columns) or "1"
        if self.around.alone:
            out.line("const int64_t programs = 1;")
        else:
            out.line(f"const int64_t rows = {' * '.join(counts) or '1'};")
            out.line(f"const int64_t each = {each} > 0 ? {each} : 1;")
            out.line(f"const int64_t group = each < {GRAIN} ? {GRAIN} / each : 1;")
            out.line("const int64_t programs = (rows + group - 1) / group;")
        self.declare_shares()
        self.parallel_at = len(out.lines)
        out.line("")  # the directive: its names are known when everything is printed
        self.open_loop("for (int64_t program = 0; program < programs; ++program) {")
        self.declare_totals()
        if not self.around.alone:
            out.line("const int64_t stop = (program + 1) * group < rows ? (program + 1) * group : rows;")
        steps = self.strides()
        # a step of 1 that is not known to be one would make gathers of the loads
        given = [*(f"const int64_t {s}" for s in steps), *(["auto in_cache"] if self.caching else [])]
        given += ["auto in_blocks"] if steps else []
        if given:
            self.open_loop(f"auto rows_of = [&]({', '.join(given)}) __attribute__((always_inline)) {{")
        if self.caching:
            self.out.line("constexpr bool resident = decltype(in_cache)::is;")
            self.declare_rooms()
        if steps:
            self.out.line("constexpr bool whole = decltype(in_blocks)::is;")
        loops = 1
        if self.around.alone:
            loops = self.nested(counts)
        else:
            self.open_loop("for (int64_t row = program * group; row < stop; ++row) {")
            self.decode(counts)
        self.row()
        for _ in range(loops):
            self.close()
        if given:
            self.close("};")
            self.variants(steps)
        self.leave_shares()
        if self.large:
            self.out.line("_h_settle();")
        self.close()
        self.join_shares()

    def variants(self, steps: list[str]) -> None:
        """Call the text of the rows for what is known of the steps between columns, and of the number of columns."""
        one, ones = [f"{s} == 1" for s in steps], ["1" for _ in steps]
        line, blocks = "", ["_h_yes()"] if steps else []
        if self.caching:
            line = f"if ({' && '.join([*one, self.fits()])}) rows_of({', '.join([*ones, '_h_yes()', *blocks])}); else "
        last = ["_h_no()"] if self.caching else []
        if steps:
            line += f"if ({' && '.join(one)}) rows_of({', '.join([*ones, *last, *blocks])}); else "
        self.out.line(f"{line}rows_of({', '.join([*steps, *last, *(['_h_no()'] if steps else [])])});")

    def strides(self) -> list[str]:
        """The extents that part neighbours along the lanes, where those are columns."""
        found: dict[str, None] = {}
        if not self.lane_columns or self.around.rounds:
            return []
        loads = [(s.buffer, s.subscripts) for s in self.part.statements if isinstance(s, Load)]
        for buffer, subscripts in (*loads, *((s.buffer, s.subscripts) for s in self.part.stores)):
            dims = self.plan.buffer(buffer).dims
            at = [k for k, s in enumerate(subscripts) if any(a in self.lane for a, _ in s.axes)]
            for dim in dims[at[-1] + 1 :] if at else ():
                if dim.constant is None:
                    found[self.extent(dim)] = None
        return list(found)

    def nested(self, counts: list[str]) -> int:
        """The loops over rows of one thread; how many there are."""
        for g, count in zip(self.outer, counts):
            name = self.index[g] = self.index_name(g)
            first, last = self.bounds(g[0]) if g[0] in self.around.rounds else ("0", count)
            self.open_loop(f"for (int64_t {name} = {first}; {name} < {last}; ++{name}) {{")
        if self.blocked:
            self.open_loop("for (int64_t block = 0; block < blocks; ++block) {")
            self.start_block()
        return len(self.outer) + self.blocked

    @property
    def blocked(self) -> bool:
        """Whether lanes run along rows, in blocks."""
        return bool(self.lane) and not self.lane_columns and not self.edges

    def start_block(self) -> None:
        at, last = f"block * {self.width}", f"len_all - {self.width}"
        if self.around.alone and self.repeatable():  # the last block is as long as the others: some entries come again
            at = f"len_all >= {self.width} && {at} > {last} ? {last} : {at}"
        self.out.line(f"const int64_t at = {at};")

    def decode(self, counts: list[str]) -> None:
        """The indices of a row."""
        names = [self.index_name(g) for g in self.outer]
        rest = "row"
        items = list(zip(names, counts)) + ([("block", "blocks")] if self.blocked else [])
        for k in reversed(range(len(items))):
            name, count = items[k]
            group = self.outer[k] if k < len(self.outer) else ()
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
        for g, name in zip(self.outer, names):
            self.index[g] = name
        if self.blocked:
            self.start_block()

    def index_name(self, group: tuple[str, ...]) -> str:
        word = group[0] if len(group) == 1 and group[0].isidentifier() else "rest" if len(group) == 1 else "packed"
        return self.names.fresh(f"i_{word}")

    def row(self) -> None:
        """The body for one row, or for a block of lanes."""
        if self.lane_columns:
            self.stages("")
            return
        if self.edges:
            self.parted()
            return
        self.out.line(f"const int64_t rest_len = len_all - at < {self.width} ? len_all - at : {self.width};")
        self.open_loop("auto body = [&](const int64_t len) __attribute__((always_inline)) {")
        self.index[self.lane] = self.index_name(self.lane)
        self.stages("len")
        self.close("};")
        whole = "resident && " if self.caching else ""
        self.out.line(f"if ({whole}rest_len == {self.width}) body({self.width}); else body(rest_len);")

    def parted(self) -> None:
        """The body for a row in blocks of lanes: those inside, the last of them as long as the others, and those at the
        edges."""
        out, w = self.out, self.width
        for line in self.inner_lanes():
            out.line(line)
        given = "const int64_t at, const int64_t len, const bool inside"
        self.open_loop(f"auto body = [&]({given}) __attribute__((always_inline)) {{")
        self.index[self.lane] = self.index_name(self.lane)
        self.stages("len")
        self.close("};")
        # edges of a constant length: entries are made again rather than one by one
        self.open_loop(f"for (int side = 0; side < 2 && len_all >= {FEW}; ++side) {{")
        out.line("const int64_t stop = side == 0 ? inner_from : len_all;")
        first, last = "int64_t at = side == 0 ? 0 : inner_to", f"len_all - {FEW}"
        out.line(f"for ({first}; at < stop; at += {FEW}) body(at < {last} ? at : {last}, {FEW}, false);")
        self.close()
        out.line(f"if (len_all < {FEW}) body(0, len_all, false), inner_to = 0;")
        out.line("int64_t at = inner_from;")
        out.line(f"for (; at + {w} <= inner_to; at += {w}) body(at, {w}, true);")
        out.line(f"if (at < inner_to && inner_to - inner_from >= {w}) body(inner_to - {w}, {w}, true);")
        out.line("else if (at < inner_to) body(at, inner_to - at, true);")

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
                self.open_lines(sinks)
                self.lanes(length)
                self.lane_index("at")
                for s in values:
                    self.statement(s)
                for sink in sinks:
                    self.put(sink)
                self.close()
                self.close_lines(sinks, length)
            self.columns(stage, length)

    def columns(self, stage: int, length: str) -> None:
        """One pass over the columns."""
        folds, sinks = self.folds_at(stage), self.sinks_at(COLUMN, stage)
        if not folds and not sinks:
            return
        values = self.along(self.read_in(stage))
        self.passing = stage
        lane = frozenset(self.lane)
        inside = ""
        if self.few_columns(folds, sinks):
            guards = {s.guard.name for s in values if isinstance(s, Load) and isinstance(s.guard, Value)}
            guards |= {f.where.name for f in folds if isinstance(f.where, Value)}
            lane_edges = any(a in self.lane for g in guards for of, _ in self.edges.get(g, ()) for a in of)
            if not guards:
                self.unrolled(values, folds, length, self.results(folds))
                return
            if guards <= self.edges.keys():
                inside = "inside"
                results = self.results(folds) if lane_edges else {f.name: self.array(f.name, f.type) for f in folds}
                self.open_loop("if (inside) {")
                terms = dict(self.terms)
                self.terms |= {g: Term("true", "bool") for g in guards}
                self.unrolled(self.without(values, guards, folds), folds, length, results)
                self.terms = terms
                self.close("} else {")
                self.out.indent()
                if lane_edges:  # a few lanes: less than a block of them
                    self.unrolled(values, folds, length, results)
                    self.close()
                    return
        held: list[Held] = []
        for f in folds:
            lanes = self.lane_columns or bool(self.spread_of(operands(f)) & lane)
            held.append(self.declare(f, lanes, self.wanted.get(f.name, f.name)))
        self.one_pass(values, list(zip(folds, held)), sinks, length)
        again = [(f, h) for f, h in zip(folds, held) if f.name in self.resident]
        if again:
            self.open_loop("if (resident) {")
            self.passing += 0.5
            if self.lane_columns:
                for _, h in again:
                    self.largest(h)
            self.one_pass(self.along([o for f, _ in again for o in operands(f)]), again, [], length, again=True)
            self.close()
        if inside:
            for f, h in zip(folds, held):
                self.lanes(length)
                self.out.line(f"{results[f.name]}[j] = {h.state.finish(h.at('j'))};")
                self.close()
            self.close()
            return
        for f, h in zip(folds, held):
            self.finish(f, h, length)
            if self.resident.get(f.name):
                self.factor(f, h, length)

    def one_pass(
        self,
        values: list[Load | Op],
        folds: list[tuple[Fold, Held]],
        sinks: list[Sink],
        length: str,
        *,
        again: bool = False,
    ) -> None:
        """The loops of a pass; `again`: the second one of log-sum-exps of rows in the cache."""
        lane = frozenset(self.lane)
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
            self.open_lines(sinks)
            self.lanes("len")
            self.lane_index("at")
            self.pass_body(values, folds, sinks, again=again)
            self.close()
            self.close_lines(sinks, "len")
            self.close("};")
            count = self.size(self.lane)
            size = self.names.fresh("size")
            self.out.line(f"const int64_t {size} = {count};")
            self.out.line(f"int64_t {size}_at = 0;")
            given = "if (whole) " if self.strides() else ""
            self.open_loop(f"{given}for (; {size}_at + {WIDTH} <= {size}; {size}_at += {WIDTH}) {{")
            if again:
                self.fetch(self.fetched(values), f"({size} + {size}_at)")
            self.out.line(f"{name}({size}_at, {WIDTH});")
            self.close()
            if given:
                rest = f"{size} - {size}_at < {WIDTH} ? {size} - {size}_at : {WIDTH}"
                self.out.line(f"for (; {size}_at < {size}; {size}_at += {WIDTH}) {name}({size}_at, {rest});")
            else:
                self.out.line(f"if ({size}_at < {size}) {name}({size}_at, {size} - {size}_at);")
        else:
            for s in values:
                if not self.part.spread[s.name] & lane:
                    self.statement(s)
            for f, h in folds:
                if not h.lanes:
                    self.take(f, h)
            for sink in sinks:
                if not sink.varies & lane:
                    self.put(sink)
            of_lanes = [s for s in values if self.part.spread[s.name] & lane]
            lane_folds = [(f, h) for f, h in folds if h.lanes]
            lane_sinks = [s for s in sinks if s.varies & lane]
            if lane_folds or lane_sinks:
                self.open_lines(lane_sinks)
                if again:
                    self.fetch(self.fetched(values), f"(at + {self.width})")
                self.lanes(length)
                self.lane_index("at")
                self.pass_body(of_lanes, lane_folds, lane_sinks, again=again)
                self.close()
                self.close_lines(lane_sinks, length)
        for _ in self.inner:
            self.close()
        for s in values:  # made again in another pass, under another name
            self.terms.pop(s.name, None)

    def few_columns(self, folds: list[Fold], sinks: list[Sink]) -> bool:
        """Whether each lane folds over a few columns, of a known number, by itself: its states then stay in registers."""
        return (
            not self.lane_columns
            and self.short()
            and not sinks
            and not self.around.rounds & frozenset(self.part.columns)
            and all(self.level[f.name] == LANE for f in folds)
        )

    def results(self, folds: list[Fold]) -> dict[str, str | Sink]:
        """Where the values of folds go: what is only stored to its place at once, the others to arrays."""
        found: dict[str, str | Sink] = {}
        for f in folds:
            readers = [s for s in self.part.statements if Value(f.name) in operands(s)]
            sinks = [s for s in self.sinks if isinstance(s.what, Store) and s.what.value == Value(f.name)]
            others = [s for s in self.sinks if s not in sinks and Value(f.name) in operands(s.given)]
            if len(sinks) == 1 and not readers and not others and sinks[0].level == LANE:
                found[f.name] = sinks[0]
                self.sinks.remove(sinks[0])
            else:
                found[f.name] = self.array(f.name, f.type)
        return found

    def unrolled(
        self, values: list[Load | Op], folds: list[Fold], length: str, results: Mapping[str, str | Sink]
    ) -> None:
        """Folds over a few columns inside of the loop over lanes."""
        self.declare_rows(s for s in values if isinstance(s, Load))
        self.lanes(length)
        self.lane_index("at")
        held = [self.declare(f, False, self.wanted.get(f.name, f.name)) for f in folds]
        for k, g in enumerate(self.inner):
            name = self.index_name(g)
            self.index[g] = name
            if k == len(self.inner) - 1:
                self.out.line(f"#pragma GCC unroll {FEW}")
            self.open_loop(f"for (int64_t {name} = 0; {name} < {self.size(g)}; ++{name}) {{")
        self.pass_body(values, list(zip(folds, held)), [])
        for _ in self.inner:
            self.close()
        for f, h in zip(folds, held):
            value, result = h.state.finish(h.at("j")), results[f.name]
            if isinstance(result, Sink):
                self.terms[f.name] = Term(value, f.type)
                self.put(result)
            else:
                self.out.line(f"{result}[j] = {value};")
        self.close()
        for s in values:  # made again in another pass, under another name
            self.terms.pop(s.name, None)
        self.row_pointers.clear()

    def pass_body(
        self, values: list[Load | Op], folds: list[tuple[Fold, Held]], sinks: list[Sink], *, again: bool = False
    ) -> None:
        for s in values:
            self.statement(s)
        for f, h in folds:
            if again:
                self.exponentials(f, h)
            else:
                self.take(f, h)
        for sink in sinks:
            self.put(sink)

    def declare(self, f: Fold, lanes: bool, word: str) -> Held:
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
        return Held(made, names, lanes)

    def finish(self, f: Fold, held: Held, length: str) -> None:
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

    def merge_lanes(self, held: Held) -> None:
        """The state of all lanes in the first one: pairwise, but where one exponential each does."""
        if held.state.head == "logsumexp":
            self.out.line(f"_h_merge_lanes({', '.join(held.names)}, {self.width});")
            return
        self.open_loop(f"for (int64_t half = {self.width // 2}; half > 0; half /= 2) {{")
        self.open_loop("for (int64_t j = 0; j < half; ++j) {")
        self.out.line(held.state.merge(held.at("j"), held.at("j + half")))
        self.close()
        self.close()

    # ---------------------------------------------------------------------------------------------------- totals

    def totals(self) -> list[Sink]:
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
            sink.held = Held(made, [name], False)
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
            sink.held = Held(made, [name], False)

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
