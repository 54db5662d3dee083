"""Arrays that are asked for at sums of indices: made once for each sum, not once for each pair of them.

What is reduced inside of an access (`blur(half(x))`, where `blur` reads its argument at `h + i`) is written as an array
over `h` and over `i`, though all that it depends on is `h + i`. It becomes an array over one index, read at the sum; and
one that is a part of an earlier one, alike but for its extents, is read from that. So what stands inside of an access
costs no more than what has a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from math import gcd

from lossdsl.dim import Dim
from lossdsl.ir.nodes import INT, TRUE, Compare, Definition, Group, Index, Program, Read, Scalar
from lossdsl.ir.ranges import in_range
from lossdsl.ir.rewrite import (
    free_indices,
    fresh_index,
    map_item,
    map_scalars,
    reads,
    rename_indices,
    roots,
    substitute,
    topological,
    transform,
)
from lossdsl.transform.affine import Affine, affine, expression

Item = Definition | Group
Sizes = Mapping[str, tuple[Dim, ...]]


@dataclass(frozen=True)
class _Moved:
    """An array that is read from `tensor`, at positions that are expressions in the indices that it had."""

    formals: tuple[Index, ...]
    tensor: str
    at: tuple[Scalar, ...]


def positions(program: Program) -> Program:
    """The program with such arrays over fewer indices; the program itself where there are none."""
    kept = {*roots(program)}
    dims = {i.name: i.dims for i in program.inputs} | {d.tensor: d.dims for d in program.definitions()}
    moved: dict[str, _Moved] = {}
    seen: list[Definition] = []
    body: list[Item] = []
    for item in program.body:
        item = map_item(item, lambda d: map_scalars(d, lambda s: _redirected(s, moved)))
        if isinstance(item, Definition) and item.head != "map" and item.tensor not in kept:
            made, at = _merged(item, dims)
            if made is not item:
                whole = next((e for e in seen if _part_of(made, e)), made)
                moved[item.tensor] = _Moved(item.formals, whole.tensor, at)
                if whole is not made:
                    continue
                dims[made.tensor] = made.dims
            item = made
            seen.append(made)
        body.append(item)
    return program.with_body(topological(body)) if moved else program


def _redirected(root: Scalar, moved: Mapping[str, _Moved]) -> Scalar:
    """Reads of what has moved, where it is now."""

    def step(n: Scalar) -> Scalar:
        if not isinstance(n, Read) or n.tensor not in moved:
            return n
        there = moved[n.tensor]
        swap: dict[Scalar, Scalar] = dict(zip(there.formals, n.indices))
        return Read(there.tensor, tuple(_tidy(substitute(e, swap)) for e in there.at), n.kind)

    return transform(root, step) if moved else root


def _tidy(index: Scalar) -> Scalar:
    return index if isinstance(index, Index | Read) else expression(affine(index))


def _merged(d: Definition, dims: Sizes) -> tuple[Definition, tuple[Scalar, ...]]:
    """A reduction over as few indices as it depends on, and its positions in terms of those that it had."""
    at: dict[Index, Scalar] = {f: f for f in d.formals}
    while True:
        pairs = (_pair(d, a, b, dims) for a, b in permutations(d.formals, 2) if d.formals.index(a) < d.formals.index(b))
        found = next((p for p in pairs if p is not None), None)
        if found is None:
            return d, tuple(at[f] for f in d.formals)
        d, a, b, both, steps = found
        whole = affine(at[a]).times(Dim.const(steps[0])) + affine(at[b]).times(Dim.const(steps[1]))
        at[both] = expression(whole)


def _pair(
    d: Definition, a: Index, b: Index, dims: Sizes
) -> tuple[Definition, Index, Index, Index, tuple[int, int]] | None:
    """The definition over one index in place of two that occur in it as one sum only; which two, the one, its steps."""
    steps = _steps(d, a, b)
    if steps is None:
        return None
    p, q = steps
    name = fresh_index(a, (*d.formals, *d.bound)).name
    both = _index(name, a.dim * p + b.dim * q - (p + q - 1))
    formals = tuple(both if f is a else f for f in d.formals if f is not b)

    def summed(index: Scalar) -> Scalar:
        form = affine(index)
        of_a, of_b = (form.atoms.get(x, Dim(())).number for x in (a, b))
        if not of_a or of_b is None or of_a % p or of_a // p * q != of_b:
            return index
        rest = {x: c for x, c in form.atoms.items() if x is not a and x is not b}
        return expression(Affine({both: Dim.const(of_a // p), **rest}, form.offset))

    def step(n: Scalar) -> Scalar:
        if isinstance(n, Read):
            return Read(n.tensor, tuple(summed(i) for i in n.indices), n.kind)
        if isinstance(n, Compare) and n.a.dtype is INT:
            return Compare(n.op, summed(n.a), summed(n.b))
        return n

    made = replace(map_scalars(d, lambda s: transform(s, step)), formals=formals)
    if {a, b} & {*free_indices(*made.scalars())}:
        return None
    there = (*made.formals, *made.bound)
    safe = all(in_range(i, n, there) for r in reads(*made.scalars()) for i, n in zip(r.indices, dims[r.tensor]))
    return (made, a, b, both, steps) if safe else None


def _index(name: str, dim: Dim) -> Index:
    made = Index(name, dim)
    assert isinstance(made, Index)
    return made


def _steps(d: Definition, a: Index, b: Index) -> tuple[int, int] | None:
    """(p, q) without a common factor so that the first position that depends on both is a multiple of p a + q b."""
    if d.support is not TRUE:
        return None
    for r in reads(*d.scalars()):
        for i in r.indices:
            form = affine(i)
            of_a, of_b = (form.atoms.get(x, Dim(())).number for x in (a, b))
            if of_a or of_b:
                if not of_a or not of_b or of_a < 0 or of_b < 0:
                    return None
                common = gcd(of_a, of_b)
                return of_a // common, of_b // common
    return None


def _part_of(d: Definition, whole: Definition) -> bool:
    """Whether a definition is another, up to its extents, and those are no larger."""
    same = d.head == whole.head and d.dtype is whole.dtype and len(d.formals) == len(whole.formals)
    if not same or tuple(i.dim for i in d.bound) != tuple(i.dim for i in whole.bound):
        return False
    pairs = [*zip(whole.formals, d.formals), *zip(whole.bound, d.bound)]
    if rename_indices(whole, dict(pairs)).scalars() != d.scalars():
        return False
    return all(in_range(mine, theirs.dim, d.formals) for theirs, mine in pairs[: len(d.formals)])


__all__ = ["positions"]
