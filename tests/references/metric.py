"""References of metric learning: torch's functions where there is one, else pair by pair in plain torch."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Maker, Reference, case, full, labels, normal, unit


def zero(*tensors: torch.Tensor) -> torch.Tensor:
    return sum((t.sum() * 0 for t in tensors), torch.zeros((), dtype=torch.float64))


def n_pair(anchor: torch.Tensor, positive: torch.Tensor, penalty: float = 0.0) -> torch.Tensor:
    logits = anchor @ positive.T
    return F.cross_entropy(logits, torch.arange(len(anchor))) + penalty * (
        anchor.square().sum() + positive.square().sum()
    ) / len(anchor)


def lifted_structure(z: torch.Tensor, label: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """Unordered positive pairs, each with the negatives of both ends in one list."""
    n, terms = len(z), []
    for i in range(n):
        for j in range(i + 1, n):
            if label[i] != label[j]:
                continue
            others = [torch.linalg.vector_norm(z[e] - z[k]) for e in (i, j) for k in range(n) if label[k] != label[e]]
            if others:
                crowd = torch.logsumexp(margin - torch.stack(others), 0)
                terms.append(torch.relu(crowd + torch.linalg.vector_norm(z[i] - z[j])).square())
            else:
                terms.append(zero(z))
    return torch.stack(terms).sum() / (2 * len(terms)) if terms else zero(z)


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def circle(z: torch.Tensor, label: torch.Tensor, margin: float = 0.25, gamma: float = 256.0) -> torch.Tensor:
    sim, terms = cosines(z, z), []
    for i in range(len(z)):
        positive = [sim[i, j] for j in range(len(z)) if j != i and label[j] == label[i]]
        negative = [sim[i, j] for j in range(len(z)) if label[j] != label[i]]
        if positive and negative:
            p, q = torch.stack(positive), torch.stack(negative)
            ap, an = (1 + margin - p).detach().clamp(min=0), (q + margin).detach().clamp(min=0)
            grid = (gamma * an * (q - margin))[None] - (gamma * ap * (p - (1 - margin)))[:, None]
            terms.append(torch.logaddexp(torch.logsumexp(grid.flatten(), 0), zero(z)))
    return torch.stack(terms).mean() if terms else zero(z)


def multi_similarity(
    z: torch.Tensor, label: torch.Tensor, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5
) -> torch.Tensor:
    sim, total = cosines(z, z), zero(z)
    for i in range(len(z)):
        same = label == label[i]
        same[i] = False
        total = total + torch.log1p(torch.exp(-alpha * (sim[i][same] - base)).sum()) / alpha
        total = total + torch.log1p(torch.exp(beta * (sim[i][label != label[i]] - base)).sum()) / beta
    return total / len(z)


def proxy_nca(
    z: torch.Tensor, label: torch.Tensor, proxy: torch.Tensor, scale: float = 1.0, include_positive: bool = False
) -> torch.Tensor:
    distance = scale * (2 - 2 * cosines(z, proxy))
    keep = torch.ones_like(distance, dtype=torch.bool)
    if not include_positive:
        keep[torch.arange(len(z)), label] = False
    rest = torch.where(keep, torch.exp(-distance), torch.zeros_like(distance)).sum(1)
    return -torch.log(torch.exp(-distance.gather(1, label[:, None])[:, 0]) / rest).mean()


def proxy_anchor(
    z: torch.Tensor, label: torch.Tensor, proxy: torch.Tensor, alpha: float = 32.0, delta: float = 0.1
) -> torch.Tensor:
    sim = cosines(z, proxy)
    hot = F.one_hot(label, len(proxy)).bool()
    none = torch.zeros_like(sim)
    pull = torch.log1p(torch.where(hot, torch.exp(-alpha * (sim - delta)), none).sum(0))
    push = torch.log1p(torch.where(hot, none, torch.exp(alpha * (sim + delta))).sum(0))
    return pull.sum() / len(label.unique()) + push.sum() / len(proxy)


def arcface(
    z: torch.Tensor,
    label: torch.Tensor,
    weight: torch.Tensor,
    scale: float = 64.0,
    margin: float = 0.5,
    easy: bool = False,
) -> torch.Tensor:
    """By angles, as in the paper."""
    cosine = cosines(z, weight)
    angle = torch.acos(cosine)
    turned = torch.cos(angle + margin)
    if easy:
        turned = torch.where(cosine > 0, turned, cosine)
    else:
        turned = torch.where(angle <= math.pi - margin, turned, cosine - margin * math.sin(margin))
    hot = F.one_hot(label, len(weight)).double()
    return F.cross_entropy(scale * (hot * turned + (1 - hot) * cosine), label)


def cosface(
    z: torch.Tensor, label: torch.Tensor, weight: torch.Tensor, scale: float = 64.0, margin: float = 0.35
) -> torch.Tensor:
    cosine = cosines(z, weight)
    return F.cross_entropy(scale * (cosine - margin * F.one_hot(label, len(weight)).double()), label)


def center(z: torch.Tensor, label: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(z, centers[label], reduction="sum") / (2 * len(z))


def siglip(x: torch.Tensor, y: torch.Tensor, log_scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    signs = 2 * torch.eye(len(x), dtype=torch.float64) - 1
    return -F.logsigmoid(signs * (log_scale.exp() * (x @ y.T) + bias)).sum() / len(x)


def clip(x: torch.Tensor, y: torch.Tensor, log_scale: torch.Tensor, clamp_scale: bool = True) -> torch.Tensor:
    scale = log_scale.exp().clamp(max=100) if clamp_scale else log_scale.exp()
    logits, own = scale * cosines(x, y), torch.arange(len(x))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def scalar(value: float) -> Maker:
    return lambda rng: np.asarray(value)


def embedded(n: int, d: int, classes: int, scale: float = 1.0, **p: float) -> Case:
    return case(z=normal(n, d, scale=scale), label=labels(classes, n), parameters=p)


def proxies(name: str, n: int, d: int, c: int, **p: float) -> Case:
    return case(z=normal(n, d), label=labels(c, n), parameters=p, **{name: normal(c, d)})


def alike(n: int, d: int) -> Case:
    """One class only: no negatives."""
    return case(z=normal(n, d), label=full(2, n))


def apart(n: int, d: int) -> Case:
    """Every label once: no positives."""
    return case(z=normal(n, d), label=np.arange(n))


def tied(rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
    """The same embedding twice, and one of zeros."""
    z = rng.normal(size=(5, 3))
    z[1], z[4] = z[0], 0
    return {"z": z, "label": np.array([0, 0, 1, 1, 0])}, {}


ROWS = (embedded(7, 3, 3), embedded(5, 4, 2, 0.3), embedded(8, 2, 4))

REFERENCES = {
    "n_pair": Reference(
        "metric/n_pair",
        n_pair,
        (
            case(anchor=normal(5, 3), positive=normal(5, 3)),
            case(anchor=normal(4, 6), positive=normal(4, 6), parameters={"penalty": 0.02}),
            case(anchor=normal(2, 1), positive=normal(2, 1), parameters={"penalty": 0.5}),
        ),
        at=(
            case(anchor=normal(1, 3), positive=normal(1, 3)),
            case(anchor=normal(4, 3, scale=1e2), positive=normal(4, 3, scale=1e2)),
            case(anchor=full(0.0, 3, 2), positive=full(0.0, 3, 2)),
        ),
    ),
    "lifted_structure": Reference(
        "metric/lifted_structure",
        lifted_structure,
        (embedded(7, 3, 3), embedded(5, 4, 2, 0.3, margin=0.2), embedded(8, 2, 4, margin=2.0)),
        at=(alike(4, 3), apart(4, 3), tied),
    ),
    "circle": Reference(
        "metric/circle",
        circle,
        (embedded(8, 2, 4, margin=0.1, gamma=3.0), embedded(5, 4, 2, margin=0.4, gamma=80.0), embedded(7, 3, 3)),
        at=(alike(4, 3), apart(4, 3), tied),
    ),
    "multi_similarity": Reference(
        "metric/multi_similarity",
        multi_similarity,
        (
            embedded(7, 3, 3),
            embedded(5, 4, 2, alpha=3.0, beta=10.0, base=1.0),
            embedded(8, 2, 4, alpha=0.5, beta=2.0, base=-0.2),
        ),
        at=(alike(4, 3), apart(4, 3), tied),
    ),
    "proxy_nca": Reference(
        "metric/proxy_nca",
        proxy_nca,
        (
            proxies("proxy", 6, 3, 4),
            proxies("proxy", 5, 2, 3, scale=3.0),
            proxies("proxy", 4, 5, 2, scale=0.5, include_positive=True),
        ),
        at=(proxies("proxy", 3, 2, 1, include_positive=True),),
    ),
    "proxy_anchor": Reference(
        "metric/proxy_anchor",
        proxy_anchor,
        (
            proxies("proxy", 6, 3, 4),
            proxies("proxy", 3, 2, 5, alpha=4.0, delta=0.3),
            proxies("proxy", 8, 5, 2, alpha=1.0, delta=0.0),
        ),
        at=(proxies("proxy", 3, 2, 1),),
    ),
    "arcface": Reference(
        "metric/arcface",
        arcface,
        (
            proxies("weight", 9, 3, 4, scale=8.0),
            proxies("weight", 8, 2, 3, scale=4.0, margin=1.2),
            proxies("weight", 7, 4, 5, scale=2.0, margin=0.3, easy=True),
        ),
        at=(proxies("weight", 5, 3, 4), proxies("weight", 4, 3, 3, margin=0.0)),
    ),
    "cosface": Reference(
        "metric/cosface",
        cosface,
        (
            proxies("weight", 6, 3, 4, scale=8.0),
            proxies("weight", 8, 2, 3, scale=4.0, margin=0.1),
            proxies("weight", 7, 4, 5, scale=2.0, margin=0.8),
        ),
        at=(proxies("weight", 5, 3, 4),),
    ),
    "center": Reference(
        "metric/center",
        center,
        (proxies("centers", 6, 3, 4), proxies("centers", 3, 2, 5), proxies("centers", 8, 4, 1)),
    ),
    "siglip": Reference(
        "metric/siglip",
        siglip,
        (
            case(x=unit(5, 3), y=unit(5, 3), log_scale=scalar(1.0), bias=scalar(-2.0)),
            case(x=unit(4, 6), y=unit(4, 6), log_scale=scalar(0.3), bias=scalar(0.5)),
            case(x=unit(1, 2), y=unit(1, 2), log_scale=scalar(2.0), bias=scalar(-1.0)),
        ),
        at=(case(x=unit(5, 3), y=unit(5, 3), log_scale=scalar(math.log(10)), bias=scalar(-10.0)),),
    ),
    "clip": Reference(
        "metric/clip",
        clip,
        (
            case(x=normal(5, 3), y=normal(5, 3), log_scale=scalar(1.0)),
            case(x=normal(4, 6), y=normal(4, 6), log_scale=scalar(5.0)),
            case(x=normal(3, 2), y=normal(3, 2), log_scale=scalar(5.0), parameters={"clamp_scale": False}),
        ),
        at=(
            case(x=normal(1, 3), y=normal(1, 3), log_scale=scalar(math.log(100))),
            case(x=full(0.0, 3, 2), y=normal(3, 2), log_scale=scalar(2.0)),
        ),
    ),
}
