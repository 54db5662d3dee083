"""Limits along sequences: against mpmath far out, and what they decide."""

from __future__ import annotations

import random
from fractions import Fraction

import mpmath as mp
import pytest
from verify_losses import loss

from lossdsl.diagnostics import Source
from lossdsl.ir.nodes import REAL, Apply, Const, Read, Scalar
from lossdsl.pipeline import analyse
from lossdsl.primitives import PRIMITIVES
from lossdsl.verify import limits, properties, shapes
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.folds import Undecided
from lossdsl.verify.limits import Limit, fixed, toward
from lossdsl.verify.verdict import Proved, Refuted

# The sequences by name: where they go, and their values at T.
SEQUENCES = {
    "up": (toward(INF), lambda t: t),
    "down": (toward(-INF), lambda t: -t),
    "small": (toward(0.0, 1), lambda t: 1 / t),
    "minus_small": (toward(0.0, -1), lambda t: -1 / t),
    "to_one": (toward(1.0, -1), lambda t: 1 - 1 / t),
    "above_two": (toward(2.0, 1), lambda t: 2 + 1 / t),
    "wave": (toward(0.0), lambda t: mp.sin(t) / t),
    "three": (fixed(3), lambda t: mp.mpf(3)),
    "half": (fixed(Fraction(1, 2)), lambda t: mp.mpf(1) / 2),
    "zero": (fixed(0), lambda t: mp.mpf(0)),
    "minus_one": (fixed(-1), lambda t: mp.mpf(-1)),
}
UNARY = ["neg", "exp", "log", "log1p", "expm1", "sqrt", "sigmoid", "logsigmoid", "softplus", "tanh", "abs", "relu"]
UNARY += ["erf", "erfc", "normal_cdf", "cosh", "logcosh", "sign", "sinh", "cos", "log1mexp"]
BINARY = ["add", "sub", "mul", "div", "max2", "min2", "logaddexp", "xlogy", "pow", "expdiff"]
EASY = frozenset(
    {"neg", "log", "log1p", "sqrt", "abs", "relu", "sign", "add", "sub", "mul", "div", "max2", "min2", "powi"}
)
FAR = (mp.mpf(10) ** 3, mp.mpf(10) ** 5, mp.mpf(10) ** 7)


def expression(rng: random.Random, depth: int) -> Scalar:
    if depth == 0 or rng.random() < 0.15:
        return Read(rng.choice(list(SEQUENCES)), (), REAL)
    if rng.random() < 0.15:
        return Apply("powi", (expression(rng, depth - 1), Const(Fraction(rng.choice((2, 3, 1, -1, -2))))))
    if rng.random() < 0.5:
        return Apply(rng.choice(UNARY), (expression(rng, depth - 1),))
    a = expression(rng, depth - 1)
    b = a if rng.random() < 0.1 else expression(rng, depth - 1)
    return Apply(rng.choice(BINARY), (a, b))


def limit(node: Scalar) -> Limit:
    if isinstance(node, Read):
        return SEQUENCES[node.tensor][0]
    if isinstance(node, Const):
        return fixed(node.value)
    return limits.apply(node, [limit(a) for a in node.args])


def value(node: Scalar, t: mp.mpf) -> mp.mpf:
    if isinstance(node, Read):
        return SEQUENCES[node.tensor][1](t)
    if isinstance(node, Const):
        return mp.mpf(node.value.numerator) / node.value.denominator
    args = [value(a, t) for a in node.args]
    if any(abs(a) > mp.mpf(10) ** 15 for a in args) and node.name not in EASY:
        raise OverflowError  # too many digits for mpmath
    found = PRIMITIVES[node.name].reference(mp, *args)
    if isinstance(found, mp.mpc):
        raise ValueError("not real")
    return mp.mpf(found)


@pytest.mark.parametrize("seed", range(12))
def test_limits_are_where_values_go(seed):
    rng = random.Random(seed)
    known = 0
    with mp.workdps(60):
        for _ in range(700):
            node = expression(rng, rng.choice((1, 2, 3)))
            try:
                found = limit(node)
            except Undecided:
                continue
            known += 1
            try:
                values = [value(node, t) for t in FAR]
            except (OverflowError, ValueError, ZeroDivisionError, mp.libmp.NoConvergence):
                continue
            text = f"{node} is {found}: {[mp.nstr(v, 8) for v in values]}"
            if found.infinite:
                rising = [v * (1 if found.box.lo > 0 else -1) for v in values]
                assert rising[0] <= rising[1] <= rising[2] or rising[2] > 10, text
                assert rising[2] > mp.mpf("0.3"), text
                continue
            lo, hi = (mp.mpf(v) for v in (found.box.lo, found.box.hi))
            gaps = [max(lo - v, v - hi, mp.mpf(0)) for v in values]
            if not found.moves:
                assert max(gaps[1:]) <= mp.mpf(10) ** -40, text
                continue
            size = max(1, abs(lo))
            falling = gaps[2] <= gaps[1] <= gaps[0]
            assert falling or gaps[2] < size / 1000, text
            assert gaps[2] <= size / 5 or gaps[2] < gaps[1], text
            if found.side and abs(values[2] - lo) > mp.mpf(10) ** -50:
                assert (values[2] > lo) == (found.side > 0), text
    assert known > 150


LOOSE = limits.perhaps(Enclosure(-INF, 3.0, False, False), False)
MASK = Limit(Enclosure(-INF, -INF))


def test_what_may_be_an_infinity() -> None:
    assert limits.added(MASK, LOOSE) == MASK  # -inf all along, and nothing that could be +inf
    assert limits.apply(Apply("exp", (Read("a", (), REAL),)), [LOOSE]).box.finite
    rate = Limit(Enclosure(0.0, 2.0))
    assert limits.multiplied(rate, toward(-INF)).box == Enclosure(-INF, 0.0)
    for bad in (
        lambda: limits.added(LOOSE, fixed(1)),
        lambda: limits.added(limits.negated(LOOSE), MASK),
        lambda: limits.added(toward(-INF), LOOSE),  # perhaps finite at every point of the sequence, perhaps not
        lambda: limits.multiplied(LOOSE, fixed(0)),
        lambda: limits.multiplied(Limit(Enclosure(-1.0, 1.0)), toward(INF)),
        lambda: limits.log_sum_exp([LOOSE, fixed(1)]),
        lambda: limits.logarithm(limits.negated(LOOSE)),
        lambda: limits.apply(Apply("sub", (Read("a", (), REAL),) * 2), [LOOSE, LOOSE]),
        lambda: limits.apply(Apply("relu", (Read("a", (), REAL),)), [LOOSE]),
    ):
        with pytest.raises(Undecided):
            bad()


# ------------------------------------------------------------------------------------------------------ bounded


def asked(text: str, decide):
    analysis = analyse(Source("x.loss", text))
    assert analysis.losses, analysis.diagnostics
    program = analysis.losses[0].program
    target = program.target or analysis.losses[0].tensors.get("per") or program.outputs[0].tensor
    return decide(Context(program, seconds=0.4), target)


def bounded(text: str):
    return asked(text, properties.bounded)


@pytest.mark.parametrize(
    "text",
    [
        loss("x[n]^2"),
        loss("-log(x[n])", x="prob[n]"),
        loss("1 / (1 - x[n])", x="real[n] in [0, 1)"),
        loss("log(1 + exp(-x[n])) * (1 + exp(x[n]))"),
        loss("logsumexp(x[n, c] over c) - x[n, 0]", x="real[n, c]"),
        loss("sum(x[n, c] * log(x[n, c]) over c) - log(x[n, 0])", x="simplex[n, c] over c"),
        loss("max(abs(x[n, c]) over c where c != 0 else 0)", x="real[n, c]"),
        loss("exp(-x[n]^2) + sqrt(relu(x[n]))"),
        loss("logsumexp(x[n, c] over c) - max(x[n, c] over c)", x="real[n, c]"),  # log(c): bounded for each c only
    ],
)
def test_unbounded(text):
    assert isinstance(bounded(text), Refuted)


BOUNDED = [
    loss("x[n] / (1 + abs(x[n]))"),
    loss("x[n] * exp(-x[n]^2)"),
    loss("x[n] - (x[n] + sin(x[n]))"),
    loss("x[n]^2 / (1 + x[n]^2)"),
    loss("log(x[n] + 1) - log(x[n])", x="real[n] in [1, inf)"),
    loss("tanh(x[n]) * 1000"),
    loss("log(1 + exp(-x[n])) / (1 + exp(-x[n]))"),
    loss("1 if x[n] > 0 else exp(x[n])"),
    loss("x[n] if x[n] < 5 else 5", x="real[n] in [0, inf)"),
    loss("(x[n] - x[n]) * exp(x[n])"),
    loss("x[n] * log(x[n])", x="real[n] in (0, 1]"),  # at 0 it has no value: test_verify_novalue.py
]
# A search that finds nothing takes all of its budget.
FEW = [t if k in (5, 8) else pytest.param(t, marks=pytest.mark.slow) for k, t in enumerate(BOUNDED)]


@pytest.mark.parametrize("text", FEW)
def test_a_bounded_loss_is_never_called_unbounded(text):
    assert not isinstance(bounded(text), Refuted)


# ------------------------------------------------------------------------------------------------------ infimum

Z, LABEL = "real[n, c]", "    input t: class[n] of c\n"


@pytest.mark.parametrize(
    "text",
    [
        loss("logsumexp(x[n, c] over c) - x[n, t[n]]", x=Z, more=LABEL),
        loss("sum(relu(1 + x[n, c] - x[n, t[n]]) over c where c != t[n])", x=Z, more=LABEL),
        loss("max(relu(1 + x[n, c] - x[n, t[n]]) over c where c != t[n] else 0)", x=Z, more=LABEL),
        loss("sum((softmax(x)[n, c] - (1 if c == t[n] else 0))^2 over c)", x=Z, more=LABEL)
        .replace("softmax(x)[n, c]", "softmax(x[n, c] over c)"),
        loss("mean((x[n, c] - y[n, c])^2 over c)", x=Z, more="    input y: real[n, c]\n"),
        loss("sum(p[n, c] * (log(p[n, c] + 1) - log(q[n, c] + 1)) over c)^2", x=Z, more="    input p: simplex[n, c] over c\n    input q: simplex[n, c] over c\n"),
        loss("-log(x[n]) if t[n] else -log(1 - x[n])", x="prob[n]", more="    input t: bool[n]\n"),
        loss("(sqrt(sum(x[n, c]^2 over c)) - 1)^2", x=Z),
        loss(
            "sum(exp(q) * (q - log_softmax(x over c)) over c)^2",
            x=Z,
            more="    input y: real[n, c]\n    q = stop(log_softmax(y over c))\n",
        ),
        loss("(sigmoid(-x[n]) + 0)^g * softplus(-x[n])", more="    param g: real >= 0 = 2\n"),
        loss("softplus(-x[n])"),
        loss("w[n] * softplus(-x[n])", more="    input w: real[n] >= 0 = 1\n"),
        loss("softplus(-a * x[n])", more="    param a: real > 0 = 1\n"),
        loss("-sum(softmax(x[n, c] over c) * log_softmax(x[n, c] over c) over c)", x=Z),
        loss("logsumexp(z[n, c] over c) - z[n, t[n]]", x=Z, more=LABEL + "    param m: real >= 0 = 1\n    z[n, c] = 2 * (x[n, c] - (m if c == t[n] else 0))\n"),
        loss("exp(mean(log(x[n, c]) over c))", x="real[n, c] > 0"),
        loss("(x[n] - a)^2", more="    param a: real = 1\n"),
        loss("abs(x[n])", x="real[n] in [0, size(n)]"),
        loss("-x[n] if x[n] > log(f) else 1", x="real[n] <= 0", more="    param f: real in (0, 1) = 1/2\n"),
        loss("max(relu(1 - abs(x[n] - x[m])) over m where g[n] != g[m] else 0)", more="    input g: int[n]\n    axis m = n\n"),
        loss(
            "softplus(logsumexp(x[m] over m where g[n] != g[m]) + logsumexp(x[m] over m where g[n] == g[m] and n != m))",
            more="    input g: int[n]\n    axis m = n\n",
        ),
        loss("1 - (sum(x[n, c] * y[n, c] over c) + s) / (sum(1 - (1 - x[n, c]) * (1 - y[n, c]) over c) + s)", x="real[n, c] in [0, 1]", more="    input y: real[n, c] in [0, 1]\n    param s: real > 0 = 1\n"),
        loss("(log(mean(x[n, c] over c)) - log(r))^2", x="real[n, c] in (0, 1)", more="    param r: real in (0, 1/2) = 1/4\n"),
        loss("sum(cumsum(x - y over c)^2 over c)", x="simplex[n, c] over c", more="    input y: simplex[n, c] over c\n"),
        loss("softplus(w[n] + x[n] - y[n]) + c * (x[n] + y[n])^2", more="    input y: real[n]\n    input w: real[n] = 0\n    param c: real >= 0 = 1\n"),
        loss("v[n]^2", more="    param g: real in [0, 1] = 1/2\n    v[n] = x[n] + g * v[n + 1 else 0]\n"),
        loss("exp(-a * softplus(x[n])) * softplus(-x[n])", more="    param a: real >= 0 = 1\n"),
        loss("softplus(-x[n]) * exp(-(a + (b - a) * u) * softplus(x[n]))", more="    param a, b: real >= 0 = 1\n    param u: real in [0, 1] = 1\n"),
        loss("-w[t[n]] * relu(-expm1(z[n, t[n]]))^g * z[n, t[n]]", x=Z, more=LABEL + "    param g: real >= 0 = 2\n    input w: real[c] >= 0 = 1\n    z[n, c] = log_softmax(x[n, c] over c)\n"),
        loss("logsumexp(s[n, m] over m) - s[n, n]", x="real[n, d]", more="    input y: real[n, d]\n    axis m = n\n    s[n, m] = sum(x[n, d] * y[m, d] over d)\n"),
    ],
)  # fmt: skip
def test_the_infimum_is_approached_at_all_extents(text):
    assert isinstance(asked(text, lambda c, t: shapes.infimum(c, t, Const(0))), Proved)


@pytest.mark.parametrize(
    "text",
    [
        loss("x[n]^2 + 1"),
        loss("sum(softmax(x[n, c] over c)^2 over c) - sum(softmax(x[n, c] over c) * log_softmax(x[n, c] over c) over c)", x=Z),
        loss("(x[n] - a)^2 + (x[n] - b)^2", more="    param a, b: real = 1\n"),
        loss("x[n]", x="real[n] in [s, 5 + s]", more="    param s: real >= 0 = 1\n"),
        loss("abs(x[n])", x="real[n] in [1, 1 + size(n)]"),
        loss("logsumexp(2 * (x[n, c] + (m if c != t[n] else 0)) over c) - 2 * x[n, t[n]]", x="real[n, c] in [0, 1]", more=LABEL + "    param m: real >= 0 = 1\n"),
        loss("exp(mean(log(x[n, c]) over c))", x="real[n, c] > 1"),
        loss("abs(x[n] - 1) + abs(x[n] + 1)"),
        loss("exp(-x[n]) + exp(x[n] - 10)"),
        loss("softplus(x[n]) + relu(1 - x[n])"),
        loss("logsumexp(x[n, c] over c) - mean(x[n, c] over c)", x=Z),
        loss("logsumexp(x[n, c] over c) - 0.9 * x[n, t[n]] - 0.1 * mean(x[n, c] over c)", x=Z, more=LABEL),
        loss("logsumexp(x[n, c] over c) - x[n, t[n]]", x="real[n, c] in [-1, 1]", more=LABEL),
        loss("(logsumexp(x[n, c] over c) - logsumexp(2 * x[n, c] over c))^2 + 1", x=Z),
        loss("(1 + sigmoid(-x[n]))^g * softplus(-x[n]) + (1 if g == 0 else 0)", more="    param g: real >= 0 = 2\n"),
        loss("sigmoid(-x[n])^g", more="    param g: real >= 0 = 2\n"),
        loss("w[n] * (1 + x[n]^2)", more="    input w: real[n] >= 0 = 1\n"),
        loss("softplus(-a * x[n])", more="    param a: real >= 0 = 1\n"),
        loss("softplus(-x[n]) if x[n] < 10 else 1"),
        loss("1 if x[n] > 0 else exp(x[n]) + 1 / 2"),
        loss("sum(1 / (1 + x[n, c]^2) over c where c != 0) + 1 / (1 + x[n, 0]^2)^0 ", x=Z),
        loss("sum(p[n, c]^2 over c)", x="simplex[n, c] over c").replace("p[n", "x[n"),
        loss("count(x[n, c] > 0 over c) + exp(x[n, 0])", x=Z),
        loss("max(x[n, c]^2 over c) + exp(-sum(x[n, c]^2 over c))", x=Z),
        loss("max(relu(1 - abs(x[n] - x[m])) over m where g[n] == g[m] else 0)", more="    input g: int[n]\n    axis m = n\n"),
        loss("x[n]^2 + (1 if g[n] < 1 else 0)", more="    input g: int[n] <= 0\n"),
        loss("softplus(logsumexp(x[m] over m where g[n] == g[m]) + 0 * x[n])", x="real[n] in [-1, 1]", more="    input g: int[n]\n    axis m = n\n"),
        loss("2 - (sum(x[n, c] * y[n, c] over c) + s) / (sum(1 - (1 - x[n, c]) * (1 - y[n, c]) over c) + s)", x="real[n, c] in [0, 1]", more="    input y: real[n, c] in [0, 1]\n    param s: real > 0 = 1\n"),
        loss("(log(mean(x[n, c] over c)) - log(r))^2", x="real[n, c] in (0, 1/8)", more="    param r: real in (0, 1/2) = 1/4\n"),
        loss("(log(mean(w[c] * x[n, c] over c)) - log(r))^2", x="real[n, c] in (0, 1)", more="    param r: real in (0, 1/2) = 1/4\n    input w: real[c] > 0 = 1\n"),
        loss("w[n]^2 + x[n]^2", more="    input w: real[n] = 1\n"),
        loss("w[n]^2 + relu(x[n])", x="real[n] in [0, 1]", more="    input w: real[n] = 1\n"),
        loss("(w[n] + x[n])^2 + (w[n] - x[n])^2", more="    input w: real[n] = 1\n"),
        loss("v[n]^2", more="    v[n] = relu(x[n]) + 1 + v[n + 1 else 0]\n"),
        loss("v[n]^2", more="    v[n] = relu(x[n]) + v[n + 1 else 1]\n"),
        loss("exp(-a * softplus(x[n]))", more="    param a: real >= 0 = 1\n"),
        loss("exp(-(a + (b - a) * 2 * sigmoid(x[n])) * softplus(x[n])) * (2 + x[n]^2)", more="    param a, b: real >= 0 = 1\n"),
        loss("relu(-expm1(-softplus(x[n])))^g + 1", more="    param g: real >= 0 = 2\n"),
        loss("logsumexp(x[n] * y[m] over m) - x[n] * mean(y[m] over m)", more="    input y: real[n]\n    axis m = n\n"),
    ],
)  # fmt: skip
def test_an_infimum_that_is_not_there_is_not_proved(text):
    assert not isinstance(asked(text, lambda c, t: shapes.infimum(c, t, Const(0))), Proved)
