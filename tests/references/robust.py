"""References of robust losses: bounded and heavy-tailed losses of residuals, and losses for noisy labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Reference, case, full, labels, normal, signs, simplex


def likelihood(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The probability of each label, from exponentials."""
    e = torch.exp(logits - logits.max(1, keepdim=True).values.detach())
    return torch.stack([row[t] / row.sum() for row, t in zip(e, target.tolist())])


def generalised_ce(logits: torch.Tensor, target: torch.Tensor, q: float = 0.7) -> torch.Tensor:
    return ((1 - likelihood(logits, target).pow(q)) / q).mean()


def symmetric_ce(
    logits: torch.Tensor, target: torch.Tensor, alpha: float = 0.1, beta: float = 1.0, A: float = -4.0
) -> torch.Tensor:
    """With the reverse term written out: the logarithm of the one-hot label is A off the label, and 0 on it."""
    p = F.softmax(logits, 1)
    log_label = A * (1 - F.one_hot(target, logits.shape[1]).double())
    return alpha * F.cross_entropy(logits, target) - beta * (p * log_label).sum(1).mean()


def bootstrapping_soft(
    logits: torch.Tensor, target: torch.Tensor, beta: float = 0.95, detach: bool = False
) -> torch.Tensor:
    p = F.softmax(logits, 1)
    label = beta * F.one_hot(target, logits.shape[1]).double() + (1 - beta) * (p.detach() if detach else p)
    return -(label * F.log_softmax(logits, 1)).sum(1).mean()


def bootstrapping_hard(logits: torch.Tensor, target: torch.Tensor, beta: float = 0.8) -> torch.Tensor:
    return beta * F.cross_entropy(logits, target) + (1 - beta) * F.cross_entropy(logits, logits.argmax(1))


def welsch(pred: torch.Tensor, target: torch.Tensor, c: float = 1.0) -> torch.Tensor:
    return (1 - torch.exp(-0.5 * ((pred - target) / c).square())).mean()


def geman_mcclure(pred: torch.Tensor, target: torch.Tensor, c: float = 1.0) -> torch.Tensor:
    s = ((pred - target) / c).square()
    return (2 * s / (s + 4)).mean()


def tukey(pred: torch.Tensor, target: torch.Tensor, c: float = 4.685) -> torch.Tensor:
    inside = torch.relu(1 - ((pred - target) / c).square())
    return c**2 / 6 * (1 - inside**3).mean()


def barron(pred: torch.Tensor, target: torch.Tensor, alpha: float = 1.0, c: float = 1.0) -> torch.Tensor:
    s = ((pred - target) / c).square()
    if alpha in (0, 2):
        return (torch.log1p(s / 2) if alpha == 0 else s / 2).mean()
    b = abs(alpha - 2)
    return (b / alpha * ((s / b + 1).pow(alpha / 2) - 1)).mean()


def t_logistic(score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Minus the logarithm of exp_t(u - G), t = 3/2, with the root of the equation of G that keeps both terms valid.

    exp_t(x) = (1 - x / 2)^-2; with a = 1 + G / 2 the two probabilities are (a -+ s / 4)^-2 and sum to 1.
    """
    total = score.sum() * 0
    for s, label in zip(score.flatten(), y.flatten().tolist()):
        b = float(s.detach()) / 4
        low, high = max(1.0, abs(b)), abs(b) + 2.0
        for _ in range(200):
            a = (low + high) / 2
            with_a = (a - b) ** -2 + (a + b) ** -2 if a > abs(b) else math.inf
            low, high = (a, high) if with_a > 1 else (low, a)
        root = torch.tensor((low + high) / 2, dtype=torch.float64)
        # two steps of Newton's method from the root, so that autograd knows how it moves with the score
        for _ in range(2):
            x = s / 4
            f = (root - x) ** -2 + (root + x) ** -2 - 1
            slope = -2 * ((root - x) ** -3 + (root + x) ** -3)
            root = root - f / slope
        total = total + 2 * torch.log(root - label * s / 4)
    return total / score.numel()


def mae_classification(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (F.softmax(logits, 1) - F.one_hot(target, logits.shape[1])).abs().sum(1).mean()


def normalized_ce(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    every = [F.cross_entropy(logits, torch.full_like(target, k), reduction="none") for k in range(logits.shape[1])]
    return (F.cross_entropy(logits, target, reduction="none") / torch.stack(every).sum(0)).mean()


def forward_correction(logits: torch.Tensor, target: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    return F.nll_loss(torch.log(F.softmax(logits, 1) @ noise), target)


def savage(score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (1 / (1 + torch.exp(2 * y * score)) ** 2).mean()


def bi_tempered(
    logits: torch.Tensor, target: torch.Tensor, t1: float = 0.8, t2: float = 1.4, iterations: int = 5
) -> torch.Tensor:
    def log_t(x: torch.Tensor, t: float) -> torch.Tensor:
        return (x ** (1 - t) - 1) / (1 - t)

    def exp_t(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(1 + (1 - t2) * x) ** (1 / (1 - t2))

    total = logits.sum() * 0
    for row, y in zip(logits, target):
        top = row[row.argmax()]
        base = row - top
        a = base
        for _ in range(iterations):
            a = base * exp_t(a).sum() ** (1 - t2)
        p = exp_t(row - (top - log_t(1 / exp_t(a).sum(), t2)))
        distance = y * (log_t(y + 1e-10, t1) - log_t(p, t1)) - (y ** (2 - t1) - p ** (2 - t1)) / (2 - t1)
        total = total + distance.sum()
    return total / len(logits)


def pair(*shape: int, scale: float = 2.0, **p: Any) -> Case:
    return case(pred=normal(*shape, scale=scale), target=normal(*shape), parameters=p)


def equal(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
    return dict.fromkeys(("pred", "target"), rng.normal(size=5)), {}


def classes(n: int, c: int, scale: float = 2.0, **p: Any) -> Case:
    return case(logits=normal(n, c, scale=scale), target=labels(c, n), parameters=p)


def scores(*shape: int, scale: float = 2.0) -> Case:
    return case(score=normal(*shape, scale=scale), y=signs(*shape))


def noisy(n: int, c: int, scale: float = 2.0) -> Case:
    return case(logits=normal(n, c, scale=scale), target=labels(c, n), noise=simplex(c, c))


def soft(n: int, c: int, scale: float = 1.0, **p: Any) -> Case:
    return case(logits=normal(n, c, scale=scale), target=simplex(n, c), parameters=p)


def onehot(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
    return {"logits": rng.normal(size=(3, 3)), "target": np.eye(3)}, {}


HUGE = classes(4, 3, scale=1e3)
FAR = pair(5, scale=1e8)
TIES = case(logits=full(0.0, 2, 3), target=labels(3, 2))

REFERENCES = {
    "generalised_ce": Reference(
        "robust/generalised_ce",
        generalised_ce,
        (classes(6, 4), classes(5, 3, q=0.2), classes(4, 5, q=1.0)),
        mutants=(
            ("-expm1", "expm1"),
            ("expm1(q", "exp(q"),
            ("q * logp", "logp"),
            ("/ q", "* q"),
            ("mean(per)", "sum(per)"),
        ),
        at=(HUGE,),
    ),
    "symmetric_ce": Reference(
        "robust/symmetric_ce",
        symmetric_ce,
        (classes(6, 4), classes(5, 3, alpha=1.5, beta=0.4, A=-9.0), classes(4, 5, alpha=0.0)),
        at=(HUGE,),
    ),
    "bootstrapping_soft": Reference(
        "robust/bootstrapping_soft",
        bootstrapping_soft,
        (classes(6, 4), classes(5, 3, beta=0.3), classes(4, 5, beta=0.6, detach=True)),
        at=(HUGE, classes(3, 3, beta=1.0)),
    ),
    "bootstrapping_hard": Reference(
        "robust/bootstrapping_hard",
        bootstrapping_hard,
        (classes(6, 4), classes(5, 3, beta=0.3), classes(4, 5, beta=0.0)),
        at=(HUGE, TIES),
    ),
    "welsch": Reference("robust/welsch", welsch, (pair(8), pair(3, 4, c=2.5), pair(5, c=0.7)), at=(equal, FAR)),
    "geman_mcclure": Reference(
        "robust/geman_mcclure", geman_mcclure, (pair(8), pair(3, 4, c=2.5), pair(5, c=0.7)), at=(equal, FAR)
    ),
    "tukey": Reference(
        "robust/tukey",
        tukey,
        (pair(8), pair(3, 4, c=2.5), pair(9, c=1.5)),
        at=(equal, FAR, case(pred=full(2.0, 2), target=full(0.0, 2), parameters={"c": 2.0})),
    ),
    "barron": Reference(
        "robust/barron",
        barron,
        (
            pair(8, alpha=1.5, c=0.7),
            pair(3, 4, alpha=-2.0, c=2.0),
            pair(5, alpha=2.0),
            pair(6, alpha=0.0, c=3.0),
            pair(4, alpha=3.0),
            pair(4),
        ),
        at=(equal, FAR),
    ),
    "t_logistic": Reference(
        "robust/t_logistic",
        t_logistic,
        (scores(8), scores(3, 4, scale=6.0), scores(5, scale=0.5)),
        at=(case(score=full(0.0, 2), y=signs(2)),),
    ),
    "mae_classification": Reference(
        "robust/mae_classification",
        mae_classification,
        (classes(6, 4), classes(5, 3), classes(4, 2)),
        mutants=(
            ("2 - 2", "2 + 2"),
            ("2 * softmax", "softmax"),
            ("softmax(logits over c)", "softmax(2 * logits over c)"),
            ("c = target", "c = 0"),
            ("mean(per)", "sum(per)"),
        ),
        at=(HUGE,),
    ),
    "normalized_ce": Reference(
        "robust/normalized_ce",
        normalized_ce,
        (classes(6, 4), classes(5, 3), classes(4, 2)),
        mutants=(
            ("] / sum", "] * sum"),
            ("/ sum(logp", "/ mean(logp"),
            ("log_softmax(logits over c)", "log_softmax(2 * logits over c)"),
            ("c = target", "c = 0"),
            ("mean(per)", "sum(per)"),
        ),
        at=(TIES, HUGE),
    ),
    "forward_correction": Reference(
        "robust/forward_correction",
        forward_correction,
        (noisy(6, 4), noisy(5, 3), noisy(4, 2, scale=5.0)),
        wrt=("logits",),
        at=(case(logits=normal(4, 3), target=labels(3, 4), noise=np.eye(3)),),
    ),
    "savage": Reference(
        "robust/savage",
        savage,
        (scores(8), scores(3, 4, scale=1.0), scores(5, scale=50.0)),
        mutants=(
            ("-2 * y", "2 * y"),
            ("-2 * y", "-3 * y"),
            (")^2", ")^3"),
            ("sigmoid(", "tanh("),
            ("mean(per)", "sum(per)"),
        ),
    ),
    "bi_tempered": Reference(
        "robust/bi_tempered",
        bi_tempered,
        (soft(5, 4), soft(4, 3, t1=0.3, t2=2.0), soft(3, 5, scale=4.0, t1=0.6, t2=1.2, iterations=2)),
        wrt=("logits",),
        at=(onehot, soft(3, 3, scale=100.0)),
    ),
}
