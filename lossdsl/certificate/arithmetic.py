"""What float32 arithmetic may make of numbers: sets of floats, infinities and NaN among them.

The model: an operation is off by a relative error of 2^-20, functions by 2^-16, exponentials by (|x| + 2) 2^-20 (x up to 200
in size), sums by 2^-16 of the sizes of their terms, however many (as where they are added up in blocks or pairs); what is
below the smallest normal number may be flushed to 0 or not; what is above the largest number is an infinity; functions keep
to their natural range. Sums and products are rounded to the nearest number, so that no number of the type that is an end of
the exact range is passed. A product may be contracted with an addition: then it is not rounded, nor does it overflow, before
the sum does.

Every set holds at least what the model allows. So what is in no set cannot be computed, and both that a value is finite and
that it is not are read off.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.ir.nodes import INT, Apply, Const
from lossdsl.verify import enclosure as e
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import INF, Enclosure

LARGEST, NORMAL, LEAST = float.fromhex("0x1.fffffep127"), 2.0**-126, 2.0**-149
BASIC, FUNCTION, SINGLE = 2.0**-20, 2.0**-16, 2.0**-23
_NOTHING = 2.0**-151  # what is less is 0 after rounding
_FLAT = 110.0  # from here on exp(-x) is 0 after rounding
_KEPT = 2.0**26  # from here on a number less than 0.7 added is none
_EXPONENTIALS = frozenset({"exp", "expm1", "expdiff", "pow", "powi", "cosh", "sinh"})
NATURAL = {
    "sigmoid": (0.0, 1.0 + BASIC),
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


@dataclass(frozen=True, slots=True)
class Float:
    """A set of floats: numbers of `box`, an infinity, NaN; `exact` holds the products that the numbers are, before they are
    rounded, if they are products."""

    box: Enclosure | None
    up: bool = False
    down: bool = False
    nan: bool = False
    exact: Enclosure | None = None

    @property
    def finite(self) -> bool:
        """Whether every element is a number."""
        return self.box is not None and not (self.up or self.down or self.nan)

    def within(self, limit: float) -> bool:
        """Whether every element is a number that is not larger."""
        return self.finite and self.box is not None and max(-self.box.lo, self.box.hi) <= limit

    def beyond(self, limit: float) -> bool:
        """Whether no element is a number within the limit."""
        return self.box is None or max(self.box.lo, -self.box.hi) > limit

    @property
    def ends(self) -> Enclosure:
        """An interval that holds every element but NaN."""
        parts = [*([] if self.box is None else [self.box]), *([UP] if self.up else []), *([DOWN] if self.down else [])]
        found = parts[0] if parts else e.ANYTHING
        for part in parts[1:]:
            found = e.hull(found, part)
        return Enclosure(found.lo, found.hi, nan=self.nan or not parts)


UP, DOWN = Enclosure(INF, INF), Enclosure(-INF, -INF)
NUMBERS = Enclosure(-LARGEST, LARGEST)
ANY = Float(NUMBERS, True, True, True)
NAN = Float(None, nan=True)
NONE = Float(None)
ZERO, ONE = Float(Enclosure(0.0, 0.0)), Float(Enclosure(1.0, 1.0))


def number(value: Fraction | int) -> Float:
    """A number of the type, whatever is made of subnormal ones; others with the error of rounding them."""
    box = e.exact(value)
    if box.lo == box.hi and single(box.lo):
        return Float(box)
    return rounded(box, SINGLE)


def union(parts: Iterable[Float]) -> Float:
    found = NONE
    for part in parts:
        box = part.box if found.box is None else found.box if part.box is None else e.hull(found.box, part.box)
        exact = part.exact if found.exact is None else found.exact
        if part.exact is not None and found.exact is not None:
            exact = e.hull(part.exact, found.exact)
        found = Float(box, found.up or part.up, found.down or part.down, found.nan or part.nan, exact)
    return found


def single(x: float) -> bool:
    """Whether it is 0 or a normal number of the type."""
    return x == 0 or (NORMAL <= abs(x) <= LARGEST and struct.unpack("f", struct.pack("f", x))[0] == x)


def rounded(exact: Enclosure, relative: float, *, nearest: bool = False) -> Float:
    """What becomes of a real number of the interval."""
    if exact.nan:
        return ANY
    keeps = [nearest and single(end) for end in (exact.lo, exact.hi)]
    lo = exact.lo if keeps[0] or abs(exact.lo) == INF else e.add_down(exact.lo, -abs(exact.lo) * relative)
    hi = exact.hi if keeps[1] or abs(exact.hi) == INF else e.add_up(exact.hi, abs(exact.hi) * relative)
    up, down = hi > LARGEST, lo < -LARGEST
    if lo > LARGEST or hi < -LARGEST:
        return Float(None, up, down)
    if max(abs(lo), abs(hi)) < _NOTHING:
        return ZERO
    return Float(Enclosure(_low(max(lo, -LARGEST)), -_low(-min(hi, LARGEST))), up, down)


def _low(end: float) -> float:
    """A lower end after what is below the smallest normal number is flushed or rounded to a subnormal one."""
    if 0 < end < 2 * NORMAL:
        return 0.0
    return end - LEAST if -2 * NORMAL < end < 0 else end


# ------------------------------------------------------------------------------------------------------ sums


def negative(a: Float) -> Float:
    box, exact = (None if v is None else e.neg(v) for v in (a.box, a.exact))
    return Float(box, a.down, a.up, a.nan, exact)


def total(terms: Sequence[Float], copies: Sequence[int] = ()) -> Float:
    """A sum in any order, each product contracted with its addition or not; `copies`: how often each term is in it."""
    many = len(terms) > 2 or any(n > 1 for n in copies)
    up, down = any(t.up for t in terms), any(t.down for t in terms)
    nan = any(t.nan for t in terms) or (up and down)
    up = up and all(t.up or t.box is not None for t in terms)
    down = down and all(t.down or t.box is not None for t in terms)
    whole = [_real(t) for t in terms]
    added, size = Enclosure(0.0, 0.0), Enclosure(0.0, 0.0)
    for box, n in zip(whole, copies or [1] * len(terms), strict=True):
        if box is None:
            return Float(None, up, down, nan)
        part = box if n == 1 else e.mul(box, e.exact(n))
        added, size = e.add(added, part), e.add(size, e.absolute(part))
    if many:
        slack = size.hi * FUNCTION
        added = Enclosure(e.add_down(added.lo, -slack), e.add_up(added.hi, slack))
        mixed = any(b is not None and b.hi > 0 for b in whole) and any(b is not None and b.lo < 0 for b in whole)
        if mixed and size.hi > LARGEST:  # on the way
            return ANY
    found = rounded(added, BASIC, nearest=not many)
    return Float(found.box, found.up or up, found.down or down, nan)


def _real(t: Float) -> Enclosure | None:
    """The numbers that a term may stand for in a sum: rounded, or the products themselves."""
    if t.exact is None or t.box is None:
        return t.exact or t.box
    return e.hull(t.exact, t.box)


def product(factors: Sequence[Float]) -> Float:
    """A product in any order."""
    if not all(f.finite for f in factors):
        return ANY
    found, largest, least = Enclosure(1.0, 1.0), 1.0, 1.0
    for f in factors:
        assert f.box is not None
        found = e.mul(found, f.box)
        largest *= max(1.0, abs(f.box.lo), abs(f.box.hi))
        least *= 1.0 if f.box.zero else min(1.0, e.absolute(f.box).lo)
    return ANY if largest > LARGEST or least < 2 * NORMAL else rounded(found, FUNCTION)  # on the way


def logsumexp(values: Sequence[Float], copies: Sequence[int] = ()) -> Float:
    """It is made as m + log(s), m the largest and s >= 1."""
    times = copies or [1] * len(values)
    if any(v.nan for v in values):
        return ANY
    if any(v.up for v in values):
        certain = any(v.up and v.box is None and not v.down for v in values)
        return Float(None, True, False, True) if certain else ANY
    there = [v.box for v in values if v.box is not None]
    if not there:
        return Float(None, down=True, nan=True)
    always = [(v.box, n) for v, n in zip(values, times, strict=True) if v.box is not None and not v.down]
    none = not always
    low, high = max((b.lo for b, _ in always), default=-LARGEST), max(b.hi for b in there)
    top = Enclosure(high, high)
    least = most = Enclosure(0.0, 0.0)
    for v, n in zip(values, times, strict=True):
        if v.box is not None:
            share = o.transfer(_EXP, [e.sub(v.box, top)])
            most = e.add(most, e.mul(e.exact(n), share))
            least = least if v.down else e.add(least, e.mul(e.exact(n), share))
    if least.lo <= 0:
        lower = low
    else:
        lower = e.add(top, o.transfer(_LOG, [Enclosure(least.lo, max(most.hi, least.lo))])).lo
    upper = e.add(top, o.transfer(_LOG, [Enclosure(most.hi, most.hi)])).hi
    if low == high and upper - high < abs(high) * 2.0**-26:
        return Float(top)
    lower, upper = lower - abs(lower) * FUNCTION - FUNCTION, upper + abs(upper) * FUNCTION + FUNCTION
    return Float(Enclosure(max(low, lower), min(upper, LARGEST)), down=none, nan=none)


# ------------------------------------------------------------------------------------------------ operations


def compared(op: str, a: Float, b: Float) -> Enclosure:
    """Whether two floats stand in a relation."""
    return o.EITHER if a.nan or b.nan else o.compare(op, a.ends, b.ends)


def applied(node: Apply, args: Sequence[Float]) -> Float:
    """An operation of elements of sets."""
    name = node.name
    if name == "real" and node.args[0].dtype is INT and args[0].box is not None:
        return args[0] if max(-args[0].box.lo, args[0].box.hi) <= 2.0**24 else rounded(args[0].box, SINGLE)
    if name in ("real", "int"):
        return args[0]
    if node.dtype is INT:
        boxes = [a.box for a in args if a.box is not None and a.finite]
        found = o.transfer(node, boxes) if len(boxes) == len(args) else e.ANYTHING
        if name in ("mod", "floordiv") and len(boxes) == 2:
            found = _whole_division(name, *boxes) or found
        return ANY if found.nan or not found.bounded else Float(found)
    if name == "neg":
        return negative(args[0])
    if name == "add":
        return total(args)
    if name == "sub":
        return total([args[0], negative(args[1])])
    if name == "xlogy":
        return _x_log(args[0], args[1])
    if name == "clamp":
        limited = _extreme(_extreme(args[0], args[1], 1), args[2], -1)
        return ANY if args[1].nan or args[2].nan else limited
    if name == "relu":
        return _extreme(args[0], ZERO, 1)
    if name in ("max2", "min2"):
        return _extreme(args[0], args[1], 1 if name == "max2" else -1)
    if any(a.nan for a in args) and name in _DEAF:
        return ANY
    cases = [_case(node, atoms) for atoms in itertools.product(*(list(_atoms(a)) for a in args))]
    return union([*cases, *([NAN] if any(a.nan for a in args) else [])])


def _whole_division(name: str, a: Enclosure, b: Enclosure) -> Enclosure | None:
    """A remainder, or a quotient, of two integers that are known and not negative; none otherwise."""
    if a.lo != a.hi or b.lo != b.hi or not 0 <= a.lo < 2.0**31 or not 0 < b.lo < 2.0**31:
        return None
    return e.exact(int(a.lo) % int(b.lo) if name == "mod" else int(a.lo) // int(b.lo))


_DEAF = frozenset({"pow", "powi", "logaddexp", "expdiff", "sign"})  # what may make a number of NaN


def _atoms(a: Float) -> Iterator[Enclosure]:
    if a.box is not None:
        yield a.box
    if a.up:
        yield UP
    if a.down:
        yield DOWN


def _case(node: Apply, boxes: Sequence[Enclosure]) -> Float:
    """An operation of numbers of a box each, or an infinity."""
    name = node.name
    if name == "mul":
        return _times(node, *boxes)
    if name == "div":
        return _over(*boxes)
    if name in ("pow", "powi"):
        return _power(node, *boxes)
    if name in _STARTS and boxes[0].bounded:
        return union(_from(node, boxes[0]))
    if name == "abs":
        return Float(None, up=True) if not boxes[0].bounded else Float(e.absolute(boxes[0]))
    if all(b.bounded for b in boxes):
        return _function(node, boxes)
    rule = _FAR.get(name)
    return ANY if rule is None else rule(*boxes)


def _function(node: Apply, boxes: Sequence[Enclosure]) -> Float:
    """A function of numbers inside of its domain."""
    name = node.name
    if name in ("sigmoid", "tanh") and max(boxes[0].lo, -boxes[0].hi) >= _FLAT:
        return ONE if boxes[0].lo > 0 else ZERO if name == "sigmoid" else negative(ONE)
    exact = o.transfer(node, list(boxes))
    if exact.nan:
        return ANY
    if name in ("exp", "expdiff"):
        at = boxes[0] if name == "exp" else e.sub(*boxes)
        ends = [rounded(exact, _error(end)) for end in (at.lo, at.hi)]
        found = union(ends)
    else:
        reach = max((max(abs(b.lo), abs(b.hi)) for b in boxes), default=0.0)
        error = _error(reach) if name in _EXPONENTIALS else 0.0 if name == "sign" else FUNCTION
        found = rounded(exact, error)
    return _kept(name, boxes, found)


def _error(reach: float) -> float:
    return min(1.0, (min(abs(reach), 200.0) + 2) * BASIC)


def _kept(name: str, boxes: Sequence[Enclosure], found: Float) -> Float:
    """In the natural range of the function; the largest argument plus a number below 0.7 is that one where it is large."""
    lo, hi = NATURAL.get(name, (-INF, INF))
    low, high = max(b.lo for b in boxes) if boxes else 0.0, max((b.hi for b in boxes), default=0.0)
    if name == "logcosh":
        high = max(high, -boxes[0].lo)
    if name in ("softplus", "logaddexp"):
        lo = max(lo, low)
    if name == "logsigmoid" and boxes[0].lo <= -_KEPT and single(boxes[0].lo):
        lo = max(lo, boxes[0].lo)
    if name in ("softplus", "logaddexp", "logcosh") and high >= _KEPT and single(high):
        hi = min(hi, high)
    if found.box is None or lo > found.box.hi or hi < found.box.lo:
        return found
    box = Enclosure(max(found.box.lo, lo), min(found.box.hi, hi))
    return Float(box, found.up and hi > LARGEST, found.down and lo < -LARGEST, found.nan)


def _signs(b: Enclosure) -> tuple[bool, bool, bool]:
    """Whether it may be negative, 0, positive."""
    return b.lo < 0, b.lo <= 0 <= b.hi, b.hi > 0


def _times(node: Apply, a: Enclosure, b: Enclosure) -> Float:
    if a.bounded and b.bounded:
        exact = e.square(a) if node.args[0] is node.args[1] else e.mul(a, b)
        return replace(rounded(exact, BASIC, nearest=True), exact=exact)
    (minus, zero, plus), way = _signs(b if not a.bounded else a), (a if not a.bounded else b).hi > 0
    return Float(None, plus if way else minus, minus if way else plus, zero)


def _over(a: Enclosure, b: Enclosure) -> Float:
    if not b.bounded:
        return ZERO if a.bounded else NAN
    minus, zero, plus = _signs(b)
    if not a.bounded:
        way = a.hi > 0
        return Float(None, (plus if way else minus) or zero, (minus if way else plus) or zero)
    parts = []
    if zero:
        parts.append(Float(None, not a.zero, not a.zero, a.lo <= 0 <= a.hi))
    for part in _apart(b):
        exact = e.div(a, part)
        power = part.lo == part.hi and abs(math.frexp(part.lo)[0]) == 0.5
        parts.append(replace(rounded(exact, BASIC, nearest=power), exact=exact))
    return union(parts)


def _apart(b: Enclosure) -> Iterator[Enclosure]:
    """The parts of a box of floats that are not 0."""
    if b.hi > 0:
        yield Enclosure(min(max(b.lo, LEAST), b.hi), b.hi)
    if b.lo < 0:
        yield Enclosure(b.lo, max(min(b.hi, -LEAST), b.lo))


def _power(node: Apply, a: Enclosure, b: Enclosure) -> Float:
    if b.lo != b.hi or not b.bounded:
        if a.bounded and b.bounded and a.lo >= 0 and b.lo >= 0:  # 0^0 is 1, and small numbers may be read as 0
            return _function(node, [Enclosure(v.lo if v.lo >= NORMAL else 0.0, v.hi) for v in (a, b)])
        if a.bounded and b.bounded and a.lo > 0:
            return _function(node, (a, b))
        return ANY
    whole, k = b.lo.is_integer(), b.lo
    if not a.bounded:
        if k <= 0:
            return ANY
        if a.hi < 0 and not whole:
            return Float(None, True, True, True)
        return Float(None, up=a.hi > 0 or k % 2 == 0, down=a.hi < 0 and k % 2 == 1)
    parts = []
    if k < 0 and a.lo <= 0 <= a.hi:
        parts.append(Float(None, True, whole))
    boxes = list(_apart(a)) if k < 0 else [a]
    for box in boxes:
        if box.lo < 0 and not whole:
            if box.hi >= 0:
                return ANY
            parts.append(NAN)
            continue
        exact = o.transfer(node, [box, b])
        reach = max(abs(box.lo), abs(box.hi), abs(k))
        parts.append(replace(rounded(exact, _error(reach)), exact=None if exact.nan else exact))
    return union(parts)


# where the domain of a function begins, and what it is there
_STARTS: dict[str, tuple[float, Float]] = {
    **dict.fromkeys(("log", "log2", "log10"), (0.0, Float(None, down=True))),
    "log1p": (-1.0, Float(None, down=True)),
    "sqrt": (0.0, ZERO),
}


def _from(node: Apply, box: Enclosure) -> Iterator[Float]:
    start, there = _STARTS[node.name]
    if box.lo < start:
        yield NAN
    if box.lo <= start <= box.hi:
        yield there
    if box.hi > start:
        first = LEAST if start == 0 else -1.0 + 2.0**-24
        yield _function(node, (Enclosure(min(max(box.lo, first), box.hi), box.hi),))


def _x_log(x: Float, y: Float) -> Float:
    """0 where x is."""
    if x.box is not None and x.box.zero and x.finite:
        return ZERO
    if y.nan or x.nan:
        return ANY
    found = applied(_MUL, [x, applied(_LOG, [y])])
    return union([found, ZERO]) if x.box is not None and x.box.may_be_zero else found


def _extreme(a: Float, b: Float, sign: int) -> Float:
    """The larger one, or the smaller one: NaN where one of them is."""
    name = _MAX if sign > 0 else _MIN
    found = []
    for x, y in itertools.product(list(_atoms(a)), list(_atoms(b))):
        box = o.transfer(name, [x, y])
        found.append(Float(None, box.lo == INF, box.hi == -INF) if not box.bounded else Float(box))
    return union([*found, *([NAN] if a.nan or b.nan else [])])


def _limits(low: Float, high: Float) -> Callable[[Enclosure], Float]:
    return lambda x: high if x.hi > 0 else low


def _of_larger(a: Enclosure, b: Enclosure) -> Float:
    if a.hi == INF or b.hi == INF:
        return Float(None, up=True)
    return next((Float(x) for x in (a, b) if x.bounded), Float(None, down=True))


def _of_difference(a: Enclosure, b: Enclosure) -> Float:
    """exp(a - b), and 0 where b is -inf."""
    if b.hi == -INF or (b.hi == INF and a.bounded) or a.hi == -INF:
        return ZERO
    return Float(None, up=True) if b.bounded else NAN


_UP, _DOWN = Float(None, up=True), Float(None, down=True)
_FAR: dict[str, Callable[..., Float]] = {  # where an argument is infinite
    "exp": _limits(ZERO, _UP),
    "expm1": _limits(negative(ONE), _UP),
    **dict.fromkeys(("log", "log2", "log10", "log1p", "sqrt"), _limits(NAN, _UP)),
    "logcosh": _limits(_UP, _UP),
    "sigmoid": _limits(ZERO, ONE),
    "softplus": _limits(ZERO, _UP),
    "logsigmoid": _limits(_DOWN, ZERO),
    **dict.fromkeys(("tanh", "erf", "sign"), _limits(negative(ONE), ONE)),
    "sin": _limits(NAN, NAN),
    "cos": _limits(NAN, NAN),
    "logaddexp": _of_larger,
    "expdiff": _of_difference,
}
_X, _Y = Const(Fraction(2)), Const(Fraction(3))
_EXP, _LOG, _MUL = Apply("exp", (_X,)), Apply("log", (_X,)), Apply("mul", (_X, _Y))
_MAX, _MIN = Apply("max2", (_X, _Y)), Apply("min2", (_X, _Y))

__all__ = [
    "ANY",
    "LARGEST",
    "NATURAL",
    "Float",
    "applied",
    "compared",
    "logsumexp",
    "number",
    "product",
    "total",
    "union",
]
