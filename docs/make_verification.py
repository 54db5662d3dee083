"""Write `docs/verification.md`: what the verifier decides of the catalogue, question by question.

Every loss is asked the questions of `lossdsl.verify.questions`. Run: `make verification`, or
`python docs/make_verification.py [NAME ...]` (of these losses only, printed).
"""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lossdsl import pipeline
from lossdsl.card import status
from lossdsl.catalogue import Entry, entries
from lossdsl.diagnostics import Source
from lossdsl.verify.questions import FORECAST, LABELLED, QUESTIONS, answers
from lossdsl.verify.verdict import Unknown

PAGE = Path(__file__).resolve().parent / "verification.md"
KINDS = ("elementwise", "row")


@dataclass(frozen=True)
class Answer:
    """One question of one loss: its status, why it is open, and how long it took."""

    loss: str
    kind: str
    property: str
    status: str
    blocker: str
    seconds: float


_NO_PROBABILITY = "nothing says which probabilities the scores stand for (a claim with a link does)"


def asked(entry: Entry) -> tuple[list[Answer], dict[str, str]]:
    """The answers about the losses of a file, and why decision theory is not asked, or not all, of those that read labels."""
    analysis = pipeline.analyse(Source(str(entry.path), entry.path.read_text(encoding="utf-8")))
    found, left_out = [], {}
    for built in analysis.losses:
        name = entry.name if built.program.name == entry.name else f"{entry.name}: {built.program.name}"
        for of, question, verdict, seconds in answers(built):
            kind = next(k for k in KINDS if k in of.kinds)
            if of.undecidable:
                left_out[name] = of.undecidable
            elif LABELLED in of.kinds and FORECAST not in of.kinds:
                left_out[name] = _NO_PROBABILITY
            blocker = verdict.blocker if isinstance(verdict, Unknown) else ""
            found.append(Answer(name, kind, question.property, status(verdict), blocker, seconds))
    return found, left_out


def page(found: list[Answer], left_out: dict[str, str]) -> str:
    counts = Counter(a.status for a in found)
    losses = {a.loss: a.kind for a in found}
    decided = 1 - counts["unknown"] / len(found)
    lines = ["# What is decided of the catalogue", ""]
    lines.append("Made by `make verification` from the questions of `lossdsl/verify/questions.py`, with the budget of")
    lines.append("`lossdsl check`. *Proved* and *refuted* come with evidence; *unknown* is what no engine settled.")
    lines += ["", f"{len(found)} questions of {len(losses)} losses: {counts['proved']} proved,"]
    lines.append(f"{counts['refuted']} refuted, {counts['unknown']} unknown ({decided:.1%} decided).")
    lines += ["", "| losses | | questions each (least) | decided |", "|---|---|---|---|"]
    for kind in KINDS:
        own = [a for a in found if a.kind == kind]
        least = min(Counter(a.loss for a in own).values(), default=0)
        share = sum(a.status != "unknown" for a in own) / max(1, len(own))
        lines.append(f"| {kind} | {sum(k == kind for k in losses.values())} | {least} | {share:.1%} |")
    lines += ["", "## By property", "", "| property | asked of | proved | refuted | unknown |", "|---|---|---|---|---|"]
    for question in QUESTIONS:
        of = Counter(a.status for a in found if a.property == question.property)
        row = [question.property, question.kind, *(str(of[s]) for s in ("proved", "refuted", "unknown"))]
        lines.append(f"| {' | '.join(row)} |")
    lines += [
        "",
        "A loss is *elementwise* if an element of it reads one entry of the prediction (of the *line* if that is any",
    ]
    lines.append("real number: there it may redescend), else a *row*; it is")
    lines.append("*labelled* if a label of few values is beside the prediction (a *forecast* if the prediction is, or")
    lines.append("stands for, a probability), *paired* if a real input of the same")
    lines.append(
        "domain is. Losses without a real input are not asked. Curvature is not asked on a sphere, which holds no"
    )
    lines.append(
        "segment; order, shift and scale neither on a sphere nor on a simplex: no two points of it are so related."
    )
    lines += [
        "",
        "Calibration and properness are about one label and one prediction. These losses read labels and are not",
    ]
    lines += ["asked, because it cannot be told which these are:", ""]
    whole = {name: reason for name, reason in left_out.items() if reason != _NO_PROBABILITY}
    lines += [f"- {name}: {reason}" for name, reason in sorted(whole.items())]
    scores = ", ".join(sorted(left_out.keys() - whole.keys()))
    lines += ["", f"These are not asked whether they are proper, as {_NO_PROBABILITY}:", "", scores]
    lines += ["", "## Unknown", ""]
    for question in QUESTIONS:
        names = sorted({a.loss for a in found if a.property == question.property and a.status == "unknown"})
        if names:
            lines += [f"**{question.property}** ({len(names)}): {', '.join(names)}", ""]
    return "\n".join(lines)


def main() -> None:
    chosen = [e for e in entries() if len(sys.argv) < 2 or e.name in sys.argv[1:]]
    with ProcessPoolExecutor() as pool:
        answered = list(pool.map(asked, chosen))
    found = [a for answers_, _ in answered for a in answers_]
    left_out = {name: reason for _, reasons in answered for name, reason in reasons.items()}
    if not found:
        sys.exit("nothing is asked of these losses")
    seconds = median(a.seconds for a in found)
    slowest = max(found, key=lambda a: a.seconds)
    print(
        f"median {1000 * seconds:.1f} ms a question; slowest {slowest.seconds:.1f} s: {slowest.property} of {slowest.loss}"
    )
    text = page(found, left_out)
    if len(sys.argv) > 1:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
