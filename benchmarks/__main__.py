"""The command line of the benchmarks; ``make bench BENCH="..."`` passes its options."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import documents, report, results
from .contestants import ORDER, OURS, ROOT, Contestant, find
from .run import about, described, described_curves, described_memory, run_growth, run_memory, run_scenarios, unable
from .scenarios import CURVES, MEMORY, SCENARIOS, Curve, Scenario

_ROUNDS = 5
_GROWTH_ROUNDS = 3
_FILES = (results.SCENARIOS_FILE, results.GROWTH_FILE, results.MEMORY_FILE)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this package and the other NATS clients that are installed, one after the other in every round. A run of "
        "everything replaces the stored results, and the tables and plots of the documentation.",
    )
    names = ", ".join(scenario.name for scenario in SCENARIOS)
    parser.add_argument("--scenarios", metavar="NAMES", help=f"only these, with commas in between: {names}")
    parser.add_argument("--only", metavar="CLIENTS", help=f"only these, with commas in between: {', '.join(ORDER)}")
    parser.add_argument("--rounds", type=int, help=f"rounds (default {_ROUNDS}, of the growth curves {_GROWTH_ROUNDS})")
    parser.add_argument("--count", type=int, help="so many messages, requests, ... in every scenario, to try out the harness")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a single measurement is ended (default 60)")
    parser.add_argument("--growth", action="store_true", help="only the growth curves")
    parser.add_argument("--memory", action="store_true", help="only the memory while many messages pass: one round, under a minute each")
    parser.add_argument("--no-growth", action="store_true", help="neither the growth curves nor the memory")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="store results here, and leave the documentation as it is")
    parser.add_argument(
        "--missing", action="store_true", help="only the scenarios that are not stored, of all clients, and store them beside the others"
    )
    parser.add_argument("--documents", action="store_true", help="measure nothing: write tables and plots from the stored results")
    given = parser.parse_args(arguments)
    if (given.growth or given.memory) and (given.no_growth or given.scenarios):
        parser.error("--growth and --memory go neither with --no-growth nor with --scenarios")
    if given.missing and (given.growth or given.memory or given.scenarios or given.only or given.count or given.rounds or given.output):
        parser.error("--missing goes with none of the options that choose what is measured, how often, or where it is stored")
    for option in ("rounds", "count"):
        if getattr(given, option) is not None and getattr(given, option) < 1:
            parser.error(f"--{option} is 1 or more")
    return given


def _chosen(kind: str, names: str | None, known: Sequence[str]) -> list[str]:
    if names is None:
        return list(known)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise SystemExit(f"{', '.join(unknown) or 'nothing'}: no such {kind}; there are {', '.join(known)}")
    return [name for name in known if name in wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store. Returns 1 where a measurement failed."""
    given = _arguments(arguments)
    if given.missing:
        return _measure_missing(given.limit)
    scenario_names = _chosen("scenario", given.scenarios, [scenario.name for scenario in SCENARIOS])
    client_names = _chosen("client", given.only, ORDER)
    if given.documents:
        _write_documents()
        return 0
    begun = time.monotonic()
    # Only what was measured in full is compared with what was stored before.
    partial = bool(given.scenarios or given.only or given.count)
    folder: Path | None = given.output or (None if partial else results.RESULTS)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as build:
        contestants, missing = find(client_names, Path(build))
        for name, reason in missing.items():
            print(f"left out: {name}: {reason}", flush=True)
        if not contestants:
            raise SystemExit("there is nobody to measure")
        samples = []
        everything = not (given.growth or given.memory or given.no_growth or given.scenarios)
        if not (given.growth or given.memory):
            scenarios = [_counted(scenario, given.count) for scenario in SCENARIOS if scenario.name in scenario_names]
            samples += _scenarios(given, contestants, missing, scenarios, folder)
        if given.growth or everything:
            samples += _growth(given, contestants, missing, folder)
        if given.memory or everything:
            samples += _memory(given, contestants, missing, folder)
    if folder is None:
        print("\nNothing was stored: this was not a run of everything, and no --output was given.")
    elif folder == results.RESULTS and all(file.exists() for file in _FILES):
        _write_documents()
        print(f"\nStored in {folder.relative_to(ROOT)} and {documents.FOLDER.relative_to(ROOT)}.")
    failed = sum("error" in sample for sample in samples)
    print(f"\n{len(samples)} measurements, {failed} failed, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


def _measure_missing(limit: float) -> int:
    """Measure the scenarios that are not stored, with the same clients as the others, and store them beside these."""
    result = results.load(results.SCENARIOS_FILE)
    stored = [scenario["name"] for scenario in result["scenarios"]]
    scenarios = [scenario for scenario in SCENARIOS if scenario.name not in stored]
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as build:
        contestants, missing = find(ORDER, Path(build))
        now = about(contestants, missing, result["rounds"])
        for key in ("machine", "versions"):
            if now[key] != result[key]:
                raise SystemExit(f"{key}: {now[key]}, and not {result[key]}, with which the others were measured: measure all of them")
        samples = run_scenarios(contestants, scenarios, result["rounds"], limit)
        result["unable"] = unable(contestants, SCENARIOS)
    failed = sum("error" in sample for sample in samples)
    if failed or not scenarios:
        print(f"\n{len(samples)} measurements, {failed} failed: nothing was stored")
        return 1 if failed else 0
    result.setdefault("added", {})[now["date"]] = [scenario.name for scenario in scenarios]
    result["scenarios"] = described(SCENARIOS)
    order = [scenario.name for scenario in SCENARIOS]
    result["samples"] = sorted([*result["samples"], *samples], key=lambda sample: (sample["round"], order.index(sample["scenario"])))
    result["summary"] = results.summary(results.tables(result))
    results.store(results.SCENARIOS_FILE, result)
    _write_documents()
    print(f"\n{report.terminal(result)}\n\n{len(samples)} measurements, stored beside the others")
    return 0


def _write_documents() -> None:
    scenarios, growth, memory = (results.load(file) for file in _FILES)
    documents.write(scenarios, growth, memory)


def _scenarios(
    given: argparse.Namespace,
    contestants: Sequence[Contestant],
    missing: dict[str, str],
    scenarios: Sequence[Scenario],
    folder: Path | None,
) -> list[results.Sample]:
    rounds = given.rounds or _ROUNDS
    result: dict[str, Any] = about(contestants, missing, rounds)
    result["unable"] = unable(contestants, scenarios)
    result["scenarios"] = described(scenarios)
    result["samples"] = run_scenarios(contestants, scenarios, rounds, given.limit)
    result["summary"] = results.summary(results.tables(result))
    print(f"\n{report.terminal(result)}\n", flush=True)
    if folder is not None:
        results.store(folder / results.SCENARIOS_FILE.name, result)
    samples: list[results.Sample] = result["samples"]
    return samples


def _growth(
    given: argparse.Namespace, contestants: Sequence[Contestant], missing: dict[str, str], folder: Path | None
) -> list[results.Sample]:
    ours = [contestant for contestant in contestants if contestant.name in OURS]
    if not ours:
        return []
    rounds = given.rounds or _GROWTH_ROUNDS
    curves = [_shortened(curve, given.count) for curve in CURVES]
    result: dict[str, Any] = about(ours, {name: reason for name, reason in missing.items() if name in OURS}, rounds)
    result["curves"] = described_curves(curves)
    result["samples"] = run_growth(ours, curves, rounds, given.limit)
    print(f"\n{report.terminal_growth(result)}\n", flush=True)
    if folder is not None:
        results.store(folder / results.GROWTH_FILE.name, result)
    samples: list[results.Sample] = result["samples"]
    return samples


def _memory(
    given: argparse.Namespace, contestants: Sequence[Contestant], missing: dict[str, str], folder: Path | None
) -> list[results.Sample]:
    ours = [contestant for contestant in contestants if contestant.name in OURS]
    if not ours:
        return []
    scenario = MEMORY
    if given.count is not None:
        # As many looks at the size as there are in a long run.
        scenario = replace(MEMORY, count=given.count, in_flight=max(1, given.count * MEMORY.in_flight // MEMORY.count))
    result: dict[str, Any] = about(ours, {name: reason for name, reason in missing.items() if name in OURS}, 1)
    result["memory"] = described_memory(scenario)
    result["samples"] = run_memory(ours, scenario, given.limit)
    print(f"\n{report.terminal_memory(result)}\n", flush=True)
    if folder is not None:
        results.store(folder / results.MEMORY_FILE.name, result)
    samples: list[results.Sample] = result["samples"]
    return samples


def _counted(scenario: Scenario, count: int | None) -> Scenario:
    if count is not None and scenario.figure == "bytes" and scenario.count == 1:
        # One large thing.
        return replace(scenario, size=min(scenario.size, count * 2**20))
    return scenario if count is None else replace(scenario, count=count, warmup=min(scenario.warmup, count))


def _shortened(curve: Curve, count: int | None) -> Curve:
    return curve if count is None else replace(curve, count=count, steps=[step for step in curve.steps if step <= count])


if __name__ == "__main__":
    sys.exit(main())
