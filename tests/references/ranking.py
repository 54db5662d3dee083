"""References of losses of rankings: torch's functions, else list by list in plain torch."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Reference, case, full, labels, normal, signs


def ranknet(score: torch.Tensor, relevance: torch.Tensor, sigma: float = 1.0, per_pair: bool = False) -> torch.Tensor:
    lists = []
    for s, r in zip(score, relevance):
        terms = [-F.logsigmoid(sigma * (s[i] - s[j])) for i in range(len(s)) for j in range(len(s)) if r[i] > r[j]]
        total = torch.stack(terms).sum() if terms else s.sum() * 0
        lists.append(total / max(len(terms), 1) if per_pair else total)
    return torch.stack(lists).mean()


def ideal(relevance: torch.Tensor) -> torch.Tensor:
    """The discounted gain of the best order."""
    best = sorted(relevance.tolist(), reverse=True)
    return torch.tensor(sum((2**r - 1) / math.log2(i + 2) for i, r in enumerate(best)), dtype=torch.float64)


def lambdarank(score: torch.Tensor, relevance: torch.Tensor, sigma: float = 1.0) -> torch.Tensor:
    lists = []
    for s, r in zip(score, relevance):
        order = torch.argsort(s.detach(), descending=True, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(s))
        discount = torch.log2(place.double() + 2)
        total, best = s.sum() * 0, ideal(r)
        for i in range(len(s)):
            for j in range(len(s)):
                if r[i] > r[j]:
                    change = (2 ** r[i] - 2 ** r[j]).abs() * (1 / discount[i] - 1 / discount[j]).abs() / best
                    total = total - change * F.logsigmoid(sigma * (s[i] - s[j]))
        lists.append(total)
    return torch.stack(lists).mean()


def listnet(score: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(score, relevance.softmax(1))


def listmle(score: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Items taken one after the other, each with its probability among those that are left."""
    lists = []
    for s, r in zip(score, relevance):
        left, total = list(range(len(s))), s.sum() * 0
        for i in torch.argsort(r, descending=True, stable=True).tolist():
            total = total - F.log_softmax(s[left], 0)[left.index(i)]
            left.remove(i)
        lists.append(total)
    return torch.stack(lists).mean()


def approx_ndcg(score: torch.Tensor, relevance: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    lists = []
    for s, r in zip(score, relevance):
        best = ideal(r)
        if best == 0:
            lists.append(s.sum() * 0)
            continue
        above = torch.sigmoid((s[None, :] - s[:, None]) / temperature)
        rank = 0.5 + above.sum(1)  # an item is half above itself
        lists.append(1 - ((torch.pow(2, r) - 1) / torch.log2(1 + rank)).sum() / best)
    return torch.stack(lists).mean()


def bpr(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    return -F.logsigmoid(positive - negative).mean()


def margin_ranking(a: torch.Tensor, b: torch.Tensor, y: torch.Tensor, margin: float = 0.0) -> torch.Tensor:
    return F.margin_ranking_loss(a, b, y, margin=margin)


def lists(b: int, n: int, grades: int = 4, scale: float = 1.0, **p: float) -> Case:
    """Scores without ties, labels with ties."""
    return case(
        score=normal(b, n, scale=scale), relevance=lambda rng: labels(grades, b, n)(rng).astype(float), parameters=p
    )


def tied(rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
    return {"score": np.array([[1.0, 1.0, 0.0, 1.0]]), "relevance": np.array([[2.0, 0.0, 1.0, 1.0]])}, {}


NOTHING = case(score=normal(2, 4), relevance=full(0.0, 2, 4))

REFERENCES = {
    "ranknet": Reference(
        "ranking/ranknet",
        ranknet,
        (lists(3, 5), lists(2, 4, sigma=2.5), lists(4, 3, 2, sigma=0.5, per_pair=True)),
        wrt=("score",),
        at=(NOTHING, tied, lists(2, 5, scale=1e3)),
    ),
    "lambdarank": Reference(
        "ranking/lambdarank",
        lambdarank,
        (lists(3, 5), lists(2, 6, sigma=2.5), lists(4, 3, 2, sigma=0.5)),
        wrt=("score",),
        at=(NOTHING, tied),
    ),
    "listnet": Reference(
        "ranking/listnet",
        listnet,
        (
            case(score=normal(3, 5), relevance=normal(3, 5)),
            case(score=normal(2, 7, scale=4), relevance=normal(2, 7)),
            lists(4, 3),
        ),
        at=(tied, case(score=normal(2, 4, scale=1e3), relevance=normal(2, 4))),
    ),
    "listmle": Reference(
        "ranking/listmle",
        listmle,
        (lists(3, 5), lists(2, 7, scale=4.0), lists(4, 2)),
        mutants=(
            ("descending", ""),
            ("backward", ""),
            ("- ranked", "+ ranked"),
            ("sum(cum", "mean(cum"),
            ("mean(per)", "sum(per)"),
        ),
        wrt=("score",),
        at=(NOTHING, tied, lists(2, 5, scale=1e3)),
    ),
    "approx_ndcg": Reference(
        "ranking/approx_ndcg",
        approx_ndcg,
        (lists(3, 5, temperature=0.7), lists(2, 6, scale=0.2), lists(4, 3, temperature=2.0)),
        wrt=("score",),
        at=(NOTHING, tied),
    ),
    "bpr": Reference(
        "ranking/bpr",
        bpr,
        (
            case(positive=normal(6), negative=normal(6)),
            case(positive=normal(3, scale=5), negative=normal(3)),
            case(positive=normal(1), negative=normal(1)),
        ),
        mutants=(
            ("negative - positive", "positive - negative"),
            ("negative - positive", "negative + positive"),
            ("softplus", "relu"),
            ("softplus", "exp"),
            ("mean(per)", "sum(per)"),
        ),
        at=(
            case(positive=full(1.0, 3), negative=full(1.0, 3)),
            case(positive=normal(4, scale=1e3), negative=normal(4, scale=1e3)),
        ),
    ),
    "margin_ranking": Reference(
        "ranking/margin_ranking",
        margin_ranking,
        (
            case(a=normal(8), b=normal(8), y=signs(8)),
            case(a=normal(5), b=normal(5), y=signs(5), parameters={"margin": 1.0}),
            case(a=normal(6), b=normal(6), y=signs(6), parameters={"margin": 0.3}),
        ),
        at=(case(a=full(1.0, 3), b=full(1.0, 3), y=signs(3)),),
    ),
}
