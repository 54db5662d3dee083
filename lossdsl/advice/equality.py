"""Proof that two programs of one loss are equal wherever the first is defined: exactly, without any numbers.

Stable functions are written out by the definitions of their records, log-sum-exps as logarithms of sums, and maps are
looked through. Then the two are compared side by side, descending to the smallest scalars that differ; these are equal
if their difference vanishes in exact normal form, or is a combination of logarithms whose product is 1. What the second
asks of its arguments (a logarithm that they are positive, a quotient that it is not 0) the first must ask, too, or it
must be proved of the domain. Anything else is not proved, and nothing is concluded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from lossdsl.ir.algebra import NodeAlgebra
from lossdsl.ir.nodes import (
    INT,
    REAL,
    TRUE,
    Apply,
    Const,
    Definition,
    Group,
    Index,
    Program,
    Read,
    Scalar,
    Select,
    Stop,
    postorder,
)
from lossdsl.ir.rewrite import Fresh, map_scalars, members, rename_tensors, substitute, transform
from lossdsl.primitives import PRIMITIVES
from lossdsl.verify.algebra import Field, Form, TooLarge, minus, plus, power, sign, times
from lossdsl.verify.pieces import NotScalar, fold, inline
from lossdsl.verify.ranges import Ranges, Scope

ELEMENTARY = (
    "expm1", "log1p", "log2", "log10", "log1mexp", "sigmoid", "logsigmoid", "softplus", "logaddexp", "tanh", "sinh", "cosh",
    "logcosh", "xlogy", "expdiff",
)  # fmt: skip
_OPEN = frozenset({"add", "sub", "neg", "mul", "real", "int", "exp", "abs", "max2", "min2"})  # defined everywhere
_MOST_SPLITS = 4
_ANY_ORDER = frozenset({"sum", "prod", "max", "min", "any", "all", "count"})


def equal(old: Program, new: Program) -> bool:
    """Whether every value of `new` is proved equal to that of `old`, wherever `old` has a real value."""
    if old == new:
        return True
    if (old.inputs, old.parameters) != (new.inputs, new.parameters):
        return False
    roles = list(zip(_roles(old), _roles(new), strict=False))
    if len(_roles(old)) != len(_roles(new)) or any(a[0] != b[0] for a, b in roles):
        return False
    try:
        sides = _Sides(old, new)
        return all(sides.tensors(a[1], b[1]) for a, b in roles)
    except (TooLarge, NotScalar, RecursionError):
        return False


def _roles(program: Program) -> list[tuple[str, str]]:
    """The tensors that a loss gives, under names that do not depend on how it is written."""
    found = [(f"output {o.name}", o.tensor) for o in program.outputs]
    found += [(f"update {o.name}", o.tensor) for o in program.updates]
    r = program.reductions
    if r is not None:
        found += [(f"{r.written} {k}", getattr(r, k)) for k in ("mean", "sum", "none", "total", "weight", "element")]
    return [*found, ("target", program.target)] if program.target else found


# ------------------------------------------------------------------------------------- elementary programs


def elementary(program: Program) -> Program:
    """The program in exponentials, logarithms, and what has no other definition."""
    algebra = NodeAlgebra()

    def step(n: Scalar) -> Scalar:
        if isinstance(n, Apply) and n.name in ELEMENTARY:
            definition = PRIMITIVES[n.name].definition
            assert definition is not None
            made = definition(algebra, *n.args)
            return transform(made, step) if made is not n else made
        return n

    names = Fresh.of(program)
    body: list[Definition | Group] = []
    for item in program.body:
        if isinstance(item, Group):
            body.append(replace(item, definitions=tuple(_stepped(d, step) for d in item.definitions)))
            continue
        d = _stepped(item, step)
        if d.head == "logsumexp":
            total = replace(d, tensor=names(f"{d.tensor}.total"), head="sum", body=Apply("exp", (d.body,)))
            log = Apply("log", (Read(total.tensor, d.formals, d.dtype),))
            body += [total, replace(d, head="map", bound=(), where=TRUE, body=log)]
            continue
        body.append(d)
    return _logs_of_products(program.with_body(tuple(body)), names)


def _logs_of_products(program: Program, names: Fresh) -> Program:
    """log of a product of what is positive, as the sum of the logs."""
    ranges = Ranges(program)
    sums: dict[str, Definition] = {}
    body: list[Definition | Group] = []

    def step(n: Scalar) -> Scalar:
        inner = n.args[0] if isinstance(n, Apply) and n.name == "log" else None
        if isinstance(inner, Read) and inner.tensor in sums:
            return Read(sums[inner.tensor].tensor, inner.indices, REAL)
        return n

    for item in program.body:
        done = item if isinstance(item, Group) else _stepped(item, step)
        body.append(done)
        if isinstance(done, Definition) and done.head == "prod" and done.support is TRUE:
            scope: Scope | None = ranges.body_scope(done)
            scope = scope.under(done.where, True) if scope is not None and done.where is not TRUE else scope
            if scope is not None and scope[done.body].positive:
                log = replace(done, tensor=names(f"{done.tensor}.log"), head="sum", body=Apply("log", (done.body,)))
                sums[done.tensor] = log
                body.append(log)
    return program.with_body(tuple(body))


def _stepped(d: Definition, step: object) -> Definition:
    assert callable(step)
    return map_scalars(d, lambda s: transform(s, step))


class _Logs(Field):
    """Normal forms in which log(1 + exp(a)) is a logarithm like any other, and a value without derivative is not looked
    into; `asked` has the forms of which something is
    asked, by their keys."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.asked: dict[str, Form] = {}

    def _translate(self, node: Scalar) -> Form:
        if isinstance(node, Stop):
            return self.leaf(node)  # its value is that of what is inside, its derivative is not
        return super()._translate(node)

    def log(self, p: Form) -> Form:
        if p.constant == 1:
            return self.number(0)
        return self._primitive("log", p)

    def exp(self, p: Form) -> Form:
        """exp of a sum is the product of the exps of its terms."""
        terms = list(p.num.terms()) if p.den.is_constant() else []
        if len(terms) < 2:
            return super().exp(p)
        scale = p.den.leading_coefficient()
        result = self.number(1)
        for exponents, coefficient in terms:
            term = self.number(Fraction(int(coefficient.p), int(coefficient.q)) / Fraction(int(scale.p), int(scale.q)))
            for slot, k in enumerate(exponents):
                if k:
                    term = times(term, self.monomial(slot, int(k)))
            result = times(result, super().exp(term))
        return result


# ------------------------------------------------------------------------------------------- side by side


class _Sides:
    """Both programs over the same inputs; `stands` maps a reduction of the second to its equal in the first."""

    def __init__(self, old: Program, new: Program) -> None:
        self.old = elementary(old)
        fresh = {d.tensor: f"{d.tensor}$new" for d in elementary(new).definitions()}
        renamed = [_renamed(item, fresh) for item in elementary(new).body]
        self.fresh = fresh
        self.both = self.old.with_body((*self.old.body, *renamed))
        self.ranges = Ranges(self.both)
        self.stands: dict[str, str] = {}
        self.definitions = {d.tensor: d for d in self.both.definitions()}
        folds = [d for d in self.old.body if isinstance(d, Definition) and d.head != "map"]
        for item in renamed:
            if isinstance(item, Group):
                self._group(item)
            elif item.head != "map":
                found = next((d for d in folds if self._same_fold(d, item)), None)
                if found is not None:
                    self.stands[item.tensor] = found.tensor

    def tensors(self, a: str, b: str) -> bool:
        """Whether two tensors are equal, element by element."""
        left, right = self.definitions.get(a), self.definitions.get(self.fresh.get(b, b))
        if left is None or right is None:
            return a == b
        if left.head == "map" and right.head == "map":
            places = self._places(left.formals, right.formals)
            return places is not None and self._bodies(left, right, places)
        return self.stands.get(right.tensor) == left.tensor or self._same_through(left, right)

    def _same_through(self, left: Definition, right: Definition) -> bool:
        """A fold against a map: by their elements."""
        places = self._places(left.formals, right.formals)
        if places is None:
            return False
        a = Read(left.tensor, left.formals, left.dtype)
        b = Read(right.tensor, left.formals, right.dtype)
        return self._equal(self._open(a), self._open(b), self.ranges.body_scope(left))

    def _group(self, group: Group) -> None:
        """A recurrence stands for another one that is written the same."""
        mine = {d.tensor for d in group.definitions}
        for other in self.old.body:
            if not isinstance(other, Group) or len(other.definitions) != len(group.definitions):
                continue
            names = {d.tensor: o.tensor for d, o in zip(group.definitions, other.definitions, strict=True)}
            if _renamed(group, {**self.stands, **names}) == other:
                self.stands |= {n: names[n] for n in mine}
                return

    def _places(self, a: tuple[Index, ...], b: tuple[Index, ...]) -> dict[Scalar, Scalar] | None:
        if len(a) != len(b) or any(x.dim != y.dim for x, y in zip(a, b, strict=True)):
            return None
        return dict(zip(b, a, strict=True))

    def _same_fold(self, a: Definition, b: Definition) -> bool:
        if a.head != b.head or a.dtype is not b.dtype:
            return False
        formals, bound = self._places(a.formals, b.formals), self._places(a.bound, b.bound)
        if formals is None or bound is None:
            return False
        return self._bodies(a, b, {**formals, **bound})

    def _bodies(self, a: Definition, b: Definition, places: Mapping[Scalar, Scalar]) -> bool:
        scope: Scope | None = self.ranges.body_scope(a)
        assert scope is not None
        parts = [(a.support, b.support), (a.where, b.where)]
        for x, y in parts:
            if not self._equal(self._open(x), self._open(substitute(y, dict(places))), scope):
                return False
        for condition in (a.support, a.where):
            scope = scope.under(condition, True) if scope is not None else None
        if scope is None:
            return True  # there is no element
        return self._equal(self._open(a.body), self._open(substitute(b.body, dict(places))), scope)

    def _open(self, node: Scalar) -> Scalar:
        """The scalar with maps looked through, in the names of the first program."""
        return fold(rename_tensors(inline(self.both, node), self.stands))

    # --------------------------------------------------------------------------------------------- scalars

    def _equal(self, a: Scalar, b: Scalar, scope: Scope, splits: int = _MOST_SPLITS) -> bool:
        if a is b:
            return True
        if isinstance(a, Select) and isinstance(b, Select) and self._equal(a.condition, b.condition, scope, 0):
            return self._branches(a.condition, a.a, b.a, a.b, b.b, scope, splits)
        alike = type(a) is type(b) and len(a.children) == len(b.children) and a.children
        if alike and a.rebuild(b.children) is b:
            if all(self._equal(x, y, scope, splits) for x, y in zip(a.children, b.children, strict=True)):
                return True
        if a.dtype is not REAL or b.dtype is not REAL:
            return False
        condition = next((n.condition for s in (a, b) for n in postorder(s) if isinstance(n, Select)), None)
        if condition is not None:
            if splits == 0:
                return False
            taken, left = ({n: (n.a, n.b)[k] for s in (a, b) for n in postorder(s) if isinstance(n, Select)
                            and n.condition is condition} for k in (0, 1))  # fmt: skip
            return self._branches(
                condition, _put(a, taken), _put(b, taken), _put(a, left), _put(b, left), scope, splits - 1
            )
        return self._vanishes(a, b, scope.reading(a).reading(b))

    def _branches(
        self, condition: Scalar, a: Scalar, b: Scalar, c: Scalar, d: Scalar, scope: Scope, splits: int
    ) -> bool:
        for x, y, holds in ((a, b, True), (c, d, False)):
            inner = scope.under(condition, holds)
            if inner is None:
                continue
            x, y = fold(x, inner), fold(y, inner)
            if not _has_no_value(x, inner) and not self._equal(x, y, inner.reading(x), splits):
                return False
        return True

    def _vanishes(self, a: Scalar, b: Scalar, scope: Scope) -> bool:
        """a - b is 0 exactly, and b is defined wherever a is."""
        a, b = _without_exp_log(a, scope), _without_exp_log(b, scope)
        if a is b:
            return True
        field = _Logs(scope)
        try:
            difference = plus(field.form(a), minus(field.form(b)))
            return (difference.zero or _logs_cancel(field, difference)) and self._defined(field, a, b)
        except TooLarge:
            return False

    def _defined(self, field: _Logs, a: Scalar, b: Scalar) -> bool:
        """Whether everything that the operations of b ask is asked by those of a, or proved."""
        asked = set(_asks(field, a))
        return all(ask in asked or _follows(field, ask, asked) for ask in _asks(field, b))


def _put(node: Scalar, by: Mapping[Select, Scalar]) -> Scalar:
    pairs: dict[Scalar, Scalar] = {}
    pairs.update(by.items())
    return substitute(node, pairs)


def _renamed(item: Definition | Group, names: Mapping[str, str]) -> Definition | Group:
    """The item with tensors under other names, its own included."""

    def one(d: Definition) -> Definition:
        done = map_scalars(d, lambda s: rename_tensors(s, names))
        return replace(done, tensor=names.get(d.tensor, d.tensor))

    if isinstance(item, Group):
        return replace(item, definitions=tuple(one(d) for d in members(item)))
    return one(item)


def _has_no_value(node: Scalar, scope: Scope) -> bool:
    """Whether the scalar is certainly no real number: a logarithm of 0, a quotient by 0."""
    box = scope[node]
    return not box.nan and box.lo == box.hi and math.isinf(box.lo)


def _logs_cancel(field: Field, f: Form) -> bool:
    """f = sum of k * log(P) + R is 0 if the product of the P^k, times exp(R), is 1."""
    if not f.den.is_constant():
        return False
    scale = f.den.leading_coefficient()
    rest = field.number(0)
    product = field.number(1)
    for exponents, coefficient in f.num.terms():
        slots = [(s, int(k)) for s, k in enumerate(exponents) if k]
        value = Fraction(int(coefficient.p), int(coefficient.q)) / Fraction(int(scale.p), int(scale.q))
        logs = [s for s, _ in slots if field.generators[s].name == "log"]
        if not logs:
            term = field.number(value)
            for s, k in slots:
                term = times(term, field.monomial(s, k))
            rest = plus(rest, term)
        elif len(slots) == 1 and slots[0][1] == 1 and value.denominator == 1 and abs(value) <= 16:
            product = times(product, power(field.generators[slots[0][0]].arguments[0], int(value)))
        else:
            return False
    return plus(times(product, field.exp(rest)), field.number(-1)).zero


def _asks(field: _Logs, node: Scalar) -> list[tuple[str, str]]:
    """What must hold for the operations of a scalar to be defined: ("positive", key of the form) and so on."""
    found: list[tuple[str, str]] = []

    def ask(kind: str, argument: Scalar) -> None:
        form = field.form(argument)
        field.asked[form.key] = form
        found.append((kind, form.key))

    for n in postorder(node):
        if not isinstance(n, Apply) or n.name in _OPEN or n.dtype is INT:
            continue
        match n.name:
            case "log":
                ask("positive", n.args[0])
            case "div":
                ask("nonzero", n.args[1])
            case "sqrt":
                ask("nonnegative", n.args[0])
            case "powi" | "pow" if _whole(n.args[1]):
                continue
            case _:
                for k, a in enumerate(n.args):
                    ask(f"argument {k} of {n.name}", a)
    return found


def _whole(exponent: Scalar) -> bool:
    value = exponent.value if isinstance(exponent, Const) else None
    return isinstance(value, Fraction) and value.denominator == 1 and value >= 0


def _without_exp_log(node: Scalar, scope: Scope) -> Scalar:
    """exp(log(u)) is u for u >= 0, at 0 too, where the logarithm is -inf."""

    def step(n: Scalar) -> Scalar:
        inner = n.args[0] if isinstance(n, Apply) and n.name == "exp" else None
        if isinstance(inner, Apply) and inner.name == "log" and scope[inner.args[0]].nonnegative:
            return inner.args[0]
        return n

    return transform(node, step)


def _follows(field: _Logs, ask: tuple[str, str], given: set[tuple[str, str]]) -> bool:
    """Whether what is asked holds wherever everything that is given does."""
    kind, key = ask
    if kind == "positive" and ("nonzero", key) in given and sign(field, field.asked[key]).nonnegative:
        return True
    if kind in ("nonzero", "nonnegative") and ("positive", key) in given:
        return True
    if kind == "positive":
        for also, other in given:  # a positive multiple of what is positive
            if also == "positive" and not field.asked[other].zero:
                if sign(field, times(field.asked[key], power(field.asked[other], -1))).positive:
                    return True
    box = sign(field, field.asked[key])
    match kind:
        case "positive":
            return box.positive
        case "nonzero":
            return box.nonzero
        case "nonnegative":
            return box.nonnegative
    return False


__all__ = ["equal"]
