"""Rounding errors of a loss: of an element interval by interval (`errors`); where axes are folded, of all elements of each
tensor at once, for extents up to one of `LONGEST`.

A sum of n terms is taken to be added up in any order, so that it is off by at most (n - 1) u / (1 - (n - 1) u) times the sum
of their sizes (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2); a logsumexp to be m + log(s), in one
pass or in two. What a condition decides has to be decided alike for the exact and for the computed values, or their
difference is an error too.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Input,
    Not,
    Or,
    Program,
    Read,
    Scalar,
    Select,
    Size,
    Table,
)
from lossdsl.ir.rewrite import substitute
from lossdsl.primitives import PRIMITIVES
from lossdsl.primitives.interval import Interval
from lossdsl.verify import enclosure as e
from lossdsl.verify import errors
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.errors import (
    GOOD,
    LOOSE,
    METHOD,
    UNIT,
    Approximation,
    Bound,
    Decision,
    Errors,
    Unbounded,
    approximation,
    around,
    size,
    told,
)
from lossdsl.verify.finite import programs_of
from lossdsl.verify.float_ranges import FORMATS, FloatRanges, Format
from lossdsl.verify.float_values import LARGEST, NORMAL
from lossdsl.verify.operations import EITHER, NO, YES
from lossdsl.verify.pieces import NotScalar
from lossdsl.verify.ranges import Ranges
from lossdsl.verify.show import text
from lossdsl.verify.verdict import Bracket, Proved, Step, Unknown, Verdict

LONGEST = (1024, 64)  # extents are at most this where axes are folded
# bounds on extents and on real inputs under which one of the error is looked for
_DOMAINS = ((LONGEST[0], 2.0**16), (LONGEST[0], 2.0**10), (LONGEST[0], 2.0**4), (LONGEST[1], 2.0**4))
_USELESS = 0.5  # a bound of the error that tells nothing
_WHOLE = 2.0**24  # integers up to it are numbers of float32


class Short(Ranges):
    """Exact ranges where every axis has an element, and every named extent is at most `longest`."""

    def __init__(
        self, program: Program, assume: Mapping[str, Enclosure], fixed: Mapping[str, Fraction], longest: int
    ) -> None:
        super().__init__(program, assume)
        self.longest = longest
        self._known = {name: int(value) for name, value in fixed.items() if value.denominator == 1}

    def extent(self, dim: Dim, nonempty: frozenset[Dim] = frozenset()) -> Enclosure:
        if any(c < 0 for atoms, c in dim.terms if atoms):
            return Enclosure(1.0, INF)
        ends = (dim.evaluate({**dict.fromkeys(dim.symbols(), n), **self._known}) for n in (1, self.longest))
        lo, hi = (float(max(end, 1)) for end in ends)
        return Enclosure(lo, hi)

    def many(self, d: Definition) -> Enclosure:
        """How many elements a definition folds, without its condition."""
        boxes = [self.extent(i.dim) for i in d.bound]
        return Enclosure(math.prod(b.lo for b in boxes), math.prod(b.hi for b in boxes))


class Rows(Errors):
    """Approximations of the tensors of a program, each of all elements; `inputs` gives those of the inputs."""

    def __init__(
        self,
        program: Program,
        floats: FloatRanges,
        fixed: Mapping[str, Fraction],
        exact: Short,
        inputs: Mapping[str, Approximation],
    ) -> None:
        super().__init__(floats, fixed, {})
        self._definitions = {d.tensor: d for d in program.body if isinstance(d, Definition)}
        self._exact, self._tensors = exact, dict(inputs)
        self.read: set[str] = set()  # tensors
        self._whole = self  # not under a condition

    def reached(self) -> list[Definition]:
        """The definitions that were looked at."""
        return [d for d in self._definitions.values() if d.tensor in self._tensors]

    def tensor(self, name: str) -> Approximation:
        """Of every element. Raises Unbounded."""
        if self._whole is not self:
            return self._whole.tensor(name)
        found = self._tensors.get(name)
        if found is None:
            d = self._definitions.get(name)
            if d is None:
                raise Unbounded(f"{name}, which is a recurrence")
            found = self._tensors[name] = self._within(name, self._supported(d))
            if found.exact.nan or not size(found.computed) <= LARGEST or not found.error < INF:
                raise Unbounded(name)
        return found

    def _within(self, name: str, found: Approximation) -> Approximation:
        """With what the ranges know of the exact values."""
        box = self._exact.tensor(name)
        exact = None if box.nan else e.meet(found.exact, Enclosure(box.lo, box.hi))
        if exact is None or exact == found.exact or found.faithful:
            return found
        return approximation(exact, found.computed, found.relative, found.absolute)

    def _supported(self, d: Definition) -> Approximation:
        """An element outside of the support is 0."""
        holds = self._certain(d.support)
        if holds is False:
            return _ZERO
        found = self._folded(d)
        if holds:
            return found
        zero = Enclosure(0.0, 0.0)
        return Approximation(e.hull(found.exact, zero), e.hull(found.computed, zero), found.relative, found.absolute)

    def _certain(self, condition: Scalar) -> bool | None:
        """Whether it holds, None where it may or may not. Raises Unbounded where computed values may decide otherwise."""
        if condition is TRUE:
            return True
        decided = self.decision(condition)
        if not decided.faithful:
            raise Unbounded(f"the condition {text(condition)} on what is computed")
        return decided.exact

    # --------------------------------------------------------------------------------------------- scalars

    def _scalar(self, node: Scalar) -> Approximation:
        match node:
            case Read():
                for i in node.indices:
                    if not isinstance(i, Index) and not self[i].faithful:
                        raise Unbounded(f"{text(node)}, whose place is computed")
                self.read.add(node.tensor)
                return self.tensor(node.tensor)
            case Index():
                return _whole(0.0, self._exact.extent(node.dim).hi - 1)
            case Size():
                box = self._exact.extent(node.dim)
                return _whole(box.lo, box.hi)
            case Table():
                values = [self[v] for v in node.values]
                exact, computed = values[0].exact, values[0].computed
                for v in values[1:]:
                    exact, computed = e.hull(exact, v.exact), e.hull(computed, v.computed)
                return Approximation(exact, computed, max(v.relative for v in values), max(v.absolute for v in values))
            case Compare() | And() | Or() | Not():
                return _decided(self.decision(node))
        return super()._scalar(node)

    def _choice(self, node: Select) -> Approximation:
        """What is not 0 is at least 1 where a whole number is told from 0."""
        c = node.condition
        if not isinstance(c, Compare) or c.op not in ("==", "!=") or c.b != Const(0, c.b.dtype):
            return super()._choice(node)
        number = c.a.args[0] if isinstance(c.a, Apply) and c.a.name == "real" else c.a
        if number.dtype is not INT or not self[number].faithful or self[number].exact.lo != 0:
            return super()._choice(node)
        other = copy.copy(self)
        other._known, other._decided = {number: _whole(1.0, max(self[number].exact.hi, 1.0))}, {}
        a, b = (self[node.a], other[node.b]) if c.op == "==" else (other[node.a], self[node.b])
        relative, absolute = max(a.relative, b.relative), max(a.absolute, b.absolute)
        return approximation(e.hull(a.exact, b.exact), e.hull(a.computed, b.computed), relative, absolute)

    def _applied(self, node: Apply, args: list[Approximation]) -> Approximation:
        if node.dtype is INT and all(a.faithful for a in args):
            box = self._exact.operation(node, [a.exact for a in args])
            return Approximation(box, box)
        found = super()._applied(node, args)
        mean = self._mean(node, args) if node.name == "div" else None
        if mean is None:
            return found
        exact = e.meet(mean.exact, found.exact) or mean.exact
        return approximation(exact, found.computed, mean.relative, mean.absolute)

    def _mean(self, node: Apply, args: list[Approximation]) -> Approximation | None:
        """A sum over as many as it has terms is off by what one term is, and by what adding up makes of it."""
        total, many = node.args
        d = self._definitions.get(total.tensor) if isinstance(total, Read) else None
        if d is None or d.head != "sum" or d.support is not TRUE or not self._counts(many, d, total):
            return None
        term = self[d.body]
        relative, absolute = _of_terms(term, self._exact.many(d).hi)
        if not relative < 1:
            return None
        if not _one_sign(term.exact):
            relative, absolute = 0.0, absolute + relative * size(term.exact)
        accuracy = PRIMITIVES["div"].accuracy
        assert accuracy is not None
        own, least = (UNIT * x for x in accuracy(*(Interval(a.computed.lo, a.computed.hi) for a in args)))
        relative, absolute = relative + own * (1 + relative), absolute * (1 + own) + least + NORMAL
        return Approximation(term.exact, around(term.exact, relative, absolute), relative * LOOSE, absolute * LOOSE)

    def _counts(self, node: Scalar, d: Definition, total: Scalar) -> bool:
        """Whether the scalar is the number of terms of a sum that is read, which is not 0."""
        if isinstance(node, Apply) and node.name == "real":
            node = node.args[0]
        if isinstance(node, Size):
            every = Dim.const(1)
            for i in d.bound:
                every = every * i.dim
            return d.where is TRUE and node.dim == every
        if not isinstance(node, Read) or not isinstance(total, Read) or node.indices != total.indices:
            return False
        if not self[node].exact.positive:
            return False
        c = self._definitions.get(node.tensor)
        if c is None or c.support is not TRUE or c.formals != d.formals or len(c.bound) != len(d.bound):
            return False
        if c.head != "count" or TRUE not in (c.where, c.body) or [i.dim for i in c.bound] != [i.dim for i in d.bound]:
            return False
        counted = c.body if c.where is TRUE else c.where
        return substitute(counted, dict(zip(c.bound, d.bound, strict=True))) == d.where

    # ----------------------------------------------------------------------------------------------- folds

    def _folded(self, d: Definition) -> Approximation:
        if d.head == "map":
            return self[d.body]
        some = self._certain(d.where)
        many = self._exact.many(d)
        most = many.hi if many.hi <= 2.0**53 else INF
        match d.head:
            case "sum":
                return self._sum(d, Enclosure(many.lo if some else 0.0, 0.0 if some is False else most))
            case "count":
                held = self._certain(d.body)
                return _whole(many.lo if some and held else 0.0, 0.0 if False in (some, held) else most)
            case "any" | "all":
                decided, stop = self.decision(d.body), d.head == "any"
                if some is False or decided.exact is (not stop):
                    return _decided(Decision(not stop, decided.faithful or some is False))
                return _decided(Decision(stop if some and decided.exact is stop else None, decided.faithful))
        if not some:
            raise Unbounded(f"{d.tensor}, a {d.head} of what may be nothing")
        term = self[d.body]
        match d.head:
            case "max" | "min":
                one = _one_sign(term.exact)
                relative, absolute = (term.relative, term.absolute) if one else told(term.error, term.exact)
                return Approximation(term.exact, term.computed, relative, absolute)
            case "argmax" | "argmin" if term.faithful:
                return _whole(0.0, most - 1)
            case "logsumexp":
                return _log_sum_exp(term, many)
        raise Unbounded(f"{d.tensor}, a {d.head}")

    def _sum(self, d: Definition, many: Enclosure) -> Approximation:
        if not many.bounded:
            raise Unbounded(f"{d.tensor}, a sum of any number of terms")
        term = self[d.body]
        box = term.exact
        exact = Enclosure(
            min(e.mul(many, Enclosure(box.lo, box.lo)).lo, e.mul(many, Enclosure(box.hi, box.hi)).lo),
            max(e.mul(many, Enclosure(box.lo, box.lo)).hi, e.mul(many, Enclosure(box.hi, box.hi)).hi),
        )
        if d.dtype is INT:
            if not term.faithful or size(exact) >= 2.0**31:
                raise Unbounded(f"{d.tensor}, a sum of integers")
            return Approximation(exact, exact)
        relative, absolute = _of_terms(term, many.hi)
        if not relative < 1:
            raise Unbounded(f"{d.tensor}, a sum of too many terms")
        absolute *= many.hi
        if not _one_sign(box):
            relative, absolute = told(relative * size(box) * many.hi + absolute, exact)
        relative, absolute = relative * LOOSE, absolute * LOOSE
        return approximation(exact, around(exact, relative, absolute), relative, absolute)


_ZERO = Approximation(Enclosure(0.0, 0.0), Enclosure(0.0, 0.0))


def _whole(lo: float, hi: float) -> Approximation:
    box = Enclosure(lo, hi)
    return Approximation(box, box)


def _decided(decided: Decision) -> Approximation:
    box = EITHER if decided.exact is None else YES if decided.exact else NO
    return Approximation(box, box) if decided.faithful else Approximation(box, EITHER, 0.0, 1.0)


def _one_sign(box: Enclosure) -> bool:
    return box.lo >= 0 or box.hi <= 0


def _of_terms(term: Approximation, most: float) -> tuple[float, float]:
    """How far a sum of so many terms is off, added up in any order: relative to the sum of their sizes; for each term."""
    added = (most - 1) * UNIT
    grown = added / (1 - added) if added < 0.5 else INF
    return term.relative + grown * (1 + term.relative), term.absolute * (1 + grown) + NORMAL


def _log_sum_exp(term: Approximation, many: Enclosure) -> Approximation:
    """It is m + log(s), m the largest element and s the sum of exp(x - m), from 1 to how many there are. In one pass s is
    scaled anew where m rises: the exponents that an element meets add up to x - m all the same, and what they make less
    than the smallest normal number does not count beside 1. The result is off by at most what its elements are, too."""
    most, spread = many.hi, e.add_up(term.computed.hi, -term.computed.lo)
    exponent = min(spread, _UNDERFLOW)
    own = PRIMITIVES["exp"].accuracy
    assert own is not None
    near, far = own(Interval(0.0, 0.0))[0], own(Interval(-exponent, 0.0))[0]
    steps = exponent + (far - near) + (near + 2) * (most + 1)
    if not steps * UNIT < 0.25:
        raise Unbounded("a logsumexp of too many elements")
    wrong = math.expm1(steps * UNIT) * LOOSE + 2 * most * NORMAL
    logarithm = PRIMITIVES["log"].accuracy
    assert logarithm is not None
    relative, absolute = logarithm(Interval(1 - wrong, most * (1 + wrong)))
    largest = math.log(most * (1 + wrong)) + wrong + UNIT
    exact = Enclosure(term.exact.lo, e.add_up(term.exact.hi, math.log(most) * LOOSE))
    error = term.error - math.log1p(-wrong) * LOOSE + (relative * largest + absolute) * UNIT
    error = (error * (1 + UNIT) + UNIT * size(exact) + NORMAL) * LOOSE
    return approximation(exact, around(exact, 0.0, error), *told(error, exact))


_UNDERFLOW = 89.0  # exp of less is below the smallest normal number


# --------------------------------------------------------------------------------------------------- programs


def _inputs(
    ctx: Context, program: Program, target: str, floats: FloatRanges, longest: int, within: float
) -> dict[str, Approximation]:
    found: dict[str, Approximation] = {}
    for i in program.inputs:
        if i.name == f"{target}'":
            found[i.name] = _whole(1.0, 1.0)
        elif i.name in ctx.fixed:
            found[i.name] = errors.number(ctx.fixed[i.name])
        else:
            found[i.name] = _whole(*_domain(ctx, i, floats, longest, within))
    return found


def _domain(ctx: Context, i: Input, floats: FloatRanges, longest: int, within: float) -> tuple[float, float]:
    """The numbers of an input that are at most `within` in size, and at least its reciprocal where they are positive."""
    box = floats.input(i.name)
    if i.dtype is BOOL:
        return 0.0, 1.0
    if i.kind == "class" and i.classes is not None and i.also is None:
        return 0.0, Short(ctx.program, {}, ctx.fixed, longest).extent(i.classes).hi - 1
    if i.kind == "class":  # or the label that is ignored
        return -_WHOLE, _WHOLE
    lo, hi = max(box.lo, -within), min(box.hi, within)
    if i.dtype is REAL and box.lo < 1 / within and ctx.ranges().input(i.name).positive:
        lo = 1 / within
    if not lo <= hi:
        raise Unbounded(f"{i.name} has no number that is small enough")
    return lo, hi


def _where(
    ctx: Context,
    program: Program,
    floats: FloatRanges,
    given: Mapping[str, Approximation],
    read: set[str],
    longest: int,
) -> str:
    said = []
    for i in program.inputs:
        if i.name not in read or i.name in ctx.fixed or i.dtype is BOOL or i.kind == "class":
            continue
        box, here = floats.input(i.name), given[i.name].exact
        lo, hi = here.lo, here.hi
        if lo > box.lo >= 0:
            said.append(f"{lo:.6g} <= {i.name}" + f" <= {hi:.6g}" * (hi < box.hi))
        elif lo > box.lo or hi < box.hi:
            said.append(f"abs({i.name}) <= {max(-lo, hi):.6g}")
    return f" where {', '.join([*said, f'every extent is at most {longest}'])}"


def _of_rows(
    ctx: Context, program: Program, tensor: str, target: str, form: Format, *, narrow: bool, longest: int, within: float
) -> Bound:
    """The bound where every real input is at most `within` in size, every extent at most `longest`. Raises Unbounded."""
    one = {f"{target}'": Enclosure(1.0, 1.0)}
    floats = FloatRanges(program, {**ctx.assume, **one}, form, ctx.fixed)
    given = _inputs(ctx, program, target, floats, longest, within)
    assume = {**ctx.assume, **one, **{n: v.exact for n, v in given.items() if n not in one}}
    rows = Rows(program, floats, ctx.fixed, Short(program, assume, ctx.fixed, longest), given)
    found = rows.tensor(tensor)
    if size(found.computed) > (form.largest if narrow else LARGEST):
        raise Unbounded(f"{tensor}, which may overflow")
    worst = tuple((Read(d.tensor, d.formals, d.dtype), rows.tensor(d.tensor)) for d in rows.reached())
    return Bound(
        found.relative, found.absolute, _where(ctx, program, floats, given, rows.read, longest), worst, rows=True
    )


def bound_of(ctx: Context, target: str, word: str, wrt: str = "") -> tuple[str, Bound]:
    """The tensor that is meant, and the bound of its error. Raises Unbounded."""
    form = FORMATS[word]
    try:
        *_, (program, names, narrow) = programs_of(ctx.program, target, (wrt,) if wrt else ())
    except (NotScalar, ValueError, NotImplementedError, KeyError) as reason:
        raise Unbounded(str(reason)) from reason
    rounding = (2.0**-form.bits, form.smallest / 2) if narrow and word != "float32" else (0.0, 0.0)
    try:
        return names[0], errors.bound_of(ctx, program, names[0], target, form, rounding, narrow=narrow)
    except NotScalar:
        pass
    best: Bound | None = None
    blocked = Unbounded("no number of the domain that is small enough")
    for longest, within in _DOMAINS:
        try:
            found = _of_rows(ctx, program, names[0], target, form, narrow=narrow, longest=longest, within=within)
        except Unbounded as reason:
            blocked = reason
            continue
        if best is None or found.size <= best.size / 4:
            best = found
        if best.size <= GOOD:
            break
    if best is None:
        raise blocked
    if best.size > _USELESS:
        raise Unbounded(f"{names[0]}: no bound that tells anything")
    own, least = rounding
    return names[0], replace(
        best,
        relative=(best.relative + own * (1 + best.relative)) * LOOSE,
        absolute=(best.absolute * (1 + own) + least) * LOOSE,
    )


def error_in(ctx: Context, target: str, word: str, wrt: str = "") -> Verdict:
    """The rounding error of an element of the target in a float type, or of its derivative in an input, as the bound r |exact| + a.

    Parameters have the values that are fixed in the context. Inputs, and differences that are read as such, are 0 or at
    least `errors.SMALLEST` in size (in float16: the smallest number of the type)."""
    try:
        tensor, found = bound_of(ctx, target, word, wrt)
    except Unbounded as reason:
        return Unknown(str(reason), (METHOD,))
    method = f"{METHOD}, under the model of {word} arithmetic"
    return Proved(method, (Step(METHOD, tensor, found.text()),), Bracket(None, None, found.text()))


__all__ = ["LONGEST", "Rows", "Short", "bound_of", "error_in"]
