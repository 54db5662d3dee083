"""Random losses of one number with values and derivatives of their own (pairs in numpy), and what is certainly or possibly
true of their gradients on a dense grid. Nothing here knows of the verifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Pair = tuple[Array, Array]  # values and derivatives
Function = Callable[[Array], Pair]


def _sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


# what is written of an argument, and its value and derivative there
UNARY: dict[str, Callable[[Array], Pair]] = {
    "abs({})": lambda v: (np.abs(v), np.sign(v)),
    "({})^2": lambda v: (v * v, 2 * v),
    "exp({})": lambda v: (np.exp(v), np.exp(v)),
    "log1p(({})^2)": lambda v: (np.log1p(v * v), 2 * v / (1 + v * v)),
    "sigmoid({})": lambda v: (_sigmoid(v), np.exp(-np.abs(v)) / (1 + np.exp(-np.abs(v))) ** 2),
    "softplus({})": lambda v: (np.logaddexp(0, v), _sigmoid(v)),
    "tanh({})": lambda v: (np.tanh(v), np.cosh(np.clip(v, -350, 350)) ** -2.0),
    "relu({})": lambda v: (np.maximum(v, 0), (v > 0) * 1.0),
    "sqrt(1 + ({})^2)": lambda v: (np.sqrt(1 + v * v), v / np.sqrt(1 + v * v)),
    "-expm1(-({})^2)": lambda v: (-np.expm1(-v * v), 2 * v * np.exp(-v * v)),
    "(({0})^2 / (1 + ({0})^2))": lambda v: (v * v / (1 + v * v), 2 * v / (1 + v * v) ** 2),
    "sin({})": lambda v: (np.sin(v), np.cos(v)),
    "atan({})": lambda v: (np.arctan(v), 1 / (1 + v * v)),
    "-({})": lambda v: (-v, -np.ones_like(v)),
}


def formula(rng: np.random.Generator, depth: int) -> tuple[str, Function]:
    """What is written, and its values and derivatives."""
    if depth == 0:
        c = int(rng.integers(-40, 41) if rng.random() < 0.3 else rng.integers(-4, 5))
        m, s = int(rng.choice([1, 1, 3, 10])), int(rng.choice([1, 1, 2, 5, 20]))
        shift = f"x - {c}" if c >= 0 else f"x + {-c}"
        return f"{m} * ({shift}) / {s}", lambda x: (m * (x - c) / s, np.full_like(x, m / s))
    kind = rng.random()
    if kind < 0.6:
        word = str(rng.choice(list(UNARY)))
        text, inner = formula(rng, depth - 1)

        def chained(x: Array) -> Pair:
            value, slope = inner(x)
            outer, rate = UNARY[word](value)
            return outer, rate * slope

        return word.format(text), chained
    (a, f), (b, g) = formula(rng, depth - 1), formula(rng, int(rng.integers(0, depth)))
    if kind < 0.8:
        return f"({a} + {b})", lambda x: (f(x)[0] + g(x)[0], f(x)[1] + g(x)[1])
    if kind < 0.87:
        return f"({a}) * ({b})", lambda x: (f(x)[0] * g(x)[0], f(x)[0] * g(x)[1] + f(x)[1] * g(x)[0])
    if kind < 0.97:
        word, sign = ("max", 1) if kind < 0.93 else ("min", -1)

        def larger(x: Array) -> Pair:
            (u, du), (w, dw) = f(x), g(x)
            return np.where(sign * u > sign * w, u, w), np.where(sign * u > sign * w, du, dw)

        return f"{word}({a}, {b})", larger
    at = int(rng.integers(0, 6))
    return (
        f"(({a}) if x < {at} else ({b}))",
        lambda x: (np.where(x < at, f(x)[0], g(x)[0]), np.where(x < at, f(x)[1], g(x)[1])),
    )


_SIDE = np.concatenate([np.linspace(0, 130, 52001), np.geomspace(130, 1e5, 3000)]) + 1.234567e-6
GRID = np.unique(np.concatenate([-_SIDE + 2.7e-6, _SIDE]))  # off every place where a formula may have a corner
_OUT = np.array([-1e12, -1e9, -1e6, 1e6, 1e9, 1e12])


def distances(x: Array, near: Array) -> Array:
    """Of each number to the nearest of some, which are in order."""
    after = np.searchsorted(near, x).clip(0, near.size - 1)
    return np.minimum(np.abs(x - near[after]), np.abs(x - near[(after - 1).clip(0)]))


@dataclass(frozen=True)
class Truth:
    """Of each point of the grid: whether the gradient certainly vanishes (explodes) there, and whether it may."""

    vanishes: Array
    may_vanish: Array
    explodes: Array
    may_explode: Array


def truth(function: Function) -> Truth | None:
    """By the definition, from values and derivatives on the grid and far out; None where these do not tell."""
    with np.errstate(all="ignore"):
        (value, slope), (far, _) = function(GRID), function(_OUT)
    size = np.abs(slope)
    if not (np.isfinite(value).all() and np.isfinite(size).all()) or np.isnan(far).any():
        return None
    least, most = min(value.min(), far.min()), max(value.max(), far.max())
    central = np.abs(GRID) < 2000
    inner, outer = value[central].min(), min(far.min(), value[~central].min())
    near = GRID[value <= least + 1e-12 * max(1.0, abs(least))]
    if inner < outer - 1e-6 * max(abs(outer), 1e-9) and near.size:
        attained, first, last, distance = True, near.min(), near.max(), distances(GRID, near)
    elif outer < inner - 1e-6 * max(abs(inner), 1e-9):
        attained, first, last, distance = False, 0.0, 0.0, np.abs(GRID)
    else:
        return None
    equal = not attained or last - first < 0.05 or (value[GRID.clip(first, last) == GRID] == least).all()
    places = [np.abs(GRID - p) < 0.02 for p in (first - 1, last + 1)]
    between = GRID.clip(first - 1.02, last + 1.02) == GRID  # some of which are no minimisers, perhaps
    beside = [size[p] for p in (places if equal else [between])]
    if not (most > least and all(b.size for b in beside)):
        return None
    bounded = most < 10 * np.abs(value).max() + 1
    margin = most - least if bounded else 0.0
    high = (value >= (least + most) / 2 + 1e-6 * margin) & bounded
    maybe_high = value >= (least + most) / 2 - 0.01 * margin if np.isfinite(most) else np.zeros(GRID.shape, bool)
    large = size[distance <= 9.9].max(), size[distance <= 10.1].max()
    usual = max(b.min() for b in beside), max(b.max() for b in beside)
    # values beside a minimiser may be equal to it in floats, and distances are then too small
    wide = 0.5 + 2 * (last - first if attained and (last - first < 5 or not equal) else 0.0)
    return Truth(
        (size <= 0.98e-3 * large[0]) & (high | (attained & (distance > 10.05))),
        (size <= 1.05e-3 * large[1]) & (maybe_high | (attained & (distance > 10 - wide))),
        size > 1010 * usual[1],
        size >= 980 * usual[0],
    )
