"""References of losses of domain adaptation, in plain torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Reference, binary, case, full, labels, normal, uniform, unit


def mmd(x: torch.Tensor, y: torch.Tensor, variance: torch.Tensor, unbiased: bool = False) -> torch.Tensor:
    def mean(a: torch.Tensor, b: torch.Tensor, same: bool) -> torch.Tensor:
        total, count = a.sum() * 0, 0
        for i in range(len(a)):
            for j in range(len(b)):
                if same and unbiased and i == j:
                    continue
                for s in variance.detach():
                    total = total + torch.exp(-(a[i] - b[j]).square().sum() / (2 * s))
                count += 1
        return total / max(count, 1)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def coral(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    d = x.shape[1]
    gap = torch.cov(x.T).reshape(d, d) - torch.cov(y.T).reshape(d, d)
    return gap.square().sum() / (4 * d**2)


def deep_jdot(
    source: torch.Tensor,
    target: torch.Tensor,
    label: torch.Tensor,
    logits: torch.Tensor,
    plan: torch.Tensor,
    feature_weight: float = 0.001,
    label_weight: float = 0.0001,
) -> torch.Tensor:
    total = source.sum() * 0
    for n in range(len(source)):
        for m in range(len(target)):
            cost = feature_weight * F.mse_loss(source[n], target[m], reduction="sum")
            cost = cost + label_weight * F.cross_entropy(logits[m][None], label[n][None])
            total = total + plan[n, m].detach() * cost
    return total


def central_moment_discrepancy(x: torch.Tensor, y: torch.Tensor, low: float = 0.0, width: float = 1.0) -> torch.Tensor:
    def moment(z: torch.Tensor, k: int) -> torch.Tensor:
        return z.mean(0) if k == 1 else (z - z.mean(0)).pow(k).mean(0)

    return sum(
        (torch.linalg.vector_norm(moment(x, k) - moment(y, k)) / width**k for k in range(1, 6)),
        torch.zeros((), dtype=x.dtype),
    )


def classifier_discrepancy(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.l1_loss(a.softmax(1), b.softmax(1))


def wasserstein_1d(x: torch.Tensor, y: torch.Tensor, p: float = 1.0) -> torch.Tensor:
    order, other = torch.argsort(x, stable=True), torch.argsort(y, stable=True)
    return (x[order] - y[other]).abs().pow(p).mean()


def sliced_wasserstein(x: torch.Tensor, y: torch.Tensor, theta: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    return torch.stack([wasserstein_1d(x @ t, y @ t, p) for t in theta]).mean()


class Reversed(torch.autograd.Function):
    """The identity, with the gradient times minus a weight."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: float) -> torch.Tensor:
        ctx.weight = weight
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.weight * gradients[0], None


def domain_adversarial(
    z: torch.Tensor,
    domain: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    step: torch.Tensor,
    steps: int = 10000,
) -> torch.Tensor:
    strength = math.tanh(5 * min(1.0, float(step) / steps))
    logits = Reversed.apply(z, strength) @ weight + bias
    return F.binary_cross_entropy_with_logits(logits, domain.double())


def headed(n: int, d: int, step: int, **p: int) -> Case:
    return case(z=normal(n, d), domain=binary(n), weight=normal(d), bias=normal(), step=np.asarray(step), parameters=p)


def samples(n: int, m: int, d: int, k: int, **p: bool) -> Case:
    return case(x=normal(n, d), y=normal(m, d, scale=1.5, shift=0.5), variance=uniform(0.5, 4, k), parameters=p)


def coupled(n: int, m: int, d: int, c: int, **p: float) -> Case:
    return case(
        source=normal(n, d),
        target=normal(m, d),
        label=labels(c, n),
        logits=normal(m, c),
        plan=uniform(0, 1, n, m),
        parameters=p,
    )


def tied(rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
    return {"x": np.array([1.0, 2.0, 1.0, 1.0]), "y": np.array([2.0, 1.0, 2.0, 5.0])}, {}


REFERENCES = {
    "mmd": Reference(
        "adaptation/mmd",
        mmd,
        (samples(4, 5, 3, 2), samples(6, 2, 1, 3, unbiased=True), samples(3, 3, 4, 1)),
        wrt=("x", "y"),
        at=(samples(1, 4, 2, 2, unbiased=True), case(x=full(1.0, 3, 2), y=full(1.0, 2, 2), variance=full(1.0, 1))),
    ),
    "coral": Reference(
        "adaptation/coral",
        coral,
        (
            case(x=normal(5, 3), y=normal(6, 3, scale=2)),
            case(x=normal(4, 1), y=normal(3, 1)),
            case(x=normal(2, 4, shift=5), y=normal(7, 4)),
        ),
        at=(case(x=full(2.0, 3, 2), y=full(1.0, 4, 2)),),
    ),
    "deep_jdot": Reference(
        "adaptation/deep_jdot",
        deep_jdot,
        (
            coupled(4, 5, 3, 3),
            coupled(3, 2, 2, 4, feature_weight=0.5, label_weight=0.7),
            coupled(2, 6, 1, 2, feature_weight=1.5, label_weight=0.1),
        ),
        wrt=("source", "target", "logits", "plan"),
    ),
    "central_moment_discrepancy": Reference(
        "adaptation/central_moment_discrepancy",
        central_moment_discrepancy,
        (
            case(x=uniform(0, 1, 6, 3), y=uniform(0.2, 0.7, 5, 3)),
            case(x=uniform(-1, 1, 4, 2), y=uniform(-0.5, 1, 7, 2), parameters={"low": -1.0, "width": 2.0}),
            case(x=uniform(0, 3, 3, 4), y=uniform(1, 2, 3, 4), parameters={"low": 0.0, "width": 3.0}),
        ),
        at=(case(x=full(0.5, 4, 2), y=full(0.5, 3, 2)),),
    ),
    "classifier_discrepancy": Reference(
        "adaptation/classifier_discrepancy",
        classifier_discrepancy,
        (
            case(a=normal(4, 5), b=normal(4, 5)),
            case(a=normal(7, 2, scale=3), b=normal(7, 2)),
            case(a=normal(1, 3), b=normal(1, 3)),
        ),
        at=(case(a=full(1.0, 3, 2), b=full(2.0, 3, 2)),),
    ),
    "wasserstein_1d": Reference(
        "adaptation/wasserstein_1d",
        wasserstein_1d,
        (
            case(x=normal(6), y=normal(6, shift=0.5)),
            case(x=normal(5), y=normal(5, scale=2), parameters={"p": 2.0}),
            case(x=normal(4), y=normal(4), parameters={"p": 1.5}),
        ),
        mutants=(
            ("sort(x over n)", "x"),
            ("sort(y over n)", "sort(y over n descending)"),
            ("- sort", "+ sort"),
            ("^p", "^(p + 1)"),
            ("mean(per)", "sum(per)"),
        ),
        at=(tied, case(x=normal(1), y=normal(1))),
    ),
    "sliced_wasserstein": Reference(
        "adaptation/sliced_wasserstein",
        sliced_wasserstein,
        (
            case(x=normal(6, 3), y=normal(6, 3, shift=0.5), theta=unit(4, 3)),
            case(x=normal(5, 2), y=normal(5, 2), theta=unit(3, 2), parameters={"p": 1.0}),
            case(x=normal(4, 5), y=normal(4, 5), theta=unit(2, 5), parameters={"p": 3.0}),
        ),
        wrt=("x", "y"),
        at=(case(x=full(1.0, 3, 2), y=full(1.0, 3, 2), theta=unit(2, 2)),),
    ),
    "domain_adversarial": Reference(
        "adaptation/domain_adversarial",
        domain_adversarial,
        (headed(5, 3, step=2500), headed(4, 2, step=3, steps=10), headed(3, 4, step=50, steps=10)),
        wrt=("z", "weight", "bias"),
        at=(headed(3, 2, step=0),),
    ),
}
