"""Losses written to pin one rule of the language each, with independent values in plain torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from build_references import Case, labels


def one(name: str, body: str, inputs: Any, value: Any, **parameters: Any) -> Case:
    text = f"loss {name}:\n" + "".join(f"    {line}\n" for line in body.strip().splitlines())
    return Case(name, inputs, value, parameters, text)


def cross_entropy(logits: Any, target: Any, weight: Any, smoothing: float = 0.0) -> Any:
    return F.cross_entropy(logits, target, weight, ignore_index=-100, label_smoothing=smoothing)


def ignored(g: np.random.Generator) -> dict[str, Any]:
    target = g.integers(0, 4, (3, 5))
    target[0, 1] = target[2, 3] = -100
    return {"logits": g.normal(size=(3, 4, 5)), "target": target, "weight": g.uniform(0.1, 2, 4)}


def concatenated(a: Any, b: Any) -> Any:
    z = torch.cat([a, b])
    return (z[:, None, :] * z[None, :, :]).sum(2).logsumexp(1).mean()


def windows(x: Any) -> Any:
    def blur(a: Any) -> Any:
        return a.unfold(0, 3, 1).mean(-1)

    return (blur(blur(x)) ** 2).mean()


def composed(x: Any) -> Any:
    # x[h + 1] read one further back is x[h]: nothing gives way
    return (x * x).mean() + (x[2:] - x[:-2]).abs().sum()


def lazy(x: Any) -> Any:
    y = torch.where(x > 0, x, torch.ones_like(x)).log()
    return torch.where(x > 0, y, torch.zeros_like(x)).sum()


def first_order(x: Any) -> Any:
    d = torch.cat([x[:1], x[1:] - x[:-1]])
    return (d**2).mean()


def boxes(x: Any) -> Any:
    return ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1])).mean()


def masked_softmax(x: Any, keep: Any) -> Any:
    y = x.masked_fill(keep == 0, -float("inf"))
    p = torch.softmax(y, 1).nan_to_num(0.0)
    return (p**2).sum(1).mean()


def segments(x: Any, group: Any) -> Any:
    peaks = [x[group == k].max() if (group == k).any() else torch.tensor(-1.0).double() for k in range(4)]
    return torch.stack(peaks).sum()


def deviations(x: Any) -> Any:
    return (x.var(0, correction=0) + x.std(0, correction=1)).sum() + ((x - x.mean(0)) ** 2).mean(0).max()


def norms(x: Any) -> Any:
    parts = [x.norm(dim=1), x.norm(p=1, dim=1), x.norm(p=float("inf"), dim=1), x.norm(p=3, dim=1)]
    return torch.stack(parts).sum()


def reshaped(x: Any) -> Any:
    flat = x.flatten(1)
    return (flat[:, 1:] * flat[:, :-1]).sum(1).mean()


def mean_of_nothing(x: Any, keep: Any) -> Any:
    return torch.zeros(()) if not (keep == 1).any() else x[keep == 1].mean()


def counts(x: Any) -> Any:
    b = x > 0
    return b.sum() + b.any(1).double().sum() + 2 * b.all(1).double().sum() + b.double().mean()


def inner_products(x: Any) -> Any:
    n = len(x)
    off = x @ x.T
    return sum(off[i, j] for i in range(n) for j in range(n) if i != j) / n


CALLS = """
loss contrast:
    input z: real[n, d]
    input label: int[n]
    param margin: real > 0 = 1
    axis m = n
    gap[n, m] = sum((z[n, d] - z[m, d])^2 over d)
    per = mean(relu(margin - gap) over m where label[n] != label[m])
    return mean(per)

loss calls:
    input gap, per: real[b, e]
    input label: int[b]
    param margin: real > 0 = 2
    shifted[b, e] = 2 * gap
    return contrast(gap, label, margin = margin) + 3 * contrast(shifted, label) + mean(per)
"""


def contrast(z: Any, label: Any, margin: float) -> Any:
    gap = ((z[:, None] - z[None]) ** 2).sum(2)
    other = (label[:, None] != label[None]).double()
    return ((margin - gap).relu() * other).sum(1).div(other.sum(1).clamp(min=1)).mean()


WRITTEN = (
    Case(
        "calls",
        lambda g: {"gap": g.normal(size=(5, 2)), "per": g.normal(size=(5, 2)), "label": labels(g, 5, 3)},
        lambda gap, per, label: contrast(gap, label, 2.0) + 3 * contrast(2 * gap, label, 1.0) + per.mean(),
        {},
        CALLS,
    ),
    one(
        "cross_entropy",
        """
input logits: real[n, c, ...]
input target: class[n, ...] of c or ignore_index
input weight: real[c] >= 0 = 1
param smoothing: real in [0, 1] = 0
param ignore_index: int = -100
logp = log_softmax(logits over c)
nll = -weight[target] * logp[c = target]
smooth = -sum(weight * logp over c) / size(c)
per = (1 - smoothing) * nll + smoothing * smooth
return sum(per over n, ... where target != ignore_index) / sum(weight[target] over n, ... where target != ignore_index)
""",
        ignored,
        cross_entropy,
        smoothing=0.1,
    ),
    one(
        "concatenated",
        """
input a, b: real[n, d]
axis k = 2 * n
axis l = k
z[k, d] = a[n = k] if k < size(n) else b[n = k - size(n)]
sim[k, l] = sum(z[k, d] * z[l, d] over d)
return mean(logsumexp(sim over l))
""",
        lambda g: {"a": g.normal(size=(3, 2)), "b": g.normal(size=(3, 2))},
        concatenated,
    ),
    one(
        "windows",
        """
input x: real[h]
axis i = 3
def blur(a) = sum(a[h = h + i] over i) / 3
return mean(blur(blur(x))^2)
""",
        lambda g: {"x": g.normal(size=9)},
        windows,
    ),
    one(
        "composed",
        """
input x: real[h]
def two(a) = a[h = h + 1]
return mean((x[h = h + 1])[h = h - 1] * x) + sum(abs(two(two(x)) - x))
""",
        lambda g: {"x": g.normal(size=7)},
        composed,
    ),
    one(
        "lazy",
        "input x: real[n]\nreturn sum(log(x) if x > 0 else 0)",
        lambda g: {"x": g.normal(size=9)},
        lazy,
    ),
    one(
        "first_order",
        "input x: real[n]\nreturn mean((x - (x[n = n - 1] if n > 0 else 0))^2)",
        lambda g: {"x": g.normal(size=6)},
        first_order,
    ),
    one(
        "boundary",
        "input x: real[t]\nfollowing[t] = x[t + 1 else 2 * x[t]]\nreturn sum(following * x)",
        lambda g: {"x": g.normal(size=6)},
        lambda x: (x[1:] * x[:-1]).sum() + 2 * x[-1] ** 2,
    ),
    one(
        "boxes",
        "input x: real[n, 4]\nreturn mean((x[n, 2] - x[n, 0]) * (x[n, 3] - x[n, 1]))",
        lambda g: {"x": g.normal(size=(5, 4))},
        boxes,
    ),
    one(
        "channel",
        "input x: real[n, 1, w]\ninput y: real[n, w]\nreturn mean((x - y)^2)",
        lambda g: {"x": g.normal(size=(3, 1, 4)), "y": g.normal(size=(3, 4))},
        lambda x, y: F.mse_loss(x[:, 0], y),
    ),
    one(
        "masked_softmax",
        """
input x: real[n, c]
input keep: binary[n, c]
p = softmax(x over c where keep == 1)
return mean(sum(p^2 over c))
""",
        lambda g: {"x": g.normal(size=(4, 3)), "keep": np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]])},
        masked_softmax,
    ),
    one(
        "segments",
        "input x: real[n]\ninput group: class[n] of 4\naxis k = 4\n"
        "return sum(max(x over n where group == k else -1) over k)",
        lambda g: {"x": g.normal(size=7), "group": labels(g, 7, 3)},
        segments,
    ),
    one(
        "deviations",
        "input x: real[n, d]\n"
        "return sum(var(x over n) + std(x, correction = 1 over n)) + max(mean((x - mean(x over n))^2 over n) over d)",
        lambda g: {"x": g.normal(size=(5, 3))},
        deviations,
    ),
    one(
        "norms",
        "input x: real[n, d]\n"
        "return sum(norm(x over d) + norm(x, p = 1 over d) + norm(x, p = inf over d) + norm(x, p = 3 over d))",
        lambda g: {"x": g.normal(size=(4, 3))},
        norms,
    ),
    one(
        "reshaped",
        """
input x: real[b, h, w]
axis p = h * w
flat[b, p] = x[b, p // size(w), p % size(w)]
return mean(sum(flat * flat[p = p + 1] over p) over b)
""",
        lambda g: {"x": g.normal(size=(2, 3, 4))},
        reshaped,
    ),
    one(
        "mean_of_nothing",
        "input x: real[n]\ninput keep: binary[n]\nreturn mean(x where keep == 1)",
        lambda g: {"x": np.full(4, np.nan), "keep": np.zeros(4, dtype=int)},
        mean_of_nothing,
    ),
    one(
        "otherwise",
        "input x: real[n]\ninput keep: binary[n]\n"
        "return 3 * sum(x over n where keep == 1 else 5) + prod(x over n where keep == 1 else 7)",
        lambda g: {"x": g.normal(size=4), "keep": np.zeros(4, dtype=int)},
        lambda x, keep: torch.tensor(22.0),
    ),
    one(
        "product",
        "input x: real[n, d]\nreturn sum(prod(1 - x over d) over n)",
        lambda g: {"x": g.normal(size=(3, 4))},
        lambda x: (1 - x).prod(1).sum(),
    ),
    one(
        "counts",
        "input x: real[n, d]\n"
        "return count(x > 0) + sum(any(x > 0 over d) over n) + 2 * sum(all(x > 0 over d) over n) + mean(x > 0)",
        lambda g: {"x": g.normal(size=(4, 2))},
        counts,
    ),
    one(
        "table",
        "input x: real[n]\ninput s: class[n] of 3\nreturn sum([0.25, 0.5, 1/3][s] * x + [[1, 0], [0, 2]][1, 1])",
        lambda g: {"x": g.normal(size=5), "s": labels(g, 5, 3)},
        lambda x, s: (torch.tensor([0.25, 0.5, 1 / 3], dtype=torch.float64)[s] * x).sum() + 2 * len(x),
    ),
    one(
        "last_step",
        "input x: real[t, b]\nreturn mean(x[t = last] - x[t = 0])",
        lambda g: {"x": g.normal(size=(4, 3))},
        lambda x: (x[-1] - x[0]).mean(),
    ),
    one(
        "inner_products",
        "input x: real[n, d]\naxis m = n\nreturn sum(sum(x[n, d] * x[m, d] over d) over n, m where n != m) / size(n)",
        lambda g: {"x": g.normal(size=(4, 3))},
        inner_products,
    ),
    one(
        "weighted",
        "input e, w: real[n]\nreturn sum(w * e^2 over n) / sum(w over n)",
        lambda g: {"e": g.normal(size=5), "w": g.uniform(0, 1, 5)},
        lambda e, w: (w * e**2).sum() / w.sum(),
    ),
    one(
        "axis_numbers",
        "input x: real[n]\nparam k: int = 3\naxis i = k\n"
        "return sum(x * ((n + 1) // 2) over n) + sum(i * i over i) + (7 // -2) + (-7 % 3)",
        lambda g: {"x": g.normal(size=5)},
        lambda x, k: (x * ((torch.arange(5) + 1) // 2)).sum() + 0 + 1 + 4 + 9 - 4 + 2,
        k=4,
    ),
    one(
        "captured",
        # the axis that the function's own reduction binds is not the caller's
        "input x: real[n, d]\ndef centre(a) = a - mean(a over n)\nreturn mean(centre(x * mean(x over n))^2)",
        lambda g: {"x": g.normal(size=(4, 3))},
        lambda x: ((x * x.mean(0) - (x * x.mean(0)).mean(0)) ** 2).mean(),
    ),
    one(
        "elementwise",
        "input a, b: real[n]\nreturn mean(max(a, b, 0) + min(a, b) + logsumexp(a, b, 0) - clamp(a, -1, 1))",
        lambda g: {"a": g.normal(size=6), "b": g.normal(size=6)},
        lambda a, b: (
            torch.maximum(a, b).relu()
            + torch.minimum(a, b)
            + torch.stack([a, b, torch.zeros_like(a)]).logsumexp(0)
            - a.clamp(-1, 1)
        ).mean(),
    ),
    one(
        "direction",
        "input x, y: real[n, d]\nreturn mean(1 - sum(normalize(x over d) * normalize(y over d) over d))",
        lambda g: {"x": g.normal(size=(4, 3)), "y": g.normal(size=(4, 3))},
        lambda x, y: (1 - F.cosine_similarity(x, y, dim=1)).mean(),
    ),
    one(
        "powers",
        "input x: real[n] >= 0\nparam p: real > 0 = 1.5\nreturn mean(x^p + (x - 1)^3 + 2^0.5 * x^-1 * x) + pi",
        lambda g: {"x": g.uniform(0.1, 2, 5)},
        lambda x: (x**1.5 + (x - 1) ** 3 + 2**0.5).mean() + torch.pi,
    ),
    one(
        "guarded_reduction",
        "input x: real[n, d]\nreturn sum(sum(x[n = n - 1] over d) if n > 0 else 0 over n)",
        lambda g: {"x": g.normal(size=(4, 3))},
        lambda x: x[:-1].sum(),
    ),
)
