"""What normal forms are far out: enclosures against values at numbers of more digits than floats have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import pytest

from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.verify import properties
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.horizon import Horizon, Unsettled
from lossdsl.verify.scalar import Smooth, smooth_pieces
from lossdsl.verify.signs import Budget

mp = mpmath.mp.clone()
mp.dps = 400


def softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x))


# What is written, the same of x, and whether it is enclosed in a bounded interval far out, on the left and on the right.
FORMS: dict[str, tuple[Callable[[Any], Any], bool, bool]] = {
    "x / sqrt(1 + x^2)": (lambda x: x / mp.sqrt(1 + x**2), True, True),
    "x * sqrt(4 * x^2 + 1) / (1 + x^2)": (lambda x: x * mp.sqrt(4 * x**2 + 1) / (1 + x**2), True, True),
    "x^3 * exp(-x)": (lambda x: x**3 * mp.exp(-x), False, True),
    "softplus(x) - x": (lambda x: softplus(x) - x, False, True),
    "softplus(x) - softplus(x - 1)": (lambda x: softplus(x) - softplus(x - 1), True, True),
    "softplus(x) * sigmoid(-x)": (lambda x: softplus(x) / (1 + mp.exp(x)), True, True),
    "softplus(2 * x) / sqrt(1 + x^2)": (lambda x: softplus(2 * x) / mp.sqrt(1 + x**2), True, True),
    "exp(0.3 * logsigmoid(x)) * softplus(-x)": (lambda x: mp.exp(-0.3 * softplus(-x)) * softplus(-x), True, True),
    "exp(x) - x^2": (lambda x: mp.exp(x) - x**2, False, False),
    "x * exp(-x^2)": (lambda x: x * mp.exp(-(x**2)), True, True),
    "log1p(x^2) * x / (1 + x^2)": (lambda x: mp.log1p(x**2) * x / (1 + x**2), True, True),
    "expm1(0.7 * log1p(x^2)) / (1 + x^2)": (lambda x: mp.expm1(0.7 * mp.log1p(x**2)) / (1 + x**2), True, True),
    "x * erf(x) + exp(-x^2)": (lambda x: x * mp.erf(x) + mp.exp(-(x**2)), False, False),
    "(x^3 - x) / (x^4 + 1)": (lambda x: (x**3 - x) / (x**4 + 1), True, True),
}


def smooth(body: str) -> Smooth:
    text = f"loss l:\n    input x: real[n]\n    per[n] = {body}\n    return mean(per)\n"
    (built,) = pipeline.analyse(Source("<test>", text)).losses
    cases = properties.scalar_views(Context(built.program, budget=Budget.of(1)), "per", "x")
    assert not isinstance(cases, str)
    ((found,),) = map(smooth_pieces, cases)
    assert str(cases[0].inner) == str(cases[0].entry)
    return found


@pytest.mark.parametrize("body", sorted(FORMS))
@pytest.mark.parametrize("start", [8.0, 40.0, 1e6])
def test_values_and_slopes_are_enclosed(body: str, start: float) -> None:
    function, *bounded = FORMS[body]
    piece = smooth(body)
    for direction, tight in zip((-1, 1), bounded, strict=True):
        there = Horizon(piece.field, piece.slot, direction, start)
        try:
            boxes = [there.value(piece.value), there.value(piece.order(1))]
        except Unsettled:
            assert start < 1e6
            continue
        assert not tight or start < 1e6 or boxes[0].bounded
        for factor in (1, 1.0001, 2, 30):
            x = direction * mp.mpf(start) * factor
            values = [function(x), mp.diff(function, x, h=mp.mpf(10) ** -60)] if start < 1e6 else [function(x)]
            for value, box in zip(values, boxes, strict=False):
                assert inside(value, box), (x, value, box)


def inside(value: Any, box: Enclosure) -> bool:
    rough = abs(value) * mp.mpf(10) ** -40 + mp.mpf(10) ** -50
    return not box.nan and mp.mpf(box.lo) - rough <= value <= mp.mpf(box.hi) + rough


def test_no_start_near_0() -> None:
    piece = smooth("exp(x) - x^2")
    with pytest.raises(Unsettled):
        Horizon(piece.field, piece.slot, 1, 1.0)
