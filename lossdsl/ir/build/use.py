"""`use field.name`: losses and functions of another file, beside this one or of the catalogue.

What a used file defines gets names of its own (`file:name`), so that two files cannot meet; every place in it says by which
`use` lines it was reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from lossdsl import catalogue
from lossdsl.diagnostics import Severity, Source, Span, Used
from lossdsl.ir.build.renaming import Renaming
from lossdsl.ir.build.scope import FunctionEntity, LossEntity, Sink, Unavailable, suggestion
from lossdsl.syntax import tree
from lossdsl.syntax.parser import parse
from lossdsl.syntax.source import read_source

DEPTH = 16
Found = FunctionEntity | LossEntity | Unavailable
N = TypeVar("N")


class Uses:
    """Reads used files, each once, for one file that is being built."""

    def __init__(self, source: Source, sink: Sink) -> None:
        self.sink = sink
        self.table: dict[str, Found] = {}  # by qualified name
        self._files: dict[Path, dict[str, str] | None] = {}  # what a file defines: name -> qualified name
        self._labels: set[str] = set()
        self._top = _existing(source.path)

    def use(self, item: tree.Use) -> Found:
        """What a `use` line brings in; `Unavailable` after a diagnostic."""
        chain = () if self._top is None else (self._top,)
        name = self._find(item.path, None if self._top is None else self._top.parent, chain, item.span)
        return self.table[name] if name is not None else Unavailable("`use`", item.span)

    def _find(self, path: Sequence[str], folder: Path | None, chain: tuple[Path, ...], span: Span) -> str | None:
        """The qualified name of what is used, or None after a diagnostic."""
        text, wanted = ".".join(path), path[-1]
        file = _resolve(path, folder)
        if file is None:
            help = suggestion(text, catalogue.names()) or "a file beside this one, or `field.name` of the catalogue"
            self.sink.add("E0210", f"there is nothing to use under `{text}`", span, help)
            return None
        if file in chain:
            names = " -> ".join([*(p.stem for p in chain[chain.index(file) :]), file.stem])
            help = "move what both need to a file of its own, which uses neither"
            self.sink.add("E0205", f"files use each other in a circle: {names}", span, help)
            return None
        if len(chain) > DEPTH:
            self.sink.add("E0707", f"files use each other more than {DEPTH} deep", span)
            return None
        names_ = self._load(file, (*chain, file), span)
        if names_ is None:
            return None
        if wanted not in names_:
            help = suggestion(wanted, list(names_)) or f"it has {', '.join(f'`{n}`' for n in names_) or 'nothing'}"
            self.sink.add("E0210", f"`{file.name}` has no loss or function `{wanted}`", span, help)
            return None
        return names_[wanted]

    def _load(self, file: Path, chain: tuple[Path, ...], span: Span) -> dict[str, str] | None:
        """What a file defines, or None after its diagnostics; each file is read once."""
        if file not in self._files:
            self._files[file] = None  # until it has been read
            self._files[file] = self._read(file, chain, span)
        return self._files[file]

    def _read(self, file: Path, chain: tuple[Path, ...], span: Span) -> dict[str, str] | None:
        source, problems = read_source(_shown(file))
        module, found = parse(source) if not problems else (tree.Module(items=()), [])
        way = (*span.used, Used(span.line, source))
        errors = [d for d in (*problems, *found) if d.severity is Severity.ERROR]
        for d in errors:
            self.sink.add(d.code, d.message, replace(d.span, used=way), d.help, d.notes)
        if errors:
            return None
        names: dict[str, str] = {}
        label = file.stem
        while label in self._labels:
            label += "_"
        self._labels.add(label)
        own: list[tree.Def | tree.Loss] = []
        for item in (_reached(item, way) for item in module.items):
            if isinstance(item, tree.Use):
                name = item.alias.name if item.alias else item.path[-1]
                names[name] = self._find(item.path, file.parent, chain, item.span) or self._missing(label, name, item)
            elif isinstance(item, (tree.Def, tree.Loss)):
                names[item.name.name] = f"{label}:{item.name.name}"
                own.append(item)
        renaming = Renaming({}, {}, names)
        for item in own:
            qualified = names[item.name.name]
            if isinstance(item, tree.Loss):
                self.table[qualified] = LossEntity(renaming.apply(item))
            else:
                self.table[qualified] = FunctionEntity(renaming.function(item, item.name.name), False)
        return names

    def _missing(self, label: str, name: str, item: tree.Use) -> str:
        qualified = f"{label}:{name}"
        self.table[qualified] = Unavailable("`use`", item.span)
        return qualified


def _shown(file: Path) -> str:
    """The path as a user would write it."""
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _existing(path: str) -> Path | None:
    try:
        file = Path(path)
        return file.resolve() if file.is_file() else None
    except (OSError, ValueError):
        return None


def _resolve(path: Sequence[str], folder: Path | None) -> Path | None:
    """The file: beside this one (`a/b.loss`, or `b` in `a.loss`), else of the catalogue. Never outside of the folder."""
    if folder is not None:
        places = [folder.joinpath(*path[:-1], f"{path[-1]}.loss")]
        if len(path) > 1:
            places.append(folder.joinpath(*path[:-2], f"{path[-2]}.loss"))
        for place in places:
            found = _existing(str(place))
            if found is not None and found.is_relative_to(folder.resolve()):
                return found
    text = ".".join(path)
    named = [e for e in catalogue.entries() if text in (e.name, f"{e.field}.{e.name}")]
    return named[0].path.resolve() if len(named) == 1 else None


def _reached(node: N, way: tuple[Used, ...]) -> N:
    """The tree with the way to its file in every place of it."""
    if isinstance(node, tuple):
        return tuple(_reached(x, way) for x in node)  # type: ignore[return-value]
    if isinstance(node, Span):
        return replace(node, used=way)
    if not isinstance(node, tree.Node):
        return node
    changed: dict[str, Any] = {f.name: _reached(getattr(node, f.name), way) for f in fields(node)}
    return replace(node, **changed)


__all__ = ["Uses"]
