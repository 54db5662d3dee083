"""Recurrences: definitions with written axes that read themselves or each other at earlier positions.

Members are found in the text; while they are elaborated a read of one sees an *assumed* tensor, with the written axes
and a type. What elaboration finds out (an integer, a narrowed range) is assumed the next time, until both agree. Then the
order of the axes is proved, and the members become groups of the IR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossdsl.diagnostics import Diagnostic, Span
from lossdsl.ir.build.affine import UNBOUNDED, Bound
from lossdsl.ir.build.define import Place
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.order import Unordered, components, grouped
from lossdsl.ir.build.scope import Failed, FunctionEntity, PendingDefinition, Slot, TensorEntity, base_name
from lossdsl.ir.check import declared_bounds
from lossdsl.ir.nodes import BOOL, INT, REAL, Index, Read, Scalar
from lossdsl.ir.rewrite import members as members_of
from lossdsl.ir.rewrite import substitute
from lossdsl.primitives.record import Dtype
from lossdsl.syntax import tree

ATTEMPTS = 8


def find(e: Elaborator, names: Iterable[str]) -> None:
    """Mark the recurrences among the pending definitions of these names."""
    pending = {n: p for n in names if isinstance(p := e.names.get(n), PendingDefinition)}
    needs = {n: _mentioned(e, p.statement.value, pending) for n, p in pending.items()}
    for component in components(list(pending), needs.__getitem__):
        inside = [n for n in pending if n in component]
        if len(inside) == 1 and inside[0] not in needs[inside[0]]:
            continue
        loose = [n for n in inside if pending[n].statement.axes is None]
        cut = {n: [m for m in needs[n] if m in loose] for n in loose}
        circles = components(loose, cut.__getitem__)
        if len(loose) < len(inside) and all(len(c) == 1 and not set(cut[next(iter(c))]) & c for c in circles):
            group = tuple(pending[n] for n in inside)
            for p in group:
                p.group = group


def _mentioned(e: Elaborator, value: tree.Expr, among: Mapping[str, object]) -> list[str]:
    """Names of definitions that an expression reads, through functions that see the names of the loss."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    stack: list[tuple[tree.Node, frozenset[str]]] = [(value, frozenset())]
    while stack:
        node, hidden = stack.pop()
        for inner in tree.walk(node):
            if isinstance(inner, tree.Name) and inner.id in among and inner.id not in hidden:
                found[inner.id] = None
            if isinstance(inner, tree.Call) and inner.function not in seen:
                function = e.names.get(inner.function)
                if isinstance(function, FunctionEntity):
                    seen.add(inner.function)
                    own = {a.name for a in function.definition.arguments}
                    own |= {i.name for s in function.definition.body for i in _declared(s)}
                    body = function.definition
                    stack += [(n, frozenset(own)) for n in (body.value, *body.body) if n is not None]
    return list(found)


def _declared(statement: tree.Statement) -> tuple[tree.Ident, ...]:
    return statement.names if isinstance(statement, (tree.Definition, tree.AxisDeclaration)) else ()


@dataclass(frozen=True)
class _Snapshot:
    """Everything that elaborating a definition changes, so that it can be done again."""

    state: dict[str, Any]
    pending: tuple[tuple[PendingDefinition, str, TensorEntity | None], ...]

    @staticmethod
    def of(e: Elaborator, place: Place) -> _Snapshot:
        state = {
            "body": list(place.body),
            "known": dict(place.known),
            "counters": dict(place.counters),
            "found": list(e.sink.found),
            "seen": set(e.sink._seen),
            "names": dict(e.names),
            "axes": dict(e.axes),
            "bounds": (dict(e.integer_bounds), dict(e.labels)),
            "values": e.values.copied(),
            "short": set(e._short),
            "calls": (e.call_count, dict(e.instances)),
            "lasting": (dict(e.inputs), list(e.called_updates), set(e.reserved)),
        }
        entries = [p for p in e.names.values() if isinstance(p, PendingDefinition)]
        return _Snapshot(state, tuple((p, p.state, p.entity) for p in entries))

    def restore(self, e: Elaborator, place: Place) -> None:
        s = self.state
        place.body[:] = s["body"]
        place.known, place.counters = dict(s["known"]), dict(s["counters"])
        e.sink.found[:] = s["found"]
        e.sink._seen = set(s["seen"])
        e.names.clear()
        e.names.update(s["names"])
        e.axes.clear()
        e.axes.update(s["axes"])
        e.integer_bounds, e.labels = (dict(x) for x in s["bounds"])
        e.values.restore(s["values"])
        e._short = set(s["short"])
        e.call_count, instances = s["calls"]
        e.instances = dict(instances)
        inputs, updates, reserved = s["lasting"]
        e.inputs.clear()
        e.inputs.update(inputs)
        e.called_updates[:] = updates
        e.reserved = set(reserved)
        e.forget_arguments()
        for p, state, entity in self.pending:
            p.state, p.entity, p.assumed = state, entity, None


class Recurrence:
    """One set of definitions that read each other, while it is elaborated."""

    def __init__(
        self,
        e: Elaborator,
        place: Place,
        group: Sequence[PendingDefinition],
        elaborate: Callable[[PendingDefinition], TensorEntity],
        written: Callable[[tree.Definition], list[Index] | None],
    ) -> None:
        self.e, self.place, self.group = e, place, group
        self.elaborate = elaborate
        self.members = [p for p in group if p.statement.axes is not None]
        self.formals: dict[str, list[Index]] = {}
        for p in self.members:
            formals = written(p.statement)
            assert formals is not None
            self.formals[_name(p)] = formals

    def run(self) -> None:
        """Elaborate all members; raises Failed after recording diagnostics."""
        before = _Snapshot.of(self.e, self.place)
        start = len(self.place.body)
        dtypes = {_name(p): INT for p in self.members}
        ranges = {n: tuple(Slot.whole(base_name(i), i.dim) for i in f) for n, f in self.formals.items()}
        kinds = [BOOL, REAL]  # tried in this order where integers do not fit
        at_first: list[Diagnostic] = []  # what is wrong with them as integers
        bounds: dict[str, Bound] = {}  # of integers, so that earlier rounds may be indices
        for _ in range(ATTEMPTS):
            found: dict[str, TensorEntity] = {}
            last = all(k is REAL for k in dtypes.values())
            self.e.integer_bounds.update(bounds)
            try:
                self._attempt(dtypes, ranges, found, through=not last)
            except Failed as problem:
                said = self.e.sink.found[len(before.state["found"]) :]
                if last and at_first and any(d.code == "E0408" for d in said):
                    before.restore(self.e, self.place)  # as integers they failed by something else
                    self.e.sink.found += at_first
                    raise Failed(at_first[0].message) from problem
                if last:
                    raise
                at_first = at_first or said
                bounds = self._bounds(found)
                before.restore(self.e, self.place)
                kind = kinds.pop(0) if kinds else REAL
                settled = {n: INT for n, t in found.items() if t.dtype is INT and n in bounds}
                mixed = kind is REAL and REAL not in dtypes.values()
                dtypes = dict.fromkeys(dtypes, kind) | (settled if mixed else {})
                continue
            held = bounds.items() <= self._bounds(found).items()
            if held and all(t.dtype is dtypes[n] and t.slots == ranges[n] for n, t in found.items()):
                self._finish(start, found)
                return
            before.restore(self.e, self.place)
            bounds = bounds if held else {}
            dtypes = {n: _wider(dtypes[n], t.dtype) for n, t in found.items()}
            ranges = {n: t.slots for n, t in found.items()}
        first = self.members[0].statement.names[0]
        help = f"say what stands there: `{first.name}[... else 0]`, or put the access under a condition"
        message = (
            f"nothing says what `{first.name}` is before its first step: at each step fewer positions have a value"
        )
        raise self.e.sink.fail("E0209", message, first.span, help)

    def _bounds(self, found: Mapping[str, TensorEntity]) -> dict[str, Bound]:
        """What is known of the integers of the members, to be assumed of those of earlier rounds."""
        known = ((n, self.e.integer_bounds.get(t.tensor, UNBOUNDED)) for n, t in found.items() if t.dtype is INT)
        return {n: b for n, b in known if b != UNBOUNDED}

    def _attempt(
        self,
        dtypes: Mapping[str, Dtype],
        ranges: Mapping[str, tuple[Slot, ...]],
        found: dict[str, TensorEntity],
        through: bool,
    ) -> None:
        """Elaborate the members under assumptions; `through`: those after one that fails, too."""
        self.e.unfinished_reads.clear()
        for p in self.members:
            name = p.statement.names[0]
            tensor = TensorEntity(
                name.name,
                name.name,
                ranges[name.name],
                dtypes[name.name],
                True,
                name.span,
                coordinates=tuple(self.formals[name.name]),
                unfinished=True,
            )
            p.assumed, p.state = tensor, "busy"
        failed: Failed | None = None
        for p in self.members:
            try:
                found[_name(p)] = self.elaborate(p)
            except Failed as problem:
                failed = problem
                if not through:
                    break
        if failed is not None:
            raise failed
        for p in self.group:
            if p.state == "new":
                p.entity, p.state = self.elaborate(p), "done"

    def _finish(self, start: int, found: Mapping[str, TensorEntity]) -> None:
        for entity in found.values():
            for need in entity.needs:
                raise self.e.sink.fail("E0405", need.message, need.span, need.help)
        made = [d for item in self.place.body[start:] for d in members_of(item)]
        try:
            items = grouped(made, self.e.integer_parameters(), declared_bounds(self.e.parameters()))
        except Unordered as problem:
            raise self._not_earlier(problem) from problem
        self.place.body[start:] = items
        for p in self.members:
            p.entity, p.state, p.assumed = found[_name(p)], "done", None

    def _not_earlier(self, problem: Unordered) -> Failed:
        name = problem.read.tensor
        span = self._span(problem)
        if problem.same:
            help = "a recurrence reads itself at an earlier position: `a[t] = ... a[t - 1 else 0]`"
            return self.e.sink.fail("E0205", f"`{name}` is read at the position that is being computed", span, help)
        help = "every read must be earlier along one axis that all of them have, or in one order of several"
        return self.e.sink.fail("E0208", f"this read of `{name}` is not proved to be earlier", span, help)

    def _span(self, problem: Unordered) -> Span:
        """The place in the file of a read of the IR."""
        wanted = _plain(problem.read)
        near = [span for read, span in self.e.unfinished_reads if read.tensor == problem.read.tensor]
        exact = [span for read, span in self.e.unfinished_reads if _plain(read) is wanted]
        return (exact or near or [problem.reader.origin])[0]


def _name(p: PendingDefinition) -> str:
    return p.statement.names[0].name


def _wider(a: Dtype, b: Dtype) -> Dtype:
    """What to assume after `a` was assumed and `b` was found: integers become real, never the other way."""
    return REAL if REAL in (a, b) else b


def _plain(read: Read) -> Scalar:
    """The read with its index variables called by their axes."""
    return substitute(read, {v: Index(v.name.partition("#")[0].partition(".")[0], v.dim) for v in _indices(read)})


def _indices(node: Scalar) -> Iterable[Index]:
    stack: list[Scalar] = [node]
    while stack:
        top = stack.pop()
        if isinstance(top, Index):
            yield top
        stack.extend(top.children)


__all__ = ["Recurrence", "find"]
