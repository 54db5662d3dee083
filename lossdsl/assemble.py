"""From a program to what an emitter is given: its face, and the table of Plans that are reachable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import PurePath

from lossdsl import __version__
from lossdsl.backends.spec import Bound, InputSpec, LossSpec, ModuleSpec, ParameterSpec
from lossdsl.card import bracket
from lossdsl.diagnostics import Source
from lossdsl.dim import Dim, FloorDiv
from lossdsl.ir.check import check as well_formed
from lossdsl.ir.extents import polynomial
from lossdsl.ir.nodes import (
    AdjointMap,
    Apply,
    Const,
    Input,
    Output,
    Param,
    Parameter,
    Program,
    Proxy,
    Range,
    Scalar,
    Size,
    postorder,
)
from lossdsl.ir.rewrite import members, prune, topological
from lossdsl.ir.text import print_ir
from lossdsl.lower.cost import cost
from lossdsl.lower.plan import Cost, Key, Plan
from lossdsl.lower.prepare import LoweringError
from lossdsl.lower.schedule import schedule
from lossdsl.readable import gradient_lines
from lossdsl.transform.arithmetic import NotYetError
from lossdsl.transform.dead import without_dead_terms
from lossdsl.transform.differentiate import active_tensors, differentiate, prepared
from lossdsl.transform.positions import positions
from lossdsl.transform.simplify import defaulted, simplify, with_defaults
from lossdsl.transform.stabilise import stabilise
from lossdsl.verify.verdict import COST, SCALABILITY, Finding, Proved, Report, Step, Unknown, Verdict

OPTIONAL = 4  # optional inputs whose every combination gets plans of its own


def value_program(program: Program) -> Program:
    """The value in its stable form."""
    return _finished(without_dead_terms(positions(program)))


def gradient_program(program: Program, output: str, wrt: Sequence[str], absent: Iterable[str] = ()) -> Program:
    """Value and vector-Jacobian product of the tensor `output` in the inputs `wrt`, without the optional inputs
    `absent`: first differentiated, then stabilised. Outputs: "return", then "d NAME" for each, then the reports."""
    return next(gradient_programs(program, output, (tuple(wrt),), absent))


def gradient_programs(
    program: Program, output: str, sets: Sequence[tuple[str, ...]], absent: Iterable[str] = ()
) -> Iterator[Program]:
    """The gradient programs in several sets of inputs, the last of which has all others in it."""
    present = defaulted(program, absent)
    given = without_dead_terms(positions(present))
    every = sets[-1]
    whole = differentiate(given, output, every)
    for wrt in sets:
        if wrt == every:
            own = whole
        elif prepared(given, output, wrt) == prepared(given, output, every):
            made = {"return", *(f"d {name}" for name in wrt)}
            own = prune(replace(whole, outputs=tuple(o for o in whole.outputs if o.name in made)))
        else:
            own = differentiate(given, output, wrt)
        derived = _with_reports(given, output, own)
        well_formed(derived)
        yield _finished(derived if present is program else simplify(derived))


def _with_reports(program: Program, output: str, derived: Program) -> Program:
    """The derivative with the program's reports as further outputs, so that one pass can make everything."""
    reports = program.outputs[1:]
    if not reports:
        return derived
    value, reported = (
        prune(replace(program, outputs=outputs, reductions=None, target="", updates=()))
        for outputs in ((Output("return", output),), reports)
    )
    made = {d.tensor for d in derived.definitions()}
    shared = {d.tensor for d in value.definitions()}
    if any(d.tensor in made - shared for d in reported.definitions()):
        return derived  # differentiation took a name of theirs: they are left to the plan of the value
    more = [item for item in reported.body if not {d.tensor for d in members(item)} & made]
    return replace(derived, body=topological((*derived.body, *more)), outputs=(*derived.outputs, *reports))


def _finished(program: Program) -> Program:
    for rewrite in (stabilise, simplify):
        program = rewrite(program)
        well_formed(program)
    return program


def differentiable(program: Program) -> tuple[str, ...]:
    """Inputs that can get a gradient, in the file's order."""
    return tuple(i.name for i in program.inputs if i.differentiable)


def plans(program: Program, target: str) -> dict[Key, Plan]:
    """The table of plans: every entry that a call can reach, for each reduction and each set of absent inputs.

    Gradients are planned for the first input that has one (the usual call) and for all of them together; any other set
    runs the smallest plan that makes it. An input that the value reaches through `stop` alone has none.
    """
    _callable(program)
    modes = _modes(program) or ("",)
    stable = value_program(program)
    proxies, limits = _has(stable, Proxy), _has(stable, AdjointMap)
    table: dict[Key, Plan] = {}
    everywhere = differentiable(program)
    results = {_tensor(program, mode) for mode in modes}
    moving = tuple(n for n in everywhere if results & active_tensors(program, (n,))) or everywhere
    for absent in _absences(program):
        able = tuple(n for n in moving if n not in absent)
        wanted = list(dict.fromkeys(w for w in (able[:1], able) if w))
        for mode in modes:
            key = Key(program.name, "value", mode, (), absent, target)
            table[key] = schedule(with_defaults(stable, absent), key)
            if proxies:
                key = Key(program.name, "formula", mode, (), absent, target)
                table[key] = schedule(with_defaults(stable, absent), key)
            output = _tensor(program, mode)
            for wrt, derived in zip(wanted, gradient_programs(program, output, wanted, absent) if wanted else ()):
                # That of a scalar can be made with the value, before the incoming cotangent is known.
                scalar = not any(i.dims for i in derived.inputs if i.role == "cotangent")
                entries = ["value_and_gradient" if scalar and _reports_all(program, derived) else "backward"]
                if limits:  # autograd of the value's formula would not limit it
                    entries.append("gradient_formula")
                for entry in entries:
                    key = Key(program.name, entry, mode, wrt, absent, target)
                    table[key] = schedule(derived, key)
    return table


def _callable(program: Program) -> None:
    """Raises LoweringError where a call would not say all that is computed from: a device, and every extent."""
    given = [i for i in program.inputs if i.role in ("input", "learnable")]
    if not given:
        raise LoweringError(
            f"{program.name} has no input: nothing says on which device and in which type it is computed"
        )
    known = {p.name for p in program.parameters}
    known |= {s for i in program.inputs if i.default is None or i.role != "input" for d in i.dims for s in d.symbols()}
    for i in given:
        unknown = [s for d in i.dims for s in d.symbols() if s not in known]
        if unknown:
            message = f"only `{i.name}`, which may be left out, says how long the axis `{unknown[0]}` is"
            raise LoweringError(message, i.name)


def _reports_all(program: Program, derived: Program) -> bool:
    """Whether the derivative also makes the program's reports, which are asked for with the value."""
    return {o.name for o in program.outputs[1:]} <= {o.name for o in derived.outputs}


def pairs(program: Program, target: str) -> tuple[tuple[tuple[str, ...], Plan], ...]:
    """The (total, weight) plan of a mean for each set of absent inputs; empty if there is none."""
    if program.reductions is None:
        return ()
    outputs = (Output("total", program.reductions.total), Output("weight", program.reductions.weight))
    return _for_each_absence(program, outputs, target, "formula" if _has(program, Proxy) else "value")


def _has(program: Program, kind: type[Scalar]) -> bool:
    """Whether a kind of node stands anywhere in a program."""
    return any(isinstance(n, kind) for d in program.definitions() for n in postorder(*d.scalars()))


def updates(program: Program, target: str) -> tuple[tuple[tuple[str, ...], Plan], ...]:
    """The plan of all next states for each set of absent inputs; empty if there are no states."""
    if not program.updates:
        return ()
    return _for_each_absence(program, tuple(Output(f"update {o.name}", o.tensor) for o in program.updates), target)


def _for_each_absence(
    program: Program, outputs: tuple[Output, ...], target: str, entry: str = "value"
) -> tuple[tuple[tuple[str, ...], Plan], ...]:
    """The value plans of other outputs than the loss, one for each set of absent inputs."""
    others = value_program(replace(program, outputs=outputs, reductions=None, target="", updates=()))
    return tuple((a, schedule(others, Key(program.name, entry, "", (), a, target))) for a in _absences(program))


def _absences(program: Program) -> list[tuple[str, ...]]:
    """Every set of optional inputs that may be absent."""
    optional = [i.name for i in program.inputs if i.default is not None and i.role == "input"][:OPTIONAL]
    return [a for count in range(len(optional) + 1) for a in combinations(optional, count)]


def _modes(program: Program) -> tuple[str, ...]:
    if program.reductions is None:
        return ()
    written = program.reductions.written
    return (written, *(m for m in ("mean", "sum", "none") if m != written))


def _tensor(program: Program, mode: str) -> str:
    r = program.reductions
    if r is None or not mode:
        return program.outputs[0].tensor
    return {"mean": r.mean, "sum": r.sum, "none": r.none}[mode]


def loss_spec(program: Program, target: str, report: Report | None, formula: Sequence[str] = ()) -> LossSpec:
    """Everything that an emitter needs of one loss. `formula`: the lines shown as its formula, else those of its IR."""
    modes = _modes(program)
    none = program.definition(program.reductions.none) if program.reductions else None
    return LossSpec(
        name=program.name,
        inputs=tuple(_input(i) for i in program.inputs),
        parameters=tuple(_parameter(p) for p in program.parameters),
        plans=tuple(plans(program, target).items()),
        modes=modes,
        none_dims=none.dims if none is not None else (),
        docstring=program.docstring or "",
        formula=tuple(formula) or _definitions(value_program(program)),
        gradient=gradient_lines(program),
        properties=tuple(properties(report)) if report else (),
        reports=tuple(o.name for o in program.outputs[1:]),
        pair=pairs(program, target),
        updates=updates(program, target),
        clipped=_has(program, AdjointMap),
    )


def module_spec(
    source: Source, losses: Sequence[Program], target: str, reports: Iterable[Report], digest: str
) -> ModuleSpec:
    """The module of some programs, each with its report if there is one."""
    known = {r.loss: r for r in reports}
    return assembled(source, [loss_spec(p, target, known.get(p.name)) for p in losses], digest)


def assembled(source: Source, losses: Sequence[LossSpec], digest: str) -> ModuleSpec:
    """The module of a file. The header names the file, never where it lies."""
    return ModuleSpec(
        losses=tuple(losses),
        spec_hash=digest,
        compiler_version=__version__,
        origin=PurePath(source.path).name,
    )


_GROWTH = {0: "constant", 1: "linear", 2: "quadratic", 3: "cubic"}


def planned(program: Program) -> Iterator[tuple[str, tuple[str, ...], Callable[[], Plan]]]:
    """The entries whose plans are counted: the value, and the value with all gradients, if there are some; the inputs of these,
    and what makes the plan. Making it raises LoweringError and NotYetError."""
    mode, wrt = program.reductions.written if program.reductions else "", differentiable(program)

    def plan(made: Program, entry: str) -> Plan:
        return schedule(made, Key(program.name, entry, mode, wrt if entry != "value" else (), (), "torch"))

    yield "value", (), lambda: plan(value_program(program), "value")
    if wrt:
        both = "value_and_gradient"
        yield both, wrt, lambda: plan(gradient_program(program, program.outputs[0].tensor, wrt), both)


def cost_findings(program: Program) -> tuple[Finding, ...]:
    """What the plans cost, from their counts: elements moved, operations, passes, temporaries; growth in each axis."""
    found: list[Finding] = []
    costs: list[Cost] = []
    for entry, names, make in planned(program):
        start = time.perf_counter()
        verdict: Verdict
        detail = ""
        try:
            count = cost(make())
        except (LoweringError, NotYetError) as problem:
            verdict = Unknown(str(problem), ("schedule",))
        else:
            costs.append(count)
            detail = _cost_words(count)
            verdict = Proved("counted in the plan", (Step("plan", entry, detail),))
        spent = time.perf_counter() - start
        what = "cost of the value" if entry == "value" else "cost of value and gradient"
        found.append(Finding(what, "return", names, "", verdict, COST, detail, spent))
    if len(costs) == len(found):
        found += _growth(costs[-1])
    return tuple(found)


def _growth(cost: Cost) -> Iterator[Finding]:
    """Degrees in each extent of the dearest entry."""
    names = sorted({s for d in (cost.read, cost.written, cost.operations, cost.peak) for s in d.symbols()})
    for symbol in names:
        moved = max(_degree(cost.read, symbol), _degree(cost.written, symbol))
        degrees = {"operations": _degree(cost.operations, symbol), "elements moved": moved}
        degrees["temporaries"] = _degree(cost.peak, symbol)
        detail = ", ".join(f"{_GROWTH.get(d, f'of degree {d}')} {what}" for what, d in degrees.items())
        verdict = Proved("degree of the counted cost", (Step("plan", symbol, detail),))
        yield Finding("growth", "return", (symbol,), "", verdict, SCALABILITY, detail)


def _degree(dim: Dim, symbol: str) -> int:
    def of(atom: str | FloorDiv) -> int:
        return _degree(atom.numerator, symbol) if isinstance(atom, FloorDiv) else int(atom == symbol)

    return max((sum(of(a) for a in monomial) for monomial, _ in dim.terms), default=0)


def _cost_words(cost: Cost) -> str:
    passes = f"{cost.passes} pass{'' if cost.passes == 1 else 'es'}"
    text = (
        f"{passes}; elements: {cost.read} read, {cost.written} written, {cost.peak} temporary; "
        f"{cost.operations} operations"
    )
    if "..." not in text or "N" in cost.read.symbols():
        return text
    return text.replace("...", "N") + "; N = size(...)"


def properties(report: Report) -> list[str]:
    """What is proved, one line each, for a docstring."""
    proved = [f for f in report.findings if isinstance(f.verdict, Proved) and f.criterion not in (COST, SCALABILITY)]
    return [_property(f) for f in proved]


def _property(f: Finding) -> str:
    subject = f" in {', '.join(f.wrt)}" if f.wrt else ""
    value = f.detail or bracket(f.verdict.value)
    when = f" when {f.when}" if f.when else ""
    return f"{f.property} of {f.of}{subject}{': ' + value if value else ''}{when}"


def _definitions(program: Program) -> tuple[str, ...]:
    """The lines of the IR text that are definitions and outputs; a plain map without its head."""
    heads = ("program", "dim ", "input ", "param ", "target ", "reductions ", "docstring ", "output return = return")
    lines = [line.strip() for line in print_ir(program).splitlines()]
    return tuple(line.replace(" = map . ", " = ", 1) for line in lines if line and not line.startswith(heads))


def _input(i: Input) -> InputSpec:
    lower, upper = _bounds(i.range)
    default = i.default.value if i.default is not None else None
    return InputSpec(
        name=i.name,
        dims=i.dims,
        axes=i.axes,
        kind=i.kind,
        lower=lower,
        upper=upper,
        over=i.over,
        classes=i.classes,
        also=i.also,
        optional=default is not None and i.role == "input",
        learnable=i.role == "learnable",
        initial=default if i.role in ("learnable", "state") else None,
        state=i.role == "state",
        comment=i.comment,
    )


def _parameter(p: Parameter) -> ParameterSpec:
    lower, upper = _bounds(p.range)
    return ParameterSpec(p.name, p.kind, p.default.value if p.default is not None else None, lower, upper)


def _bounds(range_: Range) -> tuple[Bound | None, Bound | None]:
    return _bound(range_.lower, range_.lower_open), _bound(range_.upper, range_.upper_open)


def _bound(node: Scalar | None, is_open: bool) -> Bound | None:
    match node:
        case Const(value=Fraction() as value):
            return Bound(value, is_open)
        case Param(name=name):
            return Bound(name, is_open)
        case Size(dim=dim):
            return Bound(dim, is_open, extent=True)
        case Apply(name="real", args=(inner,)):
            return _bound(inner, is_open)
    extent = polynomial(node) if node is not None else None
    if extent is not None:
        return Bound(extent, is_open)
    return None  # a bound that is an expression is not tested at run time
