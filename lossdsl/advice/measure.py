"""How far a loss is finite: as it is compiled, and as it is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lossdsl.advice.identities import Identity
from lossdsl.diagnostics import Source
from lossdsl.ir.build import BuiltLoss
from lossdsl.ir.nodes import Apply, Compare, Const, Program, Read, Scalar, Select, Size, postorder
from lossdsl.pipeline import analyse
from lossdsl.primitives import PRIMITIVES
from lossdsl.transform.simplify import simplify
from lossdsl.transform.stabilise import stabilise
from lossdsl.verify import enclosure as e
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.finite import programs_of, reach_of
from lossdsl.verify.pieces import dependents
from lossdsl.verify.ranges import Ranges

WORDS = ("float32", "float16", "bfloat16")
DEFAULTS = " at defaults"
Programs = list[tuple[Program, tuple[str, ...], bool]]


@dataclass(frozen=True)
class Reach:
    """The certified bound on the size of all real inputs under which everything is finite (inf: everywhere, 0: none), in
    one type: value and gradient as compiled, the value as compiled, the value as written."""

    plan: float
    value: float
    written: float

    def better(self, other: Reach) -> bool:
        return any(a > 1.02 * b for a, b in ((self.plan, other.plan), (self.value, other.value)))

    def worse(self, other: Reach) -> bool:
        return any(1.02 * a < b for a, b in ((self.plan, other.plan), (self.value, other.value)))


class Measured:
    """How far the target of a loss is finite, in each type (`float32`), for all values of its parameters and at their
    defaults (`float32 at defaults`); each is found when it is first asked for."""

    def __init__(self, built: BuiltLoss) -> None:
        program = built.program
        self.target = program.target or program.outputs[0].tensor
        self.wrt = tuple(
            i.name for i in program.inputs if i.differentiable and self.target in dependents(program, i.name)
        )
        base = Context(program, seconds=0.02)
        self._contexts = {"": base}
        if any(p.default is not None for p in program.parameters):
            self._contexts[DEFAULTS] = base.at_defaults()
        self._programs: dict[str, tuple[Programs, Programs, Programs]] = {}
        self._known: dict[str, Reach] = {}

    @property
    def keys(self) -> list[str]:
        return [word + under for under in self._contexts for word in WORDS]

    @property
    def compiled(self) -> Programs:
        """Value and gradient as they are compiled."""
        return self._compiled("")[0]

    def __getitem__(self, key: str) -> Reach:
        if key not in self._known:
            word, at, _ = key.partition(DEFAULTS)
            self._known[key] = Reach(*(self._reach(p, at, word) for p in self._compiled(at)))
        return self._known[key]

    def _reach(self, programs: Programs, under: str, word: str) -> float:
        try:
            return reach_of(programs, self._contexts[under], word, self.target, self.wrt)
        except (RecursionError, OverflowError, ZeroDivisionError):
            return 0.0

    def _compiled(self, under: str) -> tuple[Programs, Programs, Programs]:
        if under not in self._programs:
            program = self._contexts[under].program
            value: Programs = [(simplify(stabilise(program)), (self.target,), False)]
            try:
                plan = programs_of(program, self.target, self.wrt)
            except (ValueError, NotImplementedError, KeyError):  # no gradient program
                plan = value
            self._programs[under] = plan, value, [(program, (self.target,), False)]
        return self._programs[under]


@cache
def threshold(identity: Identity) -> float | None:
    """Where the left side stops being finite in float32 if all of its variables have one value: the nearest to 0."""
    inputs = "".join(f"    input {n}: {t}\n" for n, t in identity.variables.items())
    per = identity.written.replace("axes", "c")
    text = f"loss example:\n    axis c = 1\n{inputs}    per = {per}\n    return sum(per)\n"
    built = analyse(Source("example", text)).losses
    if not built:
        return None
    ends = [x for sign in (1, -1) if (x := _end(built[0].program, sign)) is not None]
    return min(ends, key=abs) if ends else None


def _end(program: Program, sign: int) -> float | None:
    """The smallest size at which the value is not finite, in one direction, to six digits."""
    domains = [Ranges(program).input(i.name) for i in program.inputs]

    def inside(size: float) -> bool:
        return all(e.meet(Enclosure(sign * size, sign * size), d) is not None for d in domains)

    def fails(size: float) -> bool:
        value = _single(program, np.float32(sign * size))
        return not bool(np.isfinite(value))

    sizes = [2.0**k for k in range(-100, 128) if inside(2.0**k)]
    found = next((k for k, size in enumerate(sizes) if fails(size)), None)
    if found is None or found == 0:
        return None
    low, high = sizes[found - 1], sizes[found]
    for _ in range(30):
        middle = low / 2 + high / 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    return sign * high


def _single(program: Program, at: Any) -> Any:
    """The target in float32 arithmetic where every entry of every input is `at` and every axis has one entry."""
    known: dict[str, Any] = {i.name: at for i in program.inputs}
    for d in program.definitions():
        memo: dict[Scalar, Any] = {}
        with np.errstate(all="ignore"):
            for n in postorder(d.body):
                memo[n] = _operation(n, memo, known)
        known[d.tensor] = memo[d.body]
    return known[program.target]


def _operation(n: Scalar, memo: dict[Scalar, Any], known: dict[str, Any]) -> Any:
    match n:
        case Const():
            return np.float32(float(n.value))
        case Read():
            return known[n.tensor]
        case Size():
            return np.float32(1)
        case Apply(name="real" | "int"):
            return memo[n.args[0]]
        case Apply():
            return np.float32(PRIMITIVES[n.name].numpy(*(memo[a] for a in n.args)))
        case Select():
            return memo[n.a] if bool(memo[n.condition]) else memo[n.b]
        case Compare():
            a, b = memo[n.a], memo[n.b]
            return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[n.op]
    return np.float32(0)  # an index: every axis has one entry


__all__ = ["Measured", "Reach", "threshold"]
