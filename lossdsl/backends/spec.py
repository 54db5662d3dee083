"""What an emitter is given besides the Plans: the face of a module. Frozen data without any target in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.lower.plan import Key, Plan


@dataclass(frozen=True)
class Bound:
    """One end of a range. `value`: an exact number, the name of a parameter, or a polynomial of extents (which may be
    negative here, as `c - 1` is without classes, unless it is an `extent` itself)."""

    value: Fraction | str | Dim
    open: bool = False
    extent: bool = False


@dataclass(frozen=True)
class InputSpec:
    """A tensor argument, in the file's order.

    kind      real prob simplex unit bool binary sign class int, as declared
    dims      one per position; `...` is Dim.symbol("...") and stands for any number of axes
    axes      declared axis names for messages, "" for an unnamed one
    lower, upper   range of a real input; over: positions of `simplex over`, `unit over`
    classes   extent of `class of`; also: the integer parameter of `or ignore_index`
    optional  it may be None (the plans with this name in `absent` then run)
    learnable an nn.Parameter of the module and a keyword of the function; `initial` its first value, or None
    state     a buffer of the module and a keyword of the function, with `initial` as well; without a derivative. One
              called `step` is the training step
    comment   the user's, behind the declaration
    """

    name: str
    dims: tuple[Dim, ...]
    axes: tuple[str, ...]
    kind: str
    lower: Bound | None = None
    upper: Bound | None = None
    over: tuple[int, ...] = ()
    classes: Dim | None = None
    also: str | None = None
    optional: bool = False
    learnable: bool = False
    initial: Fraction | str | None = None
    state: bool = False
    comment: str = ""

    @property
    def is_derivative(self) -> bool:
        """Whether its comment says so: `# d score / d x`."""
        return re.search(r"\bd(\^\d+)? \w+ / d \w+", self.comment) is not None

    @property
    def real(self) -> bool:
        return self.kind in ("real", "prob", "simplex", "unit")

    @property
    def differentiable(self) -> bool:
        return self.real and not self.state

    @property
    def is_step(self) -> bool:
        return self.state and self.name == "step"


@dataclass(frozen=True)
class ParameterSpec:
    """A keyword of the function and the constructor. kind: real int bool; `default` None: it must be given."""

    name: str
    kind: str
    default: Fraction | str | None = None
    lower: Bound | None = None
    upper: Bound | None = None


@dataclass(frozen=True)
class LossSpec:
    """One loss of a module.

    docstring   the user's text, or ""; formula, gradient, properties: lines of text for the docstring
    modes       reductions in which it can be called, the written one first; () if it has none
    none_dims   extents of the value in mode "none"
    plans       the table of plans. A "value" plan is needed for each mode (or "") and each set of absent inputs that
                may be called; other entries are used where they exist, and the differentiable formula where not
                (a "formula" plan is what autograd differentiates; where there is none, the value's)
    pair        the value plan that returns "total" and "weight" of a mean, one for each set of absent inputs
    reports     names of the reported values (in the returns of every value plan)
    updates     the value plan that returns "update NAME" for every state, one for each set of absent inputs
    clipped     a gradient is limited inside: the kernels and the gradient formulas are right, not autograd of the formula
    """

    name: str
    inputs: tuple[InputSpec, ...]
    parameters: tuple[ParameterSpec, ...]
    plans: tuple[tuple[Key, Plan], ...]
    modes: tuple[str, ...] = ()
    none_dims: tuple[Dim, ...] = ()
    docstring: str = ""
    formula: tuple[str, ...] = ()
    gradient: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    pair: tuple[tuple[tuple[str, ...], Plan], ...] = ()
    updates: tuple[tuple[tuple[str, ...], Plan], ...] = ()
    clipped: bool = False

    def input(self, name: str) -> InputSpec | None:
        return next((i for i in self.inputs if i.name == name), None)


@dataclass(frozen=True)
class ModuleSpec:
    """The losses of one emitted file. `origin`: the name of the `.loss` file, for the header."""

    losses: tuple[LossSpec, ...]
    spec_hash: str
    compiler_version: str
    origin: str = ""
    notes: tuple[str, ...] = field(default=())
