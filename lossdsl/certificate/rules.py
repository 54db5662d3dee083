"""Curvature and smoothness by composition, with the checker's own table of functions.

Curvature is that of Boyd and Vandenberghe, *Convex Optimization* (2004), section 3.2: a convex function, increasing in each
argument that is convex and decreasing in each that is concave, is convex. Each function's own curvature and monotonicity
below is elementary calculus (the sign of its first and second derivative); "log-concave" ones are from their table 3.1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.corners import is_one
from lossdsl.certificate.norms import root_of
from lossdsl.certificate.ranks import RANKING, ranked
from lossdsl.ir.nodes import (
    INT,
    REAL,
    TRUE,
    AdjointMap,
    Apply,
    Compare,
    Const,
    Definition,
    Proxy,
    Read,
    Scalar,
    Select,
    Stop,
    tensors_of,
)
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import INF, Enclosure

CONSTANT, AFFINE, CONVEX, CONCAVE, NEITHER = "constant", "affine", "convex", "concave", "neither"
_MINUS = {CONVEX: CONCAVE, CONCAVE: CONVEX}
UP, DOWN = 1, -1

# function: (smallest argument, largest argument, curvature there, monotonicity there), tried in this order
_FUNCTIONS: dict[str, tuple[tuple[float, float, str, int], ...]] = {
    "exp": ((-INF, INF, CONVEX, UP),),
    "expm1": ((-INF, INF, CONVEX, UP),),
    "log": ((0, INF, CONCAVE, UP),),
    "log2": ((0, INF, CONCAVE, UP),),
    "log10": ((0, INF, CONCAVE, UP),),
    "log1p": ((-1, INF, CONCAVE, UP),),
    "sqrt": ((0, INF, CONCAVE, UP),),
    "softplus": ((-INF, INF, CONVEX, UP),),
    "logsigmoid": ((-INF, INF, CONCAVE, UP),),
    "log_normal_cdf": ((-INF, INF, CONCAVE, UP),),
    "log1mexp": ((-INF, 0, CONCAVE, DOWN),),
    "relu": ((-INF, INF, CONVEX, UP),),
    "abs": ((0, INF, AFFINE, UP), (-INF, 0, AFFINE, DOWN), (-INF, INF, CONVEX, 0)),
    "logcosh": ((0, INF, CONVEX, UP), (-INF, 0, CONVEX, DOWN), (-INF, INF, CONVEX, 0)),
    "cosh": ((0, INF, CONVEX, UP), (-INF, 0, CONVEX, DOWN), (-INF, INF, CONVEX, 0)),
    "sinh": ((0, INF, CONVEX, UP), (-INF, 0, CONCAVE, UP), (-INF, INF, NEITHER, UP)),
    "sigmoid": ((0, INF, CONCAVE, UP), (-INF, 0, CONVEX, UP), (-INF, INF, NEITHER, UP)),
    "tanh": ((0, INF, CONCAVE, UP), (-INF, 0, CONVEX, UP), (-INF, INF, NEITHER, UP)),
    "atan": ((0, INF, CONCAVE, UP), (-INF, 0, CONVEX, UP), (-INF, INF, NEITHER, UP)),
    "erf": ((0, INF, CONCAVE, UP), (-INF, 0, CONVEX, UP), (-INF, INF, NEITHER, UP)),
    "normal_cdf": ((0, INF, CONCAVE, UP), (-INF, 0, CONVEX, UP), (-INF, INF, NEITHER, UP)),
    "lgamma": ((0, INF, CONVEX, 0),),
    "digamma": ((0, INF, CONCAVE, UP),),
    "erfc": ((0, INF, CONVEX, DOWN), (-INF, 0, CONCAVE, DOWN), (-INF, INF, NEITHER, DOWN)),
}
_JOINT = {"max2": (CONVEX, UP), "min2": (CONCAVE, UP), "logaddexp": (CONVEX, UP)}
_FOLDS = {"sum": (AFFINE, UP), "max": (CONVEX, UP), "min": (CONCAVE, UP), "logsumexp": (CONVEX, UP)}
_OPEN_DOMAIN = frozenset(
    {"log", "log2", "log10", "log1p", "log1mexp", "lgamma", "digamma"}
)  # the finite end is outside

_SMOOTH = frozenset({"exp", "expm1", "softplus", "logsigmoid", "log_normal_cdf", "logcosh", "cosh", "sinh", "sigmoid"})
_SMOOTH |= {
    "tanh",
    "atan",
    "erf",
    "erfc",
    "normal_cdf",
    "sin",
    "cos",
    "logaddexp",
    "expdiff",
    "add",
    "sub",
    "mul",
    "neg",
    "real",
}
_CONTINUOUS = _SMOOTH | {"abs", "i0e", "relu", "max2", "min2", "clamp"}
_FROM_ZERO = frozenset({"sqrt"})  # continuous at 0 as well
_TOGETHER = frozenset({"add", "sub", "neg", "real", "max2", "min2", "logaddexp"})  # numbers, or what is fixed, of such
_AT_INFINITY = _TOGETHER | {"exp", "expdiff", "softplus", "logsigmoid", "sigmoid", "relu"}
_SMOOTH_ABOVE_ZERO = frozenset({"log", "log2", "log10", "sqrt", "lgamma", "digamma"})


@dataclass(frozen=True)
class Stuck(Exception):
    """No rule; `why` names the scalar or tensor."""

    why: str


Shown = Callable[[Definition, str], str]


class Rules:
    """Curvature and smoothness of tensors in some inputs, jointly. Everything raises Stuck where no rule applies."""

    def __init__(self, bounds: Bounds, inputs: tuple[str, ...], shown: Shown | None = None) -> None:
        """`shown`: by other means, that the elements of a definition have a property in the one tensor that it returns."""
        self.bounds, self.inputs, self._shown = bounds, frozenset(inputs), shown
        self.moving = set(inputs)
        for _ in bounds.definitions:  # recurrences read ahead: until nothing more moves
            before = len(self.moving)
            for d in bounds.definitions.values():
                if not self.moving.isdisjoint(tensors_of(d.scalars())):
                    self.moving.add(d.tensor)
            if len(self.moving) == before:
                break
        self._curvatures: dict[str, str] = {}
        self._without: dict[str, Stuck] = {}  # why there is no curvature

    def moves(self, *nodes: Scalar) -> bool:
        """Whether any of the scalars depends on the inputs."""
        return not self.moving.isdisjoint(tensors_of(nodes))

    def settled(self, n: Select, case: Case) -> bool:
        """Whether the inputs have no part in which branch is taken: for other reasons, or since it is the same one always."""
        return not self.moves(n.condition) or o.truth(case[n.condition]) is not None

    def glued(self, n: Select, case: Case) -> list[tuple[Scalar, Case]]:
        """The parts of a choice by which of two numbers is larger, if its branches are one where these are equal, and where each
        part is looked at: the difference of the numbers, and both branches, up to where the numbers are equal. If all are
        continuous, it is (the pasting lemma); Lipschitz, too, on a convex domain: a segment from one side to the other passes
        a point at which the numbers are equal. Nothing for other choices."""
        c = n.condition
        if not isinstance(c, Compare) or c.op in ("==", "!=") or c.a.dtype is not REAL:
            return []
        found: list[tuple[Scalar, Case]] = [(Apply("sub", (c.a, c.b)), case)]
        ops = (">=", "<=") if c.op in (">", ">=") else ("<=", ">=")
        for branch, op in zip((n.a, n.b), ops, strict=True):
            inner = case.given(Compare(op, c.a, c.b), True)
            if inner is not None:
                found.append((branch, inner.inside(branch)))
        finite = case[c.a].finite and case[c.b].finite and all(inner[part].finite for part, inner in found)
        return found if finite and is_one(case, n.a, n.b, (c.a, c.b)) else []

    def case(self, d: Definition) -> Case | None:
        """Where elements of a definition are taken from; None if there are none. Raises Stuck where the inputs decide what is
        selected."""
        if self.moves(d.where, d.support):
            raise Stuck(f"{d.tensor}: what is selected depends on the inputs")
        case: Case | None = self.bounds.body(d)
        for condition in (d.support, d.where):
            if case is not None and condition is not TRUE:
                case = case.given(condition, True)
        return case

    def arguments(self, n: Apply, case: Case) -> list[Enclosure]:
        """The intervals of the arguments of an operation. Whether one is an infinity may not depend on the inputs (a fold of no
        elements): then the interval is of where it moves, and elsewhere it is one thing, as what is made of it is. Raises
        Stuck for any other that may be no number."""
        boxes = [case[a] for a in n.args]
        if all(b.finite for b in boxes):
            return boxes
        still = n.name in ("mul", "div") and any(not self.moves(a) and b.finite for a, b in zip(n.args, boxes))
        for a, box in zip(n.args, boxes):
            known = box.finite or (box.lo < INF and box.hi > -INF and self._fixed_infinity(a, case))
            if not known or not (still or n.name in _AT_INFINITY):
                raise Stuck(f"an argument of {n.name} may be undefined or infinite")
        return [Enclosure(b.lo, b.hi, b.lo_open or b.lo == -INF, b.hi_open or b.hi == INF) for b in boxes]

    def _fixed_infinity(self, n: Scalar, case: Case) -> bool:
        if case[n].finite:
            return True
        if not self.moves(n):
            return not case[n].nan
        if isinstance(n, Select) and not self.moves(n.condition):
            sides = ((branch, case.given(n.condition, holds)) for branch, holds in ((n.a, True), (n.b, False)))
            return all(inner is None or self._fixed_infinity(b, inner.inside(b)) for b, inner in sides)
        if isinstance(n, Read):
            d = self.bounds.definitions.get(n.tensor)
            if d is None or d.tensor in self.bounds.recurrent or self.moves(*n.indices, d.where, d.support):
                return False
            inner = self.case(d)
            if d.head == "map":
                return inner is None or self._fixed_infinity(d.body, inner)
            return d.head in ("logsumexp", "max", "min") and (inner is None or inner[d.body].finite)
        if isinstance(n, Apply) and n.name in _TOGETHER:
            return all(self._fixed_infinity(a, case) for a in n.args)
        if isinstance(n, Apply) and n.name in ("mul", "div"):
            still = [a for a in n.args if not self.moves(a)]
            return (
                len(still) == 1 and case[still[0]].finite and self._fixed_infinity(n.args[n.args[0] is still[0]], case)
            )
        return False

    # ------------------------------------------------------------------------------------------- curvature

    def curvature(self, tensor: str) -> str:
        """The curvature of each element; the program's definitions are taken in order, so nothing is deep."""
        if tensor in self.inputs:
            return AFFINE
        if tensor not in self.moving:
            return CONSTANT
        for d in self.bounds.needed(tensor):
            if d.tensor not in self._curvatures and d.tensor not in self._without and d.tensor in self.moving:
                try:
                    if d.tensor in self.bounds.recurrent:
                        self._recurrence(d)
                    else:
                        self._curvatures[d.tensor] = self._definition(d)
                except Stuck as reason:  # what reads it may be constant
                    self._without[d.tensor] = reason
        if tensor in self._without:
            raise self._without[tensor]
        return self._curvatures[tensor]

    def _recurrence(self, d: Definition) -> None:
        """What elements have where the earlier ones have it, all of them have."""
        group = [g for g in self.bounds.group(d.tensor) if g.tensor in self.moving]
        known, why = dict(self._curvatures), Stuck(f"{d.tensor}: a recurrence")
        for shape in (AFFINE, CONVEX, CONCAVE):
            self._curvatures = {**known, **{g.tensor: shape for g in group}}
            try:
                if all(_either([shape, self._definition(g)]) == shape for g in group):
                    return
            except Stuck as stuck:
                why = stuck
        self._curvatures = known
        raise why

    def _definition(self, d: Definition) -> str:
        case = self.case(d)
        if d.support is not TRUE and d.head != "map":
            raise Stuck(f"{d.tensor}: what is selected depends on the inputs")
        if case is None:
            return CONSTANT
        body = self._elements(d, case)
        if d.head == "map" or body == CONSTANT:
            return body
        if d.head not in _FOLDS:
            raise Stuck(f"{d.tensor}: no rule for {d.head}")
        if not case[d.body].finite:
            raise Stuck(f"{d.tensor}: elements may be infinite")
        own, direction = _FOLDS[d.head]
        return _composed(d.tensor, own, [(body, direction)])

    def _elements(self, d: Definition, case: Case) -> str:
        shown = self._shown
        try:
            return self._scalar(d.body, case)
        except Stuck:
            for shape in (CONVEX, CONCAVE):
                with contextlib.suppress(Stuck):
                    if shown is not None and self.curvature(shown(d, shape)) == AFFINE:
                        return shape
            raise

    def _scalar(self, root: Scalar, case: Case) -> str:
        found: dict[Scalar, str] = {}
        stack = [root]
        while stack:
            top = stack[-1]
            waiting = []
            if self.moves(top) and top.dtype is REAL and not isinstance(top, Select) and not _one_number(case[top]):
                waiting = [c for c in top.children if c not in found]
            if waiting:
                stack += waiting
                continue
            found[top] = self._node(top, case, found)
            stack.pop()
        return found[root]

    def _node(self, n: Scalar, case: Case, found: dict[Scalar, str]) -> str:
        if not self.moves(n) or _one_number(case[n]):
            return CONSTANT
        if isinstance(n, Read) and not self.moves(*n.indices):
            return self.curvature(n.tensor) if n.tensor not in self._curvatures else self._curvatures[n.tensor]
        if isinstance(n, Select) and self.settled(n, case):
            sides = []
            for branch, holds in ((n.a, True), (n.b, False)):
                inner = case.given(n.condition, holds)
                if inner is not None:
                    sides.append(self._scalar(branch, inner.inside(branch)))
            return _either(sides)
        if isinstance(n, Apply) and n.dtype is not INT:
            return self._apply(n, case, [found[a] for a in n.args])
        raise Stuck(f"{type(n).__name__} has no rule")

    def _apply(self, n: Apply, case: Case, shapes: list[str]) -> str:
        boxes = self.arguments(n, case)
        match n.name:
            case "real":
                return shapes[0]
            case "neg":
                return _minus(shapes[0])
            case "add":
                return _composed("add", AFFINE, [(s, UP) for s in shapes])
            case "sub":
                return _composed("sub", AFFINE, [(shapes[0], UP), (shapes[1], DOWN)])
            case "mul" if n.args[0] is n.args[1]:
                return _square(shapes[0], boxes[0])
            case "mul":
                fixed = 0 if shapes[0] == CONSTANT else 1
                if shapes[fixed] != CONSTANT:
                    raise Stuck("a product of two that depend on the inputs")
                return _scaled(shapes[1 - fixed], boxes[fixed])
            case "div":
                return _quotient(shapes, boxes)
            case "pow" | "powi":
                return _power(n.args[1], shapes, boxes)
            case "sqrt" if self._is_square(n.args[0], case):
                return CONVEX  # a Euclidean norm of affine terms
            case "xlogy" if n.args[0] is n.args[1] and shapes[0] == AFFINE and boxes[0].nonnegative:
                return CONVEX
        if n.name in _JOINT:
            own, direction = _JOINT[n.name]
            return _composed(n.name, own, [(s, direction) for s in shapes])
        found = _there(n.name, boxes[0])
        if found is None:
            raise Stuck(f"no rule for {n.name} here")
        own, direction = found
        return _composed(n.name, own, [(shapes[0], direction)])

    def _is_square(self, n: Scalar, case: Case) -> bool:
        """A sum of squares of affine terms, and of non-negative constants."""
        if isinstance(n, Apply) and n.name == "add":
            return all(self._is_square(a, case) or (not self.moves(a) and case[a].nonnegative) for a in n.args)
        if isinstance(n, Read) and not self.moves(*n.indices):
            d = self.bounds.definitions.get(n.tensor)
            if d is None or d.head not in ("sum", "map") or d.tensor in self.bounds.recurrent:
                return False
            return not self.moves(d.where, d.support) and self._is_square(d.body, self.bounds.body(d))
        root = root_of(n)
        return root is not None and case[root].finite and self._scalar(root, case) == AFFINE

    # ------------------------------------------------------------------------------------------ smoothness

    def smooth(self, tensor: str, corners: bool = False, order: int | None = None) -> list[str]:
        """The tensors on the way that move, all of them by operations that are smooth where they are used; continuous ones
        where `corners` are allowed; of `order` continuous derivatives where that is said."""
        heads = ("map", "sum", "logsumexp", *(("prod", "max", "min") if corners else ()))
        if not self.bounds.tensor(tensor).finite:
            raise Stuck(f"{tensor} may be undefined or infinite")
        waiting, way = [tensor], set[str]()
        while waiting:
            name = waiting.pop()
            if name in way or name not in self.moving or name not in self.bounds.definitions:
                continue
            way.add(name)
            d = self.bounds.definitions[name]
            case = self.case(d)
            if corners and d.head in RANKING:  # what reads it is asked for the value at the rank
                waiting += tensors_of(d.scalars())
                continue
            if d.head not in heads and self.moves(d.body):
                raise Stuck(f"{d.tensor}: no rule for {d.head}")
            if case is not None:
                if d.head not in ("map", "sum") and self.moves(d.body) and not case[d.body].finite:
                    raise Stuck(f"{d.tensor}: elements may be infinite")
                try:
                    waiting += self._smooth(d.body, case, corners, order)
                except Stuck:
                    if self._shown is None:
                        raise
                    waiting.append(self._shown(d, "C0" if corners else "smooth"))
        return [d.tensor for d in self.bounds.needed(tensor) if d.tensor in way]

    def _smooth(self, root: Scalar, case: Case, corners: bool, order: int | None) -> list[str]:
        """The tensors that are read, where the scalar is smooth in them."""
        stack, seen, read = [root], set(), list[str]()
        while stack:
            n = stack.pop()
            if n in seen or not self.moves(n):
                continue
            seen.add(n)
            if isinstance(n, Read) and not self.moves(*n.indices) and n.dtype is REAL:
                read.append(n.tensor)
                continue
            if corners and (k := ranked(self.bounds, n)) is not None:
                assert isinstance(n, Read)
                if not self.moves(*n.indices[:k], *n.indices[k + 1 :]) and self.bounds.tensor(n.tensor).finite:
                    read += [n.tensor, *tensors_of((n.indices[k],))]
                    stack += [i for i in n.indices[k].children if self.moves(i)]
                    continue
            if isinstance(n, Select) and self.settled(n, case):
                for branch, holds in ((n.a, True), (n.b, False)):
                    inner = case.given(n.condition, holds)
                    if inner is not None:
                        read += self._smooth(branch, inner.inside(branch), corners, order)
                continue
            if isinstance(n, Select) and corners and (parts := self.glued(n, case)):
                for part, inner in parts:
                    read += self._smooth(part, inner, corners, order)
                continue
            if isinstance(n, (Stop, AdjointMap, Proxy)) or not isinstance(n, Apply) or n.dtype is not REAL:
                raise Stuck(f"{type(n).__name__} has no rule")
            base = n if order is None else _without_corner(n, order)
            if base is not n and case[base].finite:
                stack.append(base)
                continue
            boxes = self.arguments(n, case)
            still = not self.moves(n.args[-1])
            if not (continuous_there(n, boxes, still) if corners else smooth_there(n, boxes)):
                raise Stuck(f"{n.name} is not {'continuous' if corners else 'smooth'} everywhere here")
            stack += n.args
        return read


def _one_number(box: Enclosure) -> bool:
    return box.finite and box.lo == box.hi


def smooth_there(n: Apply, boxes: list[Enclosure]) -> bool:
    """Whether an operation has all derivatives on the intervals of its arguments."""
    if any(not b.finite for b in boxes):
        return False
    match n.name:
        case "div":
            return boxes[1].nonzero
        case "log1p":
            return boxes[0].lo > -1 or (boxes[0].lo == -1 and boxes[0].lo_open)
        case "log1mexp":
            return boxes[0].negative
        case "i0e":
            return boxes[0].nonzero  # exp(-abs(x)) is in it
        case "xlogy":
            return boxes[1].positive
        case "pow" | "powi":
            k = n.args[1].value if isinstance(n.args[1], Const) else None
            if k is not None and not isinstance(k, str) and k.denominator == 1:
                return k >= 0 or boxes[0].nonzero
            return boxes[0].positive
    return n.name in _SMOOTH or (n.name in _SMOOTH_ABOVE_ZERO and boxes[0].positive)


def _without_corner(n: Apply, order: int) -> Scalar:
    """a of relu(a)^k and abs(a)^k for k > order, whose j-th derivatives are multiples of such powers of k - j; else the scalar
    itself."""
    base, k = n.args[0], Fraction(2) if root_of(n) is not None else None
    if k is None and n.name in ("pow", "powi") and isinstance(n.args[1], Const):
        k = n.args[1].value if isinstance(n.args[1].value, Fraction) else None
    corner = k is not None and k > order and isinstance(base, Apply) and base.name in ("relu", "abs")
    return base.children[0] if corner else n


def continuous_there(n: Apply, boxes: list[Enclosure], still: bool = False) -> bool:
    """Whether an operation is continuous on the intervals of its arguments; `still`: in all but the last, which is one number."""
    if smooth_there(n, boxes):
        return True
    if any(not b.finite for b in boxes):
        return False
    if n.name == "pow":
        number = boxes[1].nonnegative and still  # for an exponent of 0 it is 1 everywhere
        return boxes[0].nonnegative and (number or boxes[1].positive or boxes[0].positive)
    if n.name == "xlogy" and n.args[0] is n.args[1]:
        return boxes[0].nonnegative
    return n.name in _CONTINUOUS or (n.name in _FROM_ZERO and boxes[0].nonnegative)


def _there(name: str, box: Enclosure) -> tuple[str, int] | None:
    """Curvature and monotonicity of a function of one argument on an interval."""
    for low, high, own, direction in _FUNCTIONS.get(name, ()):
        if (box.lo > low or (box.lo == low and (box.lo_open or not _excluded(name, low)))) and (
            box.hi < high or (box.hi == high and (box.hi_open or not _excluded(name, high)))
        ):
            return own, direction
    return None


def direction_of(name: str, box: Enclosure) -> int:
    """Whether a function of one argument rises or falls on an interval; 0 if neither is known."""
    found = _there(name, box)
    return 0 if found is None else found[1]


def _excluded(name: str, end: float) -> bool:
    return name in _OPEN_DOMAIN and abs(end) != INF


def _minus(shape: str) -> str:
    return _MINUS.get(shape, shape)


def _either(shapes: list[str]) -> str:
    """The curvature that all of them have."""
    for candidate in (CONSTANT, AFFINE, CONVEX, CONCAVE):
        if all(s in (candidate, CONSTANT, AFFINE)[: 1 + 2 * (candidate != CONSTANT)] for s in shapes):
            return candidate
    raise Stuck("branches of different curvature")


def _composed(name: str, own: str, arguments: list[tuple[str, int]]) -> str:
    """A function of curvature `own`, with (curvature, direction) of each argument."""
    shapes = [shape if direction != DOWN else _minus(shape) for shape, direction in arguments]
    if all(s == CONSTANT for s in shapes):
        return CONSTANT
    flat = all(s in (CONSTANT, AFFINE) for s in shapes)
    if own == AFFINE and flat:
        return AFFINE
    for goal in (CONVEX, CONCAVE):
        fits = all(s in (CONSTANT, AFFINE) or (s == goal and d != 0) for s, (_, d) in zip(shapes, arguments))
        if own in (goal, AFFINE) and fits:
            return goal
    raise Stuck(f"{name} does not keep the curvature of its arguments")


def _scaled(shape: str, by: Enclosure) -> str:
    if shape in (CONSTANT, AFFINE) or by.nonnegative:
        return shape
    if by.nonpositive:
        return _minus(shape)
    raise Stuck("the sign of a factor is not known")


def _square(shape: str, box: Enclosure) -> str:
    if shape == CONSTANT:
        return CONSTANT
    if shape == AFFINE or (shape == CONVEX and box.nonnegative) or (shape == CONCAVE and box.nonpositive):
        return CONVEX
    raise Stuck("the square of what is not affine")


def _quotient(shapes: list[str], boxes: list[Enclosure]) -> str:
    if shapes[1] == CONSTANT:
        if not boxes[1].nonzero:
            raise Stuck("a divisor may be 0")
        return _scaled(shapes[0], boxes[1])
    if shapes[0] == CONSTANT and boxes[1].positive and shapes[1] in (AFFINE, CONCAVE):
        if boxes[0].nonnegative:
            return CONVEX
        if boxes[0].nonpositive:
            return CONCAVE
    raise Stuck("a quotient of two that depend on the inputs")


def _power(exponent: Scalar, shapes: list[str], boxes: list[Enclosure]) -> str:
    if shapes[1] != CONSTANT:
        raise Stuck("an exponent that depends on the inputs")
    base, k = boxes
    fixed = exponent.value if isinstance(exponent, Const) and not isinstance(exponent.value, str) else None
    if fixed == 1:
        return shapes[0]
    if fixed is not None and fixed.denominator == 1 and fixed > 0 and fixed % 2 == 0:
        return _square(shapes[0], base)
    if base.nonnegative and k.lo >= 1 and shapes[0] in (AFFINE, CONVEX):
        return CONVEX
    if base.nonnegative and k.lo >= 0 and k.hi <= 1 and shapes[0] in (AFFINE, CONCAVE):
        return CONCAVE
    if base.positive and k.hi <= 0 and shapes[0] in (AFFINE, CONCAVE):
        return CONVEX
    raise Stuck("no rule for this power")
