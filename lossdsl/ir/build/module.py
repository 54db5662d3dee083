"""A file: its functions, its imports, its losses."""

from __future__ import annotations

from lossdsl.diagnostics import Diagnostic, Source, Span, in_order
from lossdsl.ir.build import bodies, functions
from lossdsl.ir.build.declarations import function
from lossdsl.ir.build.define import Place
from lossdsl.ir.build.derivative import Derivatives
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.inline import Calls
from lossdsl.ir.build.limits import deep
from lossdsl.ir.build.loss import BuiltLoss, LossBuilder
from lossdsl.ir.build.reductions import Reductions
from lossdsl.ir.build.scope import (
    Failed,
    LossEntity,
    PendingDefinition,
    Sink,
    TensorEntity,
)
from lossdsl.ir.build.use import Uses
from lossdsl.syntax import tree


def build(module: tree.Module, source: Source) -> tuple[list[BuiltLoss], list[Diagnostic]]:
    """All losses of a file that have a meaning, in order, and every diagnostic of the file.

    A loss with errors gives diagnostics and no BuiltLoss; the others are built all the same. Never raises on what a
    user wrote.
    """
    sink = Sink()
    e = _file_scope(module, source, sink)
    built: list[BuiltLoss] = []
    found = list(sink.found)
    for item in module.items:
        if isinstance(item, tree.Loss):
            with deep():
                one, diagnostics = LossBuilder(source, item, e.file_functions).build()
            if one is not None:
                built.append(one)
            found += diagnostics
    found += _functions(e, module, source)
    found.sort(key=lambda d: (in_order(d.span), d.code))
    once: dict[tuple[str, Span, str], Diagnostic] = {}  # a loss that is called is read again, with another help
    for d in found:
        once.setdefault((d.code, d.span, d.message), d)
    return built, list(once.values())


def _functions(e: Elaborator, module: tree.Module, source: Source) -> list[Diagnostic]:
    """What is wrong with the functions at the top of a file, those that nobody calls included."""
    e.sink = Sink()
    bodies.check_circles(e)
    functions = [item for item in module.items if isinstance(item, tree.Def)]
    has_losses = any(isinstance(item, tree.Loss) for item in module.items)
    callers = bodies.declared_axes(module) if has_losses else None
    for item in functions:
        block = item.value is None
        bodies.check_names(e, item, bodies.Seen(frozenset(), frozenset() if block else None), callers)
    found = list(e.sink.found)
    reached = bodies.called(module, e.file_functions)
    for item in functions:
        loss = bodies.alone(item) if id(item) not in reached | e.circular else None
        if loss is not None:
            with deep():
                _, more = LossBuilder(source, loss, e.file_functions).build()
            found += [d for d in more if d.code in bodies.OF_SIGNATURES]
    return found


def _file_scope(module: tree.Module, source: Source, sink: Sink) -> Elaborator:
    def refuse(e: Elaborator, pending: PendingDefinition, span: Span, shifted: bool) -> TensorEntity:
        raise Failed("no definitions at the top of a file")

    place = Place()
    known = {**functions.handlers(), **Reductions(place).handlers, **Derivatives(place).handlers}
    e = Elaborator(sink, known, refuse, Calls(place))
    seen: dict[str, int] = {}
    uses = Uses(source, sink)
    for item in module.items:
        ident: tree.Ident | None = None
        if isinstance(item, (tree.Def, tree.Loss)):
            ident = item.name
        elif isinstance(item, tree.Use):
            ident = item.alias or tree.Ident(name=item.path[-1], span=item.span)
        if ident is None:
            continue
        if ident.name in seen:
            help = "each loss and function of a file has a name of its own"
            if isinstance(item, tree.Use):
                help = f"`use {'.'.join(item.path)} as name` gives it another one"
            sink.add("E0202", f"`{ident.name}` is already declared (line {seen[ident.name]})", ident.span, help)
            continue
        seen[ident.name] = ident.span.line
        if isinstance(item, tree.Def):
            function(e, item, in_loss=False)
        elif isinstance(item, tree.Loss):
            if ident.name not in e.functions:  # a loss may be called `quantile`; in a formula that is the function
                e.file_functions[ident.name] = LossEntity(item)
        elif ident.name in e.functions:
            help = f"`use {'.'.join(item.path)} as name`" if isinstance(item, tree.Use) else ""
            sink.add("E0202", f"`{ident.name}` is a built-in function", ident.span, help)
        elif isinstance(item, tree.Use):
            e.file_functions[ident.name] = uses.use(item)
    e.file_functions.update(uses.table)
    return e
