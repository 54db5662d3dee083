"""Emitted text is formatted: `ruff format` leaves every module as it is, and breaking lines changes no meaning."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from references import REFERENCES

pytest.importorskip("torch")

from lossdsl import compile
from lossdsl.backends import torch_module, wrapping
from lossdsl.backends.wrapping import PAGE, wrapped

FEW = [
    "huber",
    "cross_entropy",
    "dice",
    "info_nce",
    "ctc",
    "navier_stokes",
    "siglip",
    "multi_resolution_stft",
    "pinn_heat",
]
TARGETS = [("torch", False), ("torch", True), ("triton", False)]

# Each too long; `word` is made long enough that something has to be broken.
LONG = [
    'x = f(word, g(a, b)[:, None, :], "a, (b", key=word + word)',
    "x = word if word > 0 and (word < 1 or word == 2) else word if word != 3 else word",
    "x = a[word : word + 1].copy_(g(word, word, word, word))",
    "x = (word + word) - (word * word)",
    "x = word + word - word",
    "x = word | f(word, (word > 0))[:, None]",
    "x += word * f(word, word, word)",
    "x, y = f(word, *word, **word, key=[word, word, word])",
    "return word, word, word, word",
    'return f"{word} in (, {word}", word',
    'raise ValueError(f"word word word word word {word} word")',
    "if (word > 0) & (word < 1) & (word != 2) & word:\n    pass",
    "for at, of in zip(f(word, word), f(word, word), strict=True):\n    pass",
    'def f(word, of: int, *, key: tuple[int, int] = (1, 2), another: str = "word, (word") -> tuple[int, int]:\n    pass',
    "f(word, lambda x: x >= word and x <= word, word, word)",
    'table = {\n    ("word", "word", ("word", "word"), ()): word_word,\n    ("of",): lambda *given: f("word", *given),\n}',
    "x = f(word, word, word)  # a comment (with [brackets and, commas",
    "x = -word.t()[word, word : word + 2].sum(word, word)",
    "x = not_word(word)[word][word](word, word)",
    "x = word**2 / f(word, word - 1)",
]


def formatted(path: Path) -> subprocess.CompletedProcess[str]:
    command = ["ruff", "format", "--isolated", "--line-length", str(PAGE), "--check", "--diff", str(path)]
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)


@pytest.mark.parametrize(("line", "indent"), [(s, k) for s in LONG for k in range(1 if s.startswith("def") else 3)])
def test_long_lines_are_broken_as_a_formatter_breaks_them(line: str, indent: int, tmp_path: Path) -> None:
    broken = 0
    for length in range(8, 44):
        text = line.replace("word", "w" * length)
        for _level in range(indent):
            text = "\n".join(["if a:", *(f"    {part}" for part in text.split("\n"))])
        made = wrapped(text + "\n")
        assert ast.dump(ast.parse(made)) == ast.dump(ast.parse(text)), made
        assert wrapped(made) == made
        if max(map(len, made.split("\n"))) <= PAGE:
            broken += made != text + "\n"
            (tmp_path / f"m{length}.py").write_text(made)
    assert broken or "raise" in line or 'f"' in line
    done = formatted(tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "line",
    [
        f"    {'a' * 60}, {'b' * 60},",
        f"    {'a' * 60} + {'b' * 60},",
        f"    key={'a' * 60} + {'b' * 60},",
        f'    "{"a" * 150}"',
        f"    {'a' * 120}(",
        f"    ){'a' * 120}",
        f"        *({'a' * 60} for {'b' * 60} in c),",
        f"    {'a' * 120}, {'b' * 60}",
    ],
)
def test_lines_inside_of_brackets_stay_what_they_are(line: str) -> None:
    """Alone they are no statements: brackets around them would make tuples of arguments, and calls of strings."""
    made = wrapped(line)
    assert made.replace("\n", " ").split() == line.split()


@pytest.mark.parametrize("page", [50, 80])
def test_narrow_pages_change_no_meaning(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As names that are much longer than the catalogue's: everything is broken somewhere."""
    monkeypatch.setattr(wrapping, "PAGE", page)
    for name, (target, native) in zip(FEW, TARGETS * len(FEW), strict=False):
        text = compile(name, target=target, native=native).source
        monkeypatch.setattr(wrapping, "PAGE", 10**6)
        whole = compile(name, target=target, native=native).source
        monkeypatch.setattr(wrapping, "PAGE", page)
        assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(whole))
        assert text != whole


def check(names: list[str], target: str, native: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(text: str) -> str:
        made = wrapped(text)
        assert ast.dump(ast.parse(made)) == ast.dump(ast.parse(text))
        return made

    monkeypatch.setattr(torch_module, "wrapped", watched)
    for name in names:
        source = compile(name, target=target, native=native).source
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    done = formatted(folder)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("target", "native"), TARGETS)
def test_emitted_modules_are_formatted(
    target: str, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(FEW, target, native, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "native"), TARGETS)
def test_all_emitted_modules_are_formatted(
    target: str, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(sorted(REFERENCES), target, native, tmp_path, monkeypatch)
