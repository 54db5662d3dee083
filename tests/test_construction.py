"""What an emitted module refuses when it is made, when its step is moved, and of half-precision distributions."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.loader import load_module

TEXT = """
loss p:
    input x: real[n, c]
    input q: simplex[n, c] over c
    input u: unit[n, c] over c
    learnable w: real[c] > 0
    param a: real in (0, 1) = 0.5
    s = linear(step, 1, 0, 10)
    return mean(x^2 * w * q * u * s + a)
"""


@pytest.fixture(params=["torch", "triton"])
def made(request: pytest.FixtureRequest) -> ModuleType:
    source = Source("p.loss", TEXT)
    return load_module(pipeline.emit(source, pipeline.analyse(source).losses, request.param).text, "p.loss")


def test_a_step_does_not_go_back(made: ModuleType) -> None:
    module = made.P(w=torch.ones(3))
    module.advance(3)
    with pytest.raises(ValueError, match="forward, not by -1"):
        module.advance(-1)
    assert int(module.step) == 3


def test_tensors_are_tested_once_when_a_module_is_made(made: ModuleType) -> None:
    made.P(w=torch.ones(3), a=torch.tensor(0.25))
    with pytest.raises(ValueError, match=r"a = 2\.0 is outside of its range: a > 0 and a < 1"):
        made.P(w=torch.ones(3), a=torch.tensor(2.0))
    with pytest.raises(ValueError, match=r"w\[1\] = -1.0 is not > 0"):
        made.P(w=torch.tensor([1.0, -1.0, 1.0]))
    made.P(w=torch.ones(3, device="meta"), a=torch.tensor(2.0, device="meta"))  # has no values yet
    made.p(*(torch.zeros(2, 3) for _ in range(3)), w=torch.ones(3), a=torch.tensor(2.0))  # reading it would synchronise


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("count", [2, 7, 1000, 50_000])
def test_rounded_distributions_are_ones(made: ModuleType, dtype: torch.dtype, count: int) -> None:
    g = torch.Generator().manual_seed(0)
    for spread in (0, 1, 4):
        x = spread * torch.randn(4, count, generator=g)
        q, u = x.softmax(1).to(dtype), torch.nn.functional.normalize(x + 0.01, dim=1).to(dtype)
        w = torch.ones(count, dtype=dtype)
        made.p(x.to(dtype), q, u, w=w, check_inputs=True)
        made.p(x.to(dtype), x.to(dtype).softmax(1), u, w=w, check_inputs=True)
        with pytest.raises(ValueError, match="part of what sums to 1"):
            made.p(x.to(dtype), 0.9 * q, u, w=w, check_inputs=True)
        with pytest.raises(ValueError, match="of norm 1"):
            made.p(x.to(dtype), q, 0.9 * u, w=w, check_inputs=True)
