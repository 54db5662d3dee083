"""The passes over derivative programs: what they keep, and what the catalogue's gradients cost."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from derivatives import program
from programs import random_extents, random_inputs, random_parameters, random_program
from references import each_path

from lossdsl.diagnostics import Source
from lossdsl.dim import Dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.check import check
from lossdsl.ir.cost import count
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import FALSE, INT, REAL, TRUE, Apply, Compare, Const, Index, Param, Read, Scalar, Size
from lossdsl.ir.rewrite import prune, substitute
from lossdsl.pipeline import analyse, show
from lossdsl.primitives import PRIMITIVES
from lossdsl.transform.affine import affine, expression, in_range
from lossdsl.transform.arithmetic import conjunction, disjunction, negation
from lossdsl.transform.differentiate import differentiate
from lossdsl.transform.eliminate import Facts, Selection, eliminate
from lossdsl.transform.scalar import scalar_derivative
from lossdsl.transform.simplify import simple, simplify
from lossdsl.transform.stabilise import stabilise


@pytest.mark.parametrize("path", each_path())
def test_value_and_gradient_of_an_example_cost_at_most_six_values(path: Path) -> None:
    sizes = {"n": 64, "c": 32, "d": 48, "...": 50}
    for built in analyse(Source(str(path), path.read_text())).losses:
        p = built.program
        wrt = tuple(i.name for i in p.inputs if i.differentiable)
        g = simplify(stabilise(simplify(differentiate(p, p.outputs[0].tensor, wrt))))
        check(g)
        extents = {s: sizes.get(s, 40) for i in p.inputs for d in i.dims for s in d.symbols()}
        extents |= {q.name: int(q.default.value) for q in p.parameters if q.kind == "int" and q.default is not None}
        assert count(g, extents) <= 6 * count(prune(p, ["return"]), extents)


# ---------------------------------------------------------------------------------------------- simplify


@pytest.mark.parametrize("seed", range(60))
def test_simplify_keeps_values_of_poisoned_programs(seed: int) -> None:
    """Also where inputs are infinite or NaN: a rule that drops a factor would show."""
    p = random_program(seed, opaque=False, stops=True)
    small = simplify(p)
    check(small)
    rng = np.random.default_rng(seed)
    env = random_inputs(p, rng, random_extents(p, rng))
    for entry in p.inputs:
        if entry.differentiable and env[entry.name].size:
            flat = env[entry.name].reshape(-1)
            flat[rng.integers(flat.size)] = rng.choice([np.nan, np.inf, -np.inf, 0.0])
    par = random_parameters(p, rng)
    a, b = interpret(p, env, par)["return"], interpret(small, env, par)["return"]
    np.testing.assert_allclose(b, a, rtol=1e-12)


def _n() -> Index:
    return Index("n", Dim.symbol("n"))


def _read(name: str = "x") -> Read:
    return Read(name, (_n(),), REAL)


def test_simplify_folds_and_joins() -> None:
    x, y = _read(), _read("y")
    c = Compare("<", x, y)
    zero, one = Const(0), Const(1)
    cases: list[tuple[Scalar, Scalar]] = [
        (one * x, x),
        (zero + x, x),
        (Apply("neg", (-x,)), x),
        (x - (-y), x + y),
        (Const(2) * Const(Fraction(1, 2)), one),
        (ir.Select(c, x, zero) + ir.Select(c, zero, y), ir.Select(c, x, y)),
        (ir.Select(c, x, zero) + ir.Select(ir.Not(c), y, zero), ir.Select(c, x, y)),
        (ir.Select(c, ir.Select(c, x, y), y), ir.Select(c, x, y)),
        (ir.Select(TRUE, x, y), x),
        (x / one, x),
        (Compare("==", _n(), _n()), TRUE),
        (Compare("<", _n(), _n()), FALSE),
        (Compare("==", x, x), Compare("==", x, x)),  # not of a NaN
    ]
    for before, after in cases:
        assert simple(before if before.children == () else _deep(before)) is after


def _deep(node: Scalar) -> Scalar:
    from lossdsl.ir.rewrite import transform

    return transform(node, simple)


@pytest.mark.parametrize("kept", ["0.0 * x[n]", "x[n] / x[n]", "x[n] - x[n]", "0.0 / x[n]", "x[n] ^ 0"])
def test_simplify_never_hides_where_something_is_undefined(kept: str) -> None:
    p = program(f"program a\n  input x: real[n]\n  y[n] = map . {kept}\n  output return = y\n")
    assert simplify(p) == p


def test_what_picks_entries_of_what_is_computed_stays() -> None:
    """One class of many is what has to be stored, not all of them; of an input there is nothing to be stored."""
    for row, made in (("exp(x[n, c])", True), ("x[n, c]", False)):
        given = program(
            f"""program f
  input x: real[n, c]
  param k: int = 0
  row[n, c] = map . {row}
  one[n] = map . row[n, k] if k >= 0 and k < size(c) else 0.0
  picked[n] = map . row[n, k]
  value = sum n . tanh(one[n]) * tanh(picked[n]) * row[n, k]
  output return = value
"""
        )
        assert any(d.tensor == "picked" for d in simplify(given).definitions()) == made


def test_conditions() -> None:
    n, x = _n(), _read()
    a, b = Compare(">", n, Const(2, INT)), Compare("<", x, Const(1))
    assert conjunction([TRUE, a, conjunction([a, b])]) == ir.And((a, b))
    assert disjunction([conjunction([a, b]), a]) is a
    assert negation(a) is Compare("<=", n, Const(2, INT))
    assert negation(b) is ir.Not(b), "an order of reals is false on both sides at NaN"


def test_a_condition_that_holds_selects_nothing_below_it() -> None:
    x, y, minus = _read(), _read("y"), Const("-inf")
    known, other = Compare("<", y, x), Compare("<", x, y)
    inner = ir.Select(known, x, minus)
    assert simple(ir.Select(known, Apply("exp", (inner,)), y)) is ir.Select(known, Apply("exp", (x,)), y)
    both = ir.And((known, Compare("<", minus, Apply("max2", (inner, y)))))
    assert simple(both) is ir.And((known, Compare("<", minus, Apply("max2", (x, y)))))
    for kept in (
        ir.Select(other, Apply("exp", (inner,)), y),  # another condition
        ir.Select(known, y, Apply("exp", (inner,))),  # where it does not hold
        ir.And((Compare("<", minus, inner), known)),  # before it
    ):
        assert simple(kept) is kept


def test_of_a_sum_of_probabilities_of_which_a_part_is_positive_nothing_is_asked() -> None:
    a, b, c, minus = _read("a"), _read("b"), _read("c"), Const("-inf")
    part = Apply("logaddexp", (a, b))
    slope = scalar_derivative(Apply("logaddexp", (part, c)), a)
    tests = {n for n in ir.postorder(slope) if isinstance(n, Compare)}
    assert tests == {Compare("<", minus, Apply("max2", (a, b)))}
    in_c = scalar_derivative(Apply("logaddexp", (part, c)), c)
    tests = {n for n in ir.postorder(in_c) if isinstance(n, Compare)}
    assert tests == {Compare("<", minus, Apply("max2", (c, part)))}


def test_a_condition_and_its_opposite() -> None:
    n, x = _n(), _read()
    a, b = Compare("==", n, Const(2, INT)), Compare("<", x, Const(1))
    assert disjunction([a, negation(a)]) is TRUE
    assert disjunction([b, negation(b)]) is TRUE
    assert disjunction([conjunction([b, a]), conjunction([b, negation(a)])]) is b
    kept = ir.Or((conjunction([a, b]), conjunction([negation(a), b])))
    assert disjunction(kept.args) is kept, "a condition before another may keep it from being evaluated"
    assert conjunction([a, b, negation(a)]) is FALSE
    assert conjunction([b, negation(b)]) is FALSE


# ---------------------------------------------------------------------------------------------- eliminate


def _solve(equation: Scalar, bound: tuple[Index, ...], target: Index, value: Scalar) -> Selection:
    return eliminate(Selection(bound, ((equation, target),), (), (), (value,)), Facts())


def test_a_shift_is_solved_with_its_range() -> None:
    h = Index("h", Dim.symbol("h") - 1)
    a = Index("a", Dim.symbol("h"))
    solved = _solve(Apply("add", (h, Const(1, INT))), (h,), a, Read("y", (h,), REAL))
    assert solved.bound == ()
    assert solved.values == (Read("y", (Apply("sub", (a, Const(1, INT))),), REAL),)
    assert solved.guards == (Compare(">=", a, Const(1, INT)),)


def test_a_window_keeps_the_index_of_constant_extent() -> None:
    h, i = Index("h", Dim.symbol("h") - 10), Index("i", Dim.const(11))
    a = Index("a", Dim.symbol("h"))
    solved = _solve(Apply("add", (h, i)), (h, i), a, Read("y", (h,), REAL))
    assert solved.bound == (i,)
    assert len(solved.guards) == 2


def test_a_coefficient_asks_for_divisibility() -> None:
    h = Index("h", Dim.symbol("h") // 2)
    a = Index("a", Dim.symbol("h"))
    solved = _solve(Apply("mul", (Const(2, INT), h)), (h,), a, Read("y", (h,), REAL))
    assert solved.bound == ()
    assert Compare("==", Apply("mod", (a, Const(2, INT))), Const(0, INT)) in solved.guards


def test_a_flat_position_is_solved() -> None:
    p = Index("p", Dim.symbol("h") * Dim.symbol("w"))
    a, b = Index("a", Dim.symbol("h")), Index("b", Dim.symbol("w"))
    w = Size(Dim.symbol("w"))
    pair = ((Apply("floordiv", (p, w)), a), (Apply("mod", (p, w)), b))
    solved = eliminate(Selection((p,), pair, (), (), (Read("y", (p,), REAL),)), Facts())
    assert (solved.bound, solved.guards, solved.hard) == ((), (), ())
    assert solved.values[0] is Read("y", (Apply("add", (Apply("mul", (a, w)), b)),), REAL)


def test_a_gather_stays_a_selection() -> None:
    n, a = _n(), Index("a", Dim.symbol("c"))
    t = Read("t", (n,), INT)
    solved = _solve(t, (n,), a, _read())
    assert solved.bound == (n,)
    assert solved.hard == (Compare("==", t, a),)


def test_a_parameter_as_extent_proves_nothing_about_its_sign() -> None:
    shift = Index("h", Dim.symbol("h") + Dim.symbol("k"))
    a = Index("a", Dim.symbol("h"))
    equation = ((shift, a),)
    trusting = eliminate(Selection((shift,), equation, (), (), (a,)), Facts())
    careful = eliminate(Selection((shift,), equation, (), (), (a,)), Facts(signed=frozenset({"k"})))
    assert trusting.guards == ()
    assert careful.guards == (Compare("<", a, Size(Dim.symbol("h") + Dim.symbol("k"))),)


def test_affine_forms_come_back() -> None:
    h = Index("h", Dim.symbol("h"))
    node = Apply("sub", (Apply("add", (h, Const(3, INT))), Const(3, INT)))
    assert expression(affine(node)) is h
    assert in_range(h, Dim.symbol("h"))
    assert not in_range(Apply("add", (h, Const(1, INT))), Dim.symbol("h"))


# ---------------------------------------------------------------------------------------------- scalar derivatives


DIFFERENTIABLE = sorted(n for n, r in PRIMITIVES.items() if r.result is REAL and REAL in r.accepts)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_scalar_derivatives_are_those_of_mpmath(name: str) -> None:
    import mpmath

    record = PRIMITIVES[name]
    n = _n()
    args: tuple[Scalar, ...] = tuple(
        Read(f"a{k}", (n,), REAL) if kind is REAL else Const(3, kind) for k, kind in enumerate(record.accepts)
    )
    rng = np.random.default_rng(1)
    for k, argument in enumerate(args):
        if not isinstance(argument, Read):
            continue
        derivative = scalar_derivative(Apply(name, args), argument)
        checked = 0
        for _ in range(40):
            point = [float(v) for v in rng.uniform(-0.95, 1.9, len(args))]
            numbers = [p if a.dtype is REAL else 3 for p, a in zip(point, args)]

            def along(t: object, k: int = k, numbers: list[float] = numbers) -> object:  # type: ignore[type-arg]
                return record.reference(mpmath, *[*numbers[:k], t, *numbers[k + 1 :]])

            try:
                with mpmath.workdps(60):
                    left = mpmath.diff(along, mpmath.mpf(numbers[k]), h=mpmath.mpf(10) ** -20)
                    expected = float(left)
            except (ValueError, TypeError, ZeroDivisionError, mpmath.libmp.ComplexResult):
                continue
            if not np.isfinite(expected):
                continue
            found = _evaluate(derivative, {a: v for a, v in zip(args, numbers) if isinstance(a, Read)})
            if not np.isfinite(found):
                continue
            checked += 1
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=f"{name} at {numbers}")
        assert checked >= 5


def _evaluate(node: Scalar, at: dict[Read, float]) -> float:
    body = substitute(node, {k: Const(Fraction(v)) for k, v in at.items()})
    one = ir.Definition("y", (), "map", (), TRUE, body)
    holder = ir.Program("a", (), (), (one,), (ir.Output("return", "y"),))
    return float(interpret(holder, {})["return"])


def test_parameters_are_constants() -> None:
    x = _read()
    assert scalar_derivative(Param("a") * x, x) is Param("a")


# ------------------------------------------------------------------------------------------ sums that need no sum

TARGETS = """
program sums
  input a: real[n]
  input x: real[n, c]
  input t: class[n] of c or ignored
  param ignored: int = -100
"""
SUMS = {
    "invariant": "s[n] = sum c . a[n]",
    "picked": "s[n] = sum c . x[n, c] if t[n] != ignored and t[n] == c else 0.0",
    "both": "s[n] = sum c . 2.0 * a[n] - (x[n, c] if t[n] != ignored and t[n] == c else 0.0)",
    "no class": "s[n] = sum c . x[n, c] if t[n] == c else 0.0",
    "any": "b[n]: bool = any c . a[n] > 0.0 or t[n] == c\n  s[n] = map . 1.0 if b[n] else 0.0",
}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("classes", [0, 3])
def test_a_sum_over_an_index_that_is_not_needed_disappears(name: str, classes: int) -> None:
    p = program(f"{TARGETS}  {SUMS[name]}\n  output return = s\n")
    small = simplify(p)
    check(small)
    assert all(d.head == "map" for d in small.definitions())
    g = np.random.default_rng(0)
    a = np.array([1.5, np.inf, np.nan, -2.0, -1.0])
    x = g.normal(size=(5, classes))
    t = np.array([0, 1, 2, -100, -100]) if classes else np.full(5, -100)
    arguments = {"a": a, "x": x, "t": t}
    before, after = (interpret(q, arguments, {"ignored": -100})["return"] for q in (p, small))
    np.testing.assert_allclose(after, before, rtol=1e-14)


def test_a_sum_is_not_taken_apart_where_that_would_cancel() -> None:
    """`sum (x - mean)` keeps its differences: `sum x - size * mean` would lose all digits at a large mean."""
    p = program(f"{TARGETS}  s[n] = sum c . x[n, c] - a[n]\n  output return = s\n")
    assert [d.head for d in simplify(p).definitions()] == ["sum"]


@pytest.mark.parametrize("classes", [0, 1, 3])
def test_a_condition_on_the_formals_stands_around_the_sum(classes: int) -> None:
    """What is left is one sum for each row; a sum whose terms need the condition stays as it is."""
    p = program("""
program lifted
  input x: real[n, d]
  input y: real[n, d]
  input t: class[n] of c
  input u: int[n]
  input k: real[c]
  s[n, c] = sum d where t[n] == c and y[n, d] > 0.0 . x[n, d] * x[n, d]
  r[n, c] = sum d where t[n] == c and u[n] >= 0 and u[n] < size(d) . x[n, d] * y[n, u[n]]
  output return = s
  output other = r
""")
    small = simplify(p)
    check(small)
    sums = {d.tensor: len(d.formals) for d in small.definitions() if d.head == "sum"}
    assert sorted(sums.values()) == [1, 2]
    g = np.random.default_rng(0)
    x, y = g.normal(size=(2, 5, 4))
    x[0, 1] = np.nan
    t = g.integers(0, classes, size=5) if classes else np.full(5, 7)
    arguments = {"x": x, "y": y, "t": t, "u": np.array([0, 3, -1, 9, 2]), "k": np.zeros(classes)}
    for q in ("return", "other"):
        before, after = (interpret(k, arguments)[q] for k in (p, small))
        np.testing.assert_allclose(after, before, rtol=1e-14)


def test_conditions_on_extents_hold_where_there_are_entries() -> None:
    p = program("""
program extents
  input x: real[n, m]
  y[n, m] = map . x[n, m] / real(size(n*m)) if size(n*m) != 0 and size(m) > 0 else 0.0
  z[n] = map . 1.0 if size(m) != 0 else 2.0
  output return = y
  output other = z
""")
    y, z = simplify(p).definitions()
    assert not any(isinstance(n, ir.Select) for n in ir.postorder(y.body))
    assert isinstance(z.body, ir.Select)  # nothing says that there is an m


def test_conditions_on_indices_that_always_hold() -> None:
    """Also where some integer parameter may be negative: only extents that depend on it are not known."""
    p = program("""
program always
  input x: real[n]
  param k: int
  y[n] = map . x[n] if n + 1 > 0 and n < size(n) and n + 1 != 0 else nan
  z[n] = map . x[n] if n + k > 0 else nan
  output return = y
  output other = z
""")
    y, z = simplify(p).definitions()
    assert isinstance(y.body, Read)
    assert isinstance(z.body, ir.Select)


@pytest.mark.parametrize("classes", [0, 2, 4])
def test_an_any_over_classes_of_an_any_over_labels_is_one_over_labels(classes: int) -> None:
    """The support of a gather's adjoint, summed: the number of its tests no longer grows with the number of classes."""
    p = program(
        """
program nested
  input x: real[b, c]
  input t: int[b, s]
  hit[b, c]: bool = any s . t[b, s] >= 0 and t[b, s] == c
  some[b]: bool = any c . hit[b, c]
  either[b]: bool = any c . x[b, 0] > 0.0 and hit[b, c] or size(c) < 0
  y[b] = map . (1.0 if some[b] else 0.0) + (2.0 if either[b] else 0.0)
  output return = y
""".replace("x[b, 0]", "real(size(b))")
    )
    small = simplify(p)
    check(small)
    assert all(i.name == "s" for d in small.definitions() for i in d.bound)
    t = np.array([[0, 1, 7], [-1, 5, 9], [-3, -2, 3], [9, 9, 2]])
    arguments = {"x": np.zeros((4, classes)), "t": t}
    before, after = (interpret(q, arguments)["return"] for q in (p, small))
    np.testing.assert_array_equal(after, before)


def test_an_entry_that_a_condition_makes_readable_is_picked() -> None:
    """`t[n]` exists only for n < m; the sum over c is solved under that condition all the same."""
    p = program("""
program partly
  input x: real[n, c]
  input t: class[m] of c
  s[n] = sum c . x[n, c] if n < size(m) and t[n] == c else 0.0
  output return = s
""")
    small = simplify(p)
    check(small)
    assert all(d.head == "map" for d in small.definitions())
    x = np.random.default_rng(0).normal(size=(4, 3))
    for t in ([], [2, 0], [1, 1, 2, 0, 2, 2]):
        arguments = {"x": x, "t": np.array(t, dtype=int)}
        before, after = (interpret(q, arguments)["return"] for q in (p, small))
        np.testing.assert_allclose(after, before, rtol=1e-14)


def test_a_sum_that_reads_at_a_remainder_keeps_the_index_that_proves_the_divisor_positive() -> None:
    p = program("""
program remainder
  input x: real[n, d]
  input v: real[t]
  input k: int[n]
  s[n, d] = sum t where k[n] == d . v[t] * x[n, (n + 1) % size(d)]
  output return = s
""")
    small = simplify(p)
    check(small)
    arguments = {"x": np.arange(6.0).reshape(2, 3), "v": np.ones(4), "k": np.array([2, 0])}
    before, after = (interpret(q, arguments)["return"] for q in (p, small))
    np.testing.assert_allclose(after, before)
    assert interpret(small, arguments | {"x": np.zeros((2, 0))})["return"].shape == (2, 0)


def test_what_an_operation_does_not_depend_on_does_not_count() -> None:
    p = program("""
program counted
  input a: real[n]
  input x: real[n, d]
  input t: class[n] of c
  s[n] = sum d . x[n, d] * exp(a[n])
  r[c] = sum n where t[n] == c . a[n] * real(c)
  output return = s
  output other = r
""")
    assert count(p, {"n": 10, "d": 7, "c": 5}) == (70 + 70 + 10) + (10 + 10 + 10 + 10)


def test_what_two_maps_compute_and_what_a_logsumexp_is_made_of_count() -> None:
    p = program("""
program counted
  input x: real[n, d]
  a[n, d] = map . exp(x[n, d]) + 1.0
  b[n, d] = map . exp(x[n, d]) * 2.0
  s[n] = logsumexp d . x[n, d]
  output return = a
  output second = b
  output third = s
""")
    assert count(p, {"n": 10, "d": 7}) == (140 + 70) + (70 + 70 + 10)


def test_a_strided_window_keeps_no_loop_that_a_remainder_decides() -> None:
    """The adjoint of `x[2 * h + p]`, p in 0..1, is one read, at h // 2; of a window of 7 by 3 it is a sum of 3."""

    def gradient(lines: str) -> str:
        text = "loss t:\n    input x: real[h]\n" + "".join(f"    {line}\n" for line in lines.split("\n"))
        shown = show(Source("<t>", text), "grad")
        assert shown.text is not None
        return next(line for line in shown.text.splitlines() if line.startswith("  x'"))

    assert "sum" not in gradient("axis p = 2\ny = mean(x[h = 2 * h + p] over p)\nreturn sum(y^2)")
    wide = gradient("axis p = 7\naxis k = (h - 7) // 3 + 1\ny[k] = sum(x[h = 3 * k + p] over p)\nreturn sum(y^2)")
    assert "sum p: 3 " in wide
    assert "==" not in wide
