"""The order of a recurrence: definitions that read each other become groups, each with a proved order of its axes.

Every read inside a group must be strictly earlier in (order of the axes, place of the definition in the group). The
proof is about integers only: reads with the conditions of their paths, and a small Fourier-Motzkin elimination.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from lossdsl.ir.check import paths
from lossdsl.ir.nodes import TRUE, Compare, Definition, Group, Read, Scalar
from lossdsl.ir.ranges import contradictory
from lossdsl.ir.rewrite import reads


@dataclass(frozen=True)
class Unordered(Exception):
    """No order makes all reads earlier; `reader` reads `read` where it is not there yet.

    same   True if what is read is the reader's own position, on every axis that they share
    """

    reader: Definition
    read: Read
    same: bool


def grouped(
    definitions: Sequence[Definition], signed: Collection[str] = (), bounds: Sequence[Scalar] = ()
) -> list[Definition | Group]:
    """The definitions in dependency order; those that read each other in a circle as groups. Raises Unordered.

    signed   integer parameters that may be negative
    bounds   conditions on parameters that always hold
    """
    by_name = {d.tensor: d for d in definitions}
    needs = {d.tensor: [r.tensor for r in reads(*d.scalars()) if r.tensor in by_name] for d in definitions}
    items: list[Definition | Group] = []
    for component in components([d.tensor for d in definitions], needs.__getitem__):
        chosen = [d for d in definitions if d.tensor in component]
        if len(chosen) == 1 and chosen[0].tensor not in needs[chosen[0].tensor]:
            items.append(chosen[0])
        else:
            items.append(_group(chosen, signed, bounds))
    return items


def components(names: Sequence[str], needs: Callable[[str], Sequence[str]]) -> list[set[str]]:
    """Strongly connected components, each after those that it needs (Tarjan, 1972; without recursion)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    open_: list[str] = []
    found: list[set[str]] = []
    for root in names:
        if root in number:
            continue
        work: list[tuple[str, Iterator[str]]] = []

        def enter(name: str, work: list[tuple[str, Iterator[str]]] = work) -> None:
            number[name] = low[name] = len(number)
            open_.append(name)
            work.append((name, iter(needs(name))))

        enter(root)
        while work:
            name, rest = work[-1]
            for other in rest:
                if other not in number:
                    enter(other)
                    break
                if other in open_:
                    low[name] = min(low[name], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == number[name]:
                    at = open_.index(name)
                    found.append(set(open_[at:]))
                    del open_[at:]
    return found


@dataclass
class _Step:
    """A read of a member by a member, under facts (conditions of its path, indices that exist)."""

    reader: Definition
    theirs: Definition
    read: Read
    facts: tuple[Scalar, ...]
    signed: Collection[str]
    memo: dict[tuple[str, int, bool], bool] = field(default_factory=dict)

    def earlier(self, axis: str, sign: int, strictly: bool) -> bool:
        """Whether the read is proved (strictly) earlier along an axis."""
        key = (axis, sign, strictly)
        if key not in self.memo:
            mine = next(i for i in self.reader.formals if i.name == axis)
            at = next(x for i, x in zip(self.theirs.formals, self.read.indices, strict=True) if i.name == axis)
            later = {(1, False): ">", (1, True): ">=", (-1, False): "<", (-1, True): "<="}[sign, strictly]
            wrong = Compare(later, at, mine)
            self.memo[key] = contradictory([*self.facts, wrong], signed=self.signed)
        return self.memo[key]


def _steps(members: Sequence[Definition], signed: Collection[str], bounds: Sequence[Scalar]) -> list[_Step]:
    by_name = {d.tensor: d for d in members}
    found: dict[tuple[str, Read, tuple[Scalar, ...]], _Step] = {}
    for d in members:
        indices: tuple[Scalar, ...] = (*bounds, *d.formals, *d.bound)
        for root, base in ((d.where, indices), (d.body, (*indices, d.where)), (d.support, (*bounds, *d.formals))):
            for node, path in paths(root):
                if isinstance(node, Read) and node.tensor in by_name:
                    facts = tuple(f for f in (*base, *path) if f is not TRUE)
                    step = _Step(d, by_name[node.tensor], node, facts, signed)
                    found.setdefault((d.tensor, node, facts), step)
    return list(found.values())


def _group(members: list[Definition], signed: Collection[str], bounds: Sequence[Scalar]) -> Group:
    all_steps = _steps(members, signed, bounds)
    shared = [i.name for i in members[0].formals]
    for d in members:
        names = [i.name for i in d.formals]
        made_at_once = {"argsort": 1, "inverse": 2}.get(d.head, 0)
        shared = [a for a in shared if a in names[: len(names) - made_at_once]]
    candidates = [(axis, sign) for axis in shared for sign in (1, -1)]
    for axis, sign in candidates:
        if all(s.earlier(axis, sign, False) for s in all_steps):
            left = [s for s in all_steps if not s.earlier(axis, sign, True)]
            placed = _placed(members, left)
            if placed is not None:
                return Group(((axis, sign),), placed)
    order: list[tuple[str, int]] = []
    left = all_steps
    while True:
        placed = _placed(members, left)
        if placed is not None and order:
            return Group(tuple(order), placed)
        free = [(a, s) for a, s in candidates if a not in {x for x, _ in order}]
        usable = [(a, s) for a, s in free if _helps(a, s, left)]
        if not usable:
            raise _blocked(free, left)
        axis, sign = usable[0]
        order.append((axis, sign))
        left = [s for s in left if not s.earlier(axis, sign, True)]


def _helps(axis: str, sign: int, left: Sequence[_Step]) -> bool:
    """Whether nothing is later along the axis, and something is earlier."""
    return all(s.earlier(axis, sign, False) for s in left) and any(s.earlier(axis, sign, True) for s in left)


def _blocked(free: list[tuple[str, int]], left: Sequence[_Step]) -> Unordered:
    """The read to show: one that stands in the way of the axis that comes nearest to an order."""

    def rank(choice: tuple[str, int]) -> tuple[int, int]:
        axis, sign = choice
        return sum(not s.earlier(axis, sign, False) for s in left), free.index(choice)

    for axis, sign in sorted(free, key=rank):
        for s in left:
            if not s.earlier(axis, sign, False):
                return Unordered(s.reader, s.read, False)
    worst = left[0]
    same = bool(free) and all(worst.earlier(a, s, False) and not worst.earlier(a, s, True) for a, s in free)
    return Unordered(worst.reader, worst.read, same)


def _placed(members: Sequence[Definition], left: Sequence[_Step]) -> tuple[Definition, ...] | None:
    """The members so that what may be read at the same position comes first, otherwise as given; None in a circle."""
    needs = {d.tensor: {s.theirs.tensor for s in left if s.reader is d} for d in members}
    placed: list[Definition] = []
    waiting = list(members)
    while waiting:
        have = {d.tensor for d in placed}
        ready = next((d for d in waiting if needs[d.tensor] <= have), None)
        if ready is None:
            return None
        placed.append(ready)
        waiting.remove(ready)
    return tuple(placed)


__all__ = ["Unordered", "components", "grouped"]
