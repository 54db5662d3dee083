"""Canonical forms of whole tensors, for the question whether two inputs can be exchanged or one be negated.

A form is a sign and the number of a structure; equal forms are equal functions. Definitions are looked through, bound
indices are named by depth and tried in every order, operands of commutative operations are sorted, and signs are drawn
outward through odd operations and dropped by even ones, so `abs(a - b)` and `abs(b - a)` are one form. Nothing is
cancelled or distributed, so no infinity or NaN is lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction

from lossdsl.ir.nodes import (
    TRUE,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Not,
    Or,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
)

ODD = frozenset({"sin", "tan", "asin", "atan", "sinh", "tanh", "erf", "sign", "i1e"})
EVEN = frozenset({"abs", "cos", "cosh", "logcosh", "i0e"})
_COMMUTATIVE = frozenset({"max2", "min2", "logaddexp"})
_ANY_ORDER = frozenset({"sum", "prod", "max", "min", "logsumexp", "any", "all", "count"})
_MOST_FORMS = 200_000

Form = tuple[int, int]  # sign, structure
Env = Mapping[Index, Form]


class TooManyForms(Exception):
    """The program is too large to be compared."""


class Structures:
    """Numbers for structures, shared by the forms that are to be compared."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self.parts: dict[tuple[str, int], list[Form]] = {}  # (operation, structure) -> its operands
        self.constants: dict[int, Fraction] = {}  # of the structures that are products

    def __call__(self, key: object) -> int:
        if len(self._numbers) > _MOST_FORMS:
            raise TooManyForms
        return self._numbers.setdefault(key, len(self._numbers))


class Canonical:
    """Forms of the tensors of a program in which inputs are read under other names, or negated."""

    def __init__(
        self, program: Program, numbers: Structures, renamed: Mapping[str, str], negated: frozenset[str] = frozenset()
    ) -> None:
        self._numbers, self._renamed, self._negated = numbers, renamed, negated
        self._definitions = {d.tensor: d for d in program.definitions()}
        self._grouped = {d.tensor: item for item in program.body if isinstance(item, Group) for d in item.definitions}
        self._known: dict[object, Form] = {}
        self._groups: dict[str, int] = {}
        self._open: dict[str, int] = {}  # members of the recurrence that is being numbered

    def tensor(self, name: str) -> Form:
        """The form of `name[formals]`."""
        d = self._definitions[name]
        return self._read(name, tuple(self._leaf("formal", k) for k in range(len(d.formals))), 0)

    def _leaf(self, *key: object) -> Form:
        return 1, self._numbers(key)

    # ------------------------------------------------------------------------------------------------ tensors

    def _read(self, name: str, at: tuple[Form, ...], depth: int) -> Form:
        if name in self._open:
            return self._leaf("earlier", self._open[name], at)
        d = self._definitions.get(name)
        if d is None:
            sign = -1 if name in self._negated else 1
            return sign, self._numbers(("input", self._renamed.get(name, name), at))
        if name in self._grouped:
            group = self._grouped[name]
            place = [m.tensor for m in group.definitions].index(name)
            return self._leaf("recurrence", self._group(group), place, at)
        key = (name, at, depth, tuple(self._open))
        if key not in self._known:
            self._known[key] = self._definition(d, at, depth)
        return self._known[key]

    def _group(self, group: Group) -> int:
        first = group.definitions[0].tensor
        if first not in self._groups:
            outer, self._open = self._open, {d.tensor: k for k, d in enumerate(group.definitions)}
            members = []
            for d in group.definitions:
                at = tuple(self._leaf("formal", k) for k in range(len(d.formals)))
                members.append((tuple(i.dim for i in d.formals), self._definition(d, at, 0)))
            self._open = outer
            self._groups[first] = self._numbers(("group", tuple(members)))
        return self._groups[first]

    def _definition(self, d: Definition, at: tuple[Form, ...], depth: int) -> Form:
        env = dict(zip(d.formals, at, strict=True))
        if d.head == "map":
            form = self._scalar(d.body, env, depth, {})
        else:
            form = self._reduction(d, env, depth)
        if d.support is not TRUE:
            return self._leaf("support", self._scalar(d.support, env, depth, {}), form)
        return form

    def _reduction(self, d: Definition, env: dict[Index, Form], depth: int) -> Form:
        orders = itertools.permutations(d.bound) if d.head in _ANY_ORDER and len(d.bound) <= 5 else [d.bound]
        found: list[tuple[int, int]] = []
        for order in orders:
            inner: dict[Index, Form] = {**env, **{i: self._leaf("bound", depth + k) for k, i in enumerate(order)}}
            below, memo = depth + len(order), dict[Scalar, Form]()
            where = self._scalar(d.where, inner, below, memo)
            sign, body = self._scalar(d.body, inner, below, memo)
            drawn = d.head == "sum"
            dims = tuple(i.dim for i in order)
            # a rank, a row and a column are no part of the body
            place = () if d.head in _ANY_ORDER else tuple(env[i] for i in d.formals)
            key = (d.head, dims, place, where, body if drawn else (sign, body))
            found.append((self._numbers(key), sign if drawn else 1))
        number, sign = min(found)
        return sign, number

    # ------------------------------------------------------------------------------------------------ scalars

    def _scalar(self, n: Scalar, env: Env, depth: int, memo: dict[Scalar, Form]) -> Form:
        found = memo.get(n)
        if found is None:
            found = memo[n] = self._form(n, env, depth, memo)
        return found

    def _form(self, n: Scalar, env: Env, depth: int, memo: dict[Scalar, Form]) -> Form:
        def of(child: Scalar) -> Form:
            return self._scalar(child, env, depth, memo)

        match n:
            case Const():
                if isinstance(n.value, str):
                    negative = n.value.startswith("-")
                    return -1 if negative else 1, self._numbers(("constant", n.value.removeprefix("-")))
                return self._product(n.value, [])
            case Index():
                return env[n]
            case Read():
                return self._read(n.tensor, tuple(of(i) for i in n.indices), depth)
            case Param():
                return self._leaf("parameter", n.name)
            case Size():
                return self._leaf("size", n.dim)
            case Stop() | AdjointMap():
                return of(n.a)
            case Proxy():
                return of(n.value)
            case Apply():
                return self._apply(n, [of(a) for a in n.args])
            case Compare():
                return self._compare(n.op, of(n.a), of(n.b))
            case And() | Or():
                return self._leaf(type(n).__name__, tuple(sorted(of(a) for a in n.args)))
            case Not():
                return self._leaf("not", of(n.a))
            case Select():
                return self._select(of(n.condition), of(n.a), of(n.b))
            case Table():
                return self._leaf("table", n.values, of(n.index))
        raise TooManyForms  # a node that this module does not know: nothing is concluded

    def _zero(self, form: Form) -> bool:
        return form[1] == self._numbers(("product", Fraction(0), ()))

    def _unsigned(self, form: Form) -> bool:
        """0 and NaN are their own negatives."""
        return self._zero(form) or form[1] == self._numbers(("constant", "nan"))

    def _flip(self, form: Form) -> Form:
        return form if self._unsigned(form) else (-form[0], form[1])

    def _select(self, condition: Form, a: Form, b: Form) -> Form:
        lead = b if self._unsigned(a) else a
        if lead[0] < 0:
            return -1, self._numbers(("select", condition, self._flip(a), self._flip(b)))
        return self._leaf("select", condition, a, b)

    def _compare(self, op: str, a: Form, b: Form) -> Form:
        if op in (">", ">="):
            op, a, b = {">": "<", ">=": "<="}[op], b, a
        if op in ("==", "!="):
            # a == b is -a == -b: the smaller of the two spellings
            a, b = min(sorted((a, b)), sorted((self._flip(a), self._flip(b))))
        else:
            a, b = min((a, b), (self._flip(b), self._flip(a)))
        return self._leaf("compare", op, a, b)

    def _apply(self, n: Apply, args: list[Form]) -> Form:
        match n.name:
            case "neg":
                return self._flip(args[0])
            case "add":
                return self._sum(args)
            case "sub":
                return self._sum([args[0], self._flip(args[1])])
            case "mul":
                return self._product(Fraction(1), args)
            case "div":
                return self._quotient(n, args)
            case "powi" if isinstance(n.args[1], Const) and isinstance(n.args[1].value, Fraction):
                sign = args[0][0] if n.args[1].value % 2 else 1
                return sign, self._numbers(("powi", args[0][1], n.args[1].value))
            case "real" if not isinstance(n.args[0], Const):
                return args[0][0], self._numbers(("real", args[0][1]))
        if n.name in ODD:
            return args[0][0], self._numbers((n.name, args[0][1]))
        if n.name in EVEN:
            return self._leaf(n.name, args[0][1])
        if n.name in _COMMUTATIVE:
            operands = sorted(self._operands(n.name, args))
            form = self._leaf(n.name, tuple(operands))
            self._numbers.parts[n.name, form[1]] = operands
            return form
        return self._leaf(n.name, tuple(args))

    def _operands(self, name: str, args: list[Form]) -> list[Form]:
        """Operands, those of the same operation inside taken apart."""
        out: list[Form] = []
        for sign, number in args:
            inner = self._numbers.parts.get((name, number)) if sign > 0 else None
            out += inner if inner is not None else [(sign, number)]
        return out

    def _sum(self, args: list[Form]) -> Form:
        terms: list[Form] = []
        for sign, number in args:
            inner = self._numbers.parts.get(("sum", number))
            terms += [(sign * s, t) for s, t in inner] if inner is not None else [(sign, number)]
        terms.sort(key=lambda t: (t[1], t[0]))
        # the sign of the whole: that of its first term that has no counterpart of the other sign
        lead = next((s for s, t in terms if (-s, t) not in terms), 1)
        if lead < 0:
            terms = sorted(((-s, t) for s, t in terms), key=lambda t: (t[1], t[0]))
        number = self._numbers(("sum", tuple(terms)))
        self._numbers.parts["sum", number] = terms
        return lead, number

    def _product(self, constant: Fraction, args: list[Form]) -> Form:
        factors: list[int] = []
        sign = -1 if constant < 0 else 1
        constant = abs(constant)
        for s, number in args:
            sign *= s
            inner = self._numbers.parts.get(("product", number))
            if inner is None:
                factors.append(number)
            else:
                constant *= self._numbers.constants[number]
                factors += [t for _, t in inner]
        factors.sort()
        if constant == 1 and len(factors) == 1:
            return sign, factors[0]
        number = self._numbers(("product", constant, tuple(factors)))
        self._numbers.parts["product", number] = [(1, t) for t in factors]
        self._numbers.constants[number] = constant
        return (1 if constant == 0 else sign), number

    def _quotient(self, n: Apply, args: list[Form]) -> Form:
        over = n.args[1]
        if isinstance(over, Const) and isinstance(over.value, Fraction) and over.value:
            return self._product(1 / over.value, [args[0]])
        sign, number = args[1]
        return self._product(Fraction(1), [args[0], (sign, self._numbers(("reciprocal", number)))])
