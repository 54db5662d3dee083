"""Lipschitz bounds of rows by the masses of a gradient: how much its positive entries add up to at most, and its negative ones.

The gradient of a maximum, and of a log-sum-exp, is a mixture of those of its elements; that of a sum is their sum. With a and b
for both masses, the gradient is at most a + b in l1, max(a, b) in linf, and sqrt(a^2 + b^2) in l2.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.elements import is_weight, terms_of
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.slopes import Slopes
from lossdsl.ir.nodes import INT, TRUE, Apply, Const, Definition, Read, Scalar, Select, Size
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import Enclosure

_SLOPES = {  # of functions of one argument that rise: at most
    **dict.fromkeys(("relu", "softplus", "real", "tanh", "atan"), 1.0),
    "sigmoid": 0.25,
    "logsigmoid": 1.0,
}
_MIXED = ("max", "min", "logsumexp")


@dataclass(frozen=True)
class Mass:
    """What positive entries add up to at most, and negative ones, in size."""

    up: float
    down: float

    @property
    def turned(self) -> Mass:
        return Mass(self.down, self.up)


NONE = Mass(0.0, 0.0)


class Masses:
    """Of elements, in all entries of the input together. Raises Stuck where no rule applies."""

    def __init__(self, bounds: Bounds, slopes: Slopes) -> None:
        self.bounds, self.rules = bounds, slopes.rules
        self._known: dict[str, Mass] = {}

    def tensor(self, name: str) -> Mass:
        if name in self.rules.inputs:
            return Mass(1.0, 0.0)
        if name not in self._known:
            d = self.bounds.definitions[name]
            if d.tensor in self.bounds.recurrent:
                raise Stuck(f"{d.tensor}: a recurrence")
            case = self.rules.case(d)
            body = d.body
            if d.head == "sum" and self.rules.moves(body):
                body = self._weighted(d)
            elif d.head not in ("map", *_MIXED) and self.rules.moves(body):
                raise Stuck(f"{d.tensor}: no rule for {d.head}")
            self._known[name] = NONE if case is None else self.scalar(body, case)
        return self._known[name]

    def _weighted(self, d: Definition) -> Scalar:
        """What a sum is a mixture of, up to what does not move: its terms without weights of sum 1. Raises Stuck."""
        moving = [(n, k) for n, k in terms_of(self.bounds, d.body, Fraction(1)).items() if self.rules.moves(n)]
        if len(moving) == 1 and d.where is TRUE and d.support is TRUE and len(d.bound) == 1:
            ((n, k),) = moving
            for weight, rest in (n.args, n.args[::-1]) if isinstance(n, Apply) and n.name == "mul" else ():
                if not self.rules.moves(weight) and is_weight(self.bounds, weight, d.bound[0]):
                    return rest if k == 1 else Apply("mul", (Const(k), rest))
        raise Stuck(f"{d.tensor}: a sum")

    def scalar(self, n: Scalar, case: Case) -> Mass:
        if not self.rules.moves(n):
            return NONE
        if isinstance(n, Read) and not self.rules.moves(*n.indices):
            return self.tensor(n.tensor)
        if isinstance(n, Select) and not self.rules.moves(n.condition):
            sides = ((branch, case.given(n.condition, holds)) for branch, holds in ((n.a, True), (n.b, False)))
            return _larger([self.scalar(b, inner.inside(b)) for b, inner in sides if inner is not None])
        if not isinstance(n, Apply) or n.dtype is INT:
            raise Stuck(f"{type(n).__name__} has no rule")
        boxes = self.rules.arguments(n, case)
        if n.name == "div" and (mean := self._mean(n)) is not None:
            return mean
        parts = [self.scalar(a, case) for a in n.args]
        match n.name:
            case "neg":
                return parts[0].turned
            case "add" | "sub":
                if (mixed := self._mixed(n, case)) is not None:
                    return mixed
                second = parts[1] if n.name == "add" else parts[1].turned
                return Mass(e.add_up(parts[0].up, second.up), e.add_up(parts[0].down, second.down))
            case "max2" | "min2" | "logaddexp":
                return _larger(parts)
            case "abs":
                most = max(parts[0].up, parts[0].down)
                return Mass(most, most)
            case "mul" if parts[0] == NONE or parts[1] == NONE:
                k = 0 if parts[0] == NONE else 1
                return _times(parts[1 - k], boxes[k])
            case "div" if parts[1] == NONE and boxes[1].nonzero:
                return _times(parts[0], e.reciprocal(boxes[1]))
        if n.name in _SLOPES:
            return _times(parts[0], Enclosure(0.0, _SLOPES[n.name]))
        raise Stuck(f"{n.name} has no rule")

    def _mixed(self, n: Apply, case: Case) -> Mass | None:
        """(1 - t) a + t b, with t from 0 to 1 that does not move."""
        if n.name != "add" or not all(isinstance(a, Apply) and a.name == "mul" for a in n.args):
            return None
        for (s, a), (t, b) in itertools.product(*((m.children, m.children[::-1]) for m in n.args)):
            rest = [x for x, y in ((s, t), (t, s)) if x is Apply("sub", (Const(1), y))]
            if rest and not self.rules.moves(s, t) and case[s].nonnegative and case[t].nonnegative:
                return _larger([self.scalar(a, case), self.scalar(b, case)])
        return None

    def _mean(self, n: Apply) -> Mass | None:
        """A sum over as many elements as there are, divided by their number."""
        top, size = n.args
        while isinstance(size, Apply) and size.name == "real":
            size = size.args[0]
        d = self.bounds.fold(top, ("sum",))
        if d is None or not isinstance(size, Size) or [i.dim for i in d.bound] != [size.dim] or d.where is not TRUE:
            return None
        case = self.rules.case(d)
        return NONE if case is None else self.scalar(d.body, case)


def _larger(parts: list[Mass]) -> Mass:
    return Mass(max((p.up for p in parts), default=0.0), max((p.down for p in parts), default=0.0))


def _times(mass: Mass, by: Enclosure) -> Mass:
    if by.lo < 0:
        turned = _times(mass.turned, Enclosure(max(-by.hi, 0.0), -by.lo))
        return _larger([turned, _times(mass, Enclosure(0.0, by.hi))]) if by.hi > 0 else turned
    return Mass(*(0.0 if m == 0 else e.mul_up(m, by.hi) for m in (mass.up, mass.down)))


def of_masses(q: Question) -> list[list[str]]:
    """A bound, or what a Lipschitz constant is not above. Raises Stuck."""
    if len(q.inputs) != 1:
        raise Stuck("more than one input")
    bounds = Bounds(q.program, q.assume, moved=frozenset(q.inputs))
    slopes = Slopes(bounds, q.inputs)
    way = slopes.lipschitz(q.of)
    found = Masses(bounds, slopes).tensor(q.of)
    both = e.add_up(e.mul_up(found.up, found.up), e.mul_up(found.down, found.down))
    root = math.sqrt(both)
    root = root if e.mul_up(root, root) == both else e.up(root)
    size = {"l1": max(found.up, found.down), "linf": e.add_up(found.up, found.down), "l2": root}[q.norm]
    if q.bound is not None:
        allowed: float | None = Case(bounds, frozenset(), {})[q.bound].lo
    else:
        low, allowed = q.bracket
        if low is not None:
            raise Stuck("masses tell no place at which a slope is large")
    if allowed is None or not size <= allowed:
        raise Stuck(f"{q.of} is seen to have slopes up to {size}")
    return [[*way], ["masses", found.up.hex(), found.down.hex()], [q.norm, size.hex(), "at most", allowed.hex()]]


__all__ = ["of_masses"]
