"""Rounding errors: how far what is computed in float32 may be from the exact value, as r |exact| + a.

Forward error analysis, interval by interval (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3, with
ranges in place of condition numbers). On an interval of the input every scalar of the compiled program is known as a
triple: an enclosure of its exact value, and r and a such that the computed value is within r |exact| + a of it; a
third enclosure holds the computed value itself. A primitive adds the error that its record admits (`accuracy`) to what its
arguments bring along: by closed forms for arithmetic, by the mean value theorem and an enclosure of the partial
derivatives for the rest. Each operation may be contracted with the next one or not (which only leaves a rounding out),
and what is below the smallest normal number may be flushed to 0 or not.

Where a branch may be taken for the exact value and another for the computed one, their difference is an error too. The
intervals with the largest bounds are halved; at the end one pair of numbers holds for all of them, of which r + a is least.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lossdsl.ir.nodes import (
    FALSE,
    REAL,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
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
from lossdsl.ir.rewrite import substitute
from lossdsl.primitives import PRIMITIVES
from lossdsl.primitives.algebra import IntervalAlgebra
from lossdsl.primitives.facets import exact as exact_function
from lossdsl.primitives.interval import Interval
from lossdsl.verify import enclosure as e
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.float_ranges import FloatRanges, Format
from lossdsl.verify.float_values import LARGEST, NATURAL, NORMAL, single
from lossdsl.verify.operations import compare, transfer, truth
from lossdsl.verify.pieces import TWO_VALUED, NotScalar, target_scalar
from lossdsl.verify.show import text
from lossdsl.verify.work import deadline, passed

METHOD = "rounding errors, interval by interval"
SMALLEST = (
    2.0**-100
)  # of the inputs and their differences that are not 0: what is made of them is rarely flushed to zero
UNIT = 2.0**-24  # the unit roundoff of float32
GOOD, _SMALLER = 2.0**-8, (2.0**16, 2.0**10, 2.0**4)  # a bound that tells something, and where one is looked for
_NEAR = 2.0**7  # times such a bound: more halving may lead to one
LOOSE = 1 + 2.0**-30  # the bounds themselves are computed in doubles
_LITTLE = UNIT / 64  # an error that needs no better bound
_COARSE = 0.125  # a relative error beyond which there is no digit left
_SPREAD = 4.0  # of an enclosure over whose values an error is told relative to them
_SECONDS = 32  # times the context's: of work for the intervals of one domain
_PATIENCE = (0, 48, 600)  # halvings in a row that do not help, for so many numbers
_FINE = 1 + 2.0**-20  # ends of an interval that is not halved


class Unbounded(Exception):
    """There is no bound of the error on this interval; the message says of what."""


@dataclass(frozen=True, slots=True)
class Approximation:
    """A scalar on an interval: every exact value is in `exact`, the computed one in `computed` and within
    relative |exact| + absolute of it."""

    exact: Enclosure
    computed: Enclosure
    relative: float = 0.0
    absolute: float = 0.0

    @property
    def faithful(self) -> bool:
        """Whether it is computed without an error."""
        return self.relative == 0 == self.absolute

    @property
    def error(self) -> float:
        return self.relative * size(self.exact) + self.absolute


@dataclass(frozen=True, slots=True)
class Decision:
    """A condition on an interval: the exact one, None where it is either, and whether the computed one is always the same."""

    exact: bool | None
    faithful: bool


def size(box: Enclosure) -> float:
    return max(abs(box.lo), abs(box.hi))


def _least(box: Enclosure) -> float:
    return max(box.lo, -box.hi, 0.0)


def around(box: Enclosure, relative: float, absolute: float) -> Enclosure:
    """Where numbers are that are so far from those of a set. Raises Unbounded."""
    if not (relative < INF and absolute < INF):
        raise Unbounded("a value without a bound")
    # x - r |x| falls where x > 0, if r is more than 1
    ends = (box.lo, box.hi) if relative < 1 else (size(box), size(box))
    lo = e.add_down(box.lo, -(relative * abs(ends[0]) + absolute) * LOOSE)
    hi = e.add_up(box.hi, (relative * abs(ends[1]) + absolute) * LOOSE)
    return Enclosure(lo, hi)


class Errors:
    """Approximations of the scalars of a program on one interval: `at` gives the scalars that it is of."""

    def __init__(self, floats: FloatRanges, fixed: Mapping[str, Fraction], at: Mapping[Scalar, Approximation]) -> None:
        self._floats, self._fixed = floats, fixed
        self._known: dict[Scalar, Approximation] = dict(at)
        self._decided: dict[Scalar, Decision] = {}

    def __getitem__(self, node: Scalar) -> Approximation:
        """Raises Unbounded."""
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = self._scalar(node)
            top = size(found.computed)
            if found.exact.nan or not top <= LARGEST or not found.error < INF:
                raise Unbounded(text(node))
        return found

    def knows(self, node: Scalar) -> bool:
        return node in self._known

    def _scalar(self, node: Scalar) -> Approximation:
        match node:
            case Const(value=Fraction() as value):
                return number(value)
            case Param() if node.name in self._fixed:
                return number(self._fixed[node.name])
            case Stop():
                return self[node.a]
            case Proxy():
                return self[node.value]
            case Select():
                return self._choice(node)
            case Apply():
                return self._applied(node, [self[a] for a in node.args])
        raise Unbounded(text(node))

    # ------------------------------------------------------------------------------------------------ branches

    def decision(self, node: Scalar) -> Decision:
        found = self._decided.get(node)
        if found is None:
            found = self._decided[node] = self._decision(node)
        return found

    def _decision(self, node: Scalar) -> Decision:
        match node:
            case Compare():
                a, b = self[node.a], self[node.b]
                holds = truth(compare(node.op, a.exact, b.exact))
                if a.faithful and b.faithful:
                    return Decision(holds, True)
                return Decision(holds, holds is not None and truth(compare(node.op, a.computed, b.computed)) is holds)
            case Not():
                inner = self.decision(node.a)
                return Decision(None if inner.exact is None else not inner.exact, inner.faithful)
            case And() | Or():
                stop = isinstance(node, Or)
                parts = [self.decision(p) for p in node.args]
                if any(p.exact is stop and p.faithful for p in parts):
                    return Decision(stop, True)
                settled = [p.exact for p in parts]
                exact = stop if stop in settled else None if None in settled else not stop
                return Decision(exact, all(p.faithful for p in parts))
        if node is TRUE or node is FALSE:
            return Decision(node is TRUE, True)
        a = self[node]
        return Decision(truth(a.exact), a.faithful)

    def _choice(self, node: Select) -> Approximation:
        taken = self.decision(node.condition)
        if taken.exact is not None and taken.faithful:
            return self[node.a if taken.exact else node.b]
        a, b = self[node.a], self[node.b]
        relative, absolute = max(a.relative, b.relative), max(a.absolute, b.absolute)
        if not taken.faithful:  # the value of the one for that of the other
            absolute += size(e.sub(a.exact, b.exact)) * (1 + relative) * LOOSE
        exact = e.hull(a.exact, b.exact) if taken.exact is None else a.exact if taken.exact else b.exact
        return approximation(exact, e.hull(a.computed, b.computed), relative, absolute)

    # ---------------------------------------------------------------------------------------------- operations

    def _applied(self, node: Apply, args: list[Approximation]) -> Approximation:
        exact = transfer(node, [a.exact for a in args])
        computed = self._floats.operation(node, [a.computed for a in args])
        if exact.nan:
            raise Unbounded(text(node))
        accuracy = PRIMITIVES[node.name].accuracy
        if accuracy is None:
            raise Unbounded(f"{text(node)}: there is no model of the error of {node.name}")
        try:
            r, a = self._brought(node, args, exact)
        except Unbounded:
            r, a = INF, 0.0
        own, flushed = (0.0, 0.0), node.name not in _UNTOUCHED
        if _moved(node, args):
            pass
        elif _subtracted(node, args):
            flushed = False
        else:
            own = accuracy(*(Interval(b.computed.lo, b.computed.hi) for b in args))
            if node.name not in _NEAREST and not computed.nan:  # the ranges have an error of their own for functions
                computed = _met(node.name, e.hull(computed, around(computed, own[0] * UNIT, own[1] * UNIT)))
        # what is added is relative to the exact function of what was computed
        r, a = (r + own[0] * UNIT * (1 + r)) * LOOSE, (a * (1 + own[0] * UNIT) + own[1] * UNIT) * LOOSE
        if flushed and not exact.zero and _least(exact) * (1 - r) - a < 2 * NORMAL:
            a += NORMAL
        return approximation(exact, computed, r, a)

    def _brought(self, node: Apply, args: list[Approximation], exact: Enclosure) -> tuple[float, float]:
        """The error of the exact operation of what was computed."""
        if all(a.faithful for a in args):
            return 0.0, 0.0
        here = transfer(node, [e.hull(a.exact, a.computed) for a in args])
        if here.lo == here.hi and not here.nan:  # a jump that is elsewhere
            return 0.0, 0.0
        rule = _RULES.get(node.name)
        if rule is not None:
            return rule(node, args, exact)
        return told(self._by_slopes(node, args), exact)

    def _by_slopes(self, node: Apply, args: list[Approximation]) -> float:
        """By the mean value theorem, one argument after the other."""
        record = PRIMITIVES[node.name]
        boxes = [Interval(b.lo, b.hi) for b in (e.hull(a.exact, a.computed) for a in args)]
        if not record.defined(*boxes):
            raise Unbounded(text(node))
        total = 0.0
        for partial, a in zip(record.partials, args, strict=True):
            if a.faithful:
                continue
            if partial is None:
                raise Unbounded(f"{text(node)}, which jumps")
            slope = partial(_ALGEBRA, *boxes)
            steepest = abs(float(slope)) if isinstance(slope, (int, Fraction)) else slope.magnitude
            total += steepest * a.error
        return total


_ALGEBRA = IntervalAlgebra()


def approximation(exact: Enclosure, computed: Enclosure, relative: float, absolute: float) -> Approximation:
    """The better of the error that was found and of what the enclosures leave room for. Raises Unbounded."""
    most = relative * size(exact) + absolute
    both = e.hull(exact, computed)
    room = INF if both.nan else e.add_up(both.hi, -both.lo)
    if not most <= room:  # it may be NaN
        relative, absolute = 0.0, room
    near = around(exact, relative, absolute)
    return Approximation(exact, e.meet(near, computed) or near, relative, absolute)


def told(error: float, exact: Enclosure) -> tuple[float, float]:
    """An error as a relative one, where the values are of one order of magnitude, else as an absolute one."""
    least = _least(exact)
    return (error / least, 0.0) if least > 0 and size(exact) <= _SPREAD * least else (0.0, error)


def number(value: Fraction) -> Approximation:
    box = e.exact(value)
    if box.lo == box.hi and single(box.lo):
        return Approximation(box, box)
    return Approximation(box, around(box, UNIT, NORMAL), UNIT, NORMAL if abs(value) < 1 else 0.0)


_NEAREST = frozenset({"add", "sub", "mul", "div", "neg", "real"})


def _met(name: str, box: Enclosure) -> Enclosure:
    """Within the natural range of a function."""
    lo, hi = NATURAL.get(name, (-INF, INF))
    return Enclosure(min(max(box.lo, lo), hi), max(min(box.hi, hi), lo))


_UNTOUCHED = frozenset(name for name, p in PRIMITIVES.items() if p.accuracy is exact_function)


def _moved(node: Apply, args: list[Approximation]) -> bool:
    """Whether it is a product with, or a quotient by, a power of 2, which moves the exponent only."""
    return node.dtype is REAL and node.name in ("mul", "div") and any(_moves(a) for a in args[node.name == "div" :])


def _subtracted(node: Apply, args: list[Approximation]) -> bool:
    """Whether it is exact and no subnormal number, as a difference of two floats of which none is more than twice the other
    (Sterbenz, Floating-Point Computation, 1974), or as one with 0."""
    if node.dtype is not REAL or node.name not in ("add", "sub"):
        return False
    x, y = args[0].computed, args[1].computed if node.name == "sub" else e.neg(args[1].computed)
    if x.hi < 0:
        x, y = e.neg(x), e.neg(y)
    return x.zero or y.zero or (x.lo >= 2.0**-100 and y.lo >= x.hi / 2 and y.hi <= 2 * x.lo)


def _moves(a: Approximation) -> bool:
    return a.faithful and a.exact.lo == a.exact.hi and math.frexp(abs(a.exact.lo))[0] in (0.0, 0.5)


def _of_sum(node: Apply, args: list[Approximation], exact: Enclosure) -> tuple[float, float]:
    """r |a| + s |b| in several ways: where a and b have one sign it is at most r |a + b| + (s - r) |b|, else |a| is at most
    |a + b| + |b|."""
    x, y = args
    a, b = x.exact, e.neg(y.exact) if node.name == "sub" else y.exact
    r, s = x.relative, y.relative
    big, small = size(a), size(b)
    if (a.lo >= 0 and b.lo >= 0) or (a.hi <= 0 and b.hi <= 0):
        ways = [(max(r, s), 0.0), (r, max(s - r, 0.0) * small), (s, max(r - s, 0.0) * big)]
    else:
        ways = [(r, (r + s) * small), (s, (r + s) * big)]
    ways.append(told(r * big + s * small, exact))
    least = _least(exact)
    relative, absolute = min(ways, key=lambda way: way[0] + way[1] / least if least > 0 else sum(way))
    return relative, absolute + x.absolute + y.absolute


def _of_product(node: Apply, args: list[Approximation], exact: Enclosure) -> tuple[float, float]:
    x, y = args
    r = x.relative + y.relative + x.relative * y.relative
    a = x.absolute * (1 + y.relative) * size(y.exact) + y.absolute * (1 + x.relative) * size(x.exact)
    return r, a + x.absolute * y.absolute


def _of_quotient(node: Apply, args: list[Approximation], exact: Enclosure) -> tuple[float, float]:
    x, y = args
    least = _least(y.exact)
    wrong = (
        y.relative + (y.absolute / least if y.absolute else 0.0) if least > 0 else y.relative if not y.absolute else 1.0
    )
    if not wrong < 1:
        raise Unbounded(f"{text(node)}, whose denominator may vanish")
    if x.absolute and not least > 0:
        raise Unbounded(text(node))
    r = (x.relative + wrong) / (1 - wrong)
    return r, x.absolute / (least * (1 - wrong)) if x.absolute else 0.0


def _same(node: Apply, args: list[Approximation], exact: Enclosure) -> tuple[float, float]:
    """|f(x)| is |x| or 0, with slopes of at most 1 in size."""
    return args[0].relative, args[0].absolute


def _of_extreme(node: Apply, args: list[Approximation], exact: Enclosure) -> tuple[float, float]:
    x, y = args
    a, b = (x.exact, y.exact) if node.name == "max2" else (e.neg(x.exact), e.neg(y.exact))
    if a.lo >= b.hi or b.lo >= a.hi:
        above = x if a.lo >= b.hi else y
        below = y if above is x else x
        if above.faithful and below.faithful:
            return 0.0, 0.0
        if truth(compare(">=" if node.name == "max2" else "<=", above.computed, below.computed)):
            return above.relative, above.absolute
    if a.lo >= 0 and b.lo >= 0:
        return max(x.relative, y.relative), max(x.absolute, y.absolute)
    return told(max(x.error, y.error), exact)


def _of_root(node: Apply, args: list[Approximation], exact: Enclosure) -> tuple[float, float]:
    """sqrt(x (1 + d) + a) is at most sqrt(|a|) from sqrt(x (1 + d)), which is at most |d| sqrt(x) from sqrt(x)."""
    (x,) = args
    if x.computed.lo < 0:
        raise Unbounded(f"{text(node)} of what may be negative")
    if x.absolute and _least(x.exact) > 0:
        wrong = x.relative + x.absolute / _least(x.exact)
        if wrong < 0.5:
            return wrong, 0.0
    return x.relative, math.sqrt(x.absolute)


def _of_exponential(node: Apply, args: list[Approximation], exact: Enclosure) -> tuple[float, float]:
    """exp(y) is off by the factor exp(error of y)."""
    wrong = sum(a.error for a in args)
    return (math.expm1(wrong) if wrong < 1 else INF), 0.0


def _of_logarithm(node: Apply, args: list[Approximation], exact: Enclosure) -> tuple[float, float]:
    (x,) = args
    least = _least(x.exact)
    wrong = x.relative + (x.absolute / least if least > 0 else INF if x.absolute else 0.0)
    if not wrong < 0.5 or x.exact.lo < 0:
        raise Unbounded(f"{text(node)} of what may be 0")
    scale = {"log": 1.0, "log2": 1.4426950408889636, "log10": 0.43429448190325187}[node.name]
    return 0.0, -math.log1p(-wrong) * scale


def _of_power(node: Apply, args: list[Approximation], exact: Enclosure) -> tuple[float, float]:
    """A whole power of x (1 + d) + a, with a bound of what a makes of it at the largest x."""
    x, exponent = args
    if not exponent.exact.bounded or exponent.exact.lo != exponent.exact.hi:
        raise Unbounded(text(node))
    k = int(exponent.exact.lo)
    least = _least(x.exact)
    wrong, left = x.relative, x.absolute
    if left and least > 0:
        wrong, left = wrong + left / least, 0.0
    if k < 0 and (left or wrong >= 0.5):
        raise Unbounded(f"{text(node)} of what may vanish")
    if not wrong < 1:
        raise Unbounded(text(node))
    try:
        r = math.expm1(k * math.log1p(wrong if k >= 0 else -wrong))
        most = k * (size(x.exact) * (1 + wrong) + left) ** (k - 1) * left if left else 0.0
    except OverflowError:
        raise Unbounded(text(node)) from None
    return r, most


_RULES = {
    "add": _of_sum,
    "sub": _of_sum,
    "mul": _of_product,
    "div": _of_quotient,
    "neg": _same,
    "abs": _same,
    "relu": _same,
    "real": _same,
    "max2": _of_extreme,
    "min2": _of_extreme,
    "sqrt": _of_root,
    "exp": _of_exponential,
    "expdiff": _of_exponential,
    "log": _of_logarithm,
    "log2": _of_logarithm,
    "log10": _of_logarithm,
    "powi": _of_power,
}


# -------------------------------------------------------------------------------------------------- all intervals


@dataclass(frozen=True)
class Bound:
    """The computed value is within relative |exact| + absolute of the exact one, on the domain that `where` tells; `worst`:
    the scalars on the interval that needs the most, or the tensors of `rows`."""

    relative: float
    absolute: float
    where: str = ""
    worst: tuple[tuple[Scalar, Approximation], ...] = ()
    rows: bool = False  # of all elements at once

    @property
    def size(self) -> float:
        """Both errors together."""
        return self.relative + self.absolute

    def text(self) -> str:
        return f"{_up(self.relative)} * abs(exact) + {_up(self.absolute)}{self.where}"


def _up(x: float) -> str:
    """Two digits, rounded up."""
    if x == 0:
        return "0"
    digits = math.floor(math.log10(x)) - 1
    return f"{math.ceil(x / 10.0**digits * (1 - 2**-40)) * 10.0**digits:.2g}"


@dataclass(frozen=True)
class _Part:
    """The bound on one box of the numbers, and the sizes of the exact values there."""

    at: Mapping[Scalar, Approximation]

    relative: float
    absolute: float
    least: float
    largest: float

    def absolute_at(self, relative: float) -> float:
        """The least a for which relative |exact| + a holds here."""
        spread = self.largest if relative < self.relative else self.least
        return max(0.0, self.absolute + (self.relative - relative) * spread)

    @property
    def candidates(self) -> tuple[float, ...]:
        whole = self.relative + self.absolute / self.least if self.least > 0 else INF
        return (0.0, *(r for r in (self.relative, whole) if r < _COARSE))

    @property
    def cost(self) -> float:
        return min(r + self.absolute_at(r) for r in self.candidates)


def _joined(parts: Sequence[_Part]) -> tuple[float, float]:
    """One pair for all parts, of which the sum is least: it is a convex function of the relative error."""

    rates, offsets, least, largest = np.array([(p.relative, p.absolute, p.least, p.largest) for p in parts]).T

    def absolute(relative: float) -> float:
        """The largest `absolute_at`."""
        spreads = np.where(relative < rates, largest, least)
        return max(0.0, float(np.max(offsets + (rates - relative) * spreads)))

    def total(relative: float) -> float:
        return relative + absolute(relative)

    low, high = math.log(UNIT) - 4, math.log(_COARSE)
    for _ in range(40):
        left, right = low + (high - low) * 0.382, low + (high - low) * 0.618
        low, high = (low, right) if total(math.exp(left)) <= total(math.exp(right)) else (left, high)
    best = min(
        (0.0, math.exp(low), math.exp(high), *sorted({p.relative for p in parts if p.relative < _COARSE})[-1:]),
        key=total,
    )
    return best, absolute(best)


@dataclass(frozen=True)
class _Variable:
    """A number that the scalar is of: the nodes that are it, with its sign in each; the numbers of the type that it may be, from
    the least positive one; whether it is a difference, which is rounded itself."""

    nodes: tuple[tuple[Scalar, int], ...]
    box: Enclosure
    smallest: float
    difference: bool = False

    def at(self, box: Enclosure) -> dict[Scalar, Approximation]:
        """Raises Unbounded."""
        found: dict[Scalar, Approximation] = {}
        for node, sign in self.nodes:
            here = box if sign > 0 else e.neg(box)
            if self.difference and size(here) > LARGEST:
                raise Unbounded(f"{text(node)}, which may overflow")
            if self.difference and not here.zero:
                found[node] = Approximation(here, around(here, UNIT, 0.0), UNIT)
            else:
                found[node] = Approximation(here, here)
        return found

    @property
    def positive(self) -> bool:
        """Whether it is any positive number: one that is small is then as far from 1 as one that is large."""
        return 0 < self.box.lo < 1 < self.box.hi and self.box.hi > 1 / self.box.lo / 2**9

    def parts(self, bound: float) -> list[Enclosure]:
        """Zero, and what is on either side of it up to the bound."""
        lo, hi = max(self.box.lo, -bound), min(self.box.hi, bound)
        if self.positive:
            lo = max(lo, 1 / bound)
        found = [Enclosure(0.0, 0.0)] if lo <= 0 <= hi else []
        if lo < 0 and min(hi, -self.smallest) >= lo:
            found.append(Enclosure(lo, min(hi, -self.smallest)))
        if hi > 0 and max(lo, self.smallest) <= hi:
            found.append(Enclosure(max(lo, self.smallest), hi))
        return found

    def farthest(self, bound: float) -> list[Enclosure]:
        """The outermost octave on either side."""
        parts = (p for p in self.parts(bound) if not p.zero)
        return [
            Enclosure(max(p.lo, p.hi / 2), p.hi) if p.hi > 0 else Enclosure(p.lo, min(p.hi, p.lo / 2)) for p in parts
        ]

    def ratio(self, box: Enclosure) -> float:
        least = _least(box)
        return size(box) / least if least > 0 else 1.0 if box.zero else INF


class _Scalar:
    """One element of a tensor of a compiled program, with what it is of."""

    def __init__(self, ctx: Context, program: Program, tensor: str, target: str, form: Format, *, narrow: bool) -> None:
        """Raises NotScalar, Unbounded."""
        self._largest = form.largest if narrow else LARGEST
        self.body = target_scalar(program, tensor)
        self.fixed, self._form, self._ranges = ctx.fixed, form, ctx.ranges()
        self.floats = FloatRanges(program, {**ctx.assume, f"{target}'": Enclosure(1.0, 1.0)}, form, ctx.fixed)
        self.choices: list[tuple[Scalar, tuple[float, ...]]] = []
        entries: list[Read] = []
        kinds = {i.name: i.kind for i in program.inputs}
        for n in postorder(self.body):
            if isinstance(n, Read):
                if n.tensor == f"{target}'":
                    self.choices.append((n, (1.0,)))
                elif n.tensor in ctx.fixed:
                    self.choices.append((n, (float(ctx.fixed[n.tensor]),)))
                elif n.tensor not in kinds:
                    raise NotScalar(f"it is of {n.tensor}, which folds an axis")
                elif kinds[n.tensor] in TWO_VALUED:
                    self.choices.append((n, tuple(map(float, TWO_VALUED[kinds[n.tensor]]))))
                else:
                    entries.append(n)
        self.variables = self._variables(entries)
        if len(self.variables) > 2:
            raise Unbounded(f"it is of {len(self.variables)} numbers")

    def _variables(self, entries: list[Read]) -> list[_Variable]:
        """Two entries that are read in their difference only are one number, which is off by its own rounding."""
        found: list[_Variable] = []
        body = self.body
        for a, b in itertools.combinations([n for n in entries if n.dtype is REAL], 2):
            pairs = [(Apply("sub", p), s) for p, s in (((a, b), 1), ((b, a), -1))]
            without = substitute(body, {node: Param("#") for node, _ in pairs})
            left = set(postorder(without))
            if a in entries and b in entries and a not in left and b not in left:
                box = e.sub(self._domain(a), self._domain(b))
                ends = Enclosure(box.lo, box.hi)
                found.append(_Variable(tuple(pairs), ends, self._form.smallest or SMALLEST, difference=True))
                entries, body = [n for n in entries if n not in (a, b)], without
        return found + [_Variable(((n, 1),), self._domain(n), self._smallest(n)) for n in entries]

    def _domain(self, entry: Read) -> Enclosure:
        box = self.floats.input(entry.tensor)
        if entry.dtype is not REAL:
            return Enclosure(max(box.lo, -(2.0**24)), min(box.hi, 2.0**24))
        lo = self._smallest(entry) if box.lo == 0 and self._ranges.input(entry.tensor).positive else box.lo
        return Enclosure(lo, box.hi)

    def _smallest(self, entry: Read) -> float:
        return (self._form.smallest or SMALLEST) if entry.dtype is REAL else 1.0

    def part(self, choice: Sequence[float], boxes: Sequence[Enclosure]) -> _Part:
        """The bound where the numbers are in the boxes. Raises Unbounded."""
        at: dict[Scalar, Approximation] = {}
        for (node, _), value in zip(self.choices, choice, strict=True):
            at[node] = Approximation(Enclosure(value, value), Enclosure(value, value))
        for variable, box in zip(self.variables, boxes, strict=True):
            at |= variable.at(box)
        found = Errors(self.floats, self.fixed, at)[self.body]
        if size(found.computed) > self._largest:
            raise Unbounded(f"{text(self.body)}, which may overflow")
        return _Part(at, found.relative, found.absolute, _least(found.exact), size(found.exact))

    def where(self, bound: float) -> str:
        """The domain, where it is not all of the numbers of the type."""
        told = []
        for v in self.variables:
            for node, _ in v.nodes[:1]:
                names = [n.tensor for n in (node.args if isinstance(node, Apply) else (node,)) if isinstance(n, Read)]
                if v.positive and 1 / bound > v.box.lo:
                    told.append(f"{1 / bound:.6g} <= {names[0]} <= {bound:.6g}")
                elif size(v.box) > bound * (2 if v.difference else 1):
                    told += [f"abs({n}) <= {bound:.6g}" for n in names]
        return f" where {', '.join(dict.fromkeys(told))}" if told else ""

    @property
    def most(self) -> float:
        return max((size(v.box) / (2 if v.difference else 1) for v in self.variables), default=0.0)

    def reach(self) -> float:
        """The bound on real inputs, by powers of 2, up to which nothing overflows farthest out."""
        most = self.most

        def fits(bound: float) -> bool:
            ends = [v.farthest(2 * bound if v.difference else bound) or v.parts(bound) for v in self.variables]
            try:
                for choice in itertools.product(*(values for _, values in self.choices)):
                    for boxes in itertools.product(*ends):
                        self.part(choice, boxes)
            except Unbounded:
                return False
            return True

        if fits(most):
            return most
        low, high = -24, math.frexp(most)[1]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(2.0**middle) else (low, middle)
        return 2.0**low


class _Covering:
    """Intervals that cover the numbers up to a bound; those with the largest errors are halved first."""

    def __init__(self, scalar: _Scalar, within: float) -> None:
        self._scalar, self.within = scalar, within
        self._open: list[tuple[float, int, tuple[float, ...], tuple[Enclosure, ...], _Part | None, str]] = []
        self._done: list[_Part] = []
        self._count = itertools.count()
        self._since, self._level = 0, INF
        for choice in itertools.product(*(values for _, values in scalar.choices)):
            for boxes in itertools.product(
                *(v.parts(2 * within if v.difference else within) for v in scalar.variables)
            ):
                self._put(choice, boxes)

    def _put(self, choice: tuple[float, ...], boxes: tuple[Enclosure, ...]) -> None:
        part, blocked = None, ""
        try:
            part = self._scalar.part(choice, boxes)
        except Unbounded as reason:
            blocked = str(reason)
        heapq.heappush(self._open, (-part.cost if part else -INF, next(self._count), choice, boxes, part, blocked))

    def refine(self, seconds: float) -> None:
        """Halve until that helps no more. Raises Unbounded where an interval is as small as it can be and has no bound."""
        variables, end = self._scalar.variables, deadline(seconds)
        patience = _PATIENCE[len(variables)]
        while self._open and self._since < patience and not passed(end):
            cost, _, choice, boxes, part, blocked = heapq.heappop(self._open)
            if part is not None and -cost <= _LITTLE:
                self._done.append(part)
                self._since = patience
                return
            self._since, self._level = (self._since + 1, self._level) if -cost > 0.98 * self._level else (0, -cost)
            ratios = [v.ratio(b) for v, b in zip(variables, boxes, strict=True)]
            k = max(range(len(boxes)), key=ratios.__getitem__, default=-1)
            halves = _halves(boxes[k]) if k >= 0 else None
            if halves is None:
                if part is None:
                    raise Unbounded(blocked)
                self._done.append(part)
                continue
            for half in halves:
                self._put(choice, (*boxes[:k], half, *boxes[k + 1 :]))

    def parts(self) -> list[_Part]:
        """Raises Unbounded."""
        found = list(self._done)
        for *_, part, blocked in self._open:
            if part is None:
                raise Unbounded(blocked)
            found.append(part)
        if not found:
            raise Unbounded("no number of the domain that is small enough")
        return found

    def size(self) -> float:
        """The relative and the absolute error together, as they are bounded so far. Raises Unbounded."""
        return sum(_joined(self.parts()))

    def bound(self, rounding: tuple[float, float]) -> Bound:
        """The bound on all of the intervals, and what is added to it at the end. Raises Unbounded."""
        scalar, done = self._scalar, self.parts()
        relative, absolute = _joined(done)
        own, least = rounding
        worst = max(done, key=lambda p: p.absolute_at(relative))
        nodes = Errors(scalar.floats, scalar.fixed, worst.at)
        assert nodes[scalar.body].relative == worst.relative
        told = tuple((n, nodes[n]) for n in postorder(scalar.body) if isinstance(n, (Apply, Select)) and nodes.knows(n))
        where = scalar.where(self.within)
        return Bound((relative + own * (1 + relative)) * LOOSE, (absolute * (1 + own) + least) * LOOSE, where, told)


def _bound(scalar: _Scalar, rounding: tuple[float, float], seconds: float) -> Bound:
    """On all finite inputs whose value is finite; on those that are smaller where this tells nothing. Most of the work is
    for a domain on which a little of it finds a bound that is not far from telling something. Raises Unbounded."""
    reach = scalar.reach()
    best: tuple[float, _Covering] | None = None
    blocked = Unbounded("no number of the domain that is small enough")
    for within in (reach, *(b for b in _SMALLER if b < reach)):
        covering = _Covering(scalar, within)
        try:
            covering.refine(seconds / 2)
            size = covering.size()
            if size <= _NEAR * GOOD:
                covering.refine(seconds / 2)
                size = covering.size()
        except Unbounded as reason:
            blocked = reason
            continue
        if best is None or size <= best[0] / 4:
            best = size, covering
        if size <= GOOD:
            break
    if best is None:
        raise blocked
    return best[1].bound(rounding)


def _halves(box: Enclosure) -> tuple[Enclosure, Enclosure] | None:
    """An interval on one side of 0 in two, at the geometric mean of its ends; None where it is small enough."""
    if box.hi < 0:
        found = _halves(e.neg(box))
        return None if found is None else (e.neg(found[1]), e.neg(found[0]))
    lo, hi = box.lo, box.hi
    middle = math.sqrt(lo) * math.sqrt(hi)
    return (Enclosure(lo, middle), Enclosure(middle, hi)) if hi > lo * _FINE and lo < middle < hi else None


def bound_of(
    ctx: Context,
    program: Program,
    tensor: str,
    target: str,
    form: Format,
    rounding: tuple[float, float],
    *,
    narrow: bool,
) -> Bound:
    """The bound of the error of an element of a tensor of a compiled program, and of what it is rounded by at the end. Raises
    NotScalar where it folds an axis, Unbounded."""
    scalar = _Scalar(ctx, program, tensor, target, form, narrow=narrow)
    return _bound(scalar, rounding, _SECONDS * ctx.seconds)


__all__ = [
    "GOOD",
    "LOOSE",
    "METHOD",
    "SMALLEST",
    "UNIT",
    "Approximation",
    "Bound",
    "Decision",
    "Errors",
    "Unbounded",
    "approximation",
    "around",
    "bound_of",
    "number",
    "size",
    "told",
]
