"""Rules that verdicts on one loss cannot break: where one fires, an engine is wrong.

A rule says that what is proved of the premises excludes a verdict on the conclusion. Verdicts are compared where they are
about the same target and inputs without further conditions. What contradicts something is taken back by `consistent`:
none of the verdicts that a broken rule names is believed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lossdsl.ir.build import BuiltLoss
from lossdsl.ir.nodes import Input, Program
from lossdsl.syntax import tree
from lossdsl.verify.verdict import NO_VALUE, Proved, Refuted, Report, Unknown, Verdict


@dataclass(frozen=True, eq=False)
class Fact:
    """A decided property of a target in some inputs (none for the value itself); `domain`: "line" where these (all that
    are learned from, for none) take every real number, "probability" where they are probabilities, else ""."""

    property: str
    of: str
    wrt: tuple[str, ...]
    verdict: Verdict
    domain: str = ""

    def __str__(self) -> str:
        word = {Proved: "proved", Refuted: "refuted", Unknown: "unknown"}[type(self.verdict)]
        where = f" in {', '.join(self.wrt)}" if self.wrt else ""
        return f"{self.property}{where} {word}"


@dataclass(frozen=True)
class Rule:
    """`premises` proved and `denied` refuted are not all so at once. `domain`: only for inputs of such a domain."""

    premises: tuple[str, ...]
    denied: tuple[str, ...] = ()
    domain: str = ""

    def __str__(self) -> str:
        parts = [f"{p} proved" for p in self.premises] + [f"{d} refuted" for d in self.denied]
        return " and ".join(parts)


def _implies(*chain: str) -> list[Rule]:
    """Each of the chain implies the next."""
    return [Rule((a,), (b,)) for a, b in itertools.pairwise(chain)]


RULES: tuple[Rule, ...] = (
    *_implies("strongly convex >= 1", "strictly convex", "convex", "quasiconvex"),
    *_implies("strictly concave", "concave"),
    *_implies("smooth", "C2", "C1", "C0"),
    *_implies("affine", "convex"),
    *_implies("affine", "concave"),
    *_implies("affine", "smooth"),
    *_implies("convex", "C0"),
    *_implies("concave", "C0"),
    *_implies("lipschitz", "C0"),
    *_implies("lipschitz <= 1", "lipschitz"),
    *_implies("gradient lipschitz <= 1", "C1"),
    *_implies("strictly increasing", "increasing"),
    *_implies("strictly decreasing", "decreasing"),
    *_implies("positive", "non-negative"),
    *_implies("infimum == 0", "non-negative"),
    *_implies("unique minimum at equality", "minimum at equality"),
    *_implies("jointly convex", "convex"),
    *_implies("strictly proper", "proper"),
    Rule(("strictly proper",), ("calibrated",), domain="probability"),
    Rule(("convex", "concave"), ("affine",)),
    Rule(("strictly convex", "concave")),
    Rule(("strictly convex", "strictly concave")),
    Rule(("strictly convex", "affine")),
    Rule(("increasing", "decreasing", "strictly convex")),
    Rule(("strictly increasing", "decreasing")),
    Rule(("strictly decreasing", "increasing")),
    Rule(("strictly increasing", "even"), domain="line"),
    Rule(("strictly decreasing", "even"), domain="line"),
    Rule(("even", "odd", "positive")),
    Rule(("odd", "positive"), domain="line"),
    # what is bounded and convex on all of a space is constant
    *(Rule(("convex", "bounded", p), domain="line") for p in ("strictly increasing", "strictly decreasing")),
    *(Rule(("convex", "bounded"), (d,), domain="line") for d in ("increasing", "decreasing", "concave", "affine")),
    # a derivative that is monotone and goes to 0 on both sides is 0
    *(Rule(("convex", "redescending"), (d,), domain="line") for d in ("increasing", "decreasing", "concave", "affine")),
    Rule(("strictly convex", "redescending"), domain="line"),
    # noise symmetry makes every convex loss affine, and so one that is bounded below constant (Charoenphakdee et al.
    # 2019); what is constant is not calibrated
    *(
        Rule(("noise symmetric", "convex", "non-negative"), (d,), domain="line")
        for d in ("increasing", "decreasing", "concave", "affine")
    ),
    Rule(("noise symmetric", "convex", "non-negative", "calibrated"), domain="line"),
    Rule(("noise symmetric", "strictly convex"), domain="line"),
    # a line along which nothing changes is flat
    Rule(("invariant under shift", "strictly convex")),
    Rule(("invariant under scale", "strictly convex"), domain="line"),
    Rule(("invariant under scale", "strictly increasing"), domain="line"),
)


# Order and curvature are of values with infinities among them (a line on which all are -inf is convex); these are not.
_ORDERS = frozenset({"convex", "concave", "affine"})
_CLASSES = frozenset({"C0", "C1", "C2", "smooth"})


def _nowhere(fact: Fact) -> bool:
    """Whether a counterexample is a point without a real value."""
    return isinstance(fact.verdict, Refuted) and fact.verdict.witness.violation.startswith(NO_VALUE)


def broken(facts: Iterable[Fact]) -> list[tuple[str, tuple[Fact, ...]]]:
    """The rules that are broken, with the facts of which each is."""
    groups: dict[tuple[str, tuple[str, ...]], list[Fact]] = {}
    known = list(facts)
    for fact in known:
        groups.setdefault((fact.of, fact.wrt), []).append(fact)
    for (of, wrt), members in groups.items():
        if wrt:  # what is said of the value holds beside whatever is said of its dependence
            members += [f for f in known if f.of == of and not f.wrt]
    found = [x for members in groups.values() for x in _broken(members)]
    return list(dict.fromkeys(found))


def _broken(facts: list[Fact]) -> Iterator[tuple[str, tuple[Fact, ...]]]:
    proved = {f.property: f for f in reversed(facts) if isinstance(f.verdict, Proved)}
    refuted = {f.property: f for f in reversed(facts) if isinstance(f.verdict, Refuted)}
    for name in proved.keys() & refuted.keys():
        yield f"{name} proved and refuted", (proved[name], refuted[name])
    for rule in RULES:
        if all(p in proved for p in rule.premises) and all(d in refuted for d in rule.denied):
            if any(d in _CLASSES and _nowhere(refuted[d]) for d in rule.denied) and _ORDERS.issuperset(rule.premises):
                continue
            parts = (*(proved[p] for p in rule.premises), *(refuted[d] for d in rule.denied))
            if not rule.domain or all(f.domain == rule.domain for f in parts):
                yield str(rule), parts
    yield from _ranges(facts, proved, refuted)


def _ranges(
    facts: list[Fact], proved: dict[str, Fact], refuted: dict[str, Fact]
) -> Iterator[tuple[str, tuple[Fact, ...]]]:
    """What an enclosure of the value leaves room for; and the two ends of a number."""
    for fact in facts:
        number = fact.verdict.value
        lower, upper = (None, None) if number is None else (number.lower, number.upper)
        if lower is not None and upper is not None and lower > upper:
            yield "a lower end above the upper one", (fact,)
        if fact.property != "range" or not isinstance(fact.verdict, Proved) or fact.verdict.value is None:
            continue
        low, high = fact.verdict.value.lower, fact.verdict.value.upper
        if low is not None and low >= 0 and "non-negative" in refuted:
            yield "a range above 0 and non-negative refuted", (fact, refuted["non-negative"])
        if high is not None and high < 0 and "non-negative" in proved:
            yield "a range below 0 and non-negative proved", (fact, proved["non-negative"])
        if low is not None and high is not None and "bounded" in refuted:
            yield "a bounded range and bounded refuted", (fact, refuted["bounded"])


# ------------------------------------------------------------------------------------------------- reports


def facts_of(built: BuiltLoss, report: Report) -> dict[Fact, tuple[str, int]]:
    """The findings and the claims without conditions as facts, and where each stands in the report."""
    program = built.program
    facts: dict[Fact, tuple[str, int]] = {}
    for k, finding in enumerate(report.findings):
        if not finding.when:
            facts[_fact(program, finding.property, finding.of, finding.wrt, finding.verdict)] = ("findings", k)
    usual = program.target or built.tensors.get("per") or built.tensors["return"]
    for k, (claim, result) in enumerate(zip(built.claims, report.claims, strict=True)):
        name = _named(claim)
        if name is None or claim.when is not None or claim.on is not None or claim.at_defaults:
            continue
        of = usual if claim.of is None else built.tensors.get(claim.of, claim.of)
        wrt = tuple(built.tensors.get(i.name, i.name) for i in claim.inputs)
        if not wrt and name not in VALUE:
            continue  # in all inputs together
        facts[_fact(program, name, of, wrt, result.verdict)] = ("claims", k)
    return facts


VALUE = frozenset(
    {"non-negative", "positive", "bounded", "infimum == 0", "calibrated", "proper", "strictly proper"}
) | {"noise symmetric"}


def _fact(program: Program, name: str, of: str, wrt: tuple[str, ...], verdict: Verdict) -> Fact:
    inputs = [i for i in program.inputs if (i.name in wrt if wrt else i.differentiable)]
    return Fact(name, of, wrt, verdict, domain_of(inputs))


def domain_of(inputs: Iterable[Input]) -> str:
    """The domain that all of these inputs have, as the rules ask for it."""
    found = {_domain(i) for i in inputs}
    return found.pop() if len(found) == 1 else ""


def _domain(i: Input) -> str:
    if i.role != "input" or i.default is not None:
        return ""  # no prediction
    free = i.range.lower is None and i.range.upper is None
    return "line" if i.kind == "real" and free else "probability" if i.kind in ("prob", "simplex") and free else ""


def _named(claim: tree.Claim) -> str | None:
    """The property as the rules name it; None for what they do not speak of."""
    if claim.kind in ("word", "monotone"):
        return None if claim.link is not None else {"differentiable": "C1"}.get(claim.word or "", claim.word)
    if claim.kind in ("even", "odd"):
        return claim.kind
    if claim.kind == "lipschitz" and claim.bound is None:
        return "lipschitz"
    return None


def consistent(built: BuiltLoss, report: Report) -> Report:
    """The report without the verdicts that contradict one another."""
    facts = facts_of(built, report)
    findings, claims = list(report.findings), list(report.claims)
    for rule, parts in broken(facts):
        doubt = Unknown(f"verdicts contradict one another ({rule}): an error of the verifier, please report it")
        for part in parts:
            where, k = facts[part]
            if where == "findings":
                findings[k] = replace(findings[k], verdict=doubt)
            else:
                claims[k] = replace(claims[k], verdict=doubt)
    return replace(report, findings=tuple(findings), claims=tuple(claims))


__all__ = ["RULES", "Fact", "Rule", "broken", "consistent", "facts_of"]
