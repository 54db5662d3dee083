"""The clock of the searches. It counts work (enclosures made, nodes evaluated, terms of polynomials), not time, so that
a search ends at the same place on every machine and in every run, and a verdict is always the same."""

from __future__ import annotations

_PER_SECOND = 300_000  # steps in a second, about: budgets are given in such seconds


class Clock:
    """Steps done so far by this process."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = 0


CLOCK = Clock()


def deadline(seconds: float) -> int:
    """The step at which so much time will have been worked, from now on."""
    return CLOCK.steps + round(seconds * _PER_SECOND)


def passed(end: float) -> bool:
    """Whether a deadline is over."""
    return CLOCK.steps >= end


__all__ = ["CLOCK", "Clock", "deadline", "passed"]
