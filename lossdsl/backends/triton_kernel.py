"""A part of a kernel as the text of one `@triton.jit` function.

Values of a part without columns are blocks of entries. With columns a program holds a tile: what varies along rows has
shape [ROWS, 1], along columns [1, COLUMNS], along both [ROWS, COLUMNS]; so everything broadcasts as it is. A row is
held whole (`whole`), or walked block by block once for every fold that needs an earlier one (`long`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from lossdsl.backends.text import SUM, Names, Writer, offset_text, printable
from lossdsl.backends.triton_parts import Part, Total, guards, operands, subscript_axes
from lossdsl.backends.triton_round import Sum, Walk
from lossdsl.backends.triton_runtime import SHARES, TOTALS
from lossdsl.backends.triton_text import (
    DTYPES,
    TRUTHS,
    Term,
    Unsupported,
    by_helper,
    identity,
    is_atom,
    literal,
    merged,
    operation,
    pad,
    reduced,
    repeats,
    state_type,
    typed,
    unwrapped,
)
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    AxisRef,
    Fill,
    Fold,
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

_UNNAMED = re.compile(r"v\d+\Z")
_INLINE = 60  # characters of a value that is written where it is used
# Long rows whose loops hold no more than so many tiles, and load no more than so many, wait for memory: their blocks are
# copied to shared memory so many rounds ahead. Others wait for their arithmetic, and more warps do more for them.
LIGHT, STREAMS, STAGES = 5, 3, 3
UNROLLED = 16  # rounds of a loop that adds up, at most, that are printed as one after another to the machine


@dataclass(frozen=True)
class Argument:
    """A parameter of the function and what the launch passes for it: the tensor of a `buffer`, the shares of a total
    (`parts`), the number of shares (`count`), a `parameter`, or an `extent` (a product of Dims)."""

    name: str
    kind: str
    of: str = ""
    dims: tuple[Dim, ...] = ()


@dataclass(frozen=True)
class DeviceFunction:
    """`lines` begin with the decorator; `{name}` stands for the function's name. `live`: tiles alive at one time; `loads`: how
    many blocks or tiles are loaded, of long rows at a time; `held`: values of a long row that each thread holds beside."""

    lines: list[str]
    arguments: list[Argument]
    totals: tuple[Total, ...]
    live: int
    loads: int
    held: int

    @property
    def light(self) -> bool:
        """Whether loops over long rows hold so little that they wait for memory."""
        return self.live <= LIGHT and 0 < self.loads <= STREAMS


@dataclass(eq=False)
class _Scope:
    names: Names
    arguments: dict[tuple[str, str], Argument] = field(default_factory=dict)
    extents: dict[str, str] = field(default_factory=dict)


def device_function(part: Part, plan: Plan, mode: str, pending: dict[str, str]) -> DeviceFunction:
    """The text of a part. mode: "flat" (no columns), "whole" or "long"; pending: head of each total whose shares this
    function adds up itself. Raises Unsupported."""
    made = _Function(part, plan, mode, pending).emit()
    if mode == "long" and made.light:
        ahead = _Function(part, plan, mode, pending)
        ahead.ahead = True
        return ahead.emit()
    return made


def walking_function(walk: Walk, plan: Plan) -> DeviceFunction:
    """The text of a recurrence whose rounds are walked on the device. Raises Unsupported.

    What a round stores, the next ones read from memory, perhaps in another thread: a barrier ends each kernel of it."""
    mode = "whole" if walk.widest.columns else "flat"
    head = _Function(walk.widest, plan, mode, {})
    index = head.scope.names.fresh("turn")
    head.known[str(walk.index)] = index
    head.begin()
    extent = head.extent(walk.extent)
    head.body.line(f"for step in range(0, {extent}):")
    head.body.indent()
    turn = "step" if walk.direction > 0 else f"{extent} - 1 - step"
    head.body.line(f"{index} = tl.full([], {turn}, {'tl.int64' if head.part.scalar else 'INDEX'})")
    compared: set[str] = set()
    for part, below in walk.parts:
        made = _Function(part, plan, mode, {})
        made.scope, made.body, made.known = head.scope, head.body, head.known
        if below is not None:
            made.body.line(f"if {index} < {made.extent(below)}:")
            made.body.indent()
        made.all()
        if below is not None:
            made.body.dedent()
        made.body.line("tl.debug_barrier()")
        compared |= made.compared()
    head.body.dedent()
    return head.function(compared)


def summing_function(found: Sum, plan: Plan, starts: dict[str, Fill]) -> DeviceFunction:
    """The text of loops that add up, a sum held in registers. `starts`: what buffers that have no memory yet begin with.
    Raises Unsupported."""
    made = _Function(found.part, plan, "flat", {})
    made.begin()
    before, made.body = made.body, Writer()
    made.before = before
    for axis, extent in found.loops:
        turn, step = made.scope.names.fresh(f"{axis}_index"), made.scope.names.fresh("step")
        made.places[axis] = turn
        size = made.extent(extent)
        turns = "tl.static_range" if 0 < (extent.constant or 0) <= UNROLLED else "range"
        made.body.line(f"for {step} in {turns}(0, {size}):")
        made.body.indent()
        made.body.line(f"{turn} = tl.full([], {step}, INDEX)")
    made.loops = frozenset(axis for axis, _ in found.loops)
    sums = {s.buffer: made.scope.names.fresh(f"{s.buffer}_sum") for s in found.part.stores}
    made.add(found.folds, [sums[s.buffer] for s in found.part.stores])
    loops, made.body, made.before = made.body, before, None
    for s in found.part.stores:
        made.start(s, sums[s.buffer], starts.get(s.buffer))
    made.body.block(loops.lines)
    for s in found.part.stores:
        made.terms[s.buffer] = Term(sums[s.buffer], "acc", made.rows)
        made.store(replace(s, value=Value(s.buffer), accumulate=False))
    return made.function(made.compared())


class _Function:
    def __init__(self, part: Part, plan: Plan, mode: str, pending: dict[str, str]) -> None:
        self.part, self.plan, self.mode, self.pending = part, plan, mode, pending
        words = "row col index inside in_row in_col pid start step ROWS COLUMNS BLOCK ACC INDEX STAGES programs"
        self.scope = _Scope(Names(words.split()))
        self.dims = {a.name: a.extent for a in part.kernel.axes}
        self.terms: dict[str, Term] = {}
        self.places: dict[str, str] = {}
        self.body = Writer()
        self.wanted = dict(part.kernel.names)
        self.comments = dict(part.kernel.comments)
        self.uses: dict[str, int] = {}
        everything = [*part.statements, *part.stores, *(t.fold for t in part.totals)]
        for s in everything:
            for o in operands(s):
                if isinstance(o, Value):
                    self.uses[o.name] = self.uses.get(o.name, 0) + 1
        self.named: set[str] = set()  # values that an operation mentions several times
        for s in part.statements:
            if isinstance(s, Op):
                for k in repeats(s.op):
                    for o in s.args if s.op == "table" else s.args[k : k + 1]:
                        if isinstance(o, Value):
                            self.named.add(o.name)
        self.columns = frozenset(part.columns)
        self.rows = frozenset(part.rows)
        self.guards = guards(part)
        self.tiles = 0  # alive at one time
        self.streams = 0  # blocks that a round of a loop loads
        self.held = 0  # values of a row that a loop reads
        self.ahead = False  # whether the blocks of loops are loaded ahead
        self.known: dict[str, str] = {}  # variables by the name of an extent
        self.loops: frozenset[str] = frozenset()  # axes of loops that add up, whose index is in `places`
        self.before: Writer | None = None  # what stands before the loops

    # ------------------------------------------------------------------------------------------------- arguments

    def argument(self, kind: str, of: str, wanted: str, dims: tuple[Dim, ...] = ()) -> str:
        key = (kind, of)
        if key not in self.scope.arguments:
            self.scope.arguments[key] = Argument(self.scope.names.fresh(wanted), kind, of, dims)
        return self.scope.arguments[key].name

    def pointer(self, buffer: str) -> str:
        return self.argument("buffer", buffer, f"{buffer}_ptr")

    def extent(self, *dims: Dim) -> str:
        """An extent, or the product of several: a number, or an argument; the index of a round is known here."""
        if len(dims) == 1 and str(dims[0]) in self.known:
            return self.known[str(dims[0])]
        if len(dims) == 1 and dims[0].constant is not None:
            return str(dims[0].constant)
        words = [str(d) for d in dims]
        wanted = "rest" if words == ["..."] else words[0] if len(words) == 1 else "entries"
        wanted = wanted.replace(".", "_")  # of a round
        wanted = wanted if wanted.isidentifier() else "extent"
        return self.argument("extent", " * ".join(f"({w})" for w in words), wanted, dims)

    def shift(self, dim: Dim) -> str:
        names = {s: self.extent(Dim.symbol(s)) for s in dim.symbols()}
        return offset_text(dim, names).at(SUM)

    # --------------------------------------------------------------------------------------------------- indices

    def place(self, axis: str) -> str:
        """The index along an axis."""
        if axis in self.places:
            return self.places[axis]
        group = self.part.columns if axis in self.columns else self.part.rows
        whole = "index" if self.mode == "flat" else "col" if axis in self.columns else "row"
        if len(group) == 1:
            return whole
        at = group.index(axis)
        text = " // ".join([whole, *(self.extent(self.dims[a]) for a in reversed(group[at + 1 :]))])
        if at:
            text = f"{text} % {self.extent(self.dims[axis])}"
        word = axis if axis.isidentifier() else "rest"
        name = self.scope.names.fresh(f"{word}_index")
        (self.before or self.body).line(f"{name} = {text}")
        self.places[axis] = name
        return name

    def mask(self, axes: frozenset[str]) -> str:
        """The condition that a place varying along `axes` exists; "" if it always does."""
        if self.mode == "flat":
            return "inside" if axes else ""
        if axes & self.rows and axes & self.columns:
            return "inside"
        return "in_row" if axes & self.rows else "in_col" if axes & self.columns else ""

    def offset(self, buffer: str, subscripts: tuple[Subscript, ...]) -> tuple[str, frozenset[str], list[str]]:
        """(offset, axes that it varies along, conditions that positions given by data are in range)."""
        dims = self.plan.buffer(buffer).dims
        axes = subscript_axes(subscripts) - self.loops
        inside: list[str] = []
        text, k = "", 0
        while k < len(subscripts):
            run = self.run(subscripts, dims, k)
            if run is not None:
                place, count = run
            else:
                place, count = self.position(subscripts[k], dims[k], inside), 1
                data = subscripts[k].data
                if data is not None:
                    axes |= self.terms[data.name].axes
            for dim in dims[k : k + count]:
                if text:
                    text = f"{text if is_atom(text) else f'({text})'} * {self.extent(dim)}"
            text = f"{text} + {place}" if text else place
            k += count
        return text or "0", axes, inside

    def run(self, subscripts: tuple[Subscript, ...], dims: tuple[Dim, ...], k: int) -> tuple[str, int] | None:
        """(packed index, positions) if the positions from k on are those of all rows or all columns, in order."""
        for group, whole in ((self.part.rows, "row"), (self.part.columns, "col")):
            count = len(group)
            here = subscripts[k : k + count]
            if count and tuple(s.axes for s in here) == tuple(((a, 1),) for a in group):
                plain = all(s.data is None and not s.offset.terms for s in here)
                if plain and all(self.dims[a] == d for a, d in zip(group[1:], dims[k + 1 : k + count])):
                    return ("index" if self.mode == "flat" else whole), count
        return None

    def position(self, s: Subscript, dim: Dim, inside: list[str]) -> str:
        signs = {1: "", -1: "-"}
        parts = [f"{signs.get(c, f'{c} * ')}{self.place(a)}" for a, c in s.axes]
        if s.data is not None:
            term = self.terms[s.data.name]
            parts.append(term.text)
        if s.offset.terms or not parts:
            parts.append(self.shift(s.offset))
        text = " + ".join(parts).replace("+ -", "- ")
        text = f"({text})" if len(parts) > 1 else text
        if s.data is not None:
            inside.append(f"({text} >= 0) & ({text} < {self.extent(dim)})")
        return text

    def spread_over(self, offset: str, axes: frozenset[str], wanted: frozenset[str]) -> str:
        """The offset made to vary along all of `wanted`."""
        if self.mode == "flat":
            return offset if axes or not wanted else f"{offset} + 0 * index"
        for group, whole in ((self.rows, "row"), (self.columns, "col")):
            if wanted & group and not axes & group:
                offset = f"{offset} + 0 * {whole}"
        return offset

    # ---------------------------------------------------------------------------------------------------- values

    def term(self, o: Operand) -> Term:
        match o:
            case Value(name):
                return self.terms[name]
            case Literal(value, type_):
                return literal(value, type_)
            case ParamRef(name, type_):
                variable = self.argument("parameter", name, name)
                if type_ == "bool":
                    return Term(f"({variable} != 0)", "bool", static=True)
                return Term(variable, type_, static=type_ == "int")
            case SizeRef(dim):
                return Term(self.extent(dim), "int", static=str(dim) not in self.known)
            case AxisRef(name):
                return Term(self.place(name), "int", frozenset((name,)) - self.loops)

    def bind(
        self, s: Load | Op | Fold, text: str, axes: frozenset[str], static: bool = False, single: bool = False
    ) -> None:
        """Give a value its text, or a line and a name of its own."""
        once = self.uses.get(s.name, 0) <= 1 and s.name not in self.named
        wanted = self.wanted.get(s.name, s.name)
        comment = self.comments.get(s.name)
        plain = isinstance(s, Op) and _UNNAMED.match(s.name) and len(text) <= _INLINE
        if plain and (once or text.isidentifier()) and not comment:
            self.terms[s.name] = Term(text, s.type, axes, static=static, single=single)
            return
        name = self.scope.names.fresh(wanted)
        self.body.line(f"{name} = {unwrapped(text)}" + (f"  # {printable(comment)}" if comment else ""))
        self.terms[s.name] = Term(name, s.type, axes, static=static, single=single)

    @property
    def one(self) -> str:
        """The shape of a block of one entry."""
        return "[1]" if self.mode == "flat" else "[1, 1]"

    def block_of_one(self, condition: Term) -> Term:
        """A condition that varies along nothing as a block: the interpreter cannot join scalar conditions with others."""
        text = f"(tl.where({unwrapped(condition.text)}, 1, 0) + tl.zeros({self.one}, tl.int32) != 0)"
        return replace(condition, text=text)

    def joint(self, condition: Term) -> str:
        """A condition as it stands in a mask beside others that vary."""
        alone = not condition.axes and not condition.static and not self.part.scalar
        return (self.block_of_one(condition) if alone else condition).text

    def statement(self, s: Load | Op | Fold) -> None:
        match s:
            case Load():
                self.load(s)
            case Op():
                args = [self.term(a) for a in s.args]
                axes = frozenset().union(*(a.axes for a in args))
                logic = s.op in ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not")
                static = all(a.static for a in args) and (logic or s.type == "int") and s.op != "int"
                single = not axes and any(a.single for a in args)
                if s.op in ("and", "or") and (axes or single):
                    args = [a if a.single and not axes else replace(a, text=self.joint(a)) for a in args]
                self.bind(s, operation(s.op, args, s.type), axes, static, single)
            case Fold():
                self.fold(s)

    def load(self, s: Load) -> None:
        if s.buffer in self.pending:
            parts = self.argument("parts", s.buffer, f"{s.buffer}_parts_ptr")
            count = self.argument("count", s.buffer, f"{s.buffer}_count")
            self.bind(s, f"_shares_{self.pending[s.buffer]}({parts}, {count}, {SHARES})", frozenset())
            return
        buffer = self.plan.buffer(s.buffer)
        offset, axes, inside = self.offset(s.buffer, s.subscripts)
        guard = None if s.guard is None else self.term(s.guard)
        wanted = axes | (guard.axes if guard is not None else frozenset())
        mask = self.mask(wanted)
        alone = not wanted and not self.part.scalar and guard is not None and not guard.static
        if alone and any(p.data is not None for p in s.subscripts):
            # the position may be a block of one entry, if it was loaded: then the condition has to be one, too
            before = dict(self.terms)
            for p in s.subscripts:
                if p.data is not None:
                    term = self.terms[p.data.name]
                    name = self.scope.names.fresh("place")
                    self.body.line(f"{name} = {term.text} + tl.zeros({self.one}, tl.int64)")
                    self.terms[p.data.name] = replace(term, text=name)
            offset, _, inside = self.offset(s.buffer, s.subscripts)
            self.terms = before
        else:
            alone = False
        held = "" if guard is None else self.joint(guard) if mask or alone else guard.text
        conditions = [c for c in (mask, held, *inside) if c]
        offset = self.spread_over(offset, axes, wanted)
        void = literal("nan", "acc") if s.type == "acc" else literal(Fraction(0), s.type)
        filler = void if inside else literal(s.pad.value, s.type) if s.pad is not None else void
        text = f"tl.load({self.pointer(s.buffer)}" + (f" + {offset}" if buffer.dims else "")
        if conditions:
            text += f", mask={' & '.join(conditions)}"
            if inside or guard is not None:
                integral = s.type != "acc" or buffer.type in ("int", "bool")
                text += f", other={'0' if integral else unwrapped(filler.text)}"
        text += ")"
        if s.type == "bool":
            text = f"({text} != 0)"
        elif not wanted and not self.part.scalar:
            # a block of one entry: the interpreter cannot join conditions on scalars with others
            dtype = DTYPES[s.type]
            if any(p.data is not None for p in s.subscripts):  # at a loaded position it may be a block already
                text = f"({text}.to({dtype}) + tl.zeros({self.one}, {dtype}))"
            else:
                text = f"tl.full({self.one}, {text}, {dtype})"
        else:
            text += f".to({DTYPES[s.type]})"
        if guard is not None and inside and s.pad is not None:
            text = f"tl.where({unwrapped(guard.text)}, {text}, {unwrapped(literal(s.pad.value, s.type).text)})"
        self.bind(s, text, wanted, single=s.type != "bool" and not wanted and not self.part.scalar)

    # ----------------------------------------------------------------------------------------------------- folds

    def masked(self, s: Fold, mask: list[str]) -> str:
        value = self.term(s.value)
        where = [] if s.where is None else [self.joint(self.term(s.where))]
        conditions = [c for c in (*mask, *where) if c]
        if not conditions:
            raise Unsupported("a fold over nothing that varies")
        return f"tl.where({' & '.join(conditions)}, {unwrapped(typed(value))}, {unwrapped(self.pad(s, value))})"

    def pad(self, s: Fold, value: Term) -> str:
        if s.head in ("argmax", "argmin"):
            return literal("-inf" if s.head == "argmax" else "inf", "acc").text
        return pad(s.head, value.type).text

    def winners(self, s: Fold) -> tuple[str, str, str]:
        """(combining function, index of each entry, index of nothing) of an argmax or argmin."""
        if len(self.part.columns) != 1:
            raise Unsupported(f"{s.head} over several axes")
        where = "in_col" if s.where is None else f"in_col & {self.joint(self.term(s.where))}"
        return f"_first_{s.head[3:]}", f"tl.where({where}, col, 2147483647)", "2147483647"

    def fold(self, s: Fold) -> None:
        """A fold along whole rows."""
        text = self.masked(s, ["in_col"])
        axes = self.part.spread[s.name] & self.rows
        if s.head == "logsumexp":
            self.bind(s, f"_logsumexp({text})", axes)
        elif s.head in ("argmax", "argmin"):
            function, index, nothing = self.winners(s)
            name = self.scope.names.fresh(self.wanted.get(s.name, s.name))
            self.body.line(f"_, {name} = tl.reduce(tl.broadcast({text}, {index}), 1, {function})")
            self.body.line(f"{name} = tl.where({name} == {nothing}, 0, {name}).to(tl.int64)[:, None]")
            self.terms[s.name] = Term(name, "int", axes)
        else:
            self.bind(s, f"{reduced(s.head, text, '1')}[:, None]", axes)

    def total(self, t: Total) -> None:
        """This program's share of a fold over everything."""
        s = t.fold
        if s.head not in TOTALS:
            raise Unsupported(f"{s.head} over everything")
        kind = state_type(s.head, self.term(s.value).type)
        share = self.scope.names.fresh(self.wanted.get(s.name, s.name))
        text = self.masked(s, self.once(frozenset(s.axes)))
        self.body.line(f"{share} = {unwrapped(reduced(s.head, text, 'None'))}")
        self.store_share(t, share)
        assert kind in DTYPES

    def once(self, folded: frozenset[str]) -> list[str]:
        """Masks under which each combination of the axes `folded` counts once."""
        mask = self.mask(folded | (self.rows if self.mode != "flat" else folded))
        left = [a for a in self.part.rows if a not in folded]
        return [mask, *(f"({self.place(a)} == 0)" for a in left)]

    def store_share(self, t: Total, share: str) -> None:
        parts = self.argument("parts", t.store.buffer, f"{t.store.buffer}_parts_ptr")
        self.body.line(f"tl.store({parts} + tl.program_id(0), {share})")

    # ---------------------------------------------------------------------------------------------------- stores

    def store(self, s: Store) -> None:
        buffer = self.plan.buffer(s.buffer)
        value = self.term(s.value)
        if s.accumulate:
            raise Unsupported("it adds up over the rounds of a loop")
        offset, axes, inside = self.offset(s.buffer, s.subscripts)
        if inside:
            raise Unsupported("it stores at positions given by data")
        left = [a for a in self.part.rows if a not in axes] if self.mode != "flat" or axes else []
        if not axes and (self.rows or self.columns):
            raise Unsupported("a value of the whole is stored beside others")
        conditions = [self.mask(axes), *(f"({self.place(a)} == 0)" for a in left)]
        offset = self.spread_over(offset, axes, axes | frozenset(left))
        pointer = self.pointer(s.buffer) + (f" + {offset}" if buffer.dims else "")
        mask = " & ".join(c for c in conditions if c)
        self.body.line(f"tl.store({pointer}, {unwrapped(value.text)}{f', mask={mask}' if mask else ''})")

    def add(self, folds: Sequence[Fold], sums: Sequence[str]) -> None:
        """What a round of loops adds to sums."""
        for o in (o for s in folds for o in operands(s) if isinstance(o, Value)):
            self.uses[o.name] = self.uses.get(o.name, 0) + 1
        for s in self.part.statements:
            self.statement(s)
        for s, name in zip(folds, sums, strict=True):
            text = unwrapped(typed(self.term(s.value)))
            if s.where is not None:
                text = f"tl.where({unwrapped(self.joint(self.term(s.where)))}, {text}, 0.0)"
            self.body.line(f"{name} += {text}")

    def start(self, s: Store, name: str, start: Fill | None) -> None:
        """What a sum begins with: a number, or what its entry holds."""
        buffer = self.plan.buffer(s.buffer)
        if buffer.type in ("int", "bool"):
            raise Unsupported("it counts over the rounds of a loop")
        offset, axes, inside = self.offset(s.buffer, s.subscripts)
        if inside or not axes or axes != self.rows:
            raise Unsupported("rounds of a loop add to entries of others")
        if start is None:
            text = f"tl.load({self.pointer(s.buffer)} + {offset}, mask={self.mask(axes)}).to(ACC)"
        else:
            text = f"tl.full([BLOCK], {unwrapped(literal(start.value.value, 'acc').text)}, ACC)"
        self.body.line(f"{name} = {text}")

    # ------------------------------------------------------------------------------------------------ long rows

    def long(self) -> None:
        """Rows in blocks of columns: one loop for each fold that needs an earlier one, then one for the stores."""
        stage: dict[str, int] = {}
        for s in self.part.statements:
            at = max((stage[o.name] for o in operands(s) if isinstance(o, Value)), default=0)
            stage[s.name] = at + 1 if isinstance(s, Fold) else at
        made = {s.name: s for s in self.part.statements}

        def reached(o: Operand) -> int:
            return stage[o.name] if isinstance(o, Value) else 0

        def across(s: Load | Op | Fold | Store) -> bool:
            if isinstance(s, Store):
                return bool(subscript_axes(s.subscripts) & self.columns)
            return bool(self.part.spread[s.name] & self.columns)

        last = max(
            [*stage.values()]
            + [reached(o) for s in self.part.stores for o in operands(s)]
            + [reached(o) for t in self.part.totals for o in operands(t.fold)],
            default=0,
        )
        for now in range(last + 1):
            for s in self.part.statements:
                if stage[s.name] == now and not across(s) and not isinstance(s, Fold):
                    self.statement(s)
            folds = [s for s in self.part.statements if isinstance(s, Fold) and stage[s.name] == now + 1]
            stores = [s for s in self.part.stores if max((reached(o) for o in operands(s)), default=0) == now]
            totals = [t for t in self.part.totals if max((reached(o) for o in operands(t.fold)), default=0) == now]
            wide = [t for t in totals if frozenset(t.fold.axes) & self.columns]
            sinks: list[Fold | Store] = [*folds, *(s for s in stores if across(s)), *(t.fold for t in wide)]
            if sinks:
                self.loop(sinks, folds, wide, made)
            for store in stores:
                if not across(store):
                    self.store(store)
            for t in totals:
                if t not in wide:
                    self.total(t)

    def loop(
        self, sinks: list[Fold | Store], folds: list[Fold], wide: list[Total], made: dict[str, Load | Op | Fold]
    ) -> None:
        needed: set[str] = set()
        held: set[str] = set()
        pending = [o for s in sinks for o in operands(s)]
        while pending:
            o = pending.pop()
            if isinstance(o, Value) and o.name not in needed:
                if self.part.spread[o.name] & self.columns:
                    needed.add(o.name)
                    pending += operands(made[o.name])
                else:
                    held.add(o.name)
        self.held = max(self.held, len(held))
        inner = [s for s in self.part.statements if s.name in needed]
        states: dict[str, list[str]] = {}
        for s in (*folds, *(t.fold for t in wide)):
            kind = self.term_type(s.value)
            word = self.wanted.get(s.name, s.name)
            if s.head in ("argmax", "argmin"):
                starts = [literal("-inf" if s.head == "argmax" else "inf", "acc"), Term("2147483647", "int")]
                dtypes = ["ACC", "tl.int32"]
            else:
                starts = identity(s.head, kind)
                dtypes = [DTYPES[state_type(s.head, kind)]] * len(starts)
            suffix = ["", "_total", "_index"][: len(starts)] if s.head != "logsumexp" else ["_top", "_total"]
            states[s.name] = [self.scope.names.fresh(word + suffix[k]) for k in range(len(starts))]
            for name, start, dtype in zip(states[s.name], starts, dtypes):
                shape = "[ROWS, 1]" if s.head in TRUTHS else "[ROWS, COLUMNS]"
                self.body.line(f"{name} = tl.full({shape}, {unwrapped(start.text)}, {dtype})")
        kept = dict(self.places), dict(self.terms)
        cols = self.extent(*(self.dims[a] for a in self.part.columns))
        end = self.end_of_loop(sinks, cols)
        order = self.soonest(inner, sinks)
        tiles = self.live(order) + sum(len(held) for held in states.values())
        streams = sum(isinstance(now, Load) for now in order)
        self.tiles, self.streams = max(self.tiles, tiles), max(self.streams, streams)
        span = f"0, {end}, COLUMNS"
        turns = f"tl.range({span}, num_stages=STAGES)" if self.ahead and streams else f"range({span})"
        self.body.line(f"for start in {turns}:")
        self.body.indent()
        self.column_lines("start + ", cols)
        for now in order:
            if isinstance(now, Store):
                self.store(now)
            elif isinstance(now, Fold) and now.name in states:
                self.step(now, states[now.name], any(t.fold is now for t in wide))
            else:
                assert not isinstance(now, Scatter)
                self.statement(now)
        self.body.dedent()
        self.places, self.terms = {k: v for k, v in kept[0].items() if k in self.rows}, kept[1]
        for s in folds:
            self.finish(s, states[s.name])
        for t in wide:
            share = self.scope.names.fresh(f"{states[t.fold.name][0]}_share")
            text = f"tl.where(in_row, {states[t.fold.name][0]}, {self.pad_state(t.fold)})"
            name = "sum" if t.fold.head == "count" else t.fold.head
            self.body.line(f"{share} = {unwrapped(reduced(name, text, 'None'))}")
            self.store_share(t, share)

    def end_of_loop(self, sinks: list[Fold | Store], cols: str) -> str:
        """Where a loop over the columns ends: at once where a condition that is the same for all rows, such as one on
        parameters, says that nothing of what it makes is needed."""
        guards = {self.guards.get(s.name) if isinstance(s, Fold) else None for s in sinks}
        guard = guards.pop()
        if guards or guard is None or guard.condition not in self.terms or self.terms[guard.condition].static:
            return cols
        condition = unwrapped(self.joint(self.terms[guard.condition]))
        branches = f"{cols}, 0" if guard.holds else f"0, {cols}"
        name = self.scope.names.fresh("end")
        self.body.line(f"{name} = tl.sum(tl.where({condition}, {branches}))")
        return name

    def soonest(self, inner: list[Load | Op | Fold], sinks: list[Fold | Store]) -> list[Statement]:
        """The values of one round and its sinks, each as soon as its operands are there: tiles die early."""
        waiting = list(sinks)
        missing = {s.name for s in inner}
        order: list[Statement] = []
        for s in (None, *inner):
            if s is not None:
                order.append(s)
                missing.discard(s.name)
            for sink in [*waiting]:
                if not any(isinstance(o, Value) and o.name in missing for o in operands(sink)):
                    order.append(sink)
                    waiting.remove(sink)
        return order

    def term_type(self, o: Operand) -> str:
        match o:
            case Value(name):
                return next(s.type for s in self.part.statements if s.name == name)
            case Literal(type=type_) | ParamRef(type=type_):
                return type_
        return "int"

    def pad_state(self, s: Fold) -> str:
        return unwrapped(identity(s.head, self.term_type(s.value))[0].text)

    def step(self, s: Fold, state: list[str], total: bool) -> None:
        """One block of a fold."""
        if total and s.head not in TOTALS:
            raise Unsupported(f"{s.head} over everything")
        text = self.masked(s, self.once(frozenset(s.axes)) if total else ["in_col"])
        if s.head == "logsumexp":
            self.body.line(f"{', '.join(state)} = _logsumexp_more({', '.join(state)}, {text})")
        elif s.head in ("argmax", "argmin"):
            function, index, _ = self.winners(s)
            self.body.line(f"{', '.join(state)} = {function}({', '.join(state)}, {text}, {index})")
        elif s.head in ("max", "min"):
            self.body.line(f"{state[0]} = _{s.head}imum({state[0]}, {text})")
        elif s.head in TRUTHS:
            block = f"{reduced(s.head, text, '1')}[:, None]"
            self.body.line(f"{state[0]} = {merged(s.head, state, [block])[0]}")
        else:
            text = f"{text}.to(tl.int64)" if s.head == "count" else text
            self.body.line(f"{state[0]} = {merged(s.head, state, [text])[0]}")

    def finish(self, s: Fold, state: list[str]) -> None:
        axes = self.part.spread[s.name] & self.rows
        if s.head == "logsumexp":
            name = self.scope.names.fresh(self.wanted.get(s.name, s.name))
            self.body.line(f"{name} = _logsumexp_end({', '.join(state)})")
        elif s.head in ("argmax", "argmin"):
            name = state[1]
            self.body.line(f"_, {name} = tl.reduce(({', '.join(state)}), 1, _first_{s.head[3:]})")
            self.body.line(f"{name} = tl.where({name} == 2147483647, 0, {name})[:, None]")
        else:
            name = state[0]
            if s.head not in TRUTHS:
                head = "sum" if s.head == "count" else s.head
                self.body.line(f"{name} = {reduced(head, name, '1')}[:, None]")
        self.terms[s.name] = Term(name, s.type, axes)

    # ----------------------------------------------------------------------------------------------------- whole

    def column_lines(self, start: str, cols: str) -> None:
        self.body.line(f"col = {start}tl.arange(0, COLUMNS)[None, :]")
        self.body.line(f"in_col = col < {cols}")
        self.body.line(f"inside = {'in_row & ' if self.part.rows else ''}in_col")

    def emit(self) -> DeviceFunction:
        self.begin()
        if self.mode == "long":
            self.long()
        else:
            self.all()
        return self.function(self.compared())

    def begin(self) -> None:
        """The places that a program works on."""
        part = self.part
        if part.rows:
            size = self.extent(*(self.dims[a] for a in part.rows))
            if self.mode == "flat":
                self.body.line("index = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)")
                self.body.line(f"inside = index < {size}")
            else:
                self.body.line("row = tl.program_id(0).to(INDEX) * ROWS + tl.arange(0, ROWS)[:, None]")
                self.body.line(f"in_row = row < {size}")
        if self.mode == "whole" and part.columns:
            self.column_lines("", self.extent(*(self.dims[a] for a in part.columns)))

    def all(self) -> None:
        """Every value, where nothing is walked in blocks."""
        demanded = self.demanded()
        self.tiles = self.live(demanded)
        for s in demanded:
            if isinstance(s, Total):
                self.total(s)
            elif isinstance(s, Store):
                self.store(s)
            else:
                self.statement(s)

    def function(self, compared: set[str]) -> DeviceFunction:
        """The text around the body. `compared`: parameters that are made blocks of one entry."""
        part = self.part
        arguments = list(self.scope.arguments.values())
        # An order that does not depend on the body, so that the functions for whole and for long rows agree.
        order = {"buffer": 0, "parts": 1, "count": 2, "parameter": 3, "extent": 4}
        place = {n: k for k, n in enumerate([b.name for b in self.plan.buffers] + [n for n, _ in self.plan.parameters])}
        arguments.sort(key=lambda a: (order[a.kind], place.get(a.of, 0), a.of))
        constants = [] if part.scalar else ["INDEX"]
        constants += [] if part.scalar else ["BLOCK"] if self.mode == "flat" else ["ROWS", "COLUMNS"]
        parameters = [a.name for a in arguments] + [f"{c}: tl.constexpr" for c in ("ACC", *constants)]
        out = Writer()
        out.line("@triton.jit")
        line = f"def {{name}}({', '.join(parameters)}):"
        if len(line) <= 96:
            out.line(line)
        else:
            out.line("def {name}(")
            for p in parameters:
                out.line(f"    {p},")
            out.line("):")
        out.indent()
        kinds = dict(self.plan.parameters)
        shape = "" if part.scalar else "[1]" if self.mode == "flat" else "[1, 1]"
        for a in arguments:
            if a.kind == "parameter" and kinds[a.of] == "acc":
                text = f"_setting({a.name}, ACC)"
                # a block of one entry: the interpreter cannot join conditions on scalars with others
                out.line(f"{a.name} = " + (f"tl.full({shape}, {text}, ACC)" if shape and a.of in compared else text))
        if self.ahead:  # of float64 they would not fit the shared memory of every device
            out.line(f"STAGES: tl.constexpr = {STAGES} if ACC == tl.float32 else 1")
        out.block(self.body.lines)
        loads = sum(isinstance(s, Load) and bool(part.spread[s.name]) for s in part.statements)
        return DeviceFunction(out.lines, arguments, part.totals, self.tiles, self.streams or loads, self.held)

    def compared(self) -> set[str]:
        """Parameters that a condition on nothing else reads."""
        made = {s.name: s for s in self.part.statements}
        tests = [s for s in made.values() if isinstance(s, Op) and s.type == "bool" and not self.part.spread[s.name]]
        pending = [o for s in tests for o in s.args]
        found: set[str] = set()
        while pending:
            match pending.pop():
                case ParamRef(name):
                    found.add(name)
                case Value(name):
                    pending += operands(made[name])
        return found

    def demanded(self) -> list[Load | Op | Fold | Total | Store]:
        """Folds, totals and stores, and each other value just before the first of them that needs it: what is made of a
        row before its folds are known would hold registers while they run."""
        at = {s.name: k for k, s in enumerate(self.part.statements)}
        order: list[Load | Op | Fold | Total | Store] = []
        there: set[str] = set()

        def demand(roots: tuple[Operand, ...]) -> None:
            missing: set[str] = set()
            pending = [*roots]
            while pending:
                o = pending.pop()
                if isinstance(o, Value) and o.name not in there | missing:
                    missing.add(o.name)
                    pending += operands(self.part.statements[at[o.name]])
            order.extend(self.part.statements[k] for k in sorted(at[name] for name in missing))
            there.update(missing)

        for s in self.part.statements:
            if isinstance(s, Fold):
                demand((Value(s.name),))
        for t in self.part.totals:
            demand(operands(t.fold))
            order.append(t)
        for store in self.part.stores:
            demand(operands(store))
            order.append(store)
        return order

    def live(self, order: Sequence[Statement | Total]) -> int:
        """Tiles of registers of 32 bits that are alive at one time; blocks of a flat kernel, which leave room, as values."""
        wide, tiles = self.columns or self.rows, self.mode != "flat"
        indices = len(wide) if len(wide) > 1 else 0  # of the axes that are packed into one
        last: dict[str, int] = {}
        for k, s in enumerate(order):
            for o in operands(s.fold if isinstance(s, Total) else s):
                if isinstance(o, Value):
                    last[o.name] = k
        integers = {
            s.name
            for s in order
            if isinstance(s, Load | Op | Fold) and s.type == "int" and self.part.spread[s.name] & wide and tiles
        }

        def steps(s: Statement | Total) -> int:
            """Registers in which a value is made beside its operands: of integers or addresses of 64 bits, by a helper
            (copies, and what is between them), or of pairs of an extremum and its place."""
            fold = s.fold if isinstance(s, Total) else s
            if isinstance(fold, Fold):
                return 3 if fold.head in ("argmax", "argmin") else 0
            if isinstance(s, Op | Load) and any(isinstance(o, Value) and o.name in integers for o in operands(s)):
                return 2
            return 2 * len(s.args) - 1 if isinstance(s, Op) and by_helper(s.op) and tiles else 0

        most = 0
        alive: dict[str, int] = {}
        for k, s in enumerate(order):
            # What one instruction makes may take the place of an operand; what several do lies beside them.
            alive = {n: size for n, size in alive.items() if last.get(n, 0) >= k + (not steps(s))}
            beside = steps(s) if isinstance(s, Fold) else 0
            if isinstance(s, Load | Op | Fold) and self.part.spread[s.name] & wide and last.get(s.name, 0) > k:
                alive[s.name] = 2 if s.name in integers else 1
                beside = steps(s)
            most = max(most, sum(alive.values()) + beside)
        return most + indices
