"""The Triton target: values and gradients in the interpreter, cross-compilation without spills, text, fallbacks.

Programs of their own run the interpreter and the compiler, because triton reads TRITON_INTERPRET when it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from references import REFERENCES, SPINE

pytest.importorskip("triton")

from triton_emit import EXAMPLES, spec_of

import lossdsl
from lossdsl.backends.emit_triton import emit, emitted
from lossdsl.backends.torch_runtime import _SOURCES
from lossdsl.backends.triton_runtime import RUNTIME
from lossdsl.lower.plan import Choices
from lossdsl.primitives.helpers import TORCH_HELPERS, TRITON_HELPERS

HERE = Path(__file__).parent
NVIDIA = [["cuda", 80, 32], ["cuda", 90, 32]]
AMD = [["hip", "gfx942", 64]]
FEW = ["huber", "focal", "generalised_cross_entropy", "dice", "monotonicity_penalty"]
BOUNDS = {"torch.float64": 1e-12, "torch.float32": 4e-6}


def run(program: str, wanted: dict[str, Any], *, interpret: bool = True) -> list[dict[str, Any]]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    paths = [str(HERE.parent), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, str(HERE / program), json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def stays_torch(example: str) -> bool:
    """Whether the compiler says that kernels of an example run as torch operations."""
    return bool(emitted(spec_of((EXAMPLES / f"{REFERENCES[example].file}.loss").read_text()))[1])


def check_values(results: list[dict[str, Any]], count: int) -> None:
    assert len(results) == 2 * count
    for r in results:
        assert r["launches"] > 0 or stays_torch(r["example"]), f"{r['example']} launched no kernel"
        assert r["error"] <= BOUNDS[r["type"]], r


# Rows of more than one column walked in blocks of two, so that every fold is merged from many; then rows held whole. Of
# rows of 300 columns fewer blocks are enough.
LONG = ["info_nce"]
SHORT = [name for name in SPINE if name not in LONG]
TINY, SMALL = {"resident": 1, "block": 2}, {"resident": 1, "block": 256}


@pytest.mark.parametrize(
    ("names", "choices"), [(SHORT, TINY), (SHORT, {}), pytest.param(LONG, SMALL, marks=pytest.mark.slow), (LONG, {})]
)
def test_values_and_gradients_in_the_interpreter(names: list[str], choices: dict[str, int]) -> None:
    check_values(run("triton_interpret.py", {"examples": names, "choices": choices}), len(names))


def test_scalars_beside_blocks_in_the_interpreter() -> None:
    """A gather at a position that another kernel found; a condition on extents beside one on rows."""
    names = ["chebyshev", "ldam"]
    wanted = {"examples": names, "choices": {}}
    check_values(run("triton_interpret.py", wanted), len(names))


LARGE = {"ms_ssim", "multi_resolution_stft"}  # more programs than the interpreter can run
# Sums of many, differences of almost equal numbers, logits of 200: held against what the torch target loses on a CPU.
SENSITIVE = LARGE | {"info_nce"}
CATALOGUE = 4  # times the bounds of the sample: scales of 256 and differences of digammas multiply what float32 rounds


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REFERENCES.keys() - set(SPINE) - LARGE))
def test_values_and_gradients_of_the_catalogue_in_the_interpreter(name: str) -> None:
    wanted = {"examples": [name], "choices": {}}
    results = run("triton_interpret.py", wanted)
    check_values([r | {"error": r["error"] / CATALOGUE} for r in results], 1)


def check_edges(results: list[dict[str, bool]]) -> None:
    (found,) = results
    assert len(found) == 26
    assert all(found.values()), found


def check_training(results: list[dict[str, Any]]) -> None:
    assert [r["loss"] for r in results] == ["centred", "queued", "annealed", "running", "learned"]
    for r in results:
        assert r["kernels"] > 0
        assert r["steps"] == 4
        assert r["error"] <= 4e-6, r


def test_edges_in_the_interpreter() -> None:
    check_edges(run("triton_edges.py", {}))


def test_states_steps_and_learnable_values_in_the_interpreter() -> None:
    check_training(run("triton_training.py", {}))


def check_recurrences(results: list[dict[str, Any]]) -> None:
    assert {"cumulative", "leader", "ctc", "soft_dtw", "gae_value"} <= {r["loss"] for r in results if r["walked"]}
    assert {"gated", "spread", "direct"} <= {r["loss"] for r in results if r["summed"]}
    for r in results:
        assert r["error"] <= 1e-12, r


def test_a_window_is_a_kernel_each_way() -> None:
    """What a window reads and where its adjoint adds are both shifted; neither is a loop of torch operations."""
    text, reasons = emitted(spec_of((EXAMPLES / "perceptual/ssim.loss").read_text()))
    assert not reasons
    device = [part for part in text.split("\ndef ") if "_on_device(" in part.split("\n")[0]]
    assert device
    assert not any("addcmul_" in part for part in device)


def test_recurrences_in_the_interpreter() -> None:
    check_recurrences(run("triton_recurrences.py", {}))


def compiled(names: list[str], targets: list[list[Any]], types: list[str]) -> None:
    results = run("triton_compile.py", {"targets": targets, "examples": names, "types": types}, interpret=False)
    assert [r["example"] for r in results] == names
    for r in results:
        assert not r["errors"], r["errors"][0]
        assert r["kernels"] or stays_torch(r["example"]), r["example"]
        assert not {k: v for k, v in r["kernels"].items() if v}


def test_a_few_examples_compile_without_spills() -> None:
    compiled(FEW, NVIDIA, ["float32"])


FIELDS: dict[str, list[str]] = {}
for _name in sorted(REFERENCES):
    FIELDS.setdefault(REFERENCES[_name].file.split("/")[0], []).append(_name)


@pytest.mark.slow
@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_example_compiles_without_spills(field: str) -> None:
    compiled(FIELDS[field], NVIDIA, ["float32", "bfloat16"])


@pytest.mark.slow
@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_example_compiles_for_amd(field: str) -> None:
    compiled(FIELDS[field], AMD, ["float32"])


def needs_device() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_values_and_gradients_on_a_device(name: str) -> None:
    needs_device()
    import torch
    from triton_interpret import results, worst

    try:
        found = list(results(name, Choices(), "cuda"))
    except RuntimeError as problem:
        if "CUDA error" in str(problem):  # this process has lost the device; pytest-xdist starts another
            os._exit(1)
        raise
    allowed = dict.fromkeys(BOUNDS, 1.0 if name in SPINE else float(CATALOGUE))
    if name in SENSITIVE:
        module = SimpleNamespace(**{name: lossdsl.load(name).function})
        for dtype in (torch.float32, torch.float64):
            lost = worst(name, module, dtype, "cpu") / BOUNDS[str(dtype)]
            allowed[str(dtype)] = max(allowed[str(dtype)], 10 * lost)
    check_values([r | {"error": r["error"] / allowed[r["type"]]} for r in found], 1)
    assert not found[0]["spills"]


@pytest.mark.gpu
def test_edges_on_a_device() -> None:
    needs_device()
    check_edges(run("triton_edges.py", {}, interpret=False))


@pytest.mark.gpu
def test_recurrences_on_a_device() -> None:
    needs_device()
    check_recurrences(run("triton_recurrences.py", {}, interpret=False))


@pytest.mark.gpu
def test_states_steps_and_learnable_values_on_a_device() -> None:
    needs_device()
    check_training(run("triton_training.py", {}, interpret=False))


def test_the_text_is_the_same_each_time() -> None:
    text = (EXAMPLES / "divergence/kl_divergence.loss").read_text()
    assert emit(spec_of(text)) == emit(spec_of(text))


def test_a_loss_of_one_pass_is_one_kernel_and_its_end() -> None:
    text = emit(spec_of((EXAMPLES / "regression/huber.loss").read_text()))
    body = text.split("def _huber_mean_value_and_gradient_d_pred_on_device")[1].split("\ndef ")[0]
    assert body.count("](") == 2  # the kernel, and one that adds up its shares and divides
    assert "atomic" not in text


def test_what_stays_torch_is_said() -> None:
    spec = spec_of((EXAMPLES / "self_supervised/info_nce.loss").read_text())
    found = emitted(spec)[1]
    assert found
    assert all(n.endswith("a product is a library's") for n in found)
    header = emit(spec).split('"""', 1)[0]
    assert all(f"# {n}\n" in header for n in found)
    assert all(n.startswith("info_nce: ") and " runs as torch operations: " in n for n in found)
    assert not emitted(spec_of((EXAMPLES / "regression/huber.loss").read_text()))[1]


def test_a_round_of_a_loop_is_a_kernel() -> None:
    text = emit(spec_of((EXAMPLES / "self_supervised/info_nce.loss").read_text()))
    rounds = text.split("def _info_nce_mean_value_and_gradient_d_q_k_on_device")[1].split("\ndef ")[0]
    assert rounds.count("kernel[(programs,)]") == 1


def test_a_recurrence_is_a_kernel() -> None:
    for name in ("reinforcement/gae", "transport/soft_dtw", "sequence/transducer", "reinforcement/vtrace"):
        text, notes = emitted(spec_of((EXAMPLES / f"{name}.loss").read_text()))
        assert not [n for n in notes if "recurrence" in n]
        assert "tl.debug_barrier()" in text
    notes = emitted(spec_of((EXAMPLES / "transport/sinkhorn.loss").read_text()))[1]
    assert any("it combines entries in a round of a recurrence" in n for n in notes)


def test_a_loop_for_what_a_parameter_leaves_out_ends_at_once() -> None:
    text = emit(spec_of((EXAMPLES / "classification/cross_entropy.loss").read_text()))
    kernels = [k for k in text.split("@triton.jit\n")[1:] if "range(0, end, COLUMNS, num_stages=STAGES)" in k]
    assert kernels
    for kernel in kernels:
        assert kernel.count("range(0, c, COLUMNS, num_stages=STAGES)") == 1  # logsumexp
        assert (
            kernel.count("range(0, end, COLUMNS, num_stages=STAGES)") == 1
        )  # the mean over the classes, for label smoothing
        assert (
            "end = tl.sum(tl.where(tl.where(smoothing == 0.0, 1, 0) + tl.zeros([1, 1], tl.int32) != 0, 0, c))" in kernel
        )


def test_helpers_of_both_targets_have_names_of_their_own() -> None:
    assert not set(RUNTIME) & set(_SOURCES)
    assert not set(TRITON_HELPERS) & set(TORCH_HELPERS)


@pytest.mark.parametrize("name", ["h", "h_erf", "tl", "x_ptr", "grid", "block"])
def test_a_tensor_may_be_named_like_a_helper(name: str) -> None:
    text = f"loss t:\n    input {name}, y: real[n]\n    return mean(erf({name} - y)^2)\n"
    assert f"d_{name}" in emit(spec_of(text))


@pytest.mark.parametrize("fold", ["cumsum", "cumprod", "cumlogsumexp"])
def test_cumulative_folds_stay_torch_and_the_report_says_so(fold: str) -> None:
    text = f"loss t:\n    input x: real[n, c]\n    return mean({fold}(x over c)^2)\n"
    assert any("a cumulative fold" in note for note in emitted(spec_of(text))[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_every_example_is_emitted(name: str) -> None:
    assert "@triton.jit" in emit(spec_of((EXAMPLES / f"{REFERENCES[name].file}.loss").read_text())) or stays_torch(name)
