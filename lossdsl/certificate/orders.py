"""How fast a scalar and its derivative grow or fall as the variable of a curve goes to infinity, for each value of all else.

A size says that eventually `c low(t) <= |g(t)| <= C high(t)`, with positive c and C that may depend on all that is fixed, and
which sign g has. Orders of growth add and multiply (Hardy, *Orders of Infinity*, 1910); derivatives follow by the chain rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from lossdsl.certificate.bounds import Case
from lossdsl.certificate.germs import LINEAR, LOG, ONE, Power
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import INT, And, Apply, Compare, Const, Not, Or, Scalar, Select
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import Enclosure

if TYPE_CHECKING:
    from lossdsl.certificate.coverings import Curve

_GONE = Power(degree=Fraction(-100))  # an exponential that falls is below it, whatever its rate is


@dataclass(frozen=True)
class Size:
    """`low` is None where no bound from below is known, `high` of 0 alone; sign 1: not negative, -1: not positive, 0: unknown."""

    low: Power | None
    high: Power | None
    sign: int = 0

    @property
    def grows(self) -> bool:
        """Whether it goes to infinity at least like a power."""
        return self.low is not None and self.low.logs == 0 and self.low > ONE


ZERO, UNIT = Size(None, None), Size(ONE, ONE, 1)
BOUNDED = Size(None, ONE)


def _plus(a: Size, b: Size) -> Size:
    if a.high is None or b.high is None:
        return b if a.high is None else a
    high = max(a.high, b.high)
    if a.sign and a.sign == b.sign:
        return Size(max((low for low in (a.low, b.low) if low is not None), default=None), high, a.sign)
    for x, y in ((a, b), (b, a)):
        if x.low is not None and y.high is not None and x.low > y.high:
            return Size(x.low, high, x.sign)
    return Size(None, high)


def _minus(a: Size) -> Size:
    return Size(a.low, a.high, -a.sign)


def _times(a: Size, b: Size) -> Size:
    if a.high is None or b.high is None:
        return ZERO
    low = None if a.low is None or b.low is None else a.low.times(b.low)
    return Size(low, a.high.times(b.high), a.sign * b.sign)


def _raised(a: Size, k: Fraction) -> Size:
    if k == 0:
        return UNIT
    whole = k.denominator == 1
    if not whole and a.sign != 1:
        raise Stuck("a root of what may be negative")
    if k < 0 and a.low is None:
        raise Stuck("a divisor that may go to 0")
    sign = a.sign if whole and k % 2 else 1
    low, high = (None if p is None else p.to(k) for p in ((a.low, a.high) if k > 0 else (a.high, a.low)))
    return Size(low, high, sign)


def _either(a: Size, b: Size) -> Size:
    """What holds for one of two."""
    if a.high is None or b.high is None:
        other = b if a.high is None else a
        return Size(None, other.high, other.sign)
    low = None if a.low is None or b.low is None else min(a.low, b.low)
    return Size(low, max(a.high, b.high), a.sign if a.sign == b.sign else 0)


# ---------------------------------------------------------------------------------------------------- functions


def _exp(a: Size) -> Size:
    if a.high is None or a.high <= ONE:
        return UNIT
    if a.sign != -1:
        raise Stuck("an exponential without bound")
    return Size(None, _GONE if a.grows else ONE, 1)


def _log(a: Size) -> Size:
    if a.sign != 1 or a.low is None or a.high is None:
        raise Stuck("a logarithm of what may go to 0")
    rates = max(abs(a.low.rate), abs(a.high.rate))
    bounded = a.low == ONE == a.high
    high = LINEAR if rates else ONE if bounded else LOG
    return Size(LOG, max(high, LOG), 1) if a.grows else Size(None, high)


def _bell(a: Size) -> Size:
    """What falls like an exponential on both sides."""
    return Size(None, _GONE if a.grows else ONE, 1)


def _step(a: Size) -> Size:
    """What falls like an exponential on the left, and is bounded."""
    return Size(None, _GONE if a.sign == -1 and a.grows else ONE, 1)


def _softplus(a: Size) -> Size:
    if a.sign == -1:
        return _step(a)
    high = ONE if a.high is None else max(a.high, ONE)
    return Size(None if a.sign != 1 else max(a.low or ONE, ONE), high, 1)


def _odd(a: Size) -> Size:
    return ZERO if a.high is None else Size(None, min(ONE, a.high), a.sign)


Rule = Callable[[Size], Size]
_FUNCTIONS: dict[str, tuple[Rule, Rule]] = {  # and the sizes of their derivatives
    "exp": (_exp, _exp),
    "expm1": (lambda a: _plus(_exp(a), _minus(UNIT)), _exp),
    **dict.fromkeys(("log", "log2", "log10"), (_log, lambda a: _raised(a, Fraction(-1)))),
    "log1p": (lambda a: _log(_plus(a, UNIT)), lambda a: _raised(_plus(a, UNIT), Fraction(-1))),
    "sqrt": (lambda a: _raised(a, Fraction(1, 2)), lambda a: _raised(a, Fraction(-1, 2))),
    **dict.fromkeys(("sigmoid", "normal_cdf"), (_step, _bell)),
    **dict.fromkeys(("tanh", "erf"), (_odd, _bell)),
    "softplus": (_softplus, _step),
    "logsigmoid": (lambda a: _minus(_softplus(_minus(a))), lambda a: _step(_minus(a))),
    "logcosh": (lambda a: Size(None, a.high, 1), lambda a: BOUNDED),
    "atan": (_odd, lambda a: _raised(_plus(UNIT, _raised(a, Fraction(2))), Fraction(-1))),
    **dict.fromkeys(("sin", "cos"), (lambda a: BOUNDED, lambda a: BOUNDED)),
}

Dual = tuple[Size, Size]  # of a scalar, and of its derivative


class Orders:
    """Sizes of scalars of a curve where its variable goes to infinity (`side` 1) or minus infinity (-1). Raises Stuck."""

    def __init__(self, curve: Curve, case: Case, side: int) -> None:
        self._curve, self._case = curve, case
        self._known: dict[Scalar, Dual] = {curve.variable: (Size(LINEAR, LINEAR, side), Size(ONE, ONE, 1))}

    def of(self, node: Scalar) -> Dual:
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = self._number(node)
        return found

    def _number(self, n: Scalar) -> Dual:
        if not self._curve.rules.moves(n):
            return _level(self._case[n]), ZERO
        if isinstance(n, Select):
            return self._selected(n)
        if not isinstance(n, Apply) or n.dtype is INT:
            raise Stuck(f"{type(n).__name__} has no order")
        a, da = self.of(n.args[0])
        match n.name:
            case "real":
                return a, da
            case "neg":
                return _minus(a), _minus(da)
            case "abs" | "relu":
                return self._one_sided(n.name, a, da)
            case "pow" | "powi":
                return self._power(n, a, da)
        if len(n.args) == 1:
            if n.name not in _FUNCTIONS:
                raise Stuck(f"no order of {n.name}")
            value, slope = _FUNCTIONS[n.name]
            return value(a), ZERO if da.high is None else _times(slope(a), da)
        if n.name == "clamp":
            inner = Apply("max2", n.args[:2])
            return self.of(Apply("min2", (inner, n.args[2])))
        b, db = self.of(n.args[1])
        match n.name:
            case "add":
                return _plus(a, b), _plus(da, db)
            case "sub":
                return _plus(a, _minus(b)), _plus(da, _minus(db))
            case "mul" if n.args[0] is n.args[1]:
                return _raised(a, Fraction(2)), _times(a, da)
            case "mul":
                return _times(a, b), _plus(_times(a, db), _times(da, b))
            case "div":
                over = _raised(b, Fraction(-1))
                return _times(a, over), _plus(_times(da, over), _times(_times(a, _minus(db)), _times(over, over)))
            case "logaddexp":  # within log 2 of the larger one; its slope is a mean of theirs
                return _plus(Size(None, _either(a, b).high), BOUNDED), Size(None, _either(da, db).high)
            case "max2" | "min2":
                sign = self._gap(n.args[0], n.args[1])[0]
                if not sign:
                    raise Stuck(f"which side of a {n.name} counts")
                return (a, da) if (sign > 0) == (n.name == "max2") else (b, db)
        raise Stuck(f"no order of {n.name}")

    def _one_sided(self, name: str, a: Size, da: Size) -> Dual:
        if a.high is None:
            raise Stuck(f"{name} of 0")
        if a.sign == 1:
            return a, da
        if a.sign == -1:
            return (_minus(a), _minus(da)) if name == "abs" else (ZERO, ZERO)
        raise Stuck(f"which side of a {name} counts")

    def _power(self, n: Apply, a: Size, da: Size) -> Dual:
        exponent = n.args[1]
        if not isinstance(exponent, Const) or not isinstance(exponent.value, Fraction) or exponent.value == 0:
            raise Stuck("an exponent that is no number")
        k = exponent.value
        return _raised(a, k), ZERO if da.high is None else _times(_raised(a, k - 1), da)

    def _selected(self, n: Select) -> Dual:
        if self._curve.rules.moves(n.condition):
            return self.of(n.a if self._holds(n.condition) else n.b)
        found: list[Dual] = []
        for branch, value in ((n.a, True), (n.b, False)):
            inner = self._case.given(n.condition, value)
            if inner is not None:
                part = Orders(self._curve, inner, 1)
                part._known = {self._curve.variable: self._known[self._curve.variable]}
                found.append(part.of(branch))
        if not found:
            raise Stuck("no branch")
        (a, da), (b, db) = found[0], found[-1]
        return _either(a, b), _either(da, db)

    def _holds(self, condition: Scalar) -> bool:
        """Whether a condition holds eventually, or eventually fails. Raises Stuck."""
        if not self._curve.rules.moves(condition):
            known = o.truth(self._case[condition])
            if known is None:
                raise Stuck("a condition that is not known")
            return known
        match condition:
            case Not():
                return not self._holds(condition.a)
            case And():
                return all(self._holds(c) for c in condition.children)
            case Or():
                return any(self._holds(c) for c in condition.children)
            case Compare() if condition.op in ("<", "<=", ">", ">="):
                sign, strict = self._gap(condition.a, condition.b)
                wanted = 1 if condition.op in (">", ">=") else -1
                if sign == wanted and (strict or condition.op in ("<=", ">=")):
                    return True
                if sign == -wanted and (strict or condition.op in ("<", ">")):
                    return False
        raise Stuck("a condition that is not decided far out")

    def _gap(self, a: Scalar, b: Scalar) -> tuple[int, bool]:
        """The sign of the difference, and whether it is not 0."""
        gap = _plus(self.of(a)[0], _minus(self.of(b)[0]))
        return gap.sign, gap.low is not None


def _level(box: Enclosure) -> Size:
    if not box.finite:
        raise Stuck("a number that may be infinite")
    if box.zero:
        return ZERO
    sign = 1 if box.nonnegative else -1 if box.nonpositive else 0
    return Size(ONE if box.nonzero else None, ONE, sign)


__all__ = ["Orders", "Size"]
