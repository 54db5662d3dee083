"""Elements along a path of points, for all t from a start on, and what refutes every Lipschitz constant there, that a
derivative goes to 0, or that there is one.

far   from a point through another one: the point plus t times the step; the element grows faster than t
near  to a point that may be an end of the domain: the point plus 1 / t of the step; the element has no limit, or comes to it
      more slowly than 1 / t. The domain is convex, so that the path lies inside of it if its other end does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from lossdsl.certificate.expansions import function, larger, of_operation
from lossdsl.certificate.germs import LEAST_START, LINEAR, ONE, Germ, Power, boxed
from lossdsl.certificate.points import RELATIONS, Place, Undecided, Values, sign
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.series import Point
from lossdsl.ir.nodes import AdjointMap, Apply, Compare, Definition, Program, Proxy, Scalar, Stop
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.operations import may_jump

FAR, NEAR = "far", "near"
STARTS = tuple(LEAST_START**k for k in (1, 2, 4, 8, 16))
_STEPS = {FAR: LINEAR, NEAR: Power(degree=Fraction(-1))}
_FOLDS: dict[str, Callable[[Germ, Germ], Germ]] = {
    "sum": lambda a, b: a + b,
    "prod": lambda a, b: a * b,
    "max": larger,
    "min": lambda a, b: -larger(-a, -b),
    "logsumexp": lambda a, b: a + function("softplus", b - a),
}
Steps = Mapping[tuple[str, Place], Fraction]


class Path(Values):
    """Elements of a program's tensors along the path: the entries of some inputs are germs, all else is as at a point."""

    def __init__(
        self, program: Program, at: Point, steps: Steps, kind: str, start: int, *, derived: bool = False
    ) -> None:
        """`derived`: only what has the derivatives of its value, and no jumps."""
        super().__init__(program, *at)
        self._steps, self._start, self._power, self._derived = steps, start, _STEPS[kind], derived
        self._made: dict[tuple[object, ...], tuple[Sequence[Any], Germ]] = {}
        self.moved = False

    def element(self, tensor: str, place: Place) -> Any:
        found = super().element(tensor, place)
        step = self._steps.get((tensor, place), Fraction(0))
        if tensor not in self.inputs or step == 0:
            return found
        self.moved = True
        return Germ(self._start, ((self._power, step),)) + found

    def _scalar(self, node: Scalar, at: Mapping[Scalar, int], known: dict[Scalar, Any]) -> Any:
        if self._derived and (isinstance(node, (Stop, AdjointMap, Proxy)) or may_jump(node)):
            if not isinstance(node, Compare) and any(
                isinstance(self.scalar(c, at, known), Germ) for c in node.children
            ):
                raise Stuck(f"{type(node).__name__} has no derivative, or one of its own")
        if isinstance(node, Apply):
            args = [self.scalar(a, at, known) for a in node.args]
            if any(isinstance(a, Germ) for a in args):
                return self._operation(node, args)
        if isinstance(node, Compare):
            a, b = (self.scalar(n, at, known) for n in (node.a, node.b))
            if isinstance(a, Germ) or isinstance(b, Germ):
                return RELATIONS[node.op](sign(a - b if isinstance(a, Germ) else -(b - a)))
        return super()._scalar(node, at, known)

    def _operation(self, node: Apply, args: Sequence[Any]) -> Any:
        """One germ for one operation of the same numbers: two of them are equal, whatever encloses them."""
        key = (node.name, *map(id, args))
        if key not in self._made:
            self._made[key] = (args, of_operation(node, args))  # with what keeps the places of the arguments taken
        return self._made[key][1]

    def _fold(self, d: Definition, elements: Sequence[tuple[Place, Any]]) -> Any:
        some = next((v for _, v in elements if isinstance(v, Germ)), None)
        if some is None or d.head not in _FOLDS:
            return super()._fold(d, elements)
        total, *others = (some.like(v) for _, v in elements)
        for v in others:
            total = _FOLDS[d.head](total, v)
        return total


def growth(
    program: Program, line: tuple[Point, Steps], of: str, place: Place, kind: str, *, like_a_line: bool = False
) -> tuple[int, list[str]]:
    """The first start from which the element is seen to outgrow every multiple of the step; the power, and what encloses the
    element (less its limit, if it has one) over it. `like_a_line`: or grows as fast as one of them, without jumps: then its
    derivative does not go to 0, by the mean value theorem. Raises Stuck."""
    for start in STARTS:
        path = Path(program, *line, kind, start, derived=like_a_line)
        try:
            found = path.element(of, place)
            if not path.moved:
                raise Stuck("the element is of nothing that moves")
            power, box = _outgrowing(found, kind, like_a_line)
        except (Undecided, ZeroDivisionError, OverflowError, RecursionError):
            continue
        return start, [str(power), box.lo.hex(), box.hi.hex()]
    raise Stuck("no growth along the path")


def _outgrowing(found: Any, kind: str, like_a_line: bool) -> tuple[Power, Enclosure]:
    """Raises Undecided unless the element outgrows the step."""
    if not isinstance(found, Germ) or found.largest is None:
        raise Undecided
    if found.largest <= ONE and kind == NEAR:  # it has a limit, which is one number
        _, limit, found = found.parts()
        if not boxed(limit).finite or found.largest is None or found.largest >= ONE:
            raise Undecided
    power, box = found.dominant()
    if not (box.lo > 0 or box.hi < 0) or power < _STEPS[kind] or (power == _STEPS[kind] and not like_a_line):
        raise Undecided
    return power, box


def straight(program: Program, line: tuple[Point, Steps], of: str, place: Place) -> tuple[int, list[str]]:
    """The first start from which the element is c + d / t and nothing else, at 1 / t of the way; what encloses c and d. Raises
    Stuck."""
    for start in STARTS:
        path = Path(program, *line, NEAR, start)
        try:
            found = path.element(of, place)
        except (Undecided, ZeroDivisionError, OverflowError, RecursionError):
            continue
        if path.moved and isinstance(found, Germ) and found.rest is None:
            terms = dict(found.terms)
            boxes = [boxed(terms.pop(power, Fraction(0))) for power in (ONE, _STEPS[NEAR])]
            if not terms and all(box.finite for box in boxes):
                return start, [end.hex() for box in boxes for end in (box.lo, box.hi)]
    raise Stuck("the element is not seen to be affine")


def sides(program: Program, line: tuple[Point, Steps], of: str, place: Place, most: int) -> tuple[int, int, list[str]]:
    """The first start and order at which the two sides of a point disagree: of a function with so many continuous derivatives,
    the element at t from the point is one polynomial in t of that degree, and what vanishes faster, on both sides. What
    encloses its coefficient on either side. Raises Stuck."""
    point, steps = line
    for start in STARTS:
        for order in range(most + 1):
            try:
                before, after = (
                    _coefficient(Path(program, point, way, NEAR, start), of, place, order)
                    for way in ({key: -v for key, v in steps.items()}, steps)
                )
                before = before if order % 2 == 0 else e.neg(before)
                if e.sub(after, before).nonzero:
                    return start, order, [v.hex() for box in (before, after) for v in (box.lo, box.hi)]
            except (Undecided, ZeroDivisionError, OverflowError, RecursionError):
                continue
    raise Stuck("the sides are not seen to disagree")


def _coefficient(path: Path, of: str, place: Place, order: int) -> Enclosure:
    """Of 1 / t to a power, in the element along the path. Raises Undecided if it is not told apart from the rest."""
    found = path.element(of, place)
    if not path.moved:
        raise Undecided
    germ = found if isinstance(found, Germ) else Germ(LEAST_START).like(found)
    power = Power(degree=Fraction(-order))
    if germ.rest is not None and germ.rest[0] >= power:
        raise Undecided
    return boxed(next((c for p, c in germ.terms if p == power), Fraction(0)))


__all__ = ["FAR", "NEAR", "Path", "growth", "sides", "straight"]
