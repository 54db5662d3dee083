"""How the catalogue's pages are made: each when its field is done, and none is lost by an interruption."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lossdsl.catalogue import Entry, entries

ROOT = Path(__file__).parents[1]


def stub(entry: Entry) -> str:
    """In place of a section; the first field is done, one of the second fails."""
    if entry.field != FIELDS[0]:
        raise InterruptedError(entry.name)
    return f"## {entry.name}"


FIELDS = list(dict.fromkeys(e.field for e in entries()))[:2]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`docs/make_catalogue.py`, writing to a folder of this test."""
    spec = importlib.util.spec_from_file_location("make_catalogue", ROOT / "docs" / "make_catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "make_catalogue", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DOCS", tmp_path)
    monkeypatch.setattr(module, "PAGES", tmp_path / "catalogue")
    monkeypatch.setattr(module, "PLOTS", tmp_path / "catalogue" / "plots")
    (tmp_path / "catalogue" / "plots").mkdir(parents=True)
    return module


def test_an_interruption_leaves_good_pages(make: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for field in FIELDS:
        (make.PAGES / f"{field}.md").write_text("as it was\n")
    monkeypatch.setattr(make, "section", stub)
    with pytest.raises(InterruptedError):
        make.main([*FIELDS, "--jobs", "1"])
    assert (make.PAGES / f"{FIELDS[1]}.md").read_text() == "as it was\n"
    names = [e.name for e in entries() if e.field == FIELDS[0]]
    page = (make.PAGES / f"{FIELDS[0]}.md").read_text()
    assert page == "\n\n".join([f"# {FIELDS[0]}", *(f"## {n}" for n in names)]) + "\n"
    assert not list(make.DOCS.rglob("*.part*"))


def test_what_is_not_shipped_any_longer_is_removed(make: ModuleType) -> None:
    kept = [make.PAGES / f"{FIELDS[0]}.md", make.PLOTS / f"{entries()[0].name}.png"]
    gone = [make.PAGES / "gone.md", make.PLOTS / "gone.png", make.PLOTS / "huber.part.png"]
    for path in (*kept, *gone):
        path.write_text("")
    make.remove_stale()
    assert [p.exists() for p in (*kept, *gone)] == [True, True, False, False, False]


def test_a_field_that_there_is_not_is_refused(make: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make.main(["no_such_field"])
    assert "no_such_field" in capsys.readouterr().err


def test_a_section_has_its_plot_and_its_card(make: ModuleType) -> None:
    entry = next(e for e in entries() if e.name == "mae")
    text = make.section(entry)
    assert "![mae and its gradient along one entry](plots/mae.png)" in text
    assert "| claim `per >= 0` | proved |" in text
    assert [p.name for p in make.PLOTS.iterdir()] == ["mae.png"]
