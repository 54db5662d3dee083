"""What is being done, on a terminal, when it takes longer than a second."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType

from lossdsl.diagnostics import printable

_PATIENCE = 1.0  # seconds without a word
_EVERY = 0.2


class Progress:
    """One line on standard error that is written over and, at the end, taken away; nothing where that is no terminal."""

    def __init__(self, *, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._doing = ""
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, doing: str) -> None:
        """What is done from now on."""
        self._doing = doing

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._thread = threading.Thread(target=self._show, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _show(self) -> None:
        start = time.monotonic()
        if self._done.wait(self._patience):
            return
        while not self._done.is_set():
            line = f"{time.monotonic() - start:.0f} s  {printable(self._doing)}"
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[2K{line[:width]}")
            sys.stderr.flush()
            self._done.wait(_EVERY)
        sys.stderr.write("\r\x1b[2K")
        sys.stderr.flush()
