"""References of semi-supervised losses."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Reference, case, full, labels, normal, simplex


def fixmatch(weak: torch.Tensor, strong: torch.Tensor, threshold: float = 0.95) -> torch.Tensor:
    total = strong.sum() * 0
    for w, s in zip(weak, strong):
        best, label = F.softmax(w.detach(), 0).max(0)
        if best >= threshold:
            total = total + F.cross_entropy(s[None], label[None])
    return total / len(weak)


def mean_teacher(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(student.softmax(1), teacher.softmax(1).detach())


def entropy_minimisation(logits: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Categorical(logits=logits).entropy().mean()


def mixmatch(
    labelled: torch.Tensor,
    labels: torch.Tensor,
    unlabelled: torch.Tensor,
    guesses: torch.Tensor,
    weight: float = 75.0,
) -> torch.Tensor:
    return F.cross_entropy(labelled, labels) + weight * F.mse_loss(unlabelled.softmax(1), guesses.detach())


def pseudo_label(
    labelled: torch.Tensor,
    target: torch.Tensor,
    unlabelled: torch.Tensor,
    step: torch.Tensor,
    weight: float = 3.0,
    start: int = 100,
    end: int = 600,
) -> torch.Tensor:
    ramp = min(max((float(step) - start) / (end - start), 0.0), 1.0)
    guess = unlabelled.detach().argmax(1)
    return F.cross_entropy(labelled, target) + weight * ramp * F.cross_entropy(unlabelled, guess)


def halves(n: int, m: int, c: int, step: int, **p: float) -> Case:
    return case(
        labelled=normal(n, c),
        target=labels(c, n),
        unlabelled=normal(m, c, scale=2),
        step=np.asarray(step),
        parameters=p,
    )


def two(names: str, n: int, c: int, scale: float = 2.0, **p: float) -> Case:
    return case(parameters=p, **{name: normal(n, c, scale=scale) for name in names.split()})


def mixed(n: int, m: int, c: int, **p: float) -> Case:
    return case(
        labelled=normal(n, c), labels=simplex(n, c), unlabelled=normal(m, c), guesses=simplex(m, c), parameters=p
    )


def tied(rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
    return {"weak": np.array([[5.0, 5.0, -9.0], [1.0, 1.0, 1.0]]), "strong": rng.normal(size=(2, 3))}, {
        "threshold": 0.3
    }


REFERENCES = {
    "fixmatch": Reference(
        "semi_supervised/fixmatch",
        fixmatch,
        (
            two("weak strong", 8, 3, 4.0, threshold=0.8),
            two("weak strong", 5, 6, threshold=0.4),
            two("weak strong", 9, 2, threshold=0.0),
        ),
        at=(two("weak strong", 4, 5, threshold=1.0), two("weak strong", 6, 3, 30.0), tied),
    ),
    "mean_teacher": Reference(
        "semi_supervised/mean_teacher",
        mean_teacher,
        (two("student teacher", 4, 5), two("student teacher", 7, 2, 0.5), two("student teacher", 1, 3, 5.0)),
        at=(two("student teacher", 4, 5, 1e3),),
    ),
    "entropy_minimisation": Reference(
        "semi_supervised/entropy_minimisation",
        entropy_minimisation,
        (
            case(logits=normal(4, 5, scale=2)),
            case(logits=normal(7, 2)),
            case(logits=normal(1, 3, scale=5)),
        ),
        at=(case(logits=full(0.0, 3, 4)), case(logits=normal(4, 5, scale=1e3)), case(logits=normal(3, 1))),
    ),
    "mixmatch": Reference(
        "semi_supervised/mixmatch",
        mixmatch,
        (mixed(4, 6, 3), mixed(3, 2, 5, weight=1.5), mixed(1, 4, 2, weight=0.3)),
        wrt=("labelled", "unlabelled", "guesses"),
    ),
    "pseudo_label": Reference(
        "semi_supervised/pseudo_label",
        pseudo_label,
        (halves(4, 5, 3, step=250), halves(3, 2, 5, step=7, start=2, end=12, weight=1.5), halves(2, 6, 2, step=900)),
        at=(halves(3, 4, 3, step=0), halves(3, 4, 3, step=100)),
    ),
}
