"""Every file under tests/errors/ gives exactly the diagnostics that it says, with a place, a caret and plain words.

A file says what it expects in comment lines `# expect: E0102 line 3`, or, where it cannot hold a comment, in a file
beside it with the ending `.expect` and lines `E0102 line 3`. All errors have to be named; a warning (`W1001 line 4`)
that is named has to be there, and others may be. `E0105_sign.loss` provokes E0105: its name begins with a code of its.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lossdsl.diagnostics import CODES, Diagnostic, Severity, Source, render
from lossdsl.pipeline import analyse, compile
from lossdsl.syntax.source import MAX_BYTES, read_source

HERE = Path(__file__).parent / "errors"
FILES = sorted(path for path in HERE.iterdir() if path.suffix in (".loss", ".bin"))
LINE = re.compile(r"^(?:# expect: )?([EW]\d{4}) line (\d+)$", re.MULTILINE)

# The codes of these groups have a file each. The others are about the file system, about the name that was asked for or
# about the compiler itself, and are provoked by tests below and in test_cli.py.
GROUPS = ("E01", "E02", "E03", "E04", "E05", "E06", "E07", "E08", "E09", "W1")
WITHOUT_A_FILE = {"E0701", "E0801", "E0802", "E0806", "E0807", "E0901"}


def diagnose(path: Path) -> tuple[Source, list[Diagnostic]]:
    """All that is found without evaluating a claim."""
    source, problems = read_source(str(path))
    return source, problems or list(analyse(source).diagnostics)


def expected(path: Path) -> list[tuple[str, int]]:
    beside = path.with_suffix(".expect")
    text = beside.read_text(encoding="utf-8") if beside.exists() else path.read_text(encoding="utf-8")
    return [(code, int(line)) for code, line in LINE.findall(text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_wrong_file_is_explained(path: Path) -> None:
    wanted = expected(path)
    assert path.stem[:5] in {code for code, _ in wanted}, "the file says nothing, or not what its name says"
    source, problems = diagnose(path)
    shown = "\n".join(render(source, problem) for problem in problems)
    found = [(problem.code, problem.span.line) for problem in problems]
    errors = [(p.code, p.span.line) for p in problems if p.severity is Severity.ERROR]
    assert sorted(errors) == sorted(item for item in wanted if item[0].startswith("E")), shown
    assert not [item for item in wanted if item not in found], shown
    for problem in problems:
        words = f"{problem.message} {problem.help}"
        assert not re.search(
            r"__ANON|\$END|\b(LPAR|RPAR|LSQB|RSQB|COLON|EQUAL|NAME|NUMBER|CMP|KIND)\b|Traceback", words
        )
        text = render(source, problem)
        assert text.startswith(f"{problem.severity.value}[{problem.code}]: ")
        if source.line(problem.span.line):
            caret = text.split("\n")[4]
            assert set(caret.partition("|")[2]) <= {" ", "^"}
            assert "^" in caret
        assert all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("group", GROUPS)
def test_every_code_has_a_file(group: str) -> None:
    codes = {code for code in CODES if code.startswith(group)} - WITHOUT_A_FILE
    assert codes <= {path.stem[:5] for path in FILES}


def test_every_code_is_in_a_group() -> None:
    assert {code for code in CODES if code.startswith(GROUPS)} == set(CODES)


def test_a_loss_that_is_not_there_is_named_with_a_similar_one() -> None:
    source = Source("f.loss", "loss huber:\n    input x: real[n]\n    return mean(x)\n")
    [found] = analyse(source, "hubber").diagnostics
    assert (found.code, found.help) == ("E0807", "did you mean `huber`?")
    functions = Source("f.loss", "def double(x) = 2 * x\n")
    assert [d.code for d in compile(functions, target="torch").diagnostics] == ["E0807"]


def codes_of(path: str) -> list[str]:
    source, problems = read_source(path)
    for problem in problems:
        assert all(c.isprintable() or c == "\n" for c in render(source, problem))
    return [problem.code for problem in problems]


def test_a_missing_file_names_a_similar_one(tmp_path: Path) -> None:
    (tmp_path / "focal.loss").write_text("loss focal:\n    return 1\n")
    _, problems = read_source(str(tmp_path / "fcoal.loss"))
    assert [problem.code for problem in problems] == ["E0801"]
    assert "focal.loss" in problems[0].help
    assert codes_of(str(tmp_path / "no" / "folder.loss")) == ["E0801"]
    assert codes_of("a\0b\x1b[31m") == ["E0801"]


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert codes_of(str(tmp_path)) == ["E0802"]


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.loss"
    path.write_text("loss a:\n    return 1\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert codes_of(str(path)) == ["E0806"]


def test_ten_megabytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.loss"
    path.write_bytes(b"# words\n" * (10 * MAX_BYTES // 8))
    assert codes_of(str(path)) == ["E0701"]
    path.write_bytes(b"loss a:\n    return 1\n".ljust(MAX_BYTES, b"\n"))
    assert codes_of(str(path)) == []


def test_a_byte_order_mark_and_other_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.loss"
    path.write_bytes(b"\xef\xbb\xbfloss a:\r\n    return 1\r")
    source, problems = read_source(str(path))
    assert (source.text, problems) == ("loss a:\n    return 1\n", [])


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"loss a:\n    return \xff\n")))
    source, problems = read_source("-")
    assert source.path == "<stdin>"
    assert [(problem.code, problem.span.line, problem.span.column) for problem in problems] == [("E0803", 2, 12)]
