"""Preparation for derivatives: what several terms or entries share is a definition of its own.

    s[n, c] = sum d . x[n, d] / r[n] * y[c, d]       becomes       q[n, d] = x[n, d] / r[n]
                                                                  s[n, c] = sum d . q[n, d] * y[c, d]

Reverse mode then sums the cotangents of a shared value first and goes through its derivative once, instead of through
it in every term: `q'[n, d] = sum c . s'[n, c] * y[c, d]` is a product of matrices, and the adjoints of `x` and `r`
follow from it over n and d alone. In the same way a difference of neighbours inside of a long formula gets a cotangent
of its own: `x'[h] = g[h - 1] - g[h]`, instead of the derivative of the formula at both places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lossdsl.ir.cost import operations
from lossdsl.ir.nodes import REAL, TRUE, AdjointMap, Apply, Definition, Group, Program, Read, Scalar, postorder
from lossdsl.ir.rewrite import Fresh, canonical, free_indices, members, substitute
from lossdsl.transform.eliminate import Facts, readable
from lossdsl.transform.scalar import depends

_FOLDS = ("sum", "logsumexp", "max", "min", "prod")
_LONG = 5  # operations beside those of a difference
_LINEAR = frozenset({"add", "sub", "mul", "neg"})  # in each operand


def split_invariants(program: Program, active: set[str], facts: Facts) -> Program:
    """The same program with every active part of a fold's body that does not vary along all of its indices named.

    Only parts that can be read everywhere are taken, so that no condition of the fold is lost, and only those with a
    derivative worth naming: a multiple of one read costs no more in every term.
    """
    names = Fresh.of(program)
    known: dict[object, str] = {}
    body: list[Definition | Group] = []
    for item in program.body:
        if isinstance(item, Definition) and item.head in ("map", *_FOLDS) and item.tensor in active:
            body += _split(item, names, known, facts, lambda r: r.tensor in active)
        else:
            body.append(item)
        for d in members(item):
            facts.dims[d.tensor] = d.dims
    return program.with_body(tuple(body))


def _split(
    d: Definition, names: Fresh, known: dict[object, str], facts: Facts, active: Callable[[Read], bool]
) -> list[Definition]:
    every = (*d.formals, *d.bound)
    made: list[Definition] = []
    reads: dict[Scalar, Scalar] = {}
    stack = [d.body]
    seen: set[Scalar] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Apply) and node.dtype is REAL and depends(node, active):
            inside = free_indices(node)
            axes = tuple(i for i in every if i in inside)
            shared = d.head != "map" and len(axes) < len(every) and _worth(node, active)
            if (shared or _neighbours(node, d, active)) and readable(node, facts) and not _mapped(node):
                part = Definition("", axes, "map", (), TRUE, node, origin=d.origin)
                key = canonical(part)
                if key not in known:
                    known[key] = names(f"{d.tensor}.part")
                    made.append(replace(part, tensor=known[key]))
                    facts.dims[known[key]] = part.dims
                reads[node] = Read(known[key], axes, REAL)
                continue
        stack.extend(c for c in reversed(node.children) if c.dtype is REAL)
    return [*made, replace(d, body=substitute(d.body, reads))] if reads else [d]


def _neighbours(node: Apply, d: Definition, active: Callable[[Read], bool]) -> bool:
    """True for a linear combination of entries of one tensor, in a formula that is much longer than it."""
    if node.name not in _LINEAR or operations(d.body) < operations(node) + _LONG:
        return False
    found: dict[Read, None] = {}
    stack: list[Scalar] = [node]
    while stack:
        n = stack.pop()
        if isinstance(n, Read):
            found[n] = None
            continue
        varying = [a for a in n.children if depends(a, active)]
        if not (isinstance(n, Apply) and n.name in _LINEAR) or (n.name == "mul" and len(varying) > 1):
            return False
        stack += varying
    if len(found) < 2 or len({r.tensor for r in found}) > 1:
        return False
    places = [set(at) for at in zip(*(r.indices for r in found), strict=True)]
    return all(len(at) == 1 or all(free_indices(i) for i in at) for at in places)


def _mapped(node: Scalar) -> bool:
    """True if a cotangent is changed in it: that of each term is, not that of their sum."""
    return any(isinstance(n, AdjointMap) for n in postorder(node))


def _worth(node: Scalar, active: Callable[[Read], bool]) -> bool:
    """True if it joins two active reads, or an operation stands in it that is not linear in its active operands."""
    found: set[Scalar] = set()
    stack = [node]
    while stack:
        n = stack.pop()
        if not depends(n, active):
            continue
        if isinstance(n, Read):
            found.add(n)
        varying = [a for a in n.children if a.dtype is REAL and depends(a, active)]
        linear = isinstance(n, Read) or (isinstance(n, Apply) and n.name in _LINEAR)
        if len(found) > 1 or not (linear or (isinstance(n, Apply) and n.name == "div" and varying == [n.args[0]])):
            return True
        stack += varying
    return False


__all__ = ["split_invariants"]
