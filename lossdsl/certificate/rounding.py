"""Rounding errors of elements that are functions of entries at their own place: what is computed is within r |exact| + a.

The statement is about the program as it is compiled, in float32 arithmetic: an operation is off by what its record admits
(`accuracy`), a product may be contracted with an addition, what is below the smallest normal number may be flushed to 0.
Parameters and optional inputs have their defaults, the cotangent of a gradient is 1. Real inputs, and differences of two of
them that are read in no other way, are 0 or at least 2^-100 in size; integers are at most 2^24.

On a box of entries every scalar is known by the exact values that it may have, the computed ones, and bounds of how far
these are from those. Boxes in which the statement is not seen are halved; those in which it is are the trace.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from lossdsl.certificate import arithmetic
from lossdsl.certificate.arithmetic import (
    LARGEST,
    NATURAL,
    NORMAL,
    Float,
    applied,
    compared,
    negative,
    single,
    total,
    union,
)
from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.coverings import text
from lossdsl.certificate.question import Question, Within
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.safety import compiled
from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    ZERO,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Not,
    Or,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Stop,
    postorder,
)
from lossdsl.ir.rewrite import instantiate, substitute, transform
from lossdsl.primitives import PRIMITIVES
from lossdsl.primitives.algebra import IntervalAlgebra
from lossdsl.primitives.facets import exact as without_error
from lossdsl.primitives.interval import Interval
from lossdsl.verify import enclosure as e
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import INF, Enclosure

Trace = list[list[str]]
Box = tuple[Enclosure, ...]
UNIT = 2.0**-24
SMALLEST = 2.0**-100  # of inputs, and of their differences, that are not 0
_WHOLE = 2.0**24  # of integers
_MOST, _NODES, _CHOICES = 4000, 2000, 16
_FINE = 1 + 2.0**-25  # the ratio of the ends of a box that is not halved
_UP, _LITTLE = 1 + 2.0**-40, 2.0**-1000  # what bounds lose where they are computed with doubles
_ONE = Enclosure(1.0, 1.0)


# ---------------------------------------------------------------------------------------------- the statement

_NUMBER = r"(\d[\d.]*(?:e[+-]?\d+)?)"
_STATED = re.compile(rf"{_NUMBER} \* abs\(exact\) \+ {_NUMBER}(?: where (.*))?")
_NEAR = re.compile(rf"abs\(([^\s()<>=,]+)\) <= {_NUMBER}")
_BETWEEN = re.compile(rf"{_NUMBER} <= ([^\s()<>=,]+) <= {_NUMBER}")


def stated(said: str | None) -> dict[str, Any]:
    """A bound of the report as an entry has it, its numbers as they are printed; nothing of one in another form."""
    found = _STATED.fullmatch(said or "")
    if found is None:
        return {}
    domain: list[list[str | None]] = []
    for part in (found[3] or "").split(", ") if found[3] else ():
        near, between = _NEAR.fullmatch(part), _BETWEEN.fullmatch(part)
        if near is None and between is None:
            return {}
        domain.append([near[1], None, near[2]] if near else [between[2], between[1], between[3]] if between else [])
    return {"error": {"relative": found[1], "absolute": found[2], "domain": domain}}


def weaker(error: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The statement, and then ones with bounds that are a few times larger; of all numbers then of those up to half of the
    largest, the difference of two of which is no infinity. What has no error, in numbers of the program that are made with
    doubles, say, has a few units of float32 where each of them is rounded."""
    exactly = not Decimal(error["relative"]) and not Decimal(error["absolute"])
    for k in (1, 2, 4, 16):
        larger = {key: str(Decimal(error[key]) * k) for key in ("relative", "absolute")}
        if exactly and k > 1:
            larger["relative"] = str(Decimal("6E-8") * k)
        yield {**error, **larger}
        if not error["domain"]:
            yield {**error, **larger, "domain": [["", None, "1.7e+38"]]}


def restated(error: Mapping[str, Any]) -> Within:
    """The statement of an entry. Raises Stuck."""
    domain = []
    for name, low, high in error["domain"]:
        domain.append((str(name), None if low is None else _decimal(low), _decimal(high)))
    longest = error.get("longest")
    if longest is not None and not (re.fullmatch(r"[1-9]\d{0,9}", longest)):
        raise Stuck(f"{longest} is no extent")
    bound = Within(_decimal(error["relative"]), _decimal(error["absolute"]), tuple(domain))
    return bound if longest is None else replace(bound, longest=int(longest))


def _decimal(written: str) -> Fraction:
    with contextlib.suppress(ArithmeticError, TypeError):
        if len(written) < 40 and (found := Decimal(written)).is_finite() and found >= 0 and abs(found.adjusted()) < 400:
            return Fraction(found)
    raise Stuck(f"{written} is no number of a statement")


# ------------------------------------------------------------------------------------------- what a scalar is


@dataclass(frozen=True, slots=True)
class Seen:
    """A scalar on a box: the exact values, the computed ones, and how far these are from those: at most relative |exact| +
    absolute, and at most `most`."""

    exact: Enclosure
    computed: Float
    relative: float = 0.0
    absolute: float = 0.0
    most: float = 0.0

    @property
    def same(self) -> bool:
        """Whether it is computed without an error."""
        return self.most == 0

    @property
    def box(self) -> Enclosure:
        assert self.computed.box is not None
        return self.computed.box

    @property
    def share(self) -> float:
        """A bound of the error relative to the exact value."""
        least = least_of(self.exact)
        if least > 0:
            return min(self.relative + self.absolute / least, self.most / least) * _UP
        return self.relative if self.absolute == 0 else INF


Error = tuple[float, float, float]  # relative and absolute, and whatever the value is
_NONE: Error = (0.0, 0.0, 0.0)
_ANY: Error = (INF, INF, INF)


def least_of(box: Enclosure) -> float:
    return max(box.lo, -box.hi, 0.0)


def size_of(box: Enclosure) -> float:
    return max(-box.lo, box.hi)


def times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b * _UP + _LITTLE


def plus(*terms: float) -> float:
    return sum(terms) * _UP


def seen(exact: Enclosure, computed: Float, error: Error) -> Seen:
    """With what the sets leave room for, and with the computed values near the exact ones. Raises Stuck."""
    if exact.nan or not exact.bounded or not computed.finite or computed.box is None:
        raise Stuck("a value that may be infinite or undefined")
    relative, absolute, most = error
    both = e.hull(exact, computed.box)
    room = e.add_up(both.hi, -both.lo)
    most = min(most, plus(times(relative, size_of(exact)), absolute), room)
    if not relative + absolute < INF:
        relative, absolute = 0.0, most
    absolute = min(absolute, most)
    if most == 0:
        relative, absolute = 0.0, 0.0
    below, above = most, most
    if relative < 1:  # then x - r |x| and x + r |x| rise
        below = min(below, plus(times(relative, abs(exact.lo)), absolute))
        above = min(above, plus(times(relative, abs(exact.hi)), absolute))
    near = Enclosure(e.add_down(exact.lo, -below), e.add_up(exact.hi, above))
    box = e.meet(computed.box, near) or near
    if not size_of(box) <= LARGEST:
        raise Stuck("a value that may be infinite")
    return Seen(exact, Float(box, exact=computed.exact), relative, absolute, most)


def _point(value: float) -> Seen:
    box = Enclosure(value, value)
    return Seen(box, Float(box))


def number(value: Fraction) -> Seen:
    """A number of a program, rounded to the nearest one of the type, perhaps by way of a double."""
    box = e.exact(value)
    if box.lo == box.hi and single(box.lo):
        return _point(box.lo)
    relative, absolute = UNIT * (1 + 2.0**-20), NORMAL if abs(value) < 2 * NORMAL else 0.0
    return seen(box, arithmetic.number(value), (relative, absolute, INF))


class Errors:
    """The scalars of an element on a box: `at` gives those that it is of."""

    def __init__(self, fixed: Mapping[str, Fraction], at: Mapping[Scalar, Seen]) -> None:
        self._fixed, self._known = fixed, dict(at)

    def __getitem__(self, node: Scalar) -> Seen:
        """Raises Stuck."""
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = self._scalar(node)
        return found

    def _scalar(self, node: Scalar) -> Seen:
        match node:
            case Const(value=Fraction() as value):
                return number(value) if node.dtype is REAL else _whole(value)
            case Param(name=name) | Read(tensor=name) if name in self._fixed:
                value = self._fixed[name]
                return number(value) if node.dtype is REAL else _whole(value)
            case Stop() | AdjointMap():
                return self[node.a]
            case Proxy():
                return self[node.value]
            case Select():
                return self._choice(node)
            case Compare() | And() | Or() | Not():
                exact, _, same = self.decided(node)
                if same:
                    box = o.EITHER if exact is None else o.YES if exact else o.NO
                    return Seen(box, Float(box))
            case Apply():
                return self._operation(node, [self[a] for a in node.args])
        raise Stuck(f"no error is known of {type(node).__name__}")

    # ------------------------------------------------------------------------------------------- conditions

    def decided(self, node: Scalar) -> tuple[bool | None, bool | None, bool]:
        """A condition of the exact values, and of the computed ones, and whether the two are always the same."""
        match node:
            case Compare():
                a, b = self[node.a], self[node.b]
                exact = o.truth(o.compare(node.op, a.exact, b.exact))
                if a.same and b.same:
                    return exact, exact, True
                found = o.truth(compared(node.op, a.computed, b.computed))
                return exact, found, exact is not None and exact is found
            case Not():
                exact, found, same = self.decided(node.a)
                return None if exact is None else not exact, None if found is None else not found, same
            case And() | Or():
                parts, stop = [self.decided(a) for a in node.args], isinstance(node, Or)
                for part in parts:
                    if part == (stop, stop, True):
                        return part
                ends = [[p[k] for p in parts] for k in (0, 1)]
                exact, found = (stop if stop in v else None if None in v else not stop for v in ends)
                return exact, found, all(p[2] for p in parts) or (exact is not None and exact is found)
        a = self[node]
        if not a.same:
            raise Stuck("a condition that is computed")
        exact = o.truth(a.exact)
        return exact, exact, True

    def _choice(self, node: Select) -> Seen:
        exact, _, same = self.decided(node.condition)
        if same and exact is not None:
            return self[node.a if exact else node.b]
        a, b = self[node.a], self[node.b]
        gap = 0.0 if same else size_of(e.sub(a.exact, b.exact))  # where it is the other branch that is computed
        relative = max(a.relative, b.relative)
        absolute = plus(max(a.absolute, b.absolute), gap, times(relative, gap))
        box = e.hull(a.exact, b.exact) if exact is None else a.exact if exact else b.exact
        return seen(box, union([a.computed, b.computed]), (relative, absolute, plus(max(a.most, b.most), gap)))

    # ------------------------------------------------------------------------------------------- operations

    def _operation(self, node: Apply, args: list[Seen]) -> Seen:
        exact = self._exact(node, args)
        if node.dtype is not REAL:
            if not all(a.same for a in args) or exact.nan or size_of(exact) >= 2.0**31:
                raise Stuck("integers that are computed of what is rounded")
            return Seen(exact, Float(exact))
        twice = node.name == "sub" and node.args[0] is node.args[1]  # of products of which one is contracted
        computed = total([args[0].computed, negative(args[1].computed)]) if twice else self._applied(node, args)
        rule = PRIMITIVES[node.name].accuracy
        if rule is None:
            raise Stuck(f"there is no model of the error of {node.name}")
        if exact.nan or not computed.finite:
            raise Stuck(f"{node.name} of what it may be infinite or undefined of")
        relative, absolute, most = self._brought(node, args)
        most = min(most, plus(times(relative, size_of(exact)), absolute))
        least, tiny = 0.0, node.name != "real" and rule is not without_error and not self._is_never_tiny(node, args)
        if most < INF:
            least = max(least_of(exact) - most, least_of(exact) * (1 - relative) - absolute if relative < 1 else 0.0)
        own = (0.0, 0.0)
        if self._is_without_rounding(node, args):
            tiny = tiny and node.name in ("mul", "div") and not _is_no_smaller(node, args)
        else:
            own = rule(*(Interval(a.box.lo, a.box.hi) for a in args))
        share, more = own[0] * UNIT, own[1] * UNIT
        if tiny and not (exact.zero and most == 0) and (least * (1 - share) - more) / _UP < 2 * NORMAL:
            more += NORMAL
        if share or more:
            whole = plus(size_of(exact), most)
            relative = plus(relative, share, times(share, relative))
            absolute = plus(absolute, times(share, absolute), more)
            most = plus(most, times(share, whole), more)
            if node.name not in ("add", "sub", "mul", "div", "real"):
                computed = _beyond(node.name, computed, share, more, keeps_sign=own[1] == 0 and share < 1)
        return seen(exact, computed, (relative, absolute, most))

    def _exact(self, node: Apply, args: list[Seen]) -> Enclosure:
        return o.transfer(node, [a.exact for a in args])

    def _applied(self, node: Apply, args: list[Seen]) -> Float:
        return applied(node, [a.computed for a in args])

    def _brought(self, node: Apply, args: list[Seen]) -> Error:
        return brought(node, args)

    def _is_without_rounding(self, node: Apply, args: Sequence[Seen]) -> bool:
        """Whether an operation adds no error of its own: a product with a power of 2, or the quotient by one, up to what is
        flushed to 0; a sum with 0; a difference of two floats of which none is more than twice the other (Sterbenz, 1974).
        What is contracted with a sum is no float."""
        if node.name in ("mul", "div"):
            return any(_is_power_of_two(a) for a in args[node.name == "div" :])
        if node.name not in ("add", "sub"):
            return False
        x, y = args[0].box, args[1].box if node.name == "sub" else e.neg(args[1].box)
        if x.zero or y.zero:
            return True
        if x.hi < 0:
            x, y = e.neg(x), e.neg(y)
        close = x.lo >= SMALLEST and y.lo >= x.hi / 2 and y.hi <= 2 * x.lo
        return close and self._are_floats(node, args)

    def _is_never_tiny(self, node: Apply, args: Sequence[Seen]) -> bool:
        """Whether a sum is 0 or no subnormal number: of floats that are not small, of whose last digits it is a multiple."""
        large = all(a.box.zero or least_of(a.box) >= SMALLEST for a in args)
        return node.name in ("add", "sub") and large and self._are_floats(node, args)

    def _are_floats(self, node: Apply, args: Sequence[Seen]) -> bool:
        """Whether the arguments are rounded where they are read, or need not be."""
        return all(a.same or self._is_float(n) for n, a in zip(node.args, args, strict=True))

    def _is_float(self, node: Scalar) -> bool:
        """Whether a scalar is rounded wherever it is read."""
        match node:
            case Read() | Const() | Param():
                return True
            case Stop() | AdjointMap():
                return self._is_float(node.a)
            case Apply(name="neg" | "abs" | "relu" | "max2" | "min2" | "real"):
                return all(map(self._is_float, node.args))
            case Apply(name="add" | "sub"):
                return True
        return False


def _beyond(name: str, found: Float, share: float, more: float, *, keeps_sign: bool) -> Float:
    """A set of floats with what the record of a function admits, which may be more than the sets allow for, in its range, and on
    its side of 0 where the error is relative; where a sigmoid has reached its limit it is that."""
    assert found.box is not None
    if name in ("sigmoid", "tanh") and found.box.lo == found.box.hi:
        return found
    lo, hi = found.box.lo, found.box.hi
    low, high = NATURAL.get(name, (-INF, INF))
    if keeps_sign:
        low, high = max(low, 0.0 if lo >= 0 else low), min(high, 0.0 if hi <= 0 else high)
    lo = max(low, e.add_down(lo, -plus(times(share, abs(lo)), more)))
    hi = min(high, e.add_up(hi, plus(times(share, abs(hi)), more)))
    return Float(e.hull(Enclosure(lo, hi), found.box))


def _whole(value: Fraction) -> Seen:
    box = e.exact(value)
    if box.lo != box.hi:
        raise Stuck(f"{value} is no integer")
    return _point(box.lo)


def _is_power_of_two(a: Seen) -> bool:
    return a.same and a.exact.lo == a.exact.hi and abs(math.frexp(a.exact.lo)[0]) == 0.5


def _is_no_smaller(node: Apply, args: Sequence[Seen]) -> bool:
    """Whether a product with a power of 2 is of numbers without error, which are 0 or no subnormal ones, and no smaller."""
    large = any(_is_power_of_two(a) and abs(a.exact.lo) >= 1 for a in args)
    return node.name == "mul" and large and all(a.same for a in args)


# ------------------------------------------------------------------------------ errors that arguments bring along


def brought(node: Apply, args: Sequence[Seen]) -> Error:
    """How far the exact operation of what is computed is from that of the exact values."""
    if all(a.same for a in args):
        return _NONE
    name, both = node.name, [e.hull(a.exact, a.box) for a in args]
    if name not in ("add", "sub", "mul", "div"):
        here = o.transfer(node, both)
        if here.lo == here.hi and not here.nan:
            return _NONE
    match name:
        case "add" | "sub":
            return _of_sum(args[0], args[1], name)
        case "mul":
            return _of_product(*args)
        case "div":
            return _of_quotient(*args)
        case "neg" | "abs" | "real" | "relu" if args[0].relative <= 1:
            return args[0].relative, args[0].absolute, args[0].most
        case "max2" | "min2":
            return _of_extreme(args[0], args[1], name)
        case "sqrt":
            return _of_root(args[0])
        case "exp" | "expdiff":
            wrong = plus(*(a.most for a in args))
            return (math.expm1(wrong) * _UP, 0.0, INF) if wrong < 1 else _by_slopes(node, args, both)
        case "log" | "log2" | "log10" if args[0].exact.lo >= 0 and args[0].share < 0.5:
            most = -math.log1p(-args[0].share) * {"log": 1.0, "log2": 1.4427, "log10": 0.4343}[name] * _UP
            return 0.0, most, most
        case "pow" | "powi" if args[1].same and args[1].exact.lo == args[1].exact.hi:
            found = _of_power(args[0], args[1].exact.lo, name)
            return _by_slopes(node, args, both) if found is None else found
    return _by_slopes(node, args, both)


def _of_sum(x: Seen, y: Seen, name: str) -> Error:
    """r |x| + s |y|: of terms of one sign at most the larger of r and s times |x + y|, else |x| is at most |x + y| + |y|."""
    a, b = x.exact, y.exact if name == "add" else e.neg(y.exact)
    r, s, big, small = x.relative, y.relative, size_of(a), size_of(b)
    exact = e.add(a, b)
    if (a.lo >= 0 and b.lo >= 0) or (a.hi <= 0 and b.hi <= 0):
        ways = [(max(r, s), 0.0), (r, times(max(s - r, 0.0), small)), (s, times(max(r - s, 0.0), big))]
    else:
        ways = [(r, times(plus(r, s), small)), (s, times(plus(r, s), big))]
    most = plus(x.most, y.most)
    ways = [(p, plus(q, x.absolute, y.absolute)) for p, q in ways] + [(0.0, most)]
    scale = least_of(exact) or min(1.0, size_of(exact)) or 1.0
    return *min(ways, key=lambda way: way[0] * scale + way[1]), most


def _of_product(x: Seen, y: Seen) -> Error:
    big, small = size_of(x.exact), size_of(y.exact)
    relative = plus(x.relative, y.relative, times(x.relative, y.relative))
    absolute = plus(
        times(times(x.absolute, 1 + y.relative), small),
        times(times(y.absolute, 1 + x.relative), big),
        times(x.absolute, y.absolute),
    )
    most = plus(times(x.most, small), times(y.most, big), times(x.most, y.most))
    return relative, absolute, most


def _of_quotient(x: Seen, y: Seen) -> Error:
    wrong, least = y.share, least_of(y.exact)
    if not wrong < 0.5 or (least < _LITTLE and x.absolute != 0):
        return _ANY
    relative = plus(x.relative, wrong) / (1 - wrong) * _UP
    absolute = plus(x.absolute / (least * (1 - wrong)) * _UP, _LITTLE) if x.absolute else 0.0
    most = INF
    if least > _LITTLE:
        most = plus(x.most / (least * (1 - wrong)), times(size_of(x.exact) / least, wrong / (1 - wrong)), _LITTLE)
    return relative, absolute, most


def _of_extreme(x: Seen, y: Seen, name: str) -> Error:
    """Of the one that it certainly is, if there is one."""
    a, b, most = x.exact, y.exact, max(x.most, y.most)
    for above, below, chosen in ((x, y, x if name == "max2" else y), (y, x, y if name == "max2" else x)):
        if above.exact.lo >= below.exact.hi and above.box.lo >= below.box.hi:
            return chosen.relative, chosen.absolute, chosen.most
    if ((a.lo >= 0 and b.lo >= 0) or (a.hi <= 0 and b.hi <= 0)) and max(x.relative, y.relative) <= 1:
        return max(x.relative, y.relative), max(x.absolute, y.absolute), most
    return 0.0, most, most


def _of_root(x: Seen) -> Error:
    """sqrt(x (1 + d) + t) is at most sqrt(|t|) from sqrt(x (1 + d)), and at most sqrt(|error|) from sqrt(x)."""
    if x.box.lo < 0 or x.exact.lo < 0:
        return _ANY
    most, share = math.sqrt(x.most) * _UP, x.share
    if share <= 1:
        return share / (1 + math.sqrt(1 - share)) * _UP, 0.0, most
    if x.relative <= 1:
        return x.relative / (1 + math.sqrt(1 - x.relative)) * _UP, math.sqrt(x.absolute) * _UP, most
    return 0.0, most, most


def _of_power(x: Seen, k: float, name: str) -> Error | None:
    """(x (1 + d))^k, with |d| at most the share; of what may be 0 (x (1 + d) + t)^k, which is off by the largest slope times t."""
    if name == "pow" and (x.exact.lo < 0 or x.box.lo < 0):
        return None
    share = x.share if x.share < 0.5 else x.relative
    with contextlib.suppress(OverflowError):
        relative = INF
        if share < 0.5:
            relative = max(abs(math.expm1(k * math.log1p(d))) for d in (share, -share)) * _UP
            if x.share < 0.5:
                return relative, 0.0, INF
        if k >= 1:
            steepest = k * plus(size_of(x.exact), x.most) ** (k - 1) * (1 + 2.0**-30)
            most = plus(times(steepest, x.most), _LITTLE)
            if relative == INF:
                return 0.0, most, most
            steepest = k * plus(times(size_of(x.exact), 1 + share), x.absolute) ** (k - 1) * (1 + 2.0**-30)
            return relative, plus(times(steepest, x.absolute), _LITTLE), most
    return None


_ALGEBRA = IntervalAlgebra()


def _by_slopes(node: Apply, args: Sequence[Seen], both: Sequence[Enclosure]) -> Error:
    """By the mean value theorem, one argument after the other."""
    record, boxes = PRIMITIVES[node.name], [Interval(b.lo, b.hi) for b in both]
    if not record.defined(*boxes) or any(kink.order < 0 for kink in record.kinks):
        return _ANY
    most = 0.0
    for partial, a in zip(record.partials, args, strict=True):
        if a.same:
            continue
        if partial is None:
            return _ANY
        slope = partial(_ALGEBRA, *boxes)
        steepest = slope.magnitude if isinstance(slope, Interval) else abs(float(slope))
        if isinstance(slope, Interval) and slope.is_empty:
            return _ANY
        most = plus(most, times(steepest * _UP, a.most))
    return 0.0, most, most


# ------------------------------------------------------------------------------------------------------ boxes


@dataclass(frozen=True)
class Entry:
    """A number that the element is of: the scalars that it is, with its sign in each; where it is."""

    nodes: tuple[tuple[Apply | Read, int], ...]
    box: Enclosure
    may_be_zero: bool
    least: float
    difference: bool = False

    def parts(self) -> list[Enclosure]:
        """0, and the numbers on either side of it."""
        lo, hi = self.box.lo, self.box.hi
        found = [Enclosure(0.0, 0.0)] if lo <= 0 <= hi and self.may_be_zero else []
        if hi > 0 and max(lo, self.least) <= hi:
            found.append(Enclosure(max(lo, self.least), hi))
        if lo < 0 and min(hi, -self.least) >= lo:
            found.append(Enclosure(lo, min(hi, -self.least)))
        return found

    def at(self, box: Enclosure) -> dict[Scalar, Seen]:
        found: dict[Scalar, Seen] = {}
        for node, sign in self.nodes:
            here = box if sign > 0 else e.neg(box)
            error = UNIT if self.difference and not here.zero else 0.0
            wide = Enclosure(e.add_down(here.lo, -abs(here.lo) * 2 * UNIT), e.add_up(here.hi, abs(here.hi) * 2 * UNIT))
            found[node] = (
                seen(here, Float(wide if error else here), (error, 0.0, INF)) if error else Seen(here, Float(here))
            )
        return found


class Element:
    """An element of the tensor that is asked about, as a function of entries."""

    def __init__(self, q: Question) -> None:
        """Raises Stuck."""
        assert q.error is not None
        if q.error.longest is not None:
            raise Stuck("a bound for extents up to a number")
        program, tensor = meant(q)
        inlined = _inlined(program, tensor)
        self.q, self.body, self._before = q, _without_units(inlined, program, q.fixed), inlined
        bounds = Bounds(program, {n: e.exact(v) for n, v in q.fixed.items()})
        self.choices: list[tuple[Read, list[float]]] = []
        entries: list[Read] = []
        for n in postorder(self.body):
            if not isinstance(n, Read) or n.tensor in q.fixed:
                continue
            declared = program.input(n.tensor)
            if declared is None:
                raise Stuck(f"{n.tensor} folds an axis")
            if n.tensor == f"{q.of}'":
                self.choices.append((n, [1.0]))
            elif declared.kind in ("bool", "binary", "sign"):
                self.choices.append((n, [-1.0, 1.0] if declared.kind == "sign" else [0.0, 1.0]))
            else:
                entries.append(n)
        self.entries = self._entries(bounds, entries)
        if len(self.entries) > 2 or len(self.choices) > math.log2(_CHOICES):
            raise Stuck(f"it is of {len(self.entries)} numbers, and of {len(self.choices)} labels")

    def _entries(self, bounds: Bounds, reads: list[Read]) -> list[Entry]:
        """Two entries of which the difference alone is read are one number."""
        found: list[Entry] = []
        for a, b in itertools.combinations([n for n in reads if n.dtype is REAL], 2):
            if not {a, b} <= set(reads):
                continue
            nodes = ((Apply("sub", (a, b)), 1), (Apply("sub", (b, a)), -1))
            rest = set(postorder(substitute(self.body, {node: ZERO for node, _ in nodes})))
            if a not in rest and b not in rest:
                box = e.sub(domain(self.q, bounds, a.tensor)[0], domain(self.q, bounds, b.tensor)[0])
                said = any(node in set(postorder(self._before)) for node, _ in nodes)
                least = SMALLEST if said else SMALLEST * UNIT  # of whose last digits it is a multiple
                found.append(Entry(nodes, Enclosure(box.lo, box.hi), True, least, difference=True))
                reads = [n for n in reads if n not in (a, b)]
        for n in reads:
            found.append(Entry(((n, 1),), *domain(self.q, bounds, n.tensor), SMALLEST if n.dtype is REAL else 1.0))
        return found

    def holds(self, choice: Sequence[float], boxes: Box) -> bool:
        """Whether the error is seen to be within the bounds. Raises Stuck."""
        at: dict[Scalar, Seen] = {n: _point(v) for (n, _), v in zip(self.choices, choice, strict=True)}
        for entry, box in zip(self.entries, boxes, strict=True):
            at |= entry.at(box)
        assert self.q.error is not None
        return fits(Errors(self.q.fixed, at)[self.body], self.q.error)


def fits(found: Seen, error: Within) -> bool:
    """Whether the error is seen to be within the bounds."""
    r, a = (e.exact(v).lo / _UP for v in (error.relative, error.absolute))
    ends = [least_of(found.exact), size_of(found.exact)]

    def within(relative: float, absolute: float) -> bool:
        """A linear function of the size of the exact value, at both ends."""
        return all(plus(times(relative, v), absolute) <= r * v + a for v in ends)

    pairs = [(found.relative, found.absolute), (0.0, found.most), (found.share, 0.0)]
    return any(p < INF and within(p, q) for p, q in pairs)


def domain(q: Question, bounds: Bounds, name: str) -> tuple[Enclosure, bool]:
    """Where the floats of an input are, and whether 0 is one of them. Raises Stuck where there are none."""
    declared = bounds.inputs[name]
    assert q.error is not None
    box, most = bounds.tensor(name), LARGEST if declared.dtype is REAL else _WHOLE
    if box.nan:
        raise Stuck(f"{name} may be undefined")
    lo = _inside(box.lo, box.lo_open and declared.dtype is REAL, 1)
    hi = _inside(box.hi, box.hi_open and declared.dtype is REAL, -1)
    lo, hi = max(lo, -most), min(hi, most)
    for other, low, high in q.error.domain:
        if other == name or (not other and declared.dtype is REAL):
            end = e.exact(high).hi
            lo, hi = max(lo, -end if low is None else e.exact(low).lo), min(hi, end)
    if not lo <= hi:
        raise Stuck(f"{name} has no number in the domain")
    return Enclosure(lo, hi), box.may_be_zero


def _inside(end: float, is_open: bool, way: int) -> float:
    """An end of floats: of those beyond an open end that is one itself the first is at least half of a last digit from it."""
    if not is_open or end == 0 or not single(end):
        return end
    return end * (1 + UNIT * (way if end > 0 else -way))


def meant(q: Question) -> tuple[Program, str]:
    """The compiled program, and the tensor of it: the value, or its gradient in the input. Raises Stuck."""
    if any(name and q.program.input(name) is None for name, *_ in (q.error.domain if q.error else ())):
        raise Stuck("a domain of what is no input")
    for part in compiled(q.program, q.of):
        if not q.inputs and not part.gradient:
            return part.program, q.of
        for out in part.program.outputs if q.inputs and part.gradient else ():
            if out.name == f"d {q.inputs[0]}":
                return part.program, out.tensor
    raise Stuck("there is no such gradient")


def _inlined(program: Program, tensor: str) -> Scalar:
    """The element with all maps put in that it is made of. Raises Stuck."""
    maps = {d.tensor: d for d in program.body if isinstance(d, Definition) and d.head == "map"}
    memo: dict[Scalar, Scalar] = {}

    def step(n: Scalar) -> Scalar:
        d = maps.get(n.tensor) if isinstance(n, Read) else None
        if d is None or not isinstance(n, Read):
            return n
        if len(memo) > 20 * _NODES:
            raise Stuck("an element that is too large")
        body = instantiate(d, n.indices)
        if d.support is not TRUE:
            body = Select(substitute(d.support, dict(zip(d.formals, n.indices, strict=True))), body, ZERO)
        return transform(body, step, memo)

    found = maps.get(tensor)
    if found is None or found.dtype is not REAL:
        raise Stuck(f"{tensor} folds an axis")
    element = transform(Read(tensor, found.formals, REAL), step, memo)
    if sum(1 for _ in postorder(element)) > _NODES:
        raise Stuck("an element that is too large")
    return element


def _without_units(body: Scalar, program: Program, fixed: Mapping[str, Fraction]) -> Scalar:
    """With the branches that known parameters choose, and without factors of 1, of an input, and terms of 0, next to inputs or
    sums of two: nothing is rounded or flushed by them, as what is left is 0 or no subnormal number."""

    def value(n: Scalar) -> Fraction | None:
        if isinstance(n, Const) and n.dtype is REAL:
            return n.value if isinstance(n.value, Fraction) else None
        name = n.name if isinstance(n, Param) else n.tensor if isinstance(n, Read) else ""
        return fixed.get(name) if n.dtype is REAL else None

    def is_input(n: Scalar) -> bool:
        declared = program.input(n.tensor) if isinstance(n, Read) else None
        return declared is not None and declared.dtype is REAL and declared.name not in fixed

    def step(n: Scalar) -> Scalar:
        if isinstance(n, Select) and isinstance(n.condition, Param) and n.condition.name in fixed:
            return n.a if fixed[n.condition.name] else n.b
        if not isinstance(n, Apply) or n.dtype is not REAL or len(n.args) != 2:
            return n
        a, b = n.args
        if n.name in ("mul", "div") and is_input(a) and value(b) == 1:
            return a
        if n.name == "mul" and is_input(b) and value(a) == 1:
            return b
        sums = isinstance(a, Apply) and a.name in ("add", "sub") and all(map(is_input, a.args))
        return a if n.name in ("add", "sub") and (is_input(a) or sums) and value(b) == 0 else n

    return transform(body, step)


def of_error(q: Question) -> Trace:
    """For each value of labels the boxes, which cover the domain, in which the error is seen to be within the bounds."""
    element = Element(q)
    trace: Trace = [
        [" ".join(n.tensor for n in postorder(entry.nodes[0][0]) if isinstance(n, Read)) for entry in element.entries]
    ]
    tried = 0
    for choice in itertools.product(*(values for _, values in element.choices)):
        labels = [f"{n.tensor} = {v:g}" for (n, _), v in zip(element.choices, choice, strict=True)]
        for start in itertools.product(*(entry.parts() for entry in element.entries)):
            pending: list[Box] = [start]
            while pending:
                here, tried = pending.pop(), tried + 1
                if tried > _MOST:
                    raise Stuck("too many boxes")
                reason = "the error may be larger"
                try:
                    if element.holds(choice, here):
                        trace.append([*labels, *map(text, here)])
                        continue
                except Stuck as stuck:
                    reason = stuck.why
                pending += _halves(here, reason)
    return trace


def _halves(boxes: Box, reason: str) -> list[Box]:
    """Two boxes, the side of the largest ratio halved, at a power of 2 where it is long. Raises Stuck where none is."""
    ratios = [size_of(b) / least_of(b) if least_of(b) > 0 else 1.0 for b in boxes]
    k = max(range(len(boxes)), key=ratios.__getitem__, default=-1)
    if k < 0 or ratios[k] < _FINE:
        raise Stuck(f"{reason} where it is in {', '.join(map(str, boxes)) or 'no box'}")
    low, high = least_of(boxes[k]), size_of(boxes[k])
    middle = math.sqrt(low) * math.sqrt(high)
    if ratios[k] > 4:
        middle = 2.0 ** round(math.log2(middle))
    if not low < middle < high:
        raise Stuck(f"{reason} where it is in {', '.join(map(str, boxes))}")
    ends = [Enclosure(low, middle), Enclosure(middle, high)]
    if boxes[k].hi < 0:
        ends = [e.neg(b) for b in ends]
    return [(*boxes[:k], half, *boxes[k + 1 :]) for half in reversed(ends)]


__all__ = [
    "SMALLEST",
    "UNIT",
    "Error",
    "Errors",
    "Seen",
    "Trace",
    "domain",
    "fits",
    "meant",
    "of_error",
    "plus",
    "restated",
    "seen",
    "size_of",
    "stated",
    "times",
    "weaker",
]
