"""Whole emitted modules as files under `tests/golden/modules`, made again with `--update-golden`; each is executed.

They are there to be read: a change of the emitters shows here as its readers see it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from references import REFERENCES

torch = pytest.importorskip("torch")

import lossdsl  # noqa: E402

FOLDER = Path(__file__).parent / "golden" / "modules"
NAMES = ("huber", "dice", "info_nce", "gae", "focal")


@pytest.mark.parametrize("name", NAMES)
def test_golden_module(name: str, update_golden: bool) -> None:
    path = FOLDER / f"{name}.py"
    text = lossdsl.compile(name).source
    if update_golden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, "pytest --update-golden makes it again"


@pytest.mark.parametrize("name", NAMES)
def test_golden_module_runs(name: str) -> None:
    """By itself, against the reference of the catalogue."""
    found = importlib.util.spec_from_file_location(f"golden_{name}", FOLDER / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    reference = REFERENCES[name]
    for case in reference.cases:
        arrays, options = case(np.random.default_rng(0))
        wrt = reference.gradients(arrays)
        found = []
        for function in (getattr(module, name), reference.value):
            leaves = {n: torch.tensor(a).requires_grad_(n in wrt) for n, a in arrays.items()}
            value = function(**leaves, **options)
            value.sum().backward()
            found.append([value.detach(), *(leaves[n].grad for n in wrt)])
        for ours, theirs in zip(*found, strict=True):
            if theirs is not None:
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_golden_modules_are_formatted_checked_and_typed() -> None:
    paths = [str(FOLDER / f"{name}.py") for name in NAMES]
    for command in (
        ["ruff", "format", "--isolated", "--line-length", "120", "--check"],
        [
            "ruff",
            "check",
            "--isolated",
            "--select",
            "E,F,W,B,RET,PIE,I",
            "--ignore",
            "E501,B905",
            "--line-length",
            "120",
        ],
        ["mypy", "--config-file", "", "--ignore-missing-imports", "--follow-imports", "silent"],
    ):
        done = subprocess.run([sys.executable, "-m", *command, *paths], capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
