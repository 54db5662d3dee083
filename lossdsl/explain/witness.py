"""Counterexamples with their numbers: the points, the values there, and the inequality that they violate."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction

from lossdsl.explain.sentence import Line, Math, Part, about, line, number
from lossdsl.ir.latex import latex_scalar, name_latex
from lossdsl.ir.nodes import Const, Program
from lossdsl.verify import enclosure as e
from lossdsl.verify.points import Evaluator, Place, Point, Undecided
from lossdsl.verify.verdict import Witness

_MOST = 24  # entries of one point that are listed


def points(witness: Witness) -> list[Line]:
    """The points, entry by entry."""
    names = ("Take", "and") if len(witness.points) > 1 else ("Take",)
    out = []
    for k, point in enumerate(p for p in witness.points if p):
        shown = list(point.items())
        parts: list[Part] = [f"{names[min(k, 1)]} the point " if k == 0 else "and the point "]
        for j, (name, value) in enumerate(shown[:_MOST]):
            parts += [", " if j else "", equation(name, value)]
        if len(shown) > _MOST:
            parts.append(f", ... ({len(shown)} entries)")
        if k == 1 and len(point) < len(witness.points[0]):
            parts.append(", all else as in the first")
        out.append(line(*parts, "."))
    return out


def equation(name: str, value: Fraction) -> Math:
    base, bracket, place = name.partition("[")
    index = f"_{{{place[:-1].replace('...', 'i')}}}" if bracket else ""
    return Math(f"{name} = {number(value)}", f"{name_latex(base)}{index} = {latex_number(value)}")


def latex_number(value: Fraction) -> str:
    shown = number(value)
    return latex_scalar(Const(value)) if not shown.startswith("~") else rf"\approx {shown[1:]}"


def rebuilt(program: Program, flat: Mapping[str, Fraction], first: Point | None = None) -> Point | None:
    """The point of a witness from its names (`x[0, 1]`); what it leaves out is as in `first`. None if an extent is not
    told by it."""
    extents = dict(first.extents) if first is not None else {}
    inputs: dict[str, dict[Place, Fraction]] = {}
    parameters = dict(first.parameters) if first is not None else {}
    known = {i.name: i for i in program.inputs}
    for name, value in flat.items():
        base, bracket, rest = name.partition("[")
        if base in known:
            if "..." in rest:
                return None
            place = tuple(int(k) for k in rest[:-1].split(",")) if bracket and rest != "]" else ()
            inputs.setdefault(base, {})[place] = value
        else:
            parameters[name] = value
    for name, entries in inputs.items():
        dims = known[name].dims
        for k, dim in enumerate(dims):
            symbols = list(dim.symbols())
            if len(symbols) == 1 and str(dim) == symbols[0] and all(len(p) == len(dims) for p in entries):
                extents[symbols[0]] = 1 + max(p[k] for p in entries)
    for name, i in known.items():
        if name not in inputs and first is not None:
            inputs[name] = first.inputs[name]
        for dim in i.dims:
            if any(s not in extents for s in dim.symbols()):
                return None
    return Point(extents, parameters, inputs)


def values(program: Program, target: str, points_: list[Point]) -> list[tuple[Place, list[e.Enclosure]]]:
    """The values of every element of the target at the points."""
    definition = program.definition(target)
    if definition is None:
        return []
    found = []
    extents = [f.dim.evaluate(points_[0].extents) for f in definition.formals]
    for place in itertools.islice(itertools.product(*(range(k) for k in extents)), 64):
        try:
            found.append((place, [Evaluator(program, p).element(target, place) for p in points_]))
        except (Undecided, KeyError, ValueError, OverflowError, ZeroDivisionError):
            continue
    return found


def chord(program: Program, target: str, inputs: tuple[str, ...], witness: Witness, *, concave: bool) -> list[Line]:
    """f at both ends and in the middle, and the chord between."""
    both = _pair(program, witness)
    t = witness.t
    if both is None or t is None:
        return []
    low, high = both
    middle = low.with_inputs(
        {n: {p: (1 - t) * v + t * high.inputs[n][p] for p, v in low.inputs[n].items()} for n in inputs}
    )
    for place, (a, b, m) in values(program, target, [low, high, middle]):
        level = e.add(e.mul(e.exact(1 - t), a), e.mul(e.exact(t), b))
        gap = e.sub(m, level)
        if not (gap.negative if concave else gap.positive):
            continue
        name = _element(target, place)
        return [
            line(name, " is ", about(a), " at the first, ", about(b), " at the second."),
            line("Between them, at t = ", t, ", it is ", about(m), f", {'below' if concave else 'above'} the chord, which is ",
                 about(level), " there:"),
            line(Math(f"f((1-t) a + t b) - ((1-t) f(a) + t f(b)) = {about(gap).text} {'<' if concave else '>'} 0",
                      rf"f((1-t)a + tb) - \left((1-t)f(a) + t f(b)\right) = {about(gap).latex} {'<' if concave else '>'} 0"),
                 f", while {'concavity asks for >= 0' if concave else 'convexity asks for <= 0'}.", depth=1),
        ]  # fmt: skip
    return []


def steep(
    program: Program, target: str, inputs: tuple[str, ...], witness: Witness, bound: Part, norm: str
) -> list[Line]:
    """Two values and the distance between the points."""
    both = _pair(program, witness)
    if both is None:
        return []
    low, high = both
    steps = [abs(v - low.inputs[n][p]) for n in inputs for p, v in high.inputs[n].items()]
    square = sum((d * d for d in steps), Fraction(0))
    size = {"l1": sum(steps, Fraction(0)), "linf": max(steps)}.get(norm)
    distance = e.exact(size) if size is not None else e.Enclosure(float(square) ** 0.5, float(square) ** 0.5)
    for place, (a, b) in values(program, target, [low, high]):
        change = e.absolute(e.sub(a, b))
        if not change.bounded or not change.positive:
            continue
        quotient = e.div(change, distance)
        return [
            line(_element(target, place), " is ", about(a), " at the first and ", about(b), " at the second."),
            line("The points are ", about(distance), f" apart in {norm}, the values ", about(change),
                 ": a slope of ", about(quotient), ", where at most ", bound, " is allowed."),
        ]  # fmt: skip
    return []


def moved(program: Program, target: str, witness: Witness) -> list[Line]:
    """The values at one or two points."""
    first = rebuilt(program, witness.points[0])
    if first is None:
        return []
    rest = [rebuilt(program, p, first) for p in witness.points[1:]]
    if any(p is None for p in rest):
        return []
    out = []
    for place, found in values(program, target, [first, *(p for p in rest if p is not None)]):
        if len(found) == 2 and not _apart(found[0], found[1]):
            continue
        shown = _told_apart(found)
        parts: list[Part] = [_element(target, place), " is "]
        for k, value in enumerate(shown):
            parts += [" at the first point and " if k == 1 else "", value]
        out.append(line(*parts, " at the second." if len(found) > 1 else " there."))
    return out[:8]


def _apart(a: e.Enclosure, b: e.Enclosure) -> bool:
    return not a.nan and not b.nan and (a.hi < b.lo or b.hi < a.lo)


def _told_apart(found: list[e.Enclosure]) -> list[Math]:
    """The values with as many digits as tell them apart."""
    for digits in (6, 9, 12, 17):
        shown = [about(v, digits) for v in found]
        if len({m.text for m in shown}) == len(found):
            break
    return shown


def _pair(program: Program, witness: Witness) -> tuple[Point, Point] | None:
    if len(witness.points) != 2:
        return None
    low = rebuilt(program, witness.points[0])
    high = rebuilt(program, witness.points[1], low) if low is not None else None
    return None if low is None or high is None else (low, high)


def _element(target: str, place: Place) -> Math:
    at = ", ".join(map(str, place))
    if target.startswith("$"):
        return Math("the difference", r"\text{the difference}")
    return Math(f"{target}[{at}]" if place else target, name_latex(target) + (f"_{{{at}}}" if place else ""))
