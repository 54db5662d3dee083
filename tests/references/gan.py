"""References of adversarial games: binary cross-entropy with labels, and sums over samples."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from references.record import Case, Reference, case, full, normal


def judged(logit: torch.Tensor, label: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, label))


def gan_minimax_d(real_logit: torch.Tensor, fake_logit: torch.Tensor) -> torch.Tensor:
    return judged(real_logit, 1.0) + judged(fake_logit, 0.0)


def gan_minimax_g(fake_logit: torch.Tensor) -> torch.Tensor:
    return -judged(fake_logit, 0.0)


def gan_non_saturating_g(fake_logit: torch.Tensor) -> torch.Tensor:
    return judged(fake_logit, 1.0)


def gan_least_squares_d(
    real_score: torch.Tensor, fake_score: torch.Tensor, fake_label: float = 0.0, real_label: float = 1.0
) -> torch.Tensor:
    halves = [F.mse_loss(s, torch.full_like(s, v)) for s, v in ((real_score, real_label), (fake_score, fake_label))]
    return torch.stack(halves).mean()


def gan_least_squares_g(fake_score: torch.Tensor, wanted: float = 1.0) -> torch.Tensor:
    return 0.5 * F.mse_loss(fake_score, torch.full_like(fake_score, wanted))


def gan_hinge_d(real_score: torch.Tensor, fake_score: torch.Tensor) -> torch.Tensor:
    real = sum((1 - s for s in real_score if s < 1), real_score.sum() * 0)
    fake = sum((1 + s for s in fake_score if s > -1), fake_score.sum() * 0)
    return real / len(real_score) + fake / len(fake_score)


def negative_mean(fake_score: torch.Tensor) -> torch.Tensor:
    return -fake_score.sum() / fake_score.numel()


def gan_relativistic_d(real_logit: torch.Tensor, fake_logit: torch.Tensor) -> torch.Tensor:
    return judged(real_logit - fake_logit.mean(), 1.0) + judged(fake_logit - real_logit.mean(), 0.0)


def gan_relativistic_g(real_logit: torch.Tensor, fake_logit: torch.Tensor) -> torch.Tensor:
    return judged(real_logit - fake_logit.mean(), 0.0) + judged(fake_logit - real_logit.mean(), 1.0)


def gan_relativistic_pairs(real_logit: torch.Tensor, fake_logit: torch.Tensor) -> torch.Tensor:
    return judged(real_logit - fake_logit, 1.0)


def gradient_penalty(slope: torch.Tensor, target: float = 1.0, one_sided: bool = False) -> torch.Tensor:
    terms = []
    for one in slope:
        length = torch.linalg.vector_norm(one)
        gap = length - target
        terms.append(gap.square() if gap > 0 or not one_sided else gap * 0)
    return torch.stack(terms).mean()


def r1(slope: torch.Tensor, gamma: float = 10.0) -> torch.Tensor:
    return gamma * slope.square().flatten(1).sum(1).mean() / 2


def logits(n: int, m: int, scale: float = 2.0) -> Case:
    return case(real_logit=normal(n, scale=scale), fake_logit=normal(m, scale=scale))


def scores(n: int, m: int, scale: float = 2.0, **p: Any) -> Case:
    return case(real_score=normal(n, scale=scale), fake_score=normal(m, scale=scale), parameters=p)


def fake(n: int, scale: float = 2.0, name: str = "fake_score", **p: Any) -> Case:
    return case(parameters=p, **{name: normal(n, scale=scale)})


def slopes(*shape: int, scale: float = 1.0, **p: Any) -> Case:
    return case(slope=normal(*shape, scale=scale), parameters=p)


GAMES = (logits(6, 5), logits(3, 8), logits(4, 4, scale=1e3))
FAKE = (fake(6, name="fake_logit"), fake(3, name="fake_logit"), fake(5, 1e3, "fake_logit"))
AFFINE = (
    ("-fake_score", "fake_score"),
    ("-fake_score", "-2 * fake_score"),
    ("mean(per)", "sum(per)"),
    ("-fake_score", "-abs(fake_score)"),
    ("-fake_score", "1 - fake_score"),
)
SOFT = (
    ("softplus(", "relu("),
    ("softplus(", "2 * softplus("),
    ("mean(per)", "sum(per)"),
    ("softplus(", "softplus(1 + "),
)

REFERENCES = {
    "gan_minimax_d": Reference("gan/gan_minimax_d", gan_minimax_d, GAMES),
    "gan_minimax_g": Reference(
        "gan/gan_minimax_g", gan_minimax_g, FAKE, mutants=(*SOFT, ("-softplus(fake", "softplus(fake"))
    ),
    "gan_non_saturating_g": Reference(
        "gan/gan_non_saturating_g", gan_non_saturating_g, FAKE, mutants=(*SOFT, ("(-fake", "(fake"))
    ),
    "gan_least_squares_d": Reference(
        "gan/gan_least_squares_d",
        gan_least_squares_d,
        (scores(6, 5), scores(3, 8, fake_label=-1.0, real_label=0.5), scores(1, 2)),
    ),
    "gan_least_squares_g": Reference(
        "gan/gan_least_squares_g", gan_least_squares_g, (fake(6), fake(3, wanted=0.4), fake(1, 1e8))
    ),
    "gan_hinge_d": Reference(
        "gan/gan_hinge_d",
        gan_hinge_d,
        (scores(6, 5), scores(3, 8), scores(4, 4, scale=1e3)),
        at=(case(real_score=full(1.0, 2), fake_score=full(-1.0, 3)),),
    ),
    "gan_hinge_g": Reference("gan/gan_hinge_g", negative_mean, (fake(6), fake(3), fake(1)), mutants=AFFINE),
    "gan_relativistic_d": Reference("gan/gan_relativistic_d", gan_relativistic_d, GAMES),
    "gan_relativistic_g": Reference("gan/gan_relativistic_g", gan_relativistic_g, GAMES),
    "gan_relativistic_pairs": Reference(
        "gan/gan_relativistic_pairs",
        gan_relativistic_pairs,
        (logits(6, 6), logits(3, 3), logits(4, 4, scale=1e3)),
        mutants=(*SOFT, ("fake_logit -", "fake_logit +")),
    ),
    "wasserstein_critic_g": Reference(
        "gan/wasserstein_critic_g", negative_mean, (fake(6), fake(3), fake(1)), mutants=AFFINE
    ),
    "gradient_penalty": Reference(
        "gan/gradient_penalty",
        gradient_penalty,
        (slopes(6, 4), slopes(5, 2, 3, target=0.5), slopes(8, 3, scale=0.7, one_sided=True)),
        mutants=(
            ("norm(slope over ...) -", "norm(slope over ...) +"),
            ("norm(slope over ...)", "sum(slope over ...)"),
            ("relu(excess)^2", "relu(excess)"),
            ("else excess^2", "else excess^3"),
            ("mean(per)", "sum(per)"),
        ),
        at=(slopes(4, 3, scale=0.0), slopes(4, 3, scale=1e8)),
    ),
    "r1": Reference(
        "gan/r1",
        r1,
        (slopes(6, 4), slopes(5, 2, 3, gamma=0.5), slopes(2, 3, scale=1e4)),
        at=(slopes(4, 3, scale=0.0),),
    ),
}
