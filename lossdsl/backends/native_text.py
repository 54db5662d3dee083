"""Pieces of C++ text: numbers, operations from the records, states of folds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lossdsl import primitives
from lossdsl.backends.triton_text import Unsupported, head, state_type
from lossdsl.lower.plan import Literal
from lossdsl.primitives.record import UNAVAILABLE

TYPES = {"acc": "real_t", "int": "int64_t", "bool": "bool"}
STORED = {"acc": "real_t", "int": "int64_t", "bool": "uint8_t"}  # elements of a tensor

_COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


@dataclass(frozen=True)
class Term:
    """A value in a kernel's text, always an atom, and the axes that it varies along."""

    text: str
    type: str  # acc int bool
    axes: frozenset[str] = frozenset()


def number(value: Fraction | str, type_: str) -> str:
    """A literal of the type: the nearest double, rounded to `real_t` by the compiler."""
    if type_ == "bool":
        return "true" if value else "false"
    if type_ == "int":
        whole = int(Fraction(value))
        if whole == -(2**63):
            return "INT64_MIN"
        return f"(int64_t){whole}" if whole >= 0 else f"((int64_t){whole})"
    if isinstance(value, str):
        return {"inf": "_h_inf", "-inf": "(-_h_inf)", "nan": "_h_nan"}[value]
    try:
        text = repr(float(value))
    except OverflowError:
        text = "inf" if value > 0 else "-inf"
    if text.endswith("inf"):
        return number(text, "acc")
    return f"(real_t){text}" if not text.startswith("-") else f"((real_t){text})"


def literal(o: Literal) -> Term:
    return Term(number(o.value, o.type), o.type)


def operation(op: str, args: list[Term], type_: str) -> str:
    """The text of `op(args)`; Unsupported for a primitive without a C++ text."""
    texts = [a.text for a in args]
    match op:
        case "stop":
            return texts[0]
        case "select":
            return f"{texts[0]} ? {texts[1]} : {texts[2]}"
        case "lt" | "le" | "gt" | "ge" | "eq" | "ne":
            return f"{texts[0]} {_COMPARE[op]} {texts[1]}"
        case "and" | "or":
            return (" & " if op == "and" else " | ").join(texts)
        case "not":
            return f"!{texts[0]}"
        case "real" | "int":
            return f"({TYPES['acc' if op == 'real' else 'int']}){texts[0]}"
        case "table":
            *entries, at = texts
            text = number("nan", "acc") if type_ == "acc" else entries[-1]
            for k in reversed(range(len(entries))):
                text = f"{at} == {k} ? {entries[k]} : {text}"
            return text
    record = primitives.PRIMITIVES[op]
    if record.cxx == UNAVAILABLE:
        raise Unsupported(f"{op} has no C++ text")
    return record.cxx.format(*texts)


@dataclass(frozen=True)
class State:
    """The state of a fold in C++: types and first values of its components."""

    head: str
    types: tuple[str, ...]
    first: tuple[str, ...]

    def step(self, names: list[str], x: str, place: str) -> str:
        """The statement that takes `x` in."""
        return head(self.head).cxx.format(*names, x=x, k=place)

    def merge(self, a: list[str], b: list[str]) -> str:
        """The statement that takes another state in; those of a log-sum-exp are merged all at once."""
        return self.step(a, b[0], b[1] if self.head in ("argmax", "argmin") else "0")

    def finish(self, names: list[str]) -> str:
        match self.head:
            case "logsumexp":
                return f"{names[0]} + _h_log({names[1]})"
            case "argmax" | "argmin":
                return f"{names[1]} < 0 ? 0 : {names[1]}"
        return names[0]


def state(name: str, value_type: str) -> State:
    """The state of a fold with that head over values of a type."""
    kind = TYPES[state_type(name, value_type)]
    match name:
        case "logsumexp":
            return State(name, ("real_t", "real_t"), ("_h_lowest", "0"))
        case "argmax" | "argmin":
            return State(name, (TYPES["acc" if value_type == "bool" else value_type], "int64_t"), ("0", "-1"))
        case "max" | "min" if value_type == "int":
            return State(name, (kind,), ("INT64_MIN" if name == "max" else "INT64_MAX",))
        case "max" | "min":
            return State(name, (kind,), ("-_h_inf" if name == "max" else "_h_inf",))
    return State(name, (kind,), (str(int(head(name).identity[0])),))
