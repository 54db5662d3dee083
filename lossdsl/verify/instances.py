"""Lower bounds at instances: where extents are numbers, every reduction is written out and a bound is one of a scalar.

Parameters and optional inputs have one value each, labels every one that they may have, and the equalities of other
integers hold or not. What is left is a scalar in some real entries, whose sign is decided as any other (`signs`). A
definition that its range bounds may stand for itself, as a number of its own in that range: more values are then allowed
than there are, so that what holds for all of them holds for the loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.ir.extents import symbols_of
from lossdsl.ir.nodes import (
    BOOL,
    FALSE,
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
    Index,
    Input,
    Not,
    Or,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
    postorder,
)
from lossdsl.verify import properties
from lossdsl.verify.algebra import Field, Form, TooLarge, leaves_of, minus, plus, replace
from lossdsl.verify.boxes import lowest
from lossdsl.verify.context import Context
from lossdsl.verify.derive import derivative
from lossdsl.verify.folds import Place, every_place
from lossdsl.verify.pieces import NotScalar, View, dependents, fold_top, split
from lossdsl.verify.points import elements
from lossdsl.verify.ranges import Scope
from lossdsl.verify.refute import counts, value
from lossdsl.verify.scalar import irregular, slope_between
from lossdsl.verify.signs import Budget, prove
from lossdsl.verify.verdict import Proved
from lossdsl.verify.work import CLOCK, passed

_MOST = 1_500  # nodes of one element
_CASES = 40  # of labels
_PLACES = 4
_ENDS = 16  # corners of leaves in which a bound is affine
_LONGEST = 4  # an extent that is a parameter
_DRAWN = 30  # points that the bound is guessed from
_LEAST = Fraction(1, 2**10)  # a bound that is worth a proof
_NOTHING = Const("-inf")  # the logarithm of an empty sum

Extents = Mapping[str, int]
Case = Mapping[object, Fraction]


class Undetermined(Exception):
    """A label, or an equality of integers, whose values are to be gone through."""

    def __init__(self, what: object, values: tuple[int, ...]) -> None:
        super().__init__(str(what))
        self.what, self.values = what, values


@dataclass(frozen=True)
class Above:
    """A bound that holds at an instance, or at all extents."""

    bound: Fraction
    extents: Extents | None = None

    @property
    def where(self) -> str:
        if self.extents is None:
            return ""
        return " where " + ", ".join(f"{name} = {size}" for name, size in self.extents.items())


def above(ctx: Context, target: str, bound: Fraction, end: int) -> Above | None:
    """Extents (or all) at which the target stays above the bound by a certain amount, whatever the inputs are. Every
    parameter has one value in the context, and optional inputs have theirs. `end`: the step at which to give up."""
    views = _views(ctx, target)
    for gap in _gaps(_seen(ctx, target, {}), bound) if views else ():
        if isinstance(slope_between(views, Const(bound + gap), None, ctx.budget, order=0), Proved):
            return Above(bound + gap)
    for extents in _instances(ctx):
        if passed(end):
            return None
        for gap in _gaps(_seen(ctx, target, extents), bound):
            if any(not passed(end) and _holds(ctx, target, extents, bound + gap, kept=kept) for kept in (True, False)):
                return Above(bound + gap, extents)
    return None


def _gaps(least: Fraction | None, bound: Fraction) -> Iterator[Fraction]:
    """By how much the target may stay above the bound, from what was seen of it."""
    room = Fraction(0) if least is None else min(least - bound, Fraction(1))
    for part in (2, 16):
        gap = _LEAST * int(room / part / _LEAST)
        if gap > 0:
            yield gap


def _views(ctx: Context, target: str) -> list[View]:
    """The scalar views of the target in one of its inputs, if there are any."""
    for i in ctx.program.inputs:
        if i.differentiable and target in dependents(ctx.program, i.name):
            cases = properties.scalar_views(ctx, target, i.name, interior=False)
            if not isinstance(cases, str):
                return cases
    return []


def _instances(ctx: Context) -> Iterator[Extents]:
    """Small extents, those of 2 first; parameters that are extents have their value."""
    symbols = symbols_of(ctx.program)
    known = {p.name: int(ctx.fixed[p.name]) for p in ctx.program.parameters if p.name in symbols}
    if not all(0 < size <= _LONGEST for size in known.values()):
        return
    free = sorted(symbols - set(known))
    sizes = itertools.product((2, 1), repeat=min(len(free), 4))
    for chosen in sorted(sizes, key=lambda s: s.count(1)):
        yield {**dict(zip(free, (*chosen, *(1 for _ in free[4:])), strict=True)), **known}


def _seen(ctx: Context, target: str, extents: Extents) -> Fraction | None:
    """The least value at some points of the instance; None if there is none, or one has no value."""
    sampler = ctx.sampler(81)
    least: Fraction | None = None
    for k in range(_DRAWN):
        point = sampler.point(spread=(2.0, 8.0, 40.0, 0.5)[k % 4], sizes=extents)
        if point is None or any(point.extents[s] != n for s, n in extents.items()) or not ctx.admits(point):
            continue
        for place in elements(ctx.program, target, point, most=_PLACES):
            if not counts(ctx, point, target, place):
                continue
            found = value(ctx, point, target, place)
            if found is None or not found.bounded:
                return None
            least = Fraction(found.lo) if least is None else min(least, Fraction(found.lo))
    return least


def _holds(ctx: Context, target: str, extents: Extents, bound: Fraction, *, kept: bool) -> bool:
    """Whether every element of the target is at least the bound, and there is one."""
    definition = ctx.program.definition(target)
    if definition is None:
        return False
    places = list(itertools.islice(every_place([i.dim.evaluate(extents) for i in definition.formals]), _PLACES + 1))
    if not 0 < len(places) <= _PLACES:
        return False
    try:
        found = [_everywhere(ctx, target, place, extents, bound, kept=kept) for place in places]
    except (NotScalar, TooLarge, RecursionError):
        return False
    return all(elements is not None for elements in found) and any(found)


def _everywhere(
    ctx: Context, target: str, place: Place, extents: Extents, bound: Fraction, *, kept: bool
) -> int | None:
    """In how many cases there is an element at the place, if it is at least the bound in all of them."""
    pending: list[Case] = [{}]
    count = 0
    for _ in range(_CASES):
        if not pending:
            return count
        case = pending.pop()
        instance = Instance(ctx, extents, case, kept=kept)
        try:
            inside, body = instance.target(target, place)
        except Undetermined as open_:
            pending += [{**case, open_.what: Fraction(v)} for v in open_.values]
            continue
        if inside is FALSE:
            continue
        if not _at_least(body, instance.scope, bound, ctx.budget):
            return None
        count += 1
    return None if pending else count


def _at_least(body: Scalar, scope: Scope, bound: Fraction, budget: Budget) -> bool:
    for piece in split(body, scope):
        if irregular(piece, []) is not None:
            return False
        if not all(piece.scope[n].finite for c in piece.constraints for n in postorder(c)):
            return False
        field = Field(piece.scope)
        gap = plus(field.form(piece.body), minus(field.number(bound)))
        constraints = [field.form(c) for c in piece.constraints]
        for part in _at_ends(field, gap, constraints):
            if not lowest(field, part).nonnegative and prove(field, part, constraints, budget) is None:
                return False
    return True


def _at_ends(field: Field, f: Form, constraints: list[Form]) -> list[Form]:
    """Forms that are >= 0 only if `f` is: what is affine in a leaf is least at an end of its interval."""
    forms = [f]
    for leaf in leaves_of(field, f):
        box = field.generators[leaf].enclosure
        slope = derivative(field, f, leaf)
        bent = slope.zero or not derivative(field, slope, leaf).zero
        if not box.bounded or bent or len(forms) >= _ENDS or leaf in leaves_of(field, *constraints):
            continue
        forms = [replace(field, g, leaf, field.number(Fraction(end))) for g in forms for end in (box.lo, box.hi)]
    return forms


class Instance:
    """Elements as scalars in entries of inputs. Raises Undetermined, NotScalar.

    kept   whether a definition that its range bounds stands for itself"""

    def __init__(self, ctx: Context, extents: Extents, case: Case, *, kept: bool) -> None:
        self.program, self.extents, self.case, self.kept = ctx.program, extents, case, kept
        self.fixed, self.ranges = ctx.fixed, ctx.ranges()
        every = frozenset(i.dim for d in ctx.program.definitions() for i in (*d.formals, *d.bound))
        self.scope = self.ranges.scope(frozenset(d for d in every if d.evaluate(extents) > 0))
        self._definitions = {d.tensor: d for d in ctx.program.definitions()}
        self._memo: dict[tuple[str, Place], Scalar] = {}
        self._steps = 0

    def target(self, name: str, place: Place) -> tuple[Scalar, Scalar]:
        """Whether the element is one, and its value."""
        d = self._definitions[name]
        env = dict(zip(d.formals, place, strict=True))
        return self._scalar(d.support, env), self._element(name, place, top=True)

    def _element(self, tensor: str, place: Place, *, top: bool = False) -> Scalar:
        key = (tensor, place)
        if key not in self._memo:
            declared = self.program.input(tensor)
            if declared is not None:
                self._memo[key] = self._entry(declared, place)
            else:
                d = self._definitions[tensor]
                bounded = self.kept and not top and d.dtype is REAL and self.ranges.tensor(tensor).bounded
                self._memo[key] = _read(tensor, place) if bounded else self._definition(d, place)
        return self._memo[key]

    def _entry(self, declared: Input, place: Place) -> Scalar:
        shape = tuple(d.evaluate(self.extents) for d in declared.dims)
        if len(place) != len(shape) or not all(0 <= k < n for k, n in zip(place, shape, strict=True)):
            raise NotScalar(f"{declared.name} has no entry at {place}")
        key = (declared.name, place)
        if key in self.case:
            return Const(self.case[key], declared.dtype)
        match declared.kind:
            case "class" if declared.classes is not None and declared.also is None:
                raise Undetermined(key, tuple(range(declared.classes.evaluate(self.extents))))
            case "class" if declared.classes is not None:
                raise Undetermined(key, (*range(declared.classes.evaluate(self.extents)), self._ignored(declared)))
            case "binary" | "bool":
                raise Undetermined(key, (0, 1))
            case "sign":
                raise Undetermined(key, (-1, 1))
            case "simplex" if len(declared.over) == 1:
                axis = declared.over[0]
                if place[axis] == shape[axis] - 1 and shape[axis] <= 2:  # the row adds up to 1
                    first = (*place[:axis], 0, *place[axis + 1 :])
                    return ONE if shape[axis] == 1 else Apply("sub", (ONE, _read(declared.name, first)))
        if declared.dtype is BOOL:
            raise NotScalar(f"the values of {declared.name}")
        return Read(declared.name, tuple(Const(Fraction(k), INT) for k in place), declared.dtype)

    def _ignored(self, declared: Input) -> int:
        assert declared.also is not None
        if declared.also not in self.fixed:
            raise NotScalar(f"the value of {declared.also}")
        return int(self.fixed[declared.also])

    def _definition(self, d: Definition, place: Place) -> Scalar:
        env = dict(zip(d.formals, place, strict=True))
        inside = self._scalar(d.support, env)
        if inside is FALSE:
            return ZERO if d.dtype is REAL else Const(Fraction(0), d.dtype)
        found = self._scalar(d.body, env) if d.head == "map" else self._reduction(d, env)
        return found if inside is TRUE else Select(inside, found, ZERO)

    def _reduction(self, d: Definition, env: Mapping[Index, int]) -> Scalar:
        terms: list[Scalar] = []
        for at in every_place([i.dim.evaluate(self.extents) for i in d.bound]):
            inner = {**env, **dict(zip(d.bound, at, strict=True))}
            taken = self._scalar(d.where, inner)
            if taken not in (TRUE, FALSE):
                raise NotScalar(f"which terms {d.tensor} has")
            if taken is TRUE:
                terms.append(self._scalar(d.body, inner))
        return self._folded(d.head, terms)

    def _folded(self, head: str, terms: list[Scalar]) -> Scalar:
        if head in ("any", "all"):
            return fold_top((Or if head == "any" else And)(tuple(terms))) if terms else FALSE if head == "any" else TRUE
        if head == "count":
            if not all(t in (TRUE, FALSE) for t in terms):
                raise NotScalar("a count of what is not known")
            return Const(Fraction(sum(t is TRUE for t in terms)), INT)
        name = {"sum": "add", "prod": "mul", "max": "max2", "min": "min2", "logsumexp": "logaddexp"}.get(head)
        if name is None or (not terms and head in ("max", "min")):
            raise NotScalar(f"{head}, written out")
        if not terms:
            return {"add": ZERO, "mul": ONE, "logaddexp": _NOTHING}[name]
        total = terms[0]
        for t in terms[1:]:
            total = self._apply(Apply(name, (total, t)))
        return total

    def _scalar(self, n: Scalar, env: Mapping[Index, int]) -> Scalar:
        self._steps += 1
        CLOCK.steps += 1
        if self._steps > _MOST:
            raise NotScalar("too many terms")
        match n:
            case Index():
                return Const(Fraction(env[n]), INT)
            case Size():
                return Const(Fraction(n.dim.evaluate(self.extents)), INT)
            case Read():
                return self._element(n.tensor, tuple(self._whole(i, env) for i in n.indices))
            case Select():
                condition = self._scalar(n.condition, env)
                if condition in (TRUE, FALSE):
                    return self._scalar(n.a if condition is TRUE else n.b, env)
                return fold_top(Select(condition, self._scalar(n.a, env), self._scalar(n.b, env)))
            case And() | Or():
                return self._logic(n, env)
            case Compare():
                return self._compare(n, env)
            case Stop() | AdjointMap():
                return self._scalar(n.a, env)
            case Proxy():
                return self._scalar(n.value, env)
            case Table():
                return self._scalar(n.values[self._whole(n.index, env)], env)
            case Apply():
                args = tuple(self._scalar(a, env) for a in n.args)
                if n.name in ("floordiv", "mod", "floor", "ceil"):
                    raise NotScalar(n.name)
                return self._apply(Apply(n.name, args))
            case Not():
                return fold_top(Not(self._scalar(n.a, env)))
        return n

    def _logic(self, n: And | Or, env: Mapping[Index, int]) -> Scalar:
        stop = FALSE if isinstance(n, And) else TRUE
        parts: list[Scalar] = []
        for a in n.args:
            part = self._scalar(a, env)
            if part is stop:
                return stop
            parts.append(part)
        return fold_top(type(n)(tuple(parts)))

    def _compare(self, n: Compare, env: Mapping[Index, int]) -> Scalar:
        a, b = self._scalar(n.a, env), self._scalar(n.b, env)
        if a is b and n.a.dtype is not REAL:
            return TRUE if n.op in ("==", "<=", ">=") else FALSE
        if n.op in ("==", "!=") and isinstance(a, Read) and isinstance(b, Read) and a.dtype is b.dtype is INT:
            key = ("==", *sorted((str(a), str(b))))  # more than can be is allowed: that three are equal but in pairs
            if key not in self.case:
                raise Undetermined(key, (0, 1))
            return TRUE if (self.case[key] == 1) == (n.op == "==") else FALSE
        return fold_top(Compare(n.op, a, b))

    def _whole(self, n: Scalar, env: Mapping[Index, int]) -> int:
        found = self._scalar(n, env)
        if not isinstance(found, Const) or not isinstance(found.value, Fraction) or found.value.denominator != 1:
            raise NotScalar("a place that depends on the inputs")
        return int(found.value)

    def _apply(self, n: Apply) -> Scalar:
        """The primitive, with what is known of the logarithm of an empty sum."""
        if _NOTHING not in n.args:
            return fold_top(n)
        others = [a for a in n.args if a is not _NOTHING]
        finite = all(self.scope[a].finite for a in others)
        match n.name:
            case "logaddexp":
                return others[0] if others else _NOTHING
            case "add" if finite:
                return _NOTHING
            case "sub" if finite and others and n.args[0] is _NOTHING:
                return _NOTHING
            case "exp" | "softplus":
                return ZERO
            case "mul" if finite and others and self.scope[others[0]].positive:
                return _NOTHING
            case "div" if finite and n.args[0] is _NOTHING and self.scope[others[0]].positive:
                return _NOTHING
        raise NotScalar(f"{n.name} of the logarithm of nothing")


def _read(tensor: str, place: Place) -> Read:
    return Read(tensor, tuple(Const(Fraction(k), INT) for k in place), REAL)


__all__ = ["Above", "Instance", "above"]
