"""Segments on which an element is affine: each that is seen is one, of entries that the element is about."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from fractions import Fraction
from typing import Any

import pytest

from lossdsl import pipeline
from lossdsl.certificate.document import Rejected, certify, sealed, verify
from lossdsl.certificate.domain import point_of
from lossdsl.certificate.points import Values, ball
from lossdsl.certificate.question import Question, of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.straight import AFFINE, SHIFTED, STRAIGHT, UNREAD, segments
from lossdsl.diagnostics import Source

INPUTS = "input x: real[n, c]\n    input y: real[n, c] >= 0\n    input k: class[n] of c"


def question(body: str, word: str = "strictly convex", inputs: str = INPUTS, of: str = "x") -> Question:
    text = f"loss f:\n    {inputs}\n    per[n] = {body}\n    return mean(per)\n\n    claim not {word} in {of}\n"
    loss = pipeline.analyse(Source("f.loss", text)).losses[0]
    (q,) = of_claim(loss, loss.claims[0])
    return q


def seen(q: Question, rule: str) -> list[dict[str, Any]]:
    """What is seen on simple segments."""
    found = []
    for some in segments(q, rule, []):
        with contextlib.suppress(Stuck):
            found.append({**some, **STRAIGHT[rule](q, {"rule": rule, "place": [0], **some})})
    return found


TOLD = [  # an element that is affine on a segment; and one that is not, close to it
    (UNREAD, "x[n, 0]^2", "sum(x^2 over c)"),
    (UNREAD, "x[c = k]^2", "x[c = k]^2 + sum(x over c)"),
    (UNREAD, "sum(x^2 over c where c <= k)", "sum(x^2 over c where c >= k)"),
    (UNREAD, "max(x[n, 0], 0) + sum(y over c)", "max(x[n, 0], x[n, 1]) + sum(y over c)"),
    (SHIFTED, "logsumexp(x over c) - x[n, 0]", "logsumexp(x over c) - x[n, 0] / 2"),
    (SHIFTED, "sum((x - mean(x over c))^2 over c)", "sum((x - mean(x over c) / 2)^2 over c)"),
    (SHIFTED, "max(x over c) - min(x over c)", "max(x over c) + min(x over c)"),
    (SHIFTED, "sum(softmax(x over c)^2 over c)", "sum(softmax(x over c)^2 over c) + x[n, 0]^2"),
    (AFFINE, "norm(x over c)", "sqrt(sum(x^2 over c) + 1 / 1000000)"),
    (AFFINE, "sum(abs(x) over c)", "sum(abs(x) + x^4 over c)"),
    (AFFINE, "sum(max(x^2, 1 / 1000000) over c)", "sum(x^2 over c)"),
    (AFFINE, "sqrt(sum(x^2 over c) * 2) + 1", "sum(sqrt(abs(x)) over c)"),
]


@pytest.mark.parametrize(("rule", "affine", "other"), TOLD, ids=[f"{r} of {a}" for r, a, _ in TOLD])
@pytest.mark.parametrize("word", ["strictly convex", "strictly concave"])
def test_what_is_affine_is_told_from_what_is_not(rule: str, affine: str, other: str, word: str) -> None:
    assert seen(question(affine, word), rule)
    assert not seen(question(other, word), rule)


def test_an_element_is_about_the_entries_of_its_own_rows() -> None:
    q = question("sum(x^2 over c)")
    point = {f"{name}[{n}, {c}]": "1" for name in "xy" for n in (0, 1) for c in (0, 1)} | {"k[0]": "0", "k[1]": "0"}
    for moved in ({"x[1, 0]": "2"}, {"x[0, 0]": "2"}, {"y[0, 0]": "2"}):
        with pytest.raises(Stuck):
            STRAIGHT[UNREAD](q, {"place": [0], "points": [point, moved]})
    q = question("x[n, 0]^2")
    for moved, holds in (
        ({"x[1, 1]": "2"}, False),
        ({"x[0, 1]": "2"}, True),
        ({"x[0, 1]": "2", "x[1, 1]": "3"}, False),
    ):
        entry = {"place": [0], "points": [point, moved]}
        if holds:
            STRAIGHT[UNREAD](q, entry)
        else:
            with pytest.raises(Stuck):
                STRAIGHT[UNREAD](q, entry)
    shifted = question("(x[n + 1 else 0])^2", inputs="input x: real[n]")
    row = {"x[0]": "1", "x[1]": "1"}
    for name in row:
        with pytest.raises(Stuck):
            STRAIGHT[UNREAD](shifted, {"place": [0], "points": [row, {name: "2"}]})


def test_a_shift_is_one_along_its_axes_and_in_the_domain() -> None:
    q = question("logsumexp(x over c) - x[n, 0]")
    point = {f"{name}[0, {c}]": "1" for name in "xy" for c in (0, 1)} | {"k[0]": "0"}
    good = {"place": [0], "points": [point, {"x[0, 0]": "2", "x[0, 1]": "2"}], "along": [1]}
    assert STRAIGHT[SHIFTED](q, good)["along"] == [1]
    assert STRAIGHT[SHIFTED](q, {**good, "along": [0, 1]})["along"] == [0, 1]
    for bad in (
        {"along": [0]},
        {"along": []},
        {"points": [point, {"x[0, 0]": "2"}]},
        {"points": [point, {"x[0, 0]": "2", "x[0, 1]": "3"}]},
        {"points": [point, {"y[0, 0]": "2", "y[0, 1]": "2"}]},
    ):
        with pytest.raises(Stuck):
            STRAIGHT[SHIFTED](q, {**good, **bad})
    narrow = question("logsumexp(y over c) - y[n, 0]", of="y")
    down = {"place": [0], "points": [point, {"y[0, 0]": "-2", "y[0, 1]": "-2"}], "along": [1]}
    with pytest.raises(Stuck, match="outside of its range"):
        STRAIGHT[SHIFTED](narrow, down)
    at_the_end = {"y[0, 0]": "0", "y[0, 1]": "0"}
    with pytest.raises(Stuck, match="outside of its range"):
        STRAIGHT[SHIFTED](narrow, {**down, "points": [point, at_the_end]})
    endless = question("log(x[n, 0] - x[n, 1]) + sum(y over c)")
    with pytest.raises(Stuck):
        STRAIGHT[SHIFTED](endless, good)  # without a value there


PIECES = ["x[n, 0]^2", "abs(x[n, 1])", "max(x over c)", "logsumexp(x over c)", "x[n, 1] * x[n, 0]", "norm(x over c)"]
PIECES += ["exp(x[n, 0] - x[n, 1])", "(x[n, 1] if y[n, 0] > 2 else x[n, 0])", "x[c = k]", "sqrt(y[n, 1])"]


@pytest.mark.parametrize("seed", range(3))
def test_random_elements_are_affine_where_that_is_seen(seed: int) -> None:
    """At five points of the segment."""
    rng, checked = random.Random(seed), 0
    while checked < 30:
        parts = rng.sample(PIECES, rng.choice([1, 2, 3]))
        body = parts[0] + "".join(rng.choice([" + ", " - ", " * "]) + p for p in parts[1:])
        try:
            q = question(body)
        except IndexError:
            continue
        for rule in STRAIGHT:
            for found in seen(q, rule):
                checked += 1
                _check(q, found, Fraction(1, int(found.get("start", 1))))


def _check(q: Question, found: dict[str, Any], reach: Fraction) -> None:
    (extents, parameters, first), (_, _, second) = (point_of(q, {**found, "place": [0]}, k) for k in (0, 1))
    values = []
    for part in (1, 2, 3, 4, 5):
        t = reach * Fraction(part, 5)
        inputs = {n: {p: v + t * (second[n][p] - v) for p, v in some.items()} for n, some in first.items()}
        values.append(ball(Values(q.program, extents, parameters, inputs).element(q.of, (0,))))
    for (a, b), (_, c) in itertools.pairwise(itertools.pairwise(values)):
        assert (a - 2 * b + c).contains(0), (q, found)


SOURCE = (
    "loss f:\n    input x: real[n, c]\n    input k: class[n] of c\n    return mean(x[c = k]^2 over n)\n"
    "loss g:\n    input x: real[n, c]\n    per = exp(x[n, 0] / 3 - x[n, 1] / 3) + log_softmax(x / 7 over c)[c = 1]^2\n"
    "    return mean(per)\n"
    "loss h:\n    input x: real[n, c]\n    per[n] = norm(x over c)\n    return mean(per)\n"
)


def test_forged_segments_are_rejected() -> None:
    source = Source("f.loss", SOURCE)
    checked = pipeline.check(source)
    made = json.loads(json.dumps(certify(source, checked.analysis.losses, checked.reports)))
    verify(made)
    rules = set()
    for loss in made["losses"]:
        for entry in (e for e in loss["entries"] if e.get("rule") in STRAIGHT):
            rules.add(entry["rule"])
            values = entry["values"]
            changes: list[dict[str, Any]] = [{"values": values[1:]}, {"values": [values[0] + "1", *values[1:]]}]
            changes += [{"points": entry["points"][:1]}, {"place": [7]}, {"rule": UNREAD, "values": []}]
            changes += [{"along": [7]}] if "along" in entry else []
            changes += [{"start": "64"}] if "start" in entry else []
            changes += [{"finding": "convex"}, {"points": [entry["points"][0]] * 2}]
            for change in changes:
                with pytest.raises(Rejected):
                    verify(sealed({**made, "losses": [{**loss, "entries": [{**entry, **change}]}]}))
    assert rules == {*STRAIGHT}
