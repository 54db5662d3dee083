"""Index arithmetic: integer scalars as affine forms, their bounds, and proofs that an index stays in range.

Everything here errs on one side: what is not proved counts as unknown, never as true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.dim import Dim, FloorDiv, Monomial
from lossdsl.ir.nodes import (
    BOOL,
    INT,
    And,
    Apply,
    Compare,
    Const,
    Index,
    Not,
    Or,
    Param,
    Read,
    Scalar,
    Select,
    Size,
    Table,
    postorder,
)

Bound = tuple[Dim | None, Dim | None]
UNBOUNDED: Bound = (None, None)
NEGATED = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}
CHOICES = ("max2", "min2")  # integers that are one of their two arguments
_SEARCH_DEPTH = 3


def integer(value: int) -> Const:
    return Const(Fraction(value), INT)


@dataclass(frozen=True)
class Affine:
    """`sum of coefficient * atom + rest`; coefficients and rest are polynomials in extents, atoms integer scalars."""

    terms: Mapping[Scalar, Dim]
    rest: Dim

    def plus(self, other: Affine, factor: int = 1) -> Affine:
        terms = dict(self.terms)
        for atom, coefficient in other.terms.items():
            total = terms.get(atom, Dim.const(0)) + coefficient * factor
            if total.terms:
                terms[atom] = total
            else:
                terms.pop(atom, None)
        return Affine(terms, self.rest + other.rest * factor)

    def times(self, factor: Dim) -> Affine:
        terms = {atom: c * factor for atom, c in self.terms.items()}
        return Affine({atom: c for atom, c in terms.items() if c.terms}, self.rest * factor)

    def shifted(self, by: Dim | int) -> Affine:
        return Affine(self.terms, self.rest + by)

    def without(self, atom: Scalar) -> Affine:
        return Affine({a: c for a, c in self.terms.items() if a is not atom}, self.rest)


def _times(a: Affine, b: Affine) -> Affine | None:
    if a.terms and b.terms:
        return None
    many, one = (a, b) if a.terms else (b, a)
    return many.times(one.rest)


def _grows(dim: Dim) -> bool:
    return all(c >= 0 for _, c in dim.terms)


def affine(node: Scalar) -> Affine:
    """The affine form of an INT scalar; what is not affine becomes an atom."""
    forms: dict[Scalar, Affine] = {}
    for s in postorder(node):
        form: Affine | None = None
        if isinstance(s, Const) and s.kind is INT and isinstance(s.value, Fraction):
            form = Affine({}, Dim.const(int(s.value)))
        elif isinstance(s, Size) and _grows(s.dim):
            form = Affine({}, s.dim)
        elif isinstance(s, Apply) and s.dtype is INT:
            args = [forms[a] for a in s.args]
            if s.name == "add":
                form = args[0].plus(args[1])
            elif s.name == "sub":
                form = args[0].plus(args[1], -1)
            elif s.name == "neg":
                form = Affine({}, Dim.const(0)).plus(args[0], -1)
            elif s.name == "mul":
                form = _times(args[0], args[1])
        forms[s] = form if form is not None else Affine({s: Dim.const(1)}, Dim.const(0))
    return forms[node]


def _evaluated(atoms: Iterable[Scalar]) -> set[Scalar]:
    """What certainly has a value where the atoms have one: not what stands in the branches of a choice."""
    found: set[Scalar] = set()
    stack = list(atoms)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack += node.children[:1] if isinstance(node, (Select, And, Or)) else node.children
    return found


def _extent_scalar(dim: Dim) -> Scalar:
    constant = dim.number
    return integer(constant) if constant is not None else Size(dim)


def _split(dim: Dim) -> tuple[Dim, Dim, int]:
    """(growing part, shrinking part, constant) of an extent polynomial; the first two have no constant term."""
    up = Dim(tuple((m, c) for m, c in dim.terms if m and c > 0))
    down = Dim(tuple((m, -c) for m, c in dim.terms if m and c < 0))
    return up, down, next((c for m, c in dim.terms if not m), 0)


def to_scalar(form: Affine) -> Scalar:
    """The canonical scalar of an affine form; terms stay in their order, the constant comes last."""
    total: Scalar | None = None

    def add(part: Scalar, minus: bool) -> None:
        nonlocal total
        if total is None:
            total = Apply("neg", (part,)) if minus else part
        else:
            total = Apply("sub" if minus else "add", (total, part))

    ordered = sorted(form.terms.items(), key=lambda item: any(c < 0 for _, c in item[1].terms))
    for atom, coefficient in ordered:
        constant = coefficient.number
        if constant is not None:
            size = abs(constant)
            add(atom if size == 1 else Apply("mul", (integer(size), atom)), constant < 0)
        elif _grows(coefficient):
            add(Apply("mul", (atom, Size(coefficient))), False)
        else:
            add(Apply("mul", (atom, to_scalar(Affine({}, coefficient)))), False)
    up, down, constant = _split(form.rest)
    if up.terms:
        add(Size(up), False)
    if down.terms:
        add(Size(down), True)
    if constant or total is None:
        if total is None:
            return integer(constant)
        add(integer(abs(constant)), constant < 0)
    assert total is not None
    return total


def divides(atom: Scalar) -> bool:
    """Whether an integer is what a division gives."""
    return isinstance(atom, Apply) and atom.name in ("floordiv", "mod")


def limits(form: Affine, lower: Dim, upper: Dim) -> tuple[Scalar, Scalar]:
    """The conditions `lower <= form` and `form < upper`."""
    value = to_scalar(form)
    return Compare(">=", value, to_scalar(Affine({}, lower))), Compare("<", value, to_scalar(Affine({}, upper)))


def canonical(node: Scalar) -> Scalar:
    """An INT scalar with its affine part collected: `(h + 1) - 1` is `h`."""
    return to_scalar(affine(node)) if node.dtype is INT else node


def substitute(root: Scalar, mapping: Mapping[Scalar, Scalar]) -> Scalar:
    """The scalar with nodes replaced; index positions of reads are collected again."""
    if not mapping:
        return root
    done: dict[Scalar, Scalar] = {}
    for s in postorder(root):
        new = mapping.get(s)
        if new is None:
            children = tuple(done[c] for c in s.children)
            if children == s.children:
                new = s
            else:
                if isinstance(s, (Read, Table)):
                    children = tuple(canonical(c) for c in children)
                new = s.rebuild(children)
        done[s] = new
    return done[root]


def conjuncts(condition: Scalar) -> tuple[Scalar, ...]:
    """The conditions that hold where this one does, as far as they are visible; negations pushed inwards."""
    if isinstance(condition, And):
        return tuple(c for a in condition.args for c in conjuncts(a))
    if isinstance(condition, Not):
        inner = condition.a
        if isinstance(inner, Not):
            return conjuncts(inner.a)
        if isinstance(inner, Or):
            return tuple(c for a in inner.args for c in conjuncts(Not(a)))
        if isinstance(inner, Compare) and (inner.a.dtype is INT or inner.op in ("==", "!=")):
            return (Compare(NEGATED[inner.op], inner.a, inner.b),)
    return (condition,)


def _shift_up(dim: Dim, positive: frozenset[str]) -> dict[Monomial, int] | None:
    """Coefficients after `n -> n + 1` for the positive symbols; None where a floor division stays in the way."""
    total: dict[Monomial, int] = {}
    for monomial, coefficient in dim.terms:
        partial: dict[Monomial, int] = {(): coefficient}
        for atom in monomial:
            if isinstance(atom, FloorDiv):
                return None
            step: dict[Monomial, int] = {}
            for m, c in partial.items():
                bigger = tuple(sorted((*m, atom), key=str))
                step[bigger] = step.get(bigger, 0) + c
                if atom in positive:
                    step[m] = step.get(m, 0) + c
            partial = step
        for m, c in partial.items():
            total[m] = total.get(m, 0) + c
    return total


def _without_floors(dim: Dim) -> Dim | None:
    """A lower bound of the polynomial without floor divisions, or None."""
    total = Dim.const(0)
    for monomial, coefficient in dim.terms:
        floors = [a for a in monomial if isinstance(a, FloorDiv)]
        if not floors:
            total = total + Dim(((monomial, coefficient),))
            continue
        if len(monomial) != 1 or coefficient % floors[0].denominator:
            return None
        f = floors[0]
        share = coefficient // f.denominator
        total = total + (f.numerator - (f.denominator - 1)) * share if share > 0 else total + f.numerator * share
    return total if not any(isinstance(a, FloorDiv) for m, _ in total.terms for a in m) else _without_floors(total)


def nonnegative(dim: Dim, positive: frozenset[str] = frozenset()) -> bool:
    """True only if the polynomial is >= 0 for all extents >= 0, those in `positive` being >= 1."""
    plain = _without_floors(dim)
    if plain is None:
        return False
    shifted = _shift_up(plain, positive)
    return shifted is not None and all(c >= 0 for c in shifted.values())


class Prover:
    """Decides index ranges from extents, types and conditions.

    `read_bounds` gives what types and definitions promise about an integer read, under the given conditions.
    """

    def __init__(self, read_bounds: Callable[[Scalar, Sequence[Scalar]], Bound]) -> None:
        self._read_bounds = read_bounds

    @staticmethod
    def states(conditions: Sequence[Scalar], goal: Scalar) -> bool:
        """Whether one of the conditions is the comparison itself, on either side of its sign."""
        known = {c for condition in conditions for c in conjuncts(condition)}
        return goal in known or (isinstance(goal, Compare) and Compare(goal.op, goal.b, goal.a) in known)

    def entails(self, conditions: Sequence[Scalar], goal: Scalar) -> bool:
        """True only if `goal` holds wherever all conditions do."""
        known = {c for condition in conditions for c in conjuncts(condition)}
        return all(self._entails_one(conditions, known, part) for part in conjuncts(goal))

    def _entails_one(self, conditions: Sequence[Scalar], known: set[Scalar], part: Scalar) -> bool:
        if part in known:
            return True
        if isinstance(part, Const):
            return part.kind is BOOL and part.value == 1
        if isinstance(part, Or):
            return any(self.entails(conditions, a) for a in part.args)
        if not isinstance(part, Compare):
            return False
        flipped = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(part.op, part.op)
        if Compare(flipped, part.b, part.a) in known:
            return True
        if part.a.dtype is not INT:
            return False
        difference = affine(part.b).plus(affine(part.a), -1)  # b - a
        opposite = Affine({}, Dim.const(0)).plus(difference, -1)
        goals = {
            "<": [difference.shifted(-1)],
            "<=": [difference],
            ">": [opposite.shifted(-1)],
            ">=": [opposite],
            "==": [difference, opposite],
        }
        if part.op == "!=":
            return self.at_least_zero(difference.shifted(-1), conditions) or self.at_least_zero(
                opposite.shifted(-1), conditions
            )
        return all(self.at_least_zero(g, conditions) for g in goals[part.op])

    def at_least_zero(self, form: Affine, conditions: Sequence[Scalar]) -> bool:
        """True only if the form is >= 0 under the conditions."""
        facts, positive = self._facts(form, conditions)
        return self._search(form, facts, positive, conditions, _SEARCH_DEPTH)

    def _facts(self, form: Affine, conditions: Sequence[Scalar]) -> tuple[list[Affine], frozenset[str]]:
        facts: list[Affine] = []
        unequal: list[Affine] = []
        for condition in conditions:
            for part in conjuncts(condition):
                if not isinstance(part, Compare) or part.a.dtype is not INT:
                    continue
                difference = affine(part.b).plus(affine(part.a), -1)
                opposite = Affine({}, Dim.const(0)).plus(difference, -1)
                if part.op in ("<", "<=", "=="):
                    facts.append(difference.shifted(-1 if part.op == "<" else 0))
                if part.op in (">", ">=", "=="):
                    facts.append(opposite.shifted(-1 if part.op == ">" else 0))
                if part.op == "!=":
                    unequal.append(difference)
        positive: set[str] = set()
        atoms = {a for f in [form, *facts, *unequal] for a in f.terms}
        room = {s.dim for atom in atoms for s in postorder(atom) if isinstance(s, Index)}
        for s in _evaluated(atoms):
            lower, upper = self._read_bounds(s, conditions) if isinstance(s, (Read, Param)) else UNBOUNDED
            if lower is not None and upper is not None:  # it has a value, so its range is not empty
                room.add(upper - lower + 1)
        for dim in sorted(room):
            if all(c >= 0 for _, c in dim.terms) and len(dim.terms) == 1:
                positive.update(a for m, _ in dim.terms for a in m if isinstance(a, str))
            elif dim.number is None:
                facts.append(Affine({}, dim - 1))
        known = frozenset(positive)
        for difference in unequal:
            opposite = Affine({}, Dim.const(0)).plus(difference, -1)
            for side in (difference, opposite):
                if self._search(side, facts, known, conditions, 1):
                    facts.append(side.shifted(-1))
        return facts, known

    def _search(
        self, form: Affine, facts: list[Affine], positive: frozenset[str], conditions: Sequence[Scalar], depth: int
    ) -> bool:
        lower = self.bounds(form, positive, conditions)[0]
        if lower is not None and nonnegative(lower, positive):
            return True
        if depth == 0:
            return False
        chosen = next((a for a in form.terms if isinstance(a, Apply) and a.name in CHOICES), None)
        if chosen is not None and depth == _SEARCH_DEPTH:
            # Its value is that of one of the two; where the form is above that with either, one of them will do.
            rest, factor = form.without(chosen), form.terms[chosen]
            either = nonnegative(factor if chosen.name == "max2" else -factor, positive)
            cases = (rest.plus(affine(a).times(factor)) for a in chosen.args)
            if (any if either else all)(self._search(c, facts, positive, conditions, depth) for c in cases):
                return True
        return any(
            self._search(form.plus(fact, -1), facts, positive, conditions, depth - 1)
            for fact in facts
            if not fact.terms.keys().isdisjoint(form.terms.keys()) or (not fact.terms and form.rest.terms)
        )

    def bounds(self, form: Affine, positive: frozenset[str], conditions: Sequence[Scalar]) -> Bound:
        """Lower and upper bound of a form as extent polynomials, None where there is none."""
        lower: Dim | None = form.rest
        upper: Dim | None = form.rest
        for atom, coefficient in form.terms.items():
            lo, hi = self._atom(atom, positive, conditions)
            if nonnegative(coefficient, positive):
                pass
            elif nonnegative(-coefficient, positive):
                lo, hi = hi, lo
            else:
                return UNBOUNDED
            lower = lower + coefficient * lo if lower is not None and lo is not None else None
            upper = upper + coefficient * hi if upper is not None and hi is not None else None
        return lower, upper

    def _atom(self, atom: Scalar, positive: frozenset[str], conditions: Sequence[Scalar]) -> Bound:
        if isinstance(atom, Index):
            return Dim.const(0), atom.dim - 1
        if isinstance(atom, Size):
            return Dim.const(0), None
        if isinstance(atom, Select):
            branches = [self.bounds(affine(b), positive, conditions) for b in (atom.a, atom.b)]
            return _least([b[0] for b in branches], positive), _greatest([b[1] for b in branches], positive)
        if isinstance(atom, Table):
            values = [int(v.value) for v in atom.values if isinstance(v.value, Fraction)]
            return Dim.const(min(values)), Dim.const(max(values))
        if isinstance(atom, Apply):
            return self._apply(atom, positive, conditions)
        return self._read_bounds(atom, conditions)

    def _apply(self, atom: Apply, positive: frozenset[str], conditions: Sequence[Scalar]) -> Bound:
        if atom.name == "int":
            return Dim.const(0), Dim.const(1)
        forms = [affine(a) for a in atom.args if a.dtype is INT]
        if len(forms) != len(atom.args):
            return UNBOUNDED
        args = [self.bounds(f, positive, conditions) for f in forms]
        if atom.name in ("max2", "min2"):
            lows, highs = [a[0] for a in args], [a[1] for a in args]
            if atom.name == "max2":
                return next((x for x in lows if x is not None), None), _greatest(highs, positive)
            least = _least(lows, positive)
            if least is None and all(x is not None and nonnegative(x, positive) for x in lows):
                least = Dim.const(0)
            return least, next((x for x in highs if x is not None), None)
        if atom.name in ("floordiv", "mod") and not forms[1].terms:
            divisor, (lo, hi) = forms[1].rest, args[0]
            if not nonnegative(divisor - 1, positive):
                return UNBOUNDED
            if atom.name == "mod":
                return Dim.const(0), divisor - 1
            if lo is None or not nonnegative(lo, positive):
                return UNBOUNDED
            return Dim.const(0), _quotient(hi, divisor)
        return UNBOUNDED


def _quotient(upper: Dim | None, divisor: Dim) -> Dim | None:
    """An upper bound of `x // divisor` for 0 <= x <= upper."""
    if upper is None:
        return None
    constant = divisor.number
    if constant is not None:
        return upper // constant
    if len(divisor.terms) != 1:
        return None
    (factor, scale), total = divisor.terms[0], Dim.const(0)
    for monomial, coefficient in (upper + 1).terms:
        left = list(monomial)
        for atom in factor:
            if atom not in left:
                return None
            left.remove(atom)
        if coefficient % scale:
            return None
        total = total + Dim(((tuple(left), coefficient // scale),))
    return total - 1


def _greatest(values: Iterable[Dim | None], positive: frozenset[str]) -> Dim | None:
    best: Dim | None = None
    for value in values:
        if value is None:
            return None
        if best is None or nonnegative(value - best, positive):
            best = value
        elif not nonnegative(best - value, positive):
            return None
    return best


def _least(values: Iterable[Dim | None], positive: frozenset[str]) -> Dim | None:
    best = _greatest([None if v is None else -v for v in values], positive)
    return None if best is None else -best
