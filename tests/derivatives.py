"""Shared by the tests of differentiation: programs in the text of the IR, and finite differences in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lossdsl.ir.check import check
from lossdsl.ir.interpret import Interpreter, interpret
from lossdsl.ir.nodes import Program
from lossdsl.ir.text import parse_ir
from lossdsl.transform.differentiate import differentiate

Arrays = dict[str, Any]


def program(text: str) -> Program:
    result = parse_ir(text)
    check(result)
    return result


def gradient(p: Program) -> Program:
    wrt = tuple(i.name for i in p.inputs if i.differentiable)
    result = differentiate(p, p.outputs[0].tensor, wrt)
    check(result)
    return result


def cotangent(g: Program) -> str:
    return next(i.name for i in g.inputs if i.role == "cotangent")


def gradients(p: Program, env: Mapping[str, Any], par: Mapping[str, Any] | None = None, bar: Any = 1.0) -> Arrays:
    """Values of "return" and all "d NAME" at incoming cotangent `bar`."""
    g = gradient(p)
    return interpret(g, {**env, cotangent(g): np.asarray(bar, dtype=float)}, par)


def slope(p: Program, env: Mapping[str, Any], along: Mapping[str, Any], par: Any = None, step: float = 1e-4) -> float:
    """The derivative of the value along a direction, by a central difference of fourth order; nan where two step sizes
    disagree (a kink is near)."""

    def at(h: float) -> float:
        moved = {name: env[name] + h * v for name, v in along.items()}
        return float(np.sum(interpret(p, {**env, **moved}, par)["return"]))

    def fourth(h: float) -> float:
        return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)

    one, two = fourth(step), fourth(step / 4)
    return one if abs(one - two) < 1e-6 * (1 + abs(one)) else float("nan")


def finite_inside(p: Program, env: Mapping[str, Any], par: Any = None) -> bool:
    """True if every tensor of the program is finite at these arguments."""
    machine = Interpreter(p, env, par)
    machine.run()
    return all(np.isfinite(v).all() for v in machine.values.values() if v.dtype == np.float64)


def full_difference(p: Program, env: Mapping[str, Any], name: str, par: Any = None) -> np.ndarray[Any, Any]:
    """The whole gradient in one input, entry by entry."""
    result = np.zeros(np.shape(env[name]))
    for at in np.ndindex(*result.shape):
        unit = np.zeros(result.shape)
        unit[at] = 1.0
        result[at] = slope(p, env, {name: unit}, par)
    return result


LOSSES: dict[str, str] = {
    "mse": """
program mse
  input pred: real[n, d]
  input target: real[n, d]
  r[n, d] = map . pred[n, d] - target[n, d]
  value = sum n, d . r[n, d] * r[n, d] / real(size(n) * size(d))
  output return = value
""",
    "huber": """
program huber
  input pred: real[n]
  input target: real[n]
  param delta: real in (0.0, _) = 1.0
  r[n] = map . pred[n] - target[n]
  per[n] = map . r[n] ^ 2 / 2.0 if abs(r[n]) <= delta else delta * (abs(r[n]) - delta / 2.0)
  value = sum n . per[n] / real(size(n))
  output return = value
""",
    "focal": """
program focal
  input x: real[n]
  input t: binary[n]
  param gamma: real in [0.0, _) = 2.0
  p[n] = map . sigmoid(x[n])
  q[n] = map . p[n] if t[n] == 1 else 1.0 - p[n]
  value = sum n . -(pow(1.0 - q[n], gamma)) * log(q[n]) / real(size(n))
  output return = value
""",
    "cross_entropy": """
program cross_entropy
  input logits: real[n, c]
  input target: class[n] of c or ignore
  input weight: real[c]
  param ignore: int = -100
  lse[n] = logsumexp c . logits[n, c]
  nll[n] = map . weight[target[n]] * (lse[n] - logits[n, target[n]]) if target[n] != ignore else 0.0
  total = sum n where target[n] != ignore . nll[n]
  mass = sum n where target[n] != ignore . weight[target[n]]
  value = map . total / mass
  output return = value
""",
    "info_nce": """
program info_nce
  input q: real[n, d]
  input k: real[n, d]
  param temperature: real in (0.0, _) = 0.5
  sim[n, m: n] = sum d . q[n, d] * k[m, d] / temperature
  lse[n] = logsumexp m: n . sim[n, m]
  value = sum n . (lse[n] - sim[n, n]) / real(size(n))
  output return = value
""",
    "triplet": """
program triplet
  input z: real[n, d]
  input label: int[n]
  param margin: real in [0.0, _) = 0.2
  sq[n, m: n] = sum d . (z[n, d] - z[m, d]) * (z[n, d] - z[m, d])
  dist[n, m: n] = map . sqrt(sq[n, m])
  ispos[n]: bool = any m: n . label[n] == label[m] and n != m
  pos[n] = max m: n where label[n] == label[m] and n != m . dist[n, m]
  hardest[n] = map . pos[n] if ispos[n] else 0.0
  isneg[n]: bool = any m: n . label[n] != label[m]
  neg[n] = min m: n where label[n] != label[m] . dist[n, m]
  other[n] = map . neg[n] if isneg[n] else inf
  value = sum n . relu(hardest[n] - other[n] + margin) / real(size(n))
  output return = value
""",
    "total_variation": """
program total_variation
  input x: real[h, w]
  a = sum h: h - 1, w . abs(x[h + 1, w] - x[h, w])
  b = sum h, w: w - 1 . abs(x[h, w + 1] - x[h, w])
  value = map . a + b
  output return = value
""",
    "dice": """
program dice
  input x: real[n, c]
  input t: binary[n, c]
  p[n, c] = map . sigmoid(x[n, c])
  both[n] = sum c . p[n, c] * real(t[n, c])
  either[n] = sum c . p[n, c] + real(t[n, c])
  value = sum n . 1.0 - (2.0 * both[n] + 1.0) / (either[n] + 1.0)
  output return = value
""",
    "norm": """
program norm
  input x: real[n, d]
  s[n] = sum d . x[n, d] ^ 2
  value = sum n . sqrt(s[n])
  output return = value
""",
    "noisy_or": """
program noisy_or
  input x: real[n, c]
  input y: real[n]
  p[n] = prod c where c != 1 . x[n, c] * y[n]
  value = sum n . p[n] * p[n]
  output return = value
""",
    "conv": """
program conv
  input x: real[h]
  input k: real[i]
  y[h: h - 2] = sum i: 3 . x[h + i] * real(i + 1)
  half[u: (h) // 2] = map . x[2 * u] * x[2 * u + 1]
  flat[p: h * i] = map . x[p // size(i)] * k[p % size(i)]
  a = sum h: h - 2 . y[h] ^ 3
  b = sum u: (h) // 2 . half[u] ^ 2
  c = sum p: h * i . flat[p] ^ 2
  value = map . a + b + c
  output return = value
""",
    "gae": """
program gae
  input reward: real[t]
  input v: real[t]
  param gamma: real = 0.9
  group t backward
    adv[t] = map . reward[t] + (gamma * adv[t + 1] * v[t] if t + 1 < size(t) else 0.0)
  value = sum t . adv[t] ^ 2
  output return = value
""",
}


def arguments(p: Program, seed: int = 0) -> Arrays:
    """Moderate arguments for the programs above."""
    rng = np.random.default_rng(seed)
    sizes = {"n": 5, "c": 4, "d": 3, "h": 6, "w": 5, "i": 3, "t": 5}
    env: Arrays = {}
    for entry in p.inputs:
        shape = tuple(d.evaluate(sizes) for d in entry.dims)
        if entry.differentiable:
            env[entry.name] = rng.normal(size=shape)
        elif entry.kind == "class":
            env[entry.name] = rng.integers(0, sizes["c"], size=shape)
            if entry.also:
                env[entry.name].flat[1] = -100
        else:
            env[entry.name] = rng.integers(0, 2, size=shape)
    return env
