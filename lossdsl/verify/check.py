"""The report of one loss: its findings under the nine criteria, and its claims."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from lossdsl.ir.build import BuiltLoss
from lossdsl.ir.nodes import Group, Program, tensors_of
from lossdsl.ir.rewrite import members
from lossdsl.verify import brackets, properties
from lossdsl.verify.claims import Claims
from lossdsl.verify.consistency import consistent
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.finite import finite_in
from lossdsl.verify.guard import guarded
from lossdsl.verify.pieces import dependents
from lossdsl.verify.questions import ELEMENTWISE, asked, subject
from lossdsl.verify.signs import Budget
from lossdsl.verify.verdict import (
    DIFFERENTIABILITY,
    ERRORS,
    INTERPRETABILITY,
    LEARNING,
    NOISE,
    QUANTITIES,
    STABILITY,
    TASK,
    Bracket,
    ClaimResult,
    Finding,
    Proved,
    Report,
    Step,
    Unknown,
    Verdict,
)
from lossdsl.verify.work import deadline, passed


class Interrupted(Exception):
    """The user broke off: what was decided until then, and what was being decided."""

    def __init__(self, report: Report, asked: str) -> None:
        super().__init__(asked)
        self.report, self.asked = report, asked


Watch = Callable[[str], None]


def _unwatched(asked: str) -> None:
    """Nobody wants to know what is being decided."""


def _context(built: BuiltLoss, effort: float) -> Context:
    budget = Budget.of(effort)
    return Context(built.program, budget=budget, seconds=0.2 * effort)


def judged(built: BuiltLoss, *, effort: float = 1.0) -> Iterator[ClaimResult]:
    """The claims of a loss, each decided by itself: without the standard properties, and not held against them."""
    return _judged(built, _context(built, effort), _unwatched)


def _judged(built: BuiltLoss, base: Context, watch: Watch) -> Iterator[ClaimResult]:
    claims = Claims(built, base)
    for c in built.claims:
        watch(f"claim {c.text}")
        yield ClaimResult(c.text, c.span.line, guarded(partial(claims.decide, c))[0], c.negated)


def verify_program(
    built: BuiltLoss, *, effort: float = 1.0, watch: Watch = _unwatched, searching: bool = True
) -> Report:
    """Decide the standard properties and all claims of a loss. `effort` multiplies the budgets; `watch` is told what is
    decided next; without `searching`, only proofs of properties are wanted. Never raises for a property that no engine
    decides; raises Interrupted for a KeyboardInterrupt."""
    base = _context(built, effort)
    results: list[ClaimResult] = []
    found: list[Finding] = []
    now = ""

    def told(asked: str) -> None:
        nonlocal now
        now = asked
        watch(asked)

    try:
        for result in _judged(built, base, told):
            results.append(result)
        for f in findings(built, base, told, searching):
            found.append(f)  # one by one: what is found is kept
        found = [_again(f, base) for f in found]
    except KeyboardInterrupt:
        raise Interrupted(Report(built.program.name, tuple(found), tuple(results)), now) from None
    return consistent(built, Report(built.program.name, tuple(found), tuple(results)))


def _again(f: Finding, base: Context) -> Finding:
    """What is known of convexity in the end: later questions go on with its search."""
    if f.property != "convex" or not isinstance(f.verdict, Unknown):
        return f
    return replace(f, verdict=properties.convexity(replace(base, seconds=0.0), f.of, f.wrt))


# how much of the work of a question goes to one of floats, of learning behaviour, or of a number, after so many times that
# work; in reports of elements, and of rows
_HURRIED = {True: ((50, 0.1), (32, 0.35)), False: ((80, 0.35),)}


def findings(built: BuiltLoss, base: Context, watch: Watch = _unwatched, searching: bool = True) -> Iterator[Finding]:
    """The standard questions: range, differentiability, convexity, Lipschitz constant, finiteness, and those of the table
    of questions that stand under a criterion."""
    program = built.program
    target = program.target or program.outputs[0].tensor
    usual = base.seconds / 4
    quick = replace(base, seconds=usual, searching=searching)
    of = subject(built, quick)
    elements = of is None or ELEMENTWISE in of.kinds or not _folds(program, target)
    hurries = [(deadline(times * usual), share) for times, share in _HURRIED[elements]]

    def ask(
        name: str, wrt: tuple[str, ...], criterion: str, decide: Callable[[], Verdict], detail: str = ""
    ) -> Finding:
        watch(f"{name}{' in ' + ', '.join(wrt) if wrt else ''}")
        able = name.startswith("finite in") or criterion == LEARNING or name in QUANTITIES
        stages = hurries[-1:] if name in ERRORS else hurries  # a little work tells nothing of errors
        quick.seconds = next((share * usual for late, share in stages if able and passed(late)), usual)
        verdict, seconds = guarded(decide)
        return Finding(name, target, wrt, "", verdict, criterion, detail, seconds)

    least = ask("non-negative", (), TASK, lambda: properties.nonnegative(quick, target))
    yield ask("range", (), INTERPRETABILITY, lambda: value_range(quick, target, least.verdict))
    yield least
    found: list[Finding] = []
    for i in program.inputs:
        if not i.differentiable or target not in dependents(program, i.name):
            continue
        wrt: tuple[str, ...] = (i.name,)
        watch(f"differentiability in {i.name}")
        for finding in _differentiability(quick, target, wrt):
            found.append(finding)
            yield finding
        if i.kind != "unit":  # a sphere holds no segment
            found.append(ask("convex", wrt, STABILITY, partial(properties.convexity, quick, target, wrt)))
            yield found[-1]
        found.append(ask("lipschitz", wrt, NOISE, partial(properties.lipschitz, quick, target, wrt, None)))
        yield found[-1]
    for word in ("float32", "float16"):
        yield ask(f"finite in {word}", (), STABILITY, partial(finite_in, quick, target, word))
    if of is None:
        return
    for question in asked(of):
        if question.criterion and (question.described or searching):
            other = of.other.name if of.other is not None else ""
            name = question.property.replace("equality", f"{of.prediction.name} == {other}")
            wrt = of.wrt if name == question.property else ()
            yield ask(name, wrt, question.criterion, partial(question.decide, of))
    for number in brackets.numbers(of, found) if searching else ():
        result = ask(number.name, number.wrt(of), number.criterion, partial(number.decide, of))
        if isinstance(result.verdict, Proved):
            yield replace(result, when=brackets.settings(of, result.verdict))


def _folds(program: Program, target: str) -> bool:
    """Whether an element of the target is made of more than one of anything."""
    needed = {target}
    for item in reversed(program.body):
        for d in members(item):
            if d.tensor in needed:
                needed |= set(tensors_of(d.scalars()))
                if d.head != "map" or isinstance(item, Group):
                    return True
    return False


def _differentiability(ctx: Context, target: str, wrt: tuple[str, ...]) -> Iterator[Finding]:
    start = time.perf_counter()
    try:
        found = properties.smoothness(ctx, target, wrt)
    except RecursionError:
        found = properties.Smoothness("", None, None, "too deep")
    seconds = time.perf_counter() - start
    tried = ("composition", "pieces")
    if found.evidence is not None:
        yield Finding(found.proved, target, wrt, "", found.evidence, DIFFERENTIABILITY, "", seconds)
    if found.fails is not None:
        order, verdict, surface = found.fails
        name = ("C0", "C1", "C2", "smooth")[min(order, 3)]
        yield Finding(
            name,
            target,
            wrt,
            "",
            verdict,
            DIFFERENTIABILITY,
            f"not {name}" + f" at {surface} = 0" * bool(surface),
            seconds,
        )
    elif found.evidence is None:
        yield Finding("differentiable", target, wrt, "", Unknown(found.blocker, tried), DIFFERENTIABILITY, "", seconds)


def value_range(ctx: Context, target: str, least: Verdict | None = None) -> Verdict:
    """The enclosure of the target over the declared domains (an outer bound, not always attained), from 0 if it is proved
    not to be negative (`least`: whether it is)."""
    box = ctx.ranges().tensor(target)
    if box.nan:
        return Unknown(f"{target} may be undefined", ("interval",))
    least = properties.nonnegative(ctx, target) if least is None else least
    if isinstance(least, Proved) and box.lo < 0 <= box.hi:
        box = Enclosure(0.0, box.hi, False, box.hi_open)
        steps = (*least.steps, Step("enclosure", target, f"in {box}"))
        return Proved(least.method, steps, Bracket(0.0, None if box.hi == INF else box.hi, str(box)))
    lower = None if box.lo == -INF else box.lo
    upper = None if box.hi == INF else box.hi
    return Proved("interval enclosure", (Step("enclosure", target, f"in {box}"),), Bracket(lower, upper, str(box)))
