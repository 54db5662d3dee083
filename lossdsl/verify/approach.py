"""Whether a target comes to a value, for all extents, parameters and optional inputs: by limits at inputs that are alike
along their axes (`alike`), of which a few are tried, and at inputs that are one and the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from lossdsl.ir.nodes import Apply, Const, Definition, Group, Input, Param, Program, Range, Read, Scalar
from lossdsl.ir.rewrite import map_item, map_scalars, rename_tensors, transform
from lossdsl.verify.alike import Alike, Choice, Split
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.escape import exact_end
from lossdsl.verify.folds import Undecided
from lossdsl.verify.limits import MINUS, ONE, PLUS, ZERO, Limit, fixed, toward
from lossdsl.verify.pieces import dependents, of_values
from lossdsl.verify.ranges import Ranges
from lossdsl.verify.verdict import Step
from lossdsl.verify.work import deadline, passed


def approached(ctx: Context, target: str, bound: Scalar) -> Step | None:
    """How the target comes to the bound, for all extents of at least 1 and all values of the parameters."""
    if not isinstance(bound, Const) or isinstance(bound.value, str) or not ctx.is_box:
        return None
    used = [i for i in ctx.program.inputs if target in dependents(ctx.program, i.name)]
    if any(ctx.cuts_through(i.name) for i in used):
        return None
    end = deadline(4 * ctx.seconds)
    for program, note in _merged(ctx, of_values(ctx.program), used):
        ranges = Ranges(program, ctx.assume)
        free = [i for i in used if program.input(i.name) is not None]
        options = [_choices(ctx, i, program) for i in free]
        for chosen in _products(options):
            if passed(end):
                return None
            taken = {i.name: c for i, c in zip(free, chosen, strict=True) if c is not None}
            try:
                value = Alike(program, ranges, taken).element(target)
            except (Undecided, Split, ValueError, OverflowError, RecursionError, ZeroDivisionError):
                continue
            if value.point and value.box.lo == bound.value:
                shown = [f"{name} = {c.text}" for name, c in taken.items() if c.text]
                how = "comes to the bound" if value.moves else "is the bound"
                return Step("limit along a sequence", target, f"{how} at {', '.join([*shown, *note])}")
    return None


def _products(options: list[list[Choice | None]]) -> Iterator[tuple[Choice | None, ...]]:
    """All combinations, those of the first choices first."""
    places = [range(len(o)) for o in options]
    for at in sorted(itertools.islice(itertools.product(*places), 6_000), key=sum):
        yield tuple(o[k] for o, k in zip(options, at, strict=True))


def _merged(ctx: Context, program: Program, used: list[Input]) -> Iterator[tuple[Program, list[str]]]:
    """The program as it is, and with inputs of the same domain being one and the same."""
    yield program, []
    yield from _at_parameters(ctx, program, used)
    names: dict[str, str] = {}
    seen: dict[object, str] = {}
    for i in used:
        if not i.differentiable or i.default is not None:  # an optional input has any value
            continue
        domain = (i.kind, i.dims, i.over, i.range, ctx.assume.get(i.name))
        if domain in seen:
            names[i.name] = seen[domain]
        else:
            seen[domain] = i.name
    if not names:
        return
    yield from _opposite(ctx, program, names)
    note = [f"{a} = {b}" for a, b in names.items()]
    kept = {o.tensor for o in program.outputs} | {program.target}
    same: dict[object, str] = {}
    merged: list[Definition | Group] = []
    for item in program.body:
        renamed = map_item(item, lambda d: map_scalars(d, lambda s: rename_tensors(s, names)))
        if isinstance(renamed, Definition):
            key = (renamed.formals, renamed.head, renamed.bound, *renamed.scalars())
            if key in same and renamed.tensor not in kept:
                names[renamed.tensor] = same[key]
                continue
            same.setdefault(key, renamed.tensor)
        merged.append(renamed)
    inputs = tuple(i for i in program.inputs if i.name not in names)
    yield replace(program, inputs=inputs).with_body(tuple(merged)), note


def _opposite(ctx: Context, program: Program, names: dict[str, str]) -> Iterator[tuple[Program, list[str]]]:
    """The program where one of two inputs of one unrestricted domain is minus the other."""
    if len(names) != 1:
        return
    ((one, other),) = names.items()
    declared = program.input(one)
    if declared is None or declared.kind != "real" or declared.range != Range() or one in ctx.assume:
        return

    def step(n: Scalar) -> Scalar:
        return Apply("neg", (Read(other, n.indices, n.dtype),)) if isinstance(n, Read) and n.tensor == one else n

    body = tuple(map_item(x, lambda d: map_scalars(d, lambda s: transform(s, step, {}))) for x in program.body)
    inputs = tuple(i for i in program.inputs if i.name != one)
    yield replace(program, inputs=inputs).with_body(body), [f"{one} = -{other}"]


def _at_parameters(ctx: Context, program: Program, used: list[Input]) -> Iterator[tuple[Program, list[str]]]:
    """The program where real inputs are parameters of their domain: all of them at all of their places."""
    ranges = Ranges(program, ctx.assume)
    free = [i for i in used if i.kind == "real" and i.default is None and _is_plain(i)]
    real = [p.name for p in program.parameters if p.kind == "real"]
    if any(not _holds(ranges.input(i.name), ranges.parameter(p)) for i in free for p in real):
        return
    if not free or not real or len(free) != len([i for i in used if i.differentiable]) or len(real) ** len(free) > 9:
        return
    for chosen in itertools.product(real, repeat=len(free)):
        into = dict(zip((i.name for i in free), chosen, strict=True))

        def step(n: Scalar, into: dict[str, str] = into) -> Scalar:
            return Param(into[n.tensor]) if isinstance(n, Read) and n.tensor in into else n

        body = tuple(map_item(x, lambda d: map_scalars(d, lambda s: transform(s, step, {}))) for x in program.body)
        inputs = tuple(i for i in program.inputs if i.name not in into)
        yield replace(program, inputs=inputs).with_body(body), [f"{a} = {b}" for a, b in into.items()]


def _is_plain(i: Input) -> bool:
    """Whether the ends of the domain are numbers."""
    return all(end is None or isinstance(end, Const) for end in (i.range.lower, i.range.upper))


def _holds(box: Enclosure, other: Enclosure) -> bool:
    """Whether the other interval lies in the box."""
    low = box.lo < other.lo or (box.lo == other.lo and (other.lo_open or not box.lo_open))
    high = other.hi < box.hi or (other.hi == box.hi and (other.hi_open or not box.hi_open))
    return low and high


_NEAR_ZERO, _NEAR_ONE = toward(0.0, 1), toward(1.0, -1)


def _choices(ctx: Context, i: Input, program: Program) -> list[Choice | None]:
    """What an input may be; None: anything."""
    if i.default is not None:
        return [None]
    if ctx.symbolic(i.name):  # the lower end belongs to the domain, if that holds anything
        low = i.range.lower
        closed = i.kind == "real" and isinstance(low, Const) and isinstance(low.value, Fraction)
        if not closed or i.range.lower_open or i.name in ctx.assume:
            return [None]
        assert isinstance(low, Const)
        assert isinstance(low.value, Fraction)
        return [Choice(fixed(low.value), fixed(low.value), None, str(low.value)), None]
    box = Ranges(program, ctx.assume).input(i.name)
    found: list[Choice] = []

    def alike(value: Limit, text: str) -> None:
        if _inside(value, box):
            found.append(Choice(value, value, None, text))

    def first(one: Limit, others: Limit, text: str, axis: int | None = _axis(i, program)) -> None:
        if axis is not None and _inside(one, box) and _inside(others, box):
            found.append(Choice(one, others, axis, text))

    if i.kind == "class":
        alike(ZERO, "0")
        return list(found) or [None]
    if i.kind in ("binary", "bool", "sign"):
        for k in (1, -1 if i.kind == "sign" else 0):
            alike(fixed(k), str(k))
        return list(found) or [None]
    if i.kind in ("simplex", "unit"):
        first(ONE, ZERO, "1 at the first, 0 elsewhere")
        return [*found, None]
    if not i.differentiable and i.role != "state":
        if i.kind == "int":
            alike(ZERO, "0")
        return [*found, None]
    alike(ZERO, "0")
    alike(ONE, "1")
    if i.kind == "prob":
        alike(_NEAR_ONE, "near 1")
        alike(_NEAR_ZERO, "near 0")
        first(_NEAR_ONE, _NEAR_ZERO, "near 1 at the first, near 0 elsewhere")
        return [*found, None]
    first(ZERO, MINUS, "0 at the first, -inf elsewhere")
    alike(PLUS, "inf")
    alike(MINUS, "-inf")
    first(ONE, ZERO, "1 at the first, 0 elsewhere")
    alike(fixed(-1), "-1")
    first(PLUS, MINUS, "inf at the first, -inf elsewhere")
    first(PLUS, ZERO, "inf at the first, 0 elsewhere")
    alike(fixed(2), "2")
    if box.lo_open and exact_end(ctx, i, low=True) is not None:
        alike(toward(box.lo, 1), f"near {box.lo:g}")
    if box.hi_open and exact_end(ctx, i, low=False) is not None:
        alike(toward(box.hi, -1), f"near {box.hi:g}")
    if len(i.dims) > 1 and _axis(i, program) != 0:
        first(ONE, fixed(-1), "1 at the first of the first axis, -1 elsewhere", 0)
        first(ZERO, MINUS, "0 at the first of the first axis, -inf elsewhere", 0)
    return [*found, None]


def _inside(value: Limit, box: Enclosure) -> bool:
    if value.infinite:
        return (box.hi == INF) if value.box.lo > 0 else (box.lo == -INF)
    at = value.box.lo
    low = box.lo < at or (box.lo == at and (not box.lo_open or value.side > 0))
    high = at < box.hi or (at == box.hi and (not box.hi_open or value.side < 0))
    return low and high and (value.side <= 0 or at < box.hi) and (value.side >= 0 or at > box.lo)


def _axis(i: Input, program: Program) -> int | None:
    """The axis of classes of a label, or the one that the kind is over, or the last."""
    if i.over:
        return i.over[0] if len(i.over) == 1 else None
    classes = {o.classes for o in program.inputs if o.kind == "class"}
    named = [k for k, dim in enumerate(i.dims) if dim in classes]
    return named[-1] if named else len(i.dims) - 1 if i.dims else None


__all__ = ["approached"]
