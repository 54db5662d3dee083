"""The grammar file, found and made into a parser once for each process.

Making LALR tables takes longer than all else that `lossdsl fmt` does, so they are kept in `tables.json` beside this
file, with the digest of the grammar that they were made from; other tables than that grammar's are never used.
`python -m lossdsl.syntax.grammar` writes them anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import lark
from lark import Lark, Token
from lark.grammar import Rule
from lark.lexer import TerminalDef

STARTS = ("stmt", "definition", "bound_claim")
TABLES = Path(__file__).with_name("tables.json")


class GluedWords(Exception):
    """Two words without a space between them, such as `2x` or `wherem`, which the lexer would take as two."""

    def __init__(self, token: Token) -> None:
        super().__init__(str(token))
        self.token = token


class _NoGlue:
    """Where no name may stand, Lark's contextual lexer takes `wherem` as `where m`; this refuses it."""

    always_accept = ()

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        end, previous = -1, ""
        for token in stream:
            if token.start_pos == end and _is_word(previous[-1:]) and _is_word(token[:1]):
                raise GluedWords(token)
            end, previous = token.end_pos, str(token)
            yield token


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def grammar_path() -> Path:
    """Inside the package where it was installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "grammar" / "loss.lark"
    return inside if inside.is_file() else package.parent / "grammar" / "loss.lark"


def make_parser(strict: bool) -> Lark:
    """The LALR parser of `grammar/loss.lark`, made from its text.

    `strict` also checks that no two rules or terminals overlap; the tables are the same.
    """
    return Lark(
        grammar_path().read_text(encoding="utf-8"),
        parser="lalr",
        start=list(STARTS),
        strict=strict,
        propagate_positions=True,
        maybe_placeholders=False,
        postlex=_NoGlue(),  # Lark needs these two members of its own class only
    )


@cache
def parser() -> Lark:
    """The parser, from the stored tables if they are those of the grammar."""
    try:
        stored = json.loads(TABLES.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return make_parser(strict=False)
    if stored["digest"] != _digest():
        return make_parser(strict=False)
    tables = _with_numbers_as_keys(stored["tables"])
    return Lark._load_from_dict(tables["data"], tables["memo"], postlex=_NoGlue())


def _digest() -> str:
    """What the tables depend on."""
    return hashlib.sha256(f"{lark.__version__} {STARTS}\n".encode() + grammar_path().read_bytes()).hexdigest()


def _with_numbers_as_keys(value: Any) -> Any:
    """JSON has only strings as keys; Lark's tables have no string of digits as one."""
    if isinstance(value, dict):
        return {int(key) if key.isdigit() else key: _with_numbers_as_keys(item) for key, item in value.items()}
    return [_with_numbers_as_keys(item) for item in value] if isinstance(value, list) else value


def write_tables() -> None:
    """Store the tables of the grammar as it is now."""
    made = make_parser(strict=True)
    made.options.options.update(strict=False, postlex=None)
    data, memo = made.memo_serialize([TerminalDef, Rule])
    text = json.dumps({"digest": _digest(), "tables": {"data": data, "memo": memo}}, sort_keys=True)
    TABLES.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_tables()
