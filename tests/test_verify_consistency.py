"""Rules between verdicts: each is broken by a forged contradiction, and by nothing that the verifier says."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from lossdsl.verify import verify_program
from lossdsl.verify.consistency import RULES, Fact, Rule, broken, consistent
from lossdsl.verify.verdict import NO_VALUE, Bracket, Proved, Refuted, Step, Unknown, Verdict, Witness
from tests.test_verify import EXAMPLES, built, losses_of

PROOF = Proved("forged", (Step("forged", "per", "so"),))
COUNTEREXAMPLE = Refuted("forged", Witness(({"x[0]": Fraction(1)},), "so"))
SAMPLE = sorted(Path(EXAMPLES).glob("*/*.loss"))[::24]


def facts(rule: Rule, domain: str) -> list[Fact]:
    return [Fact(p, "per", ("x",), PROOF, domain) for p in rule.premises] + [
        Fact(d, "per", ("x",), COUNTEREXAMPLE, domain) for d in rule.denied
    ]


@pytest.mark.parametrize("rule", RULES, ids=map(str, RULES))
def test_a_rule_fires_on_its_contradiction_alone(rule: Rule) -> None:
    forged = facts(rule, rule.domain)
    assert str(rule) in [name for name, _ in broken(forged)]
    for k in range(len(forged)):
        rest = [f for j, f in enumerate(forged) if j != k]
        undecided: Verdict = Unknown("forged")
        assert str(rule) not in [name for name, _ in broken([*rest, replace(forged[k], verdict=undecided)])]
        assert str(rule) not in [name for name, _ in broken([*rest, replace(forged[k], of="other")])]
    if rule.domain:
        assert str(rule) not in [name for name, _ in broken(facts(rule, ""))]


def test_one_question_with_two_answers() -> None:
    both = [Fact("convex", "per", ("x",), v) for v in (PROOF, COUNTEREXAMPLE)]
    assert [name for name, _ in broken(both)] == ["convex proved and refuted"]
    apart = [both[0], replace(both[1], wrt=("y",))]
    assert broken(apart) == []


@pytest.mark.parametrize(
    ("bracket", "other"),
    [
        (Bracket(0.0, None), Fact("non-negative", "per", (), COUNTEREXAMPLE)),
        (Bracket(None, -1.0), Fact("non-negative", "per", (), PROOF)),
        (Bracket(-1.0, 2.0), Fact("bounded", "per", (), COUNTEREXAMPLE)),
    ],
)
def test_a_range_has_room_for_what_is_said_of_the_value(bracket: Bracket, other: Fact) -> None:
    found = Fact("range", "per", (), replace(PROOF, value=bracket))
    assert len(broken([found, other])) == 1
    assert broken([replace(found, verdict=replace(PROOF, value=Bracket(None, None))), other]) == []


def test_the_ends_of_a_number_are_in_order() -> None:
    for verdict in (PROOF, COUNTEREXAMPLE):
        found = Fact("finite in float16", "per", (), replace(verdict, value=Bracket(2.0, 1.0)))
        assert [name for name, _ in broken([found])] == ["a lower end above the upper one"]
        assert broken([replace(found, verdict=replace(verdict, value=Bracket(1.0, 2.0)))]) == []


def test_what_contradicts_something_is_taken_back() -> None:
    loss = built("loss t:\n    input x: real[...]\n    per = x^2\n    return mean(per)\n    claim convex in x\n")
    report = verify_program(loss)
    assert report.claims[0].status == "proved"
    assert consistent(loss, report) == report
    forged = tuple(replace(f, verdict=COUNTEREXAMPLE) if f.property == "convex" else f for f in report.findings)
    doubted = consistent(loss, replace(report, findings=forged))
    assert doubted.claims[0].status == "unknown"
    (finding,) = [f for f in doubted.findings if f.property == "convex"]
    assert isinstance(finding.verdict, Unknown)
    assert "contradict" in finding.verdict.blocker
    touched = ("convex", "strictly convex", "smooth")
    untouched = [f for f in doubted.findings if f.property not in touched]
    assert untouched == [f for f in report.findings if f.property not in touched]


@pytest.mark.parametrize("path", SAMPLE, ids=lambda p: p.stem)
def test_nothing_said_of_an_example_is_a_contradiction(path: Path) -> None:
    for loss in losses_of(path):
        report = verify_program(loss, effort=0.3)
        said = [f.verdict for f in report.findings] + [c.verdict for c in report.claims]
        assert not any(isinstance(v, Unknown) and "contradict" in v.blocker for v in said)


def test_where_there_is_no_real_value_curvature_is_of_infinities() -> None:
    text = "loss l:\n    input x: real[n] >= 0\n    input y: real[n]\n    return mean(log(x)) + mean(y)\n"
    said = {(f.property, f.wrt): f.verdict for f in verify_program(built(text)).findings}
    assert isinstance(said["convex", ("y",)], Proved)
    assert any(
        isinstance(v, Refuted) for (p, wrt), v in said.items() if p in ("C0", "differentiable") and wrt == ("y",)
    )
    infinite = replace(COUNTEREXAMPLE, witness=replace(COUNTEREXAMPLE.witness, violation=f"{NO_VALUE}: infinite"))
    assert broken([Fact("convex", "per", ("x",), PROOF), Fact("C0", "per", ("x",), infinite)]) == []
    assert broken([Fact("smooth", "per", ("x",), PROOF), Fact("C0", "per", ("x",), infinite)]) == []
    assert len(broken([Fact("C1", "per", ("x",), PROOF), Fact("C0", "per", ("x",), infinite)])) == 1
