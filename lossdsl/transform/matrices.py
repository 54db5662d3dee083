"""Derivatives of the log-determinant and the inverse of a matrix, in the same heads.

With P the inverse of B: the derivative of log |det B| in B[i, j] is P[j, i], and dP = -P dB P. A matrix without an inverse
(where P is nan) gets the adjoint 0, so that nothing comes back from one that no value reads.
"""

from __future__ import annotations

from dataclasses import replace

from lossdsl.ir.nodes import REAL, TRUE, ZERO, Apply, Compare, Definition, Read, Scalar, Select
from lossdsl.ir.rewrite import Fresh, fresh_index
from lossdsl.transform.arithmetic import mul


def inverse_of(d: Definition, names: Fresh) -> Definition:
    """The inverse of the matrix whose log-determinant `d` is."""
    taken = [*d.formals, *d.bound]
    row = fresh_index(d.bound[0], taken)
    column = fresh_index(d.bound[1], [*taken, row])
    name = names(f"{d.tensor}.inverse")
    return replace(d, tensor=name, formals=(*d.formals, row, column), head="inverse", comment=None)


def logdet_weight(d: Definition, inverse: str) -> Scalar:
    """The derivative of a log-determinant in the entry of its matrix at the bound indices."""
    entry = Read(inverse, (*d.formals, d.bound[1], d.bound[0]), REAL)
    return _where_defined(entry, entry)


def _where_defined(entry: Scalar, value: Scalar) -> Scalar:
    """The value; 0 where there is no inverse, of which `entry` is an entry."""
    return Select(Compare("==", entry, entry), value, ZERO)


def adjoint_of_matrix(d: Definition, adjoint: Scalar, names: Fresh) -> tuple[list[Definition], Scalar]:
    """The adjoint of the matrix that `d` inverts, at the bound indices of `d`, from the adjoint of the inverse at its
    formals: -P^T G P^T, as two products."""
    *outer, row, column = d.formals
    i, j = d.bound
    half = Definition(
        names(f"{d.tensor}'.left"),
        (*outer, i, column),
        "sum",
        (row,),
        TRUE,
        mul(Read(d.tensor, (*outer, row, i), REAL), adjoint),
        origin=d.origin,
    )
    whole = Definition(
        names(f"{d.tensor}'.matrix"),
        (*outer, i, j),
        "sum",
        (column,),
        TRUE,
        Apply("neg", (mul(Read(half.tensor, (*outer, i, column), REAL), Read(d.tensor, (*outer, j, column), REAL)),)),
        origin=d.origin,
    )
    return [half, whole], _where_defined(Read(d.tensor, (*outer, j, i), REAL), Read(whole.tensor, whole.formals, REAL))


def tangent_of_inverse(d: Definition, body: Scalar, name: str, names: Fresh) -> list[Definition]:
    """The tangent of an inverse from that of its matrix: -P dB P, as two products. The last one has the name."""
    *outer, row, column = d.formals
    i, j = d.bound
    half = Definition(
        names(f"{name}.right"),
        (*outer, i, column),
        "sum",
        (j,),
        TRUE,
        mul(body, Read(d.tensor, (*outer, j, column), REAL)),
        origin=d.origin,
    )
    product = mul(Read(d.tensor, (*outer, row, i), REAL), Read(half.tensor, half.formals, REAL))
    return [half, Definition(name, d.formals, "sum", (i,), TRUE, Apply("neg", (product,)), origin=d.origin)]
