"""The algebra in which a record's formulas build IR nodes (differentiation, stabilisation, lowering)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from lossdsl import primitives
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import INT, REAL, Apply, Compare, Scalar


class NodeAlgebra:
    """`Algebra` over scalars: `o.exp(x)` is `Apply("exp", (x,))`; Python numbers become constants of the other
    operand's dtype. Nothing is simplified."""

    def number(self, value: Fraction | int | float) -> Scalar:
        return ir.number(value)

    def select(self, condition: Scalar, a: Scalar | int | Fraction, b: Scalar | int | Fraction) -> Scalar:
        left, right = _pair(a, b)
        return ir.Select(condition, left, right)

    def lt(self, a: Scalar | int | Fraction, b: Scalar | int | Fraction) -> Scalar:
        return Compare("<", *_pair(a, b))

    def le(self, a: Scalar | int | Fraction, b: Scalar | int | Fraction) -> Scalar:
        return Compare("<=", *_pair(a, b))

    def eq(self, a: Scalar | int | Fraction, b: Scalar | int | Fraction) -> Scalar:
        return Compare("==", *_pair(a, b))

    def both(self, a: Scalar, b: Scalar) -> Scalar:
        return ir.And((a, b))

    def either(self, a: Scalar, b: Scalar) -> Scalar:
        return ir.Or((a, b))

    def negate(self, a: Scalar) -> Scalar:
        return ir.Not(a)

    def __getattr__(self, name: str) -> Callable[..., Scalar]:
        if name.startswith("_"):
            raise AttributeError(name)

        def build(*args: Any) -> Scalar:
            integral = any(isinstance(a, Scalar) and a.dtype is INT for a in args)
            record = primitives.PRIMITIVES.get(name)
            accepts = record.accepts if record is not None else (REAL,) * len(args)
            if integral and all(k is REAL for k in accepts):
                accepts = (INT,) * len(args)  # exact integer arithmetic
            return Apply(name, tuple(ir.number(a, k) for a, k in zip(args, accepts, strict=True)))

        return build


def _pair(a: Scalar | int | Fraction, b: Scalar | int | Fraction) -> tuple[Scalar, Scalar]:
    dtype = a.dtype if isinstance(a, Scalar) else b.dtype if isinstance(b, Scalar) else REAL
    return ir.number(a, dtype), ir.number(b, dtype)


NODES = NodeAlgebra()
