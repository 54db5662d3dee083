"""References of self-supervised losses: torch's functions where there are any, else plain torch."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Reference, booleans, case, full, labels, normal, unit


def nt_xent(a: torch.Tensor, b: torch.Tensor, temperature: float = 0.5) -> torch.Tensor:
    """Both views in one batch of 2n rows."""
    n = len(a)
    z = F.normalize(torch.cat([a, b]), dim=1)
    sim = z @ z.T / temperature
    sim = sim.masked_fill(torch.eye(2 * n, dtype=torch.bool), -float("inf"))
    return F.cross_entropy(sim, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))


def sup_con(z: torch.Tensor, label: torch.Tensor, temperature: float = 0.07, inside: bool = False) -> torch.Tensor:
    z = F.normalize(z, dim=1)
    terms = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        sim = torch.stack([(z[i] * z[j]).sum() / temperature for j in others]) if others else z.new_zeros(0)
        positive = torch.tensor([bool(label[j] == label[i]) for j in others], dtype=torch.bool)
        if positive.any():
            logp = F.log_softmax(sim, 0)[positive]
            terms.append(-torch.log(logp.exp().mean()) if inside else -logp.mean())
    return torch.stack(terms).mean() if terms else z.sum() * 0


def byol(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (2 - 2 * F.cosine_similarity(prediction, target.detach(), dim=1)).mean()


def simsiam(p1: torch.Tensor, p2: torch.Tensor, z1: torch.Tensor, z2: torch.Tensor) -> torch.Tensor:
    return -(F.cosine_similarity(p1, z2.detach()) / 2 + F.cosine_similarity(p2, z1.detach()) / 2).mean()


def barlow_twins(a: torch.Tensor, b: torch.Tensor, weight: float = 0.0051, eps: float = 1e-5) -> torch.Tensor:
    n, d = a.shape
    za = F.batch_norm(a, None, None, training=True, eps=eps)
    zb = F.batch_norm(b, None, None, training=True, eps=eps)
    cross = za.T @ zb / n
    target = torch.eye(d, dtype=a.dtype)
    scale = weight * torch.ones(d, d, dtype=a.dtype) + (1 - weight) * target
    return (scale * (cross - target).square()).sum()


def vicreg(
    a: torch.Tensor,
    b: torch.Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> torch.Tensor:
    total = invariance * F.mse_loss(a, b)
    for x in (a, b):
        cov = torch.cov(x.T).reshape(x.shape[1], x.shape[1])
        total = total + variance / 2 * torch.relu(1 - torch.sqrt(x.var(0) + eps)).mean()
        off = cov.square().sum() - cov.diagonal().square().sum()
        total = total + covariance * off / x.shape[1]
    return total


def mae_reconstruction(
    pred: torch.Tensor, patch: torch.Tensor, masked: torch.Tensor, norm_target: bool = True, eps: float = 1e-6
) -> torch.Tensor:
    target = patch
    if norm_target:
        target = (patch - patch.mean(-1, keepdim=True)) / (patch.var(-1, keepdim=True) + eps).sqrt()
    per = (pred - target).square().mean(-1)[masked]
    return per.mean() if len(per) else pred.sum() * 0


def alignment_uniformity(
    x: torch.Tensor, y: torch.Tensor, alpha: float = 2.0, temperature: float = 2.0, weight: float = 1.0
) -> torch.Tensor:
    total = torch.linalg.vector_norm(x - y, dim=1).pow(alpha).mean()
    for z in (x, y):
        pairs = [(z[i] - z[j]).square().sum() for i in range(len(z)) for j in range(i)]
        if pairs:
            total = total + weight / 2 * torch.stack(pairs).mul(-temperature).exp().mean().log()
    return total


def decoupled_contrastive(q: torch.Tensor, k: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    n = len(q)
    if n == 1:
        return (q * 0).sum()
    sim = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / temperature
    rest = [torch.cat([sim[i, :i], sim[i, i + 1 :]]) for i in range(n)]
    return torch.stack([torch.logsumexp(r, 0) - sim[i, i] for i, r in enumerate(rest)]).mean()


def swav(
    a: torch.Tensor, b: torch.Tensor, eps: float = 0.05, temperature: float = 0.1, iterations: int = 3
) -> torch.Tensor:
    """As the authors' code, with codes as a matrix that is divided by its sums."""

    def codes(s: torch.Tensor) -> torch.Tensor:
        n, k = s.shape
        q = torch.exp(s.detach() / eps)
        q = q / q.sum()
        for _ in range(iterations):
            q = q / q.sum(0, keepdim=True) / k
            q = q / q.sum(1, keepdim=True) / n
        return q * n

    return (F.cross_entropy(b / temperature, codes(a)) + F.cross_entropy(a / temperature, codes(b))) / 2


def dino(
    student: torch.Tensor,
    teacher: torch.Tensor,
    center: torch.Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    momentum: float = 0.9,
) -> torch.Tensor:
    terms = []
    for v, s in enumerate(student):
        for u, t in enumerate(teacher):
            if u != v:
                wanted = F.softmax((t - center).detach() / teacher_temperature, 1)
                terms.append(F.cross_entropy(s / student_temperature, wanted))
    return torch.stack(terms).mean()


def moco(q: torch.Tensor, k: torch.Tensor, queue: torch.Tensor, temperature: float = 0.07) -> torch.Tensor:
    q, k = F.normalize(q, dim=1), F.normalize(k, dim=1).detach()
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.detach().T], 1)
    return F.cross_entropy(logits / temperature, torch.zeros(len(q), dtype=torch.long))


def views(v: int, u: int, n: int, c: int, **p: float) -> Case:
    return case(student=normal(v, n, c), teacher=normal(u, n, c), center=normal(c, scale=0.3), parameters=p)


def queued(n: int, r: int, d: int, **p: float) -> Case:
    return case(q=normal(n, d), k=normal(n, d), queue=unit(r, d), parameters=p)


def two(names: str, n: int, d: int, scale: float = 1.0, **p: float) -> Case:
    return case(parameters=p, **{name: normal(n, d, scale=scale) for name in names.split()})


def embedded(n: int, d: int, classes: int, **p: float) -> Case:
    return case(z=normal(n, d), label=labels(classes, n), parameters=p)


def patches(n: int, k: int, p: int, share: float = 0.6, **parameters: float) -> Case:
    return case(
        pred=normal(n, k, p),
        patch=normal(n, k, p, scale=2, shift=1),
        masked=booleans(n, k, p=share),
        parameters=parameters,
    )


def same(names: str, n: int, d: int) -> Case:
    def make(rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
        x = rng.normal(size=(n, d))
        return {name: x.copy() for name in names.split()}, {}

    return make


REFERENCES = {
    "nt_xent": Reference(
        "self_supervised/nt_xent",
        nt_xent,
        (two("a b", 5, 3), two("a b", 3, 6, temperature=0.1), two("a b", 2, 2, temperature=2.0)),
        at=(two("a b", 1, 3), same("a b", 4, 3), case(a=full(0.0, 3, 2), b=normal(3, 2))),
    ),
    "sup_con": Reference(
        "self_supervised/sup_con",
        sup_con,
        (embedded(7, 3, 3, temperature=0.5), embedded(5, 4, 2), embedded(8, 2, 3, temperature=0.3, inside=True)),
        at=(
            case(z=normal(4, 3), label=np.arange(4)),
            case(z=normal(4, 3), label=full(1, 4)),
            case(z=normal(1, 3), label=full(1, 1)),
        ),
    ),
    "byol": Reference(
        "self_supervised/byol",
        byol,
        (two("prediction target", 5, 3), two("prediction target", 2, 7, 3.0), two("prediction target", 1, 2)),
        at=(same("prediction target", 4, 3),),
    ),
    "simsiam": Reference(
        "self_supervised/simsiam",
        simsiam,
        (two("p1 p2 z1 z2", 5, 3), two("p1 p2 z1 z2", 2, 7, 3.0), two("p1 p2 z1 z2", 1, 2)),
        at=(same("p1 p2 z1 z2", 4, 3),),
    ),
    "barlow_twins": Reference(
        "self_supervised/barlow_twins",
        barlow_twins,
        (two("a b", 6, 3), two("a b", 4, 5, 2.0, weight=0.3, eps=0.1), two("a b", 9, 2, 0.1, weight=1.5)),
        at=(same("a b", 4, 3), case(a=full(2.0, 4, 3), b=normal(4, 3))),
    ),
    "vicreg": Reference(
        "self_supervised/vicreg",
        vicreg,
        (
            two("a b", 6, 3, 0.6),
            two("a b", 4, 5, 2.0, invariance=1.5, variance=3.0, covariance=0.7, eps=0.1),
            two("a b", 9, 2, 0.9, variance=10.0, covariance=5.0),
        ),
        at=(same("a b", 4, 3), case(a=full(2.0, 4, 3), b=normal(4, 3))),
    ),
    "mae_reconstruction": Reference(
        "self_supervised/mae_reconstruction",
        mae_reconstruction,
        (patches(2, 4, 5), patches(3, 2, 3, 0.8, norm_target=False), patches(1, 6, 4, eps=0.1)),
        wrt=("pred",),
        at=(
            patches(2, 3, 4, 0.0),
            case(pred=normal(2, 3, 4), patch=full(1.0, 2, 3, 4), masked=full(True, 2, 3)),
        ),
    ),
    "alignment_uniformity": Reference(
        "self_supervised/alignment_uniformity",
        alignment_uniformity,
        (
            case(x=unit(5, 3), y=unit(5, 3)),
            case(x=unit(4, 6), y=unit(4, 6), parameters={"alpha": 1.5, "temperature": 3.0, "weight": 0.4}),
            case(x=unit(7, 2), y=unit(7, 2), parameters={"alpha": 3.0, "temperature": 0.5}),
        ),
        at=(case(x=unit(1, 3), y=unit(1, 3)),),
    ),
    "decoupled_contrastive": Reference(
        "self_supervised/decoupled_contrastive",
        decoupled_contrastive,
        (two("q k", 5, 3), two("q k", 3, 6, temperature=0.5), two("q k", 2, 2, temperature=2.0)),
        at=(two("q k", 1, 3), same("q k", 4, 3)),
    ),
    "swav": Reference(
        "self_supervised/swav",
        swav,
        (
            two("a b", 5, 3, 0.3),
            two("a b", 4, 6, 0.5, eps=0.5, temperature=0.7, iterations=5),
            two("a b", 3, 2, eps=1.0, iterations=1),
        ),
        at=(case(a=full(0.0, 4, 3), b=full(0.0, 4, 3)),),
    ),
    "dino": Reference(
        "self_supervised/dino",
        dino,
        (
            views(3, 2, 4, 5, teacher_temperature=0.4),
            views(2, 2, 3, 2, student_temperature=0.5, teacher_temperature=0.2),
            views(4, 1, 2, 3),
        ),
        wrt=("student", "teacher"),
    ),
    "moco": Reference(
        "self_supervised/moco",
        moco,
        (queued(3, 6, 4), queued(2, 8, 3, temperature=0.5), queued(4, 4, 2, temperature=1.5)),
        wrt=("q", "k"),
        at=(case(q=full(0.0, 2, 3), k=normal(2, 3), queue=unit(4, 3)),),
    ),
}
