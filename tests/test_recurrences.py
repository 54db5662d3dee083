"""Plans of recurrences, sorts and library routines: against the IR interpreter, and what they must look like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recurrences import NAMED, TEXTS, arguments, program

from lossdsl.assemble import differentiable, gradient_program, value_program
from lossdsl.backends.window_joins import joined
from lossdsl.backends.windows import without_adding_loops
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program
from lossdsl.ir.text import parse_ir
from lossdsl.lower.cost import cost
from lossdsl.lower.interpret import run_plan
from lossdsl.lower.plan import Call, Key, Load, Plan, Recurrence
from lossdsl.lower.schedule import kernels, loads, schedule, stores
from lossdsl.lower.text import parse_plan, print_plan

GOLDEN = Path(__file__).parent / "golden"


def planned(p: Program, entry: str) -> tuple[Program, Plan]:
    wrt = differentiable(p) if entry != "value" else ()
    made = value_program(p) if entry == "value" else gradient_program(p, p.outputs[0].tensor, wrt)
    mode = p.reductions.written if p.reductions is not None else ""
    return made, schedule(made, Key(p.name, entry, mode, wrt, (), "torch"))


def recurrences(plan: Plan) -> list[Recurrence]:
    return [s for s in plan.steps if isinstance(s, Recurrence)]


@pytest.mark.parametrize("entry", ["value", "value_and_gradient", "backward"])
@pytest.mark.parametrize("name", [*TEXTS, *NAMED])
def test_plan_is_the_program(name: str, entry: str) -> None:
    p = program(name)
    made, plan = planned(p, entry)
    assert parse_plan(print_plan(plan)) == plan
    for seed in (0, 1):
        arrays, parameters = arguments(p, seed)
        cotangents = {i.name: np.asarray(1.0) for i in made.inputs if i.role == "cotangent"}
        want = interpret(made, {**arrays, **cotangents}, parameters)
        got = run_plan(plan, {**arrays, **cotangents}, parameters)
        for role, value in got.items():
            np.testing.assert_allclose(value, want[role], rtol=1e-9, atol=1e-12, err_msg=role)
        for other in (joined(plan), without_adding_loops(plan), without_adding_loops(joined(plan))):
            assert parse_plan(print_plan(other)) == other
            if other != plan:
                again = run_plan(other, {**arrays, **cotangents}, parameters)
                for role, value in again.items():
                    np.testing.assert_allclose(value, got[role], rtol=1e-12, atol=1e-13, err_msg=role)


def test_a_recurrence_that_runs_the_other_way_is_another() -> None:
    p = program("gae_value")
    _, plan = planned(p, "value")
    arrays, parameters = arguments(p)
    turned = replace(
        plan,
        steps=tuple(replace(s, direction=-s.direction) if isinstance(s, Recurrence) else s for s in plan.steps),
    )
    assert not np.isclose(run_plan(turned, arrays, parameters)["return"], run_plan(plan, arrays, parameters)["return"])


@pytest.mark.parametrize("name", ["gae_value", "ssim"])
def test_golden_plans(name: str, update_golden: bool) -> None:
    _, plan = planned(program(name), "value_and_gradient")
    if update_golden:
        (GOLDEN / f"{name}.torch.plan").write_text(print_plan(plan))
    assert print_plan(plan) == (GOLDEN / f"{name}.torch.plan").read_text()


def test_a_round_has_only_what_carries() -> None:
    """What does not depend on an earlier round is made before the loop, for all rounds at once."""
    _, plan = planned(program("gae_value"), "value")
    (loop,) = recurrences(plan)
    (round_,) = loop.steps
    assert loop.direction == -1
    assert {s.buffer for s in loads(round_)} == {"advantage", "delta", "advantage_step"}  # type: ignore[arg-type]
    assert [a.role for a in round_.axes] == ["lane"]  # type: ignore[union-attr]


@pytest.mark.parametrize(("entry", "differ"), [("value", 0), ("value_and_gradient", 1)])
def test_what_is_the_same_in_all_rounds_is_stored_once(entry: str, differ: int) -> None:
    """A difference of entries, whatever the conditions under which a round reads it. The slope of tanh does differ."""
    _, plan = planned(program("same"), entry)
    steps = {b.name: [str(d) for d in b.dims] for b in plan.buffers if ".step" in b.name or "_step" in b.name}
    assert ["b", "c"] in steps.values(), "nothing is made before the loop"
    assert [*steps.values()].count(["t", "b", "c"]) == differ


def test_two_axes_run_by_anti_diagonals_where_they_can() -> None:
    for entry, count in (("value", 1), ("backward", 2)):
        _, plan = planned(program("soft_dtw"), entry)
        loops = recurrences(plan)
        assert [str(r.extent) for r in loops] == ["i + j - 1"] * count
        assert not any(isinstance(s, Recurrence) for r in loops for s in r.steps)
        assert [r.direction for r in loops] == [1, -1][:count]
    for name, reason in (
        ("zigzag", "it reads a on the same anti-diagonal"),
        ("cholesky", "it reads l at positions that are no constant distance away"),
    ):
        _, plan = planned(program(name), "value")
        (outer,) = recurrences(plan)
        assert any(isinstance(s, Recurrence) for s in outer.steps)
        assert any(reason in w for w in plan.why)


def test_sorts_and_matrices_are_calls() -> None:
    for name, operation in (("masked_sort", "argsort"), ("logdet", "logdet"), ("mahalanobis", "inverse")):
        _, plan = planned(program(name), "value")
        assert [s.operation for s in plan.steps if isinstance(s, Call)].count(operation) == 1


def test_a_condition_on_the_entries_of_a_window_is_no_reason_to_make_it_whole() -> None:
    """It holds at a position or not, so that entries are 0 where it does not, and each offset has a pass."""
    for entry, windows in (("value", {"out", "number"}), ("value_and_gradient", {"out", "number", "x'.1", "y'"})):
        _, plan = planned(program("gated"), entry)
        assert {w.split()[0] for w in plan.why if " is made along j, then i" in w} == windows


def test_a_window_whose_weights_are_products_has_a_pass_for_each_offset() -> None:
    _, plan = planned(program("ssim"), "value_and_gradient")
    loops = recurrences(plan)
    assert {r.axis for r in loops} == {"i", "j"}
    assert not any(isinstance(s, Recurrence) for r in loops for s in r.steps)
    assert not any({"i", "j"} <= {a.name for a in k.axes} for k in kernels(plan))
    _, plan = planned(program("direct"), "value")
    (outer,) = recurrences(plan)
    assert any(isinstance(s, Recurrence) for s in outer.steps)


WINDOW = """
program windows
  input x: real[b, h]
  input y: real[b, h]
  input k: real[i: 3]
  {lines}
  value.0 = sum b, h: h - 2 . tanh({one}[b, h])
  value.1 = sum b, h: {places} . tanh({other}[b, h])
  value = map . value.0 + value.1
  output return = value
"""
OF_X = "p[b, h: h - 2] = sum i: 3 . k[i] * x[b, h + i]"
SQUARES = ("s[b, h] = map . {}", "q[b, h: h - 2] = sum i: 3 . k[i] * s[b, h + i]")


def windows(*lines: str, one: str = "p", other: str = "q", places: str = "h - 2") -> tuple[Plan, Plan]:
    """The plan of a value as it is, and with its windows together."""
    text = WINDOW.format(lines="\n  ".join(lines), one=one, other=other, places=places)
    _, plan = planned(parse_ir(text), "value")
    return plan, joined(plan)


def test_windows_over_the_same_entries_are_one_loop() -> None:
    plan, together = windows(OF_X, "q[b, h: h - 2] = sum i: 3 . y[b, h + i] * x[b, h + i]")
    assert (len(recurrences(plan)), len(recurrences(together))) == (2, 1)
    (kernel,) = recurrences(together)[0].steps
    assert [s.buffer for s in kernel.statements if isinstance(s, Load)] == ["k", "x", "y"]  # x once


@pytest.mark.parametrize(
    ("line", "places"),
    [
        ("q[b, h: h - 3] = sum i: 4 . x[b, h + i]", "h - 3"),  # more offsets
        ("q[b, h: h - 4] = sum i: 3 . k[i] * p[b, h + i]", "h - 4"),  # of what the other makes
        ("q[b, h: h - 2] = sum i: 3 . k[i] * n[b] * y[b, h + i]", "h - 2"),  # of a total of what the other makes
    ],
)
def test_windows_that_are_not(line: str, places: str) -> None:
    between = ["n[b] = sum h: h - 2 . p[b, h]"] if "n[b]" in line else []
    plan, together = windows(OF_X, *between, line, places=places)
    assert len(recurrences(plan)) == len(recurrences(together)) == 2


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("x[b, h]^2", True),
        ("x[b, h] * y[b, h]", True),
        ("exp(x[b, h])", False),  # more work at each offset than a read
        ("x[b, h] * y[b, h] + x[b, h]^2", False),
    ],
)
def test_an_array_for_windows_alone_is_made_where_it_is_read(body: str, made: bool) -> None:
    plan, together = windows(OF_X, SQUARES[0].format(body), SQUARES[1])
    assert "s" in {b.name for b in plan.buffers}
    assert ("s" not in {b.name for b in together.buffers}) == made


def test_an_array_that_is_read_elsewhere_too_stays() -> None:
    lines = (SQUARES[0].format("x[b, h]^2"), SQUARES[1], "c[b, h: h - 2] = map . q[b, h] * s[b, h + 1]")
    plan, together = windows(*lines, one="q", other="c")
    assert "s" in {b.name for b in plan.buffers}
    assert "s" in {b.name for b in together.buffers}


def test_a_mirrored_window_makes_nothing_outside_of_its_array() -> None:
    """The adjoint of a window without border adds each array where it belongs, without a condition."""
    for name, entry in (("spread", "value"), ("ssim", "backward")):
        _, plan = planned(program(name), entry)
        inside = [k for r in recurrences(plan) for k in kernels(replace(plan, steps=r.steps))]
        assert any(len(p.axes) == 2 for k in inside for s in stores(k) for p in s.subscripts)
        assert not any(s.guard for k in inside for s in loads(k))


def _scan(body: str, way: str = "forward") -> list[tuple[str, tuple[str, int] | None]]:
    text = f"""
program scan
  input x: real[n, t]
  group t {way}
    a[n, t] = map . {body}
  value = sum n, t . a[n, t]
  output return = value
"""
    p = parse_ir(text)
    _, plan = planned(p, "value")
    x = np.random.default_rng(0).normal(size=(3, 5))
    np.testing.assert_allclose(run_plan(plan, {"x": x}, {})["return"], interpret(p, {"x": x})["return"])
    return [(s.operation, s.along) for s in plan.steps if isinstance(s, Call)]


@pytest.mark.parametrize(
    ("body", "way", "operation"),
    [
        ("x[n, t] + (a[n, t - 1] if t >= 1 else 0.0)", "forward", "cumsum"),
        ("a[n, t - 1] - x[n, t] + 2.0 if t - 1 >= 0 else tanh(x[n, t])", "forward", "cumsum"),
        ("(a[n, t + 1] if t + 1 < size(t) else 0.0) + x[n, t]", "backward", "cumsum"),
        ("x[n, t] * (a[n, t - 1] if t >= 1 else 1.0) * 2.0", "forward", "cumprod"),
        ("a[n, t + 1] * x[n, t + 1] if t + 1 < size(t) else 1.0", "backward", "cumprod"),
        ("logaddexp(x[n, t], a[n, t - 1]) if t >= 1 else x[n, t]", "forward", "logcumsumexp"),
    ],
)
def test_cumulative_operations_are_known_by_their_form(body: str, way: str, operation: str) -> None:
    assert _scan(body, way) == [(operation, ("t", 1 if way == "forward" else -1))]


@pytest.mark.parametrize(
    "body",
    [
        "x[n, t] - (a[n, t - 1] if t >= 1 else 0.0)",  # the carry changes its sign
        "x[n, t] + (a[n, t - 1] if t >= 1 else 1.0)",  # not the identity where there is none before
        "x[n, t] + 0.5 * (a[n, t - 1] if t >= 1 else 0.0)",
        "x[n, t] + (a[n, t - 1] if t >= 2 else 0.0)",  # starts again at 1
        "x[n, t] + (a[n, t - 2] if t >= 2 else 0.0)",
        "x[n, t] + (a[n, t - 1] if t >= 1 else 0.0) * (a[n, t - 1] if t >= 1 else 0.0)",
        "x[n, t] + (a[n, t - 1] if t >= 1 and x[n, t] > 0.0 else 0.0)",
    ],
)
def test_what_only_looks_cumulative_stays_a_loop(body: str) -> None:
    assert _scan(body) == []


def test_cost_counts_rounds() -> None:
    _, plan = planned(program("gae_value"), "value")
    assert cost(plan).passes == 3
    assert cost(plan).operations.evaluate({"t": 100, "b": 1}) >= 100 * 8


@pytest.mark.parametrize(("name", "found"), [("filtered", ["inverse", "logdet"]), ("ranked", ["argsort", "argsort"])])
def test_a_library_is_called_in_each_round(name: str, found: list[str]) -> None:
    _, plan = planned(program(name), "value")
    (loop,) = recurrences(plan)
    calls = [s for s in loop.steps if isinstance(s, Call)]
    assert [c.operation for c in calls] == found
    assert all("t" in axes for c in calls for _, axes in c.operands)
    assert any(f"is a library's {found[0]} in each round" in w for w in plan.why)
    assert parse_plan(print_plan(plan)) == plan


def test_a_routine_costs_in_each_round_what_it_costs_there() -> None:
    _, plan = planned(program("filtered"), "value")
    (loop,) = recurrences(plan)
    extents = {"b": 2, "t": 10, "n": 100}
    calls = replace(plan, steps=(replace(loop, steps=tuple(s for s in loop.steps if isinstance(s, Call))),))
    assert cost(calls).operations.evaluate(extents) == 2 * 2 * 10 * 100**3
    assert cost(calls).read.evaluate(extents) == 2 * 2 * 10 * 100**2


def test_values_in_rounds_are_those_of_the_round() -> None:
    """Kernels of a recurrence have no axis of the loop around them."""
    for name in NAMED:
        _, plan = planned(program(name), "value")
        for loop in recurrences(plan):
            inside = kernels(replace(plan, steps=loop.steps))
            assert all(a.name != loop.axis for k in inside for a in k.axes)


def test_an_inverse_costs_the_cube_of_its_rows() -> None:
    _, plan = planned(program("mahalanobis"), "value")
    (step,) = [s for s in plan.steps if isinstance(s, Call) and s.operation == "inverse"]
    alone = cost(replace(plan, steps=(step,)))
    assert str(alone.operations) == "b*n*n*n"
