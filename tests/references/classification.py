"""References of classification losses: torch's functions, and the papers' formulas sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Case, Reference, case, full, labels, normal, signs, simplex, uniform


def multiclass_hinge(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, margin: float = 1.0, p: float = 1.0
) -> torch.Tensor:
    if p in (1, 2):
        return F.multi_margin_loss(logits, target, p=int(p), margin=margin, weight=weight)
    total = logits.sum() * 0
    for row, t in zip(logits, target.tolist()):
        others = torch.cat([row[:t], row[t + 1 :]])
        terms = (margin - row[t] + others).clamp(min=0).pow(p).sum() / len(row)
        total = total + terms * (1 if weight is None else weight[t])
    return total / len(logits)


def crammer_singer(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    total = logits.sum() * 0
    for row, t in zip(logits, target.tolist()):
        others = torch.cat([row[:t], row[t + 1 :]])
        total = total + torch.relu(1 + others.max() - row[t])
    return total / len(logits)


def soft_margin(score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return -F.logsigmoid(y * score).mean()


def exponential(score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.where(y == 1, 1 / score.exp(), score.exp()).mean()


def modified_huber(score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The square up to 1 - margin = 2, and from there its tangent."""
    short = torch.relu(1 - y * score)
    near = short.clamp(max=2)
    return (near.square() + 4 * (short - near)).mean()


def brier(prob: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (prob - F.one_hot(target, prob.shape[1])).square().sum(1).mean()


def spherical_score(prob: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return 1 - F.normalize(prob, dim=1).gather(1, target[:, None]).mean()


def sparsemax(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Fenchel-Young: (|z|^2 - |z - p|^2) / 2 + |onehot|^2 / 2 - z_target, the support found by trying its sizes."""
    total = logits.sum() * 0
    for z, t in zip(logits, target.tolist()):
        for k in range(1, len(z) + 1):
            best = z.topk(k).values
            tau = (best.sum() - 1) / k
            if best[-1] > tau and (k == len(z) or z.topk(k + 1).values[-1] <= tau):
                break
        p = torch.clamp(z - tau, min=0)
        total = total + (z.square().sum() - (z - p).square().sum() + 1) / 2 - z[t]
    return total / len(logits)


def poly1(logits: torch.Tensor, target: torch.Tensor, epsilon: float = 2.0) -> torch.Tensor:
    p = F.softmax(logits, 1).gather(1, target[:, None])
    return F.cross_entropy(logits, target) + epsilon * (1 - p).mean()


def scores(*shape: int, scale: float = 2.0) -> Case:
    return case(score=normal(*shape, scale=scale), y=signs(*shape))


def classes(n: int, c: int, scale: float = 2.0, weights: bool = False, **p: Any) -> Case:
    weight: dict[str, Any] = {"weight": uniform(0.2, 2, c)} if weights else {}
    return case(logits=normal(n, c, scale=scale), target=labels(c, n), parameters=p, **weight)


def forecasts(n: int, c: int) -> Case:
    return case(prob=simplex(n, c), target=labels(c, n))


KINK = case(score=np.array([1.0, -1.0, -1.0, 1.0]), y=np.array([1, -1, 1, -1]))
TIES = case(logits=full(0.0, 3, 4), target=labels(4, 3))
HUGE = classes(5, 4, scale=1e3)

REFERENCES = {
    "multiclass_hinge": Reference(
        "classification/multiclass_hinge",
        multiclass_hinge,
        (
            classes(7, 3, margin=2.5, p=1.5, weights=True),
            classes(6, 4, weights=True),
            classes(5, 3, margin=0.4, p=2.0),
        ),
        at=(TIES, HUGE, case(logits=np.array([[1.0, 0.0], [0.0, 1.0]]), target=np.array([0, 1]))),
    ),
    "crammer_singer": Reference(
        "classification/crammer_singer",
        crammer_singer,
        (classes(6, 4), classes(5, 3), classes(7, 2, scale=1.0)),
        at=(TIES, HUGE),
    ),
    "soft_margin": Reference(
        "classification/soft_margin",
        soft_margin,
        (scores(8), scores(3, 4), scores(5, scale=1e3)),
        mutants=(
            ("-y * score", "y * score"),
            ("softplus", "relu"),
            ("y * score", "y + score"),
            ("mean(per)", "sum(per)"),
            ("softplus(", "2 * softplus("),
        ),
    ),
    "exponential": Reference(
        "classification/exponential",
        exponential,
        (scores(8), scores(3, 4), scores(5, scale=20.0)),
        mutants=(
            ("-y * score", "y * score"),
            ("exp(", "expm1("),
            ("y * score", "y + score"),
            ("mean(per)", "sum(per)"),
            ("exp(", "2 * exp("),
        ),
    ),
    "modified_huber": Reference(
        "classification/modified_huber",
        modified_huber,
        (scores(8), scores(3, 4, scale=4.0), scores(5, scale=1e3)),
        at=(KINK,),
    ),
    "brier": Reference(
        "classification/brier",
        brier,
        (forecasts(6, 4), forecasts(5, 2), forecasts(3, 7)),
        at=(case(prob=np.eye(3), target=np.array([0, 0, 2])),),
    ),
    "spherical_score": Reference(
        "classification/spherical_score",
        spherical_score,
        (forecasts(6, 4), forecasts(5, 2), forecasts(3, 7)),
        mutants=(
            ("1 - prob", "1 + prob"),
            ("1 - prob", "2 - prob"),
            ("norm(prob", "sum(prob"),
            ("mean(per)", "sum(per)"),
            ("c = target", "c = 0"),
        ),
        at=(case(prob=np.eye(3), target=np.array([0, 0, 2])),),
    ),
    "sparsemax": Reference(
        "classification/sparsemax",
        sparsemax,
        (classes(6, 4, scale=0.6), classes(5, 3), classes(3, 9, scale=0.2)),
        at=(TIES, classes(4, 3, scale=50.0)),
    ),
    "poly1": Reference(
        "classification/poly1",
        poly1,
        (classes(6, 4), classes(5, 3, epsilon=-0.5), classes(3, 9, epsilon=5.0)),
        mutants=(
            ("-logp", "logp"),
            ("- epsilon", "+ epsilon"),
            ("expm1(logp)", "exp(logp)"),
            ("mean(per)", "sum(per)"),
            ("log_softmax(logits over c)", "log_softmax(2 * logits over c)"),
        ),
        at=(HUGE,),
    ),
}
