"""Claims of decision theory and redescending losses: each verdict is held against a plain numerical search.

The oracles know nothing of the verifier: they minimise expected losses over grids of predictions in numpy. A case lists
what is decided; what the verifier leaves open is not checked, what it decides has to be so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest

from lossdsl.verify import judged
from lossdsl.verify.verdict import Proved, Refuted
from tests.test_verify import built

Array = Any
ETAS = (0.02, 0.1, 0.3, 0.45, 0.55, 0.7, 0.9, 0.98)
LINE = np.linspace(-30, 30, 24001)  # with 0 and all multiples of 1/400
UNIT = np.linspace(0, 1, 4001)[1:-1]


def sp(x: Array) -> Array:
    return np.logaddexp(0, x)


def sg(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def verdicts(declarations: str, per: str, claims: Sequence[str]) -> list[Any]:
    """The verdict on each claim, after its `not` if it has one."""
    lines = [line.strip() for line in f"{declarations}\nper = {per}\nreturn mean(per)".splitlines() if line.strip()]
    lines += [f"claim {c}" for c in claims]
    return list(judged(built("loss test:\n" + "\n".join(f"    {x}" for x in lines) + "\n")))


# ---------------------------------------------------------------------------------------------- labels of two values


@dataclass(frozen=True)
class Binary:
    """A loss of a label y (negative, positive) and a prediction v; `settings` are values of its parameters."""

    per: str
    loss: Callable[..., Array]  # (y, v, **parameters)
    expected: dict[str, str]  # claim: status
    margin: bool = True  # a score and a label in {-1, 1}; else a probability and a label in {0, 1}
    declarations: str = ""
    settings: tuple[dict[str, float], ...] = ({},)

    @property
    def inputs(self) -> str:
        named = "input s: real[...]\ninput y: sign[...]" if self.margin else "input q: prob[...]\ninput y: binary[...]"
        return f"{named}\n{self.declarations}"


LINKS: dict[str, Callable[[Array], Array]] = {
    "": lambda v: v,
    " with link sigmoid(s)": sg,
    " with link sigmoid(2 * s)": lambda v: sg(2 * v),
    " with link sigmoid(-s)": lambda v: sg(-v),
    " with link q^2": lambda v: v**2,
    " with link q^2 / (q^2 + (1 - q)^2)": lambda v: v**2 / (v**2 + (1 - v) ** 2),
}


def truth(case: Binary, claim: str) -> bool:
    """Whether the claim holds at all settings, by search."""
    return all(_holds(case, claim, setting) for setting in case.settings)


def _holds(case: Binary, claim: str, setting: dict[str, float]) -> bool:
    v, low, threshold = (LINE, -1, 0.0) if case.margin else (UNIT, 0, 0.5)
    one, zero = (np.broadcast_to(case.loss(y, v, **setting), v.shape).astype(float) for y in (1, low))
    if claim == "noise symmetric":
        return bool(np.ptp(one + zero) < 1e-9)
    if claim == "calibrated":
        return all(_right_side(eta * one + (1 - eta) * zero, v > threshold, v < threshold, eta) for eta in ETAS)
    word, link = ("strictly proper", claim[15:]) if claim.startswith("strictly") else ("proper", claim[6:])
    if not link and case.margin:
        return _some_link(one, zero, v)
    q = LINKS[link](v)
    for k in range(200, len(v), 397):
        if not 0.001 < q[k] < 0.999:
            continue
        risk = q[k] * one + (1 - q[k]) * zero
        if risk[k] > risk.min() + 1e-12:
            return False
        away = np.abs(q - q[k]) > 0.02
        if word == "strictly proper" and away.any() and risk[away].min() <= risk[k] + 1e-12:
            return False
    return True


def _right_side(risk: Array, above: Array, below: Array, eta: float) -> bool:
    wrong = ~above if eta > 0.5 else ~below
    return bool(risk[wrong].min() > risk.min() + 1e-9)


def _some_link(one: Array, zero: Array, v: Array) -> bool:
    """Whether the minimiser is one point that moves strictly with the probability (on the grid)."""
    best = []
    for eta in np.linspace(0.1, 0.9, 17):
        risk = eta * one + (1 - eta) * zero
        near = v[risk <= risk.min() + 1e-12]
        if np.ptp(near) > 0.01 or abs(near[0]) == LINE[-1]:
            return False
        best.append(near[0])
    steps = np.diff(best)
    return bool((steps > 0).all() or (steps < 0).all())


P, R = "proved", "refuted"
MARGIN = "param margin: real > 0 = 1"
GAMMA = "param gamma: real >= 0 = 2"

BINARY = [
    Binary("relu(1 - y * s)", lambda y, v: relu(1 - y * v), {"calibrated": P, "proper": R, "noise symmetric": R}),
    Binary(
        "relu(margin - y * s)",
        lambda y, v, margin: relu(margin - y * v),
        {"calibrated": P},
        declarations=MARGIN,
        settings=({"margin": 1}, {"margin": 0.01}, {"margin": 7}),
    ),
    # the kink at the threshold: the perceptron's loss, whose minimiser is 0 for all probabilities
    Binary("relu(-y * s)", lambda y, v: relu(-y * v), {"calibrated": R, "noise symmetric": R}),
    Binary(
        "relu(margin - y * s)",
        lambda y, v, margin: relu(margin - y * v),
        {"calibrated": R},
        declarations="param margin: real >= 0 = 1",
        settings=({"margin": 0},),
    ),
    Binary("relu(-1 - y * s)", lambda y, v: relu(-1 - y * v), {"calibrated": R}),
    Binary("abs(y * s)", lambda y, v: abs(y * v), {"calibrated": R}),
    Binary("relu(1 - y * s) + relu(-y * s)", lambda y, v: relu(1 - y * v) + relu(-y * v), {"calibrated": R}),
    # falls everywhere, but a kink at 0 is too steep on the wrong side
    Binary("relu(1 - y * s) + 8 * relu(-y * s)", lambda y, v: relu(1 - y * v) + 8 * relu(-y * v), {"calibrated": R}),
    Binary(
        "2 * relu(1 - s) if y == 1 else relu(1 + s)", lambda y, v: relu(1 - y * v) * (1.5 + y / 2), {"calibrated": R}
    ),
    Binary(
        "relu(1 - y * s)^2",
        lambda y, v: relu(1 - y * v) ** 2,
        {"calibrated": P, "proper": P, "strictly proper": P, "noise symmetric": R},
    ),
    Binary("(1 - y * s)^2", lambda y, v: (1 - y * v) ** 2, {"calibrated": P, "strictly proper": P}),
    Binary(
        "relu(1 - y * s)^2 if y * s >= -1 else -4 * y * s",
        lambda y, v: np.where(y * v >= -1, relu(1 - y * v) ** 2, -4 * y * v),
        {"calibrated": P, "proper": P},
    ),
    Binary(
        "softplus(-y * s)",
        lambda y, v: sp(-y * v),
        {
            "calibrated": P,
            "proper": P,
            "strictly proper with link sigmoid(s)": P,
            "strictly proper with link sigmoid(2 * s)": R,
            "proper with link sigmoid(-s)": R,
            "noise symmetric": R,
        },
    ),
    Binary("softplus(y * s)", lambda y, v: sp(y * v), {"calibrated": R, "strictly proper with link sigmoid(-s)": P}),
    Binary("softplus(1 - y * s)", lambda y, v: sp(1 - y * v), {"calibrated": P, "proper with link sigmoid(s)": R}),
    Binary("softplus(-y * s - y)", lambda y, v: sp(-y * v - y), {"calibrated": R}),
    Binary(
        "exp(-y * s)",
        lambda y, v: np.exp(-y * v),
        {"calibrated": P, "strictly proper with link sigmoid(2 * s)": P, "strictly proper with link sigmoid(s)": R},
    ),
    # not convex
    Binary("sigmoid(-y * s)", lambda y, v: sg(-y * v), {"calibrated": P, "noise symmetric": P}),
    Binary("sigmoid(y * s)", lambda y, v: sg(y * v), {"calibrated": R, "noise symmetric": P}),
    Binary(
        "sigmoid(-2 * y * s)^2",
        lambda y, v: sg(-2 * y * v) ** 2,
        {"calibrated": P, "strictly proper with link sigmoid(2 * s)": P, "noise symmetric": R},
    ),
    Binary(
        "clamp((1 - y * s) / 2, 0, 1)",
        lambda y, v: np.clip((1 - y * v) / 2, 0, 1),
        {"calibrated": P, "noise symmetric": P},
    ),
    Binary("1 - tanh(y * s)", lambda y, v: 1 - np.tanh(y * v), {"calibrated": P, "noise symmetric": P}),
    # symmetric wherever the score is an integer, as at the points that one would try
    Binary(
        "sigmoid(-y * s) + sin(pi * s)^2",
        lambda y, v: sg(-y * v) + np.sin(np.pi * v) ** 2,
        {"noise symmetric": R},
    ),
    # symmetric up to a bump of height 1/1000
    Binary(
        "sigmoid(-y * s) + exp(-s^2) / 1000",
        lambda y, v: sg(-y * v) + np.exp(-(v**2)) / 1000,
        {"noise symmetric": R},
    ),
    Binary("1 - y * s", lambda y, v: 1 - y * v, {"calibrated": P, "noise symmetric": P}),
    Binary("abs(y - s)", lambda y, v: abs(y - v), {"calibrated": P, "noise symmetric": R}),
    Binary(
        "-log(q) if y == 1 else -log(1 - q)",
        lambda y, v: -np.log(v if y else 1 - v),
        {"calibrated": P, "proper": P, "strictly proper": P, "noise symmetric": R, "proper with link q^2": R},
        margin=False,
    ),
    Binary(
        "-2 * log(q) if y == 1 else -log(1 - q)",
        lambda y, v: -(1 + y) * np.log(v if y else 1 - v),
        {"calibrated": R, "proper": R, "strictly proper": R},
        margin=False,
    ),
    Binary(
        "weight * (q - y)^2",
        lambda y, v, weight: weight * (v - y) ** 2,
        {"calibrated": R, "proper": P, "strictly proper": R},
        margin=False,
        declarations="param weight: real >= 0 = 1",
        settings=({"weight": 1}, {"weight": 3}, {"weight": 0}),
    ),
    Binary(
        "(q - y)^2",
        lambda y, v: (v - y) ** 2,
        {"calibrated": P, "strictly proper": P, "noise symmetric": R, "proper with link q^2": R},
        margin=False,
    ),
    Binary(
        "abs(q - y)",
        lambda y, v: abs(v - y),
        {"calibrated": P, "proper": R, "strictly proper": R, "noise symmetric": P},
        margin=False,
    ),
    Binary(
        "abs(q - y)^3",
        lambda y, v: abs(v - y) ** 3,
        {"calibrated": P, "proper": R, "proper with link q^2 / (q^2 + (1 - q)^2)": P},
        margin=False,
    ),
    # close to proper: the power is not quite 2
    Binary("abs(q - y)^2.01", lambda y, v: abs(v - y) ** 2.01, {"proper": R}, margin=False),
    Binary("(q - y)^4", lambda y, v: (v - y) ** 4, {"calibrated": P, "proper": R}, margin=False),
    Binary(
        "-(1 - q)^2 * log(q) if y == 1 else -q^2 * log(1 - q)",  # focal
        lambda y, v: -((1 - v if y else v) ** 2) * np.log(v if y else 1 - v),
        {"calibrated": P, "proper": R, "strictly proper": R, "noise symmetric": R},
        margin=False,
    ),
    Binary(
        "exp(gamma * logsigmoid(-y * s)) * softplus(-y * s)",
        lambda y, v, gamma: np.exp(-gamma * sp(y * v)) * sp(-y * v),
        {"calibrated": P, "proper with link sigmoid(s)": R},
        declarations=GAMMA,
        settings=({"gamma": 2}, {"gamma": 0.5}, {"gamma": 5}),
    ),
    Binary(
        "1 - (y * q + (1 - y) * (1 - q)) / sqrt(q^2 + (1 - q)^2)",  # the spherical score
        lambda y, v: 1 - (y * v + (1 - y) * (1 - v)) / np.hypot(v, 1 - v),
        {"calibrated": P, "strictly proper": P},
        margin=False,
    ),
    Binary(
        "0 * q + y", lambda y, v: 0 * v + y, {"proper": P, "strictly proper": R, "noise symmetric": P}, margin=False
    ),
]


@pytest.mark.parametrize("case", BINARY, ids=[f"{k}: {c.per}" for k, c in enumerate(BINARY)])
def test_labels_of_two_values(case: Binary) -> None:
    for claim, result in zip(case.expected, verdicts(case.inputs, case.per, list(case.expected)), strict=True):
        assert result.status == case.expected[claim], (claim, result.verdict)
        if claim == "strictly proper" and result.status == R and "weight" in case.declarations:
            continue  # by a weight of 0, which is no setting of the search
        assert truth(case, claim) == (result.status == P), claim


EVERY = ["calibrated", "noise symmetric", "proper", "strictly proper"]


@pytest.mark.parametrize("case", BINARY, ids=[f"{k}: {c.per}" for k, c in enumerate(BINARY)])
def test_no_other_verdict_is_wrong(case: Binary) -> None:
    """All claims of all losses, those included of which no answer is expected."""
    claims = EVERY + [f"proper{k}" for k in LINKS if ("s" in k.split("sigmoid")[-1]) == case.margin and "link" in k]
    for claim, result in zip(claims, verdicts(case.inputs, case.per, claims), strict=True):
        if result.status == P:
            assert truth(case, claim), (claim, result.verdict)
        if result.status == R and case.expected.get(claim) != R:
            assert not truth(case, claim), (claim, result.verdict)


# ------------------------------------------------------------------------------------------------- random losses

ATOMS = """{v} | relu({v}) | softplus({v}) | sigmoid({v}) | exp(-relu({v})) | tanh({v}) | abs({v}) | ({v})^2 | relu({v})^2
| sqrt(1 + ({v})^2) | log1p(({v})^2) | clamp({v}, -1, 1) | min({v}, 1) | max({v}, -1) | exp(({v}) / 4)"""
NUMPY = {
    "relu": relu,
    "softplus": sp,
    "sigmoid": sg,
    "exp": np.exp,
    "tanh": np.tanh,
    "abs": abs,
    "sqrt": np.sqrt,
    "log1p": np.log1p,
    "clamp": np.clip,
    "min": np.minimum,
    "max": np.maximum,
}


def random_margin_loss(random: Random) -> str:
    """A sum of one to three functions of the margin."""
    atoms = [a.strip() for a in ATOMS.split("|")]
    terms = []
    for _ in range(random.choice((1, 1, 2, 2, 3))):
        number = random.choice(("1", "2", "0.5", "-1", "0.25", "-0.5", "3"))
        inner = random.choice(("{n} - y * s", "-y * s", "y * s", "{n} * y * s", "{n} - 2 * y * s")).format(n=number)
        factor = random.choice(("", "", "2 * ", "0.5 * ", "-0.5 * "))
        terms.append(f"{factor}({random.choice(atoms).format(v=inner)})")
    return " + ".join(terms)


def in_numpy(per: str) -> Callable[..., Array]:
    """The same formula over arrays: the names of both languages mean the same."""
    code = compile(per.replace("^", "**"), "loss", "eval")
    return lambda y, v: eval(code, {**NUMPY, "y": y, "s": v})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_margin_losses(seed: int) -> None:
    per = random_margin_loss(Random(seed))
    case = Binary(per, in_numpy(per), {})
    claims = [*EVERY, "strictly proper with link sigmoid(s)", "proper with link sigmoid(2 * s)"]
    for claim, result in zip(claims, verdicts(case.inputs, per, claims), strict=True):
        if result.status != "unknown":
            assert truth(case, claim) == (result.status == P), (claim, per, result.verdict)


# -------------------------------------------------------------------------------------------------------- classes

SIDE = 200
SIMPLEX = np.array([(i, j, SIDE - i - j) for i in range(1, SIDE) for j in range(1, SIDE - i)]) / SIDE
ROWS = np.array([(0.5, 0.3, 0.2), (0.1, 0.85, 0.05), (0.3, 0.25, 0.45), (0.4, 0.35, 0.25), (0.6, 0.2, 0.2)])


@dataclass(frozen=True)
class Classes:
    """A loss of a class and a prediction: on the simplex, or of logits `z` through their softmax."""

    per: str
    loss: Callable[[Array], Array]  # predictions (m, 3) to losses (m, 3), one for each label
    expected: dict[str, str]
    logits: bool = False
    declarations: str = ""

    @property
    def inputs(self) -> str:
        domain = "z: real[n, c]" if self.logits else "q: simplex[n, c] over c"
        return f"input {domain}\ninput t: class[n] of c\n{self.declarations}"


def class_truth(case: Classes, claim: str) -> bool:
    losses = case.loss(SIMPLEX)
    if claim == "noise symmetric":
        return bool(np.ptp(losses.sum(-1)) < 1e-9)
    for p in ROWS:
        risk = losses @ p
        best = risk.min()
        if claim == "calibrated":
            tops = SIMPLEX.max(-1, keepdims=True) == SIMPLEX
            wrong = (tops & (p < p.max())).any(-1)
            if risk[wrong].min() <= best + 1e-9:
                return False
            continue
        [own] = case.loss(p[None]) @ p
        if best < own - 1e-9:
            return False
        away = abs(SIMPLEX - p).max(-1) > 0.03
        if claim.startswith("strictly") and risk[away].min() <= own + 1e-9:
            return False
    return True


def log_loss(q: Array) -> Array:
    return -np.log(q)


def squares(q: Array) -> Array:
    return (q**2).sum(-1, keepdims=True)


CLASSES = [
    Classes(
        "sum((q - (c == t))^2 over c)",
        lambda q: squares(q) - 2 * q + 1,
        {"calibrated": P, "proper": P, "strictly proper": P, "noise symmetric": R},
    ),
    Classes("sum(q^2 over c) - 2 * q[c = t]", lambda q: squares(q) - 2 * q, {"strictly proper": P}),
    Classes("sum(q^2 over c) - 2.1 * q[c = t]", lambda q: squares(q) - 2.1 * q, {"calibrated": P, "proper": R}),
    Classes("-log(q[c = t])", log_loss, {"calibrated": P, "proper": P, "strictly proper": P, "noise symmetric": R}),
    # the logarithm's remainder of the Kullback-Leibler divergence of measures
    Classes("sum(q over c) - log(q[c = t])", lambda q: 1 - np.log(q), {"strictly proper": P}),
    Classes(
        "1 - q[c = t] / norm(q over c)",
        lambda q: 1 - q / np.sqrt(squares(q)),
        {"calibrated": P, "proper": P, "strictly proper": P},
    ),
    Classes("q[c = t] / norm(q over c)", lambda q: q / np.sqrt(squares(q)), {"proper": R}),
    Classes(
        "2 * sum(q^3 over c) - 3 * q[c = t]^2",  # Tsallis, of order 3
        lambda q: 2 * (q**3).sum(-1, keepdims=True) - 3 * q**2,
        {"calibrated": P, "strictly proper": P},
    ),
    Classes(
        "sum(abs(q - (c == t)) over c)",
        lambda q: 2 - 2 * q,
        {"calibrated": P, "noise symmetric": P, "proper": R, "strictly proper": R},
    ),
    Classes("1 - q[c = t]", lambda q: 1 - q, {"calibrated": P, "noise symmetric": P, "strictly proper": R}),
    Classes("1 - q[c = t]^2", lambda q: 1 - q**2, {"noise symmetric": R, "proper": R}),
    Classes(
        "-(1 - q[c = t])^2 * log(q[c = t])",
        lambda q: -((1 - q) ** 2) * np.log(q),
        {"calibrated": P, "proper": R, "noise symmetric": R},
    ),
    Classes(
        "sum((q - (c == t))^4 over c)",
        lambda q: (q**4).sum(-1, keepdims=True) - q**4 + (1 - q) ** 4,
        {"calibrated": P, "proper": R},
    ),
    Classes("0 * q[c = t]", lambda q: 0 * q, {"proper": P, "strictly proper": R, "noise symmetric": P}),
    Classes(
        "-weight[t] * log(q[c = t])",  # a weight for each class
        lambda q: -np.array((1, 2, 3)) * np.log(q),
        {"proper": R, "strictly proper": R, "noise symmetric": R},
        declarations="input weight: real[c] >= 0 = 1",
    ),
    Classes(
        "-log_softmax(z over c)[c = t]",
        log_loss,
        {
            "calibrated": P,
            "proper": P,
            "strictly proper": P,
            "strictly proper with link softmax(z over c)": P,
            "proper with link softmax(2 * z over c)": R,
            "noise symmetric": R,
        },
        logits=True,
    ),
    Classes(
        "-log_softmax(z / T over c)[c = t]",
        log_loss,
        {"calibrated": P, "strictly proper": P, "strictly proper with link softmax(z / T over c)": P},
        logits=True,
        declarations="param T: real > 0 = 1",
    ),
    Classes(
        "-weight[t] * log_softmax(z over c)[c = t]",  # a weight, an offset or a margin for each class moves the top
        lambda q: -np.array((1, 2, 3)) * np.log(q),
        {"calibrated": R, "noise symmetric": R},
        logits=True,
        declarations="input weight: real[c] >= 0 = 1",
    ),
    Classes(
        "-log_softmax(z + log(count) over c)[c = t]",
        lambda q: log_loss(q * (1, 4, 9) / (q * (1, 4, 9)).sum(-1, keepdims=True)),
        {"calibrated": R},
        logits=True,
        declarations="input count: real[c] >= 1",
    ),
    Classes(
        "sum(relu(1 + z - z[c = t]) * count over c where c != t)",
        lambda q: (relu(1 + np.log(q)[:, None] - np.log(q)[:, :, None]) * (1, 4, 9)).sum(-1) - np.array((1, 4, 9)),
        {"calibrated": R},
        logits=True,
        declarations="input count: real[c] >= 1",
    ),
    Classes(
        "2 - 2 * softmax(z over c)[c = t]",
        lambda q: 2 - 2 * q,
        {"calibrated": P, "noise symmetric": P, "proper": R},
        logits=True,
    ),
    Classes(
        "log_softmax(z over c)[c = t] / sum(log_softmax(z over c) over c)",
        lambda q: np.log(q) / np.log(q).sum(-1, keepdims=True),
        {"noise symmetric": P, "proper": R},
        logits=True,
    ),
    Classes(
        "log_softmax(z over c)[c = t]^2 / sum(log_softmax(z over c) over c)^2",
        lambda q: np.log(q) ** 2 / np.log(q).sum(-1, keepdims=True) ** 2,
        {"noise symmetric": R},
        logits=True,
    ),
    Classes(
        "-expm1(0.7 * log_softmax(z over c)[c = t]) / 0.7",
        lambda q: (1 - q**0.7) / 0.7,
        {"calibrated": P, "noise symmetric": R, "proper": R, "proper with link softmax(z over c)": R},
        logits=True,
    ),
    Classes(
        "-0.9 * log_softmax(z over c)[c = t] - 0.1 * mean(log_softmax(z over c) over c)",
        lambda q: -0.9 * np.log(q) - 0.1 * np.log(q).mean(-1, keepdims=True),
        {"calibrated": P, "noise symmetric": R, "proper": R, "proper with link softmax(z over c)": R},
        logits=True,
    ),
    Classes(
        "sum((softmax(z over c) - (c == t))^2 over c)",
        lambda q: squares(q) - 2 * q + 1,
        {"calibrated": P, "strictly proper with link softmax(z over c)": P},
        logits=True,
    ),
    Classes(
        "mean(z over c) - z[c = t]",
        lambda q: np.log(q).mean(-1, keepdims=True) - np.log(q),
        {"noise symmetric": P},
        logits=True,
    ),
    Classes(  # a convex function of each probability, unbounded of no probability
        "-log_softmax(z over c)[c = t] + 3 * sum(softmax(z over c) * log_softmax(z over c) over c)",
        lambda q: -np.log(q) + 3 * (q * np.log(q)).sum(-1, keepdims=True),
        {"calibrated": P},
        logits=True,
    ),
    Classes(
        "max(z + (c != t) over c) - z[c = t]",
        lambda q: np.maximum(0, 1 + _others(np.log(q)) - np.log(q)),
        {"noise symmetric": R},
        logits=True,
    ),
]


def _others(z: Array) -> Array:
    """The largest of the other two entries."""
    return np.stack([np.maximum(z[:, 1], z[:, 2]), np.maximum(z[:, 0], z[:, 2]), np.maximum(z[:, 0], z[:, 1])], -1)


@pytest.mark.parametrize("case", CLASSES, ids=[f"{k}: {c.per}" for k, c in enumerate(CLASSES)])
def test_classes(case: Classes) -> None:
    claims = list(case.expected) + [c for c in EVERY if c not in case.expected]
    for claim, result in zip(claims, verdicts(case.inputs, case.per, claims), strict=True):
        assert result.status == case.expected.get(claim, result.status), (claim, result.verdict)
        if result.status == "unknown" or "2 * z" in claim:
            continue
        assert class_truth(case, claim.split(" with ")[0]) == (result.status == P), claim


@pytest.mark.parametrize(
    ("declaration", "per", "proved"),
    [
        ("real[n, c]", "log_softmax(z over c)[c = k] / sum(log_softmax(z over c) over c)", True),
        ("real[n, c]", "-log_softmax(z over c)[c = k] / sum(-log_softmax(z over c) over c)", True),
        ("real[n, c]", "z[c = k] / sum(z over c)", False),  # the sum may be 0
        ("simplex[n, c] over c", "(z[c = k] - 1/2) / sum(z - 1/2 over c)", False),  # it is, for two classes
    ],
)
def test_a_sum_over_the_labels_that_divides_has_a_sign(declaration: str, per: str, proved: bool) -> None:
    (found,) = verdicts(f"input z: {declaration}\n    input k: class[n] of c", per, ["noise symmetric"])
    assert (found.status == P) is proved


@pytest.mark.parametrize(
    ("declaration", "per", "status"),
    [
        (
            "param beta: real in [0, 1] = 0.8",
            "-beta * log_softmax(z over c)[c = t] - (1 - beta) * max(log_softmax(z over c) over c)",
            R,
        ),
        ("param a, b: real >= 0 = 1", "-(a + b) * log_softmax(z over c)[c = t]", R),
        ("input weight: real >= 0", "-weight * log_softmax(z over c)[c = t]", R),
        ("input weight: real[c] >= 0 = 1", "-weight[t] * log_softmax(z over c)[c = t]", R),
        ("param a: real > 0 = 1", "-a * log_softmax(z over c)[c = t]", P),
        ("param a: real >= 0 = 1", "-(1 + a) * log_softmax(z over c)[c = t]", P),
    ],
)
def test_one_loss_for_all_labels(declaration: str, per: str, status: str) -> None:
    (result,) = verdicts(f"input z: real[n, c]\ninput t: class[n] of c\n{declaration}", per, ["calibrated"])
    assert result.status == status


@pytest.mark.parametrize("claim", ["calibrated when a > 0", "calibrated when a == 2", "calibrated"])
def test_a_condition_keeps_the_label_in_the_loss(claim: str) -> None:
    inputs = "input z: real[n, c]\ninput t: class[n] of c\nparam a: real >= 0 = 1"
    (result,) = verdicts(inputs, "-a * log_softmax(z over c)[c = t]", [claim])
    assert result.status == (R if claim == "calibrated" else P)


# ------------------------------------------------------------------------------------------------- near to a problem

ASKED = "calibrated; proper; strictly proper; noise symmetric"
NO_PROBLEM = [  # declarations, loss: what is the label, or the prediction, is not known, or not of this element
    ("input s: real[...]", "softplus(-s)"),
    ("input s, r: real[...]\ninput y: sign[...]", "softplus(-y * s) + r^2"),
    ("input s: real[...]\ninput y, z: binary[...]", "y * softplus(-s) + z * softplus(s)"),
    ("input p, q: prob[...]", "(p - q)^2"),
    ("input s: real[n]\ninput y: sign[n]", "softplus(-y * (s - mean(s over n)))"),
    ("input s: real[n]\ninput y: sign[n]", "softplus(-y * s) + mean(y over n)"),
    ("input s: real[n]\ninput y: sign[n]", "softplus(-y[n = n - 1 else 1] * s)"),
    ("input z: real[n, c]\ninput t: class[n] of c", "-z[c = t] + z[n = 0, c = t]"),
    ("input q: real[...] in [0, 1]\ninput x: real[...]", "q * x"),
    ("input y: real[...] in [0, 1]\ninput s: real[...]", "(y - sigmoid(s))^2 * softplus(-s)"),
    ("input s: real[...] in [-1, 1]\ninput y: sign[...]", "softplus(-y * s)"),
    ("input y: real[...] in [0, 1]\ninput s: real[...]", "softplus(-s) if y == 1 else softplus(s) if y == 0 else 0"),
]


@pytest.mark.parametrize(("declarations", "per"), NO_PROBLEM, ids=[p for _, p in NO_PROBLEM])
def test_what_is_no_decision_problem_stays_open(declarations: str, per: str) -> None:
    found = verdicts(declarations, per, ["calibrated", "proper", "strictly proper"])
    assert [r.status for r in found] == ["unknown"] * 3, [r.verdict for r in found]


CLASSES_OF_ROWS = "input q: simplex[n, c] over c\ninput t: class[n] of c\ninput w: real[n] >= 0 = 1"
NOT_PROVED = [  # at the boundary of the simplex the loss jumps to what is better, or it is the same for all predictions
    ("1 - q[c = t] if q[c = t] > 0 else -5", "calibrated"),
    ("sum((q - (c == t))^2 over c where q > 0)", "proper"),
    ("1 - q[c = t] if q[c = t] > 0 else 7", "noise symmetric"),
    ("1 / w - log(q[c = t])", "calibrated"),
    ("1 / w - log(q[c = t])", "strictly proper"),
    ("1 / w - 2 * q[c = t] / norm(q over c)", "strictly proper"),
]


@pytest.mark.parametrize(("per", "claim"), NOT_PROVED)
def test_jumps_at_the_boundary_and_infinite_terms_count(per: str, claim: str) -> None:
    [found] = verdicts(CLASSES_OF_ROWS, per, [claim])
    assert found.status != "proved", found.verdict


def test_a_jump_at_the_end_of_the_probabilities_counts() -> None:
    [found] = verdicts("input q: prob[n]\ninput y: binary[n]", "(q - y)^2 if q > 0 else -1", ["calibrated"])
    assert found.status != "proved", found.verdict


def test_a_condition_on_the_label_or_the_prediction_stays_open() -> None:
    inputs = "input s: real[...]\ninput y: sign[...]"
    found = verdicts(
        inputs, "softplus(-y * s)", ["calibrated on y == 1", "proper on abs(s) <= 1", "calibrated when y > 0"]
    )
    assert [r.status for r in found] == ["unknown"] * 3


def test_parameters_are_narrowed() -> None:
    inputs = "input s: real[...]\ninput y: binary[...]\nparam w: real > 0 = 1"
    loss = "w * y * softplus(-s) + (1 - y) * softplus(s)"
    claims = ["calibrated", "calibrated when w == 1", "calibrated at defaults", "not calibrated when w > 2"]
    claims += ["strictly proper", "strictly proper with link sigmoid(s)"]
    claims += ["strictly proper with link sigmoid(s) when w == 1", "strictly proper with link sigmoid(s - log(w))"]
    found = [r.status for r in verdicts(inputs, loss, claims)]
    assert found == [R, P, P, P, P, R, P, P]


def test_elements_that_are_left_out_have_no_label() -> None:
    inputs = "input z: real[n, c]\ninput t: class[n] of c or ignore\nparam ignore: int = -100"
    lines = [*inputs.splitlines(), "per = -log_softmax(z over c)[c = t]", "return mean(per over n where t != ignore)"]
    claims = ["calibrated when ignore < 0", "strictly proper when ignore < 0", "strictly proper"]
    lines += [f"claim {c}" for c in claims]
    found = list(judged(built("loss test:\n" + "\n".join(f"    {x}" for x in lines) + "\n")))
    assert [r.status for r in found] == [P, P, P]  # the ignored value is none of the classes
    masked = "input s: real[n]\ninput y: sign[n]\ninput m: bool[n]"
    lines = [*masked.splitlines(), "per = softplus(-y * s)", "return mean(per over n where m)"]
    lines += [f"claim {c}" for c in ("calibrated", "strictly proper with link sigmoid(s)", "noise symmetric")]
    found = list(judged(built("loss test:\n" + "\n".join(f"    {x}" for x in lines) + "\n")))
    assert [r.status for r in found] == [P, P, R]


def test_soft_labels_are_taken_at_their_ends() -> None:
    inputs = "input s: real[...]\ninput y: real[...] in [0, 1]"
    loss = "y * softplus(-s) + (1 - y) * softplus(s)"
    found = verdicts(inputs, loss, ["calibrated", "strictly proper with link sigmoid(s)", "noise symmetric"])
    assert [r.status for r in found] == [P, P, R]


def test_verdicts_have_evidence() -> None:
    inputs = "input s: real[...]\ninput y: sign[...]"
    proved, refuted = verdicts(inputs, "relu(1 - y * s)", ["calibrated", "strictly proper with link sigmoid(s)"])
    assert isinstance(proved.verdict, Proved)
    assert len(proved.verdict.steps) > 1
    assert isinstance(refuted.verdict, Refuted)
    first, second = refuted.verdict.witness.points
    assert set(first) == set(second) == {"s[0]"}
    assert first != second


# --------------------------------------------------------------------------------------------------- redescending


@dataclass(frozen=True)
class Residual:
    per: str  # of r = p - t
    loss: Callable[[Array], Array]
    status: str


RESIDUALS = [
    Residual("log1p(r^2 / 2)", lambda r: np.log1p(r**2 / 2), P),
    Residual("-expm1(-r^2 / 2)", lambda r: -np.expm1(-(r**2) / 2), P),
    Residual("r^2 / (r^2 + 4)", lambda r: r**2 / (r**2 + 4), P),
    Residual("1 - (1 - r^2)^3 if abs(r) <= 1 else 1", lambda r: np.where(abs(r) <= 1, 1 - (1 - r**2) ** 3, 1), P),
    Residual("min(r^2, 1)", lambda r: np.minimum(r**2, 1), P),
    Residual("log1p(abs(r))", lambda r: np.log1p(abs(r)), P),
    Residual("tanh(r)^2", lambda r: np.tanh(r) ** 2, P),
    Residual("sigmoid(r)", sg, P),
    Residual("sin(r^2) / (1 + r^2)", lambda r: np.sin(r**2) / (1 + r**2), P),
    Residual("r^2", lambda r: r**2, R),
    Residual("abs(r)", abs, R),
    Residual("r^2 / 2 if abs(r) <= 1 else abs(r) - 1 / 2", lambda r: np.where(abs(r) <= 1, r**2 / 2, abs(r) - 0.5), R),
    Residual("sqrt(1 + r^2)", lambda r: np.sqrt(1 + r**2), R),
    Residual("softplus(r)", sp, R),  # on one side only
    Residual("r^2 / (1 + abs(r))", lambda r: r**2 / (1 + abs(r)), R),
    # bends back, but not to 0
    Residual("log1p(r^2) + 0.001 * r", lambda r: np.log1p(r**2) + 0.001 * r, R),
    Residual("log1p(r^2) + 0.001 * abs(r)", lambda r: np.log1p(r**2) + 0.001 * abs(r), R),
    Residual("min(r^2, 1) if r > 0 else r^2", lambda r: np.where(r > 0, np.minimum(r**2, 1), r**2), R),
]


@pytest.mark.parametrize("case", RESIDUALS, ids=[r.per for r in RESIDUALS])
def test_redescending(case: Residual) -> None:
    [result] = verdicts("input p, t: real[...]\nr = p - t", case.per, ["redescending in p"])
    assert result.status == case.status, result.verdict
    far = np.array((-1e5, 1e5))
    slope = (case.loss(far + 1) - case.loss(far - 1)) / 2
    assert (abs(slope) < 1e-4).all() == (case.status == P)


OPEN = ["sin(r)", "abs(r) + 2 * sin(r)", "x * r", "sin(r^2) / (1 + abs(r))", "r * sigmoid(x * r)"]


@pytest.mark.parametrize("per", OPEN)
def test_what_does_not_settle_down_is_not_redescending(per: str) -> None:
    [result] = verdicts("input p, t, x: real[...]\nr = p - t", f"{per} + 0 * x", ["redescending in p"])
    assert result.status != P


FOCAL = "-(alpha * y + (1 - alpha) * (1 - y)) * sigmoid(-(2 * y - 1) * s)^gamma * logsigmoid((2 * y - 1) * s)"


def test_a_balance_of_labels_moves_the_threshold() -> None:
    """No mirror image and not convex: certified by enclosures on parts of the right side."""
    inputs = "input s: real[...]\ninput y: binary[...]\nparam alpha: real in (0, 1) = 1/4\nparam gamma: real >= 0 = 2"
    claims = ["not calibrated", "not calibrated at defaults", "calibrated when alpha == 1/2 and gamma == 2"]
    found = [r.status for r in verdicts(inputs, FOCAL, claims)]
    assert found[:2] == [P, P]
    assert found[2] != R
    even = "-sigmoid(-(2 * y - 1) * s)^2 * logsigmoid((2 * y - 1) * s)"
    nearly = f"(1 + (2 * y - 1) / 1000000) * ({even})"
    found = [r.status for r in verdicts("input s: real[...]\ninput y: binary[...]", even, ["calibrated"])]
    assert found != [R]
    found = [r.status for r in verdicts("input s: real[...]\ninput y: binary[...]", nearly, ["calibrated"])]
    assert found != [P]
