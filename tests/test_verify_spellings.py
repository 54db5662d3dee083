"""Verdicts come from mathematics and not from a table of names: every loss of a sample with its stable primitives written
out in elementary ones, and with its sign flipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lossdsl.ir.build import BuiltLoss
from lossdsl.verify import properties
from lossdsl.verify.context import Context
from lossdsl.verify.questions import Subject, subject
from lossdsl.verify.verdict import Proved, Refuted, Verdict
from tests.expanded import expanded, negated
from tests.test_verify import EXAMPLES, losses_of

PATHS = sorted(EXAMPLES.glob("*/*.loss"))


def asked(path: Path) -> list[tuple[BuiltLoss, Subject]]:
    """The losses of a file that have something to write out."""
    found = []
    for built in losses_of(path):
        of = subject(built, Context(built.program, seconds=0.1))
        if of is not None and expanded(built)[1]:
            found.append((built, of))
    return found


def convex(built: BuiltLoss, of: Subject, *, concave: bool = False) -> Verdict:
    return properties.convexity(Context(built.program, seconds=0.1), of.target, of.wrt, concave=concave)


def hold(path: Path) -> int:
    """Convexity of the losses of a file, written out and negated; how many are proved convex."""
    count = 0
    for built, of in asked(path):
        verdict, elementary = convex(built, of), convex(expanded(built)[0], of)
        if isinstance(verdict, Proved):
            count += 1
            assert isinstance(elementary, Proved), elementary
            flipped = negated(built, of.target)
            straight = isinstance(convex(built, of, concave=True), Proved)
            if not straight and of.prediction.kind != "unit":  # a midpoint of unit vectors is none
                assert isinstance(convex(flipped, of), Refuted)
            assert isinstance(convex(flipped, of, concave=True), Proved)
        if isinstance(verdict, Refuted):
            assert not isinstance(elementary, Proved)
    return count


SAMPLE = [*PATHS[::11], *(p for p in PATHS if p.stem == "log_barrier")]  # a maximum with 0 inside of a logarithm


@pytest.mark.parametrize("path", SAMPLE, ids=lambda p: p.stem)
def test_a_sample_in_elementary_primitives_and_negated(path: Path) -> None:
    hold(path)


@pytest.mark.slow
def test_the_catalogue_in_elementary_primitives_and_negated() -> None:
    assert sum(map(hold, PATHS)) > 40


QUESTIONS: dict[str, Callable[[Context, Subject], Verdict]] = {
    "non-negative": lambda ctx, of: properties.nonnegative(ctx, of.target),
    "increasing": lambda ctx, of: properties.monotone(ctx, of.target, of.wrt, increasing=True, strict=False),
}


@pytest.mark.slow
def test_few_verdicts_depend_on_the_spelling() -> None:
    """Raise the number when an engine learns; none is the opposite."""
    before, after = 0, 0
    for built, of in (pair for path in PATHS for pair in asked(path)):
        for decide in QUESTIONS.values():
            one = decide(Context(built.program, seconds=0.1), of)
            two = decide(Context(expanded(built)[0].program, seconds=0.1), of)
            assert {type(one), type(two)} != {Proved, Refuted}, (built.program.name, one, two)
            before += isinstance(one, (Proved, Refuted))
            after += isinstance(one, (Proved, Refuted)) and isinstance(two, (Proved, Refuted))
    assert after >= 0.8 * before, (before, after)
