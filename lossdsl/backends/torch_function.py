"""A Plan as a Python function over torch tensors: steps, buffers, loops over chunks, library calls.

`fused`: as the plan says, in place and by chunks, for plain eager tensors without autograd. `formula`: the same
mathematics out of place and unchunked, so that autograd, functorch and torch.compile see ordinary torch operations
whose derivatives are those of the loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from lossdsl.backends.blocks import blocked, widths
from lossdsl.backends.sanitise_plan import sanitise_plan
from lossdsl.backends.text import ATOM, PRODUCT, SUM, UNARY, Names, Text, Writer, number_text, offset_text, tuple_text
from lossdsl.backends.torch_body import Body
from lossdsl.backends.torch_print import expression, print_formula, print_fused, term_text
from lossdsl.backends.torch_register import Number, Reg, Scope, Slices, Term, Write, stacked
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    Allocate,
    Buffer,
    Call,
    ChunkLoop,
    Fill,
    Free,
    Kernel,
    Load,
    Plan,
    Recurrence,
    Rolling,
    Scatter,
    Step,
    Store,
    Within,
)

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Signature:
    """What all functions of one loss share: (buffer or parameter, variable) in order, and the inputs' kinds."""

    inputs: tuple[tuple[str, str], ...]
    parameters: tuple[tuple[str, str], ...]
    integers: frozenset[str]  # parameters that are Python ints
    kinds: Mapping[str, str]
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Emitted:
    """A function's lines, and the helpers that it calls."""

    lines: list[str]
    helpers: frozenset[str]


def emit_function(plan: Plan, name: str, signature: Signature, *, fused: bool, comment: str = "") -> Emitted:
    """The function `name(inputs..., parameters...[, grad_output])` of a plan, returning what the plan returns."""
    return PlanFunction(plan if fused else sanitise_plan(plan), name, signature, fused, comment).emit()


class PlanFunction:
    def __init__(self, plan: Plan, name: str, signature: Signature, fused: bool, comment: str) -> None:
        self.plan, self.name, self.signature, self.fused, self.comment = plan, name, signature, fused, comment
        self.names = Names(v for _, v in (*signature.inputs, *signature.parameters))
        variables = dict(signature.inputs)
        for b in plan.buffers:
            if b.role == "cotangent":
                variables[b.name] = "grad_output"
        self.scope = Scope(plan, self.names, {}, dict(signature.parameters), variables, fused)
        self.scope.kinds = dict(signature.kinds)
        self.extents()
        self.made: set[str] = set()  # buffers that exist as tensors with all their entries
        self.rows: dict[str, str] = {}  # chunk buffer -> variable of the memory for a whole round
        self.out = Writer()
        # Gradients that are added up are made in the accumulation type, and rounded once when they are returned.
        self.wide = {name for name in _accumulated(plan.steps) if plan.buffer(name).type.startswith("like ")}
        self.given: set[Reg] = set()  # registers whose memory is a buffer's now

    # ------------------------------------------------------------------------------------------------ extents

    def extents(self) -> None:
        """Name the symbols of extents; integer parameters are their own."""
        for name, variable in self.signature.parameters:
            self.scope.extents[name] = variable
        for b in self.plan.buffers:
            for dim in b.dims:
                for symbol in dim.symbols():
                    if symbol not in self.scope.extents:
                        self.scope.extents[symbol] = self.names.fresh("rest" if symbol == "..." else symbol)

    def extent_lines(self, body: str) -> list[str]:
        """Assignments of the extents that the body mentions, from the shapes of the arguments."""
        words = set(_words(body))
        missing = {
            s: v for s, v in self.scope.extents.items() if v in words and s not in dict(self.signature.parameters)
        }
        lines: list[str] = []
        for b in self.plan.buffers:
            if b.role not in ("input", "cotangent", "direction"):
                continue
            found = [(k, s) for k, d in enumerate(b.dims) for s in missing if d == Dim.symbol(s)]
            if not found:
                continue
            variable = self.scope.variables[b.name]
            if len(found) == len(b.dims) and len({s for _, s in found}) == len(found) and len(found) > 1:
                lines.append(f"{', '.join(missing[s] for _, s in found)} = {variable}.shape")
            else:
                done: set[str] = set()
                for k, s in found:
                    if s not in done:
                        lines.append(f"{missing[s]} = {variable}.shape[{k}]")
                        done.add(s)
            for _, s in found:
                missing.pop(s, None)
        return lines

    # --------------------------------------------------------------------------------------------------- whole

    def emit(self) -> Emitted:
        self.plan_steps(self.plan.steps)
        returned = [self.result(buffer) for _, buffer in self.plan.returns]
        body = self.out.lines
        if len(returned) == 1 and body and body[-1].startswith(f"{returned[0]} = "):
            body[-1] = "return" + body[-1].removeprefix(f"{returned[0]} =")
        else:
            self.out.line(f"return {', '.join(returned)}")
        prologue = self.prologue("\n".join(body))
        arguments = [v for _, v in (*self.signature.inputs, *self.signature.parameters)]
        if any(b.role == "cotangent" for b in self.plan.buffers):
            arguments.append("grad_output")
        writer = Writer()
        writer.line(f"def {self.name}({', '.join(arguments)}):")
        writer.indent()
        if self.comment:
            writer.line(f'"""{self.comment}"""')
        writer.block(prologue)
        writer.block(body)
        return Emitted(writer.lines, frozenset(self.scope.helpers))

    def prologue(self, body: str) -> list[str]:
        scope = self.scope
        lines: list[str] = []
        inputs = [b for b in self.plan.buffers if b.role == "input"]
        real = [
            scope.variables[b.name]
            for b in inputs
            if scope.kinds.get(b.name) not in ("bool", "binary", "sign", "class", "int")
        ]
        first = scope.variables[inputs[0].name] if inputs else "grad_output"
        words = _words(body)
        for b in inputs:
            variable = scope.variables[b.name]
            if f"{variable}_dtype" in words:
                lines.append(f"{variable}_dtype = {variable}.dtype")
        lines += self.extent_lines(body + "\n" + "\n".join(text for text, _ in scope.constants))
        if "device" in scope.used:
            lines.append(f"device = {first}.device")
        if "acc" in scope.used:
            scope.helpers.add("_accumulator")
            lines.append(f"acc = _accumulator({', '.join(real)})")
        for (buffer, type_), variable in scope.casts.items():
            target = {"acc": "acc", "int": "torch.int64", "bool": "torch.bool"}[type_]
            lines.append(f"{variable} = {scope.variables[buffer]}.to({target})")
        # A rebinding must come after every other cast that reads the argument itself.
        lines.sort(key=_rebinds)
        for name, variable in self.signature.parameters:
            if name in scope.tensors:
                lines.append(f"{variable} = torch.as_tensor({variable}, dtype=acc, device=device)")
        for (text, type_), variable in scope.constants.items():
            dtype = {"acc": "acc", "int": "torch.int64", "bool": "torch.bool"}[type_]
            lines.append(f"{variable} = torch.full((), {text}, dtype={dtype}, device=device)")
        return lines

    # --------------------------------------------------------------------------------------------------- steps

    def plan_steps(self, steps: Sequence[Step]) -> None:
        for at, step in enumerate(steps):
            match step:
                case Kernel() if self.on_device(step, steps[at + 1 :]):
                    pass
                case Kernel():
                    block = blocked(self.plan, step) if self.fused and not self.inside() else None
                    if block is None:
                        self.kernel(step, steps[at + 1 :])
                    else:
                        self.blocks(*block, steps[at + 1 :])
                case Call():
                    self.call(step)
                case Fill():
                    self.filled(step, steps[at + 1 :])
                case ChunkLoop():
                    self.settle()
                    self.loop(step)
                case Recurrence():
                    self.settle()
                    self.recurrence(step)
                case Within(axis, extent, inner):
                    self.out.line(f"if {self.scope.loops[axis]} < {self.scope.dim(extent)}:")
                    self.out.indent()
                    self.plan_steps(inner)
                    self.out.dedent()
                case Rolling():
                    self.rolling(step)
                case Allocate():
                    pass  # made when it is first written
                case Free(buffer):
                    if self.fused and buffer in self.made and self.plan.buffer(buffer).dims:
                        self.out.line(f"del {self.scope.variables[buffer]}")

    def rolling(self, step: Rolling) -> None:
        """Whole arrays have no strips: one kernel after the other."""
        self.plan_steps(step.steps)

    def inside(self) -> bool:
        """Whether a loop is around what is printed."""
        return bool(self.scope.rounds or self.scope.loops)

    def settle(self) -> None:
        """Finish what a target has left open, before a loop."""

    def on_device(self, kernel: Kernel, later: Sequence[Step]) -> bool:
        """Print a kernel in another target's way; False: it is printed as torch operations."""
        return False

    def variable(self, buffer: Buffer) -> str:
        if buffer.name not in self.scope.variables:
            wanted = buffer.name
            for role, name in self.plan.returns:
                if name == buffer.name:
                    wanted = "value" if role == "return" else role.replace(" ", "_")
            self.scope.variables[buffer.name] = self.names.fresh(wanted)
        return self.scope.variables[buffer.name]

    def dtype(self, buffer: Buffer) -> str:
        if buffer.name in self.wide:
            return self.scope.dtype("acc")
        if buffer.type.startswith("like "):
            return f"{self.scope.variables[buffer.type.removeprefix('like ')]}_dtype"
        return self.scope.dtype(buffer.type)

    def shape(self, buffer: Buffer) -> str:
        sizes = [self.scope.dim(d).text for d in buffer.dims]
        return tuple_text(sizes)

    def filled(self, step: Fill, later: Sequence[Step]) -> None:
        self.fill(self.plan.buffer(step.buffer), number_text(step.value.value, step.value.type).text)

    def fill(self, buffer: Buffer, value: str) -> None:
        text = (
            f"torch.full({self.shape(buffer)}, {value}, dtype={self.dtype(buffer)}, device={self.scope.need('device')})"
        )
        if value in ("0.0", "0"):
            text = text.replace("torch.full(", "torch.zeros(").replace(f", {value}, ", ", ")
        self.out.line(f"{self.variable(buffer)} = {text}")
        self.made.add(buffer.name)

    def empty(self, buffer: Buffer) -> None:
        if buffer.name in self.made:
            return
        dtype, device = self.dtype(buffer), self.scope.need("device")
        self.out.line(f"{self.variable(buffer)} = torch.empty({self.shape(buffer)}, dtype={dtype}, device={device})")
        self.made.add(buffer.name)

    def result(self, name: str) -> str:
        buffer = self.plan.buffer(name)
        variable = self.scope.variables[name] if name in self.scope.variables else self.variable(buffer)
        if name in self.wide:
            return f"{variable}.to({self.scope.variables[buffer.type.removeprefix('like ')]}_dtype)"
        return variable

    def blocks(self, kernel: Kernel, totals: tuple[str, ...], later: Sequence[Step]) -> None:
        """A kernel in blocks of its first axis: as many rows as fit in a cache, all of them on an accelerator."""
        for name in totals:
            buffer = self.plan.buffer(name)
            self.fill(buffer, "0" if buffer.type == "int" else "0.0")
        axis = kernel.axes[0]
        for name in written([kernel]):
            self.empty(self.plan.buffer(name))
        start, stop, size = (self.names.fresh(n) for n in ("start", "stop", "block"))
        total = self.scope.dim(axis.extent).text
        sizes = [self.scope.dim(w).text for w in widths(kernel)]
        self.scope.helpers.add("_block")
        more = "" if sizes == ["1"] else f", {sizes[0]}" if len(sizes) == 1 else f", max({', '.join(sizes)})"
        self.out.line(f"{size} = _block({self.scope.need('device')}, {total}{more})")
        self.out.line(f"for {start} in range(0, {total}, {size}):")
        self.out.indent()
        self.out.line(f"{stop} = min({start} + {size}, {total})")
        self.scope.rounds[axis.name] = (start, stop)
        self.kernel(kernel, later)
        del self.scope.rounds[axis.name]
        self.out.dedent()

    def loop(self, step: ChunkLoop) -> None:
        if not self.fused:
            self.plan_steps(step.steps)
            return
        start, stop, rows = (self.names.fresh(n) for n in ("start", "stop", "rows"))
        total = self.scope.dim(step.extent).text
        self.out.line(f"{rows} = {self.rows_of_a_round(step)}")
        for name in written(step.steps):
            buffer = self.plan.buffer(name)
            if buffer.role != "chunk":
                self.empty(buffer)
        for inner in step.steps:
            if isinstance(inner, Call) and self.plan.buffer(inner.out).role == "chunk":
                self.round_memory(self.plan.buffer(inner.out), rows, step)
        self.out.line(f"for {start} in range(0, {total}, {rows}):")
        self.out.indent()
        self.out.line(f"{stop} = min({start} + {rows}, {total})")
        self.scope.rounds[step.axis] = (start, stop)
        self.begin_round(step.axis, start, stop)
        self.plan_steps(step.steps)
        del self.scope.rounds[step.axis]
        for b in self.plan.buffers:
            if b.role == "chunk":
                self.made.discard(b.name)
        self.out.dedent()

    def rows_of_a_round(self, step: ChunkLoop) -> str:
        """The rows of a round: as many as the plan says in a CPU's cache, more elsewhere."""
        chunks = [b for b in self.plan.buffers if b.role == "chunk"]
        widths = {self.product([d for k, d in enumerate(b.dims) if k != b.chunked]) for b in chunks} or {"1"}
        width = widths.pop() if len(widths) == 1 else f"max({', '.join(sorted(widths))})"
        self.scope.helpers.add("_rows")
        return f"_rows({self.scope.need('device')}, {step.size}, {width})"

    def product(self, dims: Sequence[Dim]) -> str:
        made = [self.scope.dim(d) for d in dims]
        return made[0].text if len(made) == 1 else " * ".join(t.at(PRODUCT) for t in made) or "1"

    def begin_round(self, axis: str, start: str, stop: str) -> None:
        """What a target needs to know of a round of a loop over rows."""

    def recurrence(self, step: Recurrence) -> None:
        """A Python loop. Fused, a round writes its slices of the buffers; in a formula they are kept in a dict, and
        the whole tensor is made of them at the end, so that nothing is written in place."""
        variable = self.names.fresh(f"{step.axis}_index")
        outermost = not self.scope.loops
        made = self.slices(step) if outermost else []
        self.scope.loops[step.axis] = variable
        total = self.scope.dim(step.extent)
        rounds = f"range({total})" if step.direction > 0 else f"range({total.at(SUM)} - 1, -1, -1)"
        self.out.line(f"for {variable} in {rounds}:")
        self.out.indent()
        self.plan_steps(step.steps)
        self.out.dedent()
        del self.scope.loops[step.axis]
        if not outermost:
            return
        for buffer in made:
            whole = stacked(self.scope, buffer, self.scope.slices[buffer.name])
            self.out.line(f"{self.variable(buffer)} = {whole}")
            self.made.add(buffer.name)
        self.scope.slices.clear()

    def slices(self, step: Recurrence) -> list[Buffer]:
        """Take what rounds read, and fused what they write, apart into slices before the loop: a list is indexed faster
        than a tensor, and its derivative is one stack. Gives the buffers of whose slices a formula is made."""
        made: list[Buffer] = []
        written = _sliced([step], ())
        for name, places in written.items():
            buffer = self.plan.buffer(name)
            if self.fused:
                self.empty(buffer)
                continue
            made.append(buffer)
            self.scope.slices[name] = Slices(self.names.fresh(f"{self.variable(buffer)}_slices"), places)
            self.out.line(f"{self.scope.slices[name].variable} = {{}}")
        for name, (places, type_) in _read_by_slices([step]).items():
            if name in self.scope.slices or (len(places) > 1 and name in written):
                continue
            if self.fused and name in written and written[name] != places:
                continue
            buffer = self.plan.buffer(name)
            whole = self.scope.source(buffer, type_)
            sizes = tuple(self.scope.dim(buffer.dims[k]) for k in places)
            rows = self.names.fresh(f"{whole}_slices")
            if len(places) == 1:
                self.out.line(f"{rows} = {whole}.unbind({places[0]})")
            else:
                first = f"{whole}.movedim({places}, {tuple(range(len(places)))})"
                if places == tuple(range(len(places))):
                    first = whole
                self.out.line(f"{rows} = {first}.flatten(0, {len(places) - 1}).unbind(0)")
            self.scope.slices[name] = Slices(rows, places, sizes, whole)
        return made

    def round_memory(self, buffer: Buffer, count: str, step: ChunkLoop) -> None:
        """Memory for one round, used again in each."""
        sizes = [self.scope.dim(d).text for d in buffer.dims]
        if buffer.chunked is not None:
            sizes[buffer.chunked] = f"min({count}, {self.scope.dim(step.extent)})"
        rows = self.names.fresh(f"{self.variable(buffer)}_rows")
        shape = tuple_text(sizes)
        dtype, device = self.dtype(buffer), self.scope.need("device")
        self.out.line(f"{rows} = torch.empty({shape}, dtype={dtype}, device={device})")
        self.rows[buffer.name] = rows

    # --------------------------------------------------------------------------------------------------- calls

    def operand(self, name: str, axes: tuple[str, ...]) -> str:
        """The tensor of a call's operand, cut to the round of the loops around it."""
        buffer = self.plan.buffer(name)
        kind = "acc" if buffer.type.startswith("like ") else buffer.type
        made = self.scope.slices.get(name)
        if made is not None and not made.sizes:
            return self.slice_at(made, axes)
        text = self.scope.source(buffer, kind)
        items = []
        for k, axis in enumerate(axes):
            if axis in self.scope.loops:
                items.append(self.scope.loops[axis])
            elif axis in self.scope.rounds and not (buffer.role == "chunk" and buffer.chunked == k):
                start, stop = self.scope.rounds[axis]
                items.append(f"{start}:{stop}")
            else:
                items.append(":")
        while items and items[-1] == ":":
            items.pop()
        return f"{text}[{', '.join(items)}]" if items else text

    def slice_at(self, slices: Slices, axes: tuple[str, ...]) -> str:
        """The slice of a formula that a call in a recurrence reads or makes."""
        return f"{slices.variable}[{', '.join(self.scope.loops[axes[k]] for k in slices.positions)}]"

    def call(self, call: Call) -> None:
        if call.operation != "contract":
            self.library(call)
            return
        out = self.plan.buffer(call.out)
        operands = [(self.operand(n, axes), axes) for n, axes in call.operands]
        product, matrix = _product(operands, call.out_axes)
        target = self.variable(out)
        cut = self.operand(call.out, call.out_axes) if call.out in self.made else ""
        if not self.fused:
            if call.accumulate:
                self.out.line(f"{target} = {target} + {product}")
            else:
                self.out.line(f"{target} = {product}")
            self.made.add(call.out)
            return
        if call.accumulate:
            if matrix:
                self.out.line(f"{cut}.addmm_({matrix[0]}, {matrix[1]})")
            else:
                self.out.line(f"{cut}.add_({product})")
        elif call.out in self.rows:
            rows = self.rows[call.out]
            where = self.round_slice(out)
            if matrix:
                self.out.line(f"{target} = torch.mm({matrix[0]}, {matrix[1]}, out={rows}{where})")
            else:
                self.out.line(f"{target} = {rows}{where}.copy_({product})")
        elif cut:
            self.out.line(f"{cut}.copy_({product})")
        else:
            self.out.line(f"{target} = {product}{self.rounded(out)}")
        self.made.add(call.out)

    def rounded(self, buffer: Buffer) -> str:
        return self.like(buffer)

    def round_slice(self, buffer: Buffer) -> str:
        start, stop = next(reversed(self.scope.rounds.values()))
        return f"[{':, ' * (buffer.chunked or 0)}: {stop} - {start}]"

    def library(self, call: Call) -> None:
        given = [self.operand(name, axes) for name, axes in call.operands]
        out = self.plan.buffer(call.out)
        match call.operation:
            case "argsort":
                self.scope.helpers.add("_order")
                over = len(call.operands[0][1]) - len(call.out_axes) + 1
                text = f"_order({given[0]}, {given[1] if len(given) > 1 else 'None'}, {over})"
                source = list(self.plan.buffer(call.operands[0][0]).dims[-over:])
                if reduce(lambda a, b: a * b, source) != out.dims[-1]:
                    text += f"[..., :{self.scope.dim(out.dims[-1])}]"
            case "cumsum" | "cumprod" | "logcumsumexp":
                assert call.along is not None
                text = self.cumulative(call, given[0], call.operands[0][1].index(call.along[0]), call.along[1])
            case "inverse":
                function = "_inverse" if self.fused else "_differentiable_inverse"
                self.scope.helpers.add(function)
                text = f"{function}({given[0]})"
            case _ if self.fused:
                text = f"torch.linalg.slogdet({given[0]})[1]"
            case _:
                self.scope.helpers.add("_differentiable_logdet")
                text = f"_differentiable_logdet({given[0]})"
        if any(axis in self.scope.loops for axis in call.out_axes):
            target = self.operand(call.out, call.out_axes)
            self.out.line(f"{target}.copy_({text})" if self.fused else f"{target} = {text}")
            return
        self.out.line(f"{self.variable(out)} = {text}{self.like(out)}")
        self.made.add(call.out)

    def cumulative(self, call: Call, given: str, at: int, direction: int) -> str:
        function = f"torch.{call.operation}"
        if call.operation == "logcumsumexp" and not self.fused:
            function = "_logcumsumexp"  # torch's own has nan for a derivative after entries of -inf
            self.scope.helpers.add(function)
        if direction > 0:
            return f"{function}({given}, {at})"
        return f"{function}({given}.flip({at}), {at}).flip({at})"

    # ------------------------------------------------------------------------------------------------- kernels

    def kernel(self, kernel: Kernel, later: Sequence[Step]) -> None:
        read_later = set(reads(later))
        self.scope.local = {
            b.name: b.role in ("chunk", "temporary")
            and b.name not in read_later
            and b.type == "acc"
            and (b.role == "chunk" or not self.scope.rounds)
            and not self.scope.loops
            for b in self.plan.buffers
        }
        body = Body(self.scope, kernel)
        items = body.lower()
        printer = print_fused if self.fused else print_formula
        printer(body, items, self.out.line, lambda w: self.store(body, w))

    def store(self, body: Body, w: Write) -> None:
        s = w.statement
        buffer = self.plan.buffer(s.buffer)
        if isinstance(s, Scatter):
            self.scatter(body, w, s, buffer)
            return
        if any(p is not None for p in w.positions):
            self.put(body, w, buffer, accumulate=s.accumulate)
            return
        if s.accumulate and self.scope.loops:
            self.add_slice(body, w, s, buffer)
            return
        if any(a in self.scope.loops for p in s.subscripts for a, _ in p.axes):
            self.store_slice(body, w, s, buffer)
            return
        axes = [p.axes[0][0] if p.axes else "" for p in s.subscripts]
        whole = all(
            axis and not p.offset.terms and self.covers(body, axis, buffer, k)
            for k, (axis, p) in enumerate(zip(axes, s.subscripts))
        )
        value = self.shaped(body, w.value, axes, buffer, whole)
        if whole and buffer.name not in self.made and not s.accumulate:
            bare = isinstance(w.value, Reg) and w.value.name == value
            if bare and buffer.name not in self.scope.variables and not self.like(buffer):
                self.scope.variables[buffer.name] = value
                self.made.add(buffer.name)
                return
            self.out.line(f"{self.variable(buffer)} = {value}{self.like(buffer)}")
            self.made.add(buffer.name)
            return
        target = self.variable(buffer)
        if s.accumulate and whole and (not buffer.dims or not self.fused):
            self.out.line(f"{target} = {target} + {value}{self.like(buffer)}")
            return
        if whole and not self.fused:
            self.out.line(f"{target} = {value}{self.like(buffer)}")
            return
        if not self.fused:
            self.put(body, w, buffer, accumulate=s.accumulate)
            return
        if not buffer.dims:
            self.out.line(f"{target} = {value}")
            return
        self.empty(buffer)
        cut = self.cut(body, buffer, axes, s)
        self.out.line(f"{target}{cut}.{'add_' if s.accumulate else 'copy_'}({value})")

    def store_slice(self, body: Body, w: Write, s: Store, buffer: Buffer) -> None:
        """What a round of a recurrence makes of a buffer."""
        own = [body.lanes(p) for p in s.subscripts]
        axes = [o[0][0] for o in own if o]
        value = self.shaped(body, w.value, axes, buffer, not self.fused)
        slices = self.scope.slices.get(buffer.name)
        if slices is not None and not slices.sizes:
            self.out.line(f"{body.slice_of(slices, s.subscripts)} = {value}")
            return
        if slices is not None and isinstance(w.value, Reg) and not s.accumulate:
            self.out.line(f"{body.slice_of(slices, s.subscripts)}.copy_({value})")
            return
        items = [":" if o else body.start(p).text for o, p in zip(own, s.subscripts)]
        while items and items[-1] == ":":
            items.pop()
        self.out.line(f"{self.variable(buffer)}[{', '.join(items)}] {'+=' if s.accumulate else '='} {value}")

    def add_slice(self, body: Body, w: Write, s: Store, buffer: Buffer) -> None:
        """Add what a round of a loop makes to where it belongs."""
        own = [body.lanes(p) for p in s.subscripts]
        axes = [o[0][0] for o in own if o]
        items = [
            body.cut(p, o[0][0], 1, dim) if o else body.start(p).text
            for o, p, dim in zip(own, s.subscripts, buffer.dims)
        ]
        target = self.variable(buffer)
        cut = f"[{', '.join(items)}]" if any(i != ":" for i in items) else ""
        if isinstance(w.value, Reg) and w.value.product is not None:
            left, right = w.value.product
            self.out.line(f"{target}{cut}.addcmul_({term_text(left)}, {term_text(right)})")
            return
        value = self.shaped(body, w.value, axes, buffer, False)
        if self.fused:
            self.out.line(f"{target}{cut}.add_({value})" if buffer.dims else f"{target} = {target} + {value}")
            return
        if cut:
            value = self.shaped(body, w.value, axes, buffer, True)
            self.scope.helpers.add("_span")
        for k, p in enumerate(s.subscripts):
            if items[k] != ":":
                begin = body.start(p)
                value = f"_span({value}, {k}, -{begin.at(UNARY)}, {self.scope.dim(buffer.dims[k])}, 0.0)"
        self.out.line(f"{target} = {target} + {value}")

    def covers(self, body: Body, axis: str, buffer: Buffer, k: int) -> bool:
        if axis in self.scope.rounds:
            return buffer.role == "chunk" and buffer.chunked == k
        return body.dims[axis] == buffer.dims[k]

    def like(self, buffer: Buffer) -> str:
        return f".to({self.dtype(buffer)})" if buffer.type.startswith("like ") and buffer.name not in self.wide else ""

    def cut(self, body: Body, buffer: Buffer, axes: list[str], s: Store) -> str:
        items = []
        for k, (axis, p) in enumerate(zip(axes, s.subscripts)):
            if not axis:
                items.append(offset_text(p.offset, self.scope.extents).text)
            elif buffer.role == "chunk" and buffer.chunked == k:
                items.append(":")
            else:
                items.append(body.slice(axis, p.offset, buffer.dims[k]))
        while items and items[-1] == ":":
            items.pop()
        return f"[{', '.join(items)}]" if items else ""

    def shaped(self, body: Body, value: Term, axes: list[str], buffer: Buffer, whole: bool) -> str:
        """The value with one dimension for each axis of the access, in that order."""
        named = [a for a in axes if a]
        if isinstance(value, Number):
            if not whole or not named:
                if named:
                    return value.text.text
                dtype = self.scope.dtype(value.type if buffer.type.startswith("like ") else buffer.type)
                device = self.scope.need("device")
                if value.param:
                    return f"torch.as_tensor({value}, dtype={dtype}, device={device})"
                return f"torch.full((), {value}, dtype={dtype}, device={device})"
            kind = self.scope.dtype("acc" if buffer.type.startswith("like ") else buffer.type)
            if value.param:
                value = body.tensor(value)
                return f"{value}.expand({self.sizes(body, named)}).clone()"
            return (
                f"torch.full(({self.sizes(body, named)},), {value}, dtype={kind}, device={self.scope.need('device')})"
            )
        text = term_text(value)
        if not value.axes:
            if not named or not whole:
                fresh = value.owned and value not in self.given
                self.given.add(value)
                return text.text if fresh or not self.fused or named else f"{text.at(ATOM)}.clone()"
            return f"{text.at(ATOM)}.expand({self.sizes(body, named)}){'.clone()' if self.fused else ''}"
        order = body.order
        here = text.at(ATOM)
        drop = [k for k, a in enumerate(order) if a not in named]
        if drop:
            here = f"{here}[{', '.join('0' if k in drop else ':' for k in range(len(order)))}]"
        left = [a for a in order if a in named]
        if left != named:
            here = f"{here}.permute({', '.join(str(left.index(a)) for a in named)})"
            if self.fused and whole:
                here += ".contiguous()"
        if whole and not set(named) <= value.axes:
            here = f"{here}.expand({self.sizes(body, named)})"
            return here + (".clone()" if self.fused else "")
        if self.fused and whole and (not value.owned or value in self.given):
            here = f"{here}.clone()"
        self.given.add(value)
        return here if buffer.type.startswith("like ") or here != text.at(ATOM) else text.text

    def sizes(self, body: Body, axes: Iterable[str]) -> str:
        return ", ".join(self.scope.extent(a, body.dims[a]).text for a in axes)

    def positions(self, body: Body, w: Write, buffer: Buffer) -> tuple[list[Term], list[Term]]:
        """(index terms, conditions of range) of a general access; the instructions are printed here."""
        # Earlier results may be overwritten by now: nothing but what the write itself keeps is used again.
        body.items = []
        body.made.clear()
        body.chosen.clear()
        body.index = {axis: reg for axis, reg in body.index.items() if reg.name and reg in w.positions}
        places: list[Term] = []
        valid: list[Term] = []
        for k, (p, known) in enumerate(zip(w.statement.subscripts, w.positions)):
            place = known if known is not None else body.position(p)
            size = self.scope.dim(buffer.dims[k])
            if isinstance(w.statement, Scatter) and known is not None:
                low = body.emit("ge", (place, Number(Text("0"), "int")), "bool")
                high = body.emit("lt", (place, Number(size, "int")), "bool")
                valid.append(body.emit("and", (low, high), "bool"))
                place = body.clamped(place, size)
            if buffer.role == "chunk" and buffer.chunked == k and p.axes and p.axes[0][0] in self.scope.rounds:
                start = self.scope.rounds[p.axes[0][0]][0]
                place = body.emit("sub", (place, Number(Text(start), "int")), "int")
            places.append(place)
        return places, valid

    def flush(self, body: Body) -> None:
        for item in body.items:
            assert not isinstance(item, Write)
            item.dest.name = item.dest.name or self.names.fresh(item.dest.wanted)
            self.out.line(f"{item.dest.name} = {expression(item)}")
        body.items = []

    def put(self, body: Body, w: Write, buffer: Buffer, accumulate: bool) -> None:
        """A store at general positions."""
        places, _ = self.positions(body, w, buffer)
        self.flush(body)
        self.empty_or_zero(buffer)
        target = self.variable(buffer)
        index = tuple_text(map(str, places))
        value = term_text(body.tensor(w.value)).text
        more = ", accumulate=True" if accumulate else ""
        self.indexed(target, index, f"{value}.to({target}.dtype)" if self.like(buffer) else value, more)

    def indexed(self, target: str, index: str, value: str, more: str, when: Sequence[str] = ()) -> None:
        """A store at positions, if the conditions `when` of Python hold."""
        condition = " and ".join(when)
        if self.fused:
            if condition:
                self.out.line(f"if {condition}:")
            self.out.line(f"{'    ' if condition else ''}{target}.index_put_({index}, {value}{more})")
        else:
            other = f" if {condition} else {target}" if condition else ""
            self.out.line(f"{target} = torch.index_put({target}, {index}, {value}{more}){other}")

    def empty_or_zero(self, buffer: Buffer) -> None:
        if buffer.name in self.made:
            return
        if self.fused:
            self.empty(buffer)
        else:
            self.fill(buffer, "0.0" if buffer.type != "int" else "0")

    def scatter(self, body: Body, w: Write, s: Scatter, buffer: Buffer) -> None:
        places, valid = self.positions(body, w, buffer)
        keep: Term | None = w.guard
        for v in valid:
            keep = v if keep is None else body.emit("and", (keep, v), "bool")
        identity = {"sum": "0.0", "max": "-torch.inf", "min": "torch.inf"}[s.combine]
        value = w.value
        if keep is not None:
            value = body.select(
                keep, value, Number(Text(identity, UNARY if identity[0] == "-" else ATOM), "acc"), "acc"
            )
        axes = frozenset().union(*(t.axes for t in (*places, value) if isinstance(t, Reg)))
        if s.combine != "sum":
            places = [body.spread(p, axes) for p in places]
            value = body.spread(value, axes)
        elif isinstance(value, Reg):
            # What goes to one place is added up first: the values may have no more axes than the places.
            here = frozenset().union(*(p.axes for p in places if isinstance(p, Reg)))
            value = body.spread(body.summed(value, value.axes - here), here)
        self.flush(body)
        target = self.variable(buffer)
        if buffer.name not in self.made:
            self.fill(buffer, identity)
        index = tuple_text(map(str, places))
        text = term_text(body.tensor(value)).text
        # Where a dimension has no entries no index can be clamped into it, and there is nothing to add to.
        data = [k for k, p in enumerate(w.statement.subscripts) if p.data is not None]
        sizes = [self.scope.dim(d).at(SUM) for d in dict.fromkeys(buffer.dims[k] for k in data) if d.constant is None]
        if s.combine == "sum":
            self.indexed(target, index, text, ", accumulate=True", [f"{size} > 0" for size in sizes])
            return
        self.scope.helpers.add("_fold_into")
        verb = {"max": "amax", "min": "amin"}[s.combine]
        self.out.line(f'{target} = _fold_into({target}, {index}, {text}, "{verb}")')


def _product(operands: list[tuple[str, tuple[str, ...]]], out: tuple[str, ...]) -> tuple[str, tuple[str, str] | None]:
    """(text, the two matrices if it is one matrix product) of a contraction."""
    if len(operands) == 2 and len(out) == 2:
        (a, axes_a), (b, axes_b) = operands
        if out[0] in axes_b and out[1] in axes_a:
            (a, axes_a), (b, axes_b) = (b, axes_b), (a, axes_a)
        bound = [x for x in axes_a if x not in out]
        if (
            len(axes_a) == len(axes_b) == 2
            and len(bound) == 1
            and set(axes_a) == {out[0], bound[0]}
            and set(axes_b) == {out[1], bound[0]}
        ):
            left = a if axes_a[0] == out[0] else f"{a}.t()"
            right = b if axes_b[0] == bound[0] else f"{b}.t()"
            return f"torch.mm({left}, {right})", (left, right)
    letters: dict[str, str] = {}
    for _, axes in (*operands, ("", out)):
        for axis in axes:
            letters.setdefault(axis, chr(ord("a") + len(letters)))
    sides = ",".join("".join(letters[x] for x in axes) for _, axes in operands)
    form = f"{sides}->{''.join(letters[x] for x in out)}"
    return f'torch.einsum("{form}", {", ".join(t for t, _ in operands)})', None


def written(steps: Sequence[Step]) -> list[str]:
    names: dict[str, None] = {}
    for step in steps:
        match step:
            case Kernel(statements=statements):
                names.update((s.buffer, None) for s in statements if isinstance(s, Store | Scatter))
            case Call(out=out):
                names[out] = None
            case Fill(buffer=buffer):
                names[buffer] = None
            case ChunkLoop(steps=inner) | Recurrence(steps=inner) | Within(steps=inner) | Rolling(steps=inner):
                names.update((n, None) for n in written(inner))
    return list(names)


def _sliced(steps: Sequence[Step], loops: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Buffers that recurrences write slice by slice -> the positions that are indices of the loops."""
    found: dict[str, tuple[int, ...]] = {}
    for step in steps:
        match step:
            case Recurrence(axis=axis, steps=inner):
                found |= _sliced(inner, (*loops, axis))
            case Within(steps=inner):
                found |= _sliced(inner, loops)
            case Kernel(statements=statements):
                for s in statements:
                    if isinstance(s, Store) and not s.accumulate:
                        at = tuple(k for k, p in enumerate(s.subscripts) if any(a in loops for a, _ in p.axes))
                        if at:
                            found[s.buffer] = at
            case Call(out=out, out_axes=axes) if any(a in loops for a in axes):
                found[out] = tuple(k for k, a in enumerate(axes) if a in loops)
    return found


def _read_by_slices(steps: Sequence[Step]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Buffers that rounds read -> the positions that are numbers of the round in all reads, and the type there."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    other: set[str] = set()

    def walk(steps: Sequence[Step], loops: tuple[str, ...]) -> None:
        for step in steps:
            match step:
                case Recurrence(axis=axis, steps=inner):
                    walk(inner, (*loops, axis))
                case Within(steps=inner):
                    walk(inner, loops)
                case Kernel(statements=statements):
                    for s in statements:
                        if isinstance(s, Load):
                            at = tuple(k for k, p in enumerate(s.subscripts) if any(a in loops for a, _ in p.axes))
                            plain = all(
                                a in loops and s.subscripts[k].data is None for k in at for a, _ in s.subscripts[k].axes
                            )
                            if not at or not plain or found.setdefault(s.buffer, (at, s.type)) != (at, s.type):
                                other.add(s.buffer)

    walk(steps, ())
    return {name: access for name, access in found.items() if name not in other}


def _accumulated(steps: Sequence[Step]) -> set[str]:
    """Buffers that are filled first, or added to."""
    names: set[str] = set()
    for step in steps:
        match step:
            case Kernel(statements=statements):
                names |= {s.buffer for s in statements if isinstance(s, Scatter)}
                names |= {s.buffer for s in statements if isinstance(s, Store) and s.accumulate}
            case Call(out=out, accumulate=True):
                names.add(out)
            case Fill(buffer=buffer):
                names.add(buffer)
            case ChunkLoop(steps=inner) | Rolling(steps=inner):
                names |= _accumulated(inner)
            case Recurrence(steps=inner) | Within(steps=inner):
                names |= {*_accumulated(inner), *written(inner)}  # later rounds read what earlier ones made
    return names


def reads(steps: Sequence[Step]) -> list[str]:
    names: dict[str, None] = {}
    for step in steps:
        match step:
            case Kernel(statements=statements):
                names.update((s.buffer, None) for s in statements if isinstance(s, Load))
            case Call(operands=operands):
                names.update((n, None) for n, _ in operands)
            case ChunkLoop(steps=inner) | Recurrence(steps=inner) | Within(steps=inner) | Rolling(steps=inner):
                names.update((n, None) for n in reads(inner))
    return list(names)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text))


def _rebinds(line: str) -> int:
    target, _, value = line.partition(" = ")
    return int(value.startswith(f"{target}.to("))
