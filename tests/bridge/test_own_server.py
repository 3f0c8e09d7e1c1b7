"""The nats-server that ``[server]`` asks for, with processes in memory."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge import embedded, own_server
from pynats_twisted.bridge.config import BridgeConfig, LeafSection, ServerSection, load_config
from pynats_twisted.bridge.embedded import RESTART_DELAY, START_TIMEOUT, STOP_TIMEOUT
from pynats_twisted.bridge.own_server import CONFIG_FILE, PID_FILE, OwnServer
from pynats_twisted.errors import ConfigError
from tests.bridge.route_types import FACTORIES
from tests.bridge.test_embedded import LOG, FakeProcess, ProcessReactor

CONFIG = """
[bridge]
name = "edge"
[server]
store_dir = "data"
{server}
{rest}
"""


def load(server: str = "", rest: str = "") -> BridgeConfig:
    return load_config(CONFIG.format(server=server, rest=rest), "/etc/bridge/bridge.toml", FACTORIES)


class ConfigTests(SynchronousTestCase):
    def problems(self, server: str = "", rest: str = "") -> list[tuple[str, str]]:
        error = self.assertRaises(ConfigError, load, server, rest)
        return [(problem.path, problem.found) for problem in error.problems]

    def test_connections_go_there(self) -> None:
        """A connection without servers is one to the server of the bridge; another one goes where it says."""
        self.assertEqual(load().nats["default"].servers, ["nats://127.0.0.1:4222"])
        rest = '[nats.here]\n[nats.there]\nservers = "nats://127.0.0.1:4222"\n'
        config = load("port = 4333", rest)
        self.assertEqual([section.servers for section in config.nats.values()], [["nats://127.0.0.1:4333"], "nats://127.0.0.1:4222"])

    def test_directory(self) -> None:
        """A relative directory starts at that of the configuration; without one nothing could be kept."""
        section = load().server
        assert section is not None
        self.assertEqual(section.store_dir, "/etc/bridge/data")
        error = self.assertRaises(ConfigError, load_config, '[bridge]\nname = "edge"\n[server]\n', "bridge.toml", FACTORIES)
        self.assertEqual([problem.path for problem in error.problems], ["server.store_dir"])

    def test_switched_off(self) -> None:
        """``embedded = false`` is as if there were no section."""
        config = load("embedded = false\nport = 4333")
        self.assertIsNone(config.server)
        self.assertEqual(config.nats["default"].servers, ["nats://127.0.0.1:4222"])

    def test_problems(self) -> None:
        """What cannot be used is found: a sync that is no time, a leaf without a domain, a URL that is none, a port that is taken."""
        for sync in ("never", "-1s", "0s", ""):
            self.assertEqual(self.problems(f'sync = "{sync}"'), [("server.sync", f'"{sync}"')])
        self.assertEqual(self.problems('leaf = { url = "tls://hub" }'), [("server.domain", "nothing")])
        found = self.problems('domain = "edge"\nleaf = { url = "tls://u:secret@hub, http://hub" }')
        self.assertEqual(found, [("server.leaf.url", '"http://hub"')])
        self.assertEqual([path for path, _ in self.problems("port = 8223", "[admin]\n")], ["server.port"])
        self.assertEqual([path for path, _ in self.problems("port = 0")], ["server.port"])

    def test_without_the_program(self) -> None:
        """Without the program, the check says what to install."""
        self.patch(embedded, "PROGRAM", "no-such-server")
        ((path, found),) = self.problems()
        self.assertEqual(path, "server")
        self.assertIn("pip install", found)


class OwnServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ProcessReactor()
        self.directory = Path(self.mktemp()).absolute()
        self.server = self.make()
        self.running: dict[int, str] = {}
        self.killed: list[tuple[int, int]] = []
        self.patch(own_server, "_command_line", lambda pid: self.running.get(pid, ""))
        self.patch(os, "kill", lambda pid, number: self.killed.append((pid, number)))

    def tearDown(self) -> None:
        for process in self.reactor.processes:
            if not process.gone:
                process.ends()
        self.server.stopService()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def make(self, **keys: Any) -> OwnServer:
        return OwnServer(self.reactor, "/opt/nats-server", ServerSection(store_dir=str(self.directory), **keys), "edge")

    @property
    def process(self) -> FakeProcess:
        return self.reactor.processes[-1]

    def config(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.directory / CONFIG_FILE).read_text())
        return document

    def test_ready(self) -> None:
        """It is a problem until it takes connections, and again when it is gone."""
        self.assertIn("not started", self.server.problems()[0])
        self.server.startService()
        self.assertIn("being started", self.server.problems()[0])
        self.process.says(LOG % 4222)
        self.assertEqual(self.server.problems(), [])
        self.process.ends(2)
        self.assertIn("exit code 2", self.server.problems()[0])

    def test_its_configuration(self) -> None:
        """It listens on loopback and keeps its data; only its owner can read the file, which may hold passwords."""
        self.server.startService()
        self.assertEqual(self.process.arguments[-2:], ["--config", str(self.directory / CONFIG_FILE)])
        jetstream = {"store_dir": str(self.directory), "sync_interval": "120s"}
        self.assertEqual(self.config(), {"server_name": "edge", "host": "127.0.0.1", "port": 4222, "jetstream": jetstream})
        self.assertEqual((self.directory / CONFIG_FILE).stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)

    def test_all_options(self) -> None:
        """What the section says becomes the server's configuration."""
        leaf = LeafSection(url="tls://a:7422, tls://b", creds="/x.creds")
        self.server = self.make(port=4333, sync="always", max_store=1000, domain="edge", leaf=leaf)
        self.server.startService()
        config = self.config()
        expected = {"store_dir": str(self.directory), "sync_interval": "always", "max_file_store": 1000, "domain": "edge"}
        self.assertEqual(config["jetstream"], expected)
        self.assertEqual(config["leafnodes"], {"remotes": [{"urls": ["tls://a:7422", "tls://b"], "credentials": "/x.creds"}]})

    def test_kept(self) -> None:
        """A stop ends it and keeps its data; nothing points to a process that is gone."""
        self.server.startService()
        self.process.says(LOG % 4222)
        self.assertEqual((self.directory / PID_FILE).read_text(), "4711\n")
        (self.directory / "jetstream").mkdir()
        stopped = self.server.stopService()
        self.assertEqual(self.process.signals[-1], "TERM")
        self.assertNoResult(stopped)
        self.process.ends()
        self.successResultOf(stopped)
        self.assertTrue((self.directory / "jetstream").exists())
        self.assertFalse((self.directory / PID_FILE).exists())

    def test_a_stop_that_is_cut_short(self) -> None:
        """Cancelling a stop kills it."""
        self.server.startService()
        stopped = self.server.stopService()
        stopped.addErrback(lambda _: None)
        stopped.cancel()
        self.assertEqual(self.process.signals[-1], "KILL")

    def test_started_again(self) -> None:
        """Whenever it ends it is started again, also when it never became ready."""
        self.server.startService()
        self.process.ends(1)
        self.reactor.advance(RESTART_DELAY[0])
        self.assertEqual(len(self.reactor.processes), 2)
        self.reactor.advance(START_TIMEOUT)
        self.assertEqual(self.process.signals[-1], "KILL")
        self.process.ends(9)
        self.reactor.advance(RESTART_DELAY[1])
        self.assertEqual(len(self.reactor.processes), 3)

    def test_left_behind(self) -> None:
        """A server that a killed bridge left behind is ended first, by force when it does not end by itself."""
        self.leave_behind(99, f"nats-server --config {self.directory / CONFIG_FILE}")
        self.server.startService()
        self.reactor.advance(1)
        self.assertEqual((self.reactor.processes, set(self.killed)), ([], {(99, signal.SIGTERM)}))
        self.reactor.advance(STOP_TIMEOUT)
        self.assertEqual(self.killed[-1], (99, signal.SIGKILL))
        del self.running[99]
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.processes), 1)

    def leave_behind(self, pid: int, command: str) -> None:
        self.directory.mkdir()
        (self.directory / PID_FILE).write_text(f"{pid}\n")
        self.running[pid] = command

    def test_another_process_of_that_number(self) -> None:
        """A number that another program has by now is left alone, and so is nonsense."""
        self.leave_behind(99, "vim /etc/passwd")
        self.server.startService()
        self.assertEqual((len(self.reactor.processes), self.killed), (1, []))
        self.process.ends()
        self.server.stopService()
        for text in ("", "x", "-1", "1", "0"):
            (self.directory / PID_FILE).write_text(text)
            self.server = self.make()
            self.running = {1: str(self.directory / CONFIG_FILE), -1: str(self.directory / CONFIG_FILE)}
            self.server.startService()
            self.assertEqual(self.killed, [], text)
            self.process.ends()
            self.server.stopService()

    def test_stopped_while_it_waits(self) -> None:
        """A stop while the one left behind still ends starts nothing."""
        self.leave_behind(99, str(self.directory / CONFIG_FILE))
        self.server.startService()
        self.successResultOf(self.server.stopService())
        self.reactor.advance(60)
        self.assertEqual(self.reactor.processes, [])

    def test_unusable_directory(self) -> None:
        """A directory that cannot be made is a problem that is told, and tried again."""
        self.directory.write_text("a file")
        self.server.startService()
        self.assertIn("cannot be used", self.server.problems()[0])
        self.assertEqual(self.reactor.processes, [])
        self.directory.unlink()
        self.reactor.advance(RESTART_DELAY[1])
        self.assertEqual(len(self.reactor.processes), 1)
