"""Which masks of loads a kernel leaves out, and that what they hid never comes out."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch_losses import function

import lossdsl
from lossdsl.backends.torch_masks import masks
from lossdsl.lower.plan import AxisRef, Fold, Literal, Load, Op, Operand, Statement, Store, Subscript, Value

AT = (Subscript((("n", 1),)),)
ZERO, INF = Literal(Fraction(0)), Literal("-inf")


def load(name: str, guard: Operand | None, type_: str = "acc") -> Load:
    return Load(name, type_, "x", AT, guard, ZERO)


def op(name: str, type_: str, head: str, *args: Operand) -> Op:
    return Op(name, type_, head, args)


A, B, X = Value("a"), Value("b"), Value("x")
CONDITIONS: list[Statement] = [load("a", None, "bool"), load("b", None, "bool"), op("ab", "bool", "and", A, B)]
STORE = Store("y", AT, Value("y"))


@pytest.mark.parametrize(
    ("rest", "dropped"),
    [
        ([op("e", "acc", "exp", X), op("y", "acc", "select", Value("ab"), Value("e"), ZERO)], True),
        # a part of the guard at each of two selections
        (
            [op("e", "acc", "exp", X), op("f", "acc", "select", A, Value("e"), ZERO), op("y", "acc", "select", B, Value("f"), ZERO)],
            True,
        ),
        ([op("e", "acc", "exp", X), op("y", "acc", "select", A, Value("e"), ZERO)], False),  # b is not asked for
        ([op("e", "acc", "exp", X), op("y", "acc", "select", Value("ab"), ZERO, Value("e"))], False),  # the other side
        ([op("e", "acc", "exp", X), op("y", "acc", "add", Value("e"), X)], False),
        (
            [op("c", "bool", "gt", X, ZERO), op("d", "acc", "select", Value("c"), ZERO, INF), op("y", "acc", "select", Value("ab"), Value("d"), ZERO)],
            False,
        ),
        ([op("e", "acc", "exp", X), Fold("y", "acc", "sum", ("n",), Value("e"), Value("ab"))], True),
        ([op("e", "acc", "exp", X), Fold("y", "acc", "sum", ("n",), Value("e"), A)], False),
    ],
)  # fmt: skip
def test_masks_that_a_selection_repeats(rest: list[Statement], dropped: bool) -> None:
    found = masks([*CONDITIONS, load("x", Value("ab")), *rest, STORE])
    assert (found.dropped == {"x"}) is dropped
    assert not found.pads


def test_a_selection_right_after_a_load_is_its_padding() -> None:
    select = op("y", "acc", "select", Value("ab"), X, INF)
    found = masks([*CONDITIONS, load("x", Value("ab")), select, STORE])
    assert (found.pads, found.passed) == ({"x": INF}, {"y": "x"})
    twice = masks([*CONDITIONS, load("x", Value("ab")), select, op("z", "acc", "exp", X), STORE])
    assert not twice.pads


def test_conditions_of_the_round_are_left_to_python() -> None:
    first = op("r", "bool", "ge", AxisRef("t"), Literal(Fraction(1), "int"))
    both = op("ra", "bool", "and", Value("r"), A)
    rest = [op("e", "acc", "exp", X), op("y", "acc", "select", A, Value("e"), ZERO), STORE]
    statements = [*CONDITIONS, first, both, load("x", Value("ra")), *rest]
    assert masks(statements, ("t",)).dropped == {"x"}
    assert not masks(statements).dropped


def test_what_is_not_masked_never_comes_out() -> None:
    fn = function("""
loss chain:
    input x, y: real[b, t]
    input keep: bool[b, t]
    a[b, t] = log(y) if t == 0 else (log(x) * a[b, t - 1] if keep else y)
    return sum(a)
""")
    x = torch.rand(3, 5, dtype=torch.float64) + 0.5
    y, keep = torch.rand(3, 5, dtype=torch.float64) + 0.5, torch.rand(3, 5) < 0.5
    keep[:, 2], keep[1, 3] = False, True
    poisoned = torch.where(keep, x, torch.nan)
    results = []
    for given in (x, poisoned):
        leaves = [given.clone().requires_grad_(), y.clone().requires_grad_()]
        value = fn(*leaves, keep)
        dx, dy = torch.autograd.grad(value, leaves)
        assert dx[~keep].eq(0).all()
        results.append((value, dx, dy))
    for clean, other in zip(*results, strict=True):
        torch.testing.assert_close(clean, other)


STOPPED = [  # (what is returned, the same in torch): what is stopped is read as it is, whatever masks the rest
    ("sum(w * stop(x)) + sum(x where w <= 0)", lambda x, w: (w * x.detach()).sum() + x[w <= 0].sum()),
    ("sum(w * stop(x)) + max(x where w <= 0 else 3)", lambda x, w: (w * x.detach()).sum() + x[w <= 0].max()),
    (
        "sum(w * straight_through(floor(x), x)) + sum(x where w <= 0)",
        lambda x, w: (w * (x + (x.floor() - x).detach())).sum() + x[w <= 0].sum(),
    ),
    (
        "sum(w * stop(exp(x))) + sum(x^2 if w > 0 else 0)",
        lambda x, w: (w * x.exp().detach()).sum() + (x**2)[w > 0].sum(),
    ),
]


@pytest.mark.parametrize(("returned", "reference"), STOPPED)
def test_what_is_stopped_is_not_masked(returned: str, reference: Callable[..., torch.Tensor]) -> None:
    ours = lossdsl.loads(f"loss l:\n    input x, w: real[n]\n    return {returned}\n").function
    x = torch.tensor([1.25, 2.5, 3.75, 4.0], dtype=torch.float64)
    w = torch.tensor([-1.0, 1.0, 2.0, -3.0], dtype=torch.float64)
    for given in ((x, w), (-x, w), (x, -w)):
        found = torch.func.grad_and_value(ours, (0, 1))(*given)
        wanted = torch.func.grad_and_value(reference, (0, 1))(*given)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(torch.func.vmap(ours)(*(t[None] for t in given))[0], wanted[1])


OUTSIDE = {
    "one bound": "return sum(x * w[k = i] over n, l where i >= 0)",
    "another number": "return sum(x * w[k = i] over n, l where i != -1)",
    "a name": "j[n, l] = i + 0\n    s[n, l] = x * w[k = j] if j != -1 else 0\n    return sum(s)",
    "a sum": "s[n, l] = x * (1 + w[k = i]) if i >= 0 else 0\n    return sum(s)",
    "a quotient": "s[n, l] = x / (w[k = i] + 2) if i >= 0 else 0\n    return sum(s)",
    "a product of three": "s[n, l] = x * w[k = i] * v if i >= 0 else 0\n    return sum(s)",
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_place_out_of_range_under_a_condition_is_in_no_derivative(name: str) -> None:
    """The factor beside it has fewer axes: its derivative is a sum of what is needed and of what is not."""
    declared = "input x: real[n]\n    input w: real[k]\n    input v: real[n, l]\n    input i: int[n, l]"
    f = lossdsl.loads(f"loss p:\n    {declared}\n    {OUTSIDE[name]}\n").function
    x, w = torch.tensor([1.0, 3.0]).double(), torch.tensor([0.5, 2.0, -1.0]).double()
    v, i = torch.ones(2, 2).double(), torch.tensor([[0, -1], [1, 2]])
    leaves = [a.clone().requires_grad_() for a in (x, w, v)]
    wanted = torch.autograd.grad(f(*leaves, i), leaves, allow_unused=True, materialize_grads=True)
    assert all(torch.isfinite(g).all() for g in wanted)
    for got, want in zip(torch.func.grad(lambda *a: f(*a, i), (0, 1, 2))(x, w, v), wanted, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    "lines",
    [
        "k = count(true over n where m)\n    return sum(y * (k - n))",
        "s[b, n] = sort(y over n where m else 0)\n    k = count(m over n)\n    return sum(s[n = k - 1 - n else 0]^2)",
    ],
)
def test_a_count_is_no_place_for_conditions(lines: str) -> None:
    f = lossdsl.loads(f"loss p:\n    input y: real[b, n]\n    input m: bool[b, n]\n    {lines}\n").function
    y, m = torch.randn(2, 4, dtype=torch.float64), torch.tensor([[True, False, True, True], [False] * 4])
    leaf = y.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(leaf, m), leaf)
    torch.testing.assert_close(f(y, m), f(leaf, m).detach())
    torch.testing.assert_close(torch.func.grad(f)(y, m), gradient)
