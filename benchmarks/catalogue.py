"""How long every loss of the catalogue takes to check and to compile, in processor seconds of one process.

Run: `python benchmarks/catalogue.py [--json OUT] [NAME ...]`. Imports are paid for before the first loss.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import pairwise
from pathlib import Path

from lossdsl import pipeline
from lossdsl.catalogue import entries
from lossdsl.diagnostics import Source

TARGETS = ("torch", "triton")
WHAT = ("check", *(f"compile to {t}" for t in TARGETS), *(f"text for {t}" for t in TARGETS))


def seconds(text: str, path: str) -> tuple[float, ...]:
    """The report; all that `lossdsl compile` does; and parsing to the text of a module for each target."""
    source = Source(path, text)
    times = [time.process_time()]
    pipeline.check(source)
    times.append(time.process_time())
    for target in TARGETS:
        pipeline.compile(source, target=target)
        times.append(time.process_time())
    for target in TARGETS:
        pipeline.emit(source, pipeline.analyse(source).losses, target)
        times.append(time.process_time())
    return tuple(after - before for before, after in pairwise(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = [e for e in entries() if not options.names or e.name in options.names]
    seconds(chosen[0].path.read_text(encoding="utf-8"), str(chosen[0].path))
    rows = {e.name: seconds(e.path.read_text(encoding="utf-8"), str(e.path)) for e in chosen}
    for name, row in sorted(rows.items(), key=lambda row: -max(row[1][1:])):
        print(f"{name:28}", "   ".join(f"{what} {s:6.2f} s" for what, s in zip(WHAT, row)))
    for k, what in enumerate(WHAT):
        found = [row[k] for row in rows.values()]
        print(f"{what}: median {statistics.median(found):.2f} s, largest {max(found):.2f} s, {len(found)} losses")
    if options.json:
        options.json.write_text(json.dumps({n: dict(zip(WHAT, row)) for n, row in rows.items()}, indent=1))


if __name__ == "__main__":
    main()
