"""Write the catalogue's pages: `docs/catalogue.md` (counts by field) and `docs/catalogue/<field>.md`.

Each loss has its file, a plot, its gradient, what is true of it, and its cost, as `lossdsl check` finds them now.
Run: `make catalogue`, or `python docs/make_catalogue.py [--index] [FIELD ...]` (the index alone takes a second). A page is
written when its field is done, whole, so that what is interrupted leaves good pages; those of fields and plots of losses
that there are no longer are removed at the end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from pathlib import Path
from statistics import median

from lossdsl import pipeline, plotting
from lossdsl.card import bracket, status
from lossdsl.catalogue import Entry, entries
from lossdsl.diagnostics import Source
from lossdsl.syntax import tree
from lossdsl.syntax.parser import parse
from lossdsl.verify.verdict import Finding, Report

DOCS = Path(__file__).resolve().parent
PAGES = DOCS / "catalogue"
PLOTS = PAGES / "plots"
LIBRARIES = DOCS.parent / "tests" / "libraries" / "statements.json"
COUNTED = ("computational efficiency", "scalability")


def index() -> str:
    """The page with the count of every field, and every loss in one line."""
    shipped = entries()
    lines = ["# The catalogue", ""]
    lines.append(f"{len(shipped)} losses. Each is loaded, checked and compiled by its name: `lossdsl check NAME`,")
    lines.append("`lossdsl.load(NAME)`; `lossdsl new MINE --from NAME` copies one to start from.")
    lines += ["", "| field | losses |", "|---|---|"]
    fields = {field: list(found) for field, found in groupby(shipped, key=lambda e: e.field)}
    lines += [f"| [{field}](catalogue/{field}.md) | {len(found)} |" for field, found in fields.items()]
    for field, found in fields.items():
        lines += ["", f"## {field}", "", "| loss | |", "|---|---|"]
        lines += [f"| [{e.name}](catalogue/{field}.md#{e.name}) | {cell(e.title)} |" for e in found]
    return "\n".join([*lines, *beside_libraries(shipped)]) + "\n"


def beside_libraries(shipped: Sequence[Entry]) -> list[str]:
    """How many statements a file has, and how many a library's own code of the same loss."""
    counted = json.loads(LIBRARIES.read_text(encoding="utf-8"))
    rows = [(e.name, statements(e), counted[e.name]) for e in shipped if e.name in counted]
    middle = median(ours / theirs["statements"] for _, ours, theirs in rows)
    lines = ["", "## Statements, beside libraries", ""]
    lines.append(
        f"Of {len(rows)} losses the file has {middle:.0%} of the library's statements in the median. Heads count;"
    )
    lines.append(
        "docstrings, claims and imports do not. Of a library only the function or class itself is counted, not what it"
    )
    lines.append("calls (`tests/libraries/statements.py`), and its gradient is not written but recorded by autograd.")
    lines += ["", "| loss | statements | library | statements |", "|---|---|---|---|"]
    for name, ours, theirs in sorted(rows):
        code = ", ".join(f"`{c.rpartition(':')[2]}`" for c in theirs["code"])
        lines.append(f"| {name} | {ours} | {theirs['library']}: {code} | {theirs['statements']} |")
    return lines


def statements(entry: Entry) -> int:
    """Statements of a file: losses, functions and their lines, without docstrings and claims."""

    def count(items: Sequence[object]) -> int:
        kept = [s for s in items if not isinstance(s, tree.Claim)]
        return len(kept) + sum(count(s.body) for s in kept if isinstance(s, tree.Loss | tree.Def))

    return count(parse(Source(str(entry.path), entry.path.read_text(encoding="utf-8")))[0].items)


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def section(entry: Entry) -> str:
    """One loss."""
    text = entry.path.read_text(encoding="utf-8").strip("\n")
    source = Source(str(entry.path), text + "\n")
    lines = [f"## {entry.name}", "", "```loss", text, "```", ""]
    image = PLOTS / f"{entry.name}.png"
    drawn = image.with_suffix(".part.png")
    try:
        plotting.plot(source, drawn, only=entry.name, wrt=None, dpi=56)
        drawn.replace(image)
        lines += [f"![{entry.name} and its gradient along one entry](plots/{image.name})", ""]
    except plotting.CannotPlot as reason:
        image.unlink(missing_ok=True)
        lines += [f"No plot: {reason}.", ""]
    shown = pipeline.show(source, "grad", only=entry.name)
    if shown.text:
        gradient = [line.strip() for line in shown.text.splitlines() if "'" in line and line.startswith("  ")]
        gradient = [line for line in gradient if not line.startswith(("cotangent", "output"))]
        lines += ["<details><summary>Gradient, as derived</summary>", "", "```", *gradient, "```", "", "</details>", ""]
    for report in pipeline.check(source, only=entry.name).reports:
        if report.loss == entry.name:
            lines += verdicts(report)
    return "\n".join(lines)


def verdicts(report: Report) -> list[str]:
    """The report as a table, claims first."""
    lines = ["| | |", "|---|---|"]
    lines += [f"| claim `{cell(c.text)}` | {c.status} |" for c in report.claims]
    for f in report.findings:
        if f.criterion in COUNTED:
            lines.append(f"| {name(f)} | {cell(f.detail)} |")
        else:
            value = bracket(getattr(f.verdict, "value", None))
            lines.append(f"| {name(f)} | {status(f.verdict)}{': ' + cell(value) if value else ''} |")
    return lines


def name(f: Finding) -> str:
    words = f.property
    if f.of and f.of != "return":
        words += f" of `{f.of}`"
    if f.wrt:
        words += " in " + ", ".join(f"`{w}`" for w in f.wrt)
    return words + (f" when {f.when}" if f.when else "")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", action="store_true", help="only the index")
    parser.add_argument("--jobs", type=int, help="processes (one for each processor)")
    parser.add_argument("fields", nargs="*", help="fields whose pages are written (all)")
    options = parser.parse_args(arguments)
    unknown = {*options.fields} - {e.field for e in entries()}
    if unknown:
        parser.error(f"no field {', '.join(sorted(unknown))}")
    write(DOCS / "catalogue.md", index())
    if options.index:
        return
    PLOTS.mkdir(parents=True, exist_ok=True)
    shipped = [e for e in entries() if not options.fields or e.field in options.fields]
    with ProcessPoolExecutor(options.jobs) as pool:
        sections = pool.map(section, shipped)
        for field, found in groupby(shipped, key=lambda e: e.field):
            write(PAGES / f"{field}.md", page(field, [next(sections) for _ in found]))
    remove_stale()


def page(field: str, sections: Sequence[str]) -> str:
    return "\n\n".join([f"# {field}", *sections]) + "\n"


def write(path: Path, text: str) -> None:
    """Write a page, or leave the one that is there."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def remove_stale() -> None:
    """Remove pages and plots of what the catalogue has no longer."""
    shipped = entries()
    kept = {f"{e.field}.md" for e in shipped} | {f"plots/{e.name}.png" for e in shipped}
    for path in [*PAGES.glob("*"), *PLOTS.glob("*")]:
        if path.is_file() and path.relative_to(PAGES).as_posix() not in kept:
            path.unlink()


if __name__ == "__main__":
    main()
