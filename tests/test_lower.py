"""Plans against the IR interpreter, and the properties of plans that no value shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import random_extents, random_inputs, random_parameters, random_program
from references import each_path

from lossdsl.assemble import gradient_program
from lossdsl.diagnostics import Source
from lossdsl.dim import Dim
from lossdsl.ir.build import build
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program
from lossdsl.ir.text import parse_ir
from lossdsl.lower.cost import cost
from lossdsl.lower.interpret import run_plan
from lossdsl.lower.plan import (
    Call,
    Choices,
    ChunkLoop,
    Fold,
    Kernel,
    Key,
    Literal,
    Load,
    Op,
    Plan,
    Scatter,
    Step,
    Store,
)
from lossdsl.lower.prepare import LoweringError
from lossdsl.lower.schedule import kernels, schedule
from lossdsl.lower.text import parse_plan, print_plan
from lossdsl.syntax.parser import parse
from lossdsl.transform.differentiate import differentiate
from lossdsl.transform.simplify import simplify
from lossdsl.transform.stabilise import stabilise

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
EXAMPLES = sorted((ROOT / "examples").glob("*/*.loss"))
EXTENTS = {"n": 7, "c": 5, "d": 4, "m": 6, "b": 3, "k": 4, "a": 5, "h": 6, "w": 5}


# ------------------------------------------------------------------------------------------------------- helpers


def load(path: Path) -> Program:
    source = Source(path.name, path.read_text())
    module, problems = parse(source)
    losses, found = build(module, source)
    assert not problems
    assert len(losses) == 1, found
    return losses[0].program


def gradient(program: Program, tensor: str, wrt: tuple[str, ...]) -> Program:
    return simplify(stabilise(differentiate(program, tensor, wrt)))


def differentiable(program: Program) -> tuple[str, ...]:
    return tuple(i.name for i in program.inputs if i.differentiable)


def entries(program: Program) -> Iterator[tuple[Program, Key, str]]:
    """(program, key, tensor that is "return") of every entry and mode."""
    r = program.reductions
    modes = {"mean": r.mean, "sum": r.sum, "none": r.none} if r is not None else {}
    modes = modes or {"": next(o.tensor for o in program.outputs if o.name == "return")}
    value = simplify(stabilise(program))
    wrt = differentiable(program)
    for mode, tensor in modes.items():
        yield value, Key(program.name, "value", mode, (), (), "torch"), tensor
        derived = gradient(program, tensor, wrt)
        entry = "backward" if mode == "none" else "value_and_gradient"
        yield derived, Key(program.name, entry, mode, wrt, (), "torch"), tensor


def every_extent(program: Program) -> dict[str, int]:
    """An extent for every symbol: small ones that differ, and the defaults of integer parameters."""
    symbols = {s for i in program.inputs for d in (*i.dims, i.classes) if d is not None for s in d.symbols()}
    others = {s: 2 + k % 5 for k, s in enumerate(sorted(symbols - {*EXTENTS, "..."}))}
    integers = {p.name: int(p.default.value) for p in program.parameters if p.kind == "int" and p.default is not None}
    return {**EXTENTS, **others, **integers}


def arrays(program: Program, seed: int, extents: Mapping[str, int] | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    extents = every_extent(program) if extents is None else extents
    found: dict[str, Any] = {}
    for i in program.inputs:
        shape: list[int] = []
        for d in i.dims:
            shape += [2, 3] if d == Dim.symbol("...") else [d.evaluate(extents)]
        positive = i.range.lower is not None and i.range.upper is None
        if i.kind == "class":
            assert i.classes is not None
            labels = rng.integers(0, max(1, i.classes.evaluate(extents)), size=shape)
            found[i.name] = np.where(rng.random(shape) < 0.3, -100, labels) if i.also is not None else labels
        elif i.kind == "simplex":
            x = rng.random(shape)
            found[i.name] = x / x.sum(-1, keepdims=True)
        elif i.kind == "bool":
            found[i.name] = rng.random(shape) < 0.5
        elif i.kind == "sign":
            found[i.name] = 2 * rng.integers(0, 2, size=shape) - 1
        elif i.kind in ("binary", "int"):
            found[i.name] = rng.integers(0, 2, size=shape)
        else:
            found[i.name] = rng.uniform(0.05, 0.95, size=shape) + (1 if positive else 0)
    return found


def defaults(program: Program) -> dict[str, float | int | bool]:
    values: dict[str, float | int | bool] = {}
    for p in program.parameters:
        assert p.default is not None
        values[p.name] = float(p.default.value) if p.kind == "real" else int(p.default.value)
    return values


def expected(program: Program, key: Key, tensor: str, given: dict[str, Any], parameters: Any) -> dict[str, Any]:
    if key.entry == "value":
        return {"return": interpret(program, given, parameters, outputs=[tensor])[tensor]}
    return interpret(program, given, parameters)


def close(a: Any, b: Any, rtol: float = 1e-11) -> bool:
    a, b = np.asarray(a, dtype=float).ravel(), np.asarray(b, dtype=float).ravel()
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=rtol, atol=1e-12, equal_nan=True))


def agree(plan: Plan, program: Program, tensor: str, given: dict[str, Any], parameters: Any) -> None:
    got = run_plan(plan, given, parameters)
    want = expected(program, plan.key, tensor, given, parameters)
    for role, value in got.items():
        if role in want:
            assert close(value, want[role]), (plan.key, role)


def steps(plan: Plan) -> Iterator[tuple[Step, ChunkLoop | None]]:
    for s in plan.steps:
        if isinstance(s, ChunkLoop):
            for inner in s.steps:
                yield inner, s
        else:
            yield s, None


def the_plan(text: str, entry: str = "value", choices: Choices | None = None) -> tuple[Program, Plan]:
    program = parse_ir(text)
    wrt = tuple(o.name[2:] for o in program.outputs if o.name.startswith("d "))
    return program, schedule(program, Key(program.name, entry, "", wrt, (), "torch"), choices)


# ---------------------------------------------------------------------------------------------- values agree


@pytest.mark.parametrize("path", each_path())
def test_every_entry_of_every_example(path: Path) -> None:
    program = load(path)
    for derived, key, tensor in entries(program):
        plan = schedule(derived, key)
        assert parse_plan(print_plan(plan)) == plan
        given = arrays(derived, 3)
        agree(parse_plan(print_plan(plan)), derived, tensor, given, defaults(program))
        assert plan.returns[0][0] == ("return" if key.entry != "backward" else f"d {key.wrt[0]}")


@pytest.mark.parametrize("path", each_path())
def test_chunks_of_three_rows_change_no_value(path: Path) -> None:
    program = load(path)
    for derived, key, tensor in entries(program):
        if key.reduction != "none":
            agree(schedule(derived, key, Choices(rows=3)), derived, tensor, arrays(derived, 4), defaults(program))


@pytest.mark.parametrize("block", range(6))
def test_random_programs(block: int) -> None:
    scheduled = 0
    for seed in range(block * 25, block * 25 + 25):
        program = random_program(seed, size=4, groups=False, opaque=False)
        rng = np.random.default_rng(seed)
        wrt = differentiable(program)
        derived = differentiate(program, program.outputs[0].tensor, wrt)
        extents = random_extents(derived, rng)
        given = random_inputs(derived, rng, extents)
        parameters = random_parameters(derived, rng)
        for entry, one in (("value", program), ("value_and_gradient", derived), ("backward", derived)):
            key = Key("random", entry, "", wrt if entry != "value" else (), (), "torch")
            try:
                plan = schedule(one, key, Choices(rows=2 if seed % 2 else 256))
            except LoweringError:
                continue
            assert parse_plan(print_plan(plan)) == plan
            mine = {i.name: given[i.name] for i in one.inputs}
            got = run_plan(plan, mine, parameters)
            want = expected(one, key, program.outputs[0].tensor, mine, parameters)
            for role, value in got.items():
                assert close(value, want[role], 1e-9), (seed, entry, role)
            scheduled += 1
    assert scheduled > 15


@pytest.mark.parametrize("name", ["info_nce", "cross_entropy", "batch_hard_triplet", "dice"])
def test_empty_batches(name: str) -> None:
    program = load(next(p for p in EXAMPLES if p.stem == name))
    for derived, key, tensor in entries(program):
        given = arrays(derived, 5, {**EXTENTS, "n": 0, "b": 0})
        agree(schedule(derived, key), derived, tensor, given, defaults(program))


# --------------------------------------------------------------------------------------- mutants are noticed


def mutants(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Plans that differ in one number, operation, head, guard or sign."""

    def replaced(old: object, new: object) -> Plan:
        def walk(s: Step) -> Step:
            if isinstance(s, ChunkLoop):
                return replace(s, steps=tuple(walk(i) for i in s.steps))
            if isinstance(s, Kernel):
                return replace(s, statements=tuple(new if x is old else x for x in s.statements))  # type: ignore[misc]
            return new if s is old else s  # type: ignore[return-value]

        return replace(plan, steps=tuple(walk(s) for s in plan.steps))

    swap = {"add": "sub", "sub": "add", "mul": "div", "div": "mul", "lt": "ge", "le": "gt", "eq": "ne", "ne": "eq"}
    for s, _ in steps(plan):
        if isinstance(s, Call):
            yield f"{s.out} accumulated", replaced(s, replace(s, accumulate=not s.accumulate))
        for x in s.statements if isinstance(s, Kernel) else ():
            if isinstance(x, Op) and x.op in swap:
                yield f"{x.name} {x.op}", replaced(x, replace(x, op=swap[x.op]))
            if isinstance(x, Op) and x.op == "select":
                yield f"{x.name} branches", replaced(x, replace(x, args=(x.args[0], x.args[2], x.args[1])))
            if isinstance(x, Fold) and x.head in ("sum", "logsumexp"):
                yield f"{x.name} head", replaced(x, replace(x, head="max"))
            if isinstance(x, Fold) and x.where is not None:
                yield f"{x.name} where", replaced(x, replace(x, where=None))
            if isinstance(x, Store):
                yield f"{x.buffer} value", replaced(x, replace(x, value=Literal(Fraction(7, 3))))


@pytest.mark.parametrize("name", ["huber", "cross_entropy", "info_nce"])
def test_a_changed_plan_changes_the_result(name: str) -> None:
    program = load(next(p for p in EXAMPLES if p.stem == name))
    derived, key, _ = next(e for e in entries(program) if e[1].entry == "value_and_gradient")
    plan = schedule(derived, key, Choices(rows=3))
    given = arrays(derived, 6)
    parameters = {p: 0.3 if p != "ignore_index" else v for p, v in defaults(program).items()}
    want = run_plan(plan, given, parameters)
    tried, alive = 0, []
    for what, mutant in mutants(plan):
        tried += 1
        try:
            got = run_plan(mutant, given, parameters)
        except ValueError:
            continue
        if all(close(got[k], want[k]) for k in want):
            alive.append(what)
    assert tried > 8
    # What survives is arithmetic on guards that the data at hand does not need (an empty batch, a zero weight).
    assert len(alive) <= tried // 6, alive


# ---------------------------------------------------------------------------------------------- shape of plans


def buffers_and_values(plan: Plan) -> Iterator[tuple[str, list[Dim]]]:
    """Extents of every buffer and every value of every kernel, an axis of a chunk loop cut to the chunk."""
    for b in plan.buffers:
        yield b.name, [d for k, d in enumerate(b.dims) if b.role != "chunk" or k != b.chunked]
    for s, loop in steps(plan):
        if not isinstance(s, Kernel):
            continue
        extent = {a.name: a.extent for a in s.axes if loop is None or a.name != loop.axis}
        along: dict[str, set[str]] = {}
        for x in s.statements:
            if isinstance(x, Load):
                along[x.name] = {a for p in x.subscripts for a, _ in p.axes}
                along[x.name] |= {a for p in x.subscripts if p.data is not None for a in along[p.data.name]}
            elif isinstance(x, Op):
                found = [along.get(getattr(a, "name", ""), set()) for a in x.args if not hasattr(a, "type")]
                along[x.name] = set().union(*found)
            elif isinstance(x, Fold):
                along[x.name] = along.get(getattr(x.value, "name", ""), set()) - set(x.axes)
            else:
                continue
            yield x.name, [extent[a] for a in along[x.name] if a in extent]


@pytest.mark.parametrize("name", ["info_nce", "batch_hard_triplet"])
@pytest.mark.parametrize("entry", ["value", "value_and_gradient", "backward"])
def test_pairs_are_never_whole_in_memory(name: str, entry: str) -> None:
    program = load(next(p for p in EXAMPLES if p.stem == name))
    n = Dim.symbol("n")
    for derived, key, _ in entries(program):
        if key.entry == entry:
            plan = schedule(derived, key)
            assert any(isinstance(s, ChunkLoop) for s in plan.steps)
            for what, dims in buffers_and_values(plan):
                assert dims.count(n) < 2, (what, dims)
            assert max((sum(a == "n" for a in m) for m, _ in cost(plan).peak.terms), default=0) < 2


def test_info_nce_is_products_around_one_row_kernel() -> None:
    program = load(ROOT / "examples/self_supervised/info_nce.loss")
    derived, key, _ = next(e for e in entries(program) if e[1].entry == "value_and_gradient")
    (loop,) = [s for s in schedule(derived, key).steps if isinstance(s, ChunkLoop)]
    assert loop.size == 256
    assert [type(s).__name__ for s in loop.steps] == ["Call", "Kernel", "Call", "Call"]


def test_lane_of_nchw_is_not_the_class_axis() -> None:
    program = load(ROOT / "examples/classification/cross_entropy.loss")
    derived = gradient(program, "return", ("logits",))
    for entry in ("value_and_gradient", "backward"):
        found = []
        for k in kernels(schedule(derived, Key("cross_entropy", entry, "mean", ("logits",), (), "torch"))):
            if any(isinstance(s, Load) and s.buffer == "logits" for s in k.statements):
                found.append((k.lane, {str(a.extent): a.role for a in k.axes}))
                assert next(str(a.extent) for a in k.axes if a.name == k.lane) == "..."
        assert {"n": "grid", "c": "loop", "...": "lane"} in [roles for _, roles in found]
    text = "program p\n  input x: real[n, c]\n  l[n] = logsumexp c . x[n, c]\n  v = sum n . l[n]\n  output return = v\n"
    _, plan = the_plan(text)
    assert [k.lane for k in kernels(plan)] == ["c"]


def test_the_value_and_gradient_of_an_elementwise_loss_are_one_pass() -> None:
    for name in ("huber", "focal", "mse"):
        program = load(next(p for p in EXAMPLES if p.stem == name))
        derived, key, _ = next(e for e in entries(program) if e[1].entry == "value_and_gradient")
        plan = schedule(derived, key)
        assert cost(plan).passes == 1
        (whole,) = [k for k in kernels(plan) if k.axes]
        loads = [s.buffer for s in whole.statements if isinstance(s, Load)]
        assert sorted(loads) == sorted(set(loads))


def test_the_weight_of_a_weighted_mean_comes_first_so_that_logits_are_read_once() -> None:
    program = load(ROOT / "examples/classification/cross_entropy.loss")
    derived = gradient(program, "return", ("logits",))
    plan = schedule(derived, Key("cross_entropy", "value_and_gradient", "mean", ("logits",), ("weight",), "torch"))
    readers = [k for k in kernels(plan) if any(isinstance(s, Load) and s.buffer == "logits" for s in k.statements)]
    assert len(readers) == 1
    assert not any(b.name == "weight" for b in plan.buffers)


CLIP = """program clip
  input q: real[n, d]
  input k: real[n, d]
  sim[n, m: n] = sum d . q[n, d] * k[m, d]
  rows[n] = logsumexp m: n . sim[n, m]
  columns[m: n] = logsumexp n . sim[n, m]
  v = sum n . rows[n] + columns[n] - 2.0 * sim[n, n]
  output return = v
"""


def test_row_and_column_results_of_one_product_get_a_loop_each() -> None:
    program, plan = the_plan(CLIP, choices=Choices(rows=3))
    loops = [s for s in plan.steps if isinstance(s, ChunkLoop)]
    assert len(loops) == 2
    for what, dims in buffers_and_values(plan):
        assert dims.count(Dim.symbol("n")) < 2, (what, dims)
    agree(plan, program, "v", arrays(program, 8), {})


SEGMENTS = """program segments
  input x: real[n]
  input t: class[n] of c
  input w: real[c]
  total[a: c] = sum n where t[n] == a . x[n] * x[n]
  top[a: c] = max n where t[n] == a and x[n] > 0.0 . x[n]
  v = sum a: c . w[a] * total[a] + top[a]
  output return = v
"""


def test_selections_are_scatters() -> None:
    program, plan = the_plan(SEGMENTS)
    found = [s for k in kernels(plan) for s in k.statements if isinstance(s, Scatter)]
    assert sorted(s.combine for s in found) == ["max", "sum"]
    assert all(len(a.extent.terms) <= 1 for k in kernels(plan) for a in k.axes)
    assert not any({"n", "c"} <= {str(a.extent) for a in k.axes} for k in kernels(plan))
    given = arrays(program, 9)
    given["t"] = np.arange(7) % 5  # no empty segment: a maximum over nothing has no value
    agree(plan, program, "v", given, {})
    given["t"][0] = 99  # out of range: dropped
    given["t"][5] = 0
    agree(plan, program, "v", given, {})


MASKED = """program masked
  input q: real[n, d]
  input k: real[m, d]
  input keep: bool[d]
  v[n, m] = sum d where keep[d] . q[n, d] * k[m, d]
  s = sum n, m . tanh(v[n, m])
  output return = s
"""


def test_an_excluded_infinity_does_not_leak_through_a_product() -> None:
    program, plan = the_plan(MASKED)
    assert any(isinstance(s, Call) for s, _ in steps(plan))
    given = arrays(program, 10)
    given["keep"] = np.array([True, False, True, True])
    given["q"][:, 1], given["k"][:, 1] = np.inf, np.nan
    value = run_plan(plan, given, {})["return"]
    assert np.isfinite(value)
    agree(plan, program, "s", given, {})


MOMENTS = """program moments
  input x: real[n, d]
  mean[n] = sum d . x[n, d] / real(size(d))
  var[n] = sum d . (x[n, d] - mean[n]) ^ 2 / real(size(d))
  lse[n] = logsumexp d where x[n, d] > 0.0 . x[n, d]
  v = sum n . var[n] + softplus(lse[n])
  output return = v
"""


def test_two_pass_folds_keep_their_digits() -> None:
    """Mean 1e4 with spread 1, a row that is masked from its start, and the ends of the range."""
    program, plan = the_plan(MOMENTS)
    rng = np.random.default_rng(0)
    x = 1e4 + rng.normal(size=(4, 2000))
    x[1, :1500] = -1.0
    x[2] = -1.0
    x[3] = np.where(rng.random(2000) < 0.5, 1e150, -1e150)
    given = {"x": x[:3]}
    agree(plan, program, "v", given, {})
    exact = sum(np.var(row.astype(np.longdouble)) for row in x[:3])
    tails = [np.log(np.exp(r[r > 0] - r.max()).sum()) + r.max() if (r > 0).any() else -np.inf for r in x[:3]]
    want = exact + sum(np.logaddexp(0, t) for t in tails)
    assert abs(run_plan(plan, given, {})["return"] / float(want) - 1) < 1e-12
    assert close(run_plan(plan, {"x": x}, {})["return"], interpret(program, {"x": x}, {})["return"])


def test_loads_outside_are_guarded_and_loads_inside_are_not() -> None:
    text = (
        "program shifts\n  input x: real[n]\n  y[n] = map . x[n] - (x[n - 1] if n > 0 else 0.0)\n"
        "  v = sum n . y[n] ^ 2\n  output return = v\n"
    )
    program, plan = the_plan(text)
    loads = [s for k in kernels(plan) for s in k.statements if isinstance(s, Load)]
    assert sorted(s.guard is not None for s in loads) == [False, True]
    agree(plan, program, "v", arrays(program, 11), {})
    unguarded = print_plan(plan).replace(" guard %", " guard true  pad 0\n# %")
    broken = parse_plan("\n".join(line for line in unguarded.splitlines() if not line.startswith("#")) + "\n")
    with pytest.raises(ValueError, match="out of range"):
        run_plan(broken, arrays(program, 11), {})


def test_a_masked_gather_is_padded_with_the_identity_of_its_fold() -> None:
    text = (
        "program gathers\n  input x: real[c]\n  input t: class[n] of c or ignore\n  param ignore: int = -100\n"
        "  v = max n where t[n] != ignore . x[t[n]]\n  output return = v\n"
    )
    program, plan = the_plan(text)
    (load_x,) = [s for k in kernels(plan) for s in k.statements if isinstance(s, Load) and s.buffer == "x"]
    assert load_x.pad == Literal("-inf")
    assert load_x.guard is not None
    agree(plan, program, "v", arrays(program, 12), {"ignore": -100})


def test_decisions_are_explained() -> None:
    program = load(ROOT / "examples/self_supervised/info_nce.loss")
    derived, key, _ = next(e for e in entries(program) if e[1].entry == "value_and_gradient")
    plan = schedule(derived, key)
    for word in ("library product", "chunks of 256", "lane", "parallel over", "two stages", "one pass"):
        assert any(word in line for line in plan.why), word
    for b in plan.buffers:
        assert b.reason or b.role not in ("temporary", "chunk", "saved")


def test_names_of_the_user_survive() -> None:
    program = load(ROOT / "examples/regression/huber.loss")
    plan = schedule(simplify(stabilise(program)), Key("huber", "value", "mean", (), (), "torch"))
    assert {"r", "per"} <= {s.name for k in kernels(plan) for s in k.statements if isinstance(s, Op)}


def test_plans_do_not_depend_on_hash_seeds(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from references import SPINE\n"
        "from test_lower import *\n"
        "for p in EXAMPLES:\n"
        "    if p.stem not in SPINE: continue\n"
        "    for derived, key, _ in entries(load(p)): print(print_plan(schedule(derived, key)))\n"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            cwd=ROOT,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        ).stdout
        for seed in ("1", "77")
    ]
    assert texts[0] == texts[1]


def test_backward_says_what_is_saved_for_it() -> None:
    program = load(ROOT / "examples/classification/focal.loss")
    wrt = tuple(i.name for i in program.inputs if i.differentiable)[:1]
    plan = schedule(gradient(program, "return", wrt), Key(program.name, "backward", "mean", wrt, (), "torch"))
    assert any("nothing but the inputs is saved" in line for line in plan.why)
    assert {b.role for b in plan.buffers} <= {"input", "cotangent", "output", "temporary", "chunk"}


# --------------------------------------------------------------------------------------------------- golden texts


@pytest.mark.parametrize(
    ("golden", "path", "wrt", "absent"),
    [
        ("info_nce.torch.plan", "examples/self_supervised/info_nce.loss", ("q", "k"), ()),
        ("cross_entropy_nchw.torch.plan", "examples/classification/cross_entropy.loss", ("logits",), ("weight",)),
    ],
)
def test_golden(golden: str, path: str, wrt: tuple[str, ...], absent: tuple[str, ...], update_golden: bool) -> None:
    program = load(ROOT / path)
    derived = gradient_program(program, "return", wrt, absent)
    text = print_plan(schedule(derived, Key(program.name, "value_and_gradient", "mean", wrt, absent, "torch")))
    file = GOLDEN / golden
    if update_golden:
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.read_text() == text
