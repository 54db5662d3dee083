"""The verifier on what sorts, folds and recurs: whatever it does not decide, it never decides wrongly."""

from __future__ import annotations

import pytest

from tests.test_verify_attack import status

# (declarations and body, claim, whether it is true)
TRUTHS = [
    ("input x: real[b, n]\nper = sum(sort(x over n descending) over n where n < 2)", "convex in x", True),
    ("input x: real[b, n]\nper = sum(sort(x over n) over n where n < 2)", "convex in x", False),
    ("input x: real[b, n]\nper = sum(sort(x over n) * (n + 1) over n)", "convex in x", True),
    ("input x: real[b, n]\nper = sum(sort(x over n) * (n + 1) over n)", "concave in x", False),
    ("input x: real[b, n]\nper = sum(sort(x over n)^2 over n)", "C1 in x", True),
    ("input x: real[b, n]\nper = median(x over n)", "convex in x", False),
    ("input x: real[b, n]\nper = median(x over n)", "increasing in x", True),
    ("input x: real[b, n]\nper = median(x over n)", "lipschitz in x <= 1", True),
    ("input x: real[b, n]\nper = median(x over n)", "lipschitz in x <= 0.1", False),
    ("input x: real[b, n]\nper = quantile(x, q = 0.3 over n)", "C1 in x", False),
    ("input x: real[b, n]\nper = quantile(x, q = 0.3 over n)", "per >= 0", False),
    ("input x: real[b, n] in [0, 1]\nper = quantile(x, q = 0.3 over n)", "per <= 1", True),
    ("input x: real[b, n] in [0, 1]\nper = quantile(x, q = 0.3 over n)", "per <= 0.9", False),
    ("input x: real[b, n] <= 0\nper = median(x over n where x > 1 else 3)", "per >= 3", True),
    ("input x: real[b, n] <= 0\nper = median(x over n where x > 1 else 3)", "per <= 2", False),
    ("input x: real[b, n] <= 0\nper = 1.0 * argmax(x over n where x > 1 else 0)", "per <= 0", True),
    ("input x: real[b, n] <= 0\nper = sum(sort(x over n where x > 1 else 2) over n)", "finite in float32", True),
    ("input x: real[b, n]\nper = 1.0 * argmax(x over n)", "per >= 0", True),
    ("input x: real[b, n]\nper = 1.0 * argmax(x over n)", "per <= 0", False),
    ("input x: real[b, n]\nper = sum(1.0 * argsort(x over n) over n)", "convex in x", False),
    ("input x: real[b, n]\nplace = argsort(x over n)\nper[b, n] = x[n = place] * x", "per >= 0", False),
    ("input x: real[b, n]\nplace = argsort(x over n)\nper[b, n] = x[n = place]^2", "per >= 0", True),
    ("input x: real[b, t]\nper = cumsum(x over t)", "affine in x", True),
    ("input x: real[b, t]\nper = cumsum(x over t)", "lipschitz in x <= 1", False),
    ("input x: real[b, t]\nper = cumsum(x^2 over t)", "per >= 0", True),
    ("input x: real[b, t]\nper = cumsum(x^2 over t)", "concave in x", False),
    ("input x: real[b, t]\nper = cumprod(x over t)", "convex in x", False),
    ("input x: real[b, t]\nper = cumprod(x over t)", "per >= 0", False),
    ("input x: real[b, t]\nper = cumlogsumexp(x over t)", "convex in x", True),
    ("input x: real[b, t]\nper = cumlogsumexp(x over t)", "lipschitz in x <= 1", True),
    ("input x: real[b, t]\nper = cumlogsumexp(x over t)", "lipschitz in x <= 0.4", False),
    ("input x: real[b, t]\nper[b, t] = x^2 - 0.5 * per[b, t - 1 else 0]", "convex in x", False),
    ("input x: real[b, t]\nper[b, t] = x^2 - 0.5 * per[b, t - 1 else 0]", "per >= 0", False),
    ("input x: real[b, t]\nper[b, t] = abs(x) + 0.5 * per[b, t - 1 else 0]", "convex in x", True),
    ("input x: real[b, t]\nper[b, t] = abs(x) + 0.5 * per[b, t - 1 else 0]", "C1 in x", False),
    ("input x: real[b, t]\nper[b, t] = abs(x) + 2 * per[b, t - 1 else 0]", "lipschitz in x", True),  # 2^t
    ("input x: real[b, t]\nper[b, t] = x * per[b, t - 1 else 1]", "per >= 0", False),
    ("input x: real[b, t]\nper[b, t] = 1 - per[b, t - 1 else 0] + 0 * x", "per >= 0", True),
    ("input x: real[b, t]\nper[b, t] = 1 - per[b, t - 1 else 0] + 0 * x", "per >= 1", False),
    ("input x: real[b, t]\nrun[b, t] = (run[b, t - 1 else 0] + 1) if x > 0 else 0\nper = 1.0 * run", "per >= 0", True),
    ("input x: real[b, t]\nrun[b, t] = (run[b, t - 1 else 0] + 1) if x > 0 else 0\nper = 1.0 * run", "per <= 1", False),
    (
        "input x: real[b, t]\nrun[b, t] = (run[b, t - 1 else 0] + 1) if x > 0 else 0\nper = 1.0 * run",
        "smooth in x",
        False,
    ),
    ("input x: real[b, h]\naxis p = 2\nper = mean(x[h = 2 * h + p] over p)", "affine in x", True),
    ("input x: real[b, h]\naxis p = 2\nper = mean(x[h = 2 * h + p] over p)", "lipschitz in x <= 0.5", False),
    ("input x: real[b, h]\nper = x[h = reflect(h + 1)] - x", "affine in x", True),
    ("input x: real[b, h]\nper = x[h = reflect(h + 1)] - x", "per >= 0", False),
    ("input x: real[b, h]\nper = x[h = edge(h - 1)] * x", "convex in x", False),
    ("input x: real[b, h]\nper = x[h = wrap(h + 3)]^2", "per >= 0", True),
    ("input x: real[...]\nper = straight_through(x > 0, x)", "per >= 0", True),
    ("input x: real[...]\nper = straight_through(x > 0, x)", "affine in x", False),
    ("input x: real[...]\nper = straight_through(x > 0, x)", "C1 in x", False),
    ("input x: real[...]\nper = straight_through(x > 0, -x^2)", "convex in x", False),
    ("input x: real[...]\nper = reverse_gradient(x, 2)", "decreasing in x", False),
    ("input x: real[...]\nper = reverse_gradient(x^2, 1)", "concave in x", False),
    ("input x: real[...]\nper = linear(step, 0, 1, 10) * x^2", "convex in x", True),
    ("input x: real[...]\nper = linear(step, -1, 1, 10) * x^2", "convex in x", False),
    ("input x: real[...]\nper = linear(step, -1, 1, 10) * x^2", "per >= 0", False),
]


@pytest.mark.parametrize(("body", "claim", "true"), TRUTHS, ids=[f"{k} {c}" for k, (_, c, _) in enumerate(TRUTHS)])
def test_no_wrong_verdict(body: str, claim: str, true: bool) -> None:
    assert status(body, claim) in ("unknown", "proved" if true else "refuted")
    opposite = status(body, f"not {claim}")
    assert opposite in ("unknown", "refuted" if true else "proved")
