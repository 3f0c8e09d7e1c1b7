"""The files below ``docs/performance`` that the stored results become, so that no number is copied by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import report
from .contestants import ROOT

FOLDER = ROOT / "docs" / "performance"


def texts(scenarios: dict[str, Any], growth: dict[str, Any], memory: dict[str, Any]) -> dict[str, str]:
    """Names of files and what is in them."""
    return {
        "environment.inc": report.rst_environment(scenarios),
        "scenarios.inc": report.rst_scenarios(scenarios),
        "cpu.inc": report.rst_figures(scenarios, "cpu"),
        "elapsed.inc": report.rst_figures(scenarios, "elapsed"),
        "bytes.inc": report.rst_figures(scenarios, "bytes"),
        "rates.inc": report.rst_rates(scenarios),
        "latency.inc": report.rst_latency(scenarios),
        "slower.inc": report.rst_slower(scenarios),
        "growth.inc": report.rst_growth(growth),
        "memory.inc": report.rst_memory(memory),
    }


def write(scenarios: dict[str, Any], growth: dict[str, Any], memory: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write the tables, and draw the plots."""
    from .plots import plot_growth, plot_scenarios  # matplotlib is needed for this alone

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts(scenarios, growth, memory).items():
        (folder / name).write_text(text, "utf-8")
    plot_scenarios(scenarios, folder / "scenarios.svg")
    plot_growth(growth, folder / "growth.svg")
