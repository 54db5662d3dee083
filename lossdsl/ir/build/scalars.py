"""Small constructions of scalars: exact constants are folded, everything else stays as written."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir.build.affine import (
    integer,
)
from lossdsl.ir.nodes import (
    Apply,
    Const,
    Scalar,
    Size,
)
from lossdsl.primitives.record import Dtype
from lossdsl.syntax import tree

FOLD_BITS = 256


def strip(node: tree.Expr) -> tree.Expr:
    """The expression without parentheses around it."""
    while isinstance(node, tree.Paren):
        node = node.inner
    return node


def kind_text(value: Scalar) -> str:
    names = {Dtype.REAL: "a real number", Dtype.INT: "an integer", Dtype.BOOL: "a condition"}
    return names[value.dtype]


def small(value: Fraction) -> bool:
    return value.numerator.bit_length() <= FOLD_BITS and value.denominator.bit_length() <= FOLD_BITS


def negate(value: Scalar) -> Scalar:
    """`-value`; constants are folded, there is no negative zero."""
    if isinstance(value, Const):
        if isinstance(value.value, Fraction):
            return Const(-value.value, value.kind)
        return Const({"inf": "-inf", "-inf": "inf"}.get(value.value, value.value), value.kind)
    return Apply("neg", (value,))


def arithmetic(name: str, a: Scalar, b: Scalar) -> Scalar:
    """`a op b`; exact constants are folded up to 256 bits, everything else stays as written."""
    if (
        isinstance(a, Const)
        and isinstance(b, Const)
        and isinstance(a.value, Fraction)
        and isinstance(b.value, Fraction)
    ):
        operations: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
            "add": lambda x, y: x + y,
            "sub": lambda x, y: x - y,
            "mul": lambda x, y: x * y,
            "div": lambda x, y: x / y,
        }
        value = operations[name](a.value, b.value)
        if small(value):
            return Const(value, a.kind)
    return Apply(name, (a, b))


def whole_power(base: Scalar, exponent: int) -> Scalar:
    """`base ^ exponent` for a whole exponent, as the registry represents it."""
    return Apply("powi", (base, integer(exponent)))


def size_scalar(dim: Dim) -> Scalar:
    """The extent as an INT scalar."""
    constant = dim.number
    return integer(max(0, constant)) if constant is not None else Size(dim)
