"""Gibbs' inequality over an axis, or written out term by term, and sums of scalars with coefficients.

sum of u * (log u - log v) >= sum u - sum v, from t - 1 >= log t with t = v / u: so a Kullback-Leibler divergence of two
normalised vectors is >= 0 (Cover and Thomas, Elements of Information Theory, 2.6.3).
"""

from __future__ import annotations

from fractions import Fraction

from lossdsl.ir.nodes import (
    ONE,
    TRUE,
    AdjointMap,
    Apply,
    Const,
    Definition,
    Group,
    Index,
    Proxy,
    Read,
    Scalar,
    Stop,
    postorder,
)
from lossdsl.ir.rewrite import instantiate
from lossdsl.verify.context import Context
from lossdsl.verify.ranges import Scope, matches
from lossdsl.verify.verdict import Step

Linear = dict[Scalar, Fraction]  # a sum of scalars with coefficients; the constant stands at ONE


class Gibbs:
    """Sums of scalars of a program, and those of them that are divergences."""

    def __init__(self, ctx: Context) -> None:
        self.ranges = ctx.ranges()
        self.program = ctx.program
        grouped = {d.tensor for item in ctx.program.body if isinstance(item, Group) for d in item.definitions}
        self.definitions = {d.tensor: d for d in ctx.program.definitions() if d.tensor not in grouped}
        self.steps: list[Step] = []

    def _linear(self, n: Scalar, scope: Scope) -> Linear:
        """The scalar as a sum, definitions that are maps looked through."""
        out: Linear = {}

        def add(m: Scalar, c: Fraction) -> None:
            m = self._open(m)
            match m:
                case Const() if isinstance(m.value, Fraction):
                    out[ONE] = out.get(ONE, Fraction(0)) + c * m.value
                case Apply(name="add" | "sub"):
                    add(m.args[0], c)
                    add(m.args[1], -c if m.name == "sub" else c)
                case Apply(name="neg"):
                    add(m.args[0], -c)
                case Apply(name="mul") if (k := _number(m.args[0])) is not None:
                    add(m.args[1], c * k)
                case Apply(name="mul") if (k := _number(m.args[1])) is not None:
                    add(m.args[0], c * k)
                case Apply(name="div") if k := _number(m.args[1]):
                    add(m.args[0], c / k)
                case _:
                    out[m] = out.get(m, Fraction(0)) + c

        add(n, Fraction(1))
        return {m: c for m, c in out.items() if c}

    def _open(self, n: Scalar) -> Scalar:
        """A read of a map as its body; values of stopped and straight-through nodes."""
        while True:
            if isinstance(n, (Stop, AdjointMap)):
                n = n.a
            elif isinstance(n, Proxy):
                n = n.value
            elif isinstance(n, Read) and (d := self.definitions.get(n.tensor)) is not None:
                if d.head != "map" or d.support is not TRUE:
                    return n
                n = instantiate(d, n.indices)
            else:
                return n

    def _gibbs(self, d: Definition, scope: Scope) -> bool:
        """sum over whole axes of p * (log p - log q), where p sums to 1 and q to at most 1."""
        body = _straight(d.body)
        parts = _divergence(self._spread(body))
        if parts is None:
            return False
        p, log_p, log_q = parts
        bound = frozenset(d.bound)
        if log_p is not None:
            whole = self._mass(log_p, bound)
            finite = scope.reading(log_p)[log_p].finite
        else:
            whole, finite = self._simplex_mass(p, bound), isinstance(body, Apply) and body.name == "sub"
            finite = finite or scope.reading(p)[p].positive  # 0 * log(0), as it is written, is not 0
        other = self._mass(log_q, bound)
        finite = finite and scope.reading(log_q)[log_q].finite
        if whole is None or other is None or not finite:
            return False
        gap = dict(whole)
        for k, c in other.items():
            gap[k] = gap.get(k, Fraction(0)) - c
        if any(c for k, c in gap.items() if k is not ONE) or gap.get(ONE, Fraction(0)) < 0:
            return False
        self.steps.append(Step("Gibbs' inequality", d.tensor, "a divergence of normalised vectors is >= 0"))
        return True

    def _spread(self, n: Scalar) -> Scalar:
        """The body of a sum with maps looked through at the places that a divergence is recognised by."""
        n = self._open(n)
        if isinstance(n, Apply) and n.name == "expdiff":
            n = Apply("exp", (Apply("sub", n.args),))  # one and the same where the logarithm is finite
        if isinstance(n, Apply) and n.name in ("mul", "sub", "add", "neg", "exp", "log", "xlogy", "logaddexp"):
            return n.rebuild(tuple(self._spread(a) for a in n.args))
        return n

    def _mass(self, log_q: Scalar, bound: frozenset[Index]) -> Linear | None:
        """The sum of exp(log_q) over the bound indices: of a log-softmax 1, of a mixture the sum of its weights."""
        log_q = self._open(log_q)
        if isinstance(log_q, Apply) and log_q.name == "log":
            return self._simplex_mass(log_q.args[0], bound)
        if isinstance(log_q, Apply) and log_q.name == "logaddexp":
            parts = [self._mass(a, bound) for a in log_q.args]
            total: Linear = {}
            for part in parts:
                if part is None:
                    return None
                for k, c in part.items():
                    total[k] = total.get(k, Fraction(0)) + c
            return total
        if isinstance(log_q, Apply) and log_q.name == "add":
            for row, weight in (log_q.args, log_q.args[::-1]):
                if not any(i in bound for i in postorder(weight)) and self._mass(row, bound) == {ONE: Fraction(1)}:
                    return self._weight(self._open(weight))
            return None
        if isinstance(log_q, Apply) and log_q.name == "sub":
            row, total_ = self._open(log_q.args[0]), self._open(log_q.args[1])
            d = self.definitions.get(total_.tensor) if isinstance(total_, Read) else None
            if not isinstance(total_, Read) or d is None or d.head != "logsumexp":
                return None
            if (
                d.where is not TRUE
                or d.support is not TRUE
                or any(i in bound for n in total_.indices for i in indices_in(n))
            ):
                return None
            found: dict[Index, Scalar] = dict(zip(d.formals, total_.indices, strict=True))
            if not matches(self._spread(d.body), self._spread(row), found, set(d.bound), self.ranges.names):
                return None
            summed = [found.get(i) for i in d.bound]
            return {ONE: Fraction(1)} if len(summed) == len(bound) and set(summed) == bound else None
        return None

    def _weight(self, log_w: Scalar) -> Linear | None:
        """exp(log_w) where that is exact: log(u) gives u, log1p(u) gives 1 + u."""
        if isinstance(log_w, Apply) and log_w.name in ("log", "log1p"):
            out = self._linear(log_w.args[0], self.ranges.scope())
            if log_w.name == "log1p":
                out[ONE] = out.get(ONE, Fraction(0)) + 1
            return out
        return None

    def _simplex_mass(self, p: Scalar, bound: frozenset[Index]) -> Linear | None:
        """1 for a row of a simplex input that the bound indices go through."""
        declared = self.program.input(p.tensor) if isinstance(p, Read) else None
        if not isinstance(p, Read) or declared is None or declared.kind != "simplex":
            return None
        summed = [p.indices[k] for k in declared.over]
        rest = [i for k, i in enumerate(p.indices) if k not in declared.over]
        whole = all(isinstance(i, Index) and i.dim == declared.dims[k] for k, i in zip(declared.over, summed))
        apart = not any(i in bound for n in rest for i in indices_in(n))
        return {ONE: Fraction(1)} if whole and apart and len(summed) == len(bound) and set(summed) == bound else None

    def _written_out(self, linear: Linear, scope: Scope) -> bool:
        """A sum of terms u * (log u - log v), whose u and v have one sum."""
        gap: Linear = {}
        for m, c in linear.items():
            parts = _divergence(self._spread(m))
            if parts is None or c <= 0:
                return False
            u, _, log_v = parts
            if not isinstance(log_v, Apply) or log_v.name != "log":
                return False
            v = log_v.args[0]
            at_u, at_v = scope.reading(u)[u], scope.reading(v)[v]
            if not (at_u.positive and at_u.finite and at_v.nonnegative and at_v.finite):
                return False
            for k, f in self._linear(u, scope).items():
                gap[k] = gap.get(k, Fraction(0)) + c * f
            for k, f in self._linear(v, scope).items():
                gap[k] = gap.get(k, Fraction(0)) - c * f
        if not linear or any(f for k, f in gap.items() if k is not ONE) or gap.get(ONE, Fraction(0)) < 0:
            return False
        self.steps.append(Step("Gibbs' inequality", " + ".join("u * log(u / v)" for _ in linear), ">= sum u - sum v"))
        return True


def _straight(n: Scalar) -> Scalar:
    """`-(b - a)` as `a - b`."""
    if isinstance(n, Apply) and n.name == "neg":
        inner = n.args[0]
        if isinstance(inner, Apply) and inner.name == "sub":
            return Apply("sub", inner.args[::-1])
    return n


def _divergence(n: Scalar) -> tuple[Scalar, Scalar | None, Scalar] | None:
    """(p, log p if it is written, log q) of `p * (log p - log q)` or `xlogy(p, p) - p * log q`."""
    if not isinstance(n, Apply):
        return None
    if n.name == "mul":
        for p, gap in (n.args, n.args[::-1]):
            if not isinstance(gap, Apply) or gap.name != "sub":
                continue
            log_p, log_q = gap.args
            if isinstance(p, Apply) and p.name == "exp" and p.args[0] is log_p:
                return p, log_p, log_q
            if isinstance(log_p, Apply) and log_p.name == "log" and log_p.args[0] is p:
                return p, None, log_q
    if n.name == "sub":
        own, cross = n.args
        if isinstance(own, Apply) and own.name == "xlogy" and own.args[0] is own.args[1]:
            p = own.args[0]
            if isinstance(cross, Apply) and cross.name == "xlogy" and cross.args[0] is p:
                return p, None, Apply("log", (cross.args[1],))
            if isinstance(cross, Apply) and cross.name == "mul":
                for a, log_q in (cross.args, cross.args[::-1]):
                    if a is p:
                        return p, None, log_q
        if isinstance(own, Apply) and own.name == "mul" and isinstance(cross, Apply) and cross.name == "mul":
            for p, log_p in (own.args, own.args[::-1]):
                if isinstance(p, Apply) and p.name == "exp" and p.args[0] is log_p and p in cross.args:
                    return p, log_p, cross.args[1] if cross.args[0] is p else cross.args[0]
    return None


def _number(n: Scalar) -> Fraction | None:
    return n.value if isinstance(n, Const) and isinstance(n.value, Fraction) else None


def indices_in(n: Scalar) -> list[Index]:
    return [i for i in postorder(n) if isinstance(i, Index)]


__all__ = ["Gibbs", "Linear", "indices_in"]
