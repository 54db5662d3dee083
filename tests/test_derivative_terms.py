"""Derivatives as terms: `derivative(e, x)` inside of a file, and derivatives of a network, which are inputs."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

import lossdsl
from lossdsl import load, loads, pipeline
from lossdsl.diagnostics import Severity, Source
from lossdsl.ir.interpret import interpret


def value(text: str, arrays: dict[str, Any], parameters: dict[str, float] | None = None) -> np.ndarray:
    analysis = pipeline.analyse(Source("<test>", text))
    assert not analysis.failed, analysis.diagnostics
    return np.asarray(interpret(analysis.losses[0].program, arrays, parameters or {})["return"])


def loss(lines: str, returned: str) -> str:
    head = "loss t:\n    input x: real[n]\n    input y: real[n]\n    param a: real > 0 = 2\n"
    return head + "".join(f"    {line}\n" for line in lines.split("\n") if line) + f"    return sum({returned})\n"


# definitions; the expression; its derivative in x, in y and in a, in numpy
BY_HAND = {
    "product": (
        "",
        "sin(x) * y^2 * a",
        lambda x, y, a: (np.cos(x) * y**2 * a, 2 * np.sin(x) * y * a, np.sin(x) * y**2),
    ),
    "through a definition": (
        "z = a * x + y\nw = exp(z) - x",
        "w * z",
        lambda x, y, a: (
            (np.exp(a * x + y) * a - 1) * (a * x + y) + (np.exp(a * x + y) - x) * a,
            np.exp(a * x + y) * (a * x + y) + np.exp(a * x + y) - x,
            x * (np.exp(a * x + y) * (a * x + y) + np.exp(a * x + y) - x),
        ),
    ),
    "branches": (
        "",
        "a * x^2 if x < y else a^2 * x * y",
        lambda x, y, a: (
            np.where(x < y, 2 * a * x, a**2 * y),
            np.where(x < y, 0, a**2 * x),
            np.where(x < y, x**2, 2 * a * x * y),
        ),
    ),
    "a function": ("def f(u, v) = log(1 + u^2) / v", "f(x, a) + f(y, a)", None),
    "a sum held fixed": ("s = sum(y^2)", "s * x^3", lambda x, y, a: (3 * x**2 * np.sum(y**2), None, 0 * x)),
    "stop": ("", "stop(x) * x + stop(y) * a", lambda x, y, a: (x, 0 * x, y)),
}
BY_HAND["a function"] = (
    "def f(u, v) = log(1 + u^2) / v",
    "f(x, a) + f(y, a)",
    lambda x, y, a: (
        2 * x / (1 + x**2) / a,
        2 * y / (1 + y**2) / a,
        -(np.log(1 + x**2) + np.log(1 + y**2)) / a**2,
    ),
)


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_equals_the_derivative_by_hand(name: str) -> None:
    lines, expression, reference = BY_HAND[name]
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=5), rng.normal(size=5)
    for variable, wanted in zip("xya", reference(x, y, 1.7), strict=True):
        if wanted is not None:
            found = value(loss(lines, f"derivative({expression}, {variable})"), {"x": x, "y": y}, {"a": 1.7})
            np.testing.assert_allclose(found, np.sum(wanted * np.ones(5)), rtol=1e-13)


def test_the_second_derivative_is_the_derivative_of_the_derivative() -> None:
    x = np.linspace(-2, 3, 7)
    text = loss("", "derivative(derivative(tanh(a * x), x), x)")
    t = np.tanh(1.5 * x)
    np.testing.assert_allclose(value(text, {"x": x, "y": x}, {"a": 1.5}), np.sum(-2 * 1.5**2 * t * (1 - t**2)))


def test_by_a_definition_and_by_an_access() -> None:
    x = np.array([0.3, -1.2, 2.0])
    by_name = value(loss("z = a * x", "derivative(z^3 + x, z)"), {"x": x, "y": x}, {"a": 2.0})
    np.testing.assert_allclose(by_name, np.sum(3 * (2 * x) ** 2))
    shifted = loss("d[n] = derivative(x[n + 1]^2 * y[n], x[n + 1])", "d")
    np.testing.assert_allclose(value(shifted, {"x": x, "y": x}, {"a": 2.0}), np.sum(2 * x[1:] * x[:-1]))


def test_a_bregman_divergence_trains_as_its_formula_does() -> None:
    text = """
loss bregman:
    input p, q: real[n, c] in (0, inf)
    def phi(u) = u * log(u)
    per = sum(phi(p) - phi(q) - derivative(phi(q), q) * (p - q) over c)
    return mean(per)
"""
    module = loads(text)()
    rng = np.random.default_rng(0)
    p, q = (torch.tensor(rng.uniform(0.2, 3, (4, 5)), requires_grad=True) for _ in range(2))
    found = torch.autograd.grad(module(p, q), (p, q))
    wanted = torch.autograd.grad((p * (p / q).log() - p + q).sum(1).mean(), (p, q))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()


def test_a_gradient_penalty_trains_the_critic() -> None:
    module = load("gradient_penalty")
    derivative = module.derivative
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = network(), network()
    a = x.clone().requires_grad_()
    module()(derivative(ours(a), a)).backward()
    b = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(theirs(b).sum(), b, create_graph=True)
    ((slope.norm(2, dim=1) - 1) ** 2).mean().backward()
    seen = 0
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        if q.grad is not None:  # the last bias has no part in a slope
            assert p.grad is not None
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-13)
            seen += 1
    assert seen == 3
    with pytest.raises(ValueError, match="requires_grad_"):
        derivative(ours(x), x)


def test_second_derivatives_of_a_network() -> None:
    module = load("pinn_heat")
    t, x = (torch.rand(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    u = torch.sin(2 * x) * torch.exp(-4 * t)  # solves u_t = u_xx
    u_x = module.derivative(u, x)
    assert module()(module.derivative(u, t), module.derivative(u_x, x)).item() < 1e-25
    wrong = module()(module.derivative(u, t), 2 * module.derivative(u_x, x))
    assert wrong.item() > 1e-3


def test_only_losses_of_derivatives_offer_the_helper() -> None:
    assert "def derivative" not in lossdsl.compile(Source("<t>", loss("", "x * y"))).source


@pytest.mark.parametrize("target", ["torch", "triton"])
def test_derivatives_of_special_functions_of_a_high_order(target: str) -> None:
    """The order of a polygamma is a plain number in every text, and `check` ends without an answer, not with an error."""
    text = "loss t:\n    input x: real[n] > 0\n    a = derivative(digamma(x), x)\n"
    text += "    return sum(derivative(derivative(a, x), x) + a)\n"
    fn = loads(text, target=target).function
    x = torch.tensor([0.4, 1.0, 3.7], dtype=torch.float64, requires_grad=True)
    wanted = torch.polygamma(3, x) + torch.polygamma(1, x)
    torch.testing.assert_close(fn(x), wanted.sum())
    slope = torch.polygamma(4, x) + torch.polygamma(2, x)
    for create in (False, True):
        (ours,) = torch.autograd.grad(fn(x), x, create_graph=create)
        torch.testing.assert_close(ours, slope)
    assert torch.autograd.gradgradcheck(fn, x)
    (report,) = pipeline.check(Source("t.loss", text)).reports
    assert report.loss == "t"


ROWS = "loss t:\n    input z, w: real[n, c]\n    axis k = c\n    input keep: bool[n, c]\n    param a: real > 0 = 2\n"
DECAY = "axis t = 3\nm[n, t] = sin(a * z[n, 0]) * m[n, t - 1] + z[n, 1] if t > 0 else z[n, 0]"


def decayed(z: torch.Tensor, a: Any) -> list[torch.Tensor]:
    rounds = [z[:, 0]]
    for _ in range(2):
        rounds.append(torch.sin(a * z[:, 0]) * rounds[-1] + z[:, 1])
    return rounds


def squares(y: torch.Tensor) -> torch.Tensor:
    s = y[:, 0]
    for c in range(1, y.shape[1]):
        s = y[:, c] + s**2
    return s


def highest(s: torch.Tensor) -> torch.Tensor:
    m = torch.maximum(torch.zeros_like(s[:, 0]), s[:, 0])
    for c in range(1, s.shape[1]):
        m = torch.maximum(0.9 * m, s[:, c])
    return m


# definitions; what is returned; the same by autograd
COUPLED: dict[str, tuple[str, str, Any]] = {
    "softmax": (
        "",
        "sum(derivative(logsumexp(z over c), z) * w over n, c)",
        lambda z, w, k, a: torch.softmax(z, 1) * w,
    ),
    "masked": (
        "s = sum(z^2 * w over c where keep)",
        "sum(derivative(s, z) * z over n, c)",
        lambda z, w, k, a: torch.where(k, 2 * z * w, 0.0) * z,
    ),
    "a mean beside its entries": (
        "m = mean(z over c)",
        "sum(derivative((z - m)^2, z) over n, c)",
        lambda z, w, k, a: 2 * (z - z.mean(1, keepdim=True)) * (1 - 1 / z.shape[1]),
    ),
    "a sum of sums": (
        "s = sum(exp(z) over c)\nt = sum(log(s) over n)",
        "sum(derivative(t, z) * w over n, c)",
        lambda z, w, k, a: torch.softmax(z, 1) * w,
    ),
    "in a parameter": (
        "s = sum(exp(a * z) over n, c)",
        "derivative(log(s), a)",
        lambda z, w, k, a: torch.softmax((a * z).flatten(), 0) * z.flatten(),
    ),
    "a second derivative": (
        "l = logsumexp(z over c)",
        "sum(derivative(derivative(l, z), z) over n, c)",
        lambda z, w, k, a: torch.softmax(z, 1) * (1 - torch.softmax(z, 1)),
    ),
    "a sum over the axis of a sum over it": (
        "m[n, c] = sum(exp(z[c = k] * w) over k)\ns = sum(m[c = k]^2 over k)",
        "sum(derivative(s, z) * z over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: ((u[:, None, :] * w[:, :, None]).exp().sum(2) ** 2).sum())(z) * z,
    ),
    "a maximum": (
        "m = max(z^2 * w over c)",
        "sum(derivative(m, z) * z over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: (u**2 * w).max(1).values.sum())(z) * z,
    ),
    "a masked minimum of two axes": (
        "m = min(z * exp(a * z) over n, c where keep else 0)",
        "sum(derivative(m, z) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: torch.where(k, u * torch.exp(a * u), torch.inf).min())(z) * w,
    ),
    "below a maximum": (
        "l = logsumexp(z over c)\nm = max(l over n)",
        "sum(derivative(m, z) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: u.logsumexp(1).max())(z) * w,
    ),
    "in a definition": (
        "u = z * w\ns = sum(u^3 over c)",
        "sum(derivative(s, u) over n, c)",
        lambda z, w, k, a: 3 * (z * w) ** 2,
    ),
    "a product": (
        "m = prod(z over c)",
        "sum(derivative(m, z) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: u.prod(1).sum())(z) * w,
    ),
    "a masked product of two axes": (
        "m = prod(z * w over n, c where keep)",
        "sum(derivative(m, z) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: torch.where(k, u * w, 1.0).prod())(z) * w,
    ),
    "a second derivative of a product": (
        "m = prod(z^2 over c)\nt = sum(m over n)",
        "sum(derivative(sum(derivative(t, z) * w over n, c), z) * w over n, c)",
        lambda z, w, k, a: torch.func.hessian(lambda u: (u**2).prod(1).sum())(z).mul(w).sum((2, 3)) * w,
    ),
    "neighbours in a sum": (
        "d[n, c] = z[n, c] * w[n, c]\ns = sum(d[n, c + 1] * d[n, c]^2 over c where c < size(c) - 1)",
        "sum(derivative(s, d) * z over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: (u[:, 1:] * u[:, :-1] ** 2).sum())(z * w) * z,
    ),
    "a median": (
        "q = median(z * w over c)",
        "sum(derivative(q, z) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: torch.quantile(u * w, 0.5, dim=1).sum())(z) * w,
    ),
    "two fixed entries": (
        "g[n] = sum(z * w over c)\nt = g[0] * g[1]",
        "sum(derivative(t, z) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: (u * w).sum(1)[:2].prod())(z) * w,
    ),
    "a log-determinant": (
        "A[c, k] = sum(z * z[c = k] over n) + (2 if c == k else 0)\nl = logdet(A over c, k)",
        "sum(derivative(l, z) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: torch.logdet(u.T @ u + 2 * torch.eye(4)))(z) * w,
    ),
    "an entry of a recurrence": (
        DECAY,
        "sum(derivative(m[n, 2], z) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: decayed(u, a)[2].sum())(z) * w,
    ),
    "all entries of a recurrence": (
        f"{DECAY}\ns = sum(m^2 over t)",
        "sum(derivative(s, z) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: sum((m**2).sum() for m in decayed(u, a)))(z) * w,
    ),
    "a recurrence in a parameter": (
        f"{DECAY}\ns = sum(m over t, n)",
        "derivative(s, a)",
        lambda z, w, k, a: torch.func.grad(lambda b: sum(m.sum() for m in decayed(z, b)))(torch.tensor(a).to(z)),
    ),
    "a recurrence in a definition": (
        "y[n, c] = tanh(z)\ns[n, c] = y[n, c] + (s[n, c - 1]^2 if c > 0 else 0)\nl = s[n, last]",
        "sum(derivative(l, y) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: squares(u).sum())(torch.tanh(z)) * w,
    ),
    "a cumulative sum and a maximum in a recurrence": (
        "s = cumsum(z over c)\nm[n, c] = max(0.9 * m[n, c - 1 else 0], s)\nt = m[n, last]",
        "sum(derivative(t, z) * w over n, c)",
        lambda z, w, k, a: torch.func.grad(lambda u: highest(u.cumsum(1)).sum())(z) * w,
    ),
}


@pytest.mark.parametrize("name", sorted(COUPLED))
def test_through_reductions(name: str) -> None:
    """The values, and how the loss trains: the derivative of a derivative."""
    lines, returned, reference = COUPLED[name]
    text = ROWS + "".join(f"    {line}\n" for line in [*filter(None, lines.split("\n")), f"return {returned}"])
    rng = np.random.default_rng(1)
    z, w = (torch.tensor(rng.normal(size=(3, 4)), requires_grad=True) for _ in range(2))
    keep = torch.tensor(rng.random((3, 4)) > 0.4)
    given = {"z": z, "w": w, "keep": keep, "a": 1.5}
    function = loads(text).function
    found = function(**{k: v for k, v in given.items() if k in inspect.signature(function).parameters})
    wanted = reference(z, w, keep, 1.5).sum()
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    mine, theirs = (torch.autograd.grad(v, (z, w), allow_unused=True, materialize_grads=True) for v in (found, wanted))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


DILATE = """loss dilate:
    input x: real[b, t]
    input y: real[b, u]
    param gamma: real > 0 = 1

    def softmin(a, b, c) = -gamma * logsumexp(-a / gamma, -b / gamma, -c / gamma)
    cost[b, t, u] = (x[b, t] - y[b, u])^2
    warped[b, t, u] = cost[b, t, u] + (
        0 if t == 0 and u == 0 else
        softmin(warped[b, t - 1, u else inf], warped[b, t, u - 1 else inf], warped[b, t - 1, u - 1 else inf])
    )
    shape = warped[t = last, u = last]
    path[b, t, u] = derivative(shape, cost)
    return mean(0.5 * shape + 0.5 * sum(path * ((t - u) / size(t))^2 over t, u))
"""


def soft_dtw(cost: torch.Tensor, gamma: float) -> torch.Tensor:
    t, u = cost.shape
    r = {(-1, -1): cost.new_zeros(())}
    for i in range(t):
        for j in range(u):
            before = torch.stack([r[k] for k in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if k in r])
            r[i, j] = cost[i, j] - gamma * torch.logsumexp(-before / gamma, 0)
    return r[t - 1, u - 1]


@pytest.mark.parametrize("target", ["torch", "triton"])
def test_the_expected_alignment_of_soft_dtw(target: str) -> None:
    """DILATE (Le Guen and Thome, 2019): its distortion in time is a derivative of soft-DTW in the costs."""
    function = loads(DILATE, target=target).function
    rng = np.random.default_rng(3)
    x, y = (torch.tensor(rng.normal(size=(2, k)), requires_grad=True) for k in (4, 3))
    losses = []
    for a, b in zip(x, y, strict=True):
        cost = (a[:, None] - b[None, :]) ** 2
        path = torch.func.grad(lambda c: soft_dtw(c, 0.7))(cost)
        distortion = (torch.arange(4)[:, None] - torch.arange(3)[None, :]).to(cost) / 4
        losses.append(0.5 * soft_dtw(cost, 0.7) + 0.5 * (path * distortion**2).sum())
    wanted, found = torch.stack(losses).mean(), function(x, y, gamma=0.7)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(*(torch.autograd.grad(v, (x, y)) for v in (found, wanted)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("lines", "returned"),
    [
        ("m[n, c] = 0.5 * m[n - 1, c] + z if n > 0 else z", "derivative(m, z)"),
        ("m[n, c] = 0.5 * m[n, c - 1] + z if c > 0 else z", "derivative(m[c = k], z)"),
        ("m = inverse(sum(z * z[c = k] over n) over c, k)", "derivative(m, z)"),
    ],
)
def test_entries_that_meet_along_an_axis(lines: str, returned: str) -> None:
    """One pass back sums over all entries of the value: where they meet, no entry has its own derivative."""
    text = ROWS + "".join(f"    {line}\n" for line in [*lines.split("\n"), f"return sum({returned} over n, c, k)"])
    analysis = pipeline.analyse(Source("<test>", text))
    assert [d.code for d in analysis.diagnostics if d.severity is Severity.ERROR] == ["E0409"]
