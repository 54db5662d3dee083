"""What a user may get wrong, in the file and in a call: each has a documented outcome, and none is a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lossdsl
from lossdsl import pipeline
from lossdsl.diagnostics import Source

F64 = torch.float64

# (lines of a loss over `x: real[t]`, code, line of the finding)
FILES = {
    "reads ahead": ("    a[t] = x + a[t = t + 1 else 0] + a[t = t - 1 else 0]\n    return sum(a)", "E0208", 3),
    "in a circle": ("    p[t] = q + x\n    q[t] = p * 2\n    return sum(p)", "E0205", 3),
    "table too short": ("    axis k = 4\n    return sum([1, 2, 3][k] * x)", "E0405", 4),
    "gather by a real": ("    input g: real[m]\n    return sum(x[t = g])", "E0408", 4),
    "state without update": ("    state s: real = 0\n    return mean(x) + s", "E0414", 3),
    "schedule of negative length": ("    return mean(x) * linear(step, 0, 1, -3)", "E0409", 3),
    "matrix that is not square": ("    input m: real[d, f]\n    return logdet(m over d, f) + sum(x)", "E0302", 4),
    "empty maximum": ("    return max(x over t where x > 0)", "E0404", 3),
    "default that is no sign": ("    input y: sign[t] = 0\n    return mean(x * y)", "E0407", 3),
    "default that is no label of two": ("    input y: binary[t] = 3\n    return mean(x * y)", "E0407", 3),
    "default of no simplex": ("    input p: simplex[t, 3] over t = 1/3\n    return mean(x * p[t, 0])", "E0407", 3),
    "default that is no unit": (
        "    axis k = 4\n    input p: unit[k] over k = 1\n    return mean(x * p[0])",
        "E0407",
        4,
    ),
    "default that is no number": ("    param w: real = nan\n    return mean(x) * w", "E0407", 3),
}


@pytest.mark.parametrize("name", FILES)
def test_in_a_file(name: str) -> None:
    body, code, line = FILES[name]
    source = Source("a.loss", f"loss a:\n    input x: real[t]\n{body}\n")
    found = [d for d in pipeline.analyse(source).diagnostics if d.code.startswith("E")]
    assert [(d.code, d.span.line) for d in found] == [(code, line)]
    assert found[0].help
    assert found[0].span.column > 0
    with pytest.raises(lossdsl.LossError, match=code):
        lossdsl.loads(source.text)


def test_used_losses_with_one_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "gap.loss").write_text("loss gap:\n    input x: real[n]\n    return mean(x)\n")
    text = "use one.gap\nuse two.gap\nloss a:\n    input x: real[n]\n    return gap(x)\n"
    path = tmp_path / "a.loss"
    path.write_text(text)
    (found,) = [d for d in pipeline.analyse(Source(str(path), text)).diagnostics if d.code.startswith("E")]
    assert (found.code, found.span.line) == ("E0202", 2)
    assert "as name" in found.help


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=F64).requires_grad_()


def loss(text: str) -> Any:
    return lossdsl.loads(f"loss a:\n{text}")


MASKED = """
    input x: real[b, t]
    input mask: bool[b, t]
    a = softmax(x over t where mask)
    some = mean(logsumexp(x over t where mask) where any(mask over t))
    spread = sum(std(x over t where mask)) + sum(median(x over t where mask else 0))
    return mean(x^2 over b, t where mask) + sum(a) + sum(max(x over t where mask else 0)) + some + spread
"""


def test_an_all_masked_batch_is_zero_without_gradient() -> None:
    x = leaf(2, 3)
    value = loss(MASKED).function(x, torch.zeros(2, 3, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


def test_sequences_of_no_length() -> None:
    text = """
    input x: real[b, t]
    input length: int[b] in [0, size(t)]
    run[b, t] = x + 0.5 * run[b, t - 1 else 0]
    return mean(max(run over t where t < length else 0))
"""
    function = loss(text).function
    x = leaf(2, 4)
    function(x, torch.tensor([0, 3])).backward()
    assert x.grad is not None
    assert not x.grad[0].any()
    assert x.grad[1].any()
    assert function(leaf(2, 0), torch.tensor([0, 0])).item() == 0
    assert function(leaf(0, 3), torch.tensor([], dtype=torch.int64)).item() == 0


def test_ties_go_to_the_first() -> None:
    text = "    input x: real[n]\n    return max(x) + 10 * quantile(x, q = 0 over n) + 100 * median(x) + argmax(x)\n"
    x = torch.ones(4, dtype=F64, requires_grad=True)
    value = loss(text).function(x)
    value.backward()
    assert value.item() == 111
    assert x.grad is not None
    assert x.grad.tolist() == [11, 50, 50, 0]  # the median of four is the mean of the second and the third


def test_matrices_that_are_not_positive_definite() -> None:
    text = "    input m: real[d, f]\n    axis f = d\n    return logdet(m over d, f)\n"
    function = loss(text).function
    assert function(-torch.eye(3, dtype=F64)).item() == 0  # log |det|
    assert function(torch.zeros(3, 3, dtype=F64)).item() == -torch.inf
    assert function(torch.full((2, 2), torch.nan, dtype=F64)).isnan()


def test_labels() -> None:
    text = "    input x: real[n, c]\n    input y: class[n] of c\n    return mean(-log_softmax(x over c)[c = y])\n"
    function = loss(text).function
    x = leaf(3, 4)
    y = torch.tensor([0, 4, 1])
    value = function(x, y)
    value.backward()
    assert value.isnan()
    assert x.grad is not None
    assert not x.grad[1].any()
    assert x.grad[0].all()
    with pytest.raises(ValueError, match=r"y\[1\] = 4"):
        function(x, y, check_inputs=True)
    with pytest.raises(TypeError, match="integer"):
        function(x, y.double())


def test_a_learnable_value_of_unknown_shape_is_asked_for() -> None:
    made = loss("    input x: real[n]\n    learnable w: real[k] = 0\n    return mean(x) + sum(w)\n")
    with pytest.raises(TypeError, match="extent k"):
        made()
    with pytest.raises(TypeError, match="extent k"):
        made(k=-1)
    with pytest.raises(TypeError, match="'w'"):
        made.function(leaf(3))
    assert made(k=2).w.shape == (2,)


def test_a_schedule_without_steps_is_at_its_end() -> None:
    text = "    input x: real[n]\n    param steps: int = 4\n    return mean(0 * x) + linear(step, 0, 1, steps)\n"
    function = loss(text).function
    assert [function(leaf(2), steps=s, step=2).item() for s in (4, 0, -5)] == [0.5, 1, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("    param a: real = 2\n    return a^2\n", "has no input"),
        ("    input w: real[n] = 1\n    return mean(w)\n", "only `w`, which may be left out"),
        ("    input x: real[n]\n    input w: real[k] = 1\n    return mean(x) + sum(w)\n", "how long the axis `k` is"),
    ],
)
def test_a_call_that_would_not_say_enough_is_not_compiled(text: str, words: str) -> None:
    with pytest.raises(lossdsl.LossError, match="E0501") as raised:
        loss(text)
    assert words in str(raised.value)


@pytest.mark.parametrize("index", ["y", "y + 1", "y - 1"])
def test_a_default_that_is_a_place(index: str) -> None:
    """Where there is no such place, NaN, as for a label that is given."""
    text = f"    input x: real[n, c]\n    input y: int[n] = 1\n    return sum(x[c = {index} else 0])\n"
    function = loss(text).function
    for classes in (3, 2, 1):
        x, other = leaf(2, classes), leaf(2, classes)
        left, given = function(x), function(other, torch.ones(2, dtype=torch.long))
        torch.testing.assert_close(left, given)
        torch.testing.assert_close(torch.autograd.grad(left, x), torch.autograd.grad(given, other))


def test_a_label_that_may_be_left_out() -> None:
    text = "    input x: real[n, c]\n    input y: class[n] of c = 0\n    return -mean(log_softmax(x over c)[c = y])\n"
    function, x = loss(text).function, leaf(4, 3)
    wanted = torch.nn.functional.cross_entropy(x, torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(function(x), wanted)
    torch.testing.assert_close(torch.autograd.grad(function(x), x), torch.autograd.grad(wanted, x))


def test_the_last_of_what_is_not_there_is_no_place() -> None:
    text = (
        "    input x: real[n, c]\n    input i: class[m] of n\n    input j: class[m] of c\n"
        "    return sum(x[n = i, c = j[m = last else 0]])\n"
    )
    function, x = loss(text).function, leaf(4, 3)
    i, j = torch.tensor([0, 3, 1]), torch.tensor([0, 1, 2])
    for k in (3, 1, 0):
        value, wanted = function(x, i[:k], j[:k]), x[i[:k], j[k - 1 :][:1].expand(k)].sum()
        torch.testing.assert_close(value, wanted)
        torch.testing.assert_close(torch.autograd.grad(value, x), torch.autograd.grad(wanted, x))
