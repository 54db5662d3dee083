"""The scalar view: one element of a target as a function of one entry of one input, split at its kinks.

`view` inlines definitions until only inputs, parameters and what does not depend on the input are left, enumerates
inputs of finitely many values (`binary`, `sign`, `bool`), and replaces the largest subexpression that is affine in the
entry, and through which alone the entry is read, by a variable of its own. `split` takes every branch of conditions,
`abs`, `relu`, `max`, `min`, `clamp` that the enclosures do not decide, with the inequalities under which it is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lossdsl.dim import Dim
from lossdsl.ir.build.affine import NEGATED
from lossdsl.ir.nodes import (
    BOOL,
    FALSE,
    INT,
    REAL,
    TRUE,
    ZERO,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
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
    postorder,
    tensors_of,
)
from lossdsl.ir.rewrite import instantiate, map_item, map_scalars, substitute, transform
from lossdsl.verify.algebra import Field, TooLarge, power, sign, times
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.operations import truth
from lossdsl.verify.ranges import Ranges, Scope
from lossdsl.verify.show import text

_MOST_NODES = 3000
_MOST_PIECES = 24
VARIABLE = Read("$u", (), REAL)


class NotScalar(Exception):
    """The target is not a function of one entry of the input; the message says what stands in the way."""


TWO_VALUED: dict[str, tuple[int, int]] = {"binary": (0, 1), "bool": (0, 1), "sign": (-1, 1)}  # by the kind of an input


@dataclass(frozen=True)
class Piece:
    """A smooth branch: `body` where every constraint (a scalar) is >= 0."""

    body: Scalar
    constraints: tuple[Scalar, ...]
    path: tuple[tuple[Scalar, bool], ...]  # the surfaces that were decided on the way, and on which side
    scope: Scope = field(repr=False)  # in which the constraints are known


@dataclass
class View:
    """A case of the scalar view. `slope` is d(variable)/d(entry), free of the entry."""

    body: Scalar
    variable: Read
    slope: Scalar
    entry: Read
    inner: Scalar  # the subexpression that the variable stands for
    case: tuple[tuple[Scalar, Const], ...]  # the values of enumerated inputs and switches
    scope: Scope = field(repr=False)
    numbers: Mapping[Scalar, Scalar] = field(default_factory=dict, repr=False)  # leaves, and what they stand for
    memo: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    def shown(self, node: Scalar) -> str:
        """A scalar in the variable as text in the entry."""
        return text(substitute(substitute(node, self.numbers), {self.variable: self.inner}))

    def with_numbers(self) -> View:
        """The view with a leaf for each number that is computed from other things than the variable: of some, more is known
        than of a form in what they are made of (of `(i + 1/2) / size(i)`, that it is from 0 to 1)."""
        body, numbers = with_numbers(self.body, self.variable, self.scope)
        if not numbers:
            return self
        known = {**self.scope.known, **{leaf: self.scope[n] for leaf, n in numbers.items()}}
        scope = Scope(self.scope.ranges, self.scope.nonempty, known)
        return replace(self, body=body, scope=scope, numbers=numbers, memo={})

    @property
    def case_text(self) -> str:
        return ", ".join(said(n, c) for n, c in self.case)


def said(n: Scalar, c: Const) -> str:
    """What a case says of one of its parts."""
    if not isinstance(n, Compare):
        return f"{text(n)} is {c.value}"
    return text(n if c is TRUE else Compare(NEGATED[n.op], n.a, n.b))


def with_numbers(body: Scalar, variable: Scalar, scope: Scope) -> tuple[Scalar, dict[Scalar, Scalar]]:
    """The scalar with leaves in place of what is computed without the variable, and what they stand for; parameters alone
    stay, as branches depend on how they are related."""
    moves = {n for n in postorder(body) if n is variable or any(c is variable for c in postorder(n))}
    leaves: dict[Scalar, Scalar] = {}
    for n in postorder(body):
        for c in n.children if n in moves else ():
            computed = isinstance(c, (Apply, Select)) and any(isinstance(x, (Read, Index, Size)) for x in postorder(c))
            if computed and c.dtype is REAL and c not in moves and c not in leaves and scope[c].finite:
                leaves[c] = Read(f"${len(leaves)}", (), REAL)
    return substitute(body, leaves), {leaf: n for n, leaf in leaves.items()}


def depends(program: Program, name: str, on: str) -> bool:
    """Whether a tensor reads the input `on`, directly or through definitions."""
    return name in dependents(program, on)


def reads_any(tensors: Collection[str], *nodes: Scalar) -> bool:
    """Whether a scalar reads one of the tensors."""
    return any(t in tensors for t in tensors_of(nodes))


def dependents(program: Program, on: str) -> frozenset[str]:
    found = {on}
    for item in program.body:
        members = item.definitions if isinstance(item, Group) else (item,)
        for _ in members:
            for d in members:
                if reads_any(found, *d.scalars()):
                    found.add(d.tensor)
    return frozenset(found)


def inline(program: Program, node: Scalar, only: frozenset[str] | None = None) -> Scalar:
    """`node` with reads of `map` definitions replaced by their bodies, as far as definitions go."""
    plain = {d.tensor: _total(d) for d in program.body if not isinstance(d, Group) and d.head == "map"}
    memo: dict[Scalar, Scalar] = {}
    count = 0

    def step(n: Scalar) -> Scalar:
        nonlocal count
        if isinstance(n, Read) and n.tensor in plain and (only is None or n.tensor in only):
            count += 1
            if count > _MOST_NODES:
                raise NotScalar("too many definitions")
            return transform(instantiate(plain[n.tensor], n.indices), step, memo)
        return n

    return transform(node, step, memo)


def carriers(node: Scalar, varying: Collection[str]) -> Iterator[Scalar]:
    """Real scalars below the node without which it reads none of these tensors, the innermost first: it is a function of
    each. None if it reads none of them."""
    needed = frozenset(t for t in node.tensors if t in varying)
    for n in postorder(node) if needed else ():
        if n is not node and n.dtype is REAL and needed.issubset(n.tensors):
            if needed.isdisjoint(substitute(node, {n: VARIABLE}).tensors):
                yield n


def value_of(n: Scalar) -> Scalar:
    """Without what only declares a derivative."""
    return n.a if isinstance(n, (Stop, AdjointMap)) else n.value if isinstance(n, Proxy) else n


def plain(n: Scalar) -> Scalar:
    """Exponentials of differences, and their logarithms, by the differences: one quantity that all of them vary through."""
    if not isinstance(n, Apply):
        return n
    if n.name == "expdiff":
        return Apply("exp", (Apply("sub", n.args),))
    if n.name == "xlogy":
        b = n.args[1]
        return Apply("mul", (n.args[0], b.args[0])) if isinstance(b, Apply) and b.name == "exp" else n
    if n.name == "log" and isinstance(n.args[0], Apply) and n.args[0].name == "exp":
        return n.args[0].args[0]
    return n


def of_values(program: Program) -> Program:
    """The program without what only declares derivatives."""
    memo: dict[Scalar, Scalar] = {}
    return program.with_body(
        tuple(map_item(i, lambda d: map_scalars(d, lambda s: transform(s, value_of, memo))) for i in program.body)
    )


def square_root(n: Scalar) -> Scalar | None:
    """Of what `n` is the square."""
    if not isinstance(n, Apply):
        return None
    if n.name == "mul" and n.args[0] is n.args[1]:
        return n.args[0]
    two = n.name in ("pow", "powi") and isinstance(n.args[1], Const) and n.args[1].value == 2
    return n.args[0] if two else None


def target_scalar(program: Program, target: str) -> Scalar:
    """One element of the target, at indices named as its formals."""
    definition = program.definition(target)
    if definition is None or definition.head != "map":
        raise NotScalar(f"{target} is a reduction")
    return inline(program, _total(definition).body)


def _total(d: Definition) -> Definition:
    """The definition with its support written into the body."""
    return d if d.support is TRUE else replace(d, support=TRUE, body=Select(d.support, d.body, ZERO))


def views(program: Program, ranges: Ranges, target: str, entry: str, body: Scalar | None = None) -> list[View]:
    """The scalar views of the target in the input, one for each case of enumerated inputs. Raises NotScalar."""
    whole = target_scalar(program, target) if body is None else inline(program, body)
    above = dependents(program, entry)
    reads = {n for n in postorder(whole) if isinstance(n, Read) and n.tensor in above}
    own = [r for r in reads if r.tensor == entry]
    other = sorted(r.tensor for r in reads if r.tensor != entry)
    if other:
        raise NotScalar(f"{other[0]} couples several entries of {entry}")
    if len(own) != 1:
        raise NotScalar(f"{entry} is read at {len(own)} places")
    for n in postorder(whole):
        if isinstance(n, (Stop, Proxy, AdjointMap)) and contains(n, own[0]):
            raise NotScalar("a value whose derivative is declared apart from it")
    definition = program.definition(target)
    nonempty = frozenset(definition.dims) if definition is not None else frozenset()
    return cased(program, ranges, nonempty, whole, own[0])


def cased(
    program: Program,
    ranges: Ranges,
    nonempty: frozenset[Dim],
    whole: Scalar,
    entry: Read,
    known: Mapping[Scalar, Enclosure] | None = None,
) -> list[View]:
    """The views of a scalar in what it reads at one place, `known` enclosing further leaves. Raises NotScalar."""
    given = dict(known or {})
    scope = Scope(ranges, nonempty, given) if given else ranges.scope(nonempty)
    result = []
    for case in _cases(program, scope, whole, entry):
        fixed = fold(substitute(whole, dict(case)), scope)
        values = {n: scope_value(c) for n, c in case if not isinstance(n, Compare)}
        inner: Scope | None = Scope(ranges, nonempty, {**given, **values})
        for n, c in case:
            if isinstance(n, Compare) and inner is not None:
                inner = inner.under(n, c is TRUE)
        if inner is not None:
            result.append(_cut(fixed, entry, case, inner))
    return result


def scope_value(c: Const) -> Enclosure:
    assert not isinstance(c.value, str)
    return Enclosure(float(c.value), float(c.value))


def _cases(program: Program, scope: Scope, whole: Scalar, entry: Scalar) -> Iterator[tuple[tuple[Scalar, Const], ...]]:
    """What enumerated inputs, switches and equalities may be; numbers that differ do so one way or the other."""
    choices: list[list[tuple[tuple[Scalar, Const], ...]]] = []
    for n in postorder(whole):
        values: tuple[int, ...] = ()
        if isinstance(n, Read):
            declared = program.input(n.tensor)
            kind = declared.kind if declared is not None else ""
            values = TWO_VALUED.get(kind, ())
        elif isinstance(n, Param):
            parameter = next((p for p in program.parameters if p.name == n.name), None)
            values = (0, 1) if parameter is not None and parameter.kind == "bool" else ()
        if values:
            box = scope[n]
            allowed = [v for v in values if box.lo <= v <= box.hi]
            choices.append([((n, Const(v, n.dtype)),) for v in allowed])
        elif isinstance(n, Compare) and n.op in ("==", "!=") and not contains(n, entry) and truth(scope[n]) is None:
            same, other = (TRUE, FALSE) if n.op == "==" else (FALSE, TRUE)
            ways = [((Compare(op, n.a, n.b), TRUE),) for op in ("<", ">")] if n.a.dtype is REAL else [()]
            choices.append([((n, same),), *(((n, other), *way) for way in ways)])
    if len(choices) > 5:
        raise NotScalar("more than five inputs of two values")
    for chosen in itertools.product(*choices):
        yield tuple(itertools.chain.from_iterable(chosen))


def fold(node: Scalar, scope: Scope | None = None) -> Scalar:
    """Exact constant folding, and selections whose condition is decided. Only identities of real arithmetic at defined
    values: 1 * x, x + 0, x - 0, and operations of rational constants."""

    def step(n: Scalar) -> Scalar:
        found = fold_top(n)
        decided = truth(scope[found.condition]) if scope is not None and isinstance(found, Select) else None
        return found if decided is None or not isinstance(found, Select) else found.a if decided else found.b

    return transform(node, step)


def fold_top(n: Scalar) -> Scalar:
    """As `fold`, of a scalar whose parts are folded."""
    if isinstance(n, Apply) and all(_is_number(a) for a in n.args):
        v = [a.value for a in n.args if isinstance(a, Const) and not isinstance(a.value, str)]
        match n.name:
            case "add":
                return Const(v[0] + v[1], n.dtype)
            case "sub":
                return Const(v[0] - v[1], n.dtype)
            case "mul":
                return Const(v[0] * v[1], n.dtype)
            case "neg":
                return Const(-v[0], n.dtype)
            case "real" | "int":
                return Const(v[0], n.dtype)
            case "abs":
                return Const(abs(v[0]), n.dtype)
            case "max2" | "min2":
                return Const((max if n.name == "max2" else min)(v[0], v[1]), n.dtype)
            case "div" if v[1] != 0:
                return Const(v[0] / v[1], n.dtype)
    if isinstance(n, Apply) and n.name == "clamp":
        return Apply("min2", (Apply("max2", n.args[:2]), n.args[2]))
    if isinstance(n, Apply) and n.name in ("mul", "add", "sub") and n.dtype is REAL:
        a, b = n.args
        one = Const(1 if n.name == "mul" else 0)
        if b is one:
            return a
        if a is one and n.name != "sub":
            return b
    if isinstance(n, Apply) and n.name == "sqrt":
        root = _square_root(n.args[0])
        if root is not None:
            return root
    if isinstance(n, Compare) and _is_number(n.a) and _is_number(n.b):
        a, b = n.a.value, n.b.value  # type: ignore[attr-defined]
        holds = {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[n.op]
        return TRUE if holds else FALSE
    if isinstance(n, Not) and n.a in (TRUE, FALSE):
        return FALSE if n.a is TRUE else TRUE
    if isinstance(n, (And, Or)):
        stop, skip = (FALSE, TRUE) if isinstance(n, And) else (TRUE, FALSE)
        if stop in n.args:
            return stop
        rest = tuple(a for a in n.args if a is not skip)
        if len(rest) < 2:
            return rest[0] if rest else skip
        return type(n)(rest)
    if isinstance(n, Select):
        if n.condition in (TRUE, FALSE):
            return n.a if n.condition is TRUE else n.b
        if n.a is n.b:
            return n.a
    return n


def _is_number(n: Scalar) -> bool:
    return isinstance(n, Const) and not isinstance(n.value, str)


def _square_root(node: Scalar) -> Scalar | None:
    """|a| for the square of a."""
    if not isinstance(node, Apply) or len(node.args) != 2 or node.args[0].dtype is not REAL:
        return None
    a, b = node.args
    if node.name == "mul" and a is b:
        return Apply("abs", (a,))
    if node.name in ("pow", "powi") and isinstance(b, Const) and b.value == 2:
        return Apply("abs", (a,))
    return None


def contains(node: Scalar, leaf: Scalar) -> bool:
    if isinstance(leaf, Read) and leaf.tensor not in node.tensors:
        return False
    return any(n is leaf for n in postorder(node))


def affine_slope(node: Scalar, leaf: Scalar) -> Scalar | None:
    """d node / d leaf if the node is affine in the leaf, with a slope that is free of it; else None."""
    slopes: dict[Scalar, Scalar | None] = {}
    for n in postorder(node):
        slopes[n] = _slope(n, leaf, slopes)
    return slopes[node]


def _slope(n: Scalar, leaf: Scalar, slopes: dict[Scalar, Scalar | None]) -> Scalar | None:
    if n is leaf:
        return Const(1)
    if not any(slopes.get(c) is not ZERO for c in n.children):
        return ZERO
    if not isinstance(n, Apply):
        return None
    inner = [slopes[a] for a in n.args]
    if any(s is None for s in inner):
        return None
    s = [x for x in inner if x is not None]
    match n.name:
        case "add" | "sub":
            return fold(Apply(n.name, (s[0], s[1])))
        case "neg":
            return fold(Apply("neg", (s[0],)))
        case "real":
            return s[0]
        case "mul" if s[0] is ZERO or s[1] is ZERO:
            outer, inner_slope = (n.args[0], s[1]) if s[0] is ZERO else (n.args[1], s[0])
            return fold(Apply("mul", (outer, inner_slope)))
        case "div" if s[1] is ZERO:
            return fold(Apply("div", (s[0], n.args[1])))
    return None


def _cut(body: Scalar, entry: Read, case: tuple[tuple[Scalar, Const], ...], scope: Scope) -> View:
    best, slope = entry, Const(1)
    node: Scalar = entry
    chosen: Scalar = node
    chosen_slope: Scalar = slope
    for n in postorder(body):
        if n.dtype is not REAL or n is body or not contains(n, entry):
            continue
        s = affine_slope(n, entry)
        if s is None or not scope[s].nonzero or not scope[n].finite:
            continue
        if not contains(substitute(body, {n: VARIABLE}), entry):
            chosen, chosen_slope = n, s
    replaced = substitute(body, {chosen: VARIABLE})
    known = dict(scope.known)
    known[VARIABLE] = scope[chosen]
    return View(replaced, VARIABLE, chosen_slope, best, chosen, case, Scope(scope.ranges, scope.nonempty, known))


# ---------------------------------------------------------------------------------------------------- splitting


def split(body: Scalar, scope: Scope) -> list[Piece]:
    """All smooth branches. Raises NotScalar if a kink is of a kind that cannot be split."""
    pieces: list[Piece] = []
    surfaces = Field(scope)
    pending: list[tuple[Scalar, tuple[Scalar, ...], tuple[tuple[Scalar, bool], ...], Scope]] = [(body, (), (), scope)]
    while pending:
        node, constraints, path, here = pending.pop()
        found = _first_kink(node, here)
        if found is None:
            pieces.append(Piece(node, constraints, path, here))
            if len(pieces) + len(pending) > _MOST_PIECES:
                raise NotScalar("too many pieces")
            continue
        where, surface, upper, lower = found
        sides = ((True, upper), (False, lower))
        known_side = _decided(surface, path, surfaces) if not isinstance(where, Compare) else None
        if known_side is not None:  # a continuous kink on a surface taken before: both formulas agree on it
            branch = fold(substitute(node, {where: upper if known_side else lower}))
            pending.append((branch, constraints, path, here))
            continue
        for side, replacement in sides:
            condition = Compare(">=" if side else "<=", surface, ZERO)
            narrowed = here.under(condition, True)
            if narrowed is None:
                continue
            branch = fold(substitute(node, {where: replacement}))
            signed = surface if side else Apply("neg", (surface,))
            pending.append((branch, (*constraints, signed), (*path, (surface, side)), narrowed))
    return pieces


def _decided(surface: Scalar, path: tuple[tuple[Scalar, bool], ...], field: Field) -> bool | None:
    """The side of a surface that the path has taken, as the surface itself or as a multiple of it by a factor whose
    sign is certain: `-x`, `2 * x` and `x / delta` change sign with `x`."""
    for taken, side in path:
        if taken is surface:
            return side
        try:
            ratio = sign(field, times(field.form(surface), power(field.form(taken), -1)))
        except TooLarge:
            continue
        if ratio.nonzero:
            return side == ratio.positive
    return None


def _first_kink(node: Scalar, scope: Scope) -> tuple[Scalar, Scalar, Scalar, Scalar] | None:
    """(node to replace, surface, its replacement where surface >= 0, where <= 0) of an innermost kink.

    Conditions before corners: a corner on a surface that a condition has decided needs no further split, but a
    condition on the surface of a corner would."""
    first: tuple[Scalar, Scalar, Scalar, Scalar] | None = None
    rough: set[Scalar] = set()  # what contains a corner
    for n in postorder(node):
        inside = any(c in rough for c in n.children)
        if inside:
            rough.add(n)
        if isinstance(n, Compare) and n.a.dtype is not BOOL:
            if n.op not in (">", ">=", "<", "<="):
                raise NotScalar(f"a branch on the equality {n.op}")
            if inside:
                continue
            surface = fold(Apply("sub", (_real(n.a), _real(n.b))))
            return (n, surface, TRUE, FALSE) if n.op in (">", ">=") else (n, surface, FALSE, TRUE)
        if isinstance(n, (Proxy, AdjointMap)):
            raise NotScalar("a surrogate derivative")
        if isinstance(n, Apply) and (n.name in ("floor", "ceil") or (n.name == "sign" and n.dtype is REAL)):
            raise NotScalar(f"{n.name} jumps")
        if isinstance(n, Read) and n.dtype is BOOL:
            raise NotScalar(f"a branch on {n.tensor}")
        if isinstance(n, Apply) and n.dtype is REAL and n.name in ("abs", "relu", "max2", "min2"):
            rough.add(n)
            if first is None:
                first = _corner(n)
    return first


def _corner(n: Apply) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    a = n.args[0]
    match n.name:
        case "abs":
            return n, a, a, Apply("neg", (a,))
        case "relu":
            return n, a, a, ZERO
    a, b = n.args if n.args[0] is not ZERO else n.args[::-1]
    above, below = (a, b) if n.name == "max2" else (b, a)
    return n, fold_top(Apply("sub", (a, b))), above, below  # against 0 it is the other one, of which more is known


def _real(n: Scalar) -> Scalar:
    return n if n.dtype is not INT else Apply("real", (n,))


__all__ = [
    "TWO_VALUED",
    "NotScalar",
    "Piece",
    "View",
    "contains",
    "depends",
    "fold",
    "inline",
    "said",
    "split",
    "truth",
    "views",
]
