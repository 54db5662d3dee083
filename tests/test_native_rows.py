"""Compiled kernels for rows that stay in a cache, rows that do not, and results that are written past the caches."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from native_module import Pair, assert_same, pair, value_and_gradients

torch = pytest.importorskip("torch")
from torch_losses import HUBER  # noqa: E402

from lossdsl import catalogue  # noqa: E402
from lossdsl.backends.native_resident import ROOM, ROOMS, costly  # noqa: E402
from lossdsl.backends.native_stream import LARGE  # noqa: E402
from lossdsl.primitives import CXX_HELPERS  # noqa: E402

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler")

# A log-sum-exp of what takes an exponential itself, with a condition, and its softmax in two spellings.
TWICE = """
loss twice:
    input x: real[n, c]
    input keep: bool[n, c]
    z = softplus(x) - x^2 / 8
    whole[n] = logsumexp(z over c)
    some[n] = logsumexp(x over c where keep)
    weight = exp(z - whole)
    per[n] = sum(weight * log(1 + x^2) over c) + some - whole / 2
    return mean(per)
"""


# What takes an exponential varies along columns alone, and two passes read it.
COLUMNS = """
loss columns:
    input x: real[n, c, ...]
    input w: real[c]
    scale = softplus(w)
    total[n, ...] = sum(scale * x over c)
    per[n, ...] = sum(scale * (x - total) ^ 2 over c) + logsumexp(scale * x over c)
    return mean(per)
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSDSL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("LOSSDSL_NATIVE", raising=False)
        patch.delenv("LOSSDSL_CXXFLAGS", raising=False)
        yield


def text_of(name: str) -> str:
    path, _ = catalogue.find(name)
    return Path(path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def losses() -> dict[str, Pair]:
    made = {name: pair(text_of(name)) for name in ("cross_entropy", "distill_jsd", "distill_forward_kl")}
    return {**made, "huber": pair(HUBER), "twice": pair(TWICE)}


def random(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs_of(name: str, *shape: int) -> dict[str, Any]:
    x = 3 * random(*shape)
    match name:
        case "cross_entropy":
            target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=torch.Generator().manual_seed(1))
            return {"logits": x, "target": target}
        case "twice":
            return {"x": x / 3, "keep": random(*shape, seed=5) > -1}
    return {"student": x, "teacher": random(*shape, seed=2), "mask": torch.arange(shape[0]) != 1}


def compare(made: Pair, inputs: dict[str, Any], tolerance: float = 2e-5) -> None:
    wrt = tuple(n for n in ("logits", "student", "teacher", "x", "pred") if n in inputs)
    ours, theirs = (value_and_gradients(f, inputs, wrt) for f in (made.native, made.plain))
    assert_same(ours, theirs, tolerance)
    exact = {k: t.double() if t.is_floating_point() else t for k, t in inputs.items()}
    assert_same(*(value_and_gradients(f, exact, wrt) for f in (made.native, made.plain)), 1e-11)
    assert any(library is not None for library in made.module._NATIVE_LOADED.values())
    assert not made.module._NATIVE_TOLD  # every kernel was built


# Rows of one block, of several, of a block and a part; the longest that is kept, and one more.
@pytest.mark.parametrize("shape", [(3, 64), (5, 130), (2, 4099), (2, ROOM), (2, ROOM + 1)])
@pytest.mark.parametrize("name", ["cross_entropy", "distill_jsd", "distill_forward_kl", "twice"])
def test_rows_in_and_beyond_a_cache(losses: dict[str, Pair], name: str, shape: tuple[int, ...]) -> None:
    compare(losses[name], inputs_of(name, *shape))


# Lanes along rows: whole blocks and parts, the most columns that are kept of a block, and one more.
@pytest.mark.parametrize("shape", [(2, 5, 300), (1, 512, 20), (1, 513, 20), (2, 600, 257), (3, 40, 3)])
def test_columns_with_lanes_along_rows(losses: dict[str, Pair], shape: tuple[int, ...]) -> None:
    compare(losses["cross_entropy"], inputs_of("cross_entropy", *shape))


@pytest.mark.parametrize("shape", [(2, 5, 300), (3, 130), (2, 20, 3)])
def test_what_lanes_have_in_common_is_not_kept(shape: tuple[int, ...]) -> None:
    compare(pair(COLUMNS), {"x": random(*shape), "w": random(shape[1], seed=4)})


def test_words_of_the_text_may_be_names() -> None:
    """Inputs and definitions called as the variables around them."""
    text = """
loss names:
    input resident, whole: real[n, c, ...]
    in_cache[n, ...] = logsumexp(resident over c)
    in_blocks = exp(resident - in_cache) * whole
    per[n, ...] = sum(in_blocks over c)
    return mean(per)
"""
    made = pair(text)
    for shape in ((3, 130), (2, 5, 70), (2, 20, 3)):
        given = {"resident": random(*shape), "whole": random(*shape, seed=3)}
        ours, theirs = (value_and_gradients(f, given, ("resident", "whole")) for f in (made.native, made.plain))
        assert_same(ours, theirs, 2e-5)
    assert not made.module._NATIVE_TOLD


@pytest.mark.parametrize("name", ["cross_entropy", "distill_jsd", "distill_forward_kl", "twice"])
@pytest.mark.parametrize("entry", [torch.inf, -torch.inf, torch.nan, 3e38, -3.4028234663852886e38])
@pytest.mark.parametrize("columns", [70, ROOM + 1])
def test_extreme_entries(losses: dict[str, Pair], name: str, entry: float, columns: int) -> None:
    """As torch operations have them: one such entry, a row of nothing else, the largest term at an end."""
    inputs = inputs_of(name, 4, columns)
    for tensor in inputs.values():
        if tensor.is_floating_point():
            tensor[0, 65], tensor[2], tensor[3, -1] = entry, entry, entry
    if name == "twice":
        inputs["x"] = inputs["x"].clamp(-1e15, 1e15) if abs(entry) > 1e38 and entry == entry else inputs["x"]
    wrt = tuple(n for n in ("logits", "student", "x") if n in inputs)
    for row in range(4):
        one = {k: t[row : row + 1] for k, t in inputs.items()}
        ours, theirs = (value_and_gradients(f, one, wrt) for f in (losses[name].native, losses[name].plain))
        assert_same(ours, theirs, 3e-5)


def test_far_below_the_largest_term(losses: dict[str, Pair]) -> None:
    """Exponentials that are denormal or 0 in the type are so in the gradient."""
    x = -torch.linspace(0, 120, 200)[None]
    ours, theirs = (
        value_and_gradients(f, {"logits": x, "target": torch.tensor([0])}, ("logits",), reduction="sum")
        for f in (losses["cross_entropy"].native, losses["cross_entropy"].plain)
    )
    exact = torch.softmax(x.double(), -1) / 2  # the incoming gradient is 0.5
    for found, tolerance in ((ours[1], 4e-6), (theirs[1], 2e-5)):
        error = (found[0, 1:].double() - exact[0, 1:]).abs()
        assert (error <= tolerance * exact[0, 1:] + 2e-45).all()


@pytest.mark.parametrize("columns", [1024, 1021])
def test_large_results(losses: dict[str, Pair], columns: int) -> None:
    """Lines that begin where a line of memory does are written past the caches, others are not: the same values."""
    rows = LARGE // 4 // columns + 1
    compare(losses["huber"], {"pred": random(rows, columns), "target": random(rows, columns, seed=3)})
    compare(losses["cross_entropy"], inputs_of("cross_entropy", rows, columns))
    compare(losses["cross_entropy"], inputs_of("cross_entropy", 2, 100, rows * columns // 200))


def test_large_results_with_threads(losses: dict[str, Pair]) -> None:
    inputs = inputs_of("cross_entropy", 4200, 1000)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(value_and_gradients(losses["cross_entropy"].native, inputs, ("logits",)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_what_is_kept_is_read_again(losses: dict[str, Pair]) -> None:
    """The text of rows in a cache has one exponential for each term of a log-sum-exp, and none for its softmax."""
    text = losses["distill_jsd"].text
    assert re.search(r"resident \? \w+_kept\[\w+\] \* \w+_factor :", text)
    assert re.search(r"if \(resident\) \w+_kept\[\w+\] = \w+;", text)
    assert costly("softplus")
    assert costly("logaddexp")
    assert not costly("max")
    assert not costly("sub")


def test_rooms_are_as_large_as_the_condition_says() -> None:
    assert f"rooms[{ROOMS}][{ROOM}]" in CXX_HELPERS["_h_room"]
