"""Counted operations of a program: the measure by which a gradient is held to six times its loss.

Each distinct Apply, Compare and Select of a definition's condition, body and support counts 1 at every point of those
indices along which it varies, and once in all maps, as in the body of a kernel of a Plan. A fold step counts 1 at every
point, and one of a logsumexp has an exponential too; a sort counts n log2 n, a library call its flops. A selection
`sum b where data[b] == formal` is a scatter: only the bound points are visited, whatever the extent of the formal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil, log2

from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import INT, Definition, Index, Program, Scalar
from lossdsl.ir.rewrite import free_indices


def count(program: Program, extents: Mapping[str, int]) -> int:
    """Counted operations of the whole program for extents of all symbols (integer parameters included)."""
    seen: set[Scalar] = set()
    return sum(cost(d, extents, seen) for d in program.definitions())


def cost(d: Definition, extents: Mapping[str, int], seen: set[Scalar] | None = None) -> int:
    """Counted operations of one definition; see the module. `seen` has what earlier maps compute, and is added to."""

    def points(indices: Iterable[Index]) -> int:
        total = 1
        for i in indices:
            total *= i.dim.evaluate(extents)
        return total

    if d.head == "argsort":
        rows, n = points(d.formals[:-1]), points(d.bound)
        return _spread(points, (*d.formals[:-1], *d.bound), d.body, d.where) + rows * ceil(n * log2(n) if n > 1 else n)
    if d.head in ("inverse", "logdet"):
        n = d.bound[0].dim.evaluate(extents)
        outer = d.formals[:-2] if d.head == "inverse" else d.formals
        flops = 2 * n**3 if d.head == "inverse" else (2 * n**3 + 2) // 3
        return _spread(points, (*outer, *d.bound), d.body) + points(outer) * flops
    selected = {i for c in conjuncts(d.where) if (i := _selected(c, d)) is not None}
    visited = (*(i for i in d.formals if i not in selected), *d.bound)
    fold = 0 if d.head == "map" else points(visited)
    if d.head == "logsumexp":  # log(sum(exp(x))), which is the same however it is written
        fold += points(visited) + points(d.formals)
    before = seen if d.head == "map" else None
    return _spread(points, visited, d.body, d.where, seen=before) + fold + _spread(points, d.formals, d.support)


def _spread(
    points: Callable[[Iterable[Index]], int],
    space: tuple[Index, ...],
    *roots: Scalar,
    seen: set[Scalar] | None = None,
) -> int:
    """Operations below the roots that are not seen yet, each at the points of those indices along which it varies."""
    varies: dict[Scalar, frozenset[Index]] = {}
    total = 0
    for node in ir.postorder(*roots):
        along = frozenset[Index]().union(*(varies[c] for c in node.children))
        if isinstance(node, Index):  # one that a selection determines moves with all that is visited
            along = frozenset((node,)) if node in space else frozenset(space)
        varies[node] = along
        if isinstance(node, ir.Apply | ir.Compare | ir.Select) and (seen is None or node not in seen):
            total += points(along)
    if seen is not None:
        seen.update(varies)
    return total


def conjuncts(condition: Scalar) -> list[Scalar]:
    """The operands of a conjunction, nested ones included, from left to right."""
    if isinstance(condition, ir.And):
        return [c for a in condition.args for c in conjuncts(a)]
    return [condition]


def _selected(condition: Scalar, d: Definition) -> Index | None:
    """The formal that the condition equates with something of the bound indices, if it is such an equation."""
    if not isinstance(condition, ir.Compare) or condition.op != "==" or condition.a.dtype is not INT:
        return None
    for a, b in ((condition.a, condition.b), (condition.b, condition.a)):
        if isinstance(a, Index) and a in d.formals:
            inside = free_indices(b)
            if a not in inside and any(i in d.bound for i in inside):
                return a
    return None


def operations(*roots: Scalar) -> int:
    """Distinct Apply, Compare and Select nodes below the roots."""
    return sum(isinstance(node, ir.Apply | ir.Compare | ir.Select) for node in ir.postorder(*roots))
