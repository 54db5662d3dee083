"""References of ways to combine the losses of several tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from references.record import Case, Reference, case, full, normal, uniform


def gradnorm(grad_norm: torch.Tensor, task: torch.Tensor, first: torch.Tensor, alpha: float = 1.5) -> torch.Tensor:
    with torch.no_grad():
        ratio = task / first
        goal = grad_norm.mean() * torch.pow(ratio * len(ratio) / ratio.sum(), alpha)
    return torch.nn.functional.l1_loss(grad_norm, goal, reduction="sum")


def linear_scalarisation(task: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    return torch.dot(torch.ones_like(task) if weight is None else weight, task)


def gaps(task: torch.Tensor, weight: torch.Tensor | None, ideal: torch.Tensor | None) -> torch.Tensor:
    gap = task if ideal is None else torch.sub(task, ideal)
    return gap if weight is None else gap * weight


def chebyshev(
    task: torch.Tensor, weight: torch.Tensor | None = None, ideal: torch.Tensor | None = None
) -> torch.Tensor:
    gap = gaps(task, weight, ideal)
    return gap[gap.argmax()]


def smooth_chebyshev(
    task: torch.Tensor, weight: torch.Tensor | None = None, ideal: torch.Tensor | None = None, mu: float = 0.1
) -> torch.Tensor:
    """Through the largest gap."""
    gap = gaps(task, weight, ideal)
    top = gap[gap.argmax()]
    return top + mu * torch.log(torch.exp((gap - top) / mu).sum())


def geometric_loss(task: torch.Tensor) -> torch.Tensor:
    return task.prod() ** (1 / len(task))


def dynamic_weight_averaging(
    task: torch.Tensor,
    latest: torch.Tensor | None = None,
    before: torch.Tensor | None = None,
    temperature: float = 2.0,
) -> torch.Tensor:
    """As the authors' code: exponentials of the rates of descent, scaled to sum to the number of tasks."""
    one = torch.ones_like(task)
    speed = (one if latest is None else latest) / (one if before is None else before)
    share = torch.exp(speed / temperature)
    return torch.dot(len(task) * share / share.sum(), task)


def tasks(k: int, scale: float = 1.0, extra: bool = True, **p: Any) -> Case:
    made: dict[str, Any] = {"weight": uniform(0.2, 2, k), "ideal": normal(k)} if extra else {}
    return case(task=normal(k, scale=scale), parameters=p, **made)


def rates(k: int, **p: Any) -> Case:
    return case(grad_norm=uniform(0, 3, k), task=uniform(0.1, 2, k), first=uniform(0.5, 3, k), parameters=p)


def epochs(k: int, **p: Any) -> Case:
    return case(task=uniform(0, 3, k), latest=uniform(0.1, 2, k), before=uniform(0.5, 3, k), parameters=p)


REFERENCES = {
    "dynamic_weight_averaging": Reference(
        "multitask/dynamic_weight_averaging",
        dynamic_weight_averaging,
        (epochs(4), epochs(3, temperature=0.5), epochs(6, temperature=5.0)),
        wrt=("task",),
        at=(case(task=uniform(0, 3, 4)),),
    ),
    "gradnorm": Reference(
        "multitask/gradnorm", gradnorm, (rates(4), rates(3, alpha=0.12), rates(6, alpha=3.0)), wrt=("grad_norm",)
    ),
    "linear_scalarisation": Reference(
        "multitask/linear_scalarisation",
        linear_scalarisation,
        (
            case(task=normal(4), weight=uniform(0, 2, 4)),
            case(task=normal(3), weight=uniform(0, 2, 3)),
            case(task=normal(5)),
        ),
        mutants=(
            ("weight * task", "weight / task"),
            ("weight * task", "weight + task"),
            ("weight * task", "2 * weight * task"),
            ("sum(per)", "mean(per)"),
            ("weight * task", "-weight * task"),
        ),
    ),
    "chebyshev": Reference(
        "multitask/chebyshev",
        chebyshev,
        (tasks(4), tasks(6), tasks(3, extra=False)),
        mutants=(
            ("max(", "min("),
            ("task - ideal", "task + ideal"),
            ("weight *", "weight /"),
            ("max(", "-max("),
            ("weight * (task - ideal)", "task - ideal"),
        ),
        at=(case(task=full(2.0, 3)),),
    ),
    "smooth_chebyshev": Reference(
        "multitask/smooth_chebyshev",
        smooth_chebyshev,
        (tasks(4), tasks(6, mu=2.0), tasks(3, extra=False, mu=0.5)),
        at=(tasks(3, scale=1e3), case(task=full(2.0, 3))),
    ),
    "geometric_loss": Reference(
        "multitask/geometric_loss",
        geometric_loss,
        tuple(case(task=uniform(0.1, 3, k)) for k in (4, 3, 7)),
        mutants=(
            ("exp(", "log("),
            ("mean(", "sum("),
            ("log(task)", "task"),
            ("exp(", "-exp("),
            ("exp(", "2 * exp("),
        ),
        at=(case(task=np.array([1e150, 1e-140])),),
    ),
}
