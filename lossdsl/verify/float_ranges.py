"""Ranges of what float32 arithmetic computes: the model of `finite`, over all inputs and parameters of a float type.

What holds of every float32 arithmetic (with or without contraction, with or without flush to zero):
- `add`, `sub` and `mul` are rounded to the nearest number, which is monotone: an end of the exact range that is a number
  of the type is not passed (IEEE 754; Muller et al., Handbook of Floating-Point Arithmetic, 2.2), contracted or not.
- The sums of a large number and a correction between 0 and 0.7 (softplus, logcosh, logaddexp; the primitives compute them
  so) are the number itself where half of its last digit is more than that, from 2^26 on.
- What is computed from multiples of 2^-k by `add`, `sub`, `mul` is a multiple of some 2^-j, or 0 (`granule`): rounding to
  24 bits keeps multiples. So a number that is not 0 is not tiny either.
- The same operations on the same numbers give the same number, unless a product is contracted with an addition
  (`_repeatable`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.dim import Dim, FloorDiv
from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    Apply,
    Const,
    Definition,
    Param,
    Program,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
)
from lossdsl.verify import enclosure as e
from lossdsl.verify import masses
from lossdsl.verify.enclosure import ANYTHING, INF, Enclosure
from lossdsl.verify.float_values import EXPONENTIAL, LARGEST, NATURAL, NORMAL, single
from lossdsl.verify.operations import transfer
from lossdsl.verify.pieces import square_root
from lossdsl.verify.ranges import Ranges, Scope, place_of


@dataclass(frozen=True)
class Format:
    """A float type: its largest number, what still rounds to it, its smallest positive one, the largest below 1."""

    name: str
    largest: float
    overflow: float
    smallest: float
    below_one: float
    bits: int  # of a mantissa

    @property
    def least(self) -> Fraction:
        """The smallest number that is not flushed to 0."""
        return Fraction(self.smallest) or Fraction(NORMAL)


FORMATS = {
    "float16": Format("float16", 65504.0, 65519.0, 2.0**-24, 1 - 2.0**-11, 11),
    "bfloat16": Format("bfloat16", float.fromhex("0x1.fep127"), float.fromhex("0x1.fep127"), 0.0, 1 - 2.0**-8, 8),
    "float32": Format("float32", LARGEST, LARGEST, 0.0, 1 - 2.0**-24, 24),
}
_LONGEST = 2.0**31
_SAME = frozenset({"neg", "real", "int", "abs", "max2", "min2", "relu", "clamp"})
_NEAREST = frozenset({"add", "sub", "mul"})
_CORRECTED = frozenset({"softplus", "logsigmoid", "logcosh", "logaddexp"})
_MILD = 2.0**30
_ROUNDINGS = 4
_LARGE = 3e4  # what is less in size is finite in every type
_LONG = 2.0**26  # the least number of which half of the last digit is more than any correction


def rounded(value: Enclosure, relative: float) -> Enclosure:
    """What float32 may make of a value: error, flush to zero, overflow."""
    if value.nan:
        return ANYTHING
    lo = e.add_down(value.lo, -abs(value.lo) * relative) if abs(value.lo) < INF else value.lo
    hi = e.add_up(value.hi, abs(value.hi) * relative) if abs(value.hi) < INF else value.hi
    if 0 < lo < 2 * NORMAL:
        lo = 0.0
    if -2 * NORMAL < hi < 0:
        hi = 0.0
    lo = -INF if lo < -LARGEST else INF if lo > LARGEST else lo
    hi = INF if hi > LARGEST else -INF if hi < -LARGEST else hi
    return Enclosure(lo, hi)


def _most(dim: Dim) -> float:
    return math.fsum(c * math.prod(map(_most_of, atoms)) for atoms, c in dim.terms if c > 0)


def _most_of(atom: str | FloorDiv) -> float:
    return _LONGEST if isinstance(atom, str) else _most(atom.numerator) / atom.denominator


def _last_digit(value: Fraction) -> float:
    """The largest power of 2 of which a float32 number is a multiple; 0 of what is no such number, inf of 0."""
    n, d = abs(value.numerator), value.denominator
    if n == 0:
        return INF
    low = n & -n
    return low / d if d & (d - 1) == 0 and (n // low).bit_length() <= 24 else 0.0


def _kept(exact: Enclosure, found: Enclosure) -> Enclosure:
    """What is found of results that are rounded to the nearest number: ends of the exact range that are numbers of the
    type are not passed, but by what is flushed to 0."""
    lo = exact.lo if single(exact.lo) and not 0 < exact.lo < 2 * NORMAL else found.lo
    hi = exact.hi if single(exact.hi) and not -2 * NORMAL < exact.hi < 0 else found.hi
    return Enclosure(lo, hi)


def _exponential(node: Apply, args: list[Enclosure], found: Enclosure) -> Enclosure:
    """An exponential is off by (|x| + 2) 2^-20; so at each end of exp, which increases with that error in it too."""
    if node.name in ("exp", "expdiff"):
        at = args[0] if node.name == "exp" else e.sub(*args)
        return Enclosure(rounded(found, _error(at.lo)).lo, rounded(found, _error(at.hi)).hi)
    return rounded(found, _error(max(abs(v) for a in args for v in (a.lo, a.hi))))


def _error(reach: float) -> float:
    return min(1.0, (min(abs(reach), 200.0) + 2) * 2.0**-20)


def _corrected(node: Apply, args: list[Enclosure], found: Enclosure) -> Enclosure:
    """The ends of the largest number plus a correction between 0 and 0.7, which leaves large numbers as they are
    (`logsigmoid` is such a sum with the other sign)."""
    low, high = min(a.lo for a in args), max(a.hi for a in args)
    if node.name == "logcosh":
        high = max(abs(low), abs(high))
    lo, hi = found.lo, found.hi
    if node.name in ("softplus", "logaddexp"):
        lo = max(lo, *(a.lo for a in args), 0.0 if node.name == "softplus" else lo)
    if node.name == "logsigmoid":
        return Enclosure(max(lo, low) if single(low) and low <= -_LONG else lo, hi)
    return Enclosure(lo, min(hi, high) if single(high) and high >= _LONG else hi)


def _repeatable(node: Scalar, inputs: Collection[str]) -> bool:
    """Whether a scalar is the same number wherever it is computed, and whatever it is an argument of: entries and what is
    made of them with no product that may be contracted with an addition."""
    match node:
        case Read():
            return node.tensor in inputs
        case Param() | Size() | Const():
            return True
        case Stop():
            return _repeatable(node.a, inputs)
        case Apply(name="mul"):
            return False
        case Apply(name="div"):  # of products too: the quotient is rounded in between
            return all(_repeatable(f, inputs) for a in node.args for f in _factors(a))
        case Apply(name="add" | "sub" | "neg" | "abs" | "max2" | "min2" | "relu" | "clamp" | "real"):
            return all(_repeatable(a, inputs) for a in node.args)
    return False


def _factors(node: Scalar) -> tuple[Scalar, ...]:
    if isinstance(node, Apply) and node.name == "mul":
        return tuple(f for a in node.args for f in _factors(a))
    return (node,)


def _met(found: Enclosure, fact: Enclosure) -> Enclosure:
    """What is in both, the ends of floats being closed."""
    both = fact if found.nan else e.meet(found, fact)
    return found if both is None else Enclosure(both.lo, both.hi)


class FloatRanges(Ranges):
    """Ranges of what float32 arithmetic computes for inputs and parameters of a format."""

    def __init__(
        self, program: Program, assume: Mapping[str, Enclosure], form: Format, fixed: Mapping[str, Fraction]
    ) -> None:
        super().__init__(program, assume)
        self.form, self.fixed = form, fixed
        self.given: dict[Scalar, Enclosure] = {}
        self._granules: dict[Scalar, float] = {}

    def scope(self, nonempty: frozenset[Dim] = frozenset()) -> Scope:
        found = self._scopes.get(nonempty)
        if found is None:
            found = self._scopes[nonempty] = Scope(self, nonempty, self.given)
        return found

    def parameter(self, name: str) -> Enclosure:
        declared = next((p for p in self.program.parameters if p.name == name), None)
        return self._with(None if declared is None else declared.default, self._representable(super().parameter(name)))

    def input(self, name: str) -> Enclosure:
        declared = self._inputs.get(name)
        return self._with(None if declared is None else declared.default, self._representable(super().input(name)))

    def _with(self, default: Scalar | None, box: Enclosure) -> Enclosure:
        """A default is computed with as float32 has it, whether it is a number of the type or not."""
        usual = isinstance(default, Const) and default.dtype is REAL and isinstance(default.value, Fraction)
        if not usual or box.lo == box.hi or box.nan:
            return box
        assert isinstance(default, Const)
        assert isinstance(default.value, Fraction)
        return e.hull(box, self.constant(e.exact(default.value)))

    def _representable(self, box: Enclosure) -> Enclosure:
        f = self.form
        lo, hi = max(box.lo, -f.largest), min(box.hi, f.largest)
        if lo == 0 and box.lo_open and lo < hi:
            lo = min(f.smallest, hi)
        if hi == 1 and box.hi_open and lo < f.below_one:
            hi = f.below_one
        if 0 < lo < NORMAL or -NORMAL < hi < 0:  # which may be read as 0
            lo, hi = min(lo, 0.0), max(hi, 0.0)
        return Enclosure(lo, hi) if lo <= hi else Enclosure(box.lo, box.hi)

    def extent(self, dim: Dim, nonempty: frozenset[Dim]) -> Enclosure:
        """An axis has 2^31 elements at most; an extent that is made of others is a polynomial of theirs."""
        box = super().extent(dim, nonempty)
        return box if box.hi < INF else Enclosure(box.lo, max(box.lo, _most(dim)))

    def constant(self, value: Enclosure) -> Enclosure:
        return value if value.lo == value.hi and single(value.lo) else rounded(value, 2.0**-23)

    def operation(self, node: Apply, args: list[Enclosure]) -> Enclosure:
        found = transfer(node, args)
        if node.name in _SAME:
            return found
        if node.name == "sub" and node.args[0] is node.args[1] and not self.repeatable(node.args[0]):
            found = ANYTHING if args[0].nan else e.sub(*args)  # one product may be contracted, and the other not
        if found.nan:
            return ANYTHING
        if node.name in _NEAREST:
            return _kept(found, rounded(found, 2.0**-20))
        if node.name == "div" or node.dtype.value != "real":
            return rounded(found, 2.0**-20)
        result = _exponential(node, args, found) if node.name in EXPONENTIAL else rounded(found, 2.0**-16)
        if node.name in _CORRECTED:
            result = _corrected(node, args, result)
        lo, hi = NATURAL.get(node.name, (-INF, INF))
        return Enclosure(max(result.lo, lo), min(result.hi, hi)) if result.hi >= lo and result.lo <= hi else result

    def repeatable(self, node: Scalar) -> bool:
        return _repeatable(node, self._inputs)

    def near(self, node: Scalar, depth: int = _ROUNDINGS) -> bool:
        """Whether a scalar that is computed twice is nearly the same: a few products and quotients of what is the same, by
        numbers that do not bring back what was flushed to 0. Sums of products may cancel."""
        if self.repeatable(node):
            return True
        if isinstance(node, Read):
            d = self._definitions.get(node.tensor)
            plain = d is not None and d.tensor not in self._grouped and d.head == "map" and d.support is TRUE
            return d is not None and plain and self.near(d.body, depth)
        if isinstance(node, Stop):
            return self.near(node.a, depth)
        if not isinstance(node, Apply) or depth == 0:
            return False
        if node.name in ("neg", "abs", "relu", "real"):
            return self.near(node.args[0], depth)
        if node.name not in ("mul", "div"):
            return False
        a, b = node.args
        if self.repeatable(a) and self.repeatable(b):
            return True
        scope = self.scope()
        for x, k in ((a, b), (b, a))[: 1 + (node.name == "mul")]:
            box = scope[k]
            least, most = max(box.lo, -box.hi), max(-box.lo, box.hi)
            mild = not box.nan and (most <= _MILD if node.name == "mul" else least >= 1 / _MILD)
            if mild and self.repeatable(k) and self.near(x, depth - 1):
                return True
        return False

    def granule(self, node: Scalar) -> float:
        found = self._granules.get(node)
        if found is None:
            found = self._granule(node)
            found = self._granules[node] = found if found >= 2 * NORMAL else 0.0
        return found

    def _granule(self, node: Scalar) -> float:
        """A power of 2 of which all numbers that the scalar may be are multiples; inf of 0; 0 if there may be none."""
        if node.dtype is not REAL:
            return 1.0
        match node:
            case Const():
                return INF if isinstance(node.value, str) else _last_digit(node.value)
            case Param():
                return self._entries_of(node.name, self.parameter(node.name))
            case Read():
                declared, d = self._inputs.get(node.tensor), self._definitions.get(node.tensor)
                if declared is not None:
                    own = INF if declared.default is None else self.granule(declared.default)
                    return min(own, self._entries_of(node.tensor, self.input(node.tensor)))
                plain = d is not None and d.tensor not in self._grouped and d.head in ("map", "sum", "max", "min")
                return self.granule(d.body) if d is not None and plain else 0.0
            case Stop():
                return self.granule(node.a)
            case Select():
                return min(self.granule(node.a), self.granule(node.b))
            case Apply(name="mul"):
                return self.granule(node.args[0]) * self.granule(node.args[1]) if self._both(node) else 0.0
            case Apply(name="powi" | "pow"):
                k = node.args[1].value if isinstance(node.args[1], Const) else None
                exponent = int(k) if isinstance(k, Fraction) and k.denominator == 1 and 1 <= k <= 16 else None
                return self.granule(node.args[0]) ** exponent if exponent is not None else 0.0
            case Apply(name=name) if name == "add" or name == "sub" or name in _SAME:
                return min(self.granule(a) for a in node.args)
        return 0.0

    def _both(self, node: Apply) -> bool:
        return all(self.granule(a) > 0 for a in node.args)

    def _entries_of(self, name: str, box: Enclosure) -> float:
        """Of the numbers of the type, or of the one number that an input or a parameter is taken to be."""
        if name in self.fixed:
            return _last_digit(self.fixed[name])
        return _last_digit(Fraction(box.lo)) if box.lo == box.hi else self.form.smallest

    def refine(self, node: Apply, found: Enclosure, scope: Scope) -> Enclosure:
        """An element minus the log-sum-exp of its row exceeds 0 only by the error of the latter; an average is between its
        elements; y exp(y) is at most 1/e in size where y <= 0; x / q * q is x but for rounding."""
        if node.name == "div":
            place = place_of(node)
            if place is not None and not found.nan:
                return _met(found, rounded(place, 2.0**-20))
            total, fact = scope[node.args[0]], self._average(node, scope)
            if fact is None or fact.nan or total.nan or not total.bounded:  # the sum itself may overflow
                return found
            if not scope[node.args[1]].positive:  # of nothing it is undefined
                return found
            return _met(found, rounded(fact, 2.0**-14))
        if node.name == "mul" and not found.nan:
            return self._entropy(node, found, scope)
        if found.nan or node.name not in ("sub", "expdiff"):
            return found
        fact = self._difference(node.args[0], node.args[1], scope)
        if fact is None:
            return found
        size = max(abs(v) for a in node.args for v in (scope[a].lo, scope[a].hi))
        if size == INF:
            return found
        same = any(self.repeatable(a) for a in node.args)
        if not same and not any(self.near(a) for a in node.args):
            return found
        slack = 0.0 if same else size * 2.0**-16 + 2.0**-16
        if node.name == "expdiff":
            top = 1.0 + 2 * slack + 2.0**-20 if slack < 1 else INF
            return Enclosure(found.lo, min(found.hi, top)) if found.lo <= top else found
        if fact.hi == 0:
            return Enclosure(found.lo, min(found.hi, slack)) if found.lo <= slack else found
        return Enclosure(max(found.lo, -slack), found.hi) if found.hi >= -slack else found

    def long_sum(self, d: Definition, found: Enclosure, scope: Scope) -> Enclosure:
        return found  # rounding has no part in those rules

    def _entropy(self, node: Apply, found: Enclosure, scope: Scope) -> Enclosure:
        factors, cancelled = masses.cancelled(list(masses.flat(node)))
        if cancelled and not found.bounded:  # it may overflow on the way
            return found
        if found.bounded and max(-found.lo, found.hi) > _LARGE:
            return self._normed(node, found, scope)
        if not cancelled and not any(isinstance(f, Apply) and f.name == "exp" and not inv for f, inv in factors):
            return found
        size = masses.size(factors, scope)
        return found if size is None or size >= LARGEST else _met(found, rounded(Enclosure(-size, size), 2.0**-14))

    def _normed(self, node: Apply, found: Enclosure, scope: Scope) -> Enclosure:
        """A product in which definitions are written out: what is in them may cancel, or be the norm of what it divides."""
        size = masses.largest(list(masses.flat(masses.written(self, node) or node)), scope)
        return found if size is None or size >= LARGEST else _met(found, rounded(Enclosure(-size, size), 2.0**-14))

    def _definition(self, d: Definition, nonempty: frozenset[Dim]) -> Enclosure:
        box = self._spread(d, nonempty, self._fold(d, nonempty))
        if d.head != "sum" or (not box.nan and box.bounded and max(abs(box.lo), abs(box.hi)) < 1e3):
            return box
        scope: Scope | None = self.scope(nonempty | frozenset(i.dim for i in (*d.formals, *d.bound)))
        for condition in (d.support, d.where):
            scope = scope.under(condition, True) if scope is not None else None
        if scope is None or scope[d.body].nan or not scope[d.body].bounded:  # a term may overflow on the way
            return box
        most = masses.bound(self, d, scope)
        return box if most is None or most >= LARGEST else _met(box, rounded(Enclosure(-most, most), 2.0**-14))

    def _spread(self, d: Definition, nonempty: frozenset[Dim], box: Enclosure) -> Enclosure:
        """The squares of the entries of a point of a simplex add up to 1/n at least (Cauchy and Schwarz); those that are
        flushed to 0 to less than n 2^-126."""
        base = square_root(d.body) if d.head == "sum" and masses.whole(d) else None
        declared = self.program.input(base.tensor) if isinstance(base, Read) else None
        if declared is None or declared.kind != "simplex" or not isinstance(base, Read) or box.nan:
            return box
        if [base.indices[k] for k in declared.over] != list(d.bound) or len(set(base.indices)) < len(base.indices):
            return box
        most = math.prod(self.extent(i.dim, nonempty).hi for i in d.bound)
        least = (1 - 2.0**-14) / most if 0 < most <= _LONGEST**2 else 0.0
        return Enclosure(max(box.lo, least), box.hi) if least <= box.hi else box

    def _fold(self, d: Definition, nonempty: frozenset[Dim]) -> Enclosure:
        box = super()._definition(d, nonempty)
        if d.head in ("map", "max", "min", "any", "all", "argmax", "argmin", "argsort", "count") or box.nan:
            return box
        if d.head == "logsumexp":
            return self._logsumexp(d, box, nonempty)
        return rounded(box, 2.0**-16)

    def _logsumexp(self, d: Definition, box: Enclosure, nonempty: frozenset[Dim]) -> Enclosure:
        """It is computed as m + log(s), m the largest element and s >= 1: at least m, and at most the largest number, to
        which a sum that is less than half of its last digit above it is rounded."""
        body = self.scope(nonempty | frozenset(i.dim for i in d.bound) | self.read_axes(d.body))[d.body]
        if body.nan or not body.bounded:
            return rounded(Enclosure(box.lo, box.hi), 2.0**-16)
        top = body.hi + 22.0 * max(1, len(d.bound))
        return Enclosure(max(box.lo, body.lo) if box.lo > -INF else -INF, min(top + abs(top) * 2.0**-16, LARGEST))


class PresentRanges(FloatRanges):
    """Float ranges where every axis has an element."""

    def extent(self, dim: Dim, nonempty: frozenset[Dim]) -> Enclosure:
        box = super().extent(dim, nonempty)
        return Enclosure(max(box.lo, 1.0), box.hi) if box.hi >= 1.0 else box
