"""Functions of germs: by a Taylor polynomial with its remainder where the argument goes to a number, by what is known of
the function far out where it does not.

log Gamma(x) is (x - 1/2) log x - x + log(2 pi) / 2 and at most 1 / (12 x) more, log x - digamma(x) between 1 / (2 x) and 1 / x,
for x > 0 (Alzer, "On some inequalities for the gamma and psi functions", 1997).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from flint import arb

from lossdsl.certificate.germs import LINEAR, LOG, ONE, Germ, Power, boxed, told
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.series import Series, applied, box_of, ordered
from lossdsl.certificate.series import of_operation as series_of
from lossdsl.ir.nodes import Apply, Const, Param
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import transfer

_ORDER = 3  # of the remainder
_UNIT, _NONE = Enclosure(1.0, 1.0), Enclosure(0.0, 0.0)
_STEEPEST = 64.0  # rate of an exponential that bounds a faster one
_POWERS = 16  # by multiplication

Function = Callable[[Germ], Germ]


def of_operation(node: Apply, args: Sequence[Any]) -> Germ:
    """A primitive of germs and numbers, one of them a germ. Raises Undecided, Stuck."""
    some = next(a for a in args if isinstance(a, Germ))
    full = [some.like(a) for a in args]
    x = full[0]
    found = ordered(node.name, full, larger)
    if isinstance(found, Germ):
        return found
    match node.name:
        case "mul":
            return x * full[1]
        case "div":
            return x * power(full[1], Fraction(-1))
        case "pow" | "powi":
            return power(x, args[1]) if isinstance(args[1], Fraction) else _exp(full[1] * _log(x))
        case "expdiff":
            return _exp(x - full[1])
        case "xlogy":
            return x if x.is_zero() else x * _log(full[1])
        case "logaddexp":
            return x + _softplus(full[1] - x)
    if len(args) != 1:
        raise Stuck(f"no expansion of {node.name}")
    return function(node.name, x)


def function(name: str, x: Germ) -> Germ:
    """A function of one argument."""
    rule = _RULES.get(name)
    if rule is not None:
        return rule(x)
    return _near_a_number(name, x)


def larger(x: Germ, y: Germ) -> Germ:
    """The larger of two. Raises Undecided where it is not one of them for all t."""
    gap = x - y
    if gap > 0 or gap.is_zero():
        return x
    if gap < 0:
        return y
    raise Undecided


def _of_box(name: str, box: Enclosure) -> Enclosure:
    found = transfer(Apply(name, (Param("x"),)), [box])
    if not found.finite:
        raise Undecided
    return found


def _bounded(x: Germ, box: Enclosure) -> Germ:
    return Germ(x.start, (), None if box.zero else (ONE, box))


def _near_a_number(name: str, x: Germ) -> Germ:
    """By the Taylor polynomial about the number that the argument goes to; by its enclosure if it goes to none."""
    try:
        unbounded, at, small = x.parts()
        if not unbounded and (small.largest is None or small.largest < ONE):
            return _expanded(lambda s: applied(name, s), at, small)
    except (Undecided, Stuck):
        pass
    return _bounded(x, _of_box(name, x.box()))


def _expanded(of: Callable[[Series], Series], at: Any, small: Germ) -> Germ:
    """of(at + small), where `small` goes to 0: Taylor's theorem with Lagrange's remainder. Raises Undecided."""
    centre = boxed(at)
    terms = of(Series((centre, _UNIT, _NONE)[:_ORDER], False)).terms
    found, below = small.like(0), small.like(1)
    for term in terms:
        found = found + below * told(term)
        below = below * small
    if small.is_zero():
        return found
    whole = e.hull(centre, e.add(centre, small.box()))
    last = of(Series((whole, _UNIT, _NONE, _NONE)[: _ORDER + 1], False)).terms[_ORDER]
    if not last.finite:
        raise Undecided
    return found + below * _bounded(small, last)


# --------------------------------------------------------------------------------------- powers and logarithms


def power(x: Germ, k: Fraction) -> Germ:
    """x^k; of what may be negative if k is whole. Raises Undecided."""
    if k.denominator == 1 and 0 <= k <= _POWERS:
        result = x.like(1)
        for _ in range(int(k)):
            result = result * x
        return result
    if not (x > 0 or (k.denominator == 1 and x < 0)):
        raise Undecided
    try:
        m, c, small = x.split()
    except Undecided:
        m, box = x.dominant()
        return _monomial(x, m.to(k)) * _bounded(x, _raised(box, k))
    factor = c**k if isinstance(c, Fraction) and k.denominator == 1 else told(_raised(boxed(c), k))
    return _monomial(x, m.to(k)) * factor * _expanded(lambda s: series_of(_power_node(k), [s, k]), Fraction(1), small)


def _power_node(k: Fraction) -> Apply:
    return Apply("pow", (Param("x"), Const(k)))


def _raised(box: Enclosure, k: Fraction) -> Enclosure:
    found = transfer(_power_node(k), [box, e.exact(k)])
    if not found.finite:
        raise Undecided
    return found


def _monomial(x: Germ, p: Power) -> Germ:
    return Germ(x.start, ((p, Fraction(1)),))


def _root(x: Germ) -> Germ:
    return x if x.is_zero() else power(x, Fraction(1, 2))


def _log(x: Germ) -> Germ:
    if not x > 0:
        raise Undecided
    try:
        m, c, small = x.split()
        factor = x.like(told(_of_box("log", boxed(c)))) + _expanded(lambda s: applied("log1p", s), Fraction(0), small)
    except Undecided:
        m, box = x.dominant()
        factor = _bounded(x, _of_box("log", box))
    if m.logs:
        raise Undecided  # log log t is no power
    return factor + _monomial(x, LOG) * m.degree + _monomial(x, LINEAR) * m.rate


def _exp(x: Germ) -> Germ:
    try:
        unbounded, at, small = x.parts()
    except Undecided:
        return _steep(x)
    known = {LINEAR: Fraction(0), LOG: Fraction(0)}
    for p, c in unbounded:
        if p not in known or not isinstance(c, Fraction):
            return _steep(x)
        known[p] = c
    whole = _monomial(x, Power(known[LINEAR], known[LOG]))
    if small.largest == ONE:
        return whole * _bounded(x, _of_box("exp", (small + at).box()))
    return whole * told(_of_box("exp", boxed(at))) * _expanded(lambda s: applied("exp", s), Fraction(0), small)


def _steep(x: Germ) -> Germ:
    """exp of what is beyond a multiple of t: at least, or at most, an exponential."""
    m, box = x.dominant()
    if m >= LINEAR:
        slope = x.against(LINEAR)
        if slope.lo > 0:
            rate = _below(min(slope.lo, _STEEPEST))
            return _monomial(x, Power(rate)) * _bounded(x, Enclosure(1.0, INF, False, True))
        if slope.hi < 0:
            rate = -_below(-max(slope.hi, -_STEEPEST))
            return _monomial(x, Power(rate)) * _bounded(x, Enclosure(0.0, 1.0, True, False))
    if not box.negative:
        raise Undecided
    return _bounded(x, Enclosure(0.0, 1.0, True, True))


def _below(x: float) -> Fraction:
    """A number that is not above one, with few digits if it can have them."""
    return Fraction(math.floor(4 * x), 4) or Fraction(x)


def _log1p(x: Germ) -> Germ:
    return _log(x + 1)


# ----------------------------------------------------------------------------------- functions with asymptotes


def _far(x: Germ) -> int:
    """1 if it goes to infinity, -1 if to minus infinity, else 0."""
    try:
        m, box = x.dominant()
    except Undecided:
        return 0
    away = 1 if box.lo > 0 else -1 if box.hi < 0 else 0
    return away if m > ONE else 0


def _softplus(x: Germ) -> Germ:
    side = _far(x)
    if side == 0:
        return _near_a_number("softplus", x)
    return x + _softplus_below(-x) if side > 0 else _softplus_below(x)


def _softplus_below(x: Germ) -> Germ:
    return _log1p(_exp(x))


def _sigmoid(x: Germ) -> Germ:
    side = _far(x)
    if side == 0:
        return _near_a_number("sigmoid", x)
    share = power(_exp(-x if side > 0 else x) + 1, Fraction(-1))
    return share if side > 0 else _exp(x) * share


def _tanh(x: Germ) -> Germ:
    side = _far(x)
    if side == 0:
        return _near_a_number("tanh", x)
    return x.like(side) - _sigmoid(x * (-2 * side)) * (2 * side)


def _logcosh(x: Germ) -> Germ:
    side = _far(x)
    if side == 0:
        return _near_a_number("logcosh", x)
    return x * side - x.like(arb(2).log()) + _softplus_below(x * (-2 * side))


def _atan(x: Germ) -> Germ:
    side = _far(x)
    if side == 0:
        return _near_a_number("atan", x)
    return x.like(arb.pi() / 2) * side - _near_a_number("atan", power(x, Fraction(-1)))


def _lgamma(x: Germ) -> Germ:
    if _far(x) > 0:
        rest = _bounded(x, Enclosure(0.0, math.nextafter(1 / 12, INF))) * power(x, Fraction(-1))
        return (x - Fraction(1, 2)) * _log(x) - x + x.like((2 * arb.pi()).log() / 2) + rest
    if _far(x) == 0 and x > 0 and x.largest is not None and x.largest < ONE:
        return _near_a_number("lgamma", x + 1) - _log(x)
    return _near_a_number("lgamma", x)


def _digamma(x: Germ) -> Germ:
    if _far(x) > 0:
        return _log(x) - _bounded(x, Enclosure(0.5, 1.0)) * power(x, Fraction(-1))
    if _far(x) == 0 and x > 0 and x.largest is not None and x.largest < ONE:
        return _near_a_number("digamma", x + 1) - power(x, Fraction(-1))
    return _near_a_number("digamma", x)


def _scaled_log(base: int) -> Function:
    return lambda x: _log(x) * box_of(1 / arb(base).log())


_RULES: dict[str, Function] = {
    "exp": _exp,
    "expm1": lambda x: _exp(x) - 1,
    "log": _log,
    "log1p": _log1p,
    "log2": _scaled_log(2),
    "log10": _scaled_log(10),
    "log1mexp": lambda x: _log(1 - _exp(x)),
    "sqrt": _root,
    "softplus": _softplus,
    "logsigmoid": lambda x: -_softplus(-x),
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "logcosh": _logcosh,
    "sinh": lambda x: (_exp(x) - _exp(-x)) * Fraction(1, 2),
    "cosh": lambda x: (_exp(x) + _exp(-x)) * Fraction(1, 2),
    "atan": _atan,
    "lgamma": _lgamma,
    "digamma": _digamma,
}

__all__ = ["function", "larger", "of_operation", "power"]
