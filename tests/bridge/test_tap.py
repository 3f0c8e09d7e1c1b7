"""The command line: options, exit codes, and where the reactor and the format of the log come from."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import jsonFileLogObserver, textFileLogObserver
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

import pynats_twisted
from pynats_twisted.bridge import demo, script, tap
from pynats_twisted.bridge.log_format import json_observer
from pynats_twisted.bridge.service import BridgeService

VALID = """
[bridge]
name = "b1"
[nats.default]
servers = "nats://user:url-s3cret@127.0.0.1:4222"
[listen.public]
endpoint = "tcp:8080"
[routes.orders]
type = "http-request"
listen = "public"
path = "/orders/{id}"
subject = "orders.{id}"
"""


class Parent(dict[str, Any]):
    """What the options of ``twist`` are for the options of its plugins."""


class TapCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        self.path = self.mktemp()
        Path(self.path).write_text(VALID)

    def options(self, *arguments: str, **parent: Any) -> tap.Options:
        options = tap.Options()
        options.parent = Parent(reactor=self.reactor, **parent)
        options.parseOptions(list(arguments))
        return options

    def make(self, *arguments: str, **parent: Any) -> IService:
        return tap.makeService(self.options(*arguments, **parent))

    def exit_code(self, *arguments: str) -> Any:
        return self.assertRaises(SystemExit, self.make, *arguments).code

    def write(self, text: str) -> None:
        Path(self.path).write_text(text)


class OptionsTests(TapCase):
    def test_needs_a_configuration(self) -> None:
        """Without a configuration there is nothing to do, and the error names the option."""
        for arguments in ((), ("--check",), ("--print-config",)):
            error = self.assertRaises(UsageError, self.options, *arguments)
            self.assertIn("--config", str(error))

    def test_one_thing_at_a_time(self) -> None:
        """Options that each end with something else do not go together."""
        for arguments in (("--check", "--schema"), ("--demo", "--check"), ("--print-config", "--check=json", "--config", "x")):
            self.assertRaises(UsageError, self.options, *arguments)
        for mode in ("--demo", "--schema"):
            error = self.assertRaises(UsageError, self.options, mode, "--config", "x")
            self.assertIn(mode, str(error))

    def test_check_formats(self) -> None:
        """``--check`` takes a format behind ``=``; there are two."""
        self.assertEqual(self.options("-c", "x", "--check")["check-format"], "text")
        self.assertEqual(self.options("--check=json", "-c", "x")["check-format"], "json")
        self.assertEqual(self.options("--dry-run=json", "-c", "x")["check-format"], "json")
        self.assertRaises(UsageError, self.options, "--dry-run", "--check", "-c", "x")
        self.assertRaises(UsageError, self.options, "--watch", "--check", "-c", "x")
        error = self.assertRaises(UsageError, self.options, "-c", "x", "--check=yaml")
        self.assertIn("yaml", str(error))

    def test_version(self) -> None:
        """``--version`` is the version of this package, not Twisted's."""
        self.assertRaises(SystemExit, self.options, "--version")
        self.assertIn(pynats_twisted.__version__, self.out.getvalue())

    def test_help(self) -> None:
        """The help names every option."""
        text = str(tap.Options())
        for option in ("--config", "--check", "--dry-run", "--print-config", "--schema", "--demo"):
            self.assertIn(option, text)


class PrintingTests(TapCase):
    def test_check(self) -> None:
        """A valid configuration ends with 0, and the report is on the standard output."""
        self.assertEqual(self.exit_code("--config", self.path, "--check"), 0)
        self.assertIn("route orders (http-request)", self.out.getvalue())
        self.assertTrue(self.out.getvalue().endswith(": valid\n"))

    def test_check_of_an_invalid_configuration(self) -> None:
        """An invalid one ends with 78, as ``sysexits.h`` has it."""
        self.write(VALID.replace("subject =", "subjct ="))
        self.assertEqual(self.exit_code("--config", self.path, "--check"), 78)
        self.assertIn(f"{self.path}:12: routes.orders.subjct", self.out.getvalue())

    def test_check_for_programs(self) -> None:
        """``--check=json`` prints JSON in both cases."""
        self.assertEqual(self.exit_code("--config", self.path, "--check=json"), 0)
        self.assertTrue(json.loads(self.out.getvalue())["ok"])
        self.out.seek(0)
        self.out.truncate()
        self.assertEqual(self.exit_code("--config", self.path + ".none", "--check=json"), 78)
        self.assertFalse(json.loads(self.out.getvalue())["ok"])

    def test_print_config(self) -> None:
        """The printed configuration has the defaults and no secret."""
        self.assertEqual(self.exit_code("--config", self.path, "--print-config"), 0)
        self.assertIn('drain_timeout = "20s"', self.out.getvalue())
        self.assertNotIn("s3cret", self.out.getvalue())

    def test_print_invalid_config(self) -> None:
        """An invalid configuration is not printed; its problems are, on the standard error."""
        self.write("x = 1")
        self.assertEqual(self.exit_code("--config", self.path, "--print-config"), 78)
        self.assertEqual(self.out.getvalue(), "")
        self.assertIn("unknown section", self.err.getvalue())

    def test_schema(self) -> None:
        """The schema is JSON, and needs no configuration."""
        self.assertEqual(self.exit_code("--schema"), 0)
        self.assertIn("route-http-request", json.loads(self.out.getvalue())["$defs"])


class ServiceTests(TapCase):
    def test_runs_on_the_reactor_of_twist(self) -> None:
        """The bridge takes its time and connections from the reactor that ``twist`` installed."""
        service = self.make("--config", self.path)
        assert isinstance(service, BridgeService)
        service.startService()
        self.assertEqual([port for port, *_ in self.reactor.tcpServers], [8080])
        service.stopService()

    def test_under_twistd(self) -> None:
        """Under ``twistd``, whose options name a reactor by a text, the global reactor is used."""
        from twisted.internet import reactor

        options = self.options("--config", self.path)
        options.parent = Parent(reactor="epoll")
        service = tap.makeService(options)
        assert isinstance(service, BridgeService)
        self.assertIs(service.context.reactor, reactor)

    def test_invalid_configuration(self) -> None:
        """With an invalid configuration nothing runs: each problem is a line, and the exit code is 78."""
        self.write(VALID.replace("subject =", "subjct ="))
        self.assertEqual(self.exit_code("--config", self.path), 78)
        lines = self.err.getvalue().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertTrue(all(line.startswith(f"error: {self.path}:") for line in lines))

    def test_warnings(self) -> None:
        """What was hardly meant is said when the bridge starts."""
        self.write(VALID + '[listen.spare]\nendpoint = "tcp:8081"\n')
        self.make("--config", self.path)
        self.assertIn(f"warning: {self.path}:13: listen.spare", self.err.getvalue())

    def test_demo(self) -> None:
        """``--demo`` runs the demo, on the same reactor."""
        self.patch(demo, "find_nats_server", lambda: "nats-server")
        service = self.make("--demo")
        self.assertIsInstance(service, demo.DemoService)
        self.assertEqual((self.reactor.tcpServers, self.reactor.tcpClients), ([], []))

    def test_log_format(self) -> None:
        """``log`` of the configuration wins over the guess of ``twist``; without it the guess stands."""
        for log, expected in (("json", json_observer), ("text", textFileLogObserver)):
            self.write(VALID.replace("[bridge]", f'[bridge]\nlog = "{log}"'))
            options = self.options("--config", self.path, fileLogObserverFactory=None)
            tap.makeService(options)
            self.assertIs(options.parent["fileLogObserverFactory"], expected)
        self.write(VALID)
        options = self.options("--config", self.path, fileLogObserverFactory="untouched")
        tap.makeService(options)
        self.assertEqual(options.parent["fileLogObserverFactory"], "untouched")
        options = self.options("--config", self.path, fileLogObserverFactory=jsonFileLogObserver)
        tap.makeService(options)
        self.assertIs(options.parent["fileLogObserverFactory"], json_observer)

    def test_hangup(self) -> None:
        """SIGHUP reads the file again, in the reactor; a file that cannot be used changes nothing."""
        handlers: dict[int, Any] = {}
        self.patch(signal, "signal", handlers.__setitem__)
        service = self.make("--config", self.path)
        assert isinstance(service, BridgeService)
        self.assertEqual(handlers, {})
        service.startService()
        self.reactor.callFromThread = lambda call, *arguments: call(*arguments)  # type: ignore[attr-defined]
        for call, arguments, keywords in self.reactor.whenRunningHooks:
            call(*arguments, **keywords)
        self.write(VALID.replace("/orders/", "/orders2/"))
        handlers[signal.SIGHUP](signal.SIGHUP, None)
        self.assertEqual(service.config.routes["orders"].path, "/orders2/{id}")  # type: ignore[attr-defined]
        self.write("x = 1")
        handlers[signal.SIGHUP](signal.SIGHUP, None)
        self.assertEqual(service.config.routes["orders"].path, "/orders2/{id}")  # type: ignore[attr-defined]
        self.assertIn("the last reload was refused", service.degraded()[0])
        service.stopService()

    def test_watch(self) -> None:
        """With ``--watch`` a file that was changed or replaced is read again; one that is gone for a moment disturbs nobody."""
        self.patch(signal, "signal", lambda *_: None)
        service = self.make("--config", self.path, "--watch")
        assert isinstance(service, BridgeService)
        service.startService()
        for call, arguments, keywords in self.reactor.whenRunningHooks:
            call(*arguments, **keywords)
        self.reactor.advance(10)
        self.write(VALID.replace("/orders/", "/orders2/"))
        self.reactor.advance(2)
        self.assertEqual(service.config.routes["orders"].path, "/orders2/{id}")  # type: ignore[attr-defined]
        os.remove(self.path)
        self.reactor.advance(2)
        self.assertEqual(service.degraded(), [])
        self.write(VALID)
        self.reactor.advance(2)
        self.assertEqual(service.config.routes["orders"].path, "/orders/{id}")  # type: ignore[attr-defined]
        for trigger, *_ in self.reactor.triggers["before"]["shutdown"]:
            trigger()
        service.stopService()
        self.reactor.advance(1)
        self.reactor.advance(1)
        self.assertEqual([call for call in self.reactor.getDelayedCalls() if call.active()], [])

    def test_second_signal(self) -> None:
        """While the bridge drains, another SIGINT or SIGTERM ends the wait."""
        service = self.make("--config", self.path)
        assert isinstance(service, BridgeService)
        handlers: dict[int, Any] = {}
        self.patch(signal, "signal", handlers.__setitem__)
        cut_short: list[bool] = []
        self.patch(service, "cut_short", lambda: cut_short.append(True))
        self.assertEqual(handlers, {})
        for trigger, *_ in self.reactor.triggers["before"]["shutdown"]:
            trigger()
        self.assertEqual(set(handlers), {signal.SIGINT, signal.SIGTERM})
        self.reactor.callFromThread = lambda call: call()  # type: ignore[attr-defined]
        handlers[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual(cut_short, [True])


class ScriptTests(TapCase):
    """The console script ``nats-bridge``."""

    def run_script(self, *arguments: str) -> Any:
        self.patch(script, "_install_reactor", lambda name: self.reactor)
        return self.assertRaises(SystemExit, script.run, list(arguments)).code

    def test_same_options(self) -> None:
        """It takes the options of ``twist nats-bridge``, with the same exit codes."""
        self.assertEqual(self.run_script("--config", self.path, "--check"), 0)
        self.assertEqual(self.run_script("--config", self.path + ".none", "--check"), 78)
        self.assertEqual(self.run_script("--config", self.path + ".none"), 78)
        self.assertEqual(self.run_script("--schema"), 0)

    def test_usage_errors(self) -> None:
        """Unusable options end with 64 and are named."""
        for arguments, named in (
            ((), "--config"),
            (("--confg", "x"), "confg"),
            (("-c", "x", "--log-level", "loud"), "loud"),
            (("-c", "x", "--log-format", "xml"), "xml"),
            (("-c", "x", "--log-file", "/nonexistent/x"), "/nonexistent/x"),
        ):
            self.err.truncate(0)
            self.assertEqual(self.run_script(*arguments), 64, arguments)
            self.assertIn(named, self.err.getvalue())

    def test_unknown_reactor(self) -> None:
        """So does a reactor that does not exist."""
        self.assertEqual(self.assertRaises(SystemExit, script.run, ["-c", self.path, "--reactor", "fission"]).code, 64)
        self.assertIn("fission", self.err.getvalue())

    def test_address_in_use(self) -> None:
        """A bridge that cannot listen ends with 1 and says where."""

        def refuse(*_: object, **__: object) -> None:
            raise CannotListenError("any", 8080, OSError(98, "Address already in use"))

        self.patch(self.reactor, "listenTCP", refuse)
        begun: list[object] = []
        self.patch(script.globalLogBeginner, "beginLoggingTo", begun.append)
        self.assertEqual(self.run_script("--config", self.path), 1)
        self.assertIn("8080", self.err.getvalue())
        self.assertEqual(len(begun), 1)

    def test_runs(self) -> None:
        """It starts the bridge, runs the reactor, and has the bridge drained before the reactor stops."""
        seen: list[str] = []
        self.patch(script.globalLogBeginner, "beginLoggingTo", lambda observers: seen.append("log"))
        self.patch(self.reactor, "run", lambda: seen.append(f"run with {len(self.reactor.tcpServers)} listeners"))
        self.patch(script, "_install_reactor", lambda name: self.reactor)
        script.run(["--config", self.path])
        self.assertEqual(seen, ["log", "run with 1 listeners"])
        triggers = self.reactor.triggers["before"]["shutdown"]
        self.patch(signal, "signal", lambda *_: None)
        for trigger, args, kwargs in triggers:
            trigger(*args, **kwargs)
        service = next(trigger.__self__ for trigger, *_ in triggers if getattr(trigger, "__name__", "") == "stopService")
        self.assertEqual((service.draining, service.listeners["public"].port), (True, None))


class ImportTests(SynchronousTestCase):
    def run_python(self, code: str) -> str:
        root = str(Path(pynats_twisted.__file__).resolve().parent.parent)
        env = {**os.environ, "PYTHONPATH": root}
        return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True, timeout=60).stdout

    def test_no_reactor_is_installed(self) -> None:
        """Importing everything of the bridge installs no reactor: ``twist --reactor`` and applications choose it."""
        code = (
            "import sys, pynats_twisted.bridge.tap, pynats_twisted.bridge.script, pynats_twisted.bridge.check\n"
            "from pynats_twisted.bridge.routes import all_factories\n"
            "all_factories()\n"
            "print('twisted.internet.reactor' in sys.modules)"
        )
        self.assertEqual(self.run_python(code), "False\n")

    def test_options_load_little(self) -> None:
        """The options alone load neither the route types nor what the ``bridge`` extra brings: ``twist --help`` stays quick."""
        code = (
            "import sys, pynats_twisted.bridge.tap\n"
            "str(pynats_twisted.bridge.tap.Options())\n"
            "print(sorted(name for name in sys.modules if name in ('msgspec', 'prometheus_client', 'twisted.web.http')))"
        )
        self.assertEqual(self.run_python(code), "[]\n")
