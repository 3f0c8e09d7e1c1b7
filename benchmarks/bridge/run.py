"""A run of rows, one after the other, and the file that it becomes."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pynats_twisted.errors import NatsError
from pynats_twisted.protocol import implementation

from ..machine import machine, versions
from ..report import times
from ..results import RESULTS
from .bench import Bench, Scale
from .figures import Figure, goal, value
from .processes import RowError, allow_many_files
from .programs.wire import WireError
from .rows import Row

BRIDGE_FILE = RESULTS / "bridge.json"


def run(rows: Sequence[Row], scale: Scale) -> dict[str, Any]:
    """Measure, and say on the way what was found. A row that fails has an ``error``."""
    allow_many_files()
    result: dict[str, Any] = {
        "format": 1,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "scale": scale.name,
        "rounds": scale.rounds,
        "machine": machine(),
        "versions": {**versions(), "implementation": implementation},
    }
    result["rows"] = [_measured(row, scale) for row in rows]
    return result


def _measured(row: Row, scale: Scale) -> dict[str, Any]:
    print(f"{row.name}: {row.title}", flush=True)
    stored: dict[str, Any] = {"name": row.name, "title": row.title, "stands_for": row.stands_for, "is_load": row.is_load}
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-bridge-") as folder, Bench(Path(folder), scale, row.limit) as bench:
            figures = row.measure(bench)
    except (RowError, WireError, NatsError, OSError) as error:
        print(f"{row.name} failed: {error}", file=sys.stderr, flush=True)
        return {**stored, "seconds": round(time.monotonic() - begun, 1), "error": str(error), "figures": []}
    for figure in figures:
        print(f"    {_line(figure)}", flush=True)
    return {**stored, "seconds": round(time.monotonic() - begun, 1), "figures": [figure.stored() for figure in figures]}


def _line(figure: Figure) -> str:
    parts = [f"{figure.title}: {value(figure.measured)} {figure.unit}"]
    if figure.goal is not None:
        parts.append(f"goal {goal(figure)}: {'met' if figure.is_met else 'MISSED'}")
    if figure.floor is not None:
        parts.append(f"{figure.floor_name} {value(figure.floor)}, ratio {times(figure.ratio)}")
    if figure.note:
        parts.append(figure.note)
    return "; ".join(parts)


def store(path: Path, result: dict[str, Any]) -> None:
    """Write a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


def load(path: Path = BRIDGE_FILE) -> dict[str, Any]:
    """Read what :func:`store` wrote."""
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return result
