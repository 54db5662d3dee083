"""Finiteness in a float type: ranges in the arithmetic that emitted code uses, under a model of its functions.

float16 and bfloat16 inputs are computed with in float32, others in their own type. Every operation may be wrong by a
relative error (2^-20; functions 2^-16; exp and what is made of it (|x| + 2) 2^-20), may flush what is below the
smallest normal number to 0 or not, and overflows to infinity above the largest number. Functions keep to their natural
range (sigmoid in [0, 1], softplus >= 0). The per-element value must be finite in that arithmetic, every gradient
element after rounding to the input's type; extents are at most 2^31. `Proved` is meant under this model.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir.nodes import Apply, Definition, Program, Read, Scalar, postorder
from lossdsl.transform.differentiate import differentiate
from lossdsl.transform.simplify import simplify
from lossdsl.transform.stabilise import stabilise
from lossdsl.verify import enclosure as e
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import ANYTHING, INF, Enclosure
from lossdsl.verify.operations import transfer
from lossdsl.verify.overflow import breaking, overflowing
from lossdsl.verify.pieces import NotScalar, dependents, target_scalar
from lossdsl.verify.ranges import Ranges, Scope
from lossdsl.verify.verdict import Bracket, Proved, Refuted, Step, Unknown, Verdict, Witness


@dataclass(frozen=True)
class Format:
    """A float type: its largest number, what still rounds to it, its smallest positive one, the largest below 1."""

    name: str
    largest: float
    overflow: float
    smallest: float
    below_one: float
    bits: int  # of a mantissa

    @property
    def least(self) -> Fraction:
        """The smallest number that is not flushed to 0."""
        return Fraction(self.smallest) or Fraction(NORMAL)


FORMATS = {
    "float16": Format("float16", 65504.0, 65519.0, 2.0**-24, 1 - 2.0**-11, 11),
    "bfloat16": Format("bfloat16", float.fromhex("0x1.fep127"), float.fromhex("0x1.fep127"), 0.0, 1 - 2.0**-8, 8),
    "float32": Format(
        "float32", float.fromhex("0x1.fffffep127"), float.fromhex("0x1.fffffep127"), 0.0, 1 - 2.0**-24, 24
    ),
}
LARGEST, NORMAL = FORMATS["float32"].largest, 2.0**-126
_LONGEST = 2.0**31
_SEARCHES = 8.0  # seconds of a search at points of the type, in those of one search for a witness
_EXPONENTIAL = frozenset({"exp", "expm1", "expdiff", "pow", "powi", "cosh", "sinh"})
_BASIC = frozenset({"add", "sub", "mul", "div", "neg", "real", "int", "abs", "max2", "min2", "relu", "clamp"})
_NATURAL = {
    "sigmoid": (0.0, 1.0 + 2.0**-20),
    "tanh": (-1.0, 1.0),
    "softplus": (0.0, INF),
    "logsigmoid": (-INF, 0.0),
    "exp": (0.0, INF),
    "expdiff": (0.0, INF),
    "sqrt": (0.0, INF),
    "logcosh": (0.0, INF),
    "erfc": (0.0, INF),
    "normal_cdf": (0.0, 1.0),
    "log_normal_cdf": (-INF, 0.0),
    "erf": (-1.0, 1.0),
    "cosh": (1.0, INF),
}


def rounded(value: Enclosure, relative: float) -> Enclosure:
    """What float32 may make of a value: error, flush to zero, overflow."""
    if value.nan:
        return ANYTHING
    lo = e.add_down(value.lo, -abs(value.lo) * relative) if abs(value.lo) < INF else value.lo
    hi = e.add_up(value.hi, abs(value.hi) * relative) if abs(value.hi) < INF else value.hi
    if 0 < lo < 2 * NORMAL:
        lo = 0.0
    if -2 * NORMAL < hi < 0:
        hi = 0.0
    lo = -INF if lo < -LARGEST else INF if lo > LARGEST else lo
    hi = INF if hi > LARGEST else -INF if hi < -LARGEST else hi
    return Enclosure(lo, hi)


class FloatRanges(Ranges):
    """Ranges of what float32 arithmetic computes for inputs and parameters of a format."""

    def __init__(
        self, program: Program, assume: Mapping[str, Enclosure], form: Format, fixed: Mapping[str, Fraction]
    ) -> None:
        super().__init__(program, assume)
        self.form, self.fixed = form, fixed

    def parameter(self, name: str) -> Enclosure:
        return self._representable(super().parameter(name))

    def input(self, name: str) -> Enclosure:
        return self._representable(super().input(name))

    def _representable(self, box: Enclosure) -> Enclosure:
        f = self.form
        lo, hi = max(box.lo, -f.largest), min(box.hi, f.largest)
        if lo == 0 and box.lo_open and lo < hi:
            lo = min(f.smallest, hi)
        if hi == 1 and box.hi_open and lo < f.below_one:
            hi = f.below_one
        return Enclosure(lo, hi) if lo <= hi else Enclosure(box.lo, box.hi)

    def extent(self, dim: Dim, nonempty: frozenset[Dim]) -> Enclosure:
        box = super().extent(dim, nonempty)
        return Enclosure(box.lo, min(box.hi, _LONGEST))

    def constant(self, value: Enclosure) -> Enclosure:
        return rounded(value, 2.0**-23) if value.lo != 0 or value.hi != 0 else value

    def operation(self, node: Apply, args: list[Enclosure]) -> Enclosure:
        if node.name in ("neg", "real", "int", "abs", "max2", "min2", "relu", "clamp"):
            return transfer(node, args)
        found = transfer(node, args)
        if found.nan:
            return ANYTHING
        if node.name in _BASIC or node.dtype.value != "real":
            return rounded(found, 2.0**-20)
        reach = max((max(abs(a.lo), abs(a.hi)) for a in args), default=0.0)
        error = min(1.0, (min(reach, 200.0) + 2) * 2.0**-20) if node.name in _EXPONENTIAL else 2.0**-16
        result = rounded(found, error)
        lo, hi = _NATURAL.get(node.name, (-INF, INF))
        return Enclosure(max(result.lo, lo), min(result.hi, hi)) if result.hi >= lo and result.lo <= hi else result

    def refine(self, node: Apply, found: Enclosure, scope: Scope) -> Enclosure:
        """An element minus the log-sum-exp of its row exceeds 0 only by the error of the latter."""
        if found.nan or node.name not in ("sub", "expdiff"):
            return found
        fact = self._difference(node.args[0], node.args[1], scope)
        if fact is None:
            return found
        size = max(abs(v) for a in node.args for v in (scope[a].lo, scope[a].hi))
        if size == INF:
            return found
        slack = size * 2.0**-16 + 2.0**-16
        if node.name == "expdiff":
            top = 1.0 + 2 * slack if slack < 1 else INF
            return Enclosure(found.lo, min(found.hi, top)) if found.lo <= top else found
        if fact.hi == 0:
            return Enclosure(found.lo, min(found.hi, slack)) if found.lo <= slack else found
        return Enclosure(max(found.lo, -slack), found.hi) if found.hi >= -slack else found

    def _definition(self, d: Definition, nonempty: frozenset[Dim]) -> Enclosure:
        box = super()._definition(d, nonempty)
        if d.head in ("map", "max", "min", "any", "all", "argmax", "argmin", "argsort", "count") or box.nan:
            return box
        if box.hi == INF or box.lo == -INF:  # the fold may be long: bound it by the longest axes
            inside = nonempty | frozenset(i.dim for i in d.bound)
            body = self.scope(inside)[d.body]
            most = 1.0
            for i in d.bound:
                most *= i.dim.constant if i.dim.constant is not None else _LONGEST
            if body.nan or not body.bounded or d.head not in ("sum", "logsumexp"):
                return Enclosure(box.lo, box.hi)
            if d.head == "sum":
                box = Enclosure(min(0.0, body.lo) * most, max(0.0, body.hi) * most)
            else:
                box = Enclosure(box.lo, body.hi + 22.0 * max(1, len(d.bound)))
        return rounded(box, 2.0**-16)


def programs_of(program: Program, target: str, wrt: tuple[str, ...]) -> list[tuple[Program, tuple[str, ...], bool]]:
    """Value and gradient programs as they are compiled; tensors that must be finite; whether they are rounded to F."""
    value = simplify(stabilise(program))
    result: list[tuple[Program, tuple[str, ...], bool]] = [(value, (target,), False)]
    if wrt:
        derived = simplify(stabilise(differentiate(program, target, wrt, trusted=True)))
        names = tuple(o.tensor for o in derived.outputs if o.name != "return")
        result.append((derived, names, True))
    return result


def finite_in(ctx: Context, target: str, word: str) -> Verdict:
    """Whether value and gradients of the target are finite for all finite inputs of the type, under the model."""
    form = FORMATS[word]
    wrt = tuple(i.name for i in ctx.program.inputs if i.differentiable and target in dependents(ctx.program, i.name))
    try:
        programs = programs_of(ctx.program, target, wrt)
    except (ValueError, NotImplementedError, KeyError) as reason:
        return Unknown(f"no gradient program: {reason}", ("float ranges",))
    cotangents = {f"{target}'": Enclosure(1.0, 1.0)}
    method = f"float ranges, under the model of {word} arithmetic"
    bad = _not_finite(programs, {**ctx.assume, **cotangents}, form, ctx)
    if bad is not None:
        bad = _in_parts(programs, ctx, cotangents, form, target, wrt)
    if bad is None:
        gradients = (Step("float ranges", f"d {name}", f"gradient finite in {word}") for name in wrt)
        steps = (Step("float ranges", target, "value finite"), *gradients)
        return Proved(method, steps)
    witness = _overflow(programs, ctx, cotangents, form) or _far_out(programs, ctx, form, target)
    safe = _safe(programs, ctx, cotangents, form, wrt)
    value = Bracket(None, safe, f"finite where every real input is within {safe:.6g}" if safe else None)
    if witness is not None:
        return Refuted(method, witness, value)
    return Unknown(bad, ("float ranges",), value)


def _not_finite(
    programs: list[tuple[Program, tuple[str, ...], bool]],
    assume: Mapping[str, Enclosure],
    form: Format,
    ctx: Context,
    kind: type[FloatRanges] = FloatRanges,
) -> str | None:
    """The first tensor that may not be finite."""
    for program, names, narrow in programs:
        ranges = kind(program, assume, form, ctx.fixed)
        limit = form.overflow if narrow else LARGEST
        for name in names:
            box = ranges.tensor(name)
            if box.nan or max(abs(box.lo), abs(box.hi)) > limit:
                return f"{name} may be {box}"
    return None


_CUTS = (0.0, 0.25, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 24.0, 48.0, 100.0, 1000.0, INF)


def _in_parts(
    programs: list[tuple[Program, tuple[str, ...], bool]],
    ctx: Context,
    cotangents: Mapping[str, Enclosure],
    form: Format,
    target: str,
    wrt: tuple[str, ...],
    kind: type[FloatRanges] = FloatRanges,
) -> str | None:
    """As `_not_finite`, part by part: the values of two-valued inputs, and intervals of one real input.

    Right only where one element of the target reads one entry of each of these inputs, so that they have one value."""
    choices: list[list[tuple[str, Enclosure]]] = []
    real = next((n for n in wrt if isinstance(only_entry(ctx, target, n), Read)), None)
    if real is None:
        return "no part of the domain can be taken alone"
    for i in ctx.program.inputs:
        values = {"binary": (0.0, 1.0), "bool": (0.0, 1.0), "sign": (-1.0, 1.0)}.get(i.kind, ())
        if values and isinstance(only_entry(ctx, target, i.name), Read):
            choices.append([(i.name, Enclosure(v, v)) for v in values])
    box = FloatRanges(ctx.program, ctx.assume, form, ctx.fixed).input(real)
    cuts = sorted({-c for c in _CUTS} | set(_CUTS))
    parts = [e.meet(box, Enclosure(a, b)) for a, b in itertools.pairwise(cuts)]
    choices.append([(real, p) for p in parts if p is not None])
    for part in itertools.product(*choices):
        assume = {**ctx.assume, **cotangents}
        for name, piece in part:
            assume[name] = e.meet(assume.get(name, piece), piece) or piece
        bad = _not_finite(programs, assume, form, ctx, kind)
        if bad is not None:
            where = ", ".join(f"{n} in {b}" for n, b in part)
            return f"{bad} where {where}"
    return None


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
) -> Witness | None:
    """A corner of the domain at which something certainly overflows."""
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
    for ends in itertools.product((0, 1), repeat=len(reals)):
        values = {i.name: (base.input(i.name).lo, base.input(i.name).hi)[k] for i, k in zip(reals, ends, strict=True)}
        assume = {**cotangents, **{n: Enclosure(v, v) for n, v in values.items()}}
        assume |= {n: e.exact(v) for n, v in point.items()}
        for program, names, narrow in programs:
            ranges = FloatRanges(program, assume, form, ctx.fixed)
            limit = form.overflow * 1.003 if narrow else LARGEST
            for name in names:
                box = ranges.tensor(name)
                if not box.nan and (box.lo > limit or box.hi < -limit):
                    whole = {**point, **{n: Fraction(v) for n, v in values.items()}}
                    return Witness((whole,), f"{name} is {box}, outside of the type")
    return None


def _far_out(
    programs: list[tuple[Program, tuple[str, ...], bool]], ctx: Context, form: Format, target: str
) -> Witness | None:
    """A point at which a value, or an element of a gradient, is certainly far outside of the type."""
    base = FloatRanges(ctx.program, ctx.assume, form, ctx.fixed)
    boxes = {i.name: base.input(i.name) for i in ctx.program.inputs if i.differentiable}
    limits = [(program, names, form.overflow if narrow else LARGEST) for program, names, narrow in programs]
    found = overflowing(ctx, limits, boxes, f"{target}'")
    if found is None:
        boxes |= {p.name: base.parameter(p.name) for p in ctx.program.parameters if p.kind == "real"}
        found = breaking(ctx, limits, boxes, form.bits, form.least, f"{target}'", _SEARCHES * ctx.seconds)
    return found


def _safe(
    programs: list[tuple[Program, tuple[str, ...], bool]],
    ctx: Context,
    cotangents: Mapping[str, Enclosure],
    form: Format,
    wrt: tuple[str, ...],
    kind: type[FloatRanges] = FloatRanges,
) -> float | None:
    """The largest bound (to a factor 2^(1/8)) on the size of all real inputs under which everything is certified."""
    low, high = None, form.largest
    tries = [high * 2.0**-k for k in (1, 2, 4, 8, 16, 32, 64, 96, 120) if high * 2.0**-k > 2.0**-10]
    for b in tries:
        if _fits(programs, ctx, cotangents, form, wrt, b, kind):
            low = b
            break
        high = b
    if low is None:
        return None
    for _ in range(5):
        middle = (low * high) ** 0.5
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


class PresentRanges(FloatRanges):
    """Float ranges where every axis has an element."""

    def extent(self, dim: Dim, nonempty: frozenset[Dim]) -> Enclosure:
        box = super().extent(dim, nonempty)
        return Enclosure(max(box.lo, 1.0), box.hi) if box.hi >= 1.0 else box


def reach_of(
    programs: list[tuple[Program, tuple[str, ...], bool]], ctx: Context, word: str, target: str, wrt: tuple[str, ...]
) -> float:
    """The bound on the size of all real inputs under which tensors of programs are certified to be finite, if no axis is
    empty: inf if they always are, 0 if no bound is found."""
    form, cotangents = FORMATS[word], {f"{target}'": Enclosure(1.0, 1.0)}
    if _not_finite(programs, {**ctx.assume, **cotangents}, form, ctx, PresentRanges) is None:
        return INF
    if _in_parts(programs, ctx, cotangents, form, target, wrt, PresentRanges) is None:
        return INF
    return _safe(programs, ctx, cotangents, form, wrt, PresentRanges) or 0.0


__all__ = ["FORMATS", "FloatRanges", "finite_in", "programs_of", "reach_of"]
