"""References of losses of object detection: boxes one by one, in plain torch."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Maker, Reference, binary, case, normal, uniform


def overlap(a: torch.Tensor, b: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """(intersection over union, union, sides of the enclosing box) of two boxes."""
    zero = torch.zeros((), dtype=a.dtype)
    sides = [torch.maximum(torch.minimum(a[k + 2], b[k + 2]) - torch.maximum(a[k], b[k]), zero) for k in (0, 1)]
    hull = [torch.maximum(a[k + 2], b[k + 2]) - torch.minimum(a[k], b[k]) for k in (0, 1)]
    both = sides[0] * sides[1]
    union = sum(((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)), zero) - both
    return both / (union + eps), union, hull


def iou(box: torch.Tensor, target: torch.Tensor, eps: float = 1e-7, logarithm: bool = False) -> torch.Tensor:
    per = []
    for a, b in zip(box, target):
        value = overlap(a, b, eps)[0]
        per.append(-torch.log(value.clamp(min=eps)) if logarithm else 1 - value)
    return torch.stack(per).mean()


def giou(box: torch.Tensor, target: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    per = []
    for a, b in zip(box, target):
        value, union, (w, h) = overlap(a, b, eps)
        per.append(1 - (value - (w * h - union) / (w * h + eps)))
    return torch.stack(per).mean()


def distance_term(a: torch.Tensor, b: torch.Tensor, hull: list[torch.Tensor], eps: float) -> torch.Tensor:
    centers = [torch.stack([(x[0] + x[2]) / 2, (x[1] + x[3]) / 2]) for x in (a, b)]
    return (centers[0] - centers[1]).square().sum() / (torch.stack(hull).square().sum() + eps)


def diou(box: torch.Tensor, target: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    per = []
    for a, b in zip(box, target):
        value, _, hull = overlap(a, b, eps)
        per.append(1 - value + distance_term(a, b, hull, eps))
    return torch.stack(per).mean()


def ciou(box: torch.Tensor, target: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    per = []
    for a, b in zip(box, target):
        value, _, hull = overlap(a, b, eps)
        turn = torch.atan((b[2] - b[0]) / (b[3] - b[1])) - torch.atan((a[2] - a[0]) / (a[3] - a[1]))
        v = (4 / math.pi**2) * turn.square()
        alpha = (v / (1 - value + v + eps)).detach()
        per.append(1 - value + distance_term(a, b, hull, eps) + alpha * v)
    return torch.stack(per).mean()


def quality_focal(logits: torch.Tensor, target: torch.Tensor, beta: float = 2.0) -> torch.Tensor:
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((target - logits.sigmoid()).abs().pow(beta) * bce).mean()


def varifocal(logits: torch.Tensor, target: torch.Tensor, alpha: float = 0.75, gamma: float = 2.0) -> torch.Tensor:
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    found = (target > 0).double()
    weight = target * found + alpha * logits.sigmoid().pow(gamma) * (1 - found)
    return (weight * bce).mean()


def distribution_focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    left = target.detach().floor().long().clamp(max=logits.shape[1] - 2)
    near = F.cross_entropy(logits, left, reduction="none") * ((left + 1).double() - target)
    far = F.cross_entropy(logits, left + 1, reduction="none") * (target - left.double())
    return (near + far).mean()


def boxes(n: int, size: float = 3.0, spread: float = 2.0, **p: float) -> Case:
    def make(rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
        def some() -> np.ndarray:
            low = spread * rng.random((n, 2))
            return np.concatenate([low, low + 0.2 + size * rng.random((n, 2))], 1)

        return {"box": some(), "target": some()}, p

    return make


def rows(*values: tuple[float, float, float, float]) -> Maker:
    return lambda rng: np.asarray(values, dtype=np.float64)


TOUCHING = case(
    box=rows((0, 0, 1, 1), (0, 0, 2, 2), (0, 0, 1, 1)), target=rows((1, 0, 2, 1), (0, 0, 2, 2), (5, 5, 6, 7))
)
APART = boxes(4, size=0.5, spread=20.0)

REFERENCES = {
    "iou": Reference(
        "detection/iou",
        iou,
        (boxes(6), boxes(3, size=1.0, eps=0.1), boxes(4, spread=0.5, logarithm=True)),
        at=(TOUCHING, APART, boxes(4, size=0.5, spread=20.0, logarithm=True)),
    ),
    "giou": Reference("detection/giou", giou, (boxes(6), boxes(3, size=1.0, eps=0.1), APART), at=(TOUCHING,)),
    "diou": Reference("detection/diou", diou, (boxes(6), boxes(3, size=1.0, eps=0.1), APART), at=(TOUCHING,)),
    "ciou": Reference("detection/ciou", ciou, (boxes(6), boxes(3, size=1.0, eps=0.1), APART), at=(TOUCHING,)),
    "quality_focal": Reference(
        "detection/quality_focal",
        quality_focal,
        (
            case(logits=normal(7, scale=2), target=uniform(0, 1, 7)),
            case(logits=normal(3, 4), target=uniform(0, 1, 3, 4), parameters={"beta": 1.5}),
            case(logits=normal(2, 3, 2, scale=3), target=uniform(0, 1, 2, 3, 2), parameters={"beta": 3.0}),
        ),
        at=(
            case(logits=normal(6, scale=1e3), target=lambda rng: binary(6)(rng).astype(float)),
            case(logits=np.zeros(3), target=np.full(3, 0.5)),
        ),
    ),
    "varifocal": Reference(
        "detection/varifocal",
        varifocal,
        (
            case(logits=normal(9, scale=2), target=lambda rng: binary(9)(rng) * rng.random(9)),
            case(
                logits=normal(4, 5),
                target=lambda rng: binary(4, 5)(rng) * rng.random((4, 5)),
                parameters={"alpha": 0.3, "gamma": 1.5},
            ),
            case(logits=normal(5), target=np.zeros(5), parameters={"alpha": 1.0, "gamma": 3.0}),
        ),
        at=(case(logits=normal(6, scale=1e3), target=lambda rng: binary(6)(rng).astype(float)),),
    ),
    "distribution_focal": Reference(
        "detection/distribution_focal",
        distribution_focal,
        (
            case(logits=normal(6, 5, scale=2), target=uniform(0, 4, 6)),
            case(logits=normal(3, 2), target=uniform(0, 1, 3)),
            case(logits=normal(8, 9), target=uniform(0, 8, 8)),
        ),
        wrt=("logits", "target"),
        at=(
            case(logits=normal(3, 4), target=np.array([0.0, 2.0, 3.0])),
            case(logits=normal(3, 4, scale=1e3), target=uniform(0, 3, 3)),
        ),
    ),
}
