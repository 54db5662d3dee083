"""Limits of values along a sequence of points: where each goes, from which side, and whether it varies at all.

A sequence of inputs is admissible points of which some entries go to an infinity or to an end of their domain, while
everything else is fixed. Every operation here is continuous where it is used (in the extended real numbers, away from
`inf - inf`, `0 * inf`, `inf / inf`, `1^inf`, `0^0`), so that the limit of a composition is the composition of the limits;
whatever is not raises Undecided. Conditions are decided only where they hold from some point of the sequence on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.ir.nodes import Apply, Const
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.folds import Undecided
from lossdsl.verify.operations import compare, transfer, truth


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a value goes.

    box     encloses the limit: bounded or unbounded with open ends, or a single infinity
    moves   whether the value may vary along the sequence; if not, the box encloses the value itself
    side    of a limit that is one number: 1 if all values from some point on lie above it, -1 below, 0 unknown
    """

    box: Enclosure
    moves: bool = False
    side: int = 0

    @property
    def infinite(self) -> bool:
        return abs(self.box.lo) == INF and self.box.lo == self.box.hi

    @property
    def loose(self) -> bool:
        """Whether nobody knows if it is an infinity."""
        return not self.infinite and not self.box.finite

    @property
    def point(self) -> bool:
        return self.box.lo == self.box.hi and not self.infinite

    @property
    def exact_zero(self) -> bool:
        """Whether the value is 0 all along."""
        return self.box.zero and not self.moves

    @property
    def sign(self) -> int:
        """The sign of all values from some point on; 0 if it is not known."""
        if self.box.positive:
            return 1
        if self.box.negative:
            return -1
        return self.side if self.point and self.box.lo == 0 else 0


def fixed(value: Fraction | int) -> Limit:
    return Limit(e.exact(value))


def toward(end: float, side: int = 0) -> Limit:
    """A value that goes to a number, from one side, or to an infinity."""
    return Limit(Enclosure(end, end), True, side)


ZERO, ONE = fixed(0), fixed(1)
PLUS, MINUS = toward(INF), toward(-INF)


def _infinity(sign: int, moves: bool = True) -> Limit:
    """What goes to an infinity, or (as a mask) is one all along."""
    if not sign:
        raise Undecided("an infinity of unknown sign")
    return Limit((PLUS if sign > 0 else MINUS).box, moves)


def _finite(box: Enclosure, moves: bool, side: int = 0) -> Limit:
    if not box.finite:
        raise Undecided("a limit that is not known")
    return Limit(box, moves, side if moves and box.lo == box.hi else 0)


def perhaps(box: Enclosure, moves: bool) -> Limit:
    """A limit that may be a number or an infinity, or (of what does not vary) a value that is one of these."""
    if box.nan:
        raise Undecided("a limit that may be undefined")
    return Limit(box, moves)


def negated(a: Limit) -> Limit:
    return Limit(e.neg(a.box), a.moves, -a.side)


def added(a: Limit, b: Limit) -> Limit:
    for x, y in ((a, b), (b, a)):
        if y.loose:
            if (
                not x.infinite
                or x.moves
                or (y.box.may_be_minus_infinite if x.box.lo > 0 else y.box.may_be_plus_infinite)
            ):
                raise Undecided("a sum with what may be an infinity")
            return x  # an infinity all along, to which no opposite one is added
    if a.infinite or b.infinite:
        if a.infinite and b.infinite and a.box.lo != b.box.lo:
            raise Undecided("inf - inf")
        return Limit((a if a.infinite else b).box, all(x.moves for x in (a, b) if x.infinite))
    if a.exact_zero or b.exact_zero:
        return b if a.exact_zero else a
    known = a.point and b.point
    side = a.side if not b.moves else b.side if not a.moves else a.side if a.side == b.side else 0
    return _finite(e.add(a.box, b.box), a.moves or b.moves, side if known else 0)


def multiplied(a: Limit, b: Limit) -> Limit:
    if a.loose or b.loose:
        raise Undecided("a product with what may be an infinity")
    if a.exact_zero or b.exact_zero:
        if any(x.infinite and not x.moves for x in (a, b)):
            raise Undecided("0 * inf")
        return ZERO
    for x, y in ((a, b), (b, a)):
        if y.infinite and y.moves and not x.moves and x.box.finite and not x.box.nonzero:
            if x.box.nonnegative or x.box.nonpositive:  # 0 where the factor is 0
                return perhaps(e.hull(ZERO.box, y.box if x.box.nonnegative else e.neg(y.box)), True)
    if a.infinite or b.infinite:
        return _infinity(_signs(a, b), all(x.moves for x in (a, b) if x.infinite))
    side = 0
    for x, y in ((a, b), (b, a)):
        if (x.point and x.box.lo == 0) or (x.point and y.point and not y.moves):
            side = x.side * y.sign
    return _finite(e.mul(a.box, b.box), a.moves or b.moves, side)


def _signs(a: Limit, b: Limit) -> int:
    signs = []
    for x in (a, b):
        if not x.infinite and x.box.may_be_zero:
            raise Undecided("0 * inf")
        signs.append((1 if x.box.lo > 0 else -1) if x.infinite else x.sign)
    return signs[0] * signs[1]


def squared(a: Limit) -> Limit:
    if a.infinite:
        return _infinity(1, a.moves)
    side = (a.side != 0) * 1 if a.point and a.box.lo == 0 else a.side * a.sign
    return _finite(e.square(a.box), a.moves, side)


def inverted(b: Limit) -> Limit:
    if b.infinite:
        return toward(0.0, 1 if b.box.lo > 0 else -1) if b.moves else ZERO
    if b.point and b.box.lo == 0 and b.moves and b.side:
        return _infinity(b.side)
    if not b.box.nonzero:
        raise Undecided("a division by what may be 0")
    return _finite(e.reciprocal(b.box), b.moves, -b.side if b.point else 0)


def divided(a: Limit, b: Limit) -> Limit:
    if a.infinite and b.infinite:
        raise Undecided("inf / inf")
    if a.exact_zero and (b.infinite or b.sign):
        return ZERO
    if a.infinite or b.infinite or not b.box.nonzero:
        return multiplied(a, inverted(b))
    side = a.side * b.sign if a.point and (a.box.lo == 0 or not b.moves) else 0
    return _finite(e.div(a.box, b.box), a.moves or b.moves, side)


def larger(a: Limit, b: Limit) -> Limit:
    if a.box.lo >= b.box.hi and (a.box.lo > b.box.hi or not (a.moves or b.moves)):
        return a
    if b.box.lo > a.box.hi:
        return b
    for x, y in ((a, b), (b, a)):
        if x.infinite:
            return y if x.box.lo < 0 else x
    lo, hi = max(a.box.lo, b.box.lo), max(a.box.hi, b.box.hi)
    lo_open = any(v.lo_open for v in (a.box, b.box) if v.lo == lo)
    hi_open = all(v.hi_open for v in (a.box, b.box) if v.hi == hi)
    side = 1 if a.point and b.point and a.box.lo == b.box.lo and 1 in (a.side, b.side) else 0
    return _finite(Enclosure(lo, hi, lo_open, hi_open), a.moves or b.moves, side)


def smaller(a: Limit, b: Limit) -> Limit:
    return negated(larger(negated(a), negated(b)))


def exponential(a: Limit) -> Limit:
    return _rising("exp", a)


def logarithm(a: Limit) -> Limit:
    return _rising("log", a)


# Strictly increasing functions: their limits at -inf and inf, as (number, side) or an infinity, None where undefined.
_End = tuple[float, int] | None
_RISING: dict[str, tuple[_End, _End]] = {
    "exp": ((0.0, 1), (INF, 0)),
    "expm1": ((-1.0, 1), (INF, 0)),
    "sigmoid": ((0.0, 1), (1.0, -1)),
    "logsigmoid": ((-INF, 0), (0.0, -1)),
    "softplus": ((0.0, 1), (INF, 0)),
    "tanh": ((-1.0, 1), (1.0, -1)),
    "erf": ((-1.0, 1), (1.0, -1)),
    "normal_cdf": ((0.0, 1), (1.0, -1)),
    "log_normal_cdf": ((-INF, 0), (0.0, -1)),
    "sinh": ((-INF, 0), (INF, 0)),
    "log": (None, (INF, 0)),
    "log2": (None, (INF, 0)),
    "log10": (None, (INF, 0)),
    "log1p": (None, (INF, 0)),
    "sqrt": (None, (INF, 0)),
}
_LEAST = {"log": 0.0, "log2": 0.0, "log10": 0.0, "log1p": -1.0}  # where they go to -inf
_STEADY = frozenset(_RISING) - frozenset(_LEAST) - {"sqrt"}  # they have a value at what may be an infinity
_NODES = {name: Apply(name, (Const(1),)) for name in (*_RISING, "cosh", "logcosh", "erfc", "i0e")}


def _rising(name: str, a: Limit) -> Limit:
    if a.loose:
        if name in _LEAST or name == "sqrt":
            raise Undecided(f"{name} of what may be an infinity")
        return _finite(transfer(_NODES[name], [a.box]), True)
    if a.infinite:
        end = _RISING[name][a.box.lo > 0]
        if end is None:
            raise Undecided(f"{name} of an infinity")
        return Limit(Enclosure(end[0], end[0]), a.moves, end[1] if a.moves else 0)
    if name in _LEAST and a.point and a.box.lo == _LEAST[name]:
        if a.moves and a.side > 0:
            return MINUS
        raise Undecided(f"{name} at the end of its domain")
    if name in _LEAST and not (a.box.lo > _LEAST[name] or (a.box.lo == _LEAST[name] and a.box.lo_open and not a.moves)):
        raise Undecided(f"{name} at the end of its domain")
    if name == "sqrt" and a.box.lo <= 0 and a.moves and not (a.point and a.box.lo == 0 and a.side > 0):
        raise Undecided("sqrt near 0")
    return _finite(transfer(_NODES[name], [a.box]), a.moves, a.side if a.point else 0)


def rectified(a: Limit) -> Limit:
    """max(a, 0)."""
    if a.box.lo >= 0 and not (a.moves and a.point and a.box.lo == 0):
        return a
    if a.box.hi < 0 or (a.point and a.box.lo == 0 and a.side < 0):
        return ZERO  # from some point on
    return larger(a, ZERO)


def _power(node: Apply, a: Limit, b: Limit) -> Limit:
    exponent = node.args[1]
    if isinstance(exponent, Const) and isinstance(exponent.value, Fraction) and exponent.value.denominator == 1:
        k = exponent.value.numerator
        if 0 < k <= 64 or (k == 0 and not a.moves):
            return _natural_power(a, k)
        if -64 <= k < 0:
            return inverted(_natural_power(a, -k))
    if b.moves:
        if a.infinite or b.infinite or not a.box.positive:
            raise Undecided("a power at the end of its domain")
        return _finite(transfer(node, [a.box, b.box]), True)
    if not a.moves:
        return _finite(transfer(node, [a.box, b.box]), False)
    if b.exact_zero:
        return ONE
    if not b.sign:
        base = node.args[0]
        above = a.side > 0 or (isinstance(base, Apply) and base.name in ("relu", "abs"))
        if a.point and a.box.lo == 0 and above and b.box.nonnegative:
            return Limit(Enclosure(0.0, 1.0), True)  # 1 where the exponent is 0
        raise Undecided("a power whose exponent may be 0")
    if a.infinite and a.box.lo > 0:
        return PLUS if b.sign > 0 else toward(0.0, 1)
    if a.point and a.box.lo == 0 and a.side > 0:
        return toward(0.0, 1) if b.sign > 0 else PLUS
    if not a.infinite and a.box.positive:
        return _finite(transfer(node, [a.box, b.box]), True, a.side * b.sign if a.point else 0)
    raise Undecided("a power at the end of its domain")


def _natural_power(a: Limit, k: int) -> Limit:
    if a.infinite:
        return _infinity(1 if k % 2 == 0 or a.box.lo > 0 else -1, a.moves)
    if k == 0:
        return ONE
    side = 0
    if a.point:
        side = a.side if k % 2 else (a.side != 0) * 1 if a.box.lo == 0 else a.side * a.sign
    return _finite(e.integer_power(a.box, k), a.moves, side)


def _log_of_sum(a: Limit, b: Limit) -> Limit:
    return log_sum_exp([a, b])


def log_sum_exp(values: Sequence[Limit]) -> Limit:
    """log(sum(exp(v))); -inf of nothing."""
    if any(v.loose for v in values) and len(values) > 1:
        raise Undecided("a log-sum-exp of what may be an infinity")
    low = [v for v in values if v.infinite and v.box.lo < 0]
    rest = [v for v in values if not (v.infinite and v.box.lo < 0)]
    moves = any(v.moves for v in values)
    if not rest:
        return Limit(MINUS.box, moves)
    if any(v.infinite for v in rest):
        return Limit(PLUS.box, moves)
    above = 1 if any(v.moves for v in low) else 0  # each of them adds something, until the limit
    if len(rest) == 1:
        a = rest[0]
        side = 0 if not a.point else above if not a.moves else a.side if a.side == above or not above else 0
        return Limit(a.box, moves, side if moves else 0)
    total = exponential(rest[0])
    for v in rest[1:]:
        total = added(total, exponential(v))
    return replace(logarithm(replace(total, side=0)), moves=moves, side=0)


def _even(name: str, a: Limit) -> Limit:
    if a.infinite:
        return Limit(PLUS.box, a.moves)
    side = (a.side != 0) * 1 if a.point and a.box.lo == 0 else 0
    return _finite(transfer(_NODES[name], [a.box]), a.moves, side)


def _scaled_bessel(a: Limit) -> Limit:
    """exp(-|x|) I0(x) > 0, which goes to 0 as x goes to an infinity."""
    if a.infinite:
        return toward(0.0, 1) if a.moves else ZERO
    return _finite(transfer(_NODES["i0e"], [a.box]), a.moves)


def absolute(a: Limit) -> Limit:
    if a.infinite:
        return Limit(PLUS.box, a.moves)
    if a.point:
        side = (a.side != 0) * 1 if a.box.lo == 0 else a.side * a.sign
        return _finite(e.absolute(a.box), a.moves, side)
    return _finite(e.absolute(a.box), a.moves)


def _signum(a: Limit) -> Limit:
    if a.infinite or a.sign:
        return fixed(1 if (a.box.lo > 0 if a.infinite else a.sign > 0) else -1)
    raise Undecided("a sign near 0")


def _log_one_minus_exp(a: Limit) -> Limit:
    if a.infinite and a.box.lo < 0:
        return Limit(Enclosure(0.0, 0.0), a.moves, -1 if a.moves else 0)
    if a.point and a.box.lo == 0 and a.moves and a.side < 0:
        return MINUS
    if a.infinite or not (a.box.hi < 0 or (a.box.negative and not a.moves)):
        raise Undecided("log(1 - exp(x)) at the end of its domain")
    return _finite(transfer(Apply("log1mexp", (Const(-1),)), [a.box]), a.moves)


def _times_its_log(node: Apply, args: Sequence[Limit]) -> bool:
    """Whether the product is x * log(x) (either way round) of one x that goes to 0 from above."""
    for x, y in (node.args, node.args[::-1]):
        if isinstance(y, Apply) and y.name == "log" and y.args[0] is x:
            a = args[node.args.index(x)]
            return a.point and a.box.lo == 0 and a.side > 0
    return False


def _x_log_y(node: Apply, x: Limit, y: Limit) -> Limit:
    if x.exact_zero:
        return ZERO
    if node.args[0] is node.args[1] and x.point and x.box.lo == 0 and x.side > 0:
        return toward(0.0, -1)
    return multiplied(x, logarithm(y))


_ONE_ARGUMENT: dict[str, Callable[[Limit], Limit]] = {
    "neg": negated,
    "real": lambda a: a,
    "relu": rectified,
    "abs": absolute,
    "sign": _signum,
    "log1mexp": _log_one_minus_exp,
    "i0e": _scaled_bessel,
    "cosh": lambda a: _even("cosh", a),
    "logcosh": lambda a: _even("logcosh", a),
    "erfc": lambda a: added(ONE, negated(_rising("erf", a))),
}
_TWO_ARGUMENTS: dict[str, Callable[[Limit, Limit], Limit]] = {
    "add": added,
    "sub": lambda a, b: added(a, negated(b)),
    "mul": multiplied,
    "div": divided,
    "max2": larger,
    "min2": smaller,
    "logaddexp": _log_of_sum,
    "expdiff": lambda a, b: exponential(added(a, negated(b))),
}
_CONTINUOUS = frozenset({"sin", "cos", "atan"})  # everywhere; without a limit of their own at infinity here


def apply(node: Apply, args: Sequence[Limit]) -> Limit:
    """The limit of a primitive's values. Raises Undecided."""
    name = node.name
    if any(a.loose for a in args) and name not in ("add", "sub", "neg", "expdiff", *_STEADY):
        raise Undecided(f"{name} of what may be an infinity")
    if not any(a.moves or a.infinite or a.loose for a in args):
        box = transfer(node, [a.box for a in args])
        return _finite(box, False)
    if (
        len(args) == 2
        and node.args[0] is node.args[1]
        and not args[0].loose
        and (args[0].moves or not args[0].infinite)
    ):
        a = args[0]
        if name == "sub":
            return ZERO  # finite at every point of the sequence
        if name == "div" and (a.infinite or a.sign):
            return ONE
        if name == "mul":
            return squared(a)
    if name == "mul" and _times_its_log(node, args):
        return toward(0.0, -1)
    if name in _RISING:
        return _rising(name, args[0])
    if name in _ONE_ARGUMENT:
        return _ONE_ARGUMENT[name](args[0])
    if name in _TWO_ARGUMENTS:
        return _TWO_ARGUMENTS[name](args[0], args[1])
    if name in ("pow", "powi"):
        return _power(node, args[0], args[1])
    if name == "xlogy":
        return _x_log_y(node, args[0], args[1])
    if name == "clamp":
        return smaller(larger(args[0], args[1]), args[2])
    if name in _CONTINUOUS and not args[0].infinite:
        return _finite(transfer(node, [args[0].box]), True)
    raise Undecided(f"the limit of {name}")


def _below(a: Limit, b: Limit) -> bool:
    """Whether a lies below b from some point on: their limits do, one of which may be a value that does not vary."""
    if a.box.hi == b.box.lo:
        return (a.box.hi_open and not a.moves and b.point) or (b.box.lo_open and not b.moves and a.point)
    return a.box.hi < b.box.lo


def holds(op: str, a: Limit, b: Limit) -> bool | None:
    """Whether `a op b` from some point of the sequence on; None if that depends on what does not vary.

    Raises Undecided where it depends on what varies."""
    if op in (">", ">="):
        return holds({">": "<", ">=": "<="}[op], b, a)
    if not (a.moves or b.moves):
        return truth(compare(op, a.box, b.box))
    if a.infinite and b.infinite and a.box.lo == b.box.lo:
        raise Undecided("a comparison of infinities")
    if _below(a, b) or (a.infinite and a.box.lo < 0) or (b.infinite and b.box.lo > 0):
        return op != "=="
    if _below(b, a) or a.infinite or b.infinite:
        return op == "!="
    if a.point and b.point and a.box.lo == b.box.lo and a.moves != b.moves:
        below = a.side < 0 if a.moves else b.side > 0
        above = a.side > 0 if a.moves else b.side < 0
        if below or above:
            return below if op in ("<", "<=") else op == "!="
    raise Undecided("a comparison at the edge")


__all__ = [
    "MINUS",
    "ONE",
    "PLUS",
    "ZERO",
    "Limit",
    "absolute",
    "added",
    "apply",
    "exponential",
    "fixed",
    "holds",
    "larger",
    "log_sum_exp",
    "logarithm",
    "multiplied",
    "negated",
    "perhaps",
    "smaller",
    "toward",
]
