"""The torch target: `emit(spec)` gives the text of a standalone PyTorch module."""

from __future__ import annotations

from lossdsl.backends.spec import ModuleSpec
from lossdsl.backends.torch_module import emit_torch

__all__ = ["emit", "emit_torch", "emitted"]


def emit(spec: ModuleSpec) -> str:
    """The text of the module; the same spec gives the same bytes."""
    return emit_torch(spec)


def emitted(spec: ModuleSpec) -> tuple[str, list[str]]:
    """The text, and what falls back to something slower than the plan says: nothing, for this target."""
    return emit(spec), []
