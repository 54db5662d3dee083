"""A program along a path: the germ of each element as `t` goes to infinity, every branch decided for all large t.

Entries of inputs move, `x + t d` (far out along a ray) or `p + d / t` (towards a point), and parameters may; all else is
fixed and exact. The evaluation is that of `points.Evaluator` with germs for numbers; what no germ decides raises Unsettled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cmp_to_key

from lossdsl.ir.nodes import (
    TRUE,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Not,
    Or,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
)
from lossdsl.verify import germs as g
from lossdsl.verify.folds import every_place, flat
from lossdsl.verify.germs import ZERO, Germ, Unsettled
from lossdsl.verify.operations import transfer
from lossdsl.verify.points import Place, Point
from lossdsl.verify.work import CLOCK

_STEPS = 6_000
_ONE, _HALF = Fraction(1), Fraction(1, 2)
YES, NO = g.constant(_ONE), ZERO


class Along:
    """Germs of elements along a path: `moving` has the entries that are not fixed, `parameters` the parameters."""

    def __init__(
        self,
        program: Program,
        point: Point,
        moving: Mapping[str, Mapping[Place, Germ]],
        parameters: Mapping[str, Germ] | None = None,
    ) -> None:
        self.program, self.point, self.moving, self.parameters = program, point, moving, parameters or {}
        self.definitions = {d.tensor: d for d in program.definitions()}
        self.touched = False  # whether an entry that moves was read
        self._memo: dict[tuple[str, Place], Germ] = {}
        self._steps = 0

    def element(self, tensor: str, place: Place) -> Germ:
        """The germ of an element. Raises Unsettled."""
        if tensor in self.point.inputs:
            if place in self.moving.get(tensor, {}):
                self.touched = True
                return self.moving[tensor][place]
            value = self.point.inputs[tensor].get(place)
            if value is None:
                raise Unsettled(f"{tensor} has no entry at {place}")
            return g.constant(value)
        key = (tensor, place)
        if key not in self._memo:
            self._memo[key] = self._definition(self.definitions[tensor], place)
        return self._memo[key]

    def _definition(self, d: Definition, place: Place) -> Germ:
        env = dict(zip(d.formals, place, strict=True))
        if d.support is not TRUE and not self._holds(d.support, env, {}):
            return ZERO
        if d.head == "map":
            return self.scalar(d.body, env, {})
        inner = dict(zip(d.formals[:-1], place, strict=False)) if d.head == "argsort" else env
        shape = tuple(i.dim.evaluate(self.point.extents) for i in d.bound)
        chosen: list[tuple[int, Germ]] = []
        left_out: list[int] = []
        for at in every_place(shape):
            here = {**inner, **dict(zip(d.bound, at, strict=True))}
            memo: dict[Scalar, Germ] = {}
            if d.where is not TRUE and not self._holds(d.where, here, memo):
                left_out.append(flat(at, shape))
            elif d.head != "count":
                chosen.append((flat(at, shape), self.scalar(d.body, here, memo)))
            elif self._holds(d.body, here, memo):
                chosen.append((flat(at, shape), YES))
        if d.head == "argsort":
            order = [k for k, _ in sorted(chosen, key=cmp_to_key(_before))] + left_out
            for rank, k in enumerate(order):
                self._memo[d.tensor, (*place[:-1], rank)] = g.constant(Fraction(k))
            return self._memo[d.tensor, place]
        return _fold(d.head, chosen)

    def _holds(self, condition: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Germ]) -> bool:
        return self.scalar(condition, env, memo).sign() > 0

    def scalar(self, node: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Germ]) -> Germ:
        if node not in memo:
            self._steps += 1
            CLOCK.steps += 1
            if self._steps > _STEPS:
                raise Unsettled("too many elements")
            memo[node] = self._scalar(node, env, memo)
        return memo[node]

    def _scalar(self, n: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Germ]) -> Germ:
        match n:
            case Const():
                if isinstance(n.value, str):
                    raise Unsettled(n.value)
                return g.constant(Fraction(n.value))
            case Param():
                found = self.parameters.get(n.name)
                return g.constant(self.point.parameters[n.name]) if found is None else found
            case Size():
                return g.constant(Fraction(n.dim.evaluate(self.point.extents)))
            case Index():
                return g.constant(Fraction(env[n]))
            case Read():
                return self.element(n.tensor, tuple(self._whole(i, env, memo) for i in n.indices))
            case Select():
                return self.scalar(n.a if self._holds(n.condition, env, memo) else n.b, env, memo)
            case Compare():
                return _compare(n.op, self.scalar(n.a, env, memo), self.scalar(n.b, env, memo))
            case And() | Or():
                stop = isinstance(n, Or)
                decided = any(self._holds(a, env, memo) is stop for a in n.args)
                return YES if decided is stop else NO
            case Not():
                return NO if self._holds(n.a, env, memo) else YES
            case Stop():
                return self.scalar(n.a, env, memo)
            case Proxy():
                return self.scalar(n.value, env, memo)
            case AdjointMap():
                return self.scalar(n.a, env, memo)
            case Table():
                return self.scalar(n.values[self._whole(n.index, env, memo)], env, memo)
            case Apply():
                return apply(n, [self.scalar(a, env, memo) for a in n.args])
        raise Unsettled("no rule")

    def _whole(self, n: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Germ]) -> int:
        v = self.scalar(n, env, memo).number()
        if not isinstance(v, Fraction) or v.denominator != 1:
            raise Unsettled("a place that is not certain")
        return int(v)


def _before(a: tuple[int, Germ], b: tuple[int, Germ]) -> int:
    return g.sub(a[1], b[1]).sign() or (-1 if a[0] < b[0] else 1)


def _compare(op: str, a: Germ, b: Germ) -> Germ:
    s = g.sub(a, b).sign()
    holds = {"<": s < 0, "<=": s <= 0, ">": s > 0, ">=": s >= 0, "==": s == 0, "!=": s != 0}[op]
    return YES if holds else NO


def _fold(head: str, chosen: list[tuple[int, Germ]]) -> Germ:
    values = [v for _, v in chosen]
    match head:
        case "sum" | "count":
            return _sum(values)
        case "prod":
            product = YES
            for v in values:
                product = g.mul(product, v)
            return product
        case "any":
            return YES if any(v.sign() > 0 for v in values) else NO
        case "all":
            return YES if all(v.sign() > 0 for v in values) else NO
    if not values:
        raise Unsettled(f"{head} of nothing")
    match head:
        case "max" | "min":
            sign = 1 if head == "max" else -1
            best = values[0]
            for v in values[1:]:
                best = v if sign * g.sub(v, best).sign() > 0 else best
            return best
        case "argmax" | "argmin":
            sign = 1 if head == "argmax" else -1
            place, best = chosen[0]
            for k, v in chosen[1:]:
                if sign * g.sub(v, best).sign() > 0:
                    place, best = k, v
            return g.constant(Fraction(place))
        case "logsumexp":
            return g.log_sum_exp(values)
    raise Unsettled(f"no germ for {head}")


def _sum(values: Iterable[Germ]) -> Germ:
    total = ZERO
    for v in values:
        total = g.add(total, v)
    return total


def apply(node: Apply, args: list[Germ]) -> Germ:
    """The germ of a primitive. Raises Unsettled."""
    a = args[0] if args else ZERO
    match node.name:
        case "add":
            return g.add(*args)
        case "sub":
            return g.sub(*args)
        case "mul":
            return g.mul(*args)
        case "div":
            return g.divide(*args)
        case "neg":
            return g.neg(a)
        case "real" | "int":
            return a
        case "abs":
            return g.magnitude(a)
        case "relu":
            return a if a.sign() > 0 else ZERO
        case "sign":
            return g.constant(Fraction(a.sign()))
        case "max2":
            return g.larger(*args)
        case "min2":
            return g.neg(g.larger(g.neg(args[0]), g.neg(args[1])))
        case "clamp":
            return g.neg(g.larger(g.neg(g.larger(a, args[1])), g.neg(args[2])))
        case "pow" | "powi":
            if any(m != g.CONSTANT for m, _ in args[1].terms):
                return g.exponential(g.mul(args[1], g.logarithm(a)))  # Unsettled unless a is positive
            exponent = args[1].number()
            if not isinstance(exponent, Fraction) or (exponent.denominator != 1 and a.sign() < 0):
                raise Unsettled("a power of what may be negative")
            return g.power(a, exponent)
        case "sqrt":
            return g.power(a, _HALF)
        case "logaddexp":
            return g.log_sum_exp(args)
        case "expdiff":
            return g.exponential(g.sub(*args))
        case "xlogy":
            return ZERO if a.zero else g.mul(a, g.logarithm(args[1]))
    if len(args) == 1:
        try:
            return g.near(node, a)
        except Unsettled:
            return _elementary(node.name, a)
    return _of_numbers(node, args)


def _elementary(name: str, a: Germ) -> Germ:
    """What is written in exponentials and logarithms."""
    match name:
        case "exp":
            return g.exponential(a)
        case "expm1":
            return g.sub(g.exponential(a), YES)
        case "log":
            return g.logarithm(a)
        case "log2" | "log10":
            base = g.logarithm(g.constant(Fraction(2 if name == "log2" else 10)))
            return g.divide(g.logarithm(a), base)
        case "lgamma":
            return g.log_gamma(a)
        case "digamma":
            return g.digamma(a)
        case "log1p":
            return g.logarithm(g.add(YES, a))
        case "log1mexp":
            return g.logarithm(g.sub(YES, g.exponential(a)))
        case "softplus":
            return g.log_sum_exp([ZERO, a])
        case "logsigmoid":
            return g.neg(g.log_sum_exp([ZERO, g.neg(a)]))
        case "sigmoid":
            return _sigmoid(a)
        case "tanh":
            return g.sub(g.mul(g.constant(Fraction(2)), _sigmoid(g.add(a, a))), YES)
        case "logcosh":
            return g.sub(g.log_sum_exp([a, g.neg(a)]), _LOG_2)
        case "cosh" | "sinh":
            up, down = g.exponential(a), g.exponential(g.neg(a))
            return g.mul(g.constant(_HALF), (g.add if name == "cosh" else g.sub)(up, down))
    raise Unsettled(name)


def _sigmoid(a: Germ) -> Germ:
    if a.sign() > 0:
        return g.power(g.add(YES, g.exponential(g.neg(a))), -_ONE)
    up = g.exponential(a)
    return g.divide(up, g.add(YES, up))


def _of_numbers(node: Apply, args: list[Germ]) -> Germ:
    boxes = [g.enclosed(a.number()) for a in args]
    found = transfer(node, boxes)
    if found.nan or not found.bounded:
        raise Unsettled(node.name)
    return g.constant(g.certain(found))


_LOG_2 = g.logarithm(g.constant(Fraction(2)))

__all__ = ["Along", "apply"]
