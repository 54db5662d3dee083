"""A small prover for integer facts: is an index in range, does a condition follow from others?

Conditions become polynomial inequalities over index variables, extents and opaque integers (floor divisions, data,
clamps); a goal is proved by refuting its negation: Fourier-Motzkin elimination with integer tightening, after products
with non-negative extents where a product of extents occurs, and case splits for `or`, `!=`, min, max and Select.
It is sound and incomplete: False means "not proved". After Pugh's Omega test,
cut to what index arithmetic needs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd

from lossdsl.dim import Dim, FloorDiv
from lossdsl.ir import nodes as ir
from lossdsl.ir.nodes import BOOL, INT, TRUE, Apply, Compare, Const, Index, Not, Scalar, Size

_Monomial = tuple[int, ...]
_Row = tuple[tuple[_Monomial, int], ...]
_Poly = dict[_Monomial, int]  # monomial () is the constant term; a constraint says: poly >= 0
_LIMIT = 400  # constraints; beyond it the prover gives up
_CASES = 40  # case splits in one proof
_SAMPLES = (1, 16, 1024)  # extents at which the facts are tried before a contradiction is looked for
_COMPARED: dict[str, Callable[..., int]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne
}  # fmt: skip
_COMPUTED: dict[str, Callable[..., int]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "neg": operator.neg, "max2": max, "min2": min
}  # fmt: skip
_NEGATED = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}


def in_range(
    index: Scalar,
    dim: Dim,
    facts: Sequence[Scalar] = (),
    *,
    signed: Collection[str] = (),
) -> bool:
    """Whether 0 <= index < dim is proved under the facts.

    facts    BOOL scalars that hold here, and Index nodes that exist here (so that their extents are positive)
    signed   extent symbols that may be negative (integer parameters without a lower bound of 0)
    """
    if isinstance(index, Index) and index.dim == dim:
        return True
    zero = Const(0, INT)
    return all(
        contradictory([*facts, goal], signed=signed)
        for goal in (Compare("<", index, zero), Compare(">=", index, Size(dim)))
    )


def implies(facts: Sequence[Scalar], goal: Scalar, *, signed: Collection[str] = ()) -> bool:
    """Whether the BOOL `goal` is proved from the facts (conditions that hold, indices that exist)."""
    return goal is TRUE or goal in facts or contradictory([*facts, Not(goal)], signed=signed)


def contradictory(facts: Iterable[Scalar], *, signed: Collection[str] = ()) -> bool:
    """Whether it is proved that the facts cannot hold together."""
    return _contradictory(tuple(facts), frozenset(signed))


@lru_cache(maxsize=1 << 15)  # every pass asks about the same accesses again
def _contradictory(facts: tuple[Scalar, ...], signed: frozenset[str]) -> bool:
    if any(_hold_at(facts, extent, last) for extent in _SAMPLES for last in (False, True)):
        return False
    state = _State(signed)
    for fact in facts:
        state.assume(fact)
    return state.refuted([_CASES])


def _hold_at(facts: tuple[Scalar, ...], extent: int, last: bool) -> bool:
    """Whether the facts hold where all named extents are equal and each index is at its first (or last) place; False where
    they are about more than these."""
    values: dict[Scalar, int] = {}
    for fact in reversed(facts):  # the goal, which is the last one, mostly fails first
        for node in ir.postorder(fact):
            if node not in values:
                value = _at(node, values, extent, last)
                if value is None:
                    return False
                values[node] = value
        if not values[fact] and not isinstance(fact, Index):
            return False
    return True


def _at(node: Scalar, values: dict[Scalar, int], extent: int, last: bool) -> int | None:
    """The value of a node, given those of its children; None if it is no number of extents and places alone, or an index of
    an axis without an element."""
    args = [values[c] for c in node.children]
    match node:
        case Const(value=Fraction() as value):
            return int(value)
        case Size() | Index():
            size = node.dim.evaluate(dict.fromkeys(node.dim.symbols(), extent))
            return size if isinstance(node, Size) else None if size < 1 else size - 1 if last else 0
        case Not():
            return not args[0]
        case ir.And():
            return all(args)
        case ir.Or():
            return any(args)
        case Compare(a=a) if a.dtype is INT:
            return _COMPARED[node.op](*args)
        case Apply() if node.name in _COMPUTED:
            return _COMPUTED[node.name](*args)
    return None


def _add(a: _Poly, b: _Poly, factor: int = 1) -> _Poly:
    total = dict(a)
    for m, c in b.items():
        value = total.get(m, 0) + factor * c
        if value:
            total[m] = value
        else:
            total.pop(m, None)
    return total


def _times(a: _Poly, b: _Poly) -> _Poly:
    total: _Poly = {}
    for m1, c1 in a.items():
        total = _add(total, {tuple(sorted(m1 + m2)): c1 * c2 for m2, c2 in b.items()})
    return total


def _number(value: int) -> _Poly:
    return {(): value} if value else {}


def _natural(dim: Dim, signed: Collection[str]) -> bool:
    """Whether the polynomial of an extent is never negative, by the signs of its terms."""
    if any(c < 0 for _, c in dim.terms):
        return False
    atoms = {a for monomial, _ in dim.terms for a in monomial}
    return all(_natural(a.numerator, signed) if isinstance(a, FloorDiv) else a not in signed for a in atoms)


class _State:
    """What is known: inequalities, truths of opaque conditions, and case splits that are still open."""

    def __init__(self, signed: frozenset[str]) -> None:
        self.signed = signed
        self.atoms: dict[object, int] = {}
        self.natural: set[int] = set()  # atoms that are never negative
        self.constraints: list[_Poly] = []
        self.truths: dict[Scalar, bool] = {}
        self.splits: list[tuple[tuple[Scalar | _Poly, ...], ...]] = []
        self.false = False
        self.memo: dict[Scalar, _Poly] = {}

    def copy(self) -> _State:
        new = _State(self.signed)
        new.atoms, new.natural, new.memo = dict(self.atoms), set(self.natural), dict(self.memo)
        new.constraints, new.truths = list(self.constraints), dict(self.truths)
        new.splits, new.false = list(self.splits), self.false
        return new

    # -------------------------------------------------------------------------------------------- conditions

    def assume(self, fact: Scalar, holds: bool = True) -> None:
        while isinstance(fact, Not):
            fact, holds = fact.a, not holds
        if isinstance(fact, Const):
            self.false |= bool(fact.value) is not holds
            return
        if isinstance(fact, Index):
            self.poly(fact)
            return
        if isinstance(fact, ir.And if holds else ir.Or):
            for a in fact.children:
                self.assume(a, holds)
            return
        if isinstance(fact, ir.And | ir.Or):
            self.splits.append(tuple((a if holds else Not(a),) for a in fact.children))
            return
        if self.truths.setdefault(fact, holds) is not holds:
            self.false = True
        if isinstance(fact, Compare) and fact.a.dtype is INT:
            self._compare(fact.op if holds else _NEGATED[fact.op], fact.a, fact.b)

    def _compare(self, op: str, a: Scalar, b: Scalar) -> None:
        difference = _add(self.poly(a), self.poly(b), -1)
        if op == "!=":
            self.splits.append(((Compare("<", a, b),), (Compare(">", a, b),)))
            return
        if op in (">=", "=="):
            self.constraints.append(difference)
        if op in ("<=", "=="):
            self.constraints.append(_add({}, difference, -1))
        if op == ">":
            self.constraints.append(_add(difference, _number(-1)))
        if op == "<":
            self.constraints.append(_add(_number(-1), difference, -1))

    # ------------------------------------------------------------------------------------------- polynomials

    def _atom(self, key: object) -> tuple[int, bool]:
        known = key in self.atoms
        return self.atoms.setdefault(key, len(self.atoms)), not known

    def _nonnegative(self, atom: int) -> None:
        self.natural.add(atom)
        self.constraints.append({(atom,): 1})

    def dim(self, dim: Dim) -> _Poly:
        """The polynomial of an extent, without its lower bound 0."""
        total: _Poly = {}
        for monomial, coefficient in dim.terms:
            product = _number(coefficient)
            for atom in monomial:
                product = _times(product, self._symbol(atom))
            total = _add(total, product)
        return total

    def _symbol(self, atom: str | FloorDiv) -> _Poly:
        key, new = self._atom(atom)
        if new and isinstance(atom, str):
            if atom not in self.signed:
                self._nonnegative(key)
        elif new and isinstance(atom, FloorDiv):
            self._quotient(key, self.dim(atom.numerator), _number(atom.denominator))
            if _natural(atom.numerator, self.signed):
                self._nonnegative(key)
        return {(key,): 1}

    def _quotient(self, key: int, a: _Poly, divisor: _Poly) -> None:
        """key == a // divisor, for a divisor of at least 1."""
        rest = _add(a, _times({(key,): 1}, divisor), -1)
        self.constraints.append(rest)
        self.constraints.append(_add(_add(divisor, _number(-1)), rest, -1))

    def poly(self, node: Scalar) -> _Poly:
        if node not in self.memo:
            self.memo[node] = self._poly(node)
        return self.memo[node]

    def _poly(self, node: Scalar) -> _Poly:
        match node:
            case Const():
                return _number(int(node.value))
            case Index():
                key, new = self._atom(node)
                if new:
                    self._nonnegative(key)
                    self.constraints.append(_add(_add(self.dim(node.dim), _number(-1)), {(key,): 1}, -1))
                return {(key,): 1}
            case Size():
                return self._size(node.dim)
            case ir.Param():
                key, _ = self._atom(node.name)
                if node.name not in self.signed:
                    return self._symbol(node.name)
                return {(key,): 1}
            case ir.Stop() | ir.AdjointMap():
                return self.poly(node.children[0])
            case ir.Proxy():
                return self.poly(node.value)
            case Apply():
                return self._apply(node)
            case ir.Select():
                key, new = self._atom(node)
                self.memo[node] = {(key,): 1}
                if new:
                    same = tuple(Compare("==", node, branch) for branch in (node.a, node.b))
                    self.splits.append(((node.condition, same[0]), (Not(node.condition), same[1])))
                return self.memo[node]
            case ir.Table():
                key, new = self._atom(node)
                if new:
                    values = [int(v.value) for v in node.values]
                    self.constraints.append(_add({(key,): 1}, _number(-min(values))))
                    self.constraints.append(_add(_number(max(values)), {(key,): 1}, -1))
                return {(key,): 1}
        key, _ = self._atom(node)
        return {(key,): 1}

    def _size(self, dim: Dim) -> _Poly:
        """The extent as a value: max(0, polynomial)."""
        if _natural(dim, self.signed):
            return self.dim(dim)
        key, new = self._atom(Size(dim))
        if new:
            self._nonnegative(key)
            self.memo[Size(dim)] = {(key,): 1}
            raw = self.dim(dim)
            over = _add({(key,): 1}, raw, -1)
            self.constraints.append(over)
            if any(isinstance(a, Index) and a.dim == dim for a in self.atoms) or self._positive(raw):
                self.constraints.append(_add({}, over, -1))
            else:
                self.splits.append((({(key,): -1},), (_add({}, over, -1),)))  # max(0, raw) is one of the two
        return {(key,): 1}

    def _positive(self, a: _Poly) -> bool:
        other = self.copy()
        other.splits = []
        other.constraints.append(_add({}, a, -1))
        return other.refuted([0])

    def _apply(self, node: Apply) -> _Poly:
        args = node.args
        for a in args:
            if a.dtype is INT:
                self.poly(a)  # what the arguments say of extents serves to show that a divisor is positive
        if node.name in ("add", "sub"):
            return _add(self.poly(args[0]), self.poly(args[1]), 1 if node.name == "add" else -1)
        if node.name == "neg":
            return _add({}, self.poly(args[0]), -1)
        if node.name == "mul":
            return _times(self.poly(args[0]), self.poly(args[1]))
        if node.name == "mod":
            quotient = Apply("floordiv", args)
            divisor = self.poly(args[1])
            if self._divides(divisor):
                return _add(self.poly(args[0]), _times(self.poly(quotient), divisor), -1)
        key, new = self._atom(node)
        mine: _Poly = {(key,): 1}
        if not new:
            return mine
        self.memo[node] = mine
        if node.name == "floordiv":
            divisor = self.poly(args[1])
            if self._divides(divisor):
                above = self.poly(args[0])
                self._quotient(key, above, divisor)
                if all(c >= 0 and self.natural.issuperset(m) for m, c in above.items()):
                    self._nonnegative(key)
        elif node.name in ("max2", "min2"):
            sign = 1 if node.name == "max2" else -1
            for a in args:
                self.constraints.append(_add(_add({}, mine, sign), self.poly(a), -sign))
            self.splits.append(tuple((Compare("==", node, a),) for a in args))
        elif node.name == "abs":
            self._nonnegative(key)
            for sign in (1, -1):
                self.constraints.append(_add(mine, self.poly(args[0]), sign))
            self.splits.append(((Compare("==", node, args[0]),), (Compare("==", node, Apply("neg", args)),)))
        elif node.name == "int" and args[0].dtype is BOOL:
            self._nonnegative(key)
            self.constraints.append({(): 1, (key,): -1})
        return mine

    def _divides(self, divisor: _Poly) -> bool:
        if not divisor or set(divisor) == {()}:
            return divisor.get((), 0) > 0
        return self._positive(divisor)

    # ------------------------------------------------------------------------------------------- refutation

    def refuted(self, budget: list[int]) -> bool:
        """Whether the facts are proved impossible; `budget` holds the number of case splits left."""
        if self.false or _infeasible(self.constraints, self.natural):
            return True
        if not self.splits or budget[0] <= 0:
            return False
        budget[0] -= 1
        first, self.splits = self.splits[0], self.splits[1:]
        for alternative in first:
            case = self.copy()
            for fact in alternative:
                if isinstance(fact, dict):
                    case.constraints.append(fact)
                else:
                    case.assume(fact)
            if not case.refuted(budget):
                return False
        return True


def _infeasible(constraints: list[_Poly], natural: set[int]) -> bool:
    system = _with_products(constraints, natural)
    found = _rows(system)
    if found is None:
        return True
    rows = found
    while rows:
        equality = _solvable(rows)
        found = _substituted(rows, *equality) if equality is not None else _eliminated(rows)
        if found is None:
            return True
        rows = found
        if len(rows) > _LIMIT:
            return False
    return False


def _solvable(rows: dict[_Row, _Poly]) -> tuple[_Poly, _Monomial] | None:
    """An equality, and a monomial that it says exactly: one with the factor 1 or -1. Inequalities alone would lose the
    remainders that it leaves possible."""
    heads = {(row[0], len(row)) for row in rows}
    for row, poly in rows.items():
        (first, c), *_ = row
        if ((first, -c), len(row)) in heads and tuple((m, -c) for m, c in row) in rows:
            for m, c in row:
                if m and abs(c) == 1:
                    return poly, m
    return None


def _substituted(rows: dict[_Row, _Poly], equal: _Poly, m: _Monomial) -> dict[_Row, _Poly] | None:
    """The rows with `m` as the equality says it; None if they cannot hold together."""
    return _rows(_add(poly, equal, -poly.get(m, 0) * equal[m]) for poly in rows.values())


def _eliminated(rows: dict[_Row, _Poly]) -> dict[_Row, _Poly] | None:
    """The rows without the monomial of which that makes the fewest; None if they cannot hold together."""
    counts: dict[_Monomial, list[int]] = {}
    for row in rows:
        for m, c in row:
            if m:
                counts.setdefault(m, [0, 0])[c > 0] += 1
    m = min(counts, key=lambda v: (counts[v][0] * counts[v][1] - sum(counts[v]), v))
    low = [p for p in rows.values() if p.get(m, 0) > 0]
    high = [p for p in rows.values() if p.get(m, 0) < 0]
    rest = {row: p for row, p in rows.items() if not p.get(m, 0)}
    made = _rows(_add({k: -q[m] * c for k, c in p.items()}, q, p[m]) for p in low for q in high)
    return None if made is None else rest | made


def _rows(polys: Iterable[_Poly]) -> dict[_Row, _Poly] | None:
    """The constraints that say something, each once; None if one of them cannot hold."""
    rows: dict[_Row, _Poly] = {}
    for poly in polys:
        row = _tight(poly)
        if not row:
            continue
        if len(row) == 1 and row[0][0] == ():
            if row[0][1] < 0:
                return None
            continue
        rows[row] = dict(row)
    return rows


def _tight(poly: _Poly) -> _Row | None:
    """Divided by the common factor of its coefficients, the constant rounded down; None if it says nothing."""
    factor = 0
    for m, c in poly.items():
        if m:
            factor = gcd(factor, c)
    constant = poly.get((), 0)
    if factor == 0:
        return (((), constant),) if constant < 0 else None
    row = {m: c // factor for m, c in poly.items()}
    if not row.get((), 1):
        del row[()]
    return tuple(sorted(row.items()))


def _with_products(constraints: list[_Poly], natural: set[int]) -> list[_Poly]:
    """The constraints, and their products with non-negative factors of the nonlinear monomials that occur."""
    nonlinear = {m for poly in constraints for m in poly if len(m) > 1}
    if not nonlinear:
        return constraints
    factors: set[_Monomial] = set()
    for m in nonlinear:
        for k in range(len(m)):
            for part in (m[:k] + m[k + 1 :], (m[k],)):
                if part and all(a in natural for a in part):
                    factors.add(part)
    result = list(constraints)
    for poly in constraints:
        for factor in sorted(factors):
            product = _times(poly, {factor: 1})
            if len(result) < _LIMIT and any(m in nonlinear for m in product):
                result.append(product)
    positive = {m[0] for poly in constraints for m in _positives(poly, natural)}
    result += [{m: 1, (): -1} for m in sorted(nonlinear) if all(a in positive for a in m)]
    return result


def _positives(poly: _Poly, natural: set[int]) -> list[_Monomial]:
    """The one atom that `poly >= 0` makes positive, as `size - 1 - index >= 0` does."""
    if poly.get((), 0) >= 0:
        return []
    above = [m for m, c in poly.items() if c > 0]
    others = [m for m, c in poly.items() if c < 0]
    return above if len(above) == 1 and len(above[0]) == 1 and all(a in natural for m in others for a in m) else []
