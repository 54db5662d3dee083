"""State and learnable values of a loss that another one calls: they become values of the caller, one for each call.

The k-th call of `centred` makes the caller's `centred_1_centre`, `centred_2_centre` ... of its state `centre`: these are
the keywords of the emitted function, the names in `state_dict`, and what `return_state=True` names. The names are plain
words because they are seen outside of the file; hidden definitions of a call have dots in theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lossdsl.diagnostics import Span
from lossdsl.dim import Dim
from lossdsl.ir.build.declarations import declared_input
from lossdsl.ir.build.elaborate import Elaborator
from lossdsl.ir.build.renaming import Renaming
from lossdsl.ir.build.scope import REST, AxisEntity, Slot, TensorEntity
from lossdsl.syntax import tree

ROLES = ("state", "learnable")


def has_lasting(body: Sequence[tree.Statement]) -> bool:
    """Whether a loss has state or learnable values of its own."""
    return any(isinstance(s, tree.Declaration) and s.keyword in ROLES for s in body)


class Lasting:
    """The state and learnable values of one call.

    name     the loss that is called
    prefix   of the hidden names of the call
    """

    def __init__(self, e: Elaborator, name: str, prefix: str, body: Sequence[tree.Statement]) -> None:
        self.e, self.name, self.prefix = e, name, prefix
        self.declarations = [s for s in body if isinstance(s, tree.Declaration) and s.keyword in ROLES]
        self.updates = [s for s in body if isinstance(s, tree.Update)]
        self.public = ""
        if self.declarations:
            self.public = self._free_prefix()

    def _free_prefix(self) -> str:
        """`centred_1_`: the first whose names are free in the caller."""
        e, k = self.e, 1
        names = [i.name for s in self.declarations for i in s.names]
        names += [a.name for s in self.declarations for a in s.type.axes or () if isinstance(a, tree.Axis)]
        names += ["rest", ""]
        while True:
            made = f"{self.name}_{k}_"
            taken = {*e.names, *e.axes, *e.inputs, *e.reserved}
            taken |= {s for i in e.inputs.values() for d in i.dims for s in d.symbols()}
            if not any(made + n in taken for n in names):
                e.reserved.add(made)
                return made
            k += 1

    def new_axes(self, known: Mapping[str, tuple[str, ...]], span: Span) -> dict[str, tuple[str, ...]]:
        """Axes that only lasting values have (`queue: real[r, d]`): they have an extent of their own in the caller.

        known    what the axes of the arguments and those with an `axis` line stand for
        """
        made: dict[str, tuple[str, ...]] = {}
        for declaration in self.declarations:
            for item in declaration.type.axes or ():
                name = REST if isinstance(item, tree.Rest) else getattr(item, "name", "")
                if not name or name in known or name in made:
                    continue
                if name == REST:
                    message = f"the `...` of `{declaration.names[0].name}` is that of no input of `{self.name}`"
                    help = "name its axes: in a loss that is called they have names of their own"
                    raise self.e.sink.fail("E0309", message, span, help)
                hidden = self.prefix + name
                dim = Dim.symbol(self.public + name)
                self.e.axes[hidden] = AxisEntity(hidden, dim, hidden, len(self.e.axes), item.span)
                made[name] = (hidden,)
        return made

    def names(self) -> dict[str, tree.Expr]:
        """What the callee's names of these values stand for."""
        idents = [i for s in self.declarations for i in s.names]
        return {i.name: tree.Name(id=self.prefix + i.name, span=i.span) for i in idents}

    def declare(self, renaming: Renaming, slots: Mapping[str, Slot]) -> None:
        """Enter the values, and keep their updates for the end of the caller.

        slots    the positions of the caller that hidden axes stand for
        """
        e = self.e
        for statement in self.declarations:
            renamed = renaming.apply(statement)
            for k, ident in enumerate(statement.names):
                hidden, public = self.prefix + ident.name, self.public + ident.name
                made = declared_input(e, renamed, replace(ident, name=public), k)
                entity_slots = tuple(Slot.whole(a, d) for a, d in zip(made.axes, made.dims, strict=True))
                e.names[hidden] = TensorEntity(ident.name, public, entity_slots, made.dtype, True, ident.span)
                made = replace(made, axes=self._outer(made.axes, slots))
                e.inputs[public] = made
                e.values.declare_input(made)
        for update in self.updates:
            name = replace(update.name, name=self.prefix + update.name.name)
            e.called_updates.append(replace(renaming.apply(update), name=name))

    def _outer(self, axes: Sequence[str], slots: Mapping[str, Slot]) -> tuple[str, ...]:
        """The caller's names of axes, where it has one for the whole extent."""
        names: list[str] = []
        for axis in axes:
            slot = slots.get(axis)
            outer = slot.axis if slot is not None and not slot.restricted else ""
            own = self.public + axis.removeprefix(self.prefix) if axis else ""
            names.append(outer if outer and outer not in names else own)
        return tuple(names)


__all__ = ["Lasting", "has_lasting"]
