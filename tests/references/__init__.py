"""Independent references for the losses of the catalogue, one module for each field; never the `.loss` text.

A new module of this package with a table `REFERENCES: dict[str, Reference]` (by the loss's name) is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from references.record import Arrays, Case, Reference
from references.spine import REFERENCES as _SPINE

__all__ = ["EXAMPLES", "REFERENCES", "SPINE", "Arrays", "Case", "Reference", "each_path", "heavy"]

EXAMPLES = Path(__file__).parents[2] / "examples"
SPINE = tuple(sorted(_SPINE))  # a sample of every kind, for tests that are too slow to run on the whole catalogue


def _tables() -> Iterator[tuple[str, Reference]]:
    for found in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"references.{found}")
        yield from getattr(module, "REFERENCES", {}).items()


REFERENCES: dict[str, Reference] = {}
for _name, _reference in _tables():
    assert _name not in REFERENCES, f"two references for {_name}"
    REFERENCES[_name] = _reference


def heavy() -> list[Any]:
    """Names for a parametrised test: the sample always, the others only where slow tests run."""
    return [name if name in SPINE else pytest.param(name, marks=pytest.mark.slow) for name in sorted(REFERENCES)]


def each_path() -> list[Any]:
    """The same for tests that are given the paths of the files."""
    sample = {_SPINE[n].file for n in SPINE}
    paths = sorted(EXAMPLES.glob("*/*.loss"))
    return [
        pytest.param(p, id=p.stem, marks=() if f"{p.parent.name}/{p.stem}" in sample else pytest.mark.slow)
        for p in paths
    ]
