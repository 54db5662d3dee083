"""Scalars that another is at least, or at most, wherever it has a value; and scalars that are affine in one below them.

tangents    a convex function is above its tangents: exp u >= 1 + u, expm1 u >= u, softplus u >= u, |u| >= u and -u;
            a concave one below: log u <= u - 1, log1p u <= u, logsigmoid u <= u (Boyd and Vandenberghe, 3.1.3)
affine      a function that is affine in x is >= 0 on an interval if it is at both ends; on [a, inf) if it is at a and
            not smaller at a + 1
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from lossdsl.ir.nodes import (
    ONE,
    REAL,
    AdjointMap,
    Apply,
    Const,
    Param,
    Proxy,
    Read,
    Scalar,
    Select,
    Stop,
    postorder,
)
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.pieces import fold


def below(m: Scalar) -> Iterator[Scalar]:
    """What the scalar is at least."""
    if not isinstance(m, Apply):
        return
    match m.name:
        case "expm1" | "softplus" | "relu":
            yield m.args[0]
        case "exp":
            yield Apply("add", (m.args[0], ONE))
        case "abs":
            yield m.args[0]
            yield Apply("neg", m.args)
        case "max2" | "logaddexp":
            yield from m.args


def above(m: Scalar) -> Iterator[Scalar]:
    """What the scalar is at most."""
    if not isinstance(m, Apply):
        return
    match m.name:
        case "log1p" | "logsigmoid":
            yield m.args[0]
        case "log":
            yield Apply("sub", (m.args[0], ONE))
        case "min2":
            yield from m.args


def leaves(terms: list[Scalar]) -> list[Scalar]:
    """Reads and parameters, real or taken as real, below a product of the terms."""
    found: dict[Scalar, None] = {}
    for m in terms:
        for n in postorder(m):
            if isinstance(n, Apply) and n.name == "mul":
                for a in n.args:
                    found.update((k, None) for k in postorder(a) if _leaf(k))
    return list(found)


def _leaf(n: Scalar) -> bool:
    if isinstance(n, Apply) and n.name == "real":
        return isinstance(n.args[0], Read)
    return isinstance(n, (Read, Param)) and n.dtype is REAL


def affine(m: Scalar, x: Scalar) -> bool:
    """Whether the scalar is affine in the one below it, everything else fixed."""
    if m is x or not any(n is x for n in postorder(m)):
        return True
    match m:
        case Stop() | AdjointMap():
            return affine(m.a, x)
        case Proxy():
            return affine(m.value, x)
        case Select():
            return not any(n is x for n in postorder(m.condition)) and affine(m.a, x) and affine(m.b, x)
        case Apply(name="add" | "sub" | "neg"):
            return all(affine(a, x) for a in m.args)
        case Apply(name="mul"):
            moving = [a for a in m.args if any(n is x for n in postorder(a))]
            return len(moving) == 1 and affine(moving[0], x)
        case Apply(name="div"):
            return not any(n is x for n in postorder(m.args[1])) and affine(m.args[0], x)
    return False


def at(m: Scalar, x: Scalar, value: Fraction) -> Scalar:
    """The scalar with a number for the one below it."""
    return fold(substitute(m, {x: Const(value)}))


def ends(box: Enclosure) -> tuple[Fraction, Fraction | None] | None:
    """The ends of an interval that is closed below, None for an infinite upper one; None if it has no lower one."""
    if box.nan or box.lo == -INF or not box.finite:
        return None
    return Fraction(box.lo), None if box.hi == INF else Fraction(box.hi)


__all__ = ["above", "affine", "at", "below", "ends", "leaves"]
