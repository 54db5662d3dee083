"""Enclosures of operations over enclosures of their arguments: comparisons, primitives, folds, and where they are
smooth."""

from __future__ import annotations

import math
from collections.abc import Callable

from lossdsl.ir.nodes import Apply, Compare, Const, Scalar
from lossdsl.primitives import HEADS, PRIMITIVES
from lossdsl.primitives.interval import Interval
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import ANYTHING, INF, TINY, UNIT, Enclosure

_STRICTLY_INCREASING = frozenset(
    {"exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sigmoid", "logsigmoid", "softplus", "tanh", "sinh"}
    | {"atan", "asin", "erf", "normal_cdf", "log_normal_cdf", "real", "int"}
)
_POSITIVE = frozenset({"exp", "sigmoid", "softplus", "erfc", "normal_cdf", "cosh", "expdiff", "i0e", "logaddexp0"})
_NEGATIVE = frozenset({"logsigmoid", "log_normal_cdf", "log1mexp"})
_BELOW_ONE = frozenset({"sigmoid", "tanh", "normal_cdf", "erf"})
_ABOVE_MINUS_ONE = frozenset({"tanh", "erf", "expm1"})

EITHER = UNIT
YES = Enclosure(1.0, 1.0)
NO = Enclosure(0.0, 0.0)


def truth(a: Enclosure) -> bool | None:
    """Whether a condition certainly holds, certainly fails, or neither."""
    if a.nan:
        return None
    return True if a.lo > 0 else False if a.hi <= 0 else None


def compare(op: str, a: Enclosure, b: Enclosure) -> Enclosure:
    if a.nan or b.nan:
        return EITHER
    if op in (">", ">="):
        return compare({">": "<", ">=": "<="}[op], b, a)
    touch_open = a.hi_open or b.lo_open
    above_open = a.lo_open or b.hi_open
    if op == "<":
        if a.hi < b.lo or (a.hi == b.lo and touch_open):
            return YES
        return NO if a.lo >= b.hi else EITHER
    if op == "<=":
        if a.hi <= b.lo:
            return YES
        return NO if a.lo > b.hi or (a.lo == b.hi and above_open) else EITHER
    apart = e.meet(a, b) is None
    same = a.lo == a.hi == b.lo == b.hi
    if op == "==":
        return YES if same else NO if apart else EITHER
    return NO if same else YES if apart else EITHER


def transfer(node: Apply, args: list[Enclosure]) -> Enclosure:
    """The enclosure of a primitive over enclosures of its arguments."""
    name = node.name
    match name:
        case "add":
            return e.add(*args)
        case "sub":
            if node.args[0] is node.args[1] and args[0].finite:
                return NO
            return e.sub(*args)
        case "neg":
            return e.neg(args[0])
        case "mul":
            return e.square(args[0]) if node.args[0] is node.args[1] else e.mul(*args)
        case "div":
            if node.args[0] is node.args[1] and args[0].finite and args[0].nonzero:
                return YES
            return e.div(*args)
        case "real" | "int":
            return args[0]
        case "max2" | "min2":
            return _extreme(name, *args)
        case "logaddexp" if not (args[0].finite and args[1].finite):
            return _log_add(*args)
        case "abs":
            return e.absolute(args[0])
        case "pow" | "powi":
            return _power(node, *args)
        case "xlogy" if node.args[0] is node.args[1] and args[0].nonnegative and args[0].finite:
            return _entropy_term(args[0])
    return _record(name, args)


def _extreme(name: str, a: Enclosure, b: Enclosure) -> Enclosure:
    if name == "min2":
        return e.neg(_extreme("max2", e.neg(a), e.neg(b)))
    lo, hi = max(a.lo, b.lo), max(a.hi, b.hi)
    lo_open = any(v.lo_open for v in (a, b) if v.lo == lo)
    hi_open = all(v.hi_open for v in (a, b) if v.hi == hi)
    return Enclosure(lo, hi, lo_open, hi_open, a.nan or b.nan)


def _log_add(a: Enclosure, b: Enclosure) -> Enclosure:
    """log(exp a + exp b) where a part may be infinite (a log-sum-exp over nothing): from the larger to log 2 above it,
    -inf only where both are; the other where one is certainly -inf."""
    for one, other in ((a, b), (b, a)):
        if one.hi == -INF:
            return Enclosure(other.lo, other.hi, other.lo_open, other.hi_open, a.nan or b.nan)
    lo, hi, nan = max(a.lo, b.lo), max(a.hi, b.hi), a.nan or b.nan
    lo_open = lo == -INF and (a.lo_open or b.lo_open)
    hi_open = hi == INF and not (a.may_be_plus_infinite or b.may_be_plus_infinite)
    return Enclosure(lo, e.up(hi + _ABOVE_LOG_2), lo_open, hi_open, nan)


_ABOVE_LOG_2 = 0.6931471805599454  # log 2 = 0.693147180559945309...


def _entropy_term(a: Enclosure) -> Enclosure:
    """`a log a` of one value a >= 0: convex, so that its maximum is at an end; least, -1/e, at 1/e; 0 at 0."""
    top = max(_entropy_at(a.lo).hi, _entropy_at(a.hi).hi)
    nearest = a.lo if a.lo >= 0.37 or a.lo == a.hi else a.hi if a.hi <= 0.36 else None
    low = _LEAST_ENTROPY_TERM if nearest is None else _entropy_at(nearest).lo
    return Enclosure(low, top, False, top == INF)


def _entropy_at(x: float) -> Enclosure:
    if x in (0, INF):
        return Enclosure(x, x)
    here = Enclosure(x, x)
    return e.mul(here, _record("log", [here]))


_LEAST_ENTROPY_TERM = -0.36787944117144239  # below -1/e = -0.367879441171442321...


def _power(node: Apply, a: Enclosure, b: Enclosure) -> Enclosure:
    exponent = node.args[1]
    if isinstance(exponent, Const) and not isinstance(exponent.value, str) and exponent.value.denominator == 1:
        k = exponent.value.numerator
        if abs(k) <= 64:
            return e.integer_power(a, k)
    if not a.nonnegative or b.nan or not (a.finite and b.finite):
        return ANYTHING
    if not a.positive and not b.nonnegative:
        return ANYTHING
    box = PRIMITIVES["pow"].enclose(_interval(a), _interval(b))
    lo, hi = max(0.0, box.lo), box.hi
    if b.nonnegative and a.hi <= 1:
        hi = min(hi, 1.0)
    if b.nonnegative and a.lo >= 1:
        lo = max(lo, 1.0)
    return Enclosure(lo, hi, lo == 0 and a.positive, hi == INF)


def _interval(a: Enclosure) -> Interval:
    lo = TINY if a.lo == 0 and a.lo_open and a.hi > 0 else a.lo
    hi = -TINY if a.hi == 0 and a.hi_open and a.lo < 0 else a.hi
    return Interval(lo, hi)


def _record(name: str, args: list[Enclosure]) -> Enclosure:
    record = PRIMITIVES.get(name)
    if record is None or any(a.nan for a in args):
        return ANYTHING
    inner = inside(name, args)
    finite = all(a.finite for a in args)
    if not inner:
        if name in ("log", "sqrt", "log1p", "log2", "log10") and args[0].lo == (-1.0 if name == "log1p" else 0.0):
            box = record.enclose(Interval(args[0].lo, args[0].hi))  # closed at the end of its domain: log 0 = -inf
            return Enclosure(box.lo, box.hi, False, box.hi == INF and finite)
        return ANYTHING
    box = record.enclose(*(Interval(a.lo, a.hi) for a in args))
    if box.is_empty:
        return ANYTHING
    lo_open, hi_open = finite and box.lo == -INF, finite and box.hi == INF
    lo, hi = box.lo, box.hi
    if name in _STRICTLY_INCREASING:
        lo_open, hi_open = lo_open or args[0].lo_open, hi_open or args[0].hi_open
    if finite and name in _POSITIVE and lo <= 0:
        lo, lo_open = 0.0, True
    if finite and name in _NEGATIVE and hi >= 0:
        hi, hi_open = 0.0, True
    if finite and name in _BELOW_ONE and hi >= 1:
        hi, hi_open = 1.0, True
    if finite and name in _ABOVE_MINUS_ONE and lo <= -1:
        lo, lo_open = -1.0, True
    return Enclosure(lo, hi, lo_open, hi_open)


def inside(name: str, args: list[Enclosure], check: Callable[..., bool] | None = None) -> bool:
    """Whether the primitive is defined on the whole box: ends that are open and 0 are approached, not attained."""
    record = PRIMITIVES[name]
    if not all(a.finite for a in args):
        # limits at infinity are part of the language for these; of others nothing is assumed
        if name not in _LIMITS:
            return False
    return bool((check or record.defined)(*(clipped(name, a) for a in args)))


_LIMITS = frozenset({"exp", "sigmoid", "logsigmoid", "softplus", "tanh", "relu", "abs", "atan", "erf", "expm1"})


def clipped(name: str, a: Enclosure) -> Interval:
    box = _interval(a)
    lo, hi = box.lo, box.hi
    if a.finite or name in _LIMITS:
        lo, hi = max(lo, -1.7e308), min(hi, 1.7e308)
    if a.lo_open and name in ("log1p", "atanh") and a.lo == -1:
        lo = e.up(-1.0)
    if a.hi_open and name in ("asin", "acos", "erfinv", "atanh") and a.hi == 1:
        hi = e.down(1.0)
    if lo > hi:
        lo, hi = box.lo, box.hi
    return Interval(lo, hi)


_SMOOTH = frozenset(
    {"exp", "expm1", "sigmoid", "logsigmoid", "softplus", "tanh", "sin", "cos", "sinh", "cosh", "atan", "erf", "erfc"}
    | {"logcosh", "logaddexp", "expdiff", "normal_cdf", "log_normal_cdf", "add", "sub", "mul", "neg", "real"}
)
_SMOOTH_POSITIVE = frozenset({"sqrt", "log", "log2", "log10", "lgamma", "digamma"})


def smooth_at(node: Apply, boxes: list[Enclosure]) -> bool:
    """Whether the primitive has derivatives of every order at every point of the box (in real arithmetic)."""
    if not all(b.finite for b in boxes):
        return False
    name = node.name
    if name in _SMOOTH or not boxes:
        return True
    if name in _SMOOTH_POSITIVE:
        return boxes[0].positive
    if name == "div":
        return boxes[1].nonzero
    if name == "log1p":
        return boxes[0].lo > -1 or (boxes[0].lo == -1 and boxes[0].lo_open)
    if name == "log1mexp":
        return boxes[0].negative
    if name == "xlogy":
        return boxes[1].positive
    if name in ("pow", "powi"):
        k = node.args[1]
        if isinstance(k, Const) and not isinstance(k.value, str) and k.value.denominator == 1:
            return k.value >= 0 or boxes[0].nonzero
        return boxes[0].positive
    return False


def may_jump(node: Scalar) -> bool:
    """Whether the value of a node (or what is selected by it) may jump where its arguments do not."""
    return isinstance(node, Compare) or (
        isinstance(node, Apply) and node.name in ("floor", "ceil", "sign", "floordiv", "mod")
    )


def one_branch(name: str, boxes: list[Enclosure]) -> bool:
    """Whether a primitive with a kink is one and the same affine function of its arguments all over the boxes, their ends
    included: what it composes is then as smooth as they are."""
    if any(b.nan for b in boxes):
        return False
    match name:
        case "abs" | "relu":
            return boxes[0].lo >= 0 or boxes[0].hi <= 0
        case "max2" | "min2":
            return boxes[0].lo >= boxes[1].hi or boxes[1].lo >= boxes[0].hi
        case "clamp":
            return boxes[1].hi <= boxes[0].lo and boxes[0].hi <= boxes[2].lo
    return False


def empty_fold(head: str) -> Enclosure:
    empty = HEADS[head].empty
    if empty is None:
        return ANYTHING
    return Enclosure(empty, empty) if isinstance(empty, float) else e.exact(empty)


def total(body: Enclosure, some: bool, most: float) -> Enclosure:
    """A sum of at least one (`some`) and at most `most` values of the body."""
    if body.nan or (body.may_be_plus_infinite and body.may_be_minus_infinite):
        return ANYTHING
    least = 1.0 if some else 0.0
    lo = e.mul_down(most if body.lo < 0 else least, body.lo)
    hi = e.mul_up(most if body.hi > 0 else least, body.hi)
    if most == INF:
        lo = -INF if body.lo < 0 else lo
        hi = INF if body.hi > 0 else hi
    lo_open = (some and body.lo == 0 and body.lo_open) or (lo == -INF and not body.may_be_minus_infinite)
    hi_open = (some and body.hi == 0 and body.hi_open) or (hi == INF and not body.may_be_plus_infinite)
    return Enclosure(min(lo, 1.7e308), max(hi, -1.7e308), lo_open, hi_open)


def logsumexp(body: Enclosure, some: bool, most: float) -> Enclosure:
    if body.nan:
        return ANYTHING
    hi = body.hi if most == 1 else INF if most == INF else e.add_up(body.hi, e.up(math.log(max(most, 1.0))))
    lo = body.lo if some else -INF
    return Enclosure(lo, hi, some and body.lo_open, hi == INF and not body.may_be_plus_infinite)


# ------------------------------------------------------------------------------------------------- domains
