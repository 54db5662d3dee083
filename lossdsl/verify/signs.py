"""Sign obligations: is a normal form >= 0 (or > 0) wherever its leaves may be, under polynomial side conditions?

Tried in order: the factors' enclosures over the whole domain (one box), a few points (no proof is looked for where one
of them stands against it), z3's nonlinear arithmetic over the generators as free variables (only `unsat` is believed;
denominators are asserted non-zero), and interval branch and bound over the leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lossdsl.ir.nodes import Scalar
from lossdsl.verify import nlsat
from lossdsl.verify.algebra import Field, Form, TooLarge, apart, ordered, sign, slots_of
from lossdsl.verify.boxes import below, branch, inside, negative
from lossdsl.verify.enclosure import INF
from lossdsl.verify.invariance import reduced
from lossdsl.verify.work import CLOCK

_INVARIANT = "interval evaluation after fixing what only differences and ratios depend on"
_SMT_STEPS = 2_500  # of z3 in a millisecond: 1,200 where it fails, 5,000 where it succeeds


@dataclass
class Budget:
    """What one obligation may cost."""

    seconds: float = 0.15
    boxes: int = 600
    smt_milliseconds: int = 120

    @classmethod
    def of(cls, effort: float) -> Budget:
        """The budget of a check, times the effort."""
        return cls(0.1 * effort, int(400 * effort), int(100 * effort))


def prove(field: Field, f: Form, constraints: Sequence[Form], budget: Budget, *, strict: bool = False) -> str | None:
    """The name of the method that proved f >= 0 (f > 0 if strict) where all constraints are >= 0, or None."""
    try:
        found = sign(field, f)
        if found.positive or (not strict and found.nonnegative):
            return "one interval evaluation of the factored form"
        if any(_contradicts(field, c) for c in constraints):
            return "the case cannot occur"
        if below(field, f, constraints, strict=strict):
            return None
        simpler = ordered(field, f)
        found = sign(field, simpler)
        if found.positive or (not strict and found.nonnegative):
            return "order of the arguments of an increasing function"
        if _in_order(field, f, strict=strict):
            return "order of the arguments of an increasing function"
        if simpler.key != f.key and _smt(field, simpler, constraints, budget, strict):
            return "order of the arguments of an increasing function, and z3 (unsat)"
        less = reduced(field, f, constraints)
        own, fewer, given = less.field, less.form, less.constraints
        if less.fixed:
            found = sign(own, fewer)
            if found.positive or (not strict and found.nonnegative):
                return _INVARIANT
        if _smt(own, fewer, given, budget, strict):
            return "z3, nonlinear real arithmetic (unsat)"
        if branch(own, fewer, given, seconds=budget.seconds, boxes=budget.boxes, strict=strict):
            return "interval branch and bound"
    except TooLarge:
        pass
    return None


def _in_order(field: Field, f: Form, *, strict: bool) -> bool:
    try:
        return any(a.positive or (not strict and a.nonnegative) for a in apart(field, f))
    except TooLarge:
        return False


def counterexample(field: Field, f: Form, constraints: Sequence[Form], budget: Budget) -> dict[Scalar, Fraction] | None:
    """Values of the leaves at which f < 0 where the constraints are >= 0; a candidate: the leaves are taken to be free."""
    try:
        less = reduced(field, f, constraints)
        box = negative(less.field, less.form, less.constraints, seconds=budget.seconds, boxes=budget.boxes)
    except TooLarge:
        return None
    if box is None:
        return None
    known = {**{s: inside(b) for s, b in box.items()}, **less.fixed}
    return {leaf: v for s, v in known.items() if (leaf := less.field.generators[s].leaf) is not None}


def infeasible(field: Field, constraints: Sequence[Form], budget: Budget) -> bool:
    """Whether no point satisfies all constraints >= 0."""
    try:
        return any(_contradicts(field, c) for c in constraints) or _smt(
            field, field.number(1), constraints, budget, False, only_constraints=True
        )
    except TooLarge:
        return False


def _contradicts(field: Field, constraint: Form) -> bool:
    return sign(field, constraint).negative


def _smt(
    field: Field,
    f: Form,
    constraints: Sequence[Form],
    budget: Budget,
    strict: bool,
    *,
    only_constraints: bool = False,
) -> bool:
    solver = nlsat.solver()
    used = slots_of(f, *constraints)
    _close(field, used)
    boxes = {s: field.generators[s].enclosure for s in sorted(used)}
    if solver is None or any(box.nan for box in boxes.values()):
        return False
    script = [f"(declare-const {_name(s)} Real)" for s in boxes]
    for s, box in boxes.items():
        if box.lo > -INF:
            script.append(_assert(">" if box.lo_open else ">=", _name(s), _number(Fraction(box.lo))))
        if box.hi < INF:
            script.append(_assert("<" if box.hi_open else "<=", _name(s), _number(Fraction(box.hi))))
        generator = field.generators[s]
        if generator.name == "sqrt":
            inner = generator.arguments[0]
            num, den = _polynomial(inner.num), _polynomial(inner.den)
            square = f"(* {_name(s)} {_name(s)} {den})"
            script += [_assert(">=", _name(s), "0.0"), _assert("=", square, num), _assert("distinct", den, "0.0")]
        elif generator.name == "softplus" and generator.arguments[0].den.is_constant():
            inner = generator.arguments[0]
            script.append(_assert(">", _name(s), f"(/ {_polynomial(inner.num)} {_polynomial(inner.den)})"))
    for constraint in constraints:
        script += _sign(constraint, ">=")
    if not only_constraints:
        script += _sign(f, "<=" if strict else "<")
    # a limit of steps: the answer does not depend on time, but for the steps that z3 does not count
    found, steps = solver.unsat("\n".join(script), _SMT_STEPS * budget.smt_milliseconds, 6 * budget.smt_milliseconds)
    CLOCK.steps += steps // 5
    return found


def _sign(f: Form, relation: str) -> list[str]:
    """That f is defined and is in that relation to 0, in SMT-LIB."""
    num, den = _polynomial(f.num), _polynomial(f.den)
    if f.den.is_constant():
        return [_assert(relation, num, "0.0")]
    return [_assert("distinct", den, "0.0"), _assert(relation, f"(* {num} {den})", "0.0")]


def _assert(relation: str, left: str, right: str) -> str:
    return f"(assert ({relation} {left} {right}))"


def _name(slot: int) -> str:
    return f"g{slot}"


def _polynomial(p: Any) -> str:
    terms = []
    for exponents, coefficient in p.terms():
        factors = [_name(slot) for slot, k in enumerate(exponents) for _ in range(int(k))]
        number = _number(Fraction(int(coefficient.p), int(coefficient.q)))
        terms.append(f"(* {' '.join([number, *factors])})" if factors else number)
    return f"(+ {' '.join(terms)})" if len(terms) > 1 else terms[0] if terms else "0.0"


def _number(x: Fraction) -> str:
    size = f"{abs(x.numerator)}.0" if x.denominator == 1 else f"(/ {abs(x.numerator)}.0 {x.denominator}.0)"
    return f"(- {size})" if x < 0 else size


def _close(field: Field, used: set[int]) -> None:
    """Add the generators inside of square roots and softplus, whose relation to them is used."""
    todo = list(used)
    while todo:
        generator = field.generators[todo.pop()]
        if generator.name in ("sqrt", "softplus"):
            more = slots_of(*generator.arguments) - used
            used |= more
            todo += more


__all__ = ["Budget", "counterexample", "infeasible", "prove"]
