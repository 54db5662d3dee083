"""Exact extrema of a derivative as expressions in the parameters: a Lipschitz constant `delta`, a modulus `2 * weight`.

On a smooth piece the derivative has some values for certain: where it does not vary, at the zero of the variable, where
pieces meet (from one side), and as a limit far out. Each is a value that no bound may pass. One of these, or the larger of
two, is the extremum if it bounds the derivative on all pieces, which is proved as any bound is. How far a loss is convex is
where its second derivative changes sign.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from fractions import Fraction
from math import isqrt, lcm
from typing import Any

from lossdsl.ir.nodes import Apply, Const, Param, Scalar, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import refute, scalar
from lossdsl.verify.algebra import Field, Form, TooLarge, minus, plus, power, replace, times
from lossdsl.verify.context import Context
from lossdsl.verify.derive import derivative
from lossdsl.verify.enclosure import INF
from lossdsl.verify.growth import Tail, Unsettled
from lossdsl.verify.pieces import View, fold
from lossdsl.verify.risk import reduced, vanishes
from lossdsl.verify.scalar import Smooth, Stuck, smooth_pieces
from lossdsl.verify.show import text
from lossdsl.verify.signs import prove
from lossdsl.verify.verdict import Bracket, Proved, Step

METHOD = "extremum of the derivative"
_MOST = 12  # values that are compared
_LONGEST = 100  # characters of an expression: a longer one tells a reader less than numbers do
_WAYS = (1, -1)
_LARGE = 10**8  # numbers from which on no squares are looked for in them


def largest(ctx: Context, cases: list[View], order: int, *, defaults: bool = False) -> Proved | None:
    """The supremum of the size of the derivative of that order in the entry, if it is an expression in the parameters. The
    ends of the bracket enclose all its values, or (`defaults`) that at the defaults of the parameters."""
    top = _agreed(ctx, cases, order, least=False)
    if not top:
        return None
    bound = top[0] if len(top) == 1 else Apply("max2", top)
    return _proved(ctx, cases, order, bound, (fold(Apply("neg", (bound,))), bound), defaults)


def least(ctx: Context, cases: list[View], order: int, *, defaults: bool = False) -> Proved | None:
    """The infimum of the derivative, the same way."""
    found = _agreed(ctx, cases, order, least=True)
    if not found:
        return None
    bound = found[0] if len(found) == 1 else Apply("min2", found)
    return _proved(ctx, cases, order, bound, (bound, None), defaults)


def convex_radius(ctx: Context, cases: list[View], distance: Scalar) -> Proved | None:
    """The largest r such that the loss is convex where the distance is at most r in size, if that is an expression in the
    parameters; the ends of the bracket are its value at their defaults."""
    units = {_unit(view, distance) for view in cases}
    unit = units.pop() if len(units) == 1 else None
    if unit is None or any(ctx.symbolic(i.name) for i in ctx.program.inputs):
        return None
    for radius, shown in dict.fromkeys(_turns(ctx, cases)):
        proof = scalar.convex(cases, ctx.budget, within=radius)
        value = _simple(ctx, Apply("mul", (radius, unit)))
        if isinstance(proof, Proved) and value is not None:
            step = Step("turn of the slope", text(value), shown)
            return Proved(METHOD, (*proof.steps, step), _bracket(ctx, value, defaults=True))
    return None


def _unit(view: View, distance: Scalar) -> Scalar | None:
    """The size of the distance where the variable is 1, if it is a multiple of it by a number or by parameters."""
    field = Field(view.scope)
    try:
        ratio = times(field.form(distance), power(field.form(view.inner), -1))
        sizes = [written(field, f) for f in (ratio, minus(ratio)) if field.value(f).positive]
    except TooLarge:
        return None
    return sizes[0] if sizes else None


def _turns(ctx: Context, cases: list[View]) -> Iterator[tuple[Scalar, str]]:
    """Sizes of the variable beyond which the slope falls for certain: roots of a factor of the second derivative that is
    affine in the variable or in its square, at which the derivative of it is negative outwards."""
    for view in cases:
        if not _certain(ctx, view):
            continue
        with contextlib.suppress(Stuck):
            for smooth in smooth_pieces(view):
                with contextlib.suppress(TooLarge):
                    second = smooth.order(2)
                    for root in _roots(smooth, second):
                        if _turning(ctx, view, smooth, second, root):
                            written_ = written(smooth.field, root)
                            size = None if written_ is None else ctx.ranges().scope()[written_]
                            if written_ is not None and size is not None and size.positive:
                                yield written_, view.shown(smooth.piece.body)


def _roots(smooth: Smooth, f: Form) -> Iterator[Form]:
    """Zeros of factors of a form that are affine in the variable or in its square."""
    field, slot = smooth.field, smooth.slot
    one = field.number(1).num
    for factor, _ in f.num.factor()[1] if not f.zero else ():
        p = Form(factor, one)
        rest = replace(field, p, slot, field.number(0))
        first = derivative(field, p, slot)
        second = derivative(field, first, slot)
        if second.zero and not first.zero:
            yield minus(times(rest, power(first, -1)))
        elif (
            derivative(field, second, slot).zero
            and replace(field, first, slot, field.number(0)).zero
            and not second.zero
        ):
            square = minus(times(times(rest, field.number(2)), power(second, -1)))
            outside, inside = _squares(square)
            if inside.constant == 1 or field.value(inside).positive:
                root = outside if inside.constant == 1 else times(outside, field.apply("sqrt", [inside]))
                yield from (root, minus(root))


def _turning(ctx: Context, view: View, smooth: Smooth, second: Form, point: Form) -> bool:
    """Whether the second derivative is 0 at the point, inside of the piece, and falls there outwards."""
    field, slot = smooth.field, smooth.slot
    if not _reachable(ctx, view, smooth, point) or not reduced(field, replace(field, second, slot, point)).zero:
        return False
    inside = (replace(field, c, slot, point) for c in smooth.constraints)
    falls = minus(replace(field, derivative(field, second, slot), slot, point))
    low = replace(field, Form(second.den, field.number(1).num), slot, point)
    return all(prove(field, reduced(field, c), (), ctx.budget, strict=True) for c in (*inside, falls)) and any(
        prove(field, reduced(field, f), (), ctx.budget, strict=True) for f in (low, minus(low))
    )


def _proved(
    ctx: Context,
    cases: list[View],
    order: int,
    value: Scalar,
    between: tuple[Scalar, Scalar | None],
    defaults: bool,
) -> Proved | None:
    if len(text(value)) > _LONGEST:
        return None
    proof = scalar.slope_between(cases, *between, ctx.budget, order=order)
    if not isinstance(proof, Proved):
        return None
    step = Step(METHOD, text(value), "a value that it takes or approaches, whatever the parameters are")
    return Proved(METHOD, (*proof.steps, step), _bracket(ctx, value, defaults=defaults))


def _bracket(ctx: Context, value: Scalar, *, defaults: bool) -> Bracket:
    known: dict[Scalar, Scalar] = {
        Param(p.name): p.default for p in ctx.program.parameters if isinstance(p.default, Const) and defaults
    }
    box = ctx.ranges().scope()[fold(substitute(value, known))]
    low, high = (None if abs(end) == INF else end for end in (box.lo, box.hi))
    return Bracket(low, high, text(value))


# ------------------------------------------------------------------------------------------------ comparing values


def _agreed(ctx: Context, cases: list[View], order: int, *, least: bool) -> tuple[Scalar, ...]:
    """What is foremost however switches are set, if it is the same."""
    if any(ctx.symbolic(i.name) for i in ctx.program.inputs):
        return ()
    settings: dict[object, list[View]] = {}
    for view in cases:
        switches = tuple((n, c) for n, c in view.case if any(isinstance(m, Param) for m in postorder(n)))
        settings.setdefault(switches, []).append(view)
    found = set()
    for views in settings.values():
        values = _values(ctx, views, order, sizes=not least)
        values = values if least else [s for v in values for s in _sizes(ctx, v)]
        found.add(_foremost(ctx, values, least=least))
    return found.pop() if len(found) == 1 else ()


def _sizes(ctx: Context, value: Scalar) -> list[Scalar]:
    """What the size of a value is not below."""
    box, negated = ctx.ranges().scope()[value], _simple(ctx, Apply("neg", (value,)))
    if box.nonnegative or negated is None:
        return [value]
    return [negated] if box.nonpositive else [value, negated]


def _simple(ctx: Context, value: Scalar) -> Scalar | None:
    """The value as its normal form is written."""
    field = Field(ctx.ranges().scope())
    try:
        return written(field, field.form(value))
    except TooLarge:
        return None


def _foremost(ctx: Context, values: list[Scalar], *, least: bool = False) -> tuple[Scalar, ...]:
    """The largest (least) of values for all parameters, or two of which one is; nothing if that is not enough."""
    field = Field(ctx.ranges().scope())

    def before(a: Scalar, b: Scalar) -> bool:
        return _above(ctx, field, b, a) if least else _above(ctx, field, a, b)

    left: list[Scalar] = []
    for v in list(dict.fromkeys(values))[:_MOST]:
        if not any(before(w, v) for w in left):
            left = [*(w for w in left if not before(v, w)), v]
    return tuple(sorted(left, key=text)) if len(left) <= 2 else ()


def _above(ctx: Context, field: Field, a: Scalar, b: Scalar) -> bool:
    """Whether a >= b for all parameters."""
    try:
        return prove(field, plus(field.form(a), minus(field.form(b))), (), ctx.budget) is not None
    except TooLarge:
        return False


# --------------------------------------------------------------------------------------------- values for certain


def _values(ctx: Context, cases: list[View], order: int, *, sizes: bool) -> list[Scalar]:
    """Values of the derivative (or of its size) that no bound may pass, whatever the parameters are."""
    found: list[Scalar] = []
    scope = ctx.ranges().scope()
    for view in cases:
        with contextlib.suppress(Stuck):
            for smooth in smooth_pieces(view) if _certain(ctx, view) else ():
                with contextlib.suppress(TooLarge):
                    d = times(smooth.order(order), power(smooth.field.form(view.slope), order))
                    forms = [*_at_points(ctx, view, smooth, d), *_far_out(view, smooth, d, sizes=sizes)]
                    written_ = [written(smooth.field, f) for f in forms]
                    found += [v for v in written_ if v is not None and scope[v].finite]
    return found


def _certain(ctx: Context, view: View) -> bool:
    """Whether the case occurs with every value of the entry, whatever the parameters are."""
    return refute.unconditional(dataclasses.replace(ctx, searching=True), view)


def _at_points(ctx: Context, view: View, smooth: Smooth, d: Form) -> Iterator[Form]:
    """Values at points of the piece, near which there are others of it."""
    field, slot = smooth.field, smooth.slot
    for point in (*_points(smooth), *_roots(smooth, derivative(field, d, slot))):
        with contextlib.suppress(TooLarge):
            if _reachable(ctx, view, smooth, point) and _beside(ctx, smooth, point):
                low = replace(field, Form(d.den, field.number(1).num), slot, point)
                if any(prove(field, reduced(field, f), (), ctx.budget, strict=True) for f in (low, minus(low))):
                    yield reduced(field, replace(field, d, slot, point))


def _points(smooth: Smooth) -> Iterator[Form]:
    """The zero of the variable, zeros of constraints that are affine in it, and what lies between two of these."""
    field, slot = smooth.field, smooth.slot
    yield field.number(0)
    zeros = []
    for c in smooth.constraints:
        slope = derivative(field, c, slot)
        if field.value(slope).nonzero and derivative(field, slope, slot).zero:
            zeros.append(minus(times(replace(field, c, slot, field.number(0)), power(slope, -1))))
    yield from zeros
    for a, b in itertools.combinations(zeros, 2):
        yield times(plus(a, b), field.number(Fraction(1, 2)))


def _reachable(ctx: Context, view: View, smooth: Smooth, point: Form) -> bool:
    """Whether the variable is at the point for some entry inside of its domain, whatever everything else is."""
    if all(refute.reaches(view, way) for way in _WAYS):
        return True
    inside = scalar.inside_domain(smooth.field, smooth.slot, point)
    return view.inner is view.entry and all(prove(smooth.field, c, (), ctx.budget, strict=True) for c in inside)


def _beside(ctx: Context, smooth: Smooth, point: Form) -> bool:
    """Whether the piece has points as near as one likes, whatever everything else is: each constraint is positive there, or
    (one of them) goes through 0."""
    through = 0
    for c in smooth.constraints:
        at = replace(smooth.field, c, smooth.slot, point)
        if at.zero:
            through += 1
            slope = replace(smooth.field, derivative(smooth.field, c, smooth.slot), smooth.slot, point)
            if not smooth.field.value(slope).nonzero:
                return False
        elif prove(smooth.field, at, (), ctx.budget, strict=True) is None:
            return False
    return through <= 1


# ------------------------------------------------------------------------------------------------------- far out


def _far_out(view: View, smooth: Smooth, d: Form, *, sizes: bool) -> Iterator[Form]:
    """Limits of the derivative (or of its size) along the tails of the piece."""
    field = smooth.field
    for way in _WAYS:
        if not (refute.reaches(view, way) and refute.is_tail(smooth, way)):
            continue
        tail, variable = Tail(field, smooth.slot, way), field.form(view.variable)
        with contextlib.suppress(TooLarge, Unsettled):
            limit = _limit(tail, d)
            if limit is not None and vanishes(tail, variable, plus(d, minus(limit))):
                yield limit
        with contextlib.suppress(TooLarge, Unsettled):
            square = reduced(field, power(d, 2))
            root = _root(_limit(tail, square))
            if root is not None and (sizes or root.zero):
                if vanishes(tail, variable, plus(square, minus(power(root, 2)))):
                    yield root


def _limit(tail: Tail, f: Form) -> Form | None:
    """Where a quotient of polynomials in the variable and in exponentials seems to go: what dominates, by what dominates."""
    field = tail.field
    moving = sorted((s for s in f.slots if tail.moves(s)), key=lambda s: s == tail.slot)  # the variable last
    for s in moving:
        generator = field.generators[s]
        if s != tail.slot and generator.name != "exp":
            return None
        trend = tail.trend(generator.arguments[0]) if s != tail.slot else None
        if trend is not None and not trend.nonzero:
            return None
        fades = trend is not None and trend.negative
        (high, top), (low, bottom) = (_dominant(field, p, s, least=fades) for p in (f.num, f.den))
        if high != low:
            return field.number(0) if (high < low) != fades else None
        f = times(top, power(bottom, -1))
    return f


def _dominant(field: Field, p: Any, slot: int, *, least: bool) -> tuple[int, Form]:
    """The highest (least) power of a generator in a polynomial, and its coefficient."""
    terms = [([int(k) for k in exponents], c) for exponents, c in p.terms()]
    if not terms:
        return 0, field.number(0)
    degree = (min if least else max)(exponents[slot] for exponents, _ in terms)
    total = field.number(0)
    for exponents, c in terms:
        if exponents[slot] == degree:
            term = field.number(Fraction(int(c.p), int(c.q)))
            for s, k in enumerate(exponents):
                term = times(term, field.monomial(s, k)) if k and s != slot else term
            total = plus(total, term)
    return degree, total


def _root(square: Form | None) -> Form | None:
    """The square root of a form that is a square of another one, up to its sign."""
    if square is None or square.zero:
        return square
    outside, inside = _squares(square)
    return outside if inside.constant == 1 else None


def _squares(f: Form) -> tuple[Form, Form]:
    """The form as the square of a form (that one) times what is left: a product of different factors over a number."""
    one = power(f, 0)
    unit = one.num
    outside, inside = one, one
    for p, sign in ((f.num, 1), (f.den, -1)):
        content, factors = p.factor()
        number = Fraction(int(content.p), int(content.q)) ** sign
        whole = number.numerator * number.denominator  # n / d = (n d) / d^2
        own = next((k for k in range(isqrt(abs(whole)), 0, -1) if whole % k**2 == 0), 1) if abs(whole) < _LARGE else 1
        outside = times(outside, Form(unit * own / number.denominator, unit))
        inside = times(inside, Form(unit * (whole // own**2), unit))
        for factor, k in factors:
            half, odd = divmod(int(k), 2)
            if odd and sign < 0:
                half += 1  # 1 / p = p / p^2
            outside = times(outside, power(Form(factor, unit), sign * half))
            inside = times(inside, Form(factor, unit)) if odd else inside
    return outside, inside


# ------------------------------------------------------------------------------------------------------- writing


def written(field: Field, f: Form) -> Scalar | None:
    """A form as a scalar; None if there is another leaf in it than parameters."""
    top, bottom = ([(c, _monomial(field, exponents)) for exponents, c in p.terms()] for p in (f.num, f.den))
    if any(m is None for _, m in (*top, *bottom)):
        return None
    whole = len(top) == 1 or not f.den.is_constant()  # else each term has its own coefficient
    scale = lcm(*(int(c.q) for c, _ in (*top, *bottom) if whole), 1)
    num, den = (_sum([(Fraction(int(c.p), int(c.q)) * scale, m or []) for c, m in part]) for part in (top, bottom))
    return num if den == Const(1) else fold(Apply("div", (num, den)))


def _monomial(field: Field, exponents: Any) -> list[Scalar] | None:
    factors: list[Scalar] = []
    for s, k in enumerate(exponents):
        if k:
            generator = field.generators[s]
            leaf = generator.leaf
            if leaf is None:
                parts = [written(field, a) for a in generator.arguments]
                if any(p is None for p in parts):
                    return None
                leaf = fold(Apply(generator.name, tuple(p for p in parts if p is not None)))
                if isinstance(leaf, Apply) and leaf.name == "abs" and field.scope[leaf.args[0]].nonnegative:
                    leaf = leaf.args[0]
            elif not isinstance(leaf, Param):
                return None
            factors.append(leaf if int(k) == 1 else Apply("powi", (leaf, Const(int(k)))))
    return sorted(factors, key=lambda f: any(isinstance(n, Param) for n in postorder(f)))  # numbers first


def _sum(terms: list[tuple[Fraction, list[Scalar]]]) -> Scalar:
    total: Scalar | None = None
    for coefficient, factors in sorted(terms, key=lambda term: term[0] < 0):
        size = abs(coefficient)
        parts = factors if size == 1 and factors else [Const(size), *factors]
        term = parts[0]
        for part in parts[1:]:
            term = Apply("mul", (term, part))
        if total is None:
            total = fold(Apply("neg", (term,))) if coefficient < 0 else term
        else:
            total = Apply("sub" if coefficient < 0 else "add", (total, term))
    return Const(0) if total is None else total


__all__ = ["convex_radius", "largest", "least"]
