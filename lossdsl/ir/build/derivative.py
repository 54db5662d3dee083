"""`derivative(e, x)`: the symbolic derivative of an expression with respect to one value that it reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count
from typing import NoReturn

from lossdsl.diagnostics import Span
from lossdsl.ir.build.affine import substitute
from lossdsl.ir.build.define import Place, close, ordered
from lossdsl.ir.build.elaborate import Elaborator, Handler
from lossdsl.ir.build.reversal import plain, reverse
from lossdsl.ir.build.scope import Context, Frame
from lossdsl.ir.nodes import (
    INT,
    ONE,
    REAL,
    TRUE,
    ZERO,
    Apply,
    Compare,
    Definition,
    Group,
    Index,
    Param,
    Program,
    Read,
    Scalar,
    postorder,
    real,
)
from lossdsl.ir.rewrite import free_indices, members, transform
from lossdsl.syntax import tree
from lossdsl.transform.arithmetic import conjunction, conjuncts, mul, select, total
from lossdsl.transform.differentiate import facts_of
from lossdsl.transform.eliminate import Facts, Selection, condition, eliminate
from lossdsl.transform.scalar import adjoints
from lossdsl.transform.winners import flat, nested, others

_THROUGH = ("sum", "logsumexp", "max", "min", "prod")
_VARIABLE = Read("%variable", (), REAL)
_USAGE = "`derivative(expression, x)`, where `x` is a tensor's name or access, or a parameter"


@dataclass(frozen=True)
class _Term:
    """A term of a derivative, which counts where each of some positions is the variable's."""

    at: tuple[tuple[Scalar, Scalar], ...]
    value: Scalar


class Derivatives:
    """The function that needs the bodies of the definitions so far. Partial: all else that is read is held fixed.

    A definition of one element (`z = w * x`) that depends on `x` is differentiated through. So is a reduction over `x`: its
    derivative is one in each entry of `x`. What couples entries otherwise (recurrences, matrices) takes one pass of reverse
    mode, where one is enough.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.handlers: dict[str, Handler] = {"derivative": self._derivative}

    def _derivative(self, e: Elaborator, ctx: Context, node: tree.Call) -> Scalar:
        if node.has_clauses:
            raise e.sink.fail("E0412", "`derivative` takes no `over`, `where` or `else`", node.span)
        if len(node.arguments) != 2 or node.keywords:
            raise e.arity(node, _USAGE)
        variable = e.expression(ctx, node.arguments[1])
        if not isinstance(variable, Read | Param) or variable.dtype is not REAL:
            help = "a real tensor's name, an access such as `x[n + 1]`, or a real parameter"
            raise e.sink.fail("E0409", "`derivative` is by a name", node.arguments[1].span, help)
        value = real(e.number(e.expression(ctx, node.arguments[0])))
        name = variable.tensor if isinstance(variable, Read) else variable.name
        above = self._dependents(variable, name)
        program = self._program(e)
        try:
            terms = _Through(self._place, variable, {*above}, facts_of(program)).terms(value)
            result = total([t.value for t in terms] or [ZERO])
        except _Coupled as why:
            found = reverse(self._place, program, variable, value, above)
            if found is None:
                raise e.sink.fail("E0409", str(why), node.arguments[0].span, why.help) from None
            result = found
        return self._with_axes(e, ctx, result, e.free(value) | e.free(variable), node.span)

    def _program(self, e: Elaborator) -> Program:
        parameters = e.parameters()
        return Program("", tuple(e.inputs.values()), parameters, tuple(self._place.body), ())

    def _with_axes(self, e: Elaborator, ctx: Context, result: Scalar, axes: frozenset[Index], span: Span) -> Scalar:
        """The result over the axes of what was differentiated: that of `a * x` is `a` at every position."""
        if not axes - e.free(result):
            return result
        formals = ordered(e, axes | e.free(result))
        frame = Frame(dict(ctx.frame.ranges), grids=dict(ctx.frame.grids))
        entity = close(
            e,
            self._place,
            frame,
            tensor=self._place.next_name(),
            name="this derivative",
            head="map",
            formals=formals,
            bound=(),
            where=TRUE,
            body=result,
            written=True,
            span=span,
        )
        return e.read(ctx, entity, list(formals), span)

    def _dependents(self, variable: Scalar, name: str) -> set[str]:
        """The definitions so far that depend on the variable."""
        found: set[str] = set()
        for item in self._place.body:
            for d in members(item):
                for n in postorder(*d.scalars()):
                    own = n.tensor == name if isinstance(n, Read) and isinstance(variable, Read) else n is variable
                    if own or (isinstance(n, Read) and n.tensor in found):
                        found.update(m.tensor for m in members(item))
                        break
        return found


def _scalars(pairs: Iterable[tuple[Scalar, Scalar]]) -> dict[Scalar, Scalar]:
    return dict(pairs)


class _Coupled(Exception):
    """Entries are coupled in a way that no term of a derivative is written for."""

    def __init__(self, message: str, help: str) -> None:
        super().__init__(message)
        self.help = help


class _Through:
    """The derivative in one variable, through definitions that depend on it (`above`)."""

    def __init__(self, place: Place, variable: Read | Param, above: set[str], facts: Facts) -> None:
        self.place, self.variable, self.above, self.facts = place, variable, above, facts
        self.name = variable.tensor if isinstance(variable, Read) else variable.name
        self.fresh = count()  # bound indices of one reduction are not those of another around it
        self.winners: dict[str, str] = {}
        self.outermost: dict[str, Definition] = {}
        self.rest: dict[str, Scalar] = {}
        self.definitions: dict[str, Definition | None] = {}
        for item in place.body:
            for d in members(item):
                self.definitions[d.tensor] = None if isinstance(item, Group) else d

    def terms(self, value: Scalar) -> list[_Term]:
        """The derivative of what stands outside of reductions over the variable."""
        found = self.inside(value)
        if any(t.at for t in found):
            self.moved()
        return found

    def moved(self) -> NoReturn:
        help = "name it under another definition, or take the derivative before indices are shifted"
        raise _Coupled(f"`{self.name}` is also read at another position, so that `derivative` would not see it", help)

    def inside(self, value: Scalar) -> list[_Term]:
        def open_up(n: Scalar) -> Scalar:
            if n is self.variable:
                return _VARIABLE
            if not isinstance(n, Read) or n.dtype is not REAL or n.tensor not in self.above or n.tensor == self.name:
                return n
            d = self.definitions.get(n.tensor)
            if d is None or d.head != "map":
                return n
            return transform(substitute(d.body, dict(zip(d.formals, n.indices, strict=True))), open_up, {})

        body = transform(value, open_up, {})
        back: dict[Scalar, Scalar] = {_VARIABLE: self.variable}
        found: list[_Term] = []
        for read, guarded in adjoints(body, ONE, self.wanted).items():
            slope = substitute(guarded.scalar(), back)
            if read is _VARIABLE:
                found.append(_Term((), slope))
            elif read.tensor == self.name:
                found.append(_Term(self.equations(read), slope))
            else:
                found += [_Term(t.at, mul(slope, t.value)) for t in self.reduced(read)]
        return found

    def wanted(self, read: Read) -> bool:
        return (
            read is _VARIABLE
            or read.tensor in self.above
            or (isinstance(self.variable, Read) and read.tensor == self.variable.tensor)
        )

    def equations(self, read: Read) -> tuple[tuple[Scalar, Scalar], ...]:
        """Where a read is of the variable's entry."""
        assert isinstance(self.variable, Read)
        return tuple((a, b) for a, b in zip(read.indices, self.variable.indices, strict=True) if a is not b)

    def reduced(self, read: Read) -> list[_Term]:
        """The derivative of one entry of a reduction."""
        d = self.definitions.get(read.tensor)
        if d is None or d.head not in _THROUGH:
            what = "a recurrence" if d is None else f"`{d.head}`"
            help = "take the derivative of one entry of it, or of a sum: each entry of it would need a pass of its own"
            raise _Coupled(f"`{self.name}` is read below {what} here: entries are coupled", help)
        d = self.factored(d)
        bound = {i: Index(f"{i.name}%{next(self.fresh)}", i.dim) for i in d.bound}
        into = _scalars(zip((*d.formals, *bound), (*read.indices, *bound.values()), strict=True))
        where, body = substitute(d.where, into), substitute(d.body, into)
        weight: Scalar = ONE
        match d.head:
            case "max" | "min":
                place = Read(self.winner(d), read.indices, INT)
                where = conjunction((where, Compare("==", flat([bound[i] for i in d.bound]), place)))
            case "logsumexp":
                weight = Apply("expdiff", (body, read))
            case "prod":
                weight = substitute(self.others(d), into)
        return [self.summed(mul(t.value, weight), where, list(bound.values()), t.at) for t in self.inside(body)]

    def factored(self, d: Definition) -> Definition:
        """A product of several indices as one of products of one index each."""
        if d.head != "prod" or len(d.bound) == 1:
            return d
        if d.tensor not in self.outermost:
            *inner, self.outermost[d.tensor] = nested(d, lambda _: self.place.next_name())
            for one in inner:
                self.define(replace(one, comment=None))
                self.above.add(one.tensor)
        return self.outermost[d.tensor]

    def others(self, d: Definition) -> Scalar:
        """The product of all factors but one, over the formals and the bound index."""
        if d.tensor not in self.rest:
            made, self.rest[d.tensor] = others(d, lambda _: self.place.next_name())
            self.place.body += made
        return self.rest[d.tensor]

    def define(self, d: Definition) -> None:
        self.place.body.append(d)
        self.definitions[d.tensor] = d

    def winner(self, d: Definition) -> str:
        """The tensor of where the largest (smallest) entry is, the first of equal ones as everywhere."""
        if d.tensor not in self.winners:
            name = self.winners[d.tensor] = self.place.next_name()
            self.define(replace(d, tensor=name, head=f"arg{d.head}", comment=None))
        return self.winners[d.tensor]

    def summed(self, value: Scalar, where: Scalar, bound: list[Index], at: tuple[tuple[Scalar, Scalar], ...]) -> _Term:
        """The sum of a term over the indices: those that have to be the variable's have one value."""
        own = tuple((a, b) for a, b in at if not set(bound).isdisjoint(free_indices(a)))
        left = tuple(pair for pair in at if pair not in own)
        solved = eliminate(Selection(tuple(bound), own, conjuncts(where), (), (value,)), self.facts)
        rest, where, (value,) = solved.bound, condition(solved), solved.values
        if not rest:
            return _Term(left, select(where, value, ZERO))
        free = [i for i in dict.fromkeys((*free_indices(value), *free_indices(where))) if i not in rest]
        names = plain((*free, *rest))
        into = _scalars(names.items())
        name = self.place.next_name()
        formals, summed = (tuple(names[i] for i in some) for some in (free, rest))
        d = Definition(name, formals, "sum", summed, substitute(where, into), substitute(value, into))
        self.define(d)
        return _Term(left, Read(name, tuple(free), REAL))


__all__ = ["Derivatives"]
