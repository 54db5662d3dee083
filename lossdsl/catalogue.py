"""Where `.loss` files are found: paths, and the losses that are shipped, by name ("focal", "classification.focal")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_TITLE = re.compile(r'"""\s*(.+?)\s*(?:"""|\n)')


@dataclass(frozen=True)
class Entry:
    """A shipped loss."""

    field: str
    name: str
    path: Path

    @property
    def title(self) -> str:
        """The first line of its docstring; empty if it has none."""
        found = _TITLE.search(self.path.read_text(encoding="utf-8"))
        return found.group(1) if found else ""


def root() -> Path | None:
    """The folder of the shipped losses: inside an installed package, or beside it in a checkout."""
    return next((p for p in (_HERE / "examples", _HERE.parent / "examples") if p.is_dir()), None)


def entries() -> list[Entry]:
    """All shipped losses, by field and name."""
    top = root()
    paths = [] if top is None else sorted(top.glob("*/*.loss"))
    return [Entry(p.parent.name, p.stem, p) for p in paths]


def names() -> list[str]:
    """All shipped losses as "field.name", sorted."""
    return sorted(f"{e.field}.{e.name}" for e in entries())


def search(word: str = "", field: str | None = None) -> list[Entry]:
    """The shipped losses of a field (of all) whose name, field or title has the word in it."""
    wanted = word.casefold()
    return [
        e
        for e in entries()
        if (field is None or e.field == field)
        and (wanted in f"{e.field}.{e.name}" or wanted in e.title.casefold() or not wanted)
    ]


def find(spec: str) -> tuple[str, str | None]:
    """(path, name of one loss or None) of "f.loss", "f.loss:huber", "huber" or "regression.huber". A path that does not
    exist is given back as it is: reading it says so."""
    if Path(spec).exists():
        return spec, None
    head, colon, tail = spec.rpartition(":")
    if colon and head and tail.isidentifier():
        return find(head)[0], tail
    if all(part.isidentifier() for part in spec.split(".")):
        named = [e for e in entries() if spec in (e.name, f"{e.field}.{e.name}")]
        if len(named) == 1:
            return str(named[0].path), None
    return spec, None
