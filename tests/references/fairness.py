"""References of losses for fairness and knowledge of the domain: groups by boolean indexing, logic by enumeration."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Case, Reference, binary, case, full, labels, normal, uniform


def demographic_parity(prob: torch.Tensor, group: torch.Tensor, groups: int = 2) -> torch.Tensor:
    present = [prob[group == g] for g in range(groups) if bool((group == g).any())]
    gaps = [part.mean() - prob.mean() for part in present]
    return torch.stack(gaps).square().sum()


def equalised_odds(prob: torch.Tensor, label: torch.Tensor, group: torch.Tensor, groups: int = 2) -> torch.Tensor:
    total = prob.sum() * 0
    for y in (0, 1):
        if bool((label == y).any()):
            total = total + demographic_parity(prob[label == y], group[label == y], groups)
    return total


def group_dro(
    task: torch.Tensor, group: torch.Tensor, q: torch.Tensor | None = None, groups: int = 2, eta: float = 0.01
) -> torch.Tensor:
    risk = []
    for g in range(groups):
        mine = task[group == g]
        risk.append(mine.mean() if len(mine) else task.sum() * 0)
    raised = torch.stack([torch.exp(eta * r.detach()) for r in risk])
    weight = F.normalize(raised if q is None else q * raised, p=1.0, dim=0)
    return torch.dot(weight, torch.stack(risk))


def cvar(task: torch.Tensor, tau: torch.Tensor, alpha: float = 0.1) -> torch.Tensor:
    above = task[task > tau] - tau
    return tau + above.sum() / (alpha * len(task))


def monotonicity_penalty(slope: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    total = slope.sum() * 0
    for row in slope:
        for s, d in zip(row, direction.tolist()):
            if d != 0 and s * d < 0:
                total = total + s**2
    return total / len(slope)


def semantic_loss(logit: torch.Tensor) -> torch.Tensor:
    """By the worlds in which one variable alone is true."""
    terms = []
    for z in logit:
        worlds = []
        for k in range(len(z)):
            sign = torch.full_like(z, -1.0)
            sign[k] = 1.0
            worlds.append(F.logsigmoid(sign * z).sum())
        terms.append(-torch.logsumexp(torch.stack(worlds), 0))
    return torch.stack(terms).mean()


def irm_penalty(logit: torch.Tensor, target: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
    """The derivative in the scale of the logits by autograd."""
    scale = torch.ones(len(logit), 1, dtype=torch.float64, requires_grad=True)
    scaled = logit * scale
    risks = F.binary_cross_entropy_with_logits(scaled, target.double(), reduction="none").mean(1)
    [slope] = torch.autograd.grad(risks.sum(), scale, create_graph=True)
    return risks.mean() + weight * slope.square().sum()


def people(n: int, groups: int, **p: Any) -> Case:
    return case(prob=uniform(0, 1, n), group=labels(groups, n), parameters={"groups": groups, **p})


def judged(n: int, groups: int) -> Case:
    return case(prob=uniform(0, 1, n), label=binary(n), group=labels(groups, n), parameters={"groups": groups})


def losses(n: int, groups: int, weights: bool = True, **p: Any) -> Case:
    q: dict[str, Any] = {"q": uniform(0.1, 1, groups)} if weights else {}
    return case(task=uniform(0, 3, n), group=labels(groups, n), parameters={"groups": groups, **p}, **q)


def risks(n: int, tau: float, **p: Any) -> Case:
    return case(task=normal(n), tau=np.array(tau), parameters=p)


REFERENCES = {
    "demographic_parity": Reference(
        "fairness/demographic_parity",
        demographic_parity,
        (people(9, 2), people(12, 4), case(prob=uniform(0, 1, 5), group=labels(2, 5), parameters={"groups": 3})),
        at=(case(prob=uniform(0, 1, 3), group=full(1, 3)),),
    ),
    "equalised_odds": Reference(
        "fairness/equalised_odds",
        equalised_odds,
        (judged(12, 2), judged(15, 3), judged(6, 4)),
        at=(case(prob=uniform(0, 1, 4), label=full(1, 4), group=labels(2, 4)),),
    ),
    "group_dro": Reference(
        "fairness/group_dro",
        group_dro,
        (losses(9, 2), losses(12, 4, eta=0.5), losses(6, 3, weights=False, eta=2.0)),
        wrt=("task",),
        at=(case(task=normal(3), group=full(0, 3), q=uniform(0.1, 1, 2)),),
    ),
    "cvar": Reference(
        "fairness/cvar",
        cvar,
        (risks(9, 0.3), risks(6, -0.5, alpha=0.5), risks(7, 0.1, alpha=1.0)),
        at=(case(task=full(1.0, 3), tau=np.array(1.0)),),
    ),
    "monotonicity_penalty": Reference(
        "fairness/monotonicity_penalty",
        monotonicity_penalty,
        tuple(
            case(slope=normal(n, d), direction=lambda rng, d=d: rng.permutation(np.arange(d) % 3 - 1))
            for n, d in ((6, 3), (4, 5), (7, 3))
        ),
        at=(case(slope=full(0.0, 2, 2), direction=np.array([1, -1])),),
    ),
    "semantic_loss": Reference(
        "fairness/semantic_loss",
        semantic_loss,
        (case(logit=normal(6, 4)), case(logit=normal(5, 2, scale=4)), case(logit=normal(3, 7))),
        mutants=(
            ("softplus(logit)", "softplus(-logit)"),
            ("- logsumexp", "+ logsumexp"),
            ("logsumexp(logit", "max(logit"),
            ("sum(softplus", "mean(softplus"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(logit=normal(3, 3, scale=1e3)),),
    ),
    "irm_penalty": Reference(
        "fairness/irm_penalty",
        irm_penalty,
        tuple(
            case(logit=normal(e, n, scale=2), target=binary(e, n), parameters={"weight": w})
            for e, n, w in ((3, 5, 1.0), (2, 6, 10.0), (4, 2, 0.3))
        ),
        at=(case(logit=full(0.0, 2, 3), target=binary(2, 3)),),
    ),
}
