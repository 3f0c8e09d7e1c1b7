"""Results as pictures: SVG files for the documentation, on whatever background the reader has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .report import growth_points, number
from .results import Table, tables

# Of middle brightness: all of it can be read on white and on black.
_INK = "#7d7d7d"
_COLORS = {
    "ours-compiled": "#1f9e6e",
    "ours-pure": "#69b99a",
    "nats-py": "#c8762b",
    "nats-core": "#b0549b",
    "natsio": "#4a80c4",
    "nats.c": "#8a8a8a",
}
_LABELS = {"cpu": "µs CPU", "elapsed": "ms", "bytes": "bytes"}
_COLUMNS = 3
_CURVE_COLUMNS = 2
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: sharp, and found by a search
    "svg.hashsalt": "benchmarks",  # the same results give the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.titlesize": 10,
    "axes.titlecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plot_scenarios(result: dict[str, Any], path: Path) -> None:
    """A panel for each scenario, a bar for each client."""
    found = [table for table in tables(result) if table.medians]
    rows = -(-len(found) // _COLUMNS)
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(rows, _COLUMNS, figsize=(10, 1.75 * rows), squeeze=False)
        for panel in axes.flat[len(found) :]:
            panel.set_visible(False)
        for panel, table in zip(axes.flat, found, strict=False):
            _bars(panel, table)
        _save(figure, path)


def _bars(panel: Axes, table: Table) -> None:
    clients = list(table.medians)
    values = [table.medians[client].value for client in clients]
    errors = [
        [value - table.medians[client].lowest for client, value in zip(clients, values, strict=True)],
        [table.medians[client].highest - value for client, value in zip(clients, values, strict=True)],
    ]
    bars = panel.barh(clients, values, color=[_COLORS[client] for client in clients], height=0.7)
    panel.errorbar(values, clients, xerr=errors, fmt="none", ecolor=_INK, elinewidth=0.8)
    widest = max(table.medians[client].highest for client in clients)
    for bar, client, value in zip(bars, clients, values, strict=True):
        panel.text(
            table.medians[client].highest + widest * 0.03, bar.get_y() + bar.get_height() / 2, number(value), va="center", fontsize=8
        )
    panel.set_xlim(0, widest * 1.25)
    panel.invert_yaxis()
    # Above the labels, too: the font that shows it may be wider than the one that was measured.
    panel.set_title(f"{table.name} ({_LABELS[table.figure]} per {table.unit})", loc="left", x=-0.4)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelbottom=False, length=0)
    panel.spines["bottom"].set_visible(False)


def plot_growth(result: dict[str, Any], path: Path) -> None:
    """A panel for each curve, a line for each of the two twins."""
    curves = growth_points(result)
    about = {curve["name"]: curve for curve in result["curves"]}
    with mpl.rc_context(_STYLE):
        rows = -(-len(curves) // _CURVE_COLUMNS)
        figure, axes = plt.subplots(rows, _CURVE_COLUMNS, figsize=(10, 3 * rows), squeeze=False)
        for panel in axes.flat[len(curves) :]:
            panel.set_visible(False)
        for panel, (name, clients) in zip(axes.flat, curves.items(), strict=False):
            for client, line in clients.items():
                steps, values = zip(*line, strict=True)
                panel.plot(steps, values, marker="o", markersize=4, color=_COLORS[client], label=client)
            panel.set_xscale("log")
            panel.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
            panel.minorticks_off()
            panel.set_ylim(bottom=0)
            panel.set_xlabel(about[name]["label"])
            panel.set_title(about[name]["title"])
            panel.grid(axis="y", color=_INK, alpha=0.25, linewidth=0.6)
        for panel in axes[:, 0]:
            panel.set_ylabel("µs CPU per message")
        axes.flat[0].legend(frameon=False, labelcolor=_INK)
        _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
