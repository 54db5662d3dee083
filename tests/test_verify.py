"""What the verifier decides about losses whose truth is known, and that it is never wrong about random ones."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath as mp
import pytest
from references import REFERENCES, SPINE, each_path

from lossdsl import pipeline
from lossdsl.card import witness_text
from lossdsl.diagnostics import Source
from lossdsl.ir.build import BuiltLoss, build
from lossdsl.primitives import PRIMITIVES
from lossdsl.syntax.parser import parse
from lossdsl.verify import chords, report_json, verify_program
from lossdsl.verify.claims import Claims
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import mul_down, mul_up
from lossdsl.verify.finite import only_entry
from lossdsl.verify.operations import _SMOOTH
from lossdsl.verify.points import Evaluator, TooManySteps
from lossdsl.verify.verdict import Proved, Refuted, Report, Unknown, Witness
from tests.fuzz_attacks import jump_is_there
from tests.verify_fuzz import Expression, Values, expression, number, points, source

EXAMPLES = Path(__file__).parent.parent / "examples"
SAMPLE = {REFERENCES[n].file for n in SPINE}


def built(text: str) -> BuiltLoss:
    file = Source("test.loss", text)
    module, problems = parse(file)
    losses, found = build(module, file)
    assert losses, [d.message for d in (*problems, *found)]
    return losses[0]


def elementwise(body: str, claims: str, *, declarations: str = "", inputs: str = "input x, y: real[...]") -> Report:
    lines = [f"    {line.strip()}" for line in (inputs + "\n" + declarations).splitlines() if line.strip()]
    lines += [f"    {line.strip()}" for line in body.splitlines() if line.strip()]
    lines += ["    return mean(per)"] + [f"    claim {c.strip()}" for c in claims.split(";")]
    return verify_program(built("loss test:\n" + "\n".join(lines) + "\n"), searching=False)


def statuses(report: Report) -> list[str]:
    return [c.status for c in report.claims]


# ------------------------------------------------------------------------------------------------ known truths


def losses_of(path: Path) -> list[BuiltLoss]:
    file = Source(str(path), path.read_text())
    losses, found = build(parse(file)[0], file)
    assert losses, found
    return losses


@pytest.mark.parametrize("path", each_path())
def test_no_claim_of_an_example_is_refuted(path: Path) -> None:
    """Nor is one of the sample unknown."""
    for loss in losses_of(path):
        report = verify_program(loss)
        assert [c.text for c in report.claims if c.status == "refuted"] == []
        if f"{path.parent.name}/{path.stem}" in SAMPLE:
            allowed = 1 if path.stem == "generalised_cross_entropy" else 0  # `not C1` of what branches on a softmax
            assert len([c.text for c in report.claims if c.status == "unknown"]) <= allowed


MOST_UNKNOWN = 0.07  # of all claims; 42 of 771 when this was written


@pytest.mark.slow
def test_the_share_of_unknown_claims_in_the_catalogue_does_not_grow() -> None:
    """Lower the number when an engine learns."""
    unknown, total = [], 0
    for path in sorted(EXAMPLES.glob("*/*.loss")):
        for loss in losses_of(path):
            claims = Claims(loss, Context(loss.program, seconds=0.1))
            unknown += [f"{path.stem}: {c.text}" for c in loss.claims if isinstance(claims.decide(c), Unknown)]
            total += len(loss.claims)
    assert total > 200
    assert len(unknown) <= MOST_UNKNOWN * total, "\n".join(unknown)


TRUE = [
    ("per = abs(x - y)", "convex in x; lipschitz in x <= 1; C0 in x; not C1 in x; per >= 0"),
    ("per = sqrt(1 + (x - y)^2) - 1", "convex in x; smooth in x; lipschitz in x <= 1"),
    ("per = log(1 + exp(x))", "convex in x; smooth in x; lipschitz in x <= 1"),
    ("per = log((exp(x) + exp(-x)) / 2)", "convex in x; lipschitz in x <= 1"),
    ("per = abs(x) - log(1 + abs(x))", "convex in x; C1 in x; lipschitz in x <= 1"),
    ("per = x^4 - 2 * x^3 + 3 / 2 * x^2", "convex in x"),
    ("per = relu(1 - x)^2", "convex in x; C1 in x; not C2 in x; decreasing in x; not lipschitz in x"),
    ("per = max(x, -x)", "convex in x; not C1 in x; not concave in x"),
    ("per = 1 - exp(-(x - y)^2)", "not convex in x; smooth in x; 0 <= per <= 1; minimum of per at x == y"),
    ("per = x^2 / (1 + x^2)", "not convex in x; smooth in x; per >= 0"),
    ("per = 3 * x - 2 * y", "affine in x; affine in x, y; lipschitz in x <= 3; not lipschitz in x <= 2.9"),
    ("per = x^2 * y^2", "convex in x; convex in y; not convex in x, y"),
    ("per = x * y", "affine in x; affine in y; not convex in x, y"),
    ("per = max(0, x) + min(0, x)", "convex in x"),
    ("per = (x - y)^2 / 2", "strongly convex in x >= 1; gradient lipschitz in x <= 1; minimum of per at x == y"),
]


@pytest.mark.parametrize(("body", "claims"), TRUE, ids=[b for b, _ in TRUE])
def test_true_claims_are_proved(body: str, claims: str) -> None:
    report = elementwise(body, claims)
    assert {c.text: c.status for c in report.claims if c.status != "proved"} == {}


BROKEN = [  # traps where verifiers are known to be wrong: none of these may be proved
    ("per = (x - y)^2 / 2 if abs(x - y) <= 1 else abs(x - y)", "convex in x"),  # the join jumps
    ("per = (x - y)^2 / 2 if abs(x - y) <= 1 else abs(x - y) / 2", "convex in x"),  # the slope falls at the join
    ("per = (x - y)^2 / 2 if abs(x - y) <= 1 else abs(x - y)", "lipschitz in x <= 1"),
    ("per = x if x <= 1 else 1 + (x - 1) / 10", "convex in x"),
    ("per = 0 if x < 0 else 1", "convex in x"),
    ("per = 0 if x < 0 else 1", "lipschitz in x <= 1"),
    ("per = -relu(x)", "convex in x"),
    ("per = sqrt(x^2) - 2 * abs(x)", "convex in x"),
    ("per = max(x, -x) - 1.5 * sqrt(x * x)", "convex in x"),
    ("per = 1 / x^2", "convex in x"),
    ("per = log(abs(x))", "concave in x"),
    ("per = x^2 * y^2", "convex in x, y"),
    ("per = x^2 + sin(1000000 * x) / 100000000000", "convex in x"),
    ("per = x^2 if abs(x - 1) > 1e-7 else x^2 - 1e-9", "convex in x"),
    ("per = x^2 - 1e-12 * x^4", "convex in x"),  # only far out
    ("per = x^2 / 2 - 1e-9", "per >= 0"),
    ("per = abs(x) + 1e-9 * x", "lipschitz in x <= 1"),
    ("per = exp(x) - x^2", "convex in x"),
    ("per = x^3", "convex in x"),
    ("per = abs(x)", "C1 in x"),
    ("per = x * abs(x)", "C2 in x"),
    ("per = sqrt(x^2)", "C1 in x"),
    ("per = (x^3 if x > 0 else 0) + 0 * y", "smooth in x"),
    ("per = x^4 if x > 0 else 0", "smooth in x"),
    ("per = x * 0 if x == 3 else 1", "convex in x"),
    ("per = floor(x) + 0.0", "convex in x"),
    ("per = stop(-x) * x", "convex in x"),
    ("per = relu(x) - relu(-x) + abs(x - y) - abs(y - x) - 1e-7 * abs(x)", "convex in x"),
]


@pytest.mark.parametrize(("body", "claim"), BROKEN, ids=[f"{c} of {b}" for b, c in BROKEN])
def test_false_claims_are_never_proved(body: str, claim: str) -> None:
    report = elementwise(body, claim)
    assert not isinstance(report.claims[0].verdict, Proved)


NEVER_REFUTED = [  # true, and hard to see
    ("per = 5 if x > 0 and x < 0 else x^2", "C0 in x"),  # the first branch is never taken
    ("per = 5 if x > 0 and x < 0 else x^2", "convex in x"),
    ("per = x^2 if x > 0 else x * x", "smooth in x"),
    ("per = log1p(exp(x)) if x > 0 else softplus(x)", "smooth in x"),
    ("per = max(x, x) + relu(0 * x)", "C1 in x"),
    ("per = abs(abs(x))", "convex in x"),
    ("per = relu(x) - relu(-x)", "C1 in x"),
    ("per = (abs(x) if x >= 0 else -abs(x))", "C1 in x"),
]


@pytest.mark.parametrize(("body", "claim"), NEVER_REFUTED, ids=[f"{c} of {b}" for b, c in NEVER_REFUTED])
def test_true_claims_are_never_refuted(body: str, claim: str) -> None:
    report = elementwise(body, claim)
    assert not isinstance(report.claims[0].verdict, Refuted)


SMOOTH_THROUGHOUT = [  # kinks that cancel: equal to the function behind the colon, whose truth is known
    "relu({u}) - relu(-{u})",
    "relu({u}) - relu(-2 * {u}) / 2",
    "abs({u}) * (1 if {u} >= 0 else -1)",
    "max({u}, 0) + min({u}, 0)",
    "max({u}, -{u}) - abs({u}) + {u}",
    "abs(3 * {u}) / 3 - abs({u}) + {u}",
    "(relu({u}) if {u} > 0 else -relu(-{u}))",
    "sqrt({u}^2) - sqrt({u} * {u}) + {u}",
    "abs({u} / a) * a - abs(-{u}) + {u}",
    "{u} + relu({u} / a) - relu({u}) / a",
    "max({u}, 2 * {u}) - relu({u})",
    "clamp({u}, -1, 1) + relu({u} - 1) - relu(-1 - {u})",
]


ANOTHER = [pytest.param(u, marks=pytest.mark.slow) for u in ("x", "(y - x)", "(2 * x - 1)")]


@pytest.mark.parametrize("u", ["(x - y)", *ANOTHER])
@pytest.mark.parametrize("form", SMOOTH_THROUGHOUT)
def test_kinks_that_cancel_are_no_kinks(form: str, u: str) -> None:
    identity = form.replace("{u}", u)
    claims = "C0 in x; C1 in x; smooth in x; convex in x; concave in x"
    declarations = "param a: real in [1/2, 2] = 1"
    for outer, holds in (("{}", (0, 1, 2, 3, 4)), ("({})^2", (0, 1, 2, 3)), ("softplus({})", (0, 1, 2, 3))):
        report = elementwise(f"per = {outer.format(identity)}", claims, declarations=declarations)
        for k in holds:
            assert report.claims[k].status != "refuted", (report.claims[k].text, report.claims[k].verdict)
    bent = elementwise(f"per = {identity} + abs({u}) / 1000", claims, declarations=declarations)
    assert statuses(bent)[1] != "proved"
    assert statuses(bent)[4] != "proved"


@pytest.mark.parametrize("form", SMOOTH_THROUGHOUT[:3])
def test_kinks_that_cancel_are_seen_through(form: str) -> None:
    report = elementwise(f"per = {form.format(u='(x - y)')}", "affine in x; smooth in x; lipschitz in x <= 1")
    assert statuses(report) == ["proved"] * 3


REGIONS = [  # a kink or a tail outside of the region is no counterexample
    ("per = (x - y)^2", "lipschitz in x on abs(x - y) <= 1"),
    ("per = abs(x - y)", "C1 in x on abs(x - y) >= 1"),
    ("per = abs(x - y)", "C1 in x on x >= y + 1"),
    ("per = abs(x - y)", "smooth in x on x > y"),
    ("per = abs(x - 1 / 3)", "C1 in x on x <= 1 / 3"),
    ("per = abs(x)", "C1 in x on x >= 0"),
    ("per = x^2", "lipschitz in x on x * x <= 4"),
    ("per = x^2 if y == a and y != a else x", "lipschitz in x"),
    ("per = abs(x) if y == a and y != a else x", "C1 in x"),
]


@pytest.mark.parametrize(("body", "claim"), REGIONS, ids=[f"{c} of {b}" for b, c in REGIONS])
def test_what_lies_outside_of_the_region_refutes_nothing(body: str, claim: str) -> None:
    report = elementwise(body, claim, declarations="param a: real in [0, 1] = 1/2")
    assert not isinstance(report.claims[0].verdict, Refuted)


def test_primitives_that_are_called_smooth_have_no_kinks() -> None:
    assert [name for name in _SMOOTH if PRIMITIVES[name].kinks] == []


def test_a_softplus_exceeds_its_argument() -> None:
    between = "input x: real[...]\ninput t: real[...] in [0, 1]"
    report = elementwise("per = softplus(x) - t * x", "per >= 0; per > 0; per >= 0.001", inputs=between)
    assert statuses(report) == ["proved", "proved", "refuted"]
    assert statuses(elementwise("per = softplus(2 * x) - x", "per > 0")) == ["proved"]
    assert statuses(elementwise("per = softplus(x) - 1.01 * x", "per >= 0"))[0] != "proved"
    nested = "per = sqrt(1 + sqrt(1 + softplus(sqrt(1 + (x - y)^2))))"
    assert statuses(elementwise(nested, "per >= 1; per >= 3 / 2"))[0] == "proved"


def test_strict_monotonicity() -> None:
    claims = "strictly increasing in x; increasing in x; strictly decreasing in x"
    assert statuses(elementwise("per = x + tanh(x)", claims))[:2] == ["proved", "proved"]
    for flat in ("per = relu(x)", "per = x - x", "per = x + sin(x) - x"):
        assert statuses(elementwise(flat, claims))[0] != "proved"


def test_convex_functions_are_least_where_they_are_stationary() -> None:
    assert statuses(elementwise("per = exp(x) - x - 1", "per >= 0; per > 0")) != ["proved", "proved"]
    assert statuses(elementwise("per = exp(x) - x - 1", "per >= 0")) == ["proved"]
    assert statuses(elementwise("per = exp(x - y) - (x - y) - 1", "per >= 0")) == ["proved"]
    for false in ("per = exp(x) - x - 1.001", "per = exp(x) - 1.001 * x - 1", "per = x + 1 - exp(x)"):
        assert statuses(elementwise(false, "per >= 0"))[0] != "proved"


FALSE_FILES = [  # (what is declared and defined, a false claim)
    ("input z: real[n, c]\ninput t: class[n] of c\nper = z", "per >= 0 on z[c = t] >= 0"),
    ("input x: real[...]\nparam a: real in [0, 1] = 1\nper = x^2 / (1 + a * x^2)", "lipschitz in x"),
    ("input x: real[...] in [0, 1]\nper = (x - 5)^2", "minimum of per at x == 5"),
    ("input x, y: real[...]\nper = x^2 if y / y <= 2 else -x^2", "convex in x"),
    ("input x: real[...]\nper = i0e(x)", "C1 in x"),
    ("input x: real[...]\nper = i0e(x)", "smooth in x"),
    (
        "input x: real[...]\nparam a: real in [0, 1] = 0\ng = 2 * (x if 3 * a != 1 else -abs(x))\n"
        "per = log(1 + exp(g)) if 3 * a != 1 else log(2 + exp(g))",
        "convex in x",
    ),
]


def verified(declared: str, claim: str) -> Report:
    lines = "".join(f"    {line}\n" for line in (*declared.split("\n"), "return mean(per)", f"claim {claim}"))
    return verify_program(built(f"loss t:\n{lines}"), searching=False)


@pytest.mark.parametrize(("declared", "claim"), FALSE_FILES)
def test_false_claims_of_files_are_never_proved(declared: str, claim: str) -> None:
    assert not isinstance(verified(declared, claim).claims[0].verdict, Proved)


TRUE_FILES = [  # (what is declared and defined, a claim that holds)
    ("input x: real[...] in [0, b]\nparam b: real in [0, 10] = 1\nper = b - x", "per >= 0"),
    ("input p: simplex[n, c] over c\ns = sum(p over c)\nper = log(s)", "finite in float32"),
    ("input x: real[...] in [0, 1]\nper = 1 if x == 5 else 0", "per >= 2 on x == 5"),
    ("input x: real[...] in [0, 1]\nper = -1 if x >= 1 else 0", "convex in x"),
    ("input x: real[...] in [-b, b]\nparam b: real >= 1 = 1\nper = x^2", "lipschitz in x"),
]


@pytest.mark.parametrize(("declared", "claim"), TRUE_FILES)
def test_true_claims_of_files_are_never_refuted(declared: str, claim: str) -> None:
    assert not isinstance(verified(declared, claim).claims[0].verdict, Refuted)


def barron(low: str, high: str) -> Report:
    body = "per = abs(2 - a) / a * (((x - y)^2 / abs(2 - a) + 1)^(a / 2) - 1)"
    return elementwise(body, "convex in x", declarations=f"param a: real in [{low}, {high}] = 1.5")


def test_the_range_of_a_parameter_counts() -> None:
    assert not isinstance(barron("0.999", "1.9").claims[0].verdict, Proved)


def test_quantifiers_of_when_and_not() -> None:
    body = "per = (1 - a) * x^2 - a * x^2"
    report = elementwise(
        body,
        "convex in x; convex in x when a == 0; not convex in x; not convex in x when a == 0;"
        "convex in x when a <= 1 / 2; not convex in x when a > 3 / 4",
        declarations="param a: real in [0, 1] = 0",
    )
    assert statuses(report) == ["refuted", "proved", "proved", "refuted", "proved", "proved"]


def test_a_switch_alone_narrows() -> None:
    report = elementwise(
        "per = exp(x) if a else -x^2",
        "convex in x when a; convex in x when not a; concave in x when not a; smooth in x when a and not b; convex in x",
        declarations="param a, b: bool = true",
    )
    assert statuses(report) == ["proved", "refuted", "proved", "proved", "refuted"]


def test_claims_are_about_the_returned_value_with_its_factor() -> None:
    text = "loss a:\n    input x: real[n]\n    return -2 * mean(x^2)\n    claim "
    claims = ("convex in x", "concave in x", "gradient lipschitz in x <= 4")
    found = verify_program(built(text + "\n    claim ".join(claims) + "\n"), searching=False)
    assert statuses(found) == ["refuted", "proved", "proved"]


def test_what_a_zero_takes_out_does_not_count() -> None:
    body = "per = x^2 + 3 * a * max(-x^2, -1) + relu(1 - x)^b * abs(x)"
    claims = "convex in x when a == 0 and b == 0; convex in x when b == 0; convex in x when a == 0 and b == 2"
    report = elementwise(body, claims, declarations="param a, b: real in [0, 2] = 0")
    assert statuses(report) == ["proved", "refuted", "refuted"]
    report = elementwise("per = a / x + x", "convex in x when a == 0", declarations="param a: real in [0, 1] = 0")
    assert statuses(report) != ["proved"]  # 0 / 0 is not a number


def test_a_bound_is_read_at_what_is_fixed() -> None:
    declarations = "param a: real in (0, 1] = 0.5"
    claims = "per <= 1 / a at defaults; per <= 1 / a when a == 1 / 4; per <= 3 / 4 / a at defaults"
    report = elementwise("per = sigmoid(x) / a", claims, declarations=declarations)
    assert statuses(report) == ["proved", "proved", "refuted"]


@pytest.mark.parametrize(
    ("returned", "claims", "wanted"),
    [
        ("sum(x over n where x < 0)", "convex in x; concave in x; smooth in x", "refuted proved refuted"),
        ("mean(1 + x over n where x < 0)", "convex in x; C0 in x", "refuted refuted|unknown"),
        (
            "sum(w * x) / sum(w)",
            "affine in w; convex in w; affine in x",
            "refuted|unknown refuted|unknown proved|unknown",
        ),
        ("mean(x^2 over n where m)", "convex in x; smooth in x", "proved proved"),
        ("mean(x^2 over n where m else nan)", "convex in x", "proved"),
    ],
)
def test_claims_are_about_what_is_counted(returned: str, claims: str, wanted: str) -> None:
    """Left out is 0, and a mean whose weights depend on real inputs is more than its elements."""
    declared = "loss a:\n    input x: real[n]\n    input w: real[n] >= 0\n    input m: bool[n]\n"
    listed = "".join(f"\n    claim {c}" for c in claims.split("; "))
    found = statuses(verify_program(built(f"{declared}    return {returned}{listed}\n"), searching=False))
    assert all(s in w.split("|") for s, w in zip(found, wanted.split(), strict=True)), found


def test_a_region_narrows_inputs() -> None:
    report = elementwise("per = x^3", "convex in x on x >= 0; not convex in x on x <= 1; increasing in x")
    assert statuses(report) == ["proved", "proved", "proved"]


def test_finiteness() -> None:
    report = elementwise("per = softplus(x - y)", "finite in float16")
    assert statuses(report) == ["proved"]
    report = elementwise("per = (x - y)^2", "finite in float32; finite in float16")
    assert statuses(report) == ["refuted", "refuted"]
    report = elementwise("per = exp(x)", "finite in float16; finite in float32")
    assert "proved" not in statuses(report)


def test_entries_that_are_coupled_are_not_taken_alone() -> None:
    text = """loss spread:
    input x: real[n, k]
    width = max(x over k) - min(x over k)
    per = exp(width / 1000) * 0.001
    return mean(per)
"""
    ctx = Context(built(text).program)
    assert only_entry(ctx, "per", "x") is None
    one = "loss one:\n    input x: real[n]\n    per = exp(x)\n    return mean(per)\n"
    assert only_entry(Context(built(one).program), "per", "x") is not None
    top = text.replace("max(x over k) - min(x over k)", "max(x over k)")
    assert only_entry(Context(built(top).program), "per", "x") is None


def test_coupled_losses() -> None:
    text = """loss ce:
    input logits: real[n, c]
    input target: class[n] of c
    logp = log_softmax(logits over c)
    per = -logp[c = target]
    return mean(per)

    claim convex in logits
    claim smooth in logits
    claim per >= 0
    claim lipschitz in logits <= 1.4143
    claim lipschitz in logits <= 1 in l1
    claim lipschitz in logits <= 2 in linf
    claim not concave in logits
"""
    report = verify_program(built(text), searching=False)
    assert {c.text: c.status for c in report.claims if c.status != "proved"} == {}


def test_the_report_is_plain_data() -> None:
    report = elementwise("per = abs(x - y)", "convex in x; C1 in x; calibrated")
    data = report_json(report)
    assert [c["status"] for c in data["claims"]] == ["proved", "refuted", "unknown"]
    assert data["claims"][1]["verdict"]["witness"]["violation"]
    assert data["claims"][2]["verdict"]["blocker"]
    for finding in data["verdicts"]:
        keys = "property of in when status value method witness blocker seconds"
        assert set(finding) >= set(keys.split())


# -------------------------------------------------------------------------------------------------- attacks


def _at(point: Any, base: Any = None) -> Values:
    merged = {**(base or {}), **point}
    return {name.split("[")[0]: number(value) for name, value in merged.items()}


def _violated(e: Expression, name: str, samples: list[Values]) -> bool:
    """Whether a proved property fails at some pair of samples."""
    f, slack = e.value, mp.mpf(10) ** -20
    for k, v in enumerate(samples):
        w = {**v, "x": samples[(7 * k + 3) % len(samples)]["x"]}
        a, b = f(v), f(w)
        scale = slack * (1 + abs(a) + abs(b))
        for t in (mp.mpf(1) / 2, mp.mpf(1) / 5):
            gap = f({**v, "x": (1 - t) * v["x"] + t * w["x"]}) - (1 - t) * a - t * b
            if (name == "convex" and gap > scale) or (name == "concave" and gap < -scale):
                return True
        bound = {"lipschitz 1": 1, "lipschitz a": v["a"]}.get(name)
        if bound is not None and abs(a - b) > bound * abs(v["x"] - w["x"]) + scale:
            return True
        if (name == "non-negative" and a < 0) or (name == "increasing" and (b - a) * mp.sign(w["x"] - v["x"]) < -scale):
            return True
        if name in ("C0", "C1", "smooth") and _jumps(f, v, 0 if name == "C0" else 1):
            return True
    return False


def _jumps(f: Any, v: Values, order: int) -> bool:
    h = mp.mpf(10) ** -12
    for x in (v["y"], v["y"] + 1, v["y"] - 1, v["y"] + 2, v["y"] - 3, v["a"], mp.mpf(0), mp.mpf(-1), mp.mpf(2)):

        def g(shift: Any, x: Any = x) -> Any:
            return f({**v, "x": x + shift})

        right, left = (g(h), g(-h)) if order == 0 else ((g(2 * h) - g(h)) / h, (g(-h) - g(-2 * h)) / h)
        size = (1 + abs(left)) if order == 0 else (1 + abs(left) + abs(g(0))) * 10
        if size < 1e6 and abs(right - left) > 1e-6 * size:
            return True
    return False


def _confirmed(e: Expression, name: str, refuted: Refuted) -> bool:
    """Whether a witness stands at 60 digits in the independent evaluator."""
    f, witness = e.value, refuted.witness
    low = _at(witness.points[0])
    if name == "non-negative":
        return bool(f(low) < 0)
    if name in ("C0", "C1", "smooth") or (name.startswith("lipschitz") and "jumps" in witness.violation):
        step = _at(witness.points[1], witness.points[0])["x"] - low["x"] if len(witness.points) > 1 else 1
        order = {"C1": 1, "smooth": 3}.get(name, 0)
        return jump_is_there(lambda s: f({**low, "x": low["x"] + s * step}), witness.violation, order)
    if len(witness.points) < 2:
        return False
    high = _at(witness.points[1], witness.points[0])
    if name == "increasing":
        return bool(low["x"] <= high["x"] and f(high) < f(low))
    gap = f({**low, "x": (low["x"] + high["x"]) / 2}) - (f(low) + f(high)) / 2
    bound = {"lipschitz 1": 1, "lipschitz a": low["a"]}.get(name)
    if bound is not None:
        return bool(abs(f(low) - f(high)) > bound * abs(low["x"] - high["x"]))
    return bool(gap > 0 if name == "convex" else gap < 0)


NAMES = ("convex", "concave", "non-negative", "lipschitz 1", "lipschitz a", "increasing", "C1", "C0", "smooth")


@pytest.mark.parametrize("seed", [*range(16), *(pytest.param(s, marks=pytest.mark.slow) for s in range(16, 60))])
def test_random_losses_are_never_judged_wrongly(seed: int) -> None:
    with mp.workdps(60):
        rng = random.Random(seed)
        e = expression(rng, rng.choice((1, 2, 2, 3)))
        report = verify_program(built(source(e)), effort=0.4)
        samples = points(rng, 60)
        for name, claim in zip(NAMES, report.claims, strict=True):
            if isinstance(claim.verdict, Proved):
                assert not _violated(e, name, samples), (name, e.text)
            elif isinstance(claim.verdict, Refuted):
                assert _confirmed(e, name, claim.verdict), (name, e.text, claim.verdict.witness)
            else:
                assert isinstance(claim.verdict, Unknown)
                assert claim.verdict.blocker


def test_products_are_rounded_outwards_and_known_to_be_exact() -> None:
    rng = random.Random(1)
    exact = 0
    for k in range(20_000):
        spans = (
            lambda: rng.uniform(-3, 3),
            lambda: rng.randint(-2000, 2000) / 2 ** rng.randint(0, 20),
            lambda: math.ldexp(rng.uniform(-1, 1), rng.randint(-500, 500)),
            lambda: rng.randint(-(2**30), 2**30) * 2.0 ** rng.randint(-40, 10),
        )
        x, y = spans[k % 4](), spans[k // 4 % 4]()
        truth = Fraction(x) * Fraction(y)
        low, high = mul_down(x, y), mul_up(x, y)
        assert math.isinf(low) or Fraction(low) <= truth
        assert math.isinf(high) or Fraction(high) >= truth
        exact += low == high
    assert exact > 3_000


def test_a_window_larger_than_the_smallest_extents_is_searched() -> None:
    lines = ["input x: real[h]", "axis i = 7", "axis k = h - 6", "b[k] = sum(x[h = k + i] over i)", "return mean(b)"]
    text = "loss t:\n" + "".join(f"    {line}\n" for line in lines)
    report = pipeline.check(Source("<t>", text)).reports[0]
    (found,) = [f.verdict for f in report.findings if f.property == "non-negative"]
    assert isinstance(found, Refuted)


def test_what_is_too_large_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search gives up at the first of its points that is too large to run, and on all points of that size."""
    tried: list[object] = []
    element = Evaluator.element

    def counted(self: Evaluator, tensor: str, place: tuple[int, ...]) -> object:
        try:
            return element(self, tensor, place)
        except TooManySteps:
            if tensor == "per":
                tried.append(frozenset(self.point.extents.items()))
            raise

    monkeypatch.setattr(Evaluator, "element", counted)
    loss = built("""
loss wide:
    input x: real[n]
    axis i, j, k = 30
    per[n] = sum(sin(x * i + j * k) * cos(x * x * j - i) over i, j, k)
    return mean(per)
""")
    ctx = Context(loss.program, seconds=1.0)
    assert chords.chord(ctx, "per", ("x",)) is None
    assert len(tried) == len(set(tried)) > 0


def test_a_counterexample_shows_a_large_tensor_in_short() -> None:
    point = {f"x[{k}]": Fraction(k) for k in range(50)} | {"delta": Fraction(1, 3)}
    shown = witness_text(Witness((point,), "the value is -1"))
    assert shown == "the value is -1 at x[0] = 0, x[1] = 1, x[2] = 2, ... (50 entries of x), delta = 1/3"
