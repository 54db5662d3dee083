"""Rounding errors (`verify/errors.py`, `verify/rounding.py`): the records' model against torch and compiled C++, the rules at their edges, and
every bound against the float32 arithmetic of the emitted modules, compared with float64."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from native_module import pair

from lossdsl import pipeline
from lossdsl.catalogue import entries
from lossdsl.diagnostics import Source
from lossdsl.ir.build import BuiltLoss
from lossdsl.primitives import PRIMITIVES
from lossdsl.primitives.interval import Interval
from lossdsl.primitives.record import UNAVAILABLE, Dtype, Primitive
from lossdsl.transform.arithmetic import NotYetError
from lossdsl.verify import errors, rounding
from lossdsl.verify.brackets import NUMBERS, known
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.questions import ELEMENTWISE, Subject, subject
from lossdsl.verify.verdict import ERRORS, Proved, Unknown
from tests.test_primitive_texts import _function, _truth
from tests.test_verify import built

torch = pytest.importorskip("torch")

MODELLED = [
    p for p in PRIMITIVES.values() if p.accuracy is not None and p.result is Dtype.REAL and p.torch != UNAVAILABLE
]
FAST = ["huber", "focal", "log_cosh", "hinge", "tukey", "quantile", "gan_non_saturating_g", "poisson", "crps_gaussian"]


# ----------------------------------------------------------------------------------------------- the records' model


def _columns(p: Primitive, count: int) -> list[tuple[float, ...]]:
    rng = random.Random(p.name)
    points: list[tuple[float, ...]] = [tuple(map(float, map(np.float32, s))) for s in p.samples]
    while len(points) < count:
        scale = 10.0 ** rng.uniform(-6, 2)
        near = rng.choice((0.0, 0.0, 1.0, 2.0, -1.0))
        point = tuple(
            float(np.float32(near + rng.gauss(0, scale))) if d is Dtype.REAL else float(rng.randint(1, 5))
            for d in p.accepts
        )
        points.append(point)
    boxes = ((x, tuple(Interval(v, v) for v in x)) for x in points if all(abs(v) < 1e30 for v in x))
    return [x for x, b in boxes if p.defined(*b)]


@pytest.mark.parametrize("p", MODELLED, ids=lambda p: p.name)
def test_torch_keeps_to_the_accuracy_of_the_record(p: Primitive) -> None:
    functions = [_function(p, text) for text in {p.torch, p.torch_ad}] if p.arguments else []
    for point in _columns(p, 400):
        args = [torch.tensor([x]) if d is Dtype.REAL else int(x) for x, d in zip(point, p.accepts, strict=True)]
        if p.name == "real":
            continue
        exact = _truth(p, point)
        if not 1e-37 < abs(exact) < 3e38:
            continue
        assert p.accuracy is not None
        relative, absolute = p.accuracy(*(Interval(x, x) for x in point))
        for f in functions:
            off = abs(float(f(*args).double()) - exact)
            assert off <= (relative * abs(exact) + absolute) * errors.UNIT + 2.0**-126, (
                point,
                off / abs(exact) / errors.UNIT,
            )


def test_compiled_code_keeps_to_the_accuracy_of_the_records() -> None:
    """All functions of one or two real numbers in one loss each; float32 kernels against mpmath."""
    for p in MODELLED:
        if p.cxx == UNAVAILABLE or not p.arguments or p.accepts not in ((Dtype.REAL,), (Dtype.REAL, Dtype.REAL)):
            continue
        names = {"max2": "max", "min2": "min"}
        call = {"add": "x + y", "sub": "x - y", "mul": "x * y", "div": "x / y", "neg": "-x", "pow": "x^y"}.get(p.name)
        if p.name in ("inverse_mills", "expdiff", "sign"):  # not spelled in the language, or no error
            continue
        inputs = (
            "input x: real[n] > 0\n    input y: real[n]"
            if p.name == "pow"
            else f"input {', '.join('xy'[: len(p.accepts)])}: real[n]"
        )
        call = call or f"{names.get(p.name, p.name)}({', '.join('xy'[: len(p.accepts)])})"
        points = _columns(p, 300)
        columns = [torch.tensor([q[k] for q in points]) for k in range(len(p.accepts))]
        kernel = pair(f"loss t:\n    {inputs}\n    per = {call}\n    return mean(per)\n").native
        found = kernel(*columns, reduction="none").double().tolist()
        assert p.accuracy is not None
        for point, value in zip(points, found, strict=True):
            exact = _truth(p, point)
            if 1e-37 < abs(exact) < 3e38:
                relative, absolute = p.accuracy(*(Interval(x, x) for x in point))
                most = (relative * abs(exact) + absolute) * errors.UNIT + 2.0**-126
                assert abs(value - exact) <= most, (p.name, point, value, exact)


# ----------------------------------------------------------------------------------------------------- bounds


def _subject(loss: BuiltLoss) -> Subject | None:
    of = subject(loss, Context(loss.program))
    return of if of is not None and ELEMENTWISE in of.kinds else None


def bound(body: str, inputs: str = "input x: real[n]", word: str = "float32", wrt: str = "") -> errors.Bound:
    loss = built(f"loss t:\n    {inputs}\n    per = {body}\n    return mean(per)\n")
    return rounding.bound_of(Context(loss.program).at_defaults(), "per", word, wrt)[1]


def test_exact_operations_have_no_error() -> None:
    for body in ("-x", "abs(x)", "relu(x)", "2 * x", "x / 4", "max(x, 0)", "x if x > 0 else -x", "max(x, -2 * x)"):
        found = bound(body)
        assert found.relative < 1e-20, body
        assert found.absolute < 1e-20, body


def test_a_difference_is_off_by_its_own_rounding() -> None:
    """Relative to itself, however much the two cancel; relative to what it is made of where it is read apart, too."""
    pairs = "input x, y: real[n]"
    whole = bound("x - y", pairs)
    assert 2.0**-24 <= whole.relative < 2.0**-23
    assert whole.absolute == 0 or whole.absolute < 1e-30
    assert bound("x * x - y * y", pairs + " in [-1, 1]").absolute > 2.0**-25


def test_a_difference_may_overflow() -> None:
    """Of the largest numbers it does, whatever the exact value is: so the bound is of smaller ones."""
    found = bound("sin(x - y) / 1000000", "input x, y: real[n]")
    assert "abs(x) <= 8.50706e+37" in found.where


def test_errors_beyond_the_values_are_around_all_of_them() -> None:
    assert errors.around(Enclosure(1.0, 3.0), 2.0, 0.0).lo <= -3.0


def test_cancellation_is_seen() -> None:
    """1 - cos(x) has few digits left near 0, and 2 sin(x/2)^2 has all of them."""
    near = "input x: real[n] in [-0.01, 0.01]"
    naive, stable = bound("1 - cos(x)", near), bound("2 * sin(x / 2)^2", near)
    assert naive.absolute > 1e-7
    assert stable.relative * 5e-5 + stable.absolute < 1e-9


def test_bounds_are_of_what_is_compiled() -> None:
    """log(1 + exp(x)) is compiled as softplus(x), which has all digits far to the left."""
    naive, stable = (bound(b, "input x: real[n] in [-80, -40]") for b in ("log(1 + exp(x))", "softplus(x)"))
    assert naive.text() == stable.text()
    assert stable.absolute < 1e-18


def test_a_jump_is_an_error_only_where_it_may_be_missed() -> None:
    assert bound("1 if x > 1 else 0").absolute == 0  # the comparison is exact
    assert bound("1 if x^2 > 2 else 0").absolute >= 1  # the square is rounded
    assert bound("1 if 1 - x > 0 else 0").absolute == 0  # the difference is exact near 0
    assert bound("1 if x - y > 1 else 0", "input x, y: real[n]").absolute >= 1
    assert bound("1 if x > y else 0", "input x, y: real[n]").absolute == 0
    assert bound("floor(x * x) / 1").absolute >= 1
    assert bound("floor(2 * x) / 1").absolute < 1e-30


def test_a_continuous_branch_costs_little() -> None:
    assert bound("x^2 if x^2 < 2 else 2 + (x^2 - 2) / 2").relative < 1e-5


def test_what_may_not_be_bounded() -> None:
    for body, inputs in (
        ("1 / (x - y)^2", "input x, y: real[n]"),  # 0 is in the domain
        ("log(x * x)", "input x: real[n]"),
        ("exp(x)", "input x: real[n] >= 100"),  # it overflows everywhere
    ):
        with pytest.raises(errors.Unbounded):
            bound(body, inputs)


def test_domains_are_told() -> None:
    assert bound("x^2").where == " where abs(x) <= 9.22337e+18"
    assert bound("x^2", "input x: real[n] in [0, 1]").where == ""
    assert bound("exp(x)").where == " where abs(x) <= 64"
    assert "<= s <=" in bound("x^2 / s", "input x: real[n]\n    input s: real[n] > 0").where


def test_half_precision_gradients_are_rounded_once_more() -> None:
    single, half = bound("x^2", word="float32", wrt="x"), bound("x^2", word="float16", wrt="x")
    assert half.relative >= 2.0**-11 > single.relative
    assert half.absolute >= 2.0**-25
    assert bound("x^2", word="bfloat16", wrt="x").relative >= 2.0**-9 * 0.5


def test_verdicts_and_names() -> None:
    names = [n.name for n in NUMBERS]
    assert set(ERRORS) <= set(names)
    loss = built("loss t:\n    input x: real[n, c]\n    per = prod(x over c)\n    return mean(per)\n")
    found = rounding.error_in(Context(loss.program), "per", "float32")
    assert isinstance(found, Unknown)
    of = _subject(built("loss t:\n    input x: real[n]\n    per = x^2\n    return mean(per)\n"))
    assert of is not None
    verdict = rounding.error_in(known(of), of.target, "float32")
    assert isinstance(verdict, Proved)
    assert verdict.value is not None
    assert "abs(exact)" in verdict.value.text()


# -------------------------------------------------------------------------------------- emitted modules keep to them


def _numbers(where: str, name: str, box: tuple[float, float], count: int, rng: Any, half: bool) -> Any:
    """Numbers of the domain: of every magnitude, beside 1 and other round ones."""
    most = re.search(rf"abs\({name}\) <= ([0-9.e+-]+)", where)
    between = re.search(rf"([0-9.e+-]+) <= {name} <= ([0-9.e+-]+)", where)
    lo, hi = box
    if most:
        lo, hi = max(lo, -float(most[1]) * 0.999), min(hi, float(most[1]) * 0.999)
    if between:
        lo, hi = max(lo, float(between[1]) * 1.001), min(hi, float(between[2]) * 0.999)
    top = min(max(abs(lo), abs(hi)), 65504.0 if half else 1e38)
    size = np.exp(rng.uniform(np.log(1e-7 if half else 1e-20), np.log(top), count))
    round_ = rng.choice([0.0, 0.25, 0.5, 1.0, 2.0, 4.0], count) * (1 + rng.integers(-3, 4, count) * 2.0**-23)
    ordinary = rng.normal(0, 3, count)
    x = rng.choice([-1.0, 1.0], count) * np.where(rng.random(count) < 0.4, size, round_)
    x = np.where(rng.random(count) < 0.3, ordinary, x)
    if lo > 0:
        x = np.abs(x)
    return np.clip(x, lo, hi).astype(np.float16 if half else np.float32)


def _inputs(loss: BuiltLoss, where: str, count: int, half: bool) -> dict[str, Any]:
    rng = np.random.default_rng(len(loss.program.name) + count)
    ranges = Context(loss.program).at_defaults().ranges()
    found: dict[str, Any] = {}
    previous = None
    for i in loss.program.inputs:
        if i.default is not None:  # that is what the bound is for
            continue
        shape = [count if k == 0 else 1 for k, _ in enumerate(i.dims)]
        if i.kind in ("binary", "bool", "sign"):
            x = rng.integers(0, 2, count)
            x = 2 * x - 1 if i.kind == "sign" else x
            x = torch.tensor(x == 1) if i.kind == "bool" else torch.tensor(x)
        elif i.dtype.value != "real":
            x = torch.tensor(rng.integers(0, 20, count))
        else:
            box = ranges.input(i.name)
            open_ = 1e-6 if box.lo == 0 and box.lo_open else box.lo
            values = _numbers(
                where, i.name, (open_, 1 - 2.0**-11 if box.hi_open and box.hi == 1 else box.hi), count, rng, half
            )
            if previous is not None and not np.isfinite(box.lo):  # differences of every magnitude
                gap = _numbers(where, i.name, (box.lo / 2, box.hi / 2), count, rng, half)
                beside = np.clip(previous / 2 + gap / 2, values.min(), values.max()).astype(values.dtype)
                values = np.where(rng.random(count) < 0.5, beside, values)
            previous = values
            x = torch.tensor(values)
        found[i.name] = x.reshape(shape) if i.dims else x[:1].reshape(())
    return found


def _run(function: Any, given: dict[str, Any], wide: bool, wrt: str) -> Any:
    leaves = {k: x.double() if wide and x.is_floating_point() else x.clone() for k, x in given.items()}
    if not wrt:
        return function(**leaves, reduction="none")
    leaves[wrt].requires_grad_()
    return torch.autograd.grad(function(**leaves, reduction="sum"), leaves[wrt])[0]


def _assert_kept(loss: BuiltLoss, text: str, word: str, of: Subject) -> int:
    """How many bounds there are; every element that was computed is within each."""
    made, count = pair(text), 0
    ctx = known(of)
    for wrt in ("", of.prediction.name):
        try:
            _, found = rounding.bound_of(ctx, of.target, word, wrt)
        except errors.Unbounded:
            continue
        given = _inputs(loss, found.where, 60_000, word == "float16")
        for function in (made.native, made.plain):
            computed = _run(function, given, False, wrt).double()
            exact = _run(function, given, True, wrt)
            off = (computed - exact).abs() - (found.relative * exact.abs() + found.absolute)
            k = int(off.argmax())
            told = {n: x.flatten()[k % x.numel()].item() for n, x in given.items()}
            assert float(off.flatten()[k]) <= 0, (
                loss.program.name,
                word,
                wrt,
                found.text(),
                told,
                computed.flatten()[k],
                exact.flatten()[k],
            )
        count += 1
    return count


def _catalogue(name: str) -> tuple[BuiltLoss, str, Subject] | None:
    entry = next(e for e in entries() if e.name == name)
    text = entry.path.read_text()
    analysis = pipeline.analyse(Source(str(entry.path), text))
    loss = analysis.losses[0]
    of = _subject(loss)
    return None if of is None or len(analysis.losses) > 1 else (loss, text, of)


@pytest.mark.parametrize("name", FAST)
def test_emitted_modules_keep_to_the_bounds(name: str) -> None:
    case = _catalogue(name)
    assert case is not None
    loss, text, of = case
    assert _assert_kept(loss, text, "float32", of) == 2


@pytest.mark.slow
@pytest.mark.parametrize("word", ["float32", "float16"])
def test_the_whole_catalogue_keeps_to_the_bounds(word: str) -> None:
    count = 0
    for entry in entries():
        case = _catalogue(entry.name)
        if case is not None and case[0].program.reductions is not None:
            count += _assert_kept(case[0], case[1], word, case[2])
    assert count > 80


@pytest.mark.parametrize("name", ["hinge", "savage"])
def test_every_float16_number(name: str) -> None:
    """Of losses of one real number."""
    case = _catalogue(name)
    assert case is not None
    loss, text, of = case
    made = pair(text)
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    for wrt in ("", of.prediction.name):
        _, found = rounding.bound_of(known(of), of.target, "float16", wrt)
        limit = re.search(r"<= ([0-9.e+-]+)", found.where)
        x = every[np.abs(every) <= (float(limit[1]) if limit else 1e9)]
        others = [i for i in loss.program.inputs if i.name != of.prediction.name]
        for label in (0, 1):
            given = {of.prediction.name: torch.tensor(x)}
            given |= {i.name: torch.full((len(x),), 2 * label - 1 if i.kind == "sign" else label) for i in others}
            computed, exact = _run(made.native, given, False, wrt).double(), _run(made.native, given, True, wrt)
            assert bool(((computed - exact).abs() <= found.relative * exact.abs() + found.absolute).all())


def test_a_wrong_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack sees bounds that are too small."""
    case = _catalogue("focal")
    assert case is not None
    for name in ("exp", "softplus", "sigmoid", "logsigmoid", "mul", "sub", "pow", "powi"):
        if name in PRIMITIVES:
            monkeypatch.setitem(PRIMITIVES, name, replace(PRIMITIVES[name], accuracy=lambda *boxes: (0.01, 0)))
    with pytest.raises(AssertionError):
        _assert_kept(case[0], case[1], "float32", case[2])


# ------------------------------------------------------------------------------------------------------------- rows


def row(body: str, inputs: str = "input x: real[n, c]", *defined: str) -> errors.Bound:
    lines = "".join(f"    {line}\n" for line in defined)
    loss = built(f"loss t:\n    {inputs}\n{lines}    per = {body}\n    return mean(per)\n")
    return rounding.bound_of(Context(loss.program).at_defaults(), "per", "float32")[1]


def test_folds_at_their_edges() -> None:
    n = rounding.LONGEST[0]
    gamma = (n - 1) * errors.UNIT / (1 - (n - 1) * errors.UNIT)
    positive = row("sum(x over c)", "input x: real[n, c] in [0, 1]")
    assert gamma <= positive.relative <= 1.001 * gamma
    signed = row("sum(x over c)", "input x: real[n, c] in [-1, 1]")
    assert "at most 64" in signed.where
    assert signed.absolute >= 64 * 63 * errors.UNIT  # 1 - 1 + 1 - 1 ... in an order that is not known
    mean = row("mean(x over c)", "input x: real[n, c] in [-1, 1]")
    assert gamma <= mean.relative + mean.absolute <= 1.01 * gamma + 5 * errors.UNIT
    assert row("max(x over c)").size == 0
    assert row("argmax(x over c) / 2").size < 2.0**-120
    assert row("count(x > 0 over c) / 2").size < 2.0**-120
    spread = row("logsumexp(x over c)", "input x: real[n, c] in [-1, 1]")
    assert gamma < spread.absolute < 20 * gamma


def test_a_mean_is_that_of_one_row() -> None:
    """A sum over as many as another one has is no mean."""
    given = "input x: real[n, c] in [-1, 1]"
    lines = ("k[n] = count(x > 0 over c)", "s[n] = sum(x over c where x > 0)")
    own = row("0 if k == 0 else s / k", given, *lines)
    other = row("max(0 if k[m] == 0 else s[n] / k[m] over m)", given, "axis m = n", *lines)
    assert own.size < 1e-3
    assert "at most 64" in other.where
    assert other.size > 3 * own.size


def test_a_label_that_is_ignored_is_no_class() -> None:
    """Where none is left, the mean is over nothing."""
    given = "input x: real[n, c] in [0, 1]\n    input y: class[n, c] of k or ignore\n    param ignore: int = -100\n    axis k = 7"
    row("mean(x over c where y != ignore)", given)
    with pytest.raises(errors.Unbounded):
        row("sum(x over c where y != ignore) / count(y != ignore over c)", given)


def test_what_has_no_bound_in_rows() -> None:
    for body in (
        "argmax(x * x over c) / 2",  # which is the largest is rounded
        "count(x * x > 2 over c) / 2",
        "sum(x over c) / sum(x^2 over c)",  # which may be 0
        "1 / count(x > 0 over c)",
        "1 if sum(x over c) > 0 else 0",
        "prod(x over c)",
    ):
        with pytest.raises(errors.Unbounded):
            row(body)


def test_what_is_divided_by_a_number_that_may_be_0() -> None:
    guarded = row(
        "0 if k == 0 else s / k",
        "input x: real[n, c] in [0, 1]",
        "k = count(x > 0.5 over c)",
        "s = sum(x over c where x > 0.5)",
    )
    assert guarded.size < 1e-2
    with pytest.raises(errors.Unbounded):  # what is guarded in one place is not in the other
        row(
            "(0 if k == 0 else m + s / k) + m",
            "input x: real[n, c] in [0, 1]",
            "k = count(x > 0.5 over c)",
            "s = sum(x over c where x > 0.5)",
            "m = s / k",
        )


ROWS = [
    "cross_entropy",
    "brier",
    "kl_divergence",
    "generalised_ce",
    "dice",
    "semantic_loss",
    "crammer_singer",
    "geometric_loss",
]
LONG = 700


def _entries(where: str, i: Any, box: Any, shape: list[int], rng: Any) -> Any:
    """Entries in the domain of a bound: ordinary ones, all near its ends, alike, or one that is large among small ones."""
    most = re.search(rf"abs\({i.name}\) <= ([0-9.e+-]+)", where)
    between = re.search(rf"([0-9.e+-]+) <= {i.name}(?: <= ([0-9.e+-]+))?", where)
    lo, hi = max(box.lo, -1e3), min(box.hi, 1e3)
    if most:
        lo, hi = max(box.lo, -float(most[1])), min(box.hi, float(most[1]))
    if between:
        lo, hi = float(between[1]), min(box.hi, float(between[2] or 1e3))
    x = rng.normal(0, 3, shape)
    match rng.integers(0, 5):
        case 0:
            x = rng.choice([lo, hi], shape) * (1 - rng.integers(0, 5, shape) * 2.0**-20)
        case 1:
            x = np.full(shape, rng.uniform(lo, hi)) + rng.normal(0, 1e-3, shape)
        case 2:
            x = np.where(rng.random(shape) < 3 / max(x.size, 1), hi, lo * 0.5 + hi * 0.25)
        case 3:
            x = np.abs(x)
    return np.clip(x, lo, hi).astype(np.float32)


def _row_inputs(loss: BuiltLoss, where: str, longest: int, rng: Any) -> dict[str, Any] | None:
    symbols = sorted({s for i in loss.program.inputs for d in i.dims for s in d.symbols()})
    given = {p.name: int(p.default.value) for p in loss.program.parameters if p.default is not None and p.kind == "int"}
    symbols = [s for s in symbols if s not in given]
    sizes = {**given, **{s: int(rng.integers(1, 6)) for s in symbols}}
    if symbols:
        sizes[symbols[rng.integers(0, len(symbols))]] = min(longest, LONG)
    ranges = Context(loss.program).at_defaults().ranges()
    found: dict[str, Any] = {}
    for i in loss.program.inputs:
        if i.default is not None:
            continue
        if i.role != "input":
            return None
        shape = [d.evaluate(sizes) for d in i.dims]
        if i.kind in ("bool", "binary", "sign"):
            x = rng.integers(0, 2, shape)
            found[i.name] = torch.tensor(x == 1 if i.kind == "bool" else 2 * x - 1 if i.kind == "sign" else x)
        elif i.kind == "class":
            assert i.classes is not None
            found[i.name] = torch.tensor(rng.integers(0, max(i.classes.evaluate(sizes), 1), shape))
        elif i.dtype.value != "real":
            box = ranges.input(i.name)
            found[i.name] = torch.tensor(rng.integers(max(box.lo, -1), min(box.hi, 5), shape, endpoint=True))
        elif i.kind in ("simplex", "unit"):
            x = torch.tensor(rng.gamma(0.5, 1, shape) + 1e-6, dtype=torch.float64)
            norm = x if i.kind == "simplex" else x**2
            total = norm.sum(dim=i.over, keepdim=True)
            found[i.name] = (x / (total if i.kind == "simplex" else total.sqrt())).float()
        else:
            found[i.name] = torch.tensor(_entries(where, i, ranges.input(i.name), shape, rng))
    return found


def _assert_rows_kept(loss: BuiltLoss, text: str, of: Subject, runs: int) -> int:
    made, count = pair(text), 0
    for wrt in ("", of.prediction.name):
        try:
            _, found = rounding.bound_of(known(of), of.target, "float32", wrt)
        except (errors.Unbounded, NotYetError):
            continue
        rng = np.random.default_rng(len(text))
        longest = max((n for n in rounding.LONGEST if f"at most {n}" in found.where), default=64)
        for _ in range(runs):
            given = _row_inputs(loss, found.where, longest, rng)
            if given is None:
                return count
            for function in (made.native, made.plain):
                computed = _row(function, loss, given, False, wrt).double()
                exact = _row(function, loss, given, True, wrt)
                off = (computed - exact).abs() - (found.relative * exact.abs() + found.absolute)
                assert bool((off <= 0).all()), (loss.program.name, wrt, found.text(), float(off.max()))
        count += 1
    return count


def _row(function: Any, loss: BuiltLoss, given: dict[str, Any], wide: bool, wrt: str) -> Any:
    if loss.program.reductions is not None:
        return _run(function, given, wide, wrt)
    leaves = {k: x.double() if wide and x.is_floating_point() else x.clone() for k, x in given.items()}
    if not wrt:
        return function(**leaves)
    leaves[wrt].requires_grad_()
    value = function(**leaves)
    if not value.requires_grad:
        return torch.zeros_like(leaves[wrt])
    return torch.autograd.grad(value, leaves[wrt])[0]


def _row_case(name: str) -> tuple[BuiltLoss, str, Subject] | None:
    entry = next(e for e in entries() if e.name == name)
    text = entry.path.read_text()
    (loss, *more) = pipeline.analyse(Source(str(entry.path), text)).losses
    of = subject(loss, Context(loss.program))
    return None if of is None or more or ELEMENTWISE in of.kinds else (loss, text, of)


@pytest.mark.parametrize("name", ROWS)
def test_modules_of_rows_keep_to_the_bounds(name: str) -> None:
    case = _row_case(name)
    assert case is not None
    assert _assert_rows_kept(*case, runs=6) > 0


@pytest.mark.slow
def test_all_rows_keep_to_the_bounds() -> None:
    count = 0
    for entry in entries():
        case = _row_case(entry.name)
        if case is not None:
            count += _assert_rows_kept(*case, runs=12)
    assert count > 60
