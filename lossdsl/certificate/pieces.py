"""Elements of one tensor that they read, as a function of it: what boxes show of such a function, compositions may take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Rules, Stuck
from lossdsl.ir.nodes import REAL, TRUE, Definition, Input, Read, Scalar, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import REALS, Enclosure

ELEMENT = "$element"
_ROOM = 2.0**-20  # beyond an end, relative to it
_NODES = 2000  # of an element, all that it is made of put in


def of_one(q: Question, d: Definition, word: str) -> Iterator[Question]:
    """The question about the elements that a definition maps or folds, in the one tensor that moves: an input, or another one
    as if it were an input, the ones that are read first before those that they are made of. Raises Stuck."""
    rules = Rules(Bounds(q.program, q.assume, moved=frozenset(q.inputs)), q.inputs)
    if d.support is not TRUE or d.tensor in rules.bounds.recurrent or d.body.dtype is not REAL:
        raise Stuck(f"{d.tensor} has no elements on their own")
    body: Scalar | None = d.body
    while body is not None:
        read = {n for n in postorder(body) if isinstance(n, Read) and n.tensor in rules.moving}
        if len(read) == 1:
            (name,) = {n.tensor for n in read}
            element = Definition(ELEMENT, (*d.formals, *d.bound), "map", (), TRUE, body)
            with contextlib.suppress(Stuck):
                yield _in(replace(q, property=word, of=ELEMENT, inputs=(name,)), element, rules)
        body = _opened(rules, body, read)


def _in(q: Question, element: Definition, rules: Rules) -> Question:
    """With the element in the program, and the tensor that it is of as an input. Raises Stuck."""
    (name,), program = q.inputs, q.program
    made = rules.bounds.definitions.get(name)
    if made is None:
        return replace(q, program=program.with_body((*program.body, element)))
    box = rules.bounds.tensor(name)
    if made.dtype is not REAL or not box.finite or name in rules.bounds.recurrent:
        raise Stuck(f"{name} may be infinite")
    own = Input(name, made.dims, ("",) * len(made.dims), "real")
    rest = tuple(i for i in program.body if i is not made)
    opened = replace(program.with_body((*rest, element)), inputs=(*program.inputs, own))
    return replace(q, program=opened, assume=q.assume if box == REALS else {**q.assume, name: _beyond(box)})


def _beyond(box: Enclosure) -> Enclosure:
    """A little more than what it may be: of an input the ends do not count, but what is made of others may come to them."""
    lo = box.lo if box.lo_open else e.down(box.lo - _ROOM * max(1.0, abs(box.lo)))
    hi = box.hi if box.hi_open else e.up(box.hi + _ROOM * max(1.0, abs(box.hi)))
    return Enclosure(lo, hi, True, True)


def _opened(rules: Rules, body: Scalar, read: set[Read]) -> Scalar | None:
    """With the map put in that is defined the latest of those that it reads; None if there is none."""
    put: dict[Scalar, Scalar] = {}
    for name, d in reversed(rules.bounds.definitions.items()):
        if not put and d.head == "map" and d.support is TRUE and name not in rules.bounds.recurrent:
            here = [n for n in read if n.tensor == name]
            put = {n: substitute(d.body, dict(zip(d.formals, n.indices, strict=True))) for n in here}
    found = substitute(body, put) if put else None
    if found is not None and len(list(postorder(found))) > _NODES:
        raise Stuck("an element that is too large")
    return found


__all__ = ["of_one"]
