"""Cases for sorting, cumulative folds, recurrences, grids, boundaries, blocks and what lives through training.

Each case is a loss (of tests/spelled, or written here) and an independent formula in plain torch, which also gives the
gradient by autograd.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from build_references import Case, labels
from build_written import one

INF = float("inf")


def count(n: int) -> Any:
    return torch.arange(n, dtype=torch.float64)


# ---------------------------------------------------------------------------------------------------- sorting


def lovasz(logits: Any, target: Any) -> Any:
    total = 0.0
    for row, wanted in zip(logits.flatten(1), target.flatten(1), strict=True):
        error = 1 - row * (2 * wanted - 1)
        ranked, place = torch.sort(error, descending=True, stable=True)
        hit = wanted[place].double()
        jaccard = 1 - (hit.sum() - hit.cumsum(0)) / (hit.sum() + (1 - hit).cumsum(0))
        slope = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        total = total + (torch.relu(ranked) * slope).sum()
    return total / len(logits)


def approx_ndcg(score: Any, gain: Any, temperature: float = 1.0) -> Any:
    i = score.shape[1]
    out = []
    for s, g in zip(score, gain, strict=True):
        rank = [1 + sum(torch.sigmoid((s[k] - s[j]) / temperature) for k in range(i) if k != j) for j in range(i)]
        ideal = (g.sort(descending=True).values / torch.log2(count(i) + 2)).sum()
        out.append((g / torch.log2(1 + torch.stack(rank))).sum() / ideal)
    return -torch.stack(out).mean()


def sparsemax(z: Any, target: Any) -> Any:
    total = 0.0
    for row, t in zip(z, target, strict=True):
        ranked = row.sort(descending=True).values
        k = max(j + 1 for j in range(len(row)) if 1 + (j + 1) * ranked[j] > ranked[: j + 1].sum())
        tau = (ranked[:k].sum() - 1) / k
        total = total + sum((v**2 - tau**2) / 2 for v in row if v > tau) + 0.5 - row[t]
    return total / len(z)


def list_mle(score: Any, relevance: Any) -> Any:
    out = []
    for s, r in zip(score, relevance, strict=True):
        ranked = s[torch.argsort(r, descending=True, stable=True)]
        out.append(sum(ranked[k:].logsumexp(0) - ranked[k] for k in range(len(ranked))))
    return torch.stack(out).mean()


def medians(x: Any) -> Any:
    s = x.sort(1).values
    n = x.shape[1]
    middle = (s[:, (n - 1) // 2] + s[:, n // 2]) / 2
    return (torch.quantile(x, 0.3, dim=1) + 2 * torch.quantile(x, 0.9, dim=1) * middle).mean() + torch.quantile(x, 0.25)


def median_of_two_axes(x: Any) -> Any:
    s = x.movedim(1, 0).flatten(1).sort(1).values
    n = s.shape[1]
    return ((s[:, (n - 1) // 2] + s[:, n // 2]).div(2).pow(2)[:, None] * x).sum()


def top_k(x: Any, k: int) -> Any:
    return x.topk(k, 1).values.pow(2).sum(1).mean()


def masked_sort(x: Any, keep: Any) -> Any:
    total = 0.0
    for row, m in zip(x, keep, strict=True):
        kept = row[m == 1].sort().values
        total = total + sum(v * (k + 1) for k, v in enumerate(kept)) + 7 * (len(row) - len(kept))
        order = torch.argsort(torch.where(m == 1, row, torch.tensor(INF).double()), stable=True)
        total = total + (row[order] * row).sum()
    return total


def ties(x: Any) -> Any:
    # equal labels: stable in both directions
    label = x.round()
    down = torch.argsort(label, dim=1, descending=True, stable=True)
    up = torch.argsort(label, dim=1, stable=True)
    k = torch.arange(x.shape[1]) + 1.0
    return (x.gather(1, down) * k).sum() + (x.gather(1, up) * k**2).sum()


def joint(x: Any) -> Any:
    flat = x.flatten(1)
    ranked = flat.sort(1, descending=True).values
    weight = torch.arange(flat.shape[1]) + 1.0
    top = flat.argmax(1)
    return (ranked * weight).sum() + ranked.view_as(x)[:, 1].sum() + (top * flat[:, 0]).sum()


def winners(x: Any, keep: Any) -> Any:
    best = x.argmax(1)
    y = torch.where(keep == 1, x, torch.tensor(INF).double())
    low = y.argmin(1)
    low = torch.where((keep == 1).any(1), low, torch.ones_like(low))
    rows = torch.arange(len(x))
    return (x[rows, best] * 3 - x[rows, low]).mean()


def shifted(x: Any) -> Any:
    # a narrowed range is sorted as it is
    d = x[1:] - x[:-1]
    ranked = d.sort(descending=True).values
    return (ranked * (torch.arange(len(d)) + 1.0)).sum() + x[d.argmax() + 1]


def norms(x: Any, p: float) -> Any:
    return x.norm(p=p, dim=1).sum() + x.norm(p=1.5, dim=1).sum()


SORTING = (
    Case(
        "lovasz_hinge",
        lambda g: {"logits": g.normal(size=(2, 3, 4)), "target": labels(g, 24, 2).reshape(2, 3, 4)},
        lovasz,
        file="images",
        stopped=True,
    ),
    Case(
        "approx_ndcg",
        lambda g: {"score": g.normal(size=(3, 4)), "gain": g.uniform(0.1, 3, (3, 4))},
        approx_ndcg,
        file="pairs",
    ),
    Case("sparsemax", lambda g: {"z": g.normal(size=(4, 5)), "target": labels(g, 4, 5)}, sparsemax, file="pairs"),
    Case(
        "list_mle",
        lambda g: {"score": g.normal(size=(3, 5)), "relevance": g.integers(0, 3, (3, 5)).astype(float)},
        list_mle,
        file="sequences",
    ),
    one(
        "medians",
        """
input x: real[b, n]
middle = median(x over n)
return mean(quantile(x, q = 0.3 over n) + 2 * quantile(x, q = 0.9 over n) * middle) + quantile(x, q = 0.25)
""",
        lambda g: {"x": g.normal(size=(3, int(g.integers(1, 6))))},
        medians,
    ),
    one(
        "median_of_two_axes",
        "input x: real[b, h, w]\nm = median(x over b, w)\nreturn sum(m^2 * x)",
        lambda g: {"x": g.normal(size=(2, 3, int(g.integers(1, 4))))},
        median_of_two_axes,
    ),
    one(
        "top_k",
        "input x: real[n, c]\nparam k: int >= 0 = 2\nranked = sort(x over c descending)\n"
        "return mean(sum(ranked^2 over c where c < k) over n)",
        lambda g: {"x": g.normal(size=(3, 5))},
        top_k,
        k=3,
    ),
    one(
        "masked_sort",
        """
input x: real[b, n]
input keep: binary[b, n]
ranked = sort(x over n where keep == 1 else 7 / (n + 1))
place = argsort(x over n where keep == 1)
return sum(ranked * (n + 1)) + sum(x[n = place] * x)
""",
        lambda g: {"x": g.normal(size=(3, 4)), "keep": labels(g, 12, 2).reshape(3, 4)},
        masked_sort,
    ),
    one(
        "ties",
        """
input x: real[b, n]
level = floor(x + 1/2)
down = argsort(level over n descending)
up = argsort(level over n)
return sum(x[n = down] * (n + 1)) + sum(x[n = up] * (n + 1)^2)
""",
        lambda g: {"x": g.normal(size=(2, 7))},
        ties,
    ),
    one(
        "joint",
        """
input x: real[b, h, w]
axis p = h * w
ranked = sort(x over h, w descending)
flat[b, p] = ranked[b = b, h = p // size(w), w = p % size(w)]
top = argmax(x over h, w)
return sum(flat * (p + 1)) + sum(ranked[h = 1]) + sum(top * x[h = 0, w = 0])
""",
        lambda g: {"x": g.normal(size=(2, 3, 4))},
        joint,
    ),
    one(
        "winners",
        """
input x: real[n, c]
input keep: binary[n, c]
best = argmax(x over c)
low = argmin(x over c where keep == 1 else 1)
return mean(x[c = best] * 3 - x[c = low])
""",
        lambda g: {"x": g.normal(size=(4, 3)), "keep": labels(g, 12, 2).reshape(4, 3)},
        winners,
    ),
    one(
        "shifted",
        """
input x: real[t]
d = x[t = t + 1] - x
ranked = sort(d over t descending)
return sum(ranked * (t + 1)) + x[t = argmax(d over t) + 1]
""",
        lambda g: {"x": g.normal(size=6)},
        shifted,
    ),
    one(
        "norms_any",
        "input x: real[n, d]\nparam p: real >= 1 = 2\nreturn sum(norm(x, p = p over d) + norm(x, p = 1.5 over d))",
        lambda g: {"x": g.normal(size=(4, 3))},
        norms,
        p=2.5,
    ),
)


# ------------------------------------------------------------------------------------------------- cumulative


def cumulated(x: Any, keep: Any) -> Any:
    w = torch.where(keep == 1, x, torch.zeros_like(x))
    back = x.flip(1).cumsum(1).flip(1)
    lse = torch.logcumsumexp(x, 1) * x
    return (w.cumsum(1) * back).sum() + (1 - x).cumprod(1).pow(2).sum() + lse.sum()


def products(x: Any) -> Any:
    back = x.flip(0).cumprod(0).flip(0)
    return (x.cumprod(0) * torch.arange(len(x))).sum() + back.sum()


CUMULATIVE = (
    one(
        "cumulated",
        """
input x: real[b, t]
input keep: binary[b, t]
return sum(cumsum(x over t where keep == 1) * cumsum(x over t backward)) + sum(cumprod(1 - x over t)^2) + sum(cumlogsumexp(x over t) * x)
""",
        lambda g: {"x": g.normal(size=(2, 5)), "keep": labels(g, 10, 2).reshape(2, 5)},
        cumulated,
    ),
    one(
        "products",
        "input x: real[t]\nreturn sum(cumprod(x over t) * t) + sum(cumprod(x over t backward))",
        lambda g: {"x": np.array([1.5, 0.0, -2.0, 0.0, 3.0])},
        products,
    ),
    one(
        "differences_summed",
        "input x: real[t]\nd = x[t = t + 1] - x[t = t]\nreturn sum(cumsum(d^2 over t) * (t + 1))",
        lambda g: {"x": g.normal(size=6)},
        lambda x: ((x[1:] - x[:-1]) ** 2).cumsum(0).mul(torch.arange(5) + 1.0).sum(),
    ),
    one(
        "counted",
        # an integer fold counts and indexes
        "input x: real[t]\nplace = cumsum((x > 0) over t)\nreturn sum(x * place) + sum(x[t = place - 1 else 0])",
        lambda g: {"x": g.normal(size=7)},
        lambda x: (x * (x > 0).cumsum(0)).sum() + sum(x[k - 1] for k in (x > 0).cumsum(0).tolist() if k > 0),
    ),
)


# ------------------------------------------------------------------------------------------- grids, boundaries


def ms_ssim(x: Any, y: Any) -> Any:
    def blur(a: Any) -> Any:
        return F.avg_pool2d(a, 5, 1)

    def parts(a: Any, b: Any) -> Any:
        ma, mb = blur(a), blur(b)
        va, vb, vab = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        return (2 * vab + 9e-4) / (va + vb + 9e-4), (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4)

    x2, y2 = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    x4, y4 = F.avg_pool2d(x2, 2), F.avg_pool2d(y2, 2)
    fine = parts(x, y)[0].mean((2, 3)).relu()
    middle = parts(x2, y2)[0].mean((2, 3)).relu()
    c, light = parts(x4, y4)
    coarse = (c * light).mean((2, 3)).relu()
    return 1 - (fine**0.2 * middle**0.3 * coarse**0.5).mean()


def strided(x: Any) -> Any:
    pooled = F.max_pool1d(x[None], 3, 2)[0]
    padded = F.avg_pool1d(x[None], 3, 2, padding=1)[0]
    half = (x[:, 0:-1:2] + x[:, 1::2][:, : x.shape[1] // 2]) / 2
    # a neighbour outside of the coarse grid counts as 0
    right = torch.cat([half[:, 1:], torch.zeros(len(x), 1).double()], 1)
    return pooled.pow(2).sum() + padded.pow(3).sum() + (half * right).sum()


def bounded(x: Any) -> Any:
    total = 0.0
    for mode, name in (("replicate", "edge"), ("reflect", "reflect"), ("circular", "wrap")):
        p = F.pad(x[None], (2, 2), mode=mode)[0]
        smooth = p.unfold(1, 5, 1).mean(-1)
        total = total + {"edge": 1, "reflect": 2, "wrap": 3}[name] * (smooth**2).sum()
    return total


GRIDS = (
    Case("ms_ssim", lambda g: {n: g.uniform(0, 1, (1, 1, 23, 22)) for n in ("x", "y")}, ms_ssim, file="images"),
    one(
        "strided",
        """
input x: real[b, h]
axis p = 3
axis r = 2
pooled = max(x[h = 2 * h + p] over p)
padded = sum(x[h = 2 * h + p - 1 else 0] over p) / 3
half = mean(x[h = 2 * h + r] over r)
return sum(pooled^2) + sum(padded^3) + sum(half * half[h = h + 1 else 0])
""",
        lambda g: {"x": g.normal(size=(2, 6 + int(g.integers(0, 4))))},
        strided,
    ),
    one(
        "bounded",
        """
input x: real[b, h]
axis i = 5
def smooth(a) = sum(a over i) / 5
edges = smooth(x[h = edge(h + i - 2)])
mirrored = smooth(x[b, reflect(h + i - 2)])
around = smooth(x[h = wrap(h + i - 2)])
return sum(edges^2) + 2 * sum(mirrored^2) + 3 * sum(around^2)
""",
        lambda g: {"x": g.normal(size=(2, 6))},
        bounded,
    ),
)

# ---------------------------------------------------------------------------------------------- recurrences


def ctc(logits: Any, target: Any, frames: Any, labels: Any) -> Any:
    return F.ctc_loss(F.log_softmax(logits, 2), target, frames, labels, blank=0, reduction="mean")


def softmin(values: list[Any], gamma: float) -> Any:
    return -gamma * torch.logsumexp(torch.stack([-v / gamma for v in values]), 0)


def dtw(x: Any, y: Any, gamma: float) -> Any:
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    best: dict[tuple[int, int], Any] = {}
    for i in range(len(x)):
        for j in range(len(y)):
            before = [best[p] for p in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if p in best]
            best[i, j] = cost[i, j] + (softmin(before, gamma) if before else 0)
    return best[len(x) - 1, len(y) - 1]


def soft_dtw(x: Any, y: Any, gamma: float = 1.0) -> Any:
    return torch.stack([dtw(a, b, gamma) for a, b in zip(x, y, strict=True)]).mean()


def soft_dtw_divergence(x: Any, y: Any, gamma: float = 1.0) -> Any:
    return soft_dtw(x, y, gamma) - (soft_dtw(x, x, gamma) + soft_dtw(y, y, gamma)) / 2


def sinkhorn(x: Any, y: Any, epsilon: float = 0.1, iterations: int = 50) -> Any:
    cost = ((x[:, None] - y[None]) ** 2).sum(-1) / 2
    n, m = cost.shape
    g = torch.zeros(m).double()
    for _ in range(iterations):
        f = -epsilon * (torch.logsumexp((g - cost) / epsilon, 1) - float(np.log(m)))
        g = -epsilon * (torch.logsumexp((f[:, None] - cost) / epsilon, 0) - float(np.log(n)))
    return f.mean() + g.mean()


def gae(reward: Any, done: Any, value: Any, bootstrap: Any, gamma: float = 0.99, lam: float = 0.95) -> Any:
    steps = len(reward)
    following = torch.cat([value[1:], bootstrap[None]])
    delta = reward + gamma * (1 - done) * following - value
    running = torch.zeros_like(bootstrap)
    rows = []
    for t in reversed(range(steps)):
        running = delta[t] + gamma * lam * (1 - done[t]) * running
        rows.insert(0, running)
    return ((value - (torch.stack(rows) + value).detach()) ** 2).mean() / 2


def skeleton(pred: Any, target: Any) -> Any:
    def erode(a: Any) -> Any:
        return -F.max_pool2d(-a[:, None], 3, 1, 1)[:, 0]

    def dilate(a: Any) -> Any:
        return F.max_pool2d(a[:, None], 3, 1, 1)[:, 0]

    image, kept = pred, torch.ones_like(pred)
    for k in range(4):
        image = image if k == 0 else erode(image)
        kept = kept * (1 - torch.relu(image - dilate(erode(image))))
    bones = 1 - kept
    return 1 - ((bones * target).sum() + 1) / (bones.sum() + 1)


def filtered(x: Any, a: Any) -> Any:
    level, trend, total = x[0] * 0, x[0] * 0, 0.0
    for t in range(len(x)):
        fresh = a * x[t] + (1 - a) * (level + trend)
        trend = 0.5 * (fresh - level) + 0.5 * trend
        level = fresh
        total = total + ((x[t] - level) ** 2).sum()
    return total


def attention(x: Any) -> Any:
    out: list[Any] = []
    for t in range(len(x)):
        out.append(torch.tanh(x[t] + sum((x[t] * out[s] for s in range(t)), start=x[t] * 0)))
    return torch.stack(out).pow(2).sum()


def runs(x: Any) -> Any:
    total, length = 0.0, 0
    for v in x:
        length = length + 1 if v > 0 else 0
        total = total + length * v
    return total


def lagged(x: Any) -> Any:
    d: list[Any] = []
    for t in range(len(x) - 1):
        d.append(x[t + 1] - x[t] + (0.5 * d[t - 1] if t > 0 else 0))
    return torch.stack(d).pow(2).sum()


def edit(x: Any, y: Any) -> Any:
    cost = (x[:, None] - y[None]).abs()
    n, m = cost.shape
    best = torch.full((n + 1, m + 1), INF).double()
    best[0] = torch.arange(m + 1)
    best[:, 0] = torch.arange(n + 1)
    rows = [list(r) for r in best]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            steps = torch.stack([rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + cost[i - 1, j - 1]])
            rows[i][j] = steps.min()
    return rows[n][m]


RECURRENCES = (
    Case(
        "ctc",
        lambda g: {
            "logits": g.normal(size=(7, 3, 4)),
            "target": g.integers(1, 4, (3, 3)),
            "frames": np.array([7, 6, 7]),
            "labels": np.array([3, 2, 1]),
        },
        ctc,
        file="sequences",
    ),
    Case(
        "soft_dtw",
        lambda g: {"x": g.normal(size=(2, 4, 3)), "y": g.normal(size=(2, 5, 3))},
        soft_dtw,
        {"gamma": 0.7},
        file="sequences",
    ),
    Case(
        "sinkhorn",
        lambda g: {"x": g.normal(size=(4, 2)), "y": g.normal(size=(3, 2))},
        sinkhorn,
        {"iterations": 5, "epsilon": 0.5},
        file="sequences",
    ),
    Case(
        "gae_value",
        lambda g: {
            "reward": g.normal(size=(5, 2)),
            "done": g.integers(0, 2, (5, 2)).astype(float),
            "value": g.normal(size=(5, 2)),
            "bootstrap": g.normal(size=2),
        },
        gae,
        file="sequences",
        stopped=True,
    ),
    Case(
        "soft_skeleton_recall",
        lambda g: {"pred": g.uniform(0, 1, (1, 6, 7)), "target": g.uniform(0, 1, (1, 6, 7))},
        skeleton,
        file="images",
    ),
    one(
        "filtered",
        # `fresh` has no written axes, but is part of the recurrence; file order does not matter
        """
input x: real[t, b]
param a: real in [0, 1] = 0.3
trend[t, b] = 0.5 * (level[t, b] - level[t - 1, b else 0]) + 0.5 * trend[t - 1, b else 0]
fresh = a * x + (1 - a) * (level[t = t - 1 else 0] + trend[t = t - 1 else 0])
level[t, b] = fresh
return sum((x - level)^2)
""",
        lambda g: {"x": g.normal(size=(5, 2))},
        filtered,
        a=0.4,
    ),
    one(
        "attention",
        """
input x: real[t, b]
axis s = t
out[t, b] = tanh(x[t, b] + sum(x[t, b] * out[s, b] over s where s < t))
return sum(out^2)
""",
        lambda g: {"x": g.normal(size=(5, 2))},
        attention,
    ),
    one(
        "runs",
        "input x: real[t]\nlength[t] = (length[t - 1 else 0] + 1) if x[t] > 0 else 0\nreturn sum(length * x)",
        lambda g: {"x": g.normal(size=9)},
        runs,
    ),
    one(
        "lagged",
        "input x: real[t]\nd[t] = x[t + 1] - x[t] + 0.5 * d[t - 1 else 0]\nreturn sum(d^2)",
        lambda g: {"x": g.normal(size=6)},
        lagged,
    ),
    one(
        "edit_distance",
        """
input x: real[n]
input y: real[m]
axis i = n + 1
axis j = m + 1
D[i, j] = j if i == 0 else i if j == 0 else min(D[i - 1, j] + 1, D[i, j - 1] + 1, D[i - 1, j - 1] + abs(x[n = i - 1] - y[m = j - 1]))
return D[i = last, j = last]
""",
        lambda g: {"x": g.normal(size=3), "y": g.normal(size=4)},
        edit,
    ),
)

# -------------------------------------------------------------------------------------------------- functions


def moments(x: Any) -> Any:
    centre = x.mean(1, keepdim=True)
    spread = ((x - centre) ** 2).mean(1)
    third = ((x - centre) ** 3).mean(1)
    return (third / (spread + 1) * x.mean(1)).sum()


def energy(x: Any, y: Any) -> Any:
    def far(a: Any, b: Any) -> Any:
        return ((a[:, None] - b[None]) ** 2).sum(-1).add(1e-6).sqrt().mean()

    return 2 * far(x, y) - far(x, x) - far(y, y)


def framed(x: Any) -> Any:
    f3, f2 = x.unfold(1, 3, 1), x.unfold(1, 2, 1)
    return (f3.max(-1).values ** 2).sum() + (f2.max(-1).values * torch.arange(f2.shape[1])).sum()


BLOCKS = """
def moments(p: real[n, u]):
    centre = mean(p over u)
    spread = mean((p - centre)^2 over u)
    third = mean((p - centre)^3 over u)
    return centre, spread, third

loss blocks:
    input x: real[b, t]
    m, s, k = moments(x)
    return sum(k / (s + 1) * m)
"""

FILES = """
def far(p: real[n, d], q: real[m, d]):
    gap[n, m] = sqrt(sum((p[n, d] - q[m, d])^2 over d) + 1e-6)
    return mean(gap)

loss energy:
    input x: real[i, d]
    input y: real[j, d]
    return 2 * far(x, y) - far(x, x) - far(y, y)
"""

FUNCTIONS = (
    Case(
        "soft_dtw_divergence",
        lambda g: {"x": g.normal(size=(2, 4, 3)), "y": g.normal(size=(2, 3, 3))},
        soft_dtw_divergence,
        {"gamma": 0.8},
        file="sequences",
    ),
    Case("blocks", lambda g: {"x": g.normal(size=(3, 5))}, moments, {}, BLOCKS),
    Case("energy", lambda g: {"x": g.normal(size=(4, 2)), "y": g.normal(size=(3, 2))}, energy, {}, FILES),
    one(
        "framed",
        # an integer argument is an extent; the function's own axes are narrowed and read back under the caller's
        """
input x: real[b, t]
def best(p: real[b, u], size_: int):
    axis i = size_
    return max(p[u = u + i] over i)
return sum(best(x, 3)^2) + sum(best(x, size_ = 2) * t)
""",
        lambda g: {"x": g.normal(size=(2, 6))},
        framed,
    ),
    one(
        "listed",
        # two axes of the function over one of the caller's, told apart by listing; an expression with its axes listed
        """
input x: real[n, d]
axis m = n
def dots(p: real[u, d], q: real[v, d]):
    dot[u, v] = sum(p[u, d] * q[v, d] over d)
    return dot
gram = dots((2 * x)[n, d], x[m, d])
return sum(gram^2 over n, m where n != m)
""",
        lambda g: {"x": g.normal(size=(4, 3))},
        lambda x: ((2 * x @ x.T) ** 2).sum() - (2 * (x * x).sum(1)).pow(2).sum(),
    ),
    one(
        "nested",
        # a block in a block, an expression function in a block, the loss's own names in both
        """
input x: real[b, t]
input w: real[t]
def outer(p: real[b, u]):
    def twice(a) = 2 * a
    y = inner(p) + twice(p)
    return sum(y * scale over u)
def inner(q: real[b, v]):
    run[b, v] = q + 0.5 * run[b, v - 1 else 0]
    return run
scale = sum(w^2)
return mean(outer(x)) + outer(x)[b = last]
""",
        lambda g: {"x": g.normal(size=(2, 4)), "w": g.normal(size=4)},
        lambda x, w: _nested(x, w),
    ),
    one(
        "shifted_argument",
        # what the function is called with has given way: its axis counts from the first entry that is there
        """
input x: real[t]
d[t] = x[t - 1] - x[t + 1]
def run(p: real[u]):
    level[u] = p * (u + 1) + 0.5 * level[u - 1 else 0]
    return level
return sum(run(d) * x)
""",
        lambda g: {"x": g.normal(size=6)},
        lambda x: _shifted(x),
    ),
)


def _nested(x: Any, w: Any) -> Any:
    rows, run = [], torch.zeros(len(x)).double()
    for k in range(x.shape[1]):
        run = x[:, k] + 0.5 * run
        rows.append(run)
    value = (torch.stack(rows, 1) + 2 * x).sum(1) * (w**2).sum()
    return value.mean() + value[-1]


def _shifted(x: Any) -> Any:
    total, level = 0.0, x[0] * 0
    for k in range(len(x) - 2):
        level = (x[k] - x[k + 2]) * (k + 1) + 0.5 * level
        total = total + level * x[k + 1]
    return total


# --------------------------------------------------------------------------------------------------- training


def annealed(logits: Any, target: Any, step: Any, steps: int) -> Any:
    gamma = 2 * min(max(float(step) / steps, 0), 1)
    bce = F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    return ((1 - torch.exp(-bce)) ** gamma * bce).mean()


def dino(student: Any, teacher: Any, center: Any) -> Any:
    p = F.softmax((teacher - center) / 0.04, 2).detach()
    q = F.log_softmax(student / 0.1, 2)
    total, count_ = 0.0, 0
    for g in range(len(teacher)):
        for v in range(len(student)):
            if g != v:
                total, count_ = total - (p[g] * q[v]).sum(1).mean(), count_ + 1
    return {"return": total / count_, "update center": 0.9 * center + 0.1 * teacher.mean((0, 1))}


def moco(q: Any, k: Any, queue: Any, head: Any) -> Any:
    positive = (q * k.detach()).sum(1, keepdim=True)
    logits = torch.cat([positive, q @ queue.T], 1) / 0.07
    fresh = queue.clone()
    for i in range(len(k)):
        fresh[(int(head) + i) % len(queue)] = k[i]
    loss = F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))
    return {"return": loss, "update queue": fresh, "update head": (head + len(k)) % len(queue)}


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: float) -> Any:
        ctx.weight = weight
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return -ctx.weight * grad, None


class Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, limit: float) -> Any:
        ctx.limit = limit
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad.clamp(-ctx.limit, ctx.limit), None


def surrogates(x: Any, w: float) -> Any:
    soft = torch.sigmoid(x)
    hard = soft + ((x > 0).double() - soft).detach()
    return (hard**3 * x).sum() + (Reversed.apply(x.sin(), w) ** 2).sum()


def schedules(x: Any, step: Any, n: int) -> Any:
    share = min(max(float(step) / n, 0.0), 1.0) if n > 0 else 1.0
    a = 3 + (1 - 3) * share
    b = 2 + (5 - 2) * (1 - np.cos(np.pi * share)) / 2
    c = 0.5 * (0.01 / 0.5) ** share
    return (a * x + b * x**2 + c * x**3).sum()


def learner_steps(g: np.random.Generator) -> dict[str, Any]:
    return {"x": g.normal(size=4), "step": np.array(int(g.integers(0, 15)))}


TRAINING = (
    Case(
        "annealed_focal",
        lambda g: {"logits": g.normal(size=5), "target": labels(g, 5, 2), "step": np.array(int(g.integers(0, 20)))},
        annealed,
        {"steps": 10},
        file="training",
    ),
    Case(
        "dino",
        lambda g: {
            "student": g.normal(size=(3, 4, 5)),
            "teacher": g.normal(size=(2, 4, 5)),
            "center": g.normal(size=5),
        },
        dino,
        file="training",
        stopped=True,
    ),
    Case(
        "moco",
        lambda g: {
            "q": g.normal(size=(3, 4)),
            "k": g.normal(size=(3, 4)),
            "queue": g.normal(size=(7, 4)),
            "head": np.array(int(g.integers(0, 7))),
        },
        moco,
        file="training",
        stopped=True,
    ),
    one(
        "surrogates",
        "input x: real[n]\nparam w: real = 0.3\nhard = straight_through(x > 0, sigmoid(x))\n"
        "return sum(hard^3 * x) + sum(reverse_gradient(sin(x), w)^2)",
        lambda g: {"x": g.normal(size=5)},
        surrogates,
        w=0.7,
    ),
    one(
        "clipped",
        "input x: real[n]\nreturn sum(clip_gradient(x^2, 0.5)^2)",
        lambda g: {"x": g.normal(size=5)},
        lambda x: (Clipped.apply(x**2, 0.5) ** 2).sum(),
    ),
    one(
        "schedules",
        """
input x: real[k]
param n: int = 10
a = linear(step, 3, 1, n)
b = cosine(step, 2, 5, steps = n)
c = exponential(step, 0.5, 0.01, n)
return sum(a * x + b * x^2 + c * x^3)
""",
        learner_steps,
        schedules,
        n=9,
    ),
    one(
        "no_steps",
        "input x: real[k]\nparam n: int = 10\nreturn sum(x * linear(step, 3, 1, n))",
        learner_steps,
        lambda x, step, n: x.sum(),
        n=0,
    ),
)

# ---------------------------------------------------------------------------------------------------- matrices


def positive(n: int, d: int) -> Any:
    def make(g: np.random.Generator) -> dict[str, Any]:
        a = g.normal(size=(n, d, d))
        return {"r": g.normal(size=(n, d)), "cov": a @ a.transpose(0, 2, 1) + np.eye(d)}

    return make


def gaussian(r: Any, cov: Any) -> Any:
    return -torch.distributions.MultivariateNormal(torch.zeros_like(r), cov, validate_args=False).log_prob(r).mean()


def volume(x: Any, weight: float) -> Any:
    gram = x.mT @ x / len(x) + weight * torch.eye(x.shape[1], dtype=torch.float64)
    return torch.linalg.inv(gram).square().sum() - torch.logdet(gram)


STRIDES = (
    one(
        "strided_window",
        """
input x: real[h]
axis p = 7
axis k = (h - 7) // 3 + 1
y[k] = sum((p + 1) * x[h = 3 * k + p] over p)
return sum(y^3)
""",
        lambda g: {"x": g.normal(size=17)},
        lambda x: (x.unfold(0, 7, 3) @ (count(7) + 1)).pow(3).sum(),
    ),
    one(
        "strided_window_backwards",
        """
input x: real[h]
axis p = 7
axis k = (h - 7) // 3 + 1
y[k] = sum((p + 1) * x[h = 3 * k + 6 - p] over p)
return sum(y^3)
""",
        lambda g: {"x": g.normal(size=18)},
        lambda x: (x.unfold(0, 7, 3) @ (7 - count(7))).pow(3).sum(),
    ),
    one(
        "strided_frames_with_reflection",
        """
input x: real[t]
axis i = 8
axis f = t // 3 + 1
frame[f, i] = (i + 1) * x[t = reflect(3 * f + i - 4)]
return sum(sum(frame over i)^2)
""",
        lambda g: {"x": g.normal(size=13)},
        lambda x: (
            (F.pad(x[None, None], (4, 4), mode="reflect")[0, 0].unfold(0, 8, 3)[: 13 // 3 + 1] @ (count(8) + 1)) ** 2
        ).sum(),
    ),
    one(
        "spectrum",
        """
input x: real[t]
axis i = 64
axis k = 33
axis f = (t - 64) // 16 + 1
cosine[i, k] = cos(2 * pi * k * i / 64)
frame[f, i] = x[t = 16 * f + i]
power[f, k] = sum(frame * cosine over i)^2
return sum(log1p(power))
""",
        lambda g: {"x": g.normal(size=150)},
        lambda x: torch.fft.rfft(x.unfold(0, 64, 16)).real.square().log1p().sum(),
    ),
)


MATRICES = (
    one(
        "gaussian",
        """
input r: real[n, d]
input cov: real[n, d, e]
axis e = d
symmetric[n, d, e] = (cov + cov[n, e, d]) / 2
solved[n, d] = sum(inverse(symmetric over d, e) * r[d = e] over e)
return mean((sum(r * solved over d) + logdet(symmetric over d, e) + size(d) * log(2 * pi)) / 2)
""",
        positive(4, 3),
        lambda r, cov: gaussian(r, (cov + cov.mT) / 2),
    ),
    one(
        "volume",
        """
input x: real[n, d]
param weight: real > 0 = 0.1
axis e = d
gram[d, e] = mean(x * x[d = e] over n) + (weight if d == e else 0)
return sum(inverse(gram over d, e)^2 over d, e) - logdet(gram over d, e)
""",
        lambda g: {"x": g.normal(size=(6, 3))},
        volume,
        weight=0.3,
    ),
    one(
        "inverse_of_a_window",
        """
input x: real[h, w]
axis w = h
return sum(inverse(x[h = h + 1, w = w + 1] over h, w) * x[h = h + 1, w = w + 1])
""",
        lambda g: {"x": g.normal(size=(4, 4)) + 3 * np.eye(4)},
        lambda x: (torch.linalg.inv(x[1:, 1:]) * x[1:, 1:]).sum(),
    ),
)

CASES = (*SORTING, *CUMULATIVE, *GRIDS, *RECURRENCES, *FUNCTIONS, *TRAINING, *STRIDES, *MATRICES)
