"""Whether a tensor stays what it is when one input is permuted along an axis.

A permutation pi of the entries of `x` along an axis carries through a definition if every index variable either stays
or runs through pi. An integer is then *plain* (its value stays) or a *position* (its value goes through the inverse of
pi, as a permuted index variable itself does). Reads take a position where the tensor is permuted and a plain index
where it is not; positions may be compared for equality, and do nothing else. A reduction over the whole permuted axis
stays if its head is symmetric.
"""

from __future__ import annotations

import itertools

from lossdsl.dim import Dim
from lossdsl.ir.nodes import TRUE, Apply, Compare, Definition, Index, Input, Program, Read, Scalar
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.show import text

_SYMMETRIC = frozenset({"sum", "prod", "max", "min", "logsumexp", "any", "all", "count"})
_SORTING = frozenset({"argsort", "argmax", "argmin"})

Moving = frozenset[Index]  # the index variables that run through the permutation


class NotSymmetric(Exception):
    """No rule carries the permutation through; the message is the smallest expression in the way."""


class Permutation:
    """What permuting `entry` along its position `along` does to the tensors of a program."""

    def __init__(self, program: Program, entry: Input, along: int) -> None:
        self._entry, self._along = entry, along
        self._dim: Dim = entry.dims[along]
        self._definitions = {d.tensor: d for d in program.definitions()}
        # Tensors shown (or, while a recurrence is open, assumed by induction) to follow at these formals.
        self._follows: dict[tuple[str, tuple[bool, ...]], bool] = {}
        self._trail: list[tuple[str, tuple[bool, ...]]] = []
        self.blocker = ""

    def stays(self, tensor: str) -> bool:
        """Whether every element of the tensor stays; `blocker` says what is in the way if not."""
        return self._tensor(tensor, (False,) * len(self._definitions[tensor].formals))

    def followed(self, name: str) -> list[tuple[bool, ...]]:
        """At which formals the tensor was shown to go with the permutation, for each way in which it is read."""
        return [moved for (tensor, moved), follows in self._follows.items() if tensor == name and follows]

    def _tensor(self, name: str, moved: tuple[bool, ...]) -> bool:
        """Whether `name[i]` becomes `name[j]`, where j is i with pi at the formals in `moved`."""
        if name == self._entry.name:
            return moved == tuple(k == self._along for k in range(len(moved)))
        d = self._definitions.get(name)
        if d is None:
            return not any(moved)
        if any(m and i.dim != self._dim for m, i in zip(moved, d.formals, strict=True)):
            return False
        key = (name, moved)
        if key not in self._follows:
            start = len(self._trail)
            self._follows[key] = True
            self._trail.append(key)
            if not self._definition(d, moved):
                for assumed in self._trail[start:]:  # what was concluded from the hypothesis goes with it
                    del self._follows[assumed]
                del self._trail[start:]
                self._follows[key] = False
        return self._follows[key]

    def _definition(self, d: Definition, moved: tuple[bool, ...]) -> bool:
        outer = frozenset(i for m, i in zip(moved, d.formals, strict=True) if m)
        able = [i for i in d.bound if i.dim == self._dim] if d.head in _SYMMETRIC else []
        if d.head in ("inverse", "argsort") and not outer <= frozenset(d.formals[: self._kept(d)]):
            return False
        for size in range(len(able) + 1):
            for chosen in itertools.combinations(able, size):
                if self._holds(d, outer | frozenset(chosen)):
                    return True
        return False

    @staticmethod
    def _kept(d: Definition) -> int:
        """How many formals the body of a sorting or a matrix function has."""
        return len(d.formals) - (1 if d.head == "argsort" else 2)

    def _holds(self, d: Definition, moving: Moving) -> bool:
        memo: dict[Scalar, bool] = {}
        try:
            for n in d.scalars():
                if self._position(n, moving, memo):
                    raise NotSymmetric(f"{d.tensor}: {text(n)} is a place")
        except NotSymmetric as reason:
            self.blocker = str(reason)
            return False
        return True

    def _position(self, n: Scalar, moving: Moving, memo: dict[Scalar, bool]) -> bool:
        """True if the value is a position, False if it is plain. Raises NotSymmetric if it is neither."""
        found = memo.get(n)
        if found is None:
            found = memo[n] = self._kind(n, moving, memo)
        return found

    def _kind(self, n: Scalar, moving: Moving, memo: dict[Scalar, bool]) -> bool:
        if isinstance(n, Index):
            return n in moving
        if isinstance(n, Read):
            if self._is_sorted_read(n, moving, memo):
                return False
            moved = tuple(self._position(i, moving, memo) for i in n.indices)
            if not self._tensor(n.tensor, moved):
                raise NotSymmetric(text(n))
            return False
        kinds = [self._position(c, moving, memo) for c in n.children]
        if isinstance(n, Compare) and n.op in ("==", "!=") and kinds == [True, True]:
            return False
        if any(kinds):
            raise NotSymmetric(text(n))
        return False

    def _is_sorted_read(self, n: Read, moving: Moving, memo: dict[Scalar, bool]) -> bool:
        """Whether `n` is `y[order[r]]` for an order that sorts `y` itself (or finds its extremum): the sorted values
        stay, though the order does not, and ties are no matter because the values that tie are equal."""
        for place in n.indices:
            if not isinstance(place, Read):
                continue
            d = self._definitions.get(place.tensor)
            if d is None or d.head not in _SORTING or len(d.bound) != 1 or d.where is not TRUE or d.support is not TRUE:
                continue
            if d.bound[0].dim != self._dim:
                continue
            mapping: dict[Scalar, Scalar] = dict(zip(d.formals, place.indices, strict=True))
            sorted_by = substitute(d.body, {**mapping, d.bound[0]: place})
            if isinstance(sorted_by, Apply) and sorted_by.name == "neg":
                sorted_by = sorted_by.args[0]
            plain = sorted_by is n and not any(self._position(i, moving, memo) for i in place.indices)
            if plain and self._holds(d, frozenset({d.bound[0]})):
                return True
        return False
