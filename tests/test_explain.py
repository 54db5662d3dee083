"""`lossdsl check FILE --explain PROPERTY`: every kind of proof and counterexample is told in mathematics."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lossdsl.catalogue import find
from lossdsl.diagnostics import Source
from lossdsl.explain import Explanation, explain
from lossdsl.syntax.source import read_source

ROOT = Path(__file__).parents[1]


def told(name: str, question: str) -> Explanation:
    found = explain(read_source(find(name)[0])[0], question)
    assert not found.diagnostics
    assert len(found.explanations) == 1, [e.title for e in found.explanations]
    return found.explanations[0]


def of_text(text: str, question: str) -> tuple[Explanation, ...]:
    found = explain(Source("f.loss", text), question)
    assert not found.diagnostics, found.diagnostics
    return found.explanations


def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lossdsl", *words], input=stdin, capture_output=True, text=True, cwd=ROOT
    )


# question -> what has to be in the text: the rule, what it was applied to, its condition
TELLINGS = [
    ("cross_entropy", "convex in logits", "proved", [
        "The log-sum-exp is convex and increasing in each entry; its entries are affine.",
        "logits[n, c, ...] - logp.0[n, ...] is concave: affine minus convex.",
        "logp[n, target[n, ...], ...] is concave, times -weight[target[n, ...]] <= 0, which does not vary.",
    ]),
    ("huber", "convex in pred", "proved", [
        "no rule fits, but it varies only through pred[...] - target[...], which is affine",
        "The second derivative in pred[...] - target[...] is 1 >= 0: a constant.",
        "both pieces have the same value, and the slope is the same on both sides.",
    ]),
    ("huber", "lipschitz in pred <= delta", "proved", [
        "Its slope in pred[...] is pred[...] - target[...].", "It is <= delta: that is what this piece assumes.",
    ]),
    ("huber", "C1 in pred", "proved", [
        "the slope: -delta on the left, pred[...] - target[...] on the right, whose difference is 0",
    ]),
    ("huber", "C2 in pred", "refuted", [
        "the second derivative on either side: 0 on the left, 1 on the right.", "It jumps there by 1, which is not 0.",
    ]),
    ("huber", "minimum of per at pred == target", "proved", ["To be shown: nowhere is", "(to the power 2)"]),
    ("huber", "minimum at equality", "proved", ["To be shown: nowhere is"]),
    ("huber", "lipschitz in pred <= delta / 2", "refuted", ["a slope of", "where at most delta / 2 is allowed"]),
    ("huber", "finite in float32", "refuted", [
        "r[...] = pred[...] - target[...], exactly at [0]: -3.48205e+38", "whose numbers end at 3.40282e+38",
    ]),
    ("huber", "finite in float16", "proved", [
        "r[...] = pred[...] - target[...] is in [-131008, 131008].", "never undefined",
    ]),
    ("focal", "convex in logits", "refuted", ["above the chord, which is", "> 0, while convexity asks for <= 0."]),
    ("focal", "smooth in logits", "proved", ["logsigmoid is smooth at", "exp is smooth at"]),
    ("focal", "non-negative", "proved", ["logsigmoid maps (-inf, inf) into it", "gamma is in [0, inf), as declared."]),
    ("cross_entropy", "range", "proved", [
        "as an element is at most the maximum, and the log-sum-exp, of its row.", "Hence every value is in [0, inf).",
    ]),
    ("cross_entropy", "lipschitz in logits <= 1.4143 when weight == 1", "proved", [
        "the gradient of a log-sum-exp has mass 1", "logp: 1 and 1",
    ]),
    ("cross_entropy", "invariant under shift", "proved", [
        "Add s[n, ...], the same along c, to logits[n, c, ...].", "Then logp.0[n, ...] grows by s[n, ...]", "Then per[n, ...] stays",
    ]),
    ("huber", "exchange symmetric", "proved", [
        "r[...] becomes target[...] - pred[...]; it changes its sign", "per[...] reads what is above; it stays",
    ]),
    ("pseudo_huber", "strictly convex in pred", "proved", ["The second derivative in", "not 0 but at single points"]),
    ("savage", "calibrated", "proved", ["eta is the probability of the positive label", "falls at 0"]),
    ("kl_divergence", "non-negative", "proved", ["t - 1 >= log t at t = v / u gives u log(u / v) >= u - v"]),
    ("circle", "even in z", "proved", ["unit[n, d] becomes -z[n, d] / ", "sim.0[n, m] reads what is above; it stays"]),
    ("cross_entropy", "invariant under permutation of logits over c", "refuted", ["at the first point and"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "question", "status", "parts"), TELLINGS, ids=[f"{n}: {q}" for n, q, _, _ in TELLINGS]
)
def test_each_step_says_its_rule_what_it_is_applied_to_and_its_condition(
    name: str, question: str, status: str, parts: list[str]
) -> None:
    explanation = told(name, question)
    text = explanation.text()
    assert explanation.status == status, text
    for part in parts:
        assert part in text, f"{part!r} is not in\n{text}"
    assert "one interval evaluation" not in text
    assert "composition rules" not in text


def test_monotone_composition_is_told_node_by_node() -> None:
    text = of_text(
        "loss f:\n    input x: real[n, c]\n    per = logsumexp(2 * x over c)\n    return mean(per)\n", "increasing in x"
    )[0].text()
    assert "never falls" in text
    assert "So per[n] never falls with x." in text


def test_the_proof_of_a_recurrence_says_that_it_is_by_induction() -> None:
    text = "loss l:\n    input x: real[b, t]\n    s[b, t] = max(x[b, t] + s[b, t - 1 else 0], 0)\n    return sum(s)\n"
    [told_] = of_text(text, "convex in x")
    assert "s[b, t] is convex in x, as all values of earlier rounds are (induction)" in told_.text()


def test_a_permutation_and_a_scaling_are_told_tensor_by_tensor() -> None:
    text = "loss f:\n    input x: real[n, c]\n    p = x / sum(abs(x) over c)\n    per = max(p over c)\n    return mean(per)\n"
    told = of_text(text, "invariant under scale of x over c")[0].text()
    assert "Multiply by t[n] > 0, the same along c, x[n, c]." in told
    assert "p.0[n] is multiplied by t[n]" in told
    assert "p[n, c] stays" in told
    told = of_text(text, "invariant under permutation of x over c")[0].text()
    assert "Put pi(c) for c in x" in told
    assert "p[n, c] follows, with pi(c)" in told
    assert "stays, as max over all of an axis does not depend on the order" in told


def test_a_branch_on_the_input_is_never_said_to_be_none() -> None:
    """A node is told by its rule only where the rule holds of it: the branch of huber depends on the input."""
    assert "which one is taken does not depend on" not in told("huber", "convex in pred").text()


@pytest.mark.parametrize(
    "name", ["cross_entropy", "binary_cross_entropy", "poly1", "info_nce", "huber", "lifted_structure", "log_cosh"]
)
def test_a_walk_ends_where_the_proof_does(name: str) -> None:
    """The last line of each definition names what the engine has proved of it."""
    for explanation in explain(read_source(find(name)[0])[0], "convex").explanations:
        said = [item for item in explanation.text().split("\n") if " So " in item or item.lstrip().startswith("- So ")]
        if explanation.status == "proved" and said:
            assert re.search(r"is (convex|affine|constant) in ", said[-1]), said[-1]


def test_words_without_an_input_are_asked_of_each() -> None:
    found = explain(read_source(find("huber")[0])[0], "convex").explanations
    assert [e.title for e in found] == ["convex in pred", "convex in target"]
    found = explain(read_source(find("huber")[0])[0], "lipschitz <= delta").explanations
    assert [e.title for e in found] == ["lipschitz in pred <= delta", "lipschitz in target <= delta"]


def test_a_negated_claim_is_told_as_the_property_and_judged_as_the_claim() -> None:
    explanation = told("huber", "not C2 in pred")
    assert explanation.status == "refuted"
    assert "The claim `not C2 in pred` is proved." in explanation.text()


def test_an_unknown_says_what_was_tried_and_what_blocks() -> None:
    text = "loss f:\n    input x: real[n] > 0\n    per = lgamma(x)^2 * sin(x)^2 + exp(sin(x) * lgamma(x))\n    return mean(per)\n"
    explanation = of_text(text, "quasiconvex in x")[0]
    assert explanation.status in ("unknown", "refuted")
    if explanation.status == "unknown":
        assert "Tried:" in explanation.text()
        assert "What no rule gets past:" in explanation.text()


def test_latex_is_balanced_and_says_the_same() -> None:
    for name, question, _, _ in TELLINGS[:8]:
        explanation = told(name, question)
        latex = explanation.latex()
        assert latex.count(r"\begin{") == latex.count(r"\end{")
        assert latex.count("$") % 2 == 0
        assert len(re.findall(r"\\item ", latex)) == len(explanation.lines)
        assert not re.search(r"(?<!\\)[&#%](?![^$]*\$)", re.sub(r"\$[^$]*\$", "", latex))


def test_two_spellings_of_one_step_come_from_one_sentence() -> None:
    explanation = told("huber", "C2 in pred")
    for item in explanation.lines:
        assert bool(item.text()) == bool(item.latex())


def test_the_command_line() -> None:
    done = run("check", "huber", "--explain", "convex in pred")
    assert done.returncode == 0
    assert "Hence it is proved: convex in pred." in done.stdout
    done = run("check", "huber", "--explain", "convex in pred", "--latex")
    assert done.returncode == 0
    assert r"\begin{enumerate}" in done.stdout
    assert run("check", "huber", "--explain", "C2 in pred").returncode == 0  # an answer is no failure


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("convx in pred", "did you mean `convex`?"),
        ("lipshitz in pred", "did you mean `lipschitz`?"),
        ("convex in prd", "did you mean `pred`"),
        ("per >=", "--explain:1:"),
        ("blah", "properties are convex"),
        ("", "a property is missing"),
        ("convex in pred when gama == 1", "gama"),
        ("per >= 0\n    claim convex in pred", "--explain:1:"),
    ],
)
def test_bad_words_are_diagnostics(words: str, said: str) -> None:
    done = run("check", "huber", "--explain", words)
    assert done.returncode == 3, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_a_property_that_makes_no_sense_says_why() -> None:
    done = run("check", "huber", "--explain", "calibrated")
    assert done.returncode == 3
    assert "no input is a label" in done.stdout
    done = run("check", "cross_entropy", "--explain", "convex in target")
    assert done.returncode == 3
    assert "`target` is not a real input" in done.stdout


def test_wrong_files_and_misuse() -> None:
    assert run("check", "nowhere.loss", "--explain", "convex").returncode == 2
    assert run("check", "-", "--explain", "convex", stdin="loss f:\n    return mean(y)\n").returncode == 2
    assert run("check", "huber", "--latex").returncode == 3
    assert run("check", "huber", "--json", "--explain", "convex").returncode == 3


def test_what_was_tried_twice_is_said_once() -> None:
    text = "loss f:\n    input x: real[n, c]\n    per = -log(exp(x[n, 0]) / sum(exp(x) over c))\n    return mean(per)\n"
    for explanation in of_text(text, "strictly concave in x"):
        said = [item.text() for item in explanation.lines if item.text().startswith("Tried:")]
        assert len(said) == len(set(said))
