"""References of losses that change over training: plain torch at a given step."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Case, Reference, binary, case, full, normal, uniform


def ramp(step: torch.Tensor, low: float, high: float, steps: int) -> float:
    return float(np.interp(float(step), [0, steps], [low, high]))


def self_paced(
    task: torch.Tensor, step: torch.Tensor, low: float = 0.5, high: float = 5.0, steps: int = 10000
) -> torch.Tensor:
    return task[task < ramp(step, low, high, steps)].sum() / len(task)


def focal_annealed(
    logits: torch.Tensor,
    target: torch.Tensor,
    step: torch.Tensor,
    low: float = 0.0,
    high: float = 2.0,
    steps: int = 10000,
    alpha: float = 0.25,
) -> torch.Tensor:
    p = torch.sigmoid(logits)
    right = torch.where(target == 1, p, 1 - p)
    weight = torch.where(target == 1, alpha * torch.ones_like(p), (1 - alpha) * torch.ones_like(p))
    return -(weight * (1 - right) ** ramp(step, low, high, steps) * torch.log(right)).mean()


def kl_annealing(
    logits: torch.Tensor,
    target: torch.Tensor,
    mu: torch.Tensor,
    log_var: torch.Tensor,
    step: torch.Tensor,
    steps: int = 10000,
    period: int = 0,
) -> torch.Tensor:
    weight = ramp(step % period if period else step, 0, 1, steps)
    code = torch.distributions.Normal(mu, torch.exp(log_var / 2))
    divergence = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0)).sum()
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return (bce + weight * divergence) / len(logits)


def temperature_schedule(
    q: torch.Tensor, k: torch.Tensor, step: torch.Tensor, low: float = 0.1, high: float = 1.0, period: int = 10000
) -> torch.Tensor:
    temperature = low + (high - low) * math.cos(math.pi * float(step) / period) ** 2
    sim = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T
    return F.cross_entropy(sim / temperature, torch.arange(len(q)))


def consistency_ramp_up(
    logits: torch.Tensor, teacher: torch.Tensor, step: torch.Tensor, weight: float = 1.0, steps: int = 10000
) -> torch.Tensor:
    factor = weight * math.exp(-5 * (1 - min(1.0, float(step) / steps)) ** 2)
    return factor * F.mse_loss(logits.softmax(1), teacher.detach().softmax(1), reduction="sum") / len(logits)


def curriculum_pacing(
    task: torch.Tensor, difficulty: torch.Tensor, step: torch.Tensor, low: float = 0.2, steps: int = 10000
) -> torch.Tensor:
    chosen = task[difficulty <= ramp(step, low, 1, steps)]
    return chosen.mean() if len(chosen) else task.sum() * 0


def superloss(task: torch.Tensor, tau: float = 0.0, lam: float = 1.0) -> torch.Tensor:
    """Lambert's W of the losses by bisection of w exp(w), its branch point taken exactly."""
    total = task.sum() * 0
    for x in task.flatten():
        half = (float(x.detach()) - tau) / lam / 2
        low, high = -1.0, 1.0 + math.log1p(max(half, 0))
        for _ in range(200 if half > -1 / math.e else 0):
            middle = (low + high) / 2
            low, high = (middle, high) if middle * math.exp(middle) < half else (low, middle)
        total = total + (x - tau) * math.exp(-low) + lam * low**2
    return total / task.numel()


def code(n: int, x: int, z: int, step: int, **p: int) -> Case:
    return case(
        logits=normal(n, x),
        target=uniform(0, 1, n, x),
        mu=normal(n, z),
        log_var=normal(n, z),
        step=np.asarray(step),
        parameters=p,
    )


REFERENCES = {
    "self_paced": Reference(
        "adaptive/self_paced",
        self_paced,
        (
            case(task=uniform(0, 4, 8), step=np.asarray(5000)),
            case(task=uniform(0, 4, 6), step=np.asarray(3), parameters={"steps": 10, "low": 1.0, "high": 3.0}),
            case(task=uniform(0, 9, 7), step=np.asarray(99), parameters={"steps": 10}),
        ),
        mutants=(
            ("task < linear", "task > linear"),
            ("low, high, steps", "high, low, steps"),
            ("else 0", "else 1"),
            ("step, low", "step + 2500, low"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(task=uniform(1, 4, 5), step=np.asarray(0)),),
    ),
    "focal_annealed": Reference(
        "adaptive/focal_annealed",
        focal_annealed,
        (
            case(logits=normal(7), target=binary(7), step=np.asarray(2500)),
            case(
                logits=normal(3, 4),
                target=binary(3, 4),
                step=np.asarray(7),
                parameters={"steps": 10, "low": 3.0, "high": 1.0, "alpha": 0.6},
            ),
            case(logits=normal(5), target=binary(5), step=np.asarray(99), parameters={"steps": 10}),
        ),
        at=(case(logits=normal(5), target=binary(5), step=np.asarray(0)),),
    ),
    "kl_annealing": Reference(
        "adaptive/kl_annealing",
        kl_annealing,
        (code(4, 3, 2, step=2500), code(3, 5, 1, step=27, steps=5, period=12), code(2, 2, 4, step=50, steps=10)),
        wrt=("logits", "mu", "log_var"),
        at=(code(3, 2, 2, step=0),),
    ),
    "temperature_schedule": Reference(
        "adaptive/temperature_schedule",
        temperature_schedule,
        (
            case(q=normal(5, 3), k=normal(5, 3), step=np.asarray(1700)),
            case(
                q=normal(4, 2), k=normal(4, 2), step=np.asarray(33), parameters={"period": 20, "low": 0.3, "high": 0.7}
            ),
            case(q=normal(3, 6), k=normal(3, 6), step=np.asarray(5), parameters={"period": 10}),
        ),
        at=(case(q=normal(3, 6), k=normal(3, 6), step=np.asarray(0)),),
    ),
    "consistency_ramp_up": Reference(
        "adaptive/consistency_ramp_up",
        consistency_ramp_up,
        (
            case(logits=normal(4, 3), teacher=normal(4, 3), step=np.asarray(4000)),
            case(
                logits=normal(3, 5), teacher=normal(3, 5), step=np.asarray(7), parameters={"steps": 10, "weight": 3.0}
            ),
            case(logits=normal(2, 2), teacher=normal(2, 2), step=np.asarray(50), parameters={"steps": 10}),
        ),
        at=(case(logits=normal(2, 2), teacher=normal(2, 2), step=np.asarray(0)),),
    ),
    "curriculum_pacing": Reference(
        "adaptive/curriculum_pacing",
        curriculum_pacing,
        (
            case(task=normal(8), difficulty=uniform(0, 1, 8), step=np.asarray(5000)),
            case(task=normal(9), difficulty=uniform(0, 1, 9), step=np.asarray(3), parameters={"steps": 10, "low": 0.4}),
            case(task=normal(6), difficulty=uniform(0, 1, 6), step=np.asarray(99), parameters={"steps": 10}),
        ),
        wrt=("task",),
        mutants=(
            ("<= linear", "> linear"),
            ("low, 1, steps", "1, low, steps"),
            ("mean(task", "sum(task"),
            ("step, low", "step + 4000, low"),
            ("low, 1,", "low, 2,"),
        ),
        at=(case(task=normal(4), difficulty=full(0.9, 4), step=np.asarray(0)),),
    ),
    "superloss": Reference(
        "adaptive/superloss",
        superloss,
        (
            case(task=normal(8)),
            case(task=uniform(0, 9, 3, 4), parameters={"tau": math.log(10), "lam": 0.25}),
            case(task=normal(5, scale=1e3, shift=1e3), parameters={"lam": 3.0, "tau": 0.4}),
        ),
        at=(
            case(task=full(1.5, 2), parameters={"tau": 1.5}),
            case(task=np.array([-2 / math.e, -1e8, 1e8])),
        ),
    ),
}
