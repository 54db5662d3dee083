"""Finiteness in a float type, told tensor by tensor: the ranges that the compiled arithmetic reaches, and what overflows."""

from __future__ import annotations

from fractions import Fraction

from lossdsl.explain.sentence import Line, Part, about, element, interval, line, listed
from lossdsl.explain.walks import needed
from lossdsl.explain.witness import rebuilt
from lossdsl.ir.nodes import Definition, Program, Read
from lossdsl.verify import errors
from lossdsl.verify import rounding as rounding_errors
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.finite import FORMATS, FloatRanges, programs_of
from lossdsl.verify.pieces import dependents
from lossdsl.verify.points import Evaluator, Point, Undecided
from lossdsl.verify.verdict import Witness

LARGEST = FORMATS["float32"].largest


def model(word: str) -> Line:
    inside = "float32" if word in ("float16", "bfloat16") else word
    return line(
        f"Inputs are the finite {word} numbers of their domains; the arithmetic is {inside}, in which every operation may "
        "be off by a relative error of 2^-20 (2^-16 for functions) and may flush what is below 2^-126 to 0; its largest "
        f"number is {LARGEST:.6g}. Gradients are rounded to {word}, whose largest number is {FORMATS[word].largest:.6g}."
    )


def wrt(ctx: Context, target: str) -> tuple[str, ...]:
    return tuple(i.name for i in ctx.program.inputs if i.differentiable and target in dependents(ctx.program, i.name))


def ranges(ctx: Context, target: str, word: str) -> list[Line]:
    """Why value and gradients are finite: the range of every tensor of the compiled programs."""
    form = FORMATS[word]
    inputs = wrt(ctx, target)
    out = [model(word)]
    for program, names, narrow in programs_of(ctx.program, target, inputs):
        boxes = FloatRanges(program, {**ctx.assume, f"{target}'": Enclosure(1.0, 1.0)}, form, ctx.fixed)
        what = "the gradient" if narrow else "the value"
        out.append(line(f"In the program of {what}, as it is compiled:"))
        told: set[str] = set()
        whole = True
        for name in names:
            for d in needed(program, name):
                if d.tensor in told:
                    continue
                told.add(d.tensor)
                box = boxes.tensor(d.tensor)
                out.append(line(d, " is in ", interval(box), ".", depth=1))
            box = boxes.tensor(name)
            limit = form.overflow if narrow else LARGEST
            if box.nan or max(abs(box.lo), abs(box.hi)) > limit:
                whole = False
        if whole:
            said: list[Part] = [element(d) for d in program.definitions() if d.tensor in names]
            out.append(
                line("So much for ", *listed(said), f": below {limit:.6g} in size, and never undefined.", depth=1)
            )
        else:
            out.append(
                line(
                    "Over the whole domain at once these ranges are too wide. The domain is cut into parts, by the "
                    "values of inputs that have two, and into intervals of one real number: on each part the ranges "
                    "stay within the type.", depth=1,
                )
            )  # fmt: skip
    return out


def rounding(ctx: Context, target: str, word: str, wrt: str = "") -> list[Line]:
    """How the rounding errors grow, scalar by scalar, on the interval that needs the largest bound."""
    least = FORMATS[word].smallest or errors.SMALLEST
    _, bound = rounding_errors.bound_of(ctx, target, word, wrt)
    out = [
        line(
            f"Inputs are 0 or {word} numbers of at least {least:.3g} in size; the arithmetic is float32. + - * are off by at "
            "most 2^-24 of the exact result, / and sqrt by 2^-22, functions by what their records admit; what is below "
            "2^-126 may be flushed to 0, products may be contracted with sums."
        ),
        line(
            "A sum of n terms, in any order, is off by (n - 1) 2^-24 / (1 - (n - 1) 2^-24) of the sum of their sizes at most, "
            "beside what its terms are off by. So every element of"
            if bound.rows
            else "The domain is cut into intervals, those with the largest bounds again and again. On the one that needs most:"
        ),
    ]
    for node, found in bound.worst:
        told = f" is in {found.exact}, computed with an error of at most {found.relative:.2g} of its size + {found.absolute:.2g}."
        out.append(line(node, told, depth=1))
    return out


def overflow(ctx: Context, target: str, word: str, witness: Witness) -> list[Line]:
    """What each tensor is at the point, up to the first that no number of the type is."""
    form = FORMATS[word]
    out = [model(word)]
    for program, names, narrow in programs_of(ctx.program, target, wrt(ctx, target)):
        point = _point(program, witness.points[0], f"{target}'")
        if point is None:
            return out
        evaluator = Evaluator(program, point)
        limit = form.overflow if narrow else LARGEST
        lines: list[Line] = []
        for name in names:
            for d in needed(program, name):
                last = d.tensor == name
                found = _largest(evaluator, d, point)
                if found is None:
                    continue
                place, value = found
                at = f" at {list(place)}" if place else ""
                lines.append(line(d, f", exactly{at}: ", about(value), ".", depth=1))
                if last and not value.nan and (value.lo > limit or value.hi < -limit):
                    out.append(
                        line(f"In the program of {'the gradient' if narrow else 'the value'}, as it is compiled:")
                    )
                    which = word if narrow else "float32"
                    out += lines
                    out.append(
                        line(
                            element(d),
                            f" is outside of {which}, whose numbers end at {limit:.6g}: it becomes inf.",
                            depth=1,
                        )
                    )
                    return out
    return out


def _largest(evaluator: Evaluator, d: Definition, point: Point) -> tuple[tuple[int, ...], Enclosure] | None:
    """The element of the tensor that is largest in size."""
    best: tuple[tuple[int, ...], Enclosure] | None = None
    from itertools import islice, product

    for place in islice(product(*(range(f.dim.evaluate(point.extents)) for f in d.formals)), 64):
        try:
            value = evaluator.element(d.tensor, place)
        except (Undecided, KeyError, ValueError, OverflowError, ZeroDivisionError):
            continue
        if best is None or (not value.nan and abs(value.lo) > abs(best[1].lo)):
            best = place, value
    return best


def _point(program: Program, flat: dict[str, Fraction] | object, cotangent: str) -> Point | None:
    """The point of the witness (a name without a place is one entry), with 1 for what the gradient starts from."""
    assert isinstance(flat, dict)
    named: dict[str, Fraction] = {}
    for i in program.inputs:
        if i.name == cotangent:
            continue
        if i.name in flat and i.dims:
            named[f"{i.name}[{', '.join('0' for _ in i.dims)}]"] = flat[i.name]
    rest = {k: v for k, v in flat.items() if f"{k}[{', '.join('0' for _ in dims_of(program, k))}]" not in named}
    without = Program(
        program.name, tuple(i for i in program.inputs if i.name != cotangent), program.parameters, program.body, ()
    )
    point = rebuilt(without, {**named, **rest})
    if point is None:
        return None
    declared = program.input(cotangent)
    if declared is None:
        return point
    from itertools import product

    places = product(*(range(d.evaluate(point.extents)) for d in declared.dims))
    return point.with_inputs({cotangent: dict.fromkeys(places, Fraction(1))})


def dims_of(program: Program, name: str) -> tuple[object, ...]:
    declared = program.input(name)
    return declared.dims if declared is not None else ()


__all__ = ["Read", "model", "overflow", "ranges"]
