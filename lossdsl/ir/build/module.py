"""A file: its functions, its imports, its losses."""

from __future__ import annotations

from lossdsl.diagnostics import Diagnostic, Source, Span
from lossdsl.ir.build import functions
from lossdsl.ir.build.declarations import function
from lossdsl.ir.build.define import Place
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.inline import call_loss
from lossdsl.ir.build.limits import deep
from lossdsl.ir.build.loss import BuiltLoss, LossBuilder
from lossdsl.ir.build.reductions import Reductions
from lossdsl.ir.build.scope import (
    Failed,
    FunctionEntity,
    LossEntity,
    PendingDefinition,
    Sink,
    TensorEntity,
    Unavailable,
)
from lossdsl.syntax import tree


def build(module: tree.Module, source: Source) -> tuple[list[BuiltLoss], list[Diagnostic]]:
    """All losses of a file that have a meaning, in order, and every diagnostic of the file.

    A loss with errors gives diagnostics and no BuiltLoss; the others are built all the same. Never raises on what a
    user wrote.
    """
    sink = Sink()
    names = _file_names(module, sink)
    built: list[BuiltLoss] = []
    found = list(sink.found)
    for item in module.items:
        if isinstance(item, tree.Loss):
            with deep():
                one, diagnostics = LossBuilder(source, item, names).build()
            if one is not None:
                built.append(one)
            found += diagnostics
    found.sort(key=lambda d: (d.span, d.code))
    return built, list(dict.fromkeys(found))


def _file_names(module: tree.Module, sink: Sink) -> dict[str, FunctionEntity | LossEntity | Unavailable]:
    def refuse(e: Elaborator, pending: PendingDefinition, span: Span, shifted: bool) -> TensorEntity:
        raise Failed("no definitions at the top of a file")

    e = Elaborator(sink, {**functions.handlers(), **Reductions(Place()).handlers}, refuse, call_loss)
    seen: dict[str, int] = {}
    for item in module.items:
        ident: tree.Ident | None = None
        if isinstance(item, (tree.Def, tree.Loss)):
            ident = item.name
        elif isinstance(item, tree.Use):
            sink.add("E0501", "`use` has no meaning yet in this version", item.span)
            name = item.alias.name if item.alias else item.path[-1]
            e.file_functions[name] = Unavailable("`use`", item.span)
            continue
        if ident is None:
            continue
        if ident.name in seen:
            help = "each loss and function of a file has a name of its own"
            sink.add("E0202", f"`{ident.name}` is already declared (line {seen[ident.name]})", ident.span, help)
            continue
        seen[ident.name] = ident.span.line
        if isinstance(item, tree.Def):
            function(e, item, in_loss=False)
        elif isinstance(item, tree.Loss):
            e.file_functions[ident.name] = LossEntity(item)
    return e.file_functions
