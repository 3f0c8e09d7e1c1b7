"""The command line; ``make bench-bridge BENCH="..."`` passes its options."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..contestants import ROOT
from . import documents
from .bench import SCALES
from .rows import ROWS
from .run import BRIDGE_FILE, load, run, store


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store. Returns 1 where a row failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bridge",
        description="Put a bridge under load and under faults, beside its floors. A full run of all rows takes about ten minutes, "
        "and replaces the stored results and the tables of the documentation.",
    )
    parser.add_argument("--rows", metavar="NAMES", help=f"only these, with commas in between: {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--short", action="store_true", help="one short round of everything, to see that it works")
    parser.add_argument("--tiny", action="store_true", help="a handful of everything, for the tests of the harness")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="store results here, and leave the documentation as it is")
    parser.add_argument("--documents", action="store_true", help="measure nothing: write the tables from the stored results")
    given = parser.parse_args(arguments)
    if given.short and given.tiny:
        parser.error("--short and --tiny do not go together")
    if given.documents:
        documents.write(load())
        return 0
    wanted = [name.strip() for name in given.rows.split(",")] if given.rows else [row.name for row in ROWS]
    unknown = [name for name in wanted if name not in {row.name for row in ROWS}]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: no such row; there are {', '.join(row.name for row in ROWS)}")
    begun = time.monotonic()
    result = run([row for row in ROWS if row.name in wanted], SCALES["tiny" if given.tiny else "short" if given.short else "full"])
    if given.output is not None:
        store(given.output / BRIDGE_FILE.name, result)
        print(f"\nStored in {given.output}.")
    elif given.rows or given.short or given.tiny:
        print("\nNothing was stored: this was not a full run of all rows, and no --output was given.")
    else:
        store(BRIDGE_FILE, result)
        documents.write(result)
        print(f"\nStored in {BRIDGE_FILE.relative_to(ROOT)} and {documents.FOLDER.relative_to(ROOT)}.")
    failed = sum("error" in row for row in result["rows"])
    missed = [figure["name"] for row in result["rows"] for figure in row["figures"] if figure["is_met"] is False]
    print(f"\n{len(result['rows'])} rows, {failed} failed, {time.monotonic() - begun:.0f} s; goals missed: {', '.join(missed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
