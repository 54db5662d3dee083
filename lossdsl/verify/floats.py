"""What float32 arithmetic certainly makes of a point: a finite number in an enclosure, an infinity, or no finite number.

The model is that of `finite`: relative errors, flush to zero or not, overflow above the largest number. What the model
leaves open (a value at the edge of overflow, a denominator that may be flushed to 0) raises Undecided. A product that
overflows may be contracted with an addition that brings it back: it is infinite only where the exact sum is out of
range too.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    INT,
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
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.folds import every_place, flat, whole
from lossdsl.verify.operations import compare, transfer, truth
from lossdsl.verify.points import Place, Point, Undecided
from lossdsl.verify.work import CLOCK

LARGEST, NORMAL = float.fromhex("0x1.fffffep127"), 2.0**-126
_VANISHING = 2.0**-151  # below half of the smallest number, with or without flush to zero
_STEPS = 12_000
_BASIC, _FUNCTION = 2.0**-20, 2.0**-16


@dataclass(frozen=True, slots=True)
class Float:
    """A float: in `box` and finite; or the infinity of `sign` (the box is its point); or `bad`, which is not finite
    (an infinity or NaN; certainly NaN if `nan`). `product`: what an infinity is the exact product of, where it is one."""

    box: Enclosure
    sign: int = 0
    bad: bool = False
    product: Enclosure | None = None
    nan: bool = False

    @property
    def finite(self) -> bool:
        return not self.bad and not self.sign


def infinity(sign: int, product: Enclosure | None = None) -> Float:
    return Float(Enclosure(sign * INF, sign * INF), sign, product=product)


BAD = Float(Enclosure(-INF, INF), bad=True)
NAN = Float(Enclosure(-INF, INF), bad=True, nan=True)
ZERO, ONE = Float(Enclosure(0.0, 0.0)), Float(Enclosure(1.0, 1.0))


def settled(exact: Enclosure, relative: float, *, product: bool = False) -> Float:
    """What becomes of an exact value. Raises Undecided at the edge of overflow."""
    if exact.nan:
        raise Undecided("a value that may be undefined")
    lo, hi = exact.lo, exact.hi
    if abs(lo) < INF:
        lo = e.add_down(lo, -abs(lo) * relative)
    if abs(hi) < INF:
        hi = e.add_up(hi, abs(hi) * relative)
    if lo > LARGEST or hi < -LARGEST:
        return infinity(1 if lo > 0 else -1, exact if product else None)
    if lo < -LARGEST or hi > LARGEST:
        raise Undecided("at the edge of overflow")
    if max(abs(lo), abs(hi)) < _VANISHING:
        return ZERO
    lo = 0.0 if 0 < lo < 2 * NORMAL else lo
    hi = 0.0 if -2 * NORMAL < hi < 0 else hi
    return Float(Enclosure(lo, hi))


class Floats:
    """Elements of the tensors of a program at a point, in float32."""

    def __init__(
        self, program: Program, point: Point, *, long: Mapping[str, int] | None = None, flushed: bool = False
    ) -> None:
        """`long`: axes with so many elements, all from the last one of the point on alike; `flushed`: subnormal numbers that
        are read are 0."""
        self.point, self.long, self.flushed = point, dict(long or {}), flushed
        self._sizes = {**point.extents, **self.long}
        self._definitions = {d.tensor: d for d in program.definitions()}
        self._inputs = {i.name: i for i in program.inputs}
        self._known: dict[tuple[str, Place], Float] = {}
        self._left = _STEPS

    def element(self, tensor: str, place: Place) -> Float:
        """Raises Undecided."""
        if tensor in self._inputs:
            value = self.point.inputs[tensor].get(place)
            if value is None:
                raise Undecided(f"{tensor} has no entry at {place}")
            return self._given(value)
        key = (tensor, place)
        if key not in self._known:
            self._known[key] = self._definition(self._definitions[tensor], place)
        return self._known[key]

    def _given(self, value: Fraction) -> Float:
        return ZERO if self.flushed and abs(value) < NORMAL else Float(e.exact(value))

    def _extent(self, dim: Dim) -> int:
        """The number of places of an axis that are looked at."""
        if self._is_long(dim) is None and any(s in self.long for s in dim.symbols()):
            raise Undecided("an extent that is made of the number of elements of a long axis")
        return dim.evaluate(self.point.extents)

    def _is_long(self, dim: Dim) -> int | None:
        """The last place of a long axis."""
        name = next(dim.symbols(), None) if len(self.long) else None
        return self.point.extents[name] - 1 if name in self.long and dim == Dim.symbol(name) else None

    def _copies(self, bound: Sequence[Index], at: Place) -> int:
        """How many places this one stands for."""
        n = 1
        for i, k in zip(bound, at, strict=True):
            last = self._is_long(i.dim)
            if last == k:
                n *= i.dim.evaluate(self.long) - last
        return n

    def _definition(self, d: Definition, place: Place) -> Float:
        env = dict(zip(d.formals, place, strict=True))
        if d.support is not TRUE and not self._holds(d.support, env):
            return ZERO
        if d.head == "map":
            return self._scalar(d.body, env, {})
        if d.head in ("inverse", "logdet"):
            raise Undecided(f"no value for {d.head}")
        if d.head == "argsort":
            env = dict(zip(d.formals[:-1], place, strict=False))
        chosen: list[tuple[Place, Float]] = []
        left_out: list[Place] = []
        for at in every_place([self._extent(i.dim) for i in d.bound]):
            inner = {**env, **dict(zip(d.bound, at, strict=True))}
            if d.where is TRUE or self._holds(d.where, inner):
                chosen.append((at, self._scalar(d.body, inner, {})))
            else:
                left_out.append(at)
        copies = [self._copies(d.bound, at) for at, _ in chosen]
        if any(n > 1 for n in copies):
            return _of_many(d, chosen, copies)
        if d.head == "argsort":
            if any(self._is_long(i.dim) is not None for i in d.bound):
                raise Undecided("an order of a long axis")
            ordered = sorted(chosen, key=cmp_to_key(_before))  # stable
            return self._flat(d, [*(at for at, _ in ordered), *left_out][place[-1]])
        return _folded(d, chosen)

    def _flat(self, d: Definition, place: Place) -> Float:
        return _whole(flat(place, tuple(i.dim.evaluate(self.point.extents) for i in d.bound)))

    def _placed(self, node: Compare) -> tuple[Scalar, Scalar] | None:
        """A place on a long axis and what it is compared with."""
        for a, b in ((node.a, node.b), (node.b, node.a)):
            if isinstance(a, Index) and self._is_long(a.dim) is not None:
                return a, b
        return None

    def _subscript(self, node: Scalar, of: Callable[[Scalar], Float], env: Mapping[Index, int]) -> int:
        return env[node] if isinstance(node, Index) else _place(of(node))

    def _holds(self, condition: Scalar, env: Mapping[Index, int]) -> bool:
        return _certain(self._scalar(condition, env, {}))

    def _scalar(self, node: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Float]) -> Float:
        if node not in memo:
            self._left -= 1
            CLOCK.steps += 1
            if self._left < 0:
                raise Undecided("too many elements")
            memo[node] = self._node(node, env, memo)
        return memo[node]

    def _node(self, node: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Float]) -> Float:
        def of(n: Scalar) -> Float:
            return self._scalar(n, env, memo)

        match node:
            case Const():
                return _constant(node.value)
            case Param():
                return self._given(self.point.parameters[node.name])
            case Size():
                return _whole(node.dim.evaluate(self._sizes))
            case Index():
                if self._is_long(node.dim) is not None:
                    raise Undecided("a place on a long axis")
                return _whole(env[node])
            case Read():
                return self.element(node.tensor, tuple(self._subscript(i, of, env) for i in node.indices))
            case Table():
                return of(node.values[_place(of(node.index))])
            case Select():
                return of(node.a if _certain(of(node.condition)) else node.b)
            case Compare() if self.long and node.op in ("==", "!=") and self._placed(node) is not None:
                index, other = self._placed(node) or (node.a, node.b)
                assert isinstance(index, Index)
                at = of(other)
                if not at.finite or at.box.hi >= (self._is_long(index.dim) or 0):
                    raise Undecided("which one of a long axis")
                return compare_float(node.op, _whole(env[index]), at)
            case Compare():
                a, b = of(node.a), of(node.b)
                if a.bad or b.bad:
                    raise Undecided("a comparison with what may be undefined")
                return compare_float(node.op, a, b)
            case And() | Or():
                stop = isinstance(node, Or)
                for part in node.args:
                    if _certain(of(part)) is stop:
                        return ONE if stop else ZERO
                return ZERO if stop else ONE
            case Not():
                return ZERO if _certain(of(node.a)) else ONE
            case Stop() | AdjointMap():
                return of(node.a)
            case Proxy():
                return of(node.value)
            case Apply():
                return _applied(node, [of(a) for a in node.args])
        raise Undecided(f"no value of {type(node).__name__}")


def compare_float(op: str, a: Float, b: Float) -> Float:
    return Float(compare(op, a.box, b.box))


def _certain(v: Float) -> bool:
    decided = truth(v.box)
    if decided is None or v.bad:
        raise Undecided("a condition at the edge")
    return decided


def _whole(n: int) -> Float:
    return Float(e.exact(n))


def _place(v: Float) -> int:
    if not v.finite or v.box.lo != v.box.hi or not v.box.lo.is_integer():
        raise Undecided("an index that is not exact")
    return int(v.box.lo)


def _constant(value: Fraction | str) -> Float:
    if isinstance(value, str):
        return NAN if value == "nan" else infinity(1 if value == "inf" else -1)
    box = e.exact(value)
    if (
        box.lo == box.hi
        and (box.lo == 0 or abs(value.numerator).bit_length() <= 24)
        and _power_of_two(value.denominator)
    ):
        return Float(box)
    return settled(box, 2.0**-23)


def _power_of_two(n: int) -> bool:
    return n & (n - 1) == 0


# ------------------------------------------------------------------------------------------------------ folds


def _folded(d: Definition, chosen: list[tuple[Place, Float]]) -> Float:
    values = [v for _, v in chosen]
    match d.head:
        case "sum":
            return _sum(values)
        case "prod":
            return _product(values)
        case "count":
            return _whole(sum(_certain(v) for v in values))
        case "any":
            return _whole(max(_certain(v) for v in values) if values else 0)
        case "all":
            return _whole(min(_certain(v) for v in values) if values else 1)
    if any(v.bad for v in values) or not (values or d.head == "logsumexp"):
        raise Undecided(f"no certain {d.head}")
    match d.head:
        case "max" | "min":
            pick = max if d.head == "max" else min
            lo, hi = pick(v.box.lo for v in values), pick(v.box.hi for v in values)
            return infinity(1 if lo > 0 else -1) if abs(lo) == INF and lo == hi else _interval(lo, hi)
        case "argmax" | "argmin":
            return _winner(1.0 if d.head == "argmax" else -1.0, chosen)
        case "logsumexp":
            return _logsumexp(values)
    raise Undecided(f"no value for {d.head}")


def _of_many(d: Definition, chosen: list[tuple[Place, Float]], copies: list[int]) -> Float:
    """A fold of values, each of them so many times."""
    values = [v for _, v in chosen]
    match d.head:
        case "sum":
            return _sum(values, copies)
        case "count":
            return _whole(sum(n for v, n in zip(values, copies, strict=True) if _certain(v)))
        case "logsumexp" if not any(v.bad for v in values):
            return _logsumexp(values, copies)
        case "max" | "min" | "any" | "all":
            return _folded(d, chosen)
        case "argmax" | "argmin" if not any(v.bad for v in values):
            at = _folded(d, chosen)
            if all(n == 1 for (place, _), n in zip(chosen, copies, strict=True) if place[0] == at.box.lo):
                return at
    raise Undecided(f"a {d.head} of many")


def _interval(lo: float, hi: float) -> Float:
    if abs(lo) == INF or abs(hi) == INF:
        raise Undecided("finite or not")
    return Float(Enclosure(lo, hi))


def _before(p: tuple[Place, Float], q: tuple[Place, Float]) -> int:
    """The order of two floats, if it is certain."""
    a, b = p[1], q[1]
    if a.bad or b.bad:
        raise Undecided("an order of what may be undefined")
    if a.box.hi < b.box.lo or b.box.hi < a.box.lo:
        return -1 if a.box.hi < b.box.lo else 1
    if a.box.lo == a.box.hi == b.box.lo == b.box.hi:
        return 0
    raise Undecided("no certain order")


def _winner(sign: float, chosen: list[tuple[Place, Float]]) -> Float:
    """The place of the first extremum along one axis, if there is no doubt."""
    for k, (at, v) in enumerate(chosen):
        low = v.box.lo if sign > 0 else -v.box.hi
        tops = [u.box.hi if sign > 0 else -u.box.lo for _, u in chosen]
        if all(t < low for t in tops[:k]) and all(t <= low for t in tops[k + 1 :]) and len(at) == 1:
            return _whole(at[0])
    raise Undecided("no certain extremum")


def _sum(values: Sequence[Float], copies: Sequence[int] = ()) -> Float:
    """In any order, each product contracted with its addition or not."""
    if any(v.bad for v in values):
        return NAN if any(v.nan for v in values) else BAD
    signs = {v.sign for v in values if v.sign}
    if len(signs) == 2:
        return BAD  # or one of them, where a product of the other is brought back
    total, size = Enclosure(0.0, 0.0), Enclosure(0.0, 0.0)
    many = max(copies, default=1) > 1 or len(values) > 2
    for v, n in zip(values, copies or [1] * len(values), strict=True):
        if v.finite:
            box = v.box if n == 1 else e.mul(v.box, e.exact(n))
            total, size = e.add(total, box), e.add(size, e.absolute(box))
    if signs:
        around = Enclosure(-size.hi, size.hi)
        for v in values:
            if v.sign and v.product is None:
                return infinity(v.sign)
        found = [settled(e.add(v.product, around), _FUNCTION) for v in values if v.product is not None]
        if all(f.sign for f in found):
            return infinity(signs.pop())
        raise Undecided("a product that a sum may bring back")
    slack = size.hi * _FUNCTION if many else 0.0  # of a single addition `settled` knows the error
    exact = Enclosure(e.add_down(total.lo, -slack), e.add_up(total.hi, slack))
    if many and size.hi > LARGEST and not all(v.box.lo >= 0 for v in values) and not all(v.box.hi <= 0 for v in values):
        raise Undecided("a sum that may overflow on the way")
    return settled(exact, 0.0 if _exact(exact) and not many else _BASIC)


def _exact(found: Enclosure) -> bool:
    """Whether an operation that is rounded to the nearest number gives what it would without rounding."""
    return found.lo == found.hi and (
        found.lo == 0
        or (NORMAL <= abs(found.lo) <= LARGEST and struct.unpack("f", struct.pack("f", found.lo))[0] == found.lo)
    )


def _power_of_two_apart(divisor: Enclosure) -> bool:
    return divisor.lo == divisor.hi and abs(math.frexp(divisor.lo)[0]) == 0.5


def _product(values: Sequence[Float]) -> Float:
    if any(not v.finite for v in values):
        return NAN if any(v.nan for v in values) else BAD  # times 0, or times a number
    total, largest = Enclosure(1.0, 1.0), 1.0
    for v in values:
        total = e.mul(total, v.box)
        largest *= max(1.0, abs(v.box.lo), abs(v.box.hi))
    if largest > LARGEST:
        raise Undecided("a product that may overflow on the way")
    return settled(total, _FUNCTION)


def _logsumexp(values: Sequence[Float], copies: Sequence[int] = ()) -> Float:
    if any(v.sign > 0 for v in values):
        return BAD  # inf, or inf - inf on the way
    finite = [(v, n) for v, n in zip(values, copies or [1] * len(values), strict=True) if v.finite]
    if not finite:
        return infinity(-1)
    top, low = max(v.box.hi for v, _ in finite), max(v.box.lo for v, _ in finite)
    total = Enclosure(0.0, 0.0)
    for v, n in finite:
        total = e.add(total, e.mul(e.exact(n), transfer(_EXP, [e.sub(v.box, Enclosure(top, top))])))
    exact = e.add(Enclosure(top, top), transfer(_LOG, [total]))
    # it is computed as the largest plus a logarithm that is not negative; a sum is rounded to the nearest number
    if top == low and exact.hi - top < abs(top) * 2.0**-26:
        return Float(Enclosure(top, top))
    lo, hi = exact.lo - abs(exact.lo) * _FUNCTION, exact.hi + abs(exact.hi) * _FUNCTION
    return Float(Enclosure(max(low, lo), min(hi, LARGEST)))


_EXP, _LOG = Apply("exp", (Param("#x"),)), Apply("log", (Param("#x"),))
assert isinstance(_EXP, Apply)
assert isinstance(_LOG, Apply)


# ------------------------------------------------------------------------------------------------- operations


def _applied(node: Apply, args: list[Float]) -> Float:
    name = node.name
    if name in ("real", "int"):
        return args[0]
    if node.dtype is INT:
        return _integer(node, args)
    if name == "neg":
        return _negative(args[0])
    if name == "add":
        return _sum(args)
    if name == "sub":
        if node.args[0] is node.args[1]:
            return ZERO if args[0].finite else NAN
        return _sum([args[0], _negative(args[1])])
    if all(a.finite for a in args):
        return _of_finite(node, args)
    if any(a.nan for a in args) and name not in _DEAF:
        return NAN
    if name in ("mul", "div"):
        return _quotient(node, args)
    rule = _AT_INFINITY.get(name)
    if rule is None:
        raise Undecided(f"{name} of what is not finite")
    return rule(args)


def _negative(a: Float) -> Float:
    return Float(e.neg(a.box), -a.sign, a.bad, None if a.product is None else e.neg(a.product), a.nan)


def _integer(node: Apply, args: list[Float]) -> Float:
    if not all(a.finite for a in args):
        raise Undecided("rounding of what is not finite")
    if node.name not in ("floordiv", "mod", "floor", "ceil"):
        return Float(transfer(node, [a.box for a in args]))
    if any(a.box.lo != a.box.hi for a in args):
        raise Undecided("rounding at the edge")
    return Float(e.exact(whole(node.name, [Fraction(a.box.lo) for a in args])))


_LEVEL = {"sigmoid": 0, "tanh": -1}  # what they are, exactly, where exp(-|x|) is flushed to 0; 1 on the other side
_FLAT = 110.0
_UNCHANGED = frozenset({"abs", "max2", "min2", "relu", "clamp", "sign"})
EXPONENTIAL = frozenset({"exp", "expm1", "expdiff", "pow", "powi", "cosh", "sinh"})
NATURAL = {  # what the values of a function are cut to: libraries keep to it
    "sigmoid": (0.0, 1.0 + 2.0**-20),
    "tanh": (-1.0, 1.0),
    "softplus": (0.0, INF),
    "logsigmoid": (-INF, 0.0),
    "exp": (0.0, INF),
    "expdiff": (0.0, INF),
    "sqrt": (0.0, INF),
    "logcosh": (0.0, INF),
    "erfc": (0.0, INF),
    "normal_cdf": (0.0, 1.0),
    "log_normal_cdf": (-INF, 0.0),
    "erf": (-1.0, 1.0),
    "cosh": (1.0, INF),
}


def _of_finite(node: Apply, args: list[Float]) -> Float:
    """An operation of finite numbers."""
    name, boxes = node.name, [a.box for a in args]
    x = boxes[0] if boxes else None
    if name in ("div", "log", "log2", "log10", "sqrt") and x is not None:
        zero = boxes[-1]
        if zero.zero and name == "div":
            return NAN if x.zero else BAD  # 0 / 0, or an infinity of either sign
        if zero.zero and name != "sqrt":
            return infinity(-1)
        if x.hi < 0 and name != "div":
            return NAN
        if zero.may_be_zero and name == "div" and _exceeds(x, zero):
            return BAD
        if zero.may_be_zero and name != "sqrt":
            raise Undecided(f"{name} of what may be flushed to 0")
    if name == "log1p" and x is not None and x.hi <= -1:
        return infinity(-1) if x.lo == x.hi == -1 else NAN if x.hi < -1 else _unknown(name)
    if name in ("pow", "powi") and x is not None and x.may_be_zero and boxes[1].lo < 0:
        if x.zero and boxes[1].hi <= -NORMAL:
            return BAD  # an infinity, of either sign where the exponent is odd
        raise Undecided("a negative power of what may be 0")
    if name == "pow" and x is not None and x.hi < 0 and _between(boxes[1]):
        return NAN
    if name == "xlogy":
        return ZERO if boxes[0].zero else _quotient(_MUL, [args[0], _of_finite(_LOG, [args[1]])])
    if name in _LEVEL and x is not None and max(x.lo, -x.hi) >= _FLAT:
        return Float(e.exact(1 if x.lo > 0 else _LEVEL[name]))
    found = transfer(node, boxes)
    if name in _UNCHANGED:
        return settled(found, 0.0)
    if name in ("mul", "div"):
        known = _exact(found) and (name == "mul" or _power_of_two_apart(boxes[1]))
        return settled(found, 0.0 if known else _BASIC, product=True)
    reach = max((max(abs(b.lo), abs(b.hi)) for b in boxes), default=0.0)
    error = min(1.0, (min(reach, 200.0) + 2) * _BASIC) if name in EXPONENTIAL else _FUNCTION
    result = settled(found, error, product=name in ("pow", "powi"))
    lo, hi = NATURAL.get(name, (-INF, INF))
    if result.finite and result.box.hi >= lo and result.box.lo <= hi:
        return Float(Enclosure(max(result.box.lo, lo), min(result.box.hi, hi)))
    return result


def _exceeds(x: Enclosure, by: Enclosure) -> bool:
    """Whether every quotient by what is not 0 is out of range, and none by 0 is a number."""
    least = max(x.lo, -x.hi)
    return least > 0 and least > 2 * LARGEST * max(by.hi, -by.lo)


def _between(exponent: Enclosure) -> bool:
    """Whether it is certainly no whole number."""
    return math.floor(exponent.lo) == math.floor(exponent.hi) != exponent.lo


# What of NaN is not known to be NaN: powers and choices. (`relu`, `clamp`, `max2` and `min2` are spelled so that they keep it.)
_DEAF = frozenset({"pow", "powi", "xlogy", "logaddexp", "expdiff"})
_MUL = Apply("mul", (Param("#x"), Param("#y")))
assert isinstance(_MUL, Apply)


def _unknown(name: str) -> Float:
    raise Undecided(f"{name} at the edge of its domain")


def _quotient(node: Apply, args: list[Float]) -> Float:
    """A product or quotient; at least one argument may be infinite."""
    a, b = args
    if a.finite and b.finite:
        return _of_finite(node, args)
    if node.name == "div" and a.finite:
        if b.bad:
            raise Undecided("a number over what may be an infinity")
        return ZERO
    if node.name == "div" and not b.finite:
        return BAD if a.bad or b.bad else NAN
    if any(v.finite and v.box.zero for v in args):
        return NAN if node.name == "mul" else BAD
    if a.bad or b.bad:
        return BAD
    signs = [v.sign or (1 if v.box.lo > 0 else -1 if v.box.hi < 0 else 0) for v in args]
    return infinity(signs[0] * signs[1]) if all(signs) else BAD


def _limits(low: Float | None, high: Float | None, bad: Float | None = None) -> Callable[[list[Float]], Float]:
    """A function of one argument at -inf, inf, and at what is not finite; None: not known."""

    def rule(args: list[Float]) -> Float:
        found = bad if args[0].bad else low if args[0].sign < 0 else high
        if found is None:
            raise Undecided("a function of what is not finite")
        return found

    return rule


def _of_difference(args: list[Float]) -> Float:
    if args[1].sign < 0:
        return ZERO  # so it is defined
    return _AT_INFINITY["exp"]([_sum([args[0], _negative(args[1])])])


def _extreme(sign: int) -> Callable[[list[Float]], Float]:
    def rule(args: list[Float]) -> Float:
        if any(a.bad for a in args):
            raise Undecided("an extremum of what may be undefined")  # -inf or NaN, say
        if any(a.sign == sign for a in args):
            return infinity(sign)
        return next((a for a in args if a.finite), args[0])

    return rule


def _of_larger(args: list[Float]) -> Float:
    """log(exp a + exp b), one of which is infinite, is the larger: equal ones are told apart from NaN."""
    a, b = args
    if a.bad or b.bad:
        raise Undecided("a sum of exponentials of what may be undefined")
    if a.sign > 0 or b.sign > 0:
        return infinity(1)
    return b if a.sign < 0 else a


def _of_power(args: list[Float]) -> Float:
    """Of an infinite base; the exponent is certain."""
    base, exponent = args
    if not exponent.finite or exponent.box.lo != exponent.box.hi or exponent.box.lo <= 0:
        raise Undecided("a power of what is not finite")
    if base.bad or (base.sign < 0 and exponent.box.lo % 2 not in (0, 1)):
        return BAD
    return infinity(base.sign if exponent.box.lo % 2 else 1)


_UP, _DOWN = infinity(1), infinity(-1)
_AT_INFINITY: dict[str, Callable[[list[Float]], Float]] = {
    "exp": _limits(ZERO, _UP),
    "expm1": _limits(Float(Enclosure(-1.0, -1.0)), _UP),
    "log": _limits(NAN, _UP, BAD),
    "log2": _limits(NAN, _UP, BAD),
    "log10": _limits(NAN, _UP, BAD),
    "log1p": _limits(NAN, _UP, BAD),
    "sqrt": _limits(NAN, _UP, BAD),
    "abs": _limits(_UP, _UP, BAD),
    "logcosh": _limits(_UP, _UP),
    "logaddexp": _of_larger,
    "relu": _limits(ZERO, _UP),
    "sigmoid": _limits(ZERO, ONE),
    "softplus": _limits(ZERO, _UP),
    "logsigmoid": _limits(_DOWN, ZERO),
    "tanh": _limits(Float(Enclosure(-1.0, -1.0)), ONE),
    "erf": _limits(Float(Enclosure(-1.0, -1.0)), ONE),
    "sin": _limits(NAN, NAN, NAN),
    "cos": _limits(NAN, NAN, NAN),
    "expdiff": _of_difference,
    "pow": _of_power,
    "powi": _of_power,
    "max2": _extreme(1),
    "min2": _extreme(-1),
}

__all__ = ["BAD", "LARGEST", "NAN", "Float", "Floats", "infinity", "settled"]
