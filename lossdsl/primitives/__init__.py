"""The registry: every primitive function and reduction head that the language, the IR and the back ends know.

`PRIMITIVES` and `HEADS` map names to records (`record.py` says what a record is). `FUNCTIONS` maps the names that a
user may call to what they mean.

At infinite arguments every function has its limit as value. Where that limit is finite the derivative is 0; where the
value is infinite the derivative is the limit of the derivative (softplus: 1 at inf, 0 at -inf).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from lossdsl.primitives import arithmetic, exponential, piecewise, reductions, special, trigonometric
from lossdsl.primitives.cxx_helpers import CXX_HELPERS
from lossdsl.primitives.helpers import TORCH_HELPERS, TRITON_HELPERS, helper_sources
from lossdsl.primitives.record import Head, Primitive

Record = TypeVar("Record", Primitive, Head)


def _table(records: Iterable[Record]) -> dict[str, Record]:
    table: dict[str, Record] = {}
    for record in records:
        if record.name in table:
            raise TypeError(f"two records are named {record.name!r}")
        table[record.name] = record
    return table


PRIMITIVES: dict[str, Primitive] = _table(
    (
        *arithmetic.RECORDS,
        *exponential.RECORDS,
        *piecewise.RECORDS,
        *trigonometric.RECORDS,
        *special.RECORDS,
    )
)

HEADS: dict[str, Head] = _table(reductions.RECORDS)


@dataclass(frozen=True)
class Function:
    """A function as users call it: `primitive` applied to exactly `arity` arguments, or, with `folds`, to two or more
    from left to right (`max(a, b, c)` is max2(max2(a, b), c), so that the first of equal arguments wins)."""

    name: str
    primitive: str
    arity: int
    folds: bool = False


# records that users do not call by their name: operators, conversions, and functions that arise as derivatives
_INTERNAL = frozenset(
    {"add", "sub", "mul", "div", "neg", "powi", "pow", "floordiv", "mod", "real", "int", "pi", "expdiff"}
    | {"max2", "min2", "trigamma", "polygamma", "inverse_mills", "i1e"}
)

FUNCTIONS: dict[str, Function] = {
    **{name: Function(name, name, len(p.arguments)) for name, p in PRIMITIVES.items() if name not in _INTERNAL},
    "max": Function("max", "max2", 2, folds=True),
    "min": Function("min", "min2", 2, folds=True),
    "logsumexp": Function("logsumexp", "logaddexp", 2, folds=True),
}

__all__ = [
    "CXX_HELPERS",
    "FUNCTIONS",
    "HEADS",
    "PRIMITIVES",
    "TORCH_HELPERS",
    "TRITON_HELPERS",
    "Function",
    "helper_sources",
]
