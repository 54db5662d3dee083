"""What is asked of every loss, as one table: the properties by which designers compare losses, by kind of loss.

A loss of one entry at a time (`elementwise`) is asked for its shape, its tails and its minimiser; one whose entries meet
along an axis (`row`) for norms and symmetries; one with a label for what decision theory says of it, if one label and one
prediction can be told (`labels.problem`), and whether it is proper if the prediction stands for a probability (`forecast`). Each question is decided as the claim of the same words is (`claims`,
`docs/language/claims.md`). `docs/verification.md` has the answers for the whole catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from lossdsl.ir.build import BuiltLoss
from lossdsl.ir.nodes import REAL, Compare, Const, Input, Read, postorder
from lossdsl.verify import concordance, decision, minima, profile, properties, regret, shapes, symmetry, tails
from lossdsl.verify.claims import differentiability
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF
from lossdsl.verify.finite import finite_in
from lossdsl.verify.guard import guarded
from lossdsl.verify.labels import TWO_VALUED, NoProblem, problem
from lossdsl.verify.pieces import View, dependents
from lossdsl.verify.signs import Budget
from lossdsl.verify.verdict import LEARNING, REGULARISATION, TASK, Unknown, Verdict
from lossdsl.verify.work import deadline, passed

SPHERE, SURFACES = ("unit",), ("unit", "simplex")
ANY, ELEMENTWISE, LINE, ROW = "any", "elementwise", "line", "row"
LABELLED, FORECAST, PAIRED, EQUAL = "labelled", "forecast", "paired", "equal"


@dataclass(frozen=True)
class Subject:
    """A loss as it is asked about: one element of the target, and the real input that is learned (the first that the
    target depends on); `other` is a second real input of the same domain (that of the residual, if there is one), `axes`
    are those that only the prediction has; `undecidable` is why decision theory does not speak of a loss that reads
    labels."""

    ctx: Context
    target: str
    prediction: Input
    other: Input | None
    axes: tuple[str, ...]
    kinds: frozenset[str]
    undecidable: str = ""

    @property
    def wrt(self) -> tuple[str, ...]:
        return (self.prediction.name,)


@dataclass(frozen=True)
class Question:
    """A row of the table: the words of the claim, the kinds of losses that are asked, and how it is decided.

    not_in   kinds of inputs whose domain holds no instance of it: a sphere no segment, a sphere and a simplex no two
             points of which one is everywhere at least the other or is the other shifted or scaled
    criterion   of the report card, if it is asked for the card, too
    described   whether it is asked for the docstring of a module, too: what its caller may rely on
    """

    property: str
    kind: str
    decide: Callable[[Subject], Verdict]
    not_in: tuple[str, ...] = ()
    criterion: str = ""
    described: bool = True


def subject(built: BuiltLoss, ctx: Context) -> Subject | None:
    """How a loss is asked; None if nothing real is learned from it."""
    program = built.program
    target = program.target or built.tensors.get("per") or program.outputs[0].tensor
    used = [i for i in program.inputs if target in dependents(program, i.name)]
    real = [i for i in used if i.differentiable and i.role == "input"] or [i for i in used if i.differentiable]
    definition = program.definition(target)
    if not real or definition is None:
        return None
    prediction = real[0]
    cases = properties.scalar_views(ctx, target, prediction.name)
    kinds = {ANY, ROW if isinstance(cases, str) else ELEMENTWISE}
    box = ctx.ranges().input(prediction.name)
    if ELEMENTWISE in kinds and box.lo == -INF and box.hi == INF and not ctx.symbolic(prediction.name):
        kinds.add(LINE)
    undecidable = ""
    if any(i.kind in TWO_VALUED or i.kind == "class" for i in used):
        try:
            asked_of = problem(ctx, target, None)
            kinds.add(LABELLED)
            if regret.has_probability(asked_of):
                kinds.add(FORECAST)
        except NoProblem as reason:
            undecidable = str(reason)
    domain = (prediction.kind, prediction.dims, prediction.over, prediction.range)
    like = [i for i in real[1:] if (i.kind, i.dims, i.over, i.range) == domain]
    met = {n.tensor for v in cases if isinstance(v, View) for n in postorder(v.inner) if isinstance(n, Read)}
    other = next((i for i in like if i.name in met), like[0] if like else None)
    if other is not None and ELEMENTWISE in kinds:
        kinds.add(PAIRED)
        if set(prediction.dims) <= {f.dim for f in definition.formals}:  # each element has a place of its own in it
            kinds.add(EQUAL)
    own = {f.dim for f in definition.formals}
    axes = tuple(a for a, d in zip(prediction.axes, prediction.dims, strict=True) if a and d not in own)
    return Subject(ctx, target, prediction, other, axes, frozenset(kinds), undecidable)


def asked(of: Subject) -> Iterator[Question]:
    """The questions of the table that are asked of the loss."""
    return (q for q in QUESTIONS if q.kind in of.kinds and of.prediction.kind not in q.not_in)


def at_other(of: Subject) -> Compare:
    """Where the prediction equals the other input."""
    assert of.other is not None
    definition = of.ctx.program.definition(of.target)
    assert definition is not None
    places = tuple(f for f in definition.formals if f.dim in of.prediction.dims)
    return Compare("==", Read(of.prediction.name, places, REAL), Read(of.other.name, places, REAL))


def _strictly_concave(of: Subject) -> Verdict:
    return shapes.strictly_convex(of.ctx, of.target, of.wrt, concave=True)


def _class(word: str) -> Callable[[Subject], Verdict]:
    return lambda of: differentiability(of.ctx, of.target, of.wrt, word)


def _lipschitz(bound: int | None, norm: str = "l2") -> Callable[[Subject], Verdict]:
    most = None if bound is None else Const(bound)
    return lambda of: properties.lipschitz(of.ctx, of.target, of.wrt, most, norm)


def _curved(low: int | None, high: int | None) -> Callable[[Subject], Verdict]:
    def between(of: Subject) -> Verdict:
        ends = (None if k is None else Const(k) for k in (low, high))
        return properties.second_derivative(of.ctx, of.target, of.wrt, *ends)

    return between


def _monotone(*, increasing: bool, strict: bool = False) -> Callable[[Subject], Verdict]:
    return lambda of: properties.monotone(of.ctx, of.target, of.wrt, increasing=increasing, strict=strict)


def _symmetric(kind: str) -> Callable[[Subject], Verdict]:
    return lambda of: symmetry.decide(of.ctx, of.target, kind, of.wrt, of.axes or None)


def _decision(word: str) -> Callable[[Subject], Verdict]:
    return lambda of: decision.decide(of.ctx, of.target, word)


def _finite(word: str) -> Callable[[Subject], Verdict]:
    return lambda of: finite_in(of.ctx, of.target, word)


def _profile(decide: Callable[[Context, str, tuple[str, ...]], Verdict]) -> Callable[[Subject], Verdict]:
    return lambda of: decide(of.ctx.at_defaults(), of.target, of.wrt)  # it is about numbers


def _exchange(of: Subject) -> Verdict:
    assert of.other is not None
    return symmetry.decide(of.ctx, of.target, "exchange symmetric", (*of.wrt, of.other.name), None)


def _towards(*, strict: bool) -> Callable[[Subject], Verdict]:
    return lambda of: minima.towards(of.ctx, of.target, at_other(of), strict=strict)


def _jointly(of: Subject) -> Verdict:
    assert of.other is not None
    return properties.convexity(of.ctx, of.target, (*of.wrt, of.other.name))


QUESTIONS: tuple[Question, ...] = (
    Question("convex", ANY, lambda of: properties.convexity(of.ctx, of.target, of.wrt), SPHERE),
    Question(
        "strictly convex",
        ANY,
        lambda of: shapes.strictly_convex(of.ctx, of.target, of.wrt),
        SPHERE,
        criterion=REGULARISATION,
    ),
    Question("concave", ANY, lambda of: properties.convexity(of.ctx, of.target, of.wrt, concave=True), SPHERE),
    Question("affine", ANY, lambda of: properties.affine(of.ctx, of.target, of.wrt), SPHERE),
    Question("quasiconvex", ANY, lambda of: shapes.quasiconvex(of.ctx, of.target, of.wrt), SPHERE),
    Question("C0", ANY, _class("C0")),
    Question("C1", ANY, _class("C1")),
    Question("C2", ANY, _class("C2")),
    Question("smooth", ANY, _class("smooth")),
    Question("lipschitz", ANY, _lipschitz(None)),
    Question("lipschitz <= 1", ANY, _lipschitz(1)),
    Question("increasing", ANY, _monotone(increasing=True), SURFACES),
    Question("decreasing", ANY, _monotone(increasing=False), SURFACES),
    Question("even", ANY, _symmetric("even")),
    Question("non-negative", ANY, lambda of: properties.nonnegative(of.ctx, of.target)),
    Question("positive", ANY, lambda of: properties.nonnegative(of.ctx, of.target, strict=True)),
    Question("infimum == 0", ANY, lambda of: shapes.infimum(of.ctx, of.target, Const(0))),
    Question("bounded", ANY, lambda of: properties.bounded(of.ctx, of.target)),
    Question("finite in float32", ANY, _finite("float32")),
    Question("finite in float16", ANY, _finite("float16")),
    Question("finite in bfloat16", ANY, _finite("bfloat16")),
    Question("strictly concave", ELEMENTWISE, _strictly_concave),
    Question("strongly convex >= 1", ELEMENTWISE, _curved(1, None)),
    Question("gradient lipschitz <= 1", ELEMENTWISE, _curved(-1, 1)),
    Question(
        "self-concordant",
        ELEMENTWISE,
        lambda of: concordance.self_concordant(of.ctx, of.target, of.wrt),
    ),
    Question("strictly increasing", ELEMENTWISE, _monotone(increasing=True, strict=True)),
    Question("strictly decreasing", ELEMENTWISE, _monotone(increasing=False, strict=True)),
    Question("odd", ELEMENTWISE, _symmetric("odd")),
    Question("redescending", LINE, lambda of: tails.redescending(of.ctx, of.target, of.wrt), criterion=LEARNING),
    Question("vanishing gradient", LINE, _profile(profile.vanishing), criterion=LEARNING, described=False),
    Question("exploding gradient", LINE, _profile(profile.exploding), criterion=LEARNING, described=False),
    Question("minimum at equality", EQUAL, lambda of: minima.minimum_at(of.ctx, of.target, at_other(of))),
    Question(
        "unique minimum at equality",
        EQUAL,
        lambda of: minima.unique_minimum(of.ctx, of.target, at_other(of)),
        criterion=LEARNING,
    ),
    Question("gradient towards equality", EQUAL, _towards(strict=False)),
    Question("gradient strictly towards equality", EQUAL, _towards(strict=True), criterion=LEARNING),
    Question("exchange symmetric", PAIRED, _exchange),
    Question("jointly convex", PAIRED, _jointly),
    Question("lipschitz <= 1 in l1", ROW, _lipschitz(1, "l1")),
    Question("lipschitz <= 1 in linf", ROW, _lipschitz(1, "linf")),
    Question("invariant under shift", ROW, _symmetric("shift"), SURFACES, criterion=REGULARISATION),
    Question("invariant under scale", ROW, _symmetric("scale"), SURFACES, criterion=REGULARISATION),
    Question("invariant under permutation", ROW, _symmetric("permutation")),
    Question("calibrated", LABELLED, _decision("calibrated"), criterion=TASK),
    Question("proper", FORECAST, _decision("proper")),
    Question("strictly proper", FORECAST, _decision("strictly proper")),
    Question("noise symmetric", LABELLED, _decision("noise symmetric")),
)


CONTINUED = ("convex", "concave")  # with whose search a later question goes on, so that it may be over at the end


def answers(built: BuiltLoss, *, effort: float = 1.0) -> Iterator[tuple[Subject, Question, Verdict, float]]:
    """Every question that is asked of the loss, its verdict, and the seconds that it took."""
    budget = Budget.of(effort)
    of = subject(built, Context(built.program, budget=budget, seconds=0.05 * effort))
    if of is None:
        return
    least, end = of.ctx.seconds, deadline(6 * effort)
    found: list[tuple[Question, Verdict, float]] = []
    for question in asked(of):
        # points of more numbers take longer to draw and to evaluate; the whole report stays within its time
        longer = ROW in of.kinds and not passed(end)
        of.ctx.seconds = least * (3 if longer else 1)
        found.append((question, *guarded(partial(question.decide, of))))
    of.ctx.seconds = 0.0
    for question, verdict, seconds in found:
        if question.property in CONTINUED and isinstance(verdict, Unknown):
            verdict, _ = guarded(partial(question.decide, of))
        yield of, question, verdict, seconds


__all__ = ["CONTINUED", "QUESTIONS", "Question", "Subject", "answers", "asked", "subject"]
