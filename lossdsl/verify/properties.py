"""The properties, each decided by its engines in order of cost: rules, scalar view, then the search for a witness."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    AdjointMap,
    Apply,
    Const,
    Definition,
    Group,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Stop,
    postorder,
    tensors_of,
)
from lossdsl.ir.rewrite import free_indices, members
from lossdsl.verify import (
    chords,
    crowds,
    entries,
    escape,
    gradients,
    hessian,
    inequalities,
    moduli,
    novalue,
    partials,
    rays,
    refute,
    refute_order,
    regions,
    regularity,
    scalar,
    sequences,
    suprema,
    unread,
    violations,
)
from lossdsl.verify.context import Context
from lossdsl.verify.curvature import Curvatures
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import one_branch, smooth_at
from lossdsl.verify.pieces import NotScalar, View, dependents, fold, reads_any, views
from lossdsl.verify.ranges import Ranges, Scope
from lossdsl.verify.show import text
from lossdsl.verify.trends import Trend, Trends
from lossdsl.verify.verdict import Bracket, Proved, Refuted, Step, Unknown, Verdict
from lossdsl.verify.work import deadline, passed


def scalar_views(ctx: Context, target: str, entry: str, *, interior: bool = True) -> list[View] | str:
    """The views of the target in one input, or what stands in the way."""
    key = ("views", target, entry, interior)
    if key not in ctx.memo:
        try:
            found = views(ctx.program, ctx.ranges((entry,) if interior else ()), target, entry)
            ctx.memo[key] = [regions.narrowed(ctx.program, v, ctx.conditions, interior=interior) for v in found]
        except NotScalar as reason:
            ctx.memo[key] = str(reason)
    known: list[View] | str = ctx.memo[key]
    return known


def convexity(ctx: Context, target: str, inputs: tuple[str, ...], *, concave: bool = False) -> Verdict:
    """Joint convexity (concavity) of one element of the target in all entries of the inputs: of its value, whatever a file
    declares of derivatives."""
    ctx = ctx.of_values()
    key = ("convexity", target, inputs, concave)
    known: Verdict | None = ctx.memo.get(key)
    if known is None:
        known = _convexity(ctx, target, inputs, concave)
        if isinstance(known, Unknown):
            known = _in_stable_forms(ctx, target, lambda c: _convexity(c, target, inputs, concave)) or known
    elif isinstance(known, Unknown):  # the search goes on where it was left
        known = chords.chord(ctx, target, inputs, concave=concave) or known
    ctx.memo[key] = known
    return known


def _convexity(ctx: Context, target: str, inputs: tuple[str, ...], concave: bool) -> Verdict:
    if ctx.ranges(inputs).tensor(target).nan:
        found = chords.chord(ctx, target, inputs, concave=concave)
        return found or Unknown(f"{target} may be undefined", ("interval", "chord search"))
    rules = Curvatures(ctx.program, ctx.ranges(inputs), inputs, ctx.budget, deep=False)
    first = rules.verdict(target, concave=concave)
    if isinstance(first, Proved):
        return first
    second: Proved | Unknown = first
    quick = chords.chord(replace(ctx, seconds=ctx.seconds / 5), target, inputs, concave=concave)
    if quick is not None:
        return quick
    deeper = Curvatures(ctx.program, ctx.ranges(inputs), inputs, ctx.budget).verdict(target, concave=concave)
    if isinstance(deeper, Proved):
        return deeper
    if len(inputs) == 1:
        cases = scalar_views(ctx, target, inputs[0])
        if not isinstance(cases, str):
            second = scalar.convex(cases, ctx.budget, concave=concave)
            if isinstance(second, Proved):
                return second
    minors = hessian.semidefinite(ctx, target, inputs, concave=concave)
    if minors is not None:
        return minors
    found = chords.chord(ctx, target, inputs, concave=concave)
    if found is not None:
        return found
    blocker = second.blocker if isinstance(second, Unknown) else first.blocker
    return Unknown(
        blocker, ("composition rules", *(second.tried if isinstance(second, Unknown) else ()), "chord search")
    )


def _in_stable_forms(ctx: Context, target: str, decide: Callable[[Context], Verdict]) -> Proved | None:
    """A proof about the target in stable primitives: it has the same value wherever it is defined as it is written."""
    if ctx.ranges().tensor(target).nan:
        return None
    other = ctx.stable()
    if other is None or other.program.definition(target) is None:
        return None
    verdict = decide(replace(other, seconds=0.0))
    return verdict if isinstance(verdict, Proved) else None


def affine(ctx: Context, target: str, inputs: tuple[str, ...]) -> Verdict:
    both = []
    for concave in (False, True):
        verdict = convexity(ctx, target, inputs, concave=concave)
        if isinstance(verdict, Refuted):
            return verdict
        both.append(verdict)
    for verdict in both:
        if not isinstance(verdict, Proved):
            return verdict
    return Proved("convex and concave", (Step("both curvatures", target, "affine"),))


# ----------------------------------------------------------------------------------------------- bounds


def nonnegative(ctx: Context, target: str, *, strict: bool = False) -> Verdict:
    """Every element of the target is >= 0 (> 0)."""
    verdict = _nonnegative(ctx, target, strict)
    if isinstance(verdict, Unknown):
        return _in_stable_forms(ctx, target, lambda c: _nonnegative(c, target, strict)) or verdict
    return verdict


def _nonnegative(ctx: Context, target: str, strict: bool) -> Verdict:
    box = ctx.ranges().tensor(target)
    if box.positive or (box.nonnegative and not strict):
        return Proved("interval enclosure", (Step("enclosure", target, f"in {box}"),))
    shown = None if strict else inequalities.nonnegative(ctx, target)
    if shown is not None:
        return shown
    blocked = _known(ctx, target, box)
    for i in ctx.program.inputs:
        if i.differentiable and target in dependents(ctx.program, i.name):
            cases = scalar_views(ctx, target, i.name, interior=False)
            if isinstance(cases, str):
                continue
            verdict = scalar.slope_between(cases, Const(0), None, ctx.budget, order=0, strict=strict)
            if isinstance(verdict, Proved):
                return Proved("value, piece by piece", verdict.steps)
            blocked = verdict.blocker
            lowest = scalar.least_at_stationary(cases, ctx.budget, strict=strict)
            if lowest is not None:
                return lowest
            break
    found = refute.negative(ctx, target, strict=strict) or novalue.undefined(ctx, target)
    if found is None and strict:
        found = novalue.zero(ctx, target)
    return found or Unknown(blocked, ("interval", "pieces", "search"))


def with_difference(
    ctx: Context, name: str, low: Scalar, high: Scalar, further: Iterable[Definition | Group] = ()
) -> Context:
    """The context with one more tensor, `high - low`."""
    body = fold(Apply("sub", (_real(high), _real(low))))
    definition = Definition(name, free_indices(body), "map", (), TRUE, body)
    present = {d.tensor for d in ctx.program.definitions()}
    more = tuple(item for item in further if all(d.tensor not in present for d in members(item)))
    return ctx.extended((*more, definition))


def _real(n: Scalar) -> Scalar:
    return n if n.dtype is REAL else Apply("real", (n,))


# ------------------------------------------------------------------------------------------ differentiability


@dataclass(frozen=True)
class Smoothness:
    """The largest class that is proved ("smooth", "C2", "C1", "C0"; "" for none), and whether the next one fails."""

    proved: str
    evidence: Proved | None
    fails: tuple[int, Refuted, str] | None  # the order of the derivative that jumps, the witness, the surface
    blocker: str = ""


_CLASSES = ("C0", "C1", "C2", "smooth")


def smoothness(ctx: Context, target: str, inputs: tuple[str, ...]) -> Smoothness:
    ctx, key = ctx.of_values(), ("smoothness", target, inputs)
    if key not in ctx.memo:
        ctx.memo[key] = _further(ctx, target, inputs, _smoothness(ctx, target, inputs))
    known: Smoothness = ctx.memo[key]
    return known


def _further(ctx: Context, target: str, inputs: tuple[str, ...], found: Smoothness) -> Smoothness:
    """What composition and a search for kinks have to add."""
    if found.proved == "smooth" or found.fails is not None:
        return found
    known = _CLASSES.index(found.proved) if found.proved else regularity.NONE
    more = regularity.decide(ctx, target, inputs, known)
    fails = None if more.fails is None else (*more.fails, "")
    if more.evidence is None:
        return replace(found, fails=fails, blocker=found.blocker or more.blocker)
    return Smoothness(_CLASSES[more.order], more.evidence, fails, more.blocker or found.blocker)


def _smoothness(ctx: Context, target: str, inputs: tuple[str, ...]) -> Smoothness:
    composed = smooth_composition(ctx.program, ctx.ranges(inputs), target, inputs)
    if isinstance(composed, Proved):
        return Smoothness("smooth", composed, None)
    blocker, fails, best = composed, None, None
    proved = ""
    if len(inputs) == 1:
        cases = scalar_views(ctx, target, inputs[0])
        if isinstance(cases, str):
            return Smoothness("", None, None, f"{composed}")
        for order, name in enumerate(_CLASSES):
            verdict = scalar.differentiable(cases, min(order, 3), ctx.budget)
            if isinstance(verdict, Proved):
                if name == "smooth" and not scalar.without_joins(cases, ctx.budget):
                    break
                proved, best = name, verdict
            else:
                blocker = verdict.blocker
                found = refute.kink(ctx, cases, order, ctx.budget, target)
                if found is not None:
                    fails = (found[1], found[0], found[2])
                break
    return Smoothness(proved, best, fails, blocker)


def smooth_composition(program: Program, ranges: Ranges, target: str, inputs: tuple[str, ...]) -> Proved | str:
    """Whether every operation between inputs and target is smooth where it is used; else the first that is not."""
    if not ranges.tensor(target).finite:
        return f"{target} may be undefined or infinite"
    varying = frozenset().union(*(dependents(program, x) for x in inputs))
    steps: list[Step] = []
    needed = {target}
    for item in reversed(program.body):
        members = item.definitions if isinstance(item, Group) else (item,)
        for d in members:
            if d.tensor not in needed:
                continue
            reads = {*tensors_of(d.scalars())}
            needed |= reads
            if d.tensor not in varying:
                continue
            if isinstance(item, Group):
                return f"{d.tensor}: a recurrence"
            blocked = _rough(program, ranges, d, varying)
            if blocked is not None:
                return blocked
            steps.append(Step("composition of smooth records", d.tensor, "smooth"))
    return Proved("composition", tuple(steps) or (Step("does not vary", target, "constant"),))


def _rough(program: Program, ranges: Ranges, d: Definition, varying: frozenset[str]) -> str | None:
    def moves(n: Scalar) -> bool:
        return reads_any(varying, n)

    if moves(d.where) or moves(d.support):
        return f"{d.tensor}: the selection depends on the input"
    if d.head not in ("map", "sum", "logsumexp", "prod"):
        return f"{d.tensor}: {d.head} has corners"
    scope = ranges.body_scope(d)
    for condition in (d.where, d.support):
        narrowed = scope.under(condition, True)
        if narrowed is None:
            return None
        scope = narrowed
    return _rough_scalar(d.body, scope, moves)


def _rough_scalar(node: Scalar, scope: Scope, moves: Callable[[Scalar], bool]) -> str | None:
    if isinstance(node, Select):
        if moves(node.condition):
            return f"{text(node)}: a branch on the input"
        for branch, holds in ((node.a, True), (node.b, False)):
            inner = scope.under(node.condition, holds)
            found = _rough_scalar(branch, inner.reading(branch), moves) if inner is not None else None
            if found is not None:
                return found
        return None
    if not moves(node):
        return None
    if isinstance(node, (Stop, Proxy, AdjointMap)):
        return f"{text(node)}: value and derivative are declared apart"
    for child in node.children:
        found = _rough_scalar(child, scope, moves)
        if found is not None:
            return found
    if not scope[node].finite:
        return f"{text(node)}: may be undefined or infinite"
    if isinstance(node, Apply):
        boxes = [scope[a] for a in node.args]
        if not smooth_at(node, boxes) and not one_branch(node.name, boxes):
            return f"{text(node)}: {node.name} has a corner or a singular point here"
    return None


# -------------------------------------------------------------------------------------------- slopes


def lipschitz(ctx: Context, target: str, inputs: tuple[str, ...], bound: Scalar | None, norm: str = "l2") -> Verdict:
    """|f(x) - f(y)| <= bound * |x - y|; without a bound: for some constant, for each value of everything else."""
    ctx, bound = ctx.of_values(), None if bound is None else fold(bound)
    if len(inputs) != 1:
        return Unknown("a Lipschitz constant in several inputs at once", ())
    cases = scalar_views(ctx, target, inputs[0])
    blocker = cases if isinstance(cases, str) else ""
    if not isinstance(cases, str):
        exact = suprema.largest(ctx, cases, 1) if bound is None else None
        if exact is not None:
            return exact
        bounds = [bound] if bound is not None else list(candidates(ctx.program))
        end = deadline(4 * ctx.seconds)
        for b in bounds:
            if passed(end):
                break
            if bound is None and refute.steep(replace(ctx, seconds=0.02), target, inputs, b) is not None:
                continue
            verdict = scalar.slope_between(cases, fold(Apply("neg", (b,))), b, ctx.budget)
            if isinstance(verdict, Proved):
                upper = float(b.value) if isinstance(b, Const) and not isinstance(b.value, str) else None
                return Proved(verdict.method, verdict.steps, Bracket(None, upper, None))
            blocker = verdict.blocker
        if bound is None:
            grown = refute.unbounded_slope(ctx, cases)
            if grown is not None:
                return grown
            some = scalar.slope_bounded(cases, ctx.budget)
            closed = scalar_views(ctx, target, inputs[0], interior=False)
            if isinstance(some, Unknown) and not isinstance(closed, str):  # smooth up to the ends of the domain
                some = scalar.slope_bounded(closed, ctx.budget)
            if isinstance(some, Proved):
                return replace(some, value=Bracket(None, None, None))
    coupled = gradients.lipschitz(ctx, target, inputs[0], bound, norm)
    if isinstance(coupled, Proved):
        return coupled
    one_entry = entries.lipschitz(ctx, target, inputs[0], bound, norm)
    if one_entry is not None:
        return one_entry
    if bound is None:
        composed = moduli.lipschitz(ctx, target, inputs[0])
        if isinstance(composed, Proved):
            return composed
    elif norm == "l1":
        entrywise = partials.lipschitz(ctx, target, inputs[0], bound, lambda: moduli.lipschitz(ctx, target, inputs[0]))
        if entrywise is not None:
            return entrywise
    found = _steep(ctx, target, inputs, bound, norm, cases) if bound is not None else None
    found = found or rays.unbounded_slope(ctx, target, inputs) or _broken_off(ctx, target, inputs)
    return found or Unknown(blocker or coupled.blocker, ("pieces", "gradient masses", "search", "germs along paths"))


def _steep(
    ctx: Context, target: str, inputs: tuple[str, ...], bound: Scalar, norm: str, cases: list[View] | str
) -> Refuted | None:
    """Two points that are too far apart in value: around where the slope seems to be, else by search."""
    if not isinstance(cases, str):
        for pair in violations.pairs(ctx, target, cases, fold(Apply("neg", (bound,))), bound, 1):
            found = refute.steeper(ctx, pair, inputs, target, bound, norm)
            if found is not None:
                return found
    return refute.steep(ctx, target, inputs, bound, norm)


def _broken_off(ctx: Context, target: str, inputs: tuple[str, ...]) -> Refuted | None:
    """A point at which the value jumps or is no real number: no constant holds there."""
    fails = smoothness(ctx, target, inputs).fails
    return fails[1] if fails is not None and fails[0] == 0 else None


def candidates(program: Program) -> Iterable[Scalar]:
    """Constants that are often the Lipschitz constant: numbers, and parameters or their reciprocals."""
    yield Const(1)
    reals = [Param(p.name) for p in program.parameters if p.kind == "real"]
    for p in reals:
        yield p
        yield Apply("div", (Const(1), p))
    for k in (2, 4, 16):
        yield Const(k)


def monotone(ctx: Context, target: str, inputs: tuple[str, ...], *, increasing: bool, strict: bool) -> Verdict:
    if len(inputs) != 1:
        return Unknown("monotonicity in several inputs at once", ())
    cases = scalar_views(ctx, target, inputs[0])
    inside = () if ctx.jumps_at_ends(frozenset(inputs)) else inputs
    if not isinstance(cases, str):
        quick = replace(ctx, seconds=ctx.seconds / 5)
        found = refute_order.disordered(quick, target, inputs[0], increasing=increasing, strict=strict)
        if found is not None:
            return found
        decided = _slope_sign(ctx, target, inputs[0], increasing=increasing, strict=strict)
        if isinstance(decided, Unknown) and not strict:
            plain = Trends(ctx.program, ctx.ranges(inside), inputs[0], lambda _: Trend(False, False))
            carried = plain.verdict(target, increasing=increasing)
            decided = carried if isinstance(carried, Proved) else decided
        if isinstance(decided, Unknown):
            found = refute_order.disordered(ctx, target, inputs[0], increasing=increasing, strict=strict)
        return found or decided
    declared = ctx.program.input(inputs[0])
    if strict or declared is None or declared.over:
        return Unknown(cases, ("pieces",))

    def by_slope(name: str) -> Trend:
        signs = (_slope_sign(ctx, name, inputs[0], increasing=up, strict=False) for up in (True, False))
        rises, falls = (isinstance(v, Proved) for v in signs)
        return Trend(rises, falls)

    carried = Trends(ctx.program, ctx.ranges(inside), inputs[0], by_slope).verdict(target, increasing=increasing)
    if isinstance(carried, Proved):
        return carried
    return refute_order.disordered(ctx, target, inputs[0], increasing=increasing, strict=strict) or carried


def views_to_the_ends(ctx: Context, target: str, entry: str) -> list[View] | str:
    """The views of the inside of the domain, if what holds there of an order of values holds up to its ends: if no value
    jumps at one; else those of all of it."""
    closed, cases = (scalar_views(ctx, target, entry, interior=inside) for inside in (False, True))
    if isinstance(closed, str) or isinstance(cases, str):
        return str(closed if isinstance(closed, str) else cases)
    return closed if ctx.jumps_at_ends(frozenset({entry})) or any(map(regions.jumps, closed)) else cases


def _slope_sign(ctx: Context, target: str, entry: str, *, increasing: bool, strict: bool) -> Verdict:
    """Monotonicity of an element that depends on one entry of the input, by the sign of its slope: inside of the domain,
    if the value does not jump at its ends."""
    cases = views_to_the_ends(ctx, target, entry)
    if isinstance(cases, str):
        return Unknown(cases, ("pieces",))
    zero = Const(0)
    low, high = (zero, None) if increasing else (None, zero)
    return scalar.slope_between(cases, low, high, ctx.budget, strict=strict)


def second_derivative(
    ctx: Context, target: str, inputs: tuple[str, ...], low: Scalar | None, high: Scalar | None
) -> Verdict:
    """low <= f'' <= high with continuous slope: strong convexity, Lipschitz gradients."""
    if len(inputs) != 1:
        return Unknown("a second derivative in several inputs at once", ())
    cases = scalar_views(ctx, target, inputs[0])
    if isinstance(cases, str):
        return Unknown(cases, ("pieces",))
    least = ctx.ranges().scope()[low] if low is not None else None
    if least is not None and not least.nonpositive and unread.unread(ctx, target, cases):
        flat = unread.constant(ctx, target, cases) if least.positive else None
        return flat or Unknown(f"other entries of {inputs[0]} than the one that is read", ("pieces",))
    quick = refute_order.bent(replace(ctx, seconds=ctx.seconds / 5), target, inputs[0], low, high)
    if quick is not None:
        return quick
    decided = scalar.slope_between(cases, low, high, ctx.budget, order=2)
    if isinstance(decided, Proved):
        return decided
    around = violations.pairs(ctx, target, cases, low, high, 2)
    found = refute_order.bent(ctx, target, inputs[0], low, high, around) if ctx.searching else None
    return found or refute_order.bent(ctx, target, inputs[0], low, high) or decided


def _known(ctx: Context, target: str, box: Enclosure) -> str:
    """What is known of the values of a tensor, and of what in it no bound is known: the reason for no answer."""
    definition = ctx.program.definition(target)
    what = text(definition.body, 60) if definition is not None and definition.head == "map" else target
    said = f"all that is known of {what} is that it is {'undefined or ' if box.nan else ''}in {replace(box, nan=False)}"
    if definition is None:
        return said
    reads = [n for n in postorder(definition.body) if isinstance(n, Read)]
    ranges = {text(n, 30): ctx.ranges().tensor(n.tensor) for n in reads}
    open_ = [
        f"{name} ({'no bound' if low and high else 'no bound from below' if low else 'no bound from above'})"
        for name, r in ranges.items()
        for low, high in [(r.lo == -INF, r.hi == INF)]
        if low or high
    ]
    return f"{said}; it reads {', '.join(open_[:3])}" if open_ else said


def bounded(ctx: Context, target: str) -> Verdict:
    """Whether one bound holds for all values of everything."""
    box = ctx.ranges().tensor(target)
    if box.bounded:
        return Proved("interval enclosure", (Step("enclosure", target, f"in {box}"),))
    if not box.nan and box.hi < INF:
        least = nonnegative(ctx, target)
        if isinstance(least, Proved):
            return Proved(least.method, (*least.steps, Step("enclosure", target, f"at most {box.hi:g}")))
    found = refute_order.infinite(replace(ctx, seconds=ctx.seconds / 5), target) or sequences.unbounded(ctx, target)
    for i in ctx.program.inputs:
        if found is not None:
            return found
        if not i.differentiable or target not in dependents(ctx.program, i.name):
            continue
        for concave in (False, True):
            if isinstance(convexity(ctx, target, (i.name,), concave=concave), Proved):
                found = found or refute_order.outgrows(ctx, target, i.name, concave=concave)
    found = found or crowds.unbounded(ctx, target) or escape.unbounded(ctx, target) or novalue.undefined(ctx, target)
    return found or Unknown(
        _known(ctx, target, box),
        ("interval", "limits along sequences", "rays of convex losses", "germs along paths", "search"),
    )
