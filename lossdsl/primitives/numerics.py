"""Special functions in float64 for the reference interpreter, which has numpy but not scipy.

`ERFCX_SERIES` is the Chebyshev series of log(erfcx(x) / t) in u = 2 t - 1 for t = 2 / (2 + x), x >= 0; it converges to
1e-17 and serves numpy, torch-free targets and Triton alike (coefficients computed with 40 digits).
"""

from __future__ import annotations

from math import comb, factorial, inf, lgamma, log, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ERFCX_SERIES: tuple[float, ...] = (
    -0.6513268598908547,
    0.6419697923564902,
    0.019476473204185836,
    -0.009561514786808632,
    -0.0009465953444820369,
    0.00036683949785276145,
    4.252332480690777e-05,
    -2.0278578112534242e-05,
    -1.6242900046470256e-06,
    1.3036558355805232e-06,
    1.5626441722066142e-08,
    -8.523809591492654e-08,
    6.5290544390988515e-09,
    5.059343495551469e-09,
    -9.91364156493033e-10,
    -2.273651222931836e-10,
    9.646791102015527e-11,
    2.3940380830391146e-12,
    -6.886027526497553e-12,
    8.944879273090725e-13,
    3.130921399342958e-13,
    -1.1270822361367252e-13,
    3.810905255189232e-16,
    7.106097613609237e-15,
    -1.5230282014571043e-15,
    -9.457494571291233e-17,
    1.210237189224279e-16,
    -2.816663087747177e-17,
    5.003005559445902e-20,
    2.3281042579529253e-18,
)


def clenshaw(coefficients: tuple[float, ...], u: Array) -> Array:
    """The sum of c_k T_k(u) by Clenshaw's recurrence."""
    d, dd = np.zeros_like(u), np.zeros_like(u)
    for c in coefficients[:0:-1]:
        d, dd = 2.0 * u * d - dd + c, d
    return u * d - dd + coefficients[0]


def log_erfcx(x: Array) -> Any:
    """log(exp(x^2) erfc(x)) for x >= 0."""
    t = 2.0 / (2.0 + x)
    return np.log(t) + clenshaw(ERFCX_SERIES, 2.0 * t - 1.0)


def erfcx(x: Array) -> Any:
    """exp(x^2) erfc(x) for x >= 0."""
    t = 2.0 / (2.0 + x)
    return t * np.exp(clenshaw(ERFCX_SERIES, 2.0 * t - 1.0))


def _bell(x: Array) -> Any:
    """exp(-x^2 / 2) for x >= 0, with x split so that the rounding of the square is not multiplied by its size."""
    coarse = np.where(x < 1e6, np.floor(x * 16.0) / 16.0, x)
    return np.exp(-0.5 * coarse * coarse) * np.exp(-0.5 * (x - coarse) * (x + coarse))


def normal_cdf(x: Any) -> Any:
    x = np.asarray(x, dtype=np.float64)
    z = np.abs(x) / sqrt(2.0)
    tail = 0.5 * _bell(np.minimum(np.abs(x), 1e3)) * erfcx(z)
    return np.where(x < 0.0, tail, 1.0 - tail)[()]


def log_normal_cdf(x: Any) -> Any:
    x = np.asarray(x, dtype=np.float64)
    z = np.abs(x) / sqrt(2.0)
    # z^2 overflows to inf, the right limit, and inf + log_erfcx stays inf
    left = log_erfcx(np.minimum(z, 1e300)) - z * z - log(2.0)
    return np.where(x < 0.0, left, np.log1p(-0.5 * _bell(np.minimum(np.abs(x), 1e3)) * erfcx(z)))[()]


def inverse_mills(x: Any) -> Any:
    """phi(x) / Phi(x)."""
    x = np.asarray(x, dtype=np.float64)
    z = np.abs(x) / sqrt(2.0)
    scaled = erfcx(z)
    bell = _bell(np.minimum(np.abs(x), 1e3))
    right = sqrt(0.5 / pi) * bell / (1.0 - 0.5 * bell * scaled)
    return np.where(x < 0.0, sqrt(2.0 / pi) / scaled, right)[()]


_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798)  # B2, B4 ...


def digamma(x: Any) -> Any:
    """For x >= 0 by recurrence to x >= 12 and the asymptotic series; nan below 0, -inf at 0."""
    x = np.asarray(x, dtype=np.float64)
    shifted, total = np.where(x >= 0.0, x, np.nan), np.zeros_like(x)
    for _ in range(12):
        small = shifted < 12.0
        total = total - np.where(small, 1.0 / np.where(small, shifted, 1.0), 0.0)
        shifted = np.where(small, shifted + 1.0, shifted)
    inverse = 1.0 / (shifted * shifted)
    series = np.zeros_like(x)
    for k in range(len(_BERNOULLI), 0, -1):
        series = (series + _BERNOULLI[k - 1] / (2 * k)) * inverse
    return (total + np.log(shifted) - 0.5 / shifted - series)[()]


def polygamma(order: Any, x: Any) -> Any:
    """The derivative of digamma of that order >= 1, for x >= 0: Hurwitz zeta by Euler-Maclaurin; nan below 0."""
    orders = np.unique(np.asarray(order))
    if orders.size != 1:
        return np.vectorize(lambda n, v: polygamma(n, v), otypes=[np.float64])(order, x)
    n = int(orders[0])
    x = np.asarray(x, dtype=np.float64)
    s = n + 1
    start = np.where(x >= 0.0, x, np.nan)
    terms = 12 + n
    total = sum(((start + k) ** -float(s) for k in range(terms)), np.zeros_like(x))
    far = start + terms
    total = total + far ** (1.0 - s) / (s - 1.0) + 0.5 * far ** -float(s)
    for k in range(1, len(_BERNOULLI) + 1):
        # B_2k / (2k)! * s (s+1) ... (s+2k-2) * far^-(s+2k-1)
        rising = comb(s + 2 * k - 2, 2 * k - 1) * factorial(2 * k - 1)
        total = total + _BERNOULLI[k - 1] / factorial(2 * k) * rising * far ** -float(s + 2 * k - 1)
    value = (1.0 if n % 2 else -1.0) * factorial(n) * total
    return np.where(np.isposinf(x), 0.0, value)[()]


_BESSEL_SWITCH = 20.0


def _bessel_scaled(order: int, x: Any) -> Array:
    """exp(-x) I_order(x) for x >= 0, order 0 or 1: the power series (all terms positive), then Hankel's expansion."""
    near = np.minimum(x, _BESSEL_SWITCH)
    quarter = 0.25 * near * near
    term = np.ones_like(near) if order == 0 else 0.5 * near
    total = term.copy()
    for k in range(1, 80):
        term = term * quarter / (k * (k + order))
        total = total + term
    far = np.maximum(x, _BESSEL_SWITCH)
    mu = 4.0 * order * order
    factor, series = np.ones_like(far), np.ones_like(far)
    for k in range(1, 30):
        factor = -factor * (mu - (2 * k - 1) ** 2) / (k * 8.0 * far)
        series = series + factor
    large = series / np.sqrt(2.0 * pi * far)
    return np.where(x <= _BESSEL_SWITCH, total * np.exp(-near), np.where(np.isposinf(x), 0.0, large))


def i0e(x: Any) -> Any:
    return _bessel_scaled(0, np.abs(np.asarray(x, dtype=np.float64)))[()]


def i1e(x: Any) -> Any:
    x = np.asarray(x, dtype=np.float64)
    return (np.sign(x) * _bessel_scaled(1, np.abs(x)))[()]


def lgamma_of(x: float) -> float:
    """math.lgamma with its limits instead of errors."""
    if x == 0.0 or x in (inf, -inf):
        return inf
    if x < 0.0 and x == int(x):
        return inf
    try:
        return lgamma(x)
    except OverflowError:
        return inf
