"""Reverse mode, source to source: the vector-Jacobian product of a program, as a program.

The definitions are walked backwards. `d[f] = head b where w . body` with adjoint `d'` gives for each read `T[e(f, b)]`

    T'[a] += sum f, b where w and e(f, b) == a . d'[f] * rule(head) * dbody/dread

and `eliminate` solves the equations. Conditions of the path stand around the whole contribution, so that what is
masked or not taken contributes exactly nothing, whatever its data. An adjoint remembers the conditions outside of which
it is zero (its *support*); a reader repeats them where a partial derivative could be infinite or NaN there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lossdsl.ir.check import signed_symbols
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    ONE,
    REAL,
    TRUE,
    ZERO,
    AdjointMap,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Input,
    Output,
    Param,
    Program,
    Read,
    Scalar,
    Select,
    Size,
    postorder,
)
from lossdsl.ir.rewrite import Fresh, free_indices, fresh_index, members, prune, substitute
from lossdsl.transform.arithmetic import (
    NotYetError,
    add,
    conjunction,
    conjuncts,
    disjunction,
    mul,
    neg,
    select,
    sub,
    unique,
)
from lossdsl.transform.defined import Defined, settled
from lossdsl.transform.eliminate import Facts, Selection, eliminate
from lossdsl.transform.invariants import split_invariants
from lossdsl.transform.matrices import adjoint_of_matrix, inverse_of, logdet_weight
from lossdsl.transform.pieces import index_pieces
from lossdsl.transform.scalar import Guarded, adjoints, data_dependent, depends, merge, shared
from lossdsl.transform.winners import expose_winners, others, split_products, volume

_SEED = Param("'")  # stands for the cotangent while a body is walked; no parameter can have this name


@dataclass
class _Contribution:
    """`T'[formals] += sum bound where guards, hard, soft . value`. `known` holds wherever the value is not zero by its
    path, but need not be tested: the value is zero by itself elsewhere."""

    bound: tuple[Index, ...]
    guards: tuple[Scalar, ...]
    hard: tuple[Scalar, ...]
    soft: tuple[Scalar, ...]
    value: Scalar
    known: tuple[Scalar, ...] = ()


@dataclass
class _Adjoint:
    """The adjoint of a tensor at its formals.

    `value` is a read of the adjoint's definition or, for cheap ones, the expression itself: then `must` holds and the
    conditions belong to it. `hard` and `soft` say where it can differ from zero; `partly` lists sums whose conditions
    depend on their bound indices (their support needs an `any`, made only on demand).
    """

    formals: tuple[Index, ...]
    value: Scalar
    hard: tuple[Scalar, ...]
    soft: tuple[Scalar, ...]
    must: bool
    partly: tuple[tuple[str, _Contribution], ...] = ()
    exact: tuple[Scalar, ...] | None = None


def differentiate(program: Program, output: str, wrt: tuple[str, ...], *, trusted: bool = False) -> Program:
    """The value and the vector-Jacobian product of one tensor of a program.

    output   a REAL tensor of the program; its cotangent is a new input `output'` with the tensor's dims
    wrt      names of REAL inputs
    trusted  integers are in the ranges of their types: no conditions for gathers out of range (for formulas and proofs)

    The result has the outputs "return" (the tensor) and "d NAME" for each of `wrt`, in this order. Raises ValueError
    for names that do not fit, and NotYetError for a construct whose derivative is not available.
    """
    return _Reverse(program, output, wrt, trusted=trusted).run()


def active_tensors(program: Program, wrt: Iterable[str]) -> set[str]:
    """REAL tensors into which a derivative flows from the given inputs, these included."""
    active = set(wrt)
    for item in program.body:
        members = item.definitions if isinstance(item, Group) else (item,)
        changed = True
        while changed:
            changed = False
            for d in members:
                if d.tensor not in active and d.dtype is REAL and depends(d.body, lambda r: r.tensor in active):
                    active.add(d.tensor)
                    changed = isinstance(item, Group)
    return active


def prepared(program: Program, output: str, wrt: tuple[str, ...]) -> Program:
    """What of a program its derivative needs, in the form that is walked backwards. Where it is the same for more inputs,
    their derivative has that of fewer in it."""
    needed = replace(program, outputs=(Output("return", output),), reductions=None, target="", updates=())
    needed = prune(needed)
    active = active_tensors(needed, wrt)
    named = split_invariants(needed, active, facts_of(needed))
    active = active_tensors(named, wrt)
    return split_products(expose_winners(named, active), active)


def facts_of(program: Program) -> Facts:
    """Extents of all tensors, and ranges of index tensors whose set of candidates cannot be empty."""
    facts = Facts(signed=signed_symbols(program))
    for entry in program.inputs:
        facts.dims[entry.name] = entry.dims
    for d in program.definitions():
        facts.dims[d.tensor] = d.dims
        if d.head in ("argmax", "argmin") and d.where is TRUE and len(d.bound) == 1:
            known = d.bound[0].dim.constant
            if known is None or known > 0:
                facts.below[d.tensor] = d.bound[0].dim
        if d.head == "argsort":
            facts.below[d.tensor] = volume(d.bound)
    return facts


class _Reverse:
    def __init__(self, program: Program, output: str, wrt: tuple[str, ...], *, trusted: bool) -> None:
        target = program.definition(output)
        if target is None or target.dtype is not REAL:
            raise ValueError(f"{program.name} has no real tensor {output!r} to differentiate")
        for name in wrt:
            entry = program.input(name)
            if entry is None or not entry.differentiable:
                raise ValueError(f"{program.name} has no real input {name!r}")
        self.output, self.wrt = output, wrt
        self.program = prepared(program, output, wrt)
        self.active = active_tensors(self.program, wrt)
        self.names = Fresh.of(self.program)
        self.facts = facts_of(self.program)
        self.contributions: dict[str, list[_Contribution]] = {}
        self.made: list[Definition | Group] = []
        self.inside: list[Definition] | None = None  # what a member of a recurrence needs in its round, backwards
        self.bundles: dict[tuple[str, tuple[Scalar, ...]], Read] = {}
        self.defined = Defined(self.program, self.facts, self.names, self.define, trusted=trusted)
        # A clipped gradient is clipped at incoming cotangent 1; the true one multiplies at the end.
        self.scaled = any(isinstance(n, AdjointMap) for d in self.program.definitions() for n in postorder(d.body))

    def run(self) -> Program:
        program, target = self.program, self.program.definition(self.output)
        assert target is not None
        if self.scaled and target.formals:
            raise NotYetError("a clipped gradient of a value with axes", self.output)
        cotangent = self.names(f"{self.output}'")
        axes = tuple(i.name for i in target.formals)
        entry = Input(cotangent, target.dims, axes, "real", role="cotangent")
        incoming = ONE if self.scaled else Read(cotangent, target.formals, REAL)
        seed = _Adjoint(target.formals, incoming, (), (), True)
        self.facts.dims[cotangent] = target.dims
        for item in reversed(program.body):
            if isinstance(item, Group):
                self.backward_group(item)
                continue
            if item.tensor not in self.active:
                continue
            if item.tensor == self.output:
                self.backward(item, seed)
            elif item.tensor in self.contributions:
                self.backward(item, self.finish(item.tensor, item.formals))
        outputs = [Output("return", self.output)]
        for name in self.wrt:
            outputs.append(Output(f"d {name}", self.gradient(name, cotangent)))
        result = Program(
            program.name,
            (*program.inputs, entry),
            program.parameters,
            (*program.body, *self.made),
            tuple(outputs),
            docstring=program.docstring,
        )
        return prune(result)

    # ------------------------------------------------------------------------------------------ one definition

    def backward(self, d: Definition, adjoint: _Adjoint) -> None:
        """Add the contributions of one definition to the adjoints of what it reads."""
        if d.head == "inverse":
            whole = self.materialised(d, adjoint)
            made, value = adjoint_of_matrix(d, whole, self.names)
            self.beside(*made)
            formals = (*d.formals[:-2], *d.bound)
            d = replace(d, formals=formals, head="map", bound=())
            adjoint = _Adjoint(formals, value, (), (), False)
        rule = self.rule(d)
        found = adjoints(d.body, rule, lambda r: r.tensor in self.active)
        for read, term in found.items():
            self.contribute(d, adjoint, read, term)

    def materialised(self, d: Definition, adjoint: _Adjoint) -> Scalar:
        """The adjoint of a definition at its formals, 0 outside of its support."""
        at: dict[Scalar, Scalar] = dict(zip(adjoint.formals, d.formals, strict=True))
        conditions = (*adjoint.hard, *adjoint.soft) if adjoint.must else ()
        return substitute(select(conjunction(conditions), adjoint.value, ZERO), at)

    def rule(self, d: Definition) -> Scalar:
        """The cotangent of the body at one point, as a multiple of the cotangent of the definition."""
        here = Read(d.tensor, d.formals, REAL)
        match d.head:
            case "map" | "sum":
                return _SEED
            case "logsumexp":
                return mul(_SEED, Apply("expdiff", (d.body, here)))
            case "prod":
                made, rest = others(d, self.names)
                self.define(*made)
                return mul(_SEED, rest)
            case "logdet":
                inverse = inverse_of(d, self.names)
                self.define(inverse)
                return mul(_SEED, logdet_weight(d, inverse.tensor))
        raise NotYetError(f"the reduction {d.head!r}", d.tensor)

    def backward_group(self, group: Group) -> None:
        """The adjoint of a recurrence: the reversed recurrence, linear in the adjoints of its members."""
        reached = {d.tensor for d in group.definitions if d.tensor in self.contributions and d.tensor in self.active}
        within = {d.tensor for d in group.definitions} & self.active
        grown = True
        while grown:
            grown = False
            for d in group.definitions:
                if d.tensor in reached:
                    more = {t for t in within - reached if depends(d.body, lambda r, t=t: r.tensor == t)}  # type: ignore[misc]
                    grown |= bool(more)
                    reached |= more
        members_ = [d for d in group.definitions if d.tensor in reached]
        outside: dict[str, _Adjoint] = {}
        names: dict[str, str] = {}
        for d in members_:
            if d.tensor in self.contributions:
                outside[d.tensor] = self.finish(d.tensor, d.formals)
        for d in members_:
            names[d.tensor] = self.names(f"{d.tensor}'")
            self.facts.dims[names[d.tensor]] = d.dims
        beside: dict[str, list[Definition]] = {}
        for d in members_:
            value = Read(names[d.tensor], d.formals, REAL)
            beside[d.tensor] = self.inside = []
            self.backward(d, _Adjoint(d.formals, value, (), (), False))
        self.inside = None
        reversed_: list[Definition] = []
        for d in members_[::-1]:
            name = names[d.tensor]
            parts: list[Definition] = []
            terms: list[Guarded] = []
            if d.tensor in outside:
                given = outside[d.tensor]
                conditions = (*given.hard, *given.soft) if given.must else ()
                terms.append(Guarded(conditions, given.value))
            for c in _join(self.contributions.pop(d.tensor, [])):
                if c.bound:
                    parts.append(self.part(self.names(f"{name}.{len(parts)}"), d.formals, c))
                    terms.append(Guarded((), Read(parts[-1].tensor, d.formals, REAL)))
                else:
                    terms.append(_term(c))
            reversed_ += parts
            reversed_.append(Definition(name, d.formals, "map", (), TRUE, _sum(terms)))
            reversed_ += beside[d.tensor]
        if reversed_:
            self.define(Group(tuple((axis, -sign) for axis, sign in group.order), tuple(reversed_)))

    def part(self, name: str, formals: tuple[Index, ...], c: _Contribution) -> Definition:
        where = conjunction((*c.guards, *c.hard))
        return Definition(name, formals, "sum", c.bound, where, select(conjunction(c.soft), c.value, ZERO))

    def contribute(self, d: Definition, adjoint: _Adjoint, read: Read, term: Guarded) -> None:
        formals = self.formals(read.tensor)
        every = d.formals + d.bound
        renamed: dict[Scalar, Scalar] = {}
        taken: list[Index] = list(formals)
        for i in every:
            fresh = fresh_index(i, taken)
            taken.append(fresh)
            renamed[i] = fresh
        memo: dict[Scalar, Scalar] = {}

        def put(node: Scalar) -> Scalar:
            return substitute(node, renamed, memo)

        value, soft = _peel(term.value)
        # Outside of its support a definition is not evaluated; nor is then what its derivative reads.
        outside = conjuncts(d.support) if data_dependent(value, *soft) else ()
        path = unique((*outside, *conjuncts(d.where), *term.conditions))
        support_hard, support_soft = self.support_for(adjoint, (value, *soft), d)
        known = adjoint.hard if adjoint.must else self.exact_support(adjoint)
        said = {*self.defined.own(read), *self.defined.said((*known, *path))}  # own: so say the equations below
        if d.bound:
            support_hard = self.bundled(support_hard, d)
            known = self.bundled(known, d)
        exists = unique((*self.defined.here(d), *self.defined.whole(d, value)))
        path = unique((*path, *(c for c in exists if c not in said)))
        at_formals: dict[Scalar, Scalar] = dict(zip(adjoint.formals, d.formals, strict=True))
        incoming = substitute(adjoint.value, at_formals) if at_formals else adjoint.value
        if _negative(incoming) and not self.scaled:
            value = neg(substitute(value, {_SEED: incoming.children[0]}))  # linear in the cotangent
        else:
            value = substitute(value, {_SEED: incoming})
        soft = tuple(substitute(c, {_SEED: incoming}) for c in soft)
        bound = tuple(i for i in (renamed[e] for e in every) if isinstance(i, Index))
        for conditions, indices in index_pieces(read.indices):
            selection = Selection(
                bound=bound,
                equations=tuple((put(e), a) for e, a in zip(indices, formals, strict=True)),
                hard=tuple(put(c) for c in settled((*support_hard, *path, *conditions))),
                soft=tuple(put(c) for c in (*support_soft, *soft)),
                values=(put(value), *(put(c) for c in known)),
            )
            solved = eliminate(selection, self.facts)
            self.contributions.setdefault(read.tensor, []).append(
                _Contribution(
                    solved.bound, solved.guards, solved.hard, solved.soft, solved.values[0], solved.values[1:]
                )
            )

    def support_for(
        self, adjoint: _Adjoint, factors: tuple[Scalar, ...], d: Definition
    ) -> tuple[tuple[Scalar, ...], tuple[Scalar, ...]]:
        """The conditions of the incoming adjoint that a contribution must repeat."""
        if adjoint.must:
            return adjoint.hard, adjoint.soft
        if data_dependent(*factors):
            return self.exact_support(adjoint), adjoint.soft if _singular(*factors) else ()
        if any(isinstance(c, Compare) and c.op == "==" and c.a.dtype is INT for c in adjoint.hard):
            return adjoint.hard, ()  # an equation may determine an index: then most of the sum disappears
        return (), ()

    def bundled(self, conditions: tuple[Scalar, ...], d: Definition) -> tuple[Scalar, ...]:
        """Conditions that a fold over further indices would test again at each of them, tested once beside it.
        Equations stay: they may determine an index."""
        loose = tuple(c for c in conditions if not _plain(c))
        if not loose:
            return conditions
        key = (d.tensor, conditions)
        if key not in self.bundles:
            inside = set(free_indices(*conditions))
            axes = tuple(i for i in d.formals if i in inside)
            on = self.names(f"{d.tensor}'.on")
            self.define(Definition(on, axes, "map", (), TRUE, conjunction(conditions)))
            self.bundles[key] = Read(on, axes, BOOL)
        return unique((self.bundles[key], *(c for c in conditions if isinstance(c, Compare) and _plain(c))))

    def exact_support(self, adjoint: _Adjoint) -> tuple[Scalar, ...]:
        """Conditions that hold exactly where some path contributes; sums get an `any` beside them."""
        if not adjoint.partly:
            return adjoint.hard
        if adjoint.exact is None:
            alternatives: list[Scalar] = []
            for name, c in adjoint.partly:
                formals = adjoint.formals
                conditions = (*c.guards, *c.hard, *c.known)
                if not c.bound:
                    alternatives.append(conjunction(conditions))
                    continue
                on = self.names(f"{name}.on")
                where = conjunction(conditions)
                if any(i in free_indices(where) for i in c.bound):
                    self.define(Definition(on, formals, "any", c.bound, TRUE, where))
                    alternatives.append(Read(on, formals, BOOL))
                else:
                    alternatives.append(where)
            adjoint.exact = conjuncts(disjunction(alternatives))
        return adjoint.exact

    # ------------------------------------------------------------------------------------------ one adjoint

    def formals(self, tensor: str) -> tuple[Index, ...]:
        d = self.program.definition(tensor)
        if d is not None:
            return d.formals
        entry = self.program.input(tensor)
        assert entry is not None
        result: list[Index] = []
        for k, (axis, dim) in enumerate(zip(entry.axes, entry.dims, strict=True)):
            base = axis if axis.isidentifier() else ("e" if axis == "..." else f"i{k}")
            result.append(fresh_index(Index(base, dim), result))
        return tuple(result)

    def define(self, *items: Definition | Group) -> None:
        self.made += items
        self.facts.dims.update((d.tensor, d.dims) for item in items for d in members(item))

    def beside(self, *items: Definition) -> None:
        """Define what reads an adjoint on its way: in the recurrence that is walked backwards, if there is one."""
        if self.inside is None:
            self.define(*items)
            return
        self.inside += items
        self.facts.dims.update((d.tensor, d.dims) for d in items)

    def finish(self, tensor: str, formals: tuple[Index, ...], *, inline: bool = True) -> _Adjoint:
        """Put the contributions to one tensor together: its adjoint."""
        items = _join(self.contributions.pop(tensor))
        d = self.program.definition(tensor)
        if inline and len(items) == 1 and not items[0].bound and _cheap(items[0].value):
            (only,) = items
            inside = set(free_indices(only.value, *only.guards, *only.hard, *only.soft))
            if _work(only.value) and len(inside & set(formals)) < (len(formals) or 1):
                # It does not vary along every axis: computed once for those along which it does.
                axes = tuple(i for i in formals if i in inside)
                name = self.names(f"{tensor}'")
                self.define(Definition(name, axes, "map", (), TRUE, _term(only).scalar()))
                hard, soft = settled((*only.guards, *only.hard, *only.known)), only.soft
                return _Adjoint(formals, Read(name, axes, REAL), hard, soft, False)
            return _Adjoint(formals, only.value, settled((*only.guards, *only.hard, *only.known)), only.soft, True)
        name = self.names(f"{tensor}'")
        terms: list[Guarded] = []
        parts: list[tuple[str, _Contribution]] = []
        for c in items:
            if c.bound:
                part = name if len(items) == 1 else self.names(f"{name}.{len(parts)}")
                made = self.part(part, formals, c)
                self.define(replace(made, origin=d.origin) if d is not None else made)
                terms.append(Guarded((), Read(part, formals, REAL)))
                parts.append((part, c))
            else:
                terms.append(_term(c))
                parts.append((name, c))
        outer = [_outer(c) for c in items]
        hard = conjuncts(disjunction(conjunction(o) for o in outer))
        soft_support: tuple[Scalar, ...] = ()
        if all(c.soft and not c.bound for c in items):
            soft_support = conjuncts(disjunction(conjunction((*c.guards, *c.hard, *c.soft)) for c in items))
        partly = tuple(parts) if any(_inner(c) for c in items) else ()
        read = Read(name, formals, REAL)
        if len(items) == 1 and items[0].bound:
            return _Adjoint(formals, read, hard, soft_support, False, partly)
        body = _sum(terms)
        self.define(Definition(name, formals, "map", (), TRUE, body))
        return _Adjoint(formals, read, hard, soft_support, False, partly)

    def gradient(self, name: str, cotangent: str) -> str:
        """The tensor that holds the gradient of one input."""
        formals = self.formals(name)
        if name not in self.contributions:
            zero = self.names(f"{name}'")
            self.define(Definition(zero, formals, "map", (), TRUE, ZERO))
            return zero
        adjoint = self.finish(name, formals, inline=False)
        assert isinstance(adjoint.value, Read)
        if not self.scaled:
            return adjoint.value.tensor
        scaled = self.names(f"{name}'")
        body = mul(Read(cotangent, (), REAL), adjoint.value)
        self.define(Definition(scaled, formals, "map", (), TRUE, body))
        return scaled


def _sum(terms: list[Guarded]) -> Scalar:
    """The sum of guarded terms; what all of them ask for first is asked once."""
    merged = merge(terms)
    prefix = shared([t.conditions for t in merged])
    rest = [Guarded(t.conditions[len(prefix) :], t.value) for t in merged]
    inner: Scalar = ZERO
    for t in sorted(rest, key=lambda t: _negative(t.value)):
        if _negative(t.value):
            inner = sub(inner, Guarded(t.conditions, neg(t.value)).scalar())
        else:
            inner = add(inner, t.scalar())
    return select(conjunction(prefix), inner, ZERO)


def _negative(value: Scalar) -> bool:
    return isinstance(value, Apply) and value.name == "neg"


def _term(c: _Contribution) -> Guarded:
    return Guarded(unique((*c.guards, *c.hard)), select(conjunction(c.soft), c.value, ZERO))


def _join(items: list[_Contribution]) -> list[_Contribution]:
    """Selections over the same bound indices under the same conditions become one sum.

    Sums without conditions stay apart: each may be a product that a library computes.
    """
    joined: list[_Contribution] = []
    for item in items:
        for k, other in enumerate(joined):
            if not item.bound or [i.dim for i in item.bound] != [i.dim for i in other.bound]:
                continue
            mapping: dict[Scalar, Scalar] = dict(zip(item.bound, other.bound, strict=True))
            guards = tuple(substitute(c, mapping) for c in item.guards)
            hard = tuple(substitute(c, mapping) for c in item.hard)
            if guards + hard and guards == other.guards and hard == other.hard:
                mine = substitute(select(conjunction(item.soft), item.value, ZERO), mapping)
                value = add(select(conjunction(other.soft), other.value, ZERO), mine)
                known = tuple(substitute(c, mapping) for c in item.known)
                either = conjuncts(disjunction((conjunction(known), conjunction(other.known))))
                joined[k] = _Contribution(other.bound, other.guards, other.hard, (), value, either)
                break
        else:
            joined.append(item)
    return joined


def _plain(condition: Scalar) -> bool:
    """Free to test, an equation of integers, or of extents and indices alone: that is proved where it is used."""
    if isinstance(condition, Read) or not any(isinstance(n, Read | Param) for n in postorder(condition)):
        return True
    return isinstance(condition, Compare) and condition.op == "==" and condition.a.dtype is INT


def _outer(c: _Contribution) -> tuple[Scalar, ...]:
    """The conditions of a contribution that do not depend on its bound indices."""
    bound = set(c.bound)
    return unique(x for x in (*c.guards, *c.hard, *c.known) if bound.isdisjoint(free_indices(x)))


def _inner(c: _Contribution) -> bool:
    bound = set(c.bound)
    return any(not bound.isdisjoint(free_indices(x)) for x in (*c.guards, *c.hard, *c.known))


def _peel(value: Scalar) -> tuple[Scalar, tuple[Scalar, ...]]:
    """Split `Select(c, v, 0)` into the value and the conditions under which it is not zero."""
    soft: list[Scalar] = []
    while isinstance(value, Select) and value.b is ZERO:
        soft.extend(conjuncts(value.condition))
        value = value.a
    return value, tuple(soft)


def _cheap(value: Scalar) -> bool:
    """An adjoint that is no dearer to compute again than to store and read: constants, sizes, one small product."""
    return all(isinstance(n, Const | Size | Param | Read | Index | Apply) for n in postorder(value)) and (
        _work(value) <= 2
    )


def _work(value: Scalar) -> int:
    """Operations of a small product; many for anything else."""
    work = 0
    for n in postorder(value):
        if isinstance(n, Apply) and n.dtype is REAL and n.name != "real":
            work += 1 if n.name in ("add", "sub", "mul", "div", "neg") else 3
    return work


# Functions whose partials are finite at finite data.
_REGULAR = frozenset({"add", "sub", "mul", "neg", "real", "abs", "sign", "relu", "clamp", "min2", "max2", "exp"})
_REGULAR |= {"sigmoid", "softplus", "logsigmoid", "logcosh", "expdiff", "expm1", "sin", "cos", "sinh", "cosh"}
_REGULAR |= {"tanh", "atan"}


def _singular(*factors: Scalar) -> bool:
    """True if a factor can be infinite or NaN at finite data: it divides, takes a logarithm, a root, a power."""
    for n in postorder(*factors):
        if isinstance(n, Apply) and n.dtype is REAL and n.name not in _REGULAR:
            if n.name == "div" and not data_dependent(n.args[1]):
                continue
            return True
    return False


__all__ = ["NotYetError", "active_tensors", "differentiate", "facts_of"]
