"""Numbers of a loss between two certified ends: its Lipschitz constant, that of its gradient, the modulus of strong convexity,
and how far from the minimum it is convex.

Each is where a claim with a bound changes between refuted and proved. A proof gives one end, a certified counterexample the
other, and bisection brings them together: what decides the claims (`claims`) decides the numbers. They are about
parameters and optional inputs at their defaults; where the number is an expression in the real parameters (`suprema`), that
is said of all values of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from lossdsl.ir.nodes import REAL, ZERO, And, Apply, Compare, Const, Index, Param, Read, Scalar, postorder
from lossdsl.ir.rewrite import with_numbers
from lossdsl.verify import properties, rounding, suprema, unread
from lossdsl.verify.context import Context
from lossdsl.verify.guard import guarded
from lossdsl.verify.pieces import NotScalar, View, dependents
from lossdsl.verify.questions import ANY, ELEMENTWISE, EQUAL, LINE, Subject, at_other
from lossdsl.verify.signs import Budget
from lossdsl.verify.verdict import NOISE, STABILITY, Bracket, Finding, Proved, Refuted, Step, Unknown, Verdict
from lossdsl.verify.work import deadline, passed

_DIGITS = 4  # of the ends
_UNIT = Fraction(1, 10 ** (_DIGITS - 1)) / 2
_OCTAVES = (1, 2, 4, 7, 11, 16)  # away from 1, until the verdict changes
_QUESTIONS = 20  # for one number
_SECONDS = 40  # times the context's: of work, too
_PATIENCE = 2  # so many in a row that stay open
METHOD = "bisection over proofs and counterexamples"

Decide = Callable[[Fraction], Verdict]


class Threshold:
    """The number from which on (`up`; else: up to which) a claim with a bound is true."""

    def __init__(self, decide: Decide, *, up: bool, seconds: float = 0.5) -> None:
        self._decide, self._up = decide, up
        self._left, self._idle, self._end = _QUESTIONS, 0, deadline(seconds)
        self.proofs: dict[Fraction, Proved] = {}
        self.counterexamples: dict[Fraction, Refuted] = {}
        self.open: dict[Fraction, Unknown] = {}
        if self._surrounded():
            self._beside()
            while not self._spent and (bound := self._between()) is not None:
                self._ask(bound)

    @property
    def _spent(self) -> bool:
        return self._left <= 0 or self._idle >= _PATIENCE or passed(self._end)

    @property
    def ends(self) -> tuple[Fraction | None, Fraction | None]:
        """The number, which is at least 0, is not below the first and not above the second."""
        below, above = (self.counterexamples, self.proofs) if self._up else (self.proofs, self.counterexamples)
        return max(below, default=None), min(above, default=None)

    def _ask(self, bound: Fraction) -> Verdict:
        self._left -= 1
        self._idle += 1
        verdict, _ = guarded(lambda: self._decide(bound))
        self._idle = self._idle if isinstance(verdict, Unknown) else 0
        match verdict:
            case Proved():
                self.proofs[bound] = verdict
            case Refuted():
                self.counterexamples[bound] = verdict
            case Unknown():
                self.open[bound] = verdict
        return verdict

    def _surrounded(self) -> bool:
        """Whether both ends are found, by octaves away from 1."""
        first = self._ask(Fraction(1))
        above, below = (Proved, Refuted) if self._up else (Refuted, Proved)
        for direction, wanted in ((1, above), (-1, below)):
            if not isinstance(first, wanted):
                bounds = (Fraction(2) ** (direction * k) for k in _OCTAVES)
                if not any(isinstance(self._ask(b), wanted) for b in bounds if not self._spent):
                    if self._up and self.proofs and not self.counterexamples:
                        self._ask(Fraction(0))
                    return False
        return True

    def _beside(self) -> None:
        """Next to the ends found so far: numbers are often round."""
        low, high = self.ends
        assert low is not None
        assert high is not None
        for bound in (high * (1 - _UNIT), low * (1 + _UNIT)):
            near = Fraction(f"{float(bound):.{_DIGITS}g}")
            if low < near < high and not self._spent:
                self._ask(near)

    def _between(self) -> Fraction | None:
        """A bound in the middle of the wider gap, from one end or the other to what is open."""
        low, high = self.ends
        assert low is not None
        assert high is not None
        inside = [b for b in self.open if low < b < high]
        gaps = [(low, min(inside)), (max(inside), high)] if inside else [(low, high)]
        for a, b in sorted(gaps, key=lambda gap: gap[0] / gap[1]):
            middle = Fraction(f"{float(a * b) ** 0.5:.{_DIGITS}g}")
            if a < middle < b:
                return middle
        return None

    def verdict(self) -> Verdict:
        """The bracket with what it rests on; unknown if the side that bounds the loss is open."""
        low, high = self.ends
        value = Bracket(0.0 if low is None else float(low), None if high is None else float(high))
        if not self.proofs:
            blocked = next((v.blocker for v in self.open.values()), "no bound that can be tried is small enough")
            return Unknown(blocked, (METHOD,), value)
        best = min(self.proofs) if self._up else max(self.proofs)
        proof = self.proofs[best]
        steps = [Step(METHOD, f"bound {float(best):.6g}", f"proved: {proof.method}"), *proof.steps]
        if self.counterexamples:
            worst = max(self.counterexamples) if self._up else min(self.counterexamples)
            steps.append(
                Step(METHOD, f"bound {float(worst):.6g}", f"refuted: {self.counterexamples[worst].witness.violation}")
            )
        return Proved(METHOD, tuple(steps), value)


@dataclass(frozen=True)
class Number:
    """A number of a loss: the words of the card, the kind of losses that are asked, its heading ("": on request only), and
    what has to be known of them; `along`: whether it is about how the value changes with the prediction."""

    name: str
    kind: str
    criterion: str
    decide: Callable[[Subject], Verdict]
    of: tuple[str, ...] = ()
    known: type[Proved] | type[Refuted] = Proved
    along: bool = True

    def wrt(self, of: Subject) -> tuple[str, ...]:
        return of.wrt if self.along else ()


def known(of: Subject, found: Verdict | None = None) -> Context:
    """The context with parameters and optional inputs at their defaults, and with a quarter of the budget: there are many
    questions. If the number is an expression: with real parameters as they are declared."""
    exact = isinstance(found, Proved) and found.method == suprema.METHOD
    return _of_all_reals(of) if exact else _inputs_at_defaults(_briefly(of.ctx.at_defaults()))


def _briefly(ctx: Context) -> Context:
    whole = ctx.budget
    budget = Budget(whole.seconds / 4, whole.boxes // 4, whole.smt_milliseconds // 4)
    return replace(ctx, budget=budget, seconds=ctx.seconds / 4)


def _of_all_reals(of: Subject) -> Context:
    program = of.ctx.program
    fixed = {
        p.name: p.default.value
        for p in program.parameters
        if p.kind != "real" and p.default is not None and isinstance(p.default.value, Fraction)
    }
    fixed = {**fixed, **of.ctx.fixed}
    return _inputs_at_defaults(_briefly(replace(of.ctx, program=with_numbers(program, fixed), fixed=fixed, memo={})))


def _inputs_at_defaults(ctx: Context) -> Context:
    for i in ctx.program.inputs:
        if isinstance(i.default, Const) and i.dtype is REAL and i.name not in ctx.fixed:
            entry = Read(i.name, tuple(Index(f"${k}", dim) for k, dim in enumerate(i.dims)), REAL)
            ctx = ctx.narrowed(Compare("==", entry, i.default))
    return ctx


def settings(of: Subject, found: Verdict | None = None) -> str:
    """What `known` takes for granted, as a condition; nothing of real parameters where the number is an expression."""
    program = of.ctx.program
    scalars = (
        s
        for d in program.definitions()
        if d.tensor == of.target or of.target in dependents(program, d.tensor)
        for s in d.scalars()
    )
    read = {n.name if isinstance(n, Param) else n.tensor for n in postorder(*scalars) if isinstance(n, (Param, Read))}
    fixed = {name: at for name, at in known(of, found).fixed.items() if name in read and name not in of.ctx.fixed}
    return ", ".join(f"{name} == {at}" for name, at in fixed.items())


Expression = Callable[[Context, list[View]], Proved | None]


def _bisected(ctx: Context, decide: Decide, *, up: bool) -> Verdict:
    return Threshold(decide, up=up, seconds=_SECONDS * ctx.seconds).verdict()


def _exact(of: Subject, find: Expression) -> Proved | None:
    """The number as an expression in the parameters, if there is one."""
    if len(of.wrt) != 1:
        return None
    ctx = _of_all_reals(of).of_values()
    cases = properties.scalar_views(ctx, of.target, of.wrt[0])
    if isinstance(cases, str):
        return None
    found, _ = guarded(lambda: find(ctx, cases) or Unknown("", ()))
    return found if isinstance(found, Proved) else None


def _lipschitz(of: Subject) -> Verdict:
    """The least Lipschitz constant in the prediction, in the l2 norm."""
    exact = _exact(of, partial(suprema.largest, order=1, defaults=True))
    if exact is not None:
        return exact
    ctx = known(of)
    return _bisected(ctx, lambda b: properties.lipschitz(ctx, of.target, of.wrt, Const(b)), up=True)


def _smoothness(of: Subject) -> Verdict:
    """The least Lipschitz constant of the derivative."""
    exact = _exact(of, partial(suprema.largest, order=2, defaults=True))
    if exact is not None:
        return exact
    ctx = known(of)

    def between(bound: Fraction) -> Verdict:
        return properties.second_derivative(ctx, of.target, of.wrt, Const(-bound), Const(bound))

    return _bisected(ctx, between, up=True)


def _strong_convexity(of: Subject) -> Verdict:
    """The largest m for which the loss less m/2 x^2 is convex: 0 along entries of a row that it does not read."""

    def least(ctx: Context, cases: list[View]) -> Proved | None:
        return None if unread.unread(ctx, of.target, cases) else suprema.least(ctx, cases, order=2, defaults=True)

    exact = _exact(of, least)
    if exact is not None:
        return exact
    ctx = known(of)

    def at_least(modulus: Fraction) -> Verdict:
        return properties.second_derivative(ctx, of.target, of.wrt, Const(modulus), None)

    return _bisected(ctx, at_least, up=False)


def distance(of: Subject) -> Scalar:
    """The residual, or the entry of the prediction where there is nothing to be equal to. Raises NotScalar."""
    if EQUAL in of.kinds:
        place = at_other(of)
        return Apply("sub", (place.a, place.b))
    cases = properties.scalar_views(of.ctx, of.target, of.prediction.name)
    if isinstance(cases, str) or not cases:
        raise NotScalar(str(cases))
    return cases[0].entry


def _convex_radius(of: Subject) -> Verdict:
    """The largest r such that the loss is convex where the distance is at most r."""
    entry = distance(of)
    exact = _exact(of, lambda ctx, cases: suprema.convex_radius(ctx, cases, entry))
    if exact is not None:
        return exact
    ctx = known(of)

    def within(radius: Fraction) -> Verdict:
        near = And((Compare("<=", Const(-radius), entry), Compare("<=", entry, Const(radius))))
        inside = ctx.narrowed(near)
        found = properties.second_derivative(inside, of.target, of.wrt, ZERO, None)
        return properties.convexity(inside, of.target, of.wrt) if isinstance(found, Unknown) else found

    return _bisected(ctx, within, up=False)


def _error(word: str, *, gradient: bool) -> Callable[[Subject], Verdict]:
    """The rounding error of the value, or of the gradient in the prediction."""
    return lambda of: rounding.error_in(known(of), of.target, word, of.prediction.name if gradient else "")


NUMBERS: tuple[Number, ...] = (
    Number("lipschitz constant", ANY, NOISE, _lipschitz, ("lipschitz",), Proved),
    Number("gradient lipschitz constant", ELEMENTWISE, STABILITY, _smoothness, ("C1", "C2", "smooth"), Proved),
    Number("strong convexity modulus", ELEMENTWISE, STABILITY, _strong_convexity, ("convex",), Proved),
    Number("convex radius", LINE, STABILITY, _convex_radius, ("convex",), Refuted),
    Number("error in float32", ANY, STABILITY, _error("float32", gradient=False), along=False),
    Number("gradient error in float32", ANY, STABILITY, _error("float32", gradient=True)),
    Number("error in float16", ANY, "", _error("float16", gradient=False), along=False),
    Number("gradient error in float16", ANY, "", _error("float16", gradient=True)),
    Number("error in bfloat16", ANY, "", _error("bfloat16", gradient=False), along=False),
    Number("gradient error in bfloat16", ANY, "", _error("bfloat16", gradient=True)),
)


def numbers(of: Subject, findings: Iterable[Finding]) -> Iterator[Number]:
    """The numbers that are asked of a loss after what was found of it."""
    found = {f.property: f.verdict for f in findings if f.wrt == of.wrt}
    for number in NUMBERS:
        if not number.criterion or number.kind not in of.kinds:
            continue
        if not number.of or any(isinstance(found.get(name), number.known) for name in number.of):
            yield number


__all__ = ["METHOD", "NUMBERS", "Number", "Threshold", "known", "numbers", "settings"]
