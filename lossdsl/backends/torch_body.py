"""A kernel as a flat list of torch calls over registers: what the two printers (fused, formula) have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.backends.text import ATOM, PRODUCT, SUM, Text, offset_text, slice_text
from lossdsl.backends.torch_access import conjuncts, only_range
from lossdsl.backends.torch_register import COUNTED, Instr, Number, Reg, Slices, Term, Write, stacked
from lossdsl.backends.torch_values import Values
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    AxisRef,
    Buffer,
    Fold,
    Literal,
    Load,
    Op,
    Scatter,
    Store,
    Subscript,
)


class Body(Values):
    """One kernel, as instructions."""

    def lower(self) -> list[Instr | Write]:
        for s in self.kernel.statements:
            match s:
                case Load():
                    value = self.load(s)
                case Op():
                    passed = self.masks.passed.get(s.name)
                    value = self.op(s) if passed is None else self.values[passed]
                case Fold():
                    value = self.fold(s)
                case Store() | Scatter():
                    self.write(s)
                    continue
            self.values[s.name] = value
            wanted = self.wanted.get(s.name, "" if COUNTED.match(s.name) else s.name)
            view = isinstance(s, Load) and bool(self.scope.loops)  # printed where it is used
            if isinstance(value, Reg) and wanted and not value.name and value.wanted == "t" and not view:
                value.wanted = wanted
            if s.name in self.comments and self.items:
                last = self.items[-1]
                if isinstance(last, Instr) and last.dest is value:
                    last.comment = self.comments[s.name]
        return self.items

    # --------------------------------------------------------------------------------------------------- loads

    def load(self, s: Load) -> Term:
        buffer = self.scope.plan.buffer(s.buffer)
        type_ = s.type
        if s.name in self.as_real:
            type_ = "acc"
        name, buffer, subscripts = self.source(buffer, type_, s.subscripts)
        wanted = self.wanted.get(s.name, name if name.isidentifier() else s.buffer)
        if self.scope.loops:
            wanted = "t"  # a view, printed where it is used
        guard = None if s.guard is None else self.term(s.guard)
        known, guard = self.parts(guard)
        pad = self.masks.pads.get(s.name) or s.pad or _void(type_)
        pad = Literal(pad.value, type_)
        at = buffer.chunked if buffer.role == "chunk" and self.scope.rounds else None
        plain = self.view(name, buffer, subscripts, at, guard is not None, pad)
        if plain is not None:
            text, axes, padded = plain
            owned = self.scope.local.get(s.buffer, False) and self.loads.count(s.buffer) == 1
            owned = owned and axes == set(self.order) and not padded
            if text == name and guard is None and known is None:
                return Reg(axes, type_, wanted, owned, name=name)
            strength = ATOM
            if known is not None:
                text, strength = self.otherwise(text, known, pad, axes), 0
            text = text.replace("{", "{{").replace("}", "}}")
            value: Term = self.emit(
                "text", (), type_, template=text, strength=strength, axes=axes, owned=owned, wanted=wanted
            )
            if padded and s.guard is not None:
                rest = [c for c in conjuncts(s.guard, self.ops) if isinstance(self.term(c), Reg)]
                dims = [(p, d) for p, d in zip(s.subscripts, self.scope.plan.buffer(s.buffer).dims)]
                if only_range(rest, self.ops, dims):
                    guard = None
        else:
            value = self.gather(name, buffer, subscripts, at, type_, wanted, known, pad, guarded=s.guard is not None)
        if s.name in self.masks.dropped:
            guard = None
        if guard is None:
            if known is not None and isinstance(value, Reg):
                self.chosen[value] = (known, str(self.term(pad)))
            return value
        return self.select(guard, value, self.term(pad), type_)

    def source(
        self, buffer: Buffer, type_: str, subscripts: tuple[Subscript, ...]
    ) -> tuple[str, Buffer, tuple[Subscript, ...]]:
        """The text of a buffer, and how it is accessed: of slices in a dict, the slice alone."""
        slices = self.scope.slices.get(buffer.name)
        if slices is None:
            return self.scope.source(buffer, type_), buffer, subscripts
        if any(subscripts[k].data is not None or self.lanes(subscripts[k]) for k in slices.positions):
            if slices.whole:
                return slices.whole, buffer, subscripts
            return stacked(self.scope, buffer, slices), buffer, subscripts
        left = [k for k in range(len(subscripts)) if k not in slices.positions]
        part = replace(buffer, dims=tuple(buffer.dims[k] for k in left), role="temporary")
        return self.slice_of(slices, subscripts), part, tuple(subscripts[k] for k in left)

    def slice_of(self, slices: Slices, subscripts: tuple[Subscript, ...]) -> str:
        """The text of the slice of a buffer that an access is in."""
        keys = [self.start(subscripts[k]) for k in slices.positions]
        if not slices.sizes:
            return f"{slices.variable}[{', '.join(k.text for k in keys)}]"
        flat = keys[0]
        for key, size in zip(keys[1:], slices.sizes[1:]):
            flat = Text(f"{flat.at(PRODUCT)} * {size.at(PRODUCT + 1)} + {key.at(SUM + 1)}", SUM)
        return f"{slices.variable}[{flat}]"

    def place(self, w: Write) -> str | None:
        """The slice that a round stores a value in, if the value has just its layout."""
        s = w.statement
        slices = self.scope.slices.get(s.buffer)
        if not isinstance(s, Store) or s.accumulate or slices is None or not slices.whole:
            return None
        own = [self.lanes(p) for k, p in enumerate(s.subscripts) if k not in slices.positions]
        same = [a[0][0] for a in own if a] == self.order and len(own) == len(self.order)
        value = w.value
        if not same or not isinstance(value, Reg) or value.axes != set(self.order) or not value.axes:
            return None
        return self.slice_of(slices, s.subscripts) if value.owned and value.type == "acc" else None

    def shifted(self, s: Subscript) -> bool:
        """Whether a position is an axis of the kernel at most, moved by a number of the round."""
        own = self.lanes(s)
        return len(own) <= 1 and all(c == 1 for _, c in own)

    def adds_in_place(self, w: Write) -> bool:
        """Whether a store adds a value to a whole buffer whose layout is just the value's."""
        s, value = w.statement, w.value
        if not isinstance(s, Store) or not s.accumulate or not isinstance(value, Reg) or not value.axes:
            return False
        named = [a for p in s.subscripts for a, _ in self.lanes(p)]
        whole = len(named) == len(s.subscripts) and named == self.order and value.axes == set(named)
        return whole and value.type == "acc" and all(self.shifted(p) for p in s.subscripts)

    def lanes(self, s: Subscript) -> list[tuple[str, int]]:
        """The axes of a position that are the kernel's own."""
        return [(a, c) for a, c in s.axes if a not in self.scope.loops]

    def start(self, s: Subscript) -> Text:
        """Where a position starts: its offset, and the indices of the loops around the kernel."""
        text = Text("")
        for a, c in s.axes:
            if a in self.scope.loops:
                part = self.scope.loops[a] if abs(c) == 1 else f"{abs(c)} * {self.scope.loops[a]}"
                if text.text:
                    text = Text(f"{text} {'+' if c > 0 else '-'} {part}", SUM)
                else:
                    text = Text(part if c > 0 else f"-{part}", SUM if abs(c) != 1 or c < 0 else ATOM)
        if not text.text:
            return offset_text(s.offset, self.scope.extents)
        if not s.offset.terms:
            return text
        offset = offset_text(s.offset, self.scope.extents)
        if offset.text.startswith("-"):
            return Text(f"{text} - {offset_text(-s.offset, self.scope.extents).at(SUM + 1)}", SUM)
        return Text(f"{text} + {offset.text}", SUM)

    def parts(self, guard: Term | None) -> tuple[Term | None, Term | None]:
        """What of a guard is a Python condition of the round, and the rest of it."""
        if isinstance(guard, Number):
            return guard, None
        if guard is None:
            return None, None
        return self.split.get(guard, (None, guard))

    def otherwise(self, text: str, known: Term, pad: Literal, axes: frozenset[str]) -> str:
        """`text` in the rounds in which it may be read, `pad` in the others."""
        void = self.tensor(self.term(pad)).text
        shape = f".expand({self.shape(axes)})" if axes else ""
        return f"{text} if {known} else {void}{shape}"

    def view(
        self,
        name: str,
        buffer: Buffer,
        subscripts: tuple[Subscript, ...],
        chunked: int | None,
        guarded: bool,
        pad: Literal,
    ) -> tuple[str, frozenset[str], bool] | None:
        """A view in the kernel's layout, its axes, and whether positions outside of the buffer were filled with `pad`;
        None if the access is no slice."""
        items: list[str] = []
        left: list[str] = []
        spans: list[tuple[int, str, str, int]] = []
        for k, (s, dim) in enumerate(zip(subscripts, buffer.dims)):
            own = self.lanes(s)
            if s.data is not None or len(own) > 1 or any(c < 1 for _, c in own):
                return None
            if not own:
                alone = len(own) == len(s.axes) and (guarded or s.offset.constant is None)
                if alone and not _within(s.offset, Dim.const(1), dim):
                    return None
                items.append(self.start(s).text)
                continue
            axis, step = own[0]
            if axis in left:
                return None
            left.append(axis)
            if k == chunked:
                if step != 1:
                    return None
                items.append(":")
                continue
            moved = len(s.axes) > 1
            reach = self.dims[axis] if step == 1 else (self.dims[axis] - 1) * step + 1
            inside = not moved and _within(s.offset, reach, dim)
            if moved and not guarded:
                inside = True  # the recurrence's own reads are in range where they are not guarded
            if not guarded and step == 1:
                inside = True
            if inside:
                items.append(self.cut(s, axis, step, dim))
            elif guarded:
                begin = self.start(s)
                if axis in self.scope.rounds:
                    low = Text(self.scope.rounds[axis][0])
                    low = low if step == 1 else Text(f"{step} * {low}", SUM)
                    begin = low if begin.text == "0" else Text(f"{low} + {begin.at(SUM + 1)}", SUM)
                spans.append((len(left) - 1, begin.text, self.scope.extent(axis, self.dims[axis]).text, step))
                items.append(":")
            else:
                return None
        if spans:
            self.scope.helpers.add("_span")
            if any(i != ":" for i in items):
                name = f"{name}[{', '.join(items)}]"
            void = str(self.term(pad))
            for k, begin_text, size, step in spans:
                more = f", {step}" if step != 1 else ""
                name = f"_span({name}, {k}, {begin_text}, {size}, {void}{more})"
            items = [":"] * len(left)
        return self.layout(name, items, left), frozenset(left), bool(spans)

    def cut(self, s: Subscript, axis: str, step: int, dim: Dim) -> str:
        """The slice of a dimension that an axis runs over, from where the position starts, every `step`-th entry."""
        if step == 1 and len(s.axes) == 1:
            return self.slice(axis, s.offset, dim)
        begin = self.start(s)
        if axis in self.scope.rounds:
            low, high = self.scope.rounds[axis]
            shift = "" if begin.text == "0" else f" + {begin.at(SUM + 1)}"
            if step == 1:
                return slice_text(f"{low}{shift}", f"{high}{shift}")
            return slice_text(f"{step} * {low}{shift}", f"{step} * ({high} - 1){shift} + 1", str(step))
        size = self.scope.dim(self.dims[axis])
        if step == 1:
            return slice_text(begin.text, f"{begin} + {size.at(SUM + 1)}")
        stop = f"{step} * {size.at(SUM + 1)}"
        first = begin.text == "0"
        return slice_text("" if first else begin.text, stop if first else f"{begin} + {stop}", str(step))

    def slice(self, axis: str, offset: Dim, dim: Dim) -> str:
        """The part of a buffer's dimension that an axis runs over, shifted by `offset`."""
        extents = self.scope.extents
        if axis in self.scope.rounds:
            start, stop = self.scope.rounds[axis]
            if not offset.terms:
                return slice_text(start, stop)
            shift = offset_text(offset, extents).at(SUM + 1)
            return slice_text(f"{start} + {shift}", f"{stop} + {shift}")
        if not offset.terms and self.dims[axis] == dim:
            return ":"
        start = "" if not offset.terms else offset_text(offset, extents).text
        if offset + self.dims[axis] == dim:
            return slice_text(start, "")
        return slice_text(start, offset_text(offset + self.dims[axis], extents).text)

    def layout(self, name: str, items: list[str], left: list[str]) -> str:
        """Index text that cuts a buffer by `items` and brings the axes `left` into the kernel's order."""
        wanted = [a for a in self.order if a in left]
        if wanted != left:
            cut = f"{name}[{', '.join(items)}]" if any(i != ":" for i in items) else name
            name = f"{cut}.permute({', '.join(str(left.index(a)) for a in wanted)})"
            items = [":"] * len(left)
        index: list[str] = []
        rest = iter(items)
        place = 0
        if not left:
            return f"{name}[{', '.join(items)}]" if items else name
        queue = list(items)
        for axis in self.order:
            while queue and not _is_slice(queue[0]):
                index.append(queue.pop(0))
            if axis in left:
                index.append(queue.pop(0))
            else:
                index.append("None")
        index += queue
        del rest, place
        while self.scope.loops and len(index) > 1 and index[-1] == ":":
            index.pop()
        return name if all(i == ":" for i in index) else f"{name}[{', '.join(index)}]"

    def position(self, s: Subscript) -> Term:
        """The index of one position, as an int term."""
        total: Term | None = None
        for axis, coefficient in s.axes:
            part = self.term(AxisRef(axis))
            if coefficient != 1:
                part = self.integer("mul", (part, Number(Text(str(coefficient)), "int")))
            total = part if total is None else self.integer("add", (total, part))
        if s.data is not None:
            data = self.term(s.data)
            total = data if total is None else self.integer("add", (total, data))
        if s.offset.terms or total is None:
            offset = Number(offset_text(s.offset, self.scope.extents), "int")
            total = offset if total is None else self.integer("add", (total, offset))
        return total

    def clamped(self, place: Term, size: Text) -> Term:
        """The position moved into [0, size - 1]; without an axis in it (`x[c = last]`) it is a Python number."""
        if isinstance(place, Number) and not place.param:
            return Number(Text(f"min(max({place.text}, 0), {size.at(SUM)} - 1)"), "int")
        top = Number(Text(f"{size.at(SUM)} - 1", SUM), "int")
        return self.emit("torch.clamp", (self.tensor(place), Number(Text("0"), "int"), top), "int", wanted="index")

    def gather(
        self,
        name: str,
        buffer: Buffer,
        subscripts: tuple[Subscript, ...],
        chunked: int | None,
        type_: str,
        wanted: str,
        known: Term | None,
        pad: Literal,
        guarded: bool,
    ) -> Term:
        valid: Reg | None = None
        fixed: list[str] = []
        positions: list[Term] = []
        moved: list[int] = []
        entries: list[str] = []  # conditions that there is a position to clamp an index to
        for k, (s, dim) in enumerate(zip(subscripts, buffer.dims)):
            simple = s.data is None and len(s.axes) == 1 and s.axes[0][1] == 1 and s.axes[0][0] in self.dims
            inside = simple and (k == chunked or not guarded or _within(s.offset, self.dims[s.axes[0][0]], dim))
            if simple and inside:
                positions.append(Number(Text(":"), "slice"))
                continue
            moved.append(k)
            place: Term = self.position(s)
            size = self.scope.dim(dim)
            if isinstance(place, Number) and not place.param:
                if s.data is not None:  # no axis and no data in it (`x[c = size(c) // 2]`): known before the kernel
                    fixed.append(f"0 <= {place.text} < {size.at(SUM)}")
            elif s.data is not None:
                place = self.tensor(place)
                ok = self.emit("ge", (place, Number(Text("0"), "int")), "bool")
                ok = self.emit("and", (ok, self.emit("lt", (place, Number(size, "int")), "bool")), "bool")
                valid = ok if valid is None else self.emit("and", (valid, ok), "bool", wanted="valid")
            if s.data is not None or guarded:
                place = self.clamped(place, size)
            if s.data is not None and dim.constant is None:
                entries.append(f"{size.at(SUM)} > 0")
            positions.append(place)
        when = [] if known is None else [str(known)]
        if guarded and any(subscripts[k].data is None for k in moved):
            # A dimension without entries has no position to move a guarded access to.
            when.append(f"{name}.numel() > 0")
        conditions = " and ".join(when + entries)
        own = name if not when else ""
        value: Term = self.take(
            name, buffer, subscripts, chunked, positions, moved, type_, wanted, conditions, own, pad
        )
        if valid is None and not fixed:
            return value
        void = self.term(_void(type_))
        if fixed:
            value = self.select(Number(Text(f"({' and '.join(fixed)})"), "bool"), value, void, type_)
        if valid is None:
            return value
        value = self.select(valid, value, void, type_)
        # where it is not read the padding stands, whatever the positions are there
        return value if known is None else self.select(known, value, self.term(pad), type_)

    def take(
        self,
        name: str,
        buffer: Buffer,
        subscripts: tuple[Subscript, ...],
        chunked: int | None,
        positions: list[Term],
        moved: list[int],
        type_: str,
        wanted: str,
        when: str,
        own: str,
        pad: Literal,
    ) -> Reg:
        others = [s.axes[0][0] for k, s in enumerate(subscripts) if k not in moved]
        distinct = len(set(others)) == len(others)
        if len(moved) == 1 and distinct and others:
            k = moved[0]
            place = positions[k]
            along = place.axes if isinstance(place, Reg) else frozenset()
            free = [a for a in self.order if a not in others and a not in along]
            free.sort(key=lambda a: self.dims[a] != buffer.dims[k])
            if free and along:
                items: list[str] = []
                left: list[str] = []
                for j, (s, dim) in enumerate(zip(subscripts, buffer.dims)):
                    left.append(free[0] if j == k else s.axes[0][0])
                    items.append(":" if j in (k, chunked) else self.slice(s.axes[0][0], s.offset, dim))
                text = self.layout(name, items, left)
                at = self.order.index(free[0])
                axes = frozenset(others) | along
                if own and when and not pad.value:
                    self.scope.helpers.add("_take")
                    template, when = f"_take({text}, {{0}}, {at})", ""
                else:
                    template = f"torch.take_along_dim({text}, {{0}}, dim={at})"
                return self.taken(template, (place,), axes, type_, wanted, when, own, pad)
        places: list[Term] = []
        for k, s in enumerate(subscripts):
            if k in moved:
                places.append(positions[k])
            elif k == chunked:
                start, _ = self.scope.rounds[s.axes[0][0]]
                places.append(self.emit("sub", (self.position(s), Number(Text(start), "int")), "int"))
            else:
                places.append(self.position(s))
        axes = frozenset().union(*(p.axes for p in places if isinstance(p, Reg)))
        # by numbers, torch would wait for a device, and refuse vmap
        single = not axes and any(isinstance(p, Reg) for p in places)
        one = {k for k, p in enumerate(places) if single and isinstance(p, Reg)}
        inside = ", ".join(f"{{{k}}}{'[None]' if k in one else ''}" for k in range(len(places)))
        first = "[0]" if single else ""
        if own and when and not pad.value:
            self.scope.helpers.add("_at")
            return self.taken(f"_at({name}, {inside}){first}", places, axes, type_, wanted, "", own, pad)
        return self.taken(f"{name}[{inside}]{first}", places, axes, type_, wanted, when, own, pad)

    def taken(
        self,
        template: str,
        places: Sequence[Term],
        axes: frozenset[str],
        type_: str,
        wanted: str,
        when: str,
        own: str,
        pad: Literal,
    ) -> Reg:
        """What a gather takes, or `pad` where the condition `when` of Python fails.

        own    the tensor that is read, if what takes its place may be written over (it is rare: without entries)
        """
        if not when:
            return self.emit("text", places, type_, template=template, axes=axes, wanted=wanted)
        void = self.term(pad)
        if own and isinstance(void, Number):
            shape = f"({self.shape(axes)}{',' if len(self.order) == 1 else ''})" if axes else "()"
            template += f" if {when} else {own}.new_full({shape}, {void.text})"
            return self.emit("text", places, type_, template=template, strength=0, axes=axes, wanted=wanted)
        shape = f".expand({self.shape(axes)})" if axes else ""
        template += f" if {when} else {self.tensor(void).text}{shape}"
        return self.emit("text", places, type_, template=template, strength=0, axes=axes, owned=False, wanted=wanted)

    # -------------------------------------------------------------------------------------------------- writes

    def write(self, s: Store | Scatter) -> None:
        buffer = self.scope.plan.buffer(s.buffer)
        value = self.term(s.value)
        if isinstance(value, Reg) and buffer.type.startswith("like ") and value.wanted == buffer.name:
            value.wanted = "t"  # the name is the rounded value's
        guard = None if isinstance(s, Store) or s.guard is None else self.term(s.guard)
        positions = tuple(None if p.data is None and self.shifted(p) else self.position(p) for p in s.subscripts)
        self.items.append(Write(s, self.term(s.value), positions, guard))


def _void(type_: str) -> Literal:
    return Literal("nan") if type_ == "acc" else Literal(Fraction(0), type_)


def _is_slice(item: str) -> bool:
    return ":" in item


def _within(offset: Dim, extent: Dim, dim: Dim) -> bool:
    """Whether 0 <= offset and offset + extent <= dim is plain from the normal forms."""
    low, room = offset.constant, dim - offset - extent
    exact = offset.terms == () or (len(offset.terms) == 1 and offset.terms[0][0] == () and offset.terms[0][1] >= 0)
    return exact and low is not None and (not room.terms or (room.terms[0][0] == () and room.terms[0][1] >= 0))
