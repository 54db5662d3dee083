"""Derivatives of one scalar body: a backward walk (adjoints of its reads) and a forward walk (its tangent).

A zero derivative is the absence of an entry, never a node. Adjoints carry the condition of the path on which they
arise: a branch that is not taken contributes nothing, whatever its data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lossdsl import primitives
from lossdsl.ir.algebra import NodeAlgebra
from lossdsl.ir.nodes import (
    FALSE,
    INT,
    ONE,
    REAL,
    TRUE,
    ZERO,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Proxy,
    Read,
    Scalar,
    Select,
    number,
    postorder,
)
from lossdsl.ir.rewrite import transform
from lossdsl.transform.arithmetic import (
    add,
    conjunction,
    conjuncts,
    disjunction,
    div,
    mul,
    neg,
    negation,
    select,
    sub,
    total,
)

_ALGEBRA = NodeAlgebra()
_SMART: Mapping[str, Callable[..., Scalar]] = {"add": add, "sub": sub, "mul": mul, "div": div, "neg": neg}


def _tidy(node: Scalar) -> Scalar:
    """Constants folded: a written exponent is a constant, and so is which case of its derivative applies."""
    if isinstance(node, Apply) and node.name == "real" and isinstance(node.args[0], Const):
        return Const(node.args[0].value)
    if isinstance(node, Apply) and node.name == "powi" and isinstance(node.args[1], Const):
        if node.args[1].value == 1:
            return node.args[0]
        if node.args[1].value == 0:
            return ONE
    if isinstance(node, Compare) and isinstance(node.a, Const) and isinstance(node.b, Const) and node.op == "==":
        return TRUE if node.a.value == node.b.value else FALSE
    if isinstance(node, Apply) and node.dtype is INT and node.name in ("add", "sub", "neg"):
        return _SMART[node.name](*node.args)
    if isinstance(node, Apply) and node.dtype is REAL and node.name in _SMART:
        return _SMART[node.name](*node.args)
    if isinstance(node, Select):
        return select(node.condition, node.a, node.b)
    return node


def partial(node: Apply, place: int) -> Scalar | None:
    """The partial derivative of a primitive application in one argument; None where it is identically zero."""
    if node.dtype is not REAL or node.args[place].dtype is not REAL:
        return None
    formula = primitives.PRIMITIVES[node.name].partials[place]
    if formula is None:
        return None
    raw = formula(_ALGEBRA, *node.args)
    memo: dict[Scalar, Scalar] = {a: a for a in node.args}
    memo[node] = node
    result = transform(number(raw), _tidy, memo)
    return None if result is ZERO else result


# --------------------------------------------------------------------------------------------------- backward


@dataclass(frozen=True)
class Guarded:
    """`value` where all conditions hold (tested in order), exactly 0 elsewhere; value is evaluated only there."""

    conditions: tuple[Scalar, ...]
    value: Scalar

    def scalar(self) -> Scalar:
        return select(conjunction(self.conditions), self.value, ZERO)


def combine(terms: list[Guarded]) -> Guarded:
    """The sum of guarded terms, as one guarded term."""
    merged = merge(terms)
    if len(merged) == 1:
        return merged[0]
    prefix = shared([t.conditions for t in merged])
    rest = [Guarded(t.conditions[len(prefix) :], t.value) for t in merged]
    either = disjunction(conjunction(t.conditions) for t in rest)
    return Guarded((*prefix, *conjuncts(either)), total(t.scalar() for t in rest))


def merge(terms: list[Guarded]) -> list[Guarded]:
    """The same terms, fewer: those of one condition are added, those of opposite conditions share a Select."""
    todo = list(terms)
    while True:
        pair = next(
            (
                (i, j, merged)
                for i in range(len(todo))
                for j in range(i + 1, len(todo))
                if (merged := _merge(todo[i], todo[j])) is not None
            ),
            None,
        )
        if pair is None:
            return todo
        i, j, both = pair
        del todo[j]
        todo[i] = both


def shared(paths: list[tuple[Scalar, ...]]) -> tuple[Scalar, ...]:
    length = 0
    while all(len(p) > length and p[length] is paths[0][length] for p in paths):
        length += 1
    return paths[0][:length]


def _merge(a: Guarded, b: Guarded) -> Guarded | None:
    prefix = shared([a.conditions, b.conditions])
    left, right = conjunction(a.conditions[len(prefix) :]), conjunction(b.conditions[len(prefix) :])
    if left is right:
        return Guarded(a.conditions, add(a.value, b.value))
    if negation(left) is right:
        return Guarded(prefix, select(left, a.value, b.value))
    if negation(right) is left:
        return Guarded(prefix, select(right, b.value, a.value))
    return None


def _differentiable(node: Scalar) -> tuple[Scalar, ...]:
    """The children into which a derivative flows."""
    match node:
        case Apply():
            if node.dtype is not REAL:
                return ()
            partials = primitives.PRIMITIVES[node.name].partials
            return tuple(dict.fromkeys(a for a, p in zip(node.args, partials) if p is not None and a.dtype is REAL))
        case Select():
            return (node.a, node.b) if node.dtype is REAL else ()
        case Proxy():
            return (node.surrogate,)
        case AdjointMap():
            return (node.a,)
    return ()


def _order(body: Scalar, wanted: Callable[[Read], bool]) -> list[Scalar]:
    """Nodes on a differentiable path from the body to a wanted read, each after all of its users."""
    visited: set[Scalar] = set()
    carries: set[Scalar] = set()
    order: list[Scalar] = []
    stack: list[tuple[Scalar, bool]] = [(body, False)]
    while stack:
        node, leaving = stack.pop()
        if leaving:
            if (isinstance(node, Read) and node.dtype is REAL and wanted(node)) or any(
                c in carries for c in _differentiable(node)
            ):
                carries.add(node)
                order.append(node)
            continue
        if node in visited:
            continue
        visited.add(node)
        stack.append((node, True))
        stack.extend((c, False) for c in reversed(_differentiable(node)))
    return order[::-1]


def depends(body: Scalar, wanted: Callable[[Read], bool]) -> bool:
    """True if a derivative flows from the body into a wanted read."""
    return bool(_order(body, wanted))


def adjoints(body: Scalar, seed: Scalar, wanted: Callable[[Read], bool]) -> dict[Read, Guarded]:
    """`seed * d body / d read` for every wanted REAL read in the body, each with the condition of its path."""
    order = _order(body, wanted)
    live = set(order)
    pending: dict[Scalar, list[Guarded]] = {body: [Guarded((), seed)]} if order else {}
    found: dict[Read, Guarded] = {}

    def send(node: Scalar, conditions: tuple[Scalar, ...], value: Scalar) -> None:
        if node in live:
            pending.setdefault(node, []).append(Guarded(conditions, value))

    for node in order:
        if node not in pending:
            continue  # every partial on the way is identically zero: x^0
        mine = combine(pending.pop(node))
        path, bar = mine.conditions, mine.value
        match node:
            case Read():
                found[node] = mine
            case Select():
                send(node.a, _with(path, node.condition), bar)
                send(node.b, _with(path, negation(node.condition)), bar)
            case Proxy():
                send(node.surrogate, path, bar)
            case AdjointMap():
                send(node.a, path, Apply(node.name, (bar, *node.args)))
            case Apply():
                for place, argument in enumerate(node.args):
                    if argument in live:
                        value = _pull(node, place, bar)
                        if value is not None:
                            send(argument, path, value)
    return {read: _once(g) for read, g in found.items()}


def _once(g: Guarded) -> Guarded:
    """Without tests of log-probabilities that another one answers."""

    def step(n: Scalar) -> Scalar:
        if not isinstance(n, And):
            return n
        return conjunction(c for c in n.args if not any(_is_more(d, c) for d in n.args))

    return Guarded(g.conditions, transform(g.value, step, {}))


def _is_more(known: Scalar, condition: Scalar) -> bool:
    """Whether -inf < max2(logaddexp(a, b), c) is asked beside -inf < max2(a, b): of probabilities, whether a sum is
    positive of which a part is. (Where c is NaN so are the value and, then, its derivative.)"""
    part, whole = _largest(known), _largest(condition)
    sums = [set(n.args) for n in whole if isinstance(n, Apply) and n.name == "logaddexp"]
    return bool(part) and set(part) in sums


def _largest(condition: Scalar) -> tuple[Scalar, ...]:
    """a and b of -inf < max2(a, b)."""
    if isinstance(condition, Compare) and condition.op == "<" and _minus_infinity(condition.a):
        if isinstance(condition.b, Apply) and condition.b.name == "max2":
            return condition.b.args
    return ()


def _minus_infinity(node: Scalar) -> bool:
    return isinstance(node, Const) and node.value == "-inf"


def _with(path: tuple[Scalar, ...], condition: Scalar) -> tuple[Scalar, ...]:
    extra = condition.args if isinstance(condition, And) else (condition,)
    return (*path, *(c for c in extra if c not in path))


def _pull(node: Apply, place: int, bar: Scalar) -> Scalar | None:
    """`bar` times the partial of `node` in one argument, sharing what the forward body computes."""
    args = node.args
    match node.name:
        case "add":
            return bar
        case "sub":
            return bar if place == 0 else neg(bar)
        case "neg":
            return neg(bar)
        case "mul":
            return mul(bar, args[1 - place])
        case "div":
            return div(bar, args[1]) if place == 0 else neg(mul(div(bar, args[1]), node))
    derivative = partial(node, place)
    if derivative is None:
        return None
    if isinstance(derivative, Apply) and derivative.name == "div" and derivative.args[0] is ONE:
        return div(bar, derivative.args[1])
    if isinstance(derivative, Select):
        return _pull_select(bar, derivative)
    return mul(bar, derivative)


def _pull_select(bar: Scalar, derivative: Select) -> Scalar:
    def times(branch: Scalar) -> Scalar:
        if branch is ZERO:
            return ZERO
        if isinstance(branch, Select):
            return _pull_select(bar, branch)
        if isinstance(branch, Apply) and branch.name == "div" and branch.args[0] is ONE:
            return div(bar, branch.args[1])
        return mul(bar, branch)

    if ZERO in (derivative.a, derivative.b):
        return select(derivative.condition, times(derivative.a), times(derivative.b))
    return mul(bar, derivative)


# ---------------------------------------------------------------------------------------------------- forward


def tangent(body: Scalar, of: Callable[[Read], Scalar | None]) -> Scalar | None:
    """The derivative of the body along tangents of its reads (`of`: None is zero); None if it is zero."""
    done: dict[Scalar, Scalar | None] = {}
    order = _order(body, lambda r: of(r) is not None)
    for node in reversed(order):
        match node:
            case Read():
                done[node] = of(node)
            case Select():
                a, b = done.get(node.a), done.get(node.b)
                done[node] = select(node.condition, ZERO if a is None else a, ZERO if b is None else b)
            case Proxy():
                done[node] = done.get(node.surrogate)
            case AdjointMap():
                done[node] = done.get(node.a)
            case Apply():
                terms = [
                    t
                    for place, a in enumerate(node.args)
                    if (dot := done.get(a)) is not None and (t := _pull(node, place, dot)) is not None
                ]
                done[node] = total(terms) if terms else None
    return done.get(body)


def scalar_derivative(node: Scalar, read: Read) -> Scalar:
    """The derivative of a scalar body with respect to one of its Read nodes, all other reads held fixed.

    The result is a Scalar over the same reads and indices; constant zero if the body does not depend on the read.
    Stop, Proxy and AdjointMap behave as in differentiation.
    """
    found = adjoints(node, ONE, lambda r: r is read)
    return found[read].scalar() if read in found else ZERO


def data_dependent(*nodes: Scalar) -> bool:
    """True if a real tensor is read below the nodes: their value may then be anything, NaN included."""
    return any(isinstance(n, Read) and n.dtype is REAL for n in postorder(*(n for n in nodes if n.tensors)))
