"""What lives through training, in an emitted torch module: learnable values, states and the training step.

In the functional form they are keywords; a default stands for its value over the extents of the call. The module holds
them as parameters and buffers. States are replaced, never written in place: what backward saved of the old value stays
as it was, and `torch.func.functional_call` gives the new one back in its dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lossdsl.backends.spec import InputSpec, LossSpec
from lossdsl.backends.text import dim_text, number_text, tuple_text
from lossdsl.dim import Dim
from lossdsl.names import attribute, mangle

REST = Dim.symbol("...")

# Helper functions of emitted modules: (text, helpers that it calls).
HELPERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        '''
def _filled(tensors, shape, value):
    """A learnable value or a state that is not given: its default, in the type of what is given."""
    given = [t for t in tensors.values() if t is not None]
    dtype = {bool: torch.bool, int: torch.int64}.get(type(value)) or _accumulator(*given)
    return torch.full(shape, value, dtype=dtype, device=given[0].device if given else None)
''',
        ("_accumulator",),
    ),
    (
        '''
def _step(loss, step, *tensors):
    """The training step as a tensor where the others are."""
    device = next((t.device for t in tensors if t is not None), None)
    if isinstance(step, torch.Tensor):
        if step.dim() != 0 or step.is_floating_point() or step.is_complex() or step.dtype == torch.bool:
            raise TypeError(f"{loss}: step must be an integer, not a tensor {tuple(step.shape)} of {step.dtype}")
        return step if device is None else step.to(device)
    if not isinstance(step, int) or isinstance(step, bool):
        raise TypeError(f"{loss}: step must be an integer, not {type(step).__name__}")
    if step < 0:
        raise ValueError(f"{loss}: step = {step} is negative")
    return torch.full((), step, dtype=torch.int64, device=device)
''',
        (),
    ),
    (
        '''
def _first_extents(loss, declared, tensors, sizes, real):
    """The extents of learnable values and states: as given, and those of first values. `real`: the names of real ones."""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{loss}: {name} must be a tensor, not {type(tensor).__name__}")
        if name in real and not tensor.is_floating_point():
            raise TypeError(f"{loss}: {name} must be a floating point tensor, not {tensor.dtype}")
    for axis, size in sizes.items():
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
            raise TypeError(f"{loss}: the extent {axis} must be an integer of at least 0, not {size!r}")
    return _extents(loss, declared, tensors, {axis: size for axis, size in sizes.items() if size is not None})
''',
        ("_extents",),
    ),
    (
        '''
def _size(loss, extents, axis):
    """An extent that a first value has."""
    if axis not in extents:
        raise TypeError(f"{loss}: the extent {axis} must be given, or a tensor that has it")
    return extents[axis]
''',
        (),
    ),
    (
        '''
def _next(table, tensors, options, states):
    """The next values of the states, in their own types and without gradient."""
    given = [t for t in tensors.values() if t is not None]
    device = given[0].device.type
    if _autocasts(device):
        with torch.autocast(device, enabled=False):
            return _next(table, tensors, options, states)
    plain = _plain(*given, *options)
    absent = tuple(name for name, t in tensors.items() if t is None)
    with torch.no_grad():
        made = table["update" if plain else "update formula", "", (), absent](*tensors.values(), *options)
        kept = {}
        for name, new in zip(states, made if isinstance(made, tuple) else (made,)):
            new = new.to(tensors[name].dtype)
            # None may share memory with another, or with what the caller holds.
            shared = not plain or new._is_view() or any(new is t for t in (*given, *kept.values()))
            kept[name] = new.clone() if shared else new
    return kept
''',
        ("_autocasts", "_plain"),
    ),
    (
        '''
def _moving(module, loss, update):
    """Whether this call of a module may move its states and its step: a training-mode call that records gradients, and
    that no functorch transform, dispatch mode or recomputation in backward makes.

    Raises RuntimeError in a recomputation if states have moved in this process: it would read the new ones, and its
    gradient would be that of another loss.
    """
    compiling = torch.compiler.is_compiling()
    if not compiling and torch._C._current_graph_task_id() != -1:
        if module._moved and torch.is_grad_enabled():
            raise RuntimeError(
                f"{loss}: recomputed in backward (activation checkpointing), but its states have moved since it was"
                " first computed; call the loss outside of the part that is checkpointed"
            )
        return False
    transforms = getattr(torch._C, "_are_functorch_transforms_active", None)
    if not (update and module.training and torch.is_grad_enabled()) or transforms is None or transforms():
        return False
    if not compiling:
        if torch._C._len_torch_dispatch_stack():
            return False
        module._moved = True
    return True
''',
        (),
    ),
)


def lasting(loss: LossSpec) -> list[InputSpec]:
    """Learnable values, states and the step, in the file's order."""
    return [i for i in loss.inputs if i.learnable or i.state]


def states(loss: LossSpec) -> list[InputSpec]:
    """The states that have an update, in the order of the plans' results."""
    if not loss.updates:
        return []
    found = [loss.input(role.removeprefix("update ")) for role, _ in loss.updates[0][1].returns]
    return [i for i in found if i is not None]


def counts(loss: LossSpec) -> bool:
    """Whether the loss reads the training step."""
    return any(i.is_step for i in loss.inputs)


def moves(loss: LossSpec) -> bool:
    """Whether a training-mode call of the module changes it."""
    return counts(loss) or bool(loss.updates)


def fillable(loss: LossSpec, i: InputSpec) -> bool:
    """Whether a call of the function can do without it: it has a default, and other arguments have its extents."""
    if i.initial is None:
        return False
    known = {p.name for p in loss.parameters if p.kind == "int"}
    for other in loss.inputs:
        if not (other.learnable or other.state or other.optional):
            known |= {s for d in other.dims for s in d.symbols() if d == Dim.symbol(s)}
    return all(s in known for d in i.dims for s in d.symbols())


def keyword(loss: LossSpec, i: InputSpec, name: str) -> str:
    """The keyword of the function."""
    if i.is_step:
        return f"{name}: int | torch.Tensor = 0"
    return f"{name}: torch.Tensor" + (" | None = None" if fillable(loss, i) else "")


def shape_text(dims: Iterable[Dim], names: Mapping[str, str]) -> str:
    """A tuple of extents; `names` has the expression of each symbol."""
    texts = [f"*{names['...']}" if d == REST else dim_text(d, names).text for d in dims]
    return tuple_text(texts)


def first_value(i: InputSpec) -> str:
    """The default as a Python literal of the input's type."""
    assert i.initial is not None
    return number_text(i.initial, _class(i)).text


def _class(i: InputSpec) -> str:
    return "acc" if i.real else "bool" if i.kind == "bool" else "int"


def constructor_keywords(loss: LossSpec, inputs: Mapping[str, str], parameters: Mapping[str, str]) -> list[str]:
    """Keywords of the constructor: extents of what is filled with a default, then first values."""
    made = [f"{mangle(s)}: int | None = None" for s in _symbols(loss) if s not in parameters]
    required, optional = [], []
    for i in lasting(loss):
        name = inputs[i.name]
        if i.is_step:
            optional.append(f"{name}: int = 0")
        elif _made(i):
            optional.append(f"{name}: torch.Tensor | None = None")
        else:
            required.append(f"{name}: torch.Tensor")
    return [*required, *made, *optional]


def constructor_lines(
    loss: LossSpec, inputs: Mapping[str, str], parameters: Mapping[str, str], axes: Mapping[str, str], extents: str
) -> tuple[list[str], set[str]]:
    """The lines that make parameters and buffers, and the helpers that they call.

    axes: the literal of the axes of each input, by name; extents: a variable that nothing else is called
    """
    lines: list[str] = []
    helpers: set[str] = set()
    held = [i for i in lasting(loss) if not i.is_step]
    symbols = _symbols(loss)
    if held:
        helpers.add("_first_extents")
        declared = ", ".join(f'"{i.name}": {axes[i.name]}' for i in held)
        given = ", ".join(f'"{i.name}": {inputs[i.name]}' for i in held)
        sizes = ", ".join(f'"{s}": {parameters.get(s) or mangle(s)}' for s in symbols)
        head = f"{extents} = " if symbols else ""
        lines.append(f"{head}_first_extents(")
        real = tuple_text(f'"{i.name}"' for i in held if _class(i) == "acc")
        lines += [
            f'    "{loss.name}",',
            f"    {{{declared}}},",
            f"    {{{given}}},",
            f"    {{{sizes}}},",
            f"    {real},",
            ")",
        ]
    names = {s: f'_size("{loss.name}", {extents}, "{s}")' for s in symbols}
    for i in lasting(loss):
        name, member = inputs[i.name], attribute(i.name)
        if i.is_step:
            helpers.add("_step")
            lines.append(f'self.register_buffer("{member}", _step("{loss.name}", {name}).clone())')
            continue
        if _made(i):
            if any(d.constant is None for d in i.dims):
                helpers.add("_size")
            dtype = {"acc": "", "bool": ", dtype=torch.bool", "int": ", dtype=torch.int64"}[_class(i)]
            lines.append(f"if {name} is None:")
            lines.append(f"    {name} = torch.full({shape_text(i.dims, names)}, {first_value(i)}{dtype})")
        start = f"{name}.detach().clone()"
        parameter = f"self.{member} = torch.nn.Parameter({start})"
        lines.append(parameter if i.learnable else f'self.register_buffer("{member}", {start})')
    if moves(loss):
        lines.append("self._moved = False")
    return lines, helpers


def _made(i: InputSpec) -> bool:
    """Whether the constructor can make the first value from extents."""
    return i.initial is not None and REST not in i.dims


def _symbols(loss: LossSpec) -> list[str]:
    return sorted({s for i in lasting(loss) if _made(i) for d in i.dims for s in d.symbols()})


def words(i: InputSpec) -> str:
    """What an argument is to training, for its line in the docstring."""
    if i.is_step:
        return " (the training step)"
    return " (learnable)" if i.learnable else " (state: no gradient)" if i.state else ""


def documentation(loss: LossSpec, names: Mapping[str, str]) -> list[str]:
    """Lines on keywords that only a loss with states has."""
    if not loss.updates:
        return []
    moved = ", ".join(names[i.name] for i in states(loss))
    return [f"    return_state: give the next {moved} too, as a dict by name, last in the tuple"]


def module_note(loss: LossSpec) -> str:
    """What a call of the module changes."""
    moved: Sequence[str] = [i.name for i in states(loss)] + (["step"] if counts(loss) else [])
    return (
        f"A call in training mode moves {', '.join(moved)} after the value, unless update=False; nothing moves under"
        " no_grad, in a functorch transform, under a dispatch mode, or in `sum_and_weight`. Where backward recomputes"
        " a call (activation checkpointing) after a move, it raises RuntimeError."
    )
