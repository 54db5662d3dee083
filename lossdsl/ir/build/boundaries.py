"""Boundaries of an access: `edge(i)`, `reflect(i)`, `wrap(i)` map an index into a range, as numpy's padding modes do.

An index is mapped once; what is outside even then (a window larger than the tensor) is the nearest end. The result is
made of affine pieces under conditions, so that a derivative can solve for the index in each of them.
"""

from __future__ import annotations

from lossdsl.dim import Dim
from lossdsl.ir.build.affine import Affine, affine, to_scalar
from lossdsl.ir.nodes import Compare, Scalar, Select
from lossdsl.syntax import tree

BOUNDARIES = ("edge", "reflect", "wrap")


def mapped(kind: str, index: Scalar, lower: Dim, upper: Dim) -> Scalar:
    """The index in lower <= k < upper that `kind(index)` stands for; the range must not be empty."""
    first, last = to_scalar(Affine({}, lower)), to_scalar(Affine({}, upper - 1))
    form = affine(index)
    here = to_scalar(form)
    below: Scalar = first
    above: Scalar = last
    if kind in ("reflect", "wrap"):
        nothing = Affine({}, Dim.const(0))
        if kind == "reflect":
            up = to_scalar(nothing.plus(form, -1).shifted(lower * 2))
            down = to_scalar(nothing.plus(form, -1).shifted((upper - 1) * 2))
        else:
            up, down = to_scalar(form.shifted(upper - lower)), to_scalar(form.shifted(lower - upper))
        far = Compare("<=", up, last) if kind == "reflect" else Compare(">=", up, first)
        below = Select(far, up, last if kind == "reflect" else first)
        near = Compare(">=", down, first) if kind == "reflect" else Compare("<=", down, last)
        above = Select(near, down, first if kind == "reflect" else last)
    return Select(Compare("<", here, first), below, Select(Compare(">", here, last), above, here))


def boundary(node: tree.Expr) -> tree.Call | None:
    """The call if an index is written as `edge(...)`, `reflect(...)` or `wrap(...)`."""
    if isinstance(node, tree.Call) and node.function in BOUNDARIES:
        return node
    return None


__all__ = ["BOUNDARIES", "boundary", "mapped"]
