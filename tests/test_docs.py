"""The language pages: every fenced `loss` block is checked, and fails only with the code that it announces."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lossdsl import pipeline
from lossdsl.diagnostics import CODES, Severity, Source

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```loss\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks() -> list[tuple[str, str]]:
    found = []
    for page in sorted([*DOCS.rglob("*.md"), DOCS.parent / "README.md"]):
        for number, match in enumerate(BLOCK.finditer(page.read_text())):
            found.append((f"{page.name}-{number}", match.group(1)))
    return found


@pytest.mark.parametrize(("name", "text"), blocks(), ids=[name for name, _ in blocks()])
def test_block(name: str, text: str) -> None:
    announced = re.findall(r"# error\[(\w+)\]", text)
    analysis = pipeline.analyse(Source(f"<{name}>", text))
    errors = [d.code for d in analysis.diagnostics if d.severity is Severity.ERROR]
    assert sorted(errors) == sorted(announced)
    if not announced:
        assert analysis.losses


CONSOLE = re.compile(r"^```(loss|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def consoles() -> list[tuple[str, str]]:
    """Every fenced `console` block of the language pages, and the `loss` block before it."""
    found = []
    for page in sorted((DOCS / "language").glob("*.md")):
        text = ""
        for number, (kind, block) in enumerate(CONSOLE.findall(page.read_text())):
            text = block if kind == "loss" else text
            if kind == "console":
                found.append(pytest.param(text, block, id=f"{page.name}-{number}"))
    return found


@pytest.mark.parametrize(("text", "block"), consoles())
def test_console_block_is_what_is_printed(text: str, block: str, tmp_path: Path) -> None:
    """Each command is run where the loss before it is a file of its name."""
    laid_out(text, tmp_path)
    assert played(block, tmp_path) == block


def laid_out(text: str, where: Path) -> None:
    name = re.findall(r"^loss (\w+):", text, re.MULTILINE)[0]
    (where / f"{name}.loss").write_text(text)


def played(block: str, where: Path) -> str:
    """The commands of a block with what they print now."""
    out = []
    for command in re.findall(r"^\$ lossdsl (.*)$", block, re.M):
        words = [sys.executable, "-m", "lossdsl", *shlex.split(command)]
        done = subprocess.run(words, cwd=where, capture_output=True, text=True)
        printed = (done.stdout + done.stderr).rstrip()
        out.append(f"$ lossdsl {command}\n{printed}\n" if printed else f"$ lossdsl {command}\n")
    return "".join(out)


def test_pages_have_blocks() -> None:
    assert len(blocks()) >= 10


def test_diagnostics_page_is_current() -> None:
    page = (DOCS / "language" / "diagnostics.md").read_text()
    assert page == diagnostics_page(), "run: python tests/test_docs.py"


def diagnostics_page() -> str:
    lines = ["# Diagnostics", "", "`lossdsl explain CODE` prints these.", ""]
    for code, entry in sorted(CODES.items()):
        lines += [f"## {code}: {entry.title}", "", entry.explanation, ""]
    return "\n".join(lines)


def replayed(page: str, where: Path) -> str:
    """The page with its console blocks as they are printed now."""
    text = ""

    def replace(match: re.Match[str]) -> str:
        nonlocal text
        if match[1] == "loss":
            text = match[2]
            return match[0]
        laid_out(text, where)
        return f"```console\n{played(match[2], where)}```"

    return CONSOLE.sub(replace, page)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for language in (DOCS / "language").glob("*.md"):
            language.write_text(replayed(language.read_text(), Path(folder)))
    (DOCS / "language" / "diagnostics.md").write_text(diagnostics_page())
