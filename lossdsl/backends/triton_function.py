"""A Plan as a Python function that launches Triton kernels; steps that have none stay torch operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lossdsl.backends.text import PRODUCT, Writer
from lossdsl.backends.torch_function import Emitted, PlanFunction, Signature, reads
from lossdsl.backends.triton_kernel import Argument, DeviceFunction, device_function
from lossdsl.backends.triton_parts import Part, parts
from lossdsl.backends.triton_text import Unsupported
from lossdsl.dim import Dim
from lossdsl.lower.plan import Buffer, Call, Choices, Kernel, Load, Plan, Scatter, Step, Store

LOADED = 28 * 1024  # entries that one program of a flat kernel loads: more does not fit 128 threads' registers
DEEP = 1  # tiles of the longest row that fit in the registers of a program


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
    made = _Launching(plan, name, signature, kernels, choices, comment)
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
        self.shares: dict[str, tuple[str, str, str]] = {}  # total still in shares -> (head, shares, their number)

    # ------------------------------------------------------------------------------------------------ decisions

    def call(self, step: Call) -> None:
        self.reasons.append((step.out, f"{CALLED[step.operation]} is a library's"))
        super().call(step)
        self.loose.add(step.out)

    def on_device(self, kernel: Kernel, later: Sequence[Step]) -> bool:
        try:
            if self.inside():
                raise Unsupported("it works on a round of a loop")
            planned = [(part, self.device(part)) for part in parts(kernel)]
        except Unsupported as why:
            self.reasons.append((kernel.name, str(why)))
            for b in [*self.shares]:
                self.whole(b)
            self.loose |= {s.buffer for s in kernel.statements if isinstance(s, Store | Scatter)}
            return False
        self.launches += 1
        for part, functions in planned:
            self.launch(kernel, part, functions, later)
        return True

    def device(self, part: Part) -> list[DeviceFunction]:
        """The device functions of a part: one, or for whole and for long rows."""
        modes = ["whole", "long"] if part.columns else ["flat"]
        pending = {b: head for b, (head, _, _) in self.shares.items()} if part.scalar else {}
        if not part.scalar:
            read = {s.buffer for s in part.statements if isinstance(s, Load)}
            for b in [*self.shares]:
                if b in read:
                    self.whole(b)
        return [device_function(part, self.plan, mode, pending) for mode in modes]

    # ------------------------------------------------------------------------------------------------ launching

    def product(self, dims: Sequence[Dim]) -> str:
        made = [self.scope.dim(d) for d in dims]
        return made[0].text if len(made) == 1 else " * ".join(t.at(PRODUCT) for t in made)

    def launch(self, kernel: Kernel, part: Part, functions: list[DeviceFunction], later: Sequence[Step]) -> None:
        dims = {a.name: a.extent for a in kernel.axes}
        base = f"{self.plan.key.loss}_{kernel.name}"
        names = [self.kernels.add(f, base + ("_long" if k else "")) for k, f in enumerate(functions)]
        for store in part.stores:
            self.output(self.plan.buffer(store.buffer))
        self.straighten(functions)
        if part.scalar:
            self.print_launch(f"{names[0]}[(1,)]", self.passed(functions[0]), ["ACC=types['ACC']"])
            for b in {a.of for a in functions[0].arguments if a.kind == "parts"}:
                self.shares.pop(b)
            return
        rows = self.product([dims[a] for a in part.rows])
        entries = rows
        if len(part.rows) > 1:
            entries = self.names.fresh("rows" if part.columns else "entries")
            self.out.line(f"{entries} = {rows}")
        if part.columns:
            name, sizes, step = self.tile(part, functions[0], names, dims)
        else:
            block = self.choices.block
            while block > 256 and max(f.loads for f in functions) * block > LOADED:
                block //= 2
            name, sizes, step = names[0], [f"BLOCK={block}"], str(block)
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
        self, part: Part, function: DeviceFunction, names: list[str], dims: dict[str, Dim]
    ) -> tuple[str, list[str], str]:
        """(function, sizes to pass, rows of a tile) of a part with columns; their choice is printed."""
        columns = self.product([dims[a] for a in part.columns])
        resident = self.choices.resident
        while resident * function.live > self.choices.resident * DEEP and resident > 1024:
            resident //= 2
        lane = part.kernel.lane
        across = "False"
        if lane is not None and lane in part.rows:
            across = f"{self.scope.dim(dims[lane]).at(PRODUCT)} > 1"
        whole, sizes = self.names.fresh("whole"), self.names.fresh("sizes")
        block = max(self.choices.block, 1)
        self.kernels.runtime.add("_tile")
        self.out.line(f"{whole}, {sizes} = _tile({columns}, {across}, {resident}, {block})")
        name = self.names.fresh("kernel")
        self.out.line(f"{name} = {names[0]} if {whole} else {names[1]}")
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
        more = [f"ADD={add}", "BLOCK=1024"]
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
        everything = [*arguments, *more]
        line = f"{head}({', '.join(everything)})"
        if len(line) + 4 * self.out.level <= 100:
            self.out.line(line)
            return
        self.out.line(f"{head}(")
        self.out.line(f"    {', '.join(arguments)},")
        self.out.line(f"    {', '.join(more)},")
        self.out.line(")")

    # -------------------------------------------------------------------------------------------------- prologue

    def prologue(self, body: str) -> list[str]:
        lines = super().prologue(body)
        for variable in self.contiguous.values():
            lines.append(f"{variable} = {variable}.contiguous()")
        if self.given_types:
            given = [self.scope.variables[b.name] for b in self.plan.buffers if b.role == "input"]
            self.kernels.runtime.update(("_types", "_launches", "_setting"))
            lines.append(f"types = _types(acc, {', '.join(given)})")
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
