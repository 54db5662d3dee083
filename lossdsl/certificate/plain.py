"""Elements in a plainer form, with the same values: numbers computed, branches that numbers decide taken, and exponentials of
multiples of logarithms written as powers: exp(k log x) = x^k for x > 0. At 0 it is 0 or infinite, as the power is; below it,
both have no value where k is no integer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction

from lossdsl.ir.nodes import INT, Apply, Compare, Const, Scalar, Select
from lossdsl.ir.rewrite import transform

_ONE = Const(1)
_HOLDS: dict[str, Callable[..., bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def plain(body: Scalar) -> Scalar:
    return transform(body, _step)


def _step(n: Scalar) -> Scalar:
    if isinstance(n, Select) and isinstance(n.condition, Compare):
        sides = [_number(s) for s in n.condition.children]
        if None not in sides:
            return n.a if _HOLDS[n.condition.op](*sides) else n.b
    if isinstance(n, Apply) and (k := _number(n)) is not None:
        return Const(k)
    if isinstance(n, Apply) and n.name in ("mul", "div") and n.args[1] == _ONE:
        return n.args[0]
    if isinstance(n, Apply) and n.name == "mul" and n.args[0] == _ONE:
        return n.args[1]
    return _power(n)


def _power(n: Scalar) -> Scalar:
    if not isinstance(n, Apply) or n.name not in ("exp", "expm1"):
        return n
    for k, log in _products(n.args[0]):
        if k.denominator > 1 and isinstance(log, Apply) and log.name in ("log", "log1p"):
            base = log.args[0] if log.name == "log" else Apply("add", (_ONE, log.args[0]))
            power = Apply("pow", (base, Const(k)))
            return power if n.name == "exp" else Apply("sub", (power, _ONE))
    return n


def _products(n: Scalar) -> list[tuple[Fraction, Scalar]]:
    """A scalar as a number times another one."""
    if isinstance(n, Apply) and n.name == "mul":
        return [(k, other) for a, other in (n.args, n.args[::-1]) if (k := _number(a)) is not None]
    if isinstance(n, Apply) and n.name == "div" and (k := _number(n.args[1])):
        return [(1 / k, n.args[0])]
    return []


def _number(n: Scalar) -> Fraction | None:
    """The number that a scalar of constants is."""
    if isinstance(n, Const) and isinstance(n.value, Fraction) and n.dtype is not INT:
        return n.value
    if not isinstance(n, Apply) or n.name not in ("add", "sub", "mul", "div") or n.dtype is INT:
        return None
    a, b = (_number(x) for x in n.args)
    if a is None or b is None or (n.name == "div" and not b):
        return None
    return {"add": a + b, "sub": a - b, "mul": a * b, "div": a / (b or 1)}[n.name]


__all__ = ["plain"]
