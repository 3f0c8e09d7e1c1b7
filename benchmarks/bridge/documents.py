"""The files below ``docs/performance`` that the stored results become, so that no number is copied by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..contestants import ROOT
from ..report import times
from .figures import Figure, goal, loaded, value

FOLDER = ROOT / "docs" / "performance"

_SCALES = {
    "full": "",
    "short": "A short run of one round, to see that the harness works; not what the goals are about.",
    "tiny": "A run with a handful of everything, for the tests of the harness; its figures mean nothing.",
}


def texts(result: dict[str, Any]) -> dict[str, str]:
    """Names of files and what is in them."""
    return {
        "bridge-environment.inc": _environment(result),
        "bridge-load.inc": _paragraph(_table(_load_grid(result))),
        "bridge-chaos.inc": _paragraph(_table(_chaos_grid(result))),
        "bridge-missed.inc": _missed(result),
        "bridge-rows.inc": _rows(result),
    }


def write(result: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts(result).items():
        (folder / name).write_text(text, "utf-8")


def _figures(result: dict[str, Any], *, is_load: bool) -> list[Figure]:
    return [loaded(figure) for row in result["rows"] if row["is_load"] == is_load for figure in row["figures"]]


def _load_grid(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for figure in _figures(result, is_load=True):
        floor = "–" if figure.floor is None else f"{value(figure.floor)} ({figure.floor_name})"
        rows.append([figure.title, figure.unit, goal(figure), _measured(figure), floor, times(figure.ratio)])
    return [["", "unit", "goal", "measured", "floor", "ratio"], *rows]


def _chaos_grid(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for figure in _figures(result, is_load=False):
        beside = "" if figure.floor is None else f"{figure.floor_name}: {value(figure.floor)}"
        notes = "; ".join(filter(None, (figure.note, beside)))
        rows.append([figure.title + (f" ({notes})" if notes else ""), figure.unit, goal(figure), _measured(figure)])
    return [["", "unit", "goal", "measured"], *rows]


def _measured(figure: Figure) -> str:
    return f"**{value(figure.measured)}** (missed)" if figure.is_met is False else value(figure.measured)


def _table(grid: Sequence[Sequence[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", "   :class: benchmarks", ""]
    for row in grid:
        lines += [f"   {'  -' if index else '* -'} {cell}".rstrip() for index, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _paragraph(text: str) -> str:
    return f".. Written by make bench-bridge from the stored results. Do not edit.\n\n{text}"


def _environment(result: dict[str, Any]) -> str:
    where = result["machine"]
    lines = [
        f":Date: {result['date'][:10]}",
        f":Machine: {where['cpu']}, {where['cores']} cores, {where['architecture']}",
        f":System: {where['system']}",
        f":Rounds: {result['rounds']}",
        *(f":{name}: {version}" for name, version in result["versions"].items() if name != "implementation"),
        f":Protocol: {result['versions']['implementation']} twin",
    ]
    text = "\n".join(lines) + "\n"
    note = _SCALES[result["scale"]]
    return _paragraph(f"{note}\n\n{text}" if note else text)


def _missed(result: dict[str, Any]) -> str:
    missed = [figure for is_load in (True, False) for figure in _figures(result, is_load=is_load) if figure.is_met is False]
    if not missed:
        return _paragraph("In this run all goals were met.\n")
    lines = [f"* {figure.title}: {value(figure.measured)} {figure.unit}, the goal is {goal(figure)}." for figure in missed]
    return _paragraph("In this run these goals were missed:\n\n" + "\n".join(lines) + "\n")


def _rows(result: dict[str, Any]) -> str:
    lines = []
    for row in result["rows"]:
        stands_for = f" {row['stands_for'][0].upper()}{row['stands_for'][1:]}." if row["stands_for"] else ""
        lines.append(f"``{row['name']}``\n    {row['title'][0].upper()}{row['title'][1:]}.{stands_for} Took {row['seconds']:.0f} s.\n")
    return _paragraph("\n".join(lines))
