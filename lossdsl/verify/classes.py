"""A loss of a class label, taken apart: a sum over the classes plus a term of the label's own class.

Labels are found in `c == label`, in a `where` and as an index. A prediction is read as it is, or, where all that is read
of logits is their softmax, as probabilities. Terms that depend on neither do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lossdsl.ir.nodes import (
    FALSE,
    ONE,
    REAL,
    TRUE,
    ZERO,
    Apply,
    Compare,
    Definition,
    Group,
    Index,
    Read,
    Scalar,
    Select,
    postorder,
)
from lossdsl.ir.rewrite import substitute, transform
from lossdsl.verify.enclosure import REALS, Enclosure
from lossdsl.verify.labels import NoProblem, Problem, reads
from lossdsl.verify.operations import truth
from lossdsl.verify.pieces import NotScalar, View, affine_slope, cased, dependents, fold, inline, reads_any
from lossdsl.verify.ranges import Ranges, Scope, matches
from lossdsl.verify.risk import ETA, LINK
from lossdsl.verify.show import text

Q = Read("$q", (), REAL)  # the prediction of one class
ROW = "$p"  # the softmax of the logits: Read("$p", (class,))
INSIDE = Enclosure(0.0, 1.0, True, True)


@dataclass
class Separable:
    """f (`each`) and g (`own`) in Q; `probability`: the predictions of the classes are positive and add up to 1."""

    problem: Problem
    each: Scalar
    own: Scalar
    constant: bool  # whether there are terms that depend neither on the prediction nor on the label
    probability: bool

    def views(self, box: Enclosure | None = None) -> list[View]:
        """The views of `$eta` g + `$link` f in Q. Raises NoProblem."""
        body = Apply("add", (Apply("mul", (ETA, self.own)), Apply("mul", (LINK, self.each))))
        known = {Q: box or (INSIDE if self.probability else REALS), ETA: INSIDE, LINK: INSIDE}
        ctx = self.problem.ctx
        definition = ctx.program.definition(self.problem.target)
        assert definition is not None
        assert self.problem.classes is not None
        present = frozenset((*definition.dims, self.problem.classes))  # where there is a label, there is a class
        if not any(n is Q for n in postorder(body)):
            raise NoProblem(f"{self.problem.target} does not depend on {self.problem.prediction.name}")
        try:
            return cased(ctx.program, ctx.ranges(), present, body, Q, known)
        except NotScalar as reason:
            raise NoProblem(str(reason)) from None

    @property
    def shown(self) -> str:
        return f"sum of {text(self.each)} over the classes, plus {text(self.own)} of the label"


class Rows:
    """Rewrites the scalars of a problem in the prediction of single classes."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.program = problem, problem.ctx.program
        self.ranges: Ranges = problem.ctx.ranges((problem.prediction.name,))
        self.definitions: dict[str, Definition] = {d.tensor: d for d in self.program.body if not isinstance(d, Group)}
        self.varying = dependents(self.program, problem.prediction.name) | {ROW, Q.tensor}
        self.labelled = dependents(self.program, problem.label.tensor)
        self.softmax: Scalar | None = None  # the logit of a class, with the class as `$c`
        entry = problem.prediction
        if entry.kind in ("simplex", "unit"):
            places = list(entry.over) if entry.kind == "simplex" else []
        else:
            places = [k for k, dim in enumerate(entry.dims) if dim == problem.classes]
        if len(places) != 1 or entry.dims[places[0]] != problem.classes:
            raise NoProblem(f"{entry.name} has not one axis of the classes of {problem.label.tensor}")
        self.along = places[0]
        self.raw = False  # whether the prediction is read as it is
        self._row: tuple[Scalar, ...] | None = None

    # ------------------------------------------------------------------------------------------ probabilities

    def rewritten(self, node: Scalar) -> Scalar:
        """The scalar in `$p[class]`: maps looked through, softmax recognised, a prediction at a class read there.
        Raises NoProblem."""
        memo: dict[Scalar, Scalar] = {}
        found = transform(inline(self.program, node), self._probability, memo)
        return transform(found, self._entry) if self.problem.prediction.kind == "simplex" else found

    def _probability(self, n: Scalar) -> Scalar:
        if isinstance(n, Apply) and n.name in ("sub", "expdiff") and self.problem.prediction.kind != "simplex":
            at = self._class_of(n.args[0], n.args[1])
            if at is not None:
                row = Read(ROW, (at,), REAL)
                return row if n.name == "expdiff" else Apply("log", (row,))
        return n

    def _class_of(self, x: Scalar, total: Scalar) -> Scalar | None:
        """The class at which `x - total` is a log-softmax of the logits."""
        d = self.definitions.get(total.tensor) if isinstance(total, Read) else None
        if not isinstance(total, Read) or d is None or d.head != "logsumexp" or len(d.bound) != 1:
            return None
        if d.where is not TRUE or d.support is not TRUE or d.bound[0].dim != self.problem.classes:
            return None
        body = inline(self.program, d.body)
        found: dict[Index, Scalar] = dict(zip(d.formals, total.indices, strict=True))
        if not matches(body, x, found, set(d.bound), self.ranges.names) or d.bound[0] not in found:
            return None
        mapping: dict[Scalar, Scalar] = dict(zip(d.formals, total.indices, strict=True))
        logit = substitute(body, {**mapping, d.bound[0]: Index("$c", d.bound[0].dim)})
        if self.softmax is None:
            self._is_logit(logit)
            self.softmax = logit
        return found[d.bound[0]] if self.softmax is logit else None

    def _is_logit(self, logit: Scalar) -> None:
        """The exponent of a class rises affinely with its own logit, in the same way for every class."""
        entries = [n for n in postorder(logit) if isinstance(n, Read) and n.tensor in self.varying]
        if len(entries) != 1 or entries[0].tensor != self.problem.prediction.name:
            raise NoProblem(f"{text(logit)} is not an affine function of one logit")
        slope = affine_slope(logit, entries[0])
        index = entries[0].indices[self.along]
        self._same_row(entries[0])
        if (
            slope is None
            or not self.ranges.scope()[slope].positive
            or not isinstance(index, Index)
            or index.name != "$c"
        ):
            raise NoProblem(f"{text(logit)} is not an increasing affine function of one logit")
        rest = substitute(logit, {entries[0]: ZERO})
        if any(n is index for m in (slope, rest) for n in postorder(m)) or not self.ranges.scope()[rest].finite:
            raise NoProblem(f"{text(logit)} is not the same function of each logit")

    def _entry(self, n: Scalar) -> Scalar:
        if isinstance(n, Read) and n.tensor == self.problem.prediction.name:
            self._same_row(n)
            return Read(ROW, (n.indices[self.along],), REAL)
        return n

    def alone(self) -> None:
        """Raises NoProblem unless one element reads one row of predictions."""
        definition = self.program.definition(self.problem.target)
        assert definition is not None
        element = Read(definition.tensor, definition.formals, definition.dtype)
        for n in reads(self.program, element, self.problem.prediction.name):
            self._same_row(n)

    def _same_row(self, n: Read) -> None:
        """All entries that the element reads are of one row, at the element's own indices."""
        definition = self.program.definition(self.problem.target)
        assert definition is not None
        rest = tuple(i for k, i in enumerate(n.indices) if k != self.along)
        if self._row is None:
            self._row = rest
        if rest != self._row or not all(i in definition.formals for i in rest):
            raise NoProblem(f"{text(n)} is of another row than the element")

    # ------------------------------------------------------------------------------------------------- terms

    @property
    def scope(self) -> Scope:
        """Where there is an element, and a label of it."""
        definition = self.program.definition(self.problem.target)
        assert definition is not None
        assert self.problem.classes is not None
        return self.problem.ctx.ranges().scope(frozenset((*definition.dims, self.problem.classes)))

    def separate(self, node: Scalar) -> Separable:
        """Raises NoProblem."""
        if self.problem.ctx.jumps_at_ends(frozenset({self.problem.prediction.name})):
            raise NoProblem(f"{self.problem.target} may jump where {self.problem.prediction.name} is 0 or 1")
        terms = _Terms(self)
        try:
            terms.add(self.rewritten(node), None)
        except NotScalar as reason:
            raise NoProblem(str(reason)) from None
        if self.softmax is not None and self.raw:
            raise NoProblem(f"{self.problem.prediction.name} is read beside its softmax")
        simplex = self.problem.prediction.kind == "simplex"
        return Separable(self.problem, terms.each, terms.own, terms.constant, simplex or self.softmax is not None)

    def moves(self, n: Scalar) -> bool:
        return reads_any(self.varying, n)

    def marked(self, n: Scalar) -> bool:
        return reads_any(self.labelled, n)

    def at_class(self, n: Scalar, place: Scalar) -> Scalar:
        """The scalar in Q, which the prediction at the class is; it may depend on no other place. Raises NoProblem."""

        def step(m: Scalar) -> Scalar:
            if isinstance(m, Read) and m.tensor == self.problem.prediction.name:
                self._same_row(m)
                self.raw = True
                if self.softmax is None and m.indices[self.along] is place:
                    return Q
            return Q if isinstance(m, Read) and m.tensor == ROW and m.indices == (place,) else m

        found = transform(n, step)
        strange = [m for m in postorder(found) if isinstance(m, Read) and m.tensor in self.varying and m is not Q]
        if strange or any(m is place for m in postorder(found)) or self.marked(found):
            raise NoProblem(f"{text(n)} does not only depend on the prediction of one class")
        return found


@dataclass
class _Terms:
    rows: Rows
    each: Scalar = field(default=ZERO)
    own: Scalar = field(default=ZERO)
    constant: bool = False

    def add(self, n: Scalar, factor: Scalar | None) -> None:
        """Add `factor * n`, the factor being free of prediction and label. Raises NoProblem."""
        rows = self.rows
        if not rows.moves(n) and not rows.marked(n):
            if not rows.scope[n].finite:
                raise NoProblem(f"{text(n)} may be infinite or undefined")
            self.constant = self.constant or n is not ZERO
            return
        match n:
            case Apply(name="add" | "sub"):
                self.add(n.args[0], factor)
                self.add(n.args[1], factor if n.name == "add" else _negated(factor))
                return
            case Apply(name="neg"):
                self.add(n.args[0], _negated(factor))
                return
            case Apply(name="real"):
                self.add(n.args[0], factor)
                return
            case Apply(name="mul"):
                for a, b in (n.args, n.args[::-1]):
                    if not rows.moves(a) and not rows.marked(a):
                        self.add(b, _product(factor, a))
                        return
            case Apply(name="div") if not rows.moves(n.args[1]) and not rows.marked(n.args[1]):
                self.add(n.args[0], _product(factor, Apply("div", (ONE, n.args[1]))))
                return
            case Select() if not rows.moves(n.condition) and not rows.marked(n.condition):
                self._either(n, factor)
                return
            case Read() if (d := rows.definitions.get(n.tensor)) is not None and d.head == "sum":
                self._sum(n, d, factor)
                return
        self.own = Apply("add", (self.own, _product(factor, rows.at_class(n, rows.problem.label))))

    def _either(self, n: Select, factor: Scalar | None) -> None:
        classes = self.rows.problem.classes
        assert classes is not None
        decided = truth(self.rows.ranges.scope(frozenset({classes}))[n.condition])  # there is a label, so a class
        if decided is not None:
            self.add(n.a if decided else n.b, factor)
            return
        a, b = _Terms(self.rows), _Terms(self.rows)
        a.add(n.a, factor)
        b.add(n.b, factor)
        self.each = Apply("add", (self.each, Select(n.condition, a.each, b.each)))
        self.own = Apply("add", (self.own, Select(n.condition, a.own, b.own)))
        self.constant = self.constant or a.constant or b.constant

    def _sum(self, n: Read, d: Definition, factor: Scalar | None) -> None:
        rows, label = self.rows, self.rows.problem.label
        if len(d.bound) != 1 or d.bound[0].dim != rows.problem.classes or d.support is not TRUE:
            raise NoProblem(f"{n.tensor} is no sum over the classes")
        index = Index("$c", d.bound[0].dim)
        mapping: dict[Scalar, Scalar] = {**dict(zip(d.formals, n.indices, strict=True)), d.bound[0]: index}
        body = substitute(d.body if d.where is TRUE else Select(d.where, d.body, ZERO), mapping)
        body = rows.rewritten(body)
        sides = []
        for same in (True, False):
            decided = _compared(body, index, label, same)
            sides.append(rows.at_class(substitute(decided, {label: index}) if same else decided, index))
        self.each = Apply("add", (self.each, _product(factor, sides[1])))
        self.own = Apply("add", (self.own, _product(factor, Apply("sub", (sides[0], sides[1])))))


def _compared(body: Scalar, index: Index, label: Read, same: bool) -> Scalar:
    """The scalar with `class == label` and `class != label` decided."""
    found: dict[Scalar, Scalar] = {}
    for m in postorder(body):
        if isinstance(m, Compare) and m.op in ("==", "!=") and {m.a, m.b} == {index, label}:
            found[m] = TRUE if same == (m.op == "==") else FALSE
    return fold(substitute(body, found)) if found else body


def _product(factor: Scalar | None, n: Scalar) -> Scalar:
    return n if factor is None else Apply("mul", (factor, n))


def _negated(factor: Scalar | None) -> Scalar:
    return Apply("neg", (ONE if factor is None else factor,))


__all__ = ["INSIDE", "ROW", "Q", "Rows", "Separable"]
