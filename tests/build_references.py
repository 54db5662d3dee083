"""Losses with independent values in plain torch (float64), for the builder's tests by value.

`SPELLED` are losses of tests/spelled; those of `build_written.py` have their text there. Each case: inputs from a
seeded generator, and the value (and reports, by name) as the formula says it. Nothing here reads what the builder
makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Case:
    name: str
    inputs: Callable[[np.random.Generator], Arrays]
    value: Callable[..., Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    file: str = ""
    stopped: bool = False  # part of the derivative is stopped, so that differences do not show it


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def pairwise(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


def info_nce(q: Any, k: Any, temperature: float = 0.07) -> Any:
    return F.cross_entropy(q @ k.T / temperature, torch.arange(len(q)))


def supcon(z: Any, label: Any, temperature: float = 0.1) -> Any:
    z = F.normalize(z, dim=1)
    sim = z @ z.T / temperature
    n = len(z)
    total, rows = 0.0, 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        positives = [j for j in others if label[j] == label[i]]
        if positives:
            lse = torch.logsumexp(sim[i, others], 0)
            total = total - (sim[i, positives] - lse).mean()
            rows += 1
    return total / rows


def batch_hard(z: Any, label: Any, margin: float = 0.2) -> Any:
    d = pairwise(z, z).sqrt()
    out = []
    for i in range(len(z)):
        same = [d[i, j] for j in range(len(z)) if j != i and label[j] == label[i]]
        other = [d[i, j] for j in range(len(z)) if label[j] != label[i]]
        far = max(same) if same else torch.tensor(0.0)
        near = min(other) if other else torch.tensor(float("inf"))
        out.append(torch.relu(far - near + margin))
    return torch.stack([o.double() for o in out]).mean()


def barlow(a: Any, b: Any, weight: float = 0.005) -> Any:
    def standard(x: Any) -> Any:
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()

    c = standard(a).T @ standard(b) / len(a)
    on = ((1 - torch.diagonal(c)) ** 2).sum()
    return on + weight * ((c**2).sum() - (torch.diagonal(c) ** 2).sum())


def vicreg(x: Any, y: Any) -> Any:
    def spread(a: Any) -> Any:
        return torch.relu(1 - (a.var(0, correction=1) + 1e-4).sqrt()).mean()

    def coupling(a: Any) -> Any:
        c = torch.cov(a.T)
        return ((c**2).sum() - (torch.diagonal(c) ** 2).sum()) / a.shape[1]

    return 25 * F.mse_loss(x, y) + 25 * (spread(x) + spread(y)) / 2 + coupling(x) + coupling(y)


def mmd(x: Any, y: Any) -> Any:
    widths = torch.tensor([0.25, 0.5, 1, 2, 4], dtype=torch.float64)

    def kernel(s: Any) -> Any:
        return torch.exp(-s[..., None] / (2 * widths**2)).mean(-1)

    def off(k: Any) -> Any:
        n = len(k)
        return (k.sum() - torch.diagonal(k).sum()) / (n * (n - 1))

    return off(kernel(pairwise(x, x))) + off(kernel(pairwise(y, y))) - 2 * kernel(pairwise(x, y)).mean()


def multi_similarity(z: Any, label: Any, alpha: float = 2, beta: float = 50, base: float = 0.5) -> Any:
    s = z @ z.T
    out = []
    for i in range(len(z)):
        pos = sum(torch.exp(-alpha * (s[i, j] - base)) for j in range(len(z)) if j != i and label[j] == label[i])
        neg = sum(torch.exp(beta * (s[i, j] - base)) for j in range(len(z)) if label[j] != label[i])
        out.append(torch.log1p(torch.as_tensor(pos)) / alpha + torch.log1p(torch.as_tensor(neg)) / beta)
    return torch.stack([o.double() for o in out]).mean()


def arcface(cosine: Any, target: Any, margin: float = 0.5, scale: float = 64) -> Any:
    hot = F.one_hot(target, cosine.shape[1]).bool()
    angle = torch.acos(cosine.clamp(-1 + 1e-7, 1 - 1e-7))
    return F.cross_entropy(scale * torch.where(hot, torch.cos(angle + margin), cosine), target)


def crps(x: Any, y: Any) -> Any:
    a = (x - y[:, None]).abs().mean(1)
    b = (x[:, :, None] - x[:, None, :]).abs().mean((1, 2))
    return (a - b / 2).mean()


def group_dro(per: Any, group: Any, weight: Any) -> Any:
    risks = [per[group == g].mean() if (group == g).any() else torch.zeros(()).double() for g in range(len(weight))]
    return (weight * torch.stack(risks)).sum()


def mutual_information(x: Any, y: Any, width: float = 0.05) -> Any:
    k = torch.arange(16, dtype=torch.float64) / 15

    def weight(a: Any) -> Any:
        w = torch.exp(-(((a[..., None] - k) / width) ** 2) / 2)
        return w / w.sum(-1, keepdim=True)

    joint = torch.einsum("bpu,bpv->buv", weight(x), weight(y)) / x.shape[1]
    px, py = joint.sum(2, keepdim=True), joint.sum(1, keepdim=True)
    return -(torch.xlogy(joint, joint) - torch.xlogy(joint, px * py)).sum((1, 2)).mean()


def total_variation(x: Any) -> Any:
    return (x[:, :, 1:] - x[:, :, :-1]).abs().mean() + (x[..., 1:] - x[..., :-1]).abs().mean()


def ssim(x: Any, y: Any, sigma: float = 1.5) -> Any:
    i = torch.arange(11, dtype=torch.float64)
    g = torch.exp(-((i - 5) ** 2) / (2 * sigma**2))
    g = g / g.sum()
    kernel = (g[:, None] * g)[None, None].expand(x.shape[1], 1, 11, 11)

    def blur(a: Any) -> Any:
        return F.conv2d(a, kernel, groups=x.shape[1])

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    s = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    return 1 - s.mean()


def local_ncc(fixed: Any, moving: Any) -> Any:
    def box(a: Any) -> Any:
        return F.conv2d(a[:, None], torch.ones(1, 1, 9, 9).double(), padding=4)[:, 0] / 81

    cross = box(fixed * moving) - box(fixed) * box(moving)
    vf, vm = box(fixed**2) - box(fixed) ** 2, box(moving**2) - box(moving) ** 2
    return 1 - (cross**2 / (vf.clamp(min=1e-5) * vm.clamp(min=1e-5))).mean()


def giou(pred: Any, target: Any, eps: float = 1e-7) -> Any:
    def area(b: Any) -> Any:
        return (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])

    lt, rb = torch.maximum(pred[:, :2], target[:, :2]), torch.minimum(pred[:, 2:], target[:, 2:])
    inter = torch.relu(rb - lt).prod(1)
    union = area(pred) + area(target) - inter
    hull = (torch.maximum(pred[:, 2:], target[:, 2:]) - torch.minimum(pred[:, :2], target[:, :2])).prod(1)
    return (1 - inter / (union + eps) + (hull - union) / (hull + eps)).mean()


def gram_style(x: Any, y: Any) -> Any:
    def gram(a: Any) -> Any:
        return torch.einsum("bchw,behw->bce", a, a) / a[0].numel()

    return ((gram(x) - gram(y)) ** 2).mean()


def stft(x: Any, y: Any, floor: float = 1e-5) -> Any:
    i = torch.arange(64, dtype=torch.float64)
    hann = (1 - torch.cos(2 * torch.pi * i / 64)) / 2

    def power(a: Any) -> Any:
        return torch.fft.rfft(a.unfold(1, 64, 16) * hann).abs() ** 2

    return (power(x).clamp(min=floor).log() - power(y).clamp(min=floor).log()).abs().mean() / 2


def ppo(
    logits: Any, action: Any, logp_old: Any, advantage: Any, value: Any, ret: Any, clip: float = 0.2
) -> dict[str, Any]:
    logp = F.log_softmax(logits, 1)
    taken = logp.gather(1, action[:, None])[:, 0]
    ratio = (taken - logp_old).exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    entropy = -(logp.exp() * logp).sum(1)
    return {
        "return": -surrogate.mean() + 0.5 * F.mse_loss(value, ret) / 2 - 0.01 * entropy.mean(),
        "clip_fraction": ((ratio - 1).abs() > clip).double().mean(),
        "kl": (logp_old - taken).mean(),
    }


def token_ce(logits: Any, target: Any, length: Any, z_weight: float = 0.0) -> Any:
    lse = logits.logsumexp(2)
    per = lse - logits.gather(2, target[..., None])[..., 0] + z_weight * lse**2
    mask = torch.arange(logits.shape[1]) < length[:, None]
    return per[mask].mean()


def dpo(chosen: Any, rejected: Any, chosen_ref: Any, rejected_ref: Any, beta: float = 0.1) -> dict[str, Any]:
    m = beta * ((chosen - chosen_ref) - (rejected - rejected_ref))
    return {"return": -F.logsigmoid(m).mean(), "accuracy": (m > 0).double().mean()}


def grpo(logp: Any, logp_old: Any, logp_ref: Any, reward: Any, length: Any, clip: float = 0.2) -> Any:
    advantage = (reward - reward.mean(1, keepdim=True)) / (reward.std(1, keepdim=True) + 1e-4)
    ratio = (logp - logp_old).exp()
    a = advantage[..., None]
    surrogate = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    kl = (logp_ref - logp).exp() - (logp_ref - logp) - 1
    mask = (torch.arange(logp.shape[2]) < length[..., None]).double()
    return -(((surrogate - 0.04 * kl) * mask).sum(2) / mask.sum(2)).mean()


def cox(risk: Any, time: Any, event: Any) -> Any:
    terms = [torch.logsumexp(risk[time >= time[i]], 0) - risk[i] for i in range(len(risk)) if event[i] == 1]
    return torch.stack(terms).mean() if terms else torch.zeros(())


def focal(logits: Any, target: Any, gamma: float = 2.0, alpha: float = 0.25) -> Any:
    bce = F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    balance = alpha * target + (1 - alpha) * (1 - target)
    return (balance * (1 - torch.exp(-bce)) ** gamma * bce).mean()


def hybrid(logits: Any, target: Any) -> dict[str, Any]:
    p = torch.sigmoid(logits)
    dice = 1 - (2 * (p * target).sum(1) + 1) / ((p + target).sum(1) + 1)
    return {"return": focal(logits, target, 1.5) + dice.mean(), "overlap": dice.mean()}


def uncertainty(task: Any, log_variance: Any) -> dict[str, Any]:
    w = torch.exp(-log_variance)
    return {"return": (w * task / 2 + log_variance / 2).sum(), "weights": w}


def heat(u_t: Any, u_xx: Any, boundary: Any, wanted: Any) -> Any:
    return F.mse_loss(u_t, u_xx) + F.mse_loss(boundary, wanted)


def gradient_penalty(real_score: Any, fake_score: Any, slope: Any, weight: float = 10) -> Any:
    return fake_score.mean() - real_score.mean() + weight * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()


def gce(logits: Any, target: Any, q: float = 0.7, floor: float = 0.5) -> Any:
    p = F.softmax(logits, 1).gather(1, target[:, None])[:, 0]
    return torch.where(p > floor, (1 - p**q) / q, torch.full_like(p, (1 - floor**q) / q)).mean()


def beta_nll(mean_: Any, variance: Any, y: Any, beta: float = 0.5) -> Any:
    return (variance**beta * ((mean_ - y) ** 2 / variance + variance.log()) / 2).mean()


def labels(g: np.random.Generator, n: int, c: int) -> np.ndarray:
    return g.integers(0, c, n)


def binary_labels(g: np.random.Generator) -> Arrays:
    return {"logits": g.normal(size=(3, 4)), "target": labels(g, 12, 2).reshape(3, 4)}


def images(g: np.random.Generator) -> Arrays:
    return {n: g.uniform(0, 1, (1, 2, 14, 13)) for n in ("x", "y")}


SPELLED = (
    Case("info_nce", lambda g: {"q": g.normal(size=(5, 3)), "k": g.normal(size=(5, 3))}, info_nce, file="pairs"),
    Case("supcon", lambda g: {"z": g.normal(size=(7, 3)), "label": labels(g, 7, 3)}, supcon, file="pairs"),
    Case(
        "batch_hard_triplet", lambda g: {"z": g.normal(size=(7, 3)), "label": labels(g, 7, 3)}, batch_hard, file="pairs"
    ),
    Case("barlow_twins", lambda g: {"a": g.normal(size=(6, 4)), "b": g.normal(size=(6, 4))}, barlow, file="pairs"),
    Case("vicreg", lambda g: {"x": g.normal(size=(6, 4)), "y": g.normal(size=(6, 4))}, vicreg, file="pairs"),
    Case("mmd", lambda g: {"x": g.normal(size=(5, 3)), "y": g.normal(size=(4, 3))}, mmd, file="pairs"),
    Case(
        "multi_similarity",
        lambda g: {"z": unit(g.normal(size=(6, 3))), "label": labels(g, 6, 3)},
        multi_similarity,
        file="pairs",
    ),
    Case("arcface", lambda g: {"cosine": g.uniform(-1, 1, (5, 4)), "target": labels(g, 5, 4)}, arcface, file="pairs"),
    Case(
        "chamfer",
        lambda g: {"x": g.normal(size=(2, 4, 3)), "y": g.normal(size=(2, 5, 3))},
        lambda x, y: pairwise(x, y).min(2).values.mean() + pairwise(x, y).min(1).values.mean(),
        file="pairs",
    ),
    Case("crps_ensemble", lambda g: {"x": g.normal(size=(4, 5)), "y": g.normal(size=4)}, crps, file="pairs"),
    Case(
        "group_dro",
        lambda g: {"per": g.normal(size=8), "group": labels(g, 8, 3), "weight": g.uniform(0, 1, 4)},
        group_dro,
        file="pairs",
    ),
    Case(
        "mutual_information",
        lambda g: {"x": g.uniform(0, 1, (2, 9)), "y": g.uniform(0, 1, (2, 9))},
        mutual_information,
        file="pairs",
    ),
    Case("total_variation", lambda g: {"x": g.normal(size=(2, 3, 5, 4))}, total_variation, file="images"),
    Case(
        "ssim",
        images,
        ssim,
        file="images",
    ),
    Case(
        "local_ncc",
        lambda g: {"fixed": g.normal(size=(2, 11, 10)), "moving": g.normal(size=(2, 11, 10))},
        local_ncc,
        file="images",
    ),
    Case(
        "giou",
        lambda g: {
            "pred": np.sort(g.uniform(0, 1, (6, 2, 2)), 1).reshape(6, 4),
            "target": np.sort(g.uniform(0, 1, (6, 2, 2)), 1).reshape(6, 4),
        },
        giou,
        file="images",
    ),
    Case(
        "gram_style",
        lambda g: {"x": g.normal(size=(2, 3, 4, 5)), "y": g.normal(size=(2, 3, 4, 5))},
        gram_style,
        file="images",
    ),
    Case("stft_magnitude", lambda g: {"x": g.normal(size=(2, 100)), "y": g.normal(size=(2, 100))}, stft, file="images"),
    Case(
        "ppo",
        lambda g: {
            "logits": g.normal(size=(6, 4)),
            "action": labels(g, 6, 4),
            "logp_old": -g.uniform(0.5, 2, 6),
            "advantage": g.normal(size=6),
            "value": g.normal(size=6),
            "ret": g.normal(size=6),
        },
        ppo,
        file="sequences",
    ),
    Case(
        "token_cross_entropy",
        lambda g: {
            "logits": g.normal(size=(3, 4, 5)),
            "target": g.integers(0, 5, (3, 4)),
            "length": np.array([0, 4, 2]),
        },
        token_ce,
        {"z_weight": 0.3},
        file="sequences",
    ),
    Case(
        "dpo",
        lambda g: {n: g.normal(size=5) for n in ("chosen", "rejected", "chosen_ref", "rejected_ref")},
        dpo,
        file="sequences",
    ),
    Case(
        "grpo",
        lambda g: {
            **{n: -g.uniform(0.1, 2, (2, 3, 4)) for n in ("logp", "logp_old", "logp_ref")},
            "reward": g.normal(size=(2, 3)),
            "length": np.array([[1, 4, 2], [3, 3, 4]]),
        },
        grpo,
        file="sequences",
    ),
    Case(
        "cox",
        lambda g: {"risk": g.normal(size=6), "time": g.uniform(0, 1, 6), "event": np.array([1, 0, 1, 1, 0, 1])},
        cox,
        file="sequences",
    ),
    Case(
        "focal",
        binary_labels,
        focal,
        file="training",
    ),
    Case(
        "hybrid",
        binary_labels,
        hybrid,
        file="training",
    ),
    Case(
        "uncertainty_weighting",
        lambda g: {"task": g.uniform(0, 1, 4), "log_variance": g.normal(size=4)},
        uncertainty,
        file="training",
    ),
    Case(
        "heat_residual",
        lambda g: {
            "u_t": g.normal(size=5),
            "u_xx": g.normal(size=5),
            "boundary": g.normal(size=3),
            "wanted": g.normal(size=3),
        },
        heat,
        file="training",
    ),
    Case(
        "gradient_penalty",
        lambda g: {"real_score": g.normal(size=4), "fake_score": g.normal(size=4), "slope": g.normal(size=(4, 3, 2))},
        gradient_penalty,
        file="training",
    ),
    Case(
        "generalised_cross_entropy",
        lambda g: {"logits": g.normal(size=(6, 3)), "target": labels(g, 6, 3)},
        gce,
        file="training",
    ),
    Case(
        "beta_nll",
        lambda g: {"mean_": g.normal(size=5), "variance": g.uniform(0.1, 2, 5), "y": g.normal(size=5)},
        beta_nll,
        file="training",
    ),
)
