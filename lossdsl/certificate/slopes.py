"""Lipschitz continuity by composition: some constant for each value of everything else, extents included.

A composition of Lipschitz functions is Lipschitz, each on the interval of its arguments (where the mean value theorem
applies); a product is one where both factors are bounded, a quotient where the divisor stays away from 0; a norm, an
extremum and a logsumexp of Lipschitz terms are (each is one of its vector).
"""

from __future__ import annotations

from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.rules import Rules, Stuck
from lossdsl.ir.nodes import INT, REAL, Apply, Const, Definition, Read, Scalar, Select
from lossdsl.verify.enclosure import INF, Enclosure

_EVERYWHERE = frozenset({"add", "sub", "neg", "real", "abs", "relu", "max2", "min2", "clamp", "logaddexp", "softplus"})
_EVERYWHERE |= {"logsigmoid", "sigmoid", "tanh", "atan", "erf", "erfc", "normal_cdf", "logcosh", "sin", "cos"}
_FOLDS = ("sum", "max", "min", "logsumexp")


class Slopes:
    """Which tensors are Lipschitz in the inputs. Raises Stuck where no rule says so."""

    def __init__(self, bounds: Bounds, inputs: tuple[str, ...]) -> None:
        self.bounds, self.rules = bounds, Rules(bounds, inputs)

    def lipschitz(self, tensor: str) -> list[str]:
        """The tensors, on the way to this one, whose continuity it rests on; all of them are Lipschitz."""
        if not self.bounds.tensor(tensor).finite:
            raise Stuck(f"{tensor} may be undefined or infinite")
        rests_on = [tensor]
        for name in rests_on:  # grows
            if name in self.bounds.definitions:
                rests_on += [n for n in self._definition(self.bounds.definitions[name]) if n not in rests_on]
        return rests_on

    def _definition(self, d: Definition) -> list[str]:
        """The tensors that have to be Lipschitz so that this one is."""
        case = self.rules.case(d)
        if case is None or not self.rules.moves(d.body):
            return []
        if d.head != "map" and (d.head not in _FOLDS or not case[d.body].finite):
            raise Stuck(f"{d.tensor}: no rule for {d.head} here")
        return self._scalar(d.body, case)

    def _scalar(self, root: Scalar, case: Case) -> list[str]:
        stack, seen = [root], set()
        read: list[str] = []
        while stack:
            n = stack.pop()
            if n in seen or not self.rules.moves(n):
                continue
            seen.add(n)
            if isinstance(n, Read) and not self.rules.moves(*n.indices):
                read.append(n.tensor)
                continue
            if isinstance(n, Select) and not self.rules.moves(n.condition):
                for branch, holds in ((n.a, True), (n.b, False)):
                    inner = case.given(n.condition, holds)
                    if inner is not None:
                        read += self._scalar(branch, inner.inside(branch))
                continue
            if not isinstance(n, Apply) or n.dtype is INT or n.dtype is not REAL:
                raise Stuck(f"{type(n).__name__} has no rule")
            boxes = [case[a] for a in n.args]
            if not all(b.finite for b in boxes):
                raise Stuck(f"an argument of {n.name} may be undefined or infinite")
            if n.name == "sqrt" and (terms := self._squares(n.args[0], case)) is not None:
                for term, inner in terms:
                    if inner is case:
                        stack.append(term)
                    else:
                        read += self._scalar(term, inner)
                continue
            if not self._there(n, boxes):
                raise Stuck(f"{n.name} is not Lipschitz here")
            stack += n.args
        return list(dict.fromkeys(read))

    def _there(self, n: Apply, boxes: list[Enclosure]) -> bool:
        """Whether the function is Lipschitz on the intervals of its arguments."""
        moving = [self.rules.moves(a) for a in n.args]
        box = boxes[0]
        match n.name:
            case "mul":
                return not all(moving) or all(b.bounded for b in boxes)
            case "div":
                away = boxes[1].lo > 0 or boxes[1].hi < 0
                return boxes[1].nonzero if not moving[1] else away and box.bounded
            case "exp" | "expm1":
                return box.hi < INF
            case "cosh" | "sinh":
                return box.bounded
            case "log" | "log2" | "log10" | "sqrt":
                return box.lo > 0
            case "log1p":
                return box.lo > -1
            case "pow" | "powi":
                k = n.args[1].value if isinstance(n.args[1], Const) else None
                if k is None or isinstance(k, str):
                    return False
                if k.denominator == 1 and k >= 0:
                    return k <= 1 or box.bounded
                return box.lo > 0 and (k <= 1 or box.bounded)
        return n.name in _EVERYWHERE

    def _squares(self, n: Scalar, case: Case) -> list[tuple[Scalar, Case]] | None:
        """What is squared, and where, in a sum of squares and of non-negative constants; None for anything else."""
        if not self.rules.moves(n):
            return [] if case[n].nonnegative else None
        if isinstance(n, Apply) and n.name == "add":
            parts = [self._squares(a, case) for a in n.args]
            return None if any(p is None for p in parts) else [s for p in parts if p is not None for s in p]
        if isinstance(n, Apply) and n.name in ("mul", "pow", "powi"):
            base, other = n.args
            square = base is other if n.name == "mul" else isinstance(other, Const) and other.value == 2
            return [(base, case)] if square and case[base].finite else None
        if isinstance(n, Read) and not self.rules.moves(*n.indices):
            d = self.bounds.definitions.get(n.tensor)
            if d is None or d.head not in ("sum", "map") or d.tensor in self.bounds.recurrent:
                return None
            return None if self.rules.moves(d.where, d.support) else self._squares(d.body, self.bounds.body(d))
        return None


__all__ = ["Slopes"]
