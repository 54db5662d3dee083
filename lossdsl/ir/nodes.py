"""The tensor IR: interned scalar nodes, definitions with head and body, groups, programs.

No binder ever stands inside an expression: a reduction is the *head* of a definition. Scalar nodes are hash-consed, so
that equality is identity (`is`), and constructors change nothing: `x / x` and `0 * x` stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import TypeVar
from weakref import ref

from lossdsl.diagnostics import NOWHERE, Span
from lossdsl.dim import Dim
from lossdsl.primitives.record import Dtype

REAL, INT, BOOL = Dtype.REAL, Dtype.INT, Dtype.BOOL


class _Interned(ref["Scalar"]):
    """A weak reference to a node, by which the table forgets it."""

    __slots__ = ("key",)
    key: tuple[object, ...]


_TABLE: dict[tuple[object, ...], _Interned] = {}


def _forget(dead: _Interned) -> None:
    if _TABLE.get(dead.key) is dead:  # else another node has been made for the key since
        del _TABLE[dead.key]


class Scalar:
    """A scalar expression. Immutable and interned: compare with `is`. Subclasses list their fields in `__slots__`.

    What every walk asks for is found once, when a node is made:
    children  the scalars that it is made of, in order
    free      each index variable strictly below it once, in order of appearance
    tensors   the name of each tensor that it reads once, in order of appearance
    """

    __slots__ = ("__weakref__", "children", "dtype", "free", "tensors")
    children: tuple[Scalar, ...]
    dtype: Dtype
    free: tuple[Index, ...]
    tensors: tuple[str, ...]

    def __new__(cls, *fields: object) -> Scalar:
        key = (cls, *fields)
        known = _TABLE.get(key)
        node = None if known is None else known()
        if node is None:
            node = object.__new__(cls)
            for name, value in zip(cls.__slots__, fields, strict=True):
                object.__setattr__(node, name, value)
            below = node._children()
            object.__setattr__(node, "children", below)
            object.__setattr__(node, "free", indices_of(below) if below else ())
            object.__setattr__(node, "tensors", node._tensors())
            object.__setattr__(node, "dtype", node._infer())
            known = _Interned(node, _forget)
            known.key = key
            _TABLE[key] = known
        return node

    def _infer(self) -> Dtype:
        raise NotImplementedError

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("scalar nodes are immutable")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), tuple(getattr(self, n) for n in type(self).__slots__))

    def _children(self) -> tuple[Scalar, ...]:
        return ()

    def _tensors(self) -> tuple[str, ...]:
        return tensors_of(self.children) if self.children else ()

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        """The same node over other children (same number, same dtypes)."""
        return self

    def __repr__(self) -> str:
        fields = ", ".join(repr(getattr(self, n)) for n in type(self).__slots__)
        return f"{type(self).__name__}({fields})"

    # Arithmetic notation for rules that build expressions; constants may be ints or Fractions. Nothing is simplified.
    def __add__(self, other: Scalar | int | Fraction) -> Scalar:
        return Apply("add", (self, number(other, self.dtype)))

    def __radd__(self, other: int | Fraction) -> Scalar:
        return Apply("add", (number(other, self.dtype), self))

    def __sub__(self, other: Scalar | int | Fraction) -> Scalar:
        return Apply("sub", (self, number(other, self.dtype)))

    def __rsub__(self, other: int | Fraction) -> Scalar:
        return Apply("sub", (number(other, self.dtype), self))

    def __mul__(self, other: Scalar | int | Fraction) -> Scalar:
        return Apply("mul", (self, number(other, self.dtype)))

    def __rmul__(self, other: int | Fraction) -> Scalar:
        return Apply("mul", (number(other, self.dtype), self))

    def __truediv__(self, other: Scalar | int | Fraction) -> Scalar:
        return Apply("div", (self, number(other, self.dtype)))

    def __rtruediv__(self, other: int | Fraction) -> Scalar:
        return Apply("div", (number(other, self.dtype), self))

    def __neg__(self) -> Scalar:
        return Apply("neg", (self,))


class Const(Scalar):
    """An exact rational (Fraction), or one of the strings "inf", "-inf", "nan"; BOOL constants are 0 and 1.

    `value` of an INT constant is a Fraction with denominator 1. There is no negative zero.
    """

    __slots__ = ("kind", "value")
    value: Fraction | str
    kind: Dtype

    def __new__(cls, value: Fraction | int | str, kind: Dtype = REAL) -> Const:
        exact = Fraction(value) if isinstance(value, int) else value
        node = Scalar.__new__(cls, kind, exact)
        assert isinstance(node, Const)
        return node

    def __reduce__(self) -> tuple[object, ...]:
        return (Const, (self.value, self.kind))

    def _infer(self) -> Dtype:
        return self.kind


class Param(Scalar):
    """A parameter of the loss, by name."""

    __slots__ = ("kind", "name")
    name: str
    kind: Dtype

    def __new__(cls, name: str, kind: Dtype = REAL) -> Param:
        node = Scalar.__new__(cls, kind, name)
        assert isinstance(node, Param)
        return node

    def __reduce__(self) -> tuple[object, ...]:
        return (Param, (self.name, self.kind))

    def _infer(self) -> Dtype:
        return self.kind


class Size(Scalar):
    """The extent of a Dim, as an integer."""

    __slots__ = ("dim",)
    dim: Dim

    def _infer(self) -> Dtype:
        return INT


class Index(Scalar):
    """An index variable over `dim`: 0 <= value < dim. Two with the same name and dim are the same node; within one
    definition all formals and bound indices have distinct names."""

    __slots__ = ("name", "dim")
    name: str
    dim: Dim

    def _infer(self) -> Dtype:
        return INT


class Read(Scalar):
    """`tensor[indices]`; one INT scalar per position. `kind` is the tensor's dtype. Every index must be provably in
    range, or stand under a condition (a Select, a `where`) that keeps it there: reads never invent values."""

    __slots__ = ("tensor", "indices", "kind")
    tensor: str
    indices: tuple[Scalar, ...]
    kind: Dtype

    def _infer(self) -> Dtype:
        return self.kind

    def _children(self) -> tuple[Scalar, ...]:
        return self.indices

    def _tensors(self) -> tuple[str, ...]:
        return _joined(tensors_of(self.indices), (self.tensor,))

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return Read(self.tensor, children, self.kind)


_POLYMORPHIC = frozenset({"add", "sub", "mul", "neg", "max2", "min2", "abs"})  # INT in, INT out; REAL in, REAL out


class Apply(Scalar):
    """A primitive of the registry applied to arguments of one dtype. The names in `_POLYMORPHIC` are exact integer
    operations on INT arguments; `floordiv` and `mod` take and give INT; `real` converts INT or BOOL to REAL; `int`
    converts BOOL to INT; `floor` and `ceil` give INT. Every other primitive takes and gives REAL."""

    __slots__ = ("name", "args")
    name: str
    args: tuple[Scalar, ...]

    def _infer(self) -> Dtype:
        if self.name in ("floor", "ceil", "floordiv", "mod", "int"):
            return INT
        if self.name in _POLYMORPHIC and all(a.dtype is INT for a in self.args):
            return INT
        return REAL

    def _children(self) -> tuple[Scalar, ...]:
        return self.args

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return Apply(self.name, children)


class Table(Scalar):
    """`values[index]`, a constant table; values are Const of one dtype, the index a provably valid INT."""

    __slots__ = ("values", "index")
    values: tuple[Const, ...]
    index: Scalar

    def _infer(self) -> Dtype:
        return self.values[0].dtype

    def _children(self) -> tuple[Scalar, ...]:
        return (self.index,)

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return Table(self.values, children[0])


class Select(Scalar):
    """`a if condition else b`; lazy: only the taken branch is evaluated, read or differentiated."""

    __slots__ = ("condition", "a", "b")
    condition: Scalar
    a: Scalar
    b: Scalar

    def _infer(self) -> Dtype:
        return self.a.dtype

    def _children(self) -> tuple[Scalar, ...]:
        return (self.condition, self.a, self.b)

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return Select(*children)


class Compare(Scalar):
    """`a op b`, op one of < <= > >= == !=; both INT or both REAL (BOOL operands are converted before)."""

    __slots__ = ("op", "a", "b")
    op: str
    a: Scalar
    b: Scalar

    def _infer(self) -> Dtype:
        return BOOL

    def _children(self) -> tuple[Scalar, ...]:
        return (self.a, self.b)

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return Compare(self.op, *children)


class And(Scalar):
    """Conjunction, lazy from left to right: a later operand is evaluated only where the earlier ones hold."""

    __slots__ = ("args",)
    args: tuple[Scalar, ...]

    def _infer(self) -> Dtype:
        return BOOL

    def _children(self) -> tuple[Scalar, ...]:
        return self.args

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return And(children)


class Or(Scalar):
    """Disjunction, lazy from left to right."""

    __slots__ = ("args",)
    args: tuple[Scalar, ...]

    def _infer(self) -> Dtype:
        return BOOL

    def _children(self) -> tuple[Scalar, ...]:
        return self.args

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return Or(children)


class Not(Scalar):
    __slots__ = ("a",)
    a: Scalar

    def _infer(self) -> Dtype:
        return BOOL

    def _children(self) -> tuple[Scalar, ...]:
        return (self.a,)

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return Not(children[0])


class Stop(Scalar):
    """The value of `a`, without derivative. Stays a node in derivative programs."""

    __slots__ = ("a",)
    a: Scalar

    def _infer(self) -> Dtype:
        return self.a.dtype

    def _children(self) -> tuple[Scalar, ...]:
        return (self.a,)

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return Stop(children[0])


class Proxy(Scalar):
    """The value of `value`, the derivative of `surrogate` (straight-through, reversed gradients)."""

    __slots__ = ("value", "surrogate")
    value: Scalar
    surrogate: Scalar

    def _infer(self) -> Dtype:
        return self.value.dtype

    def _children(self) -> tuple[Scalar, ...]:
        return (self.value, self.surrogate)

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return Proxy(*children)


class AdjointMap(Scalar):
    """The value of `a`; its adjoint is `name(cotangent, *args)` (clipped gradients; no surrogate can express it)."""

    __slots__ = ("a", "name", "args")
    a: Scalar
    name: str
    args: tuple[Scalar, ...]

    def _infer(self) -> Dtype:
        return self.a.dtype

    def _children(self) -> tuple[Scalar, ...]:
        return (self.a, *self.args)

    def rebuild(self, children: tuple[Scalar, ...]) -> Scalar:
        return AdjointMap(children[0], self.name, children[1:])


TRUE = Const(1, BOOL)
FALSE = Const(0, BOOL)
ZERO = Const(0)
ONE = Const(1)


def number(value: Scalar | int | Fraction | float, dtype: Dtype = REAL) -> Scalar:
    """A constant node for a Python number (floats exactly; inf and nan as their words); a Scalar stays itself."""
    if isinstance(value, Scalar):
        return value
    if isinstance(value, float):
        if value != value:
            return Const("nan")
        if value in (float("inf"), float("-inf")):
            return Const("inf" if value > 0 else "-inf")
    return Const(Fraction(value), dtype)


def real(a: Scalar) -> Scalar:
    """`a` as a REAL: itself, an exact constant, or a conversion node."""
    if a.dtype is REAL:
        return a
    if isinstance(a, Const):
        return Const(a.value, REAL)
    return Apply("real", (a,))


def postorder(*roots: Scalar) -> Iterator[Scalar]:
    """Each distinct node below the roots once, children first; iterative, so depth is no limit."""
    seen: set[Scalar] = set()
    stack = list(reversed(roots))
    while stack:
        node = stack[-1]
        if node not in seen:
            children = node.children
            if children:
                waiting = [c for c in children if c not in seen]
                if waiting:
                    waiting.reverse()
                    stack += waiting
                    continue
            seen.add(node)
            yield node
        stack.pop()


def indices_of(nodes: Iterable[Scalar]) -> tuple[Index, ...]:
    """Each index variable that the nodes are or depend on once, in order of appearance."""
    found: tuple[Index, ...] = ()
    for node in nodes:
        found = _joined(found, (node,) if isinstance(node, Index) else node.free)
    return found


def tensors_of(nodes: Iterable[Scalar]) -> tuple[str, ...]:
    """The name of each tensor that the nodes read once, in order of appearance."""
    found: tuple[str, ...] = ()
    for node in nodes:
        found = _joined(found, node.tensors)
    return found


_T = TypeVar("_T")


def _joined(first: tuple[_T, ...], second: tuple[_T, ...]) -> tuple[_T, ...]:
    """Each element once, in order of appearance; neither has one twice."""
    if not first or first is second:
        return second
    more = [x for x in second if x not in first]
    return (*first, *more) if more else first


# ------------------------------------------------------------------------------------------------ definitions


@dataclass(frozen=True)
class Definition:
    """`tensor[formals] = head over bound where `where` of body`.

    head     "map" (no bound index, where is TRUE) or the name of a reduction head: sum prod max min logsumexp any all
             count argmax argmin argsort inverse logdet. `count` has a BOOL or TRUE body that is counted where it holds.
             argmax/argmin over several bound indices give the row-major flat position; the first wins, NaN wins.
             argsort: the last formal is the rank (the body does not read it), p[.., r] is the flat position of the
             r-th smallest, stable; entries that `where` excludes follow in index order. inverse: the last two formals
             are row and column, bound are those of the body; logdet: log |det| of the matrix over two bound indices
    support  a condition over the formals; outside of it the value is exactly 0 and no reader may need it. TRUE for
             ordinary definitions; adjoints carry the condition of their path
    origin   the place in the source, for messages; takes no part in equality
    comment  the user's comment at the definition, kept for emitted code; takes no part in equality
    """

    tensor: str
    formals: tuple[Index, ...]
    head: str
    bound: tuple[Index, ...]
    where: Scalar
    body: Scalar
    support: Scalar = TRUE
    origin: Span = field(default=NOWHERE, compare=False)
    comment: str | None = field(default=None, compare=False)

    @cached_property
    def dims(self) -> tuple[Dim, ...]:
        return tuple(i.dim for i in self.formals)

    @cached_property
    def dtype(self) -> Dtype:
        if self.head in ("any", "all"):
            return BOOL
        if self.head in ("count", "argmax", "argmin", "argsort"):
            return INT
        return self.body.dtype

    def scalars(self) -> tuple[Scalar, Scalar, Scalar]:
        return (self.where, self.body, self.support)


@dataclass(frozen=True)
class Group:
    """A recurrence: definitions that read each other at positions that are lexicographically earlier in (`order`,
    place of the definition in the group). `order` lists (position-independent axis name, +1 or -1)."""

    order: tuple[tuple[str, int], ...]
    definitions: tuple[Definition, ...]


# --------------------------------------------------------------------------------------------------- programs


@dataclass(frozen=True)
class Range:
    """Numbers between two exact bounds; None is unbounded on that side. Bounds are Scalars over parameters and sizes
    for inputs, constants for parameters."""

    lower: Scalar | None = None
    upper: Scalar | None = None
    lower_open: bool = False
    upper_open: bool = False


@dataclass(frozen=True)
class Input:
    """A tensor argument.

    kind      real prob simplex unit bool binary sign class int, as declared (`cotangent` for derivative programs,
              `learnable` values are inputs with `role="learnable"`, states (and the training step, an `int` named
              `step`) with `role="state"`: the value that they have now, without a derivative)
    dims      one per position; an unnamed axis of extent k is the constant Dim k; `...` is Dim.symbol("...")
    axes      the declared axis names, position by position; "" for an unnamed one
    over      positions of `simplex over` / `unit over`
    classes   extent of `class of`; `also` the INT parameter of `or ignore_index`
    default   value of an optional input (broadcast), else None
    """

    name: str
    dims: tuple[Dim, ...]
    axes: tuple[str, ...]
    kind: str
    range: Range = Range()
    over: tuple[int, ...] = ()
    classes: Dim | None = None
    also: str | None = None
    default: Const | None = None
    role: str = "input"  # "input" | "learnable" | "state" | "cotangent" | "tangent"
    origin: Span = field(default=NOWHERE, compare=False)
    comment: str = field(default="", compare=False)  # the user's, behind the declaration

    @property
    def dtype(self) -> Dtype:
        return {"bool": BOOL, "binary": INT, "sign": INT, "class": INT, "int": INT}.get(self.kind, REAL)

    @property
    def differentiable(self) -> bool:
        return self.dtype is REAL and self.role != "state"


@dataclass(frozen=True)
class Parameter:
    """A keyword of the emitted function. kind: real int bool. `default` is None if it must be given."""

    name: str
    kind: str
    range: Range = Range()
    default: Const | None = None
    origin: Span = field(default=NOWHERE, compare=False)

    @property
    def dtype(self) -> Dtype:
        return {"real": REAL, "int": INT, "bool": BOOL}[self.kind]


@dataclass(frozen=True)
class Output:
    """A value that the program returns: `name` of the role ("return", "d pred", a report's name), the tensor it is."""

    name: str
    tensor: str


@dataclass(frozen=True)
class Reductions:
    """The `reduction=` modes of a returned mean or sum: the tensor that is the value in each mode.

    written   "mean" or "sum": the mode that the file wrote, and so the default
    mean/sum/none   tensors: scalar, scalar, per element (0 where excluded)
    total, weight   the (numerator, denominator) pair of the mean, both scalars
    element   the tensor whose mean or sum it is, before masking and scaling (the target of claims if no `per`)
    """

    written: str
    mean: str
    sum: str
    none: str
    total: str
    weight: str
    element: str


@dataclass(frozen=True)
class Program:
    """A loss, or its derivative: definitions and groups in dependency order.

    outputs   "return" first (the value with the written reduction), then reports, or gradients in derivative programs
    reductions  modes of the returned value, or None if it has none
    updates   for each state the tensor that is its next value: (name of the state, tensor)
    target    the tensor on which claims are made unless they say `of`: `per` if the file defines it, else the
              element or the returned value
    """

    name: str
    inputs: tuple[Input, ...]
    parameters: tuple[Parameter, ...]
    body: tuple[Definition | Group, ...]
    outputs: tuple[Output, ...]
    reductions: Reductions | None = None
    target: str = ""
    updates: tuple[Output, ...] = ()
    docstring: str | None = field(default=None, compare=False)

    def definitions(self) -> Iterator[Definition]:
        """All definitions in order, those in groups included."""
        for item in self.body:
            yield from item.definitions if isinstance(item, Group) else (item,)

    def definition(self, tensor: str) -> Definition | None:
        return next((d for d in self.definitions() if d.tensor == tensor), None)

    def input(self, name: str) -> Input | None:
        return next((i for i in self.inputs if i.name == name), None)

    def with_body(self, body: tuple[Definition | Group, ...]) -> Program:
        return replace(self, body=body)
