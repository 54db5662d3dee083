"""The Triton target: values and gradients in the interpreter, cross-compilation without spills, text, fallbacks.

Programs of their own run the interpreter and the compiler, because triton reads TRITON_INTERPRET when it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from references import REFERENCES, SPINE

pytest.importorskip("triton")

from triton_emit import EXAMPLES, spec_of

from lossdsl.backends.emit_triton import emit, emitted
from lossdsl.backends.torch_runtime import _SOURCES
from lossdsl.backends.triton_runtime import RUNTIME
from lossdsl.primitives.helpers import TORCH_HELPERS, TRITON_HELPERS

HERE = Path(__file__).parent
NVIDIA = [["cuda", 80, 32], ["cuda", 90, 32]]
AMD = [["hip", "gfx942", 64]]
FEW = ["huber", "focal", "generalised_cross_entropy", "dice"]
BOUNDS = {"torch.float64": 1e-12, "torch.float32": 4e-6}


def run(program: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE)])
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


# Rows of more than one column walked in blocks of two, so that every fold is merged from many; then rows held whole.
@pytest.mark.parametrize(("resident", "block"), [(1, 2), (16384, 1024)])
def test_values_and_gradients_in_the_interpreter(resident: int, block: int) -> None:
    wanted = {"examples": list(SPINE), "resident": resident, "block": block, "device": "cpu"}
    check_values(run("triton_interpret.py", wanted), len(SPINE))


def test_scalars_beside_blocks_in_the_interpreter() -> None:
    """A gather at a position that another kernel found; a condition on extents beside one on rows."""
    names = ["chebyshev", "ldam"]
    wanted = {"examples": names, "resident": 16384, "block": 1024, "device": "cpu"}
    check_values(run("triton_interpret.py", wanted), len(names))


LARGE = {"ms_ssim", "multi_resolution_stft"}  # more programs than the interpreter can run
CATALOGUE = 4  # times the bounds of the sample: scales of 256 and differences of digammas multiply what float32 rounds


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REFERENCES.keys() - set(SPINE) - LARGE))
def test_values_and_gradients_of_the_catalogue_in_the_interpreter(name: str) -> None:
    wanted = {"examples": [name], "resident": 16384, "block": 1024, "device": "cpu"}
    results = run("triton_interpret.py", wanted)
    check_values([r | {"error": r["error"] / CATALOGUE} for r in results], 1)


def test_edges_in_the_interpreter() -> None:
    (found,) = run("triton_edges.py", {})
    assert len(found) == 24
    assert all(found.values()), found


def test_states_steps_and_learnable_values_in_the_interpreter() -> None:
    found = run("triton_training.py", {})
    assert [r["loss"] for r in found] == ["centred", "queued", "annealed", "running", "learned"]
    for r in found:
        assert r["kernels"] > 0
        assert r["steps"] == 4
        assert r["error"] <= 4e-6, r


def compiled(names: list[str], targets: list[list[Any]], types: list[str]) -> None:
    results = run("triton_compile.py", {"targets": targets, "examples": names, "types": types})
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


@pytest.mark.gpu
def test_values_and_gradients_on_a_device() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    wanted = {"examples": list(SPINE), "resident": 16384, "block": 1024, "device": "cuda"}
    check_values(run("triton_interpret.py", wanted), len(SPINE))


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
    assert any("it works on a round of a loop" in n for n in found)
    assert any("a product is a library's" in n for n in found)
    header = emit(spec).split('"""', 1)[0]
    assert all(f"# {n}\n" in header for n in found)
    assert all(n.startswith("info_nce: ") and " runs as torch operations: " in n for n in found)
    assert not emitted(spec_of((EXAMPLES / "regression/huber.loss").read_text()))[1]


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
