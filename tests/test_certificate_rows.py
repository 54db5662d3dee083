"""Certificates about rows: what is normalised, what is at a rank, and what is selected by places; near misses have none, and
values of what has one are compared."""

from __future__ import annotations

import json

import pytest

from lossdsl import catalogue, pipeline
from lossdsl.certificate.document import _part, certify, verify
from lossdsl.certificate.question import of_claim, of_finding
from lossdsl.diagnostics import Source
from tests.test_certificate_elements import certified

ROWS = (
    "    input x, y: real[n, c]\n    input p: simplex[n, c] over c\n    input u: unit[n, c] over c\n    input k: class[n] of c\n"
    "    input m: bool[n, c]\n    input w: real[n, c] in [-1, 1]\n    param s: real > 0 = 1\n    param z: real >= 0 = 1\n"
    "    param a: real in [0, 1] = 0.5\n    param e: real >= 1 = 2\n    param r: real = 1\n"
)
CENTRED = "d[n, c] = x - mean(x over c)"
UNEVEN = "d[n, c] = x if x > 0 else 9 * x"
PAIRS = "    input x: real[n]\n    input g: int[n]\n    param z: real >= 0 = 1\n    axis j = n\n    axis i, h = 3\n"
PAIRED = f"{PAIRS}    input y: real[n]\n"
CLASSES = (
    "    input logits: real[n, c]\n    input target: class[n] of c\n    param g: real >= 1 = 2\n    param r: real = 1\n"
)
GLUED = f"{ROWS}    input v: real[n] > 0\n    t[n] = sum(x over c)\n    b[n] = mean(y over c)\n    f[n] = 1 if x[n, k[n]] > 0 else 0\n"
SCALED = ROWS.replace("input x, y: real[n, c]", "input x: real[n, c] > 0\n    input y: real[n, c]")
LOGP = "l[n, c] = log_softmax(logits over c)"

CATALOGUE = [
    ("mutual_information", "lipschitz", "x"),
    ("mutual_information", "lipschitz", "y"),
    ("ncc", "lipschitz", "x"),
    ("ncc", "lipschitz", "y"),
    ("ncc", "non-negative", ""),
    ("si_sdr", "lipschitz", "estimate"),
    ("pit_si_sdr", "lipschitz", "estimate"),
    ("spherical_score", "lipschitz", "prob"),
    ("barlow_twins", "lipschitz", "a"),
    ("barlow_twins", "lipschitz", "b"),
    ("sliced_wasserstein", "lipschitz", "theta"),
    ("alignment_uniformity", "range", ""),
    ("alignment_uniformity", "C0", "x"),
    ("alignment_uniformity", "C0", "y"),
    ("lifted_structure", "C0", "z"),
    ("semantic_loss", "non-negative", ""),
    ("augmented_lagrangian", "C1", "nu"),
    ("generalised_cross_entropy", "C0", "logits"),
    ("generalised_cross_entropy", "lipschitz", "logits"),
]


def _source(name: str) -> Source:
    (path,) = [e.path for e in catalogue.entries() if e.path.stem == name]
    return Source(str(path), path.read_text())


@pytest.mark.parametrize(("name", "word", "wrt"), CATALOGUE)
def test_entries_of_the_catalogue(name: str, word: str, wrt: str) -> None:
    (built,) = pipeline.analyse(_source(name)).losses
    for question in of_finding(built, word, (wrt,) if wrt else ()):
        assert _part(question)["trace"]


COUNTEREXAMPLES = [
    ("pit_si_sdr", "C1", {"eps": "1"}),  # at its default no step is small beside it
    ("hausdorff_dt", "gradient strictly towards probability == target", {}),
]


@pytest.mark.parametrize(("name", "word", "shown"), COUNTEREXAMPLES)
def test_counterexamples_of_the_catalogue(name: str, word: str, shown: dict[str, str]) -> None:
    checked = pipeline.check(_source(name), effort=0.5)
    document = json.loads(json.dumps(certify(_source(name), checked.analysis.losses, checked.reports)))
    (found, *_) = [e for e in document["losses"][0]["entries"] if e.get("finding") == word]
    assert found["status"] == "refuted"
    assert found["points"][0].items() >= shown.items()
    verify(document)


CLAIMS = [
    ("self_paced", "per <= max(low, high)"),
    ("normalized_ce", "noise symmetric"),
    ("gradnorm", "invariant under scale of task over k"),
]


@pytest.mark.parametrize(("name", "text"), CLAIMS)
def test_claims_of_the_catalogue(name: str, text: str) -> None:
    (built,) = pipeline.analyse(_source(name)).losses
    for question in of_claim(built, next(c for c in built.claims if c.text == text)):
        assert _part(question)["trace"]


TRUE = [
    (ROWS, f"{CENTRED}; per[n] = sum(d * y over c) / sqrt(sum(d^2 over c) * sum(y^2 over c) + s)", "per <= 1"),
    (ROWS, f"{CENTRED}; per[n] = sum(d * y over c) / sqrt(s + sum(y^2 over c) * sum(d^2 over c))", "lipschitz in x"),
    (ROWS, f"{CENTRED}; per[n, c] = (d / sqrt(mean(d^2 over c) + s))^2", "lipschitz in x"),
    (ROWS, f"{CENTRED}; per[n, c] = (d / sqrt(s * sum(d^2 over c) + 1))^2", "lipschitz in x"),
    (ROWS, f"{CENTRED}; per[n, c] = (d / (norm(d over c) + s))^2", "lipschitz in x"),
    (ROWS, "per[n] = log((sum(x^2 over c) + s) / (sum((x - y)^2 over c) + 1))", "lipschitz in x"),
    (ROWS, "per[n] = log10(mean((r * x - y)^2 over c) + s)", "lipschitz in x"),
    (ROWS, "per[n] = log(s * sum((2 * x - y)^2 over c) + 1)", "lipschitz in x"),
    (ROWS, "per[n] = log((1 + exp(-abs(x[n, 0]))) / s)", "lipschitz in x"),
    (ROWS, "per[n] = p[n, k[n]] / norm(p over c)", "lipschitz in p"),
    (ROWS, "per[n] = log(sum(p^2 over c))", "lipschitz in p"),
    (ROWS, "per[n] = 1 / sum(softmax(x over c)^2 over c)", "lipschitz in x"),
    (ROWS, "per[n] = abs(sum(u * y over c))^e", "lipschitz in u"),
    (ROWS, "t[n, c] = sort(w over c); per = sum(abs(t - y)^e over c)", "lipschitz in w"),
    (ROWS, "t[n, c] = sort(-x over c); per[n] = t[n, 0] + sum(t * y over c)", "lipschitz in x"),
    (ROWS, "per[n] = max(exp(w) over c) / sum(exp(w) over c)", "lipschitz in w"),
    (ROWS, "per[n] = log(sum(exp(w) over c))", "lipschitz in w"),
    (ROWS, "per[n] = 1 / min(exp(w) over c)", "lipschitz in w"),
    (ROWS, "per = (exp(w) + 1/2)^(a - 2)", "lipschitz in w"),
    (ROWS, f"{UNEVEN}; per[n, c] = (d / sqrt(sum(x^2 over c) + s) if x > 0 else 0)", "per <= 1"),
    (PAIRS, "b = logsumexp(x + x[n = j] over n, j where n < j) if size(n) > 1 else 0; per[n] = b + x", "C0 in x"),
    (
        PAIRS,
        "b = logsumexp(x + x[n = j] over n, j where n != j) if size(n) >= 2 else 0; per[n] = b + x",
        "lipschitz in x",
    ),
    (PAIRS, "b = logsumexp(x + x[n = j] over n, j where n == j and n < 1); per[n] = b + x", "C0 in x"),
    (
        PAIRS,
        "b = sum(exp(x) over n, j where n < j) / (1 + logsumexp(z over i, h where i < h)); per[n] = b + x",
        "C0 in x",
    ),
    (PAIRS, "c[n] = logsumexp(x[j] over j where g[n] != g[j]); per[n] = relu(c[n] + abs(x))^2", "C0 in x"),
    (PAIRS, "per = relu(x)^2 - x", "C1 in x"),
    (PAIRS, "b = sum(abs(2 * x + 1)^(5/2) over n); per[n] = b + x", "C2 in x"),
    (PAIRS, "b[n] = mean(x over n); per = relu(x - b)^3 + x", "C2 in x"),
    (ROWS, "per[n] = sum(softplus(x) over c) - logsumexp(x over c where m)", "per >= 0"),
    (ROWS, "per[n] = sum(softplus(x) over c) - max(x over c)", "per >= 0"),
    (ROWS, "per = x if x < s + (z - s) * a else 0", "per <= max(s, z)"),
    (ROWS, "per = x if x <= s * a and x <= y else 0", "per <= s"),
    (CLASSES, f"{LOGP}; per[n] = l[c = target] / sum(l over c)", "noise symmetric"),
    (CLASSES, f"{LOGP}; per[n] = (2 - exp(l[c = target])) / sum(2 - exp(l) over c)", "noise symmetric"),
    (CLASSES, f"{LOGP}; per[n] = abs(l[c = target])^g / sum(abs(l)^g over c)", "noise symmetric"),
]
TRUE += [
    (GLUED, "per[n] = (t if t > s else s)", "C0 in x"),
    (GLUED, "per[n] = (t^2 if t > s else s * t)", "C0 in x"),
    (GLUED, "per[n] = (t^2 if t > r else r * (2 * t - r))", "C0 in x"),
    (GLUED, "per[n] = (t^2 / s if t <= s else 2 * t - s)", "C0 in x"),
    (GLUED, "per[n] = (abs(t) if abs(t) < s else s * (1 + log(abs(t) / s)))", "C0 in x"),
    (GLUED, "per[n] = (relu(t)^e if relu(t) < s else s^e)", "C0 in x"),
    (GLUED, "per[n] = (exp(e * t) if t < log(s) else s^e)", "lipschitz in x"),
    (GLUED, "per[n] = (t if t > s else s)", "lipschitz in x"),
    (GLUED, "per[n] = (t * y[n, 0] if t < b[n] else b[n] * y[n, 0] + (t - b[n]) * z)", "lipschitz in x"),
    (GLUED, "per[n] = (t if t < b[n] else (t + b[n]) / 2)", "lipschitz in y"),
    (GLUED, "per[n] = ((1 - exp(t)) / s if t < 0 else 0)", "lipschitz in x"),
    (GLUED, "per[n] = (t if t < v else (v + (t - v) / 2 if t < 2 * v else (t + v) / 2))", "lipschitz in x"),
    (GLUED, "per[n] = (sum(u * y over c) if sum(u * y over c) > 0 else 0)", "C0 in u"),
    (SCALED, "per[n] = max(x over c) / mean(x over c)", "invariant under scale of x over c"),
    (SCALED, "per[n] = sum(x over c where m) / norm(x over c)", "invariant under scale of x over c"),
    (SCALED, "per[n] = log(mean(x^2 over c) / mean(x over c)^2)", "invariant under scale of x over c"),
    (
        SCALED,
        "per[n, c] = relu(x - mean(x over c)) / max(x, max(x over c))",
        "invariant under scale of x over c",
    ),
    (
        SCALED,
        "per[n] = (argmax(x over c) if max(x over c) > mean(x over c) else 0)",
        "invariant under scale of x over c",
    ),
    (SCALED, "per[n, c] = abs(y) / sqrt(sum(y^2 over c))", "invariant under scale of y over c"),
    (SCALED, "b[n] = sum(x over c); per[n, c] = x * b[n] / (b[n]^2 + x^2)", "invariant under scale of x over c"),
    (SCALED, "b[c] = sum(x over n); per[n, c] = x / b[c]", "invariant under scale of x over n"),
    (SCALED, "per[n, c] = y + x^(3/2) / sum(x^3 over c)^(1/2)", "invariant under scale of x over c"),
    (SCALED, "per[n] = logsumexp(0 * x over c) + 0 * x[n, k[n]]", "invariant under scale of x over c"),
    (SCALED, "per[n, c] = (1 if x > 0 else y)", "invariant under scale of x over c"),
]
FALSE = [
    (ROWS, f"{CENTRED}; per[n] = sum(d * y over c) / sqrt(sum(d^2 over c) * sum(y^2 over c) + s)", "per <= 0.99"),
    (ROWS, f"{CENTRED}; per[n] = sum(d * y over c) / sqrt(sum(d^2 over c) * mean(y^2 over c) + s)", "per <= 1"),
    (
        ROWS,
        f"{UNEVEN}; per[n, c] = (sum(d * y over c) / sqrt(sum(x^2 over c) * sum(y^2 over c) + s) if x > 0 else 0)",
        "per <= 1",
    ),
    (ROWS, f"{UNEVEN}; per[n, c] = (d / sqrt(sum(x^2 over c) + s) if x <= 0 else 0)", "per >= -1"),
    (ROWS, f"{CENTRED}; per[n] = sum(d * y over c) / sqrt(sum(d^2 over c) * sum(x^2 over c) + s)", "per <= 1"),
    (ROWS, f"{CENTRED}; per[n] = sum(d * y over c) / sqrt(sum(d^2 over c) * sum(y^2 over c) + z - s)", "per <= 1"),
    (ROWS, f"{CENTRED}; per[n] = sum(d * y over c) / sqrt(sum(d^2 over c where m) * sum(y^2 over c) + s)", "per <= 1"),
    (ROWS, f"{CENTRED}; per[n] = sum(d * y over c) / sqrt(sum(d[c = k]^2 over n) + s)", "lipschitz in x"),
    (ROWS, f"{CENTRED}; per[n, c] = (d / sqrt(mean(d^2 over c) + s))^2", "per <= 1"),
    (ROWS, f"{CENTRED}; per[n, c] = (d / sqrt(mean(d^2 over c) * z + s))^2", "lipschitz in x"),  # z may be 0
    (ROWS, f"{CENTRED}; per[n, c] = (d / sqrt(mean(d^2 over c) * r + s))^2", "lipschitz in x"),
    (ROWS, f"{CENTRED}; per[n, c] = (x / sqrt(mean(d^2 over c) + s))^2", "lipschitz in x"),
    (ROWS, f"{CENTRED}; per[n, c] = (d / sqrt(mean(d^2 over c where m) + s))^2", "lipschitz in x"),
    (ROWS, f"{CENTRED}; per[n, c] = (d / (sum(d^2 over c) + s)^(1/4))^2", "lipschitz in x"),
    (ROWS, f"{CENTRED}; per[n, c] = (d / sqrt(sum(d^2 over c) / (1 + exp(x)) + s))^2", "lipschitz in x"),
    (ROWS, "per[n] = log((sum(x^2 over c) + z) / (sum((x - y)^2 over c) + 1))", "lipschitz in x"),  # z may be 0
    (ROWS, "per[n] = log(sum(x^2 over c) + s) * x[n, 0]", "lipschitz in x"),
    (ROWS, "per[n] = log(exp(x[n, 0]^2) / (1 + x[n, 0]^2))", "lipschitz in x"),
    (ROWS, "per[n] = log(sum((x^2 - y)^2 over c) + s - 1)", "lipschitz in x"),
    (ROWS, "per[n] = sqrt(p[n, k[n]]) / norm(p over c)", "lipschitz in p"),
    (ROWS, "per[n] = log(sum(p^2 over c where m))", "lipschitz in p"),
    (ROWS, "per[n, c] = log(sum(p^2 over n))", "lipschitz in p"),
    (ROWS, "per[n] = log(max(abs(u) over c where m else 1))", "lipschitz in u"),
    (ROWS, "per[n] = abs(sum(u * y over c))^a", "lipschitz in u"),
    (ROWS, "per[n] = abs(sum(x * y over c))^e", "lipschitz in x"),
    (ROWS, "t[n, c] = sort(x over c); per = sum(abs(t - y)^e over c)", "lipschitz in x"),
    (ROWS, "t[n, c] = sort(x^2 over c); per = sum(t over c)", "lipschitz in x"),
    (ROWS, "o[n, c] = argsort(x over c); per[n, c] = y[n, o[n, c]]", "lipschitz in x"),
    (ROWS, "per[n] = log(sum(exp(w) over c where m) + z)", "lipschitz in w"),
    (ROWS, "per[n] = log(sum(w over c) + 1)", "lipschitz in w"),
    (ROWS, "per[n] = 1 / max(w over c)", "lipschitz in w"),
    (ROWS, "per = (w + 1)^(a - 2)", "lipschitz in w"),
    (PAIRS, "b = logsumexp(x + x[n = j] over n, j where n < j); per[n] = b + x", "C0 in x"),  # there is one
    (PAIRS, "b = logsumexp(x + x[n = j] over n, j where n < j) if size(n) > 0 else 0; per[n] = b + x", "C0 in x"),
    (PAIRS, "b = logsumexp(x + x[n = j] over n, j where n + 1 < j) if size(n) > 1 else 0; per[n] = b + x", "C0 in x"),
    (
        PAIRS,
        "b = logsumexp(x + x[n = j] over n, j where n < j and g[n] == g[j]) if size(n) > 1 else 0; per[n] = b + x",
        "C0 in x",
    ),
    (PAIRS, "b = logsumexp(x + x[n = j] over n, j where n < j) if size(n) < 2 else 0; per[n] = b + x", "C0 in x"),
    (PAIRS, "c[n] = logsumexp(x[j] over j where g[n] != g[j]); per[n] = (c[n] + abs(x))^2", "C0 in x"),
    (PAIRS, "c[n] = logsumexp(x[j] over j where x[n] > x[j]); per[n] = relu(c[n] + abs(x))^2", "C0 in x"),
    (PAIRS, "b[n] = mean(x over n); per = relu(x - b)^2", "C2 in x"),
    (PAIRS, "b[n] = mean(x over n); per = relu(x - b)", "C1 in x"),
    (PAIRS, "b[n] = mean(x over n); per = relu(abs(x - b) - 1)^2", "C1 in x"),
    (PAIRS, "b[n] = mean(x over n); per = abs(x - b)^(3/2)", "C2 in x"),
    (PAIRS, "b[n] = mean(x over n); per = abs(x - b)^3", "smooth in x"),
    (PAIRS, "b[n] = mean(x over n); per = max(x - b, 1)^3", "C1 in x"),
    (ROWS, "per[n] = logsumexp(x over c where m) - logsumexp(x over c where m)", "per >= 0"),  # of nothing: no number
    (ROWS, "b[n] = logsumexp(x over c where m); per[n] = b + softplus(x[n, k[n]]) - b", "per >= 0"),
    (ROWS, "b[n] = max(x over c where m else -inf); per[n] = (b + s) - b", "per >= 0"),
    (ROWS, "per[n] = sum(softplus(x) over c where m) - logsumexp(x over c)", "per >= 0"),
    (ROWS, "per[n] = sum(softplus(x) over c) - logsumexp(x + y over c)", "per >= 0"),
    (ROWS, "per[n] = sum(softplus(x) over c) - 2 * logsumexp(x over c)", "per >= 0"),
    (ROWS, "b[c] = logsumexp(x over n); per[n, c] = sum(softplus(x) over c) - b", "per >= 0"),
    (ROWS, "per[n] = max(softplus(x) over c) - logsumexp(x over c)", "per >= 0"),
    (ROWS, "per = x if x < s + (z - s) * a else 0", "per <= min(s, z)"),
    (ROWS, "per = x if x < s + (z - s) * r else 0", "per <= max(s, z)"),
    (ROWS, "per = x if x > s + (z - s) * a else 0", "per <= max(s, z)"),
    (ROWS, "per = 2 * x if x < s + (z - s) * a else 0", "per <= max(s, z)"),
    (ROWS, "per = 0 if x < s + (z - s) * a else x", "per <= max(s, z)"),
    (CLASSES, f"{LOGP}; per[n] = (l[c = target] - 1) / sum(l over c)", "noise symmetric"),
    (CLASSES, f"{LOGP}; per[n] = l[c = target] / (sum(l over c) - 1)", "noise symmetric"),
    (CLASSES, f"{LOGP}; per[n] = l[c = target] / sum(2 * l over c where c != target)", "noise symmetric"),
    (CLASSES, f"{LOGP}; per[n] = l[c = target] / sum((c + 1) * l over c)", "noise symmetric"),
    (CLASSES, f"{LOGP}; per[n] = l[c = target]^2 / sum(l over c)", "noise symmetric"),
    (CLASSES, f"{LOGP}; per[n] = (l[c = target] + r) / sum(l + r over c)", "noise symmetric"),  # may be 0 / 0
    (CLASSES, f"{LOGP}; per[n] = r * l[c = target] / sum(r * l over c)", "noise symmetric"),
    (CLASSES, f"{LOGP}; per[n] = l[c = target] / sum(l over c) + target", "noise symmetric"),
    (CLASSES, f"{LOGP}; q[n] = sum(l over n, c); per[n] = l[c = target] / q[0]", "noise symmetric"),
]
FALSE += [
    (GLUED, "per[n] = (t if t > s else 2 * s)", "C0 in x"),
    (GLUED, "per[n] = (t if t > s else z)", "C0 in x"),
    (GLUED, "per[n] = (t^2 if t > s else 2 * t * s)", "C0 in x"),
    (GLUED, "per[n] = (t^2 if abs(t) > s else s * t)", "C0 in x"),  # another one at -s
    (GLUED, "per[n] = (t + f if f > s else t + s)", "C0 in x"),  # f jumps
    (GLUED, "per[n] = (f if t > f else t)", "C0 in x"),
    (GLUED, "per[n] = (f * (t - s) if t > s else 0)", "C0 in x"),
    (GLUED, "per[n] = (1 / (t - s) if t > s else 0)", "C0 in x"),
    (GLUED, "per[n] = ((t - s) * log(t - s) if t > s else 0)", "C0 in x"),  # true
    (GLUED, "per[n] = (exp(e * t) if t < log(s) else s^r)", "C0 in x"),
    (GLUED, "per[n] = (t^2 if t > s else s * t)", "lipschitz in x"),
    (GLUED, "per[n] = (sqrt(t - s) if t > s else 0)", "lipschitz in x"),
    (GLUED, "per[n] = (t * y[n, 0] if t < b[n] else b[n] * y[n, 0])", "lipschitz in y"),
    (GLUED, "per[n] = (t if t > s and f > 0 else s)", "C0 in x"),
    (GLUED, "per[n] = (r * t if t > s else r * s + 1/1000)", "C0 in x"),
    (GLUED, "per[n] = (t if t < v else (v + (t - v) / 2 if t < 2 * v else (t + v) / 3))", "lipschitz in x"),
    (SCALED, "per[n] = max(x over c) / mean(x^2 over c)", "invariant under scale of x over c"),
    (SCALED, "per[n] = max(x over c) / (mean(x over c) + 1)", "invariant under scale of x over c"),
    (SCALED, "per[n] = logsumexp(x over c) / mean(x over c)", "invariant under scale of x over c"),
    (
        SCALED,
        "q[n] = logsumexp((0 if m else 0) over c); per[n] = (q[n] + x[n, k[n]]) / x[n, k[n]]",
        "invariant under scale of x over c",
    ),
    (SCALED, "per[n, c] = x / y", "invariant under scale of x over c"),
    (SCALED, "b[c] = sum(x over n); per[n, c] = x / b[c]", "invariant under scale of x over c"),
    (SCALED, "per[n, c] = (1 if x > 1 else y)", "invariant under scale of x over c"),
    (SCALED, "per[n, c] = (x if m else y) / max(x over c)", "invariant under scale of x over c"),
    (SCALED, "per[n] = prod(x over c) / max(x over c)", "invariant under scale of x over c"),
    (SCALED, "per[n] = x[n, k[n]]^a / max(x over c)^a * x[n, k[n]]^0", "invariant under scale of x over c"),  # true
    (SCALED, "per[n, c] = exp(x) / exp(x)", "invariant under scale of x over c"),  # true
    (SCALED, "per[n] = sum(c * x over c where x > y)", "invariant under scale of x over c"),
    (SCALED, "per[n] = floor(max(x over c) / 1)", "invariant under scale of x over c"),
]


FALSE += [
    (
        ROWS,
        "q[n, c] = x^2 if x > 0 else -9; per[n, c] = (x / sqrt(max(sum(q over c), 0) + s) if x > 0 else 0)",
        "per <= 1",
    ),
    (
        ROWS,
        "q[n, c] = x^2 if m else x * y; per[n, c] = (x / sqrt(max(sum(q over c), s)) if m else 0)",
        "per <= 1",
    ),
    (
        ROWS,
        "q[n, c] = x^2 if c < 1 else -9; per[n, c] = (x / sqrt(max(sum(q over c), s)) if c < 1 else 0)",
        "per <= 1",
    ),
    # what is NaN is not equal to itself, so that no element is selected
    (PAIRED, "l[n] = log(y); b[n] = logsumexp(x[j] over j where l[n] == l[j]); per[n] = b + x", "C0 in x"),
    (PAIRED, "l[n] = log(y); b[n] = 1 / sum(exp(y[j]) over j where l[n] == l[j]); per[n] = b", "per >= 0"),
]


@pytest.mark.parametrize(("head", "lines", "claim"), TRUE)
def test_what_is_true_has_a_certificate(head: str, lines: str, claim: str) -> None:
    assert certified(head, lines, claim)


@pytest.mark.parametrize(("head", "lines", "claim"), FALSE)
def test_what_is_false_has_none(head: str, lines: str, claim: str) -> None:
    assert not certified(head, lines, claim)
