"""The Triton module of an example, loaded."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from lossdsl.assemble import module_spec
from lossdsl.backends.emit_triton import emit
from lossdsl.backends.spec import ModuleSpec
from lossdsl.diagnostics import Source
from lossdsl.loader import load_module
from lossdsl.lower.plan import Choices
from lossdsl.pipeline import analyse

EXAMPLES = Path(__file__).parents[1] / "examples"


def spec_of(text: str) -> ModuleSpec:
    source = Source("loss.loss", text)
    analysis = analyse(source)
    assert not analysis.failed, analysis.diagnostics
    return module_spec(source, [b.program for b in analysis.losses], "triton", (), "0")


def module_of(file: str, choices: Choices | None = None) -> ModuleType:
    return load_module(emit(spec_of((EXAMPLES / f"{file}.loss").read_text()), choices), file)
