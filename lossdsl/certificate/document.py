"""The document: proofs and counterexamples of a report as data, and its verification.

    {"version": 1, "path": ..., "source": ..., "sha256": ..., "losses": [{"name": ..., "entries": [...], "without": [...]}]}

An entry says what it is about (a finding by its property and inputs, a claim by its line), its verdict, the rule, and the
trace: each line of it is derived again and must be the same. `without` lists what was decided with no certificate.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.points import Place, Undecided, Values, ball, certain, sign
from lossdsl.certificate.question import Question, of_claim, of_finding
from lossdsl.certificate.rules import AFFINE, CONCAVE, CONSTANT, CONVEX, Rules, Stuck
from lossdsl.certificate.shifts import Shifts, written
from lossdsl.diagnostics import Source
from lossdsl.ir.build import BuiltLoss, build
from lossdsl.ir.extents import symbols_of
from lossdsl.ir.nodes import Input, Range
from lossdsl.ir.rewrite import free_indices
from lossdsl.syntax.parser import parse
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.verdict import Finding, Proved, Refuted, Report, Verdict, Witness

VERSION = 1
TRUSTED = (
    "the parser and the builder of programs (lossdsl.syntax, lossdsl.ir)",
    "enclosures of operations (lossdsl.verify.enclosure, lossdsl.verify.operations, Arb)",
    "this checker (lossdsl.certificate)",
)
ENCLOSURES, CURVATURE, SMOOTHNESS = "enclosures", "composition of curvature", "composition of smooth functions"
SHIFT = "answers to a shift"
CHORD, VALUE = "chord", "value at a point"
_ALLOWED = {CONVEX: {CONSTANT, AFFINE, CONVEX}, CONCAVE: {CONSTANT, AFFINE, CONCAVE}, AFFINE: {CONSTANT, AFFINE}}


_FRACTION = re.compile(r"-?[0-9]+(/[1-9][0-9]*)?")
_ENTRIES = 100_000


class Rejected(Exception):
    """A certificate that does not hold: where, and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where, self.why = where, why


@dataclass(frozen=True)
class Checked:
    """How many entries were replayed, and what the document says was decided without a certificate."""

    entries: int
    without: tuple[str, ...]


# --------------------------------------------------------------------------------------------- making it


def certify(source: Source, losses: Sequence[BuiltLoss], reports: Sequence[Report]) -> dict[str, Any]:
    """The document of some reports on the losses of a file."""
    made = [_loss(built, report) for built, report in zip(losses, reports, strict=True)]
    return sealed({"version": VERSION, "path": source.path, "source": source.text, "losses": made})


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the digest of everything else in it."""
    rest = {k: v for k, v in document.items() if k != "sha256"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    return {**rest, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _loss(built: BuiltLoss, report: Report) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    without: list[str] = []
    todo: list[tuple[str, dict[str, Any], Verdict]] = []
    for f in report.findings:
        todo.append((_title(f), {"finding": f.property, "in": list(f.wrt)}, f.verdict))
    for c in report.claims:
        todo.append((f"claim at line {c.line}: {c.text}", {"claim": c.line, "text": c.text}, c.verdict))
    for title, about, verdict in todo:
        if not isinstance(verdict, (Proved, Refuted)):
            continue
        try:
            entries.append({**about, **_entry(_questions(built, about), verdict)})
        except Stuck as reason:
            without.append(f"{title} ({verdict.method}; {reason.why})")
    return {"name": built.program.name, "entries": entries, "without": without}


def _title(f: Finding) -> str:
    return f"{f.property}{' in ' + ', '.join(f.wrt) if f.wrt else ''}"


def _entry(questions: list[Question], verdict: Proved | Refuted) -> dict[str, Any]:
    if isinstance(verdict, Proved):
        rules = [_rule(q) for q in questions]
        return {"status": "proved", "parts": [{"rule": r, "trace": _DERIVE[r](q)} for r, q in zip(rules, questions)]}
    reasons = Stuck("no certificate of this kind of counterexample yet")
    for part, question in enumerate(questions):
        try:
            return {"status": "refuted", "part": part, **_counterexample(question, verdict.witness)}
        except Stuck as reason:
            reasons = reason
    raise reasons


def _questions(built: BuiltLoss, about: Mapping[str, Any]) -> list[Question]:
    if "claim" in about:
        found = [c for c in built.claims if c.span.line == about["claim"]]
        if len(found) != 1:
            raise Stuck("there is not one claim at this line")
        if found[0].text != about["text"]:
            raise Stuck(f"the claim at this line is `{found[0].text}`")
        return of_claim(built, found[0])
    return [of_finding(built, about["finding"], tuple(about["in"]))]


# ------------------------------------------------------------------------------------------------- proofs


def _rule(question: Question) -> str:
    if question.property in _ALLOWED:
        return CURVATURE
    return {"smooth": SMOOTHNESS, "invariant under shift": SHIFT}.get(question.property, ENCLOSURES)


def _enclosures(q: Question) -> list[list[str]]:
    """The enclosure of each tensor that the target is made of. Raises Stuck if the last does not answer the question."""
    bounds = Bounds(q.program, q.assume)
    lines = [[d.tensor, _text(bounds.tensor(d.tensor))] for d in bounds.needed(q.of)]
    box = bounds.tensor(q.of)
    holds = {
        "non-negative": box.nonnegative,
        "positive": box.positive,
        "bounded": box.bounded,
        "range": not box.nan,
    }[q.property]
    if not holds:
        raise Stuck(f"{q.of} is in {_text(box)}")
    return lines


def _text(box: Enclosure) -> str:
    """Exact: hexadecimal ends."""
    ends = f"{'(' if box.lo_open else '['}{box.lo.hex()}, {box.hi.hex()}{')' if box.hi_open else ']'}"
    return f"{ends} or undefined" if box.nan else ends


def _curvature(q: Question) -> list[list[str]]:
    bounds = Bounds(q.program, q.assume, frozenset(q.inputs))
    if bounds.tensor(q.of).nan:
        raise Stuck(f"{q.of} may be undefined")
    rules = Rules(bounds, q.inputs)
    lines = [[d.tensor, rules.curvature(d.tensor)] for d in bounds.needed(q.of) if d.tensor in rules.moving]
    if rules.curvature(q.of) not in _ALLOWED[q.property]:
        raise Stuck(f"{q.of} is {rules.curvature(q.of)}")
    return [*lines, [q.of, q.property]]


def _smoothness(q: Question) -> list[list[str]]:
    bounds = Bounds(q.program, q.assume, frozenset(q.inputs))
    way = Rules(bounds, q.inputs).smooth(q.of)
    return [[tensor, _text(bounds.tensor(tensor))] for tensor in way]


def _shift(q: Question) -> list[list[str]]:
    bounds = Bounds(q.program, q.assume)
    shifts = Shifts(bounds, q.inputs[0], q.along)
    if shifts.tensor(q.of):
        raise Stuck(f"{q.of} moves: {written(shifts.tensor(q.of))}")
    return [[d.tensor, written(shifts.tensor(d.tensor))] for d in bounds.needed(q.of)]


_DERIVE: dict[str, Callable[[Question], list[list[str]]]] = {
    ENCLOSURES: _enclosures,
    CURVATURE: _curvature,
    SMOOTHNESS: _smoothness,
    SHIFT: _shift,
}


# ------------------------------------------------------------------------------------------ counterexamples


def _counterexample(q: Question, witness: Witness) -> dict[str, Any]:
    points = [{name: str(value) for name, value in point.items()} for point in witness.points]
    if q.property in (CONVEX, CONCAVE) and len(points) == 2 and witness.t is not None:
        made: dict[str, Any] = {"rule": CHORD, "points": points, "t": str(witness.t)}
    elif q.property in ("non-negative", "positive") and len(points) == 1:
        made = {"rule": VALUE, "points": points, "t": None}
    else:
        raise Stuck("no certificate of this kind of counterexample yet")
    full = [_point(q, made, k) for k in range(len(points))]
    for place in _places(q, full[0][0]):
        try:
            entry = {**made, "place": list(place)}
            holds, values = _violates(q, entry)
            if holds:
                return {**entry, "values": values}
        except Stuck:
            continue
    raise Stuck("the checker does not see the violation")


Point = tuple[dict[str, int], dict[str, Fraction], dict[str, dict[Place, Fraction]]]


def _point(q: Question, entry: Mapping[str, Any], k: int) -> Point:
    """Extents, parameters and entries of the k-th point; what a later point does not name is as in the first."""
    given = {**entry["points"][0], **entry["points"][k]}
    inputs: dict[str, dict[Place, Fraction]] = {i.name: {} for i in q.program.inputs}
    parameters: dict[str, Fraction] = dict(q.fixed)
    for name, text in given.items():
        tensor, _, rest = name.partition("[")
        value = _fraction(text)
        if tensor in inputs:
            inputs[tensor][tuple(int(p) for p in rest.rstrip("]").split(",")) if rest else ()] = value
        else:
            parameters[name] = value
    extents: dict[str, int] = {}
    for i in q.program.inputs:
        for axis, dim in enumerate(i.dims):
            names = list(dim.symbols())
            if len(names) == 1 and str(dim) == names[0] and inputs[i.name]:
                extents[names[0]] = 1 + max(place[axis] for place in inputs[i.name])
    extents |= {p.name: int(parameters[p.name]) for p in q.program.parameters if p.name in symbols_of(q.program)}
    missing = symbols_of(q.program) - set(extents)
    if missing or any(p.name not in parameters for p in q.program.parameters):
        raise Stuck("the point does not say every extent and parameter")
    for i in q.program.inputs:
        sizes = [d.evaluate(extents) for d in i.dims]
        if len(inputs[i.name]) != prod(sizes) and i.name not in q.fixed:
            raise Stuck(f"the point does not say every entry of {i.name}")
        if prod(sizes) > _ENTRIES:
            raise Stuck(f"{i.name} is too large")
        full = set(itertools.product(*map(range, sizes)))
        if set(inputs[i.name]) != full and i.name not in q.fixed:
            raise Stuck(f"the point does not say every entry of {i.name}")
        if i.name in q.fixed:
            inputs[i.name] = dict.fromkeys(full, q.fixed[i.name])
    return extents, parameters, inputs


def _fraction(text: str) -> Fraction:
    if len(text) > 5000 or not _FRACTION.fullmatch(text):
        raise Stuck("a number that is no fraction")
    return Fraction(text)


def _places(q: Question, extents: Mapping[str, int]) -> Iterator[Place]:
    d = q.program.definition(q.of)
    if d is None:
        raise Stuck(f"there is no {q.of}")
    return itertools.product(*(range(i.dim.evaluate(extents)) for i in d.formals))


def _violates(q: Question, entry: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Whether the points, all in the domain, violate the property at the place; the values there, to 30 digits."""
    points = [_point(q, entry, k) for k in range(len(entry["points"]))]
    place = tuple(int(p) for p in entry["place"])
    if entry["rule"] == CHORD:
        t = _fraction(entry["t"])
        if not 0 < t < 1 or len(points) != 2:
            raise Stuck("a chord has two points and t between 0 and 1")
        (extents, parameters, first), (others, again, second) = points
        if (extents, parameters) != (others, again):
            raise Stuck("the points of a chord differ in more than the inputs")
        for name in first:
            if name not in q.inputs and first[name] != second[name]:
                raise Stuck(f"{name} differs, and is no input of the property")
        middle = {n: {p: t * second[n][p] + (1 - t) * v for p, v in first[n].items()} for n in first}
        points.append((extents, parameters, middle))
        strictly = -1 if q.property == CONVEX else 1

        def gap(values: list[Any]) -> bool | None:
            a, b, m = (ball(v) for v in values)
            if not all(v.is_finite() for v in (a, b, m)):
                raise Undecided
            return sign((1 - ball(t)) * a + ball(t) * b - m) == strictly
    else:

        def gap(values: list[Any]) -> bool | None:
            s = sign(values[0])
            return s < 0 or (s == 0 and q.property == "positive")

    for point in points:
        _admit(q, point)
    shown: list[str] = []

    def question(_: Values) -> bool | None:
        values = [Values(q.program, *p).element(q.of, place) for p in points]
        shown[:] = [ball(v).str(30, radius=False) for v in values]
        return gap(values)

    return certain(question, lambda: Values(q.program, *points[0])), shown


def _admit(q: Question, point: Point) -> None:
    """Raise Stuck unless the point lies in every declared domain and meets every condition."""
    extents, parameters, inputs = point

    def values() -> Values:
        return Values(q.program, extents, parameters, inputs)

    for p in q.program.parameters:
        value = parameters[p.name]
        if (p.kind != "real" and value.denominator != 1) or (p.kind == "bool" and value not in (0, 1)):
            raise Stuck(f"{p.name} = {value}")
        _obey(q, values, p.name, value, p.range)
    for i in q.program.inputs:
        for value in inputs[i.name].values():
            if not _of_kind(i, value, extents, parameters):
                raise Stuck(f"{i.name} = {value} is no {i.kind}")
            _obey(q, values, i.name, value, i.range)
        if i.kind in ("simplex", "unit"):
            rows: dict[Place, Fraction] = {}
            for at, value in inputs[i.name].items():
                row = tuple(v for k, v in enumerate(at) if k not in i.over)
                rows[row] = rows.get(row, Fraction(0)) + (value if i.kind == "simplex" else value**2)
            if any(total != 1 for total in rows.values()):
                raise Stuck(f"{i.name} is not in its {i.kind}")
    for condition in q.conditions:
        indices = free_indices(condition)
        for at in itertools.product(*(range(i.dim.evaluate(extents)) for i in indices)):
            here: dict[Any, int] = dict(zip(indices, at, strict=True))
            if not certain(lambda v, c=condition, h=here: bool(v.scalar(c, h, {})), values):  # type: ignore[misc]
                raise Stuck("a condition does not hold at the point")


def _of_kind(i: Input, value: Fraction, extents: Mapping[str, int], parameters: Mapping[str, Fraction]) -> bool:
    match i.kind:
        case "prob" | "simplex":
            return 0 <= value <= 1
        case "bool" | "binary":
            return value in (0, 1)
        case "sign":
            return value in (-1, 1)
        case "class":
            also = i.also is not None and value == parameters[i.also]
            return also or (
                value.denominator == 1 and i.classes is not None and 0 <= value < i.classes.evaluate(extents)
            )
        case "int":
            return value.denominator == 1
    return True


def _obey(q: Question, values: Callable[[], Values], name: str, value: Fraction, declared: Range) -> None:
    for bound, is_open, side in (
        (declared.lower, declared.lower_open, 1),
        (declared.upper, declared.upper_open, -1),
    ):
        if bound is None:
            continue

        def inside(v: Values, bound: Any = bound, is_open: bool = is_open, side: int = side) -> bool:
            s = side * sign(ball(value) - ball(v.scalar(bound, {}, {})))
            return s > 0 or (s == 0 and not is_open)

        exact = _rational(values, bound)
        ok = _inside(value, exact, is_open, side) if exact is not None else certain(inside, values)
        if not ok:
            raise Stuck(f"{name} = {value} is outside of its range")


def _inside(value: Fraction, end: Fraction, is_open: bool, side: int) -> bool:
    gap = side * (value - end)
    return gap > 0 or (gap == 0 and not is_open)


def _rational(values: Callable[[], Values], bound: Any) -> Fraction | None:
    try:
        found = values().scalar(bound, {}, {})
    except Undecided:
        return None
    return found if isinstance(found, Fraction) else None


# ---------------------------------------------------------------------------------------------- verifying


def verify(document: Any) -> Checked:
    """Replay every entry. Raises Rejected at the first that does not hold."""
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise Rejected("document", f"not a certificate of version {VERSION}")
    if sealed(document) != document:
        raise Rejected("document", "its digest is that of another text")
    source = Source(str(document.get("path")), str(document.get("source")))
    module, problems = parse(source)
    losses, found = build(module, source)
    if any(d.severity.value == "error" for d in (*problems, *found)):
        raise Rejected("source", "it has errors")
    table = {b.program.name: b for b in losses}
    count, without = 0, []
    for item in _list(document, "losses", "document"):
        name = item.get("name") if isinstance(item, dict) else None
        if name not in table:
            raise Rejected("document", f"the source has no loss {name!r}")
        for k, entry in enumerate(_list(item, "entries", name)):
            _replay(table[name], entry, f"{name}, entry {k + 1}")
            count += 1
        without += [f"{name}: {line}" for line in _list(item, "without", name)]
    return Checked(count, tuple(without))


def _list(document: Any, key: str, where: str) -> list[Any]:
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise Rejected(where, f"no list of {key}")
    return found


def _replay(built: BuiltLoss, entry: Any, where: str) -> None:
    try:
        if entry["status"] == "refuted":
            question = _questions(built, entry)[entry["part"]]
            expected = {CONVEX: CHORD, CONCAVE: CHORD, "non-negative": VALUE, "positive": VALUE}.get(question.property)
            if entry["rule"] != expected:
                raise Rejected(where, f"{entry['rule']} does not refute {question.property}")
            holds, values = _violates(question, entry)
            if not holds:
                raise Rejected(where, "the values at the points do not violate the property")
            if values != entry["values"]:
                raise Rejected(where, f"the values at the points are {', '.join(values)}")
            return
        if entry["status"] != "proved":
            raise Rejected(where, "neither proved nor refuted")
        questions = _questions(built, entry)
        if len(questions) != len(entry["parts"]):
            raise Rejected(where, f"{len(entry['parts'])} proofs of {len(questions)} parts")
        for question, part in zip(questions, entry["parts"], strict=True):
            if part["rule"] != _rule(question):
                raise Rejected(where, f"{part['rule']} does not prove {question.property}")
            derived = _DERIVE[part["rule"]](question)
            if derived != part["trace"]:
                line = next((d for d, t in zip(derived, part["trace"]) if d != t), ["the length of the trace"])
                raise Rejected(where, f"derived otherwise: {' '.join(line)}")
    except Stuck as reason:
        raise Rejected(where, reason.why) from reason
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as problem:
        raise Rejected(where, f"malformed ({type(problem).__name__}: {problem})") from problem


__all__ = ["TRUSTED", "Checked", "Rejected", "certify", "sealed", "verify"]
