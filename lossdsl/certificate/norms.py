"""Sizes of rows: a sum of products is at most the product of the two norms (Cauchy and Schwarz), an entry at most its norm."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossdsl.ir.nodes import TRUE, Apply, Const, Definition, Index, Read, Scalar, Select, postorder
from lossdsl.ir.rewrite import substitute, transform
from lossdsl.verify.operations import truth

if TYPE_CHECKING:
    from lossdsl.certificate.bounds import Bounds, Case

_NODES = 300


def is_share(case: Case, top: Scalar, below: Scalar, still: Callable[[Scalar], bool] | None = None) -> bool:
    """Whether a scalar is at most another one, which is positive, in size: an entry, and at least the norm of its row; a sum of
    products, and at least the product of the norms of what is multiplied. `still`: or at most a multiple of it, by a number that
    is made of such scalars alone."""
    bounds = case.bounds
    norm, entry = (_taken(case, inlined(bounds, n)) for n in (below, top))
    if norm is None or entry is None:
        return False
    if _Rows(case, (), still).norm(norm, entry):
        return True
    d = bounds.fold(top, ("sum",))
    if d is None or not isinstance(top, Read):
        return False
    body = _taken(_anywhere(case), inlined(bounds, substitute(d.body, dict(zip(d.formals, top.indices, strict=True)))))
    if not isinstance(body, Apply) or body.name != "mul":
        return False
    if any(i in d.bound for place in top.indices for i in (place, *place.free)):
        return False
    return _Rows(case, d.bound, still).product(norm, *body.args)


def is_cosine(case: Case, d: Definition) -> bool:
    """Whether a sum is one of products of two rows, each divided by what is positive and at least its norm."""
    body = _taken(_anywhere(case), inlined(case.bounds, d.body))
    if d.where is not TRUE or not isinstance(body, Apply) or body.name != "mul":
        return False
    rows = _Rows(case, d.bound)
    for part in body.args:
        if not isinstance(part, Apply) or part.name != "div":
            return False
        row, below = part.args
        if not case[below].positive or not case[below].finite or not case[row].finite or not rows.norm(below, row):
            return False
    return True


def is_in_row(case: Case, entry: Scalar, total: Scalar) -> bool:
    """Whether a sum is one of squares, that of an entry among them."""
    return _Rows(case, ()).squares(total, entry)


def inlined(bounds: Bounds, node: Scalar) -> Scalar | None:
    """The scalar with elements that are no folds put in; None if it is too large."""
    memo: dict[Scalar, Scalar] = {}
    left = [_NODES]

    def step(n: Scalar) -> Scalar:
        d = bounds.definitions.get(n.tensor) if isinstance(n, Read) else None
        plain = d is not None and d.head == "map" and d.support is TRUE and d.tensor not in bounds.recurrent
        if d is None or not plain or not isinstance(n, Read) or left[0] <= 0:
            return n
        left[0] -= 1
        return transform(substitute(d.body, dict(zip(d.formals, n.indices, strict=True))), step, memo)

    found = transform(node, step, memo)
    return found if left[0] > 0 and sum(1 for _ in postorder(found)) <= _NODES else None


def _anywhere(case: Case) -> Case:
    """With what is known of extents alone, which holds along a whole row."""
    return case.bounds.case(case.some, {}, case.split)


def resolved(case: Case, node: Scalar) -> Scalar | None:
    """The scalar with elements that are no folds put in, and the branches that are taken."""
    return _taken(case, inlined(case.bounds, node))


def _taken(case: Case, node: Scalar | None) -> Scalar | None:
    """With the branches that are taken in any event."""

    def step(n: Scalar) -> Scalar:
        holds = truth(case[n.condition]) if isinstance(n, Select) else None
        return n if holds is None or not isinstance(n, Select) else n.a if holds else n.b

    return None if node is None else transform(node, step)


@dataclass(frozen=True)
class _Rows:
    """Rows over some bound indices, or entries of rows for none, where scalars are as in a case. `still`: scalars that are one
    number, of which a positive one that divides or multiplies the squares does not matter."""

    case: Case
    bound: tuple[Index, ...]
    still: Callable[[Scalar], bool] | None = None

    def product(self, n: Scalar, a: Scalar, b: Scalar) -> bool:
        """Whether `n`, which is not negative, is at least the product of the norms of two rows."""
        if not isinstance(n, Apply):
            return False
        match n.name:
            case "max2":
                return any(self.product(k, a, b) for k in n.args)
            case "add":
                return any(self.product(k, a, b) and self._not_negative(rest) for k, rest in ways(n.args))
            case "mul":
                return any(self.norm(k, a) and self.norm(rest, b) for k, rest in ways(n.args))
            case "sqrt":
                return self._product_of_squares(n.args[0], a, b)
        return False

    def _product_of_squares(self, n: Scalar, a: Scalar, b: Scalar) -> bool:
        """Whether `n` is at least the product of the sums of the squares of two rows."""
        if not isinstance(n, Apply):
            return False
        if n.name == "add":
            return any(self._product_of_squares(k, a, b) and self._not_negative(rest) for k, rest in ways(n.args))
        return n.name == "mul" and any(self.squares(k, a) and self.squares(rest, b) for k, rest in ways(n.args))

    def norm(self, n: Scalar, row: Scalar) -> bool:
        """Whether `n` is at least the norm of a row."""
        if not isinstance(n, Apply):
            return False
        match n.name:
            case "max2":
                return any(self.norm(k, row) for k in n.args)
            case "add":
                return any(self.norm(k, row) and self._not_negative(rest) for k, rest in ways(n.args))
            case "sqrt":
                return self.squares(n.args[0], row)
        return False

    def squares(self, n: Scalar, row: Scalar) -> bool:
        """Whether `n` is at least the sum of the squares of a row."""
        if isinstance(n, Apply) and n.name == "max2":
            return any(self.squares(k, row) for k in n.args)
        if isinstance(n, Apply) and n.name == "add":
            return any(self.squares(k, row) and self._not_negative(rest) for k, rest in ways(n.args))
        if isinstance(n, Apply) and n.name in ("mul", "div"):
            parts = ways(n.args) if n.name == "mul" else ((n.args[0], n.args[1]),)
            return any(self._is_factor(rest) and self.squares(k, row) for k, rest in parts)
        d = self.case.bounds.fold(n, ("sum",))
        if d is None or not isinstance(n, Read):
            return False
        if any(i in (*d.bound, *self.bound) for place in n.indices for i in (place, *place.free)):
            return False
        return any(self._is_root(d, n, places, row) for places in self._places(d, row))

    def _places(self, d: Definition, row: Scalar) -> Iterator[tuple[Scalar, ...]]:
        """Where an entry of the row may be: at the bound indices, or at places of the axes."""
        if self.bound:
            yield from [self.bound] if [i.dim for i in d.bound] == [i.dim for i in self.bound] else []
            return
        read = dict.fromkeys(p for n in postorder(row) if isinstance(n, Read) for p in n.indices)
        names = self.case.bounds.names
        yield from itertools.product(*([p for p in read if names(p, i.dim, (row,))] for i in d.bound))

    def _is_root(self, d: Definition, n: Read, places: tuple[Scalar, ...], row: Scalar) -> bool:
        if not self.bound and not self.case.bounds.body(d)[d.body].nonnegative:  # other entries may be no squares
            return False
        at: dict[Scalar, Scalar] = {**dict(zip(d.formals, n.indices)), **dict(zip(d.bound, places))}
        case = _anywhere(self.case) if self.bound else self.case
        root = root_of(_taken(case, inlined(case.bounds, substitute(d.body, at))))
        return root is not None and root is row

    def _is_factor(self, n: Scalar) -> bool:
        if self.still is None or not self.still(n):
            return False
        box = self.case.inside(n)[n]
        return box.positive and box.finite

    def _not_negative(self, n: Scalar) -> bool:
        return self.case.inside(n)[n].nonnegative


def ways(args: Sequence[Scalar]) -> tuple[tuple[Scalar, Scalar], tuple[Scalar, Scalar]]:
    """Two arguments in both orders."""
    a, b = args
    return (a, b), (b, a)


def root_of(n: Scalar | None) -> Scalar | None:
    """Of what it is the square."""
    if not isinstance(n, Apply) or n.name not in ("mul", "pow", "powi"):
        return None
    base, other = n.args
    square = base is other if n.name == "mul" else isinstance(other, Const) and other.value == 2
    return base if square else None


__all__ = ["inlined", "is_cosine", "is_in_row", "is_share", "resolved", "root_of", "ways"]
