"""A route type of one's own: the example of the documentation, dropped into a plugin folder, runs in a bridge."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.testing import ServerProcess
from tests.support.witness import Witness

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "route_plugin" / "clock_route.py"
COMMAND = [sys.executable, "-c", "from pynats_twisted.bridge.tap import main; main()"]
TIMEOUT = 30.0

CONFIG = """
[bridge]
name = "clocks"
[nats.default]
servers = "{url}"
[routes.wall-clock]
type = "clock"
subject = "clock.berlin"
interval = "50ms"
"""


class RoutePluginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        plugins = self.folder / "site" / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        shutil.copy(EXAMPLE, plugins)

    def environment(self, plugin: bool = True) -> dict[str, str]:
        paths = [str(self.folder / "site")] if plugin else []
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
        code, report = self.check(CONFIG.format(url="nats://127.0.0.1:4222"))
        self.assertEqual((code, report["problems"]), (0, []))
        routes = report["routes"]
        assert isinstance(routes, list)
        self.assertEqual([(route["name"], route["type"]) for route in routes], [("wall-clock", "clock")])
        self.assertIn("at most once", routes[0]["guarantee"])

    def test_its_keys_are_checked(self) -> None:
        """Wrong keys of the plugin's route are reported like those of the built-in types, with line and suggestion."""
        code, report = self.check(
            CONFIG.format(url="nats://127.0.0.1:4222").replace("interval", "intervall").replace("clock.berlin", "clock.{town}")
        )
        self.assertEqual(code, 78)
        problems = report["problems"]
        assert isinstance(problems, list)
        self.assertEqual(
            [(problem["path"], problem["line"], problem["suggestion"]) for problem in problems],
            [("routes.wall-clock.intervall", 9, "interval")],
        )

    def test_unknown_without_the_plugin(self) -> None:
        """Without the file in a plugin folder the type is unknown: it is the file that brings it."""
        code, report = self.check(CONFIG.format(url="nats://127.0.0.1:4222"), plugin=False)
        self.assertEqual(code, 78)
        self.assertIn("routes.wall-clock.type", str(report["problems"]))

    def test_runs(self) -> None:
        """The route publishes through a real server, and SIGTERM ends the bridge in order."""
        with ServerProcess.running() as server, Witness(server.url) as witness:
            witness.subscribe("clock.berlin")
            witness.flush()
            process = subprocess.Popen(
                [*COMMAND, "--config", self.config(CONFIG.format(url=server.url))],
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            try:
                times = [seen.payload for seen in witness.wait_for_messages(3, timeout=TIMEOUT)]
                process.send_signal(signal.SIGTERM)
                output, _ = process.communicate(timeout=TIMEOUT)
            finally:
                process.kill()
                process.wait()
        for text in times:
            self.assertTrue(re.fullmatch(rb"\d\d:\d\d:\d\d", text), text)
        self.assertEqual(process.returncode, 0, output)
        self.assertNotIn(b"Traceback", output)
