"""Helper functions that the texts of the records call, as source for the emitted module.

An emitted module holds exactly the helpers that its texts name (`helper_sources`), each under the name it has here.
Operands of torch helpers are tensors (two-argument helpers take a Python number for one of them); operands of Triton
helpers are block values, with the exceptions noted at each.

The torch helpers are written so that autograd gives the derivative of the record, twice, at kinks and limits too:
arguments are made harmless *before* the function is applied in the branch that is not taken, since torch.where sends
a zero through both branches and 0 * inf is nan. The Triton helpers use only operations that also run in Triton's
interpreter and on every device; libdevice does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import factorial

from lossdsl.primitives.numerics import ERFCX_SERIES

TORCH_HELPERS: dict[str, str] = {
    "_h_sqrt": '''\
def _h_sqrt(x):
    """Square root with derivative 0 at 0."""
    zero = x == 0
    return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, x)))
''',
    "_h_pow": '''\
def _h_pow(a, b):
    """a ** b for a >= 0; at a = 0 the derivative in a is 1 for b = 1 and else 0, in b it is 0."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    zero = a == 0
    at_zero = torch.where(b > 0, 0.0, torch.where(b == 0, 1.0, float("inf"))) + a * (b == 1) + a * a * (b == 2)
    return torch.where(zero, at_zero, torch.pow(torch.where(zero, 1.0, a), b))
''',
    "_h_expm1": '''\
def _h_expm1(x):
    """expm1 whose derivative is exp(x) also where the value is -1."""
    low = x < -0.5
    return torch.where(low, torch.exp(torch.where(low, x, -1.0)) - 1.0, torch.expm1(torch.where(low, 0.0, x)))
''',
    "_h_log1mexp": '''\
def _h_log1mexp(x):
    """log(1 - exp(x)) for x < 0."""
    near = x > -0.6931471805599453
    return torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, x, -0.5))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, x))),
    )
''',
    "_h_sigmoid": '''\
def _h_sigmoid(x):
    """Logistic function whose derivative keeps its relative accuracy on both sides."""
    right = x >= 0
    e = torch.exp(torch.where(right, 0.0, x))
    return torch.where(right, 1.0 / (1.0 + torch.exp(-torch.where(right, x, 0.0))), e / (1.0 + e))
''',
    "_h_tanh": '''\
def _h_tanh(x):
    """tanh whose derivative keeps its relative accuracy for large arguments."""
    near = (x < 1) & (x > -1)
    sign = torch.where(x < 0, -1.0, 1.0).to(x.dtype)
    e = torch.exp(-2.0 * torch.where(near, 1.0, x * sign))
    return torch.where(near, torch.tanh(torch.where(near, x, 0.0)), sign * (1.0 - 2.0 * (e / (1.0 + e))))
''',
    "_h_logcosh": '''\
def _h_logcosh(x):
    """log(cosh(x)), accurate near 0 and without overflow."""
    near = (x < 1) & (x > -1)
    small = torch.sinh(0.5 * torch.where(near, x, 0.0))
    large = torch.abs(torch.where(near, 1.0, x))
    return torch.where(
        near, torch.log1p(2.0 * small * small), large + torch.log1p(torch.exp(-2.0 * large)) - 0.6931471805599453
    )
''',
    "_h_logaddexp": '''\
def _h_logaddexp(a, b):
    """log(exp(a) + exp(b)); two arguments of -inf give -inf with derivative 0."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    level = (a == b) & torch.isinf(a)
    x, y = torch.where(level, 0.0, a), torch.where(level, 0.0, b)
    first = x >= y
    # the branch not taken sees a difference of 0, never inf - inf
    from_x = x - torch.nn.functional.logsigmoid(torch.where(first, x - y, 0.0))
    from_y = y - torch.nn.functional.logsigmoid(torch.where(first, 0.0, y - x))
    return torch.where(level, a.detach(), torch.where(first, from_x, from_y))
''',
    "_h_xlogy": '''\
def _h_xlogy(x, y):
    """x * log(y), and 0 where x is 0; both derivatives are 0 where x is 0 and y <= 0."""
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    dead = (x == 0) & (y <= 0)
    return torch.where(dead, 0.0, torch.xlogy(torch.where(dead, 0.0, x), torch.where(dead, 1.0, y)))
''',
    "_h_asin": '''\
def _h_asin(x):
    """asin with derivative 0 at -1 and 1."""
    edge = torch.abs(x) == 1
    return torch.where(edge, torch.asin(x.detach()), torch.asin(torch.where(edge, 0.0, x)))
''',
    "_h_acos": '''\
def _h_acos(x):
    """acos with derivative 0 at -1 and 1."""
    edge = torch.abs(x) == 1
    return torch.where(edge, torch.acos(x.detach()), torch.acos(torch.where(edge, 0.0, x)))
''',
    "_h_atan2": '''\
def _h_atan2(y, x):
    """atan2 with derivatives 0 at the origin."""
    y, x = torch.as_tensor(y), torch.as_tensor(x)
    origin = (y == 0) & (x == 0)
    return torch.where(origin, 0.0, torch.atan2(torch.where(origin, 0.0, y), torch.where(origin, 1.0, x)))
''',
    "_h_log_normal_cdf": '''\
def _h_log_normal_cdf(x):
    """log of the normal distribution function; its first two derivatives keep their accuracy in both tails."""
    right, far = x > 0, x < -50
    z = torch.where(far, x, -100.0)
    y = 1.0 / (z * z)
    tail = -0.5 * z * z - torch.log(-z) - 0.9189385332046728
    tail = tail + torch.log1p(-y * (1.0 - y * (3.0 - y * (15.0 - 105.0 * y))))
    middle = torch.special.log_ndtr(torch.where(right | far, -1.0, x))
    upper = torch.log1p(-0.5 * torch.erfc(0.7071067811865476 * torch.where(right, x, 1.0)))
    return torch.where(right, upper, torch.where(far, tail, middle))
''',
    "_h_polygamma": '''\
def _h_polygamma(n, x):
    """Derivative of digamma of order n (an int), 0 at inf, where torch has nan."""
    far = x == float("inf")
    return torch.where(far, 0.0, torch.polygamma(n, torch.where(far, 1.0, x)))
''',
    "_h_inverse_mills": '''\
def _h_inverse_mills(x):
    """Normal density over distribution function; its derivatives keep their accuracy in both tails."""
    right, far = x > 0, x < -50
    z = torch.where(far, x, -100.0)
    y = 1.0 / (z * z)
    tail = -z * (1.0 + y * (1.0 - y * (2.0 - y * (10.0 - 74.0 * y))))
    middle = 0.7978845608028654 / torch.special.erfcx(-0.7071067811865476 * torch.where(right | far, -1.0, x))
    # beyond 1e18 the square would overflow in float32; the density is 0 long before
    w = torch.clamp(torch.where(right, x, 1.0), max=1e18)
    upper = 0.3989422804014327 * torch.exp(-0.5 * w * w) / (1.0 - 0.5 * torch.erfc(0.7071067811865476 * w))
    return torch.where(right, upper, torch.where(far, tail, middle))
''',
}


def _clenshaw(coefficients: tuple[float, ...]) -> str:
    """Unrolled Clenshaw recurrence in `u` (Triton kernels cannot read a tuple of the module)."""
    lines = [f"    d = {coefficients[-1]!r} + 0.0 * u", "    dd = 0.0 * u"]
    for c in coefficients[-2:0:-1]:
        lines.append(f"    d, dd = 2.0 * u * d - dd + {c!r}, d")
    lines.append(f"    p = u * d - dd + {coefficients[0]!r}")
    return "\n".join(lines)


def _horner(x: str, coefficients: Sequence[Fraction], narrow: int) -> str:
    """The polynomial in `x` as `p`, unrolled: float32 needs the first `narrow` coefficients only."""
    *rest, last = (repr(float(c)) for c in coefficients[narrow:])
    lines = [f"    p = {float(coefficients[narrow - 1])!r} + 0.0 * {x}"]
    lines += [f"    if {x}.dtype == tl.float64:", f"        p = {last} + 0.0 * {x}"]
    lines += [f"        p = p * {x} + {c}" for c in reversed(rest)]
    lines += [f"        p = p * {x} + {float(coefficients[narrow - 1])!r}"]
    lines += [f"    p = p * {x} + {float(c)!r}" for c in reversed(coefficients[: narrow - 1])]
    return "\n".join(lines)


ATANH = [Fraction(1, 2 * k + 1) for k in range(13)]  # atanh(w) / w in w^2
ATAN = [Fraction((-1) ** k, 2 * k + 1) for k in range(21)]  # atan(w) / w in w^2
EXPM1 = [Fraction(1, factorial(k + 1)) for k in range(16)]  # expm1(x) / x


# in the order of their needs: a helper may call those above it
TRITON_HELPERS: dict[str, str] = {
    "_h_multiply_tl": """\
@triton.jit
def _h_multiply_tl(a, b):
    return a * b
""",
    "_h_floordiv_tl": """\
@triton.jit
def _h_floordiv_tl(a, b):
    # `//` truncates or floors depending on where it runs: correct it from the remainder
    q = a // b
    r = a - q * b
    return tl.where((r != 0) & ((r < 0) != (b < 0)), q - 1, q)
""",
    "_h_powi_tl": """\
@triton.jit
def _h_powi_tl(x, k: tl.constexpr):
    # k is a literal
    if k == 0:
        return tl.where(x == x, 1.0, 1.0).to(x.dtype)
    n: tl.constexpr = k if k > 0 else -k
    r = x
    for _ in tl.static_range(n - 1):
        r = r * x
    if k < 0:
        r = 1.0 / r
    return r
""",
    "_h_log1p_tl": f"""\
@triton.jit
def _h_log1p_tl(x):
    # near 0 by 2 atanh(x / (2 + x)): the device logarithm has an absolute error there
    near = (x > -0.29) & (x < 0.41)
    w = tl.where(near, x / (2.0 + x), 0.0)
    s = w * w
{_horner("s", ATANH, 5)}
    return tl.where(near, 2.0 * w * p, tl.log(1.0 + x))
""",
    "_h_expm1_tl": f"""\
@triton.jit
def _h_expm1_tl(x):
    small = (x > -0.5) & (x < 0.5)
    near = tl.where(small, x, 0.0)
{_horner("near", EXPM1, 9)}
    return tl.where(small, near * p, tl.exp(x) - 1.0)
""",
    "_h_sigmoid_tl": """\
@triton.jit
def _h_sigmoid_tl(x):
    e = tl.exp(-1.0 * tl.abs(x))
    return tl.where(x >= 0, 1.0, e) * (1.0 / (1.0 + e))
""",
    "_h_softplus_tl": """\
@triton.jit
def _h_softplus_tl(x):
    return tl.where(x < 0, 0.0, x) + _h_log1p_tl(tl.exp(-1.0 * tl.abs(x)))
""",
    "_h_log1mexp_tl": """\
@triton.jit
def _h_log1mexp_tl(x):
    near = x > -0.6931471805599453
    return tl.where(near, tl.log(-_h_expm1_tl(tl.where(near, x, -1.0))), _h_log1p_tl(-tl.exp(tl.where(near, -1.0, x))))
""",
    "_h_logaddexp_tl": """\
@triton.jit
def _h_logaddexp_tl(a, b):
    # either operand may be a number: it takes the type of the other
    a, b = tl.where(b < b, b, a), tl.where(a < a, a, b)
    m = tl.where(a >= b, a, b)
    n = tl.where(a >= b, b, a)
    return m + _h_log1p_tl(tl.exp(tl.where(n == m, 0.0, n - m)))
""",
    "_h_tanh_tl": """\
@triton.jit
def _h_tanh_tl(x):
    e = _h_expm1_tl(-2.0 * tl.abs(x))
    t = -e / (e + 2.0)
    return tl.where(x < 0, -t, t)
""",
    "_h_sinh_tl": """\
@triton.jit
def _h_sinh_tl(x):
    a = tl.abs(x)
    e = _h_expm1_tl(tl.where(a < 20.0, a, 0.0))
    h = tl.exp(0.5 * a)
    s = tl.where(a < 20.0, 0.5 * (e + e / (e + 1.0)), (0.5 * h) * h)
    return tl.where(x < 0, -s, s)
""",
    "_h_cosh_tl": """\
@triton.jit
def _h_cosh_tl(x):
    h = tl.exp(0.5 * tl.abs(x))
    return (0.5 * h) * h + (0.5 / h) / h
""",
    "_h_logcosh_tl": """\
@triton.jit
def _h_logcosh_tl(x):
    a = tl.abs(x)
    s = _h_sinh_tl(0.5 * tl.where(a < 1.0, a, 0.0))
    return tl.where(a < 1.0, _h_log1p_tl(2.0 * s * s), a + _h_log1p_tl(tl.exp(-2.0 * a)) - 0.6931471805599453)
""",
    "_h_pow_tl": """\
@triton.jit
def _h_pow_tl(a, b):
    # either operand may be a number: it takes the type of the other; a negative base has a value for whole
    # exponents, as in torch
    a, b = tl.where(b < b, b, a), tl.where(a < a, a, b)
    m = tl.exp(b * tl.log(tl.abs(a)))
    whole = tl.floor(b) == b
    odd = b - 2.0 * tl.floor(0.5 * b) == 1.0
    m = tl.where(a < 0, tl.where(whole, tl.where(odd, -m, m), float("nan")), m)
    return tl.where((b == 0) | (a == 1), 1.0, m)
""",
    "_h_atan_tl": f"""\
@triton.jit
def _h_atan_tl(x):
    a = tl.abs(x)
    w = tl.where(a > 1.0, 1.0 / tl.where(a > 1.0, a, 1.0), a)
    turned = w > 0.41421356237309503
    v = tl.where(turned, (w - 1.0) / (w + 1.0), w)
    s = v * v
{_horner("s", ATAN, 9)}
    r = tl.where(turned, 0.7853981633974483 + v * p, v * p)
    r = tl.where(a > 1.0, 1.5707963267948966 - r, r)
    return tl.where(x < 0, -r, r)
""",
    "_h_atan2_tl": """\
@triton.jit
def _h_atan2_tl(y, x):
    # either operand may be a number: it takes the type of the other
    y, x = tl.where(x < x, x, y), tl.where(y < y, y, x)
    ay, ax = tl.abs(y), tl.abs(x)
    big = tl.where(ay > ax, ay, ax)
    small = tl.where(ay > ax, ax, ay)
    q = tl.where(small == big, 1.0, small / tl.where(big == 0, 1.0, big))
    r = _h_atan_tl(tl.where(big == 0, 0.0, q))
    r = tl.where(ay > ax, 1.5707963267948966 - r, r)
    r = tl.where(x < 0, 3.141592653589793 - r, r)
    return tl.where(y < 0, -r, r)
""",
    "_h_log_erfcx_tl": f"""\
@triton.jit
def _h_log_erfcx_tl(z, t):
    # log(exp(z^2) erfc(z) / t) for z >= 0 and t = 2 / (2 + z)
    u = 2.0 * t - 1.0
{_clenshaw(ERFCX_SERIES)}
    return p
""",
    "_h_erfc_tl": """\
@triton.jit
def _h_erfc_tl(x):
    z = tl.abs(x)
    t = 2.0 / (2.0 + z)
    r = t * tl.exp(_h_log_erfcx_tl(z, t) - z * z)
    return tl.where(x < 0, 2.0 - r, r)
""",
    "_h_log_normal_cdf_tl": """\
@triton.jit
def _h_log_normal_cdf_tl(x):
    z = 0.7071067811865476 * tl.abs(x)
    t = 2.0 / (2.0 + z)
    p = _h_log_erfcx_tl(z, t)
    lower = tl.log(0.5 * t) + p - z * z
    return tl.where(x < 0, lower, _h_log1p_tl(-0.5 * t * tl.exp(p - z * z)))
""",
    "_h_inverse_mills_tl": """\
@triton.jit
def _h_inverse_mills_tl(x):
    z = 0.7071067811865476 * tl.abs(x)
    t = 2.0 / (2.0 + z)
    p = tl.exp(_h_log_erfcx_tl(z, t))
    e = tl.exp(-z * z)
    return tl.where(x < 0, 0.7978845608028654 / (t * p), 0.3989422804014327 * e / (1.0 - 0.5 * t * e * p))
""",
}

_NAME = re.compile(r"(?<!\w)_h_\w+")  # whole names: a pointer to the gradient of `h` is called d_h_ptr


def helper_sources(texts: Iterable[str], table: Mapping[str, str]) -> list[str]:
    """Sources of the helpers that `texts` call, and of those these call, in an order in which they can be defined.

    `table` is TORCH_HELPERS or TRITON_HELPERS. Raises KeyError for a helper that the table lacks.
    """
    needed: set[str] = set()
    pending = [name for text in texts for name in _NAME.findall(text)]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += _NAME.findall(table[name])
    return [source for name, source in table.items() if name in needed]
