"""Lipschitz by composition over the tensor IR: that some constant holds, for each value of everything but one input.

Every quantity is looked at as a function of the entries of that input, the rest being fixed: whether it is Lipschitz,
bounded above and below, and away from 0 (its size is at least some positive number). A sum of Lipschitz quantities is
Lipschitz; a product of two that are bounded, too; a quotient by what is away from 0, if it is bounded itself; a
primitive where its slope is bounded on the values of its arguments. Extents are finite, so that reductions and
recurrences (by induction along their order) keep all of these.

Where the domain is compact (a simplex, a sphere, an interval with its ends), what is Lipschitz is bounded, and away from 0
if it is nowhere 0 (Weierstrass): the same rules are then asked of the domain with its boundary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Or,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    postorder,
)
from lossdsl.ir.rewrite import substitute, transform
from lossdsl.verify import scalar as one
from lossdsl.verify.context import Context
from lossdsl.verify.dominance import Dominance
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.pieces import (
    VARIABLE,
    NotScalar,
    carriers,
    cased,
    contains,
    dependents,
    fold,
    inline,
    plain,
    reads_any,
    value_of,
)
from lossdsl.verify.ranges import Ranges, Scope
from lossdsl.verify.show import text
from lossdsl.verify.verdict import Bracket, Proved, Step, Unknown, Verdict

METHOD = "composition of Lipschitz functions"


@dataclass(frozen=True)
class Facts:
    """Of a quantity as a function of the input, everything else fixed.

    lipschitz  it is real and Lipschitz; or, if it is `void`, -inf whatever the input is (a log-sum-exp over nothing)
    above, below, away  bounded above, below; of a size of at least some positive number, all unless it is -inf
    why        what is in the way of `lipschitz`
    """

    lipschitz: bool
    above: bool = False
    below: bool = False
    away: bool = False
    why: str = ""
    void: bool = False

    @property
    def bounded(self) -> bool:
        return self.above and self.below


FIXED = Facts(True, True, True, True)


def _both(a: Facts, b: Facts) -> Facts:
    flags = (a.lipschitz and b.lipschitz, a.above and b.above, a.below and b.below, a.away and b.away)
    return Facts(*flags, a.why or b.why, a.void or b.void)


_SQUARES = 3  # of lengths that one scalar is tried through

# of slope at most some number, on all of the line
_STEADY = frozenset(
    {"abs", "relu", "sigmoid", "logsigmoid", "softplus", "tanh", "sin", "cos", "atan", "erf", "erfc", "normal_cdf"}
    | {"logcosh", "real", "i0e", "i1e"}
)
_SMOOTH = frozenset({"sinh", "cosh", "log_normal_cdf"})  # on the line: of bounded slope where the argument is bounded
_POSITIVE = frozenset({"log", "log2", "log10", "lgamma", "digamma", "trigamma"})


def lipschitz(ctx: Context, target: str, entry: str) -> Proved | Unknown:
    """Whether the elements of the target are Lipschitz in the input, for each value of everything else."""
    definition = ctx.program.definition(target)
    if definition is None:
        return Unknown(f"no definition {target}", (METHOD,))
    for compact in (False, True) if is_compact(ctx, entry) else (False,):
        moduli = Moduli(ctx, entry, compact=compact)
        facts = moduli.tensor(target)
        if facts.lipschitz and not facts.void:
            whole = (
                (Step("continuous on a compact domain", entry, "bounded, and away from 0 if not 0"),) if compact else ()
            )
            steps = tuple(moduli.steps) or (Step(METHOD, target, "does not vary"),)
            return Proved(METHOD, (*whole, *steps), Bracket(None, None))
    return Unknown(facts.why or f"{target} is not shown to be Lipschitz", (METHOD,))


def is_compact(ctx: Context, entry: str) -> bool:
    """Whether the values of the input, for each value of everything else, are a closed and bounded set."""
    declared = ctx.program.input(entry)
    if declared is None or ctx.conditions or entry in ctx.assume or entry in ctx.fixed:
        return False
    bounds = declared.range
    if bounds.lower_open or bounds.upper_open:
        return False
    if declared.kind in ("prob", "simplex", "unit"):
        return True
    return all(end is not None and ctx.ranges().scope()[end].finite for end in (bounds.lower, bounds.upper))


class Moduli:
    def __init__(self, ctx: Context, entry: str, *, compact: bool = False) -> None:
        self.ctx, self.entry, self.compact = ctx, entry, compact
        self.ranges = Ranges(ctx.program, ctx.assume, interior=frozenset({entry}), closed=compact)
        self.varying = dependents(ctx.program, entry)
        self.groups = {d.tensor: item for item in ctx.program.body if isinstance(item, Group) for d in item.definitions}
        self.dominance = Dominance(ctx.program, self.ranges, self.varies)
        self.steps: list[Step] = []
        self._tensors: dict[str, Facts] = {}
        self._nodes: dict[tuple[Scalar, Scope], Facts] = {}
        self._slopes: dict[object, Verdict] = {}

    def varies(self, n: Scalar) -> bool:
        return reads_any(self.varying, n)

    def tensor(self, name: str) -> Facts:
        if name not in self._tensors:
            if name == self.entry:
                self._tensors[name] = self._widened(Facts(True), self.ranges.input(name))
            elif name in self.groups:
                self._recurrence(self.groups[name])
            else:
                d = self.ctx.program.definition(name)
                self._tensors[name] = self._definition(d) if d is not None else Facts(False, why=name)
            if self._tensors[name].lipschitz:
                self.steps.append(Step(METHOD, name, self._shown(self._tensors[name])))
        return self._tensors[name]

    @staticmethod
    def _shown(f: Facts) -> str:
        words = ["Lipschitz"]
        words += ["bounded"] if f.bounded else ["bounded above"] if f.above else ["bounded below"] if f.below else []
        words += ["away from 0"] if f.away else []
        return ", ".join(words)

    def _recurrence(self, group: Group) -> None:
        """What the elements are if all earlier ones are so: the greatest hypothesis that carries itself through."""
        guess = {
            d.tensor: FIXED if d.dtype is REAL else Facts(False, why=f"{d.tensor}: a place") for d in group.definitions
        }
        for _ in range(6):
            self._tensors |= guess
            self._nodes.clear()
            self.dominance.clear()
            found = {d.tensor: _both(guess[d.tensor], self._definition(d)) for d in group.definitions}
            if all(_same(found[t], guess[t]) for t in guess):
                break
            guess = found
        else:
            found = {t: Facts(False, why=f"{t}: a recurrence") for t in guess}
        self._tensors |= found
        self._nodes.clear()

    def _definition(self, d: Definition) -> Facts:
        if self.varies(d.where) or self.varies(d.support):
            return Facts(False, why=f"{d.tensor}: the selection depends on the input")
        scope: Scope | None = self.ranges.body_scope(d)
        for condition in (d.support, d.where):
            scope = scope.under(condition, True) if scope is not None and condition is not TRUE else scope
        if scope is None:
            return FIXED
        body = self.node(d.body, scope)
        value = scope[d.body]
        own = self._head(d, body, one_sign=value.nonnegative or value.nonpositive)
        return own if d.support is TRUE else replace(own, away=False)

    def _head(self, d: Definition, body: Facts, *, one_sign: bool) -> Facts:
        box = self.ranges.tensor(d.tensor)
        some = self._takes_some(d)
        if body.void and d.head not in ("map", "logsumexp"):
            return Facts(False, why=f"{d.tensor}: over what may be -inf")
        match d.head:
            case "map":
                return self._widened(body, box)
            case "max" | "min" if some:
                return self._widened(body, box)
            case "logsumexp":  # -inf adds nothing
                void = body.void or not some
                return self._widened(replace(body, away=False, below=body.below and not body.void, void=void), box)
            case "sum":
                away = body.away and one_sign and some
                return self._widened(replace(body, away=away), box)
            case "prod":
                bounded = body.bounded
                own = Facts(body.lipschitz and bounded, bounded, bounded, body.away, body.why or d.tensor)
                return self._widened(own, box)
        return self._widened(Facts(False, why=f"{d.tensor}: {d.head}"), box)

    def _takes_some(self, d: Definition) -> bool:
        """Whether the reduction is never over nothing: a claim in an input is about entries that exist, and a selection
        that holds at an index of the element itself (`m == n`, `time[m] >= time[n]`) selects that; a label of the element
        is one of its classes."""
        declared = self.ctx.program.input(self.entry)
        own = frozenset(declared.dims) if declared is not None else frozenset()
        if d.where is TRUE:
            own |= {i.classes for i in self.ctx.program.inputs if i.classes is not None and set(i.dims) <= set(d.dims)}
            return all(i.dim in own or i.dim.constant for i in d.bound)
        for i in d.bound:
            for f in d.formals:
                if len(d.bound) == 1 and f.dim == i.dim and _reflexive(substitute(d.where, {i: f})):
                    return True
        return False

    def _widened(self, f: Facts, box: Enclosure) -> Facts:
        """With what the enclosure, for all values of everything, says."""
        if box.nan:
            return f
        away = box.lo > 0 or box.hi < 0
        if self.compact and f.lipschitz and not f.void and box.finite:
            return replace(f, above=True, below=True, away=f.away or box.nonzero)
        return replace(f, above=f.above or box.hi < INF, below=f.below or box.lo > -INF, away=f.away or away)

    # ------------------------------------------------------------------------------------------------- scalars

    def node(self, n: Scalar, scope: Scope) -> Facts:
        key = (n, scope)
        if key not in self._nodes:
            found = self._node(n, scope)
            if not found.lipschitz and n.dtype is REAL and self.varies(n) and not isinstance(n, Read):
                found = self._through(n, scope, found)
            self._nodes[key] = self._widened(found, scope[n]) if n.dtype is REAL else found
        return self._nodes[key]

    def _node(self, n: Scalar, scope: Scope) -> Facts:
        if not self.varies(n):
            box = scope[n]
            return (
                Facts(True, True, True, box.nonzero) if box.finite else Facts(False, why=f"{text(n)}: may be infinite")
            )
        if n.dtype is not REAL:
            return Facts(False, why=f"{text(n)}: a whole number or condition that depends on the input")
        match n:
            case Read():
                if any(self.varies(i) for i in n.indices) and not self._is_ordered(n):
                    return Facts(False, why=f"{text(n)}: its place depends on the input")
                return self.tensor(n.tensor)
            case Select():
                if self.varies(n.condition):
                    return Facts(False, why=f"{text(n)}: a branch on the input")
                found = FIXED
                for branch, holds in ((n.a, True), (n.b, False)):
                    inner = scope.under(n.condition, holds)
                    if inner is not None:
                        found = _both(found, self.node(branch, inner.reading(branch)))
                return found
            case Stop() | AdjointMap():
                return self.node(n.a, scope)
            case Proxy():
                return self.node(n.value, scope)
            case Apply(name="log" | "log2" | "log10", args=(Apply(name="div"),)) if self._is_positive(n.args[0], scope):
                return self.node(Apply("sub", tuple(Apply(n.name, (a,)) for a in n.args[0].children)), scope)
            case Apply():
                return self._apply(n, scope)
        return Facts(False, why=f"{text(n)}: no rule")

    def _is_positive(self, quotient: Scalar, scope: Scope) -> bool:
        return all(scope[a].positive and scope[a].finite for a in quotient.children)

    def _is_ordered(self, n: Read) -> bool:
        """Whether `n` is an order statistic of its own tensor, `y[order[r]]` where `order` sorts `y` (or finds its
        extremum): these are as steep as the entries are."""
        for place in n.indices:
            d = self.ctx.program.definition(place.tensor) if isinstance(place, Read) else None
            if d is None or not isinstance(place, Read) or d.head not in ("argsort", "argmax", "argmin"):
                continue
            if len(d.bound) != 1 or d.support is not TRUE or self.varies(d.where) or d.tensor in self.groups:
                continue
            if any(self.varies(i) for i in place.indices):
                continue
            mapping: dict[Scalar, Scalar] = dict(zip(d.formals, place.indices, strict=True))
            by = substitute(d.body, {**mapping, d.bound[0]: place})
            if isinstance(by, Apply) and by.name == "neg":
                by = by.args[0]
            others = [i for i in n.indices if i is not place]
            if by is n and not any(self.varies(i) for i in others):
                return True
        return False

    def _apply(self, n: Apply, scope: Scope) -> Facts:
        facts = [self.node(a, scope) for a in n.args]
        steep = next((f for f in facts if not f.lipschitz), None)
        a = facts[0]
        if n.name == "neg" and not a.void:
            return Facts(a.lipschitz, a.below, a.above, a.away, a.why)
        if n.name == "sqrt" and self._is_norm(n.args[0], scope):
            return Facts(True, a.above, True, a.away or self._kept_away(n.args[0], scope))
        if steep is not None:
            return Facts(False, why=steep.why)
        boxes = [scope[x] for x in n.args]
        if any(f.void for f in facts):
            return self._with_void(n, facts, boxes)
        b = facts[-1]
        match n.name:
            case "add" | "sub":
                other = b if n.name == "add" else Facts(True, b.below, b.above, b.away)
                signed = (boxes[0].nonnegative, boxes[1].nonnegative if n.name == "add" else boxes[1].nonpositive)
                away = all(signed) and (a.away or b.away)
                return Facts(True, a.above and other.above, a.below and other.below, away)
            case "mul":
                return self._product(n, facts)
            case "div":
                return self._quotient(n, facts, scope)
            case "max2" | "min2":
                up, down = (any, all) if n.name == "min2" else (all, any)
                away = any(f.away and x.positive for f, x in zip(facts, boxes, strict=True)) and n.name == "max2"
                away = away or all(f.away for f in facts)
                return Facts(True, up(f.above for f in facts), down(f.below for f in facts), away)
            case "clamp":
                return Facts(True, facts[2].above, facts[1].below, False)
            case "logaddexp":
                return Facts(True, all(f.above for f in facts), any(f.below for f in facts))
            case "expdiff":
                fine = (a.above and b.below) or scope[n].hi < INF
                return Facts(fine, fine, True, a.below and b.above, "" if fine else f"{text(n)}: may grow without end")
            case "pow" | "powi":
                return self._power(n, facts, boxes)
            case "xlogy":
                fine = facts[1].away and boxes[1].positive and (facts[1].above or not self.varies(n.args[1]))
                fine = fine and (a.bounded or not self.varies(n.args[1]))
                return Facts(fine, fine and a.bounded, fine and a.bounded, False, "" if fine else text(n))
        return self._unary(n, facts, boxes) if len(facts) == 1 else Facts(False, why=f"{text(n)}: no rule")

    def _with_void(self, n: Apply, facts: list[Facts], boxes: list[Enclosure]) -> Facts:
        """Operations at -inf: it stays, with what is added and as a multiple; or it adds nothing."""
        a, b = facts[0], facts[-1]
        match n.name:
            case "add":
                return Facts(True, a.above and b.above, a.below and b.below, False, "", True)
            case "sub" if not b.void:
                return Facts(True, a.above and b.below, a.below and b.above, False, "", True)
            case "mul" if boxes[1 if a.void else 0].positive and not self.varies(n.args[1 if a.void else 0]):
                of = a if a.void else b
                return replace(of, away=False) if not (a.void and b.void) else Facts(False, why=text(n))
            case "div" if a.void and boxes[1].positive and not self.varies(n.args[1]):
                return replace(a, away=False)
            case "real":
                return a
            case "exp":
                return Facts(a.above, a.above, True, False, "" if a.above else f"{text(n)}: grows without end")
            case "softplus" | "sigmoid":
                return Facts(True, a.above or n.name == "sigmoid", True)
            case "logaddexp" | "max2":
                below = any(f.below and not f.void for f in facts)
                return Facts(True, all(f.above for f in facts), below, False, "", all(f.void for f in facts))
        return Facts(False, why=f"{text(n)}: an argument may be -inf")

    def _product(self, n: Apply, facts: list[Facts]) -> Facts:
        a, b = facts
        bounded = a.bounded and b.bounded
        varied = [self.varies(x) for x in n.args]
        fine = not all(varied) or bounded
        return Facts(
            fine, bounded, bounded, a.away and b.away, "" if fine else f"{text(n)}: both factors vary without bounds"
        )

    def _quotient(self, n: Apply, facts: list[Facts], scope: Scope) -> Facts:
        a, b = facts
        if not b.away:
            return Facts(False, why=f"{text(n)}: {text(n.args[1])} may come near 0")
        top, below = (fold(x, scope) for x in n.args)
        bounded = a.bounded or scope[n].bounded or self.dominance.holds(top, below, scope)
        fine = bounded or not self.varies(n.args[1])
        # (a / b) - (a' / b') = (a - a') / b + (a' / b') (b' - b) / b
        return Facts(fine, bounded, bounded, a.away and b.bounded, "" if fine else f"{text(n)}: may grow without end")

    def _power(self, n: Apply, facts: list[Facts], boxes: list[Enclosure]) -> Facts:
        base, exponent = facts[0], boxes[1]
        if self.varies(n.args[1]):
            return Facts(False, why=f"{text(n)}: the exponent varies")
        k = n.args[1]
        whole = isinstance(k, Const) and not isinstance(k.value, str) and k.value.denominator == 1
        if not whole and not boxes[0].nonnegative:
            return Facts(False, why=f"{text(n)}: the base may be negative")
        grows, falls = exponent.hi > 1, exponent.lo < 1 and not (whole and exponent.lo == 0)
        fine = (base.bounded or not grows) and (base.away or not falls)
        above = base.bounded and (base.away or exponent.lo >= 0)
        return Facts(
            fine, above, above, base.away and base.bounded, "" if fine else f"{text(n)}: its slope has no bound"
        )

    def _unary(self, n: Apply, facts: list[Facts], boxes: list[Enclosure]) -> Facts:
        (a,), (box,) = facts, boxes
        name = n.name
        if name in ("exp", "expm1"):
            return Facts(
                a.above, a.above, True, a.below and name == "exp", "" if a.above else f"{text(n)}: grows without end"
            )
        fine = name in _STEADY or (name in _SMOOTH and a.bounded)
        fine = fine or (name in _POSITIVE and box.positive and a.away and (a.above or name in ("log", "log2", "log10")))
        fine = fine or (name == "sqrt" and box.positive and a.away)
        fine = fine or (name == "log1p" and box.lo > -1) or (name == "log1mexp" and box.negative and a.away)
        fine = fine or (name == "asin" and box.lo > -1 and box.hi < 1)
        if not fine:
            return Facts(False, why=f"{text(n)}: the slope of {name} has no bound here")
        rising = name in ("relu", "softplus", "logsigmoid", "sqrt", "log", "log1p", "log2", "log10", "real")
        above, below = a.bounded or (rising and a.above), a.bounded or (rising and a.below)
        away = a.away and name in ("abs", "sqrt", "real")
        away = away or (name in ("sigmoid", "softplus", "normal_cdf") and a.below)
        return Facts(True, above, below, away)

    def _is_norm(self, inside: Scalar, scope: Scope) -> bool:
        """Whether the root of `inside` is the length of a vector of Lipschitz entries, and of numbers that stay; or that
        times such a number."""
        match inside:
            case Apply(name="add"):
                return all(
                    self._is_norm(a, scope) or (not self.varies(a) and scope[a].nonnegative) for a in inside.args
                )
            case Apply(name="mul") if inside.args[0] is not inside.args[1]:
                for a, b in (inside.args, inside.args[::-1]):
                    if not self.varies(b) and scope[b].nonnegative and scope[b].finite:
                        return self._is_norm(a, scope)
                return False
            case Apply(name="div") if not self.varies(inside.args[1]) and scope[inside.args[1]].positive:
                return self._is_norm(inside.args[0], scope)
            case Apply(name="mul" | "pow" | "powi"):
                square = inside.name == "mul" or (isinstance(inside.args[1], Const) and inside.args[1].value == 2)
                return square and scope[inside.args[0]].finite and self.node(inside.args[0], scope).lipschitz
            case Read() if not any(self.varies(i) for i in inside.indices):
                d = self.ctx.program.definition(inside.tensor)
                if d is None or d.tensor in self.groups or self.varies(d.where) or self.varies(d.support):
                    return False
                inner: Scope | None = self.ranges.body_scope(d)
                if d.where is not TRUE and inner is not None:
                    inner = inner.under(d.where, True)
                return d.head in ("sum", "map") and inner is not None and self._is_norm(d.body, inner)
            case Select() if not self.varies(inside.condition):
                sides = [(b, scope.under(inside.condition, h)) for b, h in ((inside.a, True), (inside.b, False))]
                return all(
                    s is None or self._is_norm(b, s) or (not self.varies(b) and s[b].nonnegative) for b, s in sides
                )
        return False

    def _kept_away(self, n: Scalar, scope: Scope) -> bool:
        """Whether a scalar is at least some positive number, whether it is Lipschitz or not."""
        if not self.varies(n):
            return scope[n].positive
        match n:
            case Apply(name="add"):
                return all(scope[a].nonnegative for a in n.args) and any(self._kept_away(a, scope) for a in n.args)
            case Apply(name="mul"):
                return all(self._kept_away(a, scope) for a in n.args)
            case Apply(name="max2"):
                return any(self._kept_away(a, scope) for a in n.args)
            case Apply(name="sqrt"):
                return self._kept_away(n.args[0], scope)
        return scope[n].lo > 0 or (self.compact and scope[n].positive and self.node(n, scope).lipschitz)

    def _through(self, n: Scalar, scope: Scope, found: Facts) -> Facts:
        """A scalar that varies through one Lipschitz subexpression is Lipschitz if its slope in that is bounded; through
        the square of the length of a vector of Lipschitz entries, if that in the length is."""
        if VARIABLE in scope.known:
            return found
        try:
            whole = transform(transform(inline(self.ctx.program, n), value_of), plain)
        except NotScalar:
            return found
        chosen: Scalar | None = None
        squares: list[Scalar] = []
        for m in carriers(whole, self.varying):
            if not isinstance(m, (Read, Apply)) or not scope[m].finite:
                continue
            inner = self.node(m, scope)
            chosen = m if inner.lipschitz and not inner.void else chosen
            if not inner.lipschitz and self._is_norm(m, scope):
                squares.append(m)
        if chosen is not None and self._slope_bounded(whole, chosen, VARIABLE, scope[chosen], scope):
            own = self.node(chosen, scope).bounded
            return Facts(True, own, own)
        square, length = Apply("powi", (VARIABLE, Const(2))), Enclosure(0.0, INF, False, True)
        if any(self._slope_bounded(whole, m, square, length, scope) for m in squares[:_SQUARES]):
            return Facts(True)
        return found

    def _slope_bounded(self, whole: Scalar, inner: Scalar, by: Scalar, box: Enclosure, scope: Scope) -> bool:
        """Whether the slope in the variable is bounded, which stands for `inner` as `by` says."""
        body = self._moving(fold(substitute(whole, {inner: by})), scope)
        parts = dict.fromkeys(postorder(body))
        read = any(isinstance(n, (Read, Size)) and n is not VARIABLE for n in parts)
        known = tuple((n, scope.known[n]) for n in parts if n in scope.known)
        key = (body, box, known, scope.nonempty if read else None)
        if key not in self._slopes:
            self._slopes[key] = self._slope_of(body, box, scope)
        verdict = self._slopes[key]
        if isinstance(verdict, Proved):
            self.steps += verdict.steps
        return isinstance(verdict, Proved)

    def _moving(self, body: Scalar, scope: Scope) -> Scalar:
        """The scalar less what is added to it that the variable is not in: slopes are the same."""
        while isinstance(body, Apply) and body.name in ("add", "sub"):
            moving = [a for a in body.args if contains(a, VARIABLE)]
            if len(moving) != 1 or not all(scope[a].finite for a in body.args if a is not moving[0]):
                break
            body = moving[0]
        return body

    def _slope_of(self, body: Scalar, box: Enclosure, scope: Scope) -> Verdict:
        try:
            views = cased(
                self.ctx.program, scope.ranges, scope.nonempty, body, VARIABLE, {**scope.known, VARIABLE: box}
            )
        except NotScalar as reason:
            return Unknown(str(reason))
        return one.slope_bounded(views, self.ctx.budget)


def _same(a: Facts, b: Facts) -> bool:
    return replace(a, why="") == replace(b, why="")


def _reflexive(condition: Scalar) -> bool:
    """Whether the condition holds because it compares something with itself."""
    if isinstance(condition, And):
        return all(_reflexive(c) for c in condition.args)
    if isinstance(condition, Or):
        return any(_reflexive(c) for c in condition.args)
    return isinstance(condition, Compare) and condition.op in ("==", "<=", ">=") and condition.a is condition.b


__all__ = ["METHOD", "Facts", "Moduli", "lipschitz"]
