"""Segments inside of the domain on which an element is affine: it is neither strictly convex nor strictly concave.

entries that are not read   of a row of an input of which the element reads another entry: it does not depend on them
constant under a shift      of entries of one input by numbers that are the same along some of its axes (`shifts`)
affine close to a point     at 1 / t of the way from a point to another one it is c + d / t, for all large t (`paths`)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.domain import Point, admit
from lossdsl.certificate.lines import line_of, moved_along, simple
from lossdsl.certificate.paths import straight
from lossdsl.certificate.points import Place, Undecided, Values, ball, certain
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.shifts import Shifts, written
from lossdsl.dim import Dim

UNREAD, SHIFTED, AFFINE = "entries that are not read", "constant under a shift", "affine close to a point"
_PARTS = (Fraction(0), Fraction(1, 2), Fraction(1))
_TRIED = 64  # entries
Steps = Mapping[tuple[str, Place], Fraction]


def _unread(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Stuck unless one entry moves that the element does not read, of a row of which it reads one.

    Which entries are read, and the value, follow from the entries that are read; so it is one value on the segment. The row is
    what has the place of an entry that is read along the axes that the element has, too: along those, every element has
    entries of its own, and none is about those of another one.
    """
    point, steps = line_of(q, entry)
    if len(steps) != 1:
        raise Stuck("not one entry moves")
    ((name, place),) = steps
    _admit_all(q, (point, steps))
    read = _read(q, entry, point)
    own = _own_axes(q, name)
    if (name, place) in read:
        raise Stuck("the entry is read")
    if not any(n == name and all(p[k] == place[k] for k in own) for n, p in read):
        raise Stuck("the element reads nothing of the row")
    return {"values": [f"{n}{list(p)}" for n, p in sorted(read) if n == name]}


def _own_axes(q: Question, name: str) -> list[int]:
    """The axes of an input that the target has, too."""
    d, declared = q.program.definition(q.of), q.program.input(name)
    if d is None or declared is None:
        raise Stuck(f"{name} is no input")
    formals: set[Dim] = {f.dim for f in d.formals}
    return [k for k, dim in enumerate(declared.dims) if dim in formals]


def _read(q: Question, entry: Mapping[str, Any], point: Point) -> set[tuple[str, Place]]:
    """The entries that the element reads at a point at which it has a value. Raises Stuck."""
    found: set[tuple[str, Place]] = set()

    def finite(v: Values) -> bool:
        value = v.element(q.of, tuple(int(p) for p in entry["place"]))
        if isinstance(value, bool) or not ball(value).is_finite():
            raise Undecided
        found.clear()
        found.update(v.read)
        return True

    certain(finite, lambda: Values(q.program, *point))
    return found


def _admit_all(q: Question, line: tuple[Point, Steps]) -> None:
    for t in _PARTS:
        admit(q, moved_along(line[0], line[1], t), inside=True)


def _shifted(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Stuck unless the points are apart by a shift that the element does not answer to, of entries of which it reads
    some. It has a value at both and between them, so that it is one value on the segment."""
    point, steps = line_of(q, entry)
    names = {name for name, _ in steps}
    if len(names) != 1:
        raise Stuck("more than one input moves")
    (name,) = names
    along = frozenset(int(k) for k in entry["along"])
    _check_shift(point, steps, name, along)
    _admit_all(q, (point, steps))
    for t in _PARTS:
        if not any(key in steps for key in _read(q, entry, moved_along(point, steps, t))):
            raise Stuck("the element reads none of what moves")
    shifts = Shifts(Bounds(q.program, q.assume), name, along)
    if shifts.tensor(q.of):
        raise Stuck(f"{q.of} moves: {written(shifts.tensor(q.of))}")
    needed = shifts.bounds.needed(q.of)
    return {
        "along": sorted(along),
        "values": [f"{d.tensor}: {written(shifts.tensor(d.tensor))}" for d in needed],
    }


def _check_shift(point: Point, steps: Steps, name: str, along: frozenset[int]) -> None:
    """Raises Stuck unless all entries that differ along these axes alone move by the same."""
    by: dict[Place, set[Fraction]] = {}
    for place in point[2][name]:
        row = tuple(v for k, v in enumerate(place) if k not in along)
        by.setdefault(row, set()).add(steps.get((name, place), Fraction(0)))
    if not along or any(len(some) != 1 for some in by.values()):
        raise Stuck("not a shift along the axes")


def _affine(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Stuck unless the element is c + d / t at 1 / t of the way, exactly, for all t from a start on."""
    point, steps = line_of(q, entry)
    start, values = straight(q.program, (point, steps), q.of, tuple(int(p) for p in entry["place"]))
    for t in (Fraction(1, start), Fraction(1, 2 * start), Fraction(1, 4 * start)):
        admit(q, moved_along(point, steps, t), inside=True)
    return {"start": str(start), "values": values}


STRAIGHT: dict[str, Callable[[Question, Mapping[str, Any]], dict[str, Any]]] = {
    UNREAD: _unread,
    SHIFTED: _shifted,
    AFFINE: _affine,
}


# ---------------------------------------------------------------------------------------- where they may be


def segments(q: Question, rule: str, points: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Two points to try, and the axes of a shift: those of a witness, what is beside its first one, and simple ones."""
    given = [points] if len(points) == 2 else []
    if rule == AFFINE:
        base = simple(q, Fraction(0))
        yield from ({"points": two} for two in (*given, [base, _raised(q, base)]))
        return
    bases = [*points[:1], simple(q, Fraction(1), 2)]  # with two entries along each axis
    if rule == UNREAD:
        for base in bases:
            for n, v in itertools.islice(_raised(q, base).items(), _TRIED):
                yield {"points": [base, {n: v}]}
        return
    for name in q.inputs:
        declared = q.program.input(name)
        axes = range(len(declared.dims) if declared is not None else 0)
        moved = [[b, {n: v for n, v in _raised(q, b).items() if n.partition("[")[0] == name}] for b in bases]
        for along in (*([k] for k in axes), [*axes]):
            yield from ({"points": two, "along": along} for two in (*given, *moved))


def _raised(q: Question, point: Mapping[str, str]) -> dict[str, str]:
    """The entries of what moves, each 1 more."""
    return {n: str(Fraction(v) + 1) for n, v in point.items() if n.partition("[")[0] in q.inputs}


__all__ = ["AFFINE", "SHIFTED", "STRAIGHT", "UNREAD", "segments"]
