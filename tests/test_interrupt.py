"""Progress on a terminal, and what is left of a check that was interrupted."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lossdsl.cli import main
from lossdsl.progress import Progress
from lossdsl.verify import check as checking
from lossdsl.verify import nlsat
from lossdsl.verify.context import Context
from tests.test_verify import built

ROOT = Path(__file__).parents[1]


class Terminal(io.StringIO):
    def __init__(self, tty: bool) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


def shown(monkeypatch: pytest.MonkeyPatch, *, tty: bool, seconds: float) -> str:
    terminal = Terminal(tty)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(patience=0.1) as progress:
        progress("huber: convex in \x1b[31mpred")
        time.sleep(seconds)
    return terminal.getvalue()


def test_progress_comes_late_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, tty=True, seconds=0.5)
    assert "s  huber: convex in \N{REPLACEMENT CHARACTER}[31mpred" in text  # a name cannot drive the terminal
    assert text.endswith("\r\x1b[2K")
    assert shown(monkeypatch, tty=True, seconds=0.0) == ""


def test_no_progress_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, tty=False, seconds=0.3) == ""


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt when the first standard question about convexity is asked."""

    def broken(ctx: Context, target: str, wrt: tuple[str, ...]) -> None:
        raise KeyboardInterrupt

    class Broken:
        nonnegative = staticmethod(checking.properties.nonnegative)
        smoothness = staticmethod(checking.properties.smoothness)
        Smoothness = checking.properties.Smoothness
        convexity = staticmethod(broken)

    monkeypatch.setattr(checking, "properties", Broken)


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.mark.usefixtures("breaking")
def test_an_interrupt_gives_what_is_decided(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    assert ended("check", str(ROOT / "examples/regression/huber.loss"), "--certificate", str(proof)) == 130
    out, err = capsys.readouterr()
    assert "proved   line 10: convex in pred" in out  # the claims come first
    assert "non-negative of per" in out
    assert "finite in float32" not in out
    assert "interrupted at huber: convex in pred" in err
    assert not list(tmp_path.iterdir())  # no certificate, not even half of one


@pytest.mark.usefixtures("breaking")
def test_an_interrupt_still_gives_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("check", "regression.huber", "regression.mse", "--json") == 130
    files = json.loads(capsys.readouterr().out)["files"]
    assert len(files) == 1
    assert {v["property"] for v in files[0]["losses"][0]["verdicts"]} >= {"range", "non-negative", "C1"}


@pytest.mark.usefixtures("breaking")
def test_an_interrupted_compile_writes_nothing(tmp_path: Path) -> None:
    assert ended("compile", "regression.huber", "-o", str(tmp_path / "out.py")) == 130
    assert not list(tmp_path.iterdir())


def listening() -> object:
    """Interrupts are heard, also where a shell runs the tests in the background and has them ignored."""
    return signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_signal_ends_a_long_check() -> None:
    """Also while a solver is at work: the interrupt is the user's, not the solver's."""
    words = [sys.executable, "-m", "lossdsl", "check", "regression.huber", "--effort", "1000"]
    running = subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listening,
    )
    time.sleep(4)
    still = running.poll() is None
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert "Traceback" not in err
    assert not still or running.returncode == 130


def test_an_interrupt_while_a_solver_is_asked_ends_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(nlsat.Solver, "unsat", interrupted)
    loss = built("loss t:\n    input x: real[n]\n    per = x^4 - 3 * x^2 * abs(x) + 3 * x^2\n    return mean(per)\n")
    with pytest.raises(checking.Interrupted):
        checking.verify_program(loss)


def test_an_interrupt_while_advice_is_sought_keeps_the_card(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lossdsl.advice.advise", broken)
    assert ended("check", "regression.huber") == 130
    out, err = capsys.readouterr()
    assert "finite in float16" in out
    assert "interrupted at advice" in err
