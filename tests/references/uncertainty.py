"""References of likelihoods, divergences and scores of forecasts: torch's distributions, and integrals by pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import distributions as dist

from references.record import Case, Reference, case, full, labels, normal, uniform


def beta_nll(pred: torch.Tensor, target: torch.Tensor, variance: torch.Tensor, beta: float = 0.5) -> torch.Tensor:
    nll = F.gaussian_nll_loss(pred, target, variance, eps=1e-300, reduction="none")
    return (variance.detach() ** beta * nll).mean()


def laplace_nll(pred: torch.Tensor, target: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return -dist.Laplace(pred, scale).log_prob(target).mean()


def mixture_density(
    logit: torch.Tensor, centre: torch.Tensor, log_sigma: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    parts = dist.Independent(dist.Normal(centre, log_sigma.exp()), 1)
    return -dist.MixtureSameFamily(dist.Categorical(logits=logit), parts).log_prob(target).mean()


def evidential_classification(
    evidence: torch.Tensor, target: torch.Tensor, step: torch.Tensor, steps: int = 10
) -> torch.Tensor:
    """The squared error of a Dirichlet as bias and variance, entry by entry."""
    ones = torch.ones_like(evidence)
    made = dist.Dirichlet(evidence + 1)
    y = F.one_hot(target, evidence.shape[1]).double()
    fit = (made.mean - y).square() + made.variance
    wrong = dist.Dirichlet(y + (1 - y) * (evidence + 1))
    kl = dist.kl_divergence(wrong, dist.Dirichlet(ones))
    return (fit.sum(1) + min(1.0, int(step) / steps) * kl).mean()


def dirichlet_prior_network(model: torch.Tensor, wanted: torch.Tensor, reverse: bool = True) -> torch.Tensor:
    p, q = dist.Dirichlet(model), dist.Dirichlet(wanted)
    return (dist.kl_divergence(p, q) if reverse else dist.kl_divergence(q, p)).mean()


def standard_kl(centre: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    zero = torch.zeros_like(centre)
    return dist.kl_divergence(dist.Normal(centre, (log_var / 2).exp()), dist.Normal(zero, zero + 1))


def gaussian_kl(centre: torch.Tensor, log_var: torch.Tensor, free_bits: float = 0.0) -> torch.Tensor:
    return standard_kl(centre, log_var).mean(0).clamp(min=free_bits).sum()


def elbo(
    logit: torch.Tensor, target: torch.Tensor, centre: torch.Tensor, log_var: torch.Tensor, beta: float = 1.0
) -> torch.Tensor:
    rec = F.binary_cross_entropy_with_logits(logit, target, reduction="sum")
    return (rec + beta * standard_kl(centre, log_var).sum()) / len(logit)


def iwae(log_w: torch.Tensor) -> torch.Tensor:
    """Through the largest weight."""
    top = log_w.max(1, keepdim=True).values
    return -(torch.log(torch.exp(log_w - top).mean(1)) + top[:, 0]).mean()


def crps_gaussian(mu: torch.Tensor, y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    z = (y - mu) / sigma
    unit = dist.Normal(torch.zeros_like(z), torch.ones_like(z))
    return (sigma * (z * (2 * unit.cdf(z) - 1) + 2 * unit.log_prob(z).exp() - 1 / math.sqrt(math.pi))).mean()


def crps_ensemble(x: torch.Tensor, target: torch.Tensor, fair: bool = False) -> torch.Tensor:
    """By the sorted members: the pairs of rank k contribute with the factor 2 k - M + 1."""
    total, m = x.sum() * 0, x.shape[1]
    for members, y in zip(x, target):
        ranked = members.sort().values
        factors = 2 * torch.arange(m, dtype=torch.float64) - m + 1
        pairs = 2 * torch.dot(factors, ranked)
        total = total + (members - y).abs().mean() - pairs / (2 * m * max(m - 1 if fair else m, 1))
    return total / len(x)


def energy_score(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Pair by pair."""
    total, m = x.sum() * 0, x.shape[1]
    for members, y in zip(x, target):
        for i in range(m):
            total = total + torch.linalg.vector_norm(members[i] - y) / m
            for j in range(i):
                total = total - torch.linalg.vector_norm(members[i] - members[j]) / m**2
    return total / len(x)


def interval_score(lower: torch.Tensor, upper: torch.Tensor, target: torch.Tensor, alpha: float = 0.1) -> torch.Tensor:
    """As two quantile losses."""

    def pinball(q: torch.Tensor, tau: float) -> torch.Tensor:
        u = target - q
        return torch.where(u >= 0, tau * u, (tau - 1) * u)

    return 2 / alpha * (pinball(lower, alpha / 2) + pinball(upper, 1 - alpha / 2)).mean()


def von_mises_nll(angle: torch.Tensor, centre: torch.Tensor, kappa: torch.Tensor) -> torch.Tensor:
    return (torch.log(2 * math.pi * torch.special.i0(kappa)) - kappa * torch.cos(angle - centre)).mean()


def mvn_nll(pred: torch.Tensor, target: torch.Tensor, factor: torch.Tensor, log_diagonal: torch.Tensor) -> torch.Tensor:
    w = torch.tril(factor, -1) + torch.diag_embed(log_diagonal.exp())
    return -dist.MultivariateNormal(pred, precision_matrix=w.mT @ w).log_prob(target).mean()


def forecast(*shape: int, name: str, low: float = 0.2, high: float = 3.0, **p: Any) -> Case:
    return case(
        pred=normal(*shape, scale=2.0),
        target=normal(*shape, scale=2.0),
        parameters=p,
        **{name: uniform(low, high, *shape)},
    )


def normals(*shape: int, low: float = 0.2, high: float = 3.0) -> Case:
    return case(mu=normal(*shape, scale=2.0), y=normal(*shape, scale=2.0), sigma=uniform(low, high, *shape))


def mixture(n: int, k: int, d: int) -> Case:
    return case(logit=normal(n, k), centre=normal(n, k, d), log_sigma=normal(n, k, d, scale=0.5), target=normal(n, d))


def evidence(n: int, c: int, step: int, **p: Any) -> Case:
    """Large enough for torch's trigamma, which is off by 1e-10 for arguments below ten."""
    return case(evidence=uniform(12, 40, n, c), target=labels(c, n), step=np.array(step), parameters=p)


def concentrations(n: int, c: int, **p: Any) -> Case:
    return case(model=uniform(12, 40, n, c), wanted=uniform(15, 60, n, c), parameters=p)


def latent(n: int, d: int, **p: Any) -> Case:
    return case(centre=normal(n, d), log_var=normal(n, d), parameters=p)


def autoencoder(n: int, x: int, d: int, **p: Any) -> Case:
    return case(
        logit=normal(n, x, scale=2), target=uniform(0, 1, n, x), centre=normal(n, d), log_var=normal(n, d), parameters=p
    )


def ensemble(n: int, m: int, **p: Any) -> Case:
    return case(x=normal(n, m), target=normal(n), parameters=p)


def vectors(n: int, m: int, d: int) -> Case:
    return case(x=normal(n, m, d), target=normal(n, d))


def intervals(*shape: int, **p: Any) -> Case:
    return case(
        lower=normal(*shape, shift=-1.0), upper=normal(*shape, shift=1.0), target=normal(*shape, scale=2), parameters=p
    )


def angles(*shape: int, most: float = 5.0) -> Case:
    return case(angle=uniform(-4, 4, *shape), centre=uniform(-4, 4, *shape), kappa=uniform(0.1, most, *shape))


def gaussian(n: int, d: int) -> Case:
    return case(pred=normal(n, d), target=normal(n, d), factor=normal(n, d, d), log_diagonal=normal(n, d, scale=0.5))


REFERENCES = {
    "beta_nll": Reference(
        "uncertainty/beta_nll",
        beta_nll,
        (
            forecast(8, name="variance"),
            forecast(3, 4, name="variance", beta=1.0),
            forecast(5, name="variance", beta=0.2, low=0.01),
        ),
        wrt=("pred", "variance"),
        at=(forecast(3, name="variance", beta=0.0),),
    ),
    "laplace_nll": Reference(
        "uncertainty/laplace_nll",
        laplace_nll,
        (forecast(8, name="scale"), forecast(3, 4, name="scale"), forecast(5, name="scale", low=0.01, high=0.1)),
        wrt=("pred", "scale"),
        at=(case(pred=full(1.0, 3), target=full(1.0, 3), scale=full(0.5, 3)),),
    ),
    "mixture_density": Reference(
        "uncertainty/mixture_density",
        mixture_density,
        (mixture(5, 3, 2), mixture(4, 2, 4), mixture(3, 1, 1)),
        at=(
            case(
                logit=normal(3, 2, scale=1e3),
                centre=normal(3, 2, 2, scale=100),
                log_sigma=normal(3, 2, 2),
                target=normal(3, 2),
            ),
        ),
    ),
    "evidential_classification": Reference(
        "uncertainty/evidential_classification",
        evidential_classification,
        (evidence(6, 4, step=3), evidence(5, 3, step=90), evidence(4, 2, step=1, steps=4)),
        at=(
            case(evidence=uniform(0, 8, 3, 3), target=labels(3, 3), step=np.array(2)),
            case(evidence=full(0.0, 3, 4), target=labels(4, 3), step=np.array(20)),
        ),
    ),
    "dirichlet_prior_network": Reference(
        "uncertainty/dirichlet_prior_network",
        dirichlet_prior_network,
        (concentrations(6, 4), concentrations(5, 3, reverse=False), concentrations(4, 2)),
        at=(
            case(model=full(2.0, 2, 3), wanted=full(2.0, 2, 3)),
            case(model=uniform(0.1, 5, 3, 4), wanted=uniform(0.1, 9, 3, 4)),
        ),
    ),
    "gaussian_kl": Reference(
        "uncertainty/gaussian_kl",
        gaussian_kl,
        (latent(6, 4), latent(5, 3, free_bits=0.6), latent(1, 7)),
        at=(case(centre=full(0.0, 2, 3), log_var=full(0.0, 2, 3)),),
    ),
    "elbo": Reference(
        "uncertainty/elbo",
        elbo,
        (autoencoder(5, 7, 3), autoencoder(4, 3, 6, beta=4.0), autoencoder(3, 2, 2, beta=0.3)),
        wrt=("logit", "centre", "log_var"),
    ),
    "iwae": Reference(
        "uncertainty/iwae",
        iwae,
        tuple(case(log_w=normal(n, k, scale=s)) for n, k, s in ((6, 4, 2.0), (5, 1, 3.0), (3, 8, 1e3))),
        mutants=(
            ("log(size(k)) -", "log(size(k)) +"),
            ("log(size(k)) -", "size(k) -"),
            ("logsumexp(log_w", "max(log_w"),
            ("logsumexp(log_w", "logsumexp(-log_w"),
            ("mean(per)", "sum(per)"),
        ),
    ),
    "crps_gaussian": Reference(
        "uncertainty/crps_gaussian",
        crps_gaussian,
        (normals(8), normals(3, 4), normals(5, low=0.05, high=0.2)),
        at=(normals(3, low=1e-6, high=1e-5),),
    ),
    "crps_ensemble": Reference(
        "uncertainty/crps_ensemble",
        crps_ensemble,
        (ensemble(6, 5), ensemble(5, 4, fair=True), ensemble(3, 8)),
        at=(case(x=full(1.0, 2, 3), target=full(1.0, 2)), ensemble(3, 1), ensemble(3, 1, fair=True)),
    ),
    "energy_score": Reference(
        "uncertainty/energy_score",
        energy_score,
        (vectors(5, 4, 3), vectors(4, 6, 2), vectors(3, 2, 5)),
        at=(case(x=full(1.0, 2, 3, 2), target=full(1.0, 2, 2)), vectors(3, 1, 2)),
    ),
    "interval_score": Reference(
        "uncertainty/interval_score",
        interval_score,
        (intervals(8), intervals(3, 4, alpha=0.4), intervals(9, alpha=0.05)),
        at=(case(lower=full(1.0, 2), upper=full(1.0, 2), target=full(1.0, 2)),),
    ),
    "von_mises_nll": Reference(
        "uncertainty/von_mises_nll", von_mises_nll, (angles(8), angles(3, 4, most=20.0), angles(5, most=1.0))
    ),
    "mvn_nll": Reference(
        "uncertainty/mvn_nll",
        mvn_nll,
        (gaussian(5, 3), gaussian(4, 2), gaussian(3, 5)),
        at=(gaussian(3, 1),),
    ),
}
