"""Losses that combine two constructs of the language each, beside the same formula by hand in torch with plain loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

Tensors = dict[str, torch.Tensor]
F64 = torch.float64


@dataclass(frozen=True)
class Case:
    """A loss, the extents of its inputs' axes, its value by hand, and integer inputs (others are drawn)."""

    text: str
    sizes: dict[str, int]
    value: Callable[..., torch.Tensor]
    integers: dict[str, Any] = field(default_factory=dict)


def _at(x: torch.Tensor, i: int, j: int) -> torch.Tensor:
    inside = 0 <= i < x.shape[0] and 0 <= j < x.shape[1]
    return x[i, j] if inside else torch.zeros((), dtype=x.dtype)


CASES: dict[str, Case] = {}


def case(name: str, text: str, sizes: dict[str, int], **rest: Any) -> Callable[[Any], Any]:
    def keep(value: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        CASES[name] = Case(f"loss {name}:\n{text}", sizes, value, **rest)
        return value

    return keep


@case(
    "prod_recurrence",
    """
    input x: real[t, k]
    axis j = k
    a[t, k] = x[t, k] + (prod(sigmoid(a[t = t - 1, k = j]) + x[t, j] over j) if t > 0 else 1)
    return sum(a^2)
    """,
    {"t": 4, "k": 3},
)
def _(x: torch.Tensor) -> torch.Tensor:
    rows = [x[0] + 1]
    for t in range(1, x.shape[0]):
        rows.append(x[t] + (torch.sigmoid(rows[-1]) + x[t]).prod())
    return (torch.stack(rows) ** 2).sum()


@case(
    "prod_two_axes_recurrence",
    """
    input x: real[t, k, m]
    axis i = k
    axis j = m
    a[t, k, m] = x + (prod(1 + a[t = t - 1, k = i, m = j] over i, j where i + j > 0) if t > 0 else 0)
    return mean(a^2)
    """,
    {"t": 3, "k": 2, "m": 2},
)
def _(x: torch.Tensor) -> torch.Tensor:
    rows = [x[0]]
    for t in range(1, x.shape[0]):
        rows.append(x[t] + (1 + rows[-1]).reshape(-1)[1:].prod())
    return (torch.stack(rows) ** 2).mean()


@case(
    "window_recurrence",
    """
    input x: real[h, w]
    axis k = 4
    axis i, j = 3
    axis u = 2
    s[k, h, w] = x if k == 0 else max(s[k = k - 1, h = wrap(h + i - 1), w = w] * 0.5 + x over i) +
        sum(s[k = k - 1, h = h, w = w + 2 * u - 1 else 0] over u)
    return mean(s[k = last]^2)
    """,
    {"h": 5, "w": 4},
)
def _(x: torch.Tensor) -> torch.Tensor:
    h, w = x.shape
    s = x
    for _k in range(1, 4):
        rows = []
        for a in range(h):
            for b in range(w):
                top = torch.stack([s[(a + i - 1) % h, b] * 0.5 + x[a, b] for i in range(3)]).max()
                rows.append(top + sum(_at(s, a, b + 2 * u - 1) for u in range(2)))
        s = torch.stack(rows).reshape(h, w)
    return (s**2).mean()


@case(
    "gather_of_sorted",
    """
    input x: real[n, c]
    input target: class[n] of c
    input rank: int[n] in [0, size(c))
    ranked = sort(x over c descending)
    place = argsort(x over c)
    return mean(ranked[c = rank] * x[c = target] + x[c = place[c = rank]]^2)
    """,
    {"n": 4, "c": 5},
    integers={"target": [0, 4, 2, 2], "rank": [1, 0, 4, 3]},
)
def _(x: torch.Tensor, target: torch.Tensor, rank: torch.Tensor) -> torch.Tensor:
    down = x.sort(1, descending=True).values
    up = x.sort(1).values
    r = torch.arange(len(x))
    return (down[r, rank] * x[r, target] + up[r, rank] ** 2).mean()


@case(
    "segments_masked",
    """
    input x: real[n, d]
    input group: int[n] in [0, size(g))
    input mask: binary[n]
    input centre: real[g, d]
    count[g] = count(mask[n] == 1 and group[n] == g over n)
    total[g, d] = sum(x[n, d] over n where group[n] == g and mask[n] == 1)
    top[g] = max(x[n, d] over n, d where group[n] == g and mask[n] == 1 else 0)
    middle[g, d] = total / max(count, 1)
    return sum((middle - centre)^2) + mean((x[n, d] - middle[group[n], d])^2 over n, d where mask[n] == 1) + sum(top)
    """,
    {"n": 7, "d": 2, "g": 3},
    integers={"group": [0, 1, 0, 2, 2, 0, 1], "mask": [1, 1, 0, 0, 0, 1, 1]},
)
def _(x: torch.Tensor, group: torch.Tensor, mask: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    middle, top = [], []
    for g in range(centre.shape[0]):
        chosen = x[(group == g) & (mask == 1)]
        middle.append(chosen.sum(0) / max(len(chosen), 1))
        top.append(chosen.max() if len(chosen) else torch.zeros((), dtype=x.dtype))
    m = torch.stack(middle)
    kept = mask == 1
    return ((m - centre) ** 2).sum() + ((x - m[group])[kept] ** 2).mean() + sum(top)


@case(
    "quantile_two_axes",
    """
    input x: real[b, ..., h, w]
    q = quantile(x, q = 0.3 over h, w)
    m = median(x^2 over ..., h)
    return sum(q^2) + sum(m * x) + sum(median(x over b, w where x > -0.5 else 0)^2)
    """,
    {"b": 3, "...": (2,), "h": 3, "w": 2},
)
def _(x: torch.Tensor) -> torch.Tensor:
    b, r, h, w = x.shape
    q = torch.quantile(x.reshape(b, r, h * w), 0.3, dim=2)
    m = torch.quantile((x**2).permute(0, 3, 1, 2).reshape(b, w, r * h), 0.5, dim=2)
    total = (q**2).sum() + (m[:, None, None, :] * x).sum()
    for i in range(r):
        for j in range(h):
            e = x[:, i, j, :].reshape(-1)
            e = e[e > -0.5]
            total = total + (torch.quantile(e, 0.5) ** 2 if len(e) else 0)
    return total


@case(
    "strided_wrap",
    """
    input x: real[b, ..., h]
    axis i = 3
    half = sum(x[h = wrap(2 * h + i - 1)] * (i + 1) over i)
    deep = max(half[h = reflect(h + 1)], half)
    return mean(deep^2)
    """,
    {"b": 2, "...": (2,), "h": 8},
)
def _(x: torch.Tensor) -> torch.Tensor:
    h = x.shape[-1]
    half = torch.stack([sum(x[..., (2 * k + i - 1) % h] * (i + 1) for i in range(3)) for k in range(h // 2)], -1)
    n = half.shape[-1]
    other = torch.stack([half[..., k + 1 if k + 1 < n else n - 2] for k in range(n)], -1)
    return (torch.maximum(other, half) ** 2).mean()


@case(
    "blocks_and_recurrence",
    """
    input x: real[b, t]
    input length: int[b] in [1, size(t)]
    def moments(p: real[u, v], decay):
        run[u, v] = decay * run[u = u, v = v - 1 else 0] + p
        peak[u, v] = max(peak[u = u, v = v - 1 else -inf], run)
        return run, peak
    r, p = moments(x, 0.5)
    r2, p2 = moments(r[b, t], 0.25)
    per = logsumexp(r * p over t where t < length) + p2[t = length - 1] * r2[t = last]
    return mean(per)
    """,
    {"b": 3, "t": 5},
    integers={"length": [5, 1, 3]},
)
def _(x: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    def moments(p: torch.Tensor, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
        run = [p[:, 0]]
        for k in range(1, p.shape[1]):
            run.append(decay * run[-1] + p[:, k])
        rows = torch.stack(run, 1)
        return rows, rows.cummax(1).values

    r, p = moments(x, 0.5)
    r2, p2 = moments(r, 0.25)
    total = torch.zeros((), dtype=x.dtype)
    for k, n in enumerate(length.tolist()):
        total = total + torch.logsumexp((r * p)[k, :n], 0) + p2[k, n - 1] * r2[k, -1]
    return total / len(x)


@case(
    "softmax_of_recurrence",
    """
    input x: real[t, c]
    axis k = c
    a[t, c] = x + (logsumexp(a[t = t - 1, c = k] - (k - c)^2 over k where k <= c) if t > 0 else 0)
    w = softmax(a over t)
    return sum(w * cumsum(x over t) * norm(a over c))
    """,
    {"t": 4, "c": 3},
)
def _(x: torch.Tensor) -> torch.Tensor:
    t, c = x.shape
    rows = [x[0]]
    for s in range(1, t):
        low = [torch.logsumexp(torch.stack([rows[-1][k] - (k - q) ** 2 for k in range(q + 1)]), 0) for q in range(c)]
        rows.append(x[s] + torch.stack(low))
    a = torch.stack(rows)
    return (torch.softmax(a, 0) * x.cumsum(0) * a.norm(dim=1, keepdim=True)).sum()


@case(
    "two_dimensional_recurrence",
    """
    input x: real[n, d]
    input y: real[m, d]
    cost[n, m] = sum((x[n, d] - y[m, d])^2 over d)
    r[n, m] = cost + (0 if n == 0 and m == 0 else
        -logsumexp(-r[n - 1, m else inf], -r[n, m - 1 else inf], -r[n - 1, m - 1 else inf]))
    return r[last, last] + sum(cumprod(1 + cost / 8 over m)[m = last])
    """,
    {"n": 3, "m": 4, "d": 2},
)
def _(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    r: dict[tuple[int, int], torch.Tensor] = {}
    for i in range(len(x)):
        for j in range(len(y)):
            before = [r[p] for p in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if p in r]
            r[i, j] = cost[i, j] - (torch.logsumexp(-torch.stack(before), 0) if before else 0)
    return r[len(x) - 1, len(y) - 1] + (1 + cost / 8).prod(1).sum()


@case(
    "reshaped_concatenation",
    """
    input x: real[n, h, w]
    input y: real[n, k]
    axis p = h * w
    axis q = h * w + k
    flat[n, p] = x[n, p // size(w), p % size(w)]
    z[n, q] = flat[n, q] if q < size(p) else y[n, q - size(p)]
    s = sort(z over q)
    return mean(s * (q + 1)) + mean(var(z, correction = 1 over q)) + mean(max(z over n) * s)
    """,
    {"n": 3, "h": 2, "w": 2, "k": 3},
)
def _(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    z = torch.cat([x.reshape(len(x), -1), y], 1)
    s = z.sort(1).values
    q = torch.arange(1, z.shape[1] + 1, dtype=x.dtype)
    return (s * q).mean() + z.var(1, correction=1).mean() + (z.max(0).values * s).mean()


@case(
    "matrix_of_windows",
    """
    input x: real[b, t, d]
    axis i = 3
    axis e = d
    m[b, t, d] = mean(x[t = t + i] over i)
    c[b, d, e] = sum(m[b, t, d] * m[b, t, e] over t) + (2 if d == e else 0)
    return mean(logdet(c over d, e)) + mean(norm(x, p = 3 over t))
    """,
    {"b": 2, "t": 6, "d": 2},
)
def _(x: torch.Tensor) -> torch.Tensor:
    m = torch.stack([x[:, t : t + 3].mean(1) for t in range(x.shape[1] - 2)], 1)
    c = m.transpose(1, 2) @ m + 2 * torch.eye(x.shape[2], dtype=x.dtype)
    return torch.logdet(c).mean() + (x.abs() ** 3).sum(1).pow(1 / 3).mean()


@case(
    "derivative_in_recurrence",
    """
    input x: real[t]
    param rate: real = 0.1
    axis k = 3
    def f(u) = log1p(u^2) + exp(-u)
    a[k, t] = x if k == 0 else a[k - 1, t] - rate * derivative(f(a[k - 1, t]), a[k - 1, t])
    return mean(f(a[k = last]))
    """,
    {"t": 4},
)
def _(x: torch.Tensor) -> torch.Tensor:
    a = x
    for _k in range(2):
        a = a - 0.1 * (2 * a / (1 + a**2) - torch.exp(-a))
    return (torch.log1p(a**2) + torch.exp(-a)).mean()


@case(
    "gather_in_recurrence",
    """
    input emit: real[b, t, s]
    input jump: real[s, r]
    input label: class[b, t] of s
    axis q = s
    a[b, t, s] = emit + (max(a[b, t - 1, q] + jump[q, s] over q) if t > 0 else 0)
    path[b, t] = emit[b, t, label[b, t]] + (path[b, t - 1] + jump[label[b, t - 1], label[b, t]] if t > 0 else 0)
    return mean(max(a[t = last] over s) - path[t = last])
    """,
    {"b": 2, "t": 4, "s": 3, "r": 3},
    integers={"label": [[0, 2, 1, 1], [2, 2, 0, 1]]},
)
def _(emit: torch.Tensor, jump: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    b, t, _s = emit.shape
    total = torch.zeros((), dtype=emit.dtype)
    for k in range(b):
        a, path = emit[k, 0], emit[k, 0, label[k, 0]]
        for u in range(1, t):
            a = emit[k, u] + (a[:, None] + jump).max(0).values
            path = path + emit[k, u, label[k, u]] + jump[label[k, u - 1], label[k, u]]
        total = total + a.max() - path
    return total / b


@case(
    "argmax_gather_rest",
    """
    input x: real[n, ..., c]
    input y: real[n, ..., c]
    best = argmax(x over c)
    second = argmax(x over c where c != best else 0)
    gap = x[c = best] - x[c = second] + y[c = best]
    return mean(softplus(gap)) + mean(std(y over ... ) over n, c) + mean(y over n, ..., c where y > x)
    """,
    {"n": 3, "...": (2, 2), "c": 4},
)
def _(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    top = x.topk(2, dim=-1)
    gap = top.values[..., 0] - top.values[..., 1] + y.gather(-1, top.indices[..., :1])[..., 0]
    return F.softplus(gap).mean() + y.std(dim=(1, 2), correction=0).mean() + y[y > x].mean()


@case(
    "all_special",
    """
    input x: real[n, k] in (0, inf)
    input y: real[n, k]
    a = lgamma(x + 1) - erfc(x + 0.5) * y
    b = prod(normal_cdf(y) + erf(x) over k) + logsumexp(logsumexp(log_normal_cdf(y), log(i0e(x)), 0.5 * y) over k)
    return mean(a over n, k) + mean(b) + sum(cumlogsumexp(y over n) * xlogy(x, x))
    """,
    {"n": 3, "k": 2},
)
def _(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    a = torch.lgamma(x + 1) - torch.erfc(x + 0.5) * y
    b = (torch.special.ndtr(y) + torch.erf(x)).prod(1)
    three = torch.stack([torch.special.log_ndtr(y), torch.log(torch.special.i0e(x)), 0.5 * y])
    b = b + three.logsumexp(0).logsumexp(1)
    return a.mean() + b.mean() + (y.logcumsumexp(0) * torch.xlogy(x, x)).sum()


def draw(text_inputs: Any, sizes: dict[str, Any], integers: dict[str, Any], seed: int) -> Tensors:
    """Arguments for the inputs of a program."""
    generator = torch.Generator().manual_seed(seed)
    found: Tensors = {}
    for i in text_inputs:
        if i.name in integers:
            found[i.name] = torch.tensor(integers[i.name])
            continue
        shape: list[int] = []
        for axis in i.axes:
            size = sizes[axis]
            shape += size if isinstance(size, tuple) else [size]
        x = torch.randn(shape, generator=generator, dtype=F64)
        found[i.name] = x.abs() + 0.1 if i.range.lower is not None else x
    return found


@case(
    "quantile_of_everything",
    """
    input x: real[n, k]
    return quantile(x, q = 0.3 over n, k)^2 + median(x)^3 + x[n = argmax(x over n, k) // size(k), k = 0]^2
    """,
    {"n": 3, "k": 4},
)
def _(x: torch.Tensor) -> torch.Tensor:
    row = int(x.reshape(-1).argmax()) // x.shape[1]
    return torch.quantile(x, 0.3) ** 2 + torch.quantile(x, 0.5) ** 3 + x[row, 0] ** 2


@case(
    "windows_in_recurrences",
    """
    input x: real[t, h]
    axis i = 2
    u[t, h] = x if t == 0 else u[t = t - 1] + 0.1 * x *
        (u[t = t - 1, h = h + 1 else 0] - 2 * u[t = t - 1] + u[t = t - 1, h = h - 1 else 0])
    v[t, h] = sum(u[h = edge(h + i)] over i) * v[t = t + 1, h = wrap(h - 1) else 1]
    return sum(v[t = 0])
    """,
    {"t": 3, "h": 4},
)
def _(x: torch.Tensor) -> torch.Tensor:
    rows = [x[0]]
    for t in (1, 2):
        before, out = rows[-1], x.new_zeros(1)
        rows.append(before + 0.1 * x[t] * (torch.cat([before[1:], out]) - 2 * before + torch.cat([out, before[:-1]])))
    v = torch.ones_like(x[0])
    for row in reversed(rows):
        v = (row + torch.cat([row[1:], row[-1:]])) * v.roll(1)
    return v.sum()


@case(
    "medians_of_segments",
    """
    input x: real[n]
    input g: class[n] of k
    axis k = 4
    middle[k] = median(x over n where g == k else 0)
    spread[k] = median(abs(x - middle[k = g]) over n where g == k else 0)
    worst = max(x over n where g == k else -9)
    return sum(middle * spread) + sum(softmax(worst over k where any(g == k over n)) * worst)
    """,
    {"n": 7},
    integers={"g": [0, 3, 0, 0, 3, 3, 1]},
)
def _(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    total, worst = x.new_zeros(()), []
    for k in (0, 1, 3):
        own = x[g == k]
        middle = own.quantile(0.5)
        total = total + middle * (own - middle).abs().quantile(0.5)
        worst.append(own.max())
    tops = torch.stack(worst)
    return total + (tops.softmax(0) * tops).sum()
