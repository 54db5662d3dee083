"""References of perceptual, structural and sparsity losses: torch's convolutions and functions."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Case, Reference, case, full, labels, normal, simplex, uniform


def feature_distance(
    x: torch.Tensor,
    y: torch.Tensor,
    weight: torch.Tensor | None = None,
    normalise: bool = False,
    eps: float = 1e-10,
) -> torch.Tensor:
    if normalise:
        x, y = (a / (a.square().sum(1, keepdim=True).sqrt() + eps) for a in (x, y))
    weight = torch.ones(x.shape[1], dtype=x.dtype) if weight is None else weight
    return F.conv2d((x - y).square(), weight[None, :, None, None]).mean()


def gram_style(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    total = x.sum() * 0
    for a, b in zip(x.flatten(2), y.flatten(2)):
        total = total + ((a @ a.T - b @ b.T) / a.numel()).square().sum()
    return total / len(x)


def similarity(
    x: torch.Tensor, y: torch.Tensor, data_range: float, sigma: float, k1: float, k2: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Luminance and contrast at every valid position of a Gaussian window of 11 pixels."""
    bell = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * sigma**2))
    window = torch.outer(bell, bell)[None, None] / bell.sum() ** 2

    def blur(a: torch.Tensor) -> torch.Tensor:
        return F.conv2d(a.flatten(0, 1)[:, None], window).unflatten(0, a.shape[:2])

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    return (2 * mx * my + c1) / (mx * mx + my * my + c1), (2 * vxy + c2) / (vx + vy + c2)


def ssim(
    x: torch.Tensor,
    y: torch.Tensor,
    data_range: float = 1.0,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> torch.Tensor:
    luminance, contrast = similarity(x, y, data_range, sigma, k1, k2)
    return 1 - (luminance * contrast).mean()


def ms_ssim(
    x: torch.Tensor,
    y: torch.Tensor,
    data_range: float = 1.0,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> torch.Tensor:
    value = torch.ones(x.shape[:2], dtype=x.dtype)
    powers = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for scale, power in enumerate(powers):
        luminance, contrast = similarity(x, y, data_range, sigma, k1, k2)
        both = luminance * contrast if scale == len(powers) - 1 else contrast
        value = value * torch.relu(both.mean((2, 3, 4))) ** power
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return 1 - value.mean()


def noisy(*shape: int, **parameters: float) -> Case:
    """An image, and the same with noise: unrelated ones have a negative contrast."""

    def make(rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        x = rng.uniform(size=shape)
        return {"x": x, "y": x + 0.3 * rng.normal(size=shape)}, dict(parameters)

    return make


def gradient_difference(x: torch.Tensor, y: torch.Tensor, alpha: float = 1.0, inner_abs: bool = True) -> torch.Tensor:
    total = x.sum() * 0
    for dim in (2, 3):
        a, b = torch.diff(x, dim=dim), torch.diff(y, dim=dim)
        gap = a.abs() - b.abs() if inner_abs else a - b
        if gap.numel():
            total = total + gap.abs().pow(alpha).mean()
    return total


def attention_transfer(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    def attention(a: torch.Tensor) -> torch.Tensor:
        return F.normalize(a.square().mean(1).flatten(1), dim=1)

    return F.mse_loss(attention(student), attention(teacher).detach())


def attention_weighted_ce(logits: torch.Tensor, target: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    rows = []
    for z, t, a in zip(logits, target, attention):
        nll = F.cross_entropy(z, t, reduction="none")
        rows.append((a * nll).sum() / a.sum() if a.sum() > 0 else nll.sum() * 0)
    return torch.stack(rows).mean()


def charbonnier(pred: torch.Tensor, target: torch.Tensor, eps: float = 1e-3) -> torch.Tensor:
    return torch.hypot(pred - target, torch.full_like(pred, eps)).mean()


def l1_sparsity(x: torch.Tensor) -> torch.Tensor:
    return F.l1_loss(x, torch.zeros_like(x))


def group_lasso(w: torch.Tensor, scale: bool = True) -> torch.Tensor:
    factor = w.shape[1] ** 0.5 if scale else 1.0
    return factor * sum((torch.linalg.vector_norm(row) for row in w), torch.zeros((), dtype=w.dtype))


def entropy_sparsity(p: torch.Tensor) -> torch.Tensor:
    return torch.special.entr(p).sum(1).mean()


def kl_sparsity(a: torch.Tensor, rho: float = 0.05) -> torch.Tensor:
    active = torch.distributions.Bernoulli(probs=a.mean(0))
    wanted = torch.distributions.Bernoulli(probs=torch.full((a.shape[1],), rho, dtype=torch.float64))
    return torch.distributions.kl_divergence(wanted, active).sum()


def images(*shape: int, scale: float = 1.0, **p: float) -> Case:
    return case(x=uniform(0, scale, *shape), y=uniform(0, scale, *shape), parameters=p)


def attended(b: int, t: int, v: int) -> Case:
    return case(logits=normal(b, t, v), target=labels(v, b, t), attention=uniform(0, 1, b, t))


REFERENCES = {
    "feature_distance": Reference(
        "perceptual/feature_distance",
        feature_distance,
        (
            case(x=normal(2, 3, 4, 5), y=normal(2, 3, 4, 5), weight=uniform(0, 1, 3)),
            case(x=normal(1, 4, 3, 2), y=normal(1, 4, 3, 2), parameters={"normalise": True}),
            case(
                x=normal(2, 2, 2, 3),
                y=normal(2, 2, 2, 3),
                weight=uniform(0, 2, 2),
                parameters={"normalise": True, "eps": 0.1},
            ),
        ),
        at=(case(x=full(0.0, 1, 2, 2, 2), y=normal(1, 2, 2, 2), parameters={"normalise": True, "eps": 0.1}),),
    ),
    "gram_style": Reference(
        "perceptual/gram_style",
        gram_style,
        (images(2, 3, 4, 5), images(1, 5, 2, 2, scale=4.0), images(3, 1, 3, 2)),
        at=(case(x=full(1.0, 1, 2, 3, 3), y=full(1.0, 1, 2, 3, 3)),),
    ),
    "ssim": Reference(
        "perceptual/ssim",
        ssim,
        (
            images(1, 2, 12, 13),
            images(2, 1, 11, 14, scale=4.0, data_range=4.0, sigma=0.8),
            images(1, 1, 13, 11, k1=0.2, k2=0.5),
        ),
        at=(case(x=full(0.5, 1, 1, 12, 11), y=full(0.5, 1, 1, 12, 11)),),
    ),
    "ms_ssim": Reference(
        "perceptual/ms_ssim",
        ms_ssim,
        (
            noisy(1, 1, 176, 177),
            noisy(2, 1, 180, 176, data_range=2.0, sigma=1.0),
            noisy(1, 1, 178, 183, k1=0.1, k2=0.2),
        ),
        (
            ("0.2856", "0.2956"),
            ("(i - 5)^2", "(i - 4)^2"),
            ("h = 2 * h + p", "h = h + p"),
            ("2 * spread(u, v)", "spread(u, v)"),
            ("* light(x5, y5)", "+ light(x5, y5)"),
        ),
    ),
    "gradient_difference": Reference(
        "perceptual/gradient_difference",
        gradient_difference,
        (images(2, 2, 4, 5), images(1, 1, 3, 6, alpha=2.0), images(1, 3, 4, 2, alpha=1.5, inner_abs=False)),
        at=(images(2, 1, 1, 4), case(x=full(0.5, 1, 1, 3, 3), y=full(0.5, 1, 1, 3, 3))),
    ),
    "attention_transfer": Reference(
        "perceptual/attention_transfer",
        attention_transfer,
        (
            case(student=normal(2, 3, 4, 5), teacher=normal(2, 6, 4, 5)),
            case(student=normal(1, 5, 2, 2), teacher=normal(1, 1, 2, 2)),
            case(student=normal(3, 1, 3, 2), teacher=normal(3, 2, 3, 2)),
        ),
        at=(case(student=full(0.0, 1, 2, 2, 2), teacher=normal(1, 2, 2, 2)),),
    ),
    "attention_weighted_ce": Reference(
        "perceptual/attention_weighted_ce",
        attention_weighted_ce,
        (attended(3, 4, 5), attended(2, 6, 3), attended(1, 3, 2)),
        at=(case(logits=normal(2, 3, 4), target=labels(4, 2, 3), attention=full(0.0, 2, 3)),),
    ),
    "charbonnier": Reference(
        "perceptual/charbonnier",
        charbonnier,
        (
            case(pred=normal(5, 3), target=normal(5, 3), parameters={"eps": 0.3}),
            case(pred=normal(7), target=normal(7), parameters={"eps": 1.5}),
            case(pred=normal(2, 2, 2), target=normal(2, 2, 2)),
        ),
        at=(case(pred=full(1.0, 4), target=full(1.0, 4)), case(pred=normal(4, scale=1e8), target=normal(4))),
    ),
    "l1_sparsity": Reference(
        "perceptual/l1_sparsity",
        l1_sparsity,
        (case(x=normal(5, 3)), case(x=normal(7)), case(x=normal(2, 2, 2))),
        mutants=(
            ("abs(x)", "relu(x)"),
            ("abs(x)", "x"),
            ("abs(x)", "x^2"),
            ("abs(x)", "2 * abs(x)"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(x=full(0.0, 4)),),
    ),
    "group_lasso": Reference(
        "perceptual/group_lasso",
        group_lasso,
        (case(w=normal(4, 3)), case(w=normal(2, 5), parameters={"scale": False}), case(w=normal(1, 2))),
        mutants=(
            ("norm(w over i)", "norm(w, p = 1 over i)"),
            ("sqrt(size(i))", "size(i)"),
            ("sqrt(size(i))", "sqrt(size(g))"),
            ("else 1", "else 2"),
            ("sum(per)", "mean(per)"),
        ),
        at=(case(w=full(0.0, 3, 2)),),
    ),
    "entropy_sparsity": Reference(
        "perceptual/entropy_sparsity",
        entropy_sparsity,
        (case(p=simplex(4, 3)), case(p=simplex(2, 6, scale=3)), case(p=simplex(5, 2))),
        mutants=(
            ("-sum", "sum"),
            ("sum(xlogy", "mean(xlogy"),
            ("xlogy(p, p)", "xlogy(1 - p, p)"),
            ("xlogy(p, p)", "xlogy(p, p + 1)"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(p=np.eye(3)), case(p=np.array([[0.0, 0.5, 0.5]]))),
    ),
    "kl_sparsity": Reference(
        "perceptual/kl_sparsity",
        kl_sparsity,
        (
            case(a=uniform(0.01, 0.99, 4, 3)),
            case(a=uniform(0.01, 0.3, 6, 2), parameters={"rho": 0.2}),
            case(a=uniform(0.5, 0.99, 1, 5), parameters={"rho": 0.7}),
        ),
        at=(case(a=full(0.05, 3, 2)),),
    ),
}
