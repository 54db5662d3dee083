"""Preparations for derivatives: a maximum becomes a gather at its winner, a product becomes products of one index.

`d = max b where w . body` is split into `i = argmax b where w . body` and `d = body[b := i]`: the winner is an index,
found once. Comparing `body == d` again, in another place and perhaps another precision, loses winners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    INT,
    ONE,
    REAL,
    TRUE,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Program,
    Read,
    Scalar,
    Select,
    Size,
    postorder,
)
from lossdsl.ir.rewrite import Fresh, free_indices, members, substitute
from lossdsl.transform.affine import extent
from lossdsl.transform.arithmetic import conjunction, select
from lossdsl.transform.eliminate import Facts, within


def expose_winners(program: Program, active: set[str]) -> Program:
    """The same program with every active `max` and `min` as a gather through `argmax` or `argmin`."""
    names = Fresh.of(program)
    body: list[Definition | Group] = []
    for item in program.body:
        made = [
            _gathered(d, names, turn=isinstance(item, Group) and _chooses_a_turn(d, item))
            if d.head in ("max", "min") and d.tensor in active
            else (d,)
            for d in members(item)
        ]
        flat = tuple(d for ds in made for d in ds)
        if isinstance(item, Group):
            body.append(replace(item, definitions=flat))
        else:
            body.extend(flat)
    return program.with_body(tuple(body))


def _chooses_a_turn(d: Definition, group: Group) -> bool:
    """Whether the reduction goes over turns of the recurrence."""
    own = {m.tensor: [i.name for i in m.formals] for m in group.definitions}
    axes = {axis for axis, _ in group.order}
    for n in postorder(d.body):
        if isinstance(n, Read) and n.tensor in own:
            ordered = [index for name, index in zip(own[n.tensor], n.indices, strict=True) if name in axes]
            if set(d.bound) & set(free_indices(*ordered)):
                return True
    return False


def _gathered(d: Definition, names: Fresh, *, turn: bool) -> tuple[Definition, Definition]:
    """The winner and what it reads; `turn`: of a recurrence that the winner chooses; the text has to say that it is an
    earlier one."""
    winner = names(f"{d.tensor}.arg")
    place = replace(d, tensor=winner, head=f"arg{d.head}", comment=None)
    flat: Scalar = Read(winner, d.formals, INT)
    at = positions(flat, d.bound)
    value = substitute(d.body, dict(zip(d.bound, at, strict=True)))
    guards: list[Scalar] = []
    every = volume(d.bound)
    if d.where is TRUE and not turn and (every.constant or 0) <= 0:
        guards = [Compare(">", extent(every), Const(0, INT))]
    if d.where is not TRUE or turn:
        guards = list(within(flat, volume(d.bound), Facts()))
    if turn and d.where is not TRUE:
        guards.append(substitute(d.where, dict(zip(d.bound, at, strict=True))))
    body = select(conjunction(guards), value, Const("-inf" if d.head == "max" else "inf"))
    return place, replace(d, head="map", bound=(), where=TRUE, body=body)


def volume(bound: tuple[Index, ...]) -> Dim:
    """The number of index tuples, `where` left aside."""
    volume = Dim.const(1)
    for i in bound:
        volume = volume * i.dim
    return volume


def flat(bound: Sequence[Index]) -> Scalar:
    """The row-major position of index variables."""
    total: Scalar = bound[0]
    for i in bound[1:]:
        total = Apply("add", (Apply("mul", (total, Size(i.dim))), i))
    return total


def positions(flat: Scalar, bound: tuple[Index, ...]) -> list[Scalar]:
    """The position along each bound index that a row-major flat position stands for."""
    found: list[Scalar] = []
    for k, i in enumerate(bound):
        inner = volume(bound[k + 1 :])
        one = inner.constant == 1
        value = flat if one else Apply("floordiv", (flat, extent(inner)))
        found.append(value if k == 0 else Apply("mod", (value, Size(i.dim))))
    return found


def split_products(program: Program, active: set[str]) -> Program:
    """The same program with every active product of several indices as nested products of one index each."""
    names = Fresh.of(program)
    body: list[Definition | Group] = []
    for item in program.body:
        made = [s for d in members(item) for s in (nested(d, names) if d.tensor in active else (d,))]
        if isinstance(item, Group):
            body.append(replace(item, definitions=tuple(made)))
        else:
            body.extend(made)
    return program.with_body(tuple(body))


def nested(d: Definition, names: Callable[[str], str]) -> list[Definition]:
    """A product of several indices as products of one index each, the innermost first."""
    made: list[Definition] = []
    while d.head == "prod" and len(d.bound) > 1:
        name = names(f"{d.tensor}.inner")
        formals, outer = d.formals + d.bound[:-1], d.bound[:-1]
        made.append(replace(d, tensor=name, formals=formals, bound=d.bound[-1:]))
        d = replace(d, bound=outer, where=TRUE, body=Read(name, formals, REAL))
    return [*made, d]


def others(d: Definition, names: Callable[[str], str]) -> tuple[list[Definition | Group], Scalar]:
    """For `d = prod b where w . body` with one bound index: definitions, and a scalar over the formals and `b` that is
    the product of all the other factors, exact with zeros: a forward and a backward cumulative product."""
    (b,) = d.bound
    axes = (*d.formals, b)
    made: list[Definition | Group] = []
    element = names(f"{d.tensor}.factor")
    made.append(Definition(element, axes, "map", (), TRUE, select(conjunction((d.support, d.where)), d.body, ONE)))
    sides: list[Scalar] = []
    for label, sign in (("before", 1), ("after", -1)):
        name = names(f"{d.tensor}.{label}")
        step = Apply("sub" if sign > 0 else "add", (b, Const(1, INT)))
        inside = Compare(">=", b, Const(1, INT)) if sign > 0 else Compare("<", step, Size(b.dim))
        product = Read(name, (*d.formals, step), REAL) * Read(element, (*d.formals, step), REAL)
        cumulative = Definition(name, axes, "map", (), TRUE, Select(inside, product, ONE))
        made.append(Group(((b.name, sign),), (cumulative,)))
        sides.append(Read(name, axes, REAL))
    return made, sides[0] * sides[1]
