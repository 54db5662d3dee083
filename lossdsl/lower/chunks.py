"""Loops over chunks of rows, so that what grows faster than every input and output is never whole in memory.

A tensor is chunked along a position at which all its readers go along with it: a kernel that uses one of its own
parallel axes there, a library product that keeps the axis (its result is made row by row) or sums over it (its result
is accumulated). Readers that cannot go along get a copy of their own, made again in a loop of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    ONE,
    TRUE,
    ZERO,
    And,
    Const,
    Definition,
    Index,
    Not,
    Or,
    Read,
    Scalar,
    Select,
)
from lossdsl.ir.rewrite import Fresh
from lossdsl.lower.arrange import live, made
from lossdsl.lower.body import Body, Context
from lossdsl.lower.cluster import Node, make, ordered
from lossdsl.lower.extent import symbols
from lossdsl.lower.plan import Choices, Load
from lossdsl.lower.products import Contraction, conjunction


class SplitTotal(Exception):
    """A total over chunked rows that is not a sum: it needs one value for each row first."""

    def __init__(self, tensor: str, index: Index) -> None:
        super().__init__(tensor)
        self.tensor, self.index = tensor, index


@dataclass
class Loop:
    """Kernels and calls that run for the same rows; `axis` of each member is the one that is cut."""

    extent: Dim
    members: list[Node]
    axes: dict[tuple[str, ...], str]  # results of the member -> its axis
    chunked: dict[str, int]
    reason: str
    size: int = 0


class Chunks:
    """Decides the loops; `nodes` may grow by copies."""

    def __init__(
        self, context: Context, nodes: list[Node], products: dict[str, Contraction], fresh: Fresh, choices: Choices
    ) -> None:
        self.context, self.products, self.fresh, self.choices = context, products, fresh, choices
        self.nodes = nodes
        self.loops: list[Loop] = []
        self.why: list[str] = []
        waiting = [t for n in nodes for t in n.results if context.amplified(t)]
        while waiting:
            waiting.extend(self._place(waiting.pop(0)))
        for product in self._rows_of_products():
            self._place(product)
        for node in self.nodes:
            if node.body is not None and self._home(node) is None:
                self._wrap(node, node.body)
        for loop in self.loops:
            loop.members = [n for n in ordered(self.nodes) if n in loop.members]
            loop.size = self._rows(loop)
            for n in loop.members:
                self._check_totals(n, loop.axes[n.results])

    def _home(self, node: Node) -> Loop | None:
        return next((loop for loop in self.loops if any(m is node for m in loop.members)), None)

    def _maker(self, tensor: str) -> Node:
        return next(n for n in self.nodes if tensor in n.results)

    def _rows_of_products(self) -> list[str]:
        """Results that a loop makes row by row, and that a kernel outside could use while the rows are at hand."""
        found = []
        for loop in self.loops:
            for member in loop.members:
                if member.call is None or loop.axes[member.results] not in self._formals(member, member.results[0]):
                    continue
                tensor = member.results[0]
                if self.context.stored.get(tensor) != "returned" and tensor not in loop.chunked:
                    found.append(tensor)
        return found

    # ----------------------------------------------------------------------------------------------- placement

    def _place(self, tensor: str) -> list[str]:
        """Chunk one tensor; gives the copies that were made of it."""
        maker = self._maker(tensor)
        readers = [n for n in self.nodes if tensor in n.reads()]
        dims = self.context.dims(tensor)
        if self._folds_rows(maker):
            self.why.append(
                f"{tensor} is whole in memory: its kernel also folds rows that are complete only at its end"
            )
            return []
        if any(n.opaque is not None for n in (maker, *readers)):
            self.why.append(f"{tensor} is whole in memory: a recurrence or a library routine works on all of it")
            return []
        loop = self._home(maker)
        if loop is not None:
            formals = self._formals(maker, tensor)
            axis = loop.axes[maker.results]
            if axis not in formals:
                self.why.append(f"{tensor} is whole in memory: it is complete only after its loop")
                return []
            at = formals.index(axis)
        else:
            places = [p for p in range(len(dims)) if dims[p].constant is None and self._axis_made(maker, tensor, p)]
            if not places:
                self.why.append(f"{tensor} is whole in memory: it has no axis over which it could be made in rows")
                return []
            ready = [sum(self._axis_read(r, tensor, p) is not None for r in readers) for p in places]
            kernels = [
                sum(self._axis_read(r, tensor, p) is not None for r in readers if r.body is not None) for p in places
            ]
            best = max(range(len(places)), key=lambda k: (kernels[k], ready[k], -k))
            at = places[best]
            axis = self._axis_made(maker, tensor, at) or ""
            reason = f"{tensor} grows faster than every input and output"
            loop = Loop(dims[at], [maker], {maker.results: axis}, {}, reason)
        left: list[Node] = []
        for reader in readers:
            wanted = self._axis_read(reader, tensor, at)
            if wanted is None or not self._join(loop, reader, wanted, tensor, at):
                left.append(reader)
        if len(loop.members) > 1 and loop not in self.loops:
            self.loops.append(loop)
        if loop not in self.loops:
            self.why.append(f"{tensor} is whole in memory: no reader runs along one of its axes")
            return []
        if left and not self._cheap(tensor):
            names = ", ".join(r.results[0] for r in left)
            self.why.append(
                f"{tensor} is whole in memory: {names} cannot run in its loop, and it is dear to make again"
            )
            return []
        loop.chunked[tensor] = at
        return [self._copy(tensor, reader) for reader in left]

    def _cheap(self, tensor: str) -> bool:
        """A product of what has a buffer of its own anyway: it can be made again elsewhere."""
        maker = self._maker(tensor)
        return maker.call is not None and not any(self.context.amplified(t) for t in maker.reads())

    def _copy(self, tensor: str, reader: Node) -> str:
        definitions = self.context.definitions
        name = self.fresh(tensor + ".again")
        definition = replace(definitions[tensor], tensor=name)
        items = list(definitions.items())
        place = [t for t, _ in items].index(tensor)
        items.insert(place + 1, (name, definition))
        definitions.clear()
        definitions.update(items)
        self.products[name] = replace(self.products[tensor], definition=definition)
        self.context.stored[name] = f"{tensor} once more: its readers share no row axis"
        self.why.append(
            f"{name} is {tensor} made again for {reader.results[0]}: their row scopes have nothing in common"
        )
        alias = {**reader.alias, tensor: name}
        if reader.call is not None:
            operands = tuple((name if t == tensor else t, i) for t, i in reader.call.operands)
            changed = Node(reader.results, None, replace(reader.call, operands=(operands[0], operands[1])), alias)
        else:
            changed = make(self.context, reader.results, self.products, alias)
        home = self._home(reader)
        if home is not None:
            home.members = [changed if m is reader else m for m in home.members]
        nodes = [changed if n is reader else n for n in self.nodes]
        self.nodes = ordered([*nodes, make(self.context, (name,), self.products)])
        return name

    def _formals(self, node: Node, tensor: str) -> tuple[str, ...]:
        if node.call is not None:
            return tuple(i.name for i in node.call.definition.formals)
        assert node.body is not None
        return node.body.formal_axes[tensor]

    def _axis_made(self, node: Node, tensor: str, at: int) -> str | None:
        formals = self._formals(node, tensor)
        if at >= len(formals):
            return None
        return formals[at] if node.body is None or formals[at] in node.body.rows() else None

    def _axis_read(self, node: Node, tensor: str, at: int) -> str | None:
        """The one axis that a reader uses at a position, if it can run along it."""
        found: set[str] = set()
        extent = self.context.dims(tensor)[at]
        if node.call is not None:
            found = {i[at].name for t, i in node.call.operands if t == tensor}
        elif node.body is not None:
            for s in node.body.statements:
                if isinstance(s, Load) and s.buffer == tensor:
                    p = s.subscripts[at]
                    plain = len(p.axes) == 1 and p.axes[0][1] == 1 and not p.offset.terms and p.data is None
                    found.add(p.axes[0][0] if plain and node.body.axes[p.axes[0][0]].dim == extent else "")
            if not found <= node.body.rows():
                return None
        return found.pop() if len(found) == 1 and "" not in found else None

    # --------------------------------------------------------------------------------------------------- joining

    def _folds_rows(self, node: Node) -> bool:
        """Whether a result is a total, other than a sum, of values that are stored row by row: two stages would be one."""
        return any(len(d.bound) == 1 and isinstance(d.body, Read) and d.where is TRUE for d in self._totals(node))

    def _totals(self, node: Node) -> Iterator[Definition]:
        """Results that are totals other than sums, which alone add up chunk by chunk."""
        for t in node.results if node.body is not None else ():
            d = self.context.definitions[t]
            if d.head not in ("map", "sum") and t not in self.context.selections and self.context.is_total(t):
                yield d

    def _join(self, loop: Loop, node: Node, axis: str, tensor: str, at: int) -> bool:
        if self._folds_rows(node):
            return False
        other = self._home(node)
        if other is loop:
            return loop.axes[node.results] == axis
        incoming = [node] if other is None else other.members
        axes = {node.results: axis} if other is None else other.axes
        if axes[node.results] != axis or (other is not None and other.extent != loop.extent):
            return False
        every = {**loop.axes, **axes}
        if not self._legal([*loop.members, *incoming], every, {**loop.chunked, tensor: at}):
            return False
        loop.members = [*loop.members, *incoming]
        loop.axes = every
        if other is not None:
            loop.chunked.update(other.chunked)
            self.loops.remove(other)
        return True

    def _legal(self, members: list[Node], axes: dict[tuple[str, ...], str], chunked: dict[str, int]) -> bool:
        """No node outside must run between two members, and members need only rows of each other."""
        inside = {id(m) for m in members}
        maker = {t: n for n in self.nodes for t in n.results}
        tainted: set[int] = set()  # outside nodes that need a member
        for n in ordered(self.nodes):
            # A reader that stays outside gets a copy of what is chunked, if it is cheap to make again.
            needs = [
                maker[t]
                for t in n.reads()
                if t in maker and (id(n) in inside or t not in chunked or not self._cheap(t))
            ]
            if id(n) in inside:
                if any(id(m) in tainted for m in needs):
                    return False
            elif any(id(m) in inside or id(m) in tainted for m in needs):
                tainted.add(id(n))
        for reader in members:
            for t in reader.reads():
                source = maker.get(t)
                if source is None or id(source) not in inside or source is reader:
                    continue
                formals = self._formals(source, t)
                along = axes[source.results]
                if along not in formals or self._axis_read(reader, t, formals.index(along)) != axes[reader.results]:
                    return False
        return True

    # ------------------------------------------------------------------------------------ kernels on their own

    def _values(self, body: Body) -> list[tuple[Dim, ...]]:
        return [
            tuple(body.axes[a].dim for a in sorted(body.spread[name]))
            for s in live(body.statements)
            if (name := made(s)) is not None
        ]

    def _wrap(self, node: Node, body: Body) -> None:
        large = [v for v in self._values(body) if self.context.grows(v)]
        if not large or self._folds_rows(node):
            return
        rows = body.rows()
        weight = self.context.sizes.weight
        space = [a for a in body.axes if a in rows and body.axes[a].dim.constant is None]
        if not space:
            self.why.append(f"{node.results[0]}: its values over pairs are whole in memory, as it has no row axis")
            return
        axis = max(space, key=lambda a: (weight([body.axes[a].dim]), -space.index(a)))
        reason = f"its values over {' x '.join(str(d) for d in large[0])} grow faster than every input and output"
        self.loops.append(Loop(body.axes[axis].dim, [node], {node.results: axis}, {}, reason))

    def _rows(self, loop: Loop) -> int:
        depth = 2
        for n in loop.members:
            if n.body is not None:
                depth = max([depth, *(sum(symbols(v).values()) for v in self._values(n.body))])
        return int(max(1, self.choices.rows // 16 ** (depth - 2)))

    def _check_totals(self, node: Node, axis: str) -> None:
        for d in self._totals(node):
            assert node.body is not None
            at = node.body.space_axes[d.tensor].index(axis)
            raise SplitTotal(d.tensor, self.context.iteration(d.tensor)[at])


def split_total(d: Definition, index: Index, name: str) -> tuple[Definition, Definition]:
    """A total in two stages: one value for each `index` under `name`, then the fold of those."""
    rest = tuple(b for b in d.bound if b is not index)
    outer = {"count": "sum"}.get(d.head, d.head)
    where = conjunction([d.support, d.where])
    if d.head in ("argmax", "argmin"):
        body = d.body if where is TRUE else Select(where, d.body, ZERO)
        rows = Definition(name, (index,), "map", (), TRUE, body, origin=d.origin)
        return rows, replace(d, where=where, support=TRUE, body=Read(name, (index,), body.dtype))
    if rest:
        rows = replace(d, tensor=name, formals=(index,), bound=rest, where=where, support=TRUE, comment=None)
    else:
        rows = Definition(name, (index,), "map", (), TRUE, _masked(d.head, where, d.body), origin=d.origin)
    kind = BOOL if d.head in ("any", "all") else INT if d.head == "count" else d.dtype
    total = replace(d, head=outer, bound=(index,), where=TRUE, support=TRUE, body=Read(name, (index,), kind))
    return rows, total


def _masked(head: str, where: Scalar, body: Scalar) -> Scalar:
    if head == "count":
        return Select(conjunction([where, body]) if body is not TRUE else where, Const(1, INT), Const(0, INT))
    if head == "any":
        return And((where, body))
    if head == "all":
        return Or((Not(where), body))
    if where is TRUE:
        return body
    identity: dict[str, Scalar] = {
        "sum": ZERO,
        "prod": ONE,
        "max": Const("-inf"),
        "min": Const("inf"),
        "logsumexp": Const("-inf"),
    }
    return Select(where, body, identity[head])


def stages(nodes: list[Node], loops: Iterable[Loop]) -> list[Node | Loop]:
    """Nodes and loops in an order that can run."""
    loops = list(loops)
    home = {id(m): loop for loop in loops for m in loop.members}
    maker = {t: n for n in nodes for t in n.results}
    out: list[Node | Loop] = []
    done: set[int] = set()

    def visit(stage: Node | Loop) -> None:
        if id(stage) in done:
            return
        done.add(id(stage))
        for member in stage.members if isinstance(stage, Loop) else [stage]:
            for t in member.reads():
                if t in maker and home.get(id(maker[t]), maker[t]) is not stage:
                    visit(home.get(id(maker[t]), maker[t]))
        out.append(stage)

    for n in nodes:
        visit(home.get(id(n), n))
    return out
