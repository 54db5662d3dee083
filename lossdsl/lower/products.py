"""Sums that are not loops of a kernel: contractions (a library's matrix product) and selections (a scatter)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lossdsl.dim import Dim
from lossdsl.ir.check import readable
from lossdsl.ir.nodes import (
    ONE,
    REAL,
    TRUE,
    ZERO,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Read,
    Scalar,
    Select,
    Stop,
)
from lossdsl.ir.rewrite import Fresh, canonical, free_indices, reads, substitute


@dataclass(frozen=True)
class Contraction:
    """A definition that is one `contract` call: the sum over its bound indices of the product of two tensors."""

    definition: Definition
    operands: tuple[tuple[str, tuple[Index, ...]], tuple[str, tuple[Index, ...]]]


@dataclass(frozen=True)
class Selection:
    """`T[.., a, ..] = sum b where t[b] == a . body`: combined over `space`, where `guard` holds, at the `targets`:
    what stands for each of the formals that an equation determines, by its place."""

    definition: Definition
    targets: Mapping[int, Scalar]
    space: tuple[Index, ...]
    guard: Scalar
    body: Scalar
    combine: str


def conjuncts(condition: Scalar) -> tuple[Scalar, ...]:
    """The conditions of a conjunction, in order; none for TRUE."""
    if condition is TRUE:
        return ()
    if isinstance(condition, And):
        return tuple(c for a in condition.args for c in conjuncts(a))
    return (condition,)


def conjunction(parts: Iterable[Scalar]) -> Scalar:
    kept = tuple(dict.fromkeys(p for p in parts if p is not TRUE))
    if not kept:
        return TRUE
    return kept[0] if len(kept) == 1 else And(kept)


def selection(d: Definition) -> Selection | None:
    """The scatter form of a sum, max or min over data-dependent equations of its formals, if it is one."""
    if d.head not in ("sum", "max", "min") or d.dtype is not REAL:
        return None
    rest: list[Scalar] = []
    targets: dict[Scalar, Scalar] = {}
    for part in conjuncts(d.where):
        found = _target(part, d, targets)
        if found is None:
            rest.append(part)
        else:
            targets[found[0]] = found[1]
    if not targets:
        return None
    guard = substitute(conjunction([*rest, *conjuncts(d.support)]), targets)
    space = (*(f for f in d.formals if f not in targets), *d.bound)
    places = {k: targets[f] for k, f in enumerate(d.formals) if f in targets}
    return Selection(d, places, space, guard, substitute(d.body, targets), d.head)


def _target(part: Scalar, d: Definition, taken: Mapping[Scalar, Scalar]) -> tuple[Index, Scalar] | None:
    """A formal and what an equation says that it is: data that depends on what is summed over."""
    if not isinstance(part, Compare) or part.op != "==":
        return None
    for formal, target in ((part.a, part.b), (part.b, part.a)):
        if not isinstance(formal, Index) or formal not in d.formals or not any(True for _ in reads(target)):
            continue
        inside = set(free_indices(target))
        apart = formal not in inside and not inside & set(taken) and formal not in free_indices(*taken.values())
        if formal not in taken and apart and inside & set(d.bound):
            return formal, target
    return None


# --------------------------------------------------------------------------------------------------- contractions


LONG = 64


@dataclass(frozen=True)
class Factor:
    node: Scalar
    inverse: bool


Shapes = Mapping[str, tuple[Dim, ...]]


def contractions(
    definitions: Iterable[Definition], shapes: Shapes, signed: Collection[str], fresh: Fresh
) -> tuple[list[Definition], dict[str, Contraction], list[str]]:
    """Definitions with every contraction isolated in one of its own, the contractions by tensor, and the decisions."""
    definitions = list(definitions)
    shapes = {**shapes, **{d.tensor: d.dims for d in definitions}}
    tensors = {d.tensor for d in definitions}
    known: dict[object, str] = {}
    out: list[Definition] = []
    found: dict[str, Contraction] = {}
    why: list[str] = []
    for d in definitions:
        if d.head != "sum" or d.dtype is not REAL or not any(_long(b) for b in d.bound):
            out.append(d)
            continue
        inner, switch = _hoisted(d)
        summands = terms(inner.body)
        split = [_split(replace(inner, body=t)) for t in summands]
        outside = (*conjuncts(d.support), *conjuncts(switch))
        split = [s and s.guarded(outside, shapes, signed) for s in split]
        if len(summands) > 1 and any(s is None for s in split):
            out.append(d)
            continue
        if all(s is None for s in split):
            out.append(d)
            continue
        parts: list[Scalar] = []
        for s in split:
            assert s is not None
            s = s.scaled(tensors, shapes)
            whole = len(split) == 1 and not s.outer and d.support is TRUE and switch is TRUE
            name = d.tensor if whole else fresh(d.tensor + ".product")
            made, contraction, value = s.build(name, shapes, fresh, known)
            out.extend(made)
            out.append(contraction.definition)
            found[name] = contraction
            if not whole:
                parts.append(value)
            (a, ai), (b, bi) = contraction.operands
            axes = ", ".join(i.name for i in d.bound)
            symbolic = any(i.dim.constant is None for i in d.bound)
            why.append(
                f"{name} is a library product of {a}[{_list(ai)}] and {b}[{_list(bi)}]: "
                f"the sum over {axes} has free axes of both, and {'a symbolic extent' if symbolic else 'many entries'}"
            )
        if parts:
            total = _sum(parts)
            body = total if switch is TRUE else Select(switch, total, ZERO)
            out.append(replace(d, head="map", bound=(), where=TRUE, body=body))
    return out, found, why


def _long(index: Index) -> bool:
    """Whether a sum along an index is worth a product: of a few entries it is a few operations of the kernel that reads it."""
    return index.dim.constant is None or index.dim.constant >= LONG


def _hoisted(d: Definition) -> tuple[Definition, Scalar]:
    """The sum without the conditions that do not depend on its bound indices, and those: where they fail it is 0."""
    parts, body = list(conjuncts(d.where)), d.body
    while isinstance(body, Select) and body.b is ZERO:
        parts += conjuncts(body.condition)
        body = body.a
    bound = set(d.bound)
    kept = [p for p in parts if bound & set(free_indices(p))]
    return replace(d, where=conjunction(kept), body=body), conjunction(p for p in parts if p not in kept)


def _sum(parts: list[Scalar]) -> Scalar:
    body = parts[0]
    for p in parts[1:]:
        body = Apply("add", (body, p))
    return body


def _list(indices: Iterable[Index]) -> str:
    return ", ".join(i.name for i in indices)


def terms(body: Scalar) -> list[Scalar]:
    """The summands of a body: a sum over them is the sum of their sums."""
    if isinstance(body, Apply) and body.name == "add":
        return [*terms(body.args[0]), *terms(body.args[1])]
    if isinstance(body, Apply) and body.name == "sub":
        return [*terms(body.args[0]), *(Apply("neg", (t,)) for t in terms(body.args[1]))]
    return [body]


def factors(node: Scalar, inverse: bool = False) -> list[Factor]:
    if isinstance(node, Stop):  # of a product, the product of the stopped factors
        return [f if isinstance(f.node, Const) else Factor(Stop(f.node), f.inverse) for f in factors(node.a, inverse)]
    if isinstance(node, Apply) and node.name == "mul":
        return factors(node.args[0], inverse) + factors(node.args[1], inverse)
    if isinstance(node, Apply) and node.name == "div":
        return factors(node.args[0], inverse) + factors(node.args[1], not inverse)
    if isinstance(node, Apply) and node.name == "neg":
        return [Factor(Const(-1), False), *factors(node.args[0], inverse)]
    return [] if node is ONE else [Factor(node, inverse)]


def product(parts: Iterable[Factor]) -> Scalar:
    value: Scalar | None = None
    below: list[Scalar] = []
    for f in parts:
        if f.inverse:
            below.append(f.node)
        elif value is None:
            value = f.node
        else:
            value = Apply("mul", (value, f.node))
    result = ONE if value is None else value
    for b in below:
        result = Apply("div", (result, b))
    return result


@dataclass(frozen=True)
class _Split:
    definition: Definition
    sides: tuple[tuple[Factor, ...], tuple[Factor, ...]]
    axes: tuple[tuple[Index, ...], tuple[Index, ...]]
    outer: tuple[Factor, ...]
    wheres: tuple[Scalar, Scalar]

    def guarded(self, conditions: Sequence[Scalar], shapes: Shapes, signed: Collection[str]) -> _Split | None:
        """With the conditions around the sum, which its operands are made without, where these need them to read what there
        is; None if that is not enough."""
        wheres: list[Scalar] = []
        for factors, axes, where in zip(self.sides, self.axes, self.wheres, strict=True):
            value = product(factors)
            own = tuple(c for c in conditions if set(free_indices(c)) <= set(axes))
            for w in (where, conjunction((*own, where))):
                if readable(value if w is TRUE else Select(w, value, ZERO), shapes, axes, signed):
                    wheres.append(w)
                    break
            else:
                return None
        return replace(self, wheres=(wheres[0], wheres[1]))

    def scaled(self, tensors: set[str], shapes: Shapes) -> _Split:
        """Scalar factors beside a side that some kernel makes anyway: one operation there, instead of a pass over the
        product."""
        scalars = tuple(f for f in self.outer if not free_indices(f.node))
        if not scalars:
            return self
        for k in (0, 1):
            plain = _whole(product(self.sides[k]), shapes) if self.wheres[k] is TRUE else None
            if plain is None or plain[0] in tensors:
                sides = list(self.sides)
                sides[k] = (*sides[k], *scalars)
                outer = tuple(f for f in self.outer if f not in scalars)
                return replace(self, sides=(sides[0], sides[1]), outer=outer)
        return self

    def build(
        self, name: str, shapes: Shapes, fresh: Fresh, known: dict[object, str]
    ) -> tuple[list[Definition], Contraction, Scalar]:
        d = self.definition
        made: list[Definition] = []
        operands: list[tuple[str, tuple[Index, ...]]] = []
        for factors, axes, where in zip(self.sides, self.axes, self.wheres):
            value = product(factors)
            plain = _whole(value, shapes) if where is TRUE else None
            if plain is None:
                axes = next((p[1] for f in factors if (p := _plain(f.node)) and set(p[1]) == set(axes)), axes)
                body = value if where is TRUE else Select(where, value, ZERO)
                side = Definition(d.tensor + ".operand", axes, "map", (), TRUE, body, origin=d.origin)
                key = canonical(side)
                if key not in known:
                    known[key] = fresh(side.tensor)
                    made.append(replace(side, tensor=known[key]))
                plain = (known[key], axes)
            operands.append(plain)
        body = Apply("mul", tuple(Read(t, i, REAL) for t, i in operands))
        contraction = replace(d, tensor=name, where=TRUE, body=body, support=TRUE, comment=None)
        value = product([Factor(Read(name, d.formals, REAL), False), *self.outer])
        return made, Contraction(contraction, (operands[0], operands[1])), value


def _plain(node: Scalar) -> tuple[str, tuple[Index, ...]] | None:
    if isinstance(node, Read):
        indices = tuple(i for i in node.indices if isinstance(i, Index))
        if len(indices) == len(node.indices) == len(set(indices)):
            return node.tensor, indices
    return None


def _whole(node: Scalar, shapes: Shapes) -> tuple[str, tuple[Index, ...]] | None:
    """A plain read of all of a tensor: a library's product takes no part of one (`x[t]` where t ends before x does)."""
    found = _plain(node)
    return found if found is not None and tuple(i.dim for i in found[1]) == shapes.get(found[0]) else None


def _split(d: Definition) -> _Split | None:
    """Factors on two sides with free axes of their own; None if the sum is no contraction."""
    bound, formals = set(d.bound), set(d.formals)
    inner: list[tuple[Factor, set[Index]]] = []
    outer: list[Factor] = []
    for f in factors(d.body):
        axes = set(free_indices(f.node))
        if axes & bound:
            inner.append((f, axes))
        else:
            outer.append(f)
    wheres = conjuncts(d.where)
    free = [axes & formals for _, axes in inner if axes & formals]
    if len(free) < 2:
        return None
    batch = set.intersection(*free)
    groups: list[set[Index]] = []
    for axes in free:
        own = axes - batch
        if not own:
            return None
        touching = [g for g in groups if g & own]
        groups = [g for g in groups if not g & own] + [own.union(*touching)]
    if len(groups) != 2:
        return None
    order: Callable[[set[Index]], int] = lambda g: min(d.formals.index(i) for i in g)  # noqa: E731
    left, right = sorted(groups, key=order)
    sides: tuple[list[Factor], list[Factor]] = ([], [])
    for f, axes in inner:
        if axes & left:
            sides[0].append(f)
        elif axes & right:
            sides[1].append(f)
    for f, axes in inner:
        if not axes & (left | right):  # only bound or batch axes: beside the side that is a tensor of its own anyway
            heavy = 0 if len(sides[0]) >= len(sides[1]) else 1
            sides[heavy].append(f)
    reach = [set().union(*(set(free_indices(f.node)) for f in s)) for s in sides]
    masks: list[list[Scalar]] = [[], []]
    for w in wheres:
        # A mask goes on both sides: on one alone, an excluded inf or nan of the other would leak through 0 * inf.
        if not set(free_indices(w)) <= reach[0] & reach[1]:
            return None
        masks[0].append(w)
        masks[1].append(w)
    if any(b not in reach[0] or b not in reach[1] for b in bound):
        return None
    every = (*d.formals, *d.bound)
    axes_of = tuple(tuple(i for i in every if i in r) for r in reach)
    used = set().union(*reach)
    if not formals <= used:
        return None
    return _Split(
        d,
        (tuple(sides[0]), tuple(sides[1])),
        (axes_of[0], axes_of[1]),
        tuple(outer),
        (conjunction(masks[0]), conjunction(masks[1])),
    )
