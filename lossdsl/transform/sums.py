"""Sums and conditions over an index that a term does not need.

    sum c . a[n]                               =  size(c) * a[n]                    (0 where there is no c)
    sum c . (v[n, c] if t[n] == c else 0)      =  v[n, t[n]] where t[n] is a c
    any c . p[n] or q[n] and t[n] == c         =  p[n] and size(c) != 0 or q[n] and t[n] is a c
    sum d where t[n] == c of v[n, d]           =  sum d of v[n, d] if t[n] == c else 0      (one sum for each n)

A sum is taken apart only into terms that need no sum any more, or into entries that are picked out of it: exact in every
case, and no cancellation is brought in. What is not finite keeps its place, because each term keeps its conditions.
A term that is zero outside of a condition by itself is not put under that condition again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lossdsl.dim import Dim
from lossdsl.ir.cost import operations
from lossdsl.ir.nodes import (
    BOOL,
    FALSE,
    INT,
    REAL,
    TRUE,
    ZERO,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Not,
    Or,
    Param,
    Program,
    Read,
    Scalar,
    Select,
    Size,
    postorder,
)
from lossdsl.ir.ranges import implies
from lossdsl.ir.rewrite import (
    Fresh,
    free_indices,
    fresh_index,
    instantiate,
    map_item,
    map_scalars,
    substitute,
    transform,
)
from lossdsl.transform.arithmetic import add, conjunction, conjuncts, disjunction, mul, neg, negation, select
from lossdsl.transform.eliminate import Facts, always, lies_within, readable, within

_TERMS = 12  # of one sum; a body with more stays as it is
_SMALL = 3  # operations of what stays in a sum when entries are picked out of it: it is computed again there
_DEPTH = 4  # conditions that name conditions


def reduce_sums(program: Program, facts: Facts) -> Program:
    """The program with fewer and smaller sums, and without guards that the place where they stand proves."""
    return _Sums(program, facts).run()


@dataclass(frozen=True)
class _Term:
    """`value` where the conditions hold, in this order; 0 elsewhere."""

    conditions: tuple[Scalar, ...]
    value: Scalar


class _Sums:
    def __init__(self, program: Program, facts: Facts) -> None:
        self.program, self.facts = program, facts
        self.names = Fresh.of(program)
        self.maps: dict[str, Definition] = {}
        self.anys: dict[str, Definition] = {}
        self.classes = {i.name: (i.classes, i.also) for i in program.inputs if i.classes is not None}
        self.partial = {d.tensor: d for d in program.definitions() if d.support is not TRUE}

    def run(self) -> Program:
        body: list[Definition | Group] = []
        for item in self.program.body:
            done = map_item(item, self.local)
            if isinstance(done, Definition):
                made = self.reduced(done)
                body += made
                for d in made:
                    if d.head in ("map", "any") and d.support is TRUE:
                        (self.maps if d.head == "map" else self.anys)[d.tensor] = d
            else:
                body.append(done)
        return self.program.with_body(tuple(body))

    # ------------------------------------------------------------------------------------------ conditions

    def local(self, d: Definition) -> Definition:
        """Conditions that hold because of the ranges of their indices, or on extents because there are indices;
        conditions named elsewhere over these indices; no condition around what is zero outside of it anyway."""
        here = frozenset(d.formals + d.bound)
        memo: dict[Scalar, Scalar] = {}

        def step(n: Scalar) -> Scalar:
            if isinstance(n, Compare) and n.a.dtype is INT:
                proved = (
                    partial(self.exists, d.formals + d.bound) if _on_extents(n) else partial(always, facts=self.facts)
                )
                if proved(n):
                    return TRUE
                if proved(negation(n)):
                    return FALSE
            if isinstance(n, Read) and n.dtype is BOOL and self.expands(n, here):
                return instantiate(self.maps[n.tensor], n.indices)
            if isinstance(n, And):
                return conjunction(n.args)
            if isinstance(n, Or):
                return disjunction(n.args)
            if isinstance(n, Not):
                return negation(n.a)
            if isinstance(n, Select):
                chosen = select(n.condition, n.a, n.b)
                if isinstance(chosen, Select) and chosen.b is ZERO and self.zero_outside(chosen.condition, chosen.a):
                    return chosen.a
                return chosen
            return n

        return map_scalars(d, lambda s: s if s is d.support else transform(s, step, memo))

    def exists(self, here: tuple[Index, ...], condition: Scalar) -> bool:
        """True for a condition on extents that holds because these indices have values."""
        if isinstance(condition, Compare) and condition.op == "!=" and isinstance(condition.a, Size):
            present = {i.dim for i in here}
            terms = condition.a.dim.terms
            if isinstance(condition.b, Const) and condition.b.value == 0 and len(terms) == 1 and terms[0][1] > 0:
                if all(Dim((((a,), 1),)) in present for a in terms[0][0]):
                    return True
        return implies(here, condition, signed=self.facts.signed)

    def expands(self, read: Read, here: frozenset[Index]) -> bool:
        """A condition of few tests that is made at each of the reader's points anyway."""
        made = self.maps.get(read.tensor)
        return (
            made is not None
            and set(read.indices) == here
            and len(set(read.indices)) == len(read.indices)
            and operations(made.body) <= _DEPTH
        )

    def zero_outside(self, condition: Scalar, value: Scalar) -> bool:
        """True if the value is zero by its own conditions wherever this one fails, and safe to evaluate there."""
        if isinstance(value, Apply) and value.name == "neg":
            value = value.args[0]
        if not isinstance(value, Read) or any(not isinstance(i, Index) for i in value.indices):
            return False
        d = self.maps.get(value.tensor)
        if d is None or not isinstance(d.body, Select) or d.body.b is not ZERO:
            return False
        at: dict[Scalar, Scalar] = dict(zip(d.formals, value.indices, strict=True))
        known = self.expanded(substitute(d.body.condition, at))
        return all(c in known for c in self.expanded(condition))

    def expanded(self, condition: Scalar, depth: int = _DEPTH) -> tuple[Scalar, ...]:
        found: list[Scalar] = []
        for c in conjuncts(condition):
            if isinstance(c, Read) and c.tensor in self.maps and depth:
                found += self.expanded(instantiate(self.maps[c.tensor], c.indices), depth - 1)
            elif not (_on_extents(c) and self.exists(free_indices(condition), c)):
                found.append(c)
        return tuple(found)

    # ------------------------------------------------------------------------------------------ one definition

    def reduced(self, d: Definition) -> list[Definition]:
        if d.head == "any" and d.bound:
            return self.any(d)
        if d.head == "sum" and d.bound and d.dtype is REAL:
            made = self.sum(d)
            return self.lifted(d) if made == [d] else made
        return [d]

    def lifted(self, d: Definition) -> list[Definition]:
        """A condition on the formals alone stands around the sum, where the sum is the same for several of its entries
        then: the adjoint of a gather `z[n, t[n]]` below a sum over classes is one sum a row, not one for each class."""
        bound = frozenset(d.bound)
        outer: list[Scalar] = []
        inner: list[Scalar] = []
        for c in conjuncts(d.where):
            free = bound.isdisjoint(free_indices(c)) and self.readable(c, outer)  # without what is summed over, too
            (outer if free else inner).append(c)
        used = frozenset(free_indices(*inner, d.body))
        formals = tuple(f for f in d.formals if f in used)
        if not outer or formals == d.formals:
            return [d]
        if not all(self.readable(c, inner[:k]) for k, c in enumerate((*inner, d.body))):
            return [d]
        where = conjunction(inner)
        part = replace(d, tensor=self.names(f"{d.tensor}.part"), formals=formals, where=where, support=TRUE)
        self.facts.dims[part.tensor] = part.dims
        value = select(conjunction(outer), Read(part.tensor, formals, REAL), ZERO)
        return [part, replace(d, head="map", bound=(), where=TRUE, body=value)]

    def readable(self, node: Scalar, before: Sequence[Scalar]) -> bool:
        """True if everything read in it exists and is in range, after these conditions and none from outside."""
        for read in postorder(node):
            if not isinstance(read, Read):
                continue
            shape = self.facts.dims.get(read.tensor)
            if shape is None:
                return False
            for index, dim in zip(read.indices, shape, strict=True):
                if not self.is_class(index, dim, before) and not lies_within(index, dim, self.facts, before):
                    return False
            d = self.partial.get(read.tensor)
            if d is not None:
                at: dict[Scalar, Scalar] = dict(zip(d.formals, read.indices, strict=True))
                if not all(c in before for c in conjuncts(substitute(d.support, at))):
                    return False
        return True

    def any(self, d: Definition) -> list[Definition]:
        """No `any` where no alternative needs its bound indices; one over the indices of the `any` that it reads, where
        these determine its own: `any c . (any s . t[s] == c)` is `any s . t[s] is a c`."""
        first = conjuncts(d.where)
        alternatives: list[Scalar] = []
        made: list[Definition] = []
        for a in d.body.args if isinstance(d.body, Or) else (d.body,):
            term = _Term((*first, *conjuncts(a)), ZERO)
            bound, solved = self.solve(d, term)
            if not bound:
                alternatives.append(conjunction(solved.conditions))
                continue
            inner = self.inner(d, term)
            if inner is None:
                return [d]
            for part in inner:
                made.append(part)
                alternatives.append(Read(part.tensor, part.formals, BOOL))
        for part in made:
            self.facts.dims[part.tensor] = part.dims
        return [*made, replace(d, head="map", bound=(), where=TRUE, body=disjunction(alternatives))]

    def inner(self, d: Definition, term: _Term) -> list[Definition] | None:
        """The conditions of a term of an `any` as definitions over the indices of an `any` read in them; None unless
        all its own are determined by those."""
        for k, c in enumerate(term.conditions):
            if not (isinstance(c, Read) and c.tensor in self.anys and all(isinstance(i, Index) for i in c.indices)):
                continue
            read = self.anys[c.tensor]
            taken = [*d.formals, *d.bound]
            at: dict[Scalar, Scalar] = dict(zip(read.formals, c.indices, strict=True))
            bound: list[Index] = []
            for i in read.bound:
                bound.append(fresh_index(i, taken))
                taken.append(bound[-1])
            at |= dict(zip(read.bound, bound, strict=True))
            whole = replace(d, bound=(*d.bound, *bound))
            made: list[Definition] = []
            for a in read.body.args if isinstance(read.body, Or) else (read.body,):
                opened = (substitute(x, at) for x in (*conjuncts(read.where), *conjuncts(a)))
                conditions = (*term.conditions[:k], *opened, *term.conditions[k + 1 :])
                left, solved = self.solve(whole, _Term(conditions, ZERO))
                conditions = solved.conditions
                if not set(left) <= set(bound):
                    return None
                if not all(self.readable(x, conditions[:j]) for j, x in enumerate(conditions)):
                    return None
                used = free_indices(*conditions)
                formals = tuple(f for f in d.formals if f in used)
                name = self.names(f"{d.tensor}.part")
                head = "any" if left else "map"
                made.append(Definition(name, formals, head, left, TRUE, conjunction(conditions), origin=d.origin))
            return made
        return None

    def sum(self, d: Definition) -> list[Definition]:
        terms = self.terms(_Term(conjuncts(d.where), d.body), d.bound)
        if len(terms) > _TERMS:
            return [d]
        solved: list[Scalar] = []
        picked: list[Scalar] = []
        rest: list[_Term] = []
        invariant: list[_Term] = []
        for term in terms:
            bound, simple = self.solve(d, term)
            if bound:
                rest.append(term)
            elif self.picks(d, term):
                picked.append(_scalar(simple))
            else:
                solved.append(_scalar(simple))
                invariant.append(term)
        if not rest:
            return [replace(d, head="map", bound=(), where=TRUE, body=_total([*solved, *picked]))]
        rest += invariant  # apart, they would cancel against the rest
        where = conjuncts(d.where)
        body = _total([_scalar(replace(t, conditions=_after(where, t.conditions))) for t in rest])
        if not picked or operations(body) > _SMALL or len(d.bound) > 1:
            return [d]
        part = replace(d, tensor=self.names(f"{d.tensor}.rest"), body=body, support=TRUE)
        self.facts.dims[part.tensor] = part.dims
        value = _total([Read(part.tensor, part.formals, REAL), *picked])
        return [part, replace(d, head="map", bound=(), where=TRUE, body=value)]

    def terms(self, term: _Term, bound: tuple[Index, ...]) -> list[_Term]:
        """The summands of a value, through maps that are read at plain positions, bound ones among them; one, if it is
        no sum."""
        found: list[_Term] = []
        varies = frozenset(bound)
        stack = [(term, _DEPTH)]
        while stack and len(found) <= _TERMS:
            t, depth = stack.pop()
            v = t.value
            if isinstance(v, Apply) and v.name in ("add", "sub"):
                second = v.args[1] if v.name == "add" else neg(v.args[1])
                stack += [(replace(t, value=second), depth), (replace(t, value=v.args[0]), depth)]
            elif isinstance(v, Apply) and v.name == "neg" and _opens(v.args[0]):
                inner = v.args[0]
                assert isinstance(inner, Apply | Select)
                if isinstance(inner, Select):
                    opened: Scalar = Select(inner.condition, neg(inner.a), neg(inner.b))
                else:
                    right = inner.args[1] if inner.name == "sub" else neg(inner.args[1])
                    opened = Apply("add", (neg(inner.args[0]), right))
                stack.append((replace(t, value=opened), depth))
            elif isinstance(v, Select) and v.b is ZERO:
                stack.append((_Term((*t.conditions, *conjuncts(v.condition)), v.a), depth))
            elif isinstance(v, Select) and v.a is ZERO:
                stack.append((_Term((*t.conditions, *conjuncts(negation(v.condition))), v.b), depth))
            elif depth and not varies.isdisjoint(free_indices(v)) and (opened_read := self.opened(v)) is not None:
                stack.append((replace(t, value=opened_read), depth - 1))
            else:
                found.append(t)
        return found

    def opened(self, value: Scalar) -> Scalar | None:
        """The body of a map that is a sum or a selection, for a read of it or for the negative of one."""
        if isinstance(value, Apply) and value.name == "neg":
            inner = self.opened(value.args[0])
            return None if inner is None else neg(inner) if not _opens(inner) else Apply("neg", (inner,))
        if not isinstance(value, Read) or any(not isinstance(i, Index) for i in value.indices):
            return None
        d = self.maps.get(value.tensor)
        return instantiate(d, value.indices) if d is not None and _opens(d.body) else None

    def picks(self, d: Definition, term: _Term) -> bool:
        """True if equations determine all bound indices: the term is one entry."""
        free = set(free_indices(*term.conditions, term.value))
        return set(d.bound) <= free

    def solve(self, d: Definition, term: _Term) -> tuple[tuple[Index, ...], _Term]:
        """The term without the bound indices that it does not need, and those that it does."""
        bound = list(d.bound)
        here = d.formals
        changed = True
        while changed:
            changed = False
            for v in list(bound):
                other = self.without(v, tuple(bound), here, term, d.head == "any")
                if other is not None:
                    term, changed = other, True
                    bound.remove(v)
        return tuple(bound), term

    def without(
        self, v: Index, bound: tuple[Index, ...], here: tuple[Index, ...], term: _Term, joint: bool
    ) -> _Term | None:
        if v not in free_indices(*term.conditions, term.value):
            exists = Compare("!=", Size(v.dim), Const(0, INT))
            guards: tuple[Scalar, ...] = () if self.exists(here, exists) else (exists,)
            value = term.value if term.value is ZERO else mul(Apply("real", (Size(v.dim),)), term.value)
            return _Term((*guards, *term.conditions), value)
        for k, c in enumerate(term.conditions):
            if not (isinstance(c, Compare) and c.op == "==" and c.a.dtype is INT):
                continue
            for a, b in ((c.a, c.b), (c.b, c.a)):
                if a is not v or v in free_indices(b) or not (joint or set(bound).isdisjoint(free_indices(b))):
                    continue
                before = term.conditions[:k]
                if v in free_indices(*before) or not readable(b, self.facts, before):
                    continue
                known = self.expanded(conjunction(before))
                guards = tuple(g for g in within(b, v.dim, self.facts) if g not in known)
                at: dict[Scalar, Scalar] = {v: b}
                after = tuple(substitute(x, at) for x in term.conditions[k + 1 :])
                return _Term((*before, *guards, *after), substitute(term.value, at))
        return None

    def is_class(self, value: Scalar, dim: Dim, before: Iterable[Scalar]) -> bool:
        """True for an entry of an input of classes of this extent, the value that is none of them excluded."""
        if not isinstance(value, Read) or value.tensor not in self.classes:
            return False
        classes, also = self.classes[value.tensor]
        if classes != dim:
            return False
        return also is None or Compare("!=", value, Param(also, INT)) in self.expanded(conjunction(before))


def _after(where: tuple[Scalar, ...], conditions: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    return conditions[len(where) :]


def _scalar(term: _Term) -> Scalar:
    return select(conjunction(term.conditions), term.value, ZERO)


def _total(values: list[Scalar]) -> Scalar:
    result: Scalar = ZERO
    for v in values:
        result = add(result, v)
    return result


def _opens(node: Scalar) -> bool:
    if isinstance(node, Select):
        return ZERO in (node.a, node.b)
    return isinstance(node, Apply) and node.dtype is REAL and node.name in ("add", "sub")


def _on_extents(node: Scalar) -> bool:
    parts = list(postorder(node))
    return any(isinstance(n, Size) for n in parts) and all(isinstance(n, Size | Const | Apply | Compare) for n in parts)
