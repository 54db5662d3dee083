"""Lipschitz continuity by composition: some constant for each value of everything else, extents included.

A composition of Lipschitz functions is Lipschitz, each on the interval of its arguments (where the mean value theorem
applies); a product is one where both factors are bounded, a quotient where the divisor stays away from 0; a norm, an
extremum and a logsumexp of Lipschitz terms are (each is one of its vector). What does not move with the inputs is one number
here, so that it is bounded, and away from 0 if it is not 0, although no bound is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.elements import terms_of
from lossdsl.certificate.norms import is_share, root_of, ways
from lossdsl.certificate.ranks import ranked
from lossdsl.certificate.rules import Rules, Shown, Stuck, smooth_there
from lossdsl.ir.nodes import INT, REAL, TRUE, Apply, Const, Definition, Input, Read, Scalar, Select
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.enclosure import INF, REALS, Enclosure

_EVERYWHERE = frozenset({"add", "sub", "neg", "real", "abs", "relu", "max2", "min2", "clamp", "logaddexp", "softplus"})
_EVERYWHERE |= {"logsigmoid", "sigmoid", "tanh", "atan", "erf", "erfc", "normal_cdf", "logcosh", "sin", "cos"}
_LOGS = ("log", "log2", "log10")
_OF_SQUARES = {"sqrt": 1, "log1p": 1, "exp": -1, "expm1": -1}  # or of the negative of a sum of squares
_OF_SQUARES |= dict.fromkeys(_LOGS, 1)  # that is away from 0
_FOLDS = ("sum", "max", "min", "logsumexp")
_BOUNDED = ("map", "sum", "max", "min")


@dataclass(frozen=True)
class Kept:
    """Of a scalar as the inputs move: whether it is bounded above, and below, and at least some number above 0 in size."""

    above: bool
    below: bool
    away: bool

    @property
    def bounded(self) -> bool:
        return self.above and self.below


class Slopes:
    """Which tensors are Lipschitz in the inputs. Raises Stuck where no rule says so."""

    def __init__(
        self, bounds: Bounds, inputs: tuple[str, ...], shown: Shown | None = None, *, near: bool = False
    ) -> None:
        """`shown`: as in `Rules`; `near`: on each bounded set of the inputs, with a constant of its own."""
        self.bounds, self.rules, self._shown, self._near = bounds, Rules(bounds, inputs), shown, near
        self._closed = all(_closed(bounds, name) for name in inputs)
        self._convex = all(name in bounds.inputs and bounds.inputs[name].kind != "unit" for name in inputs)
        self._kept: dict[tuple[Scalar, Case], Kept] = {}
        self._steady: dict[str, Kept] = {}  # of recurrences

    def lipschitz(self, tensor: str) -> list[str]:
        """The tensors, on the way to this one, whose continuity it rests on; all of them are Lipschitz."""
        if not self.bounds.tensor(tensor).finite:
            raise Stuck(f"{tensor} may be undefined or infinite")
        rests_on = [tensor]
        for name in rests_on:  # grows
            if name in self.bounds.definitions:
                rests_on += [n for n in self.rested(self.bounds.definitions[name]) if n not in rests_on]
        return rests_on

    def rested(self, d: Definition) -> list[str]:
        """The tensors that have to be Lipschitz so that this one is, where it is finite."""
        case = self.rules.case(d)
        if case is None or not self.rules.moves(d.body):
            return []
        if d.head != "map" and (d.head not in _FOLDS or not case[d.body].finite):
            raise Stuck(f"{d.tensor}: no rule for {d.head} here")
        try:
            return self._scalar(d.body, case)
        except Stuck:
            if self._shown is None:
                raise
            return [self._shown(d, "lipschitz")]

    def _scalar(self, root: Scalar, case: Case) -> list[str]:
        stack, seen = [root], set()
        read: list[str] = []
        while stack:
            n = stack.pop()
            if n in seen or not self.rules.moves(n):
                continue
            seen.add(n)
            if isinstance(n, Read) and (not self.rules.moves(*n.indices) or self._is_extreme(n) or self._is_sorted(n)):
                read.append(n.tensor)
                continue
            if isinstance(n, Select) and not self.rules.moves(n.condition):
                for branch, holds in ((n.a, True), (n.b, False)):
                    inner = case.given(n.condition, holds)
                    if inner is not None:
                        read += self._scalar(branch, inner.inside(branch))
                continue
            if isinstance(n, Select) and self._convex and (glued := self.rules.glued(n, case)):
                for part, inner in glued:
                    read += self._scalar(part, inner)
                continue
            if not isinstance(n, Apply) or n.dtype is INT or n.dtype is not REAL:
                raise Stuck(f"{type(n).__name__} has no rule")
            boxes = self.rules.arguments(n, case)
            if n.name in _OF_SQUARES and (terms := self._of_squares(n, case)) is not None:
                for term, inner in terms:
                    if inner is case:
                        stack.append(term)
                    else:
                        read += self._scalar(term, inner)
                continue
            if self._there(n, boxes, case):
                stack += n.args
            elif n.name in _LOGS and (parts := self._of_quotient(n.args[0], case)):
                stack += [Apply(n.name, (a,)) for a in parts]
            else:
                raise Stuck(f"{n.name} is not Lipschitz here")
        return list(dict.fromkeys(read))

    def _is_extreme(self, n: Read) -> bool:
        """Whether what is read is that of which a place is the largest, or the least: it is the extremum of its row."""
        for place in n.indices:
            d = self.bounds.fold(place, ("argmax", "argmin"))
            if d is None or not isinstance(place, Read) or not isinstance(d.body, Read):
                continue
            at: dict[Scalar, Scalar] = dict(zip(d.formals, place.indices, strict=True))
            fixed = not self.rules.moves(*place.indices, *d.body.indices)
            if fixed and len(d.bound) == 1 and substitute(d.body, {**at, d.bound[0]: place}) is n:
                return True
        return False

    def _is_sorted(self, n: Read) -> bool:
        """Whether what is read is at a rank of its row: no such value moves more than the entry that moves most."""
        k = ranked(self.bounds, n)
        if k is None or self.bounds.fold(n.indices[k], ("argsort",)) is None:
            return False
        fixed = not self.rules.moves(*n.indices[:k], *n.indices[k + 1 :], *n.indices[k].children)
        return fixed and self.bounds.tensor(n.tensor).finite

    def _of_quotient(self, n: Scalar, case: Case) -> tuple[Scalar, ...]:
        """Both parts of a quotient of positive numbers, whose logarithm is the difference of theirs."""
        parts = n.args if isinstance(n, Apply) and n.name == "div" else ()
        return parts if all(case[a].positive and case[a].finite for a in parts) else ()

    def _there(self, n: Apply, boxes: list[Enclosure], case: Case) -> bool:
        """Whether the function is Lipschitz where its arguments are."""
        if n.name in _EVERYWHERE or (self._near and self._closed and smooth_there(n, boxes)):
            return True
        moving = [self.rules.moves(a) for a in n.args]
        kept, box = [self.kept(a, case) for a in n.args], boxes[0]
        first = kept[0]
        match n.name:
            case "mul":
                return not all(moving) or all(k.bounded for k in kept) or self._decays(n, case)
            case "div":
                return boxes[1].nonzero if not moving[1] else kept[1].away and self.kept(n, case).bounded
            case "exp" | "expm1":
                return first.above
            case "expdiff":  # its slopes are its value, which is bounded on a half-plane
                return case[n].hi < INF or (first.above and kept[1].below)
            case "cosh" | "sinh":
                return first.bounded
            case "log" | "log2" | "log10" | "sqrt":
                return box.positive and first.away
            case "log1p":
                return box.lo > -1
            case "pow" | "powi":
                k = n.args[1].value if isinstance(n.args[1], Const) else None
                if k is None or isinstance(k, str):  # the exponent is one number
                    steep = boxes[1].lo < 1 and not (box.positive and first.away)
                    return not moving[1] and boxes[1].finite and box.nonnegative and first.bounded and not steep
                if k.denominator == 1 and k >= 0:
                    return k <= 1 or first.bounded
                return box.positive and first.away and (k <= 1 or first.bounded)
        return False

    def _decays(self, n: Apply, case: Case) -> bool:
        """Whether a product is exp(a) (k a + b), where a is bounded above and b does not move: its slope in a is bounded."""
        for first, second in (n.args, n.args[::-1]):
            if isinstance(first, Apply) and first.name == "exp" and self.kept(first.args[0], case).above:
                own, other = (terms_of(self.bounds, a, Fraction(1)) for a in (first.args[0], second))
                ratios = {other.get(t, Fraction(0)) / k for t, k in own.items() if self.rules.moves(t)}
                if len(ratios) == 1 and not any(self.rules.moves(t) for t in other if t not in own):
                    return all(case[t].finite for t in (*own, *other))
        return False

    # ---------------------------------------------------------------------------------------------- what is kept

    def kept(self, n: Scalar, case: Case) -> Kept:
        key = (n, case)
        if key not in self._kept:
            box = case[n]
            if not self.rules.moves(n):
                self._kept[key] = Kept(True, True, box.nonzero) if box.finite else Kept(False, False, False)
            elif box.nan or n.dtype is not REAL:
                self._kept[key] = Kept(False, False, False)
            else:
                found = self._by_rule(n, case)
                away = found.away or box.lo > 0 or box.hi < 0
                self._kept[key] = Kept(found.above or box.hi < INF, found.below or box.lo > -INF, away)
        return self._kept[key]

    def _by_rule(self, n: Scalar, case: Case) -> Kept:
        if isinstance(n, Read):
            if n.tensor in self.rules.inputs:
                return self._of_input(self.bounds.inputs[n.tensor])
            d = self.bounds.definitions.get(n.tensor)
            if d is not None and not self.rules.moves(d.where, d.support):  # at any of finitely many places
                return self._of_definition(d)
        if isinstance(n, Select) and not self.rules.moves(n.condition):
            sides = ((branch, case.given(n.condition, holds)) for branch, holds in ((n.a, True), (n.b, False)))
            parts = [self.kept(branch, inner.inside(branch)) for branch, inner in sides if inner is not None]
            return Kept(all(p.above for p in parts), all(p.below for p in parts), all(p.away for p in parts))
        if isinstance(n, Apply) and n.dtype is REAL and n.args and all(case[a].finite for a in n.args):
            return self._applied(n, case)
        return Kept(False, False, False)

    def _of_input(self, i: Input) -> Kept:
        """Whatever the ends of its range are, they are numbers."""
        ends, case = (i.range.upper, i.range.lower), Case(self.bounds, frozenset(), {})
        above, below = (self._near or (end is not None and case[end].finite) for end in ends)
        return Kept(above, below, False)

    def _of_definition(self, d: Definition) -> Kept:
        """Of a fold of as many terms as there are."""
        if d.tensor in self.bounds.recurrent:
            return self._of_recurrence(d)
        case = self.rules.case(d)
        if case is None or d.head not in _BOUNDED:
            return Kept(False, False, False)
        body, box = self.kept(d.body, case), case[d.body]
        some = d.support is TRUE and d.where is TRUE
        some = some and all(self.bounds.extent(i.dim, frozenset(d.dims)).lo >= 1 for i in d.bound)
        away = body.away and (d.head != "sum" or box.nonnegative or box.nonpositive)
        weights = d.support is TRUE and self.bounds.is_square_of_weight(d)
        return Kept(body.above, body.below, (away and some) or weights)

    def _of_recurrence(self, d: Definition) -> Kept:
        """Bounded, if elements are where the earlier ones are: there is a number of them."""
        if d.tensor not in self._steady:
            group, known = self.bounds.group(d.tensor), self._kept
            self._steady |= {g.tensor: Kept(True, True, False) for g in group}
            self._kept = {}
            cases = [(g, self.rules.case(g)) for g in group]
            bounded = all(c is None or (g.head in _BOUNDED and self.kept(g.body, c).bounded) for g, c in cases)
            self._kept = known
            self._steady |= {g.tensor: Kept(bounded, bounded, False) for g in group}
        return self._steady[d.tensor]

    def _applied(self, n: Apply, case: Case) -> Kept:
        kept, boxes = [self.kept(a, case) for a in n.args], [case[a] for a in n.args]
        a, b = kept[0], kept[-1]
        match n.name:
            case "neg":
                return Kept(a.below, a.above, a.away)
            case "real":
                return a
            case "add":
                same = all(x.nonnegative for x in boxes) or all(x.nonpositive for x in boxes)
                return Kept(a.above and b.above, a.below and b.below, same and (a.away or b.away))
            case "sub":
                return Kept(a.above and b.below, a.below and b.above, False)
            case "mul":
                both = a.bounded and b.bounded
                return Kept(both, both, a.away and b.away)
            case "div":
                both = (a.bounded and b.away) or self._is_share(n, case)
                return Kept(both, both, a.away and b.bounded)
            case "logaddexp":
                return Kept(a.above and b.above, a.below or b.below, False)
            case "max2" | "min2":
                up, down = (all, any) if n.name == "max2" else (any, all)
                away = n.name == "max2" and any(k.away and x.positive for k, x in zip(kept, boxes))
                return Kept(up(k.above for k in kept), down(k.below for k in kept), away or (a.away and b.away))
            case "abs":
                return Kept(a.bounded, True, a.away)
            case "exp":
                return Kept(a.above, True, a.below)
            case "log" | "log2" | "log10" if boxes[0].positive:
                return Kept(a.above, a.away, False)
            case "log1p":
                return Kept(a.above, boxes[0].lo > -1, False)
            case "sqrt":
                return Kept(a.above, True, a.away)
            case "relu":
                return Kept(a.above, True, False)
            case "pow" | "powi":
                k = n.args[1].value if isinstance(n.args[1], Const) else None
                if k is None or isinstance(k, str) or (k.denominator != 1 and not boxes[0].nonnegative):
                    return Kept(False, False, False)
                both = a.bounded if k >= 0 else a.away
                return Kept(both, both, a.away if k >= 0 else a.bounded)
        if n.name in _EVERYWHERE and len(kept) == 1:  # continuous, and on a bounded interval
            return Kept(a.bounded, a.bounded, False)
        return Kept(False, False, False)

    def _is_share(self, n: Apply, case: Case) -> bool:
        """Whether a quotient is one by what is at least a multiple of the norm of a row that the other part is of."""
        top, below = n.args
        return case[below].positive and is_share(case, top, below, lambda a: not self.rules.moves(a))

    def _of_squares(self, n: Apply, case: Case) -> list[tuple[Scalar, Case]] | None:
        """What is squared in the argument of a function; of a logarithm, if that is away from 0."""
        away = n.name not in _LOGS or (case[n.args[0]].positive and self.kept(n.args[0], case).away)
        return self._squares(n.args[0], case, _OF_SQUARES[n.name]) if away else None

    def _squares(self, n: Scalar, case: Case, sign: int) -> list[tuple[Scalar, Case]] | None:
        """What is squared, and where, in a sum of squares and of non-negative constants, times such, or in its negative; None
        for anything else. Of the sum s of the squares of Lipschitz terms the slope is at most a multiple of the root of s, and
        that times the slope of sqrt(s), log1p(s) and exp(-s) is bounded, and of log(s + c) for c > 0."""
        if not self.rules.moves(n):
            return [] if (case[n].nonnegative if sign > 0 else case[n].nonpositive) else None
        if isinstance(n, Apply) and n.name == "neg":
            return self._squares(n.args[0], case, -sign)
        if isinstance(n, Apply) and n.name in ("add", "sub"):
            signs = (sign, sign if n.name == "add" else -sign)
            return _all([self._squares(a, case, s) for a, s in zip(n.args, signs)])
        if isinstance(n, Select) and not self.rules.moves(n.condition):
            sides = ((branch, case.given(n.condition, holds)) for branch, holds in ((n.a, True), (n.b, False)))
            return _all([self._squares(b, inner.inside(b), sign) for b, inner in sides if inner is not None])
        root = root_of(n)
        if root is not None:
            return [(root, case)] if case[root].finite and sign > 0 else None
        if isinstance(n, Apply) and n.name in ("mul", "div"):
            for k, rest in ways(n.args) if n.name == "mul" else (n.args,):
                by = case[rest]
                if not self.rules.moves(rest) and by.finite and (by.nonnegative if n.name == "mul" else by.positive):
                    return self._squares(k, case, sign)
            return None
        if isinstance(n, Read) and not self.rules.moves(*n.indices):
            d = self.bounds.definitions.get(n.tensor)
            if d is None or d.head not in ("sum", "map") or d.tensor in self.bounds.recurrent:
                return None
            return None if self.rules.moves(d.where, d.support) else self._squares(d.body, self.bounds.body(d), sign)
        return None


def _all(parts: list[list[tuple[Scalar, Case]] | None]) -> list[tuple[Scalar, Case]] | None:
    found: list[tuple[Scalar, Case]] = []
    for part in parts:
        if part is None:
            return None
        found += part
    return found


def _closed(bounds: Bounds, name: str) -> bool:
    """Whether the domain of an input has all its ends: then bounded parts of it are compact, and what is smooth everywhere has
    bounded slopes on each of them."""
    declared, more = bounds.inputs.get(name), bounds.assume.get(name, REALS)
    if declared is None or declared.dtype is not REAL:
        return False
    ends = (declared.range.lower_open, declared.range.upper_open)
    return not any(ends) and not any(
        is_open and abs(end) < INF for end, is_open in ((more.lo, more.lo_open), (more.hi, more.hi_open))
    )


__all__ = ["Slopes"]
