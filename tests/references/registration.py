"""References of losses of image registration and medical imaging, with torch's convolutions and pooling."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Reference, binary, case, full, normal, uniform


def ncc(x: torch.Tensor, y: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    total = x.sum() * 0
    for a, b in zip(x.flatten(1), y.flatten(1)):
        a, b = a - a.mean(), b - b.mean()
        total = total + 1 - torch.dot(a, b) / torch.sqrt(torch.dot(a, a) * torch.dot(b, b) + eps)
    return total / len(x)


def lncc(x: torch.Tensor, y: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    kernel = torch.ones(1, 1, 3, 3, dtype=x.dtype)

    def box(a: torch.Tensor) -> torch.Tensor:
        return F.conv2d(a.flatten(0, 1)[:, None], kernel, padding=1)

    mx, my = box(x) / 9, box(y) / 9
    cross = box(x * y) - my * box(x)
    vx = torch.clamp(box(x * x) - mx * box(x), min=eps)
    vy = torch.clamp(box(y * y) - my * box(y), min=eps)
    return -(cross / vx * (cross / vy)).mean()


def mutual_information(x: torch.Tensor, y: torch.Tensor, eps: float = 1e-7, ratio: float = 0.5) -> torch.Tensor:
    bins = 23
    centers = torch.arange(bins, dtype=torch.float64) / (bins - 1)
    sigma = ratio / (bins - 1)

    def weights(a: torch.Tensor) -> torch.Tensor:
        w = torch.exp(-((a.clamp(0, 1)[:, None] - centers) ** 2) / (2 * sigma**2))
        return w / w.sum(1, keepdim=True)

    total = x.sum() * 0
    for a, b in zip(x, y):
        joint = weights(a).T @ weights(b) / len(a)
        product = torch.outer(joint.sum(1), joint.sum(0))
        total = total - (joint * torch.log((joint + eps) / (product + eps) + eps)).sum()
    return total / len(x)


def convolved(u: torch.Tensor, kernel: list[list[float]]) -> torch.Tensor:
    """The cross-correlation of each component with a 3 x 3 kernel, on interior pixels."""
    k = torch.tensor(kernel, dtype=u.dtype)[None, None]
    return F.conv2d(u.flatten(0, 1)[:, None], k)


def diffusion_smoothness(u: torch.Tensor) -> torch.Tensor:
    down = convolved(u, [[0, -0.5, 0], [0, 0, 0], [0, 0.5, 0]])
    right = convolved(u, [[0, 0, 0], [-0.5, 0, 0.5], [0, 0, 0]])
    return down.square().mean() + right.square().mean()


def bending_energy(u: torch.Tensor) -> torch.Tensor:
    hh = convolved(u, [[0, 1, 0], [0, -2, 0], [0, 1, 0]])
    ww = convolved(u, [[0, 0, 0], [1, -2, 1], [0, 0, 0]])
    hw = convolved(u, [[0.25, 0, -0.25], [0, 0, 0], [-0.25, 0, 0.25]])
    return hh.square().mean() + ww.square().mean() + 2 * hw.square().mean()


def jacobian_folding(u: torch.Tensor) -> torch.Tensor:
    """Determinants of the differences of x + u(x)."""
    h, w = u.shape[2:]
    grid = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")).to(u.dtype)
    place = grid + u
    down = (place[:, :, 1:, :] - place[:, :, :-1, :])[..., :-1]
    right = (place[:, :, :, 1:] - place[:, :, :, :-1])[:, :, :-1]
    matrix = torch.stack([down, right], -1).permute(0, 2, 3, 1, 4)
    return torch.relu(-torch.linalg.det(matrix)).mean()


def boundary_loss(probability: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
    return torch.dot(probability.flatten(), distance.flatten()) / probability.numel()


def hausdorff_dt(
    probability: torch.Tensor,
    target: torch.Tensor,
    distance: torch.Tensor,
    target_distance: torch.Tensor,
    alpha: float = 2.0,
) -> torch.Tensor:
    field = distance.detach().pow(alpha) + target_distance.detach().pow(alpha)
    return F.mse_loss(probability, target, reduction="none").mul(field).mean()


def cldice(probability: torch.Tensor, target: torch.Tensor, smooth: float = 1.0, iterations: int = 3) -> torch.Tensor:
    def erode(a: torch.Tensor) -> torch.Tensor:
        return torch.minimum(-F.max_pool2d(-a, (3, 1), 1, (1, 0)), -F.max_pool2d(-a, (1, 3), 1, (0, 1)))

    def opened(a: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(erode(a), 3, 1, 1)

    def skeleton(a: torch.Tensor) -> torch.Tensor:
        s = F.relu(a - opened(a))
        for _ in range(iterations):
            a = erode(a)
            e = F.relu(a - opened(a))
            s = s + F.relu(e - s * e)
        return s

    per = []
    for p, t in zip(probability, target):
        sp, st = skeleton(p[None])[0], skeleton(t[None])[0]
        precision = ((sp * t).sum() + smooth) / (sp.sum() + smooth)
        recall = ((st * p).sum() + smooth) / (st.sum() + smooth)
        per.append(1 - 2 / (1 / precision + 1 / recall))
    return torch.stack(per).mean()


def images(*shape: int, low: float = 0.0, high: float = 1.0, **p: float) -> Case:
    return case(x=uniform(low, high, *shape), y=uniform(low, high, *shape), parameters=p)


def distances(*shape: int, **p: float) -> Case:
    return case(
        probability=uniform(0, 1, *shape),
        target=uniform(0, 1, *shape),
        distance=uniform(0, 3, *shape),
        target_distance=uniform(0, 3, *shape),
        parameters=p,
    )


def masks(*shape: int, **p: float) -> Case:
    return case(probability=uniform(0, 1, *shape), target=uniform(0, 1, *shape), parameters=p)


def hard_masks(rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
    return {"probability": rng.random((2, 1, 6, 5)), "target": binary(2, 1, 6, 5)(rng).astype(float)}, {}


REFERENCES = {
    "ncc": Reference(
        "registration/ncc",
        ncc,
        (images(2, 3, 4), images(3, 7, high=5.0, eps=0.5), images(1, 2, 3, 2)),
        at=(case(x=full(1.0, 2, 5), y=normal(2, 5)), case(x=full(1.0, 1, 4), y=full(1.0, 1, 4))),
    ),
    "lncc": Reference(
        "registration/lncc",
        lncc,
        (images(2, 1, 4, 5), images(1, 2, 3, 3, high=3.0, eps=0.1), images(1, 1, 5, 2)),
        at=(case(x=full(1.0, 1, 1, 4, 4), y=uniform(0, 1, 1, 1, 4, 4)),),
    ),
    "mutual_information": Reference(
        "registration/mutual_information",
        mutual_information,
        (images(2, 12), images(1, 20, eps=1e-3), images(3, 6, ratio=2.0, eps=0.1)),
        at=(images(1, 8, low=-0.5, high=1.5), case(x=full(0.5, 1, 6), y=full(0.5, 1, 6))),
    ),
    "diffusion_smoothness": Reference(
        "registration/diffusion_smoothness",
        diffusion_smoothness,
        (case(u=normal(2, 2, 4, 5)), case(u=normal(1, 2, 3, 3, scale=4)), case(u=normal(1, 3, 6, 3))),
        at=(case(u=full(1.0, 1, 2, 3, 4)),),
    ),
    "bending_energy": Reference(
        "registration/bending_energy",
        bending_energy,
        (case(u=normal(2, 2, 4, 5)), case(u=normal(1, 2, 3, 3, scale=4)), case(u=normal(1, 3, 6, 3))),
        at=(case(u=full(1.0, 1, 2, 3, 4)),),
    ),
    "jacobian_folding": Reference(
        "registration/jacobian_folding",
        jacobian_folding,
        (case(u=normal(2, 2, 4, 5)), case(u=normal(1, 2, 3, 3, scale=4)), case(u=normal(1, 2, 6, 3, scale=2))),
        at=(case(u=full(0.0, 1, 2, 3, 4)),),
    ),
    "boundary_loss": Reference(
        "registration/boundary_loss",
        boundary_loss,
        (
            case(probability=uniform(0, 1, 2, 2, 3, 4), distance=normal(2, 2, 3, 4, scale=3)),
            case(probability=uniform(0, 1, 1, 3, 5), distance=normal(1, 3, 5)),
            case(probability=uniform(0, 1, 3, 1), distance=normal(3, 1)),
        ),
        mutants=(
            ("probability * distance", "probability + distance"),
            ("probability * distance", "(1 - probability) * distance"),
            ("probability * distance", "probability * abs(distance)"),
            ("probability * distance", "probability - distance"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(probability=uniform(0, 1, 1, 2, 3), distance=full(0.0, 1, 2, 3)),),
    ),
    "hausdorff_dt": Reference(
        "registration/hausdorff_dt",
        hausdorff_dt,
        (distances(2, 2, 3, 4), distances(1, 3, 5, alpha=1.5), distances(3, 1, 2, 2, 2, alpha=1.0)),
        at=(case(**{n: full(0.0, 1, 1, 3) for n in ("probability", "target", "distance", "target_distance")}),),
    ),
    "cldice": Reference(
        "registration/cldice",
        cldice,
        (masks(2, 1, 6, 5), masks(1, 2, 5, 4, smooth=0.3, iterations=1), masks(1, 1, 4, 7, iterations=2)),
        at=(hard_masks, case(probability=full(0.0, 1, 1, 4, 4), target=full(0.0, 1, 1, 4, 4))),
    ),
}
