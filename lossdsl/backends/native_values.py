"""The values of a part as C++ text: arguments, indices, loads, operations."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from lossdsl.backends.native_layout import COLUMN, Argument, Layout, any_element, element_type, whole_lines
from lossdsl.backends.native_text import TYPES, Term, literal, number, operation
from lossdsl.backends.text import SUM, Text, offset_text, printable
from lossdsl.backends.triton_parts import subscript_axes
from lossdsl.backends.triton_text import Unsupported
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    AxisRef,
    Literal,
    Load,
    Op,
    Operand,
    ParamRef,
    SizeRef,
    Subscript,
    Value,
)


class Values(Layout):
    """Prints one line for each value, wherever the loops want it."""

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
        lead, rows = self.around.kept.get(buffer, (0, 0))
        text, k = "", lead
        while k < len(subscripts):
            s = subscripts[k]
            count = 1
            only = s.axes[0][0] if len(s.axes) == 1 and s.axes[0][0] not in self.around.points else ""
            group = self.group_of(only) if only else ()
            if len(group) > 1:
                place, count = self.index[group], len(group)
            else:
                place = self.position(s, b.dims[k], inside)
            if rows and k == lead:
                place = f"({place} & {rows - 1})"
            if b.chunked == k:
                axis = s.axes[0][0] if s.axes else ""
                if b.chunked != 0 or (axis not in self.around.rounds and len(self.around.rounds) != 1):
                    raise Unsupported("a round of a buffer is read in another order than it lies in memory")
                place = f"({place} - {self.bounds(next(iter(self.around.rounds)))[0]})"
            for dim in b.dims[k : k + count]:
                if text:
                    size = self.length(buffer, dim)
                    text = f"({text}) * {size}" if " " in text else f"{text} * {size}"
            text = f"{text} + {place}" if text else place
            k += count
        return text or "0", inside

    def length(self, buffer: str, dim: Dim) -> str:
        """How many entries there are in memory along a dimension."""
        return whole_lines(self.extent(dim)) if buffer in self.around.kept else self.extent(dim)

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

    def declare_rows(self, loads: Iterable[Load]) -> None:
        """Pointers to the rows that the loads read along lanes: a compiler then sees that what a window reads is side by
        side, and needs one register for it."""
        for s in loads:
            b, key = self.plan.buffer(s.buffer), (s.buffer, s.subscripts[:-1])
            before = subscript_axes(s.subscripts[:-1]) & frozenset((*self.lane, *self.part.columns))
            data = any(p.data is not None for p in s.subscripts)
            alone = all(len(self.group_of(a)) == 1 for a in subscript_axes(s.subscripts[-1:]) - self.around.points)
            if key in self.row_pointers or not key[1] or before or data or not alone or b.chunked is not None:
                continue
            name = self.row_pointers[key] = self.names.fresh(f"{s.buffer}_row")
            lead, _ = self.offset(*key)
            start = f"{self.pointer(s.buffer)} + ({lead}) * {self.length(s.buffer, b.dims[-1])}"
            self.out.line(f"const {element_type(b)} *const {name} = {start};")

    def load(self, s: Load) -> str:
        inside: list[str] = []
        row = self.row_pointers.get((s.buffer, s.subscripts[:-1]))
        if row is not None:
            place = self.position(s.subscripts[-1], self.plan.buffer(s.buffer).dims[-1], [])
            text = f"{row}[{place}]"
        else:
            offset, inside = self.offset(s.buffer, s.subscripts)
            text = f"{self.pointer(s.buffer)}[{offset}]"
        guard = None if s.guard is None else self.term(s.guard).text
        conditions = [*([guard] if guard is not None else []), *inside]
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
