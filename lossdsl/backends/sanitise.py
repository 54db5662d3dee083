"""Make a kernel safe to differentiate by a machine: what is not needed is computed from harmless numbers.

A select or a masked fold gives a gradient of exactly zero to what it leaves out, but automatic differentiation goes on
with it: zero times an infinite partial is nan. So every value gets the condition under which some reader needs it;
where that is not always, loads and operations whose partials are not finite everywhere read `where(needed, x, safe)`.
Conditions and integers carry no gradient: they are computed first, from the values as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf

from lossdsl import primitives
from lossdsl.lower.plan import (
    AxisRef,
    Fold,
    Kernel,
    Literal,
    Load,
    Op,
    Operand,
    ParamRef,
    Scatter,
    SizeRef,
    Statement,
    Store,
    Value,
)
from lossdsl.primitives.interval import Interval


@dataclass(frozen=True)
class Always:
    """Needed everywhere."""


@dataclass(frozen=True)
class Holds:
    """The operand is true (or false)."""

    operand: Operand
    positive: bool = True


@dataclass(frozen=True)
class Every:
    parts: frozenset[Need]


@dataclass(frozen=True)
class Some:
    parts: frozenset[Need]


@dataclass(frozen=True)
class Exists:
    """For some index along the axes."""

    axes: tuple[str, ...]
    of: Need


Need = Always | Holds | Every | Some | Exists
ALWAYS = Always()


def both(a: Need, b: Need) -> Need:
    """Conjunction, simplified."""
    parts = frozenset(_parts(a, Every) | _parts(b, Every)) - {ALWAYS}
    if not parts:
        return ALWAYS
    return next(iter(parts)) if len(parts) == 1 else Every(parts)


def either(a: Need, b: Need) -> Need:
    """Disjunction, simplified: absorption, and `p and c or p and not c` is `p`."""
    clauses = set(_parts(a, Some) | _parts(b, Some))
    changed = True
    while changed:
        changed = False
        for x in clauses:
            for y in clauses:
                if x == y:
                    continue
                merged = _merge(_parts(x, Every), _parts(y, Every))
                if merged is not None:
                    clauses = (clauses - {x, y}) | {_every(merged)}
                    changed = True
                    break
            if changed:
                break
    if ALWAYS in clauses:
        return ALWAYS
    return next(iter(clauses)) if len(clauses) == 1 else Some(frozenset(clauses))


def _every(parts: frozenset[Need]) -> Need:
    parts = parts - {ALWAYS}
    if not parts:
        return ALWAYS
    return next(iter(parts)) if len(parts) == 1 else Every(parts)


def _parts(need: Need, kind: type) -> frozenset[Need]:
    return need.parts if isinstance(need, kind) and isinstance(need, Every | Some) else frozenset({need})


def _merge(x: frozenset[Need], y: frozenset[Need]) -> frozenset[Need] | None:
    x, y = x - {ALWAYS}, y - {ALWAYS}
    if x <= y:
        return x
    if y <= x:
        return y
    only_x, only_y = x - y, y - x
    if len(only_x) == 1 and len(only_y) == 1:
        a, b = next(iter(only_x)), next(iter(only_y))
        if isinstance(a, Holds) and isinstance(b, Holds) and a.operand == b.operand and a.positive != b.positive:
            return x & y
    return None


_REGULAR = frozenset(
    {"add", "sub", "neg", "mul", "select", "real", "stop", "proxy", "table", "max2", "min2", "abs", "sign", "relu"}
)
_FREE = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "int"})


def regular(s: Op) -> bool:
    """Whether all partials are finite wherever the arguments are (overflow of a product aside)."""
    op, arity = s.op, len(s.args)
    if op in _REGULAR:
        return True
    if op == "div":
        return False
    if op == "powi":
        exponent = s.args[1]
        return isinstance(exponent, Literal) and isinstance(exponent.value, Fraction) and exponent.value >= 1
    record = primitives.PRIMITIVES[op]
    return bool(record.regular(*[Interval(-inf, inf)] * arity))


def safe_arguments(op: str, arity: int) -> tuple[Fraction, ...]:
    """Arguments at which value and partials are finite."""
    if op == "div":
        return (Fraction(1), Fraction(1))
    record = primitives.PRIMITIVES[op]
    for candidate in (1.0, 0.5, -0.5, -1.0, 2.0, 0.0):
        point = [Interval(candidate, candidate)] * arity
        if record.defined(*point) and record.regular(*point):
            return (Fraction(candidate),) * arity
    for sample in record.samples:
        point = [Interval(float(x), float(x)) for x in sample]
        if record.defined(*point) and record.regular(*point):
            return tuple(Fraction(float(x)) for x in sample)
    return (Fraction(1),) * arity


def sanitise(kernel: Kernel, stores: Mapping[str, Need] | None = None) -> Kernel:
    """The kernel with harmless numbers where values are not needed; itself if everything always is. `stores`: under
    which condition (of values of the kernel) what it stores in a buffer is needed, if not always."""
    return Sanitiser(kernel, stores or {}).run()


class Sanitiser:
    """One kernel: `need` has the condition of each value once `needs()` has run."""

    def __init__(self, kernel: Kernel, stores: Mapping[str, Need]) -> None:
        self.kernel, self.stores = kernel, stores
        self.own = {a.name for a in kernel.axes}  # other axes are those of recurrences around it: numbers
        self.by_name = {s.name: s for s in kernel.statements if isinstance(s, Load | Op | Fold)}
        self.axes: dict[str, frozenset[str]] = {}
        for s in kernel.statements:
            if isinstance(s, Load | Op | Fold):
                self.axes[s.name] = self.axes_of(s)
        self.need: dict[str, Need] = {}
        self.out: list[Statement] = []
        self.known: dict[Need, Operand] = {}

    def axes_of(self, s: Load | Op | Fold) -> frozenset[str]:
        found = frozenset().union(*(self.operand_axes(o) for o in operands(s)))
        if isinstance(s, Load):
            return found | {a for p in s.subscripts for a, _ in p.axes if a in self.own}
        if isinstance(s, Fold):
            return found - set(s.axes)
        return found

    def operand_axes(self, operand: Operand) -> frozenset[str]:
        if isinstance(operand, Value):
            return self.axes[operand.name]
        return frozenset({operand.name} & self.own) if isinstance(operand, AxisRef) else frozenset()

    def need_axes(self, need: Need) -> frozenset[str]:
        match need:
            case Holds(operand):
                return self.operand_axes(operand)
            case Every(parts) | Some(parts):
                return frozenset().union(*(self.need_axes(p) for p in parts))
            case Exists(axes, of):
                return self.need_axes(of) - set(axes)
        return frozenset()

    def ask(self, operand: Operand, need: Need) -> None:
        if not isinstance(operand, Value):
            return
        s = self.by_name[operand.name]
        if s.type != "acc":
            return
        extra = self.need_axes(need) - self.axes[operand.name]
        if extra:
            order = tuple(a.name for a in self.kernel.axes if a.name in extra)
            need = Exists(order, need)
        known = self.need.get(operand.name)
        self.need[operand.name] = need if known is None else either(known, need)

    def needs(self) -> None:
        for s in reversed(self.kernel.statements):
            match s:
                case Store(buffer=buffer, value=value):
                    self.ask(value, self.stores.get(buffer, ALWAYS))
                case Scatter(value=value, guard=guard):
                    self.ask(value, ALWAYS if guard is None else Holds(guard))
                case Op(name=name, op=op, args=args):
                    own = self.need.get(name)
                    if own is None or op in _FREE:
                        continue
                    if op == "select" and self.static(args[0]):
                        # Chosen by Python when the function runs: the other branch is in no graph.
                        self.ask(args[1], own)
                        self.ask(args[2], own)
                    elif op == "select":
                        self.ask(args[1], both(own, Holds(args[0])))
                        self.ask(args[2], both(own, Holds(args[0], False)))
                    else:
                        for a in args:
                            self.ask(a, own)
                case Fold(name=name, value=value, where=where):
                    own = self.need.get(name)
                    if own is not None:
                        self.ask(value, own if where is None else both(own, Holds(where)))

    def static(self, operand: Operand) -> bool:
        """Whether a condition is known from extents and integer parameters alone."""
        if isinstance(operand, Literal | SizeRef):
            return True
        if isinstance(operand, AxisRef):
            return operand.name not in self.own
        if isinstance(operand, ParamRef):
            return operand.type != "acc"
        if not isinstance(operand, Value):
            return False
        s = self.by_name[operand.name]
        return isinstance(s, Op) and s.type in ("int", "bool") and all(self.static(a) for a in s.args)

    def constant(self, operand: Operand) -> bool:
        """Whether a divisor is one number for the whole call, made of extents (a call in which it is 0 divides
        nothing: the select around it is Python's)."""
        if isinstance(operand, Literal):
            return operand.value != 0
        s = self.by_name.get(operand.name) if isinstance(operand, Value) else None
        if isinstance(s, Op) and s.op == "real":
            return self.static(s.args[0])
        return isinstance(operand, SizeRef)

    def harmless(self, s: Load, need: Need) -> bool:
        """Whether a guarded load already gives a finite pad wherever it is not needed."""
        if s.guard is None or s.pad is None or isinstance(s.pad.value, str):
            return False
        own = Holds(s.guard)
        return need == own or (isinstance(need, Some) and own in need.parts)

    def touched(self) -> set[str]:
        """Loads and operations that must read harmless numbers somewhere."""
        found: set[str] = set()
        exposed = self.exposed()
        for name, need in self.need.items():
            s = self.by_name[name]
            if need == ALWAYS:
                continue
            if name in exposed and isinstance(s, Op) and any(_infinite(a) for a in s.args):
                found.add(name)
            elif isinstance(s, Load):
                if not self.harmless(s, need):
                    found.add(name)
            elif isinstance(s, Op) and not regular(s) and not (s.op == "div" and self.constant(s.args[1])):
                found.add(name)
        return found

    def exposed(self) -> set[str]:
        """Values that are partials of what has fewer axes: there all are added up, those that are not needed among them."""
        found: set[str] = set()
        for s in reversed(self.kernel.statements):
            if not isinstance(s, Op) or s.type != "acc" or s.name not in self.need:
                continue
            values = [a.name for a in s.args if isinstance(a, Value)]
            if s.op == "mul" and len(values) == 2:
                needed = self.need_axes(self.need[s.name])
                found |= {b for a, b in (values, values[::-1]) if needed - self.axes[a]}
            if s.name in found:
                found.update(values)
        return found

    def run(self) -> Kernel:
        self.needs()
        touched = self.touched()
        if not touched:
            return self.kernel
        changed: set[str] = set()  # values of type acc whose text will differ from the plain one
        for s in self.kernel.statements:
            if isinstance(s, Load | Op | Fold) and s.type == "acc":
                uses = {o.name for o in operands(s) if isinstance(o, Value)}
                if s.name in touched or uses & changed:
                    changed.add(s.name)
        first = self.first_phase(changed)
        plain: dict[str, str] = {}  # a changed value -> its plain copy
        done: set[str] = set()
        for s in self.kernel.statements:
            if isinstance(s, Load | Op | Fold) and s.name in first:
                copy = _rename(s, plain)
                if s.name in changed:
                    plain[s.name] = f"{s.name}.plain"
                    copy = replace(copy, name=plain[s.name])
                else:
                    done.add(s.name)
                self.out.append(copy)
        for s in self.kernel.statements:
            if isinstance(s, Load | Op | Fold):
                if s.name in done:
                    continue
                self.second(s, touched)
            else:
                self.out.append(s)
        names = tuple((v, n) for v, n in self.kernel.names)
        return replace(self.kernel, statements=tuple(self.out), names=names)

    def first_phase(self, changed: set[str]) -> set[str]:
        """What conditions and integers are made of."""
        wanted: set[str] = set()
        for s in reversed(self.kernel.statements):
            if isinstance(s, Load | Op | Fold):
                if s.type != "acc" or s.name in wanted:
                    wanted.add(s.name)
                    wanted |= {o.name for o in operands(s) if isinstance(o, Value)}
        return wanted

    def second(self, s: Load | Op | Fold, touched: set[str]) -> None:
        if s.name not in touched:
            self.out.append(s)
            return
        condition = self.condition(self.need[s.name])
        if isinstance(s, Load) or (isinstance(s, Op) and s.op == "select"):
            raw = f"{s.name}.all"
            self.out.append(replace(s, name=raw))
            self.out.append(Op(s.name, "acc", "select", (condition, Value(raw), Literal(Fraction(0)))))
            return
        assert isinstance(s, Op)
        safe = safe_arguments(s.op, len(s.args))
        args: list[Operand] = []
        for k, (a, constant) in enumerate(zip(s.args, safe)):
            if isinstance(a, Literal) or (isinstance(a, ParamRef) and len(s.args) > 1) or (s.op == "div" and k == 0):
                args.append(a)
                continue
            name = f"{s.name}.arg{k}"
            self.out.append(Op(name, "acc", "select", (condition, a, Literal(constant))))
            args.append(Value(name))
        self.out.append(replace(s, args=tuple(args)))

    def condition(self, need: Need) -> Operand:
        """The operand of a condition; its statements are added once."""
        if need in self.known:
            return self.known[need]
        value: Operand
        match need:
            case Holds(operand, True):
                return operand
            case Holds(operand, False):
                value = self.add(Op("", "bool", "not", (operand,)))
            case Every(parts) | Some(parts):
                args = [self.condition(p) for p in sorted(parts, key=_order)]
                value = args[0]
                for a in args[1:]:
                    value = self.add(Op("", "bool", "and" if isinstance(need, Every) else "or", (value, a)))
            case Exists(axes, of):
                value = self.add(Fold("", "bool", "any", axes, self.condition(of)))
            case Always():
                value = Literal(Fraction(1), "bool")
        self.known[need] = value
        return value

    def add(self, s: Op | Fold) -> Value:
        name = f"needed.{len(self.out)}"
        self.out.append(replace(s, name=name))
        return Value(name)


def _infinite(operand: Operand) -> bool:
    """Whether it is a number that is not finite."""
    return isinstance(operand, Literal) and isinstance(operand.value, str)


def _order(need: Need) -> str:
    """A fixed order of conditions, so that the same plan gives the same text."""
    match need:
        case Every(parts) | Some(parts):
            return f"{type(need).__name__}({', '.join(sorted(_order(p) for p in parts))})"
        case Exists(axes, of):
            return f"Exists({axes}, {_order(of)})"
    return repr(need)


def operands(s: Statement) -> Iterable[Operand]:
    match s:
        case Load(guard=guard, subscripts=subscripts):
            return [*([guard] if guard is not None else []), *(p.data for p in subscripts if p.data is not None)]
        case Op(args=args):
            return args
        case Fold(value=value, where=where):
            return [value] if where is None else [value, where]
        case Store(value=value):
            return [value]
        case Scatter(value=value, guard=guard):
            return [value] if guard is None else [value, guard]


def _rename(s: Load | Op | Fold, names: dict[str, str]) -> Load | Op | Fold:
    """The statement reading the plain copies of values."""

    def of(operand: Operand) -> Operand:
        return Value(names.get(operand.name, operand.name)) if isinstance(operand, Value) else operand

    match s:
        case Load():
            subscripts = tuple(
                p if p.data is None else replace(p, data=Value(names.get(p.data.name, p.data.name)))
                for p in s.subscripts
            )
            return replace(s, guard=None if s.guard is None else of(s.guard), subscripts=subscripts)
        case Op():
            return replace(s, args=tuple(of(a) for a in s.args))
        case Fold():
            return replace(s, value=of(s.value), where=None if s.where is None else of(s.where))
