"""Slopes of scalars of one number x as rational functions of e^(x/2), exactly: sums, products and quotients of exponentials,
and of what has such a derivative (softplus and the like)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from flint import fmpq, fmpq_poly

from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import INT, Apply, Const, Scalar, postorder

_MOST = 64  # the degree of a power of e^(x/2), and of a power


@dataclass(frozen=True)
class Ratio:
    """A quotient of polynomials in e^(x/2)."""

    top: fmpq_poly
    bottom: fmpq_poly

    @staticmethod
    def number(value: Fraction) -> Ratio:
        return Ratio(fmpq_poly([fmpq(value.numerator, value.denominator)]), fmpq_poly([1]))

    @staticmethod
    def exponential(rate: Fraction) -> Ratio:
        """e^(rate x). Raises Stuck."""
        k = 2 * rate
        if k.denominator != 1 or abs(k) > _MOST:
            raise Stuck("an exponential of another power of e^(x/2)")
        power = fmpq_poly([0] * abs(int(k)) + [1])
        one = fmpq_poly([1])
        return Ratio(power, one) if k >= 0 else Ratio(one, power)

    def __add__(self, other: Ratio) -> Ratio:
        return Ratio(self.top * other.bottom + other.top * self.bottom, self.bottom * other.bottom).reduced()

    def __neg__(self) -> Ratio:
        return Ratio(-self.top, self.bottom)

    def __sub__(self, other: Ratio) -> Ratio:
        return self + -other

    def __mul__(self, other: Ratio) -> Ratio:
        return Ratio(self.top * other.top, self.bottom * other.bottom).reduced()

    def __truediv__(self, other: Ratio) -> Ratio:
        if other.zero:
            raise Stuck("a division by 0")
        return Ratio(self.top * other.bottom, self.bottom * other.top).reduced()

    def reduced(self) -> Ratio:
        common = self.top.gcd(self.bottom)
        return self if common.degree() < 1 else Ratio(self.top // common, self.bottom // common)

    @property
    def zero(self) -> bool:
        return bool(self.top == 0)

    def __str__(self) -> str:
        lead = self.bottom.coeffs()[-1]
        return f"({self.top / lead}) / ({self.bottom / lead})"


ONE = Ratio.number(Fraction(1))
ZERO = Ratio.number(Fraction(0))


@dataclass(frozen=True)
class Known:
    """A derivative; the value, if it is such a ratio; for rate * x: the rate."""

    slope: Ratio
    value: Ratio | None = None
    rate: Fraction | None = None


def slopes(body: Scalar, variable: Scalar) -> Known:
    """Raises Stuck."""
    found: dict[Scalar, Known] = {variable: Known(ONE, None, Fraction(1))}
    for n in postorder(body):
        if n not in found and n.dtype is not INT:
            found[n] = _known(n, found)
    return found[body]


def _known(n: Scalar, found: Mapping[Scalar, Known]) -> Known:
    if isinstance(n, Const) and isinstance(n.value, Fraction):
        return Known(ZERO, Ratio.number(n.value), None if n.value else Fraction(0))
    if not isinstance(n, Apply):
        raise Stuck(f"{type(n).__name__} is no ratio of exponentials")
    if any(a not in found for a in n.args[: 1 if n.name in ("pow", "powi") else None]):
        raise Stuck("an integer that is not known")
    if n.name in ("pow", "powi"):
        return _power(found[n.args[0]], n.args[1])
    args = [found[a] for a in n.args]
    if len(args) == 2:
        return _of_two(n.name, *args)
    if len(args) != 1:
        raise Stuck(f"{n.name} is no ratio of exponentials")
    (a,) = args
    match n.name:
        case "real":
            return a
        case "neg":
            return _of_two("mul", _constant(-1), a)
    return _function(n.name, a)


def _constant(value: int) -> Known:
    return Known(ZERO, Ratio.number(Fraction(value)))


def _of_two(name: str, a: Known, b: Known) -> Known:
    if name in ("add", "sub"):
        sign = _constant(1 if name == "add" else -1)
        c = _of_two("mul", sign, b)
        value = None if a.value is None or c.value is None else a.value + c.value
        return Known(a.slope + c.slope, value, None if a.rate is None or c.rate is None else a.rate + c.rate)
    if name == "mul":
        for x, y in ((a, b), (b, a)):
            number = _number(x)
            if number is not None:
                rate = None if y.rate is None else number * y.rate
                times = Ratio.number(number)
                return Known(times * y.slope, None if y.value is None else times * y.value, rate)
        if a.value is not None and b.value is not None:
            return Known(a.slope * b.value + a.value * b.slope, a.value * b.value)
    if name == "div" and b.value is not None:
        number = _number(b)
        if number:
            return _of_two("mul", Known(ZERO, Ratio.number(1 / number)), a)
        if a.value is not None:
            value = a.value / b.value
            return Known((a.slope - value * b.slope) / b.value, value)
    raise Stuck(f"{name} is no ratio of exponentials")


def _number(a: Known) -> Fraction | None:
    """The number that it is, if it is one."""
    if not a.slope.zero or a.value is None or a.value.top.degree() > 0 or a.value.bottom.degree() > 0:
        return None
    found = a.value.top[0] / a.value.bottom[0]
    return Fraction(int(found.p), int(found.q))


def _power(a: Known, exponent: Scalar) -> Known:
    k = exponent.value if isinstance(exponent, Const) else None
    if not isinstance(k, Fraction) or k.denominator != 1 or not 1 <= k <= _MOST or a.value is None:
        raise Stuck("a power of another kind")
    found = a
    for _ in range(int(k) - 1):
        found = _of_two("mul", found, a)
    return found


def _function(name: str, a: Known) -> Known:
    if name in ("log", "log1p") and a.value is not None:
        return Known(a.slope / (a.value if name == "log" else ONE + a.value))
    if a.rate is None:
        raise Stuck(f"{name} is no ratio of exponentials")
    grown = Ratio.exponential(a.rate)
    share = grown / (ONE + grown)
    rate = Ratio.number(a.rate)
    match name:
        case "exp":
            return Known(rate * grown, grown)
        case "expm1":
            return Known(rate * grown, grown - ONE)
        case "sigmoid":
            return Known(rate * share * (ONE - share), share)
        case "softplus":
            return Known(rate * share)
        case "logsigmoid":
            return Known(rate * (ONE - share))
    raise Stuck(f"{name} is no ratio of exponentials")


__all__ = ["ONE", "Known", "Ratio", "slopes"]
