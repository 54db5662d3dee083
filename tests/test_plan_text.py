"""The text of plans: every kind of line reads back equal, and bad text is refused with its line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    Allocate,
    Axis,
    AxisRef,
    Buffer,
    Call,
    ChunkLoop,
    Fill,
    Fold,
    Free,
    Kernel,
    Key,
    Literal,
    Load,
    Op,
    ParamRef,
    Plan,
    Rolling,
    Scatter,
    SizeRef,
    Stage,
    Store,
    Subscript,
    Value,
)
from lossdsl.lower.text import PlanSyntaxError, parse_plan, print_plan

GOLDEN = Path(__file__).parent / "golden"
N, C, REST = Dim.symbol("n"), Dim.symbol("c"), Dim.symbol("...")


def everything() -> Plan:
    """A plan without sense, but with a cost, in which every field of every kind of line has a value that is not its default."""
    at = (Subscript((("n", 1), ("odd name", -2)), N * 2 - 1, Value("i")), Subscript(), Subscript((("...", 1),)))
    body = (
        Load("i", "int", "t", ()),
        Op("g", "bool", "lt", (Value("i"), SizeRef(N))),
        Load("x", "acc", "in put", at, Value("g"), Literal("-inf")),
        Load("k", "int", "t", (), ParamRef("flag", "bool"), Literal(Fraction(-3), "int")),
        Op(
            "y", "acc", "table", (Literal(Fraction(1, 3)), Literal("nan"), Literal(Fraction(0), "bool"), AxisRef("..."))
        ),
        Op("z'", "bool", "lt", (SizeRef((N + 1) // 2), ParamRef("p"))),
        Op("e", "acc", "pi", ()),
        Fold("f", "acc", "logsumexp", ("n", "..."), Value("y"), Value("z'")),
        Fold("f2", "int", "argmax", ("n",), Literal("inf")),
        Store("out", (), Value("f"), True),
        Store("out", at, Value("f")),
        Scatter("w", at[:1], Value("y"), "max", Literal(Fraction(1), "bool")),
        Scatter("w", (), Value("y"), "sum"),
    )
    axes = (Axis("n", N, "grid"), Axis("odd name", Dim.const(3), "loop"), Axis("...", REST, "lane"))
    kernel = Kernel("k0", axes, "...", body, (("y", 'say "hi"'),), (("f", "a comment: with 'quotes' \\ and\tmore"),))
    steps = (
        Allocate("out"),
        Fill("out", Literal(Fraction(1, 2))),
        Fill("w", Literal("inf", "acc")),
        Fill("w", Literal(Fraction(2), "int")),
        ChunkLoop(
            "n", N - 10, 256, (kernel, Call("contract", "out", ("n",), (("a", ("n", "d")), ("b", ("d",))), True))
        ),
        Rolling(
            *(("n", "odd name"), 16, 0, 20, 1),
            (Stage("...", N, "x", 0, kernel), Stage("odd name", N - 10, "an x", 10, kernel)),
            (("a", 32), ("in put", 4)),
        ),
        Rolling((), 1, 64, None, -1, (Stage("n", REST, "c", 3, kernel, True),), ()),
        Call("sort", "out", (), ()),
        Kernel("empty", (), None, ()),
        Free("out"),
    )
    buffers = (
        Buffer("in put", (N, C, REST), "like in put", "input"),
        Buffer("out", (), "acc", "output"),
        Buffer("t", (), "int", "input"),
        Buffer("a", (N, C), "acc", "input"),
        Buffer("b", (C,), "acc", "input"),
        Buffer("w", (N * C, Dim.const(0)), "bool", "chunk", "a [reason]: {x}", 1),
    )
    key = Key("odd loss", "backward", "mean", ("a", "b c"), ("w",), "triton")
    return Plan(key, buffers, (("p", "acc"), ("q'", "int")), steps, (("d odd", "out"),), ("because: [n] {m}", "x"))


def test_every_line_reads_back_equal() -> None:
    plan = everything()
    assert parse_plan(print_plan(plan)) == plan


def test_without_decisions_only_they_are_missing() -> None:
    plan = everything()
    again = parse_plan(print_plan(plan, why=False))
    assert again.why == ()
    assert replace(again, why=plan.why) == plan


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fold logsumexp over", "fold logsumexp under"),
        ("allocate out\n", "alocate out\n"),
        ("%x: acc = load", "x: acc = load"),
        ("guard %g", "guard %g %g"),
        ("by 256", "by many"),
        ("\nend\n", "\n"),
        ("-2*", "-2+"),
        ("  cost read", "  price read"),
    ],
)
def test_wrong_text_is_refused(old: str, new: str) -> None:
    text = print_plan(everything())
    changed = text.replace(old, new)
    assert changed != text
    with pytest.raises(PlanSyntaxError):
        parse_plan(changed)


def test_a_plan_is_read_where_the_ir_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    path.write_text(print_plan(everything()))
    code = (
        "import sys; sys.modules['lossdsl.ir'] = None; sys.modules['sympy'] = None\n"
        "from lossdsl.lower.text import parse_plan, print_plan\n"
        "from lossdsl.lower.interpret import run_plan\n"
        f"text = open({str(path)!r}).read()\n"
        "assert print_plan(parse_plan(text)) == text\n"
        "assert not any(m.startswith('lossdsl.ir.') for m in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
