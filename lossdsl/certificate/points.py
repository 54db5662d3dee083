"""Values at rational points: exact where the arithmetic is rational, else Arb balls of 128 to 4096 bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cmp_to_key
from typing import Any

from flint import arb, ctx, fmpq

from lossdsl.certificate.ranks import RANKING
from lossdsl.certificate.rules import Stuck
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

PRECISIONS = (128, 256, 512, 1024, 2048, 4096)
STEPS = 200_000
_MULTIPLIED = 64  # factors; larger powers are exponentials of logarithms
Place = tuple[int, ...]


class Undecided(Exception):
    """The balls are too wide at this precision."""


class NoValue(Stuck):
    """The value at a point is certainly no real number."""


class Pole(NoValue):
    """An infinity, of a sign; `either`: of that one or the other, as 0 has none."""

    def __init__(self, why: str, sign: int, *, either: bool = False) -> None:
        super().__init__(why)
        self.sign, self.either = sign, either


def ball(value: Any) -> Any:
    return arb(fmpq(value.numerator, value.denominator)) if isinstance(value, Fraction) else value


def certain(question: Callable[[Values], bool | None], make: Callable[[], Values]) -> bool:
    """The answer of a question about values, at the first precision at which it has one. Raises Stuck."""
    before = ctx.prec
    try:
        for bits in PRECISIONS:
            ctx.prec = bits
            try:
                answer = question(make())
            except Undecided:
                continue
            if answer is not None:
                return answer
    except (RecursionError, ZeroDivisionError, OverflowError) as problem:
        raise Stuck(f"{type(problem).__name__} at a point") from problem
    finally:
        ctx.prec = before
    raise Stuck("not decided with 4096 bits")


def infinite(value: Any, way: int = 0) -> bool:
    """Whether a value is an infinity for certain, the one of the sign if one is given."""
    if not isinstance(value, arb) or value.is_nan() or value.mid().is_finite() or not value.rad().is_finite():
        return False
    return not way or bool(value > 0 if way > 0 else value < 0)


def sign(value: Any) -> int:
    """-1, 0 or 1. Raises Undecided."""
    if isinstance(value, Fraction):
        return (value > 0) - (value < 0)
    if value > 0:
        return 1
    if value < 0:
        return -1
    if value.is_zero():
        return 0
    raise Undecided


class Values:
    """Elements of a program's tensors at a point: extents, parameters, and the entries of each input."""

    def __init__(
        self,
        program: Program,
        extents: Mapping[str, int],
        parameters: Mapping[str, Fraction],
        inputs: Mapping[str, Mapping[Place, Fraction]],
    ) -> None:
        self.extents, self.parameters, self.inputs = extents, parameters, inputs
        self.definitions = {d.tensor: d for d in program.definitions()}
        self.read: set[tuple[str, Place]] = set()  # entries of inputs, by what was evaluated
        self._known: dict[tuple[str, Place], Any] = {}
        self._left = STEPS

    def element(self, tensor: str, place: Place) -> Any:
        if tensor in self.inputs:
            if place not in self.inputs[tensor]:
                raise Stuck(f"{tensor} has no entry {place}")
            self.read.add((tensor, place))
            return self.inputs[tensor][place]
        key = (tensor, place)
        if key not in self._known:
            self._known[key] = self._definition(self.definitions[tensor], place)
        return self._known[key]

    def _definition(self, d: Definition, place: Place) -> Any:
        at: dict[Scalar, int] = {}
        at.update(zip(d.formals, place, strict=True))
        if d.support is not TRUE and not self.scalar(d.support, at, {}):
            return Fraction(0)
        if d.head == "map":
            return self.scalar(d.body, at, {})
        elements, left_out = [], []
        for position in itertools.product(*(range(i.dim.evaluate(self.extents)) for i in d.bound)):
            inner = dict(at)
            inner.update(zip(d.bound, position, strict=True))
            value = self._selected(d, inner)
            if value is None:
                left_out.append(position)
            else:
                elements.append((position, value))
        if d.head == "argsort":
            return Fraction(self._sorted(d, elements, left_out)[place[-1]])
        return self._fold(d, elements)

    def _selected(self, d: Definition, at: Mapping[Scalar, int]) -> Any:
        """The element of a fold at a place; None where it is left out."""
        return self.scalar(d.body, at, {}) if d.where is TRUE or self.scalar(d.where, at, {}) else None

    def _sorted(self, d: Definition, elements: Sequence[tuple[Place, Any]], left_out: Sequence[Place]) -> list[int]:
        """Row-major places in ascending order of the values, equal ones and those that are left out by place."""

        def order(a: tuple[int, Any], b: tuple[int, Any]) -> int:
            return sign(_both(a[1], b[1], lambda u, v: u - v)) or a[0] - b[0]

        pairs = sorted(((self._flat(d, at), value) for at, value in elements), key=cmp_to_key(order))
        return [k for k, _ in pairs] + sorted(self._flat(d, at) for at in left_out)

    def _flat(self, d: Definition, position: Place) -> int:
        flat = 0
        for i, k in zip(d.bound, position, strict=True):
            flat = flat * i.dim.evaluate(self.extents) + k
        return flat

    def _fold(self, d: Definition, elements: Sequence[tuple[Place, Any]]) -> Any:
        values = [v for _, v in elements]
        match d.head:
            case "sum":
                return _added(values)
            case "prod":
                total: Any = Fraction(1)
                for v in values:
                    total = _both(total, v, lambda a, b: a * b)
                return total
            case "count":
                return Fraction(sum(v is True for v in values))
            case "any":
                return any(values)
            case "all":
                return all(values)
            case "logsumexp" | "max" if not values:
                return arb("-inf")
            case "min" if not values:
                return arb("inf")
            case "logsumexp":
                values = [v for v in values if not infinite(v, -1)]
                if not values:
                    return arb("-inf")
                largest = max(values, key=lambda v: float(ball(v).mid()))
                return ball(largest) + _added([(ball(v) - ball(largest)).exp() for v in values]).log()
            case "argmax" | "argmin" if elements:
                return self._winner(d, elements)
            case "max" | "min":
                best = values[0]
                for v in values[1:]:
                    best = _extreme(best, v, d.head == "max")
                return best
        raise Stuck(f"{d.tensor}: no value of {d.head} here")

    def _winner(self, d: Definition, elements: Sequence[tuple[Place, Any]]) -> Fraction:
        """The row-major place of the first extreme element."""
        best = elements[0]
        for other in elements[1:]:
            s = sign(_both(other[1], best[1], lambda a, b: a - b))
            if s > 0 if d.head == "argmax" else s < 0:
                best = other
        return Fraction(self._flat(d, best[0]))

    def scalar(self, node: Scalar, at: Mapping[Scalar, int], known: dict[Scalar, Any]) -> Any:
        if node not in known:
            self._left -= 1
            if self._left < 0:
                raise Stuck("too many elements")
            value = self._scalar(node, at, known)
            if isinstance(value, arb) and value.is_nan():
                raise Undecided
            if infinite(value):
                value = arb("inf" if value > 0 else "-inf")  # without a radius
            known[node] = value
        return known[node]

    def _scalar(self, node: Scalar, at: Mapping[Scalar, int], known: dict[Scalar, Any]) -> Any:
        def of(n: Scalar) -> Any:
            return self.scalar(n, at, known)

        match node:
            case Const():
                if node.value == "nan":
                    raise NoValue("nan, as it is written")
                if isinstance(node.value, str):
                    return arb(node.value)
                return bool(node.value) if node.dtype.value == "bool" else Fraction(node.value)
            case Param():
                value = self.parameters[node.name]
                return bool(value) if node.dtype.value == "bool" else value
            case Size():
                return Fraction(node.dim.evaluate(self.extents))
            case Index():
                return Fraction(at[node])
            case Read():
                found = self.element(node.tensor, tuple(whole(of(i)) for i in node.indices))
                return bool(found) if node.dtype.value == "bool" else found
            case Table():
                return of(node.values[whole(of(node.index))])
            case Select():
                return of(node.a) if of(node.condition) else of(node.b)
            case Compare():
                return _compared(node.op, of(node.a), of(node.b))
            case Not():
                return not of(node.a)
            case And():
                return all(of(a) for a in node.children)
            case Or():
                return any(of(a) for a in node.children)
            case Stop() | AdjointMap():
                return of(node.a)
            case Proxy():
                return of(node.value)
            case Apply():
                return _apply(node.name, [of(a) for a in node.args])
        raise Stuck(f"{type(node).__name__} has no value here")


class Extended(Values):
    """Elements with infinities on the way: 1 / log(0) is 0. What is divided by zero has the sign `way`, as 0 has none."""

    def __init__(
        self,
        program: Program,
        extents: Mapping[str, int],
        parameters: Mapping[str, Fraction],
        inputs: Mapping[str, Mapping[Place, Fraction]],
        way: int,
    ) -> None:
        super().__init__(program, extents, parameters, inputs)
        self._way = way

    def _scalar(self, node: Scalar, at: Mapping[Scalar, int], known: dict[Scalar, Any]) -> Any:
        try:
            return super()._scalar(node, at, known)
        except Pole as pole:
            return arb("inf") * (pole.sign * (self._way if pole.either else 1))
        except NoValue as none:
            if self._may_hide(node, known):  # it fails, and what is selected may have a value; a power of 0 is 1
                raise Stuck(f"{type(node).__name__} of what has no value: {none.why}") from none
            raise

    def _may_hide(self, node: Scalar, known: Mapping[Scalar, Any]) -> bool:
        """Whether a scalar may have a value where something that it is of has none."""
        if isinstance(node, Apply) and node.name in ("pow", "powi"):
            exponent = node.args[1]
            return any(a not in known for a in node.args) and not (isinstance(exponent, Const) and exponent.value != 0)
        return isinstance(node, Compare)

    def _definition(self, d: Definition, place: Place) -> Any:
        try:
            return super()._definition(d, place)
        except NoValue as none:
            if d.head in RANKING:  # the place is one of them all the same
                raise Stuck(f"the order of what has no value: {none.why}") from none
            raise


def whole(value: Any) -> int:
    if isinstance(value, Fraction) and value.denominator == 1:
        return value.numerator
    raise Stuck("a place that is no whole number")


def _compared(op: str, a: Any, b: Any) -> bool:
    if isinstance(a, bool) and isinstance(b, bool):
        return (a == b) == (op == "==")
    return RELATIONS[op](sign(_both(a, b, lambda x, y: x - y)))


def _both(a: Any, b: Any, operation: Callable[[Any, Any], Any]) -> Any:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return operation(a, b)
    return operation(ball(a), ball(b))


def _added(values: Iterable[Any]) -> Any:
    total: Any = Fraction(0)
    for v in values:
        total = _both(total, v, lambda a, b: a + b)
    return total


def _extreme(a: Any, b: Any, largest: bool) -> Any:
    try:
        first = (sign(_both(a, b, lambda x, y: x - y)) >= 0) == largest
    except Undecided:  # equal up to the radius: the ball that holds both holds the extreme one
        return ball(a).union(ball(b))
    return a if first else b


def _apply(name: str, args: list[Any]) -> Any:
    match name:
        case "real" | "int":
            return Fraction(args[0]) if isinstance(args[0], bool) else args[0]
        case "add" | "sub" | "mul":
            _defined(name, *args)
            return _both(args[0], args[1], _EXACT[name])
        case "neg":
            return -args[0]
        case "div":
            if sign(args[1]) == 0:
                if sign(args[0]) == 0:
                    raise NoValue("0 / 0")
                raise Pole("a division by zero", sign(args[0]), either=True)
            return _both(args[0], args[1], lambda a, b: a / b)
        case "abs":
            return -args[0] if sign(args[0]) < 0 else args[0]
        case "relu":
            return _extreme(args[0], Fraction(0), True)
        case "clamp":
            return _extreme(_extreme(args[0], args[1], True), args[2], False)
        case "max2" | "min2":
            return _extreme(args[0], args[1], name == "max2")
        case "pow" | "powi":
            return _power(args[0], args[1])
        case "sign":
            return Fraction(sign(args[0]))
        case "floor":
            return _floor(args[0])
        case "ceil":
            return -_floor(-args[0])
        case "logaddexp" if any(infinite(a, -1) for a in args):
            return args[0] if infinite(args[1], -1) else args[1]
        case "xlogy":
            return _x_log(args[0], args[1])
        case "floordiv" | "mod" if all(isinstance(a, Fraction) for a in args) and args[1] != 0:
            return Fraction(args[0] // args[1]) if name == "floordiv" else args[0] % args[1]
    if name in _BALLS:
        return _BALLS[name](*(ball(a) for a in args))
    raise Stuck(f"the checker has no value of {name}")


def _floor(value: Any) -> Any:
    if isinstance(value, Fraction):
        return Fraction(math.floor(value))
    found = value.floor().unique_fmpz()
    if found is None:  # of more than one number, or of an infinity
        raise Undecided
    return Fraction(int(found))


def _defined(name: str, a: Any, b: Any) -> None:
    """Raises NoValue for inf - inf and 0 * inf."""
    if name == "mul":
        none = any(infinite(x) and (y.is_zero() if isinstance(y, arb) else y == 0) for x, y in ((a, b), (b, a)))
    else:
        none = any(infinite(a, way) and infinite(b, -way if name == "add" else way) for way in (1, -1))
    if none:
        raise NoValue(f"{name} of infinities")


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        return _whole_power(base, exponent.numerator)
    if sign(base) == 0:
        if sign(exponent) < 0:
            raise Pole("a power of zero", 1)
        return Fraction(sign(exponent) == 0)
    if sign(base) < 0 and not isinstance(exponent, Fraction):
        raise Undecided  # a whole number, perhaps
    return (_positive(base).log() * ball(exponent)).exp()


def _whole_power(base: Any, k: int) -> Any:
    if k < 0 and sign(base) == 0:
        raise Pole("a power of zero", 1, either=True)
    if abs(k) > _MULTIPLIED and sign(base) != 0:
        size = (ball(abs(base)).log() * k).exp()
        return -size if sign(base) < 0 and k % 2 else size
    result: Any = Fraction(1)
    for _ in range(min(abs(k), _MULTIPLIED)):  # 0 to any power above 0 is 0
        result = _both(result, base, lambda a, b: a * b)
    return result if k >= 0 else _both(Fraction(1), result, lambda a, b: a / b)


def _x_log(x: Any, y: Any) -> Any:
    if x == 0 if isinstance(x, Fraction) else x.is_zero():
        return Fraction(0)
    try:
        return ball(x) * _log(y)
    except Pole as pole:
        raise Pole(pole.why, sign(x) * pole.sign) from None
    except NoValue:
        sign(x)  # what may be 0 has no logarithm to look at
        raise


def _log(value: Any) -> Any:
    if sign(value) == 0:
        raise Pole("a logarithm of zero", -1)
    return _positive(value).log()


def _positive(value: Any) -> Any:
    if sign(value) <= 0:
        raise NoValue("a root or a logarithm of what is negative")
    return ball(value)


def _inside(value: Any) -> Any:
    """An argument of the gamma function and its kin."""
    if sign(value) <= 0:
        raise Stuck("a gamma function of what is not positive")
    return ball(value)


RELATIONS: dict[str, Callable[[int], bool]] = {  # of the sign of the difference
    "<": lambda s: s < 0,
    "<=": lambda s: s <= 0,
    ">": lambda s: s > 0,
    ">=": lambda s: s >= 0,
    "==": lambda s: s == 0,
    "!=": lambda s: s != 0,
}
_EXACT: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
}
_BALLS: dict[str, Callable[..., Any]] = {
    "exp": lambda x: x.exp(),
    "expm1": lambda x: x.expm1(),
    "log": lambda x: _log(x),
    "log2": lambda x: _log(x) / arb(2).log(),
    "log10": lambda x: _log(x) / arb(10).log(),
    "log1p": lambda x: _log(1 + x),
    "sqrt": lambda x: arb(0) if x == 0 else _positive(x).sqrt(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "tan": lambda x: x.tan(),
    "asin": lambda x: x.asin(),
    "acos": lambda x: x.acos(),
    "tanh": lambda x: x.tanh(),
    "sinh": lambda x: x.sinh(),
    "cosh": lambda x: x.cosh(),
    "atan": lambda x: x.atan(),
    "erf": lambda x: x.erf(),
    "erfc": lambda x: x.erfc(),
    "lgamma": lambda x: _inside(x).lgamma(),
    "digamma": lambda x: _inside(x).digamma(),
    "i0e": lambda x: abs(x).bessel_i(0, scaled=True),
    "pi": lambda: arb.pi(),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "softplus": lambda x: (1 + x.exp()).log(),
    "logsigmoid": lambda x: -(1 + (-x).exp()).log(),
    "logcosh": lambda x: x.cosh().log(),
    "normal_cdf": lambda x: (-x / arb(2).sqrt()).erfc() / 2,
    "log_normal_cdf": lambda x: ((-x / arb(2).sqrt()).erfc() / 2).log(),
    "log1mexp": lambda x: _log(1 - x.exp()),
    "logaddexp": lambda a, b: (a.exp() + b.exp()).log(),
    "expdiff": lambda a, b: (a - b).exp(),
}
