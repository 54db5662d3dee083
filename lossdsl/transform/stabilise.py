"""Exact rewrites of formulas whose floating-point evaluation overflows, underflows or cancels.

Every rule is an identity of real functions on the whole domain of its left side, and none of them exchanges two forms
that have different derivatives at a kink. It runs after differentiation: the derivative of a stable form is often not
stable itself, and at its kink it may be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeGuard

from lossdsl.dim import Dim
from lossdsl.ir.cost import operations
from lossdsl.ir.nodes import (
    INT,
    ONE,
    REAL,
    TRUE,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Param,
    Program,
    Read,
    Scalar,
    Select,
    postorder,
)
from lossdsl.ir.rewrite import Fresh, instantiate, map_item, map_scalars, prune, transform
from lossdsl.transform.arithmetic import add, conjuncts, div, mul, neg, sub


def stabilise(program: Program) -> Program:
    """The same program in forms that stay accurate and finite wherever the value is."""
    return prune(_Stabiliser(program).run())


def stabilise_scalar(node: Scalar) -> Scalar:
    """The rules that need one scalar alone, applied to it."""
    return transform(node, _Stabiliser(None).step)


class _Stabiliser:
    def __init__(self, program: Program | None) -> None:
        self.program = program
        self.maps: dict[str, Definition] = {}
        self.sums: dict[str, Definition] = {}
        self.logs: dict[str, str] = {}
        self.extra: list[Definition] = []
        self.names = Fresh.of(program) if program is not None else Fresh()
        self.dims: dict[str, tuple[Dim, ...]] = {}
        if program is not None:
            self.dims = {i.name: i.dims for i in program.inputs} | {d.tensor: d.dims for d in program.definitions()}

    def run(self) -> Program:
        assert self.program is not None
        body: list[Definition | Group] = []
        memo: dict[Scalar, Scalar] = {}
        for item in self.program.body:
            done = map_item(item, lambda d: self.definition(d, memo))
            body.extend(self.extra)
            self.extra = []
            body.append(done)
            if isinstance(done, Definition) and done.dtype is REAL and done.support is TRUE:
                if done.head == "map":
                    self.maps[done.tensor] = done
                elif done.head == "sum" and _exponent(done.body) is not None:
                    self.sums[done.tensor] = done
        return self.program.with_body(tuple(body))

    def definition(self, d: Definition, memo: dict[Scalar, Scalar]) -> Definition:
        done = map_scalars(d, lambda s: transform(s, self.step, memo))
        return replace(done, body=self.given(done.where, done.body)) if done.where is not TRUE else done

    # ------------------------------------------------------------------------------------------ one node

    def step(self, node: Scalar) -> Scalar:
        if isinstance(node, Select):
            return Select(node.condition, self.given(node.condition, node.a), node.b)
        if not isinstance(node, Apply) or node.dtype is not REAL:
            return node
        args = node.args
        match node.name:
            case "log":
                return self.log(args[0])
            case "log1p":
                inner = self.seen(args[0])
                if _is(inner, "exp"):
                    return Apply("softplus", inner.children)
                negative = _negated(inner)
                if negative is not None and _is(negative, "exp"):
                    return Apply("log1mexp", negative.children)
            case "sub":
                return _difference(args[0], args[1])
            case "add":
                if args[1] is _MINUS_ONE and _is(args[0], "exp"):
                    return Apply("expm1", args[0].children)
            case "mul":
                return self.product(node)
            case "div":
                return self.product(node)
        return node

    def given(self, condition: Scalar, node: Scalar) -> Scalar:
        """A branch with what its condition equates put in, where that lets something cancel: under `t[n] == c`,
        `p[n, t[n]]` is `p[n, c]`."""
        if node.dtype is not REAL:
            return node
        equal: dict[Scalar, Index] = {}
        for c in conjuncts(condition):
            if isinstance(c, Compare) and c.op == "==" and c.a.dtype is INT:
                for a, b in ((c.a, c.b), (c.b, c.a)):
                    if isinstance(b, Index) and not isinstance(a, Index | Const):
                        equal[a] = b
        if not equal:
            return node

        def put(n: Scalar) -> Scalar:
            if not isinstance(n, Read) or not any(i in equal for i in n.indices):
                return n
            dims = self.dims.get(n.tensor, ())
            fits = [equal[i] if i in equal and equal[i].dim == d else i for i, d in zip(n.indices, dims)]
            return Read(n.tensor, tuple(fits), n.kind)

        other = transform(transform(node, put), self.step)
        return other if operations(other) < operations(node) else node

    def log(self, a: Scalar) -> Scalar:
        a = self.seen(a)
        if isinstance(a, Apply):
            match a.name:
                case "exp":
                    return a.args[0]
                case "sigmoid":
                    return Apply("logsigmoid", a.args)
                case "cosh":
                    return Apply("logcosh", a.args)
                case "expdiff":
                    x, level = a.args
                    lowest = Const("-inf")
                    return Select(Compare("==", level, lowest), lowest, sub(x, level))
                case "add":
                    for one, x in (a.args, a.args[::-1]):
                        if one is ONE:
                            x = self.seen(x)
                            return Apply("softplus", x.args) if _exp(x) else Apply("log1p", (x,))
                case "sub":
                    one, x = a.args
                    if one is ONE:
                        x = self.seen(x)
                        if _exp(x):
                            return Apply("log1mexp", x.args)
                        if isinstance(x, Apply) and x.name == "sigmoid":
                            return Apply("logsigmoid", (neg(x.args[0]),))
                        return Apply("log1p", (neg(x),))
                case "neg":
                    if _is(a.args[0], "expm1"):
                        return Apply("log1mexp", a.args[0].children)
                case "div":
                    quotient = _logistic(a)
                    if quotient is not None:
                        return Apply("logsigmoid", (quotient,))
        if isinstance(a, Read) and a.tensor in self.sums:
            return Read(self.logarithm(a.tensor), a.indices, REAL)
        return Apply("log", (a,))

    def seen(self, a: Scalar) -> Scalar:
        """What a read of a map that only names an exponential or a sigmoid stands for."""
        if not (isinstance(a, Read) and a.tensor in self.maps):
            return a
        d = self.maps[a.tensor]
        if not isinstance(d.body, Apply) or d.body.name not in ("exp", "sigmoid", "cosh", "expdiff"):
            return a
        if not _strict(d, a):
            return a
        return instantiate(d, a.indices)

    def logarithm(self, tensor: str) -> str:
        """The tensor `log(tensor)` of a sum of exponentials, as a logsumexp."""
        if tensor not in self.logs:
            d = self.sums[tensor]
            inner = _exponent(d.body)
            assert inner is not None
            self.logs[tensor] = self.names(f"{tensor}.log")
            self.extra.append(
                Definition(self.logs[tensor], d.formals, "logsumexp", d.bound, d.where, inner, origin=d.origin)
            )
        return self.logs[tensor]

    # ------------------------------------------------------------------------------------------ products

    def product(self, node: Apply) -> Scalar:
        """Cancel positive factors of a quotient, and name exp(x) / sum(exp) and exp(x) / (1 + exp(x))."""
        if node.name == "div":
            quotient = _logistic(node)
            if quotient is not None:
                return Apply("sigmoid", (quotient,))
        chain = _Chain.of(node)
        changed = _logistic_pairs(chain.above)
        for low in list(chain.below):
            partner = self.partner(chain, low)
            if partner is None:
                continue
            chain.below.remove(low)
            changed = True
            if partner is not low:
                chain.above.append(partner)
        if not changed:
            changed = self.distribute(chain)
        return chain.build() if changed else node

    def partner(self, chain: _Chain, low: Scalar) -> Scalar | None:
        """What is left of a factor `low` of the denominator and a factor of the numerator; `low` for nothing."""
        seen = self.seen(low)
        for k, high in enumerate(chain.above):
            if _positive(seen) and self.seen(high) is seen:
                del chain.above[k]
                return low
        if isinstance(low, Apply) and low.name == "cosh":
            sinh = Apply("sinh", low.args)
            if sinh in chain.above:
                chain.above.remove(sinh)
                return Apply("tanh", low.args)
        exponent = _one_plus_exp(seen)
        if exponent is not None:
            same = [k for k, high in enumerate(chain.above) if self.seen(high) is Apply("exp", (exponent,))]
            if not same:
                return Apply("sigmoid", (neg(exponent),))
            del chain.above[same[0]]
            return Apply("sigmoid", (exponent,))
        for k, high in enumerate(chain.above):
            top = self.seen(high)
            if not _exp(top):
                continue
            if isinstance(low, Read) and low.tensor in self.sums and self.member(low, top):
                del chain.above[k]
                return Apply("expdiff", (top.args[0], Read(self.logarithm(low.tensor), low.indices, REAL)))
        return None

    def member(self, low: Read, top: Apply) -> bool:
        """`exp(u) / sum(exp(v))` is finite as exp(u - log sum) wherever the sum is positive; at an empty sum or a sum
        that is 0 the quotient is not a number while expdiff is 0, so the rule asks that u is one of the v."""
        d = self.sums[low.tensor]
        if d.where is not TRUE:
            return False
        inner = _exponent(d.body)
        assert inner is not None
        at: dict[Scalar, Scalar] = dict(zip(d.formals, low.indices, strict=True))
        return _matches(inner, top.args[0], at, set(d.bound))

    def distribute(self, chain: _Chain) -> bool:
        """(a / E + b) * E = a + b * E for a positive E."""
        for k, high in enumerate(chain.above):
            factor = self.seen(high)
            if not _positive(factor):
                continue
            for j, other in enumerate(chain.above):
                if j == k or not (isinstance(other, Apply) and other.name in ("add", "sub")):
                    continue
                if not any(self.cancels(t, factor) for t in other.args):
                    continue
                parts = [self.product_of(mul(t, high)) for t in other.args]
                joined = add(*parts) if other.name == "add" else sub(*parts)
                chain.above[j] = joined
                del chain.above[k]
                return True
        return False

    def product_of(self, node: Scalar) -> Scalar:
        return self.product(node) if isinstance(node, Apply) and node.name in ("mul", "div") else node

    def cancels(self, term: Scalar, factor: Scalar) -> bool:
        if not (isinstance(term, Apply) and term.name in ("mul", "div", "neg")):
            return False
        chain = _Chain.of(term)
        pair = Apply("sigmoid", (neg(factor.children[0]),)) if _exp(factor) else None
        return pair in chain.above or any(self.seen(low) is factor for low in chain.below)


_MINUS_ONE = Const(-1)


@dataclass
class _Chain:
    """A product of factors over a product of factors, with a sign."""

    negative: bool
    above: list[Scalar]
    below: list[Scalar]

    @staticmethod
    def of(node: Scalar) -> _Chain:
        chain = _Chain(False, [], [])
        stack = [(node, True)]
        while stack:
            n, up = stack.pop()
            if isinstance(n, Apply) and n.name == "neg":
                chain.negative = not chain.negative
                stack.append((n.args[0], up))
            elif isinstance(n, Apply) and n.name == "mul":
                stack += [(n.args[1], up), (n.args[0], up)]
            elif isinstance(n, Apply) and n.name == "div":
                stack += [(n.args[1], not up), (n.args[0], up)]
            else:
                (chain.above if up else chain.below).append(n)
        return chain

    def build(self) -> Scalar:
        top = _fold(mul, self.above)
        value = div(top, _fold(mul, self.below)) if self.below else top
        return neg(value) if self.negative else value


def _fold(build: Callable[[Scalar, Scalar], Scalar], items: Iterable[Scalar]) -> Scalar:
    result: Scalar | None = None
    for item in items:
        result = item if result is None else build(result, item)
    return ONE if result is None else result


def _is(node: Scalar, name: str) -> TypeGuard[Apply]:
    return isinstance(node, Apply) and node.name == name


def _exp(node: Scalar) -> TypeGuard[Apply]:
    return isinstance(node, Apply) and node.name == "exp"


def _negated(node: Scalar) -> Scalar | None:
    return node.args[0] if isinstance(node, Apply) and node.name == "neg" else None


def _exponent(body: Scalar) -> Scalar | None:
    return body.args[0] if isinstance(body, Apply) and body.name == "exp" else None


def _positive(node: Scalar) -> bool:
    """A real function without zeros or poles: what cancels in a quotient, cancels everywhere."""
    if not isinstance(node, Apply):
        return False
    return node.name in ("exp", "expdiff", "sigmoid") or _one_plus_exp(node) is not None


def _one_plus_exp(node: Scalar) -> Scalar | None:
    """u if the node is 1 + exp(u)."""
    if isinstance(node, Apply) and node.name == "add":
        for one, e in (node.args, node.args[::-1]):
            if one is ONE and _exp(e):
                return e.args[0]
    return None


def _difference(a: Scalar, b: Scalar) -> Scalar:
    if b is ONE and _exp(a):
        return Apply("expm1", a.children)
    if a is ONE and _exp(b):
        return neg(Apply("expm1", b.children))
    if a is ONE and isinstance(b, Apply) and b.name == "sigmoid":
        return Apply("sigmoid", (neg(b.args[0]),))
    return Apply("sub", (a, b))


def _logistic(node: Apply) -> Scalar | None:
    """u if the quotient is exp(u) / (1 + exp(u)) or 1 / (1 + exp(-u))."""
    top, low = node.args
    if not _is(low, "add"):
        return None
    for one, e in (low.children, low.children[::-1]):
        if one is ONE and _exp(e):
            if top is e:
                return e.children[0]
            if top is ONE:
                return neg(e.children[0])
    return None


def _logistic_pairs(factors: list[Scalar]) -> bool:
    """exp(u) * sigmoid(-u) is sigmoid(u): put in wherever both are factors."""
    changed = False
    for e in [f for f in factors if _exp(f)]:
        other = Apply("sigmoid", (neg(e.children[0]),))
        if e in factors and other in factors:
            factors.remove(e)
            factors[factors.index(other)] = Apply("sigmoid", e.children)
            changed = True
    return changed


def _strict(d: Definition, read: Read) -> bool:
    """True if the body is undefined wherever the read's indices are out of range: then a copy of it is the read.

    An index that is in range by itself needs nothing; one that depends on data must index a read over the same extent.
    """
    for formal, index in zip(d.formals, read.indices, strict=True):
        if not any(isinstance(n, Read | Param) for n in postorder(index)):
            continue
        if not any(isinstance(n, Read) and formal in n.indices for n in _always(d.body)):
            return False
    return True


def _always(body: Scalar) -> Iterable[Scalar]:
    """Nodes that are evaluated whenever the body is: not those inside a branch."""
    stack = [body]
    while stack:
        node = stack.pop()
        yield node
        stack.extend((node.condition,) if isinstance(node, Select) else node.children)


def _matches(pattern: Scalar, node: Scalar, at: dict[Scalar, Scalar], holes: set[Index]) -> bool:
    """True if `node` is `pattern` with formals put in (`at`) and bound indices set to anything of INT."""
    found = dict(at)

    def same(p: Scalar, n: Scalar) -> bool:
        if p in found:
            return found[p] is n
        if isinstance(p, Index) and p in holes:
            if n.dtype is not INT:
                return False
            found[p] = n
            return True
        if p is n and not p.children:
            return True
        if type(p) is not type(n) or len(p.children) != len(n.children):
            return False
        if not all(same(a, b) for a, b in zip(p.children, n.children, strict=True)):
            return False
        return p.rebuild(n.children) is n

    return same(pattern, node)


__all__ = ["stabilise", "stabilise_scalar"]
