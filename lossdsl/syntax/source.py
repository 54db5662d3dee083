"""Files to sources: everything that can be wrong with a file before its text is read as a loss."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path

from lossdsl.catalogue import entries
from lossdsl.diagnostics import NOWHERE, Diagnostic, Source, Span

MAX_BYTES = 1 << 20


def read_source(path: str) -> tuple[Source, list[Diagnostic]]:
    """The text of a file, `-` for standard input, with `\\n` as its line ends and without a byte order mark.

    With a diagnostic the source holds what could be read, for showing the place; nothing is raised.
    """
    if path == "-":
        if sys.stdin is None:
            return _failed("<stdin>", "E0802", "standard input is closed", "")
        return decode("<stdin>", sys.stdin.buffer.read(MAX_BYTES + 1))
    file = Path(path)
    try:
        if not file.exists():
            return _failed(path, "E0801", f"there is no file {path}", _nearby(file))
        if not file.is_file():
            what = "a folder" if file.is_dir() else "not a file"
            help = "name a file in it, for instance with `*.loss`" if file.is_dir() else ""
            return _failed(path, "E0802", f"{path} is {what}", help)
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return _failed(path, "E0806", f"{path} cannot be read: {reason}")
    return decode(path, data)


def decode(path: str, data: bytes) -> tuple[Source, list[Diagnostic]]:
    """The source whose file has these bytes."""
    if len(data) > MAX_BYTES:
        return _failed(path, "E0701", f"{path} has more than {MAX_BYTES} bytes", "split it into several files")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        source = Source(path, _lines(data.decode("utf-8", "replace")))
        place = _place(_lines(data[: error.start].decode("utf-8")))
        message = f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8"
        return source, [Diagnostic("E0803", message, place, "save the file as UTF-8")]
    zero = text.find("\0")
    if zero >= 0:
        place = _place(_lines(text[:zero]))
        return Source(path, _lines(text)), [Diagnostic("E0804", "a zero byte: this is no text file", place)]
    return Source(path, _lines(text)), []


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _place(before: str) -> Span:
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    return Span(line, column, line, column + 1)


def _failed(path: str, code: str, message: str, help: str = "") -> tuple[Source, list[Diagnostic]]:
    return Source(path, ""), [Diagnostic(code, message, NOWHERE, help)]


def _nearby(file: Path) -> str:
    """A file with a similar name in the same folder, or a shipped loss, for a slip of the keyboard."""
    if file.suffix != ".loss" and len(file.parts) == 1:
        shipped = [name for e in entries() for name in (e.name, f"{e.field}.{e.name}")]
        close = get_close_matches(file.name, shipped, n=1, cutoff=0.6)
        return f"did you mean {close[0]}? `lossdsl catalogue` lists the losses that are shipped" if close else ""
    if not file.parent.is_dir():
        return f"there is no folder {file.parent}"
    names = [entry.name for entry in file.parent.iterdir() if entry.suffix == ".loss"]
    close = get_close_matches(file.name, names, n=1, cutoff=0.6)
    return f"did you mean {file.parent / close[0]}?" if close else ""
