"""All measurements of a run: in every round every contestant is measured in every scenario, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from .contestants import Contestant
from .machine import machine, versions
from .measure import MeasurementError, measure, warm_imports
from .results import Sample, figure_of
from .scenarios import CURVES, MEMORY, Curve, Figure, Scenario

_UNITS = {"cpu": "µs CPU", "elapsed": "ms", "bytes": "bytes"}


def about(contestants: Sequence[Contestant], missing: dict[str, str], rounds: int) -> dict[str, Any]:
    """What a stored result begins with."""
    return {
        "format": 1,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rounds": rounds,
        "machine": machine(),
        "versions": {**versions(), **{contestant.name: contestant.version for contestant in contestants}},
        "left_out": missing,
    }


def run_scenarios(contestants: Sequence[Contestant], scenarios: Sequence[Scenario], rounds: int, limit: float) -> list[Sample]:
    """Measure, and say on the way what was found. What fails is a sample with an ``error``."""
    for contestant in contestants:
        warm_imports(contestant)
    samples: list[Sample] = []
    for round_ in range(1, rounds + 1):
        for scenario in scenarios:
            if round_ > scenario.most_rounds:
                continue
            print(f"[{round_}/{rounds}] {scenario.name:18} {_UNITS[scenario.figure]:>6}:", end="", flush=True)
            for contestant in contestants:
                if not contestant.knows(scenario.kind):
                    continue
                sample = {"scenario": scenario.name, "client": contestant.name, "round": round_}
                samples.append(_measured(sample, contestant, scenario, scenario.figure, limit))
            print(flush=True)
    return samples


def run_growth(contestants: Sequence[Contestant], curves: Sequence[Curve], rounds: int, limit: float) -> list[Sample]:
    """The growth curves, in the same way."""
    samples: list[Sample] = []
    for round_, curve, step, scenario in _growth(curves, rounds):
        print(f"[{round_}/{rounds}] {step:>7,} {curve.label:18} µs CPU:", end="", flush=True)
        for contestant in contestants:
            sample = {"curve": curve.name, "step": step, "client": contestant.name, "round": round_}
            samples.append(_measured(sample, contestant, scenario, "cpu", limit))
        print(flush=True)
    return samples


def run_memory(contestants: Sequence[Contestant], scenario: Scenario, limit: float) -> list[Sample]:
    """How large a process is while messages pass: once for each client, because there are many samples in one."""
    print(f"{scenario.name}, bytes that a message adds:", end="", flush=True)
    samples = [_measured({"client": contestant.name}, contestant, scenario, "bytes", limit) for contestant in contestants]
    print(flush=True)
    return samples


def unable(contestants: Sequence[Contestant], scenarios: Sequence[Scenario]) -> dict[str, list[str]]:
    """Clients, and the scenarios that they cannot do, where there are such."""
    found = {contestant.name: [s.name for s in scenarios if not contestant.knows(s.kind)] for contestant in contestants}
    return {name: names for name, names in found.items() if names}


def _growth(curves: Sequence[Curve], rounds: int) -> Iterator[tuple[int, Curve, int, Scenario]]:
    for round_ in range(1, rounds + 1):
        for curve in curves:
            for step, scenario in zip(curve.steps, curve.scenarios(), strict=True):
                yield round_, curve, step, scenario


def _measured(sample: Sample, contestant: Contestant, scenario: Scenario, figure: Figure, limit: float) -> Sample:
    try:
        result = measure(contestant, scenario, limit)
    except MeasurementError as error:
        print(f"  {contestant.name} FAILED", end="", flush=True)
        print(f"\n{contestant.name} in {scenario.name}: {error}", file=sys.stderr)
        return {**sample, "error": str(error)}
    print(f"  {contestant.name} {figure_of(result, figure):.3g}", end="", flush=True)
    return {**sample, **{name: value if isinstance(value, list) else round(value, 9) for name, value in result.items()}}


def described(scenarios: Sequence[Scenario]) -> list[dict[str, Any]]:
    """What a stored result says of its scenarios."""
    return [
        {name: getattr(scenario, name) for name in ("name", "title", "kind", "count", "size", "in_flight", "unit", "figure")}
        for scenario in scenarios
    ]


def described_memory(scenario: Scenario = MEMORY) -> dict[str, Any]:
    """What a stored result says of what it is."""
    return {name: getattr(scenario, name) for name in ("name", "title", "count", "size")}


def described_curves(curves: Sequence[Curve] = CURVES) -> list[dict[str, Any]]:
    """What a stored result says of its curves."""
    return [{name: getattr(curve, name) for name in ("name", "title", "label", "count", "size")} for curve in curves]
