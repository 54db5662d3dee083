"""Advice and `lossdsl fix`: rewrites that are proved equal, gain something, and leave the rest of a file alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mutants import mutants

from lossdsl.advice import advise
from lossdsl.advice.edit import Edit, edited, with_ends
from lossdsl.advice.equality import equal
from lossdsl.advice.identities import IDENTITIES, Identity
from lossdsl.advice.measure import Measured, threshold
from lossdsl.catalogue import find
from lossdsl.diagnostics import Source, Span
from lossdsl.ir.interpret import Interpreter
from lossdsl.ir.nodes import Program
from lossdsl.pipeline import analyse

ROOT = Path(__file__).parents[1]


def loss(per: str, inputs: str) -> str:
    return f"loss example:\n{inputs}    per = {per}\n    return sum(per)\n"


def program(text: str) -> Program:
    analysis = analyse(Source("f.loss", text))
    assert not analysis.failed, analysis.diagnostics
    return analysis.losses[0].program


def example(identity: Identity, side: str) -> str:
    inputs = "".join(f"    input {name}: {kind}\n" for name, kind in identity.variables.items())
    return loss(side.replace("axes", "c"), inputs)


def values(p: Program, seed: int, size: float) -> np.ndarray:
    """The target at random inputs, in float64."""
    rng = np.random.default_rng(seed)
    extents = {"n": 3, "c": 4, "...": 2, "b": 2, "d": 4}
    inputs = {}
    for i in p.inputs:
        shape = tuple(d.evaluate(extents) for d in i.dims)
        x = rng.normal(size=shape) * size
        low = float(i.range.lower.value) if i.range.lower is not None else -np.inf
        high = float(i.range.upper.value) if i.range.upper is not None else np.inf
        if np.isfinite(low) and np.isfinite(high):
            x = rng.uniform(low, high, size=shape)
        elif i.kind == "prob":
            x = rng.uniform(size=shape)
        elif low > -np.inf:
            x = low + np.abs(x)
        elif high < np.inf:
            x = high - np.abs(x)
        inputs[i.name] = rng.integers(0, 2, size=shape) if i.kind in ("binary", "class", "int") else x
    machine = Interpreter(p, inputs)
    machine.run()
    return machine.values[p.target]


# ----------------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("identity", IDENTITIES, ids=[i.written for i in IDENTITIES])
def test_every_identity_is_proved_and_true(identity: Identity) -> None:
    old, new = program(example(identity, identity.written)), program(example(identity, identity.instead))
    assert equal(old, new)
    for seed, size in enumerate([0.1, 1.0, 3.0, 10.0]):
        a, b = values(old, seed, size), values(new, seed, size)
        both = np.isfinite(a)
        assert both.any()
        assert np.isfinite(b[both]).all()  # nothing that had a value has lost it
        np.testing.assert_allclose(a[both], b[both], rtol=1e-6, atol=1e-9)


# left, right, inputs: functions that differ somewhere, or where the right one is not defined
UNEQUAL = [
    ("log(1 + exp(x))", "softplus(-x)", "x: real[n]"),
    ("log(1 + exp(x))", "softplus(x) + 0.0001", "x: real[n]"),
    ("log(2 + exp(x))", "softplus(x)", "x: real[n]"),
    ("log(exp(x) + exp(y))", "logaddexp(x, x)", "x, y: real[n]"),
    ("sqrt(x^2)", "x", "x: real[n]"),
    ("log(x^2)", "2 * log(x)", "x: real[n]"),  # no value at -1
    ("log(x * y)", "log(x) + log(y)", "x, y: real[n]"),  # both may be negative
    ("log(x / y)", "log(x) - log(y)", "x, y: real[n]"),
    ("x", "exp(log(x))", "x: real[n]"),
    ("x", "x^2 / x", "x: real[n]"),  # no value at 0
    ("abs(x)", "sqrt(x)^2", "x: real[n]"),
    ("sum(exp(x) over c)", "sum(exp(x) over n)", "x: real[n, c]"),
    ("log(sum(exp(x) over c))", "logsumexp(2 * x over c)", "x: real[n, c]"),
    ("log(sum(exp(x) over c where c != 0))", "logsumexp(x over c)", "x: real[n, c]"),
    ("log(sum(exp(x) over c where c != 0))", "logsumexp(x over c where c != 1)", "x: real[n, c]"),
    ("exp(x) / sum(exp(2 * x) over c)", "softmax(x over c)", "x: real[n, c]"),
    ("log(softmax(x over c))", "log_softmax(x over n)", "x: real[n, c]"),
    ("log(prod(x over c))", "sum(log(x) over c)", "x: real[n, c]"),  # two of them may be negative
    ("1 / (1 + exp(-x))", "sigmoid(x) if x < 100 else 1", "x: real[n]"),
    ("sigmoid(x) if x > 0 else 0", "sigmoid(x)", "x: real[n]"),
    ("mean(exp(x) over c)", "sum(exp(x) over c)", "x: real[n, c]"),
    ("exp(x) - 1", "expm1(x) if x != 3 else 0", "x: real[n]"),
    ("log(mean(exp(x) over c))", "logsumexp(x over c)", "x: real[n, c]"),
]


@pytest.mark.parametrize(("left", "right", "inputs"), UNEQUAL, ids=[f"{a} is not {b}" for a, b, _ in UNEQUAL])
def test_what_is_not_equal_is_not_proved(left: str, right: str, inputs: str) -> None:
    sides = [program(loss(side, f"    input {inputs}\n")) for side in (left, right)]
    assert not equal(*sides)


@pytest.mark.parametrize("identity", IDENTITIES, ids=[i.written for i in IDENTITIES])
def test_a_changed_identity_is_not_proved(identity: Identity) -> None:
    """The right side with a factor, an addend, or another sign of a variable."""
    old = program(example(identity, identity.written))
    name = next(iter(identity.variables))
    other = re.sub(rf"\b{name}\b(?=[ ,)])|^{name}$", f"({name} * 1.5)", identity.instead, count=1)
    for changed in (f"1.0000001 * ({identity.instead})", f"{identity.instead} + 1 / 1000000", other):
        if changed != identity.instead:
            assert not equal(old, program(example(identity, changed))), changed


def test_equality_is_of_all_that_a_loss_gives() -> None:
    text = "loss f:\n    input x: real[n]\n    a = exp(x)\n    report odds = mean(a)\n    return mean(log(1 + a))\n"
    assert equal(program(text), program(text.replace("log(1 + a)", "softplus(x)")))
    assert not equal(program(text), program(text.replace("mean(a)", "sum(a)")))
    assert not equal(program(text), program(text.replace("return mean", "return sum")))


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("log(1 + exp(x))", 88.7228), ("log(1 - sigmoid(x))", 16.6355), ("log(sigmoid(x))", -103.972),
        ("log(cosh(x))", 89.416), ("exp(x) * exp(y)", 44.3614), ("sqrt(x^2)", 1.84467e19),
    ],
)  # fmt: skip
def test_thresholds_are_those_of_float32(written: str, at: float) -> None:
    found = threshold(next(i for i in IDENTITIES if i.written == written))
    assert found == pytest.approx(at, rel=1e-4)


# ----------------------------------------------------------------------------------------------------- fixes

# what is written -> what `fix` makes of it (the same, if there is nothing to fix)
FIXED = {
    "logistic": ("""loss logistic:
    # the logistic loss; the margin is y * f(x)
    input margin: real[n]
    per = log(1 + exp(-margin))   # the naive form

    return mean(per)   # over the batch
""", "log(1 + exp(-margin))", "softplus(-margin)"),
    "over two lines": ("""loss two:
    input x, y: real[n]
    per = 2 * log(exp(x)
           + exp(y)) - x     # rest
    return mean(per)
""", "log(exp(x)\n           + exp(y))", "logaddexp(x, y)"),
    "parentheses": ("""loss lse:
    input x: real[n, c] in [-1000, 1000]
    per = 2 * log(mean(exp(x) over c))
    return mean(per)
""", "log(mean(exp(x) over c))", "(logsumexp(x over c) - log(size(c)))"),
    "clauses": ("""loss pairs:
    input z: real[n, c]
    axis d = c
    per = log(1 + sum(exp(z[n, d] - z[n, c]) over d where d != c))
    return mean(per)
""", "log(1 + sum(exp(z[n, d] - z[n, c]) over d where d != c))", "softplus(logsumexp(z[n, d] - z[n, c] over d where d != c))"),
    "function": ("""def f(a) = log(exp(a) + 1)   # naive

loss g:
    input z: real[n]
    return mean(f(3 * z)^2)
""", "log(exp(a) + 1)", "softplus(a)"),
    "weighted": ("""loss bpr:
    input a, b: real[n]
    per = -log(exp(a) / (exp(a) + exp(b)))
    return mean(per)
""", "log(exp(a) / (exp(a) + exp(b)))", "logsigmoid(a - b)"),
    "difference of differences": (
        """loss d:
    input x, y: real[n] in [0, 50]
    # the odds
    odds = exp(x - 100) / exp(y - 100)   # of x
    return mean(odds)
""",
        "exp(x - 100) / exp(y - 100)",
        "exp(x - 100 - (y - 100))",
    ),
    "negated twice": ("""loss d:
    input a: real[n]
    per = log(1 - sigmoid(-a))
    return mean(per)
""", "log(1 - sigmoid(-a))", "logsigmoid(a)"),
    "product": ("""loss lp:
    input p: real[n, c] > 0
    return -mean(log(prod(p over c)) over n)
""", "log(prod(p over c))", "sum(log(p) over c)"),
    "entropy": ("""loss entropy:
    input p: prob[n]
    return mean(p * log(p))
""", "p * log(p)", "xlogy(p, p)"),
    "digits": ("""loss cauchy:
    input r: real[n]
    return mean(log(1 + r^2))
""", "log(1 + r^2)", "log1p(r^2)"),
    "bounded, so that nothing overflows": ("""loss bounded:
    input x: real[n] in [-1, 1]
    return mean(log(exp(x) + exp(2 * x)))
""", "", ""),
    "not the identity": ("""loss other:
    input x: real[n] in [-5, 5]
    return mean(log(2 + exp(x)))
""", "", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FIXED)
def test_only_the_expression_changes(name: str) -> None:
    text, before, after = FIXED[name]
    wanted = text.replace(before, after) if before else text
    assert advise(Source("f.loss", text)).text == wanted
    assert advise(Source("f.loss", wanted)).text == wanted  # and again: nothing


@pytest.mark.parametrize("name", FIXED)
def test_values_stay_where_both_are_finite(name: str) -> None:
    text = FIXED[name][0]
    old, new = program(text), program(advise(Source("f.loss", text)).text)
    for seed, size in enumerate([0.1, 1.0, 30.0, 1000.0]):
        a, b = values(old, seed, size), values(new, seed, size)
        both = np.isfinite(a) & np.isfinite(b)
        np.testing.assert_allclose(a[both], b[both], rtol=1e-9, atol=1e-9)
        assert np.isfinite(b).sum() >= np.isfinite(a).sum()


@pytest.mark.parametrize("name", [n for n in FIXED if FIXED[n][1]])
def test_each_kind_is_what_it_says(name: str) -> None:
    """`mends`: the plan is finite for more inputs; `compiled`: the compiler makes the same of both."""
    source = Source("f.loss", FIXED[name][0])
    advice = advise(source)
    before, after = (Measured(analyse(Source("f.loss", t)).losses[0]) for t in (source.text, advice.text))
    kinds = {r.kind for r in advice.rewrites}
    if "mends" in kinds:
        assert any(after[k].better(before[k]) for k in before.keys)
    if all(r.compiled for r in advice.rewrites):
        assert before.compiled == after.compiled
    assert not any(after[k].worse(before[k]) for k in before.keys)


def test_cross_entropy_written_out_is_fixed_whole() -> None:
    text = """loss bce:
    input x: real[n]
    input y: binary[n]
    p = 1 / (1 + exp(-x))
    return mean(-y * log(p) - (1 - y) * log(1 - p))
"""
    advice = advise(Source("f.loss", text))
    assert "    return mean(-y * logsigmoid(x) - (1 - y) * logsigmoid(-x))\n" in advice.text
    assert "p =" not in advice.text  # nothing reads it any more
    before, after = (Measured(analyse(Source("f.loss", t)).losses[0]) for t in (text, advice.text))
    assert before["float32"].plan < 100
    assert after["float32"].plan > 1e38


def test_what_is_compiled_so_already_is_no_advice() -> None:
    """The headings of the card: what the compiled loss gains, and what it does by itself."""
    text = """def f(a) = log(exp(a) + 1)

loss g:
    input z: real[n]
    return mean(f(3 * z)^2)
"""
    done = run("check", "-", stdin=text).stdout
    assert "as written; `lossdsl fix` writes this, too" in done
    assert "advice:" not in done
    done = run("check", "-", stdin=FIXED["weighted"][0]).stdout
    assert "advice:" in done
    assert "as written;" not in done


def test_a_definition_with_a_comment_stays() -> None:
    text = """loss f:
    input x, z: real[n]
    e = exp(x)  # the odds
    return mean(log(e + exp(z)))
"""
    fixed = advise(Source("f.loss", text)).text
    assert "e = exp(x)  # the odds" in fixed
    assert "logaddexp(x, z)" in fixed


def test_a_comment_inside_of_an_expression_stops_its_rewrite() -> None:
    text = "loss f:\n    input x, y: real[n]\n    per = log(exp(x)  # odds\n        + exp(y))\n    return mean(per)\n"
    assert advise(Source("f.loss", text)).text == text


def test_losses_of_one_file_are_fixed_apart() -> None:
    text = FIXED["logistic"][0] + "\n\n" + FIXED["weighted"][0]
    advice = advise(Source("f.loss", text))
    assert [(r.line, r.losses) for r in advice.rewrites] == [(4, ("logistic",)), (11, ("bpr",))]


def test_lines_are_those_of_the_file_as_it_was() -> None:
    text = FIXED["over two lines"][0].replace("- x     # rest", "- log(exp(x) + exp(2 * y))")
    advice = advise(Source("f.loss", text))
    assert [r.line for r in advice.rewrites] == [3, 4]


def test_a_file_with_errors_has_no_advice() -> None:
    text = "loss f:\n    input x: real[n]\n    per = log(1 + exp(x))\n    return mean(pre)\n"
    advice = advise(Source("f.loss", text))
    assert advice.text == text
    assert not advice.rewrites


def test_many_losses_of_one_file() -> None:
    one = FIXED["weighted"][0]
    text = "\n".join(one.replace("bpr", f"bpr_{k}") for k in range(15))
    advice = advise(Source("f.loss", text))
    assert len(advice.rewrites) == 15
    assert advice.text == text.replace(*FIXED["weighted"][1:])


def test_much_that_belongs_together_is_fixed_together() -> None:
    """None of these gains anything without the others."""
    terms = " + ".join(f"log(exp({k} * x) + exp(x))" for k in range(2, 22))
    text = f"loss f:\n    input x: real[n]\n    per = {terms}\n    return mean(per)\n"
    advice = advise(Source("f.loss", text), effort=5.0)
    assert "log(exp" not in advice.text
    assert advice.text.count("logaddexp(") == 20


def test_deep_and_large_files_end_in_time() -> None:
    deep = "log(1 + exp(" * 60 + "x" + "))" * 60
    large = "".join(f"    a{k} = log(exp({k} * x) + exp(x))\n" for k in range(150))
    total = " + ".join(f"a{k}" for k in range(150))
    for text in (
        f"loss f:\n    input x: real[n]\n    per = {deep}\n    return mean(per)\n",
        f"loss f:\n    input x: real[n]\n{large}    per = {total}\n    return mean(per)\n",
    ):
        start = time.process_time()
        advice = advise(Source("f.loss", text), effort=0.2)
        assert time.process_time() - start < 20
        assert advice.text == text  # nothing half-done


def test_mutants_are_not_proved_equal() -> None:
    """What is proved equal to a changed program has its values."""
    proved = 0
    for name in ("focal", "cross_entropy", "poly1", "huber", "info_nce", "dice", "gaussian_nll", "log_cosh"):
        text = Path(find(name)[0]).read_text()
        old = analyse(Source("f.loss", text)).losses[0].program
        assert equal(old, old)
        for changed in mutants(text)[:12]:
            after = analyse(Source("f.loss", changed))
            if after.failed or not equal(old, after.losses[0].program):
                continue
            proved += 1
            for seed in range(3):
                a, b = values(old, seed, 1.0), values(after.losses[0].program, seed, 1.0)
                both = np.isfinite(a)
                np.testing.assert_allclose(a[both], b[both], rtol=1e-7, atol=1e-9)
    assert proved < 20


def test_the_catalogue_is_written_well() -> None:
    """What is shipped needs no mending."""
    for path in sorted((ROOT / "examples").glob("[c-i]*/*.loss")):
        advice = advise(Source(str(path), path.read_text()))
        assert not [r for r in advice.rewrites if r.kind == "mends"], path


# ----------------------------------------------------------------------------------------------------- edits


def test_edits_touch_nothing_else() -> None:
    text = "a\r\nbcd\nefg"
    assert edited(text, [Edit(Span(2, 2, 2, 3), "XX"), Edit(Span(3, 1, 3, 4), "")]) == "a\r\nbXXd\n"
    with pytest.raises(ValueError, match="overlap"):
        edited(text, [Edit(Span(2, 1, 2, 3), ""), Edit(Span(2, 2, 2, 4), "")])


def test_line_ends_are_kept() -> None:
    before, after = "a\nb\nc\nd", "a\nX\nd"
    assert with_ends("a\r\nb\r\nc\nd", before, after) == "a\r\nX\r\nd"
    assert with_ends("\ufeffa\nb\nc\nd", before, after) == "\ufeffa\nX\nd"
    assert with_ends("a\r\nb\r\nc\r\nd\r\n", before + "\n", after + "\n") == "a\r\nX\r\nd\r\n"


# ------------------------------------------------------------------------------------------- the command line


def run(*words: str, stdin: str = "", cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lossdsl", *words], input=stdin, capture_output=True, text=True, cwd=cwd
    )


@pytest.fixture
def naive(tmp_path: Path) -> Path:
    path = tmp_path / "naive.loss"
    path.write_text(FIXED["over two lines"][0])
    return path


def test_fix_writes_a_diff_and_is_done(naive: Path) -> None:
    done = run("fix", str(naive))
    assert done.returncode == 0
    assert "+    per = 2 * logaddexp(x, y) - x     # rest" in done.stdout
    assert naive.read_text() == FIXED["over two lines"][0].replace(*FIXED["over two lines"][1:])
    again = run("fix", str(naive))
    assert again.returncode == 0
    assert "nothing to fix" in again.stderr
    assert not again.stdout
    assert not list(naive.parent.glob(".*"))  # no temporary file is left


def test_diff_and_check_change_nothing(naive: Path) -> None:
    before = naive.read_bytes()
    shown = run("fix", "--diff", str(naive))
    assert shown.returncode == 0
    assert "logaddexp" in shown.stdout
    assert run("fix", "--check", str(naive)).returncode == 1
    assert naive.read_bytes() == before
    run("fix", str(naive))
    assert run("fix", "--check", str(naive)).returncode == 0


def test_windows_line_ends_stay(naive: Path) -> None:
    naive.write_bytes(FIXED["logistic"][0].replace("\n", "\r\n").encode())
    assert run("fix", str(naive)).returncode == 0
    data = naive.read_bytes()
    assert b"softplus(-margin)   # the naive form\r\n" in data
    assert data.count(b"\n") == data.count(b"\r\n")


def test_a_file_with_errors_is_refused(naive: Path) -> None:
    naive.write_text(naive.read_text().replace("mean(per)", "mean(pre)"))
    before = naive.read_bytes()
    done = run("fix", str(naive))
    assert done.returncode == 2
    assert "did you mean" in done.stderr  # a suggestion is none of these rewrites
    assert naive.read_bytes() == before


def test_bad_input_of_fix(tmp_path: Path, naive: Path) -> None:
    assert run("fix").returncode == 3
    assert run("fix", "nowhere.loss").returncode == 2
    assert run("fix", str(tmp_path)).returncode == 2
    assert run("fix", "regression.huber").returncode == 3  # a file of the catalogue is not changed by its name
    (tmp_path / "bytes.loss").write_bytes(b"loss f:\n    # \xff\n")
    assert run("fix", str(tmp_path / "bytes.loss")).returncode == 2
    assert run("fix", str(naive), "nowhere.loss").returncode == 2  # and the other one is fixed
    assert "logaddexp" in naive.read_text()


def test_standard_input_gives_standard_output() -> None:
    done = run("fix", "-", stdin=FIXED["weighted"][0])
    assert done.stdout == FIXED["weighted"][0].replace(*FIXED["weighted"][1:])


def test_the_card_says_what_to_write(naive: Path) -> None:
    card = run("check", str(naive)).stdout
    assert "advice: `lossdsl fix` writes this" in card
    assert "line 3: log(exp(x) + exp(y))  ->  logaddexp(x, y)" in card
    assert "from 88 in each exponent;" in card
    report = json.loads(run("check", str(naive), "--json").stdout)["files"][0]
    assert [(a["kind"], a["line"], a["instead"]) for a in report["advice"]] == [("mends", 3, "logaddexp(x, y)")]


def test_the_card_says_what_the_compiler_does_by_itself(naive: Path) -> None:
    naive.write_text(FIXED["logistic"][0])
    card = run("check", str(naive)).stdout
    assert "as written; `lossdsl fix` writes this, too" in card
    assert "exp overflows from -margin = 88.7; compiled, it is computed so already" in card
