"""Algebras in which the formulas of the records are evaluated: numpy, intervals, mpmath, SymPy.

An algebra `o` has `o.NAME(...)` for every primitive, `number`, `select`, comparisons, `both` and `either`; its values
support + - * / and unary minus with each other and with ints (see `record.Algebra`). The algebra of IR nodes lives
with the IR.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np

from lossdsl.primitives import PRIMITIVES
from lossdsl.primitives.interval import Interval

Numeric = Fraction | int | float


class NumpyAlgebra:
    """float64 scalars or arrays; conditions are bool arrays, and `select` computes both branches."""

    def number(self, value: Numeric) -> Any:
        return value if isinstance(value, int) else np.float64(value)

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        return np.where(condition, a, b)[()]

    def lt(self, a: Any, b: Any) -> Any:
        return a < b

    def le(self, a: Any, b: Any) -> Any:
        return a <= b

    def eq(self, a: Any, b: Any) -> Any:
        return a == b

    def both(self, a: Any, b: Any) -> Any:
        return a & b

    def either(self, a: Any, b: Any) -> Any:
        return a | b

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return _of_record(name, "numpy")


class IntervalAlgebra:
    """Enclosures. A condition is True, False or None (undecided on the box); `select` on None is the hull.

    The two branches are computed on the whole box, so the result encloses the formula wherever it is defined.
    """

    def number(self, value: Numeric) -> Interval:
        return Interval.exact(value)

    def select(self, condition: bool | None, a: Interval | int, b: Interval | int) -> Interval:
        first, second = _as_interval(a), _as_interval(b)
        if condition is None:
            return first.hull(second)
        return first if condition else second

    def lt(self, x: Interval | int, y: Interval | int) -> bool | None:
        a, b = _as_interval(x), _as_interval(y)
        return True if a.hi < b.lo else False if a.lo >= b.hi else None

    def le(self, x: Interval | int, y: Interval | int) -> bool | None:
        a, b = _as_interval(x), _as_interval(y)
        return True if a.hi <= b.lo else False if a.lo > b.hi else None

    def eq(self, x: Interval | int, y: Interval | int) -> bool | None:
        a, b = _as_interval(x), _as_interval(y)
        if a.hi < b.lo or b.hi < a.lo:
            return False
        return True if a.lo == a.hi == b.lo == b.hi else None

    def both(self, a: bool | None, b: bool | None) -> bool | None:
        if a is False or b is False:
            return False
        return None if a is None or b is None else True

    def either(self, a: bool | None, b: bool | None) -> bool | None:
        if a is True or b is True:
            return True
        return None if a is None or b is None else False

    def __getattr__(self, name: str) -> Callable[..., Interval]:
        function = _of_record(name, "enclose")
        return lambda *arguments: function(*map(_as_interval, arguments))


class MpmathAlgebra:
    """mpmath numbers at the precision of the context that is passed (`mpmath.mp`); conditions are Python bools."""

    def __init__(self, context: Any) -> None:
        self.mp = context

    def number(self, value: Numeric) -> Any:
        if isinstance(value, Fraction):
            return self.mp.mpf(value.numerator) / value.denominator
        return self.mp.mpf(value)

    def select(self, condition: bool, a: Any, b: Any) -> Any:
        return a if condition else b

    def lt(self, a: Any, b: Any) -> bool:
        return bool(a < b)

    def le(self, a: Any, b: Any) -> bool:
        return bool(a <= b)

    def eq(self, a: Any, b: Any) -> bool:
        return bool(a == b)

    def both(self, a: bool, b: bool) -> bool:
        return a and b

    def either(self, a: bool, b: bool) -> bool:
        return a or b

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = _of_record(name, "reference")
        return lambda *arguments: function(self.mp, *arguments)


class SympyAlgebra:
    """Ordinary SymPy expressions; a select becomes a Piecewise."""

    def __init__(self) -> None:
        import sympy

        self.sp: Any = sympy

    def number(self, value: Numeric) -> Any:
        if isinstance(value, float):
            if value in (inf, -inf):
                return self.sp.oo if value > 0 else -self.sp.oo
            value = Fraction(value)
        return self.sp.Rational(value.numerator, value.denominator)

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        return self.sp.Piecewise((a, condition), (b, True))

    def lt(self, a: Any, b: Any) -> Any:
        return self.sp.Lt(a, b)

    def le(self, a: Any, b: Any) -> Any:
        return self.sp.Le(a, b)

    def eq(self, a: Any, b: Any) -> Any:
        return self.sp.Eq(a, b)

    def both(self, a: Any, b: Any) -> Any:
        return self.sp.And(a, b)

    def either(self, a: Any, b: Any) -> Any:
        return self.sp.Or(a, b)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = _of_record(name, "sympy")
        return lambda *arguments: function(self.sp, *arguments)


def _as_interval(value: Interval | int) -> Interval:
    return value if isinstance(value, Interval) else Interval.exact(value)


def _of_record(name: str, facet: str) -> Callable[..., Any]:
    try:
        record = PRIMITIVES[name]
    except KeyError:
        raise AttributeError(f"no primitive is named {name!r}") from None
    function: Callable[..., Any] = getattr(record, facet)
    return function
