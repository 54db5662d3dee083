"""References of losses for language models."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Maker, Reference, binary, booleans, case, full, labels, normal, uniform


def ignored(classes: int, *shape: int, index: int = -100, p: float = 0.3) -> Maker:
    """Labels of which some are ignored."""
    return lambda rng: np.where(rng.random(shape) < p, index, rng.integers(0, classes, size=shape))


def next_token_z_loss(
    logits: torch.Tensor, target: torch.Tensor, z: float = 1e-4, ignore_index: int = -100
) -> torch.Tensor:
    kept = target != ignore_index
    if not kept.any():
        return (logits * 0).sum()
    rows = logits[kept]
    return F.cross_entropy(rows, target[kept]) + z * torch.logsumexp(rows, -1).square().mean()


def log_ratio(
    chosen: torch.Tensor, rejected: torch.Tensor, chosen_ref: torch.Tensor, rejected_ref: torch.Tensor
) -> torch.Tensor:
    return (chosen - rejected) - (chosen_ref - rejected_ref)


def dpo(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    chosen_ref: torch.Tensor,
    rejected_ref: torch.Tensor,
    beta: float = 0.1,
    eps: float = 0.0,
) -> torch.Tensor:
    d = log_ratio(chosen, rejected, chosen_ref, rejected_ref)
    return (-(1 - eps) * F.logsigmoid(beta * d) - eps * F.logsigmoid(-beta * d)).mean()


def ipo(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    chosen_ref: torch.Tensor,
    rejected_ref: torch.Tensor,
    beta: float = 0.1,
) -> torch.Tensor:
    return (log_ratio(chosen, rejected, chosen_ref, rejected_ref) - 1 / (2 * beta)).square().mean()


def kto(
    logp: torch.Tensor,
    logp_ref: torch.Tensor,
    desirable: torch.Tensor,
    kl_logp: torch.Tensor,
    kl_logp_ref: torch.Tensor,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    reference = (kl_logp - kl_logp_ref).mean().clamp(min=0).detach()
    reward = logp - logp_ref
    gains = 1 - torch.sigmoid(beta * (reward[desirable] - reference))
    losses = 1 - torch.sigmoid(beta * (reference - reward[~desirable]))
    return torch.cat([desirable_weight * gains, undesirable_weight * losses]).mean()


def orpo(chosen: torch.Tensor, rejected: torch.Tensor, nll: torch.Tensor, weight: float = 0.1) -> torch.Tensor:
    odds = (chosen - rejected) - (torch.log(-torch.expm1(chosen)) - torch.log(-torch.expm1(rejected)))
    return nll.mean() - weight * F.logsigmoid(odds).mean()


def simpo(chosen: torch.Tensor, rejected: torch.Tensor, beta: float = 2.0, gamma: float = 1.0) -> torch.Tensor:
    return -F.logsigmoid(beta * ((chosen - rejected) - gamma / beta)).mean()


def reward_pairs(
    chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor | None = None, center: float = 0.0
) -> torch.Tensor:
    gap = chosen - rejected if margin is None else chosen - rejected - margin
    return -F.logsigmoid(gap).mean() + center * (chosen + rejected).square().mean()


def grpo(
    logp: torch.Tensor,
    logp_old: torch.Tensor,
    logp_ref: torch.Tensor,
    mask: torch.Tensor,
    reward: torch.Tensor,
    clip: float = 0.2,
    beta: float = 0.0,
    eps: float = 1e-4,
    scale: bool = True,
    all_tokens: bool = False,
) -> torch.Tensor:
    """Token by token, with the bounds of the ratio by sign of the advantage."""
    totals, tokens = [], []
    for g in range(logp.shape[0]):
        centred = reward[g] - reward[g].mean()
        if scale:
            deviation = torch.std(reward[g]) if len(reward[g]) > 1 else reward[g].sum() * 0
            centred = centred / (deviation + eps)
        for k in range(logp.shape[1]):
            a, sequence = centred[k], []
            for t in range(logp.shape[2]):
                if not mask[g, k, t]:
                    continue
                ratio = torch.exp(logp[g, k, t] - logp_old[g, k, t].detach())
                clipped = ratio.clamp(max=1 + clip) if a >= 0 else ratio.clamp(min=1 - clip)
                gap = logp_ref[g, k, t] - logp[g, k, t]
                sequence.append(-clipped * a + beta * (torch.exp(gap) - gap - 1))
            tokens += sequence
            totals.append(torch.stack(sequence).mean() if sequence else logp.sum() * 0)
    if all_tokens:
        return torch.stack(tokens).mean() if tokens else logp.sum() * 0
    return torch.stack(totals).mean()


def groups(g: int, k: int, t: int, **p: float) -> Case:
    def make(rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
        logp = -rng.exponential(size=(g, k, t))
        return {
            "logp": logp,
            "logp_old": logp + 0.3 * rng.normal(size=(g, k, t)),
            "logp_ref": logp + 0.3 * rng.normal(size=(g, k, t)),
            "mask": rng.random((g, k, t)) < 0.7,
            "reward": rng.normal(size=(g, k)),
        }, p

    return make


def distillation(
    student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor, temperature: float = 4.0, alpha: float = 0.9
) -> torch.Tensor:
    soft = F.log_softmax(student / temperature, 1)
    kl = F.kl_div(soft, F.softmax(teacher.detach() / temperature, 1), reduction="batchmean")
    return alpha * temperature**2 * kl + (1 - alpha) * F.cross_entropy(student, target)


def over_mask(per: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return per[mask].mean() if mask.any() else (per * 0).sum()


def distill_forward_kl(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    ls, lt = F.log_softmax(student / temperature, 1), F.log_softmax(teacher.detach() / temperature, 1)
    return over_mask(F.kl_div(ls, lt, reduction="none", log_target=True).sum(1), mask)


def distill_reverse_kl(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    ps, pt = F.softmax(student / temperature, 1), F.softmax(teacher.detach() / temperature, 1)
    return over_mask((ps * torch.log(ps / pt)).sum(1), mask)


def distill_jsd(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, beta: float = 0.5) -> torch.Tensor:
    ps, pt = F.softmax(student, 1), F.softmax(teacher.detach(), 1)
    mixture = beta * pt + (1 - beta) * ps
    per = beta * (pt * torch.log(pt / mixture)).sum(1) + (1 - beta) * (ps * torch.log(ps / mixture)).sum(1)
    return over_mask(per, mask)


def pairs(n: int, low: float = -30.0, **p: float) -> Case:
    names = ("chosen", "rejected", "chosen_ref", "rejected_ref")
    return case(parameters=p, **{name: uniform(low, -0.1, n) for name in names})


def two(n: int, v: int, p: float = 0.7, scale: float = 2.0, **parameters: float) -> Case:
    return case(
        student=normal(n, v, scale=scale),
        teacher=normal(n, v, scale=scale),
        mask=booleans(n, p=p),
        parameters=parameters,
    )


NONE = case(student=normal(3, 4), teacher=normal(3, 4), mask=full(False, 3))

REFERENCES = {
    "next_token_z_loss": Reference(
        "language/next_token_z_loss",
        next_token_z_loss,
        (
            case(logits=normal(2, 5, 7, scale=2), target=ignored(7, 2, 5), parameters={"z": 0.01}),
            case(logits=normal(3, 4, 5, scale=30), target=labels(5, 3, 4)),
            case(logits=normal(1, 6, 3), target=ignored(3, 1, 6, index=-1), parameters={"z": 0.5, "ignore_index": -1}),
        ),
        at=(
            case(logits=normal(2, 3, 4), target=full(-100, 2, 3)),
            case(logits=normal(2, 3, 4, scale=1e3), target=labels(4, 2, 3)),
        ),
    ),
    "dpo": Reference(
        "language/dpo",
        dpo,
        (pairs(7), pairs(5, beta=0.5, eps=0.2), pairs(1, beta=0.03, eps=0.4)),
        at=(case(**{n: full(-3.0, 4) for n in ("chosen", "rejected", "chosen_ref", "rejected_ref")}), pairs(4, -1e5)),
    ),
    "ipo": Reference("language/ipo", ipo, (pairs(7), pairs(5, beta=0.5), pairs(1, beta=2.0)), at=(pairs(4, -1e5),)),
    "kto": Reference(
        "language/kto",
        kto,
        (
            case(
                logp=uniform(-30, 0, 6),
                logp_ref=uniform(-30, 0, 6),
                desirable=booleans(6),
                kl_logp=uniform(-20, 0, 4),
                kl_logp_ref=uniform(-40, -20, 4),
            ),
            case(
                logp=uniform(-9, 0, 5),
                logp_ref=uniform(-9, 0, 5),
                desirable=booleans(5),
                kl_logp=uniform(-2, 0, 5),
                kl_logp_ref=uniform(-9, -2, 5),
                parameters={"beta": 0.4, "desirable_weight": 1.5, "undesirable_weight": 0.7},
            ),
            case(
                logp=uniform(-9, 0, 4),
                logp_ref=uniform(-9, 0, 4),
                desirable=booleans(4),
                kl_logp=uniform(-9, -5, 3),
                kl_logp_ref=uniform(-4, 0, 3),
                parameters={"undesirable_weight": 2.0},
            ),
        ),
        wrt=("logp", "logp_ref", "kl_logp"),
        at=(
            case(
                logp=uniform(-1e5, 0, 4),
                logp_ref=uniform(-9, 0, 4),
                desirable=full(True, 4),
                kl_logp=full(-2.0, 3),
                kl_logp_ref=full(-2.0, 3),
            ),
        ),
    ),
    "orpo": Reference(
        "language/orpo",
        orpo,
        (
            case(chosen=uniform(-3, -0.1, 6), rejected=uniform(-3, -0.1, 6), nll=uniform(0, 3, 6)),
            case(
                chosen=uniform(-9, -1, 5),
                rejected=uniform(-0.6, -0.01, 5),
                nll=uniform(0, 3, 5),
                parameters={"weight": 1.5},
            ),
            case(chosen=uniform(-1, 0, 1), rejected=uniform(-5, -2, 1), nll=uniform(0, 3, 1), parameters={"weight": 7}),
        ),
        at=(case(chosen=full(-2.0, 3), rejected=full(-2.0, 3), nll=full(0.0, 3)),),
    ),
    "simpo": Reference(
        "language/simpo",
        simpo,
        (
            case(chosen=uniform(-3, 0, 6), rejected=uniform(-3, 0, 6)),
            case(chosen=uniform(-3, 0, 5), rejected=uniform(-3, 0, 5), parameters={"beta": 0.7, "gamma": 0.2}),
            case(chosen=uniform(-3, 0, 1), rejected=uniform(-3, 0, 1), parameters={"beta": 5.0, "gamma": 2.0}),
        ),
        at=(case(chosen=full(-1.0, 3), rejected=full(-1.0, 3), parameters={"gamma": 0.0}),),
    ),
    "reward_pairs": Reference(
        "language/reward_pairs",
        reward_pairs,
        (
            case(chosen=normal(6, scale=2), rejected=normal(6, scale=2), margin=normal(6)),
            case(chosen=normal(5), rejected=normal(5), parameters={"center": 0.3}),
            case(chosen=normal(3), rejected=normal(3), margin=normal(3), parameters={"center": 1.5}),
        ),
        at=(
            case(chosen=full(1.0, 3), rejected=full(1.0, 3)),
            case(chosen=normal(3, scale=1e3), rejected=normal(3, scale=1e3)),
        ),
    ),
    "grpo": Reference(
        "language/grpo",
        grpo,
        (
            groups(2, 3, 4, beta=0.04),
            groups(1, 4, 5, clip=0.1, all_tokens=True, eps=0.1),
            groups(3, 2, 3, beta=0.5, scale=False),
        ),
        wrt=("logp", "logp_ref"),
        at=(groups(2, 1, 3, beta=0.1),),
    ),
    "distillation": Reference(
        "language/distillation",
        distillation,
        (
            case(student=normal(4, 5, scale=2), teacher=normal(4, 5, scale=2), target=labels(5, 4)),
            case(
                student=normal(3, 7, scale=9),
                teacher=normal(3, 7),
                target=labels(7, 3),
                parameters={"temperature": 2.0, "alpha": 0.3},
            ),
            case(
                student=normal(6, 2),
                teacher=normal(6, 2, scale=5),
                target=binary(6),
                parameters={"temperature": 0.5, "alpha": 0.6},
            ),
        ),
        at=(case(student=normal(4, 5, scale=1e3), teacher=normal(4, 5), target=labels(5, 4)),),
    ),
    "distill_forward_kl": Reference(
        "language/distill_forward_kl",
        distill_forward_kl,
        (two(4, 5), two(3, 7, temperature=2.0), two(6, 2, temperature=0.5)),
        at=(NONE, two(4, 5, scale=1e3)),
    ),
    "distill_reverse_kl": Reference(
        "language/distill_reverse_kl",
        distill_reverse_kl,
        (two(4, 5), two(3, 7, temperature=2.0), two(6, 2, temperature=0.5)),
        at=(NONE,),
    ),
    "distill_jsd": Reference(
        "language/distill_jsd", distill_jsd, (two(4, 5), two(3, 7, beta=0.2), two(6, 2, beta=0.9)), at=(NONE,)
    ),
}
