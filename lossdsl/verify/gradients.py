"""Gradients of what is coupled along an axis, as P - Q with P, Q >= 0 entry by entry and a bound on the mass of each.

A log-sum-exp has a gradient of mass 1 (a softmax), an entry of the input too; sums add, factors scale. Then
|P - Q| <= sqrt(mass(P)^2 + mass(Q)^2) in l2, their sum in l1, the larger of them in linf.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lossdsl.ir.nodes import REAL, TRUE, Apply, Const, Definition, Group, Index, Read, Scalar, Select, Size, postorder
from lossdsl.ir.rewrite import substitute, transform
from lossdsl.verify.algebra import Field, TooLarge, minus, plus, times
from lossdsl.verify.context import Context
from lossdsl.verify.pieces import NotScalar, dependents, fold, inline, reads_any, value_of
from lossdsl.verify.ranges import Scope, matches
from lossdsl.verify.show import text
from lossdsl.verify.signs import prove
from lossdsl.verify.verdict import Bracket, Proved, Step, Unknown
from lossdsl.verify.weights import Weights

ZERO, ONE = Const(0), Const(1)


class NoRule(Exception):
    pass


@dataclass(frozen=True)
class Mass:
    """Upper bounds, as scalars free of the input, on the mass of the positive and of the negative part."""

    plus: Scalar
    minus: Scalar


class Masses:
    def __init__(self, ctx: Context, entry: str, *, counted: bool = False) -> None:
        """`counted`: what a selection sums up is bounded by its count, else by the length of the axes."""
        self.ctx, self.entry, self.counted = ctx, entry, counted
        self.ranges = ctx.ranges((entry,))
        self.varying = dependents(ctx.program, entry)
        self.grouped = {d.tensor for g in ctx.program.body if isinstance(g, Group) for d in g.definitions}
        self.weights = Weights(ctx.program, self.ranges)
        self.steps: list[Step] = []

    def tensor(self, name: str, indices: tuple[Scalar, ...]) -> Mass:
        if name == self.entry:
            return Mass(ONE, ZERO)
        d = self.ctx.program.definition(name)
        if d is None or name in self.grouped:
            raise NoRule(name)
        if any(self.varies(i) for i in indices) or self.varies(d.where) or self.varies(d.support):
            raise NoRule(f"{name}: a selection that depends on the input")
        scope = self.ranges.body_scope(d)
        scope = scope.under(d.support, True) or scope
        mass = self.node(d.body, scope)
        mass = self._head(d, mass)
        self.steps.append(Step("gradient mass", name, f"{text(mass.plus)} and {text(mass.minus)}"))
        places: dict[Scalar, Scalar] = dict(zip(d.formals, indices, strict=True))
        return Mass(substitute(mass.plus, places), substitute(mass.minus, places))

    def _head(self, d: Definition, mass: Mass) -> Mass:
        if d.head == "map":
            return mass
        if d.head == "sum":
            return Mass(self._total(d, mass.plus), self._total(d, mass.minus))
        inside = [n for m in (mass.plus, mass.minus) for n in postorder(m) if n in d.bound]
        if inside:
            raise NoRule(f"{d.tensor}: a mass that varies along the reduced axis")
        if d.head in ("logsumexp", "max", "min"):  # a weighted mean of gradients, with weights that sum to at most 1
            return mass
        raise NoRule(f"{d.tensor}: {d.head}")

    def _total(self, d: Definition, mass: Scalar) -> Scalar:
        """A bound on the sum of a mass over the reduced axes: weights that add up to at most 1 are taken together, of
        what stays there are at most as many terms as are selected."""
        if mass is ZERO:
            return ZERO
        if isinstance(mass, Apply) and mass.name == "add":
            return _plus(*(self._total(d, part) for part in mass.args))
        rest, left = mass, list(d.bound)
        for factor in _factors(mass):
            own = [i for i in left if i in postorder(factor)]
            if len(own) == 1 and self.weights.holds(factor, own[0]):
                rest = _without(rest, factor)
                left.remove(own[0])
        if any(n in d.bound for n in postorder(rest)):
            raise NoRule(f"{d.tensor}: a mass that varies along the reduced axis")
        counted = self.weights.count(d) if self.counted and len(left) == len(d.bound) else None
        if counted is not None:
            return _times(Apply("real", (counted,)), rest)
        for index in left:  # at most as many terms as the axes are long, whatever is selected
            size = Apply("real", (Size(index.dim),)) if index.dim.constant is None else Const(index.dim.constant)
            rest = _times(size, rest)
        return rest

    def row(self, x: Scalar, total: Scalar) -> Read | None:
        """The log-sum-exp `total`, if it is over the whole row of which x is an entry."""
        d = self.ctx.program.definition(total.tensor) if isinstance(total, Read) else None
        if not isinstance(total, Read) or d is None or d.head != "logsumexp" or len(d.bound) != 1:
            return None
        if d.where is not TRUE or d.support is not TRUE or any(self.varies(i) for i in total.indices):
            return None
        for body in (d.body, self._inlined(d.body)):
            places: dict[Index, Scalar] = dict(zip(d.formals, total.indices, strict=True))
            if body is not None and matches(body, x, places, set(d.bound), self.ranges.names):
                return total
        return None

    def logit(self, total: Read) -> Mass:
        """Of an entry of the row less the log-sum-exp of the others: the gradient of the one less a mean of theirs."""
        mass = self.tensor(total.tensor, total.indices)
        both = _plus(mass.plus, mass.minus)
        return Mass(both, both)

    def _softmax(self, n: Apply) -> Read | None:
        """The log-sum-exp of the row, if the scalar is an entry of its softmax."""
        inside = n if n.name == "expdiff" else self._inlined(n.args[0]) if self.varies(n.args[0]) else None
        if isinstance(inside, Apply) and inside.name in ("expdiff", "sub"):
            return self.row(*inside.args)
        return None

    def _inlined(self, n: Scalar) -> Scalar | None:
        try:
            return transform(inline(self.ctx.program, n), value_of)
        except NotScalar:
            return None

    def varies(self, n: Scalar) -> bool:
        return reads_any(self.varying, n)

    def node(self, n: Scalar, scope: Scope) -> Mass:
        if not self.varies(n):
            return Mass(ZERO, ZERO)
        if n.dtype is not REAL:
            raise NoRule(text(n))
        if isinstance(n, Read):
            return self.tensor(n.tensor, n.indices)
        if isinstance(n, Select) and not self.varies(n.condition):
            decided = [(b, scope.under(n.condition, h)) for b, h in ((n.a, True), (n.b, False))]
            masses = [self.node(b, s) for b, s in decided if s is not None]
            if len(masses) == 1:
                return masses[0]
            a, b = masses
            return Mass(_larger(a.plus, b.plus), _larger(a.minus, b.minus))
        if not isinstance(n, Apply):
            raise NoRule(text(n))
        match n.name:
            case "add":
                a, b = (self.node(x, scope) for x in n.args)
                return Mass(_plus(a.plus, b.plus), _plus(a.minus, b.minus))
            case "sub":
                a, b = (self.node(x, scope) for x in n.args)
                return Mass(_plus(a.plus, b.minus), _plus(a.minus, b.plus))
            case "neg":
                a = self.node(n.args[0], scope)
                return Mass(a.minus, a.plus)
            case "mul" | "div":
                first, second = n.args
                if self.varies(second) and (n.name == "div" or self.varies(first)):
                    raise NoRule(text(n))
                inner, factor = (first, second) if self.varies(first) else (second, first)
                a = self.node(inner, scope)
                box = scope[factor]
                if not box.finite:
                    raise NoRule(text(n))
                if n.name == "div":
                    factor = Apply("div", (ONE, factor))
                    box = scope[factor]
                if box.nonnegative:
                    return Mass(_times(factor, a.plus), _times(factor, a.minus))
                if box.nonpositive:
                    down = Apply("neg", (factor,))
                    return Mass(_times(down, a.minus), _times(down, a.plus))
                size = Apply("abs", (factor,))
                both = _larger(a.plus, a.minus)
                return Mass(_times(size, both), _times(size, both))
            case "max2" | "min2" | "logaddexp":  # a weighted mean of gradients
                a, b = (self.node(x, scope) for x in n.args)
                return Mass(_larger(a.plus, b.plus), _larger(a.minus, b.minus))
            case "expdiff" | "exp" if (total := self._softmax(n)) is not None:
                return _scaled(self.logit(total), ZERO, Const(Fraction(1, 4)))  # sigmoid of the logit
            case "expdiff" if scope[n].bounded:
                a, b = (self.node(x, scope) for x in n.args)
                most = _above(scope[n].hi)
                return _scaled(Mass(_plus(a.plus, b.minus), _plus(a.minus, b.plus)), ZERO, most)
            case "exp" | "expm1" if scope[Apply("exp", n.args)].bounded:
                return _scaled(self.node(n.args[0], scope), ZERO, _above(scope[Apply("exp", n.args)].hi))
            case name if name in _SLOPES and len(n.args) == 1:
                return _scaled(self.node(n.args[0], scope), *_SLOPES[name])
        raise NoRule(text(n))


def _factors(n: Scalar) -> list[Scalar]:
    return [f for a in n.args for f in _factors(a)] if isinstance(n, Apply) and n.name == "mul" else [n]


def _without(n: Scalar, factor: Scalar) -> Scalar:
    """The product without one of its factors."""
    kept = _factors(n)
    kept.remove(factor)
    product: Scalar = ONE
    for f in kept:
        product = _times(product, f)
    return product


_SLOPES: dict[str, tuple[Const, Const]] = {  # between what their derivatives lie on the line
    **dict.fromkeys(("relu", "softplus", "logsigmoid", "tanh", "atan", "real"), (ZERO, ONE)),
    **dict.fromkeys(("abs", "sin", "cos", "logcosh"), (Const(-1), ONE)),
    "sigmoid": (ZERO, Const(Fraction(1, 4))),
}


def _above(value: float) -> Const:
    return Const(Fraction(value))


def _scaled(a: Mass, low: Const, high: Const) -> Mass:
    """Of a function of slopes between two numbers, low <= 0 <= high."""
    if low.value == 0:
        return Mass(_times(high, a.plus), _times(high, a.minus))
    both = _times(high, _larger(a.plus, a.minus))
    return Mass(both, both)


def _plus(a: Scalar, b: Scalar) -> Scalar:
    return b if a is ZERO else a if b is ZERO else fold(Apply("add", (a, b)))


def _times(a: Scalar, b: Scalar) -> Scalar:
    """The product; what it is divided by, and so proved not to be 0, is taken out of it."""
    if b is ZERO or a is ZERO:
        return ZERO
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Apply) and x.name == "div" and x.args[0] is ONE and x.args[1] in _factors(y):
            return _without(y, x.args[1])
    return fold(Apply("mul", (a, b)))


def _larger(a: Scalar, b: Scalar) -> Scalar:
    return b if a is ZERO else a if b is ZERO or a is b else Apply("max2", (a, b))


_CASES = 16


def _cases(mass: Mass) -> list[Mass]:
    """At each point every `max2` is one of its arguments: what holds for each choice holds for the mass."""
    found = [mass]
    while True:
        outer = next((n for m in found for e in (m.plus, m.minus) for n in postorder(e) if _is_larger(n)), None)
        if outer is None:
            return found
        if 2 * len(found) > _CASES:
            raise TooLarge
        assert isinstance(outer, Apply)
        found = [
            Mass(substitute(m.plus, {outer: a}), substitute(m.minus, {outer: a})) for m in found for a in outer.args
        ]


def _is_larger(n: Scalar) -> bool:
    return isinstance(n, Apply) and n.name == "max2"


def lipschitz(ctx: Context, target: str, entry: str, bound: Scalar | None, norm: str) -> Proved | Unknown:
    """The Lipschitz bound of the target in the entry by gradient masses."""
    first = _lipschitz(ctx, target, entry, bound, norm, counted=False)
    return first if isinstance(first, Proved) else _lipschitz(ctx, target, entry, bound, norm, counted=True)


def _lipschitz(
    ctx: Context, target: str, entry: str, bound: Scalar | None, norm: str, *, counted: bool
) -> Proved | Unknown:
    d = ctx.program.definition(target)
    if d is None:
        return Unknown(f"no definition {target}", ("gradient masses",))
    masses = Masses(ctx, entry, counted=counted)
    if not masses.ranges.tensor(target).finite:
        return Unknown(f"{target} may be undefined or infinite", ("gradient masses",))
    try:
        mass = masses.tensor(target, d.formals)
    except NoRule as reason:
        return Unknown(str(reason), ("gradient masses",))
    scope = masses.ranges.scope(frozenset(d.dims))
    steps = (
        *masses.steps,
        Step("gradient mass", target, f"P - Q with masses {text(mass.plus)} and {text(mass.minus)}"),
    )
    total = fold(Apply("add", (fold(Apply("powi", (mass.plus, Const(2)))), Apply("powi", (mass.minus, Const(2))))))
    box = scope[Apply("sqrt", (total,))]
    if bound is None:
        finite = scope[mass.plus].finite and scope[mass.minus].finite and norm == "l2"
        upper = box.hi if box.bounded else None
        if finite:
            return Proved("gradient masses", steps, Bracket(None, upper, None))
        return Unknown(f"masses {text(mass.plus)} and {text(mass.minus)}", ("gradient masses",))
    if not all(scope[n].finite for n in postorder(bound)):
        return Unknown(f"{text(bound)} may be undefined or infinite", ("gradient masses",))
    field = Field(scope)
    try:
        b = field.form(bound)
        gaps = []
        for case in _cases(mass):
            p, q = field.form(case.plus), field.form(case.minus)
            gaps += {
                "l2": [plus(times(b, b), minus(plus(times(p, p), times(q, q)))), b],
                "l1": [plus(b, minus(p)), plus(b, minus(q))],
                "linf": [plus(b, minus(plus(p, q)))],
            }[norm]
        for gap in gaps:
            if prove(field, gap, (), ctx.budget) is None:
                return Unknown(
                    f"masses {text(mass.plus)} and {text(mass.minus)} against {text(bound)}", ("gradient masses",)
                )
    except TooLarge:
        return Unknown("the normal form of the bound is too large", ("gradient masses",))
    upper = float(bound.value) if isinstance(bound, Const) and not isinstance(bound.value, str) else None
    return Proved("gradient masses", steps, Bracket(None, upper, None))
