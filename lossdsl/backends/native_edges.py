"""Conditions on positions that hold but at the edges of a row: what is inside needs none of them.

A window that reaches beyond an array asks at each entry whether there is one. The question is affine in the indices, so
that one comparison says from which lane on, or up to which one, the answer is yes for all offsets.
"""

from __future__ import annotations

from lossdsl.backends.native_layout import COLUMN
from lossdsl.backends.native_values import Values
from lossdsl.backends.triton_parts import operands
from lossdsl.dim import Dim
from lossdsl.lower.plan import AxisRef, Fold, Literal, Load, Op, Operand, SizeRef, Value

_Affine = tuple[dict[str | Dim, int], int]  # coefficients of indices and extents, and a number
_ORDER = {"ge": (1, 0), "gt": (1, 1), "le": (-1, 0), "lt": (-1, 1)}  # sign of left - right, least value of it


class Edges(Values):
    def edge_conditions(self) -> dict[str, list[_Affine]]:
        """Guards of loads and folds along columns -> what is >= 0 where they hold for all columns."""
        found: dict[str, list[_Affine]] = {}
        if self.lane_columns or not self.outer or not self.short() or not self.repeatable():
            return {}
        for s in self.part.statements:
            guard = s.guard if isinstance(s, Load) else s.where if isinstance(s, Fold) else None
            if isinstance(guard, Value) and guard.name not in found and self.level[guard.name] == COLUMN:
                least = self._holds(guard)
                if least:
                    found[guard.name] = least
        return found

    def inner_lanes(self) -> list[str]:
        """The lines that make `inner_from` and `inner_to`: the lanes between them are inside."""
        lines = ["int64_t inner_from = 0, inner_to = len_all;"]
        for of in dict.fromkeys(self.edge_text(a) for found in self.edges.values() for a in found):
            lane, text = of
            if lane > 0:
                lines.append(f"if (-({text}) > inner_from) inner_from = -({text});")
            elif lane < 0:
                lines.append(f"if ({text} + 1 < inner_to) inner_to = {text} + 1;")
            else:
                lines.append(f"if ({text} < 0) inner_to = 0;")
        lines.append("if (inner_from > len_all) inner_from = len_all;")
        return [*lines, "if (inner_to < inner_from) inner_to = inner_from;"]

    def without(self, values: list[Load | Op], known: set[str], roots: list[Fold]) -> list[Load | Op]:
        """Those of the values that are needed where the known ones are."""
        wanted: set[str] = set()
        made = {s.name: s for s in values}
        pending: list[Operand] = [o for f in roots for o in operands(f)]
        while pending:
            o = pending.pop()
            if isinstance(o, Value) and (o.name in made or o.name in self.fused) and o.name not in wanted | known:
                wanted.add(o.name)
                pending += operands(self.made[o.name])
        return [s for s in values if s.name in wanted]

    def _holds(self, o: Operand) -> list[_Affine]:
        """What is >= 0 where the condition holds for all columns; none if that is not known."""
        s = self.made.get(o.name) if isinstance(o, Value) else None
        if not isinstance(s, Op):
            return []
        if s.op == "and":
            parts = [self._holds(a) for a in s.args]
            return [t for p in parts for t in p] if all(parts) else []
        if s.op not in _ORDER:
            return []
        left, right = self._affine(s.args[0]), self._affine(s.args[1])
        if left is None or right is None:
            return []
        sign, least = _ORDER[s.op]
        terms, number = _sum(_scaled(left, sign), _scaled(right, -sign))
        rest: dict[str | Dim, int] = {}
        for a, c in terms.items():
            if isinstance(a, str) and a in self.part.columns:
                count = self.dims[a].constant
                if count is None or a in self.around.rounds:
                    return []
                number += min(0, c * (count - 1))
            elif a in self.lane and (len(self.lane) > 1 or a in self.around.rounds or abs(c) > 1):
                return []
            else:
                rest[a] = c
        return [(rest, number - least)]

    def _affine(self, o: Operand) -> _Affine | None:
        match o:
            case AxisRef(name):
                return {name: 1}, 0
            case Literal(value, "int") if not isinstance(value, str):
                return {}, int(value)
            case SizeRef(dim):
                return {dim: 1}, 0
            case Value(name):
                s = self.made[name]
                if not isinstance(s, Op) or s.type != "int":
                    return None
                args = [self._affine(a) for a in s.args]
                known = [a for a in args if a is not None]
                if len(known) != len(args):
                    return None
                match s.op:
                    case "add":
                        return _sum(*known)
                    case "sub":
                        return _sum(known[0], _scaled(known[1], -1))
                    case "neg":
                        return _scaled(known[0], -1)
                    case "mul":
                        for (terms, number), other in ((known[0], known[1]), (known[1], known[0])):
                            if not terms:
                                return _scaled(other, number)
        return None

    def edge_text(self, of: _Affine) -> tuple[int, str]:
        """The coefficient of the lane, and the rest as C++."""
        lane = sum(c for a, c in of[0].items() if a in self.lane)
        parts = [
            (c, self.extent(a) if isinstance(a, Dim) else self.axis(a)) for a, c in of[0].items() if a not in self.lane
        ]
        text = "".join(f"{' - ' if c < 0 else ' + '}{f'{abs(c)} * ' if abs(c) > 1 else ''}{t}" for c, t in parts if c)
        text += f" {'-' if of[1] < 0 else '+'} {abs(of[1])}" if of[1] or not text else ""
        return lane, text.replace(" - ", "-", 1) if text.startswith(" - ") else text.removeprefix(" + ")


def _scaled(a: _Affine, factor: int) -> _Affine:
    return {name: factor * c for name, c in a[0].items()}, factor * a[1]


def _sum(a: _Affine, b: _Affine) -> _Affine:
    terms = dict(a[0])
    for name, c in b[0].items():
        terms[name] = terms.get(name, 0) + c
    return terms, a[1] + b[1]
