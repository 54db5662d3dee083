"""`derivative(e, x)`: the symbolic derivative of an expression with respect to one value that it reads."""

from __future__ import annotations

from lossdsl.diagnostics import Span
from lossdsl.ir.build.affine import substitute
from lossdsl.ir.build.define import Place, close, ordered
from lossdsl.ir.build.elaborate import Elaborator, Handler
from lossdsl.ir.build.scope import Context, Frame
from lossdsl.ir.nodes import REAL, TRUE, Definition, Group, Index, Param, Read, Scalar, postorder, real
from lossdsl.ir.rewrite import members, transform
from lossdsl.syntax import tree
from lossdsl.transform.scalar import scalar_derivative

_VARIABLE = Read("%variable", (), REAL)
_USAGE = "`derivative(expression, x)`, where `x` is a tensor's name or access, or a parameter"


class Derivatives:
    """The function that needs the bodies of the definitions so far. Partial: all else that is read is held fixed.

    A definition of one element (`z = w * x`) that depends on `x` is differentiated through; a reduction over it couples
    entries, so that the derivative is no longer of one value: that is an error.
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
        definitions: dict[str, Definition | None] = {}
        for item in self._place.body:
            for d in members(item):
                definitions[d.tensor] = d if d.head == "map" and not isinstance(item, Group) else None
        name = variable.tensor if isinstance(variable, Read) else variable.name
        above = self._dependents(variable, name)

        def open_up(n: Scalar) -> Scalar:
            if n is variable:
                return _VARIABLE
            if not isinstance(n, Read) or n.dtype is not REAL:
                return n
            if isinstance(variable, Read) and n.tensor == variable.tensor:
                help = "name it under another definition, or take the derivative before indices are shifted"
                message = f"`{name}` is also read at another position, so that `derivative` would not see it"
                raise e.sink.fail("E0409", message, node.arguments[0].span, help)
            if n.tensor not in above:
                return n
            d = definitions.get(n.tensor)
            if d is None:
                message = f"`{name}` is read below a reduction here: entries are coupled"
                help = "take the derivative of what stands inside of the reduction"
                raise e.sink.fail("E0409", message, node.arguments[0].span, help)
            return transform(substitute(d.body, dict(zip(d.formals, n.indices, strict=True))), open_up, {})

        opened = transform(value, open_up, {})
        result = substitute(scalar_derivative(opened, _VARIABLE), {_VARIABLE: variable})
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


__all__ = ["Derivatives"]
