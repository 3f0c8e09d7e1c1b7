"""The benchmarks run, store what they have to store, and are what the documentation shows. Nothing here is timed."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import documents, report, results, streams
from benchmarks.contestants import OURS, Contestant, find
from benchmarks.measure import MeasurementError, measure
from benchmarks.run import described, run_scenarios, unable
from benchmarks.scenarios import MEMORY, SCENARIOS, Scenario

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ["ours-pure", "nats-py"]
JETSTREAM = ["js_publish_sync", "js_publish_async", "js_consume"]


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
        alone = {("nats-py", "kv_get_many"), ("nats-py", "os_memory")}
        expected = [(round_, s.name, client) for round_ in (1, 2) for s in SCENARIOS for client in CLIENTS if (client, s.name) not in alone]
        self.assertEqual(taken, expected)
        for sample in result["samples"]:
            self.assertEqual(sample["count"], 1 if sample["scenario"] in ("import_time", "os_memory") else 64, sample)
            self.assertGreater(sample["wall"], 0.0, sample)
            self.assertGreater(sample["user"] + sample["system"], 0.0, sample)
            self.assertEqual("bytes_each" in sample, sample["scenario"] in ("memory_100k_subs", "os_memory"))
            self.assertEqual("p99_us" in sample, sample["scenario"] == "roundtrip_latency")
        self.assertEqual(result["rounds"], 2)
        self.assertEqual(set(result["machine"]), {"cpu", "cores", "system", "architecture"})
        self.assertEqual(set(result["versions"]), {"Python", "Twisted", "nats-server", *CLIENTS})
        self.assertRegex(result["date"], r"^\d{4}-\d\d-\d\dT")
        for name, of_scenario in result["summary"].items():
            self.assertIn(name, printed)
            if ("nats-py", name) in alone:
                self.assertEqual(list(of_scenario["medians"]), ["ours-pure"])
                continue
            self.assertEqual(of_scenario["best_rival"], "nats-py")
            self.assertEqual(list(of_scenario["medians"]), CLIENTS)
            self.assertGreater(of_scenario["ratios"]["ours-pure"]["nats-py"], 0.0)

    def test_growth_is_measured_at_every_step(self) -> None:
        """The curves have a sample for each step."""
        result, _ = self.run_and_load("growth.json", "--growth", "--only", "ours-pure", "--rounds", "1", "--count", "10")
        taken = [(sample["curve"], sample["step"]) for sample in result["samples"]]
        self.assertEqual(taken, [(curve["name"], step) for curve in result["curves"] for step in (1, 10)])
        for sample in result["samples"]:
            self.assertGreater(sample["user"] + sample["system"], 0.0, sample)

    def test_memory_is_looked_at_while_messages_pass(self) -> None:
        """The size of the process is stored after every so many messages, up to the last."""
        result, printed = self.run_and_load("memory.json", "--memory", "--only", "ours-pure", "--count", "400")
        self.assertEqual(result["memory"]["count"], 400)
        (sample,) = result["samples"]
        self.assertEqual([passed for passed, _ in sample["resident"]], list(range(20, 401, 20)))
        self.assertTrue(all(size > 2**20 for _, size in sample["resident"]), sample)
        self.assertRegex(printed, r"ours-pure( +\d+\.\d\d)+")

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


class JetStreamTests(SynchronousTestCase):
    """What is particular to the scenarios with a stream."""

    def scenario(self, name: str) -> Scenario:
        """A scenario of this name, with ten messages."""
        (found,) = [scenario for scenario in SCENARIOS if scenario.name == name]
        return replace(found, count=10, warmup=0)

    def test_client_says_what_it_can_do(self) -> None:
        """The program of a client is asked: nats-py has JetStream; the growth curves are for this package alone."""
        found, missing = find(CLIENTS, Path(self.mktemp()))
        self.assertEqual(([client.name for client in found], missing), (CLIENTS, {}))
        for client in found:
            self.assertTrue(all(client.knows(kind) for kind in ("import", "publish", *JETSTREAM)), client)
            self.assertEqual([client.knows(kind) for kind in ("growth_idle", "js_memory")], [client.name == "ours-pure"] * 2)

    def test_client_that_cannot_do_it_is_left_out(self) -> None:
        """It is not run, nothing fails, its name is stored with what it cannot do, and the table has a dash."""
        (ours,), _ = find(["ours-pure"], Path(self.mktemp()))
        without = Contestant("nats-core", "0", ("false",), kinds=frozenset({"publish"}))
        scenarios = [self.scenario("js_consume"), self.scenario("pub_16b")]
        self.assertEqual(unable([ours, without], scenarios), {"nats-core": ["js_consume"]})
        with contextlib.redirect_stdout(io.StringIO()):
            samples = run_scenarios([ours, without], scenarios[:1], 1, 60.0)
        self.assertEqual([(sample["client"], sample["count"]) for sample in samples], [("ours-pure", 10)])
        published = {**samples[0], "scenario": "pub_16b", "client": "nats-core"}
        head, *rows = report.figures_grid(results.tables({"scenarios": described(scenarios), "samples": [*samples, published]}))
        column = head.index("nats-core")
        self.assertEqual((rows[0][column], rows[0][-1]), ("\N{EN DASH}", "\N{EN DASH}"))
        self.assertNotEqual(rows[1][column], "\N{EN DASH}")

    def test_client_that_did_not_do_it_is_not_measured(self) -> None:
        """The server is asked whether everything was stored and acked; what a client says of itself is not enough."""
        lie = (sys.executable, "-c", 'print(\'{"count": 10, "wall": 1.0, "user": 0.1, "system": 0.1}\')')
        self.patch(streams, "_SETTLE_SECONDS", 0.1)
        for name, text in (("js_publish_sync", "has stored 0 messages, not 10"), ("js_consume", "0 messages are acked, not 10")):
            error = self.assertRaises(MeasurementError, measure, Contestant("liar", "0", lie), self.scenario(name), 60.0)
            self.assertIn(text, str(error))


class DocumentTests(SynchronousTestCase):
    """docs/performance.rst shows the stored results."""

    def test_tables_are_those_of_the_stored_results(self) -> None:
        """Every table that the page includes is what the stored results give, and every stored table is included."""
        page = (ROOT / "docs" / "performance.rst").read_text("utf-8")
        texts = documents.texts(*(results.load(file) for file in (results.SCENARIOS_FILE, results.GROWTH_FILE, results.MEMORY_FILE)))
        for name, text in texts.items():
            self.assertEqual((documents.FOLDER / name).read_text("utf-8"), text, f"run: make bench BENCH=--documents ({name})")
            self.assertIn(f".. include:: performance/{name}\n", page)

    def test_stored_results_are_of_a_whole_run(self) -> None:
        """What the documentation shows has every scenario, at least five rounds of every client that can do it, and no failure."""
        result = results.load(results.SCENARIOS_FILE)
        stored = [scenario["name"] for scenario in result["scenarios"]]
        self.assertEqual(stored, [scenario.name for scenario in SCENARIOS])
        self.assertGreaterEqual(result["rounds"], 5)
        self.assertEqual([sample for sample in result["samples"] if "error" in sample], [])
        clients = [name for name in result["versions"] if name not in ("Python", "Twisted", "nats-server")]
        for scenario in SCENARIOS:
            for client in clients:
                taken = [s for s in result["samples"] if (s["scenario"], s["client"]) == (scenario.name, client)]
                can = scenario.name not in result["unable"].get(client, [])
                self.assertEqual(len(taken), can * min(result["rounds"], scenario.most_rounds), (scenario.name, client))

    def test_memory_is_flat(self) -> None:
        """In the stored result a million messages pass, and the process grows by less than two bytes for each."""
        result = results.load(results.MEMORY_FILE)
        self.assertEqual([sample["client"] for sample in result["samples"]], list(OURS))
        for sample in result["samples"]:
            sizes = [size for _, size in sample["resident"]]
            self.assertEqual((sample["count"], sample["resident"][-1][0]), (1_000_000, MEMORY.count))
            self.assertLess(max(sizes) - sizes[0], 2_000_000, sample["client"])

    def test_a_large_object_takes_little_memory(self) -> None:
        """In the stored result an object of 1 GiB is put and got while the process grows by less than 64 MiB."""
        samples = [sample for sample in results.load(results.SCENARIOS_FILE)["samples"] if sample["scenario"] == "os_memory"]
        self.assertEqual({sample["client"] for sample in samples}, set(OURS))
        for sample in samples:
            self.assertLess(sample["bytes_each"], 64 * 2**20, sample)

    def test_plots_have_every_client(self) -> None:
        """The pictures are SVG, and their text names who was measured."""
        for name, stored in (("scenarios.svg", results.SCENARIOS_FILE), ("growth.svg", results.GROWTH_FILE)):
            tree = ElementTree.parse(documents.FOLDER / name)
            words = {(element.text or "").strip() for element in tree.iter()}
            clients = {sample["client"] for sample in results.load(stored)["samples"]}
            self.assertLessEqual(clients, words)
