"""References of regression losses: torch's functions, and the papers' formulas entry by entry."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from references.record import Case, Reference, case, full, normal, signs, uniform


def smooth_l1(pred: torch.Tensor, target: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
    return F.smooth_l1_loss(pred, target, beta=beta) if pred.numel() else pred.sum()


def poisson(
    pred: torch.Tensor, target: torch.Tensor, log_input: bool = True, full: bool = False, eps: float = 1e-8
) -> torch.Tensor:
    return F.poisson_nll_loss(pred, target, log_input=log_input, full=full, eps=eps)


def cosine(a: torch.Tensor, b: torch.Tensor, y: torch.Tensor, margin: float = 0.0, eps: float = 1e-12) -> torch.Tensor:
    if eps == 1e-12:
        return F.cosine_embedding_loss(a, b, y, margin=margin)
    total = a.sum() * 0
    for u, v, label in zip(a, b, y.tolist()):
        c = torch.dot(u, v) / ((torch.dot(u, u) + eps).sqrt() * (torch.dot(v, v) + eps).sqrt())
        total = total + (1 - c if label == 1 else torch.clamp(c - margin, min=0))
    return total / len(a)


def expectile(pred: torch.Tensor, target: torch.Tensor, tau: float = 0.5) -> torch.Tensor:
    above, below = torch.relu(target - pred), torch.relu(pred - target)
    return (tau * above.square() + (1 - tau) * below.square()).mean()


def epsilon_insensitive(
    pred: torch.Tensor, target: torch.Tensor, eps: float = 0.1, squared: bool = False
) -> torch.Tensor:
    outside = torch.relu(pred - target - eps) + torch.relu(target - pred - eps)
    return outside.pow(2 if squared else 1).mean()


def pseudo_huber(pred: torch.Tensor, target: torch.Tensor, delta: float = 1.0) -> torch.Tensor:
    r = (pred - target) / delta
    return delta**2 * torch.expm1(torch.log1p(r.square()) / 2).mean()


def msle(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.mse_loss((1 + pred).log(), (1 + target).log())


def pair(*shape: int, scale: float = 2.0, **p: Any) -> Case:
    return case(pred=normal(*shape, scale=scale), target=normal(*shape), parameters=p)


def equal(*shape: int) -> Case:
    return lambda rng: (dict.fromkeys(("pred", "target"), rng.normal(size=shape)), {})


def counts(*shape: int, rate: float = 3.0) -> Any:
    return lambda rng: rng.poisson(rate, size=shape).astype(float)


def vectors(n: int, d: int, **p: Any) -> Case:
    return case(a=normal(n, d), b=normal(n, d), y=signs(n), parameters=p)


HUGE = pair(6, scale=1e8)

REFERENCES = {
    "smooth_l1": Reference(
        "regression/smooth_l1",
        smooth_l1,
        (pair(8), pair(3, 4, beta=0.4), pair(2, 2, 3, beta=3.0)),
        at=(equal(5), HUGE, pair(0), case(pred=full(1.0, 3), target=full(0.0, 3))),
    ),
    "poisson": Reference(
        "regression/poisson",
        poisson,
        (
            case(pred=normal(8), target=counts(8), parameters={"full": True}),
            case(pred=uniform(0.1, 4, 3, 4), target=counts(3, 4), parameters={"log_input": False, "eps": 0.01}),
            case(pred=normal(5), target=counts(5, rate=1)),
        ),
        wrt=("pred",),
        at=(
            case(pred=full(0.0, 4), target=counts(4), parameters={"log_input": False}),
            case(pred=normal(4), target=full(1.0, 4), parameters={"full": True}),
            case(pred=normal(4), target=full(0.0, 4), parameters={"full": True}),
        ),
    ),
    "cosine": Reference(
        "regression/cosine",
        cosine,
        (vectors(8, 3), vectors(7, 2, margin=-0.4), vectors(5, 4, margin=0.3, eps=0.1)),
        at=(
            case(a=full(0.0, 3, 2), b=normal(3, 2), y=signs(3), parameters={"margin": -0.5}),
            case(a=normal(4, 2, scale=1e8), b=normal(4, 2, scale=1e8), y=signs(4)),
        ),
    ),
    "expectile": Reference(
        "regression/expectile", expectile, (pair(8), pair(3, 4, tau=0.8), pair(6, tau=0.1)), at=(equal(4), HUGE)
    ),
    "epsilon_insensitive": Reference(
        "regression/epsilon_insensitive",
        epsilon_insensitive,
        (pair(8), pair(3, 4, eps=0.7), pair(9, eps=0.3, squared=True)),
        at=(equal(4), HUGE, case(pred=full(0.25, 2), target=full(0.0, 2), parameters={"eps": 0.25})),
    ),
    "pseudo_huber": Reference(
        "regression/pseudo_huber",
        pseudo_huber,
        (pair(8), pair(3, 4, delta=0.3), pair(5, delta=4.0)),
        at=(equal(4), HUGE, pair(3, scale=1e-6)),
    ),
    "msle": Reference(
        "regression/msle",
        msle,
        (
            case(pred=uniform(0, 5, 8), target=uniform(0, 5, 8)),
            case(pred=uniform(0, 1, 3, 4), target=uniform(0, 9, 3, 4)),
            case(pred=uniform(0, 1e6, 4), target=uniform(0, 9, 4)),
        ),
        mutants=(
            ("log1p(pred) -", "log1p(pred) +"),
            (")^2", ")^3"),
            ("log1p(pred)", "log1p(2 * pred)"),
            ("log1p(target)", "log(2 + target)"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(pred=full(0.0, 3), target=full(0.0, 3)),),
    ),
}
