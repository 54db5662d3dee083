"""A Plan as a Python function that calls compiled C++; steps that have none stay torch operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lossdsl import primitives
from lossdsl.backends.native_kernel import native_function
from lossdsl.backends.native_layout import Argument, Around, NativeFunction, any_element, element_type, element_word
from lossdsl.backends.text import Names, Writer, offset_text
from lossdsl.backends.torch_function import Emitted, PlanFunction, Signature
from lossdsl.backends.triton_function import CALLED
from lossdsl.backends.triton_parts import parts
from lossdsl.backends.triton_text import Unsupported
from lossdsl.backends.windows import without_adding_loops
from lossdsl.dim import Dim
from lossdsl.lower.plan import Buffer, Call, ChunkLoop, Kernel, Plan, Recurrence, Step, Within

DISCRETE = ("bool", "binary", "sign", "class", "int")  # kinds of inputs that the computation has no type of

_COMMON = """\
#include <stdint.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

typedef REAL real_t;

// A truth value of each lane, as wide as a number, so that vectors of both have as many.
template <int> struct Mask { typedef int32_t type; };
template <> struct Mask<8> { typedef int64_t type; };
typedef Mask<sizeof(real_t)>::type mask_t;

extern "C" void lossdsl_pages(void *data, int64_t bytes) {
    const uintptr_t size = 2097152, first = ((uintptr_t)data + size - 1) & ~(size - 1);
    const uintptr_t last = ((uintptr_t)data + (uintptr_t)bytes) & ~(size - 1);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (last > first) madvise((void *)first, last - first, MADV_HUGEPAGE);
#endif
    (void)first; (void)last;
}"""


@dataclass
class Kernels:
    """The C++ functions of a module: equal ones are printed once. `name` gives a fresh name."""

    name: Callable[[str], str]
    texts: dict[str, str] = field(default_factory=dict)  # text with a placeholder for the name -> name
    codes: dict[str, str] = field(
        default_factory=dict
    )  # name -> one letter for each argument: p(ointer) i(nt) d(ouble)

    def add(self, made: NativeFunction, wanted: str, kinds: dict[str, str]) -> str:
        text = "\n".join(made.lines)
        if text not in self.texts:
            name = self.texts[text] = self.name(wanted)
            self.codes[name] = "".join(_code(a, kinds) for a in made.arguments) + "i"
        return self.texts[text]

    def helpers(self) -> list[str]:
        """The lines that come before every kernel."""
        needed = primitives.helper_sources([*self.texts], primitives.CXX_HELPERS)
        return "\n\n".join([_COMMON, *(text.rstrip("\n") for text in needed)]).split("\n")

    def sources(self) -> list[tuple[str, str, list[str]]]:
        """(name, letters of the arguments, lines) of each kernel."""
        return [(n, self.codes[n], text.replace("{name}", n).split("\n")) for text, n in self.texts.items()]


def _code(a: Argument, kinds: dict[str, str]) -> str:
    if a.kind == "buffer":
        return "p"
    return "d" if a.kind == "parameter" and kinds[a.of] == "acc" else "i"


@dataclass(frozen=True)
class Called:
    """The calling function, or None with nothing to call. `names`: the kernels that it calls; `kinds`: (input, variable)
    of those that a kernel reads with whatever elements they have; `reasons`: (kernel, why it is torch operations)."""

    emitted: Emitted | None
    names: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]
    reasons: tuple[tuple[str, str], ...]


def calling_function(plan: Plan, name: str, signature: Signature, kernels: Kernels) -> Called:
    made = _Calling(without_adding_loops(plan), name, signature, kernels)
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
            driver = _Driver(self, Around(frozenset(self.scope.rounds), frozenset(self.scope.loops)))
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
            shape = f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
            dtype, device = self.dtype(b), self.scope.need("device")
            self.out.line(f"{self.variable(b)} = torch.empty({shape}, dtype={dtype}, device={device})")
            self.made.add(b.name)
        elif b.name not in self.made:
            self.empty(b)
        else:
            return
        if b.dims:
            self.scope.helpers.add("_native_pages")
            self.out.line(f"_native_pages(native, {self.variable(b)})")
        self.straight.add(b.name)

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


class _Driver:
    """The text of a function that runs the rounds of a recurrence, one after the other."""

    def __init__(self, calling: _Calling, around: Around) -> None:
        self.calling, self.around = calling, around
        self.arguments: dict[tuple[str, str], Argument] = {}
        self.scope = Names(["threads"])
        self.points: dict[str, str] = {}
        self.out = Writer()
        self.names: list[str] = []  # kernels that it calls
        self.written: set[str] = set()

    def loop(self, step: Recurrence) -> None:
        extent = self.argument(Argument("rounds", "extent", str(step.extent), step.extent))
        point = self.scope.fresh(f"{step.axis}_point")
        forward = f"int64_t {point} = 0; {point} < {extent}; ++{point}"
        backward = f"int64_t {point} = {extent} - 1; {point} >= 0; --{point}"
        self.points[step.axis] = point
        self.out.line(f"for ({forward if step.direction > 0 else backward}) {{")
        self.inner(step.steps)
        self.out.line("}")
        del self.points[step.axis]

    def inner(self, steps: Sequence[Step]) -> None:
        self.out.indent()
        for s in steps:
            match s:
                case Kernel():
                    self.kernel(s)
                case Recurrence():
                    self.loop(s)
                case Within(axis, extent, steps):
                    limit = self.argument(Argument("extent", "extent", str(extent), extent))
                    self.out.line(f"if ({self.points[axis]} < {limit}) {{")
                    self.inner(steps)
                    self.out.line("}")
                case _:
                    raise Unsupported("a step of a round is a library's")
        self.out.dedent()

    def kernel(self, kernel: Kernel) -> None:
        calling = self.calling
        around = Around(self.around.rounds, self.around.points | frozenset(self.points))
        for part in parts(kernel, once=True):
            made = native_function(part, calling.plan, around)
            name = calling.kernels.add(made, f"{calling.plan.key.loss}_{kernel.name}", calling.kinds)
            if name not in self.names:
                self.names.append(name)
            self.written |= made.written
            passed = [
                self.points[a.of] if a.of in self.points and a.kind == "point" else self.argument(a)
                for a in made.arguments
            ]
            self.out.line(f"{name}({', '.join([*passed, 'threads'])});")

    def argument(self, a: Argument) -> str:
        key = (a.kind, a.of)
        if key not in self.arguments:
            self.arguments[key] = replace(a, name=self.scope.fresh(a.name))
        return self.arguments[key].name

    def function(self) -> NativeFunction:
        ordered = sorted(self.arguments.values(), key=lambda a: a.kind != "buffer")
        plan, kinds = self.calling.plan, self.calling.kinds
        texts = []
        for a in ordered:
            if a.kind == "buffer":
                b = plan.buffer(a.of)
                const = "" if a.of in self.written else "const "
                texts.append(f"{const}{element_type(b)} *{a.name}")
            else:
                double = a.kind == "parameter" and kinds[a.of] == "acc"
                texts.append(f"{'double' if double else 'int64_t'} {a.name}")
        head = ['extern "C" void {name}(', *(f"    {t}," for t in texts), "    int64_t threads) {"]
        lines = [*head, *("    " + line for line in self.out.lines), "}"]
        return NativeFunction(lines, tuple(ordered), frozenset(self.written))


def _tuple(items: list[str]) -> str:
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


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
    names = _tuple([f'"{n}"' for n in called.names])
    writer.indent()
    line = f"native = _native({names}, {_tuple(reals)}, {_tuple(others)}, {{{kinds}}})"
    if len(line) <= 96:
        writer.line(line)
    else:
        writer.line("native = _native(")
        for text in (names, _tuple(reals), _tuple(others), f"{{{kinds}}}"):
            writer.line(f"    {text},")
        writer.line(")")
    writer.line("if native is not None:")
    writer.line(f"    return {name}(native, {arguments})")
    writer.dedent()
    first, *body = called.emitted.lines
    opened = first.index("(") + 1
    inner = [f"{first[:opened]}native, {first[opened:]}", *body]
    return Emitted([*inner, "", "", *writer.lines, *rest], plain.helpers | called.emitted.helpers | {"_native"})
