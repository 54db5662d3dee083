"""The SymPy views: identity of the exact form, values of the algebraic one, programs from ordinary SymPy; LaTeX."""

import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy as sp
from programs import random_program

from lossdsl.dim import Dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.algebra import NODES
from lossdsl.ir.check import check
from lossdsl.ir.expression import algebraic, expression_tree, from_tree, program_from_sympy, symbols
from lossdsl.ir.interpret import interpret
from lossdsl.ir.latex import latex, latex_definition, latex_scalar, name_latex
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Input,
    Output,
    Param,
    Program,
    Read,
    Scalar,
    Select,
)
from lossdsl.ir.text import parse_ir
from lossdsl.primitives import HEADS, PRIMITIVES

N = Index("n", Dim.symbol("n"))
X, Y = Read("x", (N,), REAL), Read("y", (N,), REAL)


# ------------------------------------------------------------------------------------------------- exact form


@pytest.mark.parametrize("seed", range(40))
def test_exact_round_trip_of_random_programs(seed: int) -> None:
    for d in random_program(seed, stops=True).definitions():
        for node in d.scalars():
            assert from_tree(expression_tree(node)) is node


@pytest.mark.parametrize(
    "node",
    [
        X / X,
        Const(0) * X,
        X - X,
        X * X,
        Const("nan") * X + Const("inf") - Const("-inf"),
        Const(2) + Const(3),
        Const(2, INT) + Const(3, INT),
        ir.TRUE,
        ir.FALSE,
        Param("x", REAL),
        Param("x", INT),
        Param("x", BOOL),
        Read("x", (), REAL),
        Read("a name", (N + 1,), BOOL),
        Index("...", Dim.symbol("n") * 2 - 1),
        ir.Size((Dim.symbol("n") - 1) // 3),
        ir.Table((Const(1), Const("nan")), N),
        ir.Proxy(X, Y),
        ir.AdjointMap(X, "clamp", (Const(-1), Const(1))),
        ir.Stop(X),
        ir.And((ir.Not(ir.TRUE), ir.Or((ir.FALSE, ir.TRUE)))),
        ir.And(()),
        Select(Compare("!=", X, Y), X, Y),
        Apply("pi", ()),
        Apply("neg", (Const(-3),)),
    ],
)
def test_exact_round_trip_of_odd_nodes(node: Scalar) -> None:
    assert from_tree(expression_tree(node)) is node


def test_the_exact_form_of_every_primitive() -> None:
    for record in PRIMITIVES.values():
        args = tuple({REAL: X, INT: N, BOOL: ir.TRUE}[k] for k in record.accepts)
        node = Apply(record.name, args)
        assert from_tree(expression_tree(node)) is node


def test_depth_is_no_limit() -> None:
    node: Scalar = X
    for _ in range(3000):
        node = Apply("tanh", (node + Const(1),))
    assert from_tree(expression_tree(node)) is node


def test_what_is_no_tree() -> None:
    x = sp.Symbol("x", real=True)
    for tree in (x, sp.exp(x), x + 1, sp.Function("ir.unknown")(sp.Integer(1)), sp.Function("add")(x, x)):
        with pytest.raises(ValueError):
            from_tree(tree)
    with pytest.raises(TypeError):
        from_tree("add(x, y)")


def test_sympy_is_imported_only_when_needed() -> None:
    modules = "check cost expression from_sympy interpret latex nodes ranges rewrite text algebra"
    code = f"import sys; [__import__('lossdsl.ir.' + m) for m in '{modules}'.split()]; print('sympy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


# --------------------------------------------------------------------------------------------- algebraic form


def test_a_condition_that_is_chosen_by_a_condition() -> None:
    chosen = Select(Compare(">", X, Const(0)), Compare("<", Y, Const(1)), Compare(">=", Y, Const(2)))
    expression, _ = algebraic(Select(chosen, X, Y))
    by_name = {s.name: s for s in expression.free_symbols}
    for x, y, wanted in ((1, 0, 1), (1, 1.5, 1.5), (1, 3, 3), (-1, 0, 0), (-1, 1.5, 1.5), (-1, 3, -1)):
        assert expression.xreplace({by_name["x[n]"]: sp.Rational(x), by_name["y[n]"]: sp.Rational(y)}) == sp.Rational(
            wanted
        )


def _value(node: Scalar, at: dict[str, float], parameters: dict[str, Any] | None = None) -> float:
    inputs = tuple(Input(name, (Dim.symbol("n"),), ("n",), "real") for name in at)
    d = Definition("v", (N,), "map", (), ir.TRUE, node)
    program = Program("p", inputs, (), (d,), (Output("return", "v"),))
    return float(interpret(program, {k: np.array([v]) for k, v in at.items()})["return"][0])


def test_a_condition_on_a_value_with_branches_holds_no_piecewise() -> None:
    """SymPy folds a Piecewise in a condition, and meets NaN on the way."""
    x = Read("x", (), REAL)
    zero = Const(0)

    def step(u: Scalar) -> Scalar:
        inner = Apply("div", (Apply("log1p", (Apply("abs", (u,)),)), u))
        return ir.Select(Compare(">", u, zero), Apply("sub", (u, inner)), zero)

    view = algebraic(step(step(step(x)))).expression
    pieces = view.atoms(sp.Piecewise)
    assert pieces
    assert not any(c.has(sp.Piecewise) for p in pieces for _, c in p.args)
    symbol = next(iter(view.free_symbols))
    for at in map(sp.Integer, (1, 3, 40)):  # where no branch that is not taken divides by zero: SymPy is not lazy
        u = float(at)
        for _ in range(3):
            u = u - np.log1p(abs(u)) / u if u > 0 else 0.0
        assert float(view.xreplace({symbol: at})) == pytest.approx(u, rel=1e-12)


def test_a_comparison_with_nan_is_false() -> None:
    nan, x = Const("nan"), Read("x", (), REAL)
    for op in ("<", "<=", ">", ">=", "=="):
        assert algebraic(Compare(op, x, nan)).expression == sp.false
        assert algebraic(Compare(op, nan, nan)).expression == sp.false
    assert algebraic(Compare("!=", nan, x)).expression == sp.true
    assert algebraic(Apply("max2", (Const(0), nan))).expression is sp.nan
    branched = Apply("max2", (Const(0), ir.Select(Compare(">", x, Const(1)), x, nan)))  # SymPy has no maximum of NaN
    condition = algebraic(Compare(">", branched, Const(2))).expression
    assert [bool(condition.xreplace({s: sp.Integer(3)})) for s in condition.free_symbols] == [True]
    infinite = Apply("div", (Const(1), Const(0)))  # complex infinity in SymPy, which it cannot order
    assert isinstance(algebraic(ir.Select(Compare(">", infinite, x), x, Const(0))).expression, sp.Basic)


def test_algebraic_values_of_every_primitive() -> None:
    checked = 0
    for record in PRIMITIVES.values():
        if any(k is not REAL for k in record.accepts) or record.result is not REAL:
            continue
        names = ["x", "y", "z"][: len(record.accepts)]
        node = Apply(record.name, tuple(Read(n, (N,), REAL) for n in names))
        expression, _ = algebraic(node)
        table = symbols(node)
        for sample in record.samples:
            if not all(abs(v) < 20 for v in sample):
                continue
            ours = _value(node, dict(zip(names, sample))) if names else _value(node + Const(0) * X, {"x": 1.0})
            point = {table[Read(n, (N,), REAL)]: sp.Rational(v) for n, v in zip(names, sample)}
            theirs = complex(expression.xreplace(point).evalf(30))
            if not np.isfinite(ours) or theirs != theirs or abs(theirs) == np.inf:
                continue
            assert theirs.imag == pytest.approx(0, abs=1e-12), record.name
            assert ours == pytest.approx(theirs.real, rel=1e-9, abs=1e-12), (record.name, sample)
            checked += 1
    assert checked > 150


@pytest.mark.parametrize("seed", range(6))
def test_algebraic_values_of_random_bodies(seed: int) -> None:
    """Bodies of maps over reads, at random points, against the interpreter."""
    rng = np.random.default_rng(seed)
    for d in random_program(seed, size=8, opaque=False).definitions():
        leaves = {n for n in ir.postorder(d.body) if isinstance(n, Read) and n.dtype is REAL}
        others = {n for n in ir.postorder(d.body) if isinstance(n, ir.Param | ir.Size | ir.Table | Index)}
        if d.dtype is not REAL or any(n.dtype is not REAL for n in symbols(d.body) if isinstance(n, Read)):
            continue
        expression, _ = algebraic(d.body)
        table = symbols(d.body)
        values = {n: float(rng.normal()) for n in leaves}
        values |= {n: float(rng.integers(1, 3)) if n.dtype is INT else 0.7 for n in others}
        from lossdsl.ir.rewrite import substitute

        flat = substitute(
            d.body, {n: Const(int(v), INT) if n.dtype is INT else ir.number(v) for n, v in values.items()}
        )
        ours = _value(flat + Const(0) * X, {"x": 1.0})
        point = {table[n]: sp.Integer(int(v)) if n.dtype is INT else sp.Float(v, 30) for n, v in values.items()}
        theirs = expression.xreplace(point)
        theirs = theirs.doit() if isinstance(theirs, sp.Piecewise) else theirs
        assert ours == pytest.approx(float(theirs.evalf(20)), rel=1e-8, abs=1e-9)


def test_conditions_keep_what_evaluation_drops() -> None:
    expression, conditions = algebraic(X / X + Const(0) * Apply("log", (Y,)))
    assert expression == 1
    assert {type(c.node).__name__ + c.node.name for c in conditions if isinstance(c.node, Apply)} == {
        "Applydiv",
        "Applylog",
    }
    guarded = Select(Compare(">", X, Const(0)), Apply("log", (X,)), Const(0))
    (condition,) = algebraic(guarded).conditions
    assert condition.path == (guarded.condition,)
    assert "log(x[n]) is finite" in str(condition)
    assert algebraic(X * Y).conditions == ()


# ------------------------------------------------------------------------------------------------ from SymPy

x, y, a = sp.symbols("x y a", real=True)
p = sp.Symbol("p", positive=True)

EXPRESSIONS = [
    (x - y) ** 2,
    sp.Abs(x - y) ** 3 / 7,
    sp.sqrt(1 + (x - y) ** 2) - 1,
    sp.log(1 + sp.exp(-x * y)),
    -x,
    -x * y / 3 - 2 * x**2 + sp.Rational(1, 7),
    1 / (1 + x**2),
    1 / (1 + x**2) ** 2 / (3 + y**2),
    sp.exp(-(x**2)) * sp.cos(x),
    sp.Max(x, y, 0) - sp.Min(x, 1),
    sp.Piecewise((x**2 / 2, sp.Abs(x) <= a), (a * (sp.Abs(x) - a / 2), True)),
    sp.Piecewise((x, x > 1), (x**2, (x > 0) & (y < 0)), (sp.sin(x), sp.Or(x < -1, sp.Ne(y, 0)))) + 1,
    sp.tanh(x) + sp.erf(y) + sp.erfc(x) + sp.sign(x) + sp.atan(x) + sp.atan2(y, x) + sp.sinh(x),
    sp.tan(x / 4) + sp.cosh(y) + sp.asin(x / 9) + sp.acos(y / 9) + sp.floor(x) + sp.ceiling(y),
    sp.Heaviside(x) + sp.Heaviside(y, 0),
    sp.pi * x + sp.E * y + sp.EulerGamma,
    (1 + x**2) ** a,
    (1 + x**2) ** sp.Rational(3, 2) + (1 + x**2) ** sp.Rational(-3, 2) + 2**x + x**-2,
    sp.loggamma(1 + x**2) + sp.digamma(1 + x**2),
    sp.Float("0.1") * x + sp.Float(2.5),
    sp.log(2 + x**2, 2),
    sp.Integer(3),
    x,
]


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_from_sympy_by_value(expression: Any) -> None:
    program = program_from_sympy(expression, inputs=[x, "y"], params={a: 1.5}, name="found")
    check(program)
    rng = np.random.default_rng(5)
    points = rng.normal(size=(2, 20)) * 2
    out = interpret(program, {"x": points[0], "y": points[1]}, outputs=["per", "return"])
    for k in range(20):
        at = {x: sp.Float(points[0, k], 30), y: sp.Float(points[1, k], 30), a: sp.Rational(3, 2)}
        wanted = expression.xreplace(at).evalf(25)
        wanted = float(wanted) if wanted is not sp.nan else np.nan
        np.testing.assert_allclose(out["per"][k], wanted, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(out["return"], out["per"].mean())


def test_from_sympy_declares_domains_and_reductions() -> None:
    program = program_from_sympy(p * sp.log(p), inputs=[p], reduction="sum")
    assert program.inputs[0].range.lower is Const(0)
    assert program.inputs[0].range.lower_open
    assert program.reductions is not None
    assert program.reductions.written == "sum"
    values = interpret(program, {"p": np.array([[1.0, 2.0]])})
    assert values["return"] == pytest.approx(2 * np.log(2))
    assert interpret(program_from_sympy(x, inputs=[x]), {"x": np.zeros(0)})["return"] == 0
    none = program_from_sympy(x**2, inputs=["x"], params={}, reduction="none")
    check(none)
    assert list(interpret(none, {"x": np.array([1.0, 2.0])})["return"]) == [1, 4]
    assert program_from_sympy(a * x, inputs=[x], params={a: Fraction(1, 3)}).parameters[0].default is Const(
        Fraction(1, 3)
    )
    names = program_from_sympy(sp.Symbol("per") + sp.Symbol("mean"), inputs=["per", "mean"])
    check(names)


@pytest.mark.parametrize("text", ["x**2", "__import__('os').system('true')", b"x", None, [x], sp.true])
def test_no_string_is_sympified(text: Any) -> None:
    with pytest.raises(TypeError, match="sympy expression"):
        program_from_sympy(text, inputs=["x"])


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (sp.besselj(0, x), "besselj"),
        (sp.I * x, "not a real number"),
        (sp.zoo + 0 * x, "."),
        (sp.Function("f")(x), "f is not a function"),
        (sp.Sum(x**a, (a, 1, 3)), "Sum"),
        (sp.Integral(x, x), "Integral"),
        (x + sp.Symbol("w"), "w is neither an input nor a parameter"),
        (sp.Symbol("x") + x, "x is neither"),
        (sp.factorial(x), "factorial"),
    ],
)
def test_what_a_loss_cannot_have(expression: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        program_from_sympy(expression, inputs=[x], params={a: 1.0})


def test_bad_declarations() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        program_from_sympy(x, inputs=[x, "x"])
    with pytest.raises(ValueError, match="cannot name"):
        program_from_sympy(sp.Symbol("a b"), inputs=["a b"])
    with pytest.raises(TypeError, match="default"):
        program_from_sympy(a * x, inputs=[x], params={a: "1"})
    with pytest.raises(ValueError, match="reduction"):
        program_from_sympy(x, inputs=[x], reduction="max")


# ------------------------------------------------------------------------------------------ algebra and LaTeX


def test_the_node_algebra_builds_what_a_record_says() -> None:
    for record in PRIMITIVES.values():
        args = tuple({REAL: X, INT: Const(3, INT), BOOL: ir.TRUE}[k] for k in record.accepts)
        for partial in record.partials:
            if partial is not None:
                node = ir.number(partial(NODES, *args))
                body = Definition("y", (N,), "map", (), ir.TRUE, ir.real(node))
                inputs = (Input("x", (Dim.symbol("n"),), ("n",), "real"),)
                check(Program("p", inputs, (), (body,), (Output("return", "y"),)))
    assert NODES.add(N, 1) is Apply("add", (N, Const(1, INT)))
    assert NODES.powi(X, 2) is Apply("powi", (X, Const(2, INT)))


def test_latex() -> None:
    program = parse_ir("""program p
  input x: real[n, d]
  input w_1: real[n]
  param alpha: real = 1.0
  lse[n] = logsumexp d where d != n . x[n, d] / (alpha + 1.0)
  y[n] = map . -(lse[n] - w_1[n]) * 2.0 if w_1[n] > 0.0 else (lse[n] + 1.0) ^ 2 * exp(lse[n] - 0.5)
  output return = y
""")
    text = latex(program)
    assert text.startswith("\\begin{aligned}\n")
    assert text.endswith("\\end{aligned}\n")
    assert r"\mathrm{lse}_{n} &= " in text
    assert r"d \,:\, d \ne n" in text
    assert r"\frac{x_{n, d}}{\alpha + 1}" in text
    assert r"\begin{cases}" in text
    assert r"\mathrm{w\_1}_{n}" in text
    assert r"\left(\mathrm{lse}_{n} + 1\right)" in text
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize("seed", range(15))
def test_latex_of_random_programs_is_balanced(seed: int) -> None:
    text = latex(random_program(seed))
    depth = 0
    for k, c in enumerate(text):
        if c in "{}" and (k == 0 or text[k - 1] != "\\"):
            depth += 1 if c == "{" else -1
            assert depth >= 0
    assert depth == 0
    assert text.count(r"\left") - text.count(r"\leftarrow") == text.count(r"\right")


def test_latex_of_every_record() -> None:
    for record in PRIMITIVES.values():
        args = tuple({REAL: X + Y, INT: N, BOOL: ir.TRUE}[k] for k in record.accepts)
        text = latex_scalar(Apply(record.name, args))
        assert "{0}" not in text
        assert "\0" not in text
    for head in HEADS:
        if head not in ("argsort", "inverse", "logdet"):
            _, right = latex_definition(
                Definition("y", (), head, (N,), ir.TRUE, X if head not in ("any", "all") else ir.TRUE)
            )
            assert "{0}" not in right
            assert "index" not in right
            assert "n" in right


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x", "x"),
        ("delta", r"\delta"),
        ("a_b", r"\mathrm{a\_b}"),
        ("return'", r"\mathrm{return}'"),
        ("...", r"\ldots"),
        ("\\input{x}", r"\mathrm{\backslash{}input\{x\}}"),
        ("50%", r"\mathrm{50\%}"),
        ("d pred", r"\mathrm{d~pred}"),
    ],
)
def test_names_are_escaped(name: str, expected: str) -> None:
    assert name_latex(name) == expected
