"""Arrays that are asked for at sums of indices: the same values from fewer entries."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import program
from programs import random_extents, random_inputs, random_parameters, random_program

from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.ir.check import check
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program
from lossdsl.transform.positions import positions

POOLED = """loss pooled:
    input x: real[b, h, w]
    input k: real[i]

    axis i, j = 3
    axis p, q = 2
    def half(a) = {pool}(a[h = 2 * h + p, w = 2 * w + q] over p, q)
    def blur(a) = sum(k[i] * a[h = h + i, w = w + j] over i, j)
    return mean(blur(half(x))^2) + mean(tanh(blur(half(half(x)))))
"""


def built(text: str) -> Program:
    analysis = pipeline.analyse(Source("f.loss", text))
    assert not analysis.failed, analysis.diagnostics
    return analysis.losses[0].program


def ranks(p: Program) -> dict[str, int]:
    return {d.tensor: len(d.formals) for d in p.definitions()}


@pytest.mark.parametrize("pool", ["mean", "max", "logsumexp", "norm"])
@pytest.mark.parametrize("size", [(12, 13), (15, 20), (7, 9), (3, 2), (0, 4)])
def test_what_stands_inside_of_an_access_is_made_once(pool: str, size: tuple[int, int]) -> None:
    given = built(POOLED.format(pool=pool))
    made = positions(given)
    check(made)
    assert max(ranks(given).values()) >= 7
    assert max(ranks(made).values()) <= 3
    rng = np.random.default_rng(3)
    arrays = {"x": rng.normal(size=(2, *size)), "k": rng.normal(size=3)}
    np.testing.assert_allclose(
        interpret(made, arrays)["return"], interpret(given, arrays)["return"], rtol=1e-12, equal_nan=True
    )


def test_a_part_is_read_from_the_whole() -> None:
    """Rows of the coarse image of a coarse image are rows of the coarse image: it is made once."""
    made = positions(built(POOLED.format(pool="max")))
    over_x = [d for d in made.definitions() if d.head == "max" and {"x"} == {*each_read(d)}]
    assert [str(d.formals[1].dim) for d in over_x] == ["(h) // 2"]


def each_read(d: object) -> list[str]:
    from lossdsl.ir.nodes import Definition
    from lossdsl.ir.rewrite import tensors

    assert isinstance(d, Definition)
    return [*tensors(d)]


@pytest.mark.parametrize(
    "line",
    [
        "t[h: h - 4, i: 3, p: 2] = sum q: 2 . x[h + i + q] * x[h + p + q]",  # two sums
        "t[h: h - 6, i: 3, p: 2] = sum q: 2 . x[h + i + p + q] * real(i)",  # an index on its own
        "t[h: h, i: 3, p: 2] = sum q: 2 . x[h + i + p + q] if h + i + p + q < size(h) else 0.0",  # a border
        "t[h: h - 6, i: 3, p: 2] = sum q: 2 . x[h + 2 - i + p + q]",  # a difference
    ],
)
def test_what_depends_on_more_than_a_sum_keeps_its_indices(line: str) -> None:
    size = line.split("h: ")[1].split(",")[0]
    given = program(
        f"program f\n  input x: real[h]\n  {line}\n"
        f"  value = sum h: {size}, i: 3, p: 2 . t[h, i, p] * tanh(real(i + 2 * p))\n  output return = value\n"
    )
    made = positions(given)
    check(made)
    assert any(f.name == "i" for f in next(d for d in made.definitions() if d.tensor == "t").formals)
    arrays = {"x": np.random.default_rng(0).normal(size=9)}
    np.testing.assert_allclose(interpret(made, arrays)["return"], interpret(given, arrays)["return"], rtol=1e-12)


def test_steps_of_a_sum() -> None:
    given = program(
        "program f\n  input x: real[h]\n  t[h: (h) // 6, i: 2, p: 3] = max q: 1 . x[6 * h + 3 * i + p + q]\n"
        "  value = sum h: (h) // 6, i: 2, p: 3 . t[h, i, p] * real(1 + i + 2 * p)\n  output return = value\n"
    )
    made = positions(given)
    check(made)
    assert ranks(made)["t"] == 1
    for n in (0, 5, 6, 13, 18):
        arrays = {"x": np.random.default_rng(0).normal(size=n)}
        np.testing.assert_allclose(interpret(made, arrays)["return"], interpret(given, arrays)["return"], rtol=1e-12)


@pytest.mark.parametrize("seed", range(150))
def test_random_programs_keep_their_values(seed: int) -> None:
    p = random_program(seed)
    made = positions(p)
    check(made)
    rng = np.random.default_rng(seed)
    extents = random_extents(p, rng)
    arrays, parameters = random_inputs(p, rng, extents), random_parameters(p, rng)
    before, after = interpret(p, arrays, parameters), interpret(made, arrays, parameters)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-12, equal_nan=True)
