"""Limits of elements (of `limits`) for all extents, parameters and optional inputs, where inputs are alike along axes.

The inputs are constant, or one entry of an axis (the first) differs from the others; labels are the first class, masks
hold. Then a reduction has at most two kinds of entries, and its limit is known whatever the extents are (of at least 1).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.ir.nodes import (
    INT,
    REAL,
    TRUE,
    AdjointMap,
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
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
    postorder,
)
from lossdsl.ir.rewrite import members, substitute, transform
from lossdsl.primitives import HEADS
from lossdsl.verify import enclosure as e
from lossdsl.verify import limits
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.folds import Undecided
from lossdsl.verify.limits import MINUS, ONE, PLUS, ZERO, Limit, fixed
from lossdsl.verify.operations import EITHER, total
from lossdsl.verify.pieces import NotScalar, fold, fold_top, inline
from lossdsl.verify.ranges import Ranges, number_of, product_of_sizes
from lossdsl.verify.work import CLOCK

_MOST = 3_000  # scalars of one evaluation
_MOST_PLAIN = 60  # scalars that are compared in one
_EMPTY: dict[str, Limit] = {
    "sum": ZERO,
    "count": ZERO,
    "prod": ONE,
    "logsumexp": Limit(MINUS.box),
    "any": ZERO,
    "all": ONE,
}


@dataclass(frozen=True)
class Choice:
    """What an input is: `first` where its index at `axis` is 0, `rest` elsewhere; alike everywhere without an axis."""

    first: Limit
    rest: Limit
    axis: int | None = None
    text: str = ""


class Split(Exception):
    """A condition that depends on whether an index is the first."""

    def __init__(self, at: Index) -> None:
        super().__init__(at.name)
        self.at = at


Facts = Mapping[Index, bool]  # whether an index is 0


class Alike:
    """Limits of elements where the inputs are as chosen; everything else takes any one value. Raises Undecided, Split."""

    def __init__(self, program: Program, ranges: Ranges, chosen: Mapping[str, Choice]) -> None:
        self.program, self.ranges, self.chosen = program, ranges, chosen
        self._definitions = {d.tensor: d for item in program.body if not isinstance(item, Group) for d in members(item)}
        self._groups = {d.tensor: item for item in program.body if isinstance(item, Group) for d in item.definitions}
        self._zero: dict[str, bool] = {}  # of recurrences: whether all elements are taken, or known, to be 0
        self._inputs = {i.name for i in program.inputs}
        self._memo: dict[tuple[Scalar, frozenset[tuple[Index, bool]]], Limit] = {}
        self._expanded: dict[Scalar, Scalar] = {}
        self._steps = self._plain_steps = 0
        self._fresh = itertools.count()

    def element(self, tensor: str) -> Limit:
        """The limit at an element, the first along the axes on which that depends."""
        d = self._definitions[tensor]
        facts: dict[Index, bool] = {}
        while True:
            try:
                return self.scalar(Read(tensor, d.formals, d.dtype), facts)
            except Split as split:
                if split.at not in d.formals or split.at in facts:
                    raise Undecided("an element of its own") from None
                facts[split.at] = True

    def scalar(self, node: Scalar, facts: Facts) -> Limit:
        key = (node, frozenset(facts.items()))
        if key not in self._memo:
            self._steps += 1
            if self._steps > _MOST:
                raise Undecided("too many elements")
            self._memo[key] = self._scalar(node, facts)
        return self._memo[key]

    def _scalar(self, n: Scalar, facts: Facts) -> Limit:
        match n:
            case Const():
                if n.value == "nan":
                    raise Undecided("an undefined value")
                if isinstance(n.value, str):
                    return Limit((PLUS if n.value == "inf" else MINUS).box)
                return fixed(n.value)
            case Param():
                return _steady(self.ranges.parameter(n.name))
            case Size():
                return _steady(self.ranges.extent(n.dim, frozenset({n.dim})))
            case Index():
                if n not in facts:
                    return _steady(Enclosure(0.0, INF, False, True))
                return ZERO if facts[n] else _steady(Enclosure(1.0, INF, False, True))
            case Read():
                return self._read(n, facts)
            case Table():
                return _hull([self.scalar(v, facts) for v in n.values])
            case Select():
                decided = self._truth(n.condition, facts)
                if decided is None:
                    return _hull([self.scalar(n.a, facts), self.scalar(n.b, facts)])
                return self.scalar(n.a if decided else n.b, facts)
            case Compare() | And() | Or() | Not():
                decided = self._truth(n, facts)
                return Limit(EITHER) if decided is None else ONE if decided else ZERO
            case Stop() | AdjointMap():
                return self.scalar(n.a, facts)
            case Proxy():
                return self.scalar(n.value, facts)
            case Apply():
                mean = self._mean(n, facts) if n.name == "div" else None
                if mean is not None:
                    return mean
                if n.name == "add":
                    for a, b in (n.args, n.args[::-1]):
                        if isinstance(b, Apply) and b.name == "neg" and b.args[0] is a:
                            n = Apply("sub", (a, a))
                if n.name in ("sub", "div") and n.args[0] is not n.args[1] and self._same(*n.args):
                    n = Apply(n.name, (n.args[0], n.args[0]))
                if n.name == "sub":
                    gap = self._above_only(n.args[1], n.args[0], facts)
                    if gap is not None:
                        return limits.negated(gap)
                    gap = self._above_only(n.args[0], n.args[1], facts)
                    if gap is not None:
                        return gap
                if n.name == "mul" and self._decays(n, facts):
                    return limits.toward(0.0, -1)
                found = self._within_range(n, limits.apply(n, [self.scalar(a, facts) for a in n.args]))
                if (
                    n.name in ("sub", "div")
                    and not (found.point or found.infinite)
                    and self._alike(n.args[0], n.args[1], facts)
                ):
                    return limits.apply(Apply(n.name, (n.args[0],) * 2), [self.scalar(n.args[0], facts)] * 2)
                return found
        raise Undecided("no rule")

    def _within_range(self, n: Apply, found: Limit) -> Limit:
        """A value that does not vary is in the range of the scalar, too."""
        if found.moves or found.point or found.infinite or n.dtype is not REAL:
            return found
        known = self.ranges.scope()[n]
        both = None if known.nan else e.meet(found.box, known)
        return found if both is None else replace(found, box=both)

    def _above_only(self, total: Scalar, x: Scalar, facts: Facts) -> Limit | None:
        """A log-sum-exp less the only one of its entries that does not go to -inf: it goes to 0 from above."""
        d = self._definitions.get(total.tensor) if isinstance(total, Read) else None
        if not isinstance(total, Read) or d is None or d.head != "logsumexp" or d.support is not TRUE:
            return None
        at = self._placed(d, total.indices)
        if len(at.bound) != 1 or at.where is not TRUE:
            return None
        first, rest = ({**facts, at.bound[0]: holds} for holds in (True, False))
        try:
            value, others = self.scalar(at.body, first), self.scalar(at.body, rest)
            same = self._canonical(at.body, first) is self._canonical(x, facts)
        except (Split, NotScalar, Undecided):
            return None
        falls = others.infinite and others.moves and others.box.lo < 0
        return limits.toward(0.0) if same and falls and value.box.finite and not value.infinite else None

    def _canonical(self, node: Scalar, facts: Facts) -> Scalar:
        """The scalar once definitions are put in, with 0 for the indices and labels that are the first."""

        def step(n: Scalar) -> Scalar:
            if isinstance(n, Index) and facts.get(n):
                return _FIRST
            if isinstance(n, Read) and n.dtype is INT and n.tensor in self.chosen:
                choice = self.chosen[n.tensor]
                return _FIRST if choice.axis is None and choice.first.exact_zero else n
            return n

        return fold(transform(self._put_in(node), step, {}))

    def _decays(self, n: Apply, facts: Facts) -> bool:
        """Whether the product is u exp(u) of one u that goes to -inf: it goes to 0 from below."""
        try:
            parts = [self._put_in(a) for a in n.args]
        except NotScalar:
            return False
        for (a, b), u in ((parts, n.args[1]), (parts[::-1], n.args[0])):
            exponent = a.args[0] if isinstance(a, Apply) and a.name == "exp" else None
            if isinstance(a, Apply) and a.name == "expdiff":
                exponent = Apply("sub", a.args)
            if exponent is b:
                value = self.scalar(u, facts)
                return value.infinite and value.moves and value.box.lo < 0
        return False

    def _truth(self, n: Scalar, facts: Facts) -> bool | None:
        if n is TRUE:
            return True
        match n:
            case Compare():
                decided = limits.holds(n.op, self.scalar(n.a, facts), self.scalar(n.b, facts))
                unknown = [i for i in (n.a, n.b) if isinstance(i, Index) and i not in facts]
                if decided is None and unknown:
                    raise Split(unknown[0])
                return decided
            case And() | Or():
                stop = isinstance(n, Or)
                found = [self._truth(a, facts) for a in n.args]
                return stop if stop in found else None if None in found else not stop
            case Not():
                inner = self._truth(n.a, facts)
                return None if inner is None else not inner
        value = self.scalar(n, facts)
        if value.moves:
            raise Undecided("a condition that moves")
        return True if value.box.lo > 0 else False if value.box.hi <= 0 else None

    def _same(self, a: Scalar, b: Scalar) -> bool:
        """Whether two scalars are one and the same once the definitions that they read are put in."""
        try:
            return self._put_in(a) is self._put_in(b)
        except NotScalar:
            return False

    def _put_in(self, node: Scalar) -> Scalar:
        if node not in self._expanded:
            self._expanded[node] = transform(inline(self.program, node), _decided, {})
        return self._expanded[node]

    def _read(self, n: Read, facts: Facts) -> Limit:
        if n.tensor in self._inputs:
            choice = self.chosen.get(n.tensor)
            if choice is None:
                return _steady(self.ranges.input(n.tensor))
            if choice.axis is None:
                return choice.first
            decided = self._truth(Compare("==", n.indices[choice.axis], Const(0, n.indices[choice.axis].dtype)), facts)
            if decided is None:
                raise Undecided("an index of its own")
            return choice.first if decided else choice.rest
        d = self._definitions.get(n.tensor)
        if d is None:
            if self._vanishes(n.tensor):
                return ZERO
            raise Undecided(f"{n.tensor}: a recurrence")
        at = self._placed(d, n.indices)
        inside = self._truth(at.support, facts)
        if inside is False:
            return ZERO
        value = self.scalar(at.body, facts) if d.head == "map" else self._fold(at, facts)
        return value if inside else _hull([value, ZERO])

    def _vanishes(self, tensor: str) -> bool:
        """Whether all elements of a recurrence are 0, by induction along its order: they are if those before them are."""
        group = self._groups.get(tensor)
        if group is not None and tensor not in self._zero:
            before = dict(self._memo)
            self._zero.update(dict.fromkeys((d.tensor for d in group.definitions), True))
            found = all(self._zero_from_zeros(d) for d in group.definitions)
            self._memo = self._memo if found else before
            self._zero.update(dict.fromkeys((d.tensor for d in group.definitions), found))
        return self._zero.get(tensor, False)

    def _zero_from_zeros(self, d: Definition) -> bool:
        if d.head != "map":
            return False
        try:
            return self.scalar(d.body, {}).exact_zero
        except (Undecided, Split):
            return False

    def _plain(self, n: Scalar, facts: Facts) -> Scalar:
        """The scalar without what is 0 in it, with means of what does not vary along the axis as one entry of it."""
        self._plain_steps += 1
        CLOCK.steps += 20
        if self._plain_steps > _MOST_PLAIN:
            raise Undecided("too many parts")
        try:
            if n.dtype is REAL and self.scalar(n, facts).exact_zero:
                return _NOUGHT
        except (Undecided, Split):
            pass
        d = self._definitions.get(n.tensor) if isinstance(n, Read) else None
        if isinstance(n, Read) and d is not None and d.head == "map" and d.support is TRUE:
            return self._plain(self._placed(d, n.indices).body, facts)
        if isinstance(n, Select):
            decided = self._truth(n.condition, facts)
            return n if decided is None else self._plain(n.a if decided else n.b, facts)
        if not isinstance(n, Apply):
            return n
        if n.name == "div" and self._mean(n, facts) is not None:
            row = n.args[0]
            assert isinstance(row, Read)
            at = self._placed(self._definitions[row.tensor], row.indices)
            entry = self._plain(at.body, facts)
            if not any(i in at.bound for i in postorder(entry)):
                return entry
        return fold_top(Apply(n.name, tuple(self._plain(a, facts) for a in n.args)))

    def _alike(self, a: Scalar, b: Scalar, facts: Facts) -> bool:
        """Whether two scalars are one and the same number."""
        try:
            return self._plain(a, facts) is self._plain(b, facts)
        except (Undecided, Split):
            return False

    def _placed(self, d: Definition, indices: tuple[Scalar, ...]) -> Definition:
        """The definition at indices, its bound indices renamed apart from them."""
        mapping: dict[Scalar, Scalar] = dict(zip(d.formals, indices, strict=True))
        bound = tuple(Index(f"${i.name}{next(self._fresh)}", i.dim) for i in d.bound)
        mapping.update(zip(d.bound, bound, strict=True))
        where, body, support = (substitute(s, mapping) for s in d.scalars())
        return replace(d, bound=bound, where=where, body=body, support=support)

    def _mean(self, n: Apply, facts: Facts) -> Limit | None:
        """A sum over whole axes divided by their sizes, all of whose entries are alike."""
        read, size = n.args
        d = self._definitions.get(read.tensor) if isinstance(read, Read) else None
        if not isinstance(read, Read) or d is None or d.head != "sum" or d.where is not TRUE or d.support is not TRUE:
            return None
        if product_of_sizes(size) != number_of(d.bound):
            return None
        try:
            return self.scalar(self._placed(d, read.indices).body, facts)
        except Split as split:
            if split.at in facts:
                raise
            return None

    # ------------------------------------------------------------------------------------------------- reductions

    def _fold(self, d: Definition, facts: Facts) -> Limit:
        try:
            parts = [self._part(d, facts, len(d.bound) == 0 or None)]
        except Split as split:
            if split.at not in d.bound or split.at in facts:
                raise
            alone = True if len(d.bound) == 1 else None
            parts = [self._part(d, {**facts, split.at: True}, alone), self._part(d, {**facts, split.at: False}, False)]
        return _folded(d.head, parts)

    def _part(self, d: Definition, facts: Facts, count: bool | None) -> _Part | None:
        """The entries of one kind: exactly one (`count` True), at least one (None), or any number (False)."""
        taken = self._truth(d.where, facts)
        if taken is False:
            return None
        if d.head in ("count", "any", "all"):
            holds = self._truth(d.body, facts)
            value = Limit(EITHER) if holds is None else ONE if holds else ZERO
        else:
            value = self.scalar(d.body, facts)
        return _Part(value, taken is True and count is True, taken is True and count is not False)


_FIRST = Const(Fraction(0), INT)
_NOUGHT = Const(Fraction(0))


def _decided(n: Scalar) -> Scalar:
    """A selection between two of the same."""
    return n.a if isinstance(n, Select) and n.a is n.b else n


@dataclass(frozen=True)
class _Part:
    """Entries that are alike: exactly one of them, or at least one (`some`), or any number."""

    value: Limit
    one: bool
    some: bool


def _folded(head: str, parts: list[_Part | None]) -> Limit:
    there = [p for p in parts if p is not None]
    if not there:
        if head not in _EMPTY:
            raise Undecided(f"{head} of nothing")
        return _EMPTY[head]
    match head:
        case "sum":
            found = ZERO
            for p in there:
                found = limits.added(found, _summed(p))
            return found
        case "max" | "min" if HEADS[head].empty is None:
            return _extremum(head, there)
        case "logsumexp":
            return _log_sum(there)
        case "count":
            low = sum(p.value.box.lo for p in there if p.some)
            high = sum(p.value.box.hi if p.one else 0.0 if p.value.box.hi == 0 else INF for p in there)
            return _steady(Enclosure(low, high, False, high == INF))
        case "any" | "all":
            return _logical(head, there)
        case "prod":
            if all(p.one or (p.value.box == ONE.box and not p.value.moves) for p in there):
                found = ONE
                for p in there:
                    found = limits.multiplied(found, p.value)
                return found
        case "argmax" | "argmin":
            return _place(head, there)
    raise Undecided(f"the limit of {head}")


def _summed(p: _Part) -> Limit:
    v = p.value
    if p.one or v.exact_zero:
        return v
    if v.infinite:
        if p.some:
            return v
        raise Undecided("infinities, if there are any")
    if v.point and v.box.lo == 0:
        return replace(v, side=v.side if p.some else 0)
    box = total(v.box, p.some, INF)
    if not box.finite:
        raise Undecided("a sum that is not known")
    return Limit(box, v.moves)


def _extremum(head: str, parts: list[_Part]) -> Limit:
    pick = limits.larger if head == "max" else limits.smaller
    sure = [p.value for p in parts if p.some]
    if not sure:  # over nothing there is no value: readers ask first
        return _hull([p.value for p in parts] + ([pick(*(p.value for p in parts))] if len(parts) == 2 else []))
    least = sure[0]
    for v in sure[1:]:
        least = pick(least, v)
    for p in parts:
        if not p.some:
            least = _hull([least, pick(least, p.value)])
    return least


def _log_sum(parts: list[_Part]) -> Limit:
    above = [p for p in parts if not (p.value.infinite and p.value.box.lo < 0)]
    if not above:
        return Limit(MINUS.box, any(p.value.moves for p in parts))
    if len(above) == 1 and above[0].one:
        rest = [p for p in parts if p is not above[0]]
        found = limits.log_sum_exp([above[0].value, *(p.value for p in rest)])
        return replace(found, side=found.side if all(p.some for p in rest) else 0)
    if all(p.value.infinite for p in above) and any(p.some for p in above):
        return PLUS
    if any(p.value.infinite for p in above):
        raise Undecided("a log-sum-exp of unknown length")
    sure = [p.value.box for p in above if p.some]  # at least the largest of them, and finite
    if not sure:
        return limits.perhaps(Enclosure(-INF, INF, False, True), any(p.value.moves for p in parts))
    low = max(box.lo for box in sure)
    return Limit(Enclosure(low, INF, low == -INF, True), any(p.value.moves for p in parts))


def _logical(head: str, parts: list[_Part]) -> Limit:
    stop = head == "any"
    for p in parts:
        if p.some and ((p.value.box.lo > 0) if stop else (p.value.box.hi <= 0)):
            return ONE if stop else ZERO
    if all((p.value.box.hi <= 0) if stop else (p.value.box.lo > 0) for p in parts):
        return ZERO if stop else ONE
    return Limit(EITHER)


def _place(head: str, parts: list[_Part]) -> Limit:
    """The first entry, if it is the only extremum, or all entries are the same number."""
    op = ">" if head == "argmax" else "<"
    if len(parts) == 2 and parts[0].one and limits.holds(op, parts[0].value, parts[1].value):
        return ZERO
    if len(parts) == 1 and parts[0].some and parts[0].value.point and not parts[0].value.moves:
        return ZERO
    raise Undecided(f"no certain {head}")


def _steady(box: Enclosure) -> Limit:
    if not box.finite:
        raise Undecided("a value that may be infinite or undefined")
    return Limit(box)


def _hull(values: list[Limit]) -> Limit:
    """One of the values, which one does not vary along the sequence."""
    first = values[0]
    if all(v == first for v in values):
        return first
    if any(v.infinite for v in values):
        if all(v.infinite and v.box == first.box for v in values):
            return Limit(first.box, all(v.moves for v in values))
        raise Undecided("an infinity, perhaps")
    box = first.box
    for v in values[1:]:
        box = e.hull(box, v.box)
    side = first.side if all(v.side == first.side and v.moves for v in values) else 0
    return Limit(box, any(v.moves for v in values), side if box.lo == box.hi else 0)


__all__ = ["Alike", "Choice", "Split"]
