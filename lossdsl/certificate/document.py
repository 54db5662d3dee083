"""The document: proofs and counterexamples of a report as data, and its verification.

    {"version": 1, "path": ..., "source": ..., "sha256": ..., "losses": [{"name": ..., "entries": [...], "without": [...]}]}

An entry says what it is about (a finding by its property and inputs, a claim by its line), its verdict, the rule, and the
trace: each line of it is derived again and must be the same. `without` lists what was decided with no certificate.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.boxes import (
    of_bound,
    of_bracket,
    of_convexity,
    of_lipschitz,
    of_minimum,
    of_order,
    of_smoothness,
    of_valley,
)
from lossdsl.certificate.classes import of_classes
from lossdsl.certificate.costs import of_cost
from lossdsl.certificate.counterexamples import counterexample, rules_of, violates
from lossdsl.certificate.coverings import Curve, float_of, text
from lossdsl.certificate.decisions import of_calibration, of_convex
from lossdsl.certificate.far import falling, of_slopes
from lossdsl.certificate.links import of_proper
from lossdsl.certificate.logits import of_logit
from lossdsl.certificate.masses import of_masses
from lossdsl.certificate.order import Order
from lossdsl.certificate.pieces import of_one
from lossdsl.certificate.profiles import of_profile
from lossdsl.certificate.question import (
    CALIBRATED,
    COSTS,
    ERROR,
    EXPLODING,
    FINITE,
    GAP,
    GRADIENT_ERROR,
    GROWTH,
    MINIMUM,
    NOISE,
    NUMBERS,
    PROPER,
    UNIQUE,
    VANISHING,
    Question,
    of_claim,
    of_finding,
    on_a_sphere,
)
from lossdsl.certificate.rounding import of_error, restated, stated, weaker
from lossdsl.certificate.row_errors import of_rows, stated_of_rows
from lossdsl.certificate.rules import AFFINE, CONCAVE, CONSTANT, CONVEX, DOWN, UP, Rules, Shown, Stuck
from lossdsl.certificate.safety import of_parts, of_ranges
from lossdsl.certificate.scaling import of_units
from lossdsl.certificate.shifts import Scales, Shifts, written
from lossdsl.certificate.slopes import Slopes
from lossdsl.certificate.spherical import of_spherical
from lossdsl.certificate.symmetries import Forms, Permuted
from lossdsl.diagnostics import Source
from lossdsl.ir.build import BuiltLoss, build
from lossdsl.ir.nodes import TRUE, Apply, Compare, Const, Definition, Input, Param, Scalar, postorder
from lossdsl.ir.rewrite import free_indices, substitute, transform, with_numbers
from lossdsl.syntax.parser import parse
from lossdsl.verify.verdict import Finding, Proved, Refuted, Report, Step, Verdict

VERSION = 1
TRUSTED = (
    "the parser and the builder of programs (lossdsl.syntax, lossdsl.ir)",
    "enclosures of operations (lossdsl.verify.enclosure, lossdsl.verify.operations, Arb)",
    "for finiteness, what is compiled (lossdsl.transform): the statement is about that program, under the model of its arithmetic",
    "for rounding errors, that program too, and the accuracy of primitives in float32 (their records in lossdsl.primitives)",
    "for costs, the plans (lossdsl.assemble, lossdsl.lower): the statement is about their steps",
    "this checker (lossdsl.certificate)",
)
ENCLOSURES, CURVATURE, SMOOTHNESS = "enclosures", "composition of curvature", "composition of smooth functions"
CONTINUITY = "composition of continuous functions"
ORDER = "monotone composition"
FORM, PERMUTED = "one form", "what follows a permutation"
SHIFT, SCALE, LIPSCHITZ = "answers to a shift", "answers to a factor", "composition of Lipschitz functions"
VALUES, BENDS, SLOPES = "value on boxes", "second derivative on boxes", "derivative on boxes"
STEEPNESS, PIECES = "size of the derivative on boxes", "pieces on boxes, and where they meet"
TAILS = "order of the derivative far out"
REACH = "composition on bounded sets, and the order of the derivative beyond"
EXPLOSION, LOSS = "a large derivative, and where the loss is least", "a small derivative, and where the loss is least"
MASSES = "masses of the gradient"
ONE_LOGIT = "one logit of a row, by its derivative"
MARGIN, CLASSES = "a margin loss that falls through the threshold", "a sum over the classes"
CONVEX_MARGIN = "a convex margin loss with a slope at the threshold"
SPHERICAL = "a share of the norm"
EXPECTED = "slope of the expected loss"
RANGES, PARTS = "ranges in float arithmetic", "ranges in float arithmetic, part by part"
UNITS = "boxes in units of a positive number"
JOINED = "composition, with boxes for elements made of pieces"
VALLEY = "derivative on boxes, that changes its sign once"
CASES = "cases of a parameter"
LEAST = "what the value is more than at the place"
ERRORS, ROWS = "rounding errors on boxes", "rounding errors of rows"
COUNTS = "steps of the plan, counted"
ENDS, BOTH_SIDES = "both ends of a number, on boxes", "derivative on boxes, on both sides of the place"
_WAYS = {"increasing": UP, "decreasing": DOWN}
_RULES: dict[str, tuple[str, ...]] = {  # tried in this order
    **dict.fromkeys((CONVEX, CONCAVE), (CURVATURE, BENDS, UNITS, JOINED)),
    AFFINE: (CURVATURE,),
    **dict.fromkeys(("strictly convex", "strictly concave"), (BENDS, UNITS)),
    **dict.fromkeys(("non-negative", "positive"), (ENCLOSURES, VALUES, UNITS)),
    **dict.fromkeys(("bounded", "range"), (ENCLOSURES,)),
    "smooth": (SMOOTHNESS, PIECES, UNITS, JOINED),
    "C0": (CONTINUITY, PIECES, UNITS, JOINED),
    "invariant under shift": (SHIFT,),
    "invariant under scale": (SCALE,),
    "lipschitz": (LIPSCHITZ, STEEPNESS, MASSES, UNITS, REACH, ONE_LOGIT, JOINED),
    **dict.fromkeys(_WAYS, (ORDER, SLOPES, UNITS)),
    **dict.fromkeys(("strictly increasing", "strictly decreasing"), (SLOPES, UNITS)),
    **dict.fromkeys(("exchange symmetric", "even", "odd"), (FORM,)),
    "invariant under permutation": (PERMUTED,),
    **dict.fromkeys(NUMBERS, (ENDS,)),
    NUMBERS[0]: (ENDS, MASSES, ONE_LOGIT),
    MINIMUM: (BOTH_SIDES, UNITS, LEAST),
    UNIQUE: (BOTH_SIDES, UNITS),
    "quasiconvex": (CURVATURE, VALLEY, UNITS),
    "redescending": (TAILS,),
    CALIBRATED: (MARGIN, CONVEX_MARGIN, CLASSES, SPHERICAL),
    NOISE: (CLASSES,),
    **dict.fromkeys(PROPER, (EXPECTED, CLASSES, SPHERICAL)),
    EXPLODING: (EXPLOSION,),
    VANISHING: (LOSS,),
    **dict.fromkeys((ERROR, GRADIENT_ERROR), (ERRORS, ROWS)),
    **dict.fromkeys((*COSTS.values(), GROWTH), (COUNTS,)),
}
_COMPOSITIONS = (SMOOTHNESS, CONTINUITY, LIPSCHITZ, JOINED, CASES)
_BY_CASES = set(_RULES) - {
    "range",
    *NUMBERS,
    EXPLODING,
    VANISHING,
    ERROR,
    GRADIENT_ERROR,
    *COSTS.values(),
    GROWTH,
}  # what holds for all parameters
_OF_BOXES = {
    word: tuple(rule for rule in _RULES[word] if rule in (BENDS, PIECES, STEEPNESS, UNITS, REACH))
    for word in (CONVEX, CONCAVE, "smooth", "C0", "lipschitz")
}
_ALLOWED = {
    "quasiconvex": {CONSTANT, AFFINE, CONVEX},
    CONVEX: {CONSTANT, AFFINE, CONVEX},
    CONCAVE: {CONSTANT, AFFINE, CONCAVE},
    AFFINE: {CONSTANT, AFFINE},
}


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
        about = {"finding": f.property, "in": list(f.wrt), **_bracketed(f), **_erring(f), **_costing(f)}
        todo.append((_title(f), about, f.verdict))
        todo += _safe(f)
    for c in report.claims:
        todo.append((f"claim at line {c.line}: {c.text}", {"claim": c.line, "text": c.text}, c.verdict))
    for title, about, verdict in todo:
        if not isinstance(verdict, (Proved, Refuted)):
            continue
        reasons: list[str] = []
        for asked in _weaker(about):
            try:
                entries.append({**asked, **_entry(_questions(built, asked), verdict)})
                break
            except Stuck as reason:
                reasons.append(reason.why)
        else:
            without.append(f"{title} ({verdict.method}; {reasons[0]})")
    return {"name": built.program.name, "entries": entries, "without": without}


def _bracketed(f: Finding) -> dict[str, Any]:
    """What a number is not below, and not above, where that is said."""
    value = f.verdict.value
    if f.property not in NUMBERS or value is None or (value.exact is not None and value.upper is None):
        return {}
    low, high = value.lower, value.upper
    if value.exact is not None and low is not None and high is not None:
        low, high = low - _SLACK * abs(low), high + _SLACK * (abs(high) or 1.0)
    return {"bracket": [None if end is None else end.hex() for end in (low, high)]}


def _erring(f: Finding) -> dict[str, Any]:
    """The bound of a rounding error."""
    value = f.verdict.value
    if f.property not in (ERROR, GRADIENT_ERROR) or value is None:
        return {}
    return stated(value.exact) or stated_of_rows(value.exact)


def _costing(f: Finding) -> dict[str, Any]:
    """What is said of a cost."""
    return {"said": f.detail} if f.property == GROWTH or f.property in COSTS.values() else {}


def _safe(f: Finding) -> Iterator[tuple[str, dict[str, Any], Verdict]]:
    """The size of inputs up to which what is not finite for all of them is."""
    verdict = f.verdict
    if not f.property.startswith(FINITE) or not isinstance(verdict, Refuted) or verdict.value is None:
        return
    if (size := verdict.value.lower) is not None:
        about = {"finding": f.property, "in": list(f.wrt), "within": float(size).hex()}
        step = Step("float ranges", f.property, f"where every real input is within {float(size):.6g}")
        yield f"{_title(f)} within {float(size):.6g}", about, Proved(verdict.method, (step,))


def _weaker(about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is said of a number, and then only what bounds the loss: what it is not above, or below; that in the end with a
    little room. Of a rounding error bounds that are larger; of what is finite within a size, a size that is smaller."""
    if "error" in about:
        yield from ({**about, "error": error} for error in weaker(about["error"]))
        return
    yield about
    low, high = about.get("bracket", (None, None))
    if low is not None and high is not None:
        yield {**about, "bracket": [None, high] if "lipschitz" in about["finding"] else [low, None]}
    if high is not None and "lipschitz" in about["finding"]:
        end = float.fromhex(high)
        yield {**about, "bracket": [None, (end + _ROOM * abs(end)).hex()]}
    if "within" in about:
        yield {**about, "within": (float.fromhex(about["within"]) * (1 - _LESS)).hex()}


_SLACK = 2.0**-12  # boxes near what is only approached do not reach it
_LESS = 2.0**-8  # the arithmetic of the checker is a little less exact than that of the verifier
_ROOM = 2.0**-20  # nor are they, at what is attained, without an error of rounding


def _title(f: Finding) -> str:
    return f"{f.property}{' in ' + ', '.join(f.wrt) if f.wrt else ''}"


def _entry(questions: list[Question], verdict: Proved | Refuted) -> dict[str, Any]:
    if isinstance(verdict, Proved):
        return {"status": "proved", "parts": [_part(q) for q in questions]}
    reasons = Stuck("no certificate of this kind of counterexample yet")
    for part, question in enumerate(questions):
        try:
            return {"status": "refuted", "part": part, **counterexample(question, verdict)}
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
    ends = [about["within"], None] if "within" in about else about.get("bracket", (None, None))
    low, high = (None if end is None else _end(end) for end in ends)
    error = restated(about["error"]) if "error" in about else None
    return of_finding(built, about["finding"], tuple(about["in"]), (low, high), error, about.get("said", ""))


def _end(written: str) -> float:
    end = float.fromhex(written)
    if end.hex() != written or not math.isfinite(end):
        raise Stuck("an end that is no number, or is written in another way")
    return end


# ------------------------------------------------------------------------------------------------- proofs


def _part(question: Question) -> dict[str, Any]:
    """The first rule that proves it, with the trace. Raises Stuck, with the reason of the first rule."""
    reason = Stuck(f"no certificate for `{question.property}` yet")
    for k, rule in enumerate(_rules(question)):
        try:
            return {"rule": rule, "trace": _derived(rule, question)}
        except Stuck as stuck:
            reason = stuck if k == 0 else reason
    raise reason


def _proof(question: Question) -> list[list[str]]:
    """By the first rule, as a part of another proof. Raises Stuck."""
    part = _part(question)
    return [[question.property, part["rule"]], *part["trace"]]


def _rules(q: Question) -> tuple[str, ...]:
    """The rules of a property, without those that need a convex domain where there is none, or are about other bounds."""
    if q.error is not None:
        return (ERRORS,) if q.error.longest is None else (ROWS,)
    found = (RANGES, PARTS) if q.property.startswith(FINITE) else _RULES.get(q.property, ())
    if q.property in _BY_CASES and next(_compared(q), None):
        found += (CASES,)
    kept = q.property not in ("smooth", "C0", "lipschitz") or not on_a_sphere(q)
    return found if kept else tuple(r for r in found if r in _COMPOSITIONS)


def _joined(q: Question) -> list[list[str]]:
    """A composition in which boxes show what elements are as functions of the one tensor that they read."""
    boxes: list[list[str]] = []

    def shown(d: Definition, word: str) -> str:
        reason = Stuck(f"{d.tensor} is of more than one entry")
        for asked in of_one(replace(q, bound=None), d, word):
            for rule in _OF_BOXES[word]:
                try:
                    boxes.extend([[d.tensor, word, asked.inputs[0], rule], *_derived(rule, asked)])
                    return asked.inputs[0]
                except Stuck as stuck:
                    reason = stuck
        raise reason

    rule = {"smooth": _smoothness, "C0": _smoothness, "lipschitz": _lipschitz}.get(q.property, _curvature)
    return [*rule(q, shown), *boxes]


def _compared(q: Question) -> Iterator[tuple[str, float]]:
    """Parameters, and numbers inside of their ranges that they are compared with."""
    bounds = Bounds(q.program, q.assume)
    for d in bounds.needed(q.of):
        for n in postorder(*d.scalars()):
            if isinstance(n, Compare) and isinstance(n.a, Param) and (at := float_of(n.b)) is not None:
                box = bounds.parameter(n.a.name)
                if box.lo < at < box.hi:
                    yield n.a.name, at


def _by_cases(q: Question) -> list[list[str]]:
    """What holds for all parameters, if it does for those below a number, above it, and for the number itself."""
    name, at = next(_compared(q))
    box, number = Bounds(q.program, q.assume).parameter(name), {name: Fraction(at)}
    trace = []
    for side in (replace(box, hi=at, hi_open=True), replace(box, lo=at, lo_open=True)):
        trace += [[name, text(side)], *_proof(replace(q, assume={**q.assume, name: side}))]
    fixed = {**q.fixed, **number}
    there = replace(q, program=with_numbers(q.program, number), fixed=fixed)
    return [*trace, [name, at.hex()], *_proof(there)]


def _least(q: Question) -> list[list[str]]:
    """What the value is more than with the place itself as the entry is not negative."""
    curve, place = Curve(q), q.place
    assert place is not None
    if place.a not in set(postorder(curve.body)) or not curve.whole()[place.b].finite:
        raise Stuck("a place of another entry, or that may be no number")

    def step(n: Scalar) -> Scalar:
        same = isinstance(n, Apply) and n.name == "sub" and n.args == (place.b, place.b)
        return Const(0) if same else n

    there = transform(substitute(curve.body, {place.a: place.b}), step)
    gap = Apply("sub", (curve.body, there))
    made = Definition(GAP, free_indices(gap), "map", (), TRUE, gap)
    program = q.program.with_body((*q.program.body, made))
    return _proof(replace(q, program=program, property="non-negative", of=GAP, inputs=(), place=None))


def _enclosures(q: Question) -> list[list[str]]:
    """The enclosure of each tensor that the target is made of. Raises Stuck if the last does not answer the question."""
    bounds = Bounds(q.program, q.assume)
    lines = [[d.tensor, text(bounds.tensor(d.tensor))] for d in bounds.needed(q.of)]
    box = bounds.tensor(q.of)
    holds = {
        "non-negative": box.nonnegative,
        "positive": box.positive,
        "bounded": box.bounded,
        "range": not box.nan,
    }[q.property]
    if not holds:
        raise Stuck(f"{q.of} is in {text(box)}")
    return lines


def _curvature(q: Question, shown: Shown | None = None) -> list[list[str]]:
    bounds = Bounds(q.program, q.assume, frozenset(q.inputs))
    if bounds.tensor(q.of).nan:
        raise Stuck(f"{q.of} may be undefined")
    rules = Rules(bounds, q.inputs, shown)
    if rules.curvature(q.of) not in _ALLOWED[q.property]:
        raise Stuck(f"{q.of} is {rules.curvature(q.of)}")
    lines = []
    for d in bounds.needed(q.of):
        with contextlib.suppress(Stuck):  # of what no curvature is asked
            lines += [[d.tensor, rules.curvature(d.tensor)]] if d.tensor in rules.moving else []
    return [*lines, [q.of, q.property]]


def _smoothness(q: Question, shown: Shown | None = None) -> list[list[str]]:
    bounds = Bounds(q.program, q.assume, frozenset(q.inputs))
    way = Rules(bounds, q.inputs, shown).smooth(q.of, q.property == "C0", q.order)
    return [[tensor, text(bounds.tensor(tensor))] for tensor in way]


def _lipschitz(q: Question, shown: Shown | None = None) -> list[list[str]]:
    if q.bound is not None:
        raise Stuck("composition tells no constant")
    bounds = Bounds(q.program, q.assume, moved=frozenset(q.inputs))
    return [[tensor, text(bounds.tensor(tensor))] for tensor in Slopes(bounds, q.inputs, shown).lipschitz(q.of)]


def _order(q: Question) -> list[list[str]]:
    bounds = Bounds(q.program, q.assume, moved=frozenset(q.inputs))
    if bounds.tensor(q.of).nan:
        raise Stuck(f"{q.of} may be undefined")
    order = Order(Rules(bounds, q.inputs))
    if order.tensor(q.of) - {_WAYS[q.property]}:
        raise Stuck(f"{q.of} is not {q.property}")
    words = {frozenset({UP}): "rises", frozenset({DOWN}): "falls"}
    return [[d.tensor, words.get(order.tensor(d.tensor), "stays")] for d in bounds.needed(q.of)]


def _form(q: Question) -> list[list[str]]:
    """The sign and the number of the form of each tensor, before and after."""
    bounds, table = Bounds(q.program, q.assume), dict[object, int]()
    if q.property == "exchange symmetric":
        a, b = q.inputs
        seen_as = {a: (1, b), b: (1, a)}
        domains = [i for name in q.inputs if (i := q.program.input(name)) is not None]
        if len(domains) != 2 or not _is_one_domain(*domains):
            raise Stuck("two inputs of different domains")
    else:
        seen_as = {name: (-1, name) for name in q.inputs}
        if not all(_is_symmetric(q.program.input(name)) for name in q.inputs):
            raise Stuck("a domain that has not the negative of each of its points")
    before, after = Forms(bounds, {}, table), Forms(bounds, seen_as, table)
    (s, x), (t, y) = before.tensor(q.of), after.tensor(q.of)
    if x != y or s * t != (-1 if q.property == "odd" else 1):
        raise Stuck(f"{q.of} has another form")
    ways = [(d.tensor, before.tensor(d.tensor), after.tensor(d.tensor)) for d in bounds.needed(q.of)]
    return [[tensor, *(f"{sign * number}" for sign, number in pair)] for tensor, *pair in ways]


def _is_one_domain(a: Input, b: Input) -> bool:
    return (a.dims, a.kind, a.range, tuple(a.over)) == (b.dims, b.kind, b.range, tuple(b.over))


def _is_symmetric(declared: Input | None) -> bool:
    """Whether the negative of each point of a domain is in it, too."""
    if declared is None or declared.kind not in ("real", "int", "unit", "sign"):
        return False
    r = declared.range
    if r.lower is None or r.upper is None:
        return r.lower is r.upper
    low, high = (end.args[0] if isinstance(end, Apply) and end.name == "real" else end for end in (r.lower, r.upper))
    numbers = [end.value for end in (low, high) if isinstance(end, Const) and isinstance(end.value, Fraction)]
    mirrored = numbers[0] == -numbers[1] if len(numbers) == 2 else low is Apply("neg", (high,))
    return mirrored and r.lower_open == r.upper_open


def _permuted(q: Question) -> list[list[str]]:
    bounds = Bounds(q.program, q.assume)
    if len(q.along) != 1:
        raise Stuck("a permutation along more than one axis")
    permuted = Permuted(bounds, q.inputs[0], next(iter(q.along)))
    if permuted.tensor(q.of):
        raise Stuck(f"{q.of} is permuted, too")
    return [[d.tensor, *(str(k) for k in sorted(permuted.follows(d.tensor)))] for d in bounds.needed(q.of)]


def _answers(q: Question, kind: type[Shifts]) -> list[list[str]]:
    bounds = Bounds(q.program, q.assume)
    shifts = kind(bounds, q.inputs[0], q.along)
    if shifts.tensor(q.of):
        raise Stuck(f"{q.of} moves: {written(shifts.tensor(q.of))}")
    return [[d.tensor, written(shifts.tensor(d.tensor))] for d in bounds.needed(q.of)]


_DERIVE: dict[str, Callable[[Question], list[list[str]]]] = {
    ENCLOSURES: _enclosures,
    CURVATURE: _curvature,
    SMOOTHNESS: _smoothness,
    CONTINUITY: _smoothness,
    SHIFT: lambda q: _answers(q, Shifts),
    SCALE: lambda q: _answers(q, Scales),
    LIPSCHITZ: _lipschitz,
    ORDER: _order,
    FORM: _form,
    PERMUTED: _permuted,
    BENDS: of_convexity,
    SLOPES: of_order,
    STEEPNESS: of_lipschitz,
    ENDS: of_bracket,
    VALUES: of_bound,
    PIECES: of_smoothness,
    BOTH_SIDES: of_minimum,
    VALLEY: of_valley,
    MARGIN: of_calibration,
    CONVEX_MARGIN: lambda q: of_convex(q, _proof),
    CLASSES: of_classes,
    EXPECTED: of_proper,
    SPHERICAL: of_spherical,
    MASSES: of_masses,
    ONE_LOGIT: of_logit,
    TAILS: lambda q: falling(Curve(q)),
    REACH: of_slopes,
    **dict.fromkeys((EXPLOSION, LOSS), of_profile),
    UNITS: of_units,
    RANGES: of_ranges,
    PARTS: of_parts,
    JOINED: _joined,
    CASES: _by_cases,
    LEAST: _least,
    ERRORS: of_error,
    ROWS: of_rows,
    COUNTS: of_cost,
}


def _derived(rule: str, q: Question) -> list[list[str]]:
    try:
        return _DERIVE[rule](q)
    except RecursionError:
        raise Stuck("an expression that is too deep") from None


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
            if entry["rule"] not in rules_of(question):
                raise Rejected(where, f"{entry['rule']} does not refute {question.property}")
            holds, values = violates(question, entry)
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
            if part["rule"] not in _rules(question):
                raise Rejected(where, f"{part['rule']} does not prove {question.property}")
            derived = _derived(part["rule"], question)
            if derived != part["trace"]:
                line = next((d for d, t in zip(derived, part["trace"]) if d != t), ["the length of the trace"])
                raise Rejected(where, f"derived otherwise: {' '.join(line)}")
    except Stuck as reason:
        raise Rejected(where, reason.why) from reason
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as problem:
        raise Rejected(where, f"malformed ({type(problem).__name__}: {problem})") from problem


__all__ = ["TRUSTED", "Checked", "Rejected", "certify", "sealed", "verify"]
