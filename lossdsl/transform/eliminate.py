"""Elimination: bound indices of an adjoint sum that integer equations determine are solved for and disappear.

`sum n, h, i where h + i == a and n == m . f` becomes `sum i where 0 <= a - i and a - i < H . f[h := a - i, n := m]`.
What cannot be solved, `target[n] == a`, stays as a condition: a *selection*. The pass is exact for every extent: each
substitution carries the range condition of the index it replaces unless the range is proved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lossdsl.dim import Dim
from lossdsl.ir.nodes import INT, Apply, Compare, Const, Index, Param, Read, Scalar, Size, postorder
from lossdsl.ir.ranges import implies
from lossdsl.ir.ranges import in_range as proved_in_range
from lossdsl.ir.rewrite import free_indices, fresh_index, substitute, transform
from lossdsl.transform.affine import Affine, affine, expression, never_negative
from lossdsl.transform.arithmetic import conjunction, unique


@dataclass
class Facts:
    """What is known of tensors: their extents, and for INT tensors an extent below which their values lie."""

    dims: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    below: dict[str, Dim] = field(default_factory=dict)
    signed: frozenset[str] = frozenset()  # extents that may be negative numbers: integer parameters
    normal: dict[Scalar, Scalar] = field(default_factory=dict)  # what was made of scalars by `normal_indices`


@dataclass
class Selection:
    """A sum over `bound` of `values`, restricted by conditions that are to be tested in the order
    `guards`, `hard`, `soft`.

    guards  range conditions of eliminated indices: nothing else may be read or computed where they fail
    hard    conditions of the path: where they fail the contribution is exactly zero, whatever the data
    soft    conditions outside of which a derivative vanishes
    """

    bound: tuple[Index, ...]
    equations: tuple[tuple[Scalar, Scalar], ...]
    hard: tuple[Scalar, ...]
    soft: tuple[Scalar, ...]
    values: tuple[Scalar, ...]
    guards: tuple[Scalar, ...] = ()


def within(value: Scalar, dim: Dim, facts: Facts) -> tuple[Scalar, ...]:
    """The conditions `0 <= value < dim` that are not proved already."""
    form = affine(value)
    lower = () if _never_negative(form, facts) else (_at_least_zero(form),)
    upper = () if _never_negative(Affine({}, dim - 1) - form, facts) else (Compare("<", value, _size(dim)),)
    here = free_indices(value)
    return tuple(c for c in (*lower, *upper) if not implies(here, c, signed=facts.signed))


def lies_within(index: Scalar, dim: Dim, facts: Facts, given: Sequence[Scalar] | None = None) -> bool:
    """True if `0 <= index < dim` is proved from the ranges of the indices in it, and from the conditions `given`."""
    if isinstance(index, Index) and index.dim == dim:
        return True
    form = affine(index)
    divides = any(
        isinstance(a, Apply) for a in form.atoms
    )  # by an extent that is 0, perhaps, where no index is over it
    if not divides and _never_negative(form, facts) and _never_negative(Affine({}, dim - 1) - form, facts):
        return True
    if not divides and not given:
        return False
    given = given or ()
    return proved_in_range(index, dim, (*free_indices(index, *given), *given), signed=facts.signed)


def readable(node: Scalar, facts: Facts, given: Sequence[Scalar] | None = None) -> bool:
    """True if every read inside `node` is of something known, and in range under the conditions `given`."""
    for part in postorder(node):
        if isinstance(part, Read):
            shape = facts.dims.get(part.tensor)
            if shape is None:
                return False
            for index, dim in zip(part.indices, shape, strict=True):
                if not lies_within(index, dim, facts, given):
                    return False
    return True


def _size(dim: Dim) -> Scalar:
    return Size(dim) if dim.constant is None else Const(dim.constant, INT)


def _never_negative(form: Affine, facts: Facts) -> bool:
    return facts.signed.isdisjoint(_extents(form, facts)) and never_negative(form, facts.below)


def _extents(form: Affine, facts: Facts) -> set[str]:
    """The symbols of all extents by which a bound of the form is found."""
    dims = [form.offset, *form.atoms.values()]
    for n in postorder(*form.atoms):
        if isinstance(n, Index | Size):
            dims.append(n.dim)
        elif isinstance(n, Read) and n.tensor in facts.below:
            dims.append(facts.below[n.tensor])
    return {s for d in dims for s in d.symbols()}


def _at_least_zero(form: Affine) -> Scalar:
    """`form >= 0` without a subtraction: what is subtracted stands on the right."""
    negative = {a for a, c in form.atoms.items() if (c.number or 0) < 0}
    offset = form.offset.number
    moved = form.offset if offset is not None and offset < 0 else Dim.const(0)
    left = Affine({a: c for a, c in form.atoms.items() if a not in negative}, form.offset - moved)
    right = Affine({a: -c for a, c in form.atoms.items() if a in negative}, -moved)
    return Compare(">=", expression(left), expression(right))


def normal_indices(node: Scalar, memo: dict[Scalar, Scalar] | None = None) -> Scalar:
    """The expression with integer sums and differences collected: `x[h - 1 + 1]` becomes `x[h]`."""

    def step(n: Scalar) -> Scalar:
        if isinstance(n, Apply) and n.dtype is INT and n.name in ("add", "sub", "neg"):
            return expression(_whole(affine(n)))
        return n

    return transform(node, step, memo)


def _whole(form: Affine) -> Affine:
    """`k * (u // k) + u % k` is u."""
    for atom, c in form.atoms.items():
        if isinstance(atom, Apply) and atom.name == "mod" and isinstance(atom.args[1], Const):
            quotient = Apply("floordiv", atom.args)
            step = affine(atom.args[1]).offset.number
            if step is not None and form.atoms.get(quotient) == c * Dim.const(step):
                rest = {a: x for a, x in form.atoms.items() if a is not atom and a is not quotient}
                return _whole(Affine(rest, form.offset) + affine(atom.args[0]).times(c))
    return form


@dataclass(frozen=True)
class _Solution:
    rank: tuple[int, ...]
    variable: Index
    value: Scalar
    divisibility: tuple[Scalar, ...]
    stride: _Stride | None = None


@dataclass(frozen=True)
class _Stride:
    """Of the values of a bound index only those of one residue class matter: `residue + step * rest`."""

    index: Index
    step: int
    residue: Scalar
    upwards: bool  # whether the solved index grows with `rest`


def eliminate(selection: Selection, facts: Facts) -> Selection:
    """The same sum with every bound index that an equation determines substituted."""
    equations = list(_join_divisions(selection.equations, facts))
    hard: list[Scalar] = list(unique(selection.hard))
    soft: list[Scalar] = list(unique(selection.soft))
    bound = list(selection.bound)
    here = tuple(i for _, a in selection.equations for i in free_indices(a))
    values = list(selection.values)
    pure: list[Scalar] = list(selection.guards)  # range conditions without reads
    reading: list[Scalar] = []  # range conditions with reads that are always in range themselves
    solved: dict[tuple[Scalar, Scalar], list[_Solution]] = {}  # what a substitution leaves alone has the same solutions
    while True:
        count = len(equations)
        posed = [*enumerate(equations)]
        posed += [
            (count + k, (c.a, c.b))
            for k, c in enumerate(hard)
            if isinstance(c, Compare) and c.op == "==" and c.a.dtype is INT
        ]
        candidates: list[tuple[int, _Solution]] = []
        for place, equation in posed:
            if equation not in solved:
                solved[equation] = _solutions(*equation, bound, facts)
            candidates += [(place, s) for s in solved[equation]]
        if not candidates:
            break
        place, best = min(candidates, key=lambda c: (c[1].rank, c[0], bound.index(c[1].variable)))
        value, divisibility = best.value, best.divisibility
        mapping: dict[Scalar, Scalar] = {}
        if best.stride is not None:
            place_, strided, value = _strided(best, bound, (*here, *bound, *free_indices(*values, *hard, *soft)))
            bound[bound.index(best.stride.index) : bound.index(best.stride.index) + 1] = place_
            mapping[best.stride.index] = strided
            divisibility = within(strided, best.stride.index.dim, facts)
        mapping[best.variable] = value
        ranges = [*divisibility, *within(value, best.variable.dim, facts)]
        if place < count:
            del equations[place]
        else:
            del hard[place - count]
        bound.remove(best.variable)
        memo: dict[Scalar, Scalar] = {}

        def put(node: Scalar, mapping: dict[Scalar, Scalar] = mapping, memo: dict[Scalar, Scalar] = memo) -> Scalar:
            return normal_indices(substitute(node, mapping, memo), facts.normal)

        equations = [(put(a), put(b)) for a, b in equations]
        hard, soft = [put(c) for c in hard], [put(c) for c in soft]
        values, pure, reading = [put(v) for v in values], [put(c) for c in pure], [put(c) for c in reading]
        for c in ranges:
            if c.tensors:
                reading.insert(0, c)  # what an earlier solution reads is indexed by this later one: test this first
            else:
                pure.append(c)
    rest = [(a, b) for a, b in equations if a is not b]
    here += tuple(bound)
    proved = [c for c in hard if not always(c, facts) and not _by_existence(c, here, facts)]
    for left, right in rest:
        proved = _absorb(proved, left, right, facts)
    return Selection(tuple(bound), (), unique(proved), unique(soft), tuple(values), unique((*pure, *reading)))


def _by_existence(condition: Scalar, here: tuple[Index, ...], facts: Facts) -> bool:
    """True for a condition on extents that holds because there are indices at all: `size(n) != 0` at some n."""
    parts = list(postorder(condition))
    if any(isinstance(n, Read | Index | Param) for n in parts) or not any(isinstance(n, Size) for n in parts):
        return False
    return implies(here, condition, signed=facts.signed)


def _absorb(conditions: list[Scalar], left: Scalar, right: Scalar, facts: Facts) -> list[Scalar]:
    """Add `left == right`; range conditions on `left` that hold for `right` give way to it, at the place of the first
    of them, so that what they protected stays protected."""
    equation = Compare("==", left, right)
    kept: list[Scalar] = []
    placed = False
    for c in conditions:
        if isinstance(c, Compare) and c.a is left and c.op in (">=", "<"):
            if always(Compare(c.op, right, c.b), facts):
                if not placed:
                    kept.append(equation)
                    placed = True
                continue
        kept.append(c)
    return kept if placed else [*kept, equation]


def always(condition: Scalar, facts: Facts) -> bool:
    """True for an integer comparison that holds for all values of its indices."""
    if not isinstance(condition, Compare) or condition.a.dtype is not INT:
        return False
    difference = affine(condition.a) - affine(condition.b)
    match condition.op:
        case "==":
            return not difference.atoms and not difference.offset.terms
        case ">=":
            return _never_negative(difference, facts)
        case "<=":
            return _never_negative(-difference, facts)
        case ">":
            return _never_negative(difference + Affine({}, Dim.const(-1)), facts)
        case "<":
            return _never_negative(-difference + Affine({}, Dim.const(-1)), facts)
        case "!=":
            less = Affine({}, Dim.const(-1))
            return _never_negative(difference + less, facts) or _never_negative(-difference + less, facts)
    return False


def _solutions(left: Scalar, right: Scalar, bound: list[Index], facts: Facts) -> list[_Solution]:
    """All ways to solve one equation for one bound index."""
    form = affine(left) - affine(right)
    found: list[_Solution] = []
    opaque = [a for a in form.atoms if not isinstance(a, Index)]
    inside = set(free_indices(*opaque)) if opaque else set()
    for v in bound:
        c = form.atoms.get(v)
        k = c.number if c is not None else None
        if k is None or v in inside:
            continue
        others = Affine({a: x for a, x in form.atoms.items() if a is not v}, form.offset)
        value_form = -others if k > 0 else others
        value = expression(value_form)
        if opaque and not readable(value, facts):
            continue
        divisibility: tuple[Scalar, ...] = ()
        stride: _Stride | None = None
        if abs(k) != 1:
            if v.dim.constant is not None and any(b.dim.constant is None for b in bound if b in form.atoms):
                continue
            step = Const(abs(k), INT)
            divisibility = (Compare("==", Apply("mod", (value, step)), Const(0, INT)),)
            stride = _stride(value_form, abs(k), v, bound, inside)
            value = Apply("floordiv", (value, step))
        # A constant extent is cheap to keep as a loop: solve for the index of a symbolic extent first.
        small = v.dim.constant is not None and any(b is not v and b in form.atoms for b in bound)
        unproved = bool(within(value, v.dim, facts))
        direct = isinstance(value, Index) and value not in bound
        found.append(
            _Solution(
                (int(not direct), int(bool(opaque)), int(small), abs(k), int(unproved)),
                v,
                value,
                divisibility,
                stride,
            )
        )
    return found


def _stride(form: Affine, step: int, solved: Index, bound: list[Index], inside: set[Index]) -> _Stride | None:
    """A bound index w of `step * solved == u - w` (or `u + w`): it is `u mod step` plus a multiple of the step."""
    for w in sorted((b for b in bound if b is not solved and b not in inside), key=lambda b: b.dim.constant is None):
        c = form.atoms.get(w, Dim.const(0)).number
        if c not in (1, -1):
            continue
        u = Affine({a: x for a, x in form.atoms.items() if a is not w}, form.offset)
        return _Stride(w, step, expression(u if c < 0 else -u), c > 0)
    return None


def _strided(solution: _Solution, bound: list[Index], taken: Sequence[Index]) -> tuple[list[Index], Scalar, Scalar]:
    """What is left to sum over instead of the strided index, its value, and that of the solved one.

    With `step * v == u - w`: w is `u mod step + step * m` and v is `u // step - m`, for 0 <= m < ceil(size of w / step).
    """
    found = solution.stride
    assert found is not None
    step = Const(found.step, INT)
    many = (found.index.dim + (found.step - 1)) // found.step
    residue, quotient = Apply("mod", (found.residue, step)), Apply("floordiv", (found.residue, step))
    left: list[Index] = []
    rest: Scalar = Const(0, INT)
    if many.constant != 1:
        base = Index(found.index.name, many)
        assert isinstance(base, Index)
        rest = fresh_index(base, [i for i in taken if i is not found.index])
        left = [rest]
    whole = Affine({residue: Dim.const(1)}) + affine(rest).times(Dim.const(found.step))
    value = affine(quotient) - affine(rest)
    return left, expression(whole), expression(-value if found.upwards else value)


def _join_divisions(equations: tuple[tuple[Scalar, Scalar], ...], facts: Facts) -> tuple[tuple[Scalar, Scalar], ...]:
    """`p // W == u` and `p % W == v` with 0 <= v < W proved become `p == u * W + v` (a flat position read back)."""
    quotients: dict[tuple[Scalar, Scalar], int] = {}
    for k, (left, _) in enumerate(equations):
        if isinstance(left, Apply) and left.name == "floordiv":
            quotients[left.args[0], left.args[1]] = k
    joined = list(equations)
    drop: set[int] = set()
    for k, (left, right) in enumerate(equations):
        if not (isinstance(left, Apply) and left.name == "mod"):
            continue
        flat, width = left.args
        j = quotients.get((flat, width))
        form = affine(width)
        if j is None or j in drop or form.atoms or within(right, form.offset, facts):
            continue
        high = affine(equations[j][1])
        target = high.times(form.offset) + affine(right)
        joined[j] = (flat, expression(target))
        drop.add(k)
    return tuple(e for k, e in enumerate(joined) if k not in drop)


def condition(selection: Selection) -> Scalar:
    """All conditions of a selection as one lazy conjunction."""
    return conjunction((*selection.guards, *selection.hard, *selection.soft))
