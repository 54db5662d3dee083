"""`schedule(program, key, choices) -> Plan`: definitions become kernels, calls and chunk loops, by one algorithm.

The order of decisions: products and selections are set apart (`products`), definitions become results and what is
computed where it is read (`body`, `cluster`), results that share what they read become one kernel (`cluster`), what
would grow faster than every input and output is made in chunks of rows (`chunks`), and each kernel gets its axes, lane,
order and names (`arrange`). Each decision leaves a line in `Plan.why`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir.check import signed_symbols
from lossdsl.ir.nodes import BOOL, INT, REAL, Definition, Group, Input, Program
from lossdsl.ir.rewrite import Fresh, Item, members, topological
from lossdsl.lower.arrange import identifier, kernel, rename_axes
from lossdsl.lower.body import Context
from lossdsl.lower.chunks import Chunks, Loop, SplitTotal, split_total, stages
from lossdsl.lower.cluster import Node, clusters
from lossdsl.lower.extent import index, sizes, symbols
from lossdsl.lower.opaque import Library, Opaque, call, libraries, recurrence, rounds, scan, sums, window, with_operands
from lossdsl.lower.plan import (
    Allocate,
    Buffer,
    Call,
    Choices,
    ChunkLoop,
    Fill,
    Free,
    Kernel,
    Key,
    Literal,
    Load,
    Plan,
    Recurrence,
    Rolling,
    Scatter,
    Step,
    Store,
    Within,
)
from lossdsl.lower.prepare import LoweringError, Wanted, prepare
from lossdsl.lower.products import Contraction, Selection, contractions, selection
from lossdsl.lower.recurrence import arranged
from lossdsl.lower.windows import Window, windows

__all__ = ["LoweringError", "schedule"]

_START: dict[str, Fraction | str] = {"sum": Fraction(0), "max": "-inf", "min": "inf"}
_TYPES = {REAL: "acc", INT: "int", BOOL: "bool"}
_KEPT = {
    Group: "later rounds read it",
    Library: "the result of a library routine",
    Window: "a loop over its offsets adds it up",
}
_DEPTH = 20_000  # a definition may nest as deep as the language's limits allow; the walks over it recurse


def schedule(program: Program, key: Key, choices: Choices | None = None) -> Plan:
    """The plan of one entry of a loss.

    `program` is the value program, or for "value_and_gradient" and "backward" the program of `differentiate` with its
    outputs "d NAME" and its cotangent input. Raises LoweringError for a
    construct that cannot be scheduled yet, ValueError for a key that does not fit the program.
    """
    prepared, wanted = prepare(program, key)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEPTH))
    try:
        return _Scheduler(prepared, wanted, key, choices or Choices()).plan()
    finally:
        sys.setrecursionlimit(limit)


class _Scheduler:
    def __init__(self, program: Program, wanted: tuple[Wanted, ...], key: Key, choices: Choices) -> None:
        self.wanted, self.key, self.choices = wanted, key, choices
        self.inputs: dict[str, Input] = {i.name: i for i in program.inputs}
        self.fresh = Fresh.of(program)
        self.program, self.cumulative, self.why = arranged(program, self.fresh, [w.tensor for w in wanted])
        self.opaque: dict[str, Opaque] = {}
        self.called: dict[str, Library] = {}  # members of recurrences that a library makes
        self.forced: dict[str, str] = {}
        self.names: dict[str, str] = {}

    def plan(self) -> Plan:
        groups: list[Group] = []
        for item in self.program.body:
            if isinstance(item, Group):
                group, called = with_operands(item, self.fresh)
                groups.append(group)
                self.called |= called
        definitions = [d for d in self.program.body if isinstance(d, Definition)]
        definitions, found, why = libraries(definitions, self.fresh)
        self.why += why
        dims = {i.name: i.dims for i in self.program.inputs} | {d.tensor: d.dims for d in self.program.definitions()}
        dims |= {d.tensor: d.dims for d in definitions}
        definitions, shifted, why = windows(definitions, dims, self.fresh)
        self.why += why
        found += [*(scan(c) for c in self.cumulative), *(recurrence(g) for g in groups), *(window(w) for w in shifted)]
        for made_apart in found:
            self.opaque.update((t, made_apart) for t in made_apart.results)
        chosen = {d.tensor: s for d in definitions if (s := selection(d)) is not None}
        for s in chosen.values():
            self.why.append(
                f"{s.definition.tensor} is a scatter: its sum selects by data, so each entry is combined at its "
                f"position instead of being compared with all of them"
            )
        if self.key.entry == "backward":
            self.why.append(
                "nothing but the inputs is saved for it: they are read again anyway, and each value that it needs is "
                "made from them in the same passes"
            )
        rest = [d for d in definitions if d.tensor not in chosen]
        split, products, why = contractions(rest, dims, signed_symbols(self.program), self.fresh)
        self.why += why
        made = {d.tensor: d for d in split}
        every = {**{d.tensor: d for d in definitions if d.tensor in chosen}, **made}
        every |= {d.tensor: d for g in groups for d in g.definitions}
        in_stages: set[str] = set()
        while True:
            context = self._context(every, chosen, products)
            calls = dict(products)
            nodes = clusters(context, [w.tensor for w in self.wanted], calls)
            try:
                chunks = Chunks(context, nodes, calls, self.fresh, self.choices)
                break
            except SplitTotal as need:
                if need.tensor in in_stages:
                    raise LoweringError(f"{need.tensor}: a total in two stages is still in a loop over rows") from need
                in_stages.add(need.tensor)
                name = self.fresh(need.tensor + ".rows")
                rows, total = split_total(every[need.tensor], need.index, name)
                self.forced[name] = f"one value for each row: the total of {need.tensor} is not a sum"
                every = {**every, name: rows, need.tensor: total}
        return self._emit(context, chunks)

    def _context(
        self, every: dict[str, Definition], chosen: dict[str, Selection], products: dict[str, Contraction]
    ) -> Context:
        groups = [o.made for o in self.opaque.values() if isinstance(o.made, Group)]
        definitions = _dependency_order(every, groups)
        stored: dict[str, str] = {w.tensor: "returned" for w in self.wanted}
        for c in products.values():
            stored.setdefault(c.definition.tensor, "the result of a library product")
            for t, _ in c.operands:
                if t not in self.inputs:
                    stored.setdefault(t, "an operand of a library product")
        for t in chosen:
            stored.setdefault(t, "combined by position")
        for t, apart in self.opaque.items():
            stored.setdefault(t, _KEPT[type(apart.made)])
            for r in apart.reads:
                if r not in self.inputs:
                    stored.setdefault(r, apart.reason)
        for t, reason in self.forced.items():
            stored.setdefault(t, reason)
        given = [symbols(i.dims) for i in self.program.inputs]
        given += [symbols(definitions[w.tensor].dims) for w in self.wanted]
        given += [symbols(definitions[t].dims) for t in self.opaque]
        complete = frozenset(self.forced)
        return Context(
            definitions, self.inputs, sizes(self.program), stored, chosen, tuple(given), complete, self.opaque
        )

    # ---------------------------------------------------------------------------------------------------- emission

    def _emit(self, context: Context, chunks: Chunks) -> Plan:
        order = stages(chunks.nodes, chunks.loops)
        self._name_buffers(context, chunks)
        chunked = {t: at for loop in chunks.loops for t, at in loop.chunked.items()}
        for loop in chunks.loops:
            _align_axes(loop)
        for t, reason in context.stored.items():
            if any(t in n.results for n in chunks.nodes) and reason != "returned":
                self.why.append(f"{t} has a buffer: {reason}")
        for t in sorted(context.recomputed):
            self.why.append(f"{t} is made again where it is read: that costs less than a buffer of it")
        self.why += chunks.why
        made: list[tuple[list[str], list[str], list[Step]]] = []
        for stage in order:
            members = stage.members if isinstance(stage, Loop) else [stage]
            fills: list[Step] = []
            inner: list[Step] = []
            around = stage if isinstance(stage, Loop) else None
            for n in members:
                fills += self._fills(context, n, around)
                inner.append(self._step(context, n, around))
            steps: list[Step] = inner
            if isinstance(stage, Loop):
                axis = stage.axes[members[0].results]
                steps = [ChunkLoop(axis, stage.extent, stage.size, tuple(inner))]
                what = ", ".join(self.names[m.results[0]] for m in members)
                self.why.append(f"chunks of {stage.size} along {axis} around {what}: {stage.reason}")
            results = [t for n in members for t in n.results]
            made.append((results, [t for n in members for t in n.reads()], [*fills, *steps]))
        steps = self._with_lifetimes(made, chunked)
        buffers = self._buffers(context, chunks, chunked)
        parameters = tuple((p.name, _TYPES[p.dtype]) for p in self.program.parameters)
        returns = tuple((w.role, self.names[w.tensor]) for w in self.wanted)
        return Plan(self.key, buffers, parameters, tuple(steps), returns, tuple(dict.fromkeys(self.why)))

    def _name_buffers(self, context: Context, chunks: Chunks) -> None:
        taken = {*self.inputs, *(p.name for p in self.program.parameters)}
        names = {i: i for i in self.inputs}
        roles = {w.tensor: w.role for w in reversed(self.wanted)}
        tensors = [*roles, *(t for n in chunks.nodes for t in n.results if t not in roles)]
        for t in tensors:
            role = roles.get(t)
            base = identifier(t) if role is None else "loss" if role == "return" else identifier(role)
            word, k = base, 1
            while word in taken:
                k += 1
                word = f"{base}_{k}"
            taken.add(word)
            names[t] = word
        self.names = names

    def _fills(self, context: Context, node: Node, loop: Loop | None) -> list[Step]:
        found: list[Step] = []
        for t in node.results:
            if t in context.selections:
                found.append(Fill(self.names[t], Literal(_START[context.selections[t].combine])))
            elif self._accumulates(context, node, t, loop) or (
                node.opaque is not None and isinstance(node.opaque.made, Window)
            ):
                kind = _TYPES[context.definitions[t].dtype]
                found.append(Fill(self.names[t], Literal(Fraction(0), kind)))
        return found

    def _accumulates(self, context: Context, node: Node, tensor: str, loop: Loop | None) -> bool:
        if loop is None or node.opaque is not None or tensor in context.selections:
            return False
        axis = loop.axes[node.results]
        if node.call is not None:
            return all(i.name != axis for i in node.call.definition.formals)
        assert node.body is not None
        return axis not in node.body.formal_axes[tensor]

    def _step(self, context: Context, node: Node, loop: Loop | None) -> Step:
        if node.call is not None:
            d = node.call.definition
            operands = tuple((self.names[t], tuple(i.name for i in axes)) for t, axes in node.call.operands)
            adding = self._accumulates(context, node, d.tensor, loop)
            return Call("contract", self.names[d.tensor], tuple(i.name for i in d.formals), operands, adding)
        if node.opaque is not None:
            if isinstance(node.opaque.made, Library):
                return call(node.opaque.made, self.names)
            dims = self._dims(context)
            if isinstance(node.opaque.made, Window):
                step, why = sums(node.opaque.made, context, dims, self.names)
            else:
                step, why = rounds(node.opaque.made, context, dims, self.names, self.called)
            self.why += why
            return step
        assert node.body is not None
        adding_to = [t for t in node.results if self._accumulates(context, node, t, loop)]
        name = f"{self.names[node.results[0]]}_kernel"
        made, why = kernel(node.body, name, self._dims(context), self.names, context.definitions, adding_to)
        if len(node.results) > 1:
            shared = ", ".join(self.names[t] for t in node.reads()) or "nothing but their launch"
            results = ", ".join(self.names[t] for t in node.results)
            self.why.append(f"{name} makes {results} in one pass: they share {shared}")
        self.why += why
        totals = [t for t in node.results if context.is_total(t) and node.body.spaces[t]]
        if totals:
            names = ", ".join(self.names[t] for t in totals)
            self.why.append(
                f"{name}: {names} in two stages, partial results of each program and then one fold of those"
            )
        return made

    def _dims(self, context: Context) -> dict[str, tuple[Dim, ...]]:
        return {t: context.dims(t) for t in (*context.definitions, *context.inputs)}

    def _with_lifetimes(
        self, made: list[tuple[list[str], list[str], list[Step]]], chunked: dict[str, int]
    ) -> list[Step]:
        last: dict[str, int] = {}
        returned = {w.tensor for w in self.wanted}
        for k, (results, reads, _) in enumerate(made):
            for t in (*results, *reads):
                last[t] = k
        out: list[Step] = []
        for k, (results, _, steps) in enumerate(made):
            out += [Allocate(self.names[t]) for t in results if t not in chunked]
            out += steps
            out += [
                Free(self.names[t])
                for t in last
                if last[t] == k and t not in chunked and t not in returned and t not in self.inputs
            ]
        return out

    def _buffers(self, context: Context, chunks: Chunks, chunked: dict[str, int]) -> tuple[Buffer, ...]:
        found: list[Buffer] = []
        for i in self.program.inputs:
            role = "cotangent" if i.role == "cotangent" else "direction" if i.role == "tangent" else "input"
            kind = f"like {i.name}" if i.dtype is REAL and role == "input" else _TYPES[i.dtype]
            found.append(Buffer(i.name, i.dims, kind, role))
        for w in {w.tensor: w for w in reversed(self.wanted)}.values():
            d = context.definitions[w.tensor]
            kind = f"like {w.like}" if w.like else _TYPES[d.dtype]
            found.append(Buffer(self.names[w.tensor], d.dims, kind, "output"))
        returned = {w.tensor for w in self.wanted}
        for n in chunks.nodes:
            for t in n.results:
                if t not in returned:
                    d = context.definitions[t]
                    role = "chunk" if t in chunked else "temporary"
                    reason = context.stored.get(t, "")
                    found.append(Buffer(self.names[t], d.dims, _TYPES[d.dtype], role, reason, chunked.get(t)))
        return tuple(found)


def _dependency_order(every: dict[str, Definition], groups: Iterable[Group]) -> dict[str, Definition]:
    inside = {d.tensor for g in groups for d in g.definitions}
    items: list[Item] = [*{id(g): g for g in groups}.values(), *(d for t, d in every.items() if t not in inside)]
    return {d.tensor: d for item in topological(items) for d in members(item)}


def _align_axes(loop: Loop) -> None:
    """Give the cut axis one name in all members."""
    name = loop.axes[loop.members[0].results]
    for n in loop.members[1:]:
        mine = loop.axes[n.results]
        if mine == name:
            continue
        swap = {mine: name, name: mine}
        if n.body is not None:
            rename_axes(n.body, swap)
        else:
            assert n.call is not None
            renamed = {i: index(swap.get(i.name, i.name), i.dim) for _, axes in n.call.operands for i in axes}
            d = n.call.definition
            formals = tuple(renamed[i] for i in d.formals)
            operands = tuple((t, tuple(renamed[i] for i in axes)) for t, axes in n.call.operands)
            n.call = Contraction(replace(d, formals=formals), (operands[0], operands[1]))
        loop.axes[n.results] = name


def writes(step: Step) -> set[str]:
    """Buffers that a step writes."""
    match step:
        case Kernel():
            return {s.buffer for s in step.statements if isinstance(s, Store | Scatter)}
        case Call():
            return {step.out}
        case Fill() | Allocate() | Free():
            return {step.buffer}
        case ChunkLoop() | Recurrence() | Within() | Rolling():
            return set().union(*(writes(s) for s in step.steps))


def kernels(plan: Plan) -> list[Kernel]:
    """All kernels of a plan, those in chunk loops included."""
    found: list[Kernel] = []

    def walk(steps: tuple[Step, ...]) -> None:
        for s in steps:
            if isinstance(s, Kernel):
                found.append(s)
            elif isinstance(s, ChunkLoop | Recurrence | Within | Rolling):
                walk(s.steps)

    walk(plan.steps)
    return found


def loads(step: Kernel) -> list[Load]:
    return [s for s in step.statements if isinstance(s, Load)]


def stores(step: Kernel) -> list[Store]:
    return [s for s in step.statements if isinstance(s, Store)]
