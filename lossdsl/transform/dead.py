"""Reductions in a recurrence that nothing reads at some of their entries: there they are over nothing.

    h[t] = logsumexp(x[t, i] + h[t - 1 else 0] over i) if t < length else 0

The reduction is a definition beside `h`, of all rounds. Where the condition is false its value is left out, but neither are
then its terms, which may be NaN or infinite: an adjoint of 0 times their partials is NaN, and by the recurrence so is that
of every earlier round. With the condition in its own `where` there are no such terms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lossdsl.ir.check import paths
from lossdsl.ir.nodes import (
    BOOL,
    FALSE,
    INT,
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
    Size,
)
from lossdsl.ir.ranges import in_range
from lossdsl.ir.rewrite import Fresh, free_indices, fresh_index, substitute
from lossdsl.transform.affine import UNIT, affine
from lossdsl.transform.arithmetic import conjunction, conjuncts, disjunction, unique

_FOLDS = ("sum", "prod", "logsumexp")  # an extremum gives a gradient to the entry that it takes alone


def without_dead_terms(program: Program, whole: Iterable[str] = ()) -> Program:
    """The program in which reductions of recurrences have no terms where nothing reads them, as far as the conditions around
    the reads say so from data that are known before. `whole`: tensors of which all is wanted, beside the outputs."""
    if not any(isinstance(item, Group) for item in program.body):
        return program
    names = Fresh.of(program)
    kept = {o.tensor for o in program.outputs} | {*whole}
    if program.reductions is not None:
        kept |= {t for t in vars(program.reductions).values() if isinstance(t, str)}
    body: list[Definition | Group] = []
    for item in program.body:
        if isinstance(item, Group):
            needs = _Needs(item, list(program.definitions()), kept, names)
            members = tuple(needs.restricted(d) if d.head in _FOLDS else d for d in item.definitions)
            body += needs.made
            item = replace(item, definitions=members)
        body.append(item)
    return program.with_body(tuple(body))


class _Needs:
    """Where something reads the members of a recurrence; `made`: definitions that the conditions need, before it."""

    def __init__(self, group: Group, readers: list[Definition], kept: set[str], names: Fresh) -> None:
        self.group = {d.tensor: d for d in group.definitions}
        self.readers, self.kept, self.names = readers, kept, names
        self.made: list[Definition] = []
        self.known: dict[str, tuple[Scalar, ...]] = {}

    def restricted(self, d: Definition) -> Definition:
        wanted = self.wanted(d)
        return replace(d, where=conjunction(unique((*wanted, *conjuncts(d.where))))) if wanted else d

    def wanted(self, d: Definition) -> tuple[Scalar, ...]:
        """Conditions at the formals of a member that hold wherever an entry of it is read; none if that is not known."""
        if d.tensor not in self.known:
            self.known[d.tensor] = ()  # of a circle nothing more is known than of the rest
            cases = [] if d.tensor in self.kept else [c for r in self.readers for c in self.cases(r, d)]
            either = disjunction(unique(cases))
            self.known[d.tensor] = () if TRUE in cases or either in (TRUE, FALSE) else conjuncts(either)
        return self.known[d.tensor]

    def cases(self, reader: Definition, d: Definition) -> list[Scalar]:
        """For each read of `d`, under which condition it is one."""
        found: list[Scalar] = []
        for root in reader.scalars():
            around = conjuncts(reader.where) if root is reader.body else ()
            for node, path in paths(root):
                if isinstance(node, Read) and node.tensor == d.tensor:
                    above = self.wanted(reader) if reader.tensor in self.group else ()
                    said = [c for c in unique((*above, *around, *path)) if self.before(c)]
                    found.append(self.at_formals(said, node, d))
        return found

    def before(self, condition: Scalar) -> bool:
        """Whether a condition is about data, and about none of the recurrence."""
        reads = {*condition.tensors}
        return bool(reads) and not reads & self.group.keys()

    def at_formals(self, conditions: list[Scalar], read: Read, d: Definition) -> Scalar:
        """Conditions of a reader at the formals of `d`; where these do not say all of its indices, whether there are some."""
        there: dict[Scalar, Scalar] = {}
        inside: list[Scalar] = []  # the reader's indices exist
        for formal, place in zip(d.formals, read.indices, strict=True):
            position = affine(place)
            if list(position.atoms.values()) != [UNIT] or (step := position.offset.number) is None:
                continue
            (own,) = position.atoms
            if not isinstance(own, Index) or own in there:
                continue
            there[own] = back = formal if step == 0 else Apply("add", (formal, Const(-step, INT)))
            if any(own in free_indices(c) for c in conditions) and not in_range(back, own.dim, (formal,)):
                inside += [Compare(">=", back, Const(0, INT)), Compare("<", back, Size(own.dim))]
        plain = [substitute(c, there) for c in conditions if there.keys() >= {*free_indices(c)}]
        some = [c for c in conditions if not there.keys() >= {*free_indices(c)}]
        if some:
            on = self.somewhere(conjunction(some), there, inside, d)
            plain.append(Read(on.tensor, on.formals, BOOL))
        return conjunction((*inside, *plain)) if plain else TRUE

    def somewhere(
        self, condition: Scalar, there: dict[Scalar, Scalar], inside: list[Scalar], d: Definition
    ) -> Definition:
        """Whether the condition holds for some of the reader's indices that the entry does not say."""
        put = dict(there)
        bound: list[Index] = []
        for i in free_indices(condition):
            if i not in there and isinstance(i, Index):
                bound.append(fresh_index(i, [*d.formals, *bound]))
                put[i] = bound[-1]
        body = conjunction((*inside, substitute(condition, put)))
        formals = tuple(f for f in d.formals if f in {*free_indices(body)})
        on = Definition(self.names(f"{d.tensor}.on"), formals, "any", tuple(bound), TRUE, body, origin=d.origin)
        self.made.append(on)
        return on


__all__ = ["without_dead_terms"]
