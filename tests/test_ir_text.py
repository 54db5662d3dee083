"""The IR's text: what it looks like, and that it parses back to the identical program."""

from fractions import Fraction

import pytest
from programs import random_program

from lossdsl.dim import Dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    Apply,
    Const,
    Definition,
    Index,
    Input,
    Output,
    Parameter,
    Program,
    Range,
    Read,
    Scalar,
    Select,
)
from lossdsl.ir.text import TextError, parse_ir, print_ir

INFO_NCE = """\
program info_nce
  input q: real[n, d]
  input k: real[n, d]
  input target: class[n, ...] of 2*n - 1 or ignore = -100
  input `in`: real[b, h: h - 10, _: 4] in [0.0, 1.0)
  cotangent return': real[]
  param ignore: int = -100
  param temperature: real in (0.0, _) = 0.07
  sim[n, m: n] = sum d . q[n, d] * k[m, d]
  near[n]: int = argmax m: n where n != m and not sim[n, m] < -1e-30 . sim[n, m]
  lse[n] = logsumexp m: n . sim[n, m] / temperature
  value = sum n . (lse[n] - sim[n, n] / temperature) / real(size(n)) * 1/3 - (-2.0) ^ 2 + -(3.0) - -lse[near[n]]
  group n forward, m backward
    a[n, m: n] = map . 0.0 if n == 0 or m >= size(n) - 1 else a[n - 1, m + 1] * table(0.5, -1.0)[n % 2]
    b[n, m: n] = map . stop(a[n, m]) - proxy(a[n, m], inf) - adjoint_map(clamp, a[n, m], -1.0, 1.0)
  `d q`[n, d] = sum m: n . return' * k[m, d] support n > 0
  output return = value
  output `d q` = `d q`
  reductions mean with mean = value, sum = value, none = lse, total = value, weight = value, element = lse
  target lse
"""


def test_the_text_is_a_fixed_point() -> None:
    program = parse_ir(INFO_NCE)
    assert print_ir(program) == INFO_NCE
    assert parse_ir(print_ir(program)) == program


def test_nodes_are_identical_after_the_round_trip() -> None:
    program = parse_ir(INFO_NCE)
    again = parse_ir(print_ir(program))
    for d, e in zip(program.definitions(), again.definitions(), strict=True):
        assert d.body is e.body
        assert d.where is e.where


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed: int) -> None:
    program = random_program(seed, stops=True)
    assert parse_ir(print_ir(program)) == program


def _holds(body: Scalar, formals: tuple[Index, ...] = (), parameters: tuple[Parameter, ...] = ()) -> None:
    inputs = (Input("x", (Dim.symbol("n"),), ("n",), "real"), Input("f", (), (), "bool"), Input("k", (), (), "int"))
    d = Definition("y", formals, "map", (), TRUE, body)
    program = Program("p", inputs, parameters, (d,), (Output("return", "y"),), None, "")
    again = parse_ir(print_ir(program))
    assert again == program, print_ir(program)
    assert next(again.definitions()).body is body


_K = Read("k", (), INT)
_F = Read("f", (), BOOL)
_N = Index("n", Dim.symbol("n"))
_X = Read("x", (_N,), REAL)


@pytest.mark.parametrize(
    "value",
    [
        0,
        1,
        -1,
        10**30,
        -(10**30),
        Fraction(1, 3),
        Fraction(-22, 7),
        Fraction(7, 100),
        Fraction(-1, 8),
        Fraction(1, 10**30),
        Fraction(1, 2**80),
        Fraction(10**25, 3),
        Fraction(123456789, 10**9),
        Fraction(5, 10**7),
        1200000,
        Fraction(12, 10**12),
        "inf",
        "-inf",
        "nan",
    ],
)
def test_real_constants(value: Fraction | int | str) -> None:
    c = Const(value)
    _holds(c)
    _holds(Apply("neg", (c,)))
    _holds(Apply("sub", (c, c)))
    _holds(Apply("powi", (c, Const(2, INT))))
    _holds(Apply("mul", (Apply("neg", (c,)), c)))


@pytest.mark.parametrize(
    "body",
    [
        Const(-3, INT),
        Apply("sub", (_K, Const(-3, INT))),
        Apply("neg", (Apply("neg", (Const(3, INT),)),)),
        Apply("floordiv", (_K, Apply("mod", (_K, Const(3, INT))))),
        Apply("mod", (Apply("mod", (_K, _K)), _K)),
        ir.TRUE,
        ir.FALSE,
        ir.And(()),
        ir.And((_F,)),
        ir.Or((_F,)),
        ir.And((_F, ir.And((_F, _F)), ir.Or((_F, _F)))),
        ir.Or((ir.And((_F, _F)), ir.Or((_F, ir.TRUE)))),
        ir.Not(ir.Not(_F)),
        ir.Not(ir.Compare("<", _K, _K)),
        Select(_F, Select(_F, _K, _K), Select(_F, _K, _K)),
        Select(Select(_F, _F, _F), _K, _K),
        Apply("sub", (_K, Apply("sub", (_K, Apply("add", (_K, _K)))))),
        ir.Size(Dim.symbol("n") * 2 - 1),
        ir.Table((Const(1, INT), Const(-2, INT)), _K),
        ir.Table((ir.TRUE, ir.FALSE), _K),
        Apply("pi", ()),
        ir.Param("undeclared one", REAL),
        Read("no such tensor", (_K,), INT),
        Index("stray", Dim.symbol("...")),
        ir.AdjointMap(Const(1), "clamp", ()),
    ],
)
def test_odd_nodes(body: Scalar) -> None:
    _holds(body)


@pytest.mark.parametrize(
    "name", ["if", "inf", "x'", "a.0", "d pred", "size", "back`tick", "back\\slash", "\n", "let", "..."]
)
def test_names(name: str) -> None:
    i = Index(name, Dim.symbol("n"))
    _holds(Apply("real", (i,)), (i,))
    parameter = Parameter(name, "real", Range(Const(0), None, True), Const(Fraction(1, 2)))
    _holds(ir.Param(name, REAL), (), (parameter,))
    d = Definition(name, (_N,), "map", (), TRUE, _X)
    e = Definition("use", (_N,), "map", (), TRUE, Read(name, (_N,), REAL))
    inputs = (Input("x", (Dim.symbol("n"),), ("n",), "real"),)
    program = Program("p", inputs, (), (d, e), (Output(name, name), Output("return", "use")), None, name)
    assert parse_ir(print_ir(program)) == program


def test_an_index_hides_a_parameter_and_a_tensor() -> None:
    n = Index("k", Dim.symbol("n"))
    body = Apply("add", (Apply("real", (n,)), Apply("real", (_K,))))
    _holds(body, (n,))
    _holds(Apply("add", (n, ir.Param("k", INT))), (n,), (Parameter("k", "int"),))


def test_shared_and_deep_expressions_stay_short() -> None:
    body: Scalar = _X
    for _ in range(60):
        body = Apply("mul", (body, body))  # a tree of 2^60 leaves
    _holds(body, (_N,))
    deep: Scalar = _X
    for _ in range(5000):
        deep = Apply("tanh", (Apply("add", (deep, _X)),))
    _holds(deep, (_N,))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "loss x",
        "program p\n  y = map . z",
        "program p\n  y = map . (1.0",
        "program p\n  y = map . 1.0 1.0",
        "program p\n  y =",
        "program p\n  input x: real[n\n",
        "program p\n  y = map . $0",
        "program p\n  y = map . ;",
        "program p\n  group t sideways\n",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(TextError):
        parse_ir(text)
