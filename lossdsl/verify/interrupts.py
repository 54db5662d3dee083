"""Interrupts of the user while a library is at work whose destructors would swallow them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def here() -> bool:
    """Whether signals are handled in this thread."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def held() -> Iterator[None]:
    """An interrupt waits until the block is left: an exception that is raised in a destructor is ignored."""
    handler = signal.getsignal(signal.SIGINT)
    if not here() or not callable(handler):
        yield
        return
    seen: list[tuple[Any, ...]] = []
    signal.signal(signal.SIGINT, lambda *said: seen.append(said))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if seen:
        handler(*seen[0])


__all__ = ["held", "here"]
