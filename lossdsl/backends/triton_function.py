"""A Plan as a Python function that launches Triton kernels; steps that have none stay torch operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lossdsl.backends.text import PRODUCT, Writer
from lossdsl.backends.torch_function import Emitted, PlanFunction, Signature, reads
from lossdsl.backends.triton_kernel import (
    LIGHT,
    Argument,
    DeviceFunction,
    device_function,
    summing_function,
    walking_function,
)
from lossdsl.backends.triton_parts import Part, parts
from lossdsl.backends.triton_round import Round, Sum, Walk, summed, walk
from lossdsl.backends.triton_runtime import SHARES
from lossdsl.backends.triton_text import Unsupported
from lossdsl.backends.window_joins import joined
from lossdsl.backends.windows import added
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    Allocate,
    Buffer,
    Call,
    Choices,
    Fill,
    Kernel,
    Load,
    Plan,
    Recurrence,
    Scatter,
    Step,
    Store,
)

LANES = 4096  # entries that read each other's in a recurrence, which one program has to hold
FLAT = 2048  # entries of a program of a flat kernel, 8 warps
SHIFTED = 256  # of one that reads at shifted positions, where several of a thread would not be read at once
# Tiles alive and loaded at a time, and values of a row, for which programs of 32 warps have registers: four entries a thread.
FULL, HELD = 15, 8
LOADED, LIVE = 48 * 1024, 18 * 1024  # entries that one loads, and that are alive at a time: more spills registers


CALLED = {
    "contract": "a product",
    "argsort": "a sort",
    "inverse": "an inverse",
    "logdet": "a determinant",
    **dict.fromkeys(("cumsum", "cumprod", "logcumsumexp"), "a cumulative fold"),
}


@dataclass
class Kernels:
    """The device functions of a module: equal ones are printed once. `texts` in order; `name` gives a fresh name."""

    name: Callable[[str], str]
    texts: dict[str, str] = field(default_factory=dict)  # text with a placeholder for the name -> name
    runtime: set[str] = field(default_factory=set)

    def add(self, made: DeviceFunction, wanted: str) -> str:
        text = "\n".join(made.lines)
        if text not in self.texts:
            self.texts[text] = "_" + self.name(wanted)
        return self.texts[text]

    def sources(self) -> list[str]:
        return [text.replace("{name}", name) for text, name in self.texts.items()]


@dataclass(frozen=True)
class Launched:
    """The launching function, or None with nothing to launch; `reasons`: (kernel, why it is torch operations)."""

    emitted: Emitted | None
    reasons: tuple[tuple[str, str], ...]


def launching_function(
    plan: Plan, name: str, signature: Signature, kernels: Kernels, choices: Choices, comment: str
) -> Launched:
    made = _Launching(joined(plan), name, signature, kernels, choices, comment)
    emitted = made.emit()
    return Launched(emitted if made.launches else None, tuple(made.reasons))


class _Launching(PlanFunction):
    def __init__(
        self, plan: Plan, name: str, signature: Signature, kernels: Kernels, choices: Choices, comment: str
    ) -> None:
        super().__init__(plan, name, signature, True, comment)
        self.kernels, self.choices = kernels, choices
        self.launches = 0
        self.reasons: list[tuple[str, str]] = []
        self.given_types = False
        self.types = ""
        self.contiguous: dict[str, str] = {}
        self.loose: set[str] = set()  # buffers that torch made, in an order of its own in memory
        self.outside = ""  # why the recurrence around is a loop in Python
        self.walked: dict[tuple[Dim, ...], None] = {}  # the extents of the axes that a kernel walks
        self.waiting: dict[str, Fill] = {}  # what buffers that nothing filled yet begin with
        self.shares: dict[str, tuple[str, str, str]] = {}  # total still in shares -> (head, shares, their number)

    # ------------------------------------------------------------------------------------------------ decisions

    def begin_round(self, axis: str, start: str, stop: str) -> None:
        count = self.names.fresh("count")
        self.out.line(f"{count} = {stop} - {start}")
        self.scope.extents |= {f"{axis}.start": start, f"{axis}.count": count}

    def call(self, step: Call) -> None:
        self.reasons.append((step.out, f"{CALLED[step.operation]} is a library's"))
        super().call(step)
        self.loose.add(step.out)

    def on_device(self, kernel: Kernel, later: Sequence[Step]) -> bool:
        if not self.scope.rounds:
            return self.launched(kernel, later)
        whole = self.plan
        try:
            for axis in self.scope.rounds:
                kernel, self.plan = Round(axis).kernel(kernel, whole), Round(axis).plan(whole)
            return self.launched(kernel, later)
        except Unsupported as why:
            return self.stays(kernel, str(why))
        finally:
            self.plan = whole

    def launched(self, kernel: Kernel, later: Sequence[Step]) -> bool:
        try:
            if self.scope.loops:
                raise Unsupported(self.outside)
            planned = [(part, self.device(part)) for part in parts(kernel)]
        except Unsupported as why:
            return self.stays(kernel, str(why))
        self.launches += 1
        for part, functions in planned:
            self.launch(kernel, part, functions, later)
        return True

    def filled(self, step: Fill, later: Sequence[Step]) -> None:
        """A sum over the rounds of a loop that follows at once begins with the value itself."""
        after = next((s for s in later if not isinstance(s, Allocate | Fill)), None)
        if isinstance(after, Recurrence) and step.buffer in added(after):
            self.waiting[step.buffer] = step
        else:
            super().filled(step, later)

    def recurrence(self, step: Recurrence) -> None:
        try:
            if self.inside():
                raise Unsupported("a recurrence is inside of a loop")
            if added(step):
                sums = summed(step, self.plan)
                self.summing(sums, summing_function(sums, self.plan, self.waiting))
                return
            found = walk(step)
            function = walking_function(found, self.plan)
        except Unsupported as why:
            self.outside = str(why)
            for first in self.waiting.values():
                super().filled(first, ())
            self.waiting.clear()
            super().recurrence(step)
            return
        self.launches += 1
        for part, _ in found.parts:
            self.complete(part)
        if found.widest.columns:  # nothing is left to one of two branches
            for b in [*self.shares]:
                self.whole(b)
        for part, _ in found.parts:
            for store in part.stores:
                self.output(self.plan.buffer(store.buffer))
        self.straighten([function])
        if not found.widest.columns:
            self.walking(step, found, function)
            return
        dims = {a.name: a.extent for a in found.widest.kernel.axes}
        columns = self.product([dims[a] for a in found.widest.columns])
        self.out.line(f"if {columns} <= {min(LANES, self.choices.block)}:")
        self.out.indent()
        self.walking(step, found, function)
        self.out.dedent()
        self.out.line("else:  # more than one program should hold")
        self.out.indent()
        reasons = [*self.reasons]
        super().recurrence(step)
        self.reasons = reasons
        self.out.dedent()

    def summing(self, found: Sum, function: DeviceFunction) -> None:
        """Launch loops that only add up: a flat kernel, each of whose entries is a sum."""
        self.launches += 1
        self.waiting.clear()
        part = found.part
        self.complete(part)
        dims = {a.name: a.extent for a in part.kernel.axes}
        self.walked[tuple(dims[a] for a in part.rows)] = None
        name = self.kernels.add(function, f"{self.plan.key.loss}_{part.kernel.name}")
        for store in part.stores:
            self.output(self.plan.buffer(store.buffer))
        self.straighten([function])
        entries, programs = self.names.fresh("entries"), self.names.fresh("programs")
        self.out.line(f"{entries} = {self.product([dims[a] for a in part.rows])}")
        block = min(self.choices.block, SHIFTED)
        self.kernels.runtime.update(("_launches", "_argument", "_types", "_setting", "_entries"))
        self.out.line(f"{programs} = triton.cdiv({entries}, {block})")
        self.out.line(f"if {programs} > 0:")
        self.out.indent()
        self.print_launch(f"{name}[({programs},)]", self.passed(function), ["**types", f"**_entries({block}, 8)"])
        self.out.dedent()

    def complete(self, part: Part) -> None:
        """Add up the shares of the totals that a part reads."""
        read = {s.buffer for s in part.statements if isinstance(s, Load)}
        for b in [*self.shares]:
            if b in read:
                self.whole(b)

    def walking(self, step: Recurrence, found: Walk, function: DeviceFunction) -> None:
        """Launch a recurrence that a kernel walks: a program for a few rows, with all of their columns."""
        part = found.widest
        dims = {a.name: a.extent for a in part.kernel.axes}
        self.walked[(step.extent, *(dims[a] for a in (*part.rows, *part.columns)))] = None
        name = self.kernels.add(function, f"{self.plan.key.loss}_{part.kernel.name}s")
        self.kernels.runtime.update(("_launches", "_argument", "_types", "_setting"))
        if not part.rows and not part.columns:
            self.print_launch(
                f"{name}[(1,)]", self.passed(function), ['ACC=types["ACC"]', "num_warps=1", "num_stages=1"]
            )
            return
        rows = self.product([dims[a] for a in part.rows]) or "1"
        programs = self.names.fresh("programs")
        if part.columns:
            self.kernels.runtime.add("_lanes")
            columns = self.product([dims[a] for a in part.columns])
            sizes = [f"**_lanes({columns})"]
            self.out.line(f"{programs} = {rows} if {columns} > 0 else 0")
        else:
            sizes = ["BLOCK=128", "num_stages=1"]
            self.out.line(f"{programs} = triton.cdiv({rows}, 128)")
        self.out.line(f"if {programs} > 0:")
        self.out.indent()
        self.print_launch(f"{name}[({programs},)]", self.passed(function), ["**types", *sizes])
        self.out.dedent()

    def stays(self, kernel: Kernel, why: str) -> bool:
        """The kernel is left to torch operations."""
        self.reasons.append((kernel.name, why))
        for b in [*self.shares]:
            self.whole(b)
        self.loose |= {s.buffer for s in kernel.statements if isinstance(s, Store | Scatter)}
        return False

    def device(self, part: Part) -> list[DeviceFunction]:
        """The device functions of a part: one, or for whole and for long rows."""
        modes = ["whole", "long"] if part.columns else ["flat"]
        pending = {b: head for b, (head, _, _) in self.shares.items()} if part.scalar else {}
        if not part.scalar:
            self.complete(part)
        return [device_function(part, self.plan, mode, pending) for mode in modes]

    # ------------------------------------------------------------------------------------------------ launching

    def launch(self, kernel: Kernel, part: Part, functions: list[DeviceFunction], later: Sequence[Step]) -> None:
        dims = {a.name: a.extent for a in kernel.axes}
        if not self.scope.rounds:  # there are few rows in a round
            self.walked[tuple(dims[a] for a in (*part.rows, *part.columns))] = None
        base = f"{self.plan.key.loss}_{kernel.name}"
        names = [self.kernels.add(f, base + ("_long" if k else "")) for k, f in enumerate(functions)]
        for store in part.stores:
            self.output(self.plan.buffer(store.buffer))
        self.straighten(functions)
        if part.scalar:
            self.print_launch(f"{names[0]}[(1,)]", self.passed(functions[0]), ['ACC=types["ACC"]'])
            for b in {a.of for a in functions[0].arguments if a.kind == "parts"}:
                self.shares.pop(b)
            return
        rows = self.product([dims[a] for a in part.rows])
        entries = rows
        if len(part.rows) > 1:
            entries = self.names.fresh("rows" if part.columns else "entries")
            self.out.line(f"{entries} = {rows}")
        if part.columns:
            name, sizes, step = self.tile(part, functions, names, dims)
        else:
            block, warps = min(self.choices.block, FLAT), 8
            while block > 512 and (functions[0].loads * block > LOADED or functions[0].live * block > LIVE):
                block //= 2
            if block == FLAT and functions[0].live > LIGHT:  # small programs leave fewer registers without a use
                block, warps = FLAT // 2, warps // 2
            self.kernels.runtime.add("_entries")
            name, sizes, step = names[0], [f"**_entries({block}, {warps})"], str(block)
        programs = self.names.fresh("programs")
        self.kernels.runtime.update(("_launches", "_argument", "_types", "_setting"))
        self.out.line(f"{programs} = triton.cdiv({entries}, {step})")
        for t in part.totals:
            self.share(t.store, t.fold.head, programs)
        self.out.line(f"if {programs} > 0:")
        self.out.indent()
        passed = [self.passed(f) for f in functions]
        if all(p == passed[0] for p in passed):
            self.print_launch(f"{name}[({programs},)]", passed[0], ["**types", *sizes])
        else:
            for word, kernel_name, arguments in zip((f"if {name} is {names[0]}:", "else:"), names, passed):
                self.out.line(word)
                self.out.indent()
                self.print_launch(f"{kernel_name}[({programs},)]", arguments, ["**types", *sizes])
                self.out.dedent()
        self.out.dedent()
        for t in part.totals:
            if t.store.accumulate or not self.only_scalar(t.store.buffer, later):
                self.whole(t.store.buffer, t.store.accumulate)

    def straighten(self, functions: list[DeviceFunction]) -> None:
        """Kernels index what they are passed as contiguous memory; what torch made may be transposed."""
        passed = {a.of for f in functions for a in f.arguments if a.kind == "buffer"}
        for b in self.plan.buffers:
            if b.name in passed & self.loose and len(b.dims) > 1:
                variable = self.variable(b)
                self.out.line(f"{variable} = {variable}.contiguous()")
        self.loose -= passed

    def tile(
        self, part: Part, functions: list[DeviceFunction], names: list[str], dims: dict[str, Dim]
    ) -> tuple[str, list[str], str]:
        """(function, sizes to pass, rows of a tile) of a part with columns; their choice is printed."""
        columns = self.product([dims[a] for a in part.columns])
        lane = part.kernel.lane
        across = "False"
        if lane is not None and lane in part.rows:
            across = f"{self.scope.dim(dims[lane]).at(PRODUCT)} > 1"
        is_whole, sizes = self.names.fresh("whole"), self.names.fresh("sizes")
        whole, long = functions
        if long.light:
            block, entries = 2048, 8
        else:
            block, entries = 4096 if long.live + long.loads <= FULL and long.held <= HELD else 2048, 4
        limits = f"{whole.live}, {self.choices.resident}, {min(block, self.choices.block)}, {entries}"
        self.kernels.runtime.add("_tile")
        self.out.line(f"{is_whole}, {sizes} = _tile({columns}, {across}, {limits})")
        name = self.names.fresh("kernel")
        self.out.line(f"{name} = {names[0]} if {is_whole} else {names[1]}")
        return name, [f"**{sizes}"], f'{sizes}["ROWS"]'

    def output(self, buffer: Buffer) -> None:
        self.empty(buffer)

    def share(self, store: Store, head: str, programs: str) -> None:
        name = self.names.fresh(f"{store.buffer}_parts")
        kind = {"any": "torch.bool", "all": "torch.bool", "count": "torch.int64"}.get(head)
        type_ = self.plan.buffer(store.buffer).type  # the gradient in a value without axes is rounded once, at its end
        dtype = kind or self.scope.dtype("acc" if type_.startswith("like ") else type_)
        device = self.scope.need("device")
        self.out.line(f"{name} = torch.empty(({programs},), dtype={dtype}, device={device})")
        self.shares[store.buffer] = (head, name, programs)

    def only_scalar(self, buffer: str, later: Sequence[Step]) -> bool:
        """Whether all that reads a total are kernels that can add up its shares themselves."""
        if any(name == buffer for _, name in self.plan.returns):
            return False
        readers = [s for s in later if buffer in reads([s])]
        if len(readers) != 1 or not isinstance(readers[0], Kernel) or readers[0].axes:
            return False
        try:
            for part in parts(readers[0]):
                device_function(part, self.plan, "flat", {})
        except Unsupported:
            return False
        return True

    def whole(self, buffer: str, add: bool = False) -> None:
        """Add up the shares of a total."""
        head, shares, count = self.shares.pop(buffer)
        b = self.plan.buffer(buffer)
        self.empty(b)
        self.kernels.runtime.add(f"_store_{head}")
        more = [f"ADD={add}", f"BLOCK={SHARES}"]
        self.print_launch(f"_store_{head}[(1,)]", [shares, self.variable(b), count], more)

    def passed(self, function: DeviceFunction) -> list[str]:
        return [self.pass_(a) for a in function.arguments]

    def pass_(self, a: Argument) -> str:
        match a.kind:
            case "buffer":
                b = self.plan.buffer(a.of)
                variable = self.variable(b)
                if b.role in ("input", "cotangent", "direction"):
                    self.contiguous[b.name] = variable
                return variable
            case "parts":
                return self.shares[a.of][1]
            case "count":
                return self.shares[a.of][2]
            case "parameter":
                kind = dict(self.plan.parameters)[a.of]
                variable = self.scope.parameters[a.of]
                if kind == "acc":
                    self.scope.dtype("acc")
                    self.kernels.runtime.update(("_argument", "_setting"))
                    return f"_argument({variable}, acc, {self.scope.need('device')})"
                return f"int({variable})"
        return self.product(a.dims)

    def print_launch(self, head: str, arguments: list[str], more: list[str]) -> None:
        self.scope.dtype("acc")
        self.given_types = True
        self.out.line(f"{head}({', '.join([*arguments, *more])})")

    # -------------------------------------------------------------------------------------------------- prologue

    def prologue(self, body: str) -> list[str]:
        lines = super().prologue(body)
        for variable in self.contiguous.values():
            lines.append(f"{variable} = {variable}.contiguous()")
        if self.given_types:
            given = [self.scope.variables[b.name] for b in self.plan.buffers if b.role == "input"]
            self.kernels.runtime.update(("_types", "_launches", "_setting"))
            shapes = {frozenset(b.dims) for b in self.plan.buffers if b.role == "input"}
            walked = {self.product(d): None for d in self.walked if len(d) > 1 and frozenset(d) not in shapes}
            lines.append(f"types = _types(acc, {', '.join([*given, *walked])})")
        return lines


def dispatching(plain: Emitted, launching: Emitted, name: str, signature: Signature) -> Emitted:
    """The torch function, which hands over to the launching one where the kernels of the module may run."""
    head, *rest = plain.lines
    writer = Writer()
    writer.line(head)
    if rest and rest[0].strip().startswith('"""'):
        writer.line(rest.pop(0))
    inputs = ", ".join(v for _, v in signature.inputs)
    arguments = head.split("(", 1)[1].rsplit("):", 1)[0]
    first = signature.inputs[0][1]
    writer.indent()
    writer.line(f"if _launches({inputs}):")
    writer.line(f"    with torch.cuda.device_of({first}):")
    writer.line(f"        return {name}({arguments})")
    writer.dedent()
    return Emitted([*launching.lines, "", "", *writer.lines, *rest], plain.helpers | launching.helpers)
