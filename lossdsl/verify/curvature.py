"""Curvature by composition rules over the tensor IR (disciplined convex programming, widened), jointly in some inputs.

A value is convex if its outermost function is convex on the box of its arguments and each argument is affine, or convex
where the function increases in it, or concave where it decreases. Products of two varying factors, branches on varying
conditions, and everything without a rule are unknown: never affine by default. Where the rules fail but a scalar varies
only through one affine subexpression, its second derivative decides. Of a recurrence the rules go by induction over its
rounds: what all values have that are made of earlier ones that have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    AdjointMap,
    Apply,
    Const,
    Definition,
    Group,
    Index,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Stop,
    postorder,
)
from lossdsl.ir.rewrite import substitute
from lossdsl.primitives import HEADS, PRIMITIVES
from lossdsl.primitives.interval import Interval
from lossdsl.primitives.record import Curvature, Monotone
from lossdsl.verify import scalar as one
from lossdsl.verify.operations import clipped
from lossdsl.verify.pieces import VARIABLE, NotScalar, View, dependents, fold, inline, reads_any
from lossdsl.verify.ranges import Ranges, Scope
from lossdsl.verify.show import text
from lossdsl.verify.signs import Budget
from lossdsl.verify.verdict import Proved, Step, Unknown
from lossdsl.verify.work import deadline, passed


@dataclass(frozen=True)
class Shape:
    """What is proved of a value: convex, concave, both (affine); `constant` if it does not vary at all."""

    convex: bool
    concave: bool
    constant: bool = False
    blocker: str = ""  # for neither: the smallest subexpression without a rule, and the condition that failed

    @property
    def affine(self) -> bool:
        return self.convex and self.concave


CONSTANT = Shape(True, True, True)
AFFINE = Shape(True, True)
CONVEX = Shape(True, False)
CONCAVE = Shape(False, True)


def unknown(node: Scalar, why: str) -> Shape:
    return Shape(False, False, blocker=f"{text(node)}: {why}")


def _minus(s: Shape) -> Shape:
    return Shape(s.concave, s.convex, s.constant, s.blocker)


class Curvatures:
    """Shapes of the tensors of a program, jointly in `inputs`; `deep`: with second derivatives where no rule fits."""

    def __init__(
        self, program: Program, ranges: Ranges, inputs: tuple[str, ...], budget: Budget, *, deep: bool = True
    ) -> None:
        self.program, self.ranges, self.inputs = program, ranges, inputs
        # one of many nodes: a proof that needs more boxes is left to the scalar view of the whole
        self.budget = Budget(budget.seconds / 3, budget.boxes // 4, budget.smt_milliseconds // 2)
        self._end = deadline(3 * budget.seconds if deep else -1.0)
        self._shapes: dict[tuple[Scalar, Scope], Shape] = {}
        self.varying: frozenset[str] = frozenset().union(*(dependents(program, x) for x in inputs))
        self.steps: list[Step] = []
        self._tensors: dict[str, Shape] = {}
        self._memo: dict[tuple[Scalar, Scope], Shape] = {}
        self.grouped = {d.tensor: g for g in program.body if isinstance(g, Group) for d in g.definitions}

    def verdict(self, target: str, *, concave: bool = False) -> Proved | Unknown:
        shape = self.tensor(target)
        word = "concave" if concave else "convex"
        if shape.concave if concave else shape.convex:
            steps = tuple(self.steps) or (Step("does not vary", target, "constant"),)
            return Proved("composition rules", steps)
        return Unknown(
            shape.blocker or f"{target} is {'convex' if shape.convex else 'concave'}, not {word}",
            ("composition rules",),
        )

    def tensor(self, name: str) -> Shape:
        if name in self.inputs:
            return AFFINE
        if name not in self.varying:
            return CONSTANT
        if name not in self._tensors:
            definition = self.program.definition(name)
            assert definition is not None
            if name in self.grouped:
                self._by_induction(self.grouped[name])
            else:
                self._tensors[name] = self._definition(definition)
                self._note("composition", name)
        return self._tensors[name]

    def _note(self, method: str, name: str) -> None:
        shape = self._tensors[name]
        if shape.convex or shape.concave:
            word = "affine" if shape.affine else "convex" if shape.convex else "concave"
            self.steps.append(Step(method, name, word))

    def _by_induction(self, group: Group) -> None:
        """The strongest shapes of a recurrence's tensors that their definitions keep: first all are taken to be affine, and
        those that are not so if all earlier values are as supposed are taken to be less."""
        known = dict(self._tensors), dict(self._shapes), dict(self._memo), len(self.steps)
        supposed = {d.tensor: AFFINE for d in group.definitions}
        while True:
            self._tensors, self._shapes, self._memo = ({**part} for part in known[:3])
            del self.steps[known[3] :]
            self._tensors |= supposed
            found = {d.tensor: self._definition(d) for d in group.definitions}
            kept = {n: Shape(s.convex and found[n].convex, s.concave and found[n].concave) for n, s in supposed.items()}
            if kept == supposed:
                break
            supposed = kept
        for n, s in supposed.items():
            if not (s.convex or s.concave):
                self._tensors[n] = Shape(False, False, blocker=found[n].blocker or f"{n}: a recurrence")
            self._note("induction over the rounds", n)

    def _definition(self, d: Definition) -> Shape:
        scope: Scope | None = self.ranges.body_scope(d)
        assert scope is not None
        if self.varies(d.where) or self.varies(d.support):
            return Shape(False, False, blocker=f"{d.tensor}: the selection depends on the input")
        for condition in (d.support, d.where):
            if condition is not TRUE:
                scope = scope.under(condition, True)
                if scope is None:
                    return CONSTANT
        body = self.node(d.body, scope)
        if d.support is not TRUE and d.head != "map":
            return Shape(False, False, blocker=f"{d.tensor}: a support")
        if d.head in ("map", "sum") or body.constant:
            return body
        if d.head not in HEADS or d.head in ("argmax", "argmin", "argsort"):
            return Shape(False, False, blocker=f"{d.tensor}: no rule for {d.head}")
        head = HEADS[d.head]
        box = scope[d.body]
        if box.nan:
            return Shape(False, False, blocker=f"{text(d.body)}: may be undefined")
        curvature, monotone = head.curvature(Interval(box.lo, box.hi)), head.monotone(Interval(box.lo, box.hi))
        return _compose(curvature, (monotone,), (body,), d.body, d.head)

    def varies(self, node: Scalar) -> bool:
        return reads_any(self.varying, node)

    # ------------------------------------------------------------------------------------------------ nodes

    def node(self, node: Scalar, scope: Scope) -> Shape:
        key = (node, scope)
        if key not in self._shapes:
            shape = self.by_rule(node, scope)
            if not shape.convex and not shape.concave and not passed(self._end):
                shape = self._through_affine(node, scope) or shape
            self._shapes[key] = shape
        return self._shapes[key]

    def by_rule(self, n: Scalar, scope: Scope) -> Shape:
        if not self.varies(n):
            return CONSTANT
        if n.dtype is not REAL:
            return unknown(n, "a whole number or condition that depends on the input")
        match n:
            case Read():
                if any(self.varies(i) for i in n.indices):
                    return unknown(n, "its place depends on the input")
                return self.tensor(n.tensor)
            case Select():
                if self.varies(n.condition):
                    return unknown(n, "a branch on the input")
                sides = []
                for branch, holds in ((n.a, True), (n.b, False)):
                    inner = scope.under(n.condition, holds)
                    if inner is not None:
                        sides.append(self.node(branch, inner.reading(branch)))
                if not sides:
                    return CONSTANT
                blocker = next((s.blocker for s in sides if s.blocker), "")
                return Shape(all(s.convex for s in sides), all(s.concave for s in sides), False, blocker)
            case Stop() | Proxy() | AdjointMap():
                return unknown(n, "value and derivative are declared apart")
            case Apply():
                return self._apply(n, scope)
        return unknown(n, "no rule")

    def _apply(self, n: Apply, scope: Scope) -> Shape:
        if self._vanishes(n, scope):
            return CONSTANT
        shapes = [self.node(a, scope) for a in n.args]
        blocked = next((s for s in shapes if s.blocker and not (s.convex or s.concave)), None)
        if blocked is not None:
            return blocked
        match n.name:
            case "real":
                return shapes[0]
            case "neg":
                return _minus(shapes[0])
            case "add":
                return _sum(n, shapes[0], shapes[1])
            case "sub":
                return _sum(n, shapes[0], _minus(shapes[1]))
            case "mul":
                return self._product(n, shapes, scope)
            case "div":
                if not shapes[1].constant:
                    if not shapes[0].constant:
                        return unknown(n, "numerator and denominator vary")
                    return self._reciprocal(n, shapes[1], scope)
                return self._scaled(n, shapes[0], n.args[1], scope, divide=True)
            case "pow" | "powi":
                return self._power(n, shapes, scope)
            case "xlogy" if n.args[0] is n.args[1] and shapes[0].affine and scope[n.args[0]].nonnegative:
                return CONVEX if scope[n.args[0]].finite else unknown(n, "may be infinite")
            case "sqrt":
                if self.is_norm(n.args[0], scope):
                    self.steps.append(Step("Euclidean norm", text(n), "convex"))
                    return CONVEX
            case "log" | "log1p" if self.log_convex(n.args[0], scope) and scope[n].finite:
                self.steps.append(Step("log of what is log-convex", text(n), "convex"))
                return CONVEX
        boxes = [scope[a] for a in n.args]
        if any(not b.finite for b in boxes):
            return unknown(n, "an argument may be undefined or infinite")
        record = PRIMITIVES.get(n.name)
        if record is None:
            return unknown(n, "no record")
        intervals = tuple(clipped(n.name, b) for b in boxes)
        if not record.defined(*intervals):
            return unknown(n, "may be undefined")
        return _compose(
            curvature_of(record.curvature, intervals, shapes), record.monotone(*intervals), tuple(shapes), n, n.name
        )

    def _vanishes(self, n: Apply, scope: Scope) -> bool:
        """A product with the constant 0, or a power of the constant exponent 0 (0^0 is 1): the input has no part in it."""
        if n.name not in ("mul", "pow"):
            return False
        pairs = [(n.args[0], n.args[1])] if n.name == "pow" else [(n.args[0], n.args[1]), (n.args[1], n.args[0])]
        for a, b in pairs:
            if self.varies(a) and not self.varies(b):
                box, by = scope[a], scope[b]
                return box.finite and not by.nan and by.lo == by.hi == 0 and (n.name == "mul" or box.nonnegative)
        return False

    def _scaled(self, n: Scalar, shape: Shape, by: Scalar, scope: Scope, *, divide: bool = False) -> Shape:
        box = scope[by]
        if divide and not box.nonzero:
            return unknown(n, f"{text(by)} may be 0")
        if not box.finite:
            return unknown(n, f"{text(by)} may be undefined or infinite")
        if shape.affine:
            return shape
        if box.nonnegative:
            return shape
        if box.nonpositive:
            return _minus(shape)
        return unknown(n, f"the sign of {text(by)} is not known")

    def _product(self, n: Apply, shapes: list[Shape], scope: Scope) -> Shape:
        a, b = n.args
        if shapes[0].constant or shapes[1].constant:
            varying, factor = (1, a) if shapes[0].constant else (0, b)
            return self._scaled(n, shapes[varying], factor, scope)
        if a is b:
            return self._square(n, a, shapes[0], scope)
        return unknown(n, "both factors vary")

    def _square(self, n: Scalar, a: Scalar, shape: Shape, scope: Scope) -> Shape:
        box = scope[a]
        if not box.finite:
            return unknown(n, f"{text(a)} may be undefined or infinite")
        if shape.affine or (shape.convex and box.nonnegative) or (shape.concave and box.nonpositive):
            return CONVEX
        return unknown(n, f"the square of {text(a)}, which is neither affine nor convex and non-negative")

    def _power(self, n: Apply, shapes: list[Shape], scope: Scope) -> Shape:
        base, exponent = n.args
        if not shapes[1].constant:
            return unknown(n, "the exponent varies")
        box, k = scope[base], scope[exponent]
        shape = shapes[0]
        fixed = exponent.value if isinstance(exponent, Const) and not isinstance(exponent.value, str) else None
        if not box.finite or k.nan:
            return unknown(n, "the base may be undefined or infinite")
        if fixed is not None and fixed.denominator == 1:
            if fixed == 1:
                return shape
            if fixed > 0 and fixed % 2 == 0:
                return self._square(n, base, shape, scope)
        if box.nonnegative and k.lo >= 1 and shape.convex:
            return CONVEX
        if box.nonnegative and k.lo >= 0 and k.hi <= 1 and shape.concave:
            return CONCAVE
        if box.positive and k.hi <= 0 and shape.concave:
            return CONVEX
        return unknown(n, "no rule for this base and exponent")

    def _reciprocal(self, n: Apply, shape: Shape, scope: Scope) -> Shape:
        """constant / b: 1/b is convex and decreasing where b > 0."""
        top, bottom = scope[n.args[0]], scope[n.args[1]]
        if not (bottom.positive and bottom.finite and top.finite and shape.concave):
            return unknown(n, "a reciprocal of what is not proved positive and concave")
        if top.nonnegative:
            return CONVEX
        return CONCAVE if top.nonpositive else unknown(n, f"the sign of {text(n.args[0])} is not known")

    def is_norm(self, inside: Scalar, scope: Scope) -> bool:
        """Whether the square root of `inside` is a Euclidean norm of affine (or convex non-negative) entries."""
        if isinstance(inside, Apply) and inside.name == "add":
            return all(self.is_norm(a, scope) or (not self.varies(a) and scope[a].nonnegative) for a in inside.args)
        if isinstance(inside, Read):
            d = self.program.definition(inside.tensor)
            if d is None or d.tensor in self.grouped or self.varies(d.support) or self.varies(d.where):
                return False
            if d.head not in ("sum", "map") or any(self.varies(i) for i in inside.indices):
                return False
            inner = self.ranges.body_scope(d)
            return self.is_norm(d.body, inner)
        if isinstance(inside, Apply) and inside.name in ("mul", "pow", "powi"):
            is_square = {
                "mul": inside.args[0] is inside.args[-1],
                "pow": _is_two(inside.args[-1]),
                "powi": _is_two(inside.args[-1]),
            }
            if not is_square[inside.name]:
                return False
            a = inside.args[0]
            shape, box = self.node(a, scope), scope[a]
            return box.finite and (shape.affine or (shape.convex and box.nonnegative))
        return False

    def log_convex(self, n: Scalar, scope: Scope) -> bool:
        """Whether `n` is the exponential of a convex function: sums, products and positive multiples of such are, too
        (Boyd and Vandenberghe 2004, 3.5)."""
        if not scope[n].positive:
            return False
        if not self.varies(n):
            return scope[n].finite
        match n:
            case Apply(name="exp"):
                return scope[n.args[0]].finite and self.node(n.args[0], scope).convex
            case Apply(name="add" | "mul"):
                return all(self.log_convex(a, scope) for a in n.args)
            case Apply(name="div"):
                return not self.varies(n.args[1]) and scope[n.args[1]].finite and self.log_convex(n.args[0], scope)
            case Read() if not any(self.varies(i) for i in n.indices):
                d = self.program.definition(n.tensor)
                if d is None or d.tensor in self.grouped or d.support is not TRUE or self.varies(d.where):
                    return False
                inner: Scope | None = self.ranges.body_scope(d)
                if inner is not None and d.where is not TRUE:
                    inner = inner.under(d.where, True)
                return d.head in ("map", "sum") and inner is not None and self.log_convex(d.body, inner)
        return False

    # ------------------------------------------------------------------------------------- second derivative

    def _through_affine(self, node: Scalar, scope: Scope) -> Shape | None:
        """A scalar that varies only through one affine subexpression has the curvature of its scalar view."""
        view = self.affine_view(node, scope)
        if view is None:
            return None
        for concave in (False, True):
            verdict = one.convex([view], self.budget, concave=concave)
            if isinstance(verdict, Proved):
                self.steps += verdict.steps
                return CONCAVE if concave else CONVEX
        return None

    def affine_view(self, node: Scalar, scope: Scope) -> View | None:
        """The scalar in the largest affine subexpression through which alone it varies."""
        try:
            whole = inline(self.program, node)
        except NotScalar:
            return None
        if any(isinstance(n, (Stop, Proxy, AdjointMap)) and self.varies(n) for n in postorder(whole)):
            return None
        chosen: Scalar | None = None
        for n in postorder(whole):
            if n.dtype is not REAL or not self.varies(n) or n is whole or not self._node_affine(n, scope):
                continue
            if not self.varies(substitute(whole, {n: VARIABLE})) and scope[n].finite:
                chosen = n
        if chosen is None or not scope.known.keys().isdisjoint({VARIABLE}):
            return None
        known = dict(scope.known)
        known[VARIABLE] = scope[chosen]
        inner = Scope(scope.ranges, scope.nonempty, known)
        return View(fold(substitute(whole, {chosen: VARIABLE})), VARIABLE, Const(1), VARIABLE, chosen, (), inner)

    def _node_affine(self, n: Scalar, scope: Scope) -> bool:
        key = (n, scope)  # a scope is what is known in a branch: affine in one need not be affine in another
        if key not in self._memo:
            self._memo[key] = (
                self.by_rule(n, scope) if isinstance(n, (Read, Apply)) and not _heavy(n) else Shape(False, False)
            )
        return self._memo[key].affine


def curvature_of(facet: Callable[..., Curvature], intervals: tuple[Interval, ...], shapes: list[Shape]) -> Curvature:
    """The curvature in the arguments that vary."""
    if len(shapes) > 1 and any(s.constant for s in shapes):
        return facet(*intervals, varying=[not s.constant for s in shapes])
    return facet(*intervals)


def _is_two(n: Scalar) -> bool:
    return isinstance(n, Const) and n.value == 2


def _heavy(n: Scalar) -> bool:
    return isinstance(n, Apply) and n.name not in ("add", "sub", "mul", "div", "neg", "real")


def _sum(n: Scalar, a: Shape, b: Shape) -> Shape:
    shape = Shape(a.convex and b.convex, a.concave and b.concave)
    return shape if shape.convex or shape.concave else unknown(n, "a convex and a concave term")


def _compose(
    outer: Curvature, monotone: tuple[Monotone, ...], shapes: tuple[Shape, ...], node: Scalar, name: str
) -> Shape:
    convex = outer in (Curvature.CONVEX, Curvature.AFFINE)
    concave = outer in (Curvature.CONCAVE, Curvature.AFFINE)
    for m, s in zip(monotone, shapes, strict=True):
        up, down = m in (Monotone.INCREASING, Monotone.CONSTANT), m in (Monotone.DECREASING, Monotone.CONSTANT)
        convex = convex and (s.affine or (s.convex and up) or (s.concave and down))
        concave = concave and (s.affine or (s.concave and up) or (s.convex and down))
    if convex or concave:
        return Shape(convex, concave)
    if outer is Curvature.UNKNOWN:
        return unknown(node, f"{name} has no curvature on this range")
    return unknown(node, f"{name} is {outer.value}, but its argument does not fit its monotonicity")


__all__ = ["AFFINE", "CONCAVE", "CONSTANT", "CONVEX", "Curvatures", "Index", "Shape"]
