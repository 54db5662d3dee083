"""A program on a line: jets of its elements beside one point of it, on one side, with every branch certified.

The line is `x + t d` in the entries of some inputs; all else is fixed. `at` is the point of it: t = 0 exactly, or a tiny
ball of t in which one surface is crossed. A comparison whose difference vanishes at the point is decided by the sign of
the first coefficient that does not: it is the same all along the side, close to the point. In a ball the point itself is
not known; all that is undecided then has to be one and the same surface, which is crossed once, since its slope is
certainly not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from typing import Any

from lossdsl.ir.nodes import (
    BOOL,
    INT,
    REAL,
    TRUE,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Not,
    Or,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
)
from lossdsl.verify import jets
from lossdsl.verify.folds import every_place
from lossdsl.verify.jets import ONE, ZERO, Jet, Undecided, Undefined
from lossdsl.verify.points import Place, Point
from lossdsl.verify.work import CLOCK

Direction = Mapping[str, Mapping[Place, Fraction]]
Site = tuple[Hashable, ...]  # where a branch is taken: tensor, place, bound place, node
_STEPS = 15_000


@dataclass(frozen=True, slots=True)
class Value:
    """A real value: its jet, or the sign of the infinity that it is; `key` is equal for values computed alike."""

    jet: Jet
    key: int
    infinite: int = 0


class Line:
    """The elements of a program's tensors beside a point of a line.

    side      -1, 1: just before, just after; 0: at the point itself
    at        a ball for t (Arb), or None for t = 0
    surfaces  the differences that vanish in the ball, by their two sides
    states    what was decided at which site
    """

    def __init__(self, program: Program, point: Point, direction: Direction, side: int, at: Any = None) -> None:
        self.program, self.point, self.direction, self.side, self.at = program, point, direction, side, at
        self.surfaces: dict[frozenset[int], Jet] = {}
        self.states: dict[Site, int] = {}
        self._definitions = {d.tensor: d for d in program.definitions()}
        self._inputs = {i.name: i for i in program.inputs}
        self._elements: dict[tuple[str, Place], Any] = {}
        self._keys: dict[tuple[Hashable, ...], int] = {}
        self._made: dict[int, Value] = {}
        self._shapes: dict[int, tuple[Hashable, ...]] = {}
        self._left = _STEPS
        self._asked = 0
        self.crossing: int | None = None  # which of the comparisons, in order, was the first across the surface
        self.watched: dict[int, int | None] = {}  # the signs of the differences in the comparisons of these numbers

    # ------------------------------------------------------------------------------------------- elements

    def element(self, tensor: str, place: Place) -> Any:
        """A Value, or a Fraction or bool of an element that is not real. Raises Undecided, and Undefined where it is
        certainly no number."""
        key = (tensor, place)
        if key not in self._elements:
            if tensor in self._inputs:
                self._elements[key] = self._entry(tensor, place)
            else:
                self._elements[key] = self._element(self._definitions[tensor], place)
        return self._elements[key]

    def _entry(self, tensor: str, place: Place) -> Any:
        x = self.point.inputs[tensor].get(place)
        if x is None:
            raise Undecided(f"{tensor} has no entry at {place}")
        kind = self._inputs[tensor].dtype
        if kind is not REAL:
            return bool(x) if kind is BOOL else x
        d = self.direction.get(tensor, {}).get(place, Fraction(0))
        if not d or (self.side == 0 and self.at is None):
            return self._constant(x)
        here = x if self.at is None else jets.ball(x) + self.at * jets.ball(d)
        jet = jets.line(here, d) if self.side else jets.constant(here)
        return self._value(jet, ("entry", tensor, place))

    def _element(self, d: Definition, place: Place) -> Any:
        env: dict[Index, int] = dict(zip(d.formals, place, strict=True))
        site = (d.tensor, place)
        if d.support is not TRUE and not self._holds(d.support, env, site):
            return self._zero(d)
        if d.head == "map":
            return self._scalar(d.body, env, {}, site)
        if d.head == "argsort":
            env = dict(zip(d.formals[:-1], place[:-1], strict=True))
        chosen: list[tuple[Place, Any]] = []
        excluded: list[Place] = []
        for at in every_place([i.dim.evaluate(self.point.extents) for i in d.bound]):
            inner, here = {**env, **dict(zip(d.bound, at, strict=True))}, (*site, at)
            if d.where is not TRUE and not self._holds(d.where, inner, here):
                excluded.append(at)
            elif d.head in ("any", "all", "count"):
                chosen.append((at, self._holds(d.body, inner, here)))
            else:
                chosen.append((at, self._element_of_fold(d, inner, here)))
        if d.head == "argsort":
            return self._rank(d, chosen, excluded, place[-1], site)
        return self._fold(d, chosen, site)

    def _element_of_fold(self, d: Definition, env: Mapping[Index, int], site: Site) -> Any:
        try:
            return self._scalar(d.body, env, {}, site)
        except Undefined as reason:
            if d.head.startswith("arg"):  # a place, whatever is undefined
                raise Undecided(str(reason)) from None
            raise

    def _zero(self, d: Definition) -> Any:
        return False if d.dtype is BOOL else Fraction(0) if d.dtype is INT else self._constant(Fraction(0))

    def _fold(self, d: Definition, chosen: list[tuple[Place, Any]], site: Site) -> Any:
        values = [v for _, v in chosen]
        match d.head:
            case "count":
                return Fraction(sum(values))
            case "any":
                return any(values)
            case "all":
                return all(values)
            case "max" | "min" | "argmax" | "argmin":
                return self._winner(d, chosen, site)
        if d.body.dtype is not REAL:
            if d.head == "sum":
                return sum(values, Fraction(0))
            raise Undecided(f"no value for {d.head} of whole numbers")
        match d.head:
            case "sum" | "prod":
                total = self._constant(Fraction(d.head == "prod"))
                for v in values:
                    total = self.two("add" if d.head == "sum" else "mul", total, v)
                return total
            case "logsumexp":
                return self._logsumexp(values)
        raise Undecided(f"no value for {d.head}")

    def _winner(self, d: Definition, chosen: list[tuple[Place, Any]], site: Site) -> Any:
        if not chosen:
            if d.head.startswith("arg") or d.body.dtype is not REAL:
                raise Undecided("the place of an extremum of nothing")
            raise Undefined(f"an extremum over nothing ({d.tensor})")
        sign = 1 if d.head.endswith("max") else -1
        best = 0
        for k in range(1, len(chosen)):
            if sign * self._order(chosen[k][1], chosen[best][1]) > 0:
                best = k
        self.states[site] = best
        return self._flat(d, chosen[best][0]) if d.head.startswith("arg") else chosen[best][1]

    def _flat(self, d: Definition, place: Place) -> Fraction:
        flat = 0
        for i, position in zip(d.bound, place, strict=True):
            flat = flat * i.dim.evaluate(self.point.extents) + position
        return Fraction(flat)

    def _rank(
        self, d: Definition, chosen: list[tuple[Place, Any]], excluded: list[Place], rank: int, site: Site
    ) -> Fraction:
        def before(p: tuple[Place, Any], q: tuple[Place, Any]) -> int:
            return self._order(p[1], q[1])

        ordered = sorted(chosen, key=cmp_to_key(before))  # stable
        places = [*(p for p, _ in ordered), *excluded]
        flat = self._flat(d, places[rank])
        self.states[site] = int(flat)
        return flat

    def _logsumexp(self, values: Sequence[Value]) -> Value:
        if any(v.infinite > 0 for v in values):
            raise Undecided("a log-sum-exp of something infinite")
        finite = [v for v in values if not v.infinite]
        if len(finite) < 2:
            return finite[0] if finite else self._infinity(-1)
        top = max(finite, key=lambda v: float(jets.ball(v.jet[0]).mid()))
        total = ZERO
        for v in finite:
            total = jets.add(total, ONE if v is top else jets.apply("exp", jets.sub(v.jet, top.jet)))
        keys = tuple(sorted(v.key for v in finite))
        return self._value(jets.add(top.jet, jets.apply("log", total)), ("logsumexp", *keys))

    # --------------------------------------------------------------------------------------------- values

    def _value(self, jet: Jet, shape: tuple[Hashable, ...]) -> Value:
        key = self._keys.setdefault(shape, len(self._keys))
        if key not in self._made:
            self._made[key] = Value(jet, key)
            self._shapes[key] = shape
        return self._made[key]

    def _constant(self, x: Fraction) -> Value:
        return self._value(jets.constant(x), ("number", x))

    def _infinity(self, sign: int) -> Value:
        key = self._keys.setdefault(("infinity", sign), len(self._keys))
        return Value(ZERO, key, sign)

    def sign(self, v: Value) -> int:
        """The sign of a value on this side of the point. Raises Undecided."""
        return self._order(v, self._constant(Fraction(0)))

    def _order(self, a: Any, b: Any) -> int:
        """The sign of a - b on this side. Raises Undecided."""
        if isinstance(a, Fraction):
            return int(a > b) - int(a < b)
        self._asked += 1
        if a.key == b.key:
            return 0
        if a.infinite or b.infinite:
            return int(a.infinite > b.infinite) - int(a.infinite < b.infinite)
        gap = jets.sub(a.jet, b.jet)
        if gap.nothing:
            return 0
        first = jets.sign_of(gap[0])
        if self._asked in self.watched:
            self.watched[self._asked] = first
        if first:
            return first
        if first is None:
            return self._crossed(a, b, gap)
        k = gap.leading
        found = jets.sign_of(gap.terms[k]) if k < len(gap.terms) else None
        if not found or self.side == 0:
            raise Undecided("a branch at its edge")
        return found * int(self.side**k)

    def _crossed(self, a: Value, b: Value, gap: Jet) -> int:
        slope = jets.sign_of(gap[1]) if gap.known > 1 else None
        if self.at is None or not slope or self.side == 0:
            raise Undecided("a branch at its edge")
        self.surfaces[self._surface(a.key, b.key)] = gap
        if self.crossing is None:
            self.crossing = self._asked
        if len(self.surfaces) > 1:
            raise Undecided("two surfaces at once")
        return slope * self.side

    def _surface(self, a: int, b: int) -> frozenset[int]:
        """The two values that are equal on it: `a - b` vanishes where a is b, `-a` and `2 a` where a does."""
        zero = self._constant(Fraction(0)).key
        match self._shapes.get(a, ()), self._shapes.get(b, ()):
            case ("mul", int(p), int(q)), ("mul", int(r), int(s)):  # a common factor that vanishes nowhere
                for common, x, y in ((p, q, s), (p, q, r), (q, p, s), (q, p, r)):
                    other = r if y == s else s
                    if common == other and jets.sign_of(self._made[common].jet[0]):
                        a, b = x, y
                        break
        while zero in (a, b):
            match self._shapes.get(a if b == zero else b, ()):
                case ("sub", int(p), int(q)):
                    a, b = p, q
                case ("neg", int(p)):
                    a, b = p, zero
                case ("mul", int(p), int(q)) if self._is_number(p, zero) or self._is_number(q, zero):
                    a, b = (q if self._is_number(p, zero) else p), zero
                case _:
                    break
        return frozenset((a, b))

    def _is_number(self, key: int, zero: int) -> bool:
        return key != zero and self._shapes[key][0] == "number"

    # -------------------------------------------------------------------------------------------- scalars

    def _holds(self, condition: Scalar, env: Mapping[Index, int], site: Site) -> bool:
        return bool(self._scalar(condition, env, {}, site))

    def _scalar(self, node: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Any], site: Site) -> Any:
        if node not in memo:
            self._left -= 1
            CLOCK.steps += 3
            if self._left < 0:
                raise Undecided("too many elements")
            memo[node] = self._node(node, env, memo, site)
        return memo[node]

    def _node(self, node: Scalar, env: Mapping[Index, int], memo: dict[Scalar, Any], site: Site) -> Any:
        def of(n: Scalar) -> Any:
            return self._scalar(n, env, memo, site)

        match node:
            case Const():
                if isinstance(node.value, str):
                    if node.value == "nan":
                        raise Undefined("undefined as it is written")
                    return self._infinity(1 if node.value == "inf" else -1)
                return self._number(node.value, node)
            case Param():
                return self._number(self.point.parameters[node.name], node)
            case Size():
                return Fraction(node.dim.evaluate(self.point.extents))
            case Index():
                return Fraction(env[node])
            case Read():
                return self.element(node.tensor, tuple(int(of(i)) for i in node.indices))
            case Table():
                return of(node.values[int(of(node.index))])
            case Select():
                holds = self._holds(node.condition, env, site)
                return of(node.a if holds else node.b)
            case Compare():
                return self._compare(node, of, site)
            case And():
                return all(of(a) for a in node.args)
            case Or():
                return any(of(a) for a in node.args)
            case Not():
                return not of(node.a)
            case Stop() | AdjointMap():
                return of(node.a)
            case Proxy():
                return of(node.value)
            case Apply():
                return self._apply(node, of, site)
        raise Undecided(f"no value of {type(node).__name__}")

    def _number(self, x: Fraction, node: Scalar) -> Any:
        return bool(x) if node.dtype is BOOL else self._constant(x) if node.dtype is REAL else x

    def _compare(self, node: Compare, of: Callable[[Scalar], Any], site: Site) -> bool:
        try:
            s = self._order(of(node.a), of(node.b))
        except Undefined as reason:  # a comparison with what is undefined is false: it does not spread
            raise Undecided(str(reason)) from None
        if node.a.dtype is REAL:
            self.states[(*site, node)] = s
        return {"<": s < 0, "<=": s <= 0, ">": s > 0, ">=": s >= 0, "==": s == 0, "!=": s != 0}[node.op]

    def _apply(self, node: Apply, of: Callable[[Scalar], Any], site: Site) -> Any:
        try:
            args = [of(a) for a in node.args]
        except Undefined as reason:
            exponent = node.args[-1]
            strict = node.name in ("pow", "powi") and isinstance(exponent, Const) and exponent.value != 0
            if node.dtype is INT or (node.name in _LENIENT and not strict):
                raise Undecided(str(reason)) from None
            raise
        if node.name == "real":
            x = args[0]
            return x if isinstance(x, Value) else self._constant(Fraction(x))
        if node.dtype is INT:
            return self._whole(node.name, args)
        if node.name == "powi":
            return self._power(args[0], args[1])
        if node.name in _CORNERS:
            return self._corner(node, args, site)
        if all(isinstance(a, Value) for a in args):
            if len(args) == 2:
                return self.two(node.name, *args)
            if len(args) == 1:
                return self.one(node.name, args[0])
        raise Undecided(f"no value of {node.name}")

    def _whole(self, name: str, args: list[Any]) -> Fraction:
        if name in ("floor", "ceil"):
            x = args[0].jet[0]
            if args[0].infinite or not (args[0].jet.constant and isinstance(x, Fraction)):
                raise Undecided("rounding of what is not exact")
            return Fraction(x // 1 if name == "floor" else -(-x // 1))
        a = [Fraction(x) for x in args]
        match name:
            case "int":
                return a[0]
            case "add":
                return a[0] + a[1]
            case "sub":
                return a[0] - a[1]
            case "mul":
                return a[0] * a[1]
            case "neg":
                return -a[0]
            case "abs":
                return abs(a[0])
            case "max2":
                return max(a)
            case "min2":
                return min(a)
            case "floordiv" if a[1]:
                return Fraction(a[0] // a[1])
            case "mod" if a[1]:
                return a[0] % a[1]
        raise Undecided(f"no value of {name}")

    def _corner(self, node: Apply, args: list[Value], site: Site) -> Value:
        """abs, relu, max, min, clamp, sign: an argument, its negative, or a number, by a comparison."""
        zero = self._constant(Fraction(0))

        def at_least(a: Value, b: Value, k: int) -> bool:
            s = self._order(a, b)
            self.states[(*site, node, k)] = s
            return s >= 0

        match node.name:
            case "abs":
                return args[0] if at_least(args[0], zero, 0) else self.one("neg", args[0])
            case "relu":
                return args[0] if at_least(args[0], zero, 0) else zero
            case "max2":
                return args[0] if at_least(args[0], args[1], 0) else args[1]
            case "min2":
                return args[0] if at_least(args[1], args[0], 0) else args[1]
            case "clamp":
                low = args[0] if at_least(args[0], args[1], 0) else args[1]
                return low if at_least(args[2], low, 1) else args[2]
        s = self._order(args[0], zero)
        self.states[(*site, node, 0)] = s
        return self._constant(Fraction(s))

    def two(self, name: str, a: Value, b: Value) -> Value:
        """A function of two arguments."""
        if a.infinite or b.infinite:
            return self._with_infinity(name, a, b)
        p, q = a.jet, b.jet
        keys = (b.key, a.key) if name in ("add", "mul") and b.key < a.key else (a.key, b.key)
        shape = (name, *keys)
        match name:
            case "add":
                return a if q.nothing else b if p.nothing else self._value(jets.add(p, q), shape)
            case "sub":
                return a if q.nothing else self._value(ZERO if a.key == b.key else jets.sub(p, q), shape)
            case "mul":
                return a if q is ONE else b if p is ONE else self._value(jets.mul(p, q), shape)
            case "div":
                if not q.nothing:
                    return self._value(jets.div(p, q), shape)
                if p.nothing:
                    raise Undefined("0 / 0")
                return self._infinity(self._sure(a))
            case "pow":
                return self._general_power(a, b)
            case "logaddexp":
                return self._logsumexp((a, b))
            case "expdiff":
                return self.one("exp", self.two("sub", a, b))
            case "xlogy":
                if p.nothing:
                    return self._constant(Fraction(0))
                return self.two("mul", a, self.one("log", b))
            case "atan2" if self._sure(b) > 0:
                return self.one("atan", self.two("div", a, b))
        raise Undecided(f"no value of {name}")

    def _sure(self, v: Value) -> int:
        found = self.sign(v)
        if found == 0:
            raise Undecided("a sign at its edge")
        return found

    def _with_infinity(self, name: str, a: Value, b: Value) -> Value:
        match name:
            case "add" | "sub":
                second = b.infinite if name == "add" else -b.infinite
                if a.infinite * second < 0:
                    raise Undefined("inf - inf")
                return self._infinity(a.infinite or second)
            case "mul":
                signs = [v.infinite or self.sign(v) for v in (a, b)]
                if 0 in signs:
                    raise Undefined("0 * inf")
                return self._infinity(signs[0] * signs[1])
            case "div":
                if a.infinite and b.infinite:
                    raise Undefined("inf / inf")
                return self._infinity(a.infinite * self._sure(b)) if a.infinite else self._constant(Fraction(0))
            case "logaddexp":
                return self._logsumexp((a, b))
            case "expdiff":
                return self.one("exp", self.two("sub", a, b))
        raise Undecided(f"no value of {name} at infinity")

    def _general_power(self, a: Value, b: Value) -> Value:
        exponent = b.jet[0]
        if b.jet.constant and isinstance(exponent, Fraction):
            return self._power(a, exponent)
        if a.infinite or jets.sign_of(a.jet[0]) != 1:
            raise Undecided("a power of what may not be positive")
        return self.one("exp", self.two("mul", b, self.one("log", a)))

    def _power(self, a: Value, exponent: Fraction) -> Value:
        if a.infinite:
            raise Undecided("a power of infinity")
        if a.jet.nothing and exponent < 0:
            return self._infinity(1)
        if exponent.denominator != 1 and jets.sign_of(a.jet[0]) == -1:
            raise Undefined("a power of a negative number")
        return self._value(jets.power(a.jet, exponent, self.side), ("power", a.key, exponent))

    def one(self, name: str, a: Value) -> Value:
        """A function of one argument."""
        if a.infinite:
            return self._at_infinity(name, a.infinite)
        first = jets.sign_of(a.jet[0])
        match name:
            case "neg":
                shape = self._shapes[a.key]
                if shape[0] == "neg" and isinstance(shape[1], int):
                    return self._made[shape[1]]
                return self._value(jets.neg(a.jet), ("neg", a.key))
            case "log" | "log2" | "log10" | "sqrt" if first == -1:
                raise Undefined(f"{name} of a negative number")
            case "log" | "log2" | "log10" if a.jet.nothing:
                return self._infinity(-1)
            case "sqrt":
                return self._power(a, Fraction(1, 2))
            case "log1p":
                return self.one("log", self.two("add", self._constant(Fraction(1)), a))
            case "log1mexp":
                rest = self.two("sub", self._constant(Fraction(1)), self.one("exp", a))
                return self.one("log", rest)
            case "asin" | "acos" if jets.sign_of(jets.sub(jets.mul(a.jet, a.jet), ONE)[0]) != -1:
                raise Undecided(f"{name} at an end of its domain")
        return self._value(jets.apply(name, a.jet), (name, a.key))

    def _at_infinity(self, name: str, sign: int) -> Value:
        if name == "neg":
            return self._infinity(-sign)
        limit = _LIMITS.get(name, {}).get(sign)
        if limit is None:
            raise Undecided(f"{name} at infinity")
        return self._infinity(int(limit)) if isinstance(limit, float) else self._constant(Fraction(limit))


_LENIENT = frozenset({"pow", "powi", "xlogy"})  # may have a value though an argument has none
_CORNERS = frozenset({"abs", "relu", "max2", "min2", "clamp", "sign"})
# limits at -inf and inf; a float is the sign of an infinity
_LIMITS: dict[str, dict[int, int | float]] = {
    "exp": {-1: 0, 1: 1.0},
    "expm1": {-1: -1, 1: 1.0},
    "log": {1: 1.0},
    "log1p": {1: 1.0},
    "sqrt": {1: 1.0},
    "sigmoid": {-1: 0, 1: 1},
    "softplus": {-1: 0, 1: 1.0},
    "logsigmoid": {-1: -1.0, 1: 0},
    "tanh": {-1: -1, 1: 1},
    "erf": {-1: -1, 1: 1},
}

__all__ = ["Direction", "Line", "Site", "Value"]
