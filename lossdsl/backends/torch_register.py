"""Registers, instructions and the scope of a function: what torch text is printed from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lossdsl.backends.text import ATOM, SUM, Names, Text, dim_text, tuple_text
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    Buffer,
    Plan,
    Scatter,
    Store,
)


@dataclass(eq=False)
class Reg:
    """A tensor of a kernel. `owned`: its memory belongs to nobody else. `name`: its variable, once printed."""

    axes: frozenset[str]
    type: str
    wanted: str = "t"
    owned: bool = False
    name: str = ""
    text: Text | None = None  # printed inline where it is used
    product: tuple[Reg, Reg] | None = None  # not made at all: its factors go into the sum that wants it

    def __str__(self) -> str:
        return self.text.text if self.text is not None else self.name


@dataclass(frozen=True)
class Number:
    """A Python number, known when the function runs. `param`: the parameter it is, which may also be a tensor."""

    text: Text
    type: str
    param: str = ""
    zero: tuple[Dim, bool] | None = None  # (dim, True): the condition dim == 0; (dim, False): dim != 0

    def __str__(self) -> str:
        return self.text.text


Term = Reg | Number

COUNTED = re.compile(r"v\d+(\.|\Z)|needed\.")  # names that the schedule, not the user, gave


@dataclass(eq=False)
class Instr:
    """`dest = function(args)`. function: a name of `torch_ops.Node`, "where", or "text" with `template` over the
    arguments; `strength`: how strongly the template binds; `aliases`: the result shares the first argument's memory."""

    function: str
    args: tuple[Term, ...]
    dest: Reg
    options: tuple[tuple[str, str], ...] = ()
    template: str = ""
    strength: int = ATOM
    aliases: bool = False
    comment: str = ""


@dataclass(eq=False)
class Write:
    """A store or scatter of the plan, with its operands as registers."""

    statement: Store | Scatter
    value: Term
    positions: tuple[Term | None, ...]  # for positions that are no plain axis
    guard: Term | None = None


@dataclass(frozen=True)
class Slices:
    """A buffer whose slices at some positions are at hand: in a dict by the indices there, or, where `sizes` has the
    extents of the positions, in a list in row-major order. `whole`: the buffer itself, if it has all of them."""

    variable: str
    positions: tuple[int, ...]
    sizes: tuple[Text, ...] = ()
    whole: str = ""


@dataclass(eq=False)
class Scope:
    """What is known where a kernel runs: names, extents, rounds of the loops around it, and what the prologue needs."""

    plan: Plan
    names: Names
    extents: dict[str, str]  # symbol -> variable
    parameters: dict[str, str]
    variables: dict[str, str]  # buffer -> variable
    fast: bool
    rounds: dict[str, tuple[str, str]] = field(default_factory=dict)
    loops: dict[str, str] = field(default_factory=dict)  # axis of a recurrence -> variable of its index
    slices: dict[str, Slices] = field(default_factory=dict)  # buffers whose slices of earlier rounds are in a dict
    casts: dict[tuple[str, str], str] = field(default_factory=dict)  # (input, type) -> variable
    tensors: set[str] = field(default_factory=set)  # parameters that must be tensors
    constants: dict[tuple[str, str], str] = field(default_factory=dict)  # (number, type) -> variable of a 0-d tensor
    helpers: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)  # of device, acc
    kinds: dict[str, str] = field(default_factory=dict)  # input -> declared kind
    local: dict[str, bool] = field(default_factory=dict)  # buffers whose memory the kernel may overwrite

    def dim(self, dim: Dim) -> Text:
        return dim_text(dim, self.extents)

    def extent(self, axis: str, dim: Dim) -> Text:
        if axis in self.rounds:
            start, stop = self.rounds[axis]
            return Text(f"{stop} - {start}", SUM)
        return self.dim(dim)

    def need(self, word: str) -> str:
        self.used.add(word)
        return word

    def dtype(self, type_: str) -> str:
        return {"acc": self.need("acc") if type_ == "acc" else "", "int": "torch.int64", "bool": "torch.bool"}[type_]

    def source(self, buffer: Buffer, type_: str) -> str:
        """The variable of a buffer's values as `type_`; for an input, its conversion in the prologue."""
        if buffer.role not in ("input", "cotangent", "direction"):
            return self.variables[buffer.name]
        key = (buffer.name, type_)
        if key not in self.casts:
            first = not any(name == buffer.name for name, _ in self.casts)
            variable = self.variables[buffer.name]
            self.casts[key] = variable if first else self.names.fresh(f"{variable}_{type_}")
            if type_ == "acc":
                self.need("acc")
        return self.casts[key]

    def constant(self, number: Number) -> str:
        """The variable of a 0-d tensor with that value."""
        if number.param:
            self.tensors.add(number.param)
            self.need("acc")
            self.need("device")
            return number.text.text
        type_ = "acc" if number.type == "acc" else number.type
        key = (number.text.text, type_)
        if key not in self.constants:
            known = {"0.0": "zero", "1.0": "one", "2.0": "two", "0.5": "half", "-1.0": "minus_one"}
            self.constants[key] = self.names.fresh(known.get(number.text.text, "constant"))
            self.need("device")
            self.dtype(type_)
        return self.constants[key]


def stacked(scope: Scope, buffer: Buffer, slices: Slices) -> str:
    """The text of the whole buffer, made of its slices; those that no round has made yet are 0."""
    scope.helpers.add("_stack")
    sizes = [scope.dim(d).text for d in buffer.dims]
    shape = tuple_text(sizes)
    type_ = "acc" if buffer.type.startswith("like ") else buffer.type
    return f"_stack({slices.variable}, {shape}, {slices.positions}, {scope.dtype(type_)}, {scope.need('device')})"
