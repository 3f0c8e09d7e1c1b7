"""Samples, what follows from them, and the files that they are stored in."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .contestants import C_CLIENT, ORDER, OURS

RESULTS = Path(__file__).resolve().parent / "results"
SCENARIOS_FILE = RESULTS / "scenarios.json"
GROWTH_FILE = RESULTS / "growth.json"
MEMORY_FILE = RESULTS / "memory.json"

Sample = dict[str, Any]


@dataclass(frozen=True)
class Median:
    """One client in one scenario: medians over the rounds.

    :ivar value: what the scenario compares: microseconds of CPU, milliseconds, or bytes, of one unit.
    :ivar lowest: the lowest sample of it; :ivar highest: the highest.
    :ivar rate: units a second, of elapsed time.
    :ivar busy: the share of the elapsed time in which the client had a processor; with threads it can be above 1.
    :ivar p50_us: microseconds of the median round trip; :ivar p99_us: of the 99th percentile. Only where single ones are timed.
    :ivar rounds: how many samples there are; :ivar failed: how many rounds gave none.
    """

    value: float
    lowest: float
    highest: float
    rate: float
    busy: float
    p50_us: float | None
    p99_us: float | None
    rounds: int
    failed: int


@dataclass(frozen=True)
class Table:
    """All medians of one scenario, in the order of the contestants.

    :ivar best_rival: the best of the other Python clients, where there is one.
    """

    name: str
    title: str
    unit: str
    figure: str
    medians: dict[str, Median]

    @property
    def best_rival(self) -> str | None:
        rivals = [name for name in self.medians if name not in OURS and name != C_CLIENT]
        return min(rivals, key=lambda name: self.medians[name].value, default=None)

    def ratio(self, ours: str, other: str | None) -> float | None:
        """How many times less than the other's is ours: above 1 where we are better."""
        if other is None or ours not in self.medians or other not in self.medians or not self.medians[ours].value:
            return None
        return self.medians[other].value / self.medians[ours].value


def figure_of(sample: Sample, figure: str) -> float:
    """What is compared, of one unit."""
    if figure == "bytes":
        return float(sample["bytes_each"])
    if figure == "elapsed":
        return 1e3 * float(sample["wall"]) / float(sample["count"])
    return 1e6 * (float(sample["user"]) + float(sample["system"])) / float(sample["count"])


def tables(result: dict[str, Any]) -> list[Table]:
    """The medians of a stored result."""
    found = []
    for scenario in result["scenarios"]:
        of_scenario = [sample for sample in result["samples"] if sample["scenario"] == scenario["name"]]
        clients = sorted({sample["client"] for sample in of_scenario}, key=ORDER.index)
        medians = {client: _median([s for s in of_scenario if s["client"] == client], scenario["figure"]) for client in clients}
        found.append(
            Table(scenario["name"], scenario["title"], scenario["unit"], scenario["figure"], {c: m for c, m in medians.items() if m})
        )
    return found


def _median(samples: Sequence[Sample], figure: str) -> Median | None:
    good = [sample for sample in samples if "error" not in sample]
    if not good:
        return None
    values = [figure_of(sample, figure) for sample in good]
    timed = "p50_us" in good[0]
    return Median(
        value=statistics.median(values),
        lowest=min(values),
        highest=max(values),
        rate=statistics.median(sample["count"] / sample["wall"] for sample in good),
        busy=statistics.median((sample["user"] + sample["system"]) / sample["wall"] for sample in good),
        p50_us=statistics.median(sample["p50_us"] for sample in good) if timed else None,
        p99_us=statistics.median(sample["p99_us"] for sample in good) if timed else None,
        rounds=len(good),
        failed=len(samples) - len(good),
    )


def summary(found: Sequence[Table]) -> dict[str, Any]:
    """Medians and ratios as they are stored beside the samples."""
    stored: dict[str, Any] = {}
    for table in found:
        ratios = {
            ours: {other: _rounded(table.ratio(ours, other)) for other in (table.best_rival, C_CLIENT) if other in table.medians}
            for ours in OURS
            if ours in table.medians
        }
        medians = {
            client: {name: _rounded(value) for name, value in vars(median).items() if value is not None}
            for client, median in table.medians.items()
        }
        stored[table.name] = {"medians": medians, "best_rival": table.best_rival, "ratios": ratios}
    return stored


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else float(f"{value:.4g}")


def store(path: Path, result: dict[str, Any]) -> None:
    """Write a result, with a line for each sample."""
    head = {name: value for name, value in result.items() if name != "samples"}
    text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    samples = ",\n".join("  " + json.dumps(sample) for sample in result["samples"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{text},\n "samples": [\n{samples}\n ]\n}}\n', "utf-8")


def load(path: Path) -> dict[str, Any]:
    """Read what :func:`store` wrote."""
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return result
