"""Symmetries of a loss: invariance under shifts, scalings and permutations, exchange of inputs, parity.

Each has an exact rule that proves it (`responses`, `permute`, `canonical`), and a search that moves a point and
compares certified enclosures. What a claim says, for all values of everything:

    shift of x over c         adding one number to the entries of x along c (any number elsewhere) changes nothing
    scale of x over c         the same with multiplication by a positive number
    permutation of x over n   permuting x, and x alone, along n changes nothing
    exchange of a, b          their values can be exchanged
    even, odd in r            negating all entries of r changes nothing, or the sign
"""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

from lossdsl.ir.nodes import REAL, Input
from lossdsl.verify import refute
from lossdsl.verify.canonical import Canonical, Structures, TooManyForms
from lossdsl.verify.context import Context
from lossdsl.verify.permute import Permutation
from lossdsl.verify.points import Place, Point, within
from lossdsl.verify.ranges import Ranges
from lossdsl.verify.responses import NoResponse, Scale, Shift
from lossdsl.verify.verdict import Proved, Refuted, Step, Unknown, Verdict, Witness

KINDS = ("invariant", "exchange symmetric", "even", "odd")


def decide(ctx: Context, target: str, kind: str, names: tuple[str, ...], axes: tuple[str, ...] | None) -> Verdict:
    """The verdict on a symmetry. kind: shift, scale, permutation, exchange symmetric, even or odd; `axes` are the
    named axes of an invariance, None for all of the input."""
    inputs = [i for n in names if (i := ctx.program.input(n)) is not None]
    if len(inputs) != len(names) or ctx.program.definition(target) is None:
        return Unknown("a symmetry in what is not an input, or of an input")
    if any(n in ctx.fixed for n in names):
        return Unknown("the input has one value only")
    if kind in ("even", "odd"):
        return _parity(ctx, target, kind, inputs)
    if kind == "exchange symmetric":
        return _exchange(ctx, target, inputs) if len(inputs) == 2 else Unknown("an exchange of other than two inputs")
    if len(inputs) != 1:
        return Unknown(f"{kind} of several inputs at once")
    entry = inputs[0]
    places = frozenset(k for k, a in enumerate(entry.axes) if axes is None or a in axes)
    if axes is not None and len(places) != len(axes):
        return Unknown(f"{entry.name} does not have each of the axes {', '.join(axes)} once")
    if kind == "permutation":
        return _permutation(ctx, target, entry, places)
    return _invariance(ctx, target, kind, entry, places)


# ------------------------------------------------------------------------------------------ shift and scale


def _invariance(ctx: Context, target: str, kind: str, entry: Input, along: frozenset[int]) -> Verdict:
    if entry.dtype is not REAL:
        return Unknown(f"{entry.name} is not real")
    engine = (Shift if kind == "shift" else Scale)(ctx, entry, along)
    try:
        moved = engine.tensor(target)
        if moved.still:
            return Proved(f"{kind} response", (Step(f"response to a {kind} of {entry.name}", target, "none"),))
        blocked = f"{target} moves with {entry.name}"
    except NoResponse as reason:
        blocked = str(reason)
    if entry.kind in ("simplex", "unit"):
        return Unknown(blocked, (f"{kind} response",))
    generator = random.Random(11)

    def move(low: Point) -> Point:
        entries = low.inputs[entry.name]
        amounts: dict[Place, Fraction] = {}

        def amount(place: Place) -> Fraction:
            key = tuple(v for k, v in enumerate(place) if k not in along)
            if key not in amounts:
                amounts[key] = Fraction(generator.choice((1, 2, 3, 8)), generator.choice((1, 4)))
            return amounts[key]

        if kind == "shift":
            return low.with_inputs({entry.name: {p: v + amount(p) for p, v in entries.items()}})
        return low.with_inputs({entry.name: {p: v * amount(p) for p, v in entries.items()}})

    scales = _SCALES if kind == "scale" and entry.kind == "real" else (Fraction(1),)
    found = refute.changed(ctx, target, (entry.name,), move, scales=scales)
    return found or Unknown(blocked, (f"{kind} response", "search"))


_SCALES = (Fraction(1), Fraction(1, 2**44), Fraction(1, 2**14))


# --------------------------------------------------------------------------------------------- permutation


def _permutation(ctx: Context, target: str, entry: Input, places: frozenset[int]) -> Verdict:
    """Along several axes: permutations along each of them, which generate what permutes them all."""
    steps: list[Step] = []
    blocked: list[Unknown] = []
    for along in sorted(places):
        verdict = _permutation_along(ctx, target, entry, along)
        if isinstance(verdict, Refuted):
            return verdict
        if isinstance(verdict, Unknown):
            blocked.append(verdict)
        else:
            steps += verdict.steps
    return blocked[0] if blocked else Proved("permutation", tuple(steps)) if steps else Unknown("no axis to permute")


def _permutation_along(ctx: Context, target: str, entry: Input, along: int) -> Verdict:
    engine = Permutation(ctx.program, entry, along)
    if engine.stays(target):
        return Proved("permutation", (Step(f"permutation of {entry.name} carried through", target, "stays"),))
    generator = random.Random(13)

    def move(low: Point) -> Point | None:
        entries = low.inputs[entry.name]
        size = 1 + max((p[along] for p in entries), default=0)
        order = list(range(size))
        generator.shuffle(order)
        if size == 2:
            order = [1, 0]

        def turned(p: Place) -> Place:
            return tuple(order[v] if k == along else v for k, v in enumerate(p))

        return low.with_inputs({entry.name: {p: entries[turned(p)] for p in entries}}) if size > 1 else None

    dots = 2 if str(entry.dims[along]) == "..." else 1
    found = refute.changed(ctx, target, (entry.name,), move, dots=dots)
    return found or Unknown(engine.blocker, ("permutation", "search"))


# ---------------------------------------------------------------------------------------- exchange, parity


def _exchange(ctx: Context, target: str, inputs: list[Input]) -> Verdict:
    a, b = inputs
    domains = [(i.kind, i.dims, i.over, i.range, i.classes, i.also, i.default) for i in inputs]
    if a is b or domains[0] != domains[1]:
        return Unknown(f"{a.name} and {b.name} are not inputs of one domain")
    numbers = Structures()
    try:
        plain = Canonical(ctx.program, numbers, {}).tensor(target)
        exchanged = Canonical(ctx.program, numbers, {a.name: b.name, b.name: a.name}).tensor(target)
    except TooManyForms:
        return Unknown(f"{target}: too large for canonical forms", ("canonical form",))
    if plain == exchanged:
        return Proved("canonical form", (Step(f"{a.name} and {b.name} exchanged", target, "the same form"),))

    def move(low: Point) -> Point:
        return low.with_inputs({a.name: low.inputs[b.name], b.name: low.inputs[a.name]})

    found = refute.changed(ctx, target, (a.name, b.name), move)
    return found or Unknown(
        f"{target}: another form with {a.name} and {b.name} exchanged", ("canonical form", "search")
    )


def _parity(ctx: Context, target: str, kind: str, inputs: list[Input]) -> Verdict:
    names = tuple(i.name for i in inputs)
    if not names or any(i.dtype is not REAL for i in inputs):
        return Unknown("parity in what is not real")
    lopsided = _lopsided(ctx, inputs, kind)
    if lopsided is not None:
        return lopsided
    numbers, sign = Structures(), 1 if kind == "even" else -1
    try:
        number_sign, number = Canonical(ctx.program, numbers, {}).tensor(target)
        negated = Canonical(ctx.program, numbers, {}, frozenset(names)).tensor(target)
    except TooManyForms:
        return Unknown(f"{target}: too large for canonical forms", ("canonical form",))
    if negated == (sign * number_sign, number):
        return Proved("canonical form", (Step(f"{', '.join(names)} negated", target, f"{kind}: the same form"),))

    def move(low: Point) -> Point:
        return low.with_inputs({n: {p: -v for p, v in low.inputs[n].items()} for n in names})

    found = refute.changed(ctx, target, names, move, sign)
    return found or Unknown(f"{target}: another form with {', '.join(names)} negated", ("canonical form", "search"))


def _lopsided(ctx: Context, inputs: list[Input], kind: str) -> Refuted | None:
    """A point of the declared domain whose negative is none: an even (odd) function has a symmetric domain."""
    declared = Ranges(ctx.program, {})
    for i in inputs:
        if i.kind not in ("real", "prob", "simplex") or (i.kind == "real" and ctx.symbolic(i.name)):
            continue
        for point in itertools.islice(refute.points(ctx, 8), 12):
            entries = point.inputs[i.name].values()
            outside = (
                any(v > 0 for v in entries)
                if i.kind != "real"
                else not all(within(-v, declared.input(i.name)) for v in entries)
            )
            if outside:
                flat = point.flat()
                return Refuted(
                    "domain", Witness((flat,), f"the negative of {i.name} is outside of its domain: {kind} on none")
                )
    return None
