"""References of the sample of losses that every test runs on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Reference


def pair(*shape: int, spread: float = 2.0, **parameters: Any) -> Case:
    return lambda rng: ({"pred": rng.normal(size=shape) * spread, "target": rng.normal(size=shape)}, parameters)


def at_kink(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
    x = rng.normal(size=7)
    return {"pred": x.copy(), "target": x.copy()}, {}


def huge(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
    return {"pred": rng.normal(size=9) * 1e8, "target": rng.normal(size=9)}, {}


def quantile(pred: torch.Tensor, target: torch.Tensor, tau: float = 0.5) -> torch.Tensor:
    u = target - pred
    return torch.where(u >= 0, tau * u, (tau - 1) * u).mean()


def log_cosh(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    r = pred - target
    return (torch.logaddexp(r, -r) - math.log(2)).mean()


# ------------------------------------------------------------------------------------------ classification


def logits_case(
    n: int, c: int, *rest: int, scale: float = 2.0, ignored: float = 0.3, weights: bool = True, **p: Any
) -> Case:
    def make(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
        target = rng.integers(0, c, size=(n, *rest))
        if ignored:
            target = np.where(rng.random(target.shape) < ignored, p.get("ignore_index", -100), target)
        inputs = {"logits": rng.normal(size=(n, c, *rest)) * scale, "target": target}
        if weights:
            inputs["weight"] = rng.random(c) + 0.1
        return inputs, p

    return make


def cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    smoothing: float = 0.0,
    ignore_index: int = -100,
) -> torch.Tensor:
    if bool((target == ignore_index).all()):
        return (logits * 0).sum()
    if smoothing and weight is None:  # torch's own gradient is off by 1e-9 here: the formula of its documentation
        q = (1 - smoothing) * F.one_hot(target.clamp(min=0), logits.shape[1]).double() + smoothing / logits.shape[1]
        per = -(q * torch.log_softmax(logits, 1)).sum(1)
        return per[target != ignore_index].mean()
    return F.cross_entropy(logits, target, weight=weight, ignore_index=ignore_index, label_smoothing=smoothing)


def all_ignored(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
    return {"logits": rng.normal(size=(4, 3)), "target": np.full(4, -100), "weight": np.ones(3)}, {}


def binary_case(
    target: str, *shape: int, scale: float = 3.0, name: str = "logits", y: str = "target", **p: Any
) -> Case:
    def make(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
        values: dict[str, np.ndarray] = {
            "unit": rng.random(shape),
            "binary": rng.integers(0, 2, size=shape),
            "sign": 2 * rng.integers(0, 2, size=shape) - 1,
        }
        return {name: rng.normal(size=shape) * scale, y: values[target]}, p

    return make


def binary_cross_entropy(logits: torch.Tensor, target: torch.Tensor, pos_weight: float = 1.0) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, pos_weight=torch.tensor(pos_weight, dtype=torch.float64))


def hinge(score: torch.Tensor, y: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    return torch.relu(margin - y * score).mean()


def hinge_kink(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
    y = 2 * rng.integers(0, 2, size=6) - 1
    return {"score": y.astype(float), "y": y}, {}


def squared_hinge(score: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.relu(1 - y * score).square().mean()


def focal(logits: torch.Tensor, target: torch.Tensor, gamma: float = 2.0, alpha: float = 0.25) -> torch.Tensor:
    z = torch.where(target == 1, logits, -logits)
    weight = alpha * target.double() + (1 - alpha) * (1 - target.double())
    return -(weight * torch.exp(gamma * F.logsigmoid(-z)) * F.logsigmoid(z)).mean()


# --------------------------------------------------------------------------------------------- segmentation


def masks(*shape: int, **p: Any) -> Case:
    return lambda rng: ({"prob": rng.random(shape), "target": (rng.random(shape) < 0.3).astype(float)}, p)


def empty_masks(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
    return {"prob": np.zeros((2, 3, 4)), "target": np.zeros((2, 3, 4))}, {}


def dice(prob: torch.Tensor, target: torch.Tensor, smooth_nr: float = 1e-5, smooth_dr: float = 1e-5) -> torch.Tensor:
    p, t = prob.flatten(2), target.flatten(2)
    return (1 - (2 * (p * t).sum(2) + smooth_nr) / (p.sum(2) + t.sum(2) + smooth_dr)).mean()


def tversky(
    prob: torch.Tensor,
    target: torch.Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
) -> torch.Tensor:
    p, t = prob.flatten(2), target.flatten(2)
    tp, fp, fn = (p * t).sum(2), (p * (1 - t)).sum(2), ((1 - p) * t).sum(2)
    return (1 - (tp + smooth_nr) / (tp + alpha * fp + beta * fn + smooth_dr)).mean()


# ------------------------------------------------------------------------------------- divergence and metric


def simplex_case(n: int, c: int, zeros: bool = False, scale: float = 2.0) -> Case:
    def make(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
        target = rng.dirichlet(np.ones(c), size=n)
        if zeros:
            target = np.eye(c)[rng.integers(0, c, size=n)]
        return {"logits": rng.normal(size=(n, c)) * scale, "target": target}, {}

    return make


def kl_divergence(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.kl_div(F.log_softmax(logits, 1), target.detach(), reduction="batchmean")


def triplet(
    anchor: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, margin: float = 1.0, eps: float = 1e-6
) -> torch.Tensor:
    return F.triplet_margin_loss(anchor, positive, negative, margin=margin, eps=eps)


def triplet_case(b: int, d: int, **p: Any) -> Case:
    names = ("anchor", "positive", "negative")
    return lambda rng: ({name: rng.normal(size=(b, d)) for name in names}, p)


def contrastive(a: torch.Tensor, b: torch.Tensor, same: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    distance = torch.linalg.vector_norm(a - b, dim=1)
    return (torch.where(same, distance.square(), torch.relu(margin - distance).square()) / 2).mean()


def contrastive_case(n: int, d: int, **p: Any) -> Case:
    return lambda rng: (
        {"a": rng.normal(size=(n, d)), "b": rng.normal(size=(n, d)), "same": rng.random(n) < 0.5},
        p,
    )


def batch_hard_triplet(z: torch.Tensor, label: torch.Tensor, margin: float = 0.2) -> torch.Tensor:
    n = len(z)
    distance = torch.stack([torch.stack([torch.linalg.vector_norm(z[i] - z[j]) for j in range(n)]) for i in range(n)])
    total = z.sum() * 0
    for i in range(n):
        near, far = torch.tensor(float("inf"), dtype=z.dtype), torch.zeros((), dtype=z.dtype)
        for j in range(n):
            if j != i and label[i] == label[j]:
                far = torch.maximum(far, distance[i, j])
            if label[i] != label[j]:
                near = torch.minimum(near, distance[i, j])
        total = total + torch.relu(far - near + margin)
    return total / n


def embeddings(n: int, d: int, classes: int, **p: Any) -> Case:
    return lambda rng: ({"z": rng.normal(size=(n, d)), "label": rng.integers(0, classes, size=n)}, p)


def info_nce(q: torch.Tensor, k: torch.Tensor, temperature: float = 0.07) -> torch.Tensor:
    return F.cross_entropy(q @ k.T / temperature, torch.arange(len(q)))


def views(n: int, d: int, **p: Any) -> Case:
    return lambda rng: ({"q": rng.normal(size=(n, d)) * 0.3, "k": rng.normal(size=(n, d)) * 0.3}, p)


# -------------------------------------------------------------------------- uncertainty, multitask and robust


def gaussian_nll(pred: torch.Tensor, log_variance: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.gaussian_nll_loss(pred, target, log_variance.exp(), eps=1e-300)


def gaussian_case(*shape: int) -> Case:
    return lambda rng: ({name: rng.normal(size=shape) for name in ("pred", "log_variance", "target")}, {})


def evidential_regression(
    gamma: torch.Tensor,
    target: torch.Tensor,
    nu: torch.Tensor,
    beta: torch.Tensor,
    alpha: torch.Tensor,
    penalty: float = 0.01,
) -> torch.Tensor:
    student = torch.distributions.StudentT(2 * alpha, gamma, torch.sqrt(beta * (1 + nu) / (nu * alpha)))
    return (-student.log_prob(target) + penalty * (target - gamma).abs() * (2 * nu + alpha)).mean()


def evidence(n: int, **p: Any) -> Case:
    return lambda rng: (
        {
            "gamma": rng.normal(size=n),
            "target": rng.normal(size=n),
            "nu": rng.random(n) + 0.1,
            "beta": rng.random(n) + 0.1,
            "alpha": rng.random(n) + 1.1,
        },
        p,
    )


def uncertainty_weighting(task: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    return (0.5 / log_variance.exp() * task + log_variance / 2).sum()


def tasks(k: int) -> Case:
    return lambda rng: ({"task": rng.random(k) * 3, "log_variance": rng.normal(size=k)}, {})


def generalised_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, q: float = 0.7, floor: float = 0.5
) -> torch.Tensor:
    p = torch.softmax(logits, 1)[torch.arange(len(logits)), target]
    kept = (1 - p**q) / q
    return torch.where(p > floor, kept, torch.full_like(p, (1 - floor**q) / q)).mean()


def cauchy(pred: torch.Tensor, target: torch.Tensor, c: float = 1.0) -> torch.Tensor:
    return torch.log(1 + ((pred - target) / c) ** 2 / 2).mean()


def student_t(pred: torch.Tensor, target: torch.Tensor, nu: float = 3.0, scale: float = 1.0) -> torch.Tensor:
    one = torch.ones_like(pred)
    return -torch.distributions.StudentT(nu * one, pred, scale * one).log_prob(target).mean()


# ------------------------------------------------------------------------------- reinforcement, generative, images


def ppo(
    logits: torch.Tensor,
    action: torch.Tensor,
    logp_old: torch.Tensor,
    advantage: torch.Tensor,
    value: torch.Tensor,
    ret: torch.Tensor,
    clip: float = 0.2,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
) -> torch.Tensor:
    policy = torch.distributions.Categorical(logits=logits)
    ratio = torch.exp(policy.log_prob(action) - logp_old)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    surrogate = torch.where(ratio * advantage <= clipped * advantage, ratio * advantage, clipped * advantage)
    return -surrogate.mean() + value_weight * F.mse_loss(value, ret) / 2 - entropy_weight * policy.entropy().mean()


def ppo_case(n: int, a: int, **p: Any) -> Case:
    def make(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
        logits = rng.normal(size=(n, a))
        action = rng.integers(0, a, size=n)
        logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        old = logp[np.arange(n), action] + rng.normal(size=n) * 0.3
        values = {name: rng.normal(size=n) for name in ("advantage", "value", "ret")}
        return {"logits": logits, "action": action, "logp_old": old, **values}, p

    return make


def wgan_critic(real_score: torch.Tensor, fake_score: torch.Tensor) -> torch.Tensor:
    return fake_score.mean() - real_score.mean()


def scores(n: int, m: int) -> Case:
    return lambda rng: ({"real_score": rng.normal(size=n), "fake_score": rng.normal(size=m)}, {})


def total_variation(x: torch.Tensor) -> torch.Tensor:
    return torch.diff(x, dim=2).abs().mean() + torch.diff(x, dim=3).abs().mean()


def image(*shape: int) -> Case:
    return lambda rng: ({"x": rng.normal(size=shape)}, {})


def masked_class(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
    logits = rng.normal(size=(4, 5))
    logits[:, 2] = -np.inf
    return {"logits": logits, "target": np.array([0, 1, 3, 4])}, {}


REFERENCES: dict[str, Reference] = {
    "mse": Reference(
        "regression/mse",
        lambda pred, target: F.mse_loss(pred, target),
        (pair(8), pair(3, 4), pair(2, 3, 5), at_kink, huge),
        (
            ("(pred - target)^2", "(pred - target)^4"),
            ("pred - target", "pred + target"),
            ("return mean(per)", "return sum(per)"),
            ("return mean(per)", "return mean(per) / 2"),
            ("(pred - target)^2", "abs(pred - target)"),
        ),
    ),
    "mae": Reference(
        "regression/mae",
        lambda pred, target: F.l1_loss(pred, target),
        (pair(8), pair(3, 4), at_kink, huge),
        (
            ("abs(pred - target)", "abs(pred + target)"),
            ("abs(pred - target)", "relu(pred - target)"),
            ("return mean(per)", "return sum(per)"),
            ("return mean(per)", "return 2 * mean(per)"),
            ("abs(pred - target)", "(pred - target)"),
        ),
    ),
    "huber": Reference(
        "regression/huber",
        lambda pred, target, delta=1.0: F.huber_loss(pred, target, delta=delta),
        (pair(20), pair(3, 4, delta=0.5), pair(2, 3, 5, delta=3.0), at_kink, huge),
        (
            ("r^2 / 2", "r^2 / 3"),
            ("abs(r) <= delta", "abs(r) >= delta"),
            ("delta / 2)", "delta / 3)"),
            ("delta * (abs(r)", "(abs(r)"),
            ("r = pred - target", "r = pred + target"),
        ),
    ),
    "log_cosh": Reference(
        "regression/log_cosh",
        log_cosh,
        (pair(8), pair(3, 4, spread=10.0), at_kink, huge),
        (
            ("logcosh(pred - target)", "logcosh(pred + target)"),
            ("logcosh(pred - target)", "logcosh(2 * (pred - target))"),
            ("logcosh(pred - target)", "softplus(pred - target)"),
            ("return mean(per)", "return sum(per)"),
            ("return mean(per)", "return -mean(per)"),
        ),
    ),
    "quantile": Reference(
        "regression/quantile",
        quantile,
        (pair(9), pair(3, 4, tau=0.9), at_kink, pair(6, tau=0.05)),
        (
            ("u = target - pred", "u = pred - target"),
            ("(tau - 1) * u", "(tau + 1) * u"),
            ("max(tau * u", "max(tau^2 * u"),
            ("max(tau", "min(tau"),
            ("return mean(per)", "return sum(per)"),
        ),
    ),
    "total_variation": Reference(
        "regression/total_variation",
        total_variation,
        (image(2, 3, 4, 5), image(1, 1, 2, 2), image(1, 2, 6, 3)),
        (
            ("x[h = h + 1] - x", "x[h = h + 1] + x"),
            ("x[w = w + 1] - x", "x[w = w + 2] - x"),
            ("+ mean", "- mean"),
            ("mean(abs(x[h", "sum(abs(x[h"),
            ("abs(x[w = w + 1]", "abs(x[h = h + 1]"),
        ),
    ),
    "cross_entropy": Reference(
        "classification/cross_entropy",
        cross_entropy,
        (
            logits_case(6, 5),
            logits_case(4, 3, 2, 2, smoothing=0.2),
            logits_case(5, 4, weights=False, smoothing=0.1),
            logits_case(7, 3, scale=300.0),
            logits_case(6, 4, ignore_index=2, ignored=0.0),
            all_ignored,
            masked_class,
        ),
        (
            ("-weight[target] * logp", "weight[target] * logp"),
            ("log_softmax(logits over c)", "logits - logsumexp(logits over n)"),
            ("-mean(weight * logp over c)", "-sum(weight * logp over c)"),
            ("(1 - smoothing) * nll", "(1 + smoothing) * nll"),
            ("sum(weight[target] over n", "sum(1 + 0 * weight[target] over n"),
        ),
    ),
    "binary_cross_entropy": Reference(
        "classification/binary_cross_entropy",
        binary_cross_entropy,
        (
            binary_case("unit", 8),
            binary_case("unit", 3, 4, pos_weight=2.5),
            binary_case("unit", 5, scale=1000.0),
            binary_case("unit", 5, scale=0.0),
        ),
        (
            ("target * softplus(-logits)", "target * softplus(logits)"),
            ("(1 - target)", "(2 - target)"),
            ("pos_weight * target", "target"),
            (" + (1 - target)", " - (1 - target)"),
            ("return mean(per)", "return sum(per)"),
        ),
    ),
    "hinge": Reference(
        "classification/hinge",
        hinge,
        (
            binary_case("sign", 8, name="score", y="y"),
            binary_case("sign", 3, 4, name="score", y="y", margin=0.3),
            hinge_kink,
        ),
        (
            ("margin - y * score", "margin + y * score"),
            ("relu(margin", "abs(margin"),
            ("y * score)", "score)"),
            ("return mean(per)", "return sum(per)"),
            ("relu(margin - y", "relu(2 * margin - y"),
        ),
    ),
    "squared_hinge": Reference(
        "classification/squared_hinge",
        squared_hinge,
        (binary_case("sign", 8, name="score", y="y"), binary_case("sign", 3, 4, name="score", y="y"), hinge_kink),
        (
            ("1 - y * score", "1 + y * score"),
            (")^2", ")^3"),
            ("relu(1", "relu(2"),
            ("relu(1 - y * score)", "(1 - y * score)"),
            ("return mean(per)", "return sum(per)"),
        ),
    ),
    "focal": Reference(
        "classification/focal",
        focal,
        (
            binary_case("binary", 9),
            binary_case("binary", 3, 4, gamma=0.5, alpha=0.7),
            binary_case("binary", 6, gamma=0.0),
            binary_case("binary", 6, scale=400.0),
        ),
        (
            ("sign = 2 * target - 1", "sign = 1 - 2 * target"),
            ("alpha * target +", "alpha * target -"),
            ("gamma * logsigmoid(-sign", "gamma * logsigmoid(sign"),
            ("per = -balance", "per = balance"),
            ("(1 - alpha) * (1 - target)", "(1 - alpha) * (2 - target)"),
        ),
    ),
    "dice": Reference(
        "segmentation/dice",
        dice,
        (masks(2, 3, 4, 5), masks(1, 2, 7, smooth_nr=1.0, smooth_dr=2.0), empty_masks),
        (
            ("2 * overlap", "3 * overlap"),
            ("prob + target over", "prob * target over"),
            ("1 - (2", "1 + (2"),
            ("prob * target over ...", "prob * target over b, ..."),
            ("+ smooth_dr", "+ smooth_nr + smooth_dr"),
        ),
    ),
    "tversky": Reference(
        "segmentation/tversky",
        tversky,
        (masks(2, 3, 4, 5), masks(1, 2, 7, alpha=0.6, beta=0.2, smooth_nr=1.0), empty_masks),
        (
            ("prob * (1 - target)", "prob * (1 + target)"),
            ("(1 - prob) * target", "(2 - prob) * target"),
            ("alpha * fp + beta * fn", "beta * fp + alpha * fn"),
            ("1 - (tp", "1 + (tp"),
            ("(tp + smooth_nr)", "(2 * tp + smooth_nr)"),
        ),
    ),
    "kl_divergence": Reference(
        "divergence/kl_divergence",
        kl_divergence,
        (simplex_case(5, 4), simplex_case(3, 6, zeros=True), simplex_case(4, 3, scale=300.0)),
        (
            ("xlogy(target, target) -", "xlogy(target, target) +"),
            ("log_softmax(logits over c) over c", "log_softmax(-logits over c) over c"),
            ("return mean(per)", "return sum(per)"),
            ("per = sum(", "per = mean("),
            ("xlogy(target, target)", "xlogy(2 * target, target)"),
        ),
        wrt=("logits",),
    ),
    "triplet": Reference(
        "metric/triplet",
        triplet,
        (triplet_case(5, 3), triplet_case(4, 2, margin=0.1), triplet_case(6, 8, margin=2.0, eps=1e-3)),
        (
            ("anchor - positive + eps", "anchor - positive - 0.01 + eps"),
            ("near - far", "far - near"),
            ("+ margin)", "- margin)"),
            ("anchor - negative", "positive - negative"),
            ("relu(near", "softplus(near"),
        ),
    ),
    "contrastive": Reference(
        "metric/contrastive",
        contrastive,
        (contrastive_case(6, 3), contrastive_case(5, 2, margin=3.0), contrastive_case(7, 1, margin=0.5)),
        (
            ("distance^2 / 2", "distance^2"),
            ("margin - distance", "margin + distance"),
            ("if same", "if not same"),
            ("norm(a - b", "norm(a + b"),
            ("norm(a - b over d)", "norm(a - b over d) + 0.1"),
        ),
    ),
    "batch_hard_triplet": Reference(
        "metric/batch_hard_triplet",
        batch_hard_triplet,
        (embeddings(8, 3, 3), embeddings(6, 2, 2, margin=1.0), embeddings(5, 4, 5)),
        (
            ("label[n] == label[m] and n != m", "label[n] != label[m] and n != m"),
            ("far - near", "near - far"),
            ("+ margin", "- margin"),
            ("far = max(", "far = mean("),
            ("label[n] != label[m] else inf", "n != m else inf"),
        ),
    ),
    "info_nce": Reference(
        "self_supervised/info_nce",
        info_nce,
        (views(6, 4), views(9, 3, temperature=0.5), views(1, 5), views(300, 8)),
        (
            ("sim[n, n]", "sim[n, 0]"),
            ("/ temperature", "* temperature"),
            ("logsumexp(sim over m) -", "logsumexp(sim over m) +"),
            ("q[n, d] * k[m, d]", "q[n, d] * q[m, d]"),
            ("logsumexp(sim over m)", "logsumexp(2 * sim over m)"),
        ),
    ),
    "gaussian_nll": Reference(
        "uncertainty/gaussian_nll",
        gaussian_nll,
        (gaussian_case(8), gaussian_case(3, 4)),
        (
            ("exp(-log_variance)", "exp(log_variance)"),
            ("(target - pred)^2", "(target + pred)^2"),
            ("/ 2", "/ 3"),
            ("(log_variance + (", "(log_variance - ("),
            (")^2 *", ")^4 *"),
        ),
    ),
    "evidential_regression": Reference(
        "uncertainty/evidential_regression",
        evidential_regression,
        (evidence(7), evidence(4, penalty=0.5)),
        (
            ("2 * beta * (1 + nu)", "2 * beta * (1 - nu / 2)"),
            ("(alpha + 1 / 2) * log(", "(alpha - 1 / 2) * log("),
            ("2 * nu + alpha", "2 * nu - alpha"),
            ("lgamma(alpha) -", "lgamma(alpha) +"),
            ("log(pi / nu) / 2", "log(pi / nu)"),
        ),
    ),
    "uncertainty_weighting": Reference(
        "multitask/uncertainty_weighting",
        uncertainty_weighting,
        (tasks(3), tasks(1), tasks(6)),
        (
            ("return sum(exp(-log_variance)", "return sum(exp(log_variance)"),
            ("task / 2 +", "task +"),
            ("+ log_variance / 2", "- log_variance / 2"),
            ("log_variance / 2)", "log_variance)"),
            ("* task", "* task^2"),
        ),
    ),
    "generalised_cross_entropy": Reference(
        "robust/generalised_cross_entropy",
        generalised_cross_entropy,
        (
            logits_case(8, 3, ignored=0.0, weights=False),
            logits_case(9, 4, ignored=0.0, weights=False, q=0.3, floor=0.2),
            logits_case(6, 2, ignored=0.0, weights=False, q=1.0, floor=0.1),
        ),
        (
            ("expm1(q * logp)", "expm1(2 * q * logp)"),
            ("(1 - floor^q)", "(1 + floor^q)"),
            ("logp > log(floor)", "logp < log(floor)"),
            ("full = -expm1", "full = expm1"),
            ("return mean(per)", "return sum(per)"),
        ),
    ),
    "cauchy": Reference(
        "robust/cauchy",
        cauchy,
        (pair(8), pair(3, 4, c=2.5), at_kink, huge),
        (
            ("(2 * c^2)", "(3 * c^2)"),
            ("pred - target", "pred + target"),
            ("c^2)", "c)"),
            ("log1p(", "log(2 + "),
            ("return mean(per)", "return sum(per)"),
        ),
    ),
    "student_t": Reference(
        "robust/student_t",
        student_t,
        (pair(8), pair(3, 4, nu=1.5, scale=2.0), at_kink),
        (
            ("(target - pred) / scale", "(target + pred) / scale"),
            ("z^2 / nu", "z^2"),
            ("+ log(scale)", "- log(scale)"),
            ("lgamma(nu / 2) - ", "lgamma(nu / 2) + "),
            ("(nu + 1) / 2 * log1p", "(nu - 1) / 2 * log1p"),
        ),
    ),
    "ppo": Reference(
        "reinforcement/ppo",
        ppo,
        (ppo_case(9, 4), ppo_case(6, 3, clip=0.05, value_weight=1.0, entropy_weight=0.1)),
        (
            ("1 - clip", "1 - 2 * clip"),
            ("surrogate = min(", "surrogate = max("),
            ("- entropy_weight", "+ entropy_weight"),
            ("(value - ret)^2", "(value + ret)^2"),
            ("- logp_old)", "+ logp_old)"),
        ),
    ),
    "wgan_critic": Reference(
        "generative/wgan_critic",
        wgan_critic,
        (scores(5, 7), scores(1, 2)),
        (
            ("mean(fake_score) -", "mean(fake_score) +"),
            ("mean(fake_score)", "sum(fake_score)"),
            ("mean(real_score)", "sum(real_score) / 2"),
            ("return mean(fake_score)", "return 2 * mean(fake_score)"),
            ("mean(fake_score) - mean(real_score)", "mean(real_score) - mean(fake_score)"),
        ),
    ),
}
