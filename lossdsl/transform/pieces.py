"""Indices that are affine piece by piece: `x[edge(h + 1)]` is `x[0]`, `x[h + 1]` or `x[n - 1]`, each under a condition.

An adjoint that asks which index makes such a read hit one place can solve the question in each piece, and only there.
"""

from __future__ import annotations

from lossdsl.ir.nodes import INT, Param, Read, Scalar, Select, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.transform.arithmetic import conjuncts, negation

LIMIT = 64  # pieces of one read; with more of them it stays as it is

Piece = tuple[tuple[Scalar, ...], tuple[Scalar, ...]]


def index_pieces(indices: tuple[Scalar, ...]) -> list[Piece]:
    """(conditions, indices) of all pieces, disjoint and together everything; no data decides which one it is."""
    done: list[Piece] = []
    open_: list[Piece] = [((), indices)]
    while open_:
        conditions, at = open_.pop()
        choice = _choice(at)
        if choice is None:
            done.append((conditions, at))
        else:
            for condition, branch in ((negation(choice.condition), choice.b), (choice.condition, choice.a)):
                taken = tuple(substitute(i, {choice: branch}) for i in at)
                open_.append(((*conditions, *conjuncts(condition)), taken))
        if len(open_) + len(done) > LIMIT:
            return [((), indices)]
    return done


def _choice(indices: tuple[Scalar, ...]) -> Select | None:
    """The first choice among integers that positions and extents alone decide, an outer one before those in it."""
    for node in reversed(list(postorder(*indices))):
        if isinstance(node, Select) and node.dtype is INT:
            if not any(isinstance(n, Read | Param) for n in postorder(node)):
                return node
    return None


__all__ = ["index_pieces"]
