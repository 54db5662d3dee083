"""Pieces of Triton text: numbers, operations from the records, folds and merges from the heads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lossdsl import primitives
from lossdsl.backends.text import number_text
from lossdsl.primitives.record import UNAVAILABLE, Head


class Unsupported(Exception):
    """Why a kernel stays with torch operations."""


@dataclass(frozen=True)
class Term:
    """A value in a kernel's text, always an atom: a name, a call, or in parentheses.

    literal: a Python number, which takes the type of what it meets; static: Triton may know it when it compiles (an
    extent of 1 becomes a constant), so that it has no methods; single: it was loaded without varying, as a block of one.
    """

    text: str
    type: str  # acc int bool
    axes: frozenset[str] = frozenset()
    literal: bool = False
    static: bool = False
    single: bool = False


DTYPES = {"acc": "ACC", "int": "tl.int64", "bool": "tl.int1"}


def literal(value: Fraction | str, type_: str) -> Term:
    if isinstance(value, str):
        return Term(f'float("{value}")', type_, literal=True, static=True)
    text = number_text(value, type_).text
    if text.endswith("torch.inf"):  # beyond the largest double
        text = f'float("{text.replace("torch.", "")}")'
    return Term(f"({text})" if text.startswith("-") else text, type_, literal=True, static=True)


def typed(t: Term) -> str:
    """The text with a type of its own, where nothing else would give it one."""
    return f"tl.full([], {unwrapped(t.text)}, {DTYPES[t.type]})" if t.literal else t.text


def unwrapped(text: str) -> str:
    """Without parentheses around the whole."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for at, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and at < len(text) - 1:
            return text
    return text[1:-1]


_COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_ARGUMENT = re.compile(r"\{(\d)\}")


def repeats(op: str) -> frozenset[int]:
    """Arguments that the text of an operation mentions more than once: they must be names."""
    if op in primitives.PRIMITIVES:
        found = _ARGUMENT.findall(primitives.PRIMITIVES[op].triton)
        return frozenset(int(k) for k in found if found.count(k) > 1)
    return frozenset((0,)) if op == "table" else frozenset()


def by_helper(op: str) -> bool:
    """Whether a function of several steps makes the operation, which reads its arguments until the last of them. A power
    is mostly a square."""
    return op != "powi" and op in primitives.PRIMITIVES and "_h_" in primitives.PRIMITIVES[op].triton


def operation(op: str, args: list[Term], type_: str) -> str:
    """The text of `op(args)`; Unsupported for a primitive without a Triton text."""
    texts = [a.text for a in args]
    match op:
        case "stop":
            return texts[0]
        case "select":
            if args[1].literal and args[2].literal:
                texts[1] = typed(args[1])
            return f"tl.where({unwrapped(texts[0])}, {unwrapped(texts[1])}, {unwrapped(texts[2])})"
        case "lt" | "le" | "gt" | "ge" | "eq" | "ne":
            return f"({texts[0]} {_COMPARE[op]} {texts[1]})"
        case "and" | "or":
            return f"({(' & ' if op == 'and' else ' | ').join(texts)})"
        case "not":
            # ~ of a Python bool is an int
            return f"({texts[0]} == 0)" if args[0].static else f"(~{texts[0]})"
        case "real" | "int":
            wanted = DTYPES["acc" if op == "real" else "int"]
            if args[0].static:
                return f"tl.full([], {unwrapped(texts[0])}, {wanted})"
            return f"{texts[0]}.to({wanted})"
        case "neg" if type_ == "acc":
            return f"(-1.0 * {texts[0]})"  # of which the machine makes a sign; of -x Triton makes a difference
        case "table":
            *entries, at = args
            text = typed(literal("nan", "acc")) if type_ == "acc" else entries[-1].text
            for k in reversed(range(len(entries))):
                text = f"tl.where({at.text} == {k}, {unwrapped(entries[k].text)}, {text})"
            return text
    record = primitives.PRIMITIVES[op]
    if record.triton == UNAVAILABLE:
        raise Unsupported(f"{op} has no Triton text")
    if type_ == "acc" and args and all(a.literal for a in args):
        texts[0] = typed(args[0])
    text = record.triton.format(*texts)
    if type_ == "acc" and not args:  # a bare number would be float32 in a call
        return f"tl.full([], {text}, ACC)"
    return text if is_atom(text) else f"({text})"


def is_atom(text: str) -> bool:
    """A name, a number or a call: nothing that an operator could tear apart."""
    depth = 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if depth == 0 and c in "+-*/%<>=!&|~ ":
            return False
    return True


# ----------------------------------------------------------------------------------------------------- folds


class _Printed:
    """An algebra (see `primitives.record`) whose values are texts: it prints a head's merge and finish."""

    def number(self, value: Any) -> _Text:
        return _Text(literal(str(value) if value in (float("inf"), float("-inf")) else Fraction(value), "acc").text)

    def select(self, condition: Any, a: Any, b: Any) -> _Text:
        return _Text(f"tl.where({condition}, {a}, {b})")

    def lt(self, a: Any, b: Any) -> _Text:
        return _Text(f"({a} < {b})")

    def le(self, a: Any, b: Any) -> _Text:
        return _Text(f"({a} <= {b})")

    def eq(self, a: Any, b: Any) -> _Text:
        return _Text(f"({a} == {b})")

    def both(self, a: Any, b: Any) -> _Text:
        return _Text(f"({a} & {b})")

    def either(self, a: Any, b: Any) -> _Text:
        return _Text(f"({a} | {b})")

    def __getattr__(self, name: str) -> Any:
        text = primitives.PRIMITIVES[name].triton
        return lambda *args: _Text(text.format(*args))


@dataclass(frozen=True)
class _Text:
    text: str

    def __str__(self) -> str:
        return self.text

    def __format__(self, spec: str) -> str:
        return self.text

    def __add__(self, other: Any) -> _Text:
        return _Text(f"({self} + {other})")

    def __mul__(self, other: Any) -> _Text:
        return _Text(f"({self} * {other})")


# Folds that have one state for a row, not for each place of a block: Triton moves bits between threads one by one.
TRUTHS = ("any", "all")


def head(name: str) -> Head:
    return primitives.HEADS[name]


def state_type(name: str, value: str) -> str:
    """The type of the state of a fold over values of a type."""
    return "int" if head(name).result.value == "int" else "bool" if name in TRUTHS else value


def identity(name: str, value_type: str) -> list[Term]:
    """The state of nothing, one literal for each component."""
    if name in ("max", "min") and value_type == "int":
        limit = -(2**63) if name == "max" else 2**63 - 1
        return [literal(Fraction(limit), "int")]
    kind = state_type(name, value_type)
    made = []
    for x in head(name).identity:
        word = {float("inf"): "inf", float("-inf"): "-inf"}.get(x)
        made.append(literal(word if word is not None else Fraction(x), kind))
    return made


def pad(name: str, value_type: str) -> Term:
    """What a masked entry counts as."""
    if name in ("max", "min"):
        return identity(name, value_type)[0]
    x = head(name).pad
    word = {float("inf"): "inf", float("-inf"): "-inf"}.get(x)
    return literal(word if word is not None else Fraction(x), value_type)


def merged(name: str, a: list[str], b: list[str]) -> list[str]:
    """The state of two states, printed from the record."""
    if name in TRUTHS:
        return [f"{a[0]} {'|' if name == 'any' else '&'} {b[0]}"]
    o = _Printed()
    state = head(name).merge(o, tuple(_Text(x) for x in a), tuple(_Text(x) for x in b))
    return [unwrapped(str(x)) for x in state]


def reduced(name: str, value: str, axis: str) -> str:
    """One component folded over an axis of a tile ("None": over all of it)."""
    if name in ("max", "min"):  # a nan is the result, as in torch
        return f"tl.reduce({value}, {axis}, _{name}imum)"
    return head(name).triton.format(value, axis=axis)
