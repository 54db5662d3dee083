"""Local rewrites that change neither value, nor derivative, nor where something is defined.

Constants are folded, units dropped, selections of one condition joined; maps that only pass something on are put in
their readers; equal definitions become one; what nothing needs goes. `0 * x` stays: its value at x = inf is a fact
about the loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.dim import Dim
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
    Read,
    Scalar,
    Select,
    Size,
    postorder,
    tensors_of,
)
from lossdsl.ir.rewrite import canonical, cse, instantiate, map_item, map_scalars, prune, reads, roots, transform
from lossdsl.transform.arithmetic import conjunction, conjuncts, disjunction, negation
from lossdsl.transform.differentiate import facts_of
from lossdsl.transform.eliminate import normal_indices
from lossdsl.transform.sums import reduce_sums

_BITS = 256  # exact constants grow no further


def simplify(program: Program) -> Program:
    """The same program, smaller; a fixed point of the rules (at most eight rounds)."""
    for _ in range(8):
        memo: dict[Scalar, Scalar] = {}

        def scalars(d: Definition, memo: dict[Scalar, Scalar] = memo) -> Definition:
            return map_scalars(d, lambda s: transform(s, simple, memo))

        body = tuple(map_item(item, scalars) for item in program.body)
        inlined = inline(program.with_body(body))
        after = prune(_opposites(cse(reduce_sums(inlined, facts_of(inlined)))))
        if after == program:
            return after
        program = after
    return program


def with_defaults(program: Program, absent: Iterable[str]) -> Program:
    """The program simplified for calls without these optional inputs: each is its default everywhere. The inputs stay
    declared. Raises ValueError for one that has no default."""
    given = defaulted(program, absent)
    return program if given is program else simplify(given)


def defaulted(program: Program, absent: Iterable[str]) -> Program:
    """The program with the defaults of these inputs in their place, and nothing else changed. Raises ValueError for
    one that has no default."""
    constants: dict[str, Const] = {}
    for name in absent:
        entry = program.input(name)
        if entry is None or entry.default is None:
            raise ValueError(f"{name} has no default, so it cannot be absent")
        constants[name] = entry.default
    if not constants:
        return program
    memo: dict[Scalar, Scalar] = {}

    shapes = {i.name: i.dims for i in program.inputs} | {d.tensor: d.dims for d in program.definitions()}

    def guarded(node: Scalar) -> Scalar:
        by_default = isinstance(node, Read) and node.tensor not in constants and reads_of(*node.indices)
        return _where_it_is(node, shapes[node.tensor]) if isinstance(node, Read) and by_default else node

    def reads_of(*nodes: Scalar) -> bool:
        return any(t in constants for t in tensors_of(nodes))

    def step(node: Scalar) -> Scalar:
        return constants.get(node.tensor, node) if isinstance(node, Read) else node

    first: dict[Scalar, Scalar] = {}

    def over(d: Definition) -> Definition:
        return map_scalars(d, lambda s: transform(transform(s, guarded, first), step, memo))

    return program.with_body(tuple(map_item(item, over) for item in program.body))


def _where_it_is(read: Read, dims: tuple[Dim, ...]) -> Scalar:
    """A read at places that a default says: by data they would be clamped, numbers have to be in range."""
    inside: list[Scalar] = []
    for index, dim in zip(read.indices, dims, strict=True):
        if not isinstance(index, Index):
            inside += [Compare("<=", Const(0, INT), index), Compare("<", index, Size(dim))]
    return Select(And(tuple(inside)), read, Const("nan") if read.dtype is REAL else Const(0, read.dtype))


def _opposites(program: Program) -> Program:
    """A map that is the negative of an earlier one reads it."""
    known: dict[object, str] = {}
    body: list[Definition | Group] = []
    for item in program.body:
        if isinstance(item, Definition) and item.head == "map":
            if isinstance(item.body, Apply) and item.body.name == "neg" and not isinstance(item.body.args[0], Read):
                other = known.get(canonical(replace(item, body=item.body.args[0])))
                if other is not None:
                    item = replace(item, body=Apply("neg", (Read(other, item.formals, item.dtype),)))
            known.setdefault(canonical(item), item.tensor)
        body.append(item)
    return program.with_body(tuple(body))


# --------------------------------------------------------------------------------------------------- one node


def simple(node: Scalar) -> Scalar:
    """One step of simplification at a node whose children are simple already."""
    match node:
        case Apply():
            return _apply(node)
        case Select():
            return _select(node.condition, node.a, node.b)
        case Compare():
            return _compare(node)
        case And():
            return conjunction(_under(node.args[:k], c) for k, c in enumerate(node.args))
        case Or():
            return disjunction(node.args)
        case Not():
            return negation(node.a)
    return node


def _under(known: Sequence[Scalar], node: Scalar) -> Scalar:
    """The node where the conditions hold: no selection by one of them is left in it."""

    def step(n: Scalar) -> Scalar:
        if not isinstance(n, Select):
            return n
        rest = [c for c in conjuncts(n.condition) if c not in known]
        return n if len(rest) == len(conjuncts(n.condition)) else _select(conjunction(rest), n.a, n.b)

    repeats = (isinstance(n, Select) and any(c in known for c in conjuncts(n.condition)) for n in postorder(node))
    return transform(node, step, {}) if any(repeats) else node


def _number(node: Scalar) -> Fraction | None:
    if isinstance(node, Const) and isinstance(node.value, Fraction) and node.dtype is not BOOL:
        return node.value
    return None


def _short(value: Fraction) -> bool:
    return value.numerator.bit_length() <= _BITS and value.denominator.bit_length() <= _BITS


def _apply(node: Apply) -> Scalar:
    name, args = node.name, node.args
    if node.dtype is INT:
        if name in ("add", "sub", "neg"):
            return normal_indices(node)
        if name == "mul" and any(_number(a) == 1 for a in args):
            return args[1] if _number(args[0]) == 1 else args[0]
        return node
    if name == "real" and isinstance(args[0], Const):
        return Const(args[0].value, REAL)
    folded = _fold(name, [_number(a) for a in args])
    if folded is not None and _short(folded):
        return Const(folded)
    match name:
        case "add":
            return _add(*args)
        case "sub":
            return _sub(*args)
        case "mul":
            return _mul(*args)
        case "div":
            return _div(*args)
        case "neg":
            return _neg(args[0])
    return node


def _fold(name: str, values: list[Fraction | None]) -> Fraction | None:
    known = [v for v in values if v is not None]
    if len(known) != len(values):
        return None
    match name:
        case "add":
            return known[0] + known[1]
        case "sub":
            return known[0] - known[1]
        case "mul":
            return known[0] * known[1]
        case "neg":
            return -known[0]
        case "div" if known[1] != 0:
            return known[0] / known[1]
    return None


def _neg(a: Scalar) -> Scalar:
    if isinstance(a, Apply) and a.name == "neg":
        return a.args[0]
    if isinstance(a, Apply) and a.name == "sub":
        return Apply("sub", (a.args[1], a.args[0]))
    return Apply("neg", (a,))


def _add(a: Scalar, b: Scalar) -> Scalar:
    if a is ZERO:
        return b
    if b is ZERO:
        return a
    if isinstance(b, Apply) and b.name == "neg":
        return _sub(a, b.args[0])
    if isinstance(a, Apply) and a.name == "neg":
        return _sub(b, a.args[0])
    joined = _join("add", a, b)
    return joined if joined is not None else Apply("add", (a, b))


def _sub(a: Scalar, b: Scalar) -> Scalar:
    if b is ZERO:
        return a
    if a is ZERO:
        return _neg(b)
    if isinstance(b, Apply) and b.name == "neg":
        return _add(a, b.args[0])
    joined = _join("sub", a, b)
    return joined if joined is not None else Apply("sub", (a, b))


def _join(name: str, a: Scalar, b: Scalar) -> Scalar | None:
    """Two selections of one condition, with a zero in each: one selection of the sums."""
    if not (isinstance(a, Select) and isinstance(b, Select)):
        return None
    if a.condition is b.condition:
        left, right = b.a, b.b
    elif negation(a.condition) is b.condition or negation(b.condition) is a.condition:
        left, right = b.b, b.a
    else:
        return None
    if ZERO not in (a.a, left) or ZERO not in (a.b, right):
        return None
    build = _add if name == "add" else _sub
    return _select(a.condition, build(a.a, left), build(a.b, right))


def _mul(a: Scalar, b: Scalar) -> Scalar:
    x, y = _number(a), _number(b)
    if x == 1:
        return b
    if y == 1:
        return a
    if x == -1:
        return _neg(b)
    if y == -1:
        return _neg(a)
    if isinstance(a, Apply) and a.name == "neg":
        return _neg(_mul(a.args[0], b))
    if isinstance(b, Apply) and b.name == "neg":
        return _neg(_mul(a, b.args[0]))
    return Apply("mul", (a, b))


def _div(a: Scalar, b: Scalar) -> Scalar:
    if _number(b) == 1:
        return a
    if isinstance(a, Apply) and a.name == "neg":
        return _neg(_div(a.args[0], b))
    return Apply("div", (a, b))


def _select(condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
    if condition is TRUE or a is b:
        return a
    if condition is FALSE:
        return b
    if isinstance(condition, Not):
        return _select(condition.a, b, a)
    a = _under(conjuncts(condition), a)
    if a is b:
        return a
    if isinstance(a, Select) and a.b is b:
        return _select(conjunction((condition, a.condition)), a.a, b)
    if isinstance(b, Select) and b.condition is condition:
        return _select(condition, a, b.b)
    return Select(condition, a, b)


def _compare(node: Compare) -> Scalar:
    x, y = _number(node.a), _number(node.b)
    if node.a is node.b and node.a.dtype is INT and not node.a.tensors:
        x = y = Fraction(0)  # an index equals itself; a value may be NaN
    if x is not None and y is not None:
        holds = {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y, "==": x == y, "!=": x != y}[node.op]
        return TRUE if holds else FALSE
    return node


# --------------------------------------------------------------------------------------------------- inlining


def inline(program: Program) -> Program:
    """Maps that are no dearer to compute than to read are put in their readers (outputs and commented ones stay).

    An index that depends on data keeps its read: outside of its range a read is NaN, a copy of the body need not be.
    So does a map that picks entries of what is computed: it is smaller than that, which then need not be stored.
    """
    kept = {*roots(program)}
    given = {i.name for i in program.inputs}  # and what is no more than an entry of them
    small: dict[str, Definition] = {}
    for d in program.body:
        if isinstance(d, Definition) and d.tensor not in kept and d.comment is None and _passes_on(d):
            mine = [*reads(d.body)]
            if all(r.tensor in given or not _by_data(r) for r in mine):
                small[d.tensor] = d
                given |= {d.tensor} if all(r.tensor in given for r in mine) else set()
    if not small:
        return program
    memo: dict[Scalar, Scalar] = {}

    def step(node: Scalar) -> Scalar:
        if isinstance(node, Read) and node.tensor in small and not _by_data(node):
            return transform(instantiate(small[node.tensor], node.indices), step)
        return node

    body: list[Definition | Group] = []
    for item in program.body:
        body.append(map_item(item, lambda d: map_scalars(d, lambda s: transform(s, step, memo))))
    return program.with_body(tuple(body))


def _by_data(read: Read) -> bool:
    return any(isinstance(n, Read | Param) for i in read.indices for n in postorder(i))


def _passes_on(d: Definition) -> bool:
    """A map whose body is a constant, a parameter, a read, or one arithmetic operation on constants of the call."""
    if d.head != "map" or d.support is not TRUE:
        return False
    work = 0
    for n in postorder(d.body):
        if isinstance(n, AdjointMap) or not isinstance(n, Const | Param | Size | Index | Read | Apply):
            return False
        if isinstance(n, Apply) and n.dtype is REAL and n.name not in ("real", "neg"):
            work += 1
            if n.name not in ("add", "sub", "mul", "div"):
                return False
    return work == 0 or (work == 1 and not d.formals and not d.body.tensors)


__all__ = ["defaulted", "inline", "simple", "simplify", "with_defaults"]
