"""The reference interpreter against numpy, on programs written by hand."""

from typing import Any

import numpy as np
import pytest

from lossdsl.ir.interpret import ShapeError, bind_extents, interpret
from lossdsl.ir.text import parse_ir

RNG = np.random.default_rng(7)


def run(text: str, arrays: dict[str, Any], outputs: list[str] | None = None, **parameters: Any) -> dict[str, Any]:
    return interpret(parse_ir(text), arrays, parameters, outputs=outputs)


def test_info_nce() -> None:
    text = """program p
  input q: real[n, d]
  input k: real[n, d]
  param temperature: real = 0.1
  sim[n, m: n] = sum d . q[n, d] * k[m, d]
  lse[n] = logsumexp m: n . sim[n, m] / temperature
  value = sum n . (lse[n] - sim[n, n] / temperature) / real(size(n))
  output return = value
"""
    q, k = RNG.normal(size=(2, 5, 3))
    z = q @ k.T / 0.25
    expected = (np.log(np.exp(z).sum(1)) - np.diag(z)).mean()
    assert run(text, {"q": q, "k": k}, temperature=0.25)["return"] == pytest.approx(expected, rel=1e-13)


def test_what_is_known_is_not_evaluated_again() -> None:
    text = """program p
  input x: real[n]
  twice[n] = map . 2.0 * x[n]
  group n forward
    run[n] = map . x[n] + (run[n - 1] if n > 0 else 0.0)
  value = sum n . twice[n] * run[n]
  output return = value
"""
    program, arrays = parse_ir(text), {"x": np.array([1.0, 2.0, 3.0])}
    assert interpret(program, arrays)["return"] == 2 * 1 + 4 * 3 + 6 * 6
    for known in ({"twice": np.ones(3)}, {"run": np.ones(3)}, {"twice": np.ones(3), "run": np.ones(3)}):
        values = {"twice": 2 * arrays["x"], "run": np.cumsum(arrays["x"]), **known}
        assert interpret(program, arrays, known=known)["return"] == values["twice"] @ values["run"]


def test_cross_entropy_with_ignored_targets_and_rest_axes() -> None:
    text = """program p
  input x: real[n, c, ...]
  input target: class[n, ...] of c or ignore
  param ignore: int = -100
  lse[n, ...] = logsumexp c . x[n, c, ...]
  total = sum n, ... where target[n, ...] != ignore . lse[n, ...] - x[n, target[n, ...], ...]
  count: int = count n, ... . target[n, ...] != ignore
  value = map . 0.0 if count == 0 else total / real(count)
  output return = value
"""
    x = RNG.normal(size=(3, 4, 2, 5))
    target = RNG.integers(0, 4, size=(3, 2, 5))
    target[0, 1, 2] = target[2, 0, 0] = -100
    logp = x - np.log(np.exp(x).sum(1, keepdims=True))
    picked = np.take_along_axis(logp, np.where(target < 0, 0, target)[:, None], 1)[:, 0]
    assert run(text, {"x": x, "target": target})["return"] == pytest.approx(-picked[target >= 0].mean(), rel=1e-13)
    assert run(text, {"x": x, "target": np.full_like(target, -100)})["return"] == 0


def test_dead_branches_never_leak() -> None:
    text = """program p
  input x: real[n]
  input keep: bool[n]
  y[n] = map . log(x[n]) if x[n] > 0.0 else 0.0
  safe[n] = map . x[n + 1] / x[n] if n + 1 < size(n) and x[n] != 0.0 else -1.0
  total = sum n where keep[n] . log(x[n])
  any: bool = any n . x[n] > 0.0 or 1.0 / x[n] > 0.0
  output y = y
  output safe = safe
  output total = total
  output any = any
"""
    x = np.array([1.0, -1.0, 0.0, np.e])
    out = run(text, {"x": x, "keep": [True, False, False, True]})
    np.testing.assert_array_equal(out["y"], [0, 0, 0, 1])
    np.testing.assert_array_equal(out["safe"], [-1, -0.0, -1, -1])
    assert out["total"] == 1
    assert out["any"]


def test_a_gather_outside_is_nan() -> None:
    text = """program p
  input x: real[n]
  input at: int[m]
  input more: int[m]
  y[m] = map . x[at[m]]
  z[m] = map . real(more[at[m]] + 1)
  safe[m] = map . x[at[m]] if at[m] >= 0 and at[m] < size(n) else 0.0
  output y = y
  output z = z
  output safe = safe
"""
    x = np.array([1.0, 2.0])
    at = np.array([-1, 0, 1, 2, 10**12])
    out = run(text, {"x": x, "at": at, "more": np.arange(5)})
    np.testing.assert_array_equal(out["y"], [np.nan, 1, 2, np.nan, np.nan])
    np.testing.assert_array_equal(out["z"], [np.nan, 1, 2, 3, np.nan])
    np.testing.assert_array_equal(out["safe"], [0, 1, 2, 0, 0])


HEADS = """program p
  input x: real[n, m]
  input w: bool[n, m]
  sum[n] = sum m where w[n, m] . x[n, m]
  prod[n] = prod m where w[n, m] . x[n, m]
  max[n] = max m where w[n, m] . x[n, m]
  min[n] = min m where w[n, m] . x[n, m]
  lse[n] = logsumexp m where w[n, m] . x[n, m]
  any[n]: bool = any m where w[n, m] . x[n, m] > 0.0
  all[n]: bool = all m where w[n, m] . x[n, m] > 0.0
  count[n]: int = count m where w[n, m] . x[n, m] > 0.0
  argmax[n]: int = argmax m where w[n, m] . x[n, m]
  argmin[n]: int = argmin m where w[n, m] . x[n, m]
  flat: int = argmax n, m where w[n, m] . x[n, m]
  order[n, r: m]: int = argsort m where w[n, m] . x[n, m]
  all_order[r: n*m]: int = argsort n, m . x[n, m]
"""
NAMES = ["sum", "prod", "max", "min", "lse", "any", "all", "count", "argmax", "argmin", "flat", "order", "all_order"]


def test_heads_against_python() -> None:
    x = RNG.integers(-2, 3, size=(40, 4)) / 2  # many ties
    w = RNG.random((40, 4)) < 0.6
    out = run(HEADS, {"x": x, "w": w}, NAMES)
    for n in range(40):
        kept = [m for m in range(4) if w[n, m]]
        values = [x[n, m] for m in kept]
        assert out["sum"][n] == sum(values)
        assert out["prod"][n] == np.prod(values)
        assert out["any"][n] == any(v > 0 for v in values)
        assert out["all"][n] == all(v > 0 for v in values)
        assert out["count"][n] == sum(v > 0 for v in values)
        order = sorted(kept, key=lambda m: x[n, m]) + [m for m in range(4) if m not in kept]
        assert list(out["order"][n]) == order
        if kept:
            assert out["max"][n] == max(values)
            assert out["min"][n] == min(values)
            assert out["lse"][n] == pytest.approx(np.log(np.exp(values).sum()))
            assert out["argmax"][n] == kept[values.index(max(values))]
            assert out["argmin"][n] == kept[values.index(min(values))]
        else:
            assert np.isnan(out["max"][n])
            assert np.isnan(out["min"][n])
            assert out["lse"][n] == -np.inf
            assert out["argmax"][n] < 0
    assert list(out["all_order"]) == sorted(range(160), key=lambda k: x.reshape(-1)[k])
    assert out["flat"] == np.argmax(np.where(w, x, -9).reshape(-1))


def test_extremes_of_heads() -> None:
    x = np.array([[-np.inf, -np.inf], [np.inf, 1.0], [np.nan, 5.0], [-np.inf, 3.0]])
    w = np.ones_like(x, dtype=bool)
    out = run(HEADS, {"x": x, "w": w}, NAMES)
    np.testing.assert_array_equal(out["lse"], [-np.inf, np.inf, np.nan, 3.0])
    np.testing.assert_array_equal(out["max"], [-np.inf, np.inf, np.nan, 3.0])
    np.testing.assert_array_equal(out["argmax"], [0, 0, 0, 1])
    out = run(HEADS, {"x": np.where(w, -np.inf, 0), "w": np.array([[False, True]] * 4)}, NAMES)
    np.testing.assert_array_equal(out["argmax"], [1] * 4)  # the excluded entry loses even against -inf
    out = run(HEADS, {"x": np.zeros((2, 0)), "w": np.zeros((2, 0), dtype=bool)}, NAMES)
    np.testing.assert_array_equal(out["sum"], [0, 0])
    np.testing.assert_array_equal(out["lse"], [-np.inf] * 2)
    assert np.isnan(out["max"]).all()
    assert out["order"].shape == (2, 0)


def test_matrices_and_support() -> None:
    text = """program p
  input a: real[b, n, n]
  inv[b, r: n, c: n] = inverse i: n, j: n . a[b, i, j]
  ld[b] = logdet i: n, j: n . a[b, i, j]
  y[b] = map . 1.0 / 0.0 support b > 0
  output inv = inv
  output ld = ld
  output y = y
"""
    a = RNG.normal(size=(2, 3, 3))
    out = run(text, {"a": a})
    np.testing.assert_allclose(out["inv"], np.linalg.inv(a), rtol=1e-12)
    np.testing.assert_allclose(out["ld"], np.log(abs(np.linalg.det(a))), rtol=1e-12)
    np.testing.assert_array_equal(out["y"], [0, np.inf])


def test_groups() -> None:
    text = """program p
  input x: real[t, b]
  input cost: real[i, j]
  group t backward
    adv[t, b] = map . x[t, b] + (0.5 * adv[t + 1, b] if t + 1 < size(t) else 0.0)
  group t forward
    f[t, b] = map . x[t, b] if t == 0 else g[t - 1, b] * 2.0
    g[t, b] = map . f[t, b] + 1.0
  group i forward, j forward
    r[i, j] = map . cost[i, j] if i == 0 and j == 0 else cost[i, j] + min2(r[i - 1, j] if i > 0 else inf, \
r[i, j - 1] if j > 0 else inf)
  output adv = adv
  output g = g
  output r = r
"""
    x, cost = RNG.normal(size=(4, 2)), RNG.random(size=(3, 5))
    out = run(text, {"x": x, "cost": cost})
    adv, g = np.zeros((5, 2)), np.zeros((4, 2))
    for t in reversed(range(4)):
        adv[t] = x[t] + 0.5 * adv[t + 1]
    for t in range(4):
        g[t] = (x[t] if t == 0 else 2 * g[t - 1]) + 1
    r = np.full((4, 6), np.inf)
    for i in range(3):
        for j in range(5):
            r[i + 1, j + 1] = cost[i, j] + (0 if i == j == 0 else min(r[i, j + 1], r[i + 1, j]))
    np.testing.assert_allclose(out["adv"], adv[:4])
    np.testing.assert_allclose(out["g"], g)
    np.testing.assert_allclose(out["r"], r[1:, 1:])


def test_integers_are_exact_and_parameters_are_extents() -> None:
    text = """program p
  input k: int[n]
  param steps: int = 3
  a[n]: int = map . k[n] * 9007199254740993 // 2 % 7
  f[n]: int = map . floor(real(k[n]) / 2.0) - ceil(0.5)
  s: int = sum i: steps . i
  c = map . real(k[0] > 0) + 2.0
  output a = a
  output f = f
  output s = s
"""
    text = text.replace("  c = map . real(k[0] > 0) + 2.0\n", "")
    k = np.array([3, -4])
    out = run(text, {"k": k}, steps=5)
    assert list(out["a"]) == [v * 9007199254740993 // 2 % 7 for v in (3, -4)]
    assert list(out["f"]) == [0, -3]
    assert out["s"] == 10


def test_extents_and_their_messages() -> None:
    program = parse_ir("""program p
  input x: real[n, c, ...]
  input y: real[n, ...]
  input w: real[c: c] = 1.0
  v = sum n, ... . y[n, ...] + w[0]
  output return = v
""")
    shapes = {"x": np.zeros((3, 4, 2, 5)), "y": np.zeros((3, 2, 5))}
    assert bind_extents(program, shapes) == {"n": 3, "c": 4, "...": 10}
    assert interpret(program, shapes)["return"] == 30
    with pytest.raises(ShapeError, match=r"n=3, c=4, .*y has n=2"):
        bind_extents(program, {**shapes, "y": np.zeros((2, 2, 5))})
    with pytest.raises(ShapeError, match=r"y has \.\.\.=\(5, 2\)"):
        bind_extents(program, {**shapes, "y": np.zeros((3, 5, 2))})
    with pytest.raises(ShapeError, match="x has 1 dimensions"):
        bind_extents(program, {"x": np.zeros(3)})
    with pytest.raises(ValueError, match="input y of p is not given"):
        interpret(program, {"x": shapes["x"]})
