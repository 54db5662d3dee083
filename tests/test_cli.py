"""The command line: exit codes, files, and no traceback for anything that a user can do."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossdsl.verify import CRITERIA

ROOT = Path(__file__).parents[1]
HUBER = "examples/regression/huber.loss"


def run(*words: str, stdin: bytes | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "lossdsl", *words],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )
    result = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in result.stderr, result.stderr
    return result


def test_version_and_help_with_examples() -> None:
    assert "lossdsl" in run("--version").stdout
    assert run("--help").returncode == 0
    for command in ("check", "fix", "compile", "show", "fmt", "plot", "new", "catalogue", "explain"):
        text = run(command, "--help")
        assert text.returncode == 0
        assert f"lossdsl {command}" in text.stdout.replace("\n", " ")


def test_check_prints_a_card_and_proves_the_claims() -> None:
    done = run("check", HUBER)
    assert done.returncode == 0, done.stderr
    assert "differentiability" in done.stdout
    assert "claim" in done.stdout
    assert "\x1b" not in done.stdout, "colour when piped"


def test_check_json_has_the_contract() -> None:
    report = json.loads(run("check", HUBER, "--json").stdout)
    assert report["version"] == 1
    entry = report["files"][0]
    assert set(entry) >= {"path", "diagnostics", "losses"}
    loss = entry["losses"][0]
    assert loss["name"] == "huber"
    keys = {"property", "of", "in", "when", "status", "value", "method", "witness", "blocker", "seconds"}
    assert all(keys <= set(v) for v in loss["verdicts"])
    assert {c["status"] for c in loss["claims"]} == {"proved"}
    assert all({"text", "status", "verdict", "line"} <= set(c) for c in loss["claims"])


def test_check_json_of_wrong_files_is_one_object_on_standard_output(tmp_path: Path) -> None:
    wrong, warned = tmp_path / "wrong.loss", tmp_path / "warned.loss"
    wrong.write_text("loss f:\n    input x: real[n\n    return mean(x)\n")
    warned.write_text("loss f:\n    input x: real[n]\n    return mean(log(x))\n    claim convex in x\n")
    done = run("check", str(wrong), str(warned), "nowhere.loss", "--json")
    assert (done.returncode, done.stderr) == (2, "")
    report = json.loads(done.stdout)
    assert set(report) == {"version", "files"}
    first, second, third = report["files"]
    assert [set(f) for f in (first, second, third)] == [{"path", "diagnostics", "losses", "advice"}] * 3
    assert [f["path"] for f in (first, second, third)] == [str(wrong), str(warned), "nowhere.loss"]
    assert first["losses"] == third["losses"] == []
    for diagnostic in first["diagnostics"] + second["diagnostics"] + third["diagnostics"]:
        assert set(diagnostic) == {"code", "severity", "message", "span", "help"}
        assert set(diagnostic["span"]) == {"line", "column", "end_line", "end_column", "path"}
        assert diagnostic["span"]["path"] in (str(wrong), str(warned), "nowhere.loss")
    assert [(d["code"], d["severity"], d["span"]["line"]) for d in first["diagnostics"]] == [("E0102", "error", 2)]
    assert [(d["code"], d["severity"], d["span"]["line"]) for d in second["diagnostics"]] == [("W1002", "warning", 3)]
    [loss] = second["losses"]
    assert {v["status"] for v in loss["verdicts"]} <= {"proved", "refuted", "unknown"}
    numbers = [v["value"] for v in loss["verdicts"] if v["value"] is not None]
    assert numbers
    assert all(set(n) == {"lower", "upper", "exact"} for n in numbers)
    for claim in loss["claims"]:
        assert claim["line"] == 4
        assert claim["verdict"]["status"] == claim["status"]


REFUTED = b"loss f:\n    input x: real[n]\n    return mean(x^3)\n    claim convex in x\n"
UNDECIDED = b"loss f:\n    input s: real[n]\n    per = softplus(-s)\n    return mean(per)\n    claim calibrated\n"


def test_a_refuted_claim_fails_with_its_counterexample() -> None:
    done = run("check", "-", stdin=REFUTED)
    assert done.returncode == 1
    assert "refuted" in done.stdout
    assert "x" in done.stdout


def test_an_unknown_claim_fails_only_when_strict() -> None:
    assert run("check", "-", stdin=UNDECIDED).returncode == 0
    assert run("check", "-", "--strict", stdin=UNDECIDED).returncode == 1


def test_wrong_file_and_misuse_have_their_codes() -> None:
    assert run("check", "-", stdin=b"loss f:\n    return mean(y)\n").returncode == 2
    assert run("check", "nowhere.loss").returncode == 2
    assert run("check").returncode == 3
    assert run("unknown").returncode == 3
    assert run("show", HUBER, "--emit", "nonsense").returncode == 3
    assert run("explain", "E9999").returncode == 3


def test_a_wrong_file_beside_a_good_one_reports_both() -> None:
    done = run("check", HUBER, "nowhere.loss")
    assert done.returncode == 2
    assert "huber" in done.stdout
    assert "E0801" in done.stderr


@pytest.mark.parametrize("stage", ["tree", "ir", "grad", "plan", "sympy", "latex", "torch", "triton"])
def test_every_stage_prints(stage: str) -> None:
    done = run("show", HUBER, "--emit", stage)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 20


def test_show_why_says_why() -> None:
    assert len(run("show", HUBER, "--emit", "plan", "--why").stdout) > len(run("show", HUBER, "--emit", "plan").stdout)


def test_compile_writes_checks_and_protects(tmp_path: Path) -> None:
    out = tmp_path / "huber.py"
    assert run("compile", HUBER, "-o", str(out)).returncode == 0
    assert run("compile", HUBER, "--check", str(out)).returncode == 0
    out.write_text(out.read_text() + "\n")
    assert run("compile", HUBER, "--check", str(out)).returncode == 1
    other = tmp_path / "mine.py"
    other.write_text("print('mine')\n")
    assert run("compile", HUBER, "-o", str(other)).returncode == 3
    assert other.read_text() == "print('mine')\n"
    assert run("compile", HUBER, "-o", str(other), "--force").returncode == 0


def test_a_refuted_claim_writes_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "f.loss", tmp_path / "f.py"
    source.write_bytes(REFUTED)
    assert run("compile", str(source), "-o", str(out)).returncode == 1
    assert not out.exists()


def test_unwritable_output_is_misuse_and_leaves_nothing(tmp_path: Path) -> None:
    assert run("compile", HUBER, "-o", str(tmp_path / "no" / "such" / "folder.py")).returncode == 3
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    done = run("compile", HUBER, "-o", str(folder / "out.py"))
    if os.geteuid() != 0:
        assert done.returncode == 3
        assert list(folder.iterdir()) == []
    assert run("compile", HUBER, "-o", str(tmp_path)).returncode == 3
    assert [p.name for p in tmp_path.iterdir()] == ["locked"]


def test_fmt_formats_checks_and_refuses_errors(tmp_path: Path) -> None:
    path = tmp_path / "f.loss"
    path.write_text("loss f:\n  input x:real[n]\n  return mean( x^2 )\n")
    assert run("fmt", "--check", str(path)).returncode == 1
    assert run("fmt", str(path)).returncode == 0
    assert run("fmt", "--check", str(path)).returncode == 0
    assert "    return mean(x^2)\n" in path.read_text()
    path.write_text("loss f:\n  input x: real[n\n  return mean(x)\n")
    before = path.read_text()
    assert run("fmt", str(path)).returncode == 2
    assert path.read_text() == before
    assert run("fmt", "-", stdin=b"loss f:\n  input x:real[n]\n  return mean(x)\n").stdout.startswith(
        "loss f:\n    input"
    )


def test_new_makes_a_loss_that_checks(tmp_path: Path) -> None:
    assert run("new", "my_loss", cwd=tmp_path).returncode == 0
    assert run("check", "--strict", "my_loss.loss", cwd=tmp_path).returncode == 0
    assert run("new", "my_loss", cwd=tmp_path).returncode == 3
    assert run("new", "1bad", cwd=tmp_path).returncode == 3
    assert run("new", "inf", cwd=tmp_path).returncode == 3
    assert run("fmt", "--check", "my_loss.loss", cwd=tmp_path).returncode == 0


def test_help_is_shown_whole() -> None:
    """What stands in brackets is markup, and would be left out."""
    from lossdsl import cli

    for command in cli.cli.commands.values():
        for text in (command.help, *(getattr(p, "help", None) for p in command.params)):
            assert "[" not in (text or ""), (command.name, text)


def test_plot_draws_and_refuses(tmp_path: Path) -> None:
    out = tmp_path / "huber.png"
    assert run("plot", HUBER, "-o", str(out)).returncode == 0
    assert out.stat().st_size > 5000
    assert run("plot", HUBER, "-o", str(tmp_path / "x.txt")).returncode == 3
    assert run("plot", HUBER, "-o", str(out), "--of", "nothing").returncode == 3
    assert run("plot", HUBER, "-o", str(tmp_path / "no" / "x.png")).returncode == 3


def test_plots_have_extents_that_fit_or_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    assert run("plot", "group_dro", "-o", str(out)).returncode == 0  # an integer parameter is an extent
    large = tmp_path / "large.loss"
    for window in (9000, 4000):  # more than an input is drawn with; than is done in the time of a plot
        large.write_text(
            f"loss large:\n    input x: real[n]\n    axis i, j = {window}\n    return mean(x[n + i] * x[n + j] over n, i, j)\n"
        )
        refused = run("plot", str(large), "-o", str(out))
        assert refused.returncode == 3
        assert "Traceback" not in refused.stderr
        assert "a plot" in refused.stderr


def test_explain_knows_every_code() -> None:
    from lossdsl.diagnostics import CODES

    assert "E0801" in run("explain", "e0801").stdout
    assert all(c.title and c.explanation for c in CODES.values())


def test_catalogue_names_are_found() -> None:
    done = run("check", "regression.huber")
    assert done.returncode == 0
    assert "huber" in done.stdout


@pytest.mark.parametrize("seed", ["1", "2"])
def test_same_bytes_under_any_hash_seed(seed: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
    words = [sys.executable, "-m", "lossdsl", "compile", "examples/classification/cross_entropy.loss"]
    here = subprocess.run(words, cwd=ROOT, capture_output=True, env=env, check=True).stdout
    plain = subprocess.run(words, cwd=ROOT, capture_output=True, env={**env, "PYTHONHASHSEED": "0"}, check=True).stdout
    assert here == plain


def test_same_verdicts_under_any_hash_seed_and_load() -> None:
    """Budgets are of work, not of time: what a search finds, down to its counterexample, depends on nothing else."""
    files = ("segmentation/tversky", "metric/batch_hard_triplet", "classification/focal")
    words = [sys.executable, "-m", "lossdsl", "check", "--json", *(f"examples/{f}.loss" for f in files)]
    processes = [  # at the same time: on few cores each is slower than alone
        subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2", "3")
    ]
    found = [json.loads(p.communicate()[0]) for p in processes]
    for report in found:
        assert report["files"]
        for reported in _objects(report):
            reported.pop("seconds", None)
    assert found[0] == found[1] == found[2]


def _objects(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(part)


# ---------------------------------------------------------------------------------------------------- bad input

# What can be wrong -> the file that is, and the code. Each is checked and compiled by the command line.
WRONG = {
    "an unknown name": "E0201_unknown_name",
    "an unknown function": "E0204_unknown_function",
    "mismatched axes": "E0307_axes_left",
    "an unbound index": "E0306_unbound",
    "a captured index": "E0301_captured",
    "wrong arity": "E0401_arity",
    "a claim about nothing": "E0601_claims",
    "cyclic definitions": "E0205_cycle",
    "duplicates": "E0202_two_things",
    "two losses of one name": "E0202_two_losses",
    "a reserved word": "E0106_declared",
    "bytes that are not UTF-8": "E0803_latin1",
    "a zero byte": "E0804_zero_byte",
    "an empty file": "E0805_empty",
    "nested brackets": "E0702_brackets",
}


@pytest.mark.parametrize("name", WRONG.values(), ids=list(WRONG))
def test_wrong_files_are_diagnostics_and_write_nothing(name: str, tmp_path: Path) -> None:
    path, out = ROOT / "tests" / "errors" / f"{name}.loss", tmp_path / "out.py"
    commands = [["check", str(path)], ["compile", str(path), "-o", str(out)], ["plot", str(path), "-o", "x.png"]]
    for words in commands if name in list(WRONG.values())[::4] else commands[:1]:  # all read a file in the same way
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert f"[{name[:5]}]: " in done.stderr
        assert f"{path}:" in done.stderr
        assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_ten_thousand_brackets_and_ten_megabytes(tmp_path: Path) -> None:
    deep = tmp_path / "deep.loss"
    deep.write_text("loss f:\n    return " + "(" * 10_000 + "1" + ")" * 10_000 + "\n")
    large = tmp_path / "large.loss"
    large.write_bytes(b"# words\n" * (10 * 2**20 // 8))
    for path, code in ((deep, "E0702"), (large, "E0701")):
        for command in (["check"], ["compile"], ["show", "--emit", "ir"], ["fmt"]):
            done = run(command[0], str(path), *command[1:])
            assert (done.returncode, done.stdout) == (2, "")
            assert code in done.stderr


def test_a_domain_warning_names_the_range_that_does_it() -> None:
    done = run("check", "-", stdin=b"loss f:\n    input x: real[n] >= 0\n    return mean(log(x))\n")
    assert done.returncode == 0
    assert "warning[W1002]" in done.stderr
    assert "<stdin>:3:" in done.stderr
    assert "0" in done.stderr.split("W1002]")[1].split("\n")[0]


def test_a_domain_error_with_a_suggestion() -> None:
    done = run("check", "-", stdin=b"loss f:\n    input pred: real[n]\n    return mean(prde^2)\n")
    assert done.returncode == 2
    assert "pred" in done.stderr.split("help:")[1]
    assert "^^^^" in done.stderr


def test_an_unexpected_exception_is_a_diagnostic(tmp_path: Path) -> None:
    """A fault of the compiler itself, put in for the test: no traceback, E0901, exit code 2, nothing written."""
    hook = tmp_path / "broken.py"
    hook.write_text(
        "import sys\nfrom lossdsl import pipeline\n"
        "def fail(*_, **__): raise KeyError('per\\x1b[31m')\n"
        "pipeline.analyse = fail\nfrom lossdsl.cli import main\nmain(sys.argv[1:])\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("LOSSDSL_DEBUG", None)
    out = tmp_path / "out.py"
    path = str(ROOT / HUBER)
    calls = [
        ["check", path],
        ["compile", path, "-o", str(out)],
        ["show", path, "--emit", "ir"],
        ["plot", path, "-o", "o.png"],
    ]
    for words in calls:
        done = subprocess.run(
            [sys.executable, str(hook), *words], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "error[E0901]: internal error: KeyError" in done.stderr
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.py"]
    report = subprocess.run(
        [sys.executable, str(hook), "check", path, "--json"], env=env, capture_output=True, text=True
    )
    assert json.loads(report.stdout)["files"][0]["diagnostics"][0]["code"] == "E0901"
    env["LOSSDSL_DEBUG"] = "1"
    shown = subprocess.run([sys.executable, str(hook), "check", path], env=env, capture_output=True, text=True)
    assert "Traceback" in shown.stderr


def test_what_cannot_be_scheduled_is_a_diagnostic_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from lossdsl import assemble, pipeline
    from lossdsl.diagnostics import Source
    from lossdsl.ir.nodes import Program
    from lossdsl.lower.plan import Key, Plan
    from lossdsl.lower.prepare import unsupported

    def refuse(program: Program, key: Key) -> Plan:
        found = program.definition("per")
        assert found is not None
        unsupported(found, "this")

    monkeypatch.setattr(assemble, "schedule", refuse)
    source = Source("f.loss", "loss f:\n    input x: real[n]\n    per = exp(x)\n    return mean(per)\n")
    for result in (
        pipeline.compile(source, target="torch"),
        pipeline.show(source, "torch"),
        pipeline.show(source, "plan"),
    ):
        assert result.text is None
        [found] = result.diagnostics
        assert (found.code, found.span.line) == ("E0501", 3)
        assert "per: this cannot be scheduled yet" in found.message
    checked = pipeline.check(source)
    assert [f.verdict.blocker for f in checked.reports[0].findings if f.property.startswith("cost")] == [
        found.message
    ] * 2  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------------- the card


def test_the_card_has_one_line_for_a_finding_when_piped() -> None:
    done = run("check", "classification.focal", "regression.huber")
    lines = done.stdout.splitlines()
    marks = [line for line in lines if line[:9].strip() in ("yes", "no", "?", "=")]
    assert len(marks) >= 20
    assert max(len(line) for line in lines) > 120, "wrapped although piped"
    headings = [line.strip() for line in lines if line.startswith("  ") and not line.startswith("   ")]
    for criterion in CRITERIA:
        assert headings.count(criterion) == 2
    assert any("9*N + 4 operations" in line for line in lines)
    assert "not examined yet: learning behaviour" in run("check", "self_supervised.info_nce").stdout


def test_the_card_fits_a_terminal() -> None:
    from rich.console import Console

    from lossdsl import card, pipeline
    from lossdsl.syntax.source import read_source

    report = pipeline.check(read_source(str(ROOT / HUBER))[0]).reports[0]
    for width in (80, 120):
        console = Console(force_terminal=True, width=width, highlight=False, record=True, file=io.StringIO())
        card.print_card(console, report, HUBER)
        assert max(len(line) for line in console.export_text().splitlines()) <= width


def test_a_cost_is_counted_without_torch() -> None:
    report = json.loads(run("check", "self_supervised.info_nce", "--json").stdout)["files"][0]["losses"][0]
    growth = {v["in"][0]: v["detail"] for v in report["verdicts"] if v["property"] == "growth"}
    assert "quadratic operations" in growth["n"]
    assert "linear temporaries" in growth["n"]
    assert "linear operations" in growth["d"]


# ---------------------------------------------------------------------------------------------------- the catalogue


def test_the_catalogue_is_listed_searched_and_copied(tmp_path: Path) -> None:
    listed = run("catalogue")
    assert listed.returncode == 0
    for name in ("focal", "huber", "info_nce"):
        assert re.search(rf"^  {name} +\S", listed.stdout, re.M)
    assert "classification" in listed.stdout.splitlines()
    some = run("catalogue", "--field", "classification", "--search", "LIN ET AL")
    assert [line.split()[0] for line in some.stdout.splitlines()[1:]] == ["focal"]
    assert run("catalogue", "--field", "clasification").returncode == 3
    assert "did you mean classification?" in run("catalogue", "--field", "clasification").stderr
    assert run("catalogue", "--search", "no such loss").returncode == 3
    assert "did you mean focal?" in run("check", "focl").stderr
    copied = run("new", "mine", "--from", "focal", cwd=tmp_path)
    assert copied.returncode == 0, copied.stderr
    text = (tmp_path / "mine.loss").read_text()
    assert text == (ROOT / "examples/classification/focal.loss").read_text().replace("loss focal:", "loss mine:")
    assert run("check", "mine.loss", cwd=tmp_path).returncode == 0


def test_a_constant_that_is_finite_but_not_known_has_no_figure() -> None:
    from lossdsl.card import bracket
    from lossdsl.verify.verdict import Bracket

    assert bracket(Bracket(None, None)) == ""
    assert bracket(Bracket(None, 2.5)) == "[-inf, 2.5]"
    assert bracket(Bracket(None, None, "(-inf, inf)")) == "(-inf, inf)"
    focal = run("check", "focal").stdout
    assert re.search(r"yes  lipschitz of per in logits +slopes along the tails", focal)


def run_in(folder: Path, command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    shell = command.replace("lossdsl", f"{sys.executable} -m lossdsl")
    return subprocess.run(["bash", "-c", shell], cwd=folder, input=text, capture_output=True, text=True, timeout=120)


UNFORMATTED = "loss a:\n   input x:real[n]\n   return   sum(x)\n"


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("lossdsl fmt --check -", 1, "would be formatted"),
        ("lossdsl compile a.loss -o /dev/full", 3, "no file"),
        ("lossdsl compile a.loss -o .", 3, "a folder"),
        (f"lossdsl compile a.loss -o {'a' * 300}.py", 3, "too long"),
        ("lossdsl compile a.loss --check latin.py", 1, "stale"),
        ("lossdsl check a.loss --effort nan", 3, "from 0.1 to 1000"),
        ("lossdsl show a.loss --emit ir > /dev/full", 3, "No space left"),
        ("lossdsl check - <&-", 2, "E0802"),
        ("lossdsl", 3, "Usage"),
        ("(lossdsl catalogue; echo rc $? >&2) | head -1", 0, "rc 0"),
    ],
)
def test_streams_and_paths_of_other_kinds(tmp_path: Path, command: str, code: int, words: str) -> None:
    (tmp_path / "a.loss").write_text(UNFORMATTED)
    (tmp_path / "latin.py").write_bytes(b"\xe9")
    done = run_in(tmp_path, command, UNFORMATTED)
    assert done.returncode == code, done
    assert words in done.stdout + done.stderr
    assert "internal error" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.loss", "latin.py"]


def test_what_a_link_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.loss").write_text(UNFORMATTED)
    (tmp_path / "link.loss").symlink_to("a.loss")
    assert run_in(tmp_path, "lossdsl fmt link.loss").returncode == 0
    assert (tmp_path / "link.loss").is_symlink()
    assert "    input x: real[n]" in (tmp_path / "a.loss").read_text()
