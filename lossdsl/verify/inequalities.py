"""Non-negativity by inequalities that no interval shows: Gibbs, and maxima that dominate their elements.

    Gibbs     a Kullback-Leibler divergence of two normalised vectors is >= 0 (`gibbs`)
    maximum   max and logsumexp of a row are at least each of its elements, and those of a part of it
    products  the product of all 1 + exp(x) is at least the sum of the exp(x): sum of softplus(x) >= logsumexp(x)
    tangents  a convex function is above its tangents (`minorants`)
    affine    what is affine in one of its parts is >= 0 between two values of it if it is there
    sums      sums, products and selections of what is >= 0; two sums over one axis term by term

A step is taken only where every part is certainly finite (a divisor v of Gibbs may be 0: the term is then +inf), so
that the algebra is that of real numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from lossdsl.ir.nodes import (
    ONE,
    TRUE,
    AdjointMap,
    Apply,
    Definition,
    Index,
    Proxy,
    Read,
    Scalar,
    Select,
    Stop,
    postorder,
)
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify import minorants
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.gibbs import Gibbs, Linear, indices_in
from lossdsl.verify.operations import truth
from lossdsl.verify.ranges import Scope, matches
from lossdsl.verify.show import text
from lossdsl.verify.verdict import Proved, Step

_DEPTH = 12


def nonnegative(ctx: Context, target: str) -> Proved | None:
    """A proof that every element of the target is >= 0, if these rules find one."""
    prover = _Prover(ctx)
    return Proved("inequalities", tuple(prover.steps)) if prover.tensor(target, _DEPTH) else None


class _Prover(Gibbs):
    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self._known: dict[str, bool] = {}

    # ------------------------------------------------------------------------------------------- structure

    def tensor(self, name: str, depth: int) -> bool:
        if name not in self._known:
            self._known[name] = False
            d = self.definitions.get(name)
            start = len(self.steps)
            if d is not None and depth > 0 and self._definition(d, depth):
                self._known[name] = True
                self.steps.append(Step(f"{d.head} of what is non-negative", name, ">= 0"))
            else:
                del self.steps[start:]
        return self._known[name]

    def _definition(self, d: Definition, depth: int) -> bool:
        scope: Scope | None = self.ranges.body_scope(d)
        for condition in (d.where, d.support):
            scope = scope.under(condition, True) if scope is not None else None
        if scope is None:
            return False
        if d.head == "map":
            return self._scalar(d.body, scope, depth)
        # a maximum over a selection may be one over nothing
        if d.head == "sum" or (d.head in ("max", "min") and d.where is TRUE):
            if self._scalar(d.body, scope, depth):
                return True
        return d.head == "sum" and d.where is TRUE and d.support is TRUE and self._gibbs(d, scope)

    def _scalar(self, n: Scalar, scope: Scope, depth: int) -> bool:
        scope = scope.reading(n)
        if scope[n].nonnegative:
            return True
        if depth <= 0:
            return False
        match n:
            case Stop() | AdjointMap():
                return self._scalar(n.a, scope, depth - 1)
            case Proxy():
                return self._scalar(n.value, scope, depth - 1)
            case Select():
                for branch, holds in ((n.a, True), (n.b, False)):
                    inner = scope.under(n.condition, holds)
                    if inner is not None and not self._scalar(branch, inner, depth - 1):
                        return False
                return True
            case Read() if self.tensor(n.tensor, _DEPTH):  # once for each tensor
                return True
            case Apply(name="mul"):
                if all(self._scalar(a, scope, depth - 1) and scope[a].finite for a in n.args):
                    return True
            case Apply(name="div"):
                if scope[n.args[1]].positive and scope[n.args[1]].finite:
                    return self._scalar(n.args[0], scope, depth - 1)
            case Apply(name="add") if all(self._scalar(a, scope, depth - 1) for a in n.args):
                return True
        linear = self._linear(n, scope)
        return self._written_out(linear, scope) or self._dominated(linear, scope, depth)

    # ----------------------------------------------------------------------------------- dominating maxima

    def _dominated(self, linear: Linear, scope: Scope, depth: int) -> bool:
        chosen = next((m for m in linear if isinstance(m, Select)), None)
        if chosen is not None and depth > 0:
            for branch, holds in ((chosen.a, True), (chosen.b, False)):
                inner = scope.under(chosen.condition, holds)
                taken = {m: c for m, c in linear.items() if m is not chosen}
                for m, c in self._linear(branch, scope).items():
                    taken[m] = taken.get(m, Fraction(0)) + linear[chosen] * c
                taken = {m: c for m, c in taken.items() if c}
                if inner is not None and not self._dominated(taken, inner, depth - 2):
                    return False
            return True
        for m in linear:  # all of them are evaluated, so the axes that they read have an element
            scope = scope.reading(m)
        known = self._exact(linear, scope) and self._positive(linear, scope, depth)
        return known or self._cleared(linear, scope, depth)

    @staticmethod
    def _exact(linear: Linear, scope: Scope) -> bool:
        """Whether no term is undefined and no negative one is inf; if one is -inf, the sum is inf."""
        at = {m: scope.reading(m)[m] for m in linear}
        if any(at[m].nan or (c < 0 and at[m].may_be_plus_infinite) for m, c in linear.items()):
            return False
        falls = any(c > 0 and at[m].may_be_minus_infinite for m, c in linear.items())
        return not falls or not any(c < 0 and at[m].may_be_minus_infinite for m, c in linear.items())

    def _positive(self, linear: Linear, scope: Scope, depth: int) -> bool:
        """A sum whose negative terms are finite is >= 0: term by term, or after a maximum gave way to an element."""
        total = Enclosure(0.0, 0.0)
        for m, c in linear.items():
            total = e.add(total, e.mul(e.exact(c), scope.reading(m)[m]))
        if total.nonnegative:
            return True
        if all(
            scope.reading(m)[m].nonpositive if c < 0 else self._scalar(m, scope, min(depth - 1, 3))
            for m, c in linear.items()
        ):
            return True
        if depth <= 0:
            return False
        for m, c in linear.items():
            for element, rule in self._replaced(m, c, linear, scope):
                more = self._linear(element, scope)
                whole = (
                    isinstance(m, Read) or c < 0
                )  # an element may only be infinite where it is an operand, and upward
                if linear.get(element, 0) >= 0 and not all(
                    scope.reading(k)[k].finite for k, v in more.items() if whole or v < 0
                ):
                    continue
                # all of it gives way, or as much as cancels a term
                amounts = {c, *(-linear[k] / v for k, v in more.items() if v and 0 < -linear.get(k, 0) / v / c < 1)}
                for amount in sorted(amounts, key=abs):
                    rest = dict(linear)
                    for k, v in ((m, Fraction(-1)), *more.items()):
                        rest[k] = rest.get(k, Fraction(0)) + amount * v
                    rest = {k: v for k, v in rest.items() if v}
                    if self._exact(rest, scope) and self._positive(rest, scope, depth - 3):
                        shown = f"at {'least' if c > 0 else 'most'} {text(element)}"
                        self.steps.append(Step(rule, text(m), shown))
                        return True
        return self._term_by_term(linear, scope, depth) or self._affine(linear, scope, depth)

    def _replaced(self, m: Scalar, c: Fraction, linear: Linear, scope: Scope) -> Iterator[tuple[Scalar, str]]:
        """What a term gives way to, and by which rule."""
        if c < 0:
            yield from ((element, "a concave function is below its tangents") for element in minorants.above(m))
            return
        yield from ((element, "a maximum dominates its elements") for element in self._elements(m, linear, scope))
        yield from ((k, "a whole row dominates its parts") for k, v in linear.items() if v < 0 and self._above(m, k))
        if not isinstance(m, Apply) or m.name not in ("max2", "logaddexp"):
            yield from ((element, "a convex function is above its tangents") for element in minorants.below(m))

    def _above(self, m: Scalar, k: Scalar) -> bool:
        """Whether `m >= k` in the extended reals: a fold of a row and that of a part of it, or a rising function of such."""
        if m is k:
            return True
        if isinstance(m, Apply) and isinstance(k, Apply) and m.name == k.name and m.name in ("logaddexp", "max2"):
            return all(self._above(a, b) for a, b in zip(m.args, k.args, strict=True))
        m, k = self._open(m), self._open(k)
        if not isinstance(m, Read) or not isinstance(k, Read):
            return False
        d, part = self.definitions.get(m.tensor), self.definitions.get(k.tensor)
        if d is None or part is None or d.support is not TRUE or part.support is not TRUE or d.where is not TRUE:
            return False
        if part.head != "logsumexp" or [i.dim for i in d.bound] != [i.dim for i in part.bound]:
            return False
        if part.head == d.head or (d.head == "sum" and part.where is TRUE):
            mapping: dict[Scalar, Scalar] = dict(zip(d.formals, m.indices, strict=True))
            other: dict[Scalar, Scalar] = dict(zip(part.formals, k.indices, strict=True))
            other |= dict(zip(part.bound, d.bound, strict=True))
            if any(i in d.bound for n in (*m.indices, *k.indices) for i in indices_in(n)):
                return False
            body, inner = self._open(substitute(d.body, mapping)), substitute(part.body, other)
            if d.head == "sum":
                if not isinstance(body, Apply) or body.name != "softplus":
                    return False
                body = body.args[0]
            return self._spread(body) is self._spread(inner)
        return False

    def _above_zero(self, n: Scalar, scope: Scope, depth: int) -> bool:
        """Whether a finite scalar is > 0: by its enclosure, or as what is above 0 and a sum that is not below."""
        if scope.reading(n)[n].positive:
            return True
        linear = self._linear(n, scope)
        for m, c in linear.items():
            if c > 0 and scope.reading(m)[m].positive:
                rest = {k: v for k, v in linear.items() if k is not m}
                return self._exact(rest, scope) and self._positive(rest, scope, depth)
        return False

    def _term_by_term(self, linear: Linear, scope: Scope, depth: int) -> bool:
        """Two sums over the same whole axes: the sum of the combined terms, each of which is >= 0; the rest as well."""
        sums = [(m, c, d) for m, c in linear.items() if isinstance(m, Read) and (d := self._whole_sum(m)) is not None]
        for m, c, d in sums:
            for k, v, other in sums:
                if not (v < 0 < c) or [i.dim for i in d.bound] != [i.dim for i in other.bound]:
                    continue
                if any(i in d.bound for n in (*m.indices, *k.indices) for i in indices_in(n)):
                    continue
                first: dict[Scalar, Scalar] = dict(zip(d.formals, m.indices, strict=True))
                second: dict[Scalar, Scalar] = dict(zip(other.formals, k.indices, strict=True))
                second |= dict(zip(other.bound, d.bound, strict=True))
                inside = self.ranges.scope(scope.nonempty | frozenset(i.dim for i in d.bound))
                terms: Linear = {}
                for body, factor in ((substitute(d.body, first), c), (substitute(other.body, second), v)):
                    for n, f in self._linear(body, inside).items():
                        terms[n] = terms.get(n, Fraction(0)) + factor * f
                terms = {n: f for n, f in terms.items() if f}
                rest = {n: f for n, f in linear.items() if n is not m and n is not k}
                if not all(inside.reading(n)[n].finite for n in terms):
                    continue
                if self._positive(terms, inside, depth - 4) and self._positive(rest, scope, depth - 4):
                    self.steps.append(
                        Step("term by term", f"{text(m)} and {text(k)}", "the terms of both together >= 0")
                    )
                    return True
        return False

    def _whole_sum(self, m: Read) -> Definition | None:
        d = self.definitions.get(m.tensor)
        return d if d is not None and d.head == "sum" and d.where is TRUE and d.support is TRUE else None

    def _affine(self, linear: Linear, scope: Scope, depth: int) -> bool:
        """A sum of finite terms that is affine in a part of them: >= 0 at the ends of the interval of that part."""
        if not all(scope.reading(m)[m].finite for m in linear):
            return False
        for x in minorants.leaves(list(linear))[:4]:
            ends = minorants.ends(scope.reading(x)[x])
            if ends is None or not all(minorants.affine(m, x) for m in linear):
                continue
            low, high = ends
            first = self._put(linear, x, low, scope)
            second = self._put(linear, x, low + 1 if high is None else high, scope)
            if high is None:
                for m, c in first.items():
                    second[m] = second.get(m, Fraction(0)) - c
            parts = [{m: c for m, c in part.items() if c} for part in (first, second)]
            if all(self._exact(p, scope) and self._positive(p, scope, depth - 2) for p in parts):
                self.steps.append(Step("affine in a part", text(x), "the sum is >= 0 at its ends, and so between"))
                return True
        return False

    def _put(self, linear: Linear, x: Scalar, value: Fraction, scope: Scope) -> Linear:
        """The sum with a number for a part."""
        out: Linear = {}
        for m, c in linear.items():
            for k, v in self._linear(minorants.at(m, x, value), scope).items():
                out[k] = out.get(k, Fraction(0)) + c * v
        return out

    def _cleared(self, linear: Linear, scope: Scope, depth: int) -> bool:
        """A sum of numbers and one quotient by what is positive and finite: of the sign of its numerator."""
        quotients = [m for m in linear if isinstance(m, Apply) and m.name == "div"]
        if len(quotients) != 1 or any(m is not ONE and m is not quotients[0] for m in linear) or depth <= 0:
            return False
        q = quotients[0]
        assert isinstance(q, Apply)
        if not all(scope.reading(a)[a].finite for a in q.args) or not self._above_zero(q.args[1], scope, depth - 1):
            return False
        out: Linear = {}
        for part, factor in ((q.args[0], linear[q]), (q.args[1], linear.get(ONE, Fraction(0)))):
            for k, v in self._linear(part, scope).items():
                out[k] = out.get(k, Fraction(0)) + factor * v
        out = {k: v for k, v in out.items() if v}
        for m in out:
            scope = scope.reading(m)
        if not (all(scope[m].finite for m in out) and self._positive(out, scope, depth - 1)):
            return False
        self.steps.append(Step("cleared of its divisor", text(q.args[1]), "which is positive"))
        return True

    def _elements(self, m: Scalar, linear: Linear, scope: Scope) -> Iterator[Scalar]:
        """Elements of the row that `m` is the maximum (logsumexp) of, where the other terms read that row."""
        if isinstance(m, Apply) and m.name in ("max2", "logaddexp"):
            yield from m.args
        d = self.definitions.get(m.tensor) if isinstance(m, Read) else None
        if not isinstance(m, Read) or d is None or d.head not in ("max", "logsumexp") or d.support is not TRUE:
            return
        formals: dict[Index, Scalar] = dict(zip(d.formals, m.indices, strict=True))
        rows = [r for r in postorder(d.body, self._open(d.body)) if isinstance(r, Read)]
        others = [r for k in linear if k is not m for r in _surely_read(k)]
        seen: set[Scalar] = set()
        for row in rows:
            for other in others:
                found = dict(formals)
                if row.tensor != other.tensor or not matches(row, other, found, set(d.bound), self.ranges.names):
                    continue
                if any(i not in found for i in d.bound):
                    continue
                mapping: Mapping[Scalar, Scalar] = dict(found.items())
                if d.where is not TRUE and truth(scope[substitute(d.where, mapping)]) is not True:
                    continue
                element = substitute(d.body, mapping)
                if element not in seen:
                    seen.add(element)
                    yield element

    # --------------------------------------------------------------------------------------------- Gibbs


def _surely_read(n: Scalar) -> list[Read]:
    """Reads that are evaluated whenever `n` is: none of those below a condition."""
    if isinstance(n, Select):
        return []
    below = [r for c in n.children for r in _surely_read(c)]
    return [*below, n] if isinstance(n, Read) else below
