"""Sign obligations: is a normal form >= 0 (or > 0) wherever its leaves may be, under polynomial side conditions?

Tried in order: the factors' enclosures over the whole domain (one box), z3's nonlinear arithmetic over the generators
as free variables (only `unsat` is believed; denominators are asserted non-zero), and interval branch and bound over
the leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lossdsl.verify import enclosure as e
from lossdsl.verify import interrupts
from lossdsl.verify.algebra import Field, Form, TooLarge, sign, stand_in
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import transfer
from lossdsl.verify.work import CLOCK, deadline, passed

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

    def start(self) -> int:
        return deadline(self.seconds)


def prove(field: Field, f: Form, constraints: Sequence[Form], budget: Budget, *, strict: bool = False) -> str | None:
    """The name of the method that proved f >= 0 (f > 0 if strict) where all constraints are >= 0, or None."""
    try:
        found = sign(field, f)
        if found.positive or (not strict and found.nonnegative):
            return "one interval evaluation of the factored form"
        if any(_contradicts(field, c) for c in constraints):
            return "the case cannot occur"
        if _smt(field, f, constraints, budget, strict):
            return "z3, nonlinear real arithmetic (unsat)"
        if branch(field, f, constraints, budget, strict=strict):
            return "interval branch and bound"
    except TooLarge:
        pass
    return None


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
    with interrupts.held():
        return _unsat(field, f, constraints, budget, strict, only_constraints)


def _unsat(
    field: Field, f: Form, constraints: Sequence[Form], budget: Budget, strict: bool, only_constraints: bool
) -> bool:
    import z3  # only here: it costs 50 ms that most obligations do not need

    used = _slots(f, *constraints)
    _close(field, used)
    # its own context, and a limit of steps: the answer depends neither on what was asked before nor on time
    context = z3.Context()
    variables: dict[int, Any] = {s: z3.Real(f"g{s}", context) for s in sorted(used)}
    solver = z3.SolverFor("QF_NRA", context)
    solver.set("rlimit", _SMT_STEPS * budget.smt_milliseconds)
    solver.set("timeout", 6 * budget.smt_milliseconds)  # some steps of z3 are not counted
    solver.set("ctrl_c", interrupts.here())

    def poly(p: Any) -> Any:
        terms = []
        for exponents, coefficient in p.terms():
            term: Any = z3.RealVal(f"{int(coefficient.p)}/{int(coefficient.q)}", context)
            for slot, k in enumerate(exponents):
                for _ in range(int(k)):
                    term = term * variables[slot]
            terms.append(term)
        return z3.Sum(terms) if terms else z3.RealVal(0, context)

    def at_least_zero(g: Form) -> Any:
        if g.den.is_constant():
            return poly(g.num) >= 0
        return z3.And(poly(g.den) != 0, poly(g.num) * poly(g.den) >= 0)

    for s, v in variables.items():
        box = field.generators[s].enclosure
        if box.nan:
            return False
        if box.lo > -INF:
            low = _exact(box.lo, context)
            solver.add(v > low if box.lo_open else v >= low)
        if box.hi < INF:
            high = _exact(box.hi, context)
            solver.add(v < high if box.hi_open else v <= high)
        generator = field.generators[s]
        if generator.name == "sqrt":
            inner = generator.arguments[0]
            solver.add(v >= 0, v * v * poly(inner.den) == poly(inner.num), poly(inner.den) != 0)
        elif generator.name == "softplus" and generator.arguments[0].den.is_constant():
            solver.add(v > poly(generator.arguments[0].num) / poly(generator.arguments[0].den))
    for constraint in constraints:
        solver.add(at_least_zero(constraint))
    if not only_constraints:
        num, den = poly(f.num), poly(f.den)
        if not f.den.is_constant():
            solver.add(den != 0)
            num = num * den
        solver.add(num <= 0 if strict else num < 0)
    answer = solver.check()
    if answer == z3.unknown and solver.reason_unknown() == "interrupted from keyboard":
        raise KeyboardInterrupt  # it ends the whole check, not this one answer
    CLOCK.steps += int(solver.statistics().get_key_value("rlimit count")) // 5
    return bool(answer == z3.unsat)


def _exact(x: float, context: Any) -> Any:
    import z3

    f = Fraction(x)
    return z3.RealVal(f"{f.numerator}/{f.denominator}", context)


def _slots(*forms: Form) -> set[int]:
    used: set[int] = set()
    for f in forms:
        for p in (f.num, f.den):
            for exponents, _ in p.terms():
                used.update(s for s, k in enumerate(exponents) if k)
    return used


def _close(field: Field, used: set[int]) -> None:
    """Add the generators inside of square roots and softplus, whose relation to them is used."""
    todo = list(used)
    while todo:
        generator = field.generators[todo.pop()]
        if generator.name in ("sqrt", "softplus"):
            more = _slots(*generator.arguments) - used
            used |= more
            todo += more


# ------------------------------------------------------------------------------------------ branch and bound


def branch(field: Field, f: Form, constraints: Sequence[Form], budget: Budget, *, strict: bool = False) -> bool:
    """f >= 0 (> 0) on every box of a subdivision of the leaves' domain; unbounded boxes are split at 0, +-1, +-4 ..."""
    leaves = _leaves(field, (f, *constraints))
    if not leaves or len(leaves) > 3:
        return False
    start = {s: field.generators[s].enclosure for s in leaves}
    if any(b.nan for b in start.values()):
        return False
    end = budget.start()
    pending = [start]
    count = 0
    while pending:
        count += 1
        if count > budget.boxes or passed(end):
            return False
        box = pending.pop()
        view = At(field, box)
        if any(view.value(c).negative for c in constraints):
            continue
        value = view.value(f)
        if value.positive or (not strict and value.nonnegative):
            continue
        if value.negative:
            return False
        halves = _split(box)
        if halves is None:
            return False
        pending.extend(halves)
    return True


class At:
    """A field's generators over a smaller box of leaves."""

    def __init__(self, field: Field, leaves: dict[int, Enclosure]) -> None:
        self.field = field
        self.boxes: list[Enclosure] = []
        for slot, g in enumerate(field.generators):
            if slot in leaves:
                self.boxes.append(leaves[slot])
            elif not g.arguments:
                self.boxes.append(g.enclosure)
            else:
                here = transfer(stand_in(g.name, len(g.arguments)), [self.value(a) for a in g.arguments])
                both = e.meet(here, g.enclosure) if not here.nan and not g.enclosure.nan else None
                self.boxes.append(both or here)

    def value(self, f: Form) -> Enclosure:
        return e.div(self.polynomial(f.num), self.polynomial(f.den))

    def polynomial(self, p: Any) -> Enclosure:
        total = Enclosure(0.0, 0.0)
        for exponents, coefficient in p.terms():
            term = e.exact(Fraction(int(coefficient.p), int(coefficient.q)))
            for slot, k in enumerate(exponents):
                if k:
                    term = e.mul(term, e.integer_power(self.boxes[slot], int(k)))
            total = e.add(total, term)
        return total


def _leaves(field: Field, forms: Sequence[Form]) -> list[int]:
    seen: set[int] = set()
    todo = list(_slots(*forms))
    while todo:
        s = todo.pop()
        if s not in seen:
            seen.add(s)
            todo.extend(_slots(*field.generators[s].arguments))
    return sorted(s for s in seen if not field.generators[s].arguments)


def _split(box: dict[int, Enclosure]) -> list[dict[int, Enclosure]] | None:
    widest, width = -1, 0.0
    for s, b in box.items():
        w = _width(b)
        if w > width:
            widest, width = s, w
    if widest < 0 or width < 1e-9:
        return None
    b = box[widest]
    middle = _middle(b)
    if not b.lo < middle < b.hi:
        return None
    left = Enclosure(b.lo, middle, b.lo_open, False)
    right = Enclosure(middle, b.hi, False, b.hi_open)
    return [{**box, widest: left}, {**box, widest: right}]


def _width(b: Enclosure) -> float:
    """Width after squashing the line: tails count for what they still hide."""
    return _squash(b.hi) - _squash(b.lo)


def _squash(x: float) -> float:
    if x in (INF, -INF):
        return 2.0 if x > 0 else -2.0
    return x / (1 + abs(x)) * 2


def _middle(b: Enclosure) -> float:
    if b.lo == -INF and b.hi == INF:
        return 0.0
    if b.hi == INF:
        return 1.0 if b.lo < 0.5 and b.lo >= 0 else 4 * b.lo if b.lo > 0 else 0.0
    if b.lo == -INF:
        return -1.0 if -0.5 < b.hi <= 0 else 4 * b.hi if b.hi < 0 else 0.0
    return b.lo / 2 + b.hi / 2


__all__ = ["At", "Budget", "branch", "infeasible", "prove"]
