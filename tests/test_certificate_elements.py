"""What the checker takes of folds and their elements, of normalised weights, of recurrences and of folds of nothing: statements
that are true have a certificate, statements that are false have none."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import numpy as np
import pytest

from lossdsl import pipeline
from lossdsl.certificate.boxes import of_bracket
from lossdsl.certificate.document import Rejected, _part, certify, sealed, verify
from lossdsl.certificate.masses import of_masses
from lossdsl.certificate.question import Question, of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source

ROWS = "    input x, y: real[n, c]\n    input p, q: simplex[n, c] over c\n    input k: class[n] of c\n    input m: bool[n, c]\n"
PAIRS = "    input pred, target: real[n]\n    param s: real > 0\n"
GAMMA = "    input x: real[n]\n    param g: real >= 0\n"
ROOT = "h[n, c] = sqrt(r) if r <= 1 else (r + 1) / 2"
HUBER = "r[n, c] = x - y; h[n, c] = r^2 / 2 if abs(r) <= 1 else abs(r) - 1/2"
SPHERE = "    input u, v: unit[n, d] over d\n"
LATTICE = "a = log_softmax(x over c); h[n, c] = a + (logaddexp(h[n - 1, c], h[n - 1, 0]) if n > 0 else 0)"
BOTH = "h[n, c] = x + (h[n - 1, c] if n > 0 else 0); g[n, c] = y + (g[n - 1, c] if n > 0 else 0)"
COUNTS = "    input x: real[n] >= 0\n    input z: real[n]\n"
BETWEEN = (
    "    input v: real[n] in [low, low + width]\n    input w: real[n] >= low\n    input r: real[n]\n"
    "    param low: real = 0\n    param width: real > 0 = 1\n"
)
PLUS = "u[n] = sum((a + b if x > 0 and y > 0 else 0) over c); v[n] = sum(abs(x) / 1000 over c)"
IGNORED = "    input x: real[n]\n    input y: real[n, c]\n    input k: class[n] of c or ignored\n    param ignored: int = -100\n"
OR_X = "r[n, c] = x if k == ignored else y; t[n] = x if k == ignored else y[n, k[n]]"
ENDS = "    param a: real in [0, 1] = 0\n    input x: real[n] in [a, 1]\n    input z: real[n] in [0, 1]\n    input w: real[n] in [-2, 2]\n"
STEPS = "    input x: real[t]\n    input u: real[t] in [-1, 1]\n"


def certified(head: str, lines: str, claim: str) -> bool:
    """Whether the checker derives the claim, whatever the provers say."""
    source = (
        f"loss l:\n{head}"
        + "".join(f"    {line}\n" for line in lines.split("; "))
        + f"    return mean(per)\n    claim {claim}\n"
    )
    (built,) = pipeline.analyse(Source("<test>", source)).losses
    try:
        for question in of_claim(built, built.claims[0]):
            _part(question)
    except Stuck:
        return False
    return True


TRUE = [
    (PAIRS, "ok[n] = pred >= 2; per[n] = 1 / pred if ok else 0", "per <= 0.5"),
    (PAIRS, "ok[n] = not (pred < 2 or target > 1); per[n] = target / pred if ok else 0", "per <= 0.5"),
    (ROWS, "per[n] = max(x over c) - x[n, k[n]]", "per >= 0"),
    (IGNORED, "per[n] = logsumexp(y over c) - y[n, k[n]] if k != ignored else 0", "per >= 0"),
    (ENDS, "per = w^2 + z", "even in w"),
    (ROWS, "per = sum(x * y over c) + sum(p * q over c)", "exchange symmetric in x, y"),
    (ROWS, "per = sum(x * y over c) + sum(p * q over c)", "exchange symmetric in p, q"),
    (ENDS, "per = log(1 - z)", "smooth in z"),
    (ROWS, "per = sum(log(p) over c)", "smooth in p"),
    (ROWS, "per[n] = max(x + (1 if c != k else 0) over c) - x[n, k[n]]", "per >= 0"),
    (ROWS, "per[n] = x[n, k[n]] - min(x over c)", "per >= 0"),
    (ROWS, "per[n] = logaddexp(logsumexp(x over c), y[n, k[n]]) - y[n, k[n]]", "per >= 0"),
    (ROWS, "per[n] = 2 * relu(x[n, k[n]] - 1) - x[n, k[n]] + 2", "per >= 0"),
    (ROWS, "per[n] = exp(x[n, k[n]]) - x[n, k[n]] - 1", "per >= 0"),
    (ROWS, "per[n] = abs(x[n, k[n]]) + x[n, k[n]]", "per >= 0"),
    (ROWS, "a = log_softmax(x over c); b = log_softmax(y over c); per = sum(exp(a) * (a - b) over c)", "per >= 0"),
    (ROWS, "per = sum(xlogy(p, p) - p * log_softmax(x over c) over c)", "per >= 0"),
    (
        ROWS,
        "a = log_softmax(x over c); b = log_softmax(y over c); h = logaddexp(a + log(1/3), b + log1p(-1/3)); "
        "per = sum(exp(a) * (a - h) over c)",
        "per >= 0",
    ),
    (STEPS, "h[t] = x[t] + (h[t - 1] / 2 if t > 0 else 0); per = h^2", "convex in x"),
    (STEPS, "h[t] = x[t] + (relu(h[t - 1]) if t > 0 else 0); per = h", "convex in x"),
    (STEPS, "h[t] = max(x[t], h[t - 1]) if t > 0 else x[t]; per = exp(h)", "convex in x"),
    (STEPS, "h[t] = x[t] + (h[t - 1] if t > 0 else 0); per = h", "increasing in x"),
    (STEPS, "h[t] = x[t] + (tanh(h[t - 1]) if t > 0 else 0); per = h", "smooth in x"),
    (STEPS, "h[t] = x[t] + (tanh(h[t - 1]) if t > 0 else 0); per = h", "lipschitz in x"),
    (STEPS, "h[t] = u[t] * (1 + h[t - 1] if t > 0 else 1); per = h", "lipschitz in u"),
    (STEPS, "h[t] = x[t]^2 + (h[t - 1] if t > 0 else 0); per = h", "per >= 0"),
    (ROWS, "a = log_softmax(x over c); per = sum(exp(a) * (a - y) over c)", "lipschitz in x"),
    (ROWS, "a = log_softmax(x over c); per = sum((2 * a + 1) * exp(a) over c)", "lipschitz in x"),
    (ROWS, "per[n] = logsumexp(x over c) - x[n, k[n]]", "lipschitz in x <= 1.41422"),
    (ROWS, "per[n] = logsumexp(x over c) - x[n, k[n]]", "lipschitz in x <= 2 in linf"),
    (ROWS, "per[n] = logsumexp(x over c) - x[n, k[n]]", "lipschitz in x <= 1 in l1"),
    (ROWS, "per = sum(p * (y - log_softmax(x over c)) over c)", "lipschitz in x <= 1.41422"),
    (ROWS, "a = softmax(y over c); per = sum(a * abs(x) over c)", "lipschitz in x <= 1.41422"),
    (ROWS, "per[n] = max(x over c) + mean(x over c)", "lipschitz in x <= 2"),
    (ROWS, "per[n] = x[n, argmax(x over c)] - logsumexp(x over c)", "lipschitz in x"),
    (ROWS, "z[n, c] = 2 * x; per[n] = z[n, argmin(z over c)]", "lipschitz in x"),
    (ROWS, "per[n] = sum(exp(-(x - y)^2) over c) + log1p(sum(x^2 over c))", "lipschitz in x"),
    (ROWS, "per[n] = exp(-sum((x - y)^2 over c) / 2 - 1)", "lipschitz in x"),
    (ROWS, "per[n] = expm1(-mean((2 * x - logsumexp(x over c))^2 over c))", "lipschitz in x"),
    (ROWS, "per[n] = log1p(y[n, 0]^2 + sum(x^2 over c where m))", "lipschitz in x"),
    (BETWEEN, "per = v^3 * (1 + v)", "lipschitz in v"),
    (BETWEEN, "per[n] = v * mean(v over n)", "lipschitz in v"),
    (ROWS, "per[n] = softplus(logsumexp(x over c where m))", "smooth in x"),
    (ROWS, "per[n] = softplus(logsumexp(x over c where m) + x[n, k[n]])", "lipschitz in x"),
    (ROWS, "per[n] = softplus(2 * logsumexp(x over c where m))", "convex in x"),
    (ROWS, "per = 0 * sum(sin(x) over c) + sum(x^2 over c)", "convex in x"),
    (ROWS, "per = sum(abs(x)^0 * sin(x)^0 * x over c)", "affine in x"),
    (ROWS, "per[n] = mean((x - y)^2 over c)", "strictly convex in x"),
    (ROWS, "r[n] = sum(softplus(x) over c); per = r + 2 * sum(y^2 over c)", "strictly convex in x"),
    (ROWS, "r[n] = sum(softplus(x) over c); per = (k + 1) * r / 3", "strictly convex in x"),
    (ROWS, "r[n] = mean(x^2 over c) if size(n) > 0 else 0; per = r", "strictly convex in x"),
    (ROWS, f"{LATTICE}; per[n] = h[n, k[n]]", "invariant under shift of x over c"),
    (ROWS, f"{BOTH}; per = sum(h * g over c)", "exchange symmetric in x, y"),
    (ROWS, f"{BOTH}; per = sum(h over c)", "invariant under permutation of x over c"),
    (ROWS, f"{BOTH}; per = logsumexp(h * y^2 + h over n)", "exchange symmetric in p, q"),
    (ROWS, "h[n, c] = x^2 + (h[n - 1, c] / 2 if n > 0 else 0); per = sum(h over c)", "even in x"),
    (
        ROWS,
        "f[n, c] = x - (g[n - 1] if n > 0 else 0); g[n] = logsumexp(f over c); per = g",
        "invariant under permutation of x over c",
    ),
    (ROWS, "s[n, c] = sort(x over c); per = sum(abs(s - y) over c)", "C0 in x"),
    (ROWS, "s[n, c] = sort(x over c); per = sum(abs(s - y) over c)", "invariant under permutation of x over c"),
    (ROWS, "s[n, c] = sort(-x over c); per = sum((c + 1) * s over c)", "C0 in x"),
    (ROWS, "per[n] = x[n, argmin(x over c)]^2 + x[n, argmax(x over c)]", "C0 in x"),
    (ROWS, "per[n] = x[n, argmin(x over c)]^2", "invariant under permutation of x over c"),
    (COUNTS, "per = i0e(x)", "smooth in x"),
    (COUNTS, "per = i0e(z)", "C0 in z"),
    (COUNTS, "per = exp(3 / 2 * log(x + 1))", "convex in x"),
    (COUNTS, "per = expm1(log1p(z^2) / 2)", "per >= 0"),
    (COUNTS, "per = 1 if x == 0 else exp(x)", "smooth in x"),
    (COUNTS, "per = -softplus(z) if x == 0 else lgamma(x + 1) + x * z", "convex in x"),
    (COUNTS, "per = x if x >= 0 else -x", "increasing in x"),
    (COUNTS, "per = x * z - digamma(x + 2)", "convex in x"),
    (PAIRS, "per = log1p((pred - target)^2 / s^2)", "quasiconvex in pred"),
    (PAIRS, "per = min(abs(pred - target), s)", "quasiconvex in pred"),
    (PAIRS, "per = tanh(abs(pred - target))", "quasiconvex in target"),
    (PAIRS, "per = pred^3 - target^3", "quasiconvex in pred"),
    (PAIRS, "per = atan(-pred) + target^2", "quasiconvex in pred"),
    (PAIRS, "per = exp(pred) - pred * target", "quasiconvex in pred"),
    (ROWS, f"{HUBER}; per = sum(h over c)", "convex in x"),
    (ROWS, f"{HUBER}; per = sum(h over c)", "C1 in x"),
    (ROWS, f"{HUBER}; per = sum(h over c)", "lipschitz in x"),
    (ROWS, "e[n] = max(x over c); per = e^2 / 2 if abs(e) <= 1 else abs(e) - 1/2", "lipschitz in x"),
    (ROWS, "e[n] = logsumexp(x over c); per = e^2 / 2 if abs(e) <= 1 else abs(e) - 1/2", "C1 in x"),
    (ROWS, f"r[n, c] = exp(x); {ROOT}; per = sum(h over c)", "C1 in x"),
    (ROWS, "per = sum((x if x > 0 else x / 2) over c)", "convex in x"),
    (ROWS, "per = max((x if x > 0 else x / 2) over c)", "convex in x"),
    (ROWS, "per = sum((c + 1/2) / size(c) * abs(x) + (1 - (c + 1/2) / size(c)) * x^2 over c)", "convex in x"),
    (ROWS, "per = sum((n + 1) / size(n) * x^2 over c)", "convex in x"),
    (GAMMA, "per = abs(x)^g", "C0 in x"),
    (GAMMA, "per = abs(x)^(g + 1)", "C0 in x"),
    (SPHERE, "per = softplus(3 * sum(u * v over d))", "smooth in u"),
    (SPHERE, "per = softplus(3 * sum(u * v over d)) + max(abs(u) over d)", "lipschitz in u"),
    (SPHERE, "per = max(abs(u) over d)", "C0 in u"),
]
FALSE = [
    (PAIRS, "ok[n] = pred >= 2; per[n] = 1 / pred if ok else 0", "per <= 0.4"),
    (PAIRS, "ok[n] = pred >= 2; per[n] = 1 / target if ok else 0", "per <= 0.5"),
    (PAIRS, "ok[n] = pred >= 2; per[n] = 1 / pred if not ok else 0", "per <= 0.5"),
    (PAIRS, "ok[n] = pred >= 2; per[n] = 1 / pred[n] if ok[n = n - 1 else true] else 0", "per <= 0.5"),
    (ROWS, f"{LATTICE}; per[n] = h[n, k[n]] + x[n, 0]", "invariant under shift of x over c"),
    (ROWS, "h[n] = x[n, 0] + (h[n - 1] if n > 0 else 0); per = h", "invariant under shift of x over c"),
    (ROWS, "h[n] = x[n, 0] if n == 0 else h[n - 1]; per = h", "invariant under shift of x over c"),
    (ROWS, "h[n] = 0 if n == 0 else h[n - 1] + x[n - 1, 0]; per = h", "invariant under shift of x over c"),
    (ROWS, f"{BOTH}; per = sum(h * g / 2 - g over c)", "exchange symmetric in x, y"),
    (ROWS, f"{BOTH.replace('g[n - 1, c]', 'g[n - 1, c] / 2')}; per = sum(h * g over c)", "exchange symmetric in x, y"),
    (ROWS, f"{BOTH.replace('g[n - 1, c]', 'g[n - 1, 0]')}; per = sum(h * g over c)", "exchange symmetric in x, y"),
    (
        ROWS,
        f"{BOTH.replace('h[n - 1, c]', 'h[n - 1, 0]')}; per = sum(h over c)",
        "invariant under permutation of x over c",
    ),
    (ROWS, f"{BOTH}; per = sum((c + 1) * h over c)", "invariant under permutation of x over c"),
    (ROWS, f"{BOTH}; per = sum(h over c)", "invariant under permutation of x over n"),
    (
        ROWS,
        "h[n, c] = c * x + (h[n - 1, c] if n > 0 else 0); per = sum(h over c)",
        "invariant under permutation of x over c",
    ),
    (
        ROWS,
        "h[n, c] = x + (h[n, c - 1] if c > 0 else 0); per = sum(h over c)",
        "invariant under permutation of x over c",
    ),
    (ROWS, "h[n, c] = x + (h[n - 1, c] / 2 if n > 0 else 0); per = sum(h over c)", "even in x"),
    (ROWS, "h[n, c] = x + (h[n - 1, c]^2 if n > 0 else 0); per = sum(h over c)", "odd in x"),
    (ROWS, "s[n, c] = sort(x over c); per = sum(s * x over c)", "invariant under permutation of x over c"),
    (ROWS, "s[n, c] = sort(x over c); per = sum(s * y over c)", "invariant under permutation of y over c"),
    (ROWS, "per[n] = y[n, argmax(x over c)]", "C0 in x"),
    (ROWS, "per[n] = y[n, argmax(x over c)]", "invariant under permutation of x over c"),
    (ROWS, "per[n] = argmax(x over c) / 2", "C0 in x"),
    (ROWS, "per[n] = argmax(x over c) / 2", "invariant under permutation of x over c"),
    (ROWS, "per[n] = x[n, argmax(abs(x) over c)]", "C0 in x"),
    (ROWS, "per[n] = x[n, argmax(x over c)] if argmin(x over c) == 0 else 0", "C0 in x"),
    (
        ROWS,
        "per[n] = x[n, argmax(x over c)] if argmin(x over c) == 0 else 0",
        "invariant under permutation of x over c",
    ),
    (ROWS, "per[n] = x[n, argmax(x + y over c)]", "C0 in y"),
    (ROWS, "per[n, c] = x[argmax(y over n), c]", "C0 in y"),
    (
        ROWS,
        "s[n, c] = sort(x over c); per = sum(s over c where c < 1) + x[n, 0]",
        "invariant under permutation of x over c",
    ),
    (COUNTS, "per = i0e(z)", "smooth in z"),
    (COUNTS, "per = exp(2 * log(z))", "per >= 0"),
    (COUNTS, "per = exp(3 / 2 * log(z))", "per >= 0"),
    (COUNTS, "per = exp(log(x + 1) / 2)", "convex in x"),
    (COUNTS, "per = expm1(log1p(z^2) / 2) - 1 / 8", "per >= 0"),
    (COUNTS, "per = (x if 1 / 2 + 1 / 2 == 2 else -x) + 1", "increasing in x"),
    (COUNTS, "per = 1 if x == 1 else exp(x)", "smooth in x"),
    (COUNTS, "per = z if x < 1 else x", "convex in x"),
    (COUNTS, "per = 1 if z == 0 else exp(z)", "smooth in z"),
    (COUNTS, "per = lgamma(z + 1)", "convex in z"),
    (COUNTS, "per = lgamma(exp(x) - 1 / 2)", "increasing in x"),
    (COUNTS, "per = 2 if x == 0 else x", "increasing in x"),
    (ROWS, "per[n] = sum(x^2 over c where m)", "strictly convex in x"),
    (ROWS, "per[n] = x[n, k[n]]^2", "strictly convex in x"),  # of other entries of the row it is constant
    (ROWS, "per[n] = -x[n, k[n]]^2", "strictly concave in x"),
    (ROWS, "per[n, c] = x[n, k[n]]^2 + y", "strictly convex in x"),
    (COUNTS + "    input i: class[n] of n\n", "per[n] = z[i[n]]^2", "strictly convex in z"),
    (ROWS + "    param a: real > 0\n", "per[n] = (x[n, k[n]] / a)^2", "strictly convex in x"),
    (ROWS, "per[n] = mean(relu(x) over c)", "strictly convex in x"),
    (ROWS, "per[n] = mean(x^2 over c) if k[n] > 0 else 0", "strictly convex in x"),
    (ROWS, "per[n] = mean(x^2 over c) if size(n) > 1 else 0", "strictly convex in x"),
    (ROWS, "r[n] = sum(x^2 over c); per = r * y[n, k[n]]", "strictly convex in x"),
    (ROWS, "r[n] = sum(x^2 over c); per = r * k", "strictly convex in x"),
    (ROWS, "r[n] = sum(x^2 over c); per = y[n, k[n]] - r", "strictly convex in x"),
    (ROWS, "r[n] = mean(x over c); per = r^2", "strictly convex in x"),
    (ROWS, "per[n] = max(x over c) - y[n, k[n]]", "per >= 0"),
    (ROWS, f"a[n] = sum(x over c); b[n] = sum(y over c); {PLUS}; per = u + v", "per >= 0"),
    (
        ROWS,
        "l[n, c] = log(p); per[n] = (l[n, k[n]] - max(l over c)) * y[n, k[n]] if max(l over c) > -5 else 0",
        "C0 in y",
    ),
    (IGNORED, f"{OR_X}; per = t / sqrt(sum(r^2 over c) + 1)", "per <= 1"),  # of no classes, and a label that is ignored
    (IGNORED, f"{OR_X}; per = logsumexp(r over c) - t", "per >= 0"),
    (ROWS, "per = sum(log(1 - p) over c)", "C0 in p"),  # of one class
    (ENDS, "per = log(1 - x)", "C0 in x"),  # for a == 1
    (ENDS, "per = z^2", "even in z"),
    (ENDS, "per = z + w", "exchange symmetric in z, w"),  # w may be 2
    (ROWS, "per[n] = max(x over c where c != k else -inf) - x[n, k[n]]", "per >= 0"),
    (ROWS, "per[n] = max(x - (1 if c == k else 0) over c) - x[n, k[n]]", "per >= 0"),
    (ROWS, "per[n] = logsumexp(x over c where m) - x[n, k[n]]", "per >= 0"),
    (ROWS, "per[n] = logsumexp(x over c) - 2 * x[n, k[n]]", "per >= 0"),
    (ROWS, "per[n] = min(x over c) - x[n, k[n]]", "per >= 0"),
    (ROWS, "per[n] = logaddexp(logsumexp(x over c), y[n, k[n]]) - x[n, k[n]] - y[n, k[n]]", "per >= 0"),
    (ROWS, "per[n] = exp(x[n, k[n]]) - 2 * x[n, k[n]] - 1", "per >= 0"),
    (ROWS, "per[n] = x[n, k[n]] - relu(x[n, k[n]])", "per >= 0"),
    (ROWS, "a = log_softmax(x over c); b = log_softmax(y over c); per = sum(exp(b) * (a - b) over c)", "per >= 0"),
    (ROWS, "a = log_softmax(x over c); b = log_softmax(y over c); per = sum(exp(a) * (b - a) over c)", "per >= 0"),
    (ROWS, "a = log_softmax(x over c); per = sum(exp(a) * (a - y) over c)", "per >= 0"),
    (ROWS, "a = log_softmax(x over c); b = log_softmax(y over n); per = sum(exp(a) * (a - b) over c)", "per >= 0"),
    (
        ROWS,
        "a = log_softmax(x over c); b = log_softmax(y over c); per = sum(exp(a) * (a - b) over c where m)",
        "per >= 0",
    ),
    (ROWS, "a = log_softmax(x over c); b = log_softmax(y over c); per = sum(exp(a / 2) * (a - b) over c)", "per >= 0"),
    (
        ROWS,
        "a = log_softmax(x over c); b = log_softmax(y over c); per = sum(exp(a) * (a - 2 * b) over c) - 1",
        "per >= 0",
    ),
    (ROWS, "a = log_softmax(x over c); b = log_softmax(y over c); per = sum(exp(a) * (2 * a - b) over c)", "per >= 0"),
    (ROWS, "a = log_softmax(x over c); b = x - logsumexp(y over c); per = sum(exp(a) * (a - b) over c)", "per >= 0"),
    (
        ROWS,
        "a = log_softmax(x over c); b = log_softmax(y over c); h = logaddexp(a + log(2/3), b + log1p(-1/3)); "
        "per = sum(exp(a) * (a - h) over c)",
        "per >= 0",
    ),
    (ROWS, "per = sum(xlogy(p, p) - q * log_softmax(x over c) over c)", "per >= 1"),
    (STEPS, "h[t] = x[t] + (h[t - 1]^2 if t > 0 else 0); per = h", "convex in x"),
    (STEPS, "h[t] = x[t] - (relu(h[t - 1]) if t > 0 else 0); per = h", "convex in x"),
    (STEPS, "h[t] = x[t] - (h[t - 1] if t > 0 else 0); per = h", "increasing in x"),
    (STEPS, "h[t] = x[t] * (h[t - 1] if t > 0 else 1); per = h", "lipschitz in x"),
    (STEPS, "h[t] = x[t] * (1 + h[t - 1] if t > 0 else 1); per = tanh(h)", "lipschitz in x"),
    (STEPS, "h[t] = x[t] + (abs(h[t - 1]) if t > 0 else 0); per = h", "smooth in x"),
    (STEPS, "h[t] = x[t]^2 + (h[t - 1] - 1 if t > 0 else 0); per = h", "per >= 0"),
    (STEPS, "h[t] = (h[t - 1] if t > 0 else 1) - 1/10; per = h", "per >= 0"),
    (ROWS, "per[n] = x[n, argmax(y over c)] + y[n, argmax(x over c)]", "lipschitz in x"),
    (ROWS, "per[n] = x[n, argmax(-x over c)]", "lipschitz in x"),  # true: it is the least
    (ROWS, "z[n, c] = x^2; per[n] = z[n, argmax(z over c)]", "lipschitz in x"),
    (ROWS, "z[n, c] = x + y; per[n] = x[n, argmax(z over c)]", "lipschitz in x"),
    (ROWS, "per[n] = exp(sum((x - y)^2 over c))", "lipschitz in x"),
    (ROWS, "per[n] = exp(sum(-x^2 over c) + x[n, k[n]]^2)", "lipschitz in x"),
    (ROWS, "per[n] = exp(-sum(x^2 * (y - 1) over c))", "lipschitz in x"),
    (ROWS, "per[n] = exp(-sum(x^4 over c)) * sum(x^4 over c)", "lipschitz in x"),  # true
    (ROWS, "per[n] = exp(-sum((x^2 - y)^2 over c))", "lipschitz in x"),  # true for other reasons
    (ROWS, "per[n] = expm1(-sum(exp(x)^2 over c))", "lipschitz in x"),
    (ROWS, "per[n] = log1p(sum(x^2 over c))^2", "lipschitz in x"),  # true
    (ROWS, "per[n] = log1p(sum(x^2 over c) - y[n, 0])", "lipschitz in x"),
    (BETWEEN, "per = w^3", "lipschitz in w"),
    (BETWEEN, "per = v^3 * r", "lipschitz in v, r"),
    (BETWEEN, "per = log(v - low)", "lipschitz in v"),
    (ROWS, "a = log_softmax(x over c); per = sum(exp(a) * (a - y) over c)", "lipschitz in y <= 0"),
    (ROWS, "a = log_softmax(x over c); per = sum(exp(a) * (x - y) over c)", "lipschitz in x"),
    (ROWS, "a = log_softmax(x over c); per = sum(exp(a / 2) * (a^2 - x) over c)", "lipschitz in x"),
    (ROWS, "per = sum(exp(x) * (x - y) over c)", "lipschitz in x"),
    (ROWS, "per[n] = logsumexp(x over c) - x[n, k[n]]", "lipschitz in x <= 1.41"),
    (ROWS, "per[n] = logsumexp(x over c) - 2 * x[n, k[n]]", "lipschitz in x <= 2"),
    (ROWS, "per = sum(p * x over c) + sum(q * x over c)", "lipschitz in x <= 1.99"),
    (ROWS, "per = sum(p * x over c where m) * 2", "lipschitz in x <= 1.99"),
    (ROWS, "per = sum(2 * p * x over c)", "lipschitz in x <= 1.99"),
    (ROWS, "per = sum(x over c)", "lipschitz in x <= 1"),
    (ROWS, "per[n] = x[n, k[n]]^2", "lipschitz in x <= 100"),
    (ROWS, "per[n] = x[n, k[n]] * y[n, k[n]]", "lipschitz in x <= 100"),
    (ROWS, "per = sum(exp(-x) * x over c)", "lipschitz in x"),
    (ROWS, "per[n] = sigmoid(x[n, k[n]] * logsumexp(y over c where m))", "C0 in x"),
    (ROWS, "per[n] = tanh(x[n, k[n]] * max(y over c where m else -inf))", "C0 in x"),
    (ROWS, "per[n] = softplus(logsumexp(x over c where x > 0))", "C0 in x"),
    (ROWS, "per = 0 * sum(sin(x) over c) - sum(x^2 over c)", "convex in x"),
    (ROWS, "per = 1/1000 * sum(sin(x) over c) + sum(x^2 over c) / 10000", "convex in x"),
    (ROWS, "per = 0 * sum(1 / x over c) + sum(x^2 over c)", "convex in x"),
    (ROWS, "per = sum(abs(x)^0 * sin(x) over c)", "affine in x"),
    (PAIRS, "per = -log1p((pred - target)^2 / s^2)", "quasiconvex in pred"),
    (PAIRS, "per = log1p((pred - target)^2) + log1p((pred + target)^2)", "quasiconvex in pred"),
    (PAIRS, "per = log1p((pred - target)^2) * cos(pred - target)", "quasiconvex in pred"),
    (PAIRS, "per = log1p((pred - target)^2) + log1p((pred - target - 10)^2)", "quasiconvex in pred"),
    (PAIRS, "per = min(abs(pred - target), abs(pred))", "quasiconvex in pred"),
    (ROWS, "per = sum(log1p(x^2) over c)", "quasiconvex in x"),
    (ROWS, "per = sum(atan(x) over c)", "quasiconvex in x"),
    (ROWS, f"{HUBER}; per = -sum(h over c)", "convex in x"),
    (ROWS, f"{HUBER}; per = sum(h over c)", "C2 in x"),
    (ROWS, "per = sum((x^2 / 2 if abs(x) <= 1 else abs(x)) over c)", "C0 in x"),
    (ROWS, "per = sum((x^2 / 2 if abs(x) <= 1 else x^2 - 1/2) over c)", "lipschitz in x"),
    (ROWS, "e[n] = sum(x^2 over c); per = e^2 / 2 if abs(e) <= 1 else abs(e) - 1/2", "lipschitz in x"),
    (ROWS, "e[n] = max(x over c); per = e^2 / 2 if abs(e) <= 1 else abs(e) - 1/2", "convex in x"),
    (ROWS, "e[n] = max(x over c); per = e^2 / 2 if abs(e) <= 1 else abs(e) - 1/2", "C1 in x"),
    (ROWS, "per = sum((x if x > 0 else 2 * x) over c)", "convex in x"),
    (ROWS, "per = sum((x if x > y else x / 2) over c)", "C0 in y"),
    (ROWS, "per = sum((c + 1/2) / size(c) * abs(x) + (1/2 - (c + 1/2) / size(c)) * x^2 over c)", "convex in x"),
    (ROWS, "per = sum((1 - (c + 2) / size(c)) * x^2 over c)", "convex in x"),
    (ROWS, "per = sum((1 - (c + 1/2) / size(n)) * x^2 over c)", "convex in x"),
    (ROWS, "per = sum((1 - (2 * c + 1/2) / size(c)) * x^2 over c)", "convex in x"),
    (ROWS, f"r[n, c] = x^2; {ROOT}; per = sum(h over c)", "C1 in x"),
    (ROWS, f"r[n, c] = relu(x); {ROOT}; per = sum(h over c)", "lipschitz in x"),
    (ROWS, f"r[n, c] = abs(x); {ROOT}; per = sum(h over c)", "smooth in x"),
    (ROWS, f"r[n, c] = x^4; {ROOT}; per = sum(h over c)", "smooth in x"),
    (ROWS, "r[n, c] = relu(x); h[n, c] = 1 if r <= 0 else r; per = sum(h over c)", "C0 in x"),
    (GAMMA, "per = abs(x)^g", "smooth in x"),
    (GAMMA, "per = abs(x)^(g - 1)", "C0 in x"),
    (SPHERE, "per = sqrt(1 - sum(u * v over d)^2 / 2) + abs(max(u over d))", "smooth in u"),
    (SPHERE, "per = sqrt(abs(sum(u * v over d)))", "lipschitz in u"),
    (SPHERE, "per = (1 if sum(u * v over d) > 0 else 0)", "C0 in u"),
    (SPHERE, "per = sum(u * v over d)", "lipschitz in u <= 1/2"),
    (SPHERE, "per = sum(u * v over d)", "convex in u"),
]


@pytest.mark.parametrize(("head", "lines", "claim"), TRUE)
def test_what_is_true_has_a_certificate(head: str, lines: str, claim: str) -> None:
    assert certified(head, lines, claim)


@pytest.mark.parametrize(("head", "lines", "claim"), FALSE)
def test_what_is_false_has_none(head: str, lines: str, claim: str) -> None:
    assert not certified(head, lines, claim)


def test_a_gathered_entry_tells_no_modulus_of_its_row() -> None:
    for body, seen in (("x[n, k[n]]^2", False), ("z^2", True)):
        source = f"loss l:\n{ROWS}    input z: real[n]\n    per[n] = {body}\n    return mean(per)\n"
        (built,) = pipeline.analyse(Source("<test>", source)).losses
        asked = Question(built.program, "strong convexity modulus", "per", ("z" if seen else "x",), bracket=(1.0, None))
        if seen:
            assert of_bracket(asked)
        else:
            with pytest.raises(Stuck):
                of_bracket(asked)


def _random_sum(rng: random.Random) -> tuple[str, str]:
    """A sum of folds and elements of a row in the language, and in numpy (of rows `x` and `y`, and a place `k`)."""
    pool = [
        ("max(x over c)", "x.max()"),
        ("min(x over c)", "x.min()"),
        ("logsumexp(x over c)", "lse(x)"),
        ("logsumexp(x + y over c)", "lse(x + y)"),
        ("max(x - y over c)", "(x - y).max()"),
        ("x[n, k[n]]", "x[k]"),
        ("y[n, k[n]]", "y[k]"),
        ("relu(x[n, k[n]])", "max(x[k], 0)"),
        ("softplus(y[n, k[n]] - x[n, k[n]])", "np.logaddexp(0, y[k] - x[k])"),
        ("abs(y[n, k[n]])", "abs(y[k])"),
        ("exp(x[n, k[n]])", "np.exp(x[k])"),
        ("logaddexp(x[n, k[n]], y[n, k[n]])", "np.logaddexp(x[k], y[k])"),
        ("1", "1"),
    ]
    terms = [(rng.choice(["", "2 * ", "-", "-2 * ", "-1/2 * "]), *rng.choice(pool)) for _ in range(rng.randint(2, 4))]
    spelled, computed = (" + ".join(f"({sign}{t[k]})" for sign, *t in terms) for k in (0, 1))
    return spelled, computed


def attacked(sums: int, seed: int) -> int:
    """How many random sums are certified not to be negative; values of each are compared."""
    rng, draw = random.Random(seed), np.random.default_rng(seed)
    found = 0
    for _ in range(sums):
        spelled, computed = _random_sum(rng)
        if not certified(ROWS, f"per[n] = {spelled}", "per >= 0"):
            continue
        found += 1
        for scale, _ in itertools.product((0.1, 1.0, 10.0), range(40)):
            x, y = (draw.normal(size=rng.choice([1, 2, 5])) * scale for _ in range(2))
            x, y = (np.resize(v, max(len(x), len(y))) for v in (x, y))
            names = {"x": x, "y": y, "k": int(draw.integers(len(x))), "np": np, "lse": np.logaddexp.reduce}
            assert eval(computed, names) >= -1e-9 * (1 + scale), spelled
    return found


def steep(bodies: int, seed: int) -> int:
    """How many random rows have a Lipschitz constant by masses; no difference of two values is larger."""
    rng, draw = random.Random(seed), np.random.default_rng(seed)
    found = 0
    for _ in range(bodies):
        spelled, computed = _random_sum(rng)
        source = f"loss l:\n{ROWS}    per[n] = {spelled}\n    return mean(per)\n"
        (built,) = pipeline.analyse(Source("<test>", source)).losses
        for norm, order in (("l1", 1), ("l2", 2), ("linf", np.inf)):
            asked = Question(built.program, "lipschitz constant", "per", ("x",), norm=norm, bracket=(None, 1e9))
            try:
                bound = float.fromhex(of_masses(asked)[-1][-1])
            except Stuck:
                continue
            found += 1
            for scale, _ in itertools.product((1e-3, 1.0, 10.0), range(20)):
                size = rng.choice([1, 2, 5])
                x, y, step = draw.normal(size=size) * 3, draw.normal(size=size) * 3, draw.normal(size=size) * scale
                step = step * (draw.random(size) < 0.7) if size > 1 else step
                names = {"y": y, "k": int(draw.integers(size)), "np": np, "lse": np.logaddexp.reduce}
                first, second = (eval(computed, {**names, "x": v}) for v in (x, x + step))
                assert abs(second - first) <= bound * np.linalg.norm(step, order) * (1 + 1e-9) + 1e-9, (spelled, norm)
    return found


def test_random_rows_are_nowhere_steeper_than_their_masses() -> None:
    assert steep(40, 7) >= 30


@pytest.mark.slow
def test_many_random_rows() -> None:
    assert steep(1500, 8) >= 1000


def test_random_sums_that_are_certified_are_nowhere_negative() -> None:
    assert attacked(150, 5) >= 3


@pytest.mark.slow
def test_many_random_sums() -> None:
    assert attacked(3000, 6) >= 60


def test_an_element_that_is_not_there_shows_nothing() -> None:
    """The least of no entries is infinite, but where there are none there is no element."""
    text = "loss l:\n    input x: real[n]\n    per = x^2 - 1\n    return mean(per)\n    claim per >= 0\n"
    source = Source("<test>", text)
    checked = pipeline.check(source)
    made: dict[str, Any] = json.loads(json.dumps(certify(source, checked.analysis.losses, checked.reports)))
    entries = made["losses"][0]["entries"]
    entry = next(e for e in entries if e["status"] == "refuted" and e["rule"] == "value at a point")
    verify(made)
    entry["place"] = [len(entry["points"][0])]
    with pytest.raises(Rejected, match="no element"):
        verify(sealed(made))
    entry["points"], entry["place"] = [{}], [0]
    with pytest.raises(Rejected, match="no element"):
        verify(sealed(made))


MARGIN = "    input s: real[n]\n    input y: sign[n]\n    param a: real in [1, 2] = 1\n"
LABEL = "    input s: real[n]\n    input t: real[n] in [0, 1]\n    param a: real in [1, 2] = 1\n"


@pytest.mark.parametrize(
    ("head", "lines"),
    [
        (MARGIN, "per = softplus(-y * s)"),
        (MARGIN, "per = exp(-a * y * s)"),
        (MARGIN, "per = relu(1 - y * s)^2"),
        (MARGIN, "per = relu(1 - y * s)"),
        (MARGIN, "per = exp(-2 * y * s) if y * s > 0 else 2 - exp(y * s)"),
        (MARGIN, "per = sigmoid(-y * s)"),
        (MARGIN, "per = -y * s"),  # convex: not bounded from below, but on the right side
        (MARGIN, "m = y * s; per = (1 - sigmoid(2 * m))^2"),
        (LABEL, "per = t * softplus(-s) + (1 - t) * softplus(s)"),
        (LABEL, "per = t * sigmoid(-a * s) + (1 - t) * sigmoid(a * s)"),
    ],
)
def test_margin_losses_that_are_calibrated(head: str, lines: str) -> None:
    assert certified(head, lines, "calibrated")


@pytest.mark.parametrize(
    ("head", "lines"),
    [
        (MARGIN, "per = (y * s)^2"),  # flat at the threshold
        (MARGIN, "per = relu(-y * s)"),  # the least is taken at the threshold, too
        (MARGIN, "per = relu(1 - y * s) if y * s > 0 else 1 - 2 * y * s"),  # steeper on the wrong side
        (MARGIN, "per = 1 - 2 * y * s if y * s > 0 else 1 - y * s"),  # not bounded below
        (MARGIN, "per = exp(-y * s) if y * s > 0 else 3 - 2 * exp(y * s)"),
        (MARGIN, "per = softplus(y * s)"),  # rises
        (MARGIN, "per = cos(y * s) - y * s / 10"),
        (MARGIN, "per = softplus(-s) if y > 0 else softplus(2 * s)"),  # no mirror images
        (MARGIN, "per = (1 if y * s <= 0 else 0) + softplus(-y * s)"),  # a jump
        (LABEL, "per = 2 * t * softplus(-s) + (1 - t) * softplus(s)"),
        (LABEL, "per = softplus(s) - t^2 * s"),  # no mixture
        (LABEL, "per = t * softplus(s) + (1 - t) * softplus(-s)"),
    ],
)
def test_losses_without_the_conditions_have_no_such_certificate(head: str, lines: str) -> None:
    assert not certified(head, lines, "calibrated")
