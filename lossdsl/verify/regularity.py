"""How smooth a loss is where no scalar view says so: a class by composition, and a kink that shows that it is the best."""

from __future__ import annotations

from dataclasses import dataclass

from lossdsl.verify import continuity, kinks
from lossdsl.verify.context import Context
from lossdsl.verify.continuity import NONE, SMOOTH
from lossdsl.verify.verdict import Proved, Refuted

_SECONDS = 14.0  # of a search for a kink, in those of one search for a witness


@dataclass(frozen=True)
class Regularity:
    """The class that is proved (NONE for none), a jump of the next derivative or of a later one, and what stopped the
    proof."""

    order: int
    evidence: Proved | None
    fails: tuple[int, Refuted] | None
    blocker: str


def decide(ctx: Context, target: str, inputs: tuple[str, ...], least: int) -> Regularity:
    """`least`: the order of the derivatives that are already known to be continuous."""
    classes = continuity.Classes(ctx, inputs)
    order, evidence, blocker = least, None, ""
    try:
        found = classes.of(target).order
        if found > least:
            order = found
            evidence = Proved("composition of classes", tuple(classes.steps))
    except continuity.Rough as reason:
        blocker = str(reason)
    if order == SMOOTH:
        return Regularity(order, evidence, None, "")
    jump = kinks.jump(ctx, target, inputs, order + 1, _SECONDS * ctx.seconds)
    return Regularity(order, evidence, None if jump is None else (jump.order, jump.refuted), blocker)


__all__ = ["NONE", "Regularity", "decide"]
