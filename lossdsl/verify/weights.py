"""Weights along an axis that are not negative and add up to at most 1, and counts of what a reduction selects."""

from __future__ import annotations

from lossdsl.ir.nodes import INT, TRUE, Apply, Definition, Index, Program, Read, Scalar, Stop, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.pieces import NotScalar, inline
from lossdsl.verify.ranges import Ranges, matches


class Weights:
    def __init__(self, program: Program, ranges: Ranges) -> None:
        self._program, self._ranges = program, ranges
        self._definitions = {d.tensor: d for d in program.definitions()}

    def holds(self, weight: Scalar, along: Index) -> bool:
        """Whether the scalar is >= 0 and adds up to at most 1 over the index: an entry of a simplex, a softmax."""
        match weight:
            case Stop():
                return self.holds(weight.a, along)
            case Read():
                declared = self._program.input(weight.tensor)
                if declared is not None:
                    places = [k for k, i in enumerate(weight.indices) if any(m is along for m in postorder(i))]
                    whole = len(places) == 1 and weight.indices[places[0]] is along
                    return whole and declared.kind == "simplex" and tuple(declared.over) == tuple(places)
                try:
                    body = inline(self._program, weight)
                except NotScalar:
                    return False
                return body is not weight and self.holds(body, along)
            case Apply(name="expdiff"):
                return self._softmax(weight.args[0], weight.args[1], along)
            case Apply(name="exp"):
                inside = weight.args[0]
                if isinstance(inside, Read):
                    try:
                        inside = inline(self._program, inside)
                    except NotScalar:
                        return False
                if isinstance(inside, Apply) and inside.name == "sub":
                    return self._softmax(inside.args[0], inside.args[1], along)
        return False

    def _softmax(self, x: Scalar, total: Scalar, along: Index) -> bool:
        """exp(x - total), total the log-sum-exp of x over the whole axis."""
        if not isinstance(total, Read) or any(n is along for n in postorder(total)):
            return False
        d = self._definitions.get(total.tensor)
        if d is None or d.head != "logsumexp" or len(d.bound) != 1 or d.where is not TRUE or d.support is not TRUE:
            return False
        if d.bound[0].dim != along.dim:
            return False
        for body in (d.body, self._inlined(d)):
            found: dict[Index, Scalar] = dict(zip(d.formals, total.indices, strict=True))
            if body is not None and matches(body, x, found, set(d.bound), self._ranges.names):
                return found.get(d.bound[0]) is along
        return False

    def _inlined(self, d: Definition) -> Scalar | None:
        try:
            return inline(self._program, d.body)
        except NotScalar:
            return None

    def count(self, d: Definition) -> Read | None:
        """An element that is the number of terms that the definition selects, if the program has it."""
        if d.where is TRUE:
            return None
        for other in self._definitions.values():
            same = other.head == "count" and other.body is TRUE and other.support is TRUE
            if not same or len(other.bound) != len(d.bound) or len(other.formals) != len(d.formals):
                continue
            if [i.dim for i in (*other.formals, *other.bound)] != [i.dim for i in (*d.formals, *d.bound)]:
                continue
            renamed: dict[Scalar, Scalar] = dict(
                zip((*other.formals, *other.bound), (*d.formals, *d.bound), strict=True)
            )
            if substitute(other.where, renamed) is d.where:
                return Read(other.tensor, d.formals, INT)
        return None


__all__ = ["Weights"]
