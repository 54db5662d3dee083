"""Compiled kernels on a CPU: the same values and gradients as torch operations, and every way in which building fails."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_module import Pair, assert_as_exact, assert_same, pair, value_and_gradients
from recurrences import TEXTS as RECURRENCES
from recurrences import arguments, program
from references import EXAMPLES, REFERENCES

torch = pytest.importorskip("torch")
from torch_losses import CROSS_ENTROPY, HUBER, INFO_NCE, MASKED, WORST, spec  # noqa: E402

import lossdsl  # noqa: E402
from lossdsl.assemble import differentiable, module_spec  # noqa: E402
from lossdsl.backends import emit_native  # noqa: E402
from lossdsl.backends.check_source import SourceError, check_source  # noqa: E402
from lossdsl.backends.emit_torch import emit_torch  # noqa: E402
from lossdsl.backends.native_runtime import FLAGS, IMPORTS  # noqa: E402
from lossdsl.backends.windows import without_adding_loops  # noqa: E402
from lossdsl.diagnostics import Source  # noqa: E402
from lossdsl.loader import load_module  # noqa: E402
from lossdsl.lower.interpret import run_plan  # noqa: E402
from lossdsl.lower.plan import Kernel, Literal, Op, Recurrence  # noqa: E402
from lossdsl.primitives import CXX_HELPERS, PRIMITIVES, helper_sources  # noqa: E402
from lossdsl.primitives.record import UNAVAILABLE, Dtype  # noqa: E402

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
    text = (EXAMPLES / f"{reference.file}.loss").read_text()
    made = pair(text)
    limited = "clip_gradient" in text  # ours is limited at cotangent 1, the reference's at the one that comes in
    for seed, case in enumerate(reference.cases):
        arrays, parameters = case(np.random.default_rng(seed))
        wrt = reference.gradients(arrays)
        for dtype in dtypes:
            inputs = {k: torch.tensor(a) for k, a in arrays.items()}
            inputs = {k: t.to(dtype) if t.is_floating_point() else t for k, t in inputs.items()}
            ours = value_and_gradients(made.native, inputs, wrt, **parameters)
            theirs = value_and_gradients(made.plain, inputs, wrt, **parameters)
            if dtype == torch.float64:
                assert_same(ours, theirs, 1e-9)
            else:
                wide = {k: t.double() if t.is_floating_point() else t for k, t in inputs.items()}
                assert_as_exact(ours, theirs, value_and_gradients(made.plain, wide, wrt, **parameters))
            if dtype == torch.float64 and not limited:
                wanted = value_and_gradients(reference.value, inputs, wrt, **parameters)
                for a, b in zip(ours, wanted, strict=True):
                    scale = float(b.nan_to_num(0.0, 0.0, 0.0).abs().max()) if b.numel() else 0.0
                    torch.testing.assert_close(
                        a.double().reshape(b.shape), b.double(), rtol=1e-8, atol=1e-8 * scale + 1e-12, equal_nan=True
                    )
    if hasattr(made.module, "_NATIVE_LOADED"):
        assert used(made)
        assert not made.module._NATIVE_TOLD  # every kernel was built


@pytest.mark.parametrize("name", [n for n in SAMPLE if n in REFERENCES])
def test_a_sample_of_the_catalogue(name: str) -> None:
    catalogue(name, (torch.float64, torch.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(REFERENCES) - set(SAMPLE)))
def test_the_whole_catalogue(name: str) -> None:
    catalogue(name, (torch.float64, torch.float32))


@pytest.mark.parametrize("name", RECURRENCES)
def test_recurrences(name: str) -> None:
    """In rounds of kernels, against torch operations."""
    p = program(name)
    given = module_spec(Source("x.loss", ""), [p], "torch", (), "0")
    arrays, parameters = arguments(p)
    tensors = {k: torch.tensor(v) for k, v in arrays.items()}
    found = [
        value_and_gradients(getattr(load_module(emit(given), "x.loss"), name), tensors, differentiable(p), **parameters)
        for emit in (emit_native.emit, emit_torch)
    ]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


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


def test_only_the_loader_is_exempt_from_the_check_of_emitted_text(huber: Pair) -> None:
    imports = frozenset(("torch", *IMPORTS))
    check_source(huber.text, imports, emit_native.TRUSTED)
    with pytest.raises(SourceError):
        check_source(huber.text.replace("timeout=600", "timeout=601"), imports, emit_native.TRUSTED)
    with pytest.raises(SourceError):
        check_source(huber.text, imports)


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


# ------------------------------------------------------------------------------------------- memory of large results


def test_memory_of_large_results_is_used_again(huber: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only when nothing refers to it any more: gradients, their views and what shares their memory keep their values."""
    x, y = logits(1_100_000), logits(1_100_000, seed=7)
    kept, free = huber.module._NATIVE_PAGES, huber.module._NATIVE_FREE
    kept.clear()
    free.clear()

    def gradient(scale: float = 1.0) -> torch.Tensor:
        leaf = (x * scale).requires_grad_()
        huber.native(leaf, y).backward()
        assert leaf.grad is not None
        return leaf.grad

    expected = value_and_gradients(huber.plain, {"pred": x, "target": y}, ("pred",))[1]
    first = gradient()
    place = first.data_ptr()
    assert place % 2097152 == 0
    assert first._base is None
    assert first.is_contiguous()
    second = gradient(2.0)  # the first is held
    assert second.data_ptr() != place
    del first
    assert len(kept) == 1
    third = gradient()
    assert third.data_ptr() == place
    assert not kept
    array, view = third.numpy(), third[5:]
    del third
    assert not kept
    gradient(3.0)
    torch.testing.assert_close(view, expected[5:])
    del view
    torch.testing.assert_close(torch.from_numpy(array), expected)
    del array, second
    held = [gradient() for _ in range(20)]
    for made in held:
        torch.testing.assert_close(made, expected)
    assert len({made.data_ptr() for made in held}) == 20
    del held, made
    assert sum(map(len, kept)) == 67108864  # 8 MiB each; the others are the system's to take
    assert len(free) == 12
    held = [gradient() for _ in range(20)]
    assert not kept
    assert not free
    for made in held:
        torch.testing.assert_close(made, expected)
    del held, made
    monkeypatch.setenv("LOSSDSL_KEEP", "0")
    torch.testing.assert_close(gradient(), expected)
    assert (len(kept), len(free)) == (8, 12)
    kept.clear()
    free.clear()


def test_results_of_over_64_mebibytes_are_not_held_in_memory(huber: Pair) -> None:
    huber.module._NATIVE_PAGES.clear()
    huber.module._NATIVE_FREE.clear()
    n = 17_000_000
    value_and_gradients(huber.native, {"pred": logits(n), "target": torch.zeros(n)}, ("pred",))
    assert (len(huber.module._NATIVE_PAGES), len(huber.module._NATIVE_FREE)) == (0, 1)
    huber.module._NATIVE_FREE.clear()


def test_memory_of_large_results_in_threads(huber: Pair) -> None:
    wanted = {k: value_and_gradients(huber.plain, large(k), ("pred",))[1] for k in range(4)}

    def work(k: int) -> None:
        for _ in range(6):
            torch.testing.assert_close(value_and_gradients(huber.native, large(k), ("pred",))[1], wanted[k])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def large(seed: int) -> dict[str, Any]:
    return {"pred": logits(1_100_000 + 300_000 * seed, seed=seed), "target": torch.zeros(1_100_000 + 300_000 * seed)}


def test_without_pages_the_memory_is_torchs(huber: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no memory")

    huber.module._NATIVE_PAGES.clear()
    huber.module._NATIVE_FREE.clear()
    expected = value_and_gradients(huber.native, large(0), ("pred",))
    huber.module._NATIVE_PAGES.clear()
    monkeypatch.setattr(huber.module.mmap, "mmap", refuse)
    assert_same(value_and_gradients(huber.native, large(0), ("pred",)), expected, 0.0)
    assert not huber.module._NATIVE_PAGES


def test_training_lets_no_memory_pile_up(huber: Pair) -> None:
    """Batches of many sizes, gradients that are replaced: the pages in use stay few."""
    huber.module._NATIVE_PAGES.clear()
    resource = pytest.importorskip("resource")
    for k in range(40):
        n = 1_100_000 + 40_000 * (k * 7 % 40)
        value_and_gradients(huber.native, {"pred": logits(n), "target": torch.zeros(n)}, ("pred",))
        if k == 9:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250_000  # KiB; each step alone takes 10,000
    assert sum(map(len, huber.module._NATIVE_PAGES)) <= 67108864
    assert len(huber.module._NATIVE_FREE) <= 16


# ------------------------------------------------------------------------------------------- out of range, sanitised

SANITISED = """
import importlib.util, sys, torch
found = importlib.util.spec_from_file_location("made", sys.argv[1])
made = importlib.util.module_from_spec(found); found.loader.exec_module(made)
torch.set_num_threads(1)
for shape in ((3, 5), (2, 70), (2, 5, 3, 7), (2, 3, 90)):
    x = torch.randn(shape, requires_grad=True)
    y = torch.randint(0, shape[1], (shape[0], *shape[2:]))
    wrong = torch.tensor([-1, shape[1], 2**62, -(2**62), -100])[: y.numel()]
    y.view(-1)[: len(wrong)] = wrong
    weight = torch.rand(shape[1])
    made.cross_entropy(x, y, weight, smoothing=0.1).backward()
assert sum(v is not None for v in made._NATIVE_LOADED.values()) == 1, made._NATIVE_LOADED
if len(sys.argv) > 2:  # what the sanitiser is there for
    (library,) = made._NATIVE_LOADED.values()
    name = next(n for n in made._NATIVE_KERNELS if "loss_kernel" in n and hasattr(library, n))
    code = made._NATIVE_KERNELS[name][0]
    small = torch.zeros(1)
    getattr(library, name)(*[small.data_ptr() + 4096 if c == "p" else 1 for c in code])
print("fine")
"""


def sanitiser() -> str:
    """The run-time library of g++'s address sanitiser, and what it needs before others; "" if there is none."""
    if not shutil.which("g++"):
        return ""
    names = ("libasan.so", "libstdc++.so")
    found = [
        subprocess.run(["g++", f"-print-file-name={n}"], capture_output=True, text=True, check=True) for n in names
    ]
    paths = [run.stdout.strip() for run in found]
    return ":".join(paths) if all(map(os.path.isabs, paths)) else ""


@pytest.mark.skipif(not sanitiser(), reason="needs g++ with its address sanitiser")
def test_labels_out_of_range_read_nothing_out_of_bounds(cross_entropy: Pair, tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(cross_entropy.text)
    (tmp_path / "run.py").write_text(SANITISED)
    env = {
        **os.environ,
        "CXX": "g++",
        "LOSSDSL_CXXFLAGS": "-O1 -fsanitize=address",
        "LD_PRELOAD": sanitiser(),
        "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0",
    }
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "made.py")]
    runs = [subprocess.run([*command, *more], env=env, capture_output=True, text=True) for more in ([], ["wrong"])]
    assert runs[0].returncode == 0, runs[0].stderr[-2000:]
    assert "fine" in runs[0].stdout
    assert runs[1].returncode != 0
    assert "AddressSanitizer" in runs[1].stderr


# ------------------------------------------------------------------------------------------------ texts of records


def built(folder: Path, real: str) -> Any:
    """Every real primitive with a C++ text as a function over arrays, at the flags that modules use."""
    lines = ["#include <stdint.h>", f"typedef {real} real_t;", *helper_sources([p.cxx for p in TEXTS], CXX_HELPERS)]
    for p in TEXTS:
        count = range(len(p.arguments))
        given = ", ".join(f"const real_t *x{k}" for k in count)
        body = " ".join(f"const real_t a{k} = x{k}[i];" for k in count)
        lines.append(f'extern "C" void f_{p.name}({given}, real_t *out, int64_t n) {{')
        lines.append("#pragma omp simd")
        lines.append(
            f"for (int64_t i = 0; i < n; ++i) {{ {body} out[i] = {p.cxx.format(*(f'a{k}' for k in count))}; }} }}"
        )
    source, made = folder / f"{real}.cpp", folder / f"{real}.so"
    source.write_text("\n".join(lines))
    subprocess.run(["g++", *FLAGS.split(), "-o", str(made), str(source)], check=True)
    return ctypes.CDLL(str(made))


TEXTS = [
    p
    for p in PRIMITIVES.values()
    if p.cxx != UNAVAILABLE and p.arguments and p.result is Dtype.REAL and set(p.accepts) == {Dtype.REAL}
]
# Units in the last place that are allowed; 4 for the others.
ULPS = {"erfc": 4096, "normal_cdf": 4096, "log_normal_cdf": 4096, "inverse_mills": 4096, "logcosh": 16, "expdiff": 256}
NAN_BOUND = {"clamp"}  # a bound that is nan is none


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
@pytest.mark.parametrize("real", ["float", "double"])
def test_cxx_texts(tmp_path: Path, real: str) -> None:
    """Within a few ulp of numpy in float64, at ordinary points, extremes, infinities, NaN and denormal numbers."""
    library = built(tmp_path, real)
    dtype = np.float32 if real == "float" else np.float64
    rng = np.random.default_rng(0)
    ends = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1e-40,
        -1e-40,
        1e-310,
        3e38,
        -88.0,
        88.7,
        -103.5,
        709.7,
        1.0,
        -1.0,
        2.0,
        0.5,
    ]
    for p in TEXTS:
        random = rng.normal(size=20000) * 10.0 ** rng.uniform(-6, 2, size=20000)
        base = np.concatenate([random, ends, *[np.ravel(s) for s in p.samples]])
        arrays = [base.astype(dtype), *(rng.permutation(base).astype(dtype) for _ in p.arguments[1:])]
        out = np.empty_like(arrays[0])
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays, out)]
        getattr(library, f"f_{p.name}")(*pointers, ctypes.c_int64(len(out)))
        with np.errstate(all="ignore"):
            wanted = np.asarray(p.numpy(*(a.astype(np.float64) for a in arrays))).astype(dtype)
            if p.name in NAN_BOUND:
                known = ~np.isnan(np.stack(arrays)).any(axis=0)
                out, wanted = out[known], wanted[known]
            finite = np.isfinite(out) & np.isfinite(wanted)
            assert (np.isnan(out) == np.isnan(wanted)).all(), p.name
            assert (finite | (out == wanted) | np.isnan(wanted)).all(), p.name
            least = np.finfo(dtype).tiny if p.name != "logaddexp" else 1.0  # which has a zero between large arguments
            spacing = np.spacing(np.maximum(np.abs(wanted[finite]), least).astype(dtype))
            error = np.abs(out[finite].astype(np.float64) - wanted[finite].astype(np.float64)) / spacing
            assert error.max(initial=0) <= ULPS.get(p.name, 4), (p.name, error.max())


# -------------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("name", ["ssim", "gradient_difference"])
def test_loops_that_add_are_folds_of_the_same_value(name: str) -> None:
    """The interpreter gives the same for the plan with folds, and no loop over offsets is left."""
    reference = REFERENCES[name]
    given = spec((EXAMPLES / f"{reference.file}.loss").read_text())
    arrays, parameters = reference.cases[0](np.random.default_rng(0))
    defaults = {p.name: float(p.default) for p in given.losses[0].parameters if p.default is not None}
    changed = 0
    for key, plan in given.losses[0].plans:
        if key.entry not in ("value", "value_and_gradient") or key.reduction not in ("", "mean"):
            continue
        other = without_adding_loops(plan)
        changed += other != plan
        assert not any(isinstance(s, Recurrence) for s in other.steps)
        given_arrays = arrays | {b.name: np.array(0.75) for b in plan.buffers if b.role == "cotangent"}
        before = run_plan(plan, given_arrays, {**defaults, **parameters})
        after = run_plan(other, given_arrays, {**defaults, **parameters})
        for role, value in before.items():
            np.testing.assert_allclose(after[role], value, rtol=1e-12, atol=1e-14)
    assert changed or name != "ssim"
