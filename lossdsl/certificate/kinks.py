"""The variable in which branches and extrema change sides at numbers that floats have, if there is one.

Let x = y + u t with a number u > 0, and any finite y: t takes every real number as x does, whatever y is, and a derivative in x is
that in t divided by a power of u.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import gcd, lcm

from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.units import Scaled, Units, whole
from lossdsl.ir.nodes import REAL, Apply, Compare, Const, Read, Scalar, postorder
from lossdsl.ir.rewrite import substitute

EXTREMES = ("abs", "relu", "max2", "min2", "clamp")


def recentred(body: Scalar, entry: Scalar, still: Callable[[Scalar], bool]) -> tuple[Scalar, Scalar]:
    """The body, and its variable: the entry, or what it is more than what it is compared with. `still`: whether a scalar is a
    finite number wherever the entry is."""
    for n in _compared(body, entry):
        if isinstance(n, Apply) and n.name == "sub" and entry in n.args and n.args[0] is not n.args[1]:
            place = n.args[n.args[0] is entry]
            t, below = Apply("sub", (entry, place)), Apply("sub", (place, entry))
            found = substitute(body, {t: t, below: Apply("neg", (t,)), entry: Apply("add", (t, place))})
            if not isinstance(place, Const) and still(place) and place not in _compared(found, t):
                return found, t
    return body, entry


def rescaled(body: Scalar, variable: Scalar) -> tuple[Scalar, Scalar]:
    """The body, and its variable, which is divided by a number perhaps."""
    compared = [n for n in _compared(body, variable) if isinstance(n, Const) and n.dtype is REAL and n.value != 0]
    long = [n for n in compared if _is_long(n)]
    for numbers in (long, compared) if long else ():
        u = _measure([abs(n.value) for n in numbers if isinstance(n.value, Fraction)])
        t = Apply("div", (variable, Const(u)))
        with contextlib.suppress(Stuck):
            found = whole(Units((), {variable: Scaled(t, u)}).of(body))
            if not any(map(_is_long, _compared(found, t))):
                return found, t
    return body, variable


def _compared(body: Scalar, variable: Scalar) -> list[Scalar]:
    """What decides where kinks are, with all that it is made of, down to the variable."""
    of, stack = {variable}, list[Scalar]()
    for n in postorder(body):
        if not isinstance(n, Read) and not of.isdisjoint(n.children) and n is not variable:
            of.add(n)
            if isinstance(n, Compare) or (isinstance(n, Apply) and n.name in EXTREMES):
                stack.append(n)
    found: dict[Scalar, None] = {}
    while stack:
        n = stack.pop()
        if n not in found:
            found[n] = None
            stack += () if isinstance(n, Read) or n is variable else n.children
    return [*found]


def _measure(numbers: Sequence[Fraction]) -> Fraction:
    """The largest number of which all are multiples."""
    bottom = lcm(*(k.denominator for k in numbers))
    return Fraction(gcd(*(int(k * bottom) for k in numbers)), bottom)


def _is_long(n: Scalar) -> bool:
    """Whether it is a number that floats do not have."""
    if not isinstance(n, Const) or not isinstance(n.value, Fraction) or n.dtype is not REAL or abs(n.value) > 2**1000:
        return False
    return Fraction(float(n.value)) != n.value


__all__ = ["EXTREMES", "recentred", "rescaled"]
