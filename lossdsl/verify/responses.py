"""How every tensor answers to a shift or a scaling of one input: an exact abstract interpretation of the IR.

A shift adds `s[other positions]` to an input: the same number along the named axes, any number elsewhere. A scaling
multiplies it by `t[other positions] > 0`. The *response* of a scalar is a linear form R over reads of s (of log t) with

    shift:  value(x + s) = value(x) + R          scaling:  value(t * x) = value(x) * exp(R)

in extended reals, NaN equal to NaN, with finite R. Its coefficients are products of scalars that do not move
themselves. `ANY` is the response of what every R fits (-inf under a shift; 0 and -inf under a scaling). What no rule
covers raises `NoResponse`, so an unknown primitive can never be taken for an invariant one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    BOOL,
    FALSE,
    INT,
    TRUE,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Input,
    Not,
    Or,
    Param,
    Proxy,
    Read,
    Scalar,
    Select,
    Size,
    Stop,
    Table,
    postorder,
)
from lossdsl.ir.rewrite import instantiate, substitute
from lossdsl.verify.context import Context
from lossdsl.verify.ranges import Scope
from lossdsl.verify.show import text

Factors = frozenset[tuple[Scalar, int]]  # scalars that do not move, with their exponents
Term = tuple[tuple[Scalar, ...], Factors]  # s at these indices, times the factors


class NoResponse(Exception):
    """No rule gives the response; the message is the smallest expression without one."""


class Response:
    """A linear form over reads of the shift; immutable. `any` fits every form."""

    __slots__ = ("any", "terms")

    def __init__(self, terms: Mapping[Term, Fraction] | None = None, *, any_: bool = False) -> None:
        self.terms = {t: c for t, c in (terms or {}).items() if c}
        self.any = any_

    @property
    def still(self) -> bool:
        """Whether the value does not change at all."""
        return self.any or not self.terms

    def plus(self, other: Response, sign: int = 1) -> Response:
        """The response of a sum (of a difference); what is infinite anyway stays so."""
        if self.any or other.any:
            return ANY
        total = dict(self.terms)
        for t, c in other.terms.items():
            total[t] = total.get(t, Fraction(0)) + sign * c
        return Response(total)

    def times(self, constant: Fraction, factors: Mapping[Scalar, int]) -> Response:
        if self.any:
            return ANY
        out: dict[Term, Fraction] = {}
        for (indices, mine), c in self.terms.items():
            powers = dict(mine)
            for f, k in factors.items():
                powers[f] = powers.get(f, 0) + k
            term = (indices, frozenset((f, k) for f, k in powers.items() if k))
            out[term] = out.get(term, Fraction(0)) + c * constant
        return Response(out)

    def scalars(self) -> list[Scalar]:
        return [s for indices, factors in self.terms for s in (*indices, *(f for f, _ in factors))]

    def mapped(self, fn: Callable[[Scalar], Scalar]) -> Response:
        out: dict[Term, Fraction] = {}
        for (indices, factors), c in self.terms.items():
            powers: dict[Scalar, int] = {}
            for f, k in factors:
                powers[fn(f)] = powers.get(fn(f), 0) + k
            term = (tuple(fn(i) for i in indices), frozenset((f, k) for f, k in powers.items() if k))
            out[term] = out.get(term, Fraction(0)) + c
        return Response(out, any_=self.any)


ANY = Response(any_=True)
STILL = Response()


def both(a: Response, b: Response, at: Scalar) -> Response:
    """The one response that both have."""
    if a.any or b.any:
        return b if a.any else a
    if a.terms != b.terms:
        raise NoResponse(f"{text(at)}: its parts do not move together")
    return a


class Shift:
    """Responses to a shift of `entry` that is the same along the positions `along`."""

    verb = "shift"

    def __init__(self, ctx: Context, entry: Input, along: frozenset[int]) -> None:
        self.ctx, self.entry, self.along = ctx, entry, along
        self._ranges = ctx.ranges()
        self._definitions = {d.tensor: d for d in ctx.program.definitions()}
        self._grouped = {
            d.tensor: item for item in ctx.program.body if isinstance(item, Group) for d in item.definitions
        }
        self._known: dict[str, Response | NoResponse] = {i.name: STILL for i in ctx.program.inputs}
        # Where an axis of the input is empty nothing is shifted, so every axis may be taken to have an element.
        self._filled = {s for d in entry.dims if len(list(d.symbols())) == 1 == len(d.terms) for s in d.symbols()}

    # ------------------------------------------------------------------------------------------------ tensors

    def tensor(self, name: str) -> Response:
        """The response of `name[formals]`. Raises NoResponse."""
        if name not in self._known:
            if name in self._grouped:
                self._recurrence(self._grouped[name])
            else:
                try:
                    self._known[name] = self._definition(self._definitions[name])
                except NoResponse as reason:
                    self._known[name] = reason
        found = self._known[name]
        if isinstance(found, NoResponse):
            raise NoResponse(*found.args)
        return found

    def _recurrence(self, group: Group) -> None:
        """By induction over the order of the recurrence: if nothing read before moves, nothing moves."""
        for d in group.definitions:
            self._known[d.tensor] = STILL
        failed: NoResponse | None = None
        for d in group.definitions:
            try:
                if not self._definition(d).still:
                    failed = NoResponse(f"{d.tensor}: a recurrence that moves")
            except NoResponse as reason:
                failed = reason
            if failed is not None:
                break
        if failed is not None:
            # what was concluded from the hypothesis goes with it
            members = {d.tensor for d in group.definitions}
            inputs = {i.name for i in self.ctx.program.inputs}
            self._known = {n: r for n, r in self._known.items() if n in inputs}
            self._known |= dict.fromkeys(members, failed)

    def _definition(self, d: Definition) -> Response:
        body = _Body(self, d)
        body.still(d.where)
        body.still(d.support)
        moved = body(d.body)
        if d.support is not TRUE:
            moved = both(moved, self.of_constant(Const(0)), d.support)
        if d.head == "map":
            return moved
        return self._head(d, moved)

    def _head(self, d: Definition, moved: Response) -> Response:
        bound = frozenset(d.bound)
        uniform = not any(i in bound for s in moved.scalars() for i in postorder(s))
        if uniform and d.head in self.keeping:
            return moved
        if uniform and d.head in ("argmax", "argmin", "argsort"):
            return STILL
        if d.head == self.accumulating and not moved.still:
            return self._accumulated(d, moved, bound)
        if moved.still and not (d.head == "prod" and moved.any):
            return ANY if d.head in self.keeping and moved.any else STILL
        raise NoResponse(f"{d.tensor}: {d.head} over what moves by different amounts")

    keeping = frozenset({"max", "min", "logsumexp"})
    accumulating = "sum"

    def _accumulated(self, d: Definition, moved: Response, bound: frozenset[Index]) -> Response:
        """A sum over the whole extent moves by the sum of the responses: the extent times a common one, or the
        common one where the weights lie on a simplex over the reduced axes."""
        if d.where is not TRUE:
            raise NoResponse(f"{d.tensor}: {d.head} over a selection of what moves")
        size = Dim.const(1)
        for i in d.bound:
            size = size * i.dim
        total = STILL
        for (indices, factors), c in moved.terms.items():
            varying = [(f, k) for f, k in factors if any(n in bound for n in postorder(f))]
            if any(n in bound for i in indices for n in postorder(i)):
                raise NoResponse(f"{d.tensor}: {d.head} over the axis along which the {self.verb} differs")
            rest = Response({(indices, factors - frozenset(varying)): c})
            if not varying:
                total = total.plus(rest.times(*_split_size(size)))
            elif len(varying) == 1 and varying[0][1] == 1 and self._is_simplex(varying[0][0], d.bound):
                total = total.plus(rest)
            else:
                raise NoResponse(f"{d.tensor}: {d.head} of weights whose sum is not known")
        return total

    def _is_simplex(self, weight: Scalar, bound: tuple[Index, ...]) -> bool:
        declared = self.ctx.program.input(weight.tensor) if isinstance(weight, Read) else None
        if not isinstance(weight, Read) or declared is None or declared.kind != "simplex":
            return False
        rest = [i for k, i in enumerate(weight.indices) if k not in declared.over]
        summed = [weight.indices[k] for k in declared.over]
        apart = not any(n in bound for i in rest for n in postorder(i))
        whole = all(declared.dims[k] == i.dim for k, i in zip(declared.over, summed) if isinstance(i, Index))
        return apart and whole and len(summed) == len(bound) and set(summed) == set(bound)

    # ------------------------------------------------------------------------------------------------ scalars

    def of_constant(self, n: Const) -> Response:
        return ANY if isinstance(n.value, str) else STILL

    def of_apply(self, n: Apply, parts: list[Response], body: _Body) -> Response:
        match n.name:
            case "add" | "sub":
                return self._sum(n, parts)
            case "neg":
                return parts[0].times(Fraction(-1), {})
            case "real" if n.args[0].dtype is not BOOL:
                return parts[0]
            case "mul":
                for factor, moved in ((0, 1), (1, 0)):
                    if parts[factor].still and not parts[moved].still:
                        return self._scaled(parts[moved], n.args[factor], 1, body)
            case "div":
                if parts[1].still and not parts[0].still:
                    return self._scaled(parts[0], n.args[1], -1, body)
            case "max2" | "min2" | "logaddexp":
                return both(parts[0], parts[1], n)
            case "clamp":
                return both(both(parts[0], parts[1], n), parts[2], n)
            case "expdiff":
                both(parts[0], parts[1], n)
                return STILL
        return _unmoved(n, parts)

    def _sum(self, n: Apply, parts: list[Response]) -> Response:
        return parts[0].plus(parts[1], -1 if n.name == "sub" else 1)

    def _scaled(self, moved: Response, factor: Scalar, power: int, body: _Body) -> Response:
        constant, factors = body.factor(factor, power)
        if not constant:
            raise NoResponse(f"{text(factor)} is 0")  # 0 * x has the sign of x, which a division by it would show
        return moved.times(constant, factors)

    def empty(self, size: Scalar) -> bool | None:
        """Whether an extent is 0, as far as that is known (False where the shifted input has that axis)."""
        if not isinstance(size, Size):
            return None
        terms = size.dim.terms
        filled = all(isinstance(a, str) and a in self._filled for m, _ in terms for a in m)
        return False if len(terms) == 1 and terms[0][1] > 0 and filled else None


class Scale(Shift):
    """Responses to a scaling of `entry` by positive numbers: degrees of homogeneity."""

    verb = "factor"
    keeping = frozenset({"max", "min", "sum"})
    accumulating = "prod"

    def of_constant(self, n: Const) -> Response:
        return ANY if isinstance(n.value, str) or n.value == 0 else STILL

    def of_apply(self, n: Apply, parts: list[Response], body: _Body) -> Response:
        match n.name:
            case "mul":
                return parts[0].plus(parts[1])
            case "div":
                return parts[0].plus(parts[1], -1)
            case "add" | "sub" | "max2" | "min2":
                return both(parts[0], parts[1], n)
            case "clamp":
                return both(both(parts[0], parts[1], n), parts[2], n)
            case "neg" | "abs" | "relu":
                return parts[0]
            case "real" if n.args[0].dtype is not BOOL:
                return parts[0]
            case "sqrt":
                return parts[0].times(Fraction(1, 2), {})
            case "powi" if isinstance(n.args[1], Const) and isinstance(n.args[1].value, Fraction) and n.args[1].value:
                return STILL if parts[0].any else parts[0].times(n.args[1].value, {})
            case "pow" if parts[1].still and not parts[0].still:
                return self._scaled(parts[0], n.args[1], 1, body)
            case "sign":
                return STILL
            case "atan2":
                both(parts[0], parts[1], n)
                return STILL
        return _unmoved(n, parts)


def _unmoved(n: Scalar, parts: list[Response]) -> Response:
    if all(p.still for p in parts):
        return STILL
    raise NoResponse(text(n))


class _Body:
    """The responses of the scalars of one definition."""

    def __init__(self, engine: Shift, d: Definition) -> None:
        self.engine = engine
        self._definition = d
        self._scope: Scope | None = None
        self._memo: dict[Scalar, Response] = {}

    @property
    def scope(self) -> Scope:
        """Enclosures of the body, wherever it is evaluated (under its `where`)."""
        if self._scope is None:
            scope = self.engine._ranges.body_scope(self._definition)
            self._scope = scope.under(self._definition.where, True) or scope
        return self._scope

    def still(self, n: Scalar) -> None:
        """Raises NoResponse unless the value does not change."""
        if not self(n).still:
            raise NoResponse(f"{text(n)} changes")

    def __call__(self, n: Scalar) -> Response:
        found = self._memo.get(n)
        if found is None:
            found = self._memo[n] = self._respond(n)
        return found

    def _respond(self, n: Scalar) -> Response:
        match n:
            case Const():
                return self.engine.of_constant(n)
            case Param() | Size() | Index():
                return STILL
            case Read():
                return self._read(n)
            case Apply():
                return self.engine.of_apply(n, [self(a) for a in n.args], self)
            case Select():
                decided = self._decided(n.condition)
                if decided is not None:
                    return self(n.a if decided else n.b)
                self.still(n.condition)
                return both(self(n.a), self(n.b), n)
            case Compare():
                both(self(n.a), self(n.b), n)
                return STILL
            case And() | Or() | Not():
                for c in n.children:
                    self.still(c)
                return STILL
            case Stop() | AdjointMap():
                return self(n.a)
            case Proxy():
                return self(n.value)
            case Table():
                self.still(n.index)
                return STILL
        raise NoResponse(text(n))

    def _read(self, n: Read) -> Response:
        for i in n.indices:
            self.still(i)
        engine = self.engine
        if n.tensor == engine.entry.name:
            others = tuple(i for k, i in enumerate(n.indices) if k not in engine.along)
            return Response({(others, frozenset()): Fraction(1)})
        moved = engine.tensor(n.tensor)
        d = engine._definitions.get(n.tensor)
        if d is None or moved.still:
            return moved
        mapping: dict[Scalar, Scalar] = dict(zip(d.formals, n.indices, strict=True))
        return moved.mapped(lambda s: substitute(s, mapping))

    def _decided(self, condition: Scalar) -> bool | None:
        """Whether an extent is 0 where that is asked and known."""
        if condition is TRUE or condition is FALSE:
            return condition is TRUE
        if not isinstance(condition, Compare) or condition.op not in ("==", "<=") or not _is_zero(condition.b):
            return None
        n = condition.a
        while isinstance(n, Read) or (isinstance(n, Apply) and n.name == "real"):
            if isinstance(n, Apply):
                n = n.args[0]
                continue
            d = self.engine._definitions.get(n.tensor)
            if d is None or d.head != "map" or n.tensor in self.engine._grouped or d.support is not TRUE:
                return None
            n = instantiate(d, n.indices)
        return self.engine.empty(n)

    def factor(self, n: Scalar, power: int) -> tuple[Fraction, dict[Scalar, int]]:
        """A scalar that does not move as constant and factors. Raises NoResponse unless it is finite, and not 0 where
        it divides: only then `(a + s) * n` and `a * n + s * n` are one number."""
        if isinstance(n, Const) and isinstance(n.value, Fraction) and (n.value or power > 0):
            return Fraction(n.value) ** power, {}
        if isinstance(n, Apply) and n.name == "real" and n.dtype is not INT and isinstance(n.args[0], Size):
            size = n.args[0]
            if power > 0 or self.engine.empty(size) is False:
                constant, factors = _split_size(size.dim)
                return constant**power, {f: k * power for f, k in factors.items()}
        if isinstance(n, Apply) and n.name == "neg":
            constant, factors = self.factor(n.args[0], power)
            return -constant, factors
        if isinstance(n, Apply) and n.name in ("mul", "div"):
            (a, left), (b, right) = (self.factor(n.args[0], power), self.factor(n.args[1], _then(n.name, power)))
            for f, k in right.items():
                left[f] = left.get(f, 0) + k
            return a * b, left
        if isinstance(n, Read) and n.tensor not in self.engine._grouped:
            d = self.engine._definitions.get(n.tensor)
            if d is not None and d.head == "map" and d.support is TRUE:
                inner = instantiate(d, n.indices)
                if isinstance(inner, (Const, Apply, Read)):
                    return self.factor(inner, power)
        box = self.scope[n]
        if not box.finite or (power < 0 and not box.nonzero):
            raise NoResponse(f"{text(n)} may be {'infinite' if power > 0 else '0 or infinite'}")
        return Fraction(1), {n: power}


def _then(name: str, power: int) -> int:
    return -power if name == "div" else power


def _is_zero(n: Scalar) -> bool:
    return isinstance(n, Const) and n.value == 0


def _split_size(dim: Dim) -> tuple[Fraction, dict[Scalar, int]]:
    """An extent as number and factors, one for each named extent where it is a product of them."""
    if dim.constant is not None:
        return Fraction(dim.constant), {}
    factors: dict[Scalar, int] = {}
    if len(dim.terms) == 1 and dim.terms[0][1] > 0 and all(isinstance(a, str) for a in dim.terms[0][0]):
        monomial, coefficient = dim.terms[0]
        for atom in monomial:
            assert isinstance(atom, str)
            one = Apply("real", (Size(Dim.symbol(atom)),))
            factors[one] = factors.get(one, 0) + 1
        return Fraction(coefficient), factors
    return Fraction(1), {Apply("real", (Size(dim),)): 1}
