"""Reverse mode on hand-written losses, at singular points, and in what it costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from derivatives import LOSSES, arguments, cotangent, full_difference, gradient, gradients, program, slope

from lossdsl.ir.check import check
from lossdsl.ir.cost import count
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import AdjointMap, Apply, Const, Definition, Param, Program, Proxy, Read, Scalar, Stop, postorder
from lossdsl.ir.text import parse_ir, print_ir
from lossdsl.transform.differentiate import NotYetError, differentiate
from lossdsl.transform.scalar import scalar_derivative
from lossdsl.transform.simplify import simplify
from lossdsl.transform.tangent import hessian_vector, jvp


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_of_a_loss_is_that_of_finite_differences(name: str, seed: int) -> None:
    p = program(LOSSES[name])
    env = arguments(p, seed)
    found = gradients(p, env)
    for entry in p.inputs:
        if entry.differentiable:
            expected = full_difference(p, env, entry.name)
            assert np.isfinite(expected).all()
            np.testing.assert_allclose(found[f"d {entry.name}"], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_the_text_of_a_gradient_reads_back(name: str) -> None:
    g = gradient(program(LOSSES[name]))
    assert parse_ir(print_ir(g)) == g


# Not here: a bare product, which counts as one operation an element.
@pytest.mark.parametrize("name", [n for n in LOSSES if n != "noisy_or"])
def test_value_and_gradient_cost_at_most_six_values(name: str) -> None:
    p = program(LOSSES[name])
    sizes = {"n": 64, "c": 32, "d": 48, "h": 64, "w": 64, "i": 16, "t": 64}
    both = count(simplify(gradient(p)), sizes)
    assert both <= 6 * count(p, sizes)


def test_cotangents_with_axes_are_not_uniform() -> None:
    p = program("""
program none
  input x: real[n]
  per[n] = map . exp(x[n]) * x[n]
  output return = per
""")
    x, bar = np.array([0.3, -1.0, 2.0]), np.array([2.0, 0.0, -3.0])
    found = gradients(p, {"x": x}, bar=bar)["d x"]
    np.testing.assert_allclose(found, bar * np.exp(x) * (1 + x))


# ----------------------------------------------------------------------------------- what is masked stays out


def test_a_shift_never_reads_beyond_the_end() -> None:
    """With reads that give 0 outside, x'[2] would be 0 * (1 / 0)."""
    p = program("""
program ratio
  input x: real[h]
  D[h: h - 1] = map . x[h + 1] / x[h]
  value = sum h: h - 1 . D[h]
  output return = value
""")
    found = gradients(p, {"x": np.array([4 / 3, 2.0, 0.0])})["d x"]
    np.testing.assert_allclose(found, [-1.125, 0.75, 0.5])


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 0.0])
def test_masked_rows_have_exactly_zero_gradient(poison: float) -> None:
    p = program("""
program masked
  input x: real[n]
  input m: bool[n]
  a[n] = map . log(x[n])
  b[n] = map . a[n] * a[n] / x[n]
  value = sum n where m[n] . b[n]
  output return = value
""")
    x = np.array([1.5, poison, 2.0])
    mask = np.array([True, False, True])
    found = gradients(p, {"x": x, "m": mask})["d x"]
    assert found[1] == 0.0
    kept = gradients(p, {"x": x[mask], "m": mask[mask]})["d x"]
    assert np.array_equal(found[mask], kept)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 0.0])
def test_a_row_that_only_a_masked_sum_reads_has_zero_gradient(poison: float) -> None:
    """The support of q' depends on the bound index: it holds where some column is kept."""
    p = program("""
program rows
  input z: real[n]
  input y: real[n, c]
  input m: bool[n, c]
  q[n] = map . 1.0 / z[n]
  value = sum n, c where m[n, c] . q[n] * y[n, c]
  output return = value
""")
    mask = np.array([[True, False], [False, False]])
    env = {"z": np.array([2.0, poison]), "y": np.array([[3.0, np.nan], [1.0, 1.0]]), "m": mask}
    found = gradients(p, env)
    np.testing.assert_allclose(found["d z"], [-0.75, 0.0])
    np.testing.assert_allclose(found["d y"], [[0.5, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("body", "x", "value", "derivative"),
    [
        ("log(x) if x > 0.0 else 0.0", 0.0, 0.0, 0.0),
        ("log(x) if x > 0.0 else 0.0", -1.0, 0.0, 0.0),
        ("sqrt(x) if x > 0.0 else 0.0", 0.0, 0.0, 0.0),
        ("1.0 / x if x != 0.0 else x", 0.0, 0.0, 1.0),
        ("(log(x) if x > 0.0 else x) * (x if x > 0.0 else 1.0)", -2.0, -2.0, 1.0),
        ("sqrt(x)", 0.0, 0.0, 0.0),
        ("abs(x)", 0.0, 0.0, 0.0),
        ("relu(x)", 0.0, 0.0, 0.0),
        ("sqrt(x ^ 2)", 0.0, 0.0, 0.0),
        ("max2(x, 0.0 * x)", 0.0, 0.0, 1.0),
        ("softplus(x)", -np.inf, 0.0, 0.0),
    ],
)
def test_singular_points(body: str, x: float, value: float, derivative: float) -> None:
    p = program(f"program point\n  input x: real[]\n  value = map . {body}\n  output return = value\n")
    found = gradients(p, {"x": np.array(x)})
    assert found["return"] == value
    assert found["d x"] == derivative


def test_a_row_of_minus_infinity_gives_logsumexp_no_gradient() -> None:
    p = program("""
program lse
  input x: real[n, c]
  input y: real[n, c]
  lse[n] = logsumexp c . x[n, c] * y[n, c]
  value = sum n . softplus(lse[n])
  output return = value
""")
    x = np.array([[-np.inf, -np.inf], [0.0, -np.inf]])
    found = gradients(p, {"x": x, "y": np.ones((2, 2))})["d x"]
    np.testing.assert_allclose(found, [[0.0, 0.0], [0.5, 0.0]])


@pytest.mark.parametrize(("head", "first"), [("max", 1), ("min", 0)])
def test_the_first_of_tied_winners_takes_all(head: str, first: int) -> None:
    p = program(f"""
program tie
  input x: real[n, c]
  d[n] = {head} c . x[n, c]
  value = sum n . 3.0 * d[n]
  output return = value
""")
    x = np.array([[1.0, 2.0, 2.0, 1.0]])
    expected = np.zeros((1, 4))
    expected[0, first] = 3.0
    assert np.array_equal(gradients(p, {"x": x})["d x"], expected)


def test_a_joint_maximum_finds_its_row_and_column() -> None:
    p = program("""
program joint
  input x: real[n, c]
  d = max n, c . x[n, c]
  value = map . d * d
  output return = value
""")
    x = np.array([[1.0, 5.0, 2.0], [5.0, 0.0, 4.0]])
    assert np.array_equal(gradients(p, {"x": x})["d x"], [[0, 10, 0], [0, 0, 0]])


@pytest.mark.parametrize("zeros", [(), (1,), (0, 2), (0, 1, 2)])
def test_products_are_exact_with_zeros(zeros: tuple[int, ...]) -> None:
    p = program("program product\n  input x: real[c]\n  p = prod c . x[c]\n  output return = p\n")
    x = np.array([2.0, 3.0, 5.0])
    x[list(zeros)] = 0.0
    expected = [np.prod(np.delete(x, k)) for k in range(3)]
    assert np.array_equal(gradients(p, {"x": x})["d x"], expected)


def test_a_product_over_two_indices() -> None:
    p = program("program product\n  input x: real[n, c]\n  p = prod n, c . x[n, c]\n  output return = p\n")
    x = np.array([[2.0, 0.0], [3.0, 5.0]])
    assert np.array_equal(gradients(p, {"x": x})["d x"], [[0.0, 30.0], [0.0, 0.0]])


def test_a_gather_out_of_range_stores_nothing() -> None:
    p = program("""
program gather
  input x: real[c]
  input t: int[n]
  value = sum n . x[t[n]] * x[t[n]] if t[n] < 3 else 0.0
  output return = value
""")
    found = gradients(p, {"x": np.array([1.0, 2.0, 3.0]), "t": np.array([0, 0, 7, 2])})["d x"]
    assert np.array_equal(found, [4.0, 0.0, 6.0])


# ----------------------------------------------------------------------------------- nodes with a say of their own


_IDENTITY = "program a\n  input x: real[n]\n  y[n] = map . x[n]\n  output return = y\n"


def _unary(body: Scalar) -> Program:
    base = program(_IDENTITY)
    d = base.definition("y")
    assert d is not None
    return base.with_body((Definition("y", d.formals, "map", (), d.where, body),))


def _x() -> Scalar:
    d = program(_IDENTITY).definition("y")
    assert d is not None
    return d.body


def test_stop_proxy_and_adjoint_maps() -> None:
    x = np.array([0.5, -2.0])
    one = np.ones(2)
    stopped = gradients(_unary(_x() * Stop(_x())), {"x": x}, bar=one)
    assert np.array_equal(stopped["d x"], x)
    through = gradients(_unary(Proxy(Const(2) * _x(), _x() * _x() * _x())), {"x": x}, bar=one)
    np.testing.assert_allclose(through["d x"], 3 * x**2)
    assert np.array_equal(through["return"], 2 * x)


def test_a_clipped_gradient_is_clipped_before_the_incoming_one() -> None:
    p = program("""
program clip
  input x: real[]
  y = map . x * x
  output return = y
""")
    read = Read("x", (), p.inputs[0].dtype)
    clipped = AdjointMap(read, "clamp", (Const(-1), Const(1)))
    d = p.definition("y")
    assert d is not None
    p = p.with_body((Definition("y", (), "map", (), d.where, Const(10) * clipped),))
    assert gradients(p, {"x": np.array(3.0)}, bar=65536.0)["d x"] == 65536.0


def test_stop_stays_a_node_in_the_gradient() -> None:
    g = gradient(_unary(_x() * Stop(_x() * _x())))
    assert any(isinstance(n, Stop) for d in g.definitions() for n in postorder(d.body) if d.tensor.endswith("'"))


def test_scalar_derivatives() -> None:
    x = _x()
    assert isinstance(x, Read)
    assert scalar_derivative(Const(3) * x + Param("a"), x) is Const(3)
    assert scalar_derivative(Stop(x), x) is Const(0)


def test_names_that_do_not_fit() -> None:
    p = program(LOSSES["cross_entropy"])
    with pytest.raises(ValueError, match="target"):
        differentiate(p, "value", ("target",))
    with pytest.raises(ValueError, match="nothing"):
        differentiate(p, "nothing", ("logits",))


def test_an_input_without_influence_has_zero_gradient() -> None:
    p = program("program a\n  input x: real[n]\n  input y: real[n]\n  value = sum n . x[n]\n  output return = value\n")
    assert np.array_equal(gradients(p, {"x": np.ones(3), "y": np.ones(3)})["d y"], np.zeros(3))


def test_what_is_missing_is_named() -> None:
    p = program("""
program clipped
  input x: real[n]
  a[n] = map . adjoint_map(clamp, x[n], -1.0, 1.0)
  output return = a
""")
    with pytest.raises(NotYetError, match="a clipped gradient of a value with axes"):
        differentiate(p, "a", ("x",))


IN_ROUNDS = {
    "a product": """
program products
  input x: real[t, n]
  group t forward
    p[t] = prod n . x[t, n] + (p[t - 1] if t >= 1 else 0.0)
  value = sum t . p[t]
  output return = value
""",
    "a determinant": """
program volumes
  input x: real[t, n, m: n]
  group t forward
    p[t] = logdet n, k: n . x[t, n, k] + (p[t - 1] * x[t, k, n] if t >= 1 else 0.0)
  value = sum t . p[t]
  output return = value
""",
    "an inverse": """
program inverses
  input x: real[t, n, m: n]
  group t forward
    p[t, n, m: n] = inverse i: n, j: n . x[t, i, j] + (0.5 * p[t - 1, i, j] * p[t - 1, j, i] if t >= 1 else 0.0)
  value = sum t, n, m: n . p[t, n, m] ^ 2
  output return = value
""",
}


@pytest.mark.parametrize("name", IN_ROUNDS)
def test_what_a_round_makes_has_its_derivatives(name: str) -> None:
    p = program(IN_ROUNDS[name])
    if name == "a product":
        env = {"x": np.random.default_rng(0).normal(size=(4, 3))}
        env["x"][1, 2] = 0.0  # one factor that is exactly zero at the first step that it is reached
        env["x"][0] = [1.5, 0.0, -2.0]
    else:
        env = {"x": np.eye(3) * 3 + np.random.default_rng(0).normal(size=(4, 3, 3)) / 3}
    along = {"x": np.random.default_rng(1).normal(size=env["x"].shape)}
    found = gradients(p, env)["d x"]
    assert abs(np.sum(found * along["x"]) - slope(p, env, along)) < 1e-7 * (1 + abs(np.sum(found)))
    forward = jvp(p, ("x",))
    check(forward)
    assert np.allclose(interpret(forward, {**env, "x.t": along["x"]})["t return"], np.sum(found * along["x"]))
    twice = hessian_vector(p, "value", ("x",))
    check(twice)
    step = 1e-6
    moved = gradients(p, {"x": env["x"] + step * along["x"]})["d x"]
    back = gradients(p, {"x": env["x"] - step * along["x"]})["d x"]
    hessian = interpret(twice, {**env, "x.t": along["x"], cotangent(twice): np.array(1.0)})["h x"]
    assert np.allclose(hessian, (moved - back) / (2 * step), rtol=1e-6, atol=1e-6)


def test_a_permuted_batch_permutes_the_gradient() -> None:
    p = program(LOSSES["info_nce"])
    env = arguments(p, 4)
    order = np.array([3, 1, 4, 0, 2])
    whole = gradients(p, env)
    moved = gradients(p, {k: v[order] for k, v in env.items()})
    np.testing.assert_allclose(moved["d q"], whole["d q"][order], rtol=1e-12)


def test_empty_extents_give_empty_or_zero_gradients() -> None:
    p = program(LOSSES["mse"])
    found = gradients(p, {"pred": np.zeros((0, 3)), "target": np.zeros((0, 3))})
    assert found["d pred"].shape == (0, 3)
    g = gradient(program(LOSSES["conv"]))
    short = {"x": np.ones(1), "k": np.ones(2), cotangent(g): np.array(1.0)}
    assert np.isfinite(interpret(g, short)["d x"]).all()


def test_a_mask_is_remembered_through_linear_definitions() -> None:
    """`b` only passes on: its partial needs no guard, but the one of `a` behind it does."""
    p = program("""
program chain
  input x: real[n, c]
  input length: int[]
  a[n] = logsumexp c . x[n, c]
  b[n] = map . 2.0 * a[n]
  value = sum n where n < length . b[n]
  output return = value
""")
    x = np.array([[0.0, 0.0], [np.nan, np.inf]])
    found = gradients(p, {"x": x, "length": np.array(1)})["d x"]
    assert np.array_equal(found, [[1.0, 1.0], [0.0, 0.0]])


def test_a_mask_is_remembered_through_a_sum() -> None:
    p = program("""
program chain
  input x: real[n]
  input m: bool[n, k]
  a[n] = map . log(x[n])
  b[n, k] = map . 2.0 * a[n]
  value = sum n, k where m[n, k] . b[n, k]
  output return = value
""")
    mask = np.array([[True, True], [False, False]])
    found = gradients(p, {"x": np.array([4.0, 0.0]), "m": mask})["d x"]
    assert np.array_equal(found, [1.0, 0.0])


def test_what_the_terms_of_a_fold_share_is_differentiated_once() -> None:
    """Cosine similarities: the cotangent of the normalised vectors is a product of matrices, and nothing is summed over
    both classes and features at once."""
    p = program("""
program cosines
  input z: real[n, d]
  input w: real[c, d]
  input g: real[n, c]
  r.0[n] = sum d . z[n, d] ^ 2
  s[n, c] = sum d . z[n, d] / sqrt(r.0[n]) * w[c, d]
  y = sum n, c . g[n, c] * s[n, c]
  output return = y
""")
    derived = simplify(differentiate(p, "y", ("z", "w")))
    made = {d.tensor: d for d in derived.definitions()}
    assert all(len(d.bound) <= 1 for d in made.values() if d.tensor != "y")
    env = {"z": np.arange(1.0, 7.0).reshape(2, 3), "w": np.eye(4, 3) + 0.5, "g": np.arange(8.0).reshape(2, 4) - 3}
    found = gradients(p, env)
    for name in ("z", "w"):
        np.testing.assert_allclose(found[f"d {name}"], full_difference(p, env, name), rtol=1e-6, atol=1e-8)


def test_a_difference_of_neighbours_in_a_long_formula_has_a_cotangent_of_its_own() -> None:
    """The formula is differentiated once for each difference, not once for each of its two entries."""
    p = program("""
program steps
  input x: real[h]
  per[h: h - 1] = map . log(1.0 + exp(abs(x[h + 1] - x[h]) ^ 3) + cosh(x[h + 1] - x[h]))
  y = sum h: h - 1 . per[h]
  output return = y
""")
    derived = simplify(differentiate(p, "y", ("x",)))
    (last,) = [d for d in derived.definitions() if d.tensor == "x'"]
    assert not any(isinstance(n, Apply) and n.name in ("exp", "cosh", "sinh", "log") for n in postorder(last.body))
    env = {"x": np.array([0.3, -1.0, 0.5, 0.5, 2.0])}
    np.testing.assert_allclose(gradients(p, env)["d x"], full_difference(p, env, "x"), rtol=1e-6, atol=1e-8)


def test_a_cotangent_that_is_clipped_in_each_term_is_not_summed_before() -> None:
    p = program("""
program clipped
  input x: real[n]
  input y: real[n, m]
  s = sum n, m . x[n] ^ 2 * y[n, m]
  output return = s
""")
    d = p.definition("s")
    assert d is not None
    square, y = d.body.children
    clipped = AdjointMap(square, "clamp", (Const(-1), Const(1)))
    p = p.with_body((replace(d, body=clipped * y),))
    found = gradients(p, {"x": np.array([3.0]), "y": np.array([[5.0, -7.0, 0.25]])})
    np.testing.assert_allclose(found["d x"], [(1.0 - 1.0 + 0.25) * 6.0])
