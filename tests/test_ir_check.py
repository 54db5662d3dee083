"""The well-formedness check: random programs pass, broken ones are refused for the right reason; the range prover."""

import pytest
from programs import random_program

from lossdsl.dim import parse_dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.check import IllFormed, check
from lossdsl.ir.nodes import Scalar
from lossdsl.ir.ranges import contradictory, implies, in_range
from lossdsl.ir.text import parse_ir


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_are_well_formed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSDSL_CHECK", "1")
    check(random_program(seed, size=6, stops=True))


GOOD = """program p
  input x: real[n, d]
  input target: class[n] of d
  input h: real[h]
  param alpha: real = 1.0
  param steps: int = 3
  lse[n] = logsumexp d . x[n, d]
  nll[n] = map . lse[n] - x[n, target[n]]
  diff[h: h - 1] = map . h[h + 1] - h[h]
  blur[h: h - 10] = sum i: 11 . h[h + i]
  order[n, r: d]: int = argsort d . x[n, d]
  top[n, r: d] = map . x[n, order[n, r]]
  group n forward
    run[n] = map . nll[n] if n == 0 else run[n - 1] + alpha * nll[n]
    next[n] = map . run[n] * 2.0
  value = sum n where n > 0 . next[n - 1] + nll[n]
  output return = value
  output blurred = blur
  reductions mean with mean = value, sum = value, none = nll, total = value, weight = value, element = nll
  target nll
"""


def test_a_written_program_passes() -> None:
    check(parse_ir(GOOD))


MUTANTS = [
    ("h[h + 1] - h[h]", "h[h + 2] - h[h]", "neither proved in range"),
    ("diff[h: h - 1]", "diff[h]", "neither proved in range"),
    ("sum i: 11 .", "sum i: 12 .", "neither proved in range"),
    ("h[h + i]", "h[h - i]", "neither proved in range"),
    ("sum n where n > 0 .", "sum n .", "neither proved in range"),
    ("sum n where n > 0 .", "sum n where n > 0 or alpha > 0.0 .", "neither proved in range"),
    ("if n == 0 else run[n - 1]", "if n == 1 else run[n - 1]", "neither proved in range"),
    ("run[n - 1] + alpha", "run[n] + alpha", "neither proved in range"),
    ("nll[n] if n == 0 else run[n - 1]", "next[n] if n == 0 else run[n - 1]", "neither proved in range"),
    ("group n forward", "group n backward", "neither proved in range"),
    ("group n forward", "group d forward", "does not have the axis d"),
    ("x[n, order[n, r]]", "x[order[n, r], n]", "neither proved in range"),
    ("x[n, target[n]]", "x[n, x[n, 0]]", "well typed|neither proved"),
    ("x[n, target[n]]", "x[n]", "has 2 axes and is read at 1"),
    ("lse[n] - x", "later[n] - x", None),
    ("- x[n, target[n]]", "- target[n]", "well typed"),
    ("logsumexp d .", "logsumexp n, d .", "two binders"),
    ("logsumexp d .", "softmax d .", "no head"),
    ("logsumexp d .", "any d .", None),
    ("logsumexp d .", "map d .", "map has no bound index"),
    ("lse[n] = logsumexp d . x[n, d]", "lse[n] = sum . x[n, n]", "sum has no bound index"),
    ("argsort d . x[n, d]", "argsort d . x[n, r]", "reads its rank"),
    ("next[n] = map . run[n] * 2.0", "next[n] = map . bogus(run[n])", "no primitive 'bogus'"),
    ("next[n] = map . run[n] * 2.0", "next[n] = map . exp(run[n], run[n])", "well typed"),
    ("next[n] = map . run[n] * 2.0", "next[n] = map . run[n] * n", "well typed"),
    ("next[n] = map . run[n] * 2.0", "next[n] = map . run[n] * index(k: n)", "well typed|not bound"),
    ("next[n] = map . run[n] * 2.0", "next[n] = map . run[n] if run[n] else 1.0", "well typed"),
    ("next[n] = map . run[n] * 2.0", "next[n] = map . 1 if n > 0 else 1.0", "well typed"),
    ("next[n] = map . run[n] * 2.0", "next[n] = map . table(1.0, 2.0)[n]", "neither proved in range"),
    ("next[n] = map . run[n] * 2.0", "next[n] = map . run[n] * param(beta, real)", "well typed"),
    ("next[n] = map . run[n] * 2.0", "next[n] = map . run[n] support run[n]", "conditions"),
    ("next[n] = map . run[n] * 2.0", "next[n] = map . 1.0 if 1.0 < 1 else 2.0", "well typed"),
    ("blur[h: h - 10]", "lse[h: h - 10]", "two things are named 'lse'"),
    ("param steps", "param alpha", "two things are named 'alpha'"),
    ("param alpha: real = 1.0", "param alpha: real = 1", "default of alpha"),
    ("output blurred = blur", "output blurred = blurry", "returned but not defined"),
    ("output blurred = blur", "output return = blur", "two outputs"),
    ("reductions mean with mean = value", "reductions mean with mean = nll", "not a scalar"),
    ("reductions mean with", "reductions max with", "written reduction"),
    ("class[n] of d", "class[n] of d or alpha", "no integer parameter"),
    ("param alpha: real = 1.0", "param alpha: real in [0, _) = 1.0", "bound of alpha"),
]


@pytest.mark.parametrize(("old", "new", "reason"), MUTANTS)
def test_broken_programs_are_refused(old: str, new: str, reason: str | None) -> None:
    assert GOOD.count(old) >= 1
    text = GOOD.replace(old, new)
    with pytest.raises((IllFormed, ValueError), match=reason):
        check(parse_ir(text))


def test_order_of_definitions() -> None:
    text = "program p\n  input x: real[n]\n  b = sum n . a[n]\n  a[n] = map . x[n]\n  output return = b\n"
    with pytest.raises(IllFormed, match="a is read before it is defined"):
        check(parse_ir(text))


def test_an_unbound_index_and_a_foreign_formal() -> None:
    program = parse_ir("program p\n  input x: real[n]\n  a[n] = map . x[n]\n  output return = a\n")
    (a,) = program.definitions()
    stray = ir.Read("x", (ir.Index("k", parse_dim("n")),), ir.REAL)
    broken = ir.Definition("a", a.formals, "map", (), ir.TRUE, stray)
    with pytest.raises(IllFormed, match="the index k of a is not bound"):
        check(program.with_body((broken,)))


def test_deep_conditions_are_followed() -> None:
    text = """program p
  input x: real[n]
  input f: bool[n]
  a[n] = map . (x[n - 1] if n > 0 and f[n - 1] else 0.0) + (x[n + 1] if not (n + 1 >= size(n) or f[n]) else 0.0)
  b[n]: bool = map . n == 0 or f[n - 1]
  c[n] = map . exp(a[n - 1]) support n != 0
  d[n, m: n] = map . (x[n - m] if n >= m else x[m - n - 1]) if n != 0 or m != 0 else x[size(n) - 1]
  output return = a
"""
    check(parse_ir(text))
    with pytest.raises(IllFormed, match="neither proved"):
        check(parse_ir(text.replace("n > 0 and f[n - 1]", "f[n - 1] and n > 0")))
    with pytest.raises(IllFormed, match="neither proved"):
        check(parse_ir(text.replace("n >= m else x[m - n - 1]", "n > m else x[m - n - 1]")))


def _scalar(text: str, dims: dict[str, str]) -> Scalar:
    formals = ", ".join(f"{k}: {v}" for k, v in dims.items())
    kind = ": bool" if any(s in text for s in ("<", ">", "==", "!=")) and " if " not in text else ": int"
    line = f"  y[{formals}]{kind} = map . {text}" if dims else f"  y{kind} = map . {text}"
    return parse_ir(f"program p\n  input t: int[]\n  param k: int = 1\n{line}\n").body[0].body  # type: ignore[union-attr]


RANGES = [
    (True, "h + 1", "h", [], {"h": "h - 1"}),
    (False, "h + 1", "h", [], {"h": "h"}),
    (True, "h + i", "h", [], {"h": "h - 10", "i": "11"}),
    (False, "h + i", "h", [], {"h": "h - 9", "i": "11"}),
    (True, "t - 1", "t", ["t > 0"], {"t": "t"}),
    (True, "t - 1", "t", ["t != 0"], {"t": "t"}),
    (True, "t - 1", "t", ["not t == 0"], {"t": "t"}),
    (False, "t - 1", "t", ["t != 1"], {"t": "t"}),
    (True, "p // size(w)", "h", [], {"p": "h*w"}),
    (True, "p % size(w)", "w", [], {"p": "h*w"}),
    (False, "p // size(w)", "w", [], {"p": "h*w"}),
    (True, "a * size(w) + b", "h*w", [], {"a": "h", "b": "w"}),
    (True, "(a * size(w) + b) * size(c) + e", "h*w*c", [], {"a": "h", "b": "w", "e": "c"}),
    (False, "a * size(w) + b", "h*w", [], {"a": "h", "b": "w + 1"}),
    (True, "k - size(n)", "n", ["not k < size(n)"], {"k": "2*n"}),
    (False, "k - size(n)", "n", ["not k < size(n) - 1"], {"k": "2*n"}),
    (True, "2 * h + i", "h", [], {"h": "(h - 3) // 2 + 1", "i": "3"}),
    (False, "2 * h + i", "h", [], {"h": "(h - 3) // 2 + 2", "i": "3"}),
    (True, "16 * f + i", "t", [], {"f": "(t - 64) // 16 + 1", "i": "64"}),
    (True, "max2(0, min2(h + 3, size(h) - 1))", "h", [], {"h": "h"}),
    (True, "abs(h - 1) if h < 1 else h - 1", "h", ["size(h) > 1"], {"h": "h"}),
    (False, "abs(h - 1) if h < 1 else h - 1", "h", [], {"h": "h"}),
    (True, "(h + 5) % size(h)", "h", [], {"h": "h"}),
    (True, "t[]", "c", ["t[] >= 0 and t[] < size(c)"], {}),
    (True, "size(n - 10) - 1", "n", ["n >= 0"], {"n": "n - 10"}),
    (False, "size(n - 10)", "n - 10", [], {"n": "n"}),
    (False, "size((n - 3) // 2 + 1) + 1", "1", ["size(n) == 0"], {}),
    (True, "size((n - 3) // 2 + 1)", "1", ["size(n) == 0"], {}),
    (False, "0", "n", [], {}),
    (False, "k", "k", [], {}),
    (True, "(size(h*w) - 1) // 2 + 0 * i * j", "h*w", [], {"i": "h", "j": "w"}),
    (True, "(size(b*h*w) - 1) // 2 + 0 * i * j * k", "b*h*w", [], {"i": "h", "j": "w", "k": "b"}),
    (False, "size(h*w) // 2 + 1 + 0 * i * j", "h*w", [], {"i": "h", "j": "w"}),
    (True, "table(0, 2, 1)[h % 3]", "3", [], {"h": "h"}),
    (False, "table(0, 3, 1)[h % 3]", "3", [], {"h": "h"}),
]


@pytest.mark.parametrize(("expected", "index", "dim", "facts", "dims"), RANGES)
def test_ranges(expected: bool, index: str, dim: str, facts: list[str], dims: dict[str, str]) -> None:
    known = [_scalar(f, dims) for f in facts]
    assert in_range(_scalar(index, dims), parse_dim(dim), known) is expected


def test_the_prover_against_enumeration() -> None:
    """Whatever the prover claims holds for all small extents: soundness on a grid of random questions."""
    import random

    rng = random.Random(3)
    proved = 0
    for _ in range(800):
        shape = {
            "i": rng.choice(["n", "n - 1", "2*n", "n*w", "4", "(n - 1) // 2 + 1", "(n - 3) // 2"]),
            "j": rng.choice(["n", "w", "3"]),
        }
        a, b, c = rng.choice([-2, -1, 1, 2]), rng.choice([-1, 0, 1]), rng.randrange(-3, 4)
        extra = rng.choice(["size(n)", "size(w)", "size(n - 2)", "0", "i // 2", "i % 2", "i // size(w)", "max2(i, j)"])
        text = f"{a} * i + {b} * j + {c} - {extra}"
        condition = rng.choice(["i > j", "i != 0", "i + 1 < size(n)", "j > 0 and i >= 2", "i == j or i < 1", "i >= 0"])
        dim = parse_dim(rng.choice(["n", "w", "n*w", "2*n", "n - 1", "5"]))
        index, fact = _scalar(text, shape), _scalar(condition, shape)
        bound = rng.randrange(-6, 3)
        floor = _scalar(f"{text} >= {bound}", shape)
        claims = (in_range(index, dim, [fact]), implies([fact], floor))
        if not any(claims):
            continue
        proved += 1
        for n in range(5):
            for w in range(5):
                env = {"n": n, "w": w}
                for i in range(parse_dim(shape["i"]).evaluate(env)):
                    for j in range(parse_dim(shape["j"]).evaluate(env)):
                        if _evaluate(condition, i, j, n, w):
                            value = _evaluate(text, i, j, n, w)
                            where = (text, condition, shape, str(dim), env, i, j)
                            assert not claims[0] or 0 <= value < dim.evaluate(env), where
                            assert not claims[1] or value >= bound, where
    assert proved > 50


def _evaluate(text: str, i: int, j: int, n: int, w: int) -> int:
    return int(
        eval(
            text.replace("size(n - 2)", "max(n - 2, 0)").replace("size", ""),
            {"i": i, "j": j, "n": n, "w": w, "max2": max, "max": max},
        )
    )


def test_implications() -> None:
    dims = {"i": "n", "j": "n"}
    one, two = _scalar("i < j", dims), _scalar("j >= i + 1", dims)
    assert implies([one], two)
    assert implies([two], one)
    assert not implies([one], _scalar("j >= i + 2", dims))
    assert implies([], _scalar("i < size(n)", dims))
    assert contradictory([one, _scalar("i == j", dims)])
    assert contradictory([_scalar("2 * i == 2 * j + 1", dims)])  # parity
    assert not contradictory([one])
    x = ir.Compare("<", ir.Read("x", (), ir.REAL), ir.Const(0))
    assert implies([x], x)
    assert not implies([ir.Not(x)], ir.Compare(">=", ir.Read("x", (), ir.REAL), ir.Const(0)))  # NaN is neither


def test_what_is_known_of_a_definition_is_known_for_the_same_tensors_and_parameters_only() -> None:
    text = "program p\n  input h: {kind}[{dim}]\n  param k: int in [{least}, 9] = 1\n  d[i: n + k] = map . h[i] * 2.0\n"
    text += "  output return = d\n"
    good = {"kind": "real", "dim": "n + 2*k", "least": 0}
    check(parse_ir(text.format(**good)))
    others = (({"kind": "int"}, "not well typed"), ({"dim": "n"}, "in range"), ({"least": -9}, "in range"))
    for other, reason in others:
        with pytest.raises(IllFormed, match=reason):
            check(parse_ir(text.format(**{**good, **other})))
    check(parse_ir(text.format(**good)))
