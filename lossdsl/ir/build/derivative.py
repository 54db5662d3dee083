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
from lossdsl.ir.build.scope import Context, Frame, base_name
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
    Read,
    Scalar,
    postorder,
    real,
)
from lossdsl.ir.rewrite import free_indices, members, transform
from lossdsl.syntax import tree
from lossdsl.transform.arithmetic import conjunction, mul, select, total
from lossdsl.transform.scalar import adjoints
from lossdsl.transform.winners import flat

_VARIABLE = Read("%variable", (), REAL)
_USAGE = "`derivative(expression, x)`, where `x` is a tensor's name or access, or a parameter"


@dataclass(frozen=True)
class _Term:
    """A term of a derivative, which counts where each of some indices is the one of the variable's position."""

    at: tuple[tuple[Index, Index], ...]
    value: Scalar


class Derivatives:
    """The function that needs the bodies of the definitions so far. Partial: all else that is read is held fixed.

    A definition of one element (`z = w * x`) that depends on `x` is differentiated through. A sum, mean, log-sum-exp, maximum
    or minimum over `x` is, too: its derivative is one in each entry of `x`. Of other reductions that is an error.
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
        through = _Through(self._place, variable, self._dependents(variable, name))
        try:
            result = total([t.value for t in through.terms(value)] or [ZERO])
        except _Coupled as why:
            raise e.sink.fail("E0409", str(why), node.arguments[0].span, why.help) from None
        return self._with_axes(e, ctx, result, e.free(value) | e.free(variable), node.span)

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

    def __init__(self, place: Place, variable: Read | Param, above: set[str]) -> None:
        self.place, self.variable, self.above = place, variable, above
        self.name = variable.tensor if isinstance(variable, Read) else variable.name
        self.fresh = count()  # bound indices of one reduction are not those of another around it
        self.winners: dict[str, str] = {}
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

    def equations(self, read: Read) -> tuple[tuple[Index, Index], ...]:
        """Where a read is of the variable's entry."""
        assert isinstance(self.variable, Read)
        found: list[tuple[Index, Index]] = []
        for here, there in zip(read.indices, self.variable.indices, strict=True):
            if here is there:
                continue
            if not isinstance(here, Index) or not isinstance(there, Index) or here.dim != there.dim:
                self.moved()
            found.append((here, there))
        return tuple(found)

    def reduced(self, read: Read) -> list[_Term]:
        """The derivative of one entry of a reduction."""
        d = self.definitions.get(read.tensor)
        if d is None or d.head not in ("sum", "logsumexp", "max", "min"):
            what = "a recurrence" if d is None else f"`{d.head}`"
            help = "take the derivative of what stands inside of it; it is known through `sum`, `mean`, `logsumexp`, `max` and `min`"
            raise _Coupled(f"`{self.name}` is read below {what} here: entries are coupled", help)
        bound = {i: Index(f"{i.name}%{next(self.fresh)}", i.dim) for i in d.bound}
        into = _scalars(zip((*d.formals, *bound), (*read.indices, *bound.values()), strict=True))
        where, body = substitute(d.where, into), substitute(d.body, into)
        if d.head in ("max", "min"):
            place = Read(self.winner(d), read.indices, INT)
            where = conjunction((where, Compare("==", flat([bound[i] for i in d.bound]), place)))
        found: list[_Term] = []
        for t in self.inside(body):
            value = mul(t.value, Apply("expdiff", (body, read))) if d.head == "logsumexp" else t.value
            found.append(self.summed(value, where, list(bound.values()), t.at))
        return found

    def winner(self, d: Definition) -> str:
        """The tensor of where the largest (smallest) entry is, the first of equal ones as everywhere."""
        if d.tensor not in self.winners:
            name = self.winners[d.tensor] = self.place.next_name()
            found = replace(d, tensor=name, head=f"arg{d.head}", comment=None)
            self.place.body.append(found)
            self.definitions[name] = found
        return self.winners[d.tensor]

    def summed(self, value: Scalar, where: Scalar, bound: list[Index], at: tuple[tuple[Index, Index], ...]) -> _Term:
        """The sum of a term over the indices: those that have to be the variable's have one value."""
        known: dict[Scalar, Scalar] = {}
        left: list[tuple[Index, Index]] = []
        for here, there in at:
            if here in bound and here not in known:
                known[here] = there
            elif here in bound:
                self.moved()
            else:
                left.append((here, there))
        rest = [i for i in bound if i not in known]
        value, where = substitute(value, known), substitute(where, known)
        if not rest:
            return _Term(tuple(left), select(where, value, ZERO))
        free = [i for i in dict.fromkeys((*free_indices(value), *free_indices(where))) if i not in rest]
        names: dict[str, int] = {}
        own: dict[Index, Index] = {}
        for i in (*free, *rest):
            base = base_name(i)
            names[base] = names.get(base, -1) + 1
            own[i] = Index(f"{base}.{names[base]}" if names[base] else base, i.dim)
        into = _scalars(own.items())
        name = self.place.next_name()
        formals, summed = (tuple(own[i] for i in some) for some in (free, rest))
        d = Definition(name, formals, "sum", summed, substitute(where, into), substitute(value, into))
        self.place.body.append(d)
        self.definitions[name] = d
        return _Term(tuple(left), Read(name, tuple(free), REAL))


__all__ = ["Derivatives"]
