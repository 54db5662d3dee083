"""Quasiconvexity by composition over the tensor IR: sublevel sets (superlevel sets) that are convex, jointly in an input.

A monotone function of a quasiconvex value is so, or quasiconcave if it decreases; a maximum of quasiconvex values is so; a
quotient of a convex value >= 0 by a concave one > 0 is, and of an affine by a positive affine one both (Boyd and
Vandenberghe 2004, 3.4); so is the size of what is both. Sums have no rule but that of convexity.
"""

from __future__ import annotations

from dataclasses import dataclass

from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    ZERO,
    AdjointMap,
    Apply,
    Const,
    Definition,
    Group,
    Proxy,
    Read,
    Scalar,
    Select,
    Stop,
)
from lossdsl.ir.rewrite import substitute, transform
from lossdsl.primitives import PRIMITIVES
from lossdsl.primitives.record import Monotone
from lossdsl.verify import scalar as one
from lossdsl.verify.context import Context
from lossdsl.verify.curvature import Curvatures
from lossdsl.verify.operations import clipped
from lossdsl.verify.pieces import VARIABLE, NotScalar, carriers, cased, fold, inline, plain
from lossdsl.verify.ranges import Scope
from lossdsl.verify.show import text
from lossdsl.verify.verdict import Proved, Step, Unknown

METHOD = "quasiconvex composition"


@dataclass(frozen=True)
class Level:
    """What is proved of a value: quasiconvex, quasiconcave; both if it does not vary."""

    convex: bool
    concave: bool
    blocker: str = ""

    @property
    def both(self) -> bool:
        return self.convex and self.concave


FIXED = Level(True, True)


def _swapped(a: Level) -> Level:
    return Level(a.concave, a.convex, a.blocker)


def quasiconvex(ctx: Context, target: str, inputs: tuple[str, ...]) -> Proved | Unknown:
    """Whether every element of the target is quasiconvex in the inputs."""
    levels = Levels(ctx, inputs)
    found = levels.tensor(target)
    if found.convex and ctx.ranges(inputs).tensor(target).finite:
        return Proved(METHOD, tuple(levels.steps) or (Step(METHOD, target, "does not vary"),))
    return Unknown(found.blocker or f"{target} is quasiconcave, or may be infinite", (METHOD,))


class Levels:
    def __init__(self, ctx: Context, inputs: tuple[str, ...]) -> None:
        self.ctx = ctx
        self.ranges = ctx.ranges(inputs)
        self.curvatures = Curvatures(ctx.program, self.ranges, inputs, ctx.budget, deep=False)
        self.varies = self.curvatures.varies
        self.grouped = {d.tensor for g in ctx.program.body if isinstance(g, Group) for d in g.definitions}
        self.steps: list[Step] = []
        self._tensors: dict[str, Level] = {}
        self._nodes: dict[tuple[Scalar, Scope], Level] = {}
        self._views = 0

    def tensor(self, name: str) -> Level:
        if name not in self._tensors:
            shape = self.curvatures.tensor(name)
            level = Level(shape.convex, shape.concave, shape.blocker)
            d = self.ctx.program.definition(name)
            if not level.both and d is not None and name not in self.grouped:
                level = self._either(level, self._definition(d))
            self._tensors[name] = level
            if level.convex or level.concave:
                word = "both" if level.both else "quasiconvex" if level.convex else "quasiconcave"
                self.steps.append(Step(METHOD, name, word))
        return self._tensors[name]

    @staticmethod
    def _either(a: Level, b: Level) -> Level:
        """What one or the other rule shows."""
        return Level(a.convex or b.convex, a.concave or b.concave, b.blocker or a.blocker)

    def _definition(self, d: Definition) -> Level:
        if self.varies(d.where) or self.varies(d.support):
            return Level(False, False, f"{d.tensor}: the selection depends on the input")
        scope: Scope | None = self.ranges.body_scope(d)
        for condition in (d.support, d.where):
            scope = scope.under(condition, True) if scope is not None and condition is not TRUE else scope
        if scope is None:
            return FIXED
        if d.support is not TRUE or d.head not in ("map", "max", "min"):
            return Level(False, False, f"{d.tensor}: no rule for {d.head}")
        body = self.node(d.body, scope)
        return Level(body.convex and d.head != "min", body.concave and d.head != "max", body.blocker)

    def node(self, n: Scalar, scope: Scope) -> Level:
        key = (n, scope)
        if key not in self._nodes:
            shape = self.curvatures.node(n, scope)
            level = Level(shape.convex, shape.concave, shape.blocker)
            if not level.both:
                level = self._either(level, self._rule(n, scope))
            if not (level.convex or level.concave) and self._views < 4:
                level = self._through(n, scope) or level
            self._nodes[key] = level
        return self._nodes[key]

    def _rule(self, n: Scalar, scope: Scope) -> Level:
        if not self.varies(n):
            return FIXED
        if n.dtype is not REAL:
            return Level(False, False, f"{text(n)}: a whole number or condition that depends on the input")
        match n:
            case Read() if not any(self.varies(i) for i in n.indices):
                return self.tensor(n.tensor)
            case Select() if not self.varies(n.condition):
                found = FIXED
                for branch, holds in ((n.a, True), (n.b, False)):
                    inner = scope.under(n.condition, holds)
                    if inner is not None:
                        side = self.node(branch, inner.reading(branch))
                        found = Level(found.convex and side.convex, found.concave and side.concave, side.blocker)
                return found
            case Stop() | AdjointMap():
                return self.node(n.a, scope)
            case Proxy():
                return self.node(n.value, scope)
            case Apply():
                return self._apply(n, scope)
        return Level(False, False, f"{text(n)}: no rule")

    def _apply(self, n: Apply, scope: Scope) -> Level:
        boxes = [scope[a] for a in n.args]
        if not all(b.finite for b in boxes) or not scope[n].finite:
            return Level(False, False, f"{text(n)}: may be undefined or infinite")
        if n.name == "div" and self.varies(n.args[1]):
            return self._quotient(n, scope)
        if n.name == "expdiff":  # increasing in the difference
            difference = self.curvatures.node(Apply("sub", n.args), scope)
            return Level(difference.convex, difference.concave, difference.blocker)
        levels = [self.node(a, scope) for a in n.args]
        varied = [k for k, a in enumerate(n.args) if self.varies(a)]
        a = levels[varied[0]]
        if n.name in ("max2", "min2"):
            convex, concave = (all(getattr(v, w) for v in levels) for w in ("convex", "concave"))
            return Level(
                convex and n.name == "max2", concave and n.name == "min2", next((v.blocker for v in levels), "")
            )
        if len(varied) > 1:
            return Level(False, False, f"{text(n)}: several arguments vary")
        record = PRIMITIVES.get(n.name)
        intervals = tuple(clipped(n.name, b) for b in boxes)
        if record is None or not record.defined(*intervals):
            return Level(False, False, f"{text(n)}: may be undefined")
        order = record.monotone(*intervals)[varied[0]]
        if order in (Monotone.INCREASING, Monotone.CONSTANT):
            return a
        if order is Monotone.DECREASING:
            return _swapped(a)
        two = n.name in ("pow", "powi") and isinstance(n.args[1], Const) and n.args[1].value in (2, 4, 6)
        if (n.name == "abs" or two) and a.both:
            return Level(True, False)
        return Level(False, False, a.blocker or f"{text(n)}: {n.name} does not keep the order here")

    def _quotient(self, n: Apply, scope: Scope) -> Level:
        top, bottom = n.args
        a, b = self.curvatures.node(top, scope), self.curvatures.node(bottom, scope)
        box, by = scope[top], scope[bottom]
        if not by.positive:
            return Level(False, False, f"{text(n)}: {text(bottom)} is not shown to be positive")
        if a.affine and b.affine:
            return FIXED
        up = (a.convex and box.nonnegative and b.concave) or (a.convex and box.nonpositive and b.convex)
        down = (a.concave and box.nonnegative and b.convex) or (a.concave and box.nonpositive and b.concave)
        return Level(up, down, "" if up or down else f"{text(n)}: numerator and denominator vary")

    def _through(self, n: Scalar, scope: Scope) -> Level | None:
        """A monotone function, by its slope, of the one value through which the scalar varies."""
        if not isinstance(n, (Apply, Select)) or n.dtype is not REAL or VARIABLE in scope.known:
            return None
        try:
            whole = transform(inline(self.ctx.program, n), plain)
        except NotScalar:
            return None
        chosen: Scalar | None = None
        for m in carriers(whole, self.curvatures.varying):
            if not isinstance(m, (Read, Apply)) or not scope[m].finite:
                continue
            shape = self.curvatures.node(m, scope)
            chosen = m if shape.convex or shape.concave else chosen
        if chosen is None:
            return None
        self._views += 1
        body = fold(substitute(whole, {chosen: VARIABLE}))
        try:
            views = cased(
                self.ctx.program, scope.ranges, scope.nonempty, body, VARIABLE, {**scope.known, VARIABLE: scope[chosen]}
            )
        except NotScalar:
            return None
        shape = self.curvatures.node(chosen, scope)
        inner = Level(shape.convex, shape.concave)
        for low, high in ((ZERO, None), (None, ZERO)):
            verdict = one.slope_between(views, low, high, self.ctx.budget)
            if isinstance(verdict, Proved):
                self.steps += verdict.steps
                return inner if high is None else _swapped(inner)
        return None


__all__ = ["METHOD", "Level", "Levels", "quasiconvex"]
