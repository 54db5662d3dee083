"""The table of questions: how much of it is decided, and that no two answers contradict one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossdsl.verify.consistency import Fact, broken, domain_of
from lossdsl.verify.questions import QUESTIONS, answers
from lossdsl.verify.verdict import Unknown
from tests.test_verify import EXAMPLES, losses_of

PATHS = sorted(EXAMPLES.glob("*/*.loss"))
SHARE = 0.65  # of the catalogue; raise it when an engine learns
OF_VALUE = frozenset({"non-negative", "positive", "bounded", "infimum == 0"}) | {
    q.property for q in QUESTIONS if q.kind == "labelled"
}


def ask(path: Path) -> tuple[int, int]:
    """(decided, asked) of the losses of a file; their answers agree with one another."""
    decided, asked = 0, 0
    for built in losses_of(path):
        facts = []
        for of, question, verdict, _ in answers(built):
            asked += 1
            decided += not isinstance(verdict, Unknown)
            wrt = () if question.property in OF_VALUE else of.wrt
            learned = [i for i in built.program.inputs if (i.name in wrt if wrt else i.differentiable)]
            facts.append(Fact(question.property, of.target, wrt, verdict, domain_of(learned)))
        assert broken(facts) == [], (built.program.name, broken(facts))
    return decided, asked


def test_a_sample_of_the_catalogue() -> None:
    counts = [ask(path) for path in PATHS[5::53]]
    assert sum(decided for decided, _ in counts) > 0.55 * sum(asked for _, asked in counts)


@pytest.mark.slow
def test_the_catalogue() -> None:
    counts = [ask(path) for path in PATHS]
    decided, asked = (sum(c[k] for c in counts) for k in (0, 1))
    print(f"{decided} of {asked} questions decided ({decided / asked:.1%})")
    assert asked > 7000
    assert decided >= SHARE * asked
