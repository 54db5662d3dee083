"""Strict convexity of a row, by composition: a sum over all entries of the row of what is strictly convex in each of them,
plus what is convex.

The element reads a row of the input: along some axes one place, its own, along the others all of them. If the sum goes over
all of the latter, two different rows differ in an entry that a term of the sum is strictly convex in.
"""

from __future__ import annotations

from collections.abc import Callable

from lossdsl.ir.nodes import REAL, TRUE, Apply, Definition, Group, Index, Input, Read, Scalar, Select, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.context import Context
from lossdsl.verify.curvature import Curvatures
from lossdsl.verify.labels import NoProblem, reads
from lossdsl.verify.pieces import NotScalar, View, cased, inline
from lossdsl.verify.ranges import Scope
from lossdsl.verify.verdict import Proved, Step

METHOD = "sum over the row of what is strictly convex in each entry"
_ENTRY = Read("$entry", (), REAL)
Curved = Callable[
    [list[View]], list[Step] | str
]  # the steps of a proof that views are strictly convex, or what is open


def row(ctx: Context, target: str, entry: str, curved: Curved) -> Proved | None:
    """A proof that a convex element is strictly convex in the entries of the input that it reads."""
    declared, definition = ctx.program.input(entry), ctx.program.definition(target)
    if declared is None or definition is None or definition.support is not TRUE or ctx.conditions:
        return None
    found = _Row(ctx, declared, definition, curved)
    try:
        if found.strict(Read(target, definition.formals, REAL), found.scope):
            return Proved(METHOD, tuple(found.steps))
    except (NoProblem, NotScalar):
        pass
    return None


class _Row:
    def __init__(self, ctx: Context, entry: Input, target: Definition, curved: Curved) -> None:
        self.ctx, self.entry, self.target, self.curved = ctx, entry, target, curved
        self.plain = {d.tensor: d for d in ctx.program.body if not isinstance(d, Group)}
        ranges = ctx.ranges((entry.name,))
        self.box = ranges.input(entry.name)
        self.nonempty = frozenset((*entry.dims, *target.dims))  # else there are no two rows, or no element
        self.scope: Scope = ranges.scope(self.nonempty)
        self.ranges = ranges
        self.rules = Curvatures(ctx.program, ranges, (entry.name,), ctx.budget)
        self.steps: list[Step] = []

    def strict(self, n: Scalar, scope: Scope) -> bool:
        """Whether the scalar, in the element's own indices, is strictly convex in the row. Raises NoProblem, NotScalar."""
        match n:
            case Read() if n.tensor in self.plain:
                return self._definition(self.plain[n.tensor], n, scope)
            case Select() if not self.rules.varies(n.condition):
                branches = ((n.a, scope.under(n.condition, True)), (n.b, scope.under(n.condition, False)))
                return all(inner is None or self.strict(branch, inner) for branch, inner in branches)
            case Apply(name="add"):
                a, b = n.args
                return any(self.rules.node(y, scope).convex and self.strict(x, scope) for x, y in ((a, b), (b, a)))
            case Apply(name="sub"):
                return self.rules.node(n.args[1], scope).concave and self.strict(n.args[0], scope)
            case Apply(name="mul"):
                a, b = n.args
                return any(
                    not self.rules.varies(y) and scope[y].positive and self.strict(x, scope)
                    for x, y in ((a, b), (b, a))
                )
            case Apply(name="div"):
                a, b = n.args
                return not self.rules.varies(b) and scope[b].positive and scope[b].finite and self.strict(a, scope)
        return False

    def _definition(self, d: Definition, at: Read, scope: Scope) -> bool:
        if d.support is not TRUE or d.where is not TRUE or d.head not in ("map", "sum"):
            return False
        fresh = [Index(f"${d.tensor}.{i.name}", i.dim) for i in d.bound]
        mapping: dict[Scalar, Scalar] = dict(zip((*d.formals, *d.bound), (*at.indices, *fresh), strict=True))
        body = substitute(d.body, mapping)
        return self.strict(body, scope) if d.head == "map" else self._sum(d, body, set(fresh))

    def _sum(self, d: Definition, body: Scalar, bound: set[Index]) -> bool:
        whole = inline(self.ctx.program, body)
        own = {n for n in postorder(whole) if isinstance(n, Read) and n.tensor == self.entry.name}
        if len(own) != 1 or not self._covered(next(iter(own)), bound):
            return False
        scalar = substitute(whole, dict.fromkeys(own, _ENTRY))
        if self.rules.varies(scalar):
            return False
        views = cased(self.ctx.program, self.ranges, self.nonempty, scalar, _ENTRY, {_ENTRY: self.box})
        found = self.curved(views)
        if isinstance(found, str):
            return False
        self.steps += [*found, Step("sum over all entries of the row", d.tensor, "strictly convex")]
        return True

    def _covered(self, read: Read, bound: set[Index]) -> bool:
        """Whether the sum goes over all entries of the input that the element reads, each of them once."""
        indices = [i for i in read.indices if isinstance(i, Index)]
        if len(set(indices)) != len(self.entry.dims) or not bound <= set(indices):
            return False
        if any(i.dim != dim for i, dim in zip(indices, self.entry.dims, strict=True)):
            return False
        fixed = {k: i for k, i in enumerate(indices) if i not in bound}
        if not all(i in self.target.formals for i in fixed.values()):
            return False
        everything = reads(self.ctx.program, Read(self.target.tensor, self.target.formals, REAL), self.entry.name)
        return all(r.indices[k] is i for r in everything for k, i in fixed.items())


__all__ = ["row"]
