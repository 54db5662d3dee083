"""Records: one block says everything about a primitive function or a reduction head.

All fields are keyword-only and without default, so that a forgotten facet is a `TypeError` at import; "there is none"
is written as `UNAVAILABLE`, `NONE` or an explicit empty tuple. `tests/test_primitives.py` walks the registry and holds
each facet against the others and against mpmath.

Formulas (`partials`, `kinks`, `definition`) are written once, against an *algebra* `o`: an object that has every
primitive as a method, comparisons and `select`, and whose values support + - * / and unary minus with each other and
with Python ints and Fractions. The same text then builds IR nodes (differentiation), SymPy expressions (the
mathematical view), mpmath numbers (the audit) and intervals (the verifier).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any, Protocol

from lossdsl.primitives.interval import Interval

UNAVAILABLE = "UNAVAILABLE"  # a text facet that this target does not have: the backend must fall back, and say so


class Dtype(Enum):
    """The three kinds of value in the IR. Widths belong to the Plan and the call, never to the IR."""

    REAL = "real"
    INT = "int"
    BOOL = "bool"


class Curvature(Enum):
    """Curvature of a function on a box, jointly in its arguments. The default of every analysis is UNKNOWN."""

    AFFINE = "affine"
    CONVEX = "convex"
    CONCAVE = "concave"
    UNKNOWN = "unknown"


class Monotone(Enum):
    """Monotonicity in one argument on a box; CONSTANT is both, NEITHER is "not known"."""

    CONSTANT = "constant"
    INCREASING = "increasing"  # not strictly
    DECREASING = "decreasing"
    NEITHER = "neither"


class Algebra(Protocol):
    """What a formula may use besides its arguments: `o.NAME(...)` for every primitive, and these.

    Comparisons give conditions of the algebra; `select(c, a, b)` is lazy in the IR: only the taken branch counts.
    """

    def number(self, value: Fraction | int | float) -> Any: ...
    def select(self, condition: Any, a: Any, b: Any) -> Any: ...
    def lt(self, a: Any, b: Any) -> Any: ...
    def le(self, a: Any, b: Any) -> Any: ...
    def eq(self, a: Any, b: Any) -> Any: ...
    def both(self, a: Any, b: Any) -> Any: ...
    def either(self, a: Any, b: Any) -> Any: ...
    def __getattr__(self, name: str) -> Any: ...


Formula = Callable[..., Any]  # (o, *arguments) -> value of the algebra


@dataclass(frozen=True, kw_only=True)
class Kink:
    """A surface on which a primitive is not smooth.

    `surface(o, *args)` is zero exactly there (for instance `x` for abs, `a - b` for max). `order` is the largest k for
    which the function is C^k across it: -1 for a jump, 0 for a corner, 1 for a jump in the second derivative.
    `note` says which derivative the code uses there.
    """

    surface: Formula
    order: int
    note: str


@dataclass(frozen=True, kw_only=True)
class Primitive:
    """An elementwise function `name(*arguments)`.

    arguments   names of the arguments, as in messages
    accepts     the dtype of each argument; result: the dtype of the value. ("REAL" arguments also take INT and BOOL
                after an explicit `real` conversion, which the builder inserts.)
    domain      text for messages: where the value is defined, e.g. "x > 0"; "" if everywhere
    defined     (*intervals) -> True only if the value is defined and finite at every finite point of the box (an
                infinite end point is an absent bound)
    regular     (*intervals) -> True only if every partial is defined and finite at every finite point of the box, in
                float32 too (so exp is not regular on an unbounded box); where it is False the differentiator guards
                the contribution. It says nothing about differentiability: that is `defined` and `kinks`
    partials    one formula per argument, (o, *args); the value at kinks is the documented convention (abs 0, relu 0,
                clamp 1 at its bounds, the first argument of max/min at equality, sqrt 0 at 0). `None`: no derivative
                (floor, comparisons of integers): treated as the constant zero
    kinks       where it is not smooth
    monotone    (*intervals) -> one Monotone per argument, valid on the box
    curvature   (*intervals, varying=None) -> joint Curvature on the box in the arguments that vary. `varying` is one
                bool per argument; the others are constants of unknown value in their interval. By default every
                argument varies that is not a point
    enclose     (*intervals) -> an Interval that contains every value on the (defined part of the) box, rigorously
    numpy       evaluation on float64 (or int64/bool) arrays for the reference interpreter; limits at +-inf right
    torch       text with {0}, {1} ... for fast kernels (no autograd asked of it); helpers as `_h_NAME(...)`
    torch_ad    text whose autograd derivative in torch is our derivative, twice, at kinks and limits too
    triton      text over fp32/fp64 blocks, or UNAVAILABLE
    cxx         text over C++ scalars of type real_t, or UNAVAILABLE; helpers as `_h_NAME(...)`
    latex       text with {0}, {1} ...
    definition  algebraic form in more elementary primitives or None if elementary: softplus = log(1 + exp(x)).
                Used by the SymPy view and by stabilisation tests
    sympy       (sympy module, *args) -> the ordinary SymPy expression
    reference   (mpmath module, *args) -> the value at mpmath precision
    samples     argument tuples for the audit: ordinary points, kinks, extremes
    flops       counted operations (1 for nearly all)
    accuracy    (*intervals) -> (relative, absolute) error of what the targets compute in float32 of exact arguments in
                the box, in units of 2^-24 and up to what is flushed to zero: a model, which no library guarantees
                (CUDA's approximations of exp2, log2, division and square root, through the texts above, are the
                coarsest). None: no model
    """

    name: str
    arguments: tuple[str, ...]
    accepts: tuple[Dtype, ...]
    result: Dtype
    domain: str
    defined: Callable[..., bool]
    regular: Callable[..., bool]
    partials: tuple[Formula | None, ...]
    kinks: tuple[Kink, ...]
    monotone: Callable[..., tuple[Monotone, ...]]
    curvature: Callable[..., Curvature]
    enclose: Callable[..., Interval]
    numpy: Callable[..., Any]
    torch: str
    torch_ad: str
    triton: str
    cxx: str
    latex: str
    definition: Formula | None
    sympy: Callable[..., Any]
    reference: Callable[..., Any]
    samples: tuple[tuple[float, ...], ...]
    accuracy: Callable[..., tuple[float, float]] | None
    flops: int


@dataclass(frozen=True, kw_only=True)
class Head:
    """A reduction head of the IR: `tensor[f] = name b where w . body` folds `body` over the bound indices.

    accepts/result  dtype of the body and of the value (argmax: INT)
    empty       value over an empty set (Fraction, or a float for +-inf), or None if it has none (max, min, argmax)
    state       names of the components of the mergeable state, e.g. ("m", "s") for logsumexp
    identity    the state of nothing, as numbers: also the pad value of a masked lane
    merge       (o, state_a, state_b) -> state: associative combination, with the rescale that -inf needs
    lift        (o, x) -> state of one element
    finish      (o, state) -> value
    pad         the value of the body in a masked lane that leaves the fold unchanged, e.g. -inf for max
    monotone    monotonicity of the value in each element of the body, given the enclosure of the body
    curvature   joint curvature of the value in the elements of the body, given their enclosure
    enclose     (body interval, count: Interval of the number of elements, possibly_empty: bool) -> Interval
    numpy       (array, axes) -> array; over an empty set it gives `empty`
    torch       text with {0} value and {dims}: reduction with keepdim, or UNAVAILABLE
    triton      text with {0} value and {axis}, or UNAVAILABLE
    cxx         C++ statement that takes one more element {x} (at the place {k} in order) into the state {0}, {1}
    latex       text with {index} and {0}
    associative the order of folding does not matter exactly (max) or only up to rounding (sum)
    """

    name: str
    accepts: Dtype
    result: Dtype
    empty: Fraction | float | None
    state: tuple[str, ...]
    identity: tuple[float, ...]
    merge: Formula
    lift: Formula
    finish: Formula
    pad: float
    monotone: Callable[[Interval], Monotone]
    curvature: Callable[[Interval], Curvature]
    enclose: Callable[[Interval, Interval, bool], Interval]
    numpy: Callable[..., Any]
    torch: str
    triton: str
    cxx: str
    latex: str
    associative: bool
