"""References of losses of survival analysis and of counts."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Maker, Reference, booleans, case, full, labels, normal, uniform


def cox(score: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    terms = [torch.logsumexp(score[time >= time[i]], 0) - score[i] for i in range(len(score)) if event[i]]
    return torch.stack(terms).mean() if terms else score.sum() * 0


def discrete_time_survival(
    logit: torch.Tensor, index: torch.Tensor, event: torch.Tensor, at_start: bool = False
) -> torch.Tensor:
    """By hazards and the survival function."""
    total = logit.sum() * 0
    for row, i, died in zip(logit, index.tolist(), event.tolist()):
        survival = torch.cumprod(1 - torch.sigmoid(row), 0)
        start = survival[i - 1] if i > 0 else torch.ones((), dtype=row.dtype)
        likelihood = start * torch.sigmoid(row[i]) if died else start if at_start else survival[i]
        total = total - torch.log(likelihood)
    return total / len(logit)


def deephit_likelihood(logit: torch.Tensor, index: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    total = logit.sum() * 0
    for row, i, died in zip(logit, index.tolist(), event.tolist()):
        p = F.softmax(torch.cat([row, torch.zeros(1, dtype=row.dtype)]), 0)
        total = total - torch.log(p[i] if died else p[i + 1 :].sum())
    return total / len(logit)


def negative_binomial_nll(mu: torch.Tensor, target: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    made = torch.distributions.NegativeBinomial(theta, probs=mu / (mu + theta), validate_args=False)
    return -made.log_prob(target)


def negative_binomial(mu: torch.Tensor, target: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    return negative_binomial_nll(mu, target, theta).mean()


def inflated(logit: torch.Tensor, target: torch.Tensor, nll: torch.Tensor) -> torch.Tensor:
    """Probabilities of the mixture, entry by entry."""
    extra, terms = torch.sigmoid(logit), []
    for e, t, v in zip(extra, target, nll):
        p = (1 - e) * torch.exp(-v)
        terms.append(-torch.log(e + p if t == 0 else p))
    return torch.stack(terms).mean()


def zero_inflated_poisson(logit: torch.Tensor, rate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return inflated(logit, target, -torch.distributions.Poisson(rate, validate_args=False).log_prob(target))


def zero_inflated_nb(logit: torch.Tensor, mu: torch.Tensor, target: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    return inflated(logit, target, negative_binomial_nll(mu, target, theta))


def tweedie(x: torch.Tensor, target: torch.Tensor, p: float = 1.5) -> torch.Tensor:
    mu = torch.exp(x)
    return (mu.pow(2 - p) / (2 - p) - target * mu.pow(1 - p) / (1 - p)).mean()


def gamma_nll(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    mu = torch.exp(x)
    return (target / mu + torch.log(mu)).mean()


def counts(*shape: int, rate: float = 2.0) -> Maker:
    return lambda rng: rng.poisson(rate, size=shape).astype(float)


def times(n: int, share: float = 0.6) -> Case:
    """Times with ties."""
    return case(
        score=normal(n), time=lambda rng: labels(max(n // 2, 1), n)(rng).astype(float), event=booleans(n, p=share)
    )


def intervals(n: int, k: int, **p: bool) -> Case:
    return case(logit=normal(n, k, scale=1.5), index=labels(k, n), event=booleans(n), parameters=p)


def at_the_ends(rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
    return {
        "logit": rng.normal(size=(4, 3)),
        "index": np.array([0, 0, 2, 2]),
        "event": np.array([True, False, True, False]),
    }, {}


REFERENCES = {
    "cox": Reference(
        "survival/cox",
        cox,
        (times(8), times(5), times(6, 0.9)),
        mutants=(
            (">= time", "> time"),
            (">= time", "<= time"),
            ("at_risk - score", "at_risk + score"),
            ("score[m]", "2 * score[m]"),
            ("mean(per", "sum(per"),
        ),
        wrt=("score",),
        at=(
            times(4, 0.0),
            case(score=normal(4), time=full(1.0, 4), event=full(True, 4)),
            case(score=normal(4, scale=1e3), time=uniform(0, 1, 4), event=full(True, 4)),
        ),
    ),
    "discrete_time_survival": Reference(
        "survival/discrete_time_survival",
        discrete_time_survival,
        (intervals(6, 4), intervals(5, 3, at_start=True), intervals(8, 2)),
        at=(at_the_ends,),
    ),
    "deephit_likelihood": Reference(
        "survival/deephit_likelihood",
        deephit_likelihood,
        (intervals(6, 4), intervals(5, 3), intervals(8, 2)),
        at=(at_the_ends,),
    ),
    "negative_binomial": Reference(
        "survival/negative_binomial",
        negative_binomial,
        (
            case(mu=uniform(0.2, 4, 6), target=counts(6), theta=uniform(0.5, 3, 6)),
            case(mu=uniform(5, 20, 4), target=counts(4, rate=12), theta=uniform(5, 9, 4)),
            case(mu=uniform(0.01, 0.1, 5), target=counts(5, rate=0.3), theta=uniform(0.1, 1, 5)),
        ),
        wrt=("mu", "theta"),
        at=(case(mu=uniform(1, 2, 3), target=full(0.0, 3), theta=uniform(1, 2, 3)),),
    ),
    "zero_inflated_poisson": Reference(
        "survival/zero_inflated_poisson",
        zero_inflated_poisson,
        (
            case(logit=normal(8), rate=uniform(0.2, 4, 8), target=counts(8, rate=1)),
            case(logit=normal(5, scale=3), rate=uniform(3, 9, 5), target=counts(5, rate=5)),
            case(logit=normal(6), rate=uniform(0.1, 0.5, 6), target=counts(6, rate=0.3)),
        ),
        wrt=("logit", "rate"),
        at=(case(logit=normal(3), rate=uniform(1, 2, 3), target=full(0.0, 3)),),
    ),
    "zero_inflated_nb": Reference(
        "survival/zero_inflated_nb",
        zero_inflated_nb,
        (
            case(logit=normal(8), mu=uniform(0.2, 4, 8), target=counts(8, rate=1), theta=uniform(0.5, 3, 8)),
            case(logit=normal(5), mu=uniform(3, 9, 5), target=counts(5, rate=5), theta=uniform(0.5, 3, 5)),
            case(logit=normal(6), mu=uniform(0.1, 1, 6), target=counts(6, rate=0.3), theta=uniform(0.5, 3, 6)),
        ),
        wrt=("logit", "mu", "theta"),
        at=(case(logit=normal(3), mu=uniform(1, 2, 3), target=full(0.0, 3), theta=uniform(1, 2, 3)),),
    ),
    "tweedie": Reference(
        "survival/tweedie",
        tweedie,
        (
            case(x=normal(6), target=counts(6)),
            case(x=normal(5), target=uniform(0, 3, 5), parameters={"p": 1.2}),
            case(x=normal(4, scale=2), target=counts(4, rate=1), parameters={"p": 1.8}),
        ),
        wrt=("x",),
        at=(case(x=normal(3), target=full(0.0, 3)),),
    ),
    "gamma_nll": Reference(
        "survival/gamma_nll",
        gamma_nll,
        (
            case(x=normal(6), target=uniform(0.1, 5, 6)),
            case(x=normal(5, scale=3), target=uniform(0.1, 5, 5)),
            case(x=normal(1), target=uniform(0.1, 5, 1)),
        ),
        mutants=(
            ("target * exp", "target + exp"),
            ("exp(-x)", "exp(x)"),
            ("+ x", "- x"),
            ("exp(-x)", "expm1(-x)"),
            ("mean(per)", "sum(per)"),
        ),
    ),
}
