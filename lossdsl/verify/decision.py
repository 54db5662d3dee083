"""Claims of decision theory: `calibrated`, `proper`, `strictly proper` and `noise symmetric` (`docs/language/claims.md`).

Each is proved by an exact rule for labels of two values (`binary`) or for classes (`separable`), or refuted by certified
predictions (`regret`).
"""

from __future__ import annotations

from collections.abc import Iterable

from lossdsl.ir.nodes import Definition, Group, Scalar
from lossdsl.verify import binary, blind, regret, separable
from lossdsl.verify.context import Context
from lossdsl.verify.labels import NoProblem, problem
from lossdsl.verify.verdict import Proved, Unknown, Verdict

WORDS = ("calibrated", "proper", "strictly proper", "noise symmetric")


def decide(
    ctx: Context, target: str, word: str, link: Scalar | None = None, further: Iterable[Definition | Group] = ()
) -> Verdict:
    """The verdict on one of `WORDS` about an element of the target; `further` are definitions that the link reads."""
    more = tuple(further)
    try:
        question = problem(ctx.extended(more) if more else ctx, target, link)
    except NoProblem as reason:
        return Unknown(str(reason))
    if link is not None and word in ("calibrated", "noise symmetric"):
        return Unknown(f"a link in a claim of `{word}`")
    strict, engine = word == "strictly proper", binary if question.values is not None else separable
    match word:
        case "calibrated":
            found = engine.calibrated(question)
            wrong = None if isinstance(found, Proved) else regret.uncalibrated(question) or blind.uncalibrated(question)
        case "noise symmetric":
            found = engine.noise_symmetric(question)
            wrong = None if isinstance(found, Proved) else regret.uneven(question)
        case _:
            found = engine.proper(question, link, strict=strict)
            wrong = None if isinstance(found, Proved) else regret.improper(question, link, strict=strict)
            if wrong is None and link is None and question.values is None and not isinstance(found, Proved):
                wrong = separable.unsteady(question)
    if isinstance(found, Proved):
        return found
    return wrong or Unknown(found.blocker, (*found.tried, "search"))


__all__ = ["WORDS", "decide"]
