"""References of losses of optimal transport and of warping, in plain torch."""

from __future__ import annotations

import numpy as np
import torch

from references.record import Case, Reference, case, full, normal, simplex


def chamfer(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    squared = torch.stack([(a - y).square().sum(1) for a in x])
    return squared.amin(1).mean() + squared.amin(0).mean()


def mean_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    pairs = [torch.linalg.vector_norm(a - b) for a in x for b in y]
    return torch.stack(pairs).mean()


def energy_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)


def squared_emd(prob: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    total = prob.sum() * 0
    for k in range(1, prob.shape[1] + 1):
        total = total + (prob[:, :k].sum(1) - target[:, :k].sum(1)).square().sum()
    return total / len(prob)


def transport(x: torch.Tensor, y: torch.Tensor, eps: float, iterations: int) -> torch.Tensor:
    cost = (x[:, None] - y[None]).square().sum(2) / 2
    f = torch.zeros(len(x), dtype=x.dtype)
    g = torch.zeros(len(y), dtype=x.dtype)
    for _ in range(iterations):
        g = -eps * torch.log(torch.exp((f[:, None] - cost) / eps).mean(0))
        f = -eps * torch.log(torch.exp((g[None] - cost) / eps).mean(1))
    return f.mean() + g.mean()


def sinkhorn(
    x: torch.Tensor, y: torch.Tensor, eps: float = 0.05, iterations: int = 100, debiased: bool = True
) -> torch.Tensor:
    value = transport(x, y, eps, iterations)
    if debiased:
        value = value - transport(x, x, eps, iterations) / 2 - transport(y, y, eps, iterations) / 2
    return value


def soft_dtw(x: torch.Tensor, y: torch.Tensor, gamma: float = 1.0) -> torch.Tensor:
    def paths(i: int, j: int, a: torch.Tensor, b: torch.Tensor) -> list[torch.Tensor]:
        """Costs of all warpings that end at (i, j)."""
        here = (a[i] - b[j]).square().sum()
        if i == j == 0:
            return [here]
        steps = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
        return [here + p for s, t in steps if s >= 0 and t >= 0 for p in paths(s, t, a, b)]

    rows = []
    for a, b in zip(x, y):
        every = torch.stack(paths(len(a) - 1, len(b) - 1, a, b))
        rows.append(-gamma * torch.logsumexp(-every / gamma, 0))
    return torch.stack(rows).mean()


def clouds(n: int, m: int, d: int, scale: float = 1.0, **p: float) -> Case:
    return case(x=normal(n, d, scale=scale), y=normal(m, d, scale=scale, shift=0.3), parameters=p)


def series(b: int, t: int, u: int, d: int, **p: float) -> Case:
    return case(x=normal(b, t, d), y=normal(b, u, d), parameters=p)


REFERENCES = {
    "chamfer": Reference(
        "transport/chamfer",
        chamfer,
        (clouds(5, 4, 3), clouds(2, 7, 2), clouds(3, 1, 1)),
        at=(case(x=full(0.0, 3, 2), y=full(1.0, 2, 2)),),
    ),
    "energy_distance": Reference(
        "transport/energy_distance",
        energy_distance,
        (clouds(5, 4, 3), clouds(2, 7, 2), clouds(3, 1, 1)),
        at=(case(x=full(0.0, 3, 2), y=full(0.0, 2, 2)),),
    ),
    "squared_emd": Reference(
        "transport/squared_emd",
        squared_emd,
        (
            case(prob=simplex(4, 5), target=simplex(4, 5)),
            case(prob=simplex(3, 2), target=simplex(3, 2)),
            case(prob=simplex(2, 7), target=simplex(2, 7)),
        ),
        mutants=(
            ("prob - target", "prob + target"),
            ("cumsum(prob - target over c)", "(prob - target)"),
            (")^2", ")^4"),
            ("sum(cumsum", "mean(cumsum"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(prob=np.eye(3), target=np.eye(3)),),
    ),
    "sinkhorn": Reference(
        "transport/sinkhorn",
        sinkhorn,
        (
            clouds(4, 3, 2, eps=0.5, iterations=5),
            clouds(3, 5, 1, 0.3, eps=0.2, iterations=3, debiased=False),
            clouds(2, 2, 3, 0.3, iterations=20),
        ),
    ),
    "soft_dtw": Reference(
        "transport/soft_dtw",
        soft_dtw,
        (series(2, 4, 3, 2), series(1, 3, 5, 1, gamma=0.1), series(3, 2, 2, 4, gamma=2.5)),
        at=(series(1, 1, 1, 2), series(2, 1, 4, 2)),
    ),
}
