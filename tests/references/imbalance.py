"""References of losses for unbalanced classes: torch's cross-entropy on shifted logits, and counts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Case, Maker, Reference, binary, case, full, labels, normal, simplex, uniform


def class_balanced(
    logits: torch.Tensor, target: torch.Tensor, count: torch.Tensor, beta: float = 0.9999
) -> torch.Tensor:
    weight = (1 - beta) / (1 - beta**count)
    weight = weight / weight.sum() * len(weight)
    return (weight[target] * F.cross_entropy(logits, target, reduction="none")).mean()


def ldam(
    logits: torch.Tensor,
    target: torch.Tensor,
    count: torch.Tensor,
    weight: torch.Tensor | None = None,
    max_margin: float = 0.5,
    scale: float = 30.0,
) -> torch.Tensor:
    margin = 1 / count.sqrt().sqrt()
    margin = margin * (max_margin / margin.max())
    shifted = logits - F.one_hot(target, logits.shape[1]) * margin
    return F.cross_entropy(scale * shifted, target, weight=weight)


def balanced_softmax(logits: torch.Tensor, target: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits + torch.log(count), target)


def logit_adjusted(
    logits: torch.Tensor, target: torch.Tensor, prior: torch.Tensor, tau: float = 1.0, eps: float = 1e-12
) -> torch.Tensor:
    return F.cross_entropy(logits + torch.log((prior + eps) ** tau), target)


def asymmetric(
    logits: torch.Tensor,
    target: torch.Tensor,
    gamma_pos: float = 1.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
    eps: float = 1e-8,
    detach_weight: bool = True,
) -> torch.Tensor:
    """As the authors' code."""
    y = target.double()
    pos = torch.sigmoid(logits)
    neg = (1 - pos + clip).clamp(max=1)
    loss = y * torch.log(pos.clamp(min=eps)) + (1 - y) * torch.log(neg.clamp(min=eps))
    weight = torch.pow(1 - pos * y - neg * (1 - y), gamma_pos * y + gamma_neg * (1 - y))
    return -(loss * (weight.detach() if detach_weight else weight)).sum()


def focal_tversky(
    prob: torch.Tensor,
    target: torch.Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    power: float = 0.75,
    smooth: float = 1e-5,
) -> torch.Tensor:
    p, t = prob.flatten(2), target.flatten(2)
    tp, fp, fn = ((a * b).sum(2) for a, b in ((p, t), (p, 1 - t), (1 - p, t)))
    index = (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)
    return (1 - index).pow(power).mean()


def jaccard_slopes(truth: torch.Tensor) -> torch.Tensor:
    """By the sets: the Jaccard distance after each of the sorted errors, and its differences."""
    total, found, wrong, before, slopes = int(truth.sum()), 0, 0, 0.0, []
    for hit in truth.tolist():
        found, wrong = found + int(hit), wrong + 1 - int(hit)
        now = 1 - (total - found) / (total + wrong)
        slopes.append(now - before)
        before = now
    return torch.tensor(slopes, dtype=torch.float64)


def lovasz(errors: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    order = torch.argsort(errors, descending=True, stable=True)
    return torch.dot(torch.relu(errors[order]), jaccard_slopes(truth[order]))


def lovasz_hinge(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    rows = [lovasz(1 - z * (2.0 * y - 1), y) for z, y in zip(logits, target)]
    return torch.stack(rows).mean()


def lovasz_softmax(prob: torch.Tensor, target: torch.Tensor, all_classes: bool = False) -> torch.Tensor:
    images = []
    for p, y in zip(prob, target):
        present = [k for k in range(len(p)) if all_classes or bool((y == k).any())]
        images.append(torch.stack([lovasz(((y == k).double() - p[k]).abs(), y == k) for k in present]).mean())
    return torch.stack(images).mean()


def focal_multiclass(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, gamma: float = 2.0
) -> torch.Tensor:
    nll = F.cross_entropy(logits, target, weight=weight, reduction="none")
    p = F.softmax(logits, 1).gather(1, target.unsqueeze(1)).squeeze(1)
    return ((1 - p).pow(gamma) * nll).mean()


def generalized_dice(
    prob: torch.Tensor, target: torch.Tensor, smooth_nr: float = 1e-5, smooth_dr: float = 1e-5
) -> torch.Tensor:
    terms = []
    for p, t in zip(prob.flatten(2), target.flatten(2)):
        weight = 1 / t.sum(1).square()
        finite = weight[torch.isfinite(weight)]
        weight = torch.where(torch.isfinite(weight), weight, finite.max() if len(finite) else torch.zeros_like(weight))
        top, bottom = weight @ (p * t).sum(1), weight @ (p.sum(1) + t.sum(1))
        terms.append(1 - (2 * top + smooth_nr) / (bottom + smooth_dr))
    return torch.stack(terms).mean()


def jaccard(prob: torch.Tensor, target: torch.Tensor, smooth: float = 1e-5) -> torch.Tensor:
    """As MONAI, with its denominator."""
    p, t = prob.flatten(2), target.flatten(2)
    both, total = (p * t).sum(2), p.sum(2) + t.sum(2)
    return (1 - (2 * both + smooth) / (2 * (total - both) + smooth)).mean()


def dice_ce(
    logits: torch.Tensor, target: torch.Tensor, dice_weight: float = 1.0, ce_weight: float = 1.0
) -> torch.Tensor:
    p = F.softmax(logits, 1)
    t = torch.movedim(F.one_hot(target, logits.shape[1]), -1, 1)
    rest = tuple(range(2, logits.ndim))
    dice = 1 - (2 * (p * t).sum(rest) + 1e-5) / ((p + t).sum(rest) + 1e-5)
    return dice_weight * dice.mean() + ce_weight * F.cross_entropy(logits, target)


def weighted_bce(
    logits: torch.Tensor, target: torch.Tensor, count_pos: torch.Tensor, count_neg: torch.Tensor
) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, pos_weight=count_neg / count_pos)


def sizes(c: int, most: int = 1000) -> Maker:
    return lambda rng: rng.integers(1, most, size=c).astype(float)


def counted(n: int, c: int, scale: float = 2.0, most: int = 1000, weights: bool = False, **p: Any) -> Case:
    weight: dict[str, Any] = {"weight": uniform(0.2, 2, c)} if weights else {}
    return case(logits=normal(n, c, scale=scale), target=labels(c, n), count=sizes(c, most), parameters=p, **weight)


def heads(n: int, c: int, **p: Any) -> Case:
    return case(
        logits=uniform(-1, 1, n, c), target=labels(c, n), count=sizes(c), weight=uniform(0.2, 2, c), parameters=p
    )


def priors(n: int, c: int, scale: float = 2.0, **p: Any) -> Case:
    return case(logits=normal(n, c, scale=scale), target=labels(c, n), prior=simplex(c), parameters=p)


def multilabel(n: int, c: int, scale: float = 2.0, **p: Any) -> Case:
    return case(logits=normal(n, c, scale=scale), target=binary(n, c), parameters=p)


def masks(*shape: int, **p: Any) -> Case:
    return case(prob=uniform(0, 1, *shape), target=lambda rng: (rng.random(shape) < 0.4).astype(float), parameters=p)


def empty(*shape: int, **p: Any) -> Case:
    return case(prob=full(0.0, *shape), target=full(0.0, *shape), parameters=p)


def pixels(b: int, p: int, scale: float = 2.0, share: float = 0.5) -> Case:
    return case(logits=normal(b, p, scale=scale), target=binary(b, p, p=share))


def regions(b: int, c: int, p: int, present: int, **parameters: Any) -> Case:
    return case(prob=simplex(b, c, p, axis=1), target=labels(present, b, p), parameters=parameters)


def classes(n: int, c: int, *rest: int, scale: float = 2.0, weights: bool = False, **p: Any) -> Case:
    weight: dict[str, Any] = {"weight": uniform(0.2, 2, c)} if weights else {}
    return case(logits=normal(n, c, *rest, scale=scale), target=labels(c, n, *rest), parameters=p, **weight)


LOGITS = ("logits",)
PROB = ("prob",)

REFERENCES = {
    "class_balanced": Reference(
        "imbalance/class_balanced",
        class_balanced,
        (counted(6, 4), counted(5, 3, beta=0.9), counted(4, 5, most=20, beta=0.99)),
        wrt=LOGITS,
        at=(counted(4, 3, scale=1e3), case(logits=normal(3, 2), target=labels(2, 3), count=full(1.0, 2))),
    ),
    "ldam": Reference(
        "imbalance/ldam",
        ldam,
        (counted(6, 4, 0.1), counted(5, 3, 0.3, weights=True, max_margin=1.5), heads(4, 5, scale=4.0)),
        wrt=LOGITS,
        at=(case(logits=normal(3, 2), target=labels(2, 3), count=full(1.0, 2)),),
    ),
    "balanced_softmax": Reference(
        "imbalance/balanced_softmax",
        balanced_softmax,
        (counted(6, 4), counted(5, 3), counted(4, 5, most=10)),
        mutants=(
            ("+ log(count)", "- log(count)"),
            ("+ log(count)", "+ count"),
            ("-log_softmax", "log_softmax"),
            ("mean(per)", "sum(per)"),
            ("c = target", "c = 0"),
        ),
        wrt=LOGITS,
        at=(counted(4, 3, scale=1e3),),
    ),
    "logit_adjusted": Reference(
        "imbalance/logit_adjusted",
        logit_adjusted,
        (priors(6, 4), priors(5, 3, tau=0.4), priors(4, 5, tau=2.0, eps=0.1)),
        wrt=LOGITS,
        at=(priors(4, 3, scale=1e3), case(logits=normal(3, 2), target=labels(2, 3), prior=np.array([1.0, 0.0]))),
    ),
    "asymmetric": Reference(
        "imbalance/asymmetric",
        asymmetric,
        (
            multilabel(5, 4),
            multilabel(6, 3, gamma_pos=2.0, gamma_neg=3.0, clip=0.2, detach_weight=False),
            multilabel(3, 2, gamma_pos=0.0, gamma_neg=2.0, clip=0.0),
        ),
        at=(multilabel(4, 3, scale=1e3),),
    ),
    "focal_tversky": Reference(
        "imbalance/focal_tversky",
        focal_tversky,
        (masks(3, 2, 5), masks(2, 3, 4, 3, alpha=0.6, beta=0.2, power=0.5), masks(2, 1, 8, smooth=1.0, power=1.0)),
        wrt=PROB,
        at=(empty(2, 3, 4),),
    ),
    "lovasz_hinge": Reference(
        "imbalance/lovasz_hinge",
        lovasz_hinge,
        (pixels(3, 7), pixels(2, 12, share=0.2), pixels(4, 3, scale=0.5)),
        at=(pixels(2, 5, share=0.0), pixels(2, 5, share=1.0), case(logits=full(0.0, 2, 4), target=binary(2, 4))),
    ),
    "lovasz_softmax": Reference(
        "imbalance/lovasz_softmax",
        lovasz_softmax,
        (regions(3, 4, 6, 3), regions(2, 3, 9, 3, all_classes=True), regions(2, 2, 5, 1)),
        at=(case(prob=full(0.5, 2, 2, 4), target=labels(2, 2, 4)),),
    ),
    "focal_multiclass": Reference(
        "imbalance/focal_multiclass",
        focal_multiclass,
        (classes(6, 4), classes(3, 3, 5, gamma=0.5, weights=True), classes(2, 3, 2, 2, gamma=3.5)),
        mutants=(
            ("-weight[target]", "weight[target]"),
            ("-expm1(logp)", "expm1(-logp)"),
            ("^gamma", "^(gamma + 1)"),
            ("* logp", "/ logp"),
            ("mean(per)", "sum(per)"),
        ),
        wrt=LOGITS,
        at=(classes(4, 3, scale=1e3), classes(4, 3, gamma=0.0)),
    ),
    "generalized_dice": Reference(
        "imbalance/generalized_dice",
        generalized_dice,
        (masks(3, 2, 5), masks(2, 3, 4, 3, smooth_nr=0.5, smooth_dr=1.0), masks(2, 4, 6, smooth_nr=1.0, smooth_dr=1.0)),
        wrt=PROB,
        at=(
            empty(2, 3, 4),
            case(prob=uniform(0, 1, 2, 3, 4), target=np.repeat(np.eye(3, 4)[None] * [[1], [1], [0]], 2, axis=0)),
        ),
    ),
    "jaccard": Reference(
        "imbalance/jaccard",
        jaccard,
        (masks(3, 2, 5), masks(2, 3, 4, 3, smooth=1.0), masks(2, 1, 8, smooth=0.1)),
        wrt=PROB,
        at=(empty(2, 3, 4),),
    ),
    "dice_ce": Reference(
        "imbalance/dice_ce",
        dice_ce,
        (classes(3, 3, 5), classes(2, 4, 3, 2, dice_weight=0.3, ce_weight=2.0), classes(5, 2, 4, dice_weight=2.0)),
        mutants=(
            ("1 if c == target else 0", "0 if c == target else 1"),
            ("dice_weight * overlap", "dice_weight + overlap"),
            ("+ ce_weight", "- ce_weight"),
            ("softmax(logits over c)", "softmax(2 * logits over c)"),
            ("dice(prob, mask)", "dice(mask, mask)"),
        ),
        at=(classes(3, 3, 4, scale=1e3),),
    ),
    "weighted_bce": Reference(
        "imbalance/weighted_bce",
        weighted_bce,
        tuple(
            case(logits=normal(n, c, scale=s), target=uniform(0, 1, n, c), count_pos=sizes(c), count_neg=sizes(c))
            for n, c, s in ((6, 3, 2.0), (4, 2, 5.0), (3, 5, 1e3))
        ),
        wrt=LOGITS,
    ),
}
