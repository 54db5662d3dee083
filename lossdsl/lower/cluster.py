"""Which results are made together: row scopes, row results that are kept, and kernels joined by what they read.

Every stored result starts as a kernel of its own. Two kernels become one when they share an operand that is the largest
of one of them, have parallel axes in common, and no third kernel must run between them: so the value of a loss and its
gradient are one pass, and a sum that the gradient needs first (the weight of a weighted mean) is a pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from lossdsl.dim import Dim
from lossdsl.lower.body import Body, Context, MustStore, NotTogether
from lossdsl.lower.extent import Weight
from lossdsl.lower.opaque import Opaque
from lossdsl.lower.plan import Load
from lossdsl.lower.products import Contraction

Results = tuple[str, ...]


@dataclass
class Node:
    """One kernel (`body`), one library product (`call`), or what is neither (`opaque`), and the tensors it makes."""

    results: tuple[str, ...]
    body: Body | None
    call: Contraction | None = None
    alias: dict[str, str] = field(default_factory=dict)
    opaque: Opaque | None = None
    _reads: tuple[str, ...] | None = None

    @cached_property
    def read_set(self) -> frozenset[str]:
        return frozenset(self.reads())

    def reads(self) -> tuple[str, ...]:
        """Buffers that it needs, each once."""
        if self._reads is None:
            if self.call is not None:
                found = [t for t, _ in self.call.operands]
            elif self.opaque is not None:
                found = list(self.opaque.reads)
            else:
                assert self.body is not None
                found = [s.buffer for s in self.body.statements if isinstance(s, Load)]
            self._reads = tuple(dict.fromkeys(found))
        return self._reads


class _Bodies:
    """Bodies by their results; a body stays valid until a tensor that it computes itself gets a buffer."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.made: dict[tuple[str, ...], Body | None] = {}
        self.refused: dict[tuple[str, ...], frozenset[str]] = {}

    def get(self, results: tuple[str, ...]) -> Body | None:
        """The body, or None if one kernel cannot make these results. Raises MustStore."""
        stored = frozenset(self.context.stored)
        if results not in self.made or (self.made[results] is None and self.refused[results] != stored):
            try:
                self.made[results] = self._made(results)
            except NotTogether:
                self.made[results] = None
                self.refused[results] = stored
        return self.made[results]

    def _made(self, results: tuple[str, ...]) -> Body:
        """The body, grown from the longest one that is there of its first results."""
        for k in range(len(results) - 1, 0, -1):
            first = self.made.get(results[:k])
            more = None if first is None else first.extended(results[k:])
            if more is not None:
                return more
        return Body(self.context, results)

    def store(self, tensor: str, reason: str) -> None:
        self.context.stored[tensor] = reason
        self.made = {r: b for r, b in self.made.items() if b is None or tensor not in b.inlined}


def clusters(context: Context, roots: Iterable[str], products: dict[str, Contraction]) -> list[Node]:
    """The kernels and calls that make `roots`, in an order that can run. Extends `context.stored`."""
    roots = tuple(dict.fromkeys(roots))
    bodies = _Bodies(context)
    while True:
        try:
            nodes = _solo(bodies, roots, products)
            for node in nodes:
                _one_way(bodies, node)
            nodes = _merged(bodies, nodes)
            _keep_row_results(context, nodes)
            return ordered(nodes)
        except MustStore as need:
            if need.tensor in context.stored:
                raise AssertionError(f"{need.tensor} is stored already") from None
            bodies.store(need.tensor, need.reason)


def _solo(bodies: _Bodies, roots: tuple[str, ...], products: dict[str, Contraction]) -> list[Node]:
    nodes: dict[str, Node] = {}
    waiting = list(roots)
    while waiting:
        tensor = waiting.pop(0)
        if tensor in nodes or tensor in bodies.context.inputs:
            continue
        if tensor in products:
            node = Node((tensor,), None, products[tensor])
        elif tensor in bodies.context.opaque:
            made = bodies.context.opaque[tensor]
            node = Node(made.results, None, opaque=made)
            nodes.update((t, node) for t in made.results)
        else:
            body = bodies.get((tensor,))
            assert body is not None
            _row_scope(body)
            node = Node((tensor,), body)
        nodes[tensor] = node
        waiting.extend(node.reads())
    return ordered(list({id(n): n for n in nodes.values()}.values()), bodies.context)


def make(
    context: Context, results: tuple[str, ...], products: dict[str, Contraction], alias: dict[str, str] | None = None
) -> Node:
    """The node of one or several results."""
    if len(results) == 1 and results[0] in products:
        return Node(results, None, products[results[0]], alias or {})
    return Node(results, Body(context, results, alias), None, alias or {})


_ACROSS = "its rows are not along {}, over which its reader runs in parallel"


def _row_scope(body: Body) -> None:
    """Raise MustStore for folds that leave no axis to run in parallel over; the axis on which most agree stays."""
    space = [a for a in body.axes if all(a in s for s in body.spaces.values())]
    if not space or body.rows():
        return
    uses = list(body.folds.values())
    weight = body.context.sizes.weight

    def merit(axis: str) -> tuple[int, Weight]:
        return sum(axis in u.axes for u in uses), weight([body.axes[axis].dim])

    best = space[0]
    for axis in space[1:]:
        if merit(axis) > merit(best):
            best = axis
    for use in uses:
        if best in use.axes:
            continue
        # A fold at gathered positions is best kept as the smaller map that gathers it.
        maps = [t for t, axes in use.within if best not in axes and t not in body.results] if not use.aligned else []
        raise MustStore(maps[-1] if maps else use.tensor, _ACROSS.format(best))


def crossed(body: Body) -> str | None:
    """A stored tensor, larger than every given array, that the body reads along different axes at every position: it
    could not be made in chunks for this kernel."""
    found: dict[str, list[set[str]]] = {}
    for s in body.statements:
        if isinstance(s, Load) and s.buffer not in body.context.inputs and body.context.amplified(s.buffer):
            places = found.setdefault(s.buffer, [set() for _ in s.subscripts])
            for place, p in zip(places, s.subscripts):
                place.add(p.axes[0][0] if len(p.axes) == 1 and p.axes[0][1] == 1 and p.data is None else "")
    for tensor, places in found.items():
        if not any(len(p) == 1 and "" not in p for p in places):
            return tensor
    return None


def _one_way(bodies: _Bodies, node: Node) -> None:
    """Raise MustStore for a fold without which the kernel would read a large tensor along one axis (rows, not columns
    too)."""
    tensor = None if node.body is None else crossed(node.body)
    if tensor is None or node.body is None:
        return
    stored = bodies.context.stored
    for use in reversed(node.body.folds.values()):
        if use.tensor in node.results or use.tensor in stored or bodies.context.amplified(use.tensor):
            continue
        stored[use.tensor] = ""
        try:
            helps = crossed(Body(bodies.context, node.results)) is None
        except (MustStore, NotTogether):
            helps = False
        del stored[use.tensor]
        if helps:
            raise MustStore(use.tensor, f"its rows of {tensor} are not those of its reader")


def ordered(nodes: list[Node], context: Context | None = None) -> list[Node]:
    """Topological order; otherwise by the place of the first result among the definitions, or as given."""
    if context is not None:
        place = {t: k for k, t in enumerate(context.definitions)}
        nodes = sorted(nodes, key=lambda n: min(place[t] for t in n.results))
    maker = {t: k for k, n in enumerate(nodes) for t in n.results}
    done: set[int] = set()
    out: list[Node] = []

    def visit(k: int) -> None:
        if k in done:
            return
        done.add(k)
        for t in nodes[k].reads():
            if t in maker and maker[t] != k:
                visit(maker[t])
        out.append(nodes[k])

    for k in range(len(nodes)):
        visit(k)
    return out


def between(nodes: list[Node]) -> Callable[[int, int], bool]:
    """For pairs of nodes, by place: True if a third node must run after one of the two and before the other."""
    maker = {t: k for k, n in enumerate(nodes) for t in n.results}
    needs = [{maker[t] for t in n.reads() if t in maker} - {k} for k, n in enumerate(nodes)]
    above: list[set[int]] = [set() for _ in nodes]  # what a node needs, directly or through others
    for k in range(len(nodes)):  # in an order that can run, so what it needs is complete
        above[k].update(needs[k], *(above[m] for m in needs[k]))

    def found(a: int, b: int) -> bool:
        return any(first in above[k] for first, last in ((a, b), (b, a)) for k in needs[last] - {first})

    return found


def _merged(bodies: _Bodies, nodes: list[Node]) -> list[Node]:
    """Kernels joined as long as two of them share what is largest, those with the largest operand in common first."""
    kernels = [n for n in nodes if n.body is not None]
    pairs: dict[tuple[Results, Results], Weight] = {}  # those that may still become one, by what they share
    for k, a in enumerate(kernels):
        pairs |= _sharing(bodies.context, a, kernels[k + 1 :])
    while True:
        place = {n.results: k for k, n in enumerate(nodes)}
        candidates = []
        for pair, shared in pairs.items():
            i, j = sorted(map(place.__getitem__, pair))
            candidates.append((shared, -i, -j, pair))
        candidates.sort(reverse=True)
        apart = between(nodes)
        for _, first, second, pair in candidates:
            i, j = -first, -second
            joint = None if apart(i, j) else _joint(bodies, nodes[i], nodes[j])
            if joint is not None:
                break
            del pairs[pair]
        else:
            return nodes
        gone = {nodes[i].results, nodes[j].results}
        rest = [n for k, n in enumerate(nodes) if k not in (i, j)]
        pairs = {pair: shared for pair, shared in pairs.items() if gone.isdisjoint(pair)}
        pairs |= _sharing(bodies.context, joint, [n for n in rest if n.body is not None])
        rest.insert(i, joint)
        nodes = ordered(rest)


def _sharing(context: Context, a: Node, others: list[Node]) -> dict[tuple[Results, Results], Weight]:
    """The pairs of one kernel with others that have something large in common."""
    found = ((a.results, b.results, _shared(context, a, b)) for b in others)
    return {(x, y): shared for x, y, shared in found if shared is not None}


def _shared(context: Context, a: Node, b: Node) -> Weight | None:
    """The size of the largest operand of both, if it is the largest of one of them; None if there is nothing to share.
    Scalar kernels share their launch."""
    assert a.body is not None
    assert b.body is not None
    weight = context.weight
    if not a.body.axes and not b.body.axes:
        return (0, 0, 0)
    ra, rb = a.read_set, b.read_set
    # A row result that is read in place counts as read by its maker too: it need not leave the kernel.
    common = (ra & rb) | ra.intersection(b.results) | rb.intersection(a.results)
    if not common:
        return None
    largest = max(weight(t) for t in common)
    if largest == (0, 0, 1):
        return None
    tops = [max(weight(t) for t in r | set(n.results)) for r, n in ((ra, a), (rb, b))]
    own = [max((weight(t) for t in r), default=(0, 0, 0)) for r in (ra, rb)]
    return largest if largest >= min(own) or largest >= min(tops) else None


def _waits(context: Context, reader: Node, maker: Node) -> bool:
    """Whether one of two kernels reads what the other makes as a whole or elsewhere than where it is made: no body could
    make both."""
    assert reader.body is not None
    for s in reader.body.statements:
        if isinstance(s, Load) and s.buffer in maker.results:
            if context.is_total(s.buffer) or s.buffer in context.complete or s.buffer in context.selections:
                return True
            if not _plain(s, reader.body, context.dims(s.buffer)):
                return True
    return False


def _plain(load: Load, body: Body, dims: tuple[Dim, ...]) -> bool:
    """Whether an array is read at distinct axes over its own extents."""
    at = [p.axes[0][0] for p in load.subscripts if len(p.axes) == 1 and p.axes[0][1] == 1]
    plain = len(at) == len(dims) and not any(p.offset.terms or p.data is not None for p in load.subscripts)
    return plain and len(set(at)) == len(at) and all(body.axes[a].dim == d for a, d in zip(at, dims))


def _joint(bodies: _Bodies, a: Node, b: Node) -> Node | None:
    place = {t: k for k, t in enumerate(bodies.context.definitions)}
    results = tuple(sorted(a.results + b.results, key=place.__getitem__))
    if _waits(bodies.context, a, b) or _waits(bodies.context, b, a):
        return None
    body = bodies.get(results)
    if body is None or (body.axes and not body.rows()) or crossed(body) is not None:
        return None
    return Node(results, body)


def _keep_row_results(context: Context, nodes: list[Node]) -> None:
    """A fold that several kernels make is stored by the first, unless it is larger than every given array."""
    count: dict[str, int] = {}
    for n in nodes:
        if n.body is None:
            continue
        tensors = {u.tensor for u in n.body.folds.values() if u.aligned}
        for t in tensors:
            count[t] = count.get(t, 0) + 1
    for t, k in sorted(count.items()):
        d = context.definitions[t]
        if k < 2 or t in context.stored or all(b.dim.constant is not None for b in d.bound):
            continue
        if context.amplified(t):
            context.recomputed.add(t)
            continue
        raise MustStore(t, f"a row result that {k} passes need: stored once, not recomputed")
