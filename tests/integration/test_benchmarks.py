"""The benchmarks run, store what they have to store, and are what the documentation shows. Nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import documents, results
from benchmarks.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ["ours-pure", "nats-py"]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """``python -m benchmarks`` with these options, from its start to its end."""
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)


class RunTests(SynchronousTestCase):
    """Runs with a handful of messages."""

    def run_and_load(self, name: str, *options: str) -> tuple[dict[str, Any], str]:
        """Run it, and give what it stored and what it printed."""
        folder = Path(self.mktemp())
        ended = run("--output", str(folder.absolute()), *options)
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        return json.loads((folder / name).read_text("utf-8")), ended.stdout

    def test_every_scenario_is_measured_in_turns(self) -> None:
        """In every round every client is measured in every scenario, ours and nats-py in turn, and every sample is stored."""
        result, printed = self.run_and_load("scenarios.json", "--no-growth", "--only", ",".join(CLIENTS), "--rounds", "2", "--count", "64")
        self.assertEqual([scenario["name"] for scenario in result["scenarios"]], [scenario.name for scenario in SCENARIOS])
        taken = [(sample["round"], sample["scenario"], sample["client"]) for sample in result["samples"]]
        self.assertEqual(taken, [(round_, s.name, client) for round_ in (1, 2) for s in SCENARIOS for client in CLIENTS])
        for sample in result["samples"]:
            self.assertEqual(sample["count"], 1 if sample["scenario"] == "import_time" else 64, sample)
            self.assertGreater(sample["wall"], 0.0, sample)
            self.assertGreater(sample["user"] + sample["system"], 0.0, sample)
            self.assertEqual("bytes_each" in sample, sample["scenario"] == "memory_100k_subs")
            self.assertEqual("p99_us" in sample, sample["scenario"] == "roundtrip_latency")
        self.assertEqual(result["rounds"], 2)
        self.assertEqual(set(result["machine"]), {"cpu", "cores", "system", "architecture"})
        self.assertEqual(set(result["versions"]), {"Python", "Twisted", "nats-server", *CLIENTS})
        self.assertRegex(result["date"], r"^\d{4}-\d\d-\d\dT")
        for name, of_scenario in result["summary"].items():
            self.assertEqual(of_scenario["best_rival"], "nats-py")
            self.assertEqual(list(of_scenario["medians"]), CLIENTS)
            self.assertIn(name, printed)
            self.assertGreater(of_scenario["ratios"]["ours-pure"]["nats-py"], 0.0)

    def test_growth_is_measured_at_every_step(self) -> None:
        """The curves have a sample for each step."""
        result, _ = self.run_and_load("growth.json", "--growth", "--only", "ours-pure", "--rounds", "1", "--count", "10")
        taken = [(sample["curve"], sample["step"]) for sample in result["samples"]]
        self.assertEqual(taken, [(curve["name"], step) for curve in result["curves"] for step in (1, 10)])
        for sample in result["samples"]:
            self.assertGreater(sample["user"] + sample["system"], 0.0, sample)

    def test_client_that_does_not_end_is_a_failure(self) -> None:
        """What takes longer than the limit is ended, named, and makes the exit code 1; the run goes on."""
        ended = run("--scenarios", "pub_16b,connect_time", "--only", "ours-pure", "--rounds", "1", "--limit", "0.01")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("ours-pure in pub_16b: did not end within 0.01 s", ended.stderr)
        self.assertIn("2 measurements, 2 failed", ended.stdout)

    def test_unknown_names_are_refused(self) -> None:
        """A misspelled scenario or client is named, with those that there are."""
        for option, wrong, right in (("--scenarios", "pub_16", "pub_16b"), ("--only", "nats.py", "nats-py")):
            ended = run(option, wrong)
            self.assertNotEqual(ended.returncode, 0)
            self.assertIn(f"{wrong}: no such", ended.stderr)
            self.assertIn(right, ended.stderr)


class DocumentTests(SynchronousTestCase):
    """docs/performance.rst shows the stored results."""

    def test_tables_are_those_of_the_stored_results(self) -> None:
        """Every table that the page includes is what the stored results give, and every stored table is included."""
        page = (ROOT / "docs" / "performance.rst").read_text("utf-8")
        texts = documents.texts(results.load(results.SCENARIOS_FILE), results.load(results.GROWTH_FILE))
        for name, text in texts.items():
            self.assertEqual((documents.FOLDER / name).read_text("utf-8"), text, f"run: make bench BENCH=--documents ({name})")
            self.assertIn(f".. include:: performance/{name}\n", page)

    def test_stored_results_are_of_a_whole_run(self) -> None:
        """What the documentation shows has every scenario, at least five rounds, and no failure."""
        result = results.load(results.SCENARIOS_FILE)
        self.assertEqual([scenario["name"] for scenario in result["scenarios"]], [scenario.name for scenario in SCENARIOS])
        self.assertGreaterEqual(result["rounds"], 5)
        self.assertEqual([sample for sample in result["samples"] if "error" in sample], [])

    def test_plots_have_every_client(self) -> None:
        """The pictures are SVG, and their text names who was measured."""
        for name, stored in (("scenarios.svg", results.SCENARIOS_FILE), ("growth.svg", results.GROWTH_FILE)):
            tree = ElementTree.parse(documents.FOLDER / name)
            words = {(element.text or "").strip() for element in tree.iter()}
            clients = {sample["client"] for sample in results.load(stored)["samples"]}
            self.assertLessEqual(clients, words)
