"""One element as a function of one entry, on boxes that cover all that it is of: derivatives are enclosed on each, and at the
ends of neighbouring boxes it is looked at from both sides.

On a box no branch and no extremum changes sides, so that the element is one smooth function of its variable there; enclosures of
its Taylor coefficients (`series`) hold for all of the box, and for a derivative that rises or falls on it its ends do (Moore,
Kearfott and Cloud, *Introduction to Interval Analysis*, 2009, chapter 6).
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.derivations import Derivations
from lossdsl.certificate.germs import LINEAR, ONE
from lossdsl.certificate.jets import far_out
from lossdsl.certificate.kinks import EXTREMES, recentred, rescaled
from lossdsl.certificate.orders import Orders
from lossdsl.certificate.plain import plain
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Rules, Stuck, continuous_there, smooth_there
from lossdsl.certificate.series import Number, Series, of_operation
from lossdsl.certificate.tails import Tail, Terms
from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Input,
    Param,
    Range,
    Read,
    Scalar,
    Select,
    postorder,
)
from lossdsl.ir.rewrite import substitute, transform
from lossdsl.verify import enclosure as e
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import ANYTHING, INF, Enclosure

_MOST = 3000  # boxes that are looked at
_SEARCHED = 600  # boxes in which a large value is looked for
_NODES = 2000  # of an element, all that it is made of put in
_VAIN = 200  # boxes on which germs are asked in vain
_NARROW = 2.0**-40  # a side that is not halved
_BESIDE = 2.0**-30  # how far to either side of a place an element is told apart, relative to it
_TWO_VALUED = {"bool": (0.0, 1.0), "binary": (0.0, 1.0), "sign": (-1.0, 1.0)}
_FREE = ("real", "prob", *_TWO_VALUED)  # each entry is any number of its range, whatever the others are
_RISING = frozenset(
    {"exp", "expm1", "log", "log1p", "sqrt", "softplus", "sinh", "tanh", "atan"}
)  # strictly, of numbers
_FACTORIALS = (1.0, 1.0, 2.0, 6.0)

Accept = Callable[[Enclosure], bool]


@dataclass(frozen=True)
class Box:
    """An open interval of the variable, and one of each of the other numbers."""

    over: Enclosure
    others: tuple[Enclosure, ...]

    def at(self, x: float) -> Box:
        return Box(Enclosure(x, x), self.others)

    @property
    def sides(self) -> tuple[Enclosure, ...]:
        return (self.over, *self.others)


@dataclass(frozen=True)
class Leaf:
    """A box, and what encloses the derivative there."""

    box: Box
    found: Enclosure


class Curve:
    """An element of what is asked of, as a function of the variable: the entry, or what is affine in it and all that it is in,
    of which kinks are at numbers, if there is such a one (`kinks`). Derivatives are in the entry, unless `inner`: in the
    variable; `terms`: of each term, if it is a sum whose terms have an entry of their own each, times what is positive; `lifted`:
    but for what is added to it, and what is positive that it is multiplied with; `wide`: over all real numbers, whatever the
    domain is. Raises Stuck if it is of more than one entry."""

    def __init__(
        self, q: Question, *, inner: bool = False, terms: bool = False, lifted: bool = False, wide: bool = False
    ) -> None:
        if len(q.inputs) != 1:
            raise Stuck("an element of more than one input")
        (name,) = q.inputs
        self._inner = inner
        self.question, self.bounds = q, Bounds(q.program, q.assume, frozenset(q.inputs))
        self.rules = Rules(self.bounds, q.inputs)
        definition = self.bounds.definitions.get(q.of)
        formals = () if definition is None else definition.formals
        first, bound = self._term(definition, formals) if terms else (self._body(definition), ())
        self.body = plain(self._numbered(self._inlined(first)))
        self._some: frozenset[Dim] = frozenset(i.dim for i in (*formals, *bound)) | self.bounds.read_axes(self.body)
        if lifted:
            self.body = self._unlifted(self.body, Case(self.bounds, self._some, {}))
        self._used: dict[Scalar, set[Scalar]] = {}
        entries = {n for n in postorder(self.body) if isinstance(n, Read) and n.tensor == name}
        if len(entries) != 1:
            raise Stuck(f"{q.of} is of {len(entries)} entries of {name}")
        (entry,) = entries
        if not set(bound) <= set(entry.indices) or (bound and len(set(entry.indices)) < len(entry.indices)):
            raise Stuck("an entry that several terms read")
        declared = self.bounds.inputs[name]
        self.unbounded = (declared.kind, declared.range) == ("real", Range()) and name not in q.assume
        unbounded = self.unbounded or wide
        # with the ends that belong to it
        self.domain = e.REALS if unbounded else Bounds(q.program, q.assume).tensor(name)
        moving = [c for c in q.conditions if name in c.tensors]
        self.factors: list[tuple[Scalar | None, bool]] = []
        self.variable: Scalar = entry
        self.recentred = False
        self._vain = 0  # how often germs told nothing that is accepted
        self._entry, self._axes = entry, frozenset[Scalar]((*formals, *bound))
        if moving:
            self._limit(entry, moving, unbounded)
        elif unbounded:
            self.variable, self.factors = self._affine(entry)
            self._place_kinks()
        self.others = self._others()
        self._tails: dict[bool, Tail | None] = {}
        self._derivations: dict[Scalar, Derivations | None] = {}

    # ------------------------------------------------------------------------------------------ the function

    def _term(self, d: Definition | None, formals: tuple[Index, ...]) -> tuple[Scalar, tuple[Index, ...]]:
        """What the element is a sum of, if all else is added to it or positive, and the indices that it is a sum over."""
        while d is not None and d.head == "map":
            body = self._body(d)
            case = Case(self.bounds, frozenset(i.dim for i in formals) | self.bounds.read_axes(body), {})
            body = self._unlifted(body, case)
            inner = self.bounds.definitions.get(body.tensor) if isinstance(body, Read) else None
            if inner is None or inner.head not in ("map", "sum") or body.children != formals:
                return self._body(d), ()
            if set(formals) & set(inner.bound) or (inner.head == "map" and inner.support is not TRUE):
                return self._body(d), ()
            d = replace(inner, body=substitute(inner.body, dict(zip(inner.formals, formals, strict=True))))
        if (
            d is None
            or d.head != "sum"
            or d.where is not TRUE
            or d.support is not TRUE
            or d.tensor in self.bounds.recurrent
        ):
            raise Stuck("an element that folds an axis")
        return d.body, d.bound

    def _unlifted(self, body: Scalar, case: Case) -> Scalar:
        while (rest := self._moving_part(body, case)) is not None:
            body = rest
        return body

    def _moving_part(self, body: Scalar, case: Case) -> Scalar | None:
        """What moves of a scalar that adds a number to it, multiplies it with a positive one, or is it for certain."""
        if isinstance(body, Select) and not self.rules.moves(body.condition):
            holds = o.truth(case[body.condition])
            return None if holds is None else body.a if holds else body.b
        moving = [a for a in body.children if self.rules.moves(a)]
        if not isinstance(body, Apply) or len(moving) != 1 or body.name not in ("add", "sub", "mul", "div"):
            return None
        first = body.args[0] is moving[0]
        rest = case[body.args[first]]
        kept = rest.finite if body.name in ("add", "sub") else rest.positive and rest.finite
        return moving[0] if kept and (first or body.name not in ("sub", "div")) else None

    def _inlined(self, body: Scalar) -> Scalar:
        """The element, with the elements that it reads put in where the entry is in them."""
        while True:
            nodes = list(postorder(body))
            if len(nodes) > _NODES:
                raise Stuck("an element that is too large")
            put: dict[Scalar, Scalar] = {}
            for n in nodes:
                moving = isinstance(n, Read) and n.tensor in self.rules.moving and n.tensor not in self.rules.inputs
                if isinstance(n, Read) and (moving or self._is_a_sign(n)):
                    d = self.bounds.definitions.get(n.tensor)
                    inner = self._body(d)
                    assert d is not None
                    put[n] = substitute(inner, dict(zip(d.formals, n.indices, strict=True)))
            if not put:
                return body
            body = substitute(body, put)

    def _numbered(self, body: Scalar) -> Scalar:
        """The element, with what is one number as that number."""
        reads = [n for n in postorder(body) if isinstance(n, Read) and n.dtype is REAL and not self.rules.moves(n)]
        boxes = {n: self.bounds.tensor(n.tensor) for n in reads if n.tensor in self.bounds.definitions}
        numbers: dict[Scalar, Scalar] = {
            n: Const(Fraction(b.lo)) for n, b in boxes.items() if b.finite and b.lo == b.hi
        }
        return substitute(body, numbers) if numbers else body

    def _is_a_sign(self, n: Read) -> bool:
        """Whether it is made of inputs that have two values: it is known by them, case by case. If it is no whole number, of
        nothing else."""
        d = self.bounds.definitions.get(n.tensor)
        if d is None or d.head != "map" or d.support is not TRUE or d.tensor in self.bounds.recurrent:
            return False
        if d.dtype is not INT and any(isinstance(part, Param) for part in postorder(d.body)):
            return False
        read = [self.bounds.inputs.get(t) for t in d.body.tensors]
        return bool(read) and all(i is not None and i.kind in _TWO_VALUED for i in read)

    def _body(self, d: Definition | None) -> Scalar:
        if d is None or d.head != "map" or d.support is not TRUE or d.tensor in self.bounds.recurrent:
            raise Stuck("an element that folds an axis" if d is None else f"{d.tensor} is no element of one entry")
        return d.body

    def _affine(self, entry: Scalar) -> tuple[Scalar, list[tuple[Scalar | None, bool]]]:
        """The largest scalar that is affine in the entry and all that it is in; the factors of its slope (None: -1), and
        whether each divides."""
        found, slope = entry, list[tuple[Scalar | None, bool]]()
        case = Case(self.bounds, self._some, {})
        while len(self._users(found)) == 1:
            (user,) = self._users(found)
            if not isinstance(user, Apply) or user.dtype is INT or user.args.count(found) != 1:
                break
            rest = [a for a in user.args if a is not found]
            if (
                len(rest) > 1 or self.rules.moves(*rest) or not case[user].finite
            ):  # it is a number wherever the entry is
                break
            first = user.args[0] is found
            if user.name == "neg" or (user.name == "sub" and not first):
                slope.append((None, False))
            elif user.name == "mul" or (user.name == "div" and first):
                slope.append((rest[0], user.name == "div"))
            elif user.name not in ("add", "sub", "real"):
                break
            found = user
        return found, slope

    def _place_kinks(self) -> None:
        """Take another variable, if kinks are at numbers in that one."""
        case = Case(self.bounds, self._some, {})
        before, centred = self.variable, self.variable
        if before is self._entry:
            self.body, centred = recentred(self.body, before, lambda n: not self.rules.moves(n) and case[n].finite)
        self.body, self.variable = rescaled(self.body, centred)
        if isinstance(self.variable, Apply) and self.variable is not centred:
            self.factors = [*self.factors, (self.variable.args[1], True)]
        self.recentred = centred is not before
        if self.variable is not before:
            self._used = {}

    def _limit(self, entry: Scalar, conditions: Sequence[Scalar], unbounded: bool) -> None:
        """Take the variable from its difference to what the entry is compared with. Raises Stuck."""
        (condition,) = conditions if len(conditions) == 1 else (None,)
        if not isinstance(condition, Compare) or condition.op not in ("<=", ">=") or condition.a is not entry:
            raise Stuck(f"a condition on {self.question.inputs[0]}")
        place, above = condition.b, condition.op == ">="
        while isinstance(place, Apply) and place.name == "real":
            place = place.args[0]
        number = float_of(place)
        if number is not None:
            at = number
            if at <= self.domain.lo if above else at >= self.domain.hi:
                return
            if not self.domain.lo < at < self.domain.hi:
                raise Stuck(f"{at} is no place inside of the domain")
        else:
            higher, there = self._risen(entry, place)
            below = {True: Apply("sub", (higher, there)), False: Apply("sub", (there, higher))}
            first = [rises for rises, n in below.items() if n in self._users(higher)]
            ends = Bounds(self.bounds.program, self.bounds.assume, moved=self.bounds.interior)  # they count: log(0)
            numbers = all(Case(ends, self._some, {})[n].finite for n in (higher, there))
            if (
                len(self._users(higher)) != 1
                or not first
                or not (unbounded or higher is not entry)
                or self.rules.moves(place)
                or not numbers
            ):
                raise Stuck(f"the element is not one of the difference to {type(place).__name__}")
            self.variable, at, self.domain = below[first[0]], 0.0, e.REALS
            self.factors = [] if first[0] else [(None, False)]
            above = above == first[0]
        if above:
            self.domain = Enclosure(at, self.domain.hi, False, self.domain.hi_open)
        else:
            self.domain = Enclosure(self.domain.lo, at, self.domain.lo_open, False)

    def _risen(self, entry: Scalar, place: Scalar) -> tuple[Scalar, Scalar]:
        """The entry, and what it is compared with, after increasing functions in which alone it is read: one is above the other
        where the entry is, and the element rises with the entry where it does with them. Raises Stuck for other questions."""
        higher, there = entry, place
        while len(users := self._users(higher)) == 1:
            (user,) = users
            if not isinstance(user, Apply) or user.name not in _RISING or user.args != (higher,):
                break
            higher, there = user, Apply(user.name, (there,))
        if higher is not entry and not self.question.property.endswith(("increasing", "decreasing")):
            raise Stuck("a derivative in another variable")
        return higher, there

    def limit_to(self, distance: float, *, outward: bool) -> None:
        """Take the variable as far to either side as it is at a distance of the entry from what it is compared with (from 0, if
        it is compared with nothing), rounded outward or inward. Raises Stuck."""
        n = self.unscaled
        reads = list(n.args) if isinstance(n, Apply) and n.name == "sub" else [n]
        inputs = all(isinstance(r, Read) and r.tensor in self.bounds.inputs for r in reads)
        if not inputs or self.recentred or not self.unbounded:
            raise Stuck("the variable is no multiple of a distance")
        slopes = [e.absolute(self.slope(case)) for _, case in self.everywhere()]
        slope = functools.reduce(e.hull, slopes)
        reach = e.mul(Enclosure(distance, distance), slope)
        far = reach.hi if outward else reach.lo
        if not slope.positive or not 0 < far < INF:
            raise Stuck("the slope of the variable")
        self.domain = Enclosure(-far, far, False, False)

    @property
    def unscaled(self) -> Scalar:
        """What the variable is a multiple of."""
        n: Scalar = self.variable
        while isinstance(n, Apply) and n.name in ("mul", "div", "neg"):
            (n,) = [a for a in n.args if self.rules.moves(a)]
        return n

    def _users(self, node: Scalar) -> set[Scalar]:
        """The scalars that it is an argument of."""
        if not self._used:
            for n in postorder(self.body):
                for c in n.children:
                    self._used.setdefault(c, set()).add(n)
        return self._used.get(node, set())

    def _others(self) -> list[Read | Param]:
        """What it reads besides the variable."""
        stack, seen = [self.body, *(n for n, _ in self.factors if n is not None)], set[Scalar]()
        found: list[Read | Param] = []
        while stack:
            n = stack.pop()
            if n in seen or n is self.variable:
                continue
            seen.add(n)
            if isinstance(n, (Read, Param)):
                found.append(n)
            if not isinstance(n, Read):
                stack += n.children
        return found

    def _degree(self, other: Scalar) -> float:
        """1 if the element is affine in a number, whatever all others are; infinity if that is not seen."""
        found: dict[Scalar, float] = {other: 1}
        for n in postorder(self.body, *(f for f, _ in self.factors if f is not None)):
            if n is other or n is self.variable:
                continue
            below = [found.get(c, 0) for c in n.children]
            if not any(below):
                continue
            match n:
                case Apply(name="add" | "sub" | "neg" | "real"):
                    found[n] = max(below)
                case Apply(name="mul"):
                    found[n] = sum(below)
                case Apply(name="div") if not below[1]:
                    found[n] = below[0]
                case Select() if not found.get(n.condition, 0):
                    found[n] = max(below)
                case _:
                    found[n] = INF
        factors = [f for f, _ in self.factors if f is not None and found.get(f, 0)]
        return INF if factors else found.get(self.body, 0)

    def _input(self, n: Read | Param) -> Input | None:
        return self.bounds.inputs.get(n.tensor) if isinstance(n, Read) else None

    # ------------------------------------------------------------------------------------------ on a box

    def _case(self, box: Box) -> Case:
        known: dict[Scalar, Enclosure] = {self.variable: box.over}
        known.update(zip(self.others, box.others, strict=True))
        return Case(self.bounds, self._some, known, split=False)

    def case_of(self, bounds: Bounds) -> Case:
        """Everywhere, for what other bounds know."""
        return Case(bounds, self._some, {})

    def whole(self) -> Case:
        """Everywhere, ends included."""
        return Case(self.bounds, self._some, {self.variable: self.domain})

    def slope(self, case: Case) -> Enclosure:
        """Of the variable in the entry."""
        found = Enclosure(1.0, 1.0)
        for factor, divides in self.factors:
            by = Enclosure(-1.0, -1.0) if factor is None else case[factor]
            found = e.div(found, by) if divides else e.mul(found, by)
        if not found.finite:
            raise Stuck("the slope of the variable may be infinite")
        return found

    def _series(self, decided: Case, over: Enclosure, count: int, body: Scalar | None = None) -> Series:
        """Coefficients in the variable over an interval of it, by the branches that are taken in the case. Raises Undecided."""
        start = _start_of(over, count)
        found = start.like(_Evaluation(self, decided, start).of(self.body if body is None else body))
        if not all(t.finite for t in found.terms):
            raise Undecided
        return found

    def _coefficient(self, case: Case, over: Enclosure, order: int) -> Enclosure:
        return _times(self._series(case, over, order + 1).terms[order], order)

    def derivative(self, order: int, box: Box) -> Enclosure:
        """An enclosure of a derivative on a box. Raises Undecided."""
        case = self._case(box)
        far = _far(box.over)
        try:
            found = self._in_variable(order, case, box.over)
        except (Undecided, ZeroDivisionError, OverflowError):
            if far is None:
                raise
            found = ANYTHING
        return self._scaled(case, found if far is None else self._met_far_out(order, box, far, found), order)

    def _met_far_out(self, order: int, box: Box, far: Enclosure, found: Enclosure) -> Enclosure:
        """What is known of a derivative, and what the element in powers of the variable tells. Raises Undecided."""
        tail, terms = self._tail(box.over.hi == INF), self._terms_of(box)
        if order == 1:
            with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError, Stuck):
                there = self._falling_to_zero(box)
                found = there if found.nan else e.meet(found, there) or found
        for way in () if tail is None else (tail.inverted, tail.relative):
            with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError, Stuck):
                there = way(order, far, terms)
                found = there if found.nan else found if there.nan else e.meet(found, there) or found
        if found.nan:
            raise Undecided
        return found

    def _tail(self, above: bool) -> Tail | None:
        if above not in self._tails:
            self._tails[above] = None
            with contextlib.suppress(Stuck):
                self._tails[above] = Tail(self.body, self.variable, above=above)
        return self._tails[above]

    def _terms_of(self, box: Box) -> Terms:
        """Coefficients of scalars where all but the variable is as in the box."""

        def terms(body: Scalar, known: dict[Scalar, Enclosure], at: Enclosure, count: int) -> Sequence[Enclosure]:
            case = Case(self.bounds, self._some, {**known, **dict(zip(self.others, box.others, strict=True))}, False)
            start = _start_of(at, count)
            found = start.like(_Evaluation(self, case, start).of(body)).terms
            if not all(t.finite for t in found):
                raise Undecided
            return found

        return terms

    def seen(self, order: int, box: Box, accept: Accept) -> Enclosure | None:
        """A derivative on a box, if it is accepted, more closely where it is not at once. Raises Stuck."""
        here = ANYTHING
        with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError):
            here = self.derivative(order, box)
        if not accept(here):
            here = self.closer(order, box, here)
        if not (here.finite and accept(here)) and _far(box.over) is not None and self._vain < _VAIN:
            here = self.farther(order, box, here)
            self._vain += not (here.finite and accept(here))
        return here if here.finite and accept(here) else None

    def farther(self, order: int, box: Box, found: Enclosure) -> Enclosure:
        """What is known of a derivative on a box, and what germs tell of it up to an infinite end."""
        with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError, Stuck):
            case = self._case(box)
            there = self._scaled(case, far_out(self, case, box.over, order), order)
            return _both(found, there)
        return found

    def closer(self, order: int, box: Box, found: Enclosure) -> Enclosure:
        """What is known of a derivative on a box, and what the element tells as one of multiples of the variable."""
        over, case = box.over, self._case(box)
        with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError, Stuck):
            found = _both(found, self._exactly(order, case))
        far = over if over.lo > 0 else e.neg(over) if over.hi < 0 else None
        tail = None if far is None else self._tail(over.lo > 0)
        if far is not None and tail is not None and far.hi < INF:
            with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError, Stuck):
                there = self._scaled(case, tail.relative(order, far, self._terms_of(box)), order)
                return _both(found, there)
        return found

    def _exactly(self, order: int, case: Case) -> Enclosure:
        """A derivative as a sum of products, by the branches that are taken. Raises Undecided, Stuck."""
        body = _Branches(self, case).of(self.body)
        if body not in self._derivations:
            self._derivations[body] = None
            with contextlib.suppress(Stuck):
                self._derivations[body] = Derivations(body, self.variable, self.rules.moves)
        known = self._derivations[body]
        if known is None:
            raise Undecided
        return known.enclosed(case, order, () if self._inner else tuple(self.factors))

    def _falling_to_zero(self, box: Box) -> Enclosure:
        """The first derivative up to an infinite end, if it rises or falls there, and goes to 0: its order is that of what does,
        or the element grows more slowly than the variable, which it would not with another limit. Raises Undecided, Stuck."""
        case = self._case(box)
        bend = self._series(case, box.over, 3).terms[2]
        above = box.over.hi == INF
        value, slope = Orders(self, case, 1 if above else -1).of(self.body)
        slow = value.high is None or value.high < LINEAR or slope.high is None or slope.high < ONE
        if not slow or not (bend.nonnegative or bend.nonpositive):
            raise Undecided
        x = box.over.lo if above else box.over.hi
        end = self._coefficient(case, Enclosure(x, x), 1)
        return e.hull(end, Enclosure(0.0, 0.0))

    def _scaled(self, case: Case, found: Enclosure, order: int) -> Enclosure:
        """A derivative in the entry, by that in the variable."""
        return found if self._inner or not order else e.mul(e.integer_power(self.slope(case), order), found)

    def _in_variable(self, order: int, case: Case, whole: Enclosure) -> Enclosure:
        try:
            terms = self._series(case, whole, order + 2).terms
        except Stuck:  # no further derivative
            return self._coefficient(case, whole, order)
        found, next_ = (_times(terms[k], k) for k in (order, order + 1))
        if whole.lo == whole.hi or not (next_.nonnegative or next_.nonpositive):
            return found
        ends: list[Enclosure | None] = []
        for x in (whole.lo, whole.hi):
            here = None
            if abs(x) < INF:
                with contextlib.suppress(Undecided, ZeroDivisionError):
                    here = self._coefficient(case, Enclosure(x, x), order)
            ends.append(here)
        low, high = ends if next_.nonnegative else ends[::-1]
        strict = next_.nonzero and whole.lo_open and whole.hi_open
        least = Enclosure(-INF, INF, True, True) if low is None else Enclosure(low.lo, INF, strict, True)
        most = Enclosure(-INF, INF, True, True) if high is None else Enclosure(-INF, high.hi, True, strict)
        both = e.meet(least, most)
        return found if both is None else e.meet(found, both) or found

    # ------------------------------------------------------------------------------------------ all boxes

    def covering(self, order: int, accept: Accept) -> list[Leaf]:
        """Boxes that cover everything but ends, with a derivative on each that is accepted. Raises Stuck."""
        return self.covered(lambda box: self.seen(order, box, accept), ends=True)

    def values(self, accept: Accept) -> list[Leaf]:
        """Boxes, ends included, that cover everything, with a value on each that is accepted; pieces may meet anywhere. Raises
        Stuck."""

        def look(box: Box) -> Enclosure | None:
            over = Enclosure(box.over.lo, box.over.hi, box.over.lo == -INF, box.over.hi == INF)
            here = self._case(Box(over, box.others))[self.body]
            return here if here.finite and accept(here) else None

        return self.covered(look, ends=True)

    def terms(
        self, box: Box, count: int, parts: Sequence[Scalar], at: float | None = None
    ) -> list[Sequence[Enclosure]]:
        """Coefficients in the variable on a box, or at a place by the branches that are taken on it, of scalars that the element
        is made of. Raises Undecided."""
        case, over = self._case(box), box.over if at is None else Enclosure(at, at)
        return [self._series(case, over, count, part).terms for part in parts]

    def covered(self, look: Callable[[Box], Enclosure | None], *, ends: bool = False) -> list[Leaf]:
        """Boxes that cover everything but ends of the domain, with what is seen on each; `ends`: what is seen of an element
        that is affine in a number holds inside of a range if it does at its ends. Raises Stuck."""
        found: list[Leaf] = []
        stack = list(self._start(ends=ends))
        for _ in range(_MOST):
            if not stack:
                return sorted(found, key=lambda leaf: tuple(s.lo for s in reversed(leaf.box.sides)))
            box = stack.pop()
            with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError):
                here = look(box)
                if here is not None:
                    found.append(Leaf(box, here))
                    continue
            stack += _halved(box)
        raise Stuck("more boxes than are looked at")

    def _start(self, *, ends: bool = True) -> Iterator[Box]:
        for others in itertools.product(*(self.choices(n, ends=ends) for n in self.others)):
            yield Box(Enclosure(self.domain.lo, self.domain.hi, True, True), others)

    def choices(self, n: Read | Param, *, ends: bool = False) -> list[Enclosure]:
        """What one of the other numbers may be: its values, if there are two, or its interval; of that the `ends`, where what
        is said of both holds between them. Raises Stuck."""
        declared = self._input(n)
        kind = "bool" if n.dtype is BOOL else declared.kind if declared is not None else ""
        box = self.whole()[n]
        if box.nan:
            raise Stuck("a number that may be undefined")
        values: tuple[float, ...] = _TWO_VALUED.get(kind, ())
        closed = not (box.lo_open or box.hi_open)  # at an end that is left out, what is strict may not be
        if ends and not values and box.bounded and closed and self._degree(n) <= 1:
            values = (box.lo, box.hi) if box.lo < box.hi else (box.lo,)
        return [v for v in (Enclosure(v, v) for v in values) if e.meet(v, box) is not None] or self._cut(n, box)

    def _cut(self, n: Read | Param, box: Enclosure) -> list[Enclosure]:
        """An interval in parts, by what a number is compared with: on either side the element may be another one."""
        conditions = [c for c in postorder(self.body) if isinstance(c, Compare) and not self.rules.moves(c)]
        pairs = [way for c in conditions for way in ((c.a, c.b), (c.b, c.a))]
        places = {x for a, b in pairs if a is n and (x := float_of(b)) is not None}
        ends = [-INF, *sorted(places), INF]
        parts = [Enclosure(a, b, a > -INF, b < INF) for a, b in itertools.pairwise(ends)]
        parts[1:1] = [Enclosure(x, x) for x in ends[1:-1]]
        return [part for part in (e.meet(box, part) for part in parts) if part is not None]

    def slope_at(self, others: tuple[Enclosure, ...]) -> Enclosure:
        """Of the variable in the entry, where all else is as it is told."""
        return self.slope(self._case(Box(self.domain, others)))

    def slopes_at(self, end: float) -> Iterator[Enclosure]:
        """The slope in the entry at an end of the domain, for each box of all else. Raises Stuck."""
        near = _near(end, self.domain.hi if end == self.domain.lo else self.domain.lo)
        for box in self._start():
            case = self._beside(box, min(end, near), max(end, near))
            try:
                yield self._scaled(case, self._series(case, Enclosure(end, end), 2).terms[1], 1)
            except (Undecided, ZeroDivisionError, OverflowError):
                raise Stuck(f"the slope at {end}") from None

    def smooth_at(self, entry: Scalar, at: float) -> bool:
        """Whether the element has a slope at a value of the entry, of which the variable is a multiple."""
        if self.unscaled is not entry or at:
            return False
        with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError, Stuck):
            for box in self._start():
                left, right = _near(at, -INF), _near(at, INF)
                self._series(self._beside(box, left, right), Enclosure(left, right, True, True), 3)
            return True
        return False

    def whole_row(self) -> None:
        """Raise Stuck unless the element reads each entry of a row: of the axes of the input that the element does not have."""
        dims = self.bounds.inputs[self._entry.tensor].dims
        read = [i for i, dim in zip(self._entry.indices, dims, strict=True) if dim.constant != 1]
        if not self._axes.issuperset(read) or len(set(read)) < len(read):
            raise Stuck("entries of the row that are not read")

    def case(self, box: Box) -> Case:
        """Where all is as in a box."""
        return self._case(box)

    def everywhere(self) -> Iterator[tuple[Box, Case]]:
        """Boxes of all else, with the variable anywhere in its domain."""
        for box in self._start():
            yield box, self._case(box)

    def joined(self, leaves: Sequence[Leaf], order: int, *, rises: bool = False) -> list[list[str]]:
        """The places at which two pieces meet, where the derivatives up to the order are those of both; for `rises`, the last
        one may be larger on the right. Raises Stuck where that is not seen."""
        places: list[list[str]] = []
        for leaf in leaves:
            over = leaf.box.over
            for end, inside in ((over.lo, over.hi), (over.hi, over.lo)):
                if end in (self.domain.lo, self.domain.hi):
                    self._reached(leaf.box, end, inside)
                elif end == over.hi:
                    places += self._met(leaf.box, end, order, rises)
        return places

    def _beside(self, box: Box, lo: float, hi: float, *, ends: bool = False) -> Case:
        return self._case(Box(Enclosure(lo, hi, not ends, not ends), box.others))

    def _reached(self, box: Box, end: float, inside: float) -> None:
        """Raise Stuck unless the element is continuous up to an end of the domain that belongs to it."""
        is_open = self.domain.lo_open if end == self.domain.lo else self.domain.hi_open
        if abs(end) == INF or is_open:
            return
        near = _near(end, inside)
        lo, hi = min(end, near), max(end, near)
        with contextlib.suppress(Undecided, ZeroDivisionError, Stuck):  # its limit there, and its value
            limit = self._series(self._beside(box, lo, hi), Enclosure(end, end), 2).terms[0]
            there = self._series(self._case(box.at(end)), Enclosure(end, end), 1).terms[0]
            if limit.lo == limit.hi == there.lo == there.hi:
                return
        self._agrees(self._beside(box, lo, hi, ends=True), self.body, end, 0)

    def _met(self, box: Box, at: float, order: int, rises: bool) -> list[list[str]]:
        left, right = _near(at, -INF), _near(at, INF)
        with contextlib.suppress(Undecided, ZeroDivisionError, Stuck):  # one more coefficient: nothing in it jumps
            self._series(self._beside(box, left, right), Enclosure(left, right, True, True), order + 2)
            return []
        around = self._beside(box, left, right, ends=True)
        sides = [self._beside(box, left, at), self._beside(box, at, right)]
        try:
            below, above = (self._series(side, Enclosure(at, at), order + 2).terms for side in sides)
            there = self._series(self._case(box.at(at)), Enclosure(at, at), 1).terms[0]
        except (Undecided, ZeroDivisionError):
            raise Stuck(f"what there is at {at}") from None
        same = [a.lo == a.hi == b.lo == b.hi for a, b in zip(below, above)]
        same[0] = same[0] and there.lo == there.hi == below[0].lo
        if not all(same[:order]):
            self._agrees(around, self.body, at, order - 1)
        if not same[order] and not (rises and below[order].hi <= above[order].lo):
            self._agrees(around, self.body, at, order)
        return [[at.hex(), *(text(terms[order]) for terms in (below, above))]]

    def _agrees(self, case: Case, root: Scalar, at: float, order: int) -> None:
        """Raise Stuck unless a scalar has so many continuous derivatives at a place, around which all is as in the case: each
        operation has, and of two that are joined there the coefficients are the same numbers."""
        stack = [root]
        while stack:
            n = stack.pop()
            if n is self.variable or not self.rules.moves(n):
                continue
            if isinstance(n, Select):
                stack += self._branch(case, n, at, order)
                continue
            if not isinstance(n, Apply) or n.dtype is INT:
                raise Stuck(f"{type(n).__name__} has no rule")
            stack += n.args
            boxes = [case[a] for a in n.args]
            if smooth_there(n, boxes) or (not order and continuous_there(n, boxes)):
                continue
            if n.name not in EXTREMES:
                raise Stuck(f"{n.name} at {at}")
            try:
                self._evaluation(case, at, order).of(n)
            except Undecided:
                self._same(case, _candidates(n), at, order)

    def _branch(self, case: Case, n: Select, at: float, order: int) -> list[Scalar]:
        """Of a selection: what is selected around the place, if it is one scalar."""
        holds = o.truth(case[n.condition])
        if holds is not None:
            return [n.a if holds else n.b]
        sides = [(branch, case.given(n.condition, value)) for branch, value in ((n.a, True), (n.b, False))]
        there = [(branch, inner) for branch, inner in sides if inner is not None]
        for branch, inner in there:
            self._agrees(inner, branch, at, order)
        if self.rules.moves(n.condition):
            self._same(case, [branch for branch, _ in there], at, order)
        return []

    def _evaluation(self, case: Case, at: float, order: int) -> _Evaluation:
        return _Evaluation(self, case, _start_of(Enclosure(at, at), order + 1))

    def _same(self, case: Case, scalars: Sequence[Scalar], at: float, order: int) -> None:
        try:
            values = [self._evaluation(case, at, order).of(n) for n in scalars]
        except (Undecided, ZeroDivisionError):
            raise Stuck(f"what there is at {at}") from None
        like = Series((Enclosure(0.0, 0.0),) * (order + 1), False).like
        for k, terms in enumerate(zip(*(like(v).terms for v in values))):
            if any(t.nan or not t.lo == t.hi == terms[0].lo for t in terms):
                raise Stuck(f"a jump of derivative {k} at {at}")

    def ends(self, box: Box) -> Iterator[Enclosure]:
        """Values at the ends of a box. Raises Stuck."""
        for x in (box.over.lo, box.over.hi):
            if abs(x) < INF:
                try:
                    yield self._series(self._case(box), Enclosure(x, x), 1).terms[0]
                except (Undecided, ZeroDivisionError):
                    raise Stuck(f"the value at {x}") from None

    def moves(self, leaves: Sequence[Leaf]) -> bool:
        """Whether the variable moves wherever the entry does."""
        return all(self.slope(self._case(leaf.box)).nonzero for leaf in leaves)

    # ------------------------------------------------------------------------------------------ large values

    def place(
        self, order: int, leaves: Sequence[Leaf], size: Callable[[Enclosure], tuple[float, float]], wanted: float
    ) -> list[str]:
        """A place at which a size of the derivative, of which bounds are told, is at least the wanted one. Raises Stuck."""
        if self.question.conditions:
            raise Stuck("a condition on the place")
        if self.bounds.inputs[self.question.inputs[0]].kind not in ("real", "prob"):
            raise Stuck("an entry that does not move alone")
        for n in self.others:
            declared = self._input(n)
            if declared is None or declared.kind not in _FREE or declared.default is not None:
                raise Stuck("a number that may not be any of its interval")
            if sum(isinstance(other, Read) and other.tensor == declared.name for other in self.others) > 1:
                raise Stuck("two entries that may be one, or in an order")
            if any(end is not None and float_of(end) is None for end in (declared.range.lower, declared.range.upper)):
                raise Stuck("an interval whose ends are not told exactly")
        count = itertools.count(0, -1)  # of equal ones the latest first
        queue = [(-size(leaf.found)[1], next(count), leaf.box) for leaf in leaves]
        heapq.heapify(queue)
        for _ in range(_SEARCHED):
            if not queue:
                break
            _, _, box = heapq.heappop(queue)
            point = Box(_inside(box.over), tuple(map(_inside, box.others)))
            with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError):
                case = self._case(Box(box.over, point.others))
                here = self._scaled(case, self._coefficient(case, point.over, order), order)
                if size(here)[0] >= wanted:
                    return [*(s.lo.hex() for s in point.sides), text(here)]
            for half in _halved(box):
                with contextlib.suppress(Undecided, ZeroDivisionError, OverflowError):
                    heapq.heappush(queue, (-size(self.derivative(order, half))[1], next(count), half))
        raise Stuck("no place with a value that is large enough")


class _Evaluation:
    """Scalars as series in the variable, where all that decides is as in a case."""

    def __init__(self, curve: Curve, case: Case, start: Series) -> None:
        self._curve, self._case, self._start = curve, case, start
        self._known: dict[Scalar, Number] = {curve.variable: start}

    def of(self, node: Scalar) -> Number:
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = self._number(node)
        return found

    def _number(self, n: Scalar) -> Number:
        if isinstance(n, Select):
            return self._selected(n)
        if isinstance(n, Const) and not isinstance(n.value, (str, bool)):
            return n.value
        if not self._curve.rules.moves(n):
            box = self._case[n]
            if not box.finite:
                raise Undecided
            return box
        if not isinstance(n, Apply) or n.dtype is INT:
            raise Stuck(f"{type(n).__name__} has no series")
        if n.name in EXTREMES:
            return self._extreme(n)
        args = [self.of(a) for a in n.args]
        if not any(isinstance(a, Series) for a in args):  # by the branches that are taken, it does not move here
            args[0] = self._start.like(args[0])
        found = of_operation(n, args)
        if any(t.nan for t in found.terms):
            raise Undecided
        return found

    def _selected(self, n: Select) -> Number:
        holds = o.truth(self._case[n.condition])
        if holds is not None:
            return self.of(n.a if holds else n.b)
        if self._curve.rules.moves(n.condition):
            raise Undecided
        found: Series | None = None
        for branch, value in ((n.a, True), (n.b, False)):
            inner = self._case.given(n.condition, value)
            if inner is not None:
                part = self._start.like(_Evaluation(self._curve, inner, self._start).of(branch))
                found = part if found is None else found.hulled(part)
        if found is None:
            raise Undecided
        return found

    def _extreme(self, n: Apply) -> Number:
        a = n.args[0]
        box = self._case[a]
        match n.name:
            case "abs" if box.nonnegative:
                return self.of(a)
            case "abs" if box.nonpositive:
                return -self._start.like(self.of(a))
            case "relu" if box.nonnegative:
                return self.of(a)
            case "relu" if box.nonpositive:
                return self._start.like(Enclosure(0.0, 0.0))
            case "max2" | "min2":
                return self.of(self._larger(n.args[0], n.args[1], n.name == "max2"))
            case "clamp":
                return self.of(self._larger(self._larger(a, n.args[1], True), n.args[2], False))
        raise Undecided

    def _larger(self, a: Scalar, b: Scalar, largest: bool) -> Scalar:
        below = o.truth(o.compare("<=", self._case[a], self._case[b]))
        if below is None:
            gap = self._case[Apply("sub", (a, b))]
            below = True if gap.nonpositive else False if gap.nonnegative else None
        if below is None:
            raise Undecided
        return b if below == largest else a


class _Branches:
    """Scalars without branches, where all that decides is as in a case."""

    def __init__(self, curve: Curve, case: Case) -> None:
        self._curve, self._case = curve, case

    def of(self, body: Scalar) -> Scalar:
        return transform(body, self._taken)

    def _taken(self, n: Scalar) -> Scalar:
        if isinstance(n, Select) and self._curve.rules.moves(n):
            holds = o.truth(self._case[n.condition])
            return n if holds is None else n.a if holds else n.b
        if not isinstance(n, Apply) or n.name not in EXTREMES or not self._curve.rules.moves(n):
            return n
        box = self._case[n.args[0]]
        match n.name:
            case "abs" if box.nonnegative or box.nonpositive:
                return n.args[0] if box.nonnegative else Apply("neg", n.args)
            case "relu" if box.nonnegative or box.nonpositive:
                return n.args[0] if box.nonnegative else Const(0)
        return n


def _both(found: Enclosure, there: Enclosure) -> Enclosure:
    """What is known for two reasons."""
    return there if found.nan else found if there.nan else e.meet(found, there) or found


def _start_of(over: Enclosure, count: int) -> Series:
    """The variable itself, where it is in an interval."""
    return Series((over, Enclosure(1.0, 1.0), *[Enclosure(0.0, 0.0)] * count)[:count], False)


def float_of(node: Scalar) -> float | None:
    """The number that a scalar is, if it is one that floats have exactly."""
    while isinstance(node, Apply) and node.name == "real":
        node = node.args[0]
    if not isinstance(node, Const) or not isinstance(node.value, Fraction) or abs(node.value) > 2**1000:
        return None
    near = float(node.value)
    return near if Fraction(near) == node.value else None


def _candidates(n: Apply) -> list[Scalar]:
    """What an extremum that changes sides may be on either of them."""
    a = n.args[0]
    match n.name:
        case "abs":
            return [a, Apply("neg", (a,))]
        case "relu":
            return [a, Const(0)]
        case "max2" | "min2":
            return [a, n.args[1]]
    raise Stuck(f"{n.name} that changes sides")


def _times(term: Enclosure, order: int) -> Enclosure:
    """The derivative of an order, by the coefficient."""
    return term if order < 2 else e.mul(term, Enclosure(_FACTORIALS[order], _FACTORIALS[order]))


def _far(over: Enclosure) -> Enclosure | None:
    """The sizes of numbers up to an infinite end, if 0 is not among them."""
    if over.hi == INF and over.lo > 0:
        return Enclosure(over.lo, INF, True, True)
    return Enclosure(-over.hi, INF, True, True) if over.lo == -INF and over.hi < 0 else None


def _near(x: float, towards: float) -> float:
    step = max(abs(x), 1.0) * _BESIDE
    return x - step if towards < x else x + step


def _room(side: Enclosure) -> float:
    """The length of an interval, where all numbers are as long as from -1 to 1."""
    return _folded(side.hi) - _folded(side.lo)


def _folded(x: float) -> float:
    return math.copysign(1.0, x) if abs(x) == INF else x / (1 + abs(x))


def _halved(box: Box) -> Iterator[Box]:
    """A box in two along its longest side. Raises Stuck for one that is as small as they are."""
    sides = box.sides
    k = max(range(len(sides)), key=lambda k: _room(sides[k]) * (1 + (k == 0)))
    side = sides[k]
    middle = _middle(side)
    if not side.lo < middle < side.hi or _room(side) < _NARROW:
        raise Stuck("boxes that are too small")
    if k == 0:
        for lo, hi in ((side.lo, middle), (middle, side.hi)):
            yield Box(Enclosure(lo, hi, True, True), box.others)
        return
    for half in (
        Enclosure(side.lo, middle, side.lo_open, False),
        Enclosure(middle, side.hi, False, side.hi_open),
    ):
        yield Box(box.over, (*box.others[: k - 1], half, *box.others[k:]))


def _middle(side: Enclosure) -> float:
    if side.lo == -INF and side.hi == INF:
        return 0.0
    if side.hi == INF:
        return max(1.0, 2 * side.lo) if side.lo >= 0 else 0.0
    if side.lo == -INF:
        return min(-1.0, 2 * side.hi) if side.hi <= 0 else 0.0
    return side.lo + (side.hi - side.lo) / 2


def _inside(side: Enclosure) -> Enclosure:
    x = side.lo if side.lo == side.hi else _middle(side)
    return Enclosure(x, x)


def text(box: Enclosure) -> str:
    """Exact: hexadecimal ends."""
    ends = f"{'(' if box.lo_open else '['}{box.lo.hex()}, {box.hi.hex()}{')' if box.hi_open else ']'}"
    return f"{ends} or undefined" if box.nan else ends


__all__ = ["Box", "Curve", "Leaf", "float_of", "text"]
