"""References of smoothed and clipped losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Reference, case, full, labels, normal, signs, simplex, uniform


def label_smoothing(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, smoothing: float = 0.1
) -> torch.Tensor:
    return F.cross_entropy(logits, target, weight=weight, label_smoothing=smoothing)


def smoothed_hinge(score: torch.Tensor, y: torch.Tensor, gamma: float = 1.0) -> torch.Tensor:
    """A Huber loss of what is missing to the margin, divided by its threshold."""
    missing = torch.relu(1 - y * score)
    return F.huber_loss(missing, torch.zeros_like(missing), delta=gamma) / gamma


def clipped_gradient(pred: torch.Tensor, target: torch.Tensor, limit: float = 1.0) -> torch.Tensor:
    """The squared error, its gradient clipped on its way."""
    passed = pred.clone()
    if passed.requires_grad:
        passed.register_hook(lambda g: g.clamp(-limit, limit))
    return F.mse_loss(passed, target, reduction="sum") / 2


def clipped_value(pred: torch.Tensor, target: torch.Tensor, width: float = 1.0) -> torch.Tensor:
    return torch.clamp((pred - target).square(), max=width**2).mean()


def confidence_penalty(logits: torch.Tensor, target: torch.Tensor, beta: float = 0.1) -> torch.Tensor:
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    return F.cross_entropy(logits, target) - beta * entropy.mean()


def mixup_ce(logits: torch.Tensor, a: torch.Tensor, b: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    first, second = (F.cross_entropy(logits, y, reduction="none") for y in (a, b))
    return (share * first + (1 - share) * second).mean()


def soft(n: int, c: int, scale: float = 2.0, weights: bool = True, **p: Any) -> Case:
    weight: dict[str, Any] = {"weight": uniform(0.2, 2, c)} if weights else {}
    return case(logits=normal(n, c, scale=scale), target=simplex(n, c), parameters=p, **weight)


def scores(*shape: int, scale: float = 2.0, **p: Any) -> Case:
    return case(score=normal(*shape, scale=scale), y=signs(*shape), parameters=p)


def pair(*shape: int, scale: float = 1.5, **p: Any) -> Case:
    return case(pred=normal(*shape, scale=scale), target=normal(*shape), parameters=p)


def classes(n: int, c: int, scale: float = 2.0, **p: Any) -> Case:
    return case(logits=normal(n, c, scale=scale), target=labels(c, n), parameters=p)


def mixed(n: int, c: int, scale: float = 2.0) -> Case:
    return case(logits=normal(n, c, scale=scale), a=labels(c, n), b=labels(c, n), share=uniform(0, 1, n))


def kinks(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
    return {"score": np.array([1.0, -1.0, 0.5]), "y": np.array([1, -1, 1])}, {"gamma": 0.5}


REFERENCES = {
    "label_smoothing": Reference(
        "smoothing/label_smoothing",
        label_smoothing,
        (soft(6, 4), soft(5, 3, smoothing=0.6), soft(3, 5, weights=False, smoothing=0.0)),
        wrt=("logits",),
        at=(soft(3, 3, scale=1e3),),
    ),
    "smoothed_hinge": Reference(
        "smoothing/smoothed_hinge",
        smoothed_hinge,
        (scores(12), scores(3, 4, gamma=0.3), scores(9, gamma=2.5)),
        at=(kinks, scores(4, scale=1e8)),
    ),
    "clipped_gradient": Reference(
        "smoothing/clipped_gradient",
        clipped_gradient,
        (pair(12), pair(3, 4, limit=2.0), pair(9, limit=0.3)),
        at=(pair(4, scale=1e8), case(pred=full(1.0, 2), target=full(0.0, 2))),
    ),
    "clipped_value": Reference(
        "smoothing/clipped_value",
        clipped_value,
        (pair(12), pair(3, 4, width=2.0), pair(9, width=0.6)),
        at=(pair(4, scale=1e8), case(pred=full(1.0, 2), target=full(0.0, 2))),
    ),
    "confidence_penalty": Reference(
        "smoothing/confidence_penalty",
        confidence_penalty,
        (classes(6, 4), classes(5, 3, beta=2.0), classes(4, 5, beta=0.0)),
        at=(classes(4, 3, scale=1e3),),
    ),
    "mixup_ce": Reference(
        "smoothing/mixup_ce",
        mixup_ce,
        (mixed(6, 4), mixed(5, 3), mixed(4, 5)),
        wrt=("logits",),
        at=(mixed(4, 3, scale=1e3),),
    ),
}
