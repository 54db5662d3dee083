"""An element of one entry of a row that a softmax is of: a function of one logit, which rules about one entry look at.

Of a row z, z_k less the log-sum-exp of the row is logsigmoid(u), where u is z_k less the log-sum-exp of the others (and the
share of z_k is sigmoid(u)), as 1 / share = 1 + e^-u. So an element that is g of it has the gradient g'(u) times that of u,
whose masses are known (`masses`): with |g'| <= c it is Lipschitz with c times their norm. A row of one entry has the share 1,
whatever the entry is.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.boxes import Trace, of_lipschitz
from lossdsl.certificate.far import of_slopes
from lossdsl.certificate.masses import Mass, Masses, allowed_number, size_of, told
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.slopes import Slopes
from lossdsl.ir.nodes import REAL, TRUE, Apply, Const, Definition, Input, Read, Scalar
from lossdsl.ir.rewrite import free_indices, substitute
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

ELEMENT, LOGIT, STILL = "$element", "$logit", "$still"


def of_logit(q: Question) -> Trace:
    """A bound of slopes in the row, or what a Lipschitz constant is not above; that there is one, for a bound of None."""
    row = _Row(q)
    program = q.program.with_body((*q.program.body, *row.still, row.element))
    dims = tuple(i.dim for i in row.element.formals)
    own = Input(LOGIT, dims, ("",) * len(dims), "real")
    asked = replace(q, program=replace(program, inputs=(*program.inputs, own)), of=ELEMENT, inputs=(LOGIT,))
    asked = replace(asked, property="lipschitz", bound=None, bracket=(None, None))
    masses = [row.way, ["masses", told(row.mass.up), told(row.mass.down)]]
    if q.property == "lipschitz" and q.bound is None:
        reason = Stuck("no rule for the element")
        for rule in (of_lipschitz, of_slopes):
            try:
                return [*masses, *rule(asked)]
            except Stuck as stuck:
                reason = stuck
        raise reason
    size, most = size_of(row.case, row.mass, q.norm), allowed_number(q)
    if not 0 < size < INF or most <= 0:
        raise Stuck("how much the logit moves")
    each = e.div(Enclosure(most, most), Enclosure(size, size)).lo
    return [*masses, [q.norm, size.hex(), each.hex()], *of_lipschitz(replace(asked, bound=Const(Fraction(each))))]


class _Row:
    """The element in the logit, and the masses of that. Raises Stuck if there is not one."""

    def __init__(self, q: Question) -> None:
        if len(q.inputs) != 1:
            raise Stuck("more than one input")
        bounds = Bounds(q.program, q.assume, moved=frozenset(q.inputs))
        self.bounds, self._slopes = bounds, Slopes(bounds, q.inputs)
        self._masses = Masses(bounds, self._slopes)
        d = bounds.definitions.get(q.of)
        if d is None or d.head != "map" or d.tensor in bounds.recurrent:
            raise Stuck(f"{q.of} is no element")
        if not bounds.tensor(q.of).finite:
            raise Stuck(f"{q.of} may be infinite in a row of one entry")
        self.case: Case = bounds.body(d)
        self.still: list[Definition] = []
        self._logits: dict[Scalar, Mass] = {}
        self._logit = Read(LOGIT, d.formals, REAL)
        body = self._written(d.body)
        if len(self._logits) != 1:
            raise Stuck(f"{q.of} is of {len(self._logits)} logits")
        ((logit, self.mass),) = self._logits.items()
        self.way = self._rests_on(logit.children[1])
        self.element = Definition(ELEMENT, d.formals, "map", (), TRUE, body)

    def _written(self, n: Scalar) -> Scalar:
        if not self._masses.rules.moves(n):
            return self._put_aside(n)
        mass = self._masses.logit(n, self.case)
        if mass is not None:
            self._logits[Apply("sub", n.children)] = mass
            return Apply("logsigmoid" if isinstance(n, Apply) and n.name == "sub" else "sigmoid", (self._logit,))
        if isinstance(n, Read):
            return self._written(self._read(n))
        return _simpler(n.rebuild(tuple(self._written(c) for c in n.children)))

    def _rests_on(self, total: Scalar) -> list[str]:
        """The tensors that are Lipschitz, so that the entries of the row are. Raises Stuck."""
        assert isinstance(total, Read)
        rows = self._slopes.rested(self.bounds.definitions[total.tensor])
        return list(dict.fromkeys(t for row in rows for t in self._slopes.lipschitz(row)))

    def _read(self, n: Read) -> Scalar:
        """The element of the map that is read. Raises Stuck."""
        d = self.bounds.definitions.get(n.tensor)
        if d is None or d.head != "map" or d.support is not TRUE or d.tensor in self.bounds.recurrent:
            raise Stuck(f"{n.tensor} is read beside the logit")
        return substitute(d.body, dict(zip(d.formals, n.indices, strict=True)))

    def _put_aside(self, n: Scalar) -> Scalar:
        """What does not move, with shares in it as tensors of their own, of which intervals are known."""
        if isinstance(n, Apply) and n.name == "expdiff":
            formals = free_indices(n)
            self.still.append(Definition(f"{STILL}{len(self.still)}", formals, "map", (), TRUE, n))
            return Read(self.still[-1].tensor, formals, REAL)
        return n.rebuild(tuple(map(self._put_aside, n.children))) if n.children else n


def _simpler(n: Scalar) -> Scalar:
    """-expm1(logsigmoid(u)) is sigmoid(-u), which is positive, and a power of it is exp(k logsigmoid(-u))."""
    if not isinstance(n, Apply):
        return n
    match n.name, n.args[0]:
        case "neg", Apply(name="expm1", args=(Apply(name="logsigmoid") as inner,)):
            return Apply("sigmoid", (Apply("neg", inner.args),))
        case "relu", Apply(name="sigmoid") as inner:
            return inner
        case "exp", Apply(name="logsigmoid") as inner:
            return Apply("sigmoid", inner.args)
        case "pow", Apply(name="sigmoid") as inner:
            return Apply("exp", (Apply("mul", (n.args[1], Apply("logsigmoid", inner.args))),))
    return n


__all__ = ["of_logit"]
