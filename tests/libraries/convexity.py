"""What the rules of CVXPY (disciplined convex programming) say of the same formulas that `test_verify_convexity.py` asks
of the verifier, written to `convexity.json`. Run by `make references`.

Every row: our declarations, our formula, CVXPY's formula over the variables below (`x`, `y` real, `p`, `q` positive,
`w` non-negative, `z` a vector).
"""

from __future__ import annotations

import json
from pathlib import Path

X, XY, P, PQ, XQ, Z, ZW = (
    "input x: real[...]",
    "input x, y: real[...]",
    "input p: real[...] > 0",
    "input p, q: real[...] > 0",
    "input x: real[...]; input q: real[...] > 0",
    "input z: real[n, c]",
    "input z: real[n, c] >= 0",
)

SPELLINGS = [
    # what the rules of composition certify
    (X, "x^2", "cp.square(x)"),
    (X, "abs(x)", "cp.abs(x)"),
    (X, "3 * x - 2", "3 * x - 2"),
    (X, "relu(x)", "cp.pos(x)"),
    (X, "max(x, -2 * x)", "cp.maximum(x, -2 * x)"),
    (X, "min(x, 1)", "cp.minimum(x, 1)"),
    (X, "exp(x)", "cp.exp(x)"),
    (X, "exp(x^2)", "cp.exp(cp.square(x))"),
    (X, "exp(abs(x))", "cp.exp(cp.abs(x))"),
    (X, "softplus(x)", "cp.logistic(x)"),
    (X, "softplus(-x)", "cp.logistic(-x)"),
    (X, "softplus(x) - x", "cp.logistic(x) - x"),
    (X, "softplus(abs(x))", "cp.logistic(cp.abs(x))"),
    (X, "-logsigmoid(x)", "cp.logistic(-x)"),
    (X, "x^4", "cp.power(x, 4)"),
    (X, "abs(x)^(3/2)", "cp.power(cp.abs(x), 1.5)"),
    (X, "relu(1 - x)", "cp.pos(1 - x)"),
    (X, "relu(1 - x)^2", "cp.square(cp.pos(1 - x))"),
    (X, "relu(abs(x) - 1/2)", "cp.pos(cp.abs(x) - 0.5)"),
    (X, "max(x, 2 * x, x^2)", "cp.maximum(x, 2 * x, cp.square(x))"),
    (X, "x^2 if abs(x) <= 1 else 2 * abs(x) - 1", "cp.huber(x)"),
    (X, "exp(-x) + x", "cp.exp(-x) + x"),
    (X, "(x - 3)^2 / 2 + abs(x)", "cp.square(x - 3) / 2 + cp.abs(x)"),
    (X, "log(exp(x) + exp(-x))", "cp.log_sum_exp(cp.hstack([x, -x]))"),
    (X, "sqrt(1 + x^2)", "cp.norm(cp.hstack([1, x]))"),
    (XY, "(x - y)^2", "cp.square(x - y)"),
    (XY, "abs(x - y)", "cp.abs(x - y)"),
    (XY, "max(x, y)", "cp.maximum(x, y)"),
    (XY, "logaddexp(x, y)", "cp.log_sum_exp(cp.hstack([x, y]))"),
    (XY, "exp(x - y) + x", "cp.exp(x - y) + x"),
    (XY, "x^2 + abs(y)", "cp.square(x) + cp.abs(y)"),
    (XY, "x - y", "x - y"),
    (XY, "min(x, y)", "cp.minimum(x, y)"),
    (P, "-log(p)", "-cp.log(p)"),
    (P, "log(p)", "cp.log(p)"),
    (P, "sqrt(p)", "cp.sqrt(p)"),
    (P, "1 / p", "cp.inv_pos(p)"),
    (P, "xlogy(p, p)", "-cp.entr(p)"),
    (P, "p^(3/2)", "cp.power(p, 1.5)"),
    (P, "p^(-2)", "cp.power(p, -2)"),
    (P, "p - log(p)", "p - cp.log(p)"),
    (P, "log1p(p)", "cp.log1p(p)"),
    (P, "-log(min(p, 1))", "-cp.log(cp.minimum(p, 1))"),
    (PQ, "xlogy(p, p) - xlogy(p, q) - p + q", "cp.kl_div(p, q)"),
    (PQ, "xlogy(p, p) - xlogy(p, q)", "cp.rel_entr(p, q)"),
    (XQ, "x * x / q", "cp.quad_over_lin(x, q)"),
    (Z, "logsumexp(z over c)", "cp.log_sum_exp(z)"),
    (Z, "max(z over c)", "cp.max(z)"),
    (Z, "sum(abs(z) over c)", "cp.norm1(z)"),
    (Z, "norm(z over c)", "cp.norm(z)"),
    (Z, "sum(z^2 over c)", "cp.sum_squares(z)"),
    (Z, "sum(z over c)", "cp.sum(z)"),
    (Z, "mean(softplus(z) over c)", "cp.sum(cp.logistic(z)) / 3"),
    (Z, "logsumexp(abs(z) over c)", "cp.log_sum_exp(cp.abs(z))"),
    (Z, "max(z over c) - min(z over c)", "cp.max(z) - cp.min(z)"),
    (Z, "norm(z over c)^2", "cp.square(cp.norm(z))"),
    (Z, "logsumexp(z over c) - mean(z over c)", "cp.log_sum_exp(z) - cp.sum(z) / 3"),
    # convex, in a spelling that they do not see through
    (X, "log(1 + exp(x))", "cp.log(1 + cp.exp(x))"),
    (Z, "log(sum(exp(z) over c)) - z[n, 0]", "cp.log(cp.sum(cp.exp(z))) - z[0]"),
    (X, "sqrt(1 + x^2)", "cp.sqrt(1 + cp.square(x))"),
    (X, "log((exp(x) + exp(-x)) / 2)", "cp.log((cp.exp(x) + cp.exp(-x)) / 2)"),
    (X, "abs(x) - log(1 + abs(x))", "cp.abs(x) - cp.log(1 + cp.abs(x))"),
    (X, "x^2 / (1 + abs(x))", "cp.square(x) / (1 + cp.abs(x))"),
    (PQ, "p * log(p / q)", "cp.multiply(p, cp.log(p / q))"),
    (PQ, "p * (log(p) - log(q))", "cp.multiply(p, cp.log(p) - cp.log(q))"),
    (XQ, "x^2 / q", "cp.square(x) / q"),
    (XY, "log(exp(x) + exp(y))", "cp.log(cp.exp(x) + cp.exp(y))"),
    (X, "-log(1 / (1 + exp(-x)))", "-cp.log(1 / (1 + cp.exp(-x)))"),
    (XY, "x^2 + 2 * x * y + y^2", "cp.square(x) + 2 * cp.multiply(x, y) + cp.square(y)"),
    (XQ, "q * softplus(x / q)", "cp.multiply(q, cp.logistic(x / q))"),
    ("input p: real[...] in (0, 1]", "-(1 - p)^2 * log(p)", "-cp.multiply(cp.square(1 - p), cp.log(p))"),
    # neither
    (X, "sigmoid(x)", "1 / (1 + cp.exp(-x))"),
    (X, "x^3", "cp.multiply(x, cp.square(x))"),
    (XY, "x * y", "cp.multiply(x, y)"),
    (X, "sqrt(abs(x))", "cp.sqrt(cp.abs(x))"),
    (X, "exp(-x^2)", "cp.exp(-cp.square(x))"),
    (X, "log(1 + x^2)", "cp.log(1 + cp.square(x))"),
    (X, "abs(x) - x^2", "cp.abs(x) - cp.square(x)"),
]


def main() -> None:
    import cvxpy as cp

    names = {
        "cp": cp,
        "x": cp.Variable(),
        "y": cp.Variable(),
        "p": cp.Variable(pos=True),
        "q": cp.Variable(pos=True),
        "z": cp.Variable(3),
    }
    rows = []
    for declared, ours, theirs in SPELLINGS:
        curvature = eval(theirs, names).curvature
        rows.append({"inputs": declared, "per": ours, "cvxpy": theirs, "curvature": curvature})
    out = {"cvxpy": cp.__version__, "rows": rows}
    Path(__file__).with_name("convexity.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
