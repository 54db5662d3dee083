"""Classes by composition: how many continuous derivatives each element of each definition has, in some inputs jointly.

A composition of C^k functions is C^k; a primitive is of a class where the enclosures of its arguments say so (the square
root of what is positive is smooth, of what may be 0 continuous). Folds keep the class of what they fold, but extrema and
order statistics are only continuous. Where one scalar carries all that moves, branches and corners are decided as the
joins of a function of that scalar, so that `relu(u)^2` is C1. Recurrences are taken by induction along their order.

Values count, not the derivatives that code declares: `stop(x)` is x. A log-sum-exp over entries that may all be left out
is -inf for all values of the inputs, or for none: what is infinite in this way may be exponentiated or compared.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    And,
    Apply,
    Compare,
    Definition,
    Group,
    Index,
    Read,
    Scalar,
    Select,
    Size,
    postorder,
    tensors_of,
)
from lossdsl.ir.rewrite import members, substitute
from lossdsl.verify import scalar
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import one_branch, smooth_at, truth
from lossdsl.verify.pieces import NotScalar, carriers, cased, dependents, inline, of_values, reads_any
from lossdsl.verify.ranges import Ranges, Scope, matches, two_places
from lossdsl.verify.show import text
from lossdsl.verify.verdict import Proved, Step

SMOOTH, NONE = 3, -1
NAMES = {0: "C0", 1: "C1", 2: "C2", SMOOTH: "smooth"}
_CARRIER = Read("$v", (), REAL)
_MOST_CARRIERS, _MOST_NODES = 4, 200


@dataclass(frozen=True)
class Class:
    """Continuous derivatives of an element; `low`, `high`: it may also be -inf, inf, for all values of the inputs alike.
    What is neither is a real number everywhere."""

    order: int
    low: bool = False
    high: bool = False
    needs: frozenset[Dim] = frozenset()  # axes without an element of which there is no value; or, if `low`, it is -inf

    @property
    def infinite(self) -> bool:
        return self.low or self.high

    @property
    def shown(self) -> str:
        return NAMES[self.order] + ", or infinite" * self.infinite


FREE = Class(SMOOTH)


class Rough(Exception):
    """No class is known; the message is the smallest expression, and why."""


class _Ranges(Ranges):
    """Ranges that know of labels."""

    def extent(self, dim: Dim, nonempty: frozenset[Dim]) -> Enclosure:
        """Where there is a label, there is a class."""
        box = super().extent(dim, nonempty)
        if box.lo < 1 and any(
            i.classes == dim and i.also is None and all(d.constant or d in nonempty | self.present for d in i.dims)
            for i in self.program.inputs
        ):
            return Enclosure(1.0, box.hi, box.lo_open, box.hi_open)
        return box


@dataclass
class Classes:
    """The classes of a program's tensors in some inputs."""

    ctx: Context
    inputs: tuple[str, ...]
    known: dict[str, Class] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.program = of_values(self.ctx.program)
        self.ranges = _Ranges(self.program, self.ctx.assume, interior=frozenset(self.inputs))
        self.varying = frozenset().union(*(dependents(self.program, x) for x in self.inputs))
        self.definitions = {d.tensor: d for d in self.program.definitions()}
        self._carried_before: dict[tuple[Scalar, Scope], int] = {}

    def of(self, target: str) -> Class:
        """The class of the target. Raises Rough with the first thing of which none is known."""
        needed = {target}
        for item in reversed(self.program.body):
            if any(d.tensor in needed for d in members(item)):
                needed |= {t for d in members(item) for t in tensors_of(d.scalars())}
                needed |= {d.tensor for d in members(item)}
        for item in self.program.body:
            if any(d.tensor in needed & self.varying for d in members(item)):
                if isinstance(item, Group):
                    self._recurrence(item)
                else:
                    self.known[item.tensor] = self._definition(item)
                self.steps += [
                    Step("composition of classes", d.tensor, self.known[d.tensor].shown)
                    for d in members(item)
                    if self.known[d.tensor].order > NONE
                ]
        found = self.known.get(target, FREE)
        if found.infinite or found.needs:
            raise Rough(f"{target} may be infinite, or over nothing")
        if target not in self.known and not self.ranges.tensor(target).finite:
            raise Rough(f"{target} may be undefined or infinite")
        return found

    def _recurrence(self, group: Group) -> None:
        """By induction along the order: what is read of the group has the class, and is as finite, as is to be shown."""
        reason: Rough | None = None
        before = self.ranges
        for start in (Class(SMOOTH), Class(SMOOTH, low=True), Class(SMOOTH, high=True)):
            box = Enclosure(-INF, INF, not start.low, not start.high)
            self.ranges = before.supposing({d.tensor: box for d in group.definitions if d.dtype is REAL})
            try:
                self._induction(group, start)
                return
            except Rough as problem:
                reason = reason or problem
        assert reason is not None
        raise reason

    def _induction(self, group: Group, assumed: Class) -> None:
        while True:
            self.known |= {d.tensor: assumed for d in group.definitions}
            self._carried_before.clear()  # under what was assumed before
            found = [self._definition(d) for d in group.definitions]
            if any((c.low and not assumed.low) or (c.high and not assumed.high) or c.needs for c in found):
                raise Rough(f"{group.definitions[0].tensor} may be infinite")
            least = min(assumed.order, *(c.order for c in found))
            if least == assumed.order:
                return
            if least == NONE:
                raise Rough(f"{group.definitions[0].tensor}: a recurrence of what jumps")
            assumed = replace(assumed, order=least)

    # ----------------------------------------------------------------------------------------- definitions

    def moves(self, node: Scalar) -> bool:
        return reads_any(self.varying, node)

    def _definition(self, d: Definition) -> Class:
        if d.dtype is not REAL:
            return Class(NONE)  # a place or a condition: readers ask how it is used
        if self.moves(d.where) or self.moves(d.support):
            raise Rough(f"{d.tensor}: the selection depends on the input")
        scope: Scope | None = self.ranges.body_scope(d)
        for condition in (d.where, d.support):
            scope = scope.under(condition, True) if scope is not None else None
        if scope is None:
            return FREE if d.head in ("map", "sum", "prod") else Class(SMOOTH, low=True)  # nothing is ever selected
        body = self._best(d.body, scope)
        some = self._some(d)
        match d.head:
            case "map" | "sum" if d.head == "map" or not (body.low and body.high):
                return body
            case "prod" if not body.infinite:
                return body
            case "logsumexp" if not body.high:
                needs = frozenset[Dim]() if some or body.low else two_places(d)
                return Class(body.order, low=body.low or not some, needs=needs)
            case "max" | "min" if some:
                return replace(body, order=min(0, body.order))
            case "max" | "min" if d.where is TRUE:
                return replace(body, order=min(0, body.order), needs=frozenset(i.dim for i in d.bound))
        raise Rough(f"{d.tensor}: {d.head} over what may be nothing, or infinite")

    def _some(self, d: Definition) -> bool:
        """Whether the fold is over something: over whole axes that have an element, or over what includes the element's
        own place (`time[m] >= time[n]`)."""
        if d.where is TRUE:
            return all(self.ranges.extent(i.dim, frozenset(d.dims)).lo >= 1 for i in d.bound)
        own = [next((f for f in d.formals if f.dim == i.dim), None) for i in d.bound]
        for places in (
            itertools.product(*([f for f in d.formals if f.dim == i.dim] for i in d.bound)) if all(own) else ()
        ):
            here = substitute(d.where, dict(zip(d.bound, places, strict=True)))
            if _reflexive(here, self.ranges.scope(frozenset(d.dims))):
                return True
        return False

    # --------------------------------------------------------------------------------------------- scalars

    def _best(self, node: Scalar, scope: Scope) -> Class:
        """The class by composition, or by the joins of a function of one scalar."""
        composed, failure = Class(NONE), None
        try:
            composed = self._class(node, scope)
        except Rough as reason:
            failure = reason
        if composed.order < SMOOTH and not composed.infinite:
            carried = max(self._carried(n, scope.reading(n)) for n in {node, self._inlined(node)})
            if carried > composed.order:
                return Class(carried)
        if failure is not None:
            raise failure
        return composed

    def _class(self, node: Scalar, scope: Scope) -> Class:
        """Raises Rough."""
        if not self.moves(node):
            return _still(node, scope)
        match node:
            case Read():
                return self._read(node, scope)
            case Select():
                return self._select(node, scope)
            case Apply() if node.dtype is REAL and all(a.dtype is REAL or not self.moves(a) for a in node.args):
                return self._apply(node, [self._class(a, scope) for a in node.args], scope)
        raise Rough(f"{text(node)}: a value that jumps")

    def _read(self, node: Read, scope: Scope) -> Class:
        known = self.known.get(node.tensor, FREE)
        if known.order == NONE:
            raise Rough(f"{text(node)}: a value that jumps")
        if node.tensor not in self.definitions and not scope[node].finite:
            raise Rough(f"{text(node)} may be infinite")
        some = all(scope[Size(dim)].lo >= 1 for dim in known.needs)
        if not some and not known.low:
            raise Rough(f"{text(node)}: an extremum over what may be nothing")
        if known.needs:
            known = replace(known, low=known.low and not some, needs=frozenset())
        if any(self.moves(i) for i in node.indices):
            if not all(self._of_rank(node, i) for i in node.indices if self.moves(i)):
                raise Rough(f"{text(node)}: a place that depends on the input")
            return replace(known, order=min(0, known.order))
        return known

    def _of_rank(self, node: Read, index: Scalar) -> bool:
        """Whether the place is that of a rank, or of an extremum, among the entries that are read there."""
        d = self.definitions.get(index.tensor) if isinstance(index, Read) else None
        if d is None or not isinstance(index, Read) or d.head not in ("argsort", "argmax", "argmin"):
            return False
        body = d.body
        while isinstance(body, Apply) and body.name == "neg":
            body = body.args[0]
        last = -1 if d.head == "argsort" else None  # the rank
        own = index.indices[:last]
        found: dict[Index, Scalar] = dict(zip(d.formals[:last], own, strict=True))
        if d.where is not TRUE or d.support is not TRUE or len(d.bound) != 1 or any(self.moves(i) for i in own):
            return False
        return matches(body, node, found, set(d.bound), self.ranges.names) and found.get(d.bound[0]) is index

    def _select(self, node: Select, scope: Scope) -> Class:
        parts: list[Class] = []
        for branch, holds in ((node.a, True), (node.b, False)):
            inner = scope.under(node.condition, holds)
            if inner is not None:
                parts.append(self._class(branch, inner.reading(branch)))
        if len(parts) > 1 and self.moves(node.condition):
            carried = NONE if any(p.infinite for p in parts) else self._carried(node, scope)
            if carried == NONE:
                raise Rough(f"{text(node)}: a branch on the input")
            return Class(carried)
        if not parts:
            return FREE
        return Class(min(p.order for p in parts), any(p.low for p in parts), any(p.high for p in parts))

    def _apply(self, node: Apply, args: list[Class], scope: Scope) -> Class:
        boxes = [_box(scope[a], c) for a, c in zip(node.args, args, strict=True)]
        if any(c.infinite for c in args):
            found = _at_infinity(node.name, args, boxes)
            if found is None:
                raise Rough(f"{text(node)}: an argument may be infinite")
            return found
        order = min(c.order for c in args)
        own = class_at(node, boxes, [self.moves(a) for a in node.args])
        if own == NONE:
            raise Rough(f"{text(node)}: {node.name} may jump or be undefined here")
        order = min(order, own)
        if order < SMOOTH and node.name in _SMOOTHING and self._single(node):
            order = max(order, self._carried(node, scope))
        return Class(order)

    def _single(self, node: Scalar) -> bool:
        return len({n for n in postorder(node) if isinstance(n, Read) and n.tensor in self.varying}) == 1

    # -------------------------------------------------------------------------------------------- carriers

    def _inlined(self, node: Scalar) -> Scalar:
        """The scalar over inputs and folds, if it does not grow too much."""
        try:
            whole = inline(self.program, node)
        except NotScalar:
            return node
        return whole if sum(1 for _ in postorder(whole)) <= _MOST_NODES else node

    def _carried(self, node: Scalar, scope: Scope) -> int:
        """The class as a function of one scalar of a known class, through which all moves; NONE if there is none."""
        key = (node, scope)
        if key in self._carried_before:
            return self._carried_before[key]
        best = NONE
        for carrier in itertools.islice(carriers(node, self.varying), _MOST_CARRIERS):
            try:
                inner = self._class(carrier, scope)
            except Rough:
                continue
            box = _box(scope[carrier], inner)
            if inner.order > best and not inner.infinite and box.finite:
                best = max(best, min(inner.order, self._joined(substitute(node, {carrier: _CARRIER}), box, scope)))
        self._carried_before[key] = best
        return best

    def _joined(self, node: Scalar, box: Enclosure, scope: Scope) -> int:
        """The largest class that is proved of a function of the carrier."""
        known = {**scope.known, _CARRIER: box}
        best = NONE
        try:
            cases = cased(self.program, self.ranges, scope.nonempty, node, _CARRIER, known)
            for order in range(SMOOTH + 1):
                if not cases or not isinstance(scalar.differentiable(cases, order, self.ctx.budget), Proved):
                    break
                if order == SMOOTH and not scalar.without_joins(cases, self.ctx.budget):
                    break
                best = order
        except NotScalar:
            pass
        return best


_SMOOTHING = frozenset({"mul", "pow", "powi", "add", "sub", "div"})  # may have more derivatives than their arguments


def _reflexive(condition: Scalar, scope: Scope) -> bool:
    """Whether the condition holds because both sides are the same number."""
    if isinstance(condition, And):
        return all(_reflexive(c, scope) for c in condition.args)
    if isinstance(condition, Compare) and condition.a is condition.b:
        return condition.op in ("<=", ">=", "==") and not scope[condition.a].nan
    return truth(scope[condition]) is True


def _still(node: Scalar, scope: Scope) -> Class:
    """What does not move: a number, or infinite."""
    if node.dtype is not REAL:
        return FREE
    box = scope[node]
    if box.nan:
        raise Rough(f"{text(node)} may be undefined")
    return Class(SMOOTH, box.may_be_minus_infinite, box.may_be_plus_infinite)


def _box(box: Enclosure, known: Class) -> Enclosure:
    """The enclosure of what is known to be a real number."""
    if known.infinite:
        return box
    return Enclosure(box.lo, box.hi, box.lo_open or box.lo == -INF, box.hi_open or box.hi == INF)


def _at_infinity(name: str, args: list[Class], boxes: list[Enclosure]) -> Class | None:
    """The class of a value of arguments some of which may be infinite; None: no rule."""
    order, a = min(c.order for c in args), args[0]
    b = args[-1]
    match name:
        case "real":
            return a
        case "neg":
            return Class(order, a.high, a.low)
        case "sigmoid" | "tanh":
            return Class(order)
        case "exp" | "softplus" if not a.high:
            return Class(order)
        case "relu":
            return Class(min(0, order), high=a.high)
        case "add" if not (a.low and b.high) and not (a.high and b.low):
            return Class(order, a.low or b.low, a.high or b.high)
        case "sub" if not (a.low and b.low) and not (a.high and b.high):
            return Class(order, a.low or b.high, a.high or b.low)
        case "mul" | "div":
            for x, k, box in ((a, b, boxes[1]), (b, a, boxes[0]))[: 2 if name == "mul" else 1]:
                if not k.infinite and box.nonzero and (name == "mul" or box.finite):
                    return Class(order, x.low, x.high) if box.positive else Class(order, x.high, x.low)
            return None
        case "logaddexp" if not a.high and not b.high:
            return Class(order, low=a.low and b.low)
        case "expdiff" if not a.high and not b.low:
            return Class(order)
        case "max2":
            return Class(min(0, order), a.low and b.low, a.high or b.high)
        case "min2":
            return Class(min(0, order), a.low or b.low, a.high and b.high)
    return None


def class_at(node: Apply, boxes: list[Enclosure], moving: list[bool]) -> int:
    """The class of a primitive on the box of its arguments, its ends included."""
    if any(b.nan for b in boxes):
        return NONE
    if smooth_at(node, boxes) or one_branch(node.name, boxes):
        return SMOOTH
    if not all(b.finite for b in boxes):
        return NONE
    x = boxes[0]
    match node.name:
        case "abs" | "relu" | "max2" | "min2" | "clamp":
            return 0
        case "sqrt" if x.nonnegative:
            return 0
        case "pow" if x.nonnegative and boxes[1].positive:
            return 0 if moving[1] else min(2, max(0, math.ceil(boxes[1].lo) - 1))
        case "pow" if x.nonnegative and boxes[1].nonnegative and not moving[1]:
            return 0  # the power 0 is 1 everywhere
        case "xlogy" if node.args[0] is node.args[1] and x.nonnegative:
            return 0
        case "asin" | "acos" if x.lo >= -1 and x.hi <= 1:
            inside = (x.lo > -1 or x.lo_open) and (x.hi < 1 or x.hi_open)
            return SMOOTH if inside else 0
        case "i0e":
            return SMOOTH if x.nonzero else 0
    return NONE


__all__ = ["NAMES", "NONE", "SMOOTH", "Class", "Classes", "Rough", "class_at"]
