"""Derivatives of coupled entries: reverse mode over the definitions so far, spliced in among them.

A value over some axes has one derivative for each entry of the variable if nothing on the way reads across these axes.
A cotangent of ones then serves all of its entries at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lossdsl.ir.build.define import Place, renamed
from lossdsl.ir.nodes import (
    ONE,
    REAL,
    TRUE,
    Definition,
    Group,
    Index,
    Input,
    Output,
    Param,
    Program,
    Read,
    Scalar,
    postorder,
)
from lossdsl.ir.rewrite import (
    free_indices,
    map_item,
    map_scalars,
    members,
    prune,
    rename_tensors,
    substitute,
    transform,
)
from lossdsl.transform.arithmetic import NotYetError
from lossdsl.transform.differentiate import differentiate

_VALUE, _PARAMETER = "the value", "the parameter"  # no name of a file has a space


def reverse(place: Place, program: Program, variable: Read | Param, value: Scalar, above: set[str]) -> Scalar | None:
    """The partial derivative of `value` at the position of the variable, or None where no one pass gives it.

    program  inputs, parameters and all definitions so far
    above    the tensors that depend on the variable

    Appends the definitions that it needs to `place`.
    """
    free = plain(free_indices(value))
    target = Definition(_VALUE, tuple(free.values()), "map", (), TRUE, substitute(value, {**free}))
    program = program.with_body((*program.body, target))
    read = variable if isinstance(variable, Read) else Read(_PARAMETER, (), REAL)
    program = _mapped(program, {variable: read}) if isinstance(variable, Param) else program
    active = {*above, _VALUE}
    for k, index in enumerate(free):
        if index not in read.indices or not _apart(program, active, k, read, read.indices.index(index)):
            return None
    entry = _as_input(program, read)
    if entry is None:
        return None
    kept = tuple(item for item in program.body if read.tensor not in {d.tensor for d in members(item)})
    inputs = (*(i for i in program.inputs if i.name != read.tensor), entry)
    held = Program(program.name, inputs, program.parameters, kept, (Output("return", _VALUE),))
    try:
        derived = differentiate(held, _VALUE, (read.tensor,))
    except NotYetError:
        return None
    (found,) = (o for o in derived.outputs if o.name == f"d {read.tensor}")
    (seed,) = (i.name for i in derived.inputs if i.role == "cotangent")
    names = _splice(
        place, prune(replace(derived, outputs=(found,))), seed, {read: variable} if read is not variable else {}
    )
    return Read(names.get(found.tensor, found.tensor), read.indices, REAL)


def plain(indices: Sequence[Index]) -> dict[Scalar, Index]:
    """Index variables named by their axes, as a definition has them."""
    return {i: Index(name, i.dim) for i, name in zip(indices, renamed(indices, set()), strict=True)}


def _mapped(program: Program, mapping: dict[Scalar, Scalar]) -> Program:
    return program.with_body(
        tuple(map_item(item, lambda d: map_scalars(d, lambda s: substitute(s, mapping))) for item in program.body)
    )


def _apart(program: Program, active: set[str], k: int, variable: Read, at: int) -> bool:
    """Whether entries of the last definition along its axis `k` depend on those of the variable along its axis `at` at the
    same index alone, and share nothing that depends on it: every read on the way is at this very index."""
    places = {_VALUE: k, variable.tensor: at}
    for item in reversed(program.body):
        waiting = [d for d in members(item) if d.tensor in active and d.tensor != variable.tensor]
        while ready := [d for d in waiting if d.tensor in places]:
            waiting = [d for d in waiting if d.tensor not in places]
            for d in ready:
                index = d.formals[places[d.tensor]]
                for n in postorder(*d.scalars()):
                    if not isinstance(n, Read) or n.dtype is not REAL or n.tensor not in {*active, variable.tensor}:
                        continue
                    where = places.setdefault(n.tensor, next((p for p, i in enumerate(n.indices) if i is index), -1))
                    if where < 0 or n.indices[where] is not index:
                        return False
    return True


def _as_input(program: Program, variable: Read) -> Input | None:
    """The variable as an input that depends on nothing; None for a value in the middle of a recurrence."""
    for entry in program.inputs:
        if entry.name == variable.tensor:
            return replace(entry, role="input")
    for item in program.body:
        for d in members(item):
            if d.tensor == variable.tensor:
                return (
                    None
                    if isinstance(item, Group)
                    else Input(d.tensor, d.dims, tuple(i.name for i in d.formals), "real")
                )
    return Input(variable.tensor, (), (), "real") if variable.tensor == _PARAMETER else None


def _splice(place: Place, derived: Program, seed: str, back: dict[Scalar, Scalar]) -> dict[str, str]:
    """Append what is not there yet, under new names; the new names are returned."""
    there = {d.tensor: d for d in place.definitions}
    names: dict[str, str] = {}

    def put(n: Scalar) -> Scalar:
        if isinstance(n, Read) and n.tensor == seed:
            return ONE
        return back.get(n, n)

    def read_here(d: Definition) -> Definition:
        return map_scalars(d, lambda s: rename_tensors(transform(s, put), names))

    def named(d: Definition) -> Definition:
        own = map_scalars(d, lambda s: rename_tensors(s, names))
        return replace(own, tensor=names[d.tensor], comment=None)

    for item in derived.body:
        here = map_item(item, read_here)
        if any(there.get(d.tensor) != d for d in members(here)):
            names |= {d.tensor: place.next_name() for d in members(here)}
            place.body.append(map_item(here, named))
    return names


__all__ = ["plain", "reverse"]
