"""Accesses: `x[n, c]` by position, `x[c = target]` by name, with values outside, composed; tables."""

from __future__ import annotations

from dataclasses import replace

from lossdsl.dim import Dim
from lossdsl.ir.build.affine import (
    CHOICES,
    Affine,
    affine,
    canonical,
    integer,
    substitute,
    to_scalar,
)
from lossdsl.ir.build.boundaries import boundary, mapped
from lossdsl.ir.build.reads import Reader
from lossdsl.ir.build.scalars import strip
from lossdsl.ir.build.scope import (
    REST,
    Context,
    Frame,
    ParameterEntity,
    Slot,
    TensorEntity,
)
from lossdsl.ir.nodes import BOOL, REAL, Apply, Compare, Const, Definition, Index, Read, Scalar, Table, postorder
from lossdsl.ir.rewrite import free_indices
from lossdsl.syntax import tree


class Accesses(Reader):
    """How an access of the syntax tree becomes a read."""

    def access(self, ctx: Context, node: tree.Access) -> Scalar:
        base = strip(node.base)
        if isinstance(base, tree.Table):
            return self._table(ctx, base, node)
        named = [i for i in node.items if isinstance(i, tree.ByName)]
        positions = [i for i in node.items if not isinstance(i, (tree.ByName, tree.Rest))]
        if named and (positions or len(named) != len(node.items)):
            help = "name all replaced axes, or write every position"
            raise self.sink.fail("E0305", "an access is by name or by position, not both", node.span, help)
        return self._by_name(ctx, base, named, node) if named else self._by_position(ctx, base, node)

    def _by_name(self, ctx: Context, base: tree.Expr, items: list[tree.ByName], node: tree.Access) -> Scalar:
        replaced: dict[str, Scalar] = {}
        kinds: dict[str, str] = {}
        tensor = self._direct(ctx, base, shifted=True)
        for item in items:
            axis = self.axis(item.axis, item.span)
            if item.axis in replaced:
                raise self.sink.fail("E0302", f"axis `{item.axis}` is replaced twice", item.span)
            slot = next((s for s in tensor.slots if s.axis == item.axis), None) if tensor else None
            if tensor is not None and slot is None:
                help = f"`{tensor.name}` has {_axes_text(tensor)}"
                raise self.sink.fail("E0304", f"`{tensor.name}` has no axis `{item.axis}`", item.span, help)
            end = slot.upper if slot is not None else axis.dim
            inner = replace(ctx, last=to_scalar(Affine({}, end - 1)))
            replaced[item.axis], kind = self._index(inner, item.index)
            if kind is not None:
                kinds[item.axis] = kind
        if tensor is not None:
            indices = [replaced.get(s.axis) for s in tensor.slots]
            modes = [kinds.get(s.axis) for s in tensor.slots]
            return self.read(ctx, tensor, indices, node.span, node.otherwise, modes)
        if node.otherwise is not None or kinds:
            return self._guarded(ctx, base, replaced, kinds, node)
        probes = {axis: self.fresh_index(axis) for axis in replaced}  # elaborated once more, beside the program
        probed = self.expression(replace(ctx, frame=Frame(), axes=ctx.axes.extended(probes)), base)
        if self._reaches_beyond(probed, frozenset(probes.values()), set()):
            return self._guarded(ctx, base, replaced, kinds, node)
        value = self.expression(replace(ctx, axes=ctx.axes.extended(replaced)), base)
        if len(items) == 1 and probes[items[0].axis] not in self.free(probed):
            raise self.sink.fail("E0304", f"nothing in the brackets has an axis `{items[0].axis}`", items[0].span)
        return value

    def _reaches_beyond(
        self, node: Scalar, variables: frozenset[Index], seen: set[tuple[Definition, frozenset[Index]]]
    ) -> bool:
        """Whether an expression has values where its axes end: it does not only read there, or says what stands outside.
        Its range does not follow from its reads, then."""
        definitions = {d.tensor: d for d in self.made()}
        for n in postorder(node):
            if variables.isdisjoint(free_indices(n)):
                continue
            if isinstance(n, Compare | Table) or (isinstance(n, Apply) and n.name in ("real", *CHOICES)):
                return True
            d = definitions.get(n.tensor) if isinstance(n, Read) and "." in n.tensor else None  # a reduction in it
            if isinstance(n, Read) and d is not None:
                pairs = zip(d.formals, n.indices, strict=True)
                own = frozenset(f for f, index in pairs if not variables.isdisjoint(free_indices(index)))
                if (d, own) in seen:  # of a recurrence
                    continue
                seen.add((d, own))
                if any(self._reaches_beyond(s, own, seen) for s in d.scalars()):
                    return True
        return False

    def _guarded(
        self, ctx: Context, base: tree.Expr, replaced: dict[str, Scalar], kinds: dict[str, str], node: tree.Access
    ) -> Scalar:
        """`expression[h = index else value]`: the expression is a definition; outside of its range, the value. Indices
        with a boundary are mapped into it."""
        probes = {axis: self.fresh_index(axis) for axis in replaced}
        before = len(ctx.frame.needs)
        value = self.expression(replace(ctx, axes=ctx.axes.extended(probes)), base)
        guards: list[Scalar] = []
        mapping: dict[Scalar, Scalar] = {}
        whole = TensorEntity("the expression in brackets", "", (), value.dtype, written=False, span=node.span)
        for axis, probe in probes.items():
            lower, upper = ctx.frame.ranges.pop(probe, (Dim.const(0), probe.dim))
            grid = ctx.frame.grids.pop(probe, None)
            if probe not in self.free(value):
                raise self.sink.fail("E0304", f"nothing in the brackets has an axis `{axis}`", node.span)
            if grid is not None:
                slot = Slot(axis, probe.dim, lower, upper, grid.step, grid.extent)
                self._whole_grid(ctx, grid.name, slot, affine(replaced[axis]), node.span)
            if axis in kinds:
                mapping[probe] = mapped(kinds[axis], replaced[axis], lower, upper)
                guards += self._nonempty(ctx, mapping[probe], lower, upper)
                continue
            mapping[probe] = canonical(replaced[axis])
            if node.otherwise is not None:
                guards += self._unsecured(replaced[axis], lower, upper, ctx.path)
                continue
            extent = (grid.step, grid.extent) if grid is not None else (1, None)
            slot = Slot(axis, probe.dim, lower, upper, *extent)
            _, unproved, quiet = self.place(ctx, whole, slot, replaced[axis], node.span, has_else=False)
            if unproved and not quiet and value.dtype is REAL:
                message = "this index into an expression is not proved to stay in range; outside, the value is nan"
                help = "say what stands outside: `(...)[index else 0]`, or put the access under a condition"
                self.sink.add("W1003", message, node.span, help)
            guards += unproved
        ctx.frame.visits[:] = [v for v in ctx.frame.visits if v.variable not in mapping]
        needs = ctx.frame.needs[before:]
        del ctx.frame.needs[before:]
        inside = ctx.path + tuple(guards)
        self._require(
            replace(ctx, path=inside), [replace(n, condition=substitute(n.condition, mapping)) for n in needs]
        )
        value = substitute(value, mapping)
        if node.otherwise is None and guards:
            return self.outside(ctx, guards, value, "this expression", node.span)
        return self._choose(ctx, guards, value, node.otherwise) if node.otherwise is not None else value

    def _by_position(self, ctx: Context, base: tree.Expr, node: tree.Access) -> Scalar:
        plain = all(isinstance(strip(i), tree.Name) for i in node.items if not isinstance(i, (tree.ByName, tree.Rest)))
        tensor = self._direct(ctx, base, shifted=not plain)
        if tensor is None:
            help = "name the axis: `(...)[h = index]`"
            raise self.sink.fail("E0303", "positions need a tensor or a definition with written axes", node.span, help)
        if not tensor.written and len(tensor.slots) > 1:
            axes = ", ".join(s.axis for s in tensor.slots)
            help = (
                f"write `{tensor.name}[{axes}] = ...`, or name the axis: `{tensor.name}[{tensor.slots[0].axis} = ...]`"
            )
            raise self.sink.fail(
                "E0303", f"the axes of `{tensor.name}` are not written, so its positions are not known", node.span, help
            )
        if len(node.items) != len(tensor.slots):
            have = len(tensor.slots)
            raise self.sink.fail(
                "E0302",
                f"`{tensor.name}` has {have} position{'s' * (have != 1)}, {len(node.items)} given",
                node.span,
                f"`{tensor.name}` has {_axes_text(tensor)}",
            )
        indices: list[Scalar | None] = []
        modes: list[str | None] = []
        for item, slot in zip(node.items, tensor.slots, strict=True):
            if isinstance(item, tree.Rest):
                if slot.axis != REST:
                    raise self.sink.fail("E0302", f"`...` stands where `{tensor.name}` has none", item.span)
                indices.append(None)
                modes.append(None)
                continue
            assert not isinstance(item, tree.ByName)
            inner = replace(ctx, last=to_scalar(Affine({}, slot.upper - 1)))
            index, kind = self._index(inner, item)
            indices.append(index)
            modes.append(kind)
        return self.read(ctx, tensor, indices, node.span, node.otherwise, modes)

    def _index(self, ctx: Context, node: tree.Expr) -> tuple[Scalar, str | None]:
        """An index of an access, and the boundary (`edge`, `reflect`, `wrap`) that maps it."""
        call = boundary(strip(node))
        if call is None:
            return self.integer_expression(ctx, node, "an index"), None
        clauses = (call.over, call.where, call.otherwise, call.direction)
        if len(call.arguments) != 1 or call.keywords or any(c is not None for c in clauses):
            raise self.sink.fail(
                "E0401", f"`{call.function}` takes one index", call.span, f"write `{call.function}(h + 1)`"
            )
        return self.integer_expression(ctx, call.arguments[0], "an index"), call.function

    def _direct(self, ctx: Context, base: tree.Expr, shifted: bool) -> TensorEntity | None:
        """The tensor that an expression plainly is, through arguments that are plain names."""
        while isinstance(base, tree.Name) and base.id in ctx.locals:
            argument = ctx.locals[base.id]
            base = strip(argument.value)
            ctx = replace(ctx, locals=argument.locals, loss_names=argument.loss_names)
        if not isinstance(base, tree.Name) or base.id in self.axes or base.id in tree.CONSTANTS:
            return None
        if base.id in ("last", "step"):
            return None
        entity = self.lookup(ctx, base.id, base.span, shifted)
        if isinstance(entity, TensorEntity):
            return entity
        if isinstance(entity, ParameterEntity):
            raise self.sink.fail("E0302", f"the parameter `{base.id}` has no axes", base.span)
        return None

    def _table(self, ctx: Context, table: tree.Table, node: tree.Access) -> Scalar:
        shape, items = self._table_items(table)
        if any(isinstance(i, (tree.ByName, tree.Rest)) for i in node.items) or len(node.items) != len(shape):
            raise self.sink.fail("E0302", f"this table has {len(shape)} positions", node.span)
        values = self.unify(items)
        form = Affine({}, Dim.const(0))
        missing: list[Scalar] = []
        for item, extent in zip(node.items, shape, strict=True):
            assert not isinstance(item, (tree.ByName, tree.Rest))
            inner = replace(ctx, last=integer(extent - 1))
            index = self.integer_expression(inner, item, "an index")
            missing += self._unsecured(index, Dim.const(0), Dim.const(extent), ctx.path)
            form = Affine({a: c * extent for a, c in form.terms.items()}, form.rest * extent).plus(affine(index))
        constants = tuple(v for v in values if isinstance(v, Const))
        value: Scalar = Table(constants, to_scalar(form))
        if missing and node.otherwise is not None:
            return self._choose(ctx, missing, value, node.otherwise)
        if missing:
            message = f"this index into a table of {' x '.join(map(str, shape))} is not proved to stay in range"
            help = "give the table as many numbers as the axis has positions, or write `[...][i else 0]`"
            raise self.sink.fail("E0405", message, node.span, help)
        return value

    def _table_items(self, table: tree.Table) -> tuple[tuple[int, ...], list[Scalar]]:
        shapes: list[tuple[int, ...]] = []
        items: list[Scalar] = []
        for item in table.items:
            inner = strip(item)
            if isinstance(inner, tree.Table):
                shape, below = self._table_items(inner)
            else:
                named = any(isinstance(n, tree.Name) and n.id not in tree.CONSTANTS for n in tree.walk(inner))
                constant = None if named else self.expression(self.top_context(Frame()), inner)
                if not isinstance(constant, Const) or constant.dtype is BOOL:
                    help = "values are stacked by a condition: `a if i == 0 else b`"
                    raise self.sink.fail("E0402", "a table holds numbers", item.span, help)
                shape, below = (), [constant]
            shapes.append(shape)
            items += below
        if any(s != shapes[0] for s in shapes):
            lengths = ", ".join(str(s[0]) if s else "a number" for s in shapes)
            help = f"they have {lengths}: each row needs the same number of entries"
            raise self.sink.fail("E0402", "the rows of this table differ in length", table.span, help)
        return (len(shapes), *shapes[0]), items


def _axes_text(tensor: TensorEntity) -> str:
    return f"axes [{', '.join(s.axis or str(s.full) for s in tensor.slots)}]" if tensor.slots else "no axes"
