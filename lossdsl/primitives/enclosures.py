"""Rigorous enclosures of elementary functions over intervals.

Point values come from Arb (python-flint) at 80 bits or more and are rounded outward to binary64; values that are exact
by definition (exp 0 = 1, log 1 = 0 ...) are exact here, which is what lets non-strict inequalities be proved. Over an
interval a function is cut into its monotone pieces. python-flint is imported at the first evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import ceil, floor, frexp, inf, nextafter
from typing import Any

from lossdsl.primitives.interval import EMPTY, NONNEGATIVE, ONE, WHOLE, ZERO, Interval

_flint: Any = None


def _arb() -> Any:
    global _flint
    if _flint is None:
        import flint

        _flint = flint
    return _flint.arb


# Each entry evaluates one function on an exact arb; the forms keep *relative* accuracy over the whole domain.


def _log1p_exp(x: Any) -> Any:
    """log(1 + exp(x))."""
    return x.exp().log1p() if x <= 0 else x + (-x).exp().log1p()


def _log1mexp(x: Any) -> Any:
    return (-(x.expm1())).log() if x > -1 else (-(x.exp())).log1p()


def _logcosh(x: Any) -> Any:
    a = abs(x)
    if a < 1:
        return (2 * (a / 2).sinh() ** 2).log1p()
    return a + (-2 * a).exp().log1p() - _arb()(2).log()


def _log_normal_cdf(x: Any) -> Any:
    arb = _arb()
    root = arb(2).sqrt()
    if x > 0:
        return (-((x / root).erfc() / 2)).log1p()
    if x > -100000000:
        return ((-x / root).erfc() / 2).log()
    # phi(x) |x| / (1 + x^2) <= Phi(x) <= phi(x) / |x| for x < 0
    upper = -x * x / 2 - (2 * arb.pi()).log() / 2 - (-x).log()
    return upper.union(upper - (1 / (x * x)).log1p())


def _inverse_mills(x: Any) -> Any:
    arb = _arb()
    if x > -100000000:
        density = (-x * x / 2).exp() / (2 * arb.pi()).sqrt()
        return 2 * density / (-x / arb(2).sqrt()).erfc()
    # |x| <= phi/Phi <= |x| + 1/|x| for x < 0
    return (-x).union(-x - 1 / x)


def _i0e(x: Any) -> Any:
    a = abs(x)
    if a > 1e8:
        # I0(a) exp(-a) sqrt(2 pi a) lies between 1 + 1/(8a) and 1 + 1/(8a) + 1/(8a)^2 * 9/2 + ... < 1 + 1/(8a) + 1/a^2
        base = 1 / (2 * _arb().pi() * a).sqrt()
        return (base * (1 + 1 / (8 * a))).union(base * (1 + 1 / (8 * a) + 1 / (a * a)))
    return a.bessel_i(0, scaled=True)


def _i1e(x: Any) -> Any:
    a = abs(x)
    if a > 1e8:
        base = 1 / (2 * _arb().pi() * a).sqrt()
        value = (base * (1 - 3 / (8 * a) - 1 / (a * a))).union(base * (1 - 3 / (8 * a)))
    else:
        value = a.bessel_i(1, scaled=True)
    return value if x >= 0 else -value


def _polygamma(order: int) -> Callable[[Any], Any]:
    def evaluate(x: Any) -> Any:
        arb = _arb()
        sign = 1 if order % 2 else -1
        return sign * arb(order + 1).gamma() * arb(order + 1).zeta(x)

    return evaluate


_EVALUATE: dict[str, Callable[[Any], Any]] = {
    "exp": lambda x: x.exp(),
    "expm1": lambda x: x.expm1(),
    "log": lambda x: x.log(),
    "log1p": lambda x: x.log1p(),
    "log2": lambda x: x.log() / _arb()(2).log(),
    "log10": lambda x: x.log() / _arb()(10).log(),
    "log1mexp": _log1mexp,
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "softplus": _log1p_exp,
    "tanh": lambda x: x.tanh(),
    "sinh": lambda x: x.sinh(),
    "cosh": lambda x: x.cosh(),
    "logcosh": _logcosh,
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "tan": lambda x: x.tan(),
    "asin": lambda x: x.asin(),
    "acos": lambda x: x.acos(),
    "atan": lambda x: x.atan(),
    "erf": lambda x: x.erf(),
    "erfc": lambda x: x.erfc(),
    "normal_cdf": lambda x: (-x / _arb()(2).sqrt()).erfc() / 2,
    "log_normal_cdf": _log_normal_cdf,
    "inverse_mills": _inverse_mills,
    "lgamma": lambda x: x.lgamma(),
    "digamma": lambda x: x.digamma(),
    "i0e": _i0e,
    "i1e": _i1e,
    # scaled quarter periods for sin and cos: x / pi - 1/2 and x / pi
    "turns_sin": lambda x: x / _arb().pi() - 0.5,
    "turns_cos": lambda x: x / _arb().pi(),
}

# The exact range of each function on its real domain; every enclosure is cut to it.
_RANGE: dict[str, tuple[float, float]] = {
    "exp": (0.0, inf),
    "expm1": (-1.0, inf),
    "log1mexp": (-inf, 0.0),
    "sigmoid": (0.0, 1.0),
    "softplus": (0.0, inf),
    "tanh": (-1.0, 1.0),
    "cosh": (1.0, inf),
    "logcosh": (0.0, inf),
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
    "erf": (-1.0, 1.0),
    "erfc": (0.0, 2.0),
    "normal_cdf": (0.0, 1.0),
    "log_normal_cdf": (-inf, 0.0),
    "inverse_mills": (0.0, inf),
    "i0e": (0.0, 1.0),
    "i1e": (-0.25, 0.25),
}

_EXACT: dict[tuple[str, float], float] = {
    ("exp", 0.0): 1.0,
    ("expm1", 0.0): 0.0,
    ("log", 1.0): 0.0,
    ("log1p", 0.0): 0.0,
    ("log10", 1.0): 0.0,
    ("sigmoid", 0.0): 0.5,
    ("tanh", 0.0): 0.0,
    ("sinh", 0.0): 0.0,
    ("cosh", 0.0): 1.0,
    ("logcosh", 0.0): 0.0,
    ("sin", 0.0): 0.0,
    ("cos", 0.0): 1.0,
    ("tan", 0.0): 0.0,
    ("asin", 0.0): 0.0,
    ("acos", 1.0): 0.0,
    ("atan", 0.0): 0.0,
    ("erf", 0.0): 0.0,
    ("erfc", 0.0): 1.0,
    ("normal_cdf", 0.0): 0.5,
    ("lgamma", 1.0): 0.0,
    ("lgamma", 2.0): 0.0,
    ("i0e", 0.0): 1.0,
    ("i1e", 0.0): 0.0,
    # limits at infinity and at the boundary of the domain
    ("exp", -inf): 0.0,
    ("exp", inf): inf,
    ("expm1", -inf): -1.0,
    ("expm1", inf): inf,
    ("log", 0.0): -inf,
    ("log", inf): inf,
    ("log1p", -1.0): -inf,
    ("log1p", inf): inf,
    ("log2", 0.0): -inf,
    ("log2", inf): inf,
    ("log10", 0.0): -inf,
    ("log10", inf): inf,
    ("log1mexp", -inf): 0.0,
    ("log1mexp", 0.0): -inf,
    ("sigmoid", -inf): 0.0,
    ("sigmoid", inf): 1.0,
    ("softplus", -inf): 0.0,
    ("softplus", inf): inf,
    ("tanh", -inf): -1.0,
    ("tanh", inf): 1.0,
    ("sinh", -inf): -inf,
    ("sinh", inf): inf,
    ("cosh", -inf): inf,
    ("cosh", inf): inf,
    ("logcosh", -inf): inf,
    ("logcosh", inf): inf,
    ("erf", -inf): -1.0,
    ("erf", inf): 1.0,
    ("erfc", -inf): 2.0,
    ("erfc", inf): 0.0,
    ("normal_cdf", -inf): 0.0,
    ("normal_cdf", inf): 1.0,
    ("log_normal_cdf", -inf): -inf,
    ("log_normal_cdf", inf): 0.0,
    ("inverse_mills", -inf): inf,
    ("inverse_mills", inf): 0.0,
    ("lgamma", 0.0): inf,
    ("lgamma", inf): inf,
    ("digamma", 0.0): -inf,
    ("digamma", inf): inf,
    ("i0e", -inf): 0.0,
    ("i0e", inf): 0.0,
    ("i1e", -inf): 0.0,
    ("i1e", inf): 0.0,
}


def _outward(ball: Any) -> tuple[float, float]:
    """The floats around a ball, rounded outward."""
    arb = _arb()
    low, high = ball.lower(), ball.upper()
    lo, hi = float(low), float(high)
    # float() rounds to nearest; `not <=` also moves past undecided comparisons
    while lo > -inf and not arb(lo) <= low:
        lo = nextafter(lo, -inf)
    while hi < inf and not arb(hi) >= high:
        hi = nextafter(hi, inf)
    return lo, hi


def evaluate(function: Callable[..., Any], *arguments: float) -> tuple[float, float]:
    """Floats around function(arguments), finite floats given; the precision grows until the ball is narrow."""
    arb = _arb()
    context = _flint.ctx
    saved = context.prec
    lo, hi = -inf, inf
    try:
        for precision in (80, 320, 1280):
            context.prec = precision
            ball = function(*[arb(x) for x in arguments])
            if not ball.is_nan():
                if ball.is_zero():
                    return 0.0, 0.0
                lower, upper = _outward(ball)
                lo, hi = max(lo, lower), min(hi, upper)
                if ball.rel_accuracy_bits() >= 60:
                    break
    finally:
        context.prec = saved
    return lo, hi


@lru_cache(maxsize=1 << 16)
def at_point(name: str, x: float) -> tuple[float, float]:
    """Floats lo <= f(x) <= hi for a point of the domain, or the limit of f at an infinite x."""
    exact = _EXACT.get((name, x))
    if exact is not None:
        return exact, exact
    if name == "log2":
        mantissa, exponent = frexp(x)
        if mantissa == 0.5:
            return float(exponent - 1), float(exponent - 1)
    if name == "atan" and abs(x) == inf:
        lo, hi = pi_multiple(1, 2)
        return (lo, hi) if x > 0 else (-hi, -lo)
    lo, hi = evaluate(_EVALUATE[name], x)
    least, most = _RANGE.get(name, (-inf, inf))
    return max(lo, least), min(hi, most)


@lru_cache(maxsize=64)
def pi_multiple(numerator: int, denominator: int) -> tuple[float, float]:
    """Floats around pi * numerator / denominator."""
    return evaluate(lambda: _arb().pi() * numerator / denominator)


def pi() -> Interval:
    return Interval(*pi_multiple(1, 1))


def _increasing(name: str, x: Interval) -> Interval:
    return x if x.is_empty else Interval(at_point(name, x.lo)[0], at_point(name, x.hi)[1])


def _decreasing(name: str, x: Interval) -> Interval:
    return x if x.is_empty else Interval(at_point(name, x.hi)[0], at_point(name, x.lo)[1])


def _even(name: str, x: Interval, increasing: bool) -> Interval:
    return _increasing(name, x.abs()) if increasing else _decreasing(name, x.abs())


def exp(x: Interval) -> Interval:
    return _increasing("exp", x)


def expm1(x: Interval) -> Interval:
    return _increasing("expm1", x)


def log(x: Interval) -> Interval:
    return _increasing("log", x.intersect(NONNEGATIVE))


def log1p(x: Interval) -> Interval:
    return _increasing("log1p", x.intersect(Interval(-1.0, inf)))


def log2(x: Interval) -> Interval:
    return _increasing("log2", x.intersect(NONNEGATIVE))


def log10(x: Interval) -> Interval:
    return _increasing("log10", x.intersect(NONNEGATIVE))


def log1mexp(x: Interval) -> Interval:
    return _decreasing("log1mexp", x.intersect(Interval(-inf, 0.0)))


def sigmoid(x: Interval) -> Interval:
    return _increasing("sigmoid", x)


def softplus(x: Interval) -> Interval:
    return _increasing("softplus", x)


def logsigmoid(x: Interval) -> Interval:
    return -_increasing("softplus", -x)


def tanh(x: Interval) -> Interval:
    return _increasing("tanh", x)


def sinh(x: Interval) -> Interval:
    return _increasing("sinh", x)


def cosh(x: Interval) -> Interval:
    return _even("cosh", x, increasing=True)


def logcosh(x: Interval) -> Interval:
    return _even("logcosh", x, increasing=True)


def logaddexp(a: Interval, b: Interval) -> Interval:
    """Increasing in both; log(exp a + exp b) = max + softplus(-|a - b|)."""
    if a.is_empty or b.is_empty:
        return EMPTY

    def corner(x: float, y: float) -> Interval:
        m, n = max(x, y), min(x, y)
        if n == -inf or m == inf:
            return Interval(m, m)
        return Interval.exact(m) + softplus(Interval.exact(n) - Interval.exact(m))

    return Interval(corner(a.lo, b.lo).lo, corner(a.hi, b.hi).hi)


def expdiff(a: Interval, b: Interval) -> Interval:
    """exp(a - b), and 0 where b is -inf."""
    value = exp(a - b)
    return value.hull(ZERO) if b.lo == -inf else value


def xlogy(x: Interval, y: Interval) -> Interval:
    """x log(y) over y >= 0, and 0 where x is 0 whatever y is."""
    value = x * log(y)
    return value.hull(ZERO) if x.contains(0.0) else value


def sin(x: Interval) -> Interval:
    return _periodic("sin", "turns_sin", x)


def cos(x: Interval) -> Interval:
    return _periodic("cos", "turns_cos", x)


_PERIOD_LIMIT = 2.0**50  # beyond it the number of half turns is not resolved in binary64


def _half_turns(name: str, x: Interval) -> range | None:
    """Integers k that may lie in the image of x under x/pi (- 1/2); None if there are too many, or it is not known."""
    if x.magnitude > _PERIOD_LIMIT or x.width > 7.0:
        return None
    return range(ceil(at_point(name, x.lo)[0]), floor(at_point(name, x.hi)[1]) + 1)


def _periodic(name: str, turns: str, x: Interval) -> Interval:
    if x.is_empty:
        return x
    if x.is_point:
        return Interval(*at_point(name, x.lo))
    peaks = _half_turns(turns, x)
    if peaks is None:
        return Interval(-1.0, 1.0)
    left, right = at_point(name, x.lo), at_point(name, x.hi)
    value = Interval(min(left[0], right[0]), max(left[1], right[1]))
    for k in peaks:
        value = value.hull(ONE if k % 2 == 0 else -ONE)
    return value


def tan(x: Interval) -> Interval:
    if x.is_empty:
        return x
    if x.is_point:
        return Interval(*at_point("tan", x.lo))
    poles = _half_turns("turns_sin", x)
    if poles is None or len(poles):
        return WHOLE
    return _increasing("tan", x)


_SIGNED_UNIT = Interval(-1.0, 1.0)


def asin(x: Interval) -> Interval:
    return _increasing("asin", x.intersect(_SIGNED_UNIT))


def acos(x: Interval) -> Interval:
    return _decreasing("acos", x.intersect(_SIGNED_UNIT))


def atan(x: Interval) -> Interval:
    return _increasing("atan", x)


def atan2(y: Interval, x: Interval) -> Interval:
    """The angle of (x, y) in [-pi, pi]; on a box away from the cut (y = 0, x <= 0) it is extreme at corners."""
    if y.is_empty or x.is_empty:
        return EMPTY
    most, half = pi_multiple(1, 1)[1], pi_multiple(1, 2)[1]
    if y.is_bounded and x.is_bounded and (x.lo > 0.0 or y.lo > 0.0 or y.hi < 0.0):
        corners = [evaluate(lambda v, u: _arb().atan2(v, u), v, u) for v in (y.lo, y.hi) for u in (x.lo, x.hi)]
        return Interval(min(c[0] for c in corners), max(c[1] for c in corners))
    if y.lo >= 0.0:
        return Interval(0.0, half if x.lo > 0.0 else most)
    if y.hi < 0.0:
        return Interval(-half if x.lo > 0.0 else -most, 0.0)
    return Interval(-half, half) if x.lo > 0.0 else Interval(-most, most)


def erf(x: Interval) -> Interval:
    return _increasing("erf", x)


def erfc(x: Interval) -> Interval:
    return _decreasing("erfc", x)


def normal_cdf(x: Interval) -> Interval:
    return _increasing("normal_cdf", x)


def log_normal_cdf(x: Interval) -> Interval:
    return _increasing("log_normal_cdf", x)


def inverse_mills(x: Interval) -> Interval:
    return _decreasing("inverse_mills", x)


_LGAMMA_VALLEY = Interval(1.46163214496836, 1.46163214496837)  # the minimum of lgamma is inside
_LGAMMA_LEAST = -0.1214862905358497  # and is above this


def lgamma(x: Interval) -> Interval:
    """log(gamma(x)) for x >= 0; nothing is claimed of negative arguments: the whole line."""
    if x.is_empty:
        return x
    if x.lo < 0.0:
        return WHOLE
    if x.lo >= _LGAMMA_VALLEY.hi:
        return _increasing("lgamma", x)
    if x.hi <= _LGAMMA_VALLEY.lo:
        return _decreasing("lgamma", x)
    return Interval(_LGAMMA_LEAST, max(at_point("lgamma", x.lo)[1], at_point("lgamma", x.hi)[1]))


def digamma(x: Interval) -> Interval:
    return WHOLE if not x.is_empty and x.lo < 0.0 else _increasing("digamma", x)


@lru_cache(maxsize=1 << 12)
def _polygamma_at(order: int, x: float) -> tuple[float, float]:
    if x == 0.0:
        return (inf, inf) if order % 2 else (-inf, -inf)
    if x == inf:
        return 0.0, 0.0
    lo, hi = evaluate(_polygamma(order), x)
    return (max(lo, 0.0), hi) if order % 2 else (lo, min(hi, 0.0))


def polygamma(order: int, x: Interval) -> Interval:
    """The derivative of digamma of that order >= 1, for x >= 0: of one sign and monotone towards 0."""
    if x.is_empty:
        return x
    if x.lo < 0.0:
        return WHOLE
    left, right = _polygamma_at(order, x.lo), _polygamma_at(order, x.hi)
    return Interval(right[0], left[1]) if order % 2 else Interval(left[0], right[1])


def i0e(x: Interval) -> Interval:
    return _even("i0e", x, increasing=False)


_I1E_RIDGE = Interval(1.5, 1.6)  # the maximum of i1e on x > 0 is inside
_I1E_MOST = 0.2191  # and is below this


def i1e(x: Interval) -> Interval:
    """Odd; on x >= 0 it rises to its maximum near 1.545 and then falls to 0."""
    if x.is_empty:
        return x
    positive = _i1e_positive(x.intersect(NONNEGATIVE))
    return positive.hull(-_i1e_positive((-x).intersect(NONNEGATIVE)))


def _i1e_positive(x: Interval) -> Interval:
    if x.is_empty:
        return x
    if x.hi <= _I1E_RIDGE.lo:
        return _increasing("i1e", x)
    if x.lo >= _I1E_RIDGE.hi:
        return _decreasing("i1e", x)
    least = min(at_point("i1e", x.lo)[0], at_point("i1e", x.hi)[0])
    if x.is_point:
        return Interval(least, at_point("i1e", x.lo)[1])
    return Interval(least, _I1E_MOST)


def power_int(x: Interval, exponent: int) -> Interval:
    """x ** exponent for an integer exponent of any sign; x**0 is 1 everywhere."""
    if x.is_empty:
        return x
    if exponent == 0:
        return ONE
    if exponent < 0:
        return ONE / power_int(x, -exponent)
    if exponent % 2 == 0:
        x = x.abs()
    return Interval(_power_point(x.lo, exponent)[0], _power_point(x.hi, exponent)[1])


def _power_point(x: float, exponent: int) -> tuple[float, float]:
    if x in (0.0, 1.0, inf):
        return x, x
    if x == -inf:
        return (inf, inf) if exponent % 2 == 0 else (-inf, -inf)
    return evaluate(lambda a: a**exponent, x)


def power(a: Interval, b: Interval) -> Interval:
    """a ** b over a >= 0. It is monotone in each argument with the other fixed, so corners bound it."""
    a = a.intersect(NONNEGATIVE)
    if a.is_empty or b.is_empty:
        return EMPTY
    corners = [_power_corner(x, y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return Interval(min(c[0] for c in corners), max(c[1] for c in corners))


def _power_corner(x: float, y: float) -> tuple[float, float]:
    """x ** y for x >= 0 with its limits; 0 ** 0 and 1 ** inf are 1."""
    if y == 0.0 or x == 1.0:
        return 1.0, 1.0
    if x in (0.0, inf) or abs(y) == inf:
        large = (x > 1.0) == (y > 0.0)
        return (inf, inf) if large else (0.0, 0.0)
    lo, hi = evaluate(lambda a, b: (b * a.log()).exp() if b != b.floor() or abs(b) > 64 else a ** int(y), x, y)
    return max(lo, 0.0), hi
