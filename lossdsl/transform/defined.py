"""Where a value exists at all: what is computed from a gather out of range is NaN, and no derivative goes through it.

    per[n] = lse[n] - x[n, t[n]]       lse[n] gets its cotangent where t[n] is in range, else exactly nothing

The types of integers are promises of the caller and are not trusted here. Two kinds of conditions are kept apart:

here    conditions at one point of a definition: of its own gathers, of maps that it reads, of reductions of which
        every element fails together. Nothing goes through the body at this point where they fail.
whole   those of reductions of which a single element may fail. A sum passes its cotangent on to the other elements,
        so they matter only for a derivative that needs the value of the reduction.

Recurrences are not followed: what comes after such a NaN is NaN, the derivative along the recurrence included.
"""

from __future__ import annotations

from collections.abc import Callable

from lossdsl.ir.check import depends_on_data
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    AdjointMap,
    Apply,
    Compare,
    Const,
    Definition,
    Or,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Stop,
    Table,
    postorder,
)
from lossdsl.ir.ranges import implies
from lossdsl.ir.rewrite import Fresh, free_indices, reads, substitute
from lossdsl.transform.arithmetic import conjunction, conjuncts, disjunction, negation, unique
from lossdsl.transform.eliminate import Facts, within

Conditions = tuple[Scalar, ...]
_PLACES = ("argmax", "argmin", "argsort")  # heads that give positions: in range unless nothing was there to choose


class Defined:
    """The conditions under which the values of a program exist. `define` takes definitions that are made on the way."""

    def __init__(
        self, program: Program, facts: Facts, names: Fresh, define: Callable[[Definition], None], *, trusted: bool
    ) -> None:
        self.facts, self.names, self.define = facts, names, define
        self.definitions = {d.tensor: d for d in program.body if isinstance(d, Definition)}
        self.ours: set[str] = set()  # positions that the program itself chose
        for d in program.definitions():
            if d.head in _PLACES or (d.head == "map" and isinstance(d.body, Read) and d.body.tensor in self.ours):
                self.ours.add(d.tensor)
        self.idle = trusted or not any(self._gathers(d) for d in program.definitions())
        self._at: dict[str, Conditions] = {}
        self._all: dict[str, Conditions] = {}
        self._memo: dict[Scalar, Conditions] = {}
        self._every: dict[Scalar, Conditions] = {}

    def here(self, d: Definition) -> Conditions:
        """Where the body of `d` exists, over its formals and bound indices."""
        if self.idle or d.tensor not in self.definitions:
            return ()
        return self._proved(d, self._walk(d.body, self._memo, self.passed))

    def whole(self, d: Definition, value: Scalar) -> Conditions:
        """Where all that a derivative at one point of `d` reads exists, reductions included."""
        if self.idle or d.tensor not in self.definitions:
            return ()
        return self._proved(d, self._walk(value, self._every, self.every))

    def own(self, read: Read) -> Conditions:
        """Where the positions of a read are in range; an equation with an index of the tensor says the same."""
        if self.idle:
            return ()
        found: list[Scalar] = []
        for index, dim in zip(read.indices, self.facts.dims.get(read.tensor, ()), strict=True):
            if depends_on_data(index) and not self._place(index):
                found += within(index, dim, self.facts)
        return tuple(found)

    def said(self, conditions: Conditions) -> set[Scalar]:
        """What holds where these do because no NaN passes a comparison."""
        if self.idle:
            return set()
        return {c for x in conditions if _orders(x) for a in x.children for c in self._walk(a, self._memo, self.passed)}

    # -------------------------------------------------------------------------------------------- definitions

    def passed(self, tensor: str) -> Conditions:
        """Conditions on a tensor at its formals that its readers inherit at their points."""
        if tensor not in self._at:
            d = self.definitions.get(tensor)
            found: Conditions = ()
            if d is not None and d.head == "map":
                found = self.here(d)
            elif d is not None and d.where is TRUE and d.head not in _PLACES:
                bound = frozenset(d.bound)
                found = tuple(c for c in self.here(d) if bound.isdisjoint(free_indices(c)))
            self._at[tensor] = found
        return self._at[tensor]

    def every(self, tensor: str) -> Conditions:
        """Conditions on a tensor at its formals under which nothing that it is computed from is out of range."""
        if tensor not in self._all:
            d = self.definitions.get(tensor)
            found: Conditions = ()
            if d is not None and d.head not in _PLACES:
                conditions = self._proved(d, self._walk(d.body, self._every, self.every))
                bound = frozenset(d.bound)
                inner = tuple(c for c in conditions if not bound.isdisjoint(free_indices(c)) or d.where is not TRUE)
                found = tuple(c for c in conditions if c not in inner)
                if inner:
                    name = self.names(f"{tensor}.in")
                    axes = tuple(f for f in d.formals if f in free_indices(d.where, *inner))
                    self.define(Definition(name, axes, "all", d.bound, d.where, conjunction(inner)))
                    found = (*found, Read(name, axes, BOOL))
            self._all[tensor] = found
        return self._all[tensor]

    # ------------------------------------------------------------------------------------------------ scalars

    def _walk(self, root: Scalar, memo: dict[Scalar, Conditions], of: Callable[[str], Conditions]) -> Conditions:
        for node in postorder(root):
            if node not in memo:
                memo[node] = self._node(node, memo, of)
        return memo[root]

    def _node(self, node: Scalar, memo: dict[Scalar, Conditions], of: Callable[[str], Conditions]) -> Conditions:
        match node:
            case Read():
                return unique((*(c for i in node.indices for c in memo[i]), *self._read(node, of)))
            case Select():
                return self._select(node, memo)
            case Apply() | Table() | Stop() | AdjointMap():
                return unique(c for a in node.children for c in memo[a])
            case Proxy():
                return memo[node.value]
        return ()

    def _read(self, read: Read, of: Callable[[str], Conditions]) -> Conditions:
        given = of(read.tensor)
        if given:
            formals = self.definitions[read.tensor].formals
            at: dict[Scalar, Scalar] = dict(zip(formals, read.indices, strict=True))
            given = tuple(substitute(c, at) for c in given)
        return (*self.own(read), *given)

    def _select(self, node: Select, memo: dict[Scalar, Conditions]) -> Conditions:
        """A NaN that stands for an access out of range is one; else what the chosen side asks for."""
        first, second = memo[node.a], memo[node.b]
        if self._guards(node.condition):
            if _is_nan(node.b):
                return unique((*conjuncts(node.condition), *first))
            if _is_nan(node.a):
                return unique((negation(node.condition), *second))
        if first == second:
            return first
        yes, no = node.condition, negation(node.condition)
        passed = {c for x in conjuncts(yes) if _orders(x) for a in x.children for c in memo[a]}
        first = tuple(c for c in first if c not in passed)
        first = tuple(c for c in first if not implies((yes,), c, signed=self.facts.signed))
        second = tuple(c for c in second if not implies((no,), c, signed=self.facts.signed))
        made = []
        if first:
            made.append(disjunction((no, conjunction(first))))
        if second:
            made.append(disjunction((yes, conjunction(second))))
        return tuple(made)

    def _guards(self, condition: Scalar) -> bool:
        """True for comparisons of a position that is data with a bound."""
        return all(
            isinstance(c, Compare) and c.a.dtype is INT and depends_on_data(c.a) and not self._place(c.a)
            for c in conjuncts(condition)
        )

    def _place(self, index: Scalar) -> bool:
        """True for a position that the program itself chose."""
        nodes = list(postorder(index))
        if any(isinstance(n, Param) or (isinstance(n, Apply) and n.name in ("floor", "ceil")) for n in nodes):
            return False
        return all(n.tensor in self.ours for n in nodes if isinstance(n, Read))

    def _proved(self, d: Definition, conditions: Conditions) -> Conditions:
        """The conditions without those that hold wherever the body is evaluated."""
        if not conditions:
            return ()
        facts = (*d.formals, *d.bound, *conjuncts(d.support), *conjuncts(d.where))
        return tuple(c for c in conditions if not implies(facts, c, signed=self.facts.signed))

    def _gathers(self, d: Definition) -> bool:
        return any(depends_on_data(i) and not self._place(i) for r in reads(d.body) for i in r.indices)


def _orders(condition: Scalar) -> bool:
    """True for a comparison of reals that no NaN passes."""
    return isinstance(condition, Compare) and condition.op != "!=" and condition.a.dtype is REAL


def settled(conditions: Conditions) -> Conditions:
    """The conjunction with each choice that its other members decide replaced by what is left of it, at the end: that
    may read what only they make readable."""
    conditions = unique(conditions)
    kept: list[Scalar] = []
    after: list[Scalar] = []
    for c in conditions:
        left = [a for a in c.args if negation(a) not in conditions] if isinstance(c, Or) else []
        if isinstance(c, Or) and len(left) < len(c.args):
            after += conjuncts(disjunction(left))
        else:
            kept.append(c)
    return unique((*kept, *after))


def _is_nan(node: Scalar) -> bool:
    return isinstance(node, Const) and node.value == "nan"
