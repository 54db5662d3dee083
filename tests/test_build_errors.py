"""What is wrong with a file is said by the builder: every code has a file, other losses still build, nothing raises."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from lossdsl.diagnostics import CODES, Diagnostic, Severity, Source
from lossdsl.ir.build import BuiltLoss, build, elaborate_expression
from lossdsl.ir.check import check
from lossdsl.ir.nodes import BOOL, Apply, Compare, Param
from lossdsl.ir.text import parse_ir, print_ir
from lossdsl.pipeline import analyse
from lossdsl.syntax import tree
from lossdsl.syntax.parser import parse

HERE = Path(__file__).parent
GROUPS = ("E02", "E03", "E04", "E05", "E06", "W1")
EXPECT = re.compile(r"^# expect: ([EW]\d{4}) line (\d+)$", re.MULTILINE)
FILES = [p for p in sorted((HERE / "errors").glob("*.loss")) if p.name.startswith(GROUPS) or p.name.startswith("E0707")]


def compiled(text: str) -> tuple[list[BuiltLoss], list[Diagnostic]]:
    source = Source("test.loss", text)
    module, problems = parse(source)
    losses, found = build(module, source)
    return losses, problems + found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_wrong_loss_is_explained(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wanted = [(code, int(line)) for code, line in EXPECT.findall(text)]
    losses, found = compiled(text)
    places = [(d.code, d.span.line) for d in found]
    errors = [p for p in places if p[0].startswith("E")]
    assert sorted(errors) == sorted(w for w in wanted if w[0].startswith("E"))
    assert set(wanted) <= set(places)
    for one in losses:
        check(one.program)


@pytest.mark.parametrize("group", GROUPS)
def test_every_code_has_a_file(group: str) -> None:
    assert {c for c in CODES if c.startswith(group)} <= {p.name[:5] for p in FILES}


def test_a_wrong_loss_does_not_stop_the_others() -> None:
    losses, found = compiled(
        "loss bad:\n    input x: real[n]\n    a = y\n    b = z\n    c = a + w\n    return mean(a + b)\n\n"
        "loss good:\n    input x: real[n]\n    return mean(x)\n"
    )
    assert [one.name for one in losses] == ["good"]
    # one error for each statement that is wrong by itself, none for those that only read a wrong one
    assert [(d.code, d.span.line) for d in found] == [("E0201", 3), ("E0201", 4)]


RECOVERED = {
    # every statement that is wrong by itself, and nothing that only follows from another one
    "a bracket": (
        ["y = (x + 1", "z = x + q", "w = sin(x, 2)", "v = x $ 2", "u = y + z", "return mean(u[k = 0] + w + v)"],
        [("E0102", 4), ("E0201", 5), ("E0401", 6), ("E0105", 7)],
    ),
    "an input": (["input t: rael[n, k]", "z = sum(t over k)", "w = z + x", "v = t + q", "return mean(w + v + p)"],
                 [("E0113", 4)]),
    "an axis": (["axis k = = 3", "z = sum(x * k over k)", "w[n] = x[n + 1 else r]", "return mean(z + w)"],
                [("E0101", 4), ("E0201", 6)]),
    "the return": (["z = x + q", "return mean(z", "claim convex in t"], [("E0201", 4), ("E0102", 5), ("E0601", 6)]),
    "a function": (["def f(a) = a +* 2", "z = f(x)", "w = f(x, x) + q", "v = cos()", "return mean(z + w + v)"],
                   [("E0101", 4), ("E0401", 7)]),
    "a claim": (["return mean(x + q)", "claim convex on"], [("E0201", 4), ("E0114", 5)]),
    "indentation": (["z = x + q", "   w = 2", "return mean(z)"], [("E0108", 5)]),
}  # fmt: skip


@pytest.mark.parametrize("name", RECOVERED)
def test_unread_statements_hide_only_what_depends_on_them(name: str) -> None:
    lines, wanted = RECOVERED[name]
    text = "loss a:\n    input x: real[n]\n    param s: real = 1\n" + "".join(f"    {line}\n" for line in lines)
    found = analyse(Source("f.loss", text + "\nloss b:\n    input x: real[n]\n    return mean(a(x))\n"))
    assert [(d.code, d.span.line) for d in found.diagnostics] == wanted


def test_names_are_suggested() -> None:
    _, found = compiled("loss a:\n    input pred: real[n]\n    return mean(prde)\n")
    assert [d.help for d in found if d.code == "E0201"] == ["did you mean `pred`?"]


@pytest.mark.parametrize(
    ("line", "code", "message", "help"),
    [
        ("y = mean(x = v)", "E0410", "no argument `x`", "`==` compares"),
        ("y = sum(norm(x, 2 over c))", "E0401", "2 arguments", "norm(value, p = ... over axes)"),
        ("y = sum(norm(x, q = 2 over c))", "E0410", "no argument `q`", "`p`"),
        ("y = sum(x over k)", "E0206", "unknown axis `k`", "the axes of this loss are n, c"),
        ("y = sum(x[c = -1])", "W1003", "position -1 of `c` does not exist", "`last`"),
        ("y = sum(v[n = n + 1] - x)", "W1005", "`n` runs from 0 to n - 2 here", "shift `x`"),
        ("y = sum(v[c])", "W1003", "index into `v`", "`v[index else 0]`"),
        ("y = sum(x % 2)", "E0402", "`%` is for integers", "floor(a / b)"),
        ("y = sum(x // 2)", "E0402", "`//` is for integers", "`/` divides"),
        ("def a(u) = u^2\n    y = sum(a(x))", "E0202", "`a` is already a loss of the file", ""),
        ("input u: prob[n] in [0, 2]\n    y = sum(u)", "E0406", "a `prob` lies in [0, 1]", "`real`"),
        ("y = sum(x)\n    claim convex in n", "E0601", "about `n`", "an axis is none"),
    ],
)
def test_messages_say_what_to_write(line: str, code: str, message: str, help: str) -> None:
    text = f"loss a:\n    input x: real[n, c]\n    input v: real[n]\n    {line}\n    return y\n"
    found = [d for d in compiled(text)[1] if d.code != "W1004"]
    assert [d.code for d in found] == [code]
    assert message in found[0].message
    assert help in found[0].help


def test_the_domain_warning_names_the_input() -> None:
    _, found = compiled("loss a:\n    input p: prob[n]\n    return -mean(log(1 - p))\n")
    (warning,) = [d for d in found if d.code == "W1002"]
    assert "log" in warning.message
    assert warning.notes == ("`p` is in [0, 1]",)


@pytest.mark.parametrize(
    "body",
    [
        "input p: real[n] in (0, 1]\nreturn -mean(log(p))",
        "input p: prob[n]\nreturn -mean(log(p + 1e-8))",
        "input x: real[n]\nreturn mean(log(x) if x > 0 else 0)",
        "input x: real[n]\nreturn mean(log(x) where x > 0)",
        "input x: real[n]\nreturn mean(sqrt(x^2 + 1) + log(1 + exp(x)) + log(sum(exp(x) over n)))",
        "input x: real[n, c]\nreturn mean(sqrt(var(x over n)))",
    ],
)
def test_no_warning_inside_the_domain(body: str) -> None:
    losses, found = compiled("loss a:\n" + "".join(f"    {line}\n" for line in body.split("\n")))
    assert len(losses) == 1
    assert found == []


def test_pairs_are_fine_where_they_are_meant() -> None:
    head = "    input x: real[n]\n    input y: real[m]\n"
    for body in (
        "    d[n, m] = x - y\n    return mean(d^2)\n",
        "    return mean(min(abs(x - y) over m))\n",
        "    return mean((x - y)^2 over n, m)\n",
    ):
        losses, found = compiled("loss a:\n" + head + body)
        assert len(losses) == 1
        assert found == [], body


def test_equal_definitions_are_one() -> None:
    losses, _ = compiled(
        "loss a:\n    input x: real[n, c]\n    axis d = c\n    p = logsumexp(x over c)\n"
        "    q[n] = logsumexp(x[n, d] over d)\n    return mean(p * q)\n"
    )
    heads = [d.head for d in losses[0].program.definitions()]
    assert heads.count("logsumexp") == 1


MODES = {
    "mean(x)": ("mean", "x"),
    "-2 * sum(x) / 3": ("sum", "x"),
    "mean(x where x > 0)": ("mean", "x"),
    "sum(w * x over n, c) / sum(w over n, c)": ("mean", "w * x"),
}


@pytest.mark.parametrize("text", MODES)
def test_modes_of_a_returned_mean_or_sum(text: str) -> None:
    losses, _ = compiled(f"loss a:\n    input x: real[n, c]\n    input w: real[n, c]\n    return {text} + 0 * 1\n")
    assert losses[0].program.reductions is None  # a sum of terms has no modes
    losses, _ = compiled(f"loss a:\n    input x: real[n, c]\n    input w: real[n, c]\n    return {text}\n")
    reductions = losses[0].program.reductions
    assert reductions is not None
    assert reductions.written == MODES[text][0]


@pytest.mark.parametrize(
    "text", ["mean(x over n)[c = 0]", "1 - mean(x)", "sum(x * w) / sum(x + w)", "max(x)", "mean(x) + mean(w)"]
)
def test_no_modes(text: str) -> None:
    losses, _ = compiled(f"loss a:\n    input x, w: real[n, c]\n    return {text}\n")
    assert losses[0].program.reductions is None


def claim_parts(text: str) -> tuple[BuiltLoss, list[tree.Claim]]:
    losses, found = compiled(text)
    assert not [d for d in found if d.severity is Severity.ERROR]
    return losses[0], list(losses[0].claims)


def test_claim_expressions() -> None:
    one, claims = claim_parts(
        "loss quantile:\n    input pred, target: real[n]\n    input weight: real[n] >= 0\n"
        "    param tau: real in (0, 1) = 0.5\n"
        "    r = target - pred\n    per = weight * max(tau * r, (tau - 1) * r)\n    return mean(per)\n"
        "    claim lipschitz in pred <= max(tau, 1 - tau) * max(weight)\n"
        "    claim minimum of per at pred == target\n    claim convex in pred when tau == 1 / 2\n"
    )
    bound, problems = elaborate_expression(one, claims[0].bound)  # type: ignore[arg-type]
    assert problems == []
    assert bound is not None
    assert isinstance(bound.scalar, Apply)
    assert [d.head for d in bound.definitions] == ["max"]
    place, _ = elaborate_expression(one, claims[1].at)  # type: ignore[arg-type]
    assert place is not None
    assert isinstance(place.scalar, Compare)
    when, _ = elaborate_expression(one, claims[2].when)  # type: ignore[arg-type]
    assert when is not None
    assert when.scalar.dtype is BOOL
    assert isinstance(when.scalar, Compare)
    assert when.scalar.a is Param("tau")
    wrong, problems = elaborate_expression(one, tree.Name(id="nothing"))
    assert wrong is None
    assert [d.code for d in problems] == ["E0201"]


def test_nothing_raises_on_damaged_files() -> None:
    """Tokens of real losses dropped, doubled, swapped: diagnostics or programs, never an exception."""
    dice = random.Random(7)
    texts = [p.read_text(encoding="utf-8") for p in sorted((HERE / "spelled").glob("*.loss"))]
    losses = [part for text in texts for part in re.split(r"(?m)^(?=loss )", text) if part.startswith("loss ")]
    for _ in range(250):
        tokens = re.findall(r"\w+|\s+|[^\w\s]", dice.choice(losses))
        words = [k for k, t in enumerate(tokens) if not t.isspace()]
        for _ in range(dice.randint(1, 3)):
            a, b = dice.choice(words), dice.choice(words)
            tokens[a] = dice.choice([tokens[b], tokens[a] + tokens[b], "", tokens[b]])
        for one in compiled("".join(tokens))[0]:
            check(one.program)


def test_building_is_deterministic() -> None:
    for path in sorted((HERE / "spelled").glob("*.loss")):
        text = path.read_text(encoding="utf-8")
        first, second = (["\n".join(print_ir(one.program)) for one in compiled(text)[0]] for _ in range(2))
        assert first == second
        for one in compiled(text)[0]:
            assert parse_ir(print_ir(one.program)) == one.program


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("axis i = 3\nreturn mean(sum(x[n = n + i] * [1, 2][i] over i))", "as many numbers as the axis"),
        ("return mean(x * [[1, 2, 3], [1, 2]][0, 1])", "they have 3, 2"),
        ("state s: real = 0\nreturn mean(x - s)\nupdate s = 1\nupdate s = 2", "one `update` for each state"),
        ("return mean(x) * linear(step, 0, 1, -5)", "steps above 0"),
        ("param h: real > 0 = -1\nreturn mean(x) * h", "inside of it"),
        ("param i: int = 0.5\nreturn mean(x) * i", "a whole number"),
        ("axis k = 4\naxis i = 11\ny[n, k] = x[n] + k\nreturn mean(sum(y[k = k + i] over i))", "a smaller window"),
    ],
)
def test_bad_input_is_told_what_to_do(body: str, words: str) -> None:
    lines = "\n".join("    " + line for line in body.splitlines())
    found = analyse(Source("t.loss", f"loss a:\n    input x: real[n]\n{lines}\n")).diagnostics
    (error,) = [d for d in found if d.severity is Severity.ERROR]
    assert words in error.help
    assert error.span.line > 2


def test_help_for_functions_of_other_libraries() -> None:
    """What is called by its name elsewhere, or is a loss of the catalogue, gets what to write instead."""
    for call, wanted in (
        ("trace(x)", "sum(a[e = d] over d)"),
        ("dropout(x)", "random numbers are an `input`"),
        ("tversky(x, x)", "`use segmentation.tversky`"),
        ("sigmod(x)", "`sigmoid`"),
    ):
        text = f"loss t:\n    input x: real[n]\n    return mean({call})\n"
        (found,) = (d for d in analyse(Source("t.loss", text)).diagnostics if d.code == "E0204")
        assert wanted in found.help
