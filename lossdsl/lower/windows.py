"""Windows: sums over a few offsets of a position (`x[h + i, w + j]` over i, j).

Two things are decided here. A sum whose terms are products of what depends on one offset alone and of what reads along
all of them is made in passes, one offset after the other: 2 n reads of an entry instead of n^2 (`_Separated`). And a
window is a loop over its offsets around a kernel that adds one shifted array: nothing of the size of array times window
is ever made (`Window`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

from lossdsl.dim import Dim
from lossdsl.ir.nodes import ONE, REAL, TRUE, ZERO, Apply, Definition, Index, Read, Scalar, Select
from lossdsl.ir.rewrite import Fresh, canonical, free_indices, reads, substitute
from lossdsl.lower.extent import form, in_range, index
from lossdsl.lower.products import conjunction, conjuncts, factors, terms

OFFSETS = 256  # of a window, at most
SEPARABLE = 3  # the least number of offsets along an axis for which a pass of its own pays


@dataclass(frozen=True)
class Window:
    """A sum, and those of its bound indices that are offsets: a loop over them adds up the rest."""

    definition: Definition
    offsets: tuple[Index, ...]


def windows(
    definitions: Iterable[Definition], dims: Mapping[str, tuple[Dim, ...]], fresh: Fresh
) -> tuple[list[Definition], list[Window], list[str]]:
    """The definitions, separable windows in passes; those that are windows; the decisions. `dims`: of all tensors."""
    out: list[Definition] = []
    found: list[Window] = []
    why: list[str] = []
    known: dict[object, str] = {}
    for d in definitions:
        offsets = _offsets(d)
        made = _Separated(d, offsets, dims, fresh, known).run() if len(offsets) > 1 else [d]
        out += made
        if len(made) > 1 or made[0] is not d:
            names = ", then ".join(i.name for i in reversed(offsets))
            why.append(f"{d.tensor} is made along {names}: its weights are products, so that each offset has a pass")
        for m in made:
            if own := _offsets(m):
                found.append(Window(m, own))
                names = ", ".join(i.name for i in own)
                why.append(f"{m.tensor} is a window: a loop over {names} adds one shifted array at a time")
    return out, found, why


def _offsets(d: Definition) -> tuple[Index, ...]:
    """The bound indices of a window, each of which is an offset of another index somewhere; none if it is no window."""
    if d.head != "sum" or d.dtype is not REAL or not d.formals or d.support is not TRUE:
        return ()
    counts = [b.dim.constant or 0 for b in d.bound]
    if not all(counts) or not 1 < prod(counts) <= OFFSETS:
        return ()
    mixed: set[Index] = set()
    for r in reads(d.body):
        for position in r.indices:
            at = form(position)
            if len(at.axes) > 1 and not at.data:
                mixed.update(a for a, _ in at.axes)
    return d.bound if set(d.bound) <= mixed else ()


class _Separated:
    """One definition as passes: each term of it a chain of windows along one offset each."""

    def __init__(
        self,
        d: Definition,
        offsets: tuple[Index, ...],
        dims: Mapping[str, tuple[Dim, ...]],
        fresh: Fresh,
        known: dict[object, str],
    ) -> None:
        self.d, self.offsets, self.dims, self.fresh, self.known = d, offsets, dims, fresh, known
        self.made: list[Definition] = []

    def run(self) -> list[Definition]:
        """The passes and what the definition is then; the definition itself if it has to stay whole."""
        d = self.d
        if any((o.dim.constant or 0) < SEPARABLE for o in self.offsets):
            return [d]
        where, body = _under(list(conjuncts(d.where)), d.body)
        outside = [w for w in where if not self.along_(w)]
        where = [w for w in where if self.along_(w)]
        before = dict(self.known)
        parts = [self.term(t, where) for t in terms(body)]
        total: Scalar | None = None
        for p in parts:
            if p is None:
                self.known.clear()
                self.known.update(before)
                return [d]
            total = p if total is None else Apply("add", (total, p))
        assert total is not None
        if outside:
            total = Select(conjunction(outside), total, ZERO)
        return [*self.made, replace(d, head="map", bound=(), where=TRUE, body=total)]

    def along_(self, node: Scalar) -> tuple[Index, ...]:
        """The offsets that something depends on."""
        free = set(free_indices(node))
        return tuple(o for o in self.offsets if o in free)

    def term(self, body: Scalar, where: list[Scalar]) -> Scalar | None:
        """The sum of one term as an expression over the formals; None if it has to stay whole."""
        where, body = _under(list(where), body)
        outer: list[Scalar] = []
        shared: list[Scalar] = []
        own: dict[Index, list[Scalar]] = {o: [] for o in self.offsets}
        for f in factors(body):
            touched = self.along_(f.node)
            if f.inverse and touched:
                return None
            node = Apply("div", (ONE, f.node)) if f.inverse else f.node
            if len(touched) == len(self.offsets):
                shared.append(node)
            elif len(touched) == 1:
                own[touched[0]].append(node)
            elif touched:
                return None
            else:
                outer.append(node)
        masks: dict[Index, list[Scalar]] = {o: [] for o in self.offsets}
        gates: list[Scalar] = []
        outside: list[Scalar] = []
        for w in where:
            touched = self.along_(w)
            if not touched:
                outside.append(w)
            elif len(touched) == len(self.offsets):
                gates.append(w)
            elif len(touched) == 1:
                masks[touched[0]].append(w)
            else:
                return None
        places = self.places([*shared, *gates])
        if places is None:
            return None
        if outside and not self.readable([*shared, *gates, *(n for o in self.offsets for n in own[o])], places):
            return None
        if gates and not self.readable([*shared, *gates], places):
            return None
        current, formals = self.source(shared, gates, places)
        for o in reversed(self.offsets):
            position, formal, whole = places[o]
            allowed = {*formals, o, formal} - {whole}
            if any(not set(free_indices(n)) <= allowed for n in (*own[o], *masks[o])):
                return None
            read = Read(current, tuple(position if f is whole else f for f in formals), REAL)
            formals = tuple(formal if f is whole else f for f in formals)
            value: Scalar = read
            for weight in reversed(own[o]):
                value = Apply("mul", (weight, value))
            current = self.define(
                Definition(f"{self.d.tensor}.pass", formals, "sum", (o,), conjunction(masks[o]), value)
            )
        if set(formals) != set(self.d.formals):
            return None
        value = Read(current, formals, REAL)
        for node in reversed(outer):
            value = Apply("mul", (node, value))
        return Select(conjunction(outside), value, ZERO) if outside else value

    def places(self, shared: list[Scalar]) -> dict[Index, tuple[Scalar, Index, Index]] | None:
        """For each offset: the one position at which everything shared depends on it, the formal in that position, and
        an index over the whole dimension. None if something depends on it in another way."""
        found: dict[Index, tuple[Scalar, Index, Index]] = {}
        for o in self.offsets:
            extents: dict[Scalar, set[Dim]] = {}
            for r in reads(*shared):
                for k, p in enumerate(r.indices):
                    if o in free_indices(p):
                        extents.setdefault(p, set()).add(self.dims[r.tensor][k])
            if len(extents) != 1:
                return None
            ((position, whole),) = extents.items()
            others = [a for a, _ in form(position).axes if a is not o]
            if form(position).data or len(others) != 1 or others[0] not in self.d.formals or len(whole) != 1:
                return None
            found[o] = (position, others[0], index(f"{others[0].name}.all", next(iter(whole))))
        if len({formal for _, formal, _ in found.values()}) < len(found):
            return None
        swap: dict[Scalar, Scalar] = {position: whole for position, _, whole in found.values()}
        taken = {*found, *(formal for _, formal, _ in found.values())}
        if any(i in taken for f in shared for i in free_indices(substitute(f, swap))):
            return None
        return found

    def readable(self, nodes: list[Scalar], places: dict[Index, tuple[Scalar, Index, Index]]) -> bool:
        """Whether all reads are in range by themselves: a pass has not the conditions under which it is read."""
        swap: dict[Scalar, Scalar] = {position: whole for position, _, whole in places.values()}
        found = reads(*(substitute(n, swap) for n in nodes))
        return all(in_range(i, n) for r in found for i, n in zip(r.indices, self.dims[r.tensor]))

    def source(
        self, shared: list[Scalar], gates: list[Scalar], places: dict[Index, tuple[Scalar, Index, Index]]
    ) -> tuple[str, tuple[Index, ...]]:
        """A tensor with what is shared at every position, 0 where a condition on the position does not hold, and the
        indices of its positions."""
        swap: dict[Scalar, Scalar] = {position: whole for position, _, whole in places.values()}
        body = substitute(shared[0], swap) if shared else ONE
        for f in shared[1:]:
            body = Apply("mul", (body, substitute(f, swap)))
        if gates:
            body = Select(conjunction([substitute(g, swap) for g in gates]), body, ZERO)
        if isinstance(body, Read):
            plain = tuple(i for i in body.indices if isinstance(i, Index))
            if len(plain) == len(body.indices) == len(set(plain)):
                return body.tensor, plain
        whole = {formal: w for _, formal, w in places.values()}
        free = set(free_indices(body))
        formals = tuple(whole.get(f, f) for f in self.d.formals if whole.get(f, f) in free)
        return self.define(Definition(f"{self.d.tensor}.shared", formals, "map", (), TRUE, body)), formals

    def define(self, d: Definition) -> str:
        key = canonical(d)
        if key not in self.known:
            name = self.fresh(d.tensor)
            self.known[key] = name
            self.made.append(replace(d, tensor=name, origin=self.d.origin))
        return self.known[key]


def _under(where: list[Scalar], body: Scalar) -> tuple[list[Scalar], Scalar]:
    """The conditions outside of which a summand is 0, and the summand under them."""
    while isinstance(body, Select) and body.b is ZERO:
        where += conjuncts(body.condition)
        body = body.a
    return where, body
