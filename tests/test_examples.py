"""Every example against an independent reference, value and gradient in float64; and its mutants must fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from references import REFERENCES, Reference

import lossdsl

EXAMPLES = Path(__file__).parents[1] / "examples"
TOLERANCE = 1e-10


def tensors(arrays: dict[str, np.ndarray], wrt: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(a).requires_grad_(name in wrt) for name, a in arrays.items()}


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    if not bool(torch.isfinite(ours).all()):
        return False
    scale = max(float(theirs.abs().max()) if theirs.numel() else 0.0, 1e-300)
    return float((ours - theirs).abs().max() if theirs.numel() else 0.0) <= TOLERANCE * max(scale, 1e-3)


def agrees(text: str, reference: Reference) -> bool:
    """Whether the compiled text equals the reference in value and gradient on every case."""
    function = lossdsl.loads(text).function
    for seed, case in enumerate(reference.cases):
        arrays, parameters = case(np.random.default_rng(seed))
        wrt = reference.extra.get("wrt") or tuple(
            n for n, a in arrays.items() if a.dtype == np.float64 and n not in ("weight",)
        )
        if reference.file.endswith("binary_cross_entropy"):
            wrt = ("logits",)
        ours, theirs = tensors(arrays, wrt), tensors(arrays, wrt)
        value = function(**ours, **parameters)
        expected = reference.value(**theirs, **parameters)
        if value.shape != expected.shape or not close(value.detach(), expected.detach()):
            return False
        value.backward()
        expected.backward()
        for name in wrt:
            got, want = ours[name].grad, theirs[name].grad
            if got is None or not close(got, torch.zeros_like(got) if want is None else want):
                return False
    return True


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_value_and_gradient(name: str) -> None:
    reference = REFERENCES[name]
    assert agrees((EXAMPLES / f"{reference.file}.loss").read_text(), reference)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_mutants_fail(name: str) -> None:
    reference = REFERENCES[name]
    text = (EXAMPLES / f"{reference.file}.loss").read_text()
    assert len(reference.mutants) == 5
    for old, new in reference.mutants:
        assert old in text
        mutant = text.replace(old, new)
        try:
            survived = agrees(mutant, reference)
        except lossdsl.LossError as refused:
            pytest.fail(f"the mutant {old!r} -> {new!r} does not compile, so it tests nothing:\n{refused}")
        assert not survived, f"the mutant {old!r} -> {new!r} was not noticed"


def test_every_example_has_a_reference() -> None:
    files = {str(p.relative_to(EXAMPLES).with_suffix("")) for p in EXAMPLES.rglob("*.loss")}
    assert files == {r.file for r in REFERENCES.values()}


def test_there_are_at_least_twenty(tmp_path: Any) -> None:
    assert len(REFERENCES) >= 20
