"""Values at a rank: the k-th smallest of a row, or its largest, as a read at the place of which an order or an extremum tells.

Whatever place it is at, its value moves no more than the entry that moves most: it is continuous, and the same for a row in
another order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossdsl.ir.nodes import REAL, Apply, Definition, Index, Read, Scalar, postorder
from lossdsl.ir.rewrite import fresh_index, substitute

if TYPE_CHECKING:
    from lossdsl.certificate.bounds import Bounds

RANKING = ("argsort", "argmax", "argmin")


def ranked(bounds: Bounds, n: Scalar) -> int | None:
    """The position of the index of a read that is the place of a rank, among all values of the tensor along that axis."""
    if not isinstance(n, Read) or n.dtype is not REAL:
        return None
    for k, place in enumerate(n.indices):
        d = bounds.fold(place, RANKING)
        if d is not None and len(d.bound) == 1 and d.bound[0].dim == _dims(bounds, n)[k] and _is_of(d, place, n, k):
            return k
    return None


def _dims(bounds: Bounds, n: Read) -> tuple[object, ...]:
    d = bounds.definitions.get(n.tensor)
    return bounds.inputs[n.tensor].dims if d is None else d.dims


def _is_of(d: Definition, place: Scalar, n: Read, k: int) -> bool:
    """Whether what is ordered is the tensor itself, or minus it, along the axis."""
    assert isinstance(place, Read)
    formals = d.formals[:-1] if d.head == "argsort" else d.formals  # the rank is the last
    if any(i in postorder(d.body) for i in d.formals if i not in formals):
        return False
    j = fresh_index(d.bound[0], [i for i in postorder(n, d.body) if isinstance(i, Index)])
    at: dict[Scalar, Scalar] = {**dict(zip(formals, place.indices, strict=False)), d.bound[0]: j}
    element, own = substitute(d.body, at), Read(n.tensor, (*n.indices[:k], j, *n.indices[k + 1 :]), REAL)
    return element is own or element is Apply("neg", (own,))


__all__ = ["RANKING", "ranked"]
