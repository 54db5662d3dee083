"""One question, however its engines end."""

from __future__ import annotations

import time
from collections.abc import Callable

from lossdsl.transform.arithmetic import NotYetError
from lossdsl.verify.verdict import Unknown, Verdict


def guarded(decide: Callable[[], Verdict]) -> tuple[Verdict, float]:
    """The verdict, or Unknown where an engine breaks off, and the seconds that it took."""
    start = time.perf_counter()
    try:
        verdict = decide()
    except (RecursionError, OverflowError, ZeroDivisionError) as problem:
        verdict = Unknown(f"an engine gave up: {type(problem).__name__}")
    except NotYetError as problem:
        verdict = Unknown(str(problem))
    return verdict, time.perf_counter() - start
