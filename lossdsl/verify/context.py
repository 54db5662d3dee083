"""What a question is asked under: the narrowed program and ranges, and the conditions that a witness must meet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod
from typing import Any

from lossdsl.ir.nodes import (
    BOOL,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Input,
    Not,
    Param,
    Program,
    Range,
    Read,
    Scalar,
    postorder,
)
from lossdsl.ir.rewrite import free_indices, with_numbers
from lossdsl.transform.stabilise import stabilise
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.folds import every_place
from lossdsl.verify.operations import compare, may_jump, truth
from lossdsl.verify.pieces import dependents, of_values, reads_any
from lossdsl.verify.points import Evaluator, Point, Sampler, Undecided
from lossdsl.verify.ranges import MIRROR, Ranges
from lossdsl.verify.signs import Budget


@dataclass
class Context:
    """A program and everything that is assumed."""

    program: Program
    assume: dict[str, Enclosure] = field(default_factory=dict)
    fixed: dict[str, Fraction] = field(default_factory=dict)  # inputs and parameters that have one value
    conditions: tuple[Scalar, ...] = ()
    budget: Budget = field(default_factory=Budget)
    seconds: float = 0.2  # for one search for a witness
    searching: bool = True  # False: only proofs are wanted, and there are no points to search
    memo: dict[object, Any] = field(default_factory=dict, repr=False)  # of this program under these assumptions

    def ranges(self, interior: Iterable[str] = ()) -> Ranges:
        key = ("ranges", frozenset(interior))
        if key not in self.memo:
            self.memo[key] = Ranges(self.program, self.assume, interior=key[1])
        found: Ranges = self.memo[key]
        return found

    def jumps_at_ends(self, names: frozenset[str]) -> bool:
        """Whether another branch may be taken at the boundary of a domain than inside of it: the value may jump there, and
        what holds inside need not hold up to the boundary (where a claim is about the whole domain)."""
        key = ("jumps at the ends", names)
        if key not in self.memo:
            closed = Ranges(self.program, self.assume)
            boxes = {n: closed.input(n) for n in names}
            bounded = [n for n, box in boxes.items() if box.lo > -INF or box.hi < INF]
            above = frozenset().union(*(dependents(self.program, n) for n in bounded))
            scalars = [s for d in self.program.definitions() for s in d.scalars()] if bounded else []
            jumps = (n for n in postorder(*scalars) if may_jump(n) and reads_any(above, n))
            scope = closed.scope()
            self.memo[key] = any(not isinstance(n, Compare) or truth(scope[n]) is None for n in jumps)
        found: bool = self.memo[key]
        return found

    def sampler(self, seed: int, interior: Iterable[str] = ()) -> Sampler:
        names = frozenset(interior)
        return Sampler(self.program, self.ranges(names), seed, self.fixed, names, empty=not self.searching)

    def admits(self, point: Point) -> bool:
        """Whether the point certainly meets every condition, for all elements of the tensors that it reads, and lies
        in the declared domains at its own parameters."""
        evaluator = Evaluator(self.program, point)
        try:
            if not self._in_domains(point, evaluator):
                return False
            for name, value in self.fixed.items():
                if any(v != value for v in point.inputs.get(name, {}).values()):
                    return False
            return all(_everywhere(c, evaluator, point) for c in self.conditions)
        except Undecided:
            return False

    @property
    def is_box(self) -> bool:
        """Whether all conditions are taken into the ranges of single names."""
        return all(self._learn(part, {}, {}) for condition in self.conditions for part in _conjuncts(condition))

    def cuts_through(self, entry: str) -> bool:
        """Whether a condition binds the input together with something else, so that no interval of it holds it."""
        above = dependents(self.program, entry)
        return any(
            reads_any(above, part)
            for condition in self.conditions
            for part in _conjuncts(condition)
            if not self._learn(part, {}, {})
        )

    def _in_domains(self, point: Point, evaluator: Evaluator) -> bool:
        for p in self.program.parameters:
            if p.name in point.extents and point.extents[p.name] != max(0, int(point.parameters[p.name])):
                return False  # an integer parameter that is an extent is that extent
            if not _obeys([point.parameters[p.name]], p.range, evaluator):
                return False
        return all(
            _of_its_kind(i, point) and _obeys(point.inputs[i.name].values(), i.range, evaluator)
            for i in self.program.inputs
        )

    def symbolic(self, entry: str) -> bool:
        """Whether the domain of an input depends on other names: its interval is then that of all their values."""
        declared = self.program.input(entry)
        ends = (declared.range.lower, declared.range.upper) if declared is not None else ()
        return any(not isinstance(n, (Const, Apply)) for end in ends if end is not None for n in postorder(end))

    def _learn(self, part: Scalar, assume: dict[str, Enclosure], fixed: dict[str, Fraction]) -> bool:
        return _learn(part, assume, fixed, self.program)

    def narrowed(self, condition: Scalar) -> Context:
        """The context under one more condition on parameters and inputs."""
        assume, fixed = dict(self.assume), dict(self.fixed)
        for part in _conjuncts(condition):
            self._learn(part, assume, fixed)
        program = with_numbers(self.program, fixed) if fixed != self.fixed else self.program
        conditions = (*self.conditions, condition)
        return replace(self, program=program, assume=assume, fixed=fixed, conditions=conditions, memo={})

    def extended(self, items: Iterable[Definition | Group]) -> Context:
        """The context with further definitions at the end of its program, what is fixed in them, too."""
        program = self.program.with_body((*self.program.body, *items))
        program = with_numbers(program, self.fixed) if self.fixed else program
        return replace(self, program=program, memo={})

    def stable(self) -> Context | None:
        """The context of the same mathematics with stable primitives in place of what is written out (`log(sum(exp(x)))`
        is a logsumexp): engines know more of these. None if nothing is written differently."""
        if "stable" not in self.memo:
            program = stabilise(self.program)
            same = program.body == self.program.body
            self.memo["stable"] = None if same else replace(self, program=program, memo={})
        found: Context | None = self.memo["stable"]
        return found

    def of_values(self) -> Context:
        """The context of what the program computes, without what it declares of derivatives; itself if it does not."""
        if "values" not in self.memo:
            program = of_values(self.program)
            same = program.body == self.program.body
            self.memo["values"] = None if same else replace(self, program=program, memo={})
        found: Context | None = self.memo["values"]
        if found is None:
            return self
        return replace(found, budget=self.budget, seconds=self.seconds, searching=self.searching)

    def at_defaults(self) -> Context:
        """The context where parameters have their defaults: always the same one, so that what is found there is kept."""
        if "at defaults" not in self.memo:
            fixed = dict(self.fixed)
            for p in self.program.parameters:
                if p.default is not None and isinstance(p.default.value, Fraction):
                    fixed.setdefault(p.name, p.default.value)
            program = with_numbers(self.program, fixed)
            self.memo["at defaults"] = replace(self, program=program, fixed=fixed, memo={})
        found: Context = self.memo["at defaults"]
        return replace(found, budget=self.budget, seconds=self.seconds, searching=self.searching)


def _conjuncts(condition: Scalar) -> list[Scalar]:
    """The parts of a conjunction; a switch that stands alone is compared with 1, a negated one with 0."""
    if isinstance(condition, And):
        return [c for a in condition.args for c in _conjuncts(a)]
    bare = condition.a if isinstance(condition, Not) else condition
    if isinstance(bare, Param) and bare.kind is BOOL:
        return [Compare("==", Apply("real", (bare,)), Const(Fraction(bare is condition)))]
    return [] if condition is TRUE else [condition]


def _of_its_kind(i: Input, point: Point) -> bool:
    """Whether all entries are there, and are probabilities, whole numbers, places of a class ... as is declared."""
    entries = point.inputs[i.name]
    values = entries.values()
    if len(entries) != prod(max(0, d.evaluate(point.extents)) for d in i.dims):
        return False
    match i.kind:
        case "prob":
            return all(0 <= v <= 1 for v in values)
        case "simplex" | "unit":
            rows: dict[tuple[int, ...], Fraction] = {}
            for place, v in entries.items():
                row = tuple(p for k, p in enumerate(place) if k not in i.over)
                rows[row] = rows.get(row, Fraction(0)) + (v if i.kind == "simplex" else v * v)
            count = prod(d.evaluate(point.extents) for k, d in enumerate(i.dims) if k not in i.over)
            if len(rows) != count:  # a row of nothing has no sum of 1
                return False
            return all(total == 1 for total in rows.values()) and (i.kind == "unit" or all(v >= 0 for v in values))
        case "bool" | "binary":
            return all(v in (0, 1) for v in values)
        case "sign":
            return all(v in (-1, 1) for v in values)
        case "class":
            count = 0 if i.classes is None else i.classes.evaluate(point.extents)
            ignored = None if i.also is None else point.parameters[i.also]
            return all(v == ignored or (v.denominator == 1 and 0 <= v < count) for v in values)
        case "int":
            return all(v.denominator == 1 for v in values)
    return True


def _obeys(values: Iterable[Fraction], declared: Range, evaluator: Evaluator) -> bool:
    for bound, is_open, op in (
        (declared.lower, declared.lower_open, ">"),
        (declared.upper, declared.upper_open, "<"),
    ):
        if bound is None:
            continue
        exact = _constant(bound)
        if exact is not None:  # no rounding: the end itself belongs to a closed domain
            signs = [v - exact if op == ">" else exact - v for v in values]
            if any(s < 0 or (s == 0 and is_open) for s in signs):
                return False
            continue
        at = evaluator.scalar(bound, {})
        if any(truth(compare(op if is_open else op + "=", e.exact(v), at)) is not True for v in values):
            return False
    return True


def _learn(part: Scalar, assume: dict[str, Enclosure], fixed: dict[str, Fraction], program: Program) -> bool:
    """Take a comparison of a name with a constant into the ranges (then True); anything else only binds witnesses."""
    if not isinstance(part, Compare):
        return False
    for a, b, op in ((part.a, part.b, part.op), (part.b, part.a, MIRROR[part.op])):
        while isinstance(a, Apply) and a.name in ("real", "int"):
            a = a.args[0]
        value = _constant(b)
        if value is None:
            continue
        if isinstance(a, Apply) and a.name == "abs" and op in ("<", "<="):
            name, box = _name(a.args[0], program), _around_zero(op, value)
        else:
            name, box = _name(a, program), _box(op, value)
        if name is None or box is None:
            continue
        if op == "==":
            fixed[name] = value
        before = assume.get(name)
        both = e.meet(before, box) if before is not None else box
        if both is not None:
            assume[name] = both
        return True
    return False


def _name(node: Scalar, program: Program) -> str | None:
    """The parameter, or the input all of whose elements the scalar goes through."""
    while isinstance(node, Apply) and node.name in ("real", "int"):
        node = node.args[0]
    if isinstance(node, Param):
        return node.name
    declared = program.input(node.tensor) if isinstance(node, Read) else None
    if not isinstance(node, Read) or declared is None:
        return None
    dims = tuple(i.dim for i in node.indices if isinstance(i, Index))
    whole = dims == declared.dims and len(set(node.indices)) == len(node.indices)
    return node.tensor if whole else None


def _constant(node: Scalar) -> Fraction | None:
    if isinstance(node, Const) and isinstance(node.value, Fraction):
        return node.value
    if isinstance(node, Apply) and node.name in ("neg", "real"):
        inner = _constant(node.args[0])
        return None if inner is None else -inner if node.name == "neg" else inner
    return None


def _around_zero(op: str, value: Fraction) -> Enclosure | None:
    """Where `abs(x) op value` holds; None for nowhere."""
    end = e.exact(value).hi
    return Enclosure(-end, end, op == "<", op == "<") if end >= 0 else None


def _box(op: str, value: Fraction) -> Enclosure | None:
    at = e.exact(value)
    match op:
        case "==":
            return Enclosure(at.lo, at.hi)
        case "<" | "<=":
            return Enclosure(-INF, at.hi, True, op == "<" and at.lo == at.hi)
        case ">" | ">=":
            return Enclosure(at.lo, INF, op == ">" and at.lo == at.hi, True)
    return None


def _everywhere(condition: Scalar, evaluator: Evaluator, point: Point) -> bool:
    indices = free_indices(condition)
    for at in every_place([i.dim.evaluate(point.extents) for i in indices]):
        if truth(evaluator.scalar(condition, dict(zip(indices, at, strict=True)))) is not True:
            return False
    return True
