"""Derivatives of normal forms: a derivation of the field, with the records' partials for what is not built in."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from lossdsl.primitives import PRIMITIVES
from lossdsl.verify.algebra import (
    _GENERATORS,
    Field,
    Form,
    TooLarge,
    _constant,
    minus,
    plus,
    power,
    quotient,
    slots_of,
    times,
)


class FormAlgebra:
    """The records' formulas over normal forms. A formula that branches (a kink) has no single form: TooLarge."""

    def __init__(self, field: Field) -> None:
        self.field = field

    def number(self, value: Fraction | int | float) -> Any:
        return Value(self, self.field.number(Fraction(value)))

    def __getattr__(self, name: str) -> Any:
        if name in ("select", "lt", "le", "eq", "both", "either") or name not in PRIMITIVES:
            raise TooLarge

        def call(*arguments: Any) -> Any:
            forms = [self.coerce(a) for a in arguments]
            return Value(self, self.field.apply(name, forms))

        return call

    def coerce(self, value: Any) -> Form:
        return value.form if isinstance(value, Value) else self.field.number(Fraction(value))


class Value:
    """A form with arithmetic notation."""

    def __init__(self, algebra: FormAlgebra, form: Form) -> None:
        self.algebra, self.form = algebra, form

    def _with(self, form: Form) -> Value:
        return Value(self.algebra, form)

    def __add__(self, other: Any) -> Value:
        return self._with(plus(self.form, self.algebra.coerce(other)))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Value:
        return self._with(plus(self.form, minus(self.algebra.coerce(other))))

    def __rsub__(self, other: Any) -> Value:
        return self._with(plus(self.algebra.coerce(other), minus(self.form)))

    def __mul__(self, other: Any) -> Value:
        return self._with(times(self.form, self.algebra.coerce(other)))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Value:
        return self._with(times(self.form, power(self.algebra.coerce(other), -1)))

    def __rtruediv__(self, other: Any) -> Value:
        return self._with(times(self.algebra.coerce(other), power(self.form, -1)))

    def __neg__(self) -> Value:
        return self._with(minus(self.form))


def derivative(field: Field, f: Form, slot: int) -> Form:
    """d f / d leaf, the leaf being generator `slot`. Raises TooLarge."""
    memo: dict[int, Form] = {}

    def of_form(g: Form) -> Form:
        total = field.number(0)
        for s in sorted(slots_of(g)):
            inner = of_generator(s)
            if inner.zero:
                continue
            dn, dd = g.num.derivative(s), g.den.derivative(s)
            outer = quotient(dn * g.den - g.num * dd, g.den * g.den)
            total = plus(total, times(outer, inner))
        return total

    def of_generator(s: int) -> Form:
        if s in memo:
            return memo[s]
        generator = field.generators[s]
        if s == slot:
            result = field.number(1)
        elif not generator.arguments:
            result = field.number(0)
        else:
            result = field.number(0)
            inner = [of_form(a) for a in generator.arguments]
            for k, d in enumerate(inner):
                if not d.zero:
                    result = plus(result, times(_partial(field, s, k), d))
        memo[s] = result
        return result

    return of_form(f)


def _partial(field: Field, slot: int, k: int) -> Form:
    generator = field.generators[slot]
    itself = Form(_GENERATORS[slot], _constant(1))
    first = generator.arguments[0]
    match generator.name:
        case "exp":
            return itself
        case "log":
            return power(first, -1)
        case "softplus":
            return field.sigmoid(first)
        case "sqrt":
            return power(times(itself, field.number(2)), -1)
    record = PRIMITIVES[generator.name]
    formula = record.partials[k]
    if record.kinks:  # a corner that was not split away
        raise TooLarge
    if formula is None:
        return field.number(0)
    algebra = FormAlgebra(field)
    result = formula(algebra, *(Value(algebra, a) for a in generator.arguments))
    return algebra.coerce(result)
