"""Recurrences before they are scheduled: anti-diagonals, and what need not be computed in the loop.

A group runs its ordered axes one index after the other. Two things are decided here, as rewriting of definitions:

- Two ordered axes whose reads all lie on earlier anti-diagonals become one, the anti-diagonal (`skewed`): the table is
  stored by diagonals, and all its entries on one are made together.
- What does not depend on the recurrence itself is made before it, for all rounds at once (`hoisted`): a round is left
  with the operations that really carry from one to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Not,
    Or,
    Param,
    Program,
    Read,
    Scalar,
    Select,
    Size,
    postorder,
)
from lossdsl.ir.rewrite import Fresh, free_indices, map_item, map_scalars, reads, substitute, transform
from lossdsl.lower.cumulative import Cumulative, cumulative
from lossdsl.lower.extent import form, in_range, index, symbols
from lossdsl.lower.products import conjunction, conjuncts
from lossdsl.primitives.record import Dtype

Item = Definition | Group
_VOID: dict[Dtype, Const] = {REAL: Const(0), INT: Const(0, INT), BOOL: Const(0, BOOL)}


def arranged(program: Program, fresh: Fresh, keep: Iterable[str]) -> tuple[Program, list[Cumulative], list[str]]:
    """The program with its groups in the form in which they run, those that are cumulative operations of a library, and
    the decisions. `keep`: returned tensors, whose layout stays."""
    kept = frozenset(keep)
    why: list[str] = []
    body: list[Item] = []
    whole: list[Cumulative] = []
    for item in program.body:
        if isinstance(item, Group) and (found := cumulative(item, fresh)) is not None:
            whole.append(found)
            body += [found.operand, found.definition]
            why.append(f"{_title(item)} is a library's {found.operation} along {found.axis}")
        elif isinstance(item, Group):
            made, reason = skewed(item, fresh)
            why.append(reason)
            body += made
        else:
            body.append(item)
    body = _ordered_first(body, kept)
    dims = {i.name: i.dims for i in program.inputs} | {
        d.tensor: d.dims for i in body for d in (i.definitions if isinstance(i, Group) else (i,))
    }
    winners = {
        d.tensor: d.bound[0].dim
        for d in program.definitions()
        if d.head in ("argmax", "argmin") and len(d.bound) == 1 and d.where is TRUE
    }
    out: list[Item] = []
    for item in body:
        if isinstance(item, Group):
            hoist = _Hoist(item, dims, winners, fresh)
            group = hoist.run()
            out += [*hoist.made, group]
            if hoist.made:
                names = ", ".join(d.tensor for d in hoist.made)
                why.append(
                    f"{_title(group)}: {names} made before the loop for all rounds at once, as nothing in them depends "
                    f"on an earlier round"
                )
        else:
            out.append(item)
    return program.with_body(tuple(out)), whole, why


def _title(group: Group) -> str:
    return f"the recurrence of {', '.join(d.tensor for d in group.definitions)}"


# -------------------------------------------------------------------------------------------------- anti-diagonals


def skewed(group: Group, fresh: Fresh) -> tuple[list[Item], str]:
    """The group over anti-diagonals with the definitions that read the tables back, or the group itself; and why."""
    names = " and ".join(a for a, _ in group.order)
    title = _title(group)
    if len(group.order) == 1:
        way = "last to first" if group.order[0][1] < 0 else "first to last"
        return [group], f"{title} runs along {names} from {way}; everything else of a round is made at once"
    problem = _no_diagonals(group)
    if problem:
        return [group], f"{title} runs along {names} one entry after the other: {problem}"
    (i, sign), (j, _) = group.order
    first = group.definitions[0]
    rows, columns = (next(f for f in first.formals if f.name == a) for a in (i, j))
    taken = {x.name for d in group.definitions for x in (*d.formals, *d.bound)}
    word = "wave"
    while word in taken:
        word += "1"
    wave = index(word, _longer(rows.dim, columns.dim))
    back = Apply("sub", (wave, rows))
    inside = And((Compare(">=", back, Const(0, INT)), Compare("<", back, Size(columns.dim))))
    tables = {d.tensor: fresh(f"{d.tensor}.wave") for d in group.definitions}

    def moved(node: Scalar) -> Scalar:
        def step(n: Scalar) -> Scalar:
            if not isinstance(n, Read) or n.tensor not in tables:
                return n
            d = next(d for d in group.definitions if d.tensor == n.tensor)
            pi, pj = (next(k for k, f in enumerate(d.formals) if f.name == a) for a in (i, j))
            others = tuple(x for k, x in enumerate(n.indices) if k not in (pi, pj))
            away_i, away_j = (form(n.indices[p]).offset.number or 0 for p in (pi, pj))
            return Read(tables[n.tensor], (_shift(wave, away_i + away_j), *others, _shift(rows, away_i)), n.kind)

        return substitute(transform(node, step), {columns: back})

    made: list[Definition] = []
    reading: list[Item] = []
    for d in group.definitions:
        others = tuple(f for f in d.formals if f.name not in (i, j))
        where, body, support = (moved(s) for s in d.scalars())
        void = _VOID[d.dtype]
        if d.head == "map":
            body = Select(inside, body, void)
        else:
            support = conjunction([inside, *conjuncts(support)])
        formals = (wave, *others, rows)
        made.append(replace(d, tensor=tables[d.tensor], formals=formals, where=where, body=body, support=support))
        place = Apply("add", (rows, columns))
        back_read = Read(tables[d.tensor], (place, *others, rows), d.dtype)
        reading.append(replace(d, head="map", bound=(), where=TRUE, support=TRUE, body=back_read))
    reason = f"{title} runs along the anti-diagonals of {names}: every entry reads earlier ones only"
    return [Group(((word, sign),), tuple(made)), *reading], reason


def _longer(a: Dim, b: Dim) -> Dim:
    return a + b - 1


def _shift(i: Scalar, by: int) -> Scalar:
    if by == 0:
        return i
    return Apply("add", (i, Const(by, INT))) if by > 0 else Apply("sub", (i, Const(-by, INT)))


def _no_diagonals(group: Group) -> str:
    """Why the group cannot run by anti-diagonals; "" if it can."""
    if len(group.order) != 2 or group.order[0][1] != group.order[1][1]:
        return "it has not two axes of one direction"
    sign = group.order[0][1]
    names = [a for a, _ in group.order]
    first = group.definitions[0]
    for a in names:
        if not all(any(f.name == a for f in d.formals) for d in group.definitions):
            return f"not all of it has the axis {a}"
    axes = {a: next(f for f in first.formals if f.name == a) for a in names}
    tensors = {d.tensor: d for d in group.definitions}
    for d in group.definitions:
        if any(f.name == a and f is not axes[a] for f in d.formals for a in names):
            return "its members have different extents"
        for read in reads(*d.scalars()):
            source = tensors.get(read.tensor)
            if source is None:
                continue
            back = 0
            apart = False
            for i, f in zip(read.indices, source.formals):
                if f.name not in names:
                    if axes[names[0]] in free_indices(i) or axes[names[1]] in free_indices(i):
                        return f"it reads {read.tensor} across its own axes"
                    continue
                at = form(i)
                offset = at.offset.number
                if at.axes != ((f, 1),) or at.data or offset is None:
                    return f"it reads {read.tensor} at positions that are no constant distance away"
                back -= sign * offset
                apart = apart or offset != 0
            if apart and back < 1:
                return f"it reads {read.tensor} on the same anti-diagonal"
    return ""


# ---------------------------------------------------------------------------------------------------------- layout


def _ordered_first(body: list[Item], keep: frozenset[str]) -> list[Item]:
    """Members that are not returned with their ordered axes first: what a round writes is contiguous."""
    places: dict[str, tuple[int, ...]] = {}
    for item in body:
        if not isinstance(item, Group):
            continue
        names = [a for a, _ in item.order]
        for d in item.definitions:
            fixed = [k for a in names for k, f in enumerate(d.formals) if f.name == a]
            order = (*fixed, *(k for k in range(len(d.formals)) if k not in fixed))
            if d.tensor not in keep and order != tuple(range(len(order))) and d.head not in ("argsort", "inverse"):
                places[d.tensor] = order
    if not places:
        return body
    memo: dict[Scalar, Scalar] = {}

    def step(n: Scalar) -> Scalar:
        if isinstance(n, Read) and n.tensor in places:
            return Read(n.tensor, tuple(n.indices[k] for k in places[n.tensor]), n.kind)
        return n

    def over(d: Definition) -> Definition:
        d = map_scalars(d, lambda s: transform(s, step, memo))
        order = places.get(d.tensor)
        return d if order is None else replace(d, formals=tuple(d.formals[k] for k in order))

    return [map_item(item, over) for item in body]


# -------------------------------------------------------------------------------------------------------- hoisting


@dataclass
class _Hoist:
    """One group: `made` are the definitions that come before it."""

    group: Group
    dims: Mapping[str, tuple[Dim, ...]]
    winners: Mapping[
        str, Dim
    ]  # of tensors that are positions of a largest or smallest entry: the extent they are below
    fresh: Fresh
    made: list[Definition] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.members = {d.tensor for d in self.group.definitions}
        self.ordered = {a for a, _ in self.group.order}
        self.carries: dict[Scalar, bool] = {}
        self.known: dict[tuple[Scalar, tuple[Scalar, ...]], Scalar] = {}

    def run(self) -> Group:
        return replace(self.group, definitions=tuple(self.definition(d) for d in self.group.definitions))

    def definition(self, d: Definition) -> Definition:
        support = self.rewrite(d.support, (), d) if d.support is not TRUE else TRUE
        given = conjuncts(d.support)
        where = self.rewrite(d.where, given, d) if d.where is not TRUE else TRUE
        body = self.rewrite(d.body, (*given, *conjuncts(d.where)), d)
        return replace(d, where=where, body=body, support=support)

    def carried(self, node: Scalar) -> bool:
        """Whether something below reads the recurrence itself."""
        for n in postorder(node):
            if n not in self.carries:
                own = isinstance(n, Read) and n.tensor in self.members
                self.carries[n] = own or any(self.carries[c] for c in n.children)
        return self.carries[node]

    def static(self, node: Scalar) -> bool:
        """Whether it is made of ordered indices and extents alone: a Python number in each round."""
        return all(
            n.name in self.ordered if isinstance(n, Index) else not isinstance(n, Read | Param) for n in postorder(node)
        )

    def rewrite(self, node: Scalar, path: tuple[Scalar, ...], d: Definition) -> Scalar:
        if not self.carried(node):
            return self.before(node, path, d)
        match node:
            case Read():
                return node
            case Select(condition=condition, a=a, b=b):
                parts = conjuncts(condition)
                fixed = [p for p in parts if self.static(p)]
                rest = [p for p in parts if not self.static(p)]
                if fixed and rest:
                    inner = Select(conjunction(rest), a, b)
                    return self.rewrite(Select(conjunction(fixed), inner, b), path, d)
                return Select(
                    self.rewrite(condition, path, d),
                    self.rewrite(a, (*path, *parts), d),
                    self.rewrite(b, (*path, Not(condition)), d),
                )
            case And(args=args) | Or(args=args):
                out: list[Scalar] = []
                for a in args:
                    out.append(self.rewrite(a, path, d))
                    path = (*path, *conjuncts(a)) if isinstance(node, And) else (*path, Not(a))
                return node.rebuild(tuple(out))
        return node.rebuild(tuple(self.rewrite(c, path, d) for c in node.children))

    def before(self, node: Scalar, path: tuple[Scalar, ...], d: Definition) -> Scalar:
        """The node itself if a round may as well read it, else a read of what is made of it before the loop."""
        if isinstance(node, Const | Param | Size | Index) or self.static(node) or self.plain(node):
            return node
        if node.dtype is BOOL and all(self.lane_range(p) for p in conjuncts(node)):
            return node
        # Where it is not read it is 0: it may have no finite value there, nor a finite derivative.
        guards = tuple(p for p in path if not self.carried(p))
        if self.everywhere(node):  # but not where that alone would store it again for each round
            own = {*free_indices(node)}
            guards = tuple(p for p in guards if own.issuperset(free_indices(p)))
            path = guards
        if len(guards) < len(path) and any(not self.safe(r) for r in reads(node)):
            return node
        free = {i for i in free_indices(node, *guards) if isinstance(i, Index)}
        order = [a for a, _ in self.group.order]
        formals = tuple(
            sorted(
                (i for i in (*d.formals, *d.bound) if i in free),
                key=lambda i: order.index(i.name) if i.name in order else len(order),
            )
        )
        if not self.affordable(node, formals):
            match node:
                case Select(condition=condition, a=a, b=b):
                    return Select(
                        self.before(condition, path, d),
                        self.before(a, (*path, *conjuncts(condition)), d),
                        self.before(b, (*path, Not(condition)), d),
                    )
                case Read() | And() | Or():
                    return node
            return node.rebuild(tuple(self.before(c, path, d) for c in node.children))
        key = (node, guards)
        if key not in self.known:
            name = self.fresh(f"{d.tensor}.step")
            body = node if not guards else Select(conjunction(guards), node, _VOID[node.dtype])
            self.made.append(Definition(name, formals, "map", (), TRUE, body, origin=d.origin))
            self.known[key] = Read(name, formals, node.dtype)
        return self.known[key]

    def plain(self, node: Scalar) -> bool:
        """A read whose slice of a round is a view: lanes are indices themselves, each once."""
        if not isinstance(node, Read):
            return False
        lanes: list[Index] = []
        for i in node.indices:
            at = form(i)
            own = [x for x, _ in at.axes if x.name not in self.ordered]
            if at.data or len(own) > 1 or (own and at.plain is None):
                return False
            lanes += own
        return len(set(lanes)) == len(lanes)

    def lane_range(self, p: Scalar) -> bool:
        """A comparison of a lane's position with an extent: it is the range of a shifted read."""
        if not isinstance(p, Compare) or p.op in ("==", "!=") or p.a.dtype is not INT:
            return False
        difference = form(Apply("sub", (p.a, p.b)))
        return not difference.data and len(difference.axes) == 1 and difference.axes[0][0].name not in self.ordered

    def safe(self, read: Read) -> bool:
        dims = self.dims.get(read.tensor)
        return dims is not None and all(in_range(i, n) for i, n in zip(read.indices, dims))

    def everywhere(self, node: Scalar) -> bool:
        """Whether a node is a sum or a product of what can be read at all of its indices, with no guard."""
        for n in postorder(node):
            if isinstance(n, Apply):
                if n.dtype is REAL and n.name not in ("add", "sub", "mul", "neg", "real"):
                    return False
            elif not isinstance(n, Read | Const | Param | Size | Index):
                return False
        present = {i.dim for i in free_indices(node)}
        return all(self.safe(r) or self.winning(r, present) for r in reads(node))

    def winning(self, read: Read, present: set[Dim]) -> bool:
        """Whether the positions of a read that are not in range by themselves are those of a largest or smallest entry,
        of which there is one."""
        dims = self.dims.get(read.tensor)
        if dims is None:
            return False
        for i, n in zip(read.indices, dims):
            won = self.winners.get(i.tensor) if isinstance(i, Read) else None
            if not in_range(i, n) and not (won == n and n in present):
                return False
        return True

    def affordable(self, node: Scalar, formals: tuple[Index, ...]) -> bool:
        """Whether some array that exists anyway grows with all extents of it."""
        mine = symbols(i.dim for i in formals)
        there = [symbols(d.dims) for d in self.group.definitions]
        there += [symbols(self.dims[r.tensor]) for r in reads(node) if r.tensor in self.dims]
        return any(_covers(given, mine) for given in there)


def _covers(given: Counter[str], mine: Counter[str]) -> bool:
    return all(given[s] >= c for s, c in mine.items())
