"""Finiteness in a float type: ranges in the arithmetic that emitted code uses, under a model of its functions.

float16 and bfloat16 inputs are computed with in float32, others in their own type. Every operation may be wrong by a
relative error (2^-20; functions 2^-16; exp and what is made of it (|x| + 2) 2^-20), may flush what is below the
smallest normal number to 0 or not, and overflows to infinity above the largest number. Functions keep to their natural
range (sigmoid in [0, 1], softplus >= 0). The per-element value must be finite in that arithmetic, every gradient
element after rounding to the input's type; extents are at most 2^31. `Proved` is meant under this model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from lossdsl.ir.nodes import REAL, Apply, Param, Program, Read, Scalar, postorder
from lossdsl.transform.gradient import gradient, value
from lossdsl.verify import enclosure as e
from lossdsl.verify.context import Context
from lossdsl.verify.corners import Numbers, as_type
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.float_ranges import FORMATS, FloatRanges, Format, PresentRanges
from lossdsl.verify.float_values import LARGEST
from lossdsl.verify.overflow import breaking, broken, nearer, overflowing
from lossdsl.verify.pieces import TWO_VALUED, NotScalar, dependents, target_scalar
from lossdsl.verify.ranges import Ranges
from lossdsl.verify.show import text
from lossdsl.verify.verdict import Bracket, Proved, Refuted, Step, Unknown, Verdict, Witness
from lossdsl.verify.work import deadline, passed

_SEARCHES = 8.0  # seconds of a search at points of the type, in those of one search for a witness


def programs_of(program: Program, target: str, wrt: tuple[str, ...]) -> list[tuple[Program, tuple[str, ...], bool]]:
    """Value and gradient programs as they are compiled; tensors that must be finite; whether they are rounded to F."""
    result: list[tuple[Program, tuple[str, ...], bool]] = [(value(program, target), (target,), False)]
    if wrt:
        derived = gradient(program, target, wrt)
        names = tuple(o.tensor for o in derived.outputs if o.name != "return")
        result.append((derived, names, True))
    return result


def finite_in(ctx: Context, target: str, word: str) -> Verdict:
    """Whether value and gradients of the target are finite for all finite inputs of the type, under the model."""
    form = FORMATS[word]
    wrt = tuple(i.name for i in ctx.program.inputs if i.differentiable and target in dependents(ctx.program, i.name))
    key = ("as compiled", target)  # the same for every format
    if not ctx.searching and key not in ctx.memo:
        # only a proof is wanted: no gradient is made where the value has none
        alone = programs_of(ctx.program, target, ())
        short = _not_finite(alone, ctx.assume, form, ctx)
        if short is not None and _in_parts(alone, ctx, {}, form, target, wrt, short) is not None:
            return Unknown(short, ("float ranges",))
    if key not in ctx.memo:
        try:
            ctx.memo[key] = programs_of(ctx.program, target, wrt)
        except (ValueError, NotImplementedError, KeyError) as reason:
            ctx.memo[key] = str(reason)
    programs = ctx.memo[key]
    if isinstance(programs, str):
        return Unknown(f"no gradient program: {programs}", ("float ranges",))
    cotangents = {f"{target}'": Enclosure(1.0, 1.0)}
    method = f"float ranges, under the model of {word} arithmetic"
    bad = _not_finite(programs, {**ctx.assume, **cotangents}, form, ctx)
    if bad is not None:
        bad = _in_parts(programs, ctx, cotangents, form, target, wrt, bad)
    if bad is None:
        gradients = (Step("float ranges", f"d {name}", f"gradient finite in {word}") for name in wrt)
        steps = (Step("float ranges", target, "value finite"), *gradients)
        return Proved(method, steps)
    if not ctx.searching:
        return Unknown(bad, ("float ranges",))
    safe = _safe(programs, ctx, cotangents, form, wrt, deepest=128)
    found = _overflow(programs, ctx, cotangents, form, wrt, safe) or _far_out(programs, ctx, form, target, wrt, safe)
    if found is None:
        return Unknown(bad, ("float ranges",), _within(safe, None))
    witness, size = found
    if safe is not None:
        safe = _between(programs, ctx, cotangents, form, wrt, safe, size)
    return Refuted(method, witness, _within(safe, size))


def _within(safe: float | None, size: float | None) -> Bracket | None:
    """The largest bound on real inputs under which everything is finite: at least `safe`, and less than `size`."""
    if safe is None:
        return None if size is None else Bracket(None, size, f"not finite where every real input is within {size:.6g}")
    rest = "" if size is None else f", not where within {size:.6g}"
    return Bracket(safe, size, f"finite where every real input is within {safe:.6g}{rest}")


def _not_finite(
    programs: list[tuple[Program, tuple[str, ...], bool]],
    assume: Mapping[str, Enclosure],
    form: Format,
    ctx: Context,
    kind: type[FloatRanges] = FloatRanges,
    given: Mapping[Scalar, Enclosure] | None = None,
) -> str | None:
    """The first tensor that may not be finite; `given`: what some scalars are in."""
    for program, names, narrow in programs:
        ranges = kind(program, assume, form, ctx.fixed)
        ranges.given = dict(given or {})
        ranges.written = ctx.memo.setdefault(("written out", names, narrow), {})
        limit = form.overflow if narrow else LARGEST
        for name in names:
            box = ranges.tensor(name)
            if box.nan or max(abs(box.lo), abs(box.hi)) > limit:
                return f"{name} may be {box}"
    return None


def _in_parts(
    programs: list[tuple[Program, tuple[str, ...], bool]],
    ctx: Context,
    cotangents: Mapping[str, Enclosure],
    form: Format,
    target: str,
    wrt: tuple[str, ...],
    whole: str,
    kind: type[FloatRanges] = FloatRanges,
) -> str | None:
    """As `_not_finite`, which says `whole` of all of the domain, part by part: the values of two-valued inputs, and boxes of
    a few real numbers (parameters, the difference, sum or quotient of two entries, an entry itself), which are halved where
    they are not decided.

    Of entries it is right only where one element of the target reads one entry of each of these inputs, so that they have
    one value."""
    single = {i.name for i in ctx.program.inputs if isinstance(only_entry(ctx, target, i.name), Read)}
    choices: list[list[tuple[str, Enclosure]]] = []
    for i in ctx.program.inputs:
        values = TWO_VALUED.get(i.kind, ())
        if values and i.name in single:
            choices.append([(i.name, Enclosure(float(v), float(v))) for v in values])
    blocked = f"{whole}, and no part of the domain can be taken alone"
    base = kind(ctx.program, {**ctx.assume, **cotangents}, form, ctx.fixed)
    end = deadline(_HALVING * ctx.seconds)
    for numbers in _variables(programs, wrt, single, ctx.searching):
        whole_box = [base.scope()[nodes[0]] for nodes in numbers]
        if any(b.nan or not b.bounded for b in whole_box):
            continue
        left = _MOST_PARTS
        found: str | None = None
        for part in itertools.product(*choices):
            assume = {**ctx.assume, **cotangents}
            for name, piece in part:
                assume[name] = e.meet(assume.get(name, piece), piece) or piece
            pending = [[Enclosure(b.lo, b.hi) for b in whole_box]]
            while pending and found is None:
                here = pending.pop()
                given = {n: b for nodes, b in zip(numbers, here, strict=True) for n in nodes}
                bad = _not_finite(programs, assume, form, ctx, kind, given)
                if bad is None:
                    continue
                halves, left = _halved(here), left - 1
                if not halves or left < 0 or passed(end):
                    said = [f"{text(nodes[0])} is in {b}" for nodes, b in zip(numbers, here, strict=True)]
                    found = f"{bad} where {', '.join([f'{n} is {b.lo:g}' for n, b in part] + said)}"
                pending += halves
        if found is None:
            return None
        blocked = found
    return blocked


_MOST_PARTS, _HALVING = 400, 8.0


def _variables(
    programs: list[tuple[Program, tuple[str, ...], bool]], wrt: tuple[str, ...], single: set[str], together: bool
) -> list[list[list[Scalar]]]:
    """Tuples of real numbers that can be split together, each as the nodes that are it, and no contraction changes it:
    differences and sums of two entries, single entries, quotients of these; parameters."""
    found: dict[tuple[str, ...], list[Scalar]] = {}
    parameters: dict[str, list[Scalar]] = {}
    quotients: dict[tuple[str, ...], list[Scalar]] = {}
    entries: dict[str, list[Scalar]] = {}
    real = [name for name in wrt if name in single]
    for program, _, _ in programs:
        for n in postorder(*(s for d in program.definitions() for s in d.scalars())):
            if isinstance(n, Param) and n.dtype is REAL:
                parameters.setdefault(n.name, []).append(n)
            if isinstance(n, Read) and n.tensor in single:
                entries.setdefault(n.tensor, []).append(n)
            if isinstance(n, Apply) and n.name in ("sub", "add") and n.dtype is REAL:
                ends = _ends(n, single)
                if ends is not None and any(t in real for t in ends):
                    found.setdefault((n.name, *ends), []).append(n)
            if isinstance(n, Apply) and n.name == "div" and isinstance(n.args[1], Read) and n.args[1].tensor in single:
                ends = _ends(n.args[0], single - {n.args[1].tensor})
                if ends is not None:
                    quotients.setdefault((*ends, n.args[1].tensor), []).append(n)
    if real and real[0] in entries:
        found[(real[0],)] = entries[real[0]]
    alone = [list(dict.fromkeys(nodes)) for _, nodes in sorted(found.items(), key=lambda entry: -len(entry[0]))]
    scales = [list(dict.fromkeys(nodes)) for _, nodes in sorted(parameters.items())][:_MOST_SCALES]
    tuples = [[nodes] for nodes in alone]
    if not together:  # what is compiled does not wait for more
        return tuples
    if scales:
        tuples += [scales, *([nodes, *scales] for nodes in alone)]
    return tuples + [
        [list(dict.fromkeys(n)), list(dict.fromkeys(entries[key[-1]]))] for key, n in sorted(quotients.items())[:1]
    ]


_MOST_SCALES = 2


def _ends(n: Scalar, single: set[str]) -> tuple[str, ...] | None:
    """The two inputs whose entries are subtracted or added."""
    if not isinstance(n, Apply):
        return None
    ends = tuple(a.tensor for a in n.args if isinstance(a, Read) and a.tensor in single)
    return ends if n.name in ("sub", "add") and len(ends) == 2 and ends[0] != ends[1] else None


def _halved(boxes: list[Enclosure]) -> list[list[Enclosure]]:
    """The box in two, along the number that is known least."""
    for k in sorted(range(len(boxes)), key=lambda k: -_width(boxes[k])):
        halves = _halves(boxes[k])
        if halves:
            return [[*boxes[:k], half, *boxes[k + 1 :]] for half in halves]
    return []


def _width(box: Enclosure) -> float:
    """How many doublings there are between the ends."""
    if box.lo < 0 < box.hi:
        return INF
    low, high = sorted((max(abs(box.lo), _NEAR_ZERO), max(abs(box.hi), _NEAR_ZERO)))
    return math.log2(high / low) if high / low < INF else math.log2(high) - math.log2(low)


_NEAR_ZERO, _NARROW = 2.0**-26, 1.0001


def _halves(box: Enclosure) -> list[Enclosure]:
    """The interval in two, at a number between its ends in size; none where it is small enough."""
    lo, hi = box.lo, box.hi
    if hi <= 0:
        return [e.neg(half) for half in _halves(e.neg(box))]
    if lo < 0:
        return [Enclosure(lo, 0.0), Enclosure(0.0, hi)]
    if (lo == 0 and hi < _NEAR_ZERO) or hi <= lo * _NARROW:
        return []
    middle = hi / 16 if lo == 0 else (lo * hi) ** 0.5 if lo * hi < INF else lo**0.5 * hi**0.5
    return [Enclosure(lo, middle), Enclosure(middle, hi)]


def only_entry(ctx: Context, target: str, name: str) -> Scalar | None:
    """The only read of an input in the target, if there is exactly one and nothing else depends on it."""
    try:
        body = target_scalar(ctx.program, target)
    except NotScalar:
        return None
    above = dependents(ctx.program, name)
    found = [n for n in postorder(body) if isinstance(n, Read) and n.tensor in above]
    return found[0] if len(found) == 1 and found[0].tensor == name else None


def _overflow(
    programs: list[tuple[Program, tuple[str, ...], bool]],
    ctx: Context,
    cotangents: Mapping[str, Enclosure],
    form: Format,
    wrt: tuple[str, ...],
    safe: float | None,
) -> tuple[Witness, float] | None:
    """A corner of the domain at which something certainly overflows, and the size of its largest entry."""
    reals = [i for i in ctx.program.inputs if i.differentiable]
    base = FloatRanges(ctx.program, ctx.assume, form, ctx.fixed)
    point: dict[str, Fraction] = {}
    for p in ctx.program.parameters:
        if p.default is None or not isinstance(p.default.value, Fraction):
            return None
        box = base.parameter(p.name)
        if not Fraction(box.lo) <= p.default.value <= Fraction(box.hi):
            return None
        point[p.name] = p.default.value
    if ctx.conditions or len(reals) > 3 or any(i.kind in ("simplex", "unit") or ctx.symbolic(i.name) for i in reals):
        return None
    boxes = {i.name: _attained(base, i.name, form) for i in reals}
    given = {**cotangents, **{n: e.exact(v) for n, v in point.items()}}
    limits = [(program, names, form.overflow if narrow else LARGEST) for program, names, narrow in programs]
    seed = next(iter(cotangents))

    def wrong(values: Mapping[str, float]) -> str | None:
        for program, names, narrow in programs:
            ranges = FloatRanges(program, {**given, **{n: Enclosure(v, v) for n, v in values.items()}}, form, ctx.fixed)
            limit = form.overflow * 1.003 if narrow else LARGEST
            for name in names:
                box = ranges.tensor(name)
                if not box.nan and (box.lo > limit or box.hi < -limit):
                    return f"{name} is {box}, outside of the type" if where(values) is not None else None
        return None

    def where(values: Mapping[str, float]) -> Mapping[str, int] | None:
        return _where_alike(ctx, limits, seed, values, point)

    for ends in itertools.product((0, 1), repeat=len(reals)):
        corner = {n: (box.lo, box.hi)[k] for (n, box), k in zip(boxes.items(), ends, strict=True)}
        said = wrong(corner)
        if said is not None:
            corner, said = _nearer(corner, said, wrong, boxes, form, safe or 0.0)
            whole = {**point, **{n: Fraction(v) for n, v in corner.items()}}
            size = max((abs(corner[name]) for name in wrt), default=0.0)
            return Witness((whole,), said, extents=where(corner) or {}), size
    return None


def _where_alike(
    ctx: Context,
    limits: Sequence[tuple[Program, Sequence[str], float]],
    cotangent: str,
    values: Mapping[str, float],
    parameters: Mapping[str, Fraction],
) -> Mapping[str, int] | None:
    """Extents at which something certainly overflows where all entries of each real input are alike: ranges do not know that
    a product may be contracted with an addition, which may bring it back."""
    for extent in (1, 2, 3, 5):
        low = ctx.sampler(22).point(spread=2.0, extent=extent)
        if low is None or low.parameters != parameters:
            continue
        labels = {i.name: Fraction(1 if i.kind == "sign" else 0) for i in ctx.program.inputs}
        alike = {name: ctx.fixed.get(name, labels[name]) for name in labels}
        alike |= {name: Fraction(v) for name, v in values.items()}
        point = low.with_inputs({name: dict.fromkeys(low.inputs[name], v) for name, v in alike.items()})
        if broken(ctx, limits, cotangent, point) is not None:
            return dict(point.extents)
    return None


def _attained(base: FloatRanges, name: str, form: Format) -> Enclosure:
    """What an input is in, without an end of 0 that does not belong to its domain."""
    box, whole = base.input(name), Ranges.input(base, name)
    return Enclosure(float(form.least), box.hi) if whole.lo == 0 == box.lo and whole.lo_open else box


def _nearer(
    corner: Mapping[str, float],
    said: str,
    wrong: Callable[[Mapping[str, float]], str | None],
    boxes: Mapping[str, Enclosure],
    form: Format,
    safe: float,
) -> tuple[dict[str, float], str]:
    """The corner of the smallest cube about 0 that is found to be wrong; none within `safe` is."""
    best, low = dict(corner), max(safe, float(form.least))
    for _ in range(_NEARER):
        high = max((abs(v) for v in best.values()), default=0.0)
        if high <= low * _NEAR_ENOUGH:
            break
        size = math.sqrt(low) * math.sqrt(high)
        here = {
            n: float(as_type(Fraction(min(max(v, -size), size)), boxes[n], form.bits, form.least))
            for n, v in best.items()
        }
        found = wrong(here) if max(map(abs, here.values())) < high else None
        if found is None:
            low = size
        else:
            best, said = here, found
    return best, said


_NEARER, _NEAR_ENOUGH = 10, 1.05


def _far_out(
    programs: list[tuple[Program, tuple[str, ...], bool]],
    ctx: Context,
    form: Format,
    target: str,
    wrt: tuple[str, ...],
    safe: float | None,
) -> tuple[Witness, float] | None:
    """A point at which a value, or an element of a gradient, is certainly far outside of the type; and the size of its
    largest entry."""
    base = FloatRanges(ctx.program, ctx.assume, form, ctx.fixed)
    boxes = {i.name: base.input(i.name) for i in ctx.program.inputs if i.differentiable}
    limits = [(program, names, form.overflow if narrow else LARGEST) for program, names, narrow in programs]
    one = f"{target}'"
    boxes |= {p.name: base.parameter(p.name) for p in ctx.program.parameters if p.kind == "real"}
    found = overflowing(ctx, limits, Numbers(boxes, form.bits, form.least), one)
    if found is None:
        found = breaking(ctx, limits, boxes, form.bits, form.least, one, _SEARCHES * ctx.seconds)
    if found is None:
        return None
    moved = [i.name for i in ctx.program.inputs if i.name in wrt and i.kind == "real" and boxes[i.name].bounded]
    found = nearer(ctx, limits, Numbers(boxes, form.bits, form.least), one, found, moved, safe or 0.0)
    return found.witness, float(found.size(wrt))


def _safe(
    programs: list[tuple[Program, tuple[str, ...], bool]],
    ctx: Context,
    cotangents: Mapping[str, Enclosure],
    form: Format,
    wrt: tuple[str, ...],
    kind: type[FloatRanges] = FloatRanges,
    *,
    deepest: int = 120,
) -> float | None:
    """A large bound on the size of all real inputs under which everything is certified, down to the largest number times
    2^-`deepest`."""
    low, high = None, form.largest
    steps = (k for k in (1, 2, 4, 8, 16, 32, 64, 96, 120, 124, 128) if k <= deepest)
    tries = [high * 2.0**-k for k in steps if high * 2.0**-k > 2.0**-10]
    for b in tries:
        if _fits(programs, ctx, cotangents, form, wrt, b, kind):
            low = b
            break
        high = b
    if low is None:
        return None
    return _between(programs, ctx, cotangents, form, wrt, low, high, kind)


def _between(
    programs: list[tuple[Program, tuple[str, ...], bool]],
    ctx: Context,
    cotangents: Mapping[str, Enclosure],
    form: Format,
    wrt: tuple[str, ...],
    low: float,
    high: float,
    kind: type[FloatRanges] = FloatRanges,
) -> float:
    """A larger bound below `high` under which everything is certified, by a few bisections; `low` is one."""
    for _ in range(5):
        if high <= low * _NEAR_ENOUGH:
            break
        middle = math.sqrt(low) * math.sqrt(high)
        if _fits(programs, ctx, cotangents, form, wrt, middle, kind):
            low = middle
        else:
            high = middle
    return low


def _fits(
    programs: list[tuple[Program, tuple[str, ...], bool]],
    ctx: Context,
    cotangents: Mapping[str, Enclosure],
    form: Format,
    wrt: tuple[str, ...],
    bound: float,
    kind: type[FloatRanges],
) -> bool:
    assume = {**ctx.assume, **cotangents}
    for name in wrt:
        box = e.meet(assume.get(name, Enclosure(-INF, INF)), Enclosure(-bound, bound))
        if box is None:
            return False
        assume[name] = box
    return _not_finite(programs, assume, form, ctx, kind) is None


def reach_of(
    programs: list[tuple[Program, tuple[str, ...], bool]], ctx: Context, word: str, target: str, wrt: tuple[str, ...]
) -> float:
    """The bound on the size of all real inputs under which tensors of programs are certified to be finite, if no axis is
    empty: inf if they always are, 0 if no bound is found."""
    form, cotangents = FORMATS[word], {f"{target}'": Enclosure(1.0, 1.0)}
    if _not_finite(programs, {**ctx.assume, **cotangents}, form, ctx, PresentRanges) is None:
        return INF
    if _in_parts(programs, ctx, cotangents, form, target, wrt, "", PresentRanges) is None:
        return INF
    return _safe(programs, ctx, cotangents, form, wrt, PresentRanges) or 0.0


__all__ = ["FORMATS", "FloatRanges", "finite_in", "programs_of", "reach_of"]
