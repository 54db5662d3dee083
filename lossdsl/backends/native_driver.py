"""C++ functions that call the kernels of a loop: one call from Python for all rounds, and the kernels' texts of a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lossdsl import primitives
from lossdsl.backends.native_kernel import native_function
from lossdsl.backends.native_layout import Argument, Around, NativeFunction, element_type, whole_lines
from lossdsl.backends.text import Names, Writer
from lossdsl.backends.triton_parts import Part, parts
from lossdsl.backends.triton_text import Unsupported
from lossdsl.dim import Dim
from lossdsl.lower.plan import Fold, Kernel, Load, Plan, Recurrence, Rolling, Stage, Step, Store, Within

_COMMON = """\
#include <stdint.h>
#include <stdlib.h>

typedef REAL real_t;

// A truth value of each lane, as wide as a number, so that vectors of both have as many.
template <int> struct Mask { typedef int32_t type; };
template <> struct Mask<8> { typedef int64_t type; };
typedef Mask<sizeof(real_t)>::type mask_t;"""


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


ENOUGH = 16  # indices of the axes before the rows that keep all threads busy
SEGMENT = 8  # strips that a thread works on, where there are fewer


class _Driver:
    """The arguments and the frame of a function that calls kernels."""

    def __init__(self, plan: Plan, kernels: Kernels) -> None:
        self.plan, self.kernels = plan, kernels
        self.kinds = dict(plan.parameters)
        self.arguments: dict[tuple[str, str], Argument] = {}
        self.scope = Names(
            ["threads", "programs", "program", "strips", "strip", "first", "last", "left", "right", "row", "real_t"]
        )
        self.out = Writer()
        self.names: list[str] = []  # kernels that it calls
        self.written: set[str] = set()

    def add(self, made: NativeFunction, kernel: Kernel) -> str:
        """The name of a kernel's function in the module."""
        name = self.kernels.add(made, f"{self.plan.key.loss}_{kernel.name}", self.kinds)
        if name not in self.names:
            self.names.append(name)
        return name

    def argument(self, a: Argument) -> str:
        key = (a.kind, a.of)
        if key not in self.arguments:
            self.arguments[key] = replace(a, name=self.scope.fresh(a.name))
        return self.arguments[key].name

    def extent(self, dim: Dim) -> str:
        if dim.constant is not None:
            return str(dim.constant)
        word = str(dim) if str(dim).isidentifier() else "extent"
        return self.argument(Argument(word, "extent", str(dim), dim))

    def function(self) -> NativeFunction:
        ordered = sorted(self.arguments.values(), key=lambda a: a.kind != "buffer")
        texts = []
        for a in ordered:
            if a.kind == "buffer":
                b = self.plan.buffer(a.of)
                const = "" if a.of in self.written else "const "
                texts.append(f"{const}{element_type(b)} *{a.name}")
            else:
                double = a.kind == "parameter" and self.kinds[a.of] == "acc"
                texts.append(f"{'double' if double else 'int64_t'} {a.name}")
        head = ['extern "C" void {name}(', *(f"    {t}," for t in texts), "    int64_t threads) {"]
        lines = [*head, *("    " + line for line in self.out.lines), "}"]
        return NativeFunction(lines, tuple(ordered), frozenset(self.written))


class Rounds(_Driver):
    """The rounds of a recurrence, one after the other."""

    def __init__(self, plan: Plan, kernels: Kernels, around: Around) -> None:
        super().__init__(plan, kernels)
        self.around = around
        self.points: dict[str, str] = {}

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
        around = Around(self.around.rounds, self.around.points | frozenset(self.points))
        for part in parts(kernel, once=True):
            made = native_function(part, self.plan, around)
            name = self.add(made, kernel)
            self.written |= made.written
            passed = [
                self.points[a.of] if a.of in self.points and a.kind == "point" else self.argument(a)
                for a in made.arguments
            ]
            self.out.line(f"{name}({', '.join([*passed, 'threads'])});")


class Strips(_Driver):
    """The strips of a Rolling. Threads take different indices of the axes before the rows, blocks of lanes, and segments of
    a few strips where there are few of those; a segment begins some strips ahead, so that what it reads is there. Each
    has rows of its own and a share of every total, of a size that depends on the extents alone, so that totals do not
    depend on the number of threads."""

    def __init__(self, plan: Plan, kernels: Kernels, step: Rolling) -> None:
        super().__init__(plan, kernels)
        self.step = step
        self.lead = len(step.within)
        first = step.stages[0].kernel
        self.independent = [a.extent for name in step.within for a in first.axes if a.name == name]
        self.points = {name: self.scope.fresh(f"{name}_point") for name in step.within}
        self.rows = {name: self.scope.fresh(f"{name}_rows") for name, _ in step.kept}
        self.totals: dict[str, tuple[str, str]] = {}  # buffer -> (share of an index, all shares)
        calls = Writer()
        self.segments = step.reach is not None and self.apart()
        made = [self.functions(stage) for stage in step.stages]  # all of them, before the first one is in the module
        for stage, functions in zip(step.stages, made):
            self.stage(stage, functions, calls)
        self.frame(calls.lines)

    def apart(self) -> bool:
        """Whether the rows that a segment makes ahead of its own are in memory of its own, and are all that it reads."""
        kernels = [s.kernel for s in self.step.stages]
        stored = [{s.buffer for s in k.statements if isinstance(s, Store) and s.subscripts} for k in kernels]
        read = {s.buffer for k in kernels for s in k.statements if isinstance(s, Load)}
        kept = self.rows.keys()
        mixed = any(names & kept and names - kept for names in stored)
        return not mixed and not (read & set().union(*stored)) - kept

    def functions(self, stage: Stage) -> list[tuple[Part, NativeFunction]]:
        """The functions of a stage. Raises Unsupported."""
        within = frozenset(self.step.within)
        kept = {name: (self.lead, rows) for name, rows in self.step.kept}
        points = within | {stage.axis} if stage.ordered else within
        rounds = frozenset(() if stage.ordered else (stage.axis,)) | frozenset((stage.lane,) if self.step.lanes else ())
        around = Around(rounds, points, kept, alone=True)
        found = parts(_without(stage.kernel, within), once=True, points=points)
        return [(part, native_function(part, self.plan, around)) for part in found]

    def stage(self, stage: Stage, functions: list[tuple[Part, NativeFunction]], calls: Writer) -> None:
        written = {s.buffer for s in stage.kernel.statements if isinstance(s, Store)}
        self.bounds(stage, calls, alone=self.segments and not written & self.rows.keys())
        calls.indent()
        if stage.ordered:
            forward, backward = "row = first; row < last; ++row", "row = last - 1; row >= first; --row"
            calls.line(f"for (int64_t {forward if self.step.direction > 0 else backward}) {{")
            calls.indent()
        for part, made in functions:
            name = self.add(made, stage.kernel)
            totals = [t.store.buffer for t in part.totals]
            for t in totals:
                self.totals.setdefault(t, (self.scope.fresh(f"{t}_share"), self.scope.fresh(f"{t}_shares")))
                calls.line(f"real_t {t}_of_strip = 0;")
            self.written |= made.written - self.rows.keys()
            passed = [self.passed(a, stage, totals) for a in made.arguments]
            calls.line(f"{name}({', '.join([*passed, '1'])});")
            for t in totals:
                calls.line(
                    f"{self.totals[t][0]} += {f'ahead ? 0 : {t}_of_strip' if self.segments else f'{t}_of_strip'};"
                )
        if stage.ordered:
            calls.dedent()
            calls.line("}")
        calls.dedent()
        calls.line("}")
        calls.dedent()
        calls.line("}")

    def bounds(self, stage: Stage, calls: Writer, *, alone: bool) -> None:
        """Open the block of a stage, with its first and last row in the strip; `alone`: nothing here reads its results."""
        extent, size = self.extent(stage.extent), self.step.size
        lag = f" - {stage.lag}" if stage.lag else ""
        near, far = f"strip * {size}{lag}", f"(strip + 1) * {size}{lag}"
        calls.line("{")
        calls.indent()
        if self.step.direction > 0:
            first, last = near, far
        else:
            first, last = f"{extent} - ({far})", f"{extent} - ({near})"
        calls.line(f"const int64_t first = {first} > 0 ? {first} : 0;")
        calls.line(f"const int64_t last = {last} < {extent} ? {last} : {extent};")
        calls.line(f"if (first < last{' && !ahead' if alone else ''}) {{")

    def passed(self, a: Argument, stage: Stage, totals: list[str]) -> str:
        match a.kind:
            case "buffer" if a.of in self.rows:
                return self.rows[a.of]
            case "buffer" if a.of in totals:
                return f"&{a.of}_of_strip"
            case "first" | "last" if a.of == stage.axis:
                return a.kind
            case "first" | "last" if a.of == stage.lane and self.step.lanes:
                return "left" if a.kind == "first" else "right"
            case "point" if a.of in self.points:
                return self.points[a.of]
            case "point" if a.of == stage.axis:
                return "row"
        return self.argument(a)

    def frame(self, calls: list[str]) -> None:
        """The loops around the calls, and what they need."""
        out, step = self.out, self.step
        counts = [self.extent(d) for d in self.independent]
        if step.lanes:
            lane = next(a.extent for s in step.stages for a in s.kernel.axes if a.name == s.lane)
            width = self.extent(lane)
            counts.append(f"(({width} + {step.lanes - 1}) / {step.lanes})")
        out.line("int64_t strips = 0;")
        for extent, lag in sorted({(self.extent(s.extent), s.lag) for s in step.stages}):
            needed = f"({extent} + {lag + step.size - 1}) / {step.size}"
            out.line(f"if ({extent} > 0 && {needed} > strips) strips = {needed};")
        whole = " * ".join(counts) or "1"
        if self.segments:
            out.line(f"const int64_t segment = {whole} < {ENOUGH} ? {SEGMENT} : strips;")
            out.line("const int64_t segments = segment > 0 ? (strips + segment - 1) / segment : 0;")
            counts.append("segments")
            out.line(f"const int64_t programs = {whole} * segments;")
        else:
            out.line(f"const int64_t programs = {whole};")
        for _, shares in self.totals.values():
            out.line(f"double *{shares} = (double *)::malloc((programs > 0 ? programs : 1) * sizeof(double));")
        out.line("#pragma omp parallel num_threads(threads) if (threads > 1 && programs > 1)")
        out.line("{")
        out.indent()
        for name, rows in step.kept:
            b = self.plan.buffer(name)
            type_, width = element_type(b), self.extent(b.dims[-1])
            size = f"64 * (sizeof({type_}) * {rows} * {whole_lines(width)} / 64 + 1)"
            out.line(f"{type_} *{self.rows[name]} = ({type_} *)::aligned_alloc(64, {size});")
        out.line("#pragma omp for schedule(static)")
        out.line("for (int64_t program = 0; program < programs; ++program) {")
        out.indent()
        rest = "program"
        for k in reversed(range(len(counts))):
            index = f"{rest}{f' % {counts[k]}' if k else ''}"
            if counts[k] == "segments":
                out.line(f"const int64_t own = {index if ' ' not in index else f'({index})'} * segment;")
                out.line("const int64_t end = own + segment < strips ? own + segment : strips;")
            elif k == len(step.within):
                out.line(f"const int64_t left = {index if ' ' not in index else f'({index})'} * {step.lanes};")
                out.line(f"const int64_t right = left + {step.lanes} < {width} ? left + {step.lanes} : {width};")
            else:
                out.line(f"const int64_t {self.points[step.within[k]]} = {index};")
            rest = f"{rest} / {counts[k]}"
        for share, _ in self.totals.values():
            out.line(f"double {share} = 0;")
        if self.segments:
            ahead = -(-(step.reach or 0) // step.size)
            out.line(f"for (int64_t strip = own > {ahead} ? own - {ahead} : 0; strip < end; ++strip) {{")
        else:
            out.line("for (int64_t strip = 0; strip < strips; ++strip) {")
        out.indent()
        if self.segments:
            out.line("const bool ahead = strip < own;")
        out.block(calls)
        out.dedent()
        out.line("}")
        for share, shares in self.totals.values():
            out.line(f"{shares}[program] = {share};")
        out.dedent()
        out.line("}")
        for name in self.rows.values():
            out.line(f"::free({name});")
        out.dedent()
        out.line("}")
        for buffer, (share, shares) in self.totals.items():
            out.line(f"double {share} = 0;")
            out.line(f"for (int64_t program = 0; program < programs; ++program) {share} += {shares}[program];")
            out.line(f"::free({shares});")
            pointer = self.argument(Argument(f"{buffer}_data", "buffer", buffer))
            out.line(f"{pointer}[0] += (real_t){share};")


def _without(kernel: Kernel, axes: frozenset[str]) -> Kernel:
    """The kernel for one index of the axes."""
    statements = tuple(
        replace(s, axes=tuple(a for a in s.axes if a not in axes)) if isinstance(s, Fold) else s
        for s in kernel.statements
    )
    return replace(kernel, axes=tuple(a for a in kernel.axes if a.name not in axes), statements=statements)
