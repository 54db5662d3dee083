"""Losses that need more than kernels: recurrences, sorts, library routines, windows. With arguments for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lossdsl.diagnostics import Source
from lossdsl.ir.build import build
from lossdsl.ir.nodes import Program
from lossdsl.ir.text import parse_ir
from lossdsl.syntax.parser import parse, readable_part

SPELLED = Path(__file__).parent / "spelled"

# A covariance by its Cholesky factor, entry by entry: two ordered axes that read across each other.
CHOLESKY = """
program cholesky
  input x: real[b, n, d]
  cov[b, i: n, j: n] = sum d . x[b, i, d] * x[b, j, d]
  k[b, i: n, j: n] = map . cov[b, i, j] + (1.0 if i == j else 0.0)
  group i forward, j forward
    s[b, i: n, j: n] = sum m: n where m < j and j <= i . l[b, i, m] * l[b, j, m]
    l[b, i: n, j: n] = map . (sqrt(k[b, i, j] - s[b, i, j]) if i == j else (k[b, i, j] - s[b, i, j]) / l[b, j, j]) if j <= i else 0.0
  value = sum b, i: n . log(l[b, i, i])
  output return = value
"""

LOGDET = """
program logdet
  input x: real[b, n, d]
  cov[b, i: n, j: n] = sum d . x[b, i, d] * x[b, j, d]
  k[b, i: n, j: n] = map . cov[b, i, j] + (1.0 if i == j else 0.0)
  half[b] = logdet i: n, j: n . k[b, i, j]
  value = sum b . 0.5 * half[b]
  output return = value
"""

MAHALANOBIS = """
program mahalanobis
  input x: real[b, n]
  input a: real[b, n, d]
  k[b, i: n, j: n] = map . 2.0 if i == j else 0.0
  cov[b, i: n, j: n] = sum d . a[b, i, d] * a[b, j, d]
  p[b, i: n, j: n] = inverse i.1: n, j.1: n . k[b, i.1, j.1] + cov[b, i.1, j.1]
  value = sum b, i: n, j: n . x[b, i] * p[b, i, j] * x[b, j]
  output return = value
"""

CUMULATIVE = """
program cumulative
  input x: real[b, t]
  group t forward
    total[b, t] = map . total[b, t - 1] + x[b, t] if t >= 1 else x[b, t]
  group t backward
    rest[b, t] = map . logaddexp(rest[b, t + 1], x[b, t]) if t + 1 < size(t) else x[b, t]
  group t forward
    factor[b, t] = map . factor[b, t - 1] * x[b, t - 1] if t >= 1 else 1.0
  value = sum b, t . tanh(total[b, t]) * rest[b, t] + factor[b, t]
  output return = value
"""

MASKED_SORT = """
program masked_sort
  input x: real[b, n]
  input keep: bool[b, n]
  place[b, r: n]: int = argsort n where keep[b, n] . x[b, n]
  kept[b]: int = count n where keep[b, n] . true
  value = sum b, r: n . x[b, place[b, r]] * real(r + 1) if r < kept[b] else 0.0
  output return = value
"""

# Not by anti-diagonals: an entry reads one on its own.
ZIGZAG = """
program zigzag
  input x: real[h, w]
  group h forward, w forward
    a[h, w] = map . tanh(x[h, w] + (a[h - 1, w + 1] if h >= 1 and w + 1 < size(w) else 0.5) + 0.5 * (a[h, w - 1] if w >= 1 else 0.0))
  value = sum h, w . a[h, w] ^ 2
  output return = value
"""

# Two members that read each other, of which the second has one round less; data chooses what is carried.
LEADER = """
program leader
  input x: real[t, n]
  input lag: class[t] of n
  group t forward
    a[t, n] = map . x[t, n] + (0.5 * b[t - 1, lag[t]] if t >= 1 else 0.0)
    b[t: t - 1, n] = map . tanh(a[t, n]) + (b[t - 1, n] if t >= 1 else 0.0)
  value = sum t, n . a[t, n] ^ 2
  output return = value
"""

# A window that adds each entry to several: what is outside of the input has no entry.
SPREAD = """
program spread
  input x: real[b, h]
  input k: real[i: 3]
  out[b, h: h + 2] = sum i: 3 where h >= i and h - i < size(h) . k[i] * x[b, h - i]
  value = sum b, h: h + 2 . tanh(out[b, h])
  output return = value
"""

# Weights that are no product, and an uneven, strided window with a border.
DIRECT = """
program direct
  input x: real[b, h, w]
  input k: real[i: 3, j: 4]
  out[b, h: (h + 1) // 2, w] = sum i: 3, j: 4 . k[i, j] * x[b, 2 * h + i - 1, w + j - 2] if 2 * h + i - 1 >= 0 and 2 * h + i - 1 < size(h) and w + j - 2 >= 0 and w + j - 2 < size(w) else 0.0
  value = sum b, h: (h + 1) // 2, w . tanh(out[b, h, w])
  output return = value
"""

# What a round starts from is its own index, as a real.
COUNTED = """
program counted
  input x: real[t, n]
  group t forward
    a[t, n] = map . real(t) + 0.3 if t == 0 else 0.1 * tanh(a[t - 1, n]) + x[t, n] / real(t)
  group t backward
    b[t, n] = map . real(t) if t + 1 == size(t) else tanh(b[t + 1, n]) * x[t, n]
  value = sum t, n . a[t, n] * b[t, n]
  output return = value
"""

# Rounds that need what is the same in all of them, under conditions that change from one to the next.
SAME = """
program same
  input x: real[b, c]
  input on: binary[t, b]
  input scale: real[b]
  top[b]: int = argmax c . x[b, c]
  group t forward
    s[t, b] = sum c . tanh(a[t - 1, b, c] if t >= 1 else x[b, c] - x[b, top[b]])
    a[t, b, c] = map . (x[b, c] - x[b, top[b]]) * s[t, b] if on[t, b] == 1 else s[t, b] / scale[b]
  value = sum t, b, c . a[t, b, c]
  output return = value
"""

# Windows whose entries count under a condition on them, with and without a border; how many there are.
GATED = """
program gated
  input x: real[b, h, w]
  input y: real[b, h, w]
  input k: real[i: 3]
  out[b, h, w: w - 2] = sum i: 3, j: 3 . (k[i] * (x[b, h + i - 1, w + j] * y[b, h + i - 1, w + j]) if 0.1 <= x[b, h + i - 1, w + j] - 0.5 * y[b, h + i - 1, w + j] else 0.0) if h + i - 1 >= 0 and h + i - 1 < size(h) else 0.0
  number[b, h: h - 2, w: w - 2] = sum i: 3, j: 3 . 1.0 if y[b, h + i, w + j] > 0.0 else 0.0
  value.0 = sum b, h, w: w - 2 . tanh(out[b, h, w])
  value.1 = sum b, h: h - 2, w: w - 2 . number[b, h, w] * x[b, h, w]
  value = map . value.0 + value.1
  output return = value
"""

# Rounds that fold over all that there is in them: a window of turns, and the turn that a maximum chooses.
FOLDED = """
program folded
  input x: real[t]
  group t forward
    near[t] = logsumexp i: 3 . s[t - i - 1] if t - i - 1 >= 0 else 0.0
    far[t] = max u: 4 . s[t - 2 * u - 1] if t - 2 * u - 1 >= 0 else 0.0
    s[t] = map . x[t] + 0.5 * near[t] - 0.7 * far[t]
  value = sum t . s[t]
  output return = value
"""

# Routines of a library in each round: inverses and determinants as in a Kalman filter, ranks as in a running median.
FILTERED = """
program filtered
  input x: real[b, t, n]
  input a: real[n, k: n]
  group t forward
    s[b, t, n, k: n] = map . (x[b, t, n] * x[b, t, k] + (1.0 if n == k else 0.0)) + ((s.0[b, t - 1, n, k] + 0.1 * h[b, t - 1] * x[b, t, k]) if t > 0 else 0.0)
    p[b, t, n, k: n] = inverse n.1: n, k.1: n . s[b, t, n.1, k.1]
    h[b, t] = logdet n, k: n . s[b, t, n, k]
    s.0[b, t: t - 1, n, k: n] = sum l: n . a[n, l] * p[b, t, l, k]
  value.0 = sum b, t . h[b, t]
  value.1 = sum b, t, n, k: n . p[b, t, n, k] ^ 2
  value = map . value.0 + value.1
  output return = value
"""

RANKED = """
program ranked
  input x: real[b, t, n]
  input m: bool[b, t, n]
  group t backward
    y[b, t, n] = map . x[b, t, n] - (0.5 * middle[b, t + 1] + 0.25 * best[b, t + 1, n] if t + 1 < size(t) else 0.0)
    place[b, t, r: n]: int = argsort n . y[b, t, n]
    first[b, t, r: n]: int = argsort n where m[b, t, n] . -y[b, t, n]
    middle[b, t] = map . (y[b, t, place[b, t, (size(n) - 1) // 2]] + y[b, t, place[b, t, size(n) // 2]]) / 2.0 if size(n) > 0 else 0.0
    best[b, t, n] = map . y[b, t, first[b, t, n]] if m[b, t, first[b, t, n]] else 0.0
  value.0[b, t] = sum n . y[b, t, n] ^ 2
  value = sum b, t . value.0[b, t]
  output return = value
"""

TEXTS = {
    "filtered": FILTERED,
    "ranked": RANKED,
    "folded": FOLDED,
    "gated": GATED,
    "same": SAME,
    "counted": COUNTED,
    "spread": SPREAD,
    "direct": DIRECT,
    "cholesky": CHOLESKY,
    "logdet": LOGDET,
    "mahalanobis": MAHALANOBIS,
    "cumulative": CUMULATIVE,
    "masked_sort": MASKED_SORT,
    "zigzag": ZIGZAG,
    "leader": LEADER,
}
NAMED = {
    "gae_value": "sequences",
    "ctc": "sequences",
    "soft_dtw": "sequences",
    "sinkhorn": "sequences",
    "list_mle": "sequences",
    "ssim": "images",
    "ms_ssim": "images",
    "local_ncc": "images",
    "lovasz_hinge": "images",
    "soft_skeleton_recall": "images",
    "total_variation": "images",
    "sparsemax": "pairs",
}
SIZES = {"b": 2, "n": 4, "d": 3, "t": 5, "h": 5, "w": 4, "c": 3, "i": 4, "j": 3, "m": 3, "k": 3}
_LARGER = {"ssim": {"h": 12, "w": 13, "c": 1}, "ms_ssim": {"h": 23, "w": 22, "c": 1, "b": 1}}


def program(name: str) -> Program:
    """A loss of this module, or of the spelled ones."""
    if name in TEXTS:
        return parse_ir(TEXTS[name])
    path = SPELLED / f"{NAMED[name]}.loss"
    source = Source(path.name, path.read_text())
    losses, _ = build(readable_part(parse(source)[0]), source)
    return next(b.program for b in losses if b.program.name == name)


def arguments(
    p: Program, seed: int = 0, sizes: Mapping[str, int] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arrays, parameters)."""
    rng = np.random.default_rng(seed)
    known = {**SIZES, **_LARGER.get(p.name, {}), **(sizes or {})}
    if p.name == "ctc":
        arrays = {
            "logits": rng.normal(size=(6, 3, 4)),
            "target": rng.integers(1, 4, (3, 2)),
            "frames": np.array([6, 4, 5]),
            "labels": np.array([2, 1, 0]),
        }
        return arrays, {"blank": 0}
    arrays = {}
    for i in p.inputs:
        shape = tuple(d.evaluate(known) for d in i.dims)
        if i.role == "cotangent":
            continue
        if i.kind == "class":
            assert i.classes is not None
            arrays[i.name] = rng.integers(0, i.classes.evaluate(known), shape)
        elif i.kind in ("bool", "binary", "int"):
            bits = rng.integers(0, 2, shape)
            arrays[i.name] = bits.astype(bool) if i.kind == "bool" else bits
        elif i.range.lower is not None:
            arrays[i.name] = rng.uniform(0.05, 0.95, shape)
        else:
            arrays[i.name] = rng.normal(size=shape)
    parameters: dict[str, Any] = {}
    for q in p.parameters:
        assert q.default is not None
        parameters[q.name] = float(q.default.value) if q.kind == "real" else int(q.default.value)
    if "iterations" in parameters:
        parameters["iterations"] = 3
    return arrays, parameters
