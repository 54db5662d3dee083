"""References of losses for robustness against attacks: divergences and margins, sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Case, Reference, case, full, labels, normal


def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p, q) of two rows of logits, for each sample."""
    return F.kl_div(F.log_softmax(q, 1), F.log_softmax(p, 1), reduction="none", log_target=True).sum(1)


def trades(clean: torch.Tensor, attacked: torch.Tensor, target: torch.Tensor, beta: float = 6.0) -> torch.Tensor:
    return F.cross_entropy(clean, target) + beta * divergence(clean, attacked).mean()


def mart(clean: torch.Tensor, attacked: torch.Tensor, target: torch.Tensor, beta: float = 6.0) -> torch.Tensor:
    """As the authors' code."""
    q, p = F.softmax(attacked, 1), F.softmax(clean, 1)
    order = torch.argsort(q, dim=1)[:, -2:]
    rival = torch.where(order[:, -1] == target, order[:, -2], order[:, -1])
    rows = torch.arange(len(q))
    boosted = F.cross_entropy(attacked, target) + F.nll_loss(torch.log(1.0001 - q + 1e-12), rival)
    kl = F.kl_div(torch.log(q + 1e-12), p, reduction="none").sum(1)
    return boosted + beta * (kl * (1.0000001 - p[rows, target])).mean()


def rivals(row: torch.Tensor, t: int) -> torch.Tensor:
    return torch.cat([row[:t], row[t + 1 :]])


def cw_margin(logits: torch.Tensor, target: torch.Tensor, kappa: float = 0.0) -> torch.Tensor:
    terms = [(row[t] - rivals(row, t).max()).clamp(min=-kappa) for row, t in zip(logits, target.tolist())]
    return torch.stack(terms).mean()


def adversarial_logit_pairing(
    clean: torch.Tensor, attacked: torch.Tensor, target: torch.Tensor, weight: float = 0.5
) -> torch.Tensor:
    return F.cross_entropy(attacked, target) + weight * F.mse_loss(clean, attacked)


def vat(clean: torch.Tensor, attacked: torch.Tensor) -> torch.Tensor:
    return F.kl_div(F.log_softmax(attacked, 1), F.softmax(clean.detach(), 1), reduction="batchmean")


def dlr(logits: torch.Tensor, target: torch.Tensor, eps: float = 1e-12) -> torch.Tensor:
    total = logits.sum() * 0
    for row, t in zip(logits, target.tolist()):
        top = row.topk(3).values
        total = total - (row[t] - rivals(row, t).max()) / (top[0] - top[2] + eps)
    return total / len(logits)


def twins(n: int, c: int, scale: float = 2.0, **p: Any) -> Case:
    return case(clean=normal(n, c, scale=scale), attacked=normal(n, c, scale=scale), target=labels(c, n), parameters=p)


def views(n: int, c: int, scale: float = 2.0) -> Case:
    return case(clean=normal(n, c, scale=scale), attacked=normal(n, c, scale=scale))


def classes(n: int, c: int, scale: float = 2.0, **p: Any) -> Case:
    return case(logits=normal(n, c, scale=scale), target=labels(c, n), parameters=p)


HUGE = twins(4, 3, scale=1e3)

REFERENCES = {
    "trades": Reference("adversarial/trades", trades, (twins(6, 4), twins(5, 3, beta=0.5), twins(4, 2)), at=(HUGE,)),
    "mart": Reference(
        "adversarial/mart", mart, (twins(6, 4), twins(5, 3, beta=0.5), twins(4, 2)), at=(twins(4, 3, 20.0),)
    ),
    "cw_margin": Reference(
        "adversarial/cw_margin",
        cw_margin,
        (classes(8, 4), classes(6, 3, kappa=1.5), classes(7, 2, kappa=0.5)),
        at=(case(logits=full(0.0, 2, 3), target=labels(3, 2)), classes(3, 3, scale=1e8)),
    ),
    "adversarial_logit_pairing": Reference(
        "adversarial/adversarial_logit_pairing",
        adversarial_logit_pairing,
        (twins(6, 4), twins(5, 3, weight=2.0), twins(4, 2)),
        wrt=("clean", "attacked"),
        at=(HUGE,),
    ),
    "vat": Reference("adversarial/vat", vat, (views(6, 4), views(5, 3), views(4, 2)), at=(views(3, 3, scale=1e3),)),
    "dlr": Reference(
        "adversarial/dlr",
        dlr,
        (classes(8, 4), classes(6, 3, eps=0.5), classes(7, 9)),
        at=(case(logits=full(0.0, 2, 3), target=labels(3, 2)), case(logits=np.array([[2.0, 2.0, 1.0]]), target=[0])),
    ),
}
