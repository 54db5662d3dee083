"""The grammar file, found and made into a parser once for each process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lark import Lark, Token

STARTS = ("stmt", "definition", "bound_claim")


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
    """The LALR parser of `grammar/loss.lark`.

    `strict` also checks all pairs of terminals for overlap, which takes time; the tables are the same.
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
    return make_parser(strict=False)
