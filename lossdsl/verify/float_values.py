"""A number, an infinity or NaN of float32 arithmetic, as far as it is certain, and what operations make of such.

The model is that of `finite`: relative errors, flush to zero or not, overflow above the largest number. What the model
leaves open (a value at the edge of overflow, a denominator that may be flushed to 0) raises Undecided. A product that
overflows may be contracted with an addition that brings it back: it is infinite only where the exact sum is out of
range too. Sums, differences and products of numbers whose exact result is a number are that number.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.ir.nodes import INT, Apply, Param
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.folds import whole
from lossdsl.verify.operations import transfer
from lossdsl.verify.points import Undecided

LARGEST, NORMAL = float.fromhex("0x1.fffffep127"), 2.0**-126
_VANISHING = 2.0**-151  # below half of the smallest number, with or without flush to zero
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


def number(n: int) -> Float:
    return Float(e.exact(n))


def constant(value: Fraction | str) -> Float:
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


def total(values: Sequence[Float], copies: Sequence[int] = ()) -> Float:
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


def single(x: float) -> bool:
    """Whether it is a normal float32 number, or 0."""
    return x == 0 or (NORMAL <= abs(x) <= LARGEST and struct.unpack("f", struct.pack("f", x))[0] == x)


def _exact(found: Enclosure) -> bool:
    """Whether an operation that is rounded to the nearest number gives what it would without rounding."""
    return found.lo == found.hi and single(found.lo)


def _power_of_two_apart(divisor: Enclosure) -> bool:
    return divisor.lo == divisor.hi and abs(math.frexp(divisor.lo)[0]) == 0.5


def product(values: Sequence[Float]) -> Float:
    if any(not v.finite for v in values):
        return NAN if any(v.nan for v in values) else BAD  # times 0, or times a number
    total, largest = Enclosure(1.0, 1.0), 1.0
    for v in values:
        total = e.mul(total, v.box)
        largest *= max(1.0, abs(v.box.lo), abs(v.box.hi))
    if largest > LARGEST:
        raise Undecided("a product that may overflow on the way")
    return settled(total, _FUNCTION)


def logsumexp(values: Sequence[Float], copies: Sequence[int] = ()) -> Float:
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


def applied(node: Apply, args: list[Float]) -> Float:
    name = node.name
    if name in ("real", "int"):
        return args[0]
    if node.dtype is INT:
        return _integer(node, args)
    if name == "neg":
        return _negative(args[0])
    if name == "add":
        return total(args)
    if name == "sub":
        return total([args[0], _negative(args[1])])
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
    return _AT_INFINITY["exp"]([total([args[0], _negative(args[1])])])


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


__all__ = [
    "BAD",
    "EXPONENTIAL",
    "LARGEST",
    "NAN",
    "NATURAL",
    "NORMAL",
    "ONE",
    "ZERO",
    "Float",
    "applied",
    "constant",
    "infinity",
    "logsumexp",
    "number",
    "product",
    "settled",
    "single",
    "total",
]
