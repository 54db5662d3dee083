"""What rises or falls with the inputs, by composition: a function that does not fall in an argument that does not fall does
not fall either."""

from __future__ import annotations

from lossdsl.certificate.bounds import Case
from lossdsl.certificate.rules import DOWN, UP, Rules, Stuck, direction_of
from lossdsl.ir.nodes import INT, Apply, Const, Definition, Read, Scalar, Select
from lossdsl.verify.enclosure import Enclosure

Ways = frozenset[int]  # in which it may go: none of what does not move
_BOTH = frozenset({UP, DOWN})
_FOLDS = ("sum", "max", "min", "logsumexp")
_WITH_ALL = frozenset({"real", "add", "max2", "min2", "logaddexp", "clamp", "relu"})


class Order:
    """Ways of the tensors of a program. Everything raises Stuck where no rule applies."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.bounds = rules, rules.bounds
        self._known: dict[str, Ways] = {}

    def tensor(self, name: str) -> Ways:
        if name in self.rules.inputs:
            return frozenset({UP})
        if name not in self.rules.moving:
            return frozenset()
        for d in self.bounds.needed(name):
            if d.tensor not in self._known and d.tensor in self.rules.moving:
                if d.tensor in self.bounds.recurrent:
                    self._recurrence(d)
                else:
                    self._known[d.tensor] = self._definition(d)
        return self._known[name]

    def _recurrence(self, d: Definition) -> None:
        """What elements do where the earlier ones do it, all of them do."""
        group = [g for g in self.bounds.group(d.tensor) if g.tensor in self.rules.moving]
        known, why = dict(self._known), Stuck(f"{d.tensor}: a recurrence")
        for way in (UP, DOWN):
            self._known = {**known, **{g.tensor: frozenset({way}) for g in group}}
            try:
                if all(self._definition(g) <= {way} for g in group):
                    return
            except Stuck as stuck:
                why = stuck
        self._known = known
        raise why

    def _definition(self, d: Definition) -> Ways:
        case = self.rules.case(d)
        if case is None or not self.rules.moves(d.body):
            return frozenset()
        if d.head not in ("map", *_FOLDS):
            raise Stuck(f"{d.tensor}: no rule for {d.head}")
        return _one(d.tensor, self._scalar(d.body, case, {}))

    def _scalar(self, n: Scalar, case: Case, known: dict[Scalar, Ways]) -> Ways:
        if n not in known:
            known[n] = self._node(n, case, known)
        return known[n]

    def _node(self, n: Scalar, case: Case, known: dict[Scalar, Ways]) -> Ways:
        if not self.rules.moves(n):
            return frozenset()
        if isinstance(n, Read) and not self.rules.moves(*n.indices):
            return self._known[n.tensor] if n.tensor in self._known else self.tensor(n.tensor)
        if isinstance(n, Select) and self.rules.settled(n, case):
            ways: Ways = frozenset()
            for branch, holds in ((n.a, True), (n.b, False)):
                inner = case.given(n.condition, holds)
                ways |= self._scalar(branch, inner.inside(branch), {}) if inner is not None else frozenset()
            return ways
        if not isinstance(n, Apply) or n.dtype is INT:
            raise Stuck(f"{type(n).__name__} has no rule")
        boxes = self.rules.arguments(n, case)
        return _one(n.name, _applied(n, [self._scalar(a, case, known) for a in n.args], boxes))


def _one(name: str, ways: Ways) -> Ways:
    if ways == _BOTH:
        raise Stuck(f"{name} may rise and fall")
    return ways


def _turned(ways: Ways) -> Ways:
    return frozenset(-w for w in ways)


def _times(ways: Ways, by: Enclosure) -> Ways:
    if not ways or by.nonnegative:
        return ways
    return _turned(ways) if by.nonpositive else _BOTH


def _applied(n: Apply, ways: list[Ways], boxes: list[Enclosure]) -> Ways:
    match n.name:
        case "neg":
            return _turned(ways[0])
        case "sub" | "expdiff":
            return ways[0] | _turned(ways[1])
        case "mul":
            return _times(ways[0], boxes[1]) | _times(ways[1], boxes[0])
        case "div" if boxes[1].nonzero:
            return _times(ways[0], boxes[1]) | _turned(_times(ways[1], boxes[0]))
        case "pow" | "powi" if not ways[1]:
            return _power(n.args[1], ways[0], boxes)
    if n.name in _WITH_ALL:
        return frozenset().union(*ways)
    way = direction_of(n.name, boxes[0]) if len(boxes) == 1 else 0
    if not way:
        raise Stuck(f"no rule for {n.name} here")
    return ways[0] if way == UP else _turned(ways[0])


def _power(exponent: Scalar, ways: Ways, boxes: list[Enclosure]) -> Ways:
    base, k = boxes
    if base.nonnegative and (k.nonnegative or (k.nonpositive and base.positive)):
        return ways if k.nonnegative else _turned(ways)
    fixed = exponent.value if isinstance(exponent, Const) and not isinstance(exponent.value, str) else None
    if fixed is None or fixed.denominator != 1 or fixed < 0:
        raise Stuck("no rule for this power")
    return ways if fixed % 2 else _times(ways, base)


__all__ = ["Order", "Ways"]
