"""A kernel as a flat list of torch calls over registers: what the two printers (fused, formula) have in common.

Layout: a register that varies along some axes of its kernel has one dimension for every axis of the kernel, of size 1
where it does not vary; one that varies along none is a 0-d tensor or a Python number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from lossdsl.backends.text import ATOM, COMPARE, PRODUCT, SUM, UNARY, Names, Text, dim_text, number_text, offset_text
from lossdsl.backends.torch_access import conjuncts, only_range, operations
from lossdsl.backends.torch_masks import Masks, masks
from lossdsl.backends.torch_ops import NUMBERS, Arg, Node, Num, Tree, helpers_of, operation
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    AxisRef,
    Buffer,
    Fold,
    Kernel,
    Literal,
    Load,
    Op,
    Operand,
    ParamRef,
    Plan,
    Scatter,
    SizeRef,
    Statement,
    Store,
    Subscript,
    Value,
)


@dataclass(eq=False)
class Reg:
    """A tensor of a kernel. `owned`: its memory belongs to nobody else. `name`: its variable, once printed."""

    axes: frozenset[str]
    type: str
    wanted: str = "t"
    owned: bool = False
    name: str = ""
    text: Text | None = None  # printed inline where it is used
    product: tuple[Reg, Reg] | None = None  # not made at all: its factors go into the sum that wants it

    def __str__(self) -> str:
        return self.text.text if self.text is not None else self.name


@dataclass(frozen=True)
class Number:
    """A Python number, known when the function runs. `param`: the parameter it is, which may also be a tensor."""

    text: Text
    type: str
    param: str = ""
    zero: tuple[Dim, bool] | None = None  # (dim, True): the condition dim == 0; (dim, False): dim != 0

    def __str__(self) -> str:
        return self.text.text


Term = Reg | Number

_COUNTED = re.compile(r"v\d+(\.|\Z)|needed\.")  # names that the schedule, not the user, gave


@dataclass(eq=False)
class Instr:
    """`dest = function(args)`. function: a name of `torch_ops.Node`, "where", or "text" with `template` over the
    arguments; `strength`: how strongly the template binds; `aliases`: the result shares the first argument's memory."""

    function: str
    args: tuple[Term, ...]
    dest: Reg
    options: tuple[tuple[str, str], ...] = ()
    template: str = ""
    strength: int = ATOM
    aliases: bool = False
    comment: str = ""


@dataclass(eq=False)
class Write:
    """A store or scatter of the plan, with its operands as registers."""

    statement: Store | Scatter
    value: Term
    positions: tuple[Term | None, ...]  # for positions that are no plain axis
    guard: Term | None = None


@dataclass(frozen=True)
class Slices:
    """A buffer whose slices at some positions are at hand: in a dict by the indices there, or, where `sizes` has the
    extents of the positions, in a list in row-major order. `whole`: the buffer itself, if it has all of them."""

    variable: str
    positions: tuple[int, ...]
    sizes: tuple[Text, ...] = ()
    whole: str = ""


@dataclass(eq=False)
class Scope:
    """What is known where a kernel runs: names, extents, rounds of the loops around it, and what the prologue needs."""

    plan: Plan
    names: Names
    extents: dict[str, str]  # symbol -> variable
    parameters: dict[str, str]
    variables: dict[str, str]  # buffer -> variable
    fast: bool
    rounds: dict[str, tuple[str, str]] = field(default_factory=dict)
    loops: dict[str, str] = field(default_factory=dict)  # axis of a recurrence -> variable of its index
    slices: dict[str, Slices] = field(default_factory=dict)  # buffers whose slices of earlier rounds are in a dict
    casts: dict[tuple[str, str], str] = field(default_factory=dict)  # (input, type) -> variable
    tensors: set[str] = field(default_factory=set)  # parameters that must be tensors
    constants: dict[tuple[str, str], str] = field(default_factory=dict)  # (number, type) -> variable of a 0-d tensor
    helpers: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)  # of device, acc
    kinds: dict[str, str] = field(default_factory=dict)  # input -> declared kind
    local: dict[str, bool] = field(default_factory=dict)  # buffers whose memory the kernel may overwrite

    def dim(self, dim: Dim) -> Text:
        return dim_text(dim, self.extents)

    def extent(self, axis: str, dim: Dim) -> Text:
        if axis in self.rounds:
            start, stop = self.rounds[axis]
            return Text(f"{stop} - {start}", SUM)
        return self.dim(dim)

    def need(self, word: str) -> str:
        self.used.add(word)
        return word

    def dtype(self, type_: str) -> str:
        return {"acc": self.need("acc") if type_ == "acc" else "", "int": "torch.int64", "bool": "torch.bool"}[type_]

    def source(self, buffer: Buffer, type_: str) -> str:
        """The variable of a buffer's values as `type_`; for an input, its conversion in the prologue."""
        if buffer.role not in ("input", "cotangent", "direction"):
            return self.variables[buffer.name]
        key = (buffer.name, type_)
        if key not in self.casts:
            first = not any(name == buffer.name for name, _ in self.casts)
            variable = self.variables[buffer.name]
            self.casts[key] = variable if first else self.names.fresh(f"{variable}_{type_}")
            if type_ == "acc":
                self.need("acc")
        return self.casts[key]

    def constant(self, number: Number) -> str:
        """The variable of a 0-d tensor with that value."""
        if number.param:
            self.tensors.add(number.param)
            self.need("acc")
            self.need("device")
            return number.text.text
        type_ = "acc" if number.type == "acc" else number.type
        key = (number.text.text, type_)
        if key not in self.constants:
            known = {"0.0": "zero", "1.0": "one", "2.0": "two", "0.5": "half", "-1.0": "minus_one"}
            self.constants[key] = self.names.fresh(known.get(number.text.text, "constant"))
            self.need("device")
            self.dtype(type_)
        return self.constants[key]


class Body:
    """One kernel, as instructions."""

    def __init__(self, scope: Scope, kernel: Kernel) -> None:
        self.scope, self.kernel = scope, kernel
        self.order = [a.name for a in kernel.axes]
        self.dims = {a.name: a.extent for a in kernel.axes}
        self.values: dict[str, Term] = {}
        self.items: list[Instr | Write] = []
        self.wanted = dict(kernel.names)
        self.comments = dict(kernel.comments)
        self.index: dict[str, Reg] = {}
        self.chosen: dict[Reg, tuple[Term, str]] = {}  # results of where: the condition, and the number elsewhere
        self.made: dict[tuple[object, ...], Reg] = {}  # nothing is computed twice
        self.loads = [s.buffer for s in kernel.statements if isinstance(s, Load)]
        self.as_real = _read_as_real(kernel, scope.kinds) if not scope.loops else set()
        self.ops = operations(kernel.statements)
        self.masks = masks(kernel.statements, scope.loops) if scope.fast else Masks()
        self.split: dict[Reg, tuple[Term, Term]] = {}  # conjunctions: what Python knows in a round, and the rest

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
            wanted = self.wanted.get(s.name, "" if _COUNTED.match(s.name) else s.name)
            view = isinstance(s, Load) and bool(self.scope.loops)  # printed where it is used
            if isinstance(value, Reg) and wanted and not value.name and value.wanted == "t" and not view:
                value.wanted = wanted
            if s.name in self.comments and self.items:
                last = self.items[-1]
                if isinstance(last, Instr) and last.dest is value:
                    last.comment = self.comments[s.name]
        return self.items

    # ------------------------------------------------------------------------------------------------ building

    def emit(
        self,
        function: str,
        args: Sequence[Term],
        type_: str,
        *,
        options: tuple[tuple[str, str], ...] = (),
        template: str = "",
        strength: int = ATOM,
        axes: frozenset[str] | None = None,
        owned: bool = True,
        aliases: bool = False,
        wanted: str = "t",
    ) -> Reg:
        if axes is None:
            axes = frozenset().union(*(a.axes for a in args if isinstance(a, Reg)))
        same = (function, tuple(a if isinstance(a, Reg) else str(a) for a in args), options, template, type_)
        if same in self.made:
            return self.made[same]
        dest = Reg(axes, type_, wanted, owned)
        self.items.append(Instr(function, tuple(args), dest, options, template, strength, aliases))
        self.made[same] = dest
        return dest

    def term(self, operand: Operand) -> Term:
        match operand:
            case Value(name):
                return self.values[name]
            case Literal(value, type_):
                return Number(number_text(value, type_), type_)
            case ParamRef(name, type_):
                return Number(Text(self.scope.parameters[name]), type_, name if type_ == "acc" else "")
            case SizeRef(dim):
                return Number(self.scope.dim(dim), "int")
            case AxisRef(name):
                if name in self.scope.loops:
                    return Number(Text(self.scope.loops[name]), "int")
                return self.arange(name)

    def arange(self, axis: str) -> Reg:
        if axis not in self.index:
            device = self.scope.need("device")
            if axis in self.scope.rounds:
                start, stop = self.scope.rounds[axis]
                text = f"torch.arange({start}, {stop}, device={device})"
            else:
                text = f"torch.arange({self.scope.dim(self.dims[axis])}, device={device})"
            shape = ", ".join(":" if a == axis else "None" for a in self.order)
            text += "" if len(self.order) == 1 else f"[{shape}]"
            self.index[axis] = self.emit(
                "text", (), "int", template=text, axes=frozenset({axis}), owned=False, wanted=f"{axis}_index"
            )
        return self.index[axis]

    def moves(self, term: Term) -> bool:
        """Whether it is a number that is another one in each round of a recurrence: no constant of the prologue."""
        if isinstance(term, Reg) or term.param:
            return False
        return any(v in re.split(r"\W", term.text.text) for v in self.scope.loops.values())

    def tensor(self, term: Term) -> Reg:
        """A register for a term; Python numbers become 0-d tensors."""
        if isinstance(term, Reg):
            return term
        if self.moves(term):
            dtype, device = self.scope.dtype(term.type), self.scope.need("device")
            text = f"torch.full((), {term}, dtype={dtype}, device={device})"
            return self.emit("text", (), term.type, template=text, axes=frozenset(), owned=False)
        return Reg(frozenset(), term.type, text=Text(self.scope.constant(term)))

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
                if len(own) == len(s.axes) and s.offset.constant is None and not _within(s.offset, Dim.const(1), dim):
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
                return f"{low}{shift}:{high}{shift}"
            return f"{step} * {low}{shift}:{step} * ({high} - 1){shift} + 1:{step}"
        size = self.scope.dim(self.dims[axis])
        if step == 1:
            return f"{begin}:{begin} + {size.at(SUM + 1)}"
        stop = f"{step} * {size.at(SUM + 1)}"
        return f"{'' if begin.text == '0' else begin}:{stop if begin.text == '0' else f'{begin} + {stop}'}:{step}"

    def slice(self, axis: str, offset: Dim, dim: Dim) -> str:
        """The part of a buffer's dimension that an axis runs over, shifted by `offset`."""
        extents = self.scope.extents
        if axis in self.scope.rounds:
            start, stop = self.scope.rounds[axis]
            if not offset.terms:
                return f"{start}:{stop}"
            shift = offset_text(offset, extents).at(SUM + 1)
            return f"{start} + {shift}:{stop} + {shift}"
        if not offset.terms and self.dims[axis] == dim:
            return ":"
        start = "" if not offset.terms else offset_text(offset, extents).text
        if offset + self.dims[axis] == dim:
            return f"{start}:"
        return f"{start}:{offset_text(offset + self.dims[axis], extents).text}"

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
            positions.append(place)
        when = [] if known is None else [str(known)]
        if guarded and any(subscripts[k].data is None for k in moved):
            # A dimension without entries has no position to move a guarded access to.
            when.append(f"{name}.numel() > 0")
        value: Term = self.take(
            name, buffer, subscripts, chunked, positions, moved, type_, wanted, " and ".join(when), pad
        )
        if valid is None and not fixed:
            return value
        void = self.term(_void(type_))
        if fixed:
            value = self.select(Number(Text(f"({' and '.join(fixed)})"), "bool"), value, void, type_)
        return value if valid is None else self.select(valid, value, void, type_)

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
                template = f"torch.take_along_dim({text}, {{0}}, dim={at})"
                return self.taken(template, (place,), axes, type_, wanted, when, pad)
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
        inside = ", ".join(f"{{{k}}}" for k in range(len(places)))
        return self.taken(f"{name}[{inside}]", places, axes, type_, wanted, when, pad)

    def taken(
        self,
        template: str,
        places: Sequence[Term],
        axes: frozenset[str],
        type_: str,
        wanted: str,
        when: str,
        pad: Literal,
    ) -> Reg:
        """What a gather takes, or `pad` where the condition `when` of Python fails."""
        if not when:
            return self.emit("text", places, type_, template=template, axes=axes, wanted=wanted)
        void = self.tensor(self.term(pad)).text
        shape = f".expand({self.shape(axes)})" if axes else ""
        template += f" if {when} else {void}{shape}"
        return self.emit("text", places, type_, template=template, strength=0, axes=axes, owned=False, wanted=wanted)

    # ---------------------------------------------------------------------------------------------- operations

    def select(self, condition: Term, a: Term, b: Term, type_: str) -> Term:
        inner = self.chosen.get(a) if isinstance(a, Reg) else None
        if inner is not None and inner[0] is condition and inner[1] == str(b) and isinstance(b, Number):
            return a  # already so
        if isinstance(condition, Number):
            if condition.text.text in ("True", "False"):
                return a if condition.text.text == "True" else b
            if condition.zero is not None:
                # Where the extent of one of its own axes is 0, a value has no entries, and either will do.
                dim, is_zero = condition.zero
                likely = b if is_zero else a
                if isinstance(likely, Reg) and self.empty_with(likely, dim):
                    return likely
            text = "{1} if {0} else {2}"
            if isinstance(a, Number) and isinstance(b, Number):
                return Number(Text(f"({a} if {condition} else {b})"), type_)
            # An extent or an index as a real is a Python int so far.
            a, b = (replace(x, type=type_) if isinstance(x, Number) and not x.param else x for x in (a, b))
            left, right = self.tensor(a), self.tensor(b)
            axes = left.axes | right.axes
            if left.axes != right.axes and axes:
                left, right = self.spread(left, axes), self.spread(right, axes)
            return self.emit(
                "text", (condition, left, right), type_, template=text, strength=0, axes=axes, owned=not axes
            )
        if type_ == "acc" and isinstance(a, Number) and isinstance(b, Number):
            a = self.tensor(a)  # of two plain numbers torch makes its default type, float32
        value = self.emit("where", (condition, a, b), type_)
        if isinstance(b, Number):
            self.chosen[value] = (condition, str(b))
        return value

    def empty_with(self, value: Reg, dim: Dim) -> bool:
        """Whether the value has no entries if `dim` is 0: each factor of it is the extent of an axis of the value."""
        if len(dim.terms) != 1:
            return False
        own = {self.dims[a] for a in value.axes}
        return all(isinstance(atom, str) and Dim.symbol(atom) in own for atom in dim.terms[0][0])

    def op(self, s: Op) -> Term:
        if s.op == "real" and isinstance(s.args[0], Value) and s.args[0].name in self.as_real:
            source = self.values[s.args[0].name]
            if isinstance(source, Reg) and source.type == "acc":
                return source
        if s.name in self.as_real:
            reals = tuple(Literal(a.value) if isinstance(a, Literal) else a for a in s.args)
            if s.op == "int":
                return self.term(reals[0])
            return self.op(Op(f"{s.name}.real", "acc", s.op, reals))
        args = [self.term(a) for a in s.args]
        numbers = [a for a in args if isinstance(a, Number)]
        match s.op:
            case "select":
                return self.select(args[0], args[1], args[2], s.type)
            case "lt" | "le" | "gt" | "ge" | "eq" | "ne":
                if len(numbers) == 2 and not any(n.param for n in numbers):
                    sign = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}[s.op]
                    left, right = (n.text.at(COMPARE + 1) for n in numbers)
                    return Number(Text(f"{left} {sign} {right}", COMPARE), "bool", zero=_is_zero(s))
                return self.emit(s.op, self.some_tensor(args), "bool")
            case "and" if numbers and len(numbers) < len(args):
                known = self.joined("and", numbers)
                rest = self.joined("and", [a for a in args if isinstance(a, Reg)])
                both = self.emit("and", (rest, known), "bool")
                self.split[both] = (known, rest)
                return both
            case "and" | "or":
                return self.joined(s.op, args)
            case "not":
                if isinstance(args[0], Number):
                    return Number(Text(f"(not {args[0]})"), "bool")
                return self.emit("not", args, "bool")
            case "real":
                if isinstance(args[0], Number):
                    return Number(args[0].text, "int") if args[0].type == "int" else self.number_of_bool(args[0])
                acc = self.scope.need("acc")
                return self.emit("text", args, "acc", template=f"{{0}}.to({acc})")
            case "int":
                if isinstance(args[0], Number):
                    return self.number_of_bool(args[0])
                return self.emit("text", args, "int", template="{0}.long()")
            case "table":
                return self.table(s, args)
            case "stop":
                if self.scope.fast or isinstance(args[0], Number):
                    return args[0]
                return self.emit("text", args, s.type, template="{0}.detach()", owned=False)
            case "proxy":
                if self.scope.fast:
                    return args[0]
                self.scope.helpers.add("_proxy")
                return self.emit("_proxy", [self.tensor(a) for a in args], s.type)
        if s.type == "int":
            return self.integer(s.op, args)
        tree = operation(s.op, not self.scope.fast)
        self.scope.helpers |= helpers_of(tree)
        if s.op == "polygamma" and isinstance(args[0], Number):
            args[0] = Number(Text(str(int(float(args[0].text.text)))), "int")
        return self.tree(tree, args, s.type)

    def joined(self, sign: str, args: Sequence[Term]) -> Term:
        total = args[0]
        for a in args[1:]:
            if isinstance(total, Number) and isinstance(a, Number):
                total = Number(Text(f"({total} {sign} {a})"), "bool")
            else:
                total = self.emit(sign, (total, a), "bool")
        return total

    def number_of_bool(self, number: Number) -> Number:
        return Number(Text(f"int({number})"), "int") if number.type == "bool" else number

    def some_tensor(self, args: Sequence[Term]) -> list[Term]:
        """The same terms, of which at least one is a tensor."""
        if any(isinstance(a, Reg) for a in args):
            return list(args)
        return [self.tensor(args[0]), *args[1:]]

    def table(self, s: Op, args: list[Term]) -> Term:
        entries, index = args[:-1], args[-1]
        kind = self.scope.dtype(s.type)
        device = self.scope.need("device")
        text = f"torch.tensor([{', '.join(str(e) for e in entries)}], dtype={kind}, device={device})"
        last = Number(Text(str(len(entries) - 1)), "int")
        index = self.tensor(index)
        place = self.emit("torch.clamp", (index, Number(Text("0"), "int"), last), "int", wanted="index")
        value = self.emit("text", (place,), s.type, template=f"{text}[{{0}}]")
        if s.type != "acc":
            return value
        inside = self.emit("eq", (place, index), "bool")
        return self.select(inside, value, self.term(Literal("nan")), s.type)

    def integer(self, name: str, args: Sequence[Term]) -> Term:
        """Exact int64 operations; of Python ints, Python's own."""
        if all(isinstance(a, Number) and not a.param for a in args):
            texts = [a.text if isinstance(a, Number) else Text("") for a in args]
            sign = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%"}.get(name)
            if sign is not None:
                return Number(Text(f"({texts[0].at(UNARY)} {sign} {texts[1].at(UNARY)})"), "int")
            if name == "neg":
                return Number(Text(f"(-{texts[0].at(UNARY + 1)})"), "int")
            if name in ("max2", "min2", "abs"):
                return Number(Text(f"{name.rstrip('2')}({', '.join(t.text for t in texts)})"), "int")
        if name in ("add", "sub", "mul", "neg"):
            return self.emit(name, self.some_tensor(args), "int")
        if name in ("max2", "min2"):
            function = "torch.maximum" if name == "max2" else "torch.minimum"
            return self.emit(function, [self.tensor(a) for a in args], "int")
        if name == "abs":
            return self.emit("torch.abs", args, "int")
        if name == "floordiv":
            return self.emit("text", self.some_tensor(args), "int", template="{0} // {1}", strength=SUM + 1)
        if name == "mod":
            return self.emit("text", self.some_tensor(args), "int", template="{0} % {1}", strength=SUM + 1)
        if name in ("floor", "ceil"):
            value = self.tensor(args[0])
            return self.emit("text", (value,), "int", template=f"torch.{name}({{0}}).long()")
        raise NotImplementedError(name)

    def tree(self, tree: Tree, args: Sequence[Term], type_: str) -> Term:
        match tree:
            case Arg(index):
                return args[index]
            case Num(text):
                return Number(Text(text, UNARY if text.startswith("-") else ATOM), "acc")
            case Node(function, inner, options):
                terms = [self.tree(a, args, type_) for a in inner]
                result = "bool" if function in ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not") else type_
                if function == "torch.where":
                    return self.select(terms[0], terms[1], terms[2], type_)
                if function in ("add", "sub", "mul", "neg") and all(
                    isinstance(t, Number) and not t.param for t in terms
                ):
                    return self.constant_arithmetic(function, terms)
                if result == "acc" and not any(isinstance(t, Reg) for t in terms) and isinstance(terms[0], Number):
                    terms[0] = replace(terms[0], type="acc")  # of whole numbers torch makes its default type, float32
                return self.emit(function, self.operands(function, terms), result, options=options)

    def constant_arithmetic(self, function: str, terms: Sequence[Term]) -> Number:
        texts = [t.text if isinstance(t, Number) else Text("") for t in terms]
        if function == "neg":
            return Number(Text(f"(-{texts[0].at(UNARY + 1)})"), "acc")
        sign = {"add": "+", "sub": "-", "mul": "*"}[function]
        return Number(Text(f"({texts[0].at(UNARY)} {sign} {texts[1].at(UNARY)})"), "acc")

    def operands(self, function: str, terms: list[Term]) -> list[Term]:
        if function in ("add", "sub", "mul", "div", "lt", "le", "gt", "ge", "eq", "ne", "and", "or"):
            return self.some_tensor(terms)
        if function.startswith("."):
            return terms
        from_here = NUMBERS.get(function, ())
        return [
            t
            if isinstance(t, Reg)
            or (
                k in from_here
                and any(isinstance(u, Reg) for u in terms)
                and not (t.param and function == "torch.clamp")
            )
            else self.tensor(t)
            for k, t in enumerate(terms)
        ]

    # --------------------------------------------------------------------------------------------------- folds

    def shape(self, axes: frozenset[str]) -> str:
        sizes = [self.scope.extent(a, self.dims[a]).text if a in axes else "1" for a in self.order]
        return ", ".join(sizes)

    def spread(self, value: Term, axes: frozenset[str]) -> Reg:
        """The value as a tensor that has all entries along `axes`."""
        if isinstance(value, Reg) and axes <= value.axes:
            return value
        reg = self.tensor(value)
        every = reg.axes | axes
        return self.emit(
            "text",
            (reg,),
            reg.type,
            template=f"{{0}}.expand({self.shape(every)})",
            axes=every,
            owned=False,
            aliases=True,
        )

    def summed(self, value: Reg, axes: frozenset[str]) -> Reg:
        """The sum of the value over `axes`, which stay as dimensions of one entry if there are others."""
        if not axes:
            return value
        dims = tuple(self.order.index(a) for a in self.order if a in axes)
        left = value.axes - axes
        text = f"{{0}}.sum({dims[0] if len(dims) == 1 else dims}, keepdim=True)" if left else "{0}.sum()"
        return self.emit("text", (value,), value.type, template=text, axes=left)

    def fold(self, s: Fold) -> Term:
        axes = frozenset(s.axes)
        value = self.term(s.value)
        where = None if s.where is None else self.term(s.where)
        argument = s.head in ("argmax", "argmin")
        if where is not None and not argument:
            value = self.select(where, value, self.term(_identity(s.head, s.type)), s.type)
        full = self.spread(value, axes)
        left = full.axes - axes
        places = [k for k, a in enumerate(self.order) if a in axes]
        dims = str(places[0]) if len(places) == 1 else f"({', '.join(map(str, places))})"
        if argument:
            return self.winner(s, full, where, [self.order.index(a) for a in s.axes], left)
        head = {"count": "sum", "max": "amax", "min": "amin"}.get(s.head, s.head)
        if not self.scope.fast and s.head in ("max", "min", "logsumexp", "prod") and s.type == "acc":
            helper = f"_fold_{s.head}"
        elif head in ("amax", "amin", "prod"):
            helper = f"_fold_{head}"
        else:
            helper = ""
        if helper:
            self.scope.helpers.add(helper)
            every = f"({places[0]},)" if len(places) == 1 else dims
            text = f"{helper}({{0}}, {every})"
            return self.emit("text", (full,), s.type, template=text if left else f"{text}.reshape(())", axes=left)
        if left:
            text = f"{{0}}.{head}({dims}, keepdim=True)"
        elif head == "logsumexp":
            text = f"{{0}}.logsumexp({dims})"
        else:
            text = f"{{0}}.{head}()"
        return self.emit("text", (full,), s.type, template=text, axes=left)

    def winner(self, s: Fold, full: Reg, where: Term | None, places: list[int], left: frozenset[str]) -> Reg:
        mask: Reg | None = None
        if where is not None:
            mask = self.spread(where, frozenset(full.axes))
            full = self.spread(full, mask.axes)
            left = full.axes - set(s.axes)
        end = "" if left else ".reshape(())"
        if len(places) > 1:
            self.scope.helpers.add("_flat_winner")
            self.scope.helpers.add("_winner")
            text = (
                f"_flat_winner({{0}}, {'None' if mask is None else '{1}'}, {tuple(places)}, {s.head == 'argmax'}){end}"
            )
            return self.emit("text", (full,) if mask is None else (full, mask), "int", template=text, axes=left)
        if mask is None:
            text = f"{{0}}.{s.head}({places[0]}, keepdim=True){end}"
            return self.emit("text", (full,), "int", template=text, axes=left)
        self.scope.helpers.add("_winner")
        text = f"_winner({{0}}, {{1}}, {places[0]}, {s.head == 'argmax'}){end}"
        return self.emit("text", (full, mask), "int", template=text, axes=left)

    def write(self, s: Store | Scatter) -> None:
        buffer = self.scope.plan.buffer(s.buffer)
        value = self.term(s.value)
        if isinstance(value, Reg) and buffer.type.startswith("like ") and value.wanted == buffer.name:
            value.wanted = "t"  # the name is the rounded value's
        guard = None if isinstance(s, Store) or s.guard is None else self.term(s.guard)
        positions = tuple(None if p.data is None and self.shifted(p) else self.position(p) for p in s.subscripts)
        self.items.append(Write(s, self.term(s.value), positions, guard))


def stacked(scope: Scope, buffer: Buffer, slices: Slices) -> str:
    """The text of the whole buffer, made of its slices; those that no round has made yet are 0."""
    scope.helpers.add("_stack")
    sizes = [scope.dim(d).text for d in buffer.dims]
    shape = f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
    type_ = "acc" if buffer.type.startswith("like ") else buffer.type
    return f"_stack({slices.variable}, {shape}, {slices.positions}, {scope.dtype(type_)}, {scope.need('device')})"


def _is_zero(s: Op) -> tuple[Dim, bool] | None:
    match s:
        case Op(op="eq" | "ne" as sign, args=(SizeRef(dim), Literal(value=Fraction(numerator=0)))):
            return dim, sign == "eq"
    return None


def _void(type_: str) -> Literal:
    return Literal("nan") if type_ == "acc" else Literal(Fraction(0), type_)


def _is_slice(item: str) -> bool:
    return ":" in item


def _within(offset: Dim, extent: Dim, dim: Dim) -> bool:
    """Whether 0 <= offset and offset + extent <= dim is plain from the normal forms."""
    low, room = offset.constant, dim - offset - extent
    exact = offset.terms == () or (len(offset.terms) == 1 and offset.terms[0][0] == () and offset.terms[0][1] >= 0)
    return exact and low is not None and (not room.terms or (room.terms[0][0] == () and room.terms[0][1] >= 0))


def _identity(head: str, type_: str) -> Literal:
    if head in ("sum", "count", "any"):
        return Literal(Fraction(0), "bool" if head in ("any", "count") else type_)
    if head in ("prod", "all"):
        return Literal(Fraction(1), "bool" if head == "all" else type_)
    if type_ == "int":
        return Literal(Fraction(-(2**63) if head == "max" else 2**63 - 1), "int")
    return Literal("inf" if head == "min" else "-inf")


def _read_as_real(kernel: Kernel, kinds: Mapping[str, str]) -> set[str]:
    """Small integers that may be computed as reals: loads of binary, sign and bool inputs, sums and products of them,
    if all that ever reads them converts them to real or compares them. (They are exact in every type.)"""
    found: set[str] = set()
    depth: dict[str, int] = {}
    for s in kernel.statements:
        if isinstance(s, Load) and s.type in ("int", "bool") and s.guard is None:
            if kinds.get(s.buffer) in ("binary", "sign", "bool"):
                found.add(s.name)
                depth[s.name] = 1
        elif (
            isinstance(s, Op) and s.type == "int" and s.op in ("add", "sub", "mul", "neg", "abs", "max2", "min2", "int")
        ):
            names = [a.name for a in s.args if isinstance(a, Value)]
            literals = [a for a in s.args if isinstance(a, Literal)]
            small = all(isinstance(a.value, Fraction) and abs(a.value) <= 16 for a in literals)
            inside = len(names) + len(literals) == len(s.args) and all(n in found for n in names)
            if names and small and inside and max(depth[n] for n in names) < 4:
                found.add(s.name)
                depth[s.name] = 1 + max(depth[n] for n in names)
    changed = True
    while changed:
        changed = False
        for s in kernel.statements:
            if isinstance(s, Op) and s.name in found and not {a.name for a in s.args if isinstance(a, Value)} <= found:
                found.discard(s.name)
                changed = True
            if isinstance(s, Op) and (s.op == "real" or s.name in found):
                continue
            if isinstance(s, Op) and s.op in ("lt", "le", "gt", "ge", "eq", "ne"):
                if all(isinstance(a, Literal) or (isinstance(a, Value) and a.name in found) for a in s.args):
                    continue
            outside = {o.name for o in _reads(s) if isinstance(o, Value)} & found
            if outside:
                found -= outside
                changed = True
    return found


def _reads(s: Statement) -> list[Operand | None]:
    match s:
        case Load(guard=guard, subscripts=subscripts):
            return [guard, *(p.data for p in subscripts)]
        case Op(args=args):
            return list(args)
        case Fold(value=value, where=where):
            return [value, where]
        case Store(value=value, subscripts=subscripts):
            return [value, *(p.data for p in subscripts)]
        case Scatter(value=value, guard=guard, subscripts=subscripts):
            return [value, guard, *(p.data for p in subscripts)]
