"""A Plan as a Python function that calls compiled C++; steps that have none stay torch operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lossdsl.backends.native_driver import Kernels, Rounds, Strips
from lossdsl.backends.native_kernel import native_function
from lossdsl.backends.native_layout import Argument, Around, NativeFunction, any_element, element_word
from lossdsl.backends.rolling import rolled
from lossdsl.backends.text import Writer, offset_text, tuple_text
from lossdsl.backends.torch_function import Emitted, PlanFunction, Signature
from lossdsl.backends.triton_function import CALLED
from lossdsl.backends.triton_parts import parts
from lossdsl.backends.triton_text import Unsupported
from lossdsl.backends.window_joins import joined
from lossdsl.backends.windows import without_adding_loops
from lossdsl.dim import Dim
from lossdsl.lower.plan import Buffer, Call, ChunkLoop, Kernel, Plan, Recurrence, Rolling, Step

DISCRETE = ("bool", "binary", "sign", "class", "int")  # kinds of inputs that the computation has no type of


@dataclass(frozen=True)
class Called:
    """The calling function, or None with nothing to call. `names`: the kernels that it calls; `kinds`: (input, variable)
    of those that a kernel reads with whatever elements they have; `reasons`: (kernel, why it is torch operations)."""

    emitted: Emitted | None
    names: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]
    reasons: tuple[tuple[str, str], ...]


def native_plan(plan: Plan) -> Plan:
    """The torch target's plan for loops: windows are folds, made together where they read the same, in strips of rows."""
    return rolled(without_adding_loops(joined(plan, alike=True)))


def calling_function(plan: Plan, name: str, signature: Signature, kernels: Kernels) -> Called:
    made = _Calling(native_plan(plan), name, signature, kernels)
    emitted = made.emit()
    return Called(emitted if made.called else None, tuple(made.called), tuple(made.raw.items()), tuple(made.reasons))


class _Calling(PlanFunction):
    def __init__(self, plan: Plan, name: str, signature: Signature, kernels: Kernels) -> None:
        super().__init__(plan, name, signature, True, "")
        self.kernels = kernels
        self.called: dict[str, None] = {}
        self.raw: dict[str, str] = {}  # input -> variable of the tensor as it is given
        self.reasons: list[tuple[str, str]] = []
        self.kinds = dict(plan.parameters)
        self.torch_loop = False
        self.straight: set[str] = set()  # buffers that lie contiguous in memory
        self.contiguous: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------------ decisions

    def call(self, step: Call) -> None:
        self.reasons.append((step.out, f"{CALLED[step.operation]} is a library's"))
        super().call(step)
        self.straight.discard(step.out)

    def kernel(self, kernel: Kernel, later: Sequence[Step]) -> None:
        super().kernel(kernel, later)
        self.straight -= {s.buffer for s in kernel.statements if hasattr(s, "value") and hasattr(s, "buffer")}

    def loop(self, step: ChunkLoop) -> None:
        super().loop(step)
        self.straight -= {b.name for b in self.plan.buffers if b.role == "chunk"}

    def on_device(self, kernel: Kernel, later: Sequence[Step]) -> bool:
        around = Around(frozenset(self.scope.rounds), frozenset(self.scope.loops))
        try:
            if self.torch_loop:
                return False
            planned = [(part, native_function(part, self.plan, around)) for part in parts(kernel, once=True)]
        except Unsupported as why:
            self.reasons.append((kernel.name, str(why)))
            return False
        for _, function in planned:
            self.print_call(f"{self.plan.key.loss}_{kernel.name}", function)
        return True

    def recurrence(self, step: Recurrence) -> None:
        """All rounds in one call, if every step of a round is a kernel that has a C++ text."""
        try:
            if self.scope.slices or self.inside():
                raise Unsupported("it works on a round of a loop")
            around = Around(frozenset(self.scope.rounds), frozenset(self.scope.loops))
            driver = Rounds(self.plan, self.kernels, around)
            driver.loop(step)
        except Unsupported as why:
            self.reasons.append((f"the loop over {step.axis}", str(why)))
            self.torch_loop = True
            super().recurrence(step)
            self.torch_loop = False
            return
        function = driver.function()
        for name in driver.names:
            self.called.setdefault(name)
        self.print_call(f"{self.plan.key.loss}_{step.axis}_rounds", function)

    def rolling(self, step: Rolling) -> None:
        """All strips in one call."""
        try:
            driver = Strips(self.plan, self.kernels, step)
        except Unsupported:  # the kernels by themselves say why
            super().rolling(step)
            return
        for name in driver.names:
            self.called.setdefault(name)
        self.print_call(f"{self.plan.key.loss}_{step.stages[-1].kernel.name}_strips", driver.function())

    # -------------------------------------------------------------------------------------------------- calling

    def print_call(self, wanted: str, function: NativeFunction) -> None:
        name = self.kernels.add(function, wanted, self.kinds)
        self.called.setdefault(name)  # after what it calls
        for buffer in sorted(function.written):
            self.output(self.plan.buffer(buffer))
        arguments = [self.passed(a) for a in function.arguments]
        self.scope.used.add("native")
        line = f"native.{name}({', '.join([*arguments, 'threads'])})"
        if len(line) + 4 * self.out.level <= 100:
            self.out.line(line)
            return
        self.out.line(f"native.{name}(")
        for a in (*arguments, "threads"):
            self.out.line(f"    {a},")
        self.out.line(")")

    def output(self, b: Buffer) -> None:
        if b.role == "chunk" and b.name not in self.made:
            sizes = [self.scope.dim(d).text for d in b.dims]
            start, stop = next(reversed(self.scope.rounds.values()))
            sizes[b.chunked or 0] = f"{stop} - {start}"
            shape = tuple_text(sizes)
            self.fresh(b, shape)
        elif b.name not in self.made:
            self.empty(b)
        else:
            return
        self.straight.add(b.name)

    def empty(self, buffer: Buffer) -> None:
        if not buffer.dims:
            super().empty(buffer)
        elif buffer.name not in self.made:
            self.fresh(buffer, self.shape(buffer))

    def fresh(self, b: Buffer, shape: str) -> None:
        self.scope.helpers.add("_native_empty")
        self.out.line(f"{self.variable(b)} = _native_empty({shape}, {self.dtype(b)})")
        self.made.add(b.name)

    def passed(self, a: Argument) -> str:
        match a.kind:
            case "buffer":
                return f"{self.tensor(self.plan.buffer(a.of))}.data_ptr()"
            case "parameter":
                kind = "float" if self.kinds[a.of] == "acc" else "int"
                return f"{kind}({self.scope.parameters[a.of]})"
            case "first":
                return self.scope.rounds[a.of][0]
            case "last":
                return self.scope.rounds[a.of][1]
            case "point":
                return self.scope.loops[a.of]
            case "shift":
                return self.shift(a.dim)
        assert a.dim is not None
        return self.scope.dim(a.dim).text

    def shift(self, dim: Dim | None) -> str:
        assert dim is not None
        return offset_text(dim, self.scope.extents).text

    def tensor(self, b: Buffer) -> str:
        """The variable of a buffer's values, contiguous."""
        kind = "acc" if b.type.startswith("like ") else b.type
        if any_element(b):
            if b.name not in self.raw:
                self.raw[b.name] = self.names.fresh(f"{self.scope.variables[b.name]}_given")
            return self.raw[b.name]
        if b.role == "input" and kind == "acc" and self.scope.kinds.get(b.name) not in DISCRETE:
            return self.scope.variables[b.name]  # of the type to compute in, else no kernel would run
        if b.role in ("input", "cotangent", "direction"):
            variable = self.scope.source(b, kind)
            self.contiguous[b.name] = variable
            return variable
        variable = self.variable(b)
        if b.name not in self.straight:
            whole = f".expand({self.shape(b)})" if b.dims and b.role != "chunk" else ""
            self.out.line(f"{variable} = {variable}{whole}.contiguous()")
            self.straight.add(b.name)
        return variable

    # -------------------------------------------------------------------------------------------------- prologue

    def prologue(self, body: str) -> list[str]:
        given = [f"{variable} = {self.scope.variables[name]}" for name, variable in self.raw.items()]
        lines = [*given, *super().prologue(body)]
        for b in self.plan.buffers:
            loose = b.role in ("cotangent", "direction") or self.scope.kinds.get(b.name) in DISCRETE
            if loose and b.name in self.contiguous and b.dims:
                variable = self.contiguous[b.name]
                lines.append(f"{variable} = {variable}.contiguous()")
        if "native" in self.scope.used:
            lines.append("threads = _threads()")
            self.scope.helpers.add("_threads")
        return lines


def dispatching(plain: Emitted, called: Called, name: str, signature: Signature, plan: Plan) -> Emitted:
    """The torch function, which hands over to the calling one where compiled kernels may run."""
    assert called.emitted is not None
    head, *rest = plain.lines
    writer = Writer()
    writer.line(head)
    if rest and rest[0].strip().startswith('"""'):
        writer.line(rest.pop(0))
    arguments = head.split("(", 1)[1].rsplit("):", 1)[0]
    variables = dict(signature.inputs)
    raw = dict(called.kinds)
    reals = [v for n, v in signature.inputs if signature.kinds.get(n) not in DISCRETE]
    others = [v for _, v in signature.parameters]
    if any(b.role == "cotangent" for b in plan.buffers):
        others.append("grad_output")
    kinds = ", ".join(f'"{element_word(n)}": {variables[n]}' for n in raw)
    names = tuple_text([f'"{n}"' for n in called.names])
    writer.indent()
    line = f"native = _native({names}, {tuple_text(reals)}, {tuple_text(others)}, {{{kinds}}})"
    if len(line) <= 96:
        writer.line(line)
    else:
        writer.line("native = _native(")
        for text in (names, tuple_text(reals), tuple_text(others), f"{{{kinds}}}"):
            writer.line(f"    {text},")
        writer.line(")")
    writer.line("if native is not None:")
    writer.line(f"    return {name}(native, {arguments})")
    writer.dedent()
    first, *body = called.emitted.lines
    opened = first.index("(") + 1
    inner = [f"{first[:opened]}native, {first[opened:]}", *body]
    return Emitted([*inner, "", "", *writer.lines, *rest], plain.helpers | called.emitted.helpers | {"_native"})
