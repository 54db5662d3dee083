"""Certificates of costs: what the report says is what the steps of the plan add up to, and what is said otherwise is rejected."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from lossdsl import catalogue
from lossdsl.assemble import cost_findings, planned
from lossdsl.certificate import document
from lossdsl.certificate.costs import of_cost
from lossdsl.certificate.document import Rejected
from lossdsl.certificate.question import COSTS, GROWTH, of_finding
from lossdsl.certificate.rules import Stuck
from lossdsl.dim import Dim
from lossdsl.ir.build import BuiltLoss
from lossdsl.ir.nodes import Program
from lossdsl.lower.cost import cost
from lossdsl.lower.plan import AxisRef, Fold, Kernel, Load, Op, Plan, Scatter, Step, Store, Value
from lossdsl.verify.verdict import Finding, Proved
from tests.test_verify import built

ALL = sorted(e.path for e in catalogue.entries())
QUICK = [
    p for p in ALL if p.stem in ("huber", "cross_entropy", "info_nce", "ssim", "gae", "soft_dtw", "crf_nll", "coral")
]
PAIRS = "loss f:\n    input x, y: real[n, d]\n    axis m = n\n    s[n, m] = sum((x[n, d] - y[m, d])^2 over d)\n"
LOSSES = [
    "loss f:\n    input x, y: real[...]\n    per = (x - y)^2\n    return mean(per)\n",
    PAIRS + "    return mean(logsumexp(-s over m) over n)\n",
    "loss f:\n    input x: real[n, c]\n    input k: class[n] of c\n    return mean(logsumexp(x over c) - x[n, k[n]] over n)\n",
    "loss f:\n    input x: real[n, h, w]\n    a[n, h, w] = (x[n, h - 1, w] if h > 0 else 0) - x\n    return mean(abs(a))\n",
    "loss f:\n    input x: real[n, t]\n    h[n, t] = x + 0.5 * (h[n, t - 1] if t > 0 else 0)\n    return mean(h^2)\n",
]


def findings(loss: BuiltLoss) -> list[Finding]:
    return [f for f in cost_findings(loss.program) if isinstance(f.verdict, Proved)]


def replayed(loss: BuiltLoss, f: Finding) -> dict[str, Any]:
    """The entry of a finding, which is replayed."""
    about = {"finding": f.property, "in": list(f.wrt), "said": f.detail}
    entry = {**about, **document._entry(document._questions(loss, about), f.verdict)}
    document._replay(loss, entry, "here")
    return entry


@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=() if p in QUICK else pytest.mark.slow, id=p.stem) for p in ALL]
)
def test_costs_of_the_catalogue(path: Path) -> None:
    loss = built(path.read_text())
    found = findings(loss)
    assert {f.property for f in found} >= {*COSTS.values()}
    for f in found:
        assert replayed(loss, f)["parts"][0]["rule"] == document.COUNTS


@pytest.mark.parametrize("text", LOSSES)
def test_what_is_said_otherwise_has_no_certificate(text: str) -> None:
    """Every number that is said, with 1 more."""
    loss = built(text)
    for f in findings(loss):
        words = list(re.finditer(r"\d+|constant|linear|quadratic|cubic", f.detail))
        assert words
        for word in words:
            other = str(int(word[0]) + 1) if word[0].isdigit() else "of degree 9"
            said = f.detail[: word.start()] + other + f.detail[word.end() :]
            (q,) = of_finding(loss, f.property, f.wrt, said=said)
            with pytest.raises(Stuck):
                of_cost(q)


def test_entries_are_of_their_inputs() -> None:
    loss = built(LOSSES[0])
    value, gradient, growth = findings(loss)
    for f, wrt in ((value, ("x",)), (gradient, ()), (gradient, ("x",)), (gradient, ("y", "x"))):
        (q,) = of_finding(loss, f.property, wrt, said=f.detail)
        with pytest.raises(Stuck):
            of_cost(q)
    assert growth.property == GROWTH


def test_a_count_that_is_changed_is_rejected() -> None:
    loss = built(LOSSES[2])
    for f in findings(loss):
        entry = replayed(loss, f)
        lines = entry["parts"][0]["trace"]
        for k, j in [(k, j) for k, line in enumerate(lines) for j in range(len(line))]:
            before, lines[k][j] = lines[k][j], lines[k][j] + " + n"
            with pytest.raises(Rejected):
                document._replay(loss, entry, "here")
            lines[k][j] = before
        document._replay(loss, entry, "here")
        with pytest.raises(Rejected):
            document._replay(loss, {**entry, "said": entry["said"].replace("1", "2").replace("linear", "constant")}, "")


def _points(kernel: Kernel, sizes: dict[str, int]) -> dict[str, int]:
    """Elements read and written and operations of a kernel, index by index, for extents that are numbers."""
    extents = {a.name: a.extent.evaluate(sizes) for a in kernel.axes}
    along: dict[str, set[str]] = {}

    def of(*operands: Any) -> set[str]:
        found: set[str] = set()
        for o in operands:
            found |= along[o.name] if isinstance(o, Value) else {o.name} if isinstance(o, AxisRef) else set()
        return found

    def times(axes: set[str]) -> int:
        return sum(1 for _ in itertools.product(*(range(extents[a]) for a in axes if a in extents)))

    found, seen = {"read": 0, "written": 0, "operations": 0}, set()
    for s in kernel.statements:
        if isinstance(s, (Load, Store, Scatter)):
            place = {a for p in s.subscripts for a, _ in p.axes} | of(*(p.data for p in s.subscripts))
        if isinstance(s, Load):
            along[s.name] = place | of(s.guard)
            found["read"] += 0 if (s.buffer, s.subscripts) in seen else times(place)
            seen.add((s.buffer, s.subscripts))
        elif isinstance(s, Op):
            along[s.name] = of(*s.args)
            found["operations"] += 0 if s.op in ("real", "int", "stop") else times(along[s.name])
        elif isinstance(s, Fold):
            whole = of(s.value, s.where) | set(s.axes)
            along[s.name] = whole - set(s.axes)
            found["operations"] += times(whole)
        else:
            found["written"] += times(place)
            found["operations"] += times(place | of(s.value)) if isinstance(s, Scatter) else 0
    return found


def _kernels(steps: tuple[Step, ...]) -> list[Kernel] | None:
    """The kernels of a plan that has nothing else in it that costs something."""
    if any(not isinstance(s, Kernel) and type(s).__name__ not in ("Allocate", "Free") for s in steps):
        return None
    return [s for s in steps if isinstance(s, Kernel)]


def _plans(program: Program) -> list[Plan]:
    return [make() for _, _, make in planned(program)]


@pytest.mark.parametrize("text", LOSSES)
def test_counts_are_those_of_indices(text: str) -> None:
    """At extents that are numbers, where a plan is of kernels alone."""
    for plan in _plans(built(text).program):
        kernels = _kernels(plan.steps)
        count = cost(plan)
        symbols = sorted(set().union(*(d.symbols() for d in (count.read, count.written, count.operations))))
        sizes = {s: 3 + k for k, s in enumerate(symbols)}
        for name, dim in (("read", count.read), ("written", count.written), ("operations", count.operations)):
            if kernels is not None:
                assert sum(_points(k, sizes)[name] for k in kernels) == dim.evaluate(sizes)
        assert isinstance(count.peak, Dim)


def test_some_plans_are_of_kernels_alone() -> None:
    assert sum(_kernels(p.steps) is not None for text in LOSSES for p in _plans(built(text).program)) >= 4
