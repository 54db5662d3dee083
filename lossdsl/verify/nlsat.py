"""z3 in a process of its own, asked in SMT-LIB: it has crashed inside of ours, and an interrupt is ours alone to handle.

One process answers every question of a check, each from an empty state (`reset`), so that no answer depends on what
was asked before; a question that ends it (a crash, the limit of time, an interrupt) costs that one answer.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import shutil
import subprocess
import threading
import warnings
from functools import cache
from pathlib import Path

_GRACE = 2.0  # seconds beyond the limit that z3 was given, of which it does not hear in every loop
_END = "the end of the answer"
_KEPT = 256  # answers: the pieces of a loss ask the same of several properties


class Solver:
    """A z3 process, started at the first question and again after one that ended it."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.command = command
        self._running: subprocess.Popen[str] | None = None
        self._owner = 0
        self._known: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def unsat(self, script: str, steps: int, milliseconds: int) -> tuple[bool, int]:
        """Whether no real numbers satisfy the declarations and assertions; and how many of its steps z3 took."""
        options = f"(reset)(set-option :rlimit {steps})(set-option :timeout {milliseconds})(set-logic QF_NRA)"
        question = f'{options}\n{script}\n(check-sat)\n(get-info :rlimit)\n(echo "{_END}")\n'
        with self._lock:
            answer = self._known.get(question) or self._ask(question, milliseconds / 1000 + _GRACE)
            if not answer:
                return False, steps
            if len(self._known) == _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[question] = answer
        spent = next((line for line in answer if line.startswith("(:rlimit ")), f"(:rlimit {steps})")
        return answer[0] == "unsat", int(spent[len("(:rlimit ") : -1])

    def _ask(self, question: str, seconds: float) -> list[str]:
        """The lines of the answer; none if the process ended before it was complete."""
        process = self._process()
        assert process.stdin is not None
        assert process.stdout is not None
        limit = threading.Timer(seconds, process.kill)
        limit.daemon = True
        limit.start()
        answer: list[str] = []
        try:
            process.stdin.write(question)
            process.stdin.flush()
            for line in process.stdout:
                if line.strip() == _END:
                    return answer
                answer.append(line.strip())
        except BrokenPipeError:
            pass
        except BaseException:  # an interrupt: the rest of this answer must not be read as the next one
            self.close()
            raise
        finally:
            limit.cancel()
        self.close()
        return []

    def _process(self) -> subprocess.Popen[str]:
        if self._running is not None and self._owner != os.getpid():
            self._running = None  # a fork: the process, and what it answers, are the parent's
        if self._running is None:
            # in a session of its own: the terminal's interrupt is for us
            self._running = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
            self._owner = os.getpid()
        return self._running

    def close(self) -> None:
        running, self._running = self._running, None
        if running is not None and self._owner == os.getpid():
            running.kill()
            running.wait()
            for pipe in (running.stdin, running.stdout):
                try:
                    if pipe is not None:
                        pipe.close()
                except BrokenPipeError:
                    pass


@cache
def solver() -> Solver | None:
    """The process that this one asks; None (and a warning) where the package has left no program."""
    program = _program()
    if program is None:
        warnings.warn("the program z3 was not found (package z3-solver): fewer properties are decided", stacklevel=2)
        return None
    found = Solver((program, "-in"))
    atexit.register(found.close)
    return found


def _program() -> str | None:
    """The program of the package z3-solver, else one on the path."""
    try:
        files = importlib.metadata.files("z3-solver") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in ("z3", "z3.exe"):
            place = Path(str(file.locate()))
            if place.is_file() and os.access(place, os.X_OK):
                return str(place.resolve())
    return shutil.which("z3")


__all__ = ["Solver", "solver"]
