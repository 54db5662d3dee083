"""How tensors answer to a shift: the checker's own rules for `invariant under shift of x over c`.

A number is added to the entries of one input, the same along some of its axes and any elsewhere. The answer of a scalar is
what is added to it: a sum of `coefficient * shift[positions] * product of scalars that do not move`. None stands for the
answer of infinity and NaN, to which every finite number may be added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Index,
    Not,
    Or,
    Param,
    Read,
    Scalar,
    Select,
    Size,
    Table,
    postorder,
)
from lossdsl.ir.rewrite import substitute

Term = tuple[tuple[Scalar, ...], frozenset[tuple[Scalar, int]]]  # positions of the shift; factors with their powers
Answer = dict[Term, Fraction] | None
_TOGETHER = frozenset({"max2", "min2", "logaddexp"})  # f(a + r, b + r) = f(a, b) + r


class Shifts:
    """Answers of tensors to a shift of `name` that is constant along the positions `along`."""

    def __init__(self, bounds: Bounds, name: str, along: frozenset[int]) -> None:
        self.bounds, self.name, self.along = bounds, name, along
        self._answers: dict[str, Answer] = {}

    def tensor(self, tensor: str) -> Answer:
        """The answer at the formals of a definition. Raises Stuck."""
        for d in self.bounds.needed(tensor):
            if d.tensor not in self._answers:
                if d.tensor in self.bounds.recurrent:
                    self._recurrence(self.bounds.group(d.tensor))
                else:
                    self._answers[d.tensor] = self._definition(d)
        return self._answers[tensor]

    def _recurrence(self, group: tuple[Definition, ...]) -> None:
        """What does not move where the elements before it do not, does not move."""
        known = dict(self._answers)
        self._answers |= {d.tensor: {} for d in group}
        try:
            for d in group:
                if self._definition(d):
                    raise Stuck(f"{d.tensor}: a recurrence that moves")
        except Stuck:
            self._answers = known
            raise

    def _definition(self, d: Definition) -> Answer:
        case: Case | None = self.bounds.body(d)
        for condition in (d.support, d.where):
            if condition is not TRUE:
                self._still(condition, self.bounds.body(d))
                case = None if case is None else case.given(condition, True)
        if case is None:
            return {}
        body = self._scalar(d.body, case)
        if body != {} and d.support is not TRUE:
            raise Stuck(f"{d.tensor} moves where it exists, and is 0 elsewhere")
        if body == {} or d.head == "map":
            return body
        if body is None:
            return self._folded(d, None)
        if any(i in d.bound for term in body for s in _parts(term) for i in postorder(s)):
            raise Stuck(f"{d.tensor}: its elements do not move together")
        if d.head in ("argmax", "argmin", "argsort"):
            return {}
        return self._folded(d, body)

    def _folded(self, d: Definition, body: Answer) -> Answer:
        """Of elements that move together."""
        if body is None and d.head not in ("max", "min", "logsumexp"):
            raise Stuck(f"{d.tensor}: infinite elements, or none")
        if d.head in ("max", "min", "logsumexp"):
            return body
        if d.head == "sum" and d.where is TRUE:
            for i in d.bound:
                body = _times(body, Fraction(1), Size(i.dim), 1)
            return body
        raise Stuck(f"{d.tensor}: no rule for {d.head}")

    def _still(self, node: Scalar, case: Case) -> None:
        if self._scalar(node, case):
            raise Stuck("a condition or a place that moves")

    def _scalar(self, root: Scalar, case: Case) -> Answer:
        found: dict[Scalar, Answer] = {}
        stack = [root]
        while stack:
            top = stack[-1]
            waiting = [] if isinstance(top, Select) else [c for c in top.children if c not in found]
            if waiting:
                stack += waiting
                continue
            found[top] = self._node(top, case, found)
            stack.pop()
        return found[root]

    def _node(self, n: Scalar, case: Case, found: Mapping[Scalar, Answer]) -> Answer:
        match n:
            case Const():
                return self._number(n)
            case Index() | Param() | Size():
                return {}
            case Read():
                return self._read(n, found)
            case Select():
                self._still(n.condition, case)
                sides: list[Answer] = []
                for branch, holds in ((n.a, True), (n.b, False)):
                    inner = case.given(n.condition, holds)
                    if inner is not None and not self._empty(inner):
                        sides.append(self._scalar(branch, inner.inside(branch)))
                return _same(sides)
            case Compare():
                _same([found[n.a], found[n.b]])
                return {}
            case And() | Or() | Not() | Table():
                return self._all_still(n, found)
            case Apply():
                return self._apply(n, case, found)
        return self._all_still(n, found)

    def _number(self, n: Const) -> Answer:
        return None if isinstance(n.value, str) else {}

    def _empty(self, case: Case) -> bool:
        """Whether the input has no entry in a case: nothing is shifted there, and no answer is wrong."""
        return any(case[Size(dim)].hi < 1 for dim in self.bounds.inputs[self.name].dims)

    def _all_still(self, n: Scalar, found: Mapping[Scalar, Answer]) -> Answer:
        if any(found[c] for c in n.children):
            raise Stuck(f"{type(n).__name__} of what moves")
        return {}

    def _read(self, n: Read, found: Mapping[Scalar, Answer]) -> Answer:
        if any(found[i] for i in n.indices):
            raise Stuck("a place that moves")
        if n.tensor == self.name:
            positions = tuple(i for k, i in enumerate(n.indices) if k not in self.along)
            return {(positions, frozenset()): Fraction(1)}
        d = self.bounds.definitions.get(n.tensor)
        if d is None:
            return {}
        answer = self._answers[n.tensor]
        if not answer:
            return answer
        at: dict[Scalar, Scalar] = {}
        at.update(zip(d.formals, n.indices, strict=True))
        out: dict[Term, Fraction] = {}
        for (positions, factors), c in answer.items():
            place = tuple(substitute(p, at) for p in positions)
            powers: dict[Scalar, int] = {}
            for f, k in factors:
                moved = substitute(f, at)
                powers[moved] = powers.get(moved, 0) + k
            term = (place, frozenset((f, k) for f, k in powers.items() if k))
            out[term] = out.get(term, Fraction(0)) + c
        return {t: c for t, c in out.items() if c}

    def _apply(self, n: Apply, case: Case, found: Mapping[Scalar, Answer]) -> Answer:
        answers = [found[a] for a in n.args]
        if n.dtype is REAL and any(answers):
            match n.name:
                case "neg":
                    return _scaled(answers[0], Fraction(-1))
                case "add":
                    return _plus(answers[0], answers[1], 1)
                case "sub":
                    return _plus(answers[0], answers[1], -1)
                case "expdiff":
                    _same(answers)
                    return {}
                case "mul" | "div" if not answers[1] or (not answers[0] and n.name == "mul"):
                    moving, by = (0, 1) if not answers[1] else (1, 0)
                    box = case[n.args[by]]
                    if not box.finite or (n.name == "div" and not box.nonzero):
                        raise Stuck("a factor that may be infinite, or a divisor that may be 0")
                    return _times(answers[moving], Fraction(1), n.args[by], -1 if n.name == "div" else 1)
            if n.name in _TOGETHER:
                return _same(answers)
        if any(answers):
            raise Stuck(f"{n.name} of what moves")
        return {}


class Scales(Shifts):
    """Answers to a positive number that the entries of `name` are multiplied with, the same along the positions `along`: powers of
    what a scalar is multiplied with then. None stands for 0, infinity and NaN, which are what they are."""

    def _number(self, n: Const) -> Answer:
        return None if isinstance(n.value, str) or n.value == 0 else {}

    def _folded(self, d: Definition, body: Answer) -> Answer:
        if body is None:
            return {}
        if d.head in ("sum", "max", "min"):
            return body
        raise Stuck(f"{d.tensor}: no rule for {d.head}")

    def _apply(self, n: Apply, case: Case, found: Mapping[Scalar, Answer]) -> Answer:
        answers = [found[a] for a in n.args]
        if n.dtype is REAL and any(answers):
            match n.name:
                case "neg" | "real" | "abs" | "relu":
                    return answers[0]
                case "add" | "sub" | "max2" | "min2":
                    return _same(answers)
                case "mul":
                    return _plus(answers[0], answers[1], 1)
                case "div":
                    return _plus(answers[0], answers[1], -1)
                case "sqrt":
                    return _scaled(answers[0], Fraction(1, 2))
                case "pow" | "powi" if isinstance(k := n.args[1], Const) and isinstance(k.value, Fraction):
                    return _scaled(answers[0], k.value)
        if any(answers):
            raise Stuck(f"{n.name} of what is multiplied")
        return {}


def _parts(term: Term) -> Iterable[Scalar]:
    return (*term[0], *(f for f, _ in term[1]))


def _same(answers: list[Answer]) -> Answer:
    """The one answer that all have."""
    known = [a for a in answers if a is not None]
    if any(a != known[0] for a in known):
        raise Stuck("parts that do not move together")
    return known[0] if known else None


def _plus(a: Answer, b: Answer, sign: int) -> Answer:
    if a is None or b is None:
        return None
    out = dict(a)
    for t, c in b.items():
        out[t] = out.get(t, Fraction(0)) + sign * c
    return {t: c for t, c in out.items() if c}


def _scaled(a: Answer, by: Fraction) -> Answer:
    return None if a is None else {t: c * by for t, c in a.items()}


def _times(a: Answer, by: Fraction, factor: Scalar, power: int) -> Answer:
    """The answer times a scalar that does not move: a number, or a factor of each term."""
    if a is None:
        return None
    while isinstance(factor, Apply) and factor.name in ("real", "int"):
        factor = factor.args[0]
    if isinstance(factor, Const) and isinstance(factor.value, Fraction):
        return _scaled(a, factor.value if power > 0 else 1 / factor.value)
    if isinstance(factor, Apply) and factor.name == "mul":
        return _times(_times(a, by, factor.args[0], power), Fraction(1), factor.args[1], power)
    out: dict[Term, Fraction] = {}
    for (positions, factors), c in a.items():
        powers = dict(factors)
        powers[factor] = powers.get(factor, 0) + power
        term = (positions, frozenset((f, k) for f, k in powers.items() if k))
        out[term] = out.get(term, Fraction(0)) + c
    return {t: c for t, c in out.items() if c}


def written(answer: Answer) -> str:
    """An answer in a fixed order, for a trace."""
    if not answer:
        return "does not move" if answer is not None else "infinite"
    lines = []
    for (positions, factors), c in answer.items():
        powers = sorted(f"{f!r}^{k}" for f, k in factors)
        lines.append(f"{c} * shift[{', '.join(map(repr, positions))}]{''.join(' * ' + p for p in powers)}")
    return " + ".join(sorted(lines))
