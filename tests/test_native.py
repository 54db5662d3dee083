"""Compiled kernels on a CPU: the same values and gradients as torch operations, and every way in which building fails."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_module import Pair, assert_same, pair, value_and_gradients
from references import EXAMPLES, REFERENCES

torch = pytest.importorskip("torch")
from torch_losses import CROSS_ENTROPY, HUBER, INFO_NCE, MASKED, WORST, spec  # noqa: E402

import lossdsl  # noqa: E402
from lossdsl.backends import emit_native  # noqa: E402
from lossdsl.lower.plan import Kernel, Literal, Op  # noqa: E402

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler")
pytestmark = needs_compiler

TESTS = Path(__file__).parent
SAMPLE = (
    *("huber", "focal", "cross_entropy", "kl_divergence", "jensen_shannon", "dice", "info_nce", "ssim", "gae"),
    *("focal_multiclass", "multiclass_hinge", "sparsemax", "conservation"),
)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of its own, and quick builds: what a compiler optimises is not the question here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSDSL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LOSSDSL_CXXFLAGS", "-O1")
        patch.delenv("LOSSDSL_NATIVE", raising=False)
        yield


def used(made: Pair) -> bool:
    """Whether compiled kernels were loaded."""
    return any(library is not None for library in made.module._NATIVE_LOADED.values())


def catalogue(name: str, dtypes: tuple[Any, ...]) -> None:
    reference = REFERENCES[name]
    made = pair((EXAMPLES / f"{reference.file}.loss").read_text())
    for seed, case in enumerate(reference.cases):
        arrays, parameters = case(np.random.default_rng(seed))
        wrt = reference.gradients(arrays)
        for dtype in dtypes:
            inputs = {k: torch.tensor(a) for k, a in arrays.items()}
            inputs = {k: t.to(dtype) if t.is_floating_point() else t for k, t in inputs.items()}
            ours = value_and_gradients(made.native, inputs, wrt, **parameters)
            theirs = value_and_gradients(made.plain, inputs, wrt, **parameters)
            assert_same(ours, theirs, 1e-9 if dtype == torch.float64 else 2e-4)
            if dtype == torch.float64:
                wanted = value_and_gradients(reference.value, inputs, wrt, **parameters)
                for a, b in zip(ours, wanted, strict=True):
                    scale = float(b.nan_to_num(0.0, 0.0, 0.0).abs().max()) if b.numel() else 0.0
                    torch.testing.assert_close(
                        a.double().reshape(b.shape), b.double(), rtol=1e-8, atol=1e-8 * scale + 1e-12, equal_nan=True
                    )
    if hasattr(made.module, "_NATIVE_LOADED"):
        assert used(made)


@pytest.mark.parametrize("name", [n for n in SAMPLE if n in REFERENCES])
def test_a_sample_of_the_catalogue(name: str) -> None:
    catalogue(name, (torch.float64, torch.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(REFERENCES) - set(SAMPLE)))
def test_the_whole_catalogue(name: str) -> None:
    catalogue(name, (torch.float64, torch.float32))


def logits(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels(classes: int, *shape: int) -> Any:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def cross_entropy() -> Pair:
    return pair(CROSS_ENTROPY)


@pytest.fixture(scope="module")
def huber() -> Pair:
    return pair(HUBER)


def same(made: Pair, inputs: dict[str, Any], wrt: tuple[str, ...], tolerance: float = 2e-5, **options: Any) -> None:
    ours, theirs = (value_and_gradients(f, inputs, wrt, **options) for f in (made.native, made.plain))
    assert_same(ours, theirs, tolerance)
    assert used(made)


# Extents around the width of a block, several programs, channels before space, nothing at all.
@pytest.mark.parametrize(
    "shape", [(5, 7), (3, 64), (70, 129), (2, 4099), (300, 257), (2, 5, 3, 11), (3, 4, 70, 9), (0, 5), (1, 1)]
)
def test_rows_of_any_extent(cross_entropy: Pair, shape: tuple[int, ...]) -> None:
    target = labels(shape[1], shape[0], *shape[2:])
    target[..., :1] = -100
    weight = torch.rand(shape[1])
    inputs = {"logits": 3 * logits(*shape), "target": target}
    same(cross_entropy, inputs, ("logits",))
    same(cross_entropy, {**inputs, "weight": weight}, ("logits",), smoothing=0.1)
    same(cross_entropy, {**inputs, "logits": inputs["logits"].double()}, ("logits",), 1e-12)


def test_ignored_and_invalid_labels(cross_entropy: Pair) -> None:
    x = logits(4, 6)
    same(cross_entropy, {"logits": x, "target": torch.full((4,), -100)}, ("logits",))
    same(cross_entropy, {"logits": x, "target": torch.tensor([0, 6, -1, 2**40])}, ("logits",))
    x[0] = torch.nan  # a row that is left out leaves no trace
    value, gradient = value_and_gradients(
        cross_entropy.native, {"logits": x, "target": torch.tensor([-100, 1, 2, 3])}, ("logits",)
    )
    assert value.isfinite()
    assert (gradient[0] == 0).all()
    assert gradient.isfinite().all()


def test_infinite_and_missing_values(cross_entropy: Pair, huber: Pair) -> None:
    x = logits(6, 70)
    x[0, :69], x[1], x[2, 3], x[3, 65] = -torch.inf, -torch.inf, torch.nan, torch.inf
    same(cross_entropy, {"logits": x, "target": torch.full((6,), 69)}, ("logits",))
    bad = torch.tensor([torch.inf, -torch.inf, 1e38, 1e-44, 0.0])
    assert huber.native(torch.tensor([1.0, torch.nan]), torch.ones(2)).isnan()
    for mode in ("none", "mean", "sum"):
        same(huber, {"pred": bad, "target": torch.ones(5)}, ("pred", "target"), reduction=mode)


@pytest.mark.parametrize("shape", [(), (1,), (63,), (64,), (65,), (20000,), (3, 5, 7), (0,), (2, 0)])
@pytest.mark.parametrize("mode", ["none", "mean", "sum"])
def test_elementwise_of_any_shape(huber: Pair, shape: tuple[int, ...], mode: str) -> None:
    inputs = {"pred": 3 * logits(*shape), "target": logits(*shape, seed=2)}
    same(huber, inputs, ("pred",), reduction=mode)
    same(huber, inputs, ("pred", "target"), reduction=mode)


@pytest.mark.parametrize("text", [INFO_NCE, WORST, MASKED])
def test_chunks_winners_and_masks(text: str) -> None:
    made = pair(text)
    if text is INFO_NCE:
        same(made, {"q": logits(300, 5), "k": logits(300, 5, seed=3)}, ("q", "k"), 1e-4)
    elif text is WORST:
        same(made, {"x": logits(90, 130)}, ("x",))
        same(made, {"x": torch.ones(3, 200)}, ("x",))  # the first of equal winners
    else:
        keep = torch.arange(70) % 3 > 0
        same(made, {"x": logits(70, 5).abs(), "keep": keep}, ("x",))


def test_other_tensors_run_torch_operations(huber: Pair) -> None:
    """Strided, half and mixed tensors, transforms, compilation and higher derivatives give what torch gives."""
    x, y = logits(6, 10), logits(6, 10, seed=4)
    for a, b in (
        (x.t(), y.t()),
        (x.half(), y.half()),
        (x.double(), y),
        (x[:, ::2], y[:, ::2]),
        (x, y[:1].expand(6, 10)),
    ):
        ours, theirs = (
            value_and_gradients(f, {"pred": a, "target": b}, ("pred",)) for f in (huber.native, huber.plain)
        )
        assert_same(ours, theirs, 1e-6)
    for transform in (
        lambda f: torch.func.grad(f),
        lambda f: torch.func.vmap(f),
        lambda f: torch.func.vmap(torch.func.grad(f)),
    ):
        torch.testing.assert_close(transform(huber.native)(x, y), transform(huber.plain)(x, y))
    leaf = x.double().requires_grad_()
    assert torch.autograd.gradcheck(huber.native, (leaf, y.double()))
    assert torch.autograd.gradgradcheck(huber.native, (leaf, y.double()))
    with torch._subclasses.FakeTensorMode() as mode:
        assert huber.native(mode.from_tensor(x), mode.from_tensor(y)).shape == ()
    assert huber.native(x.to("meta"), y.to("meta")).device.type == "meta"
    traced = torch.fx.experimental.proxy_tensor.make_fx(lambda a, b: huber.plain(a, b))(x, y)
    also = torch.fx.experimental.proxy_tensor.make_fx(lambda a, b: huber.native(a, b))(x, y)
    torch.testing.assert_close(also(y, 2 * x), huber.native(y, 2 * x))
    assert len(also.graph.nodes) == len(traced.graph.nodes)
    negative = torch._neg_view(x)
    torch.testing.assert_close(huber.native(negative, y), huber.plain(-x, y))
    exported = torch.export.export(_Module(huber.native), (x, y))
    torch.testing.assert_close(exported.module()(x, y), huber.plain(x, y))


class _Module(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any, y: Any) -> Any:
        return self.function(x, y)


def test_totals_do_not_depend_on_the_number_of_threads(huber: Pair, cross_entropy: Pair) -> None:
    x, y = logits(200_003), logits(200_003, seed=5)
    wide = {"logits": logits(300, 700), "target": labels(700, 300)}
    before = torch.get_num_threads()
    try:
        made = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append((huber.native(x, y), *value_and_gradients(cross_entropy.native, wide, ("logits",))))
    finally:
        torch.set_num_threads(before)
    for other in made[1:]:
        assert all(torch.equal(a, b) for a, b in zip(made[0], other))


def test_a_changed_plan_changes_the_result() -> None:
    given = spec(HUBER)
    (loss,) = given.losses

    def swapped(step: Any) -> Any:
        if not isinstance(step, Kernel):
            return step
        statements = tuple(
            replace(s, args=(s.args[0], Literal(3 * s.args[1].value)))
            if isinstance(s, Op) and s.op == "div" and isinstance(s.args[1], Literal) and s.type == "acc"
            else s
            for s in step.statements
        )
        return replace(step, statements=statements)

    plans = tuple((k, replace(p, steps=tuple(map(swapped, p.steps)))) for k, p in loss.plans)
    text = emit_native.emit(replace(given, losses=(replace(loss, plans=plans),)))
    changed = lossdsl.loader.load_module(text, "test.loss").huber
    x, y = logits(50), logits(50, seed=6)
    ours = value_and_gradients(changed, {"pred": x, "target": y}, ("pred",))
    theirs = value_and_gradients(pair(HUBER).native, {"pred": x, "target": y}, ("pred",))
    assert not torch.allclose(ours[0], theirs[0])
    assert not torch.allclose(ours[1], theirs[1])


def test_what_stays_torch_is_said(tmp_path: Path) -> None:
    made = lossdsl.compile(str(EXAMPLES / "self_supervised" / "info_nce.loss"), native=True)
    assert any("a product is a library's" in note for note in made.notes)
    assert all(f"# {note}" in made.source for note in made.notes)
    plain = lossdsl.compile(str(EXAMPLES / "self_supervised" / "info_nce.loss"))
    assert "_NATIVE_KERNELS" not in plain.source
    with pytest.raises(ValueError, match="belong to the target torch"):
        lossdsl.compile(str(EXAMPLES / "self_supervised" / "info_nce.loss"), native=True, target="triton")


# ----------------------------------------------------------------------------------------------- building fails

SCRIPT = """
import os, sys, warnings, torch, importlib.util
found = importlib.util.spec_from_file_location("made", sys.argv[1])
made = importlib.util.module_from_spec(found); found.loader.exec_module(made)
torch.set_num_threads(2)
x, y = torch.arange(100000.0), torch.arange(100000.0).flip(0)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    values = [float(made.huber(x, y)) for _ in range(3)]
print(values[0], len(set(values)), sum(v is not None for v in made._NATIVE_LOADED.values()), len(told))
"""
EXPECTED = "49999.50"


@pytest.fixture(scope="module")
def module_file(tmp_path_factory: pytest.TempPathFactory, huber: Pair) -> Path:
    folder = tmp_path_factory.mktemp("module")
    (folder / "huber.py").write_text(huber.text)
    (folder / "run.py").write_text(SCRIPT)
    return folder / "huber.py"


def start(module_file: Path, **changed: str) -> subprocess.Popen[str]:
    env = {**os.environ, **changed}
    command = [sys.executable, str(module_file.parent / "run.py"), str(module_file)]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def outcome(process: subprocess.Popen[str]) -> tuple[float, int, int]:
    """(value, libraries that were loaded, warnings)."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    value, distinct, loaded, told = out.split()
    assert distinct == "1"
    return float(value), int(loaded), int(told)


def test_no_compiler(module_file: Path, tmp_path: Path, huber: Pair) -> None:
    x = torch.arange(100000.0)
    expected = float(huber.plain(x, x.flip(0)))
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'cannot do that' >&2\nexit 3\n")
    broken.chmod(0o755)
    empty = tmp_path / "bin"
    empty.mkdir()
    running = [
        start(module_file, LOSSDSL_CACHE=str(tmp_path / "a"), CXX="no-such-compiler"),
        start(module_file, LOSSDSL_CACHE=str(tmp_path / "b"), CXX=str(broken)),
        start(module_file, LOSSDSL_CACHE=str(tmp_path / "c"), PATH=str(empty)),
    ]
    for process in running:
        value, loaded, told = outcome(process)
        assert value == pytest.approx(expected, rel=1e-6)
        assert (loaded, told) == (0, 1)
    value, loaded, told = outcome(start(module_file, LOSSDSL_NATIVE="0"))
    assert value == pytest.approx(expected, rel=1e-6)
    assert (loaded, told) == (0, 0)


def test_two_processes_at_once_and_a_corrupted_file(module_file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    running = [start(module_file, LOSSDSL_CACHE=str(cache)) for _ in range(2)]
    values = {outcome(process) for process in running}
    assert len(values) == 1
    (value, loaded, told) = values.pop()
    assert (loaded, told) == (1, 0)
    (library,) = cache.glob("*.so")
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 2])
    assert outcome(start(module_file, LOSSDSL_CACHE=str(cache))) == (value, 1, 0)
    assert library.read_bytes()[:4] == b"\x7fELF"
    assert len(library.read_bytes()) > len(whole) // 2
    assert not list(cache.glob("build_*"))


def test_a_folder_that_cannot_be_written(module_file: Path, tmp_path: Path) -> None:
    """Neither a file in the way nor a read-only folder: a folder for the process is taken instead."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    running = [start(module_file, LOSSDSL_CACHE=str(p)) for p in (in_the_way, locked)]
    for process in running:
        _, loaded, told = outcome(process)
        assert (loaded, told) == (1, 0)
    locked.chmod(0o700)


def test_a_fork_after_use(huber: Pair) -> None:
    """The child has none of the parent's threads; it must not wait for them."""
    x, y = logits(300_000), logits(300_000, seed=7)
    expected = float(huber.native(x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:  # pragma: no cover
        os._exit(0 if float(huber.native(x, y)) == expected else 1)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")
