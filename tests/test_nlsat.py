"""z3 in a process of its own: what it answers, and that nothing which happens to it reaches us."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossdsl.verify import nlsat
from lossdsl.verify.nlsat import Solver, solver

NEVER = "(declare-const x Real)(assert (< (+ (* x x) 1.0) (* 2.0 x)))"  # (x - 1)^2 < 0
ONCE = "(declare-const x Real)(assert (<= (+ (* x x) 1.0) (* 2.0 x)))"
AGAIN = NEVER.replace("x", "y")
ENOUGH = (250_000, 600)


@pytest.fixture
def z3() -> Iterator[Solver]:
    found = solver()
    assert found is not None
    own = Solver(found.command)
    yield own
    own.close()


def standing_in(tmp_path: Path, body: str) -> Solver:
    """A program in place of z3."""
    path = tmp_path / "program.py"
    path.write_text(body)
    return Solver((sys.executable, str(path)))


def test_only_what_no_numbers_satisfy_is_unsat(z3: Solver) -> None:
    assert z3.unsat(NEVER, *ENOUGH)[0]
    assert not z3.unsat(ONCE, *ENOUGH)[0]


def test_an_answer_does_not_depend_on_earlier_questions(z3: Solver) -> None:
    first = z3.unsat(NEVER, *ENOUGH)
    z3.unsat(ONCE.replace("x", "y"), 10, 10)
    assert z3.unsat(NEVER, *ENOUGH) == first


def test_what_is_no_question_is_not_unsat_and_leaves_the_next_one_alone(
    z3: Solver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nlsat, "_GRACE", 0.2)
    assert not z3.unsat("(assert (< undeclared 0.0))", *ENOUGH)[0]
    assert not z3.unsat("(assert (((", *ENOUGH)[0]
    assert z3.unsat(NEVER, *ENOUGH)[0]


def test_a_crash_costs_one_answer(z3: Solver) -> None:
    assert z3.unsat(NEVER, *ENOUGH)[0]
    assert z3._running is not None
    z3._running.send_signal(signal.SIGSEGV)
    z3._running.wait()
    assert not z3.unsat(AGAIN, *ENOUGH)[0]
    assert z3.unsat(AGAIN, *ENOUGH)[0]


def test_a_known_answer_is_not_asked_for_again(tmp_path: Path) -> None:
    answers = "import sys\nfor line in sys.stdin:\n    if 'echo' in line: print('unsat\\n(:rlimit 7)\\nthe end of the answer', flush=True)"
    once = standing_in(tmp_path, answers)
    found = [once.unsat(NEVER, *ENOUGH) for _ in range(2)]
    once.command = ("a program that there is not",)
    once.close()
    assert [*found, once.unsat(NEVER, *ENOUGH)] == [(True, 7)] * 3
    with pytest.raises(FileNotFoundError):
        once.unsat(AGAIN, *ENOUGH)


def test_half_an_answer_is_none(tmp_path: Path) -> None:
    half = standing_in(tmp_path, "import sys; sys.stdin.readline(); print('unsat', flush=True)")
    assert half.unsat(NEVER, *ENOUGH) == (False, ENOUGH[0])


def test_one_that_hears_of_no_limit_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nlsat, "_GRACE", 0.2)
    deaf = standing_in(tmp_path, "import time; time.sleep(1000)")
    start = time.monotonic()
    assert not deaf.unsat(NEVER, 10, 100)[0]
    assert time.monotonic() - start < 30
    assert deaf._running is None


def test_an_interrupt_leaves_no_answer_behind(tmp_path: Path) -> None:
    slow = standing_in(tmp_path, "import time; time.sleep(1000)")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            slow.unsat(NEVER, 10, 100_000)
    finally:
        signal.signal(signal.SIGINT, before)
    assert slow._running is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_asks_a_process_of_its_own(z3: Solver) -> None:
    assert z3.unsat(NEVER, *ENOUGH)[0]
    mine = z3._running
    child = os.fork()
    if child == 0:
        answered = z3.unsat(AGAIN, *ENOUGH)[0] and z3._running is not mine
        z3.close()
        os._exit(0 if answered else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert z3.unsat(AGAIN, *ENOUGH)[0]
    assert z3._running is mine


def test_without_the_program_a_warning_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nlsat, "_program", lambda: None)
    with pytest.warns(UserWarning, match="z3 was not found"):
        assert solver.__wrapped__() is None
