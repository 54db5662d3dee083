"""The Python interface: `load`, `loads`, `check`, `advise`, `compile`, `from_sympy`. Small on purpose."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from lossdsl import pipeline
from lossdsl.advice import Advice
from lossdsl.advice import advise as rewritten
from lossdsl.catalogue import find
from lossdsl.diagnostics import NOWHERE, Diagnostic, LossError, Severity, Source
from lossdsl.ir.build import BuiltLoss
from lossdsl.ir.expression import program_from_sympy
from lossdsl.ir.nodes import Program
from lossdsl.loader import load_module
from lossdsl.names import class_name, function_name
from lossdsl.syntax.source import read_source
from lossdsl.verify.verdict import Report
from lossdsl.view import sympy_view

Spec = str | os.PathLike[str]


@dataclass(frozen=True)
class Compiled:
    """`source`: the module's text; `reports`: one for each loss, of its claims and what is proved; `notes`: what runs as
    torch operations, and why."""

    source: str
    reports: tuple[Report, ...]
    notes: tuple[str, ...]
    diagnostics: tuple[Diagnostic, ...]

    @property
    def report(self) -> Report:
        """The report of the only loss; ValueError if there are several."""
        return _only(self.reports)


def load(spec: Spec, *, target: str = "torch", native: bool = False) -> Any:
    """The `nn.Module` class of a loss, ready to be constructed with its parameters.

    spec is a path ("focal.loss", "losses.loss:focal") or the name of a catalogue loss ("focal", or with its field
    "classification.focal"). A file with several losses gives a namespace with one class for each. Each class has
    `.function` (the functional form), `.sympy` (the loss in ordinary SymPy), `.source` (the emitted text), `.report`,
    and `.derivative` where inputs are derivatives of a network.
    native: with C++ kernels for tensors on a CPU, built by the compiler that is found when the loss is first used (or
    torch operations, with a warning, if there is none).

    Raises LossError with every diagnostic if the source is wrong, FileNotFoundError never: a missing file is one.
    """
    source, only = _read(spec)
    return _load(source, only, target, native)


def loads(text: str, *, name: str = "<string>", target: str = "torch", native: bool = False) -> Any:
    """As `load`, of a text."""
    return _load(Source(name, text), None, target, native)


def check(spec: Spec | Source, *, effort: float = 1.0) -> Report:
    """What is true of a loss. The file must have one, or `spec` name one ("losses.loss:focal").

    Raises LossError if the source is wrong and ValueError if the file has several losses.
    """
    source, only = (spec, None) if isinstance(spec, Source) else _read(spec)
    checked = pipeline.check(source, effort=effort, only=only)
    _raise(source, checked.diagnostics)
    return _only(checked.reports)


def advise(spec: Spec | Source, *, effort: float = 1.0) -> Advice:
    """What to write instead where an equal expression stays finite on more inputs or keeps its digits: the rewrites, each
    proved equal, and the text with all of them. Raises LossError if the source is wrong."""
    source, only = (spec, None) if isinstance(spec, Source) else _read(spec)
    analysis = pipeline.analyse(source, only)
    _raise(source, analysis.diagnostics)
    return rewritten(source, analysis, effort=effort)


def compile(spec: Spec | Source, *, target: str = "torch", native: bool = False) -> Compiled:
    """The standalone module of a file as text, `native` as in `load`; raises LossError if the source is wrong."""
    source, only = (spec, None) if isinstance(spec, Source) else _read(spec)
    result = pipeline.compile(source, target=target, only=only, native=native)
    _raise(source, result.diagnostics)
    assert result.text is not None
    return Compiled(result.text, result.reports, result.notes, result.diagnostics)


def from_sympy(
    expression: Any,
    *,
    inputs: Sequence[str],
    params: Mapping[str, float] | None = None,
    name: str = "loss",
    reduction: str = "mean",
    target: str = "torch",
) -> Any:
    """The `nn.Module` class of an elementwise loss given as an ordinary SymPy expression.

    inputs: names of the symbols that are tensors, in the order of the emitted function; params: the other symbols and
    their defaults; reduction: "mean" or "sum", the default of the emitted function. Raises TypeError for a string
    (nothing is ever evaluated) and ValueError for a function that has no counterpart here, with its name.
    """
    program = program_from_sympy(expression, inputs=inputs, params=params or {}, name=name, reduction=reduction)
    source = Source(f"<sympy {name}>", "")
    return _classes(source, (program,), pipeline.emit(source, (program,), target).text, {})


def _read(spec: Spec) -> tuple[Source, str | None]:
    path, only = find(os.fspath(spec))
    source, problems = read_source(path)
    _raise(source, problems)
    return source, only


def _raise(source: Source, diagnostics: Sequence[Diagnostic]) -> None:
    if any(d.severity is Severity.ERROR for d in diagnostics):
        raise LossError(source, diagnostics)


def _only(reports: tuple[Report, ...]) -> Report:
    if len(reports) != 1:
        raise ValueError(f"{len(reports)} losses: name one as 'file.loss:NAME'")
    return reports[0]


def _load(source: Source, only: str | None, target: str, native: bool) -> Any:
    analysis = pipeline.analyse(source, only)
    _raise(source, analysis.diagnostics)
    if not analysis.losses:
        raise LossError(source, [Diagnostic("E0807", "there is no loss in this file", NOWHERE)])
    programs = [b.program for b in analysis.losses]
    emitted = pipeline.emit(source, analysis.losses, target, native=native)
    return _classes(source, programs, emitted.text, {b.program.name: b for b in analysis.losses})


def _classes(source: Source, losses: Sequence[Program], text: str, built: Mapping[str, BuiltLoss]) -> Any:
    module = load_module(text, source.path)
    classes: dict[str, Any] = {}
    for program in losses:
        cls = getattr(module, class_name(program.name))
        cls.function = staticmethod(getattr(module, function_name(program.name)))
        cls.source = text
        if "derivative" in module.__all__:
            cls.derivative = staticmethod(module.derivative)
        cls.sympy = _Lazy(partial(sympy_view, program))
        if program.name in built:
            cls.report = _Lazy(partial(pipeline.report, built[program.name]))
        classes[program.name] = cls
    return next(iter(classes.values())) if len(classes) == 1 else SimpleNamespace(**classes)


class _Lazy:
    """A class attribute computed when it is first read: SymPy and the verifier are not paid for by loading."""

    def __init__(self, make: Any) -> None:
        self.make, self.value = make, None

    def __get__(self, instance: object, owner: type) -> Any:
        if self.value is None:
            self.value = self.make()
        return self.value
