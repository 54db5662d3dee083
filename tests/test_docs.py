"""The language pages: every fenced `loss` block is checked, and fails only with the code that it announces."""

from __future__ import annotations

import re
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


if __name__ == "__main__":
    (DOCS / "language" / "diagnostics.md").write_text(diagnostics_page())
