"""Losses of the catalogue against what other libraries gave for the same inputs (`tests/libraries/run.py`)."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

import lossdsl
from lossdsl.catalogue import entries

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "libraries" / "data"
SHIPPED = {e.name for e in entries()}
TOLERANCE = 1e-10


@pytest.mark.parametrize("name", [p.stem for p in sorted(DATA.glob("*.npz")) if p.stem in SHIPPED])
def test_value_and_gradient(name: str) -> None:
    data = np.load(DATA / f"{name}.npz")
    about = json.loads(str(data["about"]))
    function = lossdsl.load(name).function
    for seed, parameters in enumerate(about["parameters"]):
        given = {
            key.rsplit(".", 1)[1]: torch.tensor(data[key]) for key in data.files if key.startswith(f"{seed}.input.")
        }
        wanted = {key.rsplit(".", 1)[1]: data[key] for key in data.files if key.startswith(f"{seed}.gradient.")}
        for n in wanted:
            given[n].requires_grad_()
        value = function(**given, **parameters)
        assert abs(float(value.detach()) - float(data[f"{seed}.value"])) <= TOLERANCE * max(
            1, abs(float(value.detach()))
        )
        if wanted:
            value.backward()
        for n, want in wanted.items():
            got = given[n].grad
            assert got is not None
            assert np.abs(got.numpy() - want).max() <= TOLERANCE * max(np.abs(want).max(), 1e-3), n


def test_there_are_some() -> None:
    assert len(list(DATA.glob("*.npz"))) >= 20


def test_files_have_fewer_statements_than_libraries() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    make_catalogue = importlib.import_module("make_catalogue")
    sys.path.pop(0)
    counted = json.loads((ROOT / "tests" / "libraries" / "statements.json").read_text())
    shares = [make_catalogue.statements(e) / counted[e.name]["statements"] for e in entries() if e.name in counted]
    assert len(shares) >= 40
    assert median(shares) <= 0.6
