"""The Plan: everything that a back end needs, and nothing that it must decide. No SymPy, no IR nodes.

A plan is a list of steps over named buffers. A `Kernel` is one body as SSA statements over *axes*: every value has the
set of axes that it varies along (a fold removes axes, an operation takes the union), so a row kernel is one kernel in
which per-row and per-entry values meet. The torch target prints a kernel as whole-array operations, the loop targets
print its loops. Extents are symbolic (`Dim`). Plans print as text and read back equal (`lower/text.py`), and
`lower/interpret.py` executes them in numpy.

Types of values and buffers: "acc" (the accumulation type: float64 for float64 inputs, else float32), "int" (int64),
"bool"; a buffer may also be "like NAME": the element type of the input NAME (an input itself, or its gradient).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lossdsl.dim import Dim

_NONE = Dim(())

# ------------------------------------------------------------------------------------------------- operands


@dataclass(frozen=True)
class Value:
    """An SSA value of the same kernel."""

    name: str


@dataclass(frozen=True)
class Literal:
    """An exact rational, or "inf", "-inf", "nan"; type "acc", "int" or "bool" (0, 1)."""

    value: Fraction | str
    type: str = "acc"


@dataclass(frozen=True)
class ParamRef:
    """A parameter of the loss."""

    name: str
    type: str = "acc"


@dataclass(frozen=True)
class SizeRef:
    """An extent, as an int."""

    dim: Dim


@dataclass(frozen=True)
class AxisRef:
    """The index along an axis of the kernel or of a recurrence around it, as an int (absolute, also in a ChunkLoop)."""

    name: str


Operand = Value | Literal | ParamRef | SizeRef | AxisRef


@dataclass(frozen=True)
class Subscript:
    """One position of an access: sum of coefficient * axis, plus `offset`, plus an int Value if data-dependent."""

    axes: tuple[tuple[str, int], ...] = ()
    offset: Dim = _NONE
    data: Value | None = None


# ----------------------------------------------------------------------------------------------- statements


@dataclass(frozen=True)
class Load:
    """`name = buffer[subscripts] where guard pad pad`. Where the guard is false nothing is read and the value is
    `pad`. Data-dependent positions are clamped by the back end before the access; out of range gives nan (0 for int
    buffers, false for bool)."""

    name: str
    type: str
    buffer: str
    subscripts: tuple[Subscript, ...]
    guard: Operand | None = None
    pad: Literal | None = None


@dataclass(frozen=True)
class Op:
    """`name = op(args)`; op is a primitive of the registry, or one of: select lt le gt ge eq ne and or not real int
    table (the literals of the table, then the index), stop (its argument, without derivative: only in plans of values,
    which may be differentiated as they stand). Both branches of a select are computed: values from a branch not
    taken do not leak, and loads under it are guarded."""

    name: str
    type: str
    op: str
    args: tuple[Operand, ...]


@dataclass(frozen=True)
class Fold:
    """`name = head over axes of value where where`; the result no longer varies along `axes`. Masked entries count as
    the head's identity. argmax and argmin give the first winner, over several axes its row-major flat position."""

    name: str
    type: str
    head: str
    axes: tuple[str, ...]
    value: Operand
    where: Operand | None = None


@dataclass(frozen=True)
class Store:
    """`buffer[subscripts] = value`, rounding to the buffer's type; with `accumulate` it is added (the buffer was
    filled before, and the accumulation type is the buffer's)."""

    buffer: str
    subscripts: tuple[Subscript, ...]
    value: Operand
    accumulate: bool = False


@dataclass(frozen=True)
class Scatter:
    """`buffer[subscripts] combine= value where guard`: the normal form of a selection `sum n where t[n] == a`.
    Positions out of range are dropped. combine is "sum", "max", "min"."""

    buffer: str
    subscripts: tuple[Subscript, ...]
    value: Operand
    combine: str
    guard: Operand | None = None


Statement = Load | Op | Fold | Store | Scatter


# ---------------------------------------------------------------------------------------------------- steps


@dataclass(frozen=True)
class Axis:
    """An axis of a kernel. role: "grid" (parallel), "lane" (parallel and vectorised: the loads are contiguous along
    it), "loop" (sequential or reduced inside the program)."""

    name: str
    extent: Dim
    role: str


@dataclass(frozen=True)
class Kernel:
    """One pass. `lane` is the axis along which the largest array is contiguous: its role is "lane" if the kernel runs
    in parallel along it, and "loop" if each program folds over it (a row kernel over [n, c] has lane c). A fold over
    axes that are not all "loop" is a total: its value is only stored, and complete only after the kernel. Values that
    feed nothing but a guard may vary along axes that the guarded value does not.
    `comments` maps a value name to the user's line that it came from, for readable output; `names` maps value names to
    the user's name for it (`lse`, `per`) where there is one."""

    name: str
    axes: tuple[Axis, ...]
    lane: str | None
    statements: tuple[Statement, ...]
    names: tuple[tuple[str, str], ...] = ()
    comments: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Call:
    """A library operation.

    contract   out[out_axes] (+)= the sum of the product of the operands over the axes that are not in out_axes (one
               matrix product, possibly batched)
    argsort    the ascending stable order of the operand's last position (NaN last); a second operand, if there is one,
               is a bool: entries where it is false follow after all others, in index order
    inverse, logdet   of the matrices in the operand's last two positions; logdet is log |det|
    cumsum, cumprod, logcumsumexp   `along` an axis, from its first entry on (direction 1) or from its last (-1)
    """

    operation: str
    out: str
    out_axes: tuple[str, ...]
    operands: tuple[tuple[str, tuple[str, ...]], ...]
    accumulate: bool = False
    along: tuple[str, int] | None = None


@dataclass(frozen=True)
class Fill:
    """Set every element of a buffer, before accumulation or scattering."""

    buffer: str
    value: Literal


@dataclass(frozen=True)
class ChunkLoop:
    """Run the steps for `size` consecutive indices of `axis` at a time. Axes of kernels and calls inside that have its
    name are cut to the round; every other axis is whole. A store that lacks the axis accumulates. Buffers with role
    "chunk" exist for one round only; their position `chunked` has at most `size` entries and is addressed by the
    absolute index."""

    axis: str
    extent: Dim
    size: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Recurrence:
    """Run the steps for each index of `axis`, one after the other: from 0 on if `direction` is 1, from the last one
    down if it is -1. Kernels inside do not have the axis: their positions and operands use its index as a number, and
    calls work at that index of it. What an earlier round stored is read from the buffer."""

    axis: str
    extent: Dim
    direction: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Within:
    """Run the steps in those rounds of the recurrence over `axis` whose index is below `extent`."""

    axis: str
    extent: Dim
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Stage:
    """A kernel of a Rolling: it runs along `axis`, `lag` rows behind the strip; `lane` is its axis along a row. ordered: one
    row after the other, as in a Recurrence; the kernel does not have the axis then."""

    axis: str
    extent: Dim
    lane: str
    lag: int
    kernel: Kernel
    ordered: bool = False


@dataclass(frozen=True)
class Rolling:
    """Run the stages in strips of `size` rows, all of them for one strip before the next, for each index of the axes
    `within` by itself; from the first row on if `direction` is 1, from the last one if it is -1 (all stages have the same
    rows then). A stage works on the strip's rows less its lag, as far as its axis has them: what it reads of another
    stage's rows is made by then. It is the same as its steps one after the other.

    lanes: if not 0, the entries of a row are independent, too, and strips are so many of them wide. reach: a strip depends
    on stages' work for so many rows before it, not on more; None if an ordered stage carries something on.
    kept: (buffer, rows, a power of 2): of these only the last rows exist, for one index of `within` at a time; their
    positions are those of `within`, the rows', and one more."""

    within: tuple[str, ...]
    size: int
    lanes: int
    reach: int | None
    direction: int
    stages: tuple[Stage, ...]
    kept: tuple[tuple[str, int], ...]

    @property
    def steps(self) -> tuple[Kernel | Recurrence, ...]:
        return tuple(
            Recurrence(s.axis, s.extent, self.direction, (s.kernel,)) if s.ordered else s.kernel for s in self.stages
        )


@dataclass(frozen=True)
class Allocate:
    """Before the first step that writes an output or temporary. Chunk buffers have none: they exist for one round."""

    buffer: str


@dataclass(frozen=True)
class Free:
    """After the last step that reads a temporary."""

    buffer: str


Step = Kernel | Call | Fill | ChunkLoop | Recurrence | Within | Rolling | Allocate | Free


@dataclass(frozen=True)
class Buffer:
    """role: "input", "cotangent", "direction" (given by the caller), "output", "saved", "temporary", "chunk".
    `reason`: why it exists, for saved and temporary ones. `chunked`: position of the chunk axis of a "chunk" buffer."""

    name: str
    dims: tuple[Dim, ...]
    type: str
    role: str
    reason: str = ""
    chunked: int | None = None


@dataclass(frozen=True)
class Cost:
    """In elements and counted operations, as expressions in the extents; `peak` is of temporaries, at one time."""

    read: Dim
    written: Dim
    operations: Dim
    peak: Dim
    passes: int


@dataclass(frozen=True)
class Key:
    """Which plan of the table this is.

    entry      "value" | "value_and_gradient" (of a scalar) | "backward" (the gradient alone); what autograd
               differentiates: "formula" (the value), "gradient_formula" (where the value's derivative is another).
               Gradients are of the incoming cotangent times the value
    reduction  "mean" | "sum" | "none" | "" (the loss has no reduction modes)
    wrt        inputs whose gradient is made; absent: optional inputs not given; target: "torch" | "triton"
    """

    loss: str
    entry: str
    reduction: str
    wrt: tuple[str, ...]
    absent: tuple[str, ...]
    target: str


@dataclass(frozen=True)
class Plan:
    """returns: (role, buffer) pairs, "return" first, then "d NAME" gradients, then reports. `why`: one line for each
    decision, with its rule and operands."""

    key: Key
    buffers: tuple[Buffer, ...]
    parameters: tuple[tuple[str, str], ...]  # (name, type)
    steps: tuple[Step, ...]
    returns: tuple[tuple[str, str], ...]
    why: tuple[str, ...] = ()

    def buffer(self, name: str) -> Buffer:
        return next(b for b in self.buffers if b.name == name)


@dataclass(frozen=True)
class Choices:
    """Sizes that tuning may change; lowering never reads them elsewhere. `rows`: rows of a ChunkLoop; `resident`: the
    longest row (in elements) that a loop target keeps in registers; `block`: the most elements it works on at a time."""

    rows: int = 256
    resident: int = 16384
    block: int = 16384
