"""Monotonicity by composition over the tensor IR: of a value in every entry of one input, the others fixed.

A value rises (never falls) if its outermost function rises in each argument that rises, and falls in each that falls, on
the box of its arguments. Branches on the input, places that depend on it, and recurrences have no rule; a definition
without a rule is given to the scalar view of one of its elements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossdsl.ir.nodes import REAL, TRUE, Apply, Definition, Group, Program, Read, Scalar, Select
from lossdsl.primitives import HEADS, PRIMITIVES
from lossdsl.primitives.interval import Interval
from lossdsl.primitives.record import Monotone
from lossdsl.verify.operations import clipped
from lossdsl.verify.pieces import dependents, reads_any
from lossdsl.verify.ranges import Ranges, Scope
from lossdsl.verify.show import text
from lossdsl.verify.verdict import Proved, Step, Unknown


@dataclass(frozen=True)
class Trend:
    """What is proved of a value; both if it does not vary."""

    rises: bool
    falls: bool
    blocker: str = ""


CONSTANT = Trend(True, True)
RISES = Trend(True, False)
METHOD = "monotone composition"


def _unknown(node: Scalar, why: str) -> Trend:
    return Trend(False, False, f"{text(node)}: {why}")


class Trends:
    """Trends of the tensors of a program in `entry`. `scalar(tensor)` decides one by other means."""

    def __init__(self, program: Program, ranges: Ranges, entry: str, scalar: Callable[[str], Trend]) -> None:
        self.program, self.ranges, self.entry, self.scalar = program, ranges, entry, scalar
        self.varying = dependents(program, entry)
        self.steps: list[Step] = []
        self._tensors: dict[str, Trend] = {}
        self._grouped = {d.tensor for g in program.body if isinstance(g, Group) for d in g.definitions}

    def verdict(self, target: str, *, increasing: bool) -> Proved | Unknown:
        trend = self.tensor(target)
        if trend.rises if increasing else trend.falls:
            return Proved(METHOD, tuple(self.steps) or (Step("does not vary", target, "constant"),))
        return Unknown(trend.blocker or f"{target} {'falls' if trend.falls else 'rises'} instead", (METHOD,))

    def tensor(self, name: str) -> Trend:
        if name == self.entry:
            return RISES
        if name not in self.varying:
            return CONSTANT
        if name not in self._tensors:
            definition = self.program.definition(name)
            if definition is None or name in self._grouped:
                trend = Trend(False, False, f"{name}: a recurrence")
            else:
                trend = self._definition(definition)
                if not (trend.rises or trend.falls) and definition.head == "map":
                    other = self.scalar(name)
                    trend = other if other.rises or other.falls else trend
            self._tensors[name] = trend
            if trend.rises or trend.falls:
                self.steps.append(Step("composition", name, "increasing" if trend.rises else "decreasing"))
        return self._tensors[name]

    def _definition(self, d: Definition) -> Trend:
        if self.varies(d.where) or self.varies(d.support):
            return Trend(False, False, f"{d.tensor}: the selection depends on the input")
        scope: Scope | None = self.ranges.body_scope(d)
        for condition in (d.support, d.where):
            if condition is not TRUE and scope is not None:
                scope = scope.under(condition, True)
        if scope is None:
            return CONSTANT
        body = self.node(d.body, scope)
        if d.head == "map" or (body.rises and body.falls):
            return body
        if d.head not in HEADS or d.head in ("argmax", "argmin", "argsort") or d.support is not TRUE:
            return Trend(False, False, f"{d.tensor}: no rule for {d.head}")
        box = scope[d.body]
        if not box.finite:
            return _unknown(d.body, "may be undefined or infinite")
        return _composed((HEADS[d.head].monotone(Interval(box.lo, box.hi)),), (body,), d.body, d.head)

    def varies(self, node: Scalar) -> bool:
        return reads_any(self.varying, node)

    def node(self, n: Scalar, scope: Scope) -> Trend:
        if not self.varies(n):
            return CONSTANT
        if n.dtype is not REAL:
            return _unknown(n, "a whole number or condition that depends on the input")
        match n:
            case Read():
                if any(self.varies(i) for i in n.indices):
                    return _unknown(n, "its place depends on the input")
                return self.tensor(n.tensor)
            case Select():
                return self._branches(n, scope)
            case Apply():
                return self._apply(n, scope)
        return _unknown(n, "no rule")

    def _branches(self, n: Select, scope: Scope) -> Trend:
        if self.varies(n.condition):
            return _unknown(n, "a branch on the input")
        sides: list[Trend] = []
        for branch, holds in ((n.a, True), (n.b, False)):
            inner = scope.under(n.condition, holds)
            if inner is not None:
                sides.append(self.node(branch, inner.reading(branch)))
        blocker = next((s.blocker for s in sides if s.blocker), "")
        return Trend(all(s.rises for s in sides), all(s.falls for s in sides), blocker)

    def _apply(self, n: Apply, scope: Scope) -> Trend:
        trends = tuple(self.node(a, scope) for a in n.args)
        blocked = next((t for t in trends if not (t.rises or t.falls)), None)
        if blocked is not None:
            return blocked
        if n.name == "real":
            return trends[0]
        boxes = [scope[a] for a in n.args]
        if any(not b.finite for b in boxes):
            return _unknown(n, "an argument may be undefined or infinite")
        record = PRIMITIVES.get(n.name)
        intervals = tuple(clipped(n.name, b) for b in boxes)
        if record is None or not record.defined(*intervals):
            return _unknown(n, "may be undefined")
        return _composed(record.monotone(*intervals), trends, n, n.name)


def _composed(outer: tuple[Monotone, ...], trends: tuple[Trend, ...], node: Scalar, name: str) -> Trend:
    rises = falls = True
    for m, t in zip(outer, trends, strict=True):
        up, down = m in (Monotone.INCREASING, Monotone.CONSTANT), m in (Monotone.DECREASING, Monotone.CONSTANT)
        constant = t.rises and t.falls
        rises = rises and (constant or (t.rises and up) or (t.falls and down))
        falls = falls and (constant or (t.falls and up) or (t.rises and down))
    return Trend(rises, falls, "" if rises or falls else f"{text(node)}: {name} does not keep the order here")


__all__ = ["METHOD", "Trend", "Trends"]
