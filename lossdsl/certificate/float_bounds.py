"""Enclosures of what float32 arithmetic makes of the tensors of a program, for all numbers of a float type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from lossdsl.certificate.arithmetic import (
    BASIC,
    FUNCTION,
    LARGEST,
    NORMAL,
    NUMBERS,
    SINGLE,
    Float,
    applied,
    number,
    rounded,
)
from lossdsl.certificate.bounds import Bounds, Case, selects_its_own
from lossdsl.certificate.float_masses import is_near, is_steady, largest_term, mass, size_of, with_logarithm
from lossdsl.certificate.float_ratios import SQUARES, least_of_squares, ratio, spread
from lossdsl.certificate.norms import resolved, root_of
from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    REAL,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Input,
    Not,
    Or,
    Program,
    Read,
    Scalar,
    Select,
    Stop,
    postorder,
)
from lossdsl.verify import enclosure as e
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import ANYTHING, INF, UNIT, Enclosure

LONGEST = 2.0**31  # elements of an axis
_MEANS = 2.0**-14
_LITTLE = 2.0**15
_WHOLE = 2.0**-8  # more than the square of the sum of a row of a simplex is below 1, if the numbers are rounded


def float_of(box: Enclosure) -> Float:
    if box.nan:
        return Float(NUMBERS, True, True, True)
    within = e.meet(Enclosure(box.lo, box.hi), NUMBERS)
    return Float(within, box.may_be_plus_infinite, box.may_be_minus_infinite)


class FloatCase(Case):
    """Scalars as they are computed. What is learnt of one from a condition holds in the branch: of what is made once, and is no
    product, which may be contracted in one place and not in another."""

    def _learn(self, condition: Scalar, holds: bool, known: dict[Scalar, Enclosure]) -> bool:
        alone = not isinstance(condition, (Not, And, Or))
        if alone and not (self._is_stored if isinstance(condition, Read) else self._is_one_number)(condition):
            decided = o.truth(self[condition])
            return decided is None or decided == holds
        return super()._learn(condition, holds, known)

    def _narrowed(self, node: Scalar, box: Enclosure) -> Enclosure | None:
        """An input that is not 0 is at least the smallest number of the type, if that is never read as 0; a sum of squares of
        such numbers, and of their sums, at least one square."""
        found, digit = super()._narrowed(node, box), self._digit(node)
        if found is None:
            return None
        lo = digit if found.lo == 0 and found.lo_open else found.lo
        hi = -digit if found.hi == 0 and found.hi_open else found.hi
        return (
            Enclosure(lo, hi, found.lo_open and lo == found.lo, found.hi_open and hi == found.hi) if lo <= hi else None
        )

    def _digit(self, node: Scalar) -> float:
        """The smallest number that a scalar may be but 0, if it is never read as 0; else 0."""
        declared = self.bounds.inputs.get(node.tensor) if isinstance(node, Read) else None
        if declared is None:
            return least_of_squares(self, node)
        of_the_type = declared.dtype is REAL and declared.default is None
        return self.bounds.digit if of_the_type and isinstance(self.bounds, FloatBounds) else 0.0

    def _is_stored(self, node: Scalar) -> bool:
        """Whether a scalar is the same number in a definition of its own and wherever else it is computed."""
        match node:
            case Read() if node.tensor not in self.bounds.inputs:
                d = self.bounds.definitions.get(node.tensor)
                return d is not None and (d.head != "map" or (d.dtype is BOOL and self._is_stored(d.body)))
            case Compare() | Not() | And() | Or():
                return all(self._is_stored(a) for a in node.children)
            case Apply(name="neg" | "real" | "abs"):
                return self._is_stored(node.args[0])
        return is_steady(self.bounds, node)

    def _is_one_number(self, node: Scalar) -> bool:
        """Whether a scalar is the same number in a condition and in what it chooses."""
        match node:
            case Compare():
                return self._is_one_number(node.a) and self._is_one_number(node.b)
            case Read() if node.tensor not in self.bounds.inputs:
                d = self.bounds.definitions.get(node.tensor)
                return d is not None and (d.head != "map" or self._is_one_number(d.body))
            case Apply(name="neg" | "real" | "abs") | Stop():
                return self._is_one_number(node.children[0])
            case Apply():
                return node.dtype is not REAL or node.name in ("add", "sub") or is_steady(self.bounds, node)
            case Not() | And() | Or():
                return all(self._is_one_number(a) for a in node.children)
            case Select():
                return self._is_one_number(node.a) and self._is_one_number(node.b)
        return is_steady(self.bounds, node)

    def _value(self, node: Scalar) -> Enclosure:
        match node:
            case Const() if isinstance(node.value, Fraction) and node.dtype is REAL:
                return number(node.value).ends
            case Apply(args=(x, y)) if x is y and node.name in ("div", "xlogy") and is_steady(self.bounds, x):
                return self._of_itself(node.name, x)
            case Apply():
                found = applied(node, [float_of(self[a]) for a in node.args]).ends
                fact = None if found.nan else self._fact(node)
                found = found if fact is None else e.meet(found, fact) or found
                return self._within_ratio(node, found) if node.name in ("mul", "div") and node.dtype is REAL else found
        return super()._value(node)

    def _within_ratio(self, node: Apply, found: Enclosure) -> Enclosure:
        """What is small is in every type, and need not be looked at."""
        if found.nan or not found.bounded or max(-found.lo, found.hi) < _LITTLE:
            return found
        self.found[node] = found
        size = ratio(self, node)
        return e.meet(found, Enclosure(-size, size)) or found

    def _of_itself(self, name: str, node: Scalar) -> Enclosure:
        """x / x, and x log(x), which is least at 1 / e, of what is not read as 0 here and as a small number there."""
        x = self[node]
        least = max(x.lo, -x.hi)
        if x.bounded and name == "div" and least >= NORMAL:
            return Enclosure(1 - BASIC, 1 + BASIC)
        if x.bounded and name == "xlogy" and x.lo >= 0 and (least >= NORMAL or self._digit(node)):
            top = x.hi * math.log(x.hi) if x.hi > 1 else 0.0
            return float_of(Enclosure(-0.37, (top + FUNCTION) * (1 + FUNCTION))).ends
        return ANYTHING

    def _fact(self, node: Apply) -> Enclosure | None:
        """An element less the largest is not above 0, nor is it less the log-sum-exp, which is made as the largest and a
        number that is not negative; computed twice, it is above 0 by the errors of both alone, where these are small
        beside its size. Means are among their elements."""
        if node.name == "div":
            return self._mean(*node.args)
        if node.name == "mul":
            return self._share_and_logarithm(node)
        if node.name not in ("sub", "expdiff"):
            return None
        for x, y, above in ((node.args[0], node.args[1], True), (node.args[1], node.args[0], False)):
            d = self.bounds.fold(y, ("max", "min", "logsumexp"))
            if d is None or not self.is_element(x, y, d) or not (self[x].bounded and self[y].bounded):
                continue
            if not is_near(self, x):
                continue
            size = max(abs(v) for n in (x, y) for v in (self[n].lo, self[n].hi))
            slack = 0.0 if is_steady(self.bounds, x) else size * FUNCTION + FUNCTION
            if above == (d.head == "min"):  # not below 0
                return Enclosure(-slack, INF) if node.name == "sub" else None
            if node.name == "expdiff":
                return Enclosure(0.0, 1 + 4 * slack + FUNCTION) if slack < 0.25 else None
            return Enclosure(-INF, slack)
        return None

    def _share_and_logarithm(self, node: Apply) -> Enclosure | None:
        """|t| e^t is small where t is at most a little above 0, if no factor is so large that a product overflows before."""
        found = with_logarithm(self, node)
        if found is None or not all(self[a].bounded for a in node.args):
            return None
        _, pair, rest = found
        size = largest_term(self, pair) * math.prod(size_of(self, f) for f in rest)
        return Enclosure(-size, size) if size < LARGEST else None

    def _mean(self, top: Scalar, size: Scalar) -> Enclosure | None:
        exact = super()._mean(top, size)
        if exact is None or not self[top].bounded:
            return None
        return rounded(Enclosure(exact.lo, exact.hi), _MEANS).ends


class FloatBounds(Bounds):
    """Enclosures of what is computed of the numbers of a type; parameters are such, too."""

    def __init__(
        self,
        program: Program,
        assume: Mapping[str, Enclosure],
        numbers: tuple[float, float, float],
        known: Mapping[Scalar, Enclosure],
    ) -> None:
        """`numbers`: the largest of the type, the smallest that is not flushed to 0 (0 if any may be), the largest below 1;
        `known`: what some scalars are in, wherever they are computed."""
        super().__init__(program, assume)
        self._numbers, self._given = numbers, known

    @property
    def digit(self) -> float:
        """The smallest number of the type that is not read as 0; 0 if any may be."""
        return self._numbers[1]

    def _alike(self) -> Bounds:
        return FloatBounds(self.program, self.assume, self._numbers, self._given)

    def case(self, some: frozenset[Dim], known: Mapping[Scalar, Enclosure], split: bool = True) -> Case:
        return FloatCase(self, some, {**self._given, **known}, split=False)

    def extent(self, dim: Dim, some: frozenset[Dim]) -> Enclosure:
        box = super().extent(dim, some)
        return box if box.hi < INF else Enclosure(box.lo, max(_most(dim), box.lo))

    def parameter(self, name: str) -> Enclosure:
        p, box = self.parameters.get(name), super().parameter(name)
        return rounded(self._representable(box, None if p is None else p.default), SINGLE, nearest=True).ends

    def _input(self, i: Input) -> Enclosure:
        box = super()._input(i)
        return self._representable(box, i.default) if i.dtype is REAL else box

    def _representable(self, box: Enclosure, default: Const | None) -> Enclosure:
        """The numbers of the type, and the default, which may be none; what is subnormal may be read as 0."""
        largest, digit, one = self._numbers
        lo, hi = max(box.lo, -largest), min(box.hi, largest)
        if lo == 0 and box.lo_open:
            lo = min(digit, hi)
        if hi == 1 and box.hi_open:
            hi = max(one, lo)
        found = Enclosure(lo, hi) if lo <= hi else Enclosure(box.lo, box.hi)
        if default is not None and isinstance(default.value, Fraction):
            usual = e.meet(Enclosure(box.lo, box.hi), number(default.value).ends)
            found = found if usual is None else e.hull(found, Enclosure(usual.lo, usual.hi))
        flushed = digit == 0 and (0 < found.lo < NORMAL or -NORMAL < found.hi < 0)
        return e.hull(found, Enclosure(0.0, 0.0)) if flushed else found

    def _fold(self, d: Definition, outside: Case) -> Enclosure:
        if d.head == "map":
            return outside.inside(d.body)[d.body]
        if d.head in ("any", "all"):
            return UNIT
        most = math.prod(self.extent(i.dim, outside.some).hi for i in d.bound)
        if d.head in ("count", "argmax", "argmin", "argsort"):
            return Enclosure(0.0, most)
        axes = frozenset(i.dim for i in d.bound)
        case: Case | None = self.case(outside.some | axes | self.read_axes(d.body), outside.known)
        if d.where is not TRUE and case is not None:
            case = case.given(d.where, True)
        if case is None:
            return o.empty_fold(d.head)
        body = case[d.body]
        some = d.where is TRUE and all(self.extent(dim, outside.some).lo >= 1 for dim in axes)
        some = some or (is_steady(self, d.where) and selects_its_own(outside, d))
        if d.head in ("max", "min"):
            return body if some else e.hull(body, o.empty_fold(d.head))
        if not float_of(body).finite or most >= INF:
            return ANYTHING
        if d.head == "logsumexp":
            top = min(body.hi + math.log(max(most, 1.0)) + FUNCTION, 2 * LARGEST)
            return Enclosure(body.lo if some else -INF, min(top + abs(top) * FUNCTION + FUNCTION, LARGEST))
        if d.head != "sum":
            return ANYTHING
        share = mass(case, d.body, d.bound)
        other = INF if share < _LITTLE else spread(case, d.body, d.bound)
        if share < LARGEST:
            share = min(share, other)
            whole = Enclosure(0.0 if body.lo >= 0 else -share, 0.0 if body.hi <= 0 else share)
            return rounded(whole, _MEANS).ends
        found = self._total(d, body, some, most)
        return found if other >= LARGEST else e.meet(found, rounded(Enclosure(-other, other), _MEANS).ends) or found

    def _total(self, d: Definition, body: Enclosure, some: bool, most: float) -> Enclosure:
        exact = o.total(body, some, most)
        size = e.mul_up(most, max(-body.lo, body.hi))
        if not exact.bounded or (size > LARGEST and body.lo < 0 < body.hi):  # on the way
            return ANYTHING
        slack = e.mul_up(size, FUNCTION)
        lo = exact.lo * (1 - FUNCTION) if exact.lo >= 0 else exact.lo - slack
        hi = exact.hi * (1 - FUNCTION) if exact.hi <= 0 else exact.hi + slack
        return rounded(Enclosure(max(lo, self._of_simplex(d, most)), hi), FUNCTION).ends

    def _of_simplex(self, d: Definition, most: float) -> float:
        """The squares of n numbers with the sum 1 are at least 1 / n in sum; -inf for other sums."""
        root = root_of(resolved(self.case(frozenset(), {}), d.body))
        declared = self.inputs.get(root.tensor) if isinstance(root, Read) else None
        if declared is None or declared.kind != "simplex" or declared.default is not None or not isinstance(root, Read):
            return -INF
        along = tuple(root.indices[k] for k in declared.over)
        rest = {n for k, i in enumerate(root.indices) if k not in declared.over for n in postorder(i)}
        whole = d.where is TRUE and along == d.bound and not rest & set(d.bound)
        return (1 - _WHOLE - 2 * SQUARES) / most if whole and 1 <= most <= 2.0**40 else -INF


def _most(dim: Dim) -> float:
    """The largest extent that a sum of products of extents may be."""
    if any(not isinstance(atom, str) for atoms, _ in dim.terms for atom in atoms):
        return INF
    return math.fsum(c * LONGEST ** len(atoms) for atoms, c in dim.terms if c > 0)


__all__ = ["FloatBounds", "FloatCase", "float_of"]
