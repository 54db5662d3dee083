"""Room on the interpreter's stack for expressions that the language allows to be nested deeply."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

FRAMES = 20_000  # at most ten Python frames for each nested expression


@contextmanager
def deep() -> Iterator[None]:
    """Raise the recursion limit while a loss is elaborated; the builder counts its own depth."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
