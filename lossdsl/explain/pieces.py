"""Proofs about one entry, told piece by piece: the formula of each piece, its derivative, why that has a sign, and what
happens where two pieces meet."""

from __future__ import annotations

from collections.abc import Sequence

from lossdsl.explain.forms import factors, shown
from lossdsl.explain.sentence import Line, Part, interval, line, listed
from lossdsl.ir.nodes import Apply, Compare, Const, Scalar
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.algebra import Field, Form, minus, plus, power, times
from lossdsl.verify.derive import derivative
from lossdsl.verify.pieces import View, contains, said, split
from lossdsl.verify.scalar import Smooth, joins, smooth_pieces
from lossdsl.verify.show import text
from lossdsl.verify.signs import Budget, prove

ORDERS = ("the value", "the slope", "the second derivative", "the third derivative")


def curved(cases: Sequence[View], budget: Budget, *, concave: bool) -> list[Line]:
    """f'' >= 0 on every piece, and slopes that do not fall at the joins (<= 0 and not rise, for concave)."""
    factor, sign = (-1, "<= 0") if concave else (1, ">= 0")
    out: list[Line] = []
    for view in cases:
        out += opened(view)
        pieces = smooth_pieces(view)
        for smooth in pieces:
            second = smooth.order(2)
            out.append(piece(view, smooth))
            signed = times(second, smooth.field.number(factor))
            out.append(
                line(
                    "The second derivative in ", variable(view), " is ", shown(view, smooth.field, second), f" {sign}: ",
                    *why(view, smooth.field, signed, smooth.constraints, budget), depth=1,
                )
            )  # fmt: skip
        if len(pieces) > 1:
            for join in joins(view, pieces, budget, 1):
                jump = times(join.jumps[1], join.field.number(factor))
                size = shown(view, join.field, join.jumps[1])
                how: list[Part] = ["is the same on both sides."]
                if not join.jumps[1].zero:
                    verb = "falls" if concave else "rises"
                    how = [f"{verb} by ", size, f" {sign}: ", *why(view, join.field, jump, join.constraints, budget)]
                out.append(
                    line("Where ", zero(view, join.surface), ", both pieces have the same value, and the slope ", *how)
                )
    return out


def between(
    cases: Sequence[View],
    lower: Scalar | None,
    upper: Scalar | None,
    budget: Budget,
    *,
    order: int,
    strict: bool = False,
) -> list[Line]:
    """lower <= derivative of the order <= upper on every piece."""
    out: list[Line] = []
    for view in cases:
        out += opened(view)
        pieces = smooth_pieces(view)
        for smooth in pieces:
            field = smooth.field
            d = times(smooth.order(order), power(field.form(view.slope), order))
            out.append(piece(view, smooth))
            if order:
                entry = view.entry
                out.append(line(f"Its {ORDERS[order][4:]} in ", entry, " is ", shown(view, field, d), ".", depth=1))
            for whole, sense in ((lower, 1), (upper, -1)):
                for part in split(whole, smooth.piece.scope) if whole is not None else ():
                    gap = times(plus(d, minus(field.form(part.body))), field.number(sense))
                    given = [*smooth.constraints, *(field.form(c) for c in part.constraints)]
                    relation = (">" if strict else ">=") if sense > 0 else ("<" if strict else "<=")
                    reason = why(view, field, gap, given, budget, strict=strict, said_whole=order > 0)
                    out.append(line("It is ", f"{relation} ", part.body, ": ", *reason, depth=1))
        if len(pieces) > 1 and order:
            places = [zero(view, j.surface) for j in joins(view, pieces, budget, order - 1)]
            if places:
                same = " and ".join(ORDERS[:order])
                verb = "agrees" if order == 1 else "agree"
                out.append(line("Where pieces meet, at ", *listed(places), f", {same} {verb} exactly."))
    return out


def classes(cases: Sequence[View], budget: Budget, order: int) -> list[Line]:
    """Smooth pieces whose derivatives up to the order agree where they meet."""
    out: list[Line] = []
    for view in cases:
        out += opened(view)
        pieces = smooth_pieces(view)
        for smooth in pieces:
            out.append(piece(view, smooth))
            out.append(line("Every operation in it is smooth there.", depth=1))
        if len(pieces) > 1:
            for join in joins(view, pieces, budget, order):
                said = ["value", "slope", "second derivative", "third derivative"][: order + 1]
                names = said[0] if order == 0 else f"{', '.join(said[:-1])} and {said[-1]}"
                out.append(line("Where ", zero(view, join.surface), f", the two pieces have the same {names}:"))
                for k in range(order + 1):
                    both = _sides(view, join.left.body, join.right.body, k)
                    out.append(line(f"{ORDERS[k]}: ", *both, ", whose difference is 0 there identically.", depth=1))
    return out


def kink(cases: Sequence[View], budget: Budget, order: int) -> list[Line]:
    """What jumps where two pieces meet: both formulas and both derivatives of the order."""
    out: list[Line] = []
    for view in cases:
        pieces = smooth_pieces(view)
        for join in joins(view, pieces, budget, order):
            if len(join.jumps) <= order or join.jumps[order].zero:
                continue
            out += opened(view)
            out.append(line("Where ", zero(view, join.surface), " two formulas meet."))
            out.append(
                line(
                    f"{ORDERS[min(order, 3)]} on either side: ",
                    *_sides(view, join.left.body, join.right.body, order),
                    ".",
                    depth=1,
                )
            )
            out.append(
                line("It jumps there by ", shown(view, join.field, join.jumps[order]), ", which is not 0.", depth=1)
            )
    return out


def _sides(view: View, left: Scalar, right: Scalar, order: int) -> list[Part]:
    field = Field(view.scope)
    slot_of = field.form(view.variable)
    slot = next(s for s, g in enumerate(field.generators) if g.leaf is view.variable)
    assert not slot_of.zero
    out: list[Part] = []
    for body, where in ((left, " on the left"), (right, " on the right")):
        form = field.form(body)
        for _ in range(order):
            form = derivative(field, form, slot)
        out += [", " if out else "", shown(view, field, form), where]
    return out


def opened(view: View) -> list[Line]:
    """In which case of labels and switches we are."""
    if not view.case:
        return []
    values: list[Part] = [said(n, c) if isinstance(n, Compare) else Compare("==", n, c) for n, c in view.case]
    return [line("Take the case ", *listed(values), ".")]


def piece(view: View, smooth: Smooth) -> Line:
    body: Scalar = substitute(smooth.piece.body, {view.variable: view.inner})
    normal = shown(view, smooth.field, smooth.value)
    if len(text(normal, 2000)) < len(text(body, 2000)):
        body = normal
    given = conditions(view, smooth)
    if not given:
        return line("Everywhere, the value is ", body, ".")
    return line("Where ", *listed(given), ", the value is ", body, ".")


def conditions(view: View, smooth: Smooth) -> list[Scalar]:
    """What holds on the piece, without what always does."""
    given = [
        condition(view, smooth.field, c)
        for c, node in zip(smooth.constraints, smooth.piece.constraints, strict=True)
        if c.constant is None and (contains(node, view.variable) or not view.scope[node].nonnegative)
    ]
    return list(dict.fromkeys(given))


def condition(view: View, field: Field, constraint: Form) -> Scalar:
    """`constraint >= 0`, without a sign in front."""
    inside = shown(view, field, constraint)
    if isinstance(inside, Apply) and inside.name == "neg":
        return Compare("<=", inside.args[0], Const(0))
    return Compare(">=", inside, Const(0))


def zero(view: View, surface: Scalar) -> Scalar:
    return Compare("==", substitute(surface, {view.variable: view.inner}), Const(0))


def variable(view: View) -> Scalar:
    return view.inner


def why(
    view: View,
    field: Field,
    form: Form,
    constraints: Sequence[Form],
    budget: Budget,
    *,
    strict: bool = False,
    said_whole: bool = False,
) -> list[Part]:
    """Why a form has the sign that it is said to have; `said_whole`: the form itself is not in the sentence yet."""
    if form.zero:
        return ["it is 0 identically."]
    if form.constant is not None:
        return ["a constant."]
    how = prove(field, form, constraints, budget, strict=strict)
    relation = "> 0" if strict else ">= 0"
    if how is not None and how.startswith("one interval"):
        said: list[Part] = []
        for scalar, k, box in factors(field, form):
            inside = substitute(scalar, {view.variable: view.inner})
            said += ["; " if said else "", inside, " is in ", interval(box)]
            if abs(k) > 1:
                said.append(f" (to the power {abs(k)})")
        return ["the signs of its factors tell: ", *said, "."] if said else ["its sign is that of its constant."]
    if any(c.key == form.key for c in constraints) and not strict:
        return ["that is what this piece assumes."]
    asked: list[Part] = [shown(view, field, form), f" {relation}"] if said_whole else []
    comma = ", as " if said_whole else ", " if constraints else ""
    given: list[Part] = []
    if constraints:
        given = [
            " under " if said_whole else "under ",
            *listed(dict.fromkeys(condition(view, field, c) for c in constraints if c.constant is None)),
        ]
    match how:
        case "the case cannot occur":
            return ["the conditions of this piece contradict one another, so that it is empty."]
        case "z3, nonlinear real arithmetic (unsat)":
            return [*asked, *given, f"{comma}no real numbers satisfy the contrary (decided exactly, by z3)."]
        case "interval branch and bound":
            return [
                *asked,
                *given,
                f"{', by ' if comma else 'by '}interval evaluation on every box of a subdivision of the domain.",
            ]
        case "interval evaluation after fixing what only differences and ratios depend on":
            return [
                *asked,
                *given,
                f"{', by ' if comma else 'by '}interval evaluation: only differences or ratios matter, the rest is fixed.",
            ]
    return [*asked, *given, "."]
