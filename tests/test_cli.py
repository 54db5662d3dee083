"""The command line: exit codes, files, and no traceback for anything that a user can do."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

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
    for command in ("check", "compile", "show", "fmt", "plot", "new", "explain"):
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
    assert run("fmt", "-", stdin=b"loss f:\n  input x:real[n]\n  return mean(x)\n").stdout.startswith("loss f:\n    input")


def test_new_makes_a_loss_that_checks(tmp_path: Path) -> None:
    assert run("new", "my_loss", cwd=tmp_path).returncode == 0
    assert run("check", "--strict", "my_loss.loss", cwd=tmp_path).returncode == 0
    assert run("new", "my_loss", cwd=tmp_path).returncode == 3
    assert run("new", "1bad", cwd=tmp_path).returncode == 3
    assert run("new", "inf", cwd=tmp_path).returncode == 3
    assert run("fmt", "--check", "my_loss.loss", cwd=tmp_path).returncode == 0


def test_plot_draws_and_refuses(tmp_path: Path) -> None:
    out = tmp_path / "huber.png"
    assert run("plot", HUBER, "-o", str(out)).returncode == 0
    assert out.stat().st_size > 5000
    assert run("plot", HUBER, "-o", str(tmp_path / "x.txt")).returncode == 3
    assert run("plot", HUBER, "-o", str(out), "--of", "nothing").returncode == 3
    assert run("plot", HUBER, "-o", str(tmp_path / "no" / "x.png")).returncode == 3


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
