"""What no single kernel makes: recurrences, and routines of a library that take a whole tensor.

Both are results that always have a buffer, and both read buffers only: the rest of a program is scheduled around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lossdsl.dim import Dim
from lossdsl.ir.nodes import TRUE, ZERO, Apply, Const, Definition, Group, Index, Scalar, Select
from lossdsl.ir.ranges import implies
from lossdsl.ir.rewrite import Fresh, free_indices, reads, substitute, tensors
from lossdsl.lower.arrange import kernel
from lossdsl.lower.body import Body, Context, MustStore, NotTogether
from lossdsl.lower.cumulative import Cumulative
from lossdsl.lower.extent import form, in_range, index
from lossdsl.lower.plan import Call, Kernel, Recurrence, Statement, Step, Store, Subscript, Within
from lossdsl.lower.prepare import unsupported
from lossdsl.lower.products import conjuncts
from lossdsl.lower.windows import Window

LIBRARY = ("argsort", "inverse", "logdet")


@dataclass(frozen=True)
class Library:
    """A definition that one call makes, and its operands: tensors with the names of their axes."""

    definition: Definition
    operands: tuple[tuple[str, tuple[str, ...]], ...]
    operation: str
    along: tuple[str, int] | None = None


@dataclass(frozen=True)
class Opaque:
    """A node of the schedule without a body: `made` is a recurrence, a call or a window."""

    made: Group | Library | Window
    results: tuple[str, ...]
    reads: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why what it reads has a buffer."""
        if isinstance(self.made, Library):
            return f"the operand of a library's {self.made.operation}"
        if isinstance(self.made, Window):
            return f"the window of {self.results[0]} reads it at each offset"
        return f"the recurrence of {', '.join(self.results)} reads it in each round"


def libraries(definitions: Iterable[Definition], fresh: Fresh) -> tuple[list[Definition], list[Opaque], list[str]]:
    """Definitions with the operands of library routines in definitions of their own; the calls; the decisions."""
    out: list[Definition] = []
    found: list[Opaque] = []
    why: list[str] = []
    for d in definitions:
        if d.head not in LIBRARY:
            out.append(d)
            continue
        operands, library = _apart(d, fresh)
        out += [*operands, d]
        found.append(Opaque(library, (d.tensor,), tuple(t for t, _ in library.operands)))
        over = ", ".join(b.name for b in d.bound)
        why.append(f"{d.tensor} is a library's {d.head} over {over} of {operands[0].tensor}")
    return out, found, why


def _apart(d: Definition, fresh: Fresh) -> tuple[list[Definition], Library]:
    """The operands of a library routine in definitions of their own, and the call."""
    axes = (*_outer(d), *d.bound)
    plain = TRUE if d.head == "argsort" else d.where
    body = d.body if plain is TRUE else Select(plain, d.body, Const(0))
    made = [Definition(fresh(f"{d.tensor}.operand"), axes, "map", (), TRUE, body, origin=d.origin)]
    if d.head == "argsort" and d.where is not TRUE:
        made.append(Definition(fresh(f"{d.tensor}.where"), axes, "map", (), TRUE, d.where, origin=d.origin))
    names = tuple(i.name for i in axes)
    return made, Library(d, tuple((o.tensor, names) for o in made), d.head)


def _outer(d: Definition) -> tuple[Index, ...]:
    """The axes of a library's result that its routine does not work on."""
    return d.formals[: len(d.formals) - {"argsort": 1, "inverse": 2, "logdet": 0}[d.head]]


def with_operands(group: Group, fresh: Fresh) -> tuple[Group, dict[str, Library]]:
    """A recurrence in whose rounds the operands of library routines are members of their own, and the calls."""
    members: list[Definition] = []
    found: dict[str, Library] = {}
    for d in group.definitions:
        if d.head in LIBRARY:
            operands, found[d.tensor] = _apart(d, fresh)
            members += operands
        members.append(d)
    return replace(group, definitions=tuple(members)), found


def scan(made: Cumulative) -> Opaque:
    """The node of a cumulative operation."""
    names = tuple(i.name for i in made.operand.formals)
    whole = Library(made.definition, ((made.operand.tensor, names),), made.operation, (made.axis, made.direction))
    return Opaque(whole, (made.definition.tensor,), (made.operand.tensor,))


def recurrence(group: Group) -> Opaque:
    """The node of a group. Raises LoweringError for a member that does not have the axes of the rounds."""
    own = tuple(d.tensor for d in group.definitions)
    names = {a for a, _ in group.order}
    for d in group.definitions:
        if not names <= {f.name for f in (_outer(d) if d.head in LIBRARY else d.formals)}:
            unsupported(d, "a part of a recurrence without its axis")
    return Opaque(group, own, tuple(t for t in tensors(group) if t not in own))


def window(made: Window) -> Opaque:
    """The node of a window."""
    d = made.definition
    return Opaque(made, (d.tensor,), tuple(tensors(d)))


def sums(
    made: Window, context: Context, dims: Mapping[str, tuple[Dim, ...]], names: Mapping[str, str]
) -> tuple[Step, list[str]]:
    """The loops over the offsets of a window around the kernel that adds the array at one of them."""
    d = made.definition
    pushed = _pushed(made, dims)
    body = d.body if d.where is TRUE or pushed is not None else Select(d.where, d.body, ZERO)
    one = replace(d, head="map", bound=(), where=TRUE, body=body) if pushed is None else pushed.definition
    inside = replace(context, definitions={**context.definitions, d.tensor: one})
    fixed = frozenset(i.name for i in made.offsets)
    kept = Body(inside, [d.tensor], fixed=fixed)
    step: Kernel | Recurrence
    step, why = kernel(kept, f"{names[d.tensor]}_offset", dims, names, inside.definitions, [d.tensor])
    if pushed is not None:
        step = replace(step, statements=tuple(_moved(s, pushed) for s in step.statements))
        why = [*why, f"{step.name} adds each array where it belongs, so that nothing outside of it is made"]
    for i in reversed(made.offsets):
        step = Recurrence(i.name, i.dim, 1, (step,))
    return step, why


@dataclass(frozen=True)
class _Pushed:
    """A window whose conditions only say where its array is: one round over the array itself, and where it goes."""

    definition: Definition
    axis: str
    place: Subscript


def _pushed(made: Window, dims: Mapping[str, tuple[Dim, ...]]) -> _Pushed | None:
    d = made.definition
    if len(made.offsets) != 1 or d.where is TRUE:
        return None
    (o,) = made.offsets
    places = {(p, dims[r.tensor][k]) for r in reads(d.body) for k, p in enumerate(r.indices) if o in free_indices(p)}
    places = {(p, n) for p, n in places if not isinstance(p, Index)}
    if len(places) != 1:
        return None
    ((position, extent),) = places
    at = form(position)
    formal = next((a for a, c in at.axes if a in d.formals and c == 1), None)
    if at.data or formal is None or len(at.axes) != 2:
        return None
    inner = index(f"{formal.name}.at", extent)
    # position = formal + rest, so that formal = inner - rest.
    target: Scalar = Apply("sub", (inner, Apply("sub", (position, formal))))
    swap: dict[Scalar, Scalar] = {formal: target}
    inside = all(implies([], substitute(w, swap)) for w in conjuncts(d.where))
    if not inside or not in_range(target, formal.dim):
        return None
    formals = tuple(inner if f is formal else f for f in d.formals)
    body = substitute(d.body, swap)
    back = form(target)
    place = Subscript(tuple((i.name, c) for i, c in back.axes), back.offset)
    return _Pushed(replace(d, formals=formals, head="map", bound=(), where=TRUE, body=body), inner.name, place)


def _moved(s: Statement, pushed: _Pushed) -> Statement:
    if not isinstance(s, Store):
        return s
    places = tuple(pushed.place if p.axes == ((pushed.axis, 1),) else p for p in s.subscripts)
    return replace(s, subscripts=places)


def call(library: Library, names: Mapping[str, str]) -> Call:
    d = library.definition
    operands = tuple((names[t], axes) for t, axes in library.operands)
    out_axes = tuple(i.name for i in d.formals)
    return Call(library.operation, names[d.tensor], out_axes, operands, along=library.along)


def rounds(
    group: Group,
    context: Context,
    dims: Mapping[str, tuple[Dim, ...]],
    names: Mapping[str, str],
    called: Mapping[str, Library],
) -> tuple[Step, list[str]]:
    """The loops of a recurrence around the kernels and calls of one round, and the decisions."""
    order = [a for a, _ in group.order]
    fixed = frozenset(order)
    carried = frozenset(d.tensor for d in group.definitions)
    parts = _parts(group, context, fixed, carried)
    why: list[str] = []
    extents = {a: _longest(group, a) for a in order}
    steps: list[Step] = []
    for members, body in parts:
        first = members[0].tensor
        step: Step
        if body is None:
            step = call(called[first], names)
            why.append(f"{first} is a library's {members[0].head} in each round")
        else:
            made, reasons = kernel(body, f"{names[first]}_round", dims, names, context.definitions, ())
            why += reasons
            step = _without_fixed(made, fixed)
        for a in order:
            own = _ordered(members[0], a).dim
            if own != extents[a]:
                step = Within(a, own, (step,))
        steps.append(step)
    if len(parts) > 1:
        what = "kernels and calls" if carried & called.keys() else "kernels"
        why.append(f"a round of {', '.join(names[t] for t in carried if t in names)} is {len(parts)} {what} in turn")
    inner = tuple(steps)
    for a, sign in reversed(group.order):
        inner = (Recurrence(a, extents[a], sign, inner),)
    return inner[0], why


def _parts(
    group: Group, context: Context, fixed: frozenset[str], carried: frozenset[str]
) -> list[tuple[list[Definition], Body | None]]:
    """Members in their places, as many in one kernel as read each other only where they are made; those that are called of
    a library without a kernel."""
    parts: list[tuple[list[Definition], Body | None]] = []
    for d in group.definitions:
        if d.head in LIBRARY:
            parts.append(([d], None))
            continue
        if parts and parts[-1][1] is not None:
            members, _ = parts[-1]
            same = all(_ordered(d, a) is _ordered(members[0], a) for a in fixed)
            joint = _body(context, [*members, d], fixed, carried) if same else None
            if joint is not None and (joint.rows() or not joint.axes):
                parts[-1] = ([*members, d], joint)
                continue
        body = _body(context, [d], fixed, carried)
        if body is None:
            unsupported(d, "this part of a recurrence")
        parts.append(([d], body))
    return parts


def _body(context: Context, members: list[Definition], fixed: frozenset[str], carried: frozenset[str]) -> Body | None:
    try:
        return Body(context, [d.tensor for d in members], fixed=fixed, carried=carried)
    except (NotTogether, MustStore):
        return None


def _ordered(d: Definition, axis: str) -> Index:
    return next(f for f in d.formals if f.name == axis)


def _longest(group: Group, axis: str) -> Dim:
    """The largest extent that members have along an axis."""
    found = {_ordered(d, axis).dim for d in group.definitions}
    best = found.pop()
    for dim in found:
        difference = dim - best
        if all(c >= 0 for _, c in difference.terms):
            best = dim
        elif not all(c <= 0 for _, c in difference.terms):
            unsupported(group, "a recurrence over extents that cannot be compared")
    return best


def _without_fixed(made: Kernel, fixed: frozenset[str]) -> Kernel:
    """The axes of the loops around a kernel are none of its own."""
    return replace(made, axes=tuple(a for a in made.axes if a.name not in fixed))
