"""Reductions and orders of enclosures: what `head over ... of values` certainly is.

Whatever depends on the order of values whose enclosures overlap raises Undecided; equal numbers are in the order of their
places, as the language says (`ir.nodes.Definition`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cmp_to_key

from lossdsl.ir.nodes import Apply, Param
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import transfer, truth

Place = tuple[int, ...]


class Undecided(Exception):
    """A condition or an index is not decided by the enclosures, or the point is outside what can be run."""


def every_place(shape: Sequence[int]) -> Iterator[Place]:
    """Every place of a shape, row by row, one at a time: what is too long is given up after some of them."""
    if not shape:
        yield ()
        return
    for first in range(shape[0]):
        for rest in every_place(shape[1:]):
            yield (first, *rest)


def fold(head: str, values: list[Enclosure]) -> Enclosure:
    """The value of a reduction that yields a number or a truth. Raises Undecided."""
    total = Enclosure(0.0, 0.0)
    if head == "count":
        return Enclosure(float(len(values)), float(len(values)))
    if head == "sum":
        for v in values:
            total = e.add(total, v)
        return total
    if head == "prod":
        total = Enclosure(1.0, 1.0)
        for v in values:
            total = e.mul(total, v)
        return total
    if head in ("any", "all"):
        bits = [truth(v) for v in values]
        if None in bits:
            raise Undecided("a condition at the edge")
        holds = float(any(bits) if head == "any" else all(bits))
        return Enclosure(holds, holds)
    if head in ("max", "min"):
        if not values:
            raise Undecided("an extremum of nothing")
        pick = max if head == "max" else min
        return Enclosure(pick(v.lo for v in values), pick(v.hi for v in values), nan=any(v.nan for v in values))
    if head == "logsumexp":
        return _log_sum_exp([v for v in values if not v.lo == v.hi == -INF])
    raise Undecided(f"no value for {head}")


def _log_sum_exp(values: list[Enclosure]) -> Enclosure:
    """Of values above -inf (exp(-inf) adds nothing); over nothing it is -inf."""
    if not values:
        return Enclosure(-INF, -INF)
    if not all(v.finite for v in values):
        raise Undecided("no value for logsumexp")
    top = max(v.hi for v in values)
    if top == INF:
        raise Undecided("no value for logsumexp")
    shift, total = e.exact(Fraction(top)), Enclosure(0.0, 0.0)
    for v in values:
        total = e.add(total, transfer(_EXP, [e.sub(v, shift)]))
    return e.add(shift, transfer(_LOG, [total]))


def winner(head: str, chosen: list[tuple[Place, Enclosure]], shape: tuple[int, ...]) -> Enclosure:
    """The (row-major flat) place of the first extremum, if the enclosures leave no doubt; `shape`: of the reduced axes."""
    sign = 1.0 if head == "argmax" else -1.0
    for k, (at, v) in enumerate(chosen):
        low = v.lo if sign > 0 else -v.hi
        before = all((u.hi if sign > 0 else -u.lo) < low for _, u in chosen[:k])
        after = all((u.hi if sign > 0 else -u.lo) <= low for _, u in chosen[k + 1 :])
        if before and after and not any(u.nan for _, u in chosen):
            return _integer(flat(at, shape))
    raise Undecided(f"no certain {head}")


def sorted_places(chosen: list[tuple[Place, Enclosure]], left_out: list[Place], shape: tuple[int, ...]) -> list[int]:
    """The flat places in ascending order of the values, equal ones by place; those that are left out follow by place.
    Raises Undecided where two values cannot be told apart."""

    def order(a: tuple[int, Enclosure], b: tuple[int, Enclosure]) -> int:
        (i, u), (j, v) = a, b
        if u.hi < v.lo or (u.hi == v.lo and (u.hi_open or v.lo_open)):
            return -1
        if v.hi < u.lo or (v.hi == u.lo and (v.hi_open or u.lo_open)):
            return 1
        if u.lo == u.hi == v.lo == v.hi:
            return -1 if i < j else 1
        raise Undecided("no certain argsort")

    if any(v.nan for _, v in chosen):
        raise Undecided("an order of what may be undefined")
    pairs = sorted(((flat(at, shape), v) for at, v in chosen), key=cmp_to_key(order))
    return [k for k, _ in pairs] + sorted(flat(at, shape) for at in left_out)


def whole(name: str, values: list[Fraction]) -> Fraction:
    """`floordiv`, `mod`, `floor` or `ceil` of exact numbers. Raises Undecided for a division by 0."""
    if len(values) == 2 and values[1] == 0:
        raise Undecided(f"{name} by 0")
    match name:
        case "floordiv":
            return Fraction(values[0] // values[1])
        case "mod":
            return values[0] % values[1]
        case "floor":
            return Fraction(values[0] // 1)
        case "ceil":
            return Fraction(-(-values[0] // 1))
    raise Undecided(f"no value of {name}")


def flat(place: Place, shape: tuple[int, ...]) -> int:
    """The row-major position of a place."""
    at = 0
    for v, size in zip(place, shape, strict=True):
        at = at * size + v
    return at


def determinant(rows: list[list[Enclosure]]) -> Enclosure:
    """By expansion along the first row."""
    if not rows:
        return Enclosure(1.0, 1.0)
    total = Enclosure(0.0, 0.0)
    for k, a in enumerate(rows[0]):
        minor = determinant([row[:k] + row[k + 1 :] for row in rows[1:]])
        term = e.mul(a, minor)
        total = e.sub(total, term) if k % 2 else e.add(total, term)
    return total


_LARGEST_MATRIX = 4


def inverse_entry(rows: list[list[Enclosure]], i: int, j: int) -> Enclosure:
    """An entry of the inverse, by cofactors. Raises Undecided for large and possibly singular matrices."""
    if len(rows) > _LARGEST_MATRIX:
        raise Undecided("a large matrix")
    whole = determinant(rows)
    if not whole.nonzero:
        raise Undecided("a matrix that may be singular")
    minor = determinant([row[:i] + row[i + 1 :] for k, row in enumerate(rows) if k != j])
    return e.div(e.neg(minor) if (i + j) % 2 else minor, whole)


def log_determinant(rows: list[list[Enclosure]]) -> Enclosure:
    """log |det|. Raises Undecided for large and possibly singular matrices."""
    if len(rows) > _LARGEST_MATRIX:
        raise Undecided("a large matrix")
    whole = determinant(rows)
    if not whole.nonzero:
        raise Undecided("a matrix that may be singular")
    return transfer(_LOG, [e.absolute(whole)])


def _integer(k: int) -> Enclosure:
    return Enclosure(float(k), float(k))


_EXP = Apply("exp", (Param("#x"),))
_LOG = Apply("log", (Param("#x"),))
assert isinstance(_EXP, Apply)
assert isinstance(_LOG, Apply)

__all__ = [
    "Undecided",
    "determinant",
    "flat",
    "fold",
    "inverse_entry",
    "log_determinant",
    "sorted_places",
    "winner",
]
