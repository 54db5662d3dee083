"""Rounding errors of elements that fold axes: what is computed is within r |exact| + a, for extents from 1 to a number.

The statement is that of `rounding`, where every named extent is from 1 to `longest`. Of each tensor of what is compiled, all
elements at once, it is known what the exact values are in, what the computed ones are in, and how far these are from those.
Exact values are where enclosures have them: a share is at most 1, an element less the largest at most 0, a mean among its
terms. No such fact is used of computed ones: these are near the exact values, and no more. Nor is it one that a row of an
input adds up to 1, or has the norm 1: what is rounded does not.

The model of folds. A sum is added up in any order, each addition rounded to the nearest number, so that of n terms it is off
by at most g = (n - 1) u / (1 - (n - 1) u) times the sum of their sizes (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, section 4.2). A log-sum-exp is m + log(s): every element x is a pair (x, 1), one pair is nothing at all, two
pairs become one, (m, s e^(k - m) + t e^(l - m)) of (k, s) and (l, t) with m the larger of k and l, in any order. What is
below the smallest normal number may be 0 after each step. Maxima and counts are not rounded.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lossdsl.certificate.arithmetic import LARGEST, NORMAL, Float, applied, union
from lossdsl.certificate.bounds import Bounds, Case, sizes_of
from lossdsl.certificate.coverings import text
from lossdsl.certificate.float_masses import mass
from lossdsl.certificate.question import Question
from lossdsl.certificate.rounding import (
    SMALLEST,
    UNIT,
    Error,
    Errors,
    Seen,
    Trace,
    domain,
    fits,
    meant,
    plus,
    seen,
    size_of,
    stated,
    times,
)
from lossdsl.certificate.rules import Stuck
from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    ZERO,
    Apply,
    Definition,
    Index,
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
from lossdsl.verify.enclosure import INF, REALS, Enclosure

_EXTENTS = re.compile(r"(.*?)(?: where|,) every extent is at most (\d+)")
_LONG, _FLUSHED = 2.0**20, 89.0  # terms of a fold; e^-89 is below the smallest normal number
_FREE = {"simplex": "prob", "unit": "real"}  # what is rounded does not add up to 1
_ONE = Enclosure(1.0, 1.0)
_ZERO = Seen(Enclosure(0.0, 0.0), Float(Enclosure(0.0, 0.0)))


def stated_of_rows(said: str | None) -> dict[str, Any]:
    """A bound for extents up to a number, as an entry has it; nothing of one in another form."""
    found = _EXTENTS.fullmatch(said or "")
    about = {} if found is None else stated(found[1])
    return {"error": {**about["error"], "longest": found[2]}} if found is not None and about else {}


# --------------------------------------------------------------------------------------------------- exact values


class Short(Bounds):
    """Enclosures where every named extent is from 1 to a number, or is the parameter that is fixed."""

    def __init__(self, program: Program, assume: Mapping[str, Enclosure], fixed: Mapping[str, int], most: int) -> None:
        self._fixed, self._most = fixed, most
        super().__init__(program, assume)

    def _alike(self) -> Bounds:
        return Short(self.program, self.assume, self._fixed, self._most)

    def extent(self, dim: Dim, some: frozenset[Dim]) -> Enclosure:
        total = Enclosure(0.0, 0.0)
        for atoms, factor in dim.terms:
            part = e.exact(factor)
            for atom in atoms:
                box = Enclosure(0.0, INF, False, True)
                if isinstance(atom, str):
                    known = self._fixed.get(atom)
                    box = Enclosure(1.0, float(self._most)) if known is None else e.exact(known)
                part = e.mul(part, box)
            total = e.add(total, part)
        lo = max(total.lo, 1.0 if dim in some else 0.0)
        return Enclosure(lo, max(total.hi, lo), False, total.hi == INF)


class Rows:
    """Tensors of a program, each of all elements, in the order in which they were asked for. Of a sum it is known, too, what one
    term is, and how far off the sum is, relative to the sizes of all terms, and for each one."""

    def __init__(self, q: Question, program: Program) -> None:
        assert q.error is not None
        if q.error.longest is None:
            raise Stuck("a bound for any extents")
        sizes = {p.name: int(q.fixed[p.name]) for p in program.parameters if p.kind == "int" and p.name in q.fixed}
        free = tuple(replace(i, kind=_FREE.get(i.kind, i.kind)) for i in program.inputs)
        assume = {n: e.exact(v) for n, v in q.fixed.items()} | {f"{q.of}'": _ONE}
        usual = Short(program, assume, sizes, q.error.longest)
        self.fixed, self.found, self.sums = q.fixed, dict[str, Seen](), dict[str, Seen]()
        for i in program.inputs:
            if i.name in q.fixed:
                continue
            box, zero = domain(q, usual, i.name)
            if i.kind == "class" and i.classes is not None and i.also is None:
                box = Enclosure(0.0, max(usual.extent(i.classes, frozenset()).hi - 1, 0.0))
            if i.dtype is REAL and not zero:
                box = Enclosure(box.lo or SMALLEST, box.hi or -SMALLEST)
            assume[i.name], self.found[i.name] = box, Seen(box, Float(box))
        self.bounds = Short(replace(program, inputs=free), assume, sizes, q.error.longest)

    def tensor(self, name: str) -> Seen:
        """Raises Stuck."""
        if name not in self.found:
            d = self.bounds.definitions.get(name)
            if d is None or name in self.bounds.recurrent:
                raise Stuck(f"{name} is a recurrence")
            self.found[name] = _within(self._supported(d), self.bounds.tensor(name))
        return self.found[name]

    def _supported(self, d: Definition) -> Seen:
        """An element outside of the support is 0."""
        case = self.bounds.case(frozenset(d.dims), {})
        if d.support is TRUE:
            return self._folded(d, case)
        inner = Elements(self, case).where(d.support)
        return _ZERO if inner is None else _either([self._folded(d, inner), _ZERO])

    # ------------------------------------------------------------------------------------------------- folds

    def _folded(self, d: Definition, outside: Case) -> Seen:
        if d.head == "map":
            return Elements(self, outside.inside(d.body))[d.body]
        axes = frozenset(i.dim for i in d.bound)
        inner = self.bounds.case(outside.some | axes, outside.known)
        extents = [self.bounds.extent(i.dim, outside.some) for i in d.bound]
        some, many = d.where is TRUE and all(x.lo >= 1 for x in extents), functools.reduce(e.mul, extents, _ONE)
        of, body, whole, case = Elements(self, inner), d.body, True, None
        if d.head == "sum" and not of.decided(d.where)[2]:
            case, body, whole = inner, Select(d.where, d.body, ZERO), False  # which are left out may depend on rounding
        else:
            case = of.where(d.where)
        if d.head in ("count", "any", "all"):
            return self._counted(d, case, many.hi)
        if d.head == "sum" and case is None:
            return _ZERO
        if case is None or (not some and d.head != "sum"):
            raise Stuck(f"{d.tensor} is a {d.head} of what may be nothing")
        if not many.hi <= _LONG:
            raise Stuck(f"{d.tensor} is a {d.head} of any number of terms")
        term = Elements(self, case.inside(body))[body]
        match d.head:
            case "max" | "min":  # x - r |x| and x + r |x| rise with x
                like = _is_of_one_sign(term.exact) and term.relative <= 1
                error = (term.relative, term.absolute) if like else (0.0, term.most)
                return seen(term.exact, Float(term.box), (*error, term.most))
            case "argmax" | "argmin" | "argsort" if term.same:
                return _whole(0.0, many.hi - 1)
            case "logsumexp":
                return _log_sum_exp(term, many.hi)
            case "sum":
                many = many if some else Enclosure(0.0, many.hi)
                share = INF if d.dtype is INT else mass(case.inside(body), body, d.bound)
                return self._sum(d, term, many, share, whole=whole)
        raise Stuck(f"{d.tensor} is a {d.head}, of which no error is known")

    def _counted(self, d: Definition, case: Case | None, most: float) -> Seen:
        if case is None:
            return _whole(*((1.0, 1.0) if d.head == "all" else (0.0, 0.0)))
        if not Elements(self, case.inside(d.body)).decided(d.body)[2]:
            raise Stuck(f"{d.tensor} counts what is computed")
        return _whole(0.0, most if d.head == "count" else 1.0)

    def _sum(self, d: Definition, term: Seen, many: Enclosure, share: float, *, whole: bool) -> Seen:
        """The errors of the terms, and those of adding up, which are relative to the sizes of what is added: their sum is the
        size of the sum where all have one sign, and at most the size of one times their number, and `share`."""
        box, size = term.exact, size_of(term.exact)
        lo = e.mul_down(many.hi if box.lo < 0 else many.lo, box.lo)
        hi = e.mul_up(many.hi if box.hi > 0 else many.lo, box.hi)
        if d.dtype is INT:
            if not term.same:
                raise Stuck(f"{d.tensor} is a sum of integers that are computed")
            return _whole(lo, hi)
        added = max(many.hi - 1, 0.0) * UNIT
        grown = plus(added / (1 - added))
        if not times(times(many.hi, size_of(term.box)), 1 + grown) <= LARGEST:
            raise Stuck(f"{d.tensor} may be infinite on the way")
        relative = plus(term.relative, grown, times(term.relative, grown))
        absolute, most = (plus(times(x, 1 + grown), NORMAL * (1 + grown)) for x in (term.absolute, term.most))
        if whole:
            self.sums[d.tensor] = Seen(box, Float(box), relative, absolute, plus(most, times(grown, size)))
        sizes = min(times(many.hi, size), share)
        exact = e.meet(Enclosure(lo, hi), Enclosure(-sizes, sizes)) or Enclosure(lo, hi)
        absolute, most = times(many.hi, absolute), plus(times(many.hi, most), times(grown, sizes))
        if not _is_of_one_sign(box):
            relative, absolute = 0.0, plus(times(relative, sizes), absolute)
        return seen(exact, _anything(term.box), (relative, absolute, most))


def _anything(signs: Enclosure = REALS) -> Float:
    """Of what is near exact values, and has perhaps the sign of terms: no infinity, if these leave room for none."""
    return Float(Enclosure(0.0 if signs.lo >= 0 else -4 * LARGEST, 0.0 if signs.hi <= 0 else 4 * LARGEST))


def _is_of_one_sign(box: Enclosure) -> bool:
    return box.lo >= 0 or box.hi <= 0


def _log_sum_exp(term: Seen, most: float) -> Seen:
    """An element that is d below the largest is in s with the factor e^-d, in steps that add up to d, of which there are at most
    as many as pairs. A step is off by the rounding of its part of d, the exponential, the product and the sum. Exponentials of
    less than -89 are below 2^-126: what is below it, of pairs and sums with up to n elements in them, is at most 4 n^2 2^-126.
    Beside the s of what is computed, which is at least 1, both are relative. The logarithm of s is off by its own error; the
    result by what the elements are, since its slopes add up to 1."""
    rule, logarithm = PRIMITIVES["exp"].accuracy, PRIMITIVES["log"].accuracy
    assert rule is not None
    assert logarithm is not None
    spread = min(e.add_up(term.box.hi, -term.box.lo), _FLUSHED)
    near, far = rule(Interval(0.0, 0.0))[0], rule(Interval(-spread, 0.0))[0]
    steps = (spread + (far - near) + (near + 2) * (most + 1)) * UNIT * (1 + 2.0**-20)
    if not steps < 0.25:
        raise Stuck("a log-sum-exp of too many elements")
    wrong = plus(math.expm1(steps), 4 * most * most * NORMAL)
    own, least = logarithm(Interval(1 - wrong, most * (1 + wrong)))
    apart = plus(-math.log1p(-wrong))
    exact = Enclosure(term.exact.lo, e.add_up(term.exact.hi, plus(math.log(most))))
    error = plus(term.most, apart, (own * plus(math.log(most), apart) + least) * UNIT)
    error = plus(error, UNIT * plus(size_of(exact), error), NORMAL)
    return seen(exact, _anything(), (0.0, error, error))


# ------------------------------------------------------------------------------------------------------- elements


class Elements(Errors):
    """Scalars of an element of a tensor, at any place, in a case of the exact values that is decided as that of the computed."""

    def __init__(self, rows: Rows, case: Case) -> None:
        super().__init__(rows.fixed, {})
        self.rows, self.case = rows, case

    def where(self, condition: Scalar) -> Case | None:
        """The case in which a condition holds; none if it cannot. Raises Stuck where rounding may decide it."""
        exact, _, same = self.decided(condition)
        if not same:
            raise Stuck("a condition on what is computed")
        return None if exact is False else self.case.given(condition, True)

    def _scalar(self, node: Scalar) -> Seen:
        found = self._found(node)
        return found if node.dtype is BOOL else _within(found, self.case[node])

    def _found(self, node: Scalar) -> Seen:
        extent = self.rows.bounds.extent
        match node:
            case Read() if node.tensor not in self._fixed:
                if all(self[i].same for i in node.indices):
                    return self.rows.tensor(node.tensor)
            case Index():
                return _whole(0.0, max(extent(node.dim, self.case.some | {node.dim}).hi - 1, 0.0))
            case Size():
                box = extent(node.dim, self.case.some)
                return _whole(box.lo, box.hi)
            case Table() if self[node.index].same:
                return _either([self[v] for v in node.values])
        return super()._scalar(node)

    def _choice(self, node: Select) -> Seen:
        """Each branch where it is taken."""
        exact, _, same = self.decided(node.condition)
        if not same:
            return super()._choice(node)
        found = []
        for holds, branch in ((True, node.a), (False, node.b)):
            inner = None if exact is not None and exact is not holds else self.case.given(node.condition, holds)
            if inner is not None:
                found.append(Elements(self.rows, inner.inside(branch))[branch])
        if not found:
            raise Stuck("a choice of nothing")
        return _either(found)

    def _exact(self, node: Apply, args: list[Seen]) -> Enclosure:
        found, box = super()._exact(node, args), self.case[node]
        average = self._average(node)
        for more in (box, *([average.exact] if average is not None else [])):
            if not more.nan:
                found = more if found.nan else e.meet(found, more) or found
        return found

    def _applied(self, node: Apply, args: list[Seen]) -> Float:
        """What may be infinite for some arguments need not be so for those that go together: it is near the exact values."""
        found = applied(node, [a.computed for a in args])
        return found if found.finite else _anything()

    def _brought(self, node: Apply, args: list[Seen]) -> Error:
        """A sum over as many as it has terms is off by as much as one of them, and by what adding up makes of it."""
        found, average = super()._brought(node, args), self._average(node)
        if average is None or not (wrong := args[1].share) < 0.5:
            return found
        relative, absolute = average.relative, average.absolute
        if not _is_of_one_sign(average.exact):
            relative, absolute = 0.0, plus(times(relative, size_of(average.exact)), absolute)
        most = plus(average.most, times(wrong, size_of(average.exact)))
        return (plus(relative, wrong) / (1 - wrong), plus(absolute / (1 - wrong)), plus(most / (1 - wrong)))

    def _average(self, node: Apply) -> Seen | None:
        """The sum that is divided by how many terms it has, which is not 0."""
        if node.name != "div" or not isinstance(total := node.args[0], Read):
            return None
        d, own = self.rows.bounds.definitions.get(total.tensor), self.rows.sums.get(total.tensor)
        known = d is not None and d.support is TRUE and _counts(self.rows.bounds, node.args[1], d, total)
        return own if known and self.case[node.args[1]].positive else None

    def _is_float(self, node: Scalar) -> bool:
        """A map may be put in where it is read."""
        d = self.rows.bounds.definitions.get(node.tensor) if isinstance(node, Read) else None
        return super()._is_float(node if d is None or d.head != "map" else d.body)


def _whole(lo: float, hi: float) -> Seen:
    if not max(-lo, hi) < 2.0**31:
        raise Stuck("an integer that may be large")
    return Seen(box := Enclosure(lo, hi), Float(box))


def _within(found: Seen, box: Enclosure) -> Seen:
    """With what enclosures know of the exact values."""
    exact = found.exact if box.nan else e.meet(found.exact, box) or found.exact
    if found.same:
        return Seen(exact, Float(Enclosure(exact.lo, exact.hi)))
    return seen(exact, found.computed, (found.relative, found.absolute, found.most))


def _either(parts: Sequence[Seen]) -> Seen:
    exact = functools.reduce(e.hull, (p.exact for p in parts))
    errors = [(p.relative, p.absolute, p.most) for p in parts]
    relative, absolute, most = map(max, zip(*errors, strict=True))
    return seen(exact, union([p.computed for p in parts]), (relative, absolute, most))


def _counts(bounds: Bounds, node: Scalar, d: Definition, total: Read) -> bool:
    """Whether a scalar is the number of terms of a sum that is read: the product of extents none of which would be below 0."""
    while isinstance(node, Apply) and node.name == "real":
        node = node.args[0]
    if d.where is TRUE and (sizes := sizes_of(node)) is not None:
        axes, one = sorted(i.dim for i in d.bound), Dim.const(1)
        plain = all(factor > 0 for dim in (*axes, *sizes) for _, factor in dim.terms)
        return axes == sizes or (plain and math.prod(axes, start=one) == math.prod(sizes, start=one))
    if not isinstance(node, Read) or node.indices != total.indices or node.tensor in bounds.recurrent:
        return False
    c = bounds.definitions.get(node.tensor)
    if c is None or c.head != "count" or c.support is not TRUE or TRUE not in (c.where, c.body):
        return False
    if [[i.dim for i in x] for x in (c.formals, c.bound)] != [[i.dim for i in x] for x in (d.formals, d.bound)]:
        return False
    counted = c.body if c.where is TRUE else c.where
    return substitute(counted, dict(zip((*c.formals, *c.bound), (*d.formals, *d.bound), strict=True))) is d.where


def of_rows(q: Question) -> Trace:
    """What is stated, and what was found of each tensor. Raises Stuck."""
    program, tensor = meant(q)
    rows, error = Rows(q, program), q.error
    assert error is not None
    found = rows.tensor(tensor)
    if not fits(found, error):
        raise Stuck(f"{tensor} is off by {found.relative:.3g} of its size and {found.absolute:.3g}")
    said = [f"{name}: {'' if low is None else low} to {high}" for name, low, high in error.domain]
    return [
        [str(error.relative), str(error.absolute), *said, f"extents up to {error.longest}"],
        *([n, text(s.exact), s.relative.hex(), s.absolute.hex(), s.most.hex()] for n, s in rows.found.items()),
    ]


__all__ = ["of_rows", "stated_of_rows"]
