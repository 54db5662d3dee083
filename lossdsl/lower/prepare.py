"""From a program and a key to the definitions that a plan must compute: modes, absent inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    FALSE,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Input,
    Output,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
)
from lossdsl.ir.rewrite import cse, map_item, map_scalars, prune, topological, transform
from lossdsl.lower.plan import Key


class LoweringError(Exception):
    """The program has a construct that no plan exists for yet; the message names the definition, `tensor` too."""

    def __init__(self, message: str, tensor: str = "") -> None:
        super().__init__(message)
        self.tensor = tensor


def unsupported(definition: Definition | Group, what: str) -> NoReturn:
    name = definition.tensor if isinstance(definition, Definition) else definition.definitions[0].tensor
    raise LoweringError(f"{name}: {what} cannot be scheduled yet", name)


@dataclass(frozen=True)
class Wanted:
    """One returned value: its role, its tensor, and the input whose element type it has ("" for the loss itself)."""

    role: str
    tensor: str
    like: str


def prepare(program: Program, key: Key) -> tuple[Program, tuple[Wanted, ...]]:
    """The pruned program of an entry, in dependency order, and what it returns. Every returned tensor is a definition
    of its own. Raises LoweringError, and ValueError for a key that does not fit the program."""
    outputs = _outputs(program, key)
    program = replace(program, outputs=outputs)
    program = _substitute_inputs(program, key)
    if key.entry in ("formula", "gradient_formula"):
        program = _surrogates(program)
    elif key.entry != "value":
        program = _without_stops(program)
    program = _known_conditions(cse(program))
    program, wanted = _own_tensors(program)
    program = prune(program, [o.name for o in program.outputs])
    return program.with_body(topological(program.body)), wanted


def _outputs(program: Program, key: Key) -> tuple[Output, ...]:
    table = {o.name: o for o in program.outputs}
    value = key.entry in ("value", "formula")
    if value and program.reductions is not None and key.reduction:
        tensor = {"mean": program.reductions.mean, "sum": program.reductions.sum, "none": program.reductions.none}
        table["return"] = Output("return", tensor[key.reduction])
    gradients = [f"d {name}" for name in key.wrt] if not value else []
    missing = [g for g in gradients if g not in table]
    if missing:
        raise ValueError(f"{program.name} has no output {missing[0]!r}")
    reports = [o for o in program.outputs if o.name != "return" and not o.name.startswith("d ")]
    if "return" not in table:
        return program.outputs  # a program of totals: the (sum, weight) pair of a mean
    alone = key.entry in ("backward", "gradient_formula")
    first = [] if alone else [table["return"]]
    return (*first, *(table[g] for g in gradients), *([] if alone else reports))


def _substitute_inputs(program: Program, key: Key) -> Program:
    """Absent inputs by their defaults."""
    constants: dict[str, Const] = {}
    for i in program.inputs:
        if i.name in key.absent:
            if i.default is None:
                raise ValueError(f"{i.name} has no default, so it cannot be absent")
            constants[i.name] = i.default
    if not constants:
        return program
    memo: dict[Scalar, Scalar] = {}

    def step(node: Scalar) -> Scalar:
        return constants.get(node.tensor, node) if isinstance(node, Read) else node

    def over(d: Definition) -> Definition:
        return map_scalars(d, lambda s: transform(s, step, memo))

    body = tuple(
        replace(item, definitions=tuple(over(d) for d in item.definitions)) if isinstance(item, Group) else over(item)
        for item in program.body
    )
    inputs = tuple(i for i in program.inputs if i.name not in constants)
    return replace(program, body=body, inputs=inputs)


def _without_stops(program: Program) -> Program:
    """A gradient is not differentiated as it stands: second derivatives come from the value's formula, or from a
    gradient formula, which keeps its stops."""
    memo: dict[Scalar, Scalar] = {}

    def step(node: Scalar) -> Scalar:
        return node.a if isinstance(node, Stop) else node

    def over(d: Definition) -> Definition:
        return map_scalars(d, lambda s: transform(s, step, memo))

    return replace(program, body=tuple(map_item(item, over) for item in program.body))


def _surrogates(program: Program) -> Program:
    """A formula that is differentiated as it stands: where the derivative is that of another expression s, the value v
    is written stop(v) + (s - stop(s))."""
    memo: dict[Scalar, Scalar] = {}

    def step(node: Scalar) -> Scalar:
        if not isinstance(node, Proxy):
            return node
        nothing = Apply("sub", (node.surrogate, Stop(node.surrogate)))
        return Apply("add", (Stop(node.value), nothing))

    def over(d: Definition) -> Definition:
        return map_scalars(d, lambda s: transform(s, step, memo))

    return replace(program, body=tuple(map_item(item, over) for item in program.body))


def _known_conditions(program: Program) -> Program:
    """Switches that depend on extents alone are written where they are read, and `size(n) != 0` is true where an index
    over n exists: a product then needs no mask for the empty batch."""
    switches: dict[str, Scalar] = {}
    for d in program.definitions():
        free = not d.body.tensors
        if d.head == "map" and not d.formals and d.dtype is BOOL and d.support is TRUE and free:
            switches[d.tensor] = d.body

    def over(d: Definition) -> Definition:
        inside = {i.dim for i in (*d.formals, *d.bound)}
        outside = {i.dim for i in d.formals}

        def known(present: set[Dim]) -> Callable[[Scalar], Scalar]:
            def step(n: Scalar) -> Scalar:
                if isinstance(n, Read) and n.tensor in switches:
                    return transform(switches[n.tensor], step)
                if isinstance(n, Compare) and n.op in ("==", "!=") and isinstance(n.a, Size) and n.a.dim in present:
                    if isinstance(n.b, Const) and n.b.value == 0:
                        return TRUE if n.op == "!=" else FALSE
                if isinstance(n, And):
                    kept = tuple(a for a in n.args if a is not TRUE)
                    if FALSE in kept:
                        return FALSE
                    return TRUE if not kept else kept[0] if len(kept) == 1 else And(kept)
                if isinstance(n, Select) and n.condition in (TRUE, FALSE):
                    return n.a if n.condition is TRUE else n.b
                return n

            return step

        where, body = (transform(s, known(inside)) for s in (d.where, d.body))
        return replace(d, where=where, body=body, support=transform(d.support, known(outside)))

    return program.with_body(
        tuple(
            replace(i, definitions=tuple(over(d) for d in i.definitions)) if isinstance(i, Group) else over(i)
            for i in program.body
        )
    )


def _own_tensors(program: Program) -> tuple[Program, tuple[Wanted, ...]]:
    """Returned inputs, and tensors returned in two roles with different types, get a copying definition."""
    taken: dict[str, str] = {}
    wanted: list[Wanted] = []
    extra: list[Definition] = []
    names = {d.tensor: d for d in program.definitions()}
    for o in program.outputs:
        like = o.name[2:] if o.name.startswith("d ") else ""
        tensor = o.tensor
        if tensor not in names or taken.get(tensor, like) != like:
            source: Definition | Input | None = names.get(tensor) or program.input(tensor)
            if source is None:
                raise ValueError(f"{program.name} has no tensor {tensor!r}")
            formals = tuple(Index(f"i{k}", d) for k, d in enumerate(source.dims))
            copy = f"{tensor}.{o.name}"
            extra.append(Definition(copy, formals, "map", (), TRUE, Read(tensor, formals, source.dtype)))
            tensor = copy
        taken[tensor] = like
        wanted.append(Wanted(o.name, tensor, like))
    outputs = tuple(Output(w.role, w.tensor) for w in wanted)
    return replace(program, body=(*program.body, *extra), outputs=outputs), tuple(wanted)
