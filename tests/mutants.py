"""Mutants of a `.loss` text: one constant, sign, comparison, function or axis of a statement changed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

_SWAPS = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
    "==": "!=",
    "!=": "==",
    "mean": "sum",
    "sum": "mean",
    "max": "min",
    "min": "max",
    "exp": "expm1",
    "log": "log1p",
    "relu": "abs",
    "abs": "relu",
    "sigmoid": "tanh",
    "softplus": "relu",
    "logsigmoid": "sigmoid",
    "logsumexp": "max",
    "sqrt": "abs",
    "and": "or",
    "or": "and",
    "descending": "",
    "log_softmax": "softmax",
    "softmax": "log_softmax",
}
_TOKEN = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])|<=|>=|==|!=|[-+*/<>]|\b[a-z_]\w*\b")
_SKIPPED = ("loss ", "claim ", "input ", "param ", "report ", "state ", "learnable ", "update ", "use ", "#")


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """(offset, code) of the lines that compute; docstrings, comments, declarations and claims left out."""
    quoted, offset = False, 0
    for line in text.splitlines(keepends=True):
        start = offset
        offset += len(line)
        marks = line.count('"""')
        if quoted or marks:
            quoted ^= marks % 2 == 1
            continue
        code = line.split("#")[0]
        if not code.strip() or code.strip().startswith(_SKIPPED):
            continue
        yield start, code


def mutants(text: str) -> list[str]:
    """Mutated texts in an order that is random, but always the same."""
    found: list[str] = []
    for start, code in _statements(text):
        indent = len(code) - len(code.lstrip())
        for m in _TOKEN.finditer(code, indent):
            word = m.group()
            if word[0].isdigit():
                new = f"{word}1" if "." in word and "e" not in word else str(int(word) + 1) if word.isdigit() else None
            else:
                new = _SWAPS.get(word)
                if word in ("+", "-") and code[: m.start()].rstrip()[-1:] in "(=,*/^<>[" and word == "+":
                    new = None
            if new is not None:
                found.append(text[: start + m.start()] + new + text[start + m.end() :])
    random.Random(0).shuffle(found)
    return found
