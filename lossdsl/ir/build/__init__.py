"""From syntax tree to IR: names, axes, types, ranges, reductions; one Program for each loss of a file."""

from __future__ import annotations

from lossdsl.diagnostics import Diagnostic, Severity, Source
from lossdsl.ir.build.loss import BuiltLoss, Elaborated, LossBuilder, elaborate_expression
from lossdsl.ir.build.module import build

__all__ = [
    "BuiltLoss",
    "Diagnostic",
    "Elaborated",
    "LossBuilder",
    "Severity",
    "Source",
    "build",
    "elaborate_expression",
]
