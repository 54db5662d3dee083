"""Ranges: an enclosure of every scalar, and of every definition, over the declared domains.

Inputs are finite reals of their domain, parameters any value of their range, extents integers of at least 0 (at least 1
where an element of that axis is in hand). Reads of one tensor at different places are independent; what is lost by that
is regained by the facts of `_difference` (an element against the maximum or log-sum-exp of its row).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Self

from lossdsl.dim import Dim
from lossdsl.ir.build.affine import NEGATED
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    TRUE,
    ZERO,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Input,
    Not,
    Or,
    Param,
    Parameter,
    Program,
    Proxy,
    Range,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
    postorder,
    tensors_of,
)
from lossdsl.ir.rewrite import instantiate, substitute
from lossdsl.primitives import HEADS
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import ANYTHING, INF, REALS, UNIT, Enclosure
from lossdsl.verify.operations import EITHER, NO, YES, compare, empty_fold, logsumexp, total, transfer, truth

if TYPE_CHECKING:
    from lossdsl.verify.norms import Norms


class Scope:
    """What scalars are read as: enclosures of leaves, computed once per node. `known` overrides any node."""

    def __init__(self, ranges: Ranges, nonempty: frozenset[Dim], known: Mapping[Scalar, Enclosure]) -> None:
        self.ranges, self.nonempty = ranges, nonempty | _counted(known)
        self.memo: dict[Scalar, Enclosure] = dict(known)
        self.known = known

    def __getitem__(self, node: Scalar) -> Enclosure:
        found = self.memo.get(node)
        if found is not None:
            return found
        stack = [node]
        while stack:
            top = stack[-1]
            if top in self.memo:
                stack.pop()
                continue
            # the branches of a Select are evaluated under its condition, by a scope of their own
            need = (top.condition,) if isinstance(top, Select) else top.children
            missing = [c for c in need if c not in self.memo]
            if missing:
                stack.extend(missing)
                continue
            self.memo[top] = self._node(top)
            stack.pop()
        return self.memo[node]

    def under(self, condition: Scalar, holds: bool) -> Scope | None:
        """The scope in which the condition is known to hold (or to fail); None if that cannot be."""
        known = dict(self.known)
        if not self._learn(condition, holds, known):
            return None
        return (
            self if len(known) == len(self.known) and known == self.known else Scope(self.ranges, self.nonempty, known)
        )

    def reading(self, node: Scalar) -> Scope:
        """The scope where `node` is evaluated: the axes of what it reads have an element."""
        more = self.ranges.read_axes(node)
        return self if more <= self.nonempty else Scope(self.ranges, self.nonempty | more, self.known)

    def _learn(self, condition: Scalar, holds: bool, known: dict[Scalar, Enclosure]) -> bool:
        decided = truth(self[condition])
        if decided is not None:
            return decided == holds
        if isinstance(condition, Not):
            return self._learn(condition.a, not holds, known)
        if isinstance(condition, (And, Or)):
            if isinstance(condition, And) == holds:
                return all(self._learn(c, holds, known) for c in condition.args)
            return self._learn_one_of(condition, holds, known)
        known[condition] = YES if holds else NO
        if isinstance(condition, Read):
            meaning = self.ranges.meaning(condition)
            return meaning is None or self._learn(meaning, holds, known)
        if isinstance(condition, Compare):
            op = condition.op if holds else NEGATED[condition.op]
            if op == "!=":
                self._apart(condition.a, self[condition.b], known)
                self._apart(condition.b, self[condition.a], known)
                return True
            for node, other, sense in ((condition.a, condition.b, op), (condition.b, condition.a, MIRROR[op])):
                bound = below(sense, self[other])
                here = known.get(node, self[node])
                if bound is None or here.nan or self[other].nan:
                    continue
                both = e.meet(here, bound)
                if both is None:
                    return False
                known[node] = self._off_zero(node, both)
                if isinstance(node, Apply) and node.name == "abs" and both.hi < INF:
                    inner = known.get(node.args[0], self[node.args[0]])
                    tight = e.meet(inner, Enclosure(-both.hi, both.hi, both.hi_open, both.hi_open))
                    if tight is not None:
                        known[node.args[0]] = tight
        return True

    def _learn_one_of(self, condition: And | Or, holds: bool, known: dict[Scalar, Enclosure]) -> bool:
        """Learn that one of the parts holds (or fails): of a node what all of them say of it, each of which may be."""
        ways = []
        for part in condition.args:
            way = dict(known)
            if self._learn(part, holds, way):
                ways.append(way)
        if not ways:
            return False
        for node in ways[0]:
            if all(node in way for way in ways):
                found = ways[0][node]
                for way in ways[1:]:
                    found = e.hull(found, way[node])
                known[node] = found
        known[condition] = YES if holds else NO
        return True

    def _apart(self, node: Scalar, other: Enclosure, known: dict[Scalar, Enclosure]) -> None:
        """Learn `node != value` where the value is an end of what the node may be."""
        here = known.get(node, self[node])
        if here.nan or other.nan or other.lo != other.hi or here.lo == here.hi or isinstance(node, Const):
            return
        counts = node.args[0] if isinstance(node, Apply) and node.name == "real" else node
        step = 1.0 if counts.dtype is INT and abs(other.lo) < 2**52 else 0.0
        if here.lo == other.lo:
            known[node] = self._off_zero(node, Enclosure(here.lo + step, here.hi, not step, here.hi_open))
        elif here.hi == other.lo:
            known[node] = self._off_zero(node, Enclosure(here.lo, here.hi - step, here.lo_open, not step))

    def _off_zero(self, node: Scalar, box: Enclosure) -> Enclosure:
        """The box of a scalar whose end 0 is not attained, as far from 0 as its numbers are."""
        above, under = box.lo == 0 and box.lo_open, box.hi == 0 and box.hi_open
        step = self.ranges.granule(node) if above or under else 0.0
        if above and 0 < step < box.hi:
            return Enclosure(step, box.hi, False, box.hi_open)
        return Enclosure(box.lo, -step, box.lo_open, False) if under and 0 < step < -box.lo else box

    def _node(self, node: Scalar) -> Enclosure:
        memo = self.memo
        match node:
            case Const():
                if node.value == "nan":
                    return ANYTHING
                if isinstance(node.value, str):
                    end = INF if node.value == "inf" else -INF
                    return Enclosure(end, end)
                return self.ranges.constant(e.exact(node.value))
            case Param():
                return self.ranges.parameter(node.name)
            case Size():
                return self.ranges.extent(node.dim, self.nonempty)
            case Index():
                most = self.ranges.extent(node.dim, self.nonempty).hi
                return Enclosure(0.0, max(0.0, most - 1.0), False, most == INF)
            case Read():
                return self.ranges.tensor(node.tensor, self.nonempty)
            case Table():
                parts = [self[v] for v in node.values]
                whole = parts[0]
                for part in parts[1:]:
                    whole = e.hull(whole, part)
                return whole
            case Select():
                return self._select(node)
            case Compare():
                if node.a is node.b and self._certain(node.a):
                    return YES if node.op in ("<=", ">=", "==") else NO
                decided = compare(node.op, memo[node.a], memo[node.b])
                return self._implied(node) if decided is EITHER and self.known else decided
            case And() | Or() | Not():
                return self._logic(node)
            case Stop():
                return memo[node.a]
            case Proxy():
                return memo[node.value]
            case AdjointMap():
                return memo[node.a]
            case Apply():
                return self._apply(node)
        return ANYTHING

    def _implied(self, node: Compare) -> Enclosure:
        """What is known of the order of the same two numbers says."""
        if self.memo[node.a].nan or self.memo[node.b].nan:
            return EITHER
        possible, wanted = frozenset("<=>"), _ORDERS[node.op]
        for n, box in self.known.items():
            decided = truth(box)
            if isinstance(n, Compare) and decided is not None and {id(n.a), id(n.b)} == {id(node.a), id(node.b)}:
                orders = _ORDERS[n.op if n.a is node.a else MIRROR[n.op]]
                possible &= orders if decided else frozenset("<=>") - orders
        return YES if possible <= wanted else EITHER if possible & wanted else NO

    def _certain(self, node: Scalar) -> bool:
        """Whether a node is one and the same number wherever it is read, in every arithmetic: nothing is computed."""
        if isinstance(node, Read):
            return self.ranges.program.input(node.tensor) is not None
        return isinstance(node, (Index, Size, Param))

    def _logic(self, node: Scalar) -> Enclosure:
        if isinstance(node, Not):
            decided = truth(self.memo[node.a])
            return EITHER if decided is None else NO if decided else YES
        values = [truth(self.memo[a]) for a in node.children]
        if isinstance(node, And):
            return NO if False in values else YES if all(values) else EITHER
        return YES if True in values else NO if all(v is False for v in values) else EITHER

    def _select(self, node: Select) -> Enclosure:
        parts = []
        for branch, holds in ((node.a, True), (node.b, False)):
            scope = self.under(node.condition, holds)
            if scope is not None:
                parts.append(scope.reading(branch)[branch])
        if not parts:  # the conditions learned contradict each other: no value is ever taken here
            return ANYTHING
        return parts[0] if len(parts) == 1 else e.hull(*parts)

    def _apply(self, node: Apply) -> Enclosure:
        args = [self.memo[a] for a in node.args]
        return self.ranges.refine(node, self.ranges.operation(node, args), self)


_ORDERS = {op: frozenset(op) for op in ("<", ">", "<=", ">=")} | {"==": frozenset("="), "!=": frozenset("<>")}
MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def below(op: str, b: Enclosure) -> Enclosure | None:
    """The set of all a for which `a op b` is possible."""
    match op:
        case "<":
            return Enclosure(-INF, b.hi, False, True) if b.hi > -INF else None
        case "<=":
            return Enclosure(-INF, b.hi, False, b.hi_open)
        case ">":
            return Enclosure(b.lo, INF, True, False) if b.lo < INF else None
        case ">=":
            return Enclosure(b.lo, INF, b.lo_open, False)
        case "==":
            return Enclosure(b.lo, b.hi, b.lo_open, b.hi_open)
    return None


class Ranges:
    """Enclosures of the tensors of a program.

    assume    narrows parameters and inputs by name (a `when`, an `on`, the defaults)
    interior  inputs of whose declared domain the boundary is left out (claims about the relative interior); the claim
              is empty where none of them has an entry, so that the axes that they share have an element
    closed    the boundary is left in all the same
    """

    def __init__(
        self,
        program: Program,
        assume: Mapping[str, Enclosure] | None = None,
        *,
        interior: frozenset[str] = frozenset(),
        closed: bool = False,
    ) -> None:
        self.program = program
        self.assume = dict(assume or {})
        self.interior = frozenset() if closed else interior
        self._inputs = {i.name: i for i in program.inputs}
        shared = [frozenset(self._inputs[name].dims) for name in interior if name in self._inputs]
        self.present: frozenset[Dim] = frozenset.intersection(*shared) if shared else frozenset()
        self._parameters = {p.name: p for p in program.parameters}
        self._definitions = {d.tensor: d for d in program.definitions()}
        self._grouped = {d.tensor: g for g in program.body if isinstance(g, Group) for d in g.definitions}
        self._assumed: dict[str, Enclosure] = {}  # of the elements of a recurrence, while it is looked at
        self._invariants: dict[str, Enclosure] = {}
        self._memo: dict[tuple[str, frozenset[Dim]], Enclosure] = {}
        self._scopes: dict[frozenset[Dim], Scope] = {}
        self._read_axes: dict[Scalar, frozenset[Dim]] = {}
        self._asked: dict[str, frozenset[Dim]] = {}
        self.written: dict[Scalar, Scalar | None] = {}  # scalars with definitions written out, which others may share

    # ------------------------------------------------------------------ what another arithmetic overrides

    def operation(self, node: Apply, args: list[Enclosure]) -> Enclosure:
        """The enclosure of one operation."""
        return transfer(node, args)

    def constant(self, value: Enclosure) -> Enclosure:
        return value

    def granule(self, node: Scalar) -> float:
        """What every number that is not 0 is at least in size, of those that the scalar may be; 0 if nothing is known."""
        return 0.0

    def repeatable(self, node: Scalar) -> bool:
        """Whether a scalar is one number, wherever it is computed and whatever is made of it."""
        return True

    def near(self, node: Scalar) -> bool:
        """Whether it is nearly one number, relative to its size."""
        return True

    # ---------------------------------------------------------------------------------------------- leaves

    def scope(self, nonempty: frozenset[Dim] = frozenset()) -> Scope:
        found = self._scopes.get(nonempty)
        if found is None:
            found = self._scopes[nonempty] = Scope(self, nonempty, {})
        return found

    def body_scope(self, d: Definition) -> Scope:
        """The scope of a body where it is evaluated: the axes of what it reads there have an element."""
        return self.scope(frozenset(i.dim for i in (*d.formals, *d.bound)) | self.read_axes(d.body))

    def read_axes(self, body: Scalar) -> frozenset[Dim]:
        """The axes of all tensors that are read whenever the body is evaluated."""
        known = self._read_axes.get(body)
        if known is not None:
            return known
        found: set[Dim] = set()
        todo = [body]
        seen: set[Scalar] = set()
        while todo:
            n = todo.pop()
            if n in seen:
                continue
            seen.add(n)
            if isinstance(n, Read):
                found.update(self._axes(n.tensor))
            todo.extend((n.condition,) if isinstance(n, Select) else () if isinstance(n, (And, Or)) else n.children)
        result = self._read_axes[body] = frozenset(found)
        return result

    def meaning(self, condition: Read) -> Scalar | None:
        """What a condition that is read says, if it is defined by what is no fold."""
        d = self.definition(condition.tensor)
        if d is None or d.head != "map" or d.support is not TRUE:
            return None
        return instantiate(d, condition.indices)

    def definition(self, tensor: str) -> Definition | None:
        """The definition of a tensor that is no part of a recurrence."""
        return None if tensor in self._grouped else self._definitions.get(tensor)

    def _axes(self, tensor: str) -> tuple[Dim, ...]:
        if tensor in self._inputs:
            return self._inputs[tensor].dims
        d = self._definitions.get(tensor)
        return d.dims if d is not None else ()

    def parameter(self, name: str) -> Enclosure:
        declared = self._parameters.get(name)
        base = _domain_of_parameter(declared, self) if declared is not None else REALS
        return self._narrow(name, base)

    def input(self, name: str) -> Enclosure:
        return self._narrow(name, _domain_of_input(self._inputs[name], self, name in self.interior))

    def _narrow(self, name: str, base: Enclosure) -> Enclosure:
        more = self.assume.get(name)
        if more is None:
            return base
        both = e.meet(base, more)
        return base if both is None else both

    def extent(self, dim: Dim, nonempty: frozenset[Dim]) -> Enclosure:
        if dim.constant is not None:
            return Enclosure(float(dim.constant), float(dim.constant))
        some = all(d in nonempty or d in self.present for d in factors_of(dim))
        return Enclosure(1.0 if some or dim in nonempty else 0.0, INF, False, True)

    def tensor(self, name: str, nonempty: frozenset[Dim] = frozenset()) -> Enclosure:
        """Every element of an input or a definition; `nonempty` are axes known to have an element."""
        if name in self._inputs:
            return self.input(name)
        if name in self._assumed:
            return self._assumed[name]
        if name in self._grouped:
            return self._recurrence(name)
        if name not in self._definitions:
            return ANYTHING
        key = (name, nonempty)
        if key not in self._memo:
            definition = self._definitions[name]
            inside = (nonempty & self._extents_of(definition)) | frozenset(definition.dims)
            same = (name, inside)
            if same not in self._memo:
                self._memo[same] = self._definition(definition, inside)
            self._memo[key] = self._memo[same]
        return self._memo[key]

    def _extents_of(self, d: Definition) -> frozenset[Dim]:
        """The extents that an enclosure of the definition may ask for: its own, and those of all that it reads."""
        if d.tensor not in self._asked:
            group = self._grouped.get(d.tensor)
            together = group.definitions if group is not None else (d,)
            own: set[Dim] = set()
            read: set[str] = set()
            for m in together:
                sizes = (n.dim for n in postorder(*m.scalars()) if isinstance(n, (Index, Size)))
                own |= {*m.dims, *(i.dim for i in m.bound), *sizes, *two_places(m)}
                read |= {*tensors_of(m.scalars())}
            for name in read - {m.tensor for m in together}:
                own |= self._extents_of(self._definitions[name]) if name in self._definitions else {*self._axes(name)}
            own |= {dim for i in self._inputs.values() if i.classes in own for dim in i.dims}
            found = frozenset(f for dim in own for f in (dim, *factors_of(dim)))
            self._asked |= dict.fromkeys((m.tensor for m in together), found)
        return self._asked[d.tensor]

    # ------------------------------------------------------------------------------------------ recurrences

    def _recurrence(self, name: str) -> Enclosure:
        """An enclosure of the elements of a recurrence: an invariant, by induction along its order (which is proved to
        be one), and then once more what its definitions give of it."""
        if name not in self._invariants:
            group = self._grouped[name]
            self._invariants |= {d.tensor: ANYTHING for d in group.definitions}
            for candidate in _CANDIDATES:
                assumed = {d.tensor: EITHER if d.dtype is BOOL else candidate for d in group.definitions}
                found = self._step(group, assumed)
                if all(_within(found[t], assumed[t]) for t in found):
                    again = self._step(group, found)
                    self._invariants |= again if all(_within(again[t], found[t]) for t in again) else found
                    break
        return self._invariants[name]

    def supposing(self, boxes: Mapping[str, Enclosure]) -> Self:
        """The same ranges where elements of recurrences are taken to be in the given enclosures. Nothing that was computed
        without that is kept but invariants."""
        inner = copy.copy(self)
        inner._assumed, inner._invariants = {**self._assumed, **boxes}, dict(self._invariants)
        inner._memo, inner._scopes = {}, {}
        inner.__dict__.pop("norms", None)  # which are of what was not supposed
        return inner

    def _step(self, group: Group, assumed: dict[str, Enclosure]) -> dict[str, Enclosure]:
        """What the definitions of a recurrence give, if what they read of it is as assumed."""
        inner = self.supposing(assumed)
        inner._invariants = self._invariants  # of what stands before: it does not depend on this one
        return {d.tensor: inner._definition(d, frozenset(d.dims)) for d in group.definitions}

    # ----------------------------------------------------------------------------------------- definitions

    def _definition(self, d: Definition, nonempty: frozenset[Dim]) -> Enclosure:
        if d.support is TRUE:
            return self._head(d, nonempty, {})
        scope = self.scope(nonempty).under(d.support, True)
        outside = Enclosure(0.0, 0.0)
        return outside if scope is None else e.hull(self._head(d, nonempty, scope.known), outside)

    def _head(self, d: Definition, nonempty: frozenset[Dim], known: Mapping[Scalar, Enclosure]) -> Enclosure:
        inside = nonempty | frozenset(i.dim for i in d.bound) | self.read_axes(d.body)
        scope: Scope | None = Scope(self, inside, known) if known else self.scope(inside)
        assert scope is not None
        if d.head == "map":
            return scope[d.body]
        sizes = [self.extent(i.dim, nonempty).hi for i in d.bound]
        most = math.prod(sizes) if 0 not in sizes else 0.0
        if d.head in ("count", "argmax", "argmin", "argsort"):
            return Enclosure(0.0, most, False, most == INF)
        if d.head in ("any", "all"):
            return EITHER
        if d.where is not TRUE:
            scope = scope.under(d.where, True)
        if scope is None:  # nothing is ever selected
            return empty_fold(d.head)
        body = scope[d.body]
        some = d.where is TRUE and all(self.extent(i.dim, nonempty).lo >= 1 for i in d.bound)
        some = some or (d.where is not TRUE and self._selects_itself(d, Scope(self, inside, known)))
        some = some or not two_places(d).isdisjoint(nonempty)
        match d.head:
            case "sum":
                return self.long_sum(d, total(body, some, most), scope)
            case "max" | "min":
                # without elements it has a value only if the head says so: readers ask first
                return body if some or HEADS[d.head].empty is None else e.hull(body, empty_fold(d.head))
            case "logsumexp":
                return logsumexp(body, some, most)
            case "prod":
                if body.finite and body.nonnegative:
                    top = 1.0 if body.hi <= 1 else INF
                    return Enclosure(0.0, top, False, top == INF)
                return ANYTHING if not body.finite else REALS
        return ANYTHING

    def _selects_itself(self, d: Definition, scope: Scope) -> bool:
        """Whether a fold selects the place of the element that it is: `time[m] >= time[n]` holds where m is n."""
        places = [[f for f in d.formals if f.dim == i.dim] for i in d.bound]
        return any(
            truth(scope[substitute(d.where, dict(zip(d.bound, at, strict=True)))]) is True
            for at in itertools.islice(itertools.product(*places), _MOST_PLACES)
        )

    # ---------------------------------------------------------------------------------------------- facts

    def long_sum(self, d: Definition, found: Enclosure, scope: Scope) -> Enclosure:
        """What is known of a sum beside the enclosure by its terms."""
        products = isinstance(d.body, Apply) and d.body.name in ("mul", "pow", "powi", "add", "sub", "neg")
        if found.nan or not found.finite or found.bounded or not products:
            return found
        fact = self.norms.of_sum(d, scope)
        return found if fact is None else e.meet(found, fact) or found

    @cached_property
    def norms(self) -> Norms:
        from lossdsl.verify.norms import Norms  # its rules look through definitions, which is made of ranges

        return Norms(self)

    def refine(self, node: Apply, found: Enclosure, scope: Scope) -> Enclosure:
        """What is known of a node beside the enclosure of its operation."""
        fact: Enclosure | None = None
        if node.name in ("sub", "expdiff"):
            fact = self._difference(node.args[0], node.args[1], scope)
            if fact is not None and node.name == "expdiff":
                fact = Enclosure(0.0, 1.0, scope[node.args[0]].finite and scope[node.args[1]].finite, False)
        elif node.name == "add" and isinstance(node.args[1], Apply) and node.args[1].name == "neg":
            fact = self._difference(node.args[0], node.args[1].args[0], scope)
        elif node.name == "add":
            fact = _mean(node.args[0], node.args[1], scope) or _mean(node.args[1], node.args[0], scope)
        elif node.name == "div":
            fact = self._average(node, scope) or place_of(node) or _part(node, scope)
            fact = fact or self._share(node.args[0], node.args[1], scope)
            fact = fact or (None if found.nan else self.norms.of_quotient(node, scope))
        elif node.name == "mul":
            fact = self._share_of(node.args[0], node.args[1], scope)
        if fact is None:
            return found
        return (
            e.meet(Enclosure(found.lo, found.hi, found.lo_open, found.hi_open), fact) or found
            if (not found.nan)
            else found
        )

    def _share_of(self, a: Scalar, b: Scalar, scope: Scope) -> Enclosure | None:
        """Of a product (x / y) z: x times a share z / y."""
        for over, z in ((a, b), (b, a)):
            if isinstance(over, Apply) and over.name == "div":
                share = self._share(z, over.args[1], scope)
                if share is not None and scope[over.args[0]].finite:
                    return e.mul(scope[over.args[0]], share)
        return None

    def _share(self, x: Scalar, whole: Scalar, scope: Scope) -> Enclosure | None:
        """One of the terms of a sum by the sum, none of which is negative: from 0 to 1."""
        d = self._definitions.get(whole.tensor) if isinstance(whole, Read) else None
        if not isinstance(whole, Read) or d is None or d.head != "sum" or not _whole(d) or d.tensor in self._grouped:
            return None
        if not scope[whole].positive or not self.body_scope(d)[d.body].nonnegative:
            return None
        formals: dict[Index, Scalar] = dict(zip(d.formals, whole.indices, strict=True))
        return UNIT if matches(d.body, x, formals, set(d.bound), self.names) else None

    def _difference(self, a: Scalar, b: Scalar, scope: Scope) -> Enclosure | None:
        """The sign of `element - maximum of its row` and its kin."""
        for x, y, sign in ((a, b, 1), (b, a, -1)):
            if not isinstance(y, Read) or y.tensor in self._grouped:
                continue
            d = self._definitions.get(y.tensor)
            if d is None or d.support is not TRUE or d.head not in ("max", "min", "logsumexp"):
                continue
            formals: dict[Index, Scalar] = dict(zip(d.formals, y.indices, strict=True))
            if not matches(d.body, x, formals, set(d.bound), self.names):
                continue
            if (
                not _whole(d)
                and truth(scope[substitute(d.where, dict(zip(d.formals, y.indices, strict=True)))]) is not True
            ):
                continue  # the element may be none of those that are selected
            upward = sign if d.head != "min" else -sign
            entries = d.head == "logsumexp" and _whole(d)
            gap = self._above_entries(d, scope) if entries else Enclosure(0.0, INF, False, True)
            return e.neg(gap) if upward > 0 else gap
        return None

    def _above_entries(self, d: Definition, scope: Scope) -> Enclosure:
        """log sum exp less an entry, log(1 + sum of exp of the others less it): with n entries in an interval of width w,
        from log(1 + (n - 1) e^-w) to log(1 + (n - 1) e^w)."""
        inside = scope.nonempty | frozenset(i.dim for i in (*d.formals, *d.bound))
        body, least, most = self.scope(inside)[d.body], 1.0, 1.0
        for i in d.bound:
            size = self.extent(i.dim, inside)
            least, most = least * size.lo, most * size.hi
        if body.nan or not body.bounded or least <= 1:
            return Enclosure(0.0, INF, False, True)
        width = Enclosure(0.0, e.add_up(body.hi, -body.lo))
        lo = _spread_log(least, e.neg(width)).lo
        hi = _spread_log(most, width).hi if most < INF else INF
        return Enclosure(max(lo, 0.0), hi, lo <= 0, hi == INF)

    def names(self, node: Scalar, dim: Dim) -> bool:
        """Whether an index scalar certainly names an element of the axis (a class that is read is one of its classes
        wherever the access that it makes is evaluated)."""
        if isinstance(node, Index):
            return node.dim == dim
        if not isinstance(node, Read):
            return False
        declared, d = self._inputs.get(node.tensor), self._definitions.get(node.tensor)
        if d is not None:  # the place of an extremum, an entry of an order
            return d.head in ("argmax", "argmin", "argsort") and _whole(d) and [i.dim for i in d.bound] == [dim]
        return declared is not None and declared.classes == dim

    def _average(self, node: Apply, scope: Scope) -> Enclosure | None:
        """A sum over whole axes divided by their size lies in the hull of its elements."""
        read, size = node.args[0], node.args[1]
        d = self._definitions.get(read.tensor) if isinstance(read, Read) else None
        if d is None or d.head != "sum" or not _whole(d) or d.tensor in self._grouped:
            return None
        if product_of_sizes(size) != number_of(d.bound):
            return None
        body = self.scope(scope.nonempty | frozenset(i.dim for i in (*d.formals, *d.bound)))[d.body]
        return Enclosure(body.lo, body.hi, body.lo_open, body.hi_open) if body.finite else None


_MOST_PLACES = 4


def _counted(known: Mapping[Scalar, Enclosure]) -> frozenset[Dim]:
    """The axes that have an element by what is known of their sizes; `n - 1` of an axis that has two."""
    least = [(n.dim, box) for n, box in known.items() if isinstance(n, Size) and not box.nan]
    found = {dim for dim, box in least if box.positive}
    return frozenset(found | {dim - 1 for dim, box in least if box.lo > 1 or (box.lo == 1 and box.lo_open)})


def two_places(d: Definition) -> frozenset[Dim]:
    """An axis that has an element only if a fold over two places of an axis goes over something: `n - 1` for `over n, m
    where n < m`, where that axis has to have two."""
    match d.where:
        case Compare(a=Index() as a, b=Index() as b) if (
            a.dim == b.dim and len(d.bound) == len({a, b} & set(d.bound)) == 2
        ):
            return frozenset({a.dim - 1 if d.where.op in ("<", ">", "!=") else a.dim})
    return frozenset()


# What the elements of a recurrence may all be, the most that is said first.
_CANDIDATES = (
    Enclosure(0.0, 0.0),
    UNIT,
    Enclosure(0.0, INF, False, True),
    Enclosure(-INF, 0.0, True, False),
    REALS,
    Enclosure(-INF, 0.0),
    Enclosure(-INF, INF, False, True),
    Enclosure(0.0, INF),
    Enclosure(-INF, INF, True, False),
    Enclosure(-INF, INF),
)


def _spread_log(count: float, width: Enclosure) -> Enclosure:
    """log(1 + (count - 1) e^width)."""
    others = e.mul(Enclosure(count - 1, count - 1), transfer(_EXP, [width]))
    return transfer(_LOG1P, [others])


_EXP, _LOG1P = (Apply(name, (Const(1),)) for name in ("exp", "log1p"))


def _within(a: Enclosure, b: Enclosure) -> bool:
    """Whether an enclosure lies in another."""
    low = a.lo > b.lo or (a.lo == b.lo and (a.lo_open or not b.lo_open))
    high = a.hi < b.hi or (a.hi == b.hi and (a.hi_open or not b.hi_open))
    return low and high and (b.nan or not a.nan)


def _part(node: Apply, scope: Scope) -> Enclosure | None:
    """Of `c x / (d x + y)` with x, y >= 0 and numbers c, d > 0: it is between 0 and c / d."""
    (c, x), *more = _terms(node.args[0])
    if more or c <= 0 or not (scope[x].nonnegative and scope[x].finite):
        return None
    own = Fraction(0)
    for d, y in _terms(node.args[1]):
        if y is x:
            own += d
        elif not (scope[y].finite and (scope[y].nonnegative if d > 0 else scope[y].nonpositive)):
            return None
    return Enclosure(0.0, e.exact(c / own).hi) if own > 0 else None


def _terms(n: Scalar) -> list[tuple[Fraction, Scalar]]:
    """A sum as terms with numbers as their factors."""
    if isinstance(n, Apply) and n.name in ("add", "sub"):
        sign = -1 if n.name == "sub" else 1
        return [*_terms(n.args[0]), *((sign * c, x) for c, x in _terms(n.args[1]))]
    if isinstance(n, Apply) and n.name == "neg":
        return [(-c, x) for c, x in _terms(n.args[0])]
    if isinstance(n, Apply) and n.name == "mul":
        for k, x in (n.args, n.args[::-1]):
            if isinstance(k, Const) and isinstance(k.value, Fraction):
                return [(k.value * c, y) for c, y in _terms(x)]
    return [(Fraction(1), n)]


def place_of(node: Apply) -> Enclosure | None:
    """(index + c) / size of the index's axis, 0 <= c <= 1: from 0 to 1, as an index is at most the size less 1."""
    top, size = node.args
    parts = top.args if isinstance(top, Apply) and top.name == "add" else (top, ZERO)
    for index, offset in (parts, parts[::-1]):
        inner = index.args[0] if isinstance(index, Apply) and index.name == "real" else index
        c = offset.value if isinstance(offset, Const) else None
        if (
            isinstance(inner, Index)
            and isinstance(c, Fraction)
            and product_of_sizes(size) == [inner.dim]
            and 0 <= c <= 1
        ):
            return Enclosure(0.0, 1.0, c > 0, c < 1)
    return None


def _mean(a: Scalar, further: Scalar, scope: Scope) -> Enclosure | None:
    """a + (b - a) s, s from 0 to 1: between a and b."""
    found = _times_difference(further, a)
    if found is None:
        return None
    (b, share), low = found, scope[a]
    high, weight = scope[b], scope[share]
    between = weight.lo >= 0 and weight.hi <= 1 and not weight.nan
    return e.hull(low, high) if between and low.finite and high.finite else None


def _times_difference(n: Scalar, a: Scalar) -> tuple[Scalar, Scalar] | None:
    """(b, s) of a product (b - a) s."""
    if isinstance(n, Apply) and n.name == "sub" and n.args[1] is a:
        return n.args[0], Const(1)
    if not isinstance(n, Apply) or n.name not in ("mul", "div"):
        return None
    for k, inner in enumerate(n.args if n.name == "mul" else n.args[:1]):
        found = _times_difference(inner, a)
        if found is not None:
            rest = (found[1], n.args[1 - k])
            return found[0], Apply(n.name, rest)
    return None


def _whole(d: Definition) -> bool:
    """Whether every element is a fold of all elements of its axes."""
    return d.where is TRUE and d.support is TRUE


def factors_of(dim: Dim) -> list[Dim]:
    """The extents that an extent is the product of, each a name; the extent itself if it is no such product."""
    if len(dim.terms) != 1 or dim.terms[0][1] != 1 or not all(isinstance(a, str) for a in dim.terms[0][0]):
        return [dim]
    return sorted(Dim.symbol(a) for a in dim.terms[0][0] if isinstance(a, str))


def number_of(bound: Iterable[Index]) -> list[Dim]:
    """The extents of which the number of places of the indices is the product."""
    return sorted(f for i in bound for f in factors_of(i.dim))


def product_of_sizes(node: Scalar) -> list[Dim] | None:
    if isinstance(node, Apply) and node.name in ("real", "int") and len(node.args) == 1:
        return product_of_sizes(node.args[0])
    if isinstance(node, Size):
        return factors_of(node.dim)
    if isinstance(node, Apply) and node.name == "mul":
        parts = [product_of_sizes(a) for a in node.args]
        if all(p is not None for p in parts):
            return sorted(dim for p in parts if p is not None for dim in p)
    return None


def matches(
    pattern: Scalar, node: Scalar, fixed: dict[Index, Scalar], free: set[Index], names: Callable[[Scalar, Dim], bool]
) -> bool:
    """Whether `node` is `pattern` with its formals replaced as in `fixed` and each free index by one index scalar."""
    if isinstance(pattern, Index):
        if pattern in fixed:
            return fixed[pattern] is node
        if pattern in free:
            fixed[pattern] = node
            return names(node, pattern.dim)
        return pattern is node
    if type(pattern) is not type(node) or len(pattern.children) != len(node.children):
        return False
    if not pattern.children:
        return pattern is node
    if pattern.rebuild(node.children) is not node:
        return False
    return all(matches(p, n, fixed, free, names) for p, n in zip(pattern.children, node.children, strict=True))


def _domain_of_parameter(p: Parameter, ranges: Ranges) -> Enclosure:
    if p.kind == "bool":
        return UNIT
    return _narrowed(REALS, p.range, ranges)


def _domain_of_input(i: Input, ranges: Ranges, interior: bool) -> Enclosure:
    match i.kind:
        case "prob":
            base = Enclosure(0.0, 1.0, interior, interior)
        case "simplex":  # of one class it is 1, and nothing else
            base = Enclosure(0.0, 1.0, interior, interior and any((i.dims[k].constant or 1) > 1 for k in i.over))
        case "unit":
            base = Enclosure(-1.0, 1.0)
        case "bool" | "binary":
            return UNIT
        case "sign":
            return Enclosure(-1.0, 1.0)
        case "class":
            base = Enclosure(0.0, INF, False, True)
            return REALS if i.also is not None else base
        case _:
            base = REALS
    full = _narrowed(base, i.range, ranges)
    if interior and i.kind != "simplex" and i.dtype not in (BOOL, INT) and full.lo < full.hi:
        return full if _may_be_one_point(i.range, ranges) else Enclosure(full.lo, full.hi, True, True, full.nan)
    return full


def _may_be_one_point(declared: Range, ranges: Ranges) -> bool:
    """Whether the ends of an interval may be one number, for some parameters."""
    if declared.lower is None or declared.upper is None:
        return False
    return not ranges.scope()[Apply("sub", (declared.upper, declared.lower))].positive


def _narrowed(base: Enclosure, declared: Range, ranges: Ranges) -> Enclosure:
    result = base
    scope = ranges.scope()
    for bound, is_open, upper in (
        (declared.lower, declared.lower_open, False),
        (declared.upper, declared.upper_open, True),
    ):
        if bound is None:
            continue
        at = scope[bound]
        if at.nan:
            continue
        if upper:
            side = Enclosure(-INF, at.hi, True, is_open or at.hi_open)
        else:
            side = Enclosure(at.lo, INF, is_open or at.lo_open, True)
        result = e.meet(result, side) or result
    return result
