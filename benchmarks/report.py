"""Results as text: for the terminal, and as reStructuredText for the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from .contestants import C_CLIENT, ORDER, OURS
from .results import Median, Table, figure_of, tables

_CLOSE = 1.05
"""A difference of less than this is none: it is within what two runs differ by."""

_FIGURES = {
    "cpu": "CPU time of one message or request, in microseconds (user and system); less is better.",
    "elapsed": "Elapsed milliseconds of one; less is better.",
    "bytes": "Bytes of memory of one; less is better.",
}
_MIB = 2**20


def number(value: float | None) -> str:
    """Three digits, and thousands with commas."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2f}"


def mebibytes(value: float | None) -> str:
    """Two decimals, because it is about how little changes."""
    return "–" if value is None else f"{value:.2f}"


def times(value: float | None) -> str:
    """A ratio."""
    return "–" if value is None else f"{value:.1f}×" if value >= 1.95 else f"{value:.2f}×"


# --- grids -----------------------------------------------------------------------------------------------------

Grid = list[list[str]]


def _clients(found: Sequence[Table]) -> list[str]:
    return [client for client in ORDER if any(client in table.medians for table in found)]


def figures_grid(found: Sequence[Table]) -> Grid:
    """What is compared, for each client, and the ratios."""
    clients = _clients(found)
    ours = [name for name in OURS if name in clients]
    head = ["", *clients, *(f"{name} to best" for name in ours)]
    if C_CLIENT in clients and ours:
        head.append(f"{ours[0]} to {C_CLIENT}")
    rows = []
    for table in found:
        row = [table.name, *(number(table.medians[client].value) if client in table.medians else "–" for client in clients)]
        row += [times(table.ratio(name, table.best_rival)) for name in ours]
        if C_CLIENT in clients and ours:
            row.append(times(table.ratio(ours[0], C_CLIENT)))
        rows.append(row)
    return [head, *rows]


def rates_grid(found: Sequence[Table]) -> Grid:
    """Units a second of elapsed time, and how busy the client was."""
    clients = _clients(found)

    def cell(median: Median | None) -> str:
        return "–" if median is None else f"{number(median.rate)} ({median.busy:.0%})"

    return [["", *clients], *([table.name, *(cell(table.medians.get(client)) for client in clients)] for table in found)]


def latency_grid(found: Sequence[Table]) -> Grid:
    """Round trips, where single ones are timed."""
    rows = [
        [table.name, client, number(median.p50_us), number(median.p99_us)]
        for table in found
        for client, median in table.medians.items()
        if median.p50_us is not None
    ]
    return [["", "", "median µs", "99th percentile µs"], *rows]


def slower(found: Sequence[Table]) -> list[tuple[str, str, str, float]]:
    """Where the best of the others is better: (scenario, ours, other, how many times)."""
    return [
        (table.name, ours, table.best_rival, 1 / ratio)
        for table in found
        for ours in OURS
        if table.best_rival is not None and (ratio := table.ratio(ours, table.best_rival)) is not None and ratio * _CLOSE < 1
    ]


def growth_points(result: dict[str, Any]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Curve, client, points: medians of the CPU time of one message, in microseconds."""
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for curve in result["curves"]:
        good = [sample for sample in result["samples"] if sample["curve"] == curve["name"] and "error" not in sample]
        of_curve = curves[curve["name"]] = {}
        for client in sorted({sample["client"] for sample in good}, key=ORDER.index):
            steps = sorted({sample["step"] for sample in good if sample["client"] == client})
            figures = {step: [figure_of(s, "cpu") for s in good if s["client"] == client and s["step"] == step] for step in steps}
            of_curve[client] = [(step, statistics.median(values)) for step, values in figures.items()]
    return curves


def growth_grid(result: dict[str, Any]) -> Grid:
    """A row for each curve and client, a column for each step."""
    points = growth_points(result)
    labels = {curve["name"]: curve["label"] for curve in result["curves"]}
    steps = sorted({step for clients in points.values() for line in clients.values() for step, _ in line})
    rows = [
        [labels[name], client, *(number(dict(line).get(step)) for step in steps)]
        for name, clients in points.items()
        for client, line in clients.items()
    ]
    return [["", "", *(f"{step:,}" for step in steps)], *rows]


def memory_grid(result: dict[str, Any]) -> Grid:
    """A row for each client: MiB of memory after so many messages."""
    good = [sample for sample in result["samples"] if "error" not in sample]
    taken = sorted({passed for sample in good for passed, _ in sample["resident"]})
    shown = [passed for passed in taken if passed in (taken[0], taken[-1]) or str(passed).rstrip("0") in ("1", "2", "5")]
    rows = []
    for sample in good:
        sizes = {passed: size / _MIB for passed, size in sample["resident"]}
        rows.append([sample["client"], *(mebibytes(sizes.get(passed)) for passed in shown), mebibytes(max(sizes.values()))])
    return [["", *(f"{passed:,}" for passed in shown), "highest"], *rows]


# --- the terminal ----------------------------------------------------------------------------------------------


def plain(grid: Grid) -> str:
    """In columns."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]

    def line(row: Sequence[str]) -> str:
        first, *others = zip(row, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])

    return "\n".join(line(row) for row in grid)


def terminal(result: dict[str, Any]) -> str:
    """All of a run of scenarios."""
    found = tables(result)
    parts = [_about(result)]
    for figure, title in _FIGURES.items():
        of_figure = [table for table in found if table.figure == figure]
        if of_figure:
            parts.append(f"{title}\n\n{plain(figures_grid(of_figure))}")
    rated = [table for table in found if table.figure == "cpu"]
    if rated:
        parts.append(f"A second of elapsed time, and how busy the client's process was.\n\n{plain(rates_grid(rated))}")
    if any(median.p50_us is not None for table in found for median in table.medians.values()):
        parts.append(plain(latency_grid(found)))
    parts += [f"slower: {ours} in {name}, {times(factor)} of {other}" for name, ours, other, factor in slower(found)]
    parts += [f"left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n\n".join(parts)


def _about(result: dict[str, Any]) -> str:
    where = result["machine"]
    programs = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{where['cpu']}, {where['cores']} cores, {where['system']}; {programs}; medians of {result['rounds']} rounds"


def terminal_growth(result: dict[str, Any]) -> str:
    """All of a run of growth curves."""
    return f"{_about(result)}\n\nCPU time of one message, in microseconds.\n\n{plain(growth_grid(result))}"


def terminal_memory(result: dict[str, Any]) -> str:
    """All of a run of the memory measurement."""
    return f"{_about(result)}\n\nMiB of memory after so many messages.\n\n{plain(memory_grid(result))}"


# --- the documentation -----------------------------------------------------------------------------------------


def _list_table(grid: Grid, left: int = 1) -> str:
    """A table of Sphinx, whose first ``left`` columns are text."""
    lines = [".. list-table::", "   :header-rows: 1", "   :class: benchmarks", ""]
    head, *rows = grid
    for row in (head, *([*(f"``{cell}``" for cell in row[:left]), *row[left:]] for row in rows)):
        lines += [f"   {'  -' if index else '* -'} {cell}".rstrip() for index, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _paragraphs(parts: Iterable[str]) -> str:
    return "\n".join([".. Written by make bench from the stored results. Do not edit.\n", *parts])


def rst_environment(result: dict[str, Any]) -> str:
    """Where and with what it was measured."""
    where = result["machine"]
    lines = [
        f":Date: {result['date'][:10]}",
        f":Machine: {where['cpu']}, {where['cores']} cores, {where['architecture']}",
        f":System: {where['system']}",
        f":Rounds: {result['rounds']}",
        *(f":Added {date[:10]}: {', '.join(f'``{name}``' for name in names)}" for date, names in result.get("added", {}).items()),
        *(f":{name}: {version}" for name, version in result["versions"].items()),
        *(f":Left out: {name}: {reason}" for name, reason in result["left_out"].items()),
    ]
    return _paragraphs(["\n".join(lines) + "\n"])


def rst_scenarios(result: dict[str, Any]) -> str:
    """What each scenario is."""
    lines = []
    for scenario in result["scenarios"]:
        count = f"{scenario['count']:,} {scenario['unit']}s" if scenario["count"] > 1 else f"one {scenario['unit']}"
        lines.append(f"``{scenario['name']}``\n    {scenario['title'][0].upper()}{scenario['title'][1:]}. Measured over {count}.\n")
    return _paragraphs(lines)


def rst_figures(result: dict[str, Any], figure: str) -> str:
    """The table of one figure."""
    found = [table for table in tables(result) if table.figure == figure]
    return _paragraphs([_list_table(figures_grid(found))]) if found else _paragraphs([])


def rst_rates(result: dict[str, Any]) -> str:
    """The table of rates, and round trips."""
    found = [table for table in tables(result) if table.figure == "cpu"]
    return _paragraphs([_list_table(rates_grid(found))])


def rst_latency(result: dict[str, Any]) -> str:
    """The table of round trips."""
    return _paragraphs([_list_table(latency_grid(tables(result)), 2)])


def rst_slower(result: dict[str, Any]) -> str:
    """Where others are better."""
    found = slower(tables(result))
    if not found:
        return _paragraphs(["In this run no other Python client was better in any scenario by more than 5 %.\n"])
    lines = [f"* ``{name}``: {times(factor)} of {other} with {ours}." for name, ours, other, factor in found]
    return _paragraphs(["In this run another Python client was better by more than 5 % in these scenarios:\n", "\n".join(lines) + "\n"])


def rst_growth(result: dict[str, Any]) -> str:
    """The points of the growth curves."""
    return _paragraphs([_list_table(growth_grid(result), 2)])


def rst_memory(result: dict[str, Any]) -> str:
    """The size of the process while messages pass."""
    return _paragraphs([_list_table(memory_grid(result))])
