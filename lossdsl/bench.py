"""Measure a loss: time, bytes, memory and error of its module against the same formula left to torch, in one process.

Providers take turns (interleaved rounds, rotating order) and medians are compared. The least that value and gradient can
move is every input read once and every gradient written once; beside the times it is given as a share of what a copy of
the same size reaches here. Errors are against the formula in float64.
"""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import prod
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table as Grid
from torch.profiler import ProfilerActivity, profile

from lossdsl import pipeline
from lossdsl.assemble import differentiable
from lossdsl.diagnostics import Source
from lossdsl.ir.build import BuiltLoss
from lossdsl.ir.extents import roomy, symbols_of
from lossdsl.ir.nodes import Const, Input, Program, Scalar, Size
from lossdsl.loader import load_module
from lossdsl.names import function_name

Loss = Callable[..., Any]
_PATIENCE = 20.0  # seconds for all rounds
_WANTED = 2**22  # elements of the largest input, where no shape is given
_ROUNDS = 4096  # how much an extent is grown so that no definition is empty


class CannotBench(Exception):
    """The loss cannot be measured as asked; the message is for the user."""


@dataclass(frozen=True)
class Row:
    """One provider. seconds: median of value and gradient; peak: bytes held at once above the inputs, None where it
    cannot be seen; errors: of value and gradient, relative to the largest entry, against float64."""

    name: str
    seconds: float
    peak: int | None
    value_error: float
    gradient_error: float


@dataclass(frozen=True)
class Table:
    """bytes: the least that value and gradient move; copied: bytes a second of a copy of as many."""

    loss: str
    device: str
    dtype: str
    shapes: Mapping[str, tuple[int, ...]]
    wrt: tuple[str, ...]
    bytes: int
    copied: float
    rows: tuple[Row, ...]
    failed: Mapping[str, str]


@dataclass(frozen=True)
class Options:
    """What is asked for; `peer` is "module:function", called with the inputs in their order."""

    shape: Mapping[str, int | tuple[int, ...]]
    dtype: str = "float32"
    device: str = "cpu"
    target: str = "torch"
    native: bool = False
    compiled: bool = True
    peer: str | None = None
    wrt: tuple[str, ...] = ()
    rounds: int = 15
    threads: int | None = None
    seed: int = 0


def bench(source: Source, built: BuiltLoss, options: Options) -> Table:
    """Measure one loss. Raises CannotBench."""
    try:
        return _measured(source, built, options)
    except (MemoryError, RuntimeError) as problem:
        if not _out_of_memory(problem):
            raise
        least = _bytes_text(_least_bytes(built.program, _extents(built.program, options.shape), options))
        raise CannotBench(f"not enough memory: the inputs alone need {least}; give smaller extents") from problem


def _out_of_memory(problem: Exception) -> bool:
    words = ("out of memory", "not enough memory", "allocate memory")
    return isinstance(problem, MemoryError) or any(w in str(problem).lower() for w in words)


def _measured(source: Source, built: BuiltLoss, options: Options) -> Table:
    program = built.program
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    emitted = pipeline.emit(source, (built,), options.target, native=options.native).text
    name = function_name(program.name)
    extents = _extents(program, options.shape)
    given = _drawn(program, extents, options)
    formula = _formula(emitted, source.path, name)
    providers: dict[str, Loss] = {"lossdsl": getattr(load_module(emitted, source.path), name), "eager": formula}
    if options.peer is not None:
        providers[options.peer] = _positional(_peer(options.peer))
    if options.compiled:
        torch._dynamo.reset()
        providers["torch.compile"] = torch.compile(formula)
    wrt, exact = _reference(providers, _wrt(program, options.wrt, given), given, single=not options.wrt)
    steps: dict[str, Callable[[], None]] = {}
    leaves: dict[str, dict[str, torch.Tensor]] = {}
    values: dict[str, torch.Tensor] = {}
    failed: dict[str, str] = {}
    for provider, loss in providers.items():
        held = {n: t.clone().requires_grad_(n in wrt) for n, t in given.items()}
        step = _step(loss, held, wrt, values, provider)
        try:
            step()
            step()
        except Exception as problem:
            if provider == "lossdsl":
                raise CannotBench(f"the loss fails at these shapes: {problem}") from problem
            failed[provider] = str(problem).strip().split("\n")[0][:200]
            continue
        steps[provider], leaves[provider] = step, held
    times = medians(steps, options.rounds, clock=partial(_clock, options.device))
    rows = []
    for provider, step in steps.items():
        errors = _errors(values[provider], leaves[provider], exact)
        rows.append(Row(provider, times[provider], peak(step, options.device), *errors))
    least = sum(t.numel() * t.element_size() * (2 if n in wrt else 1) for n, t in given.items())
    shapes = {n: tuple(t.shape) for n, t in given.items()}
    return Table(
        program.name, options.device, options.dtype, shapes, wrt, least, _copied(least, options), tuple(rows), failed
    )


# ----------------------------------------------------------------------------------------------------- providers


def _formula(text: str, path: str, name: str) -> Loss:
    """The emitted function, kept from its kernels: torch records the operations of its formula."""
    module: ModuleType = load_module(f"{text}\n# without kernels\n", path)
    module.__dict__["_plain"] = lambda *_: False
    found: Loss = getattr(module, name)
    return found


def _peer(text: str) -> Loss:
    name, _, function = text.partition(":")
    try:
        found: Loss = getattr(importlib.import_module(name), function)
    except (ImportError, AttributeError, ValueError) as problem:
        raise CannotBench(f"no peer {text!r}: {problem}; write it as module:function") from None
    return found


def _positional(loss: Loss) -> Loss:
    return lambda **given: loss(*given.values())


def _step(
    loss: Loss, held: Mapping[str, torch.Tensor], wrt: tuple[str, ...], values: dict[str, torch.Tensor], name: str
) -> Callable[[], None]:
    """Value and gradient, as a training step asks for them."""

    def run() -> None:
        for entry in wrt:
            held[entry].grad = None
        made = loss(**held)
        value = made[0] if isinstance(made, tuple) else made
        values[name] = value.detach()
        value.sum().backward()

    return run


def _reference(
    providers: Mapping[str, Loss], able: tuple[str, ...], given: Mapping[str, torch.Tensor], *, single: bool
) -> tuple[tuple[str, ...], dict[str, torch.Tensor]]:
    """The inputs that get a gradient (`single`: the first for which it is not 0), and value and gradients in float64."""
    problem: Exception | None = None
    flat: tuple[tuple[str, ...], dict[str, torch.Tensor]] | None = None
    for wrt in [(name,) for name in able] if single else [able]:
        for loss in ("eager", "lossdsl"):  # a limited gradient has no formula
            try:
                exact = _exact(providers[loss], given, wrt)
            except Exception as found:
                problem = found
                continue
            if not single or any(exact[name].count_nonzero() for name in exact if name):
                return wrt, exact
            flat = flat or (wrt, exact)
    if flat is not None:
        return flat
    raise CannotBench(f"no gradient at these shapes: {problem}")


def _exact(loss: Loss, given: Mapping[str, torch.Tensor], wrt: tuple[str, ...]) -> dict[str, torch.Tensor]:
    held = {n: t.double() if t.is_floating_point() else t for n, t in given.items()}
    held = {n: t.clone().requires_grad_(n in wrt) for n, t in held.items()}
    values: dict[str, torch.Tensor] = {}
    _step(loss, held, wrt, values, "")()
    gradients = {n: g for n in wrt if (g := held[n].grad) is not None}
    return {"": values[""], **gradients}


# ------------------------------------------------------------------------------------------------------- inputs


def _extents(program: Program, shape: Mapping[str, int | tuple[int, ...]]) -> dict[str, Any]:
    symbols = symbols_of(program)
    parameters = {p.name: p for p in program.parameters if p.name in symbols}
    for name in shape:
        if name not in symbols or name in parameters:
            known = ", ".join(sorted(symbols - set(parameters))) or "none"
            raise CannotBench(f"no axis {name!r} in {program.name}; its axes are: {known}")
    wide = max((sum(not d.constant for d in i.dims) for i in program.inputs), default=1)
    size = max(2, round(_WANTED ** (1 / max(1, wide))))
    extents = {s: prod(v) if isinstance(v := shape.get(s, size), tuple) else v for s in symbols}
    for name, p in parameters.items():
        if p.default is None or not isinstance(p.default.value, Fraction):
            raise CannotBench(f"the parameter {name} gives an extent and has no default")
        extents[name] = int(p.default.value)
    return roomy(program, extents, {*parameters, *shape}, _ROUNDS)


def _drawn(program: Program, extents: Mapping[str, int], options: Options) -> dict[str, torch.Tensor]:
    """Random tensors of the declared kinds and domains, of every input that has to be given."""
    least, there = _least_bytes(program, extents, options), _memory()
    if there is not None and least > there:
        message = f"the inputs alone would need {_bytes_text(least)}, and this machine has {_bytes_text(there)}"
        raise CannotBench(f"{message}; give smaller extents with --shape")
    generator = torch.Generator().manual_seed(options.seed)
    found: dict[str, torch.Tensor] = {}
    for i, shape in _given(program, extents, options):
        t = _tensor(i, shape, extents, generator)
        dtype = getattr(torch, options.dtype) if t.is_floating_point() else t.dtype
        found[i.name] = _placed(t, options.device, dtype)
    return found


def _given(program: Program, extents: Mapping[str, int], options: Options) -> Iterator[tuple[Input, list[int]]]:
    """Every input that has to be given, and its shape."""
    for i in program.inputs:
        if (i.default is not None and i.role != "learnable") or i.role in ("cotangent", "tangent"):
            continue
        shape: list[int] = []
        for dim in i.dims:
            rest = options.shape.get("...") if set(dim.symbols()) == {"..."} else None
            shape += rest if isinstance(rest, tuple) else [dim.evaluate(extents)]
        if min(shape, default=1) < 0:
            raise CannotBench(f"{i.name} would have the shape {shape}; give larger extents with --shape")
        yield i, shape


_DRAWN_BYTES = {"bool": 1, "class": 8, "int": 8}  # of what is drawn on the host; the others are float32


def _least_bytes(program: Program, extents: Mapping[str, int], options: Options) -> int:
    """The memory of the inputs as they are drawn; values and gradients come on top."""
    return sum(prod(shape) * _DRAWN_BYTES.get(i.kind, 4) for i, shape in _given(program, extents, options))


def _memory() -> int | None:
    """The memory of this machine in bytes, None where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _bytes_text(count: int) -> str:
    for power, unit in ((6, "EB"), (5, "PB"), (4, "TB"), (3, "GB"), (2, "MB")):
        if count >= 1000**power:
            return f"{count / 1000**power:,.4g} {unit}"
    return f"{count} bytes"


def _placed(t: torch.Tensor, device: str, dtype: torch.dtype) -> torch.Tensor:
    try:
        return t.to(device, dtype)
    except (RuntimeError, AssertionError) as problem:  # no such device, or a build without it
        raise CannotBench(f"cannot use the device {device!r}: {str(problem).splitlines()[0]}") from None


def _tensor(i: Input, shape: list[int], extents: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
    low, high = _number(i.range.lower, extents), _number(i.range.upper, extents)
    if i.default is not None:
        return torch.full(shape, _number(i.default, extents) or 0.0)
    match i.kind:
        case "class":
            top = i.classes.evaluate(extents) if i.classes is not None else 1
            return torch.randint(0, max(1, top), shape, generator=generator)
        case "bool":
            return torch.rand(shape, generator=generator) < 0.5
        case "binary":
            return torch.randint(0, 2, shape, generator=generator).float()
        case "sign":
            return 2.0 * torch.randint(0, 2, shape, generator=generator) - 1
        case "int":
            own = {s for dim in i.dims for s in dim.symbols()}
            most = min((n for s, n in extents.items() if s not in own), default=8) if high is None else int(high)
            least = most // 2 if low is None else int(low)  # most likely a length
            return torch.randint(least, max(least, most) + 1, shape, generator=generator)
        case "prob":
            return 0.01 + 0.98 * torch.rand(shape, generator=generator)
    x = torch.randn(shape, generator=generator)
    if i.kind == "simplex":
        weights = x.exp()
        return weights / weights.sum(i.over, keepdim=True)
    if i.kind == "unit":
        return x / x.square().sum(i.over, keepdim=True).sqrt()
    if low is not None and high is not None:
        return low + (high - low) * (0.01 + 0.98 * torch.rand(shape, generator=generator))
    if low is not None:
        return low + x.abs() + 0.01
    return x if high is None else high - x.abs() - 0.01


def _number(bound: Scalar | None, extents: Mapping[str, int]) -> float | None:
    if isinstance(bound, Size):
        return float(bound.dim.evaluate(extents))
    return float(bound.value) if isinstance(bound, Const) and isinstance(bound.value, Fraction) else None


def _wrt(program: Program, wanted: Sequence[str], given: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    able = [name for name in differentiable(program) if name in given]
    for name in wanted:
        if name not in able:
            raise CannotBench(f"no gradient in {name!r}; there is one in: {', '.join(able) or 'nothing'}")
    if not able:
        raise CannotBench(f"{program.name} has no input with a gradient")
    return tuple(wanted or able)


# ------------------------------------------------------------------------------------------------- measurements


def _clock(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def medians(
    steps: Mapping[str, Callable[[], None]],
    rounds: int,
    patience: float = _PATIENCE,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median times of steps that have run before, in interleaved rounds: as many as the patience (seconds) allows."""

    def timed(run: Callable[[], None]) -> float:
        start = clock()
        run()
        return clock() - start

    once = sum(timed(run) for run in steps.values())
    rounds = max(3, min(rounds, int(patience / max(once, 1e-6))))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for order in _turns(list(steps), rounds):
        for name in order:
            times[name].append(timed(steps[name]))
    return {name: statistics.median(t) for name, t in times.items()}


def _turns(names: list[str], rounds: int) -> Iterator[list[str]]:
    """The order rotates, so that nobody always runs after the same one."""
    for k in range(rounds):
        yield names[k % len(names) :] + names[: k % len(names)]


def _copied(size: int, options: Options) -> float:
    """Bytes a second, read and written, of a copy that moves as many as the loss has to."""
    source = torch.ones(max(1, size // 8), device=options.device)  # zeros would share one page
    target = torch.empty_like(source)
    target.copy_(source)

    def timed() -> float:
        start = _clock(options.device)
        target.copy_(source)
        return _clock(options.device) - start

    times = [timed() for _ in range(max(5, options.rounds))]
    return float(8 * source.numel() / statistics.median(times))


def peak(step: Callable[[], None], device: str) -> int | None:
    """The most bytes that torch's allocator held at once beyond the inputs. On a CPU with LOSSDSL_KEEP=0: memory that
    compiled kernels keep for their next results would not be seen."""
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    with mock.patch.dict(os.environ, LOSSDSL_KEEP="0"):
        step()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            step()
    results = recorded.profiler.kineto_results if recorded.profiler is not None else None
    if results is None:
        return None
    events = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    held = most = 0
    for _, size in events:
        held += size
        most = max(most, held)
    return most


def _errors(
    value: torch.Tensor, held: Mapping[str, torch.Tensor], exact: Mapping[str, torch.Tensor]
) -> tuple[float, float]:
    worst = 0.0
    for name, wanted in exact.items():
        made = held[name].grad if name else value
        if made is None or made.shape != wanted.shape:
            found = float("nan")
        else:
            size = float(wanted.abs().max()) if wanted.numel() else 0.0
            apart = torch.where(made.double() == wanted, 0.0, (made.double() - wanted).abs())  # inf is inf
            gap = float(apart.max()) if wanted.numel() else 0.0
            found = gap / size if size else gap
        if not name:
            of_value = found
        else:
            worst = max(worst, found) if found == found else found
    return of_value, worst


# ------------------------------------------------------------------------------------------------------- report


def as_json(table: Table) -> dict[str, Any]:
    """The table and what it is made of; seconds, bytes, and bytes a second."""
    rows = []
    for row in table.rows:
        share = table.bytes / row.seconds / table.copied
        rows.append({**vars(row), "bytes_per_second": table.bytes / row.seconds, "share_of_copy": share})
    return {
        "loss": table.loss,
        "device": table.device,
        "dtype": table.dtype,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "shapes": {n: list(s) for n, s in table.shapes.items()},
        "gradients": list(table.wrt),
        "bytes": table.bytes,
        "copy_bytes_per_second": table.copied,
        "rows": rows,
        "failed": dict(table.failed),
    }


def show(console: Console, table: Table) -> None:
    """The table, for people."""
    shapes = ", ".join(f"{n} {list(s)}" for n, s in table.shapes.items())
    where = f"{table.device}, {torch.get_num_threads()} threads" if table.device == "cpu" else table.device
    console.print(f"{table.loss}: value and gradient in {', '.join(table.wrt)}; {shapes}", markup=False, soft_wrap=True)
    least = f"{table.bytes / 2**20:.1f} MiB at least; a copy of as much: {table.copied / 1e9:.1f} GB/s"
    console.print(f"{table.dtype}, torch {torch.__version__}, {where}; {least}", markup=False, soft_wrap=True)
    shown = Grid("", "ms", "lossdsl is", "GB/s", "of a copy", "peak MiB", "value error", "gradient error", box=None)
    for column in shown.columns[1:]:
        column.justify = "right"
    own = table.rows[0].seconds
    for row in table.rows:
        speed = table.bytes / row.seconds
        shown.add_row(
            *(row.name, f"{row.seconds * 1e3:.3f}", "" if row is table.rows[0] else f"{row.seconds / own:.2f}x"),
            *(f"{speed / 1e9:.1f}", f"{speed / table.copied:.0%}"),
            *("" if row.peak is None else f"{row.peak / 2**20:.1f}", f"{row.value_error:.1e}"),
            f"{row.gradient_error:.1e}",
        )
    console.print(shown)
    for name, why in table.failed.items():
        console.print(f"{name}: {why}", markup=False, soft_wrap=True)


__all__ = ["CannotBench", "Options", "Row", "Table", "as_json", "bench", "medians", "peak", "show"]
