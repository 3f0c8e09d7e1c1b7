"""A route type of one's own: the example of the documentation, installed as a package of its own, runs in a bridge."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.demo import free_port
from pynats_twisted.testing import ServerProcess
from tests.support.witness import Witness

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "route_plugin"
COMMAND = [sys.executable, "-c", "from pynats_twisted.bridge.tap import main; main()"]
TIMEOUT = 30.0
BUILD_TIMEOUT = 300.0  # pip may have to download what builds the package

CONFIG = """
[bridge]
name = "clocks"
[admin]
listen = "tcp:{admin}:interface=127.0.0.1"
[nats.default]
servers = "{url}"
[routes.wall-clock]
type = "clock"
subject = "clock.berlin"
interval = "50ms"
"""


@functools.cache
def installed() -> Path:
    """The example, installed by pip into a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="plugin-", dir=os.getcwd()))
    # Builds leave something beside the source.
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(folder / "source")], check=True, timeout=BUILD_TIMEOUT)
    shutil.rmtree(folder / "source")
    return folder / "site"


class RoutePluginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.site = installed()

    def environment(self, plugin: bool = True) -> dict[str, str]:
        paths = [str(self.site)] if plugin else []
        return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}

    def config(self, text: str) -> str:
        path = self.folder / "bridge.toml"
        path.write_text(text, "utf-8")
        return str(path)

    def check(self, text: str, plugin: bool = True) -> tuple[int, dict[str, object]]:
        done = subprocess.run(
            [*COMMAND, "--config", self.config(text), "--check=json"],
            env=self.environment(plugin),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.assertEqual(done.stderr, "")
        return done.returncode, json.loads(done.stdout)

    def test_check_accepts_it(self) -> None:
        """``--check`` knows the type, and prints what its route guarantees."""
        code, report = self.check(CONFIG.format(admin=8223, url="nats://127.0.0.1:4222"))
        self.assertEqual((code, report["problems"]), (0, []))
        routes = report["routes"]
        assert isinstance(routes, list)
        self.assertEqual([(route["name"], route["type"]) for route in routes], [("wall-clock", "clock")])
        self.assertIn("at most once", routes[0]["guarantee"])

    def test_its_keys_are_checked(self) -> None:
        """Wrong keys of the plugin's route are reported like those of the built-in types, with line and suggestion."""
        code, report = self.check(
            CONFIG.format(admin=8223, url="nats://127.0.0.1:4222").replace("interval", "intervall").replace("clock.berlin", "clock.{town}")
        )
        self.assertEqual(code, 78)
        problems = report["problems"]
        assert isinstance(problems, list)
        self.assertEqual(
            [(problem["path"], problem["line"], problem["suggestion"]) for problem in problems],
            [("routes.wall-clock.intervall", 11, "interval")],
        )

    def test_dropped_in(self) -> None:
        """The one module, copied into a plugin folder, does as well, without being installed."""
        plugins = self.folder / "site" / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        shutil.copy(EXAMPLE / "clock_route.py", plugins)
        self.site = self.folder / "site"
        code, report = self.check(CONFIG.format(admin=8223, url="nats://127.0.0.1:4222"))
        self.assertEqual((code, report["problems"]), (0, []))

    def test_schema(self) -> None:
        """``--schema`` describes its keys for editors, with the words of its own documentation."""
        command = [*COMMAND, "--schema"]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=TIMEOUT, check=True)
        schema = json.loads(done.stdout)
        (clock,) = (found for found in schema["$defs"].values() if "interval" in found.get("properties", {}))
        self.assertEqual(clock["properties"]["type"], {"const": "clock"} | clock["properties"]["type"])
        self.assertTrue(clock["properties"]["interval"]["description"].startswith("seconds between two messages."))
        self.assertIn("subject", clock["required"])

    def test_unknown_without_the_plugin(self) -> None:
        """Where the package is not installed the type is unknown: it is the package that brings it."""
        code, report = self.check(CONFIG.format(admin=8223, url="nats://127.0.0.1:4222"), plugin=False)
        self.assertEqual(code, 78)
        self.assertIn("routes.wall-clock.type", str(report["problems"]))

    def test_runs(self) -> None:
        """The route publishes through a real server, is on the dashboard with its numbers, and SIGTERM ends the bridge in order."""
        admin = free_port(0)
        with ServerProcess.running() as server, Witness(server.url) as witness:
            witness.subscribe("clock.berlin")
            witness.flush()
            process = subprocess.Popen(
                [*COMMAND, "--config", self.config(CONFIG.format(admin=admin, url=server.url))],
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            try:
                times = [seen.payload for seen in witness.wait_for_messages(3, timeout=TIMEOUT)]
                bridge, numbers = self.dashboard(admin)
                metrics = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=TIMEOUT).read().decode()
                process.send_signal(signal.SIGTERM)
                output, _ = process.communicate(timeout=TIMEOUT)
            finally:
                process.kill()
                process.wait()
        for text in times:
            self.assertTrue(re.fullmatch(rb"\d\d:\d\d:\d\d", text), text)
        self.assertEqual(process.returncode, 0, output)
        self.assertNotIn(b"Traceback", output)
        (route,) = bridge["routes"]
        shown = {key: route[key] for key in ("name", "type", "ready", "state", "target", "problems")}
        expected = {"name": "wall-clock", "type": "clock", "ready": True, "state": "running", "target": "clock.berlin", "problems": []}
        self.assertEqual(shown, expected)
        self.assertIn("at most once", route["guarantee"])
        self.assertIn(["see what arrives", "nats sub clock.berlin"], route["commands"])
        self.assertGreaterEqual(numbers["routes"]["wall-clock"]["out"], 3)
        self.assertRegex(metrics, r'nats_bridge_messages_out_total\{route="wall-clock",type="clock"\} [1-9]')

    def dashboard(self, port: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the dashboard lives on: the bridge with its routes, and the numbers."""
        found: dict[str, Any] = {}
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/events", timeout=TIMEOUT) as events:
            kind = ""
            for line in events:
                name, _, value = line.decode().strip().partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    found[kind] = json.loads(value)
                if {"bridge", "numbers"} <= found.keys():
                    break
        return found["bridge"], found["numbers"]
