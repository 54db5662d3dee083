"""Enclosures of all elements of a tensor, definition by definition: the checker's own propagation."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from lossdsl.certificate.corners import at_least_zero, sign_of
from lossdsl.certificate.elements import certainly, is_divergence, is_weight, terms_of
from lossdsl.certificate.norms import inlined, is_cosine, is_share, root_of
from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    ONE,
    REAL,
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
    Program,
    Proxy,
    Range,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
    tensors_of,
)
from lossdsl.ir.rewrite import substitute
from lossdsl.primitives import HEADS
from lossdsl.verify import enclosure as e
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import ANYTHING, INF, REALS, UNIT, Enclosure

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_FAILED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "!=": "==", "==": "!="}
_WHOLE = Enclosure(0.0, INF, False, True)


class Case:
    """Scalars where some axes have an element and some scalars are known to be in narrower intervals.

    split   whether sums are looked at at the ends of intervals, too: not where it is one of many boxes
    """

    def __init__(
        self, bounds: Bounds, some: frozenset[Dim], known: Mapping[Scalar, Enclosure], split: bool = True
    ) -> None:
        self.bounds, self.some, self.known, self.split = bounds, some, dict(known), split
        self.found = dict(known)

    def __getitem__(self, node: Scalar) -> Enclosure:
        stack = [node]
        while stack:
            top = stack[-1]
            if top in self.found:
                stack.pop()
                continue
            first = (top.condition,) if isinstance(top, Select) else top.children  # branches are cases of their own
            waiting = [c for c in first if c not in self.found]
            if waiting:
                stack += waiting
                continue
            self.found[top] = self._value(top)
            stack.pop()
        return self.found[node]

    def given(self, condition: Scalar, holds: bool) -> Case | None:
        """The case in which a condition holds (or fails); None if it cannot."""
        known = dict(self.known)
        if not self._learn(condition, holds, known):
            return None
        sizes = [(n.dim, box.lo + box.lo_open) for n, box in known.items() if isinstance(n, Size)]
        some = {dim - k for dim, least in sizes for k in (0, 1) if least > k}
        return self.bounds.case(self.some | some, known, self.split)

    def _learn(self, condition: Scalar, holds: bool, known: dict[Scalar, Enclosure]) -> bool:
        decided = o.truth(self[condition])
        if decided is not None:
            return decided == holds
        if isinstance(condition, Not):
            return self._learn(condition.a, not holds, known)
        if (isinstance(condition, And) and holds) or (isinstance(condition, Or) and not holds):
            return all(self._learn(part, holds, known) for part in condition.children)
        if isinstance(condition, (And, Or)):
            return self._learn_one(condition, holds, known)
        known[condition] = o.YES if holds else o.NO
        if isinstance(condition, Read):
            body = self.bounds.opened(condition)
            return body is None or self._learn(body, holds, known)
        if not isinstance(condition, Compare):
            return True
        op = condition.op if holds else _FAILED[condition.op]
        for node, other, sense in ((condition.a, condition.b, op), (condition.b, condition.a, _FLIPPED[op])):
            here, there = known.get(node, self[node]), self[other]
            if here.nan or there.nan or isinstance(node, Const):
                continue
            both = _without(here, there) if sense == "!=" else e.meet(here, _side(sense, there))
            both = None if both is None else self._narrowed(node, both)
            if both is None:
                return False
            known[node] = both
            if isinstance(node, Apply) and node.name == "abs" and not (inner := self[node.args[0]]).nan:
                around = Enclosure(-both.hi, both.hi, both.hi_open, both.hi_open)
                known[node.args[0]] = e.meet(known.get(node.args[0], inner), around) or inner
        return True

    def _narrowed(self, node: Scalar, box: Enclosure) -> Enclosure | None:
        """What a scalar may be in an interval; None if there is nothing."""
        return _whole(self.bounds, node, box)

    def _learn_one(self, condition: And | Or, holds: bool, known: dict[Scalar, Enclosure]) -> bool:
        """What is known whichever part holds, or fails."""
        each: list[dict[Scalar, Enclosure]] = []
        for part in condition.children:
            found = dict(known)
            if self._learn(part, holds, found):
                each.append(found)
        for node in [n for n in each[0] if all(n in found for found in each)] if each else []:
            known[node] = functools.reduce(e.hull, (found[node] for found in each))
        known[condition] = o.YES if holds else o.NO
        return bool(each)

    def _value(self, node: Scalar) -> Enclosure:
        match node:
            case Const():
                if node.value == "nan":
                    return ANYTHING
                if isinstance(node.value, str):
                    end = INF if node.value == "inf" else -INF
                    return Enclosure(end, end)
                return e.exact(node.value)
            case Param():
                return self.bounds.parameter(node.name)
            case Size():
                return self.bounds.extent(node.dim, self.some)
            case Index():
                last = node.dim.constant
                return _WHOLE if last is None else Enclosure(0.0, max(0.0, last - 1.0))
            case Read():
                return self.bounds.tensor(node.tensor, self.some)
            case Table():
                whole = self[node.values[0]]
                for value in node.values[1:]:
                    whole = e.hull(whole, self[value])
                return whole
            case Select():
                cases = [(self.given(node.condition, True), node.a), (self.given(node.condition, False), node.b)]
                values = [case.inside(branch)[branch] for case, branch in cases if case is not None]
                return ANYTHING if not values else values[0] if len(values) == 1 else e.hull(*values)
            case Compare():
                return o.compare(node.op, self[node.a], self[node.b])
            case Not():
                decided = o.truth(self[node.a])
                return UNIT if decided is None else o.NO if decided else o.YES
            case And() | Or():
                return _junction([o.truth(self[a]) for a in node.children], isinstance(node, And))
            case Stop() | AdjointMap():
                return self[node.a]
            case Proxy():
                return self[node.value]
            case Apply(name="relu"):  # which is below infinity if its argument is
                return o.transfer(Apply("max2", (*node.args, ZERO)), [self[node.args[0]], o.NO])
            case Apply():
                found = o.transfer(node, [self[a] for a in node.args])
                fact = None if found.nan else self._fact(node)
                if fact is None and node.name in ("add", "sub") and node.dtype is REAL and found.lo < 0 < found.hi:
                    fact = sign_of(self, node, defined=not found.nan)
                return found if fact is None else e.meet(found, fact) or found
        return ANYTHING

    def inside(self, node: Scalar) -> Case:
        """The case in which a scalar is evaluated: what it reads in any event has an element."""
        more = self.some | self.bounds.read_axes(node)
        return self if more == self.some else self.bounds.case(more, self.known, self.split)

    # ------------------------------------------------------------------------------ facts about folds

    def _fact(self, node: Apply) -> Enclosure | None:
        """An element minus the largest of its fold (or log-sum-exp) is at most 0; means lie among what they are
        of; a sum of products is at most the product of the norms; a place along an axis is less than its extent."""
        if node.name == "div":
            return self._mean(*node.args) or self._share(*node.args) or self._place(*node.args)
        if len(node.args) != 2:
            return None
        second = node.args[1]
        if node.name == "add" and (mixed := self._mixture(*node.args)) is not None:
            return mixed
        if node.name == "add" and isinstance(second, Apply) and second.name == "neg":
            second = second.args[0]
        elif node.name not in ("sub", "expdiff"):
            return None
        for x, y, above in ((node.args[0], second, True), (second, node.args[0], False)):
            d = self.bounds.fold(y, ("max", "min", "logsumexp"))
            if d is None or not self.is_element(x, y, d):
                continue
            low = above != (d.head == "min")  # x - y is at most 0
            within = self[x].finite and self[y].finite
            if node.name == "expdiff":
                return Enclosure(0.0, 1.0, within, False) if low else None
            within = within or self.bounds.body(d)[d.body].finite
            return Enclosure(-INF, 0.0, within, False) if low else Enclosure(0.0, INF, False, within)
        return None

    def _mean(self, top: Scalar, size: Scalar) -> Enclosure | None:
        d = self.bounds.fold(top, ("sum",))
        if d is None or not is_count(size, d.bound, self.bounds.parameters):
            return None
        body = self.bounds.case(self.some | {i.dim for i in (*d.formals, *d.bound)}, {}, self.split)[d.body]
        return Enclosure(body.lo, body.hi, body.lo_open, body.hi_open) if body.finite else None

    def _mixture(self, a: Scalar, step: Scalar) -> Enclosure | None:
        """a + (b - a) t, for 0 <= t <= 1: it lies between a and b."""
        if isinstance(step, Apply) and step.name == "div" and isinstance(inner := step.args[0], Apply):
            way, rest = inner.children if inner.name == "mul" else (inner, ONE)
            return self._mixture(a, Apply("mul", (way, Apply("div", (rest, step.args[1])))))
        for way, t in (step.children, step.children[::-1]) if isinstance(step, Apply) and step.name == "mul" else ():
            if isinstance(way, Apply) and way.name == "sub" and way.args[1] is a and self[way].finite:
                between = self[t].finite and self[t].lo >= 0 and self[t].hi <= 1
                ends = e.hull(self[a], self[way.args[0]])
                return Enclosure(ends.lo, ends.hi, ends.lo_open, ends.hi_open) if between and ends.finite else None
        return None

    def _place(self, top: Scalar, size: Scalar) -> Enclosure | None:
        """k i + a over n, for 0 <= i < n and 0 <= a: a / n is the least, and k + (a - k) / n the largest."""
        extents = sizes_of(size)
        terms = {} if extents is None or len(extents) != 1 else terms_of(self.bounds, top, Fraction(1))
        a = terms.pop(Const(1), Fraction(0))
        if len(terms) != 1 or a < 0:
            return None
        ((place, k),) = terms.items()
        while isinstance(place, Apply) and place.name == "real":
            place = place.args[0]
        if not isinstance(place, Index) or [place.dim] != extents or k <= 0:
            return None
        return Enclosure(0.0, e.exact(max(a, k)).hi, a > 0, a < k)

    def _share(self, top: Scalar, below: Scalar) -> Enclosure | None:
        if not self[below].positive or not self[below].finite or not self[top].finite:
            return None
        if is_share(self, top, below):
            return Enclosure(-1.0, 1.0)
        less = at_least_zero(self, Apply("sub", (below, top)))
        if less is None:
            return None
        more = at_least_zero(self, Apply("add", (below, top)))
        return Enclosure(-INF if more is None else -1.0, 1.0, more is not False, less)

    def is_element(self, node: Scalar, read: Scalar, d: Definition) -> bool:
        """Whether a scalar is one of the elements of the fold that `read` reads."""
        assert isinstance(read, Read)
        at: dict[Scalar, Scalar] = dict(zip(d.formals, read.indices, strict=True))
        stack = [(d.body, node)]
        while stack:
            pattern, here = stack.pop()
            if isinstance(pattern, Index):
                bound = pattern in d.bound and pattern not in at
                if bound and not self.bounds.names(here, pattern.dim, (node,)):
                    return False
                if at.setdefault(pattern, here) is not here:
                    return False
            elif type(pattern) is not type(here) or len(pattern.children) != len(here.children):
                return False
            elif not pattern.children:
                if pattern is not here:
                    return False
            elif pattern.rebuild(here.children) is not here:
                return False
            else:
                stack += zip(pattern.children, here.children)
        return True


_GUESSES = (Enclosure(0.0, INF, False, True), REALS, Enclosure(-INF, INF, False, True))


class Bounds:
    """Enclosures of the tensors of a program.

    assume    narrower intervals of inputs and parameters, by name
    interior  inputs of which the ends of their interval do not count (questions about derivatives and convexity)
    moved     inputs that have an entry, as they are, for all that is asked at two points (`interior` ones do, too)
    """

    def __init__(
        self,
        program: Program,
        assume: Mapping[str, Enclosure] | None = None,
        interior: frozenset[str] = frozenset(),
        moved: frozenset[str] = frozenset(),
    ) -> None:
        self.program, self.assume, self.interior, self.moved = program, dict(assume or {}), interior, moved
        self.inputs = {i.name: i for i in program.inputs}
        self.parameters = {p.name: p for p in program.parameters}
        self.definitions = {d.tensor: d for d in program.definitions()}
        self.recurrent = {d.tensor for g in program.body if isinstance(g, Group) for d in g.definitions}
        common = [frozenset(self.inputs[n].dims) for n in interior | moved if n in self.inputs]
        self.always = frozenset.intersection(*common) if common else frozenset()
        self._found: dict[tuple[str, frozenset[Dim]], Enclosure] = {}
        self._induced: dict[str, Enclosure] = {}
        self.shared: dict[
            tuple[frozenset[Dim], frozenset[tuple[Scalar, Enclosure]]], Case
        ] = {}  # of what is read often

    def case(self, some: frozenset[Dim], known: Mapping[Scalar, Enclosure], split: bool = True) -> Case:
        """Where there is a label, there is a class."""
        labels = [i for i in self.program.inputs if i.classes is not None and i.also is None and i.default is None]
        classes = {i.classes for i in labels if i.classes is not None and set(i.dims) <= some}
        return Case(self, some | classes, known, split)

    def tensor(self, name: str, some: frozenset[Dim] = frozenset()) -> Enclosure:
        """Every element; `some` are extents that are known not to be 0, that less 1 of an axis of two elements among them."""
        if name in self.inputs:
            return self._input(self.inputs[name])
        d = self.definitions.get(name)
        if d is None:
            return ANYTHING
        if name in self.recurrent:
            if name not in self._induced:
                self._induce(name)
            return self._induced[name]
        key = (name, some | frozenset(d.dims))
        if key not in self._found:
            self._found[key] = self._definition(d, key[1])
        return self._found[key]

    def _induce(self, name: str) -> None:
        """Bounds of what reads itself: those that elements have where earlier ones have them."""
        group = self.group(name)
        self._induced |= {d.tensor: ANYTHING for d in group}
        for guess in _GUESSES if all(d.body.dtype is REAL for d in group) else ():
            trial = self._alike()
            trial._induced |= {**self._induced, **{d.tensor: guess for d in group}}
            boxes = {d.tensor: trial._definition(d, frozenset(d.dims)) for d in group}
            if all(not box.nan and e.hull(box, guess) == guess for box in boxes.values()):
                self._induced |= boxes
                return

    def _alike(self) -> Bounds:
        return Bounds(self.program, self.assume, self.interior, self.moved)

    def opened(self, node: Read) -> Scalar | None:
        """What a map makes of the places that are read."""
        d = self.definitions.get(node.tensor)
        if d is None or d.head != "map" or d.support is not TRUE or d.tensor in self.recurrent:
            return None
        return substitute(d.body, dict(zip(d.formals, node.indices, strict=True)))

    def group(self, name: str) -> tuple[Definition, ...]:
        """The definitions of a recurrence."""
        groups = (g.definitions for g in self.program.body if isinstance(g, Group))
        return next(g for g in groups if any(d.tensor == name for d in g))

    def needed(self, target: str) -> list[Definition]:
        """The definitions that a tensor is made of, in the program's order, itself the last."""
        wanted = {target}
        for d in reversed(self.definitions.values()):
            if d.tensor in wanted or (d.tensor in self.recurrent and wanted & self.recurrent):
                wanted.add(d.tensor)
                wanted |= {*tensors_of(d.scalars())}
        return [d for d in self.definitions.values() if d.tensor in wanted]

    def body(self, d: Definition) -> Case:
        """The case of a definition's body."""
        return self.case(frozenset(i.dim for i in (*d.formals, *d.bound)) | self.read_axes(d.body), {})

    def fold(self, node: Scalar, heads: tuple[str, ...]) -> Definition | None:
        """The definition that a scalar reads, if it folds all elements of its axes by one of the heads."""
        d = self.definitions.get(node.tensor) if isinstance(node, Read) else None
        whole = d is not None and d.where is TRUE and d.support is TRUE and d.tensor not in self.recurrent
        return d if d is not None and whole and d.head in heads else None

    def names(self, node: Scalar, dim: Dim, evaluated: Iterable[Scalar]) -> bool:
        """Whether an index scalar is a place of the axis where some scalars have a value. A label that may be ignored is one
        where they read something there in any event."""
        if isinstance(node, Index):
            return node.dim == dim
        if not isinstance(node, Read):
            return False
        if node.tensor in self.inputs:
            label = self.inputs[node.tensor]
            return label.classes == dim and (label.also is None or any(node in r.indices for r in _reads(evaluated)))
        d = self.fold(node, ("argmax", "argmin", "argsort"))
        return d is not None and [i.dim for i in d.bound] == [dim]

    def read_axes(self, node: Scalar) -> frozenset[Dim]:
        """The axes of what is read whenever a scalar is evaluated: not in a branch, nor behind an `and`."""
        axes: set[Dim] = set()
        for r in _reads((node,)):
            d = self.definitions.get(r.tensor)
            axes.update(self.inputs[r.tensor].dims if r.tensor in self.inputs else d.dims if d else ())
        return frozenset(axes)

    def extent(self, dim: Dim, some: frozenset[Dim]) -> Enclosure:
        if dim.constant is not None:
            return Enclosure(float(dim.constant), float(dim.constant))
        least = 2.0 if dim - 1 in some else 1.0 if dim in some or dim in self.always else 0.0
        return Enclosure(least, INF, False, True)

    def parameter(self, name: str) -> Enclosure:
        p = self.parameters.get(name)
        base = REALS if p is None else UNIT if p.kind == "bool" else self._declared(REALS, p.range)
        return self._assumed(name, base)

    def _input(self, i: Input) -> Enclosure:
        inner = i.name in self.interior
        if i.dtype is BOOL or i.kind == "binary":
            return self._assumed(i.name, UNIT)
        if i.kind == "class":
            return self._assumed(i.name, REALS if i.also is not None else self._declared(_WHOLE, i.range))
        base = {"prob": UNIT, "simplex": UNIT}.get(i.kind)
        if i.kind in ("unit", "sign"):
            base = Enclosure(-1.0, 1.0)
        box = self._declared(base or REALS, i.range)
        if inner and i.dtype is not INT and box.lo < box.hi and not self._may_be_one_point(i.range):
            single = i.kind == "simplex" and not any((i.dims[k].constant or 1) > 1 for k in i.over)
            box = Enclosure(box.lo, box.hi, True, not single or box.hi_open, box.nan)  # of one class: 1 is all of it
        return self._assumed(i.name, box)

    def _may_be_one_point(self, declared: Range) -> bool:
        """Whether the ends of an interval may be one number, for some parameters."""
        if declared.lower is None or declared.upper is None:
            return False
        return not self.case(frozenset(), {})[Apply("sub", (declared.upper, declared.lower))].positive

    def _assumed(self, name: str, box: Enclosure) -> Enclosure:
        more = self.assume.get(name)
        return box if more is None else e.meet(box, more) or box

    def _declared(self, base: Enclosure, declared: Range) -> Enclosure:
        case = self.case(frozenset(), {})
        if declared.lower is not None and not (low := case[declared.lower]).nan:
            base = e.meet(base, Enclosure(low.lo, INF, declared.lower_open or low.lo_open, True)) or base
        if declared.upper is not None and not (high := case[declared.upper]).nan:
            base = e.meet(base, Enclosure(-INF, high.hi, True, declared.upper_open or high.hi_open)) or base
        return base

    def _definition(self, d: Definition, some: frozenset[Dim]) -> Enclosure:
        if d.support is TRUE:
            return self._fold(d, self.case(some, {}))
        case = self.case(some, {}).given(d.support, True)
        zero = Enclosure(0.0, 0.0)
        return zero if case is None else e.hull(self._fold(d, case), zero)

    def _fold(self, d: Definition, outside: Case) -> Enclosure:
        if d.head == "map":
            return outside.inside(d.body)[d.body]
        if d.head in ("any", "all"):
            return UNIT
        most = 1.0
        for i in d.bound:
            most = e.mul_up(most, self.extent(i.dim, outside.some).hi)
        if d.head in ("count", "argmax", "argmin", "argsort"):
            return Enclosure(0.0, most, False, most == INF)
        axes = frozenset(i.dim for i in d.bound)
        case: Case | None = self.case(outside.some | axes | self.read_axes(d.body), outside.known)
        if d.where is not TRUE and case is not None:
            case = case.given(d.where, True)
        if case is None:
            return o.empty_fold(d.head)
        body = case[d.body]
        some = d.where is TRUE and all(self.extent(dim, outside.some).lo >= 1 for dim in axes)
        some = some or selects_its_own(outside, d) or _selects_a_first(outside, d)
        if d.head == "sum":
            total = o.total(body, some, most)
            if body.finite and not total.bounded and is_cosine(case, d):
                return Enclosure(-1.0, 1.0)
            if self.is_square_of_weight(d):
                total = e.meet(total, Enclosure(0.0, 1.0, some, False)) or total
            known = total.nonnegative or not body.finite or not is_divergence(self, d)
            return total if known else e.meet(total, Enclosure(0.0, INF, False, True)) or total
        if d.head == "logsumexp":
            return o.logsumexp(body, some, most)
        if d.head in ("max", "min"):
            return body if some or HEADS[d.head].empty is None else e.hull(body, o.empty_fold(d.head))
        if d.head == "prod" and body.finite:
            if not body.nonnegative:
                return REALS
            return Enclosure(0.0, 1.0) if body.hi <= 1 else _WHOLE
        return ANYTHING

    def is_square_of_weight(self, d: Definition) -> bool:
        """Whether a sum is one of squares of n numbers that add up to 1: it is at most 1, and at least 1 / n."""
        if d.head != "sum" or d.where is not TRUE or len(d.bound) != 1:
            return False
        root = root_of(inlined(self, d.body))
        return root is not None and is_weight(self, root, d.bound[0])


def _reads(nodes: Iterable[Scalar]) -> Iterator[Read]:
    """What is read whenever scalars are evaluated: not in a branch, nor behind an `and`."""
    stack, seen = list(nodes), set[Scalar]()
    while stack:
        top = stack.pop()
        if top in seen:
            continue
        seen.add(top)
        if isinstance(top, Read):
            yield top
        if isinstance(top, Select):
            stack.append(top.condition)
        elif not isinstance(top, (And, Or)):
            stack += top.children


def _side(op: str, other: Enclosure) -> Enclosure:
    """Every value that may stand in the relation to one of the other's."""
    match op:
        case "<":
            return Enclosure(-INF, other.hi, False, True) if other.hi > -INF else Enclosure(-INF, -INF)
        case "<=":
            return Enclosure(-INF, other.hi, False, other.hi_open)
        case ">":
            return Enclosure(other.lo, INF, True, False) if other.lo < INF else Enclosure(INF, INF)
        case ">=":
            return Enclosure(other.lo, INF, other.lo_open, False)
    return Enclosure(other.lo, other.hi, other.lo_open, other.hi_open)


def _without(here: Enclosure, other: Enclosure) -> Enclosure:
    """An interval without the one value that is excluded, where that is an end of it."""
    if other.lo != other.hi or here.lo == here.hi:
        return here
    return Enclosure(here.lo, here.hi, here.lo_open or here.lo == other.lo, here.hi_open or here.hi == other.lo)


def _whole(bounds: Bounds, node: Scalar, box: Enclosure) -> Enclosure | None:
    """The whole numbers of an interval, for a scalar that is one; None if there are none."""
    if not _is_whole(bounds, node):
        return box
    lo, hi = box.lo, box.hi
    low, high = box.lo_open and abs(lo) < 2**52 and lo.is_integer(), box.hi_open and abs(hi) < 2**52 and hi.is_integer()
    lo, hi = lo + low, hi - high
    return Enclosure(lo, hi, box.lo_open and not low, box.hi_open and not high) if lo <= hi else None


def _is_whole(bounds: Bounds, node: Scalar) -> bool:
    if isinstance(node, Read) and node.dtype is REAL:
        inner = bounds.opened(node)
        return inner is not None and _is_whole(bounds, inner)
    return node.dtype is INT or (isinstance(node, Apply) and node.name == "real" and node.args[0].dtype is INT)


def selects_its_own(case: Case, d: Definition) -> bool:
    """Whether an element is selected for certain: the one at the place of what is folded."""
    if len(d.bound) != 1:
        return False
    places = (f for f in d.formals if f.dim == d.bound[0].dim)
    return any(certainly(case, substitute(d.where, {d.bound[0]: f})) for f in places)


def _selects_a_first(case: Case, d: Definition) -> bool:
    """Whether an element is selected for certain: one at the first or second places of the axes."""
    if d.where is TRUE or len(d.bound) > 2:
        return False
    places = (range(min(2, int(case.bounds.extent(i.dim, case.some).lo))) for i in d.bound)
    ways = (zip(d.bound, (Const(k, INT) for k in place), strict=True) for place in itertools.product(*places))
    return any(certainly(case, substitute(d.where, dict(way))) for way in ways)


def _junction(parts: list[bool | None], conjunctive: bool) -> Enclosure:
    if (not conjunctive) in parts:
        return o.NO if conjunctive else o.YES
    if all(p is conjunctive for p in parts):
        return o.YES if conjunctive else o.NO
    return UNIT


def is_count(node: Scalar, bound: Sequence[Index], parameters: Collection[str]) -> bool:
    """Whether a scalar is how many places there are, one of each index: the product of their extents. One that is a product
    itself is taken apart, if of axes: parameters may be below 0."""
    sizes = sizes_of(node)
    return sizes is not None and _parts(sizes, parameters) == _parts([i.dim for i in bound], parameters)


def _parts(dims: Sequence[Dim], parameters: Collection[str]) -> list[Dim]:
    found: list[Dim] = []
    for dim in dims:
        ((atoms, coefficient),) = dim.terms if len(dim.terms) == 1 else (((), 0),)
        plain = coefficient == 1 and len(atoms) > 1 and all(isinstance(a, str) and a not in parameters for a in atoms)
        found += [Dim.symbol(a) for a in atoms if isinstance(a, str)] if plain else [dim]
    return sorted(found)


def sizes_of(node: Scalar) -> list[Dim] | None:
    """The extents of which a scalar is the product, sorted."""
    if isinstance(node, Size):
        return [node.dim]
    if isinstance(node, Apply) and node.name in ("real", "int"):
        return sizes_of(node.args[0])
    if isinstance(node, Apply) and node.name == "mul":
        parts = [sizes_of(a) for a in node.args]
        return sorted(d for p in parts for d in p or ()) if all(parts) else None
    return None
