"""Which values an expression can take: interval enclosures over the declared domains, and whether 0 is excluded.

Used for the questions that must be settled while a loss is built: may this be the base of a real power, may this
logarithm meet 0. An enclosure is a superset; "not known" is the whole line.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf

from lossdsl import primitives
from lossdsl.ir.build.affine import NEGATED, conjuncts
from lossdsl.ir.nodes import (
    BOOL,
    TRUE,
    AdjointMap,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Input,
    Not,
    Param,
    Parameter,
    Proxy,
    Range,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
    postorder,
)
from lossdsl.primitives.interval import EMPTY, NONNEGATIVE, UNIT, WHOLE, Interval


@dataclass(frozen=True)
class Value:
    """Every value lies in `interval`; `nonzero` says that 0 is excluded as well."""

    interval: Interval
    nonzero: bool = False

    @property
    def positive(self) -> bool:
        return self.interval.lo > 0 or (self.interval.lo >= 0 and self.nonzero)

    @property
    def negative(self) -> bool:
        return self.interval.hi < 0 or (self.interval.hi <= 0 and self.nonzero)


UNKNOWN = Value(WHOLE)
_POSITIVE = frozenset({"exp", "expdiff", "softplus", "sigmoid", "normal_cdf", "erfc", "cosh", "i0e"})
_KEEPS_ZERO = frozenset({"neg", "abs", "real", "sqrt", "sinh", "tanh", "expm1", "log1p", "atan", "asin", "powi"})


class Values:
    """Ranges of inputs, parameters and definitions, and of expressions over them under conditions."""

    def __init__(self) -> None:
        self._tensors: dict[str, Value] = {}
        self._parameters: dict[str, Value] = {}
        self._ranges: dict[str, Range] = {}
        self._memo: dict[tuple[tuple[Scalar, ...], Scalar], Value] = {}

    def copied(self) -> tuple[dict[str, Value], dict[tuple[tuple[Scalar, ...], Scalar], Value]]:
        """What is known of tensors, for `restore`."""
        return dict(self._tensors), dict(self._memo)

    def restore(self, known: tuple[dict[str, Value], dict[tuple[tuple[Scalar, ...], Scalar], Value]]) -> None:
        self._tensors, self._memo = dict(known[0]), dict(known[1])

    def declare_parameter(self, parameter: Parameter) -> None:
        self._parameters[parameter.name] = self._in_range(parameter.range)
        self._ranges[parameter.name] = parameter.range

    def declare_input(self, declared: Input) -> None:
        kinds = {
            "prob": Value(UNIT),
            "simplex": Value(UNIT),
            "unit": Value(Interval(-1.0, 1.0)),
            "bool": Value(UNIT),
            "binary": Value(UNIT),
            "sign": Value(Interval(-1.0, 1.0), True),
        }
        self._ranges[declared.name] = declared.range
        value = kinds.get(declared.kind)
        if declared.kind == "class":
            value = Value(NONNEGATIVE) if declared.also is None else UNKNOWN
        narrowed = self._in_range(declared.range)
        if value is None:
            value = narrowed
        else:
            value = Value(value.interval.intersect(narrowed.interval), value.nonzero or narrowed.nonzero)
        self._tensors[declared.name] = value

    def _in_range(self, r: Range) -> Value:
        low = self.of(r.lower) if r.lower is not None else UNKNOWN
        high = self.of(r.upper) if r.upper is not None else UNKNOWN
        interval = Interval(low.interval.lo, inf).intersect(Interval(-inf, high.interval.hi))
        above = r.lower is not None and (low.positive or (r.lower_open and low.interval.lo >= 0))
        below = r.upper is not None and (high.negative or (r.upper_open and high.interval.hi <= 0))
        return Value(interval, above or below)

    def define(self, definition: Definition) -> None:
        """Remember the range of a definition for its readers."""
        body = self.of(definition.body, conjuncts(definition.where))
        head = definition.head
        if head == "map" or head in ("max", "min"):
            value = body
        elif head in ("any", "all"):
            value = Value(UNIT)
        elif head in ("count", "argmax", "argmin", "argsort"):
            value = Value(NONNEGATIVE)
        elif head == "sum":
            lo = 0.0 if body.interval.lo >= 0 else -inf
            hi = 0.0 if body.interval.hi <= 0 else inf
            # Extents count as positive here: an empty batch is no reason to warn of a logarithm.
            value = Value(Interval(lo, hi), definition.where is TRUE and (body.positive or body.negative))
        elif head == "prod" and body.interval.lo >= 0:
            value = Value(UNIT if body.interval.hi <= 1 else NONNEGATIVE, body.nonzero)
        else:
            value = UNKNOWN
        self._tensors[definition.tensor] = value

    def nonnegative(self, node: Scalar, path: tuple[Scalar, ...] = ()) -> bool:
        """True only if the value is proved >= 0 wherever it is evaluated under the conditions."""
        return self.of(node, path).interval.lo >= 0

    def of(self, root: Scalar, path: tuple[Scalar, ...] = ()) -> Value:
        """The enclosure of an expression under conditions."""
        for node in postorder(root):
            key = (path, node)
            if key not in self._memo:
                self._memo[key] = _refined(node, self._node(node, path), path)
        return self._memo[path, root]

    def _node(self, node: Scalar, path: tuple[Scalar, ...]) -> Value:
        match node:
            case Const(value=value):
                if isinstance(value, Fraction):
                    return Value(Interval.exact(value), value != 0)
                return UNKNOWN if value == "nan" else Value(Interval.exact(float(value)), True)
            case Param(name=name):
                return self._parameters.get(name, UNKNOWN)
            case Size(dim=dim):
                constant = dim.number
                return Value(Interval.exact(max(0, constant))) if constant is not None else Value(NONNEGATIVE, True)
            case Index(dim=dim):
                constant = dim.number
                return Value(NONNEGATIVE if constant is None else Interval(0.0, float(max(0, constant - 1))))
            case Read(tensor=tensor):
                return self._tensors.get(tensor, UNKNOWN)
            case Table(values=values):
                parts = [self._node(v, ()) for v in values]
                return Value(Interval.hull_of(p.interval for p in parts), all(p.nonzero for p in parts))
            case Select(condition=condition, a=a, b=b):
                first = self.of(a, path + conjuncts(condition))
                second = self.of(b, path + conjuncts(Not(condition)))
                return Value(first.interval.hull(second.interval), first.nonzero and second.nonzero)
            case Stop() | AdjointMap():
                return self._memo[path, node.children[0]]
            case Proxy(value=inner):
                return self._memo[path, inner]
            case Apply(name=name, args=args):
                return self._apply(name, [self._memo[path, a] for a in args], args)
        return Value(UNIT) if node.dtype is BOOL else UNKNOWN

    def open_at(self, node: Scalar, upper: bool) -> bool:
        """Whether an input or a parameter cannot have the end of its range as value."""
        name = node.name if isinstance(node, Param) else node.tensor if isinstance(node, Read) else ""
        found = self._ranges.get(name, Range())
        return found.upper_open if upper else found.lower_open

    def _apply(self, name: str, args: list[Value], nodes: tuple[Scalar, ...]) -> Value:
        boxes = [a.interval for a in args]
        if any(b.is_empty for b in boxes):
            return Value(EMPTY, True)
        if name in ("real", "int"):
            return args[0]
        record = primitives.PRIMITIVES.get(name)
        interval = record.enclose(*boxes) if record is not None else WHOLE
        if name in ("mul", "add") and nodes[0] is nodes[1]:
            interval = interval if name == "add" else interval.intersect(NONNEGATIVE)
        nonzero = name in _POSITIVE or not interval.contains(0.0)
        if name in _KEEPS_ZERO:
            nonzero = nonzero or args[0].nonzero
        elif name == "mul":
            nonzero = nonzero or all(a.nonzero for a in args)
        elif name in ("div", "pow"):
            nonzero = nonzero or args[0].nonzero
        elif name == "add":
            low = all(b.lo >= 0 for b in boxes) and any(a.nonzero for a in args)
            high = all(b.hi <= 0 for b in boxes) and any(a.nonzero for a in args)
            nonzero = nonzero or low or high
        elif name == "sub":  # k - 1 with k > 1: what is open at an end stays away from it
            low = boxes[0].lo == boxes[1].hi and (self.open_at(nodes[0], False) or self.open_at(nodes[1], True))
            high = boxes[0].hi == boxes[1].lo and (self.open_at(nodes[0], True) or self.open_at(nodes[1], False))
            nonzero = nonzero or low or high
        elif name == "max2":
            nonzero = nonzero or any(a.positive for a in args)
        elif name == "min2":
            nonzero = nonzero or all(a.positive for a in args)
        return Value(interval, nonzero)


def _refined(node: Scalar, value: Value, path: tuple[Scalar, ...]) -> Value:
    """The range narrowed by the conditions that compare exactly this node with a constant."""
    for condition in path:
        negated = isinstance(condition, Not)
        inner = condition.a if isinstance(condition, Not) else condition
        if not isinstance(inner, Compare):
            continue
        op, other = inner.op, inner.b
        if inner.b is node:
            op, other = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(op, op), inner.a
        elif inner.a is not node:
            continue
        if not isinstance(other, Const) or not isinstance(other.value, Fraction):
            continue
        # A comparison with nan is false, so its negation says nothing that excludes nan; ranges leave nan aside.
        if negated:
            op = NEGATED[op]
        bound = Interval.exact(other.value)
        interval, nonzero = value.interval, value.nonzero
        if op in (">", ">=", "=="):
            interval = interval.intersect(Interval(bound.lo, inf))
        if op in ("<", "<=", "=="):
            interval = interval.intersect(Interval(-inf, bound.hi))
        if (op == ">" and other.value >= 0) or (op == "<" and other.value <= 0) or (op == "!=" and other.value == 0):
            nonzero = True
        value = Value(interval, nonzero)
    return value
